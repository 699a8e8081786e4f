//! What tells that a file of a source table is the one that was read before.
//!
//! A store that gives an entity tag for the content (S3) is believed. On disk there is none, and an inode or a time
//! says nothing of the content, so the content is hashed. A hash is kept as long as the file's size, time and inode
//! stay, and is made again when they differ, or when the file was so young as it was hashed that a later change may
//! have left its time as it was: the rule by which git knows changed files.

use super::files::Found;
use super::versions::versions;
use super::{Engine, SourceFileAt};
use crate::error::{Context, Error, ErrorKind, Result};
use chrono::{DateTime, TimeDelta, Utc};
use datafusion::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Times of files may be as coarse as this.
const COARSE: TimeDelta = TimeDelta::seconds(2);
/// Files that are hashed at a time.
const AT_ONCE: usize = 8;
/// Bytes that are read at once: each time costs a change of threads, which takes longer than hashing a few kilobytes.
const PIECE: u64 = 1 << 20;

impl Engine {
    /// The files of the opened source tables with what tells their content, and `before`, those of earlier runs, as they
    /// are to be compared with them.
    ///
    /// # Errors
    /// `Storage` when a file cannot be read.
    pub async fn manifests(
        &self,
        before: &BTreeMap<String, Vec<SourceFileAt>>,
        now: DateTime<Utc>,
    ) -> Result<Manifests> {
        let mut manifests = Manifests { before: before.clone(), ..Manifests::default() };
        for (table, open) in &self.sources {
            if let Some(delta) = &open.found.delta {
                let last = before.get(table).map_or(&[][..], Vec::as_slice);
                let versions = versions(table, (&open.found, delta), last, now).await?;
                manifests.before.entry(table.clone()).and_modify(|files| *files = versions.before);
                manifests.now.insert(table.clone(), versions.now);
                manifests.notes.extend(versions.note);
                continue;
            }
            let known: BTreeMap<&str, &SourceFileAt> =
                before.get(table).into_iter().flatten().map(|f| (f.path.as_str(), f)).collect();
            let files = manifest(&open.found, &known, now).await;
            let mut files = files.map_err(|e| e.context(format!("cannot read `{table}`")))?;
            files.extend(open.found.gone.iter().map(|kept| kept.file.clone()));
            files.sort_by(|a, b| a.path.cmp(&b.path));
            manifests.now.insert(table.clone(), files);
        }
        Ok(manifests)
    }
}

/// The files of source tables.
#[derive(Debug, Default)]
pub struct Manifests {
    /// As they are.
    pub now: BTreeMap<String, Vec<SourceFileAt>>,
    /// As runs read them last; rows that only moved to other files are where they are now.
    pub before: BTreeMap<String, Vec<SourceFileAt>>,
    /// What could not be told about tables, for people.
    pub notes: Vec<String>,
}

async fn manifest(
    found: &Found,
    known: &BTreeMap<&str, &SourceFileAt>,
    now: DateTime<Utc>,
) -> Result<Vec<SourceFileAt>> {
    let mut files: Vec<SourceFileAt> = found.files.iter().map(|meta| at(found, meta, now)).collect();
    let mut hashing: JoinSet<Result<(usize, String)>> = JoinSet::new();
    for index in 0..files.len() {
        let old = known.get(files[index].path.as_str());
        if let Some(old) = old.filter(|old| is_trusted(old, &files[index])) {
            files[index] = (*old).clone();
        } else if files[index].content.is_empty() {
            if hashing.len() >= AT_ONCE {
                take(&mut hashing, &mut files).await?;
            }
            let (store, file) = (Arc::clone(&found.store), found.files[index].clone());
            hashing.spawn(async move { Ok((index, digest(store.as_ref(), &file).await?)) });
        }
    }
    while !hashing.is_empty() {
        take(&mut hashing, &mut files).await?;
    }
    Ok(files)
}

async fn take(hashing: &mut JoinSet<Result<(usize, String)>>, files: &mut [SourceFileAt]) -> Result<()> {
    let Some(done) = hashing.join_next().await else { return Ok(()) };
    let (index, digest) = done.or_fail(ErrorKind::Failed, || "a file was not hashed to its end".to_owned())??;
    files[index].content = digest;
    Ok(())
}

/// A file as the store lists it; on disk its content is not known yet.
fn at(found: &Found, meta: &ObjectMeta, now: DateTime<Utc>) -> SourceFileAt {
    let tag = meta.e_tag.clone().unwrap_or_default();
    SourceFileAt {
        path: meta.location.to_string(),
        bytes: meta.size,
        // as it is stored
        modified_at: micros(meta.last_modified),
        content: if found.on_disk { String::new() } else { tag.clone() },
        stamp: tag,
        place: found.place.clone(),
        read_at: micros(now),
    }
}

pub(super) fn micros(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

/// Whether what was known of a file's content still holds.
fn is_trusted(old: &SourceFileAt, now: &SourceFileAt) -> bool {
    let same = (&old.stamp, old.bytes, old.modified_at) == (&now.stamp, now.bytes, now.modified_at);
    let settled = old.modified_at + COARSE < old.read_at;
    same && settled && !old.content.is_empty() && old.place == now.place
}

async fn digest(store: &dyn ObjectStore, file: &ObjectMeta) -> Result<String> {
    let doing = || format!("cannot read {}", file.location);
    let failed = |e| Error::new(ErrorKind::Storage, doing()).caused_by(e);
    let mut hash = Sha256::new();
    let mut start = 0;
    while start < file.size {
        let end = file.size.min(start + PIECE);
        hash.update(store.get_range(&file.location, start..end).await.map_err(failed)?);
        start = end;
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_kept_while_nothing_moved_and_the_file_was_not_too_young() {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let old = SourceFileAt {
            path: "a.csv".to_owned(),
            bytes: 7,
            modified_at: time(100),
            content: "hash".to_owned(),
            stamp: "1-100-7".to_owned(),
            place: "/data".to_owned(),
            read_at: time(103),
        };
        let now = SourceFileAt { content: String::new(), read_at: time(500), ..old.clone() };
        assert!(is_trusted(&old, &now));
        assert!(!is_trusted(&old, &SourceFileAt { bytes: 8, ..now.clone() }));
        assert!(!is_trusted(&old, &SourceFileAt { modified_at: time(101), ..now.clone() }));
        assert!(!is_trusted(&old, &SourceFileAt { stamp: "2-100-7".to_owned(), ..now.clone() }));
        assert!(!is_trusted(&SourceFileAt { read_at: time(102), ..old.clone() }, &now), "it may have changed since");
        assert!(!is_trusted(&SourceFileAt { content: String::new(), ..old }, &now));
    }
}
