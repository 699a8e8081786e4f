//! `kinfold man`: manual pages, made from the same description of the commands as `--help`.

use super::args::Cli;
use super::exit::Exit;
use super::printer::Printer;
use crate::error::{Context, ErrorKind, Result};
use clap::{Args, CommandFactory as _, ValueHint};
use clap_mangen::Man;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Write one page a command into this folder, instead of printing the page of `kinfold`.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

pub(super) fn man(arguments: &ManArguments, printer: &Printer) -> Exit {
    let said = match &arguments.dir {
        Some(directory) => write(directory),
        None => page(all()),
    };
    match said {
        Ok(text) => {
            printer.data(&text);
            Exit::Ok
        }
        Err(error) => printer.error(&error),
    }
}

fn all() -> clap::Command {
    Cli::command().disable_help_subcommand(true)
}

fn page(command: clap::Command) -> Result<String> {
    let mut text = Vec::new();
    Man::new(command).render(&mut text).or_fail(ErrorKind::Failed, || "cannot make the manual page".to_owned())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes all pages; gives their paths, one a line.
fn write(directory: &Path) -> Result<String> {
    let doing = || format!("cannot write {}", directory.display());
    std::fs::create_dir_all(directory).or_fail(ErrorKind::Storage, doing)?;
    let mut main = all();
    main.build();
    let commands = std::iter::once(main.clone()).chain(main.get_subcommands().cloned());
    let mut written = String::new();
    for command in commands {
        let path = Man::new(command).generate_to(directory).or_fail(ErrorKind::Storage, doing)?;
        written.push_str(&format!("{}\n", path.display()));
    }
    Ok(written)
}
