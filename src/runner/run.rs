//! One run from begin to end.

use super::audit;
use super::history;
use super::kept::still_current;
use super::prepare::{Failure, Options, Prepared};
use super::progress::Progress;
use super::report::{NodeReport, RunReport, Stage, UnchangedReport, Withheld};
use super::stages;
use super::syncs;
use super::work::{Decided, Past, Question, contents_by_file, decide};
use crate::diagnostic::Severity;
use crate::engine::{
    CHANGES, CheckResult, CheckStatus, Engine, KeptFile, Output, Partials, RunContext, SourceFileAt,
    validate_text_tables,
};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::graph::{Graph, tests_stage};
use crate::model::{ModelKind, Project};
use crate::plan::{Action, Made, Manifest, OVERLAP, Plan, Work};
use crate::warehouse::{KeepAlive, Location, Run, RunRecord, RunRequest, RunStatus, Snapshot, StagedTable, Warehouse};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Name of the warehouse's key for the hashes of inputs.
pub(super) const INPUTS_KEY: &str = "inputs";
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
    let (past, decided) = match check_first(&prepared, options, progress, warehouse, &run).await {
        Ok(found) => found,
        Err(failure) => return Err(given_back(run, failure).await),
    };
    let Prepared { project, graph, order, engine, as_of, .. } = prepared;
    let engine = Arc::new(engine);
    let plan = Plan::of_work(&project, &graph, &order, &decided.work);
    let partials = match partials(&project, warehouse, options, &run, (&past, &decided)).await {
        Ok(partials) => partials,
        Err(error) => return Err(given_back(run, error).await),
    };
    let (number, base, selected) = (run.number(), run.base().clone(), plan.built());
    let updates = Arc::new(decided.work.updates.clone());
    let context = RunContext { number, warehouse: Arc::clone(warehouse), base, selected, partials, updates };
    progress.begun(number, plan.built().len());
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
        partial_bytes: 0,
        nodes: Vec::new(),
        unchanged: unchanged(&project, &plan, &past),
        untested: decided.work.passed.clone(),
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
    let (run, kept) = keep(&engine, &decided, run).await?;
    held.committing.store(true, Ordering::Relaxed);
    let used = Used { kept, ..Used::new(&project, &graph, &plan, decided, past, &done.withheld) };
    commit(run, done, &engine, used, &context, &mut report).await?;
    audit::note(warehouse, options, "run", facts(&report)).await?;
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

/// The partial states that a run takes and makes, unless the project wants none. Where everything is made again, no
/// older ones are taken.
async fn partials(
    project: &Project,
    warehouse: &Warehouse,
    options: &Options,
    run: &Run,
    (past, decided): (&Past, &Decided),
) -> Result<Option<Arc<Partials>>> {
    if !project.settings.partials {
        return Ok(None);
    }
    let key = warehouse.secret(INPUTS_KEY).await?;
    let mut sets = if options.full { Vec::new() } else { past.partials.clone() };
    sets.retain(|set| project.source_table(&set.table).is_some());
    let partials = Partials::new(key, sets, contents_by_file(&decided.files), run.partial_files());
    Ok(Some(Arc::new(partials)))
}

/// Copies the files of tables that keep them.
async fn keep(engine: &Engine, decided: &Decided, run: Run) -> Result<(Run, Vec<KeptFile>), Failure> {
    match engine.keep_files(&decided.files, &run.kept_files()).await {
        Ok(kept) => Ok((run, kept)),
        Err(error) => Err(given_back(run, error).await),
    }
}

/// What the audit log keeps of a run.
fn facts(report: &RunReport) -> serde_json::Value {
    let built: Vec<&String> = report.nodes.iter().map(|node| &node.model).collect();
    json!({"run": report.run, "as_of": report.as_of, "built": built, "withheld": report.withheld.len()})
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

fn unchanged(project: &Project, plan: &Plan, past: &Past) -> Vec<UnchangedReport> {
    let of = |model: &String| UnchangedReport {
        model: model.clone(),
        kind: project.models.get(model).map_or("", |m| m.kind.word()),
        rows: past.made.get(model).map_or(0, |made| made.rows),
    };
    plan.unchanged.iter().map(of).collect()
}

/// Decides what there is to do, and stops where it may not be done: time that goes back, files that are gone, and
/// data that break their declarations.
async fn check_first(
    prepared: &Prepared,
    options: &Options,
    progress: &dyn Progress,
    warehouse: &Warehouse,
    run: &Run,
) -> Result<(Past, Decided), Failure> {
    still_current(&prepared.engine, run.base())?;
    let past = Past::read(warehouse, run.base()).await?;
    not_back_in_time(prepared.as_of, past.as_of)?;
    let key = warehouse.secret(INPUTS_KEY).await?;
    let question =
        Question { base: run.base(), past: &past, run: run.number(), full: options.full, now: options.now, key };
    let mut decided = decide(prepared, &question).await?;
    decided.notes.iter().for_each(|note| progress.note(note));
    if let Some(refusal) = decided.refusal.take() {
        return Err(refusal.into());
    }
    let tables = prepared.graph.tables_of(decided.work.build.union(&decided.work.sync));
    let findings = validate_text_tables(&prepared.engine, &tables).await?;
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::Findings(findings, Box::new(prepared.engine.source_map().clone())));
    }
    if !findings.is_empty() {
        progress.warnings(&findings, prepared.engine.source_map());
    }
    Ok((past, decided))
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

fn not_back_in_time(as_of: DateTime<Utc>, last: Option<DateTime<Utc>>) -> Result<()> {
    match last {
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
    work: Work,
    past: Past,
    /// Copies of source files.
    kept: Vec<KeptFile>,
    /// Stages that there still are.
    stages: BTreeSet<String>,
}

impl Used {
    fn new(
        project: &Arc<Project>,
        graph: &Graph,
        plan: &Plan,
        decided: Decided,
        past: Past,
        withheld: &[Withheld],
    ) -> Self {
        let withheld: BTreeSet<&String> = withheld.iter().map(|w| &w.model).collect();
        let kept = |names: BTreeSet<String>| names.into_iter().filter(|n| !withheld.contains(n)).collect();
        let (built, synced): (BTreeSet<String>, BTreeSet<String>) = (kept(plan.built()), kept(plan.synced()));
        let to = synced.iter().filter_map(|name| match &project.models.get(name)?.kind {
            ModelKind::Sync(sync) => Some(history::destination(&sync.to.value)),
            _ => None,
        });
        let mut names: BTreeSet<String> = to.collect();
        names.extend(built.iter().chain(&synced).cloned().chain(graph.tables_of(&built)));
        let Decided { work, mut files, manifest, refusal: _, notes: _ } = decided;
        let read = graph.tables_of(built.union(&plan.unchanged));
        files.retain(|table, _| read.contains(table));
        let tests = project.tested().into_iter().map(|owner| tests_stage(&owner));
        let stages = project.models.keys().cloned().chain(tests).chain([OVERLAP.to_owned()]).collect();
        Self { project: Arc::clone(project), manifest, names, files, work, past, kept: Vec::new(), stages }
    }

    /// Results of stages after this run; those of stages that are no longer defined go.
    fn made(&self, run: u64, nodes: &[NodeReport], checks: &[CheckResult], compared: bool) -> BTreeMap<String, Made> {
        let mut made = self.past.made.clone();
        made.retain(|stage, _| self.stages.contains(stage));
        let passed = |owner: &&String| {
            let mut results = checks.iter().filter(|c| c.model == **owner).peekable();
            results.peek().is_some() && results.all(|c| c.status == CheckStatus::Pass)
        };
        let tests = self.work.test.iter().filter(passed).map(|owner| (tests_stage(owner), 0));
        let built = nodes.iter().map(|node| (node.model.clone(), node.rows));
        let overlap = compared.then(|| (OVERLAP.to_owned(), 0));
        for (stage, rows) in built.chain(tests).chain(overlap) {
            if let Some(inputs) = self.work.inputs.get(&stage).cloned() {
                made.insert(stage, Made { run, rows, inputs });
            }
        }
        made
    }

    /// The tables about what was used that are not as they were.
    fn tables(
        &self,
        engine: &Engine,
        run: u64,
        made: &BTreeMap<String, Made>,
        nodes: &[NodeReport],
    ) -> Result<Vec<Output>> {
        let past = &self.past;
        let mut outputs = vec![
            history::columns(engine, &self.project, nodes, past.rows("kinfold.columns"))?,
            history::definitions(&self.manifest, &self.names, run, past.rows("kinfold.definitions"))?,
            history::files(&self.files, run, past.rows("kinfold.files"))?,
            history::inputs(made)?,
        ];
        // where nothing was built a table about it is written only if it differs
        let differs = |o: &Output| *made != past.made || !history::is_same(o, past.rows(&o.table));
        outputs.retain(|o| !nodes.is_empty() || differs(o));
        Ok(outputs)
    }
}

async fn commit(
    run: Run,
    done: stages::Done,
    engine: &Engine,
    used: Used,
    context: &RunContext,
    report: &mut RunReport,
) -> Result<(), Failure> {
    let started = Instant::now();
    for node in &done.nodes {
        let stage = report.stages.entry(history::kind(&node.facts).to_owned()).or_default();
        stage.wall += node.seconds;
    }
    let stages::Done { staged, appended, nodes, checks, withheld } = done;
    (report.nodes, report.checks, report.withheld) = (nodes, checks, withheld);
    let kept = context.partials.as_ref().map(|partials| partials.after()).unwrap_or_default();
    report.partial_bytes = kept.iter().map(|set| set.bytes).sum();
    let written = write(&run, staged, appended, engine, &used, context, report).await;
    let staged = match written {
        Ok(staged) => staged,
        Err(error) => return Err(given_back(run, error).await),
    };
    let content = json!({
        "kind": "run",
        "as_of": report.as_of,
        "started_at": report.started_at,
        "models": report.nodes.len(),
        "nodes": &report.nodes,
        "unchanged": &report.unchanged,
        "withheld": &report.withheld,
        "failed_tests": report.checks.iter().filter(|c| c.status == CheckStatus::Fail).count(),
    });
    run.commit(staged, content, now()).await?;
    report.stages.insert("write".to_owned(), Stage { wall: started.elapsed().as_secs_f64() });
    Ok(())
}

/// Stages what remains to be written when all models are built.
async fn write(
    run: &Run,
    mut staged: Vec<StagedTable>,
    mut appended: BTreeMap<String, Vec<Output>>,
    engine: &Engine,
    used: &Used,
    context: &RunContext,
    report: &RunReport,
) -> Result<Vec<StagedTable>> {
    let (number, checks) = (context.number, &report.checks);
    let mut outputs = vec![
        history::runs(number, report.as_of, report.started_at, now(), report.nodes.len())?,
        history::nodes(number, &report.nodes, &report.unchanged)?,
    ];
    if !checks.is_empty() {
        outputs.push(history::checks(number, checks)?);
        outputs.push(history::test_failures(number, checks)?);
    }
    for output in outputs {
        appended.entry(output.table.clone()).or_default().push(output);
    }
    let changes = appended.get(CHANGES).map_or(&[][..], Vec::as_slice);
    let mut outputs: Vec<Output> = engine.membership_history(changes, context).await?.into_iter().collect();
    staged.extend(stages::write_appended(run, appended).await?);
    // with an audience withheld the table of the last whole run stays
    let whole = report.withheld.iter().all(|w| !engine.is_audience(&w.model));
    let overlap = if whole && !used.work.compare.is_empty() { engine.overlap(context)? } else { None };
    let made = used.made(number, &report.nodes, checks, overlap.is_some());
    outputs.extend(overlap);
    outputs.extend(used.tables(engine, number, &made, &report.nodes)?);
    let sets = context.partials.as_ref().map(|partials| partials.after()).unwrap_or_default();
    let listed = [history::partials(&sets)?, history::kept(&used.kept, number)?];
    outputs.extend(listed.into_iter().filter(|o| !history::is_same(o, used.past.rows(&o.table))));
    for output in outputs {
        staged.push(stages::write(run, &output).await?);
    }
    Ok(staged)
}
