//! Current rows as they were given, checked, and batches made from changes.

use super::destination::{Batch, BatchId};
use super::diff::Change;
use super::hash::{RowHash, row_hashes};
use super::life::Operation;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::SyncMode;
use crate::warehouse::{storable_batch, storable_schema};
use deltalake_core::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, StringArray, new_null_array,
};
use deltalake_core::arrow::compute::{
    CastOptions, cast_with_options, concat_batches, filter_record_batch, interleave_record_batch,
};
use deltalake_core::arrow::datatypes::{DataType, SchemaRef};
use hashbrown::HashSet;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Current rows with their keys and hashes.
#[derive(Debug)]
pub(super) struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Batch and row of each current row.
    places: Vec<(usize, usize)>,
    /// Key and hash of each current row.
    pub(super) current: Vec<(Arc<str>, RowHash)>,
}

impl Rows {
    /// # Errors
    /// `Data` when a key is NULL or stands twice, or when a value cannot be stored; `Usage` when a column has a name
    /// that we use.
    pub(super) fn new(sync: &str, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Self> {
        let schema = storable_schema(schema)?;
        if let Some(field) = schema.fields().iter().find(|f| f.name().starts_with('_')) {
            return Err(Error::new(ErrorKind::Usage, format!("sync `{sync}` has a column `{}`", field.name()))
                .with_help("names that begin with `_` are ours; give the column another name"));
        }
        let mut rows = Self { schema, batches: Vec::new(), places: Vec::new(), current: Vec::new() };
        for batch in batches {
            rows.take(sync, &storable_batch(batch)?)?;
        }
        rows.check_unique(sync)?;
        Ok(rows)
    }

    fn take(&mut self, sync: &str, batch: &RecordBatch) -> Result<()> {
        let key = batch.column(0);
        if key.null_count() > 0 {
            let message = format!("{} rows of sync `{sync}` have no key (`{}` is NULL)", key.null_count(), self.key());
            return Err(Error::new(ErrorKind::Data, message).with_help("leave such rows out, or choose another key"));
        }
        let keys = to_text(key)?;
        let hashes = row_hashes(batch)?;
        let at = self.batches.len();
        let keys = keys.as_string::<i32>();
        for (row, hash) in hashes.into_iter().enumerate() {
            self.places.push((at, row));
            self.current.push((keys.value(row).into(), hash));
        }
        self.batches.push(batch.clone());
        Ok(())
    }

    fn key(&self) -> &str {
        self.schema.field(0).name()
    }

    fn check_unique(&self, sync: &str) -> Result<()> {
        let mut seen = HashSet::with_capacity(self.current.len());
        let twice = self.current.iter().filter(|(key, _)| !seen.insert(key.as_ref())).count();
        if twice == 0 {
            return Ok(());
        }
        let message = format!("{twice} rows of sync `{sync}` have a key that another row has (`{}`)", self.key());
        Err(Error::new(ErrorKind::Data, message)
            .with_help("choose a key that names one row, or aggregate to one row a key"))
    }

    /// Those of the rows that have such a key.
    pub(super) fn only(&self, keep: impl Fn(&str) -> bool) -> Result<Self> {
        let mut kept = Self { schema: Arc::clone(&self.schema), batches: vec![], places: vec![], current: vec![] };
        let mut current = self.current.iter();
        for (at, batch) in self.batches.iter().enumerate() {
            let rows: Vec<_> = current.by_ref().take(batch.num_rows()).collect();
            let mask: BooleanArray = rows.iter().map(|(key, _)| Some(keep(key))).collect();
            kept.batches.push(filter_record_batch(batch, &mask).or_fail(ErrorKind::Failed, together)?);
            let stays: Vec<_> = rows.into_iter().filter(|(key, _)| keep(key)).cloned().collect();
            kept.places.extend((0..stays.len()).map(|row| (at, row)));
            kept.current.extend(stays);
        }
        Ok(kept)
    }

    /// All rows as one batch.
    pub(super) fn all(&self) -> Result<RecordBatch> {
        concat_batches(&self.schema, &self.batches).or_fail(ErrorKind::Failed, together)
    }

    /// The rows of some changes, in their order; deleted ones with their key only.
    pub(super) fn of(&self, changes: &[Change]) -> Result<RecordBatch> {
        let deleted: Vec<&str> = changes.iter().filter(|c| c.row.is_none()).map(|c| c.key.as_ref()).collect();
        let gone = self.deleted(&deleted)?;
        let mut sources: Vec<&RecordBatch> = self.batches.iter().collect();
        sources.push(&gone);
        let mut next = 0;
        let places: Vec<(usize, usize)> = changes
            .iter()
            .map(|change| match change.row.and_then(|row| self.places.get(row)) {
                Some(place) => *place,
                None => {
                    next += 1;
                    (sources.len() - 1, next - 1)
                }
            })
            .collect();
        interleave_record_batch(&sources, &places).or_fail(ErrorKind::Failed, together)
    }

    fn deleted(&self, keys: &[&str]) -> Result<RecordBatch> {
        let text: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let key = cast_with_options(&text, self.schema.field(0).data_type(), &options).map_err(|e| {
            Error::new(ErrorKind::Data, format!("keys sent earlier do not fit the type of `{}` any more", self.key()))
                .caused_by(e)
                .with_help("cast the key to its old type")
        })?;
        let others = self.schema.fields().iter().skip(1).map(|f| new_null_array(f.data_type(), keys.len()));
        let columns = std::iter::once(key).chain(others).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns).or_fail(ErrorKind::Failed, together)
    }

    /// A batch of changes, or, in mode `replace`, of all rows.
    pub(super) fn batch(
        &self,
        id: BatchId,
        (mode, merged): (SyncMode, &BTreeMap<String, String>),
        changes: &[Change],
        keys: &Keys<'_>,
    ) -> Result<Batch> {
        if mode == SyncMode::Replace {
            let (operations, changes, idempotency_keys, merged_into) = (vec![], vec![], vec![], vec![]);
            return Ok(Batch { id, mode, rows: self.all()?, operations, changes, idempotency_keys, merged_into });
        }
        let into = |change: &Change| merged.get(change.key.as_ref()).filter(|_| change.operation == Operation::Delete);
        Ok(Batch {
            rows: self.of(changes)?,
            operations: changes.iter().map(|c| c.operation).collect(),
            changes: changes.iter().map(|c| c.number).collect(),
            idempotency_keys: changes.iter().map(|c| keys.of(&c.key, c.number, c.operation)).collect::<Result<_>>()?,
            merged_into: changes.iter().map(|c| into(c).cloned()).collect(),
            id,
            mode,
        })
    }
}

fn together() -> String {
    "the rows of a batch cannot be put together".to_owned()
}

fn to_text(key: &ArrayRef) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(key, &DataType::Utf8, &options)
        .or_fail(ErrorKind::Data, || format!("a key of type {} cannot be written as text", key.data_type()))
}

/// Makes idempotency keys: HMAC-SHA-256 over destination, sync, key, change number and operation.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    pub(super) secret: &'a [u8; 32],
    pub(super) destination: &'a str,
    pub(super) sync: &'a str,
}

impl Keys<'_> {
    fn of(&self, key: &str, number: i64, operation: Operation) -> Result<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret)
            .or_fail(ErrorKind::Failed, || "an idempotency key cannot be made".to_owned())?;
        for part in [self.destination, self.sync, key, &number.to_string(), operation.word()] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        Ok(hex::encode(mac.finalize().into_bytes()))
    }
}
