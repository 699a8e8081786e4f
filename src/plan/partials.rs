//! Which stored partial states a fold takes, and which files it still has to read. Pure.
//!
//! A [`PartialSet`] holds what some columns of one source table are over the rows of some of its files. It never
//! changes. A column is told by its fingerprint, which holds all that its states depend on but the files.
//!
//! # Rules
//! - A set counts as long as each of its files is there with the content that it had. Otherwise it is dropped, and its
//!   other files are read again.
//! - No file's rows count twice for a column: of two sets that share a file one is taken.
//! - What no set gives is read from the files. Columns that lack the same files are read in one pass.
//! - A set that several folds of its table in a row did not take is dropped: its columns are gone.

use std::collections::{BTreeMap, BTreeSet};

/// Folds of a table that a set outlives without being taken.
const MOST_IDLE: u64 = 5;
/// So many sets of the same columns are joined.
const MANY_SETS: usize = 10;

/// By path, what tells a file's content.
pub type Contents = BTreeMap<String, String>;

/// Partial states of some columns over some files of one source table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialSet {
    /// The source table.
    pub table: String,
    /// Fingerprints of the columns, in the order in which their states are stored.
    pub columns: Vec<String>,
    /// The files whose rows it holds.
    pub files: Contents,
    /// Data files with the states; none when the files have no rows that count.
    pub parts: Vec<String>,
    /// Rows of the data files.
    pub rows: u64,
    /// Size of the data files.
    pub bytes: u64,
    /// The run that made it.
    pub run: u64,
    /// Folds of the table since one took it.
    pub idle: u64,
}

impl PartialSet {
    /// Whether the files are as they were.
    fn is_current(&self, files: &Contents) -> bool {
        self.files.iter().all(|(path, content)| files.get(path) == Some(content))
    }
}

/// How the states of some columns over all files of a table come together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Places of the sets that are taken, with the columns that each gives.
    pub taken: Vec<(usize, BTreeSet<String>)>,
    /// Files that are read, with the columns that need them.
    pub missing: Vec<(BTreeSet<String>, BTreeSet<String>)>,
}

impl Reading {
    /// Decides for the `wanted` columns of a table, whose files are these now.
    pub fn decide(sets: &[PartialSet], table: &str, files: &Contents, wanted: &BTreeSet<String>) -> Self {
        let mut covered: BTreeMap<&String, BTreeSet<&String>> = wanted.iter().map(|c| (c, BTreeSet::new())).collect();
        let mut taken = Vec::new();
        for (place, set) in sets.iter().enumerate().filter(|(_, s)| s.table == table && s.is_current(files)) {
            let mut gives = BTreeSet::new();
            for column in &set.columns {
                let Some(known) = covered.get_mut(column) else { continue };
                if set.files.keys().all(|file| !known.contains(file)) {
                    known.extend(set.files.keys());
                    gives.insert(column.clone());
                }
            }
            if !gives.is_empty() {
                taken.push((place, gives));
            }
        }
        let mut missing: BTreeMap<BTreeSet<String>, BTreeSet<String>> = BTreeMap::new();
        for (column, known) in covered {
            let lacks: BTreeSet<String> = files.keys().filter(|file| !known.contains(file)).cloned().collect();
            if !lacks.is_empty() {
                missing.entry(lacks).or_default().insert(column.clone());
            }
        }
        Self { taken, missing: missing.into_iter().collect() }
    }

    /// Places of taken sets that are worth joining, because there are many and none of them outweighs the others: so
    /// each state is written again only as often as the whole doubles.
    pub fn to_join(&self, sets: &[PartialSet]) -> Vec<usize> {
        let Some((_, columns)) = self.taken.first() else { return Vec::new() };
        // one that gives less than it holds would be joined with states that nobody wants
        let whole = |(place, gives): &&(usize, BTreeSet<String>)| {
            gives == columns && sets[*place].columns.iter().all(|column| gives.contains(column))
        };
        let mut places: Vec<usize> = self.taken.iter().filter(whole).map(|(place, _)| *place).collect();
        places.sort_by_key(|place| (sets[*place].rows, *place));
        let mut below = 0;
        let mut joined = Vec::new();
        for place in places {
            if joined.len() > 1 && sets[place].rows > below {
                break;
            }
            below += sets[place].rows;
            joined.push(place);
        }
        if joined.len() < MANY_SETS { Vec::new() } else { joined }
    }
}

/// What the folds of a run did with the sets.
#[derive(Debug, Clone, Default)]
pub struct PartialUse {
    /// Source tables that were folded.
    pub folded: BTreeSet<String>,
    /// Places of sets that were taken.
    pub taken: BTreeSet<usize>,
    /// Places of sets whose states are in a new one.
    pub joined: BTreeSet<usize>,
    /// New sets.
    pub made: Vec<PartialSet>,
}

impl PartialUse {
    /// The sets that there are after the run; `files` are those of the source tables that it knows.
    pub fn after(&self, sets: &[PartialSet], files: &BTreeMap<String, Contents>) -> Vec<PartialSet> {
        let mut after = Vec::new();
        for (place, set) in sets.iter().enumerate() {
            let gone = files.get(&set.table).is_some_and(|files| !set.is_current(files));
            if gone || self.joined.contains(&place) {
                continue;
            }
            let idle = match (self.taken.contains(&place), self.folded.contains(&set.table)) {
                (true, _) => 0,
                (false, folded) => set.idle + u64::from(folded),
            };
            if idle < MOST_IDLE {
                after.push(PartialSet { idle, ..set.clone() });
            }
        }
        after.extend(self.made.iter().cloned());
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: &[(&str, &str)]) -> Contents {
        files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn set(columns: &[&str], files: &[(&str, &str)], rows: u64) -> PartialSet {
        PartialSet {
            table: "t".to_owned(),
            columns: columns.iter().map(ToString::to_string).collect(),
            files: contents(files),
            parts: Vec::new(),
            rows,
            bytes: rows,
            run: 1,
            idle: 0,
        }
    }

    #[test]
    fn new_files_and_new_columns_are_read_and_nothing_else() {
        let sets = [set(&["a", "b"], &[("1", "x"), ("2", "y")], 1), set(&["a"], &[("3", "z")], 1)];
        let now = contents(&[("1", "x"), ("2", "y"), ("3", "z"), ("4", "w")]);
        let reading = Reading::decide(&sets, "t", &now, &names(&["a", "b", "c"]));
        assert_eq!(reading.taken, [(0, names(&["a", "b"])), (1, names(&["a"]))]);
        let missing = BTreeMap::from([
            (names(&["4"]), names(&["a"])),
            (names(&["3", "4"]), names(&["b"])),
            (names(&["1", "2", "3", "4"]), names(&["c"])),
        ]);
        assert_eq!(reading.missing.into_iter().collect::<BTreeMap<_, _>>(), missing);
    }

    #[test]
    fn a_changed_or_vanished_file_takes_its_set_with_it() {
        let sets = [set(&["a"], &[("1", "x"), ("2", "y")], 1), set(&["a"], &[("3", "z")], 1)];
        for now in [[("1", "x"), ("2", "other"), ("3", "z")].as_slice(), &[("1", "x"), ("3", "z")]] {
            let now = contents(now);
            let reading = Reading::decide(&sets, "t", &now, &names(&["a"]));
            assert_eq!(reading.taken, [(1, names(&["a"]))]);
            let lacks = now.keys().filter(|f| *f != "3").cloned().collect();
            assert_eq!(reading.missing, [(lacks, names(&["a"]))]);
            let after = PartialUse::default().after(&sets, &BTreeMap::from([("t".to_owned(), now)]));
            assert_eq!(after, [sets[1].clone()]);
        }
        assert_eq!(PartialUse::default().after(&sets, &BTreeMap::new()), sets, "nothing is known of the files");
        let other = Reading::decide(&sets, "other", &contents(&[("3", "z")]), &names(&["a"]));
        assert_eq!(other.taken, []);
    }

    #[test]
    fn no_file_counts_twice() {
        let sets = [set(&["a"], &[("1", "x")], 1), set(&["a", "b"], &[("1", "x"), ("2", "y")], 1)];
        let now = contents(&[("1", "x"), ("2", "y")]);
        let reading = Reading::decide(&sets, "t", &now, &names(&["a", "b"]));
        assert_eq!(reading.taken, [(0, names(&["a"])), (1, names(&["b"]))]);
        assert_eq!(reading.missing, [(names(&["2"]), names(&["a"]))]);
    }

    #[test]
    fn many_sets_are_joined_but_not_with_one_that_outweighs_them() {
        let file = |n: u64| vec![(n.to_string(), "x".to_owned())].into_iter().collect::<Contents>();
        let small = |n: u64| PartialSet { files: file(n), ..set(&["a"], &[], 3) };
        let mut sets = vec![PartialSet { files: file(99), ..set(&["a"], &[], 1_000) }];
        sets.extend((0..9).map(small));
        let all = |sets: &[PartialSet]| sets.iter().flat_map(|s| s.files.clone()).collect::<Contents>();
        let join = |sets: &[PartialSet]| Reading::decide(sets, "t", &all(sets), &names(&["a"])).to_join(sets);
        assert_eq!(join(&sets), Vec::<usize>::new());
        sets.push(small(9));
        assert_eq!(join(&sets), (1..=10).collect::<Vec<_>>());
        sets[0].rows = 20;
        assert_eq!(join(&sets).len(), 11);
        for set in &mut sets {
            set.columns.push("gone".to_owned());
        }
        assert_eq!(join(&sets), Vec::<usize>::new(), "they hold what nobody wants");
    }

    #[test]
    fn sets_that_nobody_takes_go_in_the_end() {
        let mut sets = vec![set(&["a"], &[("1", "x")], 1), set(&["gone"], &[("1", "x")], 1)];
        let used =
            PartialUse { folded: names(&["t"]), taken: BTreeSet::from([0]), made: Vec::new(), joined: BTreeSet::new() };
        for left in [2, 2, 2, 2, 1, 1] {
            sets = used.after(&sets, &BTreeMap::new());
            assert_eq!((sets.len(), sets[0].idle), (left, 0));
        }
        let idle = PartialUse::default().after(&sets, &BTreeMap::new());
        assert_eq!(idle, sets, "the table was not folded");
        let joined = PartialUse { joined: BTreeSet::from([0]), ..PartialUse::default() };
        assert_eq!(joined.after(&sets, &BTreeMap::new()), []);
    }
}
