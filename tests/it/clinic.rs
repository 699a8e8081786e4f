//! The demo, compared with what `examples/clinic/expected.py` computes from the raw data in plain loops, and
//! with what the generator planned.

use crate::support::{AUDIENCES, Project, Row, clinic, expected, files, json_of};
use chrono::DateTime;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn text<'r>(row: &'r Row, column: &str) -> &'r str {
    row[column].as_str().unwrap_or_else(|| panic!("`{column}` of {row:?}"))
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value}"))
}

/// Patient ids by identifier, written `type:value`.
fn patients(project: &Project) -> BTreeMap<String, String> {
    let rows = project.query("SELECT identifier_type, identifier, patient_id FROM patient");
    let named = |r: &Row| format!("{}:{}", text(r, "identifier_type"), text(r, "identifier"));
    rows.iter().map(|r| (named(r), text(r, "patient_id").to_owned())).collect()
}

/// Members of every audience.
fn members(project: &Project) -> BTreeMap<&'static str, BTreeSet<String>> {
    let each = AUDIENCES.map(|a| format!("SELECT '{a}' AS audience, patient_id FROM {a}"));
    let mut members: BTreeMap<_, _> = AUDIENCES.map(|a| (a, BTreeSet::new())).into();
    for row in project.query(&each.join(" UNION ALL ")) {
        let (audience, patient) = (text(&row, "audience"), text(&row, "patient_id").to_owned());
        assert!(members.get_mut(audience).unwrap().insert(patient), "twice in {audience}: {row:?}");
    }
    members
}

#[test]
fn sources_have_the_rows_that_count() {
    let tables = expected()["rows"].as_object().unwrap();
    let each: Vec<String> = tables.keys().map(|t| format!("SELECT '{t}' AS name, count(*) AS read FROM {t}")).collect();
    for row in clinic().query(&each.join(" UNION ALL ")) {
        let name = text(&row, "name");
        assert_eq!(row["read"], tables[name]["read"], "{name}");
    }
}

#[test]
fn identity_has_the_expected_figures() {
    let wanted = &expected()["identity"];
    let by_type: BTreeMap<String, Value> = clinic()
        .query("SELECT identifier_type, count(*) AS identifiers FROM patient GROUP BY identifier_type")
        .into_iter()
        .map(|r| (text(&r, "identifier_type").to_owned(), r["identifiers"].clone()))
        .collect();
    assert_eq!(serde_json::to_value(by_type).unwrap(), wanted["identifiers_by_type"]);
    let rows = clinic().query(
        "SELECT (SELECT count(*) FROM patient) AS identifiers,
                (SELECT count(DISTINCT patient_id) FROM patient) AS entities,
                (SELECT max(n) FROM (SELECT count(*) AS n FROM patient GROUP BY patient_id)) AS largest_entity,
                (SELECT count(*) FROM patient_links) AS links,
                (SELECT count(*) FROM patient_links WHERE reason IS DISTINCT FROM 'hub') AS links_without_hubs,
                (SELECT count(*) FROM patient_changes) AS changes,
                (SELECT count(*) FROM patient_registry) AS registered",
    );
    for figure in ["identifiers", "entities", "largest_entity", "links", "links_without_hubs"] {
        assert_eq!(rows[0][figure], wanted[figure], "{figure}");
    }
    // a first run creates every entity and registers every identifier
    assert_eq!(rows[0]["changes"], wanted["entities"]);
    assert_eq!(rows[0]["registered"], wanted["identifiers"]);
}

#[test]
fn the_identity_report_has_the_expected_figures() {
    let rows = |measure: &str| -> BTreeMap<String, i64> {
        let rows = clinic().query(&format!(
            "SELECT coalesce(subject, '') AS subject, value FROM patient_report WHERE measure = '{measure}'"
        ));
        rows.iter().map(|r| (text(r, "subject").to_owned(), count(&r["value"]))).collect()
    };
    let (read, resolved) = (rows("rows"), rows("rows resolved"));
    let linked: BTreeMap<&String, &Value> =
        expected()["rows"].as_object().unwrap().iter().filter(|(_, counts)| counts["unowned"].is_i64()).collect();
    assert_eq!(read.len(), linked.len());
    for (table, counts) in linked {
        assert_eq!(read[table], count(&counts["read"]), "{table}");
        assert_eq!(resolved[table], count(&counts["read"]) - count(&counts["unowned"]), "{table}");
    }
    let of_people = |what: &str, holds: &str| {
        let sql = format!("SELECT count(*) FROM (SELECT patient_id FROM patient GROUP BY patient_id HAVING {holds})");
        (what.to_owned(), clinic().number(&sql))
    };
    let sizes =
        [("1", "= 1"), ("2", "= 2"), ("3-5", "BETWEEN 3 AND 5"), ("6-10", "BETWEEN 6 AND 10"), ("11-20", "> 10")];
    let expected_sizes = sizes.map(|(size, holds)| of_people(size, &format!("count(*) {holds}")));
    assert_eq!(rows("size").into_iter().filter(|(_, n)| *n > 0).collect::<BTreeMap<_, _>>(), expected_sizes.into());
    let strong = "max(CASE WHEN identifier_type IN ('mrn', 'user_id', 'email') THEN 1 ELSE 0 END) = 0";
    assert_eq!(rows("anonymous"), [of_people("", strong)].into());
}

#[test]
fn hubs_are_those_that_were_planted() {
    let hubs: Vec<String> = clinic()
        .query("SELECT identifier_type, identifier FROM patient_hubs ORDER BY identifier_type, identifier")
        .iter()
        .map(|r| format!("{}:{}", text(r, "identifier_type"), text(r, "identifier")))
        .collect();
    assert_eq!(serde_json::to_value(hubs).unwrap(), expected()["identity"]["hubs"]);
    let members = "SELECT count(*) FROM patient AS p INNER JOIN patient_hubs AS h
                   ON h.identifier_type = p.identifier_type AND h.identifier = p.identifier";
    assert_eq!(clinic().number(members), 0, "a hub belongs to nobody");
}

#[test]
fn refused_links_are_kept_with_reason_and_evidence() {
    let wanted = &expected()["identity"];
    let rows = clinic().query(
        "SELECT split_part(substr(reason, 17), ' ', 1) AS kind, count(*) AS links,
                count(*) FILTER (WHERE table_name IS NULL OR row_id IS NULL AND table_name <> 'crm.consent') AS bare
         FROM patient_links WHERE NOT accepted AND reason LIKE 'max_per_entity: %' GROUP BY kind",
    );
    let by_type: BTreeMap<&str, &Value> = rows.iter().map(|r| (text(r, "kind"), &r["links"])).collect();
    assert_eq!(serde_json::to_value(&by_type).unwrap(), wanted["refused_by"]);
    assert!(rows.iter().all(|r| r["bare"] == 0), "a refused link without evidence: {rows:?}");
    let refused: i64 = by_type.values().map(|n| count(n)).sum();
    assert_eq!(refused, count(&wanted["refused"]));
    assert_eq!(clinic().number("SELECT count(*) FROM patient_links WHERE accepted = (reason IS NOT NULL)"), 0);
}

/// What `expected.py` calls a checksum, as SQL: sums of numbers and booleans, a digest of everything else.
fn checksum(table: &str, column: &str, wanted: &Value) -> String {
    if wanted.get("sum").is_some() {
        return format!(
            "SELECT '{column}' AS name, count({column}) AS filled, CAST(sum(CAST({column} AS DOUBLE)) AS DOUBLE) AS total,
                    CAST(0 AS BIGINT) AS kinds, '' AS digest FROM {table}"
        );
    }
    let is_time = column.ends_with("_at") || column.ends_with("_seen");
    let value = if is_time { format!("CAST({column} AS BIGINT)") } else { column.to_owned() };
    format!(
        "SELECT '{column}' AS name, count(v) AS filled, CAST(0 AS DOUBLE) AS total, count(DISTINCT v) AS kinds,
                md5(string_agg(v, '\n' ORDER BY v)) AS digest
         FROM (SELECT CAST({value} AS VARCHAR) AS v FROM {table} WHERE {column} IS NOT NULL)"
    )
}

#[track_caller]
fn same_checksum(row: &Row, wanted: &Value) {
    assert_eq!(row["filled"], wanted["not_null"], "{row:?}");
    if let Some(sum) = wanted.get("sum") {
        let difference = row["total"].as_f64().unwrap() - sum.as_f64().unwrap();
        assert!(difference.abs() < 1e-6, "{row:?}, expected {sum}");
    } else {
        assert_eq!(row["kinds"], wanted["distinct"], "{row:?}");
        assert_eq!(row["digest"], wanted["md5"], "{row:?}");
    }
}

#[test]
fn profile_has_the_expected_values_in_every_column() {
    let wanted = &expected()["profile"];
    assert_eq!(clinic().number("SELECT count(*) FROM patient_profile"), count(&wanted["rows"]));
    let columns = wanted["columns"].as_object().unwrap();
    let each: Vec<String> = columns.iter().map(|(column, sum)| checksum("patient_profile", column, sum)).collect();
    let rows = clinic().query(&each.join(" UNION ALL "));
    assert_eq!(rows.len(), columns.len());
    for row in &rows {
        same_checksum(row, &columns[text(row, "name")]);
    }
}

#[test]
fn profile_has_no_other_columns() {
    let rows = clinic().query("SELECT * FROM patient_profile LIMIT 1");
    let found: BTreeSet<&str> = rows[0].keys().map(String::as_str).collect();
    let columns = expected()["profile"]["columns"].as_object().unwrap();
    let wanted: BTreeSet<&str> = columns.keys().map(String::as_str).chain(["patient_id"]).collect();
    assert_eq!(found, wanted);
}

#[test]
fn personas_are_the_first_that_holds() {
    let rows = clinic().query("SELECT persona, count(*) AS patients FROM patient_profile GROUP BY persona");
    let found: BTreeMap<&str, &Value> = rows.iter().map(|r| (text(r, "persona"), &r["patients"])).collect();
    assert_eq!(serde_json::to_value(found).unwrap(), expected()["personas"]);
}

#[test]
fn audiences_have_the_expected_sizes() {
    let found: BTreeMap<&str, usize> = members(clinic()).iter().map(|(a, m)| (*a, m.len())).collect();
    assert_eq!(serde_json::to_value(&found).unwrap(), expected()["audiences"]);
    let sizes = clinic().query("SELECT audience, members, entered, \"left\" AS gone FROM audience_sizes");
    assert_eq!(sizes.len(), AUDIENCES.len());
    for row in sizes {
        let size = found[text(&row, "audience")];
        assert_eq!((&row["members"], &row["entered"], &row["gone"]), (&size.into(), &size.into(), &0.into()));
    }
}

#[test]
fn everybody_with_a_plan_is_where_the_plan_says() {
    let plan = json_of("examples/clinic/truth/plan.json");
    let (patients, members) = (patients(clinic()), members(clinic()));
    let mut promises = 0;
    for person in plan["planned"].as_array().unwrap() {
        let patient = &patients[person["identifier"].as_str().unwrap()];
        for (audience, inside) in person["audiences"].as_object().unwrap() {
            let found = members[audience.as_str()].contains(patient);
            assert_eq!(Value::Bool(found), *inside, "{audience}: {person}");
            promises += 1;
        }
    }
    assert!(promises > 500, "only {promises}");
}

/// Times as text differ in how many zeros they end with.
fn comparable(value: &Value) -> Value {
    let time = value.as_str().and_then(|t| DateTime::parse_from_rfc3339(t).ok());
    match (time, value.as_f64()) {
        (Some(time), _) => time.timestamp_micros().into(),
        (None, Some(number)) => number.into(),
        (None, None) => value.clone(),
    }
}

#[test]
fn named_people_have_their_identifiers_profile_audiences_and_advice() {
    let (patients, members) = (patients(clinic()), members(clinic()));
    let profiles = clinic().query("SELECT * FROM patient_profile");
    let advice =
        clinic().query("SELECT patient_id, provider_id FROM provider_recommendations ORDER BY patient_id, place");
    for person in expected()["named"].as_array().unwrap() {
        let name = &person["name"];
        let patient = &patients[person["identifier"].as_str().unwrap()];
        let own: Vec<&String> = patients.iter().filter(|(_, p)| *p == patient).map(|(i, _)| i).collect();
        assert_eq!(serde_json::to_value(own).unwrap(), person["identifiers"], "{name}");
        let inside: Vec<&str> = AUDIENCES.into_iter().filter(|a| members[a].contains(patient)).collect();
        assert_eq!(serde_json::to_value(inside).unwrap(), person["audiences"], "{name}");
        let providers: Vec<&str> =
            advice.iter().filter(|r| text(r, "patient_id") == patient).map(|r| text(r, "provider_id")).collect();
        assert_eq!(serde_json::to_value(providers).unwrap(), person["recommended"], "{name}");
        let row = profiles.iter().find(|r| text(r, "patient_id") == patient).unwrap();
        for (column, wanted) in person["profile"].as_object().unwrap() {
            assert_eq!(comparable(&row[column]), comparable(wanted), "{column} of {name}");
        }
    }
}

#[test]
fn sql_models_have_the_expected_rows() {
    let wanted = &expected()["provider_stats"];
    let sums =
        ["profile_views", "site_bookings", "appointments", "completed", "no_shows"].map(|c| format!("sum({c}) AS {c}"));
    let rows = clinic().query(&format!("SELECT count(*) AS rows, {} FROM provider_stats", sums.join(", ")));
    assert_eq!(Value::Object(rows[0].clone()), *wanted);

    let wanted = &expected()["provider_recommendations"];
    let table = "provider_recommendations";
    let rows = clinic().query(&format!("SELECT count(*) AS rows, count(DISTINCT patient_id) AS patients FROM {table}"));
    assert_eq!((&rows[0]["rows"], &rows[0]["patients"]), (&wanted["rows"], &wanted["patients"]));
    let rows = clinic().query(&checksum(table, "provider_id", &wanted["provider_ids"]));
    same_checksum(&rows[0], &wanted["provider_ids"]);
}

#[test]
fn sync_sends_hashed_addresses_and_no_names() {
    let wanted = &expected()["searched_not_booked_to_lake"];
    let rows = clinic().sent();
    assert_eq!(wanted["rows"], rows.len());
    let members = &members(clinic())["searched_not_booked"];
    assert_eq!(&rows.iter().map(|r| text(r, "patient_id").to_owned()).collect::<BTreeSet<_>>(), members);
    for column in ["email", "top_specialty"] {
        let found = clinic().query_outbox(&checksum("lake.sent", column, &wanted[column]));
        same_checksum(&found[0], &wanted[column]);
    }
    let personal: BTreeSet<String> = clinic()
        .query("SELECT first_name AS v FROM patient_profile UNION SELECT last_name FROM patient_profile UNION SELECT email FROM patient_profile")
        .iter()
        .filter_map(|r| r["v"].as_str().map(str::to_owned))
        .collect();
    let sent = rows.iter().flat_map(|r| r.values()).filter_map(Value::as_str);
    let leaked: Vec<&str> = sent.filter(|v| personal.contains(*v) || v.contains('@')).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[test]
fn report_has_the_figures_of_the_tables() {
    let report = clinic().report();
    let facts = |model: &str| {
        let nodes = report["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["model"] == model).map(|n| n["facts"].clone()).unwrap()
    };
    let (identity, wanted) = (facts("patient"), &expected()["identity"]);
    assert_eq!((&identity["entities"], &identity["created"]), (&wanted["entities"], &wanted["entities"]));
    assert_eq!((&identity["links"], &identity["refused"]), (&wanted["links"], &wanted["refused"]));
    assert_eq!(identity["largest"], wanted["largest_entity"]);
    assert_eq!(identity["hubs"], wanted["hubs"].as_array().unwrap().len());
    for (audience, size) in expected()["audiences"].as_object().unwrap() {
        assert_eq!(facts(audience)["members"], *size, "{audience}");
    }
    let sync = &report["syncs"][0];
    let size = &expected()["searched_not_booked_to_lake"]["rows"];
    assert_eq!((&sync["sync"], &sync["sent"]), (&Value::from("searched_not_booked_to_lake"), size));
}

#[test]
fn a_second_run_changes_nothing() {
    let project = Project::clinic();
    project.kinfold(&["run"]).exits(0);
    let outbox = files(&project.path("target/outbox"));
    assert!(!outbox.is_empty());
    project.kinfold(&["run", "--full"]).exits(0);
    for table in clinic().tables() {
        if ["audience_overlap", "audience_sizes", "patient_report"].contains(&table.as_str()) {
            continue; // says in which run it was counted
        }
        assert_eq!(
            project.lines(&format!("SELECT * FROM {table}")),
            clinic().lines(&format!("SELECT * FROM {table}")),
            "{table}"
        );
    }
    let moved = "SELECT coalesce(sum(entered + \"left\"), -1) FROM audience_sizes WHERE run = (SELECT max(run) FROM audience_sizes)";
    assert_eq!(project.number(moved), 0);
    let sync = &project.report()["syncs"][0];
    assert_eq!((&sync["sent"], &sync["unchanged"]), (&0.into(), &expected()["searched_not_booked_to_lake"]["rows"]));
    assert_eq!(files(&project.path("target/outbox")), outbox);
}

#[test]
fn threads_and_memory_do_not_matter() {
    let project = Project::clinic();
    project.kinfold(&["run", "--threads", "1", "--memory", "512MB"]).exits(0);
    let tables = clinic().tables();
    assert_eq!(project.tables(), tables);
    for table in tables {
        let sql = format!("SELECT * FROM {table}");
        assert_eq!(project.lines(&sql), clinic().lines(&sql), "{table}");
    }
    assert_eq!(project.sent(), clinic().sent());
}
