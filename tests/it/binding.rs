//! What `check` finds before a run would: SQL that names what is not there, or means what cannot be meant.

use crate::support::Project;

const KINFOLD: &str = "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\nsecrets: {KEY: not-to-be-seen}\n";

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - name: visits
        path: visits.csv
        format: csv
        time: at
        columns:
          at: {type: TIMESTAMP}
";

const PERSON: &str = "\
kind: identity
name: person
identifiers:
  email: {normalize: email}
  cookie: {}
links:
  - {from: shop.visits, ids: {cookie: cookie, email: email}}
";

const VISITS: &str = "\
cookie,email,at
c1,ann@example.com,2026-03-30T01:30:00
c2,,2026-03-30T23:30:00+02:00
";

fn project(name: &str, text: &str) -> Project {
    Project::of(&[
        ("kinfold.yaml", KINFOLD),
        ("sources.yaml", SOURCES),
        ("models/person.yaml", PERSON),
        (
            "models/person_profile.yaml",
            "kind: profile\nname: person_profile\nidentity: person\ntraits:\n  visits: {from: shop.visits, select: count(*)}\n",
        ),
        (name, text),
        ("data/visits.csv", VISITS),
    ])
}

fn refused(name: &str, text: &str, says: &[&str]) {
    let outcome = project(name, text).kinfold(&["check"]).exits(2);
    outcome.says(says);
}

#[test]
fn unknown_tables_and_columns_are_named_with_their_place() {
    refused(
        "models/lost.sql",
        "SELECT 1 AS one\nFROM shop.visitz\n",
        &["error[K0302]", "models/lost.sql:2:6", "shop.visitz"],
    );
    refused(
        "models/lost.sql",
        "SELECT cookei FROM shop.visits\n",
        &["error[K0303]", "models/lost.sql:1:8", "did you mean `cookie`?"],
    );
    refused("models/lost.sql", "SELECT cookie FORM shop.visits WHERE\n", &["error[K0301]", "models/lost.sql:1:"]);
}

#[test]
fn conditions_are_true_or_false_and_of_one_row() {
    let audience =
        |condition: &str| format!("kind: audience\nname: some\nprofile: person_profile\nwhere: {condition}\n");
    refused("models/some.yaml", &audience("{trait: visits}"), &["models/some.yaml:4:", "true or false"]);
    refused("models/some.yaml", &audience("{trait: count(*) > 1}"), &["models/some.yaml:4:", "single row"]);
    refused("models/some.yaml", &audience("{audience: some}"), &["K0401", "some -> some"]);
}

#[test]
fn aggregates_without_an_order_are_refused_in_sql_models() {
    refused("models/one.sql", "SELECT first(cookie) AS c FROM shop.visits\n", &["models/one.sql:1:8", "first_value"]);
}

#[test]
fn an_aggregate_that_takes_any_row_is_refused_in_traits() {
    let profile =
        "kind: profile\nname: p\nidentity: person\ntraits:\n  page: {from: shop.visits, select: any_value(cookie)}\n";
    refused("models/p.yaml", profile, &["models/p.yaml:5:", "`any_value` may give another value in each run"]);
}

#[test]
fn secrets_stay_out_of_tables_and_answers() {
    refused("models/leak.sql", "SELECT secret('KEY') AS k\n", &["models/leak.sql:1:8", "secret()"]);
    let project = project("models/fine.sql", "SELECT 1 AS one\n");
    let outcome = project.kinfold(&["query", "SELECT secret('KEY')"]).exits(2);
    assert!(!format!("{outcome}").contains("not-to-be-seen"), "{outcome}");
}

#[test]
fn functions_that_differ_from_run_to_run_are_a_warning() {
    let outcome = project("models/when.sql", "SELECT now() AS t\n").kinfold(&["check"]).exits(0);
    outcome.says(&["warning[K0305]", "models/when.sql:1:8", "as_of()"]);
}

#[test]
fn times_without_a_zone_are_in_the_zone_of_the_project() {
    let project = project("models/visits.sql", "SELECT cookie, at FROM shop.visits\n");
    project.write("kinfold.yaml", &format!("{KINFOLD}timezone: Europe/Berlin\n"));
    project.kinfold(&["run"]).exits(0);
    // Berlin changed to summer time on 2026-03-29: 01:30 there is 23:30 UTC of the day before
    let times = project.lines("SELECT cookie || ' ' || CAST(at AS VARCHAR) AS seen FROM visits ORDER BY cookie");
    assert_eq!(times, ["seen", "c1 2026-03-29T23:30:00Z", "c2 2026-03-30T21:30:00Z"]);
}

#[test]
fn a_run_of_some_audiences_leaves_what_the_others_share() {
    let audience =
        |name: &str| format!("kind: audience\nname: {name}\nprofile: person_profile\nwhere: {{trait: visits > 0}}\n");
    let project = project("models/a.yaml", &audience("a"));
    project.write("models/b.yaml", &audience("b"));
    project.kinfold(&["run"]).exits(0);
    let overlap = "SELECT audience, other, shared FROM audience_overlap";
    let columns = "SELECT count(*) FROM kinfold.columns";
    let before = (project.query(overlap), project.number(columns));
    assert_eq!(before.0.len(), 1, "one pair of audiences");
    project.kinfold(&["run", "--select", "a"]).exits(0);
    assert_eq!((project.query(overlap), project.number(columns)), before);
}
