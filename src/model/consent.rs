//! `kind: consent`: what people agreed to.

use super::Duration;
use crate::diagnostic::Spanned;

/// Where people's answers stand, one a row.
#[derive(Debug, Clone)]
pub struct ConsentModel {
    /// Unique name.
    pub name: Spanned<String>,
    /// The table; it stands in `links` of the identity, or has the entity id.
    pub from: Spanned<String>,
    /// Whose answers they are.
    pub identity: Spanned<String>,
    /// SQL: what an answer is about, such as an address. A later answer about the same replaces an earlier one.
    pub identifier: Spanned<String>,
    /// SQL: the purpose that is asked for.
    pub purpose: Spanned<String>,
    /// SQL: the channel; a row without one answers for all.
    pub channel: Option<Spanned<String>>,
    /// SQL: the answer.
    pub decision: Spanned<String>,
    /// Answers that grant, whatever their case; all others deny.
    pub granted: Vec<Spanned<String>>,
    /// SQL: since when it counts.
    pub valid_from: Spanned<String>,
    /// SQL: until when; null is without end.
    pub valid_to: Option<Spanned<String>>,
    /// SQL: what proves the answer, such as the id of a form or a recording.
    pub evidence: Option<Spanned<String>>,
    /// Newest answers older than this are no answers.
    pub stale_after: Option<Spanned<Duration>>,
}

/// What a sync asks people's consent for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The purpose.
    pub purpose: Spanned<String>,
    /// The channel, if answers differ by it.
    pub channel: Option<Spanned<String>>,
}
