//! Runs day after day: what did not change is not built, what changed is, and the tables are those of a rebuild.

use crate::support::{Outcome, Project, copy};
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::util::display::array_value_to_string;
use kinfold::warehouse::{Location, Warehouse};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Sequences of changes, each from its own seed.
const SEEDS: [u64; 4] = [11, 42, 1789, 2026];
/// Runs in a sequence.
const STEPS: usize = 7;

const PROJECT: &str = "\
name: daily
warehouse: target/warehouse
partials: true
targets:
  rebuilt: {warehouse: target/rebuilt, partials: false}
";
const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - name: visits
        path: visits/
        format: csv
        time: at
        row_id: id
        dedupe: {by: id}
        vanished: forget
        columns: {at: {type: TIMESTAMP}}
        tests: [{not_null: id}]
      - name: clicks
        path: visits/
        format: csv
        time: at
        row_id: id
        vanished: forget
        columns: {at: {type: TIMESTAMP}}
      - name: customers
        path: customers/
        format: csv
        time: changed_at
        row_id: customer
        version: changed_at
        vanished: forget
        columns: {changed_at: {type: TIMESTAMP}}
";
const SEGMENTS: &str = "\
kind: audience
name: recent
profile: person_profile
where: {event: shop.visits, within: 3 days}
include: models/picks.csv
---
kind: audience
name: known
profile: person_profile
where: {trait: email IS NOT NULL}
---
kind: audience
name: paying
profile: person_profile
where: {event: shop.visits, column: page, is: \"${PAGE:-pay}\", count: '>= 2'}
---
kind: audience
name: clicking
profile: person_profile
where: {event: shop.clicks, column: page, is: \"${PAGE:-pay}\", count: '>= 2'}
---
kind: audience
name: hesitating
profile: person_profile
where:
  sequence:
    - {event: shop.clicks, column: page, is: see}
    - {event: shop.clicks, column: page, is: buy, within: 3 days, same: cookie}
    - {not: {event: shop.clicks, column: page, is: pay, within: 5 days}}
";
/// Traits of a table whose partial states are kept, all but the last two.
const CLICKS: &str = "  clicks: {from: shop.clicks, select: count(*)}
  last_click: {from: shop.clicks, select: max(at)}
  first_page: {from: shop.clicks, select: first(page)}
  favourite: {from: shop.clicks, select: most_frequent(page)}
  cookies: {from: shop.clicks, select: unique_count(cookie)}
  score: {from: shop.clicks, select: \"sum(CASE page WHEN 'pay' THEN 7 WHEN 'buy' THEN -3 END)\", where: email <> 'e2@x.com'}
  early: {from: shop.clicks, select: count(*), before: 2026-03-08}
  both: {from: [shop.clicks, shop.customers], select: count(*)}
  lately: {from: shop.clicks, select: count(*), within: 3 days}
  mean: {from: shop.clicks, select: avg(character_length(page))}
";
const BY_DAY: &str = "SELECT date_trunc('day', at) AS day, count(*) AS visits FROM shop.visits GROUP BY 1";
const OLD: &str = "SELECT id, email FROM shop.visits WHERE at < as_of() - INTERVAL '5 days'";
const OLD_EMAILS: &str = "SELECT email, count(*) AS visits FROM old_visits GROUP BY 1";
const BY_COOKIE: &str = "SELECT c.cookie, c.page, count(*) AS clicks, max(c.at) AS last_at, count(k.customer) AS known
FROM shop.clicks c LEFT JOIN shop.customers k ON k.email = c.email GROUP BY 1, 2";
/// The key comes through `dedupe: {by: id}`.
const VISIT_ROWS: &str = "SELECT id, cookie, page, row_number() OVER (PARTITION BY id ORDER BY page) AS number
FROM (SELECT * FROM shop.visits WHERE page <> 'see' UNION ALL SELECT * FROM shop.visits WHERE page = 'see')";
const BIG: &str = "SELECT person_id, count(*) AS identifiers FROM person GROUP BY 1";

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A shop's project as a state that random events change.
struct Shop {
    project: Project,
    dice: Dice,
    visits: BTreeMap<String, Vec<String>>,
    next: u64,
    day: u64,
    rules: BTreeSet<String>,
    max_links: u64,
    with_trait: bool,
    with_audience: bool,
    picks: u64,
}

impl Shop {
    fn new(seed: u64) -> Self {
        let mut shop = Self {
            project: Project::of(&[
                ("kinfold.yaml", PROJECT),
                ("sources.yaml", SOURCES),
                ("models/by_day.sql", BY_DAY),
                ("models/old_visits.sql", OLD),
                ("models/old_visits.yaml", "materialized: view\n"),
                ("models/old_emails.sql", OLD_EMAILS),
                ("models/by_cookie.sql", BY_COOKIE),
                (
                    "models/by_cookie.yaml",
                    "materialized: incremental\nunique_key: [cookie, page]\nincremental: {by: cookie}\n",
                ),
                ("models/visit_rows.sql", VISIT_ROWS),
                ("models/visit_rows.yaml", "materialized: incremental\nunique_key: id\n"),
                ("models/big.sql", BIG),
                ("models/segments.yaml", SEGMENTS),
            ]),
            dice: Dice(seed),
            visits: BTreeMap::new(),
            next: 0,
            day: 10,
            rules: BTreeSet::new(),
            max_links: 6,
            with_trait: false,
            with_audience: false,
            picks: 0,
        };
        for day in [3, 8, 10] {
            shop.append(day);
        }
        let customers = "customer,email,changed_at\nk1,e1@x.com,2026-03-01\nk2,e2@x.com,2026-03-01\n";
        shop.project.write("data/customers/1.csv", customers);
        shop.define();
        shop
    }

    /// Writes the definitions as they are now.
    fn define(&self) {
        let rules: Vec<&str> = self.rules.iter().map(String::as_str).collect();
        let rules = format!("verdict,left,right,reason,by,at\n{}\n", rules.join("\n"));
        self.project.write("models/rules.csv", &rules);
        self.project.write(
            "models/person.yaml",
            &format!(
                "kind: identity\nname: person\nidentifiers:\n  customer: {{max_per_entity: 1}}\n  email: {{normalize: email}}\n  \
                 cookie: {{max_links: {}}}\nlinks:\n  - {{from: shop.visits, ids: {{cookie: cookie, email: email}}}}\n  \
                 - {{from: shop.clicks, ids: {{cookie: cookie, email: email}}}}\n  - {{from: shop.customers, ids: {{customer: customer, email: email}}}}\nrules: models/rules.csv\n",
                self.max_links
            ),
        );
        let mut more = CLICKS.to_owned();
        if self.with_trait {
            more.push_str("  pages: {from: shop.visits, select: unique_list(page)}\n");
            more.push_str("  clicked: {from: [shop.clicks, shop.visits], select: unique_list(page)}\n");
        }
        self.project.write(
            "models/person_profile.yaml",
            &format!(
                "kind: profile\nname: person_profile\nidentity: person\nattributes:\n  email: {{from: [shop.customers.email, \
                 shop.visits.email], pick: latest}}\n  cookie: {{from: [shop.clicks.cookie, shop.visits.cookie], pick: earliest}}\n  \
                 any_email: {{from: [shop.clicks.email, shop.customers.email], pick: most_frequent}}\ntraits:\n  visits: {{from: shop.visits, select: count(*)}}\n  \
                 last_visit: {{from: shop.visits, select: max(at)}}\n{more}"
            ),
        );
        let audience = "kind: audience\nname: came_often\nprofile: person_profile\nwhere: {trait: visits >= 3}\n";
        if self.with_audience {
            self.project.write("models/came_often.yaml", audience);
        } else if self.project.path("models/came_often.yaml").exists() {
            self.project.remove("models/came_often.yaml");
        }
        let picks = format!("identifier,by,reason,at\nemail:e1@x.com,care team,reason {},\n", self.picks);
        self.project.write("models/picks.csv", &picks);
    }

    fn row(&mut self, day: u64) -> String {
        self.next += 1;
        let (cookie, email, page) =
            (self.dice.below(9), self.dice.below(8), ["pay", "buy", "see"][self.dice.below(3) as usize]);
        let email = if email < 5 { format!("e{email}@x.com") } else { String::new() };
        format!("v{:04},c{cookie},{email},{page},2026-03-{day:02}T{:02}:00:00", self.next, self.dice.below(24))
    }

    fn append(&mut self, day: u64) {
        let rows: Vec<String> = (0..=self.dice.below(5)).map(|_| self.row(day)).collect();
        self.put(format!("{:03}.csv", self.next), rows);
    }

    fn put(&mut self, name: String, rows: Vec<String>) {
        let text = format!("id,cookie,email,page,at\n{}\n", rows.join("\n"));
        self.project.write(&format!("data/visits/{name}"), &text);
        self.visits.insert(name, rows);
    }

    fn some_file(&mut self) -> String {
        let n = self.dice.below(self.visits.len() as u64) as usize;
        self.visits.keys().nth(n).unwrap().clone()
    }

    /// Something happens; what, in words.
    fn event(&mut self) -> String {
        let word = match self.dice.below(14) {
            0 | 1 => {
                self.append(self.day);
                "a file is appended"
            }
            2 => {
                let day = 1 + self.dice.below(self.day);
                self.append(day);
                "a late file comes"
            }
            3 => {
                let file = self.some_file();
                let rows = self.visits[&file].clone();
                self.next += 1;
                self.put(format!("{:03}-again.csv", self.next), rows);
                "rows are delivered again"
            }
            4 => {
                let file = self.some_file();
                let swap =
                    |row: &String| row.replace(",pay,", ",buX,").replace(",buy,", ",pay,").replace(",buX,", ",buy,");
                let rows = self.visits[&file].iter().map(swap).collect();
                self.put(file, rows);
                "a file is replaced by one of its size"
            }
            5 if self.visits.len() > 2 => {
                let file = self.some_file();
                self.project.remove(&format!("data/visits/{file}"));
                self.visits.remove(&file);
                "a file is removed"
            }
            6 | 7 => {
                let (verdict, cookie) = (["never", "always"][self.dice.below(2) as usize], self.dice.below(3));
                let rule = format!("{verdict},email:e{cookie}@x.com,cookie:c{cookie},because,desk,2026-03-02");
                let other = if verdict == "never" {
                    rule.replacen("never", "always", 1)
                } else {
                    rule.replacen("always", "never", 1)
                };
                self.rules.remove(&other);
                if !self.rules.remove(&rule) {
                    self.rules.insert(rule);
                }
                "a rule changes"
            }
            8 => {
                self.max_links = if self.max_links == 6 { 3 } else { 6 };
                "a limit changes"
            }
            9 => {
                self.with_trait = !self.with_trait;
                "a trait comes or goes"
            }
            10 => {
                self.with_audience = !self.with_audience;
                "an audience comes or goes"
            }
            11 => {
                self.day += 1 + self.dice.below(3);
                "time passes"
            }
            12 => {
                self.picks += 1;
                "the reason of a pick changes"
            }
            _ => {
                let page = ["pay", "buy"][self.dice.below(2) as usize];
                self.project.set("PAGE", page);
                "the environment says which page"
            }
        };
        self.define();
        word.to_owned()
    }

    fn run(&self, more: &[&str]) -> Outcome {
        let as_of = self.as_of();
        self.project.kinfold(&[&["run", "--as-of", &as_of], more].concat())
    }

    fn as_of(&self) -> String {
        format!("2026-03-{:02}T12:00:00Z", self.day)
    }

    /// Starts a run and kills it some time later; its lease is over at once, as it would be in a minute.
    fn kill_a_run(&mut self) {
        let mut child = self.project.spawn(&["run", "--as-of", &self.as_of()]);
        std::thread::sleep(Duration::from_millis(self.dice.below(900)));
        let _ = child.kill();
        child.wait().unwrap();
        let leases = self.project.path("target/warehouse/_kinfold/leases");
        let newest = std::fs::read_dir(leases).unwrap().map(|e| e.unwrap().path()).max().unwrap();
        let mut lease: Value = serde_json::from_slice(&std::fs::read(&newest).unwrap()).unwrap();
        lease["expires_at"] = "2026-01-01T00:00:00Z".into();
        std::fs::write(&newest, lease.to_string()).unwrap();
    }

    /// Makes everything again in a copy of the warehouse as it is now: the same registry, the same key.
    fn rebuild(&self) {
        let rebuilt = self.project.path("target/rebuilt");
        let _ = std::fs::remove_dir_all(&rebuilt);
        copy(&self.project.path("target/warehouse"), &rebuilt);
        self.run(&["--full", "--target", "rebuilt"]).exits(0);
    }

    /// Tables that are not those of the rebuild.
    fn differences(&self) -> Vec<String> {
        let (ours, rebuilt) = (tables(&self.project, "target/warehouse"), tables(&self.project, "target/rebuilt"));
        assert!(ours.len() > 12, "{:?}", ours.keys());
        assert_eq!(ours.keys().collect::<Vec<_>>(), rebuilt.keys().collect::<Vec<_>>());
        let differs = |(name, rows): (&String, &Vec<String>)| {
            (rebuilt[name] != *rows).then(|| format!("{name}: {rows:#?} is not {:#?}", rebuilt[name]))
        };
        ours.iter().filter_map(differs).collect()
    }
}

/// The rows of every table that is no history, without the run that wrote them and its time.
fn tables(project: &Project, warehouse: &str) -> BTreeMap<String, Vec<String>> {
    let location = Location::parse(warehouse, &project.path("")).unwrap();
    let warehouse = Warehouse::open(&location, &BTreeMap::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let snapshot = warehouse.snapshot(None).await.unwrap();
        let mut all = BTreeMap::new();
        for (name, at) in &snapshot.tables {
            let history = ["audience_changes", "audience_history", "audience_sizes", "person_changes", "person_report"];
            if name.starts_with("kinfold.") || history.contains(&name.as_str()) {
                continue;
            }
            let table = warehouse.table(at).await.unwrap();
            let mut rows = Vec::new();
            for batch in warehouse.read_all(&table).await.unwrap() {
                rows.extend(lines(&batch));
            }
            rows.sort_unstable();
            all.insert(name.clone(), rows);
        }
        all
    })
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let schema = batch.schema();
    let kept = schema.fields().iter().enumerate().filter(|(_, f)| !["run", "as_of"].contains(&f.name().as_str()));
    let kept: Vec<usize> = kept.map(|(n, _)| n).collect();
    let batch = batch.project(&kept).unwrap();
    let text = |row: usize| {
        let cell = |c: &ArrayRef| array_value_to_string(c, row).unwrap();
        batch.columns().iter().map(cell).collect::<Vec<_>>().join("|")
    };
    (0..batch.num_rows()).map(text).collect()
}

/// The names under a key of the last run's report.
fn names(project: &Project, key: &str) -> BTreeSet<String> {
    let report = project.report();
    report[key].as_array().unwrap().iter().map(|n| n.get("model").unwrap_or(n).as_str().unwrap().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn after_any_sequence_of_runs_the_tables_are_those_of_a_rebuild() {
    let (mut unchanged, mut built, mut taken, mut grown) = (0, 0, 0, 0);
    for seed in SEEDS {
        let mut shop = Shop::new(seed);
        shop.run(&[]).exits(0);
        let mut story = vec![format!("seed {seed}")];
        for _ in 0..STEPS {
            for _ in 0..=shop.dice.below(2) {
                story.push(shop.event());
            }
            shop.rebuild();
            if shop.dice.below(4) == 0 {
                story.push("a run is killed".to_owned());
                shop.kill_a_run();
            }
            let outcome = shop.run(&[]).exits(0);
            let differences = shop.differences();
            assert!(differences.is_empty(), "{story:#?}\n{differences:#?}\n{outcome}");
            unchanged += names(&shop.project, "unchanged").len();
            built += names(&shop.project, "nodes").len();
            grown += shop.project.report()["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|n| n["facts"]["updated"]["made"] == "keys")
                .count();
            taken += shop.project.number(
                "SELECT count(*) FROM kinfold.partials WHERE idle = 0 AND run < (SELECT max(run) FROM kinfold.runs)",
            );
        }
        shop.run(&[]).exits(0);
        assert_eq!(names(&shop.project, "nodes"), set(&[]), "nothing changed since the last run: {story:#?}");
    }
    assert!(
        unchanged > 30 && built > 60 && taken > 20 && grown > 8,
        "{unchanged} models stayed, {built} were built, {grown} of them in parts, {taken} sets of states were there: one of them is not tested"
    );
}

#[test]
fn a_table_that_is_left_behind_is_seen_by_the_comparison() {
    let mut shop = Shop::new(1);
    shop.run(&[]).exits(0);
    shop.append(10);
    shop.rebuild();
    shop.run(&["--exclude", "by_day"]).exits(0);
    let differences = shop.differences();
    assert!(differences.len() == 1 && differences[0].starts_with("by_day:"), "{differences:#?}");
    shop.run(&[]).exits(0);
    assert_eq!(shop.differences(), Vec::<String>::new());
}

#[test]
fn a_run_builds_what_changed_and_says_what_did_not() {
    let mut shop = Shop::new(7);
    let all = [
        "big",
        "by_cookie",
        "by_day",
        "clicking",
        "hesitating",
        "known",
        "old_emails",
        "old_visits",
        "paying",
        "person",
        "person_profile",
        "recent",
        "visit_rows",
    ];
    shop.run(&[]).exits(0);
    assert_eq!(names(&shop.project, "nodes"), set(&all));
    let again = shop.run(&[]).exits(0);
    assert_eq!((names(&shop.project, "nodes"), names(&shop.project, "unchanged")), (set(&[]), set(&all)));
    assert_eq!(names(&shop.project, "untested"), set(&["shop.visits"]));
    assert_eq!(shop.project.report()["source_files"], 0);
    assert!(again.stdout.contains("data tests not run, unchanged since they passed: shop.visits"), "{again}");
    let count = "SELECT count(*) FROM kinfold.nodes WHERE run = 2 AND status = 'unchanged' AND rows IS NOT NULL";
    assert_eq!(shop.project.number(count), 13);
    // a table that stays is at its version; what a run did is appended
    let status = shop.project.kinfold(&["status", "-n", "1", "--output", "json"]).exits(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let changed = status[0]["tables_changed"].as_array().unwrap().iter().filter_map(Value::as_str);
    // files that were written a moment before the first run were hashed once more
    assert_eq!(changed.filter(|t| *t != "kinfold.files").collect::<Vec<_>>(), ["kinfold.nodes", "kinfold.runs"]);

    // time is an input of what counts from it, and of what reads that
    shop.day += 1;
    shop.run(&[]).exits(0);
    let timed = ["hesitating", "known", "clicking", "paying", "recent", "old_emails", "old_visits", "person_profile"];
    assert_eq!(names(&shop.project, "nodes"), set(&timed));
    // a file that holds what it held is the same file, whenever it was written
    for name in shop.visits.keys() {
        let path = format!("data/visits/{name}");
        shop.project.write(&path, &shop.project.read(&path));
    }
    shop.run(&[]).exits(0);
    assert_eq!(names(&shop.project, "nodes"), set(&[]));
    shop.run(&["--full"]).exits(0);
    assert_eq!(names(&shop.project, "nodes"), set(&all));
}

#[test]
fn values_that_are_not_shown_are_inputs_too() {
    let mut shop = Shop::new(8);
    shop.run(&[]).exits(0);
    shop.project.set("PAGE", "see");
    let plan = shop.project.kinfold(&["plan", "--as-of", &shop.as_of(), "--effects", "never"]).exits(0);
    assert!(plan.stdout.contains("a value that is not shown changed"), "{plan}");
    shop.run(&[]).exits(0);
    assert_eq!(names(&shop.project, "nodes"), set(&["clicking", "paying"]));
    // the table tells who picked somebody and why
    shop.picks += 1;
    shop.define();
    shop.run(&[]).exits(0);
    assert_eq!(names(&shop.project, "nodes"), set(&["recent"]));
    // the key of an identity
    let person = shop.project.read("models/person.yaml");
    shop.project.set("KEY", "one");
    shop.project.write("models/person.yaml", &format!("{person}id_key: \"${{KEY}}\"\n"));
    shop.run(&[]).exits(0);
    shop.project.set("KEY", "two");
    shop.run(&[]).exits(0);
    assert!(names(&shop.project, "nodes").contains("person"));
    // what asks the clock never stays
    shop.project.write("models/by_day.sql", "SELECT now() AS at, count(*) AS visits FROM shop.visits");
    shop.run(&[]).exits(0);
    shop.run(&[]).exits(0);
    assert_eq!(names(&shop.project, "nodes"), set(&["by_day"]));
}

#[test]
fn a_model_that_was_built_over_another_definition_is_not_taken_for_current() {
    let mut shop = Shop::new(9);
    shop.run(&[]).exits(0);
    // the profile is built with the identity's new limit, the identity is not; then the limit is taken back
    shop.max_links = 1;
    shop.define();
    shop.run(&["--select", "person_profile"]).exits(0);
    assert_eq!(names(&shop.project, "nodes"), set(&["person_profile"]));
    shop.max_links = 6;
    shop.define();
    shop.run(&[]).exits(0);
    assert!(names(&shop.project, "nodes").contains("person_profile"));
    assert!(names(&shop.project, "unchanged").contains("person"));
}

#[test]
fn data_tests_run_again_until_they_pass_on_what_is_there() {
    let mut shop = Shop::new(10);
    shop.run(&[]).exits(0);
    shop.put("broken.csv".to_owned(), vec![",c1,,pay,2026-03-09T08:00:00".to_owned()]);
    for _ in 0..2 {
        shop.run(&[]).exits(1);
        let withheld = names(&shop.project, "withheld");
        assert!(withheld.contains("person") && withheld.contains("by_day"), "{withheld:?}");
    }
    shop.put("broken.csv".to_owned(), vec!["v9,c1,,pay,2026-03-09T08:00:00".to_owned()]);
    shop.run(&[]).exits(0);
    shop.run(&[]).exits(0);
    assert_eq!(names(&shop.project, "untested"), set(&["shop.visits"]));
    // another test of the same rows is another question
    let sources = shop.project.read("sources.yaml").replace("not_null: id", "not_null: email");
    shop.project.write("sources.yaml", &sources);
    shop.run(&[]).exits(1);
    assert_eq!(names(&shop.project, "nodes"), set(&[]));
}

#[test]
fn a_file_that_is_gone_stops_the_run_unless_the_table_says_otherwise() {
    let shop = Shop::new(12);
    let sources = shop.project.read("sources.yaml");
    shop.project.write("sources.yaml", &sources.replace("vanished: forget", "vanished: error"));
    shop.run(&[]).exits(0);
    let before = shop.project.number("SELECT sum(visits) FROM by_day");
    let name = shop.visits.keys().next().unwrap();
    shop.project.remove(&format!("data/visits/{name}"));
    let gone = [&format!("data/visits/{name}")[..], "are gone", "`shop.visits`", "vanished: forget", "--full"];
    shop.run(&[]).exits(1).without_data().says(&gone);
    let plan = shop.project.kinfold(&["plan", "--as-of", &shop.as_of(), "--effects", "never"]).exits(0);
    assert!(plan.stdout.contains("a run would stop: files that the last run read are gone"), "{plan}");
    assert_eq!(shop.project.number("SELECT sum(visits) FROM by_day"), before);
    // once, or always
    shop.run(&["--full"]).exits(0);
    let left = before - shop.visits[name].len() as i64;
    assert_eq!(shop.project.number("SELECT sum(visits) FROM by_day"), left);
    shop.run(&[]).exits(0);
    shop.project.write("sources.yaml", &sources);
    let second = shop.visits.keys().nth(1).unwrap();
    shop.project.remove(&format!("data/visits/{second}"));
    shop.run(&[]).exits(0);
    assert_eq!(shop.project.number("SELECT sum(visits) FROM by_day"), left - shop.visits[second].len() as i64);
}

/// What may be sent is judged by the present definitions, so rows that an older one made stay where they are.
#[test]
fn nothing_is_sent_that_an_older_definition_made() {
    let project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    project.kinfold(&["run"]).exits(0);
    project.kinfold(&["sync"]).exits(0);
    let profile = project.read("models/person_profile.yaml");
    project.write("models/person_profile.yaml", &profile.replace("select: count(*)}", "select: count(*) + 1}"));
    let refused = project.kinfold(&["sync"]).exits(2);
    refused.says(&["`came_back_to_outbox` would send what `", "kinfold run --select"]);
    project.kinfold(&["run"]).exits(0);
    project.kinfold(&["sync"]).exits(0);
}
