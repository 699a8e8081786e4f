//! Sorting with several threads.

use std::cmp::Ordering;
use std::thread;

/// Below this many elements a second thread costs more than it brings.
const PARALLEL_ELEMENTS: usize = 1 << 17;

/// Sorts by a total order in which no two elements are equal, or equal ones are alike.
pub(super) fn sort<T: Send>(elements: &mut [T], threads: usize, compare: impl Fn(&T, &T) -> Ordering + Sync) {
    if threads <= 1 || elements.len() < PARALLEL_ELEMENTS {
        elements.sort_unstable_by(compare);
        return;
    }
    thread::scope(|scope| {
        for part in elements.chunks_mut(elements.len().div_ceil(threads)) {
            scope.spawn(|| part.sort_unstable_by(&compare));
        }
    });
    // The stable sort finds the runs that the threads left and only merges them.
    elements.sort_by(compare);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_do_not_matter() {
        let elements: Vec<u64> = (0..PARALLEL_ELEMENTS as u64 + 5).map(|n| n.wrapping_mul(n) % 1_000_003).collect();
        let mut expected = elements.clone();
        expected.sort_unstable();
        for threads in [1, 2, 3] {
            let mut sorted = elements.clone();
            sort(&mut sorted, threads, Ord::cmp);
            assert_eq!(sorted, expected);
        }
    }
}
