//! The rows of a sync: its columns over the model that it sends (an audience comes joined to its profile).

use super::{BoundModel, Engine, fold};
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::SyncModel;
use crate::warehouse::storable_schema;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::JoinType;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, cast, ident};
use std::sync::Arc;

/// A bound sync: the key as text, then the author's columns.
#[derive(Debug, Clone)]
pub(super) struct BoundSync {
    pub plan: LogicalPlan,
    schema: SchemaRef,
}

impl BoundSync {
    /// Columns of the rows that are sent.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Binds the model.
pub(super) fn bind(
    engine: &Engine,
    name: &str,
    model: &SyncModel,
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundSync> {
    let parts = engine.parts();
    // the one place where a secret may be used: what it makes leaves the warehouse and is not stored in it
    let binder = super::bind::Binder { secrets: true, ..parts.binder() };
    let before = findings.len();
    let rows = match rows(engine, model) {
        Ok(Some(rows)) => rows,
        Ok(None) => return None,
        Err(e) => {
            findings.push(parts.binder().engine_finding(&e, model.from.span));
            return None;
        }
    };
    let over = &model.from.value;
    let mut columns = Vec::new();
    let key = model.key_column();
    match binder.expression(&model.key, rows.schema(), over) {
        Ok(expr) => columns.push(cast(expr, DataType::Utf8).alias(key)),
        Err(finding) => findings.push(*finding),
    }
    for (column, sql) in model.columns.iter().filter(|(column, _)| column.value != key) {
        match binder.expression(sql, rows.schema(), over) {
            Ok(expr) => columns.push(expr.alias(&column.value)),
            Err(finding) => findings.push(*finding),
        }
    }
    if findings.len() > before {
        return None;
    }
    let planned = LogicalPlanBuilder::from(rows).project(columns).and_then(LogicalPlanBuilder::build);
    let planned = planned.and_then(|plan| {
        let state = &engine.state;
        let typed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
        Ok((plan, Arc::new(typed.schema().as_arrow().clone())))
    });
    match planned {
        Ok((plan, schema)) => match storable_schema(&schema) {
            Ok(schema) => Some(BoundSync { plan, schema }),
            Err(e) => {
                let finding = Diagnostic::error(Code::SyncColumns, model.from.span, format!("sync `{name}`: {e}"));
                findings.push(finding.with_label("cannot be stored"));
                None
            }
        },
        Err(e) => {
            findings.push(parts.binder().finding(&e, &model.from, over));
            None
        }
    }
}

/// The relation that columns are over.
fn rows(engine: &Engine, model: &SyncModel) -> datafusion::error::Result<Option<LogicalPlan>> {
    let Some(relation) = engine.relations.get(&model.from.value) else { return Ok(None) };
    let Some(BoundModel::Audience(audience)) = engine.models.get(&model.from.value) else {
        return Ok(Some(relation.plan.clone()));
    };
    let Some(profile) = engine.relations.get(&audience.profile) else { return Ok(None) };
    let id = format!("{}_id", audience.identity);
    let member = LogicalPlanBuilder::from(relation.plan.clone())
        .project(vec![ident(&id).alias("__member"), ident("entered_at"), ident("reason")])?
        .build()?;
    let joined = LogicalPlanBuilder::from(member)
        .join(profile.plan.clone(), JoinType::Inner, (vec!["__member"], vec![id.as_str()]), None)?
        .build()?;
    Ok(Some(joined))
}

impl Engine {
    /// The rows that a sync would send if nothing had been sent before: the key, then its columns.
    ///
    /// # Errors
    /// When its model is not built or loaded, or an expression fails.
    pub async fn sync_rows(&self, name: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let Some(BoundModel::Sync(bound)) = self.models.get(name) else {
            return Err(Error::new(ErrorKind::Failed, format!("sync `{name}` is not bound")));
        };
        let doing = || format!("cannot read the rows of sync `{name}`");
        let batches = fold::execute(&self.context, bound.plan.clone()).await.or_fail(ErrorKind::Failed, doing)?;
        let batches = batches.iter().map(|b| super::build::conform(b, &bound.schema)).collect::<Result<Vec<_>>>()?;
        Ok((Arc::clone(&bound.schema), batches))
    }
}
