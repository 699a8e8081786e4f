//! A part of the interner: a hash table of its own with the texts of its identifiers.
//!
//! Nearly all the time of interning is waiting for memory, so an identifier that is known costs two reads: one slot
//! of the table, which has everything but the text, and the text itself, which must be compared, since equal
//! hashes do not make equal identifiers. The table is open-addressed with linear probing, and slots are in the
//! order of their keys, so that it grows by copying from front to back. Lookups of a batch are started together
//! ([`Shard::look_ahead`]), so that the processor waits for the memory of several at once.

use std::hint::black_box;

use super::interner::{InternerFull, NO_NODE, SHARD_BITS};

const MAX_LOCAL: u32 = u32::MAX >> SHARD_BITS;
/// In the length of a slot: the raw text that is spelled like the identifier is this identifier.
const PLAIN: u32 = 1 << 31;

/// What a slot keeps of an identifier's hash: 24 bits, then the type code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u32);

impl Key {
    pub(super) fn new(hash: u64, type_code: u8) -> Self {
        Self((hash as u32) << 8 | u32::from(type_code))
    }

    fn type_code(self) -> u8 {
        self.0 as u8
    }

    /// Where the key belongs in a table of `slots` slots.
    fn place(self, slots: usize) -> usize {
        // The product spreads the type code over the upper bits, which decide.
        let mixed = self.0.wrapping_mul(0x9E37_79B1);
        ((u64::from(mixed) * slots as u64) >> 32) as usize
    }
}

/// An identifier that is to be interned.
pub(super) struct Pending<'v> {
    pub(super) text: &'v str,
    pub(super) shard: u8,
    pub(super) key: Key,
    pub(super) first_seen: i64,
    pub(super) last_seen: i64,
}

impl Pending<'_> {
    pub(super) fn widen(&mut self, first_seen: i64, last_seen: i64) {
        self.first_seen = self.first_seen.min(first_seen);
        self.last_seen = self.last_seen.max(last_seen);
    }
}

/// An entry of the table, aligned so that it never lies in two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Slot {
    key: Key,
    /// The identifier's number in the shard, or [`NO_NODE`] if the slot is free.
    local: u32,
    start: u32,
    /// Bytes of the text, and [`PLAIN`].
    len: u32,
    first_seen: i64,
    last_seen: i64,
}

impl Slot {
    fn len(&self) -> usize {
        (self.len & !PLAIN) as usize
    }

    fn widen(&mut self, value: &Pending<'_>) {
        self.first_seen = self.first_seen.min(value.first_seen);
        self.last_seen = self.last_seen.max(value.last_seen);
    }
}

const FREE: Slot = Slot { key: Key(0), local: NO_NODE, start: 0, len: 0, first_seen: 0, last_seen: 0 };

/// The identifiers whose hashes end alike.
#[derive(Debug)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    texts: String,
    /// `ends[local]..ends[local + 1]` is a text.
    ends: Vec<u32>,
    /// By local number, the identifier that a text stands for; empty where texts are identifiers.
    targets: Vec<u32>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), texts: String::new(), ends: vec![0], targets: Vec::new() }
    }

    /// How many identifiers there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    pub(super) fn text(&self, local: usize) -> &str {
        &self.texts[self.ends[local] as usize..self.ends[local + 1] as usize]
    }

    /// The local number of an identifier.
    pub(super) fn find(&self, key: Key, text: &str) -> Option<u32> {
        self.probe(key, |slot| self.holds(slot, key, text)).map(|place| self.slots[place].local)
    }

    /// Finds for each key the slot that is likely its identifier's, and touches its text.
    ///
    /// First it touches all the places where the keys belong, in a loop without a branch on what is found there: a
    /// branch that was guessed wrong would hold up the reads that come after it.
    pub(super) fn look_ahead(&self, keys: impl Iterator<Item = Key> + Clone, guesses: &mut Vec<Option<u32>>) {
        let mut touched = 0;
        for key in keys.clone() {
            touched ^= self.slots.get(key.place(self.slots.len())).map_or(0, |slot| slot.local);
        }
        guesses.clear();
        guesses.extend(keys.map(|key| {
            let found = self.probe(key, |slot| slot.key == key);
            found.map(|place| place as u32)
        }));
        let texts = self.texts.as_bytes();
        for place in guesses.iter().flatten() {
            let slot = &self.slots[*place as usize];
            for end in [slot.start as usize, slot.start as usize + slot.len().saturating_sub(1)] {
                touched ^= texts.get(end).map_or(0, |byte| u32::from(*byte));
            }
        }
        black_box(touched);
    }

    /// The local number of an identifier, new or known, with its times widened. `guess` is its slot, or any other:
    /// it may be wrong or of an earlier table.
    pub(super) fn intern(&mut self, value: &Pending<'_>, guess: Option<u32>) -> Result<u32, InternerFull> {
        let Some(found) = self.place_of(value, guess) else { return self.insert(value) };
        let slot = &mut self.slots[found];
        slot.widen(value);
        Ok(slot.local)
    }

    fn place_of(&self, value: &Pending<'_>, guess: Option<u32>) -> Option<usize> {
        let holds = |slot: &Slot| self.holds(slot, value.key, value.text);
        let guess = guess.map(|place| place as usize).filter(|place| self.slots.get(*place).is_some_and(holds));
        guess.or_else(|| self.probe(value.key, |slot| holds(slot)))
    }

    /// As [`Self::intern`], of a raw text that is an identifier spelled like itself.
    pub(super) fn intern_plain(&mut self, value: &Pending<'_>) -> Result<u32, InternerFull> {
        let local = self.intern(value, None)?;
        if let Some(place) = self.place_of(value, None) {
            self.slots[place].len |= PLAIN;
        }
        Ok(local)
    }

    /// The local number of a raw text that is known to be an identifier spelled like itself, with its times widened.
    pub(super) fn recognise_plain(&mut self, value: &Pending<'_>, guess: Option<u32>) -> Option<u32> {
        let place = self.place_of(value, guess)?;
        let slot = &mut self.slots[place];
        (slot.len & PLAIN != 0).then(|| {
            slot.widen(value);
            slot.local
        })
    }

    /// As [`Self::recognise_plain`], once nothing changes any more.
    pub(super) fn find_plain(&self, value: &Pending<'_>, guess: Option<u32>) -> Option<u32> {
        let slot = &self.slots[self.place_of(value, guess)?];
        (slot.len & PLAIN != 0).then_some(slot.local)
    }

    /// Adds a raw text that stands for the identifier `target`, or widens its times.
    pub(super) fn intern_other(&mut self, value: &Pending<'_>, target: u32) -> Result<(), InternerFull> {
        let local = self.intern(value, None)?;
        if local as usize == self.targets.len() {
            self.targets.push(target);
        }
        Ok(())
    }

    /// What a raw text stands for, if it is known, with its times widened.
    pub(super) fn recognise_other(&mut self, value: &Pending<'_>, guess: Option<u32>) -> Option<u32> {
        let place = self.place_of(value, guess)?;
        self.slots[place].widen(value);
        self.targets.get(self.slots[place].local as usize).copied()
    }

    /// As [`Self::recognise_other`], once nothing changes any more.
    pub(super) fn find_other(&self, value: &Pending<'_>) -> Option<u32> {
        self.place_of(value, None).and_then(|place| self.targets.get(self.slots[place].local as usize).copied())
    }

    /// Identifiers that raw texts stand for, with the times of the texts.
    pub(super) fn others(&self) -> impl Iterator<Item = (u32, i64, i64)> + '_ {
        let occupied = self.slots.iter().filter(|slot| slot.local != NO_NODE);
        let with_target = occupied.map(|slot| (self.targets[slot.local as usize], slot.first_seen, slot.last_seen));
        with_target.filter(|(target, ..)| *target != NO_NODE)
    }

    /// The first slot that `is` right among the occupied ones from where a key belongs.
    fn probe(&self, key: Key, is: impl Fn(&Slot) -> bool) -> Option<usize> {
        let mut place = key.place(self.slots.len());
        loop {
            let slot = self.slots.get(place)?;
            if is(slot) {
                return Some(place);
            }
            if slot.local == NO_NODE {
                return None;
            }
            place += 1;
            if place == self.slots.len() {
                place = 0;
            }
        }
    }

    /// Whether a slot is that of an identifier.
    fn holds(&self, slot: &Slot, key: Key, text: &str) -> bool {
        let start = slot.start as usize;
        slot.key == key
            && slot.len() == text.len()
            && slot.local != NO_NODE
            && &self.texts.as_bytes()[start..start + text.len()] == text.as_bytes()
    }

    /// Adds an identifier that is not there yet.
    fn insert(&mut self, value: &Pending<'_>) -> Result<u32, InternerFull> {
        let local = self.len() as u32;
        let start = self.texts.len() as u32;
        let end = u32::try_from(self.texts.len() + value.text.len()).map_err(|_| InternerFull)?;
        if local >= MAX_LOCAL || end - start >= PLAIN {
            return Err(InternerFull);
        }
        // At most two thirds are occupied.
        if (self.len() + 1) * 3 > self.slots.len() * 2 {
            self.grow();
        }
        let Pending { text, key, first_seen, last_seen, .. } = *value;
        self.texts.push_str(text);
        self.ends.push(end);
        place(&mut self.slots, Slot { key, local, start, len: end - start, first_seen, last_seen });
        Ok(local)
    }

    fn grow(&mut self) {
        let mut slots = vec![FREE; (self.slots.len() + self.slots.len() / 2).max(16)];
        for slot in self.slots.iter().filter(|slot| slot.local != NO_NODE) {
            place(&mut slots, *slot);
        }
        self.slots = slots;
    }

    /// Types, and first and last times, by local number.
    pub(super) fn columns(&self) -> (Vec<u8>, Vec<(i64, i64)>) {
        let mut types = vec![0; self.len()];
        let mut times = vec![(0, 0); self.len()];
        for slot in self.slots.iter().filter(|slot| slot.local != NO_NODE) {
            types[slot.local as usize] = slot.key.type_code();
            times[slot.local as usize] = (slot.first_seen, slot.last_seen);
        }
        (types, times)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let numbers = self.ends.capacity() + self.targets.capacity();
        self.slots.capacity() * size_of::<Slot>() + self.texts.capacity() + numbers * size_of::<u32>()
    }
}

/// Puts a slot into the first free place from where its key belongs. There is always a free one.
fn place(slots: &mut [Slot], slot: Slot) {
    let from = slot.key.place(slots.len());
    let (before, after) = slots.split_at_mut(from);
    if let Some(free) = after.iter_mut().chain(before).find(|slot| slot.local == NO_NODE) {
        *free = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(text: &str, key: Key) -> Pending<'_> {
        Pending { text, shard: 0, key, first_seen: 1, last_seen: 1 }
    }

    #[test]
    fn equal_keys_are_told_apart_by_text() {
        let mut shard = Shard::new();
        let key = Key::new(0x1234_5678, 3);
        let texts = ["a", "b", "ab", "ba", ""];
        for (local, text) in texts.iter().enumerate() {
            assert_eq!(shard.find(key, text), None);
            assert_eq!(shard.intern(&pending(text, key), None), Ok(local as u32));
        }
        let mut guesses = Vec::new();
        shard.look_ahead(texts.iter().map(|_| key), &mut guesses);
        for (local, (text, guess)) in texts.iter().zip(guesses).enumerate() {
            assert!(guess.is_some());
            assert_eq!(shard.intern(&pending(text, key), guess), Ok(local as u32));
            assert_eq!((shard.text(local), shard.find(key, text)), (*text, Some(local as u32)));
        }
    }

    #[test]
    fn a_table_grows_and_wraps_around_without_losing_any() {
        let mut shard = Shard::new();
        let texts: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
        // All keys belong near the end, so that probing wraps around.
        let near_end =
            (0..u32::MAX).step_by(256).map(|key| Key(key | 1)).filter(|key| key.place(1 << 20) > (1 << 20) - 9);
        let keys: Vec<Key> = near_end.take(50).collect();
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(shard.intern(&pending(text, keys[number % keys.len()]), Some(7)), Ok(number as u32));
        }
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(shard.find(keys[number % keys.len()], text), Some(number as u32));
        }
        assert_eq!(shard.columns().0, vec![1; texts.len()]);
    }

    #[test]
    fn keys_that_differ_in_their_hash_belong_to_different_places() {
        let mut places: Vec<usize> = (0..1_000).map(|hash| Key::new(hash, 2).place(1 << 16)).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 900, "only {} places for 1,000 keys", places.len());
    }
}
