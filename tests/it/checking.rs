//! `kinfold check --output`: what goes to stdout in each format, that exit codes do not depend on it, and that the
//! commands of the workflow in docs/checking.md do what the document says.

use crate::support::{Outcome, Project, repository};
use serde_json::Value;
use std::process::{Command, Stdio};

const FORMATS: [&str; 6] = ["human", "concise", "json", "github", "sarif", "junit"];

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: visits, path: visits.csv, format: csv, time: at, columns: {at: {type: TIMESTAMP}}}
";

/// A project with one SQL model.
fn project(sql: &str) -> Project {
    Project::of(&[
        ("sources.yaml", SOURCES),
        ("data/visits.csv", "cookie,page,at\nc1,home,2026-03-01T08:00:00Z\n"),
        ("models/pages.sql", sql),
    ])
}

fn check(project: &Project, format: &str, code: i32) -> Outcome {
    project.kinfold(&["check", "--output", format]).exits(code)
}

const FINE: &str = "SELECT page FROM shop.visits\n";
const WARNING: &str = "SELECT page, now() AS t FROM shop.visits\n";
const ERROR: &str = "SELECT page,\n       cokie\nFROM shop.visits\n";

#[test]
fn exit_codes_do_not_depend_on_the_format() {
    for (sql, code) in [(FINE, 0), (WARNING, 0), (ERROR, 2), ("SELECT (", 2)] {
        let project = project(sql);
        for format in FORMATS {
            check(&project, format, code);
        }
    }
    let project = project(FINE);
    std::fs::remove_file(project.path("sources.yaml")).unwrap();
    for format in FORMATS {
        check(&project, format, 2);
    }
}

#[test]
fn people_are_told_on_stderr_and_machines_on_stdout() {
    let project = project(ERROR);
    let human = check(&project, "human", 2).without_data();
    human.says(&["error[K0303]: no column `cokie`", "models/pages.sql:2:8", "did you mean `cookie`?", "1 error"]);
    let outcome = check(&project, "concise", 2);
    assert_eq!(outcome.stdout, "models/pages.sql:2:8: error[K0303]: no column `cokie`\n", "{outcome}");
    assert_eq!(outcome.stderr, "", "{outcome}");
    let outcome = check(&project, "github", 2);
    let expected = "::error file=models/pages.sql,line=2,col=8,endLine=2,endColumn=13,title=K0303::\
        no column `cokie`%0Ahelp: did you mean `cookie`?\n";
    assert_eq!(outcome.stdout, expected, "{outcome}");
}

#[test]
fn a_document_is_whole_when_nothing_was_found() {
    let project = project(FINE);
    for format in ["concise", "github"] {
        let outcome = check(&project, format, 0);
        assert_eq!(outcome.stdout, "", "{outcome}");
    }
    assert_eq!(json(&check(&project, "json", 0)), serde_json::json!([]));
    assert_eq!(json(&check(&project, "sarif", 0))["runs"][0]["results"], serde_json::json!([]));
    let outcome = check(&project, "junit", 0).says(&["ok: 1 model over 1 source table"]);
    assert!(outcome.stdout.contains("tests=\"1\" failures=\"0\""), "{outcome}");
}

#[track_caller]
fn json(outcome: &Outcome) -> Value {
    match serde_json::from_str(&outcome.stdout) {
        Ok(value) => value,
        Err(error) => panic!("{error}: {outcome}"),
    }
}

#[test]
fn sarif_says_rule_level_and_place() {
    let project = project(ERROR);
    let log = json(&check(&project, "sarif", 2));
    let run = &log["runs"][0];
    let result = &run["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&Value::from("K0303"), &Value::from("error")));
    let place = &result["locations"][0]["physicalLocation"];
    let region = serde_json::json!({ "startLine": 2, "startColumn": 8, "endLine": 2, "endColumn": 13 });
    assert_eq!(place["region"], region);
    assert_eq!(place["artifactLocation"]["uri"], "models/pages.sql");
    let rule = &run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
    assert_eq!(rule["id"], "K0303");
    assert!(rule["help"]["text"].as_str().is_some_and(|t| t.contains("fix: ")), "{rule}");
}

#[test]
fn paths_are_as_seen_from_where_the_command_was_called() {
    let project = project(ERROR);
    let parent = project.path("..").canonicalize().unwrap();
    let folder = project.path(".").canonicalize().unwrap();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_kinfold"))
        .args(["check", "--output", "github", "--project", &name])
        .current_dir(parent)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with(&format!("::error file={name}/models/pages.sql,line=2,")), "{said}");
}

#[test]
fn failures_of_the_world_stay_on_stderr() {
    let project = project(FINE);
    project.write("sources.yaml", &SOURCES.replace("location: data", "location: \"gopher://nowhere/\""));
    let human = project.kinfold(&["check"]);
    assert_ne!(human.code, 0, "{human}");
    for format in FORMATS {
        let outcome = check(&project, format, human.code).without_data().says(&["error: "]);
        assert_eq!(outcome.stderr, human.stderr);
    }
}

/// The `run:` lines of the first YAML block of a document that has some.
fn workflow() -> Vec<String> {
    let document = std::fs::read_to_string(repository().join("docs/checking.md")).unwrap();
    let block = document.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains("on: pull_request\n"), "{block}");
    let lines = block.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("run: "));
    lines.map(str::to_owned).collect()
}

/// The workflow's commands, in a copy of this repository's project.
#[test]
fn the_commands_of_the_workflow_work() {
    let project = Project::clinic();
    let commands = workflow();
    let (build, checks) = commands.split_first().unwrap();
    // the build that these tests are part of is the same one: it made this binary from the same lock file
    assert_eq!(build, "cargo build --locked --bin kinfold");
    assert!(repository().join("Cargo.lock").is_file());
    let binary = project.path("target/debug/kinfold");
    std::fs::create_dir_all(binary.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kinfold"), &binary).unwrap();
    assert_eq!(checks.len(), 2, "{checks:?}");
    for (breakage, code) in [(false, 0), (true, 2)] {
        if breakage {
            project.write("models/broken.sql", "SELECT nobody FROM patient_profile\n");
        }
        for command in checks {
            let outcome = shell(&project, command);
            assert_eq!(outcome.status.code(), Some(code), "{command}: {}", String::from_utf8_lossy(&outcome.stderr));
            let shown = String::from_utf8_lossy(&outcome.stdout);
            let annotated = shown.contains("::error file=models/broken.sql,line=1,");
            assert_eq!(annotated, breakage && command.contains("github"), "{command}: {shown}");
        }
        let log: Value = serde_json::from_str(&project.read("kinfold.sarif")).unwrap();
        assert_eq!(log["runs"][0]["results"].as_array().map(Vec::len), Some(usize::from(breakage)));
    }
}

fn shell(project: &Project, command: &str) -> std::process::Output {
    let data = repository().join("examples/clinic/data");
    Command::new("bash")
        .args(["-c", command])
        .current_dir(project.path("."))
        .env("CLINIC_DATA", data)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn deep_and_long_sql_overflows_no_stack() {
    for sql in
        ["(".repeat(50_000), "NOT ".repeat(50_000), vec!["1"; 20_000].join(" + "), vec!["a"; 20_000].join(" AND ")]
    {
        let outcome = project(&format!("SELECT {sql}\n")).kinfold(&["check"]).exits(2);
        outcome.says(&["error[K0313]"]);
    }
    let asked = format!("SELECT {}", vec!["1"; 20_000].join(" + "));
    project(FINE).kinfold(&["query", &asked]).exits(2).says(&["operators stand in one row"]);
    // at the limits it is read, in a build without optimisation too
    let union = vec!["SELECT 1 AS x"; 501].join(" UNION ALL ");
    let sum = format!("SELECT {} AS x", vec!["1"; 501].join(" + "));
    let and = format!("SELECT page FROM shop.visits WHERE {}", vec!["page <> 'x'"; 501].join(" AND "));
    let deep = format!("SELECT {}page{} AS x FROM shop.visits", "upper(".repeat(63), ")".repeat(63));
    for sql in [union, sum, and, deep] {
        project(&sql).kinfold(&["check"]).exits(0);
    }
}
