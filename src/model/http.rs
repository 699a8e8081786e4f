//! Destinations of type `http`, and the requests that their templates make of rows. Pure: nothing is sent here.
//!
//! Templates are MiniJinja. What `{{ }}` writes is fit for its place: JSON in a body, percent-encoded in a URL, plain in a
//! header or a form field (which is encoded as a whole). So no value of a row can break out of where it stands.
//!
//! A template sees `row` (where requests have one row) and `rows`, each with the columns of the sync and with
//! `_operation`, `_change`, `_idempotency_key` and `_merged_into`; `idempotency_key`, which names the request; `secret('NAME')`; and
//! `basic(user, password)`, the value of a header `Authorization`.

use super::{Duration, Secret};
use crate::diagnostic::Spanned;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value, context};
use serde_json::Map;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Instructions that one request may take to render: thousands of rows with dozens of values.
const MOST_INSTRUCTIONS: u64 = 20_000_000;

/// A service that takes rows as requests.
#[derive(Debug, Clone)]
pub struct HttpDestination {
    /// The request that writes rows.
    pub write: HttpRequest,
    /// The request that deletes rows; without it the destination cannot delete.
    pub delete: Option<HttpRequest>,
    /// The request that says that one key is another now; without it the one is deleted.
    pub alias: Option<HttpRequest>,
    /// Headers of every request: name and template.
    pub headers: Vec<(Spanned<String>, Spanned<String>)>,
    /// Most rows of one request.
    pub rows: u32,
    /// Answers that say that all is well.
    pub success: Vec<StatusRange>,
    /// Answers after which the same request may succeed later.
    pub retryable: Vec<StatusRange>,
    /// Where an answer names rows that were rejected, though the others were taken.
    pub rejected: Option<RejectedRows>,
    /// How long an answer is waited for.
    pub timeout: Duration,
}

/// One request.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: String,
    /// Template of the URL.
    pub url: Spanned<String>,
    /// What is sent.
    pub body: HttpBody,
}

/// What a request sends.
#[derive(Debug, Clone)]
pub enum HttpBody {
    /// The rows as they are: an object, or a list of objects where requests have more than one row.
    Rows,
    /// A template of JSON.
    Json(Spanned<String>),
    /// Fields of a form: name and template.
    Form(Vec<(Spanned<String>, Spanned<String>)>),
    /// Nothing.
    Nothing,
}

/// Status codes from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl StatusRange {
    /// Reads `429` or `5xx`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, width) = match text.strip_suffix("xx") {
            Some(hundred) if hundred.len() == 1 => (hundred.parse::<u16>().ok()? * 100, 99),
            _ => (text.parse().ok()?, 0),
        };
        (200..600).contains(&number).then_some(Self { first: number, last: number + width })
    }

    /// Whether a code is one of them.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

/// Where an answer names the rows that were rejected. All are JSON pointers; those but `at` start at an item of the list.
#[derive(Debug, Clone)]
pub struct RejectedRows {
    /// The list.
    pub at: Spanned<String>,
    /// How an item names its row.
    pub row: RejectedBy,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// Codes of the answers whose list is believed; none for those of success.
    pub status: Option<Vec<StatusRange>>,
}

/// How an item of a list of rejected rows names its row.
#[derive(Debug, Clone)]
pub enum RejectedBy {
    /// By its place among the rows of the request, from 0.
    Index(String),
    /// By a column, whose value it repeats.
    Column(String, String),
}

/// Which template of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// That of rows that are written.
    Write,
    /// That of rows that are deleted.
    Delete,
    /// That of rows whose entity is part of another now.
    Alias,
}

impl HttpDestination {
    /// The request of a kind; none when there is no such request.
    pub fn request(&self, kind: RequestKind) -> Option<&HttpRequest> {
        match kind {
            RequestKind::Write => Some(&self.write),
            RequestKind::Delete => self.delete.as_ref(),
            RequestKind::Alias => self.alias.as_ref(),
        }
    }

    /// Every template with the name that it is rendered under.
    fn templates(&self) -> Vec<(String, &Spanned<String>)> {
        let mut all: Vec<(String, &Spanned<String>)> =
            self.headers.iter().enumerate().map(|(n, (_, text))| (format!("header/{n}"), text)).collect();
        for kind in [RequestKind::Write, RequestKind::Delete, RequestKind::Alias] {
            let Some(request) = self.request(kind) else { continue };
            all.push((name(kind, "url"), &request.url));
            match &request.body {
                HttpBody::Json(text) => all.push((name(kind, "json"), text)),
                HttpBody::Form(fields) => {
                    all.extend(fields.iter().enumerate().map(|(n, (_, text))| (name(kind, &format!("form{n}")), text)));
                }
                HttpBody::Rows | HttpBody::Nothing => {}
            }
        }
        all
    }
}

fn name(kind: RequestKind, part: &str) -> String {
    match kind {
        RequestKind::Write => format!("write/{part}"),
        RequestKind::Delete => format!("delete/{part}"),
        RequestKind::Alias => format!("alias/{part}"),
    }
}

/// A row as templates see it.
pub type JsonRow = Map<String, serde_json::Value>;

/// A request that is ready to be sent. Its texts hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedRequest {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Headers in their order; `Content-Type` and `Idempotency-Key` are among them.
    pub headers: Vec<(String, String)>,
    /// The body; none when nothing is sent.
    pub body: Option<String>,
}

/// Why there is no request.
#[derive(Debug)]
pub struct RenderFailure {
    /// The template's text, to point into.
    pub text: Option<Spanned<String>>,
    /// What is wrong, without values of rows.
    pub message: String,
    /// Bytes of the text.
    pub range: std::ops::Range<usize>,
    /// Whether other values in the rows would not help.
    pub certain: bool,
}

/// Makes requests of rows.
#[derive(Debug)]
pub struct Requests<'d> {
    destination: &'d HttpDestination,
    environment: Environment<'static>,
}

impl<'d> Requests<'d> {
    /// Compiles the templates.
    ///
    /// # Errors
    /// For the first template that cannot be read.
    pub fn new(destination: &'d HttpDestination, secrets: &BTreeMap<String, Secret>) -> Result<Self, RenderFailure> {
        let mut environment = environment(secrets.clone());
        for (name, text) in destination.templates() {
            environment.add_template_owned(name, text.value.clone()).map_err(|e| failure(&e, Some(text)))?;
        }
        Ok(Self { destination, environment })
    }

    /// The request of some rows, at least one.
    ///
    /// # Errors
    /// When a template asks for what is not there, or what it makes is no JSON.
    pub fn render(&self, kind: RequestKind, rows: &[JsonRow]) -> Result<RenderedRequest, RenderFailure> {
        let missing =
            || RenderFailure { text: None, message: "there is no such request".to_owned(), range: 0..0, certain: true };
        let request = self.destination.request(kind).ok_or_else(missing)?;
        let key = request_key(rows);
        let row = if self.destination.rows == 1 { rows.first() } else { None };
        let row = row.map_or(Value::UNDEFINED, |row| Value::from(Serde(row)));
        let context = context! { row, rows => Value::from(Serde(rows)), idempotency_key => key.as_str() };
        let text = |name: String, of: &Spanned<String>| {
            let template = self.environment.get_template(&name).map_err(|e| failure(&e, Some(of)))?;
            template.render(&context).map_err(|e| failure(&e, Some(of)))
        };
        let (kind_of_body, body) = match &request.body {
            HttpBody::Nothing => (None, None),
            HttpBody::Rows => (Some("application/json"), Some(self.plain(rows))),
            HttpBody::Json(of) => {
                let body = text(name(kind, "json"), of)?;
                check_json(&body, of)?;
                (Some("application/json"), Some(body))
            }
            HttpBody::Form(fields) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (number, (field, of)) in fields.iter().enumerate() {
                    form.append_pair(&field.value, &text(name(kind, &format!("form{number}")), of)?);
                }
                (Some("application/x-www-form-urlencoded"), Some(form.finish()))
            }
        };
        let mut headers = Vec::new();
        for (number, (header, of)) in self.destination.headers.iter().enumerate() {
            headers.push((header.value.clone(), text(format!("header/{number}"), of)?.trim().to_owned()));
        }
        let own = [("Content-Type", kind_of_body.map(str::to_owned)), ("Idempotency-Key", Some(key))];
        for (header, value) in own {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(header)) {
                headers.extend(value.map(|value| (header.to_owned(), value)));
            }
        }
        let url = text(name(kind, "url"), &request.url)?.trim().to_owned();
        Ok(RenderedRequest { method: request.method.clone(), url, headers, body })
    }

    /// The rows' own columns as JSON.
    fn plain(&self, rows: &[JsonRow]) -> String {
        let own = |row: &JsonRow| -> JsonRow {
            row.iter().filter(|(name, _)| !name.starts_with('_')).map(|(n, v)| (n.clone(), v.clone())).collect()
        };
        let mut rows: Vec<serde_json::Value> = rows.iter().map(|row| own(row).into()).collect();
        let body = if self.destination.rows == 1 { rows.pop().unwrap_or_default() } else { rows.into() };
        body.to_string()
    }
}

/// Names a request: the row's own key, or a hash of the keys of all its rows.
fn request_key(rows: &[JsonRow]) -> String {
    let key = |row: &JsonRow| row.get("_idempotency_key").and_then(|k| k.as_str()).unwrap_or_default().to_owned();
    match rows {
        [row] => key(row),
        rows => hex::encode(Sha256::digest(rows.iter().map(key).collect::<Vec<_>>().join(" ").as_bytes())),
    }
}

fn check_json(body: &str, of: &Spanned<String>) -> Result<(), RenderFailure> {
    serde_json::from_str::<serde::de::IgnoredAny>(body).map(|_| ()).map_err(|error| RenderFailure {
        text: Some(of.clone()),
        message: format!("what the template makes is no JSON at its line {}, column {}", error.line(), error.column()),
        range: 0..0,
        certain: true,
    })
}

fn environment(secrets: BTreeMap<String, Secret>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_debug(true);
    environment.set_recursion_limit(64);
    environment.set_fuel(Some(MOST_INSTRUCTIONS));
    environment.set_auto_escape_callback(|name| match name.rsplit('/').next() {
        Some("json") => AutoEscape::Custom("json".into()),
        Some("url") => AutoEscape::Custom("url".into()),
        _ => AutoEscape::None,
    });
    environment.set_formatter(format);
    environment.add_function("secret", move |name: String| {
        secrets.get(&name).map(|s| s.reveal().to_owned()).ok_or_else(|| {
            let message = format!("there is no secret `{name}` in kinfold.yaml");
            minijinja::Error::new(ErrorKind::UndefinedError, message)
        })
    });
    environment.add_function("basic", |user: String, password: String| {
        format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
    });
    environment
}

/// Writes a value so that it fits the place.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    let plain = if value.is_none() { String::new() } else { value.to_string() };
    let text = match state.auto_escape() {
        AutoEscape::Custom(place) if place == "json" => serde_json::to_string(value)
            .map_err(|_| minijinja::Error::new(ErrorKind::BadSerialization, "a value cannot be written as JSON"))?,
        AutoEscape::Custom(place) if place == "url" && !value.is_safe() => percent_encoded(&plain),
        _ => plain,
    };
    out.write_str(&text).map_err(minijinja::Error::from)
}

fn percent_encoded(text: &str) -> String {
    let kept = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if kept(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn failure(error: &minijinja::Error, text: Option<&Spanned<String>>) -> RenderFailure {
    let mut inner = error;
    while let Some(next) = std::error::Error::source(inner).and_then(|s| s.downcast_ref::<minijinja::Error>()) {
        inner = next;
    }
    let message = match (inner.kind(), inner.detail()) {
        (ErrorKind::UndefinedError, Some(detail)) => detail.to_owned(),
        (ErrorKind::UndefinedError, None) => "an undefined name is used".to_owned(),
        (ErrorKind::OutOfFuel, _) => "the template does not come to an end".to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let kinds =
        [ErrorKind::UndefinedError, ErrorKind::SyntaxError, ErrorKind::UnknownFunction, ErrorKind::UnknownFilter];
    let certain = kinds.contains(&inner.kind());
    RenderFailure { text: text.cloned(), message, range: inner.range().unwrap_or(0..0), certain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;
    use serde_json::json;

    fn spanned(text: &str) -> Spanned<String> {
        Spanned::new(
            text.to_owned(),
            Span { file: crate::diagnostic::SourceMap::default().add("x", ""), start: 0, end: 0 },
        )
    }

    fn destination(url: &str, body: HttpBody, rows: u32) -> HttpDestination {
        let header = (spanned("Authorization"), spanned("{{ basic(secret('USER'), '') }}"));
        HttpDestination {
            write: HttpRequest { method: "POST".into(), url: spanned(url), body },
            delete: None,
            alias: None,
            headers: vec![header],
            rows,
            success: vec![],
            retryable: vec![],
            rejected: None,
            timeout: Duration { micros: 1 },
        }
    }

    fn rows(values: &[serde_json::Value]) -> Vec<JsonRow> {
        values.iter().map(|v| v.as_object().unwrap().clone()).collect()
    }

    fn render(of: &HttpDestination, given: &[serde_json::Value]) -> Result<RenderedRequest, RenderFailure> {
        let secrets = BTreeMap::from([("USER".to_owned(), Secret::new("Aladdin:open sesame"))]);
        Requests::new(of, &secrets)?.render(RequestKind::Write, &rows(given))
    }

    #[test]
    fn values_cannot_leave_their_place() {
        let body = HttpBody::Json(spanned("{\"a\": {{ row.a }}, \"n\": {{ row.n }}, \"t\": {{ 'to ' ~ row.a }}}"));
        let of = destination("https://h/u/{{ row.a }}?n={{ row.n }}", body, 1);
        let hostile = "\", \"admin\": true, \"x\": \"</b>&?/é";
        let made = render(&of, &[json!({"a": hostile, "n": null, "_idempotency_key": "k"})]).unwrap();
        let body: serde_json::Value = serde_json::from_str(&made.body.unwrap()).unwrap();
        assert_eq!(body, json!({"a": hostile, "n": null, "t": format!("to {hostile}")}));
        assert_eq!(
            made.url,
            "https://h/u/%22%2C%20%22admin%22%3A%20true%2C%20%22x%22%3A%20%22%3C%2Fb%3E%26%3F%2F%C3%A9?n="
        );
    }

    #[test]
    fn headers_have_secrets_a_type_and_a_key() {
        let made = render(&destination("https://h", HttpBody::Rows, 1), &[json!({"b": 1, "_idempotency_key": "k1"})]);
        let made = made.unwrap();
        assert_eq!(made.body.as_deref(), Some("{\"b\":1}"));
        // RFC 7617's example, with the colon that parts user and (empty) password
        let expected = [
            ("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZTo="),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", "k1"),
        ];
        assert_eq!(made.headers, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn batches_are_lists_and_a_half_has_a_key_of_its_own() {
        let of = destination("https://h", HttpBody::Rows, 10);
        let two = [json!({"b": 1, "_idempotency_key": "k1"}), json!({"b": 2, "_idempotency_key": "k2"})];
        let made = render(&of, &two).unwrap();
        assert_eq!(made.body.as_deref(), Some("[{\"b\":1},{\"b\":2}]"));
        let half = render(&of, &two[..1]).unwrap();
        assert_eq!(half.body.as_deref(), Some("[{\"b\":1}]"));
        assert_eq!(half.headers.last().unwrap().1, "k1");
        assert_eq!(made.headers.last().unwrap().1.len(), 64);
    }

    #[test]
    fn forms_are_encoded() {
        let fields = vec![(spanned("To"), spanned("{{ row.to }}")), (spanned("Body"), spanned("Hi {{ row.name }}!"))];
        let of = destination("https://h", HttpBody::Form(fields), 1);
        let made = render(&of, &[json!({"to": "+1555", "name": "A&B"})]).unwrap();
        assert_eq!(made.body.as_deref(), Some("To=%2B1555&Body=Hi+A%26B%21"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let of = destination("https://h", HttpBody::Json(spanned("{\"a\": {{ row.nope }}}")), 1);
        let failed = render(&of, &[json!({"a": 1})]).map(|_| ()).unwrap_err();
        assert_eq!(&failed.text.unwrap().value[failed.range], "row.nope");
        let of = destination("https://h", HttpBody::Json(spanned("{\"a\": \"{{ row.a }}\"}")), 1);
        let failed = render(&of, &[json!({"a": "x"})]).map(|_| ()).unwrap_err();
        assert_eq!(failed.message, "what the template makes is no JSON at its line 1, column 9");
        let of = destination("https://h/{{ secret('NO') }}", HttpBody::Rows, 1);
        let failed = render(&of, &[json!({"a": "x"})]).map(|_| ()).unwrap_err();
        assert_eq!(failed.message, "there is no secret `NO` in kinfold.yaml");
    }

    #[test]
    fn codes() {
        let range = StatusRange::parse;
        assert_eq!(range("5xx"), Some(StatusRange { first: 500, last: 599 }));
        assert!(range("429").is_some_and(|r| r.contains(429) && !r.contains(430)));
        assert_eq!([range("50x"), range("xx"), range("99"), range("600"), range("+xx")], [None; 5]);
    }
}
