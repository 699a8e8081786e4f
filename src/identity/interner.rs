//! Identifier texts to dense codes, exactly and from many threads.
//!
//! An identifier is a pair (type code, text). Interning gives each distinct pair one code. Two are taken for the same
//! if their keys are: SipHash-1-3 of 128 bits under a random secret key. Among a billion identifiers the chance that any
//! two of them share a key is below 2^-68, and who does not know the secret cannot look for such a pair, whatever
//! identifiers they choose. (64 bits would not do: the chance would be one in forty.)
//!
//! - An [`Interner`] is divided into shards by hash (see `shard`), each behind a mutex.
//!   [`Interner::intern_batch`] takes a column of a record batch: it first joins repeats within the batch (events
//!   of one visitor come close together, and a page with a dictionary gives each text once), then visits each shard
//!   once.
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
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::io;
use std::ops::{Range, RangeInclusive};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::DefaultHashBuilder;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::nodes::Nodes;
use super::shard::{Key, Pending, Shard};
use super::texts::TextFile;

/// The code of a null value.
pub const NO_NODE: u32 = u32::MAX;
/// The time of a row that has none, and the `first_seen` of an identifier none of whose rows has one.
pub const NO_TIME: i64 = i64::MAX;
/// The `last_seen` of an identifier none of whose rows has a time.
pub const NO_LAST_TIME: i64 = i64::MIN;

/// In place of a code: a raw text is not known.
pub(super) const UNKNOWN: u32 = u32::MAX - 1;
pub(super) const SHARD_BITS: u32 = 6;
pub(super) const SHARDS: usize = 1 << SHARD_BITS;
/// How many recent texts of a batch are remembered, as powers of two: as many as it has rows, within bounds.
const RECENT_BITS: RangeInclusive<u32> = 10..=15;
/// Shorter texts lie in the array itself, each at its own place, and are hashed as fast as their place.
const SHORT: usize = 12;
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
    places: Vec<u32>,
    pub(super) order: Vec<u32>,
    pub(super) codes: Vec<u32>,
    pub(super) guesses: Vec<Option<u32>>,
    left: Vec<u32>,
}

/// Hashes identifiers.
#[derive(Debug)]
pub(super) struct Hashing {
    /// Tells texts of one batch apart, together with a comparison.
    quick: DefaultHashBuilder,
    keyed: SipHasher13,
}

impl Hashing {
    fn new() -> Self {
        let random = RandomState::new();
        let keyed = SipHasher13::new_with_keys(random.hash_one(0_u8), random.hash_one(1_u8));
        Self { quick: DefaultHashBuilder::default(), keyed }
    }

    /// What stands for an identifier.
    pub(super) fn key(&self, type_code: u8, text: &str) -> Key {
        let mut hasher = self.keyed;
        hasher.write(text.as_bytes());
        hasher.write_u8(type_code);
        Key(hasher.finish128().as_u128())
    }
}

/// Collects identifiers from several threads; see the module.
#[derive(Debug)]
pub struct Interner {
    shards: Vec<Mutex<Shard>>,
    hashing: Hashing,
    types: usize,
}

impl Interner {
    /// An empty interner for type codes `0..types`.
    pub fn new(types: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Self { shards, hashing: Hashing::new(), types }
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
        self.visit_shards(&pending, &starts, |shard, number, members| {
            shard.intern_all(number, &pending, members, scratch)
        })?;
        for code in codes.iter_mut().filter(|code| **code != NO_NODE) {
            *code = scratch.codes[*code as usize];
        }
        Ok(())
    }

    /// Calls `visit` with each shard that has members of a batch, its number and which they are.
    pub(super) fn visit_shards<E>(
        &self,
        pending: &[Pending<'_>],
        starts: &[usize; SHARDS + 1],
        mut visit: impl FnMut(&mut Shard, usize, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        // Each thread begins elsewhere and comes back later to shards that another one holds.
        let first = pending.first().map_or(0, |value| usize::from(value.key.shard()));
        let mut held = Vec::new();
        for shard in (first..SHARDS).chain(0..first).filter(|shard| starts[*shard] < starts[*shard + 1]) {
            match self.shards[shard].try_lock() {
                Ok(mut locked) => visit(&mut locked, shard, starts[shard]..starts[shard + 1])?,
                Err(_) => held.push(shard),
            }
        }
        for shard in held {
            visit(&mut lock(&self.shards[shard]), shard, starts[shard]..starts[shard + 1])?;
        }
        Ok(())
    }

    /// As the function [`join_repeats`].
    pub(super) fn join_repeats<'v>(
        &self,
        scratch: &mut Scratch,
        type_code: u8,
        values: impl IntoIterator<Item = Option<&'v str>>,
        times: Option<&[i64]>,
        positions: &mut Vec<u32>,
    ) -> Vec<Pending<'v>> {
        join_repeats(&self.hashing, scratch, type_code, values, times, positions)
    }

    pub(super) fn shard(&self, number: u8) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(number)])
    }

    pub(super) fn key(&self, type_code: u8, text: &str) -> Key {
        self.hashing.key(type_code, text)
    }

    /// Bytes of the texts that are in memory.
    pub(super) fn text_bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).text_bytes()).sum()
    }

    /// Writes the texts that are in memory to a file, always the same.
    pub(super) fn write_texts(&self, file: &Arc<dyn TextFile>) -> io::Result<()> {
        self.shards.iter().try_for_each(|shard| lock(shard).write_texts(file))
    }

    /// How many identifiers there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Memory held, in bytes, for a memory pool to account for.
    pub fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).memory_bytes()).sum()
    }

    /// Ends interning and makes the codes dense.
    pub fn freeze(self) -> Nodes {
        let shards =
            self.shards.into_iter().map(|shard| shard.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        Nodes::new(shards, self.hashing, self.types)
    }
}

impl Shard {
    /// Interns those members of a batch that are of this shard, number `shard`.
    fn intern_all(
        &mut self,
        shard: usize,
        pending: &[Pending<'_>],
        members: Range<usize>,
        scratch: &mut Scratch,
    ) -> Result<(), InternerFull> {
        let Scratch { order, codes, guesses, .. } = scratch;
        let members = &order[members];
        self.look_ahead(members.iter().map(|member| pending[*member as usize].key), guesses);
        for (&member, guess) in members.iter().zip(guesses) {
            let local = self.intern(&pending[member as usize], *guess)?;
            codes[member as usize] = (local << SHARD_BITS) | shard as u32;
        }
        Ok(())
    }

    /// Gives those members of a batch their codes that are known as identifiers spelled like themselves.
    pub(super) fn recognise_all(
        &mut self,
        shard: usize,
        pending: &[Pending<'_>],
        members: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let Scratch { order, codes, guesses, .. } = scratch;
        let members = &order[members];
        self.look_ahead(members.iter().map(|member| pending[*member as usize].key), guesses);
        for (&member, guess) in members.iter().zip(guesses) {
            if let Some(local) = self.recognise_plain(&pending[member as usize], *guess) {
                codes[member as usize] = (local << SHARD_BITS) | shard as u32;
            }
        }
    }

    /// Gives those members of a batch their codes that have none yet and are known to stand for an identifier, or for
    /// nothing.
    pub(super) fn recognise_others(&mut self, pending: &[Pending<'_>], members: Range<usize>, scratch: &mut Scratch) {
        let Scratch { order, codes, guesses, left, .. } = scratch;
        left.clear();
        left.extend(order[members].iter().filter(|member| codes[**member as usize] == UNKNOWN));
        self.look_ahead(left.iter().map(|member| pending[*member as usize].key), guesses);
        for (&member, guess) in left.iter().zip(guesses) {
            if let Some(code) = self.recognise_other(&pending[member as usize], *guess) {
                codes[member as usize] = code;
            }
        }
    }
}

/// The distinct values of a batch, up to repeats that lie far apart; `positions` becomes one index into
/// them per value, [`NO_NODE`] for a null.
pub(super) fn join_repeats<'v>(
    hashing: &Hashing,
    scratch: &mut Scratch,
    type_code: u8,
    values: impl IntoIterator<Item = Option<&'v str>>,
    times: Option<&[i64]>,
    positions: &mut Vec<u32>,
) -> Vec<Pending<'v>> {
    let values = values.into_iter();
    let bits = values.size_hint().0.max(1).ilog2().clamp(*RECENT_BITS.start(), *RECENT_BITS.end());
    for table in [&mut scratch.recent, &mut scratch.places] {
        table.clear();
        table.resize(1 << bits, NOT_RECENT);
    }
    let mut pending: Vec<Pending<'v>> = Vec::new();
    for (row, value) in values.enumerate() {
        let Some(text) = value else {
            positions.push(NO_NODE);
            continue;
        };
        let first_seen = times.map_or(NO_TIME, |times| times[row]);
        let last_seen = if first_seen == NO_TIME { NO_LAST_TIME } else { first_seen };
        // what has the same place in memory is the same text, whatever it says
        let place = (text.len() > SHORT).then(|| place_of(text, bits));
        if let Some(place) = place
            && let Some(known) = pending.get_mut(scratch.places[place] as usize)
            && ptr::eq(known.text, text)
        {
            known.widen(first_seen, last_seen);
            positions.push(scratch.places[place]);
            continue;
        }
        let recent = &mut scratch.recent[hashing.quick.hash_one(text) as usize & ((1 << bits) - 1)];
        match pending.get_mut(*recent as usize) {
            Some(known) if known.text == text => known.widen(first_seen, last_seen),
            _ => {
                *recent = pending.len() as u32;
                let key = hashing.key(type_code, text);
                pending.push(Pending { text, key, first_seen, last_seen, type_code });
            }
        }
        if let Some(place) = place {
            scratch.places[place] = *recent;
        }
        positions.push(*recent);
    }
    pending
}

/// Where the place of a text in memory is looked up among recent ones.
fn place_of(text: &str, bits: u32) -> usize {
    let place = (text.as_ptr().addr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (place >> (u64::BITS - bits)) as usize
}

/// Groups the members of a batch by shard: `order` lists them, and the result says where each shard begins.
pub(super) fn route(pending: &[Pending<'_>], order: &mut Vec<u32>) -> [usize; SHARDS + 1] {
    let mut starts = [0_usize; SHARDS + 1];
    for value in pending {
        starts[usize::from(value.key.shard()) + 1] += 1;
    }
    for shard in 0..SHARDS {
        starts[shard + 1] += starts[shard];
    }
    let mut next = starts;
    order.clear();
    order.resize(pending.len(), 0);
    for (member, value) in pending.iter().enumerate() {
        let place = &mut next[usize::from(value.key.shard())];
        order[*place] = member as u32;
        *place += 1;
    }
    starts
}

/// A lock is poisoned only by a panic, which ends the run by itself.
pub(super) fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn intern(interner: &Interner, type_code: u8, values: &[Option<&str>], times: Option<&[i64]>) -> Vec<u32> {
        let mut codes = vec![7; 3];
        let done = interner.intern_batch(&mut Scratch::default(), type_code, values.iter().copied(), times, &mut codes);
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
            assert_eq!((nodes.type_of(node), nodes.text(node)), (type_code, text.into()));
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
    fn shards_that_another_thread_holds_are_waited_for() {
        let interner = Interner::new(1);
        let texts: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        let values: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
        let started = Barrier::new(2);
        thread::scope(|scope| {
            let held: Vec<_> = interner.shards.iter().map(lock).collect();
            scope.spawn(|| {
                started.wait();
                let codes = intern(&interner, 0, &values, None);
                assert!(codes.iter().all(|code| *code != NO_NODE));
            });
            started.wait();
            thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        assert_eq!(interner.freeze().len(), texts.len());
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
            (0..nodes.len() as u32).map(|node| nodes.text(node).into_owned()).collect::<Vec<_>>()
        };
        let (mut one, mut four) = (seen(1), seen(4));
        one.sort_unstable();
        four.sort_unstable();
        assert_eq!(one.len(), 7_919);
        assert_eq!(one, four);
        one.dedup();
        assert_eq!(one.len(), 7_919, "no text has two codes");
    }
}
