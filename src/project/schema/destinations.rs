//! The keys of `destinations.yaml`.

use super::values::{Anything, Boolean, ByKey, Count, Duration, Filled, Name, OneOrMany, Status, Text, Word};
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
#[schemars(deny_unknown_fields, extend("allOf" = [
    { "if": { "not": { "properties": { "type": { "enum": ["postgres", "http"] } } } }, "then": { "required": ["location"] } },
    { "if": { "properties": { "type": { "enum": ["postgres", "http"] } } }, "then": { "required": ["url"] } }
]))]
pub(super) struct Destination {
    /// What `to:` of a sync names.
    name: Name,
    /// Sort of place: `files` or `delta` tables in a folder or bucket, a `postgres` server, an `http` service.
    r#type: Word<DestinationType>,
    /// Free text for people.
    description: Option<Anything>,
    /// `files` and `delta`: folder, or `s3://bucket/prefix`.
    location: Option<Filled>,
    /// `files`: format of the files; default `parquet`.
    format: Option<Word<DestinationFormat>>,
    /// `postgres`: `postgres://user:password@host/database`. `http`: template of the address, values percent-encoded.
    url: Option<Filled>,
    /// `postgres`: schema of the tables; default `public`.
    schema: Option<Filled>,
    /// `http`: default `POST`.
    method: Option<Word<Method>>,
    /// `http`: headers by name, each a template in which `secret('NAME')` may be used.
    headers: Option<ByKey<Filled>>,
    /// `http`: template of JSON over `row` or `rows`; without it the rows are sent as they are.
    body: Option<Filled>,
    /// `http`: fields of a form by name, each a template over `row`.
    form: Option<ByKey<Filled>>,
    /// `http`: the request that deletes rows; without it the destination cannot delete.
    delete: Option<DeleteRequest>,
    /// `http`: the request that says that one key is another now, `row._merged_into`; without it the one is deleted.
    alias: Option<AliasRequest>,
    /// `http`: most rows of one request; default 1.
    rows: Option<Count>,
    /// `http`: codes that say that all arrived; default `2xx`.
    success: Option<OneOrMany<Status>>,
    /// `http`: codes after which the request is made again; default 408, 425, 429 and `5xx`.
    retryable: Option<OneOrMany<Status>>,
    /// `http`: where an answer names rows that were rejected, though the others were taken.
    rejected: Option<RejectedRows>,
    /// `http`: how long an answer is waited for; default `30 s`.
    timeout: Option<Duration>,
    /// Whether an agreement covers health data there; without it nothing that is `phi` goes there.
    baa: Option<Boolean>,
    /// Purposes that it serves: a sync to it names one of them.
    purposes: Option<OneOrMany<Filled>>,
    /// Where it keeps what it gets, as `regions` of sources name it.
    region: Option<Filled>,
    /// Privacy classes that it may get, each with those below it; without it nothing that has one.
    allow: Option<OneOrMany<Filled>>,
}

/// The request that says that a row's key is another one now.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct AliasRequest {
    /// Default `POST`.
    method: Option<Word<Method>>,
    /// Template of the address; default is that of the destination.
    url: Option<Filled>,
    /// Template of JSON; without it nothing is sent.
    body: Option<Filled>,
    /// Fields of a form by name, each a template.
    form: Option<ByKey<Filled>>,
}

/// The request that deletes a row.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct DeleteRequest {
    /// Default `DELETE`.
    method: Option<Word<Method>>,
    /// Template of the address; default is that of the destination.
    url: Option<Filled>,
    /// Template of JSON; without it nothing is sent.
    body: Option<Filled>,
    /// Fields of a form by name, each a template.
    form: Option<ByKey<Filled>>,
}

/// Where an answer names rejected rows, by JSON pointers.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RejectedRows {
    /// The list in the answer, as `/errors`.
    at: Text,
    /// In an item, the place of the row in the request, from 0; empty when the item is that number.
    index: Option<Text>,
    /// A column of the sync whose value an item repeats.
    column: Option<Filled>,
    /// In an item, the value of that column.
    value: Option<Text>,
    /// In an item, why the row was rejected.
    reason: Option<Text>,
    /// Codes of the answers whose list is believed; default those of `success`.
    status: Option<OneOrMany<Status>>,
}

/// Sorts of destination.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum DestinationType {
    Files,
    Delta,
    Postgres,
    Http,
}

/// Methods of requests.
#[derive(JsonSchema)]
#[schemars(rename_all = "UPPERCASE", inline)]
pub(super) enum Method {
    Post,
    Put,
    Patch,
    Delete,
}

/// Formats of files.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum DestinationFormat {
    Parquet,
    Csv,
    Ndjson,
}
