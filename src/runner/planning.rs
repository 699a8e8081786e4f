//! What a run would do and why, and what it would change, without doing it: no lease, no commit, nothing sent.

use super::prepare::{Failure, Options, Prepared};
use super::progress::Progress;
use super::report::{NodeReport, Withheld};
use super::run::{INPUTS_KEY, warehouse_of};
use super::work::{Decided, Past, Question, decide};
use super::{stages, syncs};
use crate::engine::{CheckResult, CheckStatus, Engine, RowChanges, RunContext};
use crate::error::Result;
use crate::graph::{ColumnRef, Graph};
use crate::model::{ModelKind, Project};
use crate::plan::{Action, Plan, Reason, Update, Work};
use crate::sync::SyncCounts;
pub use crate::sync::SyncSample;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{AsArray as _, RecordBatch};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whether the effect on real data is computed, which reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effects {
    /// Where a definition changed.
    Changed,
    /// Always.
    All,
    /// Never.
    None,
}

/// What a run would do.
#[derive(Debug, Serialize)]
pub struct Preview {
    /// Version of this format.
    pub format: u32,
    /// Name of the project.
    pub project: String,
    /// The run that is visible now; `None` before the first.
    pub last_run: Option<u64>,
    /// Logical time of this plan.
    pub as_of: DateTime<Utc>,
    /// Logical time of the last run.
    pub last_as_of: Option<DateTime<Utc>>,
    /// What is done, in order, and what stays as it is.
    pub steps: Vec<Step>,
    /// Why a run would stop before it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Models that were built before and are not defined any more; their tables stay.
    pub removed: Vec<String>,
    /// Columns of built tables that go or change their type.
    pub columns: Vec<ColumnChange>,
    /// Files, bytes and rows of the source tables that the run reads.
    pub reads: Reads,
    /// What the run would change, by model; empty when it was not computed.
    pub effects: Vec<Effect>,
    /// Whether the effects were computed.
    pub effects_computed: bool,
    /// Data tests that would fail or warn, without keys of rows: a plan is shown to more people than the data.
    pub tests: Vec<CheckResult>,
    /// What would not be committed or sent because of them.
    pub withheld: Vec<Withheld>,
}

/// One stage.
#[derive(Debug, Serialize)]
pub struct Step {
    /// The model.
    pub model: String,
    /// `build`, `load`, `sync` or `unchanged`.
    pub action: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Why; nothing for a table that is only read.
    pub reasons: Vec<Reason>,
    /// How an incremental model is made: `keys`, with the new files by source table, or `whole`, with the reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// A column that later readers may miss.
#[derive(Debug, Serialize)]
pub struct ColumnChange {
    /// The model.
    pub model: String,
    /// The column.
    pub column: String,
    /// Its committed type.
    pub before: String,
    /// Its type from now on; `None` when it is gone.
    pub after: Option<String>,
    /// Columns of this project that depend on it directly.
    pub used_by: BTreeSet<String>,
    /// Models of this project that read the table.
    pub readers: Vec<String>,
}

/// How much a run reads.
#[derive(Debug, Default, Serialize)]
pub struct Reads {
    /// Source tables.
    pub tables: u64,
    /// Their files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Their rows; `None` when some format does not say.
    pub rows: Option<u64>,
}

/// What a run would change of one model.
#[derive(Debug, Serialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Effect {
    /// A built model.
    Built {
        /// What building it told.
        node: Box<NodeReport>,
        /// Rows by what happens to them, for a profile and for an identity.
        rows: Option<RowChanges>,
    },
    /// A sync.
    Sync {
        /// The sync.
        sync: String,
        /// Its destination.
        destination: String,
        /// Rows by what would be done.
        #[serde(flatten)]
        counts: SyncSummary,
        /// Why it would be refused or fail.
        error: Option<String>,
        /// Why it would send nothing, though nothing fails.
        note: Option<String>,
        /// Why rows would be withheld, and how many.
        reasons: Option<String>,
        /// Some of the rows; no part of a plan, which more people see than the data.
        #[serde(skip)]
        samples: Vec<SyncSample>,
    },
}

/// Rows of a sync by what would be done with them.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct SyncSummary {
    /// Current rows.
    pub read: u64,
    /// New at the destination.
    pub inserted: u64,
    /// Changed since the destination got them.
    pub updated: u64,
    /// Deleted at the destination.
    pub deleted: u64,
    /// The same at the destination.
    pub unchanged: u64,
    /// Changed, in a way that the mode does not send.
    pub ignored: u64,
    /// Rejected for good before, and not changed since.
    pub waiting: u64,
    /// Held back.
    pub withheld: u64,
}

impl From<SyncCounts> for SyncSummary {
    fn from(counts: SyncCounts) -> Self {
        let SyncCounts { read, inserted, updated, deleted, unchanged, ignored, waiting, withheld, .. } = counts;
        Self { read, inserted, updated, deleted, unchanged, ignored, waiting, withheld }
    }
}

/// Plans a prepared project against its warehouse.
///
/// # Errors
/// When storage fails, or a model fails while its effect is computed.
pub async fn preview(
    prepared: Prepared,
    options: &Options,
    effects: Effects,
    progress: &dyn Progress,
) -> Result<Preview, Failure> {
    let warehouse = warehouse_of(&prepared.project, options)?;
    let base = warehouse.snapshot(None).await?;
    let past = Past::read(&warehouse, &base).await?;
    let number = base.run.unwrap_or(0) + 1;
    // nothing is written: before there is anything to compare with, any key does
    let key = if past.made.is_empty() { [0; 32] } else { warehouse.secret(INPUTS_KEY).await? };
    let question = Question { base: &base, past: &past, run: number, full: options.full, now: options.now, key };
    let Decided { work, manifest: now, refusal, .. } = decide(&prepared, &question).await?;
    let Prepared { project, graph, order, engine, as_of, .. } = prepared;
    let plan = Plan::of_work(&project, &graph, &order, &work);
    let tables = graph.tables_of(&plan.built());
    let mut preview = Preview {
        format: 1,
        project: project.settings.name.clone(),
        last_run: base.run,
        as_of,
        last_as_of: past.as_of,
        steps: steps(&project, &order, &plan, &work),
        refusal: refusal.map(|error| error.to_string()),
        removed: past.manifest.models.keys().filter(|m| !now.models.contains_key(*m)).cloned().collect(),
        columns: column_changes(&engine, &graph, &plan, past.rows("kinfold.columns")),
        reads: reads(&engine, &tables).await?,
        effects: Vec::new(),
        effects_computed: false,
        tests: Vec::new(),
        withheld: Vec::new(),
    };
    let redefined = work.reasons.values().flatten().any(|r| matches!(r, Reason::New | Reason::Changed { .. }));
    let wanted = effects == Effects::All || (effects == Effects::Changed && redefined);
    // before the first run everything is new, and building it would only take time
    if wanted && base.run.is_some() {
        let context = RunContext {
            number,
            warehouse,
            base,
            selected: plan.built(),
            partials: None,
            updates: Arc::new(work.updates.clone()),
        };
        compute(Arc::new(engine), &project, &plan, &context, options, progress, &mut preview).await?;
    }
    Ok(preview)
}

/// What is done, in order, then the models that stay as they are.
fn steps(project: &Project, order: &[String], plan: &Plan, work: &Work) -> Vec<Step> {
    let step = |model: &String, action| Step {
        model: model.clone(),
        action,
        kind: project.models.get(model).map_or("", |m| m.kind.word()),
        reasons: work.reasons.get(model).cloned().unwrap_or_default(),
        update: work.updates.get(model).cloned(),
    };
    // tests have no reason of their own: they follow what they test
    let done = plan.stages.iter().filter_map(|stage| {
        let action = match stage.action {
            Action::Build => "build",
            Action::Load => "load",
            Action::Sync => "sync",
            Action::Test => return None,
        };
        // a model that stays as it is is told as such, read or not
        (action != "load" || !work.unchanged.contains(&stage.model)).then(|| step(&stage.model, action))
    });
    let unchanged = order.iter().filter(|m| work.unchanged.contains(*m)).map(|m| step(m, "unchanged"));
    done.chain(unchanged).collect()
}

async fn reads(engine: &Engine, tables: &BTreeSet<String>) -> Result<Reads> {
    let mut reads = Reads { tables: tables.len() as u64, rows: Some(0), ..Reads::default() };
    for table in tables {
        let (files, bytes) = engine.source_size(table).unwrap_or((0, 0));
        reads.files += files as u64;
        reads.bytes += bytes;
        let rows = engine.source_rows(table).await?;
        reads.rows = reads.rows.zip(rows).map(|(all, one)| all + one);
    }
    Ok(reads)
}

/// Columns that were committed and are gone or have another type, with what uses them or reads their table.
fn column_changes(engine: &Engine, graph: &Graph, plan: &Plan, columns: &[RecordBatch]) -> Vec<ColumnChange> {
    let lineage = engine.lineage_graph();
    let mut changes = Vec::new();
    for model in plan.built() {
        let now: BTreeMap<String, String> = engine.columns(&model).into_iter().collect();
        if now.is_empty() {
            continue;
        }
        for (column, before) in committed_columns(columns, &model) {
            let after = now.get(&column).cloned();
            if after.as_ref() != Some(&before) {
                // nobody uses a column that is gone: that would not bind
                let uses = lineage.down(&ColumnRef::new(&model, &column), true);
                let used_by = uses.values.iter().chain(&uses.rows).map(ToString::to_string).collect();
                let readers = graph.readers_of(&model).into_iter().collect();
                changes.push(ColumnChange { model: model.clone(), column, before, after, used_by, readers });
            }
        }
    }
    changes
}

fn committed_columns(rows: &[RecordBatch], model: &str) -> Vec<(String, String)> {
    let mut columns = Vec::new();
    for batch in rows {
        let texts = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let (Some(models), Some(names), Some(types)) = (texts("model"), texts("column_name"), texts("data_type"))
        else {
            continue;
        };
        let of_model = (0..batch.num_rows()).filter(|row| models.value(*row) == model);
        columns.extend(of_model.map(|row| (names.value(row).to_owned(), types.value(row).to_owned())));
    }
    columns
}

/// Builds everything in memory and compares it with what is committed.
async fn compute(
    engine: Arc<Engine>,
    project: &Project,
    plan: &Plan,
    context: &RunContext,
    options: &Options,
    progress: &dyn Progress,
    preview: &mut Preview,
) -> Result<()> {
    let done = stages::build(&engine, plan, None, context, progress).await?;
    preview.effects_computed = true;
    for node in done.nodes {
        let rows = engine.compare(&node.model, context).await?;
        preview.effects.push(Effect::Built { node: Box::new(node), rows });
    }
    let failing = done.checks.into_iter().filter(|c| c.status != CheckStatus::Pass);
    preview.tests = failing.map(|check| CheckResult { keys: Vec::new(), ..check }).collect();
    preview.withheld = done.withheld;
    let is_withheld = |name: &String| preview.withheld.iter().any(|w| w.model == *name);
    for name in plan.synced().into_iter().filter(|name| !is_withheld(name)) {
        let Some(ModelKind::Sync(model)) = project.models.get(&name).map(|m| &m.kind) else { continue };
        if !model.enabled {
            continue;
        }
        let destination = model.to.value.clone();
        let note = engine.too_small(&model.from.value);
        let state = (&*context.warehouse, &context.base);
        let counts = syncs::preview(&engine, project, &name, model, state, options).await;
        let (counts, samples, reasons, error) = match counts {
            Ok((counts, samples, reasons)) => (counts.into(), samples, reasons, None),
            Err(error) => (SyncSummary::default(), Vec::new(), None, Some(error.to_string())),
        };
        preview.effects.push(Effect::Sync { sync: name, destination, counts, error, note, reasons, samples });
    }
    Ok(())
}
