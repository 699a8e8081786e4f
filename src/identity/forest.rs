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
