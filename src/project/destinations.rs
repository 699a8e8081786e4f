//! `destinations.yaml`: where rows may go.

use super::privacy::label_names;
use super::reader::{Fields, Reader};
use super::yaml::Node;
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{Destination, DestinationKind, FileFormat};
use crate::privacy::is_health;

pub(super) const FILE_KEYS: [&str; 1] = ["destinations"];
pub(super) const KEYS: [&str; 9] =
    ["name", "type", "description", "location", "format", "url", "baa", "allow", "purposes"];
const FORMATS: [(&str, FileFormat); 3] =
    [("parquet", FileFormat::Parquet), ("csv", FileFormat::Csv), ("ndjson", FileFormat::Ndjson)];

/// Types of destination that the language has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Files,
    Later,
}

const TYPES: [(&str, Type); 4] =
    [("files", Type::Files), ("delta", Type::Later), ("postgres", Type::Later), ("http", Type::Later)];

/// Reads all documents of `destinations.yaml`.
pub(super) fn read(reader: &mut Reader<'_>, documents: &[Node]) -> Vec<Destination> {
    let mut destinations: Vec<Destination> = Vec::new();
    for document in documents {
        let Some(fields) = reader.fields(document, "destinations.yaml", &FILE_KEYS) else { continue };
        let items = fields.require(reader, "destinations").and_then(|n| reader.list("destinations", n));
        for item in items.unwrap_or_default() {
            let Some(destination) = destination(reader, item) else { continue };
            match destinations.iter().find(|d| d.name.value == destination.name.value) {
                Some(first) => reader.duplicate_name("the destination", &destination.name, first.name.span),
                None => destinations.push(destination),
            }
        }
    }
    destinations
}

fn destination(reader: &mut Reader<'_>, node: &Node) -> Option<Destination> {
    let fields = reader.fields(node, "a destination", &KEYS)?;
    let name = fields.require(reader, "name").and_then(|n| reader.name("name", n));
    let Some(name) = name else {
        reader.incomplete = true;
        return None;
    };
    let decoded = described(reader, &fields, name.clone());
    if decoded.is_none() {
        reader.undecided.insert(name.value);
    }
    decoded
}

fn described(reader: &mut Reader<'_>, fields: &Fields<'_>, name: Spanned<String>) -> Option<Destination> {
    let baa = fields.get("baa").and_then(|n| reader.boolean("baa", n)).unwrap_or(false);
    let allow = fields.get("allow").map(|n| label_names(reader, "allow", n)).unwrap_or_default();
    let purposes = fields.get("purposes").map(|n| reader.text_list("purposes", n)).unwrap_or_default();
    if !baa {
        without_agreement(reader, &allow);
    }
    let type_node = fields.require(reader, "type");
    let kind = type_node.and_then(|n| reader.word("type", n, &TYPES));
    if let (Some(node), Some(Type::Later)) = (type_node, kind) {
        let shown = reader.shown(node.span);
        reader.unavailable(node.span, &format!("the destination type `{shown}`"));
    }
    if kind != Some(Type::Files) {
        return None;
    }
    fields.meaningless(reader, &["url"], "a `files` destination has a `location`");
    let location = fields.require(reader, "location").and_then(|n| reader.filled("location", n));
    let format = fields.get("format").map_or(Some(FileFormat::Parquet), |n| reader.word("format", n, &FORMATS));
    let kind = DestinationKind::Files { location: location?, format: format? };
    Some(Destination { name, kind, allow, purposes, baa })
}

/// Health data in `allow` of a destination that no agreement covers: it would never get them.
fn without_agreement(reader: &mut Reader<'_>, allow: &[Spanned<String>]) {
    for label in allow.iter().filter(|l| is_health(&l.value)) {
        reader.findings.push(
            Diagnostic::error(Code::NoMeaning, label.span, format!("`{}` does nothing here", label.value))
                .with_label("health data go only where `baa: true` says that an agreement covers them")
                .with_help("remove it, or add `baa: true` if there is an agreement"),
        );
    }
}
