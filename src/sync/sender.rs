//! Sends the changes of one run: batches in lanes, halved when refused, tried again when they come at a bad time, every
//! answer in the log before the next batch of its lane.
//!
//! What was planned and not handed over when a sync stops is kept as rejected for now, so that nothing reads as sent that
//! never was.

use super::batch::{Keys, Rows};
use super::changelog::ChangeLog;
use super::destination::{Batch, BatchId, Delivery, Destination, RowOutcome};
use super::diff::{Change, Diff};
use super::life::{Life, Operation, StateRow, SyncState};
use super::pace::{Pace, Patience};
use super::run::{SyncCounts, SyncRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::model::SyncMode;
use chrono::{DateTime, Utc};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use std::ops::Range;
use std::sync::Arc;

/// Rows of a batch where neither the sync nor the destination says otherwise.
const ROWS_PER_BATCH: usize = 1_000_000;
/// Rows that are planned in one step, at least, where batches go several at once and may be single rows.
const PLANNED_TOGETHER: usize = 1000;
/// Batches of each lane that are planned in one step.
const BATCHES_PER_LANE: usize = 16;

/// Sends the batches of one run.
pub(super) struct Sender<'a> {
    destination: &'a dyn Destination,
    log: &'a ChangeLog<'a>,
    request: &'a SyncRequest<'a>,
    rows: &'a Rows,
    place: Arc<str>,
    pace: Pace,
    /// Rows of a batch.
    size: usize,
    /// Batches at once.
    lanes: usize,
}

/// Changes that are planned in one step.
struct Planned<'c> {
    id: BatchId,
    changes: &'c [Change],
    rows: Vec<StateRow>,
}

/// What a destination made of a batch, or of a half of it.
enum Verdict {
    Answered(Vec<RowOutcome>),
    Refused(String),
    /// It did not get through; whether it may have arrived all the same, and what stops the sync.
    Stopped(bool, Error),
}

/// What became of a batch.
#[derive(Default)]
struct Settled {
    /// Answers by place among the planned changes.
    answers: Vec<(usize, RowOutcome, Tries)>,
    /// Changes without an answer that may have arrived.
    unknown: Vec<(usize, u32)>,
    /// Changes that were not handed over, or not taken the last time, before the sync stopped; whether an answer about
    /// them was lost before that.
    unsent: Vec<(Range<usize>, bool)>,
    failure: Option<Error>,
}

/// How a batch was handed over.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    count: u32,
    /// An answer was lost: what was refused later may have arrived.
    lost: bool,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        destination: &'a dyn Destination,
        log: &'a ChangeLog<'a>,
        request: &'a SyncRequest<'a>,
        rows: &'a Rows,
        place: Arc<str>,
    ) -> Self {
        let capabilities = destination.capabilities();
        let limit = [request.rows_per_batch, capabilities.rows_per_batch];
        let size = limit.into_iter().flatten().min().unwrap_or(ROWS_PER_BATCH).max(1);
        let lanes = if capabilities.concurrent { request.pacing.concurrency.max(1) } else { 1 };
        Self { destination, log, request, rows, place, pace: Pace::new(request.pacing), size, lanes }
    }

    /// Sends what is to be sent, and takes what became of it into `changed`.
    pub(super) async fn send_all(&self, diff: &Diff, changed: &mut SyncState, counts: &mut SyncCounts) -> Result<()> {
        if self.request.mode == SyncMode::Replace {
            // The whole table in one step, also when it is new and empty.
            if !diff.changes.is_empty() || (diff.known == 0 && !self.request.hold) {
                self.send(1, (&diff.changes, usize::MAX), changed, counts).await?;
            }
            return Ok(());
        }
        let together = if self.destination.capabilities().concurrent {
            let all_lanes = self.size.saturating_mul(self.lanes * BATCHES_PER_LANE);
            all_lanes.max(PLANNED_TOGETHER.next_multiple_of(self.size))
        } else {
            self.size
        };
        for (index, changes) in diff.changes.chunks(together).enumerate() {
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            self.send(number, (changes, self.size), changed, counts).await?;
        }
        Ok(())
    }

    /// With which others a change may be in a batch.
    fn sort_of(&self, change: &Change) -> Sort {
        let capabilities = self.destination.capabilities();
        if !capabilities.deletes_apart || change.row.is_some() {
            Sort::Write
        } else if capabilities.renames && self.request.merged.contains_key(change.key.as_ref()) {
            Sort::Rename
        } else {
            Sort::Delete
        }
    }

    /// Plans changes, sends them in batches of at most `size`, and keeps what became of them.
    async fn send(
        &self,
        number: u32,
        (changes, size): (&[Change], usize),
        changed: &mut SyncState,
        counts: &mut SyncCounts,
    ) -> Result<()> {
        let id = BatchId { sync: self.request.sync.to_owned(), epoch: self.request.epoch, number };
        let rows: Vec<StateRow> = changes.iter().map(|c| self.planned(c)).collect();
        self.log.planned(&id, &rows).await?;
        changed.extend(rows.iter().map(|r| (Arc::clone(&r.key), r.clone())));
        let planned = Planned { id, changes, rows };
        let mut waiting = batches(changes, size, |change| self.sort_of(change)).into_iter();
        let (mut running, mut part, mut failure) = (FuturesUnordered::new(), 0, None);
        loop {
            while failure.is_none() && running.len() < self.lanes {
                let Some(range) = waiting.next() else { break };
                running.push(self.settle(&planned, range));
            }
            let Some(first) = running.next().await else { break };
            let mut all = vec![first];
            // what else is done by now goes into the log in the same step
            while let Some(Some(more)) = running.next().now_or_never() {
                all.push(more);
            }
            if failure.is_none() {
                failure = all.iter_mut().find_map(|settled| settled.failure.take());
            }
            if let Some(error) = &failure {
                let unsent = waiting.by_ref().map(|range| (range, false)).collect();
                all.push(Settled { unsent, ..Settled::default() });
                self.keep(&planned, (part, all), Some(error), changed, counts).await?;
            } else {
                self.keep(&planned, (part, all), None, changed, counts).await?;
            }
            part += 1;
        }
        match failure {
            None => Ok(()),
            Some(e) => Err(e.context(format!("sync `{}` to `{}` failed", self.request.sync, self.request.destination))),
        }
    }

    /// Writes answers to the log and takes them into what is known.
    async fn keep(
        &self,
        planned: &Planned<'_>,
        (part, all): (u32, Vec<Settled>),
        failure: Option<&Error>,
        changed: &mut SyncState,
        counts: &mut SyncCounts,
    ) -> Result<()> {
        let mut rows = Vec::new();
        let at = |index: usize| planned.rows.get(index);
        for settled in all {
            counts.sent += (settled.answers.len() + settled.unknown.len()) as u64;
            for (index, answer, tries) in settled.answers {
                rows.extend(at(index).map(|row| self.answered(row, answer, tries, counts)));
            }
            for (index, tries) in settled.unknown {
                let tried = |row: &StateRow| StateRow { attempt: row.attempt + i64::from(tries) - 1, ..row.clone() };
                rows.extend(at(index).filter(|_| tries > 1).map(tried));
            }
            let reason = failure.map(|e| format!("not sent: {e}")).unwrap_or_default();
            for (index, lost) in settled.unsent.into_iter().flat_map(|(range, lost)| range.map(move |i| (i, lost))) {
                let life = Life::Rejected { reason: reason.clone(), retryable: true };
                rows.extend(at(index).map(|row| StateRow { attempt: row.attempt - 1, ..rejected(row, life, lost) }));
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        changed.extend(rows.iter().map(|r| (Arc::clone(&r.key), r.clone())));
        self.log.answered(&planned.id, part, &rows).await
    }

    /// Delivers the changes of a range, in halves where they are refused, until each has its answer or the sync must stop.
    async fn settle(&self, planned: &Planned<'_>, range: Range<usize>) -> Settled {
        let mut settled = Settled::default();
        let mut left = vec![(range, false)];
        while let Some((range, lost)) = left.pop() {
            let (verdict, tries) = self.insist(planned, range.clone()).await;
            let tries = Tries { lost: tries.lost || lost, ..tries };
            match verdict {
                Verdict::Answered(answers) => {
                    settled.answers.extend(range.zip(answers).map(|(index, answer)| (index, answer, tries)));
                }
                Verdict::Refused(_) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    left.push((middle..range.end, tries.lost));
                    left.push((range.start..middle, tries.lost));
                }
                Verdict::Refused(reason) => {
                    let answer = RowOutcome::Rejected { reason, retryable: false };
                    settled.answers.extend(range.map(|index| (index, answer.clone(), tries)));
                }
                Verdict::Stopped(unknown, error) => {
                    if unknown {
                        settled.unknown.extend(range.map(|index| (index, tries.count)));
                    } else {
                        settled.unsent.push((range, tries.lost));
                    }
                    settled.unsent.append(&mut left);
                    settled.failure = Some(error);
                }
            }
        }
        settled
    }

    /// Delivers one batch, again after a pause while the destination cannot take it.
    async fn insist(&self, planned: &Planned<'_>, range: Range<usize>) -> (Verdict, Tries) {
        let keys =
            Keys { secret: &self.request.secret, destination: self.request.destination, sync: self.request.sync };
        let changes = planned.changes.get(range).unwrap_or_default();
        let how = (self.request.mode, self.request.merged);
        let batch = match self.rows.batch(planned.id.clone(), how, changes, &keys) {
            Ok(batch) => batch,
            Err(error) => return (Verdict::Stopped(false, error), Tries::default()),
        };
        let (mut patience, mut tries) = (Patience::default(), Tries::default());
        loop {
            self.pace.turn().await;
            tries.count += 1;
            let verdict = match self.destination.deliver(&batch).await.and_then(|d| answers(d, &batch, changes.len())) {
                Err(error) => Verdict::Stopped(true, error),
                Ok(Answer::Rows(rows)) => Verdict::Answered(rows),
                Ok(Answer::Refused(reason)) if self.request.mode == SyncMode::Replace => {
                    Verdict::Stopped(false, Error::new(ErrorKind::Failed, reason))
                }
                Ok(Answer::Refused(reason)) => Verdict::Refused(reason),
                Ok(Answer::Later { reason, after, unknown }) => {
                    tries.lost |= unknown;
                    if patience.wait(&self.pace, after).await {
                        continue;
                    }
                    Verdict::Stopped(tries.lost, self.gave_up(&reason, tries.count))
                }
            };
            return (verdict, tries);
        }
    }

    fn gave_up(&self, reason: &str, tries: u32) -> Error {
        let times = if tries == 1 { "1 time".to_owned() } else { format!("{tries} times") };
        Error::new(ErrorKind::Storage, format!("{reason} (tried {times})")).with_help(
            "what was not sent is sent by the next run; `retry: {for: ...}` of the sync says how long to try",
        )
    }

    fn planned(&self, change: &Change) -> StateRow {
        let known = change.known.as_deref();
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
            perhaps_there: known.is_some_and(StateRow::is_unsure),
        }
    }

    fn answered(&self, row: &StateRow, answer: RowOutcome, tries: Tries, counts: &mut SyncCounts) -> StateRow {
        let row = StateRow { attempt: row.attempt + i64::from(tries.count) - 1, ..row.clone() };
        match answer {
            RowOutcome::Acknowledged => {
                counts.acknowledged += 1;
                acknowledged(&row, self.request.now)
            }
            RowOutcome::Rejected { reason, retryable } => {
                counts.rejected += 1;
                rejected(&row, Life::Rejected { reason, retryable }, tries.lost)
            }
        }
    }
}

/// The row once the destination has it.
pub(super) fn acknowledged(row: &StateRow, now: DateTime<Utc>) -> StateRow {
    StateRow {
        row_hash: row.planned_hash,
        life: Life::Acknowledged,
        acknowledged_at: Some(now),
        perhaps_there: false,
        ..row.clone()
    }
}

/// The row once a change of it was refused or not handed over; it may be there all the same if an answer was lost.
fn rejected(row: &StateRow, life: Life, lost: bool) -> StateRow {
    let perhaps_there = row.perhaps_there || (lost && row.operation != Operation::Delete);
    StateRow { life, perhaps_there, ..row.clone() }
}

/// The changes of each batch: at most `size` of them, at least one batch, and of one sort; each sort stands together.
fn batches(changes: &[Change], size: usize, sort: impl Fn(&Change) -> Sort) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut begin = 0;
    for part in changes.chunk_by(|a, b| sort(a) == sort(b)) {
        let end = begin + part.len();
        all.extend((begin..end).step_by(size).map(|start| start..end.min(start.saturating_add(size))));
        begin = end;
    }
    if all.is_empty() {
        all.push(0..0);
    }
    all
}

/// Changes that one request can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Write,
    Delete,
    Rename,
}

/// An answer that fits its batch.
enum Answer {
    Rows(Vec<RowOutcome>),
    Refused(String),
    Later { reason: String, after: Option<std::time::Duration>, unknown: bool },
}

/// One answer a change.
fn answers(delivery: Delivery, batch: &Batch, changes: usize) -> Result<Answer> {
    match delivery {
        Delivery::All => Ok(Answer::Rows(vec![RowOutcome::Acknowledged; changes])),
        Delivery::Rows(rows) if rows.len() == changes && batch.mode != SyncMode::Replace => Ok(Answer::Rows(rows)),
        Delivery::Rows(rows) => {
            let message = format!("the destination answered for {} of {changes} rows", rows.len());
            Err(Error::new(ErrorKind::Failed, message))
        }
        Delivery::Refused { reason } => Ok(Answer::Refused(reason)),
        Delivery::Later { reason, after, unknown } => Ok(Answer::Later { reason, after, unknown }),
    }
}
