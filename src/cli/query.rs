//! `kinfold query` and `kinfold show`

use super::args::{QueryArguments, RowFormat, ShowArguments};
use super::exit::Exit;
use super::printer::Printer;
use crate::diagnostic::Severity;
use crate::engine::{Reader, to_csv, to_json, to_text};
use crate::runner::{Failure, Options, reader};

pub(super) async fn query(arguments: &QueryArguments, options: Options, printer: &Printer) -> Exit {
    print(("query", arguments.at_run), &arguments.sql, arguments.output, &options, printer).await
}

pub(super) async fn show(arguments: &ShowArguments, options: Options, printer: &Printer) -> Exit {
    let quoted: Vec<String> =
        arguments.name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    let sql = format!("SELECT * FROM {} LIMIT {}", quoted.join("."), arguments.limit);
    print(("show", arguments.at_run), &sql, arguments.output, &options, printer).await
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
    match answer(&reader, sql, format, printer).await {
        Ok(text) => {
            printer.data(&text);
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}

async fn answer(reader: &Reader, sql: &str, format: RowFormat, printer: &Printer) -> Result<String, Failure> {
    let findings = reader.open_tables(sql).await?;
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::Findings(findings, Box::new(reader.source_map().clone())));
    }
    printer.findings(&findings, reader.source_map());
    let answer = reader.answer(sql).await?;
    Ok(match format {
        RowFormat::Text => to_text(&answer.schema, &answer.batches)?,
        RowFormat::Csv => to_csv(&answer.schema, &answer.batches)?,
        RowFormat::Json => to_json(&answer.batches)?,
    })
}
