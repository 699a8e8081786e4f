//! Labels, policies and the functions that lower labels.

use crate::receiver::{Receiver, ok};
use crate::support::{Project, Row};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// A clinic as small as can be. Expected labels below are worked out by hand from the rules in docs/privacy.md.
const SOURCES: &str = "\
sources:
  - name: web
    location: data
    tables:
      - name: visits
        path: visits.csv
        time: at
        columns:
          cookie: {label: identity.device}
          email: {label: identity.email}
          page: {label: behavior}
          at: {type: TIMESTAMP}
  - name: ehr
    location: data
    labels: required
    tables:
      - name: patients
        path: patients.csv
        row_id: mrn
        label: phi.care
        select: {where: consent_form <> 'no'}
        columns:
          mrn: {label: phi.mrn}
          email: {label: identity.email}
          name: {label: phi.name}
          born: {label: phi.date, type: DATE}
          zip: {label: phi.geo}
          icd10: {label: phi.diagnosis}
          room: {label: none}
          consent_form: {label: sensitive.form}
";
const VISITS: &str = "\
cookie,email,page,at
c1,ann@example.com,oncology,2026-03-01T08:00:00Z
c2,bob@example.com,home,2026-03-02T08:00:00Z
";
const PATIENTS: &str = "\
mrn,email,name,born,zip,icd10,room,consent_form,note
m1,ann@example.com,Ann Lee,1936-03-31,94110,C50,12,yes,n1
m2,bob@example.com,Bob Ray,2016-04-01,03601,J45,14,yes,n2
";
const PERSON: &str = "\
kind: identity
name: person
identifiers: {mrn: {}, email: {normalize: email}, cookie: {}}
links:
  - {from: web.visits, ids: {email: email, cookie: cookie}}
  - {from: ehr.patients, ids: {mrn: mrn, email: email}}
";
const PROFILE: &str = "\
kind: profile
name: person_profile
identity: person
attributes:
  email: {from: [web.visits.email, ehr.patients.email]}
  name: {from: ehr.patients.name}
  born: {from: ehr.patients.born}
  zip: {from: ehr.patients.zip}
  room: {from: ehr.patients.room}
traits:
  visits: {from: web.visits, select: count(*), where: page = 'oncology'}
  codes: {from: ehr.patients, select: unique_count(icd10)}
  score: {select: visits + 1, label: sensitive.score}
";
const AUDIENCE: &str = "\
kind: audience
name: worried
profile: person_profile
where: {all: [{event: web.visits, column: page, is: oncology}, {trait: codes > 0}]}
";
const OUT: &str = "kind: sync\nname: out\nfrom: worried\nto: tool\nmode: mirror\nkey: person_id\ncolumns:\n";
const SETTINGS: &str = "as_of: \"2026-03-31\"\nsecrets: {KEY: \"${KEY:-k}\"}\n";

/// The project with a destination's policy and a sync's columns.
fn care(policy: &str, columns: &[&str]) -> Project {
    let columns = columns.iter().map(|c| format!("  {c}")).collect::<Vec<_>>().join("\n");
    Project::of(&[
        ("kinfold.yaml", SETTINGS),
        ("sources.yaml", SOURCES),
        (
            "destinations.yaml",
            &format!("destinations:\n  - {{name: tool, type: files, location: out, format: csv{policy}}}\n"),
        ),
        ("data/visits.csv", VISITS),
        ("data/patients.csv", PATIENTS),
        ("models/person.yaml", PERSON),
        ("models/person_profile.yaml", PROFILE),
        ("models/worried.yaml", AUDIENCE),
        ("models/out.yaml", &format!("{OUT}{columns}\n")),
    ])
}

const EVERYTHING: &str = ", baa: true, allow: [identity, phi, behavior, sensitive, pseudonym, coarse, derived]";

type Map = BTreeMap<String, (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>)>;

/// By table: the labels of its rows, and those of its columns.
fn labels(project: &Project) -> Map {
    let outcome = project.kinfold(&["labels", "--output", "json"]).exits(0);
    let tables: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let texts = |v: &Value| v.as_array().unwrap().iter().map(|l| l.as_str().unwrap().to_owned()).collect();
    let column = |c: &Value| (c["name"].as_str().unwrap().to_owned(), texts(&c["labels"]));
    let table = |t: &Value| (texts(&t["rows"]), t["columns"].as_array().unwrap().iter().map(column).collect());
    tables.iter().map(|t| (t["table"].as_str().unwrap().to_owned(), table(t))).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn labels_follow_the_data_through_every_kind_of_model() {
    let project = care(EVERYTHING, &["id: person_id"]);
    project.write(
        "models/by_code.sql",
        "SELECT icd10, count(*) AS n, min(born) AS eldest FROM ehr.patients WHERE room > '1' GROUP BY icd10\n",
    );
    project.write("models/by_code.yaml", "label: sensitive.list\ncolumns: {n: {label: sensitive.small}}\n");
    project.write(
        "models/seen.sql",
        "SELECT name, concat(name, zip) AS both FROM person_profile JOIN worried USING (person_id)\n",
    );
    let all = labels(&project);
    let column = |table: &str, column: &str| all[table].1[column].clone();
    // the source says it of the table, and of what selects its rows
    assert_eq!(all["ehr.patients"].0, set(&["phi.care", "derived.sensitive.form"]));
    assert_eq!(column("ehr.patients", "room"), set(&[]));
    assert_eq!(column("ehr.patients", "note"), set(&["unlabelled"]));
    // who is who tells nothing but who is meant; identifiers are themselves
    assert_eq!(all["person"].0, set(&[]));
    assert_eq!(column("person", "person_id"), set(&["pseudonym"]));
    assert_eq!(column("person", "identifier"), set(&["identity.device", "identity.email", "phi.mrn"]));
    // an attribute is what it is taken from, and there is one because a row is there
    assert_eq!(
        column("person_profile", "email"),
        set(&["identity.email", "derived.phi.care", "derived.sensitive.form"])
    );
    assert_eq!(column("person_profile", "zip"), set(&["phi.geo", "derived.phi.care", "derived.sensitive.form"]));
    assert_eq!(column("person_profile", "visits"), set(&["derived.behavior"]));
    assert_eq!(
        column("person_profile", "codes"),
        set(&["phi.diagnosis", "derived.phi.care", "derived.sensitive.form"])
    );
    assert_eq!(column("person_profile", "score"), set(&["sensitive.score", "derived.behavior"]));
    // a member is one because of all that the conditions read
    let member = ["derived.behavior", "derived.phi.care", "derived.phi.diagnosis", "derived.sensitive.form"];
    assert_eq!(all["worried"].0, set(&member));
    assert_eq!(all["out"].0, set(&member));
    assert_eq!(column("out", "id"), set(&["pseudonym"]));
    // SQL: grouping decides rows, room has no label, and what the model says itself is added
    assert_eq!(
        all["by_code"].0,
        set(&["sensitive.list", "derived.phi.care", "derived.phi.diagnosis", "derived.sensitive.form"])
    );
    assert_eq!(column("by_code", "icd10"), set(&["phi.diagnosis"]));
    assert_eq!(column("by_code", "n"), set(&["sensitive.small"]));
    assert_eq!(column("by_code", "eldest"), set(&["phi.date"]));
    let both = column("seen", "both");
    assert!(both.contains("phi.name") && both.contains("phi.geo"), "{both:?}");
    assert!(all["seen"].0.is_superset(&set(&member)), "{:?}", all["seen"]);
    // the table of columns has those of the rows as well
    project.kinfold(&["run", "--quiet"]).exits(0);
    let sql = "SELECT labels FROM kinfold.columns WHERE model = 'by_code' AND column_name = 'eldest'";
    let expected = "derived.phi.care, derived.phi.diagnosis, derived.sensitive.form, phi.date, sensitive.list";
    assert_eq!(project.query(sql)[0]["labels"], expected);
}

/// The labels that `check` refuses, by the column at the destination (`*` for its rows).
fn refused(project: &Project, code: i32) -> BTreeSet<(String, String)> {
    let outcome = project.kinfold(&["check", "--output", "json"]).exits(code);
    let findings: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let said = findings.iter().filter(|f| f["code"].as_str().unwrap().starts_with("K10"));
    said.map(|f| {
        let ticks: Vec<&str> = f["message"].as_str().unwrap().split('`').collect();
        match ticks[0] {
            "" => (ticks[1].to_owned(), ticks.get(5).map_or("unlabelled", |t| t).to_owned()),
            _ => ("*".to_owned(), ticks.get(3).map_or("unlabelled", |t| t).to_owned()),
        }
    })
    .collect()
}

fn pairs(of: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_leak_is_refused_before_anything_is_read_or_sent() {
    let policy = ", allow: [pseudonym, derived]";
    let project = care(policy, &["id: person_id", "email: email", "name: hmac_sha256(name, secret('KEY'))"]);
    let rows = [("*", "derived.phi.care"), ("*", "derived.phi.diagnosis")];
    let expected = pairs(&[&rows[..], &[("email", "identity.email")]].concat());
    // derived is allowed, but nothing about health without an agreement
    assert_eq!(refused(&project, 3), expected);
    for command in ["run", "plan"] {
        project
            .kinfold(&[command])
            .exits(3)
            .without_data()
            .says(&["K1001", "ehr.patients.email -> person_profile.email -> out.email"]);
    }
    assert!(!project.path("out").exists(), "something was sent");
    assert!(!project.path("target/warehouse/person").exists(), "something was built");
    // what a policy refuses does not hide the map
    project.kinfold(&["labels"]).exits(0);
    // a part of the project that sends nothing may be run
    project.kinfold(&["run", "--quiet", "--select", "+worried"]).exits(0);
    // a mistake of the language is more than a refusal
    project.write("models/broken.sql", "SELECT nothing FROM person\n");
    project.kinfold(&["check"]).exits(2).says(&["K1001"]);
}

#[test]
fn a_policy_holds_for_services_servers_and_syncs_by_name() {
    let receiver = Receiver::new(|_| ok());
    let project = care(EVERYTHING, &["id: person_id", "email: email"]);
    project.kinfold(&["run", "--quiet", "--select", "+worried"]).exits(0);
    let service = format!("type: http, delete: {{method: DELETE}}, url: \"{}\"", receiver.url("/people"));
    // nobody listens there: whoever tries to send fails in another way
    let server = "type: postgres, url: \"postgres://me@127.0.0.1:1/crm\"".to_owned();
    for kind in [service, server] {
        let destination = format!("destinations:\n  - {{name: tool, {kind}, allow: [pseudonym, derived]}}\n");
        project.write("destinations.yaml", &destination);
        for command in [&["run"][..], &["plan"], &["sync"], &["sync", "--plan"], &["sync", "out"], &["sync", "retry"]] {
            project.kinfold(command).exits(3).without_data().says(&["K1001", "identity.email"]);
        }
    }
    assert_eq!(receiver.requests().len(), 0);
}

#[test]
fn a_label_builds_nothing_and_is_listed_at_once() {
    let project = care(EVERYTHING, &["id: person_id"]);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let labels = "SELECT labels FROM kinfold.columns WHERE model = 'person_profile' AND column_name = 'score'";
    assert!(project.query(labels)[0]["labels"].to_string().contains("sensitive.score"));
    project.write("models/person_profile.yaml", &PROFILE.replace("sensitive.score", "sensitive.grade"));
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(project.report()["nodes"], serde_json::json!([]));
    let now = project.query(labels)[0]["labels"].to_string();
    assert!(now.contains("sensitive.grade") && !now.contains("sensitive.score"), "{now}");
}

#[test]
fn a_disabled_sync_and_a_policy_that_allows_it_are_no_leak() {
    let project = care("", &["id: person_id"]);
    assert!(
        refused(&project, 3).contains(&("id".to_owned(), "pseudonym".to_owned())),
        "without `allow` nothing may go"
    );
    let sync = project.read("models/out.yaml");
    project.write("models/out.yaml", &format!("enabled: false\n{sync}"));
    project.kinfold(&["check"]).exits(0);
    let project = care(EVERYTHING, &["id: person_id", "email: email", "born: born"]);
    project.kinfold(&["run", "--quiet"]).exits(0);
}

#[test]
fn only_approved_functions_lower_a_label() {
    let member = ["derived.behavior", "derived.phi", "derived.sensitive", "pseudonym", "coarse"].join(", ");
    let policy = format!(", baa: true, allow: [{member}]");
    for (sql, left) in [
        ("hmac_sha256(email, secret('KEY'))", None),
        ("hmac_sha1(upper(email), secret('KEY'), 'base64')", None),
        ("year_of(born)", None),
        ("age_band(born)", None),
        ("zip3(zip)", None),
        ("redact(name)", None),
        // a key that everybody knows, a hash without one, and a function for something else
        ("hmac_sha256(email, 'salt')", Some("identity.email")),
        ("sha256(email)", Some("identity.email")),
        ("mask(email)", Some("identity.email")),
        ("substr(zip, 1, 3)", Some("phi.geo")),
        ("year_of(email)", Some("identity.email")),
        ("hmac_sha256(codes, secret('KEY'))", Some("phi.diagnosis")),
        ("concat(zip3(zip), name)", Some("phi.name")),
        ("CASE WHEN name = 'Ann Lee' THEN 1 END", Some("phi.name")),
    ] {
        let project = care(&policy, &[&format!("x: \"{sql}\"")]);
        let expected: Vec<_> = left.iter().map(|label| ("x", *label)).collect();
        assert_eq!(refused(&project, if left.is_some() { 3 } else { 0 }), pairs(&expected), "{sql}");
    }
}

#[test]
fn declassify_takes_off_what_it_names_and_says_who_why_and_when() {
    let project = care(", allow: [pseudonym, derived.behavior, derived.sensitive]", &["id: person_id"]);
    let said = "reason: asked the board, by: Dana Reyes, at: 2026-03-01";
    let declassify = |columns: &str, labels: &str| {
        project.write(
            "models/worried.yaml",
            &format!("{AUDIENCE}declassify: [{{columns: {columns}, labels: {labels}, {said}}}]\n"),
        );
    };
    declassify("'*'", "derived.phi.diagnosis");
    assert_eq!(refused(&project, 3), pairs(&[("*", "derived.phi.care")]));
    declassify("'*'", "derived.phi");
    assert_eq!(refused(&project, 0), pairs(&[]));
    declassify("persn_id", "derived.phi");
    project.kinfold(&["check"]).exits(2).says(&["K1003", "no column `persn_id`"]);
    for key in ["reason", "by", "at"] {
        let lacks: Vec<&str> = said.split(", ").filter(|part| !part.starts_with(key)).collect();
        project.write(
            "models/worried.yaml",
            &format!("{AUDIENCE}declassify: [{{columns: '*', labels: phi, {}}}]\n", lacks.join(", ")),
        );
        project.kinfold(&["check"]).exits(2).says(&["K0103", key]);
    }
}

#[test]
fn a_column_of_which_nothing_is_said_goes_nowhere() {
    let project = care(EVERYTHING, &["id: person_id", "note: hmac_sha256(note, secret('KEY'))"]);
    project
        .write("models/person_profile.yaml", &PROFILE.replace("  room:", "  note: {from: ehr.patients.note}\n  room:"));
    assert_eq!(refused(&project, 3), pairs(&[("note", "unlabelled")]));
    // also if only its rows are chosen by it
    let project = care(EVERYTHING, &["id: person_id"]);
    project.write(
        "models/worried.yaml",
        &AUDIENCE.replace("{trait: codes > 0}", "{related: ehr.patients, where: note <> ''}"),
    );
    assert_eq!(refused(&project, 3), pairs(&[("*", "unlabelled")]));
    // but a label, `none` included, is enough
    project.write("sources.yaml", &format!("{SOURCES}          note: {{label: none}}\n"));
    assert_eq!(refused(&project, 0), pairs(&[]));
}

#[test]
fn keyed_hashes_are_those_of_node() {
    let project = care(EVERYTHING, &["id: person_id"]);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let values = ["", "ann@example.com", "Zoë Ñuñez 日本", "The quick brown fox jumps over the lazy dog"];
    let keys = ["key", "ключ", &"long ".repeat(40)];
    let mut ours = String::new();
    let mut theirs = String::new();
    for (value, key) in values.iter().flat_map(|v| keys.iter().map(move |k| (v, k))) {
        for algorithm in ["sha1", "sha256", "sha512", "md5"] {
            for encoding in ["hex", "base64"] {
                ours += &format!("('{}', hmac_{algorithm}('{value}', '{key}', '{encoding}')), ", ours.len());
                theirs += &format!(
                    "console.log(crypto.createHmac('{algorithm}', '{key}').update('{value}').digest('{encoding}'));"
                );
            }
        }
        // hex is what is meant where nothing is said
        ours += &format!("('{}', hmac_sha256('{value}', '{key}')), ", ours.len());
        theirs += &format!("console.log(crypto.createHmac('sha256', '{key}').update('{value}').digest('hex'));");
    }
    // known answers (Wikipedia's), for machines without Node
    let known = project.query("SELECT hmac_md5('The quick brown fox jumps over the lazy dog', 'key') AS md5, hmac_sha1('The quick brown fox jumps over the lazy dog', 'key') AS sha1, hmac_sha256('The quick brown fox jumps over the lazy dog', 'key') AS sha256");
    assert_eq!(known[0]["md5"], "80070713463e7749b90c2dc24911e275");
    assert_eq!(known[0]["sha1"], "de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9");
    assert_eq!(known[0]["sha256"], "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
    let rows = project.query(&format!(
        "SELECT h FROM (VALUES {}) AS t(i, h) ORDER BY CAST(i AS BIGINT)",
        ours.trim_end_matches(", ")
    ));
    let ours: Vec<&str> = rows.iter().map(|r| r["h"].as_str().unwrap()).collect();
    let Ok(node) = Command::new("node").args(["-e", &theirs]).output() else { return };
    assert!(node.status.success(), "{}", String::from_utf8_lossy(&node.stderr));
    let theirs = String::from_utf8(node.stdout).unwrap();
    assert_eq!(ours, theirs.lines().collect::<Vec<_>>());
    project.kinfold(&["query", "SELECT hmac_sha1('a', 'b', 'base32')"]).exits(2).says(&["'hex' or 'base64'"]);
}

#[test]
fn years_ages_and_postal_codes_are_coarse() {
    let project = care(EVERYTHING, &["id: person_id", "born: year_of(born)", "age: age_band(born)", "zip: zip3(zip)"]);
    let worried = AUDIENCE.replace("{event: web.visits, column: page, is: oncology}, ", "");
    project.write("models/worried.yaml", &worried);
    project.kinfold(&["run", "--quiet"]).exits(0);
    let sources = format!(
        "sources:\n  - name: tool\n    location: \"{}\"\n    tables: [{{name: sent, path: out/, format: csv}}]\n",
        project.path("out").display()
    );
    let sent = Project::of(&[("sources.yaml", &sources)]).query("SELECT born, age, zip FROM tool.sent ORDER BY born");
    let row = |row: &Row| ["born", "age", "zip"].map(|c| row[c].as_str().unwrap().to_owned()).join(" ");
    // ninety on the day itself; ten only tomorrow; 036 is a place where few people live
    assert_eq!(sent.iter().map(row).collect::<Vec<_>>(), ["1936 90+ 941", "2016 0-9 000"]);
}

/// Values that stand in labelled columns and nowhere else.
const MARKS: [&str; 6] = ["canarycookie", "canarymail", "canarypage", "canarymrn", "canaryname", "canarycode"];

/// Everything below a folder that is text, and the bytes of what is not.
fn all_bytes(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_bytes(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn marked_values_are_in_no_log_no_artefact_no_page_and_no_destination() {
    let policy = ", baa: true, allow: [pseudonym, derived, coarse]";
    let columns =
        ["id: person_id", "email: hmac_sha256(email, secret('KEY'))", "zip: zip3(zip)", "age: age_band(born)"];
    let mut project = care(policy, &columns);
    project.set("KEY", "canarykey");
    let marked = |text: &str| {
        let text = text.replace("ann@", "canarymail@").replace("c1,", "canarycookie,").replace("m1,", "canarymrn,");
        text.replace("Ann Lee", "canaryname").replace("C50", "canarycode").replace("oncology", "canarypage")
    };
    project.write("data/visits.csv", &marked(VISITS));
    project.write("data/patients.csv", &marked(PATIENTS));
    // a test that fails, so that failing rows are told of
    let wrong = format!("{PROFILE}tests: [{{accepted_values: {{column: zip, values: [x]}}, severity: warn}}]\n");
    project.write("models/person_profile.yaml", &wrong.replace("page = 'oncology'", "page <> ''"));
    project.write("models/worried.yaml", &AUDIENCE.replace("column: page, is: oncology", "where: page <> ''"));
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    let mut run = |arguments: &[&str]| {
        let outcome = project.kinfold(arguments);
        said.push((arguments.join(" "), format!("{}{}", outcome.stdout, outcome.stderr).into_bytes()));
        outcome.code
    };
    assert_eq!(run(&["run"]), 0);
    for arguments in [
        &["check"][..],
        &["plan"],
        &["manifest"],
        &["labels"],
        &["status"],
        &["docs", "build"],
        &["ls"],
        &["lineage", "out"],
        &["run", "--log-format", "json"],
        &["test", "--data"],
        &["explain", "plan", "person_profile"],
    ] {
        assert_ne!(run(arguments), 2, "{arguments:?}");
    }
    // what cannot be read is an error with a place
    project.write("data/patients.csv", &marked(PATIENTS).replace("1936-03-31", "canaryname"));
    assert_eq!(run(&["run"]), 1);
    all_bytes(&project.path("out"), &mut said);
    for (path, bytes) in {
        let mut files = Vec::new();
        all_bytes(&project.path("target"), &mut files);
        files
    } {
        // tables are where the values belong
        if !path.contains("/warehouse/") {
            said.push((path, bytes));
        }
    }
    assert!(said.iter().any(|(name, _)| name.contains("/out/")) && said.iter().any(|(name, _)| name.contains(".html")));
    for (name, bytes) in said {
        let text = String::from_utf8_lossy(&bytes);
        for mark in MARKS.iter().chain(&["canarykey"]) {
            assert!(!text.contains(mark), "{mark} is in {name}:\n{text}");
        }
    }
}

#[test]
fn labels_are_proposed_from_samples_and_no_value_is_shown() {
    let project = Project::of(&[
        (
            "sources.yaml",
            "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: people, path: people.csv, columns: {backup: {label: none}}}\n",
        ),
        (
            "data/people.csv",
            "id,contact,backup,birth_date,first_name,phone,seen,amount\n1,ann@x.com,b@x.com,1980-02-01,Ann,2125550160,2026-03-01,17\n2,bob@x.com,c@x.com,1990-02-01,Bob,,2026-03-02,18\n",
        ),
    ]);
    let told = project.kinfold(&["labels", "suggest"]).exits(0);
    let expected = "shop.people:\n  contact: {label: identity.email}  # 100 % of 2 values\n  birth_date: {label: phi.date}  # 100 % of 2 values\n  first_name: {label: phi.name}  # 100 % of 2 values\n  phone: {label: identity.phone}  # 100 % of 1 values\n";
    assert_eq!(told.stdout, expected);
    let told = project.kinfold(&["labels", "suggest", "--output", "json"]).exits(0);
    assert!(told.stdout.contains("phi.name") && !told.stdout.contains("ann@x.com"), "{told}");
    assert!(!project.path("target/warehouse/_kinfold").exists(), "nothing is written");
}
