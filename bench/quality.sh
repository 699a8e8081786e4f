#!/bin/sh
# quality.sh KIT DATA [OUT]     precision and recall of both definitions of a patient against the generator's truth
#   KIT   folder of the benchmark's kit (it has quality.py)
#   DATA  folder that the generator made
#   OUT   folder for the warehouses; a temporary one by default
# KINFOLD=path names another binary, PYTHON=path an interpreter that has duckdb. Only the identities are built.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
KIT=$(cd "${1:?folder of the kit}" && pwd)
BENCH_DATA=$(cd "${2:?folder with data}" && pwd)
if [ -n "${3:-}" ]; then
  mkdir -p "$3"
  OUT=$(cd "$3" && pwd)
else
  OUT=$(mktemp -d)
  trap 'rm -rf "$OUT"' EXIT
fi
KINFOLD=${KINFOLD:-$HERE/../target/release/kinfold}
PYTHON=${PYTHON:-python3}
BENCH_AS_OF=$(sed -n 's/.*"as_of": *"\([^"]*\)".*/\1/p' "$BENCH_DATA/meta.json")
export BENCH_DATA BENCH_AS_OF

for definition in clinic clinic-guarded; do
  project=$HERE/$definition
  answer=$OUT/$definition
  BENCH_WAREHOUSE=$answer/warehouse
  export BENCH_WAREHOUSE
  rm -rf "$answer"
  mkdir -p "$answer"
  echo "== $definition"
  "$KINFOLD" run --quiet --project "$project" --select patient > "$answer/run.txt"
  "$KINFOLD" query --quiet --project "$project" --output csv \
    "SELECT identifier_type, identifier, patient_id AS profile_id FROM patient" > "$answer/identity.csv"
  "$PYTHON" -B "$HERE/coverage.py" "$BENCH_DATA" "$answer"
  "$PYTHON" -B "$KIT/quality.py" "$BENCH_DATA" "$answer"
  sed -n '/"identity": {/,/}/s/.*"wall": *\([0-9.]*\).*/identity stage \1 s/p' "$project/target/run.json"
done
