//! `max_per_entity`: which types have it, and counting against it.

use hashbrown::HashMap;

use super::nodes::Nodes;
use super::periods::Times;
use super::stitch::{HUB, StitchInput};

/// A limit on the identifiers of a type in one entity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) type_code: u8,
    pub(super) most: u32,
    /// Only those count together that were first seen within so many microseconds.
    pub(super) within: Option<i64>,
}

/// The limits on identifiers per entity: those types that have one, strongest first.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) all: Vec<Limit>,
    /// By type code, its place in `all`.
    place: Vec<Option<usize>>,
}

impl Limits {
    pub(super) fn new(input: &StitchInput<'_>) -> Self {
        let limits = input.types.iter().enumerate().filter_map(|(code, policy)| {
            policy.max_per_entity.map(|most| Limit { type_code: code as u8, most, within: policy.within })
        });
        let all: Vec<Limit> = limits.collect();
        let place_of = |code: usize| all.iter().position(|limit| usize::from(limit.type_code) == code);
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

    /// When the identifiers of groups were first seen, by group and limit, of the limits that ask for it.
    pub(super) fn times(
        &self,
        nodes: &Nodes,
        members: impl Iterator<Item = (u32, u32)>,
        wanted: impl Fn(u32, usize) -> bool,
    ) -> HashMap<(u32, usize), Times> {
        let mut times: HashMap<(u32, usize), Times> = HashMap::new();
        if self.all.iter().all(|limit| limit.within.is_none()) {
            return times;
        }
        for (node, group) in members {
            let place = self.place[usize::from(nodes.type_of(node))].filter(|place| self.all[*place].within.is_some());
            if let Some(place) = place.filter(|place| wanted(group, *place)) {
                times.entry((group, place)).or_default().add(nodes.first_seen(node));
            }
        }
        times
    }
}

/// Identifiers with their entities, without hubs.
pub(super) fn members(entity: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    entity.iter().enumerate().filter(|(_, entity)| **entity != HUB).map(|(node, entity)| (node as u32, *entity))
}
