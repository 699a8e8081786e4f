//! A table whose shape is known when models are bound and whose rows come later in the run.
//!
//! `check` binds every model against such tables without reading data; `run` fills them in dependency
//! order and executes the very plans that were bound. Rows that were made are later read where they were written, so
//! that memory need not hold them.

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::{Arc, PoisonError, RwLock};

/// A table that is filled later.
#[derive(Debug)]
pub(super) struct LateTable {
    name: String,
    schema: SchemaRef,
    rows: RwLock<Option<Arc<dyn TableProvider>>>,
}

impl LateTable {
    /// A table of this shape without rows yet.
    pub(super) fn new(name: &str, schema: SchemaRef) -> Self {
        Self { name: name.to_owned(), schema, rows: RwLock::new(None) }
    }

    /// Name of the table.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Gives it its rows; where it has some already, this is ignored.
    pub(super) fn fill(&self, rows: Arc<dyn TableProvider>) {
        self.rows.write().unwrap_or_else(PoisonError::into_inner).get_or_insert(rows);
    }

    /// The same rows from elsewhere.
    pub(super) fn moved(&self, rows: Arc<dyn TableProvider>) {
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = Some(rows);
    }

    /// Whether it has rows.
    pub(super) fn is_filled(&self) -> bool {
        self.rows().is_some()
    }

    fn rows(&self) -> Option<Arc<dyn TableProvider>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl TableProvider for LateTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match self.rows() {
            Some(rows) => rows.scan(state, projection, filters, limit).await,
            None => exec_err!("`{}` has not been built yet: select it too, or run it once", self.name),
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        match self.rows() {
            // rows may move between planning and reading, to a place that does not filter as exactly
            Some(rows) => Ok(rows.supports_filters_pushdown(filters)?.into_iter().map(at_most_inexact).collect()),
            None => Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()]),
        }
    }
}

fn at_most_inexact(pushdown: TableProviderFilterPushDown) -> TableProviderFilterPushDown {
    match pushdown {
        TableProviderFilterPushDown::Exact => TableProviderFilterPushDown::Inexact,
        other => other,
    }
}
