//! `kinfold schema`: JSON Schema of the project's files, for editors.

use super::exit::Exit;
use super::printer::Printer;
use crate::error::{Context, ErrorKind, Result};
use crate::project::schema::FileKind;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum, ValueHint};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct SchemaArguments {
    /// Kind of file whose schema is printed.
    #[arg(value_enum, required_unless_present = "write", conflicts_with = "write")]
    kind: Option<FileKind>,
    /// Write the schemas of all kinds into this folder.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    write: Option<PathBuf>,
}

impl ValueEnum for FileKind {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.word()).help(match self {
            Self::Kinfold => "kinfold.yaml",
            Self::Sources => "sources.yaml",
            Self::Destinations => "destinations.yaml",
            Self::Models => "models/**/*.yaml",
        }))
    }
}

pub(super) fn schema(arguments: &SchemaArguments, printer: &Printer) -> Exit {
    if let Some(kind) = arguments.kind {
        printer.data(&kind.text());
    }
    let Some(directory) = &arguments.write else { return Exit::Ok };
    match write(directory) {
        Ok(written) => {
            let paths: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
            printer.data(&(paths.join("\n") + "\n"));
            Exit::Ok
        }
        Err(error) => printer.error(&error),
    }
}

/// Writes the schemas of all kinds into a folder, which is made if it is not there.
pub(super) fn write(directory: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("cannot write {}", directory.display());
    std::fs::create_dir_all(directory).or_fail(ErrorKind::Storage, doing)?;
    let mut written = Vec::new();
    for kind in FileKind::ALL {
        let path = directory.join(kind.file_name());
        std::fs::write(&path, kind.text()).or_fail(ErrorKind::Storage, doing)?;
        written.push(path);
    }
    Ok(written)
}
