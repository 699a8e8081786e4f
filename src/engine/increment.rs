//! SQL models whose table grows: a run makes the rows of those keys again that new files touch.
//!
//! [`super::keyed`] proves which source tables the key comes from. Of a model's new files ([`Update`] names them) the distinct
//! keys are read; the query runs over all rows of these keys, and their rows take the place of those that the table has.
//! The law: the table is what the whole query gives. Whatever is not provably so is made whole, and the run says why.
//!
//! # Not here
//! Whether there is anything to do, and whether new files are all that changed: [`crate::plan`] decides.

use super::build::{Built, Facts, RunContext, Updated, conform};
use super::keyed::{Key, RANKED, is_exact, over_scans};
use super::planned::PlannedRows;
use super::storable::unsteady;
use super::{BoundModel, Engine, committed, fold, internal};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{Increment, Model, ModelKind};
use crate::plan::{NewFiles, Reason};
use crate::project::nearest;
use crate::warehouse::Table;
use datafusion::arrow::array::{AsArray as _, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, ScalarValue};
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, TableScan, cast, lit};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// So many keys are also asked of the files, which may know that they have none of them.
const FEW_KEYS: usize = 1_000;
const TOUCHED: &str = "__kinfold_touched";

/// By table, why the key does not come from its rows; nothing where it does.
pub(super) type Proof = BTreeMap<String, Option<String>>;

/// A model as it is made in parts.
struct Growing<'a> {
    engine: &'a Engine,
    run: &'a RunContext,
    name: &'a str,
    plan: LogicalPlan,
    /// As the table is stored.
    schema: &'a SchemaRef,
    /// Columns of the key, by their place.
    key: Vec<usize>,
}

impl Engine {
    pub(super) fn increment(&self, model: &str) -> Option<&Increment> {
        match &self.project.models.get(model)?.kind {
            ModelKind::Sql(sql) => sql.increment(),
            _ => None,
        }
    }

    /// By incremental model, the source tables from whose rows its key comes.
    ///
    /// # Errors
    /// Never for bound models.
    pub fn keyed_tables(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut keyed = BTreeMap::new();
        for (name, model) in &self.models {
            let (Some(increment), BoundModel::Sql { plan, .. }) = (self.increment(name), model) else { continue };
            let plan = self.made(name, plan.clone()).map_err(internal)?;
            let proof = self.prove(&plan, increment.key()).map_err(internal)?;
            let tables = proof.into_iter().filter(|(_, why)| why.is_none()).map(|(table, _)| table);
            keyed.insert(name.clone(), tables.collect());
        }
        Ok(keyed)
    }

    /// The plan that makes a model's rows, with its types.
    fn made(&self, name: &str, plan: LogicalPlan) -> EngineResult<LogicalPlan> {
        let plan = super::erased::guarded(&self.parts(), name, plan)?;
        self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| {})
    }

    fn prove(&self, plan: &LogicalPlan, key: &[Spanned<String>]) -> EngineResult<Proof> {
        let tables = self.lineage_tables();
        let mut proof = Proof::new();
        let mut note = |scan: TableScan, key: &Key| {
            let name = tables.name_of(&scan);
            let why = key.as_ref().err().map(|why| self.told(&name, why));
            let known = proof.entry(name).or_insert(None);
            *known = known.take().or(why);
            Ok(LogicalPlan::TableScan(scan))
        };
        over_scans(plan.clone(), Ok(columns_at(plan, &places(plan, key))), &mut note)?;
        // what another model makes is rewritten by its runs
        for (table, why) in proof.iter_mut().filter(|(table, _)| !self.sources.contains_key(*table)) {
            why.get_or_insert_with(|| format!("`{table}` is made by another model, which may change any of its rows"));
        }
        Ok(proof)
    }

    fn told(&self, table: &str, why: &str) -> String {
        let ranked = self.project.source_table(table).filter(|_| why == RANKED).and_then(|(_, t)| {
            let version = t.version.as_ref().and(t.row_id.as_ref()).map(|id| ("version", &id.value));
            version.or_else(|| t.dedupe.as_ref().map(|d| ("dedupe", &d.by.value)))
        });
        match ranked {
            Some((rule, by)) => format!("its `{rule}` compares rows that have one `{by}`, which may have several keys"),
            None => why.to_owned(),
        }
    }

    /// Makes the rows of an incremental model: those of touched keys, or all.
    pub(super) async fn grow(
        &self,
        (name, increment): (&str, &Increment),
        (plan, schema): (&LogicalPlan, &SchemaRef),
        new: &NewFiles,
        run: &RunContext,
    ) -> Result<std::result::Result<Built, Reason>> {
        let doing = || format!("the query of `{name}` failed");
        let Some(at) = run.base.tables.get(name) else { return Ok(Err(Reason::New)) };
        let table = run.warehouse.table(at).await?;
        if !has_columns(&table, schema) {
            return Ok(Err(Reason::Columns));
        }
        let plan = self.made(name, plan.clone()).or_fail(ErrorKind::Failed, doing)?;
        let key = places(&plan, increment.key());
        let growing = Growing { engine: self, run, name, plan, schema, key };
        let touched = growing.touched(new).await?;
        let batches = growing.rows_of(&touched).await?;
        unique(name, increment, &batches, schema)?;
        growing.merged(&table, &touched, batches).await.map(Ok)
    }
}

/// Checks that an incremental model can grow.
pub(super) fn check(engine: &Engine, model: &Model, bound: &BoundModel, findings: &mut Vec<Diagnostic>) {
    let name = &model.name.value;
    let (Some(increment), BoundModel::Sql { plan, .. }) = (engine.increment(name), bound) else { return };
    let before = findings.len();
    for named in increment.unique_key.iter().chain(&increment.by) {
        findings.extend(unfit(name, plan, named));
    }
    let Some(first) = increment.key().first().filter(|_| findings.len() == before) else { return };
    let refused = |label: &str| {
        Diagnostic::error(Code::NotIncremental, first.span, format!("`{name}` cannot grow key by key"))
            .with_label(label.to_owned())
            .with_help("change the query, or write `materialized: table`")
    };
    let proof = engine.made(name, plan.clone()).and_then(|typed| {
        let moving = moving(&typed)?;
        Ok((moving, engine.prove(&typed, increment.key())?))
    });
    match proof {
        Ok((Some(why), _)) => findings.push(refused("all keys would be made again").with_note(why)),
        Ok((None, proof)) if proof.values().all(Option::is_some) => {
            let reads_nothing = proof.is_empty().then(|| "it reads no table".to_owned());
            let told = proof.iter().filter_map(|(table, why)| Some(format!("{table}: {}", why.as_ref()?)));
            let finding = refused("new rows of no table tell which keys they touch");
            findings.push(told.chain(reads_nothing).fold(finding, Diagnostic::with_note));
        }
        Ok(_) => {}
        Err(error) => findings.push(refused("nothing can be said of this query").with_note(super::bind::plain(&error))),
    }
}

/// What keeps a column from being part of a key.
fn unfit(model: &str, plan: &LogicalPlan, named: &Spanned<String>) -> Option<Diagnostic> {
    let fields = plan.schema().fields();
    let Some(field) = fields.iter().find(|f| *f.name() == named.value) else {
        let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
        let message = format!("no column `{}` in `{model}`", named.value);
        let near = nearest(&named.value, names.iter().copied());
        let help = near.map_or_else(|| format!("there are: {}", names.join(", ")), |n| format!("did you mean `{n}`?"));
        let finding = Diagnostic::error(Code::SqlUnknownColumn, named.span, message);
        return Some(finding.with_label("not a column").with_help(help));
    };
    if is_exact(field.data_type()) {
        return None;
    }
    let found = super::mistakes::sql_type(&field.data_type().to_string());
    let message = format!("`{}` is {found}, of which equal values may differ or change in a table", named.value);
    let finding = Diagnostic::error(Code::NotIncremental, named.span, message).with_label("no part of a key");
    Some(finding.with_help("cast it to TEXT, BIGINT, DATE, TIMESTAMP(6) or DECIMAL, or choose another column"))
}

/// What in a plan gives another value in each run.
fn moving(plan: &LogicalPlan) -> EngineResult<Option<String>> {
    let mut why = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                why = why.take().or_else(|| unsteady(part));
                Ok(if why.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    Ok(why)
}

fn places(plan: &LogicalPlan, key: &[Spanned<String>]) -> Vec<usize> {
    let place = |named: &Spanned<String>| plan.schema().fields().iter().position(|f| *f.name() == named.value);
    key.iter().filter_map(place).collect()
}

fn columns_at(plan: &LogicalPlan, places: &[usize]) -> Vec<Expr> {
    places.iter().map(|place| Expr::Column(Column::from(plan.schema().qualified_field(*place)))).collect()
}

/// Whether a table has just these columns.
fn has_columns(table: &Table, schema: &SchemaRef) -> bool {
    let same =
        |(a, b): (&Arc<Field>, &Arc<Field>)| a.name() == b.name() && a.data_type().equals_datatype(b.data_type());
    table.schema.fields().len() == schema.fields().len() && table.schema.fields().iter().zip(schema.fields()).all(same)
}

/// Refuses rows of which two have one `unique_key`.
///
/// # Errors
/// `Data` when there are.
pub(super) fn unique(name: &str, increment: &Increment, batches: &[RecordBatch], schema: &SchemaRef) -> Result<()> {
    let doing = || format!("cannot compare the keys of `{name}`");
    let key = increment.unique_key.iter().filter_map(|named| schema.index_of(&named.value).ok());
    let key: Vec<usize> = key.collect();
    if key.is_empty() {
        return Ok(());
    }
    let fields = key.iter().map(|place| SortField::new(schema.field(*place).data_type().clone())).collect();
    let converter = RowConverter::new(fields).or_fail(ErrorKind::Failed, doing)?;
    let (mut seen, mut again) = (HashSet::new(), 0_u64);
    for batch in batches {
        let columns: Vec<_> = key.iter().map(|place| Arc::clone(batch.column(*place))).collect();
        let rows = converter.convert_columns(&columns).or_fail(ErrorKind::Failed, doing)?;
        again += rows.iter().filter(|row| !seen.insert(row.as_ref().to_vec())).count() as u64;
    }
    if again == 0 {
        return Ok(());
    }
    let names: Vec<&str> = increment.unique_key.iter().map(|named| named.value.as_str()).collect();
    let message =
        format!("the `unique_key` ({}) of `{name}` is not unique: {again} more rows than keys", names.join(", "));
    Err(Error::new(ErrorKind::Data, message)
        .with_help("group the query by it; or, where no column names a row, say `incremental: {by: ...}` instead"))
}

impl Growing<'_> {
    fn doing(&self) -> String {
        format!("the query of `{}` failed", self.name)
    }

    fn key_types(&self) -> impl Iterator<Item = &DataType> {
        self.key.iter().map(|place| self.schema.field(*place).data_type())
    }

    /// A key over rows of the plan in the types of the table.
    fn stored(&self, key: &[Expr]) -> Vec<Expr> {
        key.iter().zip(self.key_types()).map(|(expr, data_type)| cast(expr.clone(), data_type.clone())).collect()
    }

    fn own_key(&self) -> Vec<Expr> {
        columns_at(&self.plan, &self.key)
    }

    /// The distinct keys of rows in new files.
    async fn touched(&self, new: &NewFiles) -> Result<RecordBatch> {
        let tables = self.engine.lineage_tables();
        let mut plans = Vec::new();
        let mut note = |scan: TableScan, key: &Key| {
            let table = tables.name_of(&scan);
            if let (Ok(key), Some(files)) = (key, new.get(&table)) {
                let mut fresh = scan.clone();
                let rows = self.engine.over_some(&table, files).map_err(|e| DataFusionError::External(Box::new(e)))?;
                fresh.source = provider_as_source(rows);
                let named = self.stored(key).into_iter().enumerate().map(|(n, expr)| expr.alias(format!("k{n}")));
                plans.push(LogicalPlanBuilder::from(LogicalPlan::TableScan(fresh)).project(named)?.build()?);
            }
            Ok(LogicalPlan::TableScan(scan))
        };
        over_scans(self.plan.clone(), Ok(self.own_key()), &mut note).or_fail(ErrorKind::Failed, || self.doing())?;
        let field = |(n, data_type): (usize, &DataType)| Field::new(format!("k{n}"), data_type.clone(), true);
        let schema: SchemaRef = Arc::new(Schema::new(self.key_types().enumerate().map(field).collect::<Vec<_>>()));
        let both = plans.into_iter().map(LogicalPlanBuilder::from).map(Ok);
        let both = both.reduce(|a, b| a?.union(b?.build()?));
        let Some(all) = both else { return Ok(RecordBatch::new_empty(schema)) };
        let distinct = all.and_then(LogicalPlanBuilder::distinct).and_then(LogicalPlanBuilder::build);
        let distinct = distinct.or_fail(ErrorKind::Failed, || self.doing())?;
        let batches =
            fold::execute(&self.engine.context, distinct).await.or_fail(ErrorKind::Failed, || self.doing())?;
        let batches = batches.iter().map(|batch| conform(batch, &schema)).collect::<Result<Vec<_>>>()?;
        concat_batches(&schema, &batches).or_fail(ErrorKind::Failed, || self.doing())
    }

    /// What the query gives for these keys, from the rows of these keys.
    async fn rows_of(&self, touched: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let mut only = |scan: TableScan, key: &Key| match key {
            Ok(key) => among(LogicalPlan::TableScan(scan), &self.stored(key), touched, JoinType::RightSemi),
            Err(_) => Ok(LogicalPlan::TableScan(scan)),
        };
        let plan = over_scans(self.plan.clone(), Ok(self.own_key()), &mut only)
            .and_then(|plan| among(plan, &self.stored(&self.own_key()), touched, JoinType::RightSemi))
            .or_fail(ErrorKind::Failed, || self.doing())?;
        let batches = fold::execute(&self.engine.context, plan).await.or_fail(ErrorKind::Failed, || self.doing())?;
        batches.iter().map(|batch| conform(batch, self.schema)).collect()
    }

    /// The table with other rows for these keys: files without them stay as they are.
    async fn merged(&self, table: &Table, touched: &RecordBatch, batches: Vec<RecordBatch>) -> Result<Built> {
        let mut rewritten = Vec::new();
        let mut kept = 0;
        for file in &table.files {
            let gone = self.count_among(table, &file.path, touched).await?;
            let all = file.rows.ok_or_else(|| Error::new(ErrorKind::Data, "a data file does not say its rows"))?;
            kept += all - gone.min(all);
            if gone > 0 {
                rewritten.push(file);
            }
        }
        let made: u64 = batches.iter().map(|b| b.num_rows() as u64).sum();
        let replaces = rewritten.iter().map(|file| file.name.clone()).collect();
        let paths = rewritten.iter().map(|file| &file.path);
        let old = self.scan_of(table, paths)?;
        let old = among(old, &self.columns_of_table(), touched, JoinType::RightAnti).map_err(internal)?;
        let fresh = MemTable::try_new(Arc::clone(self.schema), vec![batches]).map_err(internal)?;
        let rows = super::build::one_after_the_other(Arc::new(ViewTable::new(old, None)), Arc::new(fresh));
        let (rows, schema) = (rows.map_err(internal)?, self.schema);
        let planned = PlannedRows::merging(self.name, schema, rows, made == 0 && rewritten.is_empty(), replaces)?;
        let files = rewritten.len() as u64;
        let updated = Updated::Keys { keys: touched.num_rows() as u64, rows: made, files };
        let facts = Facts::Sql { rows: kept + made, updated: Some(updated) };
        Ok(Built { rows: kept + made, outputs: Vec::new(), planned: vec![planned], facts })
    }

    fn columns_of_table(&self) -> Vec<Expr> {
        self.key.iter().map(|place| Expr::Column(Column::from_name(self.schema.field(*place).name()))).collect()
    }

    fn scan_of<P: std::fmt::Display>(&self, table: &Table, paths: impl Iterator<Item = P>) -> Result<LogicalPlan> {
        let (context, warehouse) = (&self.engine.context, &self.run.warehouse);
        let rows = committed::over_files(context, warehouse, &table.name, paths, self.schema)?;
        let scan = LogicalPlanBuilder::scan("rows", provider_as_source(rows), None);
        scan.and_then(LogicalPlanBuilder::build).map_err(internal)
    }

    /// How many rows of a data file have one of these keys.
    async fn count_among<P: std::fmt::Display>(&self, table: &Table, path: P, touched: &RecordBatch) -> Result<u64> {
        let rows =
            among(self.scan_of(table, std::iter::once(path))?, &self.columns_of_table(), touched, JoinType::RightSemi);
        let counted = rows
            .and_then(|rows| LogicalPlanBuilder::from(rows).aggregate(Vec::<Expr>::new(), vec![count(lit(1))])?.build())
            .map_err(internal)?;
        let batches = fold::execute(&self.engine.context, counted).await.or_fail(ErrorKind::Data, || self.doing())?;
        let count = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().value(0).cast_unsigned();
        Ok(batches.iter().filter(|batch| batch.num_rows() > 0).map(count).sum())
    }
}

/// The rows of a plan whose key is (or, in an anti join, is not) one of these.
fn among(plan: LogicalPlan, key: &[Expr], touched: &RecordBatch, kind: JoinType) -> EngineResult<LogicalPlan> {
    let memory = MemTable::try_new(touched.schema(), vec![vec![touched.clone()]])?;
    let keys = LogicalPlanBuilder::scan(TOUCHED, provider_as_source(Arc::new(memory) as Arc<dyn TableProvider>), None)?;
    let asked = match kind {
        JoinType::RightSemi if touched.num_rows() <= FEW_KEYS => asked_for(plan, key, touched)?,
        _ => plan,
    };
    let named = |n: usize| Expr::Column(Column::new(Some(TOUCHED), format!("k{n}")));
    let on = key.iter().enumerate().map(|(n, expr)| (named(n), expr.clone())).collect();
    let (keys, asked) = (Arc::new(keys.build()?), Arc::new(asked));
    let null = NullEquality::NullEqualsNull;
    let join = Join::try_new(keys, asked, on, None, kind, JoinConstraint::On, null, false)?;
    Ok(LogicalPlan::Join(join))
}

/// Asks for each part of the key by itself: that is what files and folders of partitions can be left out by.
fn asked_for(plan: LogicalPlan, key: &[Expr], touched: &RecordBatch) -> EngineResult<LogicalPlan> {
    let mut builder = LogicalPlanBuilder::from(plan);
    for (expr, values) in key.iter().zip(touched.columns()) {
        let distinct = (0..values.len()).map(|row| ScalarValue::try_from_array(values, row));
        let distinct: HashSet<ScalarValue> = distinct.collect::<EngineResult<_>>()?;
        let has_null = distinct.iter().any(ScalarValue::is_null);
        let there = distinct.into_iter().filter(|value| !value.is_null()).map(lit).collect();
        let listed = expr.clone().in_list(there, false);
        builder = builder.filter(if has_null { listed.or(expr.clone().is_null()) } else { listed })?;
    }
    builder.build()
}
