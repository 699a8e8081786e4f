//! Rows as requests to a service.
//!
//! A batch is one request, made of its rows by the destination's templates ([`crate::model::Requests`]). Its answer is
//! judged by a pure function:
//!
//! | answer | meaning |
//! |---|---|
//! | a code of `rejected.status` (default `success`) with a list of rejected rows where `rejected` says | these are rejected, the others arrived |
//! | a code of `success` (default 2xx; 404 and 410 too for deletes) | all arrived |
//! | a code of `retryable` (default 408, 425, 429, 5xx) | later; `Retry-After` is kept |
//! | 401, 403, 407 or a redirect | nothing will get through: the sync stops |
//! | any other code | refused: some row is at fault |
//!
//! No answer, or a broken one: later, and the rows may have arrived. Requests carry the same `Idempotency-Key` whenever they
//! are sent again. Reasons hold neither values of rows nor secrets: what an answer repeats of them is taken out.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{HttpDestination, JsonRow, RejectedBy, RenderedRequest, RequestKind, Requests, Secret, StatusRange};
use crate::sync::destination::{Batch, Capabilities, Delivery, Destination, RowOutcome};
use crate::sync::json::objects;
use crate::sync::life::Operation;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of an answer that are read.
const MOST_ANSWER: usize = 4 << 20;
/// Characters of an answer that a reason repeats.
const MOST_REASON: usize = 200;
/// Values shorter than this are left in reasons: `1` is in every text.
const SHORTEST_HIDDEN: usize = 3;

/// A service that takes requests.
#[derive(Debug)]
pub struct Http {
    definition: HttpDestination,
    secrets: BTreeMap<String, Secret>,
    client: Client,
}

impl Http {
    /// The destination; nothing is contacted yet.
    ///
    /// # Errors
    /// `Usage` when there can be no client, as without certificates on the machine.
    pub fn open(definition: HttpDestination, secrets: BTreeMap<String, Secret>) -> Result<Self> {
        let timeout = Duration::from_micros(definition.timeout.micros.unsigned_abs());
        // where a request is redirected to has not been agreed on, and would get its headers
        let client = Client::builder().redirect(Policy::none()).timeout(timeout).build();
        let client = client.or_fail(ErrorKind::Usage, || "requests cannot be made on this machine".to_owned())?;
        Ok(Self { definition, secrets, client })
    }

    async fn send(&self, batch: &Batch) -> Result<Delivery> {
        let rows = json_rows(batch)?;
        let merged = batch.merged_into.first().is_some_and(Option::is_some);
        let kind = match batch.operations.first() {
            Some(Operation::Delete) if merged && self.definition.alias.is_some() => RequestKind::Alias,
            Some(Operation::Delete) => RequestKind::Delete,
            _ => RequestKind::Write,
        };
        let rendered = Requests::new(&self.definition, &self.secrets).and_then(|r| r.render(kind, &rows));
        let request = match rendered {
            Ok(request) => request,
            Err(failure) => return Ok(Delivery::Refused { reason: failure.message }),
        };
        let built = match self.build(&request) {
            Ok(built) => built,
            Err(reason) => return Ok(Delivery::Refused { reason }),
        };
        let hidden = Hidden { rows: &rows, request: &request, secrets: &self.secrets };
        let answer = match self.client.execute(built).await {
            Ok(answer) => answer,
            Err(error) => return Ok(unanswered(error)),
        };
        let (status, after) = (answer.status().as_u16(), retry_after(answer.headers(), Utc::now()));
        match text_of(answer).await {
            Ok((body, cut)) => judge(&self.definition, kind, &Answer { status, after, body, cut }, &hidden),
            Err(error) => Ok(unanswered(error)),
        }
    }

    /// The request as the client takes it, or why it cannot.
    fn build(&self, request: &RenderedRequest) -> std::result::Result<reqwest::Request, String> {
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| "no such method".to_owned())?;
        let url = Url::parse(&request.url).map_err(|e| format!("the URL that the template makes is none: {e}"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let no_header = || format!("the header `{name}` has characters that no header can have");
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| no_header())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| no_header())?;
            value.set_sensitive(true);
            headers.append(header, value);
        }
        let builder = self.client.request(method, url).headers(headers);
        let builder = match &request.body {
            Some(body) => builder.body(body.clone()),
            None => builder,
        };
        builder.build().map_err(|e| e.without_url().to_string())
    }
}

impl Destination for Http {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            upsert: true,
            insert: true,
            update: true,
            append: true,
            delete: self.definition.delete.is_some(),
            replace: false,
            idempotent: false,
            remembers_batches: false,
            rows_per_batch: usize::try_from(self.definition.rows).ok(),
            concurrent: true,
            deletes_apart: true,
            renames: self.definition.alias.is_some(),
        }
    }

    /// The host, and a hash of the path, which may be a secret.
    fn place(&self) -> String {
        let url = &self.definition.write.url.value;
        let path = url.split('?').next().unwrap_or_default();
        let host = path.split_once("://").map_or(path, |(_, rest)| rest).split('/').next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let hash = hex::encode(Sha256::digest(path.as_bytes()));
        format!("{host} {}", hash.get(..12).unwrap_or_default())
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Delivery>> {
        Box::pin(self.send(batch))
    }
}

/// The rows as templates see them.
fn json_rows(batch: &Batch) -> Result<Vec<JsonRow>> {
    let mut rows = objects(&batch.rows)?;
    for (index, row) in rows.iter_mut().enumerate() {
        let own = [
            ("_operation", batch.operations.get(index).map(|o| Value::from(o.word()))),
            ("_change", batch.changes.get(index).map(|c| Value::from(*c))),
            ("_idempotency_key", batch.idempotency_keys.get(index).map(|k| Value::from(k.as_str()))),
            ("_merged_into", batch.merged_into.get(index).map(|key| Value::from(key.as_deref()))),
        ];
        row.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    Ok(rows)
}

/// Reads an answer up to a limit, and says whether it was longer.
async fn text_of(mut answer: reqwest::Response) -> std::result::Result<(String, bool), reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MOST_ANSWER {
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), true));
        }
    }
    Ok((String::from_utf8_lossy(&bytes).into_owned(), false))
}

fn unanswered(error: reqwest::Error) -> Delivery {
    let error = error.without_url();
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke before the answer came"
    };
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Delivery::Later { reason: format!("{what}: {cause}"), after: None, unknown: !error.is_connect() }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some((at.with_timezone(&Utc) - now).to_std().unwrap_or_default())
}

/// What came back.
struct Answer {
    status: u16,
    after: Option<Duration>,
    body: String,
    /// It was longer.
    cut: bool,
}

/// What must not be repeated.
struct Hidden<'a> {
    rows: &'a [JsonRow],
    request: &'a RenderedRequest,
    secrets: &'a BTreeMap<String, Secret>,
}

impl Hidden<'_> {
    /// A short text in one line, without values of rows and headers.
    fn shown(&self, text: &str) -> String {
        let mut values: Vec<String> = self.rows.iter().flat_map(|row| row.values().flat_map(texts)).collect();
        values.extend(self.request.headers.iter().flat_map(|(_, value)| {
            // a service may repeat the token of `Bearer TOKEN` alone
            value.split_whitespace().map(str::to_owned).chain([value.clone()])
        }));
        values.extend(self.secrets.values().map(|secret| secret.reveal().to_owned()));
        values.retain(|value| value.chars().count() >= SHORTEST_HIDDEN);
        values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
        let mut shown = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for value in values {
            shown = shown.replace(&value, "***");
        }
        match shown.char_indices().nth(MOST_REASON) {
            Some((end, _)) => format!("{}...", shown.get(..end).unwrap_or_default()),
            None => shown,
        }
    }
}

/// The texts and numbers inside a value.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}

fn judge(definition: &HttpDestination, kind: RequestKind, answer: &Answer, hidden: &Hidden<'_>) -> Result<Delivery> {
    let status = answer.status;
    let is = |ranges: &[StatusRange]| ranges.iter().any(|range| range.contains(status));
    let reason = || format!("HTTP {status} {}", hidden.shown(&answer.body)).trim().to_owned();
    let success = is(&definition.success) || (kind == RequestKind::Delete && matches!(status, 404 | 410));
    if !success && is(&definition.retryable) {
        return Ok(Delivery::Later { reason: reason(), after: answer.after, unknown: false });
    }
    if let Some(rows) = rejected(definition, answer, hidden)? {
        return Ok(Delivery::Rows(rows));
    }
    if success {
        return Ok(Delivery::All);
    }
    match status {
        401 | 403 | 407 => {
            Err(Error::new(ErrorKind::Failed, reason()).with_help("look at the `headers` of the destination"))
        }
        300..=399 => Err(Error::new(ErrorKind::Failed, format!("HTTP {status}: the service is somewhere else"))
            .with_help("redirects are not followed: write the new `url`")),
        _ => Ok(Delivery::Refused { reason: reason() }),
    }
}

/// One answer a row, if the answer names rows that were rejected.
fn rejected(definition: &HttpDestination, answer: &Answer, hidden: &Hidden<'_>) -> Result<Option<Vec<RowOutcome>>> {
    let Some(places) = &definition.rejected else { return Ok(None) };
    let believed = places.status.as_ref().unwrap_or(&definition.success);
    if !believed.iter().any(|range| range.contains(answer.status)) {
        return Ok(None);
    }
    if answer.cut {
        let message = format!("the answer is longer than {} MiB and may name rejected rows", MOST_ANSWER >> 20);
        return Err(Error::new(ErrorKind::Failed, message)
            .with_help("send fewer rows at once: `rows` of the destination, or `batch: {rows: ...}` of the sync"));
    }
    let body: Option<Value> = serde_json::from_str(&answer.body).ok();
    let items = body.as_ref().and_then(|b| b.pointer(&places.at.value)).and_then(Value::as_array);
    let Some(items) = items.filter(|items| !items.is_empty()) else { return Ok(None) };
    let mut outcomes = vec![RowOutcome::Acknowledged; hidden.rows.len()];
    for item in items {
        let reason = places.reason.as_ref().and_then(|at| item.pointer(at));
        let reason = reason.map(|r| r.as_str().map_or_else(|| r.to_string(), str::to_owned)).unwrap_or_default();
        let reason = hidden.shown(&format!("HTTP {} {reason}", answer.status));
        let named = named_rows(&places.row, item, hidden.rows);
        if named.is_empty() {
            let message = "the answer says that a row was rejected, and not which";
            return Err(Error::new(ErrorKind::Failed, message)
                .with_help("look at `rejected` of the destination: does it fit the answers of the service?"));
        }
        for (index, outcome) in outcomes.iter_mut().enumerate() {
            if named.contains(&index) {
                *outcome = RowOutcome::Rejected { reason: reason.clone(), retryable: false };
            }
        }
    }
    Ok(Some(outcomes))
}

/// The rows that an item of the list is about: of several with the value that it repeats, all.
fn named_rows(by: &RejectedBy, item: &Value, rows: &[JsonRow]) -> Vec<usize> {
    match by {
        RejectedBy::Index(at) => item.pointer(at).and_then(index_of).filter(|i| *i < rows.len()).into_iter().collect(),
        RejectedBy::Column(at, column) => {
            let Some(value) = item.pointer(at).map(plain) else { return Vec::new() };
            let is = |row: &JsonRow| row.get(column).map(plain).as_ref() == Some(&value);
            (0..rows.len()).filter(|index| rows.get(*index).is_some_and(is)).collect()
        }
    }
}

fn index_of(value: &Value) -> Option<usize> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    usize::try_from(number).ok()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
