//! Tables and state under one location, committed run by run.
//!
//! A warehouse is a folder on disk or a prefix in an object store. It holds Delta tables, one folder a
//! table (`kinfold.runs` is `kinfold/runs/`), and Kinfold's own state under `_kinfold/`:
//!
//! | path | what |
//! |---|---|
//! | `_kinfold/leases/<epoch>.json` | who is running, until when |
//! | `_kinfold/staged/<run>.json` | all that run `<run>` commits, down to the bytes |
//! | `_kinfold/runs/<run>.json` | run `<run>` is over; the versions of all tables that belong together |
//! | `_kinfold/partials/…` | partial states of source tables, as `kinfold.partials` names them |
//! | `_kinfold/kept/…` | copies of files of source tables, as `kinfold.kept` names them |
//! | `_kinfold/secrets/<name>` | keys made once (see [`Warehouse::secret`]) |
//! | `_kinfold/sync/<sync>/…` | acknowledgements of syncs |
//! | `_kinfold/audit/<n>.json` | what was done with people's data (see [`AuditLog`]) |
//!
//! # Rules
//! - Every decision is a put-if-absent of one object. Nothing is decided by overwriting or by the clock:
//!   the lease saves work, it does not guard correctness.
//! - Runs are numbered 1, 2, 3, … without gaps. A run owns its number by creating `staged/<run>.json`;
//!   it may do so only when every smaller number has its record.
//! - What a staged list will write is a function of the list and the logs, so that any process that finds
//!   it finishes it in the same way. Each Delta commit names the version it replaces, and carries
//!   `txn {appId: kinfold, version: run}`; a commit that is there already is recognised by it.
//! - A run is visible when its record is there. A record names the versions of *all* visible tables, so a
//!   reader reads one record and never a half-committed run. A table that a run did not write stays at
//!   its version.
//! - A run that cannot be finished (another writer changed a table in between) is abandoned: its record
//!   says so, the tables are restored, and the versions of the run before stay visible.
//!
//! - What old and dead runs left is removed by a vacuum ([`vacuum`]), and by nothing else.
//!
//! # Not here
//! Power loss: the local file system client does not
//! force its writes to disk, so that the last run before a power cut may be lost or damaged.

mod audit;
mod commit;
mod lease;
mod location;
mod log;
mod merge;
mod record;
mod recover;
mod retry;
mod rows;
mod run;
mod source;
mod store;
mod table;
mod types;
mod vacuum;
mod writer;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vacuum_tests;

pub use audit::{AuditEntry, AuditHead, AuditLog, AuditReport};
pub use location::{Environment, Location};
pub use merge::OnKey;
pub use record::{RunRecord, RunStatus, Snapshot, TableAt};
pub use recover::Recovered;
pub use run::{KEPT, KeepAlive, PARTIALS, Run, RunRequest, StateFiles};
pub use source::{DataChanges, DeltaSource, DeltaSourceFile, data_changes};
pub use store::{Created, State, number_of, numbered, to_json};
pub use table::{DataFile, Table};
pub use types::{storable_batch, storable_schema};
pub use vacuum::{CompactedTable, Vacuum, VacuumedTable};
pub use writer::{StagedFile, StagedTable, TableWriter, WriteMode};

use crate::error::{Context, Error, ErrorKind, Result};
use deltalake_core::arrow::array::RecordBatch;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore;
use object_store::path::Path;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use url::Url;

/// Tables by name and version, read once.
type Cache = Arc<Mutex<BTreeMap<(String, u64), Arc<Table>>>>;

/// Tables and state under one location. Cheap to clone; clones share what they have read.
#[derive(Debug, Clone)]
pub struct Warehouse {
    state: State,
    url: Url,
    workers: usize,
    cache: Cache,
}

impl Warehouse {
    /// The warehouse at a location, there or not: nothing is contacted yet.
    ///
    /// # Errors
    /// `Usage` when the location or the environment cannot be used.
    pub fn open(location: &Location, environment: &Environment) -> Result<Self> {
        let (store, prefix) = location.object_store(environment)?;
        Ok(Self::with_store(store, prefix, location.url()?))
    }

    /// The warehouse below `prefix` of a store; `url` is that of the prefix and ends with a slash.
    pub fn with_store(store: Arc<dyn ObjectStore>, prefix: Path, url: Url) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { state: State::new(store, prefix), url, workers, cache: Cache::default() }
    }

    /// Sets how many threads encode one table (by default one a processor).
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// The store, at its root: paths of [`DataFile`] start there.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        self.state.store()
    }

    /// Small objects of the warehouse, such as the logs of syncs.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// URL of the warehouse; ends with a slash.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What is visible after `run`, or after the newest run. Takes no lease and waits for nobody.
    ///
    /// # Errors
    /// `Usage` when there is no such run; `Data` when its record is damaged; `Storage`.
    pub async fn snapshot(&self, run: Option<u64>) -> Result<Snapshot> {
        let run = match run {
            Some(run) => run,
            None => match record::numbers(&self.state).await?.last() {
                Some(run) => *run,
                None => return Ok(Snapshot::default()),
            },
        };
        Ok(self.run(run).await?.snapshot())
    }

    /// The record of a run that somebody names.
    ///
    /// # Errors
    /// `Usage` when there is no such run, or not any more; `Data` when its record is damaged; `Storage`.
    pub async fn run(&self, run: u64) -> Result<RunRecord> {
        record::named(&self.state, run).await
    }

    /// A table at the version that a snapshot names.
    ///
    /// # Errors
    /// `Data` when it uses features that cannot be read; `Storage`.
    pub async fn table(&self, at: &TableAt) -> Result<Arc<Table>> {
        let key = (at.name.clone(), at.version);
        if let Some(table) = self.cached(&key) {
            return Ok(table);
        }
        let (folder, url) = (self.folder(&at.name), self.table_url(&at.name)?);
        let table = Arc::new(Table::open(self.store(), &folder, &url, &at.name, Some(at.version)).await?);
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&table));
        Ok(table)
    }

    fn cached(&self, key: &(String, u64)) -> Option<Arc<Table>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// All tables of a snapshot, by name.
    ///
    /// # Errors
    /// As [`Warehouse::table`], for the first that fails.
    pub async fn tables(&self, snapshot: &Snapshot) -> Result<BTreeMap<String, Arc<Table>>> {
        futures::stream::iter(snapshot.tables.values())
            .map(|at| async move { Ok((at.name.clone(), self.table(at).await?)) })
            .buffered(record::AT_ONCE)
            .try_collect()
            .await
    }

    /// All rows of a table. For small ones: everything is in memory at once.
    ///
    /// # Errors
    /// `Data` when a file is damaged; `Storage`.
    pub async fn read_all(&self, table: &Table) -> Result<Vec<RecordBatch>> {
        table.read(self.store()).await
    }

    /// The newest `limit` runs that are over, newest first, abandoned ones too.
    ///
    /// # Errors
    /// `Data` when a record is damaged; `Storage`.
    pub async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        record::newest(&self.state, limit).await
    }

    /// A random key of this warehouse, made by whoever asks first. Ids derived with it are stable as long as
    /// the warehouse lives, and cannot be guessed without it.
    ///
    /// # Errors
    /// `Usage` for a name that is no plain word, `Data` when the stored key is damaged, `Storage`.
    pub async fn secret(&self, name: &str) -> Result<[u8; 32]> {
        check_table_name(name)?;
        let file = format!("_kinfold/secrets/{name}");
        let mut digest = Sha256::new();
        for _ in 0..3 {
            digest.update(uuid::Uuid::new_v4().as_bytes());
        }
        let text = match self.state.get(&file).await? {
            Some(found) => found,
            None => match self.state.create(&file, hex::encode(digest.finalize()).into()).await? {
                Created::Theirs(found) => found,
                Created::Ours => self.state.get(&file).await?.unwrap_or_default(),
            },
        };
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim_ascii(), &mut key)
            .or_fail(ErrorKind::Data, || format!("`{file}` is damaged"))?;
        Ok(key)
    }

    /// Folder of a table, relative to the warehouse.
    fn relative(&self, table: &str) -> String {
        table.replace('.', "/")
    }

    /// Folder of a table, from the store's root.
    fn folder(&self, table: &str) -> Path {
        self.state.path(&self.relative(table))
    }

    /// Where a data file of a table lies, from the store's root.
    pub fn path_in(&self, table: &str, file: &str) -> Path {
        self.folder(table).join(file)
    }

    fn log_entry(&self, table: &str, version: u64) -> String {
        store::numbered(&format!("{}/_delta_log", self.relative(table)), version)
    }

    /// URL of a table's folder; ends with a slash. Other engines open the table under it.
    ///
    /// # Errors
    /// `Usage` for a name that cannot be a table.
    pub fn table_url(&self, table: &str) -> Result<Url> {
        self.url
            .join(&format!("{}/", self.relative(table)))
            .or_fail(ErrorKind::Usage, || format!("`{table}` cannot be a table"))
    }
}

/// Makes sure that a name can be a folder on every store.
fn check_table_name(name: &str) -> Result<()> {
    let good = name.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    });
    if good {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("`{name}` cannot be the name of a table"))
        .with_help("use letters without accents, digits, `_` and `-`, with a letter or digit first"))
}
