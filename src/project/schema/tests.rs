//! The schemas' keys are those of the readers, and every key is described.

use super::FileKind;
use crate::project::values::WINDOW_KEYS;
use crate::project::{
    audience, checks, consent, destinations, identity, models, narrowing, privacy, profile, settings, sources, sync,
    unit,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Keys of the mapping that a definition describes; the root's without a name.
fn keys(kind: FileKind, definition: &str) -> BTreeSet<String> {
    let schema = kind.schema();
    let mapping = if definition.is_empty() { &schema } else { &schema["definitions"][definition] };
    assert_eq!(mapping["additionalProperties"], Value::Bool(false), "{definition} takes any key");
    let properties = mapping["properties"].as_object().unwrap_or_else(|| panic!("{definition} has no keys"));
    properties.keys().cloned().collect()
}

fn union(kind: FileKind, definitions: &[&str]) -> BTreeSet<String> {
    definitions.iter().flat_map(|d| keys(kind, d)).collect()
}

/// Keys that a reader takes, without those that it refuses in this version.
fn taken(lists: &[&[&str]], refused: &[&str]) -> BTreeSet<String> {
    let all: BTreeSet<String> = lists.concat().into_iter().map(str::to_owned).collect();
    for key in refused {
        assert!(all.contains(*key), "{key} is refused and not even known");
    }
    all.into_iter().filter(|k| !refused.contains(&k.as_str())).collect()
}

#[test]
fn keys_of_settings_sources_and_destinations_are_those_of_the_readers() {
    use FileKind::{Destinations, Kinfold, Sources};
    assert_eq!(keys(Kinfold, ""), taken(&[&settings::KEYS], &[]));
    assert_eq!(keys(Kinfold, "Target"), taken(&[&settings::TARGET_KEYS], &[]));
    assert_eq!(keys(Sources, ""), taken(&[&sources::FILE_KEYS], &[]));
    assert_eq!(keys(Sources, "Source"), taken(&[&sources::SOURCE_KEYS], &[]));
    assert_eq!(keys(Sources, "Table"), taken(&[&sources::TABLE_KEYS], &[]));
    assert_eq!(keys(Sources, "Dedupe"), taken(&[&sources::DEDUPE_KEYS], &[]));
    assert_eq!(keys(Sources, "Select"), taken(&[&sources::SELECT_KEYS], &[]));
    assert_eq!(keys(Sources, "Column"), taken(&[&sources::COLUMN_KEYS], &[]));
    assert_eq!(keys(Destinations, ""), taken(&[&destinations::FILE_KEYS], &[]));
    assert_eq!(keys(Destinations, "Destination"), taken(&[&destinations::KEYS], &[]));
    assert_eq!(keys(Destinations, "DeleteRequest"), taken(&[&destinations::DELETE_KEYS], &[]));
    assert_eq!(keys(Destinations, "RejectedRows"), taken(&[&destinations::REJECTED_KEYS], &[]));
}

#[test]
fn keys_of_models_are_those_of_the_readers() {
    let of = |definition: &str| keys(FileKind::Models, definition);
    let common: &[&str] = &models::COMMON;
    assert_eq!(of("Identity"), taken(&[common, &identity::KEYS], &[]));
    assert_eq!(of("Identifier"), taken(&[&identity::IDENTIFIER_KEYS], &[]));
    assert_eq!(of("Link"), taken(&[&identity::LINK_KEYS], &[]));
    assert_eq!(of("Profile"), taken(&[common, &profile::KEYS], &[]));
    assert_eq!(of("Timeline"), taken(&[&profile::TIMELINE_KEYS], &[]));
    assert_eq!(of("Attribute"), taken(&[&profile::ATTRIBUTE_KEYS], &[]));
    assert_eq!(of("Trait"), taken(&[&profile::TRAIT_KEYS, &WINDOW_KEYS], &[]));
    assert_eq!(union(FileKind::Models, &["PersonaRule", "PersonaDefault"]), taken(&[&profile::PERSONA_KEYS], &[]));
    assert_eq!(of("Audience"), taken(&[common, &audience::KEYS], &[]));
    assert_eq!(of("Group"), taken(&[&narrowing::GROUP_KEYS], &[]));
    assert_eq!(of("Holdout"), taken(&[&narrowing::HOLDOUT_KEYS], &[]));
    assert_eq!(of("Top"), taken(&[&narrowing::TOP_KEYS], &[]));
    // a sync has no table to test
    assert_eq!(of("Sync"), taken(&[common, &sync::KEYS], &["tests"]));
    assert_eq!(of("Consent"), taken(&[&consent::KEYS], &[]));
    assert_eq!(of("Declassify"), taken(&[&privacy::DECLASSIFY_KEYS], &[]));
    assert_eq!(of("Batch"), taken(&[&sync::BATCH_KEYS], &[]));
    assert_eq!(of("Cells"), taken(&[&sync::CELLS_KEYS], &[]));
    assert_eq!(of("Retry"), taken(&[&sync::RETRY_KEYS], &[]));
    assert_eq!(of("SqlModel"), taken(&[common, &models::SQL_KEYS], &[]));
    assert_eq!(of("Incremental"), taken(&[&models::INCREMENTAL_KEYS], &[]));
    assert_eq!(of("SqlColumn"), taken(&[&models::COLUMN_KEYS], &[]));
    assert_eq!(of("DataTest"), taken(&[&checks::KINDS, &checks::OPTIONS], &[]));
    assert_eq!(of("ColumnDataTest"), taken(&[&checks::COLUMN_KINDS, &checks::OPTIONS], &[]));
    assert_eq!(of("UnitTest"), taken(&[&unit::KEYS], &[]));
    assert_eq!(of("GivenTable"), taken(&[&unit::GIVEN_KEYS], &[]));
}

#[test]
fn keys_of_conditions_are_those_of_the_readers() {
    let event: [&[&str]; 3] = [&audience::MATCH_KEYS, &audience::EVENT_KEYS, &WINDOW_KEYS];
    assert_eq!(keys(FileKind::Models, "EventCondition"), taken(&event, &[]));
    // related rows have no window
    let related: [&[&str]; 3] = [&["related"], &audience::RELATED_KEYS, &audience::EVENT_KEYS];
    assert_eq!(keys(FileKind::Models, "RelatedCondition"), taken(&related, &[]));
    let others =
        ["TraitCondition", "MemberCondition", "SequenceCondition", "AllCondition", "AnyCondition", "NotCondition"];
    let mut heads = union(FileKind::Models, &others);
    assert_eq!(heads.len(), others.len(), "each has one head: {heads:?}");
    heads.extend(["event", "related"].map(str::to_owned));
    assert_eq!(heads, taken(&[&audience::HEADS], &[]));
    let steps = union(FileKind::Models, &["AnchorStep", "NextStep", "AbsentStep", "AbsentRow"]);
    assert_eq!(steps, taken(&[&audience::STEP_KEYS, &audience::MATCH_KEYS], &[]));
}

/// Every mapping of a schema, with its place.
fn mappings<'v>(value: &'v Value, place: &str, found: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Object(object) => {
            if value.get("properties").is_some_and(Value::is_object) {
                found.push((place.to_owned(), value));
            }
            for (key, inner) in object {
                mappings(inner, &format!("{place}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                mappings(item, &format!("{place}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_key_and_every_mapping_is_described() {
    let described = |value: &Value| value["description"].as_str().is_some_and(|d| d.len() > 5 && d.ends_with('.'));
    let mut seen = 0;
    for kind in FileKind::ALL {
        let schema = kind.schema();
        let mut found = Vec::new();
        mappings(&schema, kind.word(), &mut found);
        for (place, mapping) in found {
            // a condition on keys describes nothing
            if place.ends_with("/if") || place.ends_with("/if/not") || place.ends_with("/properties") {
                continue;
            }
            assert!(described(mapping), "{place} has no description that ends with a full stop");
            for (key, value) in mapping["properties"].as_object().into_iter().flatten() {
                assert!(described(value), "{place}: `{key}` has no description that ends with a full stop");
                seen += 1;
            }
        }
    }
    assert!(seen > 150, "only {seen} keys were looked at");
}

#[test]
fn schemas_are_of_draft_7() {
    for kind in FileKind::ALL {
        let schema = kind.schema();
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
        let text = kind.text();
        for newer in ["$defs", "prefixItems", "unevaluatedProperties", "dependentRequired", "\"null\""] {
            assert!(!text.contains(newer), "{}: {newer}", kind.file_name());
        }
    }
}
