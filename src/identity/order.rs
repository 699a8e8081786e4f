//! Canonical order of pairs and rules: by (type, text) and never by codes.

use std::cmp::Ordering;

use super::nodes::Nodes;
use super::stitch::StitchInput;

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

/// Canonical order of two pairs, each with its stronger endpoint first.
pub(super) fn compare_pairs(nodes: &Nodes, left: (u32, u32), right: (u32, u32)) -> Ordering {
    nodes.compare(left.0, right.0).then_with(|| nodes.compare(left.1, right.1))
}
