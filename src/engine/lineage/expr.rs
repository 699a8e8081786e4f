//! Lineage of expressions. Every kind of expression is named, so that a new one breaks the build.

use super::flow::{Scope, Sets};
use super::plan::Analysis;
use crate::graph::Lowering;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::{AggregateUDF, Expr, Subquery, WindowFunctionDefinition};

/// What an expression's parts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The result is computed from them.
    Values,
    /// They only decide what is taken.
    Rows,
}

type Parts<'e> = Vec<(&'e Expr, Role)>;

/// Aggregates whose result does not depend on the order of rows (floating-point sums up to rounding). Any
/// other aggregate without an ORDER BY of its own may pick by the order in which rows come.
const WITHOUT_ORDER: [&str; 27] = [
    "approx_distinct",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "grouping",
    "max",
    "median",
    "min",
    "most_frequent",
    "percentile_cont",
    "regr_count",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "sum",
    "unique_count",
    "unique_list",
    "var",
    "var_pop",
    "var_samp",
];

fn needs_order(function: &AggregateUDF) -> bool {
    WITHOUT_ORDER.binary_search(&function.name()).is_err()
}

impl Analysis<'_> {
    /// What an expression over `scope` depends on, beyond the frame of its input.
    ///
    /// A work list instead of recursion: a condition may be a chain of thousands.
    pub(super) fn sets(&mut self, expr: &Expr, scope: &Scope<'_>) -> Sets {
        let mut found = Sets::default();
        let mut open: Parts<'_> = vec![(expr, Role::Values)];
        while let Some((expr, role)) = open.pop() {
            let own = self.own(expr, role, scope, &mut open);
            match role {
                Role::Values => found.take(&own),
                Role::Rows => found.take_as_rows(&own),
            }
        }
        found
    }

    /// Several expressions together.
    pub(super) fn sets_of<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>, scope: &Scope<'_>) -> Sets {
        let mut all = Sets::default();
        for expr in exprs {
            all.take(&self.sets(expr, scope));
        }
        all
    }

    /// What an expression depends on by itself; its parts go to `open`.
    fn own<'e>(&mut self, expr: &'e Expr, role: Role, scope: &Scope<'_>, open: &mut Parts<'e>) -> Sets {
        let mut also = |part: &'e Expr| open.push((part, role));
        match expr {
            Expr::Column(column) => return scope.column(column),
            Expr::OuterReferenceColumn(_, column) => return scope.outer_column(column),
            Expr::Literal(..) | Expr::ScalarVariable(..) | Expr::Placeholder(_) | Expr::LambdaVariable(_) => {}
            Expr::Not(part)
            | Expr::IsNotNull(part)
            | Expr::IsNull(part)
            | Expr::IsTrue(part)
            | Expr::IsFalse(part)
            | Expr::IsUnknown(part)
            | Expr::IsNotTrue(part)
            | Expr::IsNotFalse(part)
            | Expr::IsNotUnknown(part)
            | Expr::Negative(part) => also(part),
            Expr::Alias(alias) => also(&alias.expr),
            Expr::Cast(cast) => also(&cast.expr),
            Expr::TryCast(cast) => also(&cast.expr),
            Expr::Unnest(unnest) => also(&unnest.expr),
            Expr::Lambda(lambda) => also(&lambda.body),
            Expr::BinaryExpr(binary) => [&binary.left, &binary.right].into_iter().for_each(|e| also(e)),
            Expr::Like(like) | Expr::SimilarTo(like) => [&like.expr, &like.pattern].into_iter().for_each(|e| also(e)),
            Expr::Between(b) => [&b.expr, &b.low, &b.high].into_iter().for_each(|e| also(e)),
            Expr::Case(case) => {
                let branches = case.when_then_expr.iter().flat_map(|(when, then)| [when, then]);
                case.expr.iter().chain(branches).chain(&case.else_expr).for_each(|e| also(e));
            }
            Expr::InList(list) => std::iter::once(&*list.expr).chain(&list.list).for_each(also),
            Expr::ScalarFunction(call) => match lowering(call) {
                Some(by) => return self.lowered(call, by, scope),
                None => call.args.iter().for_each(also),
            },
            Expr::HigherOrderFunction(call) => call.args.iter().for_each(also),
            Expr::GroupingSet(set) => set.distinct_expr().into_iter().for_each(also),
            Expr::AggregateFunction(call) => return aggregate(call, role, scope, open),
            Expr::WindowFunction(call) => return window(call, role, scope, open),
            Expr::ScalarSubquery(query) => return self.subquery(query, scope),
            Expr::Exists(exists) => return Sets::of_rows(self.plan(&exists.subquery.subquery, Some(scope)).frame),
            Expr::InSubquery(membership) => {
                also(&membership.expr);
                return self.subquery(&membership.subquery, scope);
            }
            Expr::SetComparison(comparison) => {
                also(&comparison.expr);
                return self.subquery(&comparison.subquery, scope);
            }
            #[expect(deprecated, reason = "named so that the match has every kind")]
            Expr::Wildcard { .. } => return Sets::of_values(scope.everything()),
        }
        Sets::default()
    }

    /// A call of a function that lowers labels. Recursion goes only as deep as such calls stand in each other.
    fn lowered(&mut self, call: &ScalarFunction, by: Lowering, scope: &Scope<'_>) -> Sets {
        let arguments = self.sets_of(&call.args, scope);
        Sets { values: self.names.lowered(&arguments.values, by), rows: arguments.rows }
    }

    /// A query inside an expression: the values of its column, and all that decides its rows.
    fn subquery(&mut self, query: &Subquery, scope: &Scope<'_>) -> Sets {
        let flow = self.plan(&query.subquery, Some(scope));
        let mut found = Sets::of_rows(flow.frame.clone());
        for column in &flow.columns {
            found.take(column);
        }
        found
    }
}

/// What an approved function does to labels. A hash lowers them only with a key that is a secret: who knows the key
/// can try every value.
fn lowering(call: &ScalarFunction) -> Option<Lowering> {
    match call.func.name() {
        "hmac_sha256" | "hmac_sha512" | "hmac_sha1" | "hmac_md5" => {
            let secret = |e: &Expr| matches!(e, Expr::ScalarFunction(inner) if inner.func.name() == "secret");
            let keyed = call.args.get(1).is_some_and(|key| key.exists(|e| Ok(secret(e))).unwrap_or(false));
            keyed.then_some(Lowering::KeyedHash)
        }
        "year_of" => Some(Lowering::Year),
        "zip3" => Some(Lowering::Zip3),
        "age_band" => Some(Lowering::AgeBand),
        "redact" => Some(Lowering::Redacted),
        _ => None,
    }
}

fn aggregate<'e>(call: &'e AggregateFunction, role: Role, scope: &Scope<'_>, open: &mut Parts<'e>) -> Sets {
    let params = &call.params;
    open.extend(params.args.iter().map(|e| (e, role)));
    open.extend(params.filter.iter().map(|e| (&**e, Role::Rows)));
    open.extend(params.order_by.iter().map(|s| (&s.expr, Role::Rows)));
    let picked = params.order_by.is_empty() && needs_order(&call.func);
    if picked { Sets::of_rows(scope.flow.order.clone()) } else { Sets::default() }
}

fn window<'e>(call: &'e WindowFunction, role: Role, scope: &Scope<'_>, open: &mut Parts<'e>) -> Sets {
    let params = &call.params;
    open.extend(params.args.iter().map(|e| (e, role)));
    open.extend(params.partition_by.iter().map(|e| (e, Role::Rows)));
    open.extend(params.order_by.iter().map(|s| (&s.expr, Role::Rows)));
    open.extend(params.filter.iter().map(|e| (&**e, Role::Rows)));
    let ordered = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(function) => needs_order(function),
        WindowFunctionDefinition::WindowUDF(_) => true,
    };
    // a frame that is not the whole partition has neighbours, also for a sum
    let frame = &params.window_frame;
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    let picked = params.order_by.is_empty() && (ordered || !whole);
    if picked { Sets::of_rows(scope.flow.order.clone()) } else { Sets::default() }
}

#[cfg(test)]
mod tests {
    use super::WITHOUT_ORDER;

    #[test]
    fn the_list_is_sorted_for_the_search() {
        assert!(WITHOUT_ORDER.is_sorted());
    }
}
