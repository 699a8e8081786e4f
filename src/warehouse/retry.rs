//! What went wrong in a store: whether trying again can help, and what the user can do.
//!
//! The client of S3 retries by itself (ten times within three minutes, with growing pauses; after 5xx, 408, 429 and broken
//! connections), and what it gives up on is not tried again. Local files have no such client, and a folder may be
//! a network's: [`Retrying`] tries again there. What is permanent (no right, no bucket, no room) is said at once.

use crate::error::{Error, NO_ROOM};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use std::io::ErrorKind as Io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Tries of one request.
pub(super) const ATTEMPTS: u32 = 5;
/// Pause before the second try; each later one is four times as long (together 1.7 seconds).
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Deletions at once.
const DELETIONS: usize = 10;
/// "Too many open files", of the process and of the system: others close theirs.
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// What to make of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It may work in a moment.
    Passing,
    /// There is no room.
    Full,
    /// The user has no right to it, or no valid credentials.
    Forbidden,
    /// The bucket is not there.
    NoBucket,
    /// Anything else: the same again.
    Other,
}

impl Trouble {
    pub(super) fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => return Self::Forbidden,
            E::NotFound { source, .. } if source.to_string().contains("NoSuchBucket") => return Self::NoBucket,
            E::Generic { source, .. } => {
                // a listing is not told apart by the client
                let text = source.to_string();
                if text.contains("NoSuchBucket") {
                    return Self::NoBucket;
                }
                if text.contains("403 Forbidden") || text.contains("401 Unauthorized") {
                    return Self::Forbidden;
                }
            }
            _ => return Self::Other,
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>() {
                return Self::of_io(io);
            }
            cause = inner.source();
        }
        Self::Other
    }

    fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Self::Full,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Self::Forbidden,
            Io::Interrupted
            | Io::WouldBlock
            | Io::TimedOut
            | Io::ResourceBusy
            | Io::StaleNetworkFileHandle
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NetworkDown
            | Io::HostUnreachable => Self::Passing,
            _ if error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code)) => Self::Passing,
            _ => Self::Other,
        }
    }

    /// The next step for the user.
    fn help(self) -> Option<&'static str> {
        match self {
            Self::Passing => Some("the store did not do it after several tries; try again later"),
            Self::Full => Some(NO_ROOM),
            Self::Forbidden => Some(
                "check who may read and write there; for S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they allow",
            ),
            Self::NoBucket => Some("there is no such bucket: make it, or correct the location"),
            Self::Other => None,
        }
    }
}

/// An error about a store, with the way out where one is known.
pub(super) fn because(error: Error, cause: object_store::Error) -> Error {
    let help = Trouble::of(&cause).help();
    let error = error.caused_by(cause);
    match help {
        Some(help) => error.with_help(help),
        None => error,
    }
}

/// Waits before a try; the first (0) does not wait.
pub(super) async fn pause(attempt: u32) {
    if attempt > 0 {
        tokio::time::sleep(FIRST_PAUSE * 4_u32.pow(attempt - 1)).await;
    }
}

/// A store that tries again what may work in a moment.
///
/// Put-if-absent is not among it: after an unclear answer [`super::State::create`] looks first. Neither are parts of
/// an upload, whose place in the file is taken by then; whoever uploads begins anew.
#[derive(Debug)]
pub(super) struct Retrying {
    inner: Arc<dyn ObjectStore>,
}

impl Retrying {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner }
    }
}

impl std::fmt::Display for Retrying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.inner)
    }
}

/// The answer to a request that is made again while its trouble passes.
macro_rules! retried {
    ($request:expr) => {{
        let mut attempt = 0;
        loop {
            pause(attempt).await;
            attempt += 1;
            match $request.await {
                Err(error) if attempt < ATTEMPTS && Trouble::of(&error) == Trouble::Passing => {}
                answer => break answer,
            }
        }
    }};
}

#[async_trait]
impl ObjectStore for Retrying {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        if options.mode != PutMode::Overwrite {
            return self.inner.put_opts(path, payload, options).await;
        }
        retried!(self.inner.put_opts(path, payload.clone(), options.clone()))
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        retried!(self.inner.put_multipart_opts(path, options.clone()))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        retried!(self.inner.get_opts(path, options.clone()))
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        retried!(self.inner.get_ranges(path, ranges))
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        let inner = Arc::clone(&self.inner);
        let delete = move |path: StoreResult<Path>| {
            let inner = Arc::clone(&inner);
            async move {
                let path = path?;
                retried!(inner.delete(&path)).map(|()| path)
            }
        };
        paths.map(delete).buffered(DELETIONS).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        retried!(self.inner.list_with_delimiter(prefix))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
