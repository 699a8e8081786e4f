//! Text tables (CSV, NDJSON) against their declared types, before a run uses them.
//!
//! Types of text columns are promises of the author. A value that breaks one would silently become null, so
//! the run looks first and names the file, the line and the value. Times far outside any calendar of a
//! clinic are a warning in every format.

use super::sources::parse_type;
use super::{Engine, files, fold};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::error::{Context, ErrorKind, Result};
use crate::model::{Column, Format, SourceTable};
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit, try_cast};
use std::collections::BTreeSet;

/// Checks every opened table that the run reads.
///
/// # Errors
/// When a table cannot be read at all.
pub async fn validate_text_tables(engine: &Engine, tables: &BTreeSet<String>) -> Result<Vec<Diagnostic>> {
    let mut findings = Vec::new();
    for name in tables {
        let Some((_, table)) = engine.project.source_table(name) else { continue };
        if !engine.sources.contains_key(name) {
            continue;
        }
        if matches!(table.format, Format::Csv | Format::Ndjson) {
            types(engine, name, table, &mut findings).await?;
        }
        times(engine, name, table, &mut findings).await?;
    }
    Ok(findings)
}

/// Declared columns whose text cannot be read as their type.
async fn types(engine: &Engine, name: &str, table: &SourceTable, findings: &mut Vec<Diagnostic>) -> Result<()> {
    let doing = || format!("cannot read `{name}`");
    let parts = engine.parts();
    let Some(raw) = engine.raw(name) else { return Ok(()) };
    let declared = declared(table);
    let typed: Vec<(&Column, Expr)> = declared
        .iter()
        .filter_map(|c| {
            let data_type = parse_type(&parts.binder(), c.data_type.as_ref()?)?;
            let column = ident(&c.name.value);
            Some((c, column.clone().is_not_null().and(try_cast(column, data_type).is_null())))
        })
        .collect();
    if typed.is_empty() {
        return Ok(());
    }
    let mut wanted = Vec::new();
    for (column, broken) in &typed {
        let text = cast(ident(&column.name.value), DataType::Utf8);
        let only = datafusion::logical_expr::when(broken.clone(), text).end().map_err(super::internal)?;
        wanted.push(count(only.clone()).alias(format!("{}__count", column.name.value)));
        wanted.push(min(only).alias(format!("{}__first", column.name.value)));
    }
    let plan = LogicalPlanBuilder::from(raw.clone())
        .aggregate(Vec::<Expr>::new(), wanted)
        .and_then(LogicalPlanBuilder::build)
        .map_err(super::internal)?;
    let batches = fold::execute(&engine.context, plan).await.or_fail(ErrorKind::Data, doing)?;
    let Some(batch) = batches.first() else { return Ok(()) };
    for (index, (column, _)) in typed.iter().enumerate() {
        let broken = batch.column(index * 2).as_primitive::<Int64Type>().value(0);
        if broken == 0 {
            continue;
        }
        let first = datafusion::arrow::compute::cast(batch.column(index * 2 + 1), &DataType::Utf8)
            .or_fail(ErrorKind::Data, doing)?;
        findings.push(broken_values(engine, name, table, column, broken, first.as_string::<i32>().value(0)).await?);
    }
    Ok(())
}

/// The columns of a table, its clock as a time whether it says so or not.
fn declared(table: &SourceTable) -> Vec<Column> {
    let mut columns = table.columns.clone();
    let Some(time) = &table.time else { return columns };
    let data_type = Some(Spanned::new("TIMESTAMP".to_owned(), time.span));
    match columns.iter_mut().find(|column| column.name.value == time.value) {
        Some(column) if column.data_type.is_none() => column.data_type = data_type,
        Some(_) => {}
        None => columns.push(Column { name: time.clone(), data_type, labels: None, description: None }),
    }
    columns
}

async fn broken_values(
    engine: &Engine,
    name: &str,
    table: &SourceTable,
    column: &Column,
    count: i64,
    value: &str,
) -> Result<Diagnostic> {
    let declared = column.data_type.as_ref();
    let word = declared.map_or("", |d| d.value.as_str());
    let span = declared.map_or(column.name.span, |d| d.span);
    let rows = if count == 1 { "row has".to_owned() } else { format!("{count} rows have") };
    let count = if count == 1 { "1 ".to_owned() } else { String::new() };
    let mut finding = Diagnostic::error(
        Code::DataUnreadable,
        span,
        format!("`{name}`: {count}{rows} text in `{}` that is not a {word}", column.name.value),
    );
    let clock = table.time.as_ref().filter(|time| time.value == column.name.value);
    finding.label = Some(if declared.is_some_and(|d| clock.is_some_and(|clock| clock.span == d.span)) {
        "the table's time".to_owned()
    } else {
        "declared so".to_owned()
    });
    // messages end in logs: what tells of a person stays in the file
    let protected = engine.project.source_table(name).is_some_and(|(source, _)| source.protects(column));
    let place = super::files::locate(engine, name, table, &column.name.value, value).await?;
    finding = match (place, protected) {
        (Some(place), false) => finding.with_note(format!("{place} has `{value}`")),
        (Some(place), true) => finding.with_note(format!("{place} has one; its label keeps the value out of here")),
        (None, false) => finding.with_note(format!("one of them is `{value}`")),
        (None, true) => finding,
    };
    Ok(finding.with_help(if clock.is_some() {
        "mend the file: a table's `time` is a time in every row, or empty"
    } else {
        "mend the file, or declare the column as VARCHAR and use try_cast in models"
    }))
}

/// 1900-01-01 and 2200-01-01 in microseconds.
const PLAUSIBLE: (i64, i64) = (-2_208_988_800_000_000, 7_258_118_400_000_000);

/// Tables without rows, and event times that no clinic has.
async fn times(engine: &Engine, name: &str, table: &SourceTable, findings: &mut Vec<Diagnostic>) -> Result<()> {
    let (Some(time), Some(open)) = (&table.time, engine.sources.get(name)) else { return Ok(()) };
    let range = match table.format {
        Format::Parquet | Format::Delta => {
            files::time_range(&engine.parts(), &open.found, &open.schema, &time.value).await?
        }
        Format::Csv | Format::Ndjson => scanned_range(engine, name, &open.plan, &time.value).await?,
    };
    let Some((rows, low, high)) = range else { return Ok(()) };
    if rows == 0 && open.found.gone.is_empty() {
        findings.push(
            Diagnostic::warning(Code::NoRows, table.path.span, format!("`{name}` has no rows"))
                .with_label("files without rows")
                .with_help("if that is right, nothing is wrong: counts are 0 and other traits null"),
        );
    } else if low < PLAUSIBLE.0 || high > PLAUSIBLE.1 {
        let shown = |t: i64| {
            let time = chrono::DateTime::from_timestamp_micros(t);
            time.map_or_else(|| format!("{t} microseconds"), |t| t.format("%Y-%m-%d").to_string())
        };
        let (low, high) = (shown(low), shown(high));
        let message = format!("`{name}`: `{}` holds times from {low} to {high}", time.value);
        let finding = Diagnostic::warning(Code::DataUnreadable, time.span, message).with_label("out of any calendar");
        findings.push(finding.with_help(
            "a unit may be wrong (milliseconds read as microseconds); leave such rows out with `select: {where: ...}`",
        ));
    }
    Ok(())
}

/// Rows and range of a time column by reading it: text files are small, and say nothing of themselves.
async fn scanned_range(
    engine: &Engine,
    name: &str,
    plan: &LogicalPlan,
    time: &str,
) -> Result<Option<(usize, i64, i64)>> {
    let Ok(field) = plan.schema().field_with_unqualified_name(time) else { return Ok(None) };
    if !matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) {
        return Ok(None);
    }
    let micros = cast(ident(time), DataType::Int64);
    let plan = LogicalPlanBuilder::from(plan.clone())
        .aggregate(Vec::<Expr>::new(), vec![min(micros.clone()), max(micros), count(lit(1_i64))])
        .and_then(LogicalPlanBuilder::build)
        .map_err(super::internal)?;
    let batches = fold::execute(&engine.context, plan)
        .await
        .or_fail(ErrorKind::Data, || format!("cannot read the times of `{name}`"))?;
    let Some(batch) = batches.first() else { return Ok(None) };
    let number = |index: usize| {
        let column = batch.column(index).as_primitive::<Int64Type>();
        column.is_valid(0).then(|| column.value(0))
    };
    let rows = number(2).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    Ok(Some((rows, number(0).unwrap_or(0), number(1).unwrap_or(0))))
}
