//! `destinations.yaml`: where rows may go.

use super::privacy::label_names;
use super::reader::{Fields, Reader};
use super::yaml::Node;
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{
    Destination, DestinationKind, Duration, FileFormat, HttpBody, HttpDestination, HttpRequest, RejectedBy,
    RejectedRows, Requests, StatusRange,
};
use crate::privacy::is_health;
use std::collections::BTreeMap;

pub(super) const FILE_KEYS: [&str; 1] = ["destinations"];
pub(super) const KEYS: [&str; 22] = [
    "name",
    "type",
    "description",
    "location",
    "format",
    "url",
    "schema",
    "method",
    "headers",
    "body",
    "form",
    "delete",
    "alias",
    "rows",
    "success",
    "retryable",
    "rejected",
    "timeout",
    "baa",
    "allow",
    "purposes",
    "region",
];
/// Keys of one type that the others have no use for.
const OF_FILES: [&str; 1] = ["format"];
const OF_POSTGRES: [&str; 1] = ["schema"];
const OF_HTTP: [&str; 10] =
    ["method", "headers", "body", "form", "delete", "alias", "rows", "success", "retryable", "rejected"];
pub(super) const DELETE_KEYS: [&str; 4] = ["method", "url", "body", "form"];
pub(super) const REJECTED_KEYS: [&str; 6] = ["at", "index", "column", "value", "reason", "status"];
const FORMATS: [(&str, FileFormat); 3] =
    [("parquet", FileFormat::Parquet), ("csv", FileFormat::Csv), ("ndjson", FileFormat::Ndjson)];
const METHODS: [(&str, &str); 4] = [("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH"), ("DELETE", "DELETE")];
const SUCCESS: [StatusRange; 1] = [StatusRange { first: 200, last: 299 }];
const RETRYABLE: [StatusRange; 4] = [
    StatusRange { first: 408, last: 408 },
    StatusRange { first: 425, last: 425 },
    StatusRange { first: 429, last: 429 },
    StatusRange { first: 500, last: 599 },
];
const TIMEOUT: Duration = Duration { micros: 30_000_000 };

/// Types of destination.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Files,
    Delta,
    Postgres,
    Http,
}

const TYPES: [(&str, Type); 4] =
    [("files", Type::Files), ("delta", Type::Delta), ("postgres", Type::Postgres), ("http", Type::Http)];

/// Reads all documents of `destinations.yaml`.
pub(super) fn read(reader: &mut Reader<'_>, documents: &[Node]) -> Vec<Destination> {
    let mut destinations: Vec<Destination> = Vec::new();
    for document in documents {
        let Some(fields) = reader.fields(document, "destinations.yaml", &FILE_KEYS) else { continue };
        let items = fields.require(reader, "destinations").and_then(|n| reader.list("destinations", n));
        for item in items.unwrap_or_default() {
            let Some(destination) = destination(reader, item) else { continue };
            match destinations.iter().find(|d| d.name.value == destination.name.value) {
                Some(first) => reader.duplicate_name("the destination", &destination.name, first.name.span),
                None => destinations.push(destination),
            }
        }
    }
    destinations
}

fn destination(reader: &mut Reader<'_>, node: &Node) -> Option<Destination> {
    let fields = reader.fields(node, "a destination", &KEYS)?;
    let name = fields.require(reader, "name").and_then(|n| reader.name("name", n));
    let Some(name) = name else {
        reader.incomplete = true;
        return None;
    };
    let decoded = described(reader, &fields, name.clone());
    if decoded.is_none() {
        reader.undecided.insert(name.value);
    }
    decoded
}

fn described(reader: &mut Reader<'_>, fields: &Fields<'_>, name: Spanned<String>) -> Option<Destination> {
    let baa = fields.get("baa").and_then(|n| reader.boolean("baa", n)).unwrap_or(false);
    let allow = fields.get("allow").map(|n| label_names(reader, "allow", n)).unwrap_or_default();
    let purposes = fields.get("purposes").map(|n| reader.text_list("purposes", n)).unwrap_or_default();
    let region = fields.get("region").and_then(|n| reader.filled("region", n));
    if !baa {
        without_agreement(reader, &allow);
    }
    let kind = fields.require(reader, "type").and_then(|n| reader.word("type", n, &TYPES))?;
    let kind = match kind {
        Type::Files => files(reader, fields),
        Type::Postgres => postgres(reader, fields),
        Type::Http => http(reader, fields),
        Type::Delta => delta(reader, fields),
    };
    Some(Destination { name, kind: kind?, region, allow, purposes, baa })
}

fn files(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<DestinationKind> {
    meaningless(
        reader,
        fields,
        &[&["url", "timeout"], &OF_POSTGRES, &OF_HTTP],
        "a `files` destination has a `location`",
    );
    let location = fields.require(reader, "location").and_then(|n| reader.filled("location", n));
    let format = fields.get("format").map_or(Some(FileFormat::Parquet), |n| reader.word("format", n, &FORMATS));
    Some(DestinationKind::Files { location: location?, format: format? })
}

fn delta(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<DestinationKind> {
    meaningless(
        reader,
        fields,
        &[&["url", "timeout"], &OF_FILES, &OF_POSTGRES, &OF_HTTP],
        "a `delta` destination has a `location`",
    );
    let location = fields.require(reader, "location").and_then(|n| reader.filled("location", n));
    Some(DestinationKind::Delta { location: location? })
}

/// Health data in `allow` of a destination that no agreement covers: it would never get them.
fn without_agreement(reader: &mut Reader<'_>, allow: &[Spanned<String>]) {
    for label in allow.iter().filter(|l| is_health(&l.value)) {
        reader.findings.push(
            Diagnostic::error(Code::NoMeaning, label.span, format!("`{}` does nothing here", label.value))
                .with_label("health data go only where `baa: true` says that an agreement covers them")
                .with_help("remove it, or add `baa: true` if there is an agreement"),
        );
    }
}

fn postgres(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<DestinationKind> {
    let others: [&[&str]; 3] = [&["location", "timeout"], &OF_FILES, &OF_HTTP];
    meaningless(reader, fields, &others, "a `postgres` destination has a `url` and a `schema`");
    let url = fields.require(reader, "url").and_then(|n| address(reader, n, &["postgres://", "postgresql://"]));
    let schema =
        fields.get("schema").map_or(Some("public".to_owned()), |n| reader.filled("schema", n).map(|s| s.value));
    Some(DestinationKind::Postgres { url: url?, schema: schema? })
}

fn http(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<DestinationKind> {
    let others: [&[&str]; 3] = [&["location"], &OF_FILES, &OF_POSTGRES];
    meaningless(reader, fields, &others, "an `http` destination has a `url`");
    let rows = fields.get("rows").map_or(Some(1), |n| reader.count("rows", n).map(|c| c.value));
    let write = request(reader, fields, ("POST", HttpBody::Rows), None);
    let delete = fields.get("delete").map(|node| {
        let inner = reader.fields(node, "delete", &DELETE_KEYS)?;
        request(reader, &inner, ("DELETE", HttpBody::Nothing), Some(write.as_ref().map(|w| &w.url)))
    });
    let alias = fields.get("alias").map(|node| {
        let inner = reader.fields(node, "alias", &DELETE_KEYS)?;
        request(reader, &inner, ("POST", HttpBody::Nothing), Some(write.as_ref().map(|w| &w.url)))
    });
    let headers = fields.get("headers").map_or(Some(Vec::new()), |n| templates(reader, "headers", n));
    let success = fields.get("success").map_or(Some(SUCCESS.to_vec()), |n| codes(reader, "success", n));
    let retryable = fields.get("retryable").map_or(Some(RETRYABLE.to_vec()), |n| codes(reader, "retryable", n));
    let rejected = fields.get("rejected").map(|n| rejected(reader, n));
    let timeout = fields.get("timeout").map_or(Some(TIMEOUT), |n| reader.duration("timeout", n).map(|d| d.value));
    let destination = HttpDestination {
        write: write?,
        delete: open(delete)?,
        alias: open(alias)?,
        headers: headers?,
        rows: rows?,
        success: success?,
        retryable: retryable?,
        rejected: open(rejected)?,
        timeout: timeout?,
    };
    let forms = [Some(&destination.write), destination.delete.as_ref(), destination.alias.as_ref()];
    let has_form = forms.into_iter().flatten().any(|r| matches!(r.body, HttpBody::Form(_)));
    if let (true, true, Some(node)) = (has_form, destination.rows > 1, fields.get("rows")) {
        let finding = Diagnostic::error(Code::Destination, node.span, "a form has the fields of one row");
        reader.findings.push(finding.with_label("more than one row").with_help("remove `rows`, or send a `body`"));
    }
    if let Err(failure) = Requests::new(&destination, &BTreeMap::new()) {
        reader.request_failure(&failure);
    }
    Some(DestinationKind::Http(Box::new(destination)))
}

/// What is not said is fine, what is said wrongly is not.
fn open<T>(said: Option<Option<T>>) -> Option<Option<T>> {
    said.map_or(Some(None), |value| value.map(Some))
}

/// One request; `otherwise` is the address that it has without a `url`, if that one is right.
fn request(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    (method, body): (&'static str, HttpBody),
    otherwise: Option<Option<&Spanned<String>>>,
) -> Option<HttpRequest> {
    let method = fields.get("method").map_or(Some(method), |n| reader.word("method", n, &METHODS));
    let own = match (fields.get("url"), otherwise) {
        (None, Some(url)) => url.cloned(),
        _ => fields.require(reader, "url").and_then(|n| address(reader, n, &["https://", "http://"])),
    };
    let body = match (fields.get("body"), fields.get("form")) {
        (Some(node), None) => reader.filled("body", node).map(HttpBody::Json),
        (None, Some(node)) => templates(reader, "form", node).map(HttpBody::Form),
        (Some(body), Some(form)) => {
            reader.conflict(form.span, "form", body.span, "body", "a request has one of them");
            None
        }
        (None, None) => Some(body),
    };
    Some(HttpRequest { method: method?.to_owned(), url: own?, body: body? })
}

/// Names and their templates.
fn templates(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
    let entries = reader.entries(node, key)?;
    let mut all = Vec::new();
    for entry in entries {
        all.push((entry.key.clone(), reader.filled(&entry.key.value, &entry.value)?));
    }
    Some(all)
}

fn codes(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Vec<StatusRange>> {
    let mut all = Vec::new();
    for item in reader.one_or_list(key, node) {
        let text = reader.scalar(key, item)?;
        let Some(range) = StatusRange::parse(&text.value) else {
            let shown = reader.shown(text.span);
            let finding = Diagnostic::error(Code::OutOfRange, text.span, format!("`{shown}` is no HTTP status"));
            reader.findings.push(finding.with_label("expected 200 to 599, or such as `5xx`"));
            return None;
        };
        all.push(range);
    }
    (!all.is_empty()).then_some(all)
}

fn rejected(reader: &mut Reader<'_>, node: &Node) -> Option<RejectedRows> {
    let fields = reader.fields(node, "rejected", &REJECTED_KEYS)?;
    let at = fields.require(reader, "at").and_then(|n| reader.text("at", n));
    let pointer = |reader: &mut Reader<'_>, key: &str| fields.get(key).map(|n| reader.text(key, n).map(|t| t.value));
    let (index, value, reason) = (pointer(reader, "index"), pointer(reader, "value"), pointer(reader, "reason"));
    let column = fields.get("column").map(|n| reader.filled("column", n).map(|t| t.value));
    let status = fields.get("status").map(|n| codes(reader, "status", n));
    let row = match (index, column, value) {
        (Some(index), None, None) => RejectedBy::Index(index?),
        (None, Some(column), Some(value)) => RejectedBy::Column(value?, column?),
        _ => {
            let finding = Diagnostic::error(Code::Destination, fields.span(), "`rejected` must say how a row is named");
            reader.findings.push(
                finding
                    .with_label("neither `index` alone, nor `column` with `value`")
                    .with_help("write `index: /index` (from 0), or `column: email` and `value: /email`"),
            );
            return None;
        }
    };
    Some(RejectedRows { at: at?, row, reason: open(reason)?, status: open(status)? })
}

/// A URL that begins as it must, or with a template.
fn address(reader: &mut Reader<'_>, node: &Node, schemes: &[&str]) -> Option<Spanned<String>> {
    let url = reader.filled("url", node)?;
    let begins = |scheme: &&str| url.value.trim_start().to_ascii_lowercase().starts_with(*scheme);
    // an address that comes from the environment is not known where nothing is set
    if schemes.iter().any(begins) || url.value.starts_with("${") {
        return Some(url);
    }
    let expected: Vec<String> = schemes.iter().map(|s| format!("{s}...")).collect();
    let finding = Diagnostic::error(Code::Destination, url.span, "this `url` cannot be used");
    reader.findings.push(finding.with_label(format!("expected {}", expected.join(" or "))));
    None
}

fn meaningless(reader: &mut Reader<'_>, fields: &Fields<'_>, keys: &[&[&str]], why: &str) {
    for keys in keys {
        fields.meaningless(reader, keys, why);
    }
}
