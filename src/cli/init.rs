//! `kinfold init DIR`: a small project of its own that runs at once.

use super::args::{InitArguments, OutputFormat};
use super::exit::Exit;
use super::printer::Printer;
use super::schema;
use crate::error::{Context, Error, ErrorKind, Result};
use serde_json::json;
use std::path::Path;

/// Where the YAML files say that their schemas are.
const SCHEMAS: &str = ".kinfold/schema";

/// Files of a new project.
const FILES: &[(&str, &str)] = &[
    ("kinfold.yaml", include_str!("init/kinfold.yaml")),
    ("sources.yaml", include_str!("init/sources.yaml")),
    ("destinations.yaml", include_str!("init/destinations.yaml")),
    ("models/person.yaml", include_str!("init/person.yaml")),
    ("models/person_profile.yaml", include_str!("init/person_profile.yaml")),
    ("models/came_back.yaml", include_str!("init/came_back.yaml")),
    ("models/came_back_to_outbox.yaml", include_str!("init/came_back_to_outbox.yaml")),
    ("models/daily_visits.sql", include_str!("init/daily_visits.sql")),
    ("data/visits/visits.csv", include_str!("init/visits.csv")),
    ("data/customers/customers.csv", include_str!("init/customers.csv")),
    (".gitignore", "target/\n"),
];

pub(super) fn init(arguments: &InitArguments, printer: &Printer) -> Exit {
    let directory = arguments.directory.as_path();
    match make(directory) {
        Ok(()) => {
            let shown = directory.display();
            printer.data(&match arguments.output {
                OutputFormat::Text => format!(
                    "made {shown}\n\nnext:\n  cd {shown}\n  kinfold run\n  kinfold show came_back\n\n\
                     then put your own tables into sources.yaml and change the models\n"
                ),
                OutputFormat::Json => {
                    let files: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
                    format!("{:#}\n", json!({ "directory": shown.to_string(), "files": files, "schemas": SCHEMAS }))
                }
            });
            Exit::Ok
        }
        Err(error) => printer.error(&error),
    }
}

fn make(directory: &Path) -> Result<()> {
    let doing = || format!("cannot make {}", directory.display());
    if directory.exists() {
        let mut entries = std::fs::read_dir(directory).or_fail(ErrorKind::Usage, doing)?;
        if entries.next().is_some() {
            return Err(Error::new(ErrorKind::Usage, format!("`{}` is not empty", directory.display()))
                .with_help("name a folder that does not exist yet"));
        }
    }
    for (path, text) in FILES {
        let path = directory.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).or_fail(ErrorKind::Storage, doing)?;
        }
        std::fs::write(&path, text).or_fail(ErrorKind::Storage, doing)?;
    }
    schema::write(&directory.join(SCHEMAS)).map(drop)
}
