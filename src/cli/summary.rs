//! The summary of a run, as a person reads it.

use crate::engine::{AudienceFacts, CheckResult, CheckStatus, Facts, IdentityFacts, KEPT_ROWS, SourceRows, Updated};
use crate::runner::{NodeReport, RunReport, UnchangedReport, Withheld};
use std::fmt::Write;

/// `1 error`, `2 errors`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `12345` → `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(super) fn seconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.2} s") } else { format!("{value:.1} s") }
}

/// One line when a model is done.
pub(super) fn progress_line(node: &NodeReport) -> String {
    format!("{} {} rows, {}", node.model, grouped(node.rows), seconds(node.seconds))
}

/// The whole summary.
pub(super) fn summary(report: &RunReport) -> String {
    let mut out = String::new();
    let took = (report.ended_at - report.started_at).num_milliseconds();
    let _ = writeln!(
        out,
        "run {} of {} as of {} in {}",
        report.run,
        report.project,
        report.as_of.format("%Y-%m-%d %H:%M:%S UTC"),
        seconds(took as f64 / 1000.0)
    );
    let partials = match report.partial_bytes {
        0 => String::new(),
        size => format!("; partial states: {}", bytes(size)),
    };
    let _ = writeln!(out, "read {} files, {}{partials}", grouped(report.source_files), bytes(report.source_bytes));
    models(&mut out, report);
    grown(&mut out, report);
    identities(&mut out, report);
    audiences(&mut out, report);
    data_tests(&mut out, report);
    syncs(&mut out, report);
    let _ = writeln!(out, "\ntables are in {}", report.warehouse);
    out
}

/// `1.5 kB`, `3.2 MB`.
pub(super) fn bytes(value: u64) -> String {
    match value {
        0..1_000_000 => format!("{:.1} kB", value as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value as f64 / 1e6),
        _ => format!("{:.1} GB", value as f64 / 1e9),
    }
}

/// An aligned table; the first column is text, the rest numbers.
pub(super) fn table(out: &mut String, header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).map(String::len);
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let mut line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(i, c)| if i == 0 { format!("{c:<w$}", w = width(i)) } else { format!("{c:>w$}", w = width(i)) })
            .collect();
        let _ = writeln!(out, "  {}", padded.join("  ").trim_end());
    };
    line(header.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

fn models(out: &mut String, report: &RunReport) {
    let same = |u: &UnchangedReport| vec![u.model.clone(), grouped(u.rows), "unchanged".to_owned(), String::new()];
    let rows: Vec<Vec<String>> = report.nodes.iter().map(model_row).chain(report.unchanged.iter().map(same)).collect();
    out.push('\n');
    table(out, &["model", "rows", "change", "time"], &rows);
}

fn model_row(node: &NodeReport) -> Vec<String> {
    let change = match node.rows_before {
        None => "new".to_owned(),
        Some(before) if before == node.rows => "=".to_owned(),
        Some(before) if before < node.rows => format!("+{}", grouped(node.rows - before)),
        Some(before) => format!("-{}", grouped(before - node.rows)),
    };
    vec![node.model.clone(), grouped(node.rows), change, seconds(node.seconds)]
}

/// How incremental models came to their rows.
fn grown(out: &mut String, report: &RunReport) {
    for node in &report.nodes {
        let Facts::Sql { updated: Some(updated), .. } = &node.facts else { continue };
        let _ = writeln!(out, "  {}: {}", node.model, updated_text(updated));
    }
}

/// `3 keys made again, with 12 rows`, or `made whole: definition changed`.
fn updated_text(updated: &Updated) -> String {
    let counted = |number: u64, noun: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{} {noun}{plural}", grouped(number))
    };
    match updated {
        Updated::Keys { keys, rows, .. } => {
            format!("{} made again, with {}", counted(*keys, "key"), counted(*rows, "row"))
        }
        Updated::Whole { reasons } => {
            let told: Vec<String> = reasons.iter().map(super::plan::reason).collect();
            format!("made whole: {}", told.join("; "))
        }
    }
}

fn identities(out: &mut String, report: &RunReport) {
    let facts_of = |node: &NodeReport| match &node.facts {
        Facts::Identity(facts) => Some((node.model.clone(), facts.clone())),
        _ => None,
    };
    let identities: Vec<(String, IdentityFacts)> = report.nodes.iter().filter_map(facts_of).collect();
    if identities.is_empty() {
        return;
    }
    out.push('\n');
    let header =
        ["identity", "identifiers", "entities", "links", "refused", "hubs", "largest", "created", "merged", "split"];
    let row = |(model, f): &(String, IdentityFacts)| {
        let numbers = [f.identifiers, f.entities, f.links, f.refused, f.hubs, f.largest, f.created, f.merged, f.split];
        [vec![model.clone()], numbers.map(grouped).to_vec()].concat()
    };
    table(out, &header, &identities.iter().map(row).collect::<Vec<_>>());
    for (model, facts) in &identities {
        let _ = writeln!(out, "  {model}: {}", resolution(facts));
    }
}

/// How well rows and people are known: `20 anonymous (40.0 %), 1 suspect; 99.5 % of rows have an entity, least in
/// web.tracks: 98.0 %`.
fn resolution(facts: &IdentityFacts) -> String {
    let suspects = if facts.suspects == 1 { "suspect" } else { "suspects" };
    let mut line = format!("{} anonymous", grouped(facts.anonymous));
    if facts.entities > 0 {
        let _ = write!(line, " ({})", percent(facts.anonymous, facts.entities));
    }
    let _ = write!(line, ", {} {suspects}", grouped(facts.suspects));
    let resolved: u64 = facts.sources.iter().map(|s| s.resolved).sum();
    if facts.rows_read > 0 {
        let _ = write!(line, "; {} of rows have an entity", percent(resolved, facts.rows_read));
    }
    let read = facts.sources.iter().filter(|s| s.rows > 0);
    let least = read.min_by(|a, b| {
        let crosswise = |one: &SourceRows, other: &SourceRows| u128::from(one.resolved) * u128::from(other.rows);
        crosswise(a, b).cmp(&crosswise(b, a))
    });
    if let Some(least) = least.filter(|s| s.resolved < s.rows) {
        let _ = write!(line, ", least in {}: {}", least.table, percent(least.resolved, least.rows));
    }
    line
}

/// `98.7 %`, rounded down: what is not all is never 100.
fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn audiences(out: &mut String, report: &RunReport) {
    let rows: Vec<Vec<String>> = report
        .nodes
        .iter()
        .filter_map(|node| match &node.facts {
            Facts::Audience(AudienceFacts { members, entered, left, .. }) => {
                Some(vec![node.model.clone(), grouped(*members), grouped(*entered), grouped(*left)])
            }
            _ => None,
        })
        .collect();
    if !rows.is_empty() {
        out.push('\n');
        table(out, &["audience", "members", "entered", "left"], &rows);
    }
    for node in &report.nodes {
        let Facts::Audience(facts) = &node.facts else { continue };
        for line in narrowed(facts).into_iter().chain(facts.too_small_text(&node.model)) {
            let _ = writeln!(out, "  {}: {line}", node.model);
        }
        if facts.rejected > 0 {
            let rows = counted(usize::try_from(facts.rejected).unwrap_or(usize::MAX), "row");
            let table = format!("kinfold show {}_rejected", node.model);
            let _ = writeln!(out, "  {}: {rows} of its lists rejected: {table}", node.model);
        }
    }
}

/// Who was found and is no member: `12 held out, 3 rank behind the last member`.
pub(super) fn narrowed(facts: &AudienceFacts) -> Option<String> {
    let parts = [
        (facts.in_group, "are in an earlier audience of the group"),
        (facts.held_out, "held out"),
        (facts.beyond_top, "rank behind the last member"),
    ];
    let told: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(*n))).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// `12 tests: 10 passed, 1 warned, 1 FAILED`.
pub(super) fn tally(results: &[CheckResult]) -> String {
    let count = |status| results.iter().filter(|r| r.status == status).count();
    let words = [(CheckStatus::Pass, "passed"), (CheckStatus::Warn, "warned"), (CheckStatus::Fail, "FAILED")];
    let counted: Vec<String> = words
        .iter()
        .map(|(status, word)| (count(*status), word))
        .filter(|(n, word)| *n > 0 || **word == "passed")
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    format!("{}: {}", self::counted(results.len(), "data test"), counted.join(", "))
}

/// One line for each test that did not pass.
pub(super) fn test_lines(results: &[CheckResult]) -> Vec<String> {
    results.iter().filter(|r| r.status != CheckStatus::Pass).map(test_line).collect()
}

pub(super) fn test_line(result: &CheckResult) -> String {
    let word = if result.status == CheckStatus::Fail { "FAILED" } else { "warned" };
    let mut line = format!("{word} {}: {}: ", result.model, result.test);
    match (&result.detail, result.rows) {
        (Some(detail), _) => line.push_str(detail),
        (None, Some(rows)) => {
            let _ = write!(line, "{} of {} rows", grouped(result.failures), grouped(rows));
        }
        (None, None) => line.push_str(&counted(usize::try_from(result.failures).unwrap_or(usize::MAX), "row")),
    }
    if !result.keys.is_empty() {
        let _ = write!(line, ", such as {}", result.keys.join(", "));
    }
    line
}

fn data_tests(out: &mut String, report: &RunReport) {
    if !report.checks.is_empty() {
        let _ = writeln!(out, "\n{}", tally(&report.checks));
    }
    if !report.untested.is_empty() {
        let names: Vec<&str> = report.untested.iter().map(String::as_str).collect();
        let _ = writeln!(out, "\ndata tests not run, unchanged since they passed: {}", names.join(", "));
    }
    for line in test_lines(&report.checks) {
        let _ = writeln!(out, "  {line}");
    }
    for line in withheld_lines(&report.withheld) {
        let _ = writeln!(out, "  {line}");
    }
    if report.checks.iter().any(|c| !c.failing.is_empty()) {
        let kept = if report.checks.iter().any(|c| c.failures > KEPT_ROWS as u64) {
            format!(" (the first {} of each test)", grouped(KEPT_ROWS as u64))
        } else {
            String::new()
        };
        let sql = format!("SELECT * FROM kinfold.test_failures WHERE run = {}", report.run);
        let _ = writeln!(out, "  failing rows{kept}: kinfold query \"{sql}\"");
    }
}

/// `not committed: a`, `not built: b, c (need a)`; the committed tables of all of them stay as they were.
pub(super) fn withheld_lines(withheld: &[Withheld]) -> Vec<String> {
    let names = |of: &[&Withheld]| of.iter().map(|w| w.model.as_str()).collect::<Vec<_>>().join(", ");
    let (built, others): (Vec<&Withheld>, Vec<&Withheld>) = withheld.iter().partition(|w| w.built);
    let mut lines = Vec::new();
    if !built.is_empty() {
        lines.push(format!("not committed: {}", names(&built)));
    }
    let mut causes: Vec<&str> = others.iter().map(|w| w.because.as_str()).collect();
    causes.sort_unstable();
    causes.dedup();
    for cause in causes {
        let of: Vec<&Withheld> = others.iter().copied().filter(|w| w.because == cause).collect();
        lines.push(format!("not built because of {cause}: {}", names(&of)));
    }
    if !lines.is_empty() {
        lines.push("their tables stay as they were".to_owned());
    }
    lines
}

fn syncs(out: &mut String, report: &RunReport) {
    if report.syncs.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = report
        .syncs
        .iter()
        .map(|s| {
            let numbers = [s.read, s.sent, s.unchanged, s.deleted, s.rejected, s.withheld];
            [vec![s.sync.clone()], numbers.iter().map(|n| grouped(*n)).collect(), vec![s.result.clone()]].concat()
        })
        .collect();
    out.push('\n');
    table(out, &["sync", "rows", "sent", "unchanged", "deleted", "rejected", "withheld", "result"], &rows);
    for (sync, note) in report.syncs.iter().filter_map(|s| Some((s, s.note.as_ref()?))) {
        let nothing = if sync.result == "withheld" { "nothing was sent: " } else { "" };
        let _ = writeln!(out, "  {}: {nothing}{note}", sync.sync);
    }
    for sync in report.syncs.iter().filter(|s| s.error.is_some()) {
        let _ = writeln!(out, "  {}: {}", sync.sync, sync.error.as_deref().unwrap_or_default());
        if let Some(help) = &sync.help {
            let _ = writeln!(out, "    help: {help}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(123_456_789), "123,456,789");
        assert_eq!(counted(1, "error"), "1 error");
    }

    #[test]
    fn the_least_resolved_source_is_named_unless_all_rows_have_an_entity() {
        let rows = |table: &str, rows, resolved| SourceRows { table: table.to_owned(), rows, resolved };
        let mut facts = IdentityFacts {
            entities: 3,
            anonymous: 1,
            suspects: 1,
            rows_read: 2000,
            sources: vec![rows("web.pages", 1000, 999), rows("web.tracks", 990, 990), rows("calls", 10, 2)],
            ..IdentityFacts::default()
        };
        let told = "1 anonymous (33.3 %), 1 suspect; 99.5 % of rows have an entity, least in calls: 20.0 %";
        assert_eq!(resolution(&facts), told);
        facts.sources = vec![rows("web.pages", 2000, 2000), rows("empty", 0, 0)];
        assert_eq!(resolution(&facts), "1 anonymous (33.3 %), 1 suspect; 100.0 % of rows have an entity");
        assert_eq!(resolution(&IdentityFacts::default()), "0 anonymous, 0 suspects");
        assert_eq!(percent(99_999, 100_000), "99.9 %");
    }
}
