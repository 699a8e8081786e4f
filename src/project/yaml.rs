//! YAML text as a tree of nodes with their places.
//!
//! The reader is strict: booleans are `true` and `false` only, merge keys and unknown tags are errors, and
//! budgets bound nodes, aliases and depth. Duplicate keys are kept in the tree, so that the decoder can show
//! both places. The span of a scalar covers its content: without quotes, without the indentation before a
//! block scalar. Numbers and booleans keep their text, so that `010` or `1.50` stay what the author wrote.

use crate::diagnostic::{Code, Diagnostic, FileId, SourceFile, Span, Spanned};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A YAML value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The value.
    pub kind: NodeKind,
    /// Its content; for a list or mapping its first line.
    pub span: Span,
}

impl Node {
    /// The entries of a mapping; none of anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            NodeKind::Map(entries) => entries,
            _ => &[],
        }
    }
}

/// The sorts of value.
#[derive(Debug, Clone)]
pub(super) enum NodeKind {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`, as written.
    Bool(bool, String),
    /// A number, as written.
    Number(String),
    /// Text.
    Text {
        /// The text, environment expanded.
        value: String,
        /// Whether it holds values from the environment.
        expanded: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the author's order, duplicate keys included.
    Map(Vec<Entry>),
    /// Something that was already reported: decoders stay silent about it.
    Broken,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key as text.
    pub key: Spanned<String>,
    /// The value.
    pub value: Node,
}

/// The documents of a file, or what is wrong with it.
pub(super) fn parse(id: FileId, file: &SourceFile, findings: &mut Vec<Diagnostic>) -> Vec<Node> {
    match serde_saphyr::from_multiple_with_options::<serde_saphyr::Spanned<Tree>>(&file.text, options()) {
        Ok(trees) => {
            let mut builder = Builder { id, text: &file.text, findings };
            trees.into_iter().map(|tree| builder.node(tree)).collect()
        }
        Err(error) => {
            findings.push(syntax_error(id, file, &error));
            Vec::new()
        }
    }
}

fn options() -> serde_saphyr::Options {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = 50_000;
    budget.max_aliases = 100;
    budget.max_depth = 48;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.emit_comments = false;
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
    options.merge_keys = serde_saphyr::MergeKeyPolicy::AsOrdinary;
    options.alias_limits.max_total_replayed_events = 50_000;
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.non_finite_float_policy = serde_saphyr::NonFiniteFloatPolicy::AsString;
    options.reject_unsupported_tags = true;
    options.with_snippet = false;
    options
}

/// What serde hands over; numbers come back from the text.
enum Tree {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<serde_saphyr::Spanned<Tree>>),
    Map(Vec<(serde_saphyr::Spanned<Tree>, serde_saphyr::Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}

struct Builder<'a> {
    id: FileId,
    text: &'a str,
    findings: &'a mut Vec<Diagnostic>,
}

impl Builder<'_> {
    fn node(&mut self, tree: serde_saphyr::Spanned<Tree>) -> Node {
        let (start, end) = self.range(tree.defined);
        match tree.value {
            Tree::Null => Node { kind: NodeKind::Null, span: self.span(start, end) },
            Tree::Bool(value) => {
                Node { kind: NodeKind::Bool(value, self.text[start..end].to_owned()), span: self.span(start, end) }
            }
            Tree::Number => {
                Node { kind: NodeKind::Number(self.text[start..end].to_owned()), span: self.span(start, end) }
            }
            Tree::Text(value) => {
                let (start, end) = content_range(self.text, start, end, &value);
                Node { kind: NodeKind::Text { value, expanded: false }, span: self.span(start, end) }
            }
            Tree::List(items) => {
                let items: Vec<Node> = items.into_iter().map(|item| self.node(item)).collect();
                let last = items.last().map(|n| n.span.end as usize);
                Node { kind: NodeKind::List(items), span: self.collection(start, last, ']') }
            }
            Tree::Map(entries) => self.map(start, entries),
        }
    }

    fn map(&mut self, start: usize, raw: Vec<(serde_saphyr::Spanned<Tree>, serde_saphyr::Spanned<Tree>)>) -> Node {
        let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
        for (key, value) in raw {
            let key_node = self.node(key);
            let text = match key_node.kind {
                NodeKind::Text { value, .. } => value,
                NodeKind::Number(text) | NodeKind::Bool(_, text) => text,
                NodeKind::Null => self.text[key_node.span.start as usize..key_node.span.end as usize].to_owned(),
                NodeKind::List(_) | NodeKind::Map(_) | NodeKind::Broken => {
                    self.complex_key(key_node.span);
                    return Node { kind: NodeKind::Broken, span: self.collection(start, None, '}') };
                }
            };
            let key = Spanned::new(text, key_node.span);
            entries.push(Entry { key, value: self.node(value) });
        }
        let last = entries.last().map(|e| e.value.span.end.max(e.key.span.end) as usize);
        Node { kind: NodeKind::Map(entries), span: self.collection(start, last, '}') }
    }

    fn complex_key(&mut self, span: Span) {
        let template = self.text[..span.start as usize].ends_with('{');
        let finding = Diagnostic::error(Code::YamlSyntax, span, "a key must be plain text");
        self.findings.push(if template {
            finding.with_label("YAML reads `{{` as two mappings").with_help("put the whole value in quotes")
        } else {
            finding.with_label("not text")
        });
    }

    fn range(&self, location: serde_saphyr::Location) -> (usize, usize) {
        let span = location.span();
        let as_index = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let start = as_index(span.byte_offset()).min(self.text.len());
        let end = (start + as_index(span.byte_len())).min(self.text.len());
        if self.text.is_char_boundary(start) && self.text.is_char_boundary(end) { (start, end) } else { (0, 0) }
    }

    /// A collection from its start to its last child (and its bracket), cut at the end of the line.
    fn collection(&self, start: usize, last: Option<usize>, close: char) -> Span {
        let flow = self.text[start..].starts_with(['[', '{']);
        let mut end = last.unwrap_or(start).max(start);
        if flow {
            let bracket = self.text[end..].find(close).map(|i| end + i + 1);
            end = bracket.unwrap_or(end).max(start + 1);
        }
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
        let cut = self.text[start..end.min(line_end)].trim_end().len();
        self.span(start, start + cut)
    }

    fn span(&self, start: usize, end: usize) -> Span {
        span(self.id, start, end)
    }
}

fn span(file: FileId, start: usize, end: usize) -> Span {
    let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span { file, start: clip(start), end: clip(end) }
}

/// The range of a scalar's content: inside its quotes, without the line end of a block scalar.
fn content_range(text: &str, start: usize, end: usize, value: &str) -> (usize, usize) {
    let raw = &text[start..end];
    let quoted = raw.len() >= 2 && ["'", "\""].iter().any(|q| raw.starts_with(q) && raw.ends_with(q));
    let same = || raw.split_whitespace().eq(value.split_whitespace());
    if quoted && !same() { (start + 1, end - 1) } else { (start, start + raw.trim_end().len()) }
}

fn syntax_error(id: FileId, file: &SourceFile, error: &serde_saphyr::Error) -> Diagnostic {
    let error = innermost(error);
    let (line, column) = error.location().map_or((1, 1), |l| (to_usize(l.line()), to_usize(l.column())));
    let start = file.offset(line, column);
    let length = file.text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let place = span(id, start, start + length);
    if is_limit(error) {
        return Diagnostic::error(Code::YamlLimit, place, "this file is larger or deeper than a definition may be")
            .with_label("the limit is reached here")
            .with_note("limits of a file: 50,000 nodes, 100 aliases, 48 levels");
    }
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    // The scanner names the start of the text before a tab; the tab itself says more.
    let tab = message.contains("tab").then(|| tab_indent(&file.text, start)).flatten();
    let place = tab.map_or(place, |tab| span(id, tab, tab + 1));
    let finding = Diagnostic::error(Code::YamlSyntax, place, format!("invalid YAML: {message}"))
        .with_label("not YAML from here")
        .with_note("nothing else in this file could be checked");
    let (line_start, line_end) = file.line_range(line);
    match syntax_help(&file.text[line_start..line_end], message) {
        Some(help) => finding.with_help(help),
        None => finding,
    }
}

/// The first tab at or after `from` that indents a line.
fn tab_indent(text: &str, from: usize) -> Option<usize> {
    let mut start = text[..from].rfind('\n').map_or(0, |i| i + 1);
    for line in text[start..].split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..indent].find('\t') {
            return Some(start + tab);
        }
        start += line.len();
    }
    None
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn innermost(error: &serde_saphyr::Error) -> &serde_saphyr::Error {
    match error.without_snippet() {
        serde_saphyr::Error::AliasError { error, .. } => innermost(error),
        other => other,
    }
}

fn is_limit(error: &serde_saphyr::Error) -> bool {
    use serde_saphyr::Error as E;
    matches!(
        error,
        E::Budget { .. }
            | E::AliasReplayCounterOverflow { .. }
            | E::AliasReplayLimitExceeded { .. }
            | E::AliasExpansionLimitExceeded { .. }
            | E::AliasReplayStackDepthExceeded { .. }
    ) || ["nesting", "recursion limit"].iter().any(|word| error.to_string().contains(word))
}

/// What usually lies behind a syntax error in such a line.
fn syntax_help(line: &str, message: &str) -> Option<&'static str> {
    let starts_value =
        |signs: &[char]| line.match_indices(": ").any(|(i, _)| line[i + 2..].trim_start().starts_with(signs));
    let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|mark| line.starts_with(mark)) {
        return Some("resolve the merge conflict: keep one side and remove the marks");
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Some("remove the control character; it may have come with a copied text");
    }
    if line.contains("{{") || line.contains("${") {
        return Some("put the whole value in quotes: YAML gives `{` a meaning of its own");
    }
    if says(&["tab"]) {
        return Some("indent with spaces: YAML allows no tabs");
    }
    if says(&["unexpected character", "block scalar"]) && starts_value(&['>', '|']) {
        return Some("put comparisons in quotes: `count: '> 2'`");
    }
    if says(&["unsupported tag"]) {
        return Some("remove the tag; put text in quotes that begins with `!`");
    }
    if says(&["alias", "tag", "unexpected character"]) && starts_value(&['*', '&', '!', '%', '@', '`']) {
        return Some("put text in quotes that starts with a sign that YAML uses: one of * & ! % @ `");
    }
    if says(&["after single-quoted scalar", "after double-quoted scalar"]) && !line.contains(['{', '[']) {
        return Some("a quote inside quoted text is written twice: `'it''s'`; or leave the outer quotes out");
    }
    if says(&["trailing content", "',' or '}'", "',' or ']'"]) {
        return Some("inside `{ }` and `[ ]`, put values in quotes that hold commas, quotes, brackets or `: `");
    }
    if says(&["mapping values"]) && line.matches(": ").count() > 1 {
        return Some("put text in quotes that holds `: `");
    }
    if says(&["mapping values", "'-' indicator", "expected key"]) {
        return Some("check the indentation: this line does not fit the lines above it");
    }
    says(&["placement of", "multiline quoted", "flow"]).then_some("a quote or bracket in a line above may be open")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{SourceMap, render_concise};

    fn load(text: &str) -> (Vec<Node>, String, SourceMap) {
        let mut map = SourceMap::default();
        let id = map.add("a.yaml", text);
        let mut findings = Vec::new();
        let nodes = parse(id, &map.files()[0], &mut findings);
        let said = render_concise(&findings, &map);
        (nodes, said, map)
    }

    fn flat(node: &Node, map: &SourceMap, out: &mut Vec<String>) {
        match &node.kind {
            NodeKind::List(items) => {
                for item in items {
                    flat(item, map, out);
                }
            }
            NodeKind::Map(entries) => {
                for entry in entries {
                    flat(&entry.value, map, out);
                }
            }
            NodeKind::Text { value, .. } => out.push(format!("{value:?} at {:?}", map.text(node.span))),
            other => out.push(format!("{other:?} at {:?}", map.text(node.span))),
        }
    }

    fn scalars(text: &str) -> Vec<String> {
        let (nodes, said, map) = load(text);
        assert_eq!(said, "");
        let mut out = Vec::new();
        for node in &nodes {
            flat(node, &map, &mut out);
        }
        out
    }

    #[test]
    fn scalar_spans_cover_the_content() {
        let text = "a: 'it''s'\nb: \"x\\ty\" # c\nc: plain text\nd: |\n   'x' = y\n   or 'z'\ne: >-\n  u\n  v\n";
        assert_eq!(
            scalars(text),
            [
                "\"it's\" at \"it''s\"",
                "\"x\\ty\" at \"x\\\\ty\"",
                "\"plain text\" at \"plain text\"",
                "\"'x' = y\\nor 'z'\\n\" at \"'x' = y\\n   or 'z'\"",
                "\"u v\" at \"u\\n  v\"",
            ]
        );
    }

    #[test]
    fn numbers_and_booleans_keep_their_text() {
        assert_eq!(
            scalars("[1.50, 0x10, 010, 1_0, yes, true, ~, .nan]"),
            [
                "Number(\"1.50\") at \"1.50\"",
                "Number(\"0x10\") at \"0x10\"",
                "\"010\" at \"010\"",
                "\"1_0\" at \"1_0\"",
                "\"yes\" at \"yes\"",
                "Bool(true, \"true\") at \"true\"",
                "Null at \"~\"",
                "\".nan\" at \".nan\"",
            ]
        );
    }

    #[test]
    fn syntax_errors_say_where_and_what_to_do() {
        let cases = [
            ("a: [1,\n", "a.yaml:1:4: error[K0101]: invalid YAML: unclosed bracket '['\n"),
            ("é: b: c\n", "a.yaml:1:5: error[K0101]: invalid YAML: mapping values are not allowed in this context\n"),
            ("a: {{ x }}\n", "a.yaml:1:5: error[K0101]: a key must be plain text\n"),
            ("a: *x\n", "a.yaml:1:4: error[K0101]: invalid YAML: alias references unknown anchor\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(load(text).1, expected);
        }
        let help = syntax_help("count: > 2", "while scanning a block scalar");
        assert_eq!(help, Some("put comparisons in quotes: `count: '> 2'`"));
    }

    #[test]
    fn bombs_and_deep_nesting_are_refused() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (new, old) in ["b", "c", "d", "e", "f"].iter().zip(["a", "b", "c", "d", "e"]) {
            bomb += &format!("{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n");
        }
        assert!(load(&bomb).1.contains("K0117"), "{}", load(&bomb).1);
        let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
        assert!(load(&deep).1.contains("K0117"), "{}", load(&deep).1);
        assert!(load(&"[".repeat(100_000)).1.contains("error"));
    }

    #[test]
    fn line_ends_and_byte_order_marks_do_not_matter() {
        let (nodes, said, map) = load("\u{feff}a: 1\r\nb: |\r\n  x\r\n  y\r\n");
        assert_eq!(said, "");
        let NodeKind::Map(entries) = &nodes[0].kind else { unreachable!("a mapping") };
        assert_eq!(map.line_column(entries[0].key.span), (1, 1));
        assert!(matches!(&entries[1].value.kind, NodeKind::Text { value, .. } if value == "x\ny\n"));
    }
}
