//! Sources: where raw rows are, and which of them are read at all.

use super::{DataTest, Duration};
use crate::diagnostic::Spanned;

/// A place with tables.
#[derive(Debug, Clone)]
pub struct Source {
    /// First part of a table's name.
    pub name: Spanned<String>,
    /// Free text for people.
    pub description: Option<String>,
    /// Folder or URL (`s3://`, `gs://`, `az://`, `http(s)://`), environment already expanded.
    pub location: Spanned<String>,
    /// Regions in which its data stay, or those that the whole project names; anywhere, if none is named.
    pub regions: Vec<Spanned<String>>,
    /// Whether what reaches a destination must have a label.
    pub labels_required: bool,
    /// Its tables, enabled or not.
    pub tables: Vec<SourceTable>,
}

impl Source {
    /// Whether a value of a column may tell of a person, so that no message shows it.
    pub fn protects(&self, column: &Column) -> bool {
        column.labels.as_ref().map_or(self.labels_required, |labels| !labels.is_empty())
    }
}

/// One table of a source.
#[derive(Debug, Clone)]
pub struct SourceTable {
    /// Second part of the table's name.
    pub name: Spanned<String>,
    /// Folder, file or glob below the source's location.
    pub path: Spanned<String>,
    /// File format.
    pub format: Format,
    /// Event time column.
    pub time: Option<Spanned<String>>,
    /// Column that names a row in evidence.
    pub row_id: Option<Spanned<String>>,
    /// Rows with one `row_id` are states of one record; the greatest version is the record.
    pub version: Option<Spanned<String>>,
    /// A row delivered again counts once.
    pub dedupe: Option<Dedupe>,
    /// Only new files appear.
    pub append_only: bool,
    /// What a file means that the last run read and that is gone.
    pub vanished: Vanished,
    /// Unselected tables are not read and may not be referenced.
    pub enabled: bool,
    /// Rows and columns that are read.
    pub select: TableSelect,
    /// Declared columns.
    pub columns: Vec<Column>,
    /// Labels of the fact that a row is there.
    pub labels: Vec<Spanned<String>>,
    /// Data tests, those of columns included.
    pub tests: Vec<DataTest>,
}

/// What a file means that the last run read and that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vanished {
    /// Something went wrong: the run stops.
    #[default]
    Error,
    /// Its rows stay: a copy of them is kept.
    Keep,
    /// Its rows are gone.
    Forget,
}

/// File formats of source tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated text with a header line.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// A Delta table.
    Delta,
}

/// `dedupe: {by: id, within: 3 days}`
#[derive(Debug, Clone)]
pub struct Dedupe {
    /// The column that is equal in both deliveries.
    pub by: Spanned<String>,
    /// How far apart two deliveries may be in event time; `None` is any distance.
    pub within: Option<Spanned<Duration>>,
}

/// Selective sync, inbound.
#[derive(Debug, Clone, Default)]
pub struct TableSelect {
    /// SQL predicate over the raw columns.
    pub filter: Option<Spanned<String>>,
    /// When given, only these columns exist.
    pub include: Option<Vec<Spanned<String>>>,
    /// Columns that do not exist for models.
    pub exclude: Vec<Spanned<String>>,
}

/// A declared column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name in the data.
    pub name: Spanned<String>,
    /// SQL type the raw value is read as (`BIGINT`, `TIMESTAMP`, ...).
    pub data_type: Option<Spanned<String>>,
    /// Privacy classes, such as `identity.email`; `None` where nothing is said, empty for `none`.
    pub labels: Option<Vec<Spanned<String>>>,
    /// Free text for people.
    pub description: Option<String>,
}
