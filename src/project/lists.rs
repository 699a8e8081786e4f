//! List files: CSV with a header line, kept by people beside the models.
//!
//! Paths start at the project's folder. Lines that start with `#` are comments. Every row keeps its place,
//! because what is wrong with it is often found later.

use super::files;
use super::reader::{Reader, alternatives};
use super::values::parse_time;
use super::yaml::Node;
use crate::diagnostic::{Code, Diagnostic, FileId, Span, Spanned};
use crate::model::{BlockRule, IdentityRule, ListEntry, Verdict};
use chrono::{DateTime, Utc};
use regex::Regex;

/// A row as text, with the place of each cell.
struct Row {
    span: Span,
    cells: Vec<Spanned<String>>,
}

/// Reads `rules`: verdict, left, right, reason, by, at.
pub(super) fn rules(reader: &mut Reader<'_>, node: &Node, types: &[&str]) -> Vec<IdentityRule> {
    let columns = ["verdict", "left", "right", "reason", "by", "at"];
    let rows = table(reader, "rules", node, &columns);
    rows.iter().filter_map(|row| rule(reader, row, types)).collect()
}

fn rule(reader: &mut Reader<'_>, row: &Row, types: &[&str]) -> Option<IdentityRule> {
    let [verdict, left, right, reason, by, at] = row.cells.as_slice() else { return None };
    let verdict = match verdict.value.as_str() {
        "never" => Some(Verdict::Never),
        "always" => Some(Verdict::Always),
        _ => {
            reader.unknown_word("verdict", verdict.span, &["never", "always"]);
            None
        }
    };
    let (left_value, right_value) = (identifier(reader, left, types), identifier(reader, right, types));
    let said = [("reason", reason), ("by", by), ("at", at)];
    if let Some((name, cell)) = said.iter().find(|(_, cell)| cell.value.is_empty()) {
        let place = if cell.span.start < cell.span.end { cell.span } else { row.span };
        row_mistake(reader, place, &format!("`{name}` is empty"), "a decision says why, by whom and when");
        return None;
    }
    time(reader, at)?;
    let [reason, by, at] = [reason, by, at].map(|c| c.value.clone());
    let (span, sides) = (row.span, [left.span, right.span]);
    Some(IdentityRule { verdict: verdict?, left: left_value?, right: right_value?, reason, by, at, span, sides })
}

/// The time that a cell says; a finding if it says none.
fn time(reader: &mut Reader<'_>, cell: &Spanned<String>) -> Option<DateTime<Utc>> {
    let time = parse_time(&cell.value, reader.zone).ok();
    if time.is_none() {
        row_mistake(reader, cell.span, "`at` is not a date or time", "expected YYYY-MM-DD, or with THH:MM:SSZ");
    }
    time
}

fn identifier(reader: &mut Reader<'_>, cell: &Spanned<String>, types: &[&str]) -> Option<(String, String)> {
    let Some((kind, value)) = cell.value.split_once(':').filter(|(_, v)| !v.trim().is_empty()) else {
        row_mistake(reader, cell.span, "not an identifier", "expected `type:value`");
        return None;
    };
    if !types.contains(&kind) {
        reader.findings.push(
            Diagnostic::error(Code::UnknownIdentifier, cell.span, format!("unknown identifier type `{kind}`"))
                .with_label("not among `identifiers:` of this identity")
                .with_help(format!("use {}", alternatives(types))),
        );
        return None;
    }
    Some((kind.to_owned(), value.trim().to_owned()))
}

/// Reads one `include` or `exclude` path or a list of them: identifier, by, reason, and perhaps at.
pub(super) fn entries(reader: &mut Reader<'_>, key: &str, node: &Node) -> Vec<ListEntry> {
    let mut entries: Vec<ListEntry> = Vec::new();
    for node in reader.one_or_list(key, node) {
        for row in table_with(reader, key, node, &LISTED, &["at"]) {
            entries.extend(entry(reader, &row));
        }
    }
    entries
}

const LISTED: [&str; 3] = ["identifier", "by", "reason"];

fn entry(reader: &mut Reader<'_>, row: &Row) -> Option<ListEntry> {
    let [identifier, by, reason, at] = row.cells.as_slice() else { return None };
    if let Some((_, name)) = row.cells.iter().zip(LISTED).find(|(cell, _)| cell.value.is_empty()) {
        row_mistake(reader, row.span, &format!("`{name}` is empty"), "who is meant, who says so and why");
        return None;
    }
    let at = match at.value.as_str() {
        "" => None,
        _ => Some(time(reader, at)?),
    };
    let (by, reason) = (by.value.clone(), reason.value.clone());
    Some(ListEntry { identifier: identifier.clone(), by, reason, at })
}

/// Reads `block_file`: a column `value`, or one value a line without a header.
pub(super) fn blocked(reader: &mut Reader<'_>, node: &Node) -> Vec<BlockRule> {
    let mut rules = Vec::new();
    let Some(id) = open(reader, "block_file", node) else { return rules };
    for row in rows(reader, id) {
        let Some(cell) = row.cells.into_iter().next().filter(|c| !c.value.is_empty()) else { continue };
        if rules.is_empty() && cell.value == "value" {
            continue;
        }
        rules.extend(block_rule(reader, cell));
    }
    rules
}

/// `/text/` is a pattern, any other text itself.
pub(super) fn block_rule(reader: &mut Reader<'_>, text: Spanned<String>) -> Option<BlockRule> {
    let inner = text.value.strip_prefix('/').and_then(|t| t.strip_suffix('/')).filter(|t| !t.is_empty());
    let Some(pattern) = inner else { return Some(BlockRule::Exact(text.value)) };
    if let Err(error) = Regex::new(pattern) {
        let reason = match &error {
            regex::Error::Syntax(text) => text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned(),
            other => other.to_string(),
        };
        let shown = reader.shown(text.span);
        reader.findings.push(
            Diagnostic::error(Code::BadPattern, text.span, format!("`{shown}` is not a regular expression"))
                .with_label(reason)
                .with_help("text between slashes is a pattern; escape special characters with `\\`"),
        );
        return None;
    }
    let pattern = pattern.to_owned();
    Some(BlockRule::Pattern(Spanned::new(pattern, text.span)))
}

/// The rows of a CSV file with these columns in any order; cells come in the order of `columns`.
fn table(reader: &mut Reader<'_>, key: &str, node: &Node, columns: &[&str]) -> Vec<Row> {
    table_with(reader, key, node, columns, &[])
}

/// As [`table`], with columns behind the others that may be missing: their cells are empty then.
fn table_with(reader: &mut Reader<'_>, key: &str, node: &Node, columns: &[&str], optional: &[&str]) -> Vec<Row> {
    let Some(id) = open(reader, key, node) else { return Vec::new() };
    let mut rows = rows(reader, id).into_iter();
    let Some(header) = rows.next() else {
        let start = Span { file: id, start: 0, end: 0 };
        row_mistake(reader, start, "the file is empty", &format!("expected the header {}", columns.join(",")));
        return Vec::new();
    };
    let position = |column: &&str| header.cells.iter().position(|h| h.value == *column);
    let positions: Option<Vec<usize>> = columns.iter().map(position).collect();
    let further: Vec<Option<usize>> = optional.iter().map(position).collect();
    let Some(positions) = positions else {
        row_mistake(reader, header.span, "the header lacks a column", &format!("expected {}", columns.join(",")));
        return Vec::new();
    };
    let mut kept = Vec::new();
    for row in rows {
        if row.cells.len() != header.cells.len() {
            let label = format!("expected {} cells, found {}", header.cells.len(), row.cells.len());
            row_mistake(reader, row.span, "this row does not fit the header", &label);
            continue;
        }
        let cell = |place: Option<usize>| place.and_then(|p| row.cells.get(p).cloned());
        let empty = || Spanned::new(String::new(), row.span);
        let required = positions.iter().filter_map(|p| cell(Some(*p)));
        let cells = required.chain(further.iter().map(|p| cell(*p).unwrap_or_else(empty))).collect();
        kept.push(Row { span: row.span, cells });
    }
    kept
}

fn row_mistake(reader: &mut Reader<'_>, span: Span, message: &str, label: &str) {
    reader.findings.push(Diagnostic::error(Code::ListFileRow, span, message).with_label(label));
}

fn open(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<FileId> {
    let path = reader.filled(key, node)?;
    let relative = path.value.trim_start_matches("./");
    if let Some(id) = reader.sources.find(relative) {
        return Some(id);
    }
    match files::read(&reader.root.join(relative)) {
        Ok(text) => Some(reader.sources.add(relative, text)),
        Err(failure) if failure.code == Code::FileUnreadable && failure.missing => {
            let shown = reader.shown(path.span);
            reader.findings.push(
                Diagnostic::error(Code::ListFileMissing, path.span, format!("there is no file `{shown}`"))
                    .with_label("not found")
                    .with_help("the path starts at the project's folder"),
            );
            None
        }
        Err(failure) => {
            reader.findings.push(Diagnostic::error(failure.code, path.span, failure.message).with_label("named here"));
            None
        }
    }
}

fn rows(reader: &Reader<'_>, id: FileId) -> Vec<Row> {
    let text = reader.sources.file(id).map_or("", |f| f.text.as_str());
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let shift = text.len() - bare.len();
    let mut csv = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(bare.as_bytes());
    csv.records().filter_map(Result::ok).map(|record| row(&record, id, text, shift)).collect()
}

fn row(record: &csv::StringRecord, id: FileId, text: &str, shift: usize) -> Row {
    let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let start = record.position().and_then(|p| usize::try_from(p.byte()).ok()).unwrap_or(0) + shift;
    let start = skip_ignored(text, start);
    let line = text[start..].lines().next().unwrap_or("");
    let mut at = 0;
    let mut cells = Vec::new();
    for cell in record {
        // Cells follow each other in the line; one with escaped quotes gets the whole line.
        let found = line[at..].find(cell).map(|i| (at + i, at + i + cell.len()));
        let (from, to) = found.unwrap_or((0, line.len()));
        at = found.map_or(at, |(_, to)| to);
        cells.push(Spanned::new(cell.to_owned(), Span { file: id, start: clip(start + from), end: clip(start + to) }));
    }
    Row { span: Span { file: id, start: clip(start), end: clip(start + line.len()) }, cells }
}

/// The start of the next line that is neither empty nor a comment; the reader counts those to the next row.
fn skip_ignored(text: &str, mut at: usize) -> usize {
    loop {
        at += text[at..].len() - text[at..].trim_start_matches(['\r', '\n']).len();
        match text[at..].starts_with('#').then(|| text[at..].find('\n')).flatten() {
            Some(end) => at += end,
            None => return at,
        }
    }
}
