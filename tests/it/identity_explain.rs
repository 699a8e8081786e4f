//! `kinfold explain identity`: chains of evidence, what keeps two apart, and what an entity is made of.

use crate::support::{Outcome, Project, clinic, files};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::OnceLock;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - name: rows
        path: rows.csv
        format: csv
        time: at
        row_id: id
        columns: {at: {type: TIMESTAMP}}
";

const PERSON: &str = "\
kind: identity
name: person
identifiers:
  account: {max_per_entity: 1}
  email: {normalize: email, block: [nobody@x.com, '/^test@/']}
  phone: {max_links: 3}
  cookie: {}
links:
  - {from: shop.rows, ids: {account: account, email: email, phone: phone, cookie: cookie}}
rules: models/rules.csv
";

const HOUSEHOLD: &str = "\
kind: identity
name: household
identifiers: {address: {}, email: {normalize: email}}
links:
  - {from: shop.rows, ids: {address: address, email: email}}
";

const RULES: &str = "\
verdict,left,right,reason,by,at
never,email:n1@x.com,email:n2@x.com,two sisters,front desk,2026-03-20
always,email:al1@x.com,email:al2@x.com,married,records office,2026-03-21
always,phone:desk,email:al1@x.com,a mistake,front desk,2026-03-22
";

/// What each block of rows is for stands above the test that reads it.
const ROWS: &str = "\
id,account,email,phone,cookie,address,at
r1,,ANN@x.com,,c1,,2026-03-01
r2,,ann@x.com,p1,,1 Main St,2026-03-02
r3,a1,,p1,,,2026-03-03
r20,,t1@x.com,,tie,,2026-03-05
r21,,,p8,tie,,2026-03-04
r22,a8,t1@x.com,,,,2026-03-06
r23,a8,,p8,,,2026-03-07
r30,,h1@x.com,desk,,,2026-03-11
r31,,h2@x.com,desk,,,2026-03-12
r32,,h3@x.com,desk,,,2026-03-13
r33,,h4@x.com,desk,,,2026-03-14
r40,a2,ref@x.com,,,,2026-03-08
r41,a3,ref@x.com,,,,2026-03-09
r50,,n1@x.com,,nc,,2026-03-10
r51,,n2@x.com,,nc,,2026-03-11
r60,,al1@x.com,,,,2026-03-01
r61,,al2@x.com,,alc,,2026-03-02
r70,,nobody@x.com,,b1,,2026-03-01
r80,,,,lonely,,
";

fn project() -> Project {
    Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
        ("sources.yaml", SOURCES),
        ("models/person.yaml", PERSON),
        ("models/household.yaml", HOUSEHOLD),
        ("models/rules.csv", RULES),
        ("data/rows.csv", ROWS),
    ])
}

/// The project after a run, for tests that only read it.
fn shop() -> &'static Project {
    static SHOP: OnceLock<Project> = OnceLock::new();
    SHOP.get_or_init(|| {
        let project = project();
        project.kinfold(&["run"]).exits(0);
        project
    })
}

fn explain(arguments: &[&str]) -> Outcome {
    let all: Vec<&str> = ["explain", "identity"].iter().chain(arguments).copied().collect();
    shop().kinfold(&all)
}

/// What is said of two identifiers of `person`.
fn told(left: &str, right: &str) -> String {
    explain(&[left, right, "--identity", "person"]).exits(0).stdout
}

fn as_json(arguments: &[&str]) -> Value {
    let all: Vec<&str> = arguments.iter().chain(&["--output", "json", "--identity", "person"]).copied().collect();
    serde_json::from_str(&explain(&all).exits(0).stdout).unwrap()
}

/// The id of an identifier's person.
fn id(identifier: &str) -> String {
    let sql = format!("SELECT person_id FROM person WHERE identifier = '{identifier}'");
    shop().query(&sql)[0]["person_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_chain_of_three_links_names_the_rows() {
    let expected = format!(
        "cookie:c1 and account:a1 are one person: {}

the shortest chain has 3 links:
     cookie:c1
  1  email:ann@x.com  shop.rows, row r1, 2026-03-01 00:00:00 UTC
  2  phone:p1         shop.rows, row r2, 2026-03-02 00:00:00 UTC
  3  account:a1       shop.rows, row r3, 2026-03-03 00:00:00 UTC
",
        id("a1")
    );
    assert_eq!(explain(&["cookie:c1", "account:a1"]).exits(0).stdout, expected);
    assert_eq!(explain(&["  cookie:c1", "account:a1"]).exits(0).stdout, expected);
}

#[test]
fn values_are_normalised_as_the_identity_does() {
    let text = told("email: Ann@X.com ", "cookie:c1");
    assert!(text.starts_with("email:ann@x.com and cookie:c1 are one person"), "{text}");
    assert!(told("email:ANN@x.com", "email:ann@x.com").contains("the two are the same identifier"));
}

/// From the account, the stronger end, the e-mail was linked a day before the phone.
#[test]
fn of_two_chains_of_one_length_the_earlier_from_the_stronger_end_is_taken() {
    let rows = |answer: &Value| -> Vec<String> {
        let chain = answer["chain"].as_array().unwrap();
        chain.iter().map(|link| link["row_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(rows(&as_json(&["cookie:tie", "account:a8"])), ["r20", "r22"]);
    assert_eq!(rows(&as_json(&["account:a8", "cookie:tie"])), ["r22", "r20"]);
}

#[test]
fn a_hub_links_nobody() {
    let expected = format!(
        "email:h1@x.com and email:h2@x.com are not one person
  email:h1@x.com is of person {one}
  email:h2@x.com is of person {other}

the nearest they come is a chain of 2 links, 2 of which do not count:
     email:h1@x.com  {}
  1  phone:desk      hub       shop.rows, row r30, 2026-03-11 00:00:00 UTC
     does not count: hub
  2  email:h2@x.com  {}  shop.rows, row r31, 2026-03-12 00:00:00 UTC
     does not count: hub

hubs
  phone:desk  4 neighbours, the limit is 3
",
        &id("h1@x.com")[..8],
        &id("h2@x.com")[..8],
        one = id("h1@x.com"),
        other = id("h2@x.com"),
    );
    assert_eq!(told("email:h1@x.com", "email:h2@x.com"), expected);
    let text = told("phone:desk", "email:h1@x.com");
    let line = "phone:desk is a hub (4 neighbours, the limit is 3): it links nobody and belongs to nobody";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("the nearest they come is a link that does not count:\n"), "{text}");
    assert_eq!(explain(&["phone:desk"]).exits(0).stdout, format!("{line}\n"));
}

#[test]
fn a_refused_link_names_the_limit() {
    let text = told("account:a2", "account:a3");
    assert!(text.starts_with("account:a2 and account:a3 are not one person\n"), "{text}");
    assert!(text.contains("a chain of 2 links, one of which does not count:\n"), "{text}");
    let link = format!("  2  account:a3       {}  shop.rows, row r41, 2026-03-09 00:00:00 UTC\n", &id("a3")[..8]);
    let reason = "     does not count: max_per_entity: account would be 1 + 1, the limit is 1\n";
    assert!(text.contains(&format!("{link}{reason}")), "{text}");
}

#[test]
fn a_never_rule_names_who_said_so() {
    let answer = as_json(&["email:n1@x.com", "email:n2@x.com"]);
    assert_eq!(answer["one"], false);
    let links: Vec<_> = answer["chain"].as_array().unwrap().iter().map(|l| (&l["row_id"], &l["reason"])).collect();
    let reason = json!("never rule by front desk: two sisters");
    assert_eq!(links, [(&json!("r50"), &Value::Null), (&json!("r51"), &reason)]);
}

#[test]
fn an_always_rule_is_a_link_without_a_row() {
    let expected = format!(
        "email:al1@x.com and cookie:alc are one person: {}

the shortest chain has 2 links:
     email:al1@x.com
  1  email:al2@x.com  always rule by records office: married, 2026-03-21
  2  cookie:alc       shop.rows, row r61, 2026-03-02 00:00:00 UTC
",
        id("alc")
    );
    assert_eq!(told("email:al1@x.com", "cookie:alc"), expected);
    let text = told("email:al1@x.com", "phone:desk");
    assert!(text.contains("always rule by front desk: a mistake, 2026-03-22\n     does not count: hub\n"), "{text}");
}

#[test]
fn rules_that_changed_since_the_run_are_told_apart() {
    let project = project();
    project.kinfold(&["run"]).exits(0);
    let with = |rule: &str| project.write("models/rules.csv", &format!("{RULES}{rule}\n"));
    let pair = |left: &str, right: &str| {
        project.kinfold(&["explain", "identity", left, right, "--identity", "person"]).exits(0).stdout
    };
    with("always,account:a2,account:a3,one after all,desk,2026-03-30");
    let text = pair("account:a2", "account:a3");
    assert!(text.contains("are not one person") && text.contains("the last run did not have this rule yet"), "{text}");
    with("never,email:AL1@x.com,cookie:alc,two women,desk,2026-03-30");
    let text = pair("email:al1@x.com", "cookie:alc");
    assert!(text.contains("are one person"), "{text}");
    assert!(
        text.contains("did not have this never rule by desk: two women: `kinfold run` parts this person"),
        "{text}"
    );
    project.write("models/rules.csv", "verdict,left,right,reason,by,at\n");
    let text = pair("email:al1@x.com", "email:al2@x.com");
    assert!(text.contains("are one person"), "{text}");
    assert!(text.contains("what joined them in the last run is not defined any more"), "{text}");
}

#[test]
fn what_is_no_identifier_of_anybody_says_why() {
    let text = told("email:TEST@x.com", "email:nobody@x.com");
    assert!(text.contains("email:test@x.com is blocked by `/^test@/`: it never identifies anyone\n"), "{text}");
    assert!(text.contains("email:nobody@x.com is blocked by `nobody@x.com`"), "{text}");
    let text = told("email:nobody", "email:ann@x.co");
    assert!(text.contains("email:nobody is no identifier: an e-mail address was expected\n"), "{text}");
    assert!(text.contains("email:ann@x.co was never seen; spelled nearly like it: email:ann@x.com\n"), "{text}");
    assert!(!text.contains("chain"), "there is nothing to search from: {text}");
    assert_eq!(explain(&["cookie:of nobody"]).exits(0).stdout, "cookie:of nobody was never seen\n");
    let text = told("cookie:lonely", "cookie:c1");
    assert!(text.contains("no chain of links leads from one to the other"), "{text}");
}

#[test]
fn the_identity_is_that_which_has_the_types() {
    let ambiguous = explain(&["email:ann@x.com"]).exits(2).without_data();
    ambiguous.says(&["the identities household and person", "--identity household"]);
    let text = explain(&["address:1 Main St", "email:ann@x.com"]).exits(0).stdout;
    assert!(text.contains("are one household") && text.contains("shop.rows, row r2"), "{text}");
    explain(&["address:1 Main St", "cookie:c1"]).exits(2).says(&["no identity has both"]);
    explain(&["emial:ann@x.com"])
        .exits(2)
        .says(&["neither an identifier type nor an identity", "did you mean `email`?"]);
    explain(&["cookie:c1", "--identity", "persn"]).exits(2).says(&["no identity `persn`", "did you mean `person`?"]);
    explain(&["ann@x.com"]).exits(2).says(&["`ann@x.com` is no identifier", "type:value"]);
}

#[test]
fn an_entity_is_told_with_its_links_and_what_does_not_count() {
    let (own, other) = (id("a2"), id("a3"));
    let expected = format!(
        "person {own}: 2 identifiers, 1 link

identifiers
  account  a2         2026-03-08 00:00:00 UTC
  email    ref@x.com  2026-03-08 00:00:00 UTC to 2026-03-09 00:00:00 UTC

links, earliest first
  account:a2  email:ref@x.com  shop.rows, row r40, 2026-03-08 00:00:00 UTC

links that do not count
  account:a3 ({})  email:ref@x.com  shop.rows, row r41, 2026-03-09 00:00:00 UTC  \
max_per_entity: account would be 1 + 1, the limit is 1
",
        &other[..8]
    );
    assert_eq!(explain(&["account:a2"]).exits(0).stdout, expected);
    for whole_or_part in [own.as_str(), &own[..8], &own[..20], &own.to_uppercase()[..9]] {
        assert_eq!(explain(&[&format!("person:{whole_or_part}")]).exits(0).stdout, expected);
    }
    explain(&[&format!("person:{}", &own[..7])]).exits(2).says(&["is no entity", "at least its first 8"]);
    explain(&["person:0123456789"]).exits(2).says(&["no entity of `person`"]);
    let text = explain(&[&format!("person:{own}"), &format!("person:{other}")]).exits(0).stdout;
    assert!(text.contains("the nearest they come is a link that does not count:\n     email:ref@x.com"), "{text}");
}

#[test]
fn an_entity_is_drawn() {
    let (own, other) = (id("a2"), id("a3"));
    let expected = format!(
        "flowchart LR
  n0[\"account:a2\"]
  n1[\"email:ref@x.com\"]
  n2([\"account:a3<br/>{}\"])
  n0 -- \"shop.rows r40\" --- n1
  n2 -. \"max_per_entity: account would be 1 + 1, the limit is 1\" .- n1
",
        &other[..8]
    );
    assert_eq!(explain(&[&format!("person:{own}"), "--output", "mermaid"]).exits(0).stdout, expected);
    let drawn = explain(&["email:h1@x.com", "--identity", "person", "--output", "mermaid"]).exits(0).stdout;
    assert!(drawn.contains("{{\"phone:desk<br/>hub\"}}") && drawn.contains("-. \"hub\" .-"), "{drawn}");
    let pair = explain(&["email:al1@x.com", "cookie:alc", "--output", "mermaid"]).exits(0).stdout;
    assert!(pair.contains("n0 == \"always rule by records office\" === n1\n"), "{pair}");
}

#[test]
fn json_has_everything_that_the_text_says() {
    let answer = as_json(&["account:a2"]);
    assert_eq!((&answer["identity"], &answer["entity_id"]), (&json!("person"), &json!(id("a2"))));
    let email = &answer["identifiers"][1];
    assert_eq!((&email["type"], &email["first_seen"]), (&json!("email"), &json!("2026-03-08T00:00:00Z")));
    assert_eq!((answer["links"].as_array().unwrap().len(), answer["refused"].as_array().unwrap().len()), (1, 1));
    assert_eq!(answer["refused"][0]["left"]["entity_id"], json!(id("a3")));
    let pair = as_json(&["email:AL1@x.com", "phone:desk"]);
    assert_eq!((&pair["one"], &pair["asked"][0]["given"]), (&json!(false), &json!("email:AL1@x.com")));
    assert_eq!((&pair["asked"][1]["standing"], &pair["hubs"][0]["max_links"]), (&json!("hub"), &json!(3)));
    assert_eq!(pair["chain"][0]["always"]["by"], json!("front desk"));
    let nobody = as_json(&["email:ann@x.co", "email:nobody"]);
    let standings: Vec<&Value> = nobody["asked"].as_array().unwrap().iter().map(|a| &a["standing"]).collect();
    assert_eq!(standings, [&json!("unknown"), &json!("malformed")]);
    assert_eq!((&nobody["chain"], &nobody["asked"][0]["near"]), (&Value::Null, &json!(["email:ann@x.com"])));
}

#[test]
fn nothing_is_built_or_written_and_a_run_is_needed_first() {
    let project = project();
    let before: BTreeSet<String> = files(&project.path("")).into_keys().collect();
    let says = ["has not been built yet", "kinfold run"];
    project.kinfold(&["explain", "identity", "cookie:c1"]).exits(2).without_data().says(&says);
    assert_eq!(files(&project.path("")).into_keys().collect::<BTreeSet<_>>(), before);
    let before = files(&shop().path(""));
    told("cookie:c1", "account:a1");
    assert_eq!(files(&shop().path("")), before);
}

#[test]
fn codes_and_topics_stand_side_by_side() {
    let project = Project::of(&[]);
    assert!(project.kinfold(&["explain", "K0102"]).exits(0).stdout.starts_with("K0102: "));
    project.kinfold(&["explain", "identity"]).exits(2).without_data();
    project.kinfold(&["explain", "identity", "a:1", "b:2", "c:3"]).exits(2).without_data();
    project.kinfold(&["explain", "K0102", "identity", "a:1"]).exits(2).without_data();
    project.kinfold(&["explain", "--output", "json", "identity", "a:1"]).exits(2).says(&["--output json"]);
    let folder = shop().path("").to_string_lossy().into_owned();
    for arguments in [
        ["--project", &folder, "explain", "identity", "cookie:c1"],
        ["explain", "--project", &folder, "identity", "cookie:c1"],
        ["explain", "identity", "cookie:c1", "--project", &folder],
    ] {
        assert!(project.kinfold(&arguments).exits(0).stdout.contains("email    ann@x.com"));
    }
}

/// Elena Schmidt was entered twice in the health record (`truth/people.csv`); her e-mail stands in both.
#[test]
fn in_the_demo_two_records_of_one_woman_stay_two_and_a_login_joins_the_web_with_the_record() {
    let explain = |left: &str, right: &str| clinic().kinfold(&["explain", "identity", left, right]).exits(0).stdout;
    let text = explain("mrn:MRN100035", "mrn:MRN100038");
    assert!(text.starts_with("mrn:MRN100035 and mrn:MRN100038 are not one patient\n"), "{text}");
    assert!(text.contains("     does not count: max_per_entity: mrn would be 1 + 1, the limit is 1\n"), "{text}");
    let text = explain("email:ANN.WEAVER@MAIL.EXAMPLE ", "phone:(212) 555-0160");
    assert!(text.starts_with("email:ann.weaver@mail.example and phone:+12125550160 are one patient: "), "{text}");
    assert!(text.contains("  1  phone:+12125550160             ehr.patients, row MRN101078, "), "{text}");
    let text = explain("mrn:MRN101078", "anonymous_id:3309bac2-9f4c-42ef-827d-d58e986ff895");
    assert!(text.contains("the shortest chain has 2 links:\n") && text.contains("web.identifies, row "), "{text}");
    let text = explain("email:frontdesk@sunshine-health.example", "phone:+16175550100");
    assert!(text.contains("neighbours of type mrn, the limit is 2): it links nobody"), "{text}");
}
