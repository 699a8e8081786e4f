//! The command line: arguments, one file per command, one printer, exit codes. Says, decides nothing.
//!
//! stdout is data (tables, summaries that were asked for), stderr is talk (progress, findings, errors).

mod args;
mod check;
mod docs;
mod exit;
mod explain;
mod init;
mod lineage;
mod ls;
mod manifest;
mod plan;
mod printer;
mod query;
mod run;
mod sources;
mod status;
mod summary;
mod test;

use args::{Cli, Command};
use clap::Parser;
use exit::Exit;
use printer::Printer;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            let _ = error.print();
            return if usage { Exit::Wrong.code() } else { Exit::Ok.code() };
        }
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
        std::thread::scope(|scope| {
            let work = || runtime.block_on(dispatch(&cli, &printer));
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
            Ok(thread.join().unwrap_or(Exit::Failed))
        })
    });
    match ended {
        Ok(exit) => exit.code(),
        Err(error) => {
            printer.say(&format!("error: cannot start threads: {error}"));
            Exit::Failed.code()
        }
    }
}

/// Enough for SQL at the limits of what is read, in a build without optimisation. Only what is used takes memory.
const STACK_BYTES: usize = 64 << 20;

async fn dispatch(cli: &Cli, printer: &Printer) -> Exit {
    if let Command::Init(arguments) = &cli.command {
        return init::init(&arguments.directory, printer);
    }
    if let Command::Explain(arguments) = &cli.command {
        return explain::explain(&arguments.code, printer);
    }
    let options = match cli.project.options() {
        Ok(options) => options,
        Err(error) => return printer.error(&error),
    };
    match &cli.command {
        Command::Run(arguments) => run::run(arguments.apply(options), printer).await,
        Command::Check(arguments) => check::check(arguments, options, printer).await,
        Command::Plan(arguments) => plan::plan(arguments, options, printer).await,
        Command::Manifest => manifest::manifest(&options, printer),
        Command::Test(arguments) => test::test(arguments, options, printer).await,
        Command::Show(arguments) => query::show(arguments, options, printer).await,
        Command::Query(arguments) => query::query(arguments, options, printer).await,
        Command::Docs(arguments) => docs::docs(arguments, &options, printer).await,
        Command::Sources(arguments) => sources::sources(arguments, &options, printer).await,
        Command::Status(arguments) => status::status(arguments, options, printer).await,
        Command::Ls(arguments) => ls::ls(arguments, options, printer),
        Command::Lineage(arguments) => lineage::lineage(arguments, options, printer).await,
        Command::Init(_) | Command::Explain(_) => Exit::Ok,
    }
}
