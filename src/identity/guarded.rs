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

use std::cmp::Ordering;
use std::ops::Range;
use std::thread;

use hashbrown::HashMap;

use super::forest::Forest;
use super::nodes::Nodes;
use super::stitch::{HUB, StitchInput};

const NOT_BROKEN: u32 = u32::MAX;
/// Above this many links, a component's identifiers are numbered by rank.
const LARGE: usize = 1 << 10;

/// The limits on identifiers per entity: those types that have one, strongest first.
#[derive(Debug)]
pub(super) struct Limits {
    /// Type code and how many.
    pub(super) all: Vec<(u8, u32)>,
    /// By type code, its place in `all`.
    place: Vec<Option<usize>>,
}

impl Limits {
    pub(super) fn new(input: &StitchInput<'_>) -> Self {
        let limits = input.types.iter().enumerate();
        let all: Vec<_> =
            limits.filter_map(|(code, policy)| policy.max_per_entity.map(|most| (code as u8, most))).collect();
        let place_of = |code: usize| all.iter().position(|limit| usize::from(limit.0) == code);
        Self { place: (0..input.types.len()).map(place_of).collect(), all }
    }

    /// Counts identifiers by group and limit: the count of group `g` and limit `l` is at `g * all.len() + l`.
    pub(super) fn count(&self, nodes: &Nodes, groups: usize, members: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
        let mut counts = vec![0; groups * self.all.len()];
        if self.all.is_empty() {
            return counts;
        }
        for (node, group) in members {
            if let Some(limit) = self.place[usize::from(nodes.type_of(node))] {
                counts[group as usize * self.all.len() + limit] += 1;
            }
        }
        counts
    }
}

/// Identifiers with their entities, without hubs.
pub(super) fn members(entity: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    entity.iter().enumerate().filter(|(_, entity)| **entity != HUB).map(|(node, entity)| (node as u32, *entity))
}

/// The entities of the unguarded result that as a whole break a guard, ascending.
pub(super) fn broken_entities(input: &StitchInput<'_>, entity: &[u32], entities: u32) -> Vec<u32> {
    let limits = Limits::new(input);
    let mut broken = vec![false; entities as usize];
    if !limits.all.is_empty() {
        let counts = limits.count(input.nodes, entities as usize, members(entity));
        for (broken, counts) in broken.iter_mut().zip(counts.chunks_exact(limits.all.len())) {
            *broken = counts.iter().zip(&limits.all).any(|(count, (_, most))| count > most);
        }
    }
    for &(a, b) in input.never {
        if a != b && entity[a as usize] == entity[b as usize] && entity[a as usize] != HUB {
            broken[entity[a as usize] as usize] = true;
        }
    }
    (0..entities).filter(|entity| broken[*entity as usize]).collect()
}

/// Settles the broken entities with their guards: gives each of their identifiers its root in `forest`. Returns the
/// links within them, ascending within an entity.
pub(super) fn take_apart(
    input: &StitchInput<'_>,
    entity: &[u32],
    entities: u32,
    broken: &[u32],
    forest: &mut Forest,
) -> Vec<u32> {
    let components = Components::new(input, entity, entities, broken);
    let limits = Limits::new(input);
    let mut roots = vec![0_u32; components.nodes.members.len()];
    let shares = components.shares(input.threads.max(1), &mut roots);
    thread::scope(|scope| {
        for share in shares {
            let (components, limits) = (&components, &limits);
            scope.spawn(move || share.settle(input, components, limits));
        }
    });
    for (&node, &root) in components.nodes.members.iter().zip(&roots) {
        forest.set_root(node, root);
    }
    components.links.members
}

/// Canonical order of two rules of a list: by the weaker endpoint's priority, then by texts, then as listed
/// (which decides only between rules that say the same).
pub(super) fn compare_rules(input: &StitchInput<'_>, rules: &[(u32, u32)], left: u32, right: u32) -> Ordering {
    let (one, other) = (canonical(input.nodes, rules[left as usize]), canonical(input.nodes, rules[right as usize]));
    let types = input.nodes.type_of(one.1).cmp(&input.nodes.type_of(other.1));
    types.then_with(|| compare_pairs(input.nodes, one, other)).then(left.cmp(&right))
}

/// A pair with its stronger endpoint first, the smaller text if both are of one type.
pub(super) fn canonical(nodes: &Nodes, (a, b): (u32, u32)) -> (u32, u32) {
    if nodes.compare(a, b) == Ordering::Greater { (b, a) } else { (a, b) }
}

fn compare_pairs(nodes: &Nodes, left: (u32, u32), right: (u32, u32)) -> Ordering {
    nodes.compare(left.0, right.0).then_with(|| nodes.compare(left.1, right.1))
}

/// A link with what decides its turn.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    first_seen: i64,
    /// The endpoints by their numbers in the component, the smaller first; canonical if these are ranks.
    ends: (u32, u32),
    weaker: u8,
    stronger: u8,
}

impl Ranked {
    fn key(&self) -> (u8, i64, u8) {
        (self.weaker, self.first_seen, self.stronger)
    }
}

/// Members by group, in ascending order within a group.
#[derive(Debug)]
struct Groups {
    starts: Vec<usize>,
    members: Vec<u32>,
}

impl Groups {
    /// Groups `0..len` by `group_of`, leaving out those without a group.
    fn new(groups: usize, len: usize, group_of: impl Fn(usize) -> Option<usize>) -> Self {
        let mut starts = vec![0_usize; groups + 1];
        (0..len).filter_map(&group_of).for_each(|group| starts[group + 1] += 1);
        for group in 0..groups {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut members = vec![0_u32; starts[groups]];
        for member in 0..len {
            if let Some(group) = group_of(member) {
                members[next[group]] = member as u32;
                next[group] += 1;
            }
        }
        Self { starts, members }
    }

    fn of(&self, group: usize) -> &[u32] {
        &self.members[self.starts[group]..self.starts[group + 1]]
    }
}

/// The broken entities with all that belongs to them.
#[derive(Debug)]
struct Components {
    nodes: Groups,
    links: Groups,
    always: Groups,
    never: Groups,
    /// By node, its number within its component.
    local: Vec<u32>,
}

impl Components {
    fn new(input: &StitchInput<'_>, entity: &[u32], entities: u32, broken: &[u32]) -> Self {
        let mut component = vec![NOT_BROKEN; entities as usize];
        for (index, &entity) in broken.iter().enumerate() {
            component[entity as usize] = index as u32;
        }
        let of_node = |node: usize| {
            let component = *component.get(entity[node] as usize)?;
            (component != NOT_BROKEN).then_some(component as usize)
        };
        let of_pair = |a: u32, b: u32| {
            let own = of_node(a as usize)?;
            (a != b && entity[a as usize] == entity[b as usize]).then_some(own)
        };
        let count = broken.len();
        let nodes = Groups::new(count, entity.len(), of_node);
        let mut local = vec![0_u32; entity.len()];
        for group in 0..count {
            nodes.of(group).iter().enumerate().for_each(|(number, &node)| local[node as usize] = number as u32);
        }
        let rules =
            |rules: &[(u32, u32)]| Groups::new(count, rules.len(), |rule| of_pair(rules[rule].0, rules[rule].1));
        let mut always = rules(input.always);
        for group in 0..count {
            let own = always.starts[group]..always.starts[group + 1];
            always.members[own].sort_unstable_by(|left, right| compare_rules(input, input.always, *left, *right));
        }
        let links = Groups::new(count, input.links.len(), |link| of_pair(input.links[link].a, input.links[link].b));
        Self { nodes, links, always, never: rules(input.never), local }
    }

    /// Shares the components out to threads, in runs of about equally many links.
    fn shares<'r>(&self, threads: usize, mut roots: &'r mut [u32]) -> Vec<Share<'r>> {
        let count = self.nodes.starts.len() - 1;
        let each = self.links.members.len().div_ceil(threads).max(1);
        let mut shares = Vec::new();
        let mut first = 0;
        while first < count {
            let enough = self.links.starts[first] + each;
            let end = self.links.starts.partition_point(|start| *start < enough).clamp(first + 1, count);
            let (own, rest) = roots.split_at_mut(self.nodes.starts[end] - self.nodes.starts[first]);
            shares.push(Share { components: first..end, roots: own });
            roots = rest;
            first = end;
        }
        shares
    }
}

/// The components of one thread, and where the roots of their identifiers go.
struct Share<'r> {
    components: Range<usize>,
    roots: &'r mut [u32],
}

impl Share<'_> {
    fn settle(self, input: &StitchInput<'_>, components: &Components, limits: &Limits) {
        let mut roots = self.roots.iter_mut();
        for group in self.components {
            let members = components.nodes.of(group);
            let ranked = components.links.of(group).len() > LARGE;
            let ranks = if ranked { ranks(input.nodes, members) } else { Vec::new() };
            let number_of = |node: u32| {
                let local = components.local[node as usize];
                ranks.get(local as usize).copied().unwrap_or(local)
            };
            let mut numbered = members.to_vec();
            for &node in members {
                numbered[number_of(node) as usize] = node;
            }
            let mut trees = Trees::new(input, limits, &numbered);
            let pair = |(a, b): (u32, u32)| (number_of(a), number_of(b));
            for &rule in components.never.of(group) {
                trees.keep_apart(pair(input.never[rule as usize]));
            }
            for &rule in components.always.of(group) {
                trees.take(pair(input.always[rule as usize]), Strength::Always);
            }
            for link in in_order(input, components.links.of(group), &numbered, ranked, number_of) {
                trees.take(link.ends, Strength::Link);
            }
            for (&node, root) in members.iter().zip(&mut roots) {
                *root = numbered[trees.find(number_of(node)) as usize];
            }
        }
    }
}

/// The links of a component, strongest first. `numbered` are its identifiers by number.
fn in_order(
    input: &StitchInput<'_>,
    links: &[u32],
    numbered: &[u32],
    ranked: bool,
    number_of: impl Fn(u32) -> u32,
) -> Vec<Ranked> {
    let rank = |link: &u32| {
        let link = &input.links[*link as usize];
        let (a, b) = (number_of(link.a), number_of(link.b));
        let types = (input.nodes.type_of(link.a), input.nodes.type_of(link.b));
        let (weaker, stronger) = (types.0.max(types.1), types.0.min(types.1));
        Ranked { first_seen: link.first_seen, ends: (a.min(b), a.max(b)), weaker, stronger }
    };
    let mut links: Vec<Ranked> = links.iter().map(rank).collect();
    if ranked {
        links.sort_unstable_by_key(|link| (link.weaker, link.first_seen, link.ends));
        return links;
    }
    let pair = |link: &Ranked| canonical(input.nodes, (numbered[link.ends.0 as usize], numbered[link.ends.1 as usize]));
    links.sort_unstable_by(|left, right| {
        let texts = || compare_pairs(input.nodes, pair(left), pair(right));
        left.key().cmp(&right.key()).then_with(texts)
    });
    links
}

/// By local number, the rank of an identifier in canonical order.
fn ranks(nodes: &Nodes, members: &[u32]) -> Vec<u32> {
    let prefix = |node: u32| {
        let mut bytes = [0; 8];
        nodes.text(node).bytes().zip(&mut bytes).for_each(|(from, to)| *to = from);
        u64::from_be_bytes(bytes)
    };
    let numbered = members.iter().enumerate();
    let mut sorted: Vec<(u8, u64, u32)> =
        numbered.map(|(number, &node)| (nodes.type_of(node), prefix(node), number as u32)).collect();
    sorted.sort_unstable_by(|left, right| {
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
    limits: &'a [(u8, u32)],
    parents: Vec<u32>,
    /// By root and limit, how many identifiers the tree holds.
    counts: Vec<u32>,
    /// By root, the other sides of never rules with one side in the tree.
    apart: HashMap<u32, Vec<u32>>,
}

impl<'a> Trees<'a> {
    /// Every identifier alone.
    fn new(input: &StitchInput<'_>, limits: &'a Limits, numbered: &[u32]) -> Self {
        let counts = limits.count(input.nodes, numbered.len(), numbered.iter().copied().zip(0..));
        let parents = (0..numbered.len() as u32).collect();
        Self { limits: &limits.all, parents, counts, apart: HashMap::new() }
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
        self.limits.iter().enumerate().any(|(limit, (_, most))| {
            let of_a = self.counts[a as usize * width + limit];
            let of_b = self.counts[b as usize * width + limit];
            of_a > 0 && of_b > 0 && of_a + of_b > *most
        })
    }

    /// Whether a never rule has one side in each tree.
    fn kept_apart(&mut self, a: u32, b: u32) -> bool {
        let (Some(of_a), Some(of_b)) = (self.apart.get(&a), self.apart.get(&b)) else { return false };
        let (fewer, other) = if of_a.len() <= of_b.len() { (a, b) } else { (b, a) };
        let mut sides = self.apart.get_mut(&fewer).map(std::mem::take).unwrap_or_default();
        sides.iter_mut().for_each(|side| *side = self.find(*side));
        let found = sides.contains(&other);
        self.apart.insert(fewer, sides);
        found
    }

    /// Joins two trees below the smaller root.
    fn join(&mut self, a: u32, b: u32) {
        let (low, high) = (a.min(b), a.max(b));
        self.parents[high as usize] = low;
        let width = self.limits.len();
        for limit in 0..width {
            self.counts[low as usize * width + limit] += self.counts[high as usize * width + limit];
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
