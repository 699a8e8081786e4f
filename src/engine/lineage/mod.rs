//! Lineage of bound models, in the terms of [`crate::graph::ColumnLineage`].
//!
//! SQL and syncs have it from their plans (`plan`, `expr`); identities, profiles and audiences from what the
//! fold and the stitching do with their bound expressions (`models`). A model's lineage is direct: it names
//! columns of the tables that the model reads, also of views; [`Engine::lineage_graph`] joins them. A source
//! table's lineage is over the columns of its files.
//!
//! Tables are recognised by identity, not by name, because an alias may look like a table: a source table's
//! relation and a view by the address of their schema, which every plan that reads them shares; a stored
//! table by its [`LateTable`]; the files of a source table by their provider.
//!
//! `version` and `dedupe` keep one of several rows by key and time, and among rows that are equal in these by
//! the whole row. The last step would make every column of such a table decide every other one; it counts as
//! `table.*`, which stands for which rows are there (see [`of_source`]).

mod expr;
mod flow;
mod models;
mod plan;
#[cfg(test)]
mod soundness_tests;
#[cfg(test)]
mod tests;

use super::late::LateTable;
use super::{BoundModel, Engine};
use crate::graph::{LineageGraph, Lowering, ModelLineage, TableLineage};
use crate::model::SourceTable;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use flow::Sets;
use plan::Analysis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tables that plans can read, by what identifies them in a plan.
#[derive(Debug, Default)]
pub(super) struct Tables {
    by_plan: BTreeMap<(usize, usize), String>,
    by_provider: BTreeMap<usize, String>,
}

impl Tables {
    /// The source table or view whose plan this is.
    fn named(&self, plan: &LogicalPlan) -> Option<&str> {
        self.by_plan.get(&address(plan)).map(String::as_str)
    }

    /// The table that a scan reads.
    pub(in crate::engine) fn name_of(&self, scan: &TableScan) -> String {
        let provider = source_as_provider(&scan.source).ok();
        let known = provider.as_ref().and_then(|provider| {
            let late = provider.downcast_ref::<LateTable>().map(LateTable::name);
            late.or_else(|| self.by_provider.get(&Arc::as_ptr(provider).cast::<()>().addr()).map(String::as_str))
        });
        known.map_or_else(|| super::bind::plain_name(&scan.table_name), str::to_owned)
    }

    fn add_plan(&mut self, name: &str, plan: &LogicalPlan) {
        self.by_plan.insert(address(plan), name.to_owned());
    }

    fn add_files(&mut self, name: &str, raw: &LogicalPlan) {
        let _ = raw.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(provider) = source_as_provider(&scan.source)
            {
                self.by_provider.insert(Arc::as_ptr(&provider).cast::<()>().addr(), name.to_owned());
            }
            Ok(TreeNodeRecursion::Continue)
        });
    }
}

/// What a plan shares with its copies in other plans and with nothing else: the address of its schema, and
/// how many nodes with that schema come down to the one that made it. A filter has the schema of what it
/// filters, but is one node more. (Planning a query may move every node of it, but keeps schemas.)
fn address(plan: &LogicalPlan) -> (usize, usize) {
    let schema = plan.schema();
    let mut nodes = 0;
    let mut node = plan;
    while let Some(input) = node.inputs().first().copied().filter(|i| Arc::ptr_eq(i.schema(), schema)) {
        nodes += 1;
        node = input;
    }
    (Arc::as_ptr(schema).addr(), nodes)
}

/// The lineage of a table that a plan makes.
fn of_plan(tables: &Tables, name: &str, plan: &LogicalPlan) -> TableLineage {
    let mut analysis = Analysis::new(tables, Some(name));
    let flow = analysis.plan(plan, None);
    let columns: Vec<String> = plan.schema().fields().iter().map(|f| f.name().clone()).collect();
    analysis.names.table(name, &columns, &flow)
}

/// The lineage of a source table over its files: its selection, and what `version` and `dedupe` pick by.
fn of_source(tables: &Tables, name: &str, plan: &LogicalPlan, table: &SourceTable) -> TableLineage {
    let mut selected = plan;
    let _ = plan.apply(|node| {
        if let LogicalPlan::Window(ranked) = node {
            selected = &ranked.input;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    let mut analysis = Analysis::new(tables, Some(name));
    let mut flow = analysis.plan(selected, None);
    let version = table.version.iter().chain(table.version.as_ref().and(table.row_id.as_ref()));
    let once = table.dedupe.iter().flat_map(|d| std::iter::once(&d.by).chain(&table.time));
    for key in version.chain(once) {
        let index = selected.schema().index_of_column_by_name(None, &key.value);
        let sets = index.and_then(|i| flow.columns.get(i)).map(Sets::all).unwrap_or_default();
        // which of several deliveries is kept tells nothing of a person
        flow.frame.extend(analysis.names.lowered(&sets, Lowering::Entity));
    }
    let columns: Vec<String> = selected.schema().fields().iter().map(|f| f.name().clone()).collect();
    analysis.names.table(name, &columns, &flow)
}

impl Engine {
    pub(super) fn lineage_tables(&self) -> Tables {
        let mut tables = Tables::default();
        for (name, source) in &self.sources {
            tables.add_plan(name, &source.plan);
            tables.add_files(name, &source.raw);
        }
        for (name, model) in &self.models {
            if let BoundModel::Sql { plan, view: true, .. } = model {
                tables.add_plan(name, plan);
            }
        }
        tables
    }

    /// Direct lineage of a bound model: which columns of the tables that it reads its columns depend on.
    pub fn lineage(&self, model: &str) -> Option<ModelLineage> {
        self.lineage_over(&self.lineage_tables(), model)
    }

    fn lineage_over(&self, known: &Tables, name: &str) -> Option<ModelLineage> {
        let tables = match self.models.get(name)? {
            BoundModel::Sql { plan, .. } => vec![of_plan(known, name, plan)],
            BoundModel::Sync(sync) => vec![models::sync(known, name, sync)],
            BoundModel::Identity(identity) => models::identity(known, identity),
            BoundModel::Profile(profile) => models::profile(known, profile),
            BoundModel::Audience(audience) => {
                let Some(BoundModel::Profile(profile)) = self.models.get(&audience.profile) else { return None };
                models::audience(known, audience, profile)
            }
        };
        Some(ModelLineage { model: name.to_owned(), tables })
    }

    /// Lineage of all opened source tables and bound models.
    pub fn lineage_graph(&self) -> LineageGraph {
        let known = self.lineage_tables();
        let sources = self.sources.iter().filter_map(|(name, source)| {
            let (_, table) = self.project.source_table(name)?;
            // that somebody's rows are left out tells nothing of the others
            Some(of_source(&known, name, &source.unguarded, table))
        });
        let models = self.models.keys().filter_map(|name| self.lineage_over(&known, name));
        LineageGraph::new(sources, models)
    }
}
