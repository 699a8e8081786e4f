//! The models of a plan, each started when what it waits for is done.

use super::progress::Progress;
use super::report::NodeReport;
use crate::engine::{Built, Engine, Output, RunContext};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{Action, Plan, Stage};
use crate::warehouse::{Run, StagedTable, WriteMode};
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
}

/// One finished task.
enum Finished {
    Stage { stage: Stage, built: Option<Built>, seconds: f64 },
    Written(StagedTable),
}

/// Builds and loads all stages of a plan and stages what they made; without a run nothing is written.
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
    let mut waiting: Vec<Stage> = plan.stages.iter().filter(|s| s.action != Action::Sync).cloned().collect();
    let mut finished: BTreeSet<String> = BTreeSet::new();
    let mut done = Done::default();
    loop {
        let (ready, rest): (Vec<Stage>, Vec<Stage>) = waiting.into_iter().partition(|s| s.after.is_subset(&finished));
        waiting = rest;
        for stage in ready {
            if stage.action == Action::Build {
                progress.started(&stage.model);
            }
            let (engine, context) = (Arc::clone(engine), context.clone());
            tasks.spawn(async move { execute(&engine, stage, &context).await });
        }
        let Some(next) = tasks.join_next().await else { break };
        let next = next.or_fail(ErrorKind::Failed, || "a stage stopped without an answer".to_owned())?;
        match next? {
            Finished::Written(table) => done.staged.push(table),
            Finished::Stage { stage, built, seconds } => {
                finished.insert(stage.model.clone());
                let Some(built) = built else { continue };
                let node = report(&stage.model, &built, seconds, context).await?;
                progress.finished(&node);
                done.nodes.push(node);
                if let Some(run) = run {
                    for output in built.outputs {
                        keep(output, run, tasks, &mut done);
                    }
                }
            }
        }
    }
    if waiting.is_empty() { Ok(done) } else { Err(Error::new(ErrorKind::Failed, "the plan has a circle")) }
}

async fn execute(engine: &Engine, stage: Stage, context: &RunContext) -> Result<Finished> {
    let started = Instant::now();
    let built = match stage.action {
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
    let rows = built.outputs.first().map_or(0, Output::rows);
    Ok(NodeReport { model: model.to_owned(), rows, rows_before, seconds, facts: built.facts.clone() })
}
