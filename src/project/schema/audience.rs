//! The keys of `kind: audience`, with its conditions.

use super::models::{About, Tested};
use super::profile::Window;
use super::values::{
    Boolean, Comparison, Count, Duration, Filled, Name, NonEmpty, OneOrMany, RowComparison, Salt, Scalar, Share, Sql,
    Word, schema,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::json;
use std::borrow::Cow;

/// Who is meant: a condition over profiles and events.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["where"]}, {"required": ["sql"]}]))]
pub(super) struct Audience {
    /// What the document defines: an audience.
    kind: AudienceKind,
    /// Name of the model and of its table.
    name: Name,
    #[schemars(flatten)]
    about: About,
    #[schemars(flatten)]
    tested: Tested,
    /// The profile whose persons are looked at.
    profile: Filled,
    /// The condition; either this or `sql`.
    r#where: Option<Condition>,
    /// Instead of `where`: a query that returns the column `<identity>_id`.
    sql: Option<Sql>,
    /// List files of people added by hand: identifier (`type:value`, or an entity id), by, reason.
    include: Option<OneOrMany<Filled>>,
    /// List files of people removed by hand: identifier, by, reason. Exclusion wins.
    exclude: Option<OneOrMany<Filled>>,
    /// One person in at most one audience of a group.
    group: Option<Group>,
    /// Leaves out a share of the people at random, the same ones in every run.
    holdout: Option<Holdout>,
    /// Only the first few by rank.
    top: Option<Top>,
    /// With fewer members syncs of this audience send nothing.
    min_size: Option<Count>,
}

/// The place of an audience among those that share no person.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Group {
    /// Name of the group; audiences that name it share no person.
    name: Name,
    /// A number from 1, another for each audience of the group. The lowest is decided first.
    priority: Count,
}

/// A share of the people that is left out at random.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Holdout {
    /// How many of a hundred: `10`.
    percent: Share,
    /// Another salt holds out other people; audiences with one salt hold out the same.
    salt: Salt,
}

/// The first few by rank.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Top {
    /// At most so many members.
    rows: Count,
    /// SQL over the profile's columns, with `desc` for the greatest first. Nulls come last, ties go by entity id.
    by: OneOrMany<Sql>,
}

/// The word for an audience.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum AudienceKind {
    Audience,
}

/// A condition: a mapping with one of `event`, `related`, `trait`, `audience`, `sequence`, `all`, `any` or `not`.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Condition {
    Event(EventCondition),
    Related(RelatedCondition),
    Trait(TraitCondition),
    Audience(MemberCondition),
    Sequence(SequenceCondition),
    All(AllCondition),
    Any(AnyCondition),
    Not(NotCondition),
}

/// Enough matching rows.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("dependencies" = {"column": ["is"]}))]
pub(super) struct EventCondition {
    #[schemars(flatten)]
    matching: Matching,
    #[schemars(flatten)]
    measures: Measures,
    #[schemars(flatten)]
    window: Window,
}

/// Enough matching rows, of any table or model whose rows belong to somebody; no time is needed.
#[derive(JsonSchema)]
#[schemars(
    deny_unknown_fields,
    extend("dependencies" = {"column": ["is"], "is": ["column"], "first": ["by"], "last": ["by"]})
)]
pub(super) struct RelatedCondition {
    /// Source table or model whose rows are looked at.
    related: Filled,
    /// Value, or list of values, that `column` has, compared as text. Without it every row matches.
    is: Option<OneOrMany<Scalar>>,
    /// The column of `is`.
    column: Option<Filled>,
    /// SQL over the table's columns: only these rows.
    r#where: Option<Sql>,
    #[schemars(flatten)]
    measures: Measures,
}

/// How many rows, and of what kind.
#[derive(JsonSchema)]
pub(super) struct Measures {
    /// How many rows match: `3`, `'> 2'`. Without a measure one row is enough.
    count: Option<RowComparison>,
    /// Sum over the matching rows: `'amount >= 100'`.
    sum: Option<Comparison>,
    /// Smallest value: `'amount >= 100'`.
    min: Option<Comparison>,
    /// Greatest value: `'amount >= 100'`.
    max: Option<Comparison>,
    /// Average: `'amount >= 100'`.
    avg: Option<Comparison>,
    /// How many distinct values: `'provider_id > 2'`.
    unique_count: Option<Comparison>,
    /// SQL that must be true of the first matching row (by time, then `row_id`, or `by`).
    first: Option<Sql>,
    /// SQL that must be true of the latest matching row (by time, then `row_id`, or `by`).
    last: Option<Sql>,
    /// Another order for `first` and `last`.
    by: Option<OneOrMany<Sql>>,
}

/// Which rows are meant.
#[derive(JsonSchema)]
pub(super) struct Matching {
    /// Source table or model whose rows are looked at.
    event: Filled,
    /// Value, or list of values, that `column` has, compared as text. Without it every row matches.
    is: Option<OneOrMany<Scalar>>,
    /// The column of `is`; default `event`.
    column: Option<Filled>,
    /// SQL over the table's columns: only these rows.
    r#where: Option<Sql>,
}

/// A predicate over the profile.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct TraitCondition {
    /// SQL predicate over the profile's columns; null is no.
    r#trait: Sql,
}

/// Membership.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct MemberCondition {
    /// Another audience of which the person is a member.
    audience: Filled,
}

/// Matching rows in an order.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct SequenceCondition {
    /// At least two steps; the first is the anchor. Holds if some choice of distinct rows satisfies all steps.
    sequence: Steps,
}

/// All of several conditions.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct AllCondition {
    /// Conditions that must all hold.
    all: NonEmpty<Condition>,
}

/// One of several conditions.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct AnyCondition {
    /// Conditions of which one must hold.
    any: NonEmpty<Condition>,
}

/// The contrary.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct NotCondition {
    /// The condition that must not hold.
    not: Box<Condition>,
}

/// The steps of a sequence: an anchor, then steps that follow or do not.
pub(super) struct Steps;

impl JsonSchema for Steps {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Steps".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let anchor = generator.subschema_for::<AnchorStep>();
        let next = [generator.subschema_for::<NextStep>(), generator.subschema_for::<AbsentStep>()];
        schema(json!({ "type": "array", "minItems": 2, "items": [anchor], "additionalItems": { "anyOf": next } }))
    }
}

/// The first step of a sequence, from which the windows of others count.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("dependencies" = {"column": ["is"]}))]
pub(super) struct AnchorStep {
    #[schemars(flatten)]
    matching: Matching,
    /// `latest` or `earliest`: that one row is the anchor. By default any matching row may be it.
    pick: Option<Word<StepPick>>,
}

/// Which row is the anchor.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum StepPick {
    Latest,
    Earliest,
}

/// A step that follows.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("dependencies" = {"column": ["is"]}))]
pub(super) struct NextStep {
    #[schemars(flatten)]
    matching: Matching,
    #[schemars(flatten)]
    place: StepPlace,
}

/// Where a step stands in its sequence.
#[derive(JsonSchema)]
pub(super) struct StepPlace {
    /// Length of the step's window, which starts at the row of the step before.
    within: Option<Duration>,
    /// `first`: the window starts at the anchor instead. `previous` is the default.
    of: Option<Word<StepOrigin>>,
    /// `true`: a row at the very start of the window counts as well. The end always counts.
    inclusive: Option<Boolean>,
    /// An expression that must equal the anchor's, such as `provider_id`.
    same: Option<Filled>,
}

/// Where a step's window starts.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum StepOrigin {
    Previous,
    First,
}

/// A step that must not follow.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct AbsentStep {
    /// No such row in the window. Holds only once the window has passed.
    not: AbsentRow,
}

/// The row that must not follow.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("dependencies" = {"column": ["is"]}))]
pub(super) struct AbsentRow {
    #[schemars(flatten)]
    matching: Matching,
    #[schemars(flatten)]
    place: StepPlace,
    /// `true`: holds also while the window has not passed ("not yet").
    open: Option<Boolean>,
}
