//! Decides what to send: what a destination is known to hold against the current rows, key by key. Pure.

use super::hash::RowHash;
use super::life::{Life, Operation, StateRow};
use crate::model::SyncMode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What of a difference is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules<'a> {
    /// What the sync does with rows.
    pub mode: SyncMode,
    /// Send every current row, changed or not.
    pub full: bool,
    /// Send again what was rejected for good.
    pub retry_rejected: bool,
    /// The destination can delete.
    pub deletes: bool,
    /// The destination can give a row another key.
    pub renames: bool,
    /// Keys that may not be there any more.
    pub withdrawn: &'a BTreeSet<String>,
    /// Keys of entities that are part of others now, and the keys of these.
    pub merged: &'a BTreeMap<String, String>,
    /// Nothing of the current rows may be sent; what left and what was withdrawn is deleted all the same.
    pub hold: bool,
}

/// One row to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key as text.
    pub key: Arc<str>,
    /// What is done with the row.
    pub operation: Operation,
    /// Number of the change among those of its key, from 1.
    pub number: i64,
    /// How often it was sent, this time included.
    pub attempt: i64,
    /// Hash of the row; none for a delete.
    pub hash: Option<RowHash>,
    /// Its place among the rows that are kept; none for a delete.
    pub row: Option<usize>,
    /// What was known of the key before.
    pub known: Option<Box<StateRow>>,
}

/// What to send and what that amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// By key; then deletes by key; then those of merged entities.
    pub changes: Vec<Change>,
    /// Rows of the state that are settled without sending.
    pub settled: Vec<StateRow>,
    /// New rows to send.
    pub inserted: u64,
    /// Changed rows to send.
    pub updated: u64,
    /// Rows to delete.
    pub deleted: u64,
    /// Those of them that were withdrawn.
    pub withdrawn: u64,
    /// Rows that the destination has as they are.
    pub unchanged: u64,
    /// Rows with a change that the mode does not send.
    pub ignored: u64,
    /// Rows that were rejected for good and have not changed since.
    pub waiting: u64,
    /// Current rows that are held back.
    pub held: u64,
    /// Rows that the destination holds or may hold.
    pub there: u64,
    /// Keys of which anything is known.
    pub known: u64,
    /// Rows that may be there and should be deleted, where the destination cannot.
    pub owed: u64,
    /// Rows that are left as they are and that the next run sends whether they change or not.
    pub again: u64,
}

/// What there is now of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Current {
    /// A row, its place if it is kept, and its hash.
    Row(usize, RowHash),
    /// A row that is held back, and of which nothing may be there.
    Withdrawn,
    /// Nothing.
    Absent,
}

/// Compares keys, one after the other, each once and in their order.
#[derive(Debug)]
pub struct Comparison<'a> {
    rules: Rules<'a>,
    result: Diff,
    /// Deletes, and whether they are of merged entities.
    gone: Vec<(bool, Change)>,
}

impl<'a> Comparison<'a> {
    /// Nothing compared yet.
    pub fn new(rules: Rules<'a>) -> Self {
        Self { rules, result: Diff::default(), gone: Vec::new() }
    }

    /// Decides what becomes of a key; whether its row must be kept to be sent.
    pub fn take(&mut self, key: &Arc<str>, known: Option<&StateRow>, current: Current) -> bool {
        if let Some(known) = known {
            self.seen(known, current);
        }
        match (current, known) {
            (Current::Row(..), _) if self.rules.hold => {
                self.result.held += 1;
                self.leave(known);
                // a table that is replaced has the present values of who is there
                self.rules.mode == SyncMode::Replace && known.is_some_and(StateRow::may_be_there)
            }
            (Current::Row(row, hash), _) => {
                let step = present(known, hash, self.rules);
                let change = self.result.take(key, Some((row, hash)), known, step);
                let changes = change.is_some();
                self.result.changes.extend(change);
                changes || self.rules.mode == SyncMode::Replace
            }
            (Current::Withdrawn | Current::Absent, Some(known)) => {
                self.gone(key, known, current);
                false
            }
            (Current::Withdrawn | Current::Absent, None) => false,
        }
    }

    fn seen(&mut self, known: &StateRow, current: Current) {
        self.result.known += 1;
        if !known.may_be_there() {
            return;
        }
        self.result.there += 1;
        let owed = (self.withdrawn(known, current) && !self.rules.deletes)
            || (self.merged(known) && !self.rules.deletes && !self.rules.renames);
        self.result.owed += u64::from(owed);
    }

    fn gone(&mut self, key: &Arc<str>, known: &StateRow, current: Current) {
        let mirrors = matches!(self.rules.mode, SyncMode::Mirror | SyncMode::Replace);
        let withdrawn = self.rules.deletes && self.withdrawn(known, current);
        let merged = (self.rules.deletes || self.rules.renames) && self.merged(known);
        if !(mirrors || withdrawn || merged) {
            return self.leave(Some(known));
        }
        let before = self.result.deleted;
        let change = self.result.take(key, None, Some(known), left(known, self.rules));
        self.result.withdrawn += if withdrawn { self.result.deleted - before } else { 0 };
        self.gone.extend(change.map(|change| (merged, change)));
    }

    fn withdrawn(&self, known: &StateRow, current: Current) -> bool {
        current == Current::Withdrawn || self.rules.withdrawn.contains(known.key.as_ref())
    }

    fn merged(&self, known: &StateRow) -> bool {
        self.rules.merged.contains_key(known.key.as_ref())
    }

    fn leave(&mut self, known: Option<&StateRow>) {
        self.result.again += u64::from(known.is_some_and(StateRow::is_sent_again));
    }

    /// What is to be sent.
    pub fn finish(self) -> Diff {
        let Self { mut result, gone, .. } = self;
        let (merged, others): (Vec<_>, Vec<_>) = gone.into_iter().partition(|(merged, _)| *merged);
        result.changes.extend(others.into_iter().chain(merged).map(|(_, change)| change));
        result
    }
}

/// What becomes of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing; the destination has it.
    Keep,
    /// Nothing, because the mode does not send it.
    Ignore,
    /// Nothing, because it was rejected for good.
    Wait,
    /// The rejected change is given up; the destination has what it should have.
    Settle,
    /// The last change is sent again under its number.
    Again,
    /// A new change.
    New(Operation),
    /// There was nothing and there is nothing.
    Gone,
}

/// A key that is among the current rows.
fn present(known: Option<&StateRow>, hash: RowHash, rules: Rules<'_>) -> Step {
    let Some(known) = known else { return allowed(Operation::Insert, rules) };
    let there = if known.row_hash.is_some() { Operation::Update } else { Operation::Insert };
    let same_change = known.planned_hash == Some(hash) && known.operation != Operation::Delete;
    match &known.life {
        Life::Acknowledged if known.row_hash == Some(hash) && !rules.full => Step::Keep,
        Life::Acknowledged => allowed(there, rules),
        // Its fate is unknown: send it, whatever was acknowledged before.
        Life::Sent if same_change => Step::Again,
        Life::Sent => allowed(there, rules),
        // what was refused may have arrived in an earlier try that was not answered
        Life::Rejected { .. } if known.row_hash == Some(hash) && !rules.full && !known.perhaps_there => Step::Settle,
        Life::Rejected { retryable, .. } if same_change && !rules.full => {
            if *retryable || rules.retry_rejected {
                Step::Again
            } else {
                Step::Wait
            }
        }
        Life::Rejected { .. } => allowed(there, rules),
    }
}

fn allowed(operation: Operation, rules: Rules<'_>) -> Step {
    match (rules.mode, operation) {
        (SyncMode::Insert, Operation::Update) => Step::Ignore,
        (SyncMode::Update, Operation::Insert) => Step::New(Operation::Update),
        _ => Step::New(operation),
    }
}

/// A key that we sent and that is not among the current rows, where such rows are deleted.
fn left(known: &StateRow, rules: Rules<'_>) -> Step {
    let deleting = known.operation == Operation::Delete;
    match &known.life {
        Life::Sent if deleting => Step::Again,
        Life::Rejected { retryable, .. } if deleting && known.may_be_there() => {
            if *retryable || rules.retry_rejected {
                Step::Again
            } else {
                Step::Wait
            }
        }
        _ if known.may_be_there() => Step::New(Operation::Delete),
        _ => Step::Gone,
    }
}

impl Diff {
    /// Counts a step; what it sends, if anything.
    fn take(
        &mut self,
        key: &Arc<str>,
        row: Option<(usize, RowHash)>,
        known: Option<&StateRow>,
        step: Step,
    ) -> Option<Change> {
        let (operation, number, again) = match step {
            Step::Keep | Step::Ignore | Step::Wait | Step::Gone | Step::Settle => {
                self.left_alone(known, step);
                return None;
            }
            Step::Again => {
                (known.map_or(Operation::Insert, |k| k.operation), known.map_or(1, |k| k.change_number), true)
            }
            Step::New(operation) => (operation, known.map_or(1, |k| k.change_number + 1), false),
        };
        match operation {
            Operation::Insert => self.inserted += 1,
            Operation::Update => self.updated += 1,
            Operation::Delete => self.deleted += 1,
        }
        let attempt = if again { known.map_or(1, |k| k.attempt + 1) } else { 1 };
        let (row, hash) = row.unzip();
        let known = known.map(|known| Box::new(known.clone()));
        Some(Change { key: Arc::clone(key), operation, number, attempt, hash, row, known })
    }

    fn left_alone(&mut self, known: Option<&StateRow>, step: Step) {
        match step {
            Step::Keep => self.unchanged += 1,
            Step::Ignore => self.ignored += 1,
            Step::Wait => self.waiting += 1,
            Step::Settle => {
                self.unchanged += 1;
                self.settled.extend(known.map(settled));
                return;
            }
            Step::Gone | Step::Again | Step::New(_) => {}
        }
        self.again += u64::from(known.is_some_and(StateRow::is_sent_again));
    }
}

/// The state of a row whose rejected change is no longer wanted.
fn settled(known: &StateRow) -> StateRow {
    StateRow { life: Life::Acknowledged, planned_hash: known.row_hash, operation: Operation::Update, ..known.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::life::SyncState;
    use super::*;

    /// Compares `current` (key and hash of each row, no key twice) with what is known.
    fn diff(known: &SyncState, current: &[(Arc<str>, RowHash)], rules: Rules<'_>) -> Diff {
        let rows: BTreeMap<&Arc<str>, Current> =
            current.iter().enumerate().map(|(row, (key, hash))| (key, Current::Row(row, *hash))).collect();
        let keys: BTreeSet<&Arc<str>> = known.keys().chain(rows.keys().copied()).collect();
        let mut comparison = Comparison::new(rules);
        for key in keys {
            comparison.take(key, known.get(key), rows.get(key).copied().unwrap_or(Current::Absent));
        }
        comparison.finish()
    }

    static NOBODY: BTreeSet<String> = BTreeSet::new();
    static NONE: BTreeMap<String, String> = BTreeMap::new();

    fn hash(n: u8) -> RowHash {
        RowHash::from_hex(&format!("{n:02x}").repeat(16)).unwrap()
    }

    fn state(key: &str, acknowledged: Option<u8>, planned: Option<u8>, operation: Operation, life: Life) -> StateRow {
        StateRow {
            key: key.into(),
            row_hash: acknowledged.map(hash),
            planned_hash: planned.map(hash),
            operation,
            life,
            change_number: 4,
            attempt: 1,
            acknowledged_at: None,
            epoch: 1,
            place: "p".into(),
            perhaps_there: false,
        }
    }

    const RULES: Rules<'_> = Rules {
        mode: SyncMode::Upsert,
        full: false,
        retry_rejected: false,
        deletes: true,
        renames: false,
        withdrawn: &NOBODY,
        merged: &NONE,
        hold: false,
    };

    fn one(known: Option<StateRow>, current: Option<u8>, mode: SyncMode) -> Diff {
        let known = known.into_iter().map(|s| (Arc::clone(&s.key), s)).collect();
        let current: Vec<_> = current.into_iter().map(|n| ("k".into(), hash(n))).collect();
        diff(&known, &current, Rules { mode, ..RULES })
    }

    fn sent(diff: &Diff) -> Option<(Operation, i64, i64)> {
        diff.changes.first().map(|c| (c.operation, c.number, c.attempt))
    }

    fn rejected(retryable: bool) -> Life {
        Life::Rejected { reason: "no".into(), retryable }
    }

    #[test]
    fn keys_of_merged_entities_are_deleted_last_in_every_mode() {
        let row = |key: &str| {
            (
                Arc::from(key),
                StateRow { key: key.into(), ..state("k", Some(1), Some(1), Operation::Insert, Life::Acknowledged) },
            )
        };
        let known: SyncState = ["a", "b", "c"].map(row).into_iter().collect();
        let merged = BTreeMap::from([("a".to_owned(), "c".to_owned()), ("never".to_owned(), "c".to_owned())]);
        let withdrawn = BTreeSet::from(["b".to_owned()]);
        for mode in [SyncMode::Upsert, SyncMode::Insert, SyncMode::Append, SyncMode::Mirror] {
            let rules = Rules { mode, merged: &merged, withdrawn: &withdrawn, ..RULES };
            let found = diff(&known, &[("c".into(), hash(1))], rules);
            let keys: Vec<&str> = found.changes.iter().map(|c| c.key.as_ref()).collect();
            // those who merged count against the limit, those who withdrew do not
            assert_eq!((keys, found.deleted, found.withdrawn), (vec!["b", "a"], 2, 1), "{mode:?}");
        }
        let none = diff(&known, &[("c".into(), hash(1))], RULES);
        assert_eq!(none.changes, []);
    }

    #[test]
    fn current_rows() {
        use Operation::{Delete, Insert, Update};
        let k = |a, p, o, l| Some(state("k", a, p, o, l));
        let cases = [
            (None, Some((Insert, 1, 1))),
            (k(Some(1), Some(1), Insert, Life::Acknowledged), None),
            (k(Some(2), Some(2), Insert, Life::Acknowledged), Some((Update, 5, 1))),
            // It was deleted and comes back.
            (k(None, None, Delete, Life::Acknowledged), Some((Insert, 5, 1))),
            // Unknown fate: the same change again, or a new one even if the old content was acknowledged.
            (k(None, Some(1), Insert, Life::Sent), Some((Insert, 4, 2))),
            (k(Some(1), Some(2), Update, Life::Sent), Some((Update, 5, 1))),
            (k(Some(1), None, Delete, Life::Sent), Some((Update, 5, 1))),
            // Rejected: again if it can help, not if it cannot, anew if the row changed.
            (k(None, Some(1), Insert, rejected(true)), Some((Insert, 4, 2))),
            (k(None, Some(1), Insert, rejected(false)), None),
            (k(None, Some(2), Insert, rejected(false)), Some((Insert, 5, 1))),
            (k(Some(1), Some(2), Update, rejected(true)), None),
        ];
        for (known, expected) in cases {
            assert_eq!(sent(&one(known.clone(), Some(1), SyncMode::Upsert)), expected, "{known:?}");
        }
    }

    #[test]
    fn what_was_rejected_for_good_goes_again_under_its_number_when_that_is_asked_for() {
        let rules = Rules { mode: SyncMode::Mirror, retry_rejected: true, ..RULES };
        let row = state("k", None, Some(1), Operation::Insert, rejected(false));
        let known = SyncState::from_iter([("k".into(), row)]);
        let found = diff(&known, &[("k".into(), hash(1))], rules);
        assert_eq!((sent(&found), found.waiting), (Some((Operation::Insert, 4, 2)), 0));
        let row = state("k", Some(1), None, Operation::Delete, rejected(false));
        let known = SyncState::from_iter([("k".into(), row)]);
        assert_eq!(sent(&diff(&known, &[], rules)), Some((Operation::Delete, 4, 2)));
    }

    #[test]
    fn a_b_a_is_three_changes() {
        let mut known = SyncState::new();
        let mut numbers = Vec::new();
        for n in [1, 2, 1] {
            let found = diff(&known, &[("k".into(), hash(n))], RULES);
            let change = &found.changes[0];
            numbers.push(change.number);
            let row = StateRow {
                change_number: change.number,
                ..state("k", Some(n), Some(n), change.operation, Life::Acknowledged)
            };
            known.insert("k".into(), row);
        }
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn rows_that_left_are_deleted_only_where_we_sent_them_and_the_mode_deletes() {
        use Operation::{Delete, Insert, Update};
        let k = |a, p, o, l| Some(state("k", a, p, o, l));
        let cases = [
            (k(Some(1), Some(1), Insert, Life::Acknowledged), Some((Delete, 5, 1))),
            (k(None, Some(1), Insert, Life::Sent), Some((Delete, 5, 1))),
            (k(Some(1), None, Delete, Life::Sent), Some((Delete, 4, 2))),
            (k(None, None, Delete, Life::Acknowledged), None),
            (k(None, Some(1), Insert, rejected(true)), None),
            (k(Some(1), Some(2), Update, rejected(false)), Some((Delete, 5, 1))),
            (k(Some(1), None, Delete, rejected(true)), Some((Delete, 4, 2))),
            (k(Some(1), None, Delete, rejected(false)), None),
        ];
        for (known, expected) in cases {
            assert_eq!(sent(&one(known.clone(), None, SyncMode::Mirror)), expected, "{known:?}");
            assert_eq!(sent(&one(known, None, SyncMode::Upsert)), None);
        }
    }

    #[test]
    fn a_row_that_may_be_there_is_deleted_whatever_became_of_later_tries() {
        use Operation::{Delete, Insert, Update};
        let unsure = |acknowledged, planned, operation, life| {
            Some(StateRow { perhaps_there: true, ..state("k", acknowledged, planned, operation, life) })
        };
        let cases = [
            (unsure(None, Some(1), Insert, rejected(true)), Some((Delete, 5, 1))),
            (unsure(None, Some(1), Insert, rejected(false)), Some((Delete, 5, 1))),
            (unsure(None, None, Delete, rejected(true)), Some((Delete, 4, 2))),
            (unsure(None, None, Delete, Life::Sent), Some((Delete, 4, 2))),
        ];
        for (known, expected) in cases {
            assert_eq!(sent(&one(known.clone(), None, SyncMode::Mirror)), expected, "{known:?}");
        }
        // the destination has the first content or the second, so that going back to the first is a change
        let back = unsure(Some(1), Some(2), Update, rejected(true));
        assert_eq!(sent(&one(back, Some(1), SyncMode::Upsert)), Some((Update, 5, 1)));
    }

    #[test]
    fn what_is_held_back_is_not_sent_and_what_left_is_deleted() {
        let row = |key: &str| (key.into(), state(key, Some(1), Some(1), Operation::Insert, Life::Acknowledged));
        let known = SyncState::from_iter(["stays", "left", "withdrew"].map(row));
        let current = [("stays".into(), hash(2)), ("new".into(), hash(1))];
        let keys = BTreeSet::from(["withdrew".to_owned()]);
        for (mode, deleted) in [(SyncMode::Mirror, vec!["left", "withdrew"]), (SyncMode::Upsert, vec!["withdrew"])] {
            let found = diff(&known, &current, Rules { mode, hold: true, withdrawn: &keys, ..RULES });
            let changes: Vec<&str> = found.changes.iter().map(|c| c.key.as_ref()).collect();
            assert_eq!((changes, found.held, found.inserted + found.updated), (deleted, 2, 0), "{mode:?}");
        }
    }

    #[test]
    fn what_is_withdrawn_is_deleted_in_every_mode() {
        let known = || -> SyncState {
            let row = |key: &str| state(key, Some(1), Some(1), Operation::Insert, Life::Acknowledged);
            ["k", "other"].into_iter().map(|key| (key.into(), row(key))).collect()
        };
        let keys = BTreeSet::from(["k".to_owned(), "never sent".to_owned()]);
        for mode in [SyncMode::Upsert, SyncMode::Insert, SyncMode::Update, SyncMode::Append] {
            let found = diff(&known(), &[], Rules { mode, withdrawn: &keys, ..RULES });
            assert_eq!(sent(&found), Some((Operation::Delete, 5, 1)), "{mode:?}");
            assert_eq!((found.deleted, found.withdrawn), (1, 1));
        }
        let found = diff(&known(), &[], Rules { mode: SyncMode::Mirror, withdrawn: &keys, ..RULES });
        assert_eq!((found.deleted, found.withdrawn), (2, 1));
    }

    #[test]
    fn a_row_that_is_held_back_is_absent_or_withdrawn_and_owed_where_nothing_is_deleted() {
        let row = state("k", Some(1), Some(1), Operation::Insert, Life::Acknowledged);
        let of = |mode, deletes, current| {
            let mut comparison = Comparison::new(Rules { mode, deletes, ..RULES });
            assert!(!comparison.take(&row.key, Some(&row), current), "no row is sent");
            let found = comparison.finish();
            (found.deleted, found.withdrawn, found.owed)
        };
        assert_eq!(of(SyncMode::Upsert, true, Current::Withdrawn), (1, 1, 0));
        assert_eq!(of(SyncMode::Upsert, false, Current::Withdrawn), (0, 0, 1));
        assert_eq!(of(SyncMode::Upsert, true, Current::Absent), (0, 0, 0));
        assert_eq!(of(SyncMode::Mirror, true, Current::Absent), (1, 0, 0));
    }

    #[test]
    fn modes_send_what_they_say() {
        let there = || Some(state("k", Some(2), Some(2), Operation::Insert, Life::Acknowledged));
        assert_eq!(one(there(), Some(1), SyncMode::Insert).ignored, 1);
        assert_eq!(sent(&one(None, Some(1), SyncMode::Insert)), Some((Operation::Insert, 1, 1)));
        assert_eq!(sent(&one(None, Some(1), SyncMode::Update)), Some((Operation::Update, 1, 1)));
        assert_eq!(sent(&one(there(), Some(1), SyncMode::Append)), Some((Operation::Update, 5, 1)));
        let settled =
            one(Some(state("k", Some(1), Some(2), Operation::Update, rejected(true))), Some(1), SyncMode::Upsert);
        assert_eq!((settled.unchanged, settled.settled.len()), (1, 1));
    }
}
