//! Renderers of findings: one function per format, all over the same sorted list.
//!
//! Order is part of the result: findings without a place first, then by path, position, code and message.
//! Nothing here decides anything; what a file's text holds is shown as data (control characters are written
//! out, so that a file cannot steer a terminal).

mod github;
mod junit;
mod sarif;

pub use github::render_github;
pub use junit::render_junit;
pub use sarif::render_sarif;

use super::{Diagnostic, Severity, SourceMap, Span};
use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};
use std::fmt::Write as _;

/// Findings with their source lines, for people; colour only where asked.
pub fn render_human(diagnostics: &[Diagnostic], sources: &SourceMap, color: bool) -> String {
    let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in sorted(diagnostics, sources) {
        let text = renderer.render(&[human_group(diagnostic, sources)]);
        out.push_str(text.trim_end());
        out.push_str("\n\n");
    }
    out
}

/// One line per finding: `path:line:column: error[K0102]: message`.
pub fn render_concise(diagnostics: &[Diagnostic], sources: &SourceMap) -> String {
    let mut out = String::new();
    for diagnostic in sorted(diagnostics, sources) {
        if let Some(span) = diagnostic.span {
            let (line, column) = sources.line_column(span);
            let _ = write!(out, "{}:{line}:{column}: ", sources.path(span));
        }
        let severity = severity_word(diagnostic.severity);
        let message = one_line(&diagnostic.message);
        let _ = write!(out, "{severity}[{}]: {message}", diagnostic.code);
        out.push('\n');
    }
    out
}

/// A JSON array with one object per finding; lines and columns from 1, ends exclusive.
pub fn render_json(diagnostics: &[Diagnostic], sources: &SourceMap) -> String {
    let items: Vec<_> = sorted(diagnostics, sources).into_iter().map(|d| json_item(d, sources)).collect();
    format!("{:#}\n", serde_json::Value::Array(items))
}

/// The stable order of findings.
pub(crate) fn sorted<'d>(diagnostics: &'d [Diagnostic], sources: &SourceMap) -> Vec<&'d Diagnostic> {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_cached_key(|d| {
        let place = d.span.map(|s| (sources.path(s).to_owned(), s.start, s.end));
        (place, d.code.as_str(), d.message.clone())
    });
    sorted.dedup();
    sorted
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn human_group<'a>(diagnostic: &'a Diagnostic, sources: &'a SourceMap) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(one_line(&diagnostic.message)).id(diagnostic.code.as_str()));
    if let Some(span) = diagnostic.span {
        group = group.elements(snippets(diagnostic, span, sources));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(one_line(note)));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(one_line(help)));
    }
    group
}

/// One snippet for the span's file with the related places in it, then one for each other file.
fn snippets<'a>(diagnostic: &'a Diagnostic, span: Span, sources: &'a SourceMap) -> Vec<Element<'a>> {
    let mut places = vec![(span, diagnostic.label.as_deref(), AnnotationKind::Primary)];
    places.extend(diagnostic.related.iter().map(|(s, t)| (*s, Some(t.as_str()), AnnotationKind::Context)));
    let mut elements = Vec::new();
    while let Some((first, _, _)) = places.first() {
        let id = first.file;
        let (here, rest): (Vec<_>, Vec<_>) = places.iter().copied().partition(|(s, _, _)| s.file == id);
        places = rest;
        let Some(file) = sources.file(id) else { continue };
        // a byte order mark is no column
        let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
        let mark = file.text.len() - text.len();
        let mut snippet = Snippet::source(text).path(file.path.as_str());
        for (span, label, kind) in here {
            let end = (span.end as usize).saturating_sub(mark).min(text.len());
            let start = (span.start as usize).saturating_sub(mark).min(end);
            snippet = snippet.annotation(kind.span(start..end).label(label.map(one_line)));
        }
        elements.push(snippet.into());
    }
    elements
}

fn json_item(diagnostic: &Diagnostic, sources: &SourceMap) -> serde_json::Value {
    let mut item = serde_json::json!({
        "code": diagnostic.code.as_str(),
        "severity": severity_word(diagnostic.severity),
        "message": diagnostic.message,
        "label": diagnostic.label,
        "notes": diagnostic.notes,
        "help": diagnostic.help,
        "place": diagnostic.span.map(|s| json_place(s, sources)),
    });
    let related = diagnostic
        .related
        .iter()
        .map(|(span, text)| serde_json::json!({ "message": text, "place": json_place(*span, sources) }));
    item["related"] = related.collect();
    item
}

fn json_place(span: Span, sources: &SourceMap) -> serde_json::Value {
    let (line, column) = sources.line_column(span);
    let (end_line, end_column) = sources.end_line_column(span);
    serde_json::json!({
        "path": sources.path(span),
        "start": { "line": line, "column": column },
        "end": { "line": end_line, "column": end_column },
    })
}

/// A file's path as seen from where the project's folder was named.
fn base_path(base: &str, path: &str) -> String {
    let base = base.trim_start_matches("./").trim_end_matches('/');
    if base.is_empty() || base == "." { path.to_owned() } else { format!("{base}/{path}") }
}

/// Control characters written out: a message is one line and steers no terminal.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Findings whose texts hold what formats give a meaning to; for the tests of every format.
#[cfg(test)]
fn nasty() -> (Vec<Diagnostic>, SourceMap) {
    use super::{Code, FileId};
    let mut map = SourceMap::default();
    let b = map.add("models/b,: 100%.yaml", "key: \"\u{1f600}\u{e9}\"\nnext: 1\n");
    let span = |file: FileId, start, end| Span { file, start, end };
    // the emoji takes four bytes and the letter two
    let value = span(b, 6, 6 + 4 + 2 + 1);
    let list = vec![
        Diagnostic::placeless(Code::ProjectFileMissing, "no `sources.yaml` 100%")
            .with_note("a::b, c")
            .with_help("one\ntwo"),
        Diagnostic::warning(Code::UnknownWord, value, "a \r b <&\"'> ]]> \u{1b}[31m\n::error::x").with_label("here"),
        Diagnostic::error(Code::DuplicateName, span(b, 7, 17), "two lines").with_related(span(b, 0, 3), "first"),
    ];
    (list, map)
}

#[cfg(test)]
mod tests {
    use super::super::{Code, FileId};
    use super::*;

    fn example() -> (Vec<Diagnostic>, SourceMap) {
        let mut map = SourceMap::default();
        let b = map.add("models/b.yaml", "kind: identiti\nname: é x\n");
        let a = map.add("models/a.yaml", "name: x\n");
        let span = |file: FileId, start, end| Span { file, start, end };
        let list = vec![
            Diagnostic::error(Code::DuplicateName, span(b, 24, 25), "the name `x` is taken")
                .with_label("second")
                .with_related(span(a, 6, 7), "first"),
            Diagnostic::warning(Code::UnknownWord, span(b, 6, 14), "odd \u{1b}[31m word")
                .with_note("a fact")
                .with_help("a next step"),
            Diagnostic::placeless(Code::ProjectFileMissing, "no `sources.yaml`"),
        ];
        (list, map)
    }

    #[test]
    fn concise_is_sorted_and_counts_characters() {
        let (list, map) = example();
        let expected = "error[K0001]: no `sources.yaml`\n\
            models/b.yaml:1:7: warning[K0105]: odd \\u{1b}[31m word\n\
            models/b.yaml:2:9: error[K0202]: the name `x` is taken\n";
        assert_eq!(render_concise(&list, &map), expected);
    }

    #[test]
    fn human_shows_lines_related_places_notes_and_help() {
        let (list, map) = example();
        let text = render_human(&list, &map, false);
        for part in ["error[K0202]", "models/b.yaml:2:9", "models/a.yaml:1:7", "^ second", "- first", "note: a fact"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(render_human(&list, &map, true).contains('\u{1b}'));
    }

    #[test]
    fn a_byte_order_mark_is_no_column() {
        let mut map = SourceMap::default();
        let file = map.add("a.yaml", "\u{feff}key: bad\n");
        let list = [Diagnostic::error(Code::UnknownWord, Span { file, start: 8, end: 11 }, "odd")];
        assert!(render_human(&list, &map, false).contains("a.yaml:1:6\n"));
        assert!(render_concise(&list, &map).starts_with("a.yaml:1:6: "));
    }

    #[test]
    fn json_has_places_from_one() {
        let (list, map) = example();
        let json: serde_json::Value = serde_json::from_str(&render_json(&list, &map)).expect("valid JSON");
        assert_eq!(json[0]["place"], serde_json::Value::Null);
        assert_eq!(json[2]["place"]["start"]["column"], 9);
        assert_eq!(json[2]["place"]["end"]["column"], 10);
        assert_eq!(json[2]["related"][0]["place"]["path"], "models/a.yaml");
        assert_eq!(json[1]["severity"], "warning");
    }
}
