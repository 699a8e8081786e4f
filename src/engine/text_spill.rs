//! Texts of identifiers that do not fit the memory budget: one after the other in a file.

use crate::identity::TextFile;
use datafusion::error::{DataFusionError, Result as Made};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::spill_file::{SpillFile, SpillWriter};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The file, which is made when there is something to write.
pub(super) struct TextSpill {
    env: Arc<RuntimeEnv>,
    open: Mutex<Option<Open>>,
    failure: OnceLock<io::Error>,
}

struct Open {
    /// Removes the file with itself.
    _file: Arc<dyn SpillFile>,
    to: Box<dyn SpillWriter>,
    from: File,
    /// How much was written.
    len: u64,
}

impl TextSpill {
    pub(super) fn new(env: &Arc<RuntimeEnv>) -> Self {
        Self { env: Arc::clone(env), open: Mutex::default(), failure: OnceLock::new() }
    }

    /// Says why a text could not be read, if that has happened: what was made of texts is not to be used then.
    ///
    /// # Errors
    /// That it has.
    pub(super) fn check(&self) -> Made<()> {
        match self.failure.get() {
            None => Ok(()),
            Some(error) => Err(io::Error::new(error.kind(), error.to_string()).into()),
        }
    }
}

impl Open {
    fn new(env: &RuntimeEnv) -> Made<Self> {
        let file = env.disk_manager.create_tmp_file("identifiers of an identity")?;
        let path = file.path().ok_or_else(|| DataFusionError::Internal("a file without a path".to_owned()))?;
        let from = File::open(path)?;
        Ok(Self { to: file.open_writer()?, from, _file: file, len: 0 })
    }
}

impl TextFile for TextSpill {
    fn append(&self, texts: &[u8]) -> io::Result<u64> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match &mut *open {
            Some(open) => open,
            none => none.insert(Open::new(&self.env).map_err(io::Error::other)?),
        };
        open.to.write_all(texts)?;
        open.to.flush()?;
        let start = open.len;
        open.len += texts.len() as u64;
        Ok(start)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        open.from.seek(SeekFrom::Start(at))?;
        open.from.read_exact(into)
    }

    fn failed(&self, error: io::Error) {
        // the first one says it; those after it follow from it
        let _ = self.failure.set(error);
    }
}

impl fmt::Debug for TextSpill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextSpill").field("failure", &self.failure).finish_non_exhaustive()
    }
}
