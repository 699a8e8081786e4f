//! Labels of every column of a project.
//!
//! Computed from the lineage graph by repetition until nothing changes: labels only grow, and there are few, so it ends.

use super::label::{Label, REGION, UNLABELLED, covers, derived, lowered};
use crate::diagnostic::Span;
use crate::graph::{ColumnRef, LineageGraph, TableLineage, Use};
use crate::model::{Declassify, Project, Source};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Labels in a stable order.
pub type Labels = BTreeSet<Label>;

/// A column on the way of a label, with the label as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The column.
    pub column: ColumnRef,
    /// The label there.
    pub label: Label,
}

/// Labels by column; the column `*` is the fact that a row is there.
#[derive(Debug)]
pub struct LabelMap<'a> {
    graph: &'a LineageGraph,
    project: &'a Project,
    labels: BTreeMap<ColumnRef, Labels>,
}

impl<'a> LabelMap<'a> {
    /// Labels of all tables of a graph.
    pub fn new(project: &'a Project, graph: &'a LineageGraph) -> Self {
        let mut map = Self { graph, project, labels: BTreeMap::new() };
        let (sources, models): (Vec<_>, Vec<_>) = graph.tables().values().partition(|t| graph.is_source(&t.name));
        for table in sources {
            map.source(table);
        }
        while models.iter().map(|table| map.model(table)).filter(|changed| *changed).count() > 0 {}
        map
    }

    /// Labels of a column by itself, without those of its table's rows.
    pub fn of(&self, column: &ColumnRef) -> Labels {
        self.labels.get(column).cloned().unwrap_or_default()
    }

    /// Whether there is such a column.
    pub fn has(&self, column: &ColumnRef) -> bool {
        self.labels.contains_key(column)
    }

    /// The place where a label of a column is said, if it is said there and not taken from elsewhere.
    pub fn said(&self, column: &ColumnRef, label: &str) -> Option<Span> {
        let of =
            |labels: &[crate::diagnostic::Spanned<String>]| labels.iter().find(|l| l.value == label).map(|l| l.span);
        if let Some((source, table)) = self.project.source_table(&column.table) {
            if region(source).is_some_and(|region| region == label) {
                return source.regions.first().map(|first| first.span);
            }
            if column.is_rows() {
                return of(&table.labels);
            }
            let declared = table.columns.iter().find(|c| c.name.value == column.column);
            let place = declared.map_or(table.name.span, |c| c.name.span);
            return match declared.and_then(|c| c.labels.as_ref()) {
                Some(labels) => of(labels),
                None => (label == UNLABELLED).then_some(place),
            };
        }
        let privacy = &self.project.models.get(&column.table)?.privacy;
        if column.is_rows() { of(&privacy.labels) } else { of(privacy.columns.get(&column.column)?) }
    }

    /// Labels that the author gave a column of a source.
    fn declared(&self, table: &str, column: &str) -> Labels {
        let Some((source, found)) = self.project.source_table(table) else { return Labels::new() };
        let declared = found.columns.iter().find(|c| c.name.value == column);
        let mut labels: Labels = match declared.and_then(|c| c.labels.as_ref()) {
            Some(labels) => labels.iter().map(|l| l.value.clone()).collect(),
            None if source.labels_required => Labels::from([UNLABELLED.to_owned()]),
            None => Labels::new(),
        };
        labels.extend(region(source));
        labels
    }

    fn source(&mut self, table: &TableLineage) {
        for column in &table.columns {
            let labels = self.declared(&table.name, &column.name);
            self.labels.insert(ColumnRef::new(&table.name, &column.name), labels);
        }
        let said = self.project.source_table(&table.name).map(|(_, t)| t.labels.as_slice()).unwrap_or_default();
        let mut rows: Labels = said.iter().map(|l| l.value.clone()).collect();
        rows.extend(self.project.source_table(&table.name).and_then(|(source, _)| region(source)));
        for (column, by) in table.uses.iter().filter(|(column, _)| !column.is_rows()) {
            let labels = self.declared(&table.name, &column.column);
            rows.extend(labels.iter().filter_map(|label| decided(label, *by)));
        }
        self.labels.insert(ColumnRef::rows_of(&table.name), rows);
    }

    /// Takes the labels of one table from those above it; whether they changed.
    fn model(&mut self, table: &TableLineage) -> bool {
        let mut changed = false;
        let mut set = |map: &mut Self, column: ColumnRef, mut labels: Labels| {
            labels.extend(map.given(&column));
            labels.retain(|label| map.declassified(&column, label).is_none());
            changed |= map.labels.get(&column) != Some(&labels);
            map.labels.insert(column, labels);
        };
        for column in &table.columns {
            let mut labels = self.taken(&column.uses.values, lowered_or_same);
            labels.extend(self.taken(&column.uses.rows, decided));
            set(self, ColumnRef::new(&table.name, &column.name), labels);
        }
        let rows = self.taken(&table.uses, decided);
        set(self, ColumnRef::rows_of(&table.name), rows);
        changed
    }

    fn taken(&self, uses: &BTreeSet<Use>, through: Through) -> Labels {
        let labels =
            uses.iter().flat_map(|(column, by)| self.labels.get(column).into_iter().flatten().map(|l| (l, *by)));
        labels.filter_map(|(label, by)| through(label, by)).collect()
    }

    /// Labels that a model gives a column itself.
    fn given(&self, column: &ColumnRef) -> Labels {
        let Some(model) = self.project.models.get(&column.table) else { return Labels::new() };
        let labels = match model.privacy.columns.get(&column.column) {
            _ if column.is_rows() => model.privacy.labels.as_slice(),
            Some(labels) => labels,
            None => &[],
        };
        labels.iter().map(|l| l.value.clone()).collect()
    }

    /// The decision that takes a label off a column.
    pub fn declassified(&self, column: &ColumnRef, label: &str) -> Option<&'a Declassify> {
        let model = self.project.models.get(&column.table)?;
        model.privacy.declassify.iter().find(|d| {
            d.columns.iter().any(|c| c.value == column.column) && d.labels.iter().any(|l| covers(&l.value, label))
        })
    }

    /// The shortest way on which a label came to a column, from where it was said; the column itself is the last step.
    pub fn way(&self, end: &ColumnRef, label: &str) -> Vec<Step> {
        let last = Step { column: end.clone(), label: label.to_owned() };
        let mut came: BTreeMap<(ColumnRef, Label), Step> = BTreeMap::new();
        let mut open = VecDeque::from([last.clone()]);
        while let Some(at) = open.pop_front() {
            if self.said(&at.column, &at.label).is_some() {
                return unrolled(at, &last, &came);
            }
            for before in self.before(&at) {
                let key = (before.column.clone(), before.label.clone());
                if before != last && !came.contains_key(&key) {
                    came.insert(key, at.clone());
                    open.push_back(before);
                }
            }
        }
        vec![last]
    }

    /// What a label of a column was taken from, one step up.
    fn before(&self, at: &Step) -> Vec<Step> {
        let Some(table) = self.graph.tables().get(&at.column.table) else { return Vec::new() };
        let empty = BTreeSet::new();
        let column = table.column(&at.column.column);
        let (values, rows) = match column {
            Some(column) => (&column.uses.values, &column.uses.rows),
            None => (&empty, &table.uses),
        };
        let values = values.iter().map(|of| (of, lowered_or_same as Through));
        let all = values.chain(rows.iter().map(|of| (of, decided as Through)));
        all.flat_map(|((column, by), through)| {
            let labels = self.labels.get(column).into_iter().flatten();
            let same = labels.filter(move |label| through(label, *by).as_ref() == Some(&at.label));
            same.map(|label| Step { column: column.clone(), label: label.clone() })
        })
        .collect()
    }
}

/// The label of data that stay in the regions of their source.
fn region(source: &Source) -> Option<Label> {
    let all: BTreeSet<&str> = source.regions.iter().map(|region| region.value.as_str()).collect();
    let all: Vec<&str> = all.into_iter().collect();
    (!all.is_empty()).then(|| format!("{REGION}.{}", all.join("+")))
}

/// What becomes of a label on one step.
type Through = fn(&str, Option<crate::graph::Lowering>) -> Option<Label>;

fn lowered_or_same(label: &str, by: Option<crate::graph::Lowering>) -> Option<Label> {
    by.map_or_else(|| Some(label.to_owned()), |by| lowered(label, by))
}

fn decided(label: &str, by: Option<crate::graph::Lowering>) -> Option<Label> {
    derived(&lowered_or_same(label, by)?)
}

fn unrolled(start: Step, last: &Step, came: &BTreeMap<(ColumnRef, Label), Step>) -> Vec<Step> {
    let mut way = vec![start];
    while let Some(at) = way.last().filter(|at| *at != last)
        && let Some(next) = came.get(&(at.column.clone(), at.label.clone()))
    {
        way.push(next.clone());
    }
    way
}
