#!/usr/bin/env bash
# Installs what the tests need and is missing, then checks everything. No input, no choices; exit code 0 or 1.
#
#   CARGO_TARGET_DIR   where Cargo builds (default: target)
#   KINFOLD_TEST_VENV  where the Python packages of tests/tools/requirements.txt go (default: beside the build)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

started=$SECONDS
step=preparation
say() { printf '\n== %s (%s s)\n' "$1" "$((SECONDS - started))"; step=$1; }
finish() {
    local code=$?
    if [ "$code" -eq 0 ]; then
        printf '\n== all tests passed in %s s\n' "$((SECONDS - started))"
    else
        printf '\n== FAILED in "%s" after %s s (exit %s)\n' "$step" "$((SECONDS - started))" "$code"
    fi
}
trap finish EXIT

# ------------------------------------------------------------------------------------------- what is missing
debian_packages() {
    local missing=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v c++ >/dev/null || missing+=(g++)
    command -v python3 >/dev/null || missing+=(python3)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        printf 'missing: %s; install it and run this again\n' "${missing[*]}" >&2
        return 1
    fi
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

rust_components() {
    command -v cargo >/dev/null || { echo 'missing: Rust (https://rustup.rs)' >&2; return 1; }
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

# The venv is made again when a package list or the Python that it was made with changes.
python_packages() {
    local venv=$1 list=tests/tools/requirements.txt stamp
    stamp="$(python3 -VV | cksum) $(cksum <"$list")"
    if [ "$(cat "$venv/kinfold-stamp" 2>/dev/null)" != "$stamp" ]; then
        say "installing Python packages"
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list"
        printf '%s\n' "$stamp" >"$venv/kinfold-stamp"
    fi
}

# A second copy of one of these means that types of the same name do not fit together, and minutes of build.
one_copy_of_each() {
    cargo tree --locked --edges normal --prefix none --format '{p}' | awk '{ print $1, $2 }' | sort -u | awk '
        $1 ~ /^(arrow|datafusion|deltalake|delta_kernel)(-|$)/ || $1 ~ /^(object_store|parquet|sqlparser)$/ {
            copies[$1]++; versions[$1] = versions[$1] " " $2
        }
        END {
            for (name in copies) if (copies[name] > 1) { print "two copies of " name ":" versions[name]; bad = 1 }
            exit bad
        }'
}

debian_packages
rust_components
venv=${KINFOLD_TEST_VENV:-${CARGO_TARGET_DIR:-target}/test-venv}
mkdir -p "$(dirname "$venv")"
venv=$(cd "$(dirname "$venv")" && pwd)/$(basename "$venv")
python_packages "$venv"

# -------------------------------------------------------------------------------------------------- checks
say "format"
cargo fmt --check

say "one copy of each"
one_copy_of_each

say "lints"
cargo clippy --locked --all-targets -- -D warnings

# The tests of documentation are apart because `--include-ignored` means something else to them. Ignored
# otherwise are the tests that need the venv (another engine, an S3 server, the commands in the documents) or PostgreSQL.
say "tests of documentation"
cargo test --locked --doc

say "tests"
KINFOLD_TEST_PYTHON="$venv/bin/python" cargo test --locked --lib --bins --test it -- --include-ignored

# The targets are built and run on their first inputs, every broken project of the tests; `scripts/fuzz.sh` goes on from there.
say "fuzz targets"
for target in loader sql; do
    scripts/fuzz.sh "$target" -runs=0 -verbosity=0
done
