//! The warehouse as a whole: what is visible after runs that end, fail and die.

use super::testing::{Faulty, copy};
use super::*;
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{ArrayRef, AsArray as _, Int64Array, StringArray};
use deltalake_core::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use serde_json::json;
use std::sync::atomic::{AtomicI64, Ordering};

pub(super) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

pub(super) fn request(second: i64) -> RunRequest {
    RunRequest { holder: format!("test {second}"), now: at(second), lease_s: 60 }
}

fn schema() -> Schema {
    Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)])
}

fn rows(ids: &[i64]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|i| format!("n{i}")).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(StringArray::from(names))];
    RecordBatch::try_new(Arc::new(schema()), columns).unwrap()
}

pub(super) fn open(store: Arc<dyn ObjectStore>) -> Warehouse {
    Warehouse::with_store(store, Path::from("lake/w"), Url::parse("memory:///lake/w/").unwrap()).with_workers(2)
}

pub(super) async fn stage(run: &Run, table: &str, mode: WriteMode, ids: &[i64]) -> Result<StagedTable> {
    run.write_all(table, &schema(), mode, &[rows(ids)]).await
}

/// Ids of all visible tables, sorted.
pub(super) async fn visible(warehouse: &Warehouse, run: Option<u64>) -> Result<BTreeMap<String, Vec<i64>>> {
    let mut found = BTreeMap::new();
    for (name, table) in warehouse.tables(&warehouse.snapshot(run).await?).await? {
        let mut ids = Vec::new();
        for batch in warehouse.read_all(&table).await? {
            ids.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
        }
        ids.sort_unstable();
        found.insert(name, ids);
    }
    Ok(found)
}

fn expect(tables: &[(&str, &[i64])]) -> BTreeMap<String, Vec<i64>> {
    tables.iter().map(|(n, ids)| ((*n).to_owned(), ids.to_vec())).collect()
}

/// The newest state of each Delta log, as other engines see it.
pub(super) async fn outside(warehouse: &Warehouse, name: &str) -> Vec<i64> {
    let version = warehouse.latest_version(name, None).await.unwrap().unwrap();
    let table = warehouse.table(&TableAt { name: name.to_owned(), version, run: 0 }).await.unwrap();
    let mut ids = Vec::new();
    for batch in warehouse.read_all(&table).await.unwrap() {
        ids.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
    }
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_overwrite_append_and_keep() {
    let warehouse = open(Arc::new(InMemory::new()));
    assert_eq!(warehouse.snapshot(None).await.unwrap(), Snapshot::default());

    let run = warehouse.begin(request(0)).await.unwrap();
    assert_eq!(run.number(), 1);
    let tables = vec![
        stage(&run, "patient", WriteMode::Overwrite, &[1, 2]).await.unwrap(),
        stage(&run, "kinfold.runs", WriteMode::Append, &[1]).await.unwrap(),
        run.write_all("empty", &schema(), WriteMode::Overwrite, &[]).await.unwrap(),
    ];
    let record = run.commit(tables, json!({"as_of": "x"}), at(1)).await.unwrap();
    assert_eq!((record.run, record.status), (1, RunStatus::Committed));

    let run = warehouse.begin(request(2)).await.unwrap();
    assert_eq!(run.base().run, Some(1));
    let tables = vec![
        stage(&run, "patient", WriteMode::Overwrite, &[1, 2]).await.unwrap().unchanged(),
        stage(&run, "kinfold.runs", WriteMode::Append, &[2]).await.unwrap(),
    ];
    let record = run.commit(tables, json!({}), at(3)).await.unwrap();
    assert_eq!(record.tables["patient"], TableAt { name: "patient".into(), version: 0, run: 1 });
    assert_eq!(record.tables["kinfold.runs"].version, 1);

    let now = expect(&[("empty", &[]), ("kinfold.runs", &[1, 2]), ("patient", &[1, 2])]);
    assert_eq!(visible(&warehouse, None).await.unwrap(), now);
    let before = expect(&[("empty", &[]), ("kinfold.runs", &[1]), ("patient", &[1, 2])]);
    assert_eq!(visible(&warehouse, Some(1)).await.unwrap(), before);
    assert_eq!(warehouse.runs(5).await.unwrap().iter().map(|r| r.run).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(warehouse.runs(5).await.unwrap()[1].content, json!({"as_of": "x"}));
    // The files of the unchanged table are gone.
    let files = warehouse.state().names("patient").await.unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_is_busy_until_the_first_ends() {
    let warehouse = open(Arc::new(InMemory::new()));
    let run = warehouse.begin(request(0)).await.unwrap();
    assert_eq!(warehouse.begin(request(1)).await.unwrap_err().kind(), ErrorKind::Busy);
    run.release().await.unwrap();
    let run = warehouse.begin(request(2)).await.unwrap();
    // Dropped by an interrupt: whoever kept it alive ends it.
    let alive = run.keep_alive(|| at(3));
    drop(run);
    assert!(!alive.is_lost());
    alive.release().await.unwrap();
    warehouse.begin(request(4)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runs_that_both_think_they_hold_it_one_commits() {
    let warehouse = open(Arc::new(InMemory::new()));
    let slow = warehouse.begin(request(0)).await.unwrap();
    let slow_table = stage(&slow, "t", WriteMode::Append, &[1]).await.unwrap();
    let fast = warehouse.begin(request(61)).await.unwrap();
    let fast_table = stage(&fast, "t", WriteMode::Append, &[2]).await.unwrap();
    assert_eq!((slow.number(), fast.number()), (1, 1));
    assert_eq!(slow.commit(vec![slow_table], json!({}), at(62)).await.unwrap_err().kind(), ErrorKind::Busy);
    fast.commit(vec![fast_table], json!({}), at(63)).await.unwrap();
    assert_eq!(visible(&warehouse, None).await.unwrap(), expect(&[("t", &[2])]));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_and_types_stay() {
    let warehouse = open(Arc::new(InMemory::new()));
    let run = warehouse.begin(request(0)).await.unwrap();
    let first = stage(&run, "t", WriteMode::Append, &[1]).await.unwrap();
    run.commit(vec![first], json!({}), at(0)).await.unwrap();

    let run = warehouse.begin(request(1)).await.unwrap();
    let wider = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("n", DataType::Int64, true)]);
    let column: ArrayRef = Arc::new(Int64Array::from(vec![2]));
    let batch = RecordBatch::try_new(Arc::new(wider.clone()), vec![Arc::clone(&column), column]).unwrap();
    let staged = run.write_all("t", &wider, WriteMode::Append, &[batch]).await.unwrap();
    run.commit(vec![staged], json!({}), at(1)).await.unwrap();
    let table = warehouse.table(&warehouse.snapshot(None).await.unwrap().tables["t"]).await.unwrap();
    let names: Vec<&str> = table.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["id", "name", "n"]);
    assert_eq!(visible(&warehouse, None).await.unwrap(), expect(&[("t", &[1, 2])]));

    let run = warehouse.begin(request(2)).await.unwrap();
    let other = Schema::new(vec![Field::new("id", DataType::Utf8, true)]);
    let staged = run.write_all("t", &other, WriteMode::Append, &[]).await.unwrap();
    let error = run.commit(vec![staged], json!({}), at(2)).await.unwrap_err();
    assert!(error.to_string().contains("column `id` of table `t` is Int64"), "{error}");
    // An overwrite may change everything, and keeps the table's identity.
    let run = warehouse.begin(request(3)).await.unwrap();
    let staged = run.write_all("t", &other, WriteMode::Overwrite, &[]).await.unwrap();
    run.commit(vec![staged], json!({}), at(3)).await.unwrap();
    let after = warehouse.table(&warehouse.snapshot(None).await.unwrap().tables["t"]).await.unwrap();
    assert_eq!((after.schema.fields().len(), &after.meta.id), (1, &table.meta.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_cannot_be_tables_are_refused() {
    let warehouse = open(Arc::new(InMemory::new()));
    let run = warehouse.begin(request(0)).await.unwrap();
    for name in ["", ".", "a..b", "_kinfold", "a/b", "a b", "../x", "ä"] {
        assert_eq!(run.writer(name, &schema(), WriteMode::Append).unwrap_err().kind(), ErrorKind::Usage, "{name}");
    }
    let outer = stage(&run, "a", WriteMode::Append, &[1]).await.unwrap();
    let inner = stage(&run, "a.b", WriteMode::Append, &[1]).await.unwrap();
    assert_eq!(run.commit(vec![outer, inner], json!({}), at(0)).await.unwrap_err().kind(), ErrorKind::Usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_others_are_not_overwritten() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let theirs = "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":2}}\n{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\",\"options\":{}},\"schemaString\":\"{\\\"type\\\":\\\"struct\\\",\\\"fields\\\":[{\\\"name\\\":\\\"a\\\",\\\"type\\\":\\\"long\\\",\\\"nullable\\\":true,\\\"metadata\\\":{}}]}\",\"partitionColumns\":[],\"configuration\":{}}}\n";
    let path = Path::from("lake/w/t/_delta_log/00000000000000000000.json");
    store.put(&path, theirs.into()).await.unwrap();
    let warehouse = open(store);
    let run = warehouse.begin(request(0)).await.unwrap();
    let staged = stage(&run, "t", WriteMode::Overwrite, &[1]).await.unwrap();
    let error = run.commit(vec![staged], json!({}), at(0)).await.unwrap_err();
    assert!(error.to_string().contains("did not write"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_written_and_read() {
    let warehouse = open(Arc::new(InMemory::new()));
    for n in 0..12 {
        let run = warehouse.begin(request(n)).await.unwrap();
        let staged = stage(&run, "t", WriteMode::Append, &[n]).await.unwrap();
        run.commit(vec![staged], json!({}), at(n)).await.unwrap();
    }
    let log = warehouse.state().names("t/_delta_log").await.unwrap();
    assert!(log.iter().any(|n| n.starts_with("00000000000000000010.checkpoint")), "{log:?}");
    // Without the log before the checkpoint.
    for version in 0..10 {
        warehouse.state().remove(&warehouse.log_entry("t", version)).await.unwrap();
    }
    let fresh = open(Arc::clone(warehouse.store()));
    assert_eq!(visible(&fresh, None).await.unwrap()["t"].len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_made_once() {
    let warehouse = open(Arc::new(InMemory::new()));
    let first = warehouse.secret("identity").await.unwrap();
    assert_eq!(warehouse.secret("identity").await.unwrap(), first);
    assert_ne!(warehouse.secret("other").await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_a_warehouse_too() {
    let folder = std::env::temp_dir().join(format!("kinfold warehouse {}", uuid::Uuid::new_v4()));
    let location = Location::parse("the house", &folder).unwrap();
    let warehouse = Warehouse::open(&location, &Environment::new()).unwrap();
    for n in 0..11 {
        let run = warehouse.begin(request(n)).await.unwrap();
        let staged = stage(&run, "kinfold.runs", WriteMode::Append, &[n]).await.unwrap();
        run.commit(vec![staged], json!({}), at(n)).await.unwrap();
    }
    let fresh = Warehouse::open(&location, &Environment::new()).unwrap();
    assert_eq!(visible(&fresh, None).await.unwrap()["kinfold.runs"].len(), 11);
    assert!(folder.join("the house/kinfold/runs/_delta_log/00000000000000000010.checkpoint.parquet").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

// --- killed at any point ---

/// Runs before the one that dies.
const DAYS: i64 = 2;

/// A run that appends to one table, overwrites another, merges into a third, creates a fourth and leaves a fifth unchanged.
pub(super) async fn daily(warehouse: &Warehouse, second: i64) -> Result<RunRecord> {
    let run = warehouse.begin(request(second)).await?;
    let number = i64::try_from(run.number()).unwrap();
    let tables = vec![
        stage(&run, "history", WriteMode::Append, &[number]).await?,
        stage(&run, "now", WriteMode::Overwrite, &[number]).await?,
        stage(&run, &format!("new_{number}"), WriteMode::Append, &[number]).await?,
        stage(&run, "still", WriteMode::Overwrite, &[0]).await?.unchanged(),
        stage(&run, "grown", WriteMode::Merge, &[number])
            .await?
            .replacing(files_with(&run, "grown", number - 2).await?),
    ];
    run.commit(tables, json!({"run": number}), at(second)).await
}

/// Names of the files of a table that hold an id.
async fn files_with(run: &Run, name: &str, id: i64) -> Result<Vec<String>> {
    let Some(at) = run.base().tables.get(name) else { return Ok(Vec::new()) };
    let table = run.warehouse().table(at).await?;
    let mut found = Vec::new();
    for file in &table.files {
        let batches = table.read_file(run.warehouse().store(), file).await?;
        if batches.iter().any(|b| b.column(0).as_primitive::<Int64Type>().values().contains(&id)) {
            found.push(file.name.clone());
        }
    }
    Ok(found)
}

pub(super) fn after(runs: i64) -> BTreeMap<String, Vec<i64>> {
    let all: Vec<i64> = (1..=runs).collect();
    // each run takes the place of the last but one
    let last = &all[all.len().saturating_sub(2)..];
    let mut tables = expect(&[("history", &all), ("now", &[runs]), ("still", &[0]), ("grown", last)]);
    for n in 1..=runs {
        tables.insert(format!("new_{n}"), vec![n]);
    }
    tables
}

pub(super) async fn prepared() -> Arc<dyn ObjectStore> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let warehouse = open(Arc::clone(&store));
    for n in 0..DAYS {
        daily(&warehouse, n).await.unwrap();
    }
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_nothing_is_lost_or_done_twice() {
    let prepared = prepared().await;
    for lands in [false, true] {
        let mut outcomes = BTreeMap::<&str, usize>::new();
        for writes in 1.. {
            let store = copy(&prepared).await;
            let left = Arc::new(AtomicI64::new(writes));
            let dying = Arc::new(Faulty::dying(&store, &left, lands));
            let result = daily(&open(dying), 100).await;
            let died = left.load(Ordering::SeqCst) <= 0;

            // Readers see a whole run at every moment.
            let reader = open(Arc::clone(&store));
            let seen = visible(&reader, None).await.unwrap();
            assert!(seen == after(DAYS) || seen == after(DAYS + 1), "{writes}: {seen:?}");
            if result.is_ok() {
                assert_eq!(seen, after(DAYS + 1), "{writes}: said done");
            }

            // The next run finishes it, or it never was.
            let next = open(Arc::clone(&store)).begin(request(1000)).await.unwrap();
            let recovered = next.recovered().len();
            let number = i64::try_from(next.number()).unwrap();
            next.release().await.unwrap();
            *outcomes.entry(["none", "whole"][usize::from(number == DAYS + 2)]).or_default() += 1;
            let reader = open(Arc::clone(&store));
            assert_eq!(visible(&reader, None).await.unwrap(), after(number - 1), "{writes}");
            assert!(recovered <= 1 && (number == DAYS + 1 || number == DAYS + 2), "{writes}");
            for name in ["history", "now", "still", "grown"] {
                assert_eq!(outside(&reader, name).await, after(number - 1)[name], "{writes}: {name}");
            }

            // And two more runs go on as if nothing had been.
            let warehouse = open(Arc::clone(&store));
            daily(&warehouse, 2000).await.unwrap();
            daily(&warehouse, 2001).await.unwrap();
            assert_eq!(visible(&warehouse, None).await.unwrap(), after(number + 1), "{writes}");
            if !died {
                break;
            }
        }
        assert!(outcomes["none"] > 3 && outcomes["whole"] > 3, "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_may_die_as_well() {
    let prepared = prepared().await;
    for first in 6..=11 {
        for second in 1..=8 {
            let store = copy(&prepared).await;
            let dying = |writes| {
                let left = Arc::new(AtomicI64::new(writes));
                open(Arc::new(Faulty::dying(&store, &left, writes % 2 == 0)))
            };
            let _ = daily(&dying(first), 100).await;
            let _ = dying(second).begin(request(1000)).await;
            let warehouse = open(Arc::clone(&store));
            let run = warehouse.begin(request(2000)).await.unwrap();
            let number = i64::try_from(run.number()).unwrap();
            run.release().await.unwrap();
            assert_eq!(visible(&warehouse, None).await.unwrap(), after(number - 1), "{first}, {second}");
            daily(&warehouse, 2001).await.unwrap();
            assert_eq!(visible(&warehouse, None).await.unwrap(), after(number), "{first}, {second}");
        }
    }
}

/// Stages a run and commits some of its tables, as a process would that was then killed.
pub(super) async fn half_committed(
    warehouse: &Warehouse,
    second: i64,
    tables: &[(&str, WriteMode)],
    done: usize,
) -> u64 {
    let run = warehouse.begin(request(second)).await.unwrap();
    let mut staged = Vec::new();
    for (name, mode) in tables {
        staged.push(stage(&run, name, *mode, &[77]).await.unwrap());
    }
    let list = warehouse.stage(run.number(), run.epoch(), run.base(), &staged, json!({}), at(second)).await.unwrap();
    let name = store::numbered(commit::FOLDER, run.number());
    warehouse.state().create(&name, commit::to_bytes(&list).unwrap()).await.unwrap();
    for commit in &list.tables[..done] {
        let version = commit.base.map_or(0, |v| v + 1);
        warehouse
            .state()
            .create(&warehouse.log_entry(&commit.table, version), commit.entry.clone().into())
            .await
            .unwrap();
    }
    run.number()
}

/// Another engine rewrites a table's files without changing rows.
pub(super) async fn foreign_commit(warehouse: &Warehouse, table: &str) {
    let version = warehouse.latest_version(table, None).await.unwrap().unwrap() + 1;
    let text = "{\"commitInfo\":{\"operation\":\"OPTIMIZE\"}}\n";
    warehouse.state().create(&warehouse.log_entry(table, version), text.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_another_writer_overtook_is_abandoned_and_restored() {
    let warehouse = open(prepared().await);
    let tables = [("history", WriteMode::Append), ("now", WriteMode::Overwrite), ("fresh", WriteMode::Append)];
    half_committed(&warehouse, 100, &tables, 1).await;
    foreign_commit(&warehouse, "now").await;

    let run = warehouse.begin(request(1000)).await.unwrap();
    assert_eq!(run.number(), 4);
    let message = run.recovered()[0].message();
    assert!(message.contains("run 3") && message.contains("`now`"), "{message}");
    run.release().await.unwrap();
    let mut expected = after(DAYS);
    assert_eq!(visible(&warehouse, None).await.unwrap(), expected);
    assert_eq!(outside(&warehouse, "history").await, expected["history"]);
    assert_eq!(warehouse.runs(1).await.unwrap()[0].status, RunStatus::Abandoned);

    daily(&warehouse, 2000).await.unwrap();
    expected.get_mut("history").unwrap().push(4);
    expected.insert("now".into(), vec![4]);
    expected.insert("new_4".into(), vec![4]);
    expected.insert("grown".into(), vec![1, 4]);
    assert_eq!(visible(&warehouse, None).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_comes_between_looking_and_committing_is_noticed() {
    let store = prepared().await;
    let path = Path::from("lake/w/now/_delta_log").join(format!("{DAYS:020}.json"));
    let text = "{\"commitInfo\":{\"operation\":\"OPTIMIZE\"}}\n";
    let warehouse = open(Arc::new(Faulty::overtaken(&store, path, text)));
    let error = daily(&warehouse, 100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("`now`") && error.help().is_some(), "{error}");
    assert_eq!(visible(&warehouse, None).await.unwrap(), after(DAYS));
    for name in ["history", "now"] {
        assert_eq!(outside(&warehouse, name).await, after(DAYS)[name], "{name}");
    }
    // Trying again is all it takes, and takes no waiting.
    daily(&open(Arc::clone(warehouse.store())), 101).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_rows_that_could_not_be_restored_do_not_come_back() {
    let warehouse = open(prepared().await);
    let tables = [("history", WriteMode::Append), ("now", WriteMode::Overwrite)];
    half_committed(&warehouse, 100, &tables, 1).await;
    foreign_commit(&warehouse, "now").await;
    // The table that was committed moves on as well, so that restoring it would undo another's work.
    foreign_commit(&warehouse, "history").await;

    let run = warehouse.begin(request(1000)).await.unwrap();
    run.release().await.unwrap();
    assert_eq!(visible(&warehouse, None).await.unwrap(), after(DAYS));
    daily(&warehouse, 2000).await.unwrap();
    let history = &visible(&warehouse, None).await.unwrap()["history"];
    assert_eq!(history, &[1, 2, 4]);
    assert_eq!(&outside(&warehouse, "history").await, history);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_finish_the_same_run_alike() {
    let warehouse = open(prepared().await);
    let tables = [("history", WriteMode::Append), ("now", WriteMode::Overwrite)];
    let number = half_committed(&warehouse, 100, &tables, 1).await;
    let list: commit::StagedList =
        warehouse.state().get_json(&store::numbered(commit::FOLDER, number)).await.unwrap().unwrap();
    let other = warehouse.clone();
    let (a, b) = tokio::join!(warehouse.finish(&list), other.finish(&list));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(visible(&warehouse, None).await.unwrap()["history"], [1, 2, 77]);
}

/// The files that a merge replaces may be gone by then, with their rows in others.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_starts_from_what_it_read() {
    let warehouse = open(prepared().await);
    let run = warehouse.begin(request(100)).await.unwrap();
    let replaced = files_with(&run, "grown", 1).await.unwrap();
    let staged = stage(&run, "grown", WriteMode::Merge, &[3]).await.unwrap().replacing(replaced);
    let read = &run.base().tables["grown"];
    let table = warehouse.table(read).await.unwrap();
    let add = |path: &str, size: u64| json!({"add": {"path": path, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": false}});
    let joined = stage(&run, "grown", WriteMode::Append, &[1, 2]).await.unwrap();
    let removes = table.files.iter().map(|f| json!({"remove": {"path": f.name, "dataChange": false}}).to_string());
    let adds = joined.files.iter().map(|f| add(&f.name, f.size).to_string());
    let text = removes.chain(adds).collect::<Vec<_>>().join("\n");
    let entry = warehouse.log_entry("grown", read.version + 1);
    warehouse.state().create(&entry, text.into()).await.unwrap();
    assert_eq!(outside(&warehouse, "grown").await, [1, 2]);
    run.commit(vec![staged], json!({}), at(100)).await.unwrap();
    assert_eq!(outside(&warehouse, "grown").await, [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_other_writers_stay_under_an_append() {
    let warehouse = open(prepared().await);
    foreign_commit(&warehouse, "history").await;
    let record = daily(&warehouse, 100).await.unwrap();
    assert_eq!(record.tables["history"].version, 3);
    assert_eq!(visible(&warehouse, None).await.unwrap(), after(DAYS + 1));
}
