//! Stores for tests.

use futures::TryStreamExt as _;
use futures::stream::{BoxStream, StreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A store that dies at a write: that write does or does not happen, is answered by an error, and nothing
/// works after it.
#[derive(Debug)]
pub(crate) struct Dying {
    pub(crate) inner: Arc<dyn ObjectStore>,
    /// Writes until it dies.
    pub(crate) left: Arc<AtomicI64>,
    /// The last write happens before the answer is lost.
    pub(crate) lands: bool,
}

impl std::fmt::Display for Dying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.inner)
    }
}

fn dead() -> object_store::Error {
    object_store::Error::Generic { store: "dying", source: "killed".into() }
}

impl Dying {
    fn alive(&self) -> object_store::Result<()> {
        if self.left.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err(dead()) }
    }

    /// Counts a write: whether it happens, and whether its answer arrives.
    fn write(&self) -> (bool, bool) {
        let before = self.left.fetch_sub(1, Ordering::SeqCst);
        (before > 1 || (before == 1 && self.lands), before > 1)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Dying {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let (happens, answers) = self.write();
        let result = if happens { self.inner.put_opts(path, payload, options).await } else { Err(dead()) };
        if answers { result } else { Err(dead()) }
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(dead())
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let (happens, _) = self.write();
        if happens { self.inner.delete_stream(paths) } else { futures::stream::once(async { Err(dead()) }).boxed() }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(dead())
    }
}

/// A store in which another writer is a moment faster: when `path` is created, it holds `text` already.
#[derive(Debug)]
pub(crate) struct Overtaken {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) text: &'static str,
}

impl std::fmt::Display for Overtaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Overtaken {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        if *path == self.path {
            self.inner.put(path, self.text.into()).await?;
        }
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(dead())
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(dead())
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
