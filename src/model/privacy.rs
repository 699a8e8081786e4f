//! What a model says about the labels of its columns.

use crate::diagnostic::{Span, Spanned};
use std::collections::BTreeMap;

/// Labels that a model adds, and those that somebody took off.
#[derive(Debug, Clone, Default)]
pub struct ModelPrivacy {
    /// Labels of the fact that a row of its main table is there.
    pub labels: Vec<Spanned<String>>,
    /// Labels by column.
    pub columns: BTreeMap<String, Vec<Spanned<String>>>,
    /// Labels that are taken off.
    pub declassify: Vec<Declassify>,
}

/// Somebody's decision that columns tell less than their labels say.
#[derive(Debug, Clone)]
pub struct Declassify {
    /// Columns of the model's main table; `*` stands for the fact that a row is there.
    pub columns: Vec<Spanned<String>>,
    /// The labels that go, each with those below it.
    pub labels: Vec<Spanned<String>>,
    /// Why.
    pub reason: Spanned<String>,
    /// Who decided.
    pub by: Spanned<String>,
    /// When, as a date or time.
    pub at: Spanned<String>,
    /// Where it stands.
    pub span: Span,
}
