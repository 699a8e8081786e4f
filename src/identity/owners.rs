//! How many rows belong to nobody.
//!
//! A row belongs to the entity of its first identifier, in owner order, that is neither null nor a hub. Hubs are
//! known only when all links are, long after the row went by. So rows are counted by what will decide:
//!
//! - a row with an identifier of a type that has no `max_links` has an entity for certain;
//! - a row without identifiers has none for certain;
//! - any other row has none if all its identifiers turn out to be hubs. Such rows are counted by their identifiers.
//!   Most have one, and are counted in an array by its code. Longer lists are kept as a trie, so that a list costs
//!   little more than 20 bytes whatever its length, and there are about as many as there are distinct links. Rows of
//!   one visitor come close together, so most steps are found in a small table of recent ones.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::interner::NO_NODE;

/// Where lists begin.
const START: u32 = u32::MAX;
const RECENT_BITS: u32 = 11;
/// As many rows are counted in the array; tests go beyond.
const MOST_LONE: u32 = if cfg!(test) { 2 } else { u32::MAX };

/// A list of identifiers: another list and one more identifier.
#[derive(Debug, Clone, Copy)]
struct Step {
    before: u32,
    code: u32,
    /// Rows that have just this list.
    rows: u64,
}

/// Counts the rows of a table by what decides whether they belong to an entity; see the module.
#[derive(Debug)]
pub struct RowOwners {
    rows: u64,
    owned: u64,
    /// By code, rows that have just this identifier, beside those of the list.
    lone: Vec<u32>,
    steps: Vec<Step>,
    index: HashTable<u32>,
    recent: Vec<u32>,
    hasher: DefaultHashBuilder,
}

impl Default for RowOwners {
    fn default() -> Self {
        Self {
            rows: 0,
            owned: 0,
            lone: Vec::new(),
            steps: Vec::new(),
            index: HashTable::new(),
            recent: vec![START; 1 << RECENT_BITS],
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl RowOwners {
    /// Counts a row. `certain` are its identifiers that can be no hubs, `others` those that may be; both by
    /// provisional code.
    pub fn add(&mut self, mut certain: impl Iterator<Item = u32>, others: impl Iterator<Item = u32>) {
        self.rows += 1;
        if certain.any(|code| code != NO_NODE) {
            self.owned += 1;
            return;
        }
        let mut others = others.filter(|code| *code != NO_NODE);
        match (others.next(), others.next()) {
            (None, _) => {}
            (Some(only), None) => self.add_lone(only),
            (Some(first), Some(second)) => {
                let list = [first, second].into_iter().chain(others);
                let list = list.fold(START, |list, code| self.step(list, code));
                self.steps[list as usize].rows += 1;
            }
        }
    }

    fn add_lone(&mut self, code: u32) {
        let place = code as usize;
        if place >= self.lone.len() {
            self.lone.resize(place + 1, 0);
        }
        if self.lone[place] == MOST_LONE {
            self.lone[place] = 0;
            let list = self.step(START, code);
            self.steps[list as usize].rows += u64::from(MOST_LONE);
        }
        self.lone[place] += 1;
    }

    fn step(&mut self, before: u32, code: u32) -> u32 {
        let hash = self.hasher.hash_one((before, code));
        let is_it = |steps: &[Step], step: u32| {
            steps.get(step as usize).is_some_and(|step| (step.before, step.code) == (before, code))
        };
        let recent = (hash >> (u64::BITS - RECENT_BITS)) as usize;
        if is_it(&self.steps, self.recent[recent]) {
            return self.recent[recent];
        }
        let Self { steps, index, hasher, .. } = self;
        let rehash = |step: &u32| hasher.hash_one((steps[*step as usize].before, steps[*step as usize].code));
        let entry = index.entry(hash, |step| is_it(steps, *step), rehash);
        let step = *entry.or_insert(steps.len() as u32).get();
        if step as usize == steps.len() {
            steps.push(Step { before, code, rows: 0 });
        }
        self.recent[recent] = step;
        step
    }

    /// Memory held, in bytes, for a memory pool to account for.
    pub fn memory_bytes(&self) -> usize {
        let numbers = self.lone.capacity() * size_of::<u32>() + self.index.allocation_size();
        numbers + self.steps.capacity() * size_of::<Step>()
    }

    /// How many rows there were.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many of them belong to an entity, now that it is known who is a hub (by provisional code).
    pub fn owned(&self, is_hub: impl Fn(u32) -> bool) -> u64 {
        let mut all_hubs: Vec<bool> = Vec::with_capacity(self.steps.len());
        let lone = self.lone.iter().zip(0..).filter(|(rows, code)| **rows > 0 && !is_hub(*code));
        let mut owned = self.owned + lone.map(|(rows, _)| u64::from(*rows)).sum::<u64>();
        // a list comes after the list that it continues
        for step in &self.steps {
            let before = step.before == START || all_hubs[step.before as usize];
            all_hubs.push(before && is_hub(step.code));
            owned += if before && is_hub(step.code) { 0 } else { step.rows };
        }
        owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Codes below 3 are of a type without `max_links`; a row has up to four identifiers, nulls included.
    fn any_row() -> impl Strategy<Value = Vec<Option<u32>>> {
        prop::collection::vec(prop::option::weighted(0.7, 0..12_u32), 0..4)
    }

    proptest! {
        #[test]
        fn rows_are_counted_as_if_hubs_had_been_known(
            rows in prop::collection::vec(any_row(), 0..60),
            hubs in prop::collection::btree_set(3..12_u32, 0..9),
        ) {
            let mut owners = RowOwners::default();
            for row in &rows {
                let codes = || row.iter().map(|code| code.unwrap_or(NO_NODE));
                owners.add(codes().filter(|code| *code < 3), codes().filter(|code| *code >= 3));
            }
            let has_owner = |row: &&Vec<Option<u32>>| row.iter().flatten().any(|code| !hubs.contains(code));
            prop_assert_eq!(owners.rows(), rows.len() as u64);
            prop_assert_eq!(owners.owned(|code| hubs.contains(&code)), rows.iter().filter(has_owner).count() as u64);
        }
    }
}
