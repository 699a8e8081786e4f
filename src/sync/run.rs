//! Carries out a sync: fold the log, compare, refuse too many deletes, send, keep the answers.

use super::batch::{Keys, Rows};
use super::changelog::{ChangeLog, Known};
use super::destination::{Batch, BatchId, Delivery, Destination, RowOutcome};
use super::diff::{Change, Diff, Rules, diff};
use super::life::{Life, Operation, StateRow, SyncState, table_of};
use crate::error::{Error, ErrorKind, Result};
use crate::model::SyncMode;
use crate::warehouse::State;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::RecordBatch;
use deltalake_core::arrow::datatypes::SchemaRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows of a batch where neither the sync nor the destination says otherwise.
const ROWS_PER_BATCH: usize = 1_000_000;

/// What is to be synced, and what is known from before.
#[derive(Debug, Clone)]
pub struct SyncRequest<'a> {
    /// Name of the sync.
    pub sync: &'a str,
    /// Name of the destination; goes into idempotency keys.
    pub destination: &'a str,
    /// What is done with rows that are there already.
    pub mode: SyncMode,
    /// Send every current row, changed or not.
    pub full: bool,
    /// Largest share of the rows at the destination that may be deleted, in percent.
    pub max_delete_percent: f64,
    /// Rows of a batch; the destination may ask for fewer.
    pub rows_per_batch: Option<usize>,
    /// Key of the idempotency keys; the same for the life of the warehouse.
    pub secret: [u8; 32],
    /// Lease epoch of the run.
    pub epoch: u64,
    /// The wall clock, for `acknowledged_at`.
    pub now: DateTime<Utc>,
    /// Columns of the rows; the first is the key.
    pub schema: SchemaRef,
    /// Current rows, selected and transformed.
    pub rows: &'a [RecordBatch],
    /// Rows that consent or policy held back.
    pub withheld: u64,
    /// The keys of these: what was sent of them before is deleted, in every mode and however many they are.
    pub withdrawn: &'a BTreeSet<String>,
    /// Rows of the state table as committed; none the first time.
    pub previous: &'a [RecordBatch],
}

/// What a sync found and did, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Current rows.
    pub read: u64,
    /// New rows to send.
    pub inserted: u64,
    /// Changed rows to send.
    pub updated: u64,
    /// Rows to delete.
    pub deleted: u64,
    /// Rows that the destination has as they are.
    pub unchanged: u64,
    /// Rows with a change that the mode does not send.
    pub ignored: u64,
    /// Rows that were rejected for good before and have not changed.
    pub waiting: u64,
    /// Rows handed over.
    pub sent: u64,
    /// Rows that the destination has now.
    pub acknowledged: u64,
    /// Rows that the destination refused.
    pub rejected: u64,
    /// Rows held back by consent or policy.
    pub withheld: u64,
    /// Rows of an earlier run whose answer had been lost, found to have arrived.
    pub found: u64,
}

/// How a sync ended.
#[derive(Debug)]
pub struct SyncOutcome {
    /// What it found and did.
    pub counts: SyncCounts,
    /// All rows of the state table; commit them over the old ones, also after a failure.
    pub state: RecordBatch,
    /// Whether they differ from the old ones.
    pub state_changed: bool,
    /// Nothing was known of this place before: all rows were new to it.
    pub first: bool,
    /// Why not all was sent. What was acknowledged before stays so; the rest is sent by the next run.
    pub failure: Option<Error>,
}

/// Says what [`run_sync`] would send, and sends and writes nothing.
///
/// # Errors
/// As [`run_sync`], before sending.
pub async fn preview_sync(
    state: &State,
    destination: &dyn Destination,
    request: &SyncRequest<'_>,
) -> Result<SyncCounts> {
    check_mode(destination, request)?;
    let rows = Rows::new(request.sync, &request.schema, request.rows)?;
    let known = ChangeLog::new(state, request.sync).read(request.previous).await?.at(&place(destination, request));
    let diff = diff(&known.rows, &rows.current, rules_of(destination, request));
    check_deletes(request, &diff)?;
    Ok(counts_of(request, &rows, &diff))
}

/// Brings a destination up to date.
///
/// # Errors
/// Before anything is sent: `Usage` when the destination cannot do the mode, `Data` when a key is NULL or stands twice
/// or a value cannot be sent, `Refused` when too much would be deleted, `Storage` when the warehouse cannot be read.
/// Once sending began, failures are in the outcome.
pub async fn run_sync(state: &State, destination: &dyn Destination, request: &SyncRequest<'_>) -> Result<SyncOutcome> {
    check_mode(destination, request)?;
    let rows = Rows::new(request.sync, &request.schema, request.rows)?;
    let log = ChangeLog::new(state, request.sync);
    let place = place(destination, request);
    let Known { rows: mut known, unanswered, first, changed, committed } = log.read(request.previous).await?.at(&place);
    let found = find_lost(destination, &log, request, &mut known, unanswered).await?;
    let diff = diff(&known, &rows.current, rules_of(destination, request));
    check_deletes(request, &diff)?;
    log.tidy(committed).await;

    let mut counts = SyncCounts { found, ..counts_of(request, &rows, &diff) };
    for settled in &diff.settled {
        known.insert(Arc::clone(&settled.key), StateRow { epoch: request.epoch, ..settled.clone() });
    }
    let sender = Sender { destination, log: &log, request, rows: &rows, place };
    let failure = sender.send_all(&diff, &mut known, &mut counts).await.err();
    let state_changed = changed || found > 0 || counts.sent > 0 || !diff.settled.is_empty();
    Ok(SyncOutcome { counts, state: table_of(&known)?, state_changed, first, failure })
}

fn rules_of<'a>(destination: &dyn Destination, request: &SyncRequest<'a>) -> Rules<'a> {
    let withdrawn = destination.capabilities().delete.then_some(request.withdrawn);
    Rules { mode: request.mode, full: request.full, withdrawn }
}

fn check_mode(destination: &dyn Destination, request: &SyncRequest<'_>) -> Result<()> {
    if destination.capabilities().supports(request.mode) {
        return Ok(());
    }
    let message = format!(
        "destination `{}` cannot do mode `{}` of sync `{}`",
        request.destination,
        request.mode.word(),
        request.sync
    );
    Err(Error::new(ErrorKind::Usage, message).with_help("choose another mode"))
}

/// The place that the state is about. A table that is replaced and files of changes are two places.
fn place(destination: &dyn Destination, request: &SyncRequest<'_>) -> Arc<str> {
    let whole = if request.mode == SyncMode::Replace { " (whole table)" } else { "" };
    format!("{}: {}{whole}", request.destination, destination.place()).into()
}

fn check_deletes(request: &SyncRequest<'_>, diff: &Diff) -> Result<()> {
    // people who withdrew are not held against the limit
    let deleted = diff.deleted - diff.withdrawn;
    if deleted == 0 {
        return Ok(());
    }
    let percent = 100.0 * deleted as f64 / diff.there.max(1) as f64;
    if percent <= request.max_delete_percent {
        return Ok(());
    }
    let message = format!(
        "sync `{}` would delete {} of {} rows at `{}` ({percent:.1} %), more than max_delete allows ({} %)",
        request.sync, deleted, diff.there, request.destination, request.max_delete_percent
    );
    Err(Error::new(ErrorKind::Refused, message)
        .with_help("look at what `from` selects; if the deletes are right, raise `max_delete` of the sync"))
}

fn counts_of(request: &SyncRequest<'_>, rows: &Rows, diff: &Diff) -> SyncCounts {
    SyncCounts {
        read: rows.current.len() as u64,
        inserted: diff.inserted,
        updated: diff.updated,
        deleted: diff.deleted,
        unchanged: diff.unchanged,
        ignored: diff.ignored,
        waiting: diff.waiting,
        withheld: request.withheld,
        ..SyncCounts::default()
    }
}

/// Asks the destination for batches whose answer was lost; those that arrived are acknowledged. Returns their rows.
async fn find_lost(
    destination: &dyn Destination,
    log: &ChangeLog<'_>,
    request: &SyncRequest<'_>,
    known: &mut SyncState,
    unanswered: BTreeMap<BatchId, Vec<StateRow>>,
) -> Result<u64> {
    let mut found = 0;
    for (batch, planned) in unanswered {
        if destination.arrived(&batch).await? != Some(true) {
            continue;
        }
        // Only rows whose last change this is.
        let rows: Vec<StateRow> = planned
            .iter()
            .filter_map(|p| known.get(&p.key).filter(|k| k.change_number == p.change_number && k.life == Life::Sent))
            .map(|k| acknowledged(k, request.now))
            .collect();
        log.answered(&batch, &rows).await?;
        found += rows.len() as u64;
        known.extend(rows.into_iter().map(|r| (Arc::clone(&r.key), r)));
    }
    Ok(found)
}

fn acknowledged(row: &StateRow, now: DateTime<Utc>) -> StateRow {
    StateRow { row_hash: row.planned_hash, life: Life::Acknowledged, acknowledged_at: Some(now), ..row.clone() }
}

/// Sends the batches of one run.
struct Sender<'a> {
    destination: &'a dyn Destination,
    log: &'a ChangeLog<'a>,
    request: &'a SyncRequest<'a>,
    rows: &'a Rows,
    place: Arc<str>,
}

impl Sender<'_> {
    async fn send_all(&self, diff: &Diff, known: &mut SyncState, counts: &mut SyncCounts) -> Result<()> {
        let limit = [self.request.rows_per_batch, self.destination.capabilities().rows_per_batch];
        let size = limit.into_iter().flatten().min().unwrap_or(ROWS_PER_BATCH).max(1);
        if self.request.mode == SyncMode::Replace {
            // The whole table in one step, also when it is new and empty.
            if !diff.changes.is_empty() || known.is_empty() {
                self.send(1, &diff.changes, known, counts).await?;
            }
            return Ok(());
        }
        for (index, changes) in diff.changes.chunks(size).enumerate() {
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            self.send(number, changes, known, counts).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        number: u32,
        changes: &[Change],
        known: &mut SyncState,
        counts: &mut SyncCounts,
    ) -> Result<()> {
        let request = self.request;
        let id = BatchId { sync: request.sync.to_owned(), epoch: request.epoch, number };
        let keys = Keys { secret: &request.secret, destination: request.destination, sync: request.sync };
        let batch = self.rows.batch(id.clone(), request.mode, changes, &keys)?;
        let planned: Vec<StateRow> = changes.iter().map(|c| self.planned(c, known.get(&c.key))).collect();
        self.log.planned(&id, &planned).await?;
        known.extend(planned.iter().map(|r| (Arc::clone(&r.key), r.clone())));
        counts.sent += changes.len() as u64;
        let answers = answers(self.destination.deliver(&batch).await, &batch, changes.len())
            .map_err(|e| e.context(format!("sync `{}` to `{}` failed", request.sync, request.destination)))?;
        let rows: Vec<StateRow> =
            planned.iter().zip(answers).map(|(row, answer)| self.answered(row, answer, counts)).collect();
        known.extend(rows.iter().map(|r| (Arc::clone(&r.key), r.clone())));
        self.log.answered(&id, &rows).await
    }

    fn planned(&self, change: &Change, known: Option<&StateRow>) -> StateRow {
        StateRow {
            key: change.key.clone(),
            row_hash: known.and_then(|k| k.row_hash),
            planned_hash: change.hash,
            operation: change.operation,
            life: Life::Sent,
            change_number: change.number,
            attempt: change.attempt,
            acknowledged_at: known.and_then(|k| k.acknowledged_at),
            epoch: self.request.epoch,
            place: Arc::clone(&self.place),
        }
    }

    fn answered(&self, row: &StateRow, answer: RowOutcome, counts: &mut SyncCounts) -> StateRow {
        match answer {
            RowOutcome::Acknowledged => {
                counts.acknowledged += 1;
                acknowledged(row, self.request.now)
            }
            RowOutcome::Rejected { reason, retryable } => {
                counts.rejected += 1;
                StateRow { life: Life::Rejected { reason, retryable }, ..row.clone() }
            }
        }
    }
}

/// One answer a change.
fn answers(delivery: Result<Delivery>, batch: &Batch, changes: usize) -> Result<Vec<RowOutcome>> {
    match delivery? {
        Delivery::All => Ok(vec![RowOutcome::Acknowledged; changes]),
        Delivery::Rows(rows) if rows.len() == changes && batch.mode != SyncMode::Replace => Ok(rows),
        Delivery::Rows(rows) => {
            let message = format!("the destination answered for {} of {changes} rows", rows.len());
            Err(Error::new(ErrorKind::Failed, message))
        }
    }
}

impl SyncCounts {
    /// Rows of an operation that the sync found to send.
    pub fn planned(&self, operation: Operation) -> u64 {
        match operation {
            Operation::Insert => self.inserted,
            Operation::Update => self.updated,
            Operation::Delete => self.deleted,
        }
    }
}
