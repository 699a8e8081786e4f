//! What a run will do, as a value: stages in order, each with what it waits for. The runner executes it and
//! `check` can print it; both read the very same list. Pure.

mod definition;
mod inputs;
mod manifest;
mod partials;
mod reasons;

pub use definition::{Detail, Writer, fingerprint};
pub use inputs::{Inputs, Made, OVERLAP, World, is_view, keyed};
pub use manifest::{Difference, Entry, FORMAT, Manifest};
pub use partials::{Contents, PartialSet, PartialUse, Reading};
pub use reasons::{Compared, FileChange, NewFiles, Reason, Update, Work};

use crate::graph::{Graph, tests_stage};
use crate::model::{ModelKind, Project};
use std::collections::{BTreeMap, BTreeSet};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read a model's committed tables, because a selected model needs them.
    Load,
    /// Build a model.
    Build,
    /// Run the data tests of a model that was built, or of a source table that is read.
    Test,
    /// Send a model's rows to a destination, after the commit.
    Sync,
}

/// A stage of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The model, or the source table that is tested.
    pub model: String,
    /// What is done with it.
    pub action: Action,
    /// Stages that come before, by name.
    pub after: BTreeSet<String>,
}

impl Stage {
    /// Its name: the model's, or `tests of` it.
    pub fn name(&self) -> String {
        match self.action {
            Action::Test => tests_stage(&self.model),
            Action::Load | Action::Build | Action::Sync => self.model.clone(),
        }
    }
}

/// Stages in an order in which each comes after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The stages.
    pub stages: Vec<Stage>,
    /// Selected models that stay as they are; those that something reads are loaded.
    pub unchanged: BTreeSet<String>,
}

impl Plan {
    /// Plans a run that builds all selected models; `order` is the graph's order. What they need beyond the
    /// selection is loaded. What is built, and the source tables that it reads, is tested before its readers are
    /// built.
    pub fn new(project: &Project, graph: &Graph, order: &[String], selected: &BTreeSet<String>) -> Self {
        Self::staged(project, graph, order, selected, &graph.tested(selected), &BTreeSet::new())
    }

    /// Plans a run of what there is to do. Models that stay as they are are loaded where something reads them.
    pub fn of_work(project: &Project, graph: &Graph, order: &[String], work: &Work) -> Self {
        let selected = work.build.union(&work.sync).cloned().collect();
        let plan = Self::staged(project, graph, order, &selected, &work.test, &work.compare);
        Self { unchanged: work.unchanged.clone(), ..plan }
    }

    fn staged(
        project: &Project,
        graph: &Graph,
        order: &[String],
        selected: &BTreeSet<String>,
        tested: &BTreeSet<String>,
        also: &BTreeSet<String>,
    ) -> Self {
        let mut needed = graph.needed(selected, tested).models;
        needed.extend(also.iter().flat_map(|model| graph.upstream(model)));
        let action = |name: &String| {
            let model = project.models.get(name)?;
            let sync = matches!(model.kind, ModelKind::Sync(_));
            Some(match (selected.contains(name), sync) {
                (true, true) => Action::Sync,
                (true, false) => Action::Build,
                (false, _) => Action::Load,
            })
        };
        let mut stages: Vec<Stage> = tested
            .iter()
            .map(|owner| Stage { model: owner.clone(), action: Action::Test, after: graph.tests_wait_for(owner) })
            .collect();
        let tests: BTreeSet<String> = tested.iter().map(|owner| tests_stage(owner)).collect();
        for name in order.iter().filter(|name| needed.contains(*name)) {
            let Some(action) = action(name) else { continue };
            // what is loaded was tested when it was built; a view is kept nowhere and shows what is built now
            let shown_now = action != Action::Load || is_view(project, name);
            let mut after = graph.waits_for(name);
            after.retain(|stage| needed.contains(stage) || shown_now && tests.contains(stage));
            stages.push(Stage { model: name.clone(), action, after });
        }
        Self { stages: in_order(stages), unchanged: BTreeSet::new() }
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

/// Each stage after those that it waits for, else as given; stages of a circle come last.
fn in_order(stages: Vec<Stage>) -> Vec<Stage> {
    let mut waiting = stages;
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut ordered = Vec::with_capacity(waiting.len());
    loop {
        let (ready, rest): (Vec<Stage>, Vec<Stage>) = waiting.into_iter().partition(|s| s.after.is_subset(&done));
        waiting = rest;
        if ready.is_empty() {
            break;
        }
        done.extend(ready.iter().map(Stage::name));
        ordered.extend(ready);
    }
    ordered.extend(waiting);
    ordered
}
