//! The schemas for editors: committed, complete, and of one mind with `check`.
//!
//! The law: a schema refuses a document if and only if `check` finds something wrong with its shape. It is held
//! over the valid projects of the repository and over thousands of small changes of a project that uses every key
//! (`tests/schema/every_key`). A validator of just the words that the schemas use reads them here; `external.rs` asks
//! another one.

use crate::support::{Project, files, repository};
use kinfold::diagnostic::Severity;
use kinfold::project::schema::FileKind;
use kinfold::project::{LoadOptions, load};
use regex::Regex;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Codes of shape that a schema must see: unknown and missing keys, types, words, lengths, comparisons, times,
/// emptiness, names, normalisers, columns of a sync, what is not in this version.
const SEEN: [&str; 11] =
    ["K0102", "K0103", "K0104", "K0105", "K0108", "K0109", "K0110", "K0113", "K0201", "K0603", "K0801"];
/// Codes that a schema sees in part: documents without `kind`, ranges, conflicts, keys without a meaning where they
/// stand, sequences.
const SEEN_IN_PART: [&str; 5] = ["K0010", "K0112", "K0114", "K0115", "K0703"];

/// Reads the words of draft-07 that the schemas use.
struct Validator {
    schema: Value,
    patterns: RefCell<BTreeMap<String, Regex>>,
    /// Keys that a document used: the place of their mapping's schema, and the key.
    used: RefCell<BTreeSet<(String, String)>>,
}

impl Validator {
    fn new(kind: FileKind) -> Self {
        Self { schema: kind.schema(), patterns: RefCell::default(), used: RefCell::default() }
    }

    fn accepts(&self, document: &Value) -> bool {
        self.holds(&self.schema, "", document)
    }

    /// `place` is where the schema stands in the whole.
    fn holds(&self, schema: &Value, place: &str, value: &Value) -> bool {
        let words = schema.as_object().unwrap_or_else(|| panic!("{place}: no schema: {schema}"));
        words.iter().all(|(word, wanted)| {
            let place = format!("{place}/{word}");
            match word.as_str() {
                "title" | "description" | "$schema" | "definitions" | "patternErrorMessage" | "then" => true,
                "$ref" => {
                    let target = wanted.as_str().and_then(|r| r.strip_prefix('#')).unwrap();
                    self.holds(self.schema.pointer(target).unwrap(), target, value)
                }
                "type" => types(wanted).iter().any(|t| is_of_type(value, t)),
                "enum" => wanted.as_array().unwrap().contains(value),
                "const" => wanted == value,
                "pattern" => value.as_str().is_none_or(|text| self.matches(wanted, text)),
                "minimum" => value.as_f64().is_none_or(|n| n >= wanted.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|n| n <= wanted.as_f64().unwrap()),
                "minItems" => value.as_array().is_none_or(|a| a.len() as u64 >= wanted.as_u64().unwrap()),
                "maxItems" => value.as_array().is_none_or(|a| a.len() as u64 <= wanted.as_u64().unwrap()),
                "minProperties" => value.as_object().is_none_or(|o| o.len() as u64 >= wanted.as_u64().unwrap()),
                "allOf" => self.each(wanted, &place, value).iter().all(|holds| *holds),
                "anyOf" => self.each(wanted, &place, value).contains(&true),
                "oneOf" => self.each(wanted, &place, value).iter().filter(|holds| **holds).count() == 1,
                "not" => !self.holds(wanted, &place, value),
                "if" => {
                    let then = &words["then"];
                    !self.holds(wanted, &place, value) || self.holds(then, &place.replace("/if", "/then"), value)
                }
                "items" => self.items(schema, &place, value),
                "additionalItems" => true,
                "properties" | "additionalProperties" | "propertyNames" | "required" | "dependencies" => {
                    value.as_object().is_none_or(|object| self.keys(word, wanted, schema, &place, object))
                }
                other => panic!("{place}: the schemas use `{other}`, which this validator does not read"),
            }
        })
    }

    fn each(&self, schemas: &Value, place: &str, value: &Value) -> Vec<bool> {
        let schemas = schemas.as_array().unwrap().iter().enumerate();
        schemas.map(|(index, schema)| self.holds(schema, &format!("{place}/{index}"), value)).collect()
    }

    fn items(&self, schema: &Value, place: &str, value: &Value) -> bool {
        let Some(items) = value.as_array() else { return true };
        let Some(first) = schema["items"].as_array() else {
            return items.iter().all(|item| self.holds(&schema["items"], place, item));
        };
        let rest = schema.get("additionalItems");
        items.iter().enumerate().all(|(index, item)| match (first.get(index), rest) {
            (Some(schema), _) => self.holds(schema, &format!("{place}/{index}"), item),
            (None, Some(rest)) => self.holds(rest, &place.replace("/items", "/additionalItems"), item),
            (None, None) => true,
        })
    }

    fn keys(&self, word: &str, wanted: &Value, schema: &Value, place: &str, object: &Map<String, Value>) -> bool {
        let own = schema.get("properties").and_then(Value::as_object);
        let known = |key: &String| own.is_some_and(|own| own.contains_key(key));
        match word {
            "properties" => object.iter().filter(|(key, _)| known(key)).all(|(key, value)| {
                self.used.borrow_mut().insert((place.to_owned(), key.clone()));
                self.holds(&wanted[key], &format!("{place}/{key}"), value)
            }),
            "additionalProperties" if wanted.is_boolean() => object.keys().all(known),
            "additionalProperties" => {
                object.iter().filter(|(key, _)| !known(key)).all(|(_, value)| self.holds(wanted, place, value))
            }
            "propertyNames" => object.keys().all(|key| self.holds(wanted, place, &json!(key))),
            "required" => wanted.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap())),
            _ => wanted.as_object().unwrap().iter().filter(|(key, _)| object.contains_key(*key)).all(|(_, needed)| {
                needed.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap()))
            }),
        }
    }

    fn matches(&self, pattern: &Value, text: &str) -> bool {
        let pattern = pattern.as_str().unwrap();
        let mut patterns = self.patterns.borrow_mut();
        patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text)
    }
}

fn types(wanted: &Value) -> Vec<&str> {
    match wanted {
        Value::Array(types) => types.iter().map(|t| t.as_str().unwrap()).collect(),
        one => vec![one.as_str().unwrap()],
    }
}

fn is_of_type(value: &Value, word: &str) -> bool {
    match word {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        other => panic!("the schemas use the type {other}"),
    }
}

/// The documents of a YAML text.
fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents.map(|d| serde_json::to_value(serde_yaml::Value::deserialize(d).unwrap()).unwrap()).collect()
}

/// Which schema a file of a project has.
fn kind_of(path: &str) -> Option<FileKind> {
    match path {
        "kinfold.yaml" => Some(FileKind::Kinfold),
        "sources.yaml" => Some(FileKind::Sources),
        "destinations.yaml" => Some(FileKind::Destinations),
        _ if path.starts_with("models/") && Path::new(path).extension()? == "yaml" => Some(FileKind::Models),
        _ => None,
    }
}

/// The YAML files of a project with their schema and their documents.
fn project(folder: &Path) -> Vec<(String, FileKind, Vec<Value>)> {
    let mut found = Vec::new();
    for name in ["kinfold.yaml", "sources.yaml", "destinations.yaml"] {
        if let Ok(text) = std::fs::read_to_string(folder.join(name)) {
            found.push((name.to_owned(), kind_of(name).unwrap(), documents(&text)));
        }
    }
    for name in files(&folder.join("models")).into_keys().map(|f| format!("models/{f}")) {
        if let Some(kind) = kind_of(&name) {
            let text = std::fs::read_to_string(folder.join(&name)).unwrap();
            found.push((name, kind, documents(&text)));
        }
    }
    found
}

/// A project with every key and every word of the language.
fn every_key() -> PathBuf {
    repository().join("tests/schema/every_key")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE_EXPECTED is read by the test that knows what to do with it")]
fn the_committed_schemas_are_current() {
    let mut stale = Vec::new();
    for kind in FileKind::ALL {
        let path = repository().join("docs/schema").join(kind.file_name());
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, kind.text()).unwrap();
        } else if std::fs::read_to_string(&path).ok().as_deref() != Some(kind.text().as_str()) {
            stale.push(path);
        }
    }
    assert!(stale.is_empty(), "remake with `kinfold schema --write docs/schema`: {stale:?}");
}

#[test]
fn the_command_prints_and_writes_the_schemas() {
    let project = Project::of(&[]);
    for kind in FileKind::ALL {
        let printed = project.kinfold(&["schema", kind.word()]).exits(0);
        assert_eq!(printed.stdout, kind.text());
        assert_eq!(printed.stderr, "");
    }
    project.kinfold(&["schema", "--write", "a/b"]).exits(0);
    let written: Vec<String> = files(&project.path("a/b")).into_keys().collect();
    let mut wanted: Vec<String> = FileKind::ALL.iter().map(|k| k.file_name()).collect();
    wanted.sort();
    assert_eq!(written, wanted);
    assert_eq!(project.read("a/b/models.schema.json"), FileKind::Models.text());
    project.kinfold(&["schema"]).exits(2).without_data();
    project.kinfold(&["schema", "profiles"]).exits(2).without_data().says(&["models"]);
    project.write("file", "");
    project.kinfold(&["schema", "--write", "file/below"]).exits(1).says(&["cannot write file/below", "caused by:"]);
}

#[test]
fn valid_projects_of_the_repository_are_accepted() {
    let started = Project::of(&[]);
    started.kinfold(&["init", "."]).exits(0);
    let bench = ["bench/clinic", "bench/clinic-guarded"].map(|folder| repository().join(folder));
    let projects = [repository().to_owned(), started.path(""), every_key()].into_iter().chain(bench);
    let mut seen = 0;
    for folder in projects {
        for (path, kind, documents) in project(&folder) {
            let validator = Validator::new(kind);
            for document in documents {
                assert!(validator.accepts(&document), "{}/{path}: {document:#}", folder.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "only {seen} documents");
}

#[test]
fn the_project_with_every_key_is_valid_and_has_every_key() {
    let loaded = load(&every_key(), &LoadOptions::default(), &|_| None);
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for kind in FileKind::ALL {
        let validator = Validator::new(kind);
        for (_, _, documents) in project(&every_key()).into_iter().filter(|(_, k, _)| *k == kind) {
            assert!(documents.iter().all(|d| validator.accepts(d)));
        }
        let mut keys = BTreeSet::new();
        all_keys(&validator.schema, "", &mut keys);
        let unused: Vec<_> = keys.difference(&validator.used.borrow()).cloned().collect();
        assert!(unused.is_empty(), "{}: nobody uses {unused:?}", kind.word());
    }
}

/// Every key of every mapping that a schema describes.
fn all_keys(schema: &Value, place: &str, keys: &mut BTreeSet<(String, String)>) {
    match schema {
        Value::Object(words) => {
            for (word, inner) in words {
                let place = format!("{place}/{word}");
                if let ("properties", Some(properties)) = (word.as_str(), inner.as_object())
                    && !place.ends_with("/if/properties")
                    && !place.ends_with("/properties/properties")
                {
                    keys.extend(properties.keys().map(|key| (place.clone(), key.clone())));
                }
                all_keys(inner, &place, keys);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                all_keys(item, &format!("{place}/{index}"), keys);
            }
        }
        _ => {}
    }
}

/// Places of all values in a document, the root's last.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(key, inner)| places(inner, &format!("{place}/{}", escaped(key)), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| places(item, &format!("{place}/{i}"), found));
        }
        _ => {}
    }
    found.push(place.to_owned());
}

/// What stands inside data tests, and rows of unit tests: schemas describe them in part.
fn left_to_check(place: &str) -> bool {
    ["/tests/", "/given/", "/expect"].iter().any(|part| place.contains(part))
}

/// Small changes of a document, each with what it is.
fn changes(document: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    places(document, "", &mut found);
    let mut changes = Vec::new();
    for place in found.into_iter().filter(|p| !left_to_check(p)) {
        let old = document.pointer(&place).unwrap();
        let mut becomes = |new: Value| {
            let mut changed = document.clone();
            let told = format!("{place} is {new}");
            *changed.pointer_mut(&place).unwrap() = new;
            changes.push((told, changed));
        };
        for new in
            [json!(null), json!(true), json!(7), json!(0), json!(""), json!("no such word"), json!([]), json!({})]
        {
            becomes(new);
        }
        becomes(json!([old]));
        becomes(json!({ "x": old }));
        match old {
            Value::Object(object) => {
                for key in object.keys() {
                    let mut fewer = object.clone();
                    fewer.remove(key);
                    becomes(Value::Object(fewer));
                }
                for new in ["no_such_key", "Not A Name", "within", "related", "timeline"] {
                    let mut more = object.clone();
                    more.entry(new).or_insert(json!("1 day"));
                    becomes(Value::Object(more));
                }
            }
            Value::Array(items) if !items.is_empty() => becomes(json!(items[0])),
            _ => {}
        }
    }
    changes
}

/// Codes of errors that `check` finds in one file that stands alone.
fn codes(folder: &Path, path: &str, documents: &[Value]) -> BTreeSet<String> {
    // JSON is YAML
    let text = documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
    std::fs::write(folder.join(path), text).unwrap();
    let loaded = load(folder, &LoadOptions::default(), &|_| None);
    let errors = loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error);
    let own = errors.filter(|d| d.span.is_some_and(|span| loaded.sources.path(span) == path));
    own.map(|d| d.code.as_str().to_owned()).collect()
}

#[test]
fn schemas_refuse_what_check_refuses_and_nothing_else() {
    let (mut wrong, mut seen, mut refused) = (Vec::new(), 0, 0);
    for (path, kind, documents) in project(&every_key()) {
        let alone = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(alone.path().join("models")).unwrap();
        // what a document without `kind` describes
        let beside = repository().join("tests/schema/every_key").join(&path).with_extension("sql");
        if beside.exists() {
            std::fs::copy(&beside, alone.path().join(&path).with_extension("sql")).unwrap();
        }
        let validator = Validator::new(kind);
        for document in &documents {
            // an empty document is none: it is passed over
            for (told, changed) in changes(document).into_iter().filter(|(_, changed)| !changed.is_null()) {
                let said = codes(alone.path(), &path, std::slice::from_ref(&changed));
                let must = said.iter().any(|c| SEEN.contains(&c.as_str()));
                let may = must || said.iter().any(|c| SEEN_IN_PART.contains(&c.as_str()));
                let refuses = !validator.accepts(&changed);
                if (must && !refuses) || (refuses && !may) {
                    wrong.push(format!("{path}: {told}: the schema {}, check says {said:?}", verdict(refuses)));
                }
                seen += 1;
                refused += usize::from(refuses);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused > 1000 && seen - refused > 200, "{refused} of {seen} are refused");
}

fn verdict(refuses: bool) -> &'static str {
    if refuses { "refuses it" } else { "accepts it" }
}

/// The words that a finding about an unknown word proposes.
fn proposed(label: &str) -> Vec<String> {
    label.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_word_of_the_readers_is_a_word_of_the_schemas() {
    let mut words = BTreeSet::new();
    for (path, kind, documents) in project(&every_key()) {
        let alone = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(alone.path().join("models")).unwrap();
        std::fs::write(alone.path().join(&path).with_extension("sql"), "SELECT 1 AS one").unwrap();
        let validator = Validator::new(kind);
        for document in &documents {
            let mut found = Vec::new();
            places(document, "", &mut found);
            found.retain(|place| !left_to_check(place));
            for place in found.iter().filter(|p| document.pointer(p).is_some_and(Value::is_string)) {
                let with = |word: &str| {
                    let mut changed = document.clone();
                    *changed.pointer_mut(place).unwrap() = json!(word);
                    changed
                };
                std::fs::write(alone.path().join(&path), with("no_such_word").to_string()).unwrap();
                let loaded = load(alone.path(), &LoadOptions::default(), &|_| None);
                let finding = loaded.diagnostics.into_iter().find(|d| d.code.as_str() == "K0105");
                for word in finding.and_then(|f| f.label).map(|l| proposed(&l)).unwrap_or_default() {
                    // `kind`, and the type of a destination, choose the other keys, too; their words are looked at by the
                    // tests of keys
                    let chooses = place == "/kind" || (kind == FileKind::Destinations && place.ends_with("/type"));
                    if !chooses {
                        assert!(validator.accepts(&with(&word)), "{path}{place}: {word}");
                    }
                    words.insert(word);
                }
            }
        }
    }
    for word in ["parquet", "mirror", "source_order", "earliest", "previous", "view", "error", "files", "identity"] {
        assert!(words.contains(word), "no place takes {word}: {words:?}");
    }
}

/// What the first line of a YAML file says its schema is.
fn schema_line(text: &str) -> Option<&str> {
    text.lines().next()?.strip_prefix("# yaml-language-server: $schema=")
}

/// Every YAML file of a project names the right schema, by a path that leads there.
fn names_its_schema(root: &Path) -> usize {
    let mut seen = 0;
    for (path, kind, _) in project(root) {
        let file = root.join(&path);
        let text = std::fs::read_to_string(&file).unwrap();
        let named = schema_line(&text).unwrap_or_else(|| panic!("{} names no schema", file.display()));
        let target = file.parent().unwrap().join(named);
        let found = std::fs::read_to_string(&target).unwrap_or_else(|e| panic!("{path}: {}: {e}", target.display()));
        assert_eq!(found, kind.text(), "{path} names {named}");
        seen += 1;
    }
    seen
}

#[test]
fn new_projects_and_the_demo_name_their_schemas() {
    let started = Project::of(&[]);
    started.kinfold(&["init", "."]).exits(0);
    assert_eq!(names_its_schema(&started.path("")), 7);
    assert!(names_its_schema(repository()) > 10);
    // an old copy is made new by one command
    started.write(".kinfold/schema/models.schema.json", "{}");
    started.kinfold(&["schema", "--write", ".kinfold/schema"]).exits(0);
    assert_eq!(names_its_schema(&started.path("")), 7);
}
