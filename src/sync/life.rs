//! The life of a row at a destination, and the state table that keeps it.
//!
//! planned → sent → acknowledged | rejected. A row whose fate is unknown is *sent*; so is one that was only
//! planned when the process died, because nobody can tell the two apart.

use super::hash::RowHash;
use crate::error::{Context, Error, ErrorKind, Result};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{
    Array as _, ArrayAccessor, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Int64Array, Int64Builder, RecordBatch,
    StringArray, StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use deltalake_core::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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

    /// Whether the next run sends the row whether it changes or not.
    pub(super) fn is_sent_again(&self) -> bool {
        matches!(self.life, Life::Sent | Life::Rejected { retryable: true, .. })
    }

    /// Whether the destination may hold a row of this key that it never acknowledged.
    pub(super) fn is_unsure(&self) -> bool {
        self.perhaps_there || (self.life == Life::Sent && self.operation != Operation::Delete)
    }
}

/// What is known of some keys of a sync, by key.
pub type SyncState = BTreeMap<Arc<str>, StateRow>;

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

/// State rows as a batch of the state table.
///
/// # Errors
/// `Failed` when the batch cannot be made.
pub(super) fn to_batch<'a>(rows: impl Iterator<Item = &'a StateRow>) -> Result<RecordBatch> {
    let mut columns = StateColumns::default();
    rows.for_each(|row| columns.push(row));
    RecordBatch::try_new(state_schema(), columns.finish())
        .or_fail(ErrorKind::Failed, || "the state of a sync cannot be put together".to_owned())
}

/// The columns of a batch of the state table, while rows are added: one after the other, because they lie far apart.
#[derive(Default)]
struct StateColumns {
    keys: StringBuilder,
    hashes: StringBuilder,
    lives: StringBuilder,
    numbers: Int64Builder,
    attempts: Int64Builder,
    errors: StringBuilder,
    retryable: BooleanBuilder,
    acknowledged: TimestampMicrosecondBuilder,
    operations: StringBuilder,
    planned: StringBuilder,
    epochs: Int64Builder,
    places: StringBuilder,
    unsure: BooleanBuilder,
}

impl StateColumns {
    fn push(&mut self, row: &StateRow) {
        let rejection = match &row.life {
            Life::Rejected { reason, retryable } => Some((reason, *retryable)),
            _ => None,
        };
        let hex = |hash: Option<RowHash>| hash.map(RowHash::to_hex);
        self.keys.append_value(&row.key);
        self.hashes.append_option(hex(row.row_hash));
        self.lives.append_value(row.life.word());
        self.numbers.append_value(row.change_number);
        self.attempts.append_value(row.attempt);
        self.errors.append_option(rejection.map(|(reason, _)| reason));
        self.retryable.append_option(rejection.map(|(_, retryable)| retryable));
        self.acknowledged.append_option(row.acknowledged_at.map(|at| at.timestamp_micros()));
        self.operations.append_value(row.operation.word());
        self.planned.append_option(hex(row.planned_hash));
        self.epochs.append_value(i64::try_from(row.epoch).unwrap_or(i64::MAX));
        self.places.append_value(&row.place);
        self.unsure.append_value(row.is_unsure());
    }

    /// In the order of [`state_schema`].
    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.keys.finish()),
            Arc::new(self.hashes.finish()),
            Arc::new(self.lives.finish()),
            Arc::new(self.numbers.finish()),
            Arc::new(self.attempts.finish()),
            Arc::new(self.errors.finish()),
            Arc::new(self.retryable.finish()),
            Arc::new(self.acknowledged.finish().with_timezone("UTC")),
            Arc::new(self.operations.finish()),
            Arc::new(self.planned.finish()),
            Arc::new(self.epochs.finish()),
            Arc::new(self.places.finish()),
            Arc::new(self.unsure.finish()),
        ]
    }
}

/// Folds rows of the state table, or of the log, over what is known. A row of an older run never replaces one
/// of a newer run.
///
/// # Errors
/// `Data` when the rows are not those of a state table.
pub(super) fn fold(state: &mut SyncState, batch: &RecordBatch) -> Result<()> {
    for row in state_rows(batch)? {
        match state.entry(Arc::clone(&row.key)) {
            Entry::Occupied(mut known) if known.get().epoch <= row.epoch => drop(known.insert(row)),
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => drop(free.insert(row)),
        }
    }
    Ok(())
}

/// The rows of a batch of the state table, or of the log.
///
/// # Errors
/// As [`fold`].
pub(super) fn state_rows(batch: &RecordBatch) -> Result<Vec<StateRow>> {
    let columns = Columns::of(batch)?;
    let mut place: Arc<str> = "".into();
    let mut row = |index: usize| {
        // One text for all rows that are at one place, which is nearly always all.
        let at = value(columns.places, index).unwrap_or_default();
        if place.as_ref() != at {
            place = at.into();
        }
        columns.row(index, &place)
    };
    (0..batch.num_rows()).map(&mut row).collect()
}

/// A column that tables of earlier versions lack.
const PERHAPS_THERE: &str = "perhaps_there";

/// The columns of a state batch, found by name and type.
struct Columns<'a> {
    keys: &'a StringArray,
    hashes: &'a StringArray,
    lives: &'a StringArray,
    numbers: &'a Int64Array,
    attempts: &'a Int64Array,
    errors: &'a StringArray,
    retryable: &'a BooleanArray,
    acknowledged: &'a TimestampMicrosecondArray,
    operations: &'a StringArray,
    planned: &'a StringArray,
    epochs: &'a Int64Array,
    places: &'a StringArray,
    unsure: Option<&'a BooleanArray>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let schema = state_schema();
        let column = |name: &str| {
            let field = schema.field_with_name(name).or_fail(ErrorKind::Failed, || format!("no column `{name}`"))?;
            let column = batch.column_by_name(name).filter(|c| c.data_type() == field.data_type());
            column.ok_or_else(|| damaged(&format!("it has no column `{name}` of type {}", field.data_type())))
        };
        let perhaps = batch.column_by_name(PERHAPS_THERE).filter(|c| c.data_type() == &DataType::Boolean);
        Ok(Self {
            keys: column("key")?.as_string(),
            hashes: column("row_hash")?.as_string(),
            lives: column("state")?.as_string(),
            numbers: column("change_number")?.as_primitive(),
            attempts: column("attempt")?.as_primitive(),
            errors: column("last_error")?.as_string(),
            retryable: column("retryable")?.as_boolean(),
            acknowledged: column("acknowledged_at")?.as_primitive(),
            operations: column("operation")?.as_string(),
            planned: column("planned_hash")?.as_string(),
            epochs: column("epoch")?.as_primitive(),
            places: column("place")?.as_string(),
            unsure: perhaps.map(AsArray::as_boolean),
        })
    }

    fn row(&self, index: usize, place: &Arc<str>) -> Result<StateRow> {
        let lacks = |what: &str| damaged(&format!("a row has no valid {what}"));
        Ok(StateRow {
            key: value(self.keys, index).ok_or_else(|| lacks("key"))?.into(),
            row_hash: hash(value(self.hashes, index))?,
            planned_hash: hash(value(self.planned, index))?,
            operation: value(self.operations, index).and_then(Operation::of).ok_or_else(|| lacks("operation"))?,
            life: self.life(index).ok_or_else(|| lacks("state"))?,
            change_number: value(self.numbers, index).ok_or_else(|| lacks("change number"))?,
            attempt: value(self.attempts, index).unwrap_or(0),
            acknowledged_at: value(self.acknowledged, index).and_then(DateTime::from_timestamp_micros),
            epoch: value(self.epochs, index).and_then(|e| u64::try_from(e).ok()).unwrap_or(0),
            place: Arc::clone(place),
            perhaps_there: self.unsure.and_then(|unsure| value(unsure, index)).unwrap_or(false),
        })
    }

    fn life(&self, index: usize) -> Option<Life> {
        match value(self.lives, index)? {
            "sent" => Some(Life::Sent),
            "acknowledged" => Some(Life::Acknowledged),
            "rejected" => Some(Life::Rejected {
                reason: value(self.errors, index).unwrap_or_default().to_owned(),
                retryable: value(self.retryable, index).unwrap_or(false),
            }),
            _ => None,
        }
    }
}

/// A value of a column, unless it is null.
fn value<T>(column: impl ArrayAccessor<Item = T>, index: usize) -> Option<T> {
    column.is_valid(index).then(|| column.value(index))
}

fn hash(hex: Option<&str>) -> Result<Option<RowHash>> {
    hex.map(|hex| RowHash::from_hex(hex).ok_or_else(|| damaged("a hash is not 32 hexadecimal digits"))).transpose()
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
        assert_eq!(to_batch(state.values()).unwrap(), to_batch(rows.iter()).unwrap());
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
