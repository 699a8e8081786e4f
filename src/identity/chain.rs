//! The shortest chain of links between two identifiers, or between two entities: why they are one, or what
//! keeps them apart.
//!
//! A chain goes from identifier to identifier, each step a link. Links that do not count (refused, or of a hub)
//! may be part of it, but as few as possible: among all chains the one with the fewest such links is taken, then
//! the one with the fewest links. Several of those are compared step by step from the end that is stronger (by
//! type, then text): the earlier link goes first, then the identifier that comes first in (type, text), then
//! the link that is listed first. So a chain does not depend on the order of links, on how codes were numbered,
//! or on which end was asked for first.

use super::nodes::Nodes;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A link, or a rule that two identifiers are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainLink {
    /// The one identifier.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// Whether it joins them.
    pub counts: bool,
    /// Time of its earliest row in microseconds, or [`super::NO_TIME`].
    pub first_seen: i64,
}

/// A way along links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it starts.
    pub start: u32,
    /// Link by link.
    pub steps: Vec<ChainStep>,
}

/// One link of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainStep {
    /// Index of the link.
    pub link: u32,
    /// The identifier that it leads to.
    pub to: u32,
}

/// Links that do not count, then all links.
type Cost = (u32, u32);

const UNREACHED: Cost = (u32::MAX, u32::MAX);

/// The chain from one of the first identifiers to one of the second; without steps when the two have one in
/// common, `None` when there is no way at all.
pub fn shortest_chain(nodes: &Nodes, links: &[ChainLink], from: &[u32], to: &[u32]) -> Option<Chain> {
    let strongest = |side: &[u32]| side.iter().copied().min_by(|left, right| nodes.compare(*left, *right));
    let turned = nodes.compare(strongest(from)?, strongest(to)?).is_gt();
    let (near, far) = if turned { (to, from) } else { (from, to) };
    let neighbours = Neighbours::new(nodes.len(), links);
    let costs = costs(&neighbours, links, far, near);
    let start = near.iter().copied().min_by(|left, right| {
        let cost = |node: &u32| costs[*node as usize];
        cost(left).cmp(&cost(right)).then_with(|| nodes.compare(*left, *right))
    })?;
    if costs[start as usize] == UNREACHED {
        return None;
    }
    let chain = walk(nodes, links, &neighbours, &costs, start);
    Some(if turned { chain.turned() } else { chain })
}

fn weight(link: ChainLink) -> Cost {
    (u32::from(!link.counts), 1)
}

fn sum(left: Cost, right: Cost) -> Cost {
    (left.0.saturating_add(right.0), left.1.saturating_add(right.1))
}

/// What a chain costs from each identifier to the nearest target (Dijkstra). Correct for all identifiers that
/// are no farther than the nearest source; others may keep a larger number.
fn costs(neighbours: &Neighbours, links: &[ChainLink], targets: &[u32], sources: &[u32]) -> Vec<Cost> {
    let mut costs = vec![UNREACHED; neighbours.len()];
    let mut is_source = vec![false; neighbours.len()];
    for node in sources {
        is_source[*node as usize] = true;
    }
    for node in targets {
        costs[*node as usize] = (0, 0);
    }
    let mut waiting: BinaryHeap<Reverse<(Cost, u32)>> = targets.iter().map(|node| Reverse(((0, 0), *node))).collect();
    while let Some(Reverse((cost, node))) = waiting.pop() {
        if is_source[node as usize] {
            break;
        }
        if cost > costs[node as usize] {
            continue;
        }
        for &(link, next) in neighbours.of(node) {
            let longer = sum(cost, weight(links[link as usize]));
            if longer < costs[next as usize] {
                costs[next as usize] = longer;
                waiting.push(Reverse((longer, next)));
            }
        }
    }
    costs
}

/// Goes down the costs to a target, by the first link in order at every step.
fn walk(nodes: &Nodes, links: &[ChainLink], neighbours: &Neighbours, costs: &[Cost], start: u32) -> Chain {
    let mut chain = Chain { start, steps: Vec::new() };
    let mut node = start;
    while costs[node as usize] != (0, 0) {
        let leads_down = |(link, next): &&(u32, u32)| {
            costs[*next as usize] != UNREACHED
                && sum(costs[*next as usize], weight(links[*link as usize])) == costs[node as usize]
        };
        let first = neighbours.of(node).iter().filter(leads_down).min_by(|left, right| {
            let time = |link: u32| links[link as usize].first_seen;
            let times = time(left.0).cmp(&time(right.0));
            times.then_with(|| nodes.compare(left.1, right.1)).then(left.0.cmp(&right.0))
        });
        let Some(&(link, to)) = first else { break };
        chain.steps.push(ChainStep { link, to });
        node = to;
    }
    chain
}

impl Chain {
    /// The identifiers along it, from its start.
    pub fn identifiers(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.start).chain(self.steps.iter().map(|step| step.to))
    }

    /// The same chain from its other end.
    fn turned(&self) -> Self {
        let before: Vec<u32> = self.identifiers().collect();
        let steps = self.steps.iter().zip(&before).rev();
        Self {
            start: before.last().copied().unwrap_or(self.start),
            steps: steps.map(|(step, to)| ChainStep { link: step.link, to: *to }).collect(),
        }
    }
}

/// Links by identifier.
struct Neighbours {
    /// By identifier, where its links begin; one more at the end.
    starts: Vec<u32>,
    /// Link and the identifier at its other end.
    ends: Vec<(u32, u32)>,
}

impl Neighbours {
    fn new(nodes: usize, links: &[ChainLink]) -> Self {
        let mut starts = vec![0_u32; nodes + 1];
        for link in links {
            starts[link.a as usize + 1] += 1;
            starts[link.b as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut ends = vec![(0, 0); links.len() * 2];
        for (index, link) in links.iter().enumerate() {
            for (node, other) in [(link.a, link.b), (link.b, link.a)] {
                ends[next[node as usize] as usize] = (index as u32, other);
                next[node as usize] += 1;
            }
        }
        Self { starts, ends }
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn of(&self, node: u32) -> &[(u32, u32)] {
        &self.ends[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }
}

/// The links that have an end among these identifiers: by time, then by texts, stronger end first, then as listed.
pub fn links_around(nodes: &Nodes, links: &[ChainLink], members: &[u32]) -> Vec<u32> {
    let mut is_member = vec![false; nodes.len()];
    for node in members {
        is_member[*node as usize] = true;
    }
    let touches = |link: &ChainLink| is_member[link.a as usize] || is_member[link.b as usize];
    let mut around: Vec<u32> = (0..links.len() as u32).filter(|link| touches(&links[*link as usize])).collect();
    around.sort_by(|left, right| {
        let (one, other) = (links[*left as usize], links[*right as usize]);
        let texts = || {
            let pair = |link: ChainLink| super::order::canonical(nodes, (link.a, link.b));
            super::order::compare_pairs(nodes, pair(one), pair(other))
        };
        one.first_seen.cmp(&other.first_seen).then_with(texts).then(left.cmp(right))
    });
    around
}
