//! `${NAME}` and `${NAME:-default}` in the text of YAML files.
//!
//! Expansion happens once, after parsing, in values and never in keys; an expanded value is never expanded
//! again. `$${` stands for the characters `${`. A default is used when the variable is not set or empty.
//! Values from the environment are marked, so that no message repeats them.

use super::yaml::{Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, SourceMap, Span};

/// Expands every text of a tree in place.
pub(super) struct Expander<'a> {
    /// Looks a variable up.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Says so and uses nothing, where a variable without default is not set.
    pub allow_missing: bool,
    /// The files, for exact places.
    pub sources: &'a SourceMap,
    /// Where findings go.
    pub findings: &'a mut Vec<Diagnostic>,
}

/// One part of a text.
#[derive(Debug, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    Variable { name: &'t str, default: Option<&'t str>, start: usize, end: usize },
    Bad { start: usize, end: usize },
}

impl Expander<'_> {
    /// Expands `node` and everything below it.
    pub(super) fn expand(&mut self, node: &mut Node) {
        match &mut node.kind {
            NodeKind::Text { value, expanded } if value.contains("${") => match self.text(value, node.span) {
                Some((text, from_environment)) => {
                    *value = text;
                    *expanded = from_environment;
                }
                None => node.kind = NodeKind::Broken,
            },
            NodeKind::List(items) => items.iter_mut().for_each(|item| self.expand(item)),
            NodeKind::Map(entries) => entries.iter_mut().for_each(|entry| self.expand(&mut entry.value)),
            _ => {}
        }
    }

    fn text(&mut self, text: &str, span: Span) -> Option<(String, bool)> {
        let mut out = Some(String::new());
        let mut from_environment = false;
        for part in parts(text) {
            let piece = match part {
                Part::Text(piece) => Some(piece.to_owned()),
                Part::Bad { start, end } => {
                    self.bad(self.sources.locate_range(span, text, start, end));
                    None
                }
                Part::Variable { name, default, start, end } => {
                    from_environment = true;
                    let value = (self.env)(name).filter(|v| !v.is_empty() || default.is_none());
                    let place = || self.sources.locate_range(span, text, start, end);
                    value.or_else(|| default.map(str::to_owned)).or_else(|| {
                        self.findings.push(missing(name, place(), self.allow_missing));
                        self.allow_missing.then(String::new)
                    })
                }
            };
            out = out.zip(piece).map(|(mut out, piece)| {
                out.push_str(&piece);
                out
            });
        }
        // a value that is all missing stands for itself: empty, it would be a second mistake
        let blank = |out: &String| self.allow_missing && from_environment && out.trim().is_empty();
        out.map(|out| (if blank(&out) { text.to_owned() } else { out }, from_environment))
    }

    fn bad(&mut self, place: Span) {
        self.findings.push(
            Diagnostic::error(Code::EnvironmentSyntax, place, "this `${...}` cannot be read")
                .with_label("neither `${NAME}` nor `${NAME:-default}`")
                .with_help("to mean the characters `${` themselves, write `$${`"),
        );
    }
}

fn missing(name: &str, place: Span, allowed: bool) -> Diagnostic {
    let message = format!("the environment variable `{name}` is not set");
    let finding = if allowed {
        Diagnostic::warning(Code::EnvironmentMissing, place, message).with_label("used here, taken as empty")
    } else {
        Diagnostic::error(Code::EnvironmentMissing, place, message).with_label("used here, without a default")
    };
    finding.with_help(format!("set it, or write a default: `${{{name}:-value}}`"))
}

/// Splits a text into plain parts and variables.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut plain = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find("${").map(|i| at + i) {
        if found > plain && text[..found].ends_with('$') {
            // `$${`: keep one dollar and the brace, drop the escaping dollar.
            parts.push(Part::Text(&text[plain..found - 1]));
            plain = found;
            at = found + 2;
            continue;
        }
        parts.push(Part::Text(&text[plain..found]));
        let end = text[found..].find('}').map_or(text.len(), |i| found + i + 1);
        parts.push(variable(text, found, end));
        plain = end;
        at = end;
    }
    parts.push(Part::Text(&text[plain..]));
    parts.retain(|p| *p != Part::Text(""));
    parts
}

fn variable(text: &str, start: usize, end: usize) -> Part<'_> {
    let Some(inner) = text[start + 2..end].strip_suffix('}') else { return Part::Bad { start, end } };
    let (name, default) = inner.split_once(":-").map_or((inner, None), |(n, d)| (n, Some(d)));
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() || !letters || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Part::Bad { start, end };
    }
    Part::Variable { name, default, start, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::render_concise;
    use crate::project::yaml;

    fn expand(text: &str, allow_missing: bool) -> (Option<String>, String) {
        let mut sources = SourceMap::default();
        let id = sources.add("a.yaml", text);
        let mut findings = Vec::new();
        let mut nodes = yaml::parse(id, &sources.files()[0], &mut findings);
        let env = |name: &str| match name {
            "A" => Some("${B}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Expander { env: &env, allow_missing, sources: &sources, findings: &mut findings }.expand(&mut nodes[0]);
        let value = match &nodes[0].kind {
            NodeKind::List(items) => match &items[0].kind {
                NodeKind::Text { value, .. } => Some(value.clone()),
                _ => None,
            },
            _ => None,
        };
        (value, render_concise(&findings, &sources))
    }

    #[test]
    fn values_defaults_and_escapes() {
        let cases = [
            ("[\"x/${A}/y\"]", "x/${B}/y"),
            ("[\"${NO:-d:-e}\"]", "d:-e"),
            ("[\"${EMPTY:-d}\"]", "d"),
            ("[\"${EMPTY}\"]", ""),
            ("[\"a$${NO}b${A}\"]", "a${NO}b${B}"),
            ("['^x$']", "^x$"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, false), (Some(expected.to_owned()), String::new()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_place() {
        assert_eq!(
            expand("[\"é\\\\/${NO}/${2}${X\"]", false),
            (
                None,
                "a.yaml:1:7: error[K0005]: the environment variable `NO` is not set\n\
                 a.yaml:1:13: error[K0006]: this `${...}` cannot be read\n\
                 a.yaml:1:17: error[K0006]: this `${...}` cannot be read\n"
                    .to_owned()
            )
        );
    }

    #[test]
    fn missing_variables_may_be_allowed() {
        let (value, said) = expand("[\"x${NO}\"]", true);
        assert_eq!(value.as_deref(), Some("x"));
        assert!(said.contains("warning[K0005]"), "{said}");
        assert_eq!(expand("[\"${NO}\"]", true).0.as_deref(), Some("${NO}"), "alone, it stands for itself");
    }
}
