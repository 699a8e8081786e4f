//! The keys of `kind: identity`.

use super::models::{About, Tested};
use super::values::{
    Anything, ByKey, ByName, Count, Duration, Filled, MaxLinks, Name, NonEmpty, Normalizer, OneOrMany, OrNothing,
    Scalar, Sql, Text,
};
use schemars::JsonSchema;

/// Turns rows that carry identifiers into persons.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Identity {
    /// What the document defines: an identity.
    kind: IdentityKind,
    /// Name of the model and of its table; its entities' id is the column `<name>_id`.
    name: Name,
    #[schemars(flatten)]
    about: About,
    #[schemars(flatten)]
    tested: Tested,
    /// Identifier types by name, strongest first.
    #[schemars(extend("minProperties" = 1))]
    identifiers: ByName<OrNothing<Identifier>>,
    /// Tables whose rows carry identifiers. A row links every pair of its identifiers.
    links: NonEmpty<Link>,
    /// List file kept by people: verdict (`never` or `always`), left, right (`type:value`), reason, by, at.
    rules: Option<Filled>,
    /// Secret that keys entity ids, from the environment: `"${NAME}"`. Without it one is made once and kept in the
    /// warehouse.
    id_key: Option<Text>,
}

/// The word for an identity.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum IdentityKind {
    Identity,
}

/// A type of identifier.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Identifier {
    /// Free text for people.
    description: Option<Anything>,
    /// Free text for people; labels stand at the columns of sources.
    label: Option<Anything>,
    /// How a value gets one spelling: `none` (default), `trim`, `lower`, `email`, `digits`, `phone(US)`, or SQL over
    /// `value`.
    normalize: Option<Normalizer>,
    /// Values that never identify anyone, after normalising. `/text/` is a regular expression.
    block: Option<OneOrMany<Scalar>>,
    /// List file with a column `value`: more values that never identify anyone.
    block_file: Option<Filled>,
    /// Above so many distinct neighbours a value is a hub and links nobody: a number over all types, or one by
    /// neighbour type.
    max_links: Option<MaxLinks>,
    /// How many values of this type links may bring into one entity.
    max_per_entity: Option<MaxPerEntity>,
}

/// How many values links may bring into one entity: a number, or one within a time.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum MaxPerEntity {
    Ever(Count),
    Within(MaxWithin),
}

/// How many values that were first seen within a time links may bring into one entity.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct MaxWithin {
    /// So many.
    count: Count,
    /// Only those count together that were first seen within this time.
    within: Option<Duration>,
}

/// A table whose rows carry identifiers.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Link {
    /// Free text for people.
    description: Option<Anything>,
    /// A source table or a model.
    from: Filled,
    /// By identifier type: a SQL expression over the table's columns, or a list of them.
    #[schemars(extend("minProperties" = 1))]
    ids: ByKey<OneOrMany<Sql>>,
    /// SQL: only these rows.
    r#where: Option<Sql>,
    /// Identifier types in the order in which a row looks for its entity; default is that of `identifiers`.
    owner: Option<OneOrMany<Filled>>,
}
