//! The `kinfold` command: parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kinfold::cli::main()
}
