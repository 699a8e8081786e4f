//! Partial states of source tables: what older files gave is not read again, and the values are those of all files.

use crate::support::{Outcome, Project};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, SystemTime};

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: customers, path: customers.csv, format: csv}
      - name: orders
        path: orders/
        format: csv
        time: at
        vanished: forget
        columns: {at: {type: TIMESTAMP}, amount: {type: BIGINT}}
";
const PERSON: &str = "\
kind: identity
name: person
identifiers:
  email: {normalize: email}
  cookie: {}
links:
  - {from: shop.customers, ids: {email: email, cookie: cookie}}
---
kind: profile
name: person_profile
identity: person
traits:
  orders: {from: shop.orders, select: count(*)}
  spent: {from: shop.orders, select: sum(amount)}
  mean: {from: shop.orders, select: avg(amount)}
  lately: {from: shop.orders, select: count(*), within: 7 days}
  kinds: {from: shop.orders, select: \"string_agg(kind, ',')\"}
  age: {from: shop.orders, select: count(*), where: at < as_of()}
";

/// A shop whose orders name their person by id, so that the identity does not read them.
struct Shop {
    project: Project,
    ann: String,
}

impl Shop {
    fn new() -> Self {
        let project = Project::of(&[
            ("kinfold.yaml", "name: shop\nas_of: 2026-03-31\npartials: true\n"),
            ("sources.yaml", SOURCES),
            ("models/person.yaml", PERSON),
            ("data/customers.csv", "email,cookie\nann@x.com,c1\nbob@x.com,c2\n"),
            ("data/orders/0.csv", "person_id,kind,amount,at\nnobody,a,1,2026-03-01T00:00:00\n"),
        ]);
        project.kinfold(&["run"]).exits(0);
        let ids = project.query("SELECT person_id FROM person WHERE identifier = 'ann@x.com'");
        let ann = ids[0]["person_id"].as_str().unwrap().to_owned();
        Self { project, ann }
    }

    /// A file with one order of Ann's, that is older than the last run.
    fn order(&self, file: &str, amount: u32) {
        let path = self.project.path(&format!("data/orders/{file}"));
        let text = format!("person_id,kind,amount,at\n{},a,{amount},2026-03-30T00:00:00\n", self.ann);
        // in place, so that the file stays the same one
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
        out.write_all(text.as_bytes()).unwrap();
        out.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000)).unwrap();
    }

    fn run(&self) -> Outcome {
        self.project.kinfold(&["run"]).exits(0)
    }

    /// Ann's value of a trait.
    fn ann(&self, column: &str) -> i64 {
        self.project.number(&format!("SELECT {column} FROM person_profile WHERE person_id = '{}'", self.ann))
    }

    /// How many sets of states there are, and how many files they were made from.
    fn sets(&self) -> (i64, i64) {
        let count = |what: &str| self.project.number(&format!("SELECT {what} FROM kinfold.partials"));
        (count("count(*)"), count("coalesce(sum(array_length(string_to_array(files, 'data/orders'))) - count(*), 0)"))
    }

    /// Files with states in the warehouse.
    fn state_files(&self) -> usize {
        std::fs::read_dir(self.project.path("target/warehouse/_kinfold/partials")).unwrap().count()
    }
}

/// A file is changed behind the back of the manifest: who reads it sees the new amount.
#[test]
fn old_files_are_not_read_again() {
    let shop = Shop::new();
    shop.order("1.csv", 5);
    shop.run();
    assert_eq!((shop.ann("spent"), shop.ann("orders"), shop.ann("CAST(mean AS BIGINT)")), (5, 1, 5));
    assert_eq!(shop.sets(), (2, 2));
    shop.order("1.csv", 7);
    shop.order("2.csv", 1);
    shop.run();
    assert_eq!((shop.ann("spent"), shop.ann("orders")), (6, 2), "of the old file the states were taken");
    assert_eq!(
        shop.ann("CAST(mean AS BIGINT)"),
        4,
        "the average reads all files, so it sees what nobody else does: (7 + 1) / 2"
    );
    assert_eq!(shop.sets(), (3, 3));
    // a new column is computed over all files, once; the others are not
    let more = shop.project.read("models/person.yaml") + "  largest: {from: shop.orders, select: max(amount)}\n";
    shop.project.write("models/person.yaml", &more);
    shop.run();
    assert_eq!((shop.ann("spent"), shop.ann("largest")), (6, 7));
    shop.order("2.csv", 9);
    shop.order("3.csv", 2);
    shop.run();
    assert_eq!(
        (shop.ann("spent"), shop.ann("largest"), shop.ann("CAST(mean AS BIGINT)")),
        (8, 7, 6),
        "(7 + 9 + 2) / 3"
    );
    shop.project.kinfold(&["run", "--full"]).exits(0);
    assert_eq!((shop.ann("spent"), shop.ann("largest")), (18, 9), "everything is made again");
}

#[test]
fn states_of_a_file_that_changed_or_went_are_dropped() {
    let shop = Shop::new();
    shop.order("1.csv", 5);
    shop.order("2.csv", 6);
    shop.run();
    assert_eq!((shop.ann("spent"), shop.sets()), (11, (2, 3)));
    let changed = format!("person_id,kind,amount,at\n{},a,100,2026-03-30T00:00:00\n", shop.ann);
    shop.project.write("data/orders/1.csv", &changed);
    shop.run();
    assert_eq!((shop.ann("spent"), shop.sets()), (106, (2, 3)));
    shop.project.remove("data/orders/2.csv");
    shop.run();
    assert_eq!((shop.ann("spent"), shop.sets()), (100, (2, 2)));
    // a table that selects other rows has other states
    let selected = "vanished: forget\n        select: {where: kind <> 'a'}\n";
    shop.project.write("sources.yaml", &SOURCES.replace("vanished: forget\n", selected));
    shop.run();
    assert_eq!(shop.ann("orders"), 0);
}

#[test]
fn another_identity_resolves_the_keys_again() {
    let shop = Shop::new();
    let visits = "      - {name: visits, path: visits/, format: csv, vanished: forget}\n";
    shop.project.write("sources.yaml", &(SOURCES.to_owned() + visits));
    let person = PERSON.replace("links:\n", "links:\n  - {from: shop.visits, ids: {email: email, cookie: cookie}}\n");
    let with_visits = |person: &str| person.to_owned() + "  visits: {from: shop.visits, select: count(*)}\n";
    shop.project.write("models/person.yaml", &with_visits(&person));
    shop.project.write("data/visits/1.csv", "email,cookie\nAnn@x.com,c1\n,c1\nBOB@x.com,c2\n,c3\n,c3\n");
    shop.run();
    let visits = || {
        let rows = shop.project.query("SELECT visits FROM person_profile WHERE visits > 0 ORDER BY visits");
        rows.iter().map(|row| row["visits"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(visits(), [1, 2, 2]);
    // c3 turns out to be Bob's
    shop.project.write("data/visits/2.csv", "email,cookie\nbob@x.com,c3\n");
    shop.run();
    assert_eq!(visits(), [2, 4]);
    // c1 is a hub now: the row that has nothing else belongs to nobody
    let hubs = person.replace("cookie: {}", "cookie: {max_links: 1, block: [c3]}");
    shop.project.write("models/person.yaml", &with_visits(&hubs));
    shop.project.write("data/visits/3.csv", "email,cookie\neve@x.com,c1\n");
    shop.run();
    // Ann, Bob twice (c3 is blocked, his address is not), Eve
    assert_eq!(visits(), [1, 1, 2]);
    let taken = "SELECT count(*) FROM kinfold.partials WHERE table_name = 'shop.visits'";
    assert_eq!(shop.project.number(taken), 3, "one set for each file");
}

#[test]
fn many_sets_become_one_and_a_vacuum_removes_what_nobody_names() {
    let shop = Shop::new();
    for n in 1..=12_u32 {
        shop.order(&format!("{n}.csv"), 10 + n);
        shop.run();
    }
    assert_eq!((shop.ann("spent"), shop.ann("orders")), (198, 12));
    let (sets, files) = shop.sets();
    assert!(sets < 10 && files == 13, "{sets} sets of {files} files");
    let before = shop.state_files();
    shop.project.kinfold(&["vacuum", "--apply"]).exits(0);
    let left = shop.state_files();
    assert!(left < before && left as i64 <= sets, "{before} files, then {left} of {sets} sets");
    // the states that are left are those that are needed
    for n in 1..=12_u32 {
        shop.order(&format!("{n}.csv"), 10);
    }
    shop.order("13.csv", 1);
    shop.run();
    assert_eq!((shop.ann("spent"), shop.ann("orders")), (199, 13));
}

#[test]
fn explain_plan_says_what_is_kept_and_why_the_rest_is_not() {
    let shop = Shop::new();
    let text = shop.project.kinfold(&["explain", "plan", "person_profile"]).exits(0).stdout;
    for line in [
        "kept for person_profile: orders, spent",
        "all files are read for person_profile: lately (its window moves with the logical time)",
        "all files are read for person_profile: kinds (`string_agg` sees its rows in an order)",
        "all files are read for person_profile: age (`as_of` reads the logical time)",
        "all files are read for person_profile: mean (`avg` has no states that are kept)",
    ] {
        assert!(text.contains(line), "no `{line}`: {text}");
    }
    shop.project.write("kinfold.yaml", "name: shop\nas_of: 2026-03-31\npartials: false\n");
    let text = shop.project.kinfold(&["explain", "plan", "person_profile"]).exits(0).stdout;
    assert!(text.contains("no partial states are kept (`partials: false`)"), "{text}");
    // what was kept goes with the next run that builds something
    shop.order("1.csv", 5);
    shop.run();
    assert_eq!((shop.ann("spent"), shop.sets()), (5, (0, 0)));
}

#[test]
fn states_that_cannot_be_read_say_what_to_do() {
    let shop = Shop::new();
    let folder = shop.project.path("target/warehouse/_kinfold/partials");
    for entry in std::fs::read_dir(&folder).unwrap() {
        File::create(entry.unwrap().path()).unwrap();
    }
    shop.order("1.csv", 5);
    shop.project.kinfold(&["run"]).exits(1).says(&["partial states", "kinfold run --full"]);
    shop.project.kinfold(&["run", "--full"]).exits(0);
    assert_eq!(shop.ann("spent"), 5);
}
