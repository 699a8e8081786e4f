//! Decoding of nodes into values: one place that knows how a mistake is said.
//!
//! A decoder gets a key and a node, gives a value or `None`, and has then reported why. Decoding goes on
//! after a mistake, so that all of them are found at once. Messages repeat the author's text as it stands in
//! the file, never a value from the environment.

use super::suggest::nearest;
use super::template::{Failure, Templates, is_template};
use super::values::Zone;
use super::yaml::{Entry, Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, SourceMap, Span, Spanned};
use crate::model::RenderFailure;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What decoders share.
pub(super) struct Reader<'a> {
    /// The project's folder, for files that models name.
    pub root: &'a Path,
    /// Every file read so far.
    pub sources: SourceMap,
    /// Every finding so far.
    pub findings: Vec<Diagnostic>,
    /// How SQL is rendered.
    pub templates: Templates,
    /// Zone of times that name none.
    pub zone: Zone,
    /// Required keys that are missing, by mapping: what it is and which keys.
    pub missing: BTreeMap<Span, (&'static str, Vec<String>)>,
    /// Names whose definition is broken: nothing is said about their use. `web.` stands for a whole source.
    pub undecided: BTreeSet<String>,
    /// A file or a name could not be read, so an unknown name may be defined there.
    pub incomplete: bool,
}

/// A mapping whose keys were checked.
pub(super) struct Fields<'n> {
    /// What it is, with an article: `a source`.
    what: &'static str,
    span: Span,
    entries: &'n [Entry],
}

impl<'n> Fields<'n> {
    /// The node under a key.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|e| e.key.value == key).map(|e| &e.value)
    }

    /// Where a key stands.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|e| e.key.value == key).map(|e| e.key.span)
    }

    /// Where the mapping stands.
    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// The node under a key that must be there.
    pub(super) fn require(&self, reader: &mut Reader<'_>, key: &str) -> Option<&'n Node> {
        let found = self.get(key);
        if found.is_none() {
            reader.missing.entry(self.span).or_insert((self.what, Vec::new())).1.push(key.to_owned());
        }
        found
    }

    /// Whether one of these keys is used.
    pub(super) fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.key_span(key).is_some())
    }

    /// Reports each of these keys, when used, as without effect.
    pub(super) fn no_effect(&self, reader: &mut Reader<'_>, keys: &[&str]) {
        for key in keys {
            if let Some(span) = self.key_span(key) {
                reader.findings.push(
                    Diagnostic::warning(Code::NoEffect, span, format!("`{key}` has no effect in this version"))
                        .with_label("read and ignored"),
                );
            }
        }
    }

    /// Reports each of these keys, when used, as meaningless here.
    pub(super) fn meaningless(&self, reader: &mut Reader<'_>, keys: &[&str], why: &str) {
        for key in keys {
            if let Some(span) = self.key_span(key) {
                reader.findings.push(
                    Diagnostic::error(Code::NoMeaning, span, format!("`{key}` does nothing here"))
                        .with_label(why.to_owned())
                        .with_help("remove it"),
                );
            }
        }
    }
}

impl Reader<'_> {
    /// Reports the missing keys, all of one mapping in one finding.
    pub(super) fn report_missing_keys(&mut self) {
        for (span, (what, keys)) in std::mem::take(&mut self.missing) {
            let names: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (noun, verb) = if keys.len() == 1 { ("key", "is") } else { ("keys", "are") };
            let list = listed(&names, "and");
            self.findings.push(
                Diagnostic::error(Code::MissingKey, span, format!("{what} needs the {noun} {list}"))
                    .with_label(format!("{list} {verb} missing here")),
            );
        }
    }

    /// The author's text at a span, on one line and not too long.
    pub(super) fn shown(&self, span: Span) -> String {
        let words: Vec<&str> = self.sources.text(span).split_whitespace().collect();
        let text = words.join(" ");
        match text.char_indices().nth(60) {
            Some((cut, _)) => format!("{}...", &text[..cut]),
            None => text,
        }
    }

    /// A mapping with only these keys; unknown, duplicate and merge keys are reported.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, what: &'static str, known: &[&str]) -> Option<Fields<'n>> {
        let entries = self.entries(node, what)?;
        for entry in entries.iter().filter(|e| e.key.value != "<<" && !known.contains(&e.key.value.as_str())) {
            let unused: Vec<&str> =
                known.iter().copied().filter(|k| !entries.iter().any(|e| e.key.value == *k)).collect();
            self.unknown_key(entry, what, known, &unused);
        }
        Some(Fields { what, span: node.span, entries })
    }

    /// The entries of a mapping with free keys; duplicate and merge keys are reported.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        let NodeKind::Map(entries) = &node.kind else {
            self.wrong_type(node, what, "a mapping");
            return None;
        };
        for (i, entry) in entries.iter().enumerate() {
            if entry.key.value == "<<" {
                self.findings.push(
                    Diagnostic::error(Code::MergeKey, entry.key.span, "merge keys are not read")
                        .with_label("copies keys from elsewhere")
                        .with_help("write the keys out"),
                );
            } else if let Some(first) = entries[..i].iter().find(|e| e.key.value == entry.key.value) {
                let message = format!("the key `{}` is written twice", entry.key.value);
                self.findings.push(
                    Diagnostic::error(Code::DuplicateKey, entry.key.span, message)
                        .with_label("again here")
                        .with_related(first.key.span, "first here"),
                );
            }
        }
        Some(entries)
    }

    fn unknown_key(&mut self, entry: &Entry, what: &str, known: &[&str], unused: &[&str]) {
        let key = &entry.key.value;
        let finding = Diagnostic::error(Code::UnknownKey, entry.key.span, format!("unknown key `{key}` in {what}"));
        let near = nearest(key, known.iter().copied()).filter(|near| unused.contains(near));
        // `{select: first(a, b)}` is cut by YAML at the comma: the rest becomes a key without a value.
        let cut = matches!(entry.value.kind, NodeKind::Null) && key.contains([')', '\'', ' ']);
        let finding = match near {
            Some(near) => finding.with_label("no such key").with_help(format!("did you mean `{near}`?")),
            None if cut => finding
                .with_label("YAML read this as a key without a value")
                .with_help("a comma ends a value inside `{ }`: put the value in quotes"),
            None => finding.with_label("no such key").with_note(format!("keys of {what}: {}", known.join(", "))),
        };
        self.findings.push(finding);
    }

    /// Reports that `key` wants something else than `node`.
    pub(super) fn wrong_type(&mut self, node: &Node, key: &str, wanted: &str) {
        let found = match &node.kind {
            NodeKind::Broken => return,
            NodeKind::Null => "nothing",
            NodeKind::Bool(..) => "true or false",
            NodeKind::Number(_) => "a number",
            NodeKind::Text { .. } => "text",
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a mapping",
        };
        let key = if key.contains(' ') || key.contains('.') { key.to_owned() } else { format!("`{key}`") };
        let finding = Diagnostic::error(Code::WrongType, node.span, format!("{key} must be {wanted}, not {found}"))
            .with_label(format!("expected {wanted}"));
        let scalar = matches!(node.kind, NodeKind::Bool(..) | NodeKind::Number(_));
        let quote = scalar && wanted.starts_with("text");
        let word = matches!(node.kind, NodeKind::Null) && !self.sources.text(node.span).is_empty();
        let boolean = wanted == "true or false" && matches!(node.kind, NodeKind::Text { .. });
        let finding = if quote || (word && wanted.starts_with("text")) {
            finding.with_help(format!("write '{}' in quotes to mean the text", self.shown(node.span)))
        } else if boolean && matches!(self.shown(node.span).to_lowercase().as_str(), "yes" | "on" | "no" | "off") {
            finding.with_help("write `true` or `false`")
        } else {
            finding
        };
        self.findings.push(finding);
    }

    /// Text, possibly empty.
    pub(super) fn text(&mut self, key: &str, node: &Node) -> Option<Spanned<String>> {
        if let NodeKind::Text { value, .. } = &node.kind {
            return Some(Spanned::new(value.clone(), node.span));
        }
        self.wrong_type(node, key, "text");
        None
    }

    /// Text that is not blank.
    pub(super) fn filled(&mut self, key: &str, node: &Node) -> Option<Spanned<String>> {
        let text = self.text(key, node)?;
        self.not_blank(key, text)
    }

    fn not_blank(&mut self, key: &str, text: Spanned<String>) -> Option<Spanned<String>> {
        if text.value.trim().is_empty() {
            self.empty(text.span, key);
            return None;
        }
        Some(text)
    }

    /// Reports that `key` is empty.
    pub(super) fn empty(&mut self, span: Span, key: &str) {
        self.findings.push(
            Diagnostic::error(Code::Empty, span, format!("`{key}` is empty"))
                .with_label("nothing here")
                .with_help("fill it, or remove the key"),
        );
    }

    /// The text of any scalar.
    pub(super) fn scalar(&mut self, key: &str, node: &Node) -> Option<Spanned<String>> {
        match &node.kind {
            NodeKind::Number(text) | NodeKind::Bool(_, text) => Some(Spanned::new(text.clone(), node.span)),
            NodeKind::Text { value, .. } => Some(Spanned::new(value.clone(), node.span)),
            _ => {
                self.wrong_type(node, key, "text, a number or true or false");
                None
            }
        }
    }

    /// A name: `[a-z_][a-z0-9_]*`.
    pub(super) fn name(&mut self, key: &str, node: &Node) -> Option<Spanned<String>> {
        let name = self.filled(key, node)?;
        self.check_name(name)
    }

    /// Checks a text that must be a name.
    pub(super) fn check_name(&mut self, name: Spanned<String>) -> Option<Spanned<String>> {
        if is_name(&name.value) {
            return Some(name);
        }
        let shown = self.shown(name.span);
        let label = if shown.starts_with("__") {
            "names that begin with __ are Kinfold's own"
        } else {
            "names are a-z, 0-9 and _, not starting with a digit"
        };
        let finding = Diagnostic::error(Code::BadName, name.span, format!("`{shown}` is not a name")).with_label(label);
        let proposed = proposed_name(&shown).filter(|_| shown == name.value);
        self.findings.push(match proposed {
            Some(proposed) => finding.with_help(format!("write `{proposed}`")),
            None => finding,
        });
        None
    }

    /// A SQL snippet, rendered when it is a template.
    pub(super) fn sql(&mut self, key: &str, node: &Node) -> Option<Spanned<String>> {
        let text = match &node.kind {
            NodeKind::Bool(..) | NodeKind::Number(_) => self.scalar(key, node)?,
            _ => self.text(key, node)?,
        };
        let text = self.not_blank(key, text)?;
        if is_template(&text.value) {
            self.render(&text).map(|value| Spanned::new(value, text.span))
        } else {
            Some(text)
        }
    }

    /// One SQL snippet or a list of them.
    pub(super) fn sql_list(&mut self, key: &str, node: &Node) -> Vec<Spanned<String>> {
        self.one_or_list(key, node).into_iter().filter_map(|n| self.sql(key, n)).collect()
    }

    /// One text or a list of texts.
    pub(super) fn text_list(&mut self, key: &str, node: &Node) -> Vec<Spanned<String>> {
        self.one_or_list(key, node).into_iter().filter_map(|n| self.filled(key, n)).collect()
    }

    /// As [`Self::text_list`], for names of columns: each stands once.
    pub(super) fn column_list(&mut self, key: &str, node: &Node) -> Vec<Spanned<String>> {
        let names = self.text_list(key, node);
        for (i, name) in names.iter().enumerate() {
            if let Some(first) = names[..i].iter().find(|n| n.value == name.value) {
                self.duplicate_name("the column", name, first.span);
            }
        }
        names
    }

    /// A node as a list of one, or the items of a list; an empty list is reported.
    pub(super) fn one_or_list<'n>(&mut self, key: &str, node: &'n Node) -> Vec<&'n Node> {
        match &node.kind {
            NodeKind::List(items) if items.is_empty() => {
                self.empty(node.span, key);
                Vec::new()
            }
            NodeKind::List(items) => items.iter().collect(),
            _ => vec![node],
        }
    }

    /// The items of a list; anything else is reported.
    pub(super) fn list<'n>(&mut self, key: &str, node: &'n Node) -> Option<&'n [Node]> {
        if let NodeKind::List(items) = &node.kind {
            return Some(items);
        }
        self.wrong_type(node, key, "a list");
        None
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str, node: &Node) -> Option<bool> {
        match &node.kind {
            NodeKind::Bool(value, _) => return Some(*value),
            NodeKind::Text { value, expanded: true } if value == "true" => return Some(true),
            NodeKind::Text { value, expanded: true } if value == "false" => return Some(false),
            _ => self.wrong_type(node, key, "true or false"),
        }
        None
    }

    /// A whole number of at least 1.
    pub(super) fn count(&mut self, key: &str, node: &Node) -> Option<Spanned<u32>> {
        let text = match &node.kind {
            NodeKind::Number(text) => text,
            NodeKind::Text { value, expanded: true } => value,
            _ => {
                self.wrong_type(node, key, "a whole number");
                return None;
            }
        };
        let number = text.parse::<u32>().ok().filter(|n| *n >= 1);
        if number.is_none() {
            self.findings.push(
                Diagnostic::error(Code::OutOfRange, node.span, format!("`{key}` must be a whole number from 1"))
                    .with_label("expected 1 or more"),
            );
        }
        number.map(|n| Spanned::new(n, node.span))
    }

    /// A number above 0.
    pub(super) fn rate(&mut self, key: &str, node: &Node) -> Option<f64> {
        let text = match &node.kind {
            NodeKind::Number(text) => text,
            NodeKind::Text { value, expanded: true } => value,
            _ => {
                self.wrong_type(node, key, "a number");
                return None;
            }
        };
        let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
        if number.is_none() {
            let finding = Diagnostic::error(Code::OutOfRange, node.span, format!("`{key}` must be more than 0"));
            self.findings.push(finding.with_label("expected a number, such as `50` or `0.5`"));
        }
        number
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &str, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.filled(key, node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let choices: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.unknown_word(key, text.span, &choices);
        None
    }

    /// Reports a word that is none of the choices.
    pub(super) fn unknown_word(&mut self, key: &str, span: Span, choices: &[&str]) {
        let shown = self.shown(span);
        let finding = Diagnostic::error(Code::UnknownWord, span, format!("`{key}` cannot be `{shown}`"))
            .with_label(format!("expected {}", alternatives(choices)));
        self.findings.push(match nearest(&shown, choices.iter().copied()) {
            Some(near) => finding.with_help(format!("did you mean `{near}`?")),
            None => finding,
        });
    }

    /// Renders a template; a failure is reported at its place.
    pub(super) fn render(&mut self, text: &Spanned<String>) -> Option<String> {
        let path = self.sources.path(text.span).to_owned();
        match self.templates.render(&path, &text.value) {
            Ok(rendered) => Some(rendered),
            Err(failure) => {
                self.template_failure(&failure, text);
                None
            }
        }
    }

    /// Reports a template's failure; `text` is what was rendered.
    pub(super) fn template_failure(&mut self, failure: &Failure, text: &Spanned<String>) {
        // The text that minijinja quotes may come from the environment.
        let hidden = failure.macro_file.is_none() && self.sources.text(text.span).contains("${");
        let message = if hidden { "this template cannot be rendered".to_owned() } else { failure.message.clone() };
        let used = self.sources.locate_range(text.span, &text.value, failure.range.start, failure.range.end);
        let in_macro = failure.macro_file.as_deref().and_then(|path| self.macro_span(path, failure));
        let finding = Diagnostic::error(Code::Template, in_macro.unwrap_or(used), message);
        let finding = finding.with_label("in this template");
        self.findings.push(match &failure.help {
            Some(help) => finding.with_help(help.clone()),
            None => finding,
        });
    }

    /// Reports a failure of a request's template.
    pub(super) fn request_failure(&mut self, failure: &RenderFailure) {
        let Some(text) = &failure.text else { return };
        let (message, range) = (failure.message.clone(), failure.range.clone());
        let help = message.contains("no JSON").then(|| {
            "`{{ row.name }}` writes a value with its quotes; join texts as `{{ 'Dear ' ~ row.name }}`".to_owned()
        });
        self.template_failure(&Failure { message, macro_file: None, range, help }, text);
    }

    fn macro_span(&self, path: &str, failure: &Failure) -> Option<Span> {
        let file = self.sources.find(path)?;
        let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(Span { file, start: clip(failure.range.start), end: clip(failure.range.end) })
    }

    /// Reports a name that is there twice.
    pub(super) fn duplicate_name(&mut self, what: &str, name: &Spanned<String>, first: Span) {
        // A SQL model is named by its file and has no text of its own.
        let shown = Some(self.shown(name.span)).filter(|s| !s.is_empty()).unwrap_or_else(|| name.value.clone());
        self.findings.push(
            Diagnostic::error(Code::DuplicateName, name.span, format!("{what} `{shown}` is defined twice"))
                .with_label("again here")
                .with_related(first, "first here")
                .with_help("rename one of them"),
        );
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn alternatives(words: &[&str]) -> String {
    listed(words, "or")
}

fn listed(words: &[&str], last_word: &str) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [rest @ .., last] => {
            let rest: Vec<String> = rest.iter().map(|w| format!("`{w}`")).collect();
            format!("{} {last_word} `{last}`", rest.join(", "))
        }
    }
}

/// Whether a text is `[a-z_][a-z0-9_]*`, and does not begin with the `__` of our own columns.
pub(super) fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    !text.starts_with("__")
        && chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn proposed_name(text: &str) -> Option<String> {
    let lower = text.trim().to_lowercase();
    let name: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Some(name).filter(|n| text.is_ascii() && is_name(n) && n.chars().any(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_proposals() {
        assert!(is_name("patient_2") && is_name("_x"));
        assert!(!is_name("__x_0") && !is_name("Patient") && !is_name("2x") && !is_name("") && !is_name("é"));
        assert_eq!(proposed_name("Patient-Profile").as_deref(), Some("patient_profile"));
        assert_eq!(proposed_name("2x"), None);
        assert_eq!(proposed_name("é"), None);
    }

    #[test]
    fn alternatives_read_well() {
        assert_eq!(alternatives(&["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(alternatives(&["a"]), "`a`");
    }
}
