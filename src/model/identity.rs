//! `kind: identity`: how rows say that two identifiers are one entity.

use super::{Duration, Secret};
use crate::diagnostic::{Span, Spanned};

/// A model that turns links into entities.
#[derive(Debug, Clone)]
pub struct IdentityModel {
    /// Identifier types, strongest first.
    pub identifiers: Vec<IdentifierType>,
    /// Tables whose rows carry identifiers.
    pub links: Vec<LinkTable>,
    /// Decisions kept by people.
    pub rules: Vec<IdentityRule>,
    /// Key of entity ids; `None` is made once and kept in the warehouse.
    pub id_key: Option<Secret>,
}

/// One identifier type.
#[derive(Debug, Clone)]
pub struct IdentifierType {
    /// Its name, such as `email`.
    pub name: Spanned<String>,
    /// How raw values are brought to one spelling.
    pub normalize: Normalize,
    /// Values (after normalising) that never identify anyone; from `block` and `block_file`.
    pub block: Vec<BlockRule>,
    /// How many distinct neighbours make it a hub.
    pub max_links: Option<MaxLinks>,
    /// How many values of this type one entity may hold.
    pub max_per_entity: Option<MaxPerEntity>,
}

/// `max_per_entity`: how many values of a type links may bring into one entity.
#[derive(Debug, Clone)]
pub struct MaxPerEntity {
    /// So many.
    pub count: Spanned<u32>,
    /// Only those count together that were first seen within this time; `None` is all.
    pub within: Option<Spanned<Duration>>,
}

/// Normalisers.
#[derive(Debug, Clone)]
pub enum Normalize {
    /// As it is.
    None,
    /// Outer white space removed.
    Trim,
    /// Trimmed, lower case.
    Lower,
    /// An e-mail address: trimmed, lower case, must look like one.
    Email,
    /// A phone number in E.164, read in this region (ISO 3166 two letters).
    Phone(String),
    /// Digits only.
    Digits,
    /// A SQL expression over `value`.
    Sql(Spanned<String>),
}

/// One blocked value or pattern.
#[derive(Debug, Clone)]
pub enum BlockRule {
    /// This value.
    Exact(String),
    /// Every value that this regular expression matches somewhere.
    Pattern(Spanned<String>),
}

/// `max_links`: a number, or one by neighbour type.
#[derive(Debug, Clone)]
pub enum MaxLinks {
    /// Over all neighbours.
    Any(u32),
    /// By the neighbour's type.
    ByType(Vec<(Spanned<String>, u32)>),
}

/// One entry of `links`.
#[derive(Debug, Clone)]
pub struct LinkTable {
    /// Source table or model.
    pub from: Spanned<String>,
    /// Identifier type and the SQL expressions that give it, in the author's order.
    pub ids: Vec<LinkIdentifier>,
    /// Only rows that satisfy this.
    pub filter: Option<Spanned<String>>,
    /// Order in which a row looks for its owner; empty is the order of `identifiers`.
    pub owner: Vec<Spanned<String>>,
}

/// Where a link table has one identifier type.
#[derive(Debug, Clone)]
pub struct LinkIdentifier {
    /// The identifier type.
    pub identifier: Spanned<String>,
    /// One or more SQL expressions over the table's columns.
    pub expressions: Vec<Spanned<String>>,
}

/// A decision kept by people in the rules file.
#[derive(Debug, Clone)]
pub struct IdentityRule {
    /// Never or always one entity.
    pub verdict: Verdict,
    /// `type:value`
    pub left: (String, String),
    /// `type:value`
    pub right: (String, String),
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// When, as written.
    pub at: String,
    /// Where it stands.
    pub span: Span,
    /// Where its identifiers stand, left and right.
    pub sides: [Span; 2],
}

/// What a rule demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The two are never one entity, by any path.
    Never,
    /// The two are one entity unless a `never` says no.
    Always,
}

impl Verdict {
    /// The word for it in rules.
    pub fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}
