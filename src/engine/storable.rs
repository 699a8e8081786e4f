//! Which columns of the fold have partial states that can be kept, and what tells them. Pure.
//!
//! # Rules
//! - A state is kept by the keys of its rows, which are what says whose a row is (raw identifiers in owner order, or an
//!   entity's id): another identity resolves the keys again and changes no state.
//! - A row's part in a state must depend on that row alone. Tables with `version` or `dedupe` give rows that depend on
//!   others.
//! - A state must not depend on the logical time, on the clock or on chance: no window that counts from `as_of`.
//! - States of any split of the rows must give the same to the last bit. Floating point numbers that are added or compared
//!   do not; they stay on the path over all files.
//! - States and keys must come back from a table's file as they went in: see [`returns`].
//! - The fingerprint of a column over a table holds all that its states depend on, except the files. What is missing in
//!   it is a silent wrong answer; what is there too often costs a pass over the files.

use super::Engine;
use super::entities::keys_of;
use super::fold::{self, FoldColumn, FoldInput, FoldTable};
use super::sources::OpenTable;
use crate::model::SourceTable;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan, Volatility};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Version of what states mean; those of another one are made again.
const RULES: u32 = 1;
/// Functions whose value is that of the logical time.
const TIME_FUNCTIONS: [&str; 2] = ["as_of", "age_band"];

/// What tells a column's states, by the key of the table that they are of.
pub(super) type Fingerprints = BTreeMap<String, String>;

/// The source table behind a table of the fold, which may be read twice.
pub(super) fn source_of(key: &str) -> &str {
    key.split('#').next().unwrap_or(key)
}

impl Engine {
    /// What tells the states of a column over each of its tables that can keep them, in plain text; or why the column is
    /// read from all files.
    pub(super) fn storable(
        &self,
        tables: &BTreeMap<String, FoldTable>,
        column: &FoldColumn,
    ) -> Result<Fingerprints, String> {
        let mut fingerprints = BTreeMap::new();
        let mut refused = None;
        for input in &column.inputs {
            let Some(table) = tables.get(&input.table) else { continue };
            match self.table_text(source_of(&input.table), table) {
                Ok(text) => {
                    steady_input(input)?;
                    let own = fold::of_table(tables, column, &input.table).map_err(|e| e.to_string())?;
                    fingerprints.insert(input.table.clone(), text + &column_text(&own, table)?);
                }
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        match refused {
            Some(why) if fingerprints.is_empty() => Err(why),
            _ => Ok(fingerprints),
        }
    }

    /// What tells the rows of a table and their keys; or why its states cannot be kept.
    fn table_text(&self, name: &str, table: &FoldTable) -> Result<String, String> {
        let (Some(open), Some((_, source))) = (self.sources.get(name), self.project.source_table(name)) else {
            return Err(format!("`{name}` is made by another model"));
        };
        independent_rows(name, source, open)?;
        let mut text = format!("{RULES} {} {}", env!("CARGO_PKG_VERSION"), self.project.settings.timezone);
        let _ = write!(text, "\n{} {:?}", open.found.place, source.format);
        for field in open.schema.fields() {
            let _ = write!(text, "\n{:?} {}", field.name(), field.data_type());
        }
        plan_text(name, &table.plan, &mut text)?;
        let keys = keys_of(&table.entity).filter(|keys| !keys.is_empty());
        let Some(keys) = keys else { return Err(format!("rows of `{name}` belong to nobody")) };
        for key in keys {
            steady(key)?;
            let data_type = expr_text(key, table, &mut text)?;
            if !returns(&data_type) {
                return Err(format!("what tells whose a row of `{name}` is has the type {data_type}"));
            }
        }
        Ok(text)
    }
}

fn independent_rows(name: &str, source: &SourceTable, open: &OpenTable) -> Result<(), String> {
    if source.version.is_some() {
        return Err(format!("rows of `{name}` are versions of each other"));
    }
    if source.dedupe.is_some() {
        return Err(format!("a row of `{name}` counts only if no earlier one has its `dedupe` key"));
    }
    if !open.found.partitions.is_empty() {
        return Err(format!("the files of `{name}` lie in folders of partitions"));
    }
    Ok(())
}

/// The text of a plan that takes each row by itself.
fn plan_text(name: &str, plan: &LogicalPlan, text: &mut String) -> Result<(), String> {
    let mut why = None;
    let walked = plan.apply(|node| {
        let plain = matches!(
            node,
            LogicalPlan::TableScan(_)
                | LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::SubqueryAlias(_)
        );
        if !plain {
            why = Some(format!("rows of `{name}` depend on each other"));
        }
        let _ = write!(text, "\n{:?}", std::mem::discriminant(node));
        for expr in node.expressions() {
            why = why.take().or(steady(&expr).err());
            canonical(&expr, text);
        }
        Ok(if why.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|e| e.to_string())?;
    why.map_or(Ok(()), Err)
}

/// The text of what a column takes from one table.
fn column_text(column: &FoldColumn, table: &FoldTable) -> Result<String, String> {
    let input = &column.inputs[0];
    let types = input.arguments.iter().map(|argument| argument.get_type(table.plan.schema()));
    let types = types.collect::<datafusion::error::Result<Vec<_>>>().map_err(|e| e.to_string())?;
    splits(&column.function, column.distinct, &types)?;
    let function = match column.function.name() {
        // its steps and the logical time take part only when all events are there
        "kinfold_sequence" => "sequence".to_owned(),
        _ => format!("{:?}", column.function),
    };
    let mut text = format!("\n{function}");
    for argument in &input.arguments {
        expr_text(argument, table, &mut text)?;
    }
    if let Some(filter) = &input.filter {
        text.push_str("\nfilter");
        canonical(filter, &mut text);
    }
    Ok(text)
}

fn expr_text(expr: &Expr, table: &FoldTable, text: &mut String) -> Result<DataType, String> {
    let data_type = expr.get_type(table.plan.schema()).map_err(|e| e.to_string())?;
    let _ = write!(text, "\n{data_type}");
    canonical(expr, text);
    Ok(data_type)
}

/// An expression as text that no other one has: all parameters of its functions, and literals with their lengths,
/// because a text may look like the end of itself.
fn canonical(expr: &Expr, text: &mut String) {
    let _ = write!(text, "\n{expr:?}");
    let _ = expr.apply(|part| {
        if let Expr::Literal(value, _) = part {
            let value = value.to_string();
            let _ = write!(text, "\n{} {value}", value.len());
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

fn steady_input(input: &FoldInput) -> Result<(), String> {
    if input.moves {
        return Err("its window moves with the logical time".to_owned());
    }
    input.arguments.iter().chain(&input.filter).try_for_each(steady)
}

/// Why a function gives something else in another run, if it does.
pub(super) fn unsteady(part: &Expr) -> Option<String> {
    match part {
        Expr::ScalarFunction(call) if TIME_FUNCTIONS.contains(&call.func.name()) => {
            Some(format!("`{}` reads the logical time", call.func.name()))
        }
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            Some(format!("`{}` may give another value in each run", call.func.name()))
        }
        _ => None,
    }
}

/// Whether an expression gives the same for the same row, in every run.
pub(super) fn steady(expr: &Expr) -> Result<(), String> {
    let mut why = None;
    let walked = expr.apply(|part| {
        why = match part {
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
                Some("it asks another table".to_owned())
            }
            Expr::ScalarVariable(..) | Expr::Placeholder(_) => Some("it has a variable".to_owned()),
            part => unsteady(part),
        };
        Ok(if why.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|e| e.to_string())?;
    why.map_or(Ok(()), Err)
}

/// Whether an aggregate's states give the same however rows are split, and can be kept.
fn splits(function: &AggregateUDF, distinct: bool, types: &[DataType]) -> Result<(), String> {
    let name = function.name();
    if fold::sees_order(function) {
        return Err(format!("`{name}` sees its rows in an order"));
    }
    if distinct {
        return Err(format!("`{name}(DISTINCT ...)` keeps no states; `unique_count` does"));
    }
    let is = |fits: fn(&DataType) -> bool| types.iter().all(fits);
    let fits = match name {
        "count" | "kinfold_pick" => true,
        "kinfold_sequence" => types.get(super::functions::SAME).is_some_and(returns),
        "sum" | "bit_and" | "bit_or" | "bit_xor" => is(is_added_exactly),
        "min" | "max" => is(|t| returns(t) && !t.is_floating()),
        "bool_and" | "bool_or" => is(|t| *t == DataType::Boolean),
        "unique_count" | "unique_list" | "most_frequent" => is(returns),
        _ => return Err(format!("`{name}` has no states that are kept")),
    };
    let shown = || types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if fits { Ok(()) } else { Err(format!("`{name}` of {} does not split exactly", shown())) }
}

/// Whether sums do not depend on the order of addition, in a type that returns.
fn is_added_exactly(data_type: &DataType) -> bool {
    data_type.is_signed_integer() || matches!(data_type, DataType::Decimal128(_, scale) if *scale >= 0)
}

/// Whether values of a type come back from a file as they went in.
pub(super) fn returns(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View => true,
        DataType::Timestamp(TimeUnit::Microsecond, zone) => zone.as_deref().is_none_or(|zone| zone == "UTC"),
        DataType::Decimal128(_, scale) => *scale >= 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::functions::{PickFirst, Returns, aggregate_functions};
    use datafusion::functions_aggregate::{average, count, min_max, sum};
    use datafusion::logical_expr::{col, lit};
    use std::sync::Arc;

    #[test]
    fn what_splits_exactly_is_kept_and_nothing_else() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let kept = |function: Arc<AggregateUDF>, data_type: DataType| splits(&function, false, &[data_type]).is_ok();
        assert!(kept(count::count_udaf(), DataType::Float64));
        assert!(kept(sum::sum_udaf(), DataType::Int32) && kept(sum::sum_udaf(), DataType::Decimal128(10, 2)));
        assert!(!kept(sum::sum_udaf(), DataType::Float64) && !kept(sum::sum_udaf(), DataType::UInt64));
        assert!(kept(min_max::max_udaf(), time.clone()) && kept(min_max::min_udaf(), DataType::Utf8View));
        assert!(!kept(min_max::max_udaf(), DataType::Float64), "no order holds all of them");
        assert!(
            !kept(min_max::max_udaf(), DataType::Timestamp(TimeUnit::Nanosecond, None)),
            "files have no such times"
        );
        assert!(!kept(average::avg_udaf(), DataType::Int64));
        for function in aggregate_functions().into_iter().filter(|f| !["first", "last"].contains(&f.name())) {
            assert!(kept(function.into(), DataType::Utf8));
        }
        let pick = AggregateUDF::new_from_impl(PickFirst::new(vec![true], Returns::Value));
        assert!(splits(&pick, false, &[time, DataType::Float64]).is_ok());
        assert!(splits(&count::count_udaf(), true, &[DataType::Int64]).is_err(), "distinct");
    }

    #[test]
    fn a_text_that_looks_like_an_expression_has_a_fingerprint_of_its_own() {
        let text = |expr: Expr| {
            let mut text = String::new();
            canonical(&expr, &mut text);
            text
        };
        let one = col("a").eq(lit("x")).and(col("a").eq(lit("y")));
        assert_eq!(text(one.clone()), text(one.clone()));
        assert_ne!(text(one.clone()), text(col("a").eq(lit("x\") AND a = Utf8(\"y"))));
        assert_ne!(text(one), text(col("a").eq(lit("y")).and(col("a").eq(lit("x")))));
        assert_ne!(text(col("a").eq(lit(1_i64))), text(col("a").eq(lit("1"))));
    }

    #[test]
    fn what_changes_without_the_row_is_not_steady() {
        assert!(steady(&col("a").eq(lit(1_i64))).is_ok());
        assert!(steady(&datafusion::functions::datetime::expr_fn::now()).is_err());
        assert!(steady(&(datafusion::functions::math::expr_fn::random() + lit(1.0))).is_err());
    }
}
