//! How a table that was just built differs from the committed one, by key.

use super::committed::over_table;
use super::{BoundModel, Engine, RunContext};
use crate::error::{Context, ErrorKind};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::error::DataFusionError;
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
    /// For an identity: entities that were there and still are, and hold other identifiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entities: Option<u64>,
}

const NOW: &str = "now";
const BEFORE: &str = "before";

impl Engine {
    /// Compares the rows of a model that this run built with those that were committed before: those of a profile by
    /// entity, those of an identity by identifier. `None` for other models, and for one that was never committed.
    ///
    /// # Errors
    /// When the committed table cannot be read.
    pub async fn compare(&self, model: &str, run: &RunContext) -> crate::error::Result<Option<RowChanges>> {
        let doing = || format!("cannot compare `{model}` with what is committed");
        let Some((keys, entity)) = self.keys_of_rows(model) else { return Ok(None) };
        let (Some(late), Some(at)) = (self.late.get(model), run.base.tables.get(model)) else { return Ok(None) };
        let table = run.warehouse.table(at).await?;
        let (schema, old) = (late.schema(), Arc::clone(&table.schema));
        if keys.iter().chain(&entity).any(|column| old.field_with_name(column).is_err()) {
            return Ok(None);
        }
        let columns = common(&schema, &old, &keys);
        let before = over_table(&self.context, &run.warehouse, &table, &old)?;
        let frame = |provider: &Arc<dyn TableProvider>, name: &str| -> Result<DataFrame, DataFusionError> {
            self.context.read_table(Arc::clone(provider))?.alias(name)
        };
        let now: Arc<dyn TableProvider> = Arc::clone(late) as _;
        let sides = || Ok::<_, DataFusionError>((frame(&now, NOW)?, frame(&before, BEFORE)?));
        let joined =
            sides().and_then(|sides| side_by_side(sides, &keys)?.aggregate(Vec::new(), counts(&keys, &columns)?));
        let batches = joined.or_fail(ErrorKind::Failed, doing)?.collect().await.or_fail(ErrorKind::Failed, doing)?;
        let count = |index: usize| {
            let batch = batches.iter().find(|b| b.num_rows() > 0)?;
            let sums = batch.column(index).as_primitive_opt::<Int64Type>()?;
            Some(sums.value(0).cast_unsigned())
        };
        let entities = match entity {
            Some(id) => {
                let touched = sides().and_then(|sides| touched(sides, &keys, &id)).or_fail(ErrorKind::Failed, doing)?;
                Some(touched.count().await.or_fail(ErrorKind::Failed, doing)? as u64)
            }
            None => None,
        };
        let each = columns.iter().enumerate().map(|(i, c)| (c.clone(), count(i + 3).unwrap_or(0)));
        Ok(Some(RowChanges {
            added: count(0).unwrap_or(0),
            removed: count(1).unwrap_or(0),
            changed: count(2).unwrap_or(0),
            columns: each.filter(|(_, rows)| *rows > 0).collect(),
            entities,
        }))
    }

    /// The columns that name the rows of a profile or of an identity, and for the latter that of the entity.
    fn keys_of_rows(&self, model: &str) -> Option<(Vec<String>, Option<String>)> {
        match self.models.get(model)? {
            BoundModel::Profile(bound) => Some((vec![format!("{}_id", bound.identity)], None)),
            BoundModel::Identity(bound) => {
                let keys = ["identifier_type", "identifier"].map(str::to_owned).to_vec();
                Some((keys, Some(format!("{}_id", bound.name))))
            }
            _ => None,
        }
    }
}

/// The rows of today and of before, each with that of the same keys.
fn side_by_side((now, before): (DataFrame, DataFrame), keys: &[String]) -> Result<DataFrame, DataFusionError> {
    let same = keys.iter().map(|key| of(NOW, key).eq(of(BEFORE, key)));
    now.join_on(before, JoinType::Full, same)
}

/// The entities of both sides that have won or lost a row; `id` is their column.
fn touched(sides: (DataFrame, DataFrame), keys: &[String], id: &str) -> Result<DataFrame, DataFusionError> {
    let (now, before) = sides.clone();
    let moved = binary_expr(of(NOW, id), Operator::IsDistinctFrom, of(BEFORE, id));
    let moved = side_by_side(sides, keys)?.filter(moved)?;
    let won = moved.clone().select([of(NOW, id).alias("entity")])?;
    let lost = moved.select([of(BEFORE, id).alias("entity")])?;
    let known = before.select([of(BEFORE, id).alias("before")])?.distinct()?;
    let stays = now.select([of(NOW, id).alias("now")])?.distinct()?;
    won.union_distinct(lost)?.join(known, JoinType::Inner, &["entity"], &["before"], None)?.join(
        stays,
        JoinType::Inner,
        &["entity"],
        &["now"],
        None,
    )
}

/// Columns of both tables, of one type, without the keys.
fn common(now: &SchemaRef, before: &SchemaRef, keys: &[String]) -> Vec<String> {
    let same = |f: &&datafusion::arrow::datatypes::FieldRef| {
        before.field_with_name(f.name()).is_ok_and(|other| other.data_type() == f.data_type())
    };
    now.fields().iter().filter(same).map(|f| f.name().clone()).filter(|name| !keys.contains(name)).collect()
}

fn of(table: &str, column: &str) -> Expr {
    Expr::Column(Column::new(Some(table), column))
}

/// Added, removed, changed, and then the differences of each column.
fn counts(keys: &[String], columns: &[String]) -> Result<Vec<Expr>, DataFusionError> {
    let key = keys.first().map_or("", String::as_str);
    let counted = |condition: Expr| Ok::<_, DataFusionError>(sum(when(condition, lit(1_i64)).otherwise(lit(0_i64))?));
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
