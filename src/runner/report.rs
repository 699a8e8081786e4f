//! What a run leaves for people and machines: the summary and `target/run.json`.

use crate::engine::{CheckResult, CheckStatus, Facts};
use crate::error::Error;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One built model.
#[derive(Debug, Clone, Serialize)]
pub struct NodeReport {
    /// The model.
    pub model: String,
    /// Rows of its main table.
    pub rows: u64,
    /// Rows of its main table before the run; `None` when it is new.
    pub rows_before: Option<u64>,
    /// Duration of building it, in seconds.
    pub seconds: f64,
    /// What it made, by kind.
    pub facts: Facts,
}

/// A model whose tables stay as they are, because nothing that it is made from changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnchangedReport {
    /// The model.
    pub model: String,
    /// Its kind.
    pub kind: &'static str,
    /// Rows of its main table.
    pub rows: u64,
}

/// A model that this run did not commit, or a sync that it did not send, because of a data test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// The model or sync.
    pub model: String,
    /// Whether it was built and its own tests failed; else it was not built.
    pub built: bool,
    /// The model or source table whose tests failed.
    pub because: String,
}

/// One sync.
#[derive(Debug, Clone, Serialize)]
pub struct SyncReport {
    /// The sync model.
    pub sync: String,
    /// Where it went.
    pub destination: String,
    /// `success`, `partial`, `failure`, or `withheld` when nothing may be sent though nothing failed.
    pub result: String,
    /// Rows of its model.
    pub read: u64,
    /// Rows sent, by what for.
    pub inserted: u64,
    /// Rows sent because they changed.
    pub updated: u64,
    /// Rows deleted at the destination.
    pub deleted: u64,
    /// Rows that the destination has already.
    pub unchanged: u64,
    /// Rows handed to the destination.
    pub sent: u64,
    /// Rows that it acknowledged.
    pub acknowledged: u64,
    /// Rows that it refused.
    pub rejected: u64,
    /// Rows held back by consent, policy or the `min_size` of their audience.
    pub withheld: u64,
    /// Why nothing was sent, when nothing failed.
    pub note: Option<String>,
    /// Rows that the next run sends whether they change or not: refused for now, or planned and without an answer.
    pub again: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// How much of it rows were under way; before that they were made and compared.
    pub delivery_seconds: f64,
    /// Whether a policy stopped it.
    pub refused: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// The next step.
    pub help: Option<String>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct RunReport {
    /// Version of this format.
    pub format: u32,
    /// Number of the run.
    pub run: u64,
    /// Project name.
    pub project: String,
    /// Warehouse location.
    pub warehouse: String,
    /// Logical time.
    pub as_of: DateTime<Utc>,
    /// Start and end by the wall clock.
    pub started_at: DateTime<Utc>,
    /// End by the wall clock.
    pub ended_at: DateTime<Utc>,
    /// Files of the source tables that the built models read.
    pub source_files: u64,
    /// Bytes of those files.
    pub source_bytes: u64,
    /// Bytes of the partial states that are kept after the run.
    pub partial_bytes: u64,
    /// Built models in the order in which they were finished.
    pub nodes: Vec<NodeReport>,
    /// Selected models that were not built, by name.
    pub unchanged: Vec<UnchangedReport>,
    /// Tables and models whose data tests passed before on what is there now, and were not run.
    pub untested: BTreeSet<String>,
    /// Data tests.
    pub checks: Vec<CheckResult>,
    /// What was not committed or sent because of them.
    pub withheld: Vec<Withheld>,
    /// Syncs.
    pub syncs: Vec<SyncReport>,
    /// Duration by stage (`prepare`, `identity`, `profile`, `audience`, `sql`, `write`, `sync`), in seconds.
    pub stages: BTreeMap<String, Stage>,
    /// What kept the syncs from running at all, after the models were committed.
    #[serde(skip)]
    pub failure: Option<Error>,
}

/// Duration of a stage.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Stage {
    /// Seconds by the wall clock; stages that overlap count twice.
    pub wall: f64,
}

impl RunReport {
    /// Whether every test and every sync succeeded. A sync that may send nothing has nothing to fail.
    pub fn is_success(&self) -> bool {
        self.checks.iter().all(|c| c.status != CheckStatus::Fail)
            && self.withheld.is_empty()
            && self.syncs.iter().all(|s| matches!(s.result.as_str(), "success" | "withheld"))
    }
}
