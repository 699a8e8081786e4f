//! Segment tables: members, who entered and left, sizes and overlap.

use super::audience::BoundAudience;
use super::build::Output;
use super::entities::Entities;
use super::identity::BoundIdentity;
use crate::error::{Context, ErrorKind, Result};
use crate::model::AudienceModel;
use crate::warehouse::WriteMode;
use datafusion::arrow::array::{
    Array, AsArray, Int64Array, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reason of members that the condition found.
const BY_RULE: &str = "rule";

/// Members by entity code, with a reason for those added by hand.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    codes: BTreeMap<u32, Option<String>>,
}

impl Members {
    pub(super) fn from_codes(codes: Vec<u32>) -> Self {
        Self { codes: codes.into_iter().map(|c| (c, None)).collect() }
    }

    /// Whether an entity is one of them.
    pub(super) fn contains(&self, code: u32) -> bool {
        self.codes.contains_key(&code)
    }

    /// One flag per entity.
    pub(super) fn flags(&self, rows: usize) -> Vec<bool> {
        let mut flags = vec![false; rows];
        for code in self.codes.keys() {
            if let Some(flag) = flags.get_mut(*code as usize) {
                *flag = true;
            }
        }
        flags
    }
}

/// Entity codes of a result's id column.
pub(super) fn ids(batches: &[RecordBatch], identity: &str, entities: &Entities) -> Result<Vec<u32>> {
    let doing = || format!("cannot read the column `{identity}_id`");
    let mut out = Vec::new();
    for batch in batches {
        let Some(column) = batch.column_by_name(&format!("{identity}_id")) else { continue };
        let column = datafusion::arrow::compute::cast(column, &DataType::Utf8).or_fail(ErrorKind::Failed, doing)?;
        out.extend(column.as_string::<i32>().iter().flatten().filter_map(|id| entities.of_id(id)));
    }
    Ok(out)
}

/// Adds and removes people by hand; the count is of list entries that name nobody known.
pub(super) fn with_lists(
    matching: Vec<u32>,
    model: &AudienceModel,
    identity: &BoundIdentity,
    entities: &Entities,
) -> (Members, u64) {
    let mut members = Members::from_codes(matching);
    let mut unknown = 0;
    for entry in &model.include {
        match identity.entity_of(entities, &entry.identifier.value) {
            Some(code) => {
                let why = format!("included by {}: {}", entry.by, entry.reason);
                members.codes.entry(code).or_insert(Some(why));
            }
            None => unknown += 1,
        }
    }
    for entry in &model.exclude {
        match identity.entity_of(entities, &entry.identifier.value) {
            Some(code) => {
                members.codes.remove(&code);
            }
            None => unknown += 1,
        }
    }
    (members, unknown)
}

/// What an audience's stage writes.
pub(super) struct SegmentTables {
    pub outputs: Vec<Output>,
    pub members: u64,
    pub entered: u64,
    pub left: u64,
}

/// The segment, its changes and its size, compared with the segment before.
pub(super) fn tables(
    bound: &BoundAudience,
    members: &Members,
    entities: &Entities,
    previous: &[RecordBatch],
    as_of: i64,
    run: u64,
) -> Result<SegmentTables> {
    let before = previous_members(previous, &bound.identity);
    let mut now: BTreeMap<String, (i64, &str)> = BTreeMap::new();
    for (code, reason) in &members.codes {
        let id = entities.ids[*code as usize].to_string();
        let entered_at = before.get(&id).copied().unwrap_or(as_of);
        now.insert(id, (entered_at, reason.as_deref().unwrap_or(BY_RULE)));
    }
    let entered: Vec<&str> = now.keys().filter(|id| !before.contains_key(*id)).map(String::as_str).collect();
    let left: Vec<&str> = before.keys().filter(|id| !now.contains_key(*id)).map(String::as_str).collect();
    let counts = (now.len() as u64, entered.len() as u64, left.len() as u64);
    let outputs =
        vec![segment(bound, &now)?, changes(bound, run, as_of, &entered, &left)?, size(bound, run, as_of, counts)?];
    Ok(SegmentTables { outputs, members: counts.0, entered: counts.1, left: counts.2 })
}

fn previous_members(previous: &[RecordBatch], identity: &str) -> BTreeMap<String, i64> {
    let mut out = BTreeMap::new();
    for batch in previous {
        let (Some(ids), Some(times)) =
            (batch.column_by_name(&format!("{identity}_id")), batch.column_by_name("entered_at"))
        else {
            continue;
        };
        let (ids, times) = (ids.as_string::<i32>(), times.as_primitive::<TimestampMicrosecondType>());
        for row in 0..batch.num_rows() {
            out.insert(ids.value(row).to_owned(), times.value(row));
        }
    }
    out
}

fn times(micros: impl IntoIterator<Item = i64>) -> TimestampMicrosecondArray {
    TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")
}

fn made(table: &str, schema: SchemaRef, columns: Vec<Arc<dyn Array>>, mode: WriteMode) -> Result<Output> {
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
        .or_fail(ErrorKind::Failed, || format!("cannot write `{table}`"))?;
    Ok(Output { table: table.to_owned(), schema, batches: vec![batch], mode })
}

fn segment(bound: &BoundAudience, now: &BTreeMap<String, (i64, &str)>) -> Result<Output> {
    let (mut ids, mut reasons) = (StringBuilder::new(), StringBuilder::new());
    for (id, (_, reason)) in now {
        ids.append_value(id);
        reasons.append_value(reason);
    }
    let entered = times(now.values().map(|v| v.0));
    made(
        &bound.name,
        Arc::clone(&bound.schema),
        vec![Arc::new(ids.finish()), Arc::new(entered), Arc::new(reasons.finish())],
        WriteMode::Overwrite,
    )
}

fn history_fields(rest: Vec<Field>) -> SchemaRef {
    let mut fields = vec![
        Field::new("run", DataType::Int64, false),
        Field::new("as_of", super::time_type(), false),
        Field::new("audience", DataType::Utf8, false),
    ];
    fields.extend(rest);
    Arc::new(Schema::new(fields))
}

fn changes(bound: &BoundAudience, run: u64, as_of: i64, entered: &[&str], left: &[&str]) -> Result<Output> {
    // one table for all audiences, whatever their identity: the id column is named for what it holds
    let schema = history_fields(vec![
        Field::new("entity_id", DataType::Utf8, false),
        Field::new("change", DataType::Utf8, false),
    ]);
    let count = entered.len() + left.len();
    let (mut audiences, mut ids, mut words) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let rows = entered.iter().map(|id| (id, "entered")).chain(left.iter().map(|id| (id, "left")));
    for (id, word) in rows {
        audiences.append_value(&bound.name);
        ids.append_value(id);
        words.append_value(word);
    }
    made(
        "audience_changes",
        schema,
        vec![
            Arc::new(Int64Array::from(vec![run.cast_signed(); count])),
            Arc::new(times(vec![as_of; count])),
            Arc::new(audiences.finish()),
            Arc::new(ids.finish()),
            Arc::new(words.finish()),
        ],
        WriteMode::Append,
    )
}

fn size(bound: &BoundAudience, run: u64, as_of: i64, counts: (u64, u64, u64)) -> Result<Output> {
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let schema = history_fields(vec![number("members"), number("entered"), number("left")]);
    let one = |value: u64| Arc::new(Int64Array::from(vec![value.cast_signed()]));
    let mut audience = StringBuilder::new();
    audience.append_value(&bound.name);
    made(
        "audience_sizes",
        schema,
        vec![
            one(run),
            Arc::new(times([as_of])),
            Arc::new(audience.finish()),
            one(counts.0),
            one(counts.1),
            one(counts.2),
        ],
        WriteMode::Append,
    )
}

/// How many entities each pair of audiences shares.
pub(super) fn overlap(all: &BTreeMap<String, Members>, run: u64, as_of: i64) -> Result<Output> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("run", DataType::Int64, false),
        Field::new("as_of", super::time_type(), false),
        Field::new("audience", DataType::Utf8, false),
        Field::new("other", DataType::Utf8, false),
        Field::new("shared", DataType::Int64, false),
    ]));
    let (mut left, mut right, mut shared) = (StringBuilder::new(), StringBuilder::new(), Int64Builder::new());
    for (name, members) in all {
        for (other, others) in all.range::<String, _>((std::ops::Bound::Excluded(name), std::ops::Bound::Unbounded)) {
            left.append_value(name);
            right.append_value(other);
            let both = members.codes.keys().filter(|c| others.codes.contains_key(*c)).count();
            shared.append_value(i64::try_from(both).unwrap_or(i64::MAX));
        }
    }
    let shared = shared.finish();
    let count = shared.len();
    made(
        "audience_overlap",
        schema,
        vec![
            Arc::new(Int64Array::from(vec![run.cast_signed(); count])),
            Arc::new(times(vec![as_of; count])),
            Arc::new(left.finish()),
            Arc::new(right.finish()),
            Arc::new(shared),
        ],
        WriteMode::Overwrite,
    )
}
