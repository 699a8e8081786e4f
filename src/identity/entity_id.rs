//! Entity ids: 128 bits, keyed, written as 32 lower-case hexadecimal digits.
//!
//! A fresh id is the first 16 bytes of HMAC-SHA256 (RFC 2104) under the identity's secret key over
//! `type_name:text` of the entity's anchor. So it says nothing about the identifier to those without the key,
//! and is the same wherever the same rows meet the same key.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The id of an entity. Ordered by its bytes, which is the order of its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub [u8; 16]);

/// A text is not an entity id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEntityId;

impl fmt::Display for NotAnEntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entity id is 32 lower-case hexadecimal digits")
    }
}

impl std::error::Error for NotAnEntityId {}

impl EntityId {
    /// The text as ASCII bytes, for writing many without allocating.
    pub fn hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hex().iter().try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityId({self})")
    }
}

impl FromStr for EntityId {
    type Err = NotAnEntityId;

    fn from_str(text: &str) -> Result<Self, NotAnEntityId> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotAnEntityId),
        };
        let text: &[u8; 32] = text.as_bytes().try_into().map_err(|_| NotAnEntityId)?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

/// Makes fresh ids under one key.
#[derive(Clone)]
pub(super) struct IdMaker {
    keyed: Hmac<Sha256>,
}

impl IdMaker {
    /// A key of any length. It is padded here, as RFC 2104 says, because the fixed-size constructor cannot fail.
    pub(super) fn new(key: &[u8]) -> Self {
        let mut block = [0_u8; 64];
        if key.len() > block.len() {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        Self { keyed: Hmac::new(&block.into()) }
    }

    /// The id for an anchor. `attempt` is 0 but for an anchor whose earlier ids belong to others; then the
    /// attempt's number follows the text after a zero byte.
    pub(super) fn id(&self, type_name: &str, text: &str, attempt: u32) -> EntityId {
        let mut mac = self.keyed.clone();
        mac.update(type_name.as_bytes());
        mac.update(b":");
        mac.update(text.as_bytes());
        if attempt > 0 {
            mac.update(b"\0");
            mac.update(attempt.to_string().as_bytes());
        }
        let code: [u8; 32] = mac.finalize().into_bytes().into();
        let mut id = [0; 16];
        id.copy_from_slice(&code[..16]);
        EntityId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes made with Python's `hmac` module.
    #[test]
    fn ids_are_the_first_half_of_hmac_sha256() {
        let long: Vec<u8> = (0..200).collect();
        let cases: [(&[u8], &str, &str, u32, &str); 7] = [
            (b"key", "email", "ann@x.com", 0, "4c1dac32a1261ef055f5229dff8933ab"),
            (b"", "email", "ann@x.com", 0, "9507cc81897abd7e171412085c1dda66"),
            (&long, "mrn", "Zoë", 0, "3b12e78aa37fed7c51c706a470f8a1c5"),
            (&[b'k'; 64], "a", "b", 0, "8c75bed592dd60cc9f3d2fa971b8416d"),
            (&[b'k'; 65], "a", "b", 0, "a95ae0ce62444b7ffd5c03f1f02e51c5"),
            (b"key", "email", "ann@x.com", 1, "861f38bc0cd2ab445c21ae57a8f4bcdd"),
            (b"key", "email", "ann@x.com", 12, "c0da100beb1ed3243752902867de5b79"),
        ];
        for (key, type_name, text, attempt, expected) in cases {
            assert_eq!(IdMaker::new(key).id(type_name, text, attempt).to_string(), expected);
        }
    }

    #[test]
    fn text_and_id_go_both_ways() {
        let text = "00ff0123456789abcdef102030405060";
        let id = text.parse::<EntityId>();
        assert_eq!(id.map(|id| id.to_string()), Ok(text.to_owned()));
        assert_eq!(id.map(|id| (id.0[1], id.0[15])), Ok((0xff, 0x60)));
        for wrong in ["", "00", &text[1..], &text.to_uppercase(), &text.replace('0', "g"), &format!("{text}0")] {
            assert_eq!(wrong.parse::<EntityId>(), Err(NotAnEntityId), "{wrong}");
        }
    }
}
