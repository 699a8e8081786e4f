//! The table of a sync and the statements over it. Pure.
//!
//! A table that is there is widened and never narrowed: columns are added, a number gets a larger type. Types of the author
//! stay (`uuid`, `varchar(20)`, an enum): text is read as them, value by value. What does not fit is an error.

use super::has_changes;
use crate::error::{Error, ErrorKind, Result};
use crate::model::SyncMode;
use crate::sync::destination::Batch;
use deltalake_core::arrow::datatypes::DataType;
use std::collections::BTreeMap;

/// The staging table.
const STAGE: &str = "_kinfold_stage";
/// What the server cuts longer names to.
const LONGEST_NAME: usize = 63;
/// Columns of mode `append`, before those of the sync.
const CHANGES: [(&str, &str); 4] =
    [("_operation", "text"), ("_change", "bigint"), ("_idempotency_key", "text"), ("_epoch", "bigint")];

/// A table that is there.
#[derive(Debug, Default)]
pub(super) struct Existing {
    /// Not a view or something else.
    pub(super) is_table: bool,
    /// Type by column, as the server writes it.
    pub(super) columns: BTreeMap<String, String>,
}

/// What is done in a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) before: Vec<String>,
    pub(super) copy: String,
    pub(super) after: Vec<String>,
}

/// The table that a batch goes to.
#[derive(Debug)]
pub(super) struct Target {
    schema: String,
    table: String,
    mode: SyncMode,
    /// Name and type of each column, the key first.
    columns: Vec<(String, String)>,
}

impl Target {
    pub(super) fn new(schema: &str, batch: &Batch) -> Result<Self> {
        let mut columns = Vec::new();
        if has_changes(batch.mode) {
            columns.extend(CHANGES.map(|(name, sql)| (name.to_owned(), sql.to_owned())));
        }
        for field in batch.rows.schema().fields() {
            columns.push((field.name().clone(), type_of(field.data_type())));
        }
        let target = Self { schema: schema.to_owned(), table: batch.id.sync.clone(), mode: batch.mode, columns };
        let names = target.columns.iter().map(|(name, _)| name).chain([&target.table]);
        if let Some(long) = names.into_iter().find(|name| name.len() > LONGEST_NAME) {
            let message =
                format!("`{long}` is longer than the {LONGEST_NAME} bytes that a name may have in PostgreSQL");
            return Err(Error::new(ErrorKind::Usage, message).with_help("give it a shorter name"));
        }
        Ok(target)
    }

    pub(super) fn has_changes(&self) -> bool {
        has_changes(self.mode)
    }

    /// Asks for kind of relation, column and type, one row a column.
    pub(super) fn columns_query(&self) -> String {
        format!(
            "SELECT c.relkind, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE n.nspname = {} AND c.relname = {} ORDER BY a.attnum",
            literal(&self.schema),
            literal(&self.table)
        )
    }

    fn name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// Column that rows are told apart by.
    fn unique(&self) -> &str {
        let place = if self.has_changes() { 2 } else { 0 };
        self.columns.get(place).map_or("", |(name, _)| name)
    }

    /// The statements for the table as it is.
    pub(super) fn prepare(&self, existing: Option<&Existing>) -> Result<Prepared> {
        let mut before = Vec::new();
        let mut staged = Vec::new();
        match existing {
            None => {
                before.push(self.create());
                staged.clone_from(&self.columns);
            }
            Some(existing) if !existing.is_table => {
                return Err(Error::new(ErrorKind::Failed, format!("{} is no table", self.name()))
                    .with_help("rename the sync, or remove what has its name"));
            }
            Some(existing) => {
                let mut changes = Vec::new();
                for (name, ours) in &self.columns {
                    let (change, used) = self.fitted(name, ours, existing.columns.get(name))?;
                    changes.extend(change);
                    staged.push((name.clone(), used));
                }
                if !changes.is_empty() {
                    before.push(format!("ALTER TABLE {} {}", self.name(), changes.join(", ")));
                }
            }
        }
        // what a row says of itself is needed to bring it over, also where it is no column of the table
        if !self.has_changes() {
            staged.insert(0, ("_operation".to_owned(), "text".to_owned()));
        }
        let columns: Vec<String> = staged.iter().map(|(name, sql)| format!("{} {sql}", quoted(name))).collect();
        before.push(format!("CREATE TEMPORARY TABLE {STAGE} ({}) ON COMMIT DROP", columns.join(", ")));
        Ok(Prepared { before, copy: format!("COPY {STAGE} FROM STDIN"), after: self.bring_over() })
    }

    fn create(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(name, sql)| format!("{} {sql}", quoted(name))).collect();
        format!("CREATE TABLE {} ({}, PRIMARY KEY ({}))", self.name(), columns.join(", "), quoted(self.unique()))
    }

    /// How a column is made to fit, and the type that its values are staged with.
    fn fitted(&self, name: &str, ours: &str, theirs: Option<&String>) -> Result<(Option<String>, String)> {
        let Some(theirs) = theirs else {
            return Ok((Some(format!("ADD COLUMN {} {ours}", quoted(name))), ours.to_owned()));
        };
        match fit(ours, theirs) {
            Fit::Holds => Ok((None, theirs.clone())),
            Fit::Widen(to) => Ok((Some(format!("ALTER COLUMN {} TYPE {to}", quoted(name))), to)),
            Fit::No => {
                let message =
                    format!("column `{name}` of {} is {theirs}, which cannot hold the {ours} of the sync", self.name());
                Err(Error::new(ErrorKind::Failed, message)
                    .with_help("cast the column in the sync, or change its type in the table"))
            }
        }
    }

    /// The place of the sync's key, which in a table of changes comes after what a change says of itself.
    fn person(&self) -> usize {
        if self.has_changes() { CHANGES.len() } else { 0 }
    }

    fn bring_over(&self) -> Vec<String> {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| quoted(name)).collect();
        let (table, key, all) = (self.name(), quoted(self.unique()), names.join(", "));
        let others: Vec<&String> = names.iter().filter(|name| **name != key).collect();
        let insert = |filter: &str| format!("INSERT INTO {table} ({all}) SELECT {all} FROM {STAGE}{filter}");
        // in every mode a person who withdrew goes
        let person = self.columns.get(self.person()).map(|(name, _)| quoted(name)).unwrap_or_default();
        let gone = format!(
            "DELETE FROM {table} AS t USING {STAGE} AS s WHERE s._operation = 'delete' AND t.{person} = s.{person}"
        );
        match self.mode {
            SyncMode::Upsert | SyncMode::Mirror => {
                let set: Vec<String> = others.iter().map(|n| format!("{n} = EXCLUDED.{n}")).collect();
                let action =
                    if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
                vec![format!(
                    "WITH gone AS ({gone}) {} ON CONFLICT ({key}) DO {action}",
                    insert(" WHERE _operation <> 'delete'")
                )]
            }
            SyncMode::Insert | SyncMode::Append => {
                vec![gone, format!("{} ON CONFLICT ({key}) DO NOTHING", insert(" WHERE _operation <> 'delete'"))]
            }
            SyncMode::Update if others.is_empty() => vec![gone],
            SyncMode::Update => {
                let set: Vec<String> = others.iter().map(|n| format!("{n} = s.{n}")).collect();
                let update = format!(
                    "UPDATE {table} AS t SET {} FROM {STAGE} AS s WHERE t.{key} = s.{key} AND s._operation <> 'delete'",
                    set.join(", ")
                );
                vec![gone, update]
            }
            SyncMode::Replace => vec![format!("DELETE FROM {table}"), insert("")],
        }
    }
}

/// Whether a column of a table holds what a sync sends.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    Holds,
    Widen(String),
    No,
}

const WHOLE: [&str; 3] = ["smallint", "integer", "bigint"];
const FLOATS: [&str; 2] = ["real", "double precision"];

fn fit(ours: &str, theirs: &str) -> Fit {
    let place = |of: &[&str], name: &str| of.iter().position(|t| *t == name);
    // text is read as whatever the column is, and a column of text takes the text of any value
    if ours == theirs || ours == "text" || theirs == "text" {
        return Fit::Holds;
    }
    for family in [&WHOLE[..], &FLOATS[..]] {
        if let (Some(own), Some(other)) = (place(family, ours), place(family, theirs)) {
            return if own <= other { Fit::Holds } else { Fit::Widen(ours.to_owned()) };
        }
    }
    match (ours, theirs) {
        (_, "numeric") if ours.starts_with("numeric(") || WHOLE.contains(&ours) => Fit::Holds,
        ("date", _) if theirs.starts_with("timestamp") => Fit::Holds,
        ("jsonb", "json") => Fit::Holds,
        _ => match (digits(ours), digits(theirs)) {
            (Some((whole, fraction)), Some((there, places))) if whole <= there && fraction <= places => Fit::Holds,
            (Some((whole, fraction)), Some((there, places))) => {
                let (whole, fraction) = (whole.max(there), fraction.max(places));
                Fit::Widen(format!("numeric({},{fraction})", whole + fraction))
            }
            _ => Fit::No,
        },
    }
}

/// Digits before and after the point of `numeric(precision,scale)`.
fn digits(name: &str) -> Option<(u32, u32)> {
    let (precision, scale) = name.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale): (u32, u32) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    Some((precision.checked_sub(scale)?, scale))
}

/// The type that holds every value of one of ours.
fn type_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Decimal128(precision, scale) => return format!("numeric({precision},{scale})"),
        DataType::Date32 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Binary => "bytea",
        nested if nested.is_nested() => "jsonb",
        _ => "text",
    }
    .to_owned()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    // `E''` reads alike whatever `standard_conforming_strings` says
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(mode: SyncMode, columns: &[(&str, &str)]) -> Target {
        let columns = columns.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
        Target { schema: "public".into(), table: "li\"st".into(), mode, columns }
    }

    fn existing(columns: &[(&str, &str)]) -> Existing {
        let columns = columns.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
        Existing { is_table: true, columns }
    }

    #[test]
    fn types_widen_and_never_narrow() {
        let widen = |to: &str| Fit::Widen(to.to_owned());
        let cases = [
            ("bigint", "integer", widen("bigint")),
            ("integer", "bigint", Fit::Holds),
            ("bigint", "numeric", Fit::Holds),
            ("bigint", "double precision", Fit::No),
            ("double precision", "bigint", Fit::No),
            ("double precision", "real", widen("double precision")),
            ("numeric(10,2)", "numeric(12,1)", widen("numeric(13,2)")),
            ("numeric(10,2)", "numeric(12,2)", Fit::Holds),
            ("numeric(10,2)", "integer", Fit::No),
            ("text", "uuid", Fit::Holds),
            ("boolean", "text", Fit::Holds),
            ("boolean", "integer", Fit::No),
            ("date", "timestamp with time zone", Fit::Holds),
            ("timestamp with time zone", "date", Fit::No),
            ("timestamp with time zone", "timestamp without time zone", Fit::No),
        ];
        for (ours, theirs, expected) in cases {
            assert_eq!(fit(ours, theirs), expected, "{ours} into {theirs}");
        }
    }

    #[test]
    fn statements_say_what_the_modes_say() {
        let columns = [("id", "text"), ("n", "bigint")];
        let made = target(SyncMode::Mirror, &columns).prepare(None).unwrap();
        assert_eq!(
            made.before,
            [
                "CREATE TABLE \"public\".\"li\"\"st\" (\"id\" text, \"n\" bigint, PRIMARY KEY (\"id\"))",
                "CREATE TEMPORARY TABLE _kinfold_stage (\"_operation\" text, \"id\" text, \"n\" bigint) ON COMMIT DROP",
            ]
        );
        let there = existing(&[("id", "uuid"), ("n", "integer"), ("theirs", "text")]);
        let made = target(SyncMode::Update, &columns).prepare(Some(&there)).unwrap();
        assert_eq!(
            made.before,
            [
                "ALTER TABLE \"public\".\"li\"\"st\" ALTER COLUMN \"n\" TYPE bigint",
                "CREATE TEMPORARY TABLE _kinfold_stage (\"_operation\" text, \"id\" uuid, \"n\" bigint) ON COMMIT DROP",
            ]
        );
        assert_eq!(
            made.after,
            [
                "DELETE FROM \"public\".\"li\"\"st\" AS t USING _kinfold_stage AS s \
                 WHERE s._operation = 'delete' AND t.\"id\" = s.\"id\"",
                "UPDATE \"public\".\"li\"\"st\" AS t SET \"n\" = s.\"n\" FROM _kinfold_stage AS s \
                 WHERE t.\"id\" = s.\"id\" AND s._operation <> 'delete'",
            ]
        );
        let error = target(SyncMode::Upsert, &columns).prepare(Some(&existing(&[("n", "boolean")]))).unwrap_err();
        assert!(error.to_string().contains("is boolean, which cannot hold the bigint"), "{error}");
        assert!(target(SyncMode::Upsert, &columns).prepare(Some(&Existing::default())).is_err());
        assert_eq!(literal("a'b\\c"), "E'a''b\\\\c'");
    }
}
