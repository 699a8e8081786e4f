//! Bad input: each is a clear error (or, where a user would expect it, a warning) that names the file, the line
//! and the way out; the tables of the last good run stay as they were; nothing panics.

use crate::support::{Outcome, Project};
use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use std::sync::Arc;

const KINFOLD: &str = r#"name: shop
as_of: "2026-03-31T00:00:00Z"
warehouse: "${SHOP_WAREHOUSE:-target/warehouse}"
"#;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - name: visits
        path: visits/
        format: csv
        time: at
        columns:
          at: {type: TIMESTAMP}
      - name: orders
        path: orders/
        format: parquet
        time: at
        row_id: id
";

const PERSON: &str = "\
kind: identity
name: person
identifiers:
  email: {normalize: email}
  cookie: {max_links: 10}
links:
  - {from: shop.visits, ids: {cookie: cookie, email: email}}
  - {from: shop.orders, ids: {email: email}}
";

const PROFILE: &str = "\
kind: profile
name: person_profile
identity: person
traits:
  visits: {from: shop.visits, select: count(*)}
  last_visit: {from: shop.visits, select: max(at)}
  last_order: {from: shop.orders, select: max(at)}
  spent: {from: shop.orders, select: sum(amount)}
";

const BUYERS: &str = "\
kind: audience
name: buyers
profile: person_profile
where: {trait: spent > 10}
";

const VISITS: &str = "\
cookie,email,page,at
c1,ann@example.com,home,2026-03-01T08:00:00Z
c2,bob@example.com,home,2026-03-02T08:00:00Z
c2,,prices,2026-03-02T09:00:00Z
";

const FILES: [(&str, &str); 6] = [
    ("kinfold.yaml", KINFOLD),
    ("sources.yaml", SOURCES),
    ("models/person.yaml", PERSON),
    ("models/person_profile.yaml", PROFILE),
    ("models/buyers.yaml", BUYERS),
    ("data/visits/1.csv", VISITS),
];

/// 2026-03-03 in microseconds.
const MARCH: i64 = 1_772_496_000_000_000;

/// A Parquet file with these columns.
fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn times(micros: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC"))
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn numbers(numbers: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(numbers.to_vec()))
}

fn orders() -> Vec<u8> {
    orders_at(&[MARCH, MARCH + 1])
}

fn orders_at(at: &[i64]) -> Vec<u8> {
    let (ids, emails) = (["o1", "o2"], ["ann@example.com", "bob@example.com"]);
    let n = at.len();
    parquet(vec![
        ("id", texts(&ids[..n])),
        ("email", texts(&emails[..n])),
        ("amount", numbers(&[20.0, 5.0][..n])),
        ("at", times(at)),
    ])
}

/// A small project that ran once, with what its tables held then.
struct Shop {
    project: Project,
    /// The same definitions as they were, over the same warehouse.
    reader: Project,
    before: Vec<Vec<String>>,
}

impl Shop {
    fn new() -> Self {
        let project = Project::of(&FILES);
        project.write_bytes("data/orders/1.parquet", &orders());
        project.kinfold(&["run"]).exits(0);
        let mut reader = Project::of(&FILES);
        reader.set("SHOP_WAREHOUSE", &project.path("target/warehouse").to_string_lossy());
        let before = Self::tables(&reader);
        assert_eq!(before[1].len(), 3, "two people: {before:?}");
        Self { project, reader, before }
    }

    fn tables(reader: &Project) -> Vec<Vec<String>> {
        ["person", "person_profile", "buyers"].map(|t| reader.lines(&format!("SELECT * FROM {t}"))).into()
    }

    /// The run fails with this exit code, says these things, prints no data and leaves the tables alone.
    #[track_caller]
    fn refuses(&self, code: i32, says: &[&str]) -> Outcome {
        let outcome = self.project.kinfold(&["run"]).exits(code).without_data().says(says);
        assert_eq!(Self::tables(&self.reader), self.before, "{outcome}");
        outcome
    }

    /// The run succeeds and warns.
    #[track_caller]
    fn warns(&self, says: &[&str]) -> Outcome {
        self.project.kinfold(&["run"]).exits(0).says(says).says(&["warning"])
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let text = self.project.read(path);
        assert!(text.contains(from), "{path} has no `{from}`");
        self.project.write(path, &text.replace(from, to));
    }
}

#[test]
fn unknown_keys_are_refused() {
    let shop = Shop::new();
    shop.replace("models/person_profile.yaml", "traits:", "tratis:");
    shop.refuses(2, &["models/person_profile.yaml:4:1", "tratis", "traits"]);
}

#[test]
fn wrong_types_are_refused() {
    let shop = Shop::new();
    shop.replace("models/person.yaml", "max_links: 10", "max_links: many");
    shop.refuses(2, &["models/person.yaml:5:23", "many"]);
}

#[test]
fn all_mistakes_are_said_at_once() {
    let shop = Shop::new();
    shop.replace("models/person_profile.yaml", "traits:", "tratis:");
    shop.replace("models/buyers.yaml", "where:", "whre:");
    shop.replace("sources.yaml", "format: csv", "format: cvs");
    shop.refuses(2, &["models/person_profile.yaml:4:1", "models/buyers.yaml:4:1", "sources.yaml:7:17"]);
}

#[test]
fn duplicate_names_are_refused_with_both_places() {
    let shop = Shop::new();
    shop.project.write("models/second.yaml", BUYERS);
    shop.refuses(2, &["models/buyers.yaml:2:7", "models/second.yaml:2:7", "buyers"]);
}

#[test]
fn cycles_are_refused_as_a_path() {
    let shop = Shop::new();
    shop.project.write("models/a.sql", "SELECT * FROM b\n");
    shop.project.write("models/b.sql", "SELECT * FROM c\n");
    shop.project.write("models/c.sql", "SELECT * FROM a\n");
    shop.refuses(2, &["a -> b -> c -> a", "models/a.sql", "help"]);
}

#[test]
fn missing_tables_are_refused_where_they_are_named() {
    let shop = Shop::new();
    shop.project.write("models/lost.sql", "SELECT count(*) AS n\nFROM shop.vists\n");
    shop.refuses(2, &["models/lost.sql:2:6", "shop.vists", "help"]);
}

#[test]
fn missing_columns_are_refused_where_they_are_named() {
    let shop = Shop::new();
    shop.replace("models/person_profile.yaml", "sum(amount)", "sum(amuont)");
    shop.refuses(2, &["models/person_profile.yaml:8:", "amuont", "did you mean `amount`"]);
}

#[test]
fn broken_sql_is_refused_at_its_place() {
    let shop = Shop::new();
    shop.project.write("models/broken.sql", "SELECT count(*) AS n\nFROM shop.visits\nWHERE ORDER\n");
    shop.refuses(2, &["models/broken.sql:3:"]);
}

#[test]
fn missing_files_are_refused() {
    let shop = Shop::new();
    shop.project.remove("data/visits/1.csv");
    shop.refuses(1, &["sources.yaml:6:15", "no files for `shop.visits`", "data/visits", "enabled: false"]);
}

#[test]
fn half_written_parquet_files_are_refused() {
    let shop = Shop::new();
    let whole = orders();
    for length in [whole.len() - 1, whole.len() / 2, 3, 0] {
        shop.project.write_bytes("data/orders/2.parquet", &whole[..length]);
        shop.refuses(1, &["sources.yaml:12:15", "shop.orders", "2.parquet", "half written"]);
    }
}

#[test]
fn parquet_files_with_damaged_pages_are_refused() {
    let shop = Shop::new();
    let mut bytes = orders();
    let footer = bytes.len() - bytes.len() / 4;
    bytes[4..footer.min(300)].fill(0xFF);
    shop.project.write_bytes("data/orders/2.parquet", &bytes);
    shop.refuses(1, &["shop.orders"]);
}

#[test]
fn half_written_csv_files_are_refused() {
    let shop = Shop::new();
    shop.project.write("data/visits/2.csv", "cookie,email,page,at\nc3,,home,2026-03-03T08:00:00Z\nc3,");
    shop.refuses(1, &["visits"]);
    shop.project.write("data/visits/2.csv", "");
    shop.refuses(1, &["sources.yaml:6:15", "2.csv"]);
    shop.project.write_bytes("data/visits/2.csv", b"cookie,email,page,at\nc3,\xff\xfe,home,2026-03-03T08:00:00Z\n");
    shop.refuses(1, &["visits"]);
}

#[test]
fn files_that_disagree_about_a_type_are_refused() {
    let shop = Shop::new();
    let columns = vec![
        ("id", texts(&["o3"])),
        ("email", texts(&["ann@example.com"])),
        ("amount", texts(&["7"])),
        ("at", times(&[MARCH])),
    ];
    shop.project.write_bytes("data/orders/2.parquet", &parquet(columns));
    shop.refuses(1, &["sources.yaml:12:15", "amount", "1.parquet", "2.parquet", "help"]);
}

#[test]
fn csv_files_with_other_headers_are_refused() {
    let shop = Shop::new();
    shop.project.write("data/visits/2.csv", "cookie,page,email,at\nc3,home,,2026-03-03T08:00:00Z\n");
    shop.refuses(1, &["sources.yaml:6:15", "1.csv", "2.csv", "same columns"]);
}

#[test]
fn a_column_that_vanished_from_all_files_is_refused_where_it_is_used() {
    let shop = Shop::new();
    let without =
        parquet(vec![("id", texts(&["o1"])), ("email", texts(&["ann@example.com"])), ("at", times(&[MARCH]))]);
    shop.project.write_bytes("data/orders/1.parquet", &without);
    shop.refuses(2, &["models/person_profile.yaml:8:", "amount", "shop.orders"]);
}

#[test]
fn a_declared_column_that_vanished_is_refused_at_its_declaration() {
    let shop = Shop::new();
    let without =
        parquet(vec![("id", texts(&["o1"])), ("email", texts(&["ann@example.com"])), ("amount", numbers(&[1.0]))]);
    shop.project.write_bytes("data/orders/1.parquet", &without);
    shop.refuses(1, &["sources.yaml:14:15", "`time: at`", "help"]);
}

#[test]
fn a_column_that_some_files_lack_is_a_warning() {
    let shop = Shop::new();
    let without =
        parquet(vec![("id", texts(&["o3"])), ("email", texts(&["ann@example.com"])), ("at", times(&[MARCH + 2]))]);
    shop.project.write_bytes("data/orders/2.parquet", &without);
    shop.warns(&["sources.yaml:12:15", "amount", "2.parquet"]);
    let spent = "SELECT CAST(spent AS BIGINT) AS spent FROM person_profile WHERE spent IS NOT NULL ORDER BY spent";
    assert_eq!(shop.reader.lines(spent), ["spent", "20", "5"]);
}

#[test]
fn text_that_is_no_time_is_refused_with_its_line() {
    for bad in ["10000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "soon", "99999999999999999999"] {
        let shop = Shop::new();
        shop.project.write(
            "data/visits/2.csv",
            &format!("cookie,email,page,at\nc3,,home,2026-03-03T08:00:00Z\nc4,,home,{bad}\n"),
        );
        shop.refuses(1, &["sources.yaml:10:", "2.csv:3", bad, "TIMESTAMP", "help"]);
    }
}

#[test]
fn times_that_no_calendar_has_are_a_warning() {
    for extreme in [i64::MAX, i64::MIN, i64::MIN + 1, 0x7FFF_FFFF_FFFF_0000, -62_135_596_800_000_001] {
        let shop = Shop::new();
        shop.project.write_bytes("data/orders/2.parquet", &orders_at(&[extreme]));
        shop.warns(&["sources.yaml:14:15", "shop.orders"]);
        for format in ["text", "csv", "json"] {
            let shown = shop.project.kinfold(&["show", "person_profile", "--output", format]);
            assert!(!shown.stderr.contains("panicked"), "{shown}");
            assert!(shown.code == 0 || shown.code == 1, "{shown}");
        }
    }
}

#[test]
fn no_rows_are_a_warning() {
    let shop = Shop::new();
    shop.project.write_bytes("data/orders/1.parquet", &orders_at(&[]));
    shop.warns(&["sources.yaml:12:15", "`shop.orders` has no rows"]);
    assert_eq!(shop.reader.number("SELECT count(*) FROM person_profile WHERE spent IS NULL"), 2);
    assert_eq!(shop.reader.number("SELECT count(*) FROM buyers"), 0);
    let left = "SELECT \"left\" FROM audience_sizes ORDER BY run DESC LIMIT 1";
    assert_eq!(shop.reader.number(left), 1, "the buyer left");

    shop.project.write("data/visits/1.csv", "cookie,email,page,at\n");
    shop.warns(&["sources.yaml:6:15", "`shop.visits` has no rows"]);
    for table in ["person", "person_profile", "buyers"] {
        assert_eq!(shop.reader.number(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }

    // and the way back: the same people have the same ids
    shop.project.write("data/visits/1.csv", VISITS);
    shop.project.write_bytes("data/orders/1.parquet", &orders());
    shop.project.kinfold(&["run"]).exits(0);
    assert_eq!(Shop::tables(&shop.reader)[..2], shop.before[..2]);
}

#[test]
fn a_first_run_over_no_rows_succeeds() {
    let project = Project::of(&FILES);
    project.write("data/visits/1.csv", "cookie,email,page,at\n");
    project.write_bytes("data/orders/1.parquet", &orders_at(&[]));
    project.kinfold(&["run"]).exits(0).says(&["shop.visits", "shop.orders"]);
    assert_eq!(project.lines("SELECT visits, spent FROM person_profile"), ["visits,spent"]);
}

#[test]
fn a_query_that_fails_on_the_data_fails_the_run() {
    let shop = Shop::new();
    shop.project.write("models/pages.sql", "SELECT CAST(page AS BIGINT) AS page FROM shop.visits\n");
    shop.refuses(1, &["pages"]);
}

#[test]
fn a_warehouse_that_cannot_be_written_is_an_error() {
    let mut project = Project::of(&FILES);
    project.write_bytes("data/orders/1.parquet", &orders());
    project.write("taken", "a file where the warehouse should be\n");
    project.set("SHOP_WAREHOUSE", "taken");
    project.kinfold(&["run"]).exits(1).without_data().says(&["error"]);
    assert_eq!(project.read("taken"), "a file where the warehouse should be\n");
}

#[test]
fn hostile_definitions_are_refused() {
    let shop = Shop::new();
    let deep = "[".repeat(20_000);
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\n";
    let parentheses = format!("SELECT {}1{} AS n\n", "(".repeat(20_000), ")".repeat(20_000));
    for (file, text) in [("models/x.yaml", &*deep), ("models/x.yaml", bomb), ("models/x.sql", &*parentheses)] {
        shop.project.write(file, text);
        shop.refuses(2, &[file]);
        shop.project.remove(file);
    }
    shop.project.write_bytes("models/x.yaml", b"kind: \xff\xfe\n");
    shop.refuses(2, &["models/x.yaml", "UTF-8"]);
}
