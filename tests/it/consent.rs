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
