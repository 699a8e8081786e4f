//! The command line: arguments, one file per command, one printer, exit codes. Says, decides nothing.
//!
//! stdout is data (tables, summaries that were asked for), stderr is talk (progress, findings, errors).

mod args;
mod audit;
mod check;
mod completions;
mod diff;
mod docs;
mod early;
mod exit;
mod explain;
mod explain_audience;
mod explain_consent;
mod explain_identity;
mod explain_plan;
mod forget;
mod init;
mod labels;
mod lineage;
mod log;
mod ls;
mod man;
mod manifest;
mod plan;
mod printer;
mod query;
mod run;
mod schema;
mod sources;
mod status;
mod summary;
mod sync;
mod test;
mod vacuum;

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
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build();
    // planning follows the nesting of SQL by recursion, and the first thread's stack is not ours to choose
    let ended = runtime.and_then(|runtime| {
        let ended = std::thread::scope(|scope| {
            let work = || runtime.block_on(dispatch(&cli, &printer));
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
            Ok(thread.join().unwrap_or(Exit::Failed))
        });
        // Shutting down takes tasks away that a failed run left to themselves, and what waits for those panics. The
        // process ends here anyway, and a run is as safe against that as against being killed.
        std::mem::forget(runtime);
        ended
    });
    match ended {
        Ok(exit) => printer.end(exit).code(),
        Err(error) => printer.error(&Error::new(ErrorKind::Failed, "cannot start threads").caused_by(error)).code(),
    }
}

/// Enough for SQL at the limits of what is read, in a build without optimisation. Only what is used takes memory.
const STACK_BYTES: usize = 64 << 20;

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
        Command::Explain(arguments) if !arguments.needs_project() => return explain::code(arguments, printer),
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
        Command::Run(arguments) => Box::pin(run::run(arguments, options, printer)).await,
        Command::Sync(arguments) => Box::pin(sync::sync(arguments, options, printer)).await,
        Command::Check(arguments) => check::check(arguments, options, printer).await,
        Command::Plan(arguments) => plan::plan(arguments, options, printer).await,
        Command::Manifest => manifest::manifest(&options, printer),
        Command::Test(arguments) => test::test(arguments, options, printer).await,
        Command::Show(arguments) => query::show(arguments, options, printer).await,
        Command::Query(arguments) => query::query(arguments, options, printer).await,
        Command::Docs(arguments) => docs::docs(arguments, &options, printer).await,
        Command::Sources(arguments) => sources::sources(arguments, &options, printer).await,
        Command::Vacuum(arguments) => vacuum::vacuum(arguments, &options, printer).await,
        Command::Diff(arguments) => diff::diff(arguments, &options, printer).await,
        Command::Status(arguments) => status::status(arguments, options, printer).await,
        Command::Ls(arguments) => ls::ls(arguments, options, printer),
        Command::Lineage(arguments) => lineage::lineage(arguments, options, printer).await,
        Command::Forget(arguments) => Box::pin(forget::forget(arguments, &options, printer)).await,
        Command::Suppress(arguments) => forget::suppress(arguments, false, &options, printer).await,
        Command::Unsuppress(arguments) => forget::suppress(arguments, true, &options, printer).await,
        Command::Audit(arguments) => audit::audit(arguments, &options, printer).await,
        Command::Labels(arguments) => labels::labels(arguments, options, printer).await,
        Command::Explain(arguments) => explain::topic(arguments, &options, printer).await,
        Command::Init(_) | Command::Schema(_) | Command::Completions(_) | Command::Man(_) => Exit::Ok,
    }
}
