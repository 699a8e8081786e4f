//! What becomes of the rows of a sync: each is sent, held back, or held back and taken back from where it was sent.
//!
//! | why | decided by | what was sent of it before |
//! |---|---|---|
//! | suppressed, or erased | whose row it is is not read any more, though the committed tables still have it | as if the row were gone |
//! | missing | consent: nobody answered | as if the row were gone: half an export must not delete everybody |
//! | denied, expired, address denied | consent | goes, in every mode |
//! | small cells | too few people, or a row that tells of such | goes, in every mode |
//!
//! The first that holds counts.

use super::consent::Answers;
use crate::error::{Context, ErrorKind, Result};
use crate::privacy::Withheld;
use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use std::collections::BTreeSet;

/// Why a row is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The person is suppressed or erased, and what is read was built before.
    Suppressed,
    /// The address that would be sent to is denied.
    AddressDenied,
    /// The person denies.
    Denied,
    /// What the person agreed to has ended.
    Expired,
    /// The person was never asked.
    Missing,
    /// The row counts too few people.
    Small,
    /// The row would tell of one that counts too few.
    Beside,
}

impl Why {
    /// Few words for reports.
    pub fn words(self) -> &'static str {
        match self {
            Self::Suppressed => "suppressed",
            Self::AddressDenied => "address denied",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Missing => "missing",
            Self::Small => "small cell",
            Self::Beside => "beside a small cell",
        }
    }

    /// What holds the row back.
    pub fn by(self) -> &'static str {
        match self {
            Self::Suppressed => "suppression withholds",
            Self::AddressDenied | Self::Denied | Self::Expired | Self::Missing => "consent withholds",
            Self::Small | Self::Beside => "small cells withhold",
        }
    }

    /// Whether what was sent before goes in every mode.
    pub fn withdraws(self) -> bool {
        match self {
            Self::Suppressed | Self::Missing => false,
            Self::AddressDenied | Self::Denied | Self::Expired | Self::Small | Self::Beside => true,
        }
    }
}

impl From<Withheld> for Why {
    fn from(withheld: Withheld) -> Self {
        match withheld {
            Withheld::Small => Self::Small,
            Withheld::Beside => Self::Beside,
        }
    }
}

/// People of an identity who may not be read and whom committed tables still know.
#[derive(Debug, Clone, Default)]
pub struct Suppressed {
    /// The identity.
    pub identity: String,
    /// Their entity ids.
    pub ids: BTreeSet<String>,
    /// Cells that name them, where no column says whose a row is.
    pub cells: BTreeSet<String>,
}

/// Judges rows whose last columns are what it reads, as texts.
pub(super) struct Judge {
    /// Answers, and the column that says whose a row is.
    pub answers: Option<(Answers, String)>,
    /// Columns with addresses.
    pub addresses: Vec<String>,
    /// By words that may not stand in any of some columns.
    pub suppressed: Vec<(Vec<String>, BTreeSet<String>)>,
}

impl Judge {
    /// Names of the columns that it reads.
    pub(super) fn reads(&self) -> BTreeSet<&String> {
        let person = self.answers.iter().map(|(_, person)| person);
        self.suppressed.iter().flat_map(|(columns, _)| columns).chain(&self.addresses).chain(person).collect()
    }

    /// By row, why it is held back, if it is.
    ///
    /// # Errors
    /// When an address cannot be normalised.
    pub(super) fn judge(&self, batch: &RecordBatch) -> Result<Vec<Option<Why>>> {
        let mut why = vec![None; batch.num_rows()];
        for (columns, words) in &self.suppressed {
            for column in columns {
                let named = texts(batch, column)?.iter().map(|text| text.is_some_and(|text| words.contains(text)));
                mark(&mut why, named, Why::Suppressed);
            }
        }
        let Some((answers, person)) = &self.answers else { return Ok(why) };
        for (why, person) in why.iter_mut().zip(texts(batch, person)?) {
            *why = why.or_else(|| answers.withheld(person));
        }
        if answers.denied().is_empty() {
            return Ok(why);
        }
        for column in &self.addresses {
            let said = texts(batch, column)?.iter().zip(&why);
            let denied = |(text, why): (Option<&str>, &Option<Why>)| match text {
                Some(text) if why.is_none() => answers.denied().have(text),
                _ => Ok(false),
            };
            let denied: Vec<bool> = said.map(denied).collect::<Result<_>>()?;
            mark(&mut why, denied.into_iter(), Why::AddressDenied);
        }
        Ok(why)
    }
}

fn mark(why: &mut [Option<Why>], named: impl Iterator<Item = bool>, because: Why) {
    for (why, _) in why.iter_mut().zip(named).filter(|(why, named)| *named && why.is_none()) {
        *why = Some(because);
    }
}

fn texts<'b>(batch: &'b RecordBatch, column: &str) -> Result<&'b StringArray> {
    let column = batch.column_by_name(column).and_then(|column| column.as_string_opt::<i32>());
    let doing = || "what decides whether a row is sent cannot be read".to_owned();
    column.ok_or("no such column").or_fail(ErrorKind::Failed, doing)
}
