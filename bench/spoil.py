#!/usr/bin/env python3
"""Makes a copy of the generator's data with mistakes that the generator does not make.

    spoil.py DATA OUT

In patients, contacts and identifies: 4 % of given names lose their last letter, 2 % are cut to three; 3 % of last
names lose their last letter; 1 % of birth dates are a day late; 8 % of postal codes are another one of the same
person's; 3 % of e-mail addresses are those of the person before in the truth, often of the same household. Which rows
it befalls depends on a hash of the row's id only. Needs duckdb.
"""
import pathlib
import shutil
import sys

import duckdb

TABLES = {"ehr/patients": "mrn", "partner/contacts": "contact_id", "web/identifies": "id"}
BIRTH = ", CASE WHEN hit(record, 'birth', 10) THEN birth_date + 1 ELSE birth_date END AS birth_date"
SPOILED = """
    CASE WHEN hit(record, 'name', 40) THEN left(first_name, -1)
         WHEN hit(record, 'nickname', 20) THEN left(first_name, 3) ELSE first_name END AS first_name,
    CASE WHEN hit(record, 'last', 30) THEN left(last_name, -1) ELSE last_name END AS last_name,
    CASE WHEN hit(record, 'move', 80) THEN (10000 + hash(truth.person) % 80000)::varchar
         ELSE postal_code END AS postal_code,
    CASE WHEN hit(record, 'family', 30) THEN coalesce(family.email, x.email) ELSE x.email END AS email"""


def main(data, out):
    shutil.copytree(data, out)
    sql = duckdb.connect().execute
    sql("CREATE MACRO hit(record, what, permille) AS hash(record || what) % 1000 < permille")
    sql(f"CREATE TABLE truth AS SELECT record_id AS id, person_id AS person FROM '{data}/truth.parquet'")
    sql(f"""CREATE TABLE addresses AS SELECT person, min(lower(trim(email))) AS email
            FROM (SELECT mrn AS id, email FROM '{data}/ehr/patients/*.parquet'
                  UNION ALL SELECT contact_id, email FROM '{data}/partner/contacts/*.parquet') JOIN truth USING (id)
            WHERE email LIKE '%@%' AND NOT regexp_matches(email, '(?i)^(unknown|test|none)@') GROUP BY person""")
    for table, key in TABLES.items():
        for path in pathlib.Path(data, table).glob("*.parquet"):
            changed = SPOILED + (BIRTH if "birth_date" in columns(sql, path) else "")
            sql(f"""COPY (SELECT x.* EXCLUDE (record) REPLACE ({changed})
                    FROM (SELECT *, {key} AS record FROM '{path}') x LEFT JOIN truth ON truth.id = record
                    LEFT JOIN addresses family ON family.person = truth.person - 1)
                    TO '{pathlib.Path(out, table, path.name)}' (FORMAT parquet)""")


def columns(sql, path):
    return [row[0] for row in sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]


if __name__ == "__main__":
    main(*sys.argv[1:3])
