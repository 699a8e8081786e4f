//! The stitching core by itself, without reading and writing: `cargo bench --bench identity`.
//!
//! Three graphs of a million links between texts of 24 characters: many small components, chains of 10,000, and one
//! giant component in which few identifiers have most links. Links come in an order that helps nobody.

use divan::Bencher;
use kinfold::identity::{Interner, InternerFull, LinkSet, Links, Nodes, Scratch, StitchInput, TypePolicy, stitch};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

fn main() {
    divan::main();
}

const LINKS: u64 = 1_000_000;
const THREADS: usize = 2;
const GRAPHS: [Graph; 3] = [Graph::Small, Graph::Chain, Graph::Giant];

#[derive(Clone, Copy)]
enum Graph {
    Small,
    Chain,
    Giant,
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "small",
            Self::Chain => "chain",
            Self::Giant => "giant",
        })
    }
}

/// The same numbers in every run, spread over all bits.
fn mixed(number: u64) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(number)
}

/// A text for a node; neighbours have nothing in common.
fn text(node: u64) -> String {
    format!("{:016x}{:08x}", mixed(node), node)
}

/// The endpoints of each link.
fn edges(graph: Graph) -> Vec<(String, String)> {
    let ends = |link: u64| match graph {
        // components of five with five links
        Graph::Small => (link, link / 5 * 5 + mixed(link) % 5),
        Graph::Chain => (link, if link % 10_000 == 9_999 { link } else { link + 1 }),
        Graph::Giant => {
            let share = (mixed(link) >> 11) as f64 / (1_u64 << 53) as f64;
            (link, (link as f64 * share.powi(3)) as u64)
        }
    };
    let mut links: Vec<u64> = (0..LINKS).collect();
    links.sort_by_key(|link| mixed(link ^ 0x5eed));
    links.into_iter().map(ends).map(|(a, b)| (text(a), text(b))).collect()
}

/// Interns and links, with all threads.
fn linked(edges: &[(String, String)]) -> Result<(Nodes, Links), InternerFull> {
    let interner = Interner::new(1);
    let share = edges.len().div_ceil(THREADS);
    let sets = std::thread::scope(|scope| {
        let read = |edges: &[(String, String)]| link_all(&interner, edges);
        let running: Vec<_> = edges.chunks(share).map(|edges| scope.spawn(move || read(edges))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(Err(InternerFull))).collect::<Result<Vec<_>, _>>()
    })?;
    let nodes = interner.freeze();
    let links = LinkSet::into_links(sets, &nodes, THREADS);
    Ok((nodes, links))
}

fn link_all(interner: &Interner, edges: &[(String, String)]) -> Result<LinkSet, InternerFull> {
    let (mut scratch, mut left, mut right) = (Scratch::default(), Vec::new(), Vec::new());
    let mut set = LinkSet::new();
    for batch in edges.chunks(16_384) {
        interner.intern_batch(&mut scratch, 0, batch.iter().map(|e| Some(e.0.as_str())), None, &mut left)?;
        interner.intern_batch(&mut scratch, 0, batch.iter().map(|e| Some(e.1.as_str())), None, &mut right)?;
        set.add_rows(&[&left, &right], None, 0, |row| row as u64);
    }
    Ok(set)
}

/// Texts to codes, and links once each.
#[divan::bench(args = GRAPHS, sample_count = 10)]
fn intern_and_link(bencher: Bencher<'_, '_>, graph: Graph) {
    let edges = edges(graph);
    bencher.bench(|| linked(&edges).map(|(nodes, links)| (nodes.len(), links.links.len())));
}

/// Links to entities.
#[divan::bench(args = GRAPHS, sample_count = 10)]
fn stitch_without_guards(bencher: Bencher<'_, '_>, graph: Graph) {
    stitch_with(bencher, graph, None);
}

/// The same with a limit that every large component breaks.
#[divan::bench(args = GRAPHS, sample_count = 10)]
fn stitch_with_guards(bencher: Bencher<'_, '_>, graph: Graph) {
    stitch_with(bencher, graph, Some(4));
}

fn stitch_with(bencher: Bencher<'_, '_>, graph: Graph, max_per_entity: Option<u32>) {
    let Ok((nodes, links)) = linked(&edges(graph)) else { return };
    let types = [TypePolicy { name: "node".to_owned(), max_per_entity, ..TypePolicy::default() }];
    bencher.bench(|| {
        let (always, never) = (&[], &[]);
        stitch(&StitchInput { types: &types, nodes: &nodes, links: &links.links, always, never, threads: THREADS })
            .entities
    });
}
