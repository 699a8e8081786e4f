#!/usr/bin/env python3
"""Another engine reads what a sync sent to Delta tables, and writes to them itself; on disk and in an object store.

    delta_destination.py KINFOLD
"""
import datetime
import pathlib
import sys
import tempfile

import boto3
import deltalake
import pyarrow as pa

from common import Kinfold, check, equal, main
from s3 import BUCKET, KEYS, Server

SYNC = """kind: sync
name: {mode}_people
from: people
to: tables
mode: {mode}
key: id
max_delete: 100%
columns: {{id: id, name: name, seen: seen, visits: visits}}
"""
FILES = {
    "kinfold.yaml": 'name: shop\nas_of: "2026-03-31T00:00:00Z"\n',
    "sources.yaml": """sources:
  - name: shop
    location: data
    tables:
      - name: people
        path: people.csv
        format: csv
        columns: {id: {type: BIGINT}, seen: {type: TIMESTAMP}, visits: {type: BIGINT}}
""",
    "destinations.yaml": 'destinations:\n  - {name: tables, type: delta, location: "${OUT}"}\n',
    "models/person.yaml": """kind: identity
name: person
identifiers: {card: {}}
links:
  - {from: shop.people, ids: {card: id}}
""",
    "models/people.sql": "SELECT id, name, seen, visits FROM shop.people\n",
}
MODES = ("upsert", "mirror", "insert", "update", "append", "replace")
FIRST = [(1, "Ann", "2026-03-01T10:00:00Z", 3), (2, "Bob", "2026-03-02T10:00:00Z", 1), (3, "Cara", "", 7)]
# 1 changes, 2 leaves, 4 is new
SECOND = [(1, "Ann Weaver", "2026-03-30T10:00:00Z", 4), (3, "Cara", "", 7), (4, "Dan", "2026-03-30T11:00:00Z", 1)]
THEIRS = [(1, "Theirs", "", 0), (99, "Theirs", "", 0)]


class Tables:
    """The project, and the tables that it sends to."""

    def __init__(self, binary, project, out, options=None, **environment):
        self.project, self.out, self.options = project, out, options
        for folder in ("data", "models"):
            (project / folder).mkdir(parents=True)
        for name, text in FILES.items():
            (project / name).write_text(text)
        for mode in MODES:
            (project / f"models/{mode}.yaml").write_text(SYNC.format(mode=mode))
        self.kinfold = Kinfold(binary, project, OUT=out, **environment)

    def sends(self, rows, *arguments):
        lines = ["id,name,seen,visits", *(",".join(map(str, row)) for row in rows)]
        (self.project / "data/people.csv").write_text("\n".join(lines) + "\n")
        self.kinfold("run", *arguments)

    def table(self, mode):
        place = self.out if "://" in self.out else str(self.project / self.out)
        return deltalake.DeltaTable(f"{place}/{mode}_people", storage_options=self.options)

    def rows(self, mode):
        """Rows that delta-rs reads, in the shape of the constants above; a key is text at a destination."""
        def shaped(row):
            seen = row["seen"].astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if row["seen"] else ""
            return (int(row["id"]), row["name"], seen, row["visits"])

        return sorted(shaped(row) for row in self.table(mode).to_pyarrow_table().to_pylist())

    def write_beside(self, mode, rows):
        other = self.table(mode)
        schema = other.to_pyarrow_table().schema
        theirs = [{"id": str(id), "name": name, "seen": None, "visits": visits} for id, name, _, visits in rows]
        deltalake.write_deltalake(other, pa.Table.from_pylist(theirs, schema=schema), mode="append", storage_options=self.options)

    def have(self, wanted, when):
        for mode in MODES:
            equal(self.rows(mode), sorted(wanted[mode]), f"rows of {mode} {when}")


def lives(tables):
    """All modes from the first run to an erasure, with another writer beside us."""
    tables.sends(FIRST)
    tables.have({**dict.fromkeys(MODES, FIRST), "update": []}, "after the first run")
    tables.write_beside("update", THEIRS)
    tables.sends(SECOND)
    wanted = {"upsert": [*SECOND, FIRST[1]], "mirror": SECOND, "insert": [*FIRST, SECOND[2]], "update": [SECOND[0], THEIRS[1]],
              "append": [*FIRST, SECOND[0], SECOND[2]], "replace": SECOND}
    tables.have(wanted, "after the second run")
    equal(tables.table("mirror").history(1)[0]["operation"], "MERGE", "the operation of the newest version")
    versions = {mode: tables.table(mode).version() for mode in MODES}
    tables.kinfold("run", "--full")
    equal({mode: tables.table(mode).version() for mode in MODES}, versions, "versions after a run without changes")

    # somebody else adds a row: it stays, though the mode deletes what left, and so does what we send
    tables.write_beside("mirror", THEIRS[1:])
    tables.sends(FIRST)
    equal(tables.rows("mirror"), [*FIRST, THEIRS[1]], "rows of mirror beside another writer")
    equal(tables.table("mirror").version(), versions["mirror"] + 2, "version of mirror: theirs, then ours")

    # whoever is erased is deleted in every mode
    tables.kinfold("forget", "card:1", "--reason", "request")
    for mode in MODES:
        left = [row for row in tables.rows(mode) if row[0] == 1]
        equal(left, [], f"rows of the erased person in {mode}")
    equal(tables.rows("mirror"), [*FIRST[1:], THEIRS[1]], "rows of mirror after the erasure")


def run():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as temporary, Server(temporary) as server:
        folder = pathlib.Path(temporary)
        lives(Tables(binary, folder / "disk", "target/tables"))
        client = boto3.client("s3", endpoint_url=server.url, region_name=KEYS["AWS_REGION"], aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                              aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"])
        client.create_bucket(Bucket=BUCKET)
        options = {**KEYS, "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
        lives(Tables(binary, folder / "bucket", f"s3://{BUCKET}/tables", {**options, "conditional_put": "etag"}, **options))
        print(f"delta-rs {deltalake.__version__} reads what {len(MODES)} syncs sent to disk and to a bucket")


if __name__ == "__main__":
    main(run)
