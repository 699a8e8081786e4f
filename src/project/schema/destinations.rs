//! The keys of `destinations.yaml`.

use super::values::{Anything, Boolean, Filled, Name, OneOrMany, Word};
use schemars::JsonSchema;

/// Where rows may go.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "destinations.yaml")]
pub(super) struct DestinationsFile {
    /// The destinations.
    destinations: Vec<Destination>,
}

/// A place that syncs write to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Destination {
    /// What `to:` of a sync names.
    name: Name,
    /// Sort of place: `files` in a folder or bucket, the only one in this version.
    r#type: Word<DestinationType>,
    /// Free text for people.
    description: Option<Anything>,
    /// Folder, or `s3://bucket/prefix`.
    location: Filled,
    /// Format of the files; default `parquet`.
    format: Option<Word<DestinationFormat>>,
    /// Whether an agreement covers health data there; without it nothing that is `phi` goes there.
    baa: Option<Boolean>,
    /// Purposes that it serves: a sync to it names one of them.
    purposes: Option<OneOrMany<Filled>>,
    /// Privacy classes that it may get, each with those below it; without it nothing that has one.
    allow: Option<OneOrMany<Filled>>,
}

/// Sorts of destination.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum DestinationType {
    Files,
}

/// Formats of files.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum DestinationFormat {
    Parquet,
    Csv,
    Ndjson,
}
