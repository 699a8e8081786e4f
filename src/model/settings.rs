//! `kinfold.yaml`: name, warehouse, logical time, vars and targets.

use super::Duration;
use crate::diagnostic::Spanned;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::fmt;

/// Project-wide settings after the target was applied.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Project name.
    pub name: String,
    /// Warehouse folder or URL; relative paths are relative to the project.
    pub warehouse: String,
    /// Fixed logical time; the default is the start of the run.
    pub as_of: Option<DateTime<Utc>>,
    /// IANA zone of times without a zone.
    pub timezone: String,
    /// Values for `var()`.
    pub vars: BTreeMap<String, String>,
    /// Values for `secret()`, never printed.
    pub secrets: BTreeMap<String, Secret>,
    /// What a vacuum keeps.
    pub retention: Retention,
    /// Whether runs keep partial states of source tables, so that later runs do not read old files again.
    pub partials: bool,
    /// Regions in which data of sources stay that name none themselves.
    pub regions: Vec<Spanned<String>>,
    /// Names of the targets that the file defines.
    pub targets: Vec<Spanned<String>>,
}

/// Which runs a vacuum keeps: whichever of the two keeps more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest runs that built models; at least one.
    pub runs: u32,
    /// All runs that are not older than the newest by more than this.
    pub period: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { runs: 10, period: Duration { micros: 7 * 24 * 3_600_000_000 } }
    }
}

/// A value that must never reach a log, an artefact or an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
