//! `schemas.lock` of a project: reading it, and writing it from the data.

use super::prepare::{Failure, Options, outline};
use crate::diagnostic::{Diagnostic, Severity, SourceMap};
use crate::engine::SchemaLock;
use crate::error::{Context, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name of the lock file in the project's folder.
pub const LOCK: &str = "schemas.lock";

/// What looking at the data found.
pub struct Refreshed {
    /// Tables that were looked at.
    pub tables: usize,
    /// What differs from the lock, by table, a line each.
    pub differences: BTreeMap<String, Vec<String>>,
    /// Warnings about the files.
    pub warnings: Vec<Diagnostic>,
    /// The author's files.
    pub map: SourceMap,
}

/// The lock of a project; empty when there is none.
///
/// # Errors
/// `Usage` when it cannot be read.
pub(super) fn read(root: &Path) -> Result<SchemaLock> {
    let path = root.join(LOCK);
    match std::fs::read_to_string(&path) {
        Ok(text) => SchemaLock::parse(&text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(SchemaLock::default()),
        Err(e) => Err(e).or_fail(ErrorKind::Usage, || format!("cannot read {}", path.display())),
    }
}

/// Looks at the files of every enabled source table and, unless `only_compare`, writes the lock.
///
/// # Errors
/// Findings when a table cannot be read; the lock then stays as it was.
pub async fn refresh_schemas(options: &Options, only_compare: bool) -> Result<Refreshed, Failure> {
    let before = match read(&options.root) {
        Ok(lock) => lock,
        // a damaged lock is what a refresh is for
        Err(_) if !only_compare => SchemaLock::default(),
        Err(error) => return Err(error.into()),
    };
    let mut outline = outline(options)?;
    let mut tables = BTreeSet::new();
    for source in &outline.project.sources {
        let enabled = source.tables.iter().filter(|t| t.enabled);
        tables.extend(enabled.map(|t| format!("{}.{}", source.name.value, t.name.value)));
    }
    let (now, findings) = outline.engine.look_at_sources(&tables).await?;
    let map = outline.engine.source_map().clone();
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::Findings(findings, Box::new(map)));
    }
    let differences = before.differences(&now);
    if !only_compare {
        let path = options.root.join(LOCK);
        std::fs::write(&path, now.to_text())
            .or_fail(ErrorKind::Storage, || format!("cannot write {}", path.display()))?;
    }
    Ok(Refreshed { tables: now.len(), differences, warnings: findings, map })
}
