//! What two runs left differently, table by table.
//!
//! Rows are named by the columns that tell them apart: see [`key_of`]. Nothing is built and nothing written.

use super::audit::{Reading, note_reading};
use super::prepare::{Failure, Options, engine_of, loaded};
use super::run::warehouse_of;
use crate::engine::TableChanges;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AudienceModel, ModelKind, ProfileModel, Project, TestKind};
use crate::project::nearest;
use crate::warehouse::{Snapshot, TableAt};
use serde::Serialize;
use std::collections::BTreeSet;

/// Two runs and the tables to compare.
#[derive(Debug, Clone)]
pub struct RunPair {
    /// The earlier run, as a rule.
    pub before: u64,
    /// The later one.
    pub now: u64,
    /// Tables; none is every table but those about runs.
    pub tables: Vec<String>,
    /// How many rows of each sort are shown.
    pub examples: usize,
}

/// How two runs differ.
#[derive(Debug, Serialize)]
pub struct RunDifference {
    /// The run that is compared with.
    pub before: u64,
    /// The run that is compared.
    pub now: u64,
    /// Tables that are not the same, by name.
    pub tables: Vec<TableBetween>,
    /// Tables that have the same rows and columns.
    pub equal: Vec<String>,
}

/// How one table differs.
#[derive(Debug, Serialize)]
pub struct TableBetween {
    /// Its name.
    pub table: String,
    /// Its Delta version after each run; none where it was not there.
    pub versions: [Option<u64>; 2],
    /// What is not the same.
    #[serde(flatten)]
    pub changes: TableChanges,
}

/// Compares what two runs made visible.
///
/// # Errors
/// Findings when the project does not load; an error when a run or a table is not there, or storage fails.
pub async fn difference(options: &Options, pair: &RunPair) -> Result<RunDifference, Failure> {
    let (project, map, _) = loaded(options)?;
    let warehouse = warehouse_of(&project, options)?;
    let before = warehouse.snapshot(Some(pair.before)).await?;
    let now = warehouse.snapshot(Some(pair.now)).await?;
    let as_of = options.as_of.or(project.settings.as_of).unwrap_or(options.now);
    let engine = engine_of(options, &project, map, as_of)?;
    let mut difference = RunDifference { before: pair.before, now: pair.now, tables: Vec::new(), equal: Vec::new() };
    for table in chosen(&pair.tables, &before, &now)? {
        let at: [Option<&TableAt>; 2] = [before.tables.get(&table), now.tables.get(&table)];
        let versions = at.map(|at| at.map(|at| at.version));
        if versions[0] == versions[1] {
            difference.equal.push(table);
            continue;
        }
        let changes = engine.between(&warehouse, at, &key_of(&project, &table), pair.examples).await?;
        if changes.is_empty() && versions.iter().all(Option::is_some) {
            difference.equal.push(table);
        } else {
            difference.tables.push(TableBetween { table, versions, changes });
        }
    }
    if pair.examples > 0 {
        let shown = difference.tables.iter().map(|between| between.table.clone());
        note_reading(options, Reading::of("diff", shown)).await?;
    }
    Ok(difference)
}

/// The tables to compare, by name.
fn chosen(asked: &[String], before: &Snapshot, now: &Snapshot) -> Result<BTreeSet<String>> {
    let known: BTreeSet<&String> = before.tables.keys().chain(now.tables.keys()).collect();
    if asked.is_empty() {
        // every run writes the tables about runs
        return Ok(known.into_iter().filter(|name| !name.starts_with("kinfold.")).cloned().collect());
    }
    match asked.iter().find(|name| !known.contains(name)) {
        None => Ok(asked.iter().cloned().collect()),
        Some(unknown) => {
            let error = Error::new(ErrorKind::Usage, format!("neither run has a table `{unknown}`"));
            let names: Vec<&str> = known.into_iter().map(String::as_str).collect();
            Err(match nearest(unknown, names.iter().copied()) {
                Some(near) => error.with_help(format!("did you mean `{near}`?")),
                None => error.with_help(format!("there are: {}", names.join(", "))),
            })
        }
    }
}

/// The columns that tell the rows of a table apart; none where nothing is known of them.
///
/// An identity has one row an identifier, its links one a pair, its suspects one an entity; a profile and an audience
/// one an entity, a provenance one an entity and attribute. Of other models the first `unique` test says it.
fn key_of(project: &Project, table: &str) -> Vec<String> {
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<String>>();
    match table {
        "audience_overlap" => return texts(&["audience", "other"]),
        "kinfold.columns" => return texts(&["model", "column_name"]),
        "kinfold.definitions" => return texts(&["name"]),
        "kinfold.inputs" => return texts(&["stage"]),
        "kinfold.files" => return texts(&["table_name", "path"]),
        _ => {}
    }
    let kind = |name: &str| project.models.get(name).map(|m| &m.kind);
    let beside = |suffix: &str| table.strip_suffix(suffix).and_then(|name| Some((name, kind(name)?)));
    match (kind(table), beside("_provenance"), beside("_links"), beside("_hubs"), beside("_suspects")) {
        (Some(ModelKind::Identity(_)), ..) => texts(&["identifier_type", "identifier"]),
        (Some(ModelKind::Profile(profile)), ..) => vec![entity(profile)],
        (Some(ModelKind::Audience(audience)), ..) => members(project, audience),
        (Some(ModelKind::Sql(_)), ..) => unique(project, table),
        (_, Some((_, ModelKind::Profile(profile))), ..) => vec![entity(profile), "attribute".to_owned()],
        (.., Some((_, ModelKind::Identity(_))), _, _) => {
            texts(&["left_type", "left_identifier", "right_type", "right_identifier"])
        }
        (.., Some((_, ModelKind::Identity(_))), _) => texts(&["identifier_type", "identifier", "neighbour_type"]),
        (.., Some((name, ModelKind::Identity(_)))) => vec![format!("{name}_id")],
        _ => Vec::new(),
    }
}

fn entity(profile: &ProfileModel) -> String {
    format!("{}_id", profile.identity.value)
}

fn members(project: &Project, audience: &AudienceModel) -> Vec<String> {
    match project.models.get(&audience.profile.value).map(|m| &m.kind) {
        Some(ModelKind::Profile(profile)) => vec![entity(profile)],
        _ => Vec::new(),
    }
}

/// The columns of the first `unique` test.
fn unique(project: &Project, table: &str) -> Vec<String> {
    let columns = |kind: &TestKind| match kind {
        TestKind::Unique(columns) => Some(columns.iter().map(|c| c.value.clone()).collect()),
        _ => None,
    };
    project.tests_of(table).iter().find_map(|test| columns(&test.kind)).unwrap_or_default()
}
