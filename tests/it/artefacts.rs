//! What a run and `kinfold docs build` leave for machines and for people beside the tables.

use crate::support::{Project, files};
use serde_json::Value;

fn shop() -> Project {
    let project = Project::of(&[]);
    project.kinfold(&["init", "shop"]).exits(0);
    project.kinfold(&["run", "--project", "shop"]).exits(0);
    project
}

#[test]
fn a_run_leaves_its_report_its_manifest_and_its_events() {
    let project = shop();
    let manifest: Value = serde_json::from_str(&project.read("shop/target/manifest.json")).unwrap();
    assert_eq!(manifest["models"].as_object().unwrap().len(), 5);
    assert_eq!(manifest["sources"]["shop.visits"]["definition"]["format"], "csv");
    let events = project.read("shop/target/openlineage.ndjson");
    // the run, four built models and a sync, each with a beginning and an end
    assert_eq!(events.lines().count(), 12, "{events}");
    let report: Value = serde_json::from_str(&project.read("shop/target/run.json")).unwrap();
    assert_eq!(report["run"], 1);
}

#[test]
fn definitions_and_files_are_tables() {
    let project = shop();
    let ask = |sql: &str| project.kinfold(&["query", sql, "--project", "shop", "--output", "json"]).exits(0).rows();
    let kinds = ask("SELECT name, kind FROM kinfold.definitions ORDER BY 1");
    let kinds: Vec<String> =
        kinds.iter().map(|r| format!("{}={}", r["name"].as_str().unwrap(), r["kind"].as_str().unwrap())).collect();
    assert_eq!(
        kinds,
        [
            "came_back=audience",
            "came_back_to_outbox=sync",
            "daily_visits=sql",
            "destination:outbox=destination",
            "person=identity",
            "person_profile=profile",
            "shop.customers=source",
            "shop.visits=source",
        ]
    );
    let read = ask("SELECT table_name, bytes FROM kinfold.files ORDER BY 1");
    assert_eq!(read[0]["bytes"], std::fs::metadata(project.path("shop/data/customers/customers.csv")).unwrap().len());
    assert_eq!(read.len(), 2);
}

#[test]
fn a_selected_run_keeps_what_is_known_of_the_others() {
    let project = shop();
    let run = project.kinfold(&["run", "--project", "shop", "--select", "daily_visits", "--full"]).exits(0);
    let ask = |sql: &str| project.kinfold(&["query", sql, "--project", "shop", "--output", "csv"]).exits(0).stdout;
    assert_eq!(ask("SELECT count(*) AS n FROM kinfold.definitions"), "n\n8\n", "{run}");
    let newest =
        ask("SELECT name FROM kinfold.definitions WHERE run = (SELECT max(run) FROM kinfold.definitions) ORDER BY 1");
    assert_eq!(newest, "name\ndaily_visits\nshop.visits\n");
}

#[test]
fn the_site_has_a_page_for_everything_and_no_data() {
    let project = shop();
    let built = project.kinfold(&["docs", "build", "--project", "shop", "--dir", "site"]).exits(0);
    assert!(built.stdout.contains("7 pages"), "{built}");
    let pages = files(&project.path("site"));
    for page in [
        "index.html",
        "style.css",
        "person.html",
        "person_profile.html",
        "shop.visits.html",
        "came_back_to_outbox.html",
    ] {
        assert!(pages.contains_key(page), "{page} is not in {pages:?}");
    }
    let profile = project.read("site/person_profile.html");
    for text in [
        "visits_7d",
        "Int64",
        "3 rows after the last run",
        "shop.customers.html",
        "came_back.html",
        "shop.customers.email",
    ] {
        assert!(profile.contains(text), "no `{text}` in {profile}");
    }
    assert!(project.read("site/index.html").contains("as of 2026-03-31"));
    for page in pages.keys() {
        let text = project.read(&format!("site/{page}"));
        for value in ["ann@example.com", "Weaver", "Okafor", "2026-03-24T18"] {
            assert!(!text.contains(value), "{value} is in {page}");
        }
    }
}

#[test]
fn the_site_is_built_without_data_or_warehouse() {
    let project = Project::of(&[]);
    project.kinfold(&["init", "shop"]).exits(0);
    project.kinfold(&["sources", "refresh", "--project", "shop"]).exits(0);
    std::fs::remove_dir_all(project.path("shop/data")).unwrap();
    project.kinfold(&["docs", "build", "--project", "shop"]).exits(0);
    assert!(project.read("shop/target/docs/person_profile.html").contains("favourite_page"));
}
