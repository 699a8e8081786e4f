//! The wide table of a profile: one row per entity, in entity order, columns added as they are computed.
//!
//! Partials of every scan are aligned by entity code (no join), and expressions over the wide row are
//! evaluated directly, in parallel slices.

use super::threads;
use crate::error::{Context, Error, ErrorKind, Result};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{cast, concat, take};
use datafusion::arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use datafusion::physical_expr::PhysicalExpr;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Rows per slice when evaluating expressions.
const SLICE: usize = 65_536;

/// Columns over all entities.
#[derive(Debug, Clone, Default)]
pub(super) struct Wide {
    rows: usize,
    names: Vec<String>,
    columns: Vec<ArrayRef>,
}

impl Wide {
    /// No columns yet, for `rows` entities.
    pub(super) fn new(rows: usize) -> Self {
        Self { rows, names: Vec::new(), columns: Vec::new() }
    }

    /// Number of entities.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The columns of one entity.
    pub(super) fn row(&self, row: usize) -> Self {
        let columns = self.columns.iter().map(|column| column.slice(row, 1)).collect();
        Self { rows: 1, names: self.names.clone(), columns }
    }

    /// The same without some of the columns.
    pub(super) fn without(&self, names: &BTreeSet<&str>) -> Self {
        self.only(self.names.iter().map(String::as_str).filter(|name| !names.contains(name)))
    }

    /// The same with some of the columns.
    pub(super) fn only<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut some = Self::new(self.rows);
        for name in names {
            if let Some(column) = self.column(name).filter(|_| !some.has(name)) {
                some.push(name, Arc::clone(column));
            }
        }
        some
    }

    /// Adds a column.
    pub(super) fn push(&mut self, name: &str, column: ArrayRef) {
        debug_assert_eq!(column.len(), self.rows, "one value per entity");
        self.names.push(name.to_owned());
        self.columns.push(column);
    }

    /// Adds a column that is another one under a further name.
    pub(super) fn push_same(&mut self, name: &str, other: &str) {
        if let Some(column) = self.column(other).cloned() {
            self.push(name, column);
        }
    }

    /// Whether a column is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    /// A column by name.
    pub(super) fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.names.iter().position(|n| n == name).map(|i| &self.columns[i])
    }

    /// Adds the columns of a fold's result (`key` is the entity code); entities without rows get `empty`.
    pub(super) fn align(
        &mut self,
        key: &str,
        result: &[RecordBatch],
        empty: &[(String, ScalarValue)],
        workers: usize,
    ) -> Result<()> {
        let doing = || "cannot gather the fold's result".to_owned();
        let Some(first) = result.first() else {
            for (name, value) in empty {
                let column = value.to_array_of_size(self.rows).or_fail(ErrorKind::Failed, doing)?;
                self.push(name, column);
            }
            return Ok(());
        };
        let place = |name: &str| first.schema().index_of(name).or_fail(ErrorKind::Failed, doing);
        let columns = empty.iter().map(|(name, value)| Ok((place(name)?, value))).collect::<Result<Vec<_>>>()?;
        let index = self.index(result, place(key)?);
        let gathered = threads::map(&columns, workers, |(column, value)| {
            let parts: Vec<&dyn Array> = result.iter().map(|batch| batch.column(*column).as_ref()).collect();
            fill(take(&concat(&parts)?, &index, None)?, value)
        });
        let gathered = gathered.or_fail(ErrorKind::Failed, doing)?;
        for ((name, _), column) in empty.iter().zip(gathered) {
            self.push(name, column.or_fail(ErrorKind::Failed, doing)?);
        }
        Ok(())
    }

    /// By entity, its row in a fold's result, whose column `key` has the entities.
    fn index(&self, result: &[RecordBatch], key: usize) -> UInt32Array {
        let mut index: Vec<Option<u32>> = vec![None; self.rows];
        let keys = result.iter().flat_map(|batch| batch.column(key).as_primitive::<UInt32Type>());
        for (entity, row) in keys.zip(0..) {
            if let Some(entity) = entity {
                index[entity as usize] = Some(row);
            }
        }
        UInt32Array::from(index)
    }

    /// The wide table's schema; every column can be null.
    pub(super) fn schema(&self) -> Schema {
        let field = |(n, c): (&String, &ArrayRef)| Field::new(n, c.data_type().clone(), true);
        Schema::new(self.names.iter().zip(&self.columns).map(field).collect::<Vec<_>>())
    }

    /// Some columns as one batch in the types of `schema`.
    pub(super) fn batch(&self, schema: &Arc<Schema>) -> Result<RecordBatch> {
        let doing = || "cannot assemble the profile".to_owned();
        let columns = schema
            .fields()
            .iter()
            .map(|f| {
                let column = self.column(f.name()).ok_or_else(|| Error::new(ErrorKind::Failed, doing()))?;
                cast(column, f.data_type()).or_fail(ErrorKind::Failed, doing)
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).or_fail(ErrorKind::Failed, doing)
    }

    /// Evaluates an expression over the wide row for all entities, on `threads` threads.
    pub(super) fn evaluate(&self, state: &SessionState, expr: Expr, threads: usize) -> Result<ArrayRef> {
        let doing = || format!("cannot evaluate `{expr}`");
        let needed: Vec<String> = expr.column_refs().iter().map(|c| c.name.clone()).collect();
        let mut narrow = Self::new(self.rows);
        for (name, column) in self.names.iter().zip(&self.columns) {
            if needed.contains(name) {
                narrow.push(name, Arc::clone(column));
            }
        }
        let schema = Arc::new(narrow.schema());
        let bound = DFSchema::try_from(schema.as_ref().clone()).or_fail(ErrorKind::Failed, doing)?;
        let physical = physical(state, expr.clone(), &bound).or_fail(ErrorKind::Failed, doing)?;
        let batch = narrow.batch(&schema)?;
        evaluate_slices(&physical, &batch, threads).or_fail(ErrorKind::Failed, doing)
    }
}

/// An expression ready to evaluate: coerced and simplified (some functions exist only in simplified form).
pub(super) fn physical(
    state: &SessionState,
    expr: Expr,
    schema: &DFSchema,
) -> datafusion::error::Result<Arc<dyn PhysicalExpr>> {
    let simple = simplifier(state, schema).simplify(coerced(state, expr, schema)?)?;
    state.create_physical_expr(simple, schema)
}

/// An expression with the casts that its operators and functions need.
pub(super) fn coerced(state: &SessionState, expr: Expr, schema: &DFSchema) -> datafusion::error::Result<Expr> {
    simplifier(state, schema).coerce(expr, schema)
}

fn simplifier(state: &SessionState, schema: &DFSchema) -> ExprSimplifier {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    ExprSimplifier::new(context)
}

fn evaluate_slices(
    expr: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    workers: usize,
) -> datafusion::error::Result<ArrayRef> {
    let slices = threads::ranges(batch.num_rows(), SLICE);
    let one = |rows: &Range<usize>| expr.evaluate(&batch.slice(rows.start, rows.len()))?.into_array(rows.len());
    let arrays = threads::map(&slices, workers, one)?.into_iter().collect::<datafusion::error::Result<Vec<_>>>()?;
    if arrays.is_empty() {
        let data_type = expr.data_type(batch.schema_ref())?;
        return Ok(new_null_array(&data_type, 0));
    }
    let references: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    Ok(concat(&references)?)
}

/// Replaces nulls by a value, if the value is not null itself.
fn fill(column: ArrayRef, value: &ScalarValue) -> datafusion::error::Result<ArrayRef> {
    if value.is_null() || column.null_count() == 0 {
        return Ok(column);
    }
    let value = cast(&value.to_array()?, column.data_type())?;
    let valid = datafusion::arrow::compute::is_not_null(&column)?;
    let scalar = datafusion::arrow::array::Scalar::new(value);
    Ok(datafusion::arrow::compute::kernels::zip::zip(&valid, &column, &scalar)?)
}

/// Rows where a condition holds; null is no.
pub(super) fn holds(condition: &ArrayRef) -> Vec<u32> {
    let condition: &BooleanArray = condition.as_boolean();
    let row = |(i, b): (usize, Option<bool>)| (b == Some(true)).then(|| u32::try_from(i).ok()).flatten();
    condition.iter().enumerate().filter_map(row).collect()
}

/// The empty value of a type: zero for counts, false for conditions, else null.
pub(super) fn null_of(data_type: &DataType) -> ScalarValue {
    ScalarValue::try_from(data_type).unwrap_or(ScalarValue::Null)
}
