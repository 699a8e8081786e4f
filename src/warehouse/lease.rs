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
//!
//! A file that a power cut tore says nothing. Its holder, if it lives, writes it anew three times per lease; so it
//! counts as held until a minute after it was written, and as expired then.

use super::store::{Created, State, number_of, numbered, to_json};
use crate::error::{Error, ErrorKind, Result};
use crate::points::Point;
use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::Mutex;

const FOLDER: &str = "_kinfold/leases";
/// Files of older epochs that are kept; more only make listing slower.
const KEPT: u64 = 50;
/// How long a lease lasts whose file is damaged: as long as those of runs.
const DAMAGED_LASTS: Duration = Duration::seconds(60);

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

impl LeaseFile {
    fn is_held(&self, now: DateTime<Utc>) -> bool {
        !self.released && self.expires_at > now
    }
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
        if let Some(held) = read(state, newest).await?.filter(|held| held.is_held(now)) {
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
        if let Created::Theirs(_) = state.create_json(&name, &file).await? {
            return Err(read(state, file.epoch).await?.map_or_else(lost, |by| busy(&by)));
        }
        Point::Leased.reached();
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
        Err(read(&self.state, newest).await?.map_or_else(lost, |by| busy(&by)))
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
        self.state.replace(&numbered(FOLDER, file.epoch), to_json(&file)?).await?;
        Point::Released.reached();
        Ok(())
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
    let held = read(state, newest).await?.is_some_and(|lease| lease.is_held(now));
    Ok(if held { newest } else { newest + 1 })
}

/// The file of an epoch; of one that is damaged, what can be told without its words.
async fn read(state: &State, epoch: u64) -> Result<Option<LeaseFile>> {
    let name = numbered(FOLDER, epoch);
    let Some(bytes) = state.get(&name).await? else { return Ok(None) };
    if let Ok(file) = state.parse(&name, &bytes) {
        return Ok(Some(file));
    }
    let damaged = |taken_at| LeaseFile {
        epoch,
        holder: format!("one whose lease, `{name}`, is damaged"),
        nonce: String::new(),
        taken_at,
        expires_at: taken_at + DAMAGED_LASTS,
        released: false,
    };
    Ok(state.modified(&name).await?.map(damaged))
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
    async fn a_torn_lease_is_held_for_a_minute_and_no_longer() {
        for torn in ["", "{\n  \"epoch\": 1,\n  \"hol"] {
            let state = state();
            Lease::take(&state, "a", at(0), 60).await.unwrap();
            let file = numbered(FOLDER, 1);
            state.replace(&file, torn.into()).await.unwrap();
            let written = state.modified(&file).await.unwrap().unwrap();
            let soon = written + Duration::seconds(59);
            let error = Lease::take(&state, "b", soon, 60).await.unwrap_err();
            assert_eq!((error.kind(), first_free_epoch(&state, soon).await.unwrap()), (ErrorKind::Busy, 1));
            assert!(error.to_string().contains("is damaged"), "{error}");
            let later = written + Duration::seconds(60);
            assert_eq!(first_free_epoch(&state, later).await.unwrap(), 2);
            let second = Lease::take(&state, "b", later, 60).await.unwrap();
            assert_eq!(second.epoch(), 2);
            // torn while it is held, it is whole again after the next renewal
            state.replace(&numbered(FOLDER, 2), torn.into()).await.unwrap();
            second.renew(later).await.unwrap();
            assert!(read(&state, 2).await.unwrap().unwrap().holder == "b");
        }
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
