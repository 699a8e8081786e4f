//! Links between identifiers: each distinct pair once, with its earliest evidence.
//!
//! A row links every pair of its identifiers. Each thread adds its rows to a [`LinkSet`] of its own, over the
//! interner's provisional codes; [`LinkSet::into_links`] joins the sets and maps them to dense codes.
//!
//! - A pair is undirected; a pair of an identifier with itself and a pair with a null are no links.
//! - The evidence of a link is its earliest row: smallest time, then smallest (table, row). A row without a time
//!   comes last. So the evidence does not depend on the order in which rows are read.
//! - The order of links is not canonical, and neither is which endpoint is `a`.
//! - A set that grows too large can be emptied ([`LinkSet::drain`]) and what came out of several joined elsewhere: a pair
//!   is a number, and what comes out is in its order.

use std::thread;

use hashbrown::HashMap;

use super::interner::{NO_NODE, NO_TIME, SHARD_BITS, SHARDS};
use super::nodes::Nodes;

/// Two identifiers that were seen in one row, and when first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// One endpoint, a dense code.
    pub a: u32,
    /// The other endpoint.
    pub b: u32,
    /// Time of the earliest row, in microseconds, or [`NO_TIME`].
    pub first_seen: i64,
}

/// The row that proves a link. Ordered: the smallest is the earliest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Evidence {
    /// Time of the row, in microseconds, or [`NO_TIME`].
    pub first_seen: i64,
    /// The table, as the caller numbers them.
    pub table: u16,
    /// The row, as the caller refers to it.
    pub row: u64,
}

/// All distinct links; `evidence[i]` is that of `links[i]`.
#[derive(Debug, Default)]
pub struct Links {
    /// The links.
    pub links: Vec<Link>,
    /// For each link its earliest row.
    pub evidence: Vec<Evidence>,
}

/// Two different provisional codes, in either order, as one number. Its upper half is the smaller code with the shard in
/// front, so numbers are in the order of that end's dense code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair(pub u64);

impl Pair {
    fn new(a: u32, b: u32) -> Self {
        let (low, high) = (a.min(b), a.max(b));
        Self(u64::from(low.rotate_right(SHARD_BITS)) << 32 | u64::from(high))
    }

    /// The shard of the smaller code.
    fn part(self) -> usize {
        (self.0 >> (u64::BITS - SHARD_BITS)) as usize
    }

    /// The pair as a link of dense codes.
    pub fn link(self, first_seen: i64, nodes: &Nodes) -> Link {
        let low = ((self.0 >> 32) as u32).rotate_left(SHARD_BITS);
        Link { a: nodes.dense(low), b: nodes.dense(self.0 as u32), first_seen }
    }
}

/// A table that fits the cache beside what else a row needs.
const RECENT_BITS: u32 = 13;
const NO_PAIR: Pair = Pair(u64::MAX);
const NO_EVIDENCE: Evidence = Evidence { first_seen: NO_TIME, table: u16::MAX, row: u64::MAX };

/// The distinct links that one thread has seen, over provisional codes.
#[derive(Debug)]
pub struct LinkSet {
    /// By the shard of a pair's smaller code: links of one part then lie close together in dense codes, which
    /// keeps one endpoint's side of union-find in cache.
    parts: Vec<HashMap<Pair, Evidence>>,
    /// Pairs added lately with evidence already taken, by hash: most rows repeat a recent pair.
    recent: Vec<(Pair, Evidence)>,
}

impl Default for LinkSet {
    fn default() -> Self {
        Self::new()
    }
}

impl LinkSet {
    /// An empty set.
    pub fn new() -> Self {
        Self { parts: vec![HashMap::new(); SHARDS], recent: vec![(NO_PAIR, NO_EVIDENCE); 1 << RECENT_BITS] }
    }

    /// Adds the link of two provisional codes, unless one is null or both are the same. Whether the row became the
    /// link's evidence. `row` gives the reference of the row, if it is needed.
    pub fn add(&mut self, (a, b): (u32, u32), first_seen: i64, table: u16, row: impl FnOnce() -> u64) -> bool {
        if a == b || a == NO_NODE || b == NO_NODE {
            return false;
        }
        let pair = Pair::new(a, b);
        let recent = &mut self.recent[(pair.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - RECENT_BITS)) as usize];
        if recent.0 == pair && (recent.1.first_seen, recent.1.table) < (first_seen, table) {
            return false;
        }
        let evidence = Evidence { first_seen, table, row: row() };
        if recent.0 == pair && recent.1 <= evidence {
            return false;
        }
        let known = self.parts[pair.part()].entry(pair).or_insert(evidence);
        *known = (*known).min(evidence);
        *recent = (pair, *known);
        *known == evidence
    }

    /// Adds the links of a batch of rows: every pair of the columns' codes, row by row.
    ///
    /// `times` is as in [`super::Interner::intern_batch`]; `row_of` gives the reference of a row of the batch.
    pub fn add_rows(&mut self, columns: &[&[u32]], times: Option<&[i64]>, table: u16, row_of: impl Fn(usize) -> u64) {
        for (index, left) in columns.iter().enumerate() {
            for right in &columns[index + 1..] {
                for (row, (&a, &b)) in left.iter().zip(right.iter()).enumerate() {
                    let first_seen = times.map_or(NO_TIME, |times| times[row]);
                    self.add((a, b), first_seen, table, || row_of(row));
                }
            }
        }
    }

    /// How many distinct links there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(HashMap::is_empty)
    }

    /// Memory held, in bytes, for a memory pool to account for.
    pub fn memory_bytes(&self) -> usize {
        self.parts.iter().map(HashMap::allocation_size).sum()
    }

    /// Takes out all links, in the order of their pairs, a part at a time.
    pub fn drain(&mut self) -> impl Iterator<Item = Vec<(Pair, Evidence)>> + '_ {
        self.parts.iter_mut().map(|part| {
            let mut links: Vec<(Pair, Evidence)> = std::mem::take(part).into_iter().collect();
            links.sort_unstable_by_key(|(pair, _)| *pair);
            links
        })
    }

    /// Joins the sets of several threads, with `threads` threads, and maps them to dense codes.
    pub fn into_links(sets: Vec<Self>, nodes: &Nodes, threads: usize) -> Links {
        let mut parts: Vec<Vec<HashMap<Pair, Evidence>>> = (0..SHARDS).map(|_| Vec::new()).collect();
        for set in sets {
            for (index, part) in set.parts.into_iter().enumerate() {
                parts[index].push(part);
            }
        }
        let mut chunks = Vec::new();
        let size = SHARDS.div_ceil(threads.clamp(1, SHARDS));
        while !parts.is_empty() {
            chunks.push((parts.drain(..size.min(parts.len())).collect::<Vec<_>>(), Links::default()));
        }
        thread::scope(|scope| {
            for (parts, links) in &mut chunks {
                scope.spawn(move || parts.drain(..).for_each(|maps| join_part(maps, nodes, links)));
            }
        });
        let mut joined = Links::default();
        let total = chunks.iter().map(|(_, links)| links.links.len()).sum();
        joined.links.reserve_exact(total);
        joined.evidence.reserve_exact(total);
        for (_, links) in chunks {
            joined.links.extend_from_slice(&links.links);
            joined.evidence.extend_from_slice(&links.evidence);
        }
        joined
    }
}

/// Joins one part of every set and appends it to `links`.
fn join_part(mut maps: Vec<HashMap<Pair, Evidence>>, nodes: &Nodes, links: &mut Links) {
    maps.sort_by_key(HashMap::len);
    let mut joined = maps.pop().unwrap_or_default();
    for map in maps {
        joined.reserve(map.len());
        for (pair, evidence) in map {
            let known = joined.entry(pair).or_insert(evidence);
            *known = (*known).min(evidence);
        }
    }
    links.links.reserve(joined.len());
    links.evidence.reserve(joined.len());
    for (pair, evidence) in joined {
        links.links.push(pair.link(evidence.first_seen, nodes));
        links.evidence.push(evidence);
    }
}

#[cfg(test)]
mod tests {
    use super::super::interner::{Interner, Scratch};
    use super::*;

    fn evidence(first_seen: i64, table: u16, row: u64) -> Evidence {
        Evidence { first_seen, table, row }
    }

    fn interned(values: &[&str]) -> (Vec<u32>, Nodes) {
        let interner = Interner::new(1);
        let mut codes = Vec::new();
        let values = values.iter().map(|value| Some(*value));
        assert_eq!(interner.intern_batch(&mut Scratch::default(), 0, values, None, &mut codes), Ok(()));
        (codes, interner.freeze())
    }

    /// Links by texts, the smaller first.
    fn found(sets: Vec<LinkSet>, nodes: &Nodes, threads: usize) -> Vec<(String, String, Evidence)> {
        texts_of(&LinkSet::into_links(sets, nodes, threads), nodes)
    }

    fn texts_of(links: &Links, nodes: &Nodes) -> Vec<(String, String, Evidence)> {
        let mut found = Vec::new();
        for (link, evidence) in links.links.iter().zip(&links.evidence) {
            assert_eq!(link.first_seen, evidence.first_seen);
            let mut ends = [nodes.text(link.a).into_owned(), nodes.text(link.b).into_owned()];
            ends.sort();
            let [a, b] = ends;
            found.push((a, b, *evidence));
        }
        found.sort();
        found
    }

    #[test]
    fn a_pair_is_kept_once_with_its_earliest_row() {
        let (codes, nodes) = interned(&["a", "b"]);
        let rows = [(5, 0, 1), (3, 1, 9), (3, 0, 8), (3, 0, 7), (NO_TIME, 0, 0), (4, 0, 0)];
        for first in 0..rows.len() {
            let mut set = LinkSet::new();
            for index in 0..rows.len() {
                let (time, table, row) = rows[(first + index) % rows.len()];
                let (a, b) = if index % 2 == 0 { (codes[0], codes[1]) } else { (codes[1], codes[0]) };
                set.add((a, b), time, table, || row);
            }
            assert_eq!(set.len(), 1);
            assert_eq!(found(vec![set], &nodes, 1), [("a".to_owned(), "b".to_owned(), evidence(3, 0, 7))]);
        }
    }

    #[test]
    fn what_is_drained_is_in_the_order_of_pairs_and_says_the_same() {
        let values: Vec<String> = (0..400).map(|number| number.to_string()).collect();
        let (codes, nodes) = interned(&values.iter().map(String::as_str).collect::<Vec<_>>());
        let (mut whole, mut emptied) = (LinkSet::new(), LinkSet::new());
        let mut drained = Vec::new();
        for row in 0..5_000_usize {
            let pair = (codes[row * row % 400], codes[row * 7 % 399]);
            let time = (row * 31 % 977) as i64;
            whole.add(pair, time, 0, || row as u64);
            emptied.add(pair, time, 0, || row as u64);
            if row % 1_300 == 0 {
                let links: Vec<_> = emptied.drain().flatten().collect();
                assert!(links.windows(2).all(|two| two[0].0 < two[1].0));
                assert!(emptied.is_empty());
                drained.extend(links);
            }
        }
        drained.extend(emptied.drain().flatten());
        drained.sort_unstable();
        drained.dedup_by_key(|(pair, _)| *pair);
        let links = drained.iter().map(|(pair, evidence)| pair.link(evidence.first_seen, &nodes)).collect();
        let joined = Links { links, evidence: drained.iter().map(|(_, evidence)| *evidence).collect() };
        let ends: Vec<u32> = joined.links.iter().map(|link| link.a).collect();
        assert!(ends.is_sorted(), "in the order of one end");
        assert_eq!(texts_of(&joined, &nodes), found(vec![whole], &nodes, 1));
    }

    #[test]
    fn nulls_and_an_identifier_with_itself_are_no_links() {
        let (codes, _) = interned(&["a"]);
        let mut set = LinkSet::new();
        set.add((codes[0], codes[0]), 1, 0, || 0);
        set.add((codes[0], NO_NODE), 1, 0, || 0);
        set.add((NO_NODE, NO_NODE), 1, 0, || 0);
        assert!(set.is_empty());
    }

    #[test]
    fn a_row_links_every_pair_of_its_columns() {
        let (codes, nodes) = interned(&["a", "b", "c"]);
        let mut set = LinkSet::new();
        let columns = [[codes[0], NO_NODE], [codes[1], codes[1]], [codes[2], codes[0]]];
        set.add_rows(&[&columns[0], &columns[1], &columns[2]], Some(&[4, 2]), 3, |row| 10 + row as u64);
        let link = |a: &str, b: &str, evidence| (a.to_owned(), b.to_owned(), evidence);
        let expected = [
            link("a", "b", evidence(2, 3, 11)),
            link("a", "c", evidence(4, 3, 10)),
            link("b", "c", evidence(4, 3, 10)),
        ];
        assert_eq!(found(vec![set], &nodes, 1), expected);
    }

    #[test]
    fn sets_of_several_threads_join_to_the_set_of_one() {
        let values: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        let (codes, nodes) = interned(&values.iter().map(String::as_str).collect::<Vec<_>>());
        let joined = |sets: usize, threads: usize| {
            let mut link_sets: Vec<LinkSet> = (0..sets).map(|_| LinkSet::new()).collect();
            for row in 0..20_000_usize {
                let (a, b) = (codes[row * row % 300], codes[row * 7 % 299]);
                link_sets[row % sets].add((a, b), (row * 31 % 977) as i64, 0, || row as u64);
            }
            found(link_sets, &nodes, threads)
        };
        assert_eq!(joined(1, 1), joined(5, 3));
        assert!(joined(1, 1).len() > 1_000);
        assert_eq!(found(Vec::new(), &nodes, 2), []);
    }
}
