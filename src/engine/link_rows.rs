//! The rows of an identity's link tables, streamed into the stitching core: raw texts become identifiers, each
//! distinct text once, and every two identifiers of a row a link with its earliest row as evidence.
//!
//! What is kept is accounted for batch by batch. Once it outgrows the memory budget the larger part goes to disk: links
//! (see `link_spill`) or the texts of identifiers (see `text_spill`). What tells identifiers apart stays, about 50 bytes
//! each; if that alone outgrows the budget the run ends with an error.
//!
//! Tables are read at once, so that a small one does not keep a thread waiting. What the rows say is kept in as
//! many places as there are threads, not streams, so that a link that many files repeat is kept few times.

use super::entities::{EntitySlot, texts};
use super::fold::sorts;
use super::identity::{BoundLinks, Owner};
use super::link_spill::LinkSpill;
use super::proofs::{Proofs, RowIds};
use super::text_spill::TextSpill;
use super::threads;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::identity::{
    InternerFull, Link, LinkSet, Links, NO_TIME, Nodes, RowOwners, Scratch, Speller, Spellings, naming_bytes,
    stitching_bytes,
};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream_partitioned};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
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
    pub links: Vec<Link>,
    pub proofs: Proofs,
    /// The texts of identifiers that are on disk.
    pub texts: Arc<TextSpill>,
    /// By thread and table, whose its rows are.
    pub owners: Vec<(u16, RowOwners)>,
    /// The memory of the identifiers and their spellings.
    pub identifier_memory: MemoryReservation,
    /// The memory of the rest.
    pub link_memory: MemoryReservation,
    /// Memory for what is made of it.
    pub working_memory: MemoryReservation,
}

impl Collected {
    /// Accounts for so many bytes of working memory, if need be with the texts of identifiers on disk.
    ///
    /// # Errors
    /// When the budget has no room for them, or the disk is full.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<()> {
        if self.working_memory.try_resize(bytes).is_ok() {
            return Ok(());
        }
        let doing = || "cannot write identifiers to disk".to_owned();
        self.nodes.write_texts(&(Arc::clone(&self.texts) as _)).or_fail(ErrorKind::Storage, doing)?;
        self.identifier_memory.resize(self.nodes.memory_bytes() + self.spellings.memory_bytes());
        self.working_memory.try_resize(bytes).or_fail(ErrorKind::Failed, || "cannot name the entities".to_owned())
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
    fn memory_bytes(&self) -> usize {
        let owners: usize = self.owners.values().map(RowOwners::memory_bytes).sum();
        self.links.memory_bytes() + self.rows.memory_bytes() + owners
    }

    /// Writes the links to disk and begins anew.
    fn spill(&mut self, spill: &LinkSpill) -> datafusion::error::Result<()> {
        spill.write(&mut self.links, &self.rows)?;
        self.rows = RowIds::default();
        Ok(())
    }
}

/// What all streams add to.
struct Kept {
    speller: Speller,
    shares: Vec<Mutex<Share>>,
    spill: LinkSpill,
    texts: Arc<TextSpill>,
    reservation: MemoryReservation,
    /// Bytes of the identifiers that are accounted for.
    identifiers: AtomicUsize,
    /// Held by who makes room.
    making_room: Mutex<()>,
}

impl Kept {
    fn new(context: &SessionContext, types: usize, threads: usize) -> Self {
        let env = context.runtime_env();
        Self {
            speller: Speller::new(types),
            shares: (0..threads.max(1)).map(|_| Mutex::default()).collect(),
            spill: LinkSpill::new(&env),
            texts: Arc::new(TextSpill::new(&env)),
            reservation: MemoryConsumer::new("identity").register(&env.memory_pool),
            identifiers: AtomicUsize::new(0),
            making_room: Mutex::default(),
        }
    }

    /// A share that nobody is using. There are as many as threads, so waiting is rare.
    fn free_share(&self) -> MutexGuard<'_, Share> {
        let unused = self.shares.iter().find_map(|share| share.try_lock().ok());
        unused.unwrap_or_else(|| lock(&self.shares[0]))
    }

    /// Accounts for what a share and the identifiers have grown by; whether there was memory.
    fn account(&self, share: &mut Share) -> bool {
        let bytes = share.memory_bytes().max(share.bytes);
        let identifiers = self.speller.memory_bytes();
        let more = identifiers.saturating_sub(self.identifiers.load(Relaxed));
        let fits = self.reservation.try_grow(bytes - share.bytes + more).is_ok();
        if fits {
            share.bytes = bytes;
            self.identifiers.fetch_add(more, Relaxed);
        }
        fits
    }

    /// Writes links or texts to disk, unless somebody else just has: those that take more, so that there are few runs
    /// of links. There is room for `more` bytes then.
    fn make_room(&self, more: usize) -> datafusion::error::Result<()> {
        let _alone = self.making_room.lock().unwrap_or_else(PoisonError::into_inner);
        if self.settle(more).is_ok() {
            return Ok(());
        }
        let links: usize = self.shares.iter().map(|share| lock(share).links.memory_bytes()).sum();
        if self.speller.text_bytes() > links {
            self.write_texts()?;
        } else {
            self.write_links()?;
        }
        if self.settle(more).is_ok() {
            return Ok(());
        }
        self.write_texts()?;
        self.write_links()?;
        self.settle(more)
    }

    fn write_links(&self) -> datafusion::error::Result<()> {
        self.shares.iter().try_for_each(|share| lock(share).spill(&self.spill))
    }

    fn write_texts(&self) -> datafusion::error::Result<()> {
        Ok(self.speller.write_texts(&(Arc::clone(&self.texts) as _))?)
    }

    /// Accounts for everything anew, and for `more` bytes.
    fn settle(&self, more: usize) -> datafusion::error::Result<()> {
        let mut shares: Vec<_> = self.shares.iter().map(lock).collect();
        let identifiers = self.speller.memory_bytes();
        let total = identifiers + shares.iter().map(|share| share.memory_bytes()).sum::<usize>();
        self.reservation.try_resize(total + more)?;
        self.identifiers.store(identifiers, Relaxed);
        for share in &mut shares {
            share.bytes = share.memory_bytes();
        }
        Ok(())
    }

    /// Ends it, with room for `registered` rows of the registry.
    async fn collected(self, threads: usize, registered: usize) -> Result<Collected> {
        let identifiers = self.speller.identifiers();
        let least = stitching_bytes(identifiers, registered);
        // only then can links still go to disk for it; with fewer entities than identifiers less will do
        let mut working = least + naming_bytes(identifiers);
        if self.make_room(working).is_err() {
            working = least;
            self.make_room(working).or_fail(ErrorKind::Failed, || "cannot find the entities".to_owned())?;
        }
        let working_memory = self.reservation.split(working);
        let spilled = !self.spill.is_empty();
        if spilled && self.reservation.try_grow(self.spill.most_links() * size_of::<Link>()).is_err() {
            self.write_texts().or_fail(ErrorKind::Storage, || "cannot write identifiers to disk".to_owned())?;
        }
        let Self { speller, shares, spill, texts, reservation, .. } = self;
        let mut shares: Vec<Share> =
            shares.into_iter().map(|share| share.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        let (nodes, spellings) = speller.freeze();
        let (mut sets, mut ids, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for share in &mut shares {
            if spilled {
                share.spill(&spill).or_fail(ErrorKind::Storage, || "cannot write links to disk".to_owned())?;
            }
            let Share { links, rows, owners: of_rows, .. } = std::mem::take(share);
            sets.push(links);
            ids.push(rows);
            owners.extend(of_rows);
        }
        reservation.resize(nodes.memory_bytes() + spellings.memory_bytes());
        let link_memory = reservation.new_empty();
        let (links, proofs) = if spilled {
            spill.join(&nodes, &link_memory).await?
        } else {
            let Links { links, evidence } = LinkSet::into_links(sets, &nodes, threads);
            (links, Proofs::Held(evidence, ids))
        };
        link_memory.resize(links.capacity() * size_of::<Link>() + proofs.memory_bytes());
        let identifier_memory = reservation;
        Ok(Collected { nodes, spellings, links, proofs, texts, owners, identifier_memory, link_memory, working_memory })
    }
}

fn lock(share: &Mutex<Share>) -> MutexGuard<'_, Share> {
    share.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads all link tables, a task for each partition of each. Links are between identifiers of so many types; so many
/// rows of the registry will be read.
///
/// # Errors
/// When a table cannot be read, a SQL normaliser fails, or there are more identifiers than an identity can hold.
pub(super) async fn collect(
    context: &SessionContext,
    tables: &[BoundLinks],
    slot: &EntitySlot,
    (types, registered): (usize, usize),
    threads: usize,
) -> Result<Collected> {
    let kept = Arc::new(Kept::new(context, types, threads));
    for group in side_by_side(context, tables).await? {
        let mut running = tokio::task::JoinSet::new();
        for opened in group {
            let (number, table) = (opened.number, opened.table);
            for stream in opened.streams(threads)? {
                let mut reader = Reader::new(number, table, slot, &kept);
                running.spawn(async move { reader.read(stream).await.map_err(|e| (number, e)) });
            }
        }
        while let Some(done) = running.join_next().await {
            let done = done.or_fail(ErrorKind::Failed, || "reading links failed".to_owned())?;
            done.map_err(|(number, e)| Error::new(ErrorKind::Data, doing(&tables[usize::from(number)])).caused_by(e))?;
        }
    }
    let kept = Arc::into_inner(kept).ok_or_else(|| Error::new(ErrorKind::Failed, "a link stream is still running"))?;
    kept.collected(threads, registered).await
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
        threads::dealt_out(self.plan, threads)
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

/// Reads one stream of a table.
struct Reader {
    table: u16,
    types: Vec<u8>,
    owner: Owner,
    slot: EntitySlot,
    kept: Arc<Kept>,
    scratch: Scratch,
    codes: Vec<Vec<u32>>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Reader {
    fn new(table: u16, links: &BoundLinks, slot: &EntitySlot, kept: &Arc<Kept>) -> Self {
        let (types, codes) = (links.types.clone(), vec![Vec::new(); links.types.len()]);
        let (owner, slot, kept) = (links.owner.clone(), slot.clone(), Arc::clone(kept));
        Self { table, types, owner, slot, kept, scratch: Scratch::default(), codes }
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
        let rows = batch.columns().get(self.types.len() + 1).map(|rows| texts(Arc::clone(rows))).transpose()?;
        let mut guard = self.kept.free_share();
        let share = &mut *guard;
        self.count_owners(share, batch.num_rows());
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
        let fits = self.kept.account(share);
        drop(guard);
        if fits { Ok(()) } else { Ok(self.kept.make_room(0)?) }
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
        self.kept.speller.intern_batch(&mut self.scratch, kind, values, Some(times), &mut self.codes[index], normalise)
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
