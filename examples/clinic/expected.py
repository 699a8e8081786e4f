#!/usr/bin/env python3
"""Computes what the demo's models must give, slowly and plainly, from the raw data and the written rules.

    python3 expected.py [FOLDER]        # reads FOLDER/data and FOLDER/truth, writes FOLDER/expected.json

It never reads what Kinfold wrote, and shares no code with it: tests compare the two. It also checks that the data
do what `truth/plan.json` planned. Needs pyarrow to read Parquet; everything else is loops over dictionaries.

Times are integers, microseconds since 1970 UTC. A `None` anywhere means null.
"""
import csv
import glob
import hashlib
import hmac
import json
import os
import re
import sys
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta, timezone

import pyarrow.parquet as pq

SECOND = 1_000_000
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


# ------------------------------------------------------------------------------------------------ reading
def micros(value):
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return (value - EPOCH) // timedelta(microseconds=1)


def iso(t):
    return None if t is None else (EPOCH + timedelta(microseconds=t)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read(folder):
    """Rows of a table over all its files, columns as they lie, times as integers."""
    rows = []
    for path in sorted(glob.glob(f"{folder}/*")):
        if path.endswith(".parquet"):
            rows += pq.read_table(path).to_pylist()
        elif path.endswith(".csv"):
            with open(path, newline="", encoding="utf-8") as f:
                rows += [{k: v if v != "" else None for k, v in row.items()} for row in csv.DictReader(f)]
        else:
            with open(path, encoding="utf-8") as f:
                rows += [json.loads(line) for line in f]
    for row in rows:
        for column, value in row.items():
            if isinstance(value, datetime) or column in ("appointment_at", "updated_at", "at", "date_sent"):
                row[column] = micros(value)
    return rows


def once(rows, key):
    """`dedupe`: a row delivered again counts once. Deliveries differ in the columns of the loader only."""
    kept = {}
    for row in rows:
        other = kept.setdefault(row[key], row)
        assert all(row[c] == other[c] for c in row if c not in ("uuid_ts", "received_at")), row
    return list(kept.values())


def latest_state(rows, key, version):
    """`version`: of the states of one record the greatest version is the record."""
    kept = {}
    for row in rows:
        old = kept.get(row[key])
        assert old is None or old[version] != row[version], row
        if old is None or row[version] > old[version]:
            kept[row[key]] = row
    return list(kept.values())


def load(folder):
    names = ("web/tracks", "web/pages", "web/identifies", "twilio/calls", "twilio/messages", "ehr/patients", "ehr/appointments",
             "ehr/diagnoses", "ehr/providers", "partners/contacts", "crm/consent")
    raw = {name.replace("/", "."): read(f"{folder}/{name}") for name in names}
    tables = dict(raw)
    tables["web.tracks"] = once([r for r in raw["web.tracks"] if r["event"] != "heartbeat"], "id")
    tables["twilio.calls"] = once(raw["twilio.calls"], "sid")
    tables["ehr.patients"] = latest_state(raw["ehr.patients"], "mrn", "updated_at")
    tables["ehr.appointments"] = latest_state(raw["ehr.appointments"], "appointment_id", "updated_at")
    return raw, tables


# --------------------------------------------------------------------------------------------- identifiers
ORDER = ["mrn", "user_id", "email", "phone", "contact_id", "anonymous_id"]      # strongest first
MOST_PER_ENTITY = {"mrn": 1, "user_id": 1, "email": 5}
CLOCK = {"web.tracks": "timestamp", "web.pages": "timestamp", "web.identifies": "timestamp", "twilio.calls": "start_time",
         "twilio.messages": "date_sent", "ehr.patients": "registered_at", "ehr.appointments": "appointment_at", "ehr.diagnoses": "at",
         "partners.contacts": "created_at", "crm.consent": "at"}
OWNER = {"ehr.patients": ["mrn"], "partners.contacts": ["contact_id"]}


def email(value):
    value = (value or "").strip().lower()
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", value) or value == "unknown@example.com" or value.startswith("test@"):
        return None
    return value


def phone(value):
    value = (value or "").strip()
    digits = re.sub(r"[^0-9]", "", value)
    if value.startswith("+") and 8 <= len(digits) <= 15:
        number = "+" + digits
    elif len(digits) == 10:
        number = "+1" + digits
    elif len(digits) == 11 and digits[0] == "1":
        number = "+" + digits
    else:
        return None
    return None if number in ("+10000000000", "+15555555555", "+266696687", "+86282452253") else number


def user(value):
    return None if value in (None, "", "undefined", "null", "guest") else value


def cookie(value):
    return None if value in (None, "", "00000000-0000-0000-0000-000000000000") else value


def identifiers_of(table, row):
    """(type, value) of every valid identifier of a row, in the order of the link's definition."""
    if table in ("web.tracks", "web.pages"):
        found = [("anonymous_id", cookie(row["anonymous_id"])), ("user_id", user(row["user_id"]))]
    elif table == "web.identifies":
        found = [("anonymous_id", cookie(row["anonymous_id"])), ("user_id", user(row["user_id"])), ("email", email(row["email"])),
                 ("phone", phone(row["phone"]))]
    elif table == "twilio.calls":
        found = [("phone", phone(row["from"] if row["direction"] in ("inbound", "trunking-originating") else row["to"]))]
    elif table == "twilio.messages":
        found = [("phone", phone(row["from"] if row["direction"] == "inbound" else row["to"]))]
    elif table == "ehr.patients":
        found = [("mrn", row["mrn"]), ("email", email(row["email"])), ("phone", phone(row["home_phone"])), ("phone", phone(row["cell_phone"]))]
    elif table in ("ehr.appointments", "ehr.diagnoses"):
        found = [("mrn", row["mrn"])]
    elif table == "partners.contacts":
        found = [("contact_id", row["contact_id"]), ("email", email(row["email"])), ("phone", phone(row["phone"]))]
    elif table == "crm.consent":
        found = [("email", email(row["identifier"])) if "@" in row["identifier"] else ("phone", phone(row["identifier"]))]
    return [x for x in found if x[1] is not None]


def text(identifier):
    return f"{identifier[0]}:{identifier[1]}"


def collect(tables):
    """All identifiers, and all links with the time they were first seen."""
    identifiers, links = set(), {}
    for table, clock in CLOCK.items():
        for row in tables[table]:
            found = sorted(set(identifiers_of(table, row)))
            identifiers.update(found)
            for i, a in enumerate(found):
                for b in found[i + 1:]:
                    links[a, b] = min(links.get((a, b), row[clock]), row[clock])
    return identifiers, links


def find_hubs(identifiers, links):
    """Neighbours are counted once over all links, before anything is removed."""
    neighbours = defaultdict(set)
    for a, b in links:
        neighbours[a].add(b)
        neighbours[b].add(a)
    hubs, near = set(), []
    for x in identifiers:
        kinds = Counter(kind for kind, _ in neighbours[x])
        measured = {"phone": [(len(neighbours[x]), 24)], "anonymous_id": [(len(neighbours[x]), 10)],
                    "email": [(kinds["mrn"], 2), (kinds["anonymous_id"], 200)]}.get(x[0], [])
        if any(n > limit for n, limit in measured):
            hubs.add(x)
        if x[0] != "email" and any(limit - 2 < n <= limit + 2 for n, limit in measured):
            near.append((text(x), measured))
    return hubs, near


def stitch(identifiers, links, hubs):
    """Links strongest first: by the weaker endpoint's type, then by first-seen time, then by the endpoints.
    A link is refused when the merged entity would hold too many of a type."""
    entity = {x: {x} for x in identifiers if x not in hubs}
    refused = []
    usable = [(a, b) for a, b in links if a not in hubs and b not in hubs]
    usable.sort(key=lambda ab: (max(ORDER.index(ab[0][0]), ORDER.index(ab[1][0])), links[ab], strongest_first(ab)))
    for a, b in usable:
        one, two = entity[a], entity[b]
        if one is two:
            continue
        kinds = Counter(kind for kind, _ in one | two)
        over = [kind for kind, most in MOST_PER_ENTITY.items() if kinds[kind] > most]
        if over:
            refused.append((a, b, over[0]))
            continue
        one |= two
        for x in two:
            entity[x] = one
    return entity, refused, len(usable)


def strongest_first(link):
    """Last of the order: the stronger endpoint, then the weaker; each by type, strongest first, then by text."""
    return sorted((ORDER.index(kind), value) for kind, value in link)


def owner(table, row, entity):
    """The row's first identifier, in owner order, that is valid and no hub."""
    found = identifiers_of(table, row)
    for kind in OWNER.get(table, ORDER):
        for x in found:
            if x[0] == kind and x in entity:
                return x
    return None


# ------------------------------------------------------------------------------------------------- profile
def newest(pairs):
    """Value of the greatest time; ties take the smallest value; nulls are skipped."""
    pairs = [(t, v) for t, v in pairs if v is not None]
    return min(v for t, v in pairs if t == max(p[0] for p in pairs)) if pairs else None


def oldest(pairs):
    pairs = [(t, v) for t, v in pairs if v is not None]
    return min(v for t, v in pairs if t == min(p[0] for p in pairs)) if pairs else None


def source_order(*sources):
    return next((v for v in map(newest, sources) if v is not None), None)


def most_frequent(values):
    counts = Counter(v for v in values if v is not None)
    return min((-n, v) for v, n in counts.items())[1] if counts else None


def whole_number(value):
    return int(value) if value is not None and re.fullmatch(r"[+-]?[0-9]+", value) else None


def total(values):
    values = [v for v in values if v is not None]
    return sum(values) if values else None


INCOMING = ("inbound", "trunking-originating")


def profile_row(members, rows, as_of):
    """One patient: `rows` has the patient's rows by table."""
    tracks, pages, calls = rows["web.tracks"], rows["web.pages"], rows["twilio.calls"]
    record, visits, web, partner = rows["ehr.patients"], rows["ehr.appointments"], rows["web.identifies"], rows["partners.contacts"]
    ehr = lambda column, clean=lambda x: x: [(r["registered_at"], clean(r[column])) for r in record]
    site = lambda column, clean=lambda x: x: [(r["timestamp"], clean(r[column])) for r in web]
    lists = lambda column, clean=lambda x: x: [(r["created_at"], clean(r[column])) for r in partner]
    of = lambda event: [r for r in tracks if r["event"] == event]
    seen = [r["timestamp"] for r in tracks + pages]
    campaigns = [(r["timestamp"], r["context_campaign_name"]) for r in tracks + pages]
    ahead = [r["appointment_at"] for r in visits if r["status"] == "scheduled" and r["appointment_at"] > as_of]
    past = [((r["appointment_at"], r["appointment_id"]), r["status"]) for r in visits if r["appointment_at"] <= as_of]
    p = {
        "email": source_order(site("email", email), ehr("email", email), lists("email", email)),
        "phone": source_order(ehr("cell_phone", phone), ehr("home_phone", phone), site("phone", phone), lists("phone", phone)),
        "first_name": source_order(ehr("first_name"), site("first_name"), lists("first_name")),
        "last_name": source_order(ehr("last_name"), site("last_name"), lists("last_name")),
        "birth_date": source_order(ehr("birth_date"), site("birthday")),
        "gender": source_order(ehr("gender"), site("gender")),
        "postal_code": newest(ehr("postal_code") + site("address_postal_code") + lists("postal_code")),
        "first_seen": min(seen, default=None), "last_seen": max(seen, default=None), "active_days": len({t // DAY for t in seen}),
        "searches_30d": sum(r["timestamp"] >= as_of - 30 * DAY for r in of("provider_search")),
        "providers_viewed": len({r["provider_id"] for r in of("physician_profile_viewed")} - {None}),
        "site_bookings": len(of("appointment_scheduled")),
        "searched_specialty": newest([(r["timestamp"], r["specialty"]) for r in of("provider_search")]),
        "top_specialty": most_frequent(r["specialty"] for r in tracks),
        "first_campaign": oldest(campaigns), "last_campaign": newest(campaigns),
        "paid": total(r["amount"] for r in of("bill_paid")) or 0.0,
        "calls": len(calls), "calls_in": sum(r["direction"] in INCOMING for r in calls),
        "call_seconds": total(whole_number(r["duration"]) for r in calls), "last_call_at": max((r["start_time"] for r in calls), default=None),
        "messages_failed": sum(r["status"] in ("failed", "undelivered") for r in rows["twilio.messages"]),
        "registered_at": min((r["registered_at"] for r in record), default=None),
        "completed_visits": sum(r["status"] == "completed" for r in visits), "no_shows": sum(r["status"] == "no_show" for r in visits),
        "last_status": newest(past), "next_appointment_at": min(ahead, default=None),
        "diagnoses": len({r["icd10"] for r in rows["ehr.diagnoses"]}), "identifiers": len(members),
    }
    today = EPOCH + timedelta(microseconds=as_of)
    p["senior"] = None if p["birth_date"] is None else p["birth_date"] <= date(today.year - 65, today.month, today.day)
    p["status"] = ("patient" if p["next_appointment_at"] is not None or p["completed_visits"] > 0
                   else "registered" if p["registered_at"] is not None else "prospect")
    p["persona"] = ("regular" if p["completed_visits"] >= 2 else "caller" if p["calls_in"] > 0 and p["active_days"] == 0
                    else "researcher" if p["providers_viewed"] >= 3 else "occasional")
    return p


# ----------------------------------------------------------------------------------------------- audiences
def audiences_of(p, rows, as_of):
    """Names of the audiences that a patient belongs to, before the lists kept by hand."""
    tracks, pages, calls, visits = rows["web.tracks"], rows["web.pages"], rows["twilio.calls"], rows["ehr.appointments"]
    times = lambda event: [r["timestamp"] for r in tracks if r["event"] == event]
    lately = lambda event: any(t >= as_of - 30 * DAY for t in times(event))
    found = set()

    viewed = {r["provider_id"] for r in tracks if r["event"] == "physician_profile_viewed" and r["timestamp"] >= as_of - 7 * DAY} - {None}
    if len(viewed) > 2 and times("provider_search") and p["next_appointment_at"] is None:
        search = max(times("provider_search"))
        assert as_of != search + 24 * HOUR
        if as_of > search + 24 * HOUR and not any(search < t <= search + 24 * HOUR for t in times("appointment_scheduled")):
            found.add("searched_not_booked")

    if (any(r["status"] == "completed" and r["direction"] in INCOMING for r in calls)
            and not tracks and not pages and not rows["web.identifies"]):
        found.add("callers_never_on_web")

    missed = [r["appointment_at"] for r in visits if r["status"] == "no_show"]
    if missed and any(max(missed) < r["timestamp"] <= max(missed) + 30 * DAY for r in pages):
        found.add("no_shows_returned")

    if (any(r["registered_at"] < micros("2025-10-01T00:00:00Z") for r in rows["ehr.patients"])
            and not any(r["appointment_at"] >= as_of - 180 * DAY for r in visits)
            and not any(r["timestamp"] >= as_of - 60 * DAY for r in tracks + pages)
            and not any(r["start_time"] >= as_of - 60 * DAY and r["direction"] in INCOMING for r in calls)):
        found.add("lapsed_patients")

    if lately("appointment_scheduled") or p["next_appointment_at"] is not None:
        found.add("appointment_scheduled")
    if lately("provider_rescheduled"):
        found.add("appointment_rescheduled_by_provider")
    if lately("patient_rescheduled"):
        found.add("appointment_rescheduled_by_patient")
    if lately("appointment_canceled") or any(r["status"] == "canceled" and r["appointment_at"] >= as_of - 30 * DAY for r in visits):
        found.add("appointment_canceled")
    if any(r["status"] == "no_show" and r["appointment_at"] >= as_of - 30 * DAY for r in visits):
        found.add("appointment_no_show")
    return found


def may_be_called(rows):
    answers = [(r["at"], r["decision"]) for r in rows["crm.consent"] if r["channel"] == "phone" and r["purpose"] == "marketing"]
    assert len({t for t, _ in answers}) == len(answers), "two answers at one time"
    return not answers or max(answers)[1] != "denied"


# ---------------------------------------------------------------------------------------------- SQL models
def provider_stats(tables):
    stats = {}
    for p in tables["ehr.providers"]:
        site = [r["event"] for r in tables["web.tracks"] if r["provider_id"] == p["provider_id"]]
        record = [r["status"] for r in tables["ehr.appointments"] if r["provider_id"] == p["provider_id"]]
        stats[p["provider_id"]] = {
            "profile_views": site.count("physician_profile_viewed"), "site_bookings": site.count("appointment_scheduled"),
            "appointments": len(record), "completed": record.count("completed"), "no_shows": record.count("no_show")}
    return stats


def recommendations(profiles, rows_of, providers, stats):
    """Provider ids by patient, best first."""
    result = {}
    for key, p in profiles.items():
        if p["searched_specialty"] is None or p["postal_code"] is None:
            continue
        seen = {r["provider_id"] for r in rows_of[key]["ehr.appointments"] if r["status"] in ("completed", "scheduled")}
        near = [d["provider_id"] for d in providers if d["specialty"] == p["searched_specialty"] and d["accepts_new"]
                and d["postal_code"][:3] == p["postal_code"][:3] and d["provider_id"] not in seen]
        best = sorted(near, key=lambda d: (-stats[d]["completed"], d))[:3]
        if best:
            result[key] = best
    return result


# -------------------------------------------------------------------------------------------------- report
def plain(value):
    return value.isoformat() if isinstance(value, date) else value


def checksum(values):
    """Of a column: how many are not null, and what a test can compute in one line of SQL.

    Numbers and booleans: `sum`. Everything else: `distinct` and `md5`, of the values as text, sorted by bytes and joined
    by line feeds; times as microseconds since 1970."""
    values = [v for v in values if v is not None]
    if all(isinstance(v, (bool, int, float)) for v in values) and not any(isinstance(v, int) and v > 10 ** 12 for v in values):
        return {"not_null": len(values), "sum": sum(values)}
    texts = sorted((str(plain(v)) for v in values), key=str.encode)
    return {"not_null": len(texts), "distinct": len(set(texts)), "md5": hashlib.md5("\n".join(texts).encode()).hexdigest()}


def check_plan(plan, people, entity, audiences, hubs):
    """What was planned must be so; returns how many promises were checked."""
    promises = 0
    for kind, values in plan["hubs"].items():
        for value in values:
            assert (kind, value) in hubs, f"{kind}:{value} is no hub"
    whose = defaultdict(set)
    for row in people:
        for kind, column in (("mrn", "mrns"), ("user_id", "user_ids"), ("email", "emails"), ("phone", "phones"),
                             ("anonymous_id", "anonymous_ids"), ("contact_id", "contact_ids")):
            for value in row[column].split():
                whose[kind, value].add(row["person_id"])
    with_account = {row["person_id"] for row in people if row["user_ids"]}
    for planned in plan["planned"]:
        person = str(planned["person_id"])
        key = tuple(planned["identifier"].split(":", 1))
        members = entity[key]
        for audience, inside in planned["audiences"].items():
            assert (min(members) in audiences[audience]) == inside, f"{planned['name']}: {audience} should be {inside}: {planned['why']}"
            promises += 1
        # all that is theirs alone is in their entity, and nothing of anybody else is
        for x in (x for x, owners in whose.items() if owners == {person} and x in entity):
            if x[0] == "mrn" and x != key:
                assert planned["scenario"] == "ehr_duplicate" and entity[x] is not members, f"{planned['name']}: {text(x)} was merged"
            elif x[0] != "anonymous_id" or person in with_account:     # without an account nothing ties a cookie to anybody
                assert entity[x] is members, f"{planned['name']}: {text(x)} is not in the entity of {text(key)}"
        for x in members:
            assert person in whose[x], f"{planned['name']}: {text(x)} is somebody else's"
    return promises


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    project = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    with open(f"{folder}/truth/plan.json", encoding="utf-8") as f:
        plan = json.load(f)
    with open(f"{folder}/truth/people.csv", newline="", encoding="utf-8") as f:
        people = list(csv.DictReader(f))
    as_of = micros(plan["as_of"])
    raw, tables = load(f"{folder}/data")

    # identity
    identifiers, links = collect(tables)
    hubs, near = find_hubs(identifiers, links)
    assert not near, f"too near to a limit to be a stable example: {near}"
    entity, refused, usable = stitch(identifiers, links, hubs)
    entities = {min(e): e for e in entity.values()}

    # rows to patients, profiles, audiences
    rows_of = {key: {table: [] for table in CLOCK} for key in entities}
    unowned = Counter()
    for table in CLOCK:
        for row in tables[table]:
            x = owner(table, row, entity)
            if x is None:
                unowned[table] += 1
            else:
                rows_of[min(entity[x])][table].append(row)
    profiles = {key: profile_row(members, rows_of[key], as_of) for key, members in entities.items()}
    audiences = defaultdict(set)
    for key, p in profiles.items():
        for name in audiences_of(p, rows_of[key], as_of):
            audiences[name].add(key)
    with open(f"{project}/models/audiences/lists/complaints.csv", newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            key = min(entity[tuple(row["identifier"].split(":", 1))])
            assert key in audiences["searched_not_booked"], f"{row} would not belong anyway"
            audiences["searched_not_booked"].remove(key)
    audiences["seniors_to_call"] = {k for k in audiences["searched_not_booked"] if profiles[k]["senior"] and profiles[k]["phone"] is not None
                                    and may_be_called(rows_of[k])}
    promises = check_plan(plan, people, entity, audiences, hubs)

    # SQL models and the sync
    stats = provider_stats(tables)
    advice = recommendations(profiles, rows_of, tables["ehr.providers"], stats)
    seal = lambda address: None if address is None else hmac.new(b"demo-key-not-secret", address.encode(), hashlib.sha256).hexdigest()
    sent = [profiles[k] for k in audiences["searched_not_booked"]]

    named = []
    for planned in plan["planned"]:
        if planned["named"]:
            key = min(entity[tuple(planned["identifier"].split(":", 1))])
            row = {c: iso(v) if isinstance(v, int) and not isinstance(v, bool) and v > 10 ** 12 else plain(v) for c, v in profiles[key].items()}
            named.append({"name": planned["name"], "why": planned["why"], "identifier": planned["identifier"],
                          "identifiers": sorted(map(text, entities[key])), "profile": row,
                          "audiences": sorted(a for a in audiences if key in audiences[a]),
                          "recommended": advice.get(key, [])})
    result = {
        "as_of": plan["as_of"],
        "rows": {t: {"raw": len(raw[t]), "read": len(tables[t]), "unowned": unowned[t]} if t in CLOCK
                 else {"raw": len(raw[t]), "read": len(tables[t])} for t in sorted(raw)},
        "identity": {
            "identifiers": len(entity), "identifiers_by_type": dict(sorted(Counter(k for k, _ in entity).items())),
            "entities": len(entities), "largest_entity": max(map(len, entities.values())), "hubs": sorted(map(text, hubs)),
            "links": len(links), "links_without_hubs": usable, "refused": len(refused),
            "refused_by": dict(sorted(Counter(kind for _, _, kind in refused).items())),
            "merges": len(entity) - len(entities)},
        "profile": {"rows": len(profiles), "columns": {c: checksum([p[c] for p in profiles.values()]) for c in next(iter(profiles.values()))}},
        "personas": dict(sorted(Counter(p["persona"] for p in profiles.values()).items())),
        "audiences": {name: len(audiences[name]) for name in sorted(audiences)},
        "provider_stats": {"rows": len(stats), **{c: sum(s[c] for s in stats.values()) for c in next(iter(stats.values()))}},
        "provider_recommendations": {"rows": sum(map(len, advice.values())), "patients": len(advice),
                                     "provider_ids": checksum([d for best in advice.values() for d in best])},
        "searched_not_booked_to_lake": {"rows": len(sent), "email": checksum([seal(p["email"]) for p in sent]),
                                        "top_specialty": checksum([p["top_specialty"] for p in sent])},
        "named": named,
    }
    with open(f"{folder}/expected.json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    print(f"{len(entities)} entities of {len(entity)} identifiers, {len(hubs)} hubs, {len(refused)} refused links, {promises} promises kept")
    print(json.dumps(result["audiences"]))


if __name__ == "__main__":
    main()
