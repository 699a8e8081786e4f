//! Which identifiers are strong, and how many each entity holds.
//!
//! A type is **strong** if an entity may hold only one ever (`max_per_entity: 1` without `within`), or if it stands in the first half of
//! the types, the middle one of an odd number included. The others are **weak**: what people share and replace, such
//! as a phone or a cookie. An entity without a strong identifier is **anonymous**.

use super::limits::members;
use super::nodes::Nodes;
use super::stitch::{Stitched, TypePolicy};

/// What each entity holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// By entity, how many identifiers.
    pub sizes: Vec<u32>,
    /// By entity, how many strong ones.
    pub strong: Vec<u32>,
    /// By type code, whether it is strong.
    is_strong: Vec<bool>,
}

impl Holdings {
    /// Counts what the entities hold.
    pub fn new(types: &[TypePolicy], nodes: &Nodes, stitched: &Stitched) -> Self {
        let first_half = types.len().div_ceil(2);
        let one_ever = |policy: &TypePolicy| policy.max_per_entity == Some(1) && policy.within.is_none();
        let policies = types.iter().enumerate();
        let is_strong = policies.map(|(code, policy)| code < first_half || one_ever(policy)).collect();
        let none = vec![0; stitched.entities as usize];
        let mut holdings = Self { sizes: none.clone(), strong: none, is_strong };
        for (node, entity) in members(&stitched.entity) {
            holdings.sizes[entity as usize] += 1;
            holdings.strong[entity as usize] += u32::from(holdings.is_strong(nodes.type_of(node)));
        }
        holdings
    }

    /// Whether identifiers of a type are strong.
    pub fn is_strong(&self, type_code: u8) -> bool {
        self.is_strong[usize::from(type_code)]
    }

    /// Whether there is no weak type, so that no link is weak.
    pub fn all_strong(&self) -> bool {
        !self.is_strong.contains(&false)
    }

    /// How many entities are anonymous.
    pub fn anonymous(&self) -> usize {
        self.strong.iter().filter(|strong| **strong == 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Interner, MaxLinks, StitchInput, stitch};

    #[test]
    fn one_at_a_time_is_not_one_ever() {
        let policy = |max_per_entity, within| TypePolicy {
            name: "type".to_owned(),
            max_links: MaxLinks::None,
            max_per_entity,
            within,
        };
        let types = [policy(None, None), policy(None, None), policy(Some(1), Some(60)), policy(Some(1), None)];
        let nodes = Interner::new(types.len()).freeze();
        let stitched =
            stitch(&StitchInput { types: &types, nodes: &nodes, links: &[], always: &[], never: &[], threads: 1 });
        let holdings = Holdings::new(&types, &nodes, &stitched);
        assert_eq!([0, 1, 2, 3].map(|code| holdings.is_strong(code)), [true, true, false, true]);
    }
}
