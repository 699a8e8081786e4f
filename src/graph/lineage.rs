//! Column lineage: what a column takes its values from, and what decides its rows. Pure.
//!
//! A [`ColumnLineage`] holds two sets of columns of the tables that its model reads directly:
//! - `values`: columns that its values are copied or computed from (also conditions of CASE, arguments);
//! - `rows`: columns that influence which rows there are, how often, or which of several values is picked:
//!   filters, join keys, grouping keys, DISTINCT, orders that matter, partitions.
//!
//! The promise is soundness: a column that is in neither set of an output never changes that output. So sets
//! may be too large, never too small. `table.*` stands for the rows themselves: whether a row is there at all,
//! and, of a source table with `version` or `dedupe`, which of several rows with equal keys and times was kept.
//! `rows` of a column holds everything that `rows` of its table holds.
//!
//! [`LineageGraph`] joins the direct lineages: up to source columns, down to the columns of all later tables.
//! A source table has a lineage too, over the columns of its files, because the selection, `version` and
//! `dedupe` decide its rows; files and table share their column names. What people keep in lists and rules,
//! the state of earlier runs and `as_of` are no columns and have no lineage.
//!
//! [`Uses`] say the same as the two sets, and beside each column whether it is taken as it is or through a function
//! that lowers its label: what `privacy` follows labels by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A column of a table; the column `*` is whether a row is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnRef {
    /// Name of the table, as models write it.
    pub table: String,
    /// Name of the column, or `*`.
    pub column: String,
}

impl ColumnRef {
    /// The column that stands for the rows of a table.
    pub const ROWS: &str = "*";

    /// A column.
    pub fn new(table: impl Into<String>, column: impl Into<String>) -> Self {
        Self { table: table.into(), column: column.into() }
    }

    /// The rows of a table.
    pub fn rows_of(table: impl Into<String>) -> Self {
        Self::new(table, Self::ROWS)
    }

    /// Whether it stands for the rows of its table.
    pub fn is_rows(&self) -> bool {
        self.column == Self::ROWS
    }
}

impl fmt::Display for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// Columns in a stable order.
pub type Columns = BTreeSet<ColumnRef>;

/// What may be done to a column so that less is told of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lowering {
    /// Only who a row belongs to, or which of a person's rows is meant, is taken from it.
    Entity,
    /// A hash with a secret key.
    KeyedHash,
    /// The year of a time.
    Year,
    /// Three digits of a postal code.
    Zip3,
    /// An age in bands of ten years.
    AgeBand,
    /// Nothing but whether there is a value.
    Redacted,
    /// How many people there are, of which small numbers are not published.
    Counted,
    /// The name of a group of people, of which small ones are not published: it tells nothing of what led to one of them.
    Grouped,
}

/// A column as it is used: as it is, or lowered.
pub type Use = (ColumnRef, Option<Lowering>);

/// Uses of columns, with the two meanings of [`ColumnLineage`]; `rows` are those of the column itself, beyond those of
/// its table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// What values come from.
    pub values: BTreeSet<Use>,
    /// What decides them.
    pub rows: BTreeSet<Use>,
}

/// Direct lineage of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnLineage {
    /// Its name.
    pub name: String,
    /// What its values come from.
    pub values: Columns,
    /// What decides which values there are, how often and in what order one is picked.
    pub rows: Columns,
    /// How these are used.
    pub uses: Uses,
}

/// Direct lineage of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLineage {
    /// Its name.
    pub name: String,
    /// What decides which rows it has.
    pub rows: Columns,
    /// How these are used.
    pub uses: BTreeSet<Use>,
    /// Its columns, in their order.
    pub columns: Vec<ColumnLineage>,
}

impl TableLineage {
    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&ColumnLineage> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// Direct lineage of a model's tables, the main one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLineage {
    /// Name of the model.
    pub model: String,
    /// Its tables.
    pub tables: Vec<TableLineage>,
}

/// Two sets of columns: by value, and by rows only or also by rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Values come from here, or go there.
    pub values: Columns,
    /// Rows are decided here, or there.
    pub rows: Columns,
}

impl Trace {
    /// Adds another trace.
    pub fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
        self.rows.extend(other.rows);
    }
}

/// How one column influences another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Influence {
    Values,
    Rows,
}

/// Lineage of a whole project.
#[derive(Debug, Clone, Default)]
pub struct LineageGraph {
    tables: BTreeMap<String, TableLineage>,
    sources: BTreeSet<String>,
}

impl LineageGraph {
    /// A graph of source tables and models.
    pub fn new(
        sources: impl IntoIterator<Item = TableLineage>,
        models: impl IntoIterator<Item = ModelLineage>,
    ) -> Self {
        let sources: Vec<TableLineage> = sources.into_iter().collect();
        let names = sources.iter().map(|s| s.name.clone()).collect();
        let made = models.into_iter().flat_map(|m| m.tables);
        let tables = sources.into_iter().chain(made).map(|t| (t.name.clone(), t)).collect();
        Self { tables, sources: names }
    }

    /// Tables by name.
    pub fn tables(&self) -> &BTreeMap<String, TableLineage> {
        &self.tables
    }

    /// Whether a table is a source table.
    pub fn is_source(&self, table: &str) -> bool {
        self.sources.contains(table)
    }

    /// The table and, if one is named, the column behind `NAME` or `NAME.column`.
    pub fn find(&self, name: &str) -> Option<(&TableLineage, Option<&str>)> {
        if let Some(table) = self.tables.get(name) {
            return Some((table, None));
        }
        let dots = name.match_indices('.').map(|(at, _)| at);
        dots.rev().find_map(|at| {
            let table = self.tables.get(&name[..at])?;
            let column = table.columns.iter().find(|c| c.name == name[at + 1..])?;
            Some((table, Some(column.name.as_str())))
        })
    }

    /// What a column comes from, one step up.
    pub fn above(&self, column: &ColumnRef) -> Trace {
        let Some(table) = self.tables.get(&column.table) else { return Trace::default() };
        if column.is_rows() {
            return Trace { values: Columns::new(), rows: table.rows.clone() };
        }
        let found = table.column(&column.column);
        found.map_or_else(Trace::default, |c| Trace { values: c.values.clone(), rows: c.rows.clone() })
    }

    /// Source columns that a column comes from, through all models between.
    pub fn up(&self, start: &ColumnRef) -> Trace {
        let mut seen: BTreeSet<(Influence, ColumnRef)> = BTreeSet::new();
        let mut open: Vec<(Influence, ColumnRef)> = Vec::new();
        let mut found = Trace::default();
        let direct = self.above(start);
        if self.is_source(&start.table) {
            return direct;
        }
        open.extend(steps(direct, Influence::Values));
        while let Some((influence, column)) = open.pop() {
            if !seen.insert((influence, column.clone())) {
                continue;
            }
            let above = self.above(&column);
            if self.is_source(&column.table) {
                // its own lineage is over the files, which have none: stop here
                found.extend(under(above, influence));
                found.extend(under(Trace { values: Columns::from([column]), rows: Columns::new() }, influence));
            } else {
                open.extend(steps(above, influence));
            }
        }
        found
    }

    /// Columns of other tables that a column reaches: `direct` only in one step.
    pub fn down(&self, start: &ColumnRef, direct: bool) -> Trace {
        self.down_from(std::iter::once(start.clone()), direct)
    }

    /// Columns of other tables that a whole table reaches: its columns, and its rows.
    pub fn down_of_table(&self, table: &TableLineage, direct: bool) -> Trace {
        let columns = table.columns.iter().map(|c| ColumnRef::new(&table.name, &c.name));
        self.down_from(columns.chain(std::iter::once(ColumnRef::rows_of(&table.name))), direct)
    }

    fn down_from(&self, starts: impl Iterator<Item = ColumnRef>, direct: bool) -> Trace {
        let readers = self.readers();
        let mut seen: BTreeSet<(Influence, ColumnRef)> = BTreeSet::new();
        let mut open: Vec<(Influence, ColumnRef)> = Vec::new();
        let mut found = Trace::default();
        for start in starts {
            // a column of the files reaches other columns of its source table through selection and deduplication
            if let Some(table) = self.tables.get(&start.table).filter(|t| self.sources.contains(&t.name)) {
                let decided = table.columns.iter().filter(|c| c.rows.contains(&start));
                open.extend(decided.map(|c| (Influence::Rows, ColumnRef::new(&table.name, &c.name))));
                if table.rows.contains(&start) {
                    open.push((Influence::Rows, ColumnRef::rows_of(&table.name)));
                }
            }
            let influence = if start.is_rows() { Influence::Rows } else { Influence::Values };
            open.push((influence, start));
        }
        while let Some((influence, column)) = open.pop() {
            if !seen.insert((influence, column.clone())) {
                continue;
            }
            for (edge, reader) in readers.get(&column).into_iter().flatten() {
                let influence = influence.max(*edge);
                match influence {
                    Influence::Values => found.values.insert(reader.clone()),
                    Influence::Rows => found.rows.insert(reader.clone()),
                };
                if !direct {
                    open.push((influence, reader.clone()));
                }
            }
        }
        found
    }

    /// Columns of models by the columns that they take from directly.
    fn readers(&self) -> BTreeMap<&ColumnRef, Vec<(Influence, ColumnRef)>> {
        let mut readers: BTreeMap<&ColumnRef, Vec<(Influence, ColumnRef)>> = BTreeMap::new();
        for table in self.tables.values().filter(|t| !self.sources.contains(&t.name)) {
            for from in &table.rows {
                readers.entry(from).or_default().push((Influence::Rows, ColumnRef::rows_of(&table.name)));
            }
            for column in &table.columns {
                let reader = ColumnRef::new(&table.name, &column.name);
                for from in &column.values {
                    readers.entry(from).or_default().push((Influence::Values, reader.clone()));
                }
                for from in &column.rows {
                    readers.entry(from).or_default().push((Influence::Rows, reader.clone()));
                }
            }
        }
        readers
    }
}

/// What is behind a column that is itself reached by `influence`.
fn under(trace: Trace, influence: Influence) -> Trace {
    match influence {
        Influence::Values => trace,
        Influence::Rows => {
            let Trace { values, mut rows } = trace;
            rows.extend(values);
            Trace { values: Columns::new(), rows }
        }
    }
}

fn steps(trace: Trace, influence: Influence) -> impl Iterator<Item = (Influence, ColumnRef)> {
    let trace = under(trace, influence);
    let values = trace.values.into_iter().map(|c| (Influence::Values, c));
    values.chain(trace.rows.into_iter().map(|c| (Influence::Rows, c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str]) -> Columns {
        names.iter().filter_map(|n| n.rsplit_once('.')).map(|(t, c)| ColumnRef::new(t, c)).collect()
    }

    fn table(name: &str, rows: &[&str], of: &[(&str, &[&str], &[&str])]) -> TableLineage {
        let rows = columns(rows);
        let column = |(name, values, own): &(&str, &[&str], &[&str])| ColumnLineage {
            name: (*name).to_owned(),
            values: columns(values),
            rows: columns(own).into_iter().chain(rows.iter().cloned()).collect(),
            uses: Uses::default(),
        };
        let columns = of.iter().map(column).collect();
        TableLineage { name: name.to_owned(), columns, rows, uses: BTreeSet::new() }
    }

    /// `web.t` reads its files where `bot` is false; `m` copies and filters; `n` counts over `m` by `who`.
    fn graph() -> LineageGraph {
        let source = table(
            "web.t",
            &["web.t.bot", "web.t.*"],
            &[("id", &["web.t.id"], &[]), ("at", &["web.t.at"], &[]), ("who", &["web.t.who"], &[])],
        );
        let m = table("m", &["web.t.at", "web.t.*"], &[("id", &["web.t.id"], &[]), ("who", &["web.t.who"], &[])]);
        let n = table("n", &["m.who", "m.*"], &[("who", &["m.who"], &[]), ("top", &[], &["m.id"])]);
        let model = |t: TableLineage| ModelLineage { model: t.name.clone(), tables: vec![t] };
        LineageGraph::new([source], [model(m), model(n)])
    }

    #[test]
    fn up_ends_at_source_columns_and_keeps_the_two_sets_apart() {
        let who = graph().up(&ColumnRef::new("n", "who"));
        assert_eq!(who.values, columns(&["web.t.who"]));
        // grouping by `who` makes it an influence on rows too; `bot` decides what the source table has
        assert_eq!(who.rows, columns(&["web.t.*", "web.t.at", "web.t.bot", "web.t.who"]));
        let top = graph().up(&ColumnRef::new("n", "top"));
        assert_eq!(top.values, columns(&[]));
        assert_eq!(top.rows, columns(&["web.t.*", "web.t.at", "web.t.bot", "web.t.id", "web.t.who"]));
    }

    #[test]
    fn up_of_a_source_column_names_what_its_table_leaves_out() {
        let id = graph().up(&ColumnRef::new("web.t", "id"));
        assert_eq!(id, Trace { values: columns(&["web.t.id"]), rows: columns(&["web.t.*", "web.t.bot"]) });
    }

    #[test]
    fn down_is_the_converse_of_up() {
        let graph = graph();
        let sources = ["id", "at", "who", "bot"].map(|c| ColumnRef::new("web.t", c));
        for source in &sources {
            let down = graph.down(source, false);
            for table in ["m", "n"].map(|t| &graph.tables()[t]) {
                for column in &table.columns {
                    let reached = ColumnRef::new(&table.name, &column.name);
                    let up = graph.up(&reached);
                    assert_eq!(down.values.contains(&reached), up.values.contains(source), "{source} {reached}");
                    assert_eq!(down.rows.contains(&reached), up.rows.contains(source), "{source} {reached}");
                }
            }
        }
    }

    #[test]
    fn one_step_down_stops_at_the_next_table() {
        let down = graph().down(&ColumnRef::new("web.t", "who"), true);
        assert_eq!(down, Trace { values: columns(&["m.who"]), rows: columns(&[]) });
        let of_table = graph().down_of_table(&graph().tables()["m"], true);
        assert_eq!(of_table.values, columns(&["n.who"]));
        assert_eq!(of_table.rows, columns(&["n.*", "n.top", "n.who"]));
    }

    #[test]
    fn names_are_tables_or_columns_of_tables() {
        let graph = graph();
        let found = |name: &str| graph.find(name).map(|(t, c)| (t.name.clone(), c.map(str::to_owned)));
        assert_eq!(found("web.t"), Some(("web.t".into(), None)));
        assert_eq!(found("web.t.id"), Some(("web.t".into(), Some("id".into()))));
        assert_eq!(found("n.top"), Some(("n".into(), Some("top".into()))));
        assert_eq!(found("n.nothing"), None);
    }
}
