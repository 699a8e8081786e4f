//! Merging the partial states of a group of columns: from stored sets, and from files that no set has. See
//! [`super::partials`].

use super::Engine;
use super::build::{RunContext, conform, one_after_the_other};
use super::committed;
use super::entities::{keys_of, with_keys};
use super::fold::{self, FoldColumn, FoldGroup, FoldTable, key_name};
use super::folding::{self, Running, joined};
use super::internal;
use super::partials::{Partials, Stored};
use super::storable::{returns, source_of};
use super::threads;
use super::wide::physical;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{Contents, PartialSet, Reading};
use crate::warehouse::TableWriter;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{ExprSchemable, ident};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream_partitioned};
use futures::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Rows of a batch: more than elsewhere, because a bucket of the fold is visited for each.
const BATCH_ROWS: usize = 32_768;

/// A group of columns whose states are merged.
pub(super) struct Merging<'a> {
    pub engine: &'a Engine,
    pub partials: &'a Partials,
    pub run: &'a RunContext,
    pub tables: &'a BTreeMap<String, FoldTable>,
    pub stored: &'a Stored,
    pub group: &'a FoldGroup,
}

/// One table of the group.
struct Table<'a> {
    name: &'a str,
    source: &'a str,
    rows: &'a FoldTable,
    running: &'a Arc<Running>,
    /// By fingerprint, a column with these states, and the places in the fold of all that have them.
    columns: BTreeMap<String, (FoldColumn, Vec<usize>)>,
}

/// States as they come from one plan: the keys, then those of each column.
struct States {
    plan: Arc<dyn ExecutionPlan>,
    task: TaskContext,
    /// Columns in their order, by fingerprint.
    columns: Vec<String>,
    /// Files whose rows they hold, where they are to be stored.
    store: Option<Contents>,
}

impl Merging<'_> {
    /// The result of the group, a row for each entity that has rows.
    pub(super) async fn run(&self, entities: usize) -> Result<Vec<RecordBatch>> {
        let doing = || "an aggregate failed".to_owned();
        let Some((folding, task)) = self.group.folding(&self.engine.context).await? else {
            return Err(Error::new(ErrorKind::Failed, "no plain aggregation has states to merge"));
        };
        let running = folding.read(task, entities).await.or_fail(ErrorKind::Data, doing)?;
        for name in &self.group.tables {
            let columns = self.columns_of(name, &running);
            if let Some(rows) = self.tables.get(name).filter(|_| !columns.is_empty()) {
                self.merge_all(&Table { name, source: source_of(name), rows, running: &running, columns }).await?;
            }
        }
        running.finish(self.engine.resources.threads).await.or_fail(ErrorKind::Data, doing)
    }

    fn columns_of(&self, table: &str, running: &Running) -> BTreeMap<String, (FoldColumn, Vec<usize>)> {
        let mut columns: BTreeMap<String, (FoldColumn, Vec<usize>)> = BTreeMap::new();
        for column in &self.stored.columns {
            // a column that is another one under a further name has no place of its own
            let Some(place) = running.place(&column.name) else { continue };
            let fingerprint = self.stored.fingerprints.get(&(column.name.clone(), table.to_owned()));
            if let Some(fingerprint) = fingerprint {
                let known = columns.entry(fingerprint.clone()).or_insert_with(|| (column.clone(), Vec::new()));
                known.1.push(place);
            }
        }
        columns
    }

    /// Merges the states of all files of a table.
    async fn merge_all(&self, table: &Table<'_>) -> Result<()> {
        let sets = &self.partials.sets;
        let Some(files) = self.partials.files(table.source) else { return Ok(()) };
        let wanted = table.columns.keys().cloned().collect();
        let reading = Reading::decide(sets, table.source, files, &wanted);
        let to_join = reading.to_join(sets);
        self.merge_sets(table, &reading, &to_join).await.map_err(|e| {
            let damaged = e.context(format!("cannot take the partial states of `{}`", table.source));
            damaged.with_help("`kinfold run --full` makes them again")
        })?;
        for (lacks, of) in &reading.missing {
            let files = files.iter().filter(|(file, _)| lacks.contains(*file));
            let files = files.map(|(file, content)| (file.clone(), content.clone())).collect();
            self.merge(table, self.states_of_files(table, files, of).await?).await?;
        }
        let mut used = self.partials.used();
        used.folded.insert(table.source.to_owned());
        used.taken.extend(reading.taken.iter().map(|(place, _)| *place));
        used.joined.extend(to_join);
        Ok(())
    }

    /// Merges what earlier runs stored.
    async fn merge_sets(&self, table: &Table<'_>, reading: &Reading, to_join: &[usize]) -> Result<()> {
        let sets = &self.partials.sets;
        if !to_join.is_empty() {
            let small: Vec<&PartialSet> = to_join.iter().map(|place| &sets[*place]).collect();
            self.merge(table, self.states_of_sets(table, &small).await?).await?;
        }
        for (place, gives) in reading.taken.iter().filter(|(place, _)| !to_join.contains(place)) {
            // the files of an empty set have no rows that count
            if !sets[*place].parts.is_empty() {
                self.merge(table, self.states_of_set(table, &sets[*place], gives).await?).await?;
            }
        }
        Ok(())
    }

    /// States that a set has of some columns.
    async fn states_of_set(&self, table: &Table<'_>, set: &PartialSet, gives: &BTreeSet<String>) -> Result<States> {
        let columns: Vec<String> = gives.iter().cloned().collect();
        let (plan, task) = self.planned(self.rows_of_set(table, set, &columns).await?).await?;
        Ok(States { plan, task, columns, store: None })
    }

    /// States of many sets of the same columns, to be one set.
    async fn states_of_sets(&self, table: &Table<'_>, sets: &[&PartialSet]) -> Result<States> {
        let columns: Vec<String> =
            sets.iter().flat_map(|set| set.columns.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let files = sets.iter().flat_map(|set| set.files.clone()).collect();
        let mut rows: Option<Arc<dyn TableProvider>> = None;
        for set in sets.iter().filter(|set| !set.parts.is_empty()) {
            let own = self.rows_of_set(table, set, &columns).await?;
            rows = Some(match rows {
                Some(rows) => one_after_the_other(rows, own).map_err(internal)?,
                None => own,
            });
        }
        let states = match rows {
            Some(rows) => Some(self.planned(rows).await?.0),
            None => None,
        };
        let (plan, task) = self.partial(table, &BTreeSet::new(), &columns, states).await?;
        Ok(States { plan, task, columns, store: Some(files) })
    }

    /// States of the rows of some files, which are read.
    async fn states_of_files(&self, table: &Table<'_>, files: Contents, of: &BTreeSet<String>) -> Result<States> {
        let columns: Vec<String> = of.iter().cloned().collect();
        let names = files.keys().cloned().collect();
        let (plan, task) = self.partial(table, &names, &columns, None).await?;
        Ok(States { plan, task, columns, store: Some(files) })
    }

    /// A plan that makes states by key, from some files or from other states.
    async fn partial(
        &self,
        table: &Table<'_>,
        files: &BTreeSet<String>,
        columns: &[String],
        states: Option<Arc<dyn ExecutionPlan>>,
    ) -> Result<(Arc<dyn ExecutionPlan>, TaskContext)> {
        let doing = || format!("cannot read `{}`", table.source);
        let mut own = Vec::with_capacity(columns.len());
        for column in columns {
            let of_table = fold::of_table(self.tables, &table.columns[column].0, table.name).map_err(internal)?;
            own.push(FoldColumn { name: column.clone(), ..of_table });
        }
        let keys = keys_of(&table.rows.entity).unwrap_or_default();
        let rows = self.engine.with_files(table.name, table.rows, files)?;
        let plan = fold::by_keys((table.name, rows), keys, own).map_err(internal)?;
        let threads = self.engine.resources.threads;
        let planned = async {
            let frame = self.engine.context.execute_logical_plan(plan).await?;
            let task = frame.task_ctx();
            let plan = frame.create_physical_plan().await?;
            Ok::<_, datafusion::error::DataFusionError>((folding::partial(&plan, keys.len(), states, threads)?, task))
        };
        match planned.await.or_fail(ErrorKind::Data, doing)? {
            (Some(partial), task) if partial.names == columns => Ok((partial.plan, task)),
            _ => Err(Error::new(ErrorKind::Failed, doing()).caused_by("no plain aggregation by keys")),
        }
    }

    async fn planned(&self, rows: Arc<dyn TableProvider>) -> Result<(Arc<dyn ExecutionPlan>, TaskContext)> {
        let planned = async {
            let frame = self.engine.context.read_table(rows)?;
            let task = frame.task_ctx();
            Ok::<_, datafusion::error::DataFusionError>((frame.create_physical_plan().await?, task))
        };
        planned.await.or_fail(ErrorKind::Data, || "cannot read partial states".to_owned())
    }

    /// The rows of a set, with the states of some columns.
    async fn rows_of_set(
        &self,
        table: &Table<'_>,
        set: &PartialSet,
        columns: &[String],
    ) -> Result<Arc<dyn TableProvider>> {
        let place = |column: &String| set.columns.iter().position(|known| known == column).unwrap_or_default();
        let schema = table.schema(columns, place)?;
        let warehouse = &self.run.warehouse;
        // a file that is gone or empty would be taken for one without rows
        let mut bytes = 0;
        for part in &set.parts {
            bytes += warehouse.partial_bytes(part).await?;
        }
        if bytes != set.bytes {
            let message = format!("partial states have {bytes} bytes, not the {} that were written", set.bytes);
            return Err(Error::new(ErrorKind::Data, message));
        }
        let paths = set.parts.iter().map(|part| warehouse.partial_path(part));
        committed::over_files(&self.engine.context, warehouse, "partial states", paths, &schema)
    }

    /// Merges states, and stores them if nobody did yet.
    async fn merge(&self, table: &Table<'_>, states: States) -> Result<()> {
        let States { plan, task, columns, store } = states;
        let doing = || format!("cannot merge the partial states of `{}`", table.source);
        let place = |column: &String| columns.iter().position(|known| known == column).unwrap_or_default();
        let schema = table.schema(&columns, place)?;
        let keys = keys_of(&table.rows.entity).unwrap_or_default().len();
        let named = (0..keys).map(|n| ident(key_name(n))).collect();
        let bound = DFSchema::try_from(schema.as_ref().clone()).map_err(internal)?;
        let entity = physical(&self.engine.state, with_keys(&table.rows.entity, named), &bound).map_err(internal)?;
        let writer = store.as_ref().map(|_| self.partials.store.writer(&schema)).transpose()?;
        let taking = Arc::new(Taking {
            schema,
            entity,
            keys,
            states: columns.iter().map(|column| table.places(column)).collect::<Result<_>>()?,
            running: Arc::clone(table.running),
            writer: Mutex::new(writer),
        });
        let larger = task.session_config().clone().with_batch_size(BATCH_ROWS);
        let streams = threads::dealt_out(plan, self.engine.resources.threads)
            .and_then(|plan| execute_stream_partitioned(plan, Arc::new(task.with_session_config(larger))))
            .or_fail(ErrorKind::Data, doing)?;
        let mut tasks = JoinSet::new();
        for (number, stream) in streams.into_iter().enumerate() {
            let taking = Arc::clone(&taking);
            tasks.spawn(async move { Ok(taking.all_of(stream, number).await) });
        }
        let mut failed = None;
        while let Some(done) = tasks.join_next().await {
            let done = joined(done).or_fail(ErrorKind::Failed, doing).flatten();
            failed = failed.or(done.err());
        }
        let writer = taking.writer.lock().await.take();
        match (failed, writer, store) {
            (None, Some(writer), Some(files)) => self.keep(table, columns, files, writer).await,
            (None, ..) => Ok(()),
            (Some(error), writer, _) => {
                if let Some(writer) = writer {
                    writer.abort().await;
                }
                Err(error.context(doing()))
            }
        }
    }

    /// Ends a new set.
    async fn keep(&self, table: &Table<'_>, columns: Vec<String>, files: Contents, writer: TableWriter) -> Result<()> {
        let written = writer.finish().await?;
        let set = PartialSet {
            table: table.source.to_owned(),
            columns,
            files,
            rows: written.rows(),
            bytes: written.files.iter().map(|file| file.size).sum(),
            parts: written.files.into_iter().map(|file| file.name).collect(),
            run: self.run.number,
            idle: 0,
        };
        self.partials.used().made.push(set);
        Ok(())
    }
}

impl Table<'_> {
    /// Columns of keys and states; `place` says where a set has a column.
    fn schema(&self, columns: &[String], place: impl Fn(&String) -> usize) -> Result<SchemaRef> {
        let mut fields = Vec::new();
        for (key, n) in keys_of(&self.rows.entity).unwrap_or_default().iter().zip(0..) {
            let data_type = key.get_type(self.rows.plan.schema()).map_err(internal)?;
            fields.push(Field::new(key_name(n), data_type, true));
        }
        for column in columns {
            let types = self.types(column)?.into_iter().zip(0..);
            fields.extend(types.map(|(t, n)| Field::new(format!("s{}_{n}", place(column)), t, true)));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    fn types(&self, column: &str) -> Result<Vec<DataType>> {
        let place = self.columns[column].1[0];
        let types = self.running.state_types(place).map_err(internal)?;
        debug_assert!(types.iter().all(comes_back), "only such columns are stored: {types:?}");
        Ok(types)
    }

    /// The places in the fold that take a column's states, and how many columns these have.
    fn places(&self, column: &str) -> Result<(Vec<usize>, usize)> {
        Ok((self.columns[column].1.clone(), self.types(column)?.len()))
    }
}

/// Whether states of a type come back from a file as they went in.
fn comes_back(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary => true,
        DataType::List(item) => returns(item.data_type()),
        other => returns(other),
    }
}

/// What happens with batches of states.
struct Taking {
    schema: SchemaRef,
    /// Whose a key is.
    entity: Arc<dyn PhysicalExpr>,
    keys: usize,
    /// By column, the places in the fold that take its states, and how many columns these have.
    states: Vec<(Vec<usize>, usize)>,
    running: Arc<Running>,
    writer: Mutex<Option<TableWriter>>,
}

impl Taking {
    /// Takes a stream, the one with this number.
    async fn all_of(&self, mut stream: SendableRecordBatchStream, number: usize) -> Result<()> {
        let doing = || "states cannot be read".to_owned();
        while let Some(batch) = stream.next().await {
            let batch = conform(&batch.or_fail(ErrorKind::Data, doing)?, &self.schema)?;
            if let Some(writer) = self.writer.lock().await.as_mut() {
                writer.write(&batch).await?;
            }
            self.take(&batch, number).or_fail(ErrorKind::Data, doing)?;
        }
        Ok(())
    }

    fn take(&self, batch: &RecordBatch, stream: usize) -> datafusion::error::Result<()> {
        let entities = self.entity.evaluate(batch)?.into_array(batch.num_rows())?;
        let mut columns = &batch.columns()[self.keys..];
        let mut states: Vec<(usize, Vec<ArrayRef>)> = Vec::new();
        for (places, width) in &self.states {
            let (own, rest) = columns.split_at(*width);
            states.extend(places.iter().map(|place| (*place, own.to_vec())));
            columns = rest;
        }
        self.running.merge(entities.as_primitive::<UInt32Type>(), &states, stream)
    }
}
