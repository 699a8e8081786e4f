//! Why each stage of a plan is there: what is new or changed since the run before. Pure.

use super::{Action, Difference, Manifest, Plan};
use crate::graph::Graph;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Why a model is built or sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// It was never built.
    New,
    /// Its definition, or that of a table or destination it uses, differs.
    Changed {
        /// What differs.
        differences: Vec<Difference>,
    },
    /// Models that it reads are built for a reason of their own.
    Upstream {
        /// Those models.
        models: Vec<String>,
    },
    /// A source table has other files than the run before read.
    Files {
        /// The table.
        table: String,
        /// Files by what happened to them.
        #[serde(flatten)]
        change: FileChange,
    },
    /// The logical time moved: windows hold other rows.
    Time,
    /// Nothing differs; a run builds it all the same.
    Unchanged,
}

impl Reason {
    /// Whether it is a reason for what reads the model, too. That time moved is everybody's own.
    fn is_passed_on(&self) -> bool {
        !matches!(self, Self::Unchanged | Self::Time)
    }
}

/// How the files of a table differ from those that were read last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Files that were not there.
    pub new: u64,
    /// Their size.
    pub new_bytes: u64,
    /// Files of another size or time.
    pub changed: u64,
    /// Files that are not there any more.
    pub gone: u64,
}

impl FileChange {
    /// Compares paths with a stamp (size and time) each.
    pub fn between(before: &BTreeMap<String, (u64, i64)>, now: &BTreeMap<String, (u64, i64)>) -> Self {
        let mut change = Self::default();
        for (path, stamp) in now {
            match before.get(path) {
                None => {
                    change.new += 1;
                    change.new_bytes += stamp.0;
                }
                Some(old) if old != stamp => change.changed += 1,
                Some(_) => {}
            }
        }
        change.gone = before.keys().filter(|path| !now.contains_key(*path)).count() as u64;
        change
    }

    fn is_any(&self) -> bool {
        self.new + self.changed + self.gone > 0
    }
}

/// What the run before left, and what is there now.
pub struct Compared<'a> {
    /// Definitions now.
    pub now: &'a Manifest,
    /// Definitions as the last runs used them.
    pub before: &'a Manifest,
    /// Changes of files by source table; a table that was never read is missing.
    pub files: &'a BTreeMap<String, FileChange>,
    /// Whether the logical time differs from that of the run before.
    pub time_moved: bool,
}

/// The reasons of every stage that builds or sends, by model.
pub fn reasons(plan: &Plan, graph: &Graph, compared: &Compared<'_>) -> BTreeMap<String, Vec<Reason>> {
    let mut all: BTreeMap<String, Vec<Reason>> = BTreeMap::new();
    for stage in plan.stages.iter().filter(|s| matches!(s.action, Action::Build | Action::Sync)) {
        let found = of_model(&stage.model, graph, compared, &all);
        all.insert(stage.model.clone(), found);
    }
    all
}

fn of_model(
    model: &str,
    graph: &Graph,
    compared: &Compared<'_>,
    before: &BTreeMap<String, Vec<Reason>>,
) -> Vec<Reason> {
    if !compared.before.models.contains_key(model) {
        return vec![Reason::New];
    }
    let mut found = Vec::new();
    let differences = compared.now.why_changed(model, compared.before);
    if !differences.is_empty() {
        found.push(Reason::Changed { differences });
    }
    let changed = |name: &String| before.get(name).is_some_and(|r| r.iter().any(Reason::is_passed_on));
    let models: Vec<String> = graph.models_of(model).into_iter().filter(changed).collect();
    let reads_files = graph.tables_of(&BTreeSet::from([model.to_owned()]));
    for table in reads_files {
        if let Some(change) = compared.files.get(&table).filter(|c| c.is_any()) {
            found.push(Reason::Files { table, change: *change });
        }
    }
    if !models.is_empty() {
        found.push(Reason::Upstream { models });
    }
    if found.is_empty() {
        found.push(if compared.time_moved { Reason::Time } else { Reason::Unchanged });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_new_changed_or_gone() {
        let files = |list: &[(&str, u64)]| list.iter().map(|(p, s)| ((*p).to_owned(), (*s, 7))).collect();
        let change =
            FileChange::between(&files(&[("a", 1), ("b", 2), ("c", 3)]), &files(&[("a", 1), ("b", 9), ("d", 4)]));
        assert_eq!(change, FileChange { new: 1, new_bytes: 4, changed: 1, gone: 1 });
        assert!(!FileChange::between(&files(&[("a", 1)]), &files(&[("a", 1)])).is_any());
    }

    #[test]
    fn a_change_reaches_what_reads_it() {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let needs = [("a", vec!["web.t"]), ("b", vec!["a"]), ("c", vec!["web.u"])];
        let graph = Graph::new(needs.iter().map(|(n, r)| ((*n).to_owned(), set(r))).collect());
        let stage = |model: &str| crate::plan::Stage {
            model: model.to_owned(),
            action: Action::Build,
            after: graph.models_of(model),
        };
        let plan = Plan { stages: vec![stage("a"), stage("b"), stage("c")] };
        let mut manifest = Manifest::default();
        for name in ["a", "b", "c"] {
            manifest.models.insert(name.to_owned(), crate::plan::Entry::recorded("sql", "", serde_json::json!({})));
        }
        let change = FileChange { new: 2, new_bytes: 10, ..FileChange::default() };
        let files = BTreeMap::from([("web.t".to_owned(), change)]);
        let compared = Compared { now: &manifest, before: &manifest, files: &files, time_moved: false };
        let found = reasons(&plan, &graph, &compared);
        assert_eq!(found["a"], [Reason::Files { table: "web.t".to_owned(), change }]);
        assert_eq!(found["b"], [Reason::Upstream { models: vec!["a".to_owned()] }]);
        assert_eq!(found["c"], [Reason::Unchanged]);
        let first = Compared { before: &Manifest::default(), ..compared };
        assert_eq!(reasons(&plan, &graph, &first)["c"], [Reason::New]);
    }
}
