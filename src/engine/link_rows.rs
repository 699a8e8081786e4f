//! The rows of an identity's link tables, streamed into the stitching core: raw texts become identifiers, each
//! distinct text once, and every two identifiers of a row a link with its earliest row as evidence.
//!
//! All tables are read at once, so that a small one does not keep a thread waiting.

use super::entities::{EntitySlot, texts};
use super::identity::BoundLinks;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::identity::{InternerFull, LinkSet, Links, NO_TIME, Nodes, Scratch, Speller, Spellings};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream_partitioned};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use hashbrown::HashMap;
use std::borrow::Cow;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// What the rows say.
pub(super) struct Collected {
    pub nodes: Nodes,
    pub spellings: Spellings,
    pub links: Links,
    /// Row ids that are evidence, by table and reference.
    pub evidence_rows: HashMap<(u16, u64), String>,
    pub rows_read: u64,
}

/// Reads all link tables, a task for each partition of each.
///
/// # Errors
/// When a table cannot be read, a SQL normaliser fails, or there are more identifiers than an identity can hold.
pub(super) async fn collect(
    context: &SessionContext,
    tables: &[BoundLinks],
    slot: &EntitySlot,
    types: usize,
    threads: usize,
) -> Result<Collected> {
    let speller = Arc::new(Speller::new(types));
    let mut running = tokio::task::JoinSet::new();
    for (number, table) in tables.iter().enumerate() {
        let number = u16::try_from(number).or_fail(ErrorKind::Failed, || "too many link tables".to_owned())?;
        for stream in open(context, table).await? {
            let mut reader = Reader::new(number, table, slot, Arc::clone(&speller));
            running.spawn(async move { reader.read(stream).await.map(|()| reader.seen).map_err(|e| (number, e)) });
        }
    }
    let (mut sets, mut evidence_rows, mut rows_read) = (Vec::new(), HashMap::new(), 0);
    while let Some(done) = running.join_next().await {
        let done = done.or_fail(ErrorKind::Failed, || "reading links failed".to_owned())?;
        let seen =
            done.map_err(|(number, e)| Error::new(ErrorKind::Data, doing(&tables[usize::from(number)])).caused_by(e))?;
        rows_read += seen.count;
        evidence_rows.extend(seen.rows);
        sets.push(seen.links);
    }
    let speller =
        Arc::into_inner(speller).ok_or_else(|| Error::new(ErrorKind::Failed, "a link stream is still running"))?;
    let (nodes, spellings) = speller.freeze();
    let links = LinkSet::into_links(sets, &nodes, threads);
    Ok(Collected { nodes, spellings, links, evidence_rows, rows_read })
}

fn doing(table: &BoundLinks) -> String {
    format!("cannot read the links of `{}`", table.table)
}

async fn open(context: &SessionContext, table: &BoundLinks) -> Result<Vec<SendableRecordBatchStream>> {
    let doing = || doing(table);
    let frame = context.execute_logical_plan(table.plan.clone()).await.or_fail(ErrorKind::Data, doing)?;
    let task = Arc::new(frame.task_ctx());
    let physical = frame.create_physical_plan().await.or_fail(ErrorKind::Data, doing)?;
    execute_stream_partitioned(physical, task).or_fail(ErrorKind::Data, doing)
}

/// What one stream saw.
#[derive(Default)]
struct Seen {
    links: LinkSet,
    rows: HashMap<(u16, u64), String>,
    count: u64,
}

/// Reads one stream of a table.
struct Reader {
    table: u16,
    types: Vec<u8>,
    slot: EntitySlot,
    speller: Arc<Speller>,
    scratch: Scratch,
    codes: Vec<Vec<u32>>,
    seen: Seen,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Reader {
    fn new(table: u16, links: &BoundLinks, slot: &EntitySlot, speller: Arc<Speller>) -> Self {
        let types = links.types.clone();
        let codes = vec![Vec::new(); types.len()];
        Self { table, types, slot: slot.clone(), speller, scratch: Scratch::default(), codes, seen: Seen::default() }
    }

    async fn read(&mut self, mut stream: SendableRecordBatchStream) -> Result<(), Failure> {
        while let Some(batch) = stream.next().await {
            self.take(&batch?)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.seen.count += batch.num_rows() as u64;
        let times = batch.column(self.types.len()).as_primitive::<Int64Type>();
        let times: Cow<'_, [i64]> = match times.null_count() {
            0 => times.values().as_ref().into(),
            _ => times.iter().map(|t| t.unwrap_or(NO_TIME)).collect(),
        };
        for index in 0..self.types.len() {
            self.intern(index, &texts(Arc::clone(batch.column(index)))?, &times)?;
        }
        let rows = batch.columns().get(self.types.len() + 1).map(|rows| texts(Arc::clone(rows))).transpose()?;
        match &rows {
            Some(rows) if *rows.data_type() == DataType::Utf8View => {
                let rows = rows.as_string_view();
                self.link(&times, |row| rows.is_valid(row).then(|| rows.value(row)));
            }
            Some(rows) => {
                let rows = rows.as_string::<i32>();
                self.link(&times, |row| rows.is_valid(row).then(|| rows.value(row)));
            }
            None => self.link(&times, |_| None),
        }
        Ok(())
    }

    /// Makes the codes of one identifier column.
    fn intern(&mut self, index: usize, values: &ArrayRef, times: &[i64]) -> Result<(), InternFailure> {
        match values.data_type() {
            DataType::Utf8View => self.intern_texts(index, values.as_string_view().iter(), times),
            _ => self.intern_texts(index, values.as_string::<i32>().iter(), times),
        }
    }

    fn intern_texts<'v>(
        &mut self,
        index: usize,
        values: impl Iterator<Item = Option<&'v str>>,
        times: &[i64],
    ) -> Result<(), InternFailure> {
        let kind = self.types[index];
        let normalizer = self.slot.normalizer(kind);
        let normalise = |texts: &[&'v str]| normalizer.apply(texts).map_err(InternFailure::Normalise);
        self.speller.intern_batch(&mut self.scratch, kind, values, Some(times), &mut self.codes[index], normalise)
    }

    /// Links the identifiers of each row; `row_id` names a row.
    fn link<'r>(&mut self, times: &[i64], row_id: impl Fn(usize) -> Option<&'r str>) {
        // a fixed hasher: the reference of a row must not depend on the run
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let reference = |row: usize| row_id(row).map_or(0, |text| hasher.hash_one(text));
        let Seen { links, rows, .. } = &mut self.seen;
        for (index, left) in self.codes.iter().enumerate() {
            for right in &self.codes[index + 1..] {
                for (row, (&a, &b)) in left.iter().zip(right).enumerate() {
                    let taken = links.add((a, b), times[row], self.table, || reference(row));
                    if taken && let Some(text) = row_id(row) {
                        rows.insert((self.table, reference(row)), text.to_owned());
                    }
                }
            }
        }
    }
}

/// Why a column cannot be interned.
#[derive(Debug, thiserror::Error)]
enum InternFailure {
    #[error(transparent)]
    Full(#[from] InternerFull),
    #[error(transparent)]
    Normalise(DataFusionError),
}
