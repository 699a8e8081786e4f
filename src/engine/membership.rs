//! Why an entity is a member of an audience, or is not: every condition with what was measured for it and the rows
//! behind that.
//!
//! The conditions are compiled as for a run, one by one. Of each table that they read the rows of this entity are
//! kept, in the columns that are needed; over those few rows all conditions are folded at once and the rows behind
//! each are looked up. What the profile holds and who is in other audiences is as it was committed.

use super::audience::{BoundAudience, Compiler, Rule, membership, steps_mask};
use super::build::RunContext;
use super::committed;
use super::evidence::{numbers, strings, text};
use super::fold::{self, FoldColumn, FoldInput, FoldTable};
use super::functions::{Event, NULL, SAME, STEPS, SequenceSpec};
use super::measures::{FoldScope, clock};
use super::print::to_json;
use super::steps::{StepOutcome, outcomes};
use super::wide::{Wide, holds};
use super::{BoundModel, Engine, Relation, internal};
use crate::diagnostic::{SourceMap, Span, Spanned};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{AudienceCondition, AudienceModel, Condition, EventCondition, ListEntry, Step};
use datafusion::arrow::array::{Array, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many rows are told of one condition.
const SHOWN: usize = 5;
/// Characters of a condition's text that are told.
const TEXT_LENGTH: usize = 160;

/// Whether an entity is a member, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    /// The audience's rule.
    pub rule: ConditionResult,
    /// Entries of the list of people added by hand that name it.
    pub included: Vec<ListNote>,
    /// Entries of the list of people removed by hand that name it.
    pub excluded: Vec<ListNote>,
    /// What keeps it out although it was found: the group, the holdout, or its rank.
    pub left_out: Option<String>,
    /// Whether the profile has a row of it.
    pub in_profile: bool,
    /// Since when the committed audience has it, in microseconds, and why.
    pub committed: Option<(i64, String)>,
}

impl Membership {
    /// Whether it is a member by the present definition.
    pub fn holds(&self) -> bool {
        let by_rule = self.rule.holds == Some(true);
        (by_rule || !self.included.is_empty()) && self.excluded.is_empty() && self.left_out.is_none()
    }
}

/// An entry of a list kept by people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListNote {
    /// As it stands there.
    pub identifier: String,
    /// Who put it there.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl From<&ListEntry> for ListNote {
    fn from(entry: &ListEntry) -> Self {
        Self { identifier: entry.identifier.value.clone(), by: entry.by.clone(), reason: entry.reason.clone() }
    }
}

/// A condition, or a step of a sequence, as it is for one entity.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConditionResult {
    /// As the author wrote it; `all`, `any`, `not`, `sequence` for what has parts.
    pub text: String,
    /// Its file and line.
    pub place: (String, usize),
    /// Whether it holds; `None` for a step that was not reached.
    pub holds: Option<bool>,
    /// What was measured, by name.
    pub values: Vec<(String, Value)>,
    /// What values and rows do not say.
    pub note: Option<ConditionNote>,
    /// The latest rows behind it, latest first.
    pub rows: Vec<RowNote>,
    /// How many more there are.
    pub more: usize,
    /// What it is made of.
    pub parts: Vec<ConditionResult>,
}

/// More about a condition; times are microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionNote {
    /// A member of the other audience since then, for this reason.
    Since(i64, String),
    /// The first step of a sequence, and no row matches it.
    NoRow,
    /// No row in the step's window; those that match lie outside.
    NoRowBetween(i64, Option<i64>),
    /// A `not` step: nothing between these times.
    Nothing(i64, Option<i64>),
    /// A `not` step: what happened between these times.
    Happened(i64, Option<i64>),
    /// A `not` step whose window, between these times, had not passed.
    NotPassed(i64, Option<i64>),
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowNote {
    /// Its time in microseconds.
    pub at: Option<i64>,
    /// The table.
    pub table: String,
    /// Its id, where the table declares one.
    pub row_id: Option<String>,
}

impl Engine {
    /// Explains whether an entity is a member of a bound audience, all of whose needs are loaded.
    ///
    /// # Errors
    /// When the entity is not in the loaded identity; `Data` when rows cannot be read.
    pub async fn membership(
        &self,
        audience: &str,
        model: &AudienceModel,
        entity_id: &str,
        run: &RunContext,
    ) -> Result<Membership> {
        let Some(BoundModel::Audience(bound)) = self.models.get(audience) else {
            return Err(Error::new(ErrorKind::Failed, format!("`{audience}` is not bound")));
        };
        let entities = self.entities(&bound.identity)?;
        let Some(code) = entities.of_id(entity_id) else {
            let error = Error::new(ErrorKind::Usage, format!("`{}` has no entity {entity_id}", bound.identity));
            return Err(error.with_help("a run may have committed meanwhile: ask again"));
        };
        let wide = self.wide_of(&bound.profile)?.row(code as usize);
        let id = wide.column(&format!("{}_id", bound.identity));
        let in_profile = id.is_some_and(|id| id.is_valid(0));
        let rule = match &model.condition {
            AudienceCondition::Sql(sql) => self.query_result(bound, sql, entity_id).await?,
            AudienceCondition::Where(condition) => {
                let asked = Asked { engine: self, bound, model, code, run, entity_id };
                asked.condition(condition, wide).await?
            }
        };
        let identity = self.identity(&bound.identity)?;
        let named = |entry: &&ListEntry| identity.entity_of(&entities, &entry.identifier.value) == Ok(code);
        let notes = |list: &[ListEntry]| -> Vec<ListNote> { list.iter().filter(named).map(ListNote::from).collect() };
        let (included, excluded) = (notes(&model.include), notes(&model.exclude));
        let committed = since(run, audience, entity_id, &bound.identity).await?;
        let held_out = included.is_empty() && bound.holds_out(entity_id);
        let left_out = self.left_out(bound, model, code, held_out, committed.is_some());
        Ok(Membership { rule, included, excluded, left_out, in_profile, committed })
    }

    /// What keeps an entity out that was found.
    fn left_out(
        &self,
        bound: &BoundAudience,
        model: &AudienceModel,
        code: u32,
        held_out: bool,
        is_committed: bool,
    ) -> Option<String> {
        let has_it = |other: &&String| self.members_of(other).is_ok_and(|members| members.taken().any(|c| c == code));
        if let Some(other) = bound.before.iter().map(|(other, _)| other).find(has_it) {
            return Some(format!("{other} comes first in the group and has it"));
        }
        if held_out {
            return Some("held out at random".to_owned());
        }
        // who ranks where takes all members to say, so it is as the last run found it
        let top = model.narrowing.top.as_ref().filter(|_| !is_committed)?;
        Some(format!("only the first {} by rank are members, and the last run did not have it", top.rows))
    }

    /// A `sql:` audience: whether the query returns the entity.
    async fn query_result(
        &self,
        bound: &BoundAudience,
        sql: &Spanned<String>,
        entity_id: &str,
    ) -> Result<ConditionResult> {
        let doing = || format!("the query of `{}` failed", bound.name);
        let Rule::Query(plan) = &bound.rule else { return Err(Error::new(ErrorKind::Failed, doing())) };
        let own = ident(format!("{}_id", bound.identity)).eq(lit(entity_id));
        let found = LogicalPlanBuilder::from(plan.clone()).filter(own).and_then(|plan| plan.limit(0, Some(1)));
        let found = found.and_then(LogicalPlanBuilder::build).map_err(internal)?;
        let batches = fold::execute(&self.context, found).await.or_fail(ErrorKind::Failed, doing)?;
        let returned = batches.iter().any(|batch| batch.num_rows() > 0);
        Ok(ConditionResult { holds: Some(returned), ..told(&self.map, sql.span, "sql") })
    }
}

/// Since when the committed audience has an entity.
async fn since(run: &RunContext, audience: &str, entity_id: &str, identity: &str) -> Result<Option<(i64, String)>> {
    for batch in committed::rows(&run.warehouse, &run.base, audience).await? {
        let place = |name: &str| {
            batch.schema().index_of(name).or_fail(ErrorKind::Data, || format!("`{audience}` has no `{name}`"))
        };
        let ids = strings(&batch, place(&format!("{identity}_id"))?)?;
        if let Some(row) = ids.iter().position(|id| id == Some(entity_id)) {
            let (times, reasons) = (numbers(&batch, place("entered_at")?)?, strings(&batch, place("reason")?)?);
            return Ok(Some((times.value(row), reasons.value(row).to_owned())));
        }
    }
    Ok(None)
}

/// A question about one entity.
struct Asked<'a> {
    engine: &'a Engine,
    bound: &'a BoundAudience,
    model: &'a AudienceModel,
    code: u32,
    run: &'a RunContext,
    entity_id: &'a str,
}

/// A condition while it is explained.
struct Node {
    told: ConditionResult,
    join: Join,
    parts: Vec<Node>,
}

/// How a node's value comes about.
enum Join {
    All,
    Any,
    Not,
    /// A leaf by index.
    Leaf(usize),
}

/// A condition without conditions inside.
struct Leaf {
    holds: Expr,
    /// Names of what is measured, and its columns.
    values: Vec<(String, String)>,
    evidence: Evidence,
}

/// Where the rows behind a condition are.
enum Evidence {
    /// The profile says it all.
    None,
    /// Rows of a table.
    Event(FoldInput),
    /// Rows that match some step.
    Sequence(SequenceSpec, Vec<FoldInput>, Vec<Spanned<Step>>),
    /// Another audience.
    Audience(String),
}

/// A row that matches a condition, or some steps of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    note: RowNote,
    steps: u64,
    same: Option<String>,
}

/// What was found out about a leaf.
#[derive(Default)]
struct Found {
    note: Option<ConditionNote>,
    rows: Vec<RowNote>,
    steps: Vec<ConditionResult>,
}

impl Asked<'_> {
    async fn condition(&self, condition: &Spanned<Condition>, mut wide: Wide) -> Result<ConditionResult> {
        let engine = self.engine;
        let (parts, mut findings) = (engine.parts(), Vec::new());
        let Some((profile, identity)) = engine.profile_of(&self.model.profile) else {
            return Err(Error::new(ErrorKind::Failed, format!("profile `{}` is not bound", self.bound.profile)));
        };
        let scope = FoldScope { parts: &parts, identity, relations: &engine.relations, tables: BTreeMap::new() };
        let compiler = Compiler::new(scope, profile, &self.bound.name, &mut findings);
        let mut draft = Draft { compiler, map: &engine.map, leaves: Vec::new() };
        let doing = || format!("cannot explain `{}`", self.bound.name);
        let node = draft.node(condition).ok_or_else(|| Error::new(ErrorKind::Failed, doing()))?;
        let Draft { compiler, leaves, .. } = draft;
        let (columns, audiences) = (compiler.columns, compiler.audiences);
        let tables = self.own_rows(&compiler.scope.tables, &columns).await?;
        if !columns.is_empty() {
            fold::run_all(&fold::plan(&tables, columns).map_err(internal)?, &engine.context, &mut wide).await?;
        }
        for other in &audiences {
            let is_member = engine.members_of(other)?.codes.contains_key(&self.code);
            wide.push(&membership(other), Arc::new(BooleanArray::from(vec![is_member])));
        }
        let mut results = Vec::with_capacity(leaves.len());
        for leaf in &leaves {
            results.push(self.leaf(leaf, &tables, &wide).await?);
        }
        Ok(node.told(&mut results))
    }

    /// The entity's rows of every table, in the columns that are needed.
    async fn own_rows(
        &self,
        tables: &BTreeMap<String, FoldTable>,
        columns: &[FoldColumn],
    ) -> Result<BTreeMap<String, FoldTable>> {
        let mut own = BTreeMap::new();
        for (name, table) in tables {
            let doing = || format!("cannot read `{name}`");
            let inputs = columns.iter().flat_map(|c| &c.inputs).filter(|input| input.table == *name);
            let mut needed: BTreeSet<String> = BTreeSet::new();
            for expr in inputs.flat_map(|input| input.arguments.iter().chain(&input.filter)) {
                needed.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
            }
            if let Some(relation) = self.engine.relations.get(name) {
                needed.extend(relation.time.iter().chain(&relation.row_id).cloned());
            }
            let plan = kept(table, self.code, &needed, name, &self.engine.context);
            own.insert(name.clone(), plan.await.or_fail(ErrorKind::Data, doing)?);
        }
        Ok(own)
    }

    async fn leaf(&self, leaf: &Leaf, tables: &BTreeMap<String, FoldTable>, wide: &Wide) -> Result<ConditionResult> {
        let value = wide.evaluate(&self.engine.state, leaf.holds.clone(), 1)?;
        let found = match &leaf.evidence {
            Evidence::None => Found::default(),
            Evidence::Audience(other) => {
                let since = since(self.run, other, self.entity_id, &self.bound.identity).await?;
                Found { note: since.map(|(at, reason)| ConditionNote::Since(at, reason)), ..Found::default() }
            }
            Evidence::Event(input) => {
                let mut rows = self.matches(input, tables, None).await?;
                rows.sort();
                Found { rows: rows.into_iter().rev().map(|row| row.note).collect(), ..Found::default() }
            }
            Evidence::Sequence(spec, inputs, steps) => {
                let mut rows = Vec::new();
                for input in inputs {
                    let mask = steps_mask(&input.arguments[STEPS..]).map_err(internal)?;
                    rows.extend(self.matches(input, tables, Some([&mask, &input.arguments[SAME]])).await?);
                }
                rows.sort();
                Found { steps: step_results(&self.engine.map, spec, steps, &rows), ..Found::default() }
            }
        };
        let mut told = ConditionResult { holds: Some(!holds(&value).is_empty()), ..ConditionResult::default() };
        told.values = values(wide, &leaf.values)?;
        (told.note, told.parts) = (found.note, found.steps);
        told.keep(found.rows);
        Ok(told)
    }

    /// The entity's rows that a condition counts, with the steps that they match and the value of `same`.
    async fn matches(
        &self,
        input: &FoldInput,
        tables: &BTreeMap<String, FoldTable>,
        step: Option<[&Expr; 2]>,
    ) -> Result<Vec<Match>> {
        let doing = || format!("cannot read `{}`", input.table);
        let (Some(table), Some(relation)) = (tables.get(&input.table), self.engine.relations.get(&input.table)) else {
            return Err(Error::new(ErrorKind::Failed, doing()));
        };
        let plan = matching(&table.plan, input, relation, step).map_err(internal)?;
        let mut rows = Vec::new();
        for batch in fold::execute(&self.engine.context, plan).await.or_fail(ErrorKind::Data, doing)? {
            let (times, steps) = (numbers(&batch, 0)?, numbers(&batch, 2)?);
            let (ids, same) = (strings(&batch, 1)?, strings(&batch, 3)?);
            rows.extend((0..batch.num_rows()).map(|row| Match {
                note: RowNote {
                    at: times.is_valid(row).then(|| times.value(row)),
                    table: relation.name.clone(),
                    row_id: text(&ids, row),
                },
                steps: steps.value(row).cast_unsigned(),
                same: text(&same, row),
            }));
        }
        Ok(rows)
    }
}

/// The rows of one entity in memory, as a table of which every row is of entity 0.
async fn kept(
    table: &FoldTable,
    code: u32,
    needed: &BTreeSet<String>,
    name: &str,
    context: &datafusion::prelude::SessionContext,
) -> datafusion::error::Result<FoldTable> {
    let fields: Vec<_> = table.plan.schema().iter().filter(|(_, field)| needed.contains(field.name())).collect();
    let columns: Vec<Expr> = fields.iter().map(|(qualifier, field)| Expr::from((*qualifier, *field))).collect();
    let own = table.entity.clone().eq(lit(code));
    let plan = LogicalPlanBuilder::from(table.plan.clone()).filter(own)?.project(columns)?.build()?;
    let schema = super::sources::nullable(plan.schema().as_arrow());
    let batches = fold::execute(context, plan.clone()).await?;
    let batches = batches.into_iter().map(|b| RecordBatch::try_new(Arc::clone(&schema), b.columns().to_vec()));
    let rows = batches.filter(|b| b.as_ref().map_or(true, |b| b.num_columns() > 0)).collect::<Result<Vec<_>, _>>()?;
    let memory = MemTable::try_new(schema, vec![rows])?;
    // expressions were bound to the table's own qualifiers
    let named = fields
        .iter()
        .map(|(qualifier, field)| ident(field.name()).alias_qualified(qualifier.map(|q| (*q).clone()), field.name()));
    let plan = LogicalPlanBuilder::scan(name.replace('.', "_"), provider_as_source(Arc::new(memory)), None)?
        .project(named)?
        .build()?;
    Ok(FoldTable { plan, entity: lit(ScalarValue::UInt32(Some(0))) })
}

/// Time, id, matched steps and `same` of the rows that a condition counts.
fn matching(
    plan: &LogicalPlan,
    input: &FoldInput,
    relation: &Relation,
    step: Option<[&Expr; 2]>,
) -> datafusion::error::Result<LogicalPlan> {
    let mut builder = LogicalPlanBuilder::from(plan.clone());
    if let Some(filter) = &input.filter {
        builder = builder.filter(filter.clone())?;
    }
    let nothing = |data_type: &DataType| ScalarValue::try_from(data_type).map(lit);
    let time = match clock(relation, None) {
        Some(time) => cast(time, DataType::Int64),
        None => nothing(&DataType::Int64)?,
    };
    let row_id = match &relation.row_id {
        Some(row_id) => cast(ident(row_id), DataType::Utf8),
        None => nothing(&DataType::Utf8)?,
    };
    let (steps, same) = match step {
        Some([steps, same]) => (steps.clone(), cast(same.clone(), DataType::Utf8)),
        None => (lit(1_i64), nothing(&DataType::Utf8)?),
    };
    let columns = [time, row_id, steps, same];
    builder.project(columns.into_iter().enumerate().map(|(at, expr)| expr.alias(format!("__{at}"))))?.build()
}

/// Columns of a row of one, by the names that people know.
fn values(wide: &Wide, columns: &[(String, String)]) -> Result<Vec<(String, Value)>> {
    let doing = || "cannot tell what was measured".to_owned();
    let arrays: Vec<_> = columns.iter().filter_map(|(_, column)| wide.column(column)).cloned().collect();
    if arrays.is_empty() {
        return Ok(Vec::new());
    }
    let fields: Vec<Field> = arrays
        .iter()
        .enumerate()
        .map(|(at, array)| Field::new(at.to_string(), array.data_type().clone(), true))
        .collect();
    let row = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).or_fail(ErrorKind::Failed, doing)?;
    let mut rows: Vec<BTreeMap<String, Value>> =
        serde_json::from_str(&to_json(&[row])?).or_fail(ErrorKind::Failed, doing)?;
    let mut row = rows.pop().unwrap_or_default();
    let value =
        |(at, (name, _)): (usize, &(String, String))| (name.clone(), row.remove(&at.to_string()).unwrap_or_default());
    Ok(columns.iter().enumerate().map(value).collect())
}

/// Every step of a sequence, and what became of it over these rows, sorted by time.
fn step_results(map: &SourceMap, spec: &SequenceSpec, steps: &[Spanned<Step>], rows: &[Match]) -> Vec<ConditionResult> {
    let timed: Vec<&Match> = rows.iter().filter(|row| row.note.at.is_some()).collect();
    let texts: BTreeSet<&str> = timed.iter().filter_map(|row| row.same.as_deref()).collect();
    let code = |same: &str| texts.iter().position(|text| *text == same).and_then(|at| u32::try_from(at).ok());
    let event = |row: &&Match| Event {
        time: row.note.at.unwrap_or_default(),
        steps: row.steps,
        same: row.same.as_deref().and_then(code).unwrap_or(NULL),
    };
    let events: Vec<Event> = timed.iter().map(event).collect();
    let note = |row: &usize| timed[*row].note.clone();
    let result = |(step, outcome): (&Spanned<Step>, StepOutcome)| {
        let told = told(map, step.span, "step");
        let (holds, note, rows) = match &outcome {
            StepOutcome::Chosen(row) => (Some(true), None, vec![note(row)]),
            StepOutcome::Absent(w) => (Some(true), Some(ConditionNote::Nothing(w.from, w.until)), Vec::new()),
            StepOutcome::Missing(window, rows) => {
                let note_of = |w: &super::steps::Window| ConditionNote::NoRowBetween(w.from, w.until);
                let why = window.as_ref().map_or(ConditionNote::NoRow, note_of);
                (Some(false), Some(why), rows.iter().rev().map(note).collect())
            }
            StepOutcome::Against(w, rows) => {
                let why = ConditionNote::Happened(w.from, w.until);
                (Some(false), Some(why), rows.iter().rev().map(note).collect())
            }
            StepOutcome::Open(w) => (Some(false), Some(ConditionNote::NotPassed(w.from, w.until)), Vec::new()),
            StepOutcome::NotReached => (None, None, Vec::new()),
        };
        let mut told = ConditionResult { holds, note, ..told };
        told.keep(rows);
        told
    };
    steps.iter().zip(outcomes(spec, &events)).map(result).collect()
}

/// Conditions while they are compiled.
struct Draft<'a> {
    compiler: Compiler<'a>,
    map: &'a SourceMap,
    leaves: Vec<Leaf>,
}

impl Draft<'_> {
    /// A condition with all its parts; `None` when it does not compile, which binding would have told.
    fn node(&mut self, condition: &Spanned<Condition>) -> Option<Node> {
        let group = |draft: &mut Self, word: &str, join: Join, parts: &[Spanned<Condition>]| {
            let parts: Option<Vec<Node>> = parts.iter().map(|part| draft.node(part)).collect();
            let told = ConditionResult { text: word.to_owned(), ..told(draft.map, condition.span, word) };
            Some(Node { told, join, parts: parts? })
        };
        match &condition.value {
            Condition::All(parts) => group(self, "all", Join::All, parts),
            Condition::Any(parts) => group(self, "any", Join::Any, parts),
            Condition::Not(inner) => group(self, "not", Join::Not, std::slice::from_ref(inner)),
            Condition::Event(_) | Condition::Sequence(_) | Condition::Audience(_) | Condition::Trait(_) => {
                let leaf = self.leaf(condition)?;
                self.leaves.push(leaf);
                let mut told = told(self.map, condition.span, "condition");
                if matches!(condition.value, Condition::Sequence(_)) {
                    "sequence".clone_into(&mut told.text);
                }
                Some(Node { told, join: Join::Leaf(self.leaves.len() - 1), parts: Vec::new() })
            }
        }
    }

    fn leaf(&mut self, condition: &Spanned<Condition>) -> Option<Leaf> {
        let first = self.compiler.columns.len();
        let holds = self.compiler.condition(condition)?;
        let columns = &self.compiler.columns[first..];
        let (values, evidence) = match &condition.value {
            Condition::Event(event) => {
                let names = columns.iter().map(|column| column.name.clone());
                let input = columns.first()?.inputs.first()?.clone();
                (measured(event).into_iter().zip(names).collect(), Evidence::Event(input))
            }
            Condition::Sequence(steps) => {
                let inputs = columns.first()?.inputs.clone();
                (Vec::new(), Evidence::Sequence(self.compiler.spec(steps), inputs, steps.clone()))
            }
            Condition::Audience(name) => (Vec::new(), Evidence::Audience(name.value.clone())),
            _ => {
                let read: BTreeSet<String> = holds.column_refs().iter().map(|c| c.name.clone()).collect();
                (read.into_iter().map(|name| (name.clone(), name)).collect(), Evidence::None)
            }
        };
        Some(Leaf { holds, values, evidence })
    }
}

/// What the columns of an `event` condition measure, in their order.
pub(super) fn measured(event: &EventCondition) -> Vec<String> {
    let measure = |measure: &crate::model::Measure| match &measure.operand {
        Some(sql) => format!("{}({})", measure.function.word(), sql.value),
        None => measure.function.word().to_owned(),
    };
    let mut names: Vec<String> = event.measures.iter().map(measure).collect();
    names.extend(event.first.iter().map(|sql| format!("first: {}", sql.value)));
    names.extend(event.last.iter().map(|sql| format!("last: {}", sql.value)));
    if names.is_empty() {
        names.push("count".to_owned());
    }
    names
}

impl Node {
    /// The condition with its value; leaves are taken out of `results`.
    fn told(self, results: &mut [ConditionResult]) -> ConditionResult {
        let parts: Vec<ConditionResult> = self.parts.into_iter().map(|part| part.told(results)).collect();
        let mut held = parts.iter().map(|part| part.holds == Some(true));
        let holds = match self.join {
            Join::All => held.all(|holds| holds),
            Join::Any => held.any(|holds| holds),
            Join::Not => !held.any(|holds| holds),
            Join::Leaf(index) => {
                let result = std::mem::take(&mut results[index]);
                return ConditionResult { text: self.told.text, place: self.told.place, ..result };
            }
        };
        ConditionResult { holds: Some(holds), parts, ..self.told }
    }
}

impl ConditionResult {
    /// Keeps as many rows as are told.
    fn keep(&mut self, mut rows: Vec<RowNote>) {
        self.more = rows.len().saturating_sub(SHOWN);
        rows.truncate(SHOWN);
        self.rows = rows;
    }
}

/// What the author wrote there, in one line, with its place.
fn told(map: &SourceMap, span: Span, word: &str) -> ConditionResult {
    let place = (map.path(span).to_owned(), map.line_column(span).0);
    let written = in_one_line(written(map, span));
    let text = if written.is_empty() { word.to_owned() } else { written };
    ConditionResult { text, place, ..ConditionResult::default() }
}

/// The whole text of a mapping; its span ends with its first line.
fn written(map: &SourceMap, span: Span) -> &str {
    let start = span.start as usize;
    let Some(text) = map.file(span.file).and_then(|file| file.text.get(start..)) else { return map.text(span) };
    if text.starts_with('{') {
        let mut depth = 0;
        let end = text.char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(at + 1)
        });
        return &text[..end.unwrap_or(text.len())];
    }
    // the lines that begin no further left
    let column = map.line_column(span).1 - 1;
    let mut end = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let indent = line.len() - line.trim_start().len();
        if number > 0 && !line.trim().is_empty() && indent < column {
            break;
        }
        end += line.len();
    }
    &text[..end]
}

/// YAML without line ends, outer braces and comments, cut where it gets long.
fn in_one_line(yaml: &str) -> String {
    let lines = yaml.lines().map(|line| match line.split_once(" #") {
        Some((before, comment)) if !comment.contains(['\'', '"']) => before.trim(),
        _ => line.trim(),
    });
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut text = String::new();
    for line in lines {
        let key = line.split_once(':').is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        if !text.is_empty() {
            text.push_str(if key && !text.ends_with([',', ':', '{']) { ", " } else { " " });
        }
        text.push_str(line);
    }
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map_or(text.as_str(), str::trim);
    if inner.chars().count() > TEXT_LENGTH {
        return format!("{}...", inner.chars().take(TEXT_LENGTH).collect::<String>().trim_end());
    }
    inner.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_of_a_condition_is_found() {
        let text = "all:\n  - event: a.b\n    is: x\n\n    count: 2\n  - {event: c,\n    where: \"{}\"}\n";
        let mut map = SourceMap::default();
        let file = map.add("models/x.yaml", text);
        let at = |word: &str| {
            let start = text.find(word).unwrap_or_default() as u32;
            written(&map, Span { file, start, end: start + 1 })
        };
        assert_eq!(at("event: a.b"), "event: a.b\n    is: x\n\n    count: 2\n");
        assert_eq!(at("{event: c"), "{event: c,\n    where: \"{}\"}");
    }

    #[test]
    fn conditions_are_told_in_one_line() {
        assert_eq!(in_one_line("{event: a.b, is: x}"), "event: a.b, is: x");
        assert_eq!(
            in_one_line("event: a.b   # why\nis: x\n# more\nwhere: a > 1\n  AND b"),
            "event: a.b, is: x, where: a > 1 AND b"
        );
        assert_eq!(in_one_line("trait: a = ' # '"), "trait: a = ' # '");
        assert_eq!(in_one_line(&"x".repeat(200)).len(), TEXT_LENGTH + 3);
    }
}
