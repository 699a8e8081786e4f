//! Data tests: what each kind finds, what a failure stops, and what is kept of it.

use crate::support::{Project, Row, files};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const KINFOLD: &str = "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n";

const PEOPLE: &str = "name\nann\nbob\n";

/// Five rows: an id twice, one without id and amount, an unknown status, an owner who is nobody.
const ITEMS: &str = "\
id,status,amount,owner
1,open,5,ann
2,done,7,bob
2,lost,-1,zoe
,open,,ann
5,open,3,
";

fn sources(tests: &str) -> String {
    format!(
        "sources:
  - name: shop
    location: data
    tables:
      - {{name: people, path: people.csv, format: csv}}
      - name: items
        path: items.csv
        format: csv
        row_id: id
        columns:
          amount: {{type: BIGINT}}
{tests}"
    )
}

/// A project of two source tables, with tests at `items`.
fn shop(tests: &str) -> Project {
    Project::of(&[
        ("kinfold.yaml", KINFOLD),
        ("sources.yaml", &sources(tests)),
        ("data/people.csv", PEOPLE),
        ("data/items.csv", ITEMS),
    ])
}

/// Status, failures and rows of each test that `kinfold test --data` ran.
fn results(project: &Project, code: i32) -> BTreeMap<String, (String, u64, Option<u64>)> {
    let rows = project.kinfold(&["test", "--data", "--output", "json"]).exits(code).rows();
    let result = |r: &Row| {
        let status = r["status"].as_str().unwrap().to_owned();
        (r["test"].as_str().unwrap().to_owned(), (status, r["failures"].as_u64().unwrap(), r["rows"].as_u64()))
    };
    rows.iter().map(result).collect()
}

#[test]
fn each_kind_finds_the_rows_that_fail() {
    let project = shop(
        "        tests:
          - {unique: id}
          - {unique: [id, status], name: unique_pairs}
          - {not_null: id}
          - {not_null: [id, amount, owner], name: filled}
          - {accepted_values: {column: status, values: [open, done]}}
          - {accepted_values: {column: amount, values: [5, 7, 3, -1]}}
          - {relationships: {column: owner, to: shop.people.name}}
          - {expression: amount >= 0}
          - {row_count: {min: 2, max: 4}}
          - {row_count: '> 4', name: enough}
          - {row_count: 4, name: of_some, where: id IS NOT NULL}
          - {sql: \"SELECT id FROM shop.items WHERE status = 'lost'\"}
",
    );
    let fail = |n, rows| ("fail".to_owned(), n, rows);
    let pass = |rows| ("pass".to_owned(), 0, Some(rows));
    let expected = [
        // both rows of an id that is there twice; the row without id is not compared
        ("unique_id", fail(2, Some(5))),
        ("unique_pairs", pass(5)),
        ("not_null_id", fail(1, Some(5))),
        ("filled", fail(2, Some(5))),
        ("accepted_values_status", fail(1, Some(5))),
        // null is accepted
        ("accepted_values_amount", pass(5)),
        ("relationships_owner", fail(1, Some(5))),
        // null is neither true nor false
        ("expression", fail(1, Some(5))),
        ("row_count", fail(1, Some(5))),
        ("enough", pass(5)),
        ("of_some", pass(4)),
        ("sql", fail(1, None)),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(name, result)| (name.to_owned(), result)).into();
    assert_eq!(results(&project, 1), expected);
}

#[test]
fn options_choose_rows_and_allow_failures() {
    let project = shop(
        "          id: {tests: [unique, {not_null: true, max_failures: 1, name: nearly_filled}]}
          status: {tests: [{accepted_values: [open, done], severity: warn}]}
          owner: {tests: [{relationships: shop.people.name, where: \"owner <> 'zoe'\"}]}
        tests: [{unique: id, where: status <> 'lost', name: unique_of_some}]
",
    );
    let got = results(&project, 1);
    let status = |test: &str| (got[test].0.as_str(), got[test].1, got[test].2);
    assert_eq!(status("unique_id"), ("fail", 2, Some(5)));
    assert_eq!(status("unique_of_some"), ("pass", 0, Some(4)));
    assert_eq!(status("nearly_filled"), ("pass", 1, Some(5)));
    assert_eq!(status("accepted_values_status"), ("warn", 1, Some(5)));
    assert_eq!(status("relationships_owner"), ("pass", 0, Some(3)));
    assert_eq!(got.len(), 5);
}

#[test]
fn a_test_that_cannot_be_computed_has_failed_and_the_others_run() {
    let project = shop(
        "        tests: [{expression: 10 / (amount - amount) > 0}, {not_null: status}]
",
    );
    let got = results(&project, 1);
    assert_eq!(got["expression"].0, "fail");
    assert_eq!(got["not_null_status"], ("pass".to_owned(), 0, Some(5)));
    let text = project.kinfold(&["test", "--data"]).exits(1).stdout;
    assert!(text.contains("FAILED shop.items: expression: cannot be computed: "), "{text}");
}

const ITEMS_TESTS: &str = "tests: [{unique: id}, {not_null: status}]\n";

/// Models: `items`, which is tested; `open_items` and `open_count`, made from it; `names`, which has nothing to do
/// with it; and a sync of `open_items`.
fn chain() -> Project {
    let project = shop("");
    let files = [
        ("models/items.sql", "SELECT id, status FROM shop.items WHERE id IS NOT NULL\n"),
        ("models/items.yaml", ITEMS_TESTS),
        ("models/open_items.sql", "SELECT id FROM items WHERE status = 'open'\n"),
        ("models/open_count.sql", "SELECT count(*) AS n FROM open_items\n"),
        ("models/names.sql", "SELECT name FROM shop.people\n"),
        (
            "models/open_to_lake.yaml",
            "kind: sync\nname: open_to_lake\nfrom: open_items\nto: lake\nmode: upsert\nkey: id\ncolumns: {id: id}\n",
        ),
        (
            "destinations.yaml",
            "destinations:\n  - {name: lake, type: files, location: target/outbox, format: parquet}\n",
        ),
        ("data/items.csv", "id,status,amount,owner\n1,open,5,ann\n2,done,7,bob\n"),
    ];
    for (path, text) in files {
        project.write(path, text);
    }
    project
}

const BROKEN_ITEMS: &str = "id,status,amount,owner\n1,open,5,ann\n2,open,7,bob\n2,done,7,bob\n3,open,1,ann\n";

fn withheld(project: &Project) -> Vec<(String, bool, String)> {
    let report = project.report();
    let mut list: Vec<(String, bool, String)> = report["withheld"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| {
            let text = |key: &str| w[key].as_str().unwrap().to_owned();
            (text("model"), w["built"].as_bool().unwrap(), text("because"))
        })
        .collect();
    list.sort();
    list
}

#[test]
fn a_failed_test_of_a_model_stops_what_is_made_from_it_and_nothing_else() {
    let project = chain();
    let first = project.kinfold(&["run"]).exits(0);
    assert!(first.stdout.contains("2 data tests: 2 passed"), "{first}");
    let sent = files(&project.path("target/outbox"));
    project.write("data/items.csv", BROKEN_ITEMS);
    project.write("data/people.csv", "name\nann\nbob\ncara\n");
    let outcome = project.kinfold(&["run"]).exits(1);

    // what failed, with what is made from it, stays as it was; the rest is committed
    assert_eq!(project.lines("SELECT id FROM items"), ["id", "1", "2"]);
    assert_eq!(project.lines("SELECT id FROM open_items"), ["id", "1"]);
    assert_eq!(project.number("SELECT n FROM open_count"), 1);
    assert_eq!(project.lines("SELECT name FROM names"), ["name", "ann", "bob", "cara"]);
    assert_eq!(files(&project.path("target/outbox")), sent, "nothing is sent");
    assert_eq!(project.report()["syncs"], serde_json::json!([]));
    assert_eq!(project.built(), ["names".to_owned()].into());
    let row = |model: &str, built| (model.to_owned(), built, "items".to_owned());
    assert_eq!(
        withheld(&project),
        [row("items", true), row("open_count", false), row("open_items", false), row("open_to_lake", false)]
    );
    for text in [
        "2 data tests: 1 passed, 1 FAILED",
        "FAILED items: unique_id: 2 of 4 rows, such as id=2",
        "not committed: items",
        "not built because of items: open_items, open_count, open_to_lake",
        "kinfold query \"SELECT * FROM kinfold.test_failures WHERE run = 3\"",
    ] {
        assert!(outcome.stdout.contains(text), "no `{text}`: {outcome}");
    }
    let status = project.kinfold(&["status"]).exits(0).stdout;
    assert!(status.contains("1 test failed, 4 models withheld"), "{status}");

    // mended, everything is made again
    project.write("data/items.csv", "id,status,amount,owner\n1,open,5,ann\n2,open,7,bob\n3,open,1,ann\n");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.number("SELECT n FROM open_count"), 3);
    assert_ne!(files(&project.path("target/outbox")), sent);
}

#[test]
fn a_failed_test_stops_what_reads_through_a_view_that_is_not_selected() {
    let project = chain();
    project.kinfold(&["run"]).exits(0);
    project.write("data/items.csv", BROKEN_ITEMS);
    let only = ["run", "--full", "--select", "items open_count"];
    let row = |model: &str, built| (model.to_owned(), built, "items".to_owned());
    // `open_items` is a table, and read as it was committed
    project.kinfold(&only).exits(1);
    assert_eq!(withheld(&project), [row("items", true)]);
    assert_eq!(project.number("SELECT n FROM open_count"), 1);
    // a view would show the rows that failed
    project.write("models/open_items.yaml", "materialized: view\n");
    project.kinfold(&only).exits(1);
    assert_eq!(withheld(&project), [row("items", true), row("open_count", false)]);
    assert_eq!(project.number("SELECT n FROM open_count"), 1);
}

#[test]
fn results_and_failing_rows_are_kept_also_of_a_failed_run() {
    let project = chain();
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.number("SELECT count(*) FROM kinfold.test_failures"), 0);
    project.write("data/items.csv", BROKEN_ITEMS);
    project.kinfold(&["run"]).exits(1);
    let checks = project
        .lines("SELECT run, model, test, kind, column_name, severity, status, failures, rows FROM kinfold.checks");
    assert_eq!(
        checks[1..],
        [
            "1,items,not_null_status,not_null,status,error,pass,0,2",
            "1,items,unique_id,unique,id,error,pass,0,2",
            "3,items,not_null_status,not_null,status,error,pass,0,4",
            "3,items,unique_id,unique,id,error,fail,2,4",
        ]
    );
    let kept = project.query("SELECT run, model, test, number, row_json FROM kinfold.test_failures ORDER BY number");
    let rows: Vec<Value> =
        kept.iter().map(|r| serde_json::from_str(r["row_json"].as_str().unwrap()).unwrap()).collect();
    assert_eq!(
        rows,
        [serde_json::json!({"id": "2", "status": "done"}), serde_json::json!({"id": "2", "status": "open"})]
    );
    assert!(kept.iter().all(|r| r["run"] == 3 && r["model"] == "items" && r["test"] == "unique_id"), "{kept:?}");
    let report = project.report();
    let statuses: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|c| c["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["fail", "pass"]);
}

#[test]
fn at_most_a_thousand_failing_rows_of_a_test_are_kept() {
    let project = shop("        tests: [{expression: amount < 0, severity: warn}]\n");
    project.write("models/items.sql", "SELECT id FROM shop.items\n");
    let rows: Vec<String> = (0..1500).map(|n| format!("{n:04},open,{n},ann")).collect();
    project.write("data/items.csv", &format!("id,status,amount,owner\n{}\n", rows.join("\n")));
    let outcome = project.kinfold(&["run"]).exits(0);
    assert!(
        outcome
            .stdout
            .contains("warned shop.items: expression: 1,500 of 1,500 rows, such as id=0000, id=0001, id=0002"),
        "{outcome}"
    );
    let kept =
        project.query("SELECT count(*) AS n, min(number) AS least, max(row_json) AS last FROM kinfold.test_failures");
    assert_eq!((&kept[0]["n"], &kept[0]["least"]), (&1000.into(), &1.into()));
    assert!(kept[0]["last"].as_str().unwrap().contains("\"id\":\"0999\""), "{kept:?}");
}

#[test]
fn a_warning_is_said_and_everything_goes_on() {
    let project = chain();
    project.write("models/items.yaml", "tests: [{unique: id, severity: warn}]\n");
    project.write("data/items.csv", BROKEN_ITEMS);
    let outcome = project.kinfold(&["run"]).exits(0);
    assert!(outcome.stdout.contains("1 data test: 0 passed, 1 warned"), "{outcome}");
    assert!(outcome.stdout.contains("warned items: unique_id: 2 of 4 rows"), "{outcome}");
    assert_eq!(project.number("SELECT n FROM open_count"), 3);
    assert_eq!(withheld(&project), []);
    assert_eq!(project.number("SELECT count(*) FROM kinfold.test_failures"), 2, "failing rows of warnings are kept");
}

#[test]
fn a_failed_test_of_a_source_table_stops_what_reads_it() {
    let project = chain();
    project.write("sources.yaml", &sources("        tests: [{unique: id, name: one_id}]\n"));
    project.write("data/items.csv", BROKEN_ITEMS);
    project.write("models/items.yaml", "description: not tested itself\n");
    let outcome = project.kinfold(&["run"]).exits(1);
    assert_eq!(project.tables(), ["names".to_owned()].into());
    let line = "not built because of shop.items: items, open_items, open_count, open_to_lake";
    assert!(outcome.stdout.contains(line), "{outcome}");
    assert!(!outcome.stdout.contains("not committed"), "nothing was built in vain: {outcome}");
}

#[test]
fn a_selection_runs_the_tests_of_what_it_builds() {
    let project = chain();
    project.kinfold(&["run"]).exits(0);
    project.write("data/items.csv", BROKEN_ITEMS);
    // `open_count` is built from what is committed: `items` is neither built nor tested
    project.kinfold(&["run", "--select", "open_count"]).exits(0);
    assert_eq!(project.report()["checks"], serde_json::json!([]));
    project.kinfold(&["run", "--select", "items+"]).exits(1);
    assert_eq!(project.report()["checks"].as_array().unwrap().len(), 2);
    assert_eq!(project.number("SELECT n FROM open_count"), 1);
}

#[test]
fn tests_over_committed_tables_build_nothing() {
    let project = chain();
    let before = project.kinfold(&["test", "--data"]).exits(0);
    assert!(before.stdout.contains("left out items: it has not been built yet"), "{before}");
    project.kinfold(&["run"]).exits(0);
    let tables = files(&project.path("target/warehouse"));
    let outcome = project.kinfold(&["test", "--data"]).exits(0);
    assert!(outcome.stdout.contains("ok     items: unique_id, 2 rows"), "{outcome}");
    // a stricter test fails on what is committed
    project.write("models/items.yaml", "tests: [{row_count: {min: 3}}]\n");
    let outcome = project.kinfold(&["test", "--data", "--select", "items"]).exits(1);
    assert!(outcome.stdout.contains("FAILED items: row_count: 2 rows, expected at least 3"), "{outcome}");
    assert_eq!(files(&project.path("target/warehouse")), tables);
}

#[test]
fn a_source_table_can_be_selected_for_its_tests() {
    let project = shop("        tests: [{row_count: {min: 1}}]\n");
    let text = project.kinfold(&["test", "--data", "--select", "shop.items"]).exits(0).stdout;
    assert!(text.contains("ok     shop.items: row_count, 5 rows"), "{text}");
    let text = project.kinfold(&["test", "--data", "--select", "shop.people"]).exits(0).stdout;
    assert!(text.contains("no data tests"), "{text}");
    project.kinfold(&["test", "--data", "--select", "shop.item"]).exits(2).without_data();
}

#[test]
fn a_test_may_read_another_model_that_is_built_before_it_runs() {
    let project = chain();
    project.write("models/items.yaml", "tests: [{relationships: {column: id, to: known.id}}]\n");
    project.write("models/known.sql", "SELECT DISTINCT id FROM shop.items WHERE id <> '2'\n");
    let outcome = project.kinfold(&["run"]).exits(1);
    assert!(outcome.stdout.contains("FAILED items: relationships_id: 1 of 2 rows"), "{outcome}");
    assert_eq!(project.tables(), ["known".to_owned(), "names".to_owned()].into());
}

/// An identity with a profile and an audience over the items' owners.
fn people_models(audience_tests: &str) -> Project {
    let project = shop("        time: at\n");
    let audience =
        format!("kind: audience\nname: buyers\nprofile: person_profile\nwhere: {{trait: items > 0}}\n{audience_tests}");
    let files = [
        (
            "models/person.yaml",
            "kind: identity\nname: person\nidentifiers: {owner: {}}\nlinks: [{from: shop.items, ids: {owner: owner}}]\n\
             tests: [{unique: [identifier_type, identifier]}, {accepted_values: {column: identifier_type, values: [owner]}}]\n",
        ),
        (
            "models/person_profile.yaml",
            "kind: profile\nname: person_profile\nidentity: person\n\
             traits: {items: {from: shop.items, select: count(*)}}\n\
             tests: [{unique: person_id}, {relationships: {column: person_id, to: person.person_id}}]\n",
        ),
        ("models/buyers.yaml", &audience),
        ("data/items.csv", "id,status,amount,owner,at\n1,open,5,ann,2026-03-01\n2,open,5,bob,2026-03-02\n"),
    ];
    for (path, text) in files {
        project.write(path, text);
    }
    project
}

#[test]
fn entity_models_are_tested_like_others() {
    let project = people_models("tests: [{row_count: {min: 1}}]\n");
    let outcome = project.kinfold(&["run"]).exits(0);
    assert!(outcome.stdout.contains("5 data tests: 5 passed"), "{outcome}");
    let failing = people_models("tests: [{row_count: {max: 1}}]\n");
    let outcome = failing.kinfold(&["run"]).exits(1);
    assert!(outcome.stdout.contains("FAILED buyers: row_count: 2 rows, expected at most 1"), "{outcome}");
    let tables = failing.tables();
    assert!(tables.contains("person_profile") && !tables.contains("buyers"), "{tables:?}");
    assert!(!tables.iter().any(|t| t.starts_with("audience_")), "no history of what was not committed: {tables:?}");
}

#[test]
fn tables_beside_a_model_are_tested_by_sql() {
    let project = people_models("");
    let profile = project.read("models/person_profile.yaml").replace(
        "tests: [",
        "attributes: {status: {from: [shop.items.status], pick: latest}}\n\
         tests: [{sql: 'SELECT * FROM person_profile_provenance WHERE cardinality(lost) > 0', name: nothing_lost}, ",
    );
    project.write("models/person_profile.yaml", &profile);
    project.kinfold(&["run"]).exits(0);
    let text = project.kinfold(&["test", "--data", "--select", "person_profile"]).exits(0).stdout;
    assert!(text.contains("ok     person_profile: nothing_lost"), "{text}");
    project.write("data/items.csv", "id,status,amount,owner,at\n1,open,5,ann,2026-03-01\n2,done,5,ann,2026-03-02\n");
    let outcome = project.kinfold(&["run"]).exits(1);
    let line = "FAILED person_profile: nothing_lost: 1 row, such as person_id=";
    assert!(outcome.stdout.contains(line), "{outcome}");
}

#[test]
fn ids_are_not_registered_when_the_identity_fails() {
    let project = people_models("");
    let models = project.read("models/person.yaml").replace("values: [owner]", "values: [email]");
    project.write("models/person.yaml", &models);
    let outcome = project.kinfold(&["run"]).exits(1);
    assert_eq!(project.tables(), BTreeSet::new(), "{outcome}");
    assert!(outcome.stdout.contains("such as person_id="), "a person is named by id: {outcome}");
    assert!(!outcome.stdout.contains("ann"), "and by nothing else: {outcome}");
}

#[test]
fn tests_of_a_table_that_no_model_reads_are_checked_and_stop_nothing() {
    let project = chain();
    let unread =
        sources("").replace("path: people.csv, format: csv}", "path: people.csv, format: csv, tests: [{unique: nme}]}");
    project.write("sources.yaml", &unread);
    project.write("models/names.sql", "SELECT 1 AS one\n");
    project.kinfold(&["check"]).exits(2).says(&["error[K0510]", "did you mean `name`?"]);
    project.kinfold(&["run"]).exits(0);
    project.kinfold(&["test", "--data"]).exits(2).says(&["error[K0510]"]);
}

fn refused(project: &Project, says: &[&str]) {
    project.kinfold(&["check"]).exits(2).says(says);
    project.kinfold(&["run"]).exits(2).says(says);
    assert_eq!(project.tables(), BTreeSet::new());
}

#[test]
fn tests_that_cannot_hold_water_are_found_before_data_are_read() {
    let at = |path: &str, text: &str, says: &[&str]| {
        let project = chain();
        project.write(path, text);
        refused(&project, says);
    };
    let tests = |tests: &str| format!("tests: [{tests}]\n");
    let file = "models/items.yaml";
    at(file, &tests("{unique: idd}"), &["error[K0510]", "models/items.yaml:1:18", "did you mean `id`?"]);
    at(file, &tests("{expression: idd > 1}"), &["error[K0303]", "models/items.yaml:1:"]);
    at(file, &tests("{expression: status}"), &["error[K0308]", "true or false"]);
    at(file, &tests("{unique: id, where: idd > 1}"), &["error[K0303]"]);
    at(file, &tests("{sql: SELECT nothing FROM items}"), &["error[K0303]"]);
    at(file, &tests("{sql: SELECT * FROM itemz}"), &["error[K0302]", "itemz"]);
    let relation = "{relationships: {column: id, to: shop.people.nme}}";
    at(file, &tests(relation), &["error[K0510]", "`shop.people` has no column `nme`", "did you mean `name`?"]);
    at(
        file,
        &tests("{sql: SELECT id FROM open_count}"),
        &["error[K0512]", "reads `open_count`, which is built after the tests of `items`"],
    );
    let typed = "        tests: [{accepted_values: {column: amount, values: [5, much]}}]\n";
    at("sources.yaml", &sources(typed), &["error[K0511]", "`much` is no value of `amount`", "sources.yaml:12:"]);
    let compared = "        tests: [{relationships: {column: amount, to: shop.people.name}}]\n";
    at("sources.yaml", &sources(compared), &["error[K0511]", "`amount` is Int64, but `name` of `shop.people` is Utf8"]);
}
