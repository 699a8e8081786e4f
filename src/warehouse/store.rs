//! Small objects under one prefix, decided by put-if-absent.
//!
//! An answer that did not arrive says nothing about what happened, so that [`State::create`] looks before
//! it tries again, and an object that already holds the same bytes counts as created. Contents that
//! must belong to one writer therefore carry something only that writer knows.

use super::retry::{ATTEMPTS, Trouble, because, pause};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::points::Point;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// What came of a put-if-absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object now holds our bytes.
    Ours,
    /// It was there with other bytes.
    Theirs(Bytes),
}

/// Objects below one prefix of an object store.
#[derive(Debug, Clone)]
pub struct State {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl State {
    /// Objects of `store` below `prefix`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    /// The store itself, at its root.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Path from the store's root of `relative`.
    pub fn path(&self, relative: &str) -> Path {
        self.prefix.parts().chain(Path::from(relative).parts()).collect()
    }

    /// Reads an object; `None` when it is not there.
    ///
    /// # Errors
    /// `Storage` when the store cannot be read.
    pub async fn get(&self, relative: &str) -> Result<Option<Bytes>> {
        let path = self.path(relative);
        match self.store.get(&path).await {
            Ok(found) => match found.bytes().await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) => Err(reading(&path, e)),
            },
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(reading(&path, e)),
        }
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// `Storage` when the store cannot be read.
    pub async fn exists(&self, relative: &str) -> Result<bool> {
        self.modified(relative).await.map(|found| found.is_some())
    }

    /// When an object was written, by the clock of the store; `None` when it is not there.
    ///
    /// # Errors
    /// `Storage` when the store cannot be read.
    pub async fn modified(&self, relative: &str) -> Result<Option<DateTime<Utc>>> {
        let path = self.path(relative);
        match self.store.head(&path).await {
            Ok(found) => Ok(Some(found.last_modified)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(reading(&path, e)),
        }
    }

    /// Reads an object as JSON; `None` when it is not there.
    ///
    /// # Errors
    /// `Storage` when the store cannot be read, `Data` when the object is not the JSON expected.
    pub async fn get_json<T: DeserializeOwned>(&self, relative: &str) -> Result<Option<T>> {
        match self.get(relative).await? {
            Some(bytes) => self.parse(relative, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Reads `bytes` of the object `relative` as JSON.
    ///
    /// # Errors
    /// `Data` when they are not the JSON expected.
    pub fn parse<T: DeserializeOwned>(&self, relative: &str, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|e| {
            Error::new(ErrorKind::Data, format!("`{}` is damaged", self.path(relative)))
                .caused_by(e)
                .with_help("it was changed by hand or by a newer version; restore it from a backup")
        })
    }

    /// Creates an object unless it is there.
    ///
    /// # Errors
    /// `Storage` when the store does not answer clearly.
    pub async fn create(&self, relative: &str, bytes: Bytes) -> Result<Created> {
        let path = self.path(relative);
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&path, PutPayload::from(bytes.clone()), options).await {
                Ok(_) => return Ok(Created::Ours),
                Err(e @ object_store::Error::NotImplemented { .. }) => {
                    return Err(writing(&path, e)
                        .with_help("this store has no put-if-absent (conditional put), which a warehouse needs"));
                }
                Err(e) if matches!(Trouble::of(&e), Trouble::Full | Trouble::Forbidden | Trouble::NoBucket) => {
                    return Err(writing(&path, e));
                }
                Err(e) => last = Some(e),
            }
            match self.get(relative).await? {
                Some(found) if found == bytes => return Ok(Created::Ours),
                Some(found) => return Ok(Created::Theirs(found)),
                None => {}
            }
        }
        let silent = || object_store::Error::Generic { store: "warehouse", source: "no answer".into() };
        Err(writing(&path, last.unwrap_or_else(silent)))
    }

    /// Creates an object from a value unless it is there.
    ///
    /// # Errors
    /// `Storage` when the store does not answer clearly.
    pub async fn create_json<T: Serialize + Sync>(&self, relative: &str, value: &T) -> Result<Created> {
        self.create(relative, to_json(value)?).await
    }

    /// Writes an object over whatever is there. Only for objects with a single owner.
    ///
    /// # Errors
    /// `Storage` when the store cannot be written.
    pub async fn replace(&self, relative: &str, bytes: Bytes) -> Result<()> {
        let path = self.path(relative);
        self.store.put(&path, PutPayload::from(bytes)).await.map_err(|e| writing(&path, e))?;
        Ok(())
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// `Storage` when the store cannot be written.
    pub async fn remove(&self, relative: &str) -> Result<()> {
        let path = self.path(relative);
        let deleted = self.store.delete(&path).await;
        Point::Removed.reached();
        match deleted {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(because(Error::new(ErrorKind::Storage, format!("`{path}` cannot be removed")), e)),
        }
    }

    /// Names of the objects directly in a folder, sorted.
    ///
    /// # Errors
    /// `Storage` when the store cannot be listed.
    pub async fn names(&self, folder: &str) -> Result<Vec<String>> {
        self.list(folder, None).await
    }

    /// Names of the objects directly in a folder that sort after `after`, sorted.
    ///
    /// # Errors
    /// `Storage` when the store cannot be listed.
    pub async fn names_after(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        self.list(folder, Some(after)).await
    }

    async fn list(&self, folder: &str, after: Option<&str>) -> Result<Vec<String>> {
        let path = self.path(folder);
        let listing = match after {
            Some(after) => self.store.list_with_offset(Some(&path), &path.clone().join(after)),
            None => self.store.list(Some(&path)),
        };
        let depth = path.parts().count() + 1;
        let mut names: Vec<String> = listing
            .try_filter_map(|found| async move {
                let direct = found.location.parts().count() == depth;
                Ok(direct.then(|| found.location.filename().map(ToOwned::to_owned)).flatten())
            })
            .try_collect()
            .await
            .map_err(|e| {
                let error = Error::new(ErrorKind::Storage, format!("`{path}` cannot be listed"));
                because(error.with_help("check that the folder or bucket exists and that you may read it"), e)
            })?;
        names.sort_unstable();
        Ok(names)
    }
}

/// The bytes of a value as JSON with a final newline.
///
/// # Errors
/// `Failed` when the value has no JSON form.
pub fn to_json<T: Serialize>(value: &T) -> Result<Bytes> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .or_fail(ErrorKind::Failed, || "a record cannot be written as JSON".to_owned())?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

/// Number in a name such as `00000000000000000012.json`; `None` for other names.
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Name of numbered object: twenty digits, so that names sort as numbers do.
pub fn numbered(folder: &str, number: u64) -> String {
    format!("{folder}/{number:020}.json")
}

fn reading(path: &Path, e: object_store::Error) -> Error {
    because(Error::new(ErrorKind::Storage, format!("`{path}` cannot be read")), e)
}

fn writing(path: &Path, e: object_store::Error) -> Error {
    because(Error::new(ErrorKind::Storage, format!("`{path}` cannot be written")), e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn state() -> State {
        State::new(Arc::new(InMemory::new()), Path::from("w/house"))
    }

    #[tokio::test]
    async fn the_first_writer_wins_and_the_same_bytes_are_ours() {
        let state = state();
        assert_eq!(state.create("a/1.json", "x".into()).await.unwrap(), Created::Ours);
        assert_eq!(state.create("a/1.json", "x".into()).await.unwrap(), Created::Ours);
        assert_eq!(state.create("a/1.json", "y".into()).await.unwrap(), Created::Theirs("x".into()));
        assert_eq!(state.get("a/1.json").await.unwrap(), Some("x".into()));
        assert_eq!(state.get("a/2.json").await.unwrap(), None);
    }

    #[tokio::test]
    async fn names_are_direct_children_in_order() {
        let state = state();
        for name in ["a/2.json", "a/1.json", "a/b/3.json", "ab/4.json"] {
            state.create(name, "x".into()).await.unwrap();
        }
        assert_eq!(state.names("a").await.unwrap(), ["1.json", "2.json"]);
        assert_eq!(state.names_after("a", "1.json").await.unwrap(), ["2.json"]);
        assert_eq!(state.names("none").await.unwrap(), Vec::<String>::new());
    }

    #[test]
    fn numbers_have_twenty_digits() {
        assert_eq!(numbered("runs", 12), "runs/00000000000000000012.json");
        assert_eq!(number_of("00000000000000000012.json"), Some(12));
        assert_eq!(number_of("12.json"), None);
        assert_eq!(number_of("00000000000000000012.json#1"), None);
    }
}
