//! Rows of a table in place of those with the same keys, as MERGE does it.
//!
//! Copy on write: a file that holds none of the keys stays as it is, one that does is written anew without those rows, and
//! the new rows come in files behind them. What was read is named in the staged table ([`StagedTable::merged`]), so that rows which
//! another writer adds meanwhile are not lost: the commit is refused, and done again by the caller.
//!
//! A column that is new comes last. A number gets the larger of two types, with all files written anew; nothing else
//! changes its type, and no value is narrowed.

use super::commit::widened;
use super::table::{Table, fit};
use super::types::{storable_batch, storable_schema};
use super::writer::{StagedTable, TableWriter, WriteMode};
use super::{Run, TableAt};
use crate::error::{Context, Error, ErrorKind, Result};
use deltalake_core::arrow::array::{Array as _, ArrayRef, BooleanArray, RecordBatch};
use deltalake_core::arrow::compute::filter_record_batch;
use deltalake_core::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use deltalake_core::arrow::row::{OwnedRow, RowConverter, SortField};
use object_store::ObjectStore;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is done with a row whose key is in the table, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnKey {
    /// It comes in place of the one that is there, or as a new one.
    Put,
    /// It comes only if none is there.
    Insert,
    /// It comes only in place of one that is there.
    Update,
    /// It comes beside those that are there.
    Add,
    /// Those that are there go.
    Delete,
}

/// A merge in work.
struct Merge {
    keys: RowConverter,
    /// By key: the place of its row, what is done with it, whether the table has it.
    rows: BTreeMap<OwnedRow, (usize, OnKey, bool)>,
    schema: SchemaRef,
    key: String,
}

impl Run {
    /// Stages a table with rows in place of those with the same value of `key`. No key stands twice among the new ones, and
    /// there is one word for each.
    ///
    /// # Errors
    /// `Data` when the rows do not fit the table, or it is one that Kinfold did not write; `Storage`.
    pub async fn merge(&self, table: &str, key: &str, rows: &RecordBatch, on_key: &[OnKey]) -> Result<StagedTable> {
        let rows = storable_batch(rows)?;
        let there = self.warehouse().to_append_to(table, self.base().tables.get(table)).await?;
        let new = storable_schema(rows.schema_ref())?;
        let schema = match &there {
            Some(there) if there.schema.column_with_name(key).is_none() => return Err(unkeyed(key)),
            Some(there) => widened(&there.name, &grown(&there.schema, &new), &grown(&new, &there.schema))?,
            None => new,
        };
        let rows = fit(&rows, &schema)?;
        let mut merge = Merge::new(&rows, key, on_key, Arc::clone(&schema))?;
        let mut writer = self.writer(table, &schema, WriteMode::Append)?;
        let replaced = match merge.write(&rows, there.as_deref(), self.warehouse().store(), &mut writer).await {
            Ok(replaced) => replaced,
            Err(error) => {
                writer.abort().await;
                return Err(error);
            }
        };
        let staged = writer.finish().await?;
        let Some(there) = there else { return Ok(staged) };
        let same = staged.files.is_empty() && replaced.is_empty();
        let merged = staged.merged(there.version, replaced);
        Ok(if same { merged.unchanged() } else { merged })
    }
}

impl super::Warehouse {
    /// The state of a table that rows are added to; `None` when there is none.
    pub(super) async fn to_append_to(&self, name: &str, visible: Option<&TableAt>) -> Result<Option<Arc<Table>>> {
        let Some(version) = self.latest_version(name, visible.map(|at| at.version)).await? else { return Ok(None) };
        let latest = self.table(&TableAt { name: name.to_owned(), version, run: 0 }).await?;
        self.kept(visible, &latest, WriteMode::Append).await
    }
}

impl Merge {
    fn new(rows: &RecordBatch, key: &str, on_key: &[OnKey], schema: SchemaRef) -> Result<Self> {
        let column = column(rows, key)?;
        let keys =
            RowConverter::new(vec![SortField::new(column.data_type().clone())]).or_fail(ErrorKind::Data, doing)?;
        let mut merge = Self { keys, rows: BTreeMap::new(), schema, key: key.to_owned() };
        let found = merge.keys_of(column)?;
        merge.rows = found.into_iter().zip(on_key).enumerate().map(|(at, (key, on))| (key, (at, *on, false))).collect();
        Ok(merge)
    }

    /// Writes what stays of the files that hold a key, and what comes; gives the names of these files.
    async fn write(
        &mut self,
        rows: &RecordBatch,
        there: Option<&Table>,
        store: &Arc<dyn ObjectStore>,
        writer: &mut TableWriter,
    ) -> Result<Vec<String>> {
        let mut replaced = Vec::new();
        for (table, file) in there.iter().flat_map(|table| table.files.iter().map(move |file| (table, file))) {
            let grows = grown(&table.schema, &self.schema) != *table.schema;
            let old = table.read_file(store, file).await?;
            let old: Vec<RecordBatch> = old.iter().map(|batch| fit(batch, &self.schema)).collect::<Result<_>>()?;
            let kept: Vec<BooleanArray> = old.iter().map(|batch| self.kept(batch)).collect::<Result<_>>()?;
            if !grows && kept.iter().all(|kept| kept.true_count() == kept.len()) {
                continue;
            }
            for (batch, kept) in old.iter().zip(&kept) {
                let left = filter_record_batch(batch, kept).or_fail(ErrorKind::Failed, doing)?;
                writer.write(&left).await?;
            }
            replaced.push(file.name.clone());
        }
        writer.write(&self.coming(rows)?).await?;
        Ok(replaced)
    }

    fn keys_of(&self, column: &ArrayRef) -> Result<Vec<OwnedRow>> {
        let rows = self.keys.convert_columns(&[Arc::clone(column)]).or_fail(ErrorKind::Data, doing)?;
        Ok(rows.iter().map(|row| row.owned()).collect())
    }

    /// Which rows of the table stay; remembers which keys it has.
    fn kept(&mut self, old: &RecordBatch) -> Result<BooleanArray> {
        let keys = self.keys_of(column(old, &self.key)?)?;
        Ok(keys
            .into_iter()
            .map(|key| match self.rows.get_mut(&key) {
                Some((_, on_key, there)) => {
                    *there = true;
                    Some(matches!(on_key, OnKey::Insert | OnKey::Add))
                }
                None => Some(true),
            })
            .collect())
    }

    /// The rows that come, in their order and in the table's columns.
    fn coming(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut comes = vec![false; rows.num_rows()];
        for (at, on_key, there) in self.rows.values() {
            if let Some(place) = comes.get_mut(*at) {
                *place = match on_key {
                    OnKey::Put | OnKey::Add => true,
                    OnKey::Insert => !there,
                    OnKey::Update => *there,
                    OnKey::Delete => false,
                };
            }
        }
        filter_record_batch(rows, &BooleanArray::from(comes)).or_fail(ErrorKind::Failed, doing)
    }
}

/// A schema with the larger type of two numbers where `other` has it; no other type changes.
fn grown(schema: &Schema, other: &Schema) -> Schema {
    let field = |field: &FieldRef| match other.field_with_name(field.name()).map(Field::data_type) {
        Ok(larger) if is_larger(larger, field.data_type()) => {
            Arc::new(field.as_ref().clone().with_data_type(larger.clone()))
        }
        _ => Arc::clone(field),
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

fn is_larger(one: &DataType, other: &DataType) -> bool {
    let sort = one.is_signed_integer() == other.is_signed_integer() && one.is_floating() == other.is_floating();
    let bytes = |of: &DataType| of.primitive_width().filter(|_| of.is_signed_integer() || of.is_floating());
    sort && bytes(one).zip(bytes(other)).is_some_and(|(one, other)| one > other)
}

fn column<'a>(rows: &'a RecordBatch, key: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(key).ok_or_else(|| unkeyed(key))
}

fn unkeyed(key: &str) -> Error {
    let message = format!("the table has no column `{key}`, by which its rows are known");
    Error::new(ErrorKind::Data, message).with_help("a sync keeps its key; for another one, move the table away")
}

fn doing() -> String {
    "rows cannot be merged by their key".to_owned()
}
