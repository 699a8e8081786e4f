//! Carries out a sync: fold the log, compare, refuse too many deletes, send, keep the answers.

use super::batch::Rows;
use super::changelog::ChangeLog;
use super::compare::{Compared, IncomingRows, compare};
use super::destination::Destination;
use super::diff::{Change, Diff, Rules};
use super::json::objects;
use super::known::{Known, NewState, Previous};
use super::life::{Life, Operation, StateRow, SyncState};
use super::pace::Pacing;
use super::sender::{Sender, acknowledged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{JsonRow, SyncMode};
use crate::warehouse::State;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::datatypes::SchemaRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Forget what the destination is known to have.
    pub reset: bool,
    /// Largest share of the rows at the destination that may be deleted, in percent.
    pub max_delete_percent: f64,
    /// Send again what was rejected for good.
    pub retry_rejected: bool,
    /// Largest share of the rows sent that may be rejected before the sync fails, in percent; none when any share is fine.
    pub fail_above_percent: Option<f64>,
    /// Rows of a batch; the destination may ask for fewer.
    pub rows_per_batch: Option<usize>,
    /// How fast batches are sent, and how long they are tried again.
    pub pacing: Pacing,
    /// Key of the idempotency keys; the same for the life of the warehouse.
    pub secret: [u8; 32],
    /// Lease epoch of the run.
    pub epoch: u64,
    /// The wall clock, for `acknowledged_at`.
    pub now: DateTime<Utc>,
    /// Columns of the rows; the first is the key.
    pub schema: SchemaRef,
    /// Keys of which nothing may be there any more, beside those of rows that are withdrawn: what was sent of them before is
    /// deleted, in every mode and however many they are.
    pub withdrawn: &'a BTreeSet<String>,
    /// Keys of entities that are part of others now, and the keys of these: what was sent of them before is deleted or renamed.
    pub merged: &'a BTreeMap<String, String>,
    /// Nothing of the current rows may be sent, as of an audience that is too small. Rows that left, where the mode deletes
    /// them, and those that were withdrawn are deleted all the same; a table that is replaced keeps who is in it already.
    pub hold: bool,
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
    /// Rows of people who withdrew or became others, which the destination cannot delete.
    pub owed: u64,
    /// Rows that the next run sends whether they change or not: refused for now, or planned and without an answer.
    pub again: u64,
}

/// How a sync ended.
#[derive(Debug)]
pub struct SyncOutcome {
    /// What it found and did.
    pub counts: SyncCounts,
    /// The rows of the state table, unless they are the old ones; commit them over these, also after a failure.
    pub state: Option<NewState>,
    /// Nothing was known of this place before: all rows were new to it.
    pub first: bool,
    /// How long rows were under way, from the first that was handed over until the last answer was kept.
    pub delivery: Duration,
    /// Why not all was sent. What was acknowledged before stays so; the rest is sent by the next run.
    pub failure: Option<Error>,
}

/// A row that would be sent.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SyncSample {
    /// `insert`, `update` or `delete`.
    pub operation: &'static str,
    /// Its columns; for a delete, the key.
    pub row: JsonRow,
}

/// Rows of each operation that a preview shows.
const SAMPLES: usize = 3;

/// Says what [`run_sync`] would send, and sends and writes nothing. `rows` and `previous` as there.
///
/// # Errors
/// As [`run_sync`], before sending.
pub async fn preview_sync(
    state: &State,
    destination: &dyn Destination,
    request: &SyncRequest<'_>,
    rows: IncomingRows<'_>,
    previous: Previous,
) -> Result<(SyncCounts, Vec<SyncSample>)> {
    check_mode(destination, request)?;
    let log = ChangeLog::new(state, request.sync);
    let known = log.read(previous, &place(destination, request), request.reset).await?;
    let compared = compare((request.sync, &request.schema), rules(destination, request), rows, &known).await?;
    check_deletes(request, &compared.diff)?;
    Ok((counts_of(&compared), samples(&compared.rows, &compared.diff)?))
}

/// The first rows of each operation, with their values.
fn samples(rows: &Rows, diff: &Diff) -> Result<Vec<SyncSample>> {
    let mut all = Vec::new();
    for operation in [Operation::Insert, Operation::Update, Operation::Delete] {
        let of: Vec<Change> = diff.changes.iter().filter(|c| c.operation == operation).take(SAMPLES).cloned().collect();
        let batch = rows.of(&of)?;
        let key = batch.schema().field(0).name().clone();
        let shown = objects(&batch)?.into_iter().map(|mut row| {
            row.retain(|name, _| operation != Operation::Delete || *name == key);
            SyncSample { operation: operation.word(), row }
        });
        all.extend(shown);
    }
    Ok(all)
}

/// Brings a destination up to date. `rows` are the current rows, selected and transformed; `previous` is the state table as
/// committed.
///
/// # Errors
/// Before anything is sent: `Usage` when the destination cannot do the mode, `Data` when a key is NULL or stands twice
/// or a value cannot be sent, `Refused` when too much would be deleted, `Storage` when the warehouse cannot be read.
/// Once sending began, failures are in the outcome.
pub async fn run_sync(
    state: &State,
    destination: &dyn Destination,
    request: &SyncRequest<'_>,
    rows: IncomingRows<'_>,
    previous: Previous,
) -> Result<SyncOutcome> {
    check_mode(destination, request)?;
    let log = ChangeLog::new(state, request.sync);
    let place = place(destination, request);
    let mut known = log.read(previous, &place, request.reset).await?;
    let found = find_lost(destination, &log, request, &mut known).await?;
    let compared = compare((request.sync, &request.schema), rules(destination, request), rows, &known).await?;
    check_deletes(request, &compared.diff)?;
    log.tidy(known.committed).await;

    let mut counts = SyncCounts { found, ..counts_of(&compared) };
    let Compared { rows, diff, .. } = compared;
    let settled = diff.settled.iter().map(|row| StateRow { epoch: request.epoch, ..row.clone() });
    let mut changed: SyncState = settled.map(|row| (Arc::clone(&row.key), row)).collect();
    let sender = Sender::new(destination, &log, request, &rows, place);
    let started = Instant::now();
    let sent = sender.send_all(&diff, &mut changed, &mut counts).await;
    let delivery = started.elapsed();
    counts.again = diff.again + again(&diff, &changed);
    let failure = sent.err().or_else(|| too_many_rejected(request, &counts));
    let first = known.first;
    let state_changed = known.changed || found > 0 || counts.sent > 0 || !diff.settled.is_empty();
    let state = state_changed.then_some(NewState { known, changed });
    Ok(SyncOutcome { counts, state, first, delivery, failure })
}

/// Changes that the next run sends again, or for the first time though they were tried before.
fn again(diff: &Diff, changed: &SyncState) -> u64 {
    let now =
        |change: &Change| changed.get(&change.key).or(change.known.as_deref()).is_some_and(StateRow::is_sent_again);
    diff.changes.iter().filter(|change| now(change)).count() as u64
}

fn rules<'a>(destination: &dyn Destination, request: &SyncRequest<'a>) -> Rules<'a> {
    let capabilities = destination.capabilities();
    Rules {
        mode: request.mode,
        full: request.full,
        retry_rejected: request.retry_rejected,
        deletes: capabilities.delete,
        renames: capabilities.renames,
        withdrawn: request.withdrawn,
        merged: request.merged,
        hold: request.hold,
    }
}

/// The failure of a sync that sent all it could, when the destination refused too much of it.
fn too_many_rejected(request: &SyncRequest<'_>, counts: &SyncCounts) -> Option<Error> {
    let allowed = request.fail_above_percent?;
    let percent = 100.0 * counts.rejected as f64 / counts.sent.max(1) as f64;
    (percent > allowed).then(|| {
        let message = format!(
            "`{}` rejected {} of {} rows of sync `{}` ({percent:.1} %), more than fail_above allows ({allowed} %)",
            request.destination, counts.rejected, counts.sent, request.sync
        );
        Error::new(ErrorKind::Failed, message).with_help(format!(
            "see `last_error` in `kinfold.sync_{}`; then: kinfold sync retry {}",
            request.sync, request.sync
        ))
    })
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

fn counts_of(compared: &Compared) -> SyncCounts {
    let diff = &compared.diff;
    SyncCounts {
        read: compared.read,
        inserted: diff.inserted,
        updated: diff.updated,
        deleted: diff.deleted,
        unchanged: diff.unchanged,
        ignored: diff.ignored,
        waiting: diff.waiting,
        withheld: compared.held + diff.held,
        owed: diff.owed,
        ..SyncCounts::default()
    }
}

/// Asks the destination for batches whose answer was lost; those that arrived are acknowledged. Returns their rows.
async fn find_lost(
    destination: &dyn Destination,
    log: &ChangeLog<'_>,
    request: &SyncRequest<'_>,
    known: &mut Known,
) -> Result<u64> {
    let mut found = 0;
    for (batch, planned) in std::mem::take(&mut known.unanswered) {
        if destination.arrived(&batch).await? != Some(true) {
            continue;
        }
        // Only rows whose last change this is.
        let rows: Vec<StateRow> = planned
            .iter()
            .filter_map(|p| {
                known.log.get(&p.key).filter(|k| k.change_number == p.change_number && k.life == Life::Sent)
            })
            .map(|k| acknowledged(k, request.now))
            .collect();
        log.answered(&batch, 0, &rows).await?;
        found += rows.len() as u64;
        known.log.extend(rows.into_iter().map(|r| (Arc::clone(&r.key), r)));
    }
    Ok(found)
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
