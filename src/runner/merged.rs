//! Entities that are part of others now, as syncs know them: the keys under which they were sent, and those of the others.
//!
//! `<identity>_changes` names each id that was lost in a merge. An id that was given again since, by a split, is not lost. Keys
//! are known where a sync makes them of the entity id alone, as `patient_id` or a hash of it.

use crate::engine::Engine;
use crate::error::Result;
use crate::model::{ModelKind, Project, SyncModel};
use crate::warehouse::{Snapshot, Warehouse};
use deltalake_core::arrow::array::{Array as _, AsArray as _, RecordBatch};
use deltalake_core::arrow::datatypes::Int64Type;
use std::collections::{BTreeMap, BTreeSet};

/// By the key of an entity that is lost, the key of the one that it is part of.
///
/// # Errors
/// `Storage`, `Data` when a table cannot be read; `Failed` when a key cannot be made.
pub(super) async fn merged_keys(
    engine: &Engine,
    project: &Project,
    sync: &SyncModel,
    (warehouse, base): (&Warehouse, &Snapshot),
) -> Result<BTreeMap<String, String>> {
    let mut merged = BTreeMap::new();
    for (name, _) in project.models.iter().filter(|(_, m)| matches!(m.kind, ModelKind::Identity(_))) {
        let id = format!("{name}_id");
        // most keys are made of something else, which costs no table
        if !sync.key.value.contains(&id) {
            continue;
        }
        let changes = changes_of(warehouse, base, name).await?;
        let lost = lost(&changes);
        let ids: BTreeSet<String> = lost.iter().flat_map(|(id, into)| [id.clone(), into.clone()]).collect();
        if ids.is_empty() {
            continue;
        }
        let keys = engine.keys_of_ids(sync, &id, &ids).await?;
        merged.extend(lost.iter().filter_map(|(id, into)| Some((keys.get(id)?.clone(), keys.get(into)?.clone()))));
    }
    Ok(merged)
}

/// A row of `<identity>_changes`: when, the entity, and the one that it was merged with, if that is what happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    run: i64,
    id: String,
    lost: Option<String>,
}

/// Merges, and what happened to the ids that were lost in them. Most rows tell of new entities: they are not kept.
async fn changes_of(warehouse: &Warehouse, base: &Snapshot, identity: &str) -> Result<Vec<Change>> {
    let Some(at) = base.tables.get(&format!("{identity}_changes")) else { return Ok(Vec::new()) };
    let table = warehouse.table(at).await?;
    let mut found: Vec<Change> = Vec::new();
    for merges in [true, false] {
        let lost: BTreeSet<String> = found.iter().filter_map(|change| change.lost.clone()).collect();
        if !merges && lost.is_empty() {
            break;
        }
        for file in &table.files {
            for batch in table.read_file(warehouse.store(), file).await? {
                let all = rows(&batch, identity);
                found.extend(all.filter(|change| match change.lost {
                    Some(_) => merges,
                    None => !merges && lost.contains(&change.id),
                }));
            }
        }
    }
    Ok(found)
}

fn rows<'b>(batch: &'b RecordBatch, identity: &str) -> impl Iterator<Item = Change> + use<'b> {
    let texts = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let (kinds, others) = (texts("change"), texts("other_id"));
    let ids = texts(&format!("{identity}_id"));
    let runs = batch.column_by_name("run").and_then(|column| column.as_primitive_opt::<Int64Type>());
    (0..batch.num_rows()).filter_map(move |row| {
        let merged = kinds?.is_valid(row) && kinds?.value(row) == "merged";
        let lost = others.filter(|others| merged && others.is_valid(row)).map(|others| others.value(row).to_owned());
        Some(Change { run: runs?.value(row), id: ids?.value(row).to_owned(), lost })
    })
}

/// By id that is lost, the id of the entity that it is part of now.
fn lost(changes: &[Change]) -> BTreeMap<String, String> {
    let mut sorted: Vec<&Change> = changes.iter().collect();
    sorted.sort();
    let mut into: BTreeMap<&str, &str> = BTreeMap::new();
    for change in sorted {
        match &change.lost {
            Some(lost) => into.insert(lost, &change.id),
            None => into.remove(change.id.as_str()),
        };
    }
    let last = |id: &str| {
        let mut at = id;
        // an id that came back may have been merged into one that was lost in it before
        for _ in 0..into.len() {
            match into.get(at) {
                Some(next) => at = next,
                None => break,
            }
        }
        at.to_owned()
    };
    into.keys().map(|id| ((*id).to_owned(), last(id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_id_leads_to_the_one_that_is_left_and_is_none_once_it_is_given_again() {
        let change = |run, id: &str, lost: &str| Change {
            run,
            id: id.to_owned(),
            lost: (!lost.is_empty()).then(|| lost.to_owned()),
        };
        let of = |changes: &[Change]| lost(changes).into_iter().collect::<Vec<_>>();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let merges = [change(5, "c", "b"), change(3, "b", "a"), change(3, "d", "e")];
        assert_eq!(of(&merges), [pair("a", "c"), pair("b", "c"), pair("e", "d")]);
        // b is split off again, with a in it
        assert_eq!(of(&[&merges[..], &[change(6, "b", "")]].concat()), [pair("a", "b"), pair("e", "d")]);
        assert_eq!(of(&[&merges[..], &[change(4, "a", "")]].concat()), [pair("b", "c"), pair("e", "d")]);
    }
}
