//! `first(x)` and `last(x)` as authors write them. They mean "by the table's time", which only the fold
//! knows: the fold replaces them by [`super::PickFirst`]. Elsewhere (a SQL model has no such time) they are
//! refused with a way out.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

/// The name and type of an aggregate that the fold replaces.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct OrderedByClock {
    name: &'static str,
    signature: Signature,
}

impl OrderedByClock {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for OrderedByClock {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        plan_err!(
            "{0}() needs an order here: write {0}_value(x ORDER BY time); {0}() alone works in traits, where the table's time is known",
            self.name
        )
    }
}
