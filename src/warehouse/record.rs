//! Run records: which versions of all tables belong together.

use super::store::{State, number_of, numbered};
use crate::error::{Error, ErrorKind, Result};
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const FOLDER: &str = "_kinfold/runs";
/// Format of records and staged lists that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
/// Requests at once when many small objects are read or written.
pub(super) const AT_ONCE: usize = 8;

/// A table and the version of it that is visible.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableAt {
    /// Dotted name.
    pub name: String,
    /// Delta version.
    pub version: u64,
    /// The run that last wrote it.
    pub run: u64,
}

/// What is visible after a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The run whose record says so; none before the first.
    pub run: Option<u64>,
    /// Tables by name.
    pub tables: BTreeMap<String, TableAt>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// All its tables are visible.
    Committed,
    /// None of its tables is visible; the note says why.
    Abandoned,
}

/// That a run is over, and what is visible after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this format.
    pub format: u32,
    /// Number of the run.
    pub run: u64,
    /// How it ended.
    pub status: RunStatus,
    /// When its tables were staged.
    pub committed_at: DateTime<Utc>,
    /// Why it was abandoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// All visible tables, also those that this run did not write.
    pub tables: BTreeMap<String, TableAt>,
    /// What the caller wanted to be kept with the run.
    pub content: Value,
}

impl RunRecord {
    /// Names of the tables that this run changed.
    pub fn changed(&self) -> impl Iterator<Item = &str> {
        self.tables.values().filter(|at| at.run == self.run).map(|at| at.name.as_str())
    }

    /// What is visible after this run.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { run: Some(self.run), tables: self.tables.clone() }
    }
}

/// Numbers of all runs that are over, ascending.
pub(super) async fn numbers(state: &State) -> Result<Vec<u64>> {
    Ok(state.names(FOLDER).await?.iter().filter_map(|n| number_of(n)).collect())
}

/// The record of a run.
///
/// # Errors
/// `Data` when it is not there, damaged, or of a newer format; `Storage`.
pub(super) async fn load(state: &State, run: u64) -> Result<RunRecord> {
    let name = numbered(FOLDER, run);
    let value: Option<Value> = state.get_json(&name).await?;
    let Some(value) = value else {
        return Err(Error::new(ErrorKind::Data, format!("there is no record of run {run}"))
            .with_help("`kinfold runs` lists the runs"));
    };
    check_format(&name, &value)?;
    serde_json::from_value(value)
        .map_err(|e| Error::new(ErrorKind::Data, format!("the record of run {run} is damaged")).caused_by(e))
}

/// The record of a run that somebody names.
///
/// # Errors
/// `Usage` when there is none, with the runs that there are; as [`load`] otherwise.
pub(super) async fn named(state: &State, run: u64) -> Result<RunRecord> {
    let numbers = numbers(state).await?;
    if numbers.binary_search(&run).is_ok() {
        return load(state, run).await;
    }
    let (Some(oldest), Some(newest)) = (numbers.first(), numbers.last()) else {
        return Err(Error::new(ErrorKind::Usage, format!("there is no run {run}: nothing has been run yet"))
            .with_help("`kinfold run` makes the first"));
    };
    // runs are numbered without gaps, so that one that is missing among them was there
    let message = if (1..*newest).contains(&run) {
        format!("the tables of run {run} were vacuumed")
    } else {
        format!("there is no run {run}")
    };
    Err(Error::new(ErrorKind::Usage, message)
        .with_help(format!("runs {oldest} to {newest} can be read; `kinfold runs` lists them")))
}

/// Refuses what a newer version wrote.
pub(super) fn check_format(name: &str, value: &Value) -> Result<()> {
    let format = value.get("format").and_then(Value::as_u64).unwrap_or(0);
    if format <= u64::from(FORMAT) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Data, format!("`{name}` was written by a newer version (format {format})"))
        .with_help("use the newest version of kinfold on this warehouse"))
}

/// The newest `limit` records, newest first.
pub(super) async fn newest(state: &State, limit: usize) -> Result<Vec<RunRecord>> {
    let numbers = numbers(state).await?;
    futures::stream::iter(numbers.into_iter().rev().take(limit))
        .map(|run| load(state, run))
        .buffered(AT_ONCE)
        .try_collect()
        .await
}
