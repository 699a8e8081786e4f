//! What a unit test expects, and what came out, as texts of one form: every value is brought to its column's
//! type and written the same way on both sides.

use super::bind::Bound;
use super::checks::no_column;
use super::given::{is_id, label_id, no_entity};
use super::mistakes::sql_type;
use super::{BoundModel, Engine, Output, fold};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{Cell, ExpectedTable, TestRow, UnitTest};
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DFSchema;
use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows of a table, in the columns that a test names.
#[derive(Debug, Clone, Default)]
pub struct Actual {
    /// The columns, in the order in which the test names them.
    pub columns: Vec<String>,
    /// Columns of fractions, which are compared up to rounding.
    pub fractions: Vec<bool>,
    /// Values as text; `None` is null.
    pub rows: Vec<Vec<Option<String>>>,
}

/// What a row must hold in one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedCell {
    /// Anything: the test does not say.
    Anything,
    /// This value, or null.
    Value(Option<String>),
    /// An id: the same wherever the name is the same, another wherever it is another.
    Label(String),
}

/// A row that must be there.
#[derive(Debug, Clone)]
pub struct ExpectedRow {
    /// By column of [`Actual::columns`].
    pub cells: Vec<ExpectedCell>,
    /// The cells as the author wrote them.
    pub shown: Vec<String>,
}

impl Engine {
    /// Findings about the rows that a test expects, once its models are bound: tables, columns and values.
    pub fn bind_expected(&self, test: &UnitTest) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for table in &test.expect {
            let Some(schema) = self.schema_of(&table.name.value) else {
                let message = format!("`{}` is no table that `{}` makes or reads", table.name.value, test.model.value);
                findings.push(
                    Diagnostic::error(Code::UnknownTable, table.name.span, message)
                        .with_label("nothing to compare with")
                        .with_help("name the tested model, a table beside it, or a model on the way to it"),
                );
                continue;
            };
            for (column, cell) in table.rows.iter().flat_map(|r| &r.cells) {
                if let Err(finding) = self.expected_cell(&table.name.value, &schema, column, cell) {
                    findings.push(*finding);
                }
            }
        }
        findings
    }

    /// Findings about given columns that a source table, now that its files are known, does not have.
    pub fn check_given(&self, test: &UnitTest) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for given in &test.given {
            let Some(table) = self.sources.get(&given.name.value) else { continue };
            let mut missing: BTreeSet<&str> = BTreeSet::new();
            for (column, _) in given.rows.iter().flat_map(|r| &r.cells) {
                let there = table.raw.schema().field_with_unqualified_name(&column.value).is_ok();
                if !there && missing.insert(&column.value) {
                    findings.push(no_column(column, &given.name.value, table.raw.schema()));
                }
            }
        }
        findings
    }

    /// Whether a model or table is bound here.
    pub fn is_bound(&self, name: &str) -> bool {
        self.relations.contains_key(name)
    }

    fn schema_of(&self, table: &str) -> Option<SchemaRef> {
        match self.models.get(table) {
            Some(BoundModel::Sync(bound)) => Some(bound.schema()),
            _ => Some(Arc::new(self.relations.get(table)?.plan.schema().as_arrow().clone())),
        }
    }

    /// One expected value in its column's type.
    fn expected_cell(
        &self,
        table: &str,
        schema: &Schema,
        column: &Spanned<String>,
        cell: &Spanned<Cell>,
    ) -> Bound<ExpectedCell> {
        let Ok(field) = schema.field_with_name(&column.value) else {
            let columns = DFSchema::try_from(schema.clone()).unwrap_or_else(|_| DFSchema::empty());
            return Err(Box::new(no_column(column, table, &columns)));
        };
        let Some(text) = cell.value.text() else { return Ok(ExpectedCell::Value(None)) };
        if self.identity_of_column(&column.value).is_some() {
            if text.starts_with('@') {
                return Ok(ExpectedCell::Label(text));
            }
            if !is_id(&text) {
                return Err(no_entity(&text, cell.span));
            }
            let id = self.id_of(&column.value, &text).unwrap_or(text);
            return Ok(ExpectedCell::Value(Some(id)));
        }
        if field.data_type().is_nested() {
            return Ok(ExpectedCell::Value(Some(text)));
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let read = cast_with_options(&StringArray::from(vec![text.as_str()]), field.data_type(), &options);
        match read.ok().and_then(|array| texts(&array).ok()) {
            Some(texts) => Ok(ExpectedCell::Value(texts.into_iter().next().flatten())),
            None => {
                let data_type = sql_type(&field.data_type().to_string());
                let message = format!("`{text}` is no value of `{}`, which is {data_type}", column.value);
                Err(Box::new(Diagnostic::error(Code::TestValue, cell.span, message).with_label("can never be equal")))
            }
        }
    }

    /// The rows of a table after a build, in the columns that the test names; `outputs` are the built tables.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn actual(&self, wanted: &ExpectedTable, outputs: &BTreeMap<String, Output>) -> Result<Actual> {
        let name = &wanted.name.value;
        let batches = self.batches_of(name, outputs).await?;
        let schema = self.schema_of(name).ok_or_else(|| Error::new(ErrorKind::Failed, format!("no table `{name}`")))?;
        let mut actual = Actual { columns: compared_columns(&wanted.rows, &schema), ..Actual::default() };
        let fraction = |c: &String| schema.field_with_name(c).is_ok_and(|f| f.data_type().is_floating());
        actual.fractions = actual.columns.iter().map(fraction).collect();
        for batch in &batches {
            let doing = || format!("cannot read `{name}`");
            let mut columns = Vec::new();
            for column in &actual.columns {
                let array = batch.column_by_name(column).ok_or_else(|| Error::new(ErrorKind::Failed, doing()))?;
                columns.push(texts(array)?);
            }
            for row in 0..batch.num_rows() {
                actual.rows.push(columns.iter().map(|c| c[row].clone()).collect());
            }
        }
        Ok(actual)
    }

    async fn batches_of(&self, name: &str, outputs: &BTreeMap<String, Output>) -> Result<Vec<RecordBatch>> {
        if let Some(output) = outputs.get(name) {
            return Ok(output.batches.clone());
        }
        if let Some(BoundModel::Sync(_)) = self.models.get(name) {
            return self.sync_rows(name, &[]).await?.sent().await;
        }
        let doing = || format!("cannot read `{name}`");
        let relation = self.relations.get(name).ok_or_else(|| Error::new(ErrorKind::Failed, doing()))?;
        fold::execute(&self.context, relation.plan.clone()).await.or_fail(ErrorKind::Failed, doing)
    }

    /// The rows that a test expects, after a build: identifiers are the ids of those who have them.
    pub fn expected(&self, wanted: &ExpectedTable) -> Vec<ExpectedRow> {
        let table = &wanted.name.value;
        let Some(schema) = self.schema_of(table) else { return Vec::new() };
        let columns = compared_columns(&wanted.rows, &schema);
        let one = |row: &TestRow| {
            let mut expected = ExpectedRow { cells: Vec::new(), shown: Vec::new() };
            for name in &columns {
                let named = row.cells.iter().find(|(column, _)| column.value == *name);
                let cell = named.and_then(|(column, cell)| self.expected_cell(table, &schema, column, cell).ok());
                expected.cells.push(cell.unwrap_or(ExpectedCell::Anything));
                expected.shown.push(match named {
                    Some((_, cell)) => cell.value.text().unwrap_or_else(|| "null".to_owned()),
                    None => "*".to_owned(),
                });
            }
            expected
        };
        wanted.rows.iter().map(one).collect()
    }

    /// What people call the ids of this build: `@ann` where the test made them up, else an identifier. The
    /// strongest identifier names the entity, of equals the smallest text.
    pub fn names_of_ids(&self, test: &UnitTest) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for bound in self.models.values() {
            let BoundModel::Identity(bound) = bound else { continue };
            let Some(entities) = bound.slot.get() else { continue };
            let types = bound.type_names();
            let mut best: BTreeMap<u32, (u8, Cow<'_, str>)> = BTreeMap::new();
            for node in 0..entities.nodes.len() {
                let (entity, code) = (entities.entity[node], u32::try_from(node).unwrap_or(u32::MAX));
                if super::identity::is_hub(entity) {
                    continue;
                }
                let known = (entities.nodes.type_of(code), entities.nodes.text(code));
                match best.entry(entity) {
                    Entry::Vacant(free) => drop(free.insert(known)),
                    Entry::Occupied(mut taken) if known < *taken.get() => drop(taken.insert(known)),
                    Entry::Occupied(_) => {}
                }
            }
            for (entity, (kind, text)) in best {
                let id = entities.ids[entity as usize].to_string();
                names.insert(id, format!("{}:{text}", types[usize::from(kind)]));
            }
        }
        for (_, cell) in test.given.iter().flat_map(|g| &g.rows).flat_map(|r| &r.cells) {
            if let Some(text) = cell.value.text().filter(|t| t.starts_with('@')) {
                names.insert(label_id(&text), text);
            }
        }
        names
    }
}

/// Columns in the order in which rows first name them; all of the table when none is named.
fn compared_columns(rows: &[TestRow], schema: &Schema) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for (column, _) in rows.iter().flat_map(|r| &r.cells) {
        if !columns.contains(&column.value) {
            columns.push(column.value.clone());
        }
    }
    if columns.is_empty() {
        columns = schema.fields().iter().map(|f| f.name().clone()).collect();
    }
    columns
}

fn texts(array: &ArrayRef) -> Result<Vec<Option<String>>> {
    let doing = || "cannot show a value".to_owned();
    let options = FormatOptions::default().with_null("null").with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).or_fail(ErrorKind::Failed, doing)?;
    let one = |row| (!array.is_null(row)).then(|| formatter.value(row).to_string());
    Ok((0..array.len()).map(one).collect())
}
