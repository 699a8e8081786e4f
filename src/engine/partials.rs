//! The fold with stored partial states: what older files gave is not read again.
//!
//! Columns whose states can be kept ([`super::storable`]) are folded by themselves. For each source table the states of
//! older files come from sets that earlier runs stored; the files that no set has are read, aggregated by the keys of
//! their rows, and stored as a new set. All states are merged by entity into the fold that today's plan would run over the
//! rows, whose tables are empty: so values are made in one place. Which sets are taken is decided by
//! [`crate::plan::Reading`].
//!
//! A set is one or more Parquet files below `_kinfold/partials`, a row for each key, `k0, k1, ...` its parts and `s0_0,
//! s0_1, s1_0, ...` the states of each column. Nobody knows of a set before the run that made it is committed:
//! `kinfold.partials` names them all.

use super::build::RunContext;
use super::fold::{self, FoldColumn, FoldTable};
use super::merging::Merging;
use super::storable::source_of;
use super::wide::Wide;
use super::{Engine, internal};
use crate::error::Result;
use crate::plan::{Contents, PartialSet, PartialUse, keyed};
use crate::privacy::Tombstones;
use crate::warehouse::StateFiles;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlan;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The partial states that a run finds, and those that it makes.
#[derive(Debug)]
pub struct Partials {
    /// Key of the fingerprints, from which nothing of a definition can be read off.
    key: [u8; 32],
    pub(super) sets: Vec<PartialSet>,
    /// By source table, its files now.
    files: BTreeMap<String, Contents>,
    pub(super) store: StateFiles,
    used: Mutex<PartialUse>,
}

impl Partials {
    /// The sets that earlier runs left, for source tables with these files; new ones go to `store`.
    pub fn new(key: [u8; 32], sets: Vec<PartialSet>, files: BTreeMap<String, Contents>, store: StateFiles) -> Self {
        Self { key, sets, files, store, used: Mutex::default() }
    }

    /// The sets that there are after the folds.
    pub fn after(&self) -> Vec<PartialSet> {
        self.used().after(&self.sets, &self.files)
    }

    pub(super) fn used(&self) -> MutexGuard<'_, PartialUse> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of a source table, if all that tells their content is known.
    pub(super) fn files(&self, source: &str) -> Option<&Contents> {
        self.files.get(source).filter(|files| !files.is_empty() && files.values().all(|content| !content.is_empty()))
    }
}

/// Columns that are folded with stored states.
#[derive(Default)]
pub(super) struct Stored {
    pub columns: Vec<FoldColumn>,
    /// By column and table, the fingerprint.
    pub fingerprints: BTreeMap<(String, String), String>,
}

impl Engine {
    /// Folds columns into the wide table, with partial states where there are any.
    ///
    /// # Errors
    /// When a table or a stored state cannot be read, or an aggregate fails.
    pub(super) async fn fold(
        &self,
        tables: &BTreeMap<String, FoldTable>,
        columns: Vec<FoldColumn>,
        wide: &mut Wide,
        run: &RunContext,
    ) -> Result<()> {
        let Some(partials) = run.partials.as_deref() else {
            return fold::run_all(&fold::plan(tables, columns).map_err(internal)?, &self.context, wide).await;
        };
        let (stored, rest) = self.split(tables, columns, partials);
        let mut emptied = tables.clone();
        for (_, name) in stored.fingerprints.keys() {
            if let Some(table) = emptied.get_mut(name) {
                table.plan = over(&table.plan, None).map_err(internal)?;
            }
        }
        let groups = fold::plan(&emptied, stored.columns.clone()).map_err(internal)?;
        fold::run_all(&fold::plan(tables, rest).map_err(internal)?, &self.context, wide).await?;
        for group in &groups {
            let merging = Merging { engine: self, partials, run, tables, stored: &stored, group };
            let folded = merging.run(wide.rows()).await.map_err(|e| e.context(group.doing()))?;
            group.align(&folded, self.resources.threads, wide)?;
        }
        Ok(())
    }

    /// The columns with states that can be kept, and the others.
    fn split(
        &self,
        tables: &BTreeMap<String, FoldTable>,
        columns: Vec<FoldColumn>,
        partials: &Partials,
    ) -> (Stored, Vec<FoldColumn>) {
        let (mut stored, mut rest) = (Stored::default(), Vec::new());
        // states in which people are who may not be read any more are not taken
        let without = self.tombstones().map(Tombstones::digest).unwrap_or_default();
        for column in columns {
            match self.storable(tables, &column) {
                Ok(texts) if texts.keys().all(|table| partials.files(source_of(table)).is_some()) => {
                    let named = |(table, text): (String, String)| {
                        ((column.name.clone(), table), keyed(&partials.key, &(text + &without)))
                    };
                    stored.fingerprints.extend(texts.into_iter().map(named));
                    stored.columns.push(column);
                }
                _ => rest.push(column),
            }
        }
        (stored, rest)
    }

    /// A source table of the fold with some of its files only.
    pub(super) fn with_files(&self, name: &str, table: &FoldTable, files: &BTreeSet<String>) -> Result<FoldTable> {
        let rows = self.over_some(source_of(name), files)?;
        let plan = over(&table.plan, Some(&rows)).map_err(internal)?;
        Ok(FoldTable { plan, entity: table.entity.clone() })
    }
}

/// The plan of a table over other rows, or none.
fn over(plan: &LogicalPlan, rows: Option<&Arc<dyn TableProvider>>) -> datafusion::error::Result<LogicalPlan> {
    let replaced = plan.clone().transform_down(|node| match node {
        LogicalPlan::TableScan(mut scan) => {
            let none = || Arc::new(EmptyTable::new(scan.source.schema())) as Arc<dyn TableProvider>;
            scan.source = provider_as_source(rows.map_or_else(none, Arc::clone));
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}
