//! Whether the rows that a plan gives for a key depend only on the rows of that key in the tables that it reads. Pure.
//!
//! A key is a list of expressions over the rows of a plan. It is carried down, node by node, to the scans: over the rows of a
//! scan it is again a list of expressions, a value of each row. What is claimed of a scan that the key reaches: leave out of
//! it any rows whose key is not wanted, and the plan's rows of the wanted keys stay the same. So a row that is new there
//! changes the rows of its own key and no others.
//!
//! # Rules
//! - Expressions are taken through projections, aliases and unions by what stands behind their columns.
//! - Rows that are put together must have one key: the key is made of what they are grouped, partitioned or made distinct
//!   by.
//! - Over a join the key is made of columns of one side. It reaches the other side where an equality of the join gives it
//!   there; of an outer join the rows of the side that may be missing never have the key themselves.
//! - Values count as equal only in types where equal values are the same (see [`is_exact`]): 0.0 and -0.0 are not.
//! - `LIMIT`, subqueries and all that is not named here lose the key, with a reason.

use super::storable::{returns, steady};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Join, LogicalPlan, Operator, TableScan, Unnest, Window,
};

/// A key over the rows of a plan, or why they have none.
pub(super) type Key = std::result::Result<Vec<Expr>, String>;
/// What is done with a scan: it stays, or something with the same columns stands in its place.
pub(super) type Visit<'v> = dyn FnMut(TableScan, &Key) -> Result<LogicalPlan> + 'v;

/// Why the rows of a window lose the key; where a source table ranks its own rows this is said otherwise.
pub(super) const RANKED: &str = "a window function sees rows of several keys; its PARTITION BY lacks the key";

/// Carries a key down to all scans of a plan.
///
/// # Errors
/// Those of `visit`, and when a plan cannot be put together again.
pub(super) fn over_scans(plan: LogicalPlan, key: Key, visit: &mut Visit<'_>) -> Result<LogicalPlan> {
    let key = key.and_then(|key| key.iter().try_for_each(steady).map(|()| key));
    plan.apply_subqueries(|subquery| {
        subquery.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                visit(scan.clone(), &Err("a subquery reads it".to_owned()))?;
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    let keys = match (&plan, key) {
        (LogicalPlan::TableScan(scan), key) => {
            let key = if scan.fetch.is_some() { Err(limited()) } else { key };
            return visit(scan.clone(), &key);
        }
        (_, Ok(key)) => of_inputs(&plan, &key),
        (_, Err(why)) => of_each(&plan, &why),
    };
    let mut keys = keys.into_iter();
    let rebuilt = plan.map_children(|child| {
        let key = keys.next().unwrap_or_else(|| Err("it is not read as rows".to_owned()));
        over_scans(child, key, visit).map(Transformed::yes)
    })?;
    Ok(rebuilt.data)
}

/// Whether equal values of a type are the same value, and come back from a table as they were.
pub(super) fn is_exact(data_type: &DataType) -> bool {
    returns(data_type) && !data_type.is_floating()
}

fn limited() -> String {
    "LIMIT counts rows of all keys".to_owned()
}

/// No input has the key.
fn of_each(node: &LogicalPlan, why: &str) -> Vec<Key> {
    node.inputs().iter().map(|_| Err(why.to_owned())).collect()
}

/// The key over the rows of each input.
fn of_inputs(node: &LogicalPlan, key: &[Expr]) -> Vec<Key> {
    match node {
        LogicalPlan::Projection(p) => vec![through(key, &p.schema, |i| Ok(plain(&p.expr[i])))],
        LogicalPlan::SubqueryAlias(a) => vec![through(key, &a.schema, |i| Ok(column(a.input.schema(), i)))],
        LogicalPlan::Sort(sort) if sort.fetch.is_some() => of_each(node, &limited()),
        LogicalPlan::Limit(_) => of_each(node, &limited()),
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => vec![Ok(key.to_vec())],
        LogicalPlan::Distinct(Distinct::On(on)) => {
            let below = through(key, &on.schema, |i| Ok(plain(&on.select_expr[i])));
            let why = "DISTINCT ON picks among rows of several keys";
            vec![below.and_then(|key| made_of(key, &on.on_expr, on.input.schema(), why))]
        }
        LogicalPlan::Aggregate(aggregate) => vec![of_groups(aggregate, key)],
        LogicalPlan::Window(window) => vec![of_window(window, key)],
        LogicalPlan::Join(join) => of_join(join, key),
        LogicalPlan::Union(union) => {
            union.inputs.iter().map(|input| through(key, &union.schema, |i| Ok(column(input.schema(), i)))).collect()
        }
        LogicalPlan::Unnest(unnest) => vec![of_unnest(unnest, key)],
        _ => of_each(node, &format!("the key is lost in {}", node.display())),
    }
}

/// The key with what stands behind each column of `schema`.
fn through(key: &[Expr], schema: &DFSchema, behind: impl Fn(usize) -> std::result::Result<Expr, String>) -> Key {
    let mut lost = None;
    let mut replace = |part: Expr| match &part {
        Expr::Column(name) => match behind(schema.index_of_column(name)?) {
            Ok(expr) => Ok(Transformed::yes(expr)),
            Err(why) => {
                lost = Some(why);
                Ok(Transformed::no(part))
            }
        },
        _ => Ok(Transformed::no(part)),
    };
    let below = key.iter().map(|expr| Ok(expr.clone().transform_up(&mut replace)?.data)).collect::<Result<Vec<_>>>();
    match (lost, below) {
        (Some(why), _) => Err(why),
        (None, below) => below.map_err(|e| e.to_string()),
    }
}

fn column(schema: &DFSchema, index: usize) -> Expr {
    Expr::Column(Column::from(schema.qualified_field(index)))
}

/// An expression without the names that it is given.
fn plain(expr: &Expr) -> Expr {
    expr.clone().unalias_nested().data
}

fn of_groups(node: &Aggregate, key: &[Expr]) -> Key {
    if node.group_expr.iter().any(|group| matches!(group, Expr::GroupingSet(_))) {
        return Err("GROUPING SETS, ROLLUP and CUBE add up rows of several keys".to_owned());
    }
    let below = through(key, &node.schema, |i| {
        node.group_expr.get(i).map(plain).ok_or_else(|| "the key is made of an aggregate".to_owned())
    });
    below.and_then(|key| made_of(key, &node.group_expr, node.input.schema(), "GROUP BY lacks the key"))
}

fn of_window(node: &Window, key: &[Expr]) -> Key {
    let input = node.input.schema();
    let below = through(key, &node.schema, |i| {
        let computed = i >= input.fields().len();
        if computed { Err("the key is made of a window function".to_owned()) } else { Ok(column(input, i)) }
    });
    node.window_expr.iter().try_fold(below?, |key, computed| match plain(computed) {
        Expr::WindowFunction(function) => made_of(key, &function.params.partition_by, input, RANKED),
        _ => Err(RANKED.to_owned()),
    })
}

fn of_unnest(node: &Unnest, key: &[Expr]) -> Key {
    let input = node.input.schema();
    through(key, &node.schema, |i| {
        let from = node.dependency_indices[i];
        let unfolded = node.exec_columns.iter().any(|c| input.maybe_index_of_column(c) == Some(from));
        if unfolded { Err("the key is made by UNNEST".to_owned()) } else { Ok(column(input, from)) }
    })
}

/// The key, if equal values of `by` give equal keys.
fn made_of(key: Vec<Expr>, by: &[Expr], schema: &DFSchema, why: &str) -> Key {
    let exact = |expr: &Expr| expr.get_type(schema).is_ok_and(|t| is_exact(&t));
    let by: Vec<Expr> = by.iter().map(plain).filter(exact).collect();
    if key.iter().all(|expr| is_made_of(expr, &by)) { Ok(key) } else { Err(why.to_owned()) }
}

fn is_made_of(expr: &Expr, by: &[Expr]) -> bool {
    if by.contains(expr) || matches!(expr, Expr::Literal(..)) {
        return true;
    }
    let (mut parts, mut all) = (0, true);
    let walked = expr.apply_children(|part| {
        parts += 1;
        all &= is_made_of(part, by);
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && parts > 0 && all
}

/// The key over the left and the right side.
fn of_join(node: &Join, key: &[Expr]) -> Vec<Key> {
    let both = (node.left.schema().as_ref(), node.right.schema().as_ref());
    let (left, right) = both;
    let equal = equalities(node);
    let turned: Vec<(Expr, Expr)> = equal.iter().map(|(l, r)| (r.clone(), l.clone())).collect();
    let to_left = |key: &[Expr]| to_side(key, (left, right), &turned);
    let to_right = |key: &[Expr]| to_side(key, (right, left), &equal);
    match node.join_type {
        JoinType::Inner => vec![to_left(key), to_right(key)],
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti if !node.null_aware => {
            match to_side(key, (left, right), &[]) {
                Ok(own) => vec![Ok(own.clone()), to_right(&own)],
                Err(_) => {
                    of_each(&LogicalPlan::Join(node.clone()), "the key is on the side of the join that may be missing")
                }
            }
        }
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => match to_side(key, (right, left), &[]) {
            Ok(own) => vec![to_left(&own), Ok(own)],
            Err(_) => {
                of_each(&LogicalPlan::Join(node.clone()), "the key is on the side of the join that may be missing")
            }
        },
        _ => of_each(&LogicalPlan::Join(node.clone()), "rows of both sides of a FULL JOIN may be missing"),
    }
}

/// What is equal in all rows that a join matches: of the left side, and of the right.
fn equalities(node: &Join) -> Vec<(Expr, Expr)> {
    let (left, right) = (node.left.schema(), node.right.schema());
    let mut found: Vec<(Expr, Expr)> = node.on.clone();
    for condition in node.filter.iter().flat_map(|filter| split_conjunction(filter)) {
        let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) = condition else { continue };
        if is_of(a, left, right) && is_of(b, right, left) {
            found.push((a.as_ref().clone(), b.as_ref().clone()));
        } else if is_of(b, left, right) && is_of(a, right, left) {
            found.push((b.as_ref().clone(), a.as_ref().clone()));
        }
    }
    found.retain(|(a, b)| {
        let types = (a.get_type(left), b.get_type(right));
        matches!(types, (Ok(a), Ok(b)) if a == b && is_exact(&a))
    });
    found
}

/// Whether an expression reads columns of one side, and of it only.
fn is_of(expr: &Expr, own: &DFSchema, other: &DFSchema) -> bool {
    expr.column_refs().into_iter().all(|c| own.has_column(c) && !other.has_column(c))
}

/// The key over one side of a join, with what `equal` (the other's, the own) gives there.
fn to_side(key: &[Expr], (own, other): (&DFSchema, &DFSchema), equal: &[(Expr, Expr)]) -> Key {
    let replace = |part: Expr| match equal.iter().find(|(theirs, _)| *theirs == part) {
        Some((_, ours)) => Ok(Transformed::new(ours.clone(), true, TreeNodeRecursion::Jump)),
        None => Ok(Transformed::no(part)),
    };
    let side = key.iter().map(|expr| Ok(expr.clone().transform_down(replace)?.data)).collect::<Result<Vec<_>>>();
    let side = side.map_err(|e| e.to_string())?;
    if side.iter().all(|expr| is_of(expr, own, other)) {
        Ok(side)
    } else {
        Err("it is joined without an equality that gives the key".to_owned())
    }
}
