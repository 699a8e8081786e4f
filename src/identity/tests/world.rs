//! Small worlds of rows and rules, written with texts, and the way from there to codes and back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;

/// An identifier as a person would write it.
pub(super) type Id = (u8, String);
/// A pair, the canonically smaller first.
pub(super) type Pair = (Id, Id);

pub(super) fn id(type_code: u8, text: &str) -> Id {
    (type_code, text.to_owned())
}

pub(super) fn pair(a: Id, b: Id) -> Pair {
    if a <= b { (a, b) } else { (b, a) }
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) ids: Vec<Id>,
    pub(super) time: i64,
}

pub(super) fn row(time: i64, ids: &[(u8, &str)]) -> Row {
    Row { ids: ids.iter().map(|(type_code, text)| id(*type_code, text)).collect(), time }
}

#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) types: Vec<TypePolicy>,
    pub(super) rows: Vec<Row>,
    pub(super) always: Vec<Pair>,
    pub(super) never: Vec<Pair>,
}

impl World {
    /// A world of unlimited types.
    pub(super) fn of(types: usize, rows: Vec<Row>) -> Self {
        let policy = |code: usize| TypePolicy { name: format!("type_{code}"), ..TypePolicy::default() };
        Self { types: (0..types).map(policy).collect(), rows, ..Self::default() }
    }
}

/// A reason in texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    MaxPerEntity(u8, u32, u32, u32),
    Never(Pair),
    Hub(Id),
}

/// A result of stitching without codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) entities: BTreeSet<BTreeSet<Id>>,
    pub(super) hubs: BTreeSet<(Id, u32, u32, Option<u8>)>,
    pub(super) refused_links: BTreeMap<Pair, Reason>,
    pub(super) refused_rules: BTreeMap<Pair, Reason>,
}

/// A world in codes, stitched.
pub(super) struct Run {
    pub(super) nodes: Nodes,
    pub(super) links: Links,
    pub(super) stitched: Stitched,
    pub(super) always: Vec<(u32, u32)>,
    pub(super) never: Vec<(u32, u32)>,
}

/// Interns and stitches a world with rows dealt out to `sets` link sets.
pub(super) fn run(world: &World, sets: usize, threads: usize) -> Run {
    let interner = Interner::new(world.types.len());
    let mut scratch = Scratch::default();
    let mut link_sets: Vec<LinkSet> = (0..sets).map(|_| LinkSet::new()).collect();
    for (number, row) in world.rows.iter().enumerate() {
        let mut columns = Vec::new();
        for (type_code, text) in &row.ids {
            let mut codes = Vec::new();
            let values = [Some(text.as_str())];
            assert_eq!(interner.intern_batch(&mut scratch, *type_code, values, Some(&[row.time]), &mut codes), Ok(()));
            columns.push(codes);
        }
        let columns: Vec<&[u32]> = columns.iter().map(Vec::as_slice).collect();
        link_sets[number % sets].add_rows(&columns, Some(&[row.time]), 0, |_| number as u64);
    }
    let nodes = interner.freeze();
    let links = LinkSet::into_links(link_sets, &nodes, threads);
    let code = |id: &Id| nodes.lookup(id.0, &id.1);
    let coded = |rules: &[Pair]| rules.iter().filter_map(|(a, b)| Some((code(a)?, code(b)?))).collect::<Vec<_>>();
    let (always, never) = (coded(&world.always), coded(&world.never));
    let input = StitchInput {
        types: &world.types,
        nodes: &nodes,
        links: &links.links,
        always: &always,
        never: &never,
        threads,
    };
    let stitched = stitch(&input);
    Run { nodes, links, stitched, always, never }
}

impl Run {
    pub(super) fn id(&self, node: u32) -> Id {
        (self.nodes.type_of(node), self.nodes.text(node).into_owned())
    }

    fn pair(&self, (a, b): (u32, u32)) -> Pair {
        pair(self.id(a), self.id(b))
    }

    /// By entity, its identifiers.
    pub(super) fn members(&self) -> Vec<BTreeSet<Id>> {
        let mut members = vec![BTreeSet::new(); self.stitched.entities as usize];
        for (node, &entity) in self.stitched.entity.iter().enumerate() {
            if entity != HUB {
                members[entity as usize].insert(self.id(node as u32));
            }
        }
        members
    }

    pub(super) fn outcome(&self) -> Outcome {
        let hub = |hub: &Hub| (self.id(hub.node), hub.degree, hub.limit, hub.neighbour_type);
        let mut outcome = Outcome {
            entities: self.members().into_iter().collect(),
            hubs: self.stitched.hubs.iter().map(hub).collect(),
            refused_links: BTreeMap::new(),
            refused_rules: BTreeMap::new(),
        };
        assert_eq!(outcome.entities.len(), self.stitched.entities as usize, "no entity is empty");
        for refused in &self.stitched.refused {
            let reason = match refused.reason {
                RefusalReason::MaxPerEntity { type_code, stronger_side, weaker_side, limit } => {
                    Reason::MaxPerEntity(type_code, stronger_side, weaker_side, limit)
                }
                RefusalReason::Never { rule } => Reason::Never(self.pair(self.never[rule as usize])),
                RefusalReason::Hub { node } => Reason::Hub(self.id(node)),
            };
            match refused.candidate {
                Candidate::Always(rule) => {
                    outcome.refused_rules.insert(self.pair(self.always[rule as usize]), reason);
                }
                Candidate::Link(link) => {
                    let link = &self.links.links[link as usize];
                    let known = outcome.refused_links.insert(self.pair((link.a, link.b)), reason);
                    assert_eq!(known, None, "a link is refused once");
                }
            }
        }
        outcome
    }
}

fn any_id(types: u8) -> impl Strategy<Value = Id> {
    (0..types, 0..5_u8).prop_map(|(type_code, value)| (type_code, char::from(b'a' + value).to_string()))
}

fn any_pair(types: u8) -> impl Strategy<Value = Pair> {
    (any_id(types), any_id(types)).prop_map(|(a, b)| pair(a, b))
}

fn any_policy(code: u8, types: u8) -> impl Strategy<Value = TypePolicy> {
    let max_links = prop_oneof![
        3 => Just(MaxLinks::None),
        1 => (1..6_u32).prop_map(MaxLinks::Any),
        1 => prop::collection::vec(prop::option::of(1..4_u32), 0..=usize::from(types)).prop_map(MaxLinks::ByNeighbour),
    ];
    let within = prop::option::of(1..4_i64);
    (max_links, prop::option::of(1..4_u32), within).prop_map(move |(max_links, max_per_entity, within)| TypePolicy {
        name: format!("type_{code}"),
        max_links,
        max_per_entity,
        within,
    })
}

pub(super) fn any_row(types: u8) -> impl Strategy<Value = Row> {
    let time = prop_oneof![4 => 0..5_i64, 1 => Just(NO_TIME)];
    (prop::collection::vec(any_id(types), 1..4), time).prop_map(|(ids, time)| Row { ids, time })
}

pub(super) fn any_rules(types: u8) -> impl Strategy<Value = Vec<Pair>> {
    prop::collection::vec(any_pair(types), 0..4)
}

pub(super) fn any_types(types: u8) -> impl Strategy<Value = Vec<TypePolicy>> {
    (0..types).map(|code| any_policy(code, types)).collect::<Vec<_>>()
}

/// Worlds with hubs, limits and rules of all kinds.
pub(super) fn any_world() -> impl Strategy<Value = World> {
    (2..5_u8).prop_flat_map(|types| {
        let rows = prop::collection::vec(any_row(types), 0..25);
        (any_types(types), rows, any_rules(types), any_rules(types)).prop_map(|(types, rows, always, never)| World {
            types,
            rows,
            always,
            never,
        })
    })
}
