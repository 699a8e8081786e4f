//! `--select`: what is built, and that the rest stays as it was.

use crate::support::{AUDIENCES, Project, clinic, files};
use std::collections::{BTreeMap, BTreeSet};

/// A later day, so that windows move and what is built again differs from what was there.
const LATER: &str = "2026-04-20";

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// Sizes of the logs of all tables but those that every run writes: a table that was not built has none new.
fn logs(project: &Project) -> BTreeMap<String, u64> {
    let always = ["kinfold/", "audience_", "_kinfold/"];
    let mut logs = files(&project.path("target/warehouse"));
    logs.retain(|f, _| f.contains("/_delta_log/") && !always.iter().any(|a| f.starts_with(a)));
    logs
}

/// Tables whose log grew since the shared run.
fn written(project: &Project) -> BTreeSet<String> {
    let before = logs(clinic());
    let grown = logs(project).into_keys().filter(|f| !before.contains_key(f));
    grown.filter_map(|f| f.split_once("/_delta_log/").map(|(table, _)| table.to_owned())).collect()
}

#[test]
fn one_model_is_built_from_what_is_committed() {
    let project = Project::clinic_after_a_run();
    project.kinfold(&["run", "--as-of", LATER, "--select", "lapsed_patients"]).exits(0);
    assert_eq!(project.built(), names(&["lapsed_patients"]));
    assert_eq!(written(&project), names(&["lapsed_patients"]));
    let later = project.number("SELECT count(*) FROM lapsed_patients");
    assert!(later > clinic().number("SELECT count(*) FROM lapsed_patients"), "{later}");
    for table in clinic().tables().iter().filter(|t| !t.starts_with("audience_") && *t != "lapsed_patients") {
        let sql = format!("SELECT * FROM {table}");
        assert_eq!(project.lines(&sql), clinic().lines(&sql), "{table}");
    }
}

#[test]
fn one_model_gives_what_a_whole_run_gives() {
    let project = Project::clinic_after_a_run();
    project.kinfold(&["run", "--select", "lapsed_patients", "--full"]).exits(0);
    let sql = "SELECT * FROM lapsed_patients";
    assert_eq!(project.lines(sql), clinic().lines(sql));
}

#[test]
fn plus_before_a_name_takes_what_it_needs() {
    let project = Project::clinic_after_a_run();
    project.kinfold(&["run", "--select", "+seniors_to_call", "--full"]).exits(0);
    assert_eq!(project.built(), names(&["patient", "patient_profile", "searched_not_booked", "seniors_to_call"]));
}

#[test]
fn plus_after_a_name_takes_what_needs_it() {
    let project = Project::clinic_after_a_run();
    project.kinfold(&["run", "--as-of", LATER, "--select", "searched_not_booked+"]).exits(0);
    assert_eq!(project.built(), names(&["searched_not_booked", "seniors_to_call"]));
    assert_eq!(project.report()["syncs"][0]["sync"], "searched_not_booked_to_lake");
    let tables = ["searched_not_booked", "searched_not_booked_rejected", "seniors_to_call"];
    assert_eq!(written(&project), names(&tables));
}

#[test]
fn tags_and_several_selectors_add_up() {
    let project = Project::clinic_after_a_run();
    project.kinfold(&["run", "--full", "--select", "tag:appointment", "--select", "provider_stats"]).exits(0);
    let mut wanted: BTreeSet<String> =
        AUDIENCES.iter().filter(|a| a.starts_with("appointment_")).map(|a| (*a).to_owned()).collect();
    wanted.insert("provider_stats".to_owned());
    assert_eq!(project.built(), wanted);
}

#[test]
fn a_model_whose_input_was_never_built_says_what_to_run() {
    let project = Project::clinic();
    let outcome = project.kinfold(&["run", "--select", "lapsed_patients"]);
    assert!(outcome.code == 1 || outcome.code == 2, "{outcome}");
    assert!(outcome.stderr.contains("patient") && outcome.stderr.contains("help:"), "{outcome}");
    assert_eq!(project.tables(), BTreeSet::new());
}

#[test]
fn a_sync_alone_sends_only_what_changed_and_never_shows_its_secret() {
    let mut project = Project::clinic_after_a_run();
    // the project's folder moved, the place that it names did not: everything is there already
    project.kinfold(&["run", "--select", "searched_not_booked_to_lake"]).exits(0);
    assert_eq!(project.report()["syncs"][0]["sent"], 0);
    // another place: nothing that is in the first counts
    project.set("KINFOLD_OUTBOX", "target/elsewhere");
    project.kinfold(&["run", "--select", "searched_not_booked_to_lake"]).exits(0);
    let members = project.number("SELECT count(*) FROM searched_not_booked");
    assert_eq!(project.report()["syncs"][0]["sent"], members);
    let before = files(&project.path("target/elsewhere"));
    let again = project.kinfold(&["run", "--select", "searched_not_booked_to_lake"]).exits(0);
    assert_eq!(project.report()["syncs"][0]["sent"], 0, "{again}");
    assert_eq!(files(&project.path("target/elsewhere")), before);

    // another key is another pseudonym: all rows with an address are sent again
    let secret = "a-key-that-nobody-may-see";
    project.set("LAKE_KEY", secret);
    let outcome = project.kinfold(&["run", "--select", "searched_not_booked_to_lake"]).exits(0);
    let addresses = "SELECT count(p.email) FROM searched_not_booked AS s INNER JOIN patient_profile AS p ON p.patient_id = s.patient_id";
    assert_eq!(project.report()["syncs"][0]["sent"], project.number(addresses), "{outcome}");
    assert!(!format!("{outcome}{}", project.read("target/run.json")).contains(secret));
    for file in files(&project.path("target")).into_keys() {
        let bytes = std::fs::read(project.path("target").join(&file)).unwrap();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{file}");
    }
}
