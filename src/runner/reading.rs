//! What `show`, `query` and `status` need: the committed tables, without binding any model.

use super::kept::kept;
use super::prepare::{Failure, Options, engine_of, loaded};
use super::run::{as_of, warehouse_of};
use super::tombstones::tombstones;
use crate::diagnostic::SourceMap;
use crate::engine::Reader;
use crate::model::Project;
use crate::warehouse::{RunRecord, Warehouse};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// A reader over what a run made visible; without a run, the newest. Source tables are as they are now.
///
/// # Errors
/// Findings when the project does not load; an error when there is no such run, or when storage fails.
pub async fn reader(options: &Options, at_run: Option<u64>) -> Result<Reader, Failure> {
    let (project, map, _) = loaded(options)?;
    // a question's answer is printed: no secret may be in it
    let mut project = (*project).clone();
    project.settings.secrets.clear();
    reader_of(options, (Arc::new(project), map), at_run).await
}

/// A reader that knows the secrets, for answers that nobody is shown.
///
/// # Errors
/// As [`reader`].
pub(super) async fn reader_with_secrets(options: &Options) -> Result<Reader, Failure> {
    let (project, map, _) = loaded(options)?;
    reader_of(options, (project, map), None).await
}

async fn reader_of(
    options: &Options,
    (project, map): (Arc<Project>, SourceMap),
    at_run: Option<u64>,
) -> Result<Reader, Failure> {
    let warehouse = warehouse_of(&project, options)?;
    let (snapshot, then) = match at_run {
        Some(run) => {
            let record = warehouse.run(run).await?;
            (record.snapshot(), logical_time(&warehouse, &record).await)
        }
        None => (warehouse.snapshot(None).await?, None),
    };
    let as_of = options.as_of.or(then).or(project.settings.as_of).unwrap_or(options.now);
    let mut engine = engine_of(options, &project, map, as_of)?;
    if let Some(tombstones) = tombstones(&warehouse).await? {
        engine.use_tombstones(tombstones);
    }
    if let Some(kept) = kept(&warehouse, &project).await? {
        engine.use_kept(kept);
    }
    Ok(Reader::new(engine, warehouse, snapshot, at_run))
}

/// The logical time of a run; that of the run whose rows were sent, for one that only sent them.
async fn logical_time(warehouse: &Warehouse, record: &RunRecord) -> Option<DateTime<Utc>> {
    match record.content.get("of_run").and_then(serde_json::Value::as_u64) {
        // the record of that run may have been vacuumed
        Some(run) => warehouse.run(run).await.ok().as_ref().and_then(as_of),
        None => as_of(record),
    }
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
