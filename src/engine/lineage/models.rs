//! Lineage of identities, profiles and audiences: what stitching and the fold do, as sets of columns.
//!
//! - An identifier may become a hub through any other one, so every identifier, and every filter of a link
//!   table, decides which rows an identity has. Which links are accepted, and which identifier names an
//!   entity, depends on the times of all links too.
//! - Whose row a row is depends on the identifiers in its owner columns and on the identity. Readers depend
//!   on the id column and the rows of the identity's table, which stand for all of that.
//! - A fold column depends on its arguments by value; on filters, windows, orders, owners and the identity by
//!   rows.
//! - A member of an audience is one because of everything that the conditions read.
//!
//! For labels (`graph::Lowering`), identifiers that only say who is who are lowered to `Entity`: in an entity id, in
//! what decides which rows an identity has, in owner columns, and in what a pick orders by: which of a person's values
//! is taken is not told by the value. The filters of links are not.
//!
//! The match of column names in [`identity_column`] ends in "everything": a new column of an identity's table
//! is too coarse until it is named there, never wrong.

use super::Tables;
use super::flow::{Flow, Refs, Scope, Sets};
use super::plan::Analysis;
use crate::engine::audience::{BoundAudience, Rule, holdout_table, membership, rejected_schema, rejected_table};
use crate::engine::cells::Counted;
use crate::engine::fold::{FoldColumn, FoldTable};
use crate::engine::functions::{Ordered, PickFirst};
use crate::engine::identity::BoundIdentity;
use crate::engine::identity_tables::IdentityTable;
use crate::engine::profile::BoundProfile;
use crate::engine::sync_rows::BoundSync;
use crate::engine::timeline::BoundTimeline;
use crate::graph::{ColumnRef, Lowering, TableLineage};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use std::collections::BTreeMap;

/// What the link tables give an identity.
#[derive(Default)]
struct Links {
    /// Identifiers.
    identifiers: Sets,
    /// Event times.
    times: Sets,
    /// Row ids, kept as evidence.
    row_ids: Sets,
    /// Which rows link.
    frame: Refs,
    /// Names of entities.
    ids: Sets,
}

/// Tables of an identity.
pub(super) fn identity(known: &Tables, bound: &BoundIdentity) -> Vec<TableLineage> {
    let mut analysis = Analysis::new(known, None);
    let mut links = Links::default();
    for table in &bound.links {
        let flow = analysis.plan(&table.plan, None);
        let (identifiers, rest) = flow.columns.split_at(table.types.len().min(flow.columns.len()));
        for column in identifiers {
            links.identifiers.take(column);
        }
        // then the time and, if the table has one, the row id
        if let [time, row_ids @ ..] = rest {
            links.times.take(time);
            for column in row_ids {
                links.row_ids.take(column);
            }
        }
        // that somebody is in one of the link tables says only that they are known
        links.frame.extend(analysis.names.lowered_rows(&flow.frame, Lowering::Entity));
    }
    let (identifiers, times) = (links.identifiers.all(), links.times.all());
    links.frame.extend(analysis.names.lowered(&identifiers, Lowering::Entity));
    // an entity is named after its earliest identifier
    links.ids = Sets {
        values: analysis.names.lowered(&links.identifiers.values, Lowering::Entity),
        rows: analysis.names.lowered(&identifiers.union(&times).copied().collect(), Lowering::Entity),
    };
    let id = format!("{}_id", bound.name);
    let mut table = |(kind, name, schema): (IdentityTable, String, SchemaRef)| {
        let names = columns_of(&schema);
        let columns = names.iter().map(|n| identity_column(&links, if *n == id { "id" } else { n.as_str() })).collect();
        let mut frame = links.frame.clone();
        // what changed, what was registered and what is told depends on which entities there are
        match kind {
            IdentityTable::Identity | IdentityTable::Links | IdentityTable::Hubs | IdentityTable::Rules => {}
            IdentityTable::Changes | IdentityTable::Registry | IdentityTable::Report | IdentityTable::Suspects => {
                frame.extend(analysis.names.lowered(&times, Lowering::Entity));
            }
        }
        analysis.names.table(&name, &names, &Flow { columns, frame, order: Refs::new() })
    };
    IdentityTable::all(&bound.name).into_iter().map(&mut table).collect()
}

fn identity_column(links: &Links, name: &str) -> Sets {
    let times = links.times.all();
    match name {
        // constants and counts: their rows say it all
        "identifier_type" | "left_type" | "right_type" | "links" | "max_links" | "neighbour_type" | "run" | "as_of"
        | "measure" | "subject" | "value" | "share" | "left_size" | "right_size" | "rule" | "rule_by" | "rule_at" => {
            Sets::default()
        }
        "identifier" | "left_identifier" | "right_identifier" => links.identifiers.clone(),
        "first_seen" | "last_seen" => links.times.clone(),
        "id" | "other_id" => links.ids.clone(),
        // they may quote a hub, and people may quote anybody
        "reason" | "rule_reason" | "cause" => links.identifiers.clone().with_rows(&times),
        "accepted" | "held" | "change" => Sets::of_rows(times),
        // the earliest row is the evidence, and among equals one by its id
        "table_name" => Sets::of_rows(times).with_rows(&links.row_ids.all()),
        "row_id" => links.row_ids.clone().with_rows(&times),
        _ => {
            let mut all = links.identifiers.clone();
            all.take(&links.times);
            all.take(&links.row_ids);
            all
        }
    }
}

fn columns_of(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|f| f.name().clone()).collect()
}

/// The entities of an identity: the value of an id, and what decides who is who.
fn who(analysis: &mut Analysis<'_>, identity: &str) -> (Sets, Refs) {
    let id = analysis.names.number(identity, &format!("{identity}_id"));
    let rows = analysis.names.number(identity, ColumnRef::ROWS);
    (Sets::of_values(Refs::from([id])), Refs::from([id, rows]))
}

/// A fold column, and apart from it what a pick carries along with the value.
struct Folded {
    column: Sets,
    payload: Vec<Sets>,
}

fn folded(
    analysis: &mut Analysis<'_>,
    column: &FoldColumn,
    tables: &BTreeMap<String, FoldTable>,
    who: &Refs,
) -> Folded {
    // a pick orders by its first arguments, takes the next, and carries the others
    let keys = column.function.inner().downcast_ref::<PickFirst>().map(PickFirst::keys);
    let ordered = column.function.inner().downcast_ref::<Ordered>();
    let mut found = Folded { column: Sets::of_rows(who.clone()), payload: Vec::new() };
    for input in &column.inputs {
        let Some(table) = tables.get(&input.table) else { continue };
        let schema = table.plan.schema();
        // a table that is read twice has a number behind its name
        let name = input.table.split('#').next().unwrap_or(&input.table);
        let flow = analysis.base(name, schema.fields().iter().map(|f| f.name()));
        let scope = Scope::new(schema, &flow, None);
        let aggregated = ordered.map(|ordered| ordered.aggregated(input.arguments.len()));
        for (position, argument) in input.arguments.iter().enumerate() {
            let sets = analysis.sets(argument, &scope);
            match keys {
                Some(keys) if position < keys => {
                    found.column.rows.extend(analysis.names.lowered(&sets.all(), Lowering::Entity));
                }
                Some(keys) if position > keys => {
                    let carried = position - keys;
                    found.payload.resize(found.payload.len().max(carried), Sets::default());
                    found.payload[carried - 1].take(&sets);
                }
                None if aggregated.is_some_and(|count| position >= count) => {
                    found.column.rows.extend(analysis.names.lowered(&sets.all(), Lowering::Entity));
                }
                Some(_) | None => found.column.take(&sets),
            }
        }
        let filter = analysis.sets_of(&input.filter, &scope);
        found.column.take_as_rows(&filter);
        let owners = analysis.sets(&table.entity, &scope).all();
        found.column.rows.extend(analysis.names.lowered(&owners, Lowering::Entity));
        found.column.rows.extend(&flow.frame);
    }
    found
}

/// The wide row: named columns, some of which are computed from others.
struct WideRow {
    schema: DFSchema,
    flow: Flow,
}

impl WideRow {
    fn new(names: &[String]) -> Self {
        let fields: Vec<Field> = names.iter().map(|n| Field::new(n, DataType::Null, true)).collect();
        // names are unique; were they not, an empty schema finds none, and every column is everything
        let schema = DFSchema::try_from(Schema::new(fields)).unwrap_or_else(|_| DFSchema::empty());
        Self { schema, flow: Flow { columns: vec![Sets::default(); names.len()], ..Flow::default() } }
    }

    fn set(&mut self, name: &str, sets: Sets) {
        let index = self.schema.index_of_column_by_name(None, name);
        if let Some(column) = index.and_then(|i| self.flow.columns.get_mut(i)) {
            *column = sets;
        }
    }

    fn get(&self, name: &str) -> Sets {
        let index = self.schema.index_of_column_by_name(None, name);
        let found = index.and_then(|i| self.flow.columns.get(i)).cloned();
        found.unwrap_or_else(|| Sets::of_values(self.flow.everything()))
    }
}

/// Tables of a profile: itself and its provenance.
pub(super) fn profile(known: &Tables, bound: &BoundProfile) -> Vec<TableLineage> {
    let mut analysis = Analysis::new(known, None);
    let (id, entities) = who(&mut analysis, &bound.identity);
    let id_name = format!("{}_id", bound.identity);
    let mut names = vec![id_name.clone()];
    names.extend(bound.columns.iter().map(|c| c.name.clone()));
    names.extend(bound.steps.iter().map(|s| s.name.clone()));
    let mut wide = WideRow::new(&names);
    wide.set(&id_name, id);
    let mut payloads: BTreeMap<&str, Vec<Sets>> = BTreeMap::new();
    for column in &bound.columns {
        let folded = folded(&mut analysis, column, &bound.tables, &entities);
        wide.set(&column.name, folded.column);
        payloads.insert(&column.name, folded.payload);
    }
    for step in &bound.steps {
        let sets = analysis.sets(&step.expr, &Scope::new(&wide.schema, &wide.flow, None));
        wide.set(&step.name, sets);
    }
    let columns = columns_of(&bound.schema);
    let flow =
        Flow { columns: columns.iter().map(|n| wide.get(n)).collect(), frame: entities.clone(), order: Refs::new() };
    let main = analysis.names.table(&bound.name, &columns, &flow);
    let (columns, flow) = provenance(bound, &wide, &payloads, entities);
    let mut tables = vec![main, analysis.names.table(&format!("{}_provenance", bound.name), &columns, &flow)];
    tables.extend(bound.timeline.iter().map(|t| timeline(&mut analysis, &bound.identity, t)));
    tables
}

/// The table of a timeline: its plan, and who is who.
fn timeline(analysis: &mut Analysis<'_>, identity: &str, bound: &BoundTimeline) -> TableLineage {
    let (id, entities) = who(analysis, identity);
    let mut flow = analysis.plan(&bound.plan, None);
    if let Some(first) = flow.columns.first_mut() {
        let mut lowered = |refs: &Refs| analysis.names.lowered(refs, Lowering::Entity);
        let owners = first.all();
        *first = Sets { values: lowered(&first.values), rows: lowered(&first.rows) };
        first.take(&id);
        // rows of nobody are left out
        flow.frame = flow.frame.difference(&owners).copied().chain(lowered(&owners)).collect();
    }
    flow.frame.extend(&entities);
    analysis.names.table(&bound.table, &columns_of(&bound.schema), &flow)
}

/// One row for each attribute with a value: there are as many as the attributes have values.
fn provenance(
    bound: &BoundProfile,
    wide: &WideRow,
    payloads: &BTreeMap<&str, Vec<Sets>>,
    mut frame: Refs,
) -> (Vec<String>, Flow) {
    let (mut values, mut lost) = (Sets::default(), Sets::default());
    let (mut row_ids, mut times) = (Sets::default(), Sets::default());
    for one in &bound.provenance {
        values.take(&wide.get(&one.attribute));
        lost.take(&wide.get(&one.values));
        if let Some(payload) = one.picked.as_deref().and_then(|p| payloads.get(p)) {
            // the source's rank, the row's id, its time
            payload.get(1).into_iter().for_each(|sets| row_ids.take(sets));
            payload.get(2).into_iter().for_each(|sets| times.take(sets));
        }
    }
    frame.extend(values.all());
    let names = columns_of(&bound.provenance_schema());
    let column = |name: &String| match name.as_str() {
        "attribute" | "source" => Sets::default(),
        "value" => values.clone(),
        "row_id" => row_ids.clone(),
        "happened_at" => times.clone(),
        // a value that is like the winner is not lost
        "lost" => lost.clone(),
        _ => wide.get(name),
    };
    let columns = names.iter().map(column).collect();
    (names, Flow { columns, frame, order: Refs::new() })
}

/// The rows of a sync. Whoever is asked for consent may or may not be among them, and that is all it tells. Where rows
/// count people and small ones are held back, their number and that they are there tell no more than that; nor do the names
/// of groups tell what led to anybody's being in one.
pub(super) fn sync(known: &Tables, name: &str, bound: &BoundSync) -> TableLineage {
    let mut analysis = Analysis::new(known, Some(name));
    let mut flow = analysis.plan(&bound.plan, None);
    if let Some(Counted { people, by }) = &bound.counted {
        let told = |column: &ColumnRef| column == people || (column.is_rows() && column.table == people.table);
        let mut lowered = |refs: &mut Refs| {
            *refs = analysis.names.lowered_where(refs, Lowering::Counted, told);
            *refs = analysis.names.lowered_where(refs, Lowering::Grouped, |column| by.contains(column));
        };
        for column in &mut flow.columns {
            lowered(&mut column.values);
            lowered(&mut column.rows);
        }
        lowered(&mut flow.frame);
    }
    for answers in bound.answers() {
        let read = analysis.plan(answers, None).everything();
        flow.frame.extend(analysis.names.lowered(&read, Lowering::Entity));
    }
    let columns: Vec<String> = bound.plan.schema().fields().iter().map(|f| f.name().clone()).collect();
    analysis.names.table(name, &columns, &flow)
}

/// The table of an audience, and that of those whom it holds out.
pub(super) fn audience(known: &Tables, bound: &BoundAudience, profile: &BoundProfile) -> Vec<TableLineage> {
    let mut analysis = Analysis::new(known, None);
    let (mut id, entities) = who(&mut analysis, &bound.identity);
    let id_name = format!("{}_id", bound.identity);
    let mut frame = entities.clone();
    frame.insert(analysis.names.number(&bound.profile, ColumnRef::ROWS));
    match &bound.rule {
        Rule::Condition { columns, tables, holds } => {
            let own = columns_of(&profile.schema);
            let mut names = own.clone();
            names.extend(columns.iter().map(|c| c.name.clone()));
            names.extend(bound.audiences.iter().map(|a| membership(a)));
            let mut wide = WideRow::new(&names);
            for name in &own {
                let column = analysis.names.number(&bound.profile, name);
                wide.set(name, Sets::of_values(Refs::from([column])));
            }
            for column in columns {
                let folded = folded(&mut analysis, column, tables, &entities);
                wide.set(&column.name, folded.column);
            }
            for other in &bound.audiences {
                let members = [&id_name, ColumnRef::ROWS].map(|c| analysis.names.number(other, c));
                wide.set(&membership(other), Sets::of_rows(Refs::from(members)));
            }
            let condition = analysis.sets(holds, &Scope::new(&wide.schema, &wide.flow, None));
            frame.extend(condition.all());
        }
        Rule::Query(plan) => {
            let flow = analysis.plan(plan, None);
            let index = plan.schema().index_of_column_by_name(None, &id_name);
            match index.and_then(|i| flow.columns.get(i)) {
                Some(column) => id.take(column),
                None => id.take(&Sets::of_values(flow.everything())),
            }
            frame.extend(&flow.frame);
            frame.extend(id.all());
        }
    }
    frame.extend(narrowing(&mut analysis, bound, profile, &id_name));
    let names = columns_of(&bound.schema);
    let column = |n: &String| if *n == id_name { id.clone() } else { Sets::default() };
    let columns = names.iter().map(column).collect();
    let flow = Flow { columns, frame, order: Refs::new() };
    // who is held out depends on the same columns as who is not
    let held_out = bound.holdout.as_ref().map(|_| holdout_table(&bound.name));
    let tables = std::iter::once(bound.name.clone()).chain(held_out);
    let mut tables: Vec<TableLineage> = tables.map(|table| analysis.names.table(&table, &names, &flow)).collect();
    if bound.has_lists {
        tables.push(rejected(&mut analysis, bound, entities));
    }
    tables
}

/// Rows of lists, which are no columns, that name nobody: who is known decides.
fn rejected(analysis: &mut Analysis<'_>, bound: &BoundAudience, entities: Refs) -> TableLineage {
    let names = columns_of(&rejected_schema());
    let column = |name: &String| if name == "reason" { Sets::of_rows(entities.clone()) } else { Sets::default() };
    let columns = names.iter().map(column).collect();
    let flow = Flow { columns, frame: entities.clone(), order: Refs::new() };
    analysis.names.table(&rejected_table(&bound.name), &names, &flow)
}

/// What narrows an audience: what people are ranked by, and who is in earlier audiences of the group.
fn narrowing(analysis: &mut Analysis<'_>, bound: &BoundAudience, profile: &BoundProfile, id_name: &str) -> Refs {
    let mut found = Refs::new();
    let names = columns_of(&profile.schema);
    let mut row = WideRow::new(&names);
    for name in &names {
        row.set(name, Sets::of_values(Refs::from([analysis.names.number(&bound.profile, name)])));
    }
    for key in &bound.rank {
        found.extend(analysis.sets(&key.expr, &Scope::new(&row.schema, &row.flow, None)).all());
    }
    for (other, holds_out) in &bound.before {
        for table in std::iter::once(other.clone()).chain(holds_out.then(|| holdout_table(other))) {
            found.extend([id_name, ColumnRef::ROWS].map(|column| analysis.names.number(&table, column)));
        }
    }
    found
}
