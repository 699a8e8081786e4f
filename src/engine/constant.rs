//! Conditions that decide nothing, and texts that can never be read as what they are compared with.
//!
//! After a model is bound its conditions are simplified as the optimiser would: one that is then true, false or
//! null holds for all rows or for none, which is hardly meant. So is a conjunction whose bounds on one column
//! exclude each other. Both are warnings. A literal that cannot be cast to the type that its place demands would
//! fail in the run: an error. `WHERE 1 = 1` in a SQL model is an idiom and stays unsaid.

use super::bind::Binder;
use super::mistakes::sql_type;
use super::words::{self, Kind};
use super::{BoundModel, Engine};
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::model::{AudienceCondition, Condition, EventMatch, Model, ModelKind, SourceTable, Trait};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a condition is for every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Constant {
    Always,
    Never,
}

struct Checker<'a> {
    engine: &'a Engine,
    binder: Binder<'a>,
    findings: &'a mut Vec<Diagnostic>,
}

/// Checks a model that was bound.
pub(super) fn check(engine: &Engine, model: &Model, bound: &BoundModel, findings: &mut Vec<Diagnostic>) {
    let parts = engine.parts();
    let mut checker = Checker { engine, binder: parts.binder(), findings };
    match (&model.kind, bound) {
        (ModelKind::Sql(sql), BoundModel::Sql { plan, .. }) => checker.plan(plan, &sql.sql),
        (ModelKind::Identity(identity), _) => {
            for link in &identity.links {
                checker.over_tables(std::slice::from_ref(&link.from), link.filter.as_ref());
            }
        }
        (ModelKind::Profile(profile), BoundModel::Profile(made)) => {
            profile.traits.iter().for_each(|one| checker.a_trait(one));
            let Some(schema) = row_schema(made) else { return };
            for (_, condition) in profile.persona.iter().flat_map(|p| &p.rules) {
                checker.condition(condition, &schema, &made.name);
            }
        }
        (ModelKind::Audience(audience), BoundModel::Audience(made)) => {
            let Some(BoundModel::Profile(profile)) = engine.models.get(&made.profile) else { return };
            let (AudienceCondition::Where(condition), Some(schema)) = (&audience.condition, row_schema(profile)) else {
                return;
            };
            checker.tree(condition, &schema, &profile.name);
        }
        _ => {}
    }
}

/// Checks the selection of a source table that was opened.
pub(super) fn check_source(engine: &Engine, name: &str, table: &SourceTable, findings: &mut Vec<Diagnostic>) {
    let (Some(filter), Some(open)) = (&table.select.filter, engine.sources.get(name)) else { return };
    let parts = engine.parts();
    let mut checker = Checker { engine, binder: parts.binder(), findings };
    checker.condition(filter, open.raw.schema(), name);
}

/// The columns of a profile's row.
fn row_schema(profile: &super::profile::BoundProfile) -> Option<DFSchemaRef> {
    DFSchema::try_from(profile.schema.as_ref().clone()).ok().map(Arc::new)
}

impl Checker<'_> {
    fn a_trait(&mut self, one: &Trait) {
        self.over_tables(&one.from, one.filter.as_ref());
        for from in &one.from {
            let Some(relation) = self.engine.relations.get(&from.value) else { continue };
            let schema = Arc::clone(relation.plan.schema());
            if let Ok(expr) = self.binder.aggregate(&one.select, &schema, &from.value)
                && self.unreadable(&expr, &schema, &one.select)
            {
                return;
            }
        }
    }

    /// A condition over the rows of tables; what is wrong over one table is said once.
    fn over_tables(&mut self, tables: &[Spanned<String>], condition: Option<&Spanned<String>>) {
        let Some(condition) = condition else { return };
        for table in tables {
            let Some(relation) = self.engine.relations.get(&table.value) else { continue };
            let schema = Arc::clone(relation.plan.schema());
            if self.condition(condition, &schema, &table.value) {
                return;
            }
        }
    }

    fn tree(&mut self, condition: &Spanned<Condition>, row: &DFSchemaRef, profile: &str) {
        match &condition.value {
            Condition::All(parts) => {
                for part in parts {
                    self.tree(part, row, profile);
                }
                self.traits_together(parts, row, profile);
            }
            Condition::Any(parts) => parts.iter().for_each(|part| self.tree(part, row, profile)),
            Condition::Not(inner) => self.tree(inner, row, profile),
            Condition::Event(event) => {
                self.matching(&event.matching);
                for extreme in event.first.iter().chain(&event.last) {
                    self.over_tables(std::slice::from_ref(&event.matching.table), Some(extreme));
                }
            }
            Condition::Sequence(steps) => steps.iter().for_each(|step| self.matching(&step.matching)),
            Condition::Audience(_) => {}
            Condition::Trait(sql) => {
                self.condition(sql, row, profile);
            }
        }
    }

    fn matching(&mut self, matching: &EventMatch) {
        self.over_tables(std::slice::from_ref(&matching.table), matching.filter.as_ref());
    }

    /// `trait:` conditions of one `all:` that exclude each other though each may hold alone.
    fn traits_together(&mut self, parts: &[Spanned<Condition>], row: &DFSchemaRef, profile: &str) {
        let mut together = lit(true);
        let mut before: Vec<(Span, Expr)> = Vec::new();
        for part in parts {
            let Condition::Trait(sql) = &part.value else { continue };
            let Ok(expr) = self.binder.predicate(sql, row, profile) else { return };
            if self.constant(expr.clone(), row).is_some() {
                continue;
            }
            together = together.and(expr.clone());
            if self.constant(together.clone(), row) == Some(Constant::Never) {
                let mut finding = Diagnostic::warning(
                    Code::ConstantCondition,
                    sql.span,
                    "this condition excludes what stands before it, so nobody is selected",
                )
                .with_label("never holds together")
                .with_help("correct the numbers, or put the two under `any:`");
                // those that exclude it alone, or all where only all do
                let alone = |other: &Expr| self.constant(other.clone().and(expr.clone()), row).is_some();
                let some = before.iter().any(|(_, other)| alone(other));
                let shown = before.iter().filter(|(_, other)| !some || alone(other));
                finding.related = shown.map(|(span, _)| (*span, "with this".to_owned())).collect();
                self.findings.push(finding);
                return;
            }
            before.push((sql.span, expr));
        }
    }

    /// Checks one condition over a row; true when something was said.
    fn condition(&mut self, sql: &Spanned<String>, schema: &DFSchemaRef, over: &str) -> bool {
        let Ok(expr) = self.binder.predicate(sql, schema, over) else { return false };
        if self.unreadable(&expr, schema, sql) {
            return true;
        }
        let Some(constant) = self.constant(expr.clone(), schema) else { return false };
        let (message, label) = match constant {
            Constant::Always => ("this condition is always true", "selects every row"),
            Constant::Never => ("this condition is never true", "selects no row"),
        };
        let finding = Diagnostic::warning(Code::ConstantCondition, sql.span, message).with_label(label);
        self.findings.push(finding.with_help(way_out(constant, &expr)));
        true
    }

    /// What a condition is for every row, if it does not depend on the row.
    fn constant(&self, expr: Expr, schema: &DFSchemaRef) -> Option<Constant> {
        let options = Arc::clone(self.binder.state.config_options());
        let context = SimplifyContext::builder().with_schema(Arc::clone(schema)).with_config_options(options).build();
        let simplifier = ExprSimplifier::new(context);
        let simple = simplifier.coerce(expr, schema).and_then(|e| simplifier.simplify(e)).ok()?;
        match &simple {
            Expr::Literal(ScalarValue::Boolean(Some(true)), _) => Some(Constant::Always),
            Expr::Literal(ScalarValue::Boolean(Some(false) | None) | ScalarValue::Null, _) => Some(Constant::Never),
            other => excluding(other).then_some(Constant::Never),
        }
    }

    /// Says a literal that cannot be read as the type that it is compared with.
    fn unreadable(&mut self, expr: &Expr, schema: &DFSchemaRef, sql: &Spanned<String>) -> bool {
        let context = SimplifyContext::builder().with_schema(Arc::clone(schema)).build();
        let Ok(typed) = ExprSimplifier::new(context).coerce(expr.clone(), schema) else { return false };
        let Some((text, kind)) = bad_literal(&typed) else { return false };
        self.not_readable(&text, &kind, sql);
        true
    }

    fn not_readable(&mut self, text: &str, kind: &str, sql: &Spanned<String>) {
        let kind = sql_type(kind);
        let message: String = text.chars().take(40).collect();
        let literal = format!("'{}'", text.replace('\'', "''"));
        let pieces = words::pieces(&sql.value);
        let place = pieces.iter().find(|p| p.kind == Kind::Text && p.text == literal);
        let span = place.map_or(sql.span, |p| self.binder.map.locate_range(sql.span, &sql.value, p.start, p.end()));
        let help = match kind.as_str() {
            "TIMESTAMP" | "DATE" => {
                "write a time as '2026-01-31' or '2026-01-31T08:00:00Z', or use `as_of() - interval '1 day'`"
            }
            _ => "correct the text, or compare with text",
        };
        self.findings.push(
            Diagnostic::error(Code::SqlTypes, span, format!("`{message}` cannot be read as {kind}"))
                .with_label("read as another type here")
                .with_help(help),
        );
    }

    /// The filters of a query.
    fn plan(&mut self, plan: &LogicalPlan, sql: &Spanned<String>) {
        let mut never: Vec<Expr> = Vec::new();
        let mut bad = BTreeSet::new();
        let _ = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                bad.extend(bad_literal(expr));
                Ok(TreeNodeRecursion::Continue)
            })?;
            if let LogicalPlan::Filter(filter) = node {
                let schema = filter.input.schema();
                let predicate = &filter.predicate;
                if self.constant(predicate.clone(), schema) == Some(Constant::Never) {
                    never.push(predicate.clone());
                }
                let context = SimplifyContext::builder().with_schema(Arc::clone(schema)).build();
                let typed = ExprSimplifier::new(context).coerce(predicate.clone(), schema);
                bad.extend(typed.ok().and_then(|t| bad_literal(&t)));
            }
            Ok(TreeNodeRecursion::Continue)
        });
        for (text, kind) in bad.into_iter().filter(|(text, _)| sql.value.contains(text.as_str())) {
            self.not_readable(&text, &kind, sql);
        }
        // what a view or a source filters was said where it is written
        never.retain(|predicate| !self.inherited(predicate));
        if let Some(predicate) = never.first() {
            let span = self.where_clause(sql);
            let finding =
                Diagnostic::warning(Code::ConstantCondition, span, "this query has a condition that is never true");
            let finding = finding.with_label("selects no row");
            self.findings.push(finding.with_help(way_out(Constant::Never, predicate)));
        }
    }

    fn inherited(&self, predicate: &Expr) -> bool {
        let mut found = false;
        for relation in self.engine.relations.values() {
            let _ = relation.plan.apply_with_subqueries(|node| {
                found |= matches!(node, LogicalPlan::Filter(filter) if filter.predicate == *predicate);
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            });
        }
        found
    }

    /// The one WHERE of a query, else its first line.
    fn where_clause(&self, sql: &Spanned<String>) -> Span {
        let first = words::find(&sql.value, "WHERE", false);
        let place = first.filter(|_| first == words::find(&sql.value, "WHERE", true));
        match place {
            Some((start, end)) => self.binder.map.locate_range(sql.span, &sql.value, start, end),
            None => self.binder.first_line(sql),
        }
    }
}

fn way_out(constant: Constant, expr: &Expr) -> &'static str {
    let equals = |e: &Expr| matches!(e, Expr::BinaryExpr(BinaryExpr { op: Operator::Eq, .. }));
    match constant {
        Constant::Always => "remove it, or compare with a column",
        Constant::Never if split_conjunction(expr).into_iter().filter(|e| equals(e)).count() > 1 => {
            "a row has one value in a column: join the alternatives with OR, or write `x IN ('a', 'b')`"
        }
        Constant::Never => "correct it: no row can fulfil it; `x = NULL` is written `x IS NULL`",
    }
}

/// A text literal under a cast that fails, and the type of the cast.
fn bad_literal(expr: &Expr) -> Option<(String, String)> {
    let mut found = None;
    let _ = expr.apply(|e| {
        if let Expr::Cast(cast) = e
            && let Expr::Literal(value, _) = cast.expr.as_ref()
            && let Some(Some(text)) = value.try_as_str()
            && value.cast_to(cast.field.data_type()).is_err()
        {
            found = Some((text.to_owned(), cast.field.data_type().to_string()));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// The least and greatest value that a column may have, each with whether the value itself is left out.
#[derive(Default)]
struct Bounds<'e> {
    low: Option<(&'e ScalarValue, bool)>,
    high: Option<(&'e ScalarValue, bool)>,
}

impl<'e> Bounds<'e> {
    fn narrow(&mut self, op: Operator, value: &'e ScalarValue) {
        let strict = matches!(op, Operator::Gt | Operator::Lt);
        if matches!(op, Operator::Eq | Operator::Gt | Operator::GtEq) {
            let tighter = |(old, was): (&ScalarValue, bool)| match value.partial_cmp(old) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => strict && !was,
                _ => false,
            };
            if self.low.is_none_or(tighter) {
                self.low = Some((value, strict));
            }
        }
        if matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq) {
            let tighter = |(old, was): (&ScalarValue, bool)| match value.partial_cmp(old) {
                Some(Ordering::Less) => true,
                Some(Ordering::Equal) => strict && !was,
                _ => false,
            };
            if self.high.is_none_or(tighter) {
                self.high = Some((value, strict));
            }
        }
    }

    fn empty(&self) -> bool {
        let (Some((low, above)), Some((high, below))) = (self.low, self.high) else { return false };
        match low.partial_cmp(high) {
            Some(Ordering::Greater) => true,
            Some(Ordering::Equal) => above || below,
            _ => false,
        }
    }
}

/// Whether the parts of a conjunction leave some column no value.
fn excluding(expr: &Expr) -> bool {
    let mut bounds: BTreeMap<String, Bounds<'_>> = BTreeMap::new();
    for part in split_conjunction(expr) {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { continue };
        if let (Expr::Column(_), Expr::Literal(value, _)) = (left.as_ref(), right.as_ref())
            && !value.is_null()
        {
            bounds.entry(left.to_string()).or_default().narrow(*op, value);
        }
    }
    bounds.values().any(Bounds::empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::col;

    #[test]
    fn bounds_exclude_each_other_only_when_nothing_is_between() {
        let x = || col("x");
        assert!(excluding(&x().gt(lit(5)).and(x().lt(lit(3)))));
        assert!(excluding(&x().gt(lit(5)).and(x().lt_eq(lit(5)))));
        assert!(excluding(&x().eq(lit(1)).and(col("y").gt(lit(0))).and(x().eq(lit(2)))));
        assert!(!excluding(&x().gt_eq(lit(5)).and(x().lt_eq(lit(5)))));
        assert!(!excluding(&x().gt(lit(5)).and(col("y").lt(lit(3)))));
        assert!(!excluding(&x().gt(lit(5)).or(x().lt(lit(3)))));
        assert!(!excluding(&x().lt(lit(5)).and(x().lt(lit(3)))));
    }
}
