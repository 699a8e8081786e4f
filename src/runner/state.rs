//! The manifest of a project, and the earlier one that it is compared with.

use super::prepare::{Failure, Options, outline};
use crate::engine::{Engine, spelling};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::graph::{Changed, Graph};
use crate::model::Project;
use crate::plan::{Detail, FORMAT, Manifest, Writer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a run leaves its manifest, below the project's folder.
const DEFAULT: &str = "target/manifest.json";

/// The definitions of the project, without binding anything.
///
/// # Errors
/// Findings when the project does not load.
pub fn current_manifest(options: &Options) -> Result<Manifest, Failure> {
    let outline = outline(options)?;
    Ok(manifest(&outline.project, &outline.graph, &outline.engine))
}

/// Writes `target/manifest.json`.
///
/// # Errors
/// `Storage` when it cannot be written.
pub fn leave_manifest(root: &Path, manifest: &Manifest) -> Result<()> {
    let path = root.join(DEFAULT);
    let doing = || format!("cannot write {}", path.display());
    let text = serde_json::to_string_pretty(manifest).or_fail(ErrorKind::Failed, doing)?;
    std::fs::create_dir_all(root.join("target")).or_fail(ErrorKind::Storage, doing)?;
    std::fs::write(&path, text + "\n").or_fail(ErrorKind::Storage, doing)
}

/// The definitions of a project whose graph is known.
pub fn manifest(project: &Project, graph: &Graph, engine: &Engine) -> Manifest {
    Manifest::new(project, graph, &writer(project, engine, Detail::Shown))
}

/// The definitions with all their values, and those of data tests by table or model: to be hashed, not shown.
pub(super) fn exact(project: &Project, graph: &Graph, engine: &Engine) -> (Manifest, BTreeMap<String, Value>) {
    let writer = writer(project, engine, Detail::Exact);
    let tests = project.tested().into_iter().map(|owner| {
        let tests = writer.tests(project.tests_of(&owner));
        (owner, tests)
    });
    (Manifest::new(project, graph, &writer), tests.collect())
}

fn writer<'a>(project: &'a Project, engine: &'a Engine, detail: Detail) -> Writer<'a> {
    Writer { map: engine.source_map(), sql: &spelling, detail, consent: project.consent.as_ref() }
}

/// What differs from the earlier manifest, where a selector asks for it; `None` when there is none.
pub(super) fn changed(options: &Options, manifest: impl FnOnce() -> Manifest) -> Result<Option<Changed>> {
    let asked = options.select.iter().chain(&options.exclude).any(|s| s.contains("state:"));
    if !asked {
        return Ok(None);
    }
    let (path, named) = match &options.state {
        Some(path) if path.is_dir() => (path.join("manifest.json"), true),
        Some(path) => (path.clone(), true),
        None => (options.root.join(DEFAULT), false),
    };
    if !named && !path.exists() {
        return Ok(None);
    }
    Ok(Some(manifest().changed_since(&read(&path)?)))
}

fn read(path: &PathBuf) -> Result<Manifest> {
    let doing = || format!("cannot read the manifest {}", path.display());
    let help = "`kinfold manifest > manifest.json` writes one";
    let text = std::fs::read_to_string(path).or_fail(ErrorKind::Usage, doing).map_err(|e| e.with_help(help))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).or_fail(ErrorKind::Usage, doing).map_err(|e| e.with_help(help))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        let message = format!("{} has another format than this version reads", path.display());
        return Err(Error::new(ErrorKind::Usage, message).with_help(help));
    }
    serde_json::from_value(value).or_fail(ErrorKind::Usage, doing).map_err(|e| e.with_help(help))
}
