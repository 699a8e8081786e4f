//! The audit log as a privacy officer meets it: what is in it, and that nobody touched it.

use crate::support::Project;
use serde_json::Value;

/// A project whose e-mail addresses have a label, with a sync that may not send them.
fn project() -> Project {
    Project::of(&[
        ("kinfold.yaml", "as_of: \"2026-03-31\"\n"),
        (
            "sources.yaml",
            "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: people, path: people.csv, columns: {email: {label: identity.email}}}\n      - {name: places, path: places.csv}\n",
        ),
        ("destinations.yaml", "destinations: [{name: lake, type: files, location: out}]\n"),
        ("data/people.csv", "email,city\nann@x.com,Rome\nbob@x.com,Oslo\n"),
        ("data/places.csv", "city\nRome\n"),
        ("models/cities.sql", "SELECT city, count(*) AS people FROM shop.people GROUP BY city\n"),
        ("models/contacts.sql", "SELECT email, city FROM shop.people\n"),
        (
            "models/out.yaml",
            "kind: sync\nname: out\nfrom: cities\nto: lake\nmode: upsert\nkey: city\ncolumns: {people: people}\n",
        ),
    ])
}

/// The log, oldest first.
fn log(project: &Project) -> Vec<Value> {
    let told = project.kinfold(&["audit", "log", "--limit", "1000", "--output", "json"]).exits(0);
    let mut entries: Vec<Value> = serde_json::from_str(&told.stdout).unwrap();
    entries.reverse();
    entries
}

fn actions(project: &Project) -> Vec<String> {
    log(project).iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn runs_syncs_and_questions_about_people_are_in_the_log() {
    let project = project();
    project.kinfold(&["run"]).exits(0);
    assert_eq!(actions(&project), ["run", "sync", "sent"]);
    // what has no label is nobody's business
    project.kinfold(&["query", "SELECT count(*) FROM shop.places"]).exits(0);
    project.kinfold(&["query", "SELECT * FROM kinfold.runs"]).exits(0);
    assert_eq!(actions(&project).len(), 3);
    project.kinfold(&["query", "SELECT city FROM contacts WHERE email = 'ann@x.com'"]).exits(0);
    project.kinfold(&["query", "SELECT * FROM shop.people", "--output", "csv"]).exits(0);
    project.kinfold(&["show", "contacts", "--limit", "1"]).exits(0);
    project.kinfold(&["vacuum", "--apply"]).exits(0);
    assert_eq!(actions(&project)[3..], ["query", "export", "query", "vacuum"]);
    let entries = log(&project);
    assert_eq!(entries[0]["facts"]["run"], 1);
    assert_eq!((&entries[2]["facts"]["sync"], &entries[2]["facts"]["acknowledged"]), (&"out".into(), &2.into()));
    let asked = &entries[3]["facts"];
    assert_eq!(asked["tables"]["contacts"], serde_json::json!(["identity.email"]));
    assert_eq!((&asked["rows"], &asked["statement"]), (&1.into(), &"SELECT city FROM contacts WHERE email = ?".into()));
    assert_eq!(entries[4]["facts"]["tables"]["shop.people"], serde_json::json!(["identity.email"]));
    assert!(!format!("{entries:?}").contains("ann@x.com"), "the log names nobody");
    let text = project.kinfold(&["audit", "log", "-n", "2"]).exits(0);
    assert!(text.stdout.contains("vacuum") && text.stdout.contains("query"), "{text}");
}

#[test]
fn a_log_that_somebody_touched_does_not_verify() {
    let project = project();
    let none = project.kinfold(&["audit", "verify"]).exits(0);
    assert!(none.stdout.contains("0 entries"), "{none}");
    project.kinfold(&["run"]).exits(0);
    let whole = project.kinfold(&["audit", "verify"]).exits(0);
    let head = whole.stdout.lines().find_map(|l| l.strip_prefix("head: ")).unwrap().to_owned();
    assert!(whole.stdout.starts_with("3 entries, none changed") && head.starts_with("3:"), "{whole}");
    project.kinfold(&["audit", "verify", "--head", &head]).exits(0);
    project.kinfold(&["audit", "verify", "--head", "3"]).exits(2);

    let entry = |number: u64| format!("target/warehouse/_kinfold/audit/{number:020}.json");
    let before = project.read(&entry(2));
    project.write(&entry(2), &before.replace("lake", "sea"));
    let told = project.kinfold(&["audit", "verify"]).exits(1);
    assert!(told.stdout.contains("entry 2 was changed"), "{told}");
    project.write(&entry(2), &before[..20]);
    let told = project.kinfold(&["audit", "verify", "--output", "json"]).exits(1);
    assert!(told.stdout.contains("entry 2 is torn"), "{told}");
    project.write(&entry(2), &before);
    project.kinfold(&["audit", "verify"]).exits(0);
    std::fs::remove_file(project.path(&entry(3))).unwrap();
    let told = project.kinfold(&["audit", "verify"]).exits(1);
    assert!(told.stdout.contains("entry 3 is missing"), "{told}");
    // even without its own head
    std::fs::remove_file(project.path("target/warehouse/_kinfold/audit/head.json")).unwrap();
    let told = project.kinfold(&["audit", "verify", "--head", &head]).exits(1);
    assert!(told.stdout.contains("entry 3 is missing") && told.stdout.contains("the head is missing"), "{told}");
}

#[test]
fn what_cannot_be_written_down_is_not_shown() {
    let project = project();
    project.kinfold(&["run"]).exits(0);
    project.write("target/warehouse/_kinfold/audit/head.json", "no head");
    let told = project.kinfold(&["query", "SELECT email FROM contacts"]).exits(1);
    assert!(!told.stdout.contains("ann@x.com") && told.stderr.contains("cannot be written down"), "{told}");
}
