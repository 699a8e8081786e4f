//! The destinations that are built in, one file each.

pub mod delta;
pub mod files;
pub mod http;
pub mod postgres;
