//! Tests that an author writes: data tests of tables, and unit tests of models.

use super::Comparator;
use crate::diagnostic::{Span, Spanned};
use chrono::{DateTime, Utc};

/// What must hold of the rows of a table.
#[derive(Debug, Clone)]
pub struct DataTest {
    /// Its name, unique among the tests of the table.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// What must hold.
    pub kind: TestKind,
    /// What a failure means.
    pub severity: TestSeverity,
    /// Only these rows are tested.
    pub filter: Option<Spanned<String>>,
    /// So many rows may fail.
    pub max_failures: u64,
}

/// What a failure of a data test means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestSeverity {
    /// It is said, and everything goes on.
    Warn,
    /// What reads the table is not built, and the table is not committed.
    #[default]
    Error,
}

impl TestSeverity {
    /// The word that `severity:` uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The sorts of data test.
#[derive(Debug, Clone)]
pub enum TestKind {
    /// No two rows have the same values in these columns; rows with a null among them are not compared.
    Unique(Vec<Spanned<String>>),
    /// None of these columns is null.
    NotNull(Vec<Spanned<String>>),
    /// The column holds one of these values, or null.
    AcceptedValues {
        /// The column.
        column: Spanned<String>,
        /// The values as written; they are read in the column's type.
        values: Vec<Spanned<String>>,
    },
    /// Each value that is not null is in a column of another table.
    Relationships {
        /// The column.
        column: Spanned<String>,
        /// The other table: `source.table` or a model's.
        to_table: Spanned<String>,
        /// Its column.
        to_column: Spanned<String>,
    },
    /// A predicate that is false for no row; where it is null, nothing is said.
    Expression(Spanned<String>),
    /// Bounds of the number of rows.
    RowCount {
        /// Where they stand.
        span: Span,
        /// All of these hold.
        bounds: Vec<(Comparator, u64)>,
    },
    /// A query that returns the rows that fail.
    Sql(Spanned<String>),
}

impl TestKind {
    /// The key that authors write.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unique(_) => "unique",
            Self::NotNull(_) => "not_null",
            Self::AcceptedValues { .. } => "accepted_values",
            Self::Relationships { .. } => "relationships",
            Self::Expression(_) => "expression",
            Self::RowCount { .. } => "row_count",
            Self::Sql(_) => "sql",
        }
    }

    /// The columns that it is about.
    pub fn columns(&self) -> Vec<&Spanned<String>> {
        match self {
            Self::Unique(columns) | Self::NotNull(columns) => columns.iter().collect(),
            Self::AcceptedValues { column, .. } | Self::Relationships { column, .. } => vec![column],
            Self::Expression(_) | Self::RowCount { .. } | Self::Sql(_) => Vec::new(),
        }
    }
}

/// Given rows, and the rows that a model then makes.
#[derive(Debug, Clone)]
pub struct UnitTest {
    /// Its name, unique in the project.
    pub name: Spanned<String>,
    /// Path of the defining file, relative to the project, with forward slashes.
    pub path: String,
    /// The model that is tested.
    pub model: Spanned<String>,
    /// Logical time; `None` is the project's.
    pub as_of: Option<DateTime<Utc>>,
    /// Rows in place of source tables, or of whole models.
    pub given: Vec<GivenTable>,
    /// Rows that must come out.
    pub expect: Vec<ExpectedTable>,
}

/// Rows in place of a source table or a model.
#[derive(Debug, Clone)]
pub struct GivenTable {
    /// The source table or model.
    pub name: Spanned<String>,
    /// Types of columns whose type nothing else says.
    pub types: Vec<(Spanned<String>, Spanned<String>)>,
    /// The rows.
    pub rows: Vec<TestRow>,
}

/// Rows that a table must have.
#[derive(Debug, Clone)]
pub struct ExpectedTable {
    /// The table: the model's main one, one beside it, or that of a model on the way.
    pub name: Spanned<String>,
    /// The rows.
    pub rows: Vec<TestRow>,
    /// Whether their order counts.
    pub ordered: bool,
    /// Whether there may be no others.
    pub exactly: bool,
}

/// A row as written: only the columns that it names.
#[derive(Debug, Clone)]
pub struct TestRow {
    /// Where it stands.
    pub span: Span,
    /// Column and value, in the author's order.
    pub cells: Vec<(Spanned<String>, Spanned<Cell>)>,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// No value.
    Null,
    /// Text.
    Text(String),
    /// A number, as written.
    Number(String),
    /// True or false.
    Boolean(bool),
    /// A list, as its values are shown: `[a, b]`.
    List(String),
}

impl Cell {
    /// The value as text; `None` is null.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) | Self::Number(text) | Self::List(text) => Some(text.clone()),
            Self::Boolean(value) => Some(value.to_string()),
        }
    }
}
