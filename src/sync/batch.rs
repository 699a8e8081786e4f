//! Current rows that are kept to be sent, and batches made from changes.

use super::destination::{Batch, BatchId};
use super::diff::Change;
use super::life::Operation;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::SyncMode;
use crate::warehouse::storable_schema;
use deltalake_core::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, new_null_array};
use deltalake_core::arrow::compute::{
    CastOptions, cast_with_options, concat_batches, filter_record_batch, interleave_record_batch,
};
use deltalake_core::arrow::datatypes::SchemaRef;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Current rows that are kept.
#[derive(Debug)]
pub(super) struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Batch and row of each.
    places: Vec<(usize, usize)>,
}

impl Rows {
    /// None yet.
    ///
    /// # Errors
    /// `Data` when a column cannot be stored; `Usage` when one has a name that we use.
    pub(super) fn new(sync: &str, schema: &SchemaRef) -> Result<Self> {
        let schema = storable_schema(schema)?;
        if let Some(field) = schema.fields().iter().find(|f| f.name().starts_with('_')) {
            return Err(Error::new(ErrorKind::Usage, format!("sync `{sync}` has a column `{}`", field.name()))
                .with_help("names that begin with `_` are ours; give the column another name"));
        }
        Ok(Self { schema, batches: Vec::new(), places: Vec::new() })
    }

    /// How many are kept: the place of the next.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Keeps some rows of a batch, which get the next places in their order.
    ///
    /// # Errors
    /// `Failed` when they cannot be taken out of the batch.
    pub(super) fn keep(&mut self, batch: &RecordBatch, kept: &[bool]) -> Result<()> {
        if !kept.contains(&true) {
            return Ok(());
        }
        let batch =
            filter_record_batch(batch, &BooleanArray::from(kept.to_vec())).or_fail(ErrorKind::Failed, together)?;
        let at = self.batches.len();
        self.places.extend((0..batch.num_rows()).map(|row| (at, row)));
        self.batches.push(batch);
        Ok(())
    }

    /// Name of the key's column.
    pub(super) fn key(&self) -> &str {
        self.schema.field(0).name()
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
