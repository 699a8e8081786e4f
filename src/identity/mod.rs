//! Identity stitching over coded links: which identifiers are one entity, and what that entity is called.
//!
//! The way through, each step a file:
//!
//! 1. `interner`: identifier texts become codes, exactly, from several threads ([`Interner`], [`Nodes`]);
//!    `spellings`: so do raw texts, each of which is normalised once ([`Speller`], [`Spellings`]).
//! 2. `links`: every pair of identifiers seen in one row, once, with its earliest evidence ([`LinkSet`]).
//! 3. `hubs`: identifiers with more neighbours than their type allows ([`Hub`]).
//! 4. `stitch`: components of the links that are left ([`stitch`]); `guarded`: those components in which a guard
//!    would be broken, taken apart link by link; `refused`: which links were not taken, and why ([`Refused`]).
//! 5. `assign`: ids from the registry and from anchors, and what changed ([`assign_ids`], [`EntityId`]);
//!    `causes`: what tore apart those that were split ([`find_causes`]).
//! 6. What is told about the result: `strength`, which identifiers say who somebody is ([`Holdings`]); `bridges`,
//!    entities that hang on a single weak link ([`find_suspects`]); `owners`, rows that belong to nobody
//!    ([`RowOwners`]).
//!
//! Afterwards, over what was kept: `chain` finds the links that join two identifiers or come nearest to it
//! ([`shortest_chain`]); `explained` is what is told of them.
//!
//! The result depends on the set of rows, the rules, the registry and the key, and on nothing else: not on the
//! order of rows or links, nor on how codes were numbered, nor on threads, nor on rows that share no identifier.
//! Codes are therefore names and never ranks; whatever needs an order takes it from (type, text).
//!
//! This folder is pure: it reads no file, no clock and no environment, and knows no query engine. Normalising
//! and blocking values, reading rows and writing tables are the engine's, and so is the file behind [`TextFile`], where
//! texts go that memory has no room for.

mod assign;
mod bridges;
mod causes;
mod chain;
mod entity_id;
mod explained;
mod forest;
mod groups;
mod guarded;
mod hubs;
mod interner;
mod limits;
mod links;
mod memory;
mod nodes;
mod order;
mod owners;
mod parallel;
mod periods;
mod refused;
mod shard;
mod spellings;
mod stitch;
mod strength;
#[cfg(test)]
mod tests;
mod texts;

pub use assign::{Assigned, Change, IdInput, Registered, assign_ids};
pub use bridges::{BridgeInput, Side, Suspect, Suspects, find_suspects};
pub use causes::{Cause, CauseInput, find_causes};
pub use chain::{Chain, ChainLink, ChainStep, links_around, shortest_chain};
pub use entity_id::{EntityId, NotAnEntityId};
pub use explained::{
    Asked, Drawing, DrawnEdge, DrawnNode, EntityExplanation, ExplainedLink, Grounds, HubNote, Identifier, Member,
    PairExplanation, Role, Standing, Whose,
};
pub use hubs::Hub;
pub use interner::{Interner, InternerFull, NO_LAST_TIME, NO_NODE, NO_TIME, Scratch};
pub use links::{Evidence, Link, LinkSet, Links, Pair};
pub use memory::{naming_bytes, stitching_bytes};
pub use nodes::Nodes;
pub use owners::RowOwners;
pub use refused::{Candidate, RefusalReason, Refused};
pub use spellings::{Spelled, Speller, Spellings};
pub use stitch::{HUB, MaxLinks, StitchInput, Stitched, TypePolicy, stitch};
pub use strength::Holdings;
pub use texts::TextFile;
