//! `kinfold test --data`: the data tests over what is committed and over the sources, building nothing.
//!
//! Reads the newest committed run; takes no lease and writes nothing. Models that were never committed are
//! named and left out.

use super::prepare::{Also, Failure, Options, Purpose, loaded, prepare_with};
use super::run::warehouse_of;
use crate::diagnostic::{Diagnostic, SourceMap};
use crate::engine::{CheckResult, CheckStatus, RunContext};
use crate::model::Project;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the data tests found.
#[derive(Debug)]
pub struct DataReport {
    /// All results, source tables first.
    pub checks: Vec<CheckResult>,
    /// Selected models that were never committed.
    pub unbuilt: Vec<String>,
    /// Warnings of loading and binding, with their files.
    pub warnings: (Vec<Diagnostic>, SourceMap),
}

impl DataReport {
    /// Whether no error test failed.
    pub fn is_success(&self) -> bool {
        self.checks.iter().all(|c| c.status != CheckStatus::Fail)
    }
}

/// Runs the data tests of the selected models and of the source tables that they read; a selector may also be
/// the name of a source table. Without selectors: all tests.
///
/// # Errors
/// Findings when something is wrong in the author's files; an error when storage fails.
pub async fn test_data(options: &Options) -> Result<DataReport, Failure> {
    let (project, map, warnings) = loaded(options)?;
    let (options, also) = selected(options, &project);
    let prepared = prepare_with(&options, Purpose::Run, Arc::clone(&project), map, warnings, &also).await?;
    let warehouse = warehouse_of(&project, &options)?;
    let base = warehouse.snapshot(None).await?;
    let context = RunContext {
        number: base.run.unwrap_or(0),
        warehouse,
        base,
        selected: BTreeSet::new(),
        partials: None,
        updates: Arc::default(),
    };
    let engine = &prepared.engine;
    let mut unbuilt = BTreeSet::new();
    for model in &prepared.order {
        if !engine.load_tables(model, &context).await? {
            unbuilt.insert(model.clone());
        }
    }
    let mut owners = also.tables.clone();
    owners.extend(prepared.graph.tested(&prepared.selected));
    let (tables, models): (Vec<String>, Vec<String>) = owners.into_iter().partition(|o| o.contains('.'));
    let mut checks = Vec::new();
    for owner in tables.iter().chain(&models).filter(|o| !unbuilt.contains(*o)) {
        checks.extend(engine.test(owner).await);
    }
    let unbuilt = models.into_iter().filter(|m| unbuilt.contains(m)).collect();
    Ok(DataReport { checks, unbuilt, warnings: (prepared.warnings, prepared.engine.source_map().clone()) })
}

/// Splits the selectors into those of models and names of source tables.
fn selected(options: &Options, project: &Project) -> (Options, Also) {
    let tested = project.tested().into_iter().filter(|name| name.contains('.'));
    if options.select.is_empty() {
        return (options.clone(), Also { tables: tested.collect(), alone: false });
    }
    let is_table = |name: &String| project.source_table(name).is_some();
    let (tables, select): (Vec<String>, Vec<String>) = options.select.iter().cloned().partition(is_table);
    let also = Also { alone: select.is_empty(), tables: tables.into_iter().collect() };
    (Options { select, ..options.clone() }, also)
}
