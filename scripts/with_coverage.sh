#!/usr/bin/env bash
# Compiles a crate of ours with the coverage counters that scripts/fuzz.sh needs (Cargo's RUSTC_WORKSPACE_WRAPPER).
exec "$@" --cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
