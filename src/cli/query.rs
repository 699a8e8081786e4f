//! `kinfold query` and `kinfold show`

use super::args::{QueryArguments, RowFormat, ShowArguments, ShowAudienceArguments, ShowTopic};
use super::exit::Exit;
use super::explain_identity::{time_json, time_text};
use super::printer::Printer;
use super::summary::{counted, grouped, narrowed};
use crate::diagnostic::Severity;
use crate::engine::{Reader, to_csv, to_json, to_text};
use crate::error::{Context, ErrorKind, Result as Fallible};
use crate::runner::{
    AudiencePreview, Failure, Options, Reading, note_question, note_reading, preview_audience, reader,
};
use serde_json::{Value, json};

pub(super) async fn query(arguments: &QueryArguments, options: Options, printer: &Printer) -> Exit {
    print(("query", arguments.at_run), &arguments.sql, arguments.output, &options, printer).await
}

pub(super) async fn show(arguments: &ShowArguments, options: Options, printer: &Printer) -> Exit {
    match (&arguments.topic, &arguments.name) {
        (Some(ShowTopic::Audience(audience)), _) if audience.count => count(audience, &options, printer).await,
        (Some(ShowTopic::Audience(ShowAudienceArguments { name, limit, output, .. })), _) => {
            first_rows((name, *limit), *output, (None, &options), printer).await
        }
        (None, name) => {
            let name = name.as_deref().unwrap_or_default();
            first_rows((name, arguments.limit), arguments.output, (arguments.at_run, &options), printer).await
        }
    }
}

async fn first_rows(
    (name, limit): (&str, usize),
    output: RowFormat,
    (at_run, options): (Option<u64>, &Options),
    printer: &Printer,
) -> Exit {
    let quoted: Vec<String> = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    let sql = format!("SELECT * FROM {} LIMIT {limit}", quoted.join("."));
    print(("show", at_run), &sql, output, options, printer).await
}

async fn count(arguments: &ShowAudienceArguments, options: &Options, printer: &Printer) -> Exit {
    let preview = match preview_audience(options, &arguments.name, arguments.limit).await {
        Ok(preview) => preview,
        Err(failure) => return printer.not_loaded("show audience", &failure),
    };
    let action = if arguments.output == RowFormat::Text { "query" } else { "export" };
    let facts = vec![("rows", json!(preview.first.rows()))];
    let reading = Reading { facts, ..Reading::of(action, [preview.audience.clone()]) };
    if let Err(failure) = note_reading(options, reading).await {
        return printer.failure(&failure);
    }
    match preview_told(&preview, arguments.output) {
        Ok(text) => {
            printer.data(&text);
            Exit::Ok
        }
        Err(error) => printer.error(&error),
    }
}

fn preview_told(preview: &AudiencePreview, format: RowFormat) -> Fallible<String> {
    let AudiencePreview { audience, as_of, facts, first } = preview;
    match format {
        RowFormat::Csv => to_csv(&first.schema, &first.batches),
        RowFormat::Json => {
            let doing = || "cannot print the members".to_owned();
            let rows: Value = serde_json::from_str(&to_json(&first.batches)?).or_fail(ErrorKind::Failed, doing)?;
            let object = json!({
                "audience": audience,
                "as_of": time_json(Some(as_of.timestamp_micros())),
                "members": facts.members,
                "entered": facts.entered,
                "left": facts.left,
                "in_group": facts.in_group,
                "held_out": facts.held_out,
                "beyond_top": facts.beyond_top,
                "too_small": facts.too_small,
                "unknown_in_lists": facts.rejected,
                "first": rows,
            });
            Ok(format!("{object:#}\n"))
        }
        RowFormat::Text => {
            let heading = format!(
                "{audience} would have {}, as of {}; since the last run {} entered and {} left\n",
                counted_grouped(facts.members, "member"),
                time_text(*as_of),
                grouped(facts.entered),
                grouped(facts.left)
            );
            let unknown = match facts.rejected {
                0 => String::new(),
                1 => "1 entry of its lists names nobody known\n".to_owned(),
                many => format!("{} entries of its lists name nobody known\n", grouped(many)),
            };
            let lines = narrowed(facts).into_iter().chain(facts.too_small_text(audience));
            let left_out: String = lines.map(|line| line + "\n").collect();
            let rows = if first.rows() > 0 { to_text(&first.schema, &first.batches)? } else { String::new() };
            Ok(format!("{heading}{left_out}{unknown}{rows}"))
        }
    }
}

fn counted_grouped(count: u64, noun: &str) -> String {
    if count == 1 { counted(1, noun) } else { format!("{} {noun}s", grouped(count)) }
}

async fn print(
    (command, at_run): (&str, Option<u64>),
    sql: &str,
    format: RowFormat,
    options: &Options,
    printer: &Printer,
) -> Exit {
    let reader = match reader(options, at_run).await {
        Ok(reader) => reader,
        Err(failure) => return printer.not_loaded(command, &failure),
    };
    match answer((&reader, options), (sql, at_run), format, printer).await {
        Ok(text) => {
            printer.data(&text);
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}

async fn answer(
    (reader, options): (&Reader, &Options),
    (sql, at_run): (&str, Option<u64>),
    format: RowFormat,
    printer: &Printer,
) -> Result<String, Failure> {
    let findings = reader.open_tables(sql).await?;
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::Findings(findings, Box::new(reader.source_map().clone())));
    }
    printer.findings(&findings, reader.source_map());
    let answer = reader.answer(sql).await?;
    // rows for a program are rows that leave
    let action = if format == RowFormat::Text { "query" } else { "export" };
    let facts = vec![("rows", json!(answer.rows())), ("at_run", json!(at_run))];
    note_question(options, reader, (action, sql), facts).await?;
    Ok(match format {
        RowFormat::Text => to_text(&answer.schema, &answer.batches)?,
        RowFormat::Csv => to_csv(&answer.schema, &answer.batches)?,
        RowFormat::Json => to_json(&answer.batches)?,
    })
}
