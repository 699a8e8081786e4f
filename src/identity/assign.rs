//! What each entity is called, now that it is known which identifiers it holds.
//!
//! The registry remembers, run by run, under which id an identifier was: rows (identifier, id, run). The row of
//! an identifier with the greatest run names its **current** id; the row with the smallest, its **first** id. An
//! id is as **old** as its smallest run; among ids of one run, that whose earliest registered identifier (by
//! first-seen time, type, text) is smaller is older; and at last the smaller id. So age is a total order, and
//! nothing below depends on how identifiers are numbered.
//!
//! 1. **Staying.** Every id that is current for some identifier in an entity stays with one entity: that which
//!    holds the strongest of those identifiers, by type, then first-seen time, then text. But an identifier
//!    that came under the id through a merge (its first id is another) yields to one that did not: when a wrong
//!    merge is undone, each side gets its own id back, and nobody gets that of another person.
//! 2. **Merging.** An entity with which several ids stay is called by the oldest; the others are lost.
//! 3. **Returning.** An entity with registered identifiers but none of whose ids stayed was split off. Ids that
//!    are in use nowhere (lost just now, or earlier) are offered to such entities, oldest id first: to that which
//!    holds its strongest claim, current before former, then as in 1. Each entity takes the first offer.
//! 4. **Fresh.** All others get an id from their **anchor**: the identifier seen earliest, then strongest, then
//!    smallest. Should the registry know that id already, or an entity with a smaller anchor have it, the next
//!    attempt is made (see `entity_id`), so that no two entities ever share an id and no id passes to a stranger.
//!
//! With one id and several parts this is rule 6's split; with several ids and one part its merge. It is stable:
//! once [`Assigned::newly_registered`] is in the registry, every identifier's current id is its entity's, and the
//! next run without new rows changes nothing. With growth alone an identifier's id changes only by a merge or a
//! split, each of which is in [`Assigned::changes`].
//!
//! An identifier that is a hub now keeps its rows and makes no claim. An identifier that no longer occurs has the
//! code [`NO_NODE`]: its rows count for the age of an id and keep it from being made afresh. It gets a row without an id, so
//! that it has no current id when it comes back: with growth alone it must take none from those who had it meanwhile.

use std::cmp::{Ordering, Reverse};
use std::thread;

use hashbrown::HashMap;

use super::entity_id::{EntityId, IdMaker};
use super::groups::Groups;
use super::interner::NO_NODE;
use super::nodes::Nodes;
use super::parallel;
use super::stitch::{HUB, Stitched, TypePolicy};

const NONE: u32 = u32::MAX;
/// Below this many fresh ids a second thread costs more than it brings.
const PARALLEL_IDS: usize = 1 << 14;

/// A row of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// The identifier, or [`NO_NODE`] if it no longer occurs.
    pub node: u32,
    /// The id it was registered under; `None` when it no longer occurred in that run.
    pub id: Option<EntityId>,
    /// The run that did it.
    pub run: u64,
}

/// All that ids depend on.
#[derive(Debug, Clone, Copy)]
pub struct IdInput<'a> {
    /// The identifier types, for their names.
    pub types: &'a [TypePolicy],
    /// The identifiers.
    pub nodes: &'a Nodes,
    /// The entities.
    pub stitched: &'a Stitched,
    /// The registry, in any order.
    pub registered: &'a [Registered],
    /// The secret key.
    pub key: &'a [u8],
    /// How many threads may be used; the result does not depend on it.
    pub threads: usize,
}

/// Ids and what changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// By entity, its id; all are different.
    pub ids: Vec<EntityId>,
    /// Entities none of whose identifiers were registered, by id.
    pub created: Vec<u32>,
    /// What else changed against the registry: merged, then split, each by their ids.
    pub changes: Vec<Change>,
    /// Rows to add to the registry: identifiers that are new, or whose current id is not their entity's. By code, which
    /// is not canonical.
    pub newly_registered: Vec<u32>,
}

/// A change of an entity's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Identifiers that were `from` are now `into`, and nothing is `from` any more.
    Merged {
        /// The entity that took them in.
        entity: u32,
        /// The id that was lost.
        from: EntityId,
        /// The entity's id.
        into: EntityId,
    },
    /// Identifiers that were `from` are now `new`, while another entity is `from`.
    Split {
        /// The entity that has left.
        entity: u32,
        /// The id it had.
        from: EntityId,
        /// The entity's id.
        new: EntityId,
    },
}

/// Names all entities; see the module.
pub fn assign_ids(input: &IdInput<'_>) -> Assigned {
    let registry = Registry::new(input);
    let mut held = vec![NONE; input.stitched.entities as usize];
    registry.stay(&mut held);
    registry.come_back(&mut held);
    let fresh = Fresh::new(input, &registry, &held);
    let mut ids: Vec<EntityId> =
        held.iter().map(|id| registry.ids.get(*id as usize).map_or(EntityId([0; 16]), |known| known.id)).collect();
    for (id, entity) in &fresh.ids {
        ids[*entity as usize] = *id;
    }
    let newly_registered = registry.outdated(&held).map(|(node, _)| node).collect();
    let (created, changes) = registry.changes(&held, &ids, &fresh);
    Assigned { ids, created, changes, newly_registered }
}

/// What the registry knows of an id.
#[derive(Debug, Clone, Copy)]
struct KnownId {
    id: EntityId,
    /// Its smallest run.
    run: u64,
    /// Its earliest identifier, or [`NO_NODE`].
    earliest: u32,
}

/// The registry by id and by identifier. Ids are numbered by age, oldest first.
struct Registry<'a> {
    input: &'a IdInput<'a>,
    ids: Vec<KnownId>,
    /// All ids. (The numbers are those of their first rows.)
    index: HashMap<EntityId, u32>,
    /// By row of the registry, the number of its id.
    numbers: Vec<u32>,
    /// By identifier, its current id, or [`NONE`]; empty if nothing is registered.
    current: Vec<u32>,
    /// By identifier, its first id, or [`NONE`].
    first: Vec<u32>,
}

impl<'a> Registry<'a> {
    fn new(input: &'a IdInput<'a>) -> Self {
        let mut index: HashMap<EntityId, u32> = HashMap::new();
        let mut ids: Vec<(KnownId, u32)> = Vec::new();
        let mut numbers = Vec::with_capacity(input.registered.len());
        for row in input.registered {
            let Some(id) = row.id else {
                numbers.push(NONE);
                continue;
            };
            let next = ids.len() as u32;
            let number = *index.entry(id).or_insert(next);
            numbers.push(number);
            if number == next {
                ids.push((KnownId { id, run: row.run, earliest: row.node }, number));
                continue;
            }
            let known = &mut ids[number as usize].0;
            known.run = known.run.min(row.run);
            if compare_earliest(input.nodes, row.node, known.earliest) == Ordering::Less {
                known.earliest = row.node;
            }
        }
        parallel::sort(&mut ids, input.threads, |(left, _), (right, _)| {
            let runs = left.run.cmp(&right.run);
            let earliest = || compare_earliest(input.nodes, left.earliest, right.earliest);
            runs.then_with(earliest).then_with(|| left.id.cmp(&right.id))
        });
        let mut by_age = vec![0_u32; ids.len()];
        for ((_, first_number), number) in ids.iter().zip(0..) {
            by_age[*first_number as usize] = number;
        }
        for number in numbers.iter_mut().filter(|number| **number != NONE) {
            *number = by_age[*number as usize];
        }
        let ids = ids.into_iter().map(|(known, _)| known).collect();
        let mut registry = Self { input, ids, index, numbers, current: Vec::new(), first: Vec::new() };
        registry.read_runs();
        registry
    }

    /// Rows of identifiers that occur, with the numbers of their ids.
    fn rows(&self) -> impl Iterator<Item = (&Registered, u32)> {
        let rows = self.input.registered.iter().zip(self.numbers.iter().copied());
        rows.filter(|(row, number)| row.node != NO_NODE && *number != NONE)
    }

    /// Finds the current and the first id of every identifier. Of two ids in one run the older counts.
    fn read_runs(&mut self) {
        if self.input.registered.is_empty() {
            return;
        }
        let unknown = vec![NONE; self.input.nodes.len()];
        let (mut latest, mut earliest) = (unknown.clone(), unknown);
        let rank = |row: u32| (self.input.registered[row as usize].run, self.numbers[row as usize]);
        for (row, place) in self.input.registered.iter().zip(0..).filter(|(row, _)| row.node != NO_NODE) {
            let (last, first) = (&mut latest[row.node as usize], &mut earliest[row.node as usize]);
            let older = |(run, number): (u64, u32)| (run, Reverse(number));
            if *last == NONE || older(rank(place)) > older(rank(*last)) {
                *last = place;
            }
            if row.id.is_some() && (*first == NONE || rank(place) < rank(*first)) {
                *first = place;
            }
        }
        for row in latest.iter_mut().chain(&mut earliest).filter(|row| **row != NONE) {
            *row = self.numbers[*row as usize];
        }
        (self.current, self.first) = (latest, earliest);
    }

    /// The current id of an identifier, or [`NONE`].
    fn current(&self, node: u32) -> u32 {
        self.current.get(node as usize).copied().unwrap_or(NONE)
    }

    fn entity(&self, node: u32) -> u32 {
        self.input.stitched.entity[node as usize]
    }

    /// Which of two identifiers has the better claim to an id, both having it as their current one or both not.
    fn compare_claims(&self, id: u32, left: u32, right: u32) -> Ordering {
        let nodes = self.input.nodes;
        let rank = |node: u32| (self.first[node as usize] != id, nodes.type_of(node), nodes.first_seen(node));
        rank(left).cmp(&rank(right)).then_with(|| nodes.compare(left, right))
    }

    /// Steps 1 and 2: gives entities the ids that stay with them.
    fn stay(&self, held: &mut [u32]) {
        let mut homes = vec![NO_NODE; self.ids.len()];
        for (node, &id) in self.current.iter().enumerate() {
            let node = node as u32;
            if id == NONE || self.entity(node) == HUB {
                continue;
            }
            let home = &mut homes[id as usize];
            if *home == NO_NODE || self.compare_claims(id, node, *home) == Ordering::Less {
                *home = node;
            }
        }
        for (id, &home) in homes.iter().enumerate().filter(|(_, home)| **home != NO_NODE) {
            let held = &mut held[self.entity(home) as usize];
            *held = (*held).min(id as u32);
        }
    }

    /// Step 3: gives unused ids to entities that were split off.
    fn come_back(&self, held: &mut [u32]) {
        let in_use = self.in_use(held);
        let mut claims: Vec<(u32, u32)> = Vec::new();
        for (row, id) in self.rows() {
            let entity = self.entity(row.node);
            if entity != HUB && held[entity as usize] == NONE && !in_use[id as usize] {
                claims.push((id, row.node));
            }
        }
        claims.sort_unstable_by(|left, right| {
            let former = |claim: &(u32, u32)| self.current(claim.1) != claim.0;
            let ids = (left.0, former(left)).cmp(&(right.0, former(right)));
            ids.then_with(|| self.compare_claims(left.0, left.1, right.1))
        });
        for offers in claims.chunk_by(|left, right| left.0 == right.0) {
            let open = offers.iter().find(|(_, node)| held[self.entity(*node) as usize] == NONE);
            if let Some((id, node)) = open {
                held[self.entity(*node) as usize] = *id;
            }
        }
    }

    fn in_use(&self, held: &[u32]) -> Vec<bool> {
        let mut in_use = vec![false; self.ids.len()];
        for &id in held.iter().filter(|id| **id != NONE) {
            in_use[id as usize] = true;
        }
        in_use
    }

    /// Identifiers with their entities whose current id is not their entity's.
    fn outdated(&self, held: &[u32]) -> impl Iterator<Item = (u32, u32)> {
        let entities = self.input.stitched.entity.iter().enumerate();
        entities.filter_map(move |(node, &entity)| {
            let node = node as u32;
            let outdated = entity != HUB && {
                let held = held[entity as usize];
                held == NONE || held != self.current(node)
            };
            outdated.then_some((node, entity))
        })
    }

    /// Who is new, and what else changed.
    fn changes(&self, held: &[u32], ids: &[EntityId], fresh: &Fresh) -> (Vec<u32>, Vec<Change>) {
        let mut moved: Vec<(u32, u32)> = Vec::new();
        if !self.ids.is_empty() {
            let registered = |(node, entity)| Some((self.current(node), entity)).filter(|(id, _)| *id != NONE);
            moved.extend(self.outdated(held).filter_map(registered));
        }
        moved.sort_unstable();
        moved.dedup();
        let mut is_new = vec![true; held.len()];
        for (_, entity) in &moved {
            is_new[*entity as usize] = false;
        }
        let in_use = self.in_use(held);
        let (split, merged): (Vec<_>, Vec<_>) = moved
            .into_iter()
            .map(|(id, entity)| (id, self.ids[id as usize].id, ids[entity as usize], entity))
            .partition(|(id, ..)| in_use[*id as usize]);
        let created = fresh.ids.iter().map(|(_, entity)| *entity).filter(|entity| is_new[*entity as usize]).collect();
        let by_ids = |mut moves: Vec<(u32, EntityId, EntityId, u32)>| {
            moves.sort_unstable_by_key(|(_, from, to, _)| (*from, *to));
            moves.into_iter().map(|(_, from, to, entity)| (from, to, entity))
        };
        let merged = by_ids(merged).map(|(from, into, entity)| Change::Merged { entity, from, into });
        let split = by_ids(split).map(|(from, new, entity)| Change::Split { entity, from, new });
        (created, merged.chain(split).collect())
    }
}

/// By first-seen time, then type, then text; [`NO_NODE`] comes last.
fn compare_earliest(nodes: &Nodes, left: u32, right: u32) -> Ordering {
    if left == NO_NODE || right == NO_NODE {
        return left.cmp(&right);
    }
    nodes.first_seen(left).cmp(&nodes.first_seen(right)).then_with(|| nodes.compare(left, right))
}

/// Ids made afresh, with their entities, by id.
struct Fresh {
    ids: Vec<(EntityId, u32)>,
}

impl Fresh {
    fn new(input: &IdInput<'_>, registry: &Registry<'_>, held: &[u32]) -> Self {
        let anchors = anchors(input, held);
        let maker = IdMaker::new(input.key);
        let id_of = |entity: u32, attempt: u32| {
            let anchor = anchors[entity as usize];
            let name = &input.types[usize::from(input.nodes.type_of(anchor))].name;
            maker.id(name, &input.nodes.text(anchor), attempt)
        };
        let mut ids: Vec<(EntityId, u32)> =
            (0..held.len() as u32).filter(|e| held[*e as usize] == NONE).map(|e| (EntityId([0; 16]), e)).collect();
        let share = if ids.len() < PARALLEL_IDS { ids.len() } else { ids.len().div_ceil(input.threads.max(1)) };
        thread::scope(|scope| {
            for share in ids.chunks_mut(share.max(1)) {
                let id_of = &id_of;
                scope.spawn(move || share.iter_mut().for_each(|(id, entity)| *id = id_of(*entity, 0)));
            }
        });
        let mut attempts: HashMap<u32, u32> = HashMap::new();
        loop {
            parallel::sort(&mut ids, input.threads, Ord::cmp);
            let losers = losers(input.nodes, registry, &ids, &anchors);
            if losers.is_empty() {
                return Self { ids };
            }
            for position in losers {
                let (id, entity) = &mut ids[position];
                let attempt = attempts.entry(*entity).or_insert(0);
                *attempt += 1;
                *id = id_of(*entity, *attempt);
            }
        }
    }
}

/// Positions of those who must try again: whose id the registry knows, or who share one with a smaller anchor.
///
/// An entity tries its ids in a fixed order and an id prefers the smaller anchor, so whoever tries first, all end
/// with the same ids (Gale and Shapley, 1962).
fn losers(nodes: &Nodes, registry: &Registry<'_>, ids: &[(EntityId, u32)], anchors: &[u32]) -> Vec<usize> {
    let mut losers = Vec::new();
    let mut start = 0;
    for equal in ids.chunk_by(|left, right| left.0 == right.0) {
        let members = start..start + equal.len();
        start = members.end;
        if registry.index.contains_key(&equal[0].0) {
            losers.extend(members);
        } else if equal.len() > 1 {
            let anchor = |position: &usize| anchors[ids[*position].1 as usize];
            let winner = members.clone().min_by(|left, right| nodes.compare(anchor(left), anchor(right)));
            losers.extend(members.filter(|position| Some(*position) != winner));
        }
    }
    losers
}

/// The earliest identifier of an entity so far, with what mostly decides against another one, so that its own data
/// are seldom looked at.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    node: u32,
    first_seen: i64,
    type_code: u8,
    /// The first bytes of the text.
    prefix: u64,
}

impl Anchor {
    fn new(nodes: &Nodes, node: u32) -> Self {
        let mut prefix = [0; 8];
        prefix.iter_mut().zip(nodes.text(node).bytes()).for_each(|(to, from)| *to = from);
        let (first_seen, type_code) = (nodes.first_seen(node), nodes.type_of(node));
        Self { node, first_seen, type_code, prefix: u64::from_be_bytes(prefix) }
    }

    /// As [`compare_earliest`].
    fn is_before(&self, nodes: &Nodes, other: &Self) -> bool {
        let rank = |anchor: &Self| (anchor.first_seen, anchor.type_code, anchor.prefix);
        let same = || compare_earliest(nodes, self.node, other.node);
        rank(self).cmp(&rank(other)).then_with(same) == Ordering::Less
    }
}

/// By entity without an id, its anchor; of the others [`NO_NODE`].
fn anchors(input: &IdInput<'_>, held: &[u32]) -> Vec<u32> {
    let entity = &input.stitched.entity;
    let without_id = |node: usize| Some(entity[node]).filter(|e| *e != HUB && held[*e as usize] == NONE);
    let members = Groups::new(held.len(), entity.len(), without_id);
    let mut anchors = vec![NO_NODE; held.len()];
    let share = if held.len() < PARALLEL_IDS { held.len() } else { held.len().div_ceil(input.threads.max(1)) };
    thread::scope(|scope| {
        for (number, anchors) in anchors.chunks_mut(share.max(1)).enumerate() {
            let members = &members;
            scope.spawn(move || {
                for (anchor, entity) in anchors.iter_mut().zip(number * share..) {
                    *anchor = anchor_among(input.nodes, members.of(entity));
                }
            });
        }
    });
    anchors
}

/// The earliest of some identifiers.
fn anchor_among(nodes: &Nodes, members: &[u32]) -> u32 {
    let [first, others @ ..] = members else { return NO_NODE };
    let mut earliest = Anchor::new(nodes, *first);
    for &node in others {
        let other = Anchor::new(nodes, node);
        if other.is_before(nodes, &earliest) {
            earliest = other;
        }
    }
    earliest.node
}
