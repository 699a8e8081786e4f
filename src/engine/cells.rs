//! Rows of a sync that are groups of people: which of them are held back, and whether their number counts people.
//!
//! That a number counts people is seen in the plan of the model that is sent: it is `count(DISTINCT <identity>_id)`, perhaps
//! renamed, cast, filtered, sorted or united on its way. Any other number is held back where it is small, but nothing
//! follows from that for labels.

use super::bind::Binder;
use super::{BoundModel, Engine};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::ColumnRef;
use crate::model::{Cells, ModelKind, SyncModel};
use crate::privacy::{Cell, Withheld, suppressed};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::{Expr, LogicalPlan, cast};
use std::collections::BTreeSet;

/// Bound columns of groups.
#[derive(Debug, Clone)]
pub(super) struct BoundCells {
    /// How many people, then the dimensions.
    pub columns: Vec<Expr>,
    minimum: u64,
    model: String,
}

/// Binds the columns that say what a row counts.
pub(super) fn bind(
    (binder, plan): (&Binder<'_>, &LogicalPlan),
    (cells, over): (&Cells, &str),
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundCells> {
    let mut column = |name: &Spanned<String>| match binder.expression(name, plan.schema(), over) {
        Ok(expr @ Expr::Column(_)) => Some(expr),
        Ok(_) => {
            let finding = Diagnostic::error(Code::SyncColumns, name.span, "`cells` names columns of the model");
            findings.push(
                finding.with_label("an expression").with_help("compute it in the model, and name its column here"),
            );
            None
        }
        Err(finding) => {
            findings.push(*finding);
            None
        }
    };
    let count = column(&cells.count);
    let by: Vec<Option<Expr>> = cells.by.iter().map(&mut column).collect();
    let (count, by) = (count?, by.into_iter().collect::<Option<Vec<Expr>>>()?);
    let kind = datafusion::logical_expr::ExprSchemable::get_type(&count, plan.schema().as_ref()).ok()?;
    if !kind.is_integer() {
        let message = format!("`{}` is {kind}, and people are counted in whole numbers", cells.count.value);
        findings.push(
            Diagnostic::error(Code::SyncColumns, cells.count.span, message)
                .with_label("how many people a row counts")
                .with_help("name the column that is `count(DISTINCT ..._id)`"),
        );
        return None;
    }
    let mut columns = vec![cast(count, DataType::Int64).alias("__people")];
    columns.extend(by.into_iter().enumerate().map(|(at, e)| cast(e, DataType::Utf8).alias(format!("__by_{at}"))));
    Some(BoundCells { columns, minimum: u64::from(cells.minimum), model: over.to_owned() })
}

/// The columns of groups of people.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    /// How many people.
    pub people: ColumnRef,
    /// What names the group.
    pub by: BTreeSet<ColumnRef>,
}

impl Engine {
    /// The columns by which rows of a sync count people, if they are seen to.
    pub(super) fn people_counted(&self, sync: &SyncModel) -> Option<Counted> {
        let cells = sync.cells.as_ref()?;
        let from = &sync.from.value;
        let Some(BoundModel::Sql { plan, .. }) = self.models.get(from) else { return None };
        let at = plan.schema().index_of_column_by_name(None, &cells.count.value)?;
        let identities = self.project.models.iter().filter(|(_, m)| matches!(m.kind, ModelKind::Identity(_)));
        let ids: BTreeSet<String> = identities.map(|(name, _)| format!("{name}_id")).collect();
        counts_people(plan, at, &ids).then(|| Counted {
            people: ColumnRef::new(from, &cells.count.value),
            by: cells.by.iter().map(|by| ColumnRef::new(from, &by.value)).collect(),
        })
    }
}

/// Whether a column of a plan is the number of distinct entities.
fn counts_people(plan: &LogicalPlan, at: usize, ids: &BTreeSet<String>) -> bool {
    match plan {
        LogicalPlan::Projection(node) => {
            let place = node.expr.get(at).map(bare).and_then(|expr| match expr {
                Expr::Column(column) => node.input.schema().maybe_index_of_column(column),
                _ => None,
            });
            place.is_some_and(|place| counts_people(&node.input, place, ids))
        }
        LogicalPlan::Aggregate(node) => {
            let keys = node.schema.fields().len() - node.aggr_expr.len();
            let counted = at.checked_sub(keys).and_then(|at| node.aggr_expr.get(at)).map(bare);
            counted.is_some_and(|expr| match expr {
                Expr::AggregateFunction(call) => {
                    let of_id = |e: &Expr| matches!(bare(e), Expr::Column(column) if ids.contains(&column.name));
                    call.func.name() == "count" && call.params.distinct && call.params.args.iter().all(of_id)
                }
                _ => false,
            })
        }
        LogicalPlan::Filter(node) => counts_people(&node.input, at, ids),
        LogicalPlan::Sort(node) => counts_people(&node.input, at, ids),
        LogicalPlan::Limit(node) => counts_people(&node.input, at, ids),
        LogicalPlan::SubqueryAlias(node) => counts_people(&node.input, at, ids),
        LogicalPlan::Union(node) => node.inputs.iter().all(|input| counts_people(input, at, ids)),
        _ => false,
    }
}

/// An expression without the names and types that are put around it.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        Expr::Cast(cast) => bare(&cast.expr),
        other => other,
    }
}

impl BoundCells {
    /// By row, whether it is too small, or would tell of one that is. Its columns are those from `first` on.
    ///
    /// # Errors
    /// `Data` when two rows are the same group.
    pub(super) fn withheld(&self, batches: &[RecordBatch], first: usize) -> Result<Vec<Option<Withheld>>> {
        let cells: Vec<Cell> = batches.iter().flat_map(|batch| self.cells(batch, first)).collect();
        suppressed(&cells, self.minimum).map_err(|by| self.twice(&by))
    }

    fn cells(&self, batch: &RecordBatch, first: usize) -> Vec<Cell> {
        let people = batch.column(first).as_primitive::<Int64Type>();
        let by: Vec<_> =
            (first + 1..first + self.columns.len()).map(|at| batch.column(at).as_string::<i32>()).collect();
        let cell = |row: usize| Cell {
            by: by.iter().map(|texts| texts.is_valid(row).then(|| texts.value(row).to_owned())).collect(),
            // what counts nothing is as small as can be
            count: if people.is_valid(row) { people.value(row).max(0).unsigned_abs() } else { 0 },
        };
        (0..batch.num_rows()).map(cell).collect()
    }

    fn twice(&self, by: &[Option<String>]) -> Error {
        let what = if by.is_empty() {
            format!("`{}` has more rows than one", self.model)
        } else {
            format!("two rows of `{}` are the same group", self.model)
        };
        Error::new(ErrorKind::Data, format!("{what}, so that small cells cannot be told"))
            .with_help("name all columns that the model groups by under `by`; null in one of them means all of them")
    }
}
