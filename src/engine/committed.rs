//! Committed tables as the engine reads them: providers over their data files, and the state of identities
//! and profiles that a run did not build itself.

use super::entities::Entities;
use super::internal;
use super::wide::Wide;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::identity::{EntityId, HUB, Interner, InternerFull, NO_NODE, NO_TIME, Nodes, Scratch, Spellings};
use crate::warehouse::{Snapshot, Table, Warehouse};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{cast, concat_batches, take};
use datafusion::arrow::datatypes::{Field, SchemaRef, TimestampMicrosecondType};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::prelude::SessionContext;
use hashbrown::HashMap;
use std::sync::Arc;

/// Rows of a committed table; none when it was never written.
pub(super) async fn rows(warehouse: &Warehouse, base: &Snapshot, name: &str) -> Result<Vec<RecordBatch>> {
    match base.tables.get(name) {
        Some(at) => {
            let table = warehouse.table(at).await?;
            warehouse.read_all(&table).await
        }
        None => Ok(Vec::new()),
    }
}

/// Who says which columns a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    /// A definition: a column that is missing was added to it since.
    Defined,
    /// We: a table beside a model lacks what an older version did not write, and is null there.
    OurOwn,
}

/// A provider over the files of a committed table, checked against the columns that readers were bound to.
pub(super) async fn provider(
    context: &SessionContext,
    warehouse: &Warehouse,
    base: &Snapshot,
    name: &str,
    (wanted, columns): (&SchemaRef, Columns),
) -> Result<Arc<dyn TableProvider>> {
    let Some(at) = base.tables.get(name) else {
        return Err(Error::new(ErrorKind::Usage, format!("`{name}` has never been built"))
            .with_help(format!("run it first, or select it too: --select +{name}")));
    };
    let table = warehouse.table(at).await?;
    for field in wanted.fields() {
        // Delta calls the values of a list otherwise than Arrow
        let fits = |f: &Field| f.data_type().equals_datatype(field.data_type());
        let same = match table.schema.field_with_name(field.name()) {
            Ok(known) => fits(known),
            Err(_) => columns == Columns::OurOwn && field.is_nullable(),
        };
        if !same {
            let message = format!("`{name}` was last built with another definition of column `{}`", field.name());
            return Err(Error::new(ErrorKind::Usage, message).with_help(format!("build it too: --select {name}+")));
        }
    }
    over_table(context, warehouse, &table, wanted)
}

/// A provider over the files of a committed table without some of them, by name.
pub(super) async fn without(
    context: &SessionContext,
    warehouse: &Warehouse,
    base: &Snapshot,
    name: &str,
    gone: &[String],
    schema: &SchemaRef,
) -> Result<Arc<dyn TableProvider>> {
    let mut kept = Vec::new();
    if let Some(at) = base.tables.get(name) {
        let table = warehouse.table(at).await?;
        kept.extend(table.files.iter().filter(|file| !gone.contains(&file.name)).map(|file| file.path.clone()));
    }
    over_files(context, warehouse, name, kept.into_iter(), schema)
}

/// A provider over a table's data files, in the given columns.
pub(super) fn over_table(
    context: &SessionContext,
    warehouse: &Warehouse,
    table: &Table,
    schema: &SchemaRef,
) -> Result<Arc<dyn TableProvider>> {
    over_files(context, warehouse, &table.name, table.files.iter().map(|file| &file.path), schema)
}

/// A provider over some data files of a table, in the given columns.
pub(super) fn over_files<P: std::fmt::Display>(
    context: &SessionContext,
    warehouse: &Warehouse,
    name: &str,
    paths: impl Iterator<Item = P>,
    schema: &SchemaRef,
) -> Result<Arc<dyn TableProvider>> {
    let doing = || format!("cannot read the table `{name}`");
    let root = root_url(warehouse);
    let base = root.as_str().trim_end_matches('/');
    let url = |path: P| {
        let url = url::Url::parse(&format!("{base}/{path}")).or_fail(ErrorKind::Data, doing)?;
        ListingTableUrl::try_new(url, None).or_fail(ErrorKind::Data, doing)
    };
    let urls = paths.map(url).collect::<Result<Vec<_>>>()?;
    if urls.is_empty() {
        let empty = MemTable::try_new(Arc::clone(schema), vec![vec![]]).map_err(internal)?;
        return Ok(Arc::new(empty));
    }
    context.runtime_env().register_object_store(&root, Arc::clone(warehouse.store()));
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension("");
    let config =
        ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(Arc::clone(schema));
    Ok(Arc::new(ListingTable::try_new(config).or_fail(ErrorKind::Data, doing)?))
}

fn root_url(warehouse: &Warehouse) -> url::Url {
    let mut root = warehouse.url().clone();
    root.set_path("/");
    root
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| Error::new(ErrorKind::Data, format!("a committed table has no column `{name}`")))
}

/// Interns identifiers whose types stand in a column beside them.
pub(super) struct TypedInterner<'t> {
    types: &'t [&'t str],
    interner: Interner,
    scratch: Scratch,
    of_type: Vec<u32>,
}

impl<'t> TypedInterner<'t> {
    /// An interner for these types, by code.
    pub(super) fn new(types: &'t [&'t str]) -> Self {
        let interner = Interner::new(types.len());
        Self { types, interner, scratch: Scratch::default(), of_type: Vec::new() }
    }

    /// The provisional code of every row, [`NO_NODE`] for an unknown type.
    pub(super) fn codes(
        &mut self,
        kinds: &StringArray,
        texts: &StringArray,
        times: Option<&[i64]>,
    ) -> Result<Vec<u32>, InternerFull> {
        let mut codes = vec![NO_NODE; texts.len()];
        for (code, kind) in (0..=u8::MAX).zip(self.types) {
            let of_kind = kinds.iter().zip(texts).map(|(k, text)| text.filter(|_| k == Some(*kind)));
            self.interner.intern_batch(&mut self.scratch, code, of_kind, times, &mut self.of_type)?;
            for (slot, found) in codes.iter_mut().zip(&self.of_type).filter(|(_, found)| **found != NO_NODE) {
                *slot = *found;
            }
        }
        Ok(codes)
    }

    /// Ends interning and makes the codes dense.
    pub(super) fn freeze(self) -> Nodes {
        self.interner.freeze()
    }
}

/// The entities of a committed identity table.
pub(super) fn entities(identity: &str, types: &[&str], rows: &[RecordBatch]) -> Result<Entities> {
    let mut interner = TypedInterner::new(types);
    let (mut ids, mut codes): (Vec<EntityId>, HashMap<EntityId, u32>) = (Vec::new(), HashMap::new());
    let mut entity_of_provisional: Vec<(u32, u32)> = Vec::new();
    for batch in rows {
        let kinds = column(batch, "identifier_type")?.as_string::<i32>();
        let texts = column(batch, "identifier")?.as_string::<i32>();
        let id_column = column(batch, &format!("{identity}_id"))?.as_string::<i32>();
        let first = column(batch, "first_seen")?.as_primitive::<TimestampMicrosecondType>();
        let times: Vec<i64> = first.iter().map(|t| t.unwrap_or(NO_TIME)).collect();
        let interned = interner
            .codes(kinds, texts, Some(&times))
            .or_fail(ErrorKind::Data, || format!("cannot load identity `{identity}`"))?;
        for (row, provisional) in interned.into_iter().enumerate().filter(|(_, code)| *code != NO_NODE) {
            let Ok(id) = id_column.value(row).parse::<EntityId>() else { continue };
            let next = u32::try_from(ids.len()).unwrap_or(HUB);
            let entity = *codes.entry(id).or_insert_with(|| {
                ids.push(id);
                next
            });
            entity_of_provisional.push((provisional, entity));
        }
    }
    let nodes = interner.freeze();
    let mut entity = vec![HUB; nodes.len()];
    for (provisional, code) in entity_of_provisional {
        entity[nodes.dense(provisional) as usize] = code;
    }
    Ok(Entities::new(nodes, Spellings::default(), entity, ids))
}

/// The wide table of a committed profile: its own columns, in entity order.
pub(super) fn wide(identity: &str, schema: &SchemaRef, rows: &[RecordBatch], entities: &Entities) -> Result<Wide> {
    let doing = || "cannot load a profile".to_owned();
    let mut wide = Wide::new(entities.len());
    let all = match rows.first() {
        Some(first) => concat_batches(&first.schema(), rows).or_fail(ErrorKind::Data, doing)?,
        None => RecordBatch::new_empty(Arc::clone(schema)),
    };
    let ids = column(&all, &format!("{identity}_id"))?.as_string::<i32>();
    let mut index: Vec<Option<u32>> = vec![None; entities.len()];
    for row in 0..ids.len() {
        if let Some(entity) = entities.of_id(ids.value(row)) {
            index[entity as usize] = u32::try_from(row).ok();
        }
    }
    let index = UInt32Array::from(index);
    for field in schema.fields() {
        let taken = take(column(&all, field.name())?, &index, None).or_fail(ErrorKind::Data, doing)?;
        wide.push(field.name(), cast(&taken, field.data_type()).or_fail(ErrorKind::Data, doing)?);
    }
    Ok(wide)
}
