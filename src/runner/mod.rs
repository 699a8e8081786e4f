//! Executes a plan: prepares a project, builds its models in dependency order (independent ones in parallel),
//! commits everything in one step, then syncs. Says what happens through [`Progress`]; prints nothing.
//!
//! Rules: nothing is committed unless every selected model was built; the last committed tables stay. A sync
//! sends only what is committed. The wall clock is used for leases, durations and the default logical time.

mod history;
mod lineage;
mod listing;
mod prepare;
mod progress;
mod reading;
mod report;
mod run;
mod stages;
mod syncs;

pub use lineage::{LineageAnswer, LineageRequest, lineage};
pub use listing::{Listed, list};
pub use prepare::{Failure, Options, Prepared, prepare, prepare_for};
pub use progress::{Progress, Silent};
pub use reading::{last_runs, reader};
pub use report::{NodeReport, RunReport, SyncReport};
pub use run::{run, warehouse_of};
