//! `kinfold sources`

use super::exit::Exit;
use super::printer::Printer;
use super::summary::counted;
use crate::engine::differences_text;
use crate::runner::{LOCK, Options, refresh_schemas};
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(super) struct SourcesArguments {
    #[command(subcommand)]
    command: SourcesCommand,
}

#[derive(Debug, Subcommand)]
enum SourcesCommand {
    /// Look at the files of every source table and write their columns to schemas.lock.
    Refresh {
        /// Write nothing; exit 1 when the columns are not those of schemas.lock.
        #[arg(long)]
        check: bool,
    },
}

pub(super) async fn sources(arguments: &SourcesArguments, options: &Options, printer: &Printer) -> Exit {
    let SourcesCommand::Refresh { check } = arguments.command;
    let refreshed = match refresh_schemas(options, check).await {
        Ok(refreshed) => refreshed,
        Err(failure) => return printer.failure(&failure),
    };
    printer.findings(&refreshed.warnings, &refreshed.map);
    printer.data(&differences_text(&refreshed.differences));
    let tables = counted(refreshed.tables, "table");
    match (check, refreshed.differences.len()) {
        (true, 0) => printer.data(&format!("ok: {LOCK} has the columns of {tables}\n")),
        (true, different) => {
            printer.say(&format!("{LOCK} differs from the data in {}", counted(different, "table")));
            return Exit::Failed;
        }
        (false, _) => printer.data(&format!("{LOCK}: {tables}\n")),
    }
    Exit::Ok
}
