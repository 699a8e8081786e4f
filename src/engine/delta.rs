//! Source tables that are Delta tables of other programs.
//!
//! What a listing of a folder is to other tables, the newest version in the log is to these: the files with rows, their
//! columns, and the values of partition columns. The version is fixed when the table is opened.
//!
//! # Rules
//! - A file that the log names and that is not there is a finding, before anything is read.
//! - Partition columns stand where the schema of the log has them, in its types. A filter over them alone leaves files out.
//!
//! # Not here
//! Reading the log: [`crate::warehouse`]. What came since the last run: `digests`.

use super::EngineParts;
use super::bind::without_prefixes;
use super::files::Found;
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{Source, SourceTable};
use crate::warehouse::{DeltaSource, DeltaSourceFile, Location};
use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as EngineResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::TryStreamExt as _;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A Delta table as it is read.
#[derive(Debug)]
pub(super) struct DeltaTable {
    /// What its log says.
    pub log: DeltaSource,
    /// Its folder, from the store's root.
    pub folder: Path,
    root: ObjectStoreUrl,
    /// Values of the partition columns, by the place of their file.
    values: Vec<Vec<ScalarValue>>,
}

/// Opens the newest version of a table; what is wrong with it is a finding.
pub(super) async fn find(
    parts: &EngineParts<'_>,
    source: &Source,
    table: &SourceTable,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<Found>> {
    let name = format!("{}.{}", source.name.value, table.name.value);
    let place = Location::parse(&source.location.value, parts.root)?.join(&table.path.value)?;
    let (store, folder) = place.object_store(parts.environment)?;
    let root = place.root_url()?;
    parts.context.runtime_env().register_object_store(&root, Arc::clone(&store));
    let found = match opened(&store, &folder, &place, &name).await {
        Ok(Some(opened)) => opened,
        Ok(None) => {
            findings.push(
                Diagnostic::error(Code::NoFiles, table.path.span, format!("no Delta table for `{name}`"))
                    .with_label("nothing here")
                    .with_note(format!("looked for {place}/_delta_log"))
                    .with_help("correct `location` or `path`, or `format` if these are plain files"),
            );
            return Ok(None);
        }
        Err(error) if error.kind() == ErrorKind::Data => {
            findings.push(unreadable(table, &error));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (log, values) = found;
    let lost = lost(&store, &folder, &log.files).await.map_err(|e| e.context(format!("cannot read `{name}`")))?;
    if let Some(first) = lost.first() {
        let files = if lost.len() == 1 { "a file".to_owned() } else { format!("{} files", lost.len()) };
        let message = format!("`{name}`: version {} needs {files} that {} gone", log.version, are(lost.len()));
        findings.push(
            Diagnostic::error(Code::DataUnreadable, table.path.span, message)
                .with_label("the files do not fit the log")
                .with_note(format!("{first} is the first"))
                .with_help(
                    "bring them back from a backup, or take them out of the log with the program that writes the \
                            table (`FSCK REPAIR TABLE` in Spark, `DeltaTable.repair()` in delta-rs)",
                ),
        );
        return Ok(None);
    }
    let meta = |file: &DeltaSourceFile| ObjectMeta {
        location: file.path.clone(),
        last_modified: file.modified,
        size: file.size,
        e_tag: None,
        version: None,
    };
    let files = log.files.iter().map(meta).collect();
    let root = ObjectStoreUrl::parse(root.as_str()).or_fail(ErrorKind::Usage, || format!("cannot read `{name}`"))?;
    let (place, on_disk) = (place.to_string(), place.is_local());
    let delta = Some(DeltaTable { log, folder, root, values });
    Ok(Some(Found { urls: Vec::new(), store, files, place, on_disk, partitions: Vec::new(), gone: Vec::new(), delta }))
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn unreadable(table: &SourceTable, error: &Error) -> Diagnostic {
    let finding = Diagnostic::error(Code::DeltaUnreadable, table.path.span, error.to_string());
    let finding = finding.with_label("a Delta table that cannot be read");
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let cause = cause.lines().next().unwrap_or_default();
    let cause = without_prefixes(cause.strip_prefix("Kernel error: ").unwrap_or(cause)).to_owned();
    let finding = if cause.is_empty() { finding } else { finding.with_note(cause) };
    finding.with_help(error.help().unwrap_or("read another table"))
}

/// The log of a table, and the values of its partition columns in their types.
async fn opened(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    place: &Location,
    name: &str,
) -> Result<Option<(DeltaSource, Vec<Vec<ScalarValue>>)>> {
    let Some(log) = DeltaSource::open(store, folder, &place.url()?, name).await? else { return Ok(None) };
    let mut values = vec![Vec::with_capacity(log.partitions.len()); log.files.len()];
    for (index, column) in log.partitions.iter().enumerate() {
        let doing = || format!("values of the partition column `{column}` of `{name}` cannot be read");
        let field = log.schema.field_with_name(column).or_fail(ErrorKind::Data, doing)?;
        let texts: StringArray = log.files.iter().map(|file| file.values[index].as_deref()).collect();
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let typed = cast_with_options(&texts, field.data_type(), &options).or_fail(ErrorKind::Data, doing)?;
        for (row, of_file) in values.iter_mut().enumerate() {
            of_file.push(ScalarValue::try_from_array(&typed, row).or_fail(ErrorKind::Data, doing)?);
        }
    }
    Ok(Some((log, values)))
}

/// Files that the log names and the store does not have, from the table's folder.
async fn lost(store: &Arc<dyn ObjectStore>, folder: &Path, files: &[DeltaSourceFile]) -> Result<Vec<String>> {
    let listed: BTreeSet<Path> = store
        .list(Some(folder))
        .map_ok(|meta| meta.location)
        .try_collect()
        .await
        .or_fail(ErrorKind::Storage, || format!("cannot list {folder}"))?;
    let lost = files.iter().filter(|file| !listed.contains(&file.path));
    Ok(lost
        .map(|file| file.path.as_ref().trim_start_matches(folder.as_ref()).trim_start_matches('/').to_owned())
        .collect())
}

impl DeltaTable {
    /// Its columns, which any row may lack.
    pub(super) fn schema(&self) -> SchemaRef {
        let plain = |field: &FieldRef| Field::new(field.name(), field.data_type().clone(), true);
        Arc::new(Schema::new(self.log.schema.fields().iter().map(plain).collect::<Vec<_>>()))
    }

    /// Number of rows, if every file says its own.
    pub(super) fn rows(&self) -> Option<u64> {
        self.log.files.iter().map(|file| file.rows).sum()
    }

    /// The rows of those of its `files` that are chosen.
    pub(super) fn over(&self, files: &[ObjectMeta], chosen: impl Fn(&ObjectMeta) -> bool) -> DeltaRows {
        let all = files.iter().zip(&self.values).zip(&self.log.files);
        let files: Vec<_> = all.filter(|((meta, _), _)| chosen(meta)).collect();
        let rows = files.iter().map(|(_, file)| file.rows).sum::<Option<u64>>();
        let files = files.into_iter().map(|((meta, values), _)| (meta.clone(), values.clone())).collect();
        DeltaRows::new(self.schema(), &self.log.partitions, self.root.clone(), files, rows)
    }
}

/// The rows of some files, whose partition columns are beside them.
#[derive(Debug)]
pub(super) struct DeltaRows {
    schema: SchemaRef,
    /// The same columns as they are read: those of files, then the others.
    read: TableSchema,
    /// By column of `schema`, its place in `read`.
    places: Vec<usize>,
    root: ObjectStoreUrl,
    files: Vec<(ObjectMeta, Vec<ScalarValue>)>,
    rows: Option<u64>,
}

impl DeltaRows {
    fn new(
        schema: SchemaRef,
        partitions: &[String],
        root: ObjectStoreUrl,
        files: Vec<(ObjectMeta, Vec<ScalarValue>)>,
        rows: Option<u64>,
    ) -> Self {
        let in_files = schema.fields().iter().filter(|field| !partitions.contains(field.name()));
        let in_files: Vec<FieldRef> = in_files.cloned().collect();
        let beside =
            partitions.iter().filter_map(|name| schema.fields().find(name)).map(|(_, field)| Arc::clone(field));
        let read = TableSchema::builder(Arc::new(Schema::new(in_files)));
        let read = read.with_table_partition_cols(beside.collect::<Vec<_>>()).build();
        let place = |field: &FieldRef| read.table_schema().index_of(field.name()).unwrap_or_default();
        let places = schema.fields().iter().map(place).collect();
        Self { schema, read, places, root, files, rows }
    }

    /// The files whose partition values do not rule out that a row passes.
    fn needed(&self, state: &dyn Session, filters: &[Expr]) -> EngineResult<Vec<PartitionedFile>> {
        let fields = self.read.table_partition_cols();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let mut keep = vec![true; self.files.len()];
        let decides = |filter: &&Expr| !names.is_empty() && expr_applicable_for_cols(&names, filter);
        for filter in filters.iter().filter(decides) {
            let columns = (0..names.len())
                .map(|column| ScalarValue::iter_to_array(self.files.iter().map(|(_, values)| values[column].clone())));
            let schema = Arc::new(Schema::new(fields.clone()));
            let options = RecordBatchOptions::new().with_row_count(Some(self.files.len()));
            let columns = columns.collect::<EngineResult<Vec<_>>>()?;
            let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
            let expr = state.create_physical_expr(filter.clone(), &DFSchema::try_from(schema)?)?;
            let passes = expr.evaluate(&batch)?.into_array(batch.num_rows())?;
            let passes = passes.as_boolean();
            for (row, keep) in keep.iter_mut().enumerate() {
                *keep &= passes.is_valid(row) && passes.value(row);
            }
        }
        let kept = self.files.iter().zip(keep).filter(|(_, keep)| *keep);
        let file = |((meta, values), _): (&(ObjectMeta, Vec<ScalarValue>), bool)| {
            PartitionedFile::new_from_meta(meta.clone()).with_partition_values(values.clone())
        };
        Ok(kept.map(file).collect())
    }
}

#[async_trait]
impl TableProvider for DeltaRows {
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
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = match projection {
            Some(columns) => columns.iter().map(|column| self.places[*column]).collect(),
            None => self.places.clone(),
        };
        let files = self.needed(state, filters)?;
        if files.is_empty() {
            let schema = self.read.table_schema().project(&wanted)?;
            return Ok(Arc::new(EmptyExec::new(Arc::new(schema))));
        }
        // Spark wrote times of 96 bits, whose nanoseconds do not reach all years
        let format = ParquetFormat::default().with_coerce_int96(Some("us".to_owned()));
        let mut statistics = Statistics::new_unknown(self.read.table_schema());
        if let Some(rows) = self.rows {
            statistics.num_rows = Precision::Inexact(usize::try_from(rows).unwrap_or(usize::MAX));
        }
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.root.clone(), format.file_source(self.read.clone()))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(wanted))?
            .with_limit(limit.filter(|_| filters.is_empty()))
            .build();
        format.create_physical_plan(state, config).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// What tells the columns of a table, as text.
pub(super) fn columns_text(schema: &Schema) -> String {
    let column = |field: &FieldRef| -> String { format!("{} {}", field.name(), DataType::clone(field.data_type())) };
    schema.fields().iter().map(column).collect::<Vec<_>>().join("\n")
}
