//! Data tests: bound to tables without reading rows, then run over what models see.
//!
//! Tests that look at each row by itself (not_null, accepted_values, expression, row_count) share one scan of
//! their table; unique, relationships and sql are a query each. Failing rows are read only when there are any:
//! the first [`KEPT_ROWS`] in the order of their key, then of their other columns, so that the same rows are
//! kept by every run. A null passes accepted_values, relationships and expression, and is not compared by
//! unique: that it must not be there is what not_null says. A test that cannot be computed has failed.

use super::bind::{Binder, Bound};
use super::mistakes::sql_type;
use super::{BoundModel, Engine, Relation, fold, internal, time_type};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{Comparator, DataTest, TestKind, TestSeverity};
use crate::project::nearest;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Column, DFSchema, JoinType, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Instant;

/// How many failing rows of a test are kept.
pub const KEPT_ROWS: usize = 1_000;
/// How many failing rows a summary names.
const NAMED_ROWS: usize = 3;

/// How a data test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// No more rows fail than may.
    Pass,
    /// Rows fail; the test only warns.
    Warn,
    /// Rows fail, and the table must not be used.
    Fail,
}

impl CheckStatus {
    /// The word that tables and reports use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What came of one data test.
#[derive(Debug, Clone, Serialize)]
pub struct CheckResult {
    /// The model or source table.
    pub model: String,
    /// The test's name.
    pub test: String,
    /// The kind of test.
    pub kind: &'static str,
    /// The columns that it is about, if it names any.
    pub column: Option<String>,
    /// What a failure means.
    pub severity: TestSeverity,
    /// How it ended.
    pub status: CheckStatus,
    /// Rows that fail; for row_count 1 when the number is out of its bounds.
    pub failures: u64,
    /// Rows that were looked at; a query does not say.
    pub rows: Option<u64>,
    /// Duration; tests that share a scan share its time.
    pub seconds: f64,
    /// Keys of the first failing rows.
    pub keys: Vec<String>,
    /// What the number of failing rows does not say.
    pub detail: Option<String>,
    /// The failing rows that are kept, as JSON objects.
    #[serde(skip)]
    pub failing: Vec<String>,
}

/// A test that is bound to its table.
#[derive(Debug, Clone)]
pub(super) struct BoundTest {
    test: DataTest,
    filter: Option<Expr>,
    check: Check,
}

#[derive(Debug, Clone)]
enum Check {
    /// Rows for which this holds fail.
    Row(Expr),
    Unique(Vec<String>),
    /// `child` (in the parent's sort of type) must be among `parent`'s only column.
    Related {
        child: Expr,
        parent: LogicalPlan,
    },
    Count(Vec<(Comparator, u64)>),
    /// All rows of this fail.
    Query(LogicalPlan),
}

type Planned<T> = datafusion::error::Result<T>;

const PARENT: &str = "__kinfold_parent";
const CHILD: &str = "__kinfold_child";
const COUNT: &str = "__kinfold_count";

impl Engine {
    /// Tables and models that a data test reads besides its own table.
    ///
    /// # Errors
    /// A finding when its SQL does not parse.
    pub fn test_references(&self, test: &DataTest) -> Bound<BTreeSet<String>> {
        match &test.kind {
            TestKind::Relationships { to_table, .. } => Ok(BTreeSet::from([to_table.value.clone()])),
            TestKind::Sql(sql) => self.parts().binder().references(sql).map(|places| places.into_keys().collect()),
            _ => Ok(BTreeSet::new()),
        }
    }

    /// Binds the data tests of source tables and models that are bound; the others had their own findings.
    pub async fn bind_tests(&mut self, owners: &BTreeSet<String>) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for owner in owners {
            let Some(relation) = self.relations.get(owner).cloned() else { continue };
            let mut bound = Vec::new();
            for test in self.project.tests_of(owner).to_vec() {
                match self.bind_test(test, &relation).await {
                    Ok(test) => bound.push(test),
                    Err(finding) => findings.push(*finding),
                }
            }
            self.tests.insert(owner.clone(), bound);
        }
        findings
    }

    async fn bind_test(&self, test: DataTest, relation: &Relation) -> Bound<BoundTest> {
        let parts = self.parts();
        let binder = parts.binder();
        let schema = relation.plan.schema();
        let filter = match &test.filter {
            Some(sql) => Some(binder.predicate(sql, schema, &relation.name)?),
            None => None,
        };
        let check = match &test.kind {
            TestKind::Unique(columns) => {
                let found = columns.iter().map(|c| type_of(c, relation).map(|_| c.value.clone()));
                Check::Unique(found.collect::<Bound<_>>()?)
            }
            TestKind::NotNull(columns) => {
                let nulls = columns.iter().map(|c| type_of(c, relation).map(|_| ident(&c.value).is_null()));
                let nulls = nulls.collect::<Bound<Vec<Expr>>>()?;
                Check::Row(nulls.into_iter().reduce(Expr::or).unwrap_or_else(|| lit(false)))
            }
            TestKind::AcceptedValues { column, values } => {
                let data_type = type_of(column, relation)?;
                let accepted = values.iter().map(|v| literal(v, &data_type, column));
                Check::Row(ident(&column.value).in_list(accepted.collect::<Bound<_>>()?, true).is_true())
            }
            TestKind::Relationships { column, to_table, to_column } => {
                self.related(&binder, relation, column, to_table, to_column)?
            }
            TestKind::Expression(sql) => Check::Row(binder.predicate(sql, schema, &relation.name)?.is_false()),
            TestKind::RowCount { bounds, .. } => Check::Count(bounds.clone()),
            TestKind::Sql(sql) => {
                // the first mistake of a test is enough to mend it
                let plan = binder.query(sql).await.map_err(|found| first(found, sql))?;
                if let Some(finding) = binder.misplaced(&plan, sql) {
                    return Err(finding);
                }
                Check::Query(plan)
            }
        };
        Ok(BoundTest { test, filter, check })
    }

    fn related(
        &self,
        binder: &Binder<'_>,
        relation: &Relation,
        column: &Spanned<String>,
        to_table: &Spanned<String>,
        to_column: &Spanned<String>,
    ) -> Bound<Check> {
        let own = type_of(column, relation)?;
        let Some(parent) = self.relations.get(&to_table.value) else {
            let finding =
                Diagnostic::error(Code::UnknownTable, to_table.span, format!("no table `{}`", to_table.value));
            return Err(Box::new(
                finding
                    .with_label("not defined")
                    .with_help("a source table is written `source.table`, a model by its name"),
            ));
        };
        let theirs = type_of(to_column, parent)?;
        let Some(common) = common(&own, &theirs) else {
            let (name, to) = (&column.value, &to_column.value);
            let message = format!("`{name}` is {own}, but `{to}` of `{}` is {theirs}", parent.name);
            let finding = Diagnostic::error(Code::TestValue, to_column.span, message)
                .with_label("no value can be in both")
                .with_help("compare columns of one sort of type, or cast in a `sql` test");
            return Err(Box::new(finding));
        };
        let values = cast(ident(&to_column.value), common.clone()).alias(PARENT);
        let planned = LogicalPlanBuilder::from(parent.plan.clone())
            .project(vec![values])
            .and_then(LogicalPlanBuilder::build)
            .map_err(|e| Box::new(binder.finding(&e, to_column, &parent.name)))?;
        Ok(Check::Related { child: cast(ident(&column.value), common), parent: planned })
    }

    /// Runs the bound tests of a model or source table.
    pub async fn test(&self, owner: &str) -> Vec<CheckResult> {
        let (Some(tests), Some(relation)) = (self.tests.get(owner), self.relations.get(owner)) else {
            return Vec::new();
        };
        let keys = self.key_of(owner);
        let mut results = Vec::with_capacity(tests.len());
        for (test, (counted, seconds)) in tests.iter().zip(self.scan(relation, tests).await) {
            let started = Instant::now();
            let outcome = match counted {
                Ok(counted) => self.finish(test, relation, &keys, counted).await,
                Err(e) => Err(e),
            };
            results.push(result(owner, test, outcome, seconds + started.elapsed().as_secs_f64()));
        }
        results
    }

    /// Counts rows, and failing rows of tests that look at each row by itself: in one scan, or, when that
    /// fails, test by test, so that only those that cannot be computed fail.
    async fn scan(&self, relation: &Relation, tests: &[BoundTest]) -> Vec<(Result<Counted>, f64)> {
        let started = Instant::now();
        let together = self.count(relation, tests).await;
        let share = started.elapsed().as_secs_f64() / tests.len().max(1) as f64;
        match together {
            Ok(counted) => counted.into_iter().map(|c| (Ok(c), share)).collect(),
            Err(e) if tests.len() == 1 => vec![(Err(e), share)],
            Err(_) => {
                let mut each = Vec::with_capacity(tests.len());
                for test in tests {
                    let started = Instant::now();
                    let counted = self.count(relation, std::slice::from_ref(test)).await;
                    let counted = counted.map(|c| c.into_iter().next().unwrap_or_default());
                    each.push((counted, started.elapsed().as_secs_f64()));
                }
                each
            }
        }
    }

    async fn count(&self, relation: &Relation, tests: &[BoundTest]) -> Result<Vec<Counted>> {
        let mut aggregates = Vec::new();
        for (index, test) in tests.iter().enumerate() {
            if matches!(test.check, Check::Query(_)) {
                continue;
            }
            let rows = counting(test.filter.clone()).map_err(internal)?;
            aggregates.push(rows.alias(format!("rows_{index}")));
            if let Check::Row(bad) = &test.check {
                let failing = super::measures::all_of([test.filter.clone(), Some(bad.clone())]);
                aggregates.push(counting(failing).map_err(internal)?.alias(format!("failures_{index}")));
            }
        }
        if aggregates.is_empty() {
            return Ok(vec![Counted::default(); tests.len()]);
        }
        let plan = LogicalPlanBuilder::from(relation.plan.clone())
            .aggregate(Vec::<Expr>::new(), aggregates)
            .and_then(LogicalPlanBuilder::build)
            .map_err(internal)?;
        let batches = self.rows_of_plan(plan).await?;
        let number = |name: String| {
            let column = batches.first()?.column_by_name(&name)?;
            column.as_primitive::<Int64Type>().iter().next().flatten().map(i64::cast_unsigned)
        };
        let counted =
            |index| Counted { rows: number(format!("rows_{index}")), failures: number(format!("failures_{index}")) };
        Ok((0..tests.len()).map(counted).collect())
    }

    /// The failing rows of a test, counted and, if there are any, read.
    async fn finish(
        &self,
        bound: &BoundTest,
        relation: &Relation,
        keys: &[String],
        counted: Counted,
    ) -> Result<Outcome> {
        let mut outcome = Outcome { rows: counted.rows, ..Outcome::default() };
        if let Check::Count(bounds) = &bound.check {
            let rows = counted.rows.unwrap_or(0);
            if !bounds.iter().all(|(comparator, bound)| compares(rows, *comparator, *bound)) {
                outcome.failures = 1;
                outcome.detail = Some(format!("{rows} rows, expected {}", expected(bounds)));
                outcome.failing = vec![serde_json::json!({"rows": rows}).to_string()];
            }
            return Ok(outcome);
        }
        let failing = failing(bound, relation).map_err(internal)?;
        outcome.failures = match (counted.failures, &bound.check) {
            (Some(failures), _) => failures,
            (None, Check::Unique(columns)) => {
                self.number(repeated(bound, relation, columns).map_err(internal)?).await?
            }
            (None, _) => {
                let all =
                    LogicalPlanBuilder::from(failing.clone()).aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64))]);
                self.number(all.and_then(LogicalPlanBuilder::build).map_err(internal)?).await?
            }
        };
        if outcome.failures > 0 {
            let batches = self.rows_of_plan(first_rows(failing, keys).map_err(internal)?).await?;
            outcome.keys = named_rows(&batches, keys);
            outcome.failing = json_rows(&batches)?;
        }
        Ok(outcome)
    }

    async fn number(&self, plan: LogicalPlan) -> Result<u64> {
        let batches = self.rows_of_plan(plan).await?;
        let Some(batch) = batches.iter().find(|b| b.num_rows() > 0) else { return Ok(0) };
        let column = batch.column(0).as_primitive::<Int64Type>();
        Ok(if column.is_null(0) { 0 } else { column.value(0).cast_unsigned() })
    }

    async fn rows_of_plan(&self, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
        fold::execute(&self.context, plan).await.map_err(|e| Error::new(ErrorKind::Failed, super::bind::plain(&e)))
    }

    /// The columns that name a row of a table to a person: its row id, the entity's id, or what must be unique.
    fn key_of(&self, owner: &str) -> Vec<String> {
        if let Some(row_id) = self.sources.get(owner).and_then(|s| s.row_id.clone()) {
            return vec![row_id];
        }
        match self.models.get(owner) {
            Some(BoundModel::Identity(_)) => vec![format!("{owner}_id")],
            Some(BoundModel::Profile(profile)) => vec![format!("{}_id", profile.identity)],
            Some(BoundModel::Audience(audience)) => vec![format!("{}_id", audience.identity)],
            _ => {
                let tests = self.tests.get(owner).into_iter().flatten();
                let mut unique = tests.filter_map(|t| match &t.check {
                    Check::Unique(columns) => Some(columns.clone()),
                    _ => None,
                });
                unique.next().unwrap_or_default()
            }
        }
    }
}

/// What the shared scan says of a test.
#[derive(Debug, Clone, Default)]
struct Counted {
    rows: Option<u64>,
    failures: Option<u64>,
}

/// What a test found.
#[derive(Debug, Default)]
struct Outcome {
    rows: Option<u64>,
    failures: u64,
    keys: Vec<String>,
    failing: Vec<String>,
    detail: Option<String>,
}

fn result(owner: &str, bound: &BoundTest, outcome: Result<Outcome>, seconds: f64) -> CheckResult {
    let test = &bound.test;
    let (outcome, computed) = match outcome {
        Ok(outcome) => (outcome, true),
        Err(e) => (Outcome { detail: Some(format!("cannot be computed: {e}")), ..Outcome::default() }, false),
    };
    let status = match test.severity {
        _ if computed && outcome.failures <= test.max_failures => CheckStatus::Pass,
        TestSeverity::Warn => CheckStatus::Warn,
        TestSeverity::Error => CheckStatus::Fail,
    };
    let columns: Vec<&str> = test.kind.columns().iter().map(|c| c.value.as_str()).collect();
    CheckResult {
        model: owner.to_owned(),
        test: test.name.clone(),
        kind: test.kind.word(),
        column: (!columns.is_empty()).then(|| columns.join(", ")),
        severity: test.severity,
        status,
        failures: outcome.failures,
        rows: outcome.rows,
        seconds,
        keys: outcome.keys,
        detail: outcome.detail,
        failing: outcome.failing,
    }
}

/// The type of a column that a test names, or a finding.
fn type_of(column: &Spanned<String>, relation: &Relation) -> Bound<DataType> {
    if let Ok(field) = relation.plan.schema().field_with_unqualified_name(&column.value) {
        return Ok(field.data_type().clone());
    }
    Err(Box::new(no_column(column, &relation.name, relation.plan.schema())))
}

/// A finding for a column that a test names and that is not there.
pub(super) fn no_column(column: &Spanned<String>, table: &str, schema: &DFSchema) -> Diagnostic {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let message = format!("`{table}` has no column `{}`", column.value);
    let finding = Diagnostic::error(Code::TestColumn, column.span, message).with_label("not there");
    match nearest(&column.value, names.iter().copied()) {
        Some(near) => finding.with_help(format!("did you mean `{near}`?")),
        None => finding.with_help(format!("its columns are: {}", names.join(", "))),
    }
}

fn literal(value: &Spanned<String>, data_type: &DataType, column: &Spanned<String>) -> Bound<Expr> {
    let read = ScalarValue::Utf8(Some(value.value.clone())).cast_to(data_type);
    match read {
        Ok(read) if !read.is_null() => Ok(lit(read)),
        _ => {
            let data_type = sql_type(&data_type.to_string());
            let message = format!("`{}` is no value of `{}`, which is {data_type}", value.value, column.value);
            Err(Box::new(Diagnostic::error(Code::TestValue, value.span, message).with_label("can never be equal")))
        }
    }
}

/// A type in which values of both can be compared; `None` when they are of different sorts.
fn common(left: &DataType, right: &DataType) -> Option<DataType> {
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let time = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    if left == right {
        return Some(left.clone());
    }
    if text(left) && text(right) {
        return Some(DataType::Utf8);
    }
    if left.is_integer() && right.is_integer() {
        return Some(DataType::Int64);
    }
    if left.is_numeric() && right.is_numeric() {
        return Some(DataType::Float64);
    }
    (time(left) && time(right)).then(time_type)
}

fn counting(filter: Option<Expr>) -> Planned<Expr> {
    match filter {
        Some(filter) => count(lit(1_i64)).filter(filter).build(),
        None => Ok(count(lit(1_i64))),
    }
}

/// The rows that a test looks at.
fn tested(bound: &BoundTest, relation: &Relation, also: Option<Expr>) -> Planned<LogicalPlanBuilder> {
    let builder = LogicalPlanBuilder::from(relation.plan.clone());
    match super::measures::all_of([bound.filter.clone(), also]) {
        Some(filter) => builder.filter(filter),
        None => Ok(builder),
    }
}

/// The plan of all failing rows, with the columns of the table.
fn failing(bound: &BoundTest, relation: &Relation) -> Planned<LogicalPlan> {
    let names: Vec<String> = relation.plan.schema().fields().iter().map(|f| f.name().clone()).collect();
    let columns: Vec<Expr> = names.iter().map(ident).collect();
    match &bound.check {
        Check::Row(bad) => tested(bound, relation, Some(bad.clone()))?.build(),
        Check::Unique(keys) => {
            let right: Vec<Expr> =
                keys.iter().enumerate().map(|(i, k)| ident(k).alias(format!("{PARENT}_{i}"))).collect();
            let on_left: Vec<Column> = keys.iter().map(Column::from_name).collect();
            let on_right: Vec<Column> = (0..keys.len()).map(|i| Column::from_name(format!("{PARENT}_{i}"))).collect();
            let twice = groups(bound, relation, keys)?.project(right)?.build()?;
            tested(bound, relation, None)?.join(twice, JoinType::LeftSemi, (on_left, on_right), None)?.build()
        }
        Check::Related { child, parent } => {
            let mut wide = columns.clone();
            wide.push(child.clone().alias(CHILD));
            let on = (vec![Column::from_name(CHILD)], vec![Column::from_name(PARENT)]);
            tested(bound, relation, Some(child.clone().is_not_null()))?
                .project(wide)?
                .join(parent.clone(), JoinType::LeftAnti, on, None)?
                .project(columns)?
                .build()
        }
        Check::Query(plan) => Ok(plan.clone()),
        Check::Count(_) => LogicalPlanBuilder::empty(false).build(),
    }
}

/// Keys that more than one row has.
fn groups(bound: &BoundTest, relation: &Relation, keys: &[String]) -> Planned<LogicalPlanBuilder> {
    let filled = keys.iter().map(|k| ident(k).is_not_null()).reduce(Expr::and);
    tested(bound, relation, filled)?
        .aggregate(keys.iter().map(ident).collect::<Vec<_>>(), vec![count(lit(1_i64)).alias(COUNT)])?
        .filter(ident(COUNT).gt(lit(1_i64)))
}

/// How many rows share their key with another.
fn repeated(bound: &BoundTest, relation: &Relation, keys: &[String]) -> Planned<LogicalPlan> {
    groups(bound, relation, keys)?.aggregate(Vec::<Expr>::new(), vec![sum(ident(COUNT))])?.build()
}

/// The first rows by key, then by all other columns that have an order.
fn first_rows(plan: LogicalPlan, keys: &[String]) -> Planned<LogicalPlan> {
    let fields = plan.schema().fields().clone();
    let ordered = fields.iter().filter(|f| !f.data_type().is_nested()).map(|f| f.name().clone());
    let others: Vec<String> = ordered.filter(|n| !keys.contains(n)).collect();
    let known = keys.iter().filter(|k| fields.iter().any(|f| f.name() == *k)).cloned();
    let order: Vec<_> = known.chain(others).map(|n| ident(n).sort(true, false)).collect();
    let builder = LogicalPlanBuilder::from(plan);
    let builder = if order.is_empty() { builder } else { builder.sort(order)? };
    builder.limit(0, Some(KEPT_ROWS))?.build()
}

/// `id=7` of the first rows, each once; nothing of a query's rows that do not have the key.
fn named_rows(batches: &[RecordBatch], keys: &[String]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut named: Vec<String> = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        let columns: Vec<usize> = keys.iter().filter_map(|k| schema.index_of(k).ok()).collect();
        for row in 0..batch.num_rows() {
            let one = columns.iter().filter_map(|c| {
                let value = ArrayFormatter::try_new(batch.column(*c).as_ref(), &options).ok()?;
                Some(format!("{}={}", schema.field(*c).name(), value.value(row)))
            });
            let one = one.collect::<Vec<_>>().join(" ");
            if named.len() < NAMED_ROWS && !one.is_empty() && !named.contains(&one) {
                named.push(one);
            }
        }
    }
    named
}

fn json_rows(batches: &[RecordBatch]) -> Result<Vec<String>> {
    let doing = || "cannot keep the failing rows".to_owned();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).or_fail(ErrorKind::Failed, doing)?;
    writer.finish().or_fail(ErrorKind::Failed, doing)?;
    let text = String::from_utf8(writer.into_inner()).or_fail(ErrorKind::Failed, doing)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn compares(rows: u64, comparator: Comparator, bound: u64) -> bool {
    match comparator {
        Comparator::Equal => rows == bound,
        Comparator::NotEqual => rows != bound,
        Comparator::Less => rows < bound,
        Comparator::LessOrEqual => rows <= bound,
        Comparator::Greater => rows > bound,
        Comparator::GreaterOrEqual => rows >= bound,
    }
}

fn expected(bounds: &[(Comparator, u64)]) -> String {
    let each = bounds.iter().map(|(comparator, bound)| match comparator {
        Comparator::GreaterOrEqual => format!("at least {bound}"),
        Comparator::LessOrEqual => format!("at most {bound}"),
        Comparator::Equal => bound.to_string(),
        other => format!("{} {bound}", other.sql()),
    });
    each.collect::<Vec<_>>().join(" and ")
}

/// The first of several findings about one piece of SQL.
fn first(findings: Vec<Diagnostic>, sql: &Spanned<String>) -> Box<Diagnostic> {
    let none = || Diagnostic::error(Code::SqlBinding, sql.span, "this query cannot be bound");
    Box::new(findings.into_iter().next().unwrap_or_else(none))
}
