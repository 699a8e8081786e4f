//! Findings as a JUnit report, which most build servers show.
//!
//! One suite; each file with findings is a test case, which fails if some finding is an error (warnings are its
//! output). Findings without a file are the case `project`. Nothing found is one passing case, because servers
//! take an empty report for a broken one. Each case has at most one `failure`, which is all that some servers
//! read; it lists every finding of the file.

use super::{base_path, one_line, render_concise, sorted};
use crate::diagnostic::{Diagnostic, Severity, SourceMap};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A JUnit report. `base` is the project's folder as it was named.
pub fn render_junit(diagnostics: &[Diagnostic], sources: &SourceMap, base: &str) -> String {
    let mut cases: BTreeMap<String, Vec<Diagnostic>> = BTreeMap::new();
    for diagnostic in sorted(diagnostics, sources) {
        let path = diagnostic.span.map_or("project".to_owned(), |s| base_path(base, sources.path(s)));
        cases.entry(path).or_default().push(diagnostic.clone());
    }
    if cases.is_empty() {
        cases.insert("project".to_owned(), Vec::new());
    }
    let failures = cases.values().filter(|found| first_error(found).is_some()).count();
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\"", cases.len());
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"kinfold check\" {counts}>");
    let _ = writeln!(out, "  <testsuite name=\"kinfold check\" {counts} skipped=\"0\">");
    for (path, found) in &cases {
        case(&mut out, path, found, sources);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn first_error(found: &[Diagnostic]) -> Option<&Diagnostic> {
    found.iter().find(|d| d.severity == Severity::Error)
}

fn case(out: &mut String, path: &str, found: &[Diagnostic], sources: &SourceMap) {
    let name = escaped(path);
    let open = format!("    <testcase name=\"{name}\" classname=\"kinfold.check\" file=\"{name}\"");
    if found.is_empty() {
        let _ = writeln!(out, "{open}/>");
        return;
    }
    let list = escaped(render_concise(found, sources).trim_end());
    let inner = match first_error(found) {
        Some(error) => {
            let message = escaped(&one_line(&error.message));
            format!("<failure type=\"{}\" message=\"{message}\">{list}</failure>", error.code)
        }
        None => format!("<system-out>{list}</system-out>"),
    };
    let _ = writeln!(out, "{open}>\n      {inner}\n    </testcase>");
}

/// Text for XML, in attributes and between tags. Characters that XML cannot hold are written out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::nasty;
    use super::*;

    #[test]
    fn a_file_is_a_case_and_its_text_is_xml() {
        let (list, map) = nasty();
        let text = render_junit(&list, &map, "sub");
        assert!(text.contains("<testsuite name=\"kinfold check\" tests=\"2\" failures=\"2\" errors=\"0\""), "{text}");
        assert!(text.contains("<testcase name=\"project\" classname=\"kinfold.check\" file=\"project\">"), "{text}");
        assert!(text.contains("a \\r b &lt;&amp;&quot;&apos;&gt; ]]&gt; \\u{1b}[31m ::error::x"), "{text}");
        assert!(text.contains("<failure type=\"K0202\" message=\"two lines\">"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        assert_eq!(text.matches("<failure ").count(), text.matches("</failure>").count());
    }

    #[test]
    fn warnings_fail_nothing() {
        let (list, map) = nasty();
        let text = render_junit(&list[1..2], &map, "");
        assert!(text.contains("tests=\"1\" failures=\"0\"") && text.contains("<system-out>models/b"), "{text}");
        assert!(!text.contains("<failure"), "{text}");
    }

    #[test]
    fn nothing_found_is_one_passing_case() {
        let text = render_junit(&[], &SourceMap::default(), "");
        assert!(text.contains("tests=\"1\" failures=\"0\"") && text.contains("file=\"project\"/>"), "{text}");
    }

    #[test]
    fn characters_that_xml_has_not_are_written_out() {
        assert_eq!(escaped("a\u{0}\u{ffff}\u{1b}b\tc"), "a\\u{0}\\u{ffff}\\u{1b}b\\tc");
    }
}
