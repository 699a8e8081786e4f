//! Writes the rows of a table as Parquet files that nobody sees until the run commits.
//!
//! A [`TableWriter`] takes batches of one schema and writes files of about 128 MB under names that are
//! never used twice (lease epoch and counter). Columns are encoded in parallel: each worker owns some columns
//! of the current row group and gets its share of every batch over a bounded channel, which is also what
//! holds back the producer. What is held in memory is the row group in work, encoded and compressed.
//!
//! Nothing here makes rows visible: [`TableWriter::finish`] says which files there are, and
//! [`super::Run::commit`] makes them a table.

use super::retry::because;
use super::types::{convert_array, storable_schema, written_schema};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::points::Point;
use deltalake_core::arrow::array::{ArrayRef, RecordBatch};
use deltalake_core::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use futures::{Stream, StreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use std::io::Write;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A row group is closed at so many rows.
pub(super) const ROWS_PER_GROUP: usize = 1 << 20;
/// The same, of a table that is read a few rows at a time: a reader holds what is stored of one group.
const ROWS_PER_SMALL_GROUP: usize = 1 << 16;
/// A row group is closed at so many encoded bytes.
const BYTES_PER_GROUP: usize = 128 << 20;
/// A file is closed after the row group that passes so many bytes.
const BYTES_PER_FILE: u64 = 128 << 20;
/// Smaller files are one request.
const BYTES_PER_REQUEST: usize = 8 << 20;
/// Parts of a file that are under way before the producer is held back.
const PARTS_WAITING: usize = 4;
/// Batches that wait for a worker before the producer is held back.
const BATCHES_WAITING: usize = 4;

/// What happens to the rows that a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteMode {
    /// The new rows replace them.
    Overwrite,
    /// The new rows are added to them.
    Append,
    /// The new rows take the place of those of some files, and the other files stay.
    Merge,
}

/// One data file, written but not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// Name in the table's folder.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Number of rows.
    pub rows: u64,
}

/// All files of one table that a run has written and may commit.
#[derive(Debug, Clone)]
pub struct StagedTable {
    /// The table.
    pub table: String,
    /// Its schema as stored.
    pub schema: SchemaRef,
    /// What happens to the rows that it has.
    pub mode: WriteMode,
    /// The files, in the order of the rows.
    pub files: Vec<StagedFile>,
    /// The content is what the table holds already: commit nothing and keep its version.
    pub unchanged: bool,
    /// Files of the table whose place the new ones take.
    pub replaces: Vec<String>,
    /// The version whose rows were merged with new ones; without it the rows of `replaces` only move.
    pub merged: Option<u64>,
}

impl StagedTable {
    /// Number of rows written.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum()
    }

    /// Says that the rows are those that the table holds already, so that its version stays. The files
    /// written are removed. Has no effect on a table that is not there yet.
    #[must_use]
    pub fn unchanged(mut self) -> Self {
        self.unchanged = true;
        self
    }

    /// Says that these files of the table go. Appended rows are then just those of the files, so that no row comes or goes.
    #[must_use]
    pub fn replacing(mut self, files: Vec<String>) -> Self {
        self.replaces = files;
        self
    }

    /// Says that the rows are what a merge made of these files of a version, and what came.
    #[must_use]
    pub(super) fn merged(self, version: u64, files: Vec<String>) -> Self {
        Self { merged: Some(version), ..self.replacing(files) }
    }
}

/// Where and how a run writes: shared by all its writers.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Folder of the table, from the store's root.
    pub(super) folder: Path,
    pub(super) epoch: u64,
    /// Files of the run so far.
    pub(super) counter: Arc<AtomicU32>,
    pub(super) workers: usize,
    pub(super) properties: WriterPropertiesPtr,
    pub(super) rows_per_group: usize,
}

/// Parquet settings of all tables.
///
/// zstd level 1: on a made-up table of 1 M rows and 37 columns it took about an eighth longer than Snappy, and
/// the files are a third smaller.
pub(super) fn properties() -> WriterPropertiesPtr {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    Arc::new(
        WriterProperties::builder()
            .set_created_by(concat!("kinfold version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(level))
            .build(),
    )
}

/// Streams rows of one table into files. See the [module](self) for what it holds back.
#[derive(Debug)]
pub struct TableWriter {
    table: String,
    mode: WriteMode,
    target: Target,
    /// As the producer's batches are.
    given: SchemaRef,
    written: SchemaRef,
    stored: SchemaRef,
    open: Option<OpenFile>,
    files: Vec<StagedFile>,
    rows: u64,
}

impl TableWriter {
    pub(super) fn new(table: &str, schema: &Schema, mode: WriteMode, target: Target) -> Result<Self> {
        let context = |e: Error| e.context(format!("table `{table}` cannot be written"));
        Ok(Self {
            table: table.to_owned(),
            mode,
            target,
            given: Arc::new(schema.clone()),
            written: written_schema(schema).map_err(context)?,
            stored: storable_schema(schema).map_err(context)?,
            open: None,
            files: Vec::new(),
            rows: 0,
        })
    }

    /// The schema that the table will have.
    pub fn schema(&self) -> &SchemaRef {
        &self.stored
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes rows; waits while the encoders are behind.
    ///
    /// # Errors
    /// `Failed` when the batch has other columns than announced, `Data` when a value cannot be stored,
    /// `Storage` when the store cannot be written. After an error only [`TableWriter::abort`] is of use.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.check(batch)?;
        let mut offset = 0;
        while offset < batch.num_rows() {
            if self.open.is_none() {
                self.open = Some(OpenFile::begin(&self.target, &self.written)?);
            }
            let Some(file) = self.open.as_mut() else { break };
            let length = file.room().min(batch.num_rows() - offset);
            file.write(&batch.slice(offset, length)).await.map_err(|e| self.context(e))?;
            offset += length;
            self.roll(false).await?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Closes row groups early, so that neither this nor a reader holds much.
    #[must_use]
    pub fn in_small_groups(mut self) -> Self {
        self.target.rows_per_group = ROWS_PER_SMALL_GROUP;
        self
    }

    /// Takes all rows while they are made, and ends the last file.
    ///
    /// # Errors
    /// As [`TableWriter::write`]; those of the rows. What was written is removed.
    pub async fn write_stream(mut self, rows: impl Stream<Item = Result<RecordBatch>> + Send) -> Result<StagedTable> {
        let mut rows = std::pin::pin!(rows);
        while let Some(batch) = rows.next().await {
            let written = match batch {
                Ok(batch) => self.write(&batch).await,
                Err(e) => Err(e),
            };
            if let Err(e) = written {
                self.abort().await;
                return Err(e);
            }
        }
        self.finish().await
    }

    /// Ends the last file.
    ///
    /// # Errors
    /// As [`TableWriter::write`]. What was written is removed.
    pub async fn finish(mut self) -> Result<StagedTable> {
        if let Err(e) = self.roll(true).await {
            self.abort().await;
            return Err(e);
        }
        let Self { table, stored: schema, mode, files, .. } = self;
        Ok(StagedTable { table, schema, mode, files, unchanged: false, replaces: Vec::new(), merged: None })
    }

    /// Gives up and removes what was written, as far as the store allows.
    pub async fn abort(self) {
        if let Some(file) = self.open {
            file.sink.abort().await;
        }
        remove_files(&self.target.store, &self.target.folder, &self.files).await;
    }

    fn check(&self, batch: &RecordBatch) -> Result<()> {
        let same = batch.num_columns() == self.given.fields().len()
            && batch.columns().iter().zip(self.given.fields()).all(|(c, f)| c.data_type() == f.data_type());
        if same {
            return Ok(());
        }
        let (got, expected) = (types_of(batch.schema_ref()), types_of(&self.given));
        Err(Error::new(ErrorKind::Failed, format!("rows for table `{}` are ({got}), not ({expected})", self.table)))
    }

    /// Closes the row group, and the file, when they are full or at the `end`.
    async fn roll(&mut self, end: bool) -> Result<()> {
        let Some(mut file) = self.open.take() else { return Ok(()) };
        let result = async {
            if end || file.group_is_full() {
                file.end_group().await?;
            }
            let full = file.bytes() >= BYTES_PER_FILE;
            if end || full { file.end().await.map(Some) } else { Ok(None) }
        }
        .await;
        match result {
            Ok(Some(done)) => self.files.push(done),
            Ok(None) => self.open = Some(file),
            Err(e) => {
                self.open = Some(file);
                return Err(self.context(e));
            }
        }
        Ok(())
    }

    fn context(&self, e: Error) -> Error {
        e.context(format!("table `{}` cannot be written", self.table))
    }
}

fn types_of(schema: &Schema) -> String {
    schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ")
}

/// Name of a data file: never used twice.
fn file_name(epoch: u64, number: u32) -> String {
    format!("part-{epoch:010}-{number:05}.parquet")
}

/// The lease epoch in the name of a data file of ours; `None` for other names.
pub(super) fn epoch_of(name: &str) -> Option<u64> {
    let (epoch, number) = name.strip_prefix("part-")?.strip_suffix(".parquet")?.split_once('-')?;
    let (epoch, number) = (epoch.parse().ok()?, number.parse().ok()?);
    (name == file_name(epoch, number)).then_some(epoch)
}

/// Removes data files that no table refers to; a failure leaves a file that nobody reads.
pub(super) async fn remove_files(store: &Arc<dyn ObjectStore>, folder: &Path, files: &[StagedFile]) {
    for file in files {
        if store.delete(&folder.clone().join(file.name.as_str())).await.is_err() {
            return;
        }
        Point::Removed.reached();
    }
}

/// Bytes that the Parquet writer made and the store has not yet got.
#[derive(Debug, Clone, Default)]
struct Outbox(Arc<Mutex<Vec<u8>>>);

impl Outbox {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn not_written(name: &str, e: object_store::Error) -> Error {
    because(Error::new(ErrorKind::Storage, format!("file `{name}` cannot be written")), e)
}

/// Bytes on their way to the store: in memory until there are enough for a part of an upload.
struct Sink {
    store: Arc<dyn ObjectStore>,
    path: Path,
    waiting: Vec<u8>,
    upload: Option<WriteMultipart>,
}

impl Sink {
    async fn send(&mut self, bytes: Vec<u8>) -> object_store::Result<()> {
        if self.upload.is_none() {
            if self.waiting.len() + bytes.len() < BYTES_PER_REQUEST {
                self.waiting.extend_from_slice(&bytes);
                return Ok(());
            }
            let upload = self.store.put_multipart(&self.path).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, BYTES_PER_REQUEST);
            upload.put(std::mem::take(&mut self.waiting).into());
            self.upload = Some(upload);
        }
        if let Some(upload) = self.upload.as_mut() {
            upload.wait_for_capacity(PARTS_WAITING).await?;
            upload.put(bytes.into());
        }
        Ok(())
    }

    async fn end(&mut self) -> object_store::Result<()> {
        match self.upload.take() {
            Some(upload) => upload.finish().await.map(drop),
            None => self.store.put(&self.path, PutPayload::from(std::mem::take(&mut self.waiting))).await.map(drop),
        }
    }

    /// A failure leaves parts that nobody reads.
    async fn abort(self) {
        if let Some(upload) = self.upload {
            let _ = upload.abort().await;
        }
    }
}

/// The file in work.
struct OpenFile {
    name: String,
    sink: Sink,
    outbox: Outbox,
    writer: SerializedFileWriter<Outbox>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    workers: usize,
    rows_per_group: usize,
    group: Option<Group>,
    rows: u64,
    sent: u64,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("name", &self.name).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl OpenFile {
    fn begin(target: &Target, schema: &SchemaRef) -> Result<Self> {
        let number = target.counter.fetch_add(1, Ordering::Relaxed);
        let name = file_name(target.epoch, number);
        let outbox = Outbox::default();
        let root = ArrowSchemaConverter::new().convert(schema).map_err(parquet_failed)?.root_schema_ptr();
        let writer =
            SerializedFileWriter::new(outbox.clone(), root, Arc::clone(&target.properties)).map_err(parquet_failed)?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(schema));
        let path = target.folder.clone().join(name.as_str());
        Ok(Self {
            name,
            sink: Sink { store: Arc::clone(&target.store), path, waiting: Vec::new(), upload: None },
            outbox,
            writer,
            factory,
            schema: Arc::clone(schema),
            workers: target.workers,
            rows_per_group: target.rows_per_group,
            group: None,
            rows: 0,
            sent: 0,
        })
    }

    /// Rows that the row group in work still takes.
    fn room(&self) -> usize {
        self.rows_per_group - self.group.as_ref().map_or(0, |g| g.rows)
    }

    fn group_is_full(&self) -> bool {
        self.group.as_ref().is_some_and(|g| g.rows >= self.rows_per_group || g.bytes() >= BYTES_PER_GROUP)
    }

    fn bytes(&self) -> u64 {
        self.sent
    }

    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.group.is_none() {
            let index = self.writer.flushed_row_groups().len();
            let writers = self.factory.create_column_writers(index).map_err(parquet_failed)?;
            self.group = Some(Group::begin(&self.schema, writers, self.workers)?);
        }
        if let Some(group) = self.group.as_mut() {
            group.write(batch).await?;
        }
        Ok(())
    }

    async fn end_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        self.rows += group.rows as u64;
        let mut row_group = self.writer.next_row_group().map_err(parquet_failed)?;
        for chunk in group.end().await? {
            chunk.append_to_row_group(&mut row_group).map_err(parquet_failed)?;
        }
        row_group.close().map_err(parquet_failed)?;
        self.send().await
    }

    async fn end(&mut self) -> Result<StagedFile> {
        self.writer.finish().map_err(parquet_failed)?;
        self.send().await?;
        self.sink.end().await.map_err(|e| not_written(&self.name, e))?;
        Point::FileWritten.reached();
        Ok(StagedFile { name: self.name.clone(), size: self.sent, rows: self.rows })
    }

    async fn send(&mut self) -> Result<()> {
        let bytes = self.outbox.take();
        self.sent += bytes.len() as u64;
        self.sink.send(bytes).await.map_err(|e| not_written(&self.name, e))
    }
}

/// The row group in work: workers that own its columns.
struct Group {
    workers: Vec<Worker>,
    rows: usize,
}

struct Worker {
    /// Columns of the schema that it encodes.
    columns: Vec<usize>,
    sender: mpsc::Sender<Vec<ArrayRef>>,
    task: JoinHandle<Result<Vec<(usize, ArrowColumnChunk)>>>,
    bytes: Arc<AtomicUsize>,
}

impl Group {
    fn begin(schema: &SchemaRef, writers: Vec<ArrowColumnWriter>, workers: usize) -> Result<Self> {
        let mut writers = writers.into_iter().enumerate();
        let mut shares: Vec<Share> = (0..workers.clamp(1, schema.fields().len())).map(|_| Share::default()).collect();
        for (index, field) in schema.fields().iter().enumerate() {
            let mut leaves = Vec::new();
            for _ in 0..leaf_count(field.data_type()) {
                leaves.push(writers.next().ok_or_else(|| Error::new(ErrorKind::Failed, "a column has no encoder"))?);
            }
            let Some(share) = shares.iter_mut().min_by_key(|s| s.weight) else { break };
            share.weight += weight(field.data_type());
            share.columns.push(Column { index, field: Arc::clone(field), leaves });
        }
        Ok(Self { workers: shares.into_iter().map(Worker::begin).collect(), rows: 0 })
    }

    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for at in 0..self.workers.len() {
            let worker = &self.workers[at];
            let arrays = worker.columns.iter().map(|i| Arc::clone(batch.column(*i))).collect();
            if worker.sender.send(arrays).await.is_err() {
                // It stopped because of an error, which its task holds.
                let worker = self.workers.swap_remove(at);
                worker.end().await?;
                return Err(Error::new(ErrorKind::Failed, "an encoder stopped early"));
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.workers.iter().map(|w| w.bytes.load(Ordering::Relaxed)).sum()
    }

    /// The encoded columns in the order of the file.
    async fn end(self) -> Result<Vec<ArrowColumnChunk>> {
        let mut chunks = Vec::new();
        // All inputs end before the first is waited for.
        let tasks: Vec<_> = self.workers.into_iter().map(|w| w.task).collect();
        for task in tasks {
            chunks.extend(joined(task).await?);
        }
        chunks.sort_by_key(|(leaf, _)| *leaf);
        Ok(chunks.into_iter().map(|(_, chunk)| chunk).collect())
    }
}

impl Worker {
    fn begin(share: Share) -> Self {
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
        let columns = share.columns.iter().map(|c| c.index).collect();
        let bytes = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&bytes);
        let task = tokio::task::spawn_blocking(move || encode(share.columns, receiver, &seen));
        Self { columns, sender, task, bytes }
    }

    async fn end(self) -> Result<Vec<(usize, ArrowColumnChunk)>> {
        drop(self.sender);
        joined(self.task).await
    }
}

async fn joined<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    task.await.or_fail(ErrorKind::Failed, || "an encoder was stopped".to_owned())?
}

#[derive(Default)]
struct Share {
    columns: Vec<Column>,
    weight: usize,
}

struct Column {
    index: usize,
    field: FieldRef,
    /// Its place among the leaf columns of the file, and the encoder.
    leaves: Vec<(usize, ArrowColumnWriter)>,
}

fn encode(
    mut columns: Vec<Column>,
    mut receiver: mpsc::Receiver<Vec<ArrayRef>>,
    seen: &AtomicUsize,
) -> Result<Vec<(usize, ArrowColumnChunk)>> {
    while let Some(arrays) = receiver.blocking_recv() {
        let mut bytes = 0;
        for (column, array) in columns.iter_mut().zip(arrays) {
            let array = convert_array(&array, column.field.data_type(), column.field.name())?;
            let leaves = compute_leaves(&column.field, &array).map_err(parquet_failed)?;
            for ((_, writer), leaf) in column.leaves.iter_mut().zip(&leaves) {
                writer.write(leaf).map_err(parquet_failed)?;
                bytes += writer.get_estimated_total_bytes();
            }
        }
        seen.store(bytes, Ordering::Relaxed);
    }
    let leaves = columns.into_iter().flat_map(|c| c.leaves);
    leaves.map(|(at, writer)| Ok((at, writer.close().map_err(parquet_failed)?))).collect()
}

/// Number of leaf columns of a type in the file.
fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|f| leaf_count(f.data_type())).sum(),
        DataType::List(field) | DataType::Map(field, _) => leaf_count(field.data_type()),
        _ => 1,
    }
}

/// Rough cost of encoding a type: text is hashed and copied value by value.
fn weight(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|f| weight(f.data_type())).sum(),
        DataType::List(field) | DataType::Map(field, _) => 1 + weight(field.data_type()),
        DataType::Boolean => 1,
        data_type if data_type.is_primitive() => 2,
        _ => 5,
    }
}

fn parquet_failed(e: parquet::errors::ParquetError) -> Error {
    Error::new(ErrorKind::Failed, "rows cannot be encoded as Parquet").caused_by(e)
}
