//! The points of a run at which its end matters, by name, in the order in which a run comes to them.
//!
//! Between two of them nothing changes that another process or a later run could see. `tests/it/crash.rs` kills, stops and
//! interrupts runs at each of them, and fails when a run does not come by. For that, a build with debug assertions reads
//! the variable `KINFOLD_SIGNAL_AT`: with `KILL staged 2` the process sends itself SIGKILL when it is at that point the
//! second time; whatever the value is, it says on stderr where it comes by. A release build knows nothing of it.

/// A point of a run, just after what it is named for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The lease is taken: others are told to come back.
    Leased,
    /// A data file lies in the folder of its table; no log names it.
    FileWritten,
    /// The list of all that the run commits is there: the run happens, whatever becomes of its process.
    Staged,
    /// One table has its next version.
    TableCommitted,
    /// The record is there: the run is visible.
    Recorded,
    /// One table has a checkpoint of its log.
    Checkpointed,
    /// The lease is given back.
    Released,
    /// What a sync is about to send is in its log.
    Planned,
    /// A destination has a batch, and nobody has noted it.
    Delivered,
    /// The destination's answers are in the log of the sync.
    Answered,
    /// Something that nobody needs any more is removed.
    Removed,
    /// `target/run.json` is written.
    Reported,
}

impl Point {
    /// All points.
    pub const ALL: [Self; 12] = [
        Self::Leased,
        Self::FileWritten,
        Self::Staged,
        Self::TableCommitted,
        Self::Recorded,
        Self::Checkpointed,
        Self::Released,
        Self::Planned,
        Self::Delivered,
        Self::Answered,
        Self::Removed,
        Self::Reported,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::FileWritten => "file-written",
            Self::Staged => "staged",
            Self::TableCommitted => "table-committed",
            Self::Recorded => "recorded",
            Self::Checkpointed => "checkpointed",
            Self::Released => "released",
            Self::Planned => "planned",
            Self::Delivered => "delivered",
            Self::Answered => "answered",
            Self::Removed => "removed",
            Self::Reported => "reported",
        }
    }

    /// Says that the run is here.
    #[cfg(not(debug_assertions))]
    pub(crate) const fn reached(self) {}

    /// Says that the run is here.
    #[cfg(debug_assertions)]
    pub(crate) fn reached(self) {
        asked::reached(self);
    }
}

#[cfg(debug_assertions)]
mod asked {
    use super::Point;
    use std::io::Write as _;
    use std::process::Command;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{LazyLock, OnceLock};

    /// What a test asks for: a signal and the time at a point, as one text.
    static ASKED: OnceLock<Option<String>> = OnceLock::new();
    /// How often the run came by each point.
    static TIMES: LazyLock<[AtomicU32; Point::ALL.len()]> = LazyLock::new(Default::default);

    #[expect(clippy::disallowed_methods, reason = "no part of the product: release builds do not have it")]
    fn asked() -> Option<&'static str> {
        ASKED.get_or_init(|| std::env::var("KINFOLD_SIGNAL_AT").ok()).as_deref()
    }

    pub(super) fn reached(point: Point) {
        let (Some(asked), Some(times)) = (asked(), TIMES.get(point as usize)) else { return };
        let here = format!("{} {}", point.name(), times.fetch_add(1, Ordering::SeqCst) + 1);
        let _ = writeln!(std::io::stderr(), "point {here}");
        let Some((signal, at)) = asked.split_once(' ') else { return };
        if at == here {
            let _ = Command::new("kill").args(["-s", signal, &std::process::id().to_string()]).status();
        }
    }
}
