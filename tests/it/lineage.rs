//! `kinfold ls` and `kinfold lineage`: what is listed, what columns come from, and that a column which
//! lineage does not name changes nothing.

use crate::support::{Project, Row, clinic};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[track_caller]
fn lineage(project: &Project, arguments: &[&str]) -> Value {
    let arguments = [&["lineage"], arguments, &["--output", "json"]].concat();
    serde_json::from_str(&project.kinfold(&arguments).exits(0).stdout).unwrap()
}

/// Values and rows of each column.
fn columns(answer: &Value) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let columns = answer["up"]["columns"].as_array().unwrap().iter();
    columns.map(|c| (c["name"].as_str().unwrap().to_owned(), (texts(&c["values"]), texts(&c["rows"])))).collect()
}

#[track_caller]
fn column(project: &Project, name: &str, flags: &[&str]) -> (BTreeSet<String>, BTreeSet<String>) {
    let answer = lineage(project, &[&[name, "--up"], flags].concat());
    columns(&answer).into_values().next().unwrap()
}

const EMAILS: [&str; 3] = ["ehr.patients.email", "partners.contacts.email", "web.identifies.email"];

#[test]
fn an_attribute_comes_from_its_columns_and_is_decided_by_identity_and_time() {
    let (values, rows) = column(clinic(), "patient_profile.email", &["--direct"]);
    assert_eq!(values, set(&EMAILS));
    for decides in ["patient.patient_id", "ehr.patients.registered_at", "ehr.patients.mrn", "web.identifies.user_id"] {
        assert!(rows.contains(decides), "{decides}: {rows:?}");
    }
    // other columns of the same tables, and other tables, have no part in one step
    for free in ["ehr.patients.gender", "web.identifies.birthday", "web.tracks.event"] {
        assert!(!rows.contains(free), "{free}: {rows:?}");
    }
    // through the identity every link table decides, and so does what deduplicates it
    let (values, rows) = column(clinic(), "patient_profile.email", &[]);
    assert_eq!(values, set(&EMAILS));
    for decides in ["web.tracks.anonymous_id", "web.tracks.event", "twilio.calls.direction", "crm.consent.identifier"] {
        assert!(rows.contains(decides), "{decides}: {rows:?}");
    }
    assert!(!rows.iter().any(|r| r.starts_with("patient.")), "{rows:?}");
}

#[test]
fn a_trait_comes_from_its_aggregate_and_is_decided_by_its_conditions() {
    let (values, rows) = column(clinic(), "patient_profile.searches_30d", &["--direct"]);
    assert_eq!(values, set(&[]));
    for decides in ["web.tracks.event", "web.tracks.timestamp", "web.tracks.anonymous_id", "web.tracks.*"] {
        assert!(rows.contains(decides), "{decides}: {rows:?}");
    }
    assert!(!rows.contains("web.tracks.specialty"), "{rows:?}");
    // a trait over the profile's own columns is seen through, and so is the persona
    let (values, _) = column(clinic(), "patient_profile.senior", &["--direct"]);
    assert_eq!(values, set(&["ehr.patients.birth_date", "web.identifies.birthday"]));
    let (values, _) = column(clinic(), "patient_profile.persona", &["--direct"]);
    assert_eq!(values, set(&["web.pages.timestamp", "web.tracks.provider_id", "web.tracks.timestamp"]));
}

#[test]
fn members_are_decided_by_all_that_their_conditions_read() {
    let (values, rows) = column(clinic(), "searched_not_booked.patient_id", &["--direct"]);
    assert_eq!(values, set(&["patient.patient_id"]));
    let wanted =
        ["web.tracks.event", "web.tracks.provider_id", "web.tracks.timestamp", "patient_profile.next_appointment_at"];
    for decides in wanted {
        assert!(rows.contains(decides), "{decides}: {rows:?}");
    }
    assert!(!rows.contains("patient_profile.email") && !rows.contains("web.tracks.amount"), "{rows:?}");
}

#[test]
fn a_sync_is_followed_back_to_the_source() {
    let answer = lineage(clinic(), &["searched_not_booked_to_lake", "--up"]);
    assert_eq!(answer["kind"], "sync");
    let columns = columns(&answer);
    assert_eq!(columns["email"].0, set(&EMAILS));
    assert_eq!(columns["top_specialty"].0, set(&["web.tracks.specialty"]));
    assert!(texts(&answer["up"]["rows"]).contains("ehr.appointments.status"), "{answer:#}");
}

#[test]
fn the_way_down_names_values_and_decisions() {
    let answer = lineage(clinic(), &["web.tracks.amount", "--down"]);
    assert_eq!(answer["down"]["values"], serde_json::json!(["patient_profile.paid"]));
    assert_eq!(answer["down"]["rows"], serde_json::json!([]));
    let answer = lineage(clinic(), &["ehr.patients.email", "--down"]);
    let (values, rows) = (texts(&answer["down"]["values"]), texts(&answer["down"]["rows"]));
    for name in ["patient.identifier", "patient_profile.email", "searched_not_booked_to_lake.email"] {
        assert!(values.contains(name), "{name}: {values:?}");
    }
    // who is who decides every audience
    assert!(rows.contains("lapsed_patients.*") && !values.contains("patient_profile.senior"), "{rows:?}");
    let direct = lineage(clinic(), &["ehr.patients.email", "--down", "--direct"]);
    assert!(!texts(&direct["down"]["values"]).contains("searched_not_booked_to_lake.email"));
}

#[test]
fn tables_beside_a_model_have_lineage_too() {
    let answer = lineage(clinic(), &["patient_links", "--up", "--direct"]);
    assert_eq!(answer["kind"], "identity");
    assert_eq!(answer["path"], "models/patient.yaml");
    let columns = columns(&answer);
    assert_eq!(columns["accepted"].0, set(&[]));
    assert!(columns["first_seen"].0.contains("web.tracks.timestamp"));
    assert!(columns["row_id"].0.contains("twilio.calls.sid"));
    assert!(columns["left_identifier"].0.is_superset(&set(&["ehr.patients.mrn", "twilio.calls.from"])));
    assert!(!columns["left_identifier"].0.contains("web.tracks.timestamp"));
    let (values, _) = column(clinic(), "patient_profile_provenance.row_id", &["--direct"]);
    assert_eq!(values, set(&["ehr.patients.mrn", "partners.contacts.contact_id", "web.identifies.id"]));
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let says = |name: &str, texts: &[&str]| {
        clinic().kinfold(&["lineage", name]).exits(2).says(texts).without_data();
    };
    says("patient_profle", &["no table or column `patient_profle`", "did you mean `patient_profile`?"]);
    says("patient_profile.emial", &["no column `emial` in `patient_profile`", "did you mean `patient_profile.email`?"]);
    says("web.track.amount", &["did you mean `web.tracks.amount`?"]);
    says("twilio.addresses", &["no model reads `twilio.addresses`"]);
    says("zzzzzzzz", &["kinfold ls --sources"]);
}

#[test]
fn text_and_mermaid_say_the_same_as_json() {
    let text = clinic().kinfold(&["lineage", "provider_stats.no_shows"]).exits(0).stdout;
    assert!(text.starts_with("provider_stats.no_shows: sql, models/provider_stats.sql\n"), "{text}");
    for part in ["rows are decided by", "ehr.appointments", "status", "values go to"] {
        assert_eq!(text.contains(part), part != "values go to", "{part}: {text}");
    }
    let graph = clinic().kinfold(&["lineage", "patient_profile.paid", "--output", "mermaid"]).exits(0).stdout;
    assert!(graph.starts_with("flowchart LR\n  n0[\"patient_profile.paid\"]\n"), "{graph}");
    assert!(graph.contains("[\"web.tracks.amount\"]") && graph.contains(" --> n0\n"), "{graph}");
}

#[test]
fn models_are_listed_in_order_and_no_data_are_needed() {
    let mut project = Project::clinic();
    project.set("CLINIC_DATA", "/no/such/folder");
    project.kinfold(&["check"]).exits(2);
    let listed = project.kinfold(&["ls", "--sources", "--output", "json"]).exits(0).rows();
    let mut seen = BTreeSet::new();
    for one in &listed {
        let reads = texts(&one["reads"]);
        assert!(reads.is_subset(&seen), "{one:?} after {seen:?}");
        seen.insert(one["name"].as_str().unwrap().to_owned());
    }
    assert!(seen.contains("web.tracks") && !seen.contains("twilio.addresses"), "{seen:?}");
    let of = |name: &str| listed.iter().find(|o| o["name"] == name).unwrap();
    assert_eq!(texts(&of("patient_profile")["reads"]).first().map(String::as_str), Some("ehr.appointments"));
    assert_eq!(of("searched_not_booked")["tags"], serde_json::json!(["recovery"]));
    assert_eq!(of("web.tracks")["path"], "sources.yaml");

    let names = |arguments: &[&str]| {
        let text = project.kinfold(&[&["ls"], arguments].concat()).exits(0).stdout;
        let lines = text.lines().skip(1).filter_map(|l| l.split_whitespace().next().map(str::to_owned));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        names(&["--select", "+seniors_to_call"]),
        ["patient", "patient_profile", "searched_not_booked", "seniors_to_call"]
    );
    let graph = project.kinfold(&["ls", "--select", "provider_stats", "--sources", "-o", "mermaid"]).exits(0).stdout;
    assert!(graph.contains("([\"web.tracks\"])") && graph.contains("[\"provider_stats<br/>sql\"]"), "{graph}");
}

#[test]
fn the_table_of_columns_has_their_lineage() {
    let sql = "SELECT values_from, rows_from FROM kinfold.columns WHERE model = 'provider_stats' AND column_name = 'no_shows'";
    let rows = clinic().query(sql);
    assert_eq!(rows[0]["values_from"], "");
    let decided = rows[0]["rows_from"].as_str().unwrap();
    assert!(decided.split(", ").any(|c| c == "ehr.appointments.status"), "{decided}");
    // what an earlier run knew of models that this one does not build stays
    let project = Project::clinic_after_a_run();
    project.kinfold(&["run", "--select", "lapsed_patients"]).exits(0);
    assert_eq!(project.query(sql), rows);
}

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - name: visits
        path: visits.csv
        format: csv
        time: at
        row_id: id
        select: {where: bot = 'no'}
        columns:
          id: {type: VARCHAR}
          amount: {type: BIGINT}
          at: {type: TIMESTAMP}
      - name: customers
        path: customers.csv
        format: csv
        time: updated_at
        row_id: customer
        version: updated_at
        columns:
          customer: {type: VARCHAR}
          updated_at: {type: TIMESTAMP}
";

const VISITS: &str = "\
id,cookie,email,page,campaign,amount,bot,at
1,c1,,home,spring,,no,2026-03-01T10:00:00Z
2,c1,ann@example.com,buy,spring,30,no,2026-03-02T10:00:00Z
3,c2,ann@example.com,buy,summer,5,no,2026-03-20T10:00:00Z
4,c3,,home,summer,,no,2026-03-21T10:00:00Z
5,c4,bob@example.com,buy,,20,yes,2026-03-22T10:00:00Z
6,c5,bob@example.com,home,autumn,,no,2026-03-23T10:00:00Z
7,c3,eve@example.com,admin,,7,no,2026-03-24T10:00:00Z
";

const CUSTOMERS: &str = "\
customer,email,name,city,updated_at
k1,ann@example.com,Ann,Rome,2026-01-01T00:00:00Z
k1,ann@example.com,Anna,Oslo,2026-02-01T00:00:00Z
k2,bob@example.com,Bob,Rome,2026-01-05T00:00:00Z
";

const MODELS: [(&str, &str); 7] = [
    (
        "models/person.yaml",
        "kind: identity\nname: person\nid_key: a key that does not change\nidentifiers:\n  customer: {max_per_entity: 1}\n  email: {normalize: email}\n  cookie: {}\nlinks:\n  - {from: shop.visits, ids: {cookie: cookie, email: email}, where: page <> 'admin'}\n  - {from: shop.customers, ids: {customer: customer, email: email}}\n",
    ),
    (
        "models/person_profile.yaml",
        "kind: profile\nname: person_profile\nidentity: person\nattributes:\n  email: {from: [shop.customers.email, shop.visits.email], pick: source_order}\n  name: {from: shop.customers.name, pick: latest}\n  city: {from: shop.customers.city, pick: most_frequent}\ntraits:\n  visits: {from: shop.visits, select: count(*)}\n  spent: {from: shop.visits, select: sum(amount), where: page = 'buy', within: 30 days, default: 0}\n  campaign: {from: shop.visits, select: last(campaign)}\n  big: {select: spent > 10}\npersona:\n  - {name: buyer, when: spent > 0}\n  - {default: visitor}\n",
    ),
    (
        "models/buyers.yaml",
        "kind: audience\nname: buyers\nprofile: person_profile\nwhere:\n  any:\n    - {event: shop.visits, column: page, is: buy, within: 60 days}\n    - trait: city = 'Rome'\n",
    ),
    ("models/pages.sql", "SELECT page, count(*) AS visits, max(amount) AS most FROM shop.visits GROUP BY page\n"),
    ("models/names.sql", "SELECT person_id, upper(name) AS name, city FROM person_profile WHERE visits > 0\n"),
    ("models/names.yaml", "materialize: view\n"),
    (
        "models/members.sql",
        "SELECT n.name, b.entered_at FROM names AS n LEFT JOIN buyers AS b ON b.person_id = n.person_id\n",
    ),
];

const TABLES: [&str; 6] = ["person", "person_links", "person_profile", "buyers", "pages", "members"];

fn shop() -> Project {
    let mut files = vec![
        ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
        ("sources.yaml", SOURCES),
        ("data/visits.csv", VISITS),
        ("data/customers.csv", CUSTOMERS),
    ];
    files.extend(MODELS);
    Project::of(&files)
}

/// The text of a CSV file with other values in one column.
fn with_other(text: &str, column: &str, other: impl Fn(&str) -> String) -> String {
    let at = text.lines().next().unwrap().split(',').position(|c| c == column).unwrap();
    let line = |(number, line): (usize, &str)| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        if number > 0 {
            cells[at] = other(&cells[at]);
        }
        cells.join(",") + "\n"
    };
    text.lines().enumerate().map(line).collect()
}

/// By table and column: its values in order.
fn answers(project: &Project) -> BTreeMap<(String, String), Vec<String>> {
    let mut all: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for table in TABLES {
        let rows: Vec<Row> = project.query(&format!("SELECT * FROM {table}"));
        for (name, value) in rows.into_iter().flatten() {
            all.entry((table.to_owned(), name)).or_default().push(value.to_string());
        }
    }
    for values in all.values_mut() {
        values.sort_unstable();
    }
    all
}

#[test]
fn a_source_column_that_lineage_does_not_name_changes_no_table() {
    let project = shop();
    project.kinfold(&["run"]).exits(0);
    let before = answers(&project);
    let known: BTreeMap<&str, _> = TABLES.iter().map(|t| (*t, columns(&lineage(&project, &[t, "--up"])))).collect();
    type Change = fn(&str) -> String;
    let changes: [(&str, &str, Change); 6] = [
        ("visits", "campaign", |v| format!("{}x", v.chars().rev().collect::<String>())),
        ("visits", "amount", |v| if v.is_empty() { "9".into() } else { String::new() }),
        ("visits", "page", |v| if v == "home" { "buy".into() } else { "home".into() }),
        ("visits", "bot", |v| if v == "no" { "yes".into() } else { "no".into() }),
        ("customers", "name", |v| format!("{v} Smith")),
        ("customers", "city", |v| if v == "Rome" { "Oslo".into() } else { "Rome".into() }),
    ];
    for (table, changed, other) in changes {
        let (text, file) = (if table == "visits" { VISITS } else { CUSTOMERS }, format!("data/{table}.csv"));
        project.write(&file, &with_other(text, changed, other));
        std::fs::remove_dir_all(project.path("target/warehouse")).unwrap();
        project.kinfold(&["run"]).exits(0);
        let after = answers(&project);
        project.write(&file, text);
        let source = format!("shop.{table}.{changed}");
        let mut moved = 0;
        for (place, values) in &before {
            let (from, decided) = &known[place.0.as_str()][&place.1];
            if after.get(place) == Some(values) {
                continue;
            }
            moved += 1;
            assert!(from.contains(&source) || decided.contains(&source), "{place:?} changed with {source}");
        }
        // each change is one that matters somewhere, or the test shows nothing
        assert!(moved > 0, "nothing changed with {source}");
    }
    // a view is a table of its own, and so is a source table: the way goes through them
    let members = columns(&lineage(&project, &["members", "--up", "--direct"]));
    assert_eq!(members["name"].0, set(&["names.name"]));
    assert!(!columns(&lineage(&project, &["pages", "--up", "--direct"]))["most"].1.contains("shop.visits.bot"));
    // and the lineage is no excuse: most of these have no part in most tables
    let free = |table: &str, column: &str, source: &str| {
        let (from, decided) = &known[table][column];
        !from.contains(source) && !decided.contains(source)
    };
    assert!(free("person_profile", "spent", "shop.visits.campaign"));
    assert!(free("person_profile", "campaign", "shop.visits.amount"));
    assert!(free("members", "name", "shop.visits.amount"));
    assert!(free("pages", "visits", "shop.visits.amount") && free("pages", "most", "shop.visits.email"));
    assert!(free("buyers", "person_id", "shop.customers.name"));
    // the condition of a link table decides who is who
    assert!(!free("person", "identifier", "shop.visits.page"));
    assert!(!free("members", "entered_at", "shop.customers.city") && !free("members", "name", "shop.visits.bot"));
}
