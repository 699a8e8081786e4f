//! What no kept run needs goes, and small files are joined.
//!
//! Kept are all runs from one on, whole: their records, and for every table the data files and log entries of each
//! version from the first kept run's to the newest in the log, whoever wrote it. So readers of kept runs go on
//! reading, and other engines read what they see.
//!
//! # Rules
//! - A vacuum is a run of its own. Once it owns its number, a run that began before and only stalled cannot
//!   commit any more, so that files of older leases which no log names are nobody's.
//! - Only what we name is removed: data files called as ours are, of leases before the vacuum's, in folders that have a
//!   log; files and tables of other writers stay, and so do destinations that lie below the warehouse.
//! - Records go first, then log entries, then data files: killed in between, no record is left that cannot be read,
//!   and the next vacuum removes the rest.
//! - Log entries go up to a checkpoint that all kept versions can be read from.
//! - Partial states are needed by the next run only: what the newest run does not name goes.
//! - Joining files changes no row: its commit says `dataChange: false`. The small files stay until no kept run
//!   needs them.

use super::commit::{FOLDER as STAGED, version_of};
use super::record::{self, AT_ONCE, Snapshot, TableAt};
use super::run::{KEPT, PARTIALS};
use super::store::numbered;
use super::table::{DataFile, Table};
use super::writer::{StagedTable, WriteMode, epoch_of};
use super::{Run, Warehouse, lease};
use crate::error::{Context, Error, ErrorKind, Result};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::AsArray as _;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore as _;
use object_store::path::Path;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A table is compacted when it has so many small files.
const MANY_FILES: usize = 10;
/// The table that names the files with partial states.
const STATES: [(&str, &str); 2] = [(PARTIALS, "kinfold.partials"), (KEPT, "kinfold.kept")];
/// A file below this size is small.
const SMALL_BYTES: u64 = 16 << 20;

/// What a vacuum removes and joins.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Vacuum {
    /// Runs that can be read no longer.
    pub runs: Vec<u64>,
    /// Tables that lose files, by name.
    pub tables: Vec<VacuumedTable>,
    /// Tables whose small files are joined, by name.
    pub compacted: Vec<CompactedTable>,
}

/// What goes of one table.
#[derive(Debug, Clone, Serialize)]
pub struct VacuumedTable {
    /// Its name.
    pub table: String,
    /// Data files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// Entries and checkpoints of its log.
    pub log_entries: usize,
    #[serde(skip)]
    data: Vec<Path>,
    #[serde(skip)]
    log: Vec<Path>,
}

/// A table whose small files are joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompactedTable {
    /// Its name.
    pub table: String,
    /// Small files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

impl Vacuum {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.tables.is_empty() && self.compacted.is_empty()
    }
}

/// The objects in a table's folder.
#[derive(Debug, Default)]
struct Folder {
    /// Data files named as ours: name, lease epoch, size and path.
    data: Vec<(String, u64, u64, Path)>,
    /// Log entries and checkpoints by version.
    log: Vec<(u64, Path)>,
}

impl Folder {
    /// The earliest version that can be read from what is there.
    fn start(&self) -> Option<u64> {
        let checkpoints = self.log.iter().filter(|(_, path)| is_checkpoint(path)).map(|(version, _)| *version);
        if self.log.iter().any(|(version, _)| *version == 0) { Some(0) } else { checkpoints.min() }
    }

    /// Log entries before the newest checkpoint from which `oldest` can be read.
    fn log_before(&self, oldest: u64) -> Vec<Path> {
        let checkpoints = self.log.iter().filter(|(_, path)| is_checkpoint(path)).map(|(version, _)| *version);
        let from = checkpoints.filter(|version| *version <= oldest).max().unwrap_or(0);
        self.log.iter().filter(|(version, _)| *version < from).map(|(_, path)| path.clone()).collect()
    }
}

fn is_checkpoint(path: &Path) -> bool {
    path.filename().is_some_and(|name| name.contains(".checkpoint"))
}

impl Warehouse {
    /// What a vacuum that keeps the runs from `first_kept` on would do. Takes no lease and changes nothing.
    ///
    /// # Errors
    /// `Data` when a log cannot be read; `Storage`.
    pub async fn plan_vacuum(&self, first_kept: u64, now: DateTime<Utc>) -> Result<Vacuum> {
        let epoch = lease::first_free_epoch(&self.state, now).await?;
        let mut vacuum = self.removals(first_kept, epoch).await?;
        let base = self.snapshot(None).await?;
        vacuum.compacted = self.scattered(&base).await?.iter().map(|(table, small)| compacted(table, small)).collect();
        Ok(vacuum)
    }

    /// What goes: all that no run from `first_kept` on needs, of leases before `epoch`.
    async fn removals(&self, first_kept: u64, epoch: u64) -> Result<Vacuum> {
        let numbers = record::numbers(&self.state).await?;
        let (runs, kept): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(|run| *run < first_kept);
        let (Some(oldest), Some(newest)) = (kept.first(), kept.last()) else { return Ok(Vacuum::default()) };
        let oldest = record::load(&self.state, *oldest).await?.tables;
        let visible = record::load(&self.state, *newest).await?.tables;
        let mut tables: Vec<VacuumedTable> = futures::stream::iter(self.folders().await?)
            .map(|(name, folder)| {
                let (oldest, visible) = (oldest.get(&name).map(|at| at.version), visible.contains_key(&name));
                self.table_removals(name, folder, oldest, visible, epoch)
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (folder, list) in STATES {
            tables.push(self.state_removals(folder, visible.get(list), epoch).await?);
        }
        tables.retain(|t| t.files + t.log_entries > 0);
        Ok(Vacuum { runs, tables, compacted: Vec::new() })
    }

    /// What goes of one table, of which versions from `oldest` on are needed; where no kept run names one, all that
    /// can be read of a table that is visible later, and the newest of one that never was.
    async fn table_removals(
        &self,
        table: String,
        folder: Folder,
        oldest: Option<u64>,
        visible: bool,
        epoch: u64,
    ) -> Result<VacuumedTable> {
        let nothing = VacuumedTable {
            table: table.clone(),
            files: 0,
            bytes: 0,
            log_entries: 0,
            data: Vec::new(),
            log: Vec::new(),
        };
        let newest = folder.log.iter().map(|(version, _)| *version).max();
        let oldest = oldest.or(if visible { folder.start() } else { newest });
        let (Some(oldest), Some(newest)) = (oldest, newest) else { return Ok(nothing) };
        let needed = match self.needed(&table, oldest, newest).await {
            Ok(needed) => needed,
            // a table of another writer that we cannot read is not ours to tidy
            Err(error) if error.kind() == ErrorKind::Data && !visible => return Ok(nothing),
            Err(error) => return Err(error),
        };
        let gone: Vec<_> = folder.data.iter().filter(|(name, of, ..)| *of < epoch && !needed.contains(name)).collect();
        let log = if visible { folder.log_before(oldest) } else { Vec::new() };
        Ok(VacuumedTable {
            table,
            files: gone.len(),
            bytes: gone.iter().map(|(_, _, size, _)| size).sum(),
            log_entries: log.len(),
            data: gone.iter().map(|(.., path)| path.clone()).collect(),
            log,
        })
    }

    /// The partial states, or copies of source files, that the newest run does not name: older runs are read, but nothing is
    /// made from them again.
    async fn state_removals(&self, own: &str, list: Option<&TableAt>, epoch: u64) -> Result<VacuumedTable> {
        let mut needed = BTreeSet::new();
        if let Some(at) = list {
            let table = self.table(at).await?;
            for batch in self.read_all(&table).await? {
                let damaged = || Error::new(ErrorKind::Data, format!("`{}` is damaged", at.name));
                let column = batch.column_by_name("parts").and_then(|c| c.as_string_opt::<i32>());
                for parts in column.ok_or_else(damaged)?.iter().flatten() {
                    needed.extend(serde_json::from_str::<Vec<String>>(parts).map_err(|e| damaged().caused_by(e))?);
                }
            }
        }
        let folder = self.state.path(own);
        let doing = || format!("`{folder}` cannot be listed");
        let mut listing = self.store().list(Some(&folder));
        let (mut data, mut bytes) = (Vec::new(), 0);
        while let Some(object) = listing.try_next().await.or_fail(ErrorKind::Storage, doing)? {
            let name = object.location.filename().unwrap_or_default();
            if epoch_of(name).is_some_and(|of| of < epoch) && !needed.contains(name) {
                bytes += object.size;
                data.push(object.location);
            }
        }
        Ok(VacuumedTable { table: own.to_owned(), files: data.len(), bytes, log_entries: 0, data, log: Vec::new() })
    }

    /// Names of the files of all versions of a table from `oldest` to `newest`.
    async fn needed(&self, table: &str, oldest: u64, newest: u64) -> Result<BTreeSet<String>> {
        let first = self.table(&TableAt { name: table.to_owned(), version: oldest, run: 0 }).await?;
        let mut needed: BTreeSet<String> = first.files.iter().map(|f| f.name.clone()).collect();
        let later: Vec<Vec<String>> = futures::stream::iter(oldest + 1..=newest)
            .map(|version| self.added(table, version))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        needed.extend(later.into_iter().flatten());
        Ok(needed)
    }

    /// Names of the files that a version of a table added.
    async fn added(&self, table: &str, version: u64) -> Result<Vec<String>> {
        let name = self.log_entry(table, version);
        let entry = self.state.get(&name).await?;
        let entry = entry.ok_or_else(|| Error::new(ErrorKind::Data, format!("`{name}` is missing")))?;
        let path = |line: &[u8]| -> Option<String> {
            let value: Value = serde_json::from_slice(line).ok()?;
            Some(Path::from_url_path(value.get("add")?.get("path")?.as_str()?).ok()?.to_string())
        };
        Ok(entry.split(|b| *b == b'\n').filter_map(path).collect())
    }

    /// The folders that hold a log or data files of ours, by table.
    async fn folders(&self) -> Result<BTreeMap<String, Folder>> {
        let root = self.state.path("");
        let depth = root.parts().count();
        let doing = || format!("`{root}` cannot be listed");
        let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
        let mut listing = self.store().list(Some(&root));
        while let Some(object) = listing.try_next().await.or_fail(ErrorKind::Storage, doing)? {
            let parts: Vec<String> = object.location.parts().skip(depth).map(|p| p.as_ref().to_owned()).collect();
            match parts.as_slice() {
                [own, ..] if own == "_kinfold" => {}
                [table @ .., log, name] if log == "_delta_log" => {
                    if let Some(version) = version_of(name) {
                        folders.entry(table.join(".")).or_default().log.push((version, object.location));
                    }
                }
                [table @ .., name] if !table.is_empty() => {
                    if let Some(epoch) = epoch_of(name) {
                        let file = (name.clone(), epoch, object.size, object.location);
                        folders.entry(table.join(".")).or_default().data.push(file);
                    }
                }
                _ => {}
            }
        }
        Ok(folders)
    }

    /// Visible tables with many small files, and those files. Tables that other writers went on with are theirs.
    async fn scattered(&self, base: &Snapshot) -> Result<Vec<(std::sync::Arc<Table>, Vec<DataFile>)>> {
        let mut found = Vec::new();
        for (name, table) in self.tables(base).await? {
            let small: Vec<DataFile> = table.files.iter().filter(|f| f.size < SMALL_BYTES).cloned().collect();
            if small.len() >= MANY_FILES
                && self.latest_version(&name, Some(table.version)).await? == Some(table.version)
            {
                found.push((table, small));
            }
        }
        Ok(found)
    }

    async fn remove_all(&self, paths: Vec<Path>) -> Result<()> {
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut answers = self.store().delete_stream(paths);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => {
                    return Err(Error::new(ErrorKind::Storage, "a file cannot be removed")
                        .caused_by(e)
                        .with_help("what is left goes with the next vacuum"));
                }
            }
        }
        Ok(())
    }
}

fn compacted(table: &Table, small: &[DataFile]) -> CompactedTable {
    CompactedTable { table: table.name.clone(), files: small.len(), bytes: small.iter().map(|f| f.size).sum() }
}

impl Run {
    /// Joins small files, commits, and removes what no run from `first_kept` on needs. Where there is nothing to do,
    /// nothing is committed.
    ///
    /// # Errors
    /// As [`Run::commit`]; `Storage` when something cannot be removed.
    pub async fn vacuum(self, first_kept: u64, now: DateTime<Utc>) -> Result<Vacuum> {
        let warehouse = self.warehouse().clone();
        let planned = async {
            let mut vacuum = warehouse.removals(first_kept, self.epoch()).await?;
            let (staged, joined) = self.compact().await?;
            vacuum.compacted = joined;
            Ok((vacuum, staged))
        };
        let (vacuum, staged) = match planned.await {
            Ok((vacuum, _)) if vacuum.is_empty() => return self.release().await.map(|()| vacuum),
            Ok(planned) => planned,
            Err(error) => {
                // the error is what to tell; a lease that is not given back ends by expiry
                let _ = self.release().await;
                return Err(error);
            }
        };
        let bytes: u64 = vacuum.tables.iter().map(|t| t.bytes).sum();
        let files: usize = vacuum.tables.iter().map(|t| t.files).sum();
        let content = json!({
            "kind": "vacuum", "first_kept": first_kept, "runs_removed": vacuum.runs.len(), "files_removed": files,
            "bytes_removed": bytes, "compacted": &vacuum.compacted,
        });
        self.commit(staged, content, now).await?;
        let records = |run: &u64| [record::FOLDER, STAGED].map(|folder| warehouse.state.path(&numbered(folder, *run)));
        warehouse.remove_all(vacuum.runs.iter().flat_map(records).collect()).await?;
        warehouse.remove_all(vacuum.tables.iter().flat_map(|t| t.log.clone()).collect()).await?;
        warehouse.remove_all(vacuum.tables.iter().flat_map(|t| t.data.clone()).collect()).await?;
        Ok(vacuum)
    }

    /// Writes the rows of small files anew, table by table, file by file.
    async fn compact(&self) -> Result<(Vec<StagedTable>, Vec<CompactedTable>)> {
        let (mut staged, mut joined) = (Vec::new(), Vec::new());
        for (table, small) in self.warehouse().scattered(self.base()).await? {
            let mut writer = self.writer(&table.name, &table.schema, WriteMode::Append)?;
            for file in &small {
                for batch in table.read_file(self.warehouse().store(), file).await? {
                    writer.write(&batch).await?;
                }
            }
            joined.push(compacted(&table, &small));
            staged.push(writer.finish().await?.replacing(small.into_iter().map(|f| f.name).collect()));
        }
        Ok((staged, joined))
    }
}
