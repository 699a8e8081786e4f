//! The history of memberships: one row for each audience and person that ever was a member, from the log of who
//! entered and left.

use super::build::{Output, RunContext, conform, one_after_the_other};
use super::committed::{self, Columns};
use super::{Engine, fold, internal, time_type};
use crate::error::{Context, ErrorKind, Result};
use crate::warehouse::WriteMode;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident};
use std::sync::Arc;

/// The log of who entered and left.
pub const CHANGES: &str = "audience_changes";
const HISTORY: &str = "audience_history";

/// What is known of one person's memberships, over the rows of the log. Times of different runs may be equal, so
/// the runs say what came last.
const KNOWN: [(&str, &str); 6] = [
    ("first_entered_at", "min(as_of) FILTER (WHERE change = 'entered')"),
    ("entered_at", "max(as_of) FILTER (WHERE change = 'entered')"),
    ("last_left_at", "max(as_of) FILTER (WHERE change = 'left')"),
    ("entered_run", "max(run) FILTER (WHERE change = 'entered')"),
    ("left_run", "max(run) FILTER (WHERE change = 'left')"),
    ("times", "count(*) FILTER (WHERE change = 'entered')"),
];
/// Null for members.
const LEFT_AT: &str = "CASE WHEN left_run > entered_run THEN last_left_at END";

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("audience", DataType::Utf8, false),
        Field::new("entity_id", DataType::Utf8, false),
        Field::new("first_entered_at", time_type(), false),
        Field::new("entered_at", time_type(), false),
        Field::new("left_at", time_type(), true),
        Field::new("times", DataType::Int64, false),
    ]))
}

impl Engine {
    /// The history after a run; `None` when it stays as it was. `changes` are the run's own rows of the log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn membership_history(&self, changes: &[Output], run: &RunContext) -> Result<Option<Output>> {
        let Some(first) = changes.first() else { return Ok(None) };
        let moved = changes.iter().any(|c| c.rows() > 0);
        if !moved && run.base.tables.contains_key(HISTORY) {
            return Ok(None);
        }
        let rows = changes.iter().flat_map(|c| c.batches.iter().cloned()).collect();
        let made = MemTable::try_new(Arc::clone(&first.schema), vec![rows]).map_err(internal)?;
        let mut log: Arc<dyn TableProvider> = Arc::new(made);
        if run.base.tables.contains_key(CHANGES) {
            let wanted = (&first.schema, Columns::OurOwn);
            let earlier = committed::provider(&self.context, &run.warehouse, &run.base, CHANGES, wanted).await?;
            log = one_after_the_other(earlier, log).map_err(internal)?;
        }
        let plan = self.history_plan(log).map_err(internal)?;
        let doing = || format!("cannot write `{HISTORY}`");
        let batches = fold::execute(&self.context, plan).await.or_fail(ErrorKind::Failed, doing)?;
        let batches = batches.iter().map(|b| conform(b, &schema())).collect::<Result<Vec<_>>>()?;
        Ok(Some(Output { table: HISTORY.to_owned(), schema: schema(), batches, mode: WriteMode::Overwrite }))
    }

    fn history_plan(&self, log: Arc<dyn TableProvider>) -> datafusion::error::Result<LogicalPlan> {
        let log = LogicalPlanBuilder::scan("log", provider_as_source(log), None)?;
        let known: Vec<Expr> = KNOWN
            .iter()
            .map(|(name, sql)| Ok(self.state.create_logical_expr(sql, log.schema())?.alias(*name)))
            .collect::<datafusion::error::Result<_>>()?;
        let people = log.aggregate(vec![ident("audience"), ident("entity_id")], known)?;
        let left_at = self.state.create_logical_expr(LEFT_AT, people.schema())?.alias("left_at");
        let columns = ["audience", "entity_id", "first_entered_at", "entered_at"].map(ident);
        let columns = columns.into_iter().chain([left_at, ident("times")]);
        let order = ["audience", "entity_id"].map(|name| ident(name).sort(true, false));
        people.project(columns)?.sort(order)?.build()
    }
}
