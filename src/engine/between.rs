//! What is different in a committed table between two of its versions: rows added, removed and changed.
//!
//! Both versions are counted as multisets of rows, over the columns that both have: equal rows cancel out, so that
//! data files that both have need not be read. With a key, a row that went and one that came under one key are
//! a changed row. Nothing is asked of the key: where several rows share one, as many count as changed as went and
//! came. Examples are the first by key.

use super::committed::over_table;
use super::{Engine, internal, print};
use crate::error::{Context, ErrorKind, Result};
use crate::warehouse::{Table, TableAt, Warehouse};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Field, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, Operator, binary_expr, ident, lit, when};
use datafusion::prelude::DataFrame;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often a row came, less how often it went.
const COUNT: &str = "__count";
/// Rows of a key that came, and that went.
const CAME: &str = "__came";
const WENT: &str = "__went";
/// Rows with example keys that are looked at.
const ROWS: usize = 1000;

/// A row for people and machines, by column.
pub type JsonRow = Map<String, Value>;

/// How a table differs between two versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableChanges {
    /// The columns that name a row; none where whole rows are compared.
    pub key: Vec<String>,
    /// Rows that came.
    pub added: u64,
    /// Rows that went.
    pub removed: u64,
    /// Rows whose key stayed and whose other columns did not.
    pub changed: u64,
    /// Columns that only the later version has, or has with another type.
    pub columns_added: Vec<String>,
    /// Columns that only the earlier version has, or has with another type.
    pub columns_removed: Vec<String>,
    /// The compared columns, in their order.
    #[serde(skip)]
    pub columns: Vec<String>,
    /// The first rows of each sort.
    pub examples: Vec<RowChange>,
}

/// One row that is not the same: as it was and as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowChange {
    /// The columns that name it.
    pub key: JsonRow,
    /// As it was; none if it is new. Of a changed row only what changed.
    pub before: Option<JsonRow>,
    /// As it is; none if it went. Of a changed row only what changed.
    pub now: Option<JsonRow>,
}

impl TableChanges {
    /// Whether both versions have the same rows and columns.
    pub fn is_empty(&self) -> bool {
        self.added + self.removed + self.changed == 0
            && self.columns_added.is_empty()
            && self.columns_removed.is_empty()
    }
}

impl Engine {
    /// Compares two versions of a table; one that is not there has no rows. At most `examples` rows of each sort
    /// are shown.
    ///
    /// # Errors
    /// When a version cannot be read.
    pub async fn between(
        &self,
        warehouse: &Warehouse,
        [before, now]: [Option<&TableAt>; 2],
        key: &[String],
        examples: usize,
    ) -> Result<TableChanges> {
        let open = async |at: Option<&TableAt>| match at {
            Some(at) => warehouse.table(at).await.map(Some),
            None => Ok(None),
        };
        let (before, now) = (open(before).await?, open(now).await?);
        let mut changes = shape(before.as_deref(), now.as_deref(), key);
        let name = || before.iter().chain(&now).map(|t| t.name.clone()).next().unwrap_or_default();
        let failed = || format!("cannot compare the versions of `{}`", name());
        let mut sides = Vec::new();
        for (table, other, count) in [(&before, &now, -1_i64), (&now, &before, 1)] {
            let Some(table) = table else { continue };
            let table = without_files(table, other.as_deref());
            let provider = over_table(&self.context, warehouse, &table, &table.schema)?;
            sides.push((self.context.read_table(provider).map_err(internal)?, count));
        }
        let Some(rows) = differing(sides, &changes.columns).map_err(internal)? else { return Ok(changes) };
        let counted = rows.clone().aggregate(idents(keys(&changes)), came_and_went()).map_err(internal)?;
        let totals = counted.clone().aggregate(Vec::new(), totals()).map_err(internal)?;
        let totals = totals.collect().await.or_fail(ErrorKind::Data, failed)?;
        let total = |index: usize| {
            let batch = totals.iter().find(|b| b.num_rows() > 0)?;
            let sums = batch.column(index).as_primitive_opt::<Int64Type>()?;
            Some(sums.value(0).cast_unsigned())
        };
        changes.added = total(0).unwrap_or(0);
        changes.removed = total(1).unwrap_or(0);
        changes.changed = total(2).unwrap_or(0);
        if examples > 0 && !changes.is_empty() {
            changes.examples = shown(&rows, &counted, &changes, examples).await.or_fail(ErrorKind::Data, failed)?;
        }
        Ok(changes)
    }
}

/// What is compared, before any row is read.
fn shape(before: Option<&Table>, now: Option<&Table>, key: &[String]) -> TableChanges {
    let has = |table: Option<&Table>, field: &Field| {
        table.is_none_or(|t| t.schema.field_with_name(field.name()).is_ok_and(|f| f.data_type() == field.data_type()))
    };
    let names = |table: Option<&Table>, chosen: &dyn Fn(&Field) -> bool| -> Vec<String> {
        let fields = table.map(|t| t.schema.fields().iter()).into_iter().flatten();
        fields.filter(|f| chosen(f)).map(|f| f.name().clone()).collect()
    };
    let columns = names(now.or(before), &|f| has(before, f) && has(now, f));
    let named = key.iter().all(|k| columns.contains(k));
    TableChanges {
        key: if named { key.to_vec() } else { Vec::new() },
        columns_added: names(now, &|f| !has(before, f)),
        columns_removed: names(before, &|f| !has(now, f)),
        columns,
        ..TableChanges::default()
    }
}

/// A table without the data files that another version has, too: their rows cancel out.
fn without_files(table: &Arc<Table>, other: Option<&Table>) -> Table {
    let common: BTreeSet<&str> = other.map(|o| o.files.iter().map(|f| f.name.as_str()).collect()).unwrap_or_default();
    let mut table = (**table).clone();
    table.files.retain(|f| !common.contains(f.name.as_str()));
    table
}

/// The columns that name a row, or all.
fn keys(changes: &TableChanges) -> &[String] {
    if changes.key.is_empty() { &changes.columns } else { &changes.key }
}

fn idents(names: &[String]) -> Vec<Expr> {
    names.iter().map(ident).collect()
}

/// The distinct rows that one side has more often, with the difference.
fn differing(sides: Vec<(DataFrame, i64)>, columns: &[String]) -> datafusion::error::Result<Option<DataFrame>> {
    let mut united: Option<DataFrame> = None;
    for (side, count) in sides {
        let mut all = idents(columns);
        all.push(lit(count).alias(COUNT));
        let side = side.select(all)?;
        united = Some(match united {
            Some(other) => other.union(side)?,
            None => side,
        });
    }
    let Some(united) = united.filter(|_| !columns.is_empty()) else { return Ok(None) };
    let counted = united.aggregate(idents(columns), vec![sum(ident(COUNT)).alias(COUNT)])?;
    counted.filter(ident(COUNT).not_eq(lit(0_i64))).map(Some)
}

fn came_and_went() -> Vec<Expr> {
    let positive = |count: Expr| when(count.clone().gt(lit(0_i64)), count).otherwise(lit(0_i64));
    let (came, went) = (positive(ident(COUNT)), positive(lit(0_i64) - ident(COUNT)));
    [(came, CAME), (went, WENT)].into_iter().filter_map(|(count, name)| Some(sum(count.ok()?).alias(name))).collect()
}

/// Rows of a key that changed: as many as both came and went.
fn changed() -> Expr {
    let (came, went) = (ident(CAME), ident(WENT));
    when(came.clone().lt(went.clone()), came).otherwise(went).unwrap_or_else(|_| lit(0_i64))
}

/// Added, removed, changed.
fn totals() -> Vec<Expr> {
    let sums = [ident(CAME) - changed(), ident(WENT) - changed(), changed()];
    sums.into_iter().enumerate().map(|(index, count)| sum(count).alias(format!("total_{index}"))).collect()
}

/// The first rows of each sort, by key.
async fn shown(
    rows: &DataFrame,
    counted: &DataFrame,
    changes: &TableChanges,
    limit: usize,
) -> datafusion::error::Result<Vec<RowChange>> {
    let order = |names: &[String]| names.iter().map(|n| ident(n).sort(true, true)).collect::<Vec<_>>();
    let mut batches = Vec::new();
    if changes.key.is_empty() {
        for sign in [ident(COUNT).lt(lit(0_i64)), ident(COUNT).gt(lit(0_i64))] {
            let some = rows.clone().filter(sign)?.sort(order(&changes.columns))?.limit(0, Some(limit))?;
            batches.extend(some.collect().await?);
        }
        return Ok(paired(&batches, changes));
    }
    let mut wanted: Option<Expr> = None;
    for sort in [changed(), ident(CAME) - changed(), ident(WENT) - changed()] {
        let some = counted.clone().filter(sort.gt(lit(0_i64)))?.sort(order(&changes.key))?.limit(0, Some(limit))?;
        for batch in some.select(idents(&changes.key))?.collect().await? {
            for row in 0..batch.num_rows() {
                let one = is_key(&batch, row, &changes.key)?;
                wanted = Some(wanted.map_or(one.clone(), |others| others.or(one)));
            }
        }
    }
    let Some(wanted) = wanted else { return Ok(Vec::new()) };
    let some = rows.clone().filter(wanted)?.sort(order(&changes.columns))?.limit(0, Some(ROWS))?;
    Ok(paired(&some.collect().await?, changes))
}

/// Whether a row has the key of this one.
fn is_key(batch: &RecordBatch, row: usize, key: &[String]) -> datafusion::error::Result<Expr> {
    let mut all = lit(true);
    for (name, column) in key.iter().zip(batch.columns()) {
        let value = Expr::Literal(ScalarValue::try_from_array(column, row)?, None);
        all = all.and(binary_expr(ident(name), Operator::IsNotDistinctFrom, value));
    }
    Ok(all)
}

/// Rows that went beside rows that came under the same key.
fn paired(batches: &[RecordBatch], changes: &TableChanges) -> Vec<RowChange> {
    let rows: Vec<JsonRow> =
        print::to_json(batches).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut by_key: BTreeMap<String, (JsonRow, Vec<JsonRow>, Vec<JsonRow>)> = BTreeMap::new();
    for mut row in rows {
        let came = row.remove(COUNT).and_then(|count| count.as_i64()) > Some(0);
        let key: JsonRow = row.iter().filter(|(n, _)| keys(changes).contains(n)).map(clone_entry).collect();
        let text = serde_json::to_string(&key).unwrap_or_default();
        let (_, before, now) = by_key.entry(text).or_insert_with(|| (key, Vec::new(), Vec::new()));
        if came { now } else { before }.push(row);
    }
    let mut all = Vec::new();
    for (key, before, now) in by_key.into_values() {
        let (mut before, mut now) = (before.into_iter(), now.into_iter());
        loop {
            all.push(match (before.next(), now.next()) {
                (None, None) => break,
                (Some(before), Some(now)) => changed_row(key.clone(), &before, &now),
                (before, now) => RowChange { key: key.clone(), before, now },
            });
        }
    }
    // changed rows first: they say most
    all.sort_by_key(|row| (row.before.is_none() || row.now.is_none(), row.before.is_some()));
    all
}

fn changed_row(key: JsonRow, before: &JsonRow, now: &JsonRow) -> RowChange {
    let differs = |row: &JsonRow, other: &JsonRow| -> JsonRow {
        row.iter().filter(|(name, value)| other.get(*name) != Some(*value)).map(clone_entry).collect()
    };
    RowChange { key, before: Some(differs(before, now)), now: Some(differs(now, before)) }
}

fn clone_entry((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}
