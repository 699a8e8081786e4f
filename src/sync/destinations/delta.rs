//! Delta tables in any folder or object store: one table a sync, under the sync's name.
//!
//! The location is a warehouse of its own ([`crate::warehouse`]): a batch is a run of it, which commits one version of one
//! table, whole or not at all, by put-if-absent. A version that another writer made in between is kept, and the batch done
//! again on top of it. The record of the run names the batch, so that one whose answer was lost is found again.
//!
//! | mode | version |
//! |---|---|
//! | `upsert`, `mirror` | rows in place of those with their key; deleted keys go |
//! | `insert` | rows whose key is not there |
//! | `update` | rows in place of those with their key; a key that is not there is left out |
//! | `append` | the changes, with `_operation`, `_change` and `_idempotency_key`; all of a key that is deleted goes |
//! | `replace` | all rows |
//!
//! A column that is new is added, one that is sent no more is NULL in rows that change. A number gets the larger type of the
//! table's and ours where rows are merged; no other type changes.

use super::files::with_changes;
use crate::error::{Context as _, ErrorKind, Result};
use crate::model::SyncMode;
use crate::points::Point;
use crate::sync::destination::{Batch, BatchId, Capabilities, Delivery, Destination};
use crate::sync::life::Operation;
use crate::warehouse::{Environment, Location, OnKey, Run, RunRequest, RunStatus, StagedTable, Warehouse, WriteMode};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::RecordBatch;
use deltalake_core::arrow::datatypes::FieldRef;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::runtime::Handle;

/// How long a delivery holds the location without a sign of life.
const LEASE_SECONDS: u32 = 60;

/// Tables below one location.
#[derive(Debug, Clone)]
pub struct Delta {
    warehouse: Warehouse,
    place: String,
    clock: fn() -> DateTime<Utc>,
}

impl Delta {
    /// The destination at a location, which the author wrote as `place`; nothing is contacted yet.
    ///
    /// # Errors
    /// `Usage` when the location or the environment cannot be used.
    pub fn open(
        location: &Location,
        environment: &Environment,
        place: &str,
        clock: fn() -> DateTime<Utc>,
    ) -> Result<Self> {
        Ok(Self::with_warehouse(Warehouse::open(location, environment)?, place, clock))
    }

    /// The destination over a warehouse that holds nothing else.
    pub fn with_warehouse(warehouse: Warehouse, place: &str, clock: fn() -> DateTime<Utc>) -> Self {
        Self { warehouse, place: place.to_owned(), clock }
    }

    async fn begin(&self, sync: &str) -> Result<Run> {
        let request = RunRequest { holder: format!("sync `{sync}`"), now: (self.clock)(), lease_s: LEASE_SECONDS };
        self.warehouse.begin(request).await
    }

    async fn write(&self, batch: &Batch) -> Result<Delivery> {
        let run = match self.begin(&batch.id.sync).await {
            Ok(run) => run,
            Err(error) if error.kind() == ErrorKind::Busy => return Ok(later(&error.to_string())),
            Err(error) => return Err(error),
        };
        let alive = run.keep_alive(self.clock);
        let staged = match stage(&run, batch).await {
            Ok(staged) => staged,
            Err(error) => {
                // the error is what to tell; a lease that is not given back ends by expiry
                let _ = run.release().await;
                return Err(error);
            }
        };
        let committed = run.commit(vec![staged], content(&batch.id), (self.clock)()).await;
        drop(alive);
        Point::Delivered.reached();
        match committed {
            Ok(_) => Ok(Delivery::All),
            Err(error) if error.kind() == ErrorKind::Busy => Ok(later(&error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Whether a run names the batch; one that was cut off is finished first.
    async fn has(&self, batch: &BatchId) -> Result<bool> {
        self.begin(&batch.sync).await?.release().await?;
        let wanted = content(batch);
        let runs = self.warehouse.runs(usize::MAX).await?;
        Ok(runs.iter().any(|run| run.content == wanted && run.status == RunStatus::Committed))
    }
}

/// Waits for work of a warehouse on a thread of its own: it borrows while it waits, in a way that keeps the compiler from
/// moving it between threads.
async fn apart<T: Send + 'static>(work: impl AsyncFnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let runtime = Handle::current();
    let done = tokio::task::spawn_blocking(move || runtime.block_on(work()));
    done.await.or_fail(ErrorKind::Failed, || "a delivery stopped without an answer".to_owned())?
}

/// Nothing was taken; another writer was there.
fn later(reason: &str) -> Delivery {
    Delivery::Later { reason: reason.to_owned(), after: None, unknown: false }
}

/// What a run's record says of its batch.
fn content(batch: &BatchId) -> Value {
    json!({"kind": "delivery", "sync": batch.sync, "epoch": batch.epoch, "batch": batch.number})
}

async fn stage(run: &Run, batch: &Batch) -> Result<StagedTable> {
    let (table, rows) = (batch.id.sync.as_str(), &batch.rows);
    match batch.mode {
        SyncMode::Replace => {
            run.write_all(table, &rows.schema(), WriteMode::Overwrite, std::slice::from_ref(rows)).await
        }
        SyncMode::Append if !batch.operations.contains(&Operation::Delete) => {
            let rows = with_changes(batch)?;
            run.write_all(table, &rows.schema(), WriteMode::Append, std::slice::from_ref(&rows)).await
        }
        SyncMode::Append => run.merge(table, key(rows).name(), &with_changes(batch)?, &on_keys(batch)).await,
        SyncMode::Upsert | SyncMode::Insert | SyncMode::Update | SyncMode::Mirror => {
            run.merge(table, key(rows).name(), rows, &on_keys(batch)).await
        }
    }
}

/// The column that names a row.
fn key(rows: &RecordBatch) -> FieldRef {
    Arc::clone(&rows.schema().fields()[0])
}

fn on_keys(batch: &Batch) -> Vec<OnKey> {
    batch.operations.iter().map(|operation| on_key(batch.mode, *operation)).collect()
}

fn on_key(mode: SyncMode, operation: Operation) -> OnKey {
    match (mode, operation) {
        (_, Operation::Delete) => OnKey::Delete,
        (SyncMode::Insert, _) => OnKey::Insert,
        (SyncMode::Update, _) => OnKey::Update,
        (SyncMode::Append, _) => OnKey::Add,
        _ => OnKey::Put,
    }
}

impl Destination for Delta {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            upsert: true,
            insert: true,
            update: true,
            append: true,
            delete: true,
            replace: true,
            idempotent: false,
            remembers_batches: true,
            rows_per_batch: None,
            concurrent: false,
            deletes_apart: false,
            renames: false,
        }
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>> {
        let (delta, batch) = (self.clone(), batch.clone());
        Box::pin(apart(async move || delta.write(&batch).await))
    }

    fn arrived<'a>(&'a self, batch: &'a BatchId) -> BoxFuture<'a, Result<Option<bool>>> {
        let (delta, batch) = (self.clone(), batch.clone());
        Box::pin(apart(async move || delta.has(&batch).await.map(Some)))
    }
}
