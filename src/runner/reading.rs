//! What `show`, `query` and `status` need: the committed tables, without binding any model.

use super::prepare::{Failure, Options, loaded};
use super::run::warehouse_of;
use crate::engine::{Engine, Reader};
use crate::warehouse::RunRecord;
use std::sync::Arc;

/// A reader over the project's newest committed run.
///
/// # Errors
/// Findings when the project does not load; an error when storage fails.
pub async fn reader(options: &Options) -> Result<Reader, Failure> {
    let (project, map, _) = loaded(options)?;
    // a question's answer is printed: no secret may be in it
    let mut project = (*project).clone();
    project.settings.secrets.clear();
    let project = Arc::new(project);
    let as_of = options.as_of.or(project.settings.as_of).unwrap_or(options.now);
    let warehouse = warehouse_of(&project, options)?;
    let snapshot = warehouse.snapshot(None).await?;
    let engine = Engine::open(
        Arc::clone(&project),
        map,
        &options.root,
        options.environment.clone(),
        as_of.timestamp_micros(),
        options.resources,
    )?;
    Ok(Reader::new(engine, warehouse, snapshot))
}

/// The newest runs, newest first.
///
/// # Errors
/// As [`reader`].
pub async fn last_runs(options: &Options, limit: usize) -> Result<Vec<RunRecord>, Failure> {
    let (project, _, _) = loaded(options)?;
    let warehouse = warehouse_of(&project, options)?;
    Ok(warehouse.runs(limit).await?)
}
