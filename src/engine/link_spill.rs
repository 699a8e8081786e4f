//! Links of an identity that do not fit the memory budget: sorted runs on disk, joined to one when all are known.
//!
//! A run has each pair of identifiers once, with its earliest row as proof; runs are in the order of pairs, so
//! that joining them reads each once and holds little of any. What is held afterwards is a link's two ends and its time;
//! the proofs stay on disk until the table of links is written.

use super::internal;
use super::proofs::{ProofWriter, Proofs, RowIds};
use crate::error::{Context, ErrorKind, Result};
use crate::identity::{Evidence, Link, LinkSet, Nodes, Pair};
use datafusion::arrow::array::{
    Array, AsArray, Int64Builder, RecordBatch, StringArray, StringBuilder, UInt16Builder, UInt64Builder,
};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt16Type, UInt64Type};
use datafusion::common::Result as Made;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::sorts::streaming_merge::{SortedSpillFile, StreamingMergeBuilder};
use futures::StreamExt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of a batch of a run: of each run that is joined, two are held.
const ROWS: usize = 4_096;
const WHAT: &str = "links of an identity";

/// The runs that were written.
pub(super) struct LinkSpill {
    env: Arc<RuntimeEnv>,
    spills: SpillManager,
    runs: Mutex<Vec<SortedSpillFile>>,
    written: AtomicUsize,
}

impl LinkSpill {
    pub(super) fn new(env: &Arc<RuntimeEnv>) -> Self {
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let spills = SpillManager::new(Arc::clone(env), metrics, run_schema()).with_batch_read_buffer_capacity(1);
        Self { env: Arc::clone(env), spills, runs: Mutex::default(), written: AtomicUsize::new(0) }
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// How many links there are at most in all runs together.
    pub(super) fn most_links(&self) -> usize {
        self.written.load(Relaxed)
    }

    /// Empties a set into a run. `ids` are those of the rows that are proof.
    ///
    /// # Errors
    /// When the disk is full.
    pub(super) fn write(&self, links: &mut LinkSet, ids: &RowIds) -> Made<()> {
        if links.is_empty() {
            return Ok(());
        }
        let mut file = self.spills.create_in_progress_file(WHAT)?;
        let mut largest = 0;
        for part in links.drain() {
            for some in part.chunks(ROWS) {
                let batch = run_batch(some, ids)?;
                largest = largest.max(batch.get_array_memory_size());
                file.append_batch(&batch)?;
                self.written.fetch_add(some.len(), Relaxed);
            }
        }
        if let Some(file) = file.finish()? {
            let run = SortedSpillFile { file, max_record_batch_memory: largest };
            self.runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
        }
        Ok(())
    }

    /// Joins all runs. `memory` grows by what the links take.
    ///
    /// # Errors
    /// When the links themselves do not fit the memory, or the disk is full.
    pub(super) async fn join(self, nodes: &Nodes, memory: &MemoryReservation) -> Result<(Vec<Link>, Proofs)> {
        let doing = || "cannot join the links of an identity".to_owned();
        let runs = self.runs.into_inner().unwrap_or_else(PoisonError::into_inner);
        let file = self.env.disk_manager.create_tmp_file(WHAT).or_fail(ErrorKind::Storage, doing)?;
        let mut joined = Joined { nodes, links: Vec::new(), proofs: ProofWriter::new(file)?, last: None };
        if runs.is_empty() {
            return joined.finish();
        }
        let order = [PhysicalSortExpr::new_default(col("pair", &run_schema()).map_err(internal)?)].into();
        let merged = StreamingMergeBuilder::new()
            .with_sorted_spill_files(runs)
            .with_spill_manager(self.spills)
            .with_schema(run_schema())
            .with_expressions(&order)
            .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
            .with_batch_size(ROWS)
            .with_reservation(memory.new_empty())
            .build();
        let mut merged = merged.or_fail(ErrorKind::Failed, doing)?;
        while let Some(batch) = merged.next().await {
            joined.take(&batch.or_fail(ErrorKind::Failed, doing)?)?;
            let held = joined.links.capacity() * size_of::<Link>();
            memory.try_resize(held).or_fail(ErrorKind::Failed, doing)?;
        }
        joined.finish()
    }
}

fn run_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pair", DataType::UInt64, false),
        Field::new("first_seen", DataType::Int64, false),
        Field::new("table", DataType::UInt16, false),
        Field::new("row", DataType::UInt64, false),
        Field::new("row_id", DataType::Utf8, true),
    ]))
}

fn run_batch(links: &[(Pair, Evidence)], ids: &RowIds) -> Made<RecordBatch> {
    let (mut pairs, mut times) = (UInt64Builder::new(), Int64Builder::new());
    let (mut tables, mut rows, mut row_ids) = (UInt16Builder::new(), UInt64Builder::new(), StringBuilder::new());
    for (pair, Evidence { first_seen, table, row }) in links {
        pairs.append_value(pair.0);
        times.append_value(*first_seen);
        tables.append_value(*table);
        rows.append_value(*row);
        row_ids.append_option(ids.get((*table, *row)));
    }
    let columns = vec![
        Arc::new(pairs.finish()) as _,
        Arc::new(times.finish()) as _,
        Arc::new(tables.finish()) as _,
        Arc::new(rows.finish()) as _,
        Arc::new(row_ids.finish()) as _,
    ];
    Ok(RecordBatch::try_new(run_schema(), columns)?)
}

/// Runs while they are joined.
struct Joined<'n> {
    nodes: &'n Nodes,
    links: Vec<Link>,
    proofs: ProofWriter,
    /// The earliest row so far of the pair that is being read, with the row's id.
    last: Option<(Pair, Evidence, Option<String>)>,
}

impl Joined<'_> {
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let (pairs, rows) =
            (batch.column(0).as_primitive::<UInt64Type>(), batch.column(3).as_primitive::<UInt64Type>());
        let (times, tables) =
            (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_primitive::<UInt16Type>());
        let ids: &StringArray = batch.column(4).as_string();
        for place in 0..batch.num_rows() {
            let (first_seen, table, row) = (times.value(place), tables.value(place), rows.value(place));
            let (pair, evidence) = (Pair(pairs.value(place)), Evidence { first_seen, table, row });
            let id = || ids.is_valid(place).then(|| ids.value(place).to_owned());
            match &mut self.last {
                Some((last, known, known_id)) if *last == pair => {
                    if evidence < *known {
                        (*known, *known_id) = (evidence, id());
                    }
                }
                _ => {
                    let before = self.last.replace((pair, evidence, id()));
                    self.keep(before)?;
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, link: Option<(Pair, Evidence, Option<String>)>) -> Result<()> {
        let Some((pair, evidence, id)) = link else { return Ok(()) };
        if self.links.len() == self.links.capacity() {
            self.links.reserve_exact((self.links.len() / 4).max(ROWS));
        }
        self.links.push(pair.link(evidence.first_seen, self.nodes));
        self.proofs.push(evidence.table, id.as_deref())
    }

    fn finish(mut self) -> Result<(Vec<Link>, Proofs)> {
        let last = self.last.take();
        self.keep(last)?;
        Ok((self.links, self.proofs.finish()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::proofs::Proof;
    use crate::identity::{Interner, NO_TIME, Scratch};
    use datafusion::execution::memory_pool::{MemoryConsumer, UnboundedMemoryPool};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A row: two identifiers, a time, a table and what the row is called.
    type Row = (u8, u8, i64, u16, u16);

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let time = prop_oneof![5 => 0..6_i64, 1 => Just(NO_TIME)];
        prop::collection::vec((0..40_u8, 0..40_u8, time, 0..2_u16, 0..9_u16), 0..400)
    }

    /// By the texts of its ends, when a link was first seen and where: by definition.
    fn plainly(rows: &[Row]) -> BTreeMap<(u8, u8), (i64, Proof<'static>)> {
        let mut links: BTreeMap<(u8, u8), (i64, u16, u16)> = BTreeMap::new();
        for (a, b, time, table, row) in rows.iter().filter(|(a, b, ..)| a != b) {
            let known = links.entry((*a.min(b), *a.max(b))).or_insert((*time, *table, *row));
            *known = (*known).min((*time, *table, *row));
        }
        let proof = |table: u16, row: u16| Proof { table, row: (table == 0).then(|| format!("row {row}").into()) };
        links.into_iter().map(|(ends, (time, table, row))| (ends, (time, proof(table, row)))).collect()
    }

    async fn spilled(rows: &[Row], every: usize) -> BTreeMap<(u8, u8), (i64, Proof<'static>)> {
        let env = Arc::new(RuntimeEnv::default());
        let spill = LinkSpill::new(&env);
        let interner = Interner::new(1);
        let texts: Vec<String> = (0..40).map(|number: u8| number.to_string()).collect();
        let mut codes = Vec::new();
        let values = texts.iter().map(|text| Some(text.as_str()));
        interner.intern_batch(&mut Scratch::default(), 0, values, None, &mut codes).unwrap();
        let mut shares = [(LinkSet::new(), RowIds::default()), (LinkSet::new(), RowIds::default())];
        for (place, &(a, b, time, table, row)) in rows.iter().enumerate() {
            let (links, ids) = &mut shares[place % 2];
            let taken = links.add((codes[usize::from(a)], codes[usize::from(b)]), time, table, || row.into());
            if taken && table == 0 {
                ids.insert((table, row.into()), &format!("row {row}"));
            }
            if place % every == every - 1 {
                spill.write(links, ids).unwrap();
                *ids = RowIds::default();
            }
        }
        for (links, ids) in &mut shares {
            spill.write(links, ids).unwrap();
        }
        let nodes = interner.freeze();
        let pool = Arc::new(UnboundedMemoryPool::default()) as _;
        let memory = MemoryConsumer::new("test").register(&pool);
        let (links, proofs) = spill.join(&nodes, &memory).await.unwrap();
        let number = |node: u32| nodes.text(node).parse::<u8>().unwrap();
        let link = |(link, proof): (&Link, Proof<'_>)| {
            let (a, b) = (number(link.a), number(link.b));
            let proof = Proof { table: proof.table, row: proof.row.map(|row| row.into_owned().into()) };
            ((a.min(b), a.max(b)), (link.first_seen, proof))
        };
        let found: BTreeMap<_, _> = links.iter().zip(proofs.of(0..links.len()).unwrap()).map(link).collect();
        assert_eq!(found.len(), links.len(), "each link once");
        found
    }

    proptest! {
        #[test]
        fn runs_join_to_what_the_rows_say(rows in rows(), every in 1..90_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            prop_assert_eq!(runtime.block_on(spilled(&rows, every)), plainly(&rows));
        }
    }
}
