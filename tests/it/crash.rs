//! Runs that are killed, stopped, or meet each other.
//!
//! The law: whenever a run dies, a reader sees the tables of a whole run, and the next run gives what an
//! undisturbed one would have given, with nothing lost.

use crate::support::{NEWS, Project, clinic, files, until, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How many runs are killed, beside those that are killed at a chosen moment.
const RANDOM_KILLS: usize = 12;

/// A small project after its first run, with news waiting to be read.
fn project_with_news() -> Project {
    let project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    // entity ids that are the same in every warehouse, so that results can be compared
    let identity = project.read("models/person.yaml");
    project.write("models/person.yaml", &format!("{identity}id_key: the-same-everywhere\n"));
    project.kinfold(&["run"]).exits(0);
    project.write("data/visits/news.csv", NEWS);
    project
}

/// Rows of a table, without which run wrote them.
fn rows(project: &Project, table: &str) -> Vec<String> {
    let header = project.lines(&format!("SELECT * FROM {table} LIMIT 0")).remove(0);
    let columns: Vec<String> = header.split(',').filter(|c| *c != "run").map(|c| format!("\"{c}\"")).collect();
    project.lines(&format!("SELECT {} FROM {table}", columns.join(", ")))
}

/// Whether a table grows with each run, whatever happens in it.
fn grows(table: &str) -> bool {
    table == "audience_sizes" || table.ends_with("_report")
}

/// Rows of every table but those that grow.
fn state(project: &Project) -> Vec<(String, Vec<String>)> {
    let tables = project.tables().into_iter().filter(|t| !grows(t));
    tables.map(|table| (table.clone(), rows(project, &table))).collect()
}

/// Rows that the destination got. After a kill some may have come twice, but then with the same idempotency
/// key; so that a destination that honours it has each change once.
fn sent(project: &Project) -> Vec<String> {
    let outbox = project.path("target/outbox");
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files(&outbox).into_keys().filter(|f| f.contains(".csv")) {
        let text = std::fs::read_to_string(outbox.join(&file)).unwrap();
        let mut lines = text.lines().map(|l| l.split(',').map(str::to_owned).collect::<Vec<_>>());
        let header = lines.next().unwrap();
        let key = header.iter().position(|c| c == "_idempotency_key").unwrap();
        for mut row in lines {
            by_key.insert(row.remove(key), row);
        }
    }
    let mut rows: Vec<String> = by_key.into_values().map(|row| row.join(",")).collect();
    rows.sort_unstable();
    rows
}

/// A number from 0 to 1 that is another one in each run of the tests: every moment must be right.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    bits as f64 / u64::MAX as f64
}

/// Kills a run as soon as there is a new file below one of these folders; whether it was in time.
fn kill_at(project: &Project, folder: &str) -> bool {
    let seen = || files(&project.path(folder)).len();
    let before = seen();
    let mut child = project.spawn(&["run"]);
    let mut ended = false;
    until(folder, || {
        ended = child.try_wait().unwrap().is_some();
        ended || seen() > before
    });
    kill(child);
    !ended
}

fn kill(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn killed_runs_lose_nothing() {
    let undisturbed = project_with_news();
    let old = state(&undisturbed);
    let started = Instant::now();
    undisturbed.kinfold(&["run"]).exits(0);
    let length = started.elapsed();
    let (new, all_sent) = (state(&undisturbed), sent(&undisturbed));
    assert_ne!(old, new);

    let mut killed: Vec<(String, Project)> = Vec::new();
    for _ in 0..RANDOM_KILLS {
        let (project, moment) = (project_with_news(), length.mul_f64(random()));
        let child = project.spawn(&["run"]);
        std::thread::sleep(moment);
        kill(child);
        killed.push((format!("{moment:?} of {length:?}"), project));
    }
    for folder in ["target/warehouse/_kinfold/staged", "target/warehouse/_kinfold/runs", "target/outbox"] {
        let project = project_with_news();
        let in_time = kill_at(&project, folder);
        killed.push((format!("when {folder} had a new file (in time: {in_time})"), project));
    }

    for (moment, project) in &killed {
        let seen = state(project);
        assert!(seen == old || seen == new, "killed at {moment}: readers see half a run: {seen:#?}");
    }
    for (moment, project) in &killed {
        let outcome = project.run_when_free();
        assert_eq!(state(project), new, "killed at {moment}, then {outcome}");
        assert_eq!(sent(project), all_sent, "killed at {moment}, then {outcome}");
        let again = project.kinfold(&["run", "--full"]).exits(0);
        assert_eq!(project.report()["syncs"][0]["sent"], 0, "killed at {moment}, then {again}");
        assert_eq!(state(project), new, "killed at {moment}, then {again}");
    }
}

#[test]
fn a_killed_first_run_of_the_demo_is_done_by_the_next() {
    let project = Project::clinic();
    let child = project.spawn(&["run"]);
    until("a lease", || !files(&project.path("target/warehouse/_kinfold/leases")).is_empty());
    std::thread::sleep(Duration::from_secs_f64(4.0 * random()));
    kill(child);
    project.run_when_free();
    for table in clinic().tables().into_iter().filter(|t| !grows(t)) {
        assert_eq!(rows(&project, &table), rows(clinic(), &table), "{table}");
    }
    let distinct = |p: &Project| p.sent().iter().map(|r| format!("{r:?}")).collect::<BTreeSet<_>>();
    assert_eq!(distinct(&project), distinct(clinic()));
}

#[test]
fn of_two_runs_at_once_one_is_told_to_come_back() {
    let project = Project::clinic();
    let first = project.spawn(&["run"]);
    until("a lease", || !files(&project.path("target/warehouse/_kinfold/leases")).is_empty());
    project.kinfold(&["run"]).exits(75).without_data().says(&["another run", "help"]);
    wait(first, &["run"]).exits(0);
    for table in ["patient", "patient_profile", "searched_not_booked", "patient_registry"] {
        let sql = format!("SELECT * FROM {table}");
        assert_eq!(project.lines(&sql), clinic().lines(&sql), "{table}");
    }
    assert_eq!(project.sent(), clinic().sent());
}

#[test]
fn an_interrupted_run_stops_cleanly() {
    let project = Project::clinic();
    let child = project.spawn(&["run"]);
    until("a lease", || !files(&project.path("target/warehouse/_kinfold/leases")).is_empty());
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    wait(child, &["run"]).exits(130).without_data().says(&["nothing of this run was committed"]);
    project.kinfold(&["show", "patient"]).exits(2);
    // the warehouse is free at once
    project.kinfold(&["run"]).exits(0);
    let sql = "SELECT * FROM patient_profile";
    assert_eq!(project.lines(sql), clinic().lines(sql));
}

#[test]
fn a_run_that_is_interrupted_while_it_sends_leaves_the_warehouse_free() {
    let mut project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    let outbox = project.read("destinations.yaml").replace("target/outbox", "\"${OUTBOX:-target/outbox}\"");
    project.write("destinations.yaml", &outbox);
    // a destination that takes calls and never answers
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (name, value) in [("ACCESS_KEY_ID", "tester"), ("SECRET_ACCESS_KEY", "none"), ("REGION", "us-east-1")] {
        project.set(&format!("AWS_{name}"), value);
    }
    project.set("AWS_ENDPOINT_URL", &format!("http://{}", silent.local_addr().unwrap()));
    project.set("OUTBOX", "s3://outbox");
    let child = project.spawn(&["run"]);
    let (_called, _) = silent.accept().unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    wait(child, &["run"]).exits(130).without_data().says(&["while committing or sending"]);
    project.set("OUTBOX", "target/outbox");
    // not 75: the lease of the syncs was given back, too
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.report()["syncs"][0]["sent"], 2);
}

#[test]
fn a_run_that_lacks_memory_says_so_and_leaves_the_warehouse_free() {
    let project = Project::clinic();
    let outcome = project.kinfold(&["run", "--memory", "1MB"]).exits(1);
    outcome.says(&["Resources exhausted", "--memory"]);
    assert_eq!(project.tables(), BTreeSet::new(), "nothing of it is visible");
    // not 75: the failed run gave its lease back
    project.kinfold(&["run", "--select", "provider_stats"]).exits(0);
}
