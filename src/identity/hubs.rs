//! Identifiers with too many neighbours to mean one person: the front desk's phone, a shared tablet.
//!
//! Neighbours are counted once, over all links, before anything is removed: a neighbour that is itself a hub
//! counts, and leaving out one hub never saves another. Links are distinct, so a neighbour counts once however
//! many rows link it. Rules made by people are no links and count for nothing here.

use super::stitch::{MaxLinks, StitchInput};

const NOT_SUSPECTED: usize = usize::MAX;

/// An identifier that takes no part in stitching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hub {
    /// The identifier.
    pub node: u32,
    /// Its neighbours: all, or those of `neighbour_type`.
    pub degree: u32,
    /// How many it may have.
    pub limit: u32,
    /// The type whose limit it exceeds, the strongest if several; `None` if the limit is on all neighbours.
    pub neighbour_type: Option<u8>,
}

/// All hubs, in canonical order.
pub(super) fn find_hubs(input: &StitchInput<'_>) -> Vec<Hub> {
    if input.types.iter().all(|policy| policy.max_links == MaxLinks::None) {
        return Vec::new();
    }
    let mut degrees = vec![0_u32; input.nodes.len()];
    for link in input.links {
        degrees[link.a as usize] += 1;
        degrees[link.b as usize] += 1;
    }
    let mut hubs = Vec::new();
    let mut suspects = Vec::new();
    for (node, &degree) in degrees.iter().enumerate() {
        let node = node as u32;
        match max_links(input, node) {
            MaxLinks::Any(limit) if degree > *limit => {
                hubs.push(Hub { node, degree, limit: *limit, neighbour_type: None });
            }
            MaxLinks::None | MaxLinks::Any(_) => {}
            MaxLinks::ByNeighbour(limits) => {
                if limits.iter().flatten().any(|&limit| degree > limit) {
                    suspects.push(node);
                }
            }
        }
    }
    if !suspects.is_empty() {
        hubs.extend(over_limit_by_neighbour(input, &suspects));
    }
    hubs.sort_unstable_by(|left, right| input.nodes.compare(left.node, right.node));
    hubs
}

/// Those of the suspects that have too many neighbours of some type.
fn over_limit_by_neighbour<'a>(input: &'a StitchInput<'_>, suspects: &'a [u32]) -> impl Iterator<Item = Hub> + 'a {
    let width = input.types.len();
    let mut place_of = vec![NOT_SUSPECTED; input.nodes.len()];
    for (place, &node) in suspects.iter().enumerate() {
        place_of[node as usize] = place * width;
    }
    let mut counts = vec![0_u32; suspects.len() * width];
    for link in input.links {
        for (node, neighbour) in [(link.a, link.b), (link.b, link.a)] {
            let place = place_of[node as usize];
            if place != NOT_SUSPECTED {
                counts[place + usize::from(input.nodes.type_of(neighbour))] += 1;
            }
        }
    }
    suspects.iter().enumerate().filter_map(move |(place, &node)| {
        let MaxLinks::ByNeighbour(limits) = max_links(input, node) else { return None };
        let over = |(kind, (&degree, limit)): (usize, (&u32, &Option<u32>))| {
            let limit = (*limit)?;
            (degree > limit).then_some(Hub { node, degree, limit, neighbour_type: Some(kind as u8) })
        };
        counts[place * width..].iter().zip(limits).enumerate().find_map(over)
    })
}

fn max_links<'a>(input: &'a StitchInput<'_>, node: u32) -> &'a MaxLinks {
    &input.types[usize::from(input.nodes.type_of(node))].max_links
}
