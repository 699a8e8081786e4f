#!/usr/bin/env python3
"""How many rows have a patient at all: precision must not be bought by leaving rows out.

    coverage.py DATA ANSWER

Also makes ANSWER/identity.parquet, which the kit's quality.py reads, of ANSWER/identity.csv. Needs duckdb.
"""
import sys

import duckdb

PARTY = "CASE WHEN direction = 'inbound' THEN from_number ELSE to_number END"
# The definitions spell numbers differently; the last ten digits agree.
SHARES = {
    "web rows": """
        SELECT avg(coalesce(trim(user_id) IN (FROM known('user'))
                            OR trim(anonymous_id) IN (FROM known('anon')), false)::int)
        FROM (SELECT user_id, anonymous_id FROM '{data}/web/tracks/*.parquet'
              UNION ALL SELECT user_id, anonymous_id FROM '{data}/web/pages/*.parquet')""",
    "calls and messages": f"""
        SELECT avg(coalesce(right(party, 10) IN (SELECT right(identifier, 10) FROM known('phone')), false)::int)
        FROM (SELECT {PARTY} AS party FROM '{{data}}/twilio/calls/*.parquet'
              UNION ALL SELECT {PARTY} FROM '{{data}}/twilio/messages/*.parquet')""",
}


def main(data, answer):
    sql = duckdb.connect().execute
    sql(f"CREATE TABLE identity AS FROM read_csv('{answer}/identity.csv', all_varchar = true)")
    sql("CREATE MACRO known(kind) AS TABLE SELECT identifier FROM identity WHERE identifier_type = kind")
    sql(f"COPY identity TO '{answer}/identity.parquet' (FORMAT parquet)")
    shares = ", ".join(f"{what} {sql(query.format(data=data)).fetchone()[0]:.4f}" for what, query in SHARES.items())
    print(f"with a patient: {shares}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
