//! Findings as workflow commands of GitHub Actions, which shows them as annotations on a pull request.
//!
//! One line per finding: `::error file=models/a.yaml,line=2,col=3,endLine=2,endColumn=9,title=K0102::message`.
//! The runner ends a command at a line end and a property at `,` or `:`, so those are written as `%0A` and the
//! like; what a file holds can begin no command of its own. Columns are left out where the place spans lines,
//! because the runner refuses them there.

use super::{base_path, one_line, sorted};
use crate::diagnostic::{Diagnostic, Severity, SourceMap};
use std::fmt::Write as _;

/// One workflow command per finding; nothing when nothing was found. `base` is the project's folder as seen
/// from where the workflow checked out its files.
pub fn render_github(diagnostics: &[Diagnostic], sources: &SourceMap, base: &str) -> String {
    let mut out = String::new();
    for diagnostic in sorted(diagnostics, sources) {
        let command = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = write!(out, "::{command} ");
        if let Some(span) = diagnostic.span {
            let (line, column) = sources.line_column(span);
            let (end_line, end_column) = sources.end_line_column(span);
            let _ = write!(out, "file={},line={line}", property(&base_path(base, sources.path(span))));
            if line == end_line {
                let _ = write!(out, ",col={column},endLine={end_line},endColumn={end_column},");
            } else {
                let _ = write!(out, ",endLine={end_line},");
            }
        }
        let _ = writeln!(out, "title={}::{}", diagnostic.code, message(&text(diagnostic)));
    }
    out
}

/// The message, its facts and its way out, a line each.
fn text(diagnostic: &Diagnostic) -> String {
    let notes = diagnostic.notes.iter().map(|n| format!("note: {}", one_line(n)));
    let help = diagnostic.help.iter().map(|h| format!("help: {}", one_line(h)));
    let lines: Vec<String> = std::iter::once(one_line(&diagnostic.message)).chain(notes).chain(help).collect();
    lines.join("\n")
}

/// What stands behind `::`.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::nasty;
    use super::*;

    #[test]
    fn a_command_is_one_line_and_its_properties_hold_no_separator() {
        let (list, map) = nasty();
        let expected = "\
            ::error title=K0001::no `sources.yaml` 100%25%0Anote: a::b, c%0Ahelp: one two\n\
            ::warning file=sub/models/b%2C%3A 100%25.yaml,line=1,col=7,endLine=1,endColumn=10,title=K0105::a \\r b <&\"'> ]]> \\u{1b}[31m ::error::x\n\
            ::error file=sub/models/b%2C%3A 100%25.yaml,line=1,endLine=2,title=K0202::two lines\n";
        assert_eq!(render_github(&list, &map, "sub"), expected);
        assert_eq!(render_github(&[], &map, "sub"), "");
    }
}
