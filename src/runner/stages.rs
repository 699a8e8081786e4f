//! The models of a plan, each started when what it waits for is done.
//!
//! Data tests are stages between a model and what reads it. A model that is tested is kept in memory until its
//! tests have passed and only then written; when an error test fails, it is withheld, and so is everything
//! that waits for the tests. Stages that wait for nothing of it go on.

use super::progress::Progress;
use super::report::{NodeReport, Withheld};
use crate::engine::{Built, CheckResult, CheckStatus, Engine, Output, PlannedRows, RowStream, RunContext};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::graph::tests_stage;
use crate::plan::{Action, Plan, Stage};
use crate::warehouse::{Run, StagedTable, WriteMode};
use futures::stream;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// What building left: staged tables, rows to append to shared history tables, and reports.
#[derive(Default)]
pub(super) struct Done {
    pub staged: Vec<StagedTable>,
    pub appended: BTreeMap<String, Vec<Output>>,
    pub nodes: Vec<NodeReport>,
    pub checks: Vec<CheckResult>,
    pub withheld: Vec<Withheld>,
}

/// One finished task.
enum Finished {
    Stage { stage: Stage, built: Option<Built>, seconds: f64 },
    Tested { stage: Stage, results: Vec<CheckResult> },
    Written(StagedTable),
}

/// Where the stages of a run are.
#[derive(Default)]
struct State {
    waiting: Vec<Stage>,
    /// Stages that ended, whatever came of them.
    finished: BTreeSet<String>,
    /// Stages of tests that failed, and stages that wait for those: whose tests it was.
    broken: BTreeMap<String, String>,
    /// Models that are built and not yet tested.
    untested: BTreeMap<String, (NodeReport, Built)>,
    done: Done,
}

/// Builds, tests and loads all stages of a plan and stages what they made; without a run nothing is written.
pub(super) async fn build(
    engine: &Arc<Engine>,
    plan: &Plan,
    run: Option<&Arc<Run>>,
    context: &RunContext,
    progress: &dyn Progress,
) -> Result<Done> {
    let mut tasks = JoinSet::new();
    let done = drive(engine, plan, run, context, progress, &mut tasks).await;
    // after a failure the others are still at work, and hold the run
    tasks.shutdown().await;
    done
}

async fn drive(
    engine: &Arc<Engine>,
    plan: &Plan,
    run: Option<&Arc<Run>>,
    context: &RunContext,
    progress: &dyn Progress,
    tasks: &mut JoinSet<Result<Finished>>,
) -> Result<Done> {
    let tested: BTreeSet<&String> = plan.stages.iter().filter(|s| s.action == Action::Test).map(|s| &s.model).collect();
    let mut state = State { waiting: plan.stages.clone(), ..State::default() };
    loop {
        for stage in state.ready() {
            if stage.action == Action::Build {
                progress.started(&stage.model);
            }
            let (engine, context) = (Arc::clone(engine), context.clone());
            tasks.spawn(async move { execute(&engine, stage, &context).await });
        }
        let Some(next) = tasks.join_next().await else { break };
        let next = next.or_fail(ErrorKind::Failed, || "a stage stopped without an answer".to_owned())?;
        match next? {
            Finished::Written(table) => {
                engine.written(&table, context).await?;
                state.done.staged.push(table);
            }
            Finished::Tested { stage, results } => {
                progress.tested(&results);
                if let Some((node, built)) = state.tested(&stage, results) {
                    state.accept(node, built, (engine, run), tasks);
                }
            }
            Finished::Stage { stage, built, seconds } => {
                state.finished.insert(stage.name());
                let Some(built) = built else { continue };
                let node = report(&stage.model, &built, seconds, context).await?;
                progress.finished(&node);
                if tested.contains(&stage.model) {
                    state.untested.insert(stage.model, (node, built));
                } else {
                    state.accept(node, built, (engine, run), tasks);
                }
            }
        }
    }
    if state.waiting.is_empty() { Ok(state.done) } else { Err(Error::new(ErrorKind::Failed, "the plan has a circle")) }
}

impl State {
    /// Takes the stages that wait for nothing any more. Those that wait for a failed test end here; syncs
    /// come after the commit.
    fn ready(&mut self) -> Vec<Stage> {
        let mut ready = Vec::new();
        loop {
            let waiting = std::mem::take(&mut self.waiting);
            let (next, rest): (Vec<Stage>, Vec<Stage>) =
                waiting.into_iter().partition(|s| s.after.is_subset(&self.finished));
            self.waiting = rest;
            if next.is_empty() {
                return ready;
            }
            for stage in next {
                match stage.after.iter().find_map(|after| self.broken.get(after)).cloned() {
                    Some(because) => self.skip(&stage, because),
                    None if stage.action == Action::Sync => {
                        self.finished.insert(stage.name());
                    }
                    None => ready.push(stage),
                }
            }
        }
    }

    /// Ends a stage that waits for a failed test.
    fn skip(&mut self, stage: &Stage, because: String) {
        let model = stage.model.clone();
        match stage.action {
            Action::Build | Action::Sync => {
                self.done.withheld.push(Withheld { model, built: false, because: because.clone() });
            }
            // its tests read a model that is not there: nobody knows whether it is sound
            Action::Test if self.untested.remove(&model).is_some() => {
                self.done.withheld.push(Withheld { model, built: true, because: because.clone() });
            }
            Action::Test | Action::Load => {}
        }
        self.finished.insert(stage.name());
        self.broken.insert(stage.name(), because);
    }

    /// Ends a stage of tests; gives what may now be written.
    fn tested(&mut self, stage: &Stage, results: Vec<CheckResult>) -> Option<(NodeReport, Built)> {
        let failed = results.iter().any(|r| r.status == CheckStatus::Fail);
        self.done.checks.extend(results);
        self.finished.insert(stage.name());
        let built = self.untested.remove(&stage.model);
        if !failed {
            return built;
        }
        self.broken.insert(tests_stage(&stage.model), stage.model.clone());
        if built.is_some() {
            let withheld = Withheld { model: stage.model.clone(), built: true, because: stage.model.clone() };
            self.done.withheld.push(withheld);
        }
        None
    }

    /// Reports a model and has its tables written.
    fn accept(
        &mut self,
        node: NodeReport,
        built: Built,
        (engine, run): (&Arc<Engine>, Option<&Arc<Run>>),
        tasks: &mut JoinSet<Result<Finished>>,
    ) {
        self.done.nodes.push(node);
        let Some(run) = run else { return };
        for output in built.outputs {
            keep(output, run, tasks, &mut self.done);
        }
        for planned in built.planned {
            if planned.mode != WriteMode::Overwrite
                && planned.is_empty
                && run.base().tables.contains_key(&planned.table)
            {
                continue;
            }
            let (engine, run) = (Arc::clone(engine), Arc::clone(run));
            tasks.spawn(async move { Ok(Finished::Written(write_planned(&run, &engine, &planned).await?)) });
        }
    }
}

async fn execute(engine: &Engine, stage: Stage, context: &RunContext) -> Result<Finished> {
    let started = Instant::now();
    let built = match stage.action {
        Action::Test => {
            let results = engine.test(&stage.model).await;
            return Ok(Finished::Tested { stage, results });
        }
        Action::Build => Some(engine.build(&stage.model, context).await?),
        Action::Load | Action::Sync => {
            engine.load(&stage.model, context).await?;
            None
        }
    };
    Ok(Finished::Stage { stage, built, seconds: started.elapsed().as_secs_f64() })
}

/// Tables of one model are written at once, beside the stages that follow; shared history waits for all.
fn keep(output: Output, run: &Arc<Run>, tasks: &mut JoinSet<Result<Finished>>, done: &mut Done) {
    if output.mode == WriteMode::Append {
        done.appended.entry(output.table.clone()).or_default().push(output);
        return;
    }
    let run = Arc::clone(run);
    tasks.spawn(async move { Ok(Finished::Written(write(&run, &output).await?)) });
}

/// Stages one table.
pub(super) async fn write(run: &Run, output: &Output) -> Result<StagedTable> {
    run.write_all(&output.table, &output.schema, output.mode, &output.batches)
        .await
        .map_err(|e| e.context(format!("cannot write the table `{}`", output.table)))
}

/// Stages one table whose rows are made meanwhile.
async fn write_planned(run: &Run, engine: &Engine, planned: &PlannedRows) -> Result<StagedTable> {
    let next = |mut rows: RowStream| async move {
        let batch = rows.next().await?;
        Ok(batch.map(|batch| (batch, rows)))
    };
    let written = async {
        let rows = stream::try_unfold(engine.stream(planned).await?, next);
        let writer = run.writer(&planned.table, &planned.schema, planned.mode)?;
        let staged = Box::pin(writer.write_stream(rows)).await?;
        Ok::<_, Error>(staged.replacing(planned.replaces.clone()))
    };
    written.await.map_err(|e| e.context(format!("cannot write the table `{}`", planned.table)))
}

/// Stages what several models append to one table.
pub(super) async fn write_appended(run: &Run, appended: BTreeMap<String, Vec<Output>>) -> Result<Vec<StagedTable>> {
    let mut staged = Vec::new();
    for (_, mut outputs) in appended {
        outputs.retain(|o| o.rows() > 0 || !run.base().tables.contains_key(&o.table));
        let Some(mut first) = outputs.pop() else { continue };
        for other in outputs {
            first.batches.extend(other.batches);
        }
        staged.push(write(run, &first).await?);
    }
    Ok(staged)
}

async fn report(model: &str, built: &Built, seconds: f64, context: &RunContext) -> Result<NodeReport> {
    let rows_before = match context.base.tables.get(model) {
        Some(at) => context.warehouse.table(at).await?.rows(),
        None => None,
    };
    let rows = built.rows;
    Ok(NodeReport { model: model.to_owned(), rows, rows_before, seconds, facts: built.facts.clone() })
}
