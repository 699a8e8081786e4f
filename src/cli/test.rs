//! `kinfold test`: unit tests, or with `--data` the data tests.

use super::exit::Exit;
use super::printer::Printer;
use super::summary::{counted, grouped, seconds, tally, test_line};
use crate::engine::{CheckResult, CheckStatus};
use crate::error::Error;
use crate::runner::{
    DataReport, Difference, Failure, Options, TableDifference, UnitOutcome, UnitReport, UnitRun, test_data, test_units,
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// Unit tests by name; all by default.
    names: Vec<String>,
    /// Run the data tests, over the committed tables and the sources, building nothing.
    #[arg(long, conflicts_with = "names")]
    data: bool,
    /// Tests of these models only, as for `run`; with --data also names of source tables. May be repeated.
    #[arg(long, short)]
    select: Vec<String>,
    /// Format of the results.
    #[arg(long, short, value_enum, default_value_t = TestFormat::Text)]
    output: TestFormat,
}

/// Formats of test results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TestFormat {
    Text,
    Json,
    Junit,
}

pub(super) async fn test(arguments: &TestArguments, options: Options, printer: &Printer) -> Exit {
    let options = Options { select: arguments.select.clone(), ..options };
    if arguments.data {
        data(arguments.output, &options, printer).await
    } else {
        units(arguments, &options, printer).await
    }
}

async fn units(arguments: &TestArguments, options: &Options, printer: &Printer) -> Exit {
    let ended = |report: &UnitReport| {
        if arguments.output == TestFormat::Text {
            printer.data(&unit_text(report));
        }
    };
    match test_units(options, &arguments.names, &ended).await {
        Ok(run) => {
            printer.data(&match arguments.output {
                TestFormat::Text => units_summary(&run),
                TestFormat::Json => units_json(&run),
                TestFormat::Junit => junit(run.tests.iter().map(unit_case).collect()),
            });
            if run.is_success() { Exit::Ok } else { Exit::Failed }
        }
        Err(failure) => wrong(&failure, printer),
    }
}

async fn data(format: TestFormat, options: &Options, printer: &Printer) -> Exit {
    match test_data(options).await {
        Ok(report) => {
            printer.findings(&report.warnings.0, &report.warnings.1);
            printer.data(&match format {
                TestFormat::Text => data_text(&report),
                TestFormat::Json => pretty(&json!(report.checks)),
                TestFormat::Junit => junit(report.checks.iter().map(check_case).collect()),
            });
            if report.is_success() { Exit::Ok } else { Exit::Failed }
        }
        Err(failure) => wrong(&failure, printer),
    }
}

/// A test that cannot be understood is a wrong definition, whatever it is about.
fn wrong(failure: &Failure, printer: &Printer) -> Exit {
    let exit = printer.failure(failure);
    if matches!(failure, Failure::Findings(..)) { Exit::Wrong } else { exit }
}

fn units_summary(run: &UnitRun) -> String {
    if run.tests.is_empty() {
        let why = if run.defined == 0 { "there are none yet: see `kind: test`" } else { "none is selected" };
        return format!("no unit tests: {why}\n");
    }
    let failed = run.tests.iter().filter(|t| !matches!(t.outcome, UnitOutcome::Passed)).count();
    let total = counted(run.tests.len(), "unit test");
    match failed {
        0 => format!("\n{total}: all passed\n"),
        _ => format!("\n{total}: {} passed, {failed} FAILED\n", run.tests.len() - failed),
    }
}

fn unit_text(report: &UnitReport) -> String {
    let took = seconds(report.seconds);
    if matches!(report.outcome, UnitOutcome::Passed) {
        return format!("ok      {} {took}\n", report.name);
    }
    let (path, line) = &report.place;
    format!("FAILED  {} ({path}:{line}) {took}\n{}", report.name, indented(&unit_failure(report)))
}

/// Why a test failed; nothing for one that passed.
fn unit_failure(report: &UnitReport) -> String {
    match &report.outcome {
        UnitOutcome::Passed => String::new(),
        UnitOutcome::Failed(tables) => tables.iter().map(difference_text).collect(),
        UnitOutcome::Broken(error) => format!("{}\n", chain(error)),
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

/// The rows of a table that are not as expected: `-` is missing, `+` unexpected, `~` has other values.
fn difference_text(table: &TableDifference) -> String {
    let (expected, actual) = table.rows;
    let mut out = format!("{}: expected {}, found {actual}\n", table.table, counted(expected, "row"));
    let mut lines: Vec<(char, Vec<String>)> = vec![(' ', table.columns.clone())];
    lines.extend(table.differences.iter().map(|difference| match difference {
        Difference::Missing(row) => ('-', row.clone()),
        Difference::Unexpected(row) => ('+', row.clone()),
        Difference::Changed(expected, actual) => {
            let cell = |(e, a): (&String, &String)| if e == a { e.clone() } else { format!("{e} -> {a}") };
            ('~', expected.iter().zip(actual).map(cell).collect())
        }
    }));
    let width = |column: usize| lines.iter().map(|(_, row)| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    for (sign, row) in &lines {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        let _ = writeln!(out, "{}", format!("  {sign} {}", cells.join("  ")).trim_end());
    }
    out
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("        {line}")).collect();
    lines.join("\n") + "\n"
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn units_json(run: &UnitRun) -> String {
    let tests: Vec<Value> = run
        .tests
        .iter()
        .map(|report| {
            let (status, differences, error) = match &report.outcome {
                UnitOutcome::Passed => ("passed", Vec::new(), None),
                UnitOutcome::Failed(tables) => ("failed", tables.iter().map(difference_json).collect(), None),
                UnitOutcome::Broken(error) => ("broken", Vec::new(), Some(chain(error))),
            };
            json!({
                "name": report.name,
                "model": report.model,
                "file": report.place.0,
                "line": report.place.1,
                "seconds": report.seconds,
                "status": status,
                "tables": differences,
                "error": error,
            })
        })
        .collect();
    pretty(&json!(tests))
}

fn difference_json(table: &TableDifference) -> Value {
    let rows: Vec<Value> = table
        .differences
        .iter()
        .map(|difference| match difference {
            Difference::Missing(row) => json!({"change": "missing", "expected": row}),
            Difference::Unexpected(row) => json!({"change": "unexpected", "actual": row}),
            Difference::Changed(expected, actual) => {
                json!({"change": "changed", "expected": expected, "actual": actual})
            }
        })
        .collect();
    json!({
        "table": table.table,
        "columns": table.columns,
        "expected_rows": table.rows.0,
        "actual_rows": table.rows.1,
        "differences": rows,
    })
}

fn data_text(report: &DataReport) -> String {
    let mut out = String::new();
    for check in &report.checks {
        let _ = writeln!(out, "{}", check_line(check));
    }
    for model in &report.unbuilt {
        let _ = writeln!(out, "left out {model}: it has not been built yet");
    }
    if report.checks.is_empty() && report.unbuilt.is_empty() {
        let _ = writeln!(out, "no data tests: write some under `tests:` of a table, a model or a column");
    } else {
        let _ = writeln!(out, "\n{}", tally(&report.checks));
    }
    out
}

fn check_line(check: &CheckResult) -> String {
    if check.status != CheckStatus::Pass {
        return test_line(check);
    }
    let rows = check.rows.map(|rows| format!(", {} rows", grouped(rows))).unwrap_or_default();
    let allowed =
        if check.failures > 0 { format!(", {} fail and may", grouped(check.failures)) } else { String::new() };
    format!("ok     {}: {}{rows}{allowed}", check.model, check.test)
}

/// A test case of a JUnit report.
struct Case {
    class: String,
    name: String,
    seconds: f64,
    failure: Option<String>,
}

fn unit_case(report: &UnitReport) -> Case {
    let failure = unit_failure(report);
    Case {
        class: report.model.clone(),
        name: report.name.clone(),
        seconds: report.seconds,
        failure: (!failure.is_empty()).then_some(failure),
    }
}

fn check_case(check: &CheckResult) -> Case {
    Case {
        class: check.model.clone(),
        name: check.test.clone(),
        seconds: check.seconds,
        failure: (check.status == CheckStatus::Fail).then(|| test_line(check)),
    }
}

fn junit(cases: Vec<Case>) -> String {
    let failures = cases.iter().filter(|c| c.failure.is_some()).count();
    let seconds: f64 = cases.iter().map(|c| c.seconds).sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites tests=\"{}\" failures=\"{failures}\" time=\"{seconds:.3}\">", cases.len());
    let _ = writeln!(
        out,
        "  <testsuite name=\"kinfold\" tests=\"{}\" failures=\"{failures}\" time=\"{seconds:.3}\">",
        cases.len()
    );
    for case in &cases {
        let (class, name) = (escaped(&case.class), escaped(&case.name));
        let head = format!("    <testcase classname=\"{class}\" name=\"{name}\" time=\"{:.3}\"", case.seconds);
        match &case.failure {
            None => {
                let _ = writeln!(out, "{head}/>");
            }
            Some(text) => {
                let first = text.lines().next().unwrap_or_default();
                let _ = writeln!(out, "{head}>");
                let _ = writeln!(out, "      <failure message=\"{}\">{}</failure>", escaped(first), escaped(text));
                let _ = writeln!(out, "    </testcase>");
            }
        }
    }
    out + "  </testsuite>\n</testsuites>\n"
}

/// Text inside XML; control characters, which XML cannot hold, become `?`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_escapes_what_xml_reserves() {
        let case = Case { class: "a<b".into(), name: "\"n\"".into(), seconds: 0.5, failure: Some("x & y\u{1}".into()) };
        let text = junit(vec![case]);
        assert!(text.contains("classname=\"a&lt;b\" name=\"&quot;n&quot;\" time=\"0.500\""), "{text}");
        assert!(text.contains("<failure message=\"x &amp; y?\">x &amp; y?</failure>"), "{text}");
    }

    #[test]
    fn differences_are_aligned_and_marked() {
        let texts = |row: &[&str]| row.iter().map(ToString::to_string).collect::<Vec<_>>();
        let table = TableDifference {
            table: "t".into(),
            columns: texts(&["id", "status"]),
            rows: (2, 1),
            differences: vec![
                Difference::Changed(texts(&["1", "new"]), texts(&["1", "old"])),
                Difference::Missing(texts(&["27", "new"])),
            ],
        };
        let lines = ["t: expected 2 rows, found 1", "    id  status", "  ~ 1   new -> old", "  - 27  new", ""];
        assert_eq!(difference_text(&table), lines.join("\n"));
    }
}
