//! `timeline:` of a profile: every row of some tables, by person and time.

use crate::support::{Project, clinic};
use serde_json::{Value, json};

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: visits, path: visits/, format: csv, time: at, row_id: id, columns: {at: {type: TIMESTAMP}, amount: {type: BIGINT}}}
      - {name: calls, path: calls.csv, format: csv, time: started, columns: {started: {type: TIMESTAMP}}}
";

const PERSON: &str = "\
kind: identity
name: person
identifiers:
  email: {normalize: email}
  cookie: {max_links: 2}
links:
  - {from: shop.visits, ids: {email: email, cookie: cookie}}
  - {from: shop.calls, ids: {email: email}}
";

const PROFILE: &str = "\
kind: profile
name: person_profile
identity: person
traits:
  visits: {from: shop.visits, select: count(*)}
timeline: {from: [shop.visits, shop.calls]}
";

/// An audience over the timeline.
const READERS: &str = "\
kind: audience
name: busy
profile: person_profile
sql: SELECT person_id FROM person_timeline WHERE kind IN ('calls', 'buy') GROUP BY person_id HAVING count(*) >= 2
";

const PER_DAY: &str =
    "SELECT date_trunc('day', happened_at) AS day, count(*) AS rows FROM person_timeline GROUP BY 1\n";

const FIRST: &str = "\
id,email,cookie,event,amount,note,at
v1,ann@x.com,,buy,20,,2026-03-25T10:00:00
v2,,desk,home,,,2026-03-25T11:00:00
v3,bob@x.com,desk,home,,,2026-03-25T12:00:00
v4,cat@x.com,desk,home,,,2026-03-25T13:00:00
v5,dan@x.com,desk,home,,,2026-03-25T14:00:00
";

const SECOND: &str = "\
id,email,cookie,event,amount,note,at
v6,ANN@x.com,c1,home,,\"said \"\"hi\"\"\",2026-03-24T09:00:00
v7,,c1,,1,,2026-03-26T09:00:00
v8,ann@x.com,,late,,,
";

const CALLS: &str = "email,seconds,started\nann@x.com,30,2026-03-25T10:00:00\nnobody,3,2026-03-25T10:00:00\n";

fn project() -> Project {
    Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
        ("sources.yaml", SOURCES),
        ("models/person.yaml", PERSON),
        ("models/profile.yaml", PROFILE),
        ("models/readers.yaml", READERS),
        ("models/per_day.sql", PER_DAY),
        ("data/visits/1.csv", FIRST),
        ("data/visits/2.csv", SECOND),
        ("data/calls.csv", CALLS),
    ])
}

const OF_ANN: &str = "SELECT happened_at, table_name, row_id, kind, details FROM person_timeline \
    WHERE person_id = (SELECT person_id FROM person WHERE identifier = 'ann@x.com')";

/// What ann did, worked out by hand: v7 is hers by the cookie, the desk's cookie is nobody's.
fn of_ann() -> Vec<Value> {
    let row = |at: Value, table: &str, id: Value, kind: Value, details: &str| json!({"happened_at": at, "table_name": table, "row_id": id, "kind": kind, "details": details});
    let (visits, calls) = ("shop.visits", "shop.calls");
    vec![
        row(
            json!("2026-03-24T09:00:00Z"),
            visits,
            json!("v6"),
            json!("home"),
            r#"{"email":"ANN@x.com","cookie":"c1","note":"said \"hi\""}"#,
        ),
        row(
            json!("2026-03-25T10:00:00Z"),
            calls,
            json!(null),
            json!("calls"),
            r#"{"email":"ann@x.com","seconds":"30"}"#,
        ),
        row(json!("2026-03-25T10:00:00Z"), visits, json!("v1"), json!("buy"), r#"{"email":"ann@x.com","amount":20}"#),
        row(json!("2026-03-26T09:00:00Z"), visits, json!("v7"), json!(null), r#"{"cookie":"c1","amount":1}"#),
        row(json!(null), visits, json!("v8"), json!("late"), r#"{"email":"ann@x.com"}"#),
    ]
}

#[test]
fn every_row_of_a_person_stands_there_once_by_person_and_time() {
    let project = project();
    project.kinfold(&["run"]).exits(0);
    let rows: Vec<Value> = project.query(OF_ANN).into_iter().map(Value::from).collect();
    assert_eq!(rows, of_ann());
    assert_eq!(project.number("SELECT count(*) FROM person_timeline"), 5 + 3);
    // the order of the file itself: entity, then time with none last, then table
    let shown = project.kinfold(&["show", "person_timeline", "--limit", "100", "--output", "json"]).exits(0).rows();
    let key = |row: &serde_json::Map<String, Value>| {
        let at = row["happened_at"].as_str().unwrap_or("9999").to_owned();
        (row["person_id"].as_str().unwrap().to_owned(), at, row["table_name"].as_str().unwrap().to_owned())
    };
    assert!(shown.is_sorted_by_key(key), "{shown:?}");
    // models that read it in the same run, and one that is built alone later
    assert_eq!(project.number("SELECT count(*) FROM busy"), 1);
    assert_eq!(project.number("SELECT rows FROM per_day WHERE day = TIMESTAMP '2026-03-25T00:00:00Z'"), 5);
    project.kinfold(&["run", "--select", "per_day"]).exits(0);
    assert_eq!(project.number("SELECT sum(rows) FROM per_day"), 8);
}

#[test]
fn its_columns_come_from_every_column_of_its_tables() {
    let project = project();
    project.kinfold(&["run"]).exits(0);
    let lineage = |column: &str| project.kinfold(&["lineage", column, "--output", "json"]).exits(0).stdout;
    let details = lineage("person_timeline.details");
    assert!(
        ["shop.visits.note", "shop.visits.amount", "shop.calls.seconds"].iter().all(|c| details.contains(c)),
        "{details}"
    );
    assert!(lineage("person_timeline.happened_at").contains("shop.calls.started"));
    let used = lineage("shop.visits.note");
    assert!(used.contains("person_timeline.details"), "{used}");
    let listed = project.kinfold(&["ls"]).exits(0).stdout;
    assert!(listed.find("person_profile") < listed.find("per_day"), "{listed}");
}

/// The plan of a changed timeline says so, and unit tests see its rows.
#[test]
fn plans_and_unit_tests_know_it() {
    let project = project();
    project.kinfold(&["run"]).exits(0);
    project.write("models/profile.yaml", &PROFILE.replace(", shop.calls]", "]"));
    let plan = project.kinfold(&["plan", "--output", "json"]).exits(0).stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let step = plan["steps"].as_array().unwrap().iter().find(|s| s["model"] == "person_profile").unwrap();
    assert!(step["reasons"].to_string().contains("timeline"), "{step}");
    project.write("models/profile.yaml", PROFILE);
    let test = "\
kind: test
name: calls_are_told
model: person_profile
as_of: 2026-03-31
given:
  shop.calls:
    - {email: ann@x.com, started: 2026-03-25T10:00:00Z}
expect:
  person_timeline:
    - {person_id: 'email:ann@x.com', table_name: shop.calls, kind: calls}
";
    project.write("models/unit.yaml", test);
    project.kinfold(&["test"]).exits(0);
    project.write("models/unit.yaml", &test.replace("kind: calls}", "kind: visits}"));
    project.kinfold(&["test"]).exits(1);
}

/// One row of the timeline for each row of the demo's calls that has an owner, counted from the report of the run.
#[test]
fn the_demos_rows_are_all_there() {
    let project = Project::clinic();
    let profile = project.read("models/patient_profile.yaml");
    project.write("models/patient_profile.yaml", &format!("{profile}timeline: {{from: [web.tracks, twilio.calls]}}\n"));
    project.kinfold(&["run", "--select", "+patient_profile", "--memory", "256MB"]).exits(0);
    for table in ["web.tracks", "twilio.calls"] {
        let owned = format!(
            "SELECT CAST(value AS BIGINT) FROM patient_report WHERE subject = '{table}' AND measure = 'rows resolved'"
        );
        let told = project.number(&format!("SELECT count(*) FROM patient_timeline WHERE table_name = '{table}'"));
        assert_eq!(told, clinic().number(&owned), "{table}");
    }
}
