//! Syncs of a run: after the commit, one after another, each with its own state table.

use super::history;
use super::prepare::Options;
use super::progress::Progress;
use super::report::{RunReport, SyncReport};
use super::run::begin;
use super::stages::write;
use crate::engine::{Engine, Output};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Destination, DestinationKind, ModelKind, Project, SyncModel};
use crate::plan::{Action, Plan};
use crate::sync::destinations::files::FilesDestination;
use crate::sync::{SyncOutcome, SyncRequest, run_sync, state_schema};
use crate::warehouse::{Location, Run, Warehouse, WriteMode};
use chrono::Utc;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// Sends what changed and commits the syncs' states in a run of their own.
pub(super) async fn run(
    engine: &Arc<Engine>,
    project: &Project,
    plan: &Plan,
    warehouse: &Arc<Warehouse>,
    options: &Options,
    progress: &dyn Progress,
    report: &mut RunReport,
) -> Result<()> {
    let run = begin(warehouse, options, progress).await?;
    let keep_alive = run.keep_alive(Utc::now);
    let mut staged = Vec::new();
    for stage in plan.stages.iter().filter(|s| s.action == Action::Sync) {
        let Some(ModelKind::Sync(model)) = project.models.get(&stage.model).map(|m| &m.kind) else { continue };
        let withheld = report.withheld.iter().any(|w| w.model == stage.model);
        if !model.enabled || withheld {
            continue;
        }
        let started = Instant::now();
        let one = send(engine, project, &stage.model, model, &run, options).await;
        let sync = sync_report(&stage.model, model, &one, started.elapsed().as_secs_f64());
        progress.synced(&sync);
        report.syncs.push(sync);
        if let Ok(outcome) = one
            && outcome.state_changed
        {
            staged.push(write(&run, &state_output(&stage.model, outcome)).await?);
        }
    }
    let history = history::syncs(report.run, &report.syncs)?;
    staged.push(write(&run, &history).await?);
    let content = json!({"kind": "sync", "of_run": report.run, "syncs": &report.syncs});
    run.commit(staged, content, Utc::now()).await?;
    drop(keep_alive);
    Ok(())
}

fn state_table(sync: &str) -> String {
    format!("kinfold.sync_{sync}")
}

fn state_output(sync: &str, outcome: SyncOutcome) -> Output {
    Output {
        table: state_table(sync),
        schema: state_schema(),
        batches: vec![outcome.state],
        mode: WriteMode::Overwrite,
    }
}

async fn send(
    engine: &Engine,
    project: &Project,
    name: &str,
    model: &SyncModel,
    run: &Run,
    options: &Options,
) -> Result<SyncOutcome> {
    let destination = project
        .destinations
        .iter()
        .find(|d| d.name.value == model.to.value)
        .ok_or_else(|| Error::new(ErrorKind::Usage, format!("no destination `{}`", model.to.value)))?;
    let (schema, rows) = engine.sync_rows(name).await?;
    let previous = match run.base().tables.get(&state_table(name)) {
        Some(at) => run.warehouse().read_all(&*run.warehouse().table(at).await?).await?,
        None => Vec::new(),
    };
    let target = open(destination, options)?;
    let request = SyncRequest {
        sync: name,
        destination: &model.to.value,
        mode: model.mode,
        full: false,
        max_delete_percent: model.max_delete_percent,
        rows_per_batch: None,
        secret: run.warehouse().secret("sync").await?,
        epoch: run.epoch(),
        now: Utc::now(),
        schema,
        rows: &rows,
        withheld: 0,
        previous: &previous,
    };
    run_sync(run.warehouse().state(), &target, &request).await
}

fn open(destination: &Destination, options: &Options) -> Result<FilesDestination> {
    match &destination.kind {
        DestinationKind::Files { location, format } => {
            // the place as the author wrote it: moving the project's folder is no new destination
            let place = location.value.clone();
            let location = Location::parse(&location.value, &options.root)?;
            Ok(FilesDestination::open(&location, &options.environment, *format)?.at_place(&place))
        }
    }
}

fn fail(report: &mut SyncReport, error: &Error) {
    report.refused = error.kind() == ErrorKind::Refused;
    let cause = std::error::Error::source(error).map(|c| format!(": {c}")).unwrap_or_default();
    report.error = Some(format!("{error}{cause}"));
    report.help = error.help().map(str::to_owned);
}

fn sync_report(name: &str, model: &SyncModel, outcome: &Result<SyncOutcome>, seconds: f64) -> SyncReport {
    let mut report = SyncReport {
        sync: name.to_owned(),
        destination: model.to.value.clone(),
        result: "failure".to_owned(),
        read: 0,
        inserted: 0,
        updated: 0,
        deleted: 0,
        unchanged: 0,
        sent: 0,
        acknowledged: 0,
        rejected: 0,
        withheld: 0,
        seconds,
        refused: false,
        error: None,
        help: None,
    };
    match outcome {
        Err(error) => fail(&mut report, error),
        Ok(outcome) => {
            let counts = &outcome.counts;
            report.read = counts.read;
            report.inserted = counts.inserted;
            report.updated = counts.updated;
            report.deleted = counts.deleted;
            report.unchanged = counts.unchanged;
            report.sent = counts.sent;
            report.acknowledged = counts.acknowledged;
            report.rejected = counts.rejected;
            report.withheld = counts.withheld;
            if let Some(error) = &outcome.failure {
                fail(&mut report, error);
            }
            let whole = outcome.failure.is_none();
            let result = if whole && counts.rejected == 0 {
                "success"
            } else if counts.acknowledged > 0 {
                "partial"
            } else {
                "failure"
            };
            result.clone_into(&mut report.result);
        }
    }
    report
}
