//! Which model needs which: dependencies, order, cycles as paths, selection. Pure.
//!
//! A node is a model; source tables are leaves and have no node of their own. What SQL names is found by the
//! engine (it owns the parser) and handed in.

mod dependencies;
mod lineage;
mod select;

pub use dependencies::{direct, owner};
pub use lineage::{ColumnLineage, ColumnRef, Columns, LineageGraph, ModelLineage, TableLineage, Trace};
pub use select::{Selection, SelectorError};

use std::collections::{BTreeMap, BTreeSet};

/// Models and what each needs (models and source tables).
#[derive(Debug, Clone, Default)]
pub struct Graph {
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// A graph of models by name with what each reads.
    pub fn new(needs: BTreeMap<String, BTreeSet<String>>) -> Self {
        Self { needs }
    }

    /// Models that a model reads directly.
    pub fn models_of(&self, name: &str) -> BTreeSet<String> {
        let all = self.needs.get(name).into_iter().flatten();
        all.filter(|n| self.needs.contains_key(*n)).cloned().collect()
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
        let mut done: BTreeSet<String> = BTreeSet::new();
        let mut order = Vec::with_capacity(self.needs.len());
        loop {
            let ready: Vec<String> = self
                .needs
                .keys()
                .filter(|name| !done.contains(*name) && self.models_of(name).is_subset(&done))
                .cloned()
                .collect();
            if ready.is_empty() {
                break;
            }
            done.extend(ready.iter().cloned());
            order.extend(ready);
        }
        if order.len() == self.needs.len() { Ok(order) } else { Err(self.cycles(&done)) }
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
        self.reach(name, |n| self.models_of(n))
    }

    /// A model and all models that need it, directly or not.
    pub fn downstream(&self, name: &str) -> BTreeSet<String> {
        self.reach(name, |n| {
            let readers = self.needs.iter().filter(|(_, needs)| needs.contains(n));
            readers.map(|(reader, _)| reader.clone()).collect()
        })
    }

    fn reach(&self, start: &str, next: impl Fn(&str) -> BTreeSet<String>) -> BTreeSet<String> {
        let mut found = BTreeSet::from([start.to_owned()]);
        let mut open = vec![start.to_owned()];
        while let Some(name) = open.pop() {
            for other in next(&name) {
                if found.insert(other.clone()) {
                    open.push(other);
                }
            }
        }
        found
    }
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
    }

    #[test]
    fn reach_goes_both_ways() {
        let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["a"])]);
        let names = |s: BTreeSet<String>| s.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(names(graph.upstream("c")), "a b c");
        assert_eq!(names(graph.downstream("a")), "a b c d");
    }
}
