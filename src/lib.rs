//! Kinfold: identity stitching, profiles, audiences and syncs over raw tables.
//!
//! The way through, one folder a step:
//!
//! ```text
//! files (YAML, SQL) -> project (parsed, with spans) -> graph (order, selection) -> plan (what a run will do)
//!   -> engine (bind, execute) -> warehouse (commit) -> sync (to destinations)
//! ```
//!
//! [`model`] is what an author defined; [`diagnostic`] what is wrong with it; [`identity`] the pure stitching
//! core; [`privacy`] what may be known of a person and where it goes; [`runner`] executes a plan; [`cli`] says what happened and decides nothing.
//! [`points`] names the points of a run at which tests end it.

pub mod cli;
pub mod diagnostic;
pub mod engine;
pub mod error;
pub mod graph;
pub mod identity;
pub mod model;
pub mod plan;
pub mod points;
pub mod privacy;
pub mod project;
pub mod runner;
pub mod site;
pub mod sync;
pub mod warehouse;
