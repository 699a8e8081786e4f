//! The keys of `kind: consent`.

use super::values::{Duration, Filled, Name, OneOrMany, Sql, Text};
use schemars::JsonSchema;

/// What people agreed to: a table with one answer a row. A project has one.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Consent {
    /// What the document defines: consent.
    kind: ConsentKind,
    /// Its name.
    name: Name,
    /// Free text for people.
    description: Option<Text>,
    /// Tags, for people.
    tags: Option<OneOrMany<Filled>>,
    /// The table of answers; it stands in `links` of the identity, or has the entity id.
    from: Filled,
    /// The identity whose entities answer.
    identity: Filled,
    /// SQL: what an answer is about, such as an address. A later answer about the same replaces an earlier one.
    identifier: Sql,
    /// SQL: the purpose that is asked for.
    purpose: Sql,
    /// SQL: the channel; a row where it is null answers for all.
    channel: Option<Sql>,
    /// SQL: the answer.
    decision: Sql,
    /// Answers that grant; `granted` by default. All others deny.
    granted: Option<OneOrMany<Filled>>,
    /// SQL: since when the answer counts.
    valid_from: Sql,
    /// SQL: until when; null is without end.
    valid_to: Option<Sql>,
    /// SQL: what proves the answer, such as the id of a form or a recording; `kinfold explain consent` shows it.
    evidence: Option<Sql>,
    /// If the newest answer is older, nothing is sent at all.
    stale_after: Option<Duration>,
}

/// The word for consent.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum ConsentKind {
    Consent,
}
