//! Tables whose rows are made while somebody reads them, so that they are never all held: by a plan, or a chunk at a
//! time from what a stage keeps.
//!
//! The table writer is one reader. Models of the same run that read the table make the rows again, until they are
//! written; then they read the files.

use super::{Engine, build, internal};
use crate::error::{Context, ErrorKind, Result};
use crate::warehouse::WriteMode;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, SortExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, stream};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a chunk: few enough that what is under way is small.
const CHUNK: usize = 16_384;

/// A table whose rows are made while it is written.
#[derive(Debug, Clone)]
pub struct PlannedRows {
    /// Its name.
    pub table: String,
    /// Its schema as stored.
    pub schema: SchemaRef,
    /// Whether rows replace or follow the committed ones.
    pub mode: WriteMode,
    /// Committed files whose place they take, where they are merged.
    pub replaces: Vec<String>,
    /// Whether it is known that there are none.
    pub is_empty: bool,
    /// For readers, in no order.
    rows: Arc<dyn TableProvider>,
    /// For the writer.
    written: LogicalPlan,
}

/// Rows while they are made.
pub struct RowStream {
    table: String,
    schema: SchemaRef,
    batches: SendableRecordBatchStream,
}

impl PlannedRows {
    /// The rows of a plan, written in an order; they replace those of the table.
    ///
    /// # Errors
    /// When the order does not fit the plan.
    pub(super) fn of_plan(table: &str, schema: &SchemaRef, plan: LogicalPlan, order: Vec<SortExpr>) -> Result<Self> {
        let sorted = LogicalPlanBuilder::from(plan.clone()).sort(order).and_then(LogicalPlanBuilder::build);
        Ok(Self {
            table: table.to_owned(),
            schema: Arc::clone(schema),
            mode: WriteMode::Overwrite,
            replaces: Vec::new(),
            is_empty: false,
            rows: Arc::new(ViewTable::new(plan, None)),
            written: sorted.map_err(internal)?,
        })
    }

    /// Rows that `make` gives, by ranges of `0..size`, with `threads` threads; fewer for a range where some are left
    /// out.
    ///
    /// # Errors
    /// Never for a schema that `make` keeps to.
    pub(super) fn of_chunks(
        table: &str,
        schema: &SchemaRef,
        mode: WriteMode,
        (size, threads): (usize, usize),
        make: impl Fn(Range<usize>) -> datafusion::error::Result<RecordBatch> + Send + Sync + 'static,
    ) -> Result<Self> {
        let make: Arc<Make> = Arc::new(make);
        let shares = threads.clamp(1, size.div_ceil(CHUNK).max(1));
        let share = |first| {
            let (schema, make) = (Arc::clone(schema), Arc::clone(&make));
            Arc::new(Share { schema, size, first, shares, make }) as Arc<dyn PartitionStream>
        };
        let rows = StreamingTable::try_new(Arc::clone(schema), (0..shares).map(share).collect()).map_err(internal)?;
        let rows: Arc<dyn TableProvider> = Arc::new(rows);
        let scan = LogicalPlanBuilder::scan(table, provider_as_source(Arc::clone(&rows)), None);
        let written = scan.and_then(LogicalPlanBuilder::build).map_err(internal)?;
        let (table, schema) = (table.to_owned(), Arc::clone(schema));
        Ok(Self { table, schema, mode, replaces: Vec::new(), is_empty: size == 0, rows, written })
    }

    /// Rows that take the place of some files of their table.
    ///
    /// # Errors
    /// Never for rows that can be scanned.
    pub(super) fn merging(
        table: &str,
        schema: &SchemaRef,
        rows: Arc<dyn TableProvider>,
        is_empty: bool,
        replaces: Vec<String>,
    ) -> Result<Self> {
        let scan = LogicalPlanBuilder::scan(table, provider_as_source(Arc::clone(&rows)), None);
        let written = scan.and_then(LogicalPlanBuilder::build).map_err(internal)?;
        let (table, schema) = (table.to_owned(), Arc::clone(schema));
        Ok(Self { table, schema, mode: WriteMode::Merge, replaces, is_empty, rows, written })
    }

    /// The rows as a table, in no order.
    pub(super) fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::clone(&self.rows)
    }
}

type Make = dyn Fn(Range<usize>) -> datafusion::error::Result<RecordBatch> + Send + Sync;

/// Every so manieth chunk.
struct Share {
    schema: SchemaRef,
    size: usize,
    first: usize,
    shares: usize,
    make: Arc<Make>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "share {} of {} of {} rows", self.first, self.shares, self.size)
    }
}

impl PartitionStream for Share {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (make, size) = (Arc::clone(&self.make), self.size);
        let starts = (self.first * CHUNK..size).step_by(self.shares * CHUNK);
        let made = stream::iter(starts.map(move |start| make(start..size.min(start + CHUNK))));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), made))
    }
}

impl Engine {
    /// Begins to make the rows of a table, in its order.
    ///
    /// # Errors
    /// When the plan cannot be executed.
    pub async fn stream(&self, planned: &PlannedRows) -> Result<RowStream> {
        let doing = || format!("cannot make the rows of `{}`", planned.table);
        let frame =
            self.context.execute_logical_plan(planned.written.clone()).await.or_fail(ErrorKind::Failed, doing)?;
        let batches = frame.execute_stream().await.or_fail(ErrorKind::Data, doing)?;
        Ok(RowStream { table: planned.table.clone(), schema: Arc::clone(&planned.schema), batches })
    }
}

impl RowStream {
    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// When files cannot be read, or there is neither memory nor disk left to sort in.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.batches.next().await else { return Ok(None) };
        let batch = batch.or_fail(ErrorKind::Data, || format!("cannot make the rows of `{}`", self.table))?;
        build::conform(&batch, &self.schema).map(Some)
    }
}
