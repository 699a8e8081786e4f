//! The audience stage: a condition tree becomes columns of the fold and one boolean expression over the wide
//! row of the profile.

use super::fold::{self, FoldColumn, FoldInput, FoldTable, serving};
use super::functions::{Anchor, PickFirst, Returns, Sequence, SequenceSpec, SequenceStep, random_share};
use super::identity::BoundIdentity;
use super::measures::{FoldScope, Reading, all_of, clock, column, window};
use super::mistakes::sql_type;
use super::profile::BoundProfile;
use super::rank::RankKey;
use super::{EngineParts, Relation};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{
    AudienceCondition, AudienceModel, Condition, EventCondition, EventMatch, Holdout, Measure, RankBy, Step,
    StepOrigin, StepPick,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan, cast, ident, lit, when};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A bound audience.
#[derive(Debug, Clone)]
pub(super) struct BoundAudience {
    pub name: String,
    pub profile: String,
    pub identity: String,
    pub schema: SchemaRef,
    pub rule: Rule,
    /// Other audiences that the condition mentions.
    pub audiences: BTreeSet<String>,
    /// Audiences that stand before it in its group, with whether they hold people out.
    pub before: Vec<(String, bool)>,
    /// What `top` ranks by; nothing without it.
    pub rank: Vec<RankKey>,
    pub holdout: Option<Holdout>,
    /// Whether people are added or removed by hand.
    pub has_lists: bool,
}

/// What an audience is bound against.
pub(super) struct Scope<'a> {
    pub profile: &'a BoundProfile,
    pub identity: &'a BoundIdentity,
    pub relations: &'a BTreeMap<String, Relation>,
    /// Audiences that stand before it in its group.
    pub before: Vec<&'a BoundAudience>,
}

/// How members are found.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    /// Over the wide row, after these fold columns.
    Condition { columns: Vec<FoldColumn>, tables: BTreeMap<String, FoldTable>, holds: Expr },
    /// A query that returns entity ids.
    Query(LogicalPlan),
}

/// Makes columns of the fold and an expression over the wide row of each condition that it is given.
pub(super) struct Compiler<'a> {
    pub scope: FoldScope<'a>,
    profile: &'a BoundProfile,
    name: &'a str,
    pub columns: Vec<FoldColumn>,
    pub audiences: BTreeSet<String>,
    findings: &'a mut Vec<Diagnostic>,
}

/// Steps of a sequence: what a row matches is kept as bits.
const MOST_STEPS: usize = 64;

type Compiled = Option<Expr>;

/// Column of the wide row that says who belongs to another audience.
pub(super) fn membership(audience: &str) -> String {
    serving(audience, "members")
}

/// Name of the table of those whom an audience holds out.
pub(super) fn holdout_table(audience: &str) -> String {
    format!("{audience}_holdout")
}

impl BoundAudience {
    /// Whether somebody who is found is left out at random.
    pub(super) fn holds_out(&self, entity_id: &str) -> bool {
        let held_out = |holdout: &Holdout| random_share(entity_id, &holdout.salt.value) < holdout.percent / 100.0;
        self.holdout.as_ref().is_some_and(held_out)
    }
}

/// Name of the table of list rows that name nobody.
pub(super) fn rejected_table(audience: &str) -> String {
    format!("{audience}_rejected")
}

/// A table that an audience writes beside its segment.
pub(super) struct SideTable {
    pub name: String,
    pub schema: SchemaRef,
    /// Its clock.
    pub time: Option<&'static str>,
}

impl BoundAudience {
    /// The tables beside the segment.
    pub(super) fn side_tables(&self) -> Vec<SideTable> {
        let schema = Arc::clone(&self.schema);
        let holdout = SideTable { name: holdout_table(&self.name), schema, time: Some("entered_at") };
        let rejected = SideTable { name: rejected_table(&self.name), schema: rejected_schema(), time: None };
        let has = [(self.holdout.is_some(), holdout), (self.has_lists, rejected)];
        has.into_iter().filter(|(has, _)| *has).map(|(_, table)| table).collect()
    }
}

/// Schema of rejected list rows.
pub(super) fn rejected_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("list"),
        text("identifier"),
        text("listed_by"),
        text("listed_reason"),
        Field::new("listed_at", super::time_type(), true),
        text("reason"),
    ]))
}

/// Schema of a segment table.
pub(super) fn segment_schema(identity: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(format!("{identity}_id"), DataType::Utf8, false),
        Field::new("entered_at", super::time_type(), false),
        Field::new("reason", DataType::Utf8, false),
    ]))
}

/// Binds the model.
pub(super) async fn bind(
    parts: &EngineParts<'_>,
    name: &str,
    model: &AudienceModel,
    scope: &Scope<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundAudience> {
    let found_before = findings.len();
    let Scope { profile, identity, relations, before } = scope;
    let rank = model.narrowing.top.as_ref().map(|top| rank(parts, profile, &top.by, findings)).unwrap_or_default();
    let mut audiences = BTreeSet::new();
    let rule = match &model.condition {
        AudienceCondition::Sql(sql) => query(parts, sql, &profile.identity, findings).await?,
        AudienceCondition::Where(condition) => {
            let scope = FoldScope { parts, identity, relations, tables: BTreeMap::new() };
            let mut compiler = Compiler::new(scope, profile, name, findings);
            let holds = compiler.condition(condition)?;
            audiences = compiler.audiences;
            let (columns, tables) = (compiler.columns, compiler.scope.tables);
            if let Err(e) = fold::plan(&tables, columns.clone()) {
                findings.push(parts.binder().engine_finding(&e, condition.span));
            }
            Rule::Condition { columns, tables, holds }
        }
    };
    (findings.len() == found_before).then(|| BoundAudience {
        name: name.to_owned(),
        profile: profile.name.clone(),
        identity: profile.identity.clone(),
        schema: segment_schema(&profile.identity),
        rule,
        audiences,
        before: before.iter().map(|other| (other.name.clone(), other.holdout.is_some())).collect(),
        rank,
        holdout: model.narrowing.holdout.clone(),
        has_lists: model.has_lists(),
    })
}

/// Binds what `top` ranks by over the profile's columns.
fn rank(
    parts: &EngineParts<'_>,
    profile: &BoundProfile,
    by: &[RankBy],
    findings: &mut Vec<Diagnostic>,
) -> Vec<RankKey> {
    let Ok(schema) = DFSchema::try_from(profile.schema.as_ref().clone()) else { return Vec::new() };
    let mut keys = Vec::new();
    for RankBy { sql, descending } in by {
        let bound = parts.binder().expression(sql, &schema, &profile.name);
        let bound = bound.and_then(|expr| {
            let data_type =
                expr.get_type(&schema).map_err(|e| Box::new(parts.binder().finding(&e, sql, &profile.name)))?;
            let key = RankKey { expr, descending: *descending };
            if key.orders(&data_type) {
                return Ok(key);
            }
            let message = format!("people cannot be ranked by {}", sql_type(&data_type.to_string()));
            let finding = Diagnostic::error(Code::SqlTypes, sql.span, message).with_label("has no order");
            Err(Box::new(finding.with_help("rank by a number, a text or a time")))
        });
        match bound {
            Ok(key) => keys.push(key),
            Err(finding) => findings.push(*finding),
        }
    }
    keys
}

async fn query(
    parts: &EngineParts<'_>,
    sql: &Spanned<String>,
    identity: &str,
    findings: &mut Vec<Diagnostic>,
) -> Option<Rule> {
    let id = format!("{identity}_id");
    match parts.binder().query(sql).await {
        Ok(plan) if plan.schema().field_with_unqualified_name(&id).is_ok() => Some(Rule::Query(plan)),
        Ok(_) => {
            findings.push(
                Diagnostic::error(Code::OtherEntity, sql.span, format!("the query returns no column `{id}`"))
                    .with_label("does not say who belongs")
                    .with_help(format!("a `sql:` audience selects the `{id}` of its members")),
            );
            None
        }
        Err(found) => {
            findings.extend(found);
            None
        }
    }
}

impl<'a> Compiler<'a> {
    /// A compiler of the conditions of the audience `name`.
    pub(super) fn new(
        scope: FoldScope<'a>,
        profile: &'a BoundProfile,
        name: &'a str,
        findings: &'a mut Vec<Diagnostic>,
    ) -> Self {
        Self { scope, profile, name, columns: Vec::new(), audiences: BTreeSet::new(), findings }
    }

    fn note<T>(&mut self, result: Result<T, Box<Diagnostic>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(finding) => {
                self.findings.push(*finding);
                None
            }
        }
    }

    fn fresh(&self) -> String {
        serving(self.name, format_args!("#{}", self.columns.len()))
    }

    /// The expression that says whether a condition holds; `None` when something is wrong with it.
    pub(super) fn condition(&mut self, condition: &Spanned<Condition>) -> Compiled {
        match &condition.value {
            Condition::All(parts) => self.many(parts, lit(true), Expr::and),
            Condition::Any(parts) => self.many(parts, lit(false), Expr::or),
            Condition::Not(inner) => Some(Expr::Not(Box::new(self.condition(inner)?))),
            Condition::Event(event) => self.event(event),
            Condition::Sequence(steps) => self.sequence(steps),
            Condition::Audience(name) => {
                self.audiences.insert(name.value.clone());
                Some(ident(membership(&name.value)))
            }
            Condition::Trait(sql) => {
                let schema = DFSchema::try_from(self.profile.schema.as_ref().clone()).ok()?;
                let bound = self.scope.parts.binder().predicate(sql, &schema, &self.profile.name);
                Some(yes(self.note(bound)?))
            }
        }
    }

    /// All parts are compiled even if one fails, so that all mistakes show.
    fn many(&mut self, parts: &[Spanned<Condition>], none: Expr, join: fn(Expr, Expr) -> Expr) -> Compiled {
        let compiled: Vec<Compiled> = parts.iter().map(|p| self.condition(p)).collect();
        let all: Option<Vec<Expr>> = compiled.into_iter().collect();
        Some(all?.into_iter().reduce(join).unwrap_or(none))
    }

    /// The predicate of matching rows: `is`, then `where`.
    fn matching(&mut self, matching: &EventMatch, relation: &Relation) -> Option<Option<Expr>> {
        let is = if matching.is.is_empty() {
            None
        } else {
            let column = self.is_column(matching, relation)?;
            let text = cast(column, DataType::Utf8);
            let values: Vec<Expr> = matching.is.iter().map(|v| lit(v.value.clone())).collect();
            Some(match values.as_slice() {
                [one] => text.eq(one.clone()),
                _ => text.in_list(values, false),
            })
        };
        let filter = match &matching.filter {
            Some(sql) => {
                let bound = self.scope.predicate(sql, relation);
                Some(self.note(bound)?)
            }
            None => None,
        };
        Some(all_of([is, filter]))
    }

    fn is_column(&mut self, matching: &EventMatch, relation: &Relation) -> Option<Expr> {
        let at = matching.column.as_ref().or(matching.is.first())?;
        let name = matching.column.as_ref().map_or("event", |c| c.value.as_str());
        if relation.plan.schema().field_with_unqualified_name(name).is_ok() {
            return Some(ident(name));
        }
        let names: Vec<&str> = relation.plan.schema().fields().iter().map(|f| f.name().as_str()).collect();
        self.findings.push(
            Diagnostic::error(Code::SqlUnknownColumn, at.span, format!("no column `{name}` in `{}`", relation.name))
                .with_label("compared with this column")
                .with_help(format!("say which column with `column:`; there are: {}", names.join(", "))),
        );
        None
    }

    fn event(&mut self, event: &EventCondition) -> Compiled {
        let found = self.scope.table(&event.matching.table, 0);
        let (key, relation) = self.note(found)?;
        let matching = self.matching(&event.matching, &relation)?;
        let bounds = window(&event.window, &relation, None, self.scope.parts.as_of);
        let filter = all_of([matching, self.note(bounds)?]);
        let (moves, at) = (event.window.moves(), event.matching.table.span);
        let reading = Reading { key, relation, filter, moves, order: Vec::new(), at };
        let mut holds = Vec::new();
        for measure in &event.measures {
            holds.push(self.measure(measure, &reading)?);
        }
        for (predicate, last) in [(&event.first, false), (&event.last, true)] {
            if let Some(predicate) = predicate {
                holds.push(self.extreme(predicate, &event.by, last, &reading)?);
            }
        }
        if holds.is_empty() {
            holds.push(self.counted(&reading)?.gt(lit(0_i64)));
        }
        holds.into_iter().reduce(Expr::and)
    }

    fn counted(&mut self, reading: &Reading) -> Compiled {
        self.aggregate("count", lit(1_i64), reading)
    }

    fn aggregate(&mut self, function: &str, argument: Expr, reading: &Reading) -> Compiled {
        let udaf = self.scope.parts.aggregate(function);
        let call = AggregateFunction::new_udf(udaf, vec![argument], false, None, Vec::new(), None);
        let made = column(self.fresh(), std::slice::from_ref(reading), &[&call], self.scope.parts.assumed);
        match made {
            Ok(column) => {
                let name = column.name.clone();
                self.columns.push(column);
                Some(ident(name))
            }
            Err(message) => {
                self.findings
                    .push(Diagnostic::error(Code::SqlBinding, reading.at, message).with_label("in this condition"));
                None
            }
        }
    }

    fn measure(&mut self, measure: &Measure, reading: &Reading) -> Compiled {
        let argument = match &measure.operand {
            Some(sql) => {
                let bound = self.scope.bind(sql, &reading.relation);
                self.note(bound)?
            }
            None => lit(1_i64),
        };
        let call = AggregateFunction::new_udf(
            self.scope.parts.aggregate(measure.function.word()),
            vec![argument.clone()],
            false,
            None,
            Vec::new(),
            None,
        );
        if let (Err(e), Some(sql)) =
            (Expr::AggregateFunction(call).get_type(reading.relation.plan.schema()), &measure.operand)
        {
            let finding = self.scope.parts.binder().finding(&e, sql, &reading.relation.name);
            self.findings.push(finding);
            return None;
        }
        let value = self.aggregate(measure.function.word(), argument, reading)?;
        let number = match measure.number.parse::<i64>() {
            Ok(whole) => lit(whole),
            Err(_) => lit(measure.number.parse::<f64>().unwrap_or(f64::NAN)),
        };
        use crate::model::Comparator as C;
        Some(yes(match measure.comparator {
            C::Equal => value.eq(number),
            C::NotEqual => value.not_eq(number),
            C::Less => value.lt(number),
            C::LessOrEqual => value.lt_eq(number),
            C::Greater => value.gt(number),
            C::GreaterOrEqual => value.gt_eq(number),
        }))
    }

    /// `first:` and `last:`: the predicate on the extreme matching row (greatest time, then row id, or `by:`).
    fn extreme(
        &mut self,
        predicate: &Spanned<String>,
        by: &[Spanned<String>],
        last: bool,
        reading: &Reading,
    ) -> Compiled {
        let relation = &reading.relation;
        let bound = self.scope.predicate(predicate, relation);
        let holds = when(self.note(bound)?, lit(true)).otherwise(lit(false)).ok()?;
        let mut order = Vec::new();
        if by.is_empty() {
            order.extend(clock(relation, None));
            order.extend(relation.row_id.as_ref().map(ident));
        } else {
            for sql in by {
                let bound = self.scope.bind(sql, relation);
                order.push(self.note(bound)?);
            }
        }
        if order.is_empty() {
            let message = format!("`{}` has no time column, so there is no first or latest row", relation.name);
            self.findings.push(
                Diagnostic::error(Code::WindowWithoutTime, predicate.span, message)
                    .with_label("needs an order")
                    .with_help("name its clock with `time:` in sources.yaml, or give an order with `by:`"),
            );
            return None;
        }
        let pick = PickFirst::new(vec![last; order.len()], Returns::Value);
        order.push(holds);
        let name = self.fresh();
        self.columns.push(FoldColumn {
            name: name.clone(),
            function: Arc::new(AggregateUDF::new_from_impl(pick)),
            distinct: false,
            inputs: vec![FoldInput {
                table: reading.key.clone(),
                arguments: order,
                filter: reading.filter.clone(),
                moves: reading.moves,
            }],
            empty: ScalarValue::Boolean(Some(false)),
        });
        Some(yes(ident(name)))
    }

    fn sequence(&mut self, steps: &[Spanned<Step>]) -> Compiled {
        let mut by_table: BTreeMap<String, SequenceTable> = BTreeMap::new();
        let mut ok = self.sequence_fits(steps);
        for (index, step) in steps.iter().enumerate() {
            ok &= self.sequence_step(index, step, steps, &mut by_table).is_some();
        }
        if !ok {
            return None;
        }
        let inputs = by_table.into_iter().map(|(key, table)| table.input(key, steps.len())).collect();
        let name = self.fresh();
        let spec = self.spec(steps);
        self.columns.push(FoldColumn {
            name: name.clone(),
            function: Arc::new(AggregateUDF::new_from_impl(Sequence::new(spec))),
            distinct: false,
            inputs,
            empty: ScalarValue::Boolean(Some(false)),
        });
        Some(yes(ident(name)))
    }

    /// Whether there are not too many steps, and one value that rows must share.
    fn sequence_fits(&mut self, steps: &[Spanned<Step>]) -> bool {
        let before = self.findings.len();
        if let Some(beyond) = steps.get(MOST_STEPS) {
            let message = format!("a sequence has at most {MOST_STEPS} steps, this one has {}", steps.len());
            self.findings.push(
                Diagnostic::error(Code::SqlArguments, beyond.span, message)
                    .with_label("one too many")
                    .with_help("make two audiences, and let one be a condition of the other"),
            );
        }
        let mut same = steps.iter().filter_map(|step| step.same.as_ref());
        if let Some(first) = same.next()
            && let Some(other) = same.find(|other| other.value.trim() != first.value.trim())
        {
            self.findings.push(
                Diagnostic::error(Code::SqlArguments, other.span, "all `same:` of a sequence are one value")
                    .with_label("compares something else")
                    .with_related(first.span, "the other one")
                    .with_help("compare both at once: concat_ws('|', a, b)"),
            );
        }
        self.findings.len() == before
    }

    /// What a sequence asks of the rows that match its steps.
    pub(super) fn spec(&self, steps: &[Spanned<Step>]) -> SequenceSpec {
        let anchor = match steps.first().and_then(|s| s.pick) {
            None => Anchor::Any,
            Some(StepPick::Latest) => Anchor::Latest,
            Some(StepPick::Earliest) => Anchor::Earliest,
        };
        let step = |s: &Spanned<Step>| SequenceStep {
            negated: s.negated,
            within: s.within.as_ref().map(|w| w.value.micros),
            of_first: s.of == StepOrigin::First,
            inclusive: s.inclusive,
            open: s.open,
            same: s.same.is_some(),
        };
        SequenceSpec { anchor, steps: steps.iter().map(step).collect(), as_of: self.scope.parts.as_of }
    }

    /// Adds a step's predicate to those of its table.
    fn sequence_step(
        &mut self,
        index: usize,
        step: &Spanned<Step>,
        steps: &[Spanned<Step>],
        by_table: &mut BTreeMap<String, SequenceTable>,
    ) -> Option<()> {
        let found = self.scope.table(&step.matching.table, 0);
        let (key, relation) = self.note(found)?;
        let predicate = self.matching(&step.matching, &relation)?.unwrap_or_else(|| lit(true));
        let Some(time) = clock(&relation, None) else {
            let message = format!("`{}` has no time column, so its rows have no order", relation.name);
            self.findings.push(
                Diagnostic::error(Code::WindowWithoutTime, step.matching.table.span, message)
                    .with_label("a sequence needs a time")
                    .with_help("only source tables with `time:` and audiences have one; read such a table here"),
            );
            return None;
        };
        let same = match steps.iter().find_map(|s| s.same.as_ref()) {
            Some(sql) => {
                let bound = self.scope.bind(sql, &relation);
                cast(self.note(bound)?, DataType::Utf8)
            }
            None => lit(ScalarValue::Utf8(None)),
        };
        let table = by_table.entry(key).or_insert(SequenceTable { time, same, steps: BTreeMap::new() });
        table.steps.insert(index, predicate);
        Some(())
    }
}

/// What a sequence takes from one table.
struct SequenceTable {
    time: Expr,
    same: Expr,
    /// By step, which rows match it.
    steps: BTreeMap<usize, Expr>,
}

impl SequenceTable {
    /// The arguments for a sequence of so many steps.
    fn input(self, key: String, steps: usize) -> FoldInput {
        let mut arguments = vec![cast(self.time, DataType::Int64), self.same];
        let matched = |step| self.steps.get(&step).map_or_else(|| lit(false), |predicate| predicate.clone().is_true());
        arguments.extend((0..steps).map(matched));
        let filter = self.steps.into_values().reduce(Expr::or);
        FoldInput { table: key, arguments, filter, moves: false }
    }
}

/// The steps that a row matches as one number: a bit for each, the first the lowest. `matched` are by step.
pub(super) fn steps_mask(matched: &[Expr]) -> datafusion::error::Result<Expr> {
    let mut mask = lit(0_i64);
    for (step, matched) in matched.iter().enumerate() {
        mask = mask + when(matched.clone(), lit(1_i64 << step)).otherwise(lit(0_i64))?;
    }
    Ok(mask)
}

/// Null is no.
fn yes(expr: Expr) -> Expr {
    coalesce(vec![expr, lit(false)])
}
