//! Union-find over dense codes that several threads may join at once.
//!
//! A root is always joined below a smaller root, so parents never grow, there is no cycle, and the root of a
//! component is its smallest code whichever thread came first. Finds halve paths. Halving is a plain store: it
//! may lose a race, but whatever it writes is an ancestor. After Anderson and Woll (1991), and Jayanti and
//! Tarjan (2016), who join at random instead of by code.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::thread;

use super::links::Link;

/// Below this many links a second thread costs more than it brings.
const PARALLEL_LINKS: usize = 1 << 20;
const CHUNK: usize = 1 << 15;

/// A forest over codes `0..len`; a root is its own parent.
#[derive(Debug)]
pub(super) struct Forest {
    parents: Vec<AtomicU32>,
}

impl Forest {
    /// Every code alone.
    pub(super) fn new(len: usize) -> Self {
        Self { parents: (0..len as u32).map(AtomicU32::new).collect() }
    }

    /// The smallest code of the component of `code`.
    pub(super) fn find(&self, mut code: u32) -> u32 {
        let mut parent = self.parents[code as usize].load(Relaxed);
        while parent != code {
            let grandparent = self.parents[parent as usize].load(Relaxed);
            if grandparent == parent {
                return parent;
            }
            self.parents[code as usize].store(grandparent, Relaxed);
            code = grandparent;
            parent = self.parents[code as usize].load(Relaxed);
        }
        code
    }

    /// Joins two components.
    pub(super) fn join(&self, mut a: u32, mut b: u32) {
        loop {
            a = self.find(a);
            b = self.find(b);
            if a == b {
                return;
            }
            let (low, high) = (a.min(b), a.max(b));
            if self.parents[high as usize].compare_exchange(high, low, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Joins the endpoints of all links that `takes_part` lets through.
    pub(super) fn join_all(&self, links: &[Link], threads: usize, takes_part: impl Fn(&Link) -> bool + Sync) {
        let join_some = |links: &[Link]| {
            for link in links.iter().filter(|link| takes_part(link)) {
                self.join(link.a, link.b);
            }
        };
        if threads <= 1 || links.len() < PARALLEL_LINKS {
            return join_some(links);
        }
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(chunk) = links.chunks(CHUNK).nth(next.fetch_add(1, Relaxed)) {
                        join_some(chunk);
                    }
                });
            }
        });
    }

    /// How many codes there are.
    pub(super) fn len(&self) -> usize {
        self.parents.len()
    }

    /// Makes `root` the parent of `code`, once all joining is done and by the owner alone.
    pub(super) fn set_root(&mut self, code: u32, root: u32) {
        *self.parents[code as usize].get_mut() = root;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_joining_at_once_find_the_smallest_code_of_each_component() {
        // Chains of stride 7: the component of a code is its remainder. Enough links for several threads.
        let len = PARALLEL_LINKS as u32 + 8;
        let links: Vec<Link> = (7..len).map(|code| Link { a: code - 7, b: code, first_seen: 0 }).collect();
        assert!(links.len() >= PARALLEL_LINKS);
        for threads in [1, 4] {
            let forest = Forest::new(len as usize);
            forest.join_all(&links, threads, |_| true);
            assert!((0..len).all(|code| forest.find(code) == code % 7));
        }
    }

    #[test]
    fn links_that_take_no_part_join_nothing() {
        let forest = Forest::new(4);
        let links = [Link { a: 3, b: 1, first_seen: 0 }, Link { a: 2, b: 0, first_seen: 0 }];
        forest.join_all(&links, 1, |link| link.a != 2);
        assert_eq!([0, 1, 2, 3].map(|code| forest.find(code)), [0, 1, 2, 1]);
    }
}
