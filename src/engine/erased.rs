//! Rows of people who may not be read ([`Tombstones`]) go, before anything else sees them.
//!
//! A table that stands in `links` of an identity says in each row who it is about. Of a row with a tombstone either the whole
//! row goes or the identifier in it: see [`crate::privacy::Tombstones`]. This holds for source tables after selection and
//! types, and for SQL models that are link tables.

use super::EngineParts;
use super::functions::Normalizer;
use crate::model::{IdentityModel, ModelKind, Project};
use crate::privacy::{Mark, Tombstones};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int8Array};
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast, ident, lit, not, when,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the function says of a value: nobody's, somebody's, shared with an erased person, an erased person's own.
const NOBODY: i8 = -1;
const SOMEBODY: i8 = 0;
const SHARED: i8 = 1;
const OWN: i8 = 2;

/// A table without the rows and identifiers that may not be read.
///
/// # Errors
/// When a plan cannot be made; a table that does not bind is left to those who say so.
pub(super) fn guarded(parts: &EngineParts<'_>, name: &str, plan: LogicalPlan) -> Result<LogicalPlan> {
    guarded_as(parts, name, plan, None)
}

/// The same for rows of files, of which models see these `columns`.
///
/// # Errors
/// As [`guarded`].
pub(super) fn guarded_raw(
    parts: &EngineParts<'_>,
    name: &str,
    plan: LogicalPlan,
    columns: &[Expr],
) -> Result<LogicalPlan> {
    let models = LogicalPlanBuilder::from(plan.clone()).project(columns.to_vec())?.build()?;
    let made = columns.iter().map(|column| column.clone().unalias());
    let made = models.schema().fields().iter().map(|field| field.name().clone()).zip(made).collect();
    guarded_as(parts, name, plan, Some(&Seen { schema: Arc::clone(models.schema()), made }))
}

/// Columns as models see them, and what each is made of.
struct Seen {
    schema: DFSchemaRef,
    made: BTreeMap<String, Expr>,
}

impl Seen {
    /// An expression over them as one over the rows of files.
    fn raw(&self, expr: Expr) -> Result<Expr> {
        let made = expr.transform(|part| match &part {
            Expr::Column(column) => Ok(self
                .made
                .get(&column.name)
                .map_or_else(|| Transformed::no(part.clone()), |e| Transformed::yes(e.clone()))),
            _ => Ok(Transformed::no(part)),
        })?;
        Ok(made.data)
    }
}

fn guarded_as(parts: &EngineParts<'_>, name: &str, plan: LogicalPlan, seen: Option<&Seen>) -> Result<LogicalPlan> {
    let Some(tombstones) = parts.tombstones.filter(|t| !t.is_empty()) else { return Ok(plan) };
    let mut guarded = plan;
    for (identity, model) in identities(parts.project) {
        if tombstones.identities().contains(identity) {
            guarded = without(parts, (identity, model), name, (guarded, seen), tombstones)?;
        }
    }
    Ok(guarded)
}

fn identities(project: &Project) -> impl Iterator<Item = (&str, &IdentityModel)> {
    project.models.iter().filter_map(|(name, model)| match &model.kind {
        ModelKind::Identity(identity) => Some((name.as_str(), identity)),
        _ => None,
    })
}

/// Without what one identity says may not be read.
fn without(
    parts: &EngineParts<'_>,
    (identity, model): (&str, &IdentityModel),
    table: &str,
    (plan, seen): (LogicalPlan, Option<&Seen>),
    tombstones: &Arc<Tombstones>,
) -> Result<LogicalPlan> {
    let schema = seen.map_or_else(|| Arc::clone(plan.schema()), |seen| Arc::clone(&seen.schema));
    // what each identifier of a row is, and the columns that it is made of
    let mut found: Vec<(Expr, Vec<String>)> = Vec::new();
    for id in model.links.iter().filter(|link| link.from.value == table).flat_map(|link| &link.ids) {
        let Some(kind) = model.identifiers.iter().find(|i| i.name.value == id.identifier.value) else { continue };
        let Ok(normalizer) = super::identity::normalizer(parts, identity, kind) else { continue };
        let judge = Judge {
            identity: identity.to_owned(),
            kind: kind.name.value.clone(),
            normalizer: Arc::new(normalizer),
            tombstones: Arc::clone(tombstones),
            signature: Signature::any(1, Volatility::Immutable),
        };
        let judge = Arc::new(judge);
        for sql in &id.expressions {
            let Ok(raw) = parts.binder().expression(sql, &schema, table) else { continue };
            let columns = raw.column_refs().into_iter().map(|c| c.name.clone()).collect();
            let raw = seen.map_or(Ok(raw.clone()), |seen| seen.raw(raw))?;
            let text = cast(raw, DataType::Utf8);
            let said = ScalarUDF::new_from_shared_impl(Arc::clone(&judge) as _).call(vec![text]);
            found.push((coalesce(vec![said, lit(NOBODY)]), columns));
        }
    }
    if found.is_empty() {
        return Ok(plan);
    }
    let any = |code: i8| found.iter().map(|(said, _)| said.clone().eq(lit(code))).reduce(Expr::or);
    let (Some(own), Some(shared), Some(somebody)) = (any(OWN), any(SHARED), any(SOMEBODY)) else { return Ok(plan) };
    let keep = not(own).and(not(shared).or(somebody));
    let mut blanked: BTreeMap<&str, Expr> = BTreeMap::new();
    for (said, columns) in &found {
        for column in columns {
            let this = said.clone().eq(lit(SHARED));
            let all = blanked.remove(column.as_str()).map_or(this.clone(), |before| before.or(this));
            blanked.insert(column, all);
        }
    }
    let columns = plan.schema().fields().iter().map(|field| match blanked.get(field.name().as_str()) {
        Some(condition) => {
            let null = lit(ScalarValue::try_from(field.data_type())?);
            Ok(when(condition.clone(), null).otherwise(ident(field.name()))?.alias(field.name()))
        }
        None => Ok(ident(field.name())),
    });
    let columns: Vec<Expr> = columns.collect::<Result<_>>()?;
    LogicalPlanBuilder::from(plan).filter(keep)?.project(columns)?.build()
}

/// What the identifier that a raw text stands for says of its row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Judge {
    identity: String,
    kind: String,
    normalizer: Arc<Normalizer>,
    tombstones: Arc<Tombstones>,
    signature: Signature,
}

impl ScalarUDFImpl for Judge {
    fn name(&self) -> &'static str {
        "kinfold_judge"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        let text = cast_array(&values, &DataType::Utf8)?;
        let text = text.as_string::<i32>();
        let raws: Vec<&str> = text.iter().flatten().collect();
        let mut identifiers = self.normalizer.apply(&raws)?.into_iter();
        let say = |value: &str| match self.tombstones.mark(&self.identity, &self.kind, value) {
            Some(Mark::Own) => OWN,
            Some(Mark::Shared) => SHARED,
            None => SOMEBODY,
        };
        let said: Int8Array =
            text.iter().map(|v| v.and_then(|_| identifiers.next().flatten()).map(|value| say(&value))).collect();
        debug_assert_eq!(said.len(), values.len(), "one answer or null per value");
        Ok(ColumnarValue::Array(Arc::new(said) as ArrayRef))
    }
}
