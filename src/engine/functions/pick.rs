//! `first`, `last` and the choice of surviving values: per group the row that comes first in an order.
//!
//! The row is kept as comparable bytes: the order's keys, then the value (ties take the smallest), then a
//! payload that is carried along. Rows with a null value are skipped. The smallest bytes win, which makes
//! the result independent of how rows were split.

use super::rows::wanted;
use super::single::{Grouped, SingleGroup};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StructArray, UInt32Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{SortOptions, cast, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, TimeUnit};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use std::sync::Arc;

/// What the aggregate returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Returns {
    /// The value of the winning row.
    Value,
    /// A struct of the value (`value`) and the payload columns (`p0`, `p1`, ...).
    ValueAndPayload,
}

/// The aggregate: arguments are the keys, the value, the payload.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PickFirst {
    descending: Vec<bool>,
    returns: Returns,
    signature: Signature,
}

impl PickFirst {
    /// One key for each entry of `descending`; nulls always come last.
    pub(crate) fn new(descending: Vec<bool>, returns: Returns) -> Self {
        Self { descending, returns, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    /// How many of its first arguments are keys.
    pub(crate) fn keys(&self) -> usize {
        self.descending.len()
    }

    fn state(&self, args: &AccumulatorArgs<'_>) -> Result<PickState> {
        let types: Vec<DataType> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        PickState::new(&self.descending, self.returns, &types)
    }

    fn result_type(&self, types: &[DataType]) -> Result<DataType> {
        let keys = self.descending.len();
        if types.len() <= keys {
            return exec_err!("pick needs {keys} keys and a value");
        }
        Ok(match self.returns {
            Returns::Value => types[keys].clone(),
            Returns::ValueAndPayload => DataType::Struct(payload_fields(&types[keys..])),
        })
    }
}

fn payload_fields(types: &[DataType]) -> Fields {
    let named = types.iter().enumerate().map(|(i, t)| {
        let name = if i == 0 { "value".to_owned() } else { format!("p{}", i - 1) };
        Field::new(name, t.clone(), true)
    });
    named.collect()
}

impl AggregateUDFImpl for PickFirst {
    fn name(&self) -> &'static str {
        "kinfold_pick"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.result_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::new(self.state(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[row]", args.name), DataType::Binary, true))])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.state(&args)?))
    }
}

/// The winning row of each group.
struct PickState {
    converter: RowConverter,
    keys: usize,
    returns: Returns,
    types: Vec<DataType>,
    best: Vec<Option<Box<[u8]>>>,
    bytes: usize,
    leads: Option<Leads>,
}

/// The least first key that each group was offered: rows with a greater one need not be looked at.
struct Leads {
    descending: bool,
    by_group: Vec<i64>,
}

impl Leads {
    /// For a first key that is a whole number or a time.
    fn new(descending: &[bool], types: &[DataType]) -> Option<Self> {
        let whole = matches!(types.first()?, DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _));
        descending.first().filter(|_| whole).map(|descending| Self { descending: *descending, by_group: Vec::new() })
    }

    /// Leaves those rows that may win.
    fn keep(&mut self, rows: &mut Vec<u32>, key: &ArrayRef, groups: &[usize], total: usize) -> Result<()> {
        let key = cast(key, &DataType::Int64)?;
        let key = key.as_primitive::<Int64Type>();
        // ascending, nulls last; `!` turns the order around
        let rank = |row: u32| match (key.is_valid(row as usize), self.descending) {
            (false, _) => i64::MAX,
            (true, false) => key.value(row as usize),
            (true, true) => !key.value(row as usize),
        };
        if self.by_group.len() < total {
            self.by_group.resize(total, i64::MAX);
        }
        for row in &*rows {
            let lead = &mut self.by_group[groups[*row as usize]];
            *lead = rank(*row).min(*lead);
        }
        rows.retain(|row| rank(*row) == self.by_group[groups[*row as usize]]);
        Ok(())
    }
}

impl PickState {
    fn new(descending: &[bool], returns: Returns, types: &[DataType]) -> Result<Self> {
        let field = |(i, t): (usize, &DataType)| {
            let descending = descending.get(i).copied().unwrap_or(false);
            SortField::new_with_options(t.clone(), SortOptions { descending, nulls_first: false })
        };
        let fields = types.iter().enumerate().map(field).collect();
        Ok(Self {
            converter: RowConverter::new(fields)?,
            keys: descending.len(),
            returns,
            types: types.to_vec(),
            best: Vec::new(),
            bytes: 0,
            leads: Leads::new(descending, types),
        })
    }

    /// Takes the winning rows of the groups that are emitted.
    fn emit(&mut self, emit_to: EmitTo) -> Vec<Option<Box<[u8]>>> {
        let best = emit_to.take_needed(&mut self.best);
        self.bytes = self.best.iter().flatten().map(|b| b.len()).sum();
        if let Some(leads) = &mut self.leads {
            leads.by_group.drain(..best.len().min(leads.by_group.len()));
        }
        best
    }

    fn offer(&mut self, group: usize, row: &[u8]) {
        let best = &mut self.best[group];
        if best.as_deref().is_none_or(|b| row < b) {
            self.bytes += row.len();
            self.bytes -= best.as_ref().map_or(0, |b| b.len());
            *best = Some(row.into());
        }
    }
}

impl Grouped for PickState {
    fn ensure(&mut self, groups: usize) {
        if self.best.len() < groups {
            self.best.resize(groups, None);
        }
    }
}

impl GroupsAccumulator for PickState {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.ensure(total_num_groups);
        let value = &values[self.keys];
        let mut wanted = wanted(value, opt_filter);
        if let Some(leads) = &mut self.leads {
            leads.keep(&mut wanted, &values[0], group_indices, total_num_groups)?;
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let indices = UInt32Array::from(wanted);
        let columns = if indices.len() == value.len() {
            values.to_vec()
        } else {
            values.iter().map(|c| take(c, &indices, None)).collect::<Result<_, _>>()?
        };
        let rows = self.converter.convert_columns(&columns)?;
        for (row, index) in rows.iter().zip(indices.values()) {
            self.offer(group_indices[*index as usize], row.data());
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let best = self.emit(emit_to);
        let parser = self.converter.parser();
        let present = best.iter().flatten().map(|b| parser.parse(b));
        let columns = self.converter.convert_rows(present)?;
        let mut next = 0_u32;
        let indices: UInt32Array = best
            .iter()
            .map(|b| {
                b.as_ref().map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        match self.returns {
            Returns::Value => Ok(take(&columns[self.keys], &indices, None)?),
            Returns::ValueAndPayload => {
                let kept: Vec<ArrayRef> =
                    columns[self.keys..].iter().map(|c| take(c, &indices, None)).collect::<Result<_, _>>()?;
                let nulls = best.iter().map(Option::is_some).collect::<NullBuffer>();
                Ok(Arc::new(StructArray::new(payload_fields(&self.types[self.keys..]), kept, Some(nulls))))
            }
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let best = self.emit(emit_to);
        Ok(vec![Arc::new(best.iter().map(|b| b.as_deref()).collect::<BinaryArray>())])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.ensure(total_num_groups);
        let rows = values[0].as_binary::<i32>();
        for (row, group) in group_indices.iter().enumerate() {
            if rows.is_valid(row) {
                self.offer(*group, rows.value(row));
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = self.converter.convert_columns(values)?;
        let value = &values[self.keys];
        let mut kept = vec![None; value.len()];
        for row in wanted(value, opt_filter) {
            kept[row as usize] = Some(rows.row(row as usize).data());
        }
        Ok(vec![Arc::new(kept.into_iter().collect::<BinaryArray>())])
    }

    fn size(&self) -> usize {
        let leads = self.leads.as_ref().map_or(0, |leads| leads.by_group.capacity() * 8);
        self.best.capacity() * 16 + self.bytes + leads
    }
}
