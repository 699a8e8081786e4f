//! The keys of `kinfold.yaml`.

use super::values::{Anything, Boolean, ByKey, ByName, Count, Duration, Filled, OneOrMany, Scalar, Time, Zone};
use schemars::JsonSchema;

/// The project's settings: name, warehouse, logical time, variables, secrets, targets.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "kinfold.yaml")]
pub(super) struct SettingsFile {
    /// Name of the project; default is that of its folder.
    name: Option<Filled>,
    /// Free text for people.
    description: Option<Anything>,
    /// Where the tables are committed: a folder, or `s3://bucket/prefix`. Default `target/warehouse`.
    warehouse: Option<Filled>,
    /// Fixed logical time of every run; without it a run looks at the data as of its start.
    as_of: Option<Time>,
    /// Zone of times that name none: `UTC` (default), `+01:00` or `Europe/Berlin`.
    timezone: Option<Zone>,
    /// Values for `var('name')` in SQL, by name.
    vars: Option<ByKey<Scalar>>,
    /// Values for `secret('NAME')`, by name. Take them from the environment: `"${NAME}"`, never in the clear.
    secrets: Option<ByKey<Filled>>,
    /// Which runs `kinfold vacuum` keeps.
    retention: Option<Retention>,
    /// Whether runs keep partial states of source tables, so that later runs do not read old files again. Default false.
    partials: Option<Boolean>,
    /// Regions in which the data of sources stay that name none themselves.
    regions: Option<OneOrMany<Filled>>,
    /// What `--target` changes, by the target's name.
    targets: Option<ByName<Target>>,
    /// The target that is used without `--target`.
    target: Option<Filled>,
}

/// Which runs a vacuum keeps: whichever of the two keeps more.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Retention {
    /// So many of the newest runs that built models. Default 10.
    runs: Option<Count>,
    /// All runs up to this long before the newest, such as `30 days`. Default `7 days`.
    period: Option<Duration>,
}

/// Another place to run in: what it changes of the settings.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Target {
    /// Free text for people.
    description: Option<Anything>,
    /// Warehouse of this target.
    warehouse: Option<Filled>,
    /// Logical time of this target.
    as_of: Option<Time>,
    /// Single variables that this target changes.
    vars: Option<ByKey<Scalar>>,
    /// Whether runs of this target keep partial states.
    partials: Option<Boolean>,
}
