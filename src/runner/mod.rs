//! Executes a plan: prepares a project, builds its models in dependency order (independent ones in parallel),
//! commits everything in one step, then syncs. Says what happens through [`Progress`]; prints nothing.
//!
//! Rules: nothing is committed unless every selected model was built; the last committed tables stay. A sync
//! sends only what is committed. The wall clock is used for leases, durations and the default logical time.

mod history;
mod lineage;
mod listing;
mod openlineage;
mod planning;
mod prepare;
mod progress;
mod reading;
mod report;
mod run;
mod schemas;
mod site;
mod stages;
mod state;
mod syncs;

pub use lineage::{LineageAnswer, LineageRequest, lineage};
pub use listing::{Listed, list};
pub use openlineage::Events;
pub use planning::{ColumnChange, Effect, Effects, Preview, Reads, Step, SyncSummary, preview};
pub use prepare::{Failure, Options, Outline, Prepared, Purpose, outline, prepare, prepare_for};
pub use progress::{Progress, Silent};
pub use reading::{last_runs, reader};
pub use report::{NodeReport, RunReport, SyncReport};
pub use run::{run, warehouse_of};
pub use schemas::{LOCK, Refreshed, refresh_schemas};
pub use site::build_site;
pub use state::{current_manifest, leave_manifest, manifest};
