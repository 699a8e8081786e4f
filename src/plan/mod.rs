//! What a run will do, as a value: stages in order, each with what it waits for. The runner executes it and
//! `check` can print it; both read the very same list. Pure.

mod definition;
mod manifest;
mod reasons;

pub use definition::{Writer, fingerprint};
pub use manifest::{Difference, Entry, FORMAT, Manifest};
pub use reasons::{Compared, FileChange, Reason, reasons};

use crate::graph::Graph;
use crate::model::{ModelKind, Project};
use std::collections::{BTreeMap, BTreeSet};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read a model's committed tables, because a selected model needs them.
    Load,
    /// Build a model.
    Build,
    /// Send a model's rows to a destination, after the commit.
    Sync,
}

/// A stage of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The model.
    pub model: String,
    /// What is done with it.
    pub action: Action,
    /// Models whose stages come before.
    pub after: BTreeSet<String>,
}

/// Stages in an order in which each comes after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The stages.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// Plans a run of the selected models; `order` is the graph's order. What they need beyond the selection
    /// is loaded.
    pub fn new(project: &Project, graph: &Graph, order: &[String], selected: &BTreeSet<String>) -> Self {
        let mut needed: BTreeSet<String> = BTreeSet::new();
        for name in selected {
            needed.extend(graph.upstream(name));
        }
        let action = |name: &String| {
            let model = project.models.get(name)?;
            let sync = matches!(model.kind, ModelKind::Sync(_));
            Some(match (selected.contains(name), sync) {
                (true, true) => Action::Sync,
                (true, false) => Action::Build,
                (false, _) => Action::Load,
            })
        };
        let stages = order
            .iter()
            .filter(|name| needed.contains(*name))
            .filter_map(|name| Some(Stage { model: name.clone(), action: action(name)?, after: graph.models_of(name) }))
            .collect();
        Self { stages }
    }

    /// Stages by action.
    pub fn count(&self, action: &Action) -> usize {
        self.stages.iter().filter(|s| s.action == *action).count()
    }

    /// Models that are built.
    pub fn built(&self) -> BTreeSet<String> {
        self.with(&Action::Build)
    }

    /// Models that are sent.
    pub fn synced(&self) -> BTreeSet<String> {
        self.with(&Action::Sync)
    }

    fn with(&self, action: &Action) -> BTreeSet<String> {
        self.stages.iter().filter(|s| s.action == *action).map(|s| s.model.clone()).collect()
    }

    /// For every stage, the stages that wait for it.
    pub fn readers(&self) -> BTreeMap<String, Vec<String>> {
        let mut readers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for stage in &self.stages {
            for before in &stage.after {
                readers.entry(before.clone()).or_default().push(stage.model.clone());
            }
        }
        readers
    }
}
