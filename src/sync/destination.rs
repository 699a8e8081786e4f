//! What a destination is to the rest: one small trait over plain data, and what it can do.
//!
//! A destination delivers a batch and answers for every row. It keeps no state and retries nothing; row life,
//! logs, limits and retries are outside. Adding one is a file in `destinations/` that passes the suite of
//! `sync/tests.rs`. What an answer means is said by [`Delivery`]: rows that arrived, rows that were refused, a batch that
//! was refused as a whole (it is halved), a destination that asks to wait (it is asked again).

use super::life::Operation;
use crate::error::Result;
use crate::model::SyncMode;
use deltalake_core::arrow::array::RecordBatch;
use futures::future::BoxFuture;
use std::time::Duration;

/// What a destination can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `upsert`: insert and update by key.
    pub upsert: bool,
    /// `insert`.
    pub insert: bool,
    /// `update`.
    pub update: bool,
    /// `append`: every change as a row.
    pub append: bool,
    /// `mirror`: delete by key.
    pub delete: bool,
    /// `replace`: swap the whole table.
    pub replace: bool,
    /// It drops a change that it has, known by its idempotency key.
    pub idempotent: bool,
    /// It can tell whether a batch arrived.
    pub remembers_batches: bool,
    /// Most rows of a batch; none when there is no limit.
    pub rows_per_batch: Option<usize>,
    /// It takes several batches at once.
    pub concurrent: bool,
    /// A batch has either deletes or other changes.
    pub deletes_apart: bool,
    /// Whether it can be told that one key is another now.
    pub renames: bool,
}

impl Capabilities {
    /// Whether it can do what a mode asks for.
    pub fn supports(&self, mode: SyncMode) -> bool {
        match mode {
            SyncMode::Upsert => self.upsert,
            SyncMode::Insert => self.insert,
            SyncMode::Update => self.update,
            SyncMode::Append => self.append,
            SyncMode::Mirror => self.upsert && self.delete,
            SyncMode::Replace => self.replace,
        }
    }
}

/// Names a batch for ever: no other batch of the sync has the same. Where batches go [`Capabilities::concurrent`]ly it names
/// the batches that were planned together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId {
    /// The sync.
    pub sync: String,
    /// Lease epoch of the run; later runs have higher ones.
    pub epoch: u64,
    /// Number of the batch in the run, from 1.
    pub number: u32,
}

/// Rows to be delivered together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its name.
    pub id: BatchId,
    /// What the sync does with rows.
    pub mode: SyncMode,
    /// Key first, then the selected columns. A deleted row has its key, and NULL elsewhere. In mode `replace` these
    /// are all current rows.
    pub rows: RecordBatch,
    /// What is done with each row; empty in mode `replace`.
    pub operations: Vec<Operation>,
    /// Number of each change among those of its key; empty in mode `replace`.
    pub changes: Vec<i64>,
    /// Stable name of each change; empty in mode `replace`.
    pub idempotency_keys: Vec<String>,
    /// For each row that is deleted because its entity is part of another now, the key of that one; empty in mode `replace`.
    pub merged_into: Vec<Option<String>>,
}

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// The destination has it.
    Acknowledged,
    /// The destination refused it.
    Rejected {
        /// Why, in the destination's words, without the row's values.
        reason: String,
        /// Whether the same row may be accepted later.
        retryable: bool,
    },
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// All rows arrived.
    All,
    /// One answer a row, in their order. In mode `replace` there is no such answer: all or an error.
    Rows(Vec<RowOutcome>),
    /// The batch was refused as a whole and nothing of it was taken: some row of it is at fault.
    Refused {
        /// Why, in the destination's words, without the rows' values.
        reason: String,
    },
    /// The destination cannot take it now.
    Later {
        /// Why, without the rows' values.
        reason: String,
        /// How long it asks to be left alone.
        after: Option<Duration>,
        /// Whether it may have taken the batch all the same, as when the answer was lost.
        unknown: bool,
    },
}

/// Somewhere rows go.
pub trait Destination: Send + Sync + std::fmt::Debug {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Where rows end up, without secrets. What was sent to one place says nothing about another: when this text changes,
    /// all rows are sent again.
    fn place(&self) -> String;

    /// Delivers a batch. An error says that the fate of its rows is unknown and that no other batch would fare better; a row
    /// that was refused is an answer, not an error.
    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>>;

    /// Whether a batch arrived whose answer was lost; `None` when that cannot be told.
    fn arrived<'a>(&'a self, _batch: &'a BatchId) -> BoxFuture<'a, Result<Option<bool>>> {
        Box::pin(async { Ok(None) })
    }
}
