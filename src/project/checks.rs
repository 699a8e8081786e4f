//! `tests:` of a table or a column: data tests.
//!
//! A test of a table is a mapping with one kind and its options: `{unique: id, severity: warn}`. At a column
//! the column is known: `unique`, `{accepted_values: [a, b]}`. Tests have names, unique in their table: the
//! author's, or one made of the kind and the columns.

use super::reader::{Fields, Reader, alternatives};
use super::values::parse_comparison;
use super::yaml::{Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::model::{Comparator, DataTest, TestKind, TestSeverity};

pub(super) const KINDS: [&str; 7] =
    ["unique", "not_null", "accepted_values", "relationships", "expression", "row_count", "sql"];
/// Kinds that have a meaning at a column.
pub(super) const COLUMN_KINDS: [&str; 5] = ["unique", "not_null", "accepted_values", "relationships", "expression"];
pub(super) const OPTIONS: [&str; 4] = ["name", "severity", "where", "max_failures"];
const SEVERITIES: [(&str, TestSeverity); 2] = [("warn", TestSeverity::Warn), ("error", TestSeverity::Error)];

/// A test that has no name yet, unless the author gave one.
pub(super) struct Draft {
    name: Option<Spanned<String>>,
    test: DataTest,
}

/// Reads the tests of a table.
pub(super) fn of_table(reader: &mut Reader<'_>, node: &Node) -> Vec<Draft> {
    let items = reader.list("tests", node).unwrap_or_default();
    items.iter().filter_map(|item| draft(reader, item, None)).collect()
}

/// Reads the tests of a column.
pub(super) fn of_column(reader: &mut Reader<'_>, column: &Spanned<String>, node: &Node) -> Vec<Draft> {
    let items = reader.list("tests", node).unwrap_or_default();
    items.iter().filter_map(|item| draft(reader, item, Some(column))).collect()
}

/// Gives every test of a table its name; a name that the author gave twice is reported.
pub(super) fn named(reader: &mut Reader<'_>, drafts: Vec<Draft>) -> Vec<DataTest> {
    let mut given: Vec<&Spanned<String>> = Vec::new();
    for name in drafts.iter().filter_map(|d| d.name.as_ref()) {
        match given.iter().find(|g| g.value == name.value) {
            Some(first) => reader.duplicate_name("the test", name, first.span),
            None => given.push(name),
        }
    }
    let mut taken: Vec<String> = given.into_iter().map(|g| g.value.clone()).collect();
    let mut tests = Vec::with_capacity(drafts.len());
    for Draft { name, mut test } in drafts {
        test.name = match name {
            Some(name) => name.value,
            None => free(&default_name(&test.kind), &taken),
        };
        taken.push(test.name.clone());
        tests.push(test);
    }
    tests
}

fn default_name(kind: &TestKind) -> String {
    let columns = kind.columns();
    let parts = columns.iter().map(|c| c.value.as_str());
    std::iter::once(kind.word()).chain(parts).collect::<Vec<_>>().join("_")
}

/// `base`, or with the first number from 2 that is not taken.
fn free(base: &str, taken: &[String]) -> String {
    let is_free = |name: &String| !taken.contains(name);
    let numbered = (2..=taken.len() + 2).map(|n| format!("{base}_{n}"));
    std::iter::once(base.to_owned()).chain(numbered).find(is_free).unwrap_or_else(|| base.to_owned())
}

fn draft(reader: &mut Reader<'_>, node: &Node, column: Option<&Spanned<String>>) -> Option<Draft> {
    let kinds: &[&str] = if column.is_some() { &COLUMN_KINDS } else { &KINDS };
    if let NodeKind::Text { value, .. } = &node.kind {
        let kind = word(reader, value, node.span, column, kinds)?;
        return Some(Draft { name: None, test: plain(kind, node.span) });
    }
    let before = reader.findings.len();
    let fields = reader.fields(node, "a test", &[kinds, &OPTIONS].concat())?;
    let present: Vec<&str> = kinds.iter().copied().filter(|k| fields.get(k).is_some()).collect();
    let [kind] = present.as_slice() else {
        // a misspelt kind was reported as an unknown key
        if reader.findings.len() == before {
            not_one(reader, &fields, &present, kinds);
        }
        return None;
    };
    let decoded = fields.get(kind).and_then(|value| decode(reader, kind, value, column));
    let name = fields.get("name").and_then(|n| reader.name("name", n));
    let severity = fields.get("severity").and_then(|n| reader.word("severity", n, &SEVERITIES)).unwrap_or_default();
    let filter = fields.get("where").and_then(|n| reader.sql("where", n));
    let max_failures = fields.get("max_failures").and_then(|n| whole(reader, "max_failures", n)).unwrap_or(0);
    match decoded.as_ref()? {
        TestKind::Sql(_) => fields.meaningless(reader, &["where"], "the query itself says which rows it reads"),
        TestKind::RowCount { .. } => fields.meaningless(reader, &["max_failures"], "the bounds say how many rows"),
        _ => {}
    }
    let test = DataTest { severity, filter, max_failures, ..plain(decoded?, node.span) };
    Some(Draft { name, test })
}

fn plain(kind: TestKind, span: Span) -> DataTest {
    DataTest { name: String::new(), span, kind, severity: TestSeverity::default(), filter: None, max_failures: 0 }
}

/// A test that is a single word, at a column.
fn word(
    reader: &mut Reader<'_>,
    text: &str,
    span: Span,
    column: Option<&Spanned<String>>,
    kinds: &[&str],
) -> Option<TestKind> {
    match (text, column) {
        ("unique", Some(column)) => return Some(TestKind::Unique(vec![column.clone()])),
        ("not_null", Some(column)) => return Some(TestKind::NotNull(vec![column.clone()])),
        _ => {}
    }
    let shown = reader.shown(span);
    if !kinds.contains(&text) {
        reader.unknown_word("tests", span, kinds);
        return None;
    }
    let finding = Diagnostic::error(Code::TestShape, span, format!("the test `{shown}` needs a value"))
        .with_label("of what?")
        .with_help(example(text));
    reader.findings.push(finding);
    None
}

fn not_one(reader: &mut Reader<'_>, fields: &Fields<'_>, present: &[&str], kinds: &[&str]) {
    let (message, label) = if present.is_empty() {
        ("this test does not say what it tests".to_owned(), format!("expected {}", alternatives(kinds)))
    } else {
        (format!("this is {} tests in one", present.len()), "one test an entry".to_owned())
    };
    let finding = Diagnostic::error(Code::TestShape, fields.span(), message).with_label(label);
    reader.findings.push(match present {
        [] => finding.with_help(example("unique")),
        _ => finding.with_help("write each as an entry of its own, so that each has its name and severity"),
    });
}

fn example(kind: &str) -> &'static str {
    match kind {
        "accepted_values" => "write it like `{accepted_values: {column: status, values: [open, done]}}`",
        "relationships" => "write it like `{relationships: {column: provider_id, to: ehr.providers.provider_id}}`",
        "expression" => "write it like `{expression: \"amount >= 0\"}`",
        "row_count" => "write it like `{row_count: {min: 1}}`",
        "sql" => "write it like `{sql: \"SELECT * FROM web.tracks WHERE id = ''\"}`",
        "not_null" => "write it like `{not_null: [id, timestamp]}`",
        _ => "write it like `{unique: id}`",
    }
}

fn decode(reader: &mut Reader<'_>, kind: &str, node: &Node, column: Option<&Spanned<String>>) -> Option<TestKind> {
    match kind {
        "unique" => columns(reader, kind, node, column).map(TestKind::Unique),
        "not_null" => columns(reader, kind, node, column).map(TestKind::NotNull),
        "accepted_values" => accepted_values(reader, node, column),
        "relationships" => relationships(reader, node, column),
        "expression" => reader.sql(kind, node).map(TestKind::Expression),
        "row_count" => row_count(reader, node),
        _ => reader.sql(kind, node).map(TestKind::Sql),
    }
}

fn columns(
    reader: &mut Reader<'_>,
    key: &str,
    node: &Node,
    column: Option<&Spanned<String>>,
) -> Option<Vec<Spanned<String>>> {
    if let Some(column) = column {
        return match node.kind {
            NodeKind::Bool(true, _) => Some(vec![column.clone()]),
            _ => {
                reader.wrong_type(node, key, "true at a column");
                None
            }
        };
    }
    let names = reader.text_list(key, node);
    for (i, name) in names.iter().enumerate() {
        if let Some(first) = names[..i].iter().find(|n| n.value == name.value) {
            reader.duplicate_name("the column", name, first.span);
        }
    }
    (!names.is_empty()).then_some(names)
}

fn accepted_values(reader: &mut Reader<'_>, node: &Node, at: Option<&Spanned<String>>) -> Option<TestKind> {
    if let (Some(column), NodeKind::List(_)) = (at, &node.kind) {
        return Some(TestKind::AcceptedValues { column: column.clone(), values: values(reader, node)? });
    }
    let known: &[&str] = if at.is_some() { &["values"] } else { &["column", "values"] };
    let fields = reader.fields(node, "accepted_values", known)?;
    let column = of_which(reader, &fields, at);
    let values = fields.require(reader, "values").and_then(|n| values(reader, n));
    Some(TestKind::AcceptedValues { column: column?, values: values? })
}

fn of_which(reader: &mut Reader<'_>, fields: &Fields<'_>, at: Option<&Spanned<String>>) -> Option<Spanned<String>> {
    match at {
        Some(column) => Some(column.clone()),
        None => fields.require(reader, "column").and_then(|n| reader.filled("column", n)),
    }
}

fn values(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Spanned<String>>> {
    let items = reader.list("values", node)?;
    if items.is_empty() {
        reader.empty(node.span, "values");
    }
    let values: Vec<Spanned<String>> = items.iter().filter_map(|n| reader.scalar("values", n)).collect();
    (!values.is_empty()).then_some(values)
}

fn relationships(reader: &mut Reader<'_>, node: &Node, at: Option<&Spanned<String>>) -> Option<TestKind> {
    if let (Some(column), NodeKind::Text { .. }) = (at, &node.kind) {
        let (to_table, to_column) = target(reader, node)?;
        return Some(TestKind::Relationships { column: column.clone(), to_table, to_column });
    }
    let known: &[&str] = if at.is_some() { &["to"] } else { &["column", "to"] };
    let fields = reader.fields(node, "relationships", known)?;
    let column = of_which(reader, &fields, at);
    let target = fields.require(reader, "to").and_then(|n| target(reader, n));
    let (to_table, to_column) = target?;
    Some(TestKind::Relationships { column: column?, to_table, to_column })
}

/// `source.table.column` or `model.column`.
fn target(reader: &mut Reader<'_>, node: &Node) -> Option<(Spanned<String>, Spanned<String>)> {
    let text = reader.filled("to", node)?;
    let Some((table, column)) = text.value.rsplit_once('.').filter(|(t, c)| !t.is_empty() && !c.is_empty()) else {
        let shown = reader.shown(text.span);
        reader.findings.push(
            Diagnostic::error(Code::TestShape, text.span, format!("`to: {shown}` names no column of a table"))
                .with_label("expected `table.column`")
                .with_help("write it like `ehr.providers.provider_id` or `patient.patient_id`"),
        );
        return None;
    };
    let end = text.value.len();
    let table_span = reader.sources.locate_range(text.span, &text.value, 0, table.len());
    let column_span = reader.sources.locate_range(text.span, &text.value, end - column.len(), end);
    Some((Spanned::new(table.to_owned(), table_span), Spanned::new(column.to_owned(), column_span)))
}

/// `{min: 1, max: 10}`, `'> 0'`, or a number.
fn row_count(reader: &mut Reader<'_>, node: &Node) -> Option<TestKind> {
    let span = node.span;
    let bounds = match &node.kind {
        NodeKind::Number(_) => vec![(Comparator::Equal, whole(reader, "row_count", node)?)],
        NodeKind::Text { value, .. } => {
            let found = parse_comparison(value).filter(|(operand, ..)| operand.is_empty());
            let Some(bound) = found.and_then(|(_, c, number)| Some((c, number.parse().ok()?))) else {
                reader.bad_comparison("row_count", true, span);
                return None;
            };
            vec![bound]
        }
        _ => {
            let fields = reader.fields(node, "row_count", &["min", "max"])?;
            let min = fields.get("min").and_then(|n| whole(reader, "min", n));
            let max = fields.get("max").and_then(|n| whole(reader, "max", n));
            if fields.get("min").or(fields.get("max")).is_none() {
                reader.empty(span, "row_count");
                return None;
            }
            if let (Some(min), Some(max)) = (min, max)
                && min > max
            {
                reader.findings.push(
                    Diagnostic::error(Code::OutOfRange, span, "no number of rows is in these bounds")
                        .with_label("`min` is greater than `max`"),
                );
                return None;
            }
            let bounds = [(Comparator::GreaterOrEqual, min), (Comparator::LessOrEqual, max)];
            bounds.into_iter().filter_map(|(c, n)| Some((c, n?))).collect()
        }
    };
    (!bounds.is_empty()).then_some(TestKind::RowCount { span, bounds })
}

/// A whole number from 0.
fn whole(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<u64> {
    let NodeKind::Number(text) = &node.kind else {
        reader.wrong_type(node, key, "a whole number");
        return None;
    };
    let number = text.parse().ok();
    if number.is_none() {
        reader.findings.push(
            Diagnostic::error(Code::OutOfRange, node.span, format!("`{key}` must be a whole number from 0"))
                .with_label("expected 0 or more"),
        );
    }
    number
}
