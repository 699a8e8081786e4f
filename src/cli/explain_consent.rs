//! `kinfold explain consent`

use super::args::OutputFormat;
use super::exit::Exit;
use super::explain_identity::{asked_json, standing, time_json, time_text};
use super::printer::Printer;
use crate::engine::{AnswerNote, PersonRow, Told, Why};
use crate::runner::{ConsentAnswer, Options, explain_consent};
use chrono::DateTime;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Debug, Args)]
pub(super) struct ConsentArguments {
    /// The sync; one with a `purpose`.
    sync: String,
    /// Who: an identifier, as TYPE:VALUE in any spelling, or an entity's id (8 digits are enough).
    #[arg(value_name = "TYPE:VALUE")]
    id: String,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) async fn consent(arguments: &ConsentArguments, options: &Options, printer: &Printer) -> Exit {
    match explain_consent(options, &arguments.sync, &arguments.id).await {
        Ok(answer) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => as_text(&answer),
                OutputFormat::Json => format!("{:#}\n", as_json(&answer)),
            });
            Exit::Ok
        }
        Err(failure) => printer.not_loaded("explain consent", &failure),
    }
}

fn as_text(answer: &ConsentAnswer) -> String {
    let ConsentAnswer { sync, purpose, channel, identity, as_of, asked, facts } = answer;
    let channel = channel.as_ref().map(|channel| format!(" by {channel}")).unwrap_or_default();
    let asks = format!("`{sync}` ({purpose}{channel}), as of {}", time_text(*as_of));
    let mut out = String::new();
    if let Some(id) = asked.entity_id() {
        let _ = match facts.held {
            None => writeln!(out, "{identity} {id} agreed to {asks}"),
            Some(why) => writeln!(out, "{identity} {id} may not be sent to by {asks}: {}", why.words()),
        };
        for (place, note) in facts.answers.iter().enumerate() {
            let _ = writeln!(out, "{}{}", if place == 0 { "decided by " } else { "  also " }, note_text(note));
        }
    } else {
        let _ = writeln!(out, "{} {}\nso it is nobody that {asks} could send", asked.name(), standing(asked, identity));
    }
    for note in facts.address.iter().filter(|note| !facts.answers.contains(note)) {
        let _ = writeln!(out, "of the address itself: {}", note_text(note));
    }
    if facts.address.iter().any(|note| note.forbids == Some(Why::Denied)) {
        let _ = writeln!(out, "the address is denied: no row that has it is sent, whoever it is of");
    }
    for row in &facts.rows {
        let _ = writeln!(out, "{}", row_text(row));
    }
    if asked.entity_id().is_some() && facts.rows.is_empty() {
        let _ = writeln!(out, "{sync} has no row of this {identity}");
    }
    out
}

fn row_text(row: &PersonRow) -> String {
    let mut text = match row.held {
        None => format!("row {} is sent", row.key),
        Some(why) => format!("row {} is not sent: {}", row.key, why.words()),
    };
    for note in &row.addresses {
        let _ = write!(text, "\n  by {}", note_text(note));
    }
    text
}

fn note_text(note: &AnswerNote) -> String {
    let AnswerNote { table, about, forbids, valid_from, told } = note;
    let Told { decision, valid_to, channel, evidence } = told;
    let about = about.as_deref().unwrap_or("nothing");
    let decision = decision.as_deref().unwrap_or("nothing");
    let from = valid_from.map_or_else(|| "ever".to_owned(), time);
    let until = valid_to.map_or_else(|| "without end".to_owned(), |until| format!("until {}", time(until)));
    let by = channel.as_ref().map_or_else(|| "for all channels".to_owned(), |channel| format!("for {channel}"));
    let means = forbids.map_or("granted", Why::words);
    let evidence = evidence.as_ref().map(|evidence| format!("; evidence: {evidence}")).unwrap_or_default();
    format!("{table}: `{decision}` about {about} ({means}), {by}, since {from}, {until}{evidence}")
}

fn time(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).map(time_text).unwrap_or_default()
}

fn as_json(answer: &ConsentAnswer) -> Value {
    let ConsentAnswer { sync, purpose, channel, identity, as_of, asked, facts } = answer;
    let notes = |notes: &[AnswerNote]| -> Value { notes.iter().map(note_json).collect() };
    let row = |row: &PersonRow| json!({ "key": row.key, "held": row.held.map(Why::words), "denied_addresses": notes(&row.addresses) });
    json!({
        "sync": sync,
        "purpose": purpose,
        "channel": channel,
        "identity": identity,
        "as_of": time_json(Some(as_of.timestamp_micros())),
        "asked": asked_json(asked),
        "entity_id": asked.entity_id(),
        "agreed": asked.entity_id().is_some() && facts.held.is_none(),
        "held": facts.held.map(Why::words),
        "decided_by": facts.answers.first().map(note_json),
        "answers": notes(&facts.answers),
        "about_address": notes(&facts.address),
        "rows": facts.rows.iter().map(row).collect::<Value>(),
    })
}

fn note_json(note: &AnswerNote) -> Value {
    json!({
        "table": note.table,
        "about": note.about,
        "decision": note.told.decision,
        "means": note.forbids.map_or("granted", Why::words),
        "channel": note.told.channel,
        "valid_from": time_json(note.valid_from),
        "valid_to": time_json(note.told.valid_to),
        "evidence": note.told.evidence,
    })
}
