//! Components in which a guard would be broken, taken apart.
//!
//! Input is the unguarded result (see `stitch`, the shortcut). For each entity that as a whole breaks a guard,
//! its always rules and then its links are taken in their canonical order, each joined or refused.
//!
//! Components are independent, so threads share them out. Each works on numbers local to the component. In a
//! large one these are ranks in canonical order, so that links are ordered by comparing integers; in a small one
//! they are not, and texts are compared, but only where priorities and times are equal.
//!
//! Putting links in order while taking them, so that those decided meanwhile need none (filter-Kruskal; Osipov,
//! Sanders and Singler, 2009), was slower: what it saves in sorting it loses in looking up trees.

use std::ops::Range;
use std::thread;

use hashbrown::HashMap;

use super::forest::Forest;
use super::groups::{Groups, starts};
use super::limits::{Limit, Limits, members};
use super::order::{canonical, compare_pairs, compare_rules};
use super::parallel;
use super::periods::Times;
use super::stitch::{HUB, StitchInput};

const NOT_BROKEN: u32 = u32::MAX;
/// Above this many links, a component's identifiers are numbered by rank.
const LARGE: usize = 1 << 10;
/// How many links are looked up before they are taken.
const BLOCK: usize = 32;

/// The entities of the unguarded result that as a whole break a guard, ascending.
pub(super) fn broken_entities(input: &StitchInput<'_>, entity: &[u32], entities: u32) -> Vec<u32> {
    let limits = Limits::new(input);
    let mut broken = vec![false; entities as usize];
    if !limits.all.is_empty() {
        let counts = limits.count(input.nodes, entities as usize, members(entity));
        let width = limits.all.len();
        for (broken, counts) in broken.iter_mut().zip(counts.chunks_exact(width)) {
            let mut held = counts.iter().zip(&limits.all);
            *broken = held.any(|(count, limit)| limit.within.is_none() && *count > limit.most);
        }
        // only what is too many in all can be too many of one period
        let too_many = |entity: u32, place: usize| counts[entity as usize * width + place] > limits.all[place].most;
        for ((entity, place), times) in limits.times(input.nodes, members(entity), too_many) {
            let limit = limits.all[place];
            broken[entity as usize] |= limit.within.is_some_and(|within| times.exceed(limit.most, within));
        }
    }
    for &(a, b) in input.never {
        if a != b && entity[a as usize] == entity[b as usize] && entity[a as usize] != HUB {
            broken[entity[a as usize] as usize] = true;
        }
    }
    (0..entities).filter(|entity| broken[*entity as usize]).collect()
}

/// Settles the broken entities with their guards: gives each of their identifiers its root in `forest`.
pub(super) fn take_apart(input: &StitchInput<'_>, entity: &[u32], entities: u32, broken: &[u32], forest: &mut Forest) {
    let mut component_of = vec![NOT_BROKEN; entities as usize];
    for (component, &entity) in broken.iter().enumerate() {
        component_of[entity as usize] = component as u32;
    }
    let (components, mut links) = Components::new(input, entity, &component_of, broken.len());
    let limits = Limits::new(input);
    let mut roots = vec![0_u32; components.nodes.members.len()];
    let shares = components.shares(input.threads.max(1), &mut roots, &mut links);
    thread::scope(|scope| {
        for share in shares {
            let (components, limits) = (&components, &limits);
            scope.spawn(move || share.settle(input, components, limits));
        }
    });
    for (&node, &root) in components.nodes.members.iter().zip(&roots) {
        forest.set_root(node, root);
    }
}

/// A link with what decides its turn.
#[derive(Debug, Clone, Copy, Default)]
struct Ranked {
    first_seen: i64,
    /// The endpoints by their numbers in the component.
    ends: (u32, u32),
    weaker: u8,
    stronger: u8,
}

impl Ranked {
    fn key(&self) -> (u8, i64, u8) {
        (self.weaker, self.first_seen, self.stronger)
    }
}

/// The broken entities with all that belongs to them.
#[derive(Debug)]
struct Components {
    nodes: Groups,
    always: Groups,
    never: Groups,
    /// By component, where its links begin.
    links: Vec<usize>,
    /// By identifier, its component and its number there.
    places: Vec<(u32, u32)>,
}

impl Components {
    /// The components, and their links one component after the other.
    fn new(input: &StitchInput<'_>, entity: &[u32], component_of: &[u32], count: usize) -> (Self, Vec<Ranked>) {
        let of_node = |node: usize| component_of.get(entity[node] as usize).copied().filter(|c| *c != NOT_BROKEN);
        let nodes = Groups::new(count, entity.len(), of_node);
        let mut places = vec![(NOT_BROKEN, 0_u32); entity.len()];
        for component in 0..count {
            for (&node, number) in nodes.of(component).iter().zip(0..) {
                places[node as usize] = (component as u32, number);
            }
        }
        // Links of hubs are the only ones between components.
        let of_pair = |a: u32, b: u32| {
            let component = places[a as usize].0;
            (a != b && component != NOT_BROKEN && component == places[b as usize].0).then_some(component)
        };
        let link_starts = starts(count, input.links.iter().filter_map(|link| of_pair(link.a, link.b)));
        let mut next = link_starts.clone();
        let mut links = vec![Ranked::default(); link_starts[count]];
        for link in input.links {
            let Some(component) = of_pair(link.a, link.b) else { continue };
            let ends = (places[link.a as usize].1, places[link.b as usize].1);
            let types = (input.nodes.type_of(link.a), input.nodes.type_of(link.b));
            let (weaker, stronger) = (types.0.max(types.1), types.0.min(types.1));
            let place = &mut next[component as usize];
            links[*place] = Ranked { first_seen: link.first_seen, ends, weaker, stronger };
            *place += 1;
        }
        let rules =
            |rules: &[(u32, u32)]| Groups::new(count, rules.len(), |rule| of_pair(rules[rule].0, rules[rule].1));
        let mut always = rules(input.always);
        for component in 0..count {
            let own = always.starts[component]..always.starts[component + 1];
            always.members[own].sort_unstable_by(|left, right| compare_rules(input, input.always, *left, *right));
        }
        let never = rules(input.never);
        (Self { nodes, always, never, links: link_starts, places }, links)
    }

    /// Shares the components out to threads, in runs of about equally many links.
    fn shares<'r>(&self, threads: usize, mut roots: &'r mut [u32], mut links: &'r mut [Ranked]) -> Vec<Share<'r>> {
        let count = self.links.len() - 1;
        let each = links.len().div_ceil(threads).max(1);
        let mut shares = Vec::new();
        let mut first = 0;
        while first < count {
            let enough = self.links[first] + each;
            let end = self.links.partition_point(|start| *start < enough).clamp(first + 1, count);
            let (own_roots, other_roots) = roots.split_at_mut(self.nodes.starts[end] - self.nodes.starts[first]);
            let (own_links, other_links) = links.split_at_mut(self.links[end] - self.links[first]);
            shares.push(Share { components: first..end, roots: own_roots, links: own_links });
            (roots, links) = (other_roots, other_links);
            first = end;
        }
        shares
    }
}

/// The components of one thread, their links, and where the roots of their identifiers go.
struct Share<'r> {
    components: Range<usize>,
    roots: &'r mut [u32],
    links: &'r mut [Ranked],
}

impl Share<'_> {
    fn settle(self, input: &StitchInput<'_>, components: &Components, limits: &Limits) {
        let mut roots = self.roots.iter_mut();
        let mut rest = self.links;
        for component in self.components {
            let (links, others) = rest.split_at_mut(components.links[component + 1] - components.links[component]);
            rest = others;
            let members = components.nodes.of(component);
            let ranks = if links.len() > LARGE { ranks(input, members) } else { Vec::new() };
            let rank_of = |number: u32| ranks.get(number as usize).copied().unwrap_or(number);
            let mut numbered = members.to_vec();
            for (&node, number) in members.iter().zip(0..) {
                numbered[rank_of(number) as usize] = node;
            }
            put_in_order(input, links, &numbered, &ranks);
            let mut trees = Trees::new(input, limits, &numbered);
            let number_of = |node: u32| rank_of(components.places[node as usize].1);
            let pair = |(a, b): (u32, u32)| (number_of(a), number_of(b));
            for &rule in components.never.of(component) {
                trees.keep_apart(pair(input.never[rule as usize]));
            }
            for &rule in components.always.of(component) {
                trees.take(pair(input.always[rule as usize]), Strength::Always);
            }
            trees.take_links(links);
            for (number, root) in (0..members.len() as u32).zip(&mut roots) {
                *root = numbered[trees.find(rank_of(number)) as usize];
            }
        }
    }
}

/// Puts the links of a component in order, strongest first, and numbers their endpoints by rank if there are
/// ranks. `numbered` are the component's identifiers by number, or by rank.
fn put_in_order(input: &StitchInput<'_>, links: &mut [Ranked], numbered: &[u32], ranks: &[u32]) {
    if ranks.is_empty() {
        let node = |number: u32| numbered[number as usize];
        let pair = |link: &Ranked| canonical(input.nodes, (node(link.ends.0), node(link.ends.1)));
        links.sort_unstable_by(|left, right| {
            let texts = || compare_pairs(input.nodes, pair(left), pair(right));
            left.key().cmp(&right.key()).then_with(texts)
        });
        return;
    }
    for link in links.iter_mut() {
        let (a, b) = (ranks[link.ends.0 as usize], ranks[link.ends.1 as usize]);
        link.ends = (a.min(b), a.max(b));
    }
    let key = |link: &Ranked| (link.weaker, link.first_seen, link.ends);
    parallel::sort(links, input.threads, |left, right| key(left).cmp(&key(right)));
}

/// By local number, the rank of an identifier in canonical order.
fn ranks(input: &StitchInput<'_>, members: &[u32]) -> Vec<u32> {
    let nodes = input.nodes;
    let prefix = |node: u32| {
        let mut bytes = [0; 8];
        nodes.text(node).bytes().zip(&mut bytes).for_each(|(from, to)| *to = from);
        u64::from_be_bytes(bytes)
    };
    let numbered = members.iter().enumerate();
    let mut sorted: Vec<(u8, u64, u32)> =
        numbered.map(|(number, &node)| (nodes.type_of(node), prefix(node), number as u32)).collect();
    parallel::sort(&mut sorted, input.threads, |left, right| {
        let texts = || nodes.compare(members[left.2 as usize], members[right.2 as usize]);
        (left.0, left.1).cmp(&(right.0, right.1)).then_with(texts)
    });
    let mut ranks = vec![0; members.len()];
    for (rank, (_, _, number)) in sorted.into_iter().enumerate() {
        ranks[number as usize] = rank as u32;
    }
    ranks
}

/// What holds a candidate back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strength {
    /// Never rules only.
    Always,
    /// Never rules and limits.
    Link,
}

/// One component while its candidates are taken: union-find with what each tree holds.
struct Trees<'a> {
    limits: &'a [Limit],
    parents: Vec<u32>,
    /// By root and limit, how many identifiers the tree holds.
    counts: Vec<u32>,
    /// By root and limit with a period, when the identifiers were first seen.
    times: HashMap<(u32, usize), Times>,
    /// By root, the other sides of never rules with one side in the tree.
    apart: HashMap<u32, Vec<u32>>,
}

impl<'a> Trees<'a> {
    /// Every identifier alone.
    fn new(input: &StitchInput<'_>, limits: &'a Limits, numbered: &[u32]) -> Self {
        let counts = limits.count(input.nodes, numbered.len(), numbered.iter().copied().zip(0..));
        let times = limits.times(input.nodes, numbered.iter().copied().zip(0..), |_, _| true);
        let parents = (0..numbered.len() as u32).collect();
        Self { limits: &limits.all, parents, counts, times, apart: HashMap::new() }
    }

    fn keep_apart(&mut self, (a, b): (u32, u32)) {
        self.apart.entry(a).or_default().push(b);
        self.apart.entry(b).or_default().push(a);
    }

    fn find(&mut self, mut number: u32) -> u32 {
        while self.parents[number as usize] != number {
            let grandparent = self.parents[self.parents[number as usize] as usize];
            self.parents[number as usize] = grandparent;
            number = grandparent;
        }
        number
    }

    /// Takes links in the order given.
    fn take_links(&mut self, links: &mut [Ranked]) {
        for block in links.chunks_mut(BLOCK) {
            // A root may stand for its tree's identifiers. Looking up a block of them first lets the processor wait
            // for the memory of several at once.
            for link in &mut *block {
                link.ends = (self.find(link.ends.0), self.find(link.ends.1));
            }
            for link in &*block {
                self.take(link.ends, Strength::Link);
            }
        }
    }

    /// Joins the endpoints of a candidate, unless a guard forbids it.
    fn take(&mut self, ends: (u32, u32), strength: Strength) {
        let (a, b) = (self.find(ends.0), self.find(ends.1));
        if a == b || (strength == Strength::Link && self.would_exceed(a, b)) || self.kept_apart(a, b) {
            return;
        }
        self.join(a, b);
    }

    /// Whether two trees together would hold too many of a type that both hold.
    fn would_exceed(&self, a: u32, b: u32) -> bool {
        let width = self.limits.len();
        self.limits.iter().enumerate().any(|(place, limit)| {
            let of_a = self.counts[a as usize * width + place];
            let of_b = self.counts[b as usize * width + place];
            let too_many = of_a > 0 && of_b > 0 && of_a + of_b > limit.most;
            too_many && limit.within.is_none_or(|within| self.of_one_period((a, b), place, limit.most, within))
        })
    }

    fn of_one_period(&self, (a, b): (u32, u32), place: usize, most: u32, within: i64) -> bool {
        let (Some(of_a), Some(of_b)) = (self.times.get(&(a, place)), self.times.get(&(b, place))) else { return false };
        of_a.together(of_b, most, within).is_some()
    }

    /// Whether a never rule has one side in each tree.
    fn kept_apart(&mut self, a: u32, b: u32) -> bool {
        let (Some(of_a), Some(of_b)) = (self.apart.get(&a), self.apart.get(&b)) else { return false };
        let (fewer, other) = if of_a.len() <= of_b.len() { (a, b) } else { (b, a) };
        let mut sides = self.apart.get_mut(&fewer).map(std::mem::take).unwrap_or_default();
        for side in &mut sides {
            *side = self.find(*side);
        }
        let found = sides.contains(&other);
        self.apart.insert(fewer, sides);
        found
    }

    /// Joins two trees below the smaller root.
    fn join(&mut self, a: u32, b: u32) {
        let (low, high) = (a.min(b), a.max(b));
        self.parents[high as usize] = low;
        let width = self.limits.len();
        for place in 0..width {
            self.counts[low as usize * width + place] += self.counts[high as usize * width + place];
            if let Some(times) = self.times.remove(&(high, place)) {
                self.times.entry((low, place)).or_default().take_in(times);
            }
        }
        if let Some(mut sides) = self.apart.remove(&high) {
            let own = self.apart.entry(low).or_default();
            if own.len() < sides.len() {
                std::mem::swap(own, &mut sides);
            }
            own.append(&mut sides);
        }
    }
}
