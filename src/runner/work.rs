//! What a run has to do: what the runs before left, what there is now, and the difference.

use super::history;
use super::kept::KEPT_FILES;
use super::prepare::Prepared;
use super::run::last_as_of;
use super::state::{exact, manifest};
use crate::engine::{Engine, Manifests, SourceFileAt};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Format, ModelKind, Project, Vanished};
use crate::plan::{Compared, Contents, FileChange, Made, Manifest, NewFiles, PartialSet, Work, World, keyed};
use crate::privacy::Tombstones;
use crate::warehouse::{Snapshot, Warehouse};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::RecordBatch;
use std::collections::{BTreeMap, BTreeSet};

/// Tables about runs that are written anew.
const LEFT: [&str; 6] =
    ["kinfold.definitions", "kinfold.files", "kinfold.inputs", "kinfold.columns", "kinfold.partials", KEPT_FILES];

/// What the last runs left.
pub(super) struct Past {
    /// Definitions as they used them.
    pub manifest: Manifest,
    /// Files of source tables as they read them.
    pub files: BTreeMap<String, Vec<SourceFileAt>>,
    /// Results of stages.
    pub made: BTreeMap<String, Made>,
    /// Partial states of source tables.
    pub partials: Vec<PartialSet>,
    /// Logical time of the last.
    pub as_of: Option<DateTime<Utc>>,
    rows: BTreeMap<&'static str, Vec<RecordBatch>>,
}

impl Past {
    /// Reads what is visible.
    pub(super) async fn read(warehouse: &Warehouse, base: &Snapshot) -> Result<Self> {
        let mut rows = BTreeMap::new();
        for table in LEFT {
            let Some(at) = base.tables.get(table) else { continue };
            rows.insert(table, warehouse.read_all(&*warehouse.table(at).await?).await?);
        }
        let of = |table: &str| rows.get(table).map_or(&[][..], Vec::as_slice);
        Ok(Self {
            manifest: history::manifest_of(of("kinfold.definitions")),
            files: history::files_of(of("kinfold.files")),
            made: history::made_of(of("kinfold.inputs")),
            partials: history::partials_of(of("kinfold.partials")),
            as_of: last_as_of(warehouse, base).await?,
            rows,
        })
    }

    /// The rows of one of the tables about runs that are written anew.
    pub(super) fn rows(&self, table: &str) -> &[RecordBatch] {
        self.rows.get(table).map_or(&[], Vec::as_slice)
    }
}

/// For whom it is decided.
pub(super) struct Question<'a> {
    /// What was visible before.
    pub base: &'a Snapshot,
    /// What the runs before left.
    pub past: &'a Past,
    /// Number of the run that is planned.
    pub run: u64,
    /// Whether everything is to be made again.
    pub full: bool,
    /// Start of the command.
    pub now: DateTime<Utc>,
    /// Key of the hashes of inputs.
    pub key: [u8; 32],
}

/// What a run has to do, and what it was decided from.
pub(super) struct Decided {
    pub work: Work,
    /// Files of the source tables now.
    pub files: BTreeMap<String, Vec<SourceFileAt>>,
    /// Definitions now, as they are shown.
    pub manifest: Manifest,
    /// Why a run must not begin; nothing when it may.
    pub refusal: Option<Error>,
    /// What could not be told, for people.
    pub notes: Vec<String>,
}

/// Decides what a run of a prepared project has to do.
///
/// # Errors
/// `Storage` when a file cannot be read.
pub(super) async fn decide(prepared: &Prepared, question: &Question<'_>) -> Result<Decided> {
    let Prepared { project, graph, order, selected, engine, as_of, .. } = prepared;
    let Question { base, past, run, full, now, key } = question;
    let Manifests { now: files, before, notes } = engine.manifests(&past.files, *now).await?;
    let shown = manifest(project, graph, engine);
    let (exact, tests) = exact(project, graph, engine);
    // people who may not be read are as if the files were without them
    let without = engine.tombstones().map(Tombstones::digest).unwrap_or_default();
    let hashes = |files: &BTreeMap<String, Vec<SourceFileAt>>| -> BTreeMap<String, String> {
        files.iter().map(|(table, files)| (table.clone(), keyed(key, &(contents(files) + &without)))).collect()
    };
    let as_of = as_of.timestamp_micros();
    let world = World { project, graph, exact: &exact, tests: &tests, files: &hashes(&files), as_of, key };
    let changes = files.iter().filter_map(|(table, now)| Some((table.clone(), change(before.get(table)?, now))));
    let tables: BTreeSet<String> = base.tables.keys().cloned().collect();
    let compared = Compared {
        world: &world,
        now: &shown,
        before: &past.manifest,
        made: &past.made,
        tables: &tables,
        files: &changes.collect(),
        read: &hashes(&past.files),
        unread: &unread(&before, &files),
        keyed: &engine.keyed_tables()?,
        run: *run,
        full: *full,
    };
    let work = Work::decide(order, selected, &compared);
    let read = graph.tables_of(work.build.union(&work.unchanged));
    let vanished = if *full { None } else { vanished(project, &read, &before, &files) };
    let vanished = vanished.or_else(|| moved(engine, &before, &files));
    let refusal = vanished.or_else(|| outdated(project, &work));
    Ok(Decided { work, files, manifest: shown, refusal, notes })
}

/// By source table, what tells the content of each file.
pub(super) fn contents_by_file(files: &BTreeMap<String, Vec<SourceFileAt>>) -> BTreeMap<String, Contents> {
    // an empty content says that nothing is known of it
    let content = |f: &SourceFileAt| match f.content.as_str() {
        "" => String::new(),
        content => format!("{} {content}", f.bytes),
    };
    let of_table = |files: &Vec<SourceFileAt>| files.iter().map(|f| (f.path.clone(), content(f))).collect();
    files.iter().map(|(table, files)| (table.clone(), of_table(files))).collect()
}

/// Paths of files that were not there when a run last read their table.
fn unread(before: &BTreeMap<String, Vec<SourceFileAt>>, now: &BTreeMap<String, Vec<SourceFileAt>>) -> NewFiles {
    let of_table = |(table, files): (&String, &Vec<SourceFileAt>)| {
        let known: BTreeSet<&str> = before.get(table).into_iter().flatten().map(|f| f.path.as_str()).collect();
        let new = files.iter().filter(|f| !known.contains(f.path.as_str())).map(|f| f.path.clone());
        (table.clone(), new.collect())
    };
    now.iter().map(of_table).collect()
}

/// The names, sizes and contents of files as one text, or what tells their rows wherever they lie.
fn contents(files: &[SourceFileAt]) -> String {
    if let Some(rows) = files.first().and_then(SourceFileAt::rows_of_table) {
        return rows;
    }
    let lines: Vec<String> = files.iter().map(|f| format!("{}\n{}\n{}", f.path, f.bytes, f.content)).collect();
    lines.join("\n")
}

fn change(before: &[SourceFileAt], now: &[SourceFileAt]) -> FileChange {
    let contents = |files: &[SourceFileAt]| {
        files.iter().map(|f| (f.path.clone(), (f.bytes, f.content.clone()))).collect::<BTreeMap<_, _>>()
    };
    FileChange::between(&contents(before), &contents(now))
}

/// Refuses to send what the present definitions say nothing of.
fn outdated(project: &Project, work: &Work) -> Option<Error> {
    let enabled = |sync: &String| {
        project.models.get(sync).is_some_and(|m| matches!(&m.kind, ModelKind::Sync(sync) if sync.enabled))
    };
    let (sync, model) = work.outdated.iter().find(|(sync, _)| enabled(sync))?;
    let message = format!("`{sync}` would send what `{model}` was before its definition changed");
    Some(Error::new(ErrorKind::Usage, message).with_help(format!("build it first: kinfold run --select {model}+")))
}

/// Refuses to go on without files that the last run read, where the table says nothing else. A table whose place
/// changed has other files, and none of them is missed.
fn vanished(
    project: &Project,
    tables: &BTreeSet<String>,
    before: &BTreeMap<String, Vec<SourceFileAt>>,
    now: &BTreeMap<String, Vec<SourceFileAt>>,
) -> Option<Error> {
    let mut lines = Vec::new();
    for table in tables {
        // the log of a Delta table says what is gone
        let may = project
            .source_table(table)
            .is_none_or(|(_, t)| t.vanished == Vanished::Forget || t.format == Format::Delta);
        let (Some(before), Some(now)) = (before.get(table), now.get(table)) else { continue };
        let there: BTreeSet<(&str, &str)> = now.iter().map(|f| (f.place.as_str(), f.path.as_str())).collect();
        let places: BTreeSet<&str> = now.iter().map(|f| f.place.as_str()).collect();
        let missed = |f: &&SourceFileAt| places.contains(f.place.as_str()) && !there.contains(&(&f.place, &f.path));
        let gone: Vec<&str> = before.iter().filter(missed).map(|f| f.path.as_str()).collect();
        if let (false, Some(first)) = (may, gone.first()) {
            let more = if gone.len() > 1 { format!(" and {} more", gone.len() - 1) } else { String::new() };
            lines.push(format!("`{table}`: {first}{more}"));
        }
    }
    if lines.is_empty() {
        return None;
    }
    let message = format!("files that the last run read are gone: {}", lines.join("; "));
    Some(Error::new(ErrorKind::Data, message).with_help(
        "bring them back, or say `vanished: forget` at the table if files come and go there; `kinfold run --full` \
         goes on with what is there, this once",
    ))
}

/// Refuses a file that was moved where files are kept: its rows would count at both places.
fn moved(
    engine: &Engine,
    before: &BTreeMap<String, Vec<SourceFileAt>>,
    now: &BTreeMap<String, Vec<SourceFileAt>>,
) -> Option<Error> {
    for (table, files) in now {
        let known: BTreeSet<&str> = before.get(table).into_iter().flatten().map(|f| f.path.as_str()).collect();
        let new = files.iter().filter(|f| !known.contains(f.path.as_str()));
        let new: BTreeMap<(u64, &str), &str> = new.map(|f| ((f.bytes, f.content.as_str()), f.path.as_str())).collect();
        for kept in engine.gone(table).iter().filter(|kept| kept.copy.rows > 0) {
            let Some(there) = new.get(&(kept.file.bytes, kept.file.content.as_str())) else { continue };
            let message = format!("`{table}`: {} is gone, and the new file {there} is the same", kept.file.path);
            return Some(Error::new(ErrorKind::Data, message).with_help(
                "`vanished: keep` would count the rows of a file that was moved twice: give it its name back, or say \
                 `vanished: forget` for one run, which lets the rows of all files go that are gone",
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, place: &str, content: &str) -> SourceFileAt {
        SourceFileAt {
            path: path.to_owned(),
            bytes: 1,
            modified_at: DateTime::default(),
            content: content.to_owned(),
            stamp: String::new(),
            place: place.to_owned(),
            read_at: DateTime::default(),
        }
    }

    #[test]
    fn a_file_is_what_it_holds() {
        let before = [file("a", "p", "1"), file("b", "p", "2"), file("c", "p", "3")];
        let touched = SourceFileAt { stamp: "other".to_owned(), ..file("a", "p", "1") };
        let now = [touched, file("b", "p", "9"), file("d", "p", "3")];
        assert_eq!(change(&before, &now), FileChange { new: 1, new_bytes: 1, changed: 1, gone: 1 });
        assert_ne!(contents(&before), contents(&now));
        assert_eq!(contents(&before[..1]), contents(&now[..1]));
    }
}
