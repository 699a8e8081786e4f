//! The decisions of people over pairs of identifiers, in the spelling that identifiers have. Pure, but for a normaliser
//! that is SQL.
//!
//! People copy identifiers from where they see them, so both sides of a rule are normalised as rows are. A rule that can
//! never hold is found before any row is read: one side is no value of its type or is blocked, both are the same
//! identifier, or another rule says the opposite.

use super::functions::{Judged, Normalizer};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::identity::{Nodes, TypePolicy};
use crate::model::{IdentityModel, IdentityRule, Verdict};
use hashbrown::HashMap;
use std::sync::Arc;

/// The rules in their order, with normalised identifiers. `normalizers` are those of the identifier types.
pub(super) fn spelled(
    model: &IdentityModel,
    normalizers: &[Arc<Normalizer>],
    findings: &mut Vec<Diagnostic>,
) -> Vec<IdentityRule> {
    let mut rules = model.rules.clone();
    let mut said: HashMap<[(String, String); 2], (Verdict, Span)> = HashMap::new();
    for rule in &mut rules {
        let [left, right] = rule.sides;
        for (side, span) in [(&mut rule.left, left), (&mut rule.right, right)] {
            let place = model.identifiers.iter().position(|kind| kind.name.value == side.0);
            if let Some(normalizer) = place.and_then(|place| normalizers.get(place)) {
                findings.extend(spell(normalizer, side, span));
            }
        }
        if rule.left == rule.right {
            let message = "`left` and `right` are the same identifier";
            findings.push(Diagnostic::error(Code::ListFileRow, right, message).with_label("a pair needs two"));
            continue;
        }
        let mut pair = [rule.left.clone(), rule.right.clone()];
        pair.sort();
        let (verdict, first) = *said.entry(pair).or_insert((rule.verdict, rule.span));
        if verdict != rule.verdict {
            findings.push(
                Diagnostic::error(Code::RuleContradiction, rule.span, "this pair is both `always` and `never`")
                    .with_label("says one thing")
                    .with_related(first, "says the other")
                    .with_help("remove the row that is wrong"),
            );
        }
    }
    rules
}

/// Normalises one side of a rule; what is wrong with it.
fn spell(normalizer: &Normalizer, (kind, value): &mut (String, String), span: Span) -> Option<Diagnostic> {
    match normalizer.judge(value) {
        Ok(Judged::Identifier(spelled)) => {
            *value = spelled;
            None
        }
        Ok(Judged::Blocked { value: spelled, by }) => {
            *value = spelled;
            Some(
                Diagnostic::warning(Code::RuleOfNobody, span, "this rule has no effect")
                    .with_label(format!("`{by}` is blocked: it never identifies anyone"))
                    .with_help("remove the row, or the block"),
            )
        }
        Ok(Judged::Nothing) => Some(
            Diagnostic::error(Code::ListFileRow, span, format!("not a value of `{kind}`"))
                .with_label("normalising leaves nothing"),
        ),
        Err(error) => Some(
            Diagnostic::error(Code::BadNormalize, span, super::bind::plain(&error))
                .with_label(format!("`{kind}` cannot normalise this")),
        ),
    }
}

/// Rules both of whose identifiers occur.
#[derive(Debug, Default)]
pub(super) struct KnownRules {
    pub always: Vec<(u32, u32)>,
    pub never: Vec<(u32, u32)>,
    /// By always rule, its place in the model.
    pub always_places: Vec<usize>,
    /// By never rule, its place in the model.
    pub never_places: Vec<usize>,
}

impl KnownRules {
    /// Looks up the identifiers of `rules`, which are spelled as identifiers are.
    pub(super) fn new(rules: &[IdentityRule], nodes: &Nodes, types: &[TypePolicy]) -> Self {
        let find = |(kind, text): &(String, String)| {
            let code = types.iter().position(|t| t.name == *kind).and_then(|c| u8::try_from(c).ok())?;
            nodes.lookup(code, text)
        };
        let mut known = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            let (Some(left), Some(right)) = (find(&rule.left), find(&rule.right)) else { continue };
            let (pairs, places) = match rule.verdict {
                Verdict::Always => (&mut known.always, &mut known.always_places),
                Verdict::Never => (&mut known.never, &mut known.never_places),
            };
            pairs.push((left, right));
            places.push(place);
        }
        known
    }

    /// Their places in the model, ascending.
    pub(super) fn places(&self) -> Vec<usize> {
        let mut places = [self.always_places.as_slice(), &self.never_places].concat();
        places.sort_unstable();
        places
    }
}
