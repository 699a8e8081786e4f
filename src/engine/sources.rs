//! Source tables: from a location and a path to a relation with the author's columns.
//!
//! Opening lists the files, reads their schemas (Parquet footers, CSV headers, the first JSON lines) and
//! compares them; no rows are read. What is wrong with the files is said as a [`Diagnostic`] at the line of
//! `sources.yaml` that names them. The relation that models see has the declared types and only the selected
//! rows and columns; a row delivered twice, or an older version of a record, is left out here.

use super::bind::Binder;
use super::files;
use super::kept::{self, United};
use super::session::register;
use super::storable;
use super::{Engine, EngineParts};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{Dedupe, Format, Source, SourceTable};
use crate::project::nearest;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::functions_window::expr_fn::{lag, row_number};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, UNNAMED_TABLE, cast, col, ident, lit, try_cast,
};
use datafusion::object_store::ObjectMeta;
use datafusion::prelude::DataFrame;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A source table that can be read.
#[derive(Debug, Clone)]
pub(super) struct OpenTable {
    /// The relation that models see.
    pub plan: LogicalPlan,
    /// The same with the rows of people who may not be read.
    pub unguarded: LogicalPlan,
    /// The files' rows as they are.
    pub raw: LogicalPlan,
    /// Event time column.
    pub time: Option<String>,
    /// Column that names a row.
    pub row_id: Option<String>,
    /// Columns of its files that are read for it.
    pub reads: BTreeSet<String>,
    /// The files behind it, and the schema they agree on.
    pub found: Arc<files::Found>,
    pub schema: SchemaRef,
}

impl OpenTable {
    /// The columns of its files, folders of partitions included.
    pub(super) fn columns(&self) -> SchemaRef {
        nullable(self.raw.schema().as_arrow())
    }
}

impl Engine {
    /// The rows of some files of a source table, in the columns of all of them.
    pub(super) fn over_some(&self, name: &str, files: &BTreeSet<String>) -> Result<Arc<dyn TableProvider>> {
        let (Some(open), Some((_, table))) = (self.sources.get(name), self.project.source_table(name)) else {
            return Err(Error::new(ErrorKind::Failed, format!("`{name}` is no source table")));
        };
        if let Some(delta) = &open.found.delta {
            let rows = delta.over(&open.found.files, |file| files.contains(file.location.as_ref()));
            return Ok(Arc::new(rows));
        }
        let listed = self.over_listed(name, table.format, open, files)?;
        let mut copies = open.found.gone.iter().filter(|kept| files.contains(&kept.file.path)).peekable();
        if copies.peek().is_none() {
            return Ok(listed);
        }
        let copies = kept::over(&self.parts(), name, copies, &open.columns())?;
        Ok(Arc::new(United(vec![listed, copies])))
    }

    /// The rows of some files that are there.
    fn over_listed(
        &self,
        name: &str,
        format: Format,
        open: &OpenTable,
        files: &BTreeSet<String>,
    ) -> Result<Arc<dyn TableProvider>> {
        let doing = || format!("cannot read `{name}`");
        let mut folders: BTreeMap<Vec<String>, Vec<&ObjectMeta>> = BTreeMap::new();
        for file in open.found.files.iter().filter(|file| files.contains(file.location.as_ref())) {
            folders.entry(open.found.partition_values(file)).or_default().push(file);
        }
        let mut parts = Vec::new();
        for (values, files) in folders {
            let urls = open.found.urls_of(files)?;
            let rows = over_files(name, format, urls, &[], &open.schema)?;
            let columns = open.schema.fields().iter().map(|field| ident(field.name()));
            let names = open.found.partitions.iter().map(|(partition, _)| partition);
            let constant = names.zip(values).map(|(partition, value)| lit(value).alias(partition));
            let columns: Vec<Expr> = columns.chain(constant).collect();
            let scan = LogicalPlanBuilder::scan(UNNAMED_TABLE, provider_as_source(Arc::new(rows)), None);
            parts.push(scan.and_then(|scan| scan.project(columns)).or_fail(ErrorKind::Data, doing)?);
        }
        let all = parts.into_iter().map(Ok).reduce(|a, b| a?.union(b?.build()?)).transpose();
        Ok(match all.or_fail(ErrorKind::Data, doing)? {
            Some(all) => Arc::new(ViewTable::new(all.build().or_fail(ErrorKind::Data, doing)?, None)),
            None => Arc::new(EmptyTable::new(open.columns())),
        })
    }
}

/// Opens an enabled table. Findings are appended; `None` when it cannot be read. With `locked` columns nothing is
/// looked at: the table has them, and no rows.
///
/// # Errors
/// When the storage itself fails.
pub(super) async fn open(
    parts: &EngineParts<'_>,
    source: &Source,
    table: &SourceTable,
    locked: Option<&SchemaRef>,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<OpenTable>> {
    let name = format!("{}.{}", source.name.value, table.name.value);
    let doing = || format!("cannot read `{name}`");
    let (found, schema, raw) = match locked {
        Some(schema) => {
            let empty = EmptyTable::new(Arc::clone(schema));
            let raw = parts.context.read_table(Arc::new(empty)).or_fail(ErrorKind::Data, doing)?;
            (files::Found::nothing(), Arc::clone(schema), raw)
        }
        None => match listing(parts, &name, source, table, findings).await? {
            Some(listed) => listed,
            None => return Ok(None),
        },
    };
    opened(parts, &name, table, (found, schema), raw, findings)
}

/// Makes the relation over raw rows known by the table's name.
pub(super) fn opened(
    parts: &EngineParts<'_>,
    name: &str,
    table: &SourceTable,
    (found, schema): (files::Found, SchemaRef),
    raw: DataFrame,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<OpenTable>> {
    let unchanged = raw.logical_plan().clone();
    let Some((unguarded, reads)) = relation(parts, name, table, raw, findings)? else { return Ok(None) };
    findings.extend(kept::lacking(name, table, &found, &reads));
    let guarded = super::erased::guarded(parts, name, unguarded.clone());
    let plan = guarded.or_fail(ErrorKind::Failed, || format!("cannot leave anybody out of `{name}`"))?;
    register(parts.context, name, Arc::new(ViewTable::new(plan.clone(), None)))?;
    Ok(Some(OpenTable {
        plan,
        unguarded,
        raw: unchanged,
        time: table.time.as_ref().map(|t| t.value.clone()),
        row_id: table.row_id.as_ref().map(|t| t.value.clone()),
        reads,
        found: Arc::new(found),
        schema,
    }))
}

/// Finds the files of a table, the columns that they agree on, and the relation over them.
async fn listing(
    parts: &EngineParts<'_>,
    name: &str,
    source: &Source,
    table: &SourceTable,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<(files::Found, SchemaRef, DataFrame)>> {
    let Some(found) = files::find(parts, source, table, findings).await? else { return Ok(None) };
    let Some(raw_schema) = files::schema(parts, name, table, &found, findings).await? else { return Ok(None) };
    let rows: Arc<dyn TableProvider> = match &found.delta {
        Some(delta) => Arc::new(delta.over(&found.files, |_| true)),
        None => all_rows(parts, name, table.format, &found, &raw_schema)?,
    };
    let raw = parts.context.read_table(rows).or_fail(ErrorKind::Data, || format!("cannot read `{name}`"))?;
    Ok(Some((found, raw_schema, raw)))
}

/// The rows of the files that are there, and of the copies of those that are gone.
fn all_rows(
    parts: &EngineParts<'_>,
    name: &str,
    format: Format,
    found: &files::Found,
    schema: &SchemaRef,
) -> Result<Arc<dyn TableProvider>> {
    let folders = found.partitions.iter().map(|(folder, data_type)| Field::new(folder, data_type.clone(), true));
    let columns = schema.fields().iter().map(|field| field.as_ref().clone()).chain(folders);
    let columns: SchemaRef = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
    let mut tables: Vec<Arc<dyn TableProvider>> = Vec::new();
    if !found.files.is_empty() {
        tables.push(Arc::new(over_files(name, format, found.urls.clone(), &found.partitions, schema)?));
    }
    if !found.gone.is_empty() {
        tables.push(kept::over(parts, name, found.gone.iter(), &columns)?);
    }
    let only = if tables.len() == 1 { tables.pop() } else { None };
    Ok(only.unwrap_or_else(|| Arc::new(United(tables))))
}

/// The rows of some files, as they are.
pub(super) fn over_files(
    name: &str,
    format: Format,
    urls: Vec<ListingTableUrl>,
    partitions: &[(String, DataType)],
    schema: &SchemaRef,
) -> Result<ListingTable> {
    let options = ListingOptions::new(files::format(format))
        .with_file_extension("")
        .with_table_partition_cols(partitions.to_vec());
    let config =
        ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(Arc::clone(schema));
    ListingTable::try_new(config).or_fail(ErrorKind::Data, || format!("cannot read `{name}`"))
}

/// The rows that `select` lets through, and their columns.
pub(super) struct Selected {
    pub frame: DataFrame,
    /// In the author's types.
    pub columns: Vec<Expr>,
    /// The columns of the files that are read for all this.
    pub reads: BTreeSet<String>,
    /// Whether the same rows pass in every run.
    pub steady: bool,
}

/// Applies `select`; what is wrong with it is a finding.
pub(super) fn selected(
    parts: &EngineParts<'_>,
    name: &str,
    table: &SourceTable,
    raw: DataFrame,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<Selected>> {
    let (mut frame, mut reads, mut steady) = (raw, BTreeSet::new(), true);
    let names = |expr: &Expr| expr.column_refs().into_iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    if let Some(filter) = &table.select.filter {
        match parts.binder().predicate(filter, frame.schema(), name) {
            Ok(predicate) => {
                reads.extend(names(&predicate));
                steady = storable::steady(&predicate).is_ok();
                frame = frame.filter(predicate).or_fail(ErrorKind::Data, || format!("cannot read `{name}`"))?;
            }
            Err(finding) => findings.push(*finding),
        }
    }
    let Some(columns) = columns(parts, name, table, frame.schema(), findings) else { return Ok(None) };
    reads.extend(columns.iter().flat_map(names));
    Ok(Some(Selected { frame, columns, reads, steady }))
}

/// Applies selection, declared types, versions and deduplication; also the columns of the files that are read.
fn relation(
    parts: &EngineParts<'_>,
    name: &str,
    table: &SourceTable,
    raw: DataFrame,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<(LogicalPlan, BTreeSet<String>)>> {
    let doing = || format!("cannot read `{name}`");
    let before = findings.len();
    let Some(Selected { frame, columns, reads, .. }) = selected(parts, name, table, raw, findings)? else {
        return Ok(None);
    };
    let mut frame = frame.select(columns).or_fail(ErrorKind::Data, doing)?;
    check_column(table.time.as_ref(), "time", name, &frame, findings);
    check_clock(table.time.as_ref(), name, &frame, findings);
    check_column(table.row_id.as_ref(), "row_id", name, &frame, findings);
    check_column(table.version.as_ref(), "version", name, &frame, findings);
    check_column(table.dedupe.as_ref().map(|d| &d.by), "dedupe", name, &frame, findings);
    if findings[before..].iter().any(|f| f.severity == crate::diagnostic::Severity::Error) {
        return Ok(None);
    }
    if let (Some(version), Some(row_id)) = (&table.version, &table.row_id) {
        frame = latest_version(frame, &row_id.value, &version.value).or_fail(ErrorKind::Data, doing)?;
    }
    if let Some(dedupe) = &table.dedupe {
        frame = delivered_once(frame, dedupe, table.time.as_ref()).or_fail(ErrorKind::Data, doing)?;
    }
    Ok(Some((frame.into_unoptimized_plan(), reads)))
}

/// The selected columns in the author's types.
fn columns(
    parts: &EngineParts<'_>,
    name: &str,
    table: &SourceTable,
    schema: &DFSchema,
    findings: &mut Vec<Diagnostic>,
) -> Option<Vec<Expr>> {
    let fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    let exists = |n: &str| fields.iter().any(|f| f.name() == n);
    for named in table.select.exclude.iter().chain(table.select.include.iter().flatten()) {
        if !exists(&named.value) {
            findings.push(missing(named, name, &fields));
        }
    }
    let mut types: BTreeMap<&str, DataType> = BTreeMap::new();
    for column in &table.columns {
        if !exists(&column.name.value) {
            findings.push(missing(&column.name, name, &fields));
            continue;
        }
        let Some(declared) = &column.data_type else { continue };
        match parse_type(&parts.binder(), declared) {
            Some(data_type) => {
                types.insert(&column.name.value, data_type);
            }
            None => findings.push(
                Diagnostic::error(Code::UnknownType, declared.span, format!("`{}` is not a type", declared.value))
                    .with_label("not a SQL type")
                    .with_help("types are TEXT, BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP and DECIMAL(p, s)"),
            ),
        }
    }
    if let Some(time) = local_time(table, &fields, parts.timezone) {
        types.entry(time).or_insert(DataType::Timestamp(TimeUnit::Microsecond, None));
    }
    let wanted = |n: &String| {
        let included = table.select.include.as_ref().is_none_or(|i| i.iter().any(|c| c.value == *n));
        included && !table.select.exclude.iter().any(|c| c.value == *n)
    };
    let selected: Vec<Expr> = fields
        .iter()
        .filter(|f| wanted(f.name()))
        .map(|f| typed(f, types.get(f.name().as_str()), table.format, parts.timezone).alias(f.name()))
        .collect();
    (!selected.is_empty()).then_some(selected)
}

/// The table's clock, where it holds texts or dates and nothing says how to read them: they are in the project's time
/// zone, as all times without one. (In UTC they can stay what they are.)
fn local_time<'t>(table: &'t SourceTable, fields: &[FieldRef], timezone: &str) -> Option<&'t str> {
    let time = table.time.as_ref().filter(|_| timezone != "UTC")?;
    let field = fields.iter().find(|field| *field.name() == time.value)?;
    let local = field.data_type().is_string() || matches!(field.data_type(), DataType::Date32 | DataType::Date64);
    local.then_some(&time.value)
}

/// Refuses a clock that is no time: a number would be read as microseconds.
fn check_clock(time: Option<&Spanned<String>>, table: &str, frame: &DataFrame, findings: &mut Vec<Diagnostic>) {
    let Some(time) = time else { return };
    let Ok(field) = frame.schema().field_with_unqualified_name(&time.value) else { return };
    let data_type = field.data_type();
    if data_type.is_temporal() || data_type.is_string() || data_type.is_null() {
        return;
    }
    let shown = super::mistakes::sql_type(&data_type.to_string());
    let message = format!("`{}` of `{table}` is {shown}, and that is no time", time.value);
    findings.push(Diagnostic::error(Code::SqlTypes, time.span, message).with_label("no time").with_help(
        "name a column of times, dates or texts; a model of kind sql can make one of numbers: to_timestamp_seconds(x)",
    ));
}

/// A column in its declared type. Text formats are read with `try_cast`: what cannot be read was found and
/// refused when the run validated the files.
///
/// A time without a zone is in the project's time zone; models see it in UTC.
fn typed(field: &Field, declared: Option<&DataType>, format: Format, timezone: &str) -> Expr {
    let wanted = declared.unwrap_or(field.data_type());
    if let DataType::Timestamp(_, None) = wanted
        && timezone != "UTC"
    {
        let local = DataType::Timestamp(TimeUnit::Microsecond, Some(timezone.into()));
        let text = matches!(format, Format::Csv | Format::Ndjson);
        let read = if text { try_cast(ident(field.name()), local) } else { cast(ident(field.name()), local) };
        return cast(read, super::time_type());
    }
    let raw = ident(field.name());
    match declared {
        Some(wanted) if wanted != field.data_type() => match format {
            Format::Csv | Format::Ndjson => try_cast(raw, wanted.clone()),
            Format::Parquet | Format::Delta => cast(raw, wanted.clone()),
        },
        _ => match field.data_type() {
            // one resolution everywhere, and one that holds every year of a calendar
            DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
                cast(raw, DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
            }
            _ => raw,
        },
    }
}

/// SQL type names; timestamps are microseconds.
pub(super) fn parse_type(binder: &Binder<'_>, declared: &Spanned<String>) -> Option<DataType> {
    let text = Spanned::new(format!("CAST(NULL AS {})", declared.value), declared.span);
    let expr = binder.expression(&text, &DFSchema::empty(), "").ok()?;
    let Expr::Cast(cast) = expr else { return None };
    Some(match cast.field.data_type() {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Utf8View => DataType::Utf8,
        other => other.clone(),
    })
}

fn missing(named: &Spanned<String>, table: &str, fields: &[FieldRef]) -> Diagnostic {
    let finding = Diagnostic::error(
        Code::DeclaredColumnMissing,
        named.span,
        format!("`{table}` has no column `{}` in its files", named.value),
    );
    let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
    finding.with_label("not in the files").with_help(match nearest(&named.value, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the files have: {}", names.join(", ")),
    })
}

fn check_column(
    named: Option<&Spanned<String>>,
    key: &str,
    table: &str,
    frame: &DataFrame,
    findings: &mut Vec<Diagnostic>,
) {
    let Some(named) = named else { return };
    if frame.schema().field_with_unqualified_name(&named.value).is_err() {
        let names: Vec<&str> = frame.schema().fields().iter().map(|f| f.name().as_str()).collect();
        findings.push(
            Diagnostic::error(
                Code::DeclaredColumnMissing,
                named.span,
                format!("`{key}: {}` names no column of `{table}`", named.value),
            )
            .with_label("not a column")
            .with_help(match nearest(&named.value, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its columns are: {}", names.join(", ")),
            }),
        );
    }
}

const RANK: &str = "__kinfold_rank";

/// Keeps the greatest version of each record, and rows that name none; ties are broken by the whole row, so that order
/// never matters.
fn latest_version(frame: DataFrame, row_id: &str, version: &str) -> datafusion::error::Result<DataFrame> {
    let mut order = vec![ident(version).sort(false, false)];
    order.extend(all_columns(&frame).into_iter().map(|c| c.sort(true, false)));
    let rank = row_number().partition_by(vec![ident(row_id)]).order_by(order).build()?.alias(RANK);
    keep_ranked(frame, rank, ident(row_id).is_null().or(col(RANK).eq(lit(1_u64))))
}

/// A row delivered again counts once: the earliest delivery stays.
fn delivered_once(
    frame: DataFrame,
    dedupe: &Dedupe,
    time: Option<&Spanned<String>>,
) -> datafusion::error::Result<DataFrame> {
    let by = ident(&dedupe.by.value);
    let mut order: Vec<_> = time.iter().map(|t| ident(&t.value).sort(true, false)).collect();
    order.extend(all_columns(&frame).into_iter().map(|c| c.sort(true, false)));
    match (&dedupe.within, time) {
        (Some(within), Some(time)) => {
            let previous = lag(micros(&time.value), Some(1), None);
            let rank =
                (micros(&time.value) - previous.partition_by(vec![by.clone()]).order_by(order).build()?).alias(RANK);
            let far = col(RANK).gt(lit(within.value.micros));
            keep_ranked(frame, rank, by.is_null().or(col(RANK).is_null()).or(far))
        }
        _ => {
            let rank = row_number().partition_by(vec![by.clone()]).order_by(order).build()?.alias(RANK);
            keep_ranked(frame, rank, by.is_null().or(col(RANK).eq(lit(1_u64))))
        }
    }
}

fn micros(column: &str) -> Expr {
    cast(cast(ident(column), super::time_type()), DataType::Int64)
}

fn all_columns(frame: &DataFrame) -> Vec<Expr> {
    let sortable = |t: &DataType| !t.is_nested();
    frame.schema().fields().iter().filter(|f| sortable(f.data_type())).map(|f| ident(f.name())).collect()
}

fn keep_ranked(frame: DataFrame, rank: Expr, keep: Expr) -> datafusion::error::Result<DataFrame> {
    let columns: Vec<Expr> = frame.schema().fields().iter().map(|f| ident(f.name())).collect();
    let (state, plan) = frame.into_parts();
    let mut ranked = columns.clone();
    ranked.push(rank);
    let windows = datafusion::logical_expr::utils::find_window_exprs(&ranked);
    let plan =
        LogicalPlanBuilder::from(plan).window(windows)?.project(ranked)?.filter(keep)?.project(columns)?.build()?;
    Ok(DataFrame::new(state, plan))
}

/// A schema without rows, for tables that are declared but have no files yet.
pub(super) fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}
