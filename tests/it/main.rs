//! The integration tests: one binary, because every further one would link DataFusion again.
//!
//! Everything is tested from outside, through the `kinfold` command: exit codes, standard output, standard
//! error and the tables that a run leaves. Tests that need other programs (a venv with DuckDB and an S3
//! server) are ignored unless asked for; `scripts/test.sh` makes the venv and asks for them.

mod architecture;
mod bad_input;
mod cli;
mod clinic;
mod crash;
mod diagnostics;
mod external;
mod selection;
mod support;
