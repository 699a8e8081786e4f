#!/usr/bin/env python3
"""Kinfold reads Delta tables that delta-rs writes and keeps writing to; on disk and in an object store.

    delta_source.py KINFOLD
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

UTC = datetime.timezone.utc
SCHEMA = pa.schema([("id", pa.int64()), ("day", pa.date32()), ("town", pa.string()), ("at", pa.timestamp("us", "UTC")),
                    ("amount", pa.decimal128(10, 2)), ("tags", pa.list_(pa.string()))])
FILES = {
    "kinfold.yaml": 'name: shop\nas_of: "2026-03-31T00:00:00Z"\n',
    "sources.yaml": """sources:
  - name: shop
    location: "${IN}"
    tables:
      - {name: visits, path: visits, format: delta, time: at, row_id: id}
      - {name: days, path: days, format: delta, time: at, row_id: id}
""",
    "models/visits.sql": "SELECT * FROM shop.visits\n",
    "models/days.sql": "SELECT * FROM shop.days\n",
    "models/totals.sql": "SELECT town, count(*) AS visits, sum(amount) AS amount FROM shop.days GROUP BY town\n",
    "models/totals.yaml": "materialized: incremental\nunique_key: town\n",
}
# a name that a folder cannot have as it is, a text that looks like an escape, one with a quote, none at all
TOWNS = ["Rome", "New York/US", "50%25", "O'Neil", None]


def rows(ids, amount=1):
    one = lambda n: {"id": n, "day": datetime.date(2026, 3, 1 + n % 3), "town": TOWNS[n % len(TOWNS)],
                     "at": datetime.datetime(2026, 3, 1, n % 24, tzinfo=UTC), "amount": amount, "tags": ["a", None] if n % 2 else None}
    return pa.Table.from_pylist([one(n) for n in ids], schema=SCHEMA)


class Shop:
    """A project over two tables, one of them in partitions."""

    def __init__(self, binary, project, place, options=None, **environment):
        for name, text in FILES.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(text)
        self.place, self.options = place, options
        self.kinfold = Kinfold(binary, project, IN=place, **environment)
        self.write(rows(range(20)))

    def write(self, table, mode="append", **arguments):
        for name, partitions in (("visits", None), ("days", ["day", "town"])):
            deltalake.write_deltalake(f"{self.place}/{name}", table, mode=mode, partition_by=partitions, storage_options=self.options, **arguments)

    def tables(self):
        return [deltalake.DeltaTable(f"{self.place}/{name}", storage_options=self.options) for name in ("visits", "days")]

    def have_the_same_rows(self, when):
        """After a run: models hold what delta-rs reads, and what a run from nothing makes."""
        told = self.kinfold("run")
        for name, table in zip(("visits", "days"), self.tables()):
            ours = deltalake.DeltaTable(str(self.kinfold.project / "target/warehouse" / name))
            key = lambda row: (row["id"], row["amount"])
            theirs = sorted(table.to_pyarrow_table().to_pylist(), key=key)
            equal(sorted(ours.to_pyarrow_table().select(list(theirs[0])).to_pylist(), key=key), theirs, f"rows of {name} {when}")
        totals = self.kinfold.query_csv("SELECT * FROM totals ORDER BY town")
        equal(self.kinfold.query_csv(f"SELECT town, count(*) AS visits, sum(amount) AS amount FROM shop.days GROUP BY town ORDER BY town"), totals, f"totals {when}")
        return told

    def is_unchanged(self, when):
        told = self.have_the_same_rows(when)
        check("read 0 files" in told and told.count("unchanged") == 3, f"{when} all models are unchanged: {told}")


def lives(shop):
    shop.have_the_same_rows("at first")
    shop.is_unchanged("without a commit")
    shop.write(rows(range(20, 25)))
    told = shop.have_the_same_rows("after rows came")
    check("totals: 5 keys made again" in told, f"only the towns of new rows are made again: {told}")
    for table in shop.tables():
        moved = table.optimize.compact()
        check(moved["numFilesRemoved"] > 0, "something was compacted")
    shop.is_unchanged("after OPTIMIZE")
    # rows come to one town while others move
    shop.write(rows([40]))
    for table in shop.tables():
        table.optimize.compact()
    shop.write(rows([30]))
    shop.have_the_same_rows("after rows moved and came")
    for table in shop.tables():
        table.delete("id % 4 = 1")
    shop.have_the_same_rows("after DELETE")
    for table in shop.tables():
        table.update(updates={"amount": "amount + 1"}, predicate="id < 4")
    shop.have_the_same_rows("after UPDATE")
    shop.write(rows(range(50, 60), amount=7), mode="overwrite")
    shop.have_the_same_rows("after an overwrite")
    for table in shop.tables():
        table.restore(2)
    shop.have_the_same_rows("after RESTORE")
    wider = rows([70]).append_column("note", pa.array(["x"]))
    shop.write(wider, schema_mode="merge")
    shop.have_the_same_rows("after a column came")
    equal([row["note"] for row in shop.kinfold.query("SELECT DISTINCT note FROM days ORDER BY note")], ["x", None], "the new column")
    equal(shop.kinfold.query("SELECT count(*) AS n FROM shop.days WHERE day = DATE '2026-03-02' AND town = '50%25'")[0]["n"],
          len([r for r in shop.tables()[1].to_pyarrow_table().to_pylist() if r["town"] == "50%25" and r["day"].day == 2]), "rows of a partition")


def forgets(shop):
    """The log ends with a checkpoint, and what was before is gone."""
    for table in shop.tables():
        table.optimize.compact()
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    shop.is_unchanged("after VACUUM")
    shop.write(rows([80]), schema_mode="merge")
    for table in shop.tables():
        table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
        table.create_checkpoint()
    for table in shop.tables():
        table.cleanup_metadata()
        table.optimize.compact()
        table.create_checkpoint()
    for table in shop.tables():
        table.cleanup_metadata()
    log = pathlib.Path(shop.place) / "visits/_delta_log"
    check(not (log / f"{1:020}.json").exists(), "the first commits are gone")
    told = shop.have_the_same_rows("after the log was cut")
    check("totals: made whole" in told, f"nobody can say what came: {told}")
    shop.is_unchanged("without a further commit")


def run():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as temporary, Server(temporary) as server:
        folder = pathlib.Path(temporary)
        shop = Shop(binary, folder / "disk", str(folder / "data"))
        lives(shop)
        forgets(shop)
        client = boto3.client("s3", endpoint_url=server.url, region_name=KEYS["AWS_REGION"], aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                              aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"])
        client.create_bucket(Bucket=BUCKET)
        options = {**KEYS, "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
        lives(Shop(binary, folder / "bucket", f"s3://{BUCKET}/shop", {**options, "conditional_put": "etag"}, **options))
        print(f"Kinfold reads what delta-rs {deltalake.__version__} writes, on disk and in a bucket")


if __name__ == "__main__":
    main(run)
