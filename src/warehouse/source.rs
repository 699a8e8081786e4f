//! Delta tables that other programs write, as sources: which files have the rows of a version, and what became of files
//! between two versions.
//!
//! # Rules
//! - The newest version counts when a table is opened; nothing that is committed later is seen.
//! - The schema is that of the log. Values of partition columns are those of the log, not of the names of folders.
//! - What the log cannot tell of plain files (deletion vectors, column mapping, files elsewhere) is refused.
//! - A commit says of each file whether rows came or went with it (`dataChange`): an `OPTIMIZE` moves rows to other files and
//!   changes none.

use super::store::numbered;
use super::table::{Feature, log_store, own_name, refuse_mapping};
use crate::error::{Context, Error, ErrorKind, Result};
use chrono::{DateTime, Utc};
use deltalake_core::DeltaTableError;
use deltalake_core::arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake_core::kernel::{Action, EagerSnapshot};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::collections::BTreeSet;
use std::sync::Arc;
use url::Url;

/// Commits that are looked at for what became of files; beyond, reading all rows again is no worse.
const MOST_COMMITS: u64 = 1_000;
/// Commits that are read at a time.
const AT_ONCE: usize = 16;
/// What to do about a log that does not make sense.
const REPAIR: &str = "the program that writes the table may know how to repair it; else bring its `_delta_log` back \
     from a backup, or set `enabled: false`";

/// A table of another program at one version.
#[derive(Debug, Clone)]
pub struct DeltaSource {
    /// Its version.
    pub version: u64,
    /// What tells it from another table at the same place.
    pub id: String,
    /// All columns, in the order of the log.
    pub schema: SchemaRef,
    /// Columns whose values the log has, file by file.
    pub partitions: Vec<String>,
    /// Its files, in the order of their paths.
    pub files: Vec<DeltaSourceFile>,
}

/// A file of a table of another program.
#[derive(Debug, Clone)]
pub struct DeltaSourceFile {
    /// Path from the store's root.
    pub path: Path,
    /// Size in bytes.
    pub size: u64,
    /// Number of rows, if the writer said.
    pub rows: Option<u64>,
    /// When it was written.
    pub modified: DateTime<Utc>,
    /// Values of the partition columns, as text.
    pub values: Vec<Option<String>>,
}

/// Files with which rows came or went between two versions, by their paths from the store's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataChanges {
    /// Files that brought rows.
    pub added: BTreeSet<String>,
    /// Files that took rows with them.
    pub removed: BTreeSet<String>,
}

impl DeltaSource {
    /// Opens the newest version of the table in `folder` of `store` (at its root). `url` is that of the folder. Nothing
    /// when there is no Delta table.
    ///
    /// # Errors
    /// `Data` when the log makes no sense or uses what cannot be read; `Storage`.
    pub async fn open(store: &Arc<dyn ObjectStore>, folder: &Path, url: &Url, name: &str) -> Result<Option<Self>> {
        let log = log_store(store, folder, url);
        let snapshot = match EagerSnapshot::try_new(log.as_ref(), None).await {
            Ok(snapshot) => snapshot,
            Err(DeltaTableError::NotATable(_)) => return Ok(None),
            Err(e) => return Err(unreadable(name, e)),
        };
        let configuration = snapshot.metadata().configuration();
        refuse_mapping(name, configuration.get("delta.columnMapping.mode").map(String::as_str))?;
        let schema: Schema = snapshot.schema().as_ref().try_into_arrow().or_fail(ErrorKind::Data, || doing(name))?;
        let partitions = snapshot.metadata().partition_columns().to_vec();
        let mut files = Vec::new();
        for view in snapshot.try_log_data().map_err(|e| unreadable(name, e))?.iter() {
            own_name(name, &view)?;
            let mut values = view.partition_values_map();
            files.push(DeltaSourceFile {
                path: folder.parts().chain(view.object_store_path().parts()).collect(),
                size: u64::try_from(view.size()).unwrap_or_default(),
                rows: view.num_records().map(|n| n as u64),
                modified: DateTime::from_timestamp_millis(view.modification_time()).unwrap_or_default(),
                // no text is no value, whatever the column's type
                values: partitions.iter().map(|p| values.remove(p).flatten().filter(|v| !v.is_empty())).collect(),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let (version, id) = (snapshot.version(), snapshot.metadata().id().to_owned());
        Ok(Some(Self { version, id, schema: Arc::new(schema), partitions, files }))
    }
}

/// With which files rows came and went after one version up to another; nothing when the log does not tell any more.
///
/// # Errors
/// `Data` when an entry makes no sense; `Storage`.
pub async fn data_changes(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    name: &str,
    (after, upto): (u64, u64),
) -> Result<Option<DataChanges>> {
    if upto.saturating_sub(after) > MOST_COMMITS {
        return Ok(None);
    }
    let read = |version| async move {
        let path: Path = folder.parts().chain(Path::from(numbered("_delta_log", version)).parts()).collect();
        match store.get(&path).await {
            Ok(found) => Ok(Some(found.bytes().await.or_fail(ErrorKind::Storage, || doing(name))?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::new(ErrorKind::Storage, doing(name)).caused_by(e)),
        }
    };
    let entries = futures::stream::iter(after + 1..=upto).map(read).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let mut changes = DataChanges::default();
    for entry in entries {
        let Some(entry) = entry else { return Ok(None) };
        changes.add(folder, &entry).or_fail(ErrorKind::Data, || doing(name)).map_err(|e| e.with_help(REPAIR))?;
    }
    Ok(Some(changes))
}

impl DataChanges {
    /// Adds what one entry of the log says.
    fn add(&mut self, folder: &Path, entry: &[u8]) -> serde_json::Result<()> {
        let full = |path: &str| -> String {
            let own = Path::parse(path).unwrap_or_else(|_| Path::from(path));
            folder.parts().chain(own.parts()).collect::<Path>().to_string()
        };
        for line in entry.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match serde_json::from_slice(line)? {
                Action::Add(add) if add.data_change => self.added.insert(full(&add.path)),
                Action::Remove(remove) if remove.data_change => self.removed.insert(full(&remove.path)),
                _ => false,
            };
        }
        Ok(())
    }
}

fn doing(name: &str) -> String {
    format!("the Delta log of `{name}` cannot be read")
}

/// Why a log could not be read: the store, or what it says.
fn unreadable(name: &str, error: DeltaTableError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut kind = ErrorKind::Data;
    while let Some(inner) = cause {
        if let Some(store) = inner.downcast_ref::<object_store::Error>()
            && !matches!(store, object_store::Error::NotFound { .. })
        {
            kind = ErrorKind::Storage;
        }
        cause = inner.source();
    }
    // the reader of the log has no finer kinds
    let text = error.to_string();
    if text.contains("olumn mapping") {
        return Feature::ColumnMapping.refused(name);
    }
    if text.contains("not supported") || text.contains("nsupported") {
        return Feature::Unknown.refused(name).caused_by(error);
    }
    let unread = Error::new(kind, doing(name)).with_help(REPAIR);
    if text.contains("contiguous commit") {
        return unread.caused_by("a commit between others is missing");
    }
    unread.caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_which_rows_come_or_go_count() {
        let mut changes = DataChanges::default();
        let entry = r#"{"commitInfo":{"operation":"OPTIMIZE"}}
{"add":{"path":"day=a%20b/new.parquet","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}
{"add":{"path":"moved.parquet","partitionValues":{},"size":1,"modificationTime":1,"dataChange":false}}

{"remove":{"path":"old.parquet","deletionTimestamp":1,"dataChange":false}}
{"remove":{"path":"gone.parquet","deletionTimestamp":1,"dataChange":true}}
"#;
        changes.add(&Path::from("data/visits"), entry.as_bytes()).unwrap();
        assert_eq!(changes.added, BTreeSet::from(["data/visits/day=a b/new.parquet".to_owned()]));
        assert_eq!(changes.removed, BTreeSet::from(["data/visits/gone.parquet".to_owned()]));
        assert!(changes.add(&Path::from("x"), b"{\"add\":").is_err());
    }
}
