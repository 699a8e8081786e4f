//! Any grouped accumulator as one for a single group, so that each aggregate is written once.

use datafusion::arrow::array::ArrayRef;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::fmt;

/// A grouped accumulator that can be told that groups exist although no row came.
pub(super) trait Grouped: GroupsAccumulator + Sync {
    /// Makes at least `groups` groups exist.
    fn ensure(&mut self, groups: usize);
}

/// Adapter from [`GroupsAccumulator`] to [`Accumulator`].
pub(super) struct SingleGroup<G> {
    groups: G,
}

impl<G> SingleGroup<G> {
    pub(super) fn new(groups: G) -> Self {
        Self { groups }
    }
}

impl<G> fmt::Debug for SingleGroup<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SingleGroup")
    }
}

impl<G: Grouped> Accumulator for SingleGroup<G> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let zeros = vec![0; values[0].len()];
        self.groups.update_batch(values, &zeros, None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.groups.ensure(1);
        ScalarValue::try_from_array(&self.groups.evaluate(EmitTo::All)?, 0)
    }

    fn size(&self) -> usize {
        self.groups.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.groups.ensure(1);
        self.groups.state(EmitTo::All)?.iter().map(|a| ScalarValue::try_from_array(a, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let zeros = vec![0; states[0].len()];
        self.groups.merge_batch(states, &zeros, 1)
    }
}
