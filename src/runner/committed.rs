//! One model, bound as it is now defined, over what the last run left.

use super::prepare::{Failure, Options, Purpose, loaded, prepare_for};
use super::run::{last_as_of, warehouse_of};
use crate::engine::{Engine, RunContext};
use crate::error::{Error, ErrorKind};
use crate::model::Project;
use crate::plan::{Action, Plan};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// The logical time of an answer, where the question has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// That of the last run.
    LastRun,
    /// That of a run which would begin now.
    Present,
}

/// A bound model, and what it needs as it was committed.
pub(super) struct Ready {
    pub project: Arc<Project>,
    pub engine: Engine,
    pub context: RunContext,
    pub as_of: DateTime<Utc>,
}

impl Ready {
    /// The model of this name, once `check` has nothing against it.
    ///
    /// # Errors
    /// Findings when the project does not load; `Usage` when nothing was built yet; those of `check`.
    pub(super) async fn new(
        options: &Options,
        name: &str,
        clock: Clock,
        check: impl Fn(&Project) -> Result<(), Error>,
    ) -> Result<Self, Failure> {
        let (project, map, warnings) = loaded(options)?;
        check(&project)?;
        let warehouse = warehouse_of(&project, options)?;
        let base = warehouse.snapshot(None).await?;
        let Some(last) = last_as_of(&warehouse, &base).await? else {
            let error = Error::new(ErrorKind::Usage, format!("what `{name}` is made of has not been built yet"));
            return Err(error.with_help("run `kinfold run` first").into());
        };
        let as_of = options.as_of.or((clock == Clock::LastRun).then_some(last));
        let select = vec![name.to_owned()];
        let options = Options { as_of, select, exclude: Vec::new(), ..options.clone() };
        let prepared = prepare_for(&options, Purpose::Run, project, map, warnings).await?;
        let plan = Plan::new(&prepared.project, &prepared.graph, &prepared.order, &prepared.selected);
        let number = base.run.unwrap_or(0) + 1;
        let context =
            RunContext { number, warehouse, base, selected: plan.built(), partials: None, updates: Arc::default() };
        for stage in plan.stages.iter().filter(|stage| stage.action == Action::Load) {
            prepared.engine.load(&stage.model, &context).await?;
        }
        Ok(Self { project: prepared.project, engine: prepared.engine, context, as_of: prepared.as_of })
    }
}
