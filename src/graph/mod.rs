//! Which model needs which: dependencies, order, cycles as paths, selection. Pure.
//!
//! A node is a model; source tables are leaves and have no node of their own. What SQL names is found by the
//! engine (it owns the parser) and handed in.

mod cycle;
mod dependencies;
mod lineage;
mod select;
mod unused;

pub use cycle::cycle;
pub use dependencies::{direct, owner, side_tables};
pub use lineage::{
    ColumnLineage, ColumnRef, Columns, LineageGraph, Lowering, ModelLineage, TableLineage, Trace, Use, Uses,
};
pub use select::{Changed, Problem, Request, Selection, SelectorError};
pub use unused::unused;

use std::collections::{BTreeMap, BTreeSet};

/// Models and what each needs (models and source tables), with the way back.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    needs: BTreeMap<String, BTreeSet<String>>,
    readers: BTreeMap<String, BTreeSet<String>>,
    tests: BTreeMap<String, BTreeSet<String>>,
}

/// What a selection needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needed {
    /// The models, what they are made from, and what their tests read.
    pub models: BTreeSet<String>,
    /// Source tables of all of them.
    pub tables: BTreeSet<String>,
}

/// The stage of the tests of a table or model, as plans call it.
pub fn tests_stage(owner: &str) -> String {
    format!("tests of {owner}")
}

impl Graph {
    /// A graph of models by name with what each reads.
    pub fn new(needs: BTreeMap<String, BTreeSet<String>>) -> Self {
        let mut readers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (reader, read) in &needs {
            for name in read {
                readers.entry(name.clone()).or_default().insert(reader.clone());
            }
        }
        Self { needs, readers, tests: BTreeMap::new() }
    }

    /// Adds what the data tests of models and source tables read beside the table itself. Only those that have
    /// tests are in it.
    #[must_use]
    pub fn with_tests(mut self, tests: BTreeMap<String, BTreeSet<String>>) -> Self {
        self.tests = tests;
        self
    }

    /// Those of `models` and of the source tables that they read that have tests.
    pub fn tested<'a>(&self, models: impl IntoIterator<Item = &'a String> + Clone) -> BTreeSet<String> {
        let tables = self.tables_of(models.clone());
        let owners = models.into_iter().cloned().chain(tables);
        owners.filter(|owner| self.tests.contains_key(owner)).collect()
    }

    /// What building `selected`, and testing them and `also`, needs.
    pub fn needed(&self, selected: &BTreeSet<String>, also: &BTreeSet<String>) -> Needed {
        let owners: BTreeSet<String> = self.tested(selected).into_iter().chain(also.iter().cloned()).collect();
        let mut needed = Needed::default();
        let mut wanted: BTreeSet<&String> = selected.iter().collect();
        for owner in &owners {
            wanted.insert(owner);
            wanted.extend(self.tests.get(owner).into_iter().flatten());
        }
        for name in wanted {
            if self.needs.contains_key(name) {
                needed.models.extend(self.upstream(name));
            } else if name.contains('.') {
                needed.tables.insert(name.clone());
            }
        }
        needed.tables.extend(self.tables_of(&needed.models));
        needed
    }

    /// What the data tests of a table or model read beside it.
    pub fn read_by_tests(&self, owner: &str) -> BTreeSet<String> {
        self.tests.get(owner).cloned().unwrap_or_default()
    }

    /// Stages that the stage of a model waits for: models that it reads, and the tests of what it reads.
    pub fn waits_for(&self, model: &str) -> BTreeSet<String> {
        let needs = self.needs.get(model).into_iter().flatten();
        let tested = needs.filter(|n| self.tests.contains_key(*n)).map(|n| tests_stage(n));
        self.models_of(model).into_iter().chain(tested).collect()
    }

    /// Stages that the tests of a table or model wait for: the model, and the models that the tests read.
    pub fn tests_wait_for(&self, owner: &str) -> BTreeSet<String> {
        let read = self.tests.get(owner).into_iter().flatten().map(String::as_str);
        let stages = std::iter::once(owner).chain(read).filter(|n| self.needs.contains_key(*n));
        stages.map(str::to_owned).collect()
    }

    /// Tests that could never run: whose they are, and the model that they read and that waits for them.
    pub fn circular_tests(&self) -> Vec<(String, String)> {
        let stages: BTreeMap<String, &String> = self.tests.keys().map(|owner| (tests_stage(owner), owner)).collect();
        let waits = |stage: &str| match stages.get(stage) {
            Some(owner) => self.tests_wait_for(owner),
            None => self.waits_for(stage),
        };
        let mut found = Vec::new();
        for (owner, reads) in &self.tests {
            let circular = |read: &&String| *read != owner && reach(read, None, waits).contains(&tests_stage(owner));
            found.extend(reads.iter().filter(circular).map(|read| (owner.clone(), read.clone())));
        }
        found
    }

    /// Models that a model reads directly.
    pub fn models_of(&self, name: &str) -> BTreeSet<String> {
        let all = self.needs.get(name).into_iter().flatten();
        all.filter(|n| self.needs.contains_key(*n)).cloned().collect()
    }

    /// Models that read a model or a source table directly.
    pub fn readers_of(&self, name: &str) -> BTreeSet<String> {
        self.readers.get(name).cloned().unwrap_or_default()
    }

    /// Source tables that some of `models` read.
    pub fn tables_of<'a>(&self, models: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
        let needed = models.into_iter().filter_map(|m| self.needs.get(m)).flatten();
        needed.filter(|n| n.contains('.') && !self.needs.contains_key(*n)).cloned().collect()
    }

    /// Everything that a model needs, by model.
    pub fn needs(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.needs
    }

    /// Models in an order in which each comes after what it needs; equal ranks by name.
    ///
    /// # Errors
    /// The cycles, each as a path that ends where it began.
    pub fn order(&self) -> Result<Vec<String>, Vec<Vec<String>>> {
        let (order, cycles) = self.order_and_cycles();
        if cycles.is_empty() { Ok(order) } else { Err(cycles) }
    }

    /// As [`Self::order`], with the models that are in no cycle and need none even when there are cycles.
    pub fn order_and_cycles(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut open: BTreeMap<&String, usize> =
            self.needs.iter().map(|(name, needs)| (name, self.count_models(needs))).collect();
        let mut ready: BTreeSet<&String> = open.iter().filter(|(_, n)| **n == 0).map(|(name, _)| *name).collect();
        let mut order: Vec<String> = Vec::with_capacity(self.needs.len());
        while !ready.is_empty() {
            let rank = std::mem::take(&mut ready);
            for name in &rank {
                for reader in self.readers.get(*name).into_iter().flatten() {
                    let Some(left) = open.get_mut(reader) else { continue };
                    *left -= 1;
                    if *left == 0 {
                        ready.insert(reader);
                    }
                }
            }
            order.extend(rank.into_iter().cloned());
        }
        let whole = order.len() == self.needs.len();
        let cycles = if whole { Vec::new() } else { self.cycles(&order.iter().cloned().collect()) };
        (order, cycles)
    }

    fn count_models(&self, needs: &BTreeSet<String>) -> usize {
        needs.iter().filter(|n| self.needs.contains_key(*n)).count()
    }

    /// One path per cycle among the models that are not in `done`.
    fn cycles(&self, done: &BTreeSet<String>) -> Vec<Vec<String>> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut cycles = Vec::new();
        for start in self.needs.keys().filter(|n| !done.contains(*n)) {
            let mut path: Vec<String> = Vec::new();
            let mut at = start.clone();
            while !seen.contains(&at) && !path.contains(&at) {
                path.push(at.clone());
                // every model that is not done needs another that is not done
                match self.models_of(&at).into_iter().find(|n| !done.contains(n)) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            if let Some(from) = path.iter().position(|n| *n == at) {
                let mut cycle = path[from..].to_vec();
                cycle.push(at);
                cycles.push(cycle);
            }
            seen.extend(path);
        }
        cycles
    }

    /// A model and all models that it needs, directly or not.
    pub fn upstream(&self, name: &str) -> BTreeSet<String> {
        self.upstream_within(name, None)
    }

    /// A model and all models that need it, directly or not.
    pub fn downstream(&self, name: &str) -> BTreeSet<String> {
        self.downstream_within(name, None)
    }

    /// As [`Graph::upstream`], at most `steps` away.
    pub fn upstream_within(&self, name: &str, steps: Option<usize>) -> BTreeSet<String> {
        reach(name, steps, |n| self.models_of(n))
    }

    /// As [`Graph::downstream`], at most `steps` away.
    pub fn downstream_within(&self, name: &str, steps: Option<usize>) -> BTreeSet<String> {
        reach(name, steps, |n| self.readers_of(n))
    }
}

/// All that can be reached from `start` in at most `steps` steps, rank by rank.
fn reach(start: &str, steps: Option<usize>, next: impl Fn(&str) -> BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::from([start.to_owned()]);
    let mut rank = vec![start.to_owned()];
    let mut step = 0;
    while !rank.is_empty() && steps.is_none_or(|most| step < most) {
        let reached = rank.iter().flat_map(|name| next(name));
        rank = reached.filter(|name| found.insert(name.clone())).collect();
        step += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Graph::new(edges.iter().map(|(n, needs)| ((*n).to_owned(), set(needs))).collect())
    }

    #[test]
    fn models_come_after_what_they_need() {
        let graph = graph(&[("c", &["b", "web.tracks"]), ("b", &["a"]), ("a", &["web.tracks"]), ("d", &[])]);
        assert_eq!(graph.order(), Ok(vec!["a".into(), "d".into(), "b".into(), "c".into()]));
        assert_eq!(graph.tables_of(&["c".to_owned()]), BTreeSet::from(["web.tracks".to_owned()]));
    }

    #[test]
    fn a_cycle_is_a_path_back_to_its_start() {
        let graph = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("reader", &["a"]), ("free", &[])]);
        let cycles = graph.order().unwrap_err();
        assert_eq!(cycles, vec![vec!["a".to_owned(), "b".into(), "c".into(), "a".into()]]);
        assert_eq!(graph.order_and_cycles().0, ["free"]);
    }

    #[test]
    fn tests_come_between_a_model_and_its_readers() {
        let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(ToString::to_string).collect() };
        let graph = graph(&[("a", &["web.tracks"]), ("b", &["a"]), ("other", &["crm.people"])]);
        let tests = [("a", set(&["other"])), ("web.tracks", set(&["ehr.visits"]))];
        let graph = graph.with_tests(tests.map(|(owner, reads)| (owner.to_owned(), reads)).into());
        assert_eq!(graph.waits_for("b"), set(&["a", "tests of a"]));
        assert_eq!(graph.waits_for("a"), set(&["tests of web.tracks"]));
        assert_eq!(graph.tests_wait_for("a"), set(&["a", "other"]));
        assert_eq!(graph.tests_wait_for("web.tracks"), set(&[]));
        let needed = graph.needed(&set(&["a"]), &set(&[]));
        assert_eq!(needed.models, set(&["a", "other"]));
        assert_eq!(needed.tables, set(&["crm.people", "ehr.visits", "web.tracks"]));
        // what only loads `a` does not run its tests, so it does not need what they read
        assert_eq!(graph.needed(&set(&["b"]), &set(&[])).models, set(&["a", "b"]));
        assert_eq!(graph.circular_tests(), []);
    }

    #[test]
    fn a_test_that_reads_what_waits_for_it_is_found() {
        let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(ToString::to_string).collect() };
        let graph = graph(&[("a", &["web.tracks"]), ("b", &["a"]), ("x", &[]), ("y", &["x"])]);
        let direct = graph.clone().with_tests([("a".to_owned(), set(&["b"]))].into());
        assert_eq!(direct.circular_tests(), [("a".to_owned(), "b".to_owned())]);
        let of_source = graph.clone().with_tests([("web.tracks".to_owned(), set(&["b"]))].into());
        assert_eq!(of_source.circular_tests(), [("web.tracks".to_owned(), "b".to_owned())]);
        // the tests of `a` wait for `y`, which waits for those of `x`, which wait for `b`, which waits for the first
        let both = graph.with_tests([("a".to_owned(), set(&["y"])), ("x".to_owned(), set(&["b"]))].into());
        let pairs = [("a".to_owned(), "y".to_owned()), ("x".to_owned(), "b".to_owned())];
        assert_eq!(both.circular_tests(), pairs);
    }

    #[test]
    fn reach_goes_both_ways() {
        let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["a"])]);
        let names = |s: BTreeSet<String>| s.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(names(graph.upstream("c")), "a b c");
        assert_eq!(names(graph.downstream("a")), "a b c d");
        assert_eq!(names(graph.upstream_within("c", Some(1))), "b c");
        assert_eq!(names(graph.downstream_within("a", Some(1))), "a b d");
        assert_eq!(names(graph.downstream_within("a", Some(0))), "a");
    }
}
