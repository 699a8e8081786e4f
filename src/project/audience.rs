//! `kind: audience`: conditions over a profile and its events.

use super::reader::{Fields, Reader, alternatives};
use super::values::WINDOW_KEYS;
use super::yaml::{Node, NodeKind};
use super::{lists, narrowing};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{
    AudienceCondition, AudienceModel, Condition, EventCondition, EventMatch, Step, StepOrigin, StepPick, Window,
};

/// Keys besides those of every model.
pub(super) const KEYS: [&str; 9] =
    ["profile", "where", "sql", "include", "exclude", "holdout", "group", "top", "min_size"];
/// Keys of which a condition has exactly one.
pub(super) const HEADS: [&str; 8] = ["event", "trait", "audience", "sequence", "all", "any", "not", "related"];
pub(super) const MATCH_KEYS: [&str; 4] = ["event", "is", "column", "where"];
/// As [`MATCH_KEYS`], of `related`.
pub(super) const RELATED_KEYS: [&str; 3] = ["is", "column", "where"];
pub(super) const EVENT_KEYS: [&str; 9] = ["count", "sum", "min", "max", "avg", "unique_count", "first", "last", "by"];
pub(super) const STEP_KEYS: [&str; 7] = ["not", "within", "of", "inclusive", "open", "pick", "same"];

/// Reads an audience's own keys.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<AudienceModel> {
    let profile = fields.require(reader, "profile").and_then(|n| reader.filled("profile", n));
    let include = fields.get("include").map(|n| lists::entries(reader, "include", n)).unwrap_or_default();
    let exclude = fields.get("exclude").map(|n| lists::entries(reader, "exclude", n)).unwrap_or_default();
    let narrowing = narrowing::read(reader, fields);
    let condition = match (fields.get("where"), fields.get("sql")) {
        (Some(node), None) => condition(reader, node).map(AudienceCondition::Where),
        (None, Some(node)) => reader.sql("sql", node).map(AudienceCondition::Sql),
        (Some(node), Some(_)) => {
            condition(reader, node);
            let spans = fields.key_span("sql").zip(fields.key_span("where"));
            if let Some((sql, first)) = spans {
                reader.conflict(sql, "sql", first, "where", "keep one of them");
            }
            None
        }
        (None, None) => {
            reader.findings.push(
                Diagnostic::error(Code::MissingKey, fields.span(), "an audience needs the key `where` or `sql`")
                    .with_label("says nobody"),
            );
            None
        }
    };
    Some(AudienceModel { profile: profile?, condition: condition?, include, exclude, narrowing })
}

/// One condition: a mapping with exactly one of [`HEADS`].
fn condition(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<Condition>> {
    let NodeKind::Map(entries) = &node.kind else {
        reader.wrong_type(node, "a condition", "a mapping");
        if matches!(node.kind, NodeKind::List(_))
            && let Some(finding) = reader.findings.last_mut()
        {
            finding.help = Some("put the list under `all:` or `any:`".to_owned());
        }
        return None;
    };
    let heads: Vec<_> = entries.iter().filter(|e| HEADS.contains(&e.key.value.as_str())).collect();
    let [head, others @ ..] = heads.as_slice() else {
        no_head(reader, node);
        return None;
    };
    for other in others.iter().filter(|o| o.key.value != head.key.value) {
        let (key, first) = (other.key.value.as_str(), head.key.value.as_str());
        reader.conflict(other.key.span, key, head.key.span, first, "put both in a list under `all:` or `any:`");
    }
    let key = head.key.value.as_str();
    let fields = match key {
        "event" => {
            let keys = [MATCH_KEYS.as_slice(), &EVENT_KEYS, &WINDOW_KEYS].concat();
            reader.fields(node, "an `event` condition", &[keys.as_slice(), &HEADS].concat())
        }
        "related" => {
            let keys = [RELATED_KEYS.as_slice(), &EVENT_KEYS, &WINDOW_KEYS, &HEADS].concat();
            reader.fields(node, "a `related` condition", &keys)
        }
        // Each of the others stands alone; HEADS were dealt with above.
        _ => reader.fields(node, "this condition", &HEADS),
    }?;
    if !others.is_empty() {
        return None;
    }
    let value = match key {
        "event" => Condition::Event(Box::new(event(reader, &fields)?)),
        "related" => Condition::Event(Box::new(related(reader, &fields)?)),
        "trait" => Condition::Trait(reader.sql("trait", &head.value)?),
        "audience" => Condition::Audience(reader.filled("audience", &head.value)?),
        "sequence" => Condition::Sequence(sequence(reader, &head.value)?),
        "all" => Condition::All(conditions(reader, "all", &head.value)?),
        "any" => Condition::Any(conditions(reader, "any", &head.value)?),
        _ => Condition::Not(Box::new(condition(reader, &head.value)?)),
    };
    Some(Spanned::new(value, node.span))
}

fn no_head(reader: &mut Reader<'_>, node: &Node) {
    let NodeKind::Map(entries) = &node.kind else { return };
    let before = reader.findings.len();
    let known = [HEADS.as_slice(), &MATCH_KEYS, &EVENT_KEYS, &WINDOW_KEYS].concat();
    reader.fields(node, "a condition", &known);
    if reader.findings.len() == before || entries.is_empty() {
        let message = format!("a condition needs one of {}", alternatives(&HEADS));
        reader.findings.push(Diagnostic::error(Code::MissingKey, node.span, message).with_label("says nothing"));
    }
}

fn conditions(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Vec<Spanned<Condition>>> {
    let items = reader.list(key, node)?;
    if items.is_empty() {
        reader.empty(node.span, key);
        return None;
    }
    let found: Vec<_> = items.iter().map(|item| condition(reader, item)).collect();
    found.into_iter().collect()
}

fn matching(reader: &mut Reader<'_>, fields: &Fields<'_>, head: &str) -> Option<EventMatch> {
    let table = fields.require(reader, head).and_then(|n| reader.filled(head, n));
    let is = if let Some(node) = fields.get("is") {
        reader.one_or_list("is", node).into_iter().filter_map(|n| reader.scalar("is", n)).collect()
    } else {
        fields.meaningless(reader, &["column"], "there is no `is` to compare it with");
        Vec::new()
    };
    Some(EventMatch {
        table: table?,
        is,
        column: fields.get("column").and_then(|n| reader.filled("column", n)),
        filter: fields.get("where").and_then(|n| reader.sql("where", n)),
    })
}

fn event(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<EventCondition> {
    let window = reader.window(fields, reader.zone);
    rows(reader, fields, "event", window)
}

/// As an `event`, of rows that need no time: there is no window, no default column, and an order must be said.
fn related(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<EventCondition> {
    let why = "a window needs the time of each row: write `event:` instead of `related:`";
    fields.meaningless(reader, &WINDOW_KEYS, why);
    if fields.get("is").is_some() {
        fields.require(reader, "column");
    }
    if fields.get("first").or(fields.get("last")).is_some() {
        fields.require(reader, "by");
    }
    rows(reader, fields, "related", Window::default())
}

/// Enough rows of the table that `head` names.
fn rows(reader: &mut Reader<'_>, fields: &Fields<'_>, head: &str, window: Window) -> Option<EventCondition> {
    let matching = matching(reader, fields, head);
    let measures = reader.measures(fields);
    let first = fields.get("first").and_then(|n| reader.sql("first", n));
    let last = fields.get("last").and_then(|n| reader.sql("last", n));
    let by = fields.get("by").map(|n| reader.sql_list("by", n)).unwrap_or_default();
    if fields.get("first").is_none() && fields.get("last").is_none() {
        fields.meaningless(reader, &["by"], "orders `first` and `last`, and there is neither");
    }
    Some(EventCondition { matching: matching?, measures, window, first, last, by })
}

fn sequence(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Spanned<Step>>> {
    let items = reader.list("sequence", node)?;
    if items.len() < 2 {
        reader.findings.push(
            Diagnostic::error(Code::Empty, node.span, "a sequence needs at least two steps")
                .with_label(format!("has {}", items.len()))
                .with_help("for a single event write `event:` instead of `sequence:`"),
        );
    }
    let steps: Vec<_> = items.iter().enumerate().map(|(i, item)| step(reader, item, i == 0)).collect();
    steps.into_iter().collect()
}

fn step(reader: &mut Reader<'_>, node: &Node, first: bool) -> Option<Spanned<Step>> {
    let keys = [STEP_KEYS.as_slice(), &MATCH_KEYS].concat();
    let outer = reader.fields(node, "a step", &keys)?;
    let negated = outer.key_span("not");
    let inner = match outer.get("not") {
        Some(inside) => {
            let stray: Vec<&str> = keys.iter().copied().filter(|k| *k != "not").collect();
            outer.meaningless(reader, &stray, "belongs inside the `not`");
            reader.fields(inside, "a `not` step", &stray)?
        }
        None => outer,
    };
    if let (Some(span), true) = (negated, first) {
        reader.findings.push(
            Diagnostic::error(Code::BadSequence, span, "a sequence cannot start with `not`")
                .with_label("the first step is the anchor")
                .with_help("start with an event that happened"),
        );
    }
    if first {
        let why = "the first step is the anchor: nothing comes before it";
        inner.meaningless(reader, &["within", "of", "inclusive", "open", "same"], why);
    } else {
        inner.meaningless(reader, &["pick"], "only the first step can be narrowed to one event");
        if negated.is_none() {
            inner.meaningless(reader, &["open"], "only a `not` step waits for its window to pass");
        }
    }
    let matching = matching(reader, &inner, "event");
    let origins = [("previous", StepOrigin::Previous), ("first", StepOrigin::First)];
    let picks = [("latest", StepPick::Latest), ("earliest", StepPick::Earliest)];
    let step = Step {
        negated: negated.is_some(),
        within: inner.get("within").and_then(|n| reader.duration("within", n)),
        of: inner.get("of").and_then(|n| reader.word("of", n, &origins)).unwrap_or(StepOrigin::Previous),
        inclusive: inner.get("inclusive").and_then(|n| reader.boolean("inclusive", n)).unwrap_or(false),
        open: inner.get("open").and_then(|n| reader.boolean("open", n)).unwrap_or(false),
        pick: inner.get("pick").and_then(|n| reader.word("pick", n, &picks)),
        same: inner.get("same").and_then(|n| reader.filled("same", n)),
        matching: matching?,
    };
    if let (Some(span), false, false, None) = (negated, first, step.open, inner.get("within")) {
        reader.findings.push(
            Diagnostic::error(Code::NeverHolds, span, "this `not` step can never hold")
                .with_label("its window has no end, so it never passes")
                .with_help("add `within:`, or `open: true` for \"not yet\""),
        );
    }
    Some(Spanned::new(step, node.span))
}
