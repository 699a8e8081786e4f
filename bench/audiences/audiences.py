"""A hundred audiences over the benchmark's events: what each further audience costs.

    audiences.py make DIR [--n 100] [--seed 1]   a Kinfold project: bench/clinic and N audiences, and the same as queries
    audiences.py duckdb DIR DATA WAREHOUSE       the queries, one after the other, as an analyst would keep them; then
                                                 their members are compared with Kinfold's in WAREHOUSE

Audiences are drawn from four kinds: counts in a window, funnels of two steps, steps that were not followed, and
counts together with a trait. The queries read one table of events that already have their patient; making it counts.
`duckdb` needs Python's duckdb, and a WAREHOUSE with one run, whose files are its tables.
"""
import argparse
import json
import pathlib
import random
import shutil
import time

HERE = pathlib.Path(__file__).resolve().parent
EVENTS = ["Provider Search", "Physician Profile Viewed", "Article Read", "Location Viewed", "CTA Clicked", "Login",
          "Appointment Started", "Appointment Scheduled", "Symptom Checker Used", "Insurance Checked"]
SPECIALTIES = ["Cardiology", "Orthopedics", "Dermatology", "Pediatrics", "Oncology", "Neurology"]
TRAITS = ["n_calls > 0", "n_pages >= 5", "n_appointments > 0", "n_active_days >= 3", "n_messages = 0"]


def step(event, specialty):
    """One event in Kinfold's words and in SQL."""
    where = f", where: specialty = '{specialty}'" if specialty else ""
    return f"event: web.tracks, is: {event}{where}", f"event = '{event}'" + (f" AND specialty = '{specialty}'" if specialty else "")


def draw(rng):
    """An audience: its condition in YAML, and a query over `ev` and `profile`."""
    has_specialty = {"Provider Search", "Physician Profile Viewed", "Article Read", "Appointment Started"}
    first, second = rng.sample(EVENTS, 2)
    one, one_sql = step(first, rng.choice(SPECIALTIES) if first in has_specialty and rng.random() < 0.5 else None)
    two, two_sql = step(second, None)
    days, least = rng.choice([1, 3, 7, 14, 30, 60]), rng.randint(1, 6)
    counted = f"{{{one}, count: '>= {least}', within: {days} days}}"
    counted_sql = (f"SELECT patient_id FROM ev WHERE {one_sql} AND ts >= $as_of - INTERVAL {days} DAY "
                   f"AND patient_id IS NOT NULL GROUP BY 1 HAVING count(*) >= {least}")
    follows = f"b.patient_id = a.patient_id AND b.{two_sql} AND b.ts > a.ts AND b.ts <= a.ts + INTERVAL {days} DAY"
    a_sql = one_sql.replace("event =", "a.event =").replace("specialty =", "a.specialty =")
    kind = rng.choice(["count", "funnel", "absent", "mixed"])
    if kind == "count":
        return counted, counted_sql
    if kind == "mixed":
        trait = rng.choice(TRAITS)
        return (f"{{all: [{counted}, {{trait: {trait}}}]}}",
                f"SELECT patient_id FROM ({counted_sql}) JOIN profile USING (patient_id) WHERE {trait}")
    if kind == "funnel":
        return (f"{{sequence: [{{{one}}}, {{{two}, within: {days} days}}]}}",
                f"SELECT DISTINCT a.patient_id FROM ev a JOIN ev b ON {follows} WHERE {a_sql}")
    return (f"{{sequence: [{{{one}}}, {{not: {{{two}, within: {days} days}}}}]}}",
            f"SELECT DISTINCT a.patient_id FROM ev a WHERE {a_sql} AND a.patient_id IS NOT NULL "
            f"AND a.ts + INTERVAL {days} DAY < $as_of AND NOT EXISTS (FROM ev b WHERE {follows})")


def make(args):
    shutil.rmtree(args.dir, ignore_errors=True)
    shutil.copytree(HERE.parent / "clinic", args.dir, ignore=shutil.ignore_patterns("target", "run.sh", "segments"))
    rng, queries = random.Random(args.seed), {}
    folder = args.dir / "models" / "audiences"
    folder.mkdir()
    for number in range(args.n):
        name = f"a{number:03}"
        condition, queries[name] = draw(rng)
        (folder / f"{name}.yaml").write_text(f"kind: audience\nname: {name}\nprofile: patient_profile\nwhere: {condition}\n")
    (args.dir / "queries.json").write_text(json.dumps(queries, indent=1))


def duckdb(args):
    import duckdb as engine
    db = engine.connect()
    as_of = json.loads((args.data / "meta.json").read_text())["as_of"]
    queries = json.loads((args.dir / "queries.json").read_text())
    db.execute("SET TimeZone = 'UTC'")
    for name, table in (("patient", "patient"), ("profile", "patient_profile")):
        db.execute(f"CREATE TABLE {name} AS FROM read_parquet('{args.warehouse}/{table}/*.parquet')")
    started = time.perf_counter()
    db.execute(f"""CREATE TABLE ev AS SELECT coalesce(u.patient_id, a.patient_id) AS patient_id, event, timestamp AS ts, specialty
        FROM read_parquet('{args.data}/web/tracks/*.parquet') t
        LEFT JOIN patient u ON u.identifier_type = 'user' AND u.identifier = trim(t.user_id)
        LEFT JOIN patient a ON a.identifier_type = 'anon' AND a.identifier = trim(t.anonymous_id)""")
    for name, sql in queries.items():
        db.execute(f"CREATE TABLE {name} AS " + sql.replace("$as_of", f"TIMESTAMPTZ '{as_of}'"))
    seconds = time.perf_counter() - started
    wrong = []
    for name in queries:
        # a table without rows has no file
        has_rows = any((args.warehouse / name).glob("*.parquet"))
        kinfold = f"FROM read_parquet('{args.warehouse}/{name}/*.parquet')" if has_rows else "FROM profile WHERE false"
        kinfold = f"SELECT patient_id {kinfold}"
        differ = db.execute(f"SELECT count(*) FROM ((FROM {name} EXCEPT {kinfold}) UNION ALL ({kinfold} EXCEPT FROM {name}))")
        if differ.fetchone()[0]:
            wrong.append(name)
    members = sum(db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in queries)
    print(f"duckdb: {seconds:.2f} s for {len(queries)} audiences with {members} members; other answers: {wrong or 'none'}")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("make")
    one.add_argument("dir", type=pathlib.Path)
    one.add_argument("--n", type=int, default=100)
    one.add_argument("--seed", type=int, default=1)
    two = commands.add_parser("duckdb")
    for name in ("dir", "data", "warehouse"):
        two.add_argument(name, type=pathlib.Path)
    args = parser.parse_args()
    return make(args) if args.command == "make" else duckdb(args)


if __name__ == "__main__":
    raise SystemExit(main())
