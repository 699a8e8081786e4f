//! Stores that fail: what a run makes of it, and what must hold whatever happens.

use super::retry::{ATTEMPTS, Retrying};
use super::testing::{Fault, Faulty, Verb, copy};
use super::tests::{after, daily, open, outside, prepared, request, visible};
use super::*;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Schedules of faults.
const SEEDS: usize = 240;
/// Lives at once.
const WORKERS: usize = 4;
/// Runs that meet faults, one after another, on each schedule.
const SESSIONS: u64 = 3;

/// How often what happened.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    failed: usize,
    recovered: usize,
    busy: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.recovered += other.recovered;
        self.busy += other.busy;
    }
}

/// All that must hold of a store, whatever happened: readers see whole runs, each run once; gives their number.
async fn sound(store: &Arc<dyn ObjectStore>, seed: u64) -> i64 {
    let reader = open(Arc::clone(store));
    let records = reader.runs(usize::MAX).await.unwrap();
    let last = i64::try_from(records.len()).unwrap();
    for (record, run) in records.iter().rev().zip(1..) {
        assert_eq!((record.run, record.status), (run, RunStatus::Committed), "seed {seed}");
        let number = i64::try_from(run).unwrap();
        assert_eq!(visible(&reader, Some(run)).await.unwrap(), after(number), "seed {seed}, run {run}");
    }
    last
}

/// Some runs over a failing store, of which every third seed has two at once, and one over the store itself.
async fn life(store: Arc<dyn ObjectStore>, seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut said: BTreeMap<u64, usize> = BTreeMap::new();
    for session in 0..SESSIONS {
        let faulty: Arc<dyn ObjectStore> = Arc::new(Faulty::seeded(&store, seed * SESSIONS + session));
        let faulty = if seed.is_multiple_of(2) { Arc::new(Retrying::new(faulty)) } else { faulty };
        let second = i64::try_from(200 * (session + 1)).unwrap();
        let first = open(Arc::clone(&faulty));
        let results = if seed.is_multiple_of(3) {
            // the lease of the first has expired by then, as far as the second can tell
            let other = open(faulty);
            let (one, other) = tokio::join!(daily(&first, second), daily(&other, second + 61));
            vec![one, other]
        } else {
            vec![daily(&first, second).await]
        };
        let runs = sound(&store, seed).await;
        for result in results {
            match result {
                Ok(record) => {
                    *said.entry(record.run).or_default() += 1;
                    assert!(record.run <= u64::try_from(runs).unwrap(), "seed {seed}: said done, and is not visible");
                    tally.done += 1;
                }
                Err(e) if e.kind() == ErrorKind::Busy => tally.busy += 1,
                Err(e) if e.kind() == ErrorKind::Storage => tally.failed += 1,
                Err(e) => panic!("seed {seed}: a fault of the store is told as another: {e:?}"),
            }
        }
    }
    assert!(said.values().all(|times| *times == 1), "seed {seed}: two runs were told the same number: {said:?}");
    let warehouse = open(Arc::clone(&store));
    let before = sound(&store, seed).await;
    let next = warehouse.begin(request(10_000)).await.unwrap();
    tally.recovered = next.recovered().len();
    next.release().await.unwrap();
    daily(&warehouse, 10_001).await.unwrap();
    let runs = sound(&store, seed).await;
    assert_eq!(runs, before + i64::try_from(tally.recovered).unwrap() + 1, "seed {seed}");
    for name in ["history", "now", "still", "grown"] {
        assert_eq!(outside(&warehouse, name).await, after(runs)[name], "seed {seed}: {name}");
    }
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_loses_doubles_or_mixes_rows() {
    let prepared = prepared().await;
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (prepared, runtime) = (Arc::clone(&prepared), Handle::current());
        workers.spawn_blocking(move || {
            let lives = async {
                let mut total = Tally::default();
                for seed in (worker..SEEDS).step_by(WORKERS) {
                    total.add(&life(copy(&prepared).await, seed as u64).await);
                }
                total
            };
            runtime.block_on(lives)
        });
    }
    let mut total = Tally::default();
    while let Some(tally) = workers.join_next().await {
        total.add(&tally.unwrap());
    }
    // the schedules do what they are for: some runs end, some fail, some are finished by the next, some meet others
    let enough = SEEDS / 4;
    assert!(total.done > enough && total.failed > enough && total.busy > 10 && total.recovered > 10, "{total:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again() {
    let store = prepared().await;
    let seen: Mutex<BTreeMap<(Verb, Path), u32>> = Mutex::default();
    // each request of each sort is refused twice, and then done
    let faulty = Arc::new(Faulty::new(&store, move |verb, path| {
        let mut seen = seen.lock().unwrap();
        let times = seen.entry((verb, path.clone())).or_default();
        *times += 1;
        // a listing is read as it comes, and not begun anew
        if *times <= 2 && verb != Verb::List { Fault::Refused } else { Fault::None }
    }));
    daily(&open(Arc::new(Retrying::new(faulty))), 100).await.unwrap();
    assert_eq!(visible(&open(store), None).await.unwrap(), after(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_wrong_is_said_at_once_and_with_a_way_out() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for (fault, tries, help) in [
        (Fault::Forbidden, 1, "check who may read and write there"),
        (Fault::Full, 1, "there is no room left"),
        (Fault::Refused, u64::from(ATTEMPTS), "try again later"),
    ] {
        let faulty = Arc::new(Faulty::new(&inner, move |_, _| fault));
        let state = State::new(Arc::new(Retrying::new(Arc::clone(&faulty) as _)), Path::from("w"));
        let error = state.replace("a", "x".into()).await.unwrap_err();
        assert_eq!((error.kind(), faulty.requests.swap(0, Ordering::SeqCst)), (ErrorKind::Storage, tries), "{fault:?}");
        assert!(error.help().is_some_and(|h| h.contains(help)), "{fault:?}: {error:?}");
        let error = state.get("a").await.unwrap_err();
        assert_eq!(faulty.requests.swap(0, Ordering::SeqCst), tries, "{fault:?}");
        assert!(error.help().is_some_and(|h| h.contains(help)), "{fault:?}: {error:?}");
        if tries == 1 {
            let error = state.create("a", "x".into()).await.unwrap_err();
            assert_eq!(faulty.requests.load(Ordering::SeqCst), 1, "{fault:?}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_a_run_and_the_next_one_goes_on() {
    let store = prepared().await;
    let full = |verb, path: &Path| {
        let data = path.as_ref().contains("/now/part-");
        if verb == Verb::Put && data { Fault::Full } else { Fault::None }
    };
    let warehouse = open(Arc::new(Faulty::new(&store, full)));
    let run = warehouse.begin(request(100)).await.unwrap();
    let error = super::tests::stage(&run, "now", WriteMode::Overwrite, &[9]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.help().is_some_and(|h| h.contains("kinfold vacuum")), "{error:?}");
    run.release().await.unwrap();
    assert_eq!(visible(&open(Arc::clone(&store)), None).await.unwrap(), after(2));
    daily(&open(Arc::clone(&store)), 101).await.unwrap();
    assert_eq!(visible(&open(Arc::clone(&store)), None).await.unwrap(), after(3));
}
