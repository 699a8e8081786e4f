//! Model files: a document is one model, its keys are chosen by `kind`.

use super::audience::Audience;
use super::checks::{ColumnTest, DataTest, UnitTest};
use super::consent::Consent;
use super::identity::Identity;
use super::profile::Profile;
use super::sync::Sync;
use super::values::{Anything, Boolean, ByKey, Filled, Name, OneOrMany, Text, Time, Word, schema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};
use std::borrow::Cow;

/// A document below `models/`.
pub(super) struct ModelFile;

impl JsonSchema for ModelFile {
    fn schema_name() -> Cow<'static, str> {
        "models".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds = [
            ("identity", generator.subschema_for::<Identity>()),
            ("profile", generator.subschema_for::<Profile>()),
            ("audience", generator.subschema_for::<Audience>()),
            ("sync", generator.subschema_for::<Sync>()),
            ("consent", generator.subschema_for::<Consent>()),
            ("sql", generator.subschema_for::<SqlModel>()),
            ("test", generator.subschema_for::<UnitTest>()),
        ];
        let words: Vec<&str> = kinds.iter().map(|(word, _)| *word).collect();
        let mut chosen: Vec<Value> = kinds
            .iter()
            .map(|(word, keys)| {
                let is_it = json!({ "required": ["kind"], "properties": { "kind": { "const": word } } });
                json!({ "if": is_it, "then": keys })
            })
            .collect();
        let described = generator.subschema_for::<SqlModel>();
        chosen.push(json!({ "if": { "not": { "required": ["kind"] } }, "then": described }));
        schema(json!({
            "title": "models/**/*.yaml",
            "description": "A model: what is made of the raw tables. A document without `kind` describes the .sql file of the same name beside it.",
            "type": "object",
            "properties": { "kind": {
                "description": "What the document defines: `identity` (who is who), `profile` (one row a person), `audience` (who is meant), `sync` (rows to a destination), `consent` (what people agreed to), `sql` (describes the .sql file beside it) or `test` (a unit test).",
                "enum": words
            } },
            "allOf": chosen
        }))
    }
}

/// What every model may say of itself.
#[derive(JsonSchema)]
pub(super) struct About {
    /// Free text for people.
    description: Option<Text>,
    /// Tags, for `--select tag:x`.
    tags: Option<OneOrMany<Filled>>,
    /// `false`: the model takes no part. A sync keeps its history and sends nothing.
    enabled: Option<Boolean>,
    /// Privacy classes of the fact that a row is there; columns have their own.
    labels: Option<OneOrMany<Filled>>,
    /// Another spelling of `labels`.
    label: Option<OneOrMany<Filled>>,
    /// Labels that somebody took off, with who, when and why.
    declassify: Option<Vec<Declassify>>,
}

/// A decision that columns tell less than their labels say.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Declassify {
    /// Columns of the model's table; `*` is the fact that a row is there.
    columns: OneOrMany<Filled>,
    /// Labels that go, each with those below it.
    labels: OneOrMany<Filled>,
    /// Why they may go.
    reason: Filled,
    /// Who decided.
    by: Filled,
    /// When that was decided.
    at: Time,
}

/// What a model with a table may say of its rows.
#[derive(JsonSchema)]
pub(super) struct Tested {
    /// Data tests: what must be true of its rows before anything is made from them.
    tests: Option<Vec<DataTest>>,
}

/// What is said of a SQL model, in a file of the same name beside its .sql file.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct SqlModel {
    /// What the document defines: it describes a SQL model. May be left out.
    kind: Option<SqlKind>,
    /// Name of the model, which is that of the .sql file. May be left out.
    name: Option<Name>,
    #[schemars(flatten)]
    about: About,
    #[schemars(flatten)]
    tested: Tested,
    /// `table` (default): committed as a table. `view`: kept nowhere, expanded into its readers. `incremental`: a table of
    /// which a run makes only the keys again that new rows touch.
    materialized: Option<Word<Materialized>>,
    /// Another spelling of `materialized`.
    materialize: Option<Word<Materialized>>,
    /// Columns that name a row of an incremental table; a run makes the rows of the values again that new rows touch.
    unique_key: Option<OneOrMany<Filled>>,
    /// How an incremental table grows where `unique_key` does not say it.
    incremental: Option<Incremental>,
    /// What is known of its columns, by column.
    columns: Option<ByKey<SqlColumn>>,
}

/// How an incremental table grows.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Incremental {
    /// Columns whose rows are made together, such as a day; some of `unique_key` where there is one.
    by: OneOrMany<Filled>,
}

/// The word for a SQL model.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum SqlKind {
    Sql,
}

/// How a SQL model is kept.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum Materialized {
    Table,
    View,
    Incremental,
}

/// A column of a SQL model.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct SqlColumn {
    /// Free text for people.
    description: Option<Anything>,
    /// Privacy classes that the column has beside those of what it is made of.
    label: Option<OneOrMany<Filled>>,
    /// Data tests of the column.
    tests: Option<Vec<ColumnTest>>,
}
