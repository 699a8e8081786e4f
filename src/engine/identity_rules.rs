//! The decisions of people over pairs of identifiers, in the spelling that identifiers have. Pure, but for a normaliser
//! that is SQL.
//!
//! People copy identifiers from where they see them, so both sides of a rule are normalised as rows are. A rule that can
//! never hold is found before any row is read: one side is no value of its type or is blocked, both are the same
//! identifier, or another rule says the opposite.

use super::functions::{Judged, Normalizer};
use crate::diagnostic::{Code, Diagnostic, Span};
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
