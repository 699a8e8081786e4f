//! What earlier runs made: listed, read again, compared, and removed.

use crate::support::{NEWS, Outcome, Project, files, until, wait};
use serde_json::{Value, json};
use std::process::Command;

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

/// The differences of one table between runs 1 and 3.
#[track_caller]
fn of_table(project: &Project, table: &str) -> Value {
    let outcome = project.kinfold(&["diff", "1", "3", table, "--output", "json"]).exits(0);
    let answer = parsed(&outcome);
    assert_eq!(answer["tables"].as_array().map(Vec::len), Some(1), "{outcome}");
    answer["tables"][0].clone()
}

#[track_caller]
fn counts(changes: &Value) -> [u64; 3] {
    ["added", "removed", "changed"].map(|sort| changes[sort].as_u64().unwrap_or_else(|| panic!("{changes}")))
}

#[test]
fn two_runs_differ_by_rows_under_their_keys() {
    let project = two_days();
    // Zoe came, the nameless one behind `c3` went, Ann and Bob visited more
    let profiles = of_table(&project, "person_profile");
    assert_eq!(counts(&profiles), [1, 1, 2], "{profiles:#}");
    assert_eq!(profiles["key"], json!(["person_id"]));
    let examples = profiles["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 4, "{profiles:#}");
    let ann = json!({"before": {"visits": 4, "last_visit": "2026-03-29T08:00:00Z"},
                     "now": {"visits": 5, "last_visit": "2026-03-30T09:00:00Z"}});
    let is_ann = |e: &&Value| e["before"] == ann["before"] && e["now"] == ann["now"];
    assert_eq!(examples.iter().filter(is_ann).count(), 1, "{profiles:#}");
    let zoe = examples.iter().find(|e| e["before"].is_null()).unwrap();
    assert_eq!((&zoe["now"]["email"], &zoe["now"]["visits"]), (&json!("zoe@example.com"), &json!(2)));
    let gone = examples.iter().find(|e| e["now"].is_null()).unwrap();
    assert_eq!((&gone["before"]["email"], &gone["before"]["visits"]), (&Value::Null, &json!(2)));
    // `c5` and Zoe's address are new; `c3` is Bob's now, and `c1` was seen again
    let identity = of_table(&project, "person");
    assert_eq!((counts(&identity), &identity["versions"]), ([2, 0, 2], &json!([0, 1])), "{identity:#}");
    assert_eq!(counts(&of_table(&project, "came_back")), [1, 0, 0]);
    // history only grows: Bob was merged, Zoe was made
    assert_eq!(counts(&of_table(&project, "person_changes")), [2, 0, 0]);
}

#[test]
fn without_a_key_whole_rows_are_compared() {
    let project = two_days();
    // one visit more on one day, three on another
    let whole = of_table(&project, "daily_visits");
    assert_eq!((counts(&whole), &whole["key"]), ([2, 2, 0], &json!([])), "{whole:#}");
    project.write("models/daily_visits.yaml", "tests:\n  - unique: day\n");
    let keyed = of_table(&project, "daily_visits");
    assert_eq!((counts(&keyed), &keyed["key"]), ([0, 0, 2], &json!(["day"])), "{keyed:#}");
    assert_eq!(keyed["examples"][0]["before"], json!({"visits": 1, "cookies": 1}));
    assert_eq!(keyed["examples"][0]["now"], json!({"visits": 2, "cookies": 2}));
    // the other way round
    let back = parsed(&project.kinfold(&["diff", "3", "1", "daily_visits", "-o", "json", "-n", "1"]).exits(0));
    assert_eq!((counts(&back["tables"][0]), &back["tables"][0]["examples"].as_array().unwrap().len()), ([0, 0, 2], &1));
}

#[test]
fn a_difference_is_told_to_people() {
    let project = two_days();
    let told = project.kinfold(&["diff", "1", "3"]).exits(0);
    for part in [
        "person_profile (by person_id)",
        "visits 4 -> 5",
        "daily_visits (whole rows)",
        "  + identifier_type=cookie identifier=c5",
    ] {
        assert!(told.stdout.contains(part), "no `{part}`: {told}");
    }
    assert!(!told.stdout.contains("kinfold."), "every run writes those: {told}");
    let same = project.kinfold(&["diff", "3", "4"]).exits(0);
    assert!(same.stdout.starts_with("the same after run 3 and run 4: "), "{same}");
    let asked = project.kinfold(&["diff", "3", "4", "kinfold.syncs"]).exits(0);
    assert!(asked.stdout.contains("kinfold.syncs"), "{asked}");
    // a table, and a column, that only one of the two has
    project.write("models/pages.sql", "SELECT page, count(*) AS visits FROM shop.visits GROUP BY 1\n");
    let daily = project.read("models/daily_visits.sql");
    project.write("models/daily_visits.sql", &daily.replace("count(*) AS visits", "count(*) AS calls"));
    project.kinfold(&["run", "--select", "pages", "--select", "daily_visits", "--as-of", "2026-04-01"]).exits(0);
    let shapes = project.kinfold(&["diff", "4", "5", "pages", "daily_visits"]).exits(0);
    for part in ["pages (new)", "+ page=home visits=5", "+ column calls", "- column visits"] {
        assert!(shapes.stdout.contains(part), "no `{part}`: {shapes}");
    }
}

#[test]
fn runs_and_tables_that_cannot_be_compared_are_named() {
    let project = two_days();
    project.kinfold(&["diff", "1", "9"]).exits(2).without_data().says(&["there is no run 9"]);
    let near = project.kinfold(&["diff", "1", "3", "person_profil"]).exits(2).without_data();
    near.says(&["neither run has a table `person_profil`", "did you mean `person_profile`?"]);
    project.kinfold(&["diff", "1"]).exits(2).without_data();
    project.kinfold(&["diff", "one", "two"]).exits(2).without_data();
}

#[test]
fn a_vacuum_says_what_goes_and_then_removes_it() {
    let project = two_days();
    let settings = project.read("kinfold.yaml");
    let vacuum = |more: &[&str]| project.kinfold(&[&["vacuum"], more].concat()).exits(0);
    // within seven days everything is kept
    let kept = vacuum(&[]);
    assert!(kept.stdout.contains("kept: 4 runs from run 1 on") && kept.stdout.contains("nothing else"), "{kept}");
    project.write("kinfold.yaml", &format!("{settings}retention: {{runs: 1, period: 1 us}}\n"));
    let before = files(&project.path("target/warehouse"));
    let said = vacuum(&[]);
    for part in
        ["kept: 2 runs from run 3 on", "would remove: 2 runs, 1 to 2", "person_profile", "kinfold vacuum --apply"]
    {
        assert!(said.stdout.contains(part), "no `{part}`: {said}");
    }
    let same = files(&project.path("target/warehouse"));
    assert_eq!(same, before, "a dry run changes nothing");
    let planned = parsed(&vacuum(&["--output", "json"]));
    let done = parsed(&vacuum(&["--apply", "--output", "json"]));
    assert_eq!((&planned["applied"], &done["applied"]), (&json!(false), &json!(true)));
    for key in ["first_kept", "kept", "runs", "tables", "compacted"] {
        assert_eq!(planned[key], done[key], "{key}");
    }
    // every table that run 3 wrote anew has lost the file of run 1
    let lost = done["tables"].as_array().unwrap().iter().find(|t| t["table"] == "person").unwrap();
    assert_eq!(lost["files"], 1, "{done:#}");
    assert_eq!(project.number("SELECT sum(visits) FROM person_profile"), 12);
    project.kinfold(&["show", "person", "--at-run", "3"]).exits(0);
    let gone = project.kinfold(&["show", "person", "--at-run", "1"]).exits(2).without_data();
    gone.says(&["the tables of run 1 were vacuumed", "runs 3 to 5 can be read"]);
    project.kinfold(&["diff", "2", "3"]).exits(2).says(&["the tables of run 2 were vacuumed"]);
    let runs = project.kinfold(&["runs"]).exits(0);
    assert!(runs.stdout.contains("vacuum: ") && runs.stdout.contains("before run 3"), "{runs}");
    // who came back is still known from the run before, and nothing is sent twice
    project.kinfold(&["run", "--as-of", "2026-04-02"]).exits(0);
    assert_eq!(project.report()["syncs"][0]["sent"], 0);
    let early = project.kinfold(&["run", "--as-of", "2026-04-01"]).exits(2).without_data();
    early.says(&["is before that of the last run"]);
}

#[test]
fn a_vacuum_leaves_a_run_at_work_alone() {
    let project = Project::clinic_after_a_run();
    let leases = || files(&project.path("target/warehouse/_kinfold/leases")).len();
    let before = leases();
    let run = project.spawn(&["run"]);
    until("a lease", || leases() > before);
    let stopped = Command::new("kill").args(["-STOP", &run.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    project.kinfold(&["vacuum"]).exits(0);
    project.kinfold(&["vacuum", "--apply"]).exits(75).without_data().says(&["another run"]);
    assert!(Command::new("kill").args(["-CONT", &run.id().to_string()]).status().unwrap().success());
    wait(run, &["run"]).exits(0);
    project.kinfold(&["vacuum", "--apply"]).exits(0);
}

#[test]
fn retention_that_keeps_nothing_is_refused() {
    let project = Project::of(&[("kinfold.yaml", "retention: {runs: 0, period: forever, keep: 3}\n")]);
    project.kinfold(&["vacuum"]).exits(2).without_data().says(&[
        "`runs` must be a whole number from 1",
        "`period` cannot be `forever`",
        "unknown key `keep`",
    ]);
}
