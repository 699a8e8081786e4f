#!/usr/bin/env python3
"""Makes the demo clinic's raw data and the truth about it.

    python3 generate.py [FOLDER]        # default: this file's folder; writes FOLDER/data and FOLDER/truth

Needs pyarrow only. The same pyarrow version gives byte-identical files: every choice comes from
`random.Random` seeded by name, so that a change to one part does not shift the others.

Sunshine Health is made up, and so is everybody in it. Phone numbers are from the ranges kept for fiction
(555-01xx and 020 7946 0xxx), addresses from reserved domains, IP addresses from documentation networks.

How the data come about: people live in households; each person follows one scenario. Most are `background`
and do as they like; the others are planned, so that we know for certain which audiences they belong to
(`truth/plan.json`). Planned people live alone and write their own identifiers, unless the mess is the plan.
All times are milliseconds since 1970, UTC.
"""
import csv
import json
import os
import random
import shutil
import sys
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq

SEED = 20260331
PEOPLE = 1450
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000


def ms(*ymd):
    return int(datetime(*ymd, tzinfo=timezone.utc).timestamp()) * 1000


AS_OF = ms(2026, 3, 31)
START = AS_OF - 90 * DAY

# ---------------------------------------------------------------------------------------------- vocabulary
WOMEN = ("Alice Amara Anna Bea Carla Chloe Clara Dana Diana Elena Ella Emma Esther Eva Fatima Flora Grace Hanna Helen Ines Irene "
         "Jana Joan Julia Karin Laura Leila Lidia Lucy Maria Maya Mira Nadia Nina Nora Olga Petra Priya Rachel Rita Ruth Sara "
         "Sofia Stella Tara Tess Una Vera Wanda Yara Zoe").split()
MEN = ("Adam Ahmed Alan Anton Arjun Ben Boris Carl Cesar Chen Dan David Diego Eli Emil Erik Felix Frank George Hans Henry Hugo "
       "Igor Ivan Jack Jan Joel Jonas Karl Kofi Leo Liam Luis Marc Max Miguel Nils Noah Oscar Otto Pavel Pedro Ravi Ray Rolf Sam "
       "Simon Theo Victor Yusuf").split()
LAST = ("Abbott Acosta Adler Baker Barros Becker Bishop Blum Brennan Carver Castro Chavez Conrad Costa Cruz Dalton Danes Decker "
        "Diaz Dorsey Dunn Eliot Engel Ferris Finch Flores Foley Frost Garner Gomez Grant Greco Hale Hansen Harper Hayes Hobbs "
        "Hughes Ivers Jansen Jensen Kane Keller Khan Klein Kumar Lang Larsen Leon Lowe Lund Marsh Mason Mendez Meyer Mills Moreno "
        "Moss Nash Neal Nguyen Nolan Ochoa Ortega Osei Page Park Patel Penn Perry Pratt Quinn Rahman Ramos Reed Rhodes Rossi Ryan "
        "Sato Schmidt Shah Silva Sloan Soto Stein Stone Suarez Tran Turner Vance Vargas Vega Wagner Walsh Webb Weiss Wolfe Wong "
        "York Young Zeller Zimmer").split()
DOMAINS = ["mail.example", "post.example", "inbox.example.net", "example.org"]
AREA_CODES = [201, 202, 203, 205, 206, 207, 208, 210, 212, 213, 214, 215, 216, 217, 218, 219, 301, 302, 303, 304, 305, 307, 308,
              309, 310, 312, 313, 314, 315, 316]
PREFIXES = ["017", "018", "019", "021", "022", "024"]                 # first three digits of postal codes around the clinic
SPECIALTIES = ["Cardiology", "Dermatology", "Endocrinology", "Neurology", "OB/GYN", "Ophthalmology", "Orthopedics", "Pediatrics",
               "Primary Care", "Urology"]
LOCATIONS = ["Harbor Clinic", "Hill Street Clinic", "Lakeside Pavilion", "North Campus", "Riverside Hospital"]
CAMPAIGNS = {"flu_shots": ("sms", "sms"), "heart_month": ("facebook", "paid_social"), "new_patients": ("google", "cpc"),
             "newsletter_march": ("newsletter", "email"), "spring_checkup": ("google", "cpc")}
AGENTS = ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/134.0", "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7) Safari/605.1.15",
          "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) Mobile/15E148", "Mozilla/5.0 (Linux; Android 15) Chrome/134.0 Mobile"]
ICD10 = ["E11.9", "E78.5", "G43.909", "H52.4", "I10", "I48.91", "J06.9", "K21.9", "L20.9", "M17.11", "M54.50", "N40.0", "Z00.00"]
EVENT_TEXT = {e: e.replace("_", " ").title() for e in (
    "provider_search physician_profile_viewed appointment_started appointment_scheduled provider_rescheduled patient_rescheduled "
    "appointment_canceled patient_no_show article_read bill_viewed bill_paid message_opened message_clicked unsubscribed "
    "heartbeat").split()}

# -------------------------------------------------------------------------- values that look like somebody
FRONT_DESK_PHONE = "+16175550100"           # typed into records when a patient gave none
FRONT_DESK_EMAIL = "frontdesk@sunshine-health.example"
RESIDENCE_PHONE = "+16175550150"            # the switchboard of a home for seniors
KIOSK = "5d0c1f5e-0000-4000-8000-00000000d35c"     # the tablet in the waiting room: one cookie, many people
ZERO_COOKIE = "00000000-0000-0000-0000-000000000000"
CLINIC_NUMBERS = ["+18005550110", "+18005550111", "+18005550112"]
JUNK_EMAILS = ["unknown@example.com", "Unknown@Example.com", "test@test.com", "test@sunshine-health.example", "null", "undefined", "n/a", ""]
JUNK_PHONES = ["000-000-0000", "(555) 555-5555", "+15555555555", "null", "undefined", "unknown", ""]
JUNK_USERS = ["undefined", "null", "guest"]
NO_CALLER_ID = ["+266696687", "+86282452253"]  # Twilio's stand-ins for a hidden number: they spell ANONYMOUS, UNAVAILABLE


def rng(*name):
    """A stream of choices of its own for each name."""
    return random.Random(":".join(map(str, (SEED, *name))))


def hexa(r, length):
    return "%0*x" % (length, r.getrandbits(4 * length))


def cookie(r):
    h = hexa(r, 32)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:]}"


def iso(t, millis=False):
    d = datetime.fromtimestamp(t / 1000, timezone.utc)
    return d.strftime("%Y-%m-%dT%H:%M:%S") + (".%03dZ" % (t % 1000) if millis else "Z")


# ------------------------------------------------------------------------------------------------- people
@dataclass
class Device:
    """A browser between two cleanings of its cookies."""
    cookie: str
    agent: str
    ip: str
    skew: int                                # how wrong its clock is
    login: int = None                        # when its user first logged in


@dataclass
class Person:
    id: int
    household: int
    first: str
    last: str
    gender: str
    birth: date
    postal: str
    emails: list
    mobile: str
    landline: str = None
    user: str = None
    second_user: str = None                  # opened another account having forgotten the first
    mrns: list = field(default_factory=list)
    devices: list = field(default_factory=list)
    contacts: list = field(default_factory=list)
    scenario: str = "background"
    plan: dict = field(default_factory=dict)  # audience -> is a member
    why: str = ""
    specialty: str = None
    flags: list = None                        # has a record, visits the site, has an account
    named: bool = False

    @property
    def planned(self):
        return self.scenario != "background"


def phone_numbers():
    """Fictional numbers, each once; the front desk's and the residence's area code is not among them."""
    numbers = [f"+1{a}555{n:04d}" for a in AREA_CODES for n in range(100, 200)]
    rng("phones").shuffle(numbers)
    return numbers


def make_people():
    numbers = phone_numbers()
    people, household = [], 0
    r = rng("people")
    while len(people) < PEOPLE:
        size = r.choices([1, 2, 3, 4], [72, 17, 7, 4])[0]
        last, postal = r.choice(LAST), r.choice(PREFIXES) + "%02d" % r.randrange(1, 40)
        landline = numbers.pop() if size > 1 else None
        for k in range(min(size, PEOPLE - len(people))):
            i = len(people)
            gender = r.choice("FM")
            first = r.choice(WOMEN if gender == "F" else MEN)
            age = r.randrange(3, 17) if k >= 2 else r.choice([r.randrange(18, 62), r.randrange(25, 62), r.randrange(67, 90)])
            birth = date(2026, 3, 1) - timedelta(days=age * 365 + r.randrange(300))
            emails = [f"{first}.{last}{i}@{r.choice(DOMAINS)}".lower()]
            if r.random() < .25:
                emails.append(f"{last}{i}@work.example.com".lower())
            mobile = numbers.pop()
            if r.random() < .004:
                mobile = f"+4420794600{i % 90 + 10}"
            people.append(Person(i, household, first, last, gender, birth, postal, emails, mobile, landline,
                                 specialty=r.choice(SPECIALTIES)))
        household += 1
    return people


# Scenario: how many people, record in the EHR, web visits, portal account, and the audiences that follow.
IN, OUT = True, False
SCENARIOS = {
    "searched_not_booked": (44, True, True, True, {"searched_not_booked": IN, "seniors_to_call": OUT},
                            "searched in the last days, viewed three or more physicians, booked nothing"),
    "senior_searched_not_booked": (26, True, True, True, {"searched_not_booked": IN, "seniors_to_call": IN},
                                   "as above, 65 or older, may be called"),
    "senior_denied_calls": (6, True, True, True, {"searched_not_booked": IN, "seniors_to_call": OUT},
                            "as above, but the latest answer about marketing calls is no"),
    "senior_granted_again": (4, True, True, True, {"searched_not_booked": IN, "seniors_to_call": IN},
                             "said no to marketing calls, later yes"),
    "booked_within_24h": (16, True, True, True, {"searched_not_booked": OUT, "appointment_scheduled": IN},
                          "booked within 24 hours of the search"),
    "viewed_two": (10, True, True, True, {"searched_not_booked": OUT}, "viewed two physicians only"),
    "viewed_one_often": (8, True, True, True, {"searched_not_booked": OUT}, "viewed one physician four times"),
    "searched_today": (8, True, True, True, {"searched_not_booked": OUT}, "searched less than 24 hours ago: did not is not not yet"),
    "booked_by_phone": (8, True, True, True, {"searched_not_booked": OUT, "appointment_scheduled": IN},
                        "called and got an appointment after the search"),
    "viewed_long_ago": (8, True, True, True, {"searched_not_booked": OUT}, "viewed the physicians more than seven days ago"),
    "booked_late_then_canceled": (6, True, True, True, {"searched_not_booked": IN, "appointment_canceled": IN},
                                  "booked 30 hours after the search and canceled the next day"),
    "complained": (2, True, True, True, {"searched_not_booked": OUT}, "would belong, but is on the complaints list"),
    "caller_only": (86, None, False, False, {"callers_never_on_web": IN}, "phones, never visits the site"),
    "caller_on_web": (40, None, True, True, {"callers_never_on_web": OUT}, "phones and visits the site"),
    "caller_missed": (10, None, False, False, {"callers_never_on_web": OUT}, "phoned, but no call was answered"),
    "no_show_returned": (36, True, True, True, {"no_shows_returned": IN, "appointment_no_show": IN},
                         "did not come to an appointment, looked at the site afterwards"),
    "no_show_gone": (22, True, True, True, {"no_shows_returned": OUT, "appointment_no_show": IN},
                     "did not come and did not return; only the server's own event is later"),
    "lapsed": (60, True, None, None, {"lapsed_patients": IN}, "no appointment for 180 days, no visit or call for 60"),
    "lapsed_with_appointment": (6, True, False, False, {"lapsed_patients": OUT}, "as above, but an appointment is coming"),
    "lapsed_on_web": (6, True, True, True, {"lapsed_patients": OUT}, "as above, but visited the site last week"),
    "lapsed_calling": (6, True, False, False, {"lapsed_patients": OUT}, "as above, but phoned last week"),
    "scheduled_on_web": (30, True, True, True, {"appointment_scheduled": IN}, "booked on the site"),
    "rescheduled_by_provider": (36, True, True, True, {"appointment_rescheduled_by_provider": IN, "appointment_rescheduled_by_patient": OUT},
                                "the physician moved the appointment"),
    "rescheduled_by_patient": (36, True, True, True, {"appointment_rescheduled_by_patient": IN, "appointment_rescheduled_by_provider": OUT},
                               "the patient moved the appointment"),
    "canceled": (34, True, True, True, {"appointment_canceled": IN, "appointment_no_show": OUT}, "canceled an appointment"),
    "ehr_duplicate": (32, True, True, True, {}, "entered twice in the EHR: two record numbers, one e-mail and phone"),
}

# People with a name, for documentation and for boundary cases: scenario, name, gender, birth, why.
NAMED = [
    ("searched_not_booked", "Ann", "Weaver", "F", date(1984, 6, 2), "searched on one cookie, viewed on two others; two e-mail spellings"),
    ("senior_searched_not_booked", "Walter", "Brandt", "M", date(1961, 3, 31), "turns 65 at as_of; shares the home phone with Edith"),
    ("searched_not_booked", "Lena", "Fischer", "F", date(1961, 4, 1), "turns 65 one day after as_of"),
    ("senior_denied_calls", "Rosa", "Lindqvist", "F", date(1950, 11, 20), "denied marketing calls"),
    ("booked_within_24h", "Tomas", "Okafor", "M", date(1979, 1, 9), "booked exactly 24 hours after the search: the window is closed at its end"),
    ("booked_late_then_canceled", "Mei", "Tanaka", "F", date(1990, 8, 17), "booked one millisecond after the 24 hours; canceled the next day"),
    ("complained", "Viktor", "Salo", "M", date(1971, 5, 5), "on the complaints list"),
    ("caller_only", "Iris", "Novak", "F", date(1948, 2, 27), "only ever phones"),
    ("no_show_returned", "Paul", "Reyes", "M", date(1968, 12, 12), "missed his appointment, came back to the site"),
    ("lapsed", "Greta", "Holm", "F", date(1957, 9, 30), "nothing for long"),
    ("ehr_duplicate", "Omar", "Haddad", "M", date(1982, 4, 14), "two record numbers: kept apart, the refusal is evidence"),
]


def assign_scenarios(people):
    """Gives scenarios to adults who live alone; Walter Brandt is the exception and lives with Edith."""
    r = rng("scenarios")
    alone = [p for p in people if p.landline is None]
    r.shuffle(alone)
    couple = next(h for h in sorted({p.household for p in people}) if sum(p.household == h for p in people) == 2)
    walter, edith = [p for p in people if p.household == couple]
    waiting = {}
    for name, (count, *_rest) in SCENARIOS.items():
        waiting[name] = [alone.pop() for _ in range(count)]
    waiting["senior_searched_not_booked"][0] = walter
    for name, members in waiting.items():
        _, mrn, web, account, plan, why = SCENARIOS[name]
        for p in members:
            p.scenario, p.plan, p.why = name, dict(plan), why
            p.flags = [x if x is not None else rng("flag", p.id, k).random() < .5 for k, x in enumerate((mrn, web, account))]
            if not p.flags[1]:
                p.flags[2] = False
            if name.startswith("senior"):
                p.birth = date(1960 - r.randrange(25), r.randrange(1, 13), r.randrange(1, 28))
            elif p.birth <= date(1961, 3, 31) and name in ("searched_not_booked", "booked_late_then_canceled"):
                p.birth = date(1962 + r.randrange(40), r.randrange(1, 13), r.randrange(1, 28))
    used = {}
    for name, first, last, gender, birth, why in NAMED:
        p = waiting[name][used.setdefault(name, 0)]
        if name == "searched_not_booked" and first == "Lena":
            p = waiting[name][1]
        used[name] += 1
        p.first, p.last, p.gender, p.birth, p.why = first, last, gender, birth, why
        p.emails = [f"{first}.{last}@mail.example".lower()]
        p.named = True
    edith.first, edith.last, edith.gender, edith.birth = "Edith", "Brandt", "F", date(1963, 7, 8)
    edith.emails, edith.named = ["edith.brandt@mail.example"], True
    edith.scenario, edith.why = "spouse", "shares the home phone with Walter, has her own record and account"
    edith.plan, edith.flags = {"searched_not_booked": OUT, "seniors_to_call": OUT}, [True, True, True]
    for p in people:
        if p.scenario == "background":
            x = rng("flags", p.id)
            web = x.random() < .72
            p.flags = [x.random() < .66, web, web and x.random() < .55]


def make_identifiers(people):
    for p in people:
        r = rng("identifiers", p.id)
        mrn, web, account = p.flags
        if mrn:
            p.mrns = [f"MRN{100_000 + p.id * 7:06d}"]
            if p.scenario == "ehr_duplicate":
                p.mrns.append(f"MRN{100_000 + p.id * 7 + 3:06d}")
        if account:
            p.user = f"u_{hexa(r, 10)}"
            if not p.planned and r.random() < .03:
                p.second_user = f"u_{hexa(r, 10)}"
        if web:
            count = r.choices([1, 2, 3, 4], [52, 28, 14, 6])[0]
            if p.first == "Ann" and p.last == "Weaver":
                count = 3
            for _ in range(2 if p.second_user else count):
                p.devices.append(Device(cookie(r), r.choice(AGENTS), f"203.0.113.{r.randrange(1, 255)}",
                                        r.randrange(-3, 4) * SECOND if r.random() < .97 else r.choice([-5, 7]) * HOUR))
    # a family computer: two people with accounts, one cookie
    shared, r = 0, rng("family computer")
    for p, q in zip(people, people[1:]):
        if p.household == q.household and p.user and q.user and not p.planned and not q.planned and shared < 12:
            q.devices[0] = p.devices[0]
            shared += 1


# ------------------------------------------------------------------------------------ spellings and junk
def spelled_email(email, r):
    k = r.random()
    if k < .70:
        return email
    if k < .80:
        return email.upper()
    if k < .90:
        return email.title()
    return r.choice([email + " ", " " + email, "  " + email.title() + " "])


def spelled_phone(phone, r):
    if not phone.startswith("+1"):
        return phone
    a, b, c = phone[2:5], phone[5:8], phone[8:]
    return r.choice([phone, phone, f"({a}) {b}-{c}", f"({a}) {b}-{c}", f"{a}-{b}-{c}", f"{a}.{b}.{c}", f"{a}{b}{c}", f"1-{a}-{b}-{c}",
                     f"+1 {a} {b} {c}"])


def or_junk(value, junk, share, r):
    return r.choice(junk) if r.random() < share else value


# -------------------------------------------------------------------------------------------------- world
class World:
    """Collects the rows of all tables."""

    def __init__(self, people):
        self.people = people
        self.rows = {t: [] for t in ("tracks", "identifies", "pages", "calls", "messages", "patients", "appointments", "diagnoses",
                                     "providers", "contacts", "consent")}
        self.providers = []
        self.next_appointment = 0

    # ---- web
    def envelope(self, r, device, t, user):
        """Columns that all of Segment's tables have; timestamp = received_at - (sent_at - original_timestamp)."""
        delay = r.randrange(80, 1900)
        if r.random() < .015:
            delay = r.randrange(HOUR, 5 * DAY)                 # a phone that was offline
        received = min(t + delay, AS_OF - 1)
        original = t + (device.skew if device else 0)
        return {"id": hexa(r, 20), "received_at": received, "uuid_ts": min((received // HOUR + 1) * HOUR + 7 * MINUTE, AS_OF),
                "sent_at": original + (received - t), "original_timestamp": original, "timestamp": t,
                "anonymous_id": device.cookie if device else None, "user_id": user,
                "context_ip": device.ip if device else None, "context_user_agent": device.agent if device else None,
                "context_locale": "en-US" if device else None, "context_timezone": "America/New_York" if device else None,
                "context_library_name": "analytics.js" if device else "analytics-node"}

    def user_on(self, r, p, device, t):
        if device.login is None or t < device.login:
            return r.choice(JUNK_USERS) if r.random() < .01 else None
        return p.second_user if p.second_user and device is p.devices[-1] else p.user

    def page(self, r, p, device, t, path, title, campaign, referrer, search=None):
        row = self.envelope(r, device, t, self.user_on(r, p, device, t))
        row.update(campaign_columns(campaign), name=title, path=path, referrer=referrer, search=search, title=f"{title} | Sunshine Health",
                   url=f"https://www.sunshine-health.example{path}")
        self.rows["pages"].append(row)

    def track(self, r, p, device, t, event, campaign=None, path=None, referrer=None, **properties):
        row = self.envelope(r, device, t, self.user_on(r, p, device, t) if device else p.user)
        row.update(campaign_columns(campaign), event=event, event_text=EVENT_TEXT[event], context_page_path=path,
                   context_page_url=f"https://www.sunshine-health.example{path}" if path else None, context_page_referrer=referrer,
                   **properties)
        self.rows["tracks"].append(row)

    def server_event(self, p, t, event, **properties):
        """Sent by the clinic's own systems: it knows the account, not the browser."""
        if p.user and START <= t < AS_OF:
            self.track(rng("server", p.id, t, event), p, None, t, event, **properties)

    def identify(self, r, p, device, t, user, email=None, phone=None, traits=True):
        row = self.envelope(r, device, t, user)
        row.update(email=email, phone=phone, first_name=None, last_name=None, birthday=None, gender=None, address_postal_code=None)
        if traits:
            row.update(first_name=p.first, last_name=p.last, birthday=p.birth if r.random() < .5 else None,
                       gender=p.gender if r.random() < .4 else None, address_postal_code=p.postal if r.random() < .7 else None)
        self.rows["identifies"].append(row)

    def log_in(self, r, p, device, t):
        """First login on this cookie: Segment's identify, with what the account knows."""
        device.login = t
        user = p.second_user if p.second_user and device is p.devices[-1] else p.user
        share = 0 if p.planned else .02
        email = p.emails[0] if p.planned else r.choice(p.emails)
        phone = p.mobile if p.planned or not p.landline or r.random() < .8 else p.landline
        self.identify(r, p, device, t, user, or_junk(spelled_email(email, r), JUNK_EMAILS, share, r),
                      or_junk(spelled_phone(phone, r), JUNK_PHONES, share, r) if p.planned or r.random() < .6 else None)

    def visit(self, p, t, steps, device=None, log_in=None):
        """One visit: `steps` are (kind, detail); each takes its time. Returns the time of the last step."""
        r = rng("visit", p.id, t)
        device = device or r.choice(p.devices)
        campaign = r.choice(sorted(CAMPAIGNS)) if r.random() < .3 else None
        referrer = r.choice(["https://www.google.com/", "https://duckduckgo.com/", None])
        self.page(r, p, device, t, "/", "Home", campaign, referrer)
        if (log_in if log_in is not None else p.planned) and p.user and device.login is None:
            self.log_in(r, p, device, t + 5 * SECOND)
        here = t
        for k, (kind, detail) in enumerate(steps):
            t += r.randrange(15 * SECOND, 100 * SECOND)
            if t >= AS_OF - MINUTE:
                break
            here = t
            path = {"search": "/find-a-doctor", "view": "/providers/", "start": "/book", "book": "/book/done", "article": "/health-library",
                    "bill": "/billing", "pay": "/billing", "unsubscribe": "/preferences"}[kind]
            seen = {"campaign": campaign, "path": path, "referrer": referrer if k == 0 else None}
            if kind == "search":
                self.track(r, p, device, t, "provider_search", specialty=detail, location=r.choice(LOCATIONS), **seen)
                if r.random() < .5:
                    self.page(r, p, device, t + SECOND, path, "Find a Doctor", campaign, None, "?q=" + detail.lower().replace(" ", "+"))
            elif kind == "view":
                seen["path"] = path + detail["provider_id"]
                self.track(r, p, device, t, "physician_profile_viewed", provider_id=detail["provider_id"], specialty=detail["specialty"], **seen)
                if r.random() < .4:
                    self.page(r, p, device, t + SECOND, path + detail["provider_id"], detail["name"], campaign, None)
            elif kind == "start":
                self.track(r, p, device, t, "appointment_started", provider_id=detail["provider_id"], specialty=detail["specialty"], **seen)
            elif kind == "book":
                provider, appointment_id, exact = detail
                here = t = exact or t
                self.track(r, p, device, t, "appointment_scheduled", provider_id=provider["provider_id"], specialty=provider["specialty"],
                           appointment_id=appointment_id, **seen)
            elif kind == "article":
                self.track(r, p, device, t, "article_read", specialty=detail, **seen)
            elif kind == "bill":
                self.track(r, p, device, t, "bill_viewed", amount=detail, **seen)
            elif kind == "pay":
                self.track(r, p, device, t, "bill_paid", amount=detail, **seen)
            elif kind == "unsubscribe":
                self.track(r, p, device, t, "unsubscribed", **seen)
        return here

    # ---- phone
    def call(self, p, t, direction="inbound", status="completed", number=None):
        r = rng("call", p.id, t)
        number = number or p.mobile
        ours = r.choice(CLINIC_NUMBERS)
        incoming = direction in ("inbound", "trunking-originating")
        seconds = r.randrange(20, 900) if status == "completed" else 0
        sid = "CA" + hexa(r, 32)
        self.add_call(sid, t, direction, status, seconds, number if incoming else ours, ours if incoming else number,
                      None if status in ("completed",) else r.choice(["0", "", None]), None, r)
        if incoming and status == "completed" and r.random() < .25:     # the second leg: forwarded to the front desk
            self.add_call("CA" + hexa(r, 32), t + 2 * SECOND, "outbound-dial", status, seconds, ours, FRONT_DESK_PHONE, None, sid, r)

    def add_call(self, sid, t, direction, status, seconds, caller, called, duration, parent, r):
        self.rows["calls"].append({
            "sid": sid, "account_sid": "AC" + "5" * 32, "api_version": "2010-04-01", "caller_name": None, "date_created": t,
            "date_updated": t + seconds * SECOND, "direction": direction, "duration": str(seconds) if duration is None and seconds else duration,
            "start_time": t, "end_time": t + seconds * SECOND, "forwarded_from": None, "from": caller, "to": called,
            "parent_call_sid": parent, "phone_number_sid": "PN" + "7" * 32,
            "price": "-%.4f" % ((seconds // 60 + 1) * .0085) if seconds else None, "status": status,
            "received_at": min(t + seconds * SECOND + 40 * SECOND, AS_OF - 1)})

    def message(self, p, t, direction, body, status="delivered", number=None):
        r = rng("message", p.id, t)
        number, ours = number or p.mobile, r.choice(CLINIC_NUMBERS)
        incoming = direction == "inbound"
        failed = status in ("failed", "undelivered")
        self.rows["messages"].append({
            "sid": "SM" + hexa(r, 32), "account_sid": "AC" + "5" * 32, "body": body, "date_created": t, "date_sent": t + 2 * SECOND,
            "date_updated": t + 5 * SECOND, "direction": direction, "error_code": "30005" if failed else None,
            "error_message": "Unknown destination handset" if failed else None, "from": number if incoming else ours,
            "to": ours if incoming else number, "num_media": "0", "num_segments": "1", "price": "-0.0079",
            "status": "received" if incoming else status})

    # ---- EHR
    def patient(self, p):
        r = rng("patient", p.id)
        for k, mrn in enumerate(p.mrns):
            registered = AS_OF - r.randrange(200, 2500) * DAY + r.randrange(8 * HOUR, 18 * HOUR)
            if k:
                registered = AS_OF - r.randrange(5, 80) * DAY + r.randrange(8 * HOUR, 18 * HOUR)     # the second card, opened by mistake
            elif not p.planned and r.random() < .25:
                registered = START + r.randrange(0, 80) * DAY + r.randrange(8 * HOUR, 18 * HOUR)
            elif p.scenario.startswith("lapsed"):
                registered = AS_OF - r.randrange(500, 2500) * DAY + r.randrange(8 * HOUR, 18 * HOUR)
            email, home, cell = spelled_email(p.emails[0], r), p.landline and spelled_phone(p.landline, r), spelled_phone(p.mobile, r)
            if not p.planned:
                x = r.random()
                email = None if x < .15 else r.choice(JUNK_EMAILS) if x < .19 else FRONT_DESK_EMAIL if x < .22 else email
                cell = None if r.random() < .12 else or_junk(cell, JUNK_PHONES, .03, r)
                if p.birth <= date(1958, 1, 1) and not p.landline and r.random() < .7:
                    home = "(617) 555-0150"
            if home is None and r.random() < .14:
                home = r.choice(["617-555-0100", FRONT_DESK_PHONE, "(617) 555-0100"])
            updated = registered + (r.randrange(0, 20) * DAY if registered < START else 0)
            last = p.last if k == 0 else p.last + r.choice(["e", "s", "-" + p.last])
            row = {"mrn": mrn, "first_name": p.first, "last_name": last, "birth_date": p.birth, "gender": p.gender, "email": email,
                   "home_phone": home, "cell_phone": cell, "postal_code": p.postal, "registered_at": registered, "updated_at": updated}
            self.rows["patients"].append(row)
            if k == 0 and r.random() < .08:                    # a later state of the same record
                self.rows["patients"].append({**row, "postal_code": p.postal, "last_name": p.last.upper(),
                                              "updated_at": AS_OF - r.randrange(1, 25) * DAY + 9 * HOUR})

    def appointment(self, p, at, booked, outcome, provider=None, on_web=False, exact=None, moved_by=None, moved_at=None, device=None):
        """One appointment with its states, and the events that its changes leave on the site and the server."""
        r = rng("appointment", p.id, at, booked)
        provider = provider or r.choice([x for x in self.providers if x["specialty"] == p.specialty])
        self.next_appointment += 1
        ident = f"A{self.next_appointment:06d}"
        mrn = p.mrns[0] if len(p.mrns) == 1 else r.choice(p.mrns)
        if on_web and booked >= START and p.devices:
            self.visit(p, booked - 2 * MINUTE, [("start", provider), ("book", (provider, ident, exact or booked))], device)
        states = [("scheduled", booked)]
        if outcome in ("completed", "no_show"):
            states.append((outcome, at + r.randrange(1, 4) * HOUR))
        elif outcome in ("canceled", "rescheduled"):
            states.append((outcome, moved_at or booked + (min(at, AS_OF) - booked) // 2))
        if states[0][1] < START and len(states) > 1:
            states = states[1:]                                # the export gives only the last state of what is old
        for status, t in states:
            self.rows["appointments"].append({"appointment_id": ident, "mrn": mrn, "provider_id": provider["provider_id"],
                                              "specialty": provider["specialty"], "status": status, "appointment_at": at, "updated_at": t})
        final, t = states[-1]
        event = {"no_show": "patient_no_show", "canceled": "appointment_canceled",
                 "rescheduled": f"{moved_by}_rescheduled"}.get(final)
        if event:
            self.server_event(p, t + 30 * SECOND, event, provider_id=provider["provider_id"], specialty=provider["specialty"], appointment_id=ident)
        if outcome == "completed" and r.random() < .6:
            self.rows["diagnoses"].append({"mrn": mrn, "icd10": r.choice(ICD10), "at": at})
        return provider

    def consent(self, identifier, channel, decision, t):
        self.rows["consent"].append({"identifier": identifier, "purpose": "marketing", "channel": channel, "decision": decision, "at": t})


def campaign_columns(name):
    source, medium = CAMPAIGNS.get(name, (None, None))
    return {"context_campaign_name": name, "context_campaign_source": source, "context_campaign_medium": medium}


def slot(t):
    """A time of appointment: on the half hour, in opening hours (13:00 to 21:00 UTC)."""
    return t // DAY * DAY + 13 * HOUR + t % DAY // (DAY // 16) * (HOUR // 2)


# ---------------------------------------------------------------------------------------------- scenarios
def search_and_view(w, p, t, count, same=False):
    """A search and `count` profile views, spread over the person's cookies; returns the time of the search."""
    r = rng("search", p.id)
    fitting = [x for x in w.providers if x["specialty"] == p.specialty]
    viewed = [fitting[0]] * count if same else r.sample(fitting, count)
    first = p.devices[0]
    found = w.visit(p, t, [("search", p.specialty)], first)
    if len(p.devices) == 1:
        w.visit(p, t + 10 * MINUTE, [("view", x) for x in viewed], first)
    else:                                                      # later the same day, after the cookies were cleared
        w.visit(p, t + 10 * MINUTE, [("view", viewed[0])], p.devices[1])
        w.visit(p, t + 3 * HOUR, [("view", x) for x in viewed[1:]], p.devices[-1])
    return found


def play(w, p):
    """What a planned person does."""
    r = rng("play", p.id)
    s = p.scenario
    days_ago = lambda low, high: AS_OF - r.randrange(low * 24, high * 24) * HOUR - r.randrange(HOUR)
    if s in ("searched_not_booked", "senior_searched_not_booked", "senior_denied_calls", "senior_granted_again", "complained", "viewed_two",
             "viewed_one_often", "booked_by_phone", "booked_within_24h", "booked_late_then_canceled"):
        late = s in ("booked_by_phone", "booked_within_24h", "booked_late_then_canceled")
        count = {"viewed_two": 2, "viewed_one_often": 4}.get(s) or r.randrange(3, 6)
        found = search_and_view(w, p, days_ago(3 if late else 2, 6), count, same=s == "viewed_one_often")
        if s == "booked_by_phone":
            w.call(p, found + 5 * HOUR)
            w.appointment(p, slot(AS_OF + r.randrange(3, 20) * DAY), found + 5 * HOUR, "scheduled")
        if s == "booked_within_24h":
            exact = found + 24 * HOUR if p.last == "Okafor" else found + r.randrange(HOUR, 23 * HOUR)
            w.appointment(p, slot(AS_OF + r.randrange(3, 20) * DAY), exact, "scheduled", on_web=True, exact=exact)
        if s == "booked_late_then_canceled":
            exact = found + 24 * HOUR + 1 if p.last == "Tanaka" else found + 30 * HOUR
            w.appointment(p, slot(AS_OF + r.randrange(3, 20) * DAY), exact, "canceled", on_web=True, exact=exact, moved_at=exact + 12 * HOUR)
        if s == "senior_denied_calls":
            w.consent(spelled_phone(p.mobile, r), "phone", "granted", days_ago(60, 80))
            w.consent(spelled_email(p.emails[0], r), "phone", "denied", days_ago(10, 40))
        if s == "senior_granted_again":
            w.consent(spelled_phone(p.mobile, r), "phone", "denied", days_ago(60, 80))
            w.consent(spelled_email(p.emails[0], r), "phone", "granted", days_ago(10, 40))
        for _ in range(r.randrange(0, 3)):
            past_completed(w, p, r)
    elif s == "searched_today":
        search_and_view(w, p, AS_OF - r.randrange(5, 20) * HOUR, 4)
    elif s == "viewed_long_ago":
        search_and_view(w, p, days_ago(9, 40), 5)
    elif s == "spouse":
        w.visit(p, days_ago(10, 30), [("article", p.specialty)])
        w.call(p, days_ago(5, 60), number=p.landline)
    elif s in ("caller_only", "caller_on_web", "caller_missed"):
        for _ in range(r.randrange(1, 5)):
            direction = "trunking-originating" if r.random() < .1 else "inbound"
            w.call(p, days_ago(1, 89), direction, r.choice(["no-answer", "busy", "failed"]) if s == "caller_missed" else "completed")
        if s == "caller_on_web":
            for _ in range(r.randrange(1, 4)):
                w.visit(p, days_ago(2, 88), [("article", p.specialty), ("search", p.specialty)])
        if p.mrns and s != "caller_missed":
            past_completed(w, p, r)
    elif s in ("no_show_returned", "no_show_gone"):
        at = slot(days_ago(8, 27))
        w.appointment(p, at, at - r.randrange(5, 25) * DAY, "no_show", on_web=True)
        if s == "no_show_returned":
            w.visit(p, min(at + r.randrange(1, 7) * DAY, AS_OF - DAY), [("search", p.specialty)])
    elif s.startswith("lapsed"):
        for _ in range(r.randrange(1, 4)):
            at = slot(days_ago(190, 450))
            w.appointment(p, at, at - 9 * DAY, r.choice(["completed", "completed", "canceled"]))
        if s == "lapsed_with_appointment":
            w.appointment(p, slot(AS_OF + 9 * DAY), AS_OF - r.randrange(3, 50) * DAY, "scheduled")
        if s == "lapsed_calling":
            w.call(p, days_ago(2, 8))
        if s == "lapsed_on_web" or s == "lapsed" and p.devices:
            w.visit(p, days_ago(2, 8) if s == "lapsed_on_web" else days_ago(65, 88), [("article", p.specialty)])
    elif s == "scheduled_on_web":
        booked = days_ago(1, 26)
        search_and_view(w, p, booked - 2 * DAY, 2)
        w.appointment(p, slot(AS_OF + r.randrange(1, 25) * DAY), booked, "scheduled", on_web=True)
    elif s in ("rescheduled_by_provider", "rescheduled_by_patient"):
        booked, moved = days_ago(27, 50), days_ago(3, 26)
        at = slot(moved + r.randrange(2, 9) * DAY)
        provider = w.appointment(p, at, booked, "rescheduled", on_web=True, moved_by=s.split("_")[-1], moved_at=moved)
        w.appointment(p, slot(AS_OF + r.randrange(2, 20) * DAY), moved, "scheduled", provider)
    elif s == "canceled":
        booked, moved = days_ago(27, 50), days_ago(2, 26)
        w.appointment(p, slot(moved + r.randrange(1, 9) * DAY), booked, "canceled", on_web=True, moved_at=moved)
    elif s == "ehr_duplicate":
        for _ in range(r.randrange(1, 4)):
            past_completed(w, p, r)
        w.visit(p, days_ago(3, 80), [("search", p.specialty), ("article", p.specialty)])


def past_completed(w, p, r):
    at = slot(AS_OF - r.randrange(10, 240) * DAY - r.randrange(HOUR))
    w.appointment(p, at, at - r.randrange(3, 25) * DAY, "completed")


def live(w, p):
    """What everybody else does."""
    r = rng("live", p.id)
    when = lambda: START + r.randrange(90 * DAY - 2 * HOUR)
    if p.devices:
        for device in p.devices:
            device_logs_in = p.user and r.random() < .7
            visits = sorted(when() for _ in range(min(int(r.expovariate(.55)) + 1, 9)))
            for k, t in enumerate(visits):
                steps = [("search", p.specialty)] if r.random() < .5 else []
                fitting = [x for x in w.providers if x["specialty"] == p.specialty]
                steps += [("view", x) for x in r.sample(fitting, r.choice([0, 1, 1, 2, 3]))]
                if r.random() < .3:
                    steps.append(("article", r.choice(SPECIALTIES)))
                if r.random() < .08:
                    amount = r.randrange(80, 900) / 4
                    steps += [("bill", amount)] + ([("pay", amount)] if r.random() < .6 else [])
                if r.random() < .02:
                    steps.append(("unsubscribe", None))
                w.visit(p, t, steps, device, log_in=device_logs_in and k >= len(visits) // 3)
            if not p.user and r.random() < .15:                # a newsletter form: an address without an account
                w.identify(r, p, device, visits[0] + MINUTE, None, or_junk(spelled_email(r.choice(p.emails), r), JUNK_EMAILS, .05, r), traits=False)
    if r.random() < .42:
        for _ in range(int(r.expovariate(.6)) + 1):
            direction = r.choices(["inbound", "outbound-api", "trunking-originating", "trunking-terminating"], [62, 30, 4, 4])[0]
            status = r.choices(["completed", "no-answer", "busy", "canceled"], [80, 10, 6, 4])[0]
            number = p.landline if p.landline and r.random() < .3 else None
            if r.random() < .03 and direction == "inbound":
                number = r.choice(NO_CALLER_ID)
            w.call(p, when(), direction, status, number)
    if p.mrns:
        for _ in range(r.choices([0, 1, 2, 3], [20, 38, 27, 15])[0]):
            at = slot(AS_OF - r.randrange(-25, 330) * DAY)
            booked = min(at - r.randrange(2, 30) * DAY, AS_OF - DAY) + r.randrange(HOUR)
            if at > AS_OF:
                outcome = "scheduled"
            else:
                outcome = r.choices(["completed", "canceled", "no_show", "rescheduled"], [70, 12, 11, 7])[0]
            w.appointment(p, at, booked, outcome, on_web=bool(p.user) and r.random() < .5, moved_by=r.choice(["provider", "patient"]))
    if r.random() < .2:
        t = when()
        w.message(p, t, "outbound-api", "Your appointment is tomorrow at 9:00. Reply C to confirm.",
                  r.choices(["delivered", "failed", "undelivered"], [92, 4, 4])[0])
        if r.random() < .4:
            w.message(p, t + 20 * MINUTE, "inbound", r.choice(["C", "Can I reschedule?", "STOP"]))
        if r.random() < .3:
            w.message(p, t + 2 * DAY, "outbound-api", "Thank you for visiting. Rate us 1-5.")
            w.message(p, t + 2 * DAY + HOUR, "inbound", r.choice("12345"))


def partner_contacts(w):
    for p in w.people:
        r = rng("contact", p.id)
        if r.random() >= (.2 if p.planned else .28) or p.scenario in ("caller_only", "caller_missed"):
            continue
        ident = f"c_{hexa(r, 8)}"
        p.contacts.append(ident)
        share = 0 if p.planned else .04
        partner = r.choice(["employer", "health_fair", "insurer"])
        email = spelled_email(p.emails[0] if p.planned else r.choice(p.emails), r)
        phone = spelled_phone(p.mobile if p.planned or not p.landline or r.random() < .7 else p.landline, r)
        w.rows["contacts"].append({
            "contact_id": ident, "partner": partner,
            "email": or_junk(email, JUNK_EMAILS, share, r) if p.planned or r.random() < .9 else None,
            "phone": or_junk(phone, JUNK_PHONES, share, r) if r.random() < .7 else None,
            "first_name": p.first, "last_name": p.last, "postal_code": p.postal if r.random() < .8 else None,
            "created_at": AS_OF - r.randrange(1, 360) * DAY + r.randrange(DAY // 2)})


def consents(w):
    for p in w.people:
        r = rng("consent", p.id)
        if p.planned or r.random() < .6:
            continue
        for channel in ("email", "phone", "sms"):
            if r.random() < .6:
                by_mail = channel == "email" or r.random() < .5
                w.consent(spelled_email(r.choice(p.emails), r) if by_mail else spelled_phone(p.mobile, r), channel,
                          r.choices(["granted", "denied"], [75, 25])[0], AS_OF - r.randrange(1, 400) * DAY + r.randrange(DAY // 2))


def shared_tablet_and_noise(w):
    """The kiosk, an uptime monitor, the zero cookie, and rows that were delivered twice."""
    r = rng("noise")
    kiosk = Device(KIOSK, AGENTS[3], "203.0.113.9", 0)
    users = [p for p in w.people if p.user and not p.planned][:45]
    for p in users:
        t = START + r.randrange(88 * DAY)
        w.identify(r, p, kiosk, t, p.user, traits=False)
        kiosk.login = 0
        w.track(r, p, kiosk, t + MINUTE, "bill_viewed", path="/billing", amount=r.randrange(80, 900) / 4)
    kiosk.login = None
    for _ in range(30):                                        # nobody logged in
        w.track(r, users[0], kiosk, START + r.randrange(88 * DAY), "article_read", path="/health-library", specialty=r.choice(SPECIALTIES))
    monitor = [Device(cookie(r), "uptime-monitor/2.1", "198.51.100.7", 0) for _ in range(4)]
    for k in range(160):
        w.track(r, w.people[0], monitor[k % 4], START + k * 13 * HOUR + MINUTE, "heartbeat", path="/")
    for row in w.rows["tracks"] + w.rows["pages"]:
        if row["anonymous_id"] and row["user_id"] and row["anonymous_id"] != KIOSK and r.random() < .004:
            row["anonymous_id"] = ZERO_COOKIE
    for table, share, clock in (("tracks", .008, "uuid_ts"), ("calls", .006, "received_at")):
        for row in [x for x in w.rows[table] if r.random() < share]:
            w.rows[table].append({**row, clock: min(row[clock] + r.randrange(1, 30) * HOUR, AS_OF)})


def make_providers(w):
    r = rng("providers")
    for k in range(180):
        gender = r.choice("FM")
        row = {"provider_id": f"P{k + 1:04d}", "name": f"Dr. {r.choice(WOMEN if gender == 'F' else MEN)} {r.choice(LAST)}",
               "specialty": SPECIALTIES[k % 10], "postal_code": r.choice(PREFIXES) + "%02d" % r.randrange(1, 40), "accepts_new": r.random() < .75}
        w.providers.append(row)
        w.rows["providers"].append(row)


# ------------------------------------------------------------------------------------------------ writing
TEXT, TIME, DATE, NUMBER, FLAG = pa.string(), pa.timestamp("us", tz="UTC"), pa.date32(), pa.float64(), pa.bool_()
CONTEXT = [("context_campaign_name", TEXT), ("context_campaign_source", TEXT), ("context_campaign_medium", TEXT), ("context_ip", TEXT),
           ("context_user_agent", TEXT), ("context_locale", TEXT), ("context_timezone", TEXT), ("context_library_name", TEXT)]
HEAD = [("id", TEXT), ("received_at", TIME), ("uuid_ts", TIME), ("sent_at", TIME), ("original_timestamp", TIME), ("timestamp", TIME),
        ("anonymous_id", TEXT), ("user_id", TEXT)]
SCHEMAS = {
    "tracks": HEAD + [("event", TEXT), ("event_text", TEXT), ("context_page_url", TEXT), ("context_page_path", TEXT), ("context_page_referrer", TEXT)]
    + CONTEXT + [("specialty", TEXT), ("location", TEXT), ("provider_id", TEXT), ("appointment_id", TEXT), ("amount", NUMBER)],
    "pages": HEAD + [("name", TEXT), ("path", TEXT), ("referrer", TEXT), ("search", TEXT), ("title", TEXT), ("url", TEXT)] + CONTEXT,
    "identifies": HEAD + [("email", TEXT), ("phone", TEXT), ("first_name", TEXT), ("last_name", TEXT), ("birthday", DATE), ("gender", TEXT),
                          ("address_postal_code", TEXT)] + CONTEXT[3:],
    "calls": [(c, TIME if c in ("date_created", "date_updated", "start_time", "end_time", "received_at") else TEXT) for c in (
        "sid account_sid api_version caller_name date_created date_updated direction duration start_time end_time forwarded_from from to "
        "parent_call_sid phone_number_sid price status received_at").split()],
    "patients": [("mrn", TEXT), ("first_name", TEXT), ("last_name", TEXT), ("birth_date", DATE), ("gender", TEXT), ("email", TEXT),
                 ("home_phone", TEXT), ("cell_phone", TEXT), ("postal_code", TEXT), ("registered_at", TIME), ("updated_at", TIME)],
    "diagnoses": [("mrn", TEXT), ("icd10", TEXT), ("at", TIME)],
    "providers": [("provider_id", TEXT), ("name", TEXT), ("specialty", TEXT), ("postal_code", TEXT), ("accepts_new", FLAG)],
    "contacts": [("contact_id", TEXT), ("partner", TEXT), ("email", TEXT), ("phone", TEXT), ("first_name", TEXT), ("last_name", TEXT),
                 ("postal_code", TEXT), ("created_at", TIME)],
}


def month(t):
    return iso(t)[:7]


def write_parquet(path, name, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    columns = {}
    for column, kind in SCHEMAS[name]:
        values = [row.get(column) for row in rows]
        if kind == TIME:
            values = [None if v is None else v * 1000 for v in values]
            columns[column] = pa.array(values, pa.int64()).cast(pa.timestamp("us")).cast(TIME)
        else:
            columns[column] = pa.array(values, kind)
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=9, store_schema=False, version="2.6")


def write_by_month(folder, name, rows, clock):
    rows = sorted(rows, key=lambda x: (x[clock], x.get("id") or x.get("sid")))
    for m in sorted({month(x[clock]) for x in rows}):
        write_parquet(f"{folder}/{m}.parquet", name, [x for x in rows if month(x[clock]) == m])


def write_csv(path, columns, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(columns)
        out.writerows([row[c] for c in columns] for row in rows)


def write_data(w, folder):
    rows = w.rows
    # a row delivered again lies in the file of its second load
    write_by_month(f"{folder}/web/tracks", "tracks", rows["tracks"], "uuid_ts")
    write_by_month(f"{folder}/web/pages", "pages", rows["pages"], "received_at")
    write_by_month(f"{folder}/web/identifies", "identifies", rows["identifies"], "received_at")
    write_by_month(f"{folder}/twilio/calls", "calls", rows["calls"], "received_at")
    os.makedirs(f"{folder}/twilio/messages")
    messages = sorted(rows["messages"], key=lambda x: (x["date_sent"], x["sid"]))
    for m in sorted({month(x["date_sent"]) for x in messages}):
        with open(f"{folder}/twilio/messages/{m}.ndjson", "w", encoding="utf-8") as f:
            for x in messages:
                if month(x["date_sent"]) == m:
                    row = {k: iso(v, True) if k.startswith("date_") else v for k, v in x.items()}
                    f.write(json.dumps(row, separators=(",", ":")) + "\n")
    patients = sorted(rows["patients"], key=lambda x: (x["updated_at"], x["mrn"]))
    cut = AS_OF - 30 * DAY                                     # a full export, then a month of changes
    write_parquet(f"{folder}/ehr/patients/full.parquet", "patients", [x for x in patients if x["updated_at"] < cut])
    write_parquet(f"{folder}/ehr/patients/changes.parquet", "patients", [x for x in patients if x["updated_at"] >= cut])
    states = sorted(rows["appointments"], key=lambda x: (x["updated_at"], x["appointment_id"]))
    columns = ["appointment_id", "mrn", "provider_id", "specialty", "status", "appointment_at", "updated_at"]
    text = [{**x, "appointment_at": iso(x["appointment_at"]), "updated_at": iso(x["updated_at"])} for x in states]
    write_csv(f"{folder}/ehr/appointments/until-2025.csv", columns, [x for x in text if x["updated_at"] < "2026"])
    write_csv(f"{folder}/ehr/appointments/2026.csv", columns, [x for x in text if x["updated_at"] >= "2026"])
    diagnoses = sorted(rows["diagnoses"], key=lambda x: (x["at"], x["mrn"], x["icd10"]))
    write_parquet(f"{folder}/ehr/diagnoses/diagnoses.parquet", "diagnoses", diagnoses)
    write_parquet(f"{folder}/ehr/providers/providers.parquet", "providers", rows["providers"])
    contacts = sorted(rows["contacts"], key=lambda x: (x["created_at"], x["contact_id"]))
    write_parquet(f"{folder}/partners/contacts/contacts.parquet", "contacts", contacts)
    consent = sorted(rows["consent"], key=lambda x: (x["at"], x["identifier"], x["channel"]))
    write_csv(f"{folder}/crm/consent/consent.csv", ["identifier", "purpose", "channel", "decision", "at"],
              [{**x, "at": iso(x["at"])} for x in consent])


def write_truth(w, folder):
    os.makedirs(folder)
    joined = lambda values: " ".join(values)
    write_csv(f"{folder}/people.csv", ["person_id", "household", "first_name", "last_name", "birth_date", "scenario", "mrns", "user_ids",
                                       "emails", "phones", "anonymous_ids", "contact_ids"],
              [{"person_id": p.id, "household": p.household, "first_name": p.first, "last_name": p.last, "birth_date": p.birth.isoformat(),
                "scenario": p.scenario, "mrns": joined(p.mrns), "user_ids": joined(x for x in (p.user, p.second_user) if x),
                "emails": joined(p.emails), "phones": joined(x for x in (p.mobile, p.landline) if x),
                "anonymous_ids": joined(d.cookie for d in p.devices), "contact_ids": joined(p.contacts)} for p in w.people])
    key = lambda p: f"mrn:{p.mrns[0]}" if p.mrns else f"user_id:{p.user}" if p.user else f"phone:{p.mobile}"
    plan = {"as_of": iso(AS_OF), "people": len(w.people),
            "hubs": {"phone": [FRONT_DESK_PHONE, RESIDENCE_PHONE], "email": [FRONT_DESK_EMAIL], "anonymous_id": [KIOSK]},
            "scenarios": {name: {"people": s[0], "why": s[5]} for name, s in SCENARIOS.items()},
            "planned": [{"person_id": p.id, "name": f"{p.first} {p.last}", "named": p.named, "identifier": key(p),
                         "scenario": p.scenario, "why": p.why, "audiences": p.plan} for p in w.people if p.planned]}
    with open(f"{folder}/plan.json", "w", encoding="utf-8") as f:
        json.dump(plan, f, separators=(",", ":"), indent=None)
        f.write("\n")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    people = make_people()
    assign_scenarios(people)
    make_identifiers(people)
    w = World(people)
    make_providers(w)
    for p in people:
        w.patient(p)
        play(w, p) if p.planned else live(w, p)
    partner_contacts(w)
    consents(w)
    shared_tablet_and_noise(w)
    for part in ("data", "truth"):
        shutil.rmtree(f"{folder}/{part}", ignore_errors=True)
    write_data(w, f"{folder}/data")
    write_truth(w, f"{folder}/truth")
    print(json.dumps({name: len(rows) for name, rows in w.rows.items()}))


if __name__ == "__main__":
    main()
