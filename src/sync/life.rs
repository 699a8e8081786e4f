//! The life of a row at a destination, and the state table that keeps it.
//!
//! planned → sent → acknowledged | rejected. A row whose fate is unknown is *sent*; so is one that was only
//! planned when the process died, because nobody can tell the two apart.

use super::hash::RowHash;
use crate::error::{Context, Error, ErrorKind, Result};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use deltalake_core::arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is done with a row at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// It is new.
    Insert,
    /// It is there and changes.
    Update,
    /// It goes.
    Delete,
}

impl Operation {
    /// The word used in state tables, files and idempotency keys.
    pub fn word(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Delete].into_iter().find(|o| o.word() == word)
    }
}

/// Where a row's last change stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// Handed over, or about to be; the answer is not known.
    Sent,
    /// The destination has it.
    Acknowledged,
    /// The destination refused it and still has what it had.
    Rejected {
        /// Why.
        reason: String,
        /// Whether the same row may be accepted later.
        retryable: bool,
    },
}

impl Life {
    fn word(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Acknowledged => "acknowledged",
            Self::Rejected { .. } => "rejected",
        }
    }
}

/// What is known of one key at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    /// The key as text.
    pub key: Arc<str>,
    /// Hash of the row that the destination acknowledged; none when it has no such row.
    pub row_hash: Option<RowHash>,
    /// Hash of the row of the last change; none when that was a delete.
    pub planned_hash: Option<RowHash>,
    /// What the last change was.
    pub operation: Operation,
    /// Where the last change stands.
    pub life: Life,
    /// Number of the last change of this key, from 1.
    pub change_number: i64,
    /// How often the last change was sent.
    pub attempt: i64,
    /// When the destination last acknowledged a change of this key.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Lease epoch of the run that last changed this row.
    pub epoch: u64,
    /// Where the row was sent; what is known says nothing about other places.
    pub place: Arc<str>,
    /// A row was handed over whose answer was lost, and nothing was acknowledged since: it may be there, whatever
    /// became of later tries.
    pub perhaps_there: bool,
}

impl StateRow {
    /// The row as it is known at another place: not there, but its changes are counted on.
    #[must_use]
    pub(super) fn elsewhere(self, place: &Arc<str>) -> Self {
        Self {
            row_hash: None,
            planned_hash: None,
            operation: Operation::Delete,
            life: Life::Acknowledged,
            acknowledged_at: None,
            place: Arc::clone(place),
            perhaps_there: false,
            ..self
        }
    }

    /// Whether the destination holds, or may hold, a row of this key.
    pub fn may_be_there(&self) -> bool {
        self.row_hash.is_some() || self.is_unsure()
    }

    /// Whether the destination may hold a row of this key that it never acknowledged.
    pub(super) fn is_unsure(&self) -> bool {
        self.perhaps_there || (self.life == Life::Sent && self.operation != Operation::Delete)
    }
}

/// What is known of all keys of a sync, by key. Looked up row by row, so hashed; sorted where order shows.
pub type SyncState = HashMap<Arc<str>, StateRow>;

/// Schema of the state table: one row a key, sorted by key.
pub fn state_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        text("key"),
        text("row_hash"),
        text("state"),
        number("change_number"),
        number("attempt"),
        text("last_error"),
        Field::new("retryable", DataType::Boolean, true),
        Field::new("acknowledged_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        text("operation"),
        text("planned_hash"),
        number("epoch"),
        text("place"),
        Field::new(PERHAPS_THERE, DataType::Boolean, true),
    ]))
}

/// All that is known as a batch of the state table, sorted by key.
///
/// # Errors
/// `Failed` when the batch cannot be made.
pub(super) fn table_of(state: &SyncState) -> Result<RecordBatch> {
    let mut rows: Vec<&StateRow> = state.values().collect();
    rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    to_batch(rows.iter().copied())
}

/// State rows as a batch of the state table.
///
/// # Errors
/// `Failed` when the batch cannot be made.
pub(super) fn to_batch<'a>(rows: impl Iterator<Item = &'a StateRow> + Clone) -> Result<RecordBatch> {
    let hex = |h: Option<RowHash>| h.map(super::hash::RowHash::to_hex);
    let rejection = |r: &StateRow| match &r.life {
        Life::Rejected { reason, retryable } => Some((reason.clone(), *retryable)),
        _ => None,
    };
    let epoch = |r: &StateRow| i64::try_from(r.epoch).unwrap_or(i64::MAX);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.clone().map(|r| r.key.as_ref()))),
        Arc::new(rows.clone().map(|r| hex(r.row_hash)).collect::<StringArray>()),
        Arc::new(StringArray::from_iter_values(rows.clone().map(|r| r.life.word()))),
        Arc::new(Int64Array::from_iter_values(rows.clone().map(|r| r.change_number))),
        Arc::new(Int64Array::from_iter_values(rows.clone().map(|r| r.attempt))),
        Arc::new(rows.clone().map(|r| rejection(r).map(|(reason, _)| reason)).collect::<StringArray>()),
        Arc::new(rows.clone().map(|r| rejection(r).map(|(_, retryable)| retryable)).collect::<BooleanArray>()),
        Arc::new(
            rows.clone()
                .map(|r| r.acknowledged_at.map(|t| t.timestamp_micros()))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
        Arc::new(StringArray::from_iter_values(rows.clone().map(|r| r.operation.word()))),
        Arc::new(rows.clone().map(|r| hex(r.planned_hash)).collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(rows.clone().map(epoch))),
        Arc::new(StringArray::from_iter_values(rows.clone().map(|r| r.place.as_ref()))),
        Arc::new(rows.map(|r| Some(r.is_unsure())).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(state_schema(), columns)
        .or_fail(ErrorKind::Failed, || "the state of a sync cannot be put together".to_owned())
}

/// Folds rows of the state table, or of the log, over what is known. A row of an older run never replaces one
/// of a newer run.
///
/// # Errors
/// `Data` when the rows are not those of a state table.
pub(super) fn fold(state: &mut SyncState, batch: &RecordBatch) -> Result<()> {
    let columns = Columns::of(batch)?;
    let mut place: Arc<str> = "".into();
    for index in 0..batch.num_rows() {
        // One text for all rows that are at one place, which is nearly always all.
        let at = columns.text("place", index).unwrap_or_default();
        if place.as_ref() != at {
            place = at.into();
        }
        let row = columns.row(index, &place)?;
        if state.get(&row.key).is_none_or(|known| known.epoch <= row.epoch) {
            state.insert(Arc::clone(&row.key), row);
        }
    }
    Ok(())
}

/// The columns of a state batch, found by name and type.
struct Columns<'a>(BTreeMap<&'static str, &'a ArrayRef>);

/// A column that tables of earlier versions lack.
const PERHAPS_THERE: &str = "perhaps_there";

const NAMES: [&str; 12] = [
    "key",
    "row_hash",
    "state",
    "change_number",
    "attempt",
    "last_error",
    "retryable",
    "acknowledged_at",
    "operation",
    "planned_hash",
    "epoch",
    "place",
];

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let expected = state_schema();
        let mut columns = BTreeMap::new();
        for (name, field) in NAMES.iter().zip(expected.fields()) {
            let column = batch.column_by_name(name).filter(|c| c.data_type() == field.data_type());
            let column =
                column.ok_or_else(|| damaged(&format!("it has no column `{name}` of type {}", field.data_type())))?;
            columns.insert(*name, column);
        }
        let perhaps = batch.column_by_name(PERHAPS_THERE).filter(|c| c.data_type() == &DataType::Boolean);
        columns.extend(perhaps.map(|column| (PERHAPS_THERE, column)));
        Ok(Self(columns))
    }

    fn text(&self, name: &str, index: usize) -> Option<&'a str> {
        let column = self.0.get(name)?.as_string::<i32>();
        column.is_valid(index).then(|| column.value(index))
    }

    fn number(&self, name: &str, index: usize) -> Option<i64> {
        let column = self.0.get(name)?.as_primitive::<Int64Type>();
        column.is_valid(index).then(|| column.value(index))
    }

    fn hash(&self, name: &str, index: usize) -> Result<Option<RowHash>> {
        let text = self.text(name, index);
        text.map(|t| RowHash::from_hex(t).ok_or_else(|| damaged("a hash is not 32 hexadecimal digits"))).transpose()
    }

    fn life(&self, index: usize) -> Option<Life> {
        match self.text("state", index)? {
            "sent" => Some(Life::Sent),
            "acknowledged" => Some(Life::Acknowledged),
            "rejected" => Some(Life::Rejected {
                reason: self.text("last_error", index).unwrap_or_default().to_owned(),
                retryable: self.is_true("retryable", index),
            }),
            _ => None,
        }
    }

    fn is_true(&self, name: &str, index: usize) -> bool {
        let column = self.0.get(name).map(|c| c.as_boolean());
        column.is_some_and(|c| c.is_valid(index) && c.value(index))
    }

    fn row(&self, index: usize, place: &Arc<str>) -> Result<StateRow> {
        let lacks = |what: &str| damaged(&format!("a row has no valid {what}"));
        let at = self.0.get("acknowledged_at").map(|c| c.as_primitive::<TimestampMicrosecondType>());
        Ok(StateRow {
            key: self.text("key", index).ok_or_else(|| lacks("key"))?.into(),
            row_hash: self.hash("row_hash", index)?,
            planned_hash: self.hash("planned_hash", index)?,
            operation: self.text("operation", index).and_then(Operation::of).ok_or_else(|| lacks("operation"))?,
            life: self.life(index).ok_or_else(|| lacks("state"))?,
            change_number: self.number("change_number", index).ok_or_else(|| lacks("change number"))?,
            attempt: self.number("attempt", index).unwrap_or(0),
            acknowledged_at: at
                .filter(|c| c.is_valid(index))
                .and_then(|c| DateTime::from_timestamp_micros(c.value(index))),
            epoch: self.number("epoch", index).and_then(|e| u64::try_from(e).ok()).unwrap_or(0),
            place: Arc::clone(place),
            perhaps_there: self.is_true(PERHAPS_THERE, index),
        })
    }
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Data, format!("the state of a sync is damaged: {why}"))
        .with_help("it was changed by hand or by a newer version; go back to an earlier version of the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, life: Life, epoch: u64) -> StateRow {
        StateRow {
            key: key.into(),
            row_hash: RowHash::from_hex(&"ab".repeat(16)),
            planned_hash: None,
            operation: Operation::Delete,
            life: life.clone(),
            change_number: 7,
            attempt: 2,
            acknowledged_at: DateTime::from_timestamp_micros(1_700_000_000_000_001),
            epoch,
            place: "files".into(),
            perhaps_there: matches!(life, Life::Rejected { .. }),
        }
    }

    #[test]
    fn rows_survive_the_table_and_newer_runs_win() {
        let rejected = Life::Rejected { reason: "too long".into(), retryable: true };
        let rows = [row("a", rejected, 2), row("b", Life::Sent, 3), row("c", Life::Acknowledged, 1)];
        let mut state = SyncState::new();
        fold(&mut state, &to_batch(rows.iter()).unwrap()).unwrap();
        assert_eq!(table_of(&state).unwrap(), to_batch(rows.iter()).unwrap());
        assert!(rows.iter().all(|r| state[&r.key] == *r));

        let later = [row("a", Life::Acknowledged, 2), row("b", Life::Acknowledged, 2)];
        fold(&mut state, &to_batch(later.iter()).unwrap()).unwrap();
        assert_eq!(state["a"].life, Life::Acknowledged);
        assert_eq!(state["b"].life, Life::Sent);
    }

    #[test]
    fn a_table_without_the_column_of_unsure_rows_is_read() {
        let batch = to_batch([row("a", Life::Acknowledged, 1)].iter()).unwrap();
        let last = batch.num_columns() - 1;
        let old = batch.project(&(0..last).collect::<Vec<_>>()).unwrap();
        let mut state = SyncState::new();
        fold(&mut state, &old).unwrap();
        assert_eq!(state["a"], row("a", Life::Acknowledged, 1));
    }

    #[test]
    fn a_strange_table_is_an_error() {
        let batch = RecordBatch::new_empty(Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true)])));
        let error = fold(&mut SyncState::new(), &batch).unwrap_err();
        assert!(error.to_string().contains("`key`"), "{error}");
    }
}
