//! Executes a plan: prepares a project, builds its models in dependency order (independent ones in parallel),
//! commits everything in one step, then syncs. Says what happens through [`Progress`]; prints nothing.
//!
//! Rules: a model is not built when all that it is made from is as it was; its tables stay at their version. Nothing
//! is committed unless every other selected model was built, or withheld by a data test: what fails an
//! error test is not committed, and what reads it is neither built nor sent; the last committed tables stay. A
//! sync sends only what is committed. The wall clock is used for leases, durations and the default logical time.

mod audience;
mod audit;
mod checks;
mod committed;
mod consent;
mod difference;
mod explain;
mod forget;
mod history;
mod kept;
mod labels;
mod lineage;
mod listing;
mod merged;
mod openlineage;
mod planning;
mod prepare;
mod progress;
mod reading;
mod report;
mod rows;
mod run;
mod scans;
mod schemas;
mod search;
mod site;
mod stages;
mod state;
mod suggest;
mod suppressed;
mod syncs;
mod tombstones;
mod unit;
mod vacuum;
mod work;

pub use audience::{AudienceAnswer, AudiencePreview, explain_audience, preview_audience};
pub use audit::{Reading, audit_entries, note_question, note_reading, verify_audit};
pub use checks::{DataReport, test_data};
pub use consent::{ConsentAnswer, explain_consent};
pub use difference::{RunDifference, RunPair, TableBetween, difference};
pub use explain::{IdentityAnswer, IdentityQuestion, explain_identity};
pub use forget::{Certificate, forget};
pub use labels::{LabelledColumn, LabelledTable, label_map};
pub use lineage::{LineageAnswer, LineageRequest, lineage};
pub use listing::{Listed, list};
pub use openlineage::Events;
pub use planning::{ColumnChange, Effect, Effects, Preview, Reads, Step, SyncSample, SyncSummary, preview};
pub use prepare::{Failure, Options, Outline, Prepared, Purpose, Resend, outline, prepare, prepare_for};
pub use progress::{Progress, Silent};
pub use reading::{last_runs, reader};
pub use report::{NodeReport, RunReport, SyncReport, UnchangedReport, Withheld};
pub use rows::{Difference, TableDifference};
pub use run::{run, warehouse_of};
pub use scans::explain_plan;
pub use schemas::{LOCK, Refreshed, refresh_schemas};
pub use site::build_site;
pub use state::{current_manifest, leave_manifest, manifest};
pub use suggest::{SuggestedLabel, suggest_labels};
pub use tombstones::{PersonDecision, PersonRequest, suppress};
pub use unit::{UnitOutcome, UnitReport, UnitRun, test_units};
pub use vacuum::{Vacuumed, vacuum};
