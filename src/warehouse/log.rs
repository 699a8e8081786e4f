//! Entries of a Delta log, as text. Pure: the same change gives the same bytes.
//!
//! Written after the Delta transaction protocol, reader version 1 and writer version 2: no table features, no
//! deletion vectors, no column mapping, no partitions. `txn` carries the run, by which an entry is known
//! as ours.

use super::table::{DataFile, Meta};
use super::writer::StagedFile;
use crate::error::{Context, Error, ErrorKind, Result};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::datatypes::Schema;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake_core::kernel::{Action, Add, Remove, StructType, Transaction};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Our application id in `txn`.
pub(super) const APPLICATION: &str = "kinfold";

/// What one commit does to a table.
#[derive(Debug, Clone)]
pub(super) struct Change<'a> {
    pub(super) run: u64,
    /// When the run was staged; every time in the entry is this one.
    pub(super) at: DateTime<Utc>,
    /// `WRITE`, `MERGE`, `RESTORE`, `OPTIMIZE`: for people who look at the history.
    pub(super) operation: &'static str,
    /// The version it replaces; none for a new table.
    pub(super) read_version: Option<u64>,
    /// New metadata, when the schema changed or the table is new.
    pub(super) metadata: Option<(&'a Meta, &'a Schema)>,
    pub(super) removes: Vec<&'a DataFile>,
    pub(super) adds: Vec<NewFile>,
    /// Whether the same rows move to other files, so that none comes or goes.
    pub(super) same_rows: bool,
}

/// A file that becomes part of the table.
#[derive(Debug, Clone)]
pub(super) struct NewFile {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) rows: Option<u64>,
    pub(super) modified: DateTime<Utc>,
}

impl NewFile {
    pub(super) fn staged(file: &StagedFile, at: DateTime<Utc>) -> Self {
        Self { name: file.name.clone(), size: file.size, rows: Some(file.rows), modified: at }
    }

    pub(super) fn again(file: &DataFile) -> Self {
        Self { name: file.name.clone(), size: file.size, rows: file.rows, modified: file.modified }
    }
}

/// The text of a log entry: one JSON action a line.
///
/// # Errors
/// `Failed` when the schema cannot be expressed.
pub(super) fn entry(change: &Change<'_>) -> Result<String> {
    let at = change.at.timestamp_millis();
    let mut lines = vec![commit_info(change, at)];
    if change.read_version.is_none() {
        lines.push(json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}));
    }
    if let Some((meta, schema)) = change.metadata {
        lines.push(metadata(meta, schema)?);
    }
    for file in &change.removes {
        lines.push(action(&Action::Remove(Remove {
            path: file.name.clone(),
            data_change: !change.same_rows,
            deletion_timestamp: Some(at),
            extended_file_metadata: Some(true),
            partition_values: Some(HashMap::new()),
            size: i64::try_from(file.size).ok(),
            ..Remove::default()
        }))?);
    }
    for file in &change.adds {
        lines.push(action(&Action::Add(Add {
            path: file.name.clone(),
            size: i64::try_from(file.size).or_fail(ErrorKind::Failed, || "a file is too large".to_owned())?,
            modification_time: file.modified.timestamp_millis(),
            data_change: !change.same_rows,
            stats: file.rows.map(|rows| json!({"numRecords": rows}).to_string()),
            ..Add::default()
        }))?);
    }
    let run = i64::try_from(change.run).or_fail(ErrorKind::Failed, || "the run number is too large".to_owned())?;
    lines.push(action(&Action::Txn(Transaction::new_with_last_update(APPLICATION, run, Some(at))))?);
    let mut text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    text.push('\n');
    Ok(text)
}

fn commit_info(change: &Change<'_>, at: i64) -> Value {
    let mut info = json!({
        "timestamp": at,
        "operation": change.operation,
        "operationParameters": {"run": change.run.to_string()},
        "isolationLevel": "Serializable",
        "isBlindAppend": change.removes.is_empty(),
        "engineInfo": concat!("kinfold/", env!("CARGO_PKG_VERSION")),
        "operationMetrics": {
            "numFiles": change.adds.len().to_string(),
            "numOutputRows": change.adds.iter().filter_map(|f| f.rows).sum::<u64>().to_string(),
            "numRemovedFiles": change.removes.len().to_string(),
        },
    });
    if let Some(version) = change.read_version {
        info["readVersion"] = version.into();
    }
    json!({"commitInfo": info})
}

fn metadata(meta: &Meta, schema: &Schema) -> Result<Value> {
    let kernel: StructType = schema
        .try_into_kernel()
        .or_fail(ErrorKind::Failed, || "a schema cannot be written to a Delta log".to_owned())?;
    let schema_text =
        serde_json::to_string(&kernel).or_fail(ErrorKind::Failed, || "a schema cannot be written".to_owned())?;
    Ok(json!({"metaData": {
        "id": meta.id,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema_text,
        "partitionColumns": [],
        "configuration": meta.configuration,
        "createdTime": meta.created_ms,
    }}))
}

fn action(action: &Action) -> Result<Value> {
    serde_json::to_value(action).or_fail(ErrorKind::Failed, || "a Delta action cannot be written".to_owned())
}

/// The metadata of a table that is new.
pub(super) fn new_meta(id: String, at: DateTime<Utc>) -> Meta {
    Meta { id, created_ms: Some(at.timestamp_millis()), configuration: BTreeMap::new(), reader: 1, writer: 2 }
}

/// Which run made a log entry; `None` when another writer did.
pub(super) fn run_of(entry: &[u8]) -> Option<u64> {
    entry.split(|b| *b == b'\n').find_map(|line| {
        let value: Value = serde_json::from_slice(line).ok()?;
        let txn = value.get("txn")?;
        (txn.get("appId")? == APPLICATION).then(|| txn.get("version")?.as_u64())?
    })
}

/// Makes sure that an entry of ours is legal on top of a table that others may have changed.
///
/// # Errors
/// `Data` when another writer upgraded the table beyond what we write.
pub(super) fn check_writable(name: &str, meta: &Meta) -> Result<()> {
    let what = if meta.reader > 1 || meta.writer > 2 {
        format!("was upgraded by another writer (reader {}, writer {})", meta.reader, meta.writer)
    } else if meta.configuration.get("delta.appendOnly").is_some_and(|v| v == "true") {
        "was made append-only by another writer".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Data, format!("table `{name}` {what}"))
        .with_help("move its folder away; the next run writes it anew"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use deltalake_core::arrow::datatypes::{DataType, Field};

    #[test]
    fn an_entry_is_a_function_of_the_change_and_names_its_run() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let meta = new_meta("id-1".to_owned(), at);
        let change = Change {
            run: 7,
            at,
            operation: "WRITE",
            read_version: None,
            metadata: Some((&meta, &schema)),
            removes: vec![],
            adds: vec![NewFile { name: "a b.parquet".into(), size: 10, rows: Some(3), modified: at }],
            same_rows: false,
        };
        let text = entry(&change).unwrap();
        assert_eq!(text, entry(&change).unwrap());
        assert_eq!(run_of(text.as_bytes()), Some(7));
        let kinds: Vec<String> = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap().as_object().unwrap().keys().next().unwrap().clone())
            .collect();
        assert_eq!(kinds, ["commitInfo", "protocol", "metaData", "add", "txn"]);
        assert!(text.contains(r#""path":"a%20b.parquet""#), "{text}");
        assert!(text.contains(r#"{\"numRecords\":3}"#), "{text}");
    }

    #[test]
    fn entries_of_others_are_not_ours() {
        assert_eq!(run_of(br#"{"txn":{"appId":"spark","version":7}}"#), None);
        assert_eq!(run_of(b"{\"commitInfo\":{}}\nnot json\n"), None);
    }
}
