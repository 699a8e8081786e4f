//! SQL models that grow key by key: only the keys of new rows are computed, and the table is that of the whole query.

use crate::support::{Outcome, Project, files};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: orders, path: orders/, format: csv, vanished: forget, columns: {amount: {type: BIGINT}}}
      - {name: days, path: days/, format: csv, vanished: forget}
      - {name: shops, path: shops/, format: csv}
";
const BY_DAY: &str = "SELECT day, count(*) AS orders, sum(amount) AS amount FROM shop.orders GROUP BY day";
const UNIQUE_DAY: &str = "materialized: incremental\nunique_key: day\n";

struct Shop(Project);

impl Shop {
    /// A shop with one incremental model.
    fn new(sql: &str, yaml: &str) -> Self {
        let shop = Self(Project::of(&[
            ("kinfold.yaml", "name: shop\nas_of: 2026-03-31\n"),
            ("sources.yaml", SOURCES),
            ("models/grown.sql", sql),
            ("models/grown.yaml", yaml),
            ("data/days/1.csv", "day,name\na,Monday\nb,Tuesday\n"),
            ("data/shops/1.csv", "shop,town\ns1,Rome\ns2,Oslo\n"),
        ]));
        shop.orders("1.csv", &["a,s1,1", "b,s1,2"]);
        shop
    }

    /// A file of orders, older than all runs, in place: a file that is there stays the same one to the eye.
    fn orders(&self, file: &str, rows: &[&str]) {
        let path = self.0.path(&format!("data/orders/{file}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!("day,shop,amount\n{}\n", rows.join("\n"));
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
        out.write_all(text.as_bytes()).unwrap();
        out.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000)).unwrap();
    }

    fn run(&self) -> Outcome {
        self.0.kinfold(&["run"]).exits(0)
    }

    /// The model's rows, as `day|…` sorted.
    fn rows(&self) -> Vec<String> {
        self.0.lines("SELECT * FROM grown").split_off(1)
    }

    /// How the last run made it.
    fn updated(&self) -> Value {
        self.0.report()["nodes"][0]["facts"]["updated"].clone()
    }

    /// That the last run made so many keys again.
    #[track_caller]
    fn made_keys(&self, keys: u64, rows: u64) {
        let updated = self.updated();
        assert_eq!(
            (&updated["made"], &updated["keys"], &updated["rows"]),
            (&"keys".into(), &keys.into(), &rows.into())
        );
    }

    /// That a run made it whole, and said this.
    #[track_caller]
    fn made_whole(&self, why: &str) {
        let outcome = self.run();
        let line = format!("grown: made whole: {why}");
        assert!(outcome.stdout.contains(&line), "no `{line}`: {outcome}");
        assert_eq!(self.updated()["made"], "whole");
    }
}

/// An old file is changed behind the back of the manifest: only who reads its rows sees it.
#[test]
fn only_the_keys_of_new_rows_are_computed() {
    let shop = Shop::new(BY_DAY, UNIQUE_DAY);
    shop.made_whole("new");
    assert_eq!(shop.rows(), ["a,1,1", "b,1,2"]);
    shop.orders("1.csv", &["a,s1,5", "b,s1,6"]);
    shop.orders("2.csv", &["b,s1,1", "c,s1,1"]);
    let outcome = shop.run();
    assert!(outcome.stdout.contains("grown: 2 keys made again, with 2 rows"), "{outcome}");
    assert_eq!(shop.rows(), ["a,1,1", "b,2,7", "c,1,1"], "nobody asked for the rows of a: the query would give 5");
    shop.made_keys(2, 2);
    assert_eq!(shop.0.report()["nodes"][0]["rows"], 3);
    shop.0.kinfold(&["run", "--full"]).exits(0);
    assert_eq!(shop.rows(), ["a,1,5", "b,2,7", "c,1,1"]);
}

#[test]
fn files_of_the_table_without_touched_keys_stay() {
    let shop = Shop::new(BY_DAY, UNIQUE_DAY);
    shop.run();
    let data = || files(&shop.0.path("target/warehouse/grown")).into_keys().filter(|f| f.ends_with(".parquet")).count();
    assert_eq!(data(), 1);
    shop.orders("2.csv", &["c,s1,3"]);
    shop.run();
    assert_eq!((data(), &shop.updated()["files"]), (2, &0.into()), "the first file has no rows of c");
    shop.orders("3.csv", &["c,s1,4"]);
    shop.run();
    assert_eq!((data(), &shop.updated()["files"]), (3, &1.into()));
    shop.0.write("kinfold.yaml", "name: shop\nas_of: 2026-03-31\nretention: {runs: 1, period: 1 us}\n");
    shop.0.kinfold(&["vacuum", "--apply"]).exits(0);
    assert!(data() < 3, "what was replaced is gone");
    assert_eq!(shop.rows(), ["a,1,1", "b,1,2", "c,2,7"]);
    // a file whose rows the query leaves out changes nothing
    shop.orders("4.csv", &[]);
    shop.run();
    shop.made_keys(0, 0);
    assert_eq!(shop.rows(), ["a,1,1", "b,1,2", "c,2,7"]);
}

#[test]
fn what_is_more_than_new_files_makes_it_whole_and_says_so() {
    let shop = Shop::new(
        "SELECT o.day, count(*) AS orders, count(s.town) AS known FROM shop.orders o LEFT JOIN shop.shops s ON o.shop = s.shop GROUP BY 1",
        UNIQUE_DAY,
    );
    shop.made_whole("new");
    shop.orders("2.csv", &["a,s3,1"]);
    shop.run();
    shop.made_keys(1, 1);
    assert_eq!(shop.rows(), ["a,2,1", "b,1,1"]);
    // the key does not come from shops
    shop.0.write("data/shops/2.csv", "shop,town\ns3,Bonn\n");
    shop.made_whole("shop.shops: 1 new file");
    assert_eq!(shop.rows(), ["a,2,2", "b,1,1"]);
    shop.0.write("data/orders/2.csv", "day,shop,amount\nb,s3,1\nb,s3,1\n");
    shop.made_whole("shop.orders: 1 changed file");
    assert_eq!(shop.rows(), ["a,1,1", "b,3,3"]);
    shop.0.remove("data/orders/2.csv");
    shop.made_whole("shop.orders: 1 file gone");
    assert_eq!(shop.rows(), ["a,1,1", "b,1,1"]);
    let sql = shop.0.read("models/grown.sql").replace("count(s.town)", "max(s.town)");
    shop.0.write("models/grown.sql", &sql);
    shop.made_whole("definition changed");
    shop.0.write("models/grown.yaml", "materialized: incremental\nincremental: {by: day}\n");
    shop.made_whole("definition changed");
    let outcome = shop.0.kinfold(&["run", "--full"]).exits(0);
    assert!(outcome.stdout.contains("grown: made whole: asked for with --full"), "{outcome}");
    assert_eq!(shop.rows(), ["a,1,Rome", "b,1,Rome"]);
}

/// Files that some other model read while this one was not built are not forgotten.
#[test]
fn files_that_only_others_read_are_not_missed() {
    let shop = Shop::new(BY_DAY, UNIQUE_DAY);
    shop.0.write("models/other.sql", "SELECT count(*) AS orders FROM shop.orders");
    shop.run();
    shop.orders("2.csv", &["a,s1,1"]);
    shop.0.kinfold(&["run", "--select", "other"]).exits(0);
    shop.orders("3.csv", &["b,s1,1"]);
    let outcome = shop.run();
    assert!(outcome.stdout.contains("grown: made whole: shop.orders: other files than it was built from"), "{outcome}");
    assert_eq!(shop.rows(), ["a,2,2", "b,2,3"]);
}

#[test]
fn a_new_column_of_a_star_makes_it_whole() {
    let shop = Shop::new("SELECT * FROM shop.days", UNIQUE_DAY);
    let days = |file: &str, text: &str| shop.0.write(&format!("data/days/{file}.ndjson"), text);
    let sources = SOURCES.replace("path: days/, format: csv", "path: days/, format: ndjson");
    shop.0.write("sources.yaml", &sources);
    shop.0.remove("data/days/1.csv");
    days("1", "{\"day\": \"a\", \"name\": \"Monday\"}\n");
    shop.run();
    days("2", "{\"day\": \"b\", \"name\": \"Tuesday\", \"free\": true}\n");
    shop.made_whole("the columns of its table are others");
    assert_eq!(shop.rows(), ["a,Monday,", "b,Tuesday,true"]);
    days("3", "{\"day\": \"c\", \"name\": \"Sunday\", \"free\": true}\n");
    shop.run();
    shop.made_keys(1, 1);
}

/// Each query with the key that it grows by; a run over new files gives what a rebuild gives, and makes few keys.
#[test]
fn the_key_goes_through_what_it_can_be_proven_for() {
    let by = |key: &str| format!("materialized: incremental\nincremental: {{by: [{key}]}}\n");
    let queries = [
        ("SELECT day, shop, amount FROM shop.orders WHERE amount <> 2", "day"),
        ("SELECT upper(day) AS big, count(*) AS n FROM shop.orders GROUP BY 1", "big"),
        ("SELECT upper(day) AS big, n FROM (SELECT day, count(*) AS n FROM shop.orders GROUP BY day)", "big"),
        ("SELECT day, amount, sum(amount) OVER (PARTITION BY day) AS total FROM shop.orders", "day"),
        ("SELECT DISTINCT day, shop FROM shop.orders", "day"),
        ("SELECT DISTINCT ON (day) day, amount FROM shop.orders ORDER BY day, amount", "day"),
        ("SELECT o.day, d.name, o.amount FROM shop.orders o JOIN shop.days d ON d.day = o.day", "day"),
        ("SELECT d.day, d.name, o.amount FROM shop.days d LEFT JOIN shop.orders o ON o.day = d.day", "day"),
        ("SELECT d.day, o.amount FROM shop.orders o RIGHT JOIN shop.days d ON o.day = d.day", "day"),
        ("SELECT day, amount FROM shop.orders UNION ALL SELECT day, 0 FROM shop.days", "day"),
        ("SELECT d.day FROM shop.days d LEFT ANTI JOIN shop.orders o ON o.day = d.day", "day"),
        ("SELECT o.day, count(*) AS n FROM shop.orders o, (SELECT town FROM shop.shops) t GROUP BY 1", "day"),
        (
            "WITH d AS (SELECT day, max(amount) AS most FROM shop.orders GROUP BY day) SELECT o.day, o.amount, d.most FROM shop.orders o JOIN d ON o.day = d.day",
            "day",
        ),
        ("SELECT day, amount, shop FROM shop.orders ORDER BY amount", "day, shop"),
        ("SELECT 'all' AS every, count(*) AS n FROM shop.orders", "every"),
    ];
    for (sql, key) in queries {
        let shop = Shop::new(sql, &by(key));
        shop.run();
        shop.orders("2.csv", &["b,s2,4", ",s1,7", "c,s1,2"]);
        shop.0.write("data/days/2.csv", "day,name\nc,Sunday\n,Nobody\n");
        shop.run();
        let grown = shop.rows();
        assert_eq!(shop.updated()["made"], "keys", "{sql}: {}", shop.updated());
        shop.0.kinfold(&["run", "--full"]).exits(0);
        assert_eq!(grown, shop.rows(), "{sql}");
        // the same once more, with keys that are there already
        shop.orders("3.csv", &["a,s2,4", ",s2,9"]);
        shop.run();
        let grown = shop.rows();
        assert_eq!(shop.updated()["made"], "keys", "{sql}");
        shop.0.kinfold(&["run", "--full"]).exits(0);
        assert_eq!(grown, shop.rows(), "{sql}");
    }
}

/// Queries that do not carry the key are refused with a reason, whatever a run would make of them.
#[test]
fn what_cannot_be_proven_is_refused_by_check() {
    let queries = [
        ("SELECT day, amount FROM shop.orders ORDER BY amount LIMIT 2", "LIMIT counts rows of all keys"),
        ("SELECT max(day) AS day, shop FROM shop.orders GROUP BY shop", "the key is made of an aggregate"),
        ("SELECT day, rank() OVER (ORDER BY amount) AS r FROM shop.orders", "its PARTITION BY lacks the key"),
        (
            "SELECT d.day, o.amount FROM shop.orders o LEFT JOIN shop.days d ON d.day = o.day",
            "the side of the join that may be missing",
        ),
        ("SELECT coalesce(o.day, d.day) AS day FROM shop.orders o FULL JOIN shop.days d ON d.day = o.day", "FULL JOIN"),
        ("SELECT day, (SELECT count(*) FROM shop.orders) AS n FROM shop.orders", "a subquery reads it"),
        (
            "SELECT DISTINCT ON (shop) day, shop FROM shop.orders ORDER BY shop, day",
            "DISTINCT ON picks among rows of several keys",
        ),
        ("SELECT day, count(*) AS n FROM shop.orders GROUP BY ROLLUP (day)", "GROUPING SETS"),
        ("SELECT day, as_of() AS at FROM shop.orders", "`as_of` reads the logical time"),
        ("SELECT day, random() AS x FROM shop.orders", "`random` may give another value in each run"),
        (
            "SELECT day, n FROM (SELECT CAST(row_number() OVER () AS TEXT) AS day, 1 AS n FROM shop.orders)",
            "the key is made of a window function",
        ),
        ("SELECT day FROM listed", "made by another model"),
    ];
    for (sql, why) in queries {
        let shop = Shop::new(sql, "materialized: incremental\nincremental: {by: day}\n");
        shop.0.write("models/listed.sql", "SELECT day FROM shop.orders");
        shop.0.kinfold(&["check"]).exits(2).says(&[
            "K0314",
            "`grown` cannot grow key by key",
            "materialized: table",
            why,
        ]);
    }
    let shop = Shop::new("SELECT day, amount FROM shop.orders", UNIQUE_DAY);
    let sources = SOURCES.replace("path: orders/, ", "path: orders/, dedupe: {by: shop}, ");
    shop.0.write("sources.yaml", &sources);
    shop.0.kinfold(&["check"]).exits(2).says(&["K0314", "its `dedupe` compares rows that have one `shop`"]);
}

#[test]
fn a_key_that_names_two_rows_fails_the_run() {
    let shop = Shop::new("SELECT day, amount FROM shop.orders", UNIQUE_DAY);
    shop.run();
    shop.orders("2.csv", &["b,s1,9"]);
    let told = ["the `unique_key` (day) of `grown` is not unique: 1 more rows than keys", "incremental: {by: ...}"];
    shop.0.kinfold(&["run"]).exits(1).says(&told);
    shop.0.kinfold(&["run", "--full"]).exits(1).says(&told);
    assert_eq!(shop.rows(), ["a,1", "b,2"]);
}

/// Who reads the table in the same run, and its data tests, see all its rows.
#[test]
fn readers_and_tests_of_the_same_run_see_the_whole_table() {
    let tests = format!(
        "{UNIQUE_DAY}tests:\n  - {{unique: day}}\n  - {{row_count: '>= 2'}}\n  - {{expression: amount < 100}}\n"
    );
    let shop = Shop::new(BY_DAY, &tests);
    shop.0.write("models/total.sql", "SELECT count(*) AS days, sum(amount) AS amount FROM grown");
    shop.run();
    shop.orders("2.csv", &["b,s1,1"]);
    shop.run();
    shop.made_keys(1, 1);
    assert_eq!(shop.0.lines("SELECT * FROM total"), ["days,amount", "2,4"]);
    // a test that fails withholds the rows; the next run makes them again
    shop.orders("3.csv", &["a,s1,100"]);
    shop.0.kinfold(&["run"]).exits(1);
    assert_eq!(shop.rows(), ["a,1,1", "b,2,3"]);
    shop.0.write("data/orders/3.csv", "day,shop,amount\na,s1,10\n");
    shop.run();
    assert_eq!(shop.rows(), ["a,2,11", "b,2,3"]);
    assert_eq!(shop.0.lines("SELECT * FROM total"), ["days,amount", "2,14"]);
}

/// A folder of a partition is a key like any other, and folders of other keys are not read.
#[test]
fn a_partition_folder_may_be_the_key() {
    let shop = Shop::new("SELECT day, count(*) AS n, sum(amount) AS amount FROM shop.parts GROUP BY day", UNIQUE_DAY);
    let parts = "      - {name: parts, path: parts/, format: csv, columns: {amount: {type: BIGINT}}}\n";
    shop.0.write("sources.yaml", &format!("{SOURCES}{parts}"));
    let part = |day: &str, file: &str, amount: u64| {
        shop.0.write(&format!("data/parts/day={day}/{file}.csv"), &format!("amount\n{amount}\n"));
    };
    part("a b", "1", 1);
    part("c", "1", 2);
    shop.run();
    part("a b", "2", 3);
    shop.run();
    shop.made_keys(1, 1);
    assert_eq!(shop.rows(), ["a b,2,4", "c,1,2"]);
}

const PERSON: &str = "kind: identity\nname: person\nidentifiers:\n  email: {normalize: email}\nlinks:\n  - {from: shop.orders, ids: {email: shop}}\n";

/// An erased person's key goes with the erasure, and rows that come later bring nothing back.
#[test]
fn an_erased_person_stays_away_from_a_table_that_grows() {
    let shop = Shop::new(
        "SELECT shop, sum(amount) AS amount FROM shop.orders GROUP BY shop",
        "materialized: incremental\nunique_key: shop\n",
    );
    shop.0.write("models/person.yaml", PERSON);
    shop.orders("1.csv", &["a,ann@x.com,1", "a,bob@x.com,2"]);
    shop.run();
    shop.orders("2.csv", &["b,ann@x.com,3", "b,cid@x.com,4"]);
    shop.run();
    assert_eq!(shop.rows(), ["ann@x.com,4", "bob@x.com,2", "cid@x.com,4"]);
    shop.0.kinfold(&["forget", "email:ann@x.com", "--reason", "asked"]).exits(0);
    assert_eq!(shop.rows(), ["bob@x.com,2", "cid@x.com,4"]);
    shop.orders("3.csv", &["c,ann@x.com,5", "c,bob@x.com,6"]);
    let outcome = shop.run();
    assert!(outcome.stdout.contains("grown: 2 keys made again, with 1 row"), "{outcome}");
    assert_eq!(shop.rows(), ["bob@x.com,8", "cid@x.com,4"]);
    // a tombstone alone is a change of every row of the person, and takes the table as a whole
    shop.0.kinfold(&["suppress", "email:cid@x.com", "--reason", "asked"]).exits(0);
    shop.made_whole("shop.orders: other files than it was built from");
    assert_eq!(shop.rows(), ["bob@x.com,8"]);
}

/// A plan computes what a run would, and a unit test gives the whole query its rows.
#[test]
fn plans_and_unit_tests_know_models_that_grow() {
    let shop = Shop::new(BY_DAY, UNIQUE_DAY);
    shop.0.write(
        "models/check.yaml",
        "kind: test\nname: two_days\nmodel: grown\ngiven:\n  shop.orders: [{day: a, amount: 1}, {day: a, amount: 2}]\nexpect:\n  - {day: a, orders: 2, amount: 3}\n",
    );
    shop.0.kinfold(&["test"]).exits(0);
    shop.run();
    shop.orders("2.csv", &["b,s1,1", "c,s1,1"]);
    let plan = shop.0.kinfold(&["plan", "--effects", "always"]).exits(0);
    assert!(plan.stdout.contains("shop.orders: 1 new file"), "{plan}");
    assert!(plan.stdout.contains("made in part: the keys of 1 new file"), "{plan}");
    assert_eq!(shop.rows(), ["a,1,1", "b,1,2"], "a plan writes nothing");
    shop.run();
    shop.made_keys(2, 2);
    shop.orders("1.csv", &["a,s1,7"]);
    shop.orders("3.csv", &["d,s1,1"]);
    let plan = shop.0.kinfold(&["plan", "--output", "markdown"]).exits(0);
    assert!(plan.stdout.contains("<br>made whole: shop.orders: 1 new file (0.0 kB), 1 changed file"), "{plan}");
    let steps: Value = serde_json::from_str(&shop.0.kinfold(&["plan", "--output", "json"]).exits(0).stdout).unwrap();
    assert_eq!(steps["steps"][0]["update"]["whole"][0]["reason"], "files");
}
