//! How a run becomes visible, and how any process finishes it.
//!
//! 1. `staged/<run>.json` is created with the log entry of every table, byte for byte, and the version it
//!    replaces. From here on the run happens or is abandoned; nobody needs its process any more.
//! 2. Each entry is created as the next version of its table. If that version is there and carries this
//!    run's `txn`, it was done before. If it is another writer's, the run can never be whole.
//! 3. Whole: `runs/<run>.json` is created as committed. Not whole: tables that were committed are restored
//!    by one more commit, and the record is created as abandoned, with the versions of the run before.
//!
//! Both ends of 3 are determined by the logs: an entry of ours at its version stays there for ever, and so
//! does another's. So two processes that finish the same list agree.

use super::log::{Change, NewFile, check_writable, entry, new_meta, run_of};
use super::record::{self, AT_ONCE, FORMAT, RunRecord, RunStatus, Snapshot, TableAt};
use super::store::{Created, numbered, to_json};
use super::table::{DataFile, Meta, Table, checkpoint, last_run};
use super::writer::{StagedTable, WriteMode};
use super::{Warehouse, check_table_name, record::check_format};
use crate::error::{Error, ErrorKind, Result};
use crate::points::Point;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::datatypes::{Field, Schema, SchemaRef};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const FOLDER: &str = "_kinfold/staged";
/// A checkpoint is written at every such version of a table.
const CHECKPOINT_EVERY: u64 = 10;

/// All that a run commits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StagedList {
    pub(super) format: u32,
    pub(super) run: u64,
    /// Lease epoch of the writer; makes the list's bytes its own.
    pub(super) epoch: u64,
    pub(super) staged_at: DateTime<Utc>,
    pub(super) tables: Vec<StagedCommit>,
    pub(super) content: Value,
}

/// One commit to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagedCommit {
    pub(super) table: String,
    /// The version that it replaces.
    pub(super) base: Option<u64>,
    /// Text of the log entry.
    pub(super) entry: String,
}

impl StagedCommit {
    /// The version that it makes.
    fn target(&self) -> u64 {
        self.base.map_or(0, |v| v + 1)
    }
}

/// How far a commit got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Not there, and nobody else is.
    Open,
    /// There.
    Done,
    /// Another writer has the version.
    Moved,
}

impl Warehouse {
    /// Makes the log entries of a run. Reads the logs, writes nothing.
    ///
    /// # Errors
    /// `Usage` for names that cannot be tables or stand twice, `Data` when rows do not fit their table.
    pub(super) async fn stage(
        &self,
        run: u64,
        epoch: u64,
        base: &Snapshot,
        tables: &[StagedTable],
        content: Value,
        now: DateTime<Utc>,
    ) -> Result<StagedList> {
        check_names(base, tables)?;
        let commits = futures::stream::iter(tables.iter().filter(|t| !keeps_version(base, t)))
            .map(|table| self.stage_table(run, base, table, now))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(StagedList { format: FORMAT, run, epoch, staged_at: now, tables: commits, content })
    }

    async fn stage_table(
        &self,
        run: u64,
        base: &Snapshot,
        staged: &StagedTable,
        now: DateTime<Utc>,
    ) -> Result<StagedCommit> {
        let visible = base.tables.get(&staged.table);
        let name = &staged.table;
        let Some(version) = self.latest_version(name, visible.map(|at| at.version)).await? else {
            let meta = new_meta(uuid::Uuid::new_v4().to_string(), now);
            let files = staged.files.iter().map(|f| NewFile::staged(f, now)).collect();
            let change = Change {
                run,
                at: now,
                operation: "WRITE",
                read_version: None,
                metadata: Some((&meta, &staged.schema)),
                removes: Vec::new(),
                adds: files,
                same_rows: false,
            };
            return Ok(StagedCommit { table: name.clone(), base: None, entry: entry(&change)? });
        };
        let latest = self.table(&TableAt { name: name.clone(), version, run: 0 }).await?;
        check_writable(name, &latest.meta)?;
        let kept = self.kept(visible, &latest, staged.mode).await?;
        if staged.merged.is_some() && staged.merged != kept.as_ref().map(|table| table.version) {
            let message = format!("another writer changed `{name}` while rows were merged into it");
            return Err(Error::new(ErrorKind::Busy, message).with_help("run again"));
        }
        let text = entry_on(run, now, &latest, kept.as_deref(), staged)?;
        Ok(StagedCommit { table: name.clone(), base: Some(version), entry: text })
    }

    /// The state that an append or a merge adds to, or none when nothing stays.
    ///
    /// Normally the newest version. After an abandoned run that could not be restored it is the visible one,
    /// so that the abandoned rows go.
    pub(super) async fn kept(
        &self,
        visible: Option<&TableAt>,
        latest: &Arc<Table>,
        mode: WriteMode,
    ) -> Result<Option<Arc<Table>>> {
        let Some(at) = visible else {
            // Not visible through us: left by an abandoned run, or not ours at all.
            if self.last_run(&latest.name, latest.version).await?.is_none() {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!("the folder of table `{}` holds a table that Kinfold did not write", latest.name),
                )
                .with_help("move it away, rename the model, or choose another warehouse"));
            }
            return Ok(None);
        };
        if mode == WriteMode::Overwrite {
            return Ok(None);
        }
        // a merge names files of the version that it read; another writer may have joined them with others since
        let only_others = mode == WriteMode::Append;
        if at.version == latest.version
            || only_others && self.last_run(&latest.name, latest.version).await? == Some(at.run)
        {
            return Ok(Some(Arc::clone(latest)));
        }
        self.table(at).await.map(Some)
    }

    async fn last_run(&self, name: &str, version: u64) -> Result<Option<u64>> {
        last_run(&self.state, &self.folder(name), &self.table_url(name)?, name, version).await
    }

    /// Newest version of a table, at least `known`; none when there is no table.
    pub(super) async fn latest_version(&self, name: &str, known: Option<u64>) -> Result<Option<u64>> {
        let folder = format!("{}/_delta_log", self.relative(name));
        let names = match known {
            Some(version) => self.state.names_after(&folder, &format!("{version:020}.json")).await?,
            None => self.state.names(&folder).await?,
        };
        let newest = names.iter().filter_map(|n| version_of(n)).max();
        Ok(newest.max(known))
    }

    /// Finishes a staged run: commits what is missing and writes its record, or abandons it.
    ///
    /// # Errors
    /// `Storage`; then the list is still there, and the next run finishes it.
    pub(super) async fn finish(&self, list: &StagedList) -> Result<RunRecord> {
        let base =
            if list.run > 1 { record::load(&self.state, list.run - 1).await?.snapshot() } else { Snapshot::default() };
        // Look at all before writing any: a run that cannot be whole should touch nothing.
        let positions: Vec<Position> = futures::stream::iter(&list.tables)
            .map(|commit| self.position(list.run, commit))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let done: Vec<Position> = if positions.contains(&Position::Moved) {
            positions
        } else {
            futures::stream::iter(list.tables.iter().zip(positions))
                .map(|(commit, position)| self.commit_table(list.run, commit, position))
                .buffered(AT_ONCE)
                .try_collect()
                .await?
        };
        let moved: Vec<&str> = list
            .tables
            .iter()
            .zip(&done)
            .filter(|(_, p)| **p == Position::Moved)
            .map(|(t, _)| t.table.as_str())
            .collect();
        let record = if moved.is_empty() { committed(list, &base) } else { self.abandon(list, &base, &moved).await? };
        let record = self.create_record(record).await?;
        self.write_checkpoints(list, &record).await;
        Ok(record)
    }

    async fn create_record(&self, record: RunRecord) -> Result<RunRecord> {
        let name = numbered(record::FOLDER, record.run);
        let created = self.state.create_json(&name, &record).await?;
        Point::Recorded.reached();
        match created {
            Created::Ours => Ok(record),
            Created::Theirs(bytes) => {
                let value: Value = self.state.parse(&name, &bytes)?;
                check_format(&name, &value)?;
                self.state.parse(&name, &bytes)
            }
        }
    }

    async fn position(&self, run: u64, commit: &StagedCommit) -> Result<Position> {
        let latest = self.latest_version(&commit.table, commit.base).await?;
        if latest == commit.base {
            return Ok(Position::Open);
        }
        let name = self.log_entry(&commit.table, commit.target());
        if let Some(found) = self.state.get(&name).await? {
            return Ok(if run_of(&found) == Some(run) { Position::Done } else { Position::Moved });
        }
        // The entry itself was cleaned up, with later versions in place.
        let Some(latest) = latest else { return Ok(Position::Open) };
        let last = self.last_run(&commit.table, latest).await?;
        Ok(if last >= Some(run) { Position::Done } else { Position::Moved })
    }

    async fn commit_table(&self, run: u64, commit: &StagedCommit, position: Position) -> Result<Position> {
        if position != Position::Open {
            return Ok(position);
        }
        let name = self.log_entry(&commit.table, commit.target());
        let created = self.state.create(&name, commit.entry.clone().into()).await?;
        Point::TableCommitted.reached();
        Ok(match created {
            Created::Ours => Position::Done,
            Created::Theirs(found) if run_of(&found) == Some(run) => Position::Done,
            Created::Theirs(_) => Position::Moved,
        })
    }

    /// Takes back what was committed of a run that can never be whole.
    async fn abandon(&self, list: &StagedList, base: &Snapshot, moved: &[&str]) -> Result<RunRecord> {
        let mut tables = base.tables.clone();
        for commit in &list.tables {
            if self.position(list.run, commit).await? != Position::Done {
                continue;
            }
            if let Some(version) = self.restore(list, base, commit).await?
                && let Some(at) = tables.get_mut(&commit.table)
            {
                *at = TableAt { name: commit.table.clone(), version, run: list.run };
            }
        }
        let names = moved.iter().map(|m| format!("`{m}`")).collect::<Vec<_>>().join(", ");
        let note =
            format!("another writer changed {names} while the run was committing; nothing of the run is visible");
        Ok(RunRecord {
            format: FORMAT,
            run: list.run,
            status: RunStatus::Abandoned,
            committed_at: list.staged_at,
            note: Some(note),
            tables,
            content: list.content.clone(),
        })
    }

    /// Commits the state that a table had before the run. `None` when another writer has gone on from the
    /// run's version: readers through us stay at the version before, and the next append starts from there.
    async fn restore(&self, list: &StagedList, base: &Snapshot, commit: &StagedCommit) -> Result<Option<u64>> {
        let now = self.table(&TableAt { name: commit.table.clone(), version: commit.target(), run: 0 }).await?;
        let before = match base.tables.get(&commit.table) {
            Some(at) => Some(self.table(at).await?),
            None => None,
        };
        let old: &[DataFile] = before.as_ref().map_or(&[], |t| &t.files);
        let schema = before.as_ref().map_or(&now.schema, |t| &t.schema);
        let change = Change {
            run: list.run,
            at: list.staged_at,
            operation: "RESTORE",
            read_version: Some(now.version),
            metadata: (schema != &now.schema).then_some((&now.meta, schema.as_ref())),
            removes: without(&now.files, old),
            adds: without(old, &now.files).into_iter().map(NewFile::again).collect(),
            same_rows: false,
        };
        let version = now.version + 1;
        let created = self.state.create(&self.log_entry(&commit.table, version), entry(&change)?.into()).await?;
        Ok(match created {
            Created::Ours => Some(version),
            Created::Theirs(found) => (run_of(&found) == Some(list.run)).then_some(version),
        })
    }

    /// Saves readers work; a failure costs nothing else.
    async fn write_checkpoints(&self, list: &StagedList, record: &RunRecord) {
        if record.status != RunStatus::Committed {
            return;
        }
        for commit in &list.tables {
            let version = commit.target();
            if version == 0 || version % CHECKPOINT_EVERY != 0 {
                continue;
            }
            let Ok(url) = self.table_url(&commit.table) else { continue };
            let _ = checkpoint(&self.state, &self.folder(&commit.table), &url, version).await;
            Point::Checkpointed.reached();
        }
    }
}

/// Whether a table stays at its version although the run wrote it.
pub(super) fn keeps_version(base: &Snapshot, staged: &StagedTable) -> bool {
    staged.unchanged && base.tables.contains_key(&staged.table)
}

fn committed(list: &StagedList, base: &Snapshot) -> RunRecord {
    let mut tables = base.tables.clone();
    for commit in &list.tables {
        let at = TableAt { name: commit.table.clone(), version: commit.target(), run: list.run };
        tables.insert(commit.table.clone(), at);
    }
    RunRecord {
        format: FORMAT,
        run: list.run,
        status: RunStatus::Committed,
        committed_at: list.staged_at,
        note: None,
        tables,
        content: list.content.clone(),
    }
}

/// The entry that brings `latest` to the files of `kept` and those of `staged`.
fn entry_on(run: u64, at: DateTime<Utc>, latest: &Table, kept: Option<&Table>, staged: &StagedTable) -> Result<String> {
    let (mut files, schema): (Vec<DataFile>, SchemaRef) = match kept {
        // a merge by key had the table's own columns in view, and wrote all files anew where one of them got a larger type
        Some(kept) if staged.merged.is_some() => (kept.files.clone(), Arc::clone(&staged.schema)),
        Some(kept) if staged.mode != WriteMode::Overwrite => {
            (kept.files.clone(), widened(&kept.name, &kept.schema, &staged.schema)?)
        }
        _ => (Vec::new(), Arc::clone(&staged.schema)),
    };
    files.retain(|f| !staged.replaces.contains(&f.name));
    let merges = staged.merged.is_some() || staged.mode == WriteMode::Merge;
    let same_rows = !staged.replaces.is_empty() && !merges;
    let meta: &Meta = &latest.meta;
    let mut adds: Vec<NewFile> = without(&files, &latest.files).into_iter().map(NewFile::again).collect();
    adds.extend(staged.files.iter().map(|f| NewFile::staged(f, at)));
    entry(&Change {
        run,
        at,
        operation: match (merges, same_rows) {
            (true, _) => "MERGE",
            (false, true) => "OPTIMIZE",
            (false, false) => "WRITE",
        },
        read_version: Some(latest.version),
        metadata: (schema != latest.schema).then_some((meta, schema.as_ref())),
        removes: without(&latest.files, &files),
        adds,
        same_rows,
    })
}

fn without<'a>(files: &'a [DataFile], others: &[DataFile]) -> Vec<&'a DataFile> {
    let others: BTreeSet<&str> = others.iter().map(|f| f.name.as_str()).collect();
    files.iter().filter(|f| !others.contains(f.name.as_str())).collect()
}

/// The schema of a table after rows of `new` were added: new columns come last, types stay.
pub(super) fn widened(table: &str, schema: &Schema, new: &Schema) -> Result<SchemaRef> {
    let mut fields: Vec<Arc<Field>> = schema.fields().to_vec();
    for field in new.fields() {
        match schema.fields().iter().find(|f| f.name().eq_ignore_ascii_case(field.name())) {
            None => fields.push(Arc::clone(field)),
            Some(old) if old.name() == field.name() && old.data_type() == field.data_type() => {}
            Some(old) => {
                let message = format!(
                    "column `{}` of table `{}` is {} `{}`, but the new rows have {}",
                    field.name(),
                    table,
                    old.data_type(),
                    old.name(),
                    field.data_type()
                );
                return Err(Error::new(ErrorKind::Data, message)
                    .with_help("cast the column to its old type, or give the new one another name"));
            }
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn check_names(base: &Snapshot, tables: &[StagedTable]) -> Result<()> {
    let mut names: BTreeMap<&str, bool> = base.tables.keys().map(|n| (n.as_str(), false)).collect();
    for staged in tables {
        check_table_name(&staged.table)?;
        if names.insert(&staged.table, true) == Some(true) {
            return Err(Error::new(ErrorKind::Usage, format!("table `{}` is written twice in one run", staged.table)));
        }
    }
    for name in names.keys() {
        let inside = names.keys().find(|other| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
        if let Some(inside) = inside {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("table `{inside}` would lie inside the folder of table `{name}`"),
            )
            .with_help("rename one of them"));
        }
    }
    Ok(())
}

/// Version in the name of a log file: commits and checkpoints.
pub(super) fn version_of(name: &str) -> Option<u64> {
    let digits = name.get(..20)?;
    let rest = name.get(20..)?;
    let known = rest == ".json" || rest.starts_with(".checkpoint");
    (known && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// The bytes of a staged list.
pub(super) fn to_bytes(list: &StagedList) -> Result<bytes::Bytes> {
    to_json(list)
}
