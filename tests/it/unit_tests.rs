//! Unit tests of models: given rows in, expected rows out, without data, credentials or a warehouse.

use crate::support::Project;
use serde_json::Value;

/// No data folder, and variables that nobody sets: nothing outside the project's files is needed.
const KINFOLD: &str = "name: shop\nwarehouse: \"${SHOP_WAREHOUSE}\"\nsecrets: {KEY: \"${SHOP_KEY}\"}\n";

const SOURCES: &str = "\
sources:
  - name: shop
    location: \"${SHOP_DATA}/files\"
    tables:
      - name: visits
        path: visits/
        format: parquet
        time: at
        select: {where: event IS DISTINCT FROM 'heartbeat'}
        dedupe: {by: id}
      - {name: customers, path: customers/, format: parquet, time: created_at, row_id: customer}
      - {name: orders, path: orders/, format: csv, time: at, columns: {amount: {type: DOUBLE}, at: {type: TIMESTAMP}}}
";

const DESTINATIONS: &str =
    "destinations:\n  - {name: lake, type: files, location: \"${SHOP_OUTBOX}\", format: parquet}\n";

const PERSON: &str = "\
kind: identity
name: person
identifiers:
  customer: {max_per_entity: 1}
  email: {normalize: email, block: [nobody@example.com]}
  cookie: {max_links: 3}
links:
  - {from: shop.visits, ids: {cookie: cookie, email: email}}
  - {from: shop.customers, ids: {customer: customer, email: email}}
  - {from: shop.orders, ids: {customer: customer}}
id_key: \"${SHOP_ID_KEY}\"
";

const PROFILE: &str = "\
kind: profile
name: person_profile
identity: person
attributes:
  email: {from: [shop.customers.email, shop.visits.email], pick: source_order}
traits:
  visits_7d: {from: shop.visits, select: count(*), within: 7 days}
  spent: {from: shop.orders, select: sum(amount), default: 0}
  newsletter: {from: shop.customers, select: count(*), where: wants_mail AND loyalty > 2}
";

const AUDIENCE: &str = "\
kind: audience
name: looked_not_bought
profile: person_profile
where:
  sequence:
    - {event: shop.visits, is: product_viewed, pick: latest}
    - not: {event: shop.orders, within: 24 hours}
";

const SYNC: &str = "\
kind: sync
name: to_lake
from: looked_not_bought
to: lake
mode: upsert
key: person_id
columns: {person_id: person_id, email: email, seal: \"hmac_sha256(email, secret('KEY'))\"}
";

fn shop(files: &[(&str, &str)]) -> Project {
    let project = Project::of(&[
        ("kinfold.yaml", KINFOLD),
        ("sources.yaml", SOURCES),
        ("destinations.yaml", DESTINATIONS),
        ("models/person.yaml", PERSON),
        ("models/person_profile.yaml", PROFILE),
        ("models/looked_not_bought.yaml", AUDIENCE),
        ("models/to_lake.yaml", SYNC),
        (
            "models/daily.sql",
            "SELECT v.day, v.viewers, o.orders\nFROM (SELECT CAST(date_trunc('day', at) AS DATE) AS day, count(DISTINCT cookie) AS viewers\n      FROM shop.visits GROUP BY 1) AS v\nLEFT JOIN (SELECT CAST(date_trunc('day', at) AS DATE) AS day, count(*) AS orders\n           FROM shop.orders GROUP BY 1) AS o ON o.day = v.day\n",
        ),
    ]);
    for (path, text) in files {
        project.write(path, text);
    }
    project
}

/// A project with one file of unit tests.
fn tested(tests: &str) -> Project {
    shop(&[("models/tests.yaml", tests)])
}

/// What was printed, without durations.
fn printed(project: &Project, code: i32) -> String {
    let outcome = project.kinfold(&["test"]).exits(code);
    let lines = outcome.stdout.lines().map(|line| match line.strip_suffix(" s") {
        Some(timed) => timed.rsplit_once(' ').map_or(timed, |(rest, _)| rest),
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

const PASSING: &str = "\
kind: test
name: one_address_in_two_spellings_is_one_person
model: person
as_of: 2026-03-31
given:
  shop.visits:
    - {cookie: c1, email: Ann@Example.com, at: 2026-03-01}
    - {cookie: c2, email: nobody@example.com, at: 2026-03-01}
  shop.customers:
    - {customer: k1, email: ' ann@example.com', created_at: 2026-01-01}
    - {customer: k2, email: bob@example.com, created_at: 2026-01-01}
expect:
  person:
    - {identifier_type: cookie, identifier: c1, person_id: '@ann'}
    - {identifier_type: email, identifier: ann@example.com, person_id: '@ann'}
    - {identifier_type: customer, identifier: k1, person_id: '@ann'}
    - {identifier_type: customer, identifier: k2, person_id: '@bob'}
    - {identifier_type: email, identifier: bob@example.com, person_id: '@bob'}
    - {identifier_type: cookie, identifier: c2, person_id: '@stranger'}
  person_hubs: []
---
kind: test
name: two_customers_with_one_address_stay_two
model: person
as_of: 2026-03-31
given:
  shop.customers:
    csv: |
      customer,email,created_at
      k1,family@example.com,2026-01-01
      k2,family@example.com,2026-02-01
expect:
  person: {exactly: false, rows: [{identifier: k1, person_id: '@1'}, {identifier: k2, person_id: '@2'}]}
  person_links: {exactly: false, rows: [{right_identifier: family@example.com, accepted: false}]}
---
kind: test
name: a_window_ends_after_seven_days
model: person_profile
as_of: 2026-03-31
given:
  shop.visits:
    - {id: 1, cookie: c1, event: product_viewed, at: 2026-03-24}
    - {id: 2, cookie: c1, event: product_viewed, at: 2026-03-23T23:59:59Z}
    - {id: 3, cookie: c1, event: heartbeat, at: 2026-03-30}
    - {id: 1, cookie: c1, event: product_viewed, at: 2026-03-24}
    - {id: 4, cookie: c2, event: product_viewed, at: 2026-03-23}
  shop.orders: []
expect:
  rows:
    - {person_id: 'cookie:c1', visits_7d: 1, spent: 0, email: null}
    - {person_id: 'cookie:c2', visits_7d: 0}
---
kind: test
name: who_bought_within_a_day_is_out
model: looked_not_bought
as_of: 2026-03-31
given:
  shop.visits:
    - {id: 1, cookie: c1, email: ann@example.com, event: product_viewed, at: 2026-03-20}
    - {id: 2, cookie: c2, email: bob@example.com, event: product_viewed, at: 2026-03-20}
    - {id: 3, cookie: c3, email: cara@example.com, event: product_viewed, at: 2026-03-30T12:00:00Z}
  shop.customers:
    - {customer: k2, email: bob@example.com, created_at: 2026-01-01}
  shop.orders:
    - {customer: k2, amount: 5, at: 2026-03-20T23:00:00}
expect:
  rows: [{person_id: 'email:ann@example.com'}]
---
kind: test
name: a_day_without_orders_is_kept
model: daily
as_of: 2026-03-31
given:
  shop.visits:
    - {id: 1, cookie: c1, at: 2026-03-01T10:00:00Z, event: a}
    - {id: 2, cookie: c1, at: 2026-03-01T11:00:00Z, event: a}
    - {id: 3, cookie: c2, at: 2026-03-02T10:00:00Z, event: a}
  shop.orders:
    - {at: 2026-03-02T12:00:00}
    - {at: 2026-03-02T13:00:00}
expect:
  - {day: 2026-03-01, viewers: 1, orders: null}
  - {day: 2026-03-02, viewers: 1, orders: 2}
---
kind: test
name: a_given_profile_cuts_off_what_is_before_it
model: to_lake
as_of: 2026-03-31
given:
  person_profile:
    - {person_id: '@ann', email: ann@example.com, visits_7d: 3}
    - {person_id: '@bob', email: bob@example.com}
  looked_not_bought:
    - {person_id: '@ann'}
expect:
  - {person_id: '@ann', email: ann@example.com}
";

#[test]
fn every_kind_of_model_is_tested_without_data_or_credentials() {
    let project = tested(PASSING);
    assert_eq!(
        printed(&project, 0),
        "\
ok      one_address_in_two_spellings_is_one_person
ok      two_customers_with_one_address_stay_two
ok      a_window_ends_after_seven_days
ok      who_bought_within_a_day_is_out
ok      a_day_without_orders_is_kept
ok      a_given_profile_cuts_off_what_is_before_it

6 unit tests: all passed
"
    );
    assert!(!project.path("target").exists(), "nothing is written");
}

#[test]
fn a_test_that_expects_something_else_fails() {
    // each replacement turns one true expectation into a false one
    for (name, from, to) in [
        ("one_address", "identifier: k1, person_id: '@ann'", "identifier: k1, person_id: '@stranger'"),
        ("one_address", "person_hubs: []", "person_hubs: [{identifier: c1}]"),
        ("two_customers", "identifier: k2, person_id: '@2'", "identifier: k2, person_id: '@1'"),
        ("a_window", "visits_7d: 1, spent", "visits_7d: 2, spent"),
        ("a_window", "email: null", "email: ann@example.com"),
        ("who_bought", "rows: [{person_id: 'email:ann@example.com'}]", "rows: []"),
        ("who_bought", "'email:ann@example.com'}", "'email:bob@example.com'}"),
        ("a_day", "orders: null", "orders: 0"),
        ("a_given", "{person_id: '@ann', email: ann@example.com}", "{person_id: '@bob', email: ann@example.com}"),
    ] {
        assert!(PASSING.contains(from), "{from}");
        let project = tested(&PASSING.replace(from, to));
        let outcome = project.kinfold(&["test"]).exits(1);
        let failed: Vec<&str> = outcome.stdout.lines().filter(|l| l.starts_with("FAILED")).collect();
        assert!(failed.len() == 1 && failed[0].contains(name), "`{to}`: {outcome}");
        assert!(outcome.stdout.ends_with("6 unit tests: 5 passed, 1 FAILED\n"), "{outcome}");
    }
}

#[test]
fn what_differs_is_shown_row_by_row() {
    let project = tested(
        "\
kind: test
name: merged
model: person
as_of: 2026-03-31
given:
  shop.visits:
    - {cookie: c1, email: a@example.com, at: 2026-03-01}
    - {cookie: c2, email: a@example.com, at: 2026-03-02}
expect:
  - {identifier_type: cookie, identifier: c1, person_id: '@1', first_seen: 2026-03-01}
  - {identifier_type: cookie, identifier: c2, person_id: '@2', first_seen: 2026-03-02}
  - {identifier_type: email, identifier: a@example.com, person_id: '@1', first_seen: 2026-03-01}
---
kind: test
name: members
model: looked_not_bought
as_of: 2026-03-31
given:
  shop.visits:
    - {id: 1, cookie: c1, email: ann@example.com, event: product_viewed, at: 2026-03-20}
    - {id: 2, cookie: c2, email: bob@example.com, event: product_viewed, at: 2026-03-20}
expect:
  - {person_id: 'email:ann@example.com', reason: rule}
  - {person_id: 'email:cara@example.com', reason: by hand}
",
    );
    assert_eq!(
        printed(&project, 1),
        "\
FAILED  merged (models/tests.yaml:2)
        person: expected 3 rows, found 3
            identifier_type  identifier  person_id  first_seen
          ~ cookie           c2          @2 -> @1   2026-03-02
FAILED  members (models/tests.yaml:15)
        looked_not_bought: expected 2 rows, found 2
            person_id               reason
          - email:cara@example.com  by hand
          + email:bob@example.com   rule

2 unit tests: 0 passed, 2 FAILED
"
    );
}

#[test]
fn results_are_written_for_machines() {
    let project = tested(&PASSING.replace("visits_7d: 1, spent", "visits_7d: 2, spent"));
    let json: Value = serde_json::from_str(&project.kinfold(&["test", "--output", "json"]).exits(1).stdout).unwrap();
    let statuses: Vec<&str> = json.as_array().unwrap().iter().map(|t| t["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["passed", "passed", "failed", "passed", "passed", "passed"]);
    let failed = &json[2];
    assert_eq!((&failed["file"], &failed["line"]), (&"models/tests.yaml".into(), &37.into()));
    let difference = &failed["tables"][0]["differences"][0];
    assert_eq!(difference["change"], "changed");
    assert_eq!(difference["expected"], serde_json::json!(["cookie:c1", "2", "0", "null"]));
    assert_eq!(difference["actual"], serde_json::json!(["cookie:c1", "1", "0", "null"]));
    let junit = project.kinfold(&["test", "--output", "junit"]).exits(1).stdout;
    assert!(junit.contains("<testsuite name=\"kinfold\" tests=\"6\" failures=\"1\""), "{junit}");
    assert!(junit.contains("classname=\"person_profile\" name=\"a_window_ends_after_seven_days\""), "{junit}");
    assert_eq!(junit.matches("<failure").count(), 1, "{junit}");
}

#[test]
fn tests_are_chosen_by_name_or_by_model() {
    let project = tested(PASSING);
    let one = project.kinfold(&["test", "who_bought_within_a_day_is_out"]).exits(0).stdout;
    assert!(one.contains("1 unit test: all passed"), "{one}");
    let two = project.kinfold(&["test", "--select", "kind:identity"]).exits(0).stdout;
    assert!(two.contains("2 unit tests: all passed"), "{two}");
    let none = project.kinfold(&["test", "who_bought_within_a_dy_is_out"]).exits(2).without_data();
    none.says(&["no unit test `who_bought_within_a_dy_is_out`", "did you mean `who_bought_within_a_day_is_out`?"]);
    let without = shop(&[]).kinfold(&["test"]).exits(0).stdout;
    assert!(without.contains("no unit tests"), "{without}");
}

#[test]
fn a_given_identity_names_who_is_who() {
    let project = tested(
        "\
kind: test
name: counted_for_whom
model: person_profile
as_of: 2026-03-31
given:
  person:
    - {identifier_type: cookie, identifier: c1, person_id: '@ann'}
    - {identifier_type: cookie, identifier: c2, person_id: '@ann'}
    - {identifier_type: customer, identifier: k1, person_id: '@bob'}
  shop.visits:
    - {id: 1, cookie: c1, event: a, at: 2026-03-30}
    - {id: 2, cookie: c2, event: a, at: 2026-03-30}
  shop.orders:
    - {customer: k1, amount: 2.5, at: 2026-03-30}
    - {customer: k1, amount: 0.1, at: 2026-03-30}
expect:
  - {person_id: '@ann', visits_7d: 2, spent: 0}
  - {person_id: '@bob', visits_7d: 0, spent: 2.6}
",
    );
    assert!(printed(&project, 0).contains("1 unit test: all passed"));
}

#[test]
fn a_given_model_is_read_in_place_of_its_query() {
    let project = tested(
        "\
kind: test
name: busy_days
model: busy
as_of: 2026-03-31
given:
  daily:
    - {day: 2026-03-01, viewers: 7, orders: 2}
    - {day: 2026-03-02, viewers: 8}
  shown:
    - {day: 2026-03-01, note: sale}
expect:
  ordered: true
  rows: [{day: 2026-03-01, rate: 0.2857142857142857, note: sale}]
---
kind: test
name: days_through_the_view
model: busy
as_of: 2026-03-31
given:
  daily: [{day: 2026-03-01, viewers: 2, orders: 1}]
expect:
  - {day: 2026-03-01, rate: 0.5, note: '-'}
",
    );
    project.write("models/shown.sql", "SELECT day, '-' AS note FROM daily\n");
    project.write("models/shown.yaml", "materialized: view\n");
    project.write(
        "models/busy.sql",
        "SELECT d.day, d.orders / CAST(d.viewers AS DOUBLE) AS rate, s.note\nFROM daily AS d JOIN shown AS s ON s.day = d.day WHERE d.orders > 0\nORDER BY d.day\n",
    );
    assert!(printed(&project, 0).contains("2 unit tests: all passed"));
}

fn wrong(tests: &str, says: &[&str]) {
    tested(tests).kinfold(&["test"]).exits(2).without_data().says(says);
}

/// A test of `person` over these given rows, that expects these.
fn person(given: &str, expect: &str) -> String {
    format!("kind: test\nname: t\nmodel: person\nas_of: 2026-03-31\ngiven: {{{given}}}\nexpect: {{{expect}}}\n")
}

#[test]
fn wrong_tests_are_findings_at_their_line() {
    let visits = "shop.visits: [{cookie: c1, at: 2026-03-01}]";
    let row = "person: [{identifier: c1}]";
    wrong(&person(visits, "person: [{identifer: c1}]"), &["error[K0510]", "models/tests.yaml:6:", "`identifier`?"]);
    wrong(&person(visits, "person: [{first_seen: soon}]"), &["error[K0511]", "`soon` is no value of `first_seen`"]);
    wrong(&person(visits, "persons: [{identifier: c1}]"), &["error[K0203]", "models/tests.yaml:6:"]);
    wrong(&person("shop.visit: []", row), &["error[K0203]", "did you mean `shop.visits`?", "models/tests.yaml:5:"]);
    wrong(&person("shop.visits: [{cookie: c1, at: soon}]", row), &["error[K0511]", "`soon` is no value of `at`"]);
    wrong(&person("person_profile: []", row), &["error[K0115]", "`person` does not read `person_profile`"]);
    wrong(&person("shop.visits: [c1]", row), &["error[K0119]", "a row is a mapping"]);
    wrong(
        &person("shop.visits: {columns: {cookie: strng}, rows: []}", row),
        &["error[K0507]", "`strng` is not a type"],
    );
    wrong(&person(visits, "person: [{person_id: ann}]"), &["error[K0511]", "`ann` stands for no entity"]);
    let id = "person: [{identifier_type: cookie, identifier: c1, person_id: ann}]";
    wrong(&person(id, row), &["error[K0511]", "`ann` stands for no entity", "models/tests.yaml:5:"]);
    let list = "shop.visits: {columns: {cookie: 'VARCHAR[]'}, rows: [{cookie: [a, b]}]}";
    wrong(&person(list, row), &["error[K0511]", "such values cannot be given"]);
    let model = "kind: test\nname: t\nmodel: persn\nas_of: 2026-03-31\nexpect: []\n";
    wrong(model, &["error[K0204]", "models/tests.yaml:3:8", "did you mean `person`?"]);
    let timeless = "kind: test\nname: t\nmodel: person\nexpect: []\n";
    wrong(timeless, &["error[K0103]", "needs `as_of`"]);
    let nobody = "kind: test\nname: t\nmodel: to_lake\nas_of: 2026-03-31\n\
                  given: {looked_not_bought: [{person_id: 'email:zoe@example.com'}]}\nexpect: []\n";
    let outcome = tested(nobody).kinfold(&["test"]).exits(1);
    assert!(outcome.stdout.contains("nobody has the identifier `email:zoe@example.com`"), "{outcome}");
}

#[test]
fn a_model_that_is_wrong_is_wrong_once() {
    let project = tested(PASSING);
    project.write("models/person_profile.yaml", &PROFILE.replace("count(*), within", "cuont(*), within"));
    let outcome = project.kinfold(&["test"]).exits(2).without_data();
    assert_eq!(outcome.stderr.matches("error[").count(), 1, "{outcome}");
    outcome.says(&["models/person_profile.yaml:7:", "seen by the unit test"]);
}

#[test]
fn check_compares_unit_tests_with_the_real_tables() {
    let mut project =
        tested(&person("shop.visits: [{cookie: c1, emial: a, at: 2026-03-01}]", "person: [{identifier: c1}]"));
    project.set("SHOP_DATA", "data");
    for variable in ["SHOP_WAREHOUSE", "SHOP_KEY", "SHOP_OUTBOX", "SHOP_ID_KEY"] {
        project.set(variable, "x");
    }
    let sources = SOURCES.replace("format: parquet", "format: csv").replace("${SHOP_DATA}/files", "data");
    project.write("sources.yaml", &sources);
    project.write("data/visits/v.csv", "id,cookie,email,event,at\n");
    project.write("data/customers/c.csv", "customer,email,created_at,wants_mail,loyalty\n");
    project.write("data/orders/o.csv", "customer,amount,at\n");
    let outcome = project.kinfold(&["check", "--select", "person"]).exits(2);
    outcome.says(&["error[K0510]", "`shop.visits` has no column `emial`", "did you mean `email`?"]);
}
