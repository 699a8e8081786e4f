//! Rows of a data file a few at a time, so that the file is never held whole: only what is stored of one row group is.

use super::table::{DataFile, fit};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use deltalake_core::arrow::array::RecordBatch;
use deltalake_core::arrow::datatypes::{FieldRef, SchemaRef};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::Arc;

/// The rows of a data file of a table, in these columns.
pub(super) async fn file_batches(
    store: Arc<dyn ObjectStore>,
    file: DataFile,
    table: String,
    wanted: SchemaRef,
) -> Result<impl Stream<Item = Result<RecordBatch>>> {
    let doing = move |e: ParquetError| {
        // what the store says comes through the reader
        let kind = if matches!(e, ParquetError::External(_)) { ErrorKind::Storage } else { ErrorKind::Data };
        Error::new(kind, format!("file `{}` of table `{table}` cannot be read", file.name)).caused_by(e)
    };
    let stored = StoredFile { store, path: file.path, size: file.size };
    let builder = ParquetRecordBatchStreamBuilder::new(stored).await.map_err(&doing)?;
    let is_wanted = |(_, field): &(usize, &FieldRef)| wanted.field_with_name(field.name()).is_ok();
    let roots: Vec<usize> = builder.schema().fields().iter().enumerate().filter(is_wanted).map(|(at, _)| at).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let rows = builder.with_projection(mask).build().map_err(&doing)?;
    Ok(rows.map(move |batch| fit(&batch.map_err(&doing)?, &wanted)))
}

/// A file in the store, as the Parquet reader asks for parts of it.
struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

fn foreign(e: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(e))
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.store.get_range(&self.path, range).await.map_err(foreign) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(foreign) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let size = self.size;
        async move { Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(self, size).await?)) }.boxed()
    }
}
