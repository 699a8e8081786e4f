//! Who may not be read: keyed hashes of identifiers, and what becomes of a row that has one.
//!
//! A tombstone keeps no identifier, only its HMAC under a key of the warehouse. It stands for one identifier of an identity.
//!
//! # Rules
//! - An identifier that only rows of the person have is the person's *own*: a row that has it is not read.
//! - One that rows of others have too is *shared*: such a row is read without it, unless it has nothing else that names
//!   anybody; then it is not read either.
//! - A suppression can be lifted, an erasure cannot.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What an identifier says of the rows that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Rows of others have it, too: it is taken out of them.
    Shared,
    /// Rows that have it are the person's.
    Own,
}

/// What was decided about identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The person is erased, for ever.
    Erase,
    /// The person is not read until that is lifted.
    Suppress,
    /// A suppression is lifted.
    Unsuppress,
}

/// One identifier, without its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tombstone {
    /// The identity.
    pub identity: String,
    /// The identifier type.
    #[serde(rename = "type")]
    pub kind: String,
    /// HMAC-SHA-256 of the normalised value, in hexadecimal digits.
    pub hash: String,
    /// What it says of rows.
    pub mark: Mark,
}

/// All tombstones that stand.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tombstones {
    key: [u8; 32],
    marks: BTreeMap<(String, String, String), (Mark, bool)>,
}

impl std::fmt::Debug for Tombstones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tombstones", self.marks.len())
    }
}

impl Tombstones {
    /// None yet, under a key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, marks: BTreeMap::new() }
    }

    /// Takes a decision in; later ones come later.
    pub fn take(&mut self, decision: Decision, tombstones: &[Tombstone]) {
        for stone in tombstones {
            let place = (stone.identity.clone(), stone.kind.clone(), stone.hash.clone());
            let for_ever = decision == Decision::Erase;
            let before = self.marks.get(&place).copied();
            let erased = before.is_some_and(|(_, erased)| erased);
            match decision {
                Decision::Unsuppress if !erased => {
                    self.marks.remove(&place);
                }
                Decision::Unsuppress => {}
                Decision::Erase | Decision::Suppress => {
                    let mark = before.map_or(stone.mark, |(mark, _)| mark.max(stone.mark));
                    self.marks.insert(place, (mark, for_ever || erased));
                }
            }
        }
    }

    /// Whether nobody has one.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Identities that have any.
    pub fn identities(&self) -> BTreeSet<&str> {
        self.marks.keys().map(|(identity, ..)| identity.as_str()).collect()
    }

    /// The tombstone of a normalised identifier.
    pub fn stone(&self, identity: &str, kind: &str, value: &str, mark: Mark) -> Tombstone {
        Tombstone { identity: identity.to_owned(), kind: kind.to_owned(), hash: self.hash(identity, kind, value), mark }
    }

    /// What a normalised identifier says of rows, if it has a tombstone.
    pub fn mark(&self, identity: &str, kind: &str, value: &str) -> Option<Mark> {
        let place = (identity.to_owned(), kind.to_owned(), self.hash(identity, kind, value));
        self.marks.get(&place).map(|(mark, _)| *mark)
    }

    /// Whether a tombstone stands that cannot be lifted.
    pub fn is_erased(&self, stone: &Tombstone) -> bool {
        let place = (stone.identity.clone(), stone.kind.clone(), stone.hash.clone());
        self.marks.get(&place).is_some_and(|(_, erased)| *erased)
    }

    /// Differs whenever they differ; tells nothing of them.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for ((identity, kind, hash), (mark, _)) in &self.marks {
            digest.update(format!("{identity}\n{kind}\n{hash}\n{mark:?}\n"));
        }
        hex::encode(digest.finalize())
    }

    fn hash(&self, identity: &str, kind: &str, value: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return String::new() };
        for part in [identity, kind, value] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suppression_can_be_lifted_and_an_erasure_cannot() {
        let mut stones = Tombstones::new([1; 32]);
        let own = stones.stone("person", "email", "ann@x.com", Mark::Own);
        let shared = stones.stone("person", "phone", "1", Mark::Shared);
        stones.take(Decision::Suppress, &[own.clone(), shared.clone()]);
        assert_eq!(stones.mark("person", "email", "ann@x.com"), Some(Mark::Own));
        assert_eq!(stones.mark("person", "phone", "1"), Some(Mark::Shared));
        assert_eq!(stones.mark("patient", "email", "ann@x.com"), None, "each identity has its own");
        let before = stones.digest();
        stones.take(Decision::Erase, std::slice::from_ref(&own));
        stones.take(Decision::Unsuppress, &[own.clone(), shared]);
        assert_ne!(stones.digest(), before);
        assert_eq!(stones.mark("person", "phone", "1"), None);
        assert_eq!(stones.mark("person", "email", "ann@x.com"), Some(Mark::Own));
        // of two decisions the stricter mark stands
        stones.take(Decision::Suppress, &[Tombstone { mark: Mark::Shared, ..own.clone() }]);
        assert!(stones.is_erased(&own));
        assert_eq!(stones.mark("person", "email", "ann@x.com"), Some(Mark::Own));
    }

    #[test]
    fn a_hash_depends_on_its_key() {
        let hash = |key: u8| Tombstones::new([key; 32]).stone("p", "t", "v", Mark::Own).hash;
        assert_ne!(hash(1), hash(2));
        assert_eq!(hash(1).len(), 64);
    }
}
