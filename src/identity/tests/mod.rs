//! The whole of identity against slow and obvious implementations of its rules, over small random worlds.

mod bridges;
mod causes;
mod chains;
mod naming;
mod reference;
mod stitching;
mod world;
