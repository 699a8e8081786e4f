//! `kind: profile`.

use super::reader::{Fields, Reader};
use super::values::WINDOW_KEYS;
use super::yaml::{Entry, Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::model::{Attribute, AttributeSource, Persona, Pick, ProfileModel, Timeline, Trait, Window};

/// Keys besides those of every model.
pub(super) const KEYS: [&str; 5] = ["identity", "attributes", "traits", "persona", "timeline"];
pub(super) const ATTRIBUTE_KEYS: [&str; 6] = ["description", "label", "tests", "from", "pick", "raw"];
pub(super) const TRAIT_KEYS: [&str; 9] =
    ["description", "label", "tests", "from", "select", "where", "by", "time", "default"];
pub(super) const TIMELINE_KEYS: [&str; 1] = ["from"];
pub(super) const PERSONA_KEYS: [&str; 3] = ["name", "when", "default"];
const PICKS: [(&str, Pick); 5] = [
    ("source_order", Pick::SourceOrder),
    ("latest", Pick::Latest),
    ("earliest", Pick::Earliest),
    ("most_frequent", Pick::MostFrequent),
    ("longest", Pick::Longest),
];

/// Reads a profile's own keys.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<ProfileModel> {
    let identity = fields.require(reader, "identity").and_then(|n| reader.filled("identity", n));
    let mut columns: Vec<Spanned<String>> = Vec::new();
    let mut attributes = Vec::new();
    for entry in fields.get("attributes").and_then(|n| reader.entries(n, "attributes")).unwrap_or_default() {
        if let Some(attribute) = column(reader, &mut columns, entry).and_then(|n| attribute(reader, n, &entry.value)) {
            attributes.push(attribute);
        }
    }
    let mut traits = Vec::new();
    for entry in fields.get("traits").and_then(|n| reader.entries(n, "traits")).unwrap_or_default() {
        if let Some(found) = column(reader, &mut columns, entry).and_then(|n| a_trait(reader, n, &entry.value)) {
            traits.push(found);
        }
    }
    let persona = fields.get("persona").and_then(|n| persona(reader, n));
    if let Some(key) = fields.key_span("persona")
        && let Some(clash) = columns.iter().find(|c| c.value == "persona")
    {
        reader.duplicate_name("the column", &Spanned::new("persona".to_owned(), key), clash.span);
    }
    let timeline = fields.get("timeline").and_then(|n| timeline(reader, n));
    let identity = identity?;
    if let Some(clash) = columns.iter().find(|c| c.value == format!("{}_id", identity.value)) {
        let message = format!("`{}` is the entity id of this profile", clash.value);
        reader.findings.push(
            Diagnostic::error(Code::ReservedName, clash.span, message)
                .with_label("the profile has this column already")
                .with_help("choose another name"),
        );
    }
    Some(ProfileModel { identity, attributes, traits, persona, timeline })
}

/// The name of a column that the profile does not have yet. Twins in one mapping are duplicate keys and are
/// reported as such; here an attribute and a trait may meet.
fn column(reader: &mut Reader<'_>, columns: &mut Vec<Spanned<String>>, entry: &Entry) -> Option<Spanned<String>> {
    let name = reader.check_name(entry.key.clone())?;
    if let Some(first) = columns.iter().find(|c| c.value == name.value) {
        let said = reader.findings.iter().any(|f| f.code == Code::DuplicateKey && f.span == Some(name.span));
        let first = first.span;
        if !said {
            reader.duplicate_name("the column", &name, first);
        }
        return None;
    }
    columns.push(name.clone());
    Some(name)
}

fn attribute(reader: &mut Reader<'_>, name: Spanned<String>, node: &Node) -> Option<Attribute> {
    let fields = reader.fields(node, "an attribute", &ATTRIBUTE_KEYS)?;
    fields.no_effect(reader, &["tests"]);
    let nodes = fields.require(reader, "from").map(|n| reader.one_or_list("from", n))?;
    let from: Vec<_> = nodes.into_iter().filter_map(|n| attribute_source(reader, n)).collect();
    let pick = fields.get("pick").map_or(Some(Pick::SourceOrder), |n| reader.word("pick", n, &PICKS));
    let raw = fields.get("raw").and_then(|n| reader.boolean("raw", n)).unwrap_or(false);
    Some(Attribute { name, from, pick: pick?, raw })
}

/// `ehr.patients.email`: the last dot parts table and column.
fn attribute_source(reader: &mut Reader<'_>, node: &Node) -> Option<AttributeSource> {
    let text = reader.filled("from", node)?;
    let part = |from: usize, to: usize| {
        let span = reader.sources.locate_range(text.span, &text.value, from, to);
        Spanned::new(text.value[from..to].to_owned(), span)
    };
    match text.value.rfind('.') {
        Some(dot) if dot > 0 && dot + 1 < text.value.len() && !text.value.contains(char::is_whitespace) => {
            Some(AttributeSource { table: part(0, dot), column: part(dot + 1, text.value.len()) })
        }
        _ => {
            let shown = reader.shown(text.span);
            reader.findings.push(
                Diagnostic::error(Code::WrongType, text.span, format!("`{shown}` is not a column of a table"))
                    .with_label("expected `table.column`")
                    .with_help("write it like `ehr.patients.email`, or `model.column`"),
            );
            None
        }
    }
}

fn a_trait(reader: &mut Reader<'_>, name: Spanned<String>, node: &Node) -> Option<Trait> {
    let keys = [TRAIT_KEYS.as_slice(), &WINDOW_KEYS].concat();
    let fields = reader.fields(node, "a trait", &keys)?;
    fields.no_effect(reader, &["tests"]);
    let from = fields.get("from").map(|n| reader.text_list("from", n));
    if from.is_none() {
        let why = "needs rows, and this trait has no `from`";
        let over_rows = ["where", "within", "between", "before", "after", "inclusive", "by", "time", "default"];
        fields.meaningless(reader, &over_rows, why);
    }
    let select = fields.require(reader, "select").and_then(|n| reader.sql("select", n));
    let window = if from.is_some() { reader.window(&fields, reader.zone) } else { Window::default() };
    Some(Trait {
        name,
        from: from.unwrap_or_default(),
        select: select?,
        filter: fields.get("where").and_then(|n| reader.sql("where", n)),
        window,
        by: fields.get("by").map(|n| reader.sql_list("by", n)).unwrap_or_default(),
        time: fields.get("time").and_then(|n| reader.filled("time", n)),
        default: fields.get("default").and_then(|n| literal(reader, n)),
    })
}

/// A scalar as a SQL literal.
fn literal(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let text = match &node.kind {
        NodeKind::Null => "NULL".to_owned(),
        NodeKind::Bool(value, _) => value.to_string(),
        NodeKind::Number(text) => text.clone(),
        NodeKind::Text { value, .. } => format!("'{}'", value.replace('\'', "''")),
        _ => {
            reader.wrong_type(node, "default", "text, a number, true or false");
            return None;
        }
    };
    Some(Spanned::new(text, node.span))
}

fn timeline(reader: &mut Reader<'_>, node: &Node) -> Option<Timeline> {
    let fields = reader.fields(node, "a timeline", &TIMELINE_KEYS)?;
    let mut from: Vec<Spanned<String>> = Vec::new();
    let nodes = fields.require(reader, "from").map(|n| reader.text_list("from", n))?;
    for table in nodes {
        match from.iter().find(|known| known.value == table.value) {
            Some(first) => {
                let message = format!("`{}` stands twice in this timeline", table.value);
                let finding = Diagnostic::error(Code::DuplicateName, table.span, message);
                let finding = finding.with_label("again here").with_related(first.span, "first here");
                reader.findings.push(finding.with_help("keep one: each of its rows would stand there twice"));
            }
            None => from.push(table),
        }
    }
    Some(Timeline { from })
}

fn persona(reader: &mut Reader<'_>, node: &Node) -> Option<Persona> {
    let items = reader.list("persona", node)?;
    if items.is_empty() {
        reader.empty(node.span, "persona");
        return None;
    }
    let mut rules = Vec::new();
    let mut default: Option<(Spanned<String>, Span)> = None;
    for item in items {
        let Some(fields) = reader.fields(item, "a persona rule", &PERSONA_KEYS) else { continue };
        let Some(node) = fields.get("default") else {
            let name = fields.require(reader, "name").and_then(|n| reader.filled("name", n));
            let when = fields.require(reader, "when").and_then(|n| reader.sql("when", n));
            rules.extend(name.zip(when));
            if let Some((_, first)) = &default {
                let span = fields.span();
                reader.findings.push(
                    Diagnostic::error(Code::NoMeaning, span, "a rule after the default is never reached")
                        .with_label("never reached")
                        .with_related(*first, "the default")
                        .with_help("put the default last"),
                );
            }
            continue;
        };
        fields.meaningless(reader, &["name", "when"], "this is the default");
        let Some(name) = reader.filled("default", node) else { continue };
        match &default {
            Some((_, first)) => reader.conflict(fields.span(), "default", *first, "default", "keep one default"),
            None => default = Some((name, fields.span())),
        }
    }
    Some(Persona { rules, default: default.map(|(name, _)| name) })
}
