//! What a Delta table holds at one version.
//!
//! The log is read by `deltalake-core`, so that checkpoints and commits of other writers are understood.
//! A table that uses what plain Parquet files cannot say (deletion vectors, partition columns, column
//! mapping, files elsewhere) is refused rather than read wrongly.

use super::retry::because;
use super::rows::file_batches;
use super::store::State;
use super::types::cast;
use crate::error::{Context, Error, ErrorKind, Result};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use deltalake_core::arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::{EagerSnapshot, LogicalFileView};
use deltalake_core::logstore::{LogStore, StorageConfig, default_logstore};
use deltalake_core::{DeltaTable, DeltaTableError, checkpoints};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// A table at one version.
#[derive(Debug, Clone)]
pub struct Table {
    /// Dotted name.
    pub name: String,
    /// Delta version.
    pub version: u64,
    /// Columns, all as stored.
    pub schema: SchemaRef,
    /// Its data files, in the order of their names. Files written before a column was added lack it.
    pub files: Vec<DataFile>,
    pub(super) meta: Meta,
}

/// One data file of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataFile {
    /// Name relative to the table's folder.
    pub name: String,
    /// Path from the store's root.
    pub path: Path,
    /// Size in bytes.
    pub size: u64,
    /// Number of rows, if the writer said.
    pub rows: Option<u64>,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// What a later commit must keep or respect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) id: String,
    pub(super) created_ms: Option<i64>,
    pub(super) configuration: BTreeMap<String, String>,
    pub(super) reader: i32,
    pub(super) writer: i32,
}

impl Table {
    /// Number of rows, if every file says its own.
    pub fn rows(&self) -> Option<u64> {
        self.files.iter().map(|f| f.rows).sum()
    }

    /// Opens the Delta table in `folder` of `store` (at its root), whoever wrote it. `url` is that of the
    /// folder; without a `version`, the newest.
    ///
    /// # Errors
    /// `Data` when there is no table, or one that uses features that cannot be read; `Storage`.
    pub async fn open(
        store: &Arc<dyn ObjectStore>,
        folder: &Path,
        url: &Url,
        name: &str,
        version: Option<u64>,
    ) -> Result<Self> {
        let log = log_store(store, folder, url);
        let snapshot = EagerSnapshot::try_new(log.as_ref(), version).await.map_err(|e| unreadable(name, version, e))?;
        let meta = Meta {
            id: snapshot.metadata().id().to_owned(),
            created_ms: snapshot.metadata().created_time(),
            configuration: snapshot.metadata().configuration().iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            reader: snapshot.protocol().min_reader_version(),
            writer: snapshot.protocol().min_writer_version(),
        };
        refuse_features(name, &meta, snapshot.metadata().partition_columns())?;
        let mut files = Vec::new();
        for view in snapshot.try_log_data().map_err(|e| unreadable(name, version, e))?.iter() {
            let relative = own_name(name, &view)?;
            files.push(DataFile {
                path: folder.parts().chain(Path::from(relative.as_str()).parts()).collect(),
                size: u64::try_from(view.size()).unwrap_or_default(),
                rows: view.num_records().map(|n| n as u64),
                modified: DateTime::from_timestamp_millis(view.modification_time()).unwrap_or_default(),
                name: relative,
            });
        }
        files.sort_unstable();
        let schema = snapshot.arrow_schema();
        Ok(Self { name: name.to_owned(), version: snapshot.version(), schema, files, meta })
    }

    /// Reads all rows. For small tables: everything is in memory at once.
    ///
    /// # Errors
    /// `Data` when a file is damaged or does not fit the schema; `Storage`.
    pub async fn read(&self, store: &Arc<dyn ObjectStore>) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for file in &self.files {
            batches.extend(self.read_file(store, file).await?);
        }
        Ok(batches)
    }

    /// The rows of its files, one file after the other, a few at a time, in these of its columns. What is held is a row group as
    /// it is stored.
    ///
    /// # Errors
    /// `Usage` when it has no such column; each item: `Data` when a file is damaged, `Storage`.
    pub fn batches(
        &self,
        store: &Arc<dyn ObjectStore>,
        columns: &[&str],
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let field = |name: &&str| self.schema.field_with_name(name).cloned();
        let fields: std::result::Result<Vec<_>, _> = columns.iter().map(field).collect();
        let wanted = fields.or_fail(ErrorKind::Usage, || format!("table `{}` has no such columns", self.name))?;
        let (store, name, wanted) = (Arc::clone(store), self.name.clone(), Arc::new(Schema::new(wanted)));
        let open = move |file: DataFile| file_batches(Arc::clone(&store), file, name.clone(), Arc::clone(&wanted));
        Ok(stream::iter(self.files.clone()).then(open).try_flatten().boxed())
    }

    /// Reads the rows of one of its files, in the table's columns.
    ///
    /// # Errors
    /// `Data` when the file is damaged; `Storage`.
    pub async fn read_file(&self, store: &Arc<dyn ObjectStore>, file: &DataFile) -> Result<Vec<RecordBatch>> {
        let doing = || format!("file `{}` of table `{}` cannot be read", file.name, self.name);
        rows_of(store, &file.path, doing).await?.iter().map(|batch| fit(batch, &self.schema)).collect()
    }
}

/// The rows of a Parquet file.
pub(super) async fn rows_of(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    doing: impl Fn() -> String,
) -> Result<Vec<RecordBatch>> {
    let unread = |e| because(Error::new(ErrorKind::Storage, doing()), e);
    let found = store.get(path).await.map_err(unread)?;
    let bytes = found.bytes().await.map_err(unread)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .or_fail(ErrorKind::Data, &doing)?;
    reader.map(|batch| batch.or_fail(ErrorKind::Data, &doing)).collect()
}

/// The number of the run that last wrote a table through us, as its log says.
pub(super) async fn last_run(state: &State, folder: &Path, url: &Url, name: &str, version: u64) -> Result<Option<u64>> {
    let log = log_store(state.store(), folder, url);
    let snapshot =
        EagerSnapshot::try_new(log.as_ref(), Some(version)).await.map_err(|e| unreadable(name, Some(version), e))?;
    let run = snapshot
        .transaction_version(log.as_ref(), super::log::APPLICATION)
        .await
        .map_err(|e| unreadable(name, Some(version), e))?;
    Ok(run.and_then(|r| u64::try_from(r).ok()))
}

/// Writes a checkpoint of `version`, so that readers need not replay the log from its start.
pub(super) async fn checkpoint(state: &State, folder: &Path, url: &Url, version: u64) -> Result<(), DeltaTableError> {
    let mut table = DeltaTable::new(log_store(state.store(), folder, url));
    table.load_version(version).await?;
    checkpoints::create_checkpoint(&table, None).await
}

pub(super) fn log_store(store: &Arc<dyn ObjectStore>, folder: &Path, url: &Url) -> Arc<dyn LogStore> {
    let prefixed = Arc::new(PrefixStore::new(Arc::clone(store), folder.clone()));
    default_logstore(prefixed, Arc::clone(store), url, &StorageConfig::default())
}

fn refuse_features(name: &str, meta: &Meta, partition_columns: &[String]) -> Result<()> {
    if !partition_columns.is_empty() {
        return Err(Feature::Partitions.refused(name));
    }
    refuse_mapping(name, meta.configuration.get("delta.columnMapping.mode").map(String::as_str))
}

/// Refuses a table whose files call columns otherwise than its log does.
pub(super) fn refuse_mapping(name: &str, mode: Option<&str>) -> Result<()> {
    if mode.is_some_and(|mode| mode != "none") { Err(Feature::ColumnMapping.refused(name)) } else { Ok(()) }
}

/// The name of a data file below its table's folder, with all of its rows.
pub(super) fn own_name(table: &str, file: &LogicalFileView) -> Result<String> {
    if file.deletion_vector_descriptor().is_some() {
        return Err(Feature::DeletionVectors.refused(table));
    }
    let relative = file.path().into_owned();
    if relative.contains("://") || relative.starts_with('/') {
        return Err(Feature::OtherFolders.refused(table));
    }
    Ok(relative)
}

/// What a table may have that cannot be read from its Parquet files alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    DeletionVectors,
    ColumnMapping,
    OtherFolders,
    Partitions,
    /// One that the log's reader does not know.
    Unknown,
}

impl Feature {
    pub(super) fn refused(self, table: &str) -> Error {
        let (what, help) = match self {
            Self::DeletionVectors => (
                "deletion vectors",
                "switch them off (`delta.enableDeletionVectors = false`) and rewrite the files that have some, in Spark with \
                 `REORG TABLE ... APPLY (PURGE)`",
            ),
            Self::ColumnMapping => ("column mapping", "copy it to a table without, and read that"),
            Self::OtherFolders => {
                ("files outside its folder", "it may be a shallow clone: make a deep one, and read that")
            }
            Self::Partitions => ("partition columns", "copy it to a plain Delta table, and read that"),
            Self::Unknown => ("a feature that is not known here", "copy it to a plain Delta table, and read that"),
        };
        Error::new(ErrorKind::Data, format!("table `{table}` uses {what}, which cannot be read")).with_help(help)
    }
}

fn unreadable(name: &str, version: Option<u64>, e: DeltaTableError) -> Error {
    let at = version.map(|v| format!(" at version {v}")).unwrap_or_default();
    let kind = match e {
        DeltaTableError::NotATable(_) | DeltaTableError::InvalidVersion(_) => ErrorKind::Data,
        _ => ErrorKind::Storage,
    };
    Error::new(kind, format!("table `{name}` cannot be read{at}")).caused_by(e)
}

/// Brings a batch to `schema` by column name; columns that the file lacks are NULL.
pub(super) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field.data_type(), field.name()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
        .or_fail(ErrorKind::Data, || "a data file does not fit its table".to_owned())
}
