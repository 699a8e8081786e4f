//! The command line: arguments, one file per command, one printer, exit codes. Says, decides nothing.
//!
//! stdout is data (tables, summaries that were asked for), stderr is talk (progress, findings, errors).

mod args;
mod check;
mod completions;
mod early;
mod exit;
mod explain;
mod init;
mod log;
mod man;
mod printer;
mod query;
mod run;
mod schema;
mod status;
mod summary;

use crate::error::{Error, ErrorKind};
use args::{Cli, Command};
use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};
use exit::Exit;
use printer::Printer;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match parse(&words) {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error, &words).code(),
    };
    let printer = Printer::of_process(&cli);
    let threads = cli.project.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_stack_size(8 << 20)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => printer.end(runtime.block_on(dispatch(&cli, &printer))).code(),
        Err(error) => printer.error(&Error::new(ErrorKind::Failed, "cannot start threads").caused_by(error)).code(),
    }
}

fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let color = match early::value_of(words, "--color") {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    };
    let command = Cli::command().color(color);
    let mut matches = command.clone().try_get_matches_from(words)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command.clone()))
}

/// Prints help that was asked for, or why the arguments are wrong.
fn not_understood(error: &clap::Error, words: &[OsString]) -> Exit {
    if error.use_stderr() && early::value_of(words, "--log-format") == Some("json") {
        let _ = writeln!(std::io::stderr(), "{}", log::usage(error));
    } else {
        // whoever has stopped listening needs no help
        let _ = error.print();
    }
    if error.use_stderr() { Exit::Wrong } else { Exit::Ok }
}

async fn dispatch(cli: &Cli, printer: &Printer) -> Exit {
    match &cli.command {
        Command::Init(arguments) => return init::init(arguments, printer),
        Command::Explain(arguments) => return explain::explain(arguments, printer),
        Command::Schema(arguments) => return schema::schema(arguments, printer),
        Command::Completions(arguments) => return completions::completions(arguments, printer),
        Command::Man(arguments) => return man::man(arguments, printer),
        _ => {}
    }
    let options = match cli.project.options() {
        Ok(options) => options,
        Err(error) => return printer.error(&error),
    };
    match &cli.command {
        Command::Run(arguments) => run::run(arguments, options, printer).await,
        Command::Check(arguments) => check::check(arguments.apply(options), printer).await,
        Command::Show(arguments) => query::show(arguments, options, printer).await,
        Command::Query(arguments) => query::query(arguments, options, printer).await,
        Command::Status(arguments) => status::status(arguments, options, printer).await,
        Command::Init(_) | Command::Explain(_) | Command::Schema(_) | Command::Completions(_) | Command::Man(_) => {
            Exit::Ok
        }
    }
}
