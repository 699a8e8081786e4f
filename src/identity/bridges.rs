//! Entities that hang on a single weak link.
//!
//! A link is a **bridge** if its two identifiers are together by no other way: without it the entity would be two.
//! Ways are links whose endpoints are in one entity, and always rules that were accepted; a rule is never reported,
//! because somebody has decided it. A bridge is **suspect** if
//!
//! - it is weak: one of its identifiers is of a weak type (see `strength`), and
//! - both sides hold a strong identifier, so that each may be a person of its own.
//!
//! Of each entity with such bridges the most suspect is reported: first that over the weakest type, then that whose
//! smaller side is the larger, then by the texts of the pair. Entities are in the same order.
//!
//! Bridges are found by depth-first search with low-links (Tarjan, 1974), one entity at a time and without
//! recursion, in time linear in identifiers and links. Entities that cannot be suspect (fewer than three identifiers,
//! or than two strong ones) cost one look each. Beside what the largest entity needs, four bytes are held for each
//! identifier and each link of an entity that can be suspect.

use std::cmp::{Ordering, Reverse};
use std::ops::Range;
use std::thread;

use super::groups::Groups;
use super::links::Link;
use super::nodes::Nodes;
use super::order::{canonical, compare_pairs};
use super::stitch::Stitched;
use super::strength::Holdings;

const NONE: u32 = u32::MAX;
/// Fewer identifiers are no two sides with a weak link between them that is worth a look.
const SMALLEST: u32 = 3;

/// All that suspects depend on.
#[derive(Debug, Clone, Copy)]
pub struct BridgeInput<'a> {
    /// The identifiers.
    pub nodes: &'a Nodes,
    /// The links.
    pub links: &'a [Link],
    /// Pairs that people keep together.
    pub always: &'a [(u32, u32)],
    /// The entities.
    pub stitched: &'a Stitched,
    /// What they hold.
    pub holdings: &'a Holdings,
    /// How many threads may be used; the result does not depend on it.
    pub threads: usize,
}

/// One side of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// The bridge's identifier on this side.
    pub node: u32,
    /// How many identifiers are on this side.
    pub size: u32,
    /// How many of them are strong.
    pub strong: u32,
}

/// An entity that hangs on a single weak link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// The entity.
    pub entity: u32,
    /// The link, by its index.
    pub link: u32,
    /// The side of the stronger identifier.
    pub left: Side,
    /// The other one.
    pub right: Side,
}

/// The suspects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    /// How many entities are suspect.
    pub count: usize,
    /// The most suspect of them, in order.
    pub worst: Vec<Suspect>,
}

/// Finds the suspects; `most` is how many are listed.
pub fn find_suspects(input: &BridgeInput<'_>, most: usize) -> Suspects {
    if input.holdings.all_strong() {
        return Suspects::default();
    }
    let components = Components::new(input);
    let mut shares: Vec<_> = components.shares(input.threads).map(|share| (share, Vec::new())).collect();
    thread::scope(|scope| {
        for (share, found) in &mut shares {
            let components = &components;
            scope.spawn(move || components.find(input, share.clone(), found));
        }
    });
    let mut worst: Vec<Suspect> = shares.into_iter().flat_map(|(_, found)| found).collect();
    let count = worst.len();
    if count > most {
        worst.select_nth_unstable_by(most, |left, right| compare(input.nodes, left, right));
        worst.truncate(most);
    }
    worst.sort_unstable_by(|left, right| compare(input.nodes, left, right));
    Suspects { count, worst }
}

/// The more suspect first.
fn compare(nodes: &Nodes, left: &Suspect, right: &Suspect) -> Ordering {
    let rank = |s: &Suspect| (Reverse(nodes.type_of(s.right.node)), Reverse(s.left.size.min(s.right.size)));
    let pair = |s: &Suspect| (s.left.node, s.right.node);
    rank(left).cmp(&rank(right)).then_with(|| compare_pairs(nodes, pair(left), pair(right)))
}

impl BridgeInput<'_> {
    /// The endpoints of a way: links come first, then always rules.
    fn ends(&self, way: usize) -> (u32, u32) {
        match self.links.get(way) {
            Some(link) => (link.a, link.b),
            None => self.always[way - self.links.len()],
        }
    }
}

/// The entities that can be suspect, with their ways.
struct Components {
    /// By component, its entity.
    entities: Vec<u32>,
    /// By component, its ways.
    ways: Groups,
    /// By identifier of a component, its number there.
    numbers: Vec<u32>,
}

impl Components {
    fn new(input: &BridgeInput<'_>) -> Self {
        let Holdings { sizes, strong, .. } = input.holdings;
        let can_be_suspect = |entity: &u32| sizes[*entity as usize] >= SMALLEST && strong[*entity as usize] >= 2;
        let entities: Vec<u32> = (0..input.stitched.entities).filter(can_be_suspect).collect();
        let mut component_of = vec![NONE; if entities.is_empty() { 0 } else { sizes.len() }];
        for (component, &entity) in (0..).zip(&entities) {
            component_of[entity as usize] = component;
        }
        // a hub has no entity, thus no component
        let of_node = |node: u32| {
            let component = component_of.get(input.stitched.entity[node as usize] as usize).copied();
            component.filter(|component| *component != NONE)
        };
        let mut numbers = vec![NONE; if entities.is_empty() { 0 } else { input.nodes.len() }];
        let mut next = vec![0; entities.len()];
        for (node, number) in (0..).zip(&mut numbers) {
            if let Some(component) = of_node(node) {
                *number = next[component as usize];
                next[component as usize] += 1;
            }
        }
        let of_way = |way: usize| {
            let (a, b) = input.ends(way);
            of_node(a).filter(|component| a != b && of_node(b) == Some(*component))
        };
        let ways = if entities.is_empty() { 0 } else { input.links.len() + input.always.len() };
        Self { ways: Groups::new(entities.len(), ways, of_way), entities, numbers }
    }

    /// Shares the components out, in runs of about equally many ways.
    fn shares(&self, threads: usize) -> impl Iterator<Item = Range<usize>> {
        let each = self.ways.members.len().div_ceil(threads.max(1)).max(1);
        let mut first = 0;
        std::iter::from_fn(move || {
            let start = first;
            first =
                self.ways.starts.partition_point(|at| *at < self.ways.starts[start] + each).min(self.entities.len());
            (start < first).then_some(start..first)
        })
    }

    fn find(&self, input: &BridgeInput<'_>, share: Range<usize>, found: &mut Vec<Suspect>) {
        let mut walk = Walk::default();
        found.extend(share.filter_map(|component| self.suspect(input, component, &mut walk)));
    }

    /// The most suspect bridge of a component.
    fn suspect(&self, input: &BridgeInput<'_>, component: usize, walk: &mut Walk) -> Option<Suspect> {
        let entity = self.entities[component];
        let ways = self.ways.of(component);
        let (size, strong) = (input.holdings.sizes[entity as usize], input.holdings.strong[entity as usize]);
        walk.begin(
            size,
            ways.iter().map(|way| {
                let (a, b) = input.ends(*way as usize);
                [a, b].map(|node| (self.numbers[node as usize], input.holdings.is_strong(input.nodes.type_of(node))))
            }),
        );
        let mut worst: Option<Suspect> = None;
        walk.run(|bridge| {
            let link = ways[bridge.way as usize];
            let ends = input.ends(link as usize);
            let weak = [ends.0, ends.1].iter().any(|node| !input.holdings.is_strong(input.nodes.type_of(*node)));
            let is_rule = link as usize >= input.links.len();
            if is_rule || !weak || bridge.strong == 0 || bridge.strong == strong {
                return;
            }
            let (left, right) = canonical(input.nodes, ends);
            let side = |node: u32| {
                let is_below = self.numbers[node as usize] == bridge.below;
                let below = Side { node, size: bridge.size, strong: bridge.strong };
                if is_below { below } else { Side { node, size: size - below.size, strong: strong - below.strong } }
            };
            let suspect = Suspect { entity, link, left: side(left), right: side(right) };
            if worst.is_none_or(|worst| compare(input.nodes, &suspect, &worst).is_lt()) {
                worst = Some(suspect);
            }
        });
        worst
    }
}

/// A bridge of a component, with what is below it: on the side that the walk came to through it.
struct Bridge {
    /// Place among the component's ways.
    way: u32,
    /// Number of the endpoint below.
    below: u32,
    size: u32,
    strong: u32,
}

/// What the walk knows of an identifier.
#[derive(Debug, Clone, Copy)]
struct Visit {
    /// The ways that are left to try, as a range of [`Walk::incident`].
    next: u32,
    end: u32,
    /// The way by which it was reached.
    came_by: u32,
    /// When it was reached, from 1; 0 is not yet.
    order: u32,
    /// The earliest that is reached from here and below, not counting the way back.
    low: u32,
    /// Identifiers here and below, and strong ones.
    size: u32,
    strong: u32,
}

const UNSEEN: Visit = Visit { next: 0, end: 0, came_by: NONE, order: 0, low: 0, size: 1, strong: 0 };

/// A walk through one component after the other; memory is kept from one to the next.
#[derive(Debug, Default)]
struct Walk {
    visits: Vec<Visit>,
    /// By way, its endpoints.
    ends: Vec<[u32; 2]>,
    /// The ways of each identifier, one identifier after the other.
    incident: Vec<u32>,
}

impl Walk {
    /// Takes in a component of `size` identifiers; each way names its endpoints and whether they are strong.
    fn begin(&mut self, size: u32, ways: impl Iterator<Item = [(u32, bool); 2]>) {
        self.visits.clear();
        self.visits.resize(size as usize, UNSEEN);
        self.ends.clear();
        for ends in ways {
            for (number, strong) in ends {
                self.visits[number as usize].end += 1;
                self.visits[number as usize].strong = u32::from(strong);
            }
            self.ends.push(ends.map(|(number, _)| number));
        }
        let mut start = 0;
        for visit in &mut self.visits {
            let degree = visit.end;
            (visit.next, visit.end) = (start, start);
            start += degree;
        }
        self.incident.clear();
        self.incident.resize(start as usize, NONE);
        for (way, ends) in (0..).zip(&self.ends) {
            for number in ends {
                let visit = &mut self.visits[*number as usize];
                self.incident[visit.end as usize] = way;
                visit.end += 1;
            }
        }
    }

    fn other_end(&self, way: u32, number: u32) -> u32 {
        let [a, b] = self.ends[way as usize];
        if a == number { b } else { a }
    }

    /// Walks from the first identifier through the whole component and reports each bridge on the way back.
    fn run(&mut self, mut report: impl FnMut(Bridge)) {
        let (mut at, mut reached) = (0, 1);
        self.visits[0].order = reached;
        self.visits[0].low = reached;
        loop {
            let here = self.visits[at as usize];
            if here.next < here.end {
                self.visits[at as usize].next += 1;
                let way = self.incident[here.next as usize];
                let other = self.other_end(way, at);
                let order = self.visits[other as usize].order;
                if order == 0 {
                    reached += 1;
                    let visit = &mut self.visits[other as usize];
                    (visit.came_by, visit.order, visit.low) = (way, reached, reached);
                    at = other;
                } else if way != here.came_by {
                    self.visits[at as usize].low = here.low.min(order);
                }
                continue;
            }
            if here.came_by == NONE {
                return;
            }
            let above = self.other_end(here.came_by, at);
            let visit = &mut self.visits[above as usize];
            visit.low = visit.low.min(here.low);
            visit.size += here.size;
            visit.strong += here.strong;
            if here.low > visit.order {
                report(Bridge { way: here.came_by, below: at, size: here.size, strong: here.strong });
            }
            at = above;
        }
    }
}
