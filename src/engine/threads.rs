//! Work on many items with several threads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What `work` makes of each item, in their order. A thread that is done with one takes the next.
pub(super) fn map<T: Sync, R: Send + Sync>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let made: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some((item, slot)) = {
                    let number = next.fetch_add(1, Relaxed);
                    items.get(number).zip(made.get(number))
                } {
                    let _ = slot.set(work(item));
                }
            });
        }
    });
    // each was set, or its thread has panicked and so has the scope
    made.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// The ranges of at most `size` that `rows` rows make.
pub(super) fn ranges(rows: usize, size: usize) -> Vec<std::ops::Range<usize>> {
    (0..rows).step_by(size).map(|start| start..rows.min(start + size)).collect()
}
