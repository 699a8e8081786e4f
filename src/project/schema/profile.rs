//! The keys of `kind: profile`.

use super::models::{About, Tested};
use super::values::{
    Ago, Anything, Boolean, ByName, ColumnPath, Duration, Filled, Literal, Name, NonEmpty, OneOrMany, Sql, Time, Word,
};
use schemars::JsonSchema;

/// One row a person: surviving values and aggregates over events.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Profile {
    /// What the document defines: a profile.
    kind: ProfileKind,
    /// Name of the model and of its table.
    name: Name,
    #[schemars(flatten)]
    about: About,
    #[schemars(flatten)]
    tested: Tested,
    /// The identity model whose entities are the rows.
    identity: Filled,
    /// Surviving values with their provenance, by column.
    attributes: Option<ByName<Attribute>>,
    /// Aggregates over events, and expressions over other columns, by column.
    traits: Option<ByName<Trait>>,
    /// Rules in order: the first that holds names the person's persona.
    persona: Option<NonEmpty<PersonaEntry>>,
    /// What happened to each person, row by row, as the table `<identity>_timeline`.
    timeline: Option<Timeline>,
}

/// Which rows a timeline has.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Timeline {
    /// Source table, model, or a list of them, whose rows have a time.
    from: OneOrMany<Filled>,
}

/// The word for a profile.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum ProfileKind {
    Profile,
}

/// A surviving value.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Attribute {
    /// Free text for people.
    description: Option<Anything>,
    /// Privacy classes that it has beside those of what it is made of.
    label: Option<OneOrMany<Filled>>,
    /// Data tests. Have no effect in this version.
    tests: Option<Anything>,
    /// `table.column`, or a list of them, strongest first.
    from: OneOrMany<ColumnPath>,
    /// Which value survives: `source_order` (default: of the first source that has one, the latest), `latest`,
    /// `earliest`, `most_frequent` or `longest`. Ties take the smallest.
    pick: Option<Word<Pick>>,
    /// `true`: the text as it is. By default an identifier's value is normalised and blocked values are left out.
    raw: Option<Boolean>,
}

/// Which value survives.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub(super) enum Pick {
    SourceOrder,
    Latest,
    Earliest,
    MostFrequent,
    Longest,
}

/// An aggregate over rows of a person, or an expression over the profile's other columns.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("dependencies" = {
    "where": ["from"], "within": ["from"], "between": ["from"], "before": ["from"], "after": ["from"],
    "inclusive": ["from"], "by": ["from"], "time": ["from"], "default": ["from"]
}))]
pub(super) struct Trait {
    /// Free text for people.
    description: Option<Anything>,
    /// Privacy classes that it has beside those of what it is made of.
    label: Option<OneOrMany<Filled>>,
    /// Data tests. Have no effect in this version.
    tests: Option<Anything>,
    /// Source table, model, or a list of them. Without it the trait is an expression over the profile's columns.
    from: Option<OneOrMany<Filled>>,
    /// SQL; with `from` it has at least one aggregate: `count(*)`, `last(status)`, `most_frequent(page)`.
    select: Sql,
    /// SQL over the table's columns: only these rows.
    r#where: Option<Sql>,
    #[schemars(flatten)]
    window: Window,
    /// Order of `first` and `last`; default is the table's time.
    by: Option<OneOrMany<Sql>>,
    /// Column that is the clock, for a model in `from`.
    time: Option<Filled>,
    /// Value where the result is null.
    default: Option<Literal>,
}

/// Which rows count, by their time.
#[derive(JsonSchema)]
pub(super) struct Window {
    /// Rows of the last so long before as_of; not bounded above.
    within: Option<Duration>,
    /// Two lengths ago, the longer first: `[30 days, 7 days]`.
    between: Option<(Duration, Ago)>,
    /// Rows before this moment.
    before: Option<Time>,
    /// Rows after this moment.
    after: Option<Time>,
    /// `true` closes the open end of the window.
    inclusive: Option<Boolean>,
}

/// A rule, or the default that stands last.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum PersonaEntry {
    Rule(PersonaRule),
    Default(PersonaDefault),
}

/// A persona and when a person has it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct PersonaRule {
    /// The persona.
    name: Filled,
    /// SQL predicate over the profile's columns.
    when: Sql,
}

/// The persona of whom no rule fits.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct PersonaDefault {
    /// The persona of whom no rule fits; stands last.
    default: Filled,
}
