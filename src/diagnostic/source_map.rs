//! The author's files as text, and the way from bytes to lines and columns.
//!
//! Lines and columns start at 1; a column counts characters, not bytes, and a byte order mark counts none.
//! [`SourceMap::locate_in`] is the way back from a position inside a value (the SQL of a block scalar, a
//! quoted string with escapes, a rendered template) to the file: exact where the text can be followed, the
//! rendered part of the line where lines were kept, else the whole value. It never guesses a place in another line.

use super::{FileId, Span};

/// One file of the project.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path relative to the project, with forward slashes.
    pub path: String,
    /// Its text.
    pub text: String,
    line_starts: Vec<usize>,
}

/// All files that were read, by [`FileId`].
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

impl SourceFile {
    fn new(path: String, text: String) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { path, text, line_starts }
    }

    /// Line and column of a byte offset, both from 1; offsets past the end are at the end.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = floor_char(&self.text, offset);
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let columns = self.text[start..offset].chars().filter(|c| *c != '\u{feff}').count();
        (line, columns + 1)
    }

    /// Byte offset of a line and column (from 1), at most the end of that line.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        start + offset_in_line(self.text[start..].split('\n').next().unwrap_or(""), column)
    }

    /// Byte range of a line (from 1) without its line end and outer white space.
    pub fn line_range(&self, line: usize) -> (usize, usize) {
        let start = self.offset(line, 1);
        let content = self.text[start..].split('\n').next().unwrap_or("");
        let lead = content.len() - content.trim_start().len();
        (start + lead, start + lead + content.trim().len())
    }
}

impl SourceMap {
    /// Keeps a file and gives its id. The path is relative to the project, with forward slashes.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        self.files.push(SourceFile::new(path.into(), text.into()));
        FileId(to_u32(self.files.len() - 1))
    }

    /// The file of an id that this map gave.
    pub fn file(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(id.0 as usize)
    }

    /// The id of a path.
    pub fn find(&self, path: &str) -> Option<FileId> {
        self.files.iter().position(|f| f.path == path).map(|i| FileId(to_u32(i)))
    }

    /// All files, in the order they were read.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Path of a span's file.
    pub fn path(&self, span: Span) -> &str {
        self.file(span.file).map_or("", |f| f.path.as_str())
    }

    /// The text at a span; empty when the span is not of this map.
    pub fn text(&self, span: Span) -> &str {
        self.file(span.file).and_then(|f| f.text.get(span.start as usize..span.end as usize)).unwrap_or("")
    }

    /// Line and column (from 1) where a span starts.
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        self.file(span.file).map_or((1, 1), |f| f.line_column(span.start as usize))
    }

    /// Line and column (from 1) one past where a span ends.
    pub fn end_line_column(&self, span: Span) -> (usize, usize) {
        self.file(span.file).map_or((1, 1), |f| f.line_column(span.end as usize))
    }

    /// The file's place for line and column (from 1, in characters) of `inner`, the value that was read at `span`.
    ///
    /// The result covers the word or the character at that position. When the position cannot be followed
    /// exactly it is the line, and when not even that, the whole span.
    pub fn locate_in(&self, span: Span, inner: &str, line: usize, column: usize) -> Span {
        let start = inner_offset(inner, line, column);
        self.locate_range(span, inner, start, start + word_length(&inner[start..]))
    }

    /// The byte of `inner` at a line and column (from 1, in characters), at most the end of that line.
    pub fn offset_in(inner: &str, line: usize, column: usize) -> usize {
        inner_offset(inner, line, column)
    }

    /// The file's place for a byte range of `inner`, the value that was read at `span`.
    pub fn locate_range(&self, span: Span, inner: &str, start: usize, end: usize) -> Span {
        let raw = self.text(span);
        let start = floor_char(inner, start);
        let end = floor_char(inner, end).max(start);
        let quote = self.quote_before(span);
        if let Some((raw_start, raw_end)) = follow(raw, inner, start, end, quote) {
            return sub_span(span, raw_start, raw_end);
        }
        same_line(raw, inner, start, end).map_or(span, |(from, to)| sub_span(span, from, to))
    }

    /// The quote character that stands before a span, if any.
    fn quote_before(&self, span: Span) -> Option<char> {
        let before = self.file(span.file)?.text.get(..span.start as usize)?;
        before.chars().next_back().filter(|c| matches!(c, '\'' | '"'))
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn sub_span(span: Span, start: usize, end: usize) -> Span {
    Span { file: span.file, start: span.start + to_u32(start), end: span.start + to_u32(end) }
}

/// The greatest character boundary that is at most `offset`.
fn floor_char(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

fn offset_in_line(line: &str, column: usize) -> usize {
    line.char_indices().filter(|(_, c)| *c != '\u{feff}').nth(column.saturating_sub(1)).map_or(line.len(), |(i, _)| i)
}

fn inner_offset(inner: &str, line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        n => inner.match_indices('\n').nth(n - 2).map_or(inner.len(), |(i, _)| i + 1),
    };
    start + offset_in_line(inner[start..].split('\n').next().unwrap_or(""), column)
}

/// Bytes of the word at the start of `text`, or of its first character.
fn word_length(text: &str) -> usize {
    let word = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    if word > 0 { word } else { text.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8) }
}

/// Follows `inner` through `raw`, white space aside, and maps a byte range; `None` where the two part.
fn follow(raw: &str, inner: &str, start: usize, end: usize, quote: Option<char>) -> Option<(usize, usize)> {
    if raw == inner {
        return Some((start, end));
    }
    let skip_space = |text: &str, at: usize| at + text[at..].len() - text[at..].trim_start().len();
    let (mut at_raw, mut at_inner) = (0, 0);
    let mut mapped_start = None;
    let mut mapped_end = 0;
    loop {
        at_raw = skip_space(raw, at_raw);
        at_inner = skip_space(inner, at_inner);
        if mapped_start.is_none() && at_inner >= start {
            mapped_start = Some(at_raw);
            mapped_end = at_raw;
        }
        if at_inner >= end {
            return mapped_start.map(|s| (s, mapped_end.max(s)));
        }
        let wanted = inner[at_inner..].chars().next()?;
        let taken = taken_for(&raw[at_raw..], wanted, quote)?;
        at_raw += taken;
        at_inner += wanted.len_utf8();
        mapped_end = at_raw;
    }
}

/// How many bytes of `raw` spell the character `wanted` in a scalar of this quoting.
fn taken_for(raw: &str, wanted: char, quote: Option<char>) -> Option<usize> {
    let mut chars = raw.chars();
    let first = chars.next()?;
    match quote {
        Some('\'') if first == '\'' && chars.next() == Some('\'') => (wanted == '\'').then_some(2),
        Some('"') if first == '\\' => (chars.next()? == wanted).then(|| 1 + wanted.len_utf8()),
        _ => (first == wanted).then(|| first.len_utf8()),
    }
}

/// The place in the raw line with the number of the inner line that holds `start`, when the two texts have the
/// same number of lines. What both lines begin or end with is followed exactly; what was rendered in between is
/// shown as a whole.
fn same_line(raw: &str, inner: &str, start: usize, end: usize) -> Option<(usize, usize)> {
    if raw.trim_end().matches('\n').count() != inner.trim_end().matches('\n').count() {
        return None;
    }
    let line = inner[..start].matches('\n').count();
    let raw_start: usize = raw.split_inclusive('\n').take(line).map(str::len).sum();
    let inner_start = inner[..start].rfind('\n').map_or(0, |i| i + 1);
    let (raw_start, was) = unindented(raw, raw_start)?;
    let (inner_start, is) = unindented(inner, inner_start)?;
    let within = |at: usize| at.saturating_sub(inner_start).min(is.len());
    let (from, to) = (within(start), within(end));
    let alike = |(a, b): &(char, char)| a == b;
    let width = |sum: usize, (c, _): (char, char)| sum + c.len_utf8();
    let head = was.chars().zip(is.chars()).take_while(alike).fold(0, width);
    let tail = was[head..].chars().rev().zip(is[head..].chars().rev()).take_while(alike).fold(0, width);
    if to <= head {
        return Some((raw_start + from, raw_start + to));
    }
    if from >= is.len() - tail {
        let end = raw_start + was.len();
        return Some((end - (is.len() - from), end - (is.len() - to)));
    }
    let rendered = &was[head..was.len() - tail];
    let lead = rendered.len() - rendered.trim_start().len();
    let (from, to) = (head + lead, head + lead + rendered.trim().len());
    Some(if from < to { (raw_start + from, raw_start + to) } else { (raw_start, raw_start + was.trim_end().len()) })
}

/// The line that starts at a byte, behind its indentation, and where that is.
fn unindented(text: &str, start: usize) -> Option<(usize, &str)> {
    let line = text[start..].split('\n').next()?;
    let lead = line.len() - line.trim_start().len();
    Some((start + lead, &line[lead..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_of(text: &str) -> (SourceMap, FileId) {
        let mut map = SourceMap::default();
        let id = map.add("a.yaml", text);
        (map, id)
    }

    fn span_of(map: &SourceMap, id: FileId, part: &str) -> Span {
        let start = map.files()[id.0 as usize].text.find(part).expect("part is in the text");
        Span { file: id, start: to_u32(start), end: to_u32(start + part.len()) }
    }

    #[test]
    fn columns_count_characters_and_no_byte_order_mark() {
        let (map, id) = map_of("\u{feff}é: 1\nbé: x\n");
        assert_eq!(map.line_column(span_of(&map, id, "1")), (1, 4));
        assert_eq!(map.line_column(span_of(&map, id, "x")), (2, 5));
        assert_eq!(map.files()[0].offset(2, 5), map.files()[0].text.find('x').expect("x"));
        assert_eq!(map.files()[0].line_column(9999), (3, 1));
    }

    #[test]
    fn verbatim_text_maps_byte_by_byte() {
        let (map, id) = map_of("k: count(colum) > 2\n");
        let span = span_of(&map, id, "count(colum) > 2");
        assert_eq!(map.text(map.locate_in(span, "count(colum) > 2", 1, 7)), "colum");
        assert_eq!(map.text(map.locate_in(span, "count(colum) > 2", 1, 14)), ">");
    }

    #[test]
    fn block_scalars_are_followed_over_their_indentation() {
        let (map, id) = map_of("k: |\n    select é,\n      bad\n\n    from x\nz: 1\n");
        let span = span_of(&map, id, "select é,\n      bad\n\n    from x");
        let inner = "select é,\n  bad\n\nfrom x\n";
        assert_eq!(map.text(map.locate_in(span, inner, 2, 3)), "bad");
        assert_eq!(map.text(map.locate_in(span, inner, 4, 6)), "x");
        assert_eq!(map.text(map.locate_in(span, inner, 1, 8)), "é");
    }

    #[test]
    fn folded_scalars_are_followed_over_their_line_ends() {
        let (map, id) = map_of("k: >-\n  a +\n  bad\n");
        let span = span_of(&map, id, "a +\n  bad");
        assert_eq!(map.text(map.locate_in(span, "a + bad", 1, 5)), "bad");
    }

    #[test]
    fn quotes_and_escapes_are_followed() {
        let (map, id) = map_of("k: 'x = ''it''  and bad'\nd: \"x = \\\"it\\\" and bad\"\n");
        let single = span_of(&map, id, "x = ''it''  and bad");
        assert_eq!(map.text(map.locate_in(single, "x = 'it'  and bad", 1, 15)), "bad");
        let double = span_of(&map, id, "x = \\\"it\\\" and bad");
        assert_eq!(map.text(map.locate_in(double, "x = \"it\" and bad", 1, 14)), "bad");
    }

    #[test]
    fn a_rendered_template_is_followed_line_by_line_or_shown_whole() {
        let text = "select 1\nfrom {{ ref('x') }}  \nwhere bad\n";
        let (map, id) = map_of(text);
        let span = Span { file: id, start: 0, end: to_u32(text.len()) };
        let inner = "select 1\nfrom x  \nwhere bad\n";
        assert_eq!(map.text(map.locate_in(span, inner, 1, 8)), "1");
        assert_eq!(map.text(map.locate_in(span, inner, 2, 1)), "from");
        assert_eq!(map.text(map.locate_in(span, inner, 2, 6)), "{{ ref('x') }}");
        assert_eq!(map.text(map.locate_in(span, inner, 3, 7)), "bad");
        assert_eq!(map.locate_in(span, "select 1, y\nfrom x", 2, 6), span);
    }

    #[test]
    fn what_stands_behind_a_template_is_followed_from_the_end_of_its_line() {
        let text = "select {{ a }} as x, bad from {{ b }} where é = 1\n";
        let (map, id) = map_of(text);
        let span = Span { file: id, start: 0, end: to_u32(text.len()) };
        let shown = |inner: &str, part: &str| {
            let start = inner.find(part).expect("the part is in the text");
            map.text(map.locate_range(span, inner, start, start + part.len())).to_owned()
        };
        for inner in [
            "select 1 as x, bad from t where é = 1\n",
            "select a_long_name + 1 as x, bad from much.longer where é = 1\n",
        ] {
            assert_eq!(shown(inner, "é"), "é");
            assert_eq!(shown(inner, "select"), "select");
            assert_eq!(shown(inner, "bad"), "{{ a }} as x, bad from {{ b }}");
        }
    }

    #[test]
    fn positions_past_the_end_stay_inside() {
        let (map, id) = map_of("k: ab\n");
        let span = span_of(&map, id, "ab");
        let end = map.locate_in(span, "ab", 7, 7);
        assert_eq!((end.start, end.end), (span.end, span.end));
    }
}
