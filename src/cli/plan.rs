//! `kinfold plan`: what a run would do, why, and what it would change. One set of sentences, two layouts.

use super::args::SelectArguments;
use super::exit::Exit;
use super::printer::Printer;
use super::summary::{bytes, counted, grouped, test_lines, withheld_lines};
use crate::engine::{AudienceFacts, Facts, IdentityFacts, RowChanges};
use crate::plan::{Difference, FileChange, Reason, Update};
use crate::runner::{ColumnChange, Effect, Effects, NodeReport, Options, Preview, Purpose, Silent, Step, SyncSummary};
use crate::runner::{prepare, preview};
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::fmt::Write as _;

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    select: SelectArguments,
    /// Plan a run with --full.
    #[arg(long)]
    full: bool,
    /// Compute what would change of the committed tables and at destinations; reads all data, writes nothing.
    #[arg(long, value_enum, default_value_t = EffectsChoice::Changed)]
    effects: EffectsChoice,
    /// Format on stdout.
    #[arg(long, short, value_enum, default_value_t = PlanFormat::Text)]
    output: PlanFormat,
}

/// When effects are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EffectsChoice {
    /// When a definition is new or changed.
    Changed,
    Always,
    Never,
}

/// Formats of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    Text,
    /// For a comment on a pull request.
    Markdown,
    Json,
}

pub(super) async fn plan(arguments: &PlanArguments, options: Options, printer: &Printer) -> Exit {
    let options = Options { full: arguments.full, ..arguments.select.apply(options) };
    let prepared = match prepare(&options, Purpose::Run).await {
        Ok(prepared) => prepared,
        Err(failure) => return printer.failure(&failure),
    };
    printer.findings(&prepared.warnings, prepared.engine.source_map());
    let effects = match arguments.effects {
        EffectsChoice::Changed => Effects::Changed,
        EffectsChoice::Always => Effects::All,
        EffectsChoice::Never => Effects::None,
    };
    match preview(prepared, &options, effects, &Silent).await {
        Ok(preview) => {
            printer.data(&match arguments.output {
                PlanFormat::Text => text(&preview),
                PlanFormat::Markdown => markdown(&preview),
                PlanFormat::Json => format!("{:#}\n", serde_json::json!(preview)),
            });
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}

fn text(preview: &Preview) -> String {
    let mut out = format!("{}\n{}\n", head(preview), reads(preview));
    if let Some(refusal) = &preview.refusal {
        let _ = writeln!(out, "\n  a run would stop: {refusal}");
    }
    let (with_reason, rest) = split(preview);
    if !with_reason.is_empty() {
        out.push('\n');
    }
    let width = with_reason.iter().map(|s| s.model.len()).max().unwrap_or(0);
    for step in with_reason {
        let mut reasons = step.reasons.iter().map(reason).chain(update(step));
        let first = reasons.next().unwrap_or_default();
        let _ = writeln!(out, "  {:<5} {:<width$}  {first}", step.action, step.model);
        for next in reasons {
            let _ = writeln!(out, "  {:<5} {:<width$}  {next}", "", "");
        }
        for line in step.reasons.iter().flat_map(differences) {
            let _ = writeln!(out, "          {line}");
        }
    }
    if let Some(rest) = rest {
        let _ = writeln!(out, "\n  {rest}");
    }
    for (title, lines) in [("gone or retyped columns", columns(preview)), ("effect", effects(preview))] {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n{title}");
        }
        for line in lines {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

fn markdown(preview: &Preview) -> String {
    let mut out = format!("### {}\n\n{}\n", head(preview), reads(preview));
    if let Some(refusal) = &preview.refusal {
        let _ = writeln!(out, "\n**A run would stop**: {refusal}");
    }
    let (with_reason, rest) = split(preview);
    if !with_reason.is_empty() {
        out.push_str("\n| | model | why |\n|---|---|---|\n");
    }
    for step in with_reason {
        let why: Vec<String> = step.reasons.iter().map(reason).chain(update(step)).map(|line| cell(&line)).collect();
        let _ = writeln!(out, "| {} | `{}` | {} |", step.action, step.model, why.join("<br>"));
    }
    if let Some(rest) = rest {
        let _ = writeln!(out, "\n{rest}");
    }
    for step in &preview.steps {
        let lines: Vec<String> = step.reasons.iter().flat_map(differences).collect();
        if !lines.is_empty() {
            let _ = writeln!(out, "\n<details><summary><code>{}</code></summary>\n\n```diff", step.model);
            for line in lines {
                let _ = writeln!(out, "{line}");
            }
            out.push_str("```\n\n</details>\n");
        }
    }
    for (title, lines) in [("Gone or retyped columns", columns(preview)), ("Effect", effects(preview))] {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n**{title}**\n");
        }
        for line in lines {
            let _ = writeln!(out, "- {line}");
        }
    }
    out
}

/// A table's cell: no line ends and no bars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn head(preview: &Preview) -> String {
    let time = |t: &chrono::DateTime<chrono::Utc>| t.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let before = match (preview.last_run, &preview.last_as_of) {
        (Some(run), Some(as_of)) => format!("after run {run}, which was as of {}", time(as_of)),
        _ => "before the first run".to_owned(),
    };
    format!("plan of {} as of {}, {before}", preview.project, time(&preview.as_of))
}

fn reads(preview: &Preview) -> String {
    let reads = &preview.reads;
    let rows = reads.rows.map(|rows| format!(", {} rows", grouped(rows))).unwrap_or_default();
    let size = counted(usize::try_from(reads.files).unwrap_or(usize::MAX), "file");
    let tables = counted(usize::try_from(reads.tables).unwrap_or(usize::MAX), "source table");
    format!("reads {tables}: {size}, {}{rows}", bytes(reads.bytes))
}

/// Steps that have something to tell, and a line about the others.
fn split(preview: &Preview) -> (Vec<&Step>, Option<String>) {
    let tells = |step: &&Step| step.reasons.iter().any(|r| !matches!(r, Reason::Unchanged | Reason::Time));
    let with_reason: Vec<&Step> = preview.steps.iter().filter(tells).collect();
    let count = |of: &dyn Fn(&Step) -> bool| preview.steps.iter().filter(|s| of(s)).count();
    let unchanged = count(&|s| s.action == "unchanged");
    let moved = count(&|s| s.action == "build" && !tells(&s));
    let same = count(&|s| s.action == "sync" && !tells(&s));
    let parts = [
        (unchanged, format!("nothing changed for {}, not built", counted(unchanged, "model"))),
        (moved, format!("only the logical time moved for {}", counted(moved, "model"))),
        (same, format!("{} as before, which may owe something", counted(same, "sync"))),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(_, text)| text).collect();
    (with_reason, (!parts.is_empty()).then(|| parts.join("; ")))
}

pub(super) fn reason(reason: &Reason) -> String {
    match reason {
        Reason::New => "new".to_owned(),
        Reason::Asked => "asked for with --full".to_owned(),
        Reason::Version => "built by another version of kinfold".to_owned(),
        Reason::Changed { differences } if differences.is_empty() => {
            "a value that is not shown changed: of the environment, a list or a secret".to_owned()
        }
        Reason::Changed { .. } => "definition changed".to_owned(),
        Reason::Upstream { models } => format!("upstream: {}", models.join(", ")),
        Reason::Files { table, change } if change.is_none() => format!("{table}: other files than it was built from"),
        Reason::Files { table, change } => format!("{table}: {}", files(change)),
        Reason::Columns => "the columns of its table are others".to_owned(),
        Reason::Time => "the logical time moved".to_owned(),
        Reason::Unrepeatable => "it asks the clock or chance".to_owned(),
        Reason::Unchanged => "nothing changed".to_owned(),
    }
}

/// How an incremental model that was made before is made.
fn update(step: &Step) -> Option<String> {
    match step.update.as_ref()? {
        Update::Whole(reasons) if reasons == &[Reason::New] => None,
        Update::Whole(reasons) => {
            Some(format!("made whole: {}", reasons.iter().map(reason).collect::<Vec<_>>().join("; ")))
        }
        Update::Keys(new) => {
            let files = new.values().map(BTreeSet::len).sum::<usize>();
            Some(format!("made in part: the keys of {}", counted(files, "new file")))
        }
    }
}

fn files(change: &FileChange) -> String {
    let count = |n: u64, what: &str| format!("{} {what} {}", grouped(n), if n == 1 { "file" } else { "files" });
    let mut parts = Vec::new();
    if change.new > 0 {
        parts.push(format!("{} ({})", count(change.new, "new"), bytes(change.new_bytes)));
    }
    if change.changed > 0 {
        parts.push(count(change.changed, "changed"));
    }
    if change.gone > 0 {
        parts.push(format!("{} gone", count(change.gone, "").replace("  ", " ")));
    }
    parts.join(", ")
}

fn differences(reason: &Reason) -> Vec<String> {
    let Reason::Changed { differences } = reason else { return Vec::new() };
    differences.iter().flat_map(difference).collect()
}

/// One difference, as lines of a diff.
fn difference(difference: &Difference) -> Vec<String> {
    let Difference { at, before, after } = difference;
    let side = |sign: char, text: &Option<String>| text.as_ref().map(|t| format!("{sign} {at}: {t}"));
    side('-', before).into_iter().chain(side('+', after)).collect()
}

fn columns(preview: &Preview) -> Vec<String> {
    let mut lines: Vec<String> = preview.columns.iter().map(column).collect();
    lines.extend(preview.removed.iter().map(|m| format!("{m}: no longer defined; its committed tables stay")));
    lines
}

fn column(change: &ColumnChange) -> String {
    let ColumnChange { model, column, before, after, used_by, readers } = change;
    let becomes = after.as_ref().map_or_else(|| format!("{before}, gone"), |after| format!("{before} -> {after}"));
    let used: Vec<&str> = used_by.iter().map(String::as_str).collect();
    let readers = match (used.is_empty(), readers.is_empty()) {
        (false, _) => format!("; used by {}", used.join(", ")),
        (true, false) => format!("; the table is read by {}", readers.join(", ")),
        (true, true) => String::new(),
    };
    format!("{model}.{column}: {becomes}{readers}")
}

fn effects(preview: &Preview) -> Vec<String> {
    if !preview.effects_computed {
        return Vec::new();
    }
    let mut lines: Vec<String> = preview.effects.iter().filter_map(effect).collect();
    lines.extend(test_lines(&preview.tests));
    lines.extend(withheld_lines(&preview.withheld));
    if lines.is_empty() { vec!["no committed row changes, and nothing would be sent".to_owned()] } else { lines }
}

/// What a model would change; nothing for one that changes nothing.
fn effect(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Built { node, rows } => built(node, rows.as_ref()),
        Effect::Sync { sync, destination, counts, error, note, reasons, samples: _ } => {
            let to = format!("{sync} to {destination}");
            match (error, note.as_ref().or(reasons.as_ref())) {
                (Some(error), _) => Some(format!("{to}: would fail: {error}")),
                (None, Some(note)) => match sent(counts) {
                    Some(sent) => Some(format!("{to}: {sent}: {note}")),
                    None => Some(format!("{to}: would send nothing: {note}")),
                },
                (None, None) => sent(counts).map(|sent| format!("{to}: {sent}")),
            }
        }
    }
}

fn sent(counts: &SyncSummary) -> Option<String> {
    let SyncSummary { read, inserted, updated, deleted, .. } = counts;
    let parts = numbers(&[(*inserted, "new"), (*updated, "changed"), (*deleted, "to delete")])?;
    Some(format!("{parts}, of {} rows", grouped(*read)))
}

fn built(node: &NodeReport, rows: Option<&RowChanges>) -> Option<String> {
    let name = &node.model;
    match &node.facts {
        Facts::Identity(IdentityFacts { entities, created, merged, split, .. }) => {
            let changed = rows.and_then(|rows| rows.entities).unwrap_or(0);
            let of_entities =
                [(*created, "created"), (*merged, "merged away"), (*split, "split off"), (changed, "changed")];
            let identifiers =
                rows.and_then(|r| numbers(&[(r.added, "new"), (r.removed, "gone"), (r.changed, "changed")]));
            let of = format!("of {} entities", grouped(*entities));
            match (numbers(&of_entities), identifiers) {
                (Some(parts), Some(identifiers)) => Some(format!("{name}: {parts}, {of} (identifiers: {identifiers})")),
                (Some(parts), None) => Some(format!("{name}: {parts}, {of}")),
                (None, Some(identifiers)) => Some(format!("{name}: identifiers: {identifiers}, {of}")),
                (None, None) => None,
            }
        }
        Facts::Audience(AudienceFacts { members, entered, left, .. }) => {
            let parts = numbers(&[(*entered, "enter"), (*left, "leave")])?;
            Some(format!("{name}: {parts}, of {} members", grouped(*members)))
        }
        Facts::Profile { .. } => {
            let rows = rows?;
            let parts = numbers(&[(rows.added, "new"), (rows.removed, "gone"), (rows.changed, "changed")]);
            let new_columns = if rows.columns.is_empty() { String::new() } else { format!(" ({})", most(rows)) };
            parts.map(|parts| format!("{name}: {parts}{new_columns}, of {} profiles", grouped(node.rows)))
        }
        Facts::Sql { .. } => {
            let before = node.rows_before.filter(|before| *before != node.rows)?;
            Some(format!("{name}: {} rows, {} before", grouped(node.rows), grouped(before)))
        }
    }
}

/// The columns in which most rows differ.
fn most(rows: &RowChanges) -> String {
    const SHOWN: usize = 5;
    let mut columns: Vec<(&String, &u64)> = rows.columns.iter().collect();
    columns.sort_by_key(|(name, rows)| (std::cmp::Reverse(**rows), name.as_str()));
    let more = columns.len().saturating_sub(SHOWN);
    let mut parts: Vec<String> =
        columns.iter().take(SHOWN).map(|(name, rows)| format!("{name} {}", grouped(**rows))).collect();
    if more > 0 {
        parts.push(format!("{more} more columns"));
    }
    parts.join(", ")
}

/// `3 new, 1 gone`; nothing when all are zero.
fn numbers(parts: &[(u64, &str)]) -> Option<String> {
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(*n))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_files_read_well() {
        let change = FileChange { new: 1, new_bytes: 1_500, changed: 2, gone: 1 };
        assert_eq!(files(&change), "1 new file (1.5 kB), 2 changed files, 1 file gone");
    }

    #[test]
    fn a_new_value_has_one_line_and_a_changed_one_two() {
        let of = |before: Option<&str>, after: Option<&str>| {
            difference(&Difference {
                at: "traits.x.within".to_owned(),
                before: before.map(str::to_owned),
                after: after.map(str::to_owned),
            })
        };
        assert_eq!(of(None, Some("7 days")), ["+ traits.x.within: 7 days"]);
        assert_eq!(of(Some("7 days"), Some("30 days")), ["- traits.x.within: 7 days", "+ traits.x.within: 30 days"]);
    }

    #[test]
    fn cells_of_a_table_hold_no_bars() {
        assert_eq!(cell("a | b\nc"), "a \\| b c");
    }
}
