//! Tables that SQL names, checked by name as those of YAML are: unknown, switched off, or no table at all.
//!
//! Which names there are is found by the engine, which owns the parser; what they may be is decided here, so that
//! a misspelt table in SQL gets the same suggestion as in YAML and is found in every model at once.

use super::suggest::nearest_table;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::graph::{owner, side_tables};
use crate::model::{ModelKind, Project};
use std::collections::BTreeMap;

/// What is wrong with the names of tables in one piece of SQL.
pub fn check_sql_tables(project: &Project, names: &BTreeMap<String, Span>) -> Vec<Diagnostic> {
    names.iter().filter_map(|(name, span)| check(project, name, *span)).collect()
}

fn check(project: &Project, name: &str, span: Span) -> Option<Diagnostic> {
    if let Some((_, table)) = project.source_table(name) {
        return (!table.enabled).then(|| {
            Diagnostic::error(Code::DisabledReference, span, format!("the table `{name}` says `enabled: false`"))
                .with_label("used here")
                .with_related(table.name.span, "disabled here")
                .with_help("enable it, or remove the use")
        });
    }
    if let Some(model) = project.models.get(name) {
        return matches!(model.kind, ModelKind::Sync(_)).then(|| {
            Diagnostic::error(Code::WrongKind, span, format!("`{name}` is a sync, which writes no table"))
                .with_label("expected a source table or a model")
                .with_related(model.name.span, "defined here")
        });
    }
    if project.models.contains_key(&owner(project, name)) {
        return None;
    }
    let finding =
        Diagnostic::error(Code::SqlUnknownTable, span, format!("no table `{name}`")).with_label("not defined");
    if name.starts_with("kinfold.") {
        return Some(
            finding.with_help("records of runs are not there while models run; ask them with `kinfold query`"),
        );
    }
    let known = known(project);
    Some(match nearest_table(name, known.iter().map(String::as_str)) {
        Some(near) => finding.with_help(format!("did you mean `{near}`?")),
        None => finding.with_help("a source table is written `source.table`, a model by its name"),
    })
}

/// Everything that SQL can read.
fn known(project: &Project) -> Vec<String> {
    let tables = project.sources.iter().flat_map(|s| {
        let enabled = s.tables.iter().filter(|t| t.enabled);
        enabled.map(|t| format!("{}.{}", s.name.value, t.name.value))
    });
    let models = project.models.iter().filter(|(_, m)| !matches!(m.kind, ModelKind::Sync(_)));
    let models = models.flat_map(|(name, model)| std::iter::once(name.clone()).chain(side_tables(name, model)));
    tables.chain(models).collect()
}
