//! Consent: who may be sent to, at as_of, and what is taken back. Expected rows are worked out by hand.

use crate::receiver::{Receiver, ok};
use crate::support::Project;
use std::collections::BTreeSet;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: people, path: people.csv}
      - {name: answers, path: answers.csv, columns: {at: {type: TIMESTAMP}, until: {type: TIMESTAMP}}}
";
const PERSON: &str = "\
kind: identity
name: person
identifiers: {email: {normalize: email}, phone: {}}
links:
  - {from: shop.people, ids: {email: email, phone: phone}}
  - {from: shop.answers, ids: {email: address}}
---
kind: profile
name: person_profile
identity: person
attributes: {name: {from: shop.people.name}}
";
const CONSENT: &str = "\
kind: consent
name: consent
from: shop.answers
identity: person
identifier: lower(address)
purpose: purpose
channel: channel
decision: decision
valid_from: at
valid_to: until
stale_after: 100 days
";
const PEOPLE: &str = "\
email,phone,name
ann@x.com,,Ann
bob@x.com,,Bob
cid@x.com,1,Cid
cid@y.com,1,Cid
dan@x.com,,Dan
eve@x.com,,Eve
fay@x.com,,Fay
gil@x.com,,Gil
";
/// Ann grants; Bob granted and then denied; Cid grants by one address and denies by the other; Dan's answer has ended; Eve
/// answered about something else; Fay never did; Gil's denial begins tomorrow, and his grant is for all channels.
const ANSWERS: &str = "\
address,purpose,channel,decision,at,until
ANN@x.com,marketing,email,Granted,2026-03-01T00:00:00Z,
bob@x.com,marketing,email,granted,2026-03-01T00:00:00Z,
bob@x.com,marketing,email,denied,2026-03-02T00:00:00Z,
cid@x.com,marketing,email,granted,2026-03-09T00:00:00Z,
cid@y.com,marketing,email,denied,2026-03-01T00:00:00Z,
dan@x.com,marketing,email,granted,2026-03-01T00:00:00Z,2026-03-31T00:00:00Z
eve@x.com,research,email,granted,2026-03-01T00:00:00Z,
eve@x.com,marketing,sms,granted,2026-03-01T00:00:00Z,
gil@x.com,marketing,,granted,2026-03-01T00:00:00Z,
gil@x.com,marketing,email,denied,2026-04-01T00:00:00Z,
";

fn project(mode: &str, asked: &str) -> Project {
    let sync = format!(
        "kind: sync\nname: out\nfrom: person_profile\nto: tool\nmode: {mode}\nmax_delete: 1%\nkey: person_id\n{asked}columns: {{name: name}}\n"
    );
    Project::of(&[
        ("kinfold.yaml", "as_of: \"2026-03-31\"\n"),
        ("sources.yaml", SOURCES),
        (
            "destinations.yaml",
            "destinations:\n  - {name: tool, type: files, location: out, format: csv, purposes: [marketing]}\n",
        ),
        ("data/people.csv", PEOPLE),
        ("data/answers.csv", ANSWERS),
        ("models/person.yaml", PERSON),
        ("models/consent.yaml", CONSENT),
        ("models/out.yaml", &sync),
    ])
}

const EMAIL: &str = "purpose: marketing\nchannel: email\n";

/// Names and operations of everything that was ever written to the destination.
fn sent(project: &Project) -> BTreeSet<String> {
    let sources = format!(
        "sources:\n  - name: tool\n    location: \"{}\"\n    tables: [{{name: sent, path: out/, format: csv}}]\n",
        project.path("out").display()
    );
    let rows = Project::of(&[("sources.yaml", &sources)]).query("SELECT * FROM tool.sent");
    let text = |v: Option<&serde_json::Value>| v.and_then(|v| v.as_str()).unwrap_or("").to_owned();
    rows.iter().map(|r| format!("{} {}", text(r.get("_operation")), text(r.get("name"))).trim().to_owned()).collect()
}

fn result(project: &Project, column: &str) -> String {
    project.query(&format!("SELECT {column} FROM kinfold.syncs ORDER BY run DESC LIMIT 1"))[0][column].to_string()
}

#[test]
fn only_people_who_agreed_are_sent_and_the_others_are_counted_by_reason() {
    let project = project("upsert", EMAIL);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let names: BTreeSet<String> = sent(&project).iter().map(|s| s.split(' ').next_back().unwrap().to_owned()).collect();
    assert_eq!(names, BTreeSet::from(["Ann", "Gil"].map(str::to_owned)));
    // seven people, since Cid's two rows share a phone
    assert_eq!(result(&project, "note"), "\"consent withholds 5: 2 denied, 1 expired, 2 missing\"");
    assert_eq!((result(&project, "withheld"), result(&project, "sent")), ("5".into(), "2".into()));
    // a plan says the same, and who asks nobody sends everybody
    project.kinfold(&["plan"]).exits(0);
}

#[test]
fn withdrawal_deletes_what_was_sent_whatever_the_mode_and_the_limit() {
    for mode in ["upsert", "insert", "mirror"] {
        let project = project(mode, EMAIL);
        project.kinfold(&["run", "--quiet"]).exits(0);
        assert_eq!(result(&project, "sent"), "2");
        let denied = "ann@x.com,marketing,email,denied,2026-03-30T00:00:00Z,\n";
        project.write("data/answers.csv", &format!("{ANSWERS}{denied}"));
        // half of what is there: far above `max_delete`, which is not for this
        project.kinfold(&["run", "--quiet"]).exits(0);
        assert_eq!((result(&project, "deleted"), result(&project, "withheld")), ("1".into(), "6".into()), "{mode}");
        project.kinfold(&["run", "--quiet"]).exits(0);
        assert_eq!(result(&project, "deleted"), "0", "{mode}: once is enough");
        // and somebody who agrees again is sent again
        let again = "ann@x.com,marketing,email,granted,2026-03-30T01:00:00Z,\n";
        project.write("data/answers.csv", &format!("{ANSWERS}{denied}{again}"));
        project.kinfold(&["run", "--quiet"]).exits(0);
        assert_eq!(result(&project, "inserted"), "1", "{mode}");
    }
}

#[test]
fn a_service_gets_only_people_who_agreed_and_loses_those_who_withdraw() {
    let receiver = Receiver::new(|_| ok());
    let mut project = project("upsert", EMAIL);
    for proxy in ["NO_PROXY", "no_proxy"] {
        project.set(proxy, "127.0.0.1");
    }
    let destination = r#"destinations:
  - name: tool
    type: http
    purposes: [marketing]
    url: "URL"
    body: '{"name": {{ row.name }}}'
    delete: {url: "URL/{{ row.person_id }}"}
"#;
    project.write("destinations.yaml", &destination.replace("URL", &receiver.url("/people")));
    project.kinfold(&["run", "--quiet"]).exits(0);
    let names: BTreeSet<String> =
        receiver.requests().iter().map(|r| r.json()["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, BTreeSet::from(["Ann", "Gil"].map(str::to_owned)));
    // answers are read when a sync is sent, also when no model is built
    receiver.now(|_| ok());
    let denied = "ann@x.com,marketing,email,denied,2026-03-30T00:00:00Z,\n";
    project.write("data/answers.csv", &format!("{ANSWERS}{denied}"));
    let plan = project.kinfold(&["sync", "--plan"]).exits(0);
    assert!(plan.stdout.contains("delete: 1") && plan.stdout.contains("withheld: 6"), "{plan}");
    assert!(!plan.stdout.contains("Bob") && !plan.stdout.contains("Cid"), "{plan}");
    project.kinfold(&["sync"]).exits(0);
    let methods: Vec<String> = receiver.requests().iter().map(|r| r.method.clone()).collect();
    assert_eq!(methods, ["DELETE"]);
    assert_eq!((result(&project, "deleted"), result(&project, "withheld")), ("1".into(), "6".into()));
    // neither sends again, nor all anew, whom consent holds back
    receiver.now(|_| ok());
    project.kinfold(&["sync", "--full"]).exits(0);
    let bodies: Vec<String> = receiver.requests().iter().map(|r| r.body.clone()).collect();
    assert_eq!(bodies, [r#"{"name": "Gil"}"#]);
}

#[test]
fn who_withdraws_from_an_audience_that_is_too_small_is_deleted_all_the_same() {
    for mode in ["upsert", "mirror"] {
        let project = project(mode, EMAIL);
        let named = |people: &str| {
            format!(
                "kind: audience\nname: some\nprofile: person_profile\nwhere: {{trait: \"name in ({people})\"}}\nmin_size: 3\n"
            )
        };
        project.write("models/some.yaml", &named("'Ann', 'Gil', 'Bob'"));
        let sync = std::fs::read_to_string(project.path("models/out.yaml")).unwrap();
        project.write("models/out.yaml", &sync.replace("from: person_profile", "from: some"));
        project.kinfold(&["run", "--quiet"]).exits(0);
        assert_eq!(result(&project, "sent"), "2", "{mode}");
        // two members are too few; Ann takes her consent back
        project.write("models/some.yaml", &named("'Ann', 'Gil'"));
        let denied = "ann@x.com,marketing,email,denied,2026-03-30T00:00:00Z,\n";
        project.write("data/answers.csv", &format!("{ANSWERS}{denied}"));
        project.kinfold(&["run", "--quiet"]).exits(0);
        assert_eq!((result(&project, "deleted"), result(&project, "sent")), ("1".into(), "1".into()), "{mode}");
        let note = result(&project, "note");
        assert!(note.contains("min_size is 3; consent withholds 1: 1 denied"), "{note}");
    }
}

#[test]
fn consent_that_cannot_be_told_stops_the_sync_and_deletes_nothing() {
    let project = project("mirror", EMAIL);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let before = sent(&project);
    let header = ANSWERS.lines().next().unwrap();
    let old = format!("{header}\nann@x.com,marketing,email,granted,2025-12-01T00:00:00Z,\n");
    for (answers, says) in [(format!("{header}\n"), "no answers at all"), (old, "stale_after")] {
        project.write("data/answers.csv", &answers);
        let outcome = project.kinfold(&["run"]).exits(3);
        assert!(outcome.stdout.contains(says), "{outcome}");
        assert_eq!(sent(&project), before);
    }
}

#[test]
fn what_is_asked_must_be_served_and_answered() {
    project("upsert", "purpose: research\n")
        .kinfold(&["check"])
        .exits(3)
        .says(&["K1001", "`tool` is not for the purpose"]);
    project("upsert", "").kinfold(&["check"]).exits(3).says(&["for named purposes only"]);
    project("upsert", "channel: email\n").kinfold(&["check"]).exits(2).says(&["K0115", "`channel` does nothing here"]);
    let asks = project("upsert", EMAIL);
    asks.write("models/consent.yaml", &CONSENT.replace("purpose: purpose", "purpose: purpos"));
    asks.kinfold(&["check"]).exits(2).says(&["purpos"]);
    asks.write("models/consent.yaml", &format!("{CONSENT}---\n{}", CONSENT.replace("name: consent", "name: second")));
    asks.kinfold(&["check"]).exits(2).says(&["K0114", "a project has one consent"]);
    asks.remove("models/consent.yaml");
    asks.kinfold(&["check"]).exits(2).says(&["K0204", "no model says what people agreed to"]);
}

/// Three people share an address, which is a hub; Eve's is blocked; Dan has his own. All of them agreed by what is theirs alone.
fn shared_addresses(columns: &str) -> Project {
    let sources = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: people, path: people.csv}
      - {name: answers, path: answers.csv, columns: {at: {type: TIMESTAMP}}}
";
    let person = "\
kind: identity
name: person
identifiers: {card: {}, email: {normalize: email, max_links: 2, block: [info@x.com]}}
links:
  - {from: shop.people, ids: {card: card, email: email}}
  - {from: shop.answers, ids: {card: card, email: address}}
---
kind: profile
name: person_profile
identity: person
attributes: {name: {from: shop.people.name}, mail: {from: shop.people.email, raw: true}}
---
kind: consent
name: consent
from: shop.answers
identity: person
identifier: coalesce(address, card)
purpose: purpose
decision: decision
valid_from: at
evidence: form
";
    let people = "\
card,email,name
c-1,fam@x.com,Ann
c-2,Fam@x.com ,Bob
c-3,FAM@x.com,Cid
c-4,dan@x.com,Dan
c-5,info@x.com,Eve
";
    let sync = format!(
        "kind: sync\nname: out\nfrom: person_profile\nto: tool\nmode: upsert\nkey: person_id\npurpose: marketing\ncolumns: {columns}\n"
    );
    Project::of(&[
        ("kinfold.yaml", "as_of: \"2026-03-31\"\n"),
        ("sources.yaml", sources),
        ("destinations.yaml", "destinations: [{name: tool, type: files, location: out, format: csv}]\n"),
        ("data/people.csv", people),
        ("data/answers.csv", AGREED),
        ("models/person.yaml", person),
        ("models/out.yaml", &sync),
    ])
}

const AGREED: &str = "\
card,address,purpose,decision,at,form
c-1,,marketing,granted,2026-03-01T00:00:00Z,form-1
c-2,,marketing,granted,2026-03-01T00:00:00Z,form-2
c-3,,marketing,granted,2026-03-01T00:00:00Z,form-3
c-4,,marketing,granted,2026-03-01T00:00:00Z,form-4
c-5,,marketing,granted,2026-03-01T00:00:00Z,form-5
";
/// Said by nobody in particular: the rows have an address and no card.
const DENIED_ADDRESSES: &str = "\
,fam@X.com,marketing,denied,2026-03-02T00:00:00Z,form-9
,info@x.com,marketing,denied,2026-03-02T00:00:00Z,form-10
,dan@x.com,research,denied,2026-03-02T00:00:00Z,form-11
";

#[test]
fn an_address_that_is_denied_is_not_sent_to_though_it_is_a_hub_or_blocked() {
    // what is sent is a hash of the address, which is the address all the same
    let project = shared_addresses("{name: name, mail: sha256(mail)}");
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(project.lines("SELECT identifier FROM person_hubs"), ["identifier", "fam@x.com"]);
    assert_eq!(result(&project, "sent"), "5");
    project.write("data/answers.csv", &format!("{AGREED}{DENIED_ADDRESSES}"));
    let plan = project.kinfold(&["sync", "--plan"]).exits(0);
    assert!(plan.stdout.contains("consent withholds 4: 4 address denied"), "{plan}");
    project.kinfold(&["sync", "--quiet"]).exits(0);
    assert_eq!(result(&project, "note"), "\"consent withholds 4: 4 address denied\"");
    // it is withdrawn, which `max_delete` does not stop
    assert_eq!((result(&project, "deleted"), result(&project, "unchanged")), ("4".into(), "1".into()));
    // a later answer about the address counts, in the spelling of the first
    let again = ",fam@X.com,marketing,granted,2026-03-03T00:00:00Z,form-12\n";
    project.write("data/answers.csv", &format!("{AGREED}{DENIED_ADDRESSES}{again}"));
    project.kinfold(&["sync", "--quiet"]).exits(0);
    assert_eq!((result(&project, "inserted"), result(&project, "withheld")), ("3".into(), "1".into()));
}

#[test]
fn an_address_that_is_not_sent_forbids_nothing() {
    let project = shared_addresses("{name: name}");
    project.write("data/answers.csv", &format!("{AGREED}{DENIED_ADDRESSES}"));
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!((result(&project, "sent"), result(&project, "note")), ("5".into(), "null".into()));
}

/// What `explain consent` says of somebody.
fn explained(project: &Project, who: &str) -> serde_json::Value {
    let outcome = project.kinfold(&["explain", "consent", "out", who, "--output", "json"]).exits(0);
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn the_answer_that_decides_is_told_with_its_evidence() {
    let project = shared_addresses("{name: name, mail: mail}");
    project.write("data/answers.csv", &format!("{AGREED}{DENIED_ADDRESSES}"));
    project.kinfold(&["run", "--quiet"]).exits(0);
    let explain = |who: &str| explained(&project, who);
    let dan = explain("card:c-4");
    let answer = serde_json::json!({
        "table": "shop.answers", "about": "c-4", "decision": "granted", "means": "granted", "channel": null,
        "valid_from": "2026-03-01T00:00:00Z", "valid_to": null, "evidence": "form-4",
    });
    assert_eq!((&dan["agreed"], &dan["decided_by"]), (&serde_json::json!(true), &answer), "{dan:#}");
    assert_eq!(dan["rows"][0]["held"], serde_json::Value::Null, "{dan:#}");
    // Ann agreed, and her address is denied by what belongs to nobody
    let ann = explain("card:c-1");
    assert_eq!((&ann["agreed"], &ann["decided_by"]["evidence"]), (&true.into(), &"form-1".into()), "{ann:#}");
    assert_eq!(ann["rows"][0]["held"], "address denied", "{ann:#}");
    assert_eq!(ann["rows"][0]["denied_addresses"][0]["evidence"], "form-9", "{ann:#}");
    let family = explain("email:FAM@x.com");
    assert_eq!((&family["entity_id"], &family["agreed"]), (&serde_json::Value::Null, &false.into()), "{family:#}");
    assert_eq!(family["about_address"][0]["evidence"], "form-9", "{family:#}");
    let text = project.kinfold(&["explain", "consent", "out", "card:c-1"]).exits(0).stdout;
    let decided = "decided by shop.answers: `granted` about c-1 (granted), for all channels, since 2026-03-01 00:00:00 UTC, without end; evidence: form-1";
    assert!(text.contains(decided) && text.contains("is not sent: address denied"), "{text}");
    assert!(text.contains("`denied` about fam@X.com (denied)") && text.contains("evidence: form-9"), "{text}");
    project.kinfold(&["explain", "consent", "ouu", "card:c-1"]).exits(2).says(&["did you mean `out`?"]);
    let sync = project.read("models/out.yaml");
    project.write("models/out.yaml", &sync.replace("purpose: marketing\n", ""));
    project.kinfold(&["explain", "consent", "out", "card:c-1"]).exits(2).says(&["asks nobody"]);
}

#[test]
fn of_several_answers_the_one_that_decides_is_named_first() {
    let project = project("upsert", EMAIL);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let decided = |who: &str| {
        let told = explained(&project, who);
        let first = &told["decided_by"];
        (
            told["held"].clone(),
            first["about"].clone(),
            first["means"].clone(),
            told["answers"].as_array().unwrap().len(),
        )
    };
    let of = |held: &str, about: &str, means: &str, answers: usize| (held.into(), about.into(), means.into(), answers);
    // his grant is later, and about another address
    assert_eq!(decided("email:cid@x.com"), of("denied", "cid@y.com", "denied", 2));
    assert_eq!(decided("email:bob@x.com"), of("denied", "bob@x.com", "denied", 1));
    assert_eq!(decided("email:dan@x.com"), of("expired", "dan@x.com", "expired", 1));
    let (held, about, ..) = decided("email:fay@x.com");
    assert_eq!((held, about), ("missing".into(), serde_json::Value::Null));
}
