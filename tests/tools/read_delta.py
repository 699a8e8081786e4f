#!/usr/bin/env python3
"""Two other engines read every table of the warehouse and must see what Kinfold says is in it.

    read_delta.py KINFOLD [WAREHOUSE]      # without WAREHOUSE: runs the demo first

DuckDB with its delta extension, and delta-rs for Python. Every row and column of every table is compared, as text.
"""
import argparse
import datetime
import os
import pathlib
import tempfile

import deltalake
import duckdb
import duckdb_extension_delta
import pyarrow as pa

from common import Kinfold, ROOT, check, copy_of_demo, equal, main

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def open_duckdb():
    """DuckDB with the extension that the package brings; nothing is downloaded."""
    folder = pathlib.Path(duckdb_extension_delta.__file__).parent / "extensions"
    extension = folder / f"v{duckdb.__version__}" / "delta.duckdb_extension"
    check(extension.exists(), f"no delta extension for DuckDB {duckdb.__version__} in {folder}")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "extension_directory": str(folder / "none")})
    connection.execute(f"LOAD '{extension}'")
    return connection


def tables(warehouse):
    """Names of all Delta tables below a folder: `kinfold/runs/` is `kinfold.runs`."""
    logs = pathlib.Path(warehouse).rglob("_delta_log")
    return sorted(".".join(log.parent.relative_to(warehouse).parts) for log in logs)


def text(value):
    """One spelling for a value, whoever read it: times are microseconds since 1970, null is the empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return str(value)


def with_duckdb(connection, folder):
    """Columns with whether they are times, and rows as texts."""
    relation = f"delta_scan('{folder}')"
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    columns = {name: kind.startswith("TIMESTAMP") for name, kind, *_ in described}
    wanted = ", ".join(f'epoch_us("{c}")' if is_time else f'"{c}"' for c, is_time in columns.items())
    return columns, [[text(v) for v in row] for row in connection.execute(f"SELECT {wanted} FROM {relation}").fetchall()]


def with_delta_rs(folder, columns):
    table = pa.table(deltalake.DeltaTable(folder).to_pyarrow_table())
    equal(table.column_names, list(columns), f"columns of {folder}")
    data = [table[c].cast(pa.timestamp("us", "UTC")).cast(pa.int64()) if is_time else table[c] for c, is_time in columns.items()]
    return [[text(v) for v in row] for row in zip(*(c.to_pylist() for c in data))]


def with_kinfold(kinfold, name, columns):
    rows = kinfold.query_csv(f"SELECT * FROM {name}")
    for row in rows:
        equal(list(row), list(columns), f"columns of {name}")
    return [[normal(row[c], is_time) for c, is_time in columns.items()] for row in rows]


def normal(value, is_time):
    if is_time and value:
        return str((datetime.datetime.fromisoformat(value.replace("Z", "+00:00")) - EPOCH) // datetime.timedelta(microseconds=1))
    return value


def compare(name, found, wanted, who):
    found, wanted = sorted(found), sorted(wanted)
    equal(len(found), len(wanted), f"rows of {name} in {who}")
    for one, other in zip(found, wanted):
        check(one == other, f"{name} in {who}: {one} instead of {other}")


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinfold")
    parser.add_argument("warehouse", nargs="?")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_of_demo(f"{temporary}/project")
        warehouse = arguments.warehouse or f"{temporary}/warehouse"
        kinfold = Kinfold(arguments.kinfold, project, KINFOLD_WAREHOUSE=os.path.abspath(warehouse), KINFOLD_OUTBOX=f"{temporary}/outbox")
        if not arguments.warehouse:
            kinfold("run")
        connection, total = open_duckdb(), 0
        names = tables(warehouse)
        for needed in ("patient", "patient_links", "patient_profile", "searched_not_booked", "provider_stats", "audience_changes"):
            check(needed in names, f"no table {needed} among {names}")
        for name in names:
            folder = os.path.join(warehouse, *name.split("."))
            columns, duck = with_duckdb(connection, folder)
            ours = with_kinfold(kinfold, name, columns)
            compare(name, duck, ours, "DuckDB")
            compare(name, with_delta_rs(folder, columns), ours, "delta-rs")
            total += len(ours)
        check(total > 10_000, f"only {total} rows in {len(names)} tables")
        print(f"DuckDB {duckdb.__version__} and delta-rs {deltalake.__version__} read the same {total} rows in {len(names)} tables")


if __name__ == "__main__":
    main(run)
