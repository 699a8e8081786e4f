#!/usr/bin/env python3
"""Makes a project of 500 models without data, to measure `kinfold check`.

    gen.py DIR [--models N] [--broken N]

One identity, five profiles of forty traits, and for the rest six SQL models to three audiences and one sync, over twenty
sources of five tables. `schemas.lock` is there, so that nothing but definitions is read. With --broken every N-th SQL model
names a column that does not exist.
"""
import argparse
import json
import pathlib

SOURCES, TABLES, COLUMNS, PROFILES, TRAITS = 20, 5, 30, 5, 40


def table(number):
    return f"s{number // TABLES % SOURCES}.t{number % TABLES}"


def sources():
    lines = ["sources:"]
    for source in range(SOURCES):
        lines += [f"  - name: s{source}", f"    location: data/s{source}", "    tables:"]
        lines += [f"      - {{name: t{t}, path: t{t}/, format: parquet, time: at, row_id: id}}" for t in range(TABLES)]
    return "\n".join(lines) + "\n"


def lock():
    time = 'Timestamp(µs, "UTC")'
    columns = [["id", "Utf8"], ["at", time], ["cookie", "Utf8"], ["email", "Utf8"], ["event", "Utf8"], ["amount", "Float64"]]
    columns += [[f"c{n}", ["Utf8", "Int64", "Float64"][n % 3]] for n in range(COLUMNS)]
    return json.dumps({"format": 1, "tables": {table(n): columns for n in range(SOURCES * TABLES)}}, indent=1)


def identity():
    links = [f"  - {{from: {table(n)}, ids: {{cookie: cookie, email: email}}}}" for n in range(10)]
    return "\n".join(
        ["kind: identity", "name: person", "identifiers:", "  email: {normalize: email, max_per_entity: 5}", "  cookie: {max_links: 10}", "links:", *links, ""]
    )


def profile(number):
    lines = ["kind: profile", f"name: profile_{number}", "identity: person", "attributes:"]
    lines += [f"  email: {{from: {table(number)}.email, pick: latest}}", "traits:"]
    for trait in range(TRAITS):
        what = ["count(*)", "sum(amount)", "max(at)", f"most_frequent(c{trait % COLUMNS})"][trait % 4]
        window = f", within: {7 + trait} days" if trait % 2 else ""
        lines.append(f"  trait_{trait}: {{from: {table(trait % 10)}, select: {what}, where: event = 'e{trait}'{window}}}")
    return "\n".join(lines) + "\n"


def sql(number, broken):
    wrong = ", t.no_such_column" if broken else ""
    reads = f"\nINNER JOIN model_{number - 10} AS m ON m.c0 = t.c0" if number >= 10 and number % 3 == 0 else ""
    return (
        f"-- model {number}\nWITH t AS (\n    SELECT * FROM {table(number)} WHERE event = 'e{number % 7}'\n)\n"
        f"SELECT t.c0, count(*) AS n, sum(t.amount) AS total, max(t.at) AS last_at{wrong}\nFROM t{reads}\n"
        f"WHERE t.c1 > {number} AND t.at >= as_of() - INTERVAL '30 days'\nGROUP BY t.c0\nORDER BY n DESC\n"
    )


def audience(number):
    return (
        f"kind: audience\nname: audience_{number}\nprofile: profile_{number % PROFILES}\nwhere:\n  all:\n"
        f"    - {{event: {table(number % 10)}, is: e{number % 9}, count: '> {number % 5}', within: 30 days}}\n"
        f"    - trait: trait_0 > {number % 11}\n    - sequence:\n        - {{event: {table(number % 10)}, is: a}}\n"
        f"        - not: {{event: {table(number % 10)}, is: b, within: 24 hours}}\n"
    )


def sync(number):
    return (
        f"kind: sync\nname: sync_{number}\nfrom: audience_{number}\nto: lake\nmode: upsert\nkey: person_id\n"
        "columns:\n  email: hmac_sha256(email, 'k')\n  n: trait_0\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--broken", type=int, default=0)
    arguments = parser.parse_args()
    models = arguments.folder / "models"
    models.mkdir(parents=True)
    (arguments.folder / "sources.yaml").write_text(sources())
    (arguments.folder / "schemas.lock").write_text(lock())
    (arguments.folder / "kinfold.yaml").write_text('name: large\nas_of: "2026-03-31T00:00:00Z"\nwarehouse: target/warehouse\n')
    (arguments.folder / "destinations.yaml").write_text("destinations:\n  - {name: lake, type: files, location: target/out, format: parquet}\n")
    (models / "person.yaml").write_text(identity())
    for number in range(PROFILES):
        (models / f"profile_{number}.yaml").write_text(profile(number))
    rest = arguments.models - 1 - PROFILES
    audiences, syncs = rest * 3 // 10, rest // 10
    for number in range(rest - audiences - syncs):
        broken = arguments.broken and number % arguments.broken == arguments.broken - 1
        (models / f"model_{number}.sql").write_text(sql(number, broken))
    for number in range(audiences):
        (models / f"audience_{number}.yaml").write_text(audience(number))
    for number in range(syncs):
        (models / f"sync_{number}.yaml").write_text(sync(number))


if __name__ == "__main__":
    main()
