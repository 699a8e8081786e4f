//! Sends rows to destinations: of those selected, what changed since the destination acknowledged it.
//!
//! The pure part ([`diff`], [`life`]) compares what a destination is known to hold with the current rows
//! and decides a list of changes. The acting part ([`run_sync`]) sends them batch by batch:
//!
//! 1. The changes of the batch (or of several, where the destination takes more than one at once) are written to the
//!    log, with their numbers: *planned*.
//! 2. The destination gets the batch and answers for every row. Batches go in lanes, as many as the destination
//!    and the sync allow ([`sender`]).
//! 3. The answers are written to the log, before the next batch of that lane begins: *acknowledged* or *rejected*.
//!
//! The log is `_kinfold/sync/<sync>/<epoch>-<n>-{1-planned,2-answered,2-answered-<part>}.parquet` in the warehouse, each
//! created by put-if-absent; its rows are rows of the state table, and a later row of a key replaces an earlier one. The
//! next run folds the log into the state table before it compares, so that a kill at any point sends at most
//! one batch a lane again, with the same idempotency keys; not even those where the destination can tell
//! whether the batch arrived.
//!
//! A batch that is refused as a whole is halved until the bad row is found. One that the destination cannot take now is
//! sent again after a pause, for as long as the sync says ([`Pacing`]).
//!
//! Neither the rows nor the state table are ever held: both come by key, a few rows at a time, and only rows that are to be sent
//! and what a run changes of the state are kept ([`compare`], [`known`]). A table that is replaced is kept whole.
//!
//! # Rules
//! - Change detection compares with what was acknowledged, never with what was merely computed or sent.
//! - Every planned change of a key has the next number of that key: A, B, A is three changes. A change that
//!   is sent again because its fate is unknown, or because it was rejected, keeps its number.
//! - Only rows that we sent are deleted, and what was withdrawn in every mode. More other deletes than `max_delete_percent` of the rows there are refused
//!   before anything is sent.
//! - Nothing is dropped silently: every current row is counted as inserted, updated, unchanged, ignored (the
//!   mode does not send such a change) or waiting (rejected for good).
//!
//! # Not here
//! Who may be sent to: rows that consent holds back come apart from the others, and what policies refuse never gets here.

mod batch;
mod changelog;
mod compare;
mod destination;
pub mod destinations;
mod diff;
mod hash;
mod json;
mod known;
mod life;
mod pace;
mod run;
mod sender;

#[cfg(test)]
mod tests;

pub use changelog::forget_logs;
pub use compare::{Fate, Incoming, IncomingRows};
pub use destination::{Batch, BatchId, Capabilities, Delivery, Destination, RowOutcome};
pub use diff::{Change, Comparison, Current, Diff, Rules};
pub use hash::RowHash;
pub use known::{NewState, Previous};
pub use life::{Life, Operation, StateRow, state_schema};
pub use pace::Pacing;
pub use run::{SyncCounts, SyncOutcome, SyncRequest, SyncSample, preview_sync, run_sync};
