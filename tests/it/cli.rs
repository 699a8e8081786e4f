//! What every command prints, where, and with which exit code.

use crate::support::{Project, clinic, expected, files};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::Stdio;

#[test]
fn help_names_every_command() {
    let project = Project::of(&[]);
    let help = project.kinfold(&["--help"]).exits(0);
    for command in ["run", "check", "show", "query", "ls", "lineage", "status", "init"] {
        assert!(help.stdout.lines().any(|l| l.split_whitespace().next() == Some(command)), "{help}");
        let own = project.kinfold(&[command, "--help"]).exits(0);
        assert!(own.stdout.contains("Usage:"), "{own}");
    }
    let run = project.kinfold(&["run", "--help"]).exits(0).stdout;
    for flag in ["--project", "--target", "--as-of", "--vars", "--select", "--threads", "--memory"] {
        assert!(run.contains(flag), "{flag} is not in the help: {run}");
    }
    let version = project.kinfold(&["--version"]).exits(0).stdout;
    assert_eq!(version.trim(), concat!("kinfold ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_2_and_prints_no_data() {
    let project = Project::clinic();
    for arguments in [
        &[][..],
        &["walk"],
        &["run", "--nonsense"],
        &["run", "--as-of", "yesterday"],
        &["run", "--as-of", "2026-02-30"],
        &["run", "--memory", "lots"],
        &["run", "--memory", "-1GB"],
        &["run", "--threads", "many"],
        &["run", "--vars", "novalue"],
        &["run", "--target", "nowhere"],
        &["run", "--project", "no/such/folder"],
        &["show"],
        &["query"],
        &["show", "patient", "--limit", "-1"],
        &["show", "patient", "--output", "xml"],
    ] {
        let outcome = project.kinfold(arguments).exits(2).without_data();
        assert!(!outcome.stderr.is_empty(), "{outcome}");
    }
    assert_eq!(project.tables(), BTreeSet::new());
}

#[test]
fn a_folder_that_is_no_project_says_what_to_do() {
    let project = Project::of(&[]);
    for command in ["run", "check", "status"] {
        project.kinfold(&[command]).exits(2).without_data().says(&["sources.yaml", "kinfold init"]);
    }
}

#[test]
fn unknown_models_in_select_are_suggested() {
    let project = Project::clinic();
    project
        .kinfold(&["run", "--select", "lapsed_patient"])
        .exits(2)
        .without_data()
        .says(&["did you mean `lapsed_patients`"]);
    project
        .kinfold(&["run", "--select", "tag:apointment"])
        .exits(2)
        .without_data()
        .says(&["apointment", "appointment"]);
    assert_eq!(project.tables(), BTreeSet::new());
}

#[test]
fn run_prints_its_summary_to_stdout_and_talk_to_stderr() {
    let project = Project::of(&[]);
    project.kinfold(&["init", "shop"]).exits(0);
    let run = project.kinfold(&["run", "--project", "shop"]).exits(0);
    for text in ["person_profile", "came_back", "identifiers", "entered", "sent", "target/warehouse"] {
        assert!(run.stdout.contains(text), "the summary lacks `{text}`: {run}");
    }
    let quiet = project.kinfold(&["run", "--project", "shop", "--quiet"]).exits(0);
    assert_eq!(quiet.stderr, "", "{quiet}");
}

#[test]
fn check_says_ok_for_the_demo() {
    let outcome = Project::clinic().kinfold(&["check"]).exits(0);
    assert!(outcome.stdout.starts_with("ok: ") && outcome.stdout.contains("11 source tables"), "{outcome}");
    assert!(!outcome.stderr.contains("warning"), "the demo should be clean: {outcome}");
}

#[test]
fn check_writes_nothing() {
    let project = Project::clinic();
    let before = files(&project.path(""));
    project.kinfold(&["check"]).exits(0);
    assert_eq!(files(&project.path("")), before);
}

#[test]
fn show_prints_the_first_rows_in_three_formats() {
    let csv = clinic().kinfold(&["show", "lapsed_patients", "--limit", "3", "--output", "csv"]).exits(0);
    assert_eq!(csv.stdout.lines().count(), 4, "{csv}");
    assert!(csv.stdout.starts_with("patient_id,entered_at,reason\n"), "{csv}");
    let json = clinic().kinfold(&["show", "lapsed_patients", "--limit", "3", "--output", "json"]).exits(0);
    assert_eq!(json.rows().len(), 3, "{json}");
    let text = clinic().kinfold(&["show", "lapsed_patients", "--limit", "3"]).exits(0);
    assert!(text.stdout.contains("| patient_id"), "{text}");
    let plain = clinic().kinfold(&["show", "patient_profile"]).exits(0);
    assert_eq!(plain.stdout.lines().filter(|l| l.starts_with("| ")).count(), 11, "ten rows and a header: {plain}");
}

#[test]
fn show_reads_sources_and_tables_beside_models() {
    for name in ["web.tracks", "ehr.appointments", "twilio.messages", "patient_links", "kinfold.runs", "audience_sizes"]
    {
        let outcome = clinic().kinfold(&["show", name, "--limit", "1", "--output", "json"]).exits(0);
        assert_eq!(outcome.rows().len(), 1, "{outcome}");
    }
}

#[test]
fn unselected_columns_and_tables_cannot_be_read() {
    let row = &clinic().query("SELECT * FROM web.tracks LIMIT 1")[0];
    assert!(row.contains_key("context_page_url") && !row.contains_key("context_ip"), "{row:?}");
    clinic().kinfold(&["query", "SELECT context_ip FROM web.tracks"]).exits(2).without_data();
    clinic().kinfold(&["query", "SELECT body FROM twilio.messages"]).exits(2).without_data();
    clinic().kinfold(&["show", "twilio.addresses"]).exits(2).without_data().says(&["enabled: false"]);
}

#[test]
fn show_suggests_a_near_name() {
    clinic()
        .kinfold(&["show", "patient_profil"])
        .exits(2)
        .without_data()
        .says(&["no table `patient_profil`", "did you mean `patient_profile`"]);
    clinic().kinfold(&["show", "web.trakcs"]).exits(2).without_data().says(&["did you mean `web.tracks`"]);
}

#[test]
fn query_prints_three_formats() {
    let sql = "SELECT 1 AS one, 'a,b' AS two, CAST(NULL AS VARCHAR) AS three, true AS four";
    let csv = clinic().kinfold(&["query", sql, "--output", "csv"]).exits(0);
    assert_eq!(csv.stdout, "one,two,three,four\n1,\"a,b\",,true\n");
    let json = clinic().kinfold(&["query", sql, "--output", "json"]).exits(0);
    assert_eq!(serde_json::to_string(&json.rows()).unwrap(), r#"[{"four":true,"one":1,"three":null,"two":"a,b"}]"#);
    let text = clinic().kinfold(&["query", sql]).exits(0);
    assert!(text.stdout.contains("| one | two | three | four |"), "{text}");
}

#[test]
fn query_without_rows_still_has_its_shape() {
    let sql = "SELECT patient_id, email FROM patient_profile WHERE false";
    assert_eq!(clinic().kinfold(&["query", sql, "--output", "csv"]).exits(0).stdout, "patient_id,email\n");
    assert_eq!(clinic().kinfold(&["query", sql, "--output", "json"]).exits(0).rows().len(), 0);
    assert!(clinic().kinfold(&["query", sql]).exits(0).stdout.contains("patient_id"));
}

#[test]
fn query_reads_and_never_writes() {
    // other tests ask the same warehouse meanwhile, and questions about people are written down
    let told = || {
        let mut files = files(&clinic().path("target/warehouse"));
        files.retain(|name, _| !name.starts_with("_kinfold/audit/"));
        files
    };
    let before = told();
    for sql in [
        "DROP TABLE patient",
        "DELETE FROM patient",
        "UPDATE patient SET patient_id = 'x'",
        "INSERT INTO patient SELECT * FROM patient",
        "CREATE TABLE t AS SELECT 1 AS a",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/tmp/t'",
        "COPY (SELECT 1) TO '/tmp/kinfold-must-not-be-written.csv'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; DROP TABLE patient",
    ] {
        clinic().kinfold(&["query", sql]).exits(2).without_data();
    }
    assert_eq!(told(), before);
    assert!(!std::path::Path::new("/tmp/kinfold-must-not-be-written.csv").exists());
}

#[test]
fn wrong_sql_is_explained() {
    clinic().kinfold(&["query", "SELEC 1"]).exits(2).without_data().says(&["SELEC"]);
    clinic().kinfold(&["query", "SELECT emial FROM patient_profile"]).exits(2).without_data().says(&["emial"]);
    clinic().kinfold(&["query", "SELECT nosuchfn(1)"]).exits(2).without_data().says(&["nosuchfn"]);
    clinic().kinfold(&["query", ""]).exits(2).without_data();
}

#[test]
fn a_model_that_was_not_built_says_so() {
    let project = Project::clinic();
    project.kinfold(&["show", "patient"]).exits(2).without_data().says(&["has not been built", "kinfold run"]);
    let status = project.kinfold(&["status"]).exits(0);
    assert!(status.stdout.contains("no runs yet"), "{status}");
}

#[test]
fn status_lists_runs_and_syncs() {
    let status = clinic().kinfold(&["status"]).exits(0);
    assert!(status.stdout.contains("run 1 ") && status.stdout.contains("as of 2026-03-31"), "{status}");
    let sent = format!("{} sent", expected()["searched_not_booked_to_lake"]["rows"]);
    assert!(
        status.stdout.contains("searched_not_booked_to_lake: success") && status.stdout.contains(&sent),
        "{status}"
    );
}

#[test]
fn init_makes_a_project_that_runs_at_once() {
    let project = Project::of(&[]);
    let made = project.kinfold(&["init", "first"]).exits(0);
    assert!(made.stdout.contains("kinfold run"), "{made}");
    let here = |arguments: &[&str]| project.kinfold(&[arguments, &["--project", "first"]].concat()).exits(0);
    here(&["check"]);
    here(&["run"]);
    let shown = here(&["show", "person_profile", "--output", "json"]);
    // Ann's two cookies are one person; Bob and an unknown visitor are two more
    assert_eq!(shown.rows().len(), 3, "{shown}");
    let again = here(&["run"]);
    assert!(again.stdout.contains("unchanged"), "{again}");
}

#[test]
fn init_leaves_folders_alone_that_have_something_in_them() {
    let project = Project::of(&[("mine/sources.yaml", "sources: []\n")]);
    project.kinfold(&["init", "mine"]).exits(2).without_data().says(&["not empty", "help:"]);
    assert_eq!(files(&project.path("mine")).len(), 1);
    assert_eq!(project.read("mine/sources.yaml"), "sources: []\n");
}

#[test]
fn targets_and_variables_choose_the_warehouse() {
    let project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    project.write(
        "kinfold.yaml",
        "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\nwarehouse: target/warehouse\nvars: {page: home}\n\
         targets:\n  production: {warehouse: target/production, vars: {page: prices}}\n",
    );
    project.write("models/chosen.sql", "SELECT count(*) AS visits FROM shop.visits WHERE page = '{{ var('page') }}'\n");
    let chosen = |arguments: &[&str]| {
        project.kinfold(&[&["run", "--select", "chosen"], arguments].concat()).exits(0);
        let answer = project
            .kinfold(&[&["query", "SELECT visits FROM chosen", "--output", "json"], arguments].concat())
            .exits(0);
        answer.rows()[0]["visits"].as_i64().unwrap()
    };
    assert_eq!(chosen(&[]), 4);
    assert_eq!(chosen(&["--target", "production"]), 3);
    assert_eq!(chosen(&["--vars", "page=login"]), 1);
    assert!(project.path("target/production/chosen/_delta_log").is_dir());
}

#[test]
fn logical_time_does_not_move_back() {
    let project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    project.kinfold(&["run"]).exits(0);
    let before = project.lines("SELECT * FROM person_profile");
    project.kinfold(&["run", "--as-of", "2026-01-01"]).exits(2).without_data().says(&["2026-01-01", "help:"]);
    assert_eq!(project.lines("SELECT * FROM person_profile"), before);
}

#[test]
fn a_reader_that_stops_listening_is_no_panic() {
    let mut child = clinic()
        .command(&["query", "SELECT * FROM web.tracks", "--output", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(!talk.contains("panicked"), "{talk}");
}
