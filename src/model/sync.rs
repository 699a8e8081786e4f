//! Destinations and `kind: sync`.

use super::http::HttpDestination;
use super::{Asked, Duration};
use crate::diagnostic::Spanned;

/// Somewhere rows go.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Unique name.
    pub name: Spanned<String>,
    /// What it is and how to reach it.
    pub kind: DestinationKind,
    /// Where it keeps what it gets, as sources name it under `regions`.
    pub region: Option<Spanned<String>>,
    /// Labels it may get, each with those below it.
    pub allow: Vec<Spanned<String>>,
    /// Purposes that it serves; any, if none is named.
    pub purposes: Vec<Spanned<String>>,
    /// Whether an agreement covers health data: without it, it gets nothing that is `phi`.
    pub baa: bool,
}

/// Kinds of destination.
#[derive(Debug, Clone)]
pub enum DestinationKind {
    /// Files in a folder or an object store.
    Files {
        /// Folder or URL; relative paths are relative to the project.
        location: Spanned<String>,
        /// Format of the files.
        format: FileFormat,
    },
    /// Delta tables in a folder or an object store.
    Delta {
        /// Folder or URL; relative paths are relative to the project.
        location: Spanned<String>,
    },
    /// Requests to a service.
    Http(Box<HttpDestination>),
    /// Tables of a PostgreSQL server.
    Postgres {
        /// `postgres://user:password@host:port/database`; holds a secret.
        url: Spanned<String>,
        /// Schema of the tables.
        schema: String,
    },
}

/// Formats of the `files` destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated text with a header line.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// A sync of one model's rows to one destination.
#[derive(Debug, Clone)]
pub struct SyncModel {
    /// The model whose rows are sent; an audience comes joined to its profile.
    pub from: Spanned<String>,
    /// The destination.
    pub to: Spanned<String>,
    /// What is done with rows that are there already.
    pub mode: SyncMode,
    /// Column of `from` that names a row.
    pub key: Spanned<String>,
    /// Destination column and SQL expression, in the author's order.
    pub columns: Vec<(Spanned<String>, Spanned<String>)>,
    /// What people must have agreed to; without it nobody is asked.
    pub asked: Option<Asked>,
    /// That rows are groups of people, of which small ones are not sent.
    pub cells: Option<Cells>,
    /// `enabled: false` keeps history and sends nothing.
    pub enabled: bool,
    /// Largest share of acknowledged rows that a run may delete, in percent.
    pub max_delete_percent: f64,
    /// Largest share of sent rows that may be rejected before the sync fails, in percent.
    pub fail_above_percent: Option<f64>,
    /// Size and speed of what is sent.
    pub batch: BatchLimits,
    /// How long a batch that the destination cannot take is tried again.
    pub retry_for: Option<Spanned<Duration>>,
}

impl SyncModel {
    /// The key's name at the destination: that of the column which sends it, else its own.
    pub fn key_column(&self) -> &str {
        let sent = self.columns.iter().find(|(_, sql)| sql.value.trim() == self.key.value.trim());
        sent.map_or(self.key.value.as_str(), |(column, _)| column.value.as_str())
    }
}

/// Groups of people, as a sync sends them.
#[derive(Debug, Clone)]
pub struct Cells {
    /// Column of `from`: how many people a row counts.
    pub count: Spanned<String>,
    /// Columns of `from` that name the group; NULL in one of them means all.
    pub by: Vec<Spanned<String>>,
    /// The least that is sent.
    pub minimum: u32,
}

/// Size and speed of what is sent; what is not said is the destination's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchLimits {
    /// Rows of a batch.
    pub rows: Option<u32>,
    /// Batches in a second.
    pub per_second: Option<f64>,
    /// Batches at once.
    pub concurrency: Option<u32>,
}

/// What a sync does with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Insert and update.
    Upsert,
    /// Insert only.
    Insert,
    /// Update only.
    Update,
    /// Every change as a row.
    Append,
    /// Upsert, and delete what left.
    Mirror,
    /// The whole table, swapped in one step.
    Replace,
}

impl SyncMode {
    /// The word that `mode:` uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Append => "append",
            Self::Mirror => "mirror",
            Self::Replace => "replace",
        }
    }
}
