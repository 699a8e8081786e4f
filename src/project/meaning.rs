//! Definitions that are well formed and cannot mean what their author wants: comparisons that no count fulfils or
//! that every count fulfils, measures that exclude each other, identifiers that join nothing.
//!
//! Only what holds whatever the data are is said. What needs SQL to be understood is the engine's part.

use super::models::Models;
use super::reader::Reader;
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::model::{
    AudienceCondition, Comparator, Condition, EventCondition, IdentityRule, LinkTable, Measure, MeasureFunction,
    ModelKind, Verdict,
};

/// Checks conditions over all models.
pub(super) fn check(reader: &mut Reader<'_>, models: &Models) {
    for model in models.enabled.values() {
        let ModelKind::Audience(audience) = &model.kind else { continue };
        if let AudienceCondition::Where(condition) = &audience.condition {
            tree(reader, condition);
        }
    }
}

fn tree(reader: &mut Reader<'_>, condition: &Spanned<Condition>) {
    match &condition.value {
        Condition::All(parts) => {
            for part in parts {
                tree(reader, part);
            }
            excluding(reader, parts);
        }
        Condition::Any(parts) => parts.iter().for_each(|part| tree(reader, part)),
        Condition::Not(inner) => tree(reader, inner),
        Condition::Event(_) | Condition::Sequence(_) | Condition::Audience(_) | Condition::Trait(_) => {}
    }
}

/// A comparison of a count that every number of rows fulfils, or none.
pub(super) fn constant(reader: &mut Reader<'_>, key: &str, measure: &Measure, span: Span) {
    if !matches!(measure.function, MeasureFunction::Count | MeasureFunction::UniqueCount) {
        return;
    }
    let Ok(number) = measure.number.parse::<f64>() else { return };
    let possible = number >= 0.0 && number.fract() == 0.0;
    let holds = match measure.comparator {
        Comparator::Equal if !possible => false,
        Comparator::NotEqual if !possible => true,
        Comparator::Less if number <= 0.0 => false,
        Comparator::LessOrEqual if number < 0.0 => false,
        Comparator::Greater if number < 0.0 => true,
        Comparator::GreaterOrEqual if number <= 0.0 => true,
        _ => return,
    };
    let said = format!("`{key}` is 0 or a whole number above it");
    reader.findings.push(if holds {
        Diagnostic::warning(Code::AlwaysHolds, span, "this comparison always holds")
            .with_label(said)
            .with_help(format!("write `{key}: '> 0'` for \"at least one\", or remove the condition"))
    } else {
        Diagnostic::error(Code::NeverHolds, span, "this comparison can never hold")
            .with_label(said)
            .with_help(format!("write `{key}: '= 0'` for \"none\""))
    });
}

/// What a measure is of: two measures of the same are one number for every entity.
type Measured<'m> = (String, MeasureFunction, Option<&'m str>);

fn measured<'m>(event: &'m EventCondition, measure: &'m Measure) -> Measured<'m> {
    let text = |part: &'m Option<Spanned<String>>| part.as_ref().map(|p| p.value.as_str());
    let matching = &event.matching;
    let mut is: Vec<&str> = matching.is.iter().map(|v| v.value.as_str()).collect();
    is.sort_unstable();
    let window = &event.window;
    let within = window.within.as_ref().map(|w| w.value.micros);
    let between = window.between.as_ref().map(|w| (w.value.0.micros, w.value.1.micros));
    let ends = (window.before.as_ref().map(|w| w.value), window.after.as_ref().map(|w| w.value), window.inclusive);
    let rows = (&matching.table.value, is, text(&matching.column), text(&matching.filter), within, between, ends);
    (format!("{rows:?}"), measure.function, text(&measure.operand))
}

/// The numbers that comparisons leave.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    above: bool,
    high: f64,
    below: bool,
}

impl Range {
    const ALL: Self = Self { low: f64::NEG_INFINITY, above: false, high: f64::INFINITY, below: false };

    fn narrow(mut self, comparator: Comparator, number: f64) -> Self {
        let (from_below, from_above) = match comparator {
            Comparator::Equal => (Some(false), Some(false)),
            Comparator::Greater => (Some(true), None),
            Comparator::GreaterOrEqual => (Some(false), None),
            Comparator::Less => (None, Some(true)),
            Comparator::LessOrEqual => (None, Some(false)),
            Comparator::NotEqual => (None, None),
        };
        if let Some(strict) = from_below {
            self.above = if number > self.low { strict } else { self.above || (strict && number >= self.low) };
            self.low = self.low.max(number);
        }
        if let Some(strict) = from_above {
            self.below = if number < self.high { strict } else { self.below || (strict && number <= self.high) };
            self.high = self.high.min(number);
        }
        self
    }

    fn is_empty(self) -> bool {
        self.low > self.high || (self.low >= self.high && (self.above || self.below))
    }
}

/// Conditions of one `all:` on the same measure that leave no number.
fn excluding(reader: &mut Reader<'_>, parts: &[Spanned<Condition>]) {
    let mut seen: Vec<(Measured<'_>, Range, Span)> = Vec::new();
    for part in parts {
        let Condition::Event(event) = &part.value else { continue };
        for measure in &event.measures {
            let Ok(number) = measure.number.parse::<f64>() else { continue };
            let what = measured(event, measure);
            let Some(known) = seen.iter_mut().find(|(known, _, _)| *known == what) else {
                seen.push((what, Range::ALL.narrow(measure.comparator, number), part.span));
                continue;
            };
            let both = known.1.narrow(measure.comparator, number);
            if both.is_empty() && !known.1.is_empty() {
                reader.findings.push(
                    Diagnostic::error(Code::NeverHolds, part.span, "these two conditions can never hold together")
                        .with_label("no number fulfils this")
                        .with_related(known.2, "and this")
                        .with_help("correct a number, or put them under `any:`"),
                );
            }
            known.1 = both;
        }
    }
}

/// Identifiers that stand alone in every link, so that no row joins them with anything.
pub(super) fn alone(reader: &mut Reader<'_>, types: &[Spanned<String>], links: &[LinkTable], rules: &[IdentityRule]) {
    if types.len() < 2 {
        return;
    }
    let ruled = |name: &str| {
        let mut always = rules.iter().filter(|r| r.verdict == Verdict::Always);
        always.any(|r| r.left.0 == name || r.right.0 == name)
    };
    for kind in types.iter().filter(|t| !ruled(&t.value)) {
        let places = links.iter().flat_map(|l| l.ids.iter().map(move |id| (l, id)));
        let mine: Vec<_> = places.filter(|(_, id)| id.identifier.value == kind.value).collect();
        let joins = |(link, id): &(&LinkTable, &crate::model::LinkIdentifier)| {
            id.expressions.len() > 1 || link.ids.iter().any(|other| other.identifier.value != kind.value)
        };
        if mine.is_empty() || mine.iter().any(joins) {
            continue;
        }
        let message = format!("the identifier `{}` joins nothing", kind.value);
        let mut finding = Diagnostic::warning(Code::IdentifierAlone, kind.span, message)
            .with_label("never in one row with another identifier")
            .with_help("add to one of its links an identifier that stands in the same rows");
        finding.related = mine.iter().take(3).map(|(_, id)| (id.identifier.span, "alone here".to_owned())).collect();
        reader.findings.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_empty_when_bounds_exclude_each_other() {
        use Comparator as C;
        let range = |list: &[(C, f64)]| list.iter().fold(Range::ALL, |r, (c, n)| r.narrow(*c, *n)).is_empty();
        assert!(range(&[(C::Greater, 5.0), (C::Less, 3.0)]));
        assert!(range(&[(C::Less, 3.0), (C::Greater, 5.0)]));
        assert!(range(&[(C::Greater, 5.0), (C::LessOrEqual, 5.0)]));
        assert!(range(&[(C::GreaterOrEqual, 5.0), (C::Greater, 5.0), (C::LessOrEqual, 5.0)]));
        assert!(range(&[(C::Equal, 1.0), (C::Equal, 2.0)]));
        assert!(!range(&[(C::GreaterOrEqual, 5.0), (C::LessOrEqual, 5.0)]));
        assert!(!range(&[(C::Greater, 3.0), (C::Less, 5.0), (C::NotEqual, 4.0)]));
    }
}
