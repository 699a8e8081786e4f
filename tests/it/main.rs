//! The integration tests: one binary, because every further one would link the engine again.
//!
//! Everything is tested from outside, through the `kinfold` command: exit codes, standard output, standard
//! error and the tables that a run leaves. Tests that need other programs (another engine,
//! an S3 server) are ignored unless asked for; `scripts/test.sh` makes the venv and asks for them.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod aggregates;
mod architecture;
mod artefacts;
mod audience_explain;
mod audiences;
mod audit;
mod bad_input;
mod binding;
mod cells;
mod checking;
mod cli;
mod clinic;
mod conditions;
mod consent;
mod crash;
mod daily;
mod data_tests;
mod delta_sources;
#[allow(clippy::disallowed_methods, reason = "UPDATE_EXPECTED is read by the test that knows what to do with it")]
mod diagnostics;
mod external;
mod forget;
mod history;
mod http;
mod identities;
mod identity_explain;
mod identity_undo;
mod incremental;
mod kept;
mod lineage;
mod meanings;
mod merged;
mod mutations;
mod partials;
mod planning;
mod postgres;
mod privacy;
mod receiver;
mod schema;
mod selection;
mod shell;
mod support;
mod timeline;
mod unit_tests;
