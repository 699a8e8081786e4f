//! Changes as files, in any folder or object store.
//!
//! | mode | file | columns |
//! |---|---|---|
//! | `replace` | `<sync>.<ext>`, swapped in one step | the key, the selected columns |
//! | others | `<sync>/part-<epoch>-<n>.<ext>`, one a batch | `_operation`, `_change`, `_idempotency_key`, the key, the selected columns |
//!
//! Files read in the order of their names give the changes in their order. A file appears whole: on disk it is
//! written beside and then linked under its name, in object stores a put is atomic. A name is used once
//! (put-if-absent), so that a batch whose answer was lost is found again and not written twice.
//!
//! CSV has a header line, writes NULL and empty text alike, and times in RFC 3339; NDJSON writes NULL as `null`.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{FileFormat, SyncMode};
use crate::points::Point;
use crate::sync::destination::{Batch, BatchId, Capabilities, Delivery, Destination};
use crate::warehouse::{Created, Environment, Location, State};
use deltalake_core::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use deltalake_core::arrow::csv::WriterBuilder as CsvWriterBuilder;
use deltalake_core::arrow::datatypes::{DataType, Field, Schema};
use deltalake_core::arrow::json::WriterBuilder as JsonWriterBuilder;
use deltalake_core::arrow::json::writer::LineDelimited;
use futures::future::BoxFuture;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

/// A folder or prefix that gets files.
#[derive(Debug, Clone)]
pub struct FilesDestination {
    state: State,
    format: FileFormat,
    place: String,
}

impl FilesDestination {
    /// The destination at a location; nothing is contacted yet.
    ///
    /// # Errors
    /// `Usage` when the location or the environment cannot be used.
    pub fn open(location: &Location, environment: &Environment, format: FileFormat) -> Result<Self> {
        let (store, prefix) = location.object_store(environment)?;
        Ok(Self::with_state(State::new(store, prefix), format))
    }

    /// The destination below a prefix of a store.
    pub fn with_state(state: State, format: FileFormat) -> Self {
        let place = format!("{}/{}", state.store(), state.path(""));
        Self { state, format, place }
    }

    /// Names the place as the author wrote it, so that a project that moves with its relative folders stays where it
    /// is. Without this the full path is the place.
    #[must_use]
    pub fn at_place(mut self, text: &str) -> Self {
        text.clone_into(&mut self.place);
        self
    }

    fn name(&self, id: &BatchId) -> String {
        format!("{}/part-{:010}-{:05}.{}", id.sync, id.epoch, id.number, extension(self.format))
    }

    async fn write(&self, batch: &Batch) -> Result<Delivery> {
        if batch.mode == SyncMode::Replace {
            let name = format!("{}.{}", batch.id.sync, extension(self.format));
            self.state.replace(&name, encode(&batch.rows, self.format)?.into()).await?;
            Point::Delivered.reached();
            return Ok(Delivery::All);
        }
        let name = self.name(&batch.id);
        let created = self.state.create(&name, encode(&with_changes(batch)?, self.format)?.into()).await?;
        Point::Delivered.reached();
        match created {
            Created::Ours => Ok(Delivery::All),
            Created::Theirs(_) => {
                Err(Error::new(ErrorKind::Failed, format!("`{name}` is there already with other rows"))
                    .with_help("does another warehouse send to the same location? give each its own"))
            }
        }
    }
}

impl Destination for FilesDestination {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            upsert: true,
            insert: true,
            update: true,
            append: true,
            delete: true,
            replace: true,
            idempotent: false,
            remembers_batches: true,
            rows_per_batch: None,
            concurrent: false,
            deletes_apart: false,
            renames: false,
        }
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>> {
        Box::pin(self.write(batch))
    }

    fn arrived<'a>(&'a self, batch: &'a BatchId) -> BoxFuture<'a, Result<Option<bool>>> {
        Box::pin(async move { self.state.exists(&self.name(batch)).await.map(Some) })
    }
}

fn extension(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Parquet => "parquet",
        FileFormat::Csv => "csv",
        FileFormat::Ndjson => "ndjson",
    }
}

/// Puts what is done with a row before its columns.
pub(super) fn with_changes(batch: &Batch) -> Result<RecordBatch> {
    let operations: ArrayRef = Arc::new(StringArray::from_iter_values(batch.operations.iter().map(|o| o.word())));
    let changes: ArrayRef = Arc::new(Int64Array::from(batch.changes.clone()));
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(&batch.idempotency_keys));
    let mut fields = vec![
        Arc::new(Field::new("_operation", DataType::Utf8, false)),
        Arc::new(Field::new("_change", DataType::Int64, false)),
        Arc::new(Field::new("_idempotency_key", DataType::Utf8, false)),
    ];
    fields.extend(batch.rows.schema().fields().iter().cloned());
    let mut columns = vec![operations, changes, keys];
    columns.extend(batch.rows.columns().iter().cloned());
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .or_fail(ErrorKind::Failed, || "the rows of a file cannot be put together".to_owned())
}

fn encode(rows: &RecordBatch, format: FileFormat) -> Result<Vec<u8>> {
    let doing = || format!("rows cannot be written as {}", extension(format));
    match format {
        FileFormat::Parquet => {
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            let mut writer =
                ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).or_fail(ErrorKind::Failed, doing)?;
            writer.write(rows).or_fail(ErrorKind::Failed, doing)?;
            writer.into_inner().or_fail(ErrorKind::Failed, doing)
        }
        FileFormat::Csv => {
            check_flat(rows)?;
            let mut bytes = Vec::new();
            CsvWriterBuilder::new().with_header(true).build(&mut bytes).write(rows).or_fail(ErrorKind::Data, doing)?;
            Ok(bytes)
        }
        FileFormat::Ndjson => {
            let mut bytes = Vec::new();
            let mut writer = JsonWriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
            writer.write(rows).or_fail(ErrorKind::Data, doing)?;
            writer.finish().or_fail(ErrorKind::Data, doing)?;
            drop(writer);
            Ok(bytes)
        }
    }
}

fn check_flat(rows: &RecordBatch) -> Result<()> {
    match rows.schema().fields().iter().find(|f| f.data_type().is_nested()) {
        None => Ok(()),
        Some(field) => {
            let message = format!("column `{}` is a {}, which CSV cannot hold", field.name(), field.data_type());
            Err(Error::new(ErrorKind::Data, message).with_help("send it as text, or choose ndjson or parquet"))
        }
    }
}
