//! How a table that was just built differs from the committed one, by key.

use super::committed::over_table;
use super::{Engine, RunContext};
use crate::error::{Context, ErrorKind, Result};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, JoinType, Operator, binary_expr, lit, when};
use datafusion::prelude::DataFrame;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows by what happened to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RowChanges {
    /// Keys that were not there.
    pub added: u64,
    /// Keys that are not there any more.
    pub removed: u64,
    /// Keys whose row differs in a column that both have.
    pub changed: u64,
    /// For each column that both have, the rows in which it differs; columns without a difference are left out.
    pub columns: BTreeMap<String, u64>,
}

const NOW: &str = "now";
const BEFORE: &str = "before";

impl Engine {
    /// Compares the rows of a model that this run built with those that were committed before, by the column that
    /// names an entity; `None` for a model that is no profile, and for one that was never committed.
    ///
    /// # Errors
    /// When the committed table cannot be read.
    pub async fn compare(&self, model: &str, run: &RunContext) -> Result<Option<RowChanges>> {
        let doing = || format!("cannot compare `{model}` with what is committed");
        let (Some(key), Some(late), Some(at)) =
            (self.profile_key(model), self.late.get(model), run.base.tables.get(model))
        else {
            return Ok(None);
        };
        let table = run.warehouse.table(at).await?;
        let (schema, old) = (late.schema(), Arc::clone(&table.schema));
        if old.field_with_name(&key).is_err() {
            return Ok(None);
        }
        let columns = common(&schema, &old, &key);
        let before = over_table(&self.context, &run.warehouse, &table, &old)?;
        let frame = |provider: Arc<dyn TableProvider>, name: &str| -> datafusion::error::Result<DataFrame> {
            self.context.read_table(provider)?.alias(name)
        };
        let joined = frame(Arc::clone(late) as _, NOW).and_then(|now| {
            let on = of(NOW, &key).eq(of(BEFORE, &key));
            now.join_on(frame(before, BEFORE)?, JoinType::Full, [on])?.aggregate(Vec::new(), counts(&key, &columns)?)
        });
        let batches = joined.or_fail(ErrorKind::Failed, doing)?.collect().await.or_fail(ErrorKind::Failed, doing)?;
        let count = |index: usize| {
            let batch = batches.iter().find(|b| b.num_rows() > 0)?;
            let sums = batch.column(index).as_primitive_opt::<Int64Type>()?;
            Some(sums.value(0).cast_unsigned())
        };
        let each = columns.iter().enumerate().map(|(i, c)| (c.clone(), count(i + 3).unwrap_or(0)));
        Ok(Some(RowChanges {
            added: count(0).unwrap_or(0),
            removed: count(1).unwrap_or(0),
            changed: count(2).unwrap_or(0),
            columns: each.filter(|(_, rows)| *rows > 0).collect(),
        }))
    }

    /// The column that names the rows of a profile.
    fn profile_key(&self, model: &str) -> Option<String> {
        match self.models.get(model)? {
            super::BoundModel::Profile(bound) => Some(format!("{}_id", bound.identity)),
            _ => None,
        }
    }
}

/// Columns of both tables, of one type, without the key.
fn common(now: &SchemaRef, before: &SchemaRef, key: &str) -> Vec<String> {
    let same = |f: &&datafusion::arrow::datatypes::FieldRef| {
        before.field_with_name(f.name()).is_ok_and(|other| other.data_type() == f.data_type())
    };
    now.fields().iter().filter(same).map(|f| f.name().clone()).filter(|name| name != key).collect()
}

fn of(table: &str, column: &str) -> Expr {
    Expr::Column(Column::new(Some(table), column))
}

/// Added, removed, changed, and then the differences of each column.
fn counts(key: &str, columns: &[String]) -> datafusion::error::Result<Vec<Expr>> {
    let counted = |condition: Expr| {
        Ok::<_, datafusion::error::DataFusionError>(sum(when(condition, lit(1_i64)).otherwise(lit(0_i64))?))
    };
    let both = of(NOW, key).is_not_null().and(of(BEFORE, key).is_not_null());
    let differs = |c: &String| binary_expr(of(NOW, c), Operator::IsDistinctFrom, of(BEFORE, c));
    let any = columns.iter().map(differs).reduce(Expr::or).unwrap_or_else(|| lit(false));
    let mut all = vec![
        counted(of(BEFORE, key).is_null())?.alias("added"),
        counted(of(NOW, key).is_null())?.alias("removed"),
        counted(both.clone().and(any))?.alias("changed"),
    ];
    for (index, column) in columns.iter().enumerate() {
        all.push(counted(both.clone().and(differs(column)))?.alias(format!("column_{index}")));
    }
    Ok(all)
}
