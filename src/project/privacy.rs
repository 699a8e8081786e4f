//! Labels and `declassify`, wherever they stand.
//!
//! A label is a name or several with dots between them (`identity.email`); `none` alone says that there is nothing to
//! protect. `derived`, `region` and `unlabelled` are given by Kinfold and by nobody else.

use super::reader::{Fields, Reader, is_name};
use super::yaml::Node;
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{Declassify, ModelPrivacy};
use crate::privacy::{DERIVED, REGION, UNLABELLED, covers};
use std::collections::BTreeMap;

pub(super) const DECLASSIFY_KEYS: [&str; 5] = ["columns", "labels", "reason", "by", "at"];
/// Says that a column has no label.
const NONE: &str = "none";

/// One label or a list of them; empty for `none`.
pub(super) fn labels(reader: &mut Reader<'_>, key: &str, node: &Node) -> Vec<Spanned<String>> {
    let all = label_names(reader, key, node);
    let given = |l: &&Spanned<String>| [DERIVED, REGION].iter().any(|of| covers(of, &l.value)) || l.value == UNLABELLED;
    if let Some(label) = all.iter().find(given) {
        reader.findings.push(
            Diagnostic::error(Code::BadLabel, label.span, format!("`{}` is no label to give", label.value))
                .with_label("follows from what a column is made of")
                .with_help("write the class of the data, such as `identity.email` or `phi.diagnosis`"),
        );
    }
    match all.iter().find(|l| l.value == NONE) {
        Some(none) if all.len() > 1 => {
            reader.findings.push(
                Diagnostic::error(Code::BadLabel, none.span, "`none` stands alone")
                    .with_label("says that there is no label")
                    .with_help("remove it, or the others"),
            );
            Vec::new()
        }
        Some(_) => Vec::new(),
        None => all,
    }
}

/// Names of labels, those that Kinfold gives included.
pub(super) fn label_names(reader: &mut Reader<'_>, key: &str, node: &Node) -> Vec<Spanned<String>> {
    let all = reader.text_list(key, node);
    for label in &all {
        if !label.value.split('.').all(is_name) {
            let shown = reader.shown(label.span);
            reader.findings.push(
                Diagnostic::error(Code::BadLabel, label.span, format!("`{shown}` is not a label"))
                    .with_label("names of a-z, 0-9 and _, with dots between them")
                    .with_help("write it like `identity.email`"),
            );
        }
    }
    all
}

/// Labels of the rows of a table or model: `label`, or `labels`.
pub(super) fn of_rows(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<Spanned<String>> {
    let nodes = ["label", "labels"].into_iter().filter_map(|key| Some((key, fields.get(key)?)));
    nodes.flat_map(|(key, node)| labels(reader, key, node)).collect()
}

/// What a model says: labels of its rows and, under the given keys, of its columns; what is taken off.
pub(super) fn of_model(reader: &mut Reader<'_>, fields: &Fields<'_>, column_keys: &[&str]) -> ModelPrivacy {
    let mut columns: BTreeMap<String, Vec<Spanned<String>>> = BTreeMap::new();
    for entry in column_keys.iter().filter_map(|key| fields.get(key)).flat_map(Node::entries) {
        let Some(node) = entry.value.entries().iter().find(|e| e.key.value == "label") else { continue };
        let found = labels(reader, "label", &node.value);
        columns.entry(entry.key.value.clone()).or_default().extend(found);
    }
    let declassify = fields.get("declassify").and_then(|n| reader.list("declassify", n)).unwrap_or_default();
    ModelPrivacy {
        labels: of_rows(reader, fields),
        columns,
        declassify: declassify.iter().filter_map(|n| declassified(reader, n)).collect(),
    }
}

fn declassified(reader: &mut Reader<'_>, node: &Node) -> Option<Declassify> {
    let fields = reader.fields(node, "an entry of `declassify`", &DECLASSIFY_KEYS)?;
    let columns = fields.require(reader, "columns").map(|n| reader.text_list("columns", n));
    let labels = fields.require(reader, "labels").map(|n| label_names(reader, "labels", n));
    let mut said = |key| fields.require(reader, key).and_then(|n| reader.filled(key, n));
    let (reason, by) = (said("reason"), said("by"));
    let at = fields.require(reader, "at").and_then(|n| {
        let zone = reader.zone;
        reader.time("at", n, zone)?;
        reader.filled("at", n)
    });
    Some(Declassify { columns: columns?, labels: labels?, reason: reason?, by: by?, at: at?, span: node.span })
}
