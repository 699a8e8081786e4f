//! What a run tells about an identity as a whole: its figures, as facts for the summary and as the rows of its report,
//! and the entities that are suspect.

use super::identity::{BoundIdentity, StitchedRun};
use super::identity_tables::{append_id, append_time, batch, number, text, time, times};
use crate::identity::Change;
use datafusion::arrow::array::{Float64Builder, Int64Builder, RecordBatch, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::error::Result;
use serde::Serialize;
use std::sync::Arc;

/// Sizes of entities that are counted together: what they are called, and the largest of them.
const SIZES: [(&str, u32); 8] = [
    ("1", 1),
    ("2", 2),
    ("3-5", 5),
    ("6-10", 10),
    ("11-20", 20),
    ("21-50", 50),
    ("51-100", 100),
    ("over 100", u32::MAX),
];

/// Figures of an identity after a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IdentityFacts {
    /// Rows of the link tables.
    pub rows_read: u64,
    /// Distinct identifiers, hubs included.
    pub identifiers: u64,
    /// Entities.
    pub entities: u64,
    /// Distinct pairs of identifiers seen in one row.
    pub links: u64,
    /// Links and always rules that guards and rules refused.
    pub refused: u64,
    /// Identifiers with more neighbours than they may have.
    pub hubs: u64,
    /// Identifiers of the largest entity.
    pub largest: u64,
    /// Entities whose id is new.
    pub created: u64,
    /// Ids that were lost to another.
    pub merged: u64,
    /// Ids that were split off another.
    pub split: u64,
    /// Entities without a strong identifier.
    pub anonymous: u64,
    /// Entities that hang on a single weak link.
    pub suspects: u64,
    /// Entities by size, smallest first.
    pub sizes: Vec<SizeCount>,
    /// Rows by link table.
    pub sources: Vec<SourceRows>,
}

/// How many entities have about so many identifiers.
#[derive(Debug, Clone, Serialize)]
pub struct SizeCount {
    /// The number of identifiers: `1`, `3-5`, `over 100`.
    pub size: &'static str,
    /// Entities of that size.
    pub entities: u64,
}

/// The rows of a link table.
#[derive(Debug, Clone, Serialize)]
pub struct SourceRows {
    /// The table.
    pub table: String,
    /// Rows that were read.
    pub rows: u64,
    /// Those of them that belong to an entity.
    pub resolved: u64,
}

impl IdentityFacts {
    pub(super) fn of(run: &StitchedRun) -> Self {
        let count = |wanted: fn(&Change) -> bool| run.assigned.changes.iter().filter(|c| wanted(c)).count() as u64;
        Self {
            rows_read: run.found.sources.iter().map(|s| s.rows).sum(),
            identifiers: run.entities.nodes.len() as u64,
            entities: run.entities.len() as u64,
            links: run.links.len() as u64,
            refused: run.stitched.refused.len() as u64,
            hubs: run.stitched.hubs.len() as u64,
            largest: run.found.holdings.sizes.iter().max().copied().unwrap_or(0).into(),
            created: run.assigned.created.len() as u64,
            merged: count(|c| matches!(c, Change::Merged { .. })),
            split: count(|c| matches!(c, Change::Split { .. })),
            anonymous: run.found.holdings.anonymous() as u64,
            suspects: run.found.suspects.count as u64,
            sizes: sizes(&run.found.holdings.sizes),
            sources: run.found.sources.clone(),
        }
    }

    /// The rows of the report.
    fn measures(&self) -> Vec<Measure<'_>> {
        let count = |name, value| Measure { name, subject: None, value, whole: None };
        let of_entities = |name, value| Measure { name, subject: None, value, whole: Some(self.entities) };
        let mut measures = vec![
            count("identifiers", self.identifiers),
            count("entities", self.entities),
            count("largest", self.largest),
            of_entities("anonymous", self.anonymous),
            of_entities("suspects", self.suspects),
            count("links", self.links),
            count("refused", self.refused),
            count("hubs", self.hubs),
            count("created", self.created),
            count("merged", self.merged),
            count("split", self.split),
        ];
        measures.extend(self.sizes.iter().map(|s| Measure {
            name: "size",
            subject: Some(s.size),
            value: s.entities,
            whole: Some(self.entities),
        }));
        for source in &self.sources {
            let of_table = |name, value, whole| Measure { name, subject: Some(&source.table), value, whole };
            measures.push(of_table("rows", source.rows, None));
            measures.push(of_table("rows resolved", source.resolved, Some(source.rows)));
        }
        measures
    }

    /// The report of one run.
    pub(super) fn batch(&self, (run, as_of): (u64, i64), schema: &SchemaRef) -> Result<RecordBatch> {
        let (mut runs, mut at) = (Int64Builder::new(), times());
        let (mut names, mut subjects) = (StringBuilder::new(), StringBuilder::new());
        let (mut values, mut shares) = (Int64Builder::new(), Float64Builder::new());
        for Measure { name, subject, value, whole } in self.measures() {
            runs.append_value(run.cast_signed());
            at.append_value(as_of);
            names.append_value(name);
            subjects.append_option(subject);
            values.append_value(value.cast_signed());
            shares.append_option(whole.filter(|whole| *whole > 0).map(|whole| value as f64 / whole as f64));
        }
        batch(
            schema,
            vec![
                Arc::new(runs.finish()),
                Arc::new(at.finish()),
                Arc::new(names.finish()),
                Arc::new(subjects.finish()),
                Arc::new(values.finish()),
                Arc::new(shares.finish()),
            ],
        )
    }
}

/// A row of the report.
struct Measure<'a> {
    name: &'static str,
    subject: Option<&'a str>,
    value: u64,
    /// What the value is a share of.
    whole: Option<u64>,
}

fn sizes(of_entities: &[u32]) -> Vec<SizeCount> {
    let mut sizes: Vec<SizeCount> = SIZES.iter().map(|(size, _)| SizeCount { size, entities: 0 }).collect();
    for size in of_entities {
        sizes[SIZES.partition_point(|(_, largest)| largest < size)].entities += 1;
    }
    sizes
}

pub(super) fn report_fields() -> Vec<Field> {
    vec![
        number("run", false),
        time("as_of"),
        text("measure", false),
        text("subject", true),
        number("value", false),
        Field::new("share", DataType::Float64, true),
    ]
}

pub(super) fn suspect_fields(id: &str) -> Vec<Field> {
    vec![
        text(id, false),
        text("left_type", false),
        text("left_identifier", false),
        text("right_type", false),
        text("right_identifier", false),
        number("left_size", false),
        number("right_size", false),
        text("table_name", true),
        text("row_id", true),
        time("first_seen"),
        text("reason", false),
    ]
}

/// The most suspect entities with the link that each hangs on.
pub(super) fn suspects(bound: &BoundIdentity, run: &StitchedRun, schema: &SchemaRef) -> Result<RecordBatch> {
    let nodes = &run.entities.nodes;
    let types = bound.type_names();
    let (mut ids, mut tables, mut rows) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut ends: [StringBuilder; 4] = std::array::from_fn(|_| StringBuilder::new());
    let mut counts = [Int64Builder::new(), Int64Builder::new()];
    let (mut first, mut reasons) = (times(), StringBuilder::new());
    for suspect in &run.found.suspects.worst {
        append_id(&mut ids, run.entities.ids[suspect.entity as usize]);
        for (place, side) in [suspect.left, suspect.right].into_iter().enumerate() {
            ends[place * 2].append_value(types[usize::from(nodes.type_of(side.node))]);
            ends[place * 2 + 1].append_value(nodes.text(side.node));
            counts[place].append_value(side.size.into());
        }
        let link = suspect.link as usize;
        for proof in run.proofs.of(link..link + 1)? {
            tables.append_value(&run.found.tables[usize::from(proof.table)]);
            rows.append_option(proof.row);
        }
        append_time(&mut first, run.links[link].first_seen);
        reasons.append_value(format!(
            "one link over {} joins {} and {} strong identifiers",
            types[usize::from(nodes.type_of(suspect.right.node))],
            suspect.left.strong,
            suspect.right.strong
        ));
    }
    let [mut left_types, mut lefts, mut right_types, mut rights] = ends;
    let [mut left_sizes, mut right_sizes] = counts;
    batch(
        schema,
        vec![
            Arc::new(ids.finish()),
            Arc::new(left_types.finish()),
            Arc::new(lefts.finish()),
            Arc::new(right_types.finish()),
            Arc::new(rights.finish()),
            Arc::new(left_sizes.finish()),
            Arc::new(right_sizes.finish()),
            Arc::new(tables.finish()),
            Arc::new(rows.finish()),
            Arc::new(first.finish()),
            Arc::new(reasons.finish()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_up_to_the_largest_of_each_class() {
        let counted: Vec<u64> = sizes(&[1, 1, 2, 3, 5, 6, 10, 11, 100, 101, 5000]).iter().map(|s| s.entities).collect();
        assert_eq!(counted, [2, 1, 2, 2, 1, 0, 1, 2]);
    }
}
