//! Data tests and unit tests. What stands inside a kind of test, and the cells of rows, is left to `check`.

use super::values::{Anything, Boolean, ByKey, Filled, Name, OneOrMany, Sql, Text, Time, Whole, Word};
use schemars::JsonSchema;

/// A data test of a table: one of its kinds, and options.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct DataTest {
    /// Columns whose values are unique together, such as `id`.
    unique: Option<Anything>,
    /// Columns that are never null, such as `[id, timestamp]`.
    not_null: Option<Anything>,
    /// A column and the values that it may have: `{column: status, values: [open, done]}`. Null is allowed.
    accepted_values: Option<Anything>,
    /// A column whose values stand in another table: `{column: provider_id, to: ehr.providers.provider_id}`.
    relationships: Option<Anything>,
    /// SQL predicate that no row makes false.
    expression: Option<Anything>,
    /// How many rows there are: `{min: 1, max: 100}`, `'> 0'` or a number.
    row_count: Option<Anything>,
    /// A query that returns the failing rows.
    sql: Option<Anything>,
    /// Name of the test; by default made of its kind and columns.
    name: Option<Name>,
    /// `error` (default): what is made from the table is not committed. `warn`: it is said.
    severity: Option<Word<Severity>>,
    /// SQL predicate: only these rows are tested.
    r#where: Option<Sql>,
    /// How many failing rows are accepted; default 0.
    max_failures: Option<Whole>,
}

/// What a failed test means.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum Severity {
    Warn,
    Error,
}

/// A data test of a column: `unique`, `not_null`, or a mapping.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum ColumnTest {
    Word(ColumnWord),
    Test(ColumnDataTest),
}

/// Kinds of a test that need nothing but the column.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub(super) enum ColumnWord {
    Unique,
    NotNull,
}

/// A data test of a column: one of its kinds, and options.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct ColumnDataTest {
    /// `true`: its values are unique.
    unique: Option<Anything>,
    /// `true`: it is never null.
    not_null: Option<Anything>,
    /// The values that it may have: `[open, done]`. Null is allowed.
    accepted_values: Option<Anything>,
    /// Its values stand in another table: `ehr.providers.provider_id`.
    relationships: Option<Anything>,
    /// SQL predicate that no row makes false.
    expression: Option<Anything>,
    /// Name of the test; by default made of its kind and the column.
    name: Option<Name>,
    /// `error` (default): what is made from the table is not committed. `warn`: it is said.
    severity: Option<Word<Severity>>,
    /// SQL predicate: only these rows are tested.
    r#where: Option<Sql>,
    /// How many failing rows are accepted; default 0.
    max_failures: Option<Whole>,
}

/// A unit test: rows that are given, and rows that a model must make of them.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct UnitTest {
    /// What the document defines: a unit test.
    kind: UnitTestKind,
    /// Name of the test.
    name: Name,
    /// Free text for people.
    description: Option<Text>,
    /// Tags; nothing selects by them yet.
    tags: Option<OneOrMany<Filled>>,
    /// `false`: the test is not run.
    enabled: Option<Boolean>,
    /// The model that is tested.
    model: Filled,
    /// Logical time of the test.
    as_of: Option<Time>,
    /// Rows by source table or model: a list of mappings, or `{rows: [...]}` or `{csv: ...}` with types under `columns`.
    given: Option<ByKey<Given>>,
    /// Rows of the model, or of its tables by name: a list of mappings, or `{rows: [...]}` or `{csv: ...}` with
    /// `ordered` and `exactly`.
    expect: Anything,
}

/// Rows that are given: a list of mappings, or a mapping that says more.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Given {
    Rows(Vec<Anything>),
    Table(GivenTable),
}

/// Rows that are given, with types of columns.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct GivenTable {
    /// Rows, each a mapping from column to value; either this or `csv`.
    rows: Option<Vec<Anything>>,
    /// Rows as CSV with a header line; empty fields are null.
    csv: Option<Filled>,
    /// SQL types by column, where rows do not tell them.
    columns: Option<ByKey<Filled>>,
}

/// The word for a unit test.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum UnitTestKind {
    Test,
}
