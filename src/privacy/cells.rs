//! Small cells: which groups of an aggregate may not be published, so that no group of few people is told, not even by
//! what is left when the others are taken from a total.
//!
//! A cell is one group: a value for each of its dimensions, and how many people it counts. NULL in a dimension means all of
//! them: such a cell is a total. Cells that differ in one dimension only are a *line*; their sum is its total, a cell with
//! NULL there, or, where the export has none, a figure that counts as known.
//!
//! 1. A cell with fewer than the minimum is `Small`, also one that counts nobody.
//! 2. Wherever one cell alone is missing from a line with its total, or those that are missing count together fewer than
//!    the minimum, the smallest other cell goes, too (`Beside`); until that is nowhere so.
//! 3. A system of several lines can give a cell away that no line does. Whether it does is a question of linear algebra:
//!    the missing cells are unknowns, a line is an equation, and a cell is told if it has one solution. The equations are
//!    reduced modulo a prime; for each cell that is told the smallest cell in its lines goes, and all is looked at again.
//!
//! Nothing depends on the order of the cells: of equal counts the first by its dimensions goes.
//!
//! # Not here
//! Bounds: that a missing cell is less than something follows from its being missing. Columns that tell of other rows,
//! such as shares of a total. What earlier exports said.

use std::collections::{BTreeMap, BTreeSet};

/// A group of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Its place in each dimension; `None` is all of them.
    pub by: Vec<Option<String>>,
    /// How many people it counts.
    pub count: u64,
}

/// Why a cell is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// It counts too few.
    Small,
    /// It would give such a cell away.
    Beside,
}

/// A prime, 2^61 - 1: modulo it, equations with small whole numbers have the solutions that they have in fractions.
const PRIME: u64 = (1 << 61) - 1;

/// A line: cells whose sum is a total.
#[derive(Debug)]
struct Line {
    cells: Vec<usize>,
    /// The total, where it is a cell.
    total: Option<usize>,
}

/// By cell, why it is not published.
///
/// # Errors
/// The dimensions of a cell that stands there twice.
pub fn suppressed(cells: &[Cell], minimum: u64) -> Result<Vec<Option<Withheld>>, Vec<Option<String>>> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by(|a, b| cells[*a].by.cmp(&cells[*b].by));
    let sorted: Vec<&Cell> = order.iter().map(|at| &cells[*at]).collect();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0].by == pair[1].by) {
        return Err(twice[0].by.clone());
    }
    let mut table = Table { lines: lines(&sorted), missing: vec![false; sorted.len()], cells: sorted, minimum };
    table.suppress();
    let mut answer = vec![None; cells.len()];
    for (at, place) in order.iter().enumerate().filter(|(at, _)| table.missing[*at]) {
        answer[*place] = Some(if table.is_small(at) { Withheld::Small } else { Withheld::Beside });
    }
    Ok(answer)
}

/// All lines of cells, in an order.
fn lines(cells: &[&Cell]) -> Vec<Line> {
    let mut found: BTreeMap<(usize, Vec<Option<&str>>), Line> = BTreeMap::new();
    for (at, cell) in cells.iter().enumerate() {
        for dimension in 0..cell.by.len() {
            let mut others: Vec<Option<&str>> = cell.by.iter().map(Option::as_deref).collect();
            others.remove(dimension);
            let line = found.entry((dimension, others)).or_insert(Line { cells: Vec::new(), total: None });
            match cell.by[dimension] {
                None => line.total = Some(at),
                Some(_) => line.cells.push(at),
            }
        }
    }
    // a cell that is alone in its line is no part of a sum that somebody could take it from
    found
        .into_values()
        .filter(|line| line.cells.len() > 1 || (!line.cells.is_empty() && line.total.is_some()))
        .collect()
}

impl Line {
    /// All that the equation is about.
    fn parts(&self) -> impl Iterator<Item = usize> + '_ {
        self.cells.iter().chain(&self.total).copied()
    }
}

/// A table in work: cells in order.
struct Table<'a> {
    cells: Vec<&'a Cell>,
    lines: Vec<Line>,
    missing: Vec<bool>,
    minimum: u64,
}

impl Table<'_> {
    fn is_small(&self, at: usize) -> bool {
        self.cells[at].count < self.minimum
    }

    fn suppress(&mut self) {
        for at in 0..self.cells.len() {
            self.missing[at] = self.is_small(at);
        }
        loop {
            while (0..self.lines.len()).filter(|line| self.close(*line)).count() > 0 {}
            let Some(next) = self.told().into_iter().find_map(|told| self.smallest_beside(told)) else { return };
            self.missing[next] = true;
        }
    }

    /// Takes a cell out of a line that gives something away; whether it did.
    fn close(&mut self, line: usize) -> bool {
        let line = &self.lines[line];
        let missing = line.parts().filter(|at| self.missing[*at]).count();
        let sum: u64 = line.cells.iter().filter(|at| self.missing[**at]).map(|at| self.cells[*at].count).sum();
        let total_is_known = line.total.is_none_or(|total| !self.missing[total]);
        let open = missing == 1 || (missing > 0 && total_is_known && sum < self.minimum);
        let next = if open { self.smallest(line.parts()) } else { None };
        next.inspect(|at| self.missing[*at] = true).is_some()
    }

    /// The smallest cell that is not missing, the first by its dimensions among equals; totals after what they are made of.
    fn smallest(&self, among: impl Iterator<Item = usize>) -> Option<usize> {
        let totals = |at: usize| self.cells[at].by.iter().filter(|by| by.is_none()).count();
        among.filter(|at| !self.missing[*at]).min_by_key(|at| (self.cells[*at].count, totals(*at), *at))
    }

    /// The smallest cell in the lines of a missing one, else in the lines that these meet, and so on.
    fn smallest_beside(&self, told: usize) -> Option<usize> {
        let mut reached = BTreeSet::from([told]);
        loop {
            let near = self.lines.iter().filter(|line| line.parts().any(|at| reached.contains(&at)));
            let near: BTreeSet<usize> = near.flat_map(Line::parts).collect();
            let found = self.smallest(near.iter().copied());
            let before = reached.len();
            reached.extend(near);
            if found.is_some() || reached.len() == before {
                return found;
            }
        }
    }

    /// The missing cells that have one solution only.
    fn told(&self) -> Vec<usize> {
        let mut solved = Equations::default();
        for line in &self.lines {
            let one = |at: &usize| (self.missing[*at]).then_some((*at, 1));
            let total = line.total.filter(|total| self.missing[*total]).map(|total| (total, PRIME - 1));
            solved.add(line.cells.iter().filter_map(one).chain(total).collect());
        }
        solved.rows.into_iter().filter(|(_, row)| row.len() == 1).map(|(at, _)| at).collect()
    }
}

/// An equation without its right side: what it multiplies each unknown by.
type Equation = BTreeMap<usize, u64>;

/// Equations in reduced form: by the unknown that each one leads with and that no other has.
#[derive(Default)]
struct Equations {
    rows: BTreeMap<usize, Equation>,
}

impl Equations {
    fn add(&mut self, mut row: Equation) {
        let led: Vec<usize> = row.keys().copied().filter(|at| self.rows.contains_key(at)).collect();
        for at in led {
            if let Some(by) = self.rows.get(&at) {
                without(&mut row, at, by);
            }
        }
        let Some((&first, &factor)) = row.first_key_value() else { return };
        let inverse = power(factor, PRIME - 2);
        for value in row.values_mut() {
            *value = times(*value, inverse);
        }
        for other in self.rows.values_mut() {
            without(other, first, &row);
        }
        self.rows.insert(first, row);
    }
}

/// Takes an unknown out of an equation by one that leads with it.
fn without(row: &mut Equation, unknown: usize, by: &Equation) {
    let Some(factor) = row.get(&unknown).copied() else { return };
    for (at, value) in by {
        let less = times(factor, *value);
        let left = (row.get(at).copied().unwrap_or(0) + PRIME - less) % PRIME;
        if left == 0 {
            row.remove(at);
        } else {
            row.insert(*at, left);
        }
    }
}

fn times(a: u64, b: u64) -> u64 {
    // below the prime, so it fits
    (u128::from(a) * u128::from(b) % u128::from(PRIME)) as u64
}

fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut result = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, base);
        }
        base = times(base, base);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell(by: &[&str], count: u64) -> Cell {
        let place = |text: &&str| (*text != "all").then(|| (*text).to_owned());
        Cell { by: by.iter().map(place).collect(), count }
    }

    /// What is published, as `a/b`.
    fn published(cells: &[Cell]) -> Vec<String> {
        let shown = |c: &Cell| c.by.iter().map(|b| b.as_deref().unwrap_or("all")).collect::<Vec<_>>().join("/");
        let withheld = suppressed(cells, 11).unwrap();
        cells.iter().zip(withheld).filter(|(_, why)| why.is_none()).map(|(c, _)| shown(c)).collect()
    }

    #[test]
    fn a_small_cell_takes_the_smallest_beside_it_along() {
        let cells = [cell(&["a"], 30), cell(&["b"], 10), cell(&["c"], 20), cell(&["d"], 11)];
        assert_eq!(suppressed(&cells, 11).unwrap(), [None, Some(Withheld::Small), None, Some(Withheld::Beside)]);
        assert_eq!(published(&cells), ["a", "c"]);
        assert_eq!(published(&cells[2..]), ["c", "d"], "eleven are enough");
        // two that count 2 together: both are one, so a third goes
        let cells = [cell(&["a"], 1), cell(&["b"], 1), cell(&["c"], 50), cell(&["d"], 60)];
        assert_eq!(published(&cells), ["d"]);
        assert_eq!(published(&[cell(&[], 10)]), Vec::<String>::new());
        assert_eq!(published(&[cell(&[], 11)]), [""]);
    }

    #[test]
    fn a_total_that_tells_of_the_only_cell_of_its_line_goes() {
        let cells = [
            cell(&["n", "x"], 5),
            cell(&["n", "all"], 5),
            cell(&["s", "x"], 40),
            cell(&["s", "y"], 50),
            cell(&["s", "all"], 90),
            cell(&["all", "all"], 95),
        ];
        // both of n are small. x is taken along, so that the two of column x stay unknown, and the total of s, which
        // the grand total would be less; so two are missing of s, too
        assert_eq!(published(&cells), ["s/y", "all/all"]);
        assert_eq!(suppressed(&[cell(&["a"], 20), cell(&["a"], 30)], 11), Err(vec![Some("a".to_owned())]));
    }

    /// Two blocks of four missing cells that one missing cell joins: two rows less two columns of a block are that cell.
    #[test]
    fn a_cell_that_several_lines_tell_together_is_not_told() {
        let mut cells = Vec::new();
        for (row, columns) in ["aayby", "aayyy", "yyyaa", "yyyaa", "yyyyy"].iter().zip(1..) {
            for (column, kind) in columns_of(row) {
                cells.push(cell(&[&format!("r{columns}"), &column], if kind == 'y' { 50 } else { 9 }));
            }
        }
        // no line lacks only one. The first of the smallest in its lines is (r1, c3), which takes (r2, c3) along and
        // enlarges the block; then (r1, c5), a second way between the blocks
        let withheld = suppressed(&cells, 11).unwrap();
        assert_eq!(withheld.iter().flatten().count(), 9 + 3);
        told_by_a_graph(&cells, &withheld).unwrap();
    }

    fn columns_of(row: &str) -> impl Iterator<Item = (String, char)> + '_ {
        row.chars().zip(1..).map(|(kind, at)| (format!("c{at}"), kind))
    }

    /// A slow reference for two dimensions: a missing cell joins its two lines, and has another solution exactly if
    /// there is a way around it. What is in no line is free, which one common node stands for.
    fn told_by_a_graph(cells: &[Cell], withheld: &[Option<Withheld>]) -> Result<(), String> {
        let in_line = |dimension: usize, cell: &Cell| -> Option<(usize, Option<String>)> {
            let other = &cell.by[1 - dimension];
            let line: Vec<&Cell> = cells.iter().filter(|c| c.by[1 - dimension] == *other).collect();
            let total = line.iter().any(|c| c.by[dimension].is_none());
            let parts = line.iter().filter(|c| c.by[dimension].is_some()).count();
            (parts > 1 || (total && parts > 0)).then(|| (dimension, other.clone()))
        };
        let missing: Vec<&Cell> = cells.iter().zip(withheld).filter(|(_, why)| why.is_some()).map(|(c, _)| c).collect();
        for one in &missing {
            let (start, end) = (in_line(0, one), in_line(1, one));
            let mut reached = BTreeSet::from([start]);
            for _ in 0..=missing.len() * 2 {
                for other in missing.iter().filter(|other| other.by != one.by) {
                    let (a, b) = (in_line(0, other), in_line(1, other));
                    if reached.contains(&a) || reached.contains(&b) {
                        reached.extend([a, b]);
                    }
                }
            }
            let near =
                |c: &Cell| [in_line(0, c), in_line(1, c)].iter().any(|line| line.is_some() && reached.contains(line));
            let more = cells.iter().zip(withheld).any(|(c, why)| why.is_none() && near(c));
            if !reached.contains(&end) && more {
                return Err(format!("{one:?} follows from {cells:?} without {withheld:?}"));
            }
        }
        Ok(())
    }

    /// A table of two dimensions: counts (none: no such group), and whether it has its totals.
    fn tables() -> impl Strategy<Value = Vec<Cell>> {
        let count = prop_oneof![Just(None), (0u64..11).prop_map(Some), (11u64..40).prop_map(Some)];
        (1usize..5, 1usize..5, proptest::collection::vec(count, 16), any::<bool>()).prop_map(
            |(rows, columns, counts, totals)| {
                let mut cells = Vec::new();
                for row in 0..rows {
                    for column in 0..columns {
                        let by = vec![Some(format!("r{row}")), Some(format!("c{column}"))];
                        cells.extend(counts[row * 4 + column].map(|count| Cell { by, count }));
                    }
                }
                if totals {
                    let mut sums: BTreeMap<Vec<Option<String>>, u64> = BTreeMap::new();
                    for Cell { by, count } in &cells {
                        for by in [vec![by[0].clone(), None], vec![None, by[1].clone()], vec![None, None]] {
                            *sums.entry(by).or_default() += count;
                        }
                    }
                    cells.extend(sums.into_iter().map(|(by, count)| Cell { by, count }));
                }
                cells
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn nothing_small_is_published_or_follows_from_what_is(cells in tables(), turn in 0usize..16) {
            let withheld = suppressed(&cells, 11).unwrap();
            for (cell, why) in cells.iter().zip(&withheld) {
                prop_assert!(cell.count >= 11 || *why == Some(Withheld::Small), "{cell:?} is published");
                prop_assert!(cell.count < 11 || *why != Some(Withheld::Small));
            }
            if cells.iter().all(|cell| cell.count >= 11) {
                prop_assert!(withheld.iter().all(Option::is_none), "nothing had to go");
            }
            // a line from which one part is missing gives it away
            for (dimension, cell) in (0..2).flat_map(|d| cells.iter().map(move |c| (d, c))) {
                let line: Vec<usize> = (0..cells.len()).filter(|at| cells[*at].by[1 - dimension] == cell.by[1 - dimension]).collect();
                let missing = line.iter().filter(|at| withheld[**at].is_some()).count();
                prop_assert!(missing != 1 || line.len() == 1, "{line:?} of {cells:?} lacks one: {withheld:?}");
            }
            let answer = told_by_a_graph(&cells, &withheld);
            prop_assert!(answer.is_ok(), "{answer:?}");
            // the order of the rows changes nothing
            let mut turned: Vec<(Cell, Option<Withheld>)> = cells.iter().cloned().zip(withheld).collect();
            if !turned.is_empty() {
                let by = turn % turned.len();
                turned.rotate_left(by);
            }
            let (cells, wanted): (Vec<Cell>, Vec<_>) = turned.into_iter().unzip();
            prop_assert_eq!(suppressed(&cells, 11).unwrap(), wanted);
        }
    }
}
