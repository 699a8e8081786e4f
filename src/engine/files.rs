//! The files of a source table: which there are, what schema each has, and whether they agree.

use super::EngineParts;
use super::delta::{self, DeltaTable};
use super::kept::{self, KeptFile};
use super::mistakes::{lower_first, sql_type};
use super::sources::nullable;
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{Format, Source, SourceTable};
use crate::warehouse::Location;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::listing::helpers::parse_partitions_for_path;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;

/// How many files are looked at at a time.
const CONCURRENT: usize = 16;
/// Longest CSV header line that is read.
const HEADER_BYTES: u64 = 256 * 1024;

/// What a table's path stands for.
#[derive(Debug)]
pub(super) struct Found {
    pub urls: Vec<ListingTableUrl>,
    pub store: Arc<dyn ObjectStore>,
    pub files: Vec<ObjectMeta>,
    /// Where they were looked for.
    pub place: String,
    /// Whether they are files on disk, of whose content the store knows nothing.
    pub on_disk: bool,
    /// Hive partition columns (`date=2026-01-01/`), as text.
    pub partitions: Vec<(String, DataType)>,
    /// Files that are gone and of which there are copies.
    pub gone: Vec<KeptFile>,
    /// The table of which these are the files, where its log says so.
    pub delta: Option<DeltaTable>,
}

impl Found {
    /// No files, for a table that is known by its columns only.
    pub(super) fn nothing() -> Self {
        Self {
            urls: Vec::new(),
            store: Arc::new(InMemory::new()),
            files: Vec::new(),
            place: String::new(),
            on_disk: false,
            partitions: Vec::new(),
            gone: Vec::new(),
            delta: None,
        }
    }

    /// What the folders of a file say, in the order of the partition columns.
    pub(super) fn partition_values(&self, file: &ObjectMeta) -> Vec<String> {
        let names = self.partitions.iter().map(|(name, _)| name.as_str());
        let values = self.urls.first().and_then(|url| parse_partitions_for_path(url, &file.location, names));
        values.unwrap_or_default().into_iter().map(std::borrow::Cow::into_owned).collect()
    }

    /// Addresses of some of its files.
    pub(super) fn urls_of(&self, files: Vec<&ObjectMeta>) -> Result<Vec<ListingTableUrl>> {
        let Some(any) = self.urls.first() else { return Ok(Vec::new()) };
        file_urls(any.object_store().as_str(), files)
    }
}

/// The reader of a format.
pub(super) fn format(format: Format) -> Arc<dyn FileFormat> {
    match format {
        Format::Parquet | Format::Delta => Arc::new(ParquetFormat::default()),
        Format::Csv => Arc::new(CsvFormat::default().with_has_header(true).with_newlines_in_values(true)),
        Format::Ndjson => Arc::new(JsonFormat::default()),
    }
}

/// Lists the files of a table; no files is a finding.
pub(super) async fn find(
    parts: &EngineParts<'_>,
    source: &Source,
    table: &SourceTable,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<Found>> {
    if table.format == Format::Delta {
        return delta::find(parts, source, table, findings).await;
    }
    let name = format!("{}.{}", source.name.value, table.name.value);
    let doing = || format!("cannot list the files of `{name}`");
    let location = Location::parse(&source.location.value, parts.root)?;
    let (store, _) = location.object_store(parts.environment)?;
    let root = location.root_url()?;
    parts.context.runtime_env().register_object_store(&root, Arc::clone(&store));
    let folder = location.url()?;
    let (fixed, glob) = split_glob(table.path.value.trim_start_matches("./"));
    let mut url = ListingTableUrl::parse(format!("{folder}{fixed}")).or_fail(ErrorKind::Data, doing)?;
    if let Some(glob) = glob {
        url = url.with_glob(glob).or_fail(ErrorKind::Usage, doing)?;
    }
    let listed = match url.list_all_files(parts.state, store.as_ref(), "").await {
        Ok(stream) => stream.try_collect::<Vec<ObjectMeta>>().await,
        Err(e) => Err(e),
    };
    let mut files = match listed {
        Ok(files) => files,
        Err(e) if is_missing(&e) => Vec::new(),
        Err(e) => return Err(Error::new(ErrorKind::Storage, doing()).caused_by(e)),
    };
    files.retain(|f| !is_hidden(f) && glob.is_none_or(|glob| as_deep(&url, glob, f)));
    files.sort_by(|a, b| a.location.cmp(&b.location));
    let place = location.join(&table.path.value)?.to_string();
    let gone = kept::gone(parts, (&name, table), &place, &files.iter().map(|f| f.location.as_ref()).collect());
    if files.is_empty() && gone.is_empty() {
        findings.push(
            Diagnostic::error(Code::NoFiles, table.path.span, format!("no files for `{name}`"))
                .with_label("nothing here")
                .with_note(format!("looked in {place}"))
                .with_help("correct `location` or `path`, or set `enabled: false` while the table has no data"),
        );
        return Ok(None);
    }
    let gone_paths = gone.iter().filter_map(|kept| Path::parse(&kept.file.path).ok());
    let partitions = partitions(&url, files.iter().map(|f| f.location.clone()).chain(gone_paths).next());
    // hive folders are read through the folder; everything else file by file, so that hidden files stay out
    let urls = if partitions.is_empty() { file_urls(root.as_str(), &files)? } else { vec![url] };
    let on_disk = matches!(location, Location::Folder(_));
    Ok(Some(Found { urls, store, files, place, on_disk, partitions, gone, delta: None }))
}

/// The folders before the first wildcard, and the pattern from there on.
fn split_glob(path: &str) -> (&str, Option<&str>) {
    let Some(wild) = path.find(['*', '?', '[']) else { return (path, None) };
    let folder = path[..wild].rfind('/').map_or(0, |slash| slash + 1);
    (&path[..folder], Some(&path[folder..]))
}

/// Whether a file lies as deep as a pattern says: `*` stands for no `/`. Folders that name a column do not count.
fn as_deep(url: &ListingTableUrl, glob: &str, file: &ObjectMeta) -> bool {
    let depth = url.strip_prefix(&file.location).map(|parts| parts.filter(|part| !part.contains('=')).count());
    depth == Some(glob.split('/').count())
}

fn file_urls<'f>(root: &str, files: impl IntoIterator<Item = &'f ObjectMeta>) -> Result<Vec<ListingTableUrl>> {
    let base = root.trim_end_matches('/');
    files
        .into_iter()
        .map(|f| {
            let url = url::Url::parse(&format!("{base}/{}", f.location))
                .or_fail(ErrorKind::Data, || format!("cannot read `{}`", f.location))?;
            ListingTableUrl::try_new(url, None).or_fail(ErrorKind::Data, || format!("cannot read `{}`", f.location))
        })
        .collect()
}

fn is_missing(error: &datafusion::error::DataFusionError) -> bool {
    matches!(error.find_root(), datafusion::error::DataFusionError::ObjectStore(e)
        if matches!(e.as_ref(), datafusion::object_store::Error::NotFound { .. }))
}

/// Files that tools leave beside data: `_SUCCESS`, `.part`, empty markers of folders.
fn is_hidden(file: &ObjectMeta) -> bool {
    let name = file.location.filename().unwrap_or("");
    name.starts_with('_') || name.starts_with('.') || (file.size == 0 && !name.contains('.'))
}

/// The columns that the folders of the first file say; those of all are the same.
fn partitions(url: &ListingTableUrl, first: Option<Path>) -> Vec<(String, DataType)> {
    let Some(first) = first else { return Vec::new() };
    let Some(relative) = url.strip_prefix(&first) else { return Vec::new() };
    let folders: Vec<&str> = relative.collect();
    let folders = &folders[..folders.len().saturating_sub(1)];
    let names: Option<Vec<_>> =
        folders.iter().map(|f| f.split_once('=').map(|(k, _)| (k.to_owned(), DataType::Utf8))).collect();
    names.unwrap_or_default()
}

/// The schema that all files agree on (nullable columns), or findings.
pub(super) async fn schema(
    parts: &EngineParts<'_>,
    name: &str,
    table: &SourceTable,
    found: &Found,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<SchemaRef>> {
    if let Some(delta) = &found.delta {
        return Ok(Some(delta.schema()));
    }
    let schemas: Vec<(String, Result<SchemaRef>)> = stream::iter(found.files.iter())
        .map(|file| async move { (shown(file), file_schema(parts, table.format, found, file).await) })
        .buffered(CONCURRENT)
        .collect()
        .await;
    let mut readable = Vec::new();
    for (file, schema) in schemas {
        match schema {
            Ok(schema) => readable.push((file, schema)),
            Err(e) => findings.push(unreadable(table, name, &file, &e)),
        }
    }
    if readable.len() < found.files.len() {
        return Ok(None);
    }
    for kept in &found.gone {
        readable.push((format!("{} (gone, kept)", kept.name()), kept.schema()?));
    }
    if table.format == Format::Csv {
        return Ok(same_header(table, name, &readable, findings));
    }
    Ok(merge(table, name, &readable, findings))
}

/// Rows, and the least and greatest value of a time column in microseconds, from Parquet footers; `None` when some
/// file does not say.
pub(super) async fn time_range(
    parts: &EngineParts<'_>,
    found: &Found,
    schema: &SchemaRef,
    column: &str,
) -> Result<Option<(usize, i64, i64)>> {
    let Ok(index) = schema.index_of(column) else { return Ok(None) };
    let (mut rows, mut low, mut high) = (0, i64::MAX, i64::MIN);
    for file in &found.files {
        let statistics = ParquetFormat::default()
            .infer_stats(parts.state, &found.store, Arc::clone(schema), file)
            .await
            .or_fail(ErrorKind::Data, || format!("cannot read {}", file.location))?;
        let Some(count) = statistics.num_rows.get_value() else { return Ok(None) };
        rows += count;
        if *count == 0 {
            continue;
        }
        let of_column = &statistics.column_statistics[index];
        let micros = |value: Option<&ScalarValue>| match value {
            Some(ScalarValue::TimestampMicrosecond(Some(t), _)) => Some(*t),
            _ => None,
        };
        let (Some(least), Some(greatest)) =
            (micros(of_column.min_value.get_value()), micros(of_column.max_value.get_value()))
        else {
            return Ok(None);
        };
        low = low.min(least);
        high = high.max(greatest);
    }
    Ok(Some((rows, low, high)))
}

/// Rows of Parquet files, from their footers; `None` when some file does not say.
pub(super) async fn count_rows(parts: &EngineParts<'_>, found: &Found, schema: &SchemaRef) -> Result<Option<u64>> {
    let counts: Vec<Result<Option<u64>>> = stream::iter(found.files.iter())
        .map(|file| async move {
            let statistics = ParquetFormat::default()
                .infer_stats(parts.state, &found.store, Arc::clone(schema), file)
                .await
                .or_fail(ErrorKind::Data, || format!("cannot read {}", file.location))?;
            Ok(statistics.num_rows.get_value().map(|rows| *rows as u64))
        })
        .buffered(CONCURRENT)
        .collect()
        .await;
    counts.into_iter().try_fold(Some(0), |all, one| Ok(all.zip(one?).map(|(all, one)| all + one)))
}

fn shown(file: &ObjectMeta) -> String {
    file.location.filename().unwrap_or_default().to_owned()
}

fn unreadable(table: &SourceTable, name: &str, file: &str, error: &Error) -> Diagnostic {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let cause = super::bind::without_prefixes(cause.lines().next().unwrap_or_default());
    Diagnostic::error(Code::DataUnreadable, table.path.span, format!("`{name}`: cannot read {file}"))
        .with_label("one of these files")
        .with_note(lower_first(cause))
        .with_help("the file may be half written or of another format; remove or replace it, then run again")
}

async fn file_schema(parts: &EngineParts<'_>, kind: Format, found: &Found, file: &ObjectMeta) -> Result<SchemaRef> {
    let doing = || format!("cannot read {}", file.location);
    if kind == Format::Csv {
        return csv_header(found.store.as_ref(), file).await;
    }
    let inferred = format(kind)
        .infer_schema(parts.state, &found.store, std::slice::from_ref(file))
        .await
        .or_fail(ErrorKind::Data, doing)?;
    Ok(nullable(&inferred))
}

/// CSV columns are text until they are declared otherwise: guessing types from the first rows would change
/// with the data.
async fn csv_header(store: &dyn ObjectStore, file: &ObjectMeta) -> Result<SchemaRef> {
    let doing = || format!("cannot read {}", file.location);
    if file.size == 0 {
        return Err(
            Error::new(ErrorKind::Data, doing()).caused_by("the file is empty, not even a header line is there")
        );
    }
    let end = file.size.min(HEADER_BYTES);
    let bytes = store.get_range(&file.location, 0..end).await.or_fail(ErrorKind::Data, doing)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(bytes.as_ref());
    let header = reader.headers().or_fail(ErrorKind::Data, doing)?;
    if header.is_empty() {
        return Err(Error::new(ErrorKind::Data, doing()).caused_by("the file has no header line"));
    }
    let names = header.iter().enumerate().map(|(i, h)| if i == 0 { h.trim_start_matches('\u{feff}') } else { h });
    Ok(Arc::new(Schema::new(names.map(|h| Field::new(h, DataType::Utf8, true)).collect::<Vec<_>>())))
}

fn same_header(
    table: &SourceTable,
    name: &str,
    schemas: &[(String, SchemaRef)],
    findings: &mut Vec<Diagnostic>,
) -> Option<SchemaRef> {
    let (first_file, first) = schemas.first()?;
    for (file, schema) in schemas {
        if schema != first {
            findings.push(
                Diagnostic::error(
                    Code::SchemaDiffers,
                    table.path.span,
                    format!("`{name}`: the header of {file} differs from that of {first_file}"),
                )
                .with_label("files of different shape")
                .with_note(format!("{first_file}: {}", names(first)))
                .with_note(format!("{file}: {}", names(schema)))
                .with_help("CSV files of one table need the same columns in the same order"),
            );
            return None;
        }
    }
    Some(Arc::clone(first))
}

fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// All columns of all files; a type that differs is an error, a column that some files lack a warning.
fn merge(
    table: &SourceTable,
    name: &str,
    schemas: &[(String, SchemaRef)],
    findings: &mut Vec<Diagnostic>,
) -> Option<SchemaRef> {
    let mut fields: Vec<(Field, &str)> = Vec::new();
    let mut ok = true;
    for (file, schema) in schemas {
        for field in schema.fields() {
            match fields.iter().find(|(f, _)| f.name() == field.name()) {
                None => fields.push((field.as_ref().clone(), file)),
                Some((known, _)) if known.data_type() == field.data_type() => {}
                Some((known, first)) => {
                    ok = false;
                    findings.push(
                        Diagnostic::error(
                            Code::SchemaDiffers,
                            table.path.span,
                            format!("`{name}`: column `{}` has different types in its files", field.name()),
                        )
                        .with_label("files of different shape")
                        .with_note(format!(
                            "{first} has {}, {file} has {}",
                            sql_type(&known.data_type().to_string()),
                            sql_type(&field.data_type().to_string())
                        ))
                        .with_help("write the files with one type; `columns: {type: ...}` cannot reconcile them"),
                    );
                }
            }
        }
    }
    for (field, _) in &fields {
        let lacking: Vec<&str> = schemas
            .iter()
            .filter(|(_, s)| s.field_with_name(field.name()).is_err())
            .map(|(file, _)| file.as_str())
            .collect();
        if let Some(first) = lacking.first() {
            findings.push(
                Diagnostic::warning(
                    Code::ColumnMissingInFiles,
                    table.path.span,
                    format!(
                        "`{name}`: column `{}` is missing in {} of {} files",
                        field.name(),
                        lacking.len(),
                        schemas.len()
                    ),
                )
                .with_label("not in all files")
                .with_note(format!("{first} is the first without it; its rows read as null")),
            );
        }
    }
    ok.then(|| Arc::new(Schema::new(fields.into_iter().map(|(f, _)| f).collect::<Vec<_>>())))
}

/// Where a value stands: `file.csv:12`. Looks through the table's files line by line; used once, for a message.
pub(super) async fn locate(
    engine: &super::Engine,
    name: &str,
    table: &SourceTable,
    column: &str,
    value: &str,
) -> Result<Option<String>> {
    let Some((source, _)) = engine.project.source_table(name) else { return Ok(None) };
    let Some(found) = find(&engine.parts(), source, table, &mut Vec::new()).await? else { return Ok(None) };
    for file in &found.files {
        let doing = || format!("cannot read {}", file.location);
        let bytes = found.store.get(&file.location).await.or_fail(ErrorKind::Data, doing)?;
        let bytes = bytes.bytes().await.or_fail(ErrorKind::Data, doing)?;
        let line = match table.format {
            Format::Csv => csv_line(&bytes, column, value),
            _ => bytes
                .split(|b| *b == b'\n')
                .position(|l| String::from_utf8_lossy(l).contains(value))
                .map(|l| l as u64 + 1),
        };
        if let Some(line) = line {
            return Ok(Some(format!("{}:{line}", shown(file))));
        }
    }
    Ok(None)
}

fn csv_line(bytes: &[u8], column: &str, value: &str) -> Option<u64> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let index = reader.headers().ok()?.iter().position(|h| h == column)?;
    let records = reader.records().filter_map(std::result::Result::ok);
    let mut found = records.filter(|r| r.get(index) == Some(value));
    found.next().and_then(|r| r.position().map(csv::Position::line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_begin_at_their_folder() {
        assert_eq!(split_glob("tracks/"), ("tracks/", None));
        assert_eq!(split_glob("tracks/base-*.parquet"), ("tracks/", Some("base-*.parquet")));
        assert_eq!(split_glob("*/x-?.csv"), ("", Some("*/x-?.csv")));
        assert_eq!(split_glob("a/b[0-9]/c.csv"), ("a/", Some("b[0-9]/c.csv")));
    }

    #[test]
    fn csv_lines_are_found_behind_quoted_line_breaks() {
        let text = b"id,note,at\n1,\"two\nlines\",2026-01-01\n2,x,soon\n";
        assert_eq!(csv_line(text, "at", "soon"), Some(4));
        assert_eq!(csv_line(text, "at", "never"), None);
    }
}
