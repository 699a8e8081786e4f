//! The rows of an identity's link tables, streamed into the stitching core: raw texts become identifiers, each
//! distinct text once, and every two identifiers of a row a link with its earliest row as evidence.
//!
//! What is kept is accounted for batch by batch, so that an identity that outgrows the memory budget ends the run with
//! an error and not the machine.
//!
//! Tables are read at once, so that a small one does not keep a thread waiting. What the rows say is kept in as
//! many places as there are threads, not streams, so that a link that many files repeat is kept few times.

use super::entities::{EntitySlot, texts};
use super::fold::sorts;
use super::identity::{BoundLinks, Owner};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::identity::{Evidence, InternerFull, LinkSet, Links, NO_TIME, Nodes, RowOwners, Scratch, Speller, Spellings};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{
    ExecutionPlan, ExecutionPlanProperties, Partitioning, SendableRecordBatchStream, execute_stream_partitioned,
};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use hashbrown::HashMap;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More than elsewhere: a text is looked up once a batch, and rows are narrow.
const BATCH_ROWS: usize = 65_536;

/// What the rows say.
pub(super) struct Collected {
    pub nodes: Nodes,
    pub spellings: Spellings,
    pub links: Links,
    pub evidence_rows: EvidenceRows,
    /// By thread and table, whose its rows are.
    pub owners: Vec<(u16, RowOwners)>,
    /// The memory of the identifiers and their spellings.
    pub identifier_memory: MemoryReservation,
    /// The memory of the rest.
    pub link_memory: MemoryReservation,
}

/// Ids of the rows that are evidence.
#[derive(Default)]
pub(super) struct EvidenceRows(Vec<RowIds>);

impl EvidenceRows {
    /// The id of a row.
    pub(super) fn get(&self, evidence: &Evidence) -> Option<&str> {
        self.0.iter().find_map(|ids| ids.get((evidence.table, evidence.row)))
    }

    fn memory_bytes(&self) -> usize {
        self.0.iter().map(RowIds::memory_bytes).sum()
    }
}

/// Row ids by table and reference, in one text.
#[derive(Default)]
struct RowIds {
    places: HashMap<(u16, u64), (usize, u32)>,
    text: String,
}

impl RowIds {
    fn insert(&mut self, row: (u16, u64), id: &str) {
        let start = self.text.len();
        self.places.entry(row).or_insert_with(|| {
            self.text.push_str(id);
            (start, id.len() as u32)
        });
    }

    fn memory_bytes(&self) -> usize {
        self.places.allocation_size() + self.text.capacity()
    }

    fn get(&self, row: (u16, u64)) -> Option<&str> {
        self.places.get(&row).map(|(start, len)| &self.text[*start..*start + *len as usize])
    }
}

/// What one thread at a time adds to.
#[derive(Default)]
struct Share {
    links: LinkSet,
    rows: RowIds,
    owners: BTreeMap<u16, RowOwners>,
    /// Memory that is accounted for.
    bytes: usize,
}

impl Share {
    /// How much it has grown since it was asked last.
    fn grown(&mut self) -> usize {
        let owners: usize = self.owners.values().map(RowOwners::memory_bytes).sum();
        let before = self.bytes;
        self.bytes = before.max(self.links.memory_bytes() + self.rows.memory_bytes() + owners);
        self.bytes - before
    }
}

/// The memory of what all threads keep.
struct Budget {
    reservation: MemoryReservation,
    /// Bytes of the identifiers that are accounted for.
    identifiers: AtomicUsize,
}

impl Budget {
    fn new(context: &SessionContext) -> Self {
        let pool = &context.runtime_env().memory_pool;
        Self { reservation: MemoryConsumer::new("identity").register(pool), identifiers: AtomicUsize::new(0) }
    }

    /// Accounts for what a share has grown by, and for the identifiers.
    fn account(&self, share: usize, speller: &Speller) -> datafusion::error::Result<()> {
        let identifiers = speller.memory_bytes();
        let before = self.identifiers.fetch_max(identifiers, Relaxed);
        self.reservation.try_grow(share + identifiers.saturating_sub(before))
    }
}

/// A share that nobody is using. There are as many as threads, so waiting is rare.
fn free(shares: &[Mutex<Share>]) -> MutexGuard<'_, Share> {
    let unused = shares.iter().find_map(|share| share.try_lock().ok());
    unused.unwrap_or_else(|| shares[0].lock().unwrap_or_else(PoisonError::into_inner))
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
    let shares: Arc<[Mutex<Share>]> = (0..threads.max(1)).map(|_| Mutex::default()).collect();
    let budget = Arc::new(Budget::new(context));
    for group in side_by_side(context, tables).await? {
        let mut running = tokio::task::JoinSet::new();
        for opened in group {
            let (number, table) = (opened.number, opened.table);
            for stream in opened.streams(threads)? {
                let mut reader = Reader::new(number, table, slot, &speller, &shares, &budget);
                running.spawn(async move { reader.read(stream).await.map_err(|e| (number, e)) });
            }
        }
        while let Some(done) = running.join_next().await {
            let done = done.or_fail(ErrorKind::Failed, || "reading links failed".to_owned())?;
            done.map_err(|(number, e)| Error::new(ErrorKind::Data, doing(&tables[usize::from(number)])).caused_by(e))?;
        }
    }
    let speller =
        Arc::into_inner(speller).ok_or_else(|| Error::new(ErrorKind::Failed, "a link stream is still running"))?;
    let (nodes, spellings) = speller.freeze();
    let (mut sets, mut rows, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for share in shares.iter() {
        let share = std::mem::take(&mut *share.lock().unwrap_or_else(PoisonError::into_inner));
        sets.push(share.links);
        rows.push(share.rows);
        owners.extend(share.owners);
    }
    let links = LinkSet::into_links(sets, &nodes, threads);
    let evidence_rows = EvidenceRows(rows);
    let budget =
        Arc::into_inner(budget).ok_or_else(|| Error::new(ErrorKind::Failed, "a link stream is still running"))?;
    let identifier_memory = budget.reservation;
    identifier_memory.resize(nodes.memory_bytes() + spellings.memory_bytes());
    let link_memory = identifier_memory.new_empty();
    link_memory.resize(links.memory_bytes() + evidence_rows.memory_bytes());
    Ok(Collected { nodes, spellings, links, evidence_rows, owners, identifier_memory, link_memory })
}

fn doing(table: &BoundLinks) -> String {
    format!("cannot read the links of `{}`", table.table)
}

/// A table that is ready to be read.
struct Opened<'t> {
    number: u16,
    table: &'t BoundLinks,
    plan: Arc<dyn ExecutionPlan>,
    task: TaskContext,
}

impl<'t> Opened<'t> {
    async fn new(context: &SessionContext, number: usize, table: &'t BoundLinks) -> Result<Self> {
        let doing = || doing(table);
        let number = u16::try_from(number).or_fail(ErrorKind::Failed, || "too many link tables".to_owned())?;
        let frame = context.execute_logical_plan(table.plan.clone()).await.or_fail(ErrorKind::Data, doing)?;
        let task = frame.task_ctx();
        let plan = frame.create_physical_plan().await.or_fail(ErrorKind::Data, doing)?;
        Ok(Self { number, table, plan, task })
    }

    /// The streams of its rows. Rows that are sorted come in batches of the usual size: a sort keeps room for some
    /// batches, and they are not narrow before it.
    fn streams(self, threads: usize) -> Result<Vec<SendableRecordBatchStream>> {
        let mut config = self.task.session_config().clone();
        if !sorts(&self.plan) {
            config = config.with_batch_size(BATCH_ROWS);
        }
        let task = Arc::new(self.task.with_session_config(config));
        dealt_out(self.plan, threads)
            .and_then(|plan| execute_stream_partitioned(plan, task))
            .or_fail(ErrorKind::Data, || doing(self.table))
    }
}

/// The tables in groups that are read one after the other: all that stream, then each that sorts its rows, so that it
/// shares the memory budget with no other.
async fn side_by_side<'t>(context: &SessionContext, tables: &'t [BoundLinks]) -> Result<Vec<Vec<Opened<'t>>>> {
    let (mut streaming, mut sorting) = (Vec::new(), Vec::new());
    for (number, table) in tables.iter().enumerate() {
        let opened = Opened::new(context, number, table).await?;
        if sorts(&opened.plan) {
            sorting.push(vec![opened]);
        } else {
            streaming.push(opened);
        }
    }
    Ok(std::iter::once(streaming).chain(sorting).collect())
}

/// The batches of a plan for as many threads as there are: a file with one row group is read by one, and what is done
/// with its rows takes longer than reading them.
fn dealt_out(plan: Arc<dyn ExecutionPlan>, threads: usize) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    if plan.output_partitioning().partition_count() >= threads {
        return Ok(plan);
    }
    Ok(Arc::new(RepartitionExec::try_new(plan, Partitioning::RoundRobinBatch(threads))?))
}

/// Reads one stream of a table.
struct Reader {
    table: u16,
    types: Vec<u8>,
    owner: Owner,
    slot: EntitySlot,
    speller: Arc<Speller>,
    shares: Arc<[Mutex<Share>]>,
    budget: Arc<Budget>,
    scratch: Scratch,
    codes: Vec<Vec<u32>>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Reader {
    fn new(
        table: u16,
        links: &BoundLinks,
        slot: &EntitySlot,
        speller: &Arc<Speller>,
        shares: &Arc<[Mutex<Share>]>,
        budget: &Arc<Budget>,
    ) -> Self {
        let (types, codes) = (links.types.clone(), vec![Vec::new(); links.types.len()]);
        let (slot, speller, shares) = (slot.clone(), Arc::clone(speller), Arc::clone(shares));
        let (owner, scratch, budget) = (links.owner.clone(), Scratch::default(), Arc::clone(budget));
        Self { table, types, owner, slot, speller, shares, budget, scratch, codes }
    }

    async fn read(&mut self, mut stream: SendableRecordBatchStream) -> Result<(), Failure> {
        while let Some(batch) = stream.next().await {
            self.take(&batch?)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let times = batch.column(self.types.len()).as_primitive::<Int64Type>();
        let times: Cow<'_, [i64]> = match times.null_count() {
            0 => times.values().as_ref().into(),
            _ => times.iter().map(|t| t.unwrap_or(NO_TIME)).collect(),
        };
        for index in 0..self.types.len() {
            self.intern(index, &texts(Arc::clone(batch.column(index)))?, &times)?;
        }
        let mut share = free(&self.shares);
        let share = &mut *share;
        self.count_owners(share, batch.num_rows());
        let rows = batch.columns().get(self.types.len() + 1).map(|rows| texts(Arc::clone(rows))).transpose()?;
        match &rows {
            Some(rows) if *rows.data_type() == DataType::Utf8View => {
                let rows = rows.as_string_view();
                self.link(share, &times, |row| rows.is_valid(row).then(|| rows.value(row)));
            }
            Some(rows) => {
                let rows = rows.as_string::<i32>();
                self.link(share, &times, |row| rows.is_valid(row).then(|| rows.value(row)));
            }
            None => self.link(share, &times, |_| None),
        }
        Ok(self.budget.account(share.grown(), &self.speller)?)
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

    fn count_owners(&self, share: &mut Share, rows: usize) {
        let Self { codes, owner, .. } = self;
        let owners = share.owners.entry(self.table).or_default();
        (0..rows).for_each(|row| {
            let code = |column: &usize| codes[*column][row];
            owners.add(owner.certain.iter().map(code), owner.others.iter().map(code));
        });
    }

    /// Links the identifiers of each row; `row_id` names a row.
    fn link<'r>(&self, share: &mut Share, times: &[i64], row_id: impl Fn(usize) -> Option<&'r str>) {
        // a fixed hasher: the reference of a row must not depend on the run
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let reference = |row: usize| row_id(row).map_or(0, |text| hasher.hash_one(text));
        let Share { links, rows, .. } = share;
        for (index, left) in self.codes.iter().enumerate() {
            for right in &self.codes[index + 1..] {
                for (row, (&a, &b)) in left.iter().zip(right).enumerate() {
                    let taken = links.add((a, b), times[row], self.table, || reference(row));
                    if taken && let Some(text) = row_id(row) {
                        rows.insert((self.table, reference(row)), text);
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
