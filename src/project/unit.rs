//! `kind: test`: unit tests, each a document in any YAML file of `models/`.
//!
//! `given` maps a source table or a model to rows; `expect` is rows of the tested model, or maps tables to
//! rows. Rows are a list of mappings, or CSV text with a header line whose empty fields are null. A row says
//! only the columns that it names.

use super::reader::{Fields, Reader};
use super::yaml::{Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{Cell, ExpectedTable, GivenTable, TestRow, UnitTest};

pub(super) const KEYS: [&str; 9] =
    ["kind", "name", "description", "tags", "enabled", "model", "as_of", "given", "expect"];
pub(super) const GIVEN_KEYS: [&str; 3] = ["rows", "csv", "columns"];
const EXPECT_KEYS: [&str; 4] = ["rows", "csv", "ordered", "exactly"];

/// Reads one unit test.
pub(super) fn read(reader: &mut Reader<'_>, document: &Node, path: &str, tests: &mut Vec<UnitTest>) {
    let Some(fields) = reader.fields(document, "a unit test", &KEYS) else { return };
    let name = fields.require(reader, "name").and_then(|n| reader.name("name", n));
    fields.get("description").and_then(|n| reader.text("description", n));
    fields.get("tags").map(|n| reader.text_list("tags", n));
    let enabled = fields.get("enabled").and_then(|n| reader.boolean("enabled", n)).unwrap_or(true);
    let model = fields.require(reader, "model").and_then(|n| reader.filled("model", n));
    let as_of = fields.get("as_of").and_then(|n| reader.time("as_of", n, reader.zone)).map(|t| t.value);
    let given = fields.get("given").map(|n| given(reader, n)).unwrap_or_default();
    let expect = fields.require(reader, "expect");
    let (Some(name), Some(model)) = (name, model) else { return };
    let expect = expect.map(|n| expected(reader, n, &model)).unwrap_or_default();
    if let Some(first) = tests.iter().find(|t| t.name.value == name.value) {
        reader.duplicate_name("the unit test", &name, first.name.span);
    } else if enabled {
        tests.push(UnitTest { name, path: path.to_owned(), model, as_of, given, expect });
    }
}

fn given(reader: &mut Reader<'_>, node: &Node) -> Vec<GivenTable> {
    let mut tables = Vec::new();
    for entry in reader.entries(node, "given").unwrap_or_default() {
        let name = entry.key.clone();
        if let NodeKind::List(items) = &entry.value.kind {
            tables.push(GivenTable { name, types: Vec::new(), rows: rows(reader, items) });
            continue;
        }
        let Some(fields) = reader.fields(&entry.value, "given rows", &GIVEN_KEYS) else { continue };
        let mut types = Vec::new();
        if let Some(node) = fields.get("columns") {
            for column in reader.entries(node, "columns").unwrap_or_default() {
                let data_type = reader.filled(&column.key.value, &column.value);
                types.extend(data_type.map(|t| (column.key.clone(), t)));
            }
        }
        tables.push(GivenTable { name, types, rows: rows_or_csv(reader, &fields) });
    }
    tables
}

fn expected(reader: &mut Reader<'_>, node: &Node, model: &Spanned<String>) -> Vec<ExpectedTable> {
    let of_model =
        |entries: &[super::yaml::Entry]| entries.iter().any(|e| matches!(e.key.value.as_str(), "rows" | "csv"));
    match &node.kind {
        NodeKind::Map(entries) if !of_model(entries) => {
            let entries = reader.entries(node, "expect").unwrap_or_default();
            if entries.is_empty() {
                reader.empty(node.span, "expect");
            }
            entries.iter().filter_map(|e| expected_table(reader, e.key.clone(), &e.value)).collect()
        }
        _ => expected_table(reader, model.clone(), node).into_iter().collect(),
    }
}

fn expected_table(reader: &mut Reader<'_>, name: Spanned<String>, node: &Node) -> Option<ExpectedTable> {
    if let NodeKind::List(items) = &node.kind {
        return Some(ExpectedTable { name, rows: rows(reader, items), ordered: false, exactly: true });
    }
    let fields = reader.fields(node, "expected rows", &EXPECT_KEYS)?;
    let ordered = fields.get("ordered").and_then(|n| reader.boolean("ordered", n)).unwrap_or(false);
    let exactly = fields.get("exactly").and_then(|n| reader.boolean("exactly", n)).unwrap_or(true);
    Some(ExpectedTable { name, rows: rows_or_csv(reader, &fields), ordered, exactly })
}

fn rows_or_csv(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<TestRow> {
    if let (Some(csv), Some(rows)) = (fields.key_span("csv"), fields.key_span("rows")) {
        reader.conflict(csv, "csv", rows, "rows", "keep one of them");
    }
    if let Some(node) = fields.get("csv") {
        return csv_rows(reader, node);
    }
    let Some(node) = fields.require(reader, "rows") else { return Vec::new() };
    let items = reader.list("rows", node).unwrap_or_default();
    rows(reader, items)
}

fn rows(reader: &mut Reader<'_>, items: &[Node]) -> Vec<TestRow> {
    items.iter().filter_map(|item| row(reader, item)).collect()
}

fn row(reader: &mut Reader<'_>, node: &Node) -> Option<TestRow> {
    if !matches!(node.kind, NodeKind::Map(_) | NodeKind::Broken) {
        let finding = Diagnostic::error(Code::TestRows, node.span, "a row is a mapping from column to value");
        reader.findings.push(
            finding.with_label("not a mapping").with_help("write it like `- {user_id: u1, timestamp: 2026-01-01}`"),
        );
        return None;
    }
    let mut cells = Vec::new();
    for entry in reader.entries(node, "a row")? {
        let cell = cell(reader, &entry.key.value, &entry.value);
        cells.extend(cell.map(|c| (entry.key.clone(), Spanned::new(c, entry.value.span))));
    }
    Some(TestRow { span: node.span, cells })
}

fn cell(reader: &mut Reader<'_>, column: &str, node: &Node) -> Option<Cell> {
    Some(match &node.kind {
        NodeKind::Null => Cell::Null,
        NodeKind::Bool(value, _) => Cell::Boolean(*value),
        NodeKind::Number(text) => Cell::Number(text.clone()),
        NodeKind::Text { value, .. } => Cell::Text(value.clone()),
        NodeKind::List(items) => {
            let cells: Vec<Cell> = items.iter().filter_map(|n| cell(reader, column, n)).collect();
            let texts: Vec<String> = cells.iter().map(|c| c.text().unwrap_or_default()).collect();
            Cell::List(format!("[{}]", texts.join(", ")))
        }
        NodeKind::Map(_) | NodeKind::Broken => {
            reader.wrong_type(node, column, "a value or a list of values");
            return None;
        }
    })
}

fn csv_rows(reader: &mut Reader<'_>, node: &Node) -> Vec<TestRow> {
    let Some(text) = reader.filled("csv", node) else { return Vec::new() };
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.value.as_bytes());
    let header: Vec<Spanned<String>> = match csv.headers() {
        Ok(header) => header.iter().map(|h| Spanned::new(h.to_owned(), text.span)).collect(),
        Err(e) => {
            reader.findings.push(bad_csv(&text, &e));
            return Vec::new();
        }
    };
    let mut rows = Vec::new();
    for record in csv.records() {
        match record {
            Ok(record) => {
                let at = record.position().map_or(0, |p| usize::try_from(p.byte()).unwrap_or(0));
                let rest = text.value.get(at..).unwrap_or_default();
                let line = at + rest.find('\n').unwrap_or(rest.len());
                let span = reader.sources.locate_range(text.span, &text.value, at, line);
                let value = |v: &str| if v.is_empty() { Cell::Null } else { Cell::Text(v.to_owned()) };
                let cells = header.iter().cloned().zip(record.iter().map(|v| Spanned::new(value(v), span))).collect();
                rows.push(TestRow { span, cells });
            }
            Err(e) => reader.findings.push(bad_csv(&text, &e)),
        }
    }
    rows
}

fn bad_csv(text: &Spanned<String>, error: &csv::Error) -> Diagnostic {
    Diagnostic::error(Code::TestRows, text.span, "this CSV cannot be read")
        .with_label("not the same number of fields in each line, or an open quote")
        .with_note(error.to_string())
}
