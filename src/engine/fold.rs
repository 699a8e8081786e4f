//! The fold: one pass over each source table for all traits and conditions.
//!
//! Every trait and condition asks for columns: an aggregate over one or more tables, a filter for each table,
//! and the value of an entity without rows. Tables that some column reads together form a group; a group is
//! one plan (its tables' rows united, one aggregation by entity), so that each table is scanned once however
//! many columns read it. Predicates and arguments that occur twice are computed once. Rows that no column counts are
//! left out before anything is done with them, where that is cheap to say: then files need not give them at all.

use super::entities::EntitySlot;
use super::folding::Folding;
use super::functions::Ordered;
use super::wide::Wide;
use crate::error::{Context, ErrorKind, Result};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::binary::type_union_resolution;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use futures::future::try_join_all;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many different filters of one table are worth asking twice: once for all rows, then for each column.
const MOST_FILTERS: usize = 8;

/// Name of the entity code in a fold's plans.
pub(super) const ENTITY: &str = "__entity";

/// Name of a column that serves a trait, an attribute or an audience. Nobody can give one a name with a space, so it is
/// never that of another's.
pub(super) fn serving(owner: &str, part: impl std::fmt::Display) -> String {
    format!("__{owner} {part}")
}

/// Whom a column serves, by its name.
pub(super) fn served(column: &str) -> &str {
    let name = column.trim_start_matches("__");
    name.split_once(' ').map_or(name, |(owner, _)| owner)
}

/// A table as the fold reads it: one entry per reading (a table may be read twice, as for two phone columns).
#[derive(Debug, Clone)]
pub(super) struct FoldTable {
    /// Its relation.
    pub plan: LogicalPlan,
    /// The expression that gives a row's entity.
    pub entity: Expr,
}

/// What a column takes from one table.
#[derive(Debug, Clone)]
pub(super) struct FoldInput {
    /// Key of the [`FoldTable`].
    pub table: String,
    /// Arguments of the aggregate.
    pub arguments: Vec<Expr>,
    /// Rows that count.
    pub filter: Option<Expr>,
    /// Whether the filter has a window that moves with the logical time.
    pub moves: bool,
}

/// One aggregate of the fold.
#[derive(Debug, Clone)]
pub(super) struct FoldColumn {
    /// Its name in the wide table; unique.
    pub name: String,
    /// The aggregate function.
    pub function: Arc<AggregateUDF>,
    /// Whether values count once.
    pub distinct: bool,
    /// Inputs by table; all with the same number of arguments.
    pub inputs: Vec<FoldInput>,
    /// Value of an entity without rows.
    pub empty: ScalarValue,
}

/// Gives the arguments of a column the same types over all its tables: `schemas` are those of the inputs' tables. Text goes with
/// other types only where types are `assumed`, as in unit tests that say nothing of a column.
///
/// # Errors
/// Says which types do not go together.
pub(super) fn in_common_types(
    inputs: &mut [FoldInput],
    schemas: &[&DFSchema],
    assumed: bool,
) -> std::result::Result<(), String> {
    let width = inputs.first().map_or(0, |input| input.arguments.len());
    for place in 0..width {
        let types = inputs.iter().zip(schemas).map(|(input, schema)| input.arguments[place].get_type(*schema));
        // what has no type is a finding of its own
        let Ok(types) = types.collect::<Result<Vec<DataType>, _>>() else { continue };
        if types.iter().all(|data_type| *data_type == types[0]) {
            continue;
        }
        let (texts, others): (Vec<_>, Vec<_>) = types.iter().cloned().partition(DataType::is_string);
        let plain = others.iter().all(DataType::is_null);
        let common = if texts.is_empty() || plain { type_union_resolution(&types) } else { None };
        let common = common.or_else(|| if assumed { type_union_resolution(&others) } else { None });
        let Some(common) = common else {
            let names =
                types.iter().map(|t| super::mistakes::sql_type(&t.to_string())).collect::<Vec<_>>().join(" and ");
            return Err(format!(
                "tables that are read together have one type of values, here they are {names}: cast them"
            ));
        };
        for (input, _) in inputs.iter_mut().zip(&types).filter(|(_, own)| **own != common) {
            let argument = &mut input.arguments[place];
            *argument = cast(std::mem::take(argument), common.clone());
        }
    }
    Ok(())
}

/// A bound group: a plan and its columns.
#[derive(Debug, Clone)]
pub(super) struct FoldGroup {
    plan: LogicalPlan,
    columns: Vec<(String, ScalarValue)>,
    /// Further names of some of these columns.
    same: Vec<(String, String)>,
    /// Tables that the group scans.
    pub tables: Vec<String>,
    /// What is taken of each of them.
    pub inputs: Vec<LogicalPlan>,
    /// Whether it is a single column that sees its rows in an order.
    pub ordered: bool,
}

impl FoldGroup {
    async fn planned(&self, context: &SessionContext) -> Result<Planned<'_>> {
        let plan = async {
            let frame = context.execute_logical_plan(self.plan.clone()).await?;
            let task = frame.task_ctx();
            Ok::<_, DataFusionError>((frame.create_physical_plan().await?, task))
        };
        let (plan, task) = plan.await.or_fail(ErrorKind::Data, || self.doing())?;
        Ok(Planned { group: self, plan, task })
    }

    /// Adds its columns to the wide table.
    pub(super) fn align(&self, result: &[RecordBatch], threads: usize, wide: &mut Wide) -> Result<()> {
        wide.align(ENTITY, result, &self.columns, threads)?;
        for (name, other) in &self.same {
            wide.push_same(name, other);
        }
        Ok(())
    }

    /// The fold of its rows, where partial states can be merged into it.
    pub(super) async fn folding(&self, context: &SessionContext) -> Result<Option<(Folding, TaskContext)>> {
        let planned = self.planned(context).await?;
        let folding = Folding::of(&planned.plan).or_fail(ErrorKind::Data, || self.doing())?;
        Ok(folding.map(|folding| (folding, planned.task)))
    }

    /// What it does, for errors.
    pub(super) fn doing(&self) -> String {
        format!("cannot fold {}", self.tables.join(", "))
    }

    /// What it executes.
    #[cfg(test)]
    pub(super) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// Names of its columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.columns.iter().map(|(name, _)| name).chain(self.same.iter().map(|(name, _)| name))
    }

    /// Names and types of its columns.
    pub(super) fn fields(&self) -> Vec<(String, DataType)> {
        let schema: &DFSchema = self.plan.schema();
        let made = self.columns.iter().map(|(name, _)| (name, name));
        let all = made.chain(self.same.iter().map(|(name, other)| (name, other)));
        let typed = |(name, made): (&String, &String)| {
            Some((name.clone(), schema.field_with_unqualified_name(made).ok()?.data_type().clone()))
        };
        all.filter_map(typed).collect()
    }
}

/// A group that is ready to run.
struct Planned<'g> {
    group: &'g FoldGroup,
    plan: Arc<dyn ExecutionPlan>,
    task: TaskContext,
}

impl<'g> Planned<'g> {
    async fn run(self, entities: usize) -> Result<(&'g FoldGroup, Vec<RecordBatch>)> {
        let batches = async {
            match Folding::of(&self.plan)? {
                Some(folding) => folding.run(self.task, entities).await,
                None => collect(self.plan, Arc::new(self.task)).await,
            }
        };
        Ok((self.group, batches.await.or_fail(ErrorKind::Data, || self.group.doing())?))
    }
}

/// Runs groups and adds their columns to the wide table. They run side by side, since a small one leaves threads idle;
/// but those that sort rows share the memory budget if they do, and run one after the other.
///
/// # Errors
/// When a table cannot be read or an aggregate fails.
pub(super) async fn run_all(groups: &[FoldGroup], context: &SessionContext, wide: &mut Wide) -> Result<()> {
    let entities = wide.rows();
    let planned = try_join_all(groups.iter().map(|group| group.planned(context))).await?;
    let (sorting, streaming): (Vec<_>, Vec<_>) = planned.into_iter().partition(|planned| sorts(&planned.plan));
    let mut folded = try_join_all(streaming.into_iter().map(|planned| planned.run(entities))).await?;
    for planned in sorting {
        folded.push(planned.run(entities).await?);
    }
    let threads = context.state().config().target_partitions();
    for (group, batches) in folded {
        group.align(&batches, threads, wide)?;
    }
    Ok(())
}

/// Whether a plan sorts rows, as tables with `dedupe` or `version` do.
pub(super) fn sorts(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<SortExec>().is_some() || plan.children().into_iter().any(sorts)
}

/// Runs a bound plan to the end.
pub(super) async fn execute(
    context: &SessionContext,
    plan: LogicalPlan,
) -> datafusion::error::Result<Vec<RecordBatch>> {
    let frame = context.execute_logical_plan(plan).await?;
    let task = Arc::new(frame.task_ctx());
    let physical = frame.create_physical_plan().await?;
    collect(physical, task).await
}

/// Groups columns by the tables that they read together and makes one plan for each group.
///
/// # Errors
/// A DataFusion planning error; its cause is an argument that fits no common type.
pub(super) fn plan(
    tables: &BTreeMap<String, FoldTable>,
    columns: Vec<FoldColumn>,
) -> datafusion::error::Result<Vec<FoldGroup>> {
    let mut groups: Vec<(Vec<String>, Vec<FoldColumn>)> = Vec::new();
    let (alone, columns): (Vec<_>, Vec<_>) = columns.into_iter().partition(|column| ordered(column).is_some());
    for column in columns {
        let mut names = tables_of(&column);
        let mut members = vec![column];
        let (joined, rest): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(t, _)| t.iter().any(|t| names.contains(t)));
        groups = rest;
        for (tables, mut columns) in joined {
            names.extend(tables);
            columns.append(&mut members);
            members = columns;
        }
        names.sort();
        names.dedup();
        groups.push((names, members));
    }
    // two orders of one scan's rows cannot be had at once
    groups.extend(alone.into_iter().map(|column| (tables_of(&column), vec![column])));
    groups.into_iter().map(|(names, columns)| group(tables, names, columns)).collect()
}

/// What a column takes of one of its tables, as a column of its own whose states are states of the column.
pub(super) fn of_table(
    tables: &BTreeMap<String, FoldTable>,
    column: &FoldColumn,
    name: &str,
) -> datafusion::error::Result<FoldColumn> {
    let Some(input) = column.inputs.iter().find(|input| input.table == name) else {
        return datafusion::common::plan_err!("`{}` reads no table `{name}`", column.name);
    };
    let type_of = |input: &FoldInput, place: usize| match tables.get(&input.table) {
        Some(table) => input.arguments[place].get_type(table.plan.schema()),
        None => datafusion::common::plan_err!("no table `{}` in the fold", input.table),
    };
    let mut own = input.clone();
    for (place, argument) in own.arguments.iter_mut().enumerate() {
        // the first table says which type all have
        let common = type_of(&column.inputs[0], place)?;
        if type_of(input, place)? != common {
            *argument = cast(argument.clone(), common);
        }
    }
    Ok(FoldColumn { inputs: vec![own], ..column.clone() })
}

/// How a column wants its rows ordered, if it does.
fn ordered(column: &FoldColumn) -> Option<&Ordered> {
    column.function.inner().downcast_ref::<Ordered>()
}

/// Whether an aggregate of the fold sees its rows in an order.
pub(super) fn sees_order(function: &AggregateUDF) -> bool {
    function.inner().downcast_ref::<Ordered>().is_some()
}

fn tables_of(column: &FoldColumn) -> Vec<String> {
    let mut names: Vec<String> = column.inputs.iter().map(|input| input.table.clone()).collect();
    names.sort();
    names.dedup();
    names
}

fn group(
    tables: &BTreeMap<String, FoldTable>,
    names: Vec<String>,
    columns: Vec<FoldColumn>,
) -> datafusion::error::Result<FoldGroup> {
    let mut projection = Projection::new(tables, &names);
    projection.counted = names.iter().map(|name| counted(&columns, name)).collect();
    let in_order = columns.iter().any(|column| ordered(column).is_some());
    let Calls { aggregates, outputs, same } = calls(&mut projection, columns)?;
    let inputs = projection.build(|table| vec![table.entity.clone().alias(ENTITY)])?;
    let plan = union(&inputs)?.aggregate(vec![ident(ENTITY)], aggregates)?.build()?;
    Ok(FoldGroup { plan, columns: outputs, same, tables: names, inputs, ordered: in_order })
}

/// The plan that aggregates columns of one table by keys of its rows instead of by entity.
pub(super) fn by_keys(
    (name, table): (&str, FoldTable),
    keys: &[Expr],
    columns: Vec<FoldColumn>,
) -> datafusion::error::Result<LogicalPlan> {
    let (names, tables) = (vec![name.to_owned()], BTreeMap::from([(name.to_owned(), table)]));
    let mut projection = Projection::new(&tables, &names);
    projection.counted = vec![counted(&columns, name)];
    let Calls { aggregates, .. } = calls(&mut projection, columns)?;
    let named = |_: &FoldTable| keys.iter().zip(0..).map(|(key, n)| key.clone().alias(key_name(n))).collect();
    let inputs = projection.build(named)?;
    let by = (0..keys.len()).map(|n| ident(key_name(n))).collect::<Vec<_>>();
    union(&inputs)?.aggregate(by, aggregates)?.build()
}

/// Name of a row's `n`th key.
pub(super) fn key_name(n: usize) -> String {
    format!("k{n}")
}

/// The aggregates of some columns over a projection.
struct Calls {
    aggregates: Vec<Expr>,
    outputs: Vec<(String, ScalarValue)>,
    /// Further names of some outputs.
    same: Vec<(String, String)>,
}

fn calls(projection: &mut Projection<'_>, columns: Vec<FoldColumn>) -> datafusion::error::Result<Calls> {
    let mut aggregates = Vec::with_capacity(columns.len());
    let mut outputs = Vec::with_capacity(columns.len());
    let mut same = Vec::new();
    for column in columns {
        let width = column.inputs.first().map_or(0, |i| i.arguments.len());
        let mut arguments = Vec::with_capacity(width);
        for position in 0..width {
            arguments.push(projection.argument(&column.inputs, position)?);
        }
        let filter = projection.filter(&column.inputs);
        let call = match ordered(&column) {
            Some(marker) => marker.apart(arguments, column.distinct, filter),
            None => {
                let (function, filter) = (Arc::clone(&column.function), filter.map(Box::new));
                AggregateFunction::new_udf(function, arguments, column.distinct, filter, Vec::new(), None)
            }
        };
        let call = Expr::AggregateFunction(call);
        // two audiences often count the same: the plan stays a plain aggregation
        let known =
            aggregates.iter().zip(&outputs).find(|(known, (_, empty))| **known == call && *empty == column.empty);
        if let Some((_, (first, _))) = known {
            same.push((column.name, String::clone(first)));
            continue;
        }
        aggregates.push(call);
        outputs.push((column.name, column.empty));
    }
    let aggregates = aggregates.into_iter().zip(&outputs).map(|(call, (name, _))| call.alias(name)).collect();
    Ok(Calls { aggregates, outputs, same })
}

/// The rows of a table that some column counts; `None` when that is all of them, or takes many filters to say.
fn counted(columns: &[FoldColumn], table: &str) -> Option<Expr> {
    let mut filters: Vec<&Expr> = Vec::new();
    for input in columns.iter().flat_map(|column| &column.inputs).filter(|input| input.table == table) {
        let filter = input.filter.as_ref()?;
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    if filters.len() > MOST_FILTERS {
        return None;
    }
    filters.into_iter().cloned().reduce(Expr::or)
}

fn union(inputs: &[LogicalPlan]) -> datafusion::error::Result<LogicalPlanBuilder> {
    let [first, rest @ ..] = inputs else { return datafusion::common::plan_err!("a fold without tables") };
    let first = LogicalPlanBuilder::from(first.clone());
    rest.iter().try_fold(first, |all, one| all.union(one.clone()))
}

/// The united projection of a group's tables; equal expressions share a column.
struct Projection<'a> {
    tables: Vec<(&'a String, &'a FoldTable)>,
    /// The rows of each table that count.
    counted: Vec<Option<Expr>>,
    columns: Vec<(String, Vec<Expr>)>,
    known: BTreeMap<String, String>,
}

impl<'a> Projection<'a> {
    fn new(tables: &'a BTreeMap<String, FoldTable>, names: &[String]) -> Self {
        let tables = names.iter().filter_map(|n| tables.get_key_value(n)).collect();
        Self { tables, counted: Vec::new(), columns: Vec::new(), known: BTreeMap::new() }
    }

    /// A column that has one expression per table.
    fn column(&mut self, expressions: Vec<Expr>) -> Expr {
        let key = expressions.iter().map(ToString::to_string).collect::<Vec<_>>().join("\u{0}");
        let fresh = format!("__c{}", self.columns.len());
        let name = self.known.entry(key).or_insert_with(|| {
            self.columns.push((fresh.clone(), expressions));
            fresh
        });
        ident(name.clone())
    }

    /// The `position`th argument, in one type over all tables.
    fn argument(&mut self, inputs: &[FoldInput], position: usize) -> datafusion::error::Result<Expr> {
        let first = &inputs[0].arguments[position];
        if let Expr::Literal(..) = first
            && inputs.iter().all(|i| &i.arguments[position] == first)
        {
            return Ok(first.clone());
        }
        let data_type = self.type_of(&inputs[0], position)?;
        let mut expressions = Vec::with_capacity(self.tables.len());
        for (name, table) in &self.tables {
            let of_table = inputs.iter().find(|i| i.table == **name);
            expressions.push(match of_table {
                Some(input) => {
                    let expr = input.arguments[position].clone();
                    let own = expr.get_type(table.plan.schema())?;
                    if own == data_type { expr } else { cast(expr, data_type.clone()) }
                }
                None => lit(ScalarValue::try_from(&data_type)?),
            });
        }
        Ok(self.column(expressions))
    }

    fn type_of(&self, input: &FoldInput, position: usize) -> datafusion::error::Result<DataType> {
        let table = self.tables.iter().find(|(n, _)| **n == input.table);
        match table {
            Some((_, table)) => input.arguments[position].get_type(table.plan.schema()),
            None => datafusion::common::plan_err!("no table `{}` in the fold", input.table),
        }
    }

    /// The filter over all tables; tables that the column does not read never pass.
    fn filter(&mut self, inputs: &[FoldInput]) -> Option<Expr> {
        let reads_all = self.tables.len() == inputs.len();
        if reads_all && inputs.iter().all(|i| i.filter.is_none()) {
            return None;
        }
        let mut expressions = Vec::with_capacity(self.tables.len());
        for (name, _) in &self.tables {
            let of_table = inputs.iter().find(|i| i.table == **name);
            expressions.push(match of_table {
                // null is no: written out, so that every table's column is a plain boolean
                Some(FoldInput { filter: Some(filter), .. }) => filter.clone().is_true(),
                Some(_) => lit(true),
                None => lit(false),
            });
        }
        Some(self.column(expressions))
    }

    /// The projection of each table, `first` before all others.
    fn build(self, first: impl Fn(&FoldTable) -> Vec<Expr>) -> datafusion::error::Result<Vec<LogicalPlan>> {
        let mut inputs = Vec::with_capacity(self.tables.len());
        for (index, (_, table)) in self.tables.iter().enumerate() {
            let mut projected = first(table);
            projected.extend(self.columns.iter().map(|(name, e)| e[index].clone().alias(name)));
            let mut builder = LogicalPlanBuilder::from(table.plan.clone());
            if let Some(Some(counted)) = self.counted.get(index) {
                builder = builder.filter(counted.clone())?;
            }
            inputs.push(builder.project(projected)?.build()?);
        }
        Ok(inputs)
    }
}

/// The expression that gives a row's entity, for tables that carry the entity's id.
pub(super) fn entity_by_id(slot: &EntitySlot, column: &str) -> Expr {
    slot.of_id(ident(column))
}

/// Schema of a list of fields, all nullable.
pub(super) fn schema_of(fields: &[(String, DataType)]) -> Schema {
    use datafusion::arrow::datatypes::Field;
    Schema::new(fields.iter().map(|(n, t)| Field::new(n, t.clone(), true)).collect::<Vec<_>>())
}
