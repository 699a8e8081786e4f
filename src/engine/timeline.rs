//! The timeline of an identity's entities: every row of some tables, by entity and time.
//!
//! Nothing is folded and nothing is held: the rows are a plan, which the table writer runs, sorted by entity, time
//! and then everything else, so that the table is the same whatever the order of its sources. Sorting spills to disk.
//! Models that read the table in the same run read the plan.

use super::functions::details;
use super::measures::{FoldScope, clock};
use super::planned::PlannedRows;
use super::{Relation, sources, time_type};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::error::Result;
use crate::model::ProfileModel;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};

/// The column of a row's time.
pub(super) const TIME: &str = "happened_at";
/// The column that says what a row of events is, where a table has it.
const EVENT: &str = "event";
/// How many further columns of a row are told.
const MAX_DETAILS: usize = 32;
/// Name of the entity code.
const ENTITY: &str = "__entity";

/// A bound timeline.
#[derive(Debug, Clone)]
pub(super) struct BoundTimeline {
    /// Its table.
    pub table: String,
    /// The table's columns.
    pub schema: SchemaRef,
    /// Its rows, in no order.
    pub plan: LogicalPlan,
}

/// Binds the timeline of a profile, if it has one.
pub(super) fn bind(
    scope: &mut FoldScope<'_>,
    model: &ProfileModel,
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundTimeline> {
    let (timeline, table) = (model.timeline.as_ref()?, model.timeline_table()?);
    let mut all: Option<LogicalPlanBuilder> = None;
    for from in &timeline.from {
        let planned = match scope.table(from, 0) {
            Ok((key, relation)) => {
                let entity = scope.tables[&key].entity.clone();
                rows(scope, &relation, entity, from)
            }
            Err(finding) => Err(finding),
        };
        match planned {
            Ok(plan) => {
                let joined = match all.take() {
                    None => Ok(LogicalPlanBuilder::from(plan)),
                    Some(builder) => builder.union(plan),
                };
                all = joined.map_err(|e| findings.push(scope.parts.binder().engine_finding(&e, from.span))).ok();
            }
            Err(finding) => findings.push(*finding),
        }
    }
    let plan = all?.build().ok()?;
    let schema = sources::nullable(plan.schema().as_arrow());
    Some(BoundTimeline { table, schema, plan })
}

/// The rows of one table that are somebody's.
fn rows(
    scope: &FoldScope<'_>,
    relation: &Relation,
    entity: Expr,
    from: &Spanned<String>,
) -> std::result::Result<LogicalPlan, Box<Diagnostic>> {
    let Some(time) = clock(relation, None) else {
        let message = format!("`{}` has no time column, so its rows have no place in a timeline", relation.name);
        let finding = Diagnostic::error(Code::WindowWithoutTime, from.span, message).with_label("has no time");
        return Err(Box::new(finding.with_help("only source tables with `time:` and audiences have one")));
    };
    let names = || relation.plan.schema().fields().iter().map(|field| field.name());
    let kind = match names().find(|name| *name == EVENT) {
        Some(event) => cast(ident(event), DataType::Utf8),
        None => lit(relation.name.rsplit('.').next().unwrap_or_default()),
    };
    let row_id = match &relation.row_id {
        Some(row_id) => cast(ident(row_id), DataType::Utf8),
        None => lit(ScalarValue::Utf8(None)),
    };
    let known = [Some(EVENT), relation.time.as_deref(), relation.row_id.as_deref()];
    let told = relation.plan.schema().fields().iter().filter(|field| {
        let nested = field.data_type().is_nested() || field.data_type().is_binary();
        !nested && !known.contains(&Some(field.name().as_str()))
    });
    let told: Vec<(String, Expr)> = told.take(MAX_DETAILS).map(|f| (f.name().clone(), ident(f.name()))).collect();
    let told = if told.is_empty() { lit("{}") } else { details(told) };
    let columns = [
        entity.alias(ENTITY),
        time.alias(TIME),
        lit(relation.name.as_str()).alias("table_name"),
        row_id.alias("row_id"),
        kind.alias("kind"),
        told.alias("details"),
    ];
    let identity = scope.identity;
    let id = identity.slot.id_of(ident(ENTITY)).alias(format!("{}_id", identity.name));
    let rest = [TIME, "table_name", "row_id", "kind", "details"].map(ident);
    LogicalPlanBuilder::from(relation.plan.clone())
        .project(columns)
        .and_then(|plan| plan.filter(ident(ENTITY).is_not_null()))
        .and_then(|plan| plan.project(std::iter::once(id).chain(rest)))
        .and_then(LogicalPlanBuilder::build)
        .map_err(|e| Box::new(scope.parts.binder().engine_finding(&e, from.span)))
}

impl BoundTimeline {
    /// Its rows, to be written.
    pub(super) fn rows(&self) -> Result<PlannedRows> {
        debug_assert_eq!(self.schema.field(1).data_type(), &time_type(), "the second column is the time");
        let order = self.schema.fields().iter().map(|field| ident(field.name()).sort(true, false));
        PlannedRows::of_plan(&self.table, &self.schema, self.plan.clone(), order.collect())
    }
}
