//! Compares the rows of a sync with what is known, both by key and a few rows at a time; rows that are to be sent are kept.

use super::batch::Rows;
use super::diff::{Comparison, Current, Diff, Rules};
use super::hash::{RowHash, row_hashes};
use super::known::{Known, KnownRows};
use super::life::{StateRow, SyncState};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::warehouse::storable_batch;
use deltalake_core::arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use deltalake_core::arrow::compute::{CastOptions, cast_with_options};
use deltalake_core::arrow::datatypes::{DataType, SchemaRef};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use std::sync::Arc;

/// What is to become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is sent, if it changed.
    Sent,
    /// It is held back, as if it were not there.
    Held,
    /// It is held back, and what was sent of it goes.
    Withdrawn,
}

/// Some rows of a sync.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The key, then the columns that are sent.
    pub rows: RecordBatch,
    /// By row, what is to become of it.
    pub fates: Vec<Fate>,
}

/// The rows of a sync in the order of their keys as text; NULL comes first.
pub type IncomingRows<'a> = BoxStream<'a, Result<Incoming>>;

/// What was found.
#[derive(Debug)]
pub(super) struct Compared {
    pub rows: Rows,
    pub diff: Diff,
    /// Rows that may be sent.
    pub read: u64,
    /// Rows that are held back.
    pub held: u64,
}

/// Compares all rows.
///
/// # Errors
/// `Data` when a key is NULL or stands twice, or a value cannot be sent; `Usage` when a column has a name that we use; those of
/// the rows and of what is known.
pub(super) async fn compare(
    (sync, schema): (&str, &SchemaRef),
    rules: Rules<'_>,
    mut incoming: IncomingRows<'_>,
    known: &Known,
) -> Result<Compared> {
    let none = SyncState::new();
    let mut merge = Merge {
        comparison: Comparison::new(rules),
        known: known.rows(&none)?,
        rows: Rows::new(sync, schema)?,
        last: None,
        waits: None,
        wrong: Wrong::default(),
        read: 0,
        held: 0,
    };
    while let Some(Incoming { rows, fates }) = incoming.try_next().await? {
        merge.take(&storable_batch(&rows)?, &fates).await?;
    }
    merge.held_is_all().await?;
    merge.absent(None).await?;
    let Merge { comparison, rows, wrong, read, held, .. } = merge;
    wrong.told(sync, rows.key())?;
    Ok(Compared { rows, diff: comparison.finish(), read, held })
}

/// Two lists by key that become one.
struct Merge<'a> {
    comparison: Comparison<'a>,
    known: KnownRows<'a>,
    rows: Rows,
    /// The last key that was compared, and whether a row of it may be sent.
    last: Option<(Arc<str>, bool)>,
    /// A key of which only rows came that are held back, and whether it is withdrawn.
    waits: Option<(Arc<str>, bool)>,
    wrong: Wrong,
    read: u64,
    held: u64,
}

impl Merge<'_> {
    async fn take(&mut self, batch: &RecordBatch, fates: &[Fate]) -> Result<()> {
        let keys = to_text(batch.column(0))?;
        let keys = keys.as_string::<i32>();
        let hashes = row_hashes(batch)?;
        let (first, mut kept, mut count) = (self.rows.len(), vec![false; batch.num_rows()], 0);
        for (row, ((hash, fate), kept)) in hashes.into_iter().zip(fates).zip(&mut kept).enumerate() {
            let key = keys.is_valid(row).then(|| keys.value(row));
            match (key, fate) {
                (Some(key), Fate::Sent) => {
                    *kept = self.sent(key, hash, first + count).await?;
                    count += usize::from(*kept);
                }
                (None, Fate::Sent) => self.wrong.keyless += 1,
                (key, held) => {
                    self.held += 1;
                    if let Some(key) = key {
                        self.hold(key, *held == Fate::Withdrawn).await?;
                    }
                }
            }
        }
        self.rows.keep(batch, &kept)
    }

    /// A row that may be sent; whether it is to be kept, at the place that it then has.
    async fn sent(&mut self, key: &str, hash: RowHash, place: usize) -> Result<bool> {
        self.read += 1;
        if self.is_sent(key) {
            self.wrong.twice += 1;
            return Ok(false);
        }
        // of a key with rows of both sorts those count that may be sent
        self.waits = self.waits.take().filter(|(waits, _)| **waits != *key);
        self.held_is_all().await?;
        self.in_order(key)?;
        let known = self.absent(Some(key)).await?;
        let key: Arc<str> = key.into();
        let kept = self.comparison.take(&key, known.as_ref(), Current::Row(place, hash));
        self.last = Some((key, true));
        Ok(kept)
    }

    fn is_sent(&self, key: &str) -> bool {
        matches!(&self.last, Some((last, true)) if **last == *key)
    }

    /// A row that is held back.
    async fn hold(&mut self, key: &str, withdrawn: bool) -> Result<()> {
        if self.is_sent(key) {
            return Ok(());
        }
        match &mut self.waits {
            Some((waits, before)) if **waits == *key => *before |= withdrawn,
            _ => {
                self.held_is_all().await?;
                self.in_order(key)?;
                self.waits = Some((key.into(), withdrawn));
            }
        }
        Ok(())
    }

    /// No row came that may be sent of the key that waits.
    async fn held_is_all(&mut self) -> Result<()> {
        let Some((key, withdrawn)) = self.waits.take() else { return Ok(()) };
        let known = self.absent(Some(&key)).await?;
        let current = if withdrawn { Current::Withdrawn } else { Current::Absent };
        self.comparison.take(&key, known.as_ref(), current);
        self.last = Some((key, false));
        Ok(())
    }

    fn in_order(&self, key: &str) -> Result<()> {
        if self.last.as_ref().is_none_or(|(last, _)| **last < *key) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Failed, "the rows of a sync are not in the order of their keys"))
    }

    /// Takes what is known of keys before this one, of which nothing came; gives what is known of the key itself.
    async fn absent(&mut self, key: Option<&str>) -> Result<Option<StateRow>> {
        while let Some(known) = self.known.next_to(key).await? {
            if key == Some(known.key.as_ref()) {
                return Ok(Some(known));
            }
            self.comparison.take(&known.key, Some(&known), Current::Absent);
        }
        Ok(None)
    }
}

/// Rows whose key does not name them.
#[derive(Debug, Default)]
struct Wrong {
    keyless: u64,
    twice: u64,
}

impl Wrong {
    fn told(&self, sync: &str, key: &str) -> Result<()> {
        let Self { keyless, twice } = self;
        let (message, help) = if *keyless > 0 {
            let message = format!("{keyless} rows of sync `{sync}` have no key (`{key}` is NULL)");
            (message, "leave such rows out, or choose another key")
        } else if *twice > 0 {
            let message = format!("{twice} rows of sync `{sync}` have a key that another row has (`{key}`)");
            (message, "choose a key that names one row, or aggregate to one row a key")
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Data, message).with_help(help))
    }
}

fn to_text(key: &ArrayRef) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(key, &DataType::Utf8, &options)
        .or_fail(ErrorKind::Data, || format!("a key of type {} cannot be written as text", key.data_type()))
}
