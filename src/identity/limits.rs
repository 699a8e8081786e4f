//! `max_per_entity`: which types have it, and counting against it.

use super::nodes::Nodes;
use super::stitch::{HUB, StitchInput};

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
