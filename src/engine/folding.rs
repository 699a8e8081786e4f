//! Runs a fold: one aggregation over entities, whose numbers are dense.
//!
//! A group needs no hash table, because an entity's number says where it is. Entities are cut into ranges, a
//! **bucket** each, small enough for the states of its aggregates to lie in the processor's cache. Rows are read in
//! large batches and sorted by entity, and each bucket takes its part of a batch at once. There is one state for each
//! entity, whichever thread reads the row, so nothing is merged at the end.
//!
//! Partial states that were made elsewhere ([`partial`] plans make them) are merged like rows ([`Running::merge`]).
//!
//! When the memory budget is used up, the largest buckets write their states to disk as partial states. They are
//! merged at the end, bucket by bucket.
//!
//! Aggregates, their filters and states are DataFusion's and whatever is written behind its trait. What is not a plain
//! aggregation by entity (DataFusion rewrites some, and some need an order of rows) has no [`Folding`]: it runs as
//! DataFusion planned it, with the same result.

use super::fold::{ENTITY, sorts};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, take, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UInt32Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::spill_file::SpillFile;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion::physical_plan::aggregates::{
    AggregateExec, AggregateMode, PhysicalGroupBy, aggregate_expressions, evaluate_many,
};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{
    ExecutionPlan, Partitioning, SendableRecordBatchStream, SpillManager, execute_stream_partitioned,
};
use futures::StreamExt;
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;

/// Entities of a bucket, as a power of two, unless there would be too many buckets.
const BUCKET_BITS: u32 = 13;
/// A bucket that goes to disk has a file open.
const MOST_BUCKETS: usize = 256;
/// Rows of a batch for each bucket, so that the work for a bucket outweighs the visit.
const ROWS_PER_BUCKET: usize = 1024;
const BATCH_ROWS: Range<usize> = 65_536..131_072;

/// How a fold is computed.
pub(super) struct Folding {
    input: Arc<dyn ExecutionPlan>,
    entity: Arc<dyn PhysicalExpr>,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// By aggregate, its arguments without rows.
    nothing: Vec<Vec<ArrayRef>>,
    /// Names of the aggregates in the plan's result.
    names: Vec<String>,
}

impl Folding {
    /// The folding that does what a plan says, if it is a plain aggregation by entity.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Self>> {
        let Some(raw) = raw_aggregation(plan) else { return Ok(None) };
        let ordered = raw.aggr_expr().iter().any(|a| !a.order_bys().is_empty());
        let [(entity, _)] = raw.group_expr().expr() else { return Ok(None) };
        if ordered || !raw.group_expr().is_single() || raw.limit_options().is_some() {
            return Ok(None);
        }
        let arguments = aggregate_expressions(raw.aggr_expr(), raw.mode(), 1)?;
        Ok(Some(Self {
            input: Arc::clone(raw.input()),
            entity: Arc::clone(entity),
            aggregates: raw.aggr_expr().to_vec(),
            nothing: evaluate_many(&arguments, &RecordBatch::new_empty(raw.input().schema()))?,
            arguments,
            filters: raw.filter_expr().to_vec(),
            names: plan.schema().fields().iter().skip(1).map(|f| f.name().clone()).collect(),
        }))
    }

    /// Folds all rows. The result has the entity's number and a column for each aggregate, a row for each entity that
    /// has rows, in order.
    ///
    /// # Errors
    /// When rows cannot be read, an aggregate fails, or there is room neither in memory nor on disk.
    pub(super) async fn run(self, task: TaskContext, entities: usize) -> Result<Vec<RecordBatch>> {
        let threads = task.session_config().target_partitions();
        self.read(task, entities).await?.finish(threads).await
    }

    /// Takes all rows; what comes of it can be finished, or partial states can be merged into it before.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) async fn read(self, task: TaskContext, entities: usize) -> Result<Arc<Running>> {
        let bits = bucket_bits(entities);
        let buckets = entities.div_ceil(1 << bits).max(1);
        let rows = (buckets * ROWS_PER_BUCKET).clamp(BATCH_ROWS.start, BATCH_ROWS.end);
        let larger = task.session_config().clone().with_batch_size(rows);
        // a sort holds whole batches, so it gets small ones, which are joined behind it
        let task = Arc::new(if sorts(&self.input) { task } else { task.with_session_config(larger) });
        let streams = execute_stream_partitioned(Arc::clone(&self.input), Arc::clone(&task))?;
        let running = Arc::new(Running::new(self, &task, entities, bits)?);
        let mut readers = JoinSet::new();
        for (number, stream) in streams.into_iter().enumerate() {
            let running = Arc::clone(&running);
            // each begins elsewhere, so that they seldom want one bucket
            readers.spawn(async move { running.read(stream, rows, number * buckets / 2).await });
        }
        while let Some(done) = readers.join_next().await {
            joined(done)?;
        }
        Ok(running)
    }
}

/// Entities of a bucket, as a power of two.
fn bucket_bits(entities: usize) -> u32 {
    (BUCKET_BITS..u32::BITS).find(|bits| entities >> bits < MOST_BUCKETS).unwrap_or(BUCKET_BITS)
}

pub(super) fn joined<T>(done: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    done.unwrap_or_else(|e| exec_err!("a task of the fold failed: {e}"))
}

/// The part of an aggregation that reads rows.
fn raw_aggregation(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    let top = plan.downcast_ref::<AggregateExec>()?;
    match top.mode() {
        AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned => return Some(top),
        AggregateMode::Final | AggregateMode::FinalPartitioned => {}
        AggregateMode::PartialReduce => return None,
    }
    let mut below = top.input();
    loop {
        if let Some(partial) = below.downcast_ref::<AggregateExec>() {
            return (*partial.mode() == AggregateMode::Partial).then_some(partial);
        }
        let moves_only = below.downcast_ref::<RepartitionExec>().is_some()
            || below.downcast_ref::<CoalescePartitionsExec>().is_some();
        below = below.children().into_iter().next().filter(|_| moves_only)?;
    }
}

/// A plan that makes partial states by key instead of results.
pub(super) struct Partial {
    /// It gives the keys, then the states of each aggregate.
    pub plan: Arc<dyn ExecutionPlan>,
    /// Names of the aggregates, in their order.
    pub names: Vec<String>,
}

/// The plan that stops at the partial states of what `plan` aggregates by `count` keys, if it is a plain aggregation. With
/// `states` they come from there, and those of one key are joined; otherwise from the rows.
pub(super) fn partial(
    plan: &Arc<dyn ExecutionPlan>,
    count: usize,
    states: Option<Arc<dyn ExecutionPlan>>,
    threads: usize,
) -> Result<Option<Partial>> {
    let Some(raw) = raw_aggregation(plan) else { return Ok(None) };
    let plain = raw.aggr_expr().iter().all(|a| a.order_bys().is_empty())
        && raw.group_expr().is_single()
        && raw.group_expr().expr().len() == count
        && raw.limit_options().is_none();
    if !plain {
        return Ok(None);
    }
    let aggregate = |mode, by: PhysicalGroupBy, filters: Vec<_>, input| {
        AggregateExec::try_new(mode, by, raw.aggr_expr().to_vec(), filters, input, raw.input_schema()).map(Arc::new)
    };
    let of_rows = aggregate(
        AggregateMode::Partial,
        raw.group_expr().clone(),
        raw.filter_expr().to_vec(),
        Arc::clone(raw.input()),
    )?;
    let states: Arc<dyn ExecutionPlan> = match states {
        Some(states) => renamed(states, &of_rows.schema())?,
        None => of_rows,
    };
    let by = raw.group_expr().as_final();
    let keys = by.expr().iter().map(|(key, _)| Arc::clone(key)).collect();
    let dealt = Arc::new(RepartitionExec::try_new(states, Partitioning::Hash(keys, threads.max(1)))?);
    let joined = aggregate(AggregateMode::PartialReduce, by, vec![None; raw.aggr_expr().len()], dealt)?;
    let names = plan.schema().fields().iter().skip(count).map(|f| f.name().clone()).collect();
    Ok(Some(Partial { plan: joined, names }))
}

/// The same columns under the names of `schema`.
fn renamed(plan: Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    let own = plan.schema();
    let column = |(index, (from, to)): (usize, (&FieldRef, &FieldRef))| ProjectionExpr {
        expr: Arc::new(Column::new(from.name(), index)),
        alias: to.name().clone(),
    };
    let columns = own.fields().iter().zip(schema.fields()).enumerate().map(column);
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?))
}

/// A fold on its way.
pub(super) struct Running {
    folding: Folding,
    entities: usize,
    /// Entities of a bucket, as a power of two.
    bits: u32,
    buckets: Vec<Mutex<Bucket>>,
    /// Held by who writes states to disk.
    making_room: Mutex<()>,
    reservation: MemoryReservation,
    spills: SpillManager,
    /// By aggregate, how many columns its partial state has.
    widths: Vec<usize>,
}

impl Running {
    fn new(folding: Folding, task: &TaskContext, entities: usize, bits: u32) -> Result<Self> {
        let consumer = MemoryConsumer::new("fold").with_can_spill(true);
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let states: Result<Vec<_>> = folding.aggregates.iter().map(|a| a.state_fields()).collect();
        let states = states?;
        let widths = states.iter().map(Vec::len).collect();
        let spills = SpillManager::new(task.runtime_env(), metrics, side_by_side(&states));
        let buckets = (0..entities.div_ceil(1 << bits).max(1)).map(|_| Mutex::new(Bucket::new(1 << bits))).collect();
        let reservation = consumer.register(task.memory_pool());
        Ok(Self { entities, bits, buckets, making_room: Mutex::new(()), reservation, spills, widths, folding })
    }

    /// Reads a stream and deals it out, at least `rows` rows at a time.
    async fn read(&self, mut stream: SendableRecordBatchStream, rows: usize, first: usize) -> Result<()> {
        let (schema, mut waiting, mut count) = (stream.schema(), Vec::new(), 0);
        while let Some(batch) = stream.next().await.transpose()? {
            count += batch.num_rows();
            waiting.push(batch);
            // large batches come as they are
            if count >= rows / 2 {
                self.take(&concat_batches(&schema, &std::mem::take(&mut waiting))?, first)?;
                count = 0;
            }
        }
        if count > 0 { self.take(&concat_batches(&schema, &waiting)?, first) } else { Ok(()) }
    }

    /// Deals a batch out to the buckets, beginning with `first`.
    fn take(&self, batch: &RecordBatch, first: usize) -> Result<()> {
        let entities = self.folding.entity.evaluate(batch)?.into_array(batch.num_rows())?;
        let entities = entities.as_primitive::<UInt32Type>();
        let dealt = Dealt::new(entities, self.buckets.len(), self.bits);
        if dealt.groups.is_empty() {
            return Ok(());
        }
        let batch = take_record_batch(batch, &dealt.rows)?;
        let arguments = evaluate_many(&self.folding.arguments, &batch)?;
        let filters = self.filters(&batch)?;
        self.visit(&dealt, first, |bucket, groups, part| {
            bucket.update(&self.folding, groups, part, (&arguments, &filters))
        })
    }

    /// Calls `visit` with each bucket that has rows, beginning with `first`, the places of their entities in it and which
    /// rows they are. It says how many bytes the bucket has grown.
    fn visit(
        &self,
        dealt: &Dealt,
        first: usize,
        visit: impl Fn(&mut Bucket, &[usize], Range<usize>) -> Result<usize>,
    ) -> Result<()> {
        let visit = |bucket: usize, mut held: MutexGuard<'_, Bucket>| {
            let part = dealt.starts[bucket]..dealt.starts[bucket + 1];
            visit(&mut held, &dealt.groups[part.clone()], part)
        };
        let (mut grown, mut busy) = (0, Vec::new());
        let wanted = (0..self.buckets.len()).map(|n| (n + first) % self.buckets.len());
        for bucket in wanted.filter(|bucket| dealt.starts[*bucket] < dealt.starts[bucket + 1]) {
            match self.buckets[bucket].try_lock() {
                Ok(held) => grown += visit(bucket, held)?,
                Err(_) => busy.push(bucket),
            }
        }
        for bucket in busy {
            grown += visit(bucket, lock(&self.buckets[bucket]))?;
        }
        self.reserve(grown)
    }

    /// The place of an aggregate among those of the fold.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.folding.names.iter().position(|known| known == name)
    }

    /// The types of an aggregate's states.
    pub(super) fn state_types(&self, place: usize) -> Result<Vec<DataType>> {
        let fields = self.folding.aggregates[place].state_fields()?;
        Ok(fields.iter().map(|field| field.data_type().clone()).collect())
    }

    /// Merges partial states of some aggregates, each with its place; those of nobody are left out. Streams that do so at
    /// once have different numbers.
    pub(super) fn merge(&self, entities: &UInt32Array, states: &[(usize, Vec<ArrayRef>)], stream: usize) -> Result<()> {
        let dealt = Dealt::new(entities, self.buckets.len(), self.bits);
        let sorted = |(place, columns): &(usize, Vec<ArrayRef>)| {
            let columns = columns.iter().map(|column| take(column, &dealt.rows, None));
            Ok((*place, columns.collect::<std::result::Result<Vec<_>, _>>()?))
        };
        let states = states.iter().map(sorted).collect::<Result<Vec<_>>>()?;
        let first = stream * self.buckets.len() / 2;
        self.visit(&dealt, first, |bucket, groups, part| bucket.merge(&self.folding, groups, part, &states))
    }

    fn filters(&self, batch: &RecordBatch) -> Result<Vec<Option<BooleanArray>>> {
        let one = |filter: &Option<Arc<dyn PhysicalExpr>>| {
            let Some(filter) = filter else { return Ok(None) };
            let array = filter.evaluate(batch)?.into_array(batch.num_rows())?;
            Ok(Some(array.as_boolean().clone()))
        };
        self.folding.filters.iter().map(one).collect()
    }

    /// Accounts for more memory; makes room for it if there is none.
    fn reserve(&self, bytes: usize) -> Result<()> {
        if bytes == 0 || self.reservation.try_grow(bytes).is_ok() {
            return Ok(());
        }
        let _alone = self.making_room.lock().unwrap_or_else(PoisonError::into_inner);
        // somebody else may have made room meanwhile
        if self.reservation.try_grow(bytes).is_ok() {
            return Ok(());
        }
        let sizes = || self.buckets.iter().map(|bucket| lock(bucket).bytes);
        let mut largest: Vec<(usize, usize)> = sizes().zip(0..).collect();
        largest.sort_unstable_by_key(|(size, _)| Reverse(*size));
        // half of all, so that it is not soon done again
        for (_, bucket) in largest.iter().take(largest.len().div_ceil(2)) {
            lock(&self.buckets[*bucket]).spill(&self.spills)?;
        }
        // what is left is small beside what was freed; others may account for theirs once more, until the next time
        self.reservation.resize(sizes().sum());
        Ok(())
    }

    /// Merges what lies on disk and evaluates the aggregates, with `threads` tasks.
    pub(super) async fn finish(self: Arc<Self>, threads: usize) -> Result<Vec<RecordBatch>> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..threads.max(1) {
            let (running, next) = (Arc::clone(&self), Arc::clone(&next));
            tasks.spawn(async move {
                let mut made = Vec::new();
                loop {
                    let bucket = next.fetch_add(1, Relaxed);
                    if bucket >= running.buckets.len() {
                        return Ok(made);
                    }
                    made.extend(running.evaluate(bucket).await?.map(|batch| (bucket, batch)));
                }
            });
        }
        let mut made: Vec<(usize, RecordBatch)> = Vec::with_capacity(self.buckets.len());
        while let Some(done) = tasks.join_next().await {
            made.extend(joined(done)?);
        }
        made.sort_unstable_by_key(|(bucket, _)| *bucket);
        Ok(made.into_iter().map(|(_, batch)| batch).collect())
    }

    /// The result of a bucket, if it has rows.
    async fn evaluate(&self, bucket: usize) -> Result<Option<RecordBatch>> {
        let size = 1 << self.bits;
        let Bucket { mut aggregates, seen, files, bytes, .. } =
            std::mem::replace(&mut *lock(&self.buckets[bucket]), Bucket::new(0));
        if !seen.contains(&true) {
            return Ok(None);
        }
        if aggregates.is_empty() {
            aggregates = self.folding.accumulators(size)?;
        }
        for file in files {
            let mut stream = self.spills.read_spill_as_stream(file, None)?;
            let mut start = 0;
            while let Some(batch) = stream.next().await {
                start = merge(&mut aggregates, &self.widths, &batch?, start, size)?;
            }
        }
        let start = bucket * size;
        let entities = start..self.entities.min(start + size);
        let codes = UInt32Array::from_iter_values(entities.clone().map(|code| code as u32));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(codes)];
        let mut fields = vec![Field::new(ENTITY, DataType::UInt32, false)];
        for (aggregate, name) in aggregates.iter_mut().zip(&self.folding.names) {
            let column = aggregate.evaluate(EmitTo::All)?.slice(0, entities.len());
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column);
        }
        drop(aggregates);
        self.reservation.shrink(bytes.min(self.reservation.size()));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        let has_rows = BooleanArray::from(seen[..entities.len()].to_vec());
        Ok(Some(filter_record_batch(&batch, &has_rows)?))
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows of a batch by entity.
struct Dealt {
    /// The rows that belong to somebody; those of an entity stay in their order.
    rows: UInt32Array,
    /// For each, its entity's place in the bucket.
    groups: Vec<usize>,
    /// Where each bucket begins.
    starts: Vec<usize>,
}

impl Dealt {
    fn new(entities: &UInt32Array, buckets: usize, bits: u32) -> Self {
        let size = 1 << bits;
        let present = entities.iter().zip(0_u32..).filter_map(|(entity, row)| Some((entity?, row))).collect::<Vec<_>>();
        // first by the place in the bucket, then by bucket: rows of one entity lie side by side
        let (by_place, _) = count_sort(&present, size, |entity| entity as usize & (size - 1));
        let (sorted, starts) = count_sort(&by_place, buckets, |entity| (entity >> bits) as usize);
        Self {
            rows: sorted.iter().map(|(_, row)| *row).collect::<Vec<_>>().into(),
            groups: sorted.iter().map(|(entity, _)| *entity as usize & (size - 1)).collect(),
            starts,
        }
    }
}

/// Sorts entities with their rows by a digit below `digits`, keeping the order of equal ones; also where each digit
/// begins.
fn count_sort(rows: &[(u32, u32)], digits: usize, digit: impl Fn(u32) -> usize) -> (Vec<(u32, u32)>, Vec<usize>) {
    let mut starts = vec![0_usize; digits + 1];
    for (entity, _) in rows {
        starts[digit(*entity) + 1] += 1;
    }
    for place in 0..digits {
        starts[place + 1] += starts[place];
    }
    let mut next = starts.clone();
    let mut sorted = vec![(0, 0); rows.len()];
    for row in rows {
        let place = &mut next[digit(row.0)];
        sorted[*place] = *row;
        *place += 1;
    }
    (sorted, starts)
}

/// The states of a range of entities.
struct Bucket {
    /// Empty before the first row, and again after a spill.
    aggregates: Vec<Box<dyn GroupsAccumulator>>,
    /// By entity, whether it has rows.
    seen: Vec<bool>,
    /// Partial states on disk.
    files: Vec<Arc<dyn SpillFile>>,
    bytes: usize,
}

impl Bucket {
    fn new(size: usize) -> Self {
        Self { aggregates: Vec::new(), seen: vec![false; size], files: Vec::new(), bytes: 0 }
    }

    /// Takes some rows of a batch; `groups` are their entities. How many bytes it has grown.
    fn update(
        &mut self,
        folding: &Folding,
        groups: &[usize],
        rows: Range<usize>,
        (arguments, filters): (&[Vec<ArrayRef>], &[Option<BooleanArray>]),
    ) -> Result<usize> {
        if self.aggregates.is_empty() {
            self.aggregates = folding.accumulators(self.seen.len())?;
        }
        for group in groups {
            self.seen[*group] = true;
        }
        for ((aggregate, arguments), filter) in self.aggregates.iter_mut().zip(arguments).zip(filters) {
            let arguments: Vec<ArrayRef> = arguments.iter().map(|a| a.slice(rows.start, rows.len())).collect();
            let filter = filter.as_ref().map(|f| f.slice(rows.start, rows.len()));
            aggregate.update_batch(&arguments, groups, filter.as_ref(), self.seen.len())?;
        }
        Ok(self.grown())
    }

    /// Takes partial states of some aggregates. How many bytes it has grown.
    fn merge(
        &mut self,
        folding: &Folding,
        groups: &[usize],
        rows: Range<usize>,
        states: &[(usize, Vec<ArrayRef>)],
    ) -> Result<usize> {
        if self.aggregates.is_empty() {
            self.aggregates = folding.accumulators(self.seen.len())?;
        }
        for group in groups {
            self.seen[*group] = true;
        }
        for (place, columns) in states {
            let columns: Vec<ArrayRef> = columns.iter().map(|c| c.slice(rows.start, rows.len())).collect();
            self.aggregates[*place].merge_batch(&columns, groups, self.seen.len())?;
        }
        Ok(self.grown())
    }

    fn grown(&mut self) -> usize {
        let before = self.bytes;
        // what shrinks is given back when the bucket is done
        self.bytes = before.max(self.aggregates.iter().map(|a| a.size()).sum());
        self.bytes - before
    }

    /// Writes the states to disk and begins anew.
    fn spill(&mut self, spills: &SpillManager) -> Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let mut columns = Vec::new();
        for mut aggregate in std::mem::take(&mut self.aggregates) {
            columns.extend(aggregate.state(EmitTo::All)?);
        }
        let batch = RecordBatch::try_new(Arc::clone(spills.schema()), columns)?;
        self.files.extend(spills.spill_record_batch_and_finish(&[batch], "fold")?);
        self.bytes = 0;
        Ok(())
    }
}

/// Merges partial states of entities from `start` on. Where the next begin.
fn merge(
    aggregates: &mut [Box<dyn GroupsAccumulator>],
    widths: &[usize],
    states: &RecordBatch,
    start: usize,
    size: usize,
) -> Result<usize> {
    let end = start + states.num_rows();
    let groups: Vec<usize> = (start..end).collect();
    let mut columns = states.columns();
    for (aggregate, width) in aggregates.iter_mut().zip(widths) {
        let (own, rest) = columns.split_at(*width);
        aggregate.merge_batch(own, &groups, size)?;
        columns = rest;
    }
    Ok(end)
}

impl Folding {
    /// Fresh states of `size` entities.
    fn accumulators(&self, size: usize) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        let made = self.aggregates.iter().zip(&self.nothing).map(|(aggregate, nothing)| {
            if !aggregate.groups_accumulator_supported() {
                let aggregate = Arc::clone(aggregate);
                return Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())) as _);
            }
            let mut accumulator = aggregate.create_groups_accumulator()?;
            // DataFusion's accumulators take every group below the total for one that has had a row, until they have
            // seen a filter: a filter without rows tells them that no group has
            accumulator.update_batch(nothing, &[], Some(&BooleanArray::from(Vec::<bool>::new())), size)?;
            Ok(accumulator)
        });
        made.collect()
    }
}

/// Partial states of all aggregates in one schema.
fn side_by_side(states: &[Vec<FieldRef>]) -> SchemaRef {
    let fields = states.iter().flatten().zip(0..);
    Arc::new(Schema::new(
        fields.map(|(field, n)| Field::new(format!("s{n}"), field.data_type().clone(), true)).collect::<Vec<_>>(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::functions::aggregate_functions;
    use datafusion::arrow::array::{Decimal128Array, Int64Array, StringArray};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::memory_pool::FairSpillPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::{SessionConfig, SessionContext};

    const ENTITIES: usize = 2 * (1 << BUCKET_BITS) + 77;
    const BYTES: usize = 64 << 20;

    /// Three partitions of rows; some belong to nobody, and some entities have none. `n` and `s` have nulls everywhere,
    /// `d` nowhere, and `late` in the last batch of a partition only, where many entities have their first row.
    fn rows() -> Vec<Vec<RecordBatch>> {
        let schema = Arc::new(Schema::new(vec![
            Field::new(ENTITY, DataType::UInt32, true),
            Field::new("n", DataType::Int64, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("d", DataType::Decimal128(10, 2), false),
            Field::new("late", DataType::Int64, true),
        ]));
        let batch = |seed: u64| {
            let number = |row: u64, salt: u64, below: u64| {
                (row + seed * 10_000 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) % below
            };
            let rows = 0..9_000_u64;
            let entity = |row: u64| number(row, 1, ENTITIES as u64) as u32 / 3 * 3;
            let entities: UInt32Array = rows.clone().map(|row| (number(row, 2, 20) > 0).then(|| entity(row))).collect();
            let numbers: Int64Array =
                rows.clone().map(|row| (number(row, 3, 9) > 0).then(|| number(row, 4, 40) as i64)).collect();
            let texts: StringArray = rows
                .clone()
                .map(|row| (number(row, 5, 7) > 0).then(|| format!("text {}", number(row, 6, 12))))
                .collect();
            let decimals = Decimal128Array::from_iter_values(rows.clone().map(|row| i128::from(number(row, 7, 500))));
            let decimals = decimals.with_precision_and_scale(10, 2).unwrap();
            let late: Int64Array =
                rows.map(|row| (seed % 3 < 2 || number(row, 8, 4) == 0).then(|| number(row, 9, 9) as i64)).collect();
            let columns: Vec<ArrayRef> =
                vec![Arc::new(entities), Arc::new(numbers), Arc::new(texts), Arc::new(decimals), Arc::new(late)];
            RecordBatch::try_new(Arc::clone(&schema), columns)
        };
        (0..3).map(|part| (0..3).map(|n| batch(part * 3 + n).unwrap()).collect()).collect()
    }

    const SQL: &str = "SELECT __entity, count(*) AS a, sum(n) FILTER (WHERE n > 20) AS b, most_frequent(s) AS c,
        unique_list(s) FILTER (WHERE n < 30) AS d, unique_count(n) AS e, min(s) AS f, max(n) AS g, avg(n) AS h,
        approx_distinct(s) AS i, count(DISTINCT n) AS j, median(n) AS k, bool_or(n = 3) AS l,
        sum(late) AS m, min(late) AS o, max(late) AS p, avg(late) AS q, bool_and(late > 2) AS r, bit_and(late) AS u,
        avg(d) AS v, sum(d) AS w
        FROM t GROUP BY __entity";

    /// The aggregation of a query, without the projection that SQL puts above it.
    async fn planned(sql: &str, memory: usize) -> (Arc<dyn ExecutionPlan>, TaskContext) {
        planned_over(rows(), sql, memory).await
    }

    async fn planned_over(
        parts: Vec<Vec<RecordBatch>>,
        sql: &str,
        memory: usize,
    ) -> (Arc<dyn ExecutionPlan>, TaskContext) {
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory))).build_arc().unwrap();
        let config = SessionConfig::new().with_target_partitions(3).with_batch_size(1000);
        let context = SessionContext::new_with_config_rt(config, runtime);
        for function in aggregate_functions() {
            context.register_udaf(function);
        }
        let table = MemTable::try_new(rows()[0][0].schema(), parts).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let frame = context.sql(sql).await.unwrap();
        let task = frame.task_ctx();
        let projection = frame.create_physical_plan().await.unwrap();
        (Arc::clone(projection.children()[0]), task)
    }

    /// The rows of somebody, by entity.
    fn shown(batches: &[RecordBatch]) -> String {
        let all = concat_batches(&batches[0].schema(), batches).unwrap();
        let entities = all.column(0).as_primitive::<UInt32Type>();
        let mut order: Vec<u32> = (0..all.num_rows() as u32).filter(|row| entities.is_valid(*row as usize)).collect();
        order.sort_unstable_by_key(|row| entities.value(*row as usize));
        pretty_format_batches(&[take_record_batch(&all, &UInt32Array::from(order)).unwrap()]).unwrap().to_string()
    }

    #[tokio::test]
    async fn equals_the_plan() {
        let (plan, task) = planned(SQL, BYTES).await;
        let expected = shown(&collect(Arc::clone(&plan), Arc::new(task)).await.unwrap());
        let (plan, task) = planned(SQL, BYTES).await;
        let folding = Folding::of(&plan).unwrap().expect("a plain aggregation");
        assert_eq!(shown(&folding.run(task, ENTITIES).await.unwrap()), expected);
        assert!(expected.lines().count() > 5_000);
    }

    #[tokio::test]
    async fn equals_the_plan_with_states_on_disk() {
        let (plan, task) = planned(SQL, BYTES).await;
        let expected = shown(&collect(plan, Arc::new(task)).await.unwrap());
        let (plan, task) = planned(SQL, 4 << 20).await;
        let folding = Folding::of(&plan).unwrap().expect("a plain aggregation");
        let task = Arc::new(task);
        let streams = execute_stream_partitioned(Arc::clone(&folding.input), Arc::clone(&task)).unwrap();
        let running = Arc::new(Running::new(folding, &task, ENTITIES, BUCKET_BITS).unwrap());
        for stream in streams {
            running.read(stream, 4_000, 1).await.unwrap();
        }
        let files: Vec<usize> = running.buckets.iter().map(|bucket| lock(bucket).files.len()).collect();
        assert!(files.iter().any(|files| *files > 1), "states went to disk more than once: {files:?}");
        assert_eq!(shown(&running.finish(2).await.unwrap()), expected);
    }

    /// Aggregates whose states are kept, over all kinds of values.
    const KEPT: &str = "SELECT __entity, count(*) AS a, sum(n) FILTER (WHERE n > 20) AS b, most_frequent(s) AS c,
        unique_list(s) FILTER (WHERE n < 30) AS d, unique_count(n) AS e, min(s) AS f, max(n) AS g, count(n) AS h,
        bool_or(n = 3) AS l, sum(late) AS m, min(late) AS o, max(late) AS p, bool_and(late > 2) AS r,
        bit_and(late) AS u, bit_xor(n) AS v, sum(d) AS w, unique_list(CAST(n AS DOUBLE)) AS x, most_frequent(d) AS y,
        max(to_timestamp_micros(n)) AS z, min(to_timestamp_micros(n)) FILTER (WHERE n > 8) AS aa
        FROM t GROUP BY __entity";

    /// The rows in so many heaps, dealt out by chance.
    fn heaps(count: usize, seed: u64) -> Vec<Vec<Vec<RecordBatch>>> {
        let heap = |row: u64| (row ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) as usize % count;
        let deal = |wanted: usize| {
            let part = |batches: &Vec<RecordBatch>| {
                let of = |batch: &RecordBatch| {
                    let chosen: BooleanArray =
                        (0..batch.num_rows() as u64).map(|row| Some(heap(row) == wanted)).collect();
                    filter_record_batch(batch, &chosen).unwrap()
                };
                batches.iter().map(of).collect()
            };
            rows().iter().map(part).collect()
        };
        (0..count).map(deal).collect()
    }

    /// A batch after it went into a Parquet file in the types of a table and came back.
    fn stored(batch: &RecordBatch) -> RecordBatch {
        let schema = Schema::new(
            (0..batch.num_columns())
                .map(|n| Field::new(format!("s{n}"), batch.column(n).data_type().clone(), true))
                .collect::<Vec<_>>(),
        );
        let named = RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap();
        let stored = crate::warehouse::storable_batch(&named).unwrap();
        let mut file = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, stored.schema(), None).unwrap();
        writer.write(&stored).unwrap();
        writer.close().unwrap();
        let file = bytes::Bytes::from(file);
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let read: Vec<RecordBatch> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
        let read = concat_batches(&stored.schema(), &read).unwrap();
        crate::engine::build::conform(&read, &named.schema()).unwrap()
    }

    /// Merges the stored states of heaps of rows, `joined` into one set before or not.
    async fn from_states(heaps: Vec<Vec<Vec<RecordBatch>>>, joined: bool, memory: usize) -> String {
        let nothing = vec![vec![RecordBatch::new_empty(rows()[0][0].schema())]];
        let (plan, task) = planned_over(nothing, KEPT, memory).await;
        let running = Folding::of(&plan).unwrap().expect("a plain aggregation").read(task, ENTITIES).await.unwrap();
        let mut batches = Vec::new();
        for heap in heaps {
            let (plan, task) = planned_over(heap, KEPT, BYTES).await;
            let partial = partial(&plan, 1, None, 3).unwrap().expect("a plain aggregation");
            assert_eq!(running.place("e"), partial.names.iter().position(|name| name == "e"));
            batches.extend(collect(partial.plan, Arc::new(task)).await.unwrap().iter().map(stored));
        }
        if joined {
            let states = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
            let (plan, task) = planned(KEPT, BYTES).await;
            let context = SessionContext::new_with_config_rt(SessionConfig::new(), task.runtime_env());
            let states = context.read_table(Arc::new(states)).unwrap().create_physical_plan().await;
            let partial = partial(&plan, 1, Some(states.unwrap()), 2).unwrap().expect("a plain aggregation");
            batches = collect(partial.plan, Arc::new(task)).await.unwrap().iter().map(stored).collect();
            let keys: usize = batches.iter().map(RecordBatch::num_rows).sum();
            assert!(keys <= ENTITIES + 1, "one row for each key, not {keys}");
        }
        for batch in batches {
            let mut columns = &batch.columns()[1..];
            let mut states = Vec::new();
            for place in 0..running.widths.len() {
                let (own, rest) = columns.split_at(running.widths[place]);
                states.push((place, own.to_vec()));
                columns = rest;
            }
            running.merge(batch.column(0).as_primitive(), &states, 1).unwrap();
        }
        shown(&running.finish(2).await.unwrap())
    }

    #[tokio::test]
    async fn stored_states_of_any_split_give_what_one_pass_gives() {
        let (plan, task) = planned(KEPT, BYTES).await;
        let expected = shown(&collect(plan, Arc::new(task)).await.unwrap());
        assert!(expected.lines().count() > 5_000);
        for (count, seed) in [(1, 1), (2, 7), (5, 42)] {
            assert_eq!(from_states(heaps(count, seed), false, BYTES).await, expected, "{count} heaps");
        }
        assert_eq!(from_states(heaps(3, 5), true, BYTES).await, expected, "joined before");
        assert_eq!(from_states(heaps(3, 9), false, 4 << 20).await, expected, "with states on disk");
        let mut lost = heaps(3, 11);
        lost.pop();
        assert_ne!(from_states(lost, false, BYTES).await, expected, "the comparison sees what is missing");
    }

    #[tokio::test]
    async fn what_needs_an_order_is_left_to_the_plan() {
        let (plan, _) = planned("SELECT __entity, array_agg(s ORDER BY n) AS a FROM t GROUP BY __entity", BYTES).await;
        assert!(Folding::of(&plan).unwrap().is_none());
    }
}
