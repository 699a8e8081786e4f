//! Rows in an order, within a memory budget of their own: what does not fit is sorted on disk.
//!
//! The rows are made as any plan is, with the session's whole budget. Only the sort is held to its own, which is small, so that what
//! is sorted costs little memory however many rows there are.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use std::fmt;
use std::sync::Arc;

/// What a sort may hold, in bytes.
const SORT_BYTES: usize = 64 << 20;

/// Runs a plan and gives its rows by their first column, nulls first.
///
/// # Errors
/// When the plan cannot be made or begun.
pub(super) async fn by_first_column(context: &SessionContext, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
    let frame = context.execute_logical_plan(plan).await?;
    let task = Arc::new(frame.task_ctx());
    let bounded = frame.task_ctx();
    let unsorted = frame.create_physical_plan().await?;
    let schema = unsorted.schema();
    let pool = Arc::new(FairSpillPool::new(SORT_BYTES));
    let runtime = RuntimeEnvBuilder::from_runtime_env(&task.runtime_env()).with_memory_pool(pool).build_arc()?;
    let bounded = bounded.with_runtime(runtime);
    let whole = Arc::new(Unsorted { schema: Arc::clone(&schema), plan: unsorted, task });
    let scan = StreamingTableExec::try_new(schema, vec![whole], None, Vec::new(), false, None)?;
    let key = PhysicalSortExpr::new_default(Arc::new(Column::new(scan.schema().field(0).name(), 0)));
    let order = LexOrdering::new([key.nulls_first()]);
    let order = order.ok_or_else(|| DataFusionError::Internal("nothing to sort by".to_owned()))?;
    let sort: Arc<dyn ExecutionPlan> = Arc::new(SortExec::new(order, Arc::new(scan)));
    execute_stream(sort, Arc::new(bounded))
}

/// All rows of a plan, made within the budget of the session.
struct Unsorted {
    schema: SchemaRef,
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
}

impl fmt::Debug for Unsorted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows to be sorted")
    }
}

impl PartitionStream for Unsorted {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        match execute_stream(Arc::clone(&self.plan), Arc::clone(&self.task)) {
            Ok(rows) => rows,
            Err(e) => {
                let failed = futures::stream::iter([Err(e)]);
                Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
                    Arc::clone(&self.schema),
                    failed,
                ))
            }
        }
    }
}
