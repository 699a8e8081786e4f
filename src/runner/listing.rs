//! What a project defines, without binding anything: no store is touched.

use super::prepare::{Failure, Options, Outline, outline};
use crate::diagnostic::SourceMap;
use crate::model::Project;
use std::collections::BTreeSet;

/// A model or a source table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, as SQL writes it.
    pub name: String,
    /// What it is: a kind of model, or `source`.
    pub kind: &'static str,
    /// The file that defines it, relative to the project.
    pub path: String,
    /// Tags for selection.
    pub tags: Vec<String>,
    /// Models and source tables that it reads directly.
    pub reads: BTreeSet<String>,
    /// Free text for people.
    pub description: Option<String>,
}

/// The selected models in dependency order; with `sources`, the source tables that they read come first.
///
/// # Errors
/// Findings when the project does not load, its SQL does not parse or its models need each other; `Usage`
/// when a selector matches nothing.
pub fn list(options: &Options, sources: bool) -> Result<Vec<Listed>, Failure> {
    let Outline { project, graph, order, selected, engine, .. } = outline(options)?;
    let models: Vec<String> = order.into_iter().filter(|n| selected.contains(n)).collect();
    let tables = if sources { graph.tables_of(&models) } else { BTreeSet::new() };
    let tables = tables.iter().filter_map(|t| source(&project, engine.source_map(), t));
    let models = models.iter().filter_map(|name| {
        let model = project.models.get(name)?;
        Some(Listed {
            name: name.clone(),
            kind: model.kind.word(),
            path: model.path.clone(),
            tags: model.tags.iter().map(|t| t.value.clone()).collect(),
            reads: graph.needs().get(name).cloned().unwrap_or_default(),
            description: model.description.clone(),
        })
    });
    Ok(tables.chain(models).collect())
}

fn source(project: &Project, map: &SourceMap, name: &str) -> Option<Listed> {
    let (source, table) = project.source_table(name)?;
    Some(Listed {
        name: name.to_owned(),
        kind: "source",
        path: map.path(table.name.span).to_owned(),
        tags: Vec::new(),
        reads: BTreeSet::new(),
        description: source.description.clone(),
    })
}
