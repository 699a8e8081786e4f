//! Identifier texts to dense codes, exactly and from many threads.
//!
//! An identifier is a pair (type code, text). Interning gives each distinct pair one code, compared by its
//! text: two identifiers share a code only if they are the same identifier, whatever their hashes are.
//!
//! - An [`Interner`] is divided into shards by hash; a shard is one mutex over a hash table, one text arena and
//!   flat columns. [`Interner::intern_batch`] takes a column of a record batch: it first joins repeats within
//!   the batch (events of one visitor come close together), then visits each shard once.
//! - The codes it gives are *provisional*: stable and distinct at once, but with gaps. [`Interner::freeze`] turns
//!   the interner into [`Nodes`], whose codes are dense, and [`Nodes::dense`] maps one to the other in a few
//!   instructions. A null value has the code [`NO_NODE`] on both sides.
//! - Times are microseconds since the epoch. A row without a time says [`NO_TIME`]. An identifier's `first_seen`
//!   is the smallest time of its rows and [`NO_TIME`] if none has one; `last_seen` is the greatest and
//!   [`NO_LAST_TIME`] if none has one.
//!
//! Which number an identifier gets depends on threads, order and a random seed (so that nobody can choose
//! identifiers that collide); nothing that is built on the numbers may. Where order matters, sort by (type, text).
//!
//! Limits: 2^26 identifiers and 4 GiB of text in each of 64 shards, thus about 4 billion identifiers and 256 GiB.

use std::fmt;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::nodes::Nodes;

/// The code of a null value.
pub const NO_NODE: u32 = u32::MAX;
/// The time of a row that has none, and the `first_seen` of an identifier none of whose rows has one.
pub const NO_TIME: i64 = i64::MAX;
/// The `last_seen` of an identifier none of whose rows has a time.
pub const NO_LAST_TIME: i64 = i64::MIN;

pub(super) const SHARD_BITS: u32 = 6;
pub(super) const SHARDS: usize = 1 << SHARD_BITS;
const MAX_LOCAL: u32 = u32::MAX >> SHARD_BITS;
const RECENT_BITS: u32 = 13;
const NOT_RECENT: u32 = u32::MAX;

/// An interner has no room for another identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InternerFull;

impl fmt::Display for InternerFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many identifiers for one identity (more than 4 billion, or 256 GiB of text)")
    }
}

impl std::error::Error for InternerFull {}

/// Working memory of one stream that interns; keep one per thread and pass it to every call.
#[derive(Debug, Default)]
pub struct Scratch {
    recent: Vec<u32>,
    order: Vec<u32>,
    codes: Vec<u32>,
    ahead: Ahead,
}

/// What a look ahead found, by member of the shard at hand.
#[derive(Debug, Default)]
struct Ahead {
    buckets: Vec<(u32, Option<usize>)>,
    guesses: Vec<Option<Slot>>,
}

/// A distinct value of the batch at hand.
struct Pending<'v> {
    text: &'v str,
    hash: u64,
    first_seen: i64,
    last_seen: i64,
}

/// Collects identifiers from several threads; see the module.
#[derive(Debug)]
pub struct Interner {
    shards: Vec<Mutex<Shard>>,
    hasher: DefaultHashBuilder,
    types: usize,
}

impl Interner {
    /// An empty interner for type codes `0..types`.
    pub fn new(types: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Self { shards, hasher: DefaultHashBuilder::default(), types }
    }

    /// Interns one column of a batch: `codes` becomes one provisional code per value, [`NO_NODE`] for a null.
    ///
    /// `times` has one time per value, [`NO_TIME`] where there is none; without it no row has a time.
    pub fn intern_batch<'v>(
        &self,
        scratch: &mut Scratch,
        type_code: u8,
        values: impl IntoIterator<Item = Option<&'v str>>,
        times: Option<&[i64]>,
        codes: &mut Vec<u32>,
    ) -> Result<(), InternerFull> {
        debug_assert!(usize::from(type_code) < self.types, "a type code below the number of types");
        codes.clear();
        let pending = self.join_repeats(scratch, type_code, values, times, codes);
        let starts = route(&pending, &mut scratch.order);
        scratch.codes.clear();
        scratch.codes.resize(pending.len(), NO_NODE);
        for (shard_index, range) in starts.windows(2).enumerate() {
            let members = &scratch.order[range[0]..range[1]];
            if members.is_empty() {
                continue;
            }
            let mut shard = lock(&self.shards[shard_index]);
            shard.look_ahead(
                type_code,
                members.iter().map(|member| pending[*member as usize].hash),
                &mut scratch.ahead,
            );
            for (&member, guess) in members.iter().zip(&scratch.ahead.guesses) {
                let local = shard.intern(type_code, &pending[member as usize], *guess)?;
                scratch.codes[member as usize] = (local << SHARD_BITS) | shard_index as u32;
            }
        }
        for code in codes.iter_mut().filter(|code| **code != NO_NODE) {
            *code = scratch.codes[*code as usize];
        }
        Ok(())
    }

    /// The distinct values of a batch, up to repeats that lie far apart; `positions` becomes one index into
    /// them per value.
    fn join_repeats<'v>(
        &self,
        scratch: &mut Scratch,
        type_code: u8,
        values: impl IntoIterator<Item = Option<&'v str>>,
        times: Option<&[i64]>,
        positions: &mut Vec<u32>,
    ) -> Vec<Pending<'v>> {
        scratch.recent.clear();
        scratch.recent.resize(1 << RECENT_BITS, NOT_RECENT);
        let mut pending: Vec<Pending<'v>> = Vec::new();
        for (row, value) in values.into_iter().enumerate() {
            let Some(text) = value else {
                positions.push(NO_NODE);
                continue;
            };
            let first_seen = times.map_or(NO_TIME, |times| times[row]);
            let last_seen = if first_seen == NO_TIME { NO_LAST_TIME } else { first_seen };
            let hash = hash_identifier(&self.hasher, type_code, text);
            let recent = &mut scratch.recent[(hash >> SHARD_BITS) as usize & ((1 << RECENT_BITS) - 1)];
            match pending.get_mut(*recent as usize) {
                Some(known) if known.hash == hash && known.text == text => {
                    known.first_seen = known.first_seen.min(first_seen);
                    known.last_seen = known.last_seen.max(last_seen);
                }
                _ => {
                    *recent = pending.len() as u32;
                    pending.push(Pending { text, hash, first_seen, last_seen });
                }
            }
            positions.push(*recent);
        }
        pending
    }

    /// Memory held, in bytes, for a memory pool to account for.
    pub fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).memory_bytes()).sum()
    }

    /// Ends interning and makes the codes dense.
    pub fn freeze(self) -> Nodes {
        let shards =
            self.shards.into_iter().map(|shard| shard.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        Nodes::new(shards, self.hasher, self.types)
    }
}

/// Groups the members of a batch by shard: `order` lists them, and the result says where each shard begins.
fn route(pending: &[Pending<'_>], order: &mut Vec<u32>) -> [usize; SHARDS + 1] {
    let mut starts = [0_usize; SHARDS + 1];
    for value in pending {
        starts[shard_of(value.hash) + 1] += 1;
    }
    for shard in 0..SHARDS {
        starts[shard + 1] += starts[shard];
    }
    let mut next = starts;
    order.clear();
    order.resize(pending.len(), 0);
    for (member, value) in pending.iter().enumerate() {
        let place = &mut next[shard_of(value.hash)];
        order[*place] = member as u32;
        *place += 1;
    }
    starts
}

/// A shard whose holder panicked is still whole: every change to it ends with the table.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn hash_identifier(hasher: &DefaultHashBuilder, type_code: u8, text: &str) -> u64 {
    hasher.hash_one((type_code, text))
}

/// The shard of a hash; the bits next to those that place it in its shard's table.
pub(super) fn shard_of(hash: u64) -> usize {
    (hash & (SHARDS as u64 - 1)) as usize
}

/// One entry of a shard's table. Everything but the text itself is here, so that a lookup waits for one line of
/// the table and one of the arena.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// 24 bits of the hash, then the type code.
    tag: u32,
    local: u32,
    start: u32,
    len: u32,
}

/// A part of the interner: the identifiers whose hashes end alike.
#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<Slot>,
    texts: String,
    /// `ends[local]..ends[local + 1]` is a text.
    ends: Vec<u32>,
    types: Vec<u8>,
    /// First and last time seen.
    times: Vec<(i64, i64)>,
}

impl Shard {
    fn new() -> Self {
        Self { table: HashTable::new(), texts: String::new(), ends: vec![0], types: Vec::new(), times: Vec::new() }
    }

    /// Finds for each hash the slot that is likely its identifier's, and touches the memory behind it.
    ///
    /// Nearly all the time of interning is waiting for memory. Here the lookups of many identifiers do not depend
    /// on each other, so the processor waits for several at once.
    fn look_ahead(&self, type_code: u8, hashes: impl Iterator<Item = u64>, ahead: &mut Ahead) {
        let Ahead { buckets, guesses } = ahead;
        buckets.clear();
        // The first bucket that passes the table's filter, found without reading the bucket itself.
        buckets.extend(hashes.map(|hash| {
            let tag = tag(hash, type_code);
            (tag, self.table.find_bucket_index(place(tag), |_| true))
        }));
        guesses.clear();
        guesses.extend(buckets.iter().map(|(tag, bucket)| {
            let slot = bucket.and_then(|bucket| self.table.get_bucket(bucket));
            slot.filter(|slot| slot.tag == *tag).copied()
        }));
        let texts = self.texts.as_bytes();
        let mut touched = 0;
        for slot in guesses.iter().flatten() {
            touched ^= texts.get(slot.start as usize).copied().unwrap_or_default();
            touched ^= self.times[slot.local as usize].0 as u8;
        }
        black_box(touched);
    }

    /// The local code of an identifier, new or known, with its times widened. `guess` may be right, wrong or stale.
    fn intern(&mut self, type_code: u8, value: &Pending<'_>, guess: Option<Slot>) -> Result<u32, InternerFull> {
        let guessed = guess.filter(|slot| self.holds(slot, value.text)).map(|slot| slot.local);
        if let Some(local) = guessed.or_else(|| self.find(type_code, value.hash, value.text)) {
            let (first_seen, last_seen) = &mut self.times[local as usize];
            *first_seen = (*first_seen).min(value.first_seen);
            *last_seen = (*last_seen).max(value.last_seen);
            return Ok(local);
        }
        let local = self.types.len() as u32;
        let start = self.texts.len() as u32;
        let end = u32::try_from(self.texts.len() + value.text.len()).map_err(|_| InternerFull)?;
        if local >= MAX_LOCAL {
            return Err(InternerFull);
        }
        self.texts.push_str(value.text);
        self.ends.push(end);
        self.types.push(type_code);
        self.times.push((value.first_seen, value.last_seen));
        let tag = tag(value.hash, type_code);
        let slot = Slot { tag, local, start, len: end - start };
        self.table.insert_unique(place(tag), slot, |slot| place(slot.tag));
        Ok(local)
    }

    pub(super) fn find(&self, type_code: u8, hash: u64, text: &str) -> Option<u32> {
        let tag = tag(hash, type_code);
        let found = self.table.find(place(tag), |slot| slot.tag == tag && self.holds(slot, text));
        found.map(|slot| slot.local)
    }

    /// Whether a slot's text is `text`.
    fn holds(&self, slot: &Slot, text: &str) -> bool {
        let (start, end) = (slot.start as usize, slot.start as usize + slot.len as usize);
        slot.len as usize == text.len() && &self.texts.as_bytes()[start..end] == text.as_bytes()
    }

    pub(super) fn len(&self) -> usize {
        self.types.len()
    }

    pub(super) fn text(&self, local: usize) -> &str {
        &self.texts[self.ends[local] as usize..self.ends[local + 1] as usize]
    }

    /// Moves the flat columns out: types, and first and last times.
    pub(super) fn take_columns(&mut self) -> (Vec<u8>, Vec<(i64, i64)>) {
        (std::mem::take(&mut self.types), std::mem::take(&mut self.times))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.table.allocation_size()
            + self.texts.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.types.capacity()
            + self.times.capacity() * size_of::<(i64, i64)>()
    }
}

fn tag(hash: u64, type_code: u8) -> u32 {
    ((hash >> SHARD_BITS) as u32) << 8 | u32::from(type_code)
}

/// Where a tag goes in a shard's table: a tag is all of the hash that a slot keeps, so that a table can grow
/// without reading texts. The table takes its place from the low bits and its filter from the topmost, so both
/// halves of the product must depend on the whole tag, whose own low bits are hardly more than a constant.
fn place(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::thread;

    use super::*;

    fn intern(interner: &Interner, type_code: u8, values: &[Option<&str>], times: Option<&[i64]>) -> Vec<u32> {
        let mut codes = vec![7; 3];
        let done = interner.intern_batch(
            &mut Scratch::default(),
            type_code,
            values.iter().copied(),
            times,
            &mut codes,
        );
        assert_eq!(done, Ok(()));
        codes
    }

    #[test]
    fn equal_identifiers_share_a_code_and_others_do_not() {
        let interner = Interner::new(2);
        let first = intern(&interner, 0, &[Some("a"), None, Some("b"), Some("a"), Some("")], None);
        let second = intern(&interner, 1, &[Some("a"), Some("b")], None);
        let third = intern(&interner, 0, &[Some(""), Some("b")], None);
        let nodes = interner.freeze();
        assert_eq!(nodes.len(), 5);
        assert_eq!((first[0], first[1]), (first[3], NO_NODE));
        assert_eq!(third, [first[4], first[2]]);
        for (type_code, text, code) in
            [(0, "a", first[0]), (0, "b", first[2]), (0, "", first[4]), (1, "a", second[0]), (1, "b", second[1])]
        {
            let node = nodes.dense(code);
            assert_eq!(nodes.lookup(type_code, text), Some(node));
            assert_eq!((nodes.type_of(node), nodes.text(node)), (type_code, text));
        }
        assert_eq!(nodes.dense(NO_NODE), NO_NODE);
        assert_eq!((nodes.lookup(0, "c"), nodes.lookup(1, "")), (None, None));
    }

    #[test]
    fn times_are_the_widest_over_all_rows() {
        let interner = Interner::new(1);
        intern(&interner, 0, &[Some("a"), Some("b"), Some("a")], Some(&[5, NO_TIME, 3]));
        intern(&interner, 0, &[Some("a"), Some("c")], None);
        intern(&interner, 0, &[Some("a"), Some("c")], Some(&[-4, 9]));
        let nodes = interner.freeze();
        let times = |text| nodes.lookup(0, text).map(|node| (nodes.first_seen(node), nodes.last_seen(node)));
        assert_eq!(times("a"), Some((-4, 5)));
        assert_eq!(times("b"), Some((NO_TIME, NO_LAST_TIME)));
        assert_eq!(times("c"), Some((9, 9)));
    }

    #[test]
    fn equal_hashes_are_told_apart_by_text() {
        let mut shard = Shard::new();
        let pending = |text| Pending { text, hash: 0x1234_5678_9abc_def0, first_seen: 1, last_seen: 1 };
        let texts = ["a", "b", "ab", "ba", ""];
        for (local, text) in texts.iter().enumerate() {
            assert_eq!(shard.intern(0, &pending(text), None), Ok(local as u32));
        }
        let mut ahead = Ahead::default();
        shard.look_ahead(0, texts.iter().map(|text| pending(text).hash), &mut ahead);
        for (local, (text, guess)) in texts.iter().zip(ahead.guesses).enumerate() {
            assert!(guess.is_some());
            assert_eq!(shard.intern(0, &pending(text), guess), Ok(local as u32));
            assert_eq!(shard.text(local), *text);
        }
    }

    #[test]
    fn threads_and_order_change_numbers_only() {
        let values: Vec<String> = (0..20_000_u32).map(|number| format!("value {}", number % 7_919)).collect();
        let seen = |threads: usize| {
            let interner = Interner::new(1);
            thread::scope(|scope| {
                for part in values.chunks(values.len() / threads) {
                    let interner = &interner;
                    scope.spawn(move || {
                        for batch in part.chunks(999) {
                            let batch: Vec<Option<&str>> = batch.iter().map(|text| Some(text.as_str())).collect();
                            let times: Vec<i64> = (0..batch.len() as i64).collect();
                            let codes = intern(interner, 0, &batch, Some(&times));
                            assert!(codes.iter().all(|code| *code != NO_NODE));
                        }
                    });
                }
            });
            let nodes = interner.freeze();
            (0..nodes.len() as u32).map(|node| nodes.text(node).to_owned()).collect::<Vec<_>>()
        };
        let (mut one, mut four) = (seen(1), seen(4));
        one.sort_unstable();
        four.sort_unstable();
        assert_eq!(one.len(), 7_919);
        assert_eq!(one, four);
        let distinct: BTreeMap<&String, ()> = one.iter().map(|text| (text, ())).collect();
        assert_eq!(distinct.len(), one.len());
    }
}
