//! What may be known of a person, and where it goes. Pure.
//!
//! - [`address`]: which columns of a sync hold what people are reached by.
//! - [`cells`]: which groups of an aggregate count too few people to be published, or would give such a group away.
//! - [`label`]: classes of data (`identity.email`, `phi.diagnosis`), and what approved functions lower them to.
//! - [`map`]: labels follow the data, by column lineage, from source columns through every model.
//! - [`policy`]: what a destination may get, and the way on which it would get more.
//! - [`suggestion`]: which label a column may need, from a sample.
//! - [`tombstone`]: whose rows may not be read any more.
//!
//! Rules: a column carries the labels of what its values are computed from, and as `derived.` those of what decides
//! them. That a row is there carries, as `derived.`, the labels of what decides that; whoever reads a table reads its
//! rows, so that a column need not carry them again. Labels go only through an approved function or `declassify`.
//! Lineage is never too small, so a label may be carried too far and is never lost.

mod address;
mod cells;
mod label;
mod map;
mod policy;
mod suggestion;
mod tombstone;

pub use address::addresses;
pub use cells::{Cell, Withheld, suppressed};
pub use label::{DERIVED, Label, REGION, UNLABELLED, covers, derived, is_health, lowered};
pub use map::{LabelMap, Labels, Step};
pub use policy::{check, misplaced};
pub use suggestion::{Suggestion, suggest};
pub use tombstone::{Decision, Mark, Tombstone, Tombstones};
