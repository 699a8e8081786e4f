//! The manifest: every definition of a project as a value, to compare with an earlier one. Pure.
//!
//! `target/manifest.json` is this value; it holds no data, no secret and no value from the environment, so that it
//! may be kept by CI and compared on another machine.

use super::definition::{Writer, fingerprint};
use crate::graph::{Changed, Graph};
use crate::model::{Model, Project};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Version of the manifest's format that this version writes and reads.
pub const FORMAT: u32 = 1;

/// A project's definitions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Version of Kinfold that wrote it.
    pub version: String,
    /// Name of the project.
    pub project: String,
    /// Zone of times without a zone; it is part of what every model means.
    pub timezone: String,
    /// Models by name.
    pub models: BTreeMap<String, Entry>,
    /// Source tables by dotted name.
    pub sources: BTreeMap<String, Entry>,
    /// Destinations by name.
    pub destinations: BTreeMap<String, Entry>,
}

/// One definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `sql`, `identity`, `profile`, `audience`, `sync`, `source` or `destination`.
    pub kind: String,
    /// The defining file.
    pub path: String,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Tags of a model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Models and source tables that a model reads directly.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reads: BTreeSet<String>,
    /// Hash of the definition.
    pub fingerprint: String,
    /// What it means.
    pub definition: Value,
}

impl Entry {
    /// A definition as an earlier run used it.
    pub fn recorded(kind: &str, fingerprint: &str, definition: Value) -> Self {
        Self { fingerprint: fingerprint.to_owned(), ..entry(kind, definition) }
    }
}

impl Manifest {
    /// The manifest of a loaded project.
    pub fn new(project: &Project, graph: &Graph, writer: &Writer<'_>) -> Self {
        let reads = |name: &String| graph.needs().get(name).cloned().unwrap_or_default();
        let models = project.models.iter().map(|(name, m)| (name.clone(), model(m, reads(name), writer))).collect();
        let path = |span| writer.map.path(span).to_owned();
        let mut sources = BTreeMap::new();
        for source in &project.sources {
            for table in &source.tables {
                let name = format!("{}.{}", source.name.value, table.name.value);
                let definition = writer.table(source, table);
                let entry = Entry { description: source.description.clone(), ..entry("source", definition) };
                sources.insert(name, Entry { path: path(table.name.span), ..entry });
            }
        }
        let destination = |d: &crate::model::Destination| {
            let entry = Entry { path: path(d.name.span), ..entry("destination", writer.destination(d)) };
            (d.name.value.clone(), entry)
        };
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            project: project.settings.name.clone(),
            timezone: project.settings.timezone.clone(),
            models,
            sources,
            destinations: project.destinations.iter().map(destination).collect(),
        }
    }

    /// Models that differ from `before`: those whose own definition does, and those whose source tables' or
    /// destination's definition does. A model behind a changed model is not changed itself: select `state:modified+`.
    pub fn changed_since(&self, before: &Self) -> Changed {
        let mut changed = Changed::default();
        for (name, entry) in &self.models {
            if !before.models.contains_key(name) {
                changed.new.insert(name.clone());
            } else if !self.differences(name, entry, before).is_empty() {
                changed.modified.insert(name.clone());
            }
        }
        changed
    }

    /// What of a model differs from `before`, a line each; none for a model that is new.
    pub fn why_changed(&self, model: &str, before: &Self) -> Vec<Difference> {
        self.models.get(model).map(|entry| self.differences(model, entry, before)).unwrap_or_default()
    }

    fn differences(&self, name: &str, entry: &Entry, before: &Self) -> Vec<Difference> {
        let Some(old) = before.models.get(name) else { return Vec::new() };
        let mut found = compare("", &old.definition, &entry.definition);
        let aside = |found: &mut Vec<Difference>, what: &str, now: Option<&Entry>, then: Option<&Entry>| {
            let value = |e: Option<&Entry>| e.map_or(Value::Null, |e| e.definition.clone());
            found.extend(compare(what, &value(then), &value(now)));
        };
        for table in entry.reads.iter().filter(|r| self.sources.contains_key(*r)) {
            // a table that was not read before is part of the definition's own difference
            if before.sources.contains_key(table) {
                aside(&mut found, table, self.sources.get(table), before.sources.get(table));
            }
        }
        let to = entry.definition.get("to").and_then(Value::as_str).filter(|_| entry.kind == "sync");
        if let Some(to) = to.filter(|to| before.destinations.contains_key(*to)) {
            aside(&mut found, to, self.destinations.get(to), before.destinations.get(to));
        }
        if self.timezone != before.timezone {
            let text = |t: &str| Value::from(t);
            found.extend(compare("timezone", &text(&before.timezone), &text(&self.timezone)));
        }
        found
    }
}

fn model(model: &Model, reads: BTreeSet<String>, writer: &Writer<'_>) -> Entry {
    let entry = entry(model.kind.word(), writer.model(model));
    let mut tags: Vec<String> = model.tags.iter().map(|t| t.value.clone()).collect();
    tags.sort();
    Entry { path: model.path.clone(), description: model.description.clone(), tags, reads, ..entry }
}

fn entry(kind: &str, definition: Value) -> Entry {
    Entry {
        kind: kind.to_owned(),
        path: String::new(),
        description: None,
        tags: Vec::new(),
        reads: BTreeSet::new(),
        fingerprint: fingerprint(&definition),
        definition,
    }
}

/// One difference of two definitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where, with dots: `traits.searches_30d.within`.
    pub at: String,
    /// What stood there; `None` when it is new.
    pub before: Option<String>,
    /// What stands there; `None` when it is gone.
    pub after: Option<String>,
}

/// Differences of two values, mapping by mapping; lists and scalars are compared whole.
fn compare(at: &str, before: &Value, after: &Value) -> Vec<Difference> {
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let null = Value::Null;
        return keys
            .into_iter()
            .flat_map(|key| {
                let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                compare(&place, old.get(key).unwrap_or(&null), new.get(key).unwrap_or(&null))
            })
            .collect();
    }
    if before == after {
        return Vec::new();
    }
    let shown = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    vec![Difference { at: at.to_owned(), before: shown(before), after: shown(after) }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_the_key_that_changed() {
        let old = json!({"traits": {"a": {"within": "7 days"}, "b": {"select": "x"}}, "links": [1, 2]});
        let new = json!({"traits": {"a": {"within": "30 days"}, "c": {"select": "y"}}, "links": [2, 1]});
        let found: Vec<String> =
            compare("", &old, &new).into_iter().map(|d| format!("{}: {:?} -> {:?}", d.at, d.before, d.after)).collect();
        let expected = [
            r#"links: Some("[1,2]") -> Some("[2,1]")"#,
            r#"traits.a.within: Some("7 days") -> Some("30 days")"#,
            r#"traits.b: Some("{\"select\":\"x\"}") -> None"#,
            r#"traits.c: None -> Some("{\"select\":\"y\"}")"#,
        ];
        assert_eq!(found, expected);
        assert!(compare("", &old, &old).is_empty());
    }
}
