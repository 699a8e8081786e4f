//! What earlier runs made: listed, read again.

use crate::support::{Outcome, Project};
use serde_json::{Value, json};

/// Visits that come after the first run: Zoe is new, Ann comes again, and Bob turns out to be the one behind `c3`.
const NEWS: &str = "\
cookie,email,page,at
c5,zoe@example.com,prices,2026-03-29T08:00:00Z
c5,zoe@example.com,home,2026-03-30T08:00:00Z
c1,,prices,2026-03-30T09:00:00Z
c3,bob@example.com,prices,2026-03-30T10:00:00Z
";

/// The project that `init` makes, before the news and after them: runs 1 and 3 built the models, 2 and 4 sent rows.
fn two_days() -> Project {
    let project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    project.kinfold(&["run"]).exits(0);
    project.write("data/visits/news.csv", NEWS);
    project.kinfold(&["run", "--as-of", "2026-04-01"]).exits(0);
    project
}

#[track_caller]
fn parsed(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {outcome}"))
}

#[test]
fn tables_are_read_as_they_were_after_a_run() {
    let project = two_days();
    let ask = |sql: &str, more: &[&str]| {
        let arguments = [&["query", sql, "--output", "json"], more].concat();
        Value::from_iter(project.kinfold(&arguments).exits(0).rows())
    };
    let visits = "SELECT sum(visits) AS visits FROM person_profile";
    // eight visits before the news, twelve after
    assert_eq!(ask(visits, &["--at-run", "1"]), json!([{"visits": 8}]));
    assert_eq!(ask(visits, &["--at-run", "3"]), json!([{"visits": 12}]));
    assert_eq!(ask(visits, &[]), ask(visits, &["--at-run", "4"]));
    // all tables are of that run, those about runs too, and so is the logical time
    let runs = "SELECT max(run) AS run, max(as_of) = as_of() AS now FROM kinfold.runs";
    assert_eq!(ask(runs, &["--at-run", "1"]), json!([{"run": 1, "now": true}]));
    assert_eq!(ask(runs, &["--at-run", "4"]), json!([{"run": 3, "now": true}]));
    let shown = project.kinfold(&["show", "came_back", "--at-run", "2", "--output", "csv"]).exits(0);
    assert_eq!(shown.stdout.lines().count(), 3, "a header, Ann and Bob: {shown}");
    // source tables have no history
    assert_eq!(ask("SELECT count(*) AS visits FROM shop.visits", &["--at-run", "1"]), json!([{"visits": 12}]));
}

#[test]
fn a_run_that_cannot_be_read_is_named() {
    let project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    let at = |run: &str| project.kinfold(&["query", "SELECT 1", "--at-run", run]).exits(2).without_data();
    at("1").says(&["nothing has been run yet", "kinfold run"]);
    project.kinfold(&["run", "--select", "daily_visits"]).exits(0);
    at("7").says(&["there is no run 7", "runs 1 to 1 can be read", "kinfold runs"]);
    at("0").says(&["there is no run 0"]);
    at("last").says(&["invalid value 'last'"]);
    project.kinfold(&["run"]).exits(0);
    let early = project.kinfold(&["show", "person", "--at-run", "1"]).exits(2).without_data();
    early.says(&["`person` was not there after run 1", "kinfold runs"]);
}

#[test]
fn runs_are_listed_with_what_they_changed() {
    let project = two_days();
    let listed = project.kinfold(&["runs"]).exits(0);
    assert_eq!(project.kinfold(&["status"]).exits(0).stdout, listed.stdout);
    let lines: Vec<&str> = listed.stdout.lines().filter(|l| l.starts_with("run ")).collect();
    assert_eq!(lines.len(), 4, "{listed}");
    // ten identifiers, three people, three who came back, six days
    for part in ["run 3 ", "committed", "took ", "as of 2026-04-01", "4 models", "changed tables, 22 rows"] {
        assert!(lines[1].contains(part), "no `{part}`: {listed}");
    }
    let runs = parsed(&project.kinfold(&["runs", "--limit", "2", "--output", "json"]).exits(0));
    assert_eq!((&runs[0]["run"], &runs[1]["run"], &runs[2]), (&json!(4), &json!(3), &Value::Null));
    assert_eq!((&runs[0]["rows"], &runs[1]["rows"]), (&Value::Null, &json!(22)));
    assert_eq!(runs[0]["tables_changed"], json!(["kinfold.sync_came_back_to_outbox", "kinfold.syncs"]));
}
