//! Syncs of a run: after the commit, one after another, each with its own state table.

use super::audit;
use super::forget::keys_to_delete;
use super::history;
use super::merged::merged_keys;
use super::prepare::Options;
use super::progress::Progress;
use super::report::{RunReport, SyncReport};
use super::run::{Held, begin, now};
use super::stages::write;
use super::suppressed::suppressed;
use crate::engine::{Engine, JudgedRows, SyncRows, Why};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Destination, DestinationKind, ModelKind, Project, SyncModel};
use crate::plan::{Action, Plan};
use crate::sync::destinations::delta::Delta;
use crate::sync::destinations::files::FilesDestination;
use crate::sync::destinations::http::Http;
use crate::sync::destinations::postgres::Postgres;
use crate::sync::{
    self, Fate, Incoming, IncomingRows, NewState, Pacing, Previous, SyncCounts, SyncOutcome, SyncRequest, SyncSample,
    preview_sync, run_sync, state_schema,
};
use crate::warehouse::{Location, Run, Snapshot, StagedTable, Warehouse, WriteMode};
use chrono::Utc;
use deltalake_core::arrow::datatypes::SchemaRef;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Sends what changed and commits the syncs' states in a run of their own.
pub(super) async fn run(
    engine: &Arc<Engine>,
    project: &Project,
    plan: &Plan,
    (warehouse, held): (&Arc<Warehouse>, &Held),
    options: &Options,
    progress: &dyn Progress,
    report: &mut RunReport,
) -> Result<()> {
    let run = begin(warehouse, options, progress).await?;
    held.keep(&run);
    let staged = match send_all(engine, project, plan, &run, options, progress, report).await {
        Ok(staged) => staged,
        Err(error) => {
            // the error is what to tell; a lease that is not given back ends by expiry
            let _ = run.release().await;
            return Err(error);
        }
    };
    let content = json!({"kind": "sync", "of_run": report.run, "syncs": &report.syncs});
    run.commit(staged, content, Utc::now()).await?;
    Ok(())
}

/// Sends what changed, sync after sync, and stages what is known of the destinations then.
async fn send_all(
    engine: &Engine,
    project: &Project,
    plan: &Plan,
    run: &Run,
    options: &Options,
    progress: &dyn Progress,
    report: &mut RunReport,
) -> Result<Vec<StagedTable>> {
    let mut staged = Vec::new();
    for stage in plan.stages.iter().filter(|s| s.action == Action::Sync) {
        let Some(ModelKind::Sync(model)) = project.models.get(&stage.model).map(|m| &m.kind) else { continue };
        let withheld = report.withheld.iter().any(|w| w.model == stage.model);
        if !model.enabled || withheld {
            continue;
        }
        let destination = &model.to.value;
        let begins = json!({"sync": &stage.model, "destination": destination, "epoch": run.epoch()});
        audit::note(run.warehouse(), options, "sync", begins).await?;
        let started = Instant::now();
        let too_small = engine.too_small(&model.from.value);
        let mut reasons = None;
        let one = send(engine, project, &stage.model, model, run, options, &mut reasons).await;
        let mut sync = sync_report(&stage.model, model, &one, started.elapsed().as_secs_f64());
        if too_small.is_some() && sync.sent == 0 && one.as_ref().is_ok_and(|o| o.failure.is_none()) {
            "withheld".clone_into(&mut sync.result);
        }
        let owed = one.as_ref().ok().and_then(|outcome| owed(outcome.counts.owed));
        let notes: Vec<String> = too_small.into_iter().chain(reasons).chain(owed).collect();
        sync.note = (!notes.is_empty()).then(|| notes.join("; "));
        audit::note(run.warehouse(), options, "sent", facts(&sync, run.epoch())).await?;
        progress.synced(&sync);
        report.syncs.push(sync);
        if let Ok(SyncOutcome { state: Some(state), .. }) = one {
            staged.push(write_state(run, &stage.model, &state).await?);
        }
    }
    let history = history::syncs(report.run, &report.syncs)?;
    staged.push(write(run, &history).await?);
    Ok(staged)
}

/// What the audit log keeps of a sync that ended; why it failed may hold values.
fn facts(sync: &SyncReport, epoch: u64) -> serde_json::Value {
    json!({
        "sync": &sync.sync, "destination": &sync.destination, "epoch": epoch, "result": &sync.result, "sent": sync.sent,
        "acknowledged": sync.acknowledged, "rejected": sync.rejected, "deleted": sync.deleted,
        "withheld": sync.withheld,
    })
}

fn state_table(sync: &str) -> String {
    format!("kinfold.sync_{sync}")
}

async fn write_state(run: &Run, sync: &str, state: &NewState) -> Result<StagedTable> {
    let table = state_table(sync);
    let writer = run.writer(&table, &state_schema(), WriteMode::Overwrite)?.in_small_groups();
    let written = Box::pin(writer.write_stream(state.batches()?)).await;
    written.map_err(|e| e.context(format!("cannot write the table `{table}`")))
}

/// What a sync needs: its rows, and where they go.
struct Ready {
    schema: SchemaRef,
    withheld: Withheld,
    /// Keys of which nothing may be there any more.
    withdrawn: BTreeSet<String>,
    /// Keys of entities that are part of others, and the keys of these.
    merged: BTreeMap<String, String>,
    /// The audience is too small to be sent.
    hold: bool,
    target: Box<dyn sync::Destination>,
}

/// Rows that are held back, by reason; counted while the rows are compared.
type Withheld = Arc<Mutex<BTreeMap<Why, u64>>>;

/// The rows as a sync takes them.
fn incoming(made: SyncRows, withheld: &Withheld) -> IncomingRows<'static> {
    let withheld = Arc::clone(withheld);
    let next = |mut made: SyncRows| async move {
        let next = made.next().await?;
        Ok(next.map(|rows| (rows, made)))
    };
    let fates = move |JudgedRows { rows, held }: JudgedRows| {
        let mut withheld = withheld.lock().unwrap_or_else(PoisonError::into_inner);
        for why in held.iter().flatten() {
            *withheld.entry(*why).or_default() += 1;
        }
        let fate = |why: Option<Why>| match why {
            None => Fate::Sent,
            Some(why) if why.withdraws() => Fate::Withdrawn,
            Some(_) => Fate::Held,
        };
        Incoming { rows, fates: held.into_iter().map(fate).collect() }
    };
    futures::stream::try_unfold(made, next).map_ok(fates).boxed()
}

async fn ready(
    engine: &Engine,
    project: &Project,
    name: &str,
    model: &SyncModel,
    (warehouse, base): (&Warehouse, &Snapshot),
    options: &Options,
) -> Result<(Ready, IncomingRows<'static>)> {
    let destination = project
        .destinations
        .iter()
        .find(|d| d.name.value == model.to.value)
        .ok_or_else(|| Error::new(ErrorKind::Usage, format!("no destination `{}`", model.to.value)))?;
    let people = suppressed(project, warehouse, base).await?;
    let made = engine.sync_rows(name, &people).await?;
    let withdrawn = keys_to_delete(warehouse).await?.remove(name).unwrap_or_default();
    let mut merged = merged_keys(engine, project, model, (warehouse, base)).await?;
    // whoever withdrew is deleted and not renamed
    merged.retain(|key, _| !withdrawn.contains(key));
    let hold = engine.too_small(&model.from.value).is_some();
    let (schema, withheld, target) =
        (Arc::clone(&made.schema), Withheld::default(), open(destination, project, options)?);
    let rows = incoming(made, &withheld);
    Ok((Ready { schema, withheld, withdrawn, merged, hold, target }, rows))
}

/// A sync's state table as committed.
async fn previous(name: &str, warehouse: &Warehouse, base: &Snapshot) -> Result<Previous> {
    Ok(match base.tables.get(&state_table(name)) {
        Some(at) => Previous::Stored(warehouse.table(at).await?, Arc::clone(warehouse.store())),
        None => Previous::none(),
    })
}

fn request<'a>(
    (name, model): (&'a str, &'a SyncModel),
    ready: &'a Ready,
    options: &Options,
    secret: [u8; 32],
    epoch: u64,
) -> SyncRequest<'a> {
    SyncRequest {
        sync: name,
        destination: &model.to.value,
        mode: model.mode,
        full: options.resend.full,
        reset: options.resend.reset,
        max_delete_percent: model.max_delete_percent,
        retry_rejected: options.resend.rejected,
        fail_above_percent: model.fail_above_percent,
        rows_per_batch: model.batch.rows.map(|rows| rows as usize),
        pacing: pacing(model),
        secret,
        epoch,
        now: Utc::now(),
        schema: Arc::clone(&ready.schema),
        withdrawn: &ready.withdrawn,
        merged: &ready.merged,
        hold: ready.hold,
    }
}

async fn send(
    engine: &Engine,
    project: &Project,
    name: &str,
    model: &SyncModel,
    run: &Run,
    options: &Options,
    reasons: &mut Option<String>,
) -> Result<SyncOutcome> {
    let (ready, rows) = ready(engine, project, name, model, (run.warehouse(), run.base()), options).await?;
    let secret = run.warehouse().secret("sync").await?;
    let previous = previous(name, run.warehouse(), run.base()).await?;
    let request = request((name, model), &ready, options, secret, run.epoch());
    let outcome = run_sync(run.warehouse().state(), &*ready.target, &request, rows, previous).await;
    *reasons = told(&ready.withheld);
    outcome
}

/// What a sync would send, from the rows that the engine holds, and why it would hold rows back; sends and writes nothing.
pub(super) async fn preview(
    engine: &Engine,
    project: &Project,
    name: &str,
    model: &SyncModel,
    state: (&Warehouse, &Snapshot),
    options: &Options,
) -> Result<(SyncCounts, Vec<SyncSample>, Option<String>)> {
    let (ready, rows) = ready(engine, project, name, model, state, options).await?;
    let previous = previous(name, state.0, state.1).await?;
    // nothing is sent, so that no idempotency key is made from the secret
    let request = request((name, model), &ready, options, [0; 32], 0);
    let (counts, samples) = preview_sync(state.0.state(), &*ready.target, &request, rows, previous).await?;
    let reasons: Vec<String> = told(&ready.withheld).into_iter().chain(owed(counts.owed)).collect();
    Ok((counts, samples, (!reasons.is_empty()).then(|| reasons.join("; "))))
}

/// Why rows were held back; nothing if none were.
fn told(withheld: &Withheld) -> Option<String> {
    let withheld = withheld.lock().unwrap_or_else(PoisonError::into_inner);
    let mut told = Vec::new();
    for by in ["suppression withholds", "consent withholds", "small cells withhold"] {
        let these = withheld.iter().filter(|(why, _)| why.by() == by);
        let mut by_reason: Vec<(&str, u64)> = these.map(|(why, count)| (why.words(), *count)).collect();
        by_reason.sort_unstable();
        let total: u64 = by_reason.iter().map(|(_, count)| count).sum();
        let reasons: Vec<String> = by_reason.iter().map(|(why, count)| format!("{count} {why}")).collect();
        if total > 0 {
            told.push(format!("{by} {total}: {}", reasons.join(", ")));
        }
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// Deletes that the destination cannot do.
fn owed(rows: u64) -> Option<String> {
    (rows > 0).then(|| format!("owes {rows} deletes, which the destination cannot do"))
}

fn open(destination: &Destination, project: &Project, options: &Options) -> Result<Box<dyn sync::Destination>> {
    match &destination.kind {
        DestinationKind::Files { location, format } => {
            // the place as the author wrote it: moving the project's folder is no new destination
            let place = location.value.clone();
            let location = Location::parse(&location.value, &options.root)?;
            Ok(Box::new(FilesDestination::open(&location, &options.environment, *format)?.at_place(&place)))
        }
        DestinationKind::Delta { location } => {
            let place = location.value.as_str();
            let location = Location::parse(place, &options.root)?;
            Ok(Box::new(Delta::open(&location, &options.environment, place, now)?))
        }
        DestinationKind::Http(http) => {
            Ok(Box::new(Http::open(http.as_ref().clone(), project.settings.secrets.clone())?))
        }
        DestinationKind::Postgres { url, schema } => Ok(Box::new(Postgres::open(&url.value, schema)?)),
    }
}

/// What a sync says about speed and patience.
fn pacing(model: &SyncModel) -> Pacing {
    let usual = Pacing::default();
    Pacing {
        concurrency: model.batch.concurrency.map_or(usual.concurrency, |c| c as usize),
        per_second: model.batch.per_second,
        retry_for: model
            .retry_for
            .as_ref()
            .map_or(usual.retry_for, |d| std::time::Duration::from_micros(d.value.micros.unsigned_abs())),
        ..usual
    }
}

fn fail(report: &mut SyncReport, error: &Error) {
    report.refused = error.kind() == ErrorKind::Refused;
    let cause = std::error::Error::source(error).map(|c| format!(": {c}")).unwrap_or_default();
    report.error = Some(format!("{error}{cause}"));
    report.help = error.help().map(str::to_owned);
}

fn empty_report(name: &str, model: &SyncModel, seconds: f64) -> SyncReport {
    SyncReport {
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
        note: None,
        again: 0,
        seconds,
        delivery_seconds: 0.0,
        refused: false,
        error: None,
        help: None,
    }
}

fn sync_report(name: &str, model: &SyncModel, outcome: &Result<SyncOutcome>, seconds: f64) -> SyncReport {
    let mut report = empty_report(name, model, seconds);
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
            report.again = counts.again;
            report.delivery_seconds = outcome.delivery.as_secs_f64();
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
