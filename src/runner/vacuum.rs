//! Which runs are kept, and the removal of what only the others need.

use super::audit;
use super::prepare::{Failure, Options, loaded};
use super::progress::Silent;
use super::run::{Held, as_of, now, until_stopped, warehouse_of};
use crate::model::Retention;
use crate::warehouse::{Run, RunRecord, RunStatus, Vacuum};
use chrono::TimeDelta;
use serde::Serialize;
use serde_json::json;
use std::sync::atomic::Ordering;

/// What a vacuum did, or would do.
#[derive(Debug, Serialize)]
pub struct Vacuumed {
    /// Whether it was done.
    pub applied: bool,
    /// The first run that is kept; none before the first run.
    pub first_kept: Option<u64>,
    /// How many runs are kept, those that sent rows and those that were abandoned too.
    pub kept: usize,
    /// What goes, and what is joined.
    #[serde(flatten)]
    pub what: Vacuum,
}

/// Says what no kept run needs; with `apply` removes it.
///
/// # Errors
/// Findings when the project does not load; an error when another run holds the warehouse, or storage fails.
pub async fn vacuum(options: &Options, apply: bool) -> Result<Vacuumed, Failure> {
    let (project, _, _) = loaded(options)?;
    let warehouse = warehouse_of(&project, options)?;
    let retention = project.settings.retention;
    let records = warehouse.runs(usize::MAX).await?;
    let Some(first) = first_kept(&records, &retention) else {
        return Ok(Vacuumed { applied: apply, first_kept: None, kept: 0, what: Vacuum::default() });
    };
    let kept = records.iter().filter(|r| r.run >= first).count();
    let held = Held::default();
    let what = if apply {
        let work = async |run: Run| {
            held.committing.store(true, Ordering::Relaxed);
            let what = run.vacuum(first, now()).await?;
            let facts = json!({"first_kept": first, "runs_removed": what.runs.len()});
            audit::note(&warehouse, options, "vacuum", facts).await?;
            Ok(what)
        };
        until_stopped(&warehouse, options, &Silent, &held, work).await?
    } else {
        warehouse.plan_vacuum(first, now()).await?
    };
    Ok(Vacuumed { applied: apply, first_kept: Some(first), kept, what })
}

/// The first run that is kept, of records newest first: so many runs that built models, and all that are not older
/// than the newest by more than the period. The clock takes no part: when nothing runs, nothing grows old.
fn first_kept(records: &[RunRecord], retention: &Retention) -> Option<u64> {
    let newest = records.first()?;
    let built = records.iter().filter(|r| r.status == RunStatus::Committed && as_of(r).is_some());
    let wanted = usize::try_from(retention.runs.max(1)).unwrap_or(usize::MAX);
    // with fewer than that, all are kept
    let by_number = built.map(|r| r.run).nth(wanted - 1).or_else(|| records.last().map(|r| r.run))?;
    let oldest = newest.committed_at.checked_sub_signed(TimeDelta::microseconds(retention.period.micros));
    let young = records.iter().filter(|r| oldest.is_none_or(|oldest| r.committed_at >= oldest));
    young.map(|r| r.run).chain([by_number]).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Duration;
    use chrono::DateTime;
    use std::collections::BTreeMap;

    /// A record of so many days after the first.
    fn record(run: u64, day: i64, status: RunStatus, built: bool) -> RunRecord {
        RunRecord {
            format: 1,
            run,
            status,
            committed_at: DateTime::from_timestamp(1_700_000_000 + day * 86_400, 0).unwrap(),
            note: None,
            tables: BTreeMap::new(),
            content: if built { json!({"as_of": "2026-03-31T00:00:00Z"}) } else { json!({"of_run": run - 1}) },
        }
    }

    fn retention(runs: u32, days: i64) -> Retention {
        Retention { runs, period: Duration { micros: days * 86_400_000_000 } }
    }

    #[test]
    fn the_newest_runs_and_all_young_ones_are_kept() {
        let done = RunStatus::Committed;
        // days 0, 1, 2 and 9: a run and its sync each; an abandoned run on day 8
        let mut records = Vec::new();
        for (run, day) in [(1, 0), (3, 1), (5, 2)] {
            records.extend([record(run, day, done, true), record(run + 1, day, done, false)]);
        }
        records.push(record(7, 8, RunStatus::Abandoned, true));
        records.extend([record(8, 9, done, true), record(9, 9, done, false)]);
        records.reverse();
        assert_eq!(first_kept(&records, &retention(1, 1)), Some(7), "a day before the newest, on its edge");
        assert_eq!(first_kept(&records[..2], &retention(1, 0)), Some(8));
        assert_eq!(first_kept(&records, &retention(2, 1)), Some(5), "an abandoned run is none that built");
        assert_eq!(first_kept(&records, &retention(1, 8)), Some(3));
        assert_eq!(first_kept(&records, &retention(9, 0)), Some(1), "fewer runs than are kept");
        assert_eq!(first_kept(&[], &retention(1, 1)), None);
    }
}
