//! What goes into the audit log ([`crate::warehouse::AuditLog`]), and by whom.

use super::prepare::{Failure, Options, loaded};
use super::run::{now, warehouse_of};
use crate::engine::{Reader, without_values};
use crate::error::Result;
use crate::graph::owner;
use crate::model::Project;
use crate::warehouse::{AuditEntry, AuditHead, AuditLog, AuditReport, Snapshot, Warehouse};
use deltalake_core::arrow::array::{Array as _, AsArray as _, RecordBatch};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Tables about runs that may hold values of rows.
const WITH_VALUES: [&str; 2] = ["kinfold.sync_", "kinfold.test_failures"];

/// Somebody looks at rows.
#[derive(Debug)]
pub struct Reading<'a> {
    /// `query`, `export`, `explain` or `diff`.
    pub action: &'static str,
    /// Tables whose rows are shown.
    pub tables: BTreeSet<String>,
    /// What else there is to know; no values of rows.
    pub facts: Vec<(&'static str, Value)>,
    /// The SQL of a question.
    pub sql: Option<&'a str>,
}

impl Reading<'_> {
    /// Rows of these tables are shown.
    pub fn of(action: &'static str, tables: impl IntoIterator<Item = String>) -> Self {
        Self { action, tables: tables.into_iter().collect(), facts: Vec::new(), sql: None }
    }
}

/// Adds an entry.
pub(super) async fn note(warehouse: &Warehouse, options: &Options, action: &str, facts: Value) -> Result<AuditHead> {
    let log = AuditLog::new(warehouse.state());
    let head = log.append(&who(options), action, facts, now()).await;
    head.map_err(|e| e.context("nothing is done with people's data that cannot be written down"))
}

/// User and machine, as far as the environment names them.
pub(super) fn who(options: &Options) -> String {
    let named = |names: [&str; 2]| names.iter().find_map(|n| options.environment.get(*n).filter(|v| !v.is_empty()));
    let user = named(["USER", "LOGNAME"]).map_or("somebody", String::as_str);
    match named(["HOSTNAME", "HOST"]) {
        Some(host) => format!("{user}@{host}"),
        None => user.to_owned(),
    }
}

/// Notes that somebody reads tables, where any of them has a label, or may have one. To be called before the rows are shown.
///
/// # Errors
/// Findings when the project does not load; an error when the entry cannot be written: then nothing may be shown.
pub async fn note_reading(options: &Options, reading: Reading<'_>) -> Result<(), Failure> {
    let (project, _, _) = loaded(options)?;
    if !has_labels(&project) {
        return Ok(());
    }
    let warehouse = warehouse_of(&project, options)?;
    let snapshot = warehouse.snapshot(None).await?;
    let known = known_labels(&warehouse, &snapshot).await?;
    let mut tables: BTreeMap<&String, Value> = BTreeMap::new();
    for table in &reading.tables {
        if let Some(labels) = labels_of(&project, &known, table) {
            tables.insert(table, labels);
        }
    }
    if tables.is_empty() {
        return Ok(());
    }
    let mut facts = json!({"tables": tables});
    if let Some(fields) = facts.as_object_mut() {
        fields.extend(reading.facts.into_iter().map(|(name, value)| (name.to_owned(), value)));
        // what is asked may name people
        fields.extend(reading.sql.map(|sql| ("statement".to_owned(), without_values(sql).into())));
    }
    note(&warehouse, options, reading.action, facts).await?;
    Ok(())
}

/// As [`note_reading`], for a question of SQL.
///
/// # Errors
/// As [`note_reading`].
pub async fn note_question(
    options: &Options,
    reader: &Reader,
    (action, sql): (&'static str, &str),
    facts: Vec<(&'static str, Value)>,
) -> Result<(), Failure> {
    let tables = reader.names_in(sql)?;
    note_reading(options, Reading { action, tables, facts, sql: Some(sql) }).await
}

fn has_labels(project: &Project) -> bool {
    let of_source = |table: &crate::model::SourceTable| {
        !table.labels.is_empty() || table.columns.iter().any(|c| c.labels.as_ref().is_some_and(|l| !l.is_empty()))
    };
    project.sources.iter().any(|s| s.labels_required || s.tables.iter().any(of_source))
        || project.models.values().any(|m| !m.privacy.labels.is_empty() || !m.privacy.columns.is_empty())
}

/// Labels of every model's columns as the last runs left them; none of a model whose columns are not known.
async fn known_labels(warehouse: &Warehouse, snapshot: &Snapshot) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let Some(at) = snapshot.tables.get("kinfold.columns") else { return Ok(known) };
    for batch in warehouse.read_all(&*warehouse.table(at).await?).await? {
        for (model, labels) in labelled(&batch) {
            let split = labels.split(", ").filter(|l| !l.is_empty()).map(str::to_owned);
            known.entry(model).or_default().extend(split);
        }
    }
    Ok(known)
}

fn labelled(batch: &RecordBatch) -> Vec<(String, String)> {
    let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
    let (Some(models), Some(labels)) = (text("model"), text("labels")) else { return Vec::new() };
    let known = (0..batch.num_rows()).filter(|row| labels.is_valid(*row));
    known.map(|row| (models.value(row).to_owned(), labels.value(row).to_owned())).collect()
}

/// The labels of a table, null where they are not known; nothing where it has none.
fn labels_of(project: &Project, known: &BTreeMap<String, BTreeSet<String>>, table: &str) -> Option<Value> {
    if table.starts_with("kinfold.") {
        return WITH_VALUES.iter().any(|t| table.starts_with(t)).then_some(Value::Null);
    }
    let labels = match project.source_table(table) {
        Some((source, found)) => {
            let said = found.columns.iter().filter_map(|c| c.labels.as_ref()).flatten().chain(&found.labels);
            let said: BTreeSet<String> = said.map(|l| l.value.clone()).collect();
            if said.is_empty() && source.labels_required {
                return Some(Value::Null);
            }
            said
        }
        None => match known.get(&owner(project, table)) {
            Some(labels) => labels.clone(),
            None => return Some(Value::Null),
        },
    };
    (!labels.is_empty()).then(|| json!(labels))
}

/// Checks the whole log.
///
/// # Errors
/// Findings when the project does not load; `Storage`.
pub async fn verify_audit(options: &Options, kept: Option<&AuditHead>) -> Result<AuditReport, Failure> {
    let (project, _, _) = loaded(options)?;
    let warehouse = warehouse_of(&project, options)?;
    Ok(AuditLog::new(warehouse.state()).verify(kept).await?)
}

/// The newest entries, newest first.
///
/// # Errors
/// As [`verify_audit`].
pub async fn audit_entries(options: &Options, limit: usize) -> Result<Vec<AuditEntry>, Failure> {
    let (project, _, _) = loaded(options)?;
    let warehouse = warehouse_of(&project, options)?;
    Ok(AuditLog::new(warehouse.state()).entries(limit).await?)
}
