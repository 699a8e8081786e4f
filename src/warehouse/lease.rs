//! One run at a time: a numbered file per holder.
//!
//! The newest `leases/<epoch>.json` says who holds the warehouse and until when. The next epoch may be
//! taken, by put-if-absent, when the newest is released or has expired. A holder renews by writing its
//! own file again with a later end (nobody else ever writes it) and releases it in the same way; files are
//! kept, so that an epoch is never given twice.
//!
//! Expiry is the one use of the wall clock, which the caller passes in. A wrong clock or a holder that
//! stalls past its end can only make two runs work at once; which of them commits is decided by
//! put-if-absent of the staged list (see [`super::commit`]).

use super::store::{Created, State, number_of, numbered, to_json};
use crate::error::{Error, ErrorKind, Result};
use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::Mutex;

const FOLDER: &str = "_kinfold/leases";
/// Files of older epochs that are kept; more only make listing slower.
const KEPT: u64 = 50;

/// What a lease file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseFile {
    epoch: u64,
    /// For people: machine, process, command.
    holder: String,
    /// Tells our own file from one that another process wrote at the same time.
    nonce: String,
    taken_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    released: bool,
}

/// The right to run, until it expires.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    state: State,
    file: LeaseFile,
    length: Duration,
    /// Set once it is given back; clones share it, so that no late renewal takes it again.
    released: Arc<Mutex<bool>>,
}

impl Lease {
    /// Takes the next epoch.
    ///
    /// # Errors
    /// `Busy` when another run holds the warehouse or took it at the same moment; `Storage`.
    pub(super) async fn take(state: &State, holder: &str, now: DateTime<Utc>, seconds: u32) -> Result<Self> {
        let newest = newest_epoch(state).await?;
        if newest > 0
            && let Some(held) = state.get_json::<LeaseFile>(&numbered(FOLDER, newest)).await?
            && !held.released
            && held.expires_at > now
        {
            return Err(busy(&held));
        }
        let length = Duration::seconds(i64::from(seconds));
        let file = LeaseFile {
            epoch: newest + 1,
            holder: holder.to_owned(),
            nonce: uuid::Uuid::new_v4().simple().to_string(),
            taken_at: now,
            expires_at: now + length,
            released: false,
        };
        let name = numbered(FOLDER, file.epoch);
        if let Created::Theirs(bytes) = state.create_json(&name, &file).await? {
            return Err(busy(&state.parse(&name, &bytes)?));
        }
        let lease = Self { state: state.clone(), file, length, released: Arc::default() };
        // Between the listing and the put, others may have come and gone.
        lease.check().await?;
        lease.tidy(newest).await;
        Ok(lease)
    }

    /// Number of this lease: unique over the life of the warehouse.
    pub(super) fn epoch(&self) -> u64 {
        self.file.epoch
    }

    /// Makes sure that nobody took over.
    ///
    /// # Errors
    /// `Busy` when a later epoch exists; `Storage`.
    pub(super) async fn check(&self) -> Result<()> {
        let newest = newest_epoch(&self.state).await?;
        if newest <= self.file.epoch {
            return Ok(());
        }
        let by = self.state.get_json::<LeaseFile>(&numbered(FOLDER, newest)).await?;
        Err(by.map_or_else(lost, |by| busy(&by)))
    }

    /// Moves the end to one length after `now`; does nothing once released.
    ///
    /// # Errors
    /// `Busy` when another run took over; `Storage`.
    pub(super) async fn renew(&self, now: DateTime<Utc>) -> Result<()> {
        let released = self.released.lock().await;
        if *released {
            return Ok(());
        }
        self.check().await?;
        let file = LeaseFile { expires_at: now + self.length, ..self.file.clone() };
        self.state.replace(&numbered(FOLDER, file.epoch), to_json(&file)?).await
    }

    /// Lets the next run begin at once.
    ///
    /// # Errors
    /// `Storage`; the lease then ends by expiry.
    pub(super) async fn release(&self) -> Result<()> {
        let mut released = self.released.lock().await;
        *released = true;
        let file = LeaseFile { released: true, ..self.file.clone() };
        self.state.replace(&numbered(FOLDER, file.epoch), to_json(&file)?).await
    }

    /// Removes old files. A failure is no harm: they are only in the way.
    async fn tidy(&self, newest_before: u64) {
        let Some(last) = newest_before.checked_sub(KEPT) else { return };
        let Ok(names) = self.state.names(FOLDER).await else { return };
        for epoch in names.iter().filter_map(|n| number_of(n)).filter(|e| *e <= last) {
            if self.state.remove(&numbered(FOLDER, epoch)).await.is_err() {
                return;
            }
        }
    }
}

/// The first epoch whose files may be those of a run at work: that of the newest lease while it is held.
pub(super) async fn first_free_epoch(state: &State, now: DateTime<Utc>) -> Result<u64> {
    let newest = newest_epoch(state).await?;
    let held = match state.get_json::<LeaseFile>(&numbered(FOLDER, newest)).await? {
        Some(lease) => !lease.released && lease.expires_at > now,
        None => false,
    };
    Ok(if held { newest } else { newest + 1 })
}

async fn newest_epoch(state: &State) -> Result<u64> {
    let names = state.names(FOLDER).await?;
    Ok(names.iter().rev().find_map(|n| number_of(n)).unwrap_or(0))
}

fn busy(held: &LeaseFile) -> Error {
    let since = held.taken_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let until = held.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    Error::new(ErrorKind::Busy, format!("another run holds the warehouse: {}, since {since}", held.holder))
        .with_help(format!("wait for it, or, if it was killed, try again after {until}"))
}

fn lost() -> Error {
    Error::new(ErrorKind::Busy, "another run took over the warehouse").with_help("try again when it is done")
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    fn state() -> State {
        State::new(Arc::new(InMemory::new()), Path::default())
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    #[tokio::test]
    async fn a_held_lease_is_busy_and_says_who() {
        let state = state();
        let first = Lease::take(&state, "host a, pid 1", at(0), 60).await.unwrap();
        let error = Lease::take(&state, "b", at(59), 60).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("host a, pid 1"), "{error}");
        assert!(error.help().unwrap().contains("2023-11-14T22:14:20Z"), "{:?}", error.help());
        first.release().await.unwrap();
        assert_eq!(Lease::take(&state, "b", at(1), 60).await.unwrap().epoch(), 2);
    }

    #[tokio::test]
    async fn an_expired_lease_is_taken_and_its_holder_learns_it() {
        let state = state();
        let first = Lease::take(&state, "a", at(0), 60).await.unwrap();
        first.renew(at(50)).await.unwrap();
        assert!(Lease::take(&state, "b", at(109), 60).await.is_err());
        let second = Lease::take(&state, "b", at(110), 60).await.unwrap();
        assert_eq!(first.check().await.unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(first.renew(at(111)).await.unwrap_err().kind(), ErrorKind::Busy);
        // A late release of the first does not end the second.
        first.release().await.unwrap();
        assert!(Lease::take(&state, "c", at(111), 60).await.is_err());
        second.check().await.unwrap();
    }

    #[tokio::test]
    async fn a_late_renewal_does_not_take_a_released_lease_again() {
        let state = state();
        let first = Lease::take(&state, "a", at(0), 60).await.unwrap();
        let other = first.clone();
        first.release().await.unwrap();
        other.renew(at(1)).await.unwrap();
        Lease::take(&state, "b", at(2), 60).await.unwrap();
    }

    #[tokio::test]
    async fn old_files_go_and_epochs_never_repeat() {
        let state = state();
        for n in 1..=60 {
            let lease = Lease::take(&state, "a", at(n), 60).await.unwrap();
            assert_eq!(lease.epoch(), u64::try_from(n).unwrap());
            lease.release().await.unwrap();
        }
        assert_eq!(state.names(FOLDER).await.unwrap().len(), 51);
    }
}
