#!/bin/sh
# run.sh EDGES.parquet OUT      one measured run: the components of a graph's edges (columns src and dst)
# KINFOLD=path names another binary. Prints one line RESULT {"stages": {...}} for the bench's table.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
EDGES=${1:?a Parquet file with edges}
mkdir -p "${2:?folder for the output}"
OUT=$(cd "$2" && pwd)
BENCH_DATA=$(cd "$(dirname "$EDGES")" && pwd)
BENCH_FILE=$(basename "$EDGES")
BENCH_WAREHOUSE=$OUT/warehouse
export BENCH_DATA BENCH_FILE BENCH_WAREHOUSE
rm -rf "$OUT/warehouse"
"${KINFOLD:-$HERE/../../target/release/kinfold}" run --project "$HERE"
python3 -I -S - "$HERE/target/run.json" <<'PY'
import json, sys
with open(sys.argv[1]) as f:
    stages = json.load(f)["stages"]
print("RESULT " + json.dumps({"stages": {name: {"wall": wall["wall"]} for name, wall in stages.items()}}))
PY
