//! A circle of models as a finding: the path, and where each model names the next.

use super::dependencies::{named, owner};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::model::{ModelKind, Project};
use std::collections::BTreeMap;

/// The finding of a path that ends where it began. `sql` has the places of the tables that each model's SQL names.
pub fn cycle(project: &Project, path: &[String], sql: &BTreeMap<String, BTreeMap<String, Span>>) -> Diagnostic {
    let message = format!("models need each other: {}", path.join(" -> "));
    let step = |pair: &[String]| {
        let (reader, read) = (&pair[0], &pair[1]);
        let grouped = project.before_in_group(reader).contains(&read.as_str());
        let text = match (reader == read, grouped) {
            (true, _) => "it reads itself".to_owned(),
            (false, true) => format!("`{reader}` is decided after `{read}`"),
            (false, false) => format!("`{reader}` reads `{read}`"),
        };
        Some((place(project, reader, read, sql)?, text))
    };
    let mut steps = path.windows(2).filter_map(step);
    let finding = match steps.next() {
        Some((span, text)) => Diagnostic::error(Code::Cycle, span, message).with_label(text),
        None => Diagnostic::placeless(Code::Cycle, message),
    };
    let mut finding =
        finding.with_help("break the circle: let one of them read a source table or a further model instead");
    finding.related = steps.collect();
    finding
}

/// Where a model names another one or a table of it.
fn place(project: &Project, reader: &str, read: &str, sql: &BTreeMap<String, BTreeMap<String, Span>>) -> Option<Span> {
    let model = project.models.get(reader)?;
    let by_key = named(model).into_iter().find(|n| owner(project, &n.value) == read).map(|n| n.span);
    let in_sql = || sql.get(reader)?.iter().find(|(name, _)| owner(project, name) == read).map(|(_, span)| *span);
    let in_group = || match &model.kind {
        ModelKind::Audience(audience) => audience.narrowing.group.as_ref().map(|g| g.priority.span),
        _ => None,
    };
    by_key.or_else(in_sql).or_else(in_group).or(Some(model.name.span))
}
