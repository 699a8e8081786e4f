//! Delta tables of other programs as sources. The tables are written by hand, so that every action of their logs is known;
//! `external.rs` has those that delta-rs writes.

use crate::support::Project;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: visits, path: visits, format: delta}
";
const BY_TOWN: &str = "SELECT town, sum(amount) AS amount, count(*) AS visits FROM shop.visits GROUP BY town";
const GROWN: &str = "materialized: incremental\nunique_key: town\n";

/// A Delta table written by hand.
struct Table {
    folder: PathBuf,
    version: u64,
}

impl Table {
    /// An empty table of `town` (text) and `amount` (bigint), and further columns.
    fn new(project: &Project, folder: &str, partitions: &[(&str, &str)], configuration: Value) -> Self {
        let mut table = Self { folder: project.path(folder), version: 0 };
        table.commit(&[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            meta("t1", partitions, configuration),
        ]);
        table
    }

    /// Writes the next entry of the log.
    fn commit(&mut self, actions: &[Value]) {
        let log = self.folder.join("_delta_log");
        std::fs::create_dir_all(&log).unwrap();
        let text = actions.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        std::fs::write(log.join(format!("{:020}.json", self.version)), text).unwrap();
        self.version += 1;
    }

    /// Writes a data file; what it returns adds it to the table.
    fn file(&self, name: &str, rows: &[(&str, i64)], partitions: Value) -> Value {
        let towns: ArrayRef = Arc::new(rows.iter().map(|(town, _)| Some(*town)).collect::<StringArray>());
        let amounts: ArrayRef = Arc::new(rows.iter().map(|(_, amount)| *amount).collect::<Int64Array>());
        let batch = RecordBatch::try_from_iter([("town", towns), ("amount", amounts)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let stats = json!({"numRecords": rows.len()}).to_string();
        json!({"add": {"path": name, "partitionValues": partitions, "size": bytes.len(), "modificationTime": 1_760_000_000_000_u64,
                       "dataChange": true, "stats": stats}})
    }

    /// Rows come in a file of their own.
    fn append(&mut self, name: &str, rows: &[(&str, i64)]) {
        let add = self.file(name, rows, json!({}));
        self.commit(&[add]);
    }

    /// Rows move from some files to another.
    fn optimize(&mut self, from: &[&str], to: &str, rows: &[(&str, i64)]) {
        let mut add = self.file(to, rows, json!({}));
        add["add"]["dataChange"] = false.into();
        let removes = from.iter().map(|name| remove(name, false));
        self.commit(&removes.chain([add]).collect::<Vec<_>>());
    }
}

fn meta(id: &str, more: &[(&str, &str)], configuration: Value) -> Value {
    let field =
        |(name, data_type): &(&str, &str)| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}});
    let fields: Vec<Value> = [("town", "string"), ("amount", "long")].iter().chain(more).map(field).collect();
    let partitions: Vec<&str> = more.iter().map(|(name, _)| *name).collect();
    json!({"metaData": {"id": id, "format": {"provider": "parquet", "options": {}}, "partitionColumns": partitions,
                        "schemaString": json!({"type": "struct", "fields": fields}).to_string(),
                        "configuration": configuration, "createdTime": 1_760_000_000_000_u64}})
}

fn remove(name: &str, data_change: bool) -> Value {
    json!({"remove": {"path": name, "deletionTimestamp": 1_760_000_000_000_u64, "dataChange": data_change}})
}

/// A project with one model, and its table with two visits in one file.
fn shop(yaml: &str) -> (Project, Table) {
    let project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: 2026-03-31\n"),
        ("sources.yaml", SOURCES),
        ("models/towns.sql", BY_TOWN),
        ("models/towns.yaml", yaml),
    ]);
    let mut table = Table::new(&project, "data/visits", &[], json!({}));
    table.append("a.parquet", &[("Rome", 1), ("Oslo", 2)]);
    (project, table)
}

fn towns(project: &Project) -> Vec<String> {
    project.lines("SELECT town, amount, visits FROM towns ORDER BY town").split_off(1)
}

/// What became of the model in the last run: `built`, or `unchanged`.
fn status(project: &Project) -> String {
    project.lines("SELECT status FROM kinfold.nodes WHERE run = (SELECT max(run) FROM kinfold.nodes)").remove(1)
}

fn versions(project: &Project) -> Vec<String> {
    project.lines("SELECT DISTINCT split_part(stamp, ' ', 2) AS version FROM kinfold.files").split_off(1)
}

#[test]
fn rows_of_the_newest_version_are_read() {
    let (project, mut table) = shop("materialized: table\n");
    // what no version names is no part of it
    table.file("stray.parquet", &[("Paris", 9)], json!({}));
    project.kinfold(&["run"]).exits(0);
    assert_eq!(towns(&project), ["Oslo,2,1", "Rome,1,1"]);
    assert_eq!(versions(&project), ["1"]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(status(&project), "unchanged");
    table.append("b.parquet", &[("Rome", 4)]);
    let plan = project.kinfold(&["plan"]).exits(0);
    assert!(plan.stdout.contains("1 new file"), "{plan}");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(towns(&project), ["Oslo,2,1", "Rome,5,2"]);
    // a delete rewrites a file, and is no file that is missed
    let kept = table.file("c.parquet", &[("Oslo", 2)], json!({}));
    table.commit(&[remove("a.parquet", true), kept]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(towns(&project), ["Oslo,2,1", "Rome,4,1"]);
    table.commit(&[remove("b.parquet", true), remove("c.parquet", true)]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(towns(&project), Vec::<String>::new(), "an empty table is a table");
    table.append("d.parquet", &[("Rome", 7)]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!((towns(&project), versions(&project)), (vec!["Rome,7,1".to_owned()], vec!["5".to_owned()]));
}

#[test]
fn rows_that_only_move_change_nothing() {
    let (project, mut table) = shop(GROWN);
    table.append("b.parquet", &[("Rome", 4)]);
    project.kinfold(&["run"]).exits(0);
    table.optimize(&["a.parquet", "b.parquet"], "c.parquet", &[("Rome", 1), ("Oslo", 2), ("Rome", 4)]);
    let plan = project.kinfold(&["plan"]).exits(0);
    assert!(plan.stdout.contains("nothing changed for 1 model"), "nothing came: {plan}");
    project.kinfold(&["run"]).exits(0);
    assert_eq!((status(&project).as_str(), versions(&project)), ("unchanged", vec!["3".to_owned()]));
    // rows move and come: only those that came are new
    table.append("d.parquet", &[("Rome", 8)]);
    table.optimize(&["c.parquet"], "e.parquet", &[("Rome", 1), ("Oslo", 2), ("Rome", 4)]);
    let outcome = project.kinfold(&["run"]).exits(0);
    assert!(outcome.stdout.contains("towns: 1 key made again, with 1 row"), "{outcome}");
    assert_eq!(towns(&project), ["Oslo,2,1", "Rome,13,3"]);
    // what came was moved at once: nobody can say which rows of the new file it is
    table.append("f.parquet", &[("Oslo", 1)]);
    table.optimize(&["e.parquet", "f.parquet"], "g.parquet", &[("Rome", 1), ("Oslo", 2), ("Rome", 4), ("Oslo", 1)]);
    let outcome = project.kinfold(&["run"]).exits(0);
    assert!(outcome.stdout.contains("towns: made whole"), "{outcome}");
    assert_eq!(towns(&project), ["Oslo,3,2", "Rome,13,3"]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(status(&project), "unchanged");
}

#[test]
fn a_log_that_does_not_reach_back_is_told() {
    let (project, mut table) = shop("materialized: table\n");
    project.kinfold(&["run"]).exits(0);
    table.optimize(&["a.parquet"], "b.parquet", &[("Rome", 1), ("Oslo", 2)]);
    // another table at the place, at a version that is not less
    std::fs::remove_dir_all(project.path("data/visits/_delta_log")).unwrap();
    let mut other = Table { folder: table.folder.clone(), version: 0 };
    let add = other.file("z.parquet", &[("Bern", 3)], json!({}));
    other.commit(&[
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        meta("t2", &[], json!({})),
        add,
    ]);
    project.kinfold(&["run"]).exits(0).says(&[
        "`shop.visits` is at version 0",
        "not the one of version 1",
        "count as changed",
    ]);
    assert_eq!(towns(&project), ["Bern,3,1"]);
}

#[test]
fn a_column_that_comes_without_a_file_is_a_change() {
    let (project, mut table) = shop("materialized: table\n");
    project.write("models/all.sql", "SELECT * FROM shop.visits");
    project.kinfold(&["run"]).exits(0);
    table.commit(&[meta("t1", &[("note", "string")], json!({}))].map(|mut meta| {
        meta["metaData"]["partitionColumns"] = json!([]);
        meta
    }));
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.lines("SELECT town, note FROM \"all\" ORDER BY town"), ["town,note", "Oslo,", "Rome,"]);
}

#[test]
fn partition_values_are_those_of_the_log() {
    let (project, _) = shop("materialized: table\n");
    let mut table = Table::new(&project, "data/days", &[("day", "date"), ("place", "string")], json!({}));
    let values = |day: Value, place: Value| json!({"day": day, "place": place});
    let adds = [
        table.file("1.parquet", &[("Rome", 1)], values("2026-03-01".into(), "a/b %25 'c'".into())),
        table.file("day=2026-01-01/2.parquet", &[("Rome", 2)], values("2026-03-02".into(), "x".into())),
        table.file("3.parquet", &[("Rome", 3)], values(Value::Null, "".into())),
    ];
    table.commit(&adds);
    project.write("sources.yaml", &format!("{SOURCES}      - {{name: days, path: days/, format: delta, time: day}}\n"));
    project.write("models/days.sql", "SELECT * FROM shop.days");
    project.kinfold(&["run"]).exits(0);
    let rows = project.lines("SELECT town, amount, day, place FROM days ORDER BY amount").split_off(1);
    assert_eq!(rows, ["Rome,1,2026-03-01,a/b %25 'c'", "Rome,2,2026-03-02,x", "Rome,3,,"]);
    let columns = project.lines("SELECT * FROM shop.days LIMIT 0");
    assert_eq!(columns, ["town,amount,day,place"]);
    let some = "SELECT amount FROM shop.days WHERE day IS NULL OR day > DATE '2026-03-01'";
    assert_eq!(project.lines(some), ["amount", "2", "3"]);
    // a filter over partitions leaves out the files of others: this one could not be read
    let bytes = std::fs::read(table.folder.join("1.parquet")).unwrap().len();
    std::fs::write(table.folder.join("1.parquet"), vec![b'x'; bytes]).unwrap();
    let filter = "SELECT amount FROM shop.days WHERE day = DATE '2026-03-02' AND amount > 0";
    assert_eq!(project.lines(filter), ["amount", "2"]);
    project.kinfold(&["query", "SELECT amount FROM shop.days"]).exits(1);
}

#[test]
fn what_the_table_says_of_its_rows_holds() {
    let (project, mut table) = shop("materialized: table\n");
    project.write(
        "sources.yaml",
        &SOURCES
            .replace("format: delta", "format: delta, row_id: town, version: amount, select: {where: amount < 100}"),
    );
    table.append("b.parquet", &[("Rome", 5), ("Rome", 500), ("Oslo", 1)]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(towns(&project), ["Oslo,2,1", "Rome,5,1"], "the greatest version below a hundred");
    project.write("sources.yaml", &SOURCES.replace("format: delta", "format: delta, dedupe: {by: town}"));
    project.kinfold(&["run"]).exits(0);
    assert_eq!(towns(&project), ["Oslo,1,1", "Rome,1,1"], "equal times: the smallest row stays");
}

#[test]
fn partial_states_of_files_are_kept_while_their_files_are_there() {
    let (project, mut table) = shop("materialized: table\n");
    project.write("kinfold.yaml", "name: shop\nas_of: 2026-03-31\npartials: true\n");
    project.write(
        "models/town.yaml",
        "kind: identity\nname: place\nidentifiers: {town: {}}\nlinks: [{from: shop.visits, ids: {town: town}}]\n",
    );
    project.write("models/profile.yaml", "kind: profile\nname: place_profile\nidentity: place\ntraits:\n  spent: {from: shop.visits, select: sum(amount)}\n  name: {from: shop.visits, select: max(town)}\n");
    let sums = || project.lines("SELECT name, spent FROM place_profile ORDER BY 1").split_off(1);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(sums(), ["Oslo,2", "Rome,1"]);
    table.append("b.parquet", &[("Rome", 4)]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(sums(), ["Oslo,2", "Rome,5"]);
    let sets = "SELECT count(*) AS n FROM kinfold.partials";
    assert_eq!(project.number(sets), 2, "one for each run that read");
    table.optimize(&["a.parquet", "b.parquet"], "c.parquet", &[("Rome", 1), ("Oslo", 2), ("Rome", 4)]);
    table.append("d.parquet", &[("Bern", 1)]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(sums(), ["Bern,1", "Oslo,2", "Rome,5"]);
    assert_eq!(project.number(sets), 1, "those of files that are no more went");
}

#[test]
fn tables_of_another_project_are_read() {
    let (project, mut table) = shop(GROWN);
    let reader = Project::of(&[
        ("kinfold.yaml", "name: reader\nas_of: 2026-03-31\n"),
        ("models/copy.sql", "SELECT * FROM other.towns"),
        ("models/runs.sql", "SELECT count(*) AS runs FROM other.runs"),
    ]);
    let warehouse = project.path("target/warehouse");
    reader.write(
        "sources.yaml",
        &format!(
            "sources:\n  - name: other\n    location: {}\n    tables:\n      - {{name: towns, path: towns, format: delta}}\n      - {{name: runs, path: kinfold/runs, format: delta}}\n",
            warehouse.display()
        ),
    );
    let rows = || reader.lines("SELECT town, amount, visits FROM copy ORDER BY town").split_off(1);
    for town in ["Bern", "Lyon"] {
        project.kinfold(&["run"]).exits(0);
        reader.kinfold(&["run"]).exits(0);
        assert_eq!(rows(), towns(&project));
        table.append(&format!("{town}.parquet"), &[(town, 1)]);
    }
    for _ in 0..10 {
        project.kinfold(&["run"]).exits(0);
    }
    reader.kinfold(&["run"]).exits(0);
    assert_eq!(rows(), ["Bern,1,1", "Lyon,1,1", "Oslo,2,1", "Rome,1,1"]);
    assert_eq!(reader.number("SELECT runs FROM runs"), 12);
    // its vacuum writes small files together, and removes old ones: no row comes or goes but the run of the vacuum
    project.write("kinfold.yaml", "name: shop\nas_of: 2026-03-31\nretention: {runs: 1, period: 1 us}\n");
    let done = project.kinfold(&["vacuum", "--apply"]).exits(0);
    assert!(done.stdout.contains("small files of kinfold.runs"), "{done}");
    reader.kinfold(&["run"]).exits(0);
    assert_eq!(reader.report()["nodes"].as_array().unwrap().len(), 0, "rows only moved");
}

#[test]
fn a_table_that_cannot_be_read_is_refused_with_a_way_out() {
    let (project, mut table) = shop("materialized: table\n");
    // written by another program: rows that are marked as deleted
    let mut add = table.file("b.parquet", &[("Rome", 4)], json!({}));
    add["add"]["deletionVector"] = json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40, "cardinality": 1});
    let features = json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
                                       "writerFeatures": ["deletionVectors"]}});
    table.commit(&[features, meta("t1", &[], json!({"delta.enableDeletionVectors": "true"}))]);
    project.kinfold(&["check"]).exits(0);
    project.kinfold(&["run"]).exits(0);
    table.commit(&[add]);
    project.kinfold(&["check"]).exits(2).says(&["K0509", "deletion vectors", "sources.yaml:5", "REORG TABLE"]);
    table.commit(&[json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["fancyRows"], "writerFeatures": ["fancyRows"]}})]);
    project.kinfold(&["check"]).exits(2).says(&["K0509", "fancyRows", "copy it"]);
}
