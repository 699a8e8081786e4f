//! What flows through one node of a plan: sets of columns, by number.

use crate::graph::{ColumnLineage, ColumnRef, Columns, Lowering, TableLineage, Use, Uses};
use datafusion::common::{Column, DFSchema};
use std::collections::{BTreeMap, BTreeSet};

/// Uses of columns by their number in [`Names`].
pub(super) type Refs = BTreeSet<u32>;

/// Numbers for columns, so that sets of them are small. A column that is lowered has a number of its own.
#[derive(Debug, Default)]
pub(super) struct Names {
    uses: Vec<Use>,
    numbers: BTreeMap<Use, u32>,
}

impl Names {
    /// The number of a column.
    pub(super) fn number(&mut self, table: &str, column: &str) -> u32 {
        self.number_of((ColumnRef::new(table, column), None))
    }

    fn number_of(&mut self, of: Use) -> u32 {
        if let Some(number) = self.numbers.get(&of) {
            return *number;
        }
        let number = self.uses.len() as u32;
        self.uses.push(of.clone());
        self.numbers.insert(of, number);
        number
    }

    /// The same columns, lowered; what is lowered already stays as it is, since nothing lowers twice.
    pub(super) fn lowered(&mut self, refs: &Refs, by: Lowering) -> Refs {
        let uses: Vec<Use> = self.uses(refs).into_iter().map(|(c, before)| (c, Some(before.unwrap_or(by)))).collect();
        uses.into_iter().map(|of| self.number_of(of)).collect()
    }

    /// The same columns, those that stand for the rows of a table lowered.
    pub(super) fn lowered_rows(&mut self, refs: &Refs, by: Lowering) -> Refs {
        self.lowered_where(refs, by, ColumnRef::is_rows)
    }

    /// The same columns, some of them lowered.
    pub(super) fn lowered_where(&mut self, refs: &Refs, by: Lowering, some: impl Fn(&ColumnRef) -> bool) -> Refs {
        let is_one = |r: &u32| self.uses.get(*r as usize).is_some_and(|(column, _)| some(column));
        let (these, mut others): (Refs, Refs) = refs.iter().partition(|r| is_one(r));
        others.extend(self.lowered(&these, by));
        others
    }

    fn uses(&self, refs: &Refs) -> BTreeSet<Use> {
        refs.iter().filter_map(|r| self.uses.get(*r as usize)).cloned().collect()
    }

    fn named(&self, refs: &Refs) -> Columns {
        self.uses(refs).into_iter().map(|(column, _)| column).collect()
    }

    /// The lineage of a table from its columns' names and what flows into them.
    pub(super) fn table(&self, name: &str, columns: &[String], flow: &Flow) -> TableLineage {
        let rows = self.named(&flow.frame);
        let column = |(name, sets): (&String, &Sets)| ColumnLineage {
            name: name.clone(),
            values: self.named(&sets.values),
            rows: self.named(&sets.rows).union(&rows).cloned().collect(),
            uses: Uses {
                values: self.uses(&sets.values),
                rows: self.uses(&sets.rows.difference(&flow.frame).copied().collect()),
            },
        };
        let columns = columns.iter().zip(&flow.columns).map(column).collect();
        TableLineage { name: name.to_owned(), columns, rows, uses: self.uses(&flow.frame) }
    }
}

/// What one output column or expression depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sets {
    /// What its values come from.
    pub values: Refs,
    /// What decides which values there are, beyond the frame of its relation.
    pub rows: Refs,
}

impl Sets {
    /// Values of these columns.
    pub(super) fn of_values(values: Refs) -> Self {
        Self { values, rows: Refs::new() }
    }

    /// Rows decided by these columns.
    pub(super) fn of_rows(rows: Refs) -> Self {
        Self { values: Refs::new(), rows }
    }

    /// Both sets.
    pub(super) fn all(&self) -> Refs {
        self.values.union(&self.rows).copied().collect()
    }

    /// Adds another, values to values.
    pub(super) fn take(&mut self, other: &Self) {
        self.values.extend(&other.values);
        self.rows.extend(&other.rows);
    }

    /// Adds another as something that only decides.
    pub(super) fn take_as_rows(&mut self, other: &Self) {
        self.rows.extend(&other.values);
        self.rows.extend(&other.rows);
    }

    /// With more rows.
    pub(super) fn with_rows(mut self, rows: &Refs) -> Self {
        self.rows.extend(rows);
        self
    }
}

/// What a relation depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// By output column.
    pub columns: Vec<Sets>,
    /// What decides which rows there are and how often; it decides every column.
    pub frame: Refs,
    /// What may decide the order of the rows; counts only where something is picked by it.
    pub order: Refs,
}

impl Flow {
    /// A relation whose every column depends on all of `refs`.
    pub(super) fn of_everything(refs: Refs, columns: usize) -> Self {
        let all = Sets { values: refs.clone(), rows: refs.clone() };
        Self { columns: vec![all; columns], frame: refs.clone(), order: refs }
    }

    /// All that the relation depends on.
    pub(super) fn everything(&self) -> Refs {
        let mut all = self.of_columns();
        all.extend(&self.frame);
        all.extend(&self.order);
        all
    }

    /// All that its columns depend on, beyond the frame.
    pub(super) fn of_columns(&self) -> Refs {
        self.columns.iter().flat_map(|c| c.values.iter().chain(&c.rows)).copied().collect()
    }

    /// Adds the rows of another relation with the same columns.
    pub(super) fn unite(&mut self, other: &Self) {
        for (column, more) in self.columns.iter_mut().zip(&other.columns) {
            column.take(more);
        }
        self.frame.extend(&other.frame);
        self.order.extend(&other.order);
    }
}

/// Where the columns of an expression are looked up: its input, and the queries around it.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub schema: &'a DFSchema,
    pub flow: &'a Flow,
    pub outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    /// The scope of expressions over `flow`.
    pub(super) fn new(schema: &'a DFSchema, flow: &'a Flow, outer: Option<&'a Scope<'a>>) -> Self {
        Self { schema, flow, outer }
    }

    /// A column of the input; one that is not found may be any of it, or of what is around it.
    pub(super) fn column(&self, column: &Column) -> Sets {
        let found = self.schema.maybe_index_of_column(column).and_then(|i| self.flow.columns.get(i));
        found.cloned().unwrap_or_else(|| Sets::of_values(self.everything()))
    }

    /// A column of a query around this one. The name may be known to several: it is any of them.
    pub(super) fn outer_column(&self, column: &Column) -> Sets {
        let mut found: Option<Sets> = None;
        let mut around = self.outer;
        while let Some(scope) = around {
            if scope.schema.maybe_index_of_column(column).is_some() {
                found.get_or_insert_default().take(&scope.column(column));
            }
            around = scope.outer;
        }
        found.unwrap_or_else(|| Sets::of_values(self.everything()))
    }

    /// All that the input and the queries around it depend on.
    pub(super) fn everything(&self) -> Refs {
        let mut all = self.flow.everything();
        if let Some(outer) = self.outer {
            all.extend(outer.everything());
        }
        all
    }
}
