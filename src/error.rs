//! The world's failures: storage, network, data, other processes.
//!
//! An author's mistake is a [`crate::diagnostic::Diagnostic`]; everything else that can go wrong is an
//! [`Error`]: a kind (which decides the exit code), what was being done, and a way out. Chains are
//! printed once, at the edge (`cli`).

use std::fmt;

/// What sort of failure it was; decides the exit code and whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A model, a test or a sync failed while running (exit 1).
    Failed,
    /// Input data cannot be read or do not fit their declaration (exit 1).
    Data,
    /// A storage or network operation failed (exit 1).
    Storage,
    /// Usage or definitions are wrong (exit 2).
    Usage,
    /// A policy refused (exit 3).
    Refused,
    /// Another run holds the warehouse, or a commit lost a race (exit 75).
    Busy,
    /// The user stopped the run (exit 130).
    Interrupted,
}

/// A failure with its context, innermost first.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    help: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What to do where there is no room for a file.
pub const NO_ROOM: &str = "there is no room left on the disk, or a quota or `ulimit -f` allows no more: make some \
     (`kinfold vacuum` says what old runs left), then run again";

/// The next step after a lack of memory or of room, which is the same wherever it shows.
fn way_out(cause: &str) -> Option<&'static str> {
    let full = ["No space left on device", "Disk quota exceeded", "File too large"];
    if cause.contains("Resources exhausted") {
        return Some("give the run more memory with --memory, or fewer threads with --threads");
    }
    full.iter().any(|words| cause.contains(words)).then_some(NO_ROOM)
}

/// Result of everything that touches the world.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of `kind`, said in one line (lower case, no full stop).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, source: None }
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        if self.help.is_none() {
            self.help = way_out(&source.to_string()).map(str::to_owned);
        }
        self.source = Some(source);
        self
    }

    /// Adds the next step for the user.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Wraps this error in what was being done.
    #[must_use]
    pub fn context(self, doing: impl Into<String>) -> Self {
        Self { kind: self.kind, message: doing.into(), help: self.help.clone(), source: Some(Box::new(self)) }
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The next step for the user, if one is known.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Busy)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

/// Adds context to a foreign result, giving it a kind.
pub trait Context<T> {
    /// Turns a foreign error into [`Error`] of `kind`, described by `doing`.
    fn or_fail(self, kind: ErrorKind, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn or_fail(self, kind: ErrorKind, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::new(kind, doing()).caused_by(e))
    }
}
