//! People whom nobody may read any more and whom the committed tables still have, since these were built before: a sync leaves
//! their rows out until the tables are built anew.
//!
//! An entity is such a person's if one of its identifiers is a tombstone's own, or if all are tombstones'.

use super::search::Wanted;
use super::tombstones::{People, tombstones};
use crate::engine::Suppressed;
use crate::error::Result;
use crate::model::{ModelKind, Project};
use crate::privacy::{Mark, Tombstones};
use crate::warehouse::{Snapshot, Warehouse};
use deltalake_core::arrow::array::{AsArray as _, RecordBatch};
use std::collections::BTreeMap;

/// Those of all identities.
///
/// # Errors
/// `Data` when a tombstone or a table is damaged; `Storage`.
pub(super) async fn suppressed(project: &Project, warehouse: &Warehouse, base: &Snapshot) -> Result<Vec<Suppressed>> {
    let Some(stones) = tombstones(warehouse).await?.filter(|stones| !stones.is_empty()) else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for (name, model) in &project.models {
        let known = base.tables.get(name).filter(|_| matches!(model.kind, ModelKind::Identity(_)));
        let Some(at) = known.filter(|_| stones.identities().contains(name.as_str())) else { continue };
        let table = warehouse.table(at).await?;
        let mut entities = BTreeMap::new();
        for file in &table.files {
            for batch in table.read_file(warehouse.store(), file).await? {
                take(&batch, name, &stones, &mut entities);
            }
        }
        let people = people(name, entities);
        if !people.ids.is_empty() {
            let cells = Wanted::new(std::iter::once(&people)).cells().clone();
            all.push(Suppressed { identity: people.identity, ids: people.ids, cells });
        }
    }
    Ok(all)
}

/// What is known of an entity that has a tombstone.
#[derive(Debug, Default)]
struct Entity {
    marked: Vec<(String, String, Mark)>,
    /// How many of its identifiers have none.
    free: usize,
}

fn take(batch: &RecordBatch, identity: &str, stones: &Tombstones, entities: &mut BTreeMap<String, Entity>) {
    let texts = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let id = format!("{identity}_id");
    let (Some(kinds), Some(values), Some(ids)) = (texts("identifier_type"), texts("identifier"), texts(&id)) else {
        return;
    };
    for ((kind, value), id) in kinds.iter().zip(values).zip(ids) {
        let (Some(kind), Some(value), Some(id)) = (kind, value, id) else { continue };
        let entity = entities.entry(id.to_owned()).or_default();
        match stones.mark(identity, kind, value) {
            Some(mark) => entity.marked.push((kind.to_owned(), value.to_owned(), mark)),
            None => entity.free += 1,
        }
    }
}

fn people(identity: &str, entities: BTreeMap<String, Entity>) -> People {
    let mut people = People { identity: identity.to_owned(), ..People::default() };
    for (id, entity) in entities {
        let own = entity.marked.iter().any(|(_, _, mark)| *mark == Mark::Own);
        if own || (entity.free == 0 && !entity.marked.is_empty()) {
            people.ids.insert(id);
            people.identifiers.extend(entity.marked);
        }
    }
    people.count = people.ids.len();
    people
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_suppressed_by_an_identifier_of_its_own_or_by_all_that_it_has() {
        let mark = |mark| ("email".to_owned(), "ann@x.com".to_owned(), mark);
        let entity = |marks: &[Mark], free| Entity { marked: marks.iter().map(|m| mark(*m)).collect(), free };
        let entities = BTreeMap::from([
            ("own".to_owned(), entity(&[Mark::Own], 3)),
            ("spouse".to_owned(), entity(&[Mark::Shared], 1)),
            ("nothing else".to_owned(), entity(&[Mark::Shared], 0)),
            ("others".to_owned(), entity(&[], 2)),
        ]);
        let ids: Vec<String> = people("person", entities).ids.into_iter().collect();
        assert_eq!(ids, ["nothing else", "own"]);
    }
}
