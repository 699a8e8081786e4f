//! The identifiers of an identity, frozen: dense codes `0..len` and what is known of each.
//!
//! Made by [`super::Interner::freeze`]. Codes are not canonical (they depend on threads and order); compare two
//! identifiers with [`Nodes::compare`], which is by (type, text), strongest type first.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::io;
use std::sync::Arc;

use super::interner::{Hashing, NO_NODE, SHARD_BITS, SHARDS, Scratch, join_repeats};
use super::shard::{Pending, Shard};
use super::texts::TextFile;

/// All identifiers with type, text and times, by dense code.
#[derive(Debug)]
pub struct Nodes {
    shards: Vec<Shard>,
    /// The first dense code of each shard, then the number of all.
    bases: [u32; SHARDS + 1],
    /// Times 2^32, rounded down: a product in place of a division.
    shards_per_node: u64,
    hashing: Hashing,
    types: Vec<u8>,
    type_count: usize,
}

impl Nodes {
    pub(super) fn new(shards: Vec<Shard>, hashing: Hashing, type_count: usize) -> Self {
        let mut bases = [0; SHARDS + 1];
        for (index, shard) in shards.iter().enumerate() {
            bases[index + 1] = bases[index] + shard.len() as u32;
        }
        let mut types = Vec::with_capacity(bases[SHARDS] as usize);
        for shard in &shards {
            types.extend_from_slice(shard.types());
        }
        let shards_per_node = ((SHARDS as u64) << 32) / u64::from(bases[SHARDS].max(1));
        Self { shards, bases, shards_per_node, hashing, types, type_count }
    }

    /// How many identifiers there are.
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// The number of types the interner was made for.
    pub fn type_count(&self) -> usize {
        self.type_count
    }

    /// The dense code of a provisional one; [`NO_NODE`] stays what it is.
    pub fn dense(&self, provisional: u32) -> u32 {
        if provisional == NO_NODE {
            return NO_NODE;
        }
        self.bases[provisional as usize & (SHARDS - 1)] + (provisional >> SHARD_BITS)
    }

    /// The type code of an identifier.
    pub fn type_of(&self, node: u32) -> u8 {
        self.types[node as usize]
    }

    /// The normalised text of an identifier. If it is in a file and cannot be read it is empty, and the file is told.
    pub fn text(&self, node: u32) -> Cow<'_, str> {
        let shard = self.shard_of(node);
        self.shards[shard].text((node - self.bases[shard]) as usize)
    }

    /// Shards are about equally large, so the first guess is right or next to it.
    fn shard_of(&self, node: u32) -> usize {
        let mut shard = ((u64::from(node) * self.shards_per_node) >> 32) as usize;
        while self.bases[shard] > node {
            shard -= 1;
        }
        while self.bases[shard + 1] <= node {
            shard += 1;
        }
        shard
    }

    /// The earliest time seen, in microseconds, or [`super::NO_TIME`].
    pub fn first_seen(&self, node: u32) -> i64 {
        self.times(node).0
    }

    /// The latest time seen, in microseconds, or [`super::NO_LAST_TIME`].
    pub fn last_seen(&self, node: u32) -> i64 {
        self.times(node).1
    }

    fn times(&self, node: u32) -> (i64, i64) {
        let shard = self.shard_of(node);
        self.shards[shard].times((node - self.bases[shard]) as usize)
    }

    /// Widens the times of an identifier, by its provisional code, to those of another spelling of it.
    pub(super) fn widen(&mut self, provisional: u32, first_seen: i64, last_seen: i64) {
        let shard = &mut self.shards[provisional as usize & (SHARDS - 1)];
        shard.widen((provisional >> SHARD_BITS) as usize, first_seen, last_seen);
    }

    /// As [`join_repeats`], without times.
    pub(super) fn join_repeats<'v>(
        &self,
        scratch: &mut Scratch,
        type_code: u8,
        values: impl IntoIterator<Item = Option<&'v str>>,
        positions: &mut Vec<u32>,
    ) -> Vec<Pending<'v>> {
        join_repeats(&self.hashing, scratch, type_code, values, None, positions)
    }

    /// Calls `found` with each member of a batch that is known to be an identifier spelled like itself, and with its
    /// code. `order` of the scratch and `starts` are as [`route`](super::interner::route) makes them.
    pub(super) fn find_plain(
        &self,
        pending: &[Pending<'_>],
        starts: &[usize; SHARDS + 1],
        scratch: &mut Scratch,
        mut found: impl FnMut(usize, u32),
    ) {
        let Scratch { order, guesses, .. } = scratch;
        for (number, shard) in self.shards.iter().enumerate() {
            let members = &order[starts[number]..starts[number + 1]];
            shard.look_ahead(members.iter().map(|member| pending[*member as usize].key), guesses);
            for (&member, guess) in members.iter().zip(guesses.iter()) {
                if let Some(local) = shard.find_plain(&pending[member as usize], *guess) {
                    found(member as usize, self.bases[number] + local);
                }
            }
        }
    }

    /// The code of an identifier, if it occurs.
    pub fn lookup(&self, type_code: u8, text: &str) -> Option<u32> {
        let key = self.hashing.key(type_code, text);
        let shard = usize::from(key.shard());
        self.shards[shard].find(key).map(|local| self.bases[shard] + local)
    }

    /// Canonical order: by type, strongest first, then by text.
    pub fn compare(&self, left: u32, right: u32) -> Ordering {
        if left == right {
            return Ordering::Equal;
        }
        self.type_of(left).cmp(&self.type_of(right)).then_with(|| self.text(left).cmp(&self.text(right)))
    }

    /// Writes the texts that are in memory to a file, always the same.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write_texts(&mut self, file: &Arc<dyn TextFile>) -> io::Result<()> {
        self.shards.iter_mut().try_for_each(|shard| shard.write_texts(file))
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.types.capacity() + self.shards.iter().map(Shard::memory_bytes).sum::<usize>()
    }
}
