//! From authors' aggregates, windows and orders to columns of the fold.

use super::entities::EntitySlot;
use super::fold::{FoldColumn, FoldInput, FoldTable, entity_by_id, in_common_types, serving};
use super::functions::{Ordered, PickFirst, Returns};
use super::identity::BoundIdentity;
use super::{EngineParts, Relation, time_type};
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::model::Window;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, cast, ident, lit};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What binding traits and conditions needs to know of one profile.
pub(super) struct FoldScope<'a> {
    pub parts: &'a EngineParts<'a>,
    pub identity: &'a BoundIdentity,
    pub relations: &'a BTreeMap<String, Relation>,
    /// Tables that columns asked for, by key.
    pub tables: BTreeMap<String, FoldTable>,
}

impl FoldScope<'_> {
    /// The relation of a table, as the fold reads it for the `copy`th time; makes it known to the fold.
    pub(super) fn table(&mut self, name: &Spanned<String>, copy: usize) -> Result<(String, Relation), Box<Diagnostic>> {
        let Some(relation) = self.relations.get(&name.value) else {
            let message = format!("`{}` cannot be read", name.value);
            return Err(Box::new(Diagnostic::error(Code::UnknownTable, name.span, message).with_label("not a table")));
        };
        let key = if copy == 0 { name.value.clone() } else { format!("{}#{copy}", name.value) };
        if !self.tables.contains_key(&key) {
            let entity = self.entity(name, relation)?;
            self.tables.insert(key.clone(), FoldTable { plan: relation.plan.clone(), entity });
        }
        Ok((key, relation.clone()))
    }

    fn slot(&self) -> &EntitySlot {
        &self.identity.slot
    }

    /// The expression that says whose a row is.
    fn entity(&self, name: &Spanned<String>, relation: &Relation) -> Result<Expr, Box<Diagnostic>> {
        let id = format!("{}_id", self.identity.name);
        if let Some(owner) = self.identity.owners.get(&name.value) {
            let (types, identifiers) = owner.identifiers();
            return Ok(self.slot().of_identifiers(types, identifiers));
        }
        if relation.plan.schema().field_with_unqualified_name(&id).is_ok() {
            return Ok(entity_by_id(self.slot(), &id));
        }
        Err(Box::new(
            Diagnostic::error(
                Code::OtherEntity,
                name.span,
                format!("nothing says which `{}` a row of `{}` belongs to", self.identity.name, name.value),
            )
            .with_label("rows of nobody")
            .with_help(format!(
                "add the table to `links` of `{}`, or give the model a column `{id}`",
                self.identity.name
            )),
        ))
    }

    /// Binds SQL over a table's columns.
    pub(super) fn bind(&self, sql: &Spanned<String>, relation: &Relation) -> Result<Expr, Box<Diagnostic>> {
        self.parts.binder().expression(sql, relation.plan.schema(), &relation.name)
    }

    /// Binds a condition over a table's columns.
    pub(super) fn predicate(&self, sql: &Spanned<String>, relation: &Relation) -> Result<Expr, Box<Diagnostic>> {
        self.parts.binder().predicate(sql, relation.plan.schema(), &relation.name)
    }

    /// Binds an aggregate over a table's columns.
    pub(super) fn aggregate(&self, sql: &Spanned<String>, relation: &Relation) -> Result<Expr, Box<Diagnostic>> {
        let binder = self.parts.binder();
        let schema = relation.plan.schema();
        let expr = binder.aggregate(sql, schema, &relation.name)?;
        expr.get_type(schema).map_err(|e| Box::new(binder.finding(&e, sql, &relation.name)))?;
        Ok(expr)
    }
}

/// The table's time as UTC microseconds.
pub(super) fn clock(relation: &Relation, own: Option<&Spanned<String>>) -> Option<Expr> {
    let column = own.map(|t| t.value.clone()).or_else(|| relation.time.clone())?;
    let field = relation.plan.schema().field_with_unqualified_name(&column).ok()?;
    let expr = ident(&column);
    Some(if *field.data_type() == time_type() { expr } else { cast(expr, time_type()) })
}

fn at(micros: i64) -> Expr {
    lit(super::functions::as_of_literal(micros))
}

/// The predicate of a window; `None` when it has no bounds.
pub(super) fn window(
    window: &Window,
    relation: &Relation,
    own_time: Option<&Spanned<String>>,
    as_of: i64,
) -> Result<Option<Expr>, Box<Diagnostic>> {
    if !window.is_bounded() {
        return Ok(None);
    }
    let Some(time) = clock(relation, own_time) else { return Err(no_clock(window, relation)) };
    let mut bounds = Vec::new();
    if let Some(within) = &window.within {
        bounds.push(time.clone().gt_eq(at(as_of.saturating_sub(within.value.micros))));
    }
    if let Some(between) = &window.between {
        let (long, short) = between.value;
        let start = at(as_of.saturating_sub(long.micros));
        bounds.push(if window.inclusive { time.clone().gt_eq(start) } else { time.clone().gt(start) });
        bounds.push(time.clone().lt_eq(at(as_of.saturating_sub(short.micros))));
    }
    if let Some(before) = &window.before {
        let end = at(before.value.timestamp_micros());
        bounds.push(if window.inclusive { time.clone().lt_eq(end) } else { time.clone().lt(end) });
    }
    if let Some(after) = &window.after {
        let start = at(after.value.timestamp_micros());
        bounds.push(if window.inclusive { time.gt_eq(start) } else { time.gt(start) });
    }
    Ok(bounds.into_iter().reduce(Expr::and))
}

fn no_clock(window: &Window, relation: &Relation) -> Box<Diagnostic> {
    let span = [
        window.within.as_ref().map(|w| w.span),
        window.between.as_ref().map(|w| w.span),
        window.before.as_ref().map(|w| w.span),
        window.after.as_ref().map(|w| w.span),
    ];
    let message = format!("`{}` has no time column, so this window means nothing", relation.name);
    let finding = match span.into_iter().flatten().next() {
        Some(span) => {
            Diagnostic::error(Code::WindowWithoutTime, span, message).with_label("needs the time of each row")
        }
        None => Diagnostic::placeless(Code::WindowWithoutTime, message),
    };
    Box::new(finding.with_help(
        "only source tables with `time:` and audiences have one; in a trait, name a model's clock with `time:`",
    ))
}

/// Joins optional predicates.
pub(super) fn all_of(predicates: impl IntoIterator<Item = Option<Expr>>) -> Option<Expr> {
    predicates.into_iter().flatten().reduce(Expr::and)
}

/// An author's aggregate expression taken apart: the aggregates, and what is computed from them.
pub(super) struct TakenApart {
    pub aggregates: Vec<AggregateFunction>,
    pub rest: Expr,
}

/// Takes `sum(a) / count(*)` apart into its aggregates and an expression over their results, which will be
/// named `<prefix>_<n>`.
pub(super) fn take_apart(expr: Expr, owner: &str) -> datafusion::error::Result<TakenApart> {
    let mut aggregates = Vec::new();
    let rest = expr
        .transform_down(|e| match e {
            Expr::AggregateFunction(call) => {
                let name = serving(owner, aggregates.len());
                aggregates.push(call);
                Ok(Transformed::new(ident(name), true, datafusion::common::tree_node::TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?
        .data;
    Ok(TakenApart { aggregates, rest })
}

/// Where an aggregate's rows come from: one entry per table.
pub(super) struct Reading {
    pub key: String,
    pub relation: Relation,
    pub filter: Option<Expr>,
    /// Whether the filter has a window that moves with the logical time.
    pub moves: bool,
    pub order: Vec<Expr>,
    /// Where the author names the table.
    pub at: Span,
}

/// Makes a fold column of the `index`th aggregate of every reading; types may be `assumed`, as [`in_common_types`] says.
pub(super) fn column(
    name: String,
    readings: &[Reading],
    calls: &[&AggregateFunction],
    assumed: bool,
) -> Result<FoldColumn, String> {
    let first = calls[0];
    let function = first.func.name();
    if calls.iter().any(|c| c.func.name() != function || c.params.args.len() != first.params.args.len()) {
        return Err("the aggregate is not the same over all tables of `from`".to_owned());
    }
    // it takes the row that comes first by chance, whatever order it is given
    if function == "any_value" {
        return Err("`any_value` may give another value in each run; use `first` or `last`".to_owned());
    }
    let ordered = matches!(function, "first" | "last");
    let mut inputs = Vec::with_capacity(readings.len());
    let mut keys = 0;
    let mut marker = None;
    for (reading, call) in readings.iter().zip(calls) {
        let mut arguments = Vec::new();
        if ordered {
            if reading.order.is_empty() {
                return Err(format!("`{function}` needs an order, and `{}` has no time column", reading.relation.name));
            }
            keys = reading.order.len();
            arguments.extend(reading.order.iter().cloned());
        }
        match Ordered::of(call, &reading.order) {
            Some((ordered, all)) => {
                arguments = all;
                marker = Some(ordered);
            }
            None => arguments.extend(call.params.args.iter().cloned()),
        }
        let filter = all_of([reading.filter.clone(), call.params.filter.as_deref().cloned()]);
        inputs.push(FoldInput { table: reading.key.clone(), arguments, filter, moves: reading.moves });
    }
    let schemas: Vec<&DFSchema> = readings.iter().map(|reading| reading.relation.plan.schema().as_ref()).collect();
    in_common_types(&mut inputs, &schemas, assumed)?;
    let udaf = if let Some(marker) = marker {
        Arc::new(AggregateUDF::new_from_impl(marker))
    } else if ordered {
        Arc::new(AggregateUDF::new_from_impl(PickFirst::new(vec![function == "last"; keys], Returns::Value)))
    } else {
        Arc::clone(&first.func)
    };
    let empty = empty_value(&udaf, &inputs, readings);
    Ok(FoldColumn { name, function: udaf, distinct: first.params.distinct, inputs, empty })
}

/// Counts of nothing are zero, other aggregates of nothing are null.
fn empty_value(udaf: &AggregateUDF, inputs: &[FoldInput], readings: &[Reading]) -> ScalarValue {
    let types: datafusion::error::Result<Vec<DataType>> =
        inputs[0].arguments.iter().map(|a| a.get_type(readings[0].relation.plan.schema())).collect();
    let result = types.and_then(|t| udaf.return_type(&t));
    match udaf.name() {
        "count" | "unique_count" | "approx_distinct" | "regr_count" => ScalarValue::Int64(Some(0)),
        _ => result.ok().and_then(|t| ScalarValue::try_from(&t).ok()).unwrap_or(ScalarValue::Null),
    }
}
