//! `most_frequent`, `unique_count` and `unique_list`: one count per (group, value), three ways to finish.
//!
//! Nulls are skipped. Ties of `most_frequent` take the smallest value; `unique_list` is sorted; a group
//! without values has count 0 and otherwise null. The partial state is the list of values with their
//! counts, so the result does not depend on how rows were split.

use super::rows::{all, items, wanted};
use super::single::{Grouped, SingleGroup};
use super::values::{NULL, ValueCoder};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use hashbrown::HashMap;
use std::sync::Arc;

/// How a tally is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Finish {
    MostFrequent,
    UniqueCount,
    UniqueList,
}

/// The aggregate function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Tally {
    finish: Finish,
    signature: Signature,
}

impl Tally {
    pub(super) fn new(finish: Finish) -> Self {
        Self { finish, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn state(&self, args: &AccumulatorArgs<'_>) -> Result<TallyState> {
        TallyState::new(self.finish, args.expr_fields[0].data_type())
    }
}

impl AggregateUDFImpl for Tally {
    fn name(&self) -> &str {
        match self.finish {
            Finish::MostFrequent => "most_frequent",
            Finish::UniqueCount => "unique_count",
            Finish::UniqueList => "unique_list",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.finish {
            Finish::MostFrequent => arg_types[0].clone(),
            Finish::UniqueCount => DataType::Int64,
            Finish::UniqueList => list_of(&arg_types[0]),
        })
    }

    fn is_nullable(&self) -> bool {
        self.finish != Finish::UniqueCount
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::new(self.state(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let values = list_of(args.input_fields[0].data_type());
        Ok(vec![
            Arc::new(Field::new(format!("{}[values]", args.name), values, true)),
            Arc::new(Field::new(format!("{}[counts]", args.name), list_of(&DataType::Int64), true)),
        ])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.state(&args)?))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, data_type: &DataType) -> Result<datafusion::common::ScalarValue> {
        match self.finish {
            Finish::UniqueCount => Ok(datafusion::common::ScalarValue::Int64(Some(0))),
            _ => datafusion::common::ScalarValue::try_from(data_type),
        }
    }
}

fn list_of(item: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item.clone(), true)))
}

/// Counts per (group, value code).
pub(super) struct TallyState {
    finish: Finish,
    item: DataType,
    coder: ValueCoder,
    counts: HashMap<u64, i64>,
    groups: usize,
}

fn key(group: usize, code: u32) -> u64 {
    ((group as u64) << 32) | u64::from(code)
}

fn unkey(key: u64) -> (usize, u32) {
    ((key >> 32) as usize, (key & 0xffff_ffff) as u32)
}

impl TallyState {
    fn new(finish: Finish, item: &DataType) -> Result<Self> {
        Ok(Self { finish, item: item.clone(), coder: ValueCoder::new(item)?, counts: HashMap::new(), groups: 0 })
    }

    /// Takes the counts of the groups that are emitted, renumbering the rest; in no order.
    fn emit(&mut self, emit_to: EmitTo) -> (usize, Vec<(usize, u32, i64)>) {
        let emitted = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(n) => n,
        };
        let counts = std::mem::take(&mut self.counts);
        let mut out = Vec::with_capacity(counts.len());
        for (k, count) in counts {
            let (group, code) = unkey(k);
            if group < emitted {
                out.push((group, code, count));
            } else {
                self.counts.insert(key(group - emitted, code), count);
            }
        }
        self.groups -= emitted;
        (emitted, out)
    }

    /// As [`Self::emit`], by group, then value.
    fn emit_sorted(&mut self, emit_to: EmitTo) -> (usize, Vec<(usize, u32, i64)>) {
        let (groups, mut entries) = self.emit(emit_to);
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.coder.compare(a.1, b.1)));
        (groups, entries)
    }

    /// By group, the value that occurs most, the smallest of several.
    fn most_frequent(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (groups, entries) = self.emit(emit_to);
        let mut best = vec![(NULL, 0_i64); groups];
        for (group, code, count) in entries {
            let best = &mut best[group];
            if count > best.1 || (count == best.1 && self.coder.compare(code, best.0).is_lt()) {
                *best = (code, count);
            }
        }
        let codes: Vec<u32> = best.into_iter().map(|b| b.0).collect();
        self.coder.decode(&codes)
    }

    fn list(&self, groups: usize, entries: &[(usize, u32, i64)], empty_is_null: bool) -> Result<ArrayRef> {
        let codes: Vec<u32> = entries.iter().map(|e| e.1).collect();
        let (offsets, nulls) = bounds(groups, entries);
        let field = Arc::new(Field::new_list_field(self.item.clone(), true));
        let nulls = empty_is_null.then_some(nulls);
        Ok(Arc::new(ListArray::new(field, offsets, self.coder.decode(&codes)?, nulls)))
    }
}

/// List offsets of sorted entries, and which groups have any.
fn bounds(groups: usize, entries: &[(usize, u32, i64)]) -> (OffsetBuffer<i32>, NullBuffer) {
    let mut lengths = vec![0_usize; groups];
    for e in entries {
        lengths[e.0] += 1;
    }
    let present: Vec<bool> = lengths.iter().map(|n| *n > 0).collect();
    (OffsetBuffer::from_lengths(lengths), NullBuffer::from(present))
}

impl GroupsAccumulator for TallyState {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups = self.groups.max(total_num_groups);
        let rows = wanted(&values[0], opt_filter);
        let codes = self.coder.code(&values[0], &rows)?;
        let keys: Vec<u64> =
            rows.iter().zip(codes).map(|(row, code)| key(group_indices[*row as usize], code)).collect();
        // rows of one group that lie side by side often have one value
        for run in keys.chunk_by(|a, b| a == b) {
            *self.counts.entry(run[0]).or_insert(0) += run.len() as i64;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        match self.finish {
            Finish::MostFrequent => self.most_frequent(emit_to),
            Finish::UniqueCount => {
                let (groups, entries) = self.emit(emit_to);
                let mut counts = vec![0_i64; groups];
                for e in &entries {
                    counts[e.0] += 1;
                }
                Ok(Arc::new(Int64Array::from(counts)))
            }
            Finish::UniqueList => {
                let (groups, entries) = self.emit_sorted(emit_to);
                self.list(groups, &entries, true)
            }
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (groups, entries) = self.emit_sorted(emit_to);
        let values = self.list(groups, &entries, false)?;
        let (offsets, _) = bounds(groups, &entries);
        let counts = Int64Array::from_iter_values(entries.iter().map(|e| e.2));
        let field = Arc::new(Field::new_list_field(DataType::Int64, true));
        Ok(vec![values, Arc::new(ListArray::new(field, offsets, Arc::new(counts), None))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups = self.groups.max(total_num_groups);
        let (values, starts) = items(states[0].as_list());
        let (counts, count_starts) = items(states[1].as_list());
        let codes = self.coder.code(&values, &all(&values))?;
        let counts = counts.as_primitive::<Int64Type>();
        for (row, group) in group_indices.iter().enumerate() {
            for (k, count) in (starts[row]..starts[row + 1]).zip(count_starts[row]..) {
                *self.counts.entry(key(*group, codes[k])).or_insert(0) += counts.value(count);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut one = Self::new(self.finish, &self.item)?;
        let groups: Vec<usize> = (0..values[0].len()).collect();
        one.update_batch(values, &groups, opt_filter, groups.len())?;
        one.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.counts.capacity() * 17 + self.coder.size()
    }
}

impl Grouped for TallyState {
    fn ensure(&mut self, groups: usize) {
        self.groups = self.groups.max(groups);
    }
}
