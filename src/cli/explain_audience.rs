//! `kinfold explain audience`

use super::args::OutputFormat;
use super::exit::Exit;
use super::explain_identity::{asked_json, standing, time_json, time_text};
use super::printer::Printer;
use super::summary::grouped;
use crate::engine::{ConditionNote, ConditionResult, ListNote, Membership, RowNote};
use crate::runner::{AudienceAnswer, Options, explain_audience};
use chrono::DateTime;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Debug, Args)]
pub(super) struct AudienceArguments {
    /// The audience.
    name: String,
    /// Who: an identifier, as TYPE:VALUE in any spelling, or an entity's id (8 digits are enough).
    #[arg(value_name = "TYPE:VALUE")]
    id: String,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn audience(arguments: &AudienceArguments, options: &Options, printer: &Printer) -> Exit {
    match explain_audience(options, &arguments.name, &arguments.id).await {
        Ok(answer) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => as_text(&answer),
                OutputFormat::Json => format!("{:#}\n", as_json(&answer)),
            });
            Exit::Ok
        }
        Err(failure) => printer.not_loaded("explain audience", &failure),
    }
}

fn as_text(answer: &AudienceAnswer) -> String {
    let AudienceAnswer { audience, identity, asked, .. } = answer;
    let Some(membership) = &answer.membership else {
        let mut out =
            format!("{} {}\nso it is nobody that {audience} could have\n", asked.name(), standing(asked, identity));
        for entry in &answer.listed {
            let _ = writeln!(out, "a list names it and means nobody: {}", list_text(entry));
        }
        return out;
    };
    let is = if membership.holds() { "is in" } else { "is not in" };
    let who = asked.entity_id().map(|id| format!("{identity} {id}")).unwrap_or_default();
    let mut out = format!("{who} {is} {audience}, as of {}\n\n", time_text(answer.as_of));
    condition_text(&mut out, &membership.rule, 0);
    for (entries, what) in [(&membership.included, "included"), (&membership.excluded, "excluded")] {
        for entry in entries {
            let _ = writeln!(out, "{what} by hand: {}", list_text(entry));
        }
    }
    if let Some(why) = &membership.left_out {
        let _ = writeln!(out, "left out: {why}");
    }
    if !membership.in_profile {
        let _ = writeln!(
            out,
            "\n{} has no row of this {identity}: it was built before the {identity} was known",
            answer.profile
        );
    }
    out.push_str(&committed_text(membership));
    out
}

fn list_text(entry: &ListNote) -> String {
    let ListNote { identifier, by, reason } = entry;
    format!("{identifier}, by {by}: {reason}")
}

/// What the last run made of it, and why that may differ.
fn committed_text(membership: &Membership) -> String {
    let changed = "the definition or the rows have changed since";
    match (&membership.committed, membership.holds()) {
        (Some((at, reason)), true) => format!("\nmember since {} ({reason})\n", time(*at)),
        (Some((at, _)), false) => format!("\nthe last run has it as a member since {}; {changed}\n", time(*at)),
        (None, true) => format!("\nthe last run does not have it as a member; {changed}\n"),
        (None, false) => String::new(),
    }
}

fn time(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).map(time_text).unwrap_or_default()
}

fn condition_text(out: &mut String, condition: &ConditionResult, depth: usize) {
    let indent = "  ".repeat(depth);
    let word = match condition.holds {
        Some(true) => "yes",
        Some(false) => "no ",
        None => "-  ",
    };
    let values: Vec<String> =
        condition.values.iter().map(|(name, value)| format!("{name} = {}", value_text(value))).collect();
    let values = if values.is_empty() { String::new() } else { format!("  [{}]", values.join(", ")) };
    let _ = writeln!(out, "{word}  {indent}{}{values}", condition.text);
    let below = format!("     {indent}  ");
    if let Some(note) = condition.note.as_ref().map(|note| note_text(note, condition)) {
        let _ = writeln!(out, "{below}{note}");
    }
    for row in &condition.rows {
        let _ = writeln!(out, "{below}{}", row_text(row));
    }
    if condition.more > 0 {
        let _ = writeln!(out, "{below}and {} more", grouped(condition.more as u64));
    }
    for part in &condition.parts {
        condition_text(out, part, depth + 1);
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn row_text(row: &RowNote) -> String {
    let id = row.row_id.as_ref().map(|id| format!(", row {id}")).unwrap_or_default();
    let at = row.at.map(|at| format!(", {}", time(at))).unwrap_or_default();
    format!("{}{id}{at}", row.table)
}

fn note_text(note: &ConditionNote, condition: &ConditionResult) -> String {
    let span = |from: i64, until: Option<i64>| match until {
        Some(until) => format!("from {} to {}", time(from), time(until)),
        None => format!("from {} on", time(from)),
    };
    match note {
        ConditionNote::Since(at, reason) => format!("member since {} ({reason})", time(*at)),
        ConditionNote::NoRow => "no row matches".to_owned(),
        ConditionNote::NoRowBetween(from, until) if condition.rows.is_empty() => {
            format!("no row {}", span(*from, *until))
        }
        ConditionNote::NoRowBetween(from, until) => format!("no row {}; elsewhere:", span(*from, *until)),
        ConditionNote::Nothing(from, until) => format!("no row {}", span(*from, *until)),
        ConditionNote::Happened(from, until) => format!("{} there is:", span(*from, *until)),
        ConditionNote::NotPassed(from, Some(until)) => {
            format!("no row since {}, but its window is open until {}: not yet decided", time(*from), time(*until))
        }
        ConditionNote::NotPassed(from, None) => format!("its window from {} on has no end", time(*from)),
    }
}

fn as_json(answer: &AudienceAnswer) -> Value {
    let list = |entries: &[ListNote]| -> Value {
        entries.iter().map(|e| json!({ "identifier": e.identifier, "by": e.by, "reason": e.reason })).collect()
    };
    let membership = answer.membership.as_ref();
    let committed = membership.and_then(|m| m.committed.as_ref());
    json!({
        "audience": answer.audience,
        "identity": answer.identity,
        "as_of": time_json(Some(answer.as_of.timestamp_micros())),
        "asked": asked_json(&answer.asked),
        "entity_id": answer.asked.entity_id(),
        "member": membership.is_some_and(Membership::holds),
        "in_profile": membership.is_some_and(|m| m.in_profile),
        "condition": membership.map(|m| condition_json(&m.rule)),
        "included": membership.map(|m| list(&m.included)),
        "excluded": membership.map(|m| list(&m.excluded)),
        "left_out": membership.and_then(|m| m.left_out.as_deref()),
        "listed_but_nobody": list(&answer.listed),
        "committed": committed.map(|(at, reason)| json!({ "entered_at": time_json(Some(*at)), "reason": reason })),
    })
}

fn condition_json(condition: &ConditionResult) -> Value {
    let row = |row: &RowNote| json!({ "table": row.table, "row_id": row.row_id, "at": time_json(row.at) });
    let values: serde_json::Map<String, Value> = condition.values.iter().cloned().collect();
    json!({
        "condition": condition.text,
        "path": condition.place.0,
        "line": condition.place.1,
        "holds": condition.holds,
        "values": values,
        "note": condition.note.as_ref().map(note_json),
        "rows": condition.rows.iter().map(row).collect::<Value>(),
        "more_rows": condition.more,
        "parts": condition.parts.iter().map(condition_json).collect::<Value>(),
    })
}

fn note_json(note: &ConditionNote) -> Value {
    let between = |what: &str, from: i64, until: Option<i64>| json!({ "kind": what, "from": time_json(Some(from)), "until": time_json(until) });
    match note {
        ConditionNote::Since(at, reason) => {
            json!({ "kind": "member_since", "at": time_json(Some(*at)), "reason": reason })
        }
        ConditionNote::NoRow => json!({ "kind": "no_row" }),
        ConditionNote::NoRowBetween(from, until) => between("no_row_between", *from, *until),
        ConditionNote::Nothing(from, until) => between("nothing_between", *from, *until),
        ConditionNote::Happened(from, until) => between("happened_between", *from, *until),
        ConditionNote::NotPassed(from, until) => between("not_passed", *from, *until),
    }
}
