//! A part of the interner: a hash table of its own with the texts of its identifiers.
//!
//! An identifier is told from another by a [`Key`] of 128 bits, never by fewer. Nearly all the time of interning is
//! waiting for memory, so an identifier that is known costs two reads: a slot of the table, which is so small that
//! much of the table stays in cache, and the record with the key and the times. Texts are only written, until the
//! tables are made. The table is open-addressed with linear probing, and slots are in the order of their keys, so
//! that it grows by copying from front to back. Lookups of a batch are started together
//! ([`Shard::look_ahead`]), so that the processor waits for the memory of several at once.

use std::borrow::Cow;
use std::hint::black_box;
use std::io;
use std::sync::Arc;

use super::interner::{InternerFull, NO_NODE, SHARD_BITS};
use super::texts::{TextFile, Texts};

const MAX_LOCAL: u32 = u32::MAX >> SHARD_BITS;
/// In the key of a record: the raw text that is spelled like the identifier is this identifier. All keys of a shard
/// agree in their lowest bits, so one of them can say something else.
const PLAIN: u128 = 1;

/// What stands for an identifier: a keyed hash of its type and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub(super) u128);

impl Key {
    /// The shard that it belongs to.
    pub(super) fn shard(self) -> u8 {
        self.0 as u8 & ((1 << SHARD_BITS) - 1)
    }

    /// What a slot keeps of it.
    fn tag(self) -> u32 {
        (self.0 >> 96) as u32
    }
}

/// An identifier that is to be interned.
pub(super) struct Pending<'v> {
    pub(super) text: &'v str,
    pub(super) key: Key,
    pub(super) first_seen: i64,
    pub(super) last_seen: i64,
    pub(super) type_code: u8,
}

impl Pending<'_> {
    pub(super) fn widen(&mut self, first_seen: i64, last_seen: i64) {
        self.first_seen = self.first_seen.min(first_seen);
        self.last_seen = self.last_seen.max(last_seen);
    }
}

/// An entry of the table.
#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    /// The identifier's number in the shard, or [`NO_NODE`] if the slot is free.
    local: u32,
}

const FREE: Slot = Slot { tag: 0, local: NO_NODE };

/// What is known of an identifier, aligned so that it never lies in two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Record {
    /// The key, and [`PLAIN`].
    key: u128,
    first_seen: i64,
    last_seen: i64,
}

impl Record {
    fn is(&self, key: Key) -> bool {
        (self.key ^ key.0) & !PLAIN == 0
    }

    fn is_plain(&self) -> bool {
        self.key & PLAIN != 0
    }

    fn widen(&mut self, value: &Pending<'_>) {
        self.first_seen = self.first_seen.min(value.first_seen);
        self.last_seen = self.last_seen.max(value.last_seen);
    }
}

/// The identifiers whose keys end alike.
#[derive(Debug)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    /// By local number.
    records: Vec<Record>,
    types: Vec<u8>,
    /// `ends[local]..ends[local + 1]` is a text; empty where texts stand for identifiers, since nobody reads those.
    texts: Texts,
    ends: Vec<u32>,
    /// By local number, the identifier that a text stands for; empty where texts are identifiers.
    targets: Vec<u32>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            records: Vec::new(),
            types: Vec::new(),
            texts: Texts::default(),
            ends: vec![0],
            targets: Vec::new(),
        }
    }

    /// How many identifiers there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn text(&self, local: usize) -> Cow<'_, str> {
        self.texts.get(self.ends[local] as usize..self.ends[local + 1] as usize)
    }

    /// Bytes of the texts that are in memory.
    pub(super) fn text_bytes(&self) -> usize {
        self.texts.memory_bytes()
    }

    /// Writes the texts that are in memory to a file, always the same.
    pub(super) fn write_texts(&mut self, file: &Arc<dyn TextFile>) -> io::Result<()> {
        self.texts.write_to(file)
    }

    /// The type codes by local number.
    pub(super) fn types(&self) -> &[u8] {
        &self.types
    }

    /// The first and the last time of an identifier.
    pub(super) fn times(&self, local: usize) -> (i64, i64) {
        (self.records[local].first_seen, self.records[local].last_seen)
    }

    /// Widens the times of an identifier to those of another spelling of it.
    pub(super) fn widen(&mut self, local: usize, first_seen: i64, last_seen: i64) {
        let record = &mut self.records[local];
        record.first_seen = record.first_seen.min(first_seen);
        record.last_seen = record.last_seen.max(last_seen);
    }

    /// The local number of an identifier.
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        self.probe(key, |slot| self.records[slot.local as usize].is(key))
    }

    /// Finds for each key the identifier that is likely its own, and touches its record.
    ///
    /// First it touches all the places where the keys belong, in a loop without a branch on what is found there: a
    /// branch that was guessed wrong would hold up the reads that come after it.
    pub(super) fn look_ahead(&self, keys: impl Iterator<Item = Key> + Clone, guesses: &mut Vec<Option<u32>>) {
        let mut touched = 0;
        for key in keys.clone() {
            touched ^= self.slots.get(place_of(key.tag(), self.slots.len())).map_or(0, |slot| slot.local);
        }
        guesses.clear();
        guesses.extend(keys.map(|key| self.probe(key, |_| true)));
        for local in guesses.iter().flatten() {
            touched ^= self.records[*local as usize].key as u32;
        }
        black_box(touched);
    }

    /// The local number of an identifier, new or known, with its times widened. `guess` is its number, or any other's.
    pub(super) fn intern(&mut self, value: &Pending<'_>, guess: Option<u32>) -> Result<u32, InternerFull> {
        let Some(local) = self.local_of(value.key, guess) else { return self.insert(value) };
        self.records[local as usize].widen(value);
        Ok(local)
    }

    fn local_of(&self, key: Key, guess: Option<u32>) -> Option<u32> {
        let guess = guess.filter(|local| self.records.get(*local as usize).is_some_and(|record| record.is(key)));
        guess.or_else(|| self.find(key))
    }

    /// As [`Self::intern`], of a raw text that is an identifier spelled like itself.
    pub(super) fn intern_plain(&mut self, value: &Pending<'_>) -> Result<u32, InternerFull> {
        let local = self.intern(value, None)?;
        self.records[local as usize].key |= PLAIN;
        Ok(local)
    }

    /// The local number of a raw text that is known to be an identifier spelled like itself, with its times widened.
    pub(super) fn recognise_plain(&mut self, value: &Pending<'_>, guess: Option<u32>) -> Option<u32> {
        let local = self.find_plain(value, guess)?;
        self.records[local as usize].widen(value);
        Some(local)
    }

    /// As [`Self::recognise_plain`], once nothing changes any more.
    pub(super) fn find_plain(&self, value: &Pending<'_>, guess: Option<u32>) -> Option<u32> {
        self.local_of(value.key, guess).filter(|local| self.records[*local as usize].is_plain())
    }

    /// Adds a raw text that stands for the identifier `target`, or widens its times.
    pub(super) fn intern_other(&mut self, value: &Pending<'_>, target: u32) -> Result<(), InternerFull> {
        let local = self.intern(&Pending { text: "", ..*value }, None)?;
        if local as usize == self.targets.len() {
            make_room(&mut self.targets);
            self.targets.push(target);
        }
        Ok(())
    }

    /// What a raw text stands for, if it is known, with its times widened.
    pub(super) fn recognise_other(&mut self, value: &Pending<'_>, guess: Option<u32>) -> Option<u32> {
        let local = self.local_of(value.key, guess)? as usize;
        self.records[local].widen(value);
        self.targets.get(local).copied()
    }

    /// As [`Self::recognise_other`], once nothing changes any more.
    pub(super) fn find_other(&self, value: &Pending<'_>) -> Option<u32> {
        self.find(value.key).and_then(|local| self.targets.get(local as usize).copied())
    }

    /// Identifiers that raw texts stand for, with the times of the texts.
    pub(super) fn others(&self) -> impl Iterator<Item = (u32, i64, i64)> + '_ {
        let texts = self.targets.iter().zip(&self.records);
        let texts = texts.filter(|(target, _)| **target != NO_NODE);
        texts.map(|(target, record)| (*target, record.first_seen, record.last_seen))
    }

    /// The number in the first slot with a key's tag that `is` right, among the occupied ones from where the key
    /// belongs.
    fn probe(&self, key: Key, is: impl Fn(&Slot) -> bool) -> Option<u32> {
        let tag = key.tag();
        let mut place = place_of(tag, self.slots.len());
        loop {
            let slot = self.slots.get(place)?;
            if slot.local == NO_NODE {
                return None;
            }
            if slot.tag == tag && is(slot) {
                return Some(slot.local);
            }
            place += 1;
            if place == self.slots.len() {
                place = 0;
            }
        }
    }

    /// Adds an identifier that is not there yet.
    fn insert(&mut self, value: &Pending<'_>) -> Result<u32, InternerFull> {
        let local = self.len() as u32;
        let end = u32::try_from(self.texts.len() + value.text.len()).map_err(|_| InternerFull)?;
        if local >= MAX_LOCAL {
            return Err(InternerFull);
        }
        // At most two thirds are occupied.
        if (self.len() + 1) * 3 > self.slots.len() * 2 {
            self.grow();
        }
        let Pending { text, key, first_seen, last_seen, type_code } = *value;
        self.texts.push(text);
        make_room(&mut self.ends);
        self.ends.push(end);
        make_room(&mut self.types);
        self.types.push(type_code);
        make_room(&mut self.records);
        self.records.push(Record { key: key.0 & !PLAIN, first_seen, last_seen });
        put(&mut self.slots, Slot { tag: key.tag(), local });
        Ok(local)
    }

    fn grow(&mut self) {
        let mut slots = vec![FREE; (self.slots.len() + self.slots.len() / 2).max(16)];
        for slot in self.slots.iter().filter(|slot| slot.local != NO_NODE) {
            put(&mut slots, *slot);
        }
        self.slots = slots;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let numbers = self.ends.capacity() + self.targets.capacity();
        let table = self.slots.capacity() * size_of::<Slot>() + self.records.capacity() * size_of::<Record>();
        table + self.types.capacity() + self.texts.memory_bytes() + numbers * size_of::<u32>()
    }
}

/// Grows a list by a quarter if it is full: shards are about equally large, so doubled lists would be half empty all
/// at once.
fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 4).max(16));
    }
}

/// Where a tag belongs in a table of `slots` slots.
fn place_of(tag: u32, slots: usize) -> usize {
    ((u64::from(tag) * slots as u64) >> 32) as usize
}

/// Puts a slot into the first free place from where it belongs. There is always a free one.
fn put(slots: &mut [Slot], slot: Slot) {
    let from = place_of(slot.tag, slots.len());
    let (before, after) = slots.split_at_mut(from);
    if let Some(free) = after.iter_mut().chain(before).find(|slot| slot.local == NO_NODE) {
        *free = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(text: &str, key: Key) -> Pending<'_> {
        Pending { text, key, first_seen: 1, last_seen: 1, type_code: 3 }
    }

    #[test]
    fn keys_that_differ_in_any_part_are_different_identifiers() {
        let mut shard = Shard::new();
        let base = 0x1234_5678_9abc_def0_1234_5678_9abc_de40_u128;
        // among them keys with the same tag and with the same lower half
        let keys: Vec<Key> =
            [0, 1 << 6, 1 << 63, 1 << 64, 1 << 95, 1 << 96, 1 << 127].map(|bit| Key(base ^ bit)).into();
        for (local, key) in keys.iter().enumerate() {
            assert_eq!(shard.find(*key), None);
            let text = local.to_string();
            assert_eq!(shard.intern(&pending(&text, *key), None), Ok(local as u32));
        }
        let mut guesses = Vec::new();
        shard.look_ahead(keys.iter().copied(), &mut guesses);
        for (local, (key, guess)) in keys.iter().zip(guesses).enumerate() {
            assert!(guess.is_some());
            assert_eq!(shard.intern(&pending("other", *key), guess), Ok(local as u32));
            assert_eq!((shard.text(local), shard.find(*key)), (local.to_string().into(), Some(local as u32)));
        }
    }

    #[test]
    fn a_table_grows_and_wraps_around_without_losing_any() {
        let mut shard = Shard::new();
        // All keys belong near the end, so that probing wraps around.
        let keys: Vec<Key> = (0..5_000_u128).map(|key| Key(u128::from(u32::MAX - 2) << 96 | key << 6)).collect();
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(shard.intern(&pending("x", *key), Some(7)), Ok(number as u32));
        }
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(shard.find(*key), Some(number as u32));
        }
        assert_eq!(shard.types(), vec![3; keys.len()]);
    }

    #[test]
    fn what_is_plain_is_no_part_of_the_key() {
        let mut shard = Shard::new();
        let key = Key(1 << 100);
        assert_eq!(shard.intern(&pending("a", key), None), Ok(0));
        assert_eq!(shard.recognise_plain(&pending("a", key), None), None);
        assert_eq!(shard.intern_plain(&pending("a", key)), Ok(0));
        assert_eq!(shard.recognise_plain(&pending("a", key), None), Some(0));
        assert_eq!((shard.len(), shard.find(key)), (1, Some(0)));
    }
}
