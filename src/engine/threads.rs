//! Work on many items with several threads.

use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// What `work` makes of each item, in their order. A thread that is done with one takes the next.
///
/// # Errors
/// When a thread has panicked.
pub(super) fn map<T: Sync, R: Send + Sync>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Result<Vec<R>> {
    let made: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let take = || loop {
        let number = next.fetch_add(1, Relaxed);
        let Some((item, slot)) = items.get(number).zip(made.get(number)) else { return };
        let _ = slot.set(work(item));
    };
    let failed = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads.clamp(1, items.len().max(1))).map(|_| scope.spawn(take)).collect();
        running.into_iter().filter_map(|thread| thread.join().err()).count()
    });
    if failed > 0 {
        return exec_err!("a thread has failed");
    }
    Ok(made.into_iter().filter_map(OnceLock::into_inner).collect())
}

/// The batches of a plan for as many threads as there are: a file with one row group is read by one, and what is done
/// with its rows takes longer than reading them.
pub(super) fn dealt_out(plan: Arc<dyn ExecutionPlan>, threads: usize) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.output_partitioning().partition_count() >= threads {
        return Ok(plan);
    }
    Ok(Arc::new(RepartitionExec::try_new(plan, Partitioning::RoundRobinBatch(threads))?))
}

/// The ranges of at most `size` that `rows` rows make.
pub(super) fn ranges(rows: usize, size: usize) -> Vec<std::ops::Range<usize>> {
    (0..rows).step_by(size).map(|start| start..rows.min(start + size)).collect()
}
