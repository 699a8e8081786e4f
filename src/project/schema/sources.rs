//! The keys of `sources.yaml`.

use super::checks::{ColumnTest, DataTest};
use super::values::{Anything, Boolean, ByKey, Duration, Filled, Name, OneOrMany, OrNothing, Sql, Text, Word};
use schemars::JsonSchema;

/// Where raw rows are, and what of them is read.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "sources.yaml")]
pub(super) struct SourcesFile {
    /// The sources.
    sources: Vec<Source>,
}

/// Tables that lie in one place.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Source {
    /// First part of its tables' names: `web` in `web.tracks`.
    name: Name,
    /// Free text for people.
    description: Option<Text>,
    /// Folder (relative ones start at the project), `file:///folder` or `s3://bucket/prefix`.
    location: Filled,
    /// `required`: a column reaches a destination only if it has a label, or says `label: none`.
    labels: Option<Word<Required>>,
    /// Regions in which its data stay: destinations of other regions get nothing of it.
    regions: Option<OneOrMany<Filled>>,
    /// How old rows may be. Has no effect in this version.
    freshness: Option<Anything>,
    /// Its tables.
    tables: Vec<Table>,
}

/// One raw table: files of one format below the source's location.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("dependencies" = {"version": ["row_id"]}))]
pub(super) struct Table {
    /// Second part of the table's name: `tracks` in `web.tracks`.
    name: Name,
    /// Free text for people.
    description: Option<Anything>,
    /// Folder, file or pattern (`*`, `?`, `[ab]`) below the location; of a Delta table its folder. Folders are read with their subfolders, and
    /// folders such as `day=2026-03-01/` become text columns.
    path: Filled,
    /// Format of the files; default by the path's ending, else `parquet`.
    format: Option<Word<TableFormat>>,
    /// Column with the time at which the event happened. Windows, sequences, `first` and `last` need it.
    time: Option<Filled>,
    /// Column that names a row in evidence.
    row_id: Option<Filled>,
    /// Rows with one `row_id` are states of one record; the row with the greatest version is the record.
    version: Option<Filled>,
    /// A row that was delivered again counts once.
    dedupe: Option<Dedupe>,
    /// `true`: only new files appear. Kept for later versions, changes nothing yet.
    append_only: Option<Boolean>,
    /// What a file means that the last run read and that is gone: `error` (default) stops the run, `keep` leaves its
    /// rows as they were, from a copy, `forget` lets them go.
    vanished: Option<Word<Vanished>>,
    /// `false`: the table is not read, and using it is an error.
    enabled: Option<Boolean>,
    /// How old rows may be. Has no effect in this version.
    freshness: Option<Anything>,
    /// What is read at all; what is left out does not exist for models.
    select: Option<Select>,
    /// What is known of its columns, by column; an empty value only names it.
    columns: Option<ByKey<OrNothing<Column>>>,
    /// Privacy classes of the fact that a row is there.
    labels: Option<OneOrMany<Filled>>,
    /// Another spelling of `labels`.
    label: Option<OneOrMany<Filled>>,
    /// Data tests: what must be true of its rows before anything is made from them.
    tests: Option<Vec<DataTest>>,
}

/// The word that asks for labels.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum Required {
    Required,
}

/// Formats of files.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum TableFormat {
    Parquet,
    Csv,
    Ndjson,
    Delta,
}

/// What a file that disappeared means.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum Vanished {
    Error,
    Keep,
    Forget,
}

/// Which rows are one row.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Dedupe {
    /// Column: of rows with an equal value the earliest stays. Rows without a value all stay.
    by: Filled,
    /// Only if each follows the one before within that time. Needs the table's `time`.
    within: Option<Duration>,
}

/// Rows and columns that are read at all.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Select {
    /// SQL over the raw columns: only these rows.
    r#where: Option<Sql>,
    /// Only these columns; either this or `exclude`.
    include: Option<OneOrMany<Filled>>,
    /// All columns but these; either this or `include`.
    exclude: Option<OneOrMany<Filled>>,
}

/// A column of a raw table.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Column {
    /// SQL type that the raw value is read as, such as `TIMESTAMP`. Columns of CSV are text until it says otherwise.
    r#type: Option<Filled>,
    /// Privacy classes, such as `identity.email`; `none` if there is nothing to protect.
    label: Option<OneOrMany<Filled>>,
    /// Free text for people.
    description: Option<Text>,
    /// Data tests of the column.
    tests: Option<Vec<ColumnTest>>,
}
