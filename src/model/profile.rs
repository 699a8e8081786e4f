//! `kind: profile`: one row per entity.

use super::Window;
use crate::diagnostic::Spanned;

/// Attributes, traits and personas of the entities of one identity.
#[derive(Debug, Clone)]
pub struct ProfileModel {
    /// The identity model.
    pub identity: Spanned<String>,
    /// Surviving values.
    pub attributes: Vec<Attribute>,
    /// Aggregates and expressions, in the author's order.
    pub traits: Vec<Trait>,
    /// First rule that holds.
    pub persona: Option<Persona>,
    /// What happened to each entity, row by row.
    pub timeline: Option<Timeline>,
}

/// `timeline:`: every row of these tables, by entity and time.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// Source tables or models.
    pub from: Vec<Spanned<String>>,
}

impl ProfileModel {
    /// The table of its timeline, which is named after the identity: a person has one.
    pub fn timeline_table(&self) -> Option<String> {
        self.timeline.as_ref().map(|_| format!("{}_timeline", self.identity.value))
    }
}

/// A surviving value with its provenance.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// Column name.
    pub name: Spanned<String>,
    /// Columns it can come from, strongest first.
    pub from: Vec<AttributeSource>,
    /// Which value survives.
    pub pick: Pick,
    /// Keep the raw text of an identifier column.
    pub raw: bool,
}

/// `ehr.patients.email`
#[derive(Debug, Clone)]
pub struct AttributeSource {
    /// Source table or model.
    pub table: Spanned<String>,
    /// Column or SQL expression.
    pub column: Spanned<String>,
}

/// How an attribute picks among values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The first source that has a value (within it the latest).
    SourceOrder,
    /// The latest by the tables' times.
    Latest,
    /// The earliest by the tables' times.
    Earliest,
    /// The value most rows have.
    MostFrequent,
    /// The longest text.
    Longest,
}

/// A trait: an aggregate over events, or an expression over the profile.
#[derive(Debug, Clone)]
pub struct Trait {
    /// Column name.
    pub name: Spanned<String>,
    /// Tables or models whose rows are aggregated; empty for an expression over the profile's own columns.
    pub from: Vec<Spanned<String>>,
    /// SQL: an aggregate, or an expression when `from` is empty.
    pub select: Spanned<String>,
    /// Rows that count.
    pub filter: Option<Spanned<String>>,
    /// Times that count.
    pub window: Window,
    /// Order of `first` and `last`; empty is the table's time.
    pub by: Vec<Spanned<String>>,
    /// Clock of a model in `from`.
    pub time: Option<Spanned<String>>,
    /// SQL literal used when there are no rows.
    pub default: Option<Spanned<String>>,
}

/// `persona:` rules.
#[derive(Debug, Clone)]
pub struct Persona {
    /// Name and condition (SQL over the profile's columns).
    pub rules: Vec<(Spanned<String>, Spanned<String>)>,
    /// Name when no rule holds.
    pub default: Option<Spanned<String>>,
}
