//! `kinfold docs`

use super::exit::Exit;
use super::printer::Printer;
use super::summary::counted;
use crate::runner::{Options, build_site};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct DocsArguments {
    #[command(subcommand)]
    command: DocsCommand,
}

#[derive(Debug, Subcommand)]
enum DocsCommand {
    /// Write a folder of static pages: models, columns, the graph, the last run; no data rows.
    Build {
        /// Folder of the pages; target/docs of the project by default.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

pub(super) async fn docs(arguments: &DocsArguments, options: &Options, printer: &Printer) -> Exit {
    let DocsCommand::Build { dir } = &arguments.command;
    let folder = dir.clone().unwrap_or_else(|| options.root.join("target/docs"));
    match build_site(options, &folder).await {
        Ok(pages) => {
            printer.data(&format!("{}: {}\n", folder.join("index.html").display(), counted(pages, "page")));
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}
