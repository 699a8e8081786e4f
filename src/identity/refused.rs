//! What was refused, and why.
//!
//! A link or always rule was refused if and only if its endpoints are in different entities or one of an always
//! rule's is a hub (a link of a hub is not refused: it takes no part). The reason is read off the entities that
//! came out; see `stitch`.

use hashbrown::HashMap;

use super::limits::{Limit, Limits, members};
use super::links::Link;
use super::order::{canonical, compare_rules};
use super::periods::Times;
use super::stitch::{HUB, StitchInput};

/// What asks for two identifiers to be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Candidate {
    /// The always rule of this index.
    Always(u32),
    /// The link of this index.
    Link(u32),
}

/// A link or always rule that did not join its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// What was refused.
    pub candidate: Candidate,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a link or always rule was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// The two entities together would hold too many identifiers of a type (the strongest such type).
    MaxPerEntity {
        /// The type.
        type_code: u8,
        /// How many the entity of the stronger endpoint holds; of a limit with a period, in the fullest one.
        stronger_side: u32,
        /// How many the entity of the weaker endpoint holds.
        weaker_side: u32,
        /// How many there may be.
        limit: u32,
    },
    /// It would bring together the two sides of the never rule of this index (the first in canonical order).
    Never {
        /// Index into the never rules.
        rule: u32,
    },
    /// An endpoint of the always rule is a hub.
    Hub {
        /// The hub (the stronger, if both are).
        node: u32,
    },
}

/// Everything that was refused: always rules, then links, each by index. `links` are the input's, or none if none
/// can have been refused.
pub(super) fn find_refused(input: &StitchInput<'_>, entity: &[u32], entities: u32, links: &[Link]) -> Vec<Refused> {
    let never = never_by_entities(input, entity);
    let mut refused = Vec::new();
    for (index, &(a, b)) in input.always.iter().enumerate() {
        let candidate = Candidate::Always(index as u32);
        let (stronger, weaker) = canonical(input.nodes, (a, b));
        if let Some(&node) = [stronger, weaker].iter().find(|node| a != b && entity[**node as usize] == HUB) {
            refused.push(Refused { candidate, reason: RefusalReason::Hub { node } });
        } else if let Some(&rule) = never.get(&sides(entity, (a, b))) {
            refused.push(Refused { candidate, reason: RefusalReason::Never { rule } });
        }
    }
    if links.is_empty() {
        return refused;
    }
    let held = Held::new(input, entity, entities);
    for (index, link) in links.iter().enumerate() {
        let sides = sides(entity, (link.a, link.b));
        if sides.0 == sides.1 || sides.1 == HUB {
            continue;
        }
        let rule = never.get(&sides).map(|rule| RefusalReason::Never { rule: *rule });
        let reason = rule.or_else(|| held.limit_between((link.a, link.b)));
        refused.extend(reason.map(|reason| Refused { candidate: Candidate::Link(index as u32), reason }));
    }
    refused
}

/// The entities of a pair, the smaller first.
fn sides(entity: &[u32], (a, b): (u32, u32)) -> (u32, u32) {
    let (a, b) = (entity[a as usize], entity[b as usize]);
    (a.min(b), a.max(b))
}

/// By the entities that it keeps apart, the first never rule in canonical order.
fn never_by_entities(input: &StitchInput<'_>, entity: &[u32]) -> HashMap<(u32, u32), u32> {
    let mut first: HashMap<(u32, u32), u32> = HashMap::new();
    for (rule, &pair) in input.never.iter().enumerate() {
        let rule = rule as u32;
        let sides = sides(entity, pair);
        if sides.0 == sides.1 || sides.1 == HUB {
            continue;
        }
        let known = first.entry(sides).or_insert(rule);
        if compare_rules(input, input.never, rule, *known).is_lt() {
            *known = rule;
        }
    }
    first
}

/// What the entities hold of the types with a limit.
struct Held<'a> {
    input: &'a StitchInput<'a>,
    entity: &'a [u32],
    limits: Limits,
    counts: Vec<u32>,
    times: HashMap<(u32, usize), Times>,
}

impl<'a> Held<'a> {
    fn new(input: &'a StitchInput<'a>, entity: &'a [u32], entities: u32) -> Self {
        let limits = Limits::new(input);
        let counts = limits.count(input.nodes, entities as usize, members(entity));
        let times = limits.times(input.nodes, members(entity), |_, _| true);
        Self { input, entity, limits, counts, times }
    }

    /// The strongest type of which the entities of a pair together hold too many.
    fn limit_between(&self, ends: (u32, u32)) -> Option<RefusalReason> {
        let sides = (self.entity[ends.0 as usize], self.entity[ends.1 as usize]);
        self.limits.all.iter().enumerate().find_map(|(place, limit)| {
            let mut held = self.too_many(sides, place, limit)?;
            if held.0 != held.1 && canonical(self.input.nodes, ends) != ends {
                held = (held.1, held.0);
            }
            let (stronger_side, weaker_side) = held;
            let (type_code, limit) = (limit.type_code, limit.most);
            Some(RefusalReason::MaxPerEntity { type_code, stronger_side, weaker_side, limit })
        })
    }

    /// How many each of two entities holds, if that is too many together.
    fn too_many(&self, (a, b): (u32, u32), place: usize, limit: &Limit) -> Option<(u32, u32)> {
        let count = |entity: u32| self.counts[entity as usize * self.limits.all.len() + place];
        let held = (count(a), count(b));
        if held.0 == 0 || held.1 == 0 || held.0 + held.1 <= limit.most {
            return None;
        }
        let Some(within) = limit.within else { return Some(held) };
        self.times.get(&(a, place))?.together(self.times.get(&(b, place))?, limit.most, within)
    }
}
