//! Vacuums: what they remove, what they must not, and what a killed one leaves.

use super::testing::{Faulty, copy};
use super::tests::{after, at, daily, foreign_commit, half_committed, open, outside, request, stage, visible};
use super::*;
use object_store::memory::InMemory;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

/// Runs before the vacuum.
const RUNS: i64 = 12;

async fn of_runs(runs: i64) -> Arc<dyn ObjectStore> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let warehouse = open(Arc::clone(&store));
    for n in 0..runs {
        daily(&warehouse, n).await.unwrap();
    }
    store
}

async fn vacuum(warehouse: &Warehouse, second: i64, first_kept: u64) -> Result<Vacuum> {
    warehouse.begin(request(second)).await?.vacuum(first_kept, at(second)).await
}

fn as_json(vacuum: &Vacuum) -> Value {
    serde_json::to_value(vacuum).unwrap()
}

/// Data files that are there, as `table/file`.
async fn data_files(warehouse: &Warehouse) -> BTreeSet<String> {
    let all: Vec<_> = warehouse.store().list(None).try_collect().await.unwrap();
    let paths = all.into_iter().map(|o| o.location.to_string());
    paths.filter(|p| p.contains("/part-")).map(|p| p.replace("lake/w/", "")).collect()
}

/// Data files that the runs with a record name.
async fn named_files(warehouse: &Warehouse) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for record in warehouse.runs(usize::MAX).await.unwrap() {
        for table in warehouse.tables(&record.snapshot()).await.unwrap().into_values() {
            named.extend(table.files.iter().map(|f| format!("{}/{}", table.name, f.name)));
        }
    }
    named
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_runs_are_read_as_before_and_nothing_else_is_there() {
    let warehouse = open(of_runs(RUNS).await);
    let said = warehouse.plan_vacuum(11, at(100)).await.unwrap();
    assert_eq!(said.runs, (1..=10).collect::<Vec<u64>>());
    let before = data_files(&warehouse).await;
    let done = vacuum(&warehouse, 100, 11).await.unwrap();
    assert_eq!(as_json(&said), as_json(&done), "the dry run says what is done");
    assert_eq!(
        data_files(&warehouse).await.len() + done.tables.iter().map(|t| t.files).sum::<usize>(),
        before.len() + 1
    );

    // a reader that has nothing in memory
    let warehouse = open(Arc::clone(warehouse.store()));
    for (run, state) in [(11, 11), (12, 12), (13, 12)] {
        assert_eq!(visible(&warehouse, Some(run)).await.unwrap(), after(state), "{run}");
    }
    for name in ["history", "now", "still", "new_1"] {
        assert_eq!(outside(&warehouse, name).await, after(RUNS)[name], "{name}");
    }
    assert_eq!(data_files(&warehouse).await, named_files(&warehouse).await);
    let error = visible(&warehouse, Some(10)).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Usage, "the tables of run 10 were vacuumed".to_owned()));
    assert_eq!(error.help(), Some("runs 11 to 13 can be read; `kinfold runs` lists them"));
    // run 11 made version 10, which has a checkpoint
    let log = warehouse.state().names("now/_delta_log").await.unwrap();
    assert!(log.iter().all(|n| n.starts_with('_') || version_in(n) >= 10) && log.len() >= 3, "{log:?}");

    // and runs go on
    daily(&warehouse, 200).await.unwrap();
    assert_eq!(visible(&warehouse, None).await.unwrap()["history"], (1..=12).chain([14]).collect::<Vec<i64>>());
}

fn version_in(name: &str) -> u64 {
    name[..20].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_joined_and_no_row_comes_or_goes() {
    let warehouse = open(of_runs(RUNS).await);
    let done = vacuum(&warehouse, 100, 1).await.unwrap();
    let joined: Vec<(&str, usize)> = done.compacted.iter().map(|c| (c.table.as_str(), c.files)).collect();
    assert_eq!(joined, [("history", 12)]);
    assert_eq!((done.runs.len(), done.tables.len()), (0, 0));
    let table = warehouse.table(&warehouse.snapshot(None).await.unwrap().tables["history"]).await.unwrap();
    assert_eq!((table.files.len(), table.version), (1, 12));
    assert_eq!(visible(&warehouse, None).await.unwrap(), after(RUNS));
    assert_eq!(visible(&warehouse, Some(5)).await.unwrap(), after(5));
    let entry = warehouse.state().get(&warehouse.log_entry("history", 12)).await.unwrap().unwrap();
    let changes: BTreeSet<bool> = entry
        .split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter_map(|action| action.get("add").or(action.get("remove"))?.get("dataChange")?.as_bool())
        .collect();
    assert_eq!(changes, BTreeSet::from([false]));
    // there is nothing more to do, so that no run is made of it
    assert!(vacuum(&warehouse, 200, 1).await.unwrap().is_empty());
    assert_eq!(warehouse.snapshot(None).await.unwrap().run, Some(13));
    // once no kept run reads the small files, they go
    vacuum(&warehouse, 300, 13).await.unwrap();
    let left = data_files(&warehouse).await;
    assert_eq!(left.iter().filter(|f| f.starts_with("history/")).count(), 1, "{left:?}");
    assert_eq!(visible(&open(Arc::clone(warehouse.store())), None).await.unwrap(), after(RUNS));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dead_runs_left_goes_and_what_others_wrote_stays() {
    let store = of_runs(2).await;
    let left = Arc::new(AtomicI64::new(4));
    daily(&open(Arc::new(Faulty::dying(&store, &left, true))), 100).await.unwrap_err();
    let warehouse = open(Arc::clone(&store));
    half_committed(&warehouse, 1000, &[("history", WriteMode::Append), ("now", WriteMode::Overwrite)], 1).await;
    foreign_commit(&warehouse, "now").await;
    let theirs = ["now/part-from-spark.parquet", "out/sent/part-0000000001-00000.parquet", "notes.txt"];
    for name in theirs {
        warehouse.state().create(name, "x".into()).await.unwrap();
    }
    // while a run is at work its files are not counted
    let live = warehouse.begin(request(2000)).await.unwrap();
    stage(&live, "history", WriteMode::Append, &[99]).await.unwrap();
    let said = warehouse.plan_vacuum(1, at(2001)).await.unwrap();
    live.release().await.unwrap();
    let done = vacuum(&warehouse, 2002, 1).await.unwrap();
    let files = |vacuum: &Vacuum| vacuum.tables.iter().map(|t| t.files).sum::<usize>();
    assert_eq!(files(&done), files(&said) + 1, "{said:#?} {done:#?}");
    let there = data_files(&warehouse).await;
    for name in theirs {
        assert!(warehouse.state().exists(name).await.unwrap(), "{name}");
    }
    let ours: BTreeSet<String> = there.into_iter().filter(|f| !theirs.contains(&f.as_str())).collect();
    // a folder without a log may be anybody's: the table that the dead run was the first to write
    let named = named_files(&warehouse).await;
    let others: Vec<&String> = ours.difference(&named).filter(|f| !f.starts_with("new_3/")).collect();
    // what was committed and taken back is in the log until its run is too old
    assert!(others.iter().all(|f| f.starts_with("history/")) && others.len() <= 1, "{others:?}");
    assert_eq!(visible(&warehouse, None).await.unwrap(), after(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stalled_cannot_commit_after_a_vacuum() {
    let warehouse = open(of_runs(2).await);
    let stalled = warehouse.begin(request(100)).await.unwrap();
    let staged = stage(&stalled, "history", WriteMode::Append, &[99]).await.unwrap();
    let epoch = stalled.epoch();
    let done = vacuum(&warehouse, 200, 1).await.unwrap();
    assert_eq!(done.tables.iter().map(|t| t.files).sum::<usize>(), 1, "its file is nobody's");
    // it looked at its lease before that, and stalled between the look and the commit
    let newest = warehouse.state().names("_kinfold/leases").await.unwrap().len() as u64;
    for later in epoch + 1..=newest {
        warehouse.state().remove(&store::numbered("_kinfold/leases", later)).await.unwrap();
    }
    let error = stalled.commit(vec![staged], json!({}), at(201)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(visible(&warehouse, None).await.unwrap(), after(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stalled_for_so_long_that_its_number_was_vacuumed_is_told() {
    let warehouse = open(of_runs(2).await);
    let stalled = warehouse.begin(request(100)).await.unwrap();
    let staged = stage(&stalled, "history", WriteMode::Append, &[99]).await.unwrap();
    for n in 0..3 {
        daily(&warehouse, 200 + n).await.unwrap();
    }
    vacuum(&warehouse, 300, 5).await.unwrap();
    for name in warehouse.state().names("_kinfold/leases").await.unwrap() {
        if store::number_of(&name) > Some(stalled.epoch()) {
            warehouse.state().remove(&format!("_kinfold/leases/{name}")).await.unwrap();
        }
    }
    let error = stalled.commit(vec![staged], json!({}), at(301)).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Busy, "run 3 is over long since".to_owned()));
    assert_eq!(visible(&warehouse, None).await.unwrap(), after(5));
    assert!(warehouse.begin(request(400)).await.unwrap().recovered().is_empty(), "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_a_vacuum_harms_no_kept_run() {
    let prepared = of_runs(RUNS).await;
    for lands in [false, true] {
        for writes in 1.. {
            let store = copy(&prepared).await;
            let left = Arc::new(AtomicI64::new(writes));
            let dying = Faulty::dying(&store, &left, lands);
            let result = vacuum(&open(Arc::new(dying)), 100, 11).await;
            let died = left.load(Ordering::SeqCst) <= 0;
            assert!(died || result.is_ok(), "{writes}");
            let warehouse = open(Arc::clone(&store));
            for (run, state) in [(11, 11), (12, 12)] {
                assert_eq!(visible(&warehouse, Some(run)).await.unwrap(), after(state), "{writes}: {run}");
            }
            // the next one removes the rest
            vacuum(&warehouse, 1000, 11).await.unwrap();
            assert_eq!(visible(&warehouse, None).await.unwrap(), after(RUNS), "{writes}");
            assert_eq!(warehouse.runs(usize::MAX).await.unwrap().last().unwrap().run, 11, "{writes}");
            let there = data_files(&warehouse).await;
            assert_eq!(there, named_files(&warehouse).await, "{writes}");
            if !died {
                break;
            }
        }
    }
}
