//! Labels of a bound project: what policies refuse, and the whole map.

use super::prepare::{Failure, Options, Prepared, Purpose, prepare};
use crate::diagnostic::Diagnostic;
use crate::engine::Engine;
use crate::graph::{ColumnRef, owner};
use crate::model::Project;
use crate::privacy::{LabelMap, Labels, check as refused, misplaced};
use std::collections::BTreeSet;

/// What the policies of destinations refuse of these bound models.
pub(super) fn check(project: &Project, engine: &Engine, models: &[String]) -> Vec<Diagnostic> {
    let graph = engine.lineage_graph();
    let map = LabelMap::new(project, &graph);
    let bound: BTreeSet<&str> = models.iter().map(String::as_str).filter(|m| engine.is_bound(m)).collect();
    let mut findings = misplaced(project, &map, &bound);
    findings.extend(refused(project, &map, &bound));
    findings
}

/// A table and the labels of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledTable {
    /// Its name; a sync has the columns that it sends.
    pub name: String,
    /// What makes it: a kind of model, or `source`.
    pub kind: &'static str,
    /// Where a sync goes.
    pub to: Option<String>,
    /// Labels of the fact that a row is there.
    pub rows: Labels,
    /// Its columns, in their order.
    pub columns: Vec<LabelledColumn>,
}

/// A column and its own labels, beyond those of its table's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledColumn {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// Labels of every table that the selected models read or make, sources first.
///
/// # Errors
/// Findings when something is wrong in the project.
pub async fn label_map(options: &Options) -> Result<Vec<LabelledTable>, Failure> {
    let Prepared { project, engine, .. } = prepare(options, Purpose::Describe).await?;
    let graph = engine.lineage_graph();
    let map = LabelMap::new(&project, &graph);
    let mut tables: Vec<LabelledTable> = Vec::new();
    for table in graph.tables().values() {
        let model = project.models.get(&owner(&project, &table.name)).filter(|_| !graph.is_source(&table.name));
        let to = model.and_then(|m| match &m.kind {
            crate::model::ModelKind::Sync(sync) => Some(sync.to.value.clone()),
            _ => None,
        });
        let column =
            |name: &String| LabelledColumn { name: name.clone(), labels: map.of(&ColumnRef::new(&table.name, name)) };
        tables.push(LabelledTable {
            name: table.name.clone(),
            kind: model.map_or("source", |m| m.kind.word()),
            to,
            rows: map.of(&ColumnRef::rows_of(&table.name)),
            columns: table.columns.iter().map(|c| column(&c.name)).collect(),
        });
    }
    let order = |kind: &str| match kind {
        "source" => 0,
        "sync" => 2,
        _ => 1,
    };
    tables.sort_by_key(|t| order(t.kind));
    Ok(tables)
}
