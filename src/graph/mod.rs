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
pub use lineage::{ColumnLineage, ColumnRef, Columns, LineageGraph, ModelLineage, TableLineage, Trace};
pub use select::{Changed, Problem, Request, Selection, SelectorError};
pub use unused::unused;

use std::collections::{BTreeMap, BTreeSet};

/// Models and what each needs (models and source tables), with the way back.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    needs: BTreeMap<String, BTreeSet<String>>,
    readers: BTreeMap<String, BTreeSet<String>>,
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
        Self { needs, readers }
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
