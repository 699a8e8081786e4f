//! The tables of an identity: who is who, which links were accepted and refused, hubs, changes, registry. Those that sum a run
//! up are made in [`super::identity_report`]. The large ones are made while they are written.

use super::identity::{BoundIdentity, StitchedRun, is_hub};
use super::identity_report;
use super::planned::PlannedRows;
use crate::error::Result;
use crate::identity::{Candidate, Cause, Change, Link, NO_LAST_TIME, NO_TIME, Nodes, RefusalReason};
use crate::model::IdentityModel;
use crate::warehouse::WriteMode;
use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as Made;
use std::borrow::Cow;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

pub(super) fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

pub(super) fn number(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Int64, nullable)
}

pub(super) fn time(name: &str) -> Field {
    Field::new(name, super::time_type(), true)
}

/// A table of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdentityTable {
    Identity,
    Links,
    Changes,
    Hubs,
    Rules,
    Registry,
    Report,
    Suspects,
}

impl IdentityTable {
    /// The tables of an identity with their names and schemas; the first has the identity's own name.
    pub(super) fn all(identity: &str) -> Vec<(Self, String, SchemaRef)> {
        use IdentityTable::{Changes, Hubs, Identity, Links, Registry, Report, Rules, Suspects};
        let id = format!("{identity}_id");
        let table = |(kind, suffix, fields): (Self, &str, Vec<Field>)| {
            (kind, format!("{identity}{suffix}"), Arc::new(Schema::new(fields)))
        };
        let tables = [
            (Identity, "", identity_fields(&id)),
            (Links, "_links", link_fields()),
            (Changes, "_changes", change_fields(&id)),
            (Hubs, "_hubs", hub_fields()),
            (Rules, "_rules", rule_fields()),
            (Registry, "_registry", registry_fields(&id)),
            (Report, "_report", identity_report::report_fields()),
            (Suspects, "_suspects", identity_report::suspect_fields(&id)),
        ];
        tables.into_iter().map(table).collect()
    }

    /// Whether a run replaces its rows or adds to them.
    pub(super) fn mode(self) -> WriteMode {
        match self {
            Self::Identity | Self::Links | Self::Hubs | Self::Rules | Self::Suspects => WriteMode::Overwrite,
            Self::Changes | Self::Registry | Self::Report => WriteMode::Append,
        }
    }
}

/// Names and schemas of an identity's tables; the first is the identity itself.
pub(super) fn schemas(identity: &str) -> Vec<(String, SchemaRef)> {
    IdentityTable::all(identity).into_iter().map(|(_, name, schema)| (name, schema)).collect()
}

fn identity_fields(id: &str) -> Vec<Field> {
    vec![
        text("identifier_type", false),
        text("identifier", false),
        text(id, false),
        time("first_seen"),
        time("last_seen"),
    ]
}

fn link_fields() -> Vec<Field> {
    vec![
        text("left_type", false),
        text("left_identifier", false),
        text("right_type", false),
        text("right_identifier", false),
        Field::new("accepted", DataType::Boolean, false),
        text("reason", true),
        text("table_name", true),
        text("row_id", true),
        time("first_seen"),
    ]
}

fn change_fields(id: &str) -> Vec<Field> {
    vec![
        number("run", false),
        time("as_of"),
        text("change", false),
        text(id, false),
        text("other_id", true),
        // came after the others, so it is the last, as in warehouses that had the table before
        text("cause", true),
    ]
}

fn hub_fields() -> Vec<Field> {
    vec![
        text("identifier_type", false),
        text("identifier", false),
        number("links", false),
        number("max_links", false),
        text("neighbour_type", true),
    ]
}

fn rule_fields() -> Vec<Field> {
    vec![
        text("rule", false),
        text("left_type", false),
        text("left_identifier", false),
        text("right_type", false),
        text("right_identifier", false),
        Field::new("held", DataType::Boolean, false),
        text("reason", true),
        text("rule_reason", false),
        text("rule_by", false),
        text("rule_at", false),
    ]
}

fn registry_fields(id: &str) -> Vec<Field> {
    vec![text("identifier_type", false), text("identifier", false), text(id, false), number("run", false)]
}

pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Made<RecordBatch> {
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

pub(super) fn times() -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::new().with_data_type(super::time_type())
}

pub(super) fn append_time(builder: &mut TimestampMicrosecondBuilder, micros: i64) {
    let known = micros != NO_TIME && micros != NO_LAST_TIME;
    builder.append_option(known.then_some(micros));
}

/// What the large tables of an identity are made from.
pub(super) struct IdentityRows {
    bound: BoundIdentity,
    model: IdentityModel,
    run: StitchedRun,
    /// Why links and always rules were refused.
    refused: hashbrown::HashMap<Candidate, String>,
    /// Places in the model of the rules whose identifiers occur.
    rules: Vec<usize>,
    /// The run's number and logical time.
    at: (u64, i64),
}

impl IdentityRows {
    /// Keeps what one run made.
    pub(super) fn new(bound: &BoundIdentity, model: &IdentityModel, run: StitchedRun, at: (u64, i64)) -> Self {
        let (bound, model) = (bound.clone(), model.clone());
        let rules = run.found.rules.places();
        let mut rows = Self { bound, model, run, refused: hashbrown::HashMap::new(), rules, at };
        for refusal in &rows.run.stitched.refused {
            rows.refused.insert(refusal.candidate, rows.reason(refusal.reason));
        }
        rows
    }

    /// The rows of one of the large tables, to be made with `threads` threads; `None` for the others.
    pub(super) fn planned(
        self: &Arc<Self>,
        kind: IdentityTable,
        table: &str,
        schema: &SchemaRef,
        threads: usize,
    ) -> Option<Result<PlannedRows>> {
        let run = &self.run;
        let (size, make): (usize, fn(&Self, &SchemaRef, Range<usize>) -> Made<RecordBatch>) = match kind {
            IdentityTable::Identity => (run.entities.nodes.len(), Self::identity),
            IdentityTable::Links => (run.links.len(), Self::links),
            IdentityTable::Rules => (self.rules.len(), Self::rules),
            IdentityTable::Changes => (run.assigned.created.len() + run.assigned.changes.len(), Self::changes),
            IdentityTable::Registry => (run.assigned.newly_registered.len() + run.found.gone.len(), Self::registry),
            IdentityTable::Hubs | IdentityTable::Report | IdentityTable::Suspects => return None,
        };
        let (rows, columns) = (Arc::clone(self), Arc::clone(schema));
        let make = move |range| {
            let batch = make(&rows, &columns, range)?;
            rows.run.texts.check()?;
            Ok(batch)
        };
        Some(PlannedRows::of_chunks(table, schema, kind.mode(), (size, threads), make))
    }

    /// One row per identifier that belongs to an entity.
    fn identity(&self, schema: &SchemaRef, range: Range<usize>) -> Made<RecordBatch> {
        let Self { bound, run, .. } = self;
        let nodes = &run.entities.nodes;
        let types = bound.type_names();
        let mut kinds = StringBuilder::new();
        let mut texts = StringBuilder::new();
        let mut ids = StringBuilder::new();
        let (mut first, mut last) = (times(), times());
        for node in range {
            let entity = run.entities.entity[node];
            if is_hub(entity) {
                continue;
            }
            let code = node as u32;
            kinds.append_value(types[usize::from(nodes.type_of(code))]);
            texts.append_value(nodes.text(code));
            append_id(&mut ids, run.entities.ids[entity as usize]);
            append_time(&mut first, nodes.first_seen(code));
            append_time(&mut last, nodes.last_seen(code));
        }
        batch(
            schema,
            vec![
                Arc::new(kinds.finish()),
                Arc::new(texts.finish()),
                Arc::new(ids.finish()),
                Arc::new(first.finish()),
                Arc::new(last.finish()),
            ],
        )
    }

    /// One row per distinct link, with its earliest evidence and, if refused, why.
    fn links(&self, schema: &SchemaRef, range: Range<usize>) -> Made<RecordBatch> {
        let Self { bound, run, refused, .. } = self;
        let nodes = &run.entities.nodes;
        let types = bound.type_names();
        let mut sides: [StringBuilder; 4] = std::array::from_fn(|_| StringBuilder::new());
        let mut accepted = BooleanBuilder::new();
        let mut reasons = StringBuilder::new();
        let mut tables = StringBuilder::new();
        let mut rows = StringBuilder::new();
        let mut first = times();
        let proofs = run.proofs.of(range.clone())?;
        let ends = stronger_first(nodes, &run.links[range.clone()]);
        for (((left, right), index), proof) in ends.zip(range).zip(proofs) {
            let link = run.links[index];
            for (side, (node, text)) in [&left, &right].into_iter().enumerate() {
                sides[side * 2].append_value(types[usize::from(nodes.type_of(*node))]);
                sides[side * 2 + 1].append_value(text);
            }
            let hub = [left.0, right.0].into_iter().any(|n| is_hub(run.entities.entity[n as usize]));
            let why = refused.get(&Candidate::Link(index as u32));
            accepted.append_value(why.is_none() && !hub);
            reasons.append_option(why.map(String::as_str).or(hub.then_some("hub")));
            tables.append_value(&run.found.tables[usize::from(proof.table)]);
            rows.append_option(proof.row);
            append_time(&mut first, link.first_seen);
        }
        let [mut a, mut b, mut c, mut d] = sides;
        batch(
            schema,
            vec![
                Arc::new(a.finish()),
                Arc::new(b.finish()),
                Arc::new(c.finish()),
                Arc::new(d.finish()),
                Arc::new(accepted.finish()),
                Arc::new(reasons.finish()),
                Arc::new(tables.finish()),
                Arc::new(rows.finish()),
                Arc::new(first.finish()),
            ],
        )
    }

    /// What became of each rule of people whose identifiers both occur. The others are not here: the identifiers of
    /// somebody who was erased must not come back with a rule that names them.
    fn rules(&self, schema: &SchemaRef, range: Range<usize>) -> Made<RecordBatch> {
        let Self { bound, run, refused, .. } = self;
        let mut columns: [StringBuilder; 9] = std::array::from_fn(|_| StringBuilder::new());
        let mut held = BooleanBuilder::new();
        for &place in &self.rules[range] {
            let rule = &bound.rules[place];
            let always = run.found.rules.always_places.binary_search(&place).ok();
            let why = always.and_then(|index| refused.get(&Candidate::Always(index as u32)));
            held.append_value(why.is_none());
            let texts = [
                Some(rule.verdict.word()),
                Some(&rule.left.0),
                Some(&rule.left.1),
                Some(&rule.right.0),
                Some(&rule.right.1),
                why.map(String::as_str),
                Some(&rule.reason),
                Some(&rule.by),
                Some(&rule.at),
            ];
            columns.iter_mut().zip(texts).for_each(|(column, text)| column.append_option(text));
        }
        let mut columns: Vec<ArrayRef> = columns.iter_mut().map(|column| Arc::new(column.finish()) as _).collect();
        columns.insert(5, Arc::new(held.finish()));
        batch(schema, columns)
    }

    fn reason(&self, reason: RefusalReason) -> String {
        let Self { bound, model, run, .. } = self;
        let types = bound.type_names();
        match reason {
            RefusalReason::MaxPerEntity { type_code, stronger_side, weaker_side, limit } => {
                let kind = types[usize::from(type_code)];
                let within =
                    model.identifiers[usize::from(type_code)].max_per_entity.as_ref().and_then(|m| m.within.as_ref());
                let within = within.map(|within| format!(" within {}", within.value)).unwrap_or_default();
                format!("max_per_entity: {kind} would be {stronger_side} + {weaker_side}{within}, the limit is {limit}")
            }
            RefusalReason::Never { rule } => self.never_rule(rule),
            RefusalReason::Hub { node } => format!("hub {}", run.entities.nodes.text(node)),
        }
    }

    fn never_rule(&self, rule: u32) -> String {
        let rule = self.run.found.rules.never_places.get(rule as usize).and_then(|place| self.model.rules.get(*place));
        rule.map_or_else(|| "never rule".to_owned(), |r| format!("never rule by {}: {}", r.by, r.reason))
    }

    fn cause(&self, cause: Cause) -> String {
        let (types, nodes) = (self.bound.type_names(), &self.run.entities.nodes);
        match cause {
            Cause::Never { rule } => self.never_rule(rule),
            Cause::MaxPerEntity { type_code } => format!("max_per_entity {}", types[usize::from(type_code)]),
            Cause::Hub { node } => format!("hub {}:{}", types[usize::from(nodes.type_of(node))], nodes.text(node)),
            Cause::NoLink => "no link is left".to_owned(),
        }
    }

    /// What happened to entities in this run.
    fn changes(&self, schema: &SchemaRef, changes: Range<usize>) -> Made<RecordBatch> {
        let Self { run, at: (number, as_of), .. } = self;
        let (mut runs, mut at) = (Int64Builder::new(), times());
        let (mut words, mut ids, mut others) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
        let mut causes = StringBuilder::new();
        for row in changes {
            runs.append_value(number.cast_signed());
            at.append_value(*as_of);
            // who is new comes first
            if let Some(entity) = run.assigned.created.get(row) {
                words.append_value("created");
                append_id(&mut ids, run.entities.ids[*entity as usize]);
                others.append_null();
                causes.append_null();
                continue;
            }
            let index = row - run.assigned.created.len();
            causes.append_option(run.found.causes[index].map(|cause| self.cause(cause)));
            match &run.assigned.changes[index] {
                Change::Merged { from, into, .. } => {
                    words.append_value("merged");
                    append_id(&mut ids, *into);
                    append_id(&mut others, *from);
                }
                Change::Split { from, new, .. } => {
                    words.append_value("split");
                    append_id(&mut ids, *new);
                    append_id(&mut others, *from);
                }
            }
        }
        batch(
            schema,
            vec![
                Arc::new(runs.finish()),
                Arc::new(at.finish()),
                Arc::new(words.finish()),
                Arc::new(ids.finish()),
                Arc::new(others.finish()),
                Arc::new(causes.finish()),
            ],
        )
    }

    /// Identifiers that were registered for the first time, or under another id; then those that are gone, without one.
    fn registry(&self, schema: &SchemaRef, range: Range<usize>) -> Made<RecordBatch> {
        let Self { bound, run, at: (number, _), .. } = self;
        let nodes = &run.entities.nodes;
        let types = bound.type_names();
        let (mut kinds, mut texts, mut ids) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
        let mut runs = Int64Builder::new();
        let new = &run.assigned.newly_registered;
        for row in range {
            runs.append_value(number.cast_signed());
            let Some(&node) = new.get(row) else {
                let (kind, text) = &run.found.gone[row - new.len()];
                kinds.append_value(kind);
                texts.append_value(text);
                ids.append_value("");
                continue;
            };
            kinds.append_value(types[usize::from(nodes.type_of(node))]);
            texts.append_value(nodes.text(node));
            append_id(&mut ids, run.entities.ids[run.entities.entity[node as usize] as usize]);
        }
        batch(
            schema,
            vec![Arc::new(kinds.finish()), Arc::new(texts.finish()), Arc::new(ids.finish()), Arc::new(runs.finish())],
        )
    }
}

pub(super) fn append_id(builder: &mut StringBuilder, id: crate::identity::EntityId) {
    builder.append_value(std::str::from_utf8(&id.hex()).unwrap_or_default());
}

type Side<'n> = (u32, Cow<'n, str>);

/// The identifiers of links with their texts, the stronger first. Looks texts up and touches them for many links at
/// once, so that the processor waits for the memory of several.
fn stronger_first<'n>(nodes: &'n Nodes, links: &[Link]) -> impl Iterator<Item = (Side<'n>, Side<'n>)> {
    const AT_ONCE: usize = 64;
    links.chunks(AT_ONCE).flat_map(|links| {
        let sides = links.iter().map(|link| [link.a, link.b].map(|node| (node, nodes.text(node))));
        let sides: Vec<[Side<'n>; 2]> = sides.collect();
        let touched = sides.iter().flatten().fold(0, |touched, (_, text)| {
            touched ^ text.as_bytes().first().unwrap_or(&0) ^ text.as_bytes().last().unwrap_or(&0)
        });
        black_box(touched);
        sides.into_iter().map(|[a, b]| {
            let types = nodes.type_of(a.0).cmp(&nodes.type_of(b.0));
            if types.then_with(|| a.1.cmp(&b.1)).is_le() { (a, b) } else { (b, a) }
        })
    })
}

/// Hubs with how many neighbours they have.
pub(super) fn hubs(bound: &BoundIdentity, run: &StitchedRun, schema: &SchemaRef) -> Made<RecordBatch> {
    let nodes = &run.entities.nodes;
    let types = bound.type_names();
    let (mut kinds, mut texts, mut neighbours) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let (mut degrees, mut limits) = (Int64Builder::new(), Int64Builder::new());
    for hub in &run.stitched.hubs {
        kinds.append_value(types[usize::from(nodes.type_of(hub.node))]);
        texts.append_value(nodes.text(hub.node));
        degrees.append_value(i64::from(hub.degree));
        limits.append_value(i64::from(hub.limit));
        neighbours.append_option(hub.neighbour_type.map(|t| types[usize::from(t)]));
    }
    batch(
        schema,
        vec![
            Arc::new(kinds.finish()),
            Arc::new(texts.finish()),
            Arc::new(degrees.finish()),
            Arc::new(limits.finish()),
            Arc::new(neighbours.finish()),
        ],
    )
}
