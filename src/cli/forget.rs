//! `kinfold forget`, `kinfold suppress` and `kinfold unsuppress`

use super::args::OutputFormat;
use super::exit::Exit;
use super::printer::Printer;
use super::summary::{counted, grouped};
use crate::error::{Error, ErrorKind};
use crate::runner::{Certificate, Options, PersonDecision, PersonRequest, forget as erase, suppress as decide};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Debug, Args)]
pub(super) struct PersonArguments {
    /// Whom: `type:value`, as email:ann@x.com, or the name of an identity and an entity id.
    #[arg(required = true, value_name = "IDENTIFIER")]
    identifiers: Vec<String>,
    /// Why; it is kept, so name no person here.
    #[arg(long)]
    reason: String,
    /// The identity, where several have the types.
    #[arg(long)]
    identity: Option<String>,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

impl PersonArguments {
    fn request(&self) -> Result<PersonRequest, Error> {
        if self.reason.trim().is_empty() {
            return Err(
                Error::new(ErrorKind::Usage, "`--reason` is empty").with_help("say why, such as a ticket's number")
            );
        }
        let (identifiers, identity, reason) = (self.identifiers.clone(), self.identity.clone(), self.reason.clone());
        Ok(PersonRequest { identifiers, identity, reason })
    }
}

pub(super) async fn forget(arguments: &PersonArguments, options: &Options, printer: &Printer) -> Exit {
    let request = match arguments.request() {
        Ok(request) => request,
        Err(error) => return printer.error(&error),
    };
    match erase(options, &request, printer).await {
        Ok(certificate) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => text(&certificate),
                OutputFormat::Json => format!("{:#}\n", json!(certificate)),
            });
            if certificate.owed.is_empty() { Exit::Ok } else { Exit::Failed }
        }
        Err(failure) => printer.failure(&failure),
    }
}

pub(super) async fn suppress(arguments: &PersonArguments, lift: bool, options: &Options, printer: &Printer) -> Exit {
    let request = match arguments.request() {
        Ok(request) => request,
        Err(error) => return printer.error(&error),
    };
    match decide(options, &request, lift).await {
        Ok(decision) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => decided(&decision, lift),
                OutputFormat::Json => format!("{:#}\n", json!(decision)),
            });
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}

fn decided(decision: &PersonDecision, lift: bool) -> String {
    let PersonDecision { people, identifiers, shared } = decision;
    let what = counted(*identifiers, "identifier");
    if lift {
        return format!("{what}: read again from the next `kinfold run` on\n");
    }
    let known = if *people == 0 { "nobody is known by them yet".to_owned() } else { people_text(*people) };
    let shared = if *shared > 0 { format!(", {shared} of which rows of others have, too") } else { String::new() };
    format!("{what}{shared}; {known}: left out from the next `kinfold run` on\n")
}

fn people_text(people: usize) -> String {
    if people == 1 { "1 person".to_owned() } else { format!("{people} people") }
}

fn text(certificate: &Certificate) -> String {
    let mut out = String::new();
    let whole = certificate.owed.is_empty();
    let state = if whole { "done" } else { "not done: destinations owe deletes" };
    let _ = writeln!(out, "erasure {}: {state}", certificate.number);
    let blocked = counted(certificate.tombstones.len(), "identifier");
    let _ = writeln!(out, "  {}, {blocked} blocked for ever", people_text(certificate.people));
    let mut listed = |what: &str, of: &BTreeMap<String, u64>| {
        for (name, rows) in of {
            let _ = writeln!(out, "  {what} {name}: {} {}", grouped(*rows), if *rows == 1 { "row" } else { "rows" });
        }
    };
    listed("taken out of", &certificate.thinned);
    listed("deleted by", &certificate.deleted);
    listed("owed by", &certificate.owed);
    for sync in &certificate.untraced {
        let _ = writeln!(out, "  not known of {sync}: it is no longer defined, and its keys lead to nobody");
    }
    let (tables, rows) = (certificate.searched_tables, grouped(certificate.searched_rows));
    let _ = writeln!(out, "  searched {}, {rows} rows: nothing found", counted(tables, "table"));
    let _ = writeln!(out, "  history begins at run {}", certificate.history_begins_at_run);
    if whole {
        let _ = writeln!(out, "certificate: _kinfold/erasures/done/{:020}.json", certificate.number);
    }
    out
}
