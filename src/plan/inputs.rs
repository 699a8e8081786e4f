//! What the result of a stage is made from, as a value that is kept with the result: equal inputs give equal
//! tables, so that a stage whose inputs are those of its last result need not run again. Pure.
//!
//! # Rules
//! - [`Inputs`] holds all that can change a result. What is missing in it is a silent wrong answer, so there is one
//!   place that makes it ([`World::of`]), and definitions come from [`super::Writer`], which takes every struct of
//!   the language apart field by field.
//! - Definitions count with their values: what the environment says, every entry of a list, the identity's key. `secret()` is for syncs only. So
//!   they are hashed with a key of the warehouse, and nothing can be read off the hashes.
//! - A model counts all definitions that it is made from, near and far: one that is built while a model before it
//!   keeps an older definition must not be taken for current later.
//! - Views are kept nowhere: their inputs are those of their readers.
//! - Logical time counts where a window or `as_of()` is in reach, and what asks the clock or chance never equals
//!   anything.
//!
//! # Not here
//! The threads, the memory and the order of files: results do not depend on them.

use super::Manifest;
use crate::graph::{Graph, tests_stage};
use crate::model::{ModelKind, Project};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};

/// Version of what inputs mean; results of another one are made again.
const RULES: u32 = 1;
/// The stage that compares all audiences with each other.
pub const OVERLAP: &str = "audience_overlap";
/// Words of SQL that give another value in every run.
const UNREPEATABLE: [&str; 10] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "today",
    "random",
    "uuid",
    "gen_random_uuid",
];
/// Functions that read the logical time.
const TIME_FUNCTIONS: [&str; 2] = ["as_of", "age_band"];
/// Keys whose value counts from the logical time.
const WINDOWS: [&str; 3] = ["within", "between", "sequence"];

/// All that the result of a stage is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Version of Kinfold, and of these rules.
    pub version: String,
    /// Hashes of the definitions that take part, by name; the zone of times is one.
    pub definitions: BTreeMap<String, String>,
    /// Hashes of the files of source tables, by table.
    pub files: BTreeMap<String, String>,
    /// The runs that made the models that are read, by model.
    pub models: BTreeMap<String, u64>,
    /// The logical time in microseconds, where it takes part.
    pub as_of: Option<i64>,
    /// Whether the same inputs give the same result.
    pub repeatable: bool,
}

/// The result that a stage has, and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The run that made it.
    pub run: u64,
    /// Rows of its main table.
    pub rows: u64,
    /// What it was made from.
    pub inputs: Inputs,
}

/// What there is now.
pub struct World<'a> {
    /// The project.
    pub project: &'a Project,
    /// Its graph.
    pub graph: &'a Graph,
    /// Its definitions, with all values.
    pub exact: &'a Manifest,
    /// Its data tests by table or model, with all values.
    pub tests: &'a BTreeMap<String, Value>,
    /// Hashes of the files of source tables.
    pub files: &'a BTreeMap<String, String>,
    /// Logical time in microseconds.
    pub as_of: i64,
    /// Key of the warehouse.
    pub key: &'a [u8; 32],
}

impl World<'_> {
    /// Inputs of a model; `made` tells which run made another model's tables.
    pub fn of_model(&self, model: &str, made: &dyn Fn(&str) -> u64) -> Inputs {
        self.of(&BTreeSet::from([model.to_owned()]), Vec::new(), BTreeSet::new(), made)
    }

    /// Inputs of the data tests of a table or model.
    pub fn of_tests(&self, owner: &str, made: &dyn Fn(&str) -> u64) -> Inputs {
        let tests = self.tests.get(owner).cloned().unwrap_or_default();
        let mut reads = self.graph.read_by_tests(owner);
        reads.insert(owner.to_owned());
        self.of(&BTreeSet::new(), vec![(tests_stage(owner), tests)], reads, made)
    }

    /// Inputs of the comparison of all audiences.
    pub fn of_overlap(&self, audiences: &BTreeSet<String>, made: &dyn Fn(&str) -> u64) -> Inputs {
        self.of(&BTreeSet::new(), Vec::new(), audiences.clone(), made)
    }

    /// The one place where inputs are made: of models that are built, other definitions, and what is read.
    fn of(
        &self,
        built: &BTreeSet<String>,
        mut own: Vec<(String, Value)>,
        mut reads: BTreeSet<String>,
        made: &dyn Fn(&str) -> u64,
    ) -> Inputs {
        let mut behind: BTreeSet<String> = built.clone();
        for model in built {
            own.push((model.clone(), self.definition(model)));
            reads.extend(self.reads(model));
        }
        let mut models = BTreeMap::new();
        let mut tables = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<String> = reads.into_iter().collect();
        while let Some(name) = waiting.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            if !self.project.models.contains_key(&name) {
                tables.insert(name);
            } else if self.is_view(&name) {
                own.push((name.clone(), self.definition(&name)));
                waiting.extend(self.reads(&name));
                behind.insert(name);
            } else {
                models.insert(name.clone(), made(&name));
                behind.insert(name);
            }
        }
        own.extend(tables.iter().map(|table| (table.clone(), self.definition(table))));
        let time = own.iter().any(|(_, definition)| reads_time(definition));
        let repeatable = !own.iter().any(|(_, definition)| has_word(definition, &UNREPEATABLE));
        Inputs {
            version: format!("{} {RULES}", env!("CARGO_PKG_VERSION")),
            definitions: self.definitions(own, &behind),
            files: tables.into_iter().map(|t| (t.clone(), self.files.get(&t).cloned().unwrap_or_default())).collect(),
            models,
            as_of: time.then_some(self.as_of),
            repeatable,
        }
    }

    /// Hashes of these definitions and of all that the models `behind` are made from.
    fn definitions(&self, own: Vec<(String, Value)>, behind: &BTreeSet<String>) -> BTreeMap<String, String> {
        let far: BTreeSet<String> = behind.iter().flat_map(|model| self.graph.upstream(model)).collect();
        let tables = self.graph.tables_of(&far);
        let far = far.into_iter().chain(tables).map(|name| (name.clone(), self.definition(&name)));
        // a name that no model has
        let zone = ("time zone".to_owned(), Value::from(self.exact.timezone.clone()));
        let all: BTreeMap<String, Value> = far.chain(own).chain([zone]).collect();
        all.into_iter().map(|(name, definition)| (name, keyed(self.key, &definition.to_string()))).collect()
    }

    fn definition(&self, name: &str) -> Value {
        let entry = self.exact.models.get(name).or_else(|| self.exact.sources.get(name));
        entry.map_or(Value::Null, |e| e.definition.clone())
    }

    fn reads(&self, model: &str) -> BTreeSet<String> {
        self.graph.needs().get(model).cloned().unwrap_or_default()
    }

    fn is_view(&self, model: &str) -> bool {
        is_view(self.project, model)
    }
}

/// Whether a model is kept nowhere.
pub fn is_view(project: &Project, model: &str) -> bool {
    matches!(project.models.get(model).map(|m| &m.kind), Some(ModelKind::Sql(sql)) if sql.is_view())
}

/// A hash that tells nothing of the text to those without the key.
pub fn keyed(key: &[u8; 32], text: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(text.as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}

/// Whether a definition counts from the logical time: rather once too often.
fn reads_time(definition: &Value) -> bool {
    // `within` of an identity and of a source table is between two rows
    let kind = definition.get("kind").and_then(Value::as_str);
    let windows = matches!(kind, Some("profile" | "audience"));
    (windows && has_key(definition, &WINDOWS)) || has_word(definition, &TIME_FUNCTIONS)
}

fn has_key(value: &Value, keys: &[&str]) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, inner)| keys.contains(&key.as_str()) || has_key(inner, keys)),
        Value::Array(items) => items.iter().any(|item| has_key(item, keys)),
        _ => false,
    }
}

/// Whether some text has one of these words, in whatever case.
fn has_word(value: &Value, words: &[&str]) -> bool {
    match value {
        Value::Object(map) => map.values().any(|inner| has_word(inner, words)),
        Value::Array(items) => items.iter().any(|item| has_word(item, words)),
        Value::String(text) => {
            let lower = text.to_lowercase();
            lower.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| words.contains(&word))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn windows_and_as_of_read_the_time_wherever_they_stand() {
        let reads = |value: Value| reads_time(&value);
        assert!(reads(json!({"kind": "profile", "traits": {"a": {"select": "count(*)", "within": "7 days"}}})));
        assert!(reads(
            json!({"kind": "audience", "where": {"all": [{"not": {"event": "t", "between": ["2 d", "1 d"]}}]}})
        ));
        assert!(reads(json!({"kind": "audience", "where": {"sequence": []}})));
        assert!(reads(json!({"kind": "sql", "sql": "SELECT AS_OF() - 1"})));
        assert!(reads(json!({"kind": "profile", "traits": {"age": {"select": "age_band(birth_date)"}}})));
        assert!(reads(json!({"location": "x", "select": {"where": "at > as_of ( )"}})));
        assert!(!reads(json!({"kind": "identity", "identifiers": {"a": {"max_per_entity": {"within": "7 days"}}}})));
        assert!(!reads(json!({"location": "x", "dedupe": {"by": "id", "within": "3 days"}})));
        assert!(!reads(json!({"kind": "sql", "sql": "SELECT was_of, as_offset FROM t"})));
    }

    #[test]
    fn the_clock_and_chance_are_words_of_their_own() {
        let asks = |sql: &str| has_word(&json!({"a": [{"sql": sql}]}), &UNREPEATABLE);
        assert!(asks("SELECT Now()") && asks("x > current_date") && asks("CAST('now' AS DATE)") && asks("uuid()"));
        assert!(!asks("random_share(a, b)") && !asks("know = 1") && !asks("current_date_of"));
    }
}
