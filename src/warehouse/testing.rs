//! A store whose requests fail as a test says.
//!
//! What may go wrong in the world: a request is refused, its answer is lost although it was done, it takes long, a file
//! is written by half, there is no room, another writer is a moment faster, the process dies.

use futures::TryStreamExt as _;
use futures::stream::{BoxStream, StreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind as Io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verb {
    Put,
    Get,
    Delete,
    List,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: it is done and answered.
    None,
    /// It is not done, and may be the next time.
    Refused,
    /// It is not done, and never will be.
    Forbidden,
    /// It is done, and nobody is told.
    LostAnswer,
    /// Half of a data file is written; any other object is put whole or not at all.
    Torn,
    /// It is done after others.
    Slow,
    /// It is not done: the disk is full.
    Full,
    /// It is not done: the process is dead.
    Dead,
    /// Somebody else creates the object with this text first.
    Overtaken(&'static str),
}

type Schedule = Box<dyn Fn(Verb, &Path) -> Fault + Send + Sync>;

/// A store with faults.
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    schedule: Schedule,
    /// Requests so far.
    pub(crate) requests: AtomicU64,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

impl Faulty {
    /// A store whose faults are decided request by request.
    pub(crate) fn new(
        inner: &Arc<dyn ObjectStore>,
        schedule: impl Fn(Verb, &Path) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self { inner: Arc::clone(inner), schedule: Box::new(schedule), requests: AtomicU64::new(0) }
    }

    /// A store that dies at a write: `left` are the writes until then. The last one happens or not; nothing works
    /// after it.
    pub(crate) fn dying(inner: &Arc<dyn ObjectStore>, left: &Arc<AtomicI64>, lands: bool) -> Self {
        let left = Arc::clone(left);
        Self::new(inner, move |verb, _| match verb {
            Verb::Put | Verb::Delete => match left.fetch_sub(1, Ordering::SeqCst) {
                2.. => Fault::None,
                1 if lands => Fault::LostAnswer,
                _ => Fault::Dead,
            },
            Verb::Get | Verb::List if left.load(Ordering::SeqCst) > 0 => Fault::None,
            Verb::Get | Verb::List => Fault::Dead,
        })
    }

    /// A store in which another writer is a moment faster: when `path` is created, it holds `text` already.
    pub(crate) fn overtaken(inner: &Arc<dyn ObjectStore>, path: Path, text: &'static str) -> Self {
        Self::new(
            inner,
            move |verb, at| {
                if verb == Verb::Put && *at == path { Fault::Overtaken(text) } else { Fault::None }
            },
        )
    }

    /// A store whose faults follow from a seed: the n-th request of a sort to a path has the same fault each time,
    /// whatever threads do. One in two seeds dies at some write, one in six fills the disk.
    pub(crate) fn seeded(inner: &Arc<dyn ObjectStore>, seed: u64) -> Self {
        let ends = Dice::new((seed, "end"));
        let writes = AtomicU64::new(0);
        let (end, at) = (ends.roll(6), Dice::new((seed, "at")).roll(40));
        let seen: Mutex<BTreeMap<(Verb, Path), u64>> = Mutex::default();
        Self::new(inner, move |verb, path| {
            let write = matches!(verb, Verb::Put | Verb::Delete);
            let written = if write { writes.fetch_add(1, Ordering::SeqCst) } else { writes.load(Ordering::SeqCst) };
            match end {
                0..=2 if written > at => return Fault::Dead,
                3 if written > at && verb == Verb::Put => return Fault::Full,
                _ => {}
            }
            let mut seen = seen.lock().unwrap();
            let count = seen.entry((verb, path.clone())).or_default();
            *count += 1;
            match (Dice::new((seed, verb, path.as_ref(), *count)).roll(40), write) {
                (0..=1, _) => Fault::Refused,
                (2..=4, true) => Fault::LostAnswer,
                (5, true) => Fault::Torn,
                (6..=9, _) => Fault::Slow,
                _ => Fault::None,
            }
        })
    }

    fn fault(&self, verb: Verb, path: &Path) -> Fault {
        self.requests.fetch_add(1, Ordering::SeqCst);
        (self.schedule)(verb, path)
    }

    /// What happens before a request: waits, fails, or says that its answer is lost.
    async fn before(&self, verb: Verb, path: &Path) -> Result<Fault> {
        let fault = self.fault(verb, path);
        match fault {
            Fault::Refused | Fault::Full | Fault::Dead | Fault::Forbidden => return Err(error(fault, path)),
            Fault::Slow => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            Fault::None | Fault::LostAnswer | Fault::Torn | Fault::Overtaken(_) => {}
        }
        Ok(fault)
    }
}

fn error(fault: Fault, path: &Path) -> object_store::Error {
    let generic =
        |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic { store: "faulty", source };
    match fault {
        Fault::Full => generic(std::io::Error::new(Io::StorageFull, "no space left on device").into()),
        Fault::Dead => generic("killed".into()),
        Fault::Forbidden => {
            object_store::Error::PermissionDenied { path: path.to_string(), source: "403 Forbidden".into() }
        }
        _ => generic(std::io::Error::new(Io::TimedOut, "no answer").into()),
    }
}

/// Numbers that follow from what they are for.
struct Dice(u64);

impl Dice {
    fn new(of: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        of.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// A number below `sides`.
    fn roll(&self, sides: u64) -> u64 {
        self.0 % sides
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.before(Verb::Put, path).await?;
        if let Fault::Overtaken(text) = fault {
            self.inner.put(path, text.into()).await?;
        }
        if fault == Fault::Torn {
            // stores replace small objects whole; only files of data come in parts
            let data = path.filename().is_some_and(|name| name.starts_with("part-"));
            if data && options.mode == PutMode::Overwrite {
                let bytes: bytes::Bytes = payload.into();
                self.inner.put(path, bytes.slice(..bytes.len() / 2).into()).await?;
            }
            return Err(error(fault, path));
        }
        let result = self.inner.put_opts(path, payload, options).await;
        if fault == Fault::LostAnswer { Err(error(fault, path)) } else { result }
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(error(Fault::Dead, path))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.before(Verb::Get, path).await?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // one request takes many paths, as in a bucket
        let (all, fault) = (Path::default(), self.fault(Verb::Delete, &Path::default()));
        match fault {
            Fault::None | Fault::Slow | Fault::Torn | Fault::Overtaken(_) => self.inner.delete_stream(paths),
            Fault::LostAnswer => {
                let done = self.inner.delete_stream(paths);
                done.and_then(move |path| async move { Err(error(fault, &path)) }).boxed()
            }
            _ => futures::stream::once(async move { Err(error(fault, &all)) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let at = prefix.cloned().unwrap_or_default();
        match self.fault(Verb::List, &at) {
            fault @ (Fault::Refused | Fault::Dead | Fault::Forbidden) => {
                futures::stream::once(async move { Err(error(fault, &at)) }).boxed()
            }
            _ => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.before(Verb::List, &prefix.cloned().unwrap_or_default()).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(error(Fault::Dead, from))
    }
}

/// All objects of a store in a new one.
pub(crate) async fn copy(store: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let new: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let all: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    for meta in all {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        new.put(&meta.location, bytes.into()).await.unwrap();
    }
    new
}
