//! A graph as SVG: ranks from left to right, each node behind all that it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A node and what it reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub kind: String,
    pub reads: BTreeSet<String>,
}

const WIDTH: usize = 230;
const HEIGHT: usize = 28;
const GAP_X: usize = 70;
const GAP_Y: usize = 12;
const MARGIN: usize = 8;
/// Characters that fit into a box.
const LETTERS: usize = 30;

/// Draws the nodes; `here` is emphasised. Every name is a link to its page.
pub(super) fn draw(nodes: &BTreeMap<String, Node>, here: Option<&str>) -> String {
    let places = places(nodes);
    let columns = places.values().map(|(x, _)| x + 1).max().unwrap_or(0);
    let rows = places.values().map(|(_, y)| y + 1).max().unwrap_or(0);
    let (width, height) = (2 * MARGIN + columns * (WIDTH + GAP_X), 2 * MARGIN + rows * (HEIGHT + GAP_Y));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"graph\">\n"
    );
    for (name, node) in nodes {
        for read in &node.reads {
            let (Some(from), Some(to)) = (places.get(read), places.get(name)) else { continue };
            let (x1, y1) = corner(*from);
            let (x2, y2) = corner(*to);
            let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
            let middle = usize::midpoint(x1, x2);
            let _ = writeln!(svg, "<path d=\"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}\"/>");
        }
    }
    for (name, node) in nodes {
        let (x, y) = corner(places.get(name).copied().unwrap_or_default());
        let class = if here == Some(name) { format!("{} here", node.kind) } else { node.kind.clone() };
        let _ = writeln!(
            svg,
            "<a href=\"{name}.html\"><g class=\"{class}\"><title>{name}</title>\
             <rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"5\"/>\
             <text x=\"{}\" y=\"{}\">{}</text></g></a>",
            x + 10,
            y + 19,
            shortened(name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn corner((column, row): (usize, usize)) -> (usize, usize) {
    (MARGIN + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y))
}

fn shortened(name: &str) -> String {
    if name.len() <= LETTERS {
        return name.to_owned();
    }
    let start: String = name.chars().take(LETTERS - 1).collect();
    format!("{start}…")
}

/// Column and row of every node: the column is the longest way from a node that reads nothing.
fn places(nodes: &BTreeMap<String, Node>) -> BTreeMap<String, (usize, usize)> {
    let mut ranks: BTreeMap<&String, usize> = nodes.keys().map(|name| (name, 0)).collect();
    // a graph of models has no circle; were there one, the number of rounds still ends this
    for _ in 0..nodes.len() {
        let mut moved = false;
        for (name, node) in nodes {
            let behind = node.reads.iter().filter_map(|read| ranks.get(read)).map(|rank| rank + 1).max().unwrap_or(0);
            if behind > ranks[name] {
                ranks.insert(name, behind);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let mut filled: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (name, rank) in ranks {
        let row = filled.entry(rank).or_default();
        places.insert(name.clone(), (rank, *row));
        *row += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stands_behind_all_that_it_reads() {
        let node =
            |reads: &[&str]| Node { kind: String::new(), reads: reads.iter().map(ToString::to_string).collect() };
        let nodes = BTreeMap::from([
            ("a".to_owned(), node(&[])),
            ("b".to_owned(), node(&["a"])),
            ("c".to_owned(), node(&["a", "b"])),
            ("d".to_owned(), node(&[])),
        ]);
        let places = places(&nodes);
        assert_eq!((places["a"], places["b"], places["c"], places["d"]), ((0, 0), (1, 0), (2, 0), (0, 1)));
        let svg = draw(&nodes, Some("c"));
        assert_eq!(svg.matches("<path").count(), 3);
        assert_eq!(svg.matches("here\"").count(), 1);
    }
}
