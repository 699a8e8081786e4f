//! Syncs as a whole: one suite for every destination, and runs that die at any write.

use super::destinations::delta::Delta;
use super::destinations::files::FilesDestination;
use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{FileFormat, SyncMode};
use crate::warehouse::testing::Faulty;
use crate::warehouse::{State, Warehouse};
use chrono::DateTime;
use deltalake_core::arrow::array::{
    Array as _, ArrayRef, AsArray as _, Int32Array, Int64Array, RecordBatch, StringArray,
};
use deltalake_core::arrow::compute::concat_batches;
use deltalake_core::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod order;

/// Nobody withdrew.
static NOBODY: BTreeSet<String> = BTreeSet::new();
/// Nobody became somebody else.
static NONE: BTreeMap<String, String> = BTreeMap::new();

/// Rows of a table by key: name and number.
type Table = BTreeMap<i64, (Option<String>, i64)>;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

fn batches(table: &Table) -> Vec<RecordBatch> {
    // By key as text; two batches, so that places of rows are not trivial.
    let mut rows: Vec<(&i64, &(Option<String>, i64))> = table.iter().collect();
    rows.sort_by_key(|(key, _)| key.to_string());
    let (first, second) = rows.split_at(rows.len() / 2);
    [first, second]
        .into_iter()
        .map(|rows| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|(k, _)| **k))),
                Arc::new(rows.iter().map(|(_, v)| v.0.clone()).collect::<StringArray>()),
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, v)| v.1))),
            ];
            RecordBatch::try_new(schema(), columns).unwrap()
        })
        .collect()
}

/// Rows that may all be sent.
fn incoming(batches: Vec<RecordBatch>) -> IncomingRows<'static> {
    let sent = |rows: RecordBatch| Ok(Incoming { fates: vec![Fate::Sent; rows.num_rows()], rows });
    futures::stream::iter(batches.into_iter().map(sent)).boxed()
}

/// How a sync ended, with its state at hand.
#[derive(Debug)]
struct Left {
    counts: SyncCounts,
    state: Option<RecordBatch>,
    first: bool,
    failure: Option<Error>,
}

fn table(rows: &[(i64, &str, i64)]) -> Table {
    rows.iter().map(|(k, s, n)| (*k, ((!s.is_empty()).then(|| (*s).to_owned()), *n))).collect()
}

/// What a process needs for a run, and what it leaves to the next.
struct House {
    log: State,
    previous: Vec<RecordBatch>,
    epoch: u64,
    max_delete_percent: f64,
    rows_per_batch: Option<usize>,
    full: bool,
    retry_rejected: bool,
    lanes: usize,
    hold: bool,
}

impl House {
    fn new() -> Self {
        Self {
            log: State::new(Arc::new(InMemory::new()), Path::from("w")),
            previous: Vec::new(),
            epoch: 0,
            max_delete_percent: 100.0,
            rows_per_batch: None,
            full: false,
            retry_rejected: false,
            lanes: 1,
            hold: false,
        }
    }

    async fn attempt(&mut self, log: &State, to: &dyn Destination, mode: SyncMode, rows: &Table) -> Result<Left> {
        self.epoch += 1;
        let rows = || incoming(batches(rows));
        let previous = || Previous::Held(self.previous.clone());
        let request = SyncRequest {
            sync: "list",
            destination: "lake",
            mode,
            full: self.full,
            reset: false,
            max_delete_percent: self.max_delete_percent,
            retry_rejected: self.retry_rejected,
            fail_above_percent: None,
            rows_per_batch: self.rows_per_batch,
            pacing: Pacing { concurrency: self.lanes, first_pause: Duration::from_millis(1), ..Pacing::default() },
            secret: [7; 32],
            epoch: self.epoch,
            now: DateTime::from_timestamp(1_700_000_000 + i64::try_from(self.epoch).unwrap(), 0).unwrap(),
            schema: schema(),
            withdrawn: &NOBODY,
            merged: &NONE,
            hold: self.hold,
        };
        let (preview, _) = preview_sync(log, to, &request, rows(), previous()).await?;
        let outcome = run_sync(log, to, &request, rows(), previous()).await?;
        let planned = |c: &SyncCounts| (c.read, c.inserted, c.updated, c.deleted, c.unchanged, c.ignored, c.waiting);
        if outcome.counts.found == 0 {
            assert_eq!(planned(&preview), planned(&outcome.counts));
        }
        let SyncOutcome { counts, state, first, failure, .. } = outcome;
        let state = match state {
            Some(state) => {
                Some(concat_batches(&state_schema(), &state.batches()?.try_collect::<Vec<_>>().await?).unwrap())
            }
            None => None,
        };
        Ok(Left { counts, state, first, failure })
    }

    /// A run that commits its state.
    async fn run(&mut self, to: &dyn Destination, mode: SyncMode, rows: &Table) -> Left {
        let log = self.log.clone();
        let outcome = self.attempt(&log, to, mode, rows).await.unwrap();
        self.previous = outcome.state.clone().map_or_else(|| std::mem::take(&mut self.previous), |state| vec![state]);
        outcome
    }
}

/// A destination that a test looks into.
trait Replay: Destination {
    fn replay(&self) -> BoxFuture<'_, Replayed>;
}

/// What a consumer has after it has read everything.
#[derive(Debug, Default)]
struct Replayed {
    table: Table,
    /// Rows delivered by idempotency key.
    deliveries: BTreeMap<String, Vec<String>>,
}

impl Replayed {
    fn apply(&mut self, operation: &str, change: i64, idempotency_key: &str, row: (i64, Option<String>, Option<i64>)) {
        let text = format!("{operation} {change} {row:?}");
        self.deliveries.entry(idempotency_key.to_owned()).or_default().push(text);
        let (key, name, n) = row;
        match operation {
            "delete" => {
                assert_eq!((&name, n), (&None, None), "a deleted row has only its key");
                self.table.remove(&key);
            }
            "insert" | "update" => {
                self.table.insert(key, (name, n.unwrap()));
            }
            other => panic!("operation {other}"),
        }
    }

    fn replace(&mut self, rows: &RecordBatch) {
        self.table = of_batch(rows).into_iter().map(|(k, name, n)| (k, (name, n.unwrap()))).collect();
    }
}

fn of_batch(rows: &RecordBatch) -> Vec<(i64, Option<String>, Option<i64>)> {
    let id = rows.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    let name = rows.column_by_name("name").unwrap().as_string::<i32>();
    let n = rows.column_by_name("n").unwrap().as_primitive::<Int64Type>();
    (0..rows.num_rows())
        .map(|i| {
            let name = name.is_valid(i).then(|| name.value(i).to_owned());
            (id.value(i), name, n.is_valid(i).then(|| n.value(i)))
        })
        .collect()
}

/// Keeps batches in memory, forgets nothing and refuses what it is told to.
#[derive(Debug, Default)]
struct Memory {
    batches: Mutex<Vec<Batch>>,
    /// Rows with these numbers are refused; whether for now or for good.
    refused: Mutex<BTreeMap<i64, bool>>,
    /// The batch with this number arrives, but its answer does not.
    silent: Mutex<Option<u32>>,
}

impl Destination for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            upsert: true,
            insert: true,
            update: true,
            append: true,
            delete: true,
            replace: true,
            idempotent: false,
            remembers_batches: false,
            rows_per_batch: Some(3),
            concurrent: false,
            deletes_apart: false,
            renames: false,
        }
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>> {
        Box::pin(async move {
            let refused = self.refused.lock().unwrap().clone();
            let outcomes: Vec<RowOutcome> = of_batch(&batch.rows)
                .iter()
                .map(|(_, _, n)| match n.and_then(|n| refused.get(&n)) {
                    Some(retryable) => RowOutcome::Rejected { reason: "no such number".into(), retryable: *retryable },
                    None => RowOutcome::Acknowledged,
                })
                .collect();
            self.batches.lock().unwrap().push(batch.clone());
            if *self.silent.lock().unwrap() == Some(batch.id.number) {
                return Err(Error::new(ErrorKind::Storage, "no answer"));
            }
            Ok(if batch.mode == SyncMode::Replace { Delivery::All } else { Delivery::Rows(outcomes) })
        })
    }
}

impl Replay for Memory {
    fn replay(&self) -> BoxFuture<'_, Replayed> {
        Box::pin(async {
            let mut found = Replayed::default();
            let refused = self.refused.lock().unwrap().clone();
            for batch in self.batches.lock().unwrap().iter() {
                if batch.mode == SyncMode::Replace {
                    found.replace(&batch.rows);
                    continue;
                }
                for (i, row) in of_batch(&batch.rows).into_iter().enumerate() {
                    if row.2.is_some_and(|n| refused.contains_key(&n)) {
                        continue;
                    }
                    found.apply(batch.operations[i].word(), batch.changes[i], &batch.idempotency_keys[i], row);
                }
            }
            found
        })
    }
}

/// Files in memory, read back as a consumer would.
#[derive(Debug)]
struct Files {
    store: Arc<dyn ObjectStore>,
    inner: FilesDestination,
    format: FileFormat,
}

impl Files {
    fn new(format: FileFormat) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let inner = FilesDestination::with_state(State::new(Arc::clone(&store), Path::from("out")), format);
        Self { store, inner, format }
    }

    async fn read(&self) -> Replayed {
        let state = State::new(Arc::clone(&self.store), Path::from("out"));
        let mut found = Replayed::default();
        for name in state.names("list").await.unwrap() {
            let bytes = state.get(&format!("list/{name}")).await.unwrap().unwrap();
            for (operation, change, key, row) in changes_of(self.format, &bytes) {
                found.apply(&operation, change, &key, row);
            }
        }
        let whole = state.names("").await.unwrap();
        if let Some(name) = whole.iter().find(|n| n.starts_with("list.")) {
            let bytes = state.get(name).await.unwrap().unwrap();
            let rows = rows_of(self.format, &bytes);
            found.table =
                rows.into_iter().map(|r| (int(&r, "id").unwrap(), (text(&r, "name"), int(&r, "n").unwrap()))).collect();
        }
        found
    }
}

impl Destination for Files {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>> {
        self.inner.deliver(batch)
    }

    fn arrived<'a>(&'a self, batch: &'a BatchId) -> BoxFuture<'a, Result<Option<bool>>> {
        self.inner.arrived(batch)
    }
}

impl Replay for Files {
    fn replay(&self) -> BoxFuture<'_, Replayed> {
        Box::pin(self.read())
    }
}

/// Delta tables in memory, read back at their newest version.
#[derive(Debug)]
struct Tables {
    warehouse: Warehouse,
    inner: Delta,
    batches: Mutex<Vec<Batch>>,
}

impl Tables {
    fn new() -> Self {
        let url = url::Url::parse("memory:///out/").unwrap();
        let warehouse = Warehouse::with_store(Arc::new(InMemory::new()), Path::from("out"), url);
        let clock = || DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let inner = Delta::with_warehouse(warehouse.clone(), "lake", clock);
        Self { warehouse, inner, batches: Mutex::default() }
    }

    async fn rows(&self) -> Vec<RecordBatch> {
        let snapshot = self.warehouse.snapshot(None).await.unwrap();
        let Some(at) = snapshot.tables.get("list") else { return Vec::new() };
        self.warehouse.read_all(&self.warehouse.table(at).await.unwrap()).await.unwrap()
    }
}

impl Destination for Tables {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>> {
        self.batches.lock().unwrap().push(batch.clone());
        self.inner.deliver(batch)
    }

    fn arrived<'a>(&'a self, batch: &'a BatchId) -> BoxFuture<'a, Result<Option<bool>>> {
        self.inner.arrived(batch)
    }
}

impl Replay for Tables {
    fn replay(&self) -> BoxFuture<'_, Replayed> {
        Box::pin(async {
            let mut found = Replayed::default();
            for batch in self.batches.lock().unwrap().iter().filter(|b| b.mode != SyncMode::Replace) {
                for (i, row) in of_batch(&batch.rows).into_iter().enumerate() {
                    found.apply(batch.operations[i].word(), batch.changes[i], &batch.idempotency_keys[i], row);
                }
            }
            let rows: Vec<_> = self.rows().await.iter().flat_map(of_batch).collect();
            found.table = rows.iter().map(|(k, name, n)| (*k, (name.clone(), n.unwrap()))).collect();
            assert_eq!(found.table.len(), rows.len(), "a key stands twice: {rows:?}");
            found
        })
    }
}

type Row = BTreeMap<String, Option<String>>;

fn text(row: &Row, name: &str) -> Option<String> {
    row.get(name).unwrap_or_else(|| panic!("no {name}: {row:?}")).clone()
}

fn int(row: &Row, name: &str) -> Option<i64> {
    text(row, name).map(|t| t.parse().unwrap())
}

fn changes_of(format: FileFormat, bytes: &[u8]) -> Vec<(String, i64, String, (i64, Option<String>, Option<i64>))> {
    rows_of(format, bytes)
        .into_iter()
        .map(|r| {
            let row = (int(&r, "id").unwrap(), text(&r, "name"), int(&r, "n"));
            (text(&r, "_operation").unwrap(), int(&r, "_change").unwrap(), text(&r, "_idempotency_key").unwrap(), row)
        })
        .collect()
}

fn rows_of(format: FileFormat, bytes: &[u8]) -> Vec<Row> {
    match format {
        FileFormat::Csv => {
            let mut reader = csv::Reader::from_reader(bytes);
            reader
                .deserialize::<BTreeMap<String, String>>()
                .map(|r| r.unwrap().into_iter().map(|(k, v)| (k, (!v.is_empty()).then_some(v))).collect())
                .collect()
        }
        FileFormat::Ndjson => bytes
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| {
                let row: BTreeMap<String, serde_json::Value> = serde_json::from_slice(l).unwrap();
                row.into_iter()
                    .map(|(k, v)| match v {
                        serde_json::Value::Null => (k, None),
                        serde_json::Value::String(s) => (k, Some(s)),
                        other => (k, Some(other.to_string())),
                    })
                    .collect()
            })
            .collect(),
        FileFormat::Parquet => {
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            reader.flat_map(|b| rows_of_batch(&b.unwrap())).collect()
        }
    }
}

fn rows_of_batch(batch: &RecordBatch) -> Vec<Row> {
    let schema = batch.schema();
    let column = |c: &ArrayRef| deltalake_core::arrow::compute::cast(c, &DataType::Utf8).unwrap();
    let columns: Vec<(String, ArrayRef)> =
        schema.fields().iter().zip(batch.columns()).map(|(f, c)| (f.name().clone(), column(c))).collect();
    (0..batch.num_rows())
        .map(|i| {
            let value = |c: &ArrayRef| c.is_valid(i).then(|| c.as_string::<i32>().value(i).to_owned());
            columns.iter().map(|(n, c)| (n.clone(), value(c))).collect()
        })
        .collect()
}

// --- the suite that every destination passes ---

async fn suite(make: impl Fn() -> Box<dyn Replay>) {
    changes_only(make().as_ref()).await;
    mirrors(make().as_ref()).await;
    replaces(make().as_ref()).await;
    inserts_and_updates(make().as_ref()).await;
}

async fn changes_only(to: &dyn Replay) {
    let mut house = House::new();
    let outcome = house.run(to, SyncMode::Upsert, &table(&[(1, "a", 1), (2, "", 2)])).await;
    assert!(outcome.first && outcome.state.is_some() && outcome.failure.is_none());
    assert_eq!((outcome.counts.inserted, outcome.counts.acknowledged), (2, 2));
    // The same again: nothing.
    let outcome = house.run(to, SyncMode::Upsert, &table(&[(1, "a", 1), (2, "", 2)])).await;
    assert_eq!((outcome.counts.unchanged, outcome.counts.sent), (2, 0));
    assert!(!outcome.first && outcome.state.is_none());
    // One changed, one new, one left (which an upsert leaves alone).
    let outcome = house.run(to, SyncMode::Upsert, &table(&[(1, "b", 1), (3, "c", 3)])).await;
    let counts = outcome.counts;
    assert_eq!((counts.inserted, counts.updated, counts.deleted, counts.sent), (1, 1, 0, 2));
    assert_eq!(to.replay().await.table, table(&[(1, "b", 1), (2, "", 2), (3, "c", 3)]));
    // Back to what it was: a third change of key 1, with a name of its own.
    house.run(to, SyncMode::Upsert, &table(&[(1, "a", 1), (3, "c", 3)])).await;
    let found = to.replay().await;
    assert_eq!(found.table[&1], (Some("a".to_owned()), 1));
    assert_eq!(found.deliveries.len(), 5);
    // All again on demand.
    house.full = true;
    let outcome = house.run(to, SyncMode::Upsert, &table(&[(1, "a", 1), (3, "c", 3)])).await;
    assert_eq!(outcome.counts.updated, 2);
}

async fn mirrors(to: &dyn Replay) {
    let mut house = House::new();
    house.run(to, SyncMode::Mirror, &table(&[(1, "a", 1), (2, "b", 2), (3, "c", 3)])).await;
    let outcome = house.run(to, SyncMode::Mirror, &table(&[(2, "b", 2)])).await;
    assert_eq!(outcome.counts.deleted, 2);
    assert_eq!(to.replay().await.table, table(&[(2, "b", 2)]));
    let outcome = house.run(to, SyncMode::Mirror, &table(&[(2, "b", 2)])).await;
    assert_eq!(outcome.counts.sent, 0);
    // What comes back is inserted under a new number.
    house.run(to, SyncMode::Mirror, &table(&[(1, "a", 1), (2, "b", 2)])).await;
    let found = to.replay().await;
    assert_eq!(found.table, table(&[(1, "a", 1), (2, "b", 2)]));
    assert!(found.deliveries.values().any(|d| d[0].starts_with("insert 3 (1,")), "{found:?}");
    house.run(to, SyncMode::Mirror, &Table::new()).await;
    assert_eq!(to.replay().await.table, Table::new());
}

async fn replaces(to: &dyn Replay) {
    let mut house = House::new();
    for rows in [table(&[]), table(&[(1, "a", 1)]), table(&[(2, "b", 2), (3, "", 3)]), table(&[(3, "", 3)])] {
        let outcome = house.run(to, SyncMode::Replace, &rows).await;
        assert_eq!(outcome.counts.sent, outcome.counts.acknowledged);
        assert_eq!(to.replay().await.table, rows);
    }
}

async fn inserts_and_updates(to: &dyn Replay) {
    let mut house = House::new();
    house.run(to, SyncMode::Insert, &table(&[(1, "a", 1)])).await;
    let outcome = house.run(to, SyncMode::Insert, &table(&[(1, "b", 1), (2, "c", 2)])).await;
    assert_eq!((outcome.counts.ignored, outcome.counts.inserted), (1, 1));
    assert_eq!(to.replay().await.table, table(&[(1, "a", 1), (2, "c", 2)]));
    let outcome = house.run(to, SyncMode::Update, &table(&[(1, "b", 1), (2, "c", 2)])).await;
    assert_eq!((outcome.counts.updated, outcome.counts.inserted), (1, 0));
}

#[tokio::test]
async fn memory_passes_the_suite() {
    suite(|| Box::new(Memory::default())).await;
}

#[tokio::test]
async fn files_pass_the_suite() {
    for format in [FileFormat::Parquet, FileFormat::Csv, FileFormat::Ndjson] {
        suite(|| Box::new(Files::new(format))).await;
    }
}

#[tokio::test]
async fn delta_passes_the_suite() {
    suite(|| Box::new(Tables::new())).await;
}

#[tokio::test]
async fn a_delta_batch_whose_answer_was_lost_is_found_and_not_written_twice() {
    let to = Tables::new();
    let batch = |number| BatchId { sync: "list".to_owned(), epoch: 1, number };
    assert_eq!(to.arrived(&batch(1)).await.unwrap(), Some(false));
    let mut house = House::new();
    house.run(&to, SyncMode::Append, &table(&[(1, "a", 1), (2, "b", 2)])).await;
    assert_eq!(to.arrived(&batch(1)).await.unwrap(), Some(true));
    assert_eq!(to.arrived(&batch(2)).await.unwrap(), Some(false));
    // the state of that run was never committed: its log says that a batch was planned, and answered
    let mut next = House { log: house.log.clone(), epoch: house.epoch, ..House::new() };
    next.run(&to, SyncMode::Append, &table(&[(1, "a", 1), (2, "c", 2)])).await;
    let rows: Vec<_> = to.rows().await.iter().flat_map(of_batch).collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
}

#[tokio::test]
async fn a_merge_writes_only_files_that_hold_a_key() {
    let to = Tables::new();
    let mut house = House { rows_per_batch: Some(2), ..House::new() };
    // a file a batch
    house.run(&to, SyncMode::Mirror, &table(&[(2, "b", 2), (4, "d", 4), (1, "a", 1), (3, "c", 3)])).await;
    let files = async || {
        let at = to.warehouse.snapshot(None).await.unwrap().tables["list"].clone();
        let table = to.warehouse.table(&at).await.unwrap();
        table.files.iter().map(|f| f.name.clone()).collect::<BTreeSet<_>>()
    };
    let before = files().await;
    assert_eq!(before.len(), 2, "{before:?}");
    house.run(&to, SyncMode::Mirror, &table(&[(1, "x", 1), (2, "b", 2), (3, "c", 3), (4, "d", 4)])).await;
    let after = files().await;
    assert_eq!(before.intersection(&after).count(), 1, "{before:?} {after:?}");
    assert_eq!(to.replay().await.table, table(&[(1, "x", 1), (2, "b", 2), (3, "c", 3), (4, "d", 4)]));
    // nothing to take away: the table keeps its version
    let version = to.warehouse.snapshot(None).await.unwrap().tables["list"].version;
    house
        .run(&to, SyncMode::Update, &table(&[(1, "x", 1), (2, "b", 2), (3, "c", 3), (4, "d", 4), (9, "new", 9)]))
        .await;
    assert_eq!(to.warehouse.snapshot(None).await.unwrap().tables["list"].version, version);
}

#[tokio::test]
async fn delta_takes_no_row_from_a_key_that_is_there_or_is_not() {
    let to = Tables::new();
    let mut house = House::new();
    house.run(&to, SyncMode::Upsert, &table(&[(1, "a", 1)])).await;
    // another sync's life at the same table knows nothing of these rows
    let mut other = House::new();
    other.run(&to, SyncMode::Insert, &table(&[(1, "other", 1), (2, "b", 2)])).await;
    assert_eq!(to.replay().await.table, table(&[(1, "a", 1), (2, "b", 2)]));
}

/// One batch of rows under keys from 1 on, by hand.
async fn sends(to: &Tables, number: u32, columns: Vec<(&str, ArrayRef)>) -> Result<Delivery> {
    let rows = columns[0].1.len();
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=i64::try_from(rows).unwrap()));
    let batch = Batch {
        id: BatchId { sync: "list".to_owned(), epoch: 1, number },
        mode: SyncMode::Upsert,
        rows: RecordBatch::try_from_iter([("id", keys)].into_iter().chain(columns)).unwrap(),
        operations: vec![Operation::Insert; rows],
        changes: vec![1; rows],
        idempotency_keys: vec!["k".to_owned(); rows],
        merged_into: vec![None; rows],
    };
    to.deliver(&batch).await
}

#[tokio::test]
async fn a_delta_table_is_widened_and_never_narrowed() {
    let to = Tables::new();
    let small = |values: &[i32]| Arc::new(Int32Array::from(values.to_vec())) as ArrayRef;
    let large = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    sends(&to, 1, vec![("n", small(&[1, 2, 3]))]).await.unwrap();
    // a larger number, and a column that is new; the row that is not sent again keeps its value
    sends(&to, 2, vec![("n", large(&[1 << 40, 5])), ("word", text(&["a", "b"]))]).await.unwrap();
    // smaller numbers fit, and a column that is not sent is null
    sends(&to, 3, vec![("n", small(&[7]))]).await.unwrap();
    let refused = sends(&to, 4, vec![("n", text(&["x"]))]).await.unwrap_err().to_string();
    assert!(refused.contains("column `n` of table `list` is Int64"), "{refused}");
    let mut rows = Vec::new();
    for batch in to.rows().await {
        let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["id", "n", "word"]);
        let numbers = |at: usize| batch.column(at).as_primitive::<Int64Type>();
        let words = batch.column(2).as_string::<i32>();
        rows.extend((0..batch.num_rows()).map(|row| {
            let word = words.is_valid(row).then(|| words.value(row).to_owned());
            (numbers(0).value(row), numbers(1).value(row), word)
        }));
    }
    rows.sort();
    assert_eq!(rows, [(1, 7, None), (2, 5, Some("b".to_owned())), (3, 3, None)]);
}

// --- what goes wrong ---

#[tokio::test]
async fn too_many_deletes_are_refused_before_anything_is_sent() {
    let to = Memory::default();
    let mut house = House::new();
    let all: Table = (0..20).map(|k| (k, (None, k))).collect();
    house.run(&to, SyncMode::Mirror, &all).await;
    let sent = to.batches.lock().unwrap().len();
    house.max_delete_percent = 10.0;
    let log = house.log.clone();
    let mut fewer = all.clone();
    fewer.retain(|k, _| *k > 2);
    fewer.insert(99, (None, 99));
    let error = house.attempt(&log, &to, SyncMode::Mirror, &fewer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("3 of 20 rows") && error.to_string().contains("15.0 %"), "{error}");
    assert!(error.help().unwrap().contains("max_delete"));
    assert_eq!(to.batches.lock().unwrap().len(), sent);
    fewer.insert(2, (None, 2));
    assert_eq!(house.run(&to, SyncMode::Mirror, &fewer).await.counts.deleted, 2);
}

#[tokio::test]
async fn keys_must_name_rows() {
    let house = House::new();
    let to = Memory::default();
    let twice = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 1])) as ArrayRef)]).unwrap();
    let none =
        RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![None, Some(1)])) as ArrayRef)]).unwrap();
    let ours = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("_operation", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
    ])
    .unwrap();
    for (rows, kind) in [(twice, ErrorKind::Data), (none, ErrorKind::Data), (ours, ErrorKind::Usage)] {
        let schema = rows.schema();
        let request = SyncRequest {
            sync: "list",
            destination: "lake",
            mode: SyncMode::Upsert,
            full: false,
            reset: false,
            max_delete_percent: 10.0,
            retry_rejected: false,
            fail_above_percent: None,
            rows_per_batch: None,
            pacing: Pacing::default(),
            secret: [0; 32],
            epoch: 1,
            now: DateTime::UNIX_EPOCH,
            schema,
            withdrawn: &NOBODY,
            merged: &NONE,
            hold: false,
        };
        let error = run_sync(&house.log, &to, &request, incoming(vec![rows]), Previous::none()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.help().is_some());
    }
}

#[tokio::test]
async fn rejected_rows_stay_visible_and_are_tried_again_when_that_can_help() {
    let to = Memory::default();
    *to.refused.lock().unwrap() = BTreeMap::from([(13, false), (14, true)]);
    let mut house = House::new();
    let rows = table(&[(1, "a", 1), (2, "b", 13), (3, "c", 14)]);
    let outcome = house.run(&to, SyncMode::Upsert, &rows).await;
    assert_eq!((outcome.counts.acknowledged, outcome.counts.rejected), (1, 2));
    let reasons = outcome.state.as_ref().unwrap().column_by_name("last_error").unwrap();
    assert_eq!(reasons.null_count(), 1);
    // The one for now is sent again under its number; the one for good waits until it changes.
    to.refused.lock().unwrap().remove(&14);
    let outcome = house.run(&to, SyncMode::Upsert, &rows).await;
    assert_eq!((outcome.counts.sent, outcome.counts.acknowledged, outcome.counts.waiting), (1, 1, 1));
    let found = to.replay().await;
    assert!(found.deliveries.values().all(|d| d.iter().all(|text| text == &d[0])), "{found:?}");
    let outcome = house.run(&to, SyncMode::Upsert, &table(&[(1, "a", 1), (2, "b", 2), (3, "c", 14)])).await;
    assert_eq!((outcome.counts.inserted, outcome.counts.acknowledged), (1, 1));
    let attempts = outcome
        .state
        .as_ref()
        .unwrap()
        .column_by_name("attempt")
        .unwrap()
        .as_primitive::<Int64Type>()
        .values()
        .to_vec();
    assert_eq!(attempts, [1, 1, 2]);
}

#[tokio::test]
async fn a_failed_batch_ends_the_run_and_the_next_run_sends_the_rest() {
    let to = Memory::default();
    let mut house = House::new();
    let rows: Table = (0..8).map(|k| (k, (None, k))).collect();
    *to.silent.lock().unwrap() = Some(2);
    let outcome = house.run(&to, SyncMode::Upsert, &rows).await;
    assert!(outcome.failure.is_some());
    assert_eq!((outcome.counts.sent, outcome.counts.acknowledged), (6, 3));
    *to.silent.lock().unwrap() = None;
    let outcome = house.run(&to, SyncMode::Upsert, &rows).await;
    assert_eq!((outcome.counts.unchanged, outcome.counts.sent, outcome.counts.acknowledged), (3, 5, 5));
    let found = to.replay().await;
    assert_eq!(found.table, rows);
    let twice = found.deliveries.values().filter(|d| d.len() == 2 && d[0] == d[1]).count();
    assert_eq!(twice, 3);
}

#[tokio::test]
async fn what_may_have_arrived_is_deleted_though_its_next_try_was_refused() {
    for life in ["refused", "not sent"] {
        let to = Memory::default();
        let mut house = House::new();
        let rows = table(&[(1, "a", 1)]);
        *to.silent.lock().unwrap() = Some(1);
        house.run(&to, SyncMode::Mirror, &rows).await;
        *to.silent.lock().unwrap() = None;
        if life == "refused" {
            *to.refused.lock().unwrap() = BTreeMap::from([(1, false)]);
            house.run(&to, SyncMode::Mirror, &rows).await;
            to.refused.lock().unwrap().clear();
        } else {
            // the first of two lanes fails; the row of the lost answer is in the batch that waits
            let more: Table = (-5..=1).map(|k| (k, (None, k))).collect();
            house.rows_per_batch = Some(1);
            *to.silent.lock().unwrap() = Some(1);
            house.run(&to, SyncMode::Mirror, &more).await;
            *to.silent.lock().unwrap() = None;
            house.rows_per_batch = None;
        }
        let outcome = house.run(&to, SyncMode::Mirror, &Table::new()).await;
        assert!(outcome.counts.deleted >= 1, "{life}: {:?}", outcome.counts);
        assert_eq!(to.replay().await.table, Table::new(), "{life}");
        assert_eq!(house.run(&to, SyncMode::Mirror, &Table::new()).await.counts.deleted, 0, "once is enough");
    }
}

#[tokio::test]
async fn of_rows_that_are_held_back_only_deletes_are_sent() {
    for (mode, stay) in [
        (SyncMode::Mirror, table(&[(1, "a", 1), (2, "b", 2)])),
        (SyncMode::Upsert, table(&[(1, "a", 1), (2, "b", 2), (3, "c", 3)])),
        // a table that is replaced has the present values of who is there
        (SyncMode::Replace, table(&[(1, "a", 1), (2, "new", 2)])),
    ] {
        let to = Memory::default();
        let mut house = House::new();
        house.hold = true;
        let outcome = house.run(&to, mode, &table(&[(1, "a", 1)])).await;
        assert_eq!((outcome.counts.withheld, to.batches.lock().unwrap().len()), (1, 0), "{mode:?}");
        house.hold = false;
        house.run(&to, mode, &table(&[(1, "a", 1), (2, "b", 2), (3, "c", 3)])).await;
        house.hold = true;
        let outcome = house.run(&to, mode, &table(&[(1, "a", 1), (2, "new", 2), (4, "d", 4)])).await;
        assert_eq!((outcome.counts.withheld, outcome.counts.inserted, outcome.counts.updated), (3, 0, 0), "{mode:?}");
        assert_eq!(to.replay().await.table, stay, "{mode:?}");
    }
}

#[tokio::test]
async fn another_place_knows_nothing() {
    let (old, new) = (Files::new(FileFormat::Csv), Memory::default());
    let mut house = House::new();
    let rows = table(&[(1, "a", 1), (2, "b", 2)]);
    house.run(&old, SyncMode::Mirror, &rows).await;
    let rows = table(&[(1, "a", 1)]);
    let outcome = house.run(&new, SyncMode::Mirror, &rows).await;
    assert!(outcome.first);
    assert_eq!((outcome.counts.inserted, outcome.counts.deleted), (1, 0));
    assert_eq!(new.replay().await.table, rows);
    // So do a table that is replaced and files of changes.
    let outcome = house.run(&new, SyncMode::Replace, &rows).await;
    assert!(outcome.first);
    assert_eq!(new.replay().await.table, rows);
}

// --- killed at any write, at random ---

/// A small generator of numbers: the same seed gives the same sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn rows(&mut self, last: &Table, leave: bool) -> Table {
        let mut rows = last.clone();
        for key in 0..9 {
            match self.below(6) {
                0 if leave => {
                    rows.remove(&key);
                }
                1 | 2 => {
                    let name = (self.below(3) > 0).then(|| "ab".to_owned());
                    rows.insert(key, (name, i64::try_from(self.below(2)).unwrap()));
                }
                _ => {}
            }
        }
        rows
    }
}

/// Runs a random life of a sync with kills, ends with a whole run, and returns the last rows and the kills.
async fn random_life(
    seed: u64,
    mode: SyncMode,
    make: &dyn Fn(Option<Arc<AtomicI64>>, bool) -> Arc<dyn Replay>,
) -> (Table, usize) {
    let mut random = Random(seed * 2 + 1);
    for _ in 0..20 {
        random.below(2);
    }
    let mut house = House::new();
    house.rows_per_batch = Some(4);
    let (mut rows, mut kills) = (Table::new(), 0);
    for step in 0..12 {
        rows = random.rows(&rows, mode != SyncMode::Upsert);
        if step == 11 || random.below(3) == 0 {
            house.run(make(None, false).as_ref(), mode, &rows).await;
            continue;
        }
        let left = Arc::new(AtomicI64::new(i64::try_from(random.below(9)).unwrap()));
        let lands = random.below(2) == 0;
        let inner = Arc::clone(house.log.store());
        let log = State::new(Arc::new(Faulty::dying(&inner, &left, lands)), Path::from("w"));
        let outcome = house.attempt(&log, make(Some(Arc::clone(&left)), lands).as_ref(), mode, &rows).await;
        let died = left.load(Ordering::SeqCst) <= 0;
        kills += usize::from(died);
        // A process that lived may still fail to commit its state.
        if let Ok(outcome) = outcome
            && !died
            && random.below(2) == 0
            && let Some(state) = outcome.state
        {
            house.previous = vec![state];
        }
    }
    (rows, kills)
}

#[tokio::test]
async fn files_hold_the_last_rows_and_each_change_once_whatever_was_killed() {
    let mut kills = 0;
    for seed in 0..12 {
        let format = [FileFormat::Parquet, FileFormat::Csv, FileFormat::Ndjson][usize::try_from(seed % 3).unwrap()];
        for mode in [SyncMode::Upsert, SyncMode::Mirror, SyncMode::Replace] {
            let files = Files::new(format);
            let store = Arc::clone(&files.store);
            let make = |left: Option<Arc<AtomicI64>>, lands: bool| -> Arc<dyn Replay> {
                let inner = Arc::clone(&store);
                let used: Arc<dyn ObjectStore> = match left {
                    Some(left) => Arc::new(Faulty::dying(&inner, &left, lands)),
                    None => inner,
                };
                let inner = FilesDestination::with_state(State::new(Arc::clone(&used), Path::from("out")), format);
                Arc::new(Files { store: used, inner, format })
            };
            let (rows, killed) = random_life(seed, mode, &make).await;
            kills += killed;
            let found = files.read().await;
            assert_eq!(found.table, rows, "seed {seed}, {mode:?}");
            assert!(found.deliveries.values().all(|d| d.len() == 1), "seed {seed}, {mode:?}: {found:?}");
        }
    }
    assert!(kills > 60, "{kills}");
}

#[derive(Debug)]
struct Shared(Arc<Memory>, Option<Arc<AtomicI64>>, bool);

impl Destination for Shared {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>> {
        Box::pin(async move {
            let before = self.1.as_ref().map_or(i64::MAX, |left| left.fetch_sub(1, Ordering::SeqCst));
            if before > 1 || (before == 1 && self.2) {
                self.0.deliver(batch).await?;
            }
            if before > 1 { Ok(Delivery::All) } else { Err(Error::new(ErrorKind::Storage, "killed")) }
        })
    }
}

impl Replay for Shared {
    fn replay(&self) -> BoxFuture<'_, Replayed> {
        self.0.replay()
    }
}

#[tokio::test]
async fn where_nothing_is_remembered_a_kill_repeats_at_most_one_batch_under_its_names() {
    for seed in 0..12 {
        for mode in [SyncMode::Upsert, SyncMode::Mirror, SyncMode::Append] {
            let memory = Arc::new(Memory::default());
            let make = |left: Option<Arc<AtomicI64>>, lands: bool| -> Arc<dyn Replay> {
                Arc::new(Shared(Arc::clone(&memory), left, lands))
            };
            let (rows, kills) = random_life(seed, mode, &make).await;
            let found = memory.replay().await;
            if mode == SyncMode::Mirror {
                assert_eq!(found.table, rows, "seed {seed}");
            }
            assert!(rows.iter().all(|(k, v)| found.table.get(k) == Some(v)), "seed {seed}, {mode:?}");
            for (name, deliveries) in &found.deliveries {
                let contents: BTreeSet<&String> = deliveries.iter().collect();
                assert_eq!(contents.len(), 1, "seed {seed}, {mode:?}: {name} stands for two changes");
            }
            let repeated: usize = found.deliveries.values().map(|d| d.len() - 1).sum();
            assert!(repeated <= kills * 3, "seed {seed}, {mode:?}: {repeated} rows after {kills} kills");
        }
    }
}
