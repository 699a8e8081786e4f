//! Erasure, suppression and what they leave: expected rows are worked out by hand.

use crate::receiver::{Reaction, Receiver, ok};
use crate::support::{Project, files};
use serde_json::Value;
use std::collections::BTreeSet;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: people, path: people.csv, columns: {card: {type: TEXT}, phone: {type: TEXT}, email: {label: identity.email}}}
      - {name: visits, path: visits.csv, time: at, columns: {at: {type: TIMESTAMP}}}
";
/// Ann and Bob share a phone. It is Ann's, whose row comes first; `max_per_entity` keeps Bob apart.
const PERSON: &str = "\
kind: identity
name: person
identifiers:
  card: {max_per_entity: 1}
  email: {normalize: email}
  phone: {normalize: phone(US)}
  cookie: {}
links:
  - {from: shop.people, ids: {card: card, email: email, phone: phone}}
  - {from: shop.visits, ids: {cookie: cookie, email: email}}
---
kind: profile
name: person_profile
identity: person
attributes:
  name: {from: shop.people.name}
  phone: {from: shop.people.phone}
traits:
  visits: {from: shop.visits, select: count(*)}
---
kind: audience
name: everybody
profile: person_profile
where: {trait: \"name is not null\"}
";
const PEOPLE: &str = "\
card,email,phone,name
card-0001,Ann@X.com,(212) 555-0160,Ann
card-0002,bob@x.com,212-555-0160,Bob
card-0003,cid@x.com,,Cid
";
const VISITS: &str = "\
cookie,email,at
cookie-ann-1,ann@x.com,2026-03-01T00:00:00Z
cookie-ann-1,,2026-03-02T00:00:00Z
cookie-bob-1,bob@x.com,2026-03-03T00:00:00Z
";
const ANN: [&str; 5] = ["ann@x.com", "Ann@X.com", "card-0001", "cookie-ann-1", "Ann"];

fn project(sync: &str, destination: &str) -> Project {
    let mut project = Project::of(&[
        ("kinfold.yaml", "as_of: \"2026-03-31\"\npartials: true\n"),
        ("sources.yaml", SOURCES),
        ("destinations.yaml", destination),
        ("data/people.csv", PEOPLE),
        ("data/visits.csv", VISITS),
        ("models/person.yaml", PERSON),
        ("models/names.sql", "SELECT name FROM shop.people\n"),
        ("models/out.yaml", sync),
    ]);
    for proxy in ["NO_PROXY", "no_proxy"] {
        project.set(proxy, "127.0.0.1");
    }
    project
}

const FILES: &str = "destinations: [{name: tool, type: files, location: out, format: csv, allow: [pseudonym]}]\n";
const UPSERT: &str =
    "kind: sync\nname: out\nfrom: everybody\nto: tool\nmode: upsert\nkey: person_id\ncolumns: {name: name}\n";

fn names(project: &Project, table: &str) -> BTreeSet<String> {
    let rows = project.query(&format!("SELECT name FROM {table} WHERE name IS NOT NULL"));
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn id_of(project: &Project, card: &str) -> String {
    let sql = format!("SELECT person_id FROM person WHERE identifier = '{card}'");
    project.query(&sql)[0]["person_id"].as_str().unwrap().to_owned()
}

/// Tables that have one of these words in them.
fn tables_with(project: &Project, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let listed = files(&project.path("target/warehouse"));
    let tables: BTreeSet<String> =
        listed.keys().filter_map(|file| Some(file.split_once("/_delta_log")?.0.replace('/', "."))).collect();
    assert!(tables.len() > 10, "{tables:?}");
    for name in tables {
        let text = project.kinfold(&["show", &name, "--limit", "100000", "--output", "csv"]).exits(0).stdout;
        found.extend(words.iter().filter(|word| text.contains(**word)).map(|word| format!("{name}: {word}")));
    }
    found
}

#[test]
fn an_erased_person_is_in_no_table_no_version_and_no_later_run() {
    let project = project(UPSERT, FILES);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let (ann, bob) = (id_of(&project, "card-0001"), id_of(&project, "card-0002"));
    assert_ne!(ann, bob);
    assert_eq!(names(&project, "person_profile"), BTreeSet::from(["Ann", "Bob", "Cid"].map(str::to_owned)));
    // a second version with her in it
    project.write("data/visits.csv", &format!("{VISITS}cookie-ann-1,,2026-03-04T00:00:00Z\n"));
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert!(!tables_with(&project, &[&ann]).is_empty());

    let told = project.kinfold(&["forget", "email:ANN@x.com", "--reason", "request 17", "--output", "json"]).exits(0);
    let certificate: Value = serde_json::from_str(&told.stdout).unwrap();
    // card, e-mail, phone and cookie; the phone is in Bob's row, too
    let marks: Vec<&str> =
        certificate["tombstones"].as_array().unwrap().iter().map(|s| s["mark"].as_str().unwrap()).collect();
    assert_eq!((marks.len(), marks.iter().filter(|m| **m == "shared").count()), (4, 1));
    assert_eq!((&certificate["people"], &certificate["deleted"]["out"]), (&1.into(), &1.into()));
    assert!(certificate["searched_rows"].as_u64().unwrap() > 20, "{certificate}");
    for word in ANN.iter().chain([&ann.as_str(), &"+12125550160"]) {
        assert!(!told.stdout.contains(word), "the certificate names {word}");
    }

    let words: Vec<&str> = ANN.into_iter().chain([ann.as_str(), "2125550160", "555-0160"]).collect();
    assert_eq!(tables_with(&project, &words), Vec::<String>::new());
    assert_eq!(names(&project, "person_profile"), BTreeSet::from(["Bob", "Cid"].map(str::to_owned)));
    assert_eq!(id_of(&project, "card-0002"), bob, "others keep their ids");
    assert_eq!(names(&project, "names"), BTreeSet::from(["Bob", "Cid"].map(str::to_owned)), "SQL sees neither");
    // Bob's row stays without the phone
    let phones = project.query("SELECT name, phone FROM shop.people ORDER BY name");
    assert_eq!(phones.len(), 2);
    assert_eq!(phones[0].get("phone").unwrap_or(&Value::Null), &Value::Null);
    // no version before can be read, and no small object of the state has her
    for run in ["1", "2", "3", "4"] {
        project.kinfold(&["show", "person_profile", "--at-run", run]).exits(2);
    }
    let state = project.path("target/warehouse/_kinfold");
    for file in files(&state).keys() {
        let bytes = std::fs::read(state.join(file)).unwrap();
        // three letters stand in any bytes
        for word in words.iter().filter(|word| word.len() > 4) {
            let found = bytes.windows(word.len()).any(|w| w == word.as_bytes());
            assert!(!found, "{file} has {word}");
        }
    }
    // the destination was told to delete her, though it only upserts
    let sent: String = files(&project.path("out")).keys().map(|f| project.read(&format!("out/{f}"))).collect();
    assert_eq!(sent.lines().filter(|l| l.starts_with("delete,") && l.contains(&ann)).count(), 1, "{sent}");

    // what files bring of her later is not read: her own identifiers, and the phone alone
    let again = "card-0001,,,Ann\n,ann@x.com,,Ann\n,,+1 212 555 0160,Ann\ncard-0004,dan@x.com,,Dan\n";
    project.write("data/people.csv", &format!("{PEOPLE}{again}"));
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(names(&project, "person_profile"), BTreeSet::from(["Bob", "Cid", "Dan"].map(str::to_owned)));
    assert_eq!(tables_with(&project, &words), Vec::<String>::new());
    project.kinfold(&["audit", "verify"]).exits(0);
    let log = project.kinfold(&["audit", "log", "--limit", "100"]).exits(0).stdout;
    assert!(log.contains("forget") && log.contains("forgotten") && log.contains("request 17"), "{log}");
}

#[test]
fn what_a_destination_did_not_delete_is_owed_until_it_does() {
    let receiver = Receiver::new(|_| ok());
    let destination = r#"destinations:
  - name: tool
    type: http
    allow: [pseudonym]
    url: "URL"
    body: '{"name": {{ row.name }}}'
    delete: {url: "URL/{{ row.person_id }}"}
"#;
    let sync = format!("{UPSERT}retry: {{for: 1 s}}\n");
    let project = project(&sync, &destination.replace("URL", &receiver.url("/people")));
    project.kinfold(&["run", "--quiet"]).exits(0);
    let ann = id_of(&project, "card-0001");
    receiver.now(|_| Reaction::Answer(503, "", String::new()));
    let told = project.kinfold(&["forget", "email:ann@x.com", "--reason", "r"]).exits(1);
    assert!(told.stdout.contains("owed by out: 1 row"), "{told}");
    assert_eq!(names(&project, "person_profile"), BTreeSet::from(["Bob", "Cid"].map(str::to_owned)));
    // the next run deletes it, in a mode that deletes nobody else
    receiver.now(|_| ok());
    project.kinfold(&["run", "--quiet"]).exits(0);
    let paths: Vec<String> = receiver.requests().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    assert_eq!(paths, [format!("DELETE /people/{ann}")]);
    let told = project.kinfold(&["forget", "email:ann@x.com", "--reason", "r"]).exits(0);
    assert!(told.stdout.contains("certificate:"), "{told}");
    assert!(project.query("SELECT key FROM kinfold.sync_out").iter().all(|row| row["key"] != ann.as_str()));
    assert_eq!(files(&project.path("target/warehouse/_kinfold/erasures/open")).len(), 0);
}

#[test]
fn a_suppressed_person_is_not_read_until_that_is_taken_back() {
    let project = project(UPSERT, FILES);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let all = BTreeSet::from(["Ann", "Bob", "Cid"].map(str::to_owned));
    let ann = id_of(&project, "card-0001");
    let told = project.kinfold(&["suppress", "email:ann@x.com", "--reason", "objection"]).exits(0);
    assert!(told.stdout.contains("4 identifiers, 1 of which rows of others have, too; 1 person"), "{told}");
    assert_eq!(names(&project, "person_profile"), all, "tables are as the last run left them");
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(names(&project, "person_profile"), BTreeSet::from(["Bob", "Cid"].map(str::to_owned)));
    assert_eq!(names(&project, "person_profile"), names(&project, "names"));
    // history stays, and any of the identifiers takes it back
    project.kinfold(&["show", "person_profile", "--at-run", "1"]).exits(0);
    let told = project.kinfold(&["unsuppress", "card:card-0001", "--reason", "objection withdrawn"]).exits(0);
    assert!(told.stdout.contains("4 identifiers: read again"), "{told}");
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(names(&project, "person_profile"), all);
    assert_eq!(id_of(&project, "card-0001"), ann, "under the id of before");
    project.kinfold(&["unsuppress", "card:card-0001", "--reason", "again"]).exits(2);
    // what is erased cannot be taken back
    project.kinfold(&["forget", "card:card-0001", "--reason", "request"]).exits(0);
    project.kinfold(&["unsuppress", "card:card-0001", "--reason", "no"]).exits(2);
}

#[test]
fn what_older_files_gave_is_not_taken_for_a_suppressed_person() {
    let project = project(UPSERT, FILES);
    let emails = "traits:\n  emails: {from: shop.visits, select: unique_count(email)}\n";
    project.write("models/person.yaml", &PERSON.replace("traits:\n", emails));
    // a row of both, which is Ann's by her address; without that it is Bob's, whose cookie it has
    project.write("data/visits.csv", &format!("{VISITS}cookie-bob-1,ann@x.com,2026-03-04T00:00:00Z\n"));
    project.kinfold(&["run", "--quiet"]).exits(0);
    let bob = "select visits * 10 + emails as both_counts from person_profile where name = 'Bob'";
    assert_eq!(project.number(bob), 11, "one visit, one address");
    project.kinfold(&["suppress", "email:ann@x.com", "--reason", "objection"]).exits(0);
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(project.number(bob), 21, "two visits, one address: Ann's is not read");
    let taken = project.lines("select * from person_profile");
    project.kinfold(&["run", "--quiet", "--full"]).exits(0);
    assert_eq!(taken, project.lines("select * from person_profile"));
}

#[test]
fn what_cannot_be_erased_is_said_and_not_certified() {
    let project = project(UPSERT, FILES);
    // a table that no link table leads to
    project.write("data/notes.csv", "note\nann@x.com\n");
    project.write("sources.yaml", &format!("{SOURCES}      - {{name: notes, path: notes.csv}}\n"));
    project.write("models/notes.sql", "SELECT note FROM shop.notes\n");
    project.kinfold(&["run", "--quiet"]).exits(0);
    let told = project.kinfold(&["forget", "email:ann@x.com", "--reason", "r"]).exits(1);
    assert!(told.stderr.contains("1 rows of `notes`") && told.stderr.contains("nothing was certified"), "{told}");
    assert_eq!(names(&project, "person_profile"), BTreeSet::from(["Bob", "Cid"].map(str::to_owned)));
    // once it is mended, the same command finishes it
    project.write("data/notes.csv", "note\nnothing\n");
    let told = project.kinfold(&["forget", "email:ann@x.com", "--reason", "r"]).exits(0);
    assert!(told.stdout.contains("certificate:"), "{told}");
    for wrong in [&["forget", "email:nobody", "--reason", "r"][..], &["forget", "ann@x.com", "--reason", "r"]] {
        project.kinfold(wrong).exits(2);
    }
    project.kinfold(&["forget", "email:ann@x.com", "--reason", " "]).exits(2);
}

/// What a sync sends of somebody is found by the key that it was sent under, however that is made.
#[test]
fn whoever_was_sent_under_a_key_of_another_making_is_deleted_there() {
    let token = "hmac_sha256(card, secret('SALT'))";
    let hashed =
        UPSERT.replace("key: person_id\ncolumns: {", &format!("key: {token}\ncolumns: {{\n  token: \"{token}\",\n  "));
    let by_name = "kind: sync\nname: named\nfrom: cards\nto: tool\nmode: insert\nkey: lower(name)\ncolumns: {name: lower(name)}\n";
    let project = project(&format!("{hashed}---\n{by_name}"), FILES);
    let settings = "as_of: \"2026-03-31\"\nsecrets: {SALT: pepper}\n";
    project.write("kinfold.yaml", settings);
    let card = "attributes:\n  card: {from: shop.people.card}\n";
    project.write("models/person.yaml", &PERSON.replace("attributes:\n", card));
    // no column of it says whose a row is
    project.write("models/cards.sql", "SELECT name, card FROM shop.people\n");
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(project.number("SELECT count(*) AS n FROM kinfold.sync_out"), 3);

    // nothing may be erased while the keys are not known
    project.write("kinfold.yaml", "as_of: \"2026-03-31\"\n");
    project.kinfold(&["forget", "card:card-0001", "--reason", "r"]).exits(1).says(&[
        "the keys under which `out` sent them cannot be looked up",
        "SALT",
        "nothing was erased",
    ]);
    assert_eq!(names(&project, "person_profile"), BTreeSet::from(["Ann", "Bob", "Cid"].map(str::to_owned)));
    project.write("kinfold.yaml", settings);
    let told = project.kinfold(&["forget", "card:card-0001", "--reason", "r", "--output", "json"]).exits(0);
    let certificate: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(certificate["deleted"], serde_json::json!({"out": 1, "named": 1}), "{certificate}");
    assert_eq!(project.number("SELECT count(*) AS n FROM kinfold.sync_out"), 2);
    let sent: String = files(&project.path("out")).keys().map(|f| project.read(&format!("out/{f}"))).collect();
    assert_eq!(sent.lines().filter(|line| line.starts_with("delete,")).count(), 2, "{sent}");
}

#[test]
fn what_a_sync_sent_that_is_no_longer_defined_is_told() {
    let other = UPSERT
        .replace("name: out", "name: other")
        .replace("person_id\ncolumns: {name: name", "lower(name)\ncolumns: {name: lower(name)");
    let project = project(&format!("{UPSERT}---\n{other}"), FILES);
    project.kinfold(&["run", "--quiet"]).exits(0);
    project.remove("models/out.yaml");
    let told = project.kinfold(&["forget", "card:card-0001", "--reason", "r"]).exits(1);
    assert!(told.stdout.contains("owed by out: 1 row") && told.stdout.contains("not known of other:"), "{told}");
    // its definition back, it deletes her
    project.write("models/out.yaml", UPSERT);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let told = project.kinfold(&["forget", "card:card-0001", "--reason", "r"]).exits(0);
    assert!(told.stdout.contains("certificate:") && told.stdout.contains("not known of other:"), "{told}");
}

#[test]
fn copies_of_source_files_are_searched_too() {
    let project = project(UPSERT, FILES);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let folder = "target/warehouse/_kinfold/kept";
    let names: datafusion::arrow::array::ArrayRef =
        std::sync::Arc::new(datafusion::arrow::array::StringArray::from(vec!["ann@x.com"]));
    let batch = datafusion::arrow::array::RecordBatch::try_from_iter([("email", names)]).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    project.write_bytes(&format!("{folder}/copy.parquet"), &writer.into_inner().unwrap());
    let told = project.kinfold(&["forget", "card:card-0001", "--reason", "r"]).exits(1);
    assert!(told.stderr.contains("rows of `_kinfold/kept/copy.parquet`"), "{told}");
    project.remove(&format!("{folder}/copy.parquet"));
    project.kinfold(&["forget", "card:card-0001", "--reason", "r"]).exits(0);
}

#[test]
fn partial_states_are_searched_too() {
    let project = project(UPSERT, FILES);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let folder = "target/warehouse/_kinfold/partials";
    let states = project.path(folder);
    let holds_her = |file: &String| {
        let bytes = std::fs::read(states.join(file)).unwrap();
        bytes.windows(9).any(|w| w == b"ann@x.com")
    };
    let file = files(&states).into_keys().find(holds_her).expect("states by e-mail address");
    std::fs::copy(states.join(&file), states.join("copy.parquet")).unwrap();
    let told = project.kinfold(&["forget", "card:card-0001", "--reason", "r"]).exits(1);
    assert!(told.stderr.contains("rows of `_kinfold/partials/copy.parquet`"), "{told}");
    project.remove(&format!("{folder}/copy.parquet"));
    let told = project.kinfold(&["forget", "card:card-0001", "--reason", "r"]).exits(0);
    assert!(told.stdout.contains("certificate:"), "{told}");
}

#[test]
fn a_sync_leaves_out_whom_the_tables_have_and_nobody_may_read() {
    for (mode, deleted) in [("upsert", "0"), ("mirror", "1")] {
        let sync = UPSERT.replace("upsert", mode) + "max_delete: 100%\n";
        // no column of the list says whose a row is: the cells that name her do
        let list = format!(
            "{sync}---\n{}",
            sync.replace("name: out", "name: listed")
                .replace("from: everybody", "from: list")
                .replace("person_id", "card")
        );
        let project = project(&list, FILES);
        project.write("models/list.sql", "SELECT card, email, phone, name FROM shop.people\n");
        project.kinfold(&["run", "--quiet"]).exits(0);
        project.kinfold(&["suppress", "email:ann@x.com", "--reason", "objection"]).exits(0);
        // what was built before still has her, and is sent anew
        assert_eq!(names(&project, "list"), BTreeSet::from(["Ann", "Bob", "Cid"].map(str::to_owned)));
        project.kinfold(&["sync", "--full", "--quiet"]).exits(0);
        let told = "SELECT sync || ' ' || sent || ' ' || deleted || ' ' || withheld || ' ' || note AS t FROM kinfold.syncs \
                    WHERE run = (SELECT max(run) FROM kinfold.syncs) ORDER BY sync";
        let sent = 2 + deleted.parse::<u8>().unwrap();
        let line = |sync: &str| format!("{sync} {sent} {deleted} 1 suppression withholds 1: 1 suppressed");
        assert_eq!(project.lines(told), ["t".to_owned(), line("listed"), line("out")], "{mode}");
        // taken back, she is sent again without any model being built
        project.kinfold(&["unsuppress", "email:ann@x.com", "--reason", "taken back"]).exits(0);
        project.kinfold(&["sync", "--quiet"]).exits(0);
        assert_eq!(
            project.number("SELECT sum(withheld) FROM kinfold.syncs WHERE run = (SELECT max(run) FROM kinfold.syncs)"),
            0
        );
        let inserted = "SELECT sum(inserted) FROM kinfold.syncs WHERE run = (SELECT max(run) FROM kinfold.syncs)";
        assert_eq!(project.number(inserted), 2 * deleted.parse::<i64>().unwrap());
    }
}
