//! The audit log: what was done with people's data, in entries that name each other.
//!
//! Entry `n` is the object `_kinfold/audit/<n>.json`, created by put-if-absent and never written again. It holds the SHA-256
//! of the bytes of entry `n - 1`, so that an entry that is changed, removed or moved breaks the chain at the next one. The
//! newest entry has none after it: `head.json` keeps its number and hash, and whoever keeps those elsewhere can prove that
//! the log still has all that it had then.
//!
//! # Rules
//! - An entry is in the log, or it is not: two writers at once get two numbers.
//! - The head may be behind, when a writer died between the two puts; it is never ahead of what was written.
//! - Entries hold no values of rows: whoever is erased need not be erased from here.
//!
//! # Not here
//! Whoever may write all objects of the warehouse can write another log with another head. Only a hash that is kept where they
//! cannot write tells.

use super::record::AT_ONCE;
use super::store::{Created, State, number_of, numbered, to_json};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const FOLDER: &str = "_kinfold/audit";
const HEAD: &str = "_kinfold/audit/head.json";
/// What the first entry names as the one before it.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, from 1.
    pub number: u64,
    /// By the wall clock.
    pub at: DateTime<Utc>,
    /// Who: user and machine, as the environment names them.
    pub by: String,
    /// What: `run`, `sync`, `query`, `export`, `forget` and others.
    pub action: String,
    /// What there is to know of it; no values of rows.
    pub facts: Value,
    /// Makes the bytes the writer's own.
    nonce: String,
    /// SHA-256 of the entry before, in hexadecimal digits.
    previous: String,
}

/// An entry by number and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Its number; 0 when there is none.
    pub number: u64,
    /// SHA-256 of its bytes.
    pub hash: String,
}

/// What a check of the whole log found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// How many entries there are.
    pub entries: usize,
    /// The newest entry.
    pub head: AuditHead,
    /// What is wrong, in the order of the entries; nothing when the log is whole.
    pub faults: Vec<String>,
}

/// The log of a warehouse.
#[derive(Debug, Clone)]
pub struct AuditLog<'a> {
    state: &'a State,
}

impl<'a> AuditLog<'a> {
    /// The log among these objects.
    pub fn new(state: &'a State) -> Self {
        Self { state }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// `Data` when the head is damaged; `Storage`.
    pub async fn append(&self, by: &str, action: &str, facts: Value, now: DateTime<Utc>) -> Result<AuditHead> {
        let mut last = self.newest().await?;
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        loop {
            let entry = AuditEntry {
                number: last.number + 1,
                at: now,
                by: by.to_owned(),
                action: action.to_owned(),
                facts: facts.clone(),
                nonce: nonce.clone(),
                previous: last.hash,
            };
            let bytes = to_json(&entry)?;
            match self.state.create(&numbered(FOLDER, entry.number), bytes.clone()).await? {
                Created::Ours => {
                    let head = AuditHead { number: entry.number, hash: hash(&bytes) };
                    self.state.replace(HEAD, to_json(&head)?).await?;
                    return Ok(head);
                }
                // somebody was first: theirs is the one before ours
                Created::Theirs(theirs) => last = AuditHead { number: entry.number, hash: hash(&theirs) },
            }
        }
    }

    /// Where to go on: the head, or, where there is none, the last entry.
    async fn newest(&self) -> Result<AuditHead> {
        if let Some(head) = self.state.get_json::<AuditHead>(HEAD).await? {
            return Ok(head);
        }
        let names = self.state.names(FOLDER).await?;
        let Some(number) = names.iter().filter_map(|n| number_of(n)).max() else {
            return Ok(AuditHead { number: 0, hash: NOTHING.to_owned() });
        };
        let bytes = self.state.get(&numbered(FOLDER, number)).await?.unwrap_or_default();
        Ok(AuditHead { number, hash: hash(&bytes) })
    }

    /// Reads the whole log and says what is wrong with it; `kept` is a head that somebody kept elsewhere.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn verify(&self, kept: Option<&AuditHead>) -> Result<AuditReport> {
        let head = self.state.get(HEAD).await?;
        let entries = self.objects(usize::MAX).await?;
        Ok(check(&entries, head.as_deref(), kept))
    }

    /// The newest entries that can be read, newest first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn entries(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        let objects = self.objects(limit).await?;
        Ok(objects.iter().rev().filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok()).collect())
    }

    /// The last objects of the log with their numbers, in their order.
    async fn objects(&self, limit: usize) -> Result<Vec<(u64, Bytes)>> {
        let names = self.state.names(FOLDER).await?;
        let numbers: Vec<u64> = names.iter().filter_map(|n| number_of(n)).collect();
        let first = numbers.len().saturating_sub(limit);
        futures::stream::iter(numbers.into_iter().skip(first))
            .map(|number| async move {
                let bytes = self.state.get(&numbered(FOLDER, number)).await?;
                let gone = || Error::new(ErrorKind::Storage, format!("entry {number} of the audit log went away"));
                Ok((number, bytes.ok_or_else(gone)?))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }
}

impl AuditHead {
    /// A head as `number:hash`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, hash) = text.split_once(':')?;
        let is_hash = hash.len() == NOTHING.len() && hash.bytes().all(|b| b.is_ascii_hexdigit());
        is_hash.then_some(())?;
        Some(Self { number: number.parse().ok()?, hash: hash.to_ascii_lowercase() })
    }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Compares every entry with the one before it, and the last with the heads. Pure.
fn check(entries: &[(u64, Bytes)], head: Option<&[u8]>, kept: Option<&AuditHead>) -> AuditReport {
    let mut faults = Vec::new();
    let mut last = AuditHead { number: 0, hash: NOTHING.to_owned() };
    for (number, bytes) in entries {
        let whole = *number == last.number + 1;
        if !whole {
            faults.push(missing(last.number + 1, number - 1));
        }
        match serde_json::from_slice::<AuditEntry>(bytes) {
            Err(_) => faults.push(format!("entry {number} is torn: it cannot be read")),
            Ok(entry) if entry.number != *number => {
                faults.push(format!("entry {number} was moved: it says that it is entry {}", entry.number));
            }
            Ok(entry) if whole && entry.previous != last.hash => {
                faults.push(format!("entry {} was changed: entry {number} names another one", number - 1));
            }
            Ok(_) => {}
        }
        last = AuditHead { number: *number, hash: hash(bytes) };
    }
    let known = head.map(serde_json::from_slice::<AuditHead>);
    match &known {
        Some(Ok(known)) => faults.extend(against(known, entries)),
        Some(Err(_)) => faults.push("the head is torn: it cannot be read".to_owned()),
        None if !entries.is_empty() => faults.push("the head is missing".to_owned()),
        None => {}
    }
    let again: Vec<String> = kept.into_iter().filter_map(|kept| against(kept, entries)).collect();
    faults.extend(again.into_iter().filter(|fault| !faults.contains(fault)).collect::<Vec<_>>());
    AuditReport { entries: entries.len(), head: last, faults }
}

/// What a head says that the log has, and it has not.
fn against(head: &AuditHead, entries: &[(u64, Bytes)]) -> Option<String> {
    let newest = entries.last().map_or(0, |(number, _)| *number);
    if head.number > newest {
        return Some(missing(newest + 1, head.number));
    }
    let (_, bytes) = entries.iter().find(|(number, _)| *number == head.number)?;
    (hash(bytes) != head.hash).then(|| format!("entry {} was changed: the head names another one", head.number))
}

fn missing(first: u64, last: u64) -> String {
    if first == last { format!("entry {first} is missing") } else { format!("entries {first} to {last} are missing") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warehouse::testing::Faulty;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::AtomicI64;

    fn state() -> State {
        State::new(Arc::new(InMemory::new()), Path::from("w"))
    }

    async fn add(state: &State, count: u64) {
        for n in 0..count {
            let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
            AuditLog::new(state).append("ann@desk", "query", json!({"n": n}), now).await.unwrap();
        }
    }

    async fn faults(state: &State) -> Vec<String> {
        AuditLog::new(state).verify(None).await.unwrap().faults
    }

    async fn object(state: &State, number: u64) -> String {
        String::from_utf8(state.get(&numbered(FOLDER, number)).await.unwrap().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_log_that_nobody_touched_is_whole() {
        let state = state();
        assert_eq!(AuditLog::new(&state).verify(None).await.unwrap().entries, 0);
        assert!(faults(&state).await.is_empty());
        add(&state, 5).await;
        let report = AuditLog::new(&state).verify(None).await.unwrap();
        assert_eq!((report.entries, report.head.number, report.faults.len()), (5, 5, 0));
        let numbers: Vec<u64> =
            AuditLog::new(&state).entries(2).await.unwrap().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [5, 4]);
        // a head that somebody kept holds later, and another one does not
        let kept = AuditHead::parse(&format!("5:{}", report.head.hash)).unwrap();
        add(&state, 2).await;
        assert!(AuditLog::new(&state).verify(Some(&kept)).await.unwrap().faults.is_empty());
        let other = AuditHead { hash: NOTHING.to_owned(), ..kept };
        let found = AuditLog::new(&state).verify(Some(&other)).await.unwrap().faults;
        assert_eq!(found, ["entry 5 was changed: the head names another one"]);
        assert_eq!(AuditHead::parse("5:abc"), None);
    }

    #[tokio::test]
    async fn whatever_is_done_to_an_entry_is_found() {
        for number in 1..=4 {
            let state = state();
            add(&state, 4).await;
            let name = numbered(FOLDER, number);
            let before = object(&state, number).await;
            let says = |found: Vec<String>, what: &str| {
                assert!(found.iter().any(|f| f.contains(what)), "{number}: {what}: {found:?}");
            };
            // changed, though it reads as before
            state.replace(&name, before.replace("query", "queri").into()).await.unwrap();
            says(faults(&state).await, &format!("entry {number} was changed"));
            // cut
            state.replace(&name, before[..before.len() / 2].to_owned().into()).await.unwrap();
            says(faults(&state).await, &format!("entry {number} is torn"));
            // removed
            state.remove(&name).await.unwrap();
            says(faults(&state).await, &format!("entry {number} is missing"));
            // another one in its place
            let other = object(&state, number % 4 + 1).await;
            state.replace(&name, other.into()).await.unwrap();
            says(faults(&state).await, &format!("entry {number} was moved"));
            // as it was
            state.replace(&name, before.into()).await.unwrap();
            assert!(faults(&state).await.is_empty());
        }
    }

    #[tokio::test]
    async fn a_tail_that_is_cut_off_is_found_by_the_head_or_by_one_that_was_kept() {
        let state = state();
        add(&state, 2).await;
        let early = state.get(HEAD).await.unwrap().unwrap();
        add(&state, 3).await;
        let kept = AuditLog::new(&state).verify(None).await.unwrap().head;
        for number in 3..=5 {
            state.remove(&numbered(FOLDER, number)).await.unwrap();
        }
        assert_eq!(faults(&state).await, ["entries 3 to 5 are missing"]);
        // whoever also turns the head back is found by a head that was kept elsewhere
        state.replace(HEAD, early).await.unwrap();
        assert!(faults(&state).await.is_empty());
        let found = AuditLog::new(&state).verify(Some(&kept)).await.unwrap().faults;
        assert_eq!(found, ["entries 3 to 5 are missing"]);
    }

    #[tokio::test]
    async fn writers_at_once_lose_nothing() {
        let state = state();
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let state = state.clone();
                tokio::spawn(async move { add(&state, 5).await })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let report = AuditLog::new(&state).verify(None).await.unwrap();
        assert_eq!((report.entries, report.faults), (40, Vec::new()));
    }

    #[tokio::test]
    async fn a_writer_that_dies_leaves_a_log_that_verifies() {
        for lands in [false, true] {
            for writes in 1..=2 {
                let state = state();
                add(&state, 2).await;
                let left = Arc::new(AtomicI64::new(writes));
                let dying = Faulty::dying(state.store(), &left, lands);
                let dying = State::new(Arc::new(dying), Path::from("w"));
                let _ = AuditLog::new(&dying).append("x", "run", json!({}), DateTime::UNIX_EPOCH).await;
                assert!(faults(&state).await.is_empty(), "{lands} {writes}");
                add(&state, 2).await;
                let report = AuditLog::new(&state).verify(None).await.unwrap();
                assert!(report.faults.is_empty() && report.entries >= 4, "{lands} {writes}: {report:?}");
            }
        }
    }
}
