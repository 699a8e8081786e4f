//! Why an entity was split off: what keeps it from the one that it was part of.
//!
//! When an entity has left an id ([`Change::Split`]), each way that led from it to the other **parts** (the entity
//! that kept the id, and others that left it in this run) is gone, or stands there refused, or leads over an
//! identifier that is a hub now and was part of the same entity. The cause is the first of these that there is:
//!
//! 1. a refusal between it and the part that kept the id;
//! 2. a hub, once of that id, that both are linked with;
//! 3. a refusal between it and another part;
//! 4. a hub, once of that id, that it is linked with;
//! 5. none: no link is left.
//!
//! A refusal comes before a hub, because it would keep the two apart if the hub were none. Among refusals a never rule
//! comes before a limit, a rule before another in canonical order, a stronger type before a weaker one; among hubs the
//! first in canonical order. So the cause depends on no order of rows.
//!
//! If the rules and limits have not changed and rows were only added, an entity that was torn apart has one of the
//! first four: whatever way there was is still there, so it is refused or leads over a hub.

use std::cmp::Ordering;

use hashbrown::HashMap;

use super::assign::{Assigned, Change, Registered};
use super::entity_id::EntityId;
use super::interner::NO_NODE;
use super::order::compare_rules;
use super::refused::{Candidate, RefusalReason};
use super::stitch::{HUB, StitchInput, Stitched};

/// What keeps a part from the entity that it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The never rule of this index.
    Never {
        /// Index into the never rules.
        rule: u32,
    },
    /// Together they would hold too many identifiers of a type.
    MaxPerEntity {
        /// The type.
        type_code: u8,
    },
    /// An identifier that joined them is a hub now.
    Hub {
        /// The identifier.
        node: u32,
    },
    /// No link between them is left.
    NoLink,
}

/// All that causes depend on.
#[derive(Debug, Clone, Copy)]
pub struct CauseInput<'a> {
    /// What was stitched.
    pub stitch: &'a StitchInput<'a>,
    /// The entities.
    pub stitched: &'a Stitched,
    /// Their ids, and what changed.
    pub assigned: &'a Assigned,
    /// The registry before the run, in any order.
    pub registered: &'a [Registered],
}

/// By change, its cause; only splits have one.
pub fn find_causes(input: &CauseInput<'_>) -> Vec<Option<Cause>> {
    let splits = Splits::new(input.assigned);
    let mut found = Found { input, splits: &splits, by_part: HashMap::new() };
    if !splits.torn.is_empty() {
        found.add_refusals();
        found.add_hubs();
    }
    let cause = |change: &Change| match change {
        Change::Split { entity, from, .. } => {
            let part = (*entity, splits.torn[from]);
            Some(found.by_part.get(&part).map_or(Cause::NoLink, |(_, cause)| *cause))
        }
        Change::Merged { .. } => None,
    };
    input.assigned.changes.iter().map(cause).collect()
}

/// The ids that entities have left, and who has to do with them.
struct Splits {
    /// Their numbers.
    torn: HashMap<EntityId, u32>,
    /// By entity, the numbers of the ids that it kept or left.
    of_entity: HashMap<u32, Vec<u32>>,
    /// By number, the entity that kept the id.
    kept_by: Vec<u32>,
}

impl Splits {
    fn new(assigned: &Assigned) -> Self {
        let mut torn: HashMap<EntityId, u32> = HashMap::new();
        let mut of_entity: HashMap<u32, Vec<u32>> = HashMap::new();
        for change in &assigned.changes {
            if let Change::Split { entity, from, .. } = change {
                let next = torn.len() as u32;
                let number = *torn.entry(*from).or_insert(next);
                of_entity.entry(*entity).or_default().push(number);
            }
        }
        let mut kept_by = vec![HUB; torn.len()];
        if !torn.is_empty() {
            for (entity, id) in (0..).zip(&assigned.ids) {
                if let Some(&number) = torn.get(id) {
                    kept_by[number as usize] = entity;
                    of_entity.entry(entity).or_default().push(number);
                }
            }
        }
        Self { torn, of_entity, kept_by }
    }

    fn of(&self, entity: u32) -> &[u32] {
        self.of_entity.get(&entity).map_or(&[], Vec::as_slice)
    }
}

/// The best cause so far, by entity and number of the id that it left, with its rank.
struct Found<'a> {
    input: &'a CauseInput<'a>,
    splits: &'a Splits,
    by_part: HashMap<(u32, u32), (u8, Cause)>,
}

impl Found<'_> {
    fn add_refusals(&mut self) {
        let (input, splits) = (self.input, self.splits);
        for refused in &input.stitched.refused {
            let (a, b) = match refused.candidate {
                Candidate::Link(link) => ends(input, link as usize),
                Candidate::Always(rule) => input.stitch.always[rule as usize],
            };
            let cause = match refused.reason {
                RefusalReason::Never { rule } => Cause::Never { rule },
                RefusalReason::MaxPerEntity { type_code, .. } => Cause::MaxPerEntity { type_code },
                RefusalReason::Hub { .. } => continue,
            };
            let (a, b) = (self.entity(a), self.entity(b));
            for &number in splits.of(a).iter().filter(|number| splits.of(b).contains(number)) {
                for (part, other) in [(a, b), (b, a)] {
                    let rank = if splits.kept_by[number as usize] == other { 0 } else { 2 };
                    self.consider(part, number, (rank, cause));
                }
            }
        }
    }

    fn add_hubs(&mut self) {
        let joined = self.hubs_and_parts();
        for of_hub in joined.chunk_by(|left, right| (left.0, left.1) == (right.0, right.1)) {
            let (number, node, _) = of_hub[0];
            let kept_by = self.splits.kept_by[number as usize];
            let rank = if of_hub.iter().any(|(.., entity)| *entity == kept_by) { 1 } else { 3 };
            for (.., entity) in of_hub {
                self.consider(*entity, number, (rank, Cause::Hub { node }));
            }
        }
    }

    /// Number of an id, a hub that was of it, and a part of it that the hub is linked with; each once, sorted.
    fn hubs_and_parts(&self) -> Vec<(u32, u32, u32)> {
        let id_of = ids_of_hubs(self.input);
        let mut joined = Vec::new();
        let ways = self.input.stitch.links.len() + self.input.stitch.always.len();
        for (a, b) in (0..ways).map(|way| ends(self.input, way)) {
            for (hub, other) in [(a, b), (b, a)] {
                if self.entity(hub) != HUB || self.entity(other) == HUB {
                    continue;
                }
                let parts = self.splits.of(self.entity(other));
                let number = id_of.get(&hub).and_then(|(_, id)| self.splits.torn.get(id));
                if let Some(&number) = number.filter(|number| parts.contains(number)) {
                    joined.push((number, hub, self.entity(other)));
                }
            }
        }
        joined.sort_unstable();
        joined.dedup();
        joined
    }

    fn entity(&self, node: u32) -> u32 {
        self.input.stitched.entity[node as usize]
    }

    fn consider(&mut self, part: u32, number: u32, cause: (u8, Cause)) {
        if self.splits.kept_by[number as usize] == part {
            return;
        }
        let input = self.input;
        let known = self.by_part.entry((part, number)).or_insert(cause);
        if compare(input, &cause, known).is_lt() {
            *known = cause;
        }
    }
}

/// The endpoints of a link or, beyond the links, of an always rule.
fn ends(input: &CauseInput<'_>, way: usize) -> (u32, u32) {
    let links = input.stitch.links;
    links.get(way).map_or_else(|| input.stitch.always[way - links.len()], |link| (link.a, link.b))
}

/// By hub, the newest run that registered it and the id it had there.
fn ids_of_hubs(input: &CauseInput<'_>) -> HashMap<u32, (u64, EntityId)> {
    let mut ids: HashMap<u32, (u64, EntityId)> = HashMap::new();
    for row in input.registered {
        if let Some(id) = row.id
            && row.node != NO_NODE
            && input.stitched.entity[row.node as usize] == HUB
        {
            let known = ids.entry(row.node).or_insert((row.run, id));
            *known = (*known).max((row.run, id));
        }
    }
    ids
}

/// The cause to be told comes first.
fn compare(input: &CauseInput<'_>, left: &(u8, Cause), right: &(u8, Cause)) -> Ordering {
    let among_equals = || match (left.1, right.1) {
        (Cause::Never { rule }, Cause::Never { rule: other }) => {
            compare_rules(input.stitch, input.stitch.never, rule, other)
        }
        (Cause::Never { .. }, _) => Ordering::Less,
        (_, Cause::Never { .. }) => Ordering::Greater,
        (Cause::MaxPerEntity { type_code }, Cause::MaxPerEntity { type_code: other }) => type_code.cmp(&other),
        (Cause::Hub { node }, Cause::Hub { node: other }) => input.stitch.nodes.compare(node, other),
        _ => Ordering::Equal,
    };
    left.0.cmp(&right.0).then_with(among_equals)
}
