//! `kind: audience`: a condition over a profile and its events.

use super::{Duration, Measure, Window};
use crate::diagnostic::Spanned;
use chrono::{DateTime, Utc};

/// A condition whose members form a segment.
#[derive(Debug, Clone)]
pub struct AudienceModel {
    /// The profile it is over.
    pub profile: Spanned<String>,
    /// Who belongs.
    pub condition: AudienceCondition,
    /// People added by hand.
    pub include: Vec<ListEntry>,
    /// People removed by hand.
    pub exclude: Vec<ListEntry>,
    /// Who of them is left in the end.
    pub narrowing: Narrowing,
}

impl AudienceModel {
    /// Whether people are added or removed by hand.
    pub fn has_lists(&self) -> bool {
        !(self.include.is_empty() && self.exclude.is_empty())
    }
}

/// What narrows an audience once its condition and its lists have said who belongs; in the order of the fields.
#[derive(Debug, Clone, Default)]
pub struct Narrowing {
    /// One person in at most one audience of a group.
    pub group: Option<Group>,
    /// Some are left out at random.
    pub holdout: Option<Holdout>,
    /// Only the first few by rank.
    pub top: Option<Top>,
    /// Below so many members nothing is sent.
    pub min_size: Option<u32>,
}

/// `group:` — the place of an audience among those that share no person.
#[derive(Debug, Clone)]
pub struct Group {
    /// Name of the group.
    pub name: Spanned<String>,
    /// The lowest number is decided first.
    pub priority: Spanned<u32>,
}

/// `holdout:` — a share that is left out, the same people in every run.
#[derive(Debug, Clone)]
pub struct Holdout {
    /// How many of a hundred, 0 to 100.
    pub percent: f64,
    /// Another salt holds out other people.
    pub salt: Spanned<String>,
}

/// `top:` — the first few by rank.
#[derive(Debug, Clone)]
pub struct Top {
    /// At most so many members.
    pub rows: u32,
    /// What they are ranked by, the most important first.
    pub by: Vec<RankBy>,
}

/// One expression of a rank.
#[derive(Debug, Clone)]
pub struct RankBy {
    /// SQL over the profile's columns.
    pub sql: Spanned<String>,
    /// The greatest first.
    pub descending: bool,
}

/// Conditions or SQL.
#[derive(Debug, Clone)]
pub enum AudienceCondition {
    /// `where:`
    Where(Spanned<Condition>),
    /// `sql:` — a query that returns the entity id column.
    Sql(Spanned<String>),
}

/// A person named in a list file: `identifier` (`type:value` or an entity id), `by`, `reason`, and perhaps `at`.
#[derive(Debug, Clone)]
pub struct ListEntry {
    /// `type:value`, or an entity id.
    pub identifier: Spanned<String>,
    /// Who put it there.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, if the list says so.
    pub at: Option<DateTime<Utc>>,
}

/// A condition tree.
#[derive(Debug, Clone)]
pub enum Condition {
    /// Every one holds.
    All(Vec<Spanned<Condition>>),
    /// At least one holds.
    Any(Vec<Spanned<Condition>>),
    /// It does not hold.
    Not(Box<Spanned<Condition>>),
    /// Enough matching events.
    Event(Box<EventCondition>),
    /// Events in an order.
    Sequence(Vec<Spanned<Step>>),
    /// Members of another audience of the same profile.
    Audience(Spanned<String>),
    /// SQL over the profile's columns.
    Trait(Spanned<String>),
}

/// Which rows of a table match.
#[derive(Debug, Clone)]
pub struct EventMatch {
    /// Source table or model.
    pub table: Spanned<String>,
    /// Values that `column` must have; empty matches every row.
    pub is: Vec<Spanned<String>>,
    /// Column compared with `is`; default `event`.
    pub column: Option<Spanned<String>>,
    /// SQL over the table's columns.
    pub filter: Option<Spanned<String>>,
}

/// `event:` condition.
#[derive(Debug, Clone)]
pub struct EventCondition {
    /// Matching rows.
    pub matching: EventMatch,
    /// Measures that must all hold; empty means at least one row.
    pub measures: Vec<Measure>,
    /// Times that count.
    pub window: Window,
    /// SQL that must hold on the first matching event.
    pub first: Option<Spanned<String>>,
    /// SQL that must hold on the latest matching event.
    pub last: Option<Spanned<String>>,
    /// Order for `first` and `last`; empty is time, then row id.
    pub by: Vec<Spanned<String>>,
}

/// One step of a sequence; the first is the anchor.
#[derive(Debug, Clone)]
pub struct Step {
    /// `not: {...}`: no such event.
    pub negated: bool,
    /// Matching rows.
    pub matching: EventMatch,
    /// Length of the window, counted from the step before (or the anchor).
    pub within: Option<Spanned<Duration>>,
    /// Where the window starts.
    pub of: StepOrigin,
    /// Closes both ends of the window.
    pub inclusive: bool,
    /// A `not` step may hold before its window has passed.
    pub open: bool,
    /// Narrows the anchor to one event.
    pub pick: Option<StepPick>,
    /// Column whose value must equal that of the anchor.
    pub same: Option<Spanned<String>>,
}

/// Where a step's window starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOrigin {
    /// At the step before (that is not negated).
    Previous,
    /// At the anchor.
    First,
}

/// Which single event is the anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepPick {
    /// The latest matching event.
    Latest,
    /// The earliest matching event.
    Earliest,
}

impl Condition {
    /// Every piece of SQL in the tree.
    pub fn sql_snippets(&self) -> Vec<&Spanned<String>> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(|p| p.value.sql_snippets()).collect(),
            Self::Not(inner) => inner.value.sql_snippets(),
            Self::Event(event) => {
                let measured = event.measures.iter().filter_map(|m| m.operand.as_ref());
                measured.chain(&event.matching.filter).chain(&event.first).chain(&event.last).collect()
            }
            Self::Sequence(steps) => steps.iter().filter_map(|s| s.matching.filter.as_ref()).collect(),
            Self::Audience(_) => Vec::new(),
            Self::Trait(sql) => vec![sql],
        }
    }
}
