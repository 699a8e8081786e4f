//! Raw texts to identifiers: each distinct text is normalised once.
//!
//! Most raw texts are identifiers already (normalising gives the same text), so a [`Speller`] keeps them in one
//! place, the interner of the identifiers itself, with a mark that says so. Only the others, which normalise to
//! another text or to nothing, are kept beside it, with the identifier that each stands for. So a row costs one
//! look-up for most texts, and the memory is that of the identifiers.
//!
//! Normalising is the engine's: it is given the texts that are not known yet, a batch at a time, and must be a
//! function of the text alone. Two threads may ask for one text at once; they get the same answer.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::interner::{
    Interner, InternerFull, NO_LAST_TIME, NO_NODE, NO_TIME, SHARD_BITS, SHARDS, Scratch, UNKNOWN, lock, route,
};
use super::nodes::Nodes;
use super::shard::{Pending, Shard};
use super::texts::TextFile;

/// What a raw text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelled {
    /// An identifier, by its dense code.
    Node(u32),
    /// No identifier: it is blocked, empty or not well formed.
    Nothing,
    /// Unknown: the text was not in any row.
    Unknown,
}

/// Collects raw texts from several threads; see the module.
#[derive(Debug)]
pub struct Speller {
    nodes: Interner,
    others: Vec<Mutex<Shard>>,
}

impl Speller {
    /// An empty one for type codes `0..types`.
    pub fn new(types: usize) -> Self {
        let others = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Self { nodes: Interner::new(types), others }
    }

    /// Interns one column of a batch of raw texts: `codes` becomes one provisional code per value, [`NO_NODE`] where
    /// there is no identifier. Times are as in [`Interner::intern_batch`].
    ///
    /// `normalise` gets distinct texts that are not known yet and gives the identifier of each, or nothing.
    ///
    /// # Errors
    /// What `normalise` says, or that there is no room.
    pub fn intern_batch<'v, E: From<InternerFull>>(
        &self,
        scratch: &mut Scratch,
        type_code: u8,
        values: impl IntoIterator<Item = Option<&'v str>>,
        times: Option<&[i64]>,
        codes: &mut Vec<u32>,
        normalise: impl FnOnce(&[&'v str]) -> Result<Vec<Option<Cow<'v, str>>>, E>,
    ) -> Result<(), E> {
        codes.clear();
        let pending = self.nodes.join_repeats(scratch, type_code, values, times, codes);
        let starts = route(&pending, &mut scratch.order);
        scratch.codes.clear();
        scratch.codes.resize(pending.len(), UNKNOWN);
        self.nodes.visit_shards(&pending, &starts, |shard, number, members| {
            shard.recognise_all(number, &pending, members, scratch);
            Ok::<(), InternerFull>(())
        })?;
        for shard in (0..SHARDS).filter(|shard| starts[*shard] < starts[*shard + 1]) {
            lock(&self.others[shard]).recognise_others(&pending, starts[shard]..starts[shard + 1], scratch);
        }
        let fresh: Vec<usize> = (0..pending.len()).filter(|member| scratch.codes[*member] == UNKNOWN).collect();
        if !fresh.is_empty() {
            let texts: Vec<&'v str> = fresh.iter().map(|member| pending[*member].text).collect();
            for (&member, normal) in fresh.iter().zip(normalise(&texts)?) {
                scratch.codes[member] = self.learn(type_code, &pending[member], normal)?;
            }
        }
        for code in codes.iter_mut().filter(|code| **code != NO_NODE) {
            *code = scratch.codes[*code as usize];
        }
        Ok(())
    }

    /// Remembers what a text stands for.
    fn learn(&self, type_code: u8, raw: &Pending<'_>, normal: Option<Cow<'_, str>>) -> Result<u32, InternerFull> {
        let code = match &normal {
            Some(text) if text == raw.text => {
                let local = self.nodes.shard(raw.key.shard()).intern_plain(raw)?;
                return Ok(provisional(local, raw.key.shard()));
            }
            Some(text) => {
                let key = self.nodes.key(type_code, text);
                let value = Pending { text, key, first_seen: NO_TIME, last_seen: NO_LAST_TIME, type_code };
                provisional(self.nodes.shard(key.shard()).intern(&value, None)?, key.shard())
            }
            None => NO_NODE,
        };
        lock(&self.others[usize::from(raw.key.shard())]).intern_other(raw, code)?;
        Ok(code)
    }

    /// Bytes of the texts that are in memory.
    pub fn text_bytes(&self) -> usize {
        self.nodes.text_bytes()
    }

    /// Writes the texts of identifiers that are in memory to a file, always the same.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write_texts(&self, file: &Arc<dyn TextFile>) -> io::Result<()> {
        self.nodes.write_texts(file)
    }

    /// How many identifiers there are.
    pub fn identifiers(&self) -> usize {
        self.nodes.len()
    }

    /// Memory held, in bytes, for a memory pool to account for.
    pub fn memory_bytes(&self) -> usize {
        self.nodes.memory_bytes() + self.others.iter().map(|shard| lock(shard).memory_bytes()).sum::<usize>()
    }

    /// Ends it: the identifiers with dense codes and the times of all their spellings, and the spellings.
    pub fn freeze(self) -> (Nodes, Spellings) {
        let mut nodes = self.nodes.freeze();
        let others: Vec<Shard> =
            self.others.into_iter().map(|shard| shard.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        for (code, first_seen, last_seen) in others.iter().flat_map(Shard::others) {
            nodes.widen(code, first_seen, last_seen);
        }
        (nodes, Spellings { others })
    }
}

fn provisional(local: u32, shard: u8) -> u32 {
    (local << SHARD_BITS) | u32::from(shard)
}

/// Raw texts that are not identifiers themselves, frozen; belongs to the [`Nodes`] that it was made with.
#[derive(Debug, Default)]
pub struct Spellings {
    others: Vec<Shard>,
}

impl Spellings {
    /// What each raw text of a column stands for, one per value; a null is [`Spelled::Nothing`].
    pub fn resolve_batch<'v>(
        &self,
        nodes: &Nodes,
        scratch: &mut Scratch,
        type_code: u8,
        values: impl IntoIterator<Item = Option<&'v str>>,
    ) -> Vec<Spelled> {
        let mut positions = Vec::new();
        let pending = nodes.join_repeats(scratch, type_code, values, &mut positions);
        let starts = route(&pending, &mut scratch.order);
        let mut found = vec![Spelled::Unknown; pending.len()];
        nodes.find_plain(&pending, &starts, scratch, |member, node| found[member] = Spelled::Node(node));
        for (value, found) in pending.iter().zip(&mut found).filter(|(_, found)| **found == Spelled::Unknown) {
            *found = match self.others.get(usize::from(value.key.shard())).and_then(|shard| shard.find_other(value)) {
                Some(NO_NODE) => Spelled::Nothing,
                Some(code) => Spelled::Node(nodes.dense(code)),
                None => Spelled::Unknown,
            };
        }
        positions.into_iter().map(|p| found.get(p as usize).copied().unwrap_or(Spelled::Nothing)).collect()
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.others.iter().map(Shard::memory_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::thread;

    fn resolve(spellings: &Spellings, nodes: &Nodes, texts: &[&str]) -> Vec<Spelled> {
        spellings.resolve_batch(nodes, &mut Scratch::default(), 0, texts.iter().map(|text| Some(*text)))
    }

    /// Trimmed and lower case; what is in brackets is blocked.
    fn normal(raw: &str) -> Option<Cow<'_, str>> {
        let text = raw.trim().to_lowercase();
        (!text.is_empty() && !text.starts_with('(')).then_some(Cow::Owned(text))
    }

    fn intern(speller: &Speller, values: &[Option<&str>], times: Option<&[i64]>) -> (Vec<u32>, usize) {
        let mut codes = vec![9];
        let asked = Cell::new(0);
        let normalise = |texts: &[&str]| {
            asked.set(asked.get() + texts.len());
            Ok::<_, InternerFull>(texts.iter().map(|text| normal(text).map(|t| Cow::Owned(t.into_owned()))).collect())
        };
        let done =
            speller.intern_batch(&mut Scratch::default(), 0, values.iter().copied(), times, &mut codes, normalise);
        assert_eq!(done, Ok(()));
        (codes, asked.get())
    }

    #[test]
    fn spellings_of_one_identifier_share_its_code_and_each_is_normalised_once() {
        let speller = Speller::new(1);
        let (first, asked) = intern(&speller, &[Some("a"), Some(" A"), None, Some("(x)"), Some("a"), Some("")], None);
        assert_eq!((first[0], first[2], first[3], first[5]), (first[1], NO_NODE, NO_NODE, NO_NODE));
        assert_eq!(asked, 4);
        let (second, asked) = intern(&speller, &[Some(" A"), Some("(x)"), Some("a"), Some("A "), Some("")], None);
        assert_eq!(second, [first[0], NO_NODE, first[0], first[0], NO_NODE]);
        assert_eq!(asked, 1, "only the new one");
        let (nodes, spellings) = speller.freeze();
        assert_eq!((nodes.len(), nodes.text(0)), (1, "a".into()));
        let texts = ["a", " A", "(x)", "", " a", "b"];
        let resolved = resolve(&spellings, &nodes, &texts);
        use Spelled::{Node, Nothing, Unknown};
        assert_eq!(resolved, [Node(0), Node(0), Nothing, Nothing, Unknown, Unknown]);
        let values = texts.iter().map(|text| Some(*text)).chain([None, Some("a")]);
        let batch = spellings.resolve_batch(&nodes, &mut Scratch::default(), 0, values);
        assert_eq!(batch, [Node(0), Node(0), Nothing, Nothing, Unknown, Unknown, Nothing, Node(0)]);
    }

    #[test]
    fn an_identifier_that_is_not_spelled_like_itself_is_not_taken_for_a_raw_text() {
        // `A` is the identifier `a`; nobody has asked what the raw text `a` is.
        let speller = Speller::new(1);
        let (_, asked) = intern(&speller, &[Some("A")], None);
        let (nodes, spellings) = speller.freeze();
        assert_eq!((asked, resolve(&spellings, &nodes, &["a"])), (1, vec![Spelled::Unknown]));
    }

    #[test]
    fn times_are_the_widest_over_all_spellings() {
        let speller = Speller::new(1);
        intern(&speller, &[Some("A"), Some("a"), Some("b"), Some("(x)")], Some(&[2, 5, NO_TIME, 1]));
        intern(&speller, &[Some("A"), Some("B")], Some(&[9, NO_TIME]));
        let (nodes, _) = speller.freeze();
        let times = |text| nodes.lookup(0, text).map(|node| (nodes.first_seen(node), nodes.last_seen(node)));
        assert_eq!(times("a"), Some((2, 9)));
        assert_eq!(times("b"), Some((NO_TIME, NO_LAST_TIME)));
    }

    #[test]
    fn threads_agree() {
        let values: Vec<String> = (0..30_000_u32)
            .map(|number| match number % 3 {
                0 => format!("v{}", number % 977),
                1 => format!(" V{}", number % 977),
                _ => format!("(v{}", number % 31),
            })
            .collect();
        let speller = Speller::new(1);
        let codes: Vec<Vec<u32>> = thread::scope(|scope| {
            let run = |part: usize| {
                let (speller, values) = (&speller, &values);
                scope.spawn(move || {
                    let turned: Vec<Option<&str>> = (0..values.len())
                        .map(|row| Some(values[(row + part * 7_000) % values.len()].as_str()))
                        .collect();
                    let mut codes: Vec<u32> =
                        turned.chunks(999).flat_map(|batch| intern(speller, batch, None).0).collect();
                    codes.rotate_right(part * 7_000 % values.len());
                    codes
                })
            };
            let running: Vec<_> = (0..4).map(run).collect();
            running.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
        });
        assert!(codes.windows(2).all(|pair| pair[0] == pair[1]));
        let (nodes, spellings) = speller.freeze();
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        for ((raw, code), resolved) in values.iter().zip(&codes[0]).zip(resolve(&spellings, &nodes, &texts)) {
            let expected = match normal(raw) {
                Some(text) => Spelled::Node(nodes.lookup(0, &text).unwrap_or(NO_NODE)),
                None => Spelled::Nothing,
            };
            assert_eq!(resolved, expected, "{raw}");
            assert_eq!(nodes.dense(*code), if let Spelled::Node(node) = expected { node } else { NO_NODE });
        }
    }
}
