//! Copies of source files, for tables whose rows stay when their files vanish (`vanished: keep`).
//!
//! A run copies what `select` lets through of each file of such a table, in the types of the file. A file that is there is
//! read itself. One that is gone is read from its copy and goes under its path, size and content, so that nothing behind can tell.
//!
//! # Rules
//! - Nobody knows of a copy before the run that made it is committed: `kinfold.kept` names them all.
//! - Copies hold no rows and identifiers of people who may not be read. Other tombstones make every copy anew, those of
//!   files that are gone from themselves.
//! - A copy of a file that is there is made anew when something else would be copied now. What a file that is gone had
//!   beside its copy nobody has any more: a column that is switched on later is null in its rows, and a finding says so.
//! - A filter of `select` that reads the logical time is not applied to copies: it may let a row through later.

use super::files::Found;
use super::sources::{self, Selected};
use super::{Engine, EngineParts, SourceFileAt, committed, erased};
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{SourceTable, Vanished};
use crate::privacy::Tombstones;
use crate::warehouse::{StateFiles, TableAt, Warehouse};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, cast, ident,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use datafusion::prelude::DataFrame;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Version of what copies mean; those of another one are made again.
const RULES: u32 = 1;

/// A file of a source table, and its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// The source table.
    pub table: String,
    /// The file as it was copied.
    pub file: SourceFileAt,
    /// What was copied of it.
    pub copy: Copy,
}

/// What was copied of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// All columns of the file with their types, whether they were copied or not.
    pub columns: Vec<(String, String)>,
    /// Those that were copied.
    pub copied: BTreeSet<String>,
    /// Files with the rows; none when there are no rows.
    pub parts: Vec<String>,
    /// How many rows.
    pub rows: u64,
    /// What tells what was to be copied.
    pub selection: String,
    /// What tells the people it is without.
    pub without: String,
}

/// The copies that runs made.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where they lie.
    pub warehouse: Arc<Warehouse>,
    /// The list of them that was read.
    pub at: Option<TableAt>,
    /// By source table.
    pub files: BTreeMap<String, Vec<KeptFile>>,
}

impl KeptFile {
    /// The file's name, without its folders.
    pub(super) fn name(&self) -> &str {
        self.file.path.rsplit('/').next().unwrap_or_default()
    }

    /// The file's columns.
    pub(super) fn schema(&self) -> Result<SchemaRef> {
        let field = |(name, data_type): &(String, String)| {
            let parsed = data_type.parse::<DataType>();
            let doing = || format!("`{name}` of a copy of `{}` has the unknown type `{data_type}`", self.table);
            Ok(Field::new(name, parsed.or_fail(ErrorKind::Data, doing)?, true))
        };
        Ok(Arc::new(Schema::new(self.copy.columns.iter().map(field).collect::<Result<Vec<_>>>()?)))
    }

    /// Whether it lacks a column that its file had.
    fn lacks(&self, column: &str) -> bool {
        self.copy.columns.iter().any(|(name, _)| name == column) && !self.copy.copied.contains(column)
    }
}

/// The files of a table that are gone and have a copy.
pub(super) fn gone(
    parts: &EngineParts<'_>,
    table: (&str, &SourceTable),
    place: &str,
    there: &BTreeSet<&str>,
) -> Vec<KeptFile> {
    let (name, table) = table;
    let Some(kept) = parts.kept.filter(|_| table.vanished == Vanished::Keep) else { return Vec::new() };
    let all = kept.files.get(name).into_iter().flatten();
    all.filter(|kept| kept.file.place == place && !there.contains(kept.file.path.as_str())).cloned().collect()
}

/// The rows of copies, in these columns.
pub(super) fn over<'k>(
    parts: &EngineParts<'_>,
    name: &str,
    kept: impl Iterator<Item = &'k KeptFile>,
    schema: &SchemaRef,
) -> Result<Arc<dyn TableProvider>> {
    let Some(known) = parts.kept else { return Ok(Arc::new(EmptyTable::new(Arc::clone(schema)))) };
    let paths = kept.flat_map(|kept| &kept.copy.parts).map(|part| known.warehouse.kept_path(part));
    committed::over_files(parts.context, &known.warehouse, name, paths, schema)
}

/// Says which columns rows of files that are gone lack, because they were not read when there still was a file.
pub(super) fn lacking(name: &str, table: &SourceTable, found: &Found, reads: &BTreeSet<String>) -> Option<Diagnostic> {
    let lacks = |column: &&String| found.gone.iter().any(|kept| kept.lacks(column));
    let lacking: Vec<&str> = reads.iter().filter(lacks).map(String::as_str).collect();
    let first = lacking.first()?;
    let files = found.gone.iter().filter(|kept| kept.lacks(first)).count();
    let message = format!("`{name}`: {files} files that are gone were kept without `{}`", lacking.join("`, `"));
    let finding = Diagnostic::warning(Code::ColumnMissingInFiles, table.path.span, message);
    Some(
        finding
            .with_label("not in all copies")
            .with_note("it was not read when the files were there; their rows read as null"),
    )
}

impl Engine {
    /// Reads files that are gone from these copies.
    pub fn use_kept(&mut self, kept: Kept) {
        self.kept = Some(kept);
    }

    /// The files of an opened table that are gone and are read from their copies.
    pub fn gone(&self, table: &str) -> &[KeptFile] {
        self.sources.get(table).map_or(&[], |open| &open.found.gone)
    }

    /// The copies that are used.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// What tells the people that copies are without now.
    fn without(&self) -> String {
        self.tombstones().map(Tombstones::digest).map(|digest| hash(&digest)).unwrap_or_default()
    }

    /// Source tables with copies of which people are to be taken out.
    pub fn to_thin(&self) -> BTreeSet<String> {
        let (kept, without) = (self.kept.iter().flat_map(|kept| kept.files.iter()), self.without());
        let stale = |files: &&KeptFile| files.copy.without != without;
        let tables = kept.filter(|(_, files)| files.iter().any(|file| stale(&file))).map(|(table, _)| table.clone());
        tables.filter(|table| self.project.source_table(table).is_some_and(|(_, t)| t.enabled)).collect()
    }

    /// Copies the files of opened tables that keep them, as far as they are not copied; all copies that there are then.
    ///
    /// # Errors
    /// When a file cannot be read, or holds what a copy cannot.
    pub async fn keep_files(
        &self,
        files: &BTreeMap<String, Vec<SourceFileAt>>,
        store: &StateFiles,
    ) -> Result<Vec<KeptFile>> {
        let mut all = Vec::new();
        let without = self.without();
        let keeps = |name: &str| self.project.source_table(name).filter(|(_, t)| t.vanished == Vanished::Keep);
        for (name, open) in &self.sources {
            let (Some((_, table)), Some(files)) = (keeps(name), files.get(name)) else { continue };
            for file in files {
                let old = self.copy_of(name, file).filter(|old| old.copy.without == without);
                let there = open.found.files.iter().any(|meta| meta.location.as_ref() == file.path);
                let selection = selection(table, &open.reads);
                match old.filter(|old| !there || old.copy.selection == selection) {
                    Some(old) => all.push(old.clone()),
                    None => {
                        let doing = || format!("cannot keep a copy of {} of `{name}`", file.path);
                        let copy = self.copied(name, table, file, (selection, without.clone()), store).await;
                        let copy = copy.map_err(|e| e.context(doing()))?;
                        all.push(KeptFile { table: name.clone(), file: file.clone(), copy });
                    }
                }
            }
        }
        // a table that this run does not read keeps what it has, if nobody is to be taken out
        let others = self.kept.iter().flat_map(|kept| kept.files.values()).flatten();
        let stays = |kept: &&KeptFile| {
            !self.sources.contains_key(&kept.table) && keeps(&kept.table).is_some() && kept.copy.without == without
        };
        all.extend(others.filter(stays).cloned());
        all.sort_by(|a, b| (&a.table, &a.file.path).cmp(&(&b.table, &b.file.path)));
        Ok(all)
    }

    fn copy_of(&self, table: &str, file: &SourceFileAt) -> Option<&KeptFile> {
        let same = |kept: &&KeptFile| {
            (&kept.file.path, kept.file.bytes, &kept.file.content, &kept.file.place)
                == (&file.path, file.bytes, &file.content, &file.place)
        };
        self.kept.as_ref()?.files.get(table)?.iter().find(same)
    }

    /// Writes the copy of a file, of a file that is gone from the copy that there is.
    async fn copied(
        &self,
        name: &str,
        table: &SourceTable,
        file: &SourceFileAt,
        (selection, without): (String, String),
        store: &StateFiles,
    ) -> Result<Copy> {
        let doing = || "its rows cannot be read".to_owned();
        let rows = self.over_some(name, &BTreeSet::from([file.path.clone()]))?;
        let Some(open) = self.sources.get(name) else { return Err(Error::new(ErrorKind::Failed, doing())) };
        // the names of folders say nothing any more when a file is gone, so they are copied, too
        let folders: BTreeSet<&String> = open.found.partitions.iter().map(|(folder, _)| folder).collect();
        let all: Vec<_> = rows.schema().fields().iter().filter(|f| !folders.contains(f.name())).cloned().collect();
        let (plan, reads) = self.copy_plan(name, table, rows, &folders)?;
        let frame = DataFrame::new(self.context.state(), plan);
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let mut stream = frame.execute_stream().await.or_fail(ErrorKind::Data, doing)?;
        let mut writer = store.writer(&schema)?;
        while let Some(batch) = stream.next().await {
            let written = match batch.or_fail(ErrorKind::Data, doing) {
                Ok(batch) => writer.write(&batch).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                writer.abort().await;
                return Err(error);
            }
        }
        let written = writer.finish().await?;
        // of a file that is gone the columns are those of its copy
        let old = open.found.gone.iter().find(|kept| kept.file.path == file.path);
        let column = |field: &Arc<Field>| (field.name().clone(), field.data_type().to_string());
        Ok(Copy {
            columns: old.map_or_else(|| all.iter().map(column).collect(), |old| old.copy.columns.clone()),
            copied: reads.into_iter().filter(|column| !old.is_some_and(|old| old.lacks(column))).collect(),
            rows: written.rows(),
            parts: written.files.into_iter().map(|file| file.name).collect(),
            selection,
            without,
        })
    }

    /// The rows of files that are copied, and their columns.
    fn copy_plan(
        &self,
        name: &str,
        table: &SourceTable,
        rows: Arc<dyn TableProvider>,
        folders: &BTreeSet<&String>,
    ) -> Result<(LogicalPlan, BTreeSet<String>)> {
        let doing = || format!("cannot read `{name}`");
        let parts = self.parts();
        let raw = self.context.read_table(rows).or_fail(ErrorKind::Data, doing)?;
        let all: Vec<(String, DataType)> =
            raw.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
        let Some(Selected { frame, columns, mut reads, steady }) =
            sources::selected(&parts, name, table, raw.clone(), &mut Vec::new())?
        else {
            return Err(Error::new(ErrorKind::Failed, doing()));
        };
        reads.extend(folders.iter().map(|folder| (*folder).clone()));
        let frame = if steady { frame } else { raw };
        let plan = erased::guarded_raw(&parts, name, frame.into_unoptimized_plan(), &columns)
            .or_fail(ErrorKind::Failed, doing)?;
        let kept = all.iter().filter(|(column, _)| reads.contains(column)).map(|(column, data_type)| match data_type {
            DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
                let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                cast(ident(column), micros).alias(column)
            }
            _ => ident(column),
        });
        let plan = LogicalPlanBuilder::from(plan).project(kept.collect::<Vec<Expr>>());
        Ok((plan.and_then(LogicalPlanBuilder::build).or_fail(ErrorKind::Data, doing)?, reads))
    }
}

/// What tells what is copied of a file.
fn selection(table: &SourceTable, reads: &BTreeSet<String>) -> String {
    let filter = table.select.filter.as_ref().map_or("", |filter| filter.value.as_str());
    hash(&format!("{RULES}\n{filter}\n{reads:?}"))
}

fn hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

/// The rows of several tables of one shape.
#[derive(Debug)]
pub(super) struct United(pub Vec<Arc<dyn TableProvider>>);

#[async_trait]
impl TableProvider for United {
    fn schema(&self) -> SchemaRef {
        self.0.first().map_or_else(|| Arc::new(Schema::empty()), |first| sources::nullable(&first.schema()))
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
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let mut parts = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            parts.push(part.scan(state, projection, filters, limit).await?);
        }
        UnionExec::try_new(parts)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
