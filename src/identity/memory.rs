//! How much memory stitching and naming take beside identifiers and links, for a budget to account for.
//!
//! Bounds, worked out from the lists that live at the same time; in bytes. What a guard takes apart, and the entities that
//! are looked at for bridges, take some 30 bytes more for each of their links.

use super::assign::Registered;
use super::entity_id::EntityId;

const NUMBER: usize = size_of::<u32>();

/// What it takes to find the entities of so many identifiers and to have read so many rows of the registry.
///
/// By identifier: whether it is a hub, its tree, its entity before and after guards, its place in a component (two
/// numbers), its current and its first id. By row of the registry: itself, the number of its id, and the ids by age and
/// by text, of which there are seldom more than half as many.
pub fn stitching_bytes(identifiers: usize, registered: usize) -> usize {
    let by_identifier = 1 + 7 * NUMBER;
    let by_id = 4 * size_of::<(EntityId, u64)>() + 2 * NUMBER;
    identifiers * by_identifier + registered * (size_of::<Registered>() + NUMBER + by_id / 2)
}

/// What it takes to name so many entities, beside [`stitching_bytes`].
///
/// By entity: its id as it is made and sorted (twice, with its number) and as it is kept, what it holds (two numbers), its
/// anchor, and numbers for who is new, who stays and what is suspect.
pub fn naming_bytes(entities: usize) -> usize {
    entities * (3 * size_of::<EntityId>() + 8 * NUMBER)
}
