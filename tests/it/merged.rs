//! What becomes of the key of an entity that is part of another now, where it was sent.

use crate::receiver::{Receiver, ok};
use crate::support::{Project, files};
use std::collections::BTreeSet;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables: [{name: people, path: people.csv, columns: {card: {type: TEXT}}}]
";
const PERSON: &str = "\
kind: identity
name: person
identifiers: {card: {}, email: {normalize: email}}
links:
  - {from: shop.people, ids: {card: card, email: email}}
---
kind: profile
name: person_profile
identity: person
attributes:
  name: {from: shop.people.name}
";
const PEOPLE: &str = "card,email,name\nc1,ann@x.com,Ann\nc2,anna@x.com,Anna\nc3,cid@x.com,Cid\n";
/// Ann and Anna are one.
const ONE: &str = "c1,anna@x.com,Ann\n";

fn project(mode: &str, key: &str, destination: &str) -> Project {
    let sync = format!(
        "kind: sync\nname: out\nfrom: person_profile\nto: tool\nmode: {mode}\nkey: {key}\nmax_delete: 50%\n\
         retry: {{for: 1 s}}\ncolumns: {{id: \"{key}\", name: name}}\n"
    );
    let mut project = Project::of(&[
        ("kinfold.yaml", "as_of: \"2026-03-31\"\nsecrets: {SALT: pepper}\n"),
        ("sources.yaml", SOURCES),
        ("destinations.yaml", destination),
        ("data/people.csv", PEOPLE),
        ("models/person.yaml", PERSON),
        ("models/out.yaml", &sync),
    ]);
    for proxy in ["NO_PROXY", "no_proxy"] {
        project.set(proxy, "127.0.0.1");
    }
    project
}

/// What the destination is known to have.
fn keys(project: &Project) -> BTreeSet<String> {
    let rows = project.query("SELECT key FROM kinfold.sync_out WHERE row_hash IS NOT NULL");
    rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
}

/// Makes the two one; gives the key that is lost and that which stays.
fn merge(project: &Project) -> (String, String) {
    project.kinfold(&["run", "--quiet"]).exits(0);
    let before = keys(project);
    assert_eq!(before.len(), 3);
    project.write("data/people.csv", &format!("{PEOPLE}{ONE}"));
    project.kinfold(&["run", "--quiet"]).exits(0);
    let left = project.query("SELECT person_id AS key FROM person WHERE identifier IN ('c1', 'c3')");
    let left: BTreeSet<String> = left.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect();
    let lost: Vec<&String> = before.iter().filter(|key| !left.contains(*key)).collect();
    let stays = project.query("SELECT person_id AS key FROM person WHERE identifier = 'c1'").remove(0);
    (lost[0].clone(), stays["key"].as_str().unwrap().to_owned())
}

const FILES: &str = "destinations: [{name: tool, type: files, location: out, format: csv}]\n";

#[test]
fn the_key_that_is_lost_is_deleted_in_every_mode() {
    for mode in ["upsert", "insert", "append", "mirror"] {
        let project = project(mode, "person_id", FILES);
        let (lost, stays) = merge(&project);
        assert_eq!(keys(&project).len(), 2, "{mode}");
        assert!(!keys(&project).contains(&lost) && keys(&project).contains(&stays), "{mode}");
        let sent: String = files(&project.path("out")).keys().map(|f| project.read(&format!("out/{f}"))).collect();
        let deleted: Vec<&str> = sent.lines().filter(|line| line.starts_with("delete,")).collect();
        assert!(deleted.len() == 1 && deleted[0].contains(&lost), "{mode}: {sent}");
        // once, and no more
        project.kinfold(&["run", "--quiet", "--full"]).exits(0);
        assert_eq!(project.number("SELECT sum(deleted) AS n FROM kinfold.syncs"), 1, "{mode}");
    }
}

/// A rule takes the two apart again: whoever comes back is sent anew.
#[test]
fn an_id_that_is_given_again_is_not_lost() {
    let project = project("upsert", "person_id", FILES);
    let (lost, _) = merge(&project);
    let rules = "verdict,left,right,reason,by,at\nnever,card:c1,card:c2,two people,desk,2026-03-02\n";
    project.write("models/rules.csv", rules);
    project.write("models/person.yaml", &PERSON.replace("---", "rules: models/rules.csv\n---"));
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(project.number(&format!("SELECT count(*) AS n FROM person_profile WHERE person_id = '{lost}'")), 1);
    assert!(keys(&project).contains(&lost) && keys(&project).len() == 3);
    project.kinfold(&["run", "--quiet", "--full"]).exits(0);
    assert!(keys(&project).contains(&lost) && keys(&project).len() == 3);
}

#[test]
fn a_key_that_is_made_of_the_id_is_found_and_others_are_not() {
    let hashed = project("upsert", "hmac_sha256(person_id, secret('SALT'))", FILES);
    hashed.kinfold(&["run", "--quiet"]).exits(0);
    hashed.write("data/people.csv", &format!("{PEOPLE}{ONE}"));
    hashed.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(keys(&hashed).len(), 2);
    let named = project("upsert", "concat(name, person_id)", FILES);
    named.kinfold(&["run", "--quiet"]).exits(0);
    named.write("data/people.csv", &format!("{PEOPLE}{ONE}"));
    named.kinfold(&["run", "--quiet"]).exits(0);
    assert!(keys(&named).len() >= 3, "whose a name was is not known");
}

const HTTP: &str = r#"destinations:
  - name: tool
    type: http
    url: "URL"
    body: '{"id": {{ row.id }}, "name": {{ row.name }}}'
"#;
const DELETE: &str = "    delete: {url: \"URL/{{ row.id }}\"}\n";
const ALIAS: &str = r#"    alias: {url: "URL/alias", body: '{"old": {{ row.id }}, "new": {{ row._merged_into }}}'}
"#;

#[test]
fn a_service_is_told_of_an_alias_or_a_delete_or_owes_one() {
    let requests = |parts: &[&str]| {
        let receiver = Receiver::new(|_| ok());
        let project = project("upsert", "person_id", &parts.concat().replace("URL", &receiver.url("/people")));
        let (lost, stays) = merge(&project);
        let note = project.query("SELECT note FROM kinfold.syncs ORDER BY run DESC LIMIT 1").remove(0);
        let all = receiver.requests();
        let told = all
            .iter()
            .filter(|r| r.path != "/people")
            .map(|r| format!("{} {} {}", r.method, r.path, r.body))
            .collect::<Vec<_>>();
        (lost, stays, told, note["note"].as_str().unwrap_or_default().to_owned())
    };
    let (lost, _, told, note) = requests(&[HTTP, DELETE]);
    assert_eq!((told, note), (vec![format!("DELETE /people/{lost} ")], String::new()));
    for parts in [&[HTTP, ALIAS][..], &[HTTP, DELETE, ALIAS]] {
        let (lost, stays, told, note) = requests(parts);
        let body = format!("{{\"old\": \"{lost}\", \"new\": \"{stays}\"}}");
        assert_eq!((told, note), (vec![format!("POST /people/alias {body}")], String::new()));
    }
    let (_, _, told, note) = requests(&[HTTP]);
    assert_eq!((told, note.as_str()), (Vec::new(), "owes 1 deletes, which the destination cannot do"));
}
