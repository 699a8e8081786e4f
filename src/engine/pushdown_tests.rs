//! That a fold reads only the columns and row groups that it needs, from what DataFusion counts while it reads.

use super::entities::Entities;
use super::profile::BoundProfile;
use super::{BoundModel, Engine, Resources, fold};
use crate::identity::{Interner, Spellings};
use crate::project::{LoadOptions, load};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{ExecutionPlan, collect};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// 2026-01-01 in microseconds, and a day.
const NEW_YEAR: i64 = 1_767_225_600_000_000;
const DAY: i64 = 86_400_000_000;
const ROWS: i64 = 100;

/// Four row groups of January, a week each; column `wide` is most of the file.
fn write_visits(path: &Path) {
    let mut writer: Option<ArrowWriter<std::fs::File>> = None;
    for week in 0..4_i64 {
        let text = |f: &dyn Fn(i64) -> String| Arc::new(StringArray::from_iter_values((0..ROWS).map(f))) as ArrayRef;
        let times = TimestampMicrosecondArray::from_iter_values(
            (0..ROWS).map(|row| NEW_YEAR + week * 7 * DAY + row * DAY / 20),
        );
        let batch = RecordBatch::try_from_iter([
            ("email", text(&|row| format!("{row}@x.com"))),
            ("page", text(&|row| if row % 2 == 0 { "home".to_owned() } else { "buy".to_owned() })),
            ("amount", Arc::new(Int64Array::from_iter_values(0..ROWS)) as ArrayRef),
            ("at", Arc::new(times.with_timezone("UTC")) as ArrayRef),
            ("wide", text(&|row| format!("{:x}", md5_like(week * ROWS + row)).repeat(40))),
        ])
        .unwrap();
        let writer = writer.get_or_insert_with(|| {
            ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap()
        });
        writer.write(&batch).unwrap();
        writer.flush().unwrap();
    }
    writer.unwrap().close().unwrap();
}

/// Something that does not compress.
fn md5_like(seed: i64) -> u64 {
    (seed.cast_unsigned() + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31)
}

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: visits, path: visits.parquet, format: parquet, time: at}
";

const PERSON: &str = "\
kind: identity
name: person
identifiers: {email: {normalize: email}}
links: [{from: shop.visits, ids: {email: email}}]
";

/// What was read of the file: columns, and row groups by whether they were left out.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    columns: Vec<String>,
    left_out: usize,
    kept: usize,
}

/// Folds a profile's traits over the file, and says what each of its scans read.
fn read_by(traits: &str) -> Vec<Read> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for part in ["data", "models"] {
        std::fs::create_dir(root.join(part)).unwrap();
    }
    write_visits(&root.join("data/visits.parquet"));
    let profile = format!("kind: profile\nname: p\nidentity: person\ntraits:\n{traits}");
    for (path, text) in [("sources.yaml", SOURCES), ("models/person.yaml", PERSON), ("models/p.yaml", &profile)] {
        std::fs::write(root.join(path), text).unwrap();
    }
    let loaded = load(root, &LoadOptions::default(), &|_| None);
    let project = Arc::new(loaded.project.unwrap());
    let as_of = NEW_YEAR + 28 * DAY;
    let resources = Resources { threads: 1, memory_bytes: 256 << 20 };
    let environment = BTreeMap::new();
    let mut engine = Engine::open(project, loaded.sources, root, environment, as_of, resources).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tables = BTreeSet::from(["shop.visits".to_owned()]);
        let order = ["person".to_owned(), "p".to_owned()];
        let findings = engine.bind(&tables, &order, &BTreeMap::new()).await.unwrap();
        assert!(findings.iter().all(|f| f.severity != crate::diagnostic::Severity::Error), "{findings:?}");
        let Some(BoundModel::Profile(bound)) = engine.models.get("p") else { panic!("the profile is not bound") };
        let nobody = Entities::new(Interner::new(1).freeze(), Spellings::default(), Vec::new(), Vec::new());
        engine.identity("person").unwrap().slot.fill(Arc::new(nobody));
        scans(&engine, bound).await
    })
}

async fn scans(engine: &Engine, bound: &BoundProfile) -> Vec<Read> {
    let mut reads = Vec::new();
    for group in fold::plan(&bound.tables, bound.columns.clone()).unwrap() {
        let frame = engine.context.execute_logical_plan(group.plan().clone()).await.unwrap();
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.unwrap();
        collect(Arc::clone(&plan), task).await.unwrap();
        files(&plan, &mut reads);
    }
    reads
}

fn files(plan: &Arc<dyn ExecutionPlan>, reads: &mut Vec<Read>) {
    for child in plan.children() {
        files(child, reads);
    }
    if !plan.children().is_empty() {
        return;
    }
    let mut read = Read { columns: Vec::new(), left_out: 0, kept: 0 };
    let source = plan.downcast_ref::<DataSourceExec>().unwrap();
    let (_, parquet) = source.downcast_to_file_source::<ParquetSource>().unwrap();
    // the scan computes expressions, such as whose a row is, over the columns that it takes from the file
    let expressions = parquet.projection().unwrap().expr_iter();
    let mut columns: Vec<Column> = expressions.flat_map(|e| collect_columns(&e)).collect();
    columns.sort_unstable_by_key(Column::index);
    columns.dedup();
    read.columns.extend(columns.iter().map(|column| column.name().to_owned()));
    for metric in plan.metrics().unwrap().iter() {
        if let MetricValue::PruningMetrics { name, pruning_metrics } = metric.value()
            && name == "row_groups_pruned_statistics"
        {
            read.left_out += pruning_metrics.pruned();
            read.kept += pruning_metrics.matched();
        }
    }
    reads.push(read);
}

fn read(columns: &[&str], left_out: usize, kept: usize) -> Read {
    Read { columns: columns.iter().map(|c| (*c).to_owned()).collect(), left_out, kept }
}

/// The third week ends as the fourth begins, 7 days before as_of: `>=` keeps the fourth group alone.
#[test]
fn a_window_leaves_out_row_groups_and_no_other_column_is_read() {
    let week = "  lately: {from: shop.visits, select: count(*), within: 7 days}\n";
    assert_eq!(read_by(week), [read(&["email", "at"], 3, 1)]);
    // two windows share the scan and need what the longer one needs
    let both = format!("{week}  spent: {{from: shop.visits, select: sum(amount), within: 14 days}}\n");
    assert_eq!(read_by(&both), [read(&["email", "amount", "at"], 2, 2)]);
    let one_day = "  then: {from: shop.visits, select: count(*), after: 2026-01-08, before: 2026-01-10}\n";
    assert_eq!(read_by(one_day), [read(&["email", "at"], 3, 1)]);
    let impossible = "  none: {from: shop.visits, select: count(*), where: amount > 500}\n";
    assert_eq!(read_by(impossible), [read(&["email", "amount"], 4, 0)]);
}

#[test]
fn a_trait_over_all_rows_needs_all_row_groups_but_not_all_columns() {
    let all = "  ever: {from: shop.visits, select: count(*)}\n  lately: {from: shop.visits, select: count(*), within: 7 days}\n";
    assert_eq!(read_by(all), [read(&["email", "at"], 0, 4)]);
}

#[test]
fn what_sees_its_rows_in_an_order_has_a_scan_of_its_own() {
    let ordered = "  pages: {from: shop.visits, select: \"string_agg(page, ',' ORDER BY at)\", within: 7 days}\n  ever: {from: shop.visits, select: count(*)}\n";
    let expected = [read(&["email"], 0, 4), read(&["email", "page", "at"], 3, 1)];
    assert_eq!(read_by(ordered), expected);
}
