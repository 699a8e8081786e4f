//! `vanished: keep`: rows of files that are gone stay, from copies that the warehouse has of them.

use crate::support::{Project, files};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::arrow::util::pretty::pretty_format_batches;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: visits, path: visits/, format: csv, vanished: keep, columns: {amount: {type: BIGINT}}}
";
const TOWNS: &str = "SELECT town, sum(amount) AS amount FROM shop.visits GROUP BY town";

fn shop() -> Project {
    let project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: 2026-03-31\n"),
        ("sources.yaml", SOURCES),
        ("models/towns.sql", TOWNS),
    ]);
    visits(&project, "1.csv", &["Rome,1,x", "Oslo,2,x"]);
    visits(&project, "2.csv", &["Rome,4,y"]);
    project
}

fn visits(project: &Project, file: &str, rows: &[&str]) {
    project.write(&format!("data/visits/{file}"), &format!("town,amount,note\n{}\n", rows.join("\n")));
}

fn towns(project: &Project) -> Vec<String> {
    project.lines("SELECT town, amount FROM towns ORDER BY town").split_off(1)
}

fn run(project: &Project) -> Vec<String> {
    project.kinfold(&["run"]).exits(0);
    towns(project)
}

/// What the copies hold, as text.
fn copies(project: &Project) -> String {
    let folder = project.path("target/warehouse/_kinfold/kept");
    let mut text = String::new();
    for file in files(&folder).keys() {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(folder.join(file)).unwrap()).unwrap();
        let rows: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        text += &pretty_format_batches(&rows).unwrap().to_string();
    }
    text
}

#[test]
fn rows_of_a_file_that_is_gone_stay() {
    let project = shop();
    assert_eq!(run(&project), ["Oslo,2", "Rome,5"]);
    project.remove("data/visits/1.csv");
    let plan = project.kinfold(&["plan"]).exits(0);
    assert!(plan.stdout.contains("nothing changed for 1 model"), "{plan}");
    assert_eq!(run(&project), ["Oslo,2", "Rome,5"]);
    assert!(project.built().is_empty(), "nothing changed");
    // whoever reads the table reads them, in whatever run
    assert_eq!(project.number("SELECT count(*) FROM shop.visits"), 3);
    project.write("models/towns.sql", &TOWNS.replace("sum(amount)", "max(amount)"));
    assert_eq!(run(&project), ["Oslo,2", "Rome,4"]);
    project.write("models/towns.sql", TOWNS);
    visits(&project, "3.csv", &["Bern,7,z"]);
    assert_eq!(run(&project), ["Bern,7", "Oslo,2", "Rome,5"]);
    project.kinfold(&["run", "--full"]).exits(0);
    assert_eq!(towns(&project), ["Bern,7", "Oslo,2", "Rome,5"]);
    // all of them
    project.remove("data/visits/2.csv");
    project.remove("data/visits/3.csv");
    project.kinfold(&["run", "--full"]).exits(0);
    assert_eq!(towns(&project), ["Bern,7", "Oslo,2", "Rome,5"]);
    // one comes again, as it was and then with other rows, which take the place of those it had
    visits(&project, "1.csv", &["Rome,1,x", "Oslo,2,x"]);
    assert_eq!(
        (run(&project), project.built().len()),
        (vec!["Bern,7".to_owned(), "Oslo,2".to_owned(), "Rome,5".to_owned()], 0)
    );
    visits(&project, "1.csv", &["Rome,10,x"]);
    assert_eq!(run(&project), ["Bern,7", "Rome,14"]);
    project.remove("data/visits/1.csv");
    assert_eq!(run(&project), ["Bern,7", "Rome,14"]);
}

#[test]
fn only_files_that_a_run_copied_are_kept() {
    let project = shop();
    project.write("sources.yaml", &SOURCES.replace("keep", "error"));
    run(&project);
    project.remove("data/visits/1.csv");
    project.write("sources.yaml", SOURCES);
    project.kinfold(&["run"]).exits(1).says(&["gone: `shop.visits`", "1.csv", "vanished: forget"]);
    // for one run they may go; later ones keep what is there
    project.write("sources.yaml", &SOURCES.replace("keep", "forget"));
    assert_eq!(run(&project), ["Rome,4"]);
    project.write("sources.yaml", SOURCES);
    run(&project);
    project.remove("data/visits/2.csv");
    visits(&project, "3.csv", &["Bern,7,z"]);
    assert_eq!(run(&project), ["Bern,7", "Rome,4"]);
    // what nobody keeps any more goes with the next vacuum
    let count = || files(&project.path("target/warehouse/_kinfold/kept")).len();
    assert_eq!(count(), 2);
    project.write("sources.yaml", &SOURCES.replace("keep", "forget"));
    assert_eq!(run(&project), ["Bern,7"]);
    let told = project.kinfold(&["vacuum"]).exits(0);
    assert!(told.stdout.contains("_kinfold/kept"), "{told}");
    project.kinfold(&["vacuum", "--apply"]).exits(0);
    assert_eq!(count(), 0);
}

#[test]
fn a_file_that_was_moved_is_refused() {
    let project = shop();
    run(&project);
    std::fs::rename(project.path("data/visits/2.csv"), project.path("data/visits/old.csv")).unwrap();
    project.kinfold(&["run"]).exits(1).says(&["2.csv is gone", "old.csv is the same", "give it its name back"]);
    std::fs::rename(project.path("data/visits/old.csv"), project.path("data/visits/2.csv")).unwrap();
    assert_eq!(run(&project), ["Oslo,2", "Rome,5"]);
}

#[test]
fn copies_have_what_select_lets_through() {
    let project = shop();
    let selecting = |select: &str| SOURCES.replace("format: csv", &format!("format: csv, select: {select}"));
    project.write("sources.yaml", &selecting("{where: amount <> '4', exclude: [note]}"));
    assert_eq!(run(&project), ["Oslo,2", "Rome,1"]);
    let kept = copies(&project);
    assert!(kept.contains("Oslo") && !kept.contains("note") && !kept.contains('4'), "{kept}");
    // a copy of a file that is there is made anew when more of it is read
    project.write("sources.yaml", &selecting("{where: amount <> '4'}"));
    run(&project);
    assert!(copies(&project).contains("note"));
    project.write("sources.yaml", &selecting("{exclude: [note]}"));
    run(&project);
    project.kinfold(&["vacuum", "--apply"]).exits(0);
    project.remove("data/visits/1.csv");
    project.write("models/notes.sql", "SELECT town, note FROM shop.visits");
    project.write("sources.yaml", SOURCES);
    project.kinfold(&["run"]).exits(0).says(&["K0504", "1 files that are gone were kept without `note`"]);
    assert_eq!(project.lines("SELECT * FROM notes ORDER BY town, note"), ["town,note", "Oslo,", "Rome,", "Rome,y"]);
    // a filter that reads the time may let rows through later
    let moving = selecting("{where: CAST(amount AS INT) < EXTRACT(DAY FROM as_of())}");
    project.write("sources.yaml", &moving);
    visits(&project, "4.csv", &["Bern,99,z"]);
    run(&project);
    assert!(copies(&project).contains("Bern"));
}

#[test]
fn a_copy_reads_as_its_file_did() {
    let project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: 2026-03-31T00:00:00Z\ntimezone: Europe/Berlin\n"),
        (
            "sources.yaml",
            "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: events, path: events/, vanished: keep}\n",
        ),
        ("models/all.sql", "SELECT * FROM shop.events"),
    ]);
    let dictionary: DictionaryArray<Int32Type> = [Some("a"), None, Some("b")].into_iter().collect();
    // 2026-03-31 10:00:00.000001234, without a zone: in Berlin
    let times = [Some(1_774_951_200_000_001_234), None, Some(0)];
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(UInt32Array::from(vec![1, 2, u32::MAX]))),
        ("kind", Arc::new(dictionary)),
        ("local", Arc::new(TimestampNanosecondArray::from(times.to_vec()))),
        ("here", Arc::new(TimestampNanosecondArray::from(vec![Some(5_000), None, None]).with_timezone("+02:00"))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    for day in ["1", "2"] {
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        project.write_bytes(&format!("data/events/day={day}/x.parquet"), &writer.into_inner().unwrap());
    }
    project.kinfold(&["run"]).exits(0);
    let rows = "SELECT *, arrow_typeof(local) AS type FROM shop.events";
    let before = project.lines(rows);
    assert!(before.iter().any(|line| line.contains("2026-03-31T08:00:00.000001")), "{before:?}");
    project.remove("data/events/day=1/x.parquet");
    assert_eq!(project.lines(rows), before);
    project.kinfold(&["run", "--full"]).exits(0);
    let kept = project.lines("SELECT id, day FROM \"all\" ORDER BY day, id");
    assert_eq!(kept.len(), 7);
    let of_day = "SELECT count(*) FROM shop.events WHERE day = '1' AND id < 3";
    assert_eq!(project.number(of_day), 2);
    // other columns than those of files that come are said as ever
    let other = RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), other.schema(), None).unwrap();
    writer.write(&other).unwrap();
    project.remove("data/events/day=2/x.parquet");
    project.write_bytes("data/events/day=3/x.parquet", &writer.into_inner().unwrap());
    project.kinfold(&["run"]).exits(1).says(&["K0503", "`id` has different types", "x.parquet"]);
}

#[test]
fn erased_people_are_in_no_copy() {
    let project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: 2026-03-31\n"),
        (
            "sources.yaml",
            "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: people, path: people/, format: csv, vanished: keep}\n      - {name: notes, path: notes/, format: csv, vanished: keep}\n",
        ),
        (
            "models/person.yaml",
            "kind: identity\nname: person\nidentifiers: {card: {}}\nlinks:\n  - {from: shop.people, ids: {card: card}}\n",
        ),
        ("models/names.sql", "SELECT card, name FROM shop.people"),
        ("models/notes.sql", "SELECT note FROM shop.notes"),
        ("data/notes/1.csv", "note\nopen\n"),
        ("data/notes/2.csv", "note\nshut\n"),
    ]);
    project.write("data/people/1.csv", "card,name\nc1,Ann\nc2,Bob\n");
    project.write("data/people/2.csv", "card,name\nc1,Anna\nc3,Cara\n");
    project.kinfold(&["run"]).exits(0);
    project.remove("data/people/1.csv");
    project.remove("data/notes/1.csv");
    // a table that no model reads any more has copies, too
    project.remove("models/notes.sql");
    project.kinfold(&["run"]).exits(0);
    assert!(copies(&project).contains("Ann"));
    project.kinfold(&["forget", "card:c1", "--reason", "request"]).exits(0);
    let kept = copies(&project);
    assert!(!kept.contains("Ann") && !kept.contains("c1"), "{kept}");
    assert!(kept.contains("Bob") && kept.contains("Cara") && kept.contains("open"), "{kept}");
    assert_eq!(project.number("SELECT count(*) FROM shop.notes"), 2);
    assert_eq!(project.lines("SELECT name FROM names ORDER BY 1"), ["name", "Bob", "Cara"]);
    project.kinfold(&["run", "--full"]).exits(0);
    assert_eq!(project.lines("SELECT name FROM names ORDER BY 1"), ["name", "Bob", "Cara"]);
}

#[test]
fn new_traits_and_keys_see_rows_of_files_that_are_gone() {
    let project = shop();
    project.write("kinfold.yaml", "name: shop\nas_of: 2026-03-31\npartials: true\n");
    project.write("models/towns.yaml", "materialized: incremental\nunique_key: town\n");
    project.write(
        "models/place.yaml",
        "kind: identity\nname: place\nidentifiers: {town: {}}\nlinks: [{from: shop.visits, ids: {town: town}}]\n",
    );
    let profile = "kind: profile\nname: places\nidentity: place\ntraits:\n  name: {from: shop.visits, select: max(town)}\n  spent: {from: shop.visits, select: sum(amount)}\n";
    project.write("models/places.yaml", profile);
    project.kinfold(&["run"]).exits(0);
    project.remove("data/visits/1.csv");
    visits(&project, "3.csv", &["Rome,10,z"]);
    let outcome = project.kinfold(&["run"]).exits(0);
    assert!(outcome.stdout.contains("towns: 1 key made again, with 1 row"), "{outcome}");
    assert_eq!(towns(&project), ["Oslo,2", "Rome,15"]);
    project.write("models/places.yaml", &format!("{profile}  least: {{from: shop.visits, select: min(amount)}}\n"));
    project.kinfold(&["run"]).exits(0);
    assert_eq!(
        project.lines("SELECT name, spent, least FROM places ORDER BY 1").split_off(1),
        ["Oslo,2,2", "Rome,15,1"]
    );
}

/// Files come, change and go at random; what the table has is the newest rows that each path ever had at a run.
#[test]
fn any_life_of_files_gives_what_was_last_seen_of_each() {
    let project = shop();
    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut there: BTreeMap<String, Vec<i64>> =
        BTreeMap::from([("1.csv".to_owned(), vec![1]), ("2.csv".to_owned(), vec![4])]);
    visits(&project, "1.csv", &["Rome,1,x"]);
    let mut random = 42_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for step in 0..14 {
        for _ in 0..=next(2) {
            let name = format!("{}.csv", 1 + next(4));
            if next(2) == 0 && there.remove(&name).is_some() {
                project.remove(&format!("data/visits/{name}"));
            } else {
                let amounts: Vec<i64> = (0..next(3)).map(|n| step * 10 + n as i64).collect();
                let rows: Vec<String> = amounts.iter().map(|amount| format!("Rome,{amount},{name}")).collect();
                visits(&project, &name, &rows.iter().map(String::as_str).collect::<Vec<_>>());
                there.insert(name, amounts);
            }
        }
        seen.extend(there.clone());
        let full = if next(3) == 0 { vec!["run", "--full"] } else { vec!["run"] };
        project.kinfold(&full).exits(0);
        let total: i64 = seen.values().flatten().sum();
        let rows = seen.values().flatten().count();
        let wanted = if rows == 0 { Vec::new() } else { vec![format!("Rome,{total}")] };
        assert_eq!(towns(&project), wanted, "step {step}: {seen:?}, there are {there:?}");
    }
}
