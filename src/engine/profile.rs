//! The profile stage: attributes and traits become columns of the fold and expressions over the wide row.

use super::fold::{self, FoldColumn, FoldInput, in_common_types, serving};
use super::functions::{PickFirst, Returns};
use super::identity::BoundIdentity;
use super::measures::{FoldScope, Reading, all_of, clock, column, take_apart, window};
use super::planned::PlannedRows;
use super::timeline::{self, BoundTimeline};
use super::wide::{Wide, null_of, physical};
use super::{EngineParts, Relation};
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::error::Result;
use crate::model::{Attribute, Persona, Pick, ProfileModel, Trait};
use crate::warehouse::{WriteMode, storable_schema};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListBuilder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::compute::{cast as cast_array, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::functions::core::expr_fn::{coalesce, get_field};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, cast, ident, lit, when};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A column that is computed over the wide row.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub name: String,
    pub expr: Expr,
}

/// How an attribute's provenance is found in the wide row.
#[derive(Debug, Clone)]
pub(super) struct Provenance {
    pub attribute: String,
    pub picked: Option<String>,
    pub values: String,
    sources: Vec<String>,
}

/// A bound profile model.
#[derive(Debug, Clone)]
pub(super) struct BoundProfile {
    pub name: String,
    pub identity: String,
    pub columns: Vec<FoldColumn>,
    pub tables: BTreeMap<String, fold::FoldTable>,
    pub schema: SchemaRef,
    pub steps: Vec<Step>,
    pub provenance: Vec<Provenance>,
    pub timeline: Option<BoundTimeline>,
}

struct Building<'a> {
    scope: FoldScope<'a>,
    columns: Vec<FoldColumn>,
    steps: Vec<Step>,
    provenance: Vec<Provenance>,
    /// Where the author names the identity: the place of what has no other.
    at: Span,
    findings: &'a mut Vec<Diagnostic>,
}

/// Binds the model.
pub(super) fn bind(
    parts: &EngineParts<'_>,
    name: &str,
    model: &ProfileModel,
    identity: &BoundIdentity,
    relations: &BTreeMap<String, Relation>,
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundProfile> {
    let before = findings.len();
    let scope = FoldScope { parts, identity, relations, tables: BTreeMap::new() };
    let at = model.identity.span;
    let mut building = Building { scope, columns: Vec::new(), steps: Vec::new(), provenance: Vec::new(), at, findings };
    for attribute in &model.attributes {
        building.attribute(attribute);
    }
    for one in model.traits.iter().filter(|t| !t.from.is_empty()) {
        building.folded(one);
    }
    if building.findings.len() > before {
        return None;
    }
    let planned = fold::plan(&building.scope.tables, building.columns.clone());
    let groups = match planned {
        Ok(groups) => groups,
        Err(e) => {
            building.findings.push(parts.binder().engine_finding(&e, model.identity.span));
            return None;
        }
    };
    let mut fields: Vec<(String, DataType)> = vec![(format!("{}_id", model.identity.value), DataType::Utf8)];
    fields.extend(groups.iter().flat_map(fold::FoldGroup::fields));
    building.finish_folded(model, &mut fields);
    building.over_the_row(model, &mut fields);
    if building.findings.len() > before {
        return None;
    }
    let timeline = timeline::bind(&mut building.scope, model, building.findings);
    if building.findings.len() > before {
        return None;
    }
    let schema = output_schema(name, model, &fields, building.findings)?;
    Some(BoundProfile {
        name: name.to_owned(),
        identity: model.identity.value.clone(),
        columns: building.columns,
        tables: building.scope.tables,
        schema,
        steps: building.steps,
        provenance: building.provenance,
        timeline,
    })
}

/// Output columns in the author's order, in the types that the warehouse stores.
fn output_schema(
    name: &str,
    model: &ProfileModel,
    fields: &[(String, DataType)],
    findings: &mut Vec<Diagnostic>,
) -> Option<SchemaRef> {
    let id = format!("{}_id", model.identity.value);
    let mut names = vec![id.as_str()];
    names.extend(model.attributes.iter().map(|a| a.name.value.as_str()));
    names.extend(model.traits.iter().map(|t| t.name.value.as_str()));
    if model.persona.is_some() {
        names.push("persona");
    }
    let field = |n: &&str| fields.iter().find(|(f, _)| f == n).map(|(f, t)| Field::new(f, t.clone(), *n != id));
    let schema = Schema::new(names.iter().filter_map(field).collect::<Vec<_>>());
    match storable_schema(&schema) {
        Ok(schema) => Some(schema),
        Err(e) => {
            let finding = Diagnostic::error(Code::SqlBinding, model.identity.span, format!("profile `{name}`: {e}"));
            findings.push(finding.with_label("of this profile"));
            None
        }
    }
}

impl Building<'_> {
    fn note<T>(&mut self, result: std::result::Result<T, Box<Diagnostic>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(finding) => {
                self.findings.push(*finding);
                None
            }
        }
    }

    fn refuse(&mut self, at: &Spanned<String>, message: String) {
        self.findings.push(Diagnostic::error(Code::SqlBinding, at.span, message).with_label("in this SQL"));
    }

    /// An attribute: the winning row with its source and row id, and the list of all values.
    fn attribute(&mut self, attribute: &Attribute) {
        let name = &attribute.name.value;
        let mut inputs = Vec::new();
        let mut values = Vec::new();
        let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
        let mut relations: Vec<Relation> = Vec::new();
        for (rank, source) in attribute.from.iter().enumerate() {
            let copy = copies.entry(&source.table.value).or_insert(0);
            let found = self.scope.table(&source.table, *copy);
            *copy += 1;
            let Some((key, relation)) = self.note(found) else { continue };
            if matches!(attribute.pick, Pick::Latest | Pick::Earliest) && clock(&relation, None).is_none() {
                self.no_time_to_pick(&source.table);
                continue;
            }
            let Some(raw) = self.note_bind(&source.column, &relation) else { continue };
            let known = (source.table.value.clone(), source.column.value.clone());
            let identifier = self.scope.identity.columns.get(&known).filter(|_| !attribute.raw);
            let value = identifier.cloned().unwrap_or(raw);
            let mut arguments = pick_keys(attribute.pick, rank, &value, &relation);
            arguments.push(value.clone());
            arguments.push(lit(i32::try_from(rank).unwrap_or(i32::MAX)));
            arguments.push(match &relation.row_id {
                Some(row_id) => cast(ident(row_id), DataType::Utf8),
                None => lit(ScalarValue::Utf8(None)),
            });
            arguments.push(clock(&relation, None).unwrap_or_else(|| lit(super::functions::as_of_literal_null())));
            inputs.push(FoldInput { table: key.clone(), arguments, filter: None, moves: false });
            let arguments = vec![cast(value, DataType::Utf8)];
            values.push(FoldInput { table: key, arguments, filter: None, moves: false });
            relations.push(relation);
        }
        let Some(first) = relations.first() else { return };
        let schemas: Vec<&DFSchema> = relations.iter().map(|relation| relation.plan.schema().as_ref()).collect();
        if let Err(message) = in_common_types(&mut inputs, &schemas, self.scope.parts.assumed) {
            let source = attribute.from.last().map_or(attribute.name.span, |source| source.column.span);
            self.findings.push(
                Diagnostic::error(Code::SqlTypes, source, message)
                    .with_label("of another type than the first")
                    .with_help("declare the same `type:` for both columns, or read a model that casts one"),
            );
            return;
        }
        let place = pick_key_count(attribute.pick);
        let result_type = inputs[0].arguments[place].get_type(first.plan.schema()).unwrap_or(DataType::Null);
        self.attribute_columns(attribute, inputs, values, &result_type);
        debug_assert!(!name.is_empty(), "names are checked when read");
    }

    fn no_time_to_pick(&mut self, table: &Spanned<String>) {
        let message = format!("`{}` has no time column, so no value is the latest or earliest", table.value);
        self.findings.push(
            Diagnostic::error(Code::WindowWithoutTime, table.span, message)
                .with_label("has no time")
                .with_help("pick by `source_order`, `most_frequent` or `longest`, or read a source table with `time:`"),
        );
    }

    fn attribute_columns(
        &mut self,
        attribute: &Attribute,
        inputs: Vec<FoldInput>,
        values: Vec<FoldInput>,
        result_type: &DataType,
    ) {
        let name = &attribute.name.value;
        let all = serving(name, "values");
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        let tally = |n: &str| self.scope.parts.aggregate(n);
        let (unique_list, most_frequent) = (tally("unique_list"), tally("most_frequent"));
        let picked = if attribute.pick == Pick::MostFrequent {
            let keys = pick_key_count(attribute.pick);
            let inputs =
                inputs.into_iter().map(|i| FoldInput { arguments: vec![i.arguments[keys].clone()], ..i }).collect();
            let column = serving(name, "value");
            self.columns.push(fold_column(column.clone(), most_frequent, inputs, null_of(result_type)));
            self.steps.push(Step { name: name.clone(), expr: ident(column) });
            None
        } else {
            let column = serving(name, "picked");
            let pick = PickFirst::new(pick_directions(attribute.pick), Returns::ValueAndPayload);
            let udaf = Arc::new(AggregateUDF::new_from_impl(pick));
            self.columns.push(fold_column(column.clone(), udaf, inputs, ScalarValue::Null));
            self.steps.push(Step { name: name.clone(), expr: get_field(ident(&column), "value") });
            Some(column)
        };
        self.columns.push(fold_column(all.clone(), unique_list, values, null_of(&list)));
        self.provenance.push(Provenance {
            attribute: name.clone(),
            picked,
            values: all,
            sources: attribute.from.iter().map(|s| format!("{}.{}", s.table.value, s.column.value)).collect(),
        });
    }

    fn note_bind(&mut self, sql: &Spanned<String>, relation: &Relation) -> Option<Expr> {
        let bound = self.scope.bind(sql, relation);
        self.note(bound)
    }

    /// A trait over tables: its aggregates become fold columns.
    fn folded(&mut self, one: &Trait) {
        let mut readings = Vec::new();
        let mut parts = Vec::new();
        for from in &one.from {
            let found = self.scope.table(from, 0);
            let Some((key, relation)) = self.note(found) else { continue };
            let filter = match &one.filter {
                Some(sql) => {
                    let bound = self.scope.predicate(sql, &relation);
                    let Some(expr) = self.note(bound) else { continue };
                    Some(expr)
                }
                None => None,
            };
            let bounds = window(&one.window, &relation, one.time.as_ref(), self.scope.parts.as_of);
            let Some(bounds) = self.note(bounds) else { continue };
            let order = self.order(one, &relation);
            let bound = self.scope.aggregate(&one.select, &relation);
            let Some(expr) = self.note(bound) else { continue };
            if order.is_empty() && self.needs_order(one, from, &expr) {
                continue;
            }
            match take_apart(expr, &one.name.value) {
                Ok(apart) => parts.push(apart),
                Err(e) => {
                    let finding = self.scope.parts.binder().finding(&e, &one.select, &relation.name);
                    self.findings.push(finding);
                    continue;
                }
            }
            let moves = one.window.moves();
            readings.push(Reading { key, relation, filter: all_of([filter, bounds]), moves, order, at: from.span });
        }
        if parts.len() < one.from.len() || parts.is_empty() {
            return;
        }
        self.trait_columns(one, &readings, &parts);
    }

    /// `first` and `last` without a time and without `by:`.
    fn needs_order(&mut self, one: &Trait, from: &Spanned<String>, expr: &Expr) -> bool {
        let ordered = |e: &Expr| matches!(e, Expr::AggregateFunction(a) if matches!(a.func.name(), "first" | "last"));
        let found = expr.exists(|e| Ok(ordered(e))).unwrap_or(false);
        if found {
            let message = format!("`{}` has no time column, so there is no first or last row", from.value);
            self.findings.push(
                Diagnostic::error(Code::WindowWithoutTime, one.select.span, message)
                    .with_label("needs an order")
                    .with_related(from.span, "rows of this table")
                    .with_help("give an order with `by:`, or name the table's clock with `time:`"),
            );
        }
        found
    }

    fn trait_columns(&mut self, one: &Trait, readings: &[Reading], parts: &[super::measures::TakenApart]) {
        let count = parts[0].aggregates.len();
        if count == 0 {
            let message = format!("trait `{}` has `from` but no aggregate", one.name.value);
            let finding = Diagnostic::error(Code::SqlGrouping, one.select.span, message).with_label("no aggregate");
            self.findings.push(finding.with_help(
                "write an aggregate such as count(*), or leave `from` out for an expression over the profile",
            ));
            return;
        }
        for index in 0..count {
            let calls: Vec<_> = parts.iter().filter_map(|p| p.aggregates.get(index)).collect();
            let name = serving(&one.name.value, index);
            match column(name, readings, &calls, self.scope.parts.assumed) {
                Ok(column) => self.columns.push(column),
                Err(message) => self.refuse(&one.select, message),
            }
        }
    }

    fn order(&mut self, one: &Trait, relation: &Relation) -> Vec<Expr> {
        if one.by.is_empty() {
            return clock(relation, one.time.as_ref()).into_iter().collect();
        }
        one.by.iter().filter_map(|by| self.note_bind(by, relation)).collect()
    }

    /// Attribute and trait expressions over fold columns, now that their types are known.
    fn finish_folded(&mut self, model: &ProfileModel, fields: &mut Vec<(String, DataType)>) {
        for step in self.steps.clone() {
            self.type_step(&step, fields, None);
        }
        for one in model.traits.iter().filter(|t| !t.from.is_empty()) {
            let Some(relation) = self.scope.relations.get(&one.from[0].value).cloned() else { continue };
            let bound = self.scope.aggregate(&one.select, &relation);
            let Some(expr) = self.note(bound) else { continue };
            let Ok(apart) = take_apart(expr, &one.name.value) else { continue };
            let plain = typed(self.scope.parts.state, &apart.rest, fields).is_ok();
            let expr = self.with_default(one, apart.rest);
            let step = Step { name: one.name.value.clone(), expr };
            let at = one.default.as_ref().filter(|_| plain).unwrap_or(&one.select);
            self.type_step(&step, fields, Some(at));
            self.steps.push(step);
        }
    }

    fn with_default(&mut self, one: &Trait, expr: Expr) -> Expr {
        let Some(default) = &one.default else { return expr };
        let bound = self.scope.parts.binder().expression(default, &DFSchema::empty(), "default");
        match self.note(bound) {
            Some(value) => coalesce(vec![expr, value]),
            None => expr,
        }
    }

    fn type_step(&mut self, step: &Step, fields: &mut Vec<(String, DataType)>, at: Option<&Spanned<String>>) {
        match typed(self.scope.parts.state, &step.expr, fields) {
            Ok(data_type) => fields.push((step.name.clone(), data_type)),
            Err(e) => {
                let finding = match at {
                    Some(sql) => self.scope.parts.binder().finding(&e, sql, "the profile"),
                    None => self.scope.parts.binder().engine_finding(&e, self.at),
                };
                self.findings.push(finding);
            }
        }
    }

    /// Traits without `from` and the persona, each after the columns that it mentions.
    fn over_the_row(&mut self, model: &ProfileModel, fields: &mut Vec<(String, DataType)>) {
        let mut waiting: Vec<&Trait> = model.traits.iter().filter(|t| t.from.is_empty()).collect();
        while !waiting.is_empty() {
            let names: Vec<String> = waiting.iter().map(|t| t.name.value.clone()).collect();
            let mut rest = Vec::new();
            let count = waiting.len();
            for one in waiting {
                let mentioned = self.scope.parts.binder().mentioned(&one.select);
                let Some(mentioned) = self.note(mentioned) else { continue };
                if mentioned.iter().any(|m| names.contains(m) && *m != one.name.value) {
                    rest.push(one);
                    continue;
                }
                self.row_expression(one, fields);
            }
            if rest.len() == count {
                for one in &rest {
                    let message = format!("trait `{}` depends on itself through other traits", one.name.value);
                    let finding = Diagnostic::error(Code::Cycle, one.select.span, message);
                    self.findings.push(
                        finding
                            .with_label("comes back to itself")
                            .with_help("let one of these traits read a table with `from`, or write its expression out"),
                    );
                }
                return;
            }
            waiting = rest;
        }
        if let Some(persona) = &model.persona {
            self.persona(persona, fields);
        }
    }

    fn row_expression(&mut self, one: &Trait, fields: &mut Vec<(String, DataType)>) {
        let Some(expr) = self.over_row(&one.select, fields) else { return };
        let expr = self.with_default(one, expr);
        let step = Step { name: one.name.value.clone(), expr };
        self.type_step(&step, fields, Some(&one.select));
        self.steps.push(step);
    }

    fn over_row(&mut self, sql: &Spanned<String>, fields: &[(String, DataType)]) -> Option<Expr> {
        let visible: Vec<_> = fields.iter().filter(|(n, _)| !n.starts_with("__")).cloned().collect();
        let schema = match DFSchema::try_from(fold::schema_of(&visible)) {
            Ok(schema) => schema,
            Err(e) => {
                let finding = self.scope.parts.binder().finding(&e, sql, "the profile");
                self.findings.push(finding);
                return None;
            }
        };
        let bound = self.scope.parts.binder().expression(sql, &schema, "the profile");
        self.note(bound)
    }

    fn persona(&mut self, persona: &Persona, fields: &mut Vec<(String, DataType)>) {
        let default = persona.default.as_ref().map(|d| d.value.clone());
        let mut expr = lit(ScalarValue::Utf8(default));
        for (name, condition) in persona.rules.iter().rev() {
            let Some(holds) = self.over_row(condition, fields) else { continue };
            let schema = DFSchema::try_from(fold::schema_of(fields));
            if let Ok(schema) = schema {
                let checked = self.scope.parts.binder().predicate(condition, &schema, "the profile");
                if self.note(checked).is_none() {
                    continue;
                }
            }
            match when(holds, lit(name.value.clone())).otherwise(expr.clone()) {
                Ok(case) => expr = case,
                Err(e) => {
                    let finding = self.scope.parts.binder().finding(&e, condition, "the profile");
                    self.findings.push(finding);
                }
            }
        }
        let step = Step { name: "persona".to_owned(), expr };
        self.type_step(&step, fields, persona.rules.first().map(|r| &r.1));
        self.steps.push(step);
    }
}

fn fold_column(name: String, function: Arc<AggregateUDF>, inputs: Vec<FoldInput>, empty: ScalarValue) -> FoldColumn {
    FoldColumn { name, function, distinct: false, inputs, empty }
}

/// The type of an expression after coercion, which also proves that it can be evaluated.
fn typed(state: &SessionState, expr: &Expr, fields: &[(String, DataType)]) -> datafusion::error::Result<DataType> {
    let schema = fold::schema_of(fields);
    let bound = DFSchema::try_from(schema.clone())?;
    let physical = physical(state, expr.clone(), &bound)?;
    physical.data_type(&schema)
}

/// Order keys of an attribute: the smallest row wins. Ties take the smallest text (the pick adds the value).
fn pick_keys(pick: Pick, rank: usize, value: &Expr, relation: &Relation) -> Vec<Expr> {
    let time = clock(relation, None).unwrap_or_else(|| lit(super::functions::as_of_literal_null()));
    let rank = lit(i64::try_from(rank).unwrap_or(i64::MAX));
    match pick {
        Pick::SourceOrder => vec![rank, time],
        Pick::Latest | Pick::Earliest => vec![time],
        Pick::Longest => {
            vec![datafusion::functions::unicode::expr_fn::character_length(cast(value.clone(), DataType::Utf8))]
        }
        Pick::MostFrequent => Vec::new(),
    }
}

fn pick_directions(pick: Pick) -> Vec<bool> {
    match pick {
        Pick::SourceOrder => vec![false, true],
        Pick::Latest | Pick::Longest => vec![true],
        Pick::Earliest => vec![false],
        Pick::MostFrequent => Vec::new(),
    }
}

fn pick_key_count(pick: Pick) -> usize {
    pick_directions(pick).len()
}

impl BoundProfile {
    /// Evaluates attributes, traits and persona over the folded columns.
    pub(super) fn finish(&self, state: &SessionState, wide: &mut Wide, threads: usize) -> Result<RecordBatch> {
        for step in &self.steps {
            let column = wide.evaluate(state, step.expr.clone(), threads)?;
            wide.push(&step.name, column);
        }
        wide.batch(&self.schema)
    }

    /// Schema of the provenance table.
    pub(super) fn provenance_schema(&self) -> SchemaRef {
        let text = |n: &str, nullable| Field::new(n, DataType::Utf8, nullable);
        Arc::new(Schema::new(vec![
            text(&format!("{}_id", self.identity), false),
            text("attribute", false),
            text("value", false),
            text("source", true),
            text("row_id", true),
            Field::new("happened_at", super::time_type(), true),
            Field::new("lost", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), true),
        ]))
    }

    /// One row per entity and attribute: the value, where it came from, and the values that lost. Made with `threads`
    /// threads while they are written.
    pub(super) fn provenance(&self, wide: &Wide, threads: usize) -> Result<PlannedRows> {
        let (table, schema) = (format!("{}_provenance", self.name), self.provenance_schema());
        let id = format!("{}_id", self.identity);
        let read = self.provenance.iter().flat_map(Provenance::columns).chain([id.as_str()]);
        let (wide, attributes) = (wide.only(read), self.provenance.clone());
        let columns = Arc::clone(&schema);
        let size = (attributes.len() * wide.rows(), threads);
        // rows of one attribute come together: a range may end in one and begin in the next
        let make = move |range: Range<usize>| {
            let first = range.start / wide.rows();
            let of = |(number, one): (usize, &Provenance)| {
                let rows = number * wide.rows()..(number + 1) * wide.rows();
                let part = range.start.max(rows.start)..range.end.min(rows.end);
                one.rows(&wide, &id, &columns, part.start - rows.start..part.end - rows.start)
            };
            let last = (range.end - 1) / wide.rows();
            let parts = attributes.iter().enumerate().take(last + 1).skip(first).map(of);
            Ok(concat_batches(&columns, &parts.collect::<datafusion::error::Result<Vec<_>>>()?)?)
        };
        PlannedRows::of_chunks(&table, &schema, WriteMode::Overwrite, size, make)
    }
}

impl Provenance {
    /// The columns that nobody else reads.
    pub(super) fn own_columns(&self) -> impl Iterator<Item = &str> {
        self.picked.as_deref().into_iter().chain([self.values.as_str()])
    }

    /// The columns of the wide table that it reads beside the entity's id.
    fn columns(&self) -> impl Iterator<Item = &str> {
        self.own_columns().chain([self.attribute.as_str()])
    }

    fn rows(
        &self,
        wide: &Wide,
        id: &str,
        schema: &SchemaRef,
        rows: Range<usize>,
    ) -> datafusion::error::Result<RecordBatch> {
        let missing = || datafusion::error::DataFusionError::Internal("a provenance column is missing".to_owned());
        let part = |name: &str| wide.column(name).map(|column| column.slice(rows.start, rows.len()));
        let text = |name: &str| -> datafusion::error::Result<_> {
            Ok(cast_array(&part(name).ok_or_else(missing)?, &DataType::Utf8)?)
        };
        let ids = text(id)?;
        let values = text(&self.attribute)?;
        let (ids, values) = (ids.as_string::<i32>(), values.as_string::<i32>());
        let all = part(&self.values).ok_or_else(missing)?;
        let (all, others) = (all.as_list::<i32>().value_offsets(), all.as_list::<i32>().values().as_string::<i32>());
        // without a single row to fold the column is a bare null, and so are all values
        let picked = self.picked.as_ref().and_then(|p| part(p));
        let picked = picked.as_ref().and_then(AsArray::as_struct_opt);
        let sources = picked.map(|p| p.column(1).as_primitive::<Int32Type>());
        let row_ids = picked.map(|p| p.column(2).as_string::<i32>());
        let times = picked.map(|p| p.column(3).as_primitive::<TimestampMicrosecondType>());
        let mut happened = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        let mut texts: [StringBuilder; 5] = std::array::from_fn(|_| StringBuilder::new());
        let mut lost = ListBuilder::new(StringBuilder::new());
        for row in (0..rows.len()).filter(|r| values.is_valid(*r)) {
            texts[0].append_value(ids.value(row));
            texts[1].append_value(&self.attribute);
            texts[2].append_value(values.value(row));
            let source = sources.filter(|s| s.is_valid(row)).and_then(|s| self.sources.get(s.value(row) as usize));
            texts[3].append_option(source);
            texts[4].append_option(row_ids.filter(|r| r.is_valid(row)).map(|r| r.value(row)));
            happened.append_option(times.filter(|t| t.is_valid(row)).map(|t| t.value(row)));
            for other in (all[row]..all[row + 1]).map(|k| others.value(k as usize)) {
                if other != values.value(row) {
                    lost.values().append_value(other);
                }
            }
            lost.append(true);
        }
        let mut columns: Vec<ArrayRef> = texts.map(|mut t| Arc::new(t.finish()) as ArrayRef).into();
        columns.push(Arc::new(happened.finish()));
        columns.push(Arc::new(lost.finish()));
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}
