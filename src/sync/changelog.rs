//! The log of one sync in the warehouse: what was planned and what was answered, batch by batch.
//!
//! Each object is a small Parquet file with rows of the state table, created by put-if-absent. Names sort in the order
//! of events. A log that the committed state table contains is removed at the next start.

use super::destination::BatchId;
use super::known::{Known, Previous};
use super::life::{StateRow, SyncState, fold, to_batch};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::points::Point;
use crate::warehouse::{Created, State};
use deltalake_core::arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeSet;
use std::sync::Arc;

const PLANNED: &str = "1-planned";
const ANSWERED: &str = "2-answered";

/// The log of one sync.
#[derive(Debug, Clone)]
pub(super) struct ChangeLog<'a> {
    state: &'a State,
    sync: &'a str,
}

impl<'a> ChangeLog<'a> {
    pub(super) fn new(state: &'a State, sync: &'a str) -> Self {
        Self { state, sync }
    }

    fn folder(&self) -> String {
        format!("_kinfold/sync/{}", self.sync)
    }

    fn name(&self, batch: &BatchId, step: &str, part: u32) -> String {
        let part = if part == 0 { String::new() } else { format!("-{part:06}") };
        format!("{}/{:020}-{:06}-{step}{part}.parquet", self.folder(), batch.epoch, batch.number)
    }

    /// What the committed state table says of a place, with the log over it; nothing, when that is to be forgotten.
    ///
    /// # Errors
    /// `Data` when the table or the log is damaged; `Storage`.
    pub(super) async fn read(&self, previous: Previous, place: &Arc<str>, forget: bool) -> Result<Known> {
        let mut known = Known::of(previous, place, forget).await?;
        let mut answered = BTreeSet::new();
        for name in self.state.names(&self.folder()).await? {
            let Some((batch, step)) = self.parse(&name) else { continue };
            if Some(batch.epoch) <= known.committed {
                continue;
            }
            known.changed = true;
            let mut rows = SyncState::new();
            for part in self.load(&name).await? {
                fold(&mut known.log, &part)?;
                fold(&mut rows, &part)?;
            }
            if step == ANSWERED {
                answered.insert(batch);
            } else {
                known.unanswered.insert(batch, rows.into_values().collect());
            }
        }
        known.unanswered.retain(|batch, _| !answered.contains(batch));
        known.settle();
        Ok(known)
    }

    fn parse(&self, name: &str) -> Option<(BatchId, &'static str)> {
        let (epoch, rest) = name.strip_suffix(".parquet")?.split_once('-')?;
        let (number, step) = rest.split_once('-')?;
        let is = |known: &&str| step.strip_prefix(*known).is_some_and(|part| part.is_empty() || part.starts_with('-'));
        let step = [PLANNED, ANSWERED].into_iter().find(is)?;
        let batch = BatchId { sync: self.sync.to_owned(), epoch: epoch.parse().ok()?, number: number.parse().ok()? };
        Some((batch, step))
    }

    async fn load(&self, name: &str) -> Result<Vec<RecordBatch>> {
        let doing = || format!("the log `{name}` of sync `{}` cannot be read", self.sync);
        let bytes = self.state.get(&format!("{}/{name}", self.folder())).await?;
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::Storage, doing()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .or_fail(ErrorKind::Data, doing)?;
        reader.collect::<std::result::Result<_, _>>().or_fail(ErrorKind::Data, doing)
    }

    /// Keeps what is about to be sent.
    pub(super) async fn planned(&self, batch: &BatchId, rows: &[StateRow]) -> Result<()> {
        self.append(batch, (PLANNED, 0), rows).await?;
        Point::Planned.reached();
        Ok(())
    }

    /// Keeps what became of it, or of another part of it; parts are numbered from 0.
    pub(super) async fn answered(&self, batch: &BatchId, part: u32, rows: &[StateRow]) -> Result<()> {
        self.append(batch, (ANSWERED, part), rows).await?;
        Point::Answered.reached();
        Ok(())
    }

    async fn append(&self, batch: &BatchId, (step, part): (&str, u32), rows: &[StateRow]) -> Result<()> {
        let name = self.name(batch, step, part);
        match self.state.create(&name, encode(&to_batch(rows.iter())?)?.into()).await? {
            Created::Ours => Ok(()),
            Created::Theirs(_) => {
                Err(Error::new(ErrorKind::Failed, format!("sync `{}` ran twice in one run", self.sync)))
            }
        }
    }

    /// Removes logs that the committed state table contains. A failure leaves them for the next time.
    pub(super) async fn tidy(&self, committed: Option<u64>) {
        let Some(committed) = committed else { return };
        let Ok(names) = self.state.names(&self.folder()).await else { return };
        for name in names {
            let old = self.parse(&name).is_some_and(|(batch, _)| batch.epoch <= committed);
            if old && self.state.remove(&format!("{}/{name}", self.folder())).await.is_err() {
                return;
            }
        }
    }
}

/// Removes the logs that a committed state table contains: they hold keys.
///
/// # Errors
/// `Data` when the table is damaged; `Storage`.
pub async fn forget_logs(state: &State, sync: &str, committed: &[RecordBatch]) -> Result<()> {
    let mut rows = SyncState::new();
    for batch in committed {
        fold(&mut rows, batch)?;
    }
    let newest = rows.values().map(|row| row.epoch).max().unwrap_or(0);
    let log = ChangeLog::new(state, sync);
    for name in state.names(&log.folder()).await? {
        if log.parse(&name).is_some_and(|(batch, _)| batch.epoch <= newest) {
            state.remove(&format!("{}/{name}", log.folder())).await?;
        }
    }
    Ok(())
}

fn encode(batch: &RecordBatch) -> Result<Vec<u8>> {
    let doing = || "the log of a sync cannot be written".to_owned();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).or_fail(ErrorKind::Failed, doing)?;
    writer.write(batch).or_fail(ErrorKind::Failed, doing)?;
    writer.into_inner().or_fail(ErrorKind::Failed, doing)
}
