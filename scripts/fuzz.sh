#!/usr/bin/env bash
# Looks for definitions that make Kinfold panic, hang or fail in another way than with a finding.
#
#   scripts/fuzz.sh TARGET [libFuzzer options]
#
#   TARGET             `loader` (any bytes as any file of a project) or `sql` (any text as SQL in a project)
#   CARGO_TARGET_DIR   where Cargo builds (default: target); inputs are kept in fuzz/TARGET in it
#
# `scripts/fuzz.sh sql -max_total_time=60` looks for a minute. What fails is written to fuzz/TARGET-failed and said;
# `scripts/fuzz.sh sql FILE` runs it alone. Add it to tests/diagnostics when it is mended.
#
# Works with the stable compiler: coverage is compiled into Kinfold only, so what it depends on is not built again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
    loader) kinds=(-name '*.yaml' -o -name '*.sql') ;;
    sql) kinds=(-name '*.sql') ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
target=$1
shift

kept=${CARGO_TARGET_DIR:-target}/fuzz
mkdir -p "$kept/$target" "$kept/$target-failed"

# the first inputs: every broken project of the tests, and the demo
find models tests/diagnostics \( "${kinds[@]}" \) -size -8k -print0 | while IFS= read -r -d '' file; do
    cp "$file" "$kept/$target/$(cksum <"$file" | tr ' ' -)"
done
cat "$kept/$target"/*-* | grep -aoE '[A-Za-z_]{2,}' | sort -u | sed 's/.*/"&"/' >"$kept/$target.words"

RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/with_coverage.sh cargo build --locked --features fuzz --bin "fuzz_$target"
if [ $# -eq 1 ] && [ -f "$1" ]; then
    exec "${CARGO_TARGET_DIR:-target}/debug/fuzz_$target" "$1"
fi
exec "${CARGO_TARGET_DIR:-target}/debug/fuzz_$target" -dict="$kept/$target.words" -timeout=20 -rss_limit_mb=4096 -max_len=4096 \
    -artifact_prefix="$kept/$target-failed/" "$@" "$kept/$target"
