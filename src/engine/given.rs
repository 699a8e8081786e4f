//! Rows that a unit test gives in place of files and of whole models.
//!
//! A source table gets the columns that sources.yaml declares or names, those that the models mention and
//! those that the test gives. Its types are, in this order: declared in sources.yaml, declared in the test, a
//! time for the table's `time`, what the given values look like, what the models need, else text. The rows
//! then go through the table's own selection, versions and deduplication. A model that is given is bound as
//! usual, so that its columns have their types, and filled with the given rows instead of being built. No file
//! is read.
//!
//! In a column that holds entity ids (`patient_id`), `@ann` is an id of the test's own, and `email:ann@x.com`
//! the id of whoever has that identifier.

use super::bind::Bound;
use super::checks::no_column;
use super::entities::Entities;
use super::files::Found;
use super::identity::BoundIdentity;
use super::mentions::{Mentions, Sort};
use super::mistakes::sql_type;
use super::narrow::Members;
use super::segment;
use super::sources::{self, OpenTable, parse_type};
use super::{BoundModel, Engine, EngineParts, committed, identity_tables, internal, time_type};
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::identity::{EntityId, Interner, Spellings};
use crate::model::{Cell, GivenTable, ModelKind, Source, SourceTable, TestRow};
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_empty_array};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::datasource::MemTable;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a unit test gives, and what the models need.
#[derive(Debug, Default)]
pub(super) struct Given {
    tables: BTreeMap<String, GivenTable>,
    mentions: Mentions,
}

/// A column of given rows and its type.
type Typed = (String, DataType);

impl Engine {
    /// Binds and builds from these rows and no files; `models` are those that will be bound.
    pub fn give(&mut self, tables: &[GivenTable], models: &[String]) {
        let mut mentions = Mentions::default();
        let parts = self.parts();
        let binder = parts.binder();
        for model in models.iter().filter_map(|name| self.project.models.get(name)) {
            mentions.read(&binder, model);
        }
        for source in &self.project.sources {
            for table in &source.tables {
                if let Some(filter) = &table.select.filter {
                    let name = format!("{}.{}", source.name.value, table.name.value);
                    mentions.expression(&binder, filter, &name, Sort::Boolean);
                }
            }
        }
        let tables = tables.iter().map(|t| (t.name.value.clone(), t.clone())).collect();
        self.given = Some(Given { tables, mentions });
    }

    /// Whether a model stands there as given rows.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.as_ref().is_some_and(|g| g.tables.contains_key(name))
    }

    /// Findings about the rows of given models, once they are bound.
    pub fn bind_given(&self) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for (name, given) in self.given.iter().flat_map(|g| &g.tables) {
            let Some(late) = self.late.get(name) else { continue };
            if let Err(finding) =
                self.model_batch(given, &late.schema(), &|_, text| is_id(text).then(|| text.to_owned()))
            {
                findings.push(*finding);
            }
        }
        findings
    }

    /// Fills a model that is given, or an identity that nothing is given for; false when it must be built.
    ///
    /// # Errors
    /// When given rows do not fit together.
    pub fn fill_given(&self, name: &str) -> Result<bool> {
        let Some(given) = &self.given else { return Ok(false) };
        let rows = given.tables.get(name);
        match (self.models.get(name), self.project.models.get(name).map(|m| &m.kind)) {
            (Some(BoundModel::Identity(bound)), Some(ModelKind::Identity(model))) => {
                let linked = model.links.iter().any(|l| given.tables.contains_key(&l.from.value));
                if rows.is_none() && linked {
                    return Ok(false);
                }
                self.fill_identity(name, bound, rows)?;
            }
            (Some(bound), _) => {
                let Some(rows) = rows else { return Ok(false) };
                self.fill_model(name, bound, rows)?;
            }
            (None, _) => return Ok(false),
        }
        Ok(true)
    }

    fn fill_identity(&self, name: &str, bound: &BoundIdentity, rows: Option<&GivenTable>) -> Result<()> {
        for (index, (table, schema)) in identity_tables::schemas(name).into_iter().enumerate() {
            let batch = match rows.filter(|_| index == 0) {
                Some(rows) => self.rows_of(rows, &schema)?,
                None => RecordBatch::new_empty(schema),
            };
            if index == 0 {
                let entities = if rows.is_some() {
                    committed::entities(name, &bound.type_names(), std::slice::from_ref(&batch))?
                } else {
                    Entities::new(
                        Interner::new(bound.type_names().len()).freeze(),
                        Spellings::default(),
                        Vec::new(),
                        self.labels(name),
                    )
                };
                bound.slot.fill(Arc::new(entities));
            }
            self.fill_late(&table, batch)?;
        }
        Ok(())
    }

    /// Ids that the given rows make up for an identity without identifiers.
    fn labels(&self, identity: &str) -> Vec<EntityId> {
        let column = format!("{identity}_id");
        let rows = self.given.iter().flat_map(|g| g.tables.values()).flat_map(|t| &t.rows);
        let cells = rows.flat_map(|r| &r.cells).filter(|(name, _)| name.value == column);
        let texts: BTreeSet<String> = cells.filter_map(|(_, cell)| cell.value.text()).collect();
        let ids = texts.iter().map(|text| if text.starts_with('@') { label_id(text) } else { text.clone() });
        ids.filter_map(|id| id.parse().ok()).collect()
    }

    fn fill_model(&self, name: &str, bound: &BoundModel, rows: &GivenTable) -> Result<()> {
        let Some(late) = self.late.get(name) else { return Ok(()) };
        let batch = self.rows_of(rows, &late.schema())?;
        match bound {
            BoundModel::Profile(profile) => {
                let entities = self.entities(&profile.identity)?;
                let rows = std::slice::from_ref(&batch);
                self.keep_wide(name, committed::wide(&profile.identity, &profile.schema, rows, &entities)?);
                let provenance = format!("{name}_provenance");
                self.fill_late(&provenance, RecordBatch::new_empty(profile.provenance_schema()))?;
            }
            BoundModel::Audience(audience) => {
                let entities = self.entities(&audience.identity)?;
                let codes = segment::ids(std::slice::from_ref(&batch), &audience.identity, &entities)?;
                self.keep_members(name, Members::from_codes(codes));
                for side in audience.side_tables() {
                    self.fill_late(&side.name, RecordBatch::new_empty(side.schema))?;
                }
            }
            BoundModel::Sql { .. } | BoundModel::Identity(_) | BoundModel::Sync(_) => {}
        }
        self.fill_late(name, batch)
    }

    fn fill_late(&self, table: &str, batch: RecordBatch) -> Result<()> {
        let Some(late) = self.late.get(table) else { return Ok(()) };
        late.fill(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(internal)?));
        Ok(())
    }

    fn rows_of(&self, given: &GivenTable, schema: &SchemaRef) -> Result<RecordBatch> {
        let resolve = |column: &str, text: &str| self.id_of(column, text);
        self.model_batch(given, schema, &resolve)
            .map_err(|finding| Error::new(ErrorKind::Failed, finding.message).with_help("see the rows under `given`"))
    }

    /// Given rows in the columns of a bound model.
    fn model_batch(
        &self,
        given: &GivenTable,
        schema: &SchemaRef,
        resolve: &dyn Fn(&str, &str) -> Option<String>,
    ) -> Bound<RecordBatch> {
        let table = &given.name.value;
        for (column, _) in given.rows.iter().flat_map(|r| &r.cells) {
            if schema.field_with_name(&column.value).is_err() {
                let columns = DFSchema::try_from(schema.as_ref().clone()).unwrap_or_else(|_| DFSchema::empty());
                return Err(Box::new(no_column(column, table, &columns)));
            }
        }
        let mut columns = Vec::new();
        for field in schema.fields() {
            let name = field.name();
            let mut cells = cells_of(&given.rows, name);
            for (row, (text, span)) in given.rows.iter().zip(&mut cells) {
                if self.identity_of_column(name).is_some() {
                    let unknown = || no_entity(text.as_deref().unwrap_or_default(), *span);
                    if let Some(id) = text.as_deref() {
                        let id = resolve(name, id).ok_or_else(unknown)?;
                        *text = Some(id);
                    }
                }
                if text.is_none() && !field.is_nullable() {
                    *text = Some(self.default_of(name).ok_or_else(|| needs(table, name, row.span))?);
                }
            }
            columns.push(column(name, field.data_type(), &cells)?);
        }
        batch(schema, columns, given.rows.len())
            .map_err(|e| Box::new(Diagnostic::error(Code::TestRows, given.name.span, e.to_string())))
    }

    /// What a column of a segment holds when a test does not say.
    fn default_of(&self, column: &str) -> Option<String> {
        let as_of = chrono::DateTime::from_timestamp_micros(self.as_of)?;
        match column {
            "entered_at" => Some(as_of.to_rfc3339()),
            "reason" => Some("rule".to_owned()),
            _ => None,
        }
    }

    /// The identity whose ids a column holds.
    pub(super) fn identity_of_column(&self, column: &str) -> Option<&BoundIdentity> {
        let mut identities = self.models.values().filter_map(|m| match m {
            BoundModel::Identity(bound) => Some(bound.as_ref()),
            _ => None,
        });
        if matches!(column, "entity_id" | "other_id") {
            return identities.next().filter(|_| identities.next().is_none());
        }
        identities.find(|i| column.strip_suffix("_id") == Some(i.name.as_str()))
    }

    /// The id that a test's text stands for; `None` when nobody has that identifier.
    pub(super) fn id_of(&self, column: &str, text: &str) -> Option<String> {
        if text.starts_with('@') {
            return Some(label_id(text));
        }
        if !text.contains(':') {
            return Some(text.to_owned());
        }
        let identity = self.identity_of_column(column)?;
        let entities = identity.slot.get()?;
        let code = identity.entity_of(&entities, text).ok()?;
        Some(entities.ids[code as usize].to_string())
    }
}

/// The id that stands for a name such as `@ann`: the same in every test, and like no id of the warehouse.
pub(super) fn label_id(label: &str) -> String {
    let digest = Sha256::digest(label.as_bytes());
    hex::encode(&digest[..16])
}

/// Whether a text can stand for an entity's id.
pub(super) fn is_id(text: &str) -> bool {
    text.starts_with('@') || text.contains(':') || text.parse::<EntityId>().is_ok()
}

/// A finding for a text that stands for nobody's id.
pub(super) fn no_entity(text: &str, span: Span) -> Box<Diagnostic> {
    if !is_id(text) {
        let finding = Diagnostic::error(Code::TestValue, span, format!("`{text}` stands for no entity"));
        return Box::new(finding.with_label("expected `@name` or `type:identifier`").with_help(
            "write '@ann' in quotes for an id of the test's own, or 'email:ann@example.com' for whoever has it",
        ));
    }
    let finding = Diagnostic::error(Code::TestValue, span, format!("nobody has the identifier `{text}`"));
    Box::new(finding.with_label("not among the given rows").with_help("give a row that links it, or write `@name`"))
}

fn needs(table: &str, column: &str, span: Span) -> Box<Diagnostic> {
    let message = format!("a row of `{table}` needs `{column}`");
    Box::new(Diagnostic::error(Code::TestColumn, span, message).with_label(format!("`{column}` is missing here")))
}

/// Opens a source table over given rows; a table that is not given has none.
pub(super) fn open(
    parts: &EngineParts<'_>,
    given: &Given,
    source: &Source,
    table: &SourceTable,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<OpenTable>> {
    let name = format!("{}.{}", source.name.value, table.name.value);
    let rows = given.tables.get(&name);
    let typed = columns(parts, table, rows, &given.mentions.of(&name), findings);
    if typed.is_empty() {
        findings.push(
            Diagnostic::error(Code::TestColumn, table.name.span, format!("nothing says which columns `{name}` has"))
                .with_label("read by a unit test")
                .with_help("declare them under `columns:`, or give rows of this table in the test"),
        );
        return Ok(None);
    }
    let made = rows.map_or(&[][..], |r| &r.rows);
    let mut arrays = Vec::new();
    for (column_name, data_type) in &typed {
        match column(column_name, data_type, &cells_of(made, column_name)) {
            Ok(array) => arrays.push(array),
            Err(finding) => findings.push(*finding),
        }
    }
    if arrays.len() < typed.len() {
        return Ok(None);
    }
    let fields: Vec<Field> = typed.iter().map(|(n, t)| Field::new(n, t.clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = batch(&schema, arrays, made.len())?;
    let memory = MemTable::try_new(Arc::clone(&schema), vec![vec![batch]]).map_err(internal)?;
    let raw = parts.context.read_table(Arc::new(memory)).map_err(internal)?;
    sources::opened(parts, &name, table, (Found::nothing(), schema), raw, findings)
}

/// Columns of a source table with their types.
fn columns(
    parts: &EngineParts<'_>,
    table: &SourceTable,
    given: Option<&GivenTable>,
    mentioned: &BTreeMap<String, Sort>,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Typed> {
    let rows = given.map_or(&[][..], |g| &g.rows);
    let own = table.columns.iter().map(|c| &c.name);
    let keys =
        [table.time.as_ref(), table.row_id.as_ref(), table.version.as_ref(), table.dedupe.as_ref().map(|d| &d.by)];
    let selected = table.select.exclude.iter().chain(table.select.include.iter().flatten());
    let typed = given.into_iter().flat_map(|g| g.types.iter().map(|(name, _)| name));
    let in_rows = rows.iter().flat_map(|r| r.cells.iter().map(|(name, _)| name));
    let named = own.chain(keys.into_iter().flatten()).chain(selected).chain(typed).chain(in_rows);
    let mut names: Vec<String> = Vec::new();
    for name in named.map(|n| &n.value).chain(mentioned.keys()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let mut typed = Vec::with_capacity(names.len());
    for name in names {
        let declared = table.columns.iter().find(|c| c.name.value == name).and_then(|c| c.data_type.as_ref());
        let in_test = given.and_then(|g| g.types.iter().find(|(n, _)| n.value == name)).map(|(_, t)| t);
        let data_type = match declared.or(in_test) {
            Some(word) => declared_type(parts, word, declared.is_none(), findings),
            None if table.time.as_ref().is_some_and(|t| t.value == name) => time_type(),
            None => {
                let cells: Vec<&Cell> = rows.iter().filter_map(|r| cell(r, &name)).map(|c| &c.value).collect();
                look(&cells, mentioned.get(&name).copied().unwrap_or_default(), parts.timezone)
            }
        };
        typed.push((name, data_type));
    }
    typed
}

/// A type by its SQL name; one of sources.yaml that is none is reported with the table.
fn declared_type(
    parts: &EngineParts<'_>,
    word: &Spanned<String>,
    in_test: bool,
    findings: &mut Vec<Diagnostic>,
) -> DataType {
    let found = parse_type(&parts.binder(), word);
    if found.is_none() && in_test {
        findings.push(
            Diagnostic::error(Code::UnknownType, word.span, format!("`{}` is not a type", word.value))
                .with_label("not a SQL type")
                .with_help("types are BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP, VARCHAR"),
        );
    }
    found.unwrap_or(DataType::Utf8)
}

/// The type that values look like; without any, the one that is needed.
fn look(cells: &[&Cell], need: Sort, timezone: &str) -> DataType {
    let filled: Vec<&Cell> = cells.iter().copied().filter(|c| **c != Cell::Null).collect();
    let texts: Vec<&str> =
        filled.iter().filter_map(|c| if let Cell::Text(t) = c { Some(t.as_str()) } else { None }).collect();
    let numbers: Vec<&str> =
        filled.iter().filter_map(|c| if let Cell::Number(n) = c { Some(n.as_str()) } else { None }).collect();
    if filled.is_empty() {
        return match need {
            Sort::Number => DataType::Float64,
            Sort::Time => time_type(),
            Sort::Boolean => DataType::Boolean,
            Sort::Text | Sort::Unknown => DataType::Utf8,
        };
    }
    if numbers.len() == filled.len() && need != Sort::Text {
        let whole = numbers.iter().all(|n| n.parse::<i64>().is_ok());
        return if whole { DataType::Int64 } else { DataType::Float64 };
    }
    if filled.iter().all(|c| matches!(c, Cell::Boolean(_))) {
        return DataType::Boolean;
    }
    if texts.len() < filled.len() {
        return DataType::Utf8;
    }
    match need {
        Sort::Number if texts.iter().all(|t| t.parse::<f64>().is_ok()) => DataType::Float64,
        Sort::Boolean if texts.iter().all(|t| matches!(*t, "true" | "false")) => DataType::Boolean,
        Sort::Text => DataType::Utf8,
        _ if texts.iter().all(|t| is_date(t)) => {
            if need == Sort::Time {
                time_type()
            } else {
                DataType::Date32
            }
        }
        _ if texts.iter().all(|t| is_time(t)) => {
            let zoned = texts.iter().any(|t| t.ends_with('Z') || t.rfind(['+', '-']).is_some_and(|at| at > 10));
            // without a zone it is in the project's, as in files
            if zoned || timezone == "UTC" { time_type() } else { DataType::Timestamp(TimeUnit::Microsecond, None) }
        }
        _ => DataType::Utf8,
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<chrono::NaiveDate>().is_ok()
}

/// A date and a time of day.
fn is_time(text: &str) -> bool {
    text.get(..10).is_some_and(is_date)
        && text.get(10..11).is_some_and(|sign| matches!(sign, "T" | " "))
        && text.get(11..16).is_some_and(|t| chrono::NaiveTime::parse_from_str(t, "%H:%M").is_ok())
}

fn cell<'r>(row: &'r TestRow, column: &str) -> Option<&'r Spanned<Cell>> {
    row.cells.iter().find(|(name, _)| name.value == column).map(|(_, cell)| cell)
}

/// The texts of a column with their places, one a row.
fn cells_of(rows: &[TestRow], column: &str) -> Vec<(Option<String>, Span)> {
    let one = |row: &TestRow| match cell(row, column) {
        Some(cell) => (cell.value.text(), cell.span),
        None => (None, row.span),
    };
    rows.iter().map(one).collect()
}

/// Texts as values of a type.
fn column(name: &str, data_type: &DataType, cells: &[(Option<String>, Span)]) -> Bound<ArrayRef> {
    if let (true, Some((_, span))) = (data_type.is_nested(), cells.iter().find(|(text, _)| text.is_some())) {
        let message = format!("`{name}` is {data_type}, and such values cannot be given");
        let finding = Diagnostic::error(Code::TestValue, *span, message).with_label("a list or a structure");
        return Err(Box::new(finding.with_help("give the model that reads them instead")));
    }
    let texts: StringArray = cells.iter().map(|(text, _)| text.as_deref()).collect();
    let options = CastOptions { safe: false, ..CastOptions::default() };
    if let Ok(array) = cast_with_options(&texts, data_type, &options) {
        return Ok(array);
    }
    let fits = |text: &str| cast_with_options(&StringArray::from(vec![text]), data_type, &options).is_ok();
    let wrong = cells.iter().find(|(text, _)| text.as_deref().is_some_and(|t| !fits(t)));
    let Some((text, span)) = wrong.or(cells.first()) else { return Ok(new_empty_array(data_type)) };
    let shown = text.as_deref().unwrap_or_default();
    let data_type = sql_type(&data_type.to_string());
    let message = format!("`{shown}` is no value of `{name}`, which is {data_type}");
    Err(Box::new(Diagnostic::error(Code::TestValue, *span, message).with_label("does not fit the column's type")))
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .or_fail(ErrorKind::Failed, || "the given rows do not fit their table".to_owned())
}
