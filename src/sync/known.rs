//! What is known of a destination before a sync: the committed state table with the log over it, key by key.
//!
//! The table has a row for every key that was ever sent, so it is never held whole: it is read a few rows at a time, in the
//! order of its keys, once to see what it is about, once to be compared, and once more to be written anew. What a run changes of it is
//! held, and so is the log, which has what runs did that could not commit their state.
//!
//! A state table is written in the order of its keys. One that is not so (somebody else wrote it) is held and sorted.

use super::destination::BatchId;
use super::life::{StateRow, SyncState, fold, state_rows, state_schema, to_batch};
use crate::error::Result;
use crate::warehouse::Table;
use deltalake_core::arrow::array::{Array as _, AsArray as _, RecordBatch};
use deltalake_core::arrow::datatypes::Int64Type;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore;
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::sync::Arc;

/// Rows of a batch of the state table that is written.
const ROWS_PER_BATCH: usize = 8192;

/// The rows of a state table as committed.
#[derive(Debug, Clone)]
pub enum Previous {
    /// They are in a table of the warehouse, by key.
    Stored(Arc<Table>, Arc<dyn ObjectStore>),
    /// They are at hand, by key.
    Held(Vec<RecordBatch>),
}

impl Previous {
    /// None, as before the first run.
    pub fn none() -> Self {
        Self::Held(Vec::new())
    }

    /// Its rows in all columns of a state table that it has.
    fn batches(&self, wanted: impl Fn(&str) -> bool) -> Result<BoxStream<'_, Result<RecordBatch>>> {
        match self {
            Self::Held(batches) => Ok(stream::iter(batches.iter().cloned().map(Ok)).boxed()),
            Self::Stored(table, store) => {
                let schema = state_schema();
                let known = schema.fields().iter().map(|field| field.name().as_str());
                let there = known.filter(|name| wanted(name) && table.schema.field_with_name(name).is_ok());
                table.batches(store, &there.collect::<Vec<_>>())
            }
        }
    }

    /// The same rows at hand and in order.
    async fn held(&self) -> Result<Self> {
        let (mut rows, mut batches) = (SyncState::new(), self.batches(|_| true)?);
        while let Some(batch) = batches.try_next().await? {
            fold(&mut rows, &batch)?;
        }
        Ok(Self::Held(vec![to_batch(rows.values())?]))
    }

    /// What the table says as a whole, without its rows.
    ///
    /// # Errors
    /// `Data` when it is damaged; `Storage`.
    async fn survey(&self, place: &str) -> Result<Survey> {
        let mut survey = Survey { in_order: true, ..Survey::default() };
        let mut batches = self.batches(|name| ["key", "epoch", "place"].contains(&name))?;
        let mut last = String::new();
        while let Some(batch) = batches.try_next().await? {
            let texts = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            let epochs = batch.column_by_name("epoch").and_then(|column| column.as_primitive_opt::<Int64Type>());
            let (Some(keys), Some(places), Some(epochs)) = (texts("key"), texts("place"), epochs) else {
                // reading its rows says what is wrong
                state_rows(&batch)?;
                continue;
            };
            for row in 0..batch.num_rows() {
                let key = keys.value(row);
                survey.in_order &= survey.rows == 0 || last.as_str() < key;
                key.clone_into(&mut last);
                survey.rows += 1;
                survey.here |= places.is_valid(row) && places.value(row) == place;
                let epoch = if epochs.is_valid(row) { u64::try_from(epochs.value(row)).unwrap_or(0) } else { 0 };
                survey.newest = survey.newest.max(Some(epoch));
            }
        }
        Ok(survey)
    }
}

/// What a state table says as a whole.
#[derive(Debug, Default)]
struct Survey {
    rows: u64,
    /// Some row is at the place.
    here: bool,
    /// The newest run in it.
    newest: Option<u64>,
    /// No key is before the one that stands above it.
    in_order: bool,
}

/// What the state table and the log say together of one place.
#[derive(Debug)]
pub(super) struct Known {
    previous: Previous,
    /// Rows of the log, by key: newer than those of the table.
    pub log: SyncState,
    /// Batches that were planned and never answered, oldest first, with the rows they were planned with.
    pub unanswered: BTreeMap<BatchId, Vec<StateRow>>,
    /// Nothing is known of the place.
    pub first: bool,
    /// Some of it is not in the committed state table.
    pub changed: bool,
    /// Newest run that the committed state table contains.
    pub committed: Option<u64>,
    place: Arc<str>,
    /// What is known is to be forgotten.
    forget: bool,
    stored: u64,
}

impl Known {
    /// What a table says; the log is still to be read.
    ///
    /// # Errors
    /// `Data` when it is damaged; `Storage`.
    pub(super) async fn of(previous: Previous, place: &Arc<str>, forget: bool) -> Result<Self> {
        let survey = previous.survey(place).await?;
        let previous = if survey.in_order { previous } else { previous.held().await? };
        Ok(Self {
            previous,
            log: SyncState::new(),
            unanswered: BTreeMap::new(),
            first: forget || !survey.here,
            changed: false,
            committed: survey.newest,
            place: Arc::clone(place),
            forget,
            stored: survey.rows,
        })
    }

    /// Says what follows from the whole log.
    pub(super) fn settle(&mut self) {
        let (place, forget) = (&self.place, self.forget);
        let here = |row: &StateRow| row.place == *place && !forget;
        self.first &= !self.log.values().any(here);
        self.unanswered.retain(|_, rows| rows.iter().all(here));
        self.changed |= self.first && (self.stored > 0 || !self.log.is_empty());
    }

    /// Its rows by key, with those of `over` in the place of theirs.
    ///
    /// # Errors
    /// As [`Known::of`].
    pub(super) fn rows<'a>(&'a self, over: &'a SyncState) -> Result<KnownRows<'a>> {
        Ok(KnownRows {
            known: self,
            stored: self.previous.batches(|_| true)?,
            read: VecDeque::new(),
            log: self.log.values().peekable(),
            over: over.values().peekable(),
        })
    }

    /// A row as it is known at the place.
    fn here(&self, row: StateRow) -> StateRow {
        if row.place == self.place && !self.forget { row } else { row.elsewhere(&self.place) }
    }
}

type Rows<'a> = std::iter::Peekable<btree_map::Values<'a, Arc<str>, StateRow>>;

/// Rows by key while they are read.
pub(super) struct KnownRows<'a> {
    known: &'a Known,
    stored: BoxStream<'a, Result<RecordBatch>>,
    /// Rows of the table that were read and are not taken yet.
    read: VecDeque<StateRow>,
    log: Rows<'a>,
    over: Rows<'a>,
}

impl KnownRows<'_> {
    /// Takes the row of the smallest key that is left, unless that is greater than `last`.
    ///
    /// # Errors
    /// `Data` when the table is damaged; `Storage`.
    pub(super) async fn next_to(&mut self, last: Option<&str>) -> Result<Option<StateRow>> {
        while self.read.is_empty() {
            let Some(batch) = self.stored.try_next().await? else { break };
            self.read.extend(state_rows(&batch)?);
        }
        let heads = [self.read.front(), self.log.peek().copied(), self.over.peek().copied()];
        let Some(key) = heads.into_iter().flatten().map(|row| Arc::clone(&row.key)).min() else { return Ok(None) };
        if last.is_some_and(|last| *key > *last) {
            return Ok(None);
        }
        let stored = if self.read.front().is_some_and(|row| row.key == key) { self.read.pop_front() } else { None };
        let logged = self.log.next_if(|row| row.key == key).cloned();
        let over = self.over.next_if(|row| row.key == key).cloned();
        Ok(over.or_else(|| logged.or(stored).map(|row| self.known.here(row))))
    }
}

/// The rows of a state table that is to be committed: what was known, with what a run changed.
#[derive(Debug)]
pub struct NewState {
    pub(super) known: Known,
    pub(super) changed: SyncState,
}

impl NewState {
    /// Its rows as batches of the state table, by key.
    ///
    /// # Errors
    /// `Data` when the committed table is damaged; each item: that, or `Storage`.
    pub fn batches<'a>(&'a self) -> Result<BoxStream<'a, Result<RecordBatch>>> {
        let rows = self.known.rows(&self.changed)?;
        let batch = |mut rows: KnownRows<'a>| async move {
            let mut some = Vec::with_capacity(ROWS_PER_BATCH);
            while some.len() < ROWS_PER_BATCH {
                let Some(row) = rows.next_to(None).await? else { break };
                some.push(row);
            }
            Ok(if some.is_empty() { None } else { Some((to_batch(some.iter())?, rows)) })
        };
        Ok(stream::try_unfold(rows, batch).boxed())
    }
}
