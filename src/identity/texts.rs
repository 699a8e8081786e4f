//! The texts of a shard's identifiers: in memory, and those that it has no room for on disk.
//!
//! Identifiers are told apart by their keys, so no text is looked at while they are collected: those that are there
//! can be written away at any moment, and are read again when ids and tables are made.

use std::borrow::Cow;
use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Who reads one text after the other gets this many bytes at once.
const AHEAD: usize = 1 << 16;

/// Where texts are written that memory has no room for.
pub trait TextFile: Debug + Send + Sync {
    /// Appends some bytes and says where they begin.
    ///
    /// # Errors
    /// When the disk is full.
    fn append(&self, texts: &[u8]) -> io::Result<u64>;

    /// Fills `into` with what was appended, from the byte `at` on.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;

    /// Keeps why a text could not be read, so that whoever made something of it finds out.
    fn failed(&self, error: io::Error);
}

/// Texts one after the other; each is named by where it begins and ends among all.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// Those that are in memory: the last ones.
    held: String,
    /// The others, in their order.
    written: Option<Written>,
}

#[derive(Debug)]
struct Written {
    file: Arc<dyn TextFile>,
    /// By part, where it ends among all texts, and where it begins in the file.
    parts: Vec<(usize, u64)>,
    ahead: Mutex<Ahead>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Ahead {
    /// Where it begins among all texts.
    start: usize,
    bytes: Vec<u8>,
    /// Where the text that was asked for last ends.
    next: usize,
}

impl Texts {
    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.written_len() + self.held.len()
    }

    fn written_len(&self) -> usize {
        self.written.as_ref().and_then(|written| written.parts.last()).map_or(0, |part| part.0)
    }

    /// Adds a text at the end.
    pub(super) fn push(&mut self, text: &str) {
        if self.held.capacity() - self.held.len() < text.len() {
            self.held.reserve_exact(text.len().max(self.held.len() / 4));
        }
        self.held.push_str(text);
    }

    /// The text at a place. If it cannot be read it is empty, and the file is told.
    pub(super) fn get(&self, place: Range<usize>) -> Cow<'_, str> {
        let start = self.written_len();
        match &self.written {
            Some(written) if place.end <= start => written.get(place).unwrap_or_else(|error| {
                written.file.failed(error);
                Cow::Borrowed("")
            }),
            _ => Cow::Borrowed(&self.held[place.start - start..place.end - start]),
        }
    }

    /// Writes all that is in memory to a file, always the same.
    ///
    /// # Errors
    /// When the disk is full; nothing has changed then.
    pub(super) fn write_to(&mut self, file: &Arc<dyn TextFile>) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let part = (self.len(), file.append(self.held.as_bytes())?);
        let new = || Written { file: Arc::clone(file), parts: Vec::new(), ahead: Mutex::default() };
        self.written.get_or_insert_with(new).parts.push(part);
        self.held = String::new();
        Ok(())
    }

    /// Memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let written = self.written.as_ref();
        self.held.capacity() + written.map_or(0, |written| written.parts.capacity() * size_of::<(usize, u64)>())
    }
}

impl Written {
    fn get(&self, place: Range<usize>) -> io::Result<Cow<'static, str>> {
        if place.is_empty() {
            return Ok(Cow::Borrowed(""));
        }
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let in_turn = ahead.next == place.start;
        ahead.next = place.end;
        if !ahead.has(&place) {
            let wanted = if in_turn { AHEAD } else { 0 };
            ahead.read(self, place.start, place.len().max(wanted))?;
        }
        let text = &ahead.bytes[place.start - ahead.start..place.end - ahead.start];
        let text = std::str::from_utf8(text).map_err(io::Error::other)?;
        Ok(Cow::Owned(text.to_owned()))
    }
}

impl Ahead {
    fn has(&self, place: &Range<usize>) -> bool {
        self.start <= place.start && place.end <= self.start + self.bytes.len()
    }

    /// Reads from a place on, as much as is wanted and in the same part.
    fn read(&mut self, written: &Written, start: usize, wanted: usize) -> io::Result<()> {
        let part = written.parts.partition_point(|(end, _)| *end <= start);
        let (end, at) = written.parts[part];
        let first = part.checked_sub(1).map_or(0, |before| written.parts[before].0);
        self.start = start;
        self.bytes.clear();
        self.bytes.resize(wanted.min(end - start), 0);
        let read = written.file.read(at + (start - first) as u64, &mut self.bytes);
        if read.is_err() {
            self.bytes.clear();
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file in memory, which may break.
    #[derive(Debug, Default)]
    struct Held {
        bytes: Mutex<Vec<u8>>,
        broken: Mutex<bool>,
        said: Mutex<Vec<String>>,
    }

    impl TextFile for Held {
        fn append(&self, texts: &[u8]) -> io::Result<u64> {
            let mut bytes = self.bytes.lock().unwrap();
            // others write between
            bytes.push(b'#');
            let start = bytes.len() as u64;
            bytes.extend_from_slice(texts);
            Ok(start)
        }

        fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
            if *self.broken.lock().unwrap() {
                return Err(io::Error::other("broken"));
            }
            let bytes = self.bytes.lock().unwrap();
            into.copy_from_slice(&bytes[at as usize..at as usize + into.len()]);
            Ok(())
        }

        fn failed(&self, error: io::Error) {
            self.said.lock().unwrap().push(error.to_string());
        }
    }

    proptest! {
        #[test]
        fn every_text_is_what_was_pushed_wherever_it_is(
            texts in prop::collection::vec("[a-zé]{0,9}", 1..60),
            writes in prop::collection::vec(any::<bool>(), 60),
            asked in prop::collection::vec(0..60_usize, 200),
        ) {
            let file: Arc<dyn TextFile> = Arc::new(Held::default());
            let mut all = Texts::default();
            let mut places = Vec::new();
            for (text, write) in texts.iter().zip(writes) {
                let start = all.len();
                all.push(text);
                places.push(start..all.len());
                if write {
                    all.write_to(&file).unwrap();
                }
            }
            let in_turn = 0..texts.len();
            for asked in in_turn.chain(asked.into_iter().map(|asked| asked % texts.len())) {
                prop_assert_eq!(&all.get(places[asked].clone()), &texts[asked]);
            }
        }
    }

    #[test]
    fn a_text_that_cannot_be_read_is_empty_and_the_file_is_told_each_time() {
        let held = Arc::new(Held::default());
        let file: Arc<dyn TextFile> = Arc::clone(&held) as _;
        let mut texts = Texts::default();
        texts.push("one");
        texts.write_to(&file).unwrap();
        texts.push("two");
        *held.broken.lock().unwrap() = true;
        assert_eq!((texts.get(0..3), texts.get(0..3), texts.get(3..6)), ("".into(), "".into(), "two".into()));
        assert_eq!(*held.said.lock().unwrap(), ["broken", "broken"]);
        *held.broken.lock().unwrap() = false;
        assert_eq!(texts.get(0..3), "one");
    }

    #[test]
    fn what_is_written_is_no_longer_held() {
        let file: Arc<dyn TextFile> = Arc::new(Held::default());
        let mut texts = Texts::default();
        texts.push(&"x".repeat(100_000));
        assert!(texts.memory_bytes() >= 100_000);
        texts.write_to(&file).unwrap();
        assert!(texts.memory_bytes() < 1_000);
        assert_eq!(texts.len(), 100_000);
    }
}
