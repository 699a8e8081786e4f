//! Which identifiers are one entity.
//!
//! Rules, in this order:
//!
//! 1. **Hubs** are found over all links ([`super::Hub`]). A hub belongs to no entity and its links take no part.
//! 2. **Always** rules are taken before all links; **links** are taken strongest first: by the priority of their
//!    weaker endpoint, then by first-seen time (none comes last), then by the texts of the pair, stronger
//!    endpoint first. Always rules are taken by priority and texts as well.
//! 3. A link or always rule between identifiers that are already together is accepted and changes nothing.
//! 4. One that would bring the two sides of a **never** rule together, by whatever path, is refused.
//! 5. A link (not an always rule) is refused if the two sides together would hold more than `max_per_entity`
//!    identifiers of some type **that both sides hold**. The last words matter only after an always rule has
//!    brought more together than the limit: that entity keeps its other links, but may not grow in that type.
//!    With `within`, those of one period count together (`periods`).
//! 6. So never beats always, always beats `max_per_entity`, and a hub beats always: an always rule with a hub is
//!    refused for that reason. A rule of an identifier with itself says nothing.
//!
//! Every refused link and rule is recorded with its reason, as it stands in the result: entities only grow while
//! links are taken, so what forbade a link at its turn still does at the end, and what is said of the two sides
//! can be checked against the entities that came out. A never rule is named before a limit, and a stronger type
//! before a weaker one.
//!
//! **The shortcut.** If all links and always rules are joined without any guard, then the components of the
//! guarded result lie within components of the unguarded one, and what happens in one says nothing about another.
//! A component that as a whole breaks no guard has no part that breaks one (counts only grow with a part, and a
//! never pair is in a part only if it is in the whole), hence none of its links is refused, in whatever order.
//! So only the links of components that break a guard are put in order (`guarded`). Without guards there are none.

use super::forest::Forest;
use super::guarded;
use super::hubs::{Hub, find_hubs};
use super::links::Link;
use super::nodes::Nodes;
use super::refused::{Refused, find_refused};

/// The entity of a hub: none.
pub const HUB: u32 = u32::MAX;

/// How many neighbours an identifier may have before it is a hub.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MaxLinks {
    /// Any number.
    #[default]
    None,
    /// So many, of all types together.
    Any(u32),
    /// So many of each type, by type code; `None` (or beyond the end) is any number.
    ByNeighbour(Vec<Option<u32>>),
}

/// What an identity says of one identifier type; its place in the list is its code and its priority.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TypePolicy {
    /// The type's name.
    pub name: String,
    /// When an identifier of this type is a hub.
    pub max_links: MaxLinks,
    /// How many identifiers of this type links may bring into one entity.
    pub max_per_entity: Option<u32>,
    /// Only those count together that were first seen within so many microseconds.
    pub within: Option<i64>,
}

/// All that stitching depends on.
#[derive(Debug, Clone, Copy)]
pub struct StitchInput<'a> {
    /// The identifier types, strongest first.
    pub types: &'a [TypePolicy],
    /// The identifiers.
    pub nodes: &'a Nodes,
    /// The links: distinct as undirected pairs, none of an identifier with itself.
    pub links: &'a [Link],
    /// Pairs that people keep together.
    pub always: &'a [(u32, u32)],
    /// Pairs that people keep apart.
    pub never: &'a [(u32, u32)],
    /// How many threads may be used; the result does not depend on it.
    pub threads: usize,
}

/// The entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stitched {
    /// By identifier, its entity in `0..entities`, or [`HUB`]. Entities are numbered by their smallest code.
    pub entity: Vec<u32>,
    /// How many entities there are.
    pub entities: u32,
    /// The hubs, in canonical order of their identifiers.
    pub hubs: Vec<Hub>,
    /// What was refused: always rules, then links, each by index.
    pub refused: Vec<Refused>,
}

/// Stitches identifiers to entities; see the module.
pub fn stitch(input: &StitchInput<'_>) -> Stitched {
    let hubs = find_hubs(input);
    let mut is_hub = vec![false; if hubs.is_empty() { 0 } else { input.nodes.len() }];
    for hub in &hubs {
        is_hub[hub.node as usize] = true;
    }
    let takes_part = |a: u32, b: u32| is_hub.is_empty() || !(is_hub[a as usize] || is_hub[b as usize]);
    let mut forest = Forest::new(input.nodes.len());
    for &(a, b) in input.always.iter().filter(|(a, b)| takes_part(*a, *b)) {
        forest.join(a, b);
    }
    forest.join_all(input.links, input.threads, |link| takes_part(link.a, link.b));
    let (mut entity, mut entities) = label(&forest, &is_hub);
    let broken = guarded::broken_entities(input, &entity, entities);
    let links_in_question = if broken.is_empty() { &[] } else { input.links };
    if !broken.is_empty() {
        guarded::take_apart(input, &entity, entities, &broken, &mut forest);
        (entity, entities) = label(&forest, &is_hub);
    }
    let refused = find_refused(input, &entity, entities, links_in_question);
    Stitched { entity, entities, hubs, refused }
}

/// Numbers the trees of a forest by their smallest code.
fn label(forest: &Forest, is_hub: &[bool]) -> (Vec<u32>, u32) {
    let mut entity = vec![HUB; forest.len()];
    let mut entities = 0;
    for code in 0..forest.len() as u32 {
        if is_hub.get(code as usize) == Some(&true) {
            continue;
        }
        let root = forest.find(code) as usize;
        if entity[root] == HUB {
            entity[root] = entities;
            entities += 1;
        }
        entity[code as usize] = entity[root];
    }
    (entity, entities)
}
