//! One run from begin to end.

use super::history;
use super::prepare::{Failure, Options, Prepared};
use super::progress::Progress;
use super::report::{RunReport, Stage, Withheld};
use super::stages;
use super::state::manifest;
use super::syncs;
use crate::diagnostic::Severity;
use crate::engine::{CHANGES, CheckStatus, Engine, RunContext, SourceFileAt, validate_text_tables};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::graph::Graph;
use crate::model::{ModelKind, Project};
use crate::plan::{Action, Manifest, Plan};
use crate::warehouse::{KeepAlive, Location, Run, RunRecord, RunRequest, RunStatus, Snapshot, Warehouse};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::RecordBatch;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a lease lasts without being renewed.
const LEASE_SECONDS: u32 = 60;

/// The warehouse that a project names.
///
/// # Errors
/// `Usage` when the location cannot be understood.
pub fn warehouse_of(project: &Project, options: &Options) -> Result<Arc<Warehouse>> {
    let location = Location::parse(&project.settings.warehouse, &options.root)?;
    Ok(Arc::new(Warehouse::open(&location, &options.environment)?.with_workers(options.resources.threads)))
}

/// Executes a prepared project.
///
/// # Errors
/// Findings when data break what definitions promise; errors when storage or a query fails. Nothing is
/// committed then. A failed data test is part of the report: what does not depend on it is committed.
pub async fn run(prepared: Prepared, options: &Options, progress: &dyn Progress) -> Result<RunReport, Failure> {
    let clock = Instant::now();
    let warehouse = warehouse_of(&prepared.project, options)?;
    let held = Held::default();
    let work = async |run| build_and_commit(prepared, options, progress, &warehouse, run, clock, &held).await;
    until_stopped(&warehouse, options, progress, &held, work).await
}

/// Begins a run and does its work, until the user stops it; then the warehouse is given back.
pub(super) async fn until_stopped<T>(
    warehouse: &Arc<Warehouse>,
    options: &Options,
    progress: &dyn Progress,
    held: &Held,
    work: impl AsyncFnOnce(Run) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // installed before the lease is taken, so that no signal leaves it behind
    let mut stop = StopSignal::install()?;
    let run = begin(warehouse, options, progress).await?;
    held.keep(&run);
    tokio::select! {
        outcome = work(run) => outcome,
        () = stop.received() => {
            // the run was dropped with its future; without this the next one would wait for the lease to expire
            held.release().await;
            let message = if held.committing.load(Ordering::Relaxed) {
                "stopped while committing or sending; `kinfold runs` tells what is visible"
            } else {
                "stopped; nothing of this run was committed"
            };
            Err(Failure::Error(Error::new(ErrorKind::Interrupted, message).with_help("run again to go on")))
        }
    }
}

pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The leases that a run holds, one for the models and one for the syncs, and how far it is: what must be known when
/// it is stopped.
#[derive(Debug, Default)]
pub(super) struct Held {
    leases: Mutex<Vec<KeepAlive>>,
    /// Whether something may be visible, sent or removed.
    pub(super) committing: AtomicBool,
}

impl Held {
    /// Keeps a run alive from now on.
    pub(super) fn keep(&self, run: &Run) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).push(run.keep_alive(now));
    }

    /// Gives everything back; what cannot be given back ends by expiry.
    async fn release(&self) {
        let leases = std::mem::take(&mut *self.leases.lock().unwrap_or_else(PoisonError::into_inner));
        for lease in leases {
            let _ = lease.release().await;
        }
    }
}

/// Interrupt and termination: people press Ctrl-C, schedulers send SIGTERM.
struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    fn install() -> Result<Self> {
        let install = |kind| signal(kind).or_fail(ErrorKind::Failed, || "cannot listen to signals".to_owned());
        Ok(Self { interrupt: install(SignalKind::interrupt())?, terminate: install(SignalKind::terminate())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Takes the lease and tells of runs that were cut off before.
pub(super) async fn begin(warehouse: &Arc<Warehouse>, options: &Options, progress: &dyn Progress) -> Result<Run> {
    let holder = format!("process {} on {}", std::process::id(), host(options));
    let run = warehouse.begin(RunRequest { holder, now: now(), lease_s: LEASE_SECONDS }).await?;
    for recovered in run.recovered() {
        progress.note(&recovered.message());
    }
    Ok(run)
}

fn host(options: &Options) -> String {
    options.environment.get("HOSTNAME").cloned().unwrap_or_else(|| "this machine".to_owned())
}

async fn build_and_commit(
    prepared: Prepared,
    options: &Options,
    progress: &dyn Progress,
    warehouse: &Arc<Warehouse>,
    run: Run,
    clock: Instant,
    held: &Held,
) -> Result<RunReport, Failure> {
    if let Err(failure) = check_first(&prepared, progress, warehouse, &run).await {
        return Err(given_back(run, failure).await);
    }
    let Prepared { project, graph, order, selected, engine, as_of, .. } = prepared;
    let engine = Arc::new(engine);
    let plan = Plan::new(&project, &graph, &order, &selected);
    let context = RunContext {
        number: run.number(),
        warehouse: Arc::clone(warehouse),
        base: run.base().clone(),
        selected: plan.built(),
    };
    progress.begun(run.number(), plan.built().len());
    let number = run.number();
    let mut report = RunReport {
        format: 1,
        run: number,
        project: project.settings.name.clone(),
        warehouse: project.settings.warehouse.clone(),
        as_of,
        started_at: options.now,
        ended_at: options.now,
        source_files: 0,
        source_bytes: 0,
        nodes: Vec::new(),
        checks: Vec::new(),
        withheld: Vec::new(),
        syncs: Vec::new(),
        stages: BTreeMap::new(),
        failure: None,
    };
    measure_sources(&engine, &graph.tables_of(&plan.built()), &mut report);
    report.stages.insert("prepare".to_owned(), Stage { wall: clock.elapsed().as_secs_f64() });
    let run = Arc::new(run);
    let done = stages::build(&engine, &plan, Some(&run), &context, progress).await;
    let run = Arc::into_inner(run).ok_or_else(|| Error::new(ErrorKind::Failed, "a table is still being written"))?;
    let done = match done {
        Ok(done) => done,
        Err(error) => return Err(given_back(run, error).await),
    };
    held.committing.store(true, Ordering::Relaxed);
    let used = Used::new(&project, &graph, &engine, &plan, &done.withheld);
    commit(run, done, &engine, &used, &context, &mut report).await?;
    if plan.count(&Action::Sync) > withheld_syncs(&plan, &report) {
        let started = Instant::now();
        // the models are committed: what stops the syncs is part of the report, not the end of it
        let sent = syncs::run(&engine, &project, &plan, (warehouse, held), options, progress, &mut report).await;
        report.failure = sent.err();
        report.stages.insert("sync".to_owned(), Stage { wall: started.elapsed().as_secs_f64() });
    }
    report.ended_at = now();
    Ok(report)
}

/// Gives the lease of a failed run back, so that the next one need not wait for it to expire.
async fn given_back(run: Run, failure: impl Into<Failure>) -> Failure {
    let _ = run.release().await;
    failure.into()
}

/// Syncs that must not be sent, because what they send was not committed.
fn withheld_syncs(plan: &Plan, report: &RunReport) -> usize {
    let withheld = |name: &String| report.withheld.iter().any(|w| w.model == *name);
    plan.stages.iter().filter(|s| s.action == Action::Sync && withheld(&s.model)).count()
}

fn measure_sources(engine: &Engine, tables: &BTreeSet<String>, report: &mut RunReport) {
    for table in tables {
        let (files, bytes) = engine.source_size(table).unwrap_or((0, 0));
        report.source_files += files as u64;
        report.source_bytes += bytes;
    }
}

/// What can stop a run before it builds: time that goes back, and data that break their declarations.
async fn check_first(
    prepared: &Prepared,
    progress: &dyn Progress,
    warehouse: &Warehouse,
    run: &Run,
) -> Result<(), Failure> {
    not_back_in_time(prepared.as_of, warehouse, run).await?;
    let tables = prepared.graph.tables_of(&prepared.selected);
    let findings = validate_text_tables(&prepared.engine, &tables).await?;
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::Findings(findings, Box::new(prepared.engine.source_map().clone())));
    }
    if !findings.is_empty() {
        progress.warnings(&findings, prepared.engine.source_map());
    }
    Ok(())
}

/// The logical time that a record names; `None` for one of syncs.
pub(super) fn as_of(record: &RunRecord) -> Option<DateTime<Utc>> {
    record.content.get("as_of")?.as_str()?.parse().ok()
}

/// The logical time of the newest committed run; `None` before the first.
pub(super) async fn last_as_of(warehouse: &Warehouse, base: &Snapshot) -> Result<Option<DateTime<Utc>>> {
    if base.run.is_none() {
        return Ok(None);
    }
    // records of syncs and of abandoned runs lie between; there are rarely many in a row
    for limit in [20, usize::MAX] {
        let records = warehouse.runs(limit).await?;
        let last = records.iter().filter(|r| r.status == RunStatus::Committed).find_map(as_of);
        if last.is_some() || records.len() < limit {
            return Ok(last);
        }
    }
    Ok(None)
}

async fn not_back_in_time(as_of: DateTime<Utc>, warehouse: &Warehouse, run: &Run) -> Result<()> {
    match last_as_of(warehouse, run.base()).await? {
        Some(last) if as_of < last => Err(Error::new(
            ErrorKind::Usage,
            format!("as_of {} is before that of the last run, {}", as_of.to_rfc3339(), last.to_rfc3339()),
        )
        .with_help("logical time never moves back in a warehouse; use another one (`warehouse:` or a target) to look at the past")),
        _ => Ok(()),
    }
}

/// What a run was made from: for the history, and for the next plan.
struct Used {
    project: Arc<Project>,
    manifest: Manifest,
    /// Models, source tables and destinations that took part.
    names: BTreeSet<String>,
    files: BTreeMap<String, Vec<SourceFileAt>>,
}

impl Used {
    fn new(project: &Arc<Project>, graph: &Graph, engine: &Engine, plan: &Plan, withheld: &[Withheld]) -> Self {
        let withheld: BTreeSet<&String> = withheld.iter().map(|w| &w.model).collect();
        let kept = |names: BTreeSet<String>| names.into_iter().filter(|n| !withheld.contains(n)).collect();
        let (built, synced): (BTreeSet<String>, BTreeSet<String>) = (kept(plan.built()), kept(plan.synced()));
        let tables = graph.tables_of(&built);
        let to = synced.iter().filter_map(|name| match &project.models.get(name)?.kind {
            ModelKind::Sync(sync) => Some(history::destination(&sync.to.value)),
            _ => None,
        });
        let mut names: BTreeSet<String> = to.collect();
        names.extend(built.iter().chain(&synced).chain(&tables).cloned());
        let files = tables.iter().map(|table| (table.clone(), engine.source_files(table))).collect();
        Self { project: Arc::clone(project), manifest: manifest(project, graph, engine), names, files }
    }
}

/// Rows of a table as they were committed before this run.
async fn rows(context: &RunContext, table: &str) -> Result<Vec<RecordBatch>> {
    match context.base.tables.get(table) {
        Some(at) => context.warehouse.read_all(&*context.warehouse.table(at).await?).await,
        None => Ok(Vec::new()),
    }
}

async fn commit(
    run: Run,
    done: stages::Done,
    engine: &Engine,
    used: &Used,
    context: &RunContext,
    report: &mut RunReport,
) -> Result<(), Failure> {
    let started = Instant::now();
    let stages::Done { mut staged, mut appended, nodes, checks, withheld } = done;
    for node in &nodes {
        let stage = report.stages.entry(history::kind(&node.facts).to_owned()).or_default();
        stage.wall += node.seconds;
    }
    let written = async {
        let mut outputs = vec![
            history::runs(context.number, report.as_of, report.started_at, now(), nodes.len())?,
            history::nodes(context.number, &nodes)?,
        ];
        if !checks.is_empty() {
            outputs.push(history::checks(context.number, &checks)?);
            outputs.push(history::test_failures(context.number, &checks)?);
        }
        for output in outputs {
            appended.entry(output.table.clone()).or_default().push(output);
        }
        let changes = appended.get(CHANGES).map_or(&[][..], Vec::as_slice);
        if let Some(history) = engine.membership_history(changes, context).await? {
            staged.push(stages::write(&run, &history).await?);
        }
        staged.extend(stages::write_appended(&run, appended).await?);
        let number = context.number;
        for output in [
            history::columns(engine, &used.project, &nodes, &rows(context, "kinfold.columns").await?)?,
            history::definitions(&used.manifest, &used.names, number, &rows(context, "kinfold.definitions").await?)?,
            history::files(&used.files, number, &rows(context, "kinfold.files").await?)?,
        ] {
            staged.push(stages::write(&run, &output).await?);
        }
        // with an audience withheld the table of the last whole run stays
        let whole = withheld.iter().all(|w| !engine.is_audience(&w.model));
        if whole && let Some(overlap) = engine.overlap(context)? {
            staged.push(stages::write(&run, &overlap).await?);
        }
        Ok::<_, Error>(staged)
    };
    let staged = match written.await {
        Ok(staged) => staged,
        Err(error) => return Err(given_back(run, error).await),
    };
    let content = json!({
        "kind": "run",
        "as_of": report.as_of,
        "started_at": report.started_at,
        "models": nodes.len(),
        "nodes": &nodes,
        "withheld": &withheld,
        "failed_tests": checks.iter().filter(|c| c.status == CheckStatus::Fail).count(),
    });
    run.commit(staged, content, now()).await?;
    report.nodes = nodes;
    report.checks = checks;
    report.withheld = withheld;
    report.stages.insert("write".to_owned(), Stage { wall: started.elapsed().as_secs_f64() });
    Ok(())
}
