//! What came to a Delta source table since a run read it last.
//!
//! The log tells what a listing cannot: whether files came with rows or only because rows moved (`OPTIMIZE`). Each file's
//! stamp in the manifest keeps the version, and two hashes: of the columns, and of the files that had these very rows when
//! they last changed. The second stays while rows move, so it tells the rows of the table.
//!
//! # Rules
//! - Files are never changed in place, so nothing is hashed: table, time and size tell a file's content.
//! - Where only rows came since, and those that were there merely moved, the files before are taken for those that hold their
//!   rows now: then only the new ones are new.
//! - Where the log does not reach back any more, or the table is an older or another one, its files before are what they
//!   were, and a note says that its rows count as changed.

use super::SourceFileAt;
use super::delta::{DeltaTable, columns_text};
use super::digests::micros;
use super::files::Found;
use crate::error::Result;
use crate::warehouse::data_changes;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The files of a table now and before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    pub now: Vec<SourceFileAt>,
    /// The files that a run read last, as far as they can be told by those of now.
    pub before: Vec<SourceFileAt>,
    /// Why they cannot.
    pub note: Option<String>,
}

/// What the stamp of a file keeps of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    version: u64,
    columns: String,
    rows: String,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} columns {} rows {}", self.version, self.columns, self.rows)
    }
}

impl Stamp {
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let ["version", version, "columns", columns, "rows", rows] = words[..] else { return None };
        Some(Self { version: version.parse().ok()?, columns: columns.to_owned(), rows: rows.to_owned() })
    }
}

impl SourceFileAt {
    /// What tells all rows of its table, if that is more than its files.
    pub fn rows_of_table(&self) -> Option<String> {
        Stamp::parse(&self.stamp).map(|stamp| format!("{} {}", stamp.columns, stamp.rows))
    }
}

/// The manifest of a Delta table, and the `last` one as it is to be compared with it.
///
/// # Errors
/// When the log cannot be read.
pub(super) async fn versions(
    name: &str,
    (found, table): (&Found, &DeltaTable),
    last: &[SourceFileAt],
    at: DateTime<Utc>,
) -> Result<Versions> {
    let now = files(found, table, at);
    let was = last.first().and_then(|file| Some((Stamp::parse(&file.stamp)?, file)));
    let (before, note) = match &was {
        // of no files, or of those of another format, nothing is known
        None => (last.to_vec(), None),
        Some((stamp, file)) if file.place == found.place => {
            before(name, (found, table), (stamp, file), last, &now).await?
        }
        Some(_) => (last.to_vec(), None),
    };
    let columns = hash(&columns_text(&table.log.schema));
    let same_rows = paths(&before) == paths(&now) && note.is_none();
    let kept = was.filter(|(stamp, _)| same_rows && stamp.columns == columns).map(|(stamp, _)| stamp.rows);
    let rows = kept.unwrap_or_else(|| hash(&listed(&now)));
    Ok(Versions { now: stamped(now, last, &Stamp { version: table.log.version, columns, rows }), before, note })
}

/// The files with the rows that a run read last.
async fn before(
    name: &str,
    (found, table): (&Found, &DeltaTable),
    (stamp, file): (&Stamp, &SourceFileAt),
    last: &[SourceFileAt],
    now: &[SourceFileAt],
) -> Result<(Vec<SourceFileAt>, Option<String>)> {
    let there: BTreeSet<(&str, &str)> = now.iter().map(|f| (f.path.as_str(), f.content.as_str())).collect();
    if last.iter().all(|f| there.contains(&(f.path.as_str(), f.content.as_str()))) {
        return Ok((last.to_vec(), None));
    }
    let (then, version) = (stamp.version, table.log.version);
    if version < then || !file.content.starts_with(&table.log.id) {
        let note = format!(
            "`{name}` is at version {version} of a table that is not the one of version {then} that was read last: all its rows \
             count as changed"
        );
        return Ok((last.to_vec(), Some(note)));
    }
    let Some(changes) = data_changes(&found.store, &table.folder, name, (then, version)).await? else {
        let note = format!(
            "the Delta log of `{name}` no longer tells what happened between its versions {then} and {version}: all its rows \
             count as changed"
        );
        return Ok((last.to_vec(), Some(note)));
    };
    let paths = paths(now);
    let only_came = changes.removed.is_empty() && changes.added.iter().all(|path| paths.contains(path.as_str()));
    let older = |f: &&SourceFileAt| !changes.added.contains(&f.path);
    let before = if only_came { now.iter().filter(older).cloned().collect() } else { last.to_vec() };
    Ok((before, None))
}

fn files(found: &Found, table: &DeltaTable, at: DateTime<Utc>) -> Vec<SourceFileAt> {
    let file = |meta: &datafusion::object_store::ObjectMeta| SourceFileAt {
        path: meta.location.to_string(),
        bytes: meta.size,
        modified_at: micros(meta.last_modified),
        content: format!("{} {}", table.log.id, meta.last_modified.timestamp_millis()),
        stamp: String::new(),
        place: found.place.clone(),
        read_at: micros(at),
    };
    found.files.iter().map(file).collect()
}

/// Files with the stamp of their version; one that was known so stays as it was.
fn stamped(files: Vec<SourceFileAt>, last: &[SourceFileAt], stamp: &Stamp) -> Vec<SourceFileAt> {
    let stamp = stamp.to_string();
    let last: BTreeMap<&str, &SourceFileAt> = last.iter().map(|old| (old.path.as_str(), old)).collect();
    let one = |file: SourceFileAt| match last.get(file.path.as_str()) {
        Some(old) if (old.bytes, &old.content, &old.stamp) == (file.bytes, &file.content, &stamp) => (*old).clone(),
        _ => SourceFileAt { stamp: stamp.clone(), ..file },
    };
    files.into_iter().map(one).collect()
}

fn paths(files: &[SourceFileAt]) -> BTreeSet<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

fn listed(files: &[SourceFileAt]) -> String {
    let lines: Vec<String> = files.iter().map(|f| format!("{}\n{}\n{}", f.path, f.bytes, f.content)).collect();
    lines.join("\n")
}

fn hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_what_it_wrote_and_nothing_else() {
        let stamp = Stamp { version: 12, columns: "ab".to_owned(), rows: "cd".to_owned() };
        assert_eq!(Stamp::parse(&stamp.to_string()), Some(stamp));
        for text in ["", "\"d41d8\"", "1f-600-7", "version x columns a rows b", "version 1"] {
            assert_eq!(Stamp::parse(text), None, "{text}");
        }
    }
}
