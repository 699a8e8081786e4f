#!/bin/sh
# run.sh DATA OUT FILES     one measured run of the benchmark's job
#   DATA   folder that the generator made (it has meta.json)
#   OUT    folder for the warehouse; OUT/warehouse is removed first, unless BENCH_KEEP=1
#   FILES  all | base
# KINFOLD=path names another binary. Prints one line RESULT {"stages": {...}} for the bench's table.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
DATA=$(cd "${1:?folder with data}" && pwd)
mkdir -p "${2:?folder for the output}"
OUT=$(cd "$2" && pwd)
case ${3:-all} in
  all) BENCH_FILES='*' KEY=as_of ;;
  base) BENCH_FILES='base-*' KEY=as_of_base ;;
  *) echo "run.sh: FILES is all or base, not $3" >&2; exit 2 ;;
esac
KINFOLD=${KINFOLD:-$HERE/../../target/release/kinfold}
BENCH_AS_OF=$(sed -n "s/.*\"$KEY\": *\"\([^\"]*\)\".*/\1/p" "$DATA/meta.json")
[ -n "$BENCH_AS_OF" ] || { echo "run.sh: $DATA/meta.json has no $KEY" >&2; exit 2; }
BENCH_DATA=$DATA
BENCH_WAREHOUSE=$OUT/warehouse
export BENCH_DATA BENCH_FILES BENCH_AS_OF BENCH_WAREHOUSE
[ "${BENCH_KEEP:-}" = 1 ] || rm -rf "$OUT/warehouse"
rm -f "$HERE/target/run.json"
"$KINFOLD" run --project "$HERE"
# Without the record of the run there is still a line, so that wall and CPU time of the process are kept.
python3 -I -S - "$HERE/target/run.json" <<'PY'
import json, sys
try:
    with open(sys.argv[1]) as f:
        stages = json.load(f).get("stages") or {}
except (OSError, ValueError):
    stages = {}
result = {}
for name, stage in stages.items():
    measured = {"wall": stage} if isinstance(stage, (int, float)) else {k: v for k, v in stage.items() if isinstance(v, (int, float))}
    if "wall" in measured:
        result[name] = measured
print("RESULT " + json.dumps({"stages": result}))
PY
