//! `kinfold completions SHELL`: what a shell needs to complete the command line.

use super::args::Cli;
use super::exit::Exit;
use super::printer::Printer;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(arguments: &CompletionsArguments, printer: &Printer) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "kinfold", &mut script);
    printer.data(&String::from_utf8_lossy(&script));
    Exit::Ok
}
