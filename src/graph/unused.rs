//! What is defined and read by nobody.
//!
//! Warned of: an enabled table of a source of which other tables are read (a source that nothing reads yet is one
//! that somebody is just setting up), and a view without readers, which makes nothing. Tables that models make are
//! no concern of this: people and tools read them.

use super::Graph;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{ModelKind, Project};
use std::collections::BTreeSet;

/// The warnings for a whole project.
pub fn unused(project: &Project, graph: &Graph) -> Vec<Diagnostic> {
    let read: BTreeSet<&String> = graph.needs().values().flatten().collect();
    let mut findings = Vec::new();
    for source in &project.sources {
        let name = |table: &str| format!("{}.{table}", source.name.value);
        let enabled: Vec<_> = source.tables.iter().filter(|t| t.enabled).collect();
        if !enabled.iter().any(|t| read.contains(&name(&t.name.value))) {
            continue;
        }
        for table in enabled.into_iter().filter(|t| !read.contains(&name(&t.name.value))) {
            let message = format!("nothing reads the table `{}`", name(&table.name.value));
            findings.push(
                Diagnostic::warning(Code::UnusedTable, table.name.span, message)
                    .with_label("not read")
                    .with_help("use it in a model, or say `enabled: false` to keep its definition"),
            );
        }
    }
    for (name, model) in &project.models {
        let view = matches!(&model.kind, ModelKind::Sql(sql) if sql.is_view());
        if view && !read.contains(name) {
            findings.push(
                Diagnostic::warning(Code::UnusedView, model.name.span, format!("nothing reads the view `{name}`"))
                    .with_label("makes nothing")
                    .with_help("read it in a model, or make it a table"),
            );
        }
    }
    findings
}
