//! Erases people: from every table, state and version that the warehouse has, and from destinations.
//!
//! 1. Who it is: entity ids and identifiers, as the committed tables know them, and the keys under which syncs sent them.
//! 2. Tombstones: from here on no run reads them again, whatever files bring.
//! 3. The erasure is written down as open. It names whom to look for until all is done, so that one that was cut off is
//!    finished by the next; syncs delete what it names, in every mode, until that is acknowledged.
//! 4. A whole run: everything is built without them.
//! 5. What is never built anew (histories, registries, states of syncs) loses their rows, and all versions before go.
//! 6. Every table is read and searched. Only when nothing is found there is a certificate.
//!
//! # Not here
//! The files of sources, which are not ours; copies of the warehouse; projects' own files, such as rules and lists.

use super::audit;
use super::prepare::{Failure, Options, Purpose, loaded, prepare};
use super::progress::Progress;
use super::reading::reader_with_secrets;
use super::run::{Held, last_as_of, now, run, until_stopped, warehouse_of};
use super::search::Wanted;
use super::tombstones::{People, PersonRequest, decide, listed, people_of, stones_of, texts};
use crate::engine::Reader;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{ModelKind, Project, SyncModel};
use crate::privacy::{Decision, Tombstone};
use crate::sync::forget_logs;
use crate::warehouse::{KEPT, PARTIALS, Run, StagedTable, Warehouse, WriteMode, number_of, numbered, to_json};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{Array as _, AsArray as _, BooleanArray, RecordBatch};
use deltalake_core::arrow::compute::filter_record_batch;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

const OPEN: &str = "_kinfold/erasures/open";
const DONE: &str = "_kinfold/erasures/done";
/// Version of the format.
const FORMAT: u32 = 1;

/// An erasure that is not done.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Open {
    format: u32,
    /// Entry of the audit log.
    number: u64,
    at: DateTime<Utc>,
    by: String,
    reason: String,
    people: People,
    /// Their keys at destinations, by sync.
    keys: BTreeMap<String, BTreeSet<String>>,
    /// Syncs that are no longer defined: which of their rows are of these people is not known.
    #[serde(default)]
    untraced: BTreeSet<String>,
    stones: Vec<Tombstone>,
}

/// What is taken out, and of what.
struct Work<'a> {
    project: &'a Project,
    wanted: &'a Wanted,
    all: &'a [Open],
}

/// That people are erased, without naming them.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    format: u32,
    /// Number of the erasure: its entry in the audit log.
    pub number: u64,
    /// When it was asked for.
    pub at: DateTime<Utc>,
    /// When it was done.
    pub done_at: DateTime<Utc>,
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How many people the tables knew by these identifiers.
    pub people: usize,
    /// Their identifiers, as keyed hashes; they block what files bring later.
    pub tombstones: Vec<Tombstone>,
    /// Tables that are never built anew, and how many rows they lost.
    pub thinned: BTreeMap<String, u64>,
    /// By sync, how many rows its destination was told to delete and acknowledged.
    pub deleted: BTreeMap<String, u64>,
    /// By sync, how many rows may still be at the destination: it did not acknowledge, or cannot delete.
    pub owed: BTreeMap<String, u64>,
    /// Syncs that the project has no more and whose destinations have rows under keys that lead to nobody.
    pub untraced: BTreeSet<String>,
    /// The first run that can be read.
    pub history_begins_at_run: u64,
    /// Tables that were searched; partial states and copies of source tables were, too.
    pub searched_tables: usize,
    /// Rows of them.
    pub searched_rows: u64,
    /// Identifiers that are too short to be searched for alone; they were searched for with their type before them.
    pub short_identifiers: usize,
}

/// Erases people.
///
/// # Errors
/// Findings when the project does not load or data break what it promises; `Usage` when an identifier cannot be read; `Failed`
/// when something of them is left, which a later call finishes; `Busy`, `Storage`.
pub async fn forget(
    options: &Options,
    request: &PersonRequest,
    progress: &dyn Progress,
) -> std::result::Result<Certificate, Failure> {
    let (project, _, _) = loaded(options)?;
    let warehouse = warehouse_of(&project, options)?;
    let people = people_of(options, request).await?;
    let (keys, untraced) = keys_of(options, &project, &people).await?;
    let stones = stones_of(&warehouse, &people).await?;
    let number = decide(&warehouse, options, (Decision::Erase, "forget"), stones.clone(), &request.reason).await?;
    let by = audit::who(options);
    let (at, reason) = (now(), request.reason.clone());
    let own = Open { format: FORMAT, number, at, by, reason, people, keys, untraced, stones };
    warehouse.state().create_json(&numbered(OPEN, number), &own).await?;
    let all = open(&warehouse).await?;
    if warehouse.snapshot(None).await?.run.is_some() {
        rebuild(options, progress).await?;
    }
    let wanted = Wanted::new(all.iter().map(|open| &open.people));
    let work = Work { project: &project, wanted: &wanted, all: &all };
    let mut thinned = BTreeMap::new();
    let first = thin(options, progress, &warehouse, &work, &mut thinned).await?;
    end_history(options, progress, &warehouse, first).await?;
    let left = search(&warehouse, &wanted, &all).await?;
    if let Some(error) = residue(&left) {
        return Err(error.into());
    }
    let mut certificate = None;
    for one in &all {
        let made = certified(one, (&left, &thinned, first), &wanted);
        close(&warehouse, options, one, &made).await?;
        certificate = if one.number == number { Some(made) } else { certificate };
    }
    certificate.ok_or_else(|| Error::new(ErrorKind::Failed, "the erasure was finished by somebody else").into())
}

/// Keys of people whose rows destinations must delete, by sync.
///
/// # Errors
/// `Data` when an open erasure is damaged; `Storage`.
pub(super) async fn keys_to_delete(warehouse: &Warehouse) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for open in open(warehouse).await? {
        for (sync, keys) in open.keys {
            all.entry(sync).or_default().extend(keys);
        }
    }
    Ok(all)
}

async fn open(warehouse: &Warehouse) -> Result<Vec<Open>> {
    let mut all = Vec::new();
    for number in warehouse.state().names(OPEN).await?.iter().filter_map(|name| number_of(name)) {
        all.extend(warehouse.state().get_json::<Open>(&numbered(OPEN, number)).await?);
    }
    Ok(all)
}

/// The keys under which syncs sent these people, and the syncs of which that cannot be known.
async fn keys_of(
    options: &Options,
    project: &Project,
    people: &People,
) -> std::result::Result<(BTreeMap<String, BTreeSet<String>>, BTreeSet<String>), Failure> {
    let reader = reader_with_secrets(options).await?;
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut untraced = BTreeSet::new();
    for state in reader.tables() {
        let Some(name) = state.strip_prefix("kinfold.sync_") else { continue };
        let words: BTreeSet<&String> = people.ids.iter().chain(people.identifiers.iter().map(|(_, v, _)| v)).collect();
        let words = listed(words);
        let mut found = texts(&reader, &format!("SELECT key FROM {state} WHERE key IN ({words})")).await?;
        if let Some(ModelKind::Sync(sync)) = project.models.get(name).map(|model| &model.kind) {
            // whoever is not found is neither deleted nor owed: not knowing is no answer
            found.extend(sent_keys(&reader, sync, people).await.map_err(|error| untraceable(&error, name))?);
        } else {
            let others = format!(
                "SELECT key FROM {state} WHERE key NOT IN ({words}) AND (row_hash IS NOT NULL OR state = 'sent') LIMIT 1"
            );
            if !texts(&reader, &others).await?.is_empty() {
                untraced.insert(name.to_owned());
            }
        }
        keys.insert(name.to_owned(), found.into_iter().flatten().collect());
    }
    Ok((keys, untraced))
}

fn untraceable(error: &Error, sync: &str) -> Error {
    let message = format!("the keys under which `{sync}` sent them cannot be looked up: {error}");
    Error::new(ErrorKind::Failed, message).with_help(
        "nothing was erased: see to it that what the sync is `from` is a table and was built (`kinfold run`), and that the \
         secrets of its key are there; then run the same `kinfold forget` again",
    )
}

/// The keys that a sync makes of their rows: those of their ids, or, where no column says whose a row is, those in which
/// an identifier of theirs stands.
async fn sent_keys(reader: &Reader, sync: &SyncModel, people: &People) -> Result<Vec<Vec<String>>> {
    let rows = sent_rows(reader.project(), sync, people);
    let columns = format!("SELECT * FROM ({rows}) LIMIT 0");
    reader.open_tables(&columns).await?;
    let schema = reader.answer(&columns).await?.schema;
    let id = format!("{}_id", people.identity);
    let whose = if schema.column_with_name(&id).is_some() {
        format!("{id} IN ({})", listed(&people.ids))
    } else {
        let wanted = Wanted::new(std::iter::once(people));
        let words = listed(people.ids.iter().chain(wanted.cells()));
        let plain = schema.fields().iter().filter(|field| !field.data_type().is_nested());
        let tests: Vec<String> =
            plain.map(|field| format!("CAST(\"{}\" AS VARCHAR) IN ({words})", field.name())).collect();
        if tests.is_empty() { "false".to_owned() } else { tests.join(" OR ") }
    };
    texts(reader, &format!("SELECT CAST(({}) AS VARCHAR) FROM ({rows}) WHERE {whose}", sync.key.value)).await
}

/// What a sync sends rows of, in SQL.
fn sent_rows(project: &Project, sync: &SyncModel, people: &People) -> String {
    let (from, id) = (&sync.from.value, format!("{}_id", people.identity));
    match project.models.get(from).map(|model| &model.kind) {
        Some(ModelKind::Audience(audience)) => {
            let profile = &audience.profile.value;
            format!(
                "SELECT p.*, a.entered_at, a.reason FROM \"{from}\" AS a JOIN \"{profile}\" AS p ON a.{id} = p.{id}"
            )
        }
        _ => format!("SELECT * FROM \"{from}\""),
    }
}

/// Builds everything without them, and sends what that changes. A sync that fails leaves rows that are owed.
async fn rebuild(options: &Options, progress: &dyn Progress) -> std::result::Result<(), Failure> {
    let all = Options { full: true, select: Vec::new(), exclude: Vec::new(), ..options.clone() };
    let prepared = prepare(&all, Purpose::Run).await?;
    let report = Box::pin(run(prepared, &all, progress)).await?;
    if let Some(withheld) = report.withheld.first() {
        let message = format!("`{}` was not built anew: a data test failed", withheld.model);
        return Err(unfinished(Error::new(ErrorKind::Failed, message)).into());
    }
    Ok(())
}

/// Takes rows out of what is never built anew; returns the number of the run that did.
async fn thin(
    options: &Options,
    progress: &dyn Progress,
    warehouse: &std::sync::Arc<Warehouse>,
    erasure: &Work<'_>,
    thinned: &mut BTreeMap<String, u64>,
) -> std::result::Result<u64, Failure> {
    let held = Held::default();
    let work = async |run: Run| {
        held.committing.store(true, Ordering::Relaxed);
        let (number, as_of) = (run.number(), last_as_of(warehouse, run.base()).await?);
        let staged = match thinner(&run, erasure, thinned).await {
            Ok(staged) => staged,
            Err(error) => {
                // the error is what to tell; a lease that is not given back ends by expiry
                let _ = run.release().await;
                return Err(error.into());
            }
        };
        let content = json!({"kind": "erasure", "as_of": as_of, "tables": thinned.len()});
        run.commit(staged, content, now()).await?;
        Ok(number)
    };
    until_stopped(warehouse, options, progress, &held, work).await
}

async fn thinner(run: &Run, work: &Work<'_>, thinned: &mut BTreeMap<String, u64>) -> Result<Vec<StagedTable>> {
    let mut staged = Vec::new();
    let Work { project, wanted, all } = work;
    let warehouse = run.warehouse();
    for (name, at) in run.base().tables.iter().filter(|(name, _)| is_never_rebuilt(project, name)) {
        let table = warehouse.table(at).await?;
        let rows = warehouse.read_all(&table).await?;
        let mut kept = Vec::new();
        let mut lost = 0;
        for batch in &rows {
            let found = wanted.found_in(batch)?;
            // a row that may be at a destination stays until a delete is acknowledged
            let goes = found.iter().enumerate().map(|(row, found)| match at_destination(name, batch, row, all) {
                Some((_, there)) => !there,
                None => *found,
            });
            let stays: BooleanArray = goes.map(|goes| Some(!goes)).collect();
            lost += (batch.num_rows() - stays.true_count()) as u64;
            let doing = || format!("rows of `{name}` cannot be taken out");
            kept.push(filter_record_batch(batch, &stays).or_fail(ErrorKind::Failed, doing)?);
        }
        if let Some(sync) = name.strip_prefix("kinfold.sync_") {
            forget_logs(warehouse.state(), sync, &rows).await?;
        }
        if lost > 0 {
            staged.push(run.write_all(name, &table.schema, WriteMode::Overwrite, &kept).await?);
            thinned.insert(name.clone(), lost);
        }
    }
    Ok(staged)
}

/// Tables that grow, and states: a run that builds everything does not write them anew.
fn is_never_rebuilt(project: &Project, table: &str) -> bool {
    let is_identity = |name| project.models.get(name).is_some_and(|m| matches!(m.kind, ModelKind::Identity(_)));
    let of_identity =
        ["_changes", "_registry", "_report"].iter().any(|end| table.strip_suffix(end).is_some_and(is_identity));
    let of_audiences = ["audience_changes", "audience_history", "audience_sizes"].contains(&table);
    of_identity || of_audiences || (table.starts_with("kinfold.") && table != "kinfold.definitions")
}

/// Whether a row is what is known of theirs at a destination; if so, whether it may still be there.
fn at_destination(table: &str, batch: &RecordBatch, row: usize, all: &[Open]) -> Option<(String, bool)> {
    let sync = table.strip_prefix("kinfold.sync_")?;
    let column = |name: &str| batch.column_by_name(name);
    let texts = |name: &str| column(name).and_then(|c| c.as_string_opt::<i32>()).filter(|c| c.is_valid(row));
    let text = |name: &str| texts(name).map(|c| c.value(row).to_owned());
    let key = text("key")?;
    all.iter().find(|open| open.keys.get(sync).is_some_and(|keys| keys.contains(&key)))?;
    let perhaps = column("perhaps_there").and_then(|c| c.as_boolean_opt());
    let there = text("row_hash").is_some()
        || perhaps.is_some_and(|c| c.is_valid(row) && c.value(row))
        || (text("state").as_deref() == Some("sent") && text("operation").as_deref() != Some("delete"));
    Some((key, there))
}

/// Makes what was before the run `first` unreadable, and removes it.
async fn end_history(
    options: &Options,
    progress: &dyn Progress,
    warehouse: &std::sync::Arc<Warehouse>,
    first: u64,
) -> std::result::Result<(), Failure> {
    let held = Held::default();
    let work = async |run: Run| {
        held.committing.store(true, Ordering::Relaxed);
        Ok(run.vacuum(first, now()).await?)
    };
    until_stopped(warehouse, options, progress, &held, work).await?;
    Ok(())
}

/// What is left.
#[derive(Debug, Default)]
struct Left {
    tables: usize,
    rows: u64,
    /// Rows that name them, by table.
    found: BTreeMap<String, u64>,
    /// Keys that destinations must still delete, by sync.
    owed: BTreeMap<String, BTreeSet<String>>,
}

/// Reads every table, every partial state and every copy of a source file, and looks for them.
async fn search(warehouse: &Warehouse, wanted: &Wanted, all: &[Open]) -> Result<Left> {
    let mut left = Left::default();
    let snapshot = warehouse.snapshot(None).await?;
    for (name, table) in warehouse.tables(&snapshot).await? {
        left.tables += 1;
        // file by file: tables are larger than memory
        for file in &table.files {
            for batch in table.read_file(warehouse.store(), file).await? {
                left.look(&name, &batch, wanted, all)?;
            }
        }
    }
    for folder in [PARTIALS, KEPT] {
        for file in warehouse.state_names(folder).await? {
            for batch in warehouse.state_rows(folder, &file).await? {
                left.look(&format!("{folder}/{file}"), &batch, wanted, all)?;
            }
        }
    }
    Ok(left)
}

impl Left {
    /// Looks for them in rows of a table.
    fn look(&mut self, table: &str, batch: &RecordBatch, wanted: &Wanted, all: &[Open]) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        for (row, found) in wanted.found_in(batch)?.into_iter().enumerate() {
            match at_destination(table, batch, row, all) {
                // what a destination must still delete is told as owed
                Some((key, true)) => {
                    let sync = table.trim_start_matches("kinfold.sync_");
                    self.owed.entry(sync.to_owned()).or_default().insert(key);
                }
                None if !found => {}
                Some((_, false)) | None => *self.found.entry(table.to_owned()).or_default() += 1,
            }
        }
        Ok(())
    }
}

fn residue(left: &Left) -> Option<Error> {
    let tables: Vec<String> = left.found.iter().map(|(table, rows)| format!("{rows} rows of `{table}`")).collect();
    if tables.is_empty() {
        return None;
    }
    let error = Error::new(ErrorKind::Failed, format!("something of them is left: {}", tables.join(", ")));
    Some(error.with_help(
        "tables that no link table leads to are not known to be about somebody, and rules and lists of the project may name them: \
         leave these rows out there, and remove a file of partial states or a copy that no run names; then run the same `kinfold \
         forget` again; nothing was certified",
    ))
}

fn unfinished(error: Error) -> Error {
    error.with_help(
        "mend it, then run the same `kinfold forget` again: until then they are still in the tables of before",
    )
}

fn certified(
    open: &Open,
    (left, thinned, first): (&Left, &BTreeMap<String, u64>, u64),
    wanted: &Wanted,
) -> Certificate {
    let owed = |sync: &String, keys: &BTreeSet<String>| {
        left.owed.get(sync).map_or(0, |owed| owed.intersection(keys).count() as u64)
    };
    let of = |count: &dyn Fn(&String, &BTreeSet<String>) -> u64| -> BTreeMap<String, u64> {
        open.keys.iter().map(|(sync, keys)| (sync.clone(), count(sync, keys))).filter(|(_, n)| *n > 0).collect()
    };
    Certificate {
        format: FORMAT,
        number: open.number,
        at: open.at,
        done_at: now(),
        by: open.by.clone(),
        reason: open.reason.clone(),
        people: open.people.count,
        tombstones: open.stones.clone(),
        thinned: thinned.clone(),
        deleted: of(&|sync, keys| keys.len() as u64 - owed(sync, keys)),
        owed: of(&owed),
        untraced: open.untraced.clone(),
        history_begins_at_run: first,
        searched_tables: left.tables,
        searched_rows: left.rows,
        short_identifiers: wanted.short,
    }
}

/// Keeps the certificate. What is owed stays open, so that syncs go on deleting it; whom it is about is not needed for that.
async fn close(warehouse: &Warehouse, options: &Options, open: &Open, made: &Certificate) -> Result<()> {
    let (state, name) = (warehouse.state(), numbered(OPEN, open.number));
    let facts = json!({"number": open.number, "owed": &made.owed, "searched_rows": made.searched_rows});
    if made.owed.is_empty() {
        state.create_json(&numbered(DONE, open.number), made).await?;
        state.remove(&name).await?;
        audit::note(warehouse, options, "forgotten", facts).await?;
    } else {
        let people = People { ids: BTreeSet::new(), identifiers: Vec::new(), ..open.people.clone() };
        state.replace(&name, to_json(&Open { people, ..open.clone() })?).await?;
        audit::note(warehouse, options, "owed", facts).await?;
    }
    Ok(())
}
