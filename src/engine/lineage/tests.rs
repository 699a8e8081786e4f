//! What lineage must say of small queries, written down from what the queries mean: sound is not enough, since
//! "everything" is always sound.

use super::{Tables, of_plan};
use crate::graph::{Columns, TableLineage};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchemaRef, JoinType, Result};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, col, lit,
};
use datafusion::prelude::{SessionConfig, SessionContext};
use std::fmt;
use std::sync::Arc;

/// Tables `t(a, b, s)` and `u(k, v, w)`: numbers and, at the end, a text.
fn context() -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    for (table, columns) in [("t", ["a", "b", "s"]), ("u", ["k", "v", "w"])] {
        let types = [DataType::Int64, DataType::Int64, DataType::Utf8];
        let fields: Vec<Field> = columns.into_iter().zip(types).map(|(n, t)| Field::new(n, t, true)).collect();
        let empty = MemTable::try_new(Arc::new(Schema::new(fields)), vec![Vec::new()]).unwrap();
        context.register_table(table, Arc::new(empty)).unwrap();
    }
    context
}

/// The bound, unoptimised plan of a query.
pub(super) fn plan_of(context: &SessionContext, sql: &str) -> Result<LogicalPlan> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { context.state().create_logical_plan(sql).await })
}

fn words(columns: &Columns) -> String {
    columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Asserts what decides the rows, and for each column where values come from and what else decides them.
#[track_caller]
fn expect(lineage: &TableLineage, rows: &str, columns: &[(&str, &str, &str)]) {
    let own = |c: &crate::graph::ColumnLineage| words(&c.rows.difference(&lineage.rows).cloned().collect());
    let found: Vec<_> = lineage.columns.iter().map(|c| (c.name.clone(), words(&c.values), own(c))).collect();
    let wanted: Vec<_> = columns.iter().map(|(n, v, r)| ((*n).to_owned(), (*v).to_owned(), (*r).to_owned())).collect();
    assert_eq!((words(&lineage.rows), found), (rows.to_owned(), wanted));
}

#[track_caller]
fn query(sql: &str, rows: &str, columns: &[(&str, &str, &str)]) {
    let plan = plan_of(&context(), sql).unwrap();
    expect(&of_plan(&Tables::default(), "m", &plan), rows, columns);
}

#[test]
fn a_projection_takes_what_it_mentions_and_nothing_else() {
    query("SELECT a + 1 AS x, s FROM t", "t.*", &[("x", "t.a", ""), ("s", "t.s", "")]);
    query(
        "SELECT CASE WHEN a > 0 THEN b ELSE 0 END AS x, coalesce(s, 'none') AS y, upper(s) AS z, 1 AS one FROM t",
        "t.*",
        &[("x", "t.a t.b", ""), ("y", "t.s", ""), ("z", "t.s", ""), ("one", "", "")],
    );
    query("SELECT x.z FROM (SELECT a AS y, b AS z FROM t) AS x", "t.*", &[("z", "t.b", "")]);
}

#[test]
fn a_filter_decides_rows() {
    query("SELECT a FROM t WHERE b > 0 AND s IS NULL", "t.* t.b t.s", &[("a", "t.a", "")]);
}

#[test]
fn keys_of_joins_decide_rows_on_both_sides() {
    let both = "t.* t.a u.* u.k";
    query("SELECT s, w FROM t JOIN u ON a = k", both, &[("s", "t.s", ""), ("w", "u.w", "")]);
    query("SELECT s, w FROM t LEFT JOIN u ON a = k", both, &[("s", "t.s", ""), ("w", "u.w", "")]);
    query("SELECT s, v FROM t FULL JOIN u ON a = k", both, &[("s", "t.s", ""), ("v", "u.v", "")]);
    query("SELECT s FROM t LEFT SEMI JOIN u ON a = k", both, &[("s", "t.s", "")]);
    query("SELECT w FROM t RIGHT ANTI JOIN u ON a = k", both, &[("w", "u.w", "")]);
    query(
        "SELECT s, w FROM t JOIN u ON a = k AND v > b",
        "t.* t.a t.b u.* u.k u.v",
        &[("s", "t.s", ""), ("w", "u.w", "")],
    );
    query("SELECT s, w FROM t CROSS JOIN u", "t.* u.*", &[("s", "t.s", ""), ("w", "u.w", "")]);
    query(
        "SELECT s, w FROM t JOIN (SELECT k AS a, w FROM u) AS q USING (a)",
        both,
        &[("s", "t.s", ""), ("w", "u.w", "")],
    );
    query(
        "SELECT s, w FROM t NATURAL JOIN (SELECT k AS a, w FROM u) AS q",
        both,
        &[("s", "t.s", ""), ("w", "u.w", "")],
    );
    query("SELECT l.s, r.b FROM t AS l JOIN t AS r ON l.a = r.b", "t.* t.a t.b", &[("s", "t.s", ""), ("b", "t.b", "")]);
}

#[test]
fn a_mark_decides_no_rows() {
    let context = context();
    let [left, right] = ["SELECT a, s FROM t", "SELECT k FROM u"].map(|sql| plan_of(&context, sql).unwrap());
    let plan = LogicalPlanBuilder::from(left)
        .join(right, JoinType::LeftMark, (vec!["a"], vec!["k"]), None)
        .and_then(LogicalPlanBuilder::build)
        .unwrap();
    expect(
        &of_plan(&Tables::default(), "m", &plan),
        "t.*",
        &[("a", "t.a", ""), ("s", "t.s", ""), ("mark", "", "t.a u.* u.k")],
    );
}

#[test]
fn groups_are_decided_by_their_keys() {
    query(
        "SELECT b, count(*) AS n, sum(a) AS total FROM t GROUP BY b",
        "t.* t.b",
        &[("b", "t.b", ""), ("n", "", ""), ("total", "t.a", "")],
    );
    query("SELECT b FROM t GROUP BY b HAVING max(a) > 1", "t.* t.a t.b", &[("b", "t.b", "")]);
    query("SELECT b, count(*) AS n FROM t GROUP BY ROLLUP (b, s)", "t.* t.b t.s", &[("b", "t.b", ""), ("n", "", "")]);
}

#[test]
fn an_aggregate_of_all_rows_is_one_row_whatever_they_are() {
    query(
        "SELECT count(*) AS n, max(a) FILTER (WHERE b > 0) AS m FROM t WHERE s = 'x'",
        "",
        &[("n", "", "t.* t.s"), ("m", "t.a", "t.* t.b t.s")],
    );
}

#[test]
fn an_order_counts_where_something_is_picked_by_it() {
    query("SELECT a FROM t ORDER BY b", "t.*", &[("a", "t.a", "")]);
    query("SELECT a FROM t ORDER BY b LIMIT 1", "t.* t.b", &[("a", "t.a", "")]);
    // nobody says in which order: any column may decide it
    query("SELECT a FROM t LIMIT 1", "t.* t.a t.b t.s", &[("a", "t.a", "")]);
    query("SELECT first_value(a ORDER BY b) AS f FROM t", "", &[("f", "t.a", "t.* t.b")]);
    query("SELECT array_agg(a) AS f FROM t", "", &[("f", "t.a", "t.* t.a t.b t.s")]);
}

#[test]
fn windows_are_decided_by_partition_and_order() {
    query(
        "SELECT a, row_number() OVER (PARTITION BY b ORDER BY s) AS n, sum(a) OVER (PARTITION BY b) AS total,
                row_number() OVER () AS any_order FROM t",
        "t.*",
        &[("a", "t.a", ""), ("n", "", "t.b t.s"), ("total", "t.a", "t.b"), ("any_order", "", "t.a t.b t.s")],
    );
    query(
        "SELECT a FROM (SELECT a, row_number() OVER (PARTITION BY b ORDER BY s) AS n FROM t) AS q WHERE n = 1",
        "t.* t.b t.s",
        &[("a", "t.a", "")],
    );
}

#[test]
fn distinct_is_decided_by_all_that_it_compares() {
    query("SELECT a FROM (SELECT DISTINCT a, b FROM t) AS q", "t.* t.a t.b", &[("a", "t.a", "")]);
    query("SELECT DISTINCT ON (b) b, a FROM t ORDER BY b, s", "t.* t.b", &[("b", "t.b", "t.s"), ("a", "t.a", "t.s")]);
}

#[test]
fn set_operations_have_the_rows_of_each_input() {
    query("SELECT a AS x FROM t WHERE b = 1 UNION ALL SELECT v FROM u", "t.* t.b u.*", &[("x", "t.a u.v", "")]);
    query("SELECT a FROM t EXCEPT SELECT k FROM u", "t.* t.a u.* u.k", &[("a", "t.a", "")]);
    query("SELECT a FROM t INTERSECT ALL SELECT k FROM u", "t.* t.a u.* u.k", &[("a", "t.a", "")]);
}

#[test]
fn a_subquery_decides_where_it_stands() {
    query(
        "SELECT a, (SELECT max(v) FROM u WHERE u.k = t.b) AS m FROM t",
        "t.*",
        &[("a", "t.a", ""), ("m", "u.v", "t.b u.* u.k")],
    );
    query("SELECT a FROM t WHERE EXISTS (SELECT w FROM u WHERE u.k = t.b)", "t.* t.b u.* u.k", &[("a", "t.a", "")]);
    query("SELECT a FROM t WHERE b NOT IN (SELECT k FROM u WHERE w = 'x')", "t.* t.b u.* u.k u.w", &[("a", "t.a", "")]);
    query(
        "SELECT t.a, q.m FROM t CROSS JOIN LATERAL (SELECT max(v) AS m FROM u WHERE u.k = t.b) AS q",
        "t.*",
        &[("a", "t.a", ""), ("m", "u.v", "t.b u.* u.k")],
    );
}

#[test]
fn named_queries_are_seen_through_even_under_the_name_of_a_table() {
    query("WITH u AS (SELECT a, b AS k FROM t) SELECT k FROM u", "t.*", &[("k", "t.b", "")]);
    query(
        "WITH RECURSIVE r AS (SELECT a AS n, s FROM t UNION ALL SELECT n + b, r.s FROM r JOIN t ON n < 3) SELECT n, s FROM r",
        "t.* t.a t.b",
        &[("n", "t.a t.b", ""), ("s", "t.s", "")],
    );
}

#[test]
fn constants_depend_on_nothing_and_lists_multiply_rows() {
    query("SELECT column1 AS x FROM (VALUES (1), (2)) AS q", "", &[("x", "", "")]);
    query("SELECT a, unnest(make_array(b, 1)) AS e FROM t", "t.* t.b", &[("a", "t.a", ""), ("e", "t.b", "")]);
}

/// A node that nobody knows.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd)]
struct Unknown(LogicalPlan);

impl UserDefinedLogicalNodeCore for Unknown {
    fn name(&self) -> &'static str {
        "Unknown"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.0]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.0.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Unknown")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self(inputs.remove(0)))
    }
}

#[test]
fn an_unknown_node_depends_on_everything_below_it() {
    let below = plan_of(&context(), "SELECT a, s FROM t WHERE b > 0").unwrap();
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(Unknown(below)) });
    let all = "t.* t.a t.b t.s";
    expect(&of_plan(&Tables::default(), "m", &plan), all, &[("a", all, ""), ("s", all, "")]);
}

#[test]
fn a_view_is_a_table_of_its_own_and_a_filter_over_it_is_not_the_view() {
    let view = plan_of(&context(), "SELECT a, b FROM t WHERE s = 'x'").unwrap();
    let mut tables = Tables::default();
    tables.add_plan("v", &view);
    expect(&of_plan(&tables, "v", &view), "t.* t.s", &[("a", "t.a", ""), ("b", "t.b", "")]);
    let filtered = LogicalPlanBuilder::from(view.clone())
        .filter(col("b").gt(lit(0_i64)))
        .and_then(|b| b.project(vec![col("a")]))
        .and_then(LogicalPlanBuilder::build)
        .unwrap();
    expect(&of_plan(&tables, "m", &filtered), "v.* v.b", &[("a", "v.a", "")]);
}
