//! `schemas.lock`: the columns of source tables as they were when somebody looked last.
//!
//! With it a project is checked without data and credentials. The file is JSON, sorted by table, one column a line,
//! so that a change of the data's shape is a readable difference in review. Columns are those of the files, before
//! `select` and declared types.

use super::mistakes::sql_type;
use super::sources;
use super::{Engine, EngineParts};
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::SourceTable;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

const FORMAT: u32 = 1;

/// Columns of source tables, by dotted name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SchemaLock {
    tables: BTreeMap<String, SchemaRef>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    tables: BTreeMap<String, Vec<(String, String)>>,
}

impl SchemaLock {
    /// Reads the text of a lock file.
    ///
    /// # Errors
    /// `Usage` when it is not one that this version wrote.
    pub fn parse(text: &str) -> Result<Self> {
        let doing = || "cannot read schemas.lock".to_owned();
        let help = "write it anew with `kinfold sources refresh`";
        let file: File = serde_json::from_str(text).or_fail(ErrorKind::Usage, doing).map_err(|e| e.with_help(help))?;
        if file.format != FORMAT {
            let error = Error::new(ErrorKind::Usage, "schemas.lock has another format than this version reads");
            return Err(error.with_help(help));
        }
        let mut tables = BTreeMap::new();
        for (table, columns) in file.tables {
            let mut fields = Vec::with_capacity(columns.len());
            for (name, data_type) in columns {
                let parsed = data_type.parse::<DataType>();
                let doing = || format!("schemas.lock: `{table}.{name}` has the unknown type `{data_type}`");
                fields.push(Field::new(
                    &name,
                    parsed.or_fail(ErrorKind::Usage, doing).map_err(|e| e.with_help(help))?,
                    true,
                ));
            }
            tables.insert(table, Arc::new(Schema::new(fields)));
        }
        Ok(Self { tables })
    }

    /// The text of the lock file.
    pub fn to_text(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let tables = self.tables.iter().map(|(table, schema)| {
            let columns = schema
                .fields()
                .iter()
                .map(|f| format!("      [{}, {}]", quoted(f.name()), quoted(&f.data_type().to_string())));
            format!("    {}: [\n{}\n    ]", quoted(table), columns.collect::<Vec<_>>().join(",\n"))
        });
        let tables = tables.collect::<Vec<_>>().join(",\n");
        format!("{{\n  \"format\": {FORMAT},\n  \"tables\": {{\n{tables}\n  }}\n}}\n")
    }

    /// Columns of a table.
    pub(super) fn get(&self, table: &str) -> Option<&SchemaRef> {
        self.tables.get(table)
    }

    /// How many tables it knows.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether it knows no table.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// What differs in `now`, by table, a line each: `+ column: type`, `- column: type`, `~ column: type -> type`.
    pub fn differences(&self, now: &Self) -> BTreeMap<String, Vec<String>> {
        let tables: BTreeSet<&String> = self.tables.keys().chain(now.tables.keys()).collect();
        let empty = Arc::new(Schema::empty());
        let schema = |lock: &Self, table: &String| Arc::clone(lock.tables.get(table).unwrap_or(&empty));
        tables
            .into_iter()
            .map(|table| (table.clone(), drift(&schema(self, table), &schema(now, table))))
            .filter(|(_, lines)| !lines.is_empty())
            .collect()
    }
}

/// Columns that are gone, new or of another type, with types as SQL calls them.
fn drift(before: &Schema, now: &Schema) -> Vec<String> {
    let word = |data_type: &DataType| sql_type(&data_type.to_string());
    let mut lines = Vec::new();
    for field in before.fields() {
        match now.field_with_name(field.name()) {
            Err(_) => lines.push(format!("- {}: {}", field.name(), word(field.data_type()))),
            Ok(other) if other.data_type() != field.data_type() => {
                let (mut old, mut new) = (word(field.data_type()), word(other.data_type()));
                if old == new {
                    (old, new) = (field.data_type().to_string(), other.data_type().to_string());
                }
                lines.push(format!("~ {}: {old} -> {new}", field.name()));
            }
            Ok(_) => {}
        }
    }
    let new = now.fields().iter().filter(|f| before.field_with_name(f.name()).is_err());
    lines.extend(new.map(|f| format!("+ {}: {}", f.name(), word(f.data_type()))));
    lines
}

/// Says where the files of a table differ from what the lock promises. A column that came is a warning: nothing
/// that exists reads it.
pub(super) fn check(name: &str, table: &SourceTable, locked: &Schema, found: &Schema) -> Option<Diagnostic> {
    let lines = drift(locked, found);
    let (came, broke): (Vec<&String>, Vec<&String>) = lines.iter().partition(|l| l.starts_with('+'));
    let message = format!("the columns of `{name}` are not those of schemas.lock");
    let mut finding = match (broke.is_empty(), came.is_empty()) {
        (true, true) => return None,
        (true, false) => Diagnostic::warning(Code::SchemaDrift, table.path.span, message),
        (false, _) => Diagnostic::error(Code::SchemaDrift, table.path.span, message),
    };
    for line in broke.into_iter().chain(came) {
        finding = finding.with_note(match line.split_at(2) {
            ("- ", column) => format!("gone: {column}"),
            ("+ ", column) => format!("new: {column}"),
            (_, column) => format!("changed: {column}"),
        });
    }
    Some(
        finding
            .with_label("its files have other columns now")
            .with_help("see what reads them, then accept the new shape with `kinfold sources refresh`"),
    )
}

impl Engine {
    /// Uses the columns that a lock knows. With `without_data` a locked table is not looked at; else its files are
    /// compared with the lock.
    pub fn use_schemas(&mut self, lock: SchemaLock, without_data: bool) {
        self.lock = lock;
        self.without_data = without_data;
    }

    /// The columns that the files of source tables have now.
    ///
    /// # Errors
    /// When storage fails; tables that cannot be read are findings.
    pub async fn look_at_sources(&mut self, tables: &BTreeSet<String>) -> Result<(SchemaLock, Vec<Diagnostic>)> {
        let mut findings = Vec::new();
        let mut lock = SchemaLock::default();
        let project = Arc::clone(&self.project);
        for name in tables {
            let Some((source, table)) = project.source_table(name) else { continue };
            let parts: EngineParts<'_> = self.parts();
            if let Some(open) = sources::open(&parts, source, table, None, &mut findings).await? {
                lock.tables.insert(name.clone(), open.columns());
            }
        }
        Ok((lock, findings))
    }
}

/// The differences as text, a table a paragraph.
pub fn differences_text(differences: &BTreeMap<String, Vec<String>>) -> String {
    let mut text = String::new();
    for (table, lines) in differences {
        let _ = writeln!(text, "{table}");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::TimeUnit;

    fn lock(columns: &[(&str, DataType)]) -> SchemaLock {
        let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
        SchemaLock { tables: BTreeMap::from([("web.tracks".to_owned(), Arc::new(Schema::new(fields)) as SchemaRef)]) }
    }

    #[test]
    fn a_lock_reads_what_it_wrote() {
        let inner = Arc::new(Field::new("item", DataType::Int64, true));
        let lock = lock(&[
            ("z", DataType::Utf8),
            ("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            ("list \"q\"", DataType::List(inner)),
            ("n", DataType::Decimal128(10, 2)),
        ]);
        assert_eq!(SchemaLock::parse(&lock.to_text()).expect("it reads"), lock);
        assert_eq!(SchemaLock::parse(&SchemaLock::default().to_text()).expect("it reads"), SchemaLock::default());
    }

    #[test]
    fn a_damaged_lock_has_a_way_out() {
        for text in
            ["", "{}", "{\"format\": 2, \"tables\": {}}", "{\"format\": 1, \"tables\": {\"a.b\": [[\"c\", \"Odd\"]]}}"]
        {
            let error = SchemaLock::parse(text).expect_err(text);
            assert!(error.help().is_some_and(|h| h.contains("sources refresh")), "{text}");
        }
    }

    #[test]
    fn differences_tell_gone_changed_and_new_columns() {
        let before = lock(&[("a", DataType::Utf8), ("b", DataType::Int64), ("c", DataType::Int64)]);
        let now = lock(&[("c", DataType::Int64), ("b", DataType::Utf8), ("d", DataType::Utf8)]);
        let found = before.differences(&now);
        assert_eq!(differences_text(&found), "web.tracks\n  - a: TEXT\n  ~ b: BIGINT -> TEXT\n  + d: TEXT\n");
        assert!(now.differences(&now).is_empty());
    }
}
