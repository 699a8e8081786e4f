//! `kind: identity`.

use super::lists;
use super::reader::{Fields, Reader, alternatives, is_name};
use super::suggest::nearest;
use super::yaml::{Entry, Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, Severity, Spanned};
use crate::model::{
    BlockRule, IdentifierType, IdentityModel, LinkIdentifier, LinkTable, MaxLinks, MaxPerEntity, Normalize, Secret,
};

/// Keys besides those of every model.
/// The stitching core numbers types in one byte.
const MOST_TYPES: usize = 255;

pub(super) const KEYS: [&str; 4] = ["identifiers", "links", "rules", "id_key"];
pub(super) const IDENTIFIER_KEYS: [&str; 7] =
    ["description", "label", "normalize", "block", "block_file", "max_links", "max_per_entity"];
pub(super) const LINK_KEYS: [&str; 5] = ["description", "from", "ids", "where", "owner"];
const NORMALIZERS: [&str; 6] = ["none", "trim", "lower", "email", "digits", "phone"];

/// Reads an identity's own keys.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<IdentityModel> {
    let before = reader.findings.len();
    let identifiers = fields.require(reader, "identifiers").and_then(|n| identifiers(reader, n));
    let types: Vec<Spanned<String>> = identifiers.iter().flatten().map(|i| i.name.clone()).collect();
    let names: Vec<&str> = types.iter().map(|t| t.value.as_str()).collect();
    let items = fields.require(reader, "links").and_then(|n| reader.list("links", n));
    if let (Some([]), Some(span)) = (items, fields.key_span("links")) {
        reader.empty(span, "links");
    }
    let links: Vec<LinkTable> = items.unwrap_or_default().iter().filter_map(|n| link(reader, n, &names)).collect();
    let rules = fields.get("rules").map(|n| lists::rules(reader, n, &names)).unwrap_or_default();
    let id_key = fields.get("id_key").and_then(|n| reader.text("id_key", n));
    if items.is_some_and(|items| items.len() == links.len()) {
        never_linked(reader, &types, &links);
        // beside a misspelt identifier it would be said of what the author meant to join
        if reader.findings[before..].iter().all(|f| f.severity != Severity::Error) {
            super::meaning::alone(reader, &types, &links, &rules);
        }
    }
    Some(IdentityModel {
        identifiers: identifiers?,
        links,
        rules,
        id_key: id_key.filter(|k| !k.value.is_empty()).map(|k| Secret::new(k.value)),
    })
}

fn never_linked(reader: &mut Reader<'_>, types: &[Spanned<String>], links: &[LinkTable]) {
    let linked = |name: &str| links.iter().flat_map(|l| &l.ids).any(|id| id.identifier.value == name);
    for unused in types.iter().filter(|t| !linked(&t.value)) {
        let message = format!("no link gives the identifier `{}`", unused.value);
        reader.findings.push(
            Diagnostic::warning(Code::IdentifierNeverLinked, unused.span, message)
                .with_label("never has a value")
                .with_help("add it to the `ids:` of a link, or remove it"),
        );
    }
}

fn identifiers(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<IdentifierType>> {
    let entries = reader.entries(node, "identifiers")?;
    if entries.is_empty() {
        reader.empty(node.span, "identifiers");
        return None;
    }
    let names: Vec<&str> = entries.iter().map(|e| e.key.value.as_str()).collect();
    let mut types: Vec<IdentifierType> = Vec::new();
    for entry in entries {
        let Some(identifier) = identifier(reader, entry, &names) else { continue };
        if !types.iter().any(|t| t.name.value == identifier.name.value) {
            types.push(identifier);
        }
    }
    if let Some(beyond) = types.get(MOST_TYPES) {
        reader.findings.push(
            Diagnostic::error(Code::OutOfRange, beyond.name.span, "an identity has too many identifier types")
                .with_label(format!("{MOST_TYPES} stand before it, and more cannot be told apart")),
        );
    }
    Some(types)
}

fn identifier(reader: &mut Reader<'_>, entry: &Entry, names: &[&str]) -> Option<IdentifierType> {
    let name = reader.check_name(entry.key.clone())?;
    let mut identifier =
        IdentifierType { name, normalize: Normalize::None, block: Vec::new(), max_links: None, max_per_entity: None };
    if matches!(entry.value.kind, NodeKind::Null) {
        return Some(identifier);
    }
    // A type stays known when its settings are wrong, so that its uses are not called unknown too.
    let Some(fields) = reader.fields(&entry.value, "an identifier", &IDENTIFIER_KEYS) else { return Some(identifier) };
    if let Some(normalize) = fields.get("normalize").and_then(|n| normalize(reader, n)) {
        identifier.normalize = normalize;
    }
    if let Some(node) = fields.get("block") {
        identifier.block = block(reader, node);
    }
    if let Some(node) = fields.get("block_file") {
        identifier.block.extend(lists::blocked(reader, node));
    }
    identifier.max_links = fields.get("max_links").and_then(|n| max_links(reader, n, names));
    identifier.max_per_entity = fields.get("max_per_entity").and_then(|n| max_per_entity(reader, n));
    Some(identifier)
}

fn max_per_entity(reader: &mut Reader<'_>, node: &Node) -> Option<MaxPerEntity> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        return reader.count("max_per_entity", node).map(|count| MaxPerEntity { count, within: None });
    }
    let fields = reader.fields(node, "max_per_entity", &["count", "within"])?;
    let count = fields.require(reader, "count").and_then(|n| reader.count("count", n));
    let within = fields.get("within").and_then(|n| reader.duration("within", n));
    Some(MaxPerEntity { count: count?, within })
}

fn max_links(reader: &mut Reader<'_>, node: &Node, names: &[&str]) -> Option<MaxLinks> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        return reader.count("max_links", node).map(|n| MaxLinks::Any(n.value));
    }
    let mut limits = Vec::new();
    for entry in reader.entries(node, "max_links")? {
        let known = check_type(reader, &entry.key, names);
        let limit = reader.count(&entry.key.value, &entry.value);
        limits.extend(limit.filter(|_| known).map(|limit| (entry.key.clone(), limit.value)));
    }
    Some(MaxLinks::ByType(limits))
}

fn block(reader: &mut Reader<'_>, node: &Node) -> Vec<BlockRule> {
    let mut rules = Vec::new();
    for node in reader.one_or_list("block", node) {
        let text = reader.scalar("block", node);
        rules.extend(text.and_then(|t| lists::block_rule(reader, t)));
    }
    rules
}

fn normalize(reader: &mut Reader<'_>, node: &Node) -> Option<Normalize> {
    let text = reader.sql("normalize", node)?;
    match text.value.as_str() {
        "none" => return Some(Normalize::None),
        "trim" => return Some(Normalize::Trim),
        "lower" => return Some(Normalize::Lower),
        "email" => return Some(Normalize::Email),
        "digits" => return Some(Normalize::Digits),
        _ => {}
    }
    let word = text.value.split('(').next().unwrap_or("").trim();
    if word == "phone" {
        let region = text.value[word.len()..].trim().strip_prefix('(').and_then(|t| t.strip_suffix(')'));
        let region = region.map(|r| r.trim().to_ascii_uppercase());
        if let Some(region) = region.filter(|r| r.len() == 2 && r.chars().all(|c| c.is_ascii_alphabetic())) {
            return Some(Normalize::Phone(region));
        }
        bad_normalize(reader, &text, "a region has two letters", Some("phone(US)"));
        return None;
    }
    if text.value.to_ascii_lowercase().split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|w| w == "value") {
        return Some(Normalize::Sql(text));
    }
    let near = nearest(word, NORMALIZERS).filter(|_| is_name(&text.value.replace('-', "_")) || word.starts_with("ph"));
    let near = near.map(|n| if n == "phone" { "phone(US)" } else { n });
    bad_normalize(reader, &text, "neither a normaliser nor SQL over `value`", near);
    None
}

fn bad_normalize(reader: &mut Reader<'_>, text: &Spanned<String>, label: &str, near: Option<&str>) {
    let shown = reader.shown(text.span);
    let finding = Diagnostic::error(Code::BadNormalize, text.span, format!("`{shown}` is not a normaliser"))
        .with_label(label.to_owned());
    reader.findings.push(match near {
        Some(near) => finding.with_help(format!("write `{near}`")),
        None => finding.with_help("use none, trim, lower, email, digits, phone(REGION), or SQL such as `upper(value)`"),
    });
}

fn link(reader: &mut Reader<'_>, node: &Node, names: &[&str]) -> Option<LinkTable> {
    let fields = reader.fields(node, "a link", &LINK_KEYS)?;
    let from = fields.require(reader, "from").and_then(|n| reader.filled("from", n));
    let ids = fields.require(reader, "ids").and_then(|n| link_ids(reader, n, names));
    let filter = fields.get("where").and_then(|n| reader.sql("where", n));
    let owner = fields.get("owner").map(|n| reader.text_list("owner", n)).unwrap_or_default();
    let given = |owner: &Spanned<String>| ids.iter().flatten().any(|id| id.identifier.value == owner.value);
    for owner in &owner {
        if check_type(reader, owner, names) && ids.is_some() && !given(owner) {
            let message = format!("`owner` names `{}`, which this link does not give", reader.shown(owner.span));
            reader.findings.push(
                Diagnostic::error(Code::UnknownIdentifier, owner.span, message)
                    .with_label("not under `ids:` of this link"),
            );
        }
    }
    Some(LinkTable { from: from?, ids: ids?, filter, owner })
}

fn link_ids(reader: &mut Reader<'_>, node: &Node, names: &[&str]) -> Option<Vec<LinkIdentifier>> {
    let entries = reader.entries(node, "ids")?;
    if entries.is_empty() {
        reader.empty(node.span, "ids");
        return None;
    }
    let mut ids = Vec::new();
    for entry in entries {
        check_type(reader, &entry.key, names);
        let expressions = reader.sql_list(&entry.key.value, &entry.value);
        ids.push(LinkIdentifier { identifier: entry.key.clone(), expressions });
    }
    Some(ids)
}

/// Reports an identifier type that the identity does not have.
fn check_type(reader: &mut Reader<'_>, name: &Spanned<String>, names: &[&str]) -> bool {
    if names.contains(&name.value.as_str()) || names.is_empty() {
        return true;
    }
    let shown = reader.shown(name.span);
    let finding = Diagnostic::error(Code::UnknownIdentifier, name.span, format!("unknown identifier type `{shown}`"))
        .with_label("not among `identifiers:`");
    reader.findings.push(match nearest(&name.value, names.iter().copied()) {
        Some(near) => finding.with_help(format!("did you mean `{near}`?")),
        None => finding.with_help(format!("use {}", alternatives(names))),
    });
    false
}
