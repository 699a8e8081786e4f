//! Expected rows beside actual rows: which belong together, and what differs. Pure.
//!
//! Rows are matched so that as many as possible fit, over all tables of a test at once, because a name such as
//! `@ann` stands for one id in all of them, and two names for two ids. The search is bounded; beyond the bound
//! the best match so far counts. A row without a match is shown beside a left-over row that agrees with it in
//! more than half of the columns, if there is one.

use crate::engine::{Actual, ExpectedCell, ExpectedRow};
use std::collections::BTreeMap;

/// Steps of the search for a match of all rows.
const STEPS: usize = 10_000;

/// A table's expected and actual rows.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    pub table: String,
    pub expected: Vec<ExpectedRow>,
    pub actual: Actual,
    /// Whether the order counts.
    pub ordered: bool,
    /// Whether there may be no others.
    pub exactly: bool,
}

/// How the rows of a table differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDifference {
    /// The table.
    pub table: String,
    /// The compared columns.
    pub columns: Vec<String>,
    /// Rows that were expected, and rows that are there.
    pub rows: (usize, usize),
    /// What differs; empty when only the rows' order does.
    pub differences: Vec<Difference>,
}

/// One row that is not as expected; values by column, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Expected and not there.
    Missing(Vec<String>),
    /// There and not expected.
    Unexpected(Vec<String>),
    /// There with other values: expected and actual.
    Changed(Vec<String>, Vec<String>),
}

/// Compares all tables of a test. `names` says what people call ids; those with `@` stand for that id only.
pub(super) fn compare(tables: &[Compared], names: &BTreeMap<String, String>) -> Vec<TableDifference> {
    let mut search = Search::new(tables, names);
    search.step(0, 0);
    let Search { best, best_labels, order, .. } = search;
    let mut labels: BTreeMap<&str, &str> = names.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
    labels.extend(best_labels.iter().map(|(label, id)| (*id, *label)));
    let mut matched: Vec<Vec<Option<usize>>> = tables.iter().map(|t| vec![None; t.expected.len()]).collect();
    for ((table, row), found) in order.iter().zip(best) {
        matched[*table][*row] = found;
    }
    let each = tables.iter().zip(matched);
    each.filter_map(|(table, matched)| difference(table, &matched, &labels, &best_labels)).collect()
}

fn difference(
    table: &Compared,
    matched: &[Option<usize>],
    names: &BTreeMap<&str, &str>,
    labels: &BTreeMap<&str, &str>,
) -> Option<TableDifference> {
    let mut left: Vec<usize> = (0..table.actual.rows.len()).filter(|row| !matched.contains(&Some(*row))).collect();
    let shown = |row: usize| -> Vec<String> {
        let name = |v: &Option<String>| match v {
            Some(value) => names.get(value.as_str()).map_or_else(|| value.clone(), |name| (*name).to_owned()),
            None => "null".to_owned(),
        };
        table.actual.rows[row].iter().map(name).collect()
    };
    let mut differences = Vec::new();
    for (row, expected) in table.expected.iter().enumerate().filter(|(row, _)| matched[*row].is_none()) {
        let near = nearest(table, expected, row, &left, labels);
        match near {
            Some(actual) => {
                left.retain(|l| *l != actual);
                let mut values = shown(actual);
                let cells = expected.cells.iter().zip(&table.actual.rows[actual]).enumerate();
                for (column, (cell, value)) in cells {
                    // what fits is shown as the author wrote it
                    if agrees(cell, value.as_deref(), table.actual.fractions[column], labels) {
                        values[column].clone_from(&expected.shown[column]);
                    }
                }
                differences.push(Difference::Changed(expected.shown.clone(), values));
            }
            None => differences.push(Difference::Missing(expected.shown.clone())),
        }
    }
    if table.exactly {
        differences.extend(left.into_iter().map(|row| Difference::Unexpected(shown(row))));
    }
    (!differences.is_empty()).then(|| TableDifference {
        table: table.table.clone(),
        columns: table.actual.columns.clone(),
        rows: (table.expected.len(), table.actual.rows.len()),
        differences,
    })
}

/// The left-over row that agrees with an expected one in the most columns, and in more than half of them; where
/// the order counts, the one at its place.
fn nearest(
    table: &Compared,
    expected: &ExpectedRow,
    row: usize,
    left: &[usize],
    labels: &BTreeMap<&str, &str>,
) -> Option<usize> {
    if table.ordered {
        return left.contains(&row).then_some(row);
    }
    let agreeing = |actual: usize| {
        let cells = expected.cells.iter().zip(&table.actual.rows[actual]).enumerate();
        cells.filter(|(c, (cell, value))| agrees(cell, value.as_deref(), table.actual.fractions[*c], labels)).count()
    };
    let best = left.iter().copied().max_by_key(|actual| (agreeing(*actual), std::cmp::Reverse(*actual)))?;
    (agreeing(best) * 2 > expected.cells.len()).then_some(best)
}

/// Whether a value is as expected, with what the names stand for by now.
fn agrees(cell: &ExpectedCell, value: Option<&str>, fraction: bool, labels: &BTreeMap<&str, &str>) -> bool {
    match cell {
        ExpectedCell::Anything => true,
        ExpectedCell::Value(wanted) => same(wanted.as_deref(), value, fraction),
        ExpectedCell::Label(label) => value.is_some() && labels.get(label.as_str()).copied() == value,
    }
}

fn same(wanted: Option<&str>, value: Option<&str>, fraction: bool) -> bool {
    if wanted == value {
        return true;
    }
    let numbers = wanted.and_then(|w| w.parse::<f64>().ok()).zip(value.and_then(|v| v.parse::<f64>().ok()));
    numbers.is_some_and(|(w, v)| fraction && (w - v).abs() <= 1e-9 * w.abs().max(v.abs()))
}

/// Looks for the match of most rows.
struct Search<'a> {
    tables: &'a [Compared],
    /// Table and row of every expected row, those that say most first.
    order: Vec<(usize, usize)>,
    used: Vec<Vec<bool>>,
    /// What a name stands for.
    labels: BTreeMap<&'a str, &'a str>,
    now: Vec<Option<usize>>,
    best: Vec<Option<usize>>,
    best_count: Option<usize>,
    best_labels: BTreeMap<&'a str, &'a str>,
    steps: usize,
}

impl<'a> Search<'a> {
    fn new(tables: &'a [Compared], names: &'a BTreeMap<String, String>) -> Self {
        let rows = tables.iter().enumerate().flat_map(|(t, table)| (0..table.expected.len()).map(move |r| (t, r)));
        let mut order: Vec<(usize, usize)> = rows.collect();
        let vague = |(t, r): &(usize, usize)| {
            let cells = &tables[*t].expected[*r].cells;
            cells.iter().filter(|c| !matches!(c, ExpectedCell::Value(_))).count() * 2 + usize::from(cells.is_empty())
        };
        order.sort_by_key(vague);
        let made_up = names.iter().filter(|(_, name)| name.starts_with('@'));
        let labels: BTreeMap<&str, &str> = made_up.map(|(id, name)| (name.as_str(), id.as_str())).collect();
        Self {
            tables,
            used: tables.iter().map(|t| vec![false; t.actual.rows.len()]).collect(),
            now: vec![None; order.len()],
            best: vec![None; order.len()],
            best_count: None,
            best_labels: labels.clone(),
            labels,
            order,
            steps: STEPS,
        }
    }

    /// Matches the expected rows from `depth` on; `count` are matched.
    fn step(&mut self, depth: usize, count: usize) {
        if self.best_count.is_none_or(|best| count > best) {
            self.best_count = Some(count);
            self.best.clone_from(&self.now);
            self.best_labels.clone_from(&self.labels);
        }
        let hopeless = self.best_count.is_some_and(|best| count + (self.order.len() - depth) <= best);
        if hopeless || self.steps == 0 {
            return;
        }
        self.steps -= 1;
        let (table, row) = self.order[depth];
        let compared = &self.tables[table];
        let mut tried: Vec<&Vec<Option<String>>> = Vec::new();
        for candidate in 0..compared.actual.rows.len() {
            let values = &compared.actual.rows[candidate];
            let out_of_place = compared.ordered && candidate != row;
            if self.used[table][candidate] || out_of_place || tried.contains(&values) {
                continue;
            }
            let Some(bound) = self.fits(compared, row, candidate) else { continue };
            tried.push(values);
            self.used[table][candidate] = true;
            self.now[depth] = Some(candidate);
            self.step(depth + 1, count + 1);
            self.now[depth] = None;
            self.used[table][candidate] = false;
            for label in bound {
                self.labels.remove(label);
            }
            if self.best_count == Some(self.order.len()) {
                return;
            }
        }
        self.step(depth + 1, count);
    }

    /// Whether a row is as expected; gives the names that it was the first to settle.
    fn fits(&mut self, compared: &'a Compared, row: usize, candidate: usize) -> Option<Vec<&'a str>> {
        let mut bound = Vec::new();
        let cells = compared.expected[row].cells.iter().zip(&compared.actual.rows[candidate]).enumerate();
        for (column, (cell, value)) in cells {
            let value = value.as_deref();
            let fits = match (cell, value) {
                (ExpectedCell::Label(label), Some(id)) if !self.labels.contains_key(label.as_str()) => {
                    let free = self.labels.values().all(|known| *known != id);
                    if free {
                        self.labels.insert(label, id);
                        bound.push(label.as_str());
                    }
                    free
                }
                _ => agrees(cell, value, compared.actual.fractions[column], &self.labels),
            };
            if !fits {
                for label in bound {
                    self.labels.remove(label);
                }
                return None;
            }
        }
        Some(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> ExpectedCell {
        match text {
            "*" => ExpectedCell::Anything,
            "null" => ExpectedCell::Value(None),
            label if label.starts_with('@') => ExpectedCell::Label(label.to_owned()),
            other => ExpectedCell::Value(Some(other.to_owned())),
        }
    }

    fn table(columns: &[&str], expected: &[&[&str]], actual: &[&[&str]]) -> Compared {
        let one = |row: &&[&str]| ExpectedRow {
            cells: row.iter().map(|t| value(t)).collect(),
            shown: row.iter().map(ToString::to_string).collect(),
        };
        let values = |row: &&[&str]| row.iter().map(|t| (*t != "null").then(|| (*t).to_owned())).collect();
        Compared {
            table: "t".to_owned(),
            expected: expected.iter().map(one).collect(),
            actual: Actual {
                columns: columns.iter().map(ToString::to_string).collect(),
                fractions: columns.iter().map(|c| c.starts_with("share")).collect(),
                rows: actual.iter().map(values).collect(),
            },
            ordered: false,
            exactly: true,
        }
    }

    fn texts(row: &[&str]) -> Vec<String> {
        row.iter().map(ToString::to_string).collect()
    }

    fn differences(tables: &[Compared]) -> Vec<Difference> {
        compare(tables, &BTreeMap::new()).into_iter().flat_map(|d| d.differences).collect()
    }

    #[test]
    fn rows_fit_in_any_order_and_each_once() {
        let same = table(&["a", "b"], &[&["1", "x"], &["2", "null"]], &[&["2", "null"], &["1", "x"]]);
        assert_eq!(differences(&[same]), []);
        let twice = table(&["a"], &[&["1"], &["1"]], &[&["1"]]);
        assert_eq!(differences(&[twice]), [Difference::Missing(texts(&["1"]))]);
        let more = table(&["a"], &[&["1"]], &[&["1"], &["1"]]);
        assert_eq!(differences(std::slice::from_ref(&more)), [Difference::Unexpected(texts(&["1"]))]);
        assert_eq!(differences(&[Compared { exactly: false, ..more }]), []);
    }

    #[test]
    fn a_vague_row_leaves_the_exact_one_its_match() {
        let both = table(&["a", "b"], &[&["*", "x"], &["1", "x"]], &[&["1", "x"], &["2", "x"]]);
        assert_eq!(differences(&[both]), []);
        // whichever is taken first, both find a row: `*, x` may take either, `1, *` only the first
        let crossed = table(&["a", "b"], &[&["*", "x"], &["1", "*"]], &[&["1", "x"], &["2", "x"]]);
        assert_eq!(differences(&[crossed]), []);
    }

    #[test]
    fn equal_names_are_equal_ids_in_all_tables() {
        let ids: &[&[&str]] = &[&["a", "id1"], &["b", "id1"], &["c", "id2"]];
        let fits = table(&["identifier", "id"], &[&["a", "@1"], &["b", "@1"], &["c", "@2"]], ids);
        assert_eq!(differences(std::slice::from_ref(&fits)), []);
        let merged = table(&["identifier", "id"], &[&["a", "@1"], &["b", "@2"], &["c", "@3"]], ids);
        assert_eq!(differences(&[merged]).len(), 2, "one of a and b stays over on both sides");
        // the second table alone would fit whoever it is
        let other = table(&["id"], &[&["@2"]], &[&["id1"]]);
        assert_eq!(
            differences(&[fits, other]),
            [Difference::Missing(texts(&["@2"])), Difference::Unexpected(texts(&["@1"]))]
        );
    }

    #[test]
    fn rows_that_mostly_agree_are_one_change() {
        let near = table(&["a", "b", "c"], &[&["1", "x", "y"]], &[&["1", "x", "z"]]);
        assert_eq!(differences(&[near]), [Difference::Changed(texts(&["1", "x", "y"]), texts(&["1", "x", "z"]))]);
        let far = table(&["a", "b"], &[&["1", "x"]], &[&["1", "z"]]);
        assert_eq!(
            differences(&[far]),
            [Difference::Missing(texts(&["1", "x"])), Difference::Unexpected(texts(&["1", "z"]))]
        );
    }

    #[test]
    fn order_counts_when_asked() {
        let rows: &[&[&str]] = &[&["1"], &["2"]];
        let turned = Compared { ordered: true, ..table(&["a"], &[&["2"], &["1"]], rows) };
        assert_eq!(
            differences(&[turned]),
            [Difference::Changed(texts(&["2"]), texts(&["1"])), Difference::Changed(texts(&["1"]), texts(&["2"]))]
        );
        let kept = Compared { ordered: true, ..table(&["a"], &[&["1"], &["2"]], rows) };
        assert_eq!(differences(&[kept]), []);
    }

    #[test]
    fn fractions_are_equal_up_to_rounding() {
        let near = table(&["share", "text"], &[&["0.3", "0.3"]], &[&["0.30000000000000004", "0.3"]]);
        assert_eq!(differences(&[near]), []);
        let text = table(&["text"], &[&["0.3"]], &[&["0.30000000000000004"]]);
        assert_eq!(differences(&[text]).len(), 2);
    }

    #[test]
    fn many_rows_that_do_not_fit_end_in_time() {
        let names: Vec<String> = (0..60).map(|n| format!("@{n}")).collect();
        let rows: Vec<Vec<&str>> = names.iter().map(|n| vec![n.as_str()]).collect();
        let expected: Vec<&[&str]> = rows.iter().map(Vec::as_slice).collect();
        let ids: Vec<String> = (0..59).map(|n| format!("id{n}")).collect();
        let made: Vec<Vec<&str>> = ids.iter().map(|n| vec![n.as_str()]).collect();
        let actual: Vec<&[&str]> = made.iter().map(Vec::as_slice).collect();
        assert_eq!(differences(&[table(&["id"], &expected, &actual)]).len(), 1);
    }
}
