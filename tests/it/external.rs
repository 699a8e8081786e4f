//! Checks that need other programs: Python with another engine and an S3 server. `scripts/test.sh` makes
//! the venv, names its Python in `KINFOLD_TEST_PYTHON` and asks for ignored tests.

use crate::support::{Project, clinic, repository};
use std::process::{Command, Stdio};

/// Runs one of `tests/tools`; what it printed is shown when it fails.
#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "the edge of the tests")]
fn tool(name: &str, arguments: &[&str]) {
    let python = std::env::var_os("KINFOLD_TEST_PYTHON");
    let python =
        python.expect("KINFOLD_TEST_PYTHON names a Python with tests/tools/requirements.txt (see scripts/test.sh)");
    let output = Command::new(python)
        .arg("-B")
        .arg(repository().join("tests/tools").join(name))
        .arg(env!("CARGO_BIN_EXE_kinfold"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{told}", output.status);
    println!("{told}");
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn duckdb_and_delta_rs_read_the_same_rows() {
    tool("read_delta.py", &[&clinic().path("target/warehouse").to_string_lossy()]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn duckdb_and_delta_rs_read_the_same_rows_after_a_vacuum() {
    let project = Project::clinic_after_a_run();
    for _ in 0..10 {
        project.kinfold(&["run", "--select", "provider_stats"]).exits(0);
    }
    let settings = project.read("kinfold.yaml");
    project.write("kinfold.yaml", &format!("{settings}retention: {{runs: 1, period: 1 us}}\n"));
    let done = project.kinfold(&["vacuum", "--apply"]).exits(0);
    for part in ["removed: 11 runs", "small files of kinfold.runs", "small files of kinfold.nodes"] {
        assert!(done.stdout.contains(part), "no `{part}`: {done}");
    }
    // whole tables at their newest version, with what is left of their logs
    tool("read_delta.py", &[&project.path("target/warehouse").to_string_lossy()]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn the_demo_runs_on_an_object_store() {
    tool("s3.py", &[]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn events_are_what_openlineage_publishes() {
    tool("openlineage_events.py", &[]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn the_document_of_codes_is_what_explain_says() {
    tool("../../scripts/errors_doc.py", &["--check"]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn the_commands_in_the_documents_work() {
    tool("check_docs.py", &[]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn delta_rs_reads_what_syncs_send_to_delta_tables() {
    tool("delta_destination.py", &[]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn delta_tables_of_delta_rs_are_read() {
    tool("delta_source.py", &[]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn what_operators_are_told_is_right() {
    tool("check_operations.py", &[]);
}

#[test]
#[ignore = "needs KINFOLD_TEST_PYTHON"]
fn another_validator_agrees_about_the_schemas() {
    tool("check_schema.py", &[]);
}
