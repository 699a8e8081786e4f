//! What a run has to do, and why: a stage whose inputs are those of its last result has nothing to do. Pure.

use super::inputs::{Inputs, Made, OVERLAP, World, is_view};
use super::{Difference, Manifest};
use crate::graph::tests_stage;
use crate::model::ModelKind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Why a model is built or sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// It was never built.
    New,
    /// The user asked for everything.
    Asked,
    /// Another version of Kinfold built it.
    Version,
    /// Its definition, or that of a table or destination it uses, differs.
    Changed {
        /// What differs; nothing when it is a value that is not shown: of the environment, a list, a secret.
        differences: Vec<Difference>,
    },
    /// Models that it reads are built, or were built since.
    Upstream {
        /// Those models.
        models: Vec<String>,
    },
    /// A source table has other files than it was built from.
    Files {
        /// The table.
        table: String,
        /// Files by what happened to them since some run read them last.
        #[serde(flatten)]
        change: FileChange,
    },
    /// The columns of its table are others.
    Columns,
    /// The logical time moved, and it reads the time.
    Time,
    /// It asks the clock or chance, and gives something else in every run.
    Unrepeatable,
    /// Nothing differs: it is not built. A sync is sent all the same, for something may be owed.
    Unchanged,
}

/// How the files of a table differ from those that were read last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Files that were not there.
    pub new: u64,
    /// Their size.
    pub new_bytes: u64,
    /// Files of another content.
    pub changed: u64,
    /// Files that are not there any more.
    pub gone: u64,
}

impl FileChange {
    /// Compares files by path: their size, and what else tells their content.
    pub fn between(before: &BTreeMap<String, (u64, String)>, now: &BTreeMap<String, (u64, String)>) -> Self {
        let mut change = Self::default();
        for (path, content) in now {
            match before.get(path) {
                None => {
                    change.new += 1;
                    change.new_bytes += content.0;
                }
                Some(old) if old != content => change.changed += 1,
                Some(_) => {}
            }
        }
        change.gone = before.keys().filter(|path| !now.contains_key(*path)).count() as u64;
        change
    }

    /// Whether nothing happened.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Files that no run has read, by source table.
pub type NewFiles = BTreeMap<String, BTreeSet<String>>;

/// How an incremental model comes to the rows that it must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// Rows of the keys that these files' rows touch are made again.
    Keys(NewFiles),
    /// All rows are.
    Whole(Vec<Reason>),
}

/// What the runs before left, and what is there now.
pub struct Compared<'a> {
    /// What there is now.
    pub world: &'a World<'a>,
    /// Definitions now, as they are shown.
    pub now: &'a Manifest,
    /// Definitions as the last runs used them, as they are shown.
    pub before: &'a Manifest,
    /// Results of stages, and what they were made from.
    pub made: &'a BTreeMap<String, Made>,
    /// Committed tables.
    pub tables: &'a BTreeSet<String>,
    /// Changes of files by source table; a table that was never read is missing.
    pub files: &'a BTreeMap<String, FileChange>,
    /// Hashes of the files that runs read last, by source table.
    pub read: &'a BTreeMap<String, String>,
    /// Files of tables that runs did not read.
    pub unread: &'a NewFiles,
    /// By incremental model, the source tables whose rows tell which keys they touch.
    pub keyed: &'a BTreeMap<String, BTreeSet<String>>,
    /// Number of the run that is planned.
    pub run: u64,
    /// Whether everything is to be made again.
    pub full: bool,
}

/// What a run has to do.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Why each selected model is built or sent.
    pub reasons: BTreeMap<String, Vec<Reason>>,
    /// What each selected stage would be made from now.
    pub inputs: BTreeMap<String, Inputs>,
    /// Models that are built.
    pub build: BTreeSet<String>,
    /// How incremental models that are built come to their rows.
    pub updates: BTreeMap<String, Update>,
    /// Models whose tables are what building them would give.
    pub unchanged: BTreeSet<String>,
    /// Syncs.
    pub sync: BTreeSet<String>,
    /// Tables and models whose data tests run.
    pub test: BTreeSet<String>,
    /// Those whose data tests passed on what is there now.
    pub passed: BTreeSet<String>,
    /// Audiences that are read because all are compared with each other.
    pub compare: BTreeSet<String>,
    /// Syncs that would send what was built by another definition than the present one, with the model that was.
    pub outdated: BTreeMap<String, String>,
}

impl Work {
    /// Decides about the selected models; `order` is the graph's order.
    pub fn decide(order: &[String], selected: &BTreeSet<String>, compared: &Compared<'_>) -> Self {
        let mut work = Self::default();
        for model in order.iter().filter(|m| selected.contains(*m)) {
            let project = compared.world.project;
            if matches!(project.models.get(model).map(|m| &m.kind), Some(ModelKind::Sync(_))) {
                work.reasons.insert(model.clone(), work.of_sync(model, compared));
                work.sync.insert(model.clone());
                work.outdated.extend(work.outdated_of(model, compared).map(|behind| (model.clone(), behind)));
                continue;
            }
            let inputs = compared.world.of_model(model, &|name| work.made_by(name, compared));
            let reasons = compared.of_model(model, &inputs);
            let set = if reasons == [Reason::Unchanged] { &mut work.unchanged } else { &mut work.build };
            set.insert(model.clone());
            if work.build.contains(model)
                && let Some(keyed) = compared.keyed.get(model)
            {
                work.updates.insert(model.clone(), compared.update(model, keyed, &reasons));
            }
            work.reasons.insert(model.clone(), reasons);
            work.inputs.insert(model.clone(), inputs);
        }
        work.decide_tests(compared);
        work.decide_overlap(selected, compared);
        work
    }

    /// Data tests run when what they test is built, or when they did not pass on just what is there now.
    fn decide_tests(&mut self, compared: &Compared<'_>) {
        let world = compared.world;
        for owner in world.graph.tested(self.build.union(&self.unchanged).collect::<Vec<_>>()) {
            let inputs = world.of_tests(&owner, &|name| self.made_by(name, compared));
            let stage = tests_stage(&owner);
            let same = compared.is_same(&stage, &inputs) && !self.build.contains(&owner);
            self.inputs.insert(stage, inputs);
            if same {
                self.passed.insert(owner)
            } else {
                self.test.insert(owner)
            };
        }
    }

    /// All audiences are compared when all are at hand and one of them differs.
    fn decide_overlap(&mut self, selected: &BTreeSet<String>, compared: &Compared<'_>) {
        let is_audience = |kind: &ModelKind| matches!(kind, ModelKind::Audience(_));
        let models = compared.world.project.models.iter();
        let all: BTreeSet<String> =
            models.filter(|(_, m)| is_audience(&m.kind)).map(|(name, _)| name.clone()).collect();
        if all.is_empty() || !all.is_subset(selected) {
            return;
        }
        let inputs = compared.world.of_overlap(&all, &|name| self.made_by(name, compared));
        if !compared.is_same(OVERLAP, &inputs) {
            self.compare = all;
        }
        self.inputs.insert(OVERLAP.to_owned(), inputs);
    }

    /// The run that makes or made a model's tables.
    fn made_by(&self, model: &str, compared: &Compared<'_>) -> u64 {
        if self.build.contains(model) { compared.run } else { compared.made.get(model).map_or(0, |made| made.run) }
    }

    /// A model that a sync sends from and this run does not build, whose tables an older definition made: what may
    /// be sent is judged by the present one.
    fn outdated_of(&self, sync: &str, compared: &Compared<'_>) -> Option<String> {
        let world = compared.world;
        let read = world.graph.upstream(sync).into_iter();
        let mut kept = read.filter(|m| !self.build.contains(m) && !self.unchanged.contains(m));
        kept.find(|model| {
            let now = world.of_model(model, &|name| self.made_by(name, compared));
            compared.made.get(model).is_some_and(|made| made.inputs.definitions != now.definitions)
        })
    }

    /// Why a sync is not what it was; it runs in any case, for something may be owed.
    fn of_sync(&self, sync: &str, compared: &Compared<'_>) -> Vec<Reason> {
        if !compared.before.models.contains_key(sync) {
            return vec![Reason::New];
        }
        let mut found = Vec::new();
        let differences = compared.now.why_changed(sync, compared.before);
        if !differences.is_empty() {
            found.push(Reason::Changed { differences });
        }
        let models = compared.world.graph.models_of(sync).into_iter();
        let models: Vec<String> = models.filter(|name| self.build.contains(name)).collect();
        if !models.is_empty() {
            found.push(Reason::Upstream { models });
        }
        if found.is_empty() { vec![Reason::Unchanged] } else { found }
    }
}

impl Compared<'_> {
    /// Whether the last result of a stage was made from just this.
    fn is_same(&self, stage: &str, now: &Inputs) -> bool {
        !self.full && now.repeatable && self.made.get(stage).is_some_and(|made| made.inputs == *now)
    }

    fn of_model(&self, model: &str, now: &Inputs) -> Vec<Reason> {
        let there = is_view(self.world.project, model) || self.tables.contains(model);
        let known = there && self.before.models.contains_key(model);
        match self.made.get(model).filter(|_| known) {
            _ if !known => vec![Reason::New],
            None => vec![Reason::Version],
            Some(_) if self.is_same(model, now) => vec![Reason::Unchanged],
            Some(made) => self.differences(model, &made.inputs, now),
        }
    }

    /// How an incremental model is made that is built for these reasons: in parts where new files of `keyed` tables are
    /// all that came since it was made.
    fn update(&self, model: &str, keyed: &BTreeSet<String>, reasons: &[Reason]) -> Update {
        let mut new = NewFiles::new();
        let mut whole = Vec::new();
        for reason in reasons {
            let Reason::Files { table, change } = reason else {
                whole.push(reason.clone());
                continue;
            };
            let made_from = self.made.get(model).and_then(|made| made.inputs.files.get(table));
            let known = made_from.is_some() && made_from == self.read.get(table);
            let only_new = change.new > 0 && change.changed == 0 && change.gone == 0;
            match self.unread.get(table) {
                Some(files) if known && only_new && keyed.contains(table) => {
                    new.insert(table.clone(), files.clone());
                }
                // what came since some other run is not what came since this model was made
                _ if !known => whole.push(Reason::Files { table: table.clone(), change: FileChange::default() }),
                _ => whole.push(reason.clone()),
            }
        }
        if whole.is_empty() { Update::Keys(new) } else { Update::Whole(whole) }
    }

    /// What of the inputs differs; something does, or everything is to be made again.
    fn differences(&self, model: &str, before: &Inputs, now: &Inputs) -> Vec<Reason> {
        let Inputs { version, definitions, files, models, as_of, repeatable } = now;
        let mut found = Vec::new();
        if self.full {
            found.push(Reason::Asked);
        }
        if *version != before.version {
            found.push(Reason::Version);
        }
        let near = |name: &String| name == model || !self.world.project.models.contains_key(name);
        let other = differing(definitions, &before.definitions);
        if other.iter().any(near) {
            found.push(Reason::Changed { differences: self.now.why_changed(model, self.before) });
        }
        for table in differing(files, &before.files).into_iter().filter(|table| files.contains_key(table)) {
            let change = self.files.get(&table).copied().unwrap_or_default();
            found.push(Reason::Files { table, change });
        }
        // a model that is no longer read is part of the definition's own difference
        let mut upstream = differing(models, &before.models);
        upstream.retain(|name| models.contains_key(name));
        upstream.extend(other.into_iter().filter(|name| !near(name) && definitions.contains_key(name)));
        if !upstream.is_empty() {
            found.push(Reason::Upstream { models: upstream.into_iter().collect() });
        }
        if !repeatable {
            found.push(Reason::Unrepeatable);
        } else if *as_of != before.as_of {
            found.push(Reason::Time);
        }
        if found.is_empty() {
            found.push(Reason::Changed { differences: Vec::new() });
        }
        found
    }
}

/// Keys whose values differ, or that only one side has.
fn differing<T: PartialEq>(a: &BTreeMap<String, T>, b: &BTreeMap<String, T>) -> BTreeSet<String> {
    let keys = a.keys().chain(b.keys());
    keys.filter(|key| a.get(*key) != b.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_new_changed_or_gone() {
        let files = |list: &[(&str, u64)]| list.iter().map(|(p, s)| ((*p).to_owned(), (*s, "x".to_owned()))).collect();
        let change =
            FileChange::between(&files(&[("a", 1), ("b", 2), ("c", 3)]), &files(&[("a", 1), ("b", 9), ("d", 4)]));
        assert_eq!(change, FileChange { new: 1, new_bytes: 4, changed: 1, gone: 1 });
        assert!(FileChange::between(&files(&[("a", 1)]), &files(&[("a", 1)])).is_none());
    }
}
