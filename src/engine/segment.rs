//! Segment tables: members, who entered and left, sizes and overlap.

use super::audience::{BoundAudience, holdout_table, rejected_schema, rejected_table};
use super::build::Output;
use super::entities::Entities;
use super::history::CHANGES;
use super::identity::BoundIdentity;
use super::identity_tables::append_id;
use super::narrow::{Found, Members};
use crate::error::{Context, ErrorKind, Result};
use crate::identity::EntityId;
use crate::model::{AudienceModel, ListEntry};
use crate::warehouse::WriteMode;
use datafusion::arrow::array::{
    Array, AsArray, BooleanArray, Int64Array, Int64Builder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reason of members that the condition found.
const BY_RULE: &str = "rule";

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

/// What the summary tells of an audience.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct AudienceFacts {
    /// Members now.
    pub members: u64,
    /// Members that were none before.
    pub entered: u64,
    /// Members before that are none now.
    pub left: u64,
    /// People whom an earlier audience of the group took.
    pub in_group: u64,
    /// People who are held out.
    pub held_out: u64,
    /// People who rank behind the last member.
    pub beyond_top: u64,
    /// The least number of members with which syncs send.
    pub min_size: Option<u32>,
    /// Whether there are fewer.
    pub too_small: bool,
    /// Rows of its lists that name nobody known.
    pub rejected: u64,
}

impl AudienceFacts {
    /// Why syncs of the audience send nothing, if it is too small.
    pub fn too_small_text(&self, audience: &str) -> Option<String> {
        let least = self.min_size.filter(|_| self.too_small)?;
        let members = if self.members == 1 { "member" } else { "members" };
        Some(format!("`{audience}` has {} {members}, and its min_size is {least}", self.members))
    }
}

/// Who was found, with the people by hand.
#[derive(Default)]
pub(super) struct Listed<'m> {
    pub found: Found,
    /// Those of include lists.
    pub picked: BTreeSet<u32>,
    /// Rows that name nobody known.
    pub rejected: Vec<Rejected<'m>>,
}

/// A row of a list that names nobody.
pub(super) struct Rejected<'m> {
    list: &'static str,
    entry: &'m ListEntry,
    reason: String,
}

/// Adds and removes people by hand.
pub(super) fn with_lists<'m>(
    matching: Vec<u32>,
    model: &'m AudienceModel,
    identity: &BoundIdentity,
    entities: &Entities,
) -> Listed<'m> {
    let mut listed = Listed { found: matching.into_iter().map(|c| (c, None)).collect(), ..Listed::default() };
    for entry in &model.include {
        match identity.entity_of(entities, &entry.identifier.value) {
            Ok(code) => {
                listed.found.entry(code).or_insert_with(|| Some(included(entry)));
                listed.picked.insert(code);
            }
            Err(reason) => listed.rejected.push(Rejected { list: "include", entry, reason }),
        }
    }
    for entry in &model.exclude {
        match identity.entity_of(entities, &entry.identifier.value) {
            Ok(code) => drop(listed.found.remove(&code)),
            Err(reason) => listed.rejected.push(Rejected { list: "exclude", entry, reason }),
        }
    }
    listed
}

/// Why somebody is a member whom the condition did not find.
fn included(entry: &ListEntry) -> String {
    let on = entry.at.map(|at| format!(" on {}", at.format("%Y-%m-%d"))).unwrap_or_default();
    format!("included by {}{on}: {}", entry.by, entry.reason)
}

/// The table of list rows that name nobody.
pub(super) fn rejected(audience: &str, rows: &[Rejected<'_>]) -> Result<Output> {
    let texts = |of: for<'r> fn(&'r Rejected<'_>) -> &'r str| -> Arc<dyn Array> {
        Arc::new(rows.iter().map(|r| Some(of(r).to_owned())).collect::<StringArray>())
    };
    let at = rows.iter().map(|r| r.entry.at.map(|at| at.timestamp_micros()));
    made(
        &rejected_table(audience),
        rejected_schema(),
        vec![
            texts(|r| r.list),
            texts(|r| &r.entry.identifier.value),
            texts(|r| &r.entry.by),
            texts(|r| &r.entry.reason),
            Arc::new(at.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            texts(|r| &r.reason),
        ],
        WriteMode::Overwrite,
    )
}

/// What an audience's tables are made from.
pub(super) struct Segment<'a> {
    pub bound: &'a BoundAudience,
    pub members: &'a Members,
    pub entities: &'a Entities,
    /// Its segment and its held out as they were committed.
    pub previous: [Vec<RecordBatch>; 2],
    pub as_of: i64,
    pub run: u64,
}

/// A member as a row of the segment.
struct Member<'r> {
    id: EntityId,
    since: i64,
    reason: &'r str,
}

/// A segment beside the one before, each in the order of ids.
struct Compared<'r> {
    now: Vec<Member<'r>>,
    entered: Vec<EntityId>,
    left: Vec<EntityId>,
}

impl Segment<'_> {
    /// The segment, its changes and size compared with the segment before, and those whom it holds out. Completes
    /// the facts.
    pub(super) fn tables(&self, facts: &mut AudienceFacts) -> Result<Vec<Output>> {
        let Self { bound, members, previous: [before, held_before], as_of, run, .. } = self;
        let codes = members.codes.iter().map(|(code, reason)| (*code, reason.as_deref()));
        let Compared { now, entered, left } = self.compared(codes, before);
        (facts.members, facts.entered, facts.left) = (now.len() as u64, entered.len() as u64, left.len() as u64);
        facts.held_out = members.held_out.len() as u64;
        facts.too_small = facts.min_size.is_some_and(|least| facts.members < u64::from(least));
        let mut outputs = vec![
            segment(&bound.name, bound, &now)?,
            changes(bound, *run, *as_of, &entered, &left)?,
            size(bound, *run, *as_of, facts)?,
        ];
        if bound.holdout.is_some() {
            let held = self.compared(members.held_out.iter().map(|code| (*code, None)), held_before);
            outputs.push(segment(&holdout_table(&bound.name), bound, &held.now)?);
        }
        Ok(outputs)
    }

    /// Members with the time since when, and the reason, against the rows that were committed.
    fn compared<'r>(
        &self,
        codes: impl Iterator<Item = (u32, Option<&'r str>)>,
        before: &[RecordBatch],
    ) -> Compared<'r> {
        let member = |(code, reason): (u32, Option<&'r str>)| {
            let reason = reason.unwrap_or(BY_RULE);
            Member { id: self.entities.ids[code as usize], since: self.as_of, reason }
        };
        let mut now: Vec<Member<'r>> = codes.map(member).collect();
        now.sort_unstable_by_key(|member| member.id);
        let (mut entered, mut left) = (Vec::new(), Vec::new());
        let mut before = previous_members(before, &self.bound.identity).into_iter().peekable();
        for member in &mut now {
            while let Some((id, _)) = before.next_if(|(id, _)| *id < member.id) {
                left.push(id);
            }
            match before.next_if(|(id, _)| *id == member.id) {
                Some((_, since)) => member.since = since,
                None => entered.push(member.id),
            }
        }
        left.extend(before.map(|(id, _)| id));
        Compared { now, entered, left }
    }
}

/// Members of a committed segment and since when, in the order of ids.
fn previous_members(previous: &[RecordBatch], identity: &str) -> Vec<(EntityId, i64)> {
    let mut out = Vec::new();
    for batch in previous {
        let (Some(ids), Some(times)) =
            (batch.column_by_name(&format!("{identity}_id")), batch.column_by_name("entered_at"))
        else {
            continue;
        };
        let (ids, times) = (ids.as_string::<i32>(), times.as_primitive::<TimestampMicrosecondType>());
        out.extend((0..batch.num_rows()).filter_map(|row| Some((ids.value(row).parse().ok()?, times.value(row)))));
    }
    out.sort_unstable();
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

fn segment(table: &str, bound: &BoundAudience, now: &[Member<'_>]) -> Result<Output> {
    let (mut ids, mut reasons) = (StringBuilder::new(), StringBuilder::new());
    for member in now {
        append_id(&mut ids, member.id);
        reasons.append_value(member.reason);
    }
    let entered = times(now.iter().map(|member| member.since));
    made(
        table,
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

fn changes(bound: &BoundAudience, run: u64, as_of: i64, entered: &[EntityId], left: &[EntityId]) -> Result<Output> {
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
        append_id(&mut ids, *id);
        words.append_value(word);
    }
    made(
        CHANGES,
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

fn size(bound: &BoundAudience, run: u64, as_of: i64, facts: &AudienceFacts) -> Result<Output> {
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    // what came later is null in rows of older versions
    let added = |name: &str, data_type| Field::new(name, data_type, true);
    let schema = history_fields(vec![
        number("members"),
        number("entered"),
        number("left"),
        added("in_group", DataType::Int64),
        added("held_out", DataType::Int64),
        added("beyond_top", DataType::Int64),
        added("min_size", DataType::Int64),
        added("too_small", DataType::Boolean),
    ]);
    let one = |value: u64| -> Arc<dyn Array> { Arc::new(Int64Array::from(vec![value.cast_signed()])) };
    let mut audience = StringBuilder::new();
    audience.append_value(&bound.name);
    made(
        "audience_sizes",
        schema,
        vec![
            one(run),
            Arc::new(times([as_of])),
            Arc::new(audience.finish()),
            one(facts.members),
            one(facts.entered),
            one(facts.left),
            one(facts.in_group),
            one(facts.held_out),
            one(facts.beyond_top),
            Arc::new(Int64Array::from(vec![facts.min_size.map(i64::from)])),
            Arc::new(BooleanArray::from(vec![facts.too_small])),
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
    let entities =
        all.values().filter_map(|members| members.codes.keys().next_back()).max().map_or(0, |last| *last as usize + 1);
    let flags: Vec<(&String, BooleanBuffer)> =
        all.iter().map(|(name, members)| (name, members.flags(entities).into())).collect();
    for (number, (name, members)) in flags.iter().enumerate() {
        for (other, others) in &flags[number + 1..] {
            left.append_value(name);
            right.append_value(other);
            let both = (members & others).count_set_bits();
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
