//! A run that writes: begins, writes tables, commits once.

use super::commit::{FOLDER, keeps_version, to_bytes};
use super::lease::Lease;
use super::record::{self, RunRecord, RunStatus, Snapshot};
use super::recover::Recovered;
use super::store::{Created, numbered};
use super::table::rows_of;
use super::writer::{ROWS_PER_GROUP, StagedTable, TableWriter, Target, WriteMode, properties, remove_files};
use super::{Warehouse, check_table_name};
use crate::error::{Error, ErrorKind, Result};
use crate::points::Point;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::RecordBatch;
use deltalake_core::arrow::datatypes::Schema;
use futures::stream;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use parquet::file::properties::WriterPropertiesPtr;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Folder of the files with partial states.
pub const PARTIALS: &str = "_kinfold/partials";
/// Folder of the copies of source files.
pub const KEPT: &str = "_kinfold/kept";

/// Who wants to run, and for how long without a sign of life.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// For people who find the warehouse held: machine, process, command.
    pub holder: String,
    /// The wall clock.
    pub now: DateTime<Utc>,
    /// After so many seconds without renewal others may take over.
    pub lease_s: u32,
}

/// The right to write, and what was visible when it began.
///
/// Call [`Run::commit`] or [`Run::release`]; a run that is only dropped holds the warehouse until its lease
/// expires.
#[derive(Debug)]
pub struct Run {
    warehouse: Warehouse,
    lease: Lease,
    number: u64,
    base: Snapshot,
    recovered: Vec<Recovered>,
    files: Arc<AtomicU32>,
    properties: WriterPropertiesPtr,
    lease_s: u32,
}

impl Warehouse {
    /// Takes the lease, finishes what a killed run left, and begins the next run.
    ///
    /// # Errors
    /// `Busy` when another run holds the warehouse, `Data` when its state is damaged, `Storage`.
    pub async fn begin(&self, request: RunRequest) -> Result<Run> {
        let lease = Lease::take(&self.state, &request.holder, request.now, request.lease_s).await?;
        let begun = async {
            let (recovered, last) = self.recover().await?;
            let base = if last == 0 { Snapshot::default() } else { self.snapshot(Some(last)).await? };
            Ok((recovered, last, base))
        }
        .await;
        match begun {
            Ok((recovered, last, base)) => Ok(Run {
                warehouse: self.clone(),
                lease,
                number: last + 1,
                base,
                recovered,
                files: Arc::new(AtomicU32::new(0)),
                properties: properties(),
                lease_s: request.lease_s,
            }),
            Err(e) => {
                // The first error is the one to tell; the lease also ends by itself.
                let _ = lease.release().await;
                Err(e)
            }
        }
    }
}

impl Run {
    /// Its number, which it owns once it commits.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Number of its lease: unlike the run's number, never given twice.
    pub fn epoch(&self) -> u64 {
        self.lease.epoch()
    }

    /// What was visible when it began; what it reads.
    pub fn base(&self) -> &Snapshot {
        &self.base
    }

    /// Runs that were cut off and were finished or abandoned before this one began.
    pub fn recovered(&self) -> &[Recovered] {
        &self.recovered
    }

    /// The warehouse.
    pub fn warehouse(&self) -> &Warehouse {
        &self.warehouse
    }

    /// A writer for one table; several may be in work at once.
    ///
    /// # Errors
    /// `Usage` when the name cannot be a table, `Data` when the schema cannot be stored.
    pub fn writer(&self, table: &str, schema: &Schema, mode: WriteMode) -> Result<TableWriter> {
        check_table_name(table)?;
        let target = Target {
            store: Arc::clone(self.warehouse.store()),
            folder: self.warehouse.folder(table),
            epoch: self.lease.epoch(),
            counter: Arc::clone(&self.files),
            workers: self.warehouse.workers,
            properties: Arc::clone(&self.properties),
            rows_per_group: ROWS_PER_GROUP,
        };
        TableWriter::new(table, schema, mode, target)
    }

    /// Where the run writes partial states.
    pub fn partial_files(&self) -> StateFiles {
        self.state_files("partial states", PARTIALS)
    }

    /// Where the run writes copies of source files.
    pub fn kept_files(&self) -> StateFiles {
        self.state_files("copies of source files", KEPT)
    }

    fn state_files(&self, what: &'static str, folder: &str) -> StateFiles {
        StateFiles {
            what,
            target: Target {
                store: Arc::clone(self.warehouse.store()),
                folder: self.warehouse.state.path(folder),
                epoch: self.lease.epoch(),
                counter: Arc::clone(&self.files),
                workers: self.warehouse.workers,
                properties: Arc::clone(&self.properties),
                rows_per_group: ROWS_PER_GROUP,
            },
        }
    }

    /// Writes rows that are at hand.
    ///
    /// # Errors
    /// As [`Run::writer`] and [`TableWriter::write`].
    pub async fn write_all(
        &self,
        table: &str,
        schema: &Schema,
        mode: WriteMode,
        rows: &[RecordBatch],
    ) -> Result<StagedTable> {
        let rows = stream::iter(rows.iter().cloned().map(Ok));
        Box::pin(self.writer(table, schema, mode)?.write_stream(rows)).await
    }

    /// Shows that the run is alive.
    ///
    /// # Errors
    /// `Busy` when another run took over: stop, this one cannot commit; `Storage`.
    pub async fn renew(&self, now: DateTime<Utc>) -> Result<()> {
        self.lease.renew(now).await
    }

    /// Renews in the background, three times per lease, until the returned value is dropped.
    pub fn keep_alive(&self, clock: fn() -> DateTime<Utc>) -> KeepAlive {
        let lease = self.lease.clone();
        let lost = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&lost);
        let every = Duration::from_secs(u64::from(self.lease_s.max(3) / 3));
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                // A store that does not answer may answer next time; a lost lease stays lost.
                if let Err(e) = lease.renew(clock()).await
                    && e.kind() == ErrorKind::Busy
                {
                    seen.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        KeepAlive { task, lost, lease: self.lease.clone() }
    }

    /// Commits all tables and the record, or nothing, and ends the run.
    ///
    /// `content` is kept in the record for the caller; `now` is the time in the logs.
    ///
    /// # Errors
    /// `Busy` when another run or writer came first (nothing of this run is visible; run again), `Data` when
    /// rows do not fit their table, `Storage`: then the run may still be finished by the next one.
    pub async fn commit(self, tables: Vec<StagedTable>, content: Value, now: DateTime<Utc>) -> Result<RunRecord> {
        let result = self.try_commit(&tables, content, now).await;
        // Without this the next run waits until the lease expires, and no more.
        let _ = self.lease.release().await;
        let record = result?;
        if record.status == RunStatus::Abandoned {
            let why = record.note.unwrap_or_else(|| "another writer came first".to_owned());
            return Err(
                Error::new(ErrorKind::Busy, format!("run {} is abandoned: {why}", self.number)).with_help("run again")
            );
        }
        Ok(record)
    }

    async fn try_commit(&self, tables: &[StagedTable], content: Value, now: DateTime<Utc>) -> Result<RunRecord> {
        self.lease.check().await?;
        let list = self.warehouse.stage(self.number, self.lease.epoch(), &self.base, tables, content, now).await?;
        let name = numbered(FOLDER, self.number);
        match self.warehouse.state.create(&name, to_bytes(&list)?).await? {
            Created::Ours => Point::Staged.reached(),
            Created::Theirs(_) => {
                return Err(Error::new(ErrorKind::Busy, format!("another run committed as run {} first", self.number))
                    .with_help("run again"));
            }
        }
        self.check_number(&name).await?;
        let record = self.warehouse.finish(&list).await?;
        for table in tables.iter().filter(|t| keeps_version(&self.base, t)) {
            remove_files(self.warehouse.store(), &self.warehouse.folder(&table.table), &table.files).await;
        }
        Ok(record)
    }

    /// Makes sure that the number was still free. It is, unless this run stalled for so long that others came, and
    /// then a vacuum, which removed what they had staged under it.
    async fn check_number(&self, staged: &str) -> Result<()> {
        if record::numbers(&self.warehouse.state).await?.last().is_none_or(|newest| *newest < self.number) {
            return Ok(());
        }
        self.warehouse.state.remove(staged).await?;
        Err(Error::new(ErrorKind::Busy, format!("run {} is over long since", self.number)).with_help("run again"))
    }

    /// Ends the run without committing. Files that were written stay; nobody reads them.
    ///
    /// # Errors
    /// `Storage`; the lease then ends by expiry.
    pub async fn release(self) -> Result<()> {
        self.lease.release().await
    }
}

/// Writes files with rows that belong to no table: the run that commits names them in its own way.
#[derive(Debug, Clone)]
pub struct StateFiles {
    what: &'static str,
    target: Target,
}

impl StateFiles {
    /// A writer for some of them.
    ///
    /// # Errors
    /// `Data` when the schema cannot be stored.
    pub fn writer(&self, schema: &Schema) -> Result<TableWriter> {
        TableWriter::new(self.what, schema, WriteMode::Overwrite, self.target.clone())
    }
}

impl Warehouse {
    /// Where a file with partial states lies, from the store's root.
    pub fn partial_path(&self, file: &str) -> Path {
        self.state.path(PARTIALS).join(file)
    }

    /// Where a copy of a source file lies, from the store's root.
    pub fn kept_path(&self, file: &str) -> Path {
        self.state.path(KEPT).join(file)
    }

    /// Names of all files in a folder of partial states or copies, whether a run names them or not.
    ///
    /// # Errors
    /// `Storage` when they cannot be listed.
    pub async fn state_names(&self, folder: &str) -> Result<Vec<String>> {
        self.state.names(folder).await
    }

    /// The rows in one of these files.
    ///
    /// # Errors
    /// `Data` when the file is damaged; `Storage`.
    pub async fn state_rows(&self, folder: &str, file: &str) -> Result<Vec<RecordBatch>> {
        rows_of(self.store(), &self.state.path(folder).join(file), || format!("`{folder}/{file}` cannot be read")).await
    }

    /// Size of a file with partial states; none when it is not there.
    ///
    /// # Errors
    /// `Storage` when the store cannot be asked.
    pub async fn partial_bytes(&self, file: &str) -> Result<u64> {
        match self.store().head(&self.partial_path(file)).await {
            Ok(found) => Ok(found.size),
            Err(object_store::Error::NotFound { .. }) => Ok(0),
            Err(e) => Err(Error::new(ErrorKind::Storage, format!("`{PARTIALS}/{file}` cannot be found")).caused_by(e)),
        }
    }
}

/// Renews a lease while it lives.
#[derive(Debug)]
pub struct KeepAlive {
    task: JoinHandle<()>,
    lost: Arc<AtomicBool>,
    lease: Lease,
}

impl KeepAlive {
    /// Ends the lease of a run that was dropped without an end, as after an interrupt. A run that was just
    /// committing may still become visible: the next one finishes it.
    ///
    /// # Errors
    /// `Storage`; the lease then ends by expiry.
    pub async fn release(self) -> Result<()> {
        self.lease.release().await
    }

    /// Whether another run took over; this one cannot commit any more.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.task.abort();
    }
}
