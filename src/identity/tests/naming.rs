//! Rule 6: ids, the registry, and what changed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::reference::{self, Known};
use super::world::{Id, Row, Run, World, any_row, any_rules, any_types, any_world, id, pair, row, run};

const KEY: &[u8] = b"a secret";

/// A registry that is carried from run to run, as a warehouse would.
#[derive(Debug, Default, Clone)]
pub(super) struct Registry {
    pub(super) rows: Vec<Known>,
    run: u64,
}

/// What a run says, in texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) ids: BTreeMap<Id, EntityId>,
    pub(super) changes: Vec<Changed>,
    newly_registered: BTreeSet<(Id, EntityId)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Changed {
    Created(EntityId),
    Merged(EntityId, EntityId),
    Split(EntityId, EntityId),
}

impl Registry {
    fn assign(&self, world: &World, sets: usize, threads: usize) -> (Run, Assigned) {
        let run = run(world, sets, threads);
        let registered = self.registered(&run);
        let input = IdInput {
            types: &world.types,
            nodes: &run.nodes,
            stitched: &run.stitched,
            registered: &registered,
            key: KEY,
            threads,
        };
        let assigned = assign_ids(&input);
        (run, assigned)
    }

    fn registered(&self, run: &Run) -> Vec<Registered> {
        self.rows
            .iter()
            .map(|((code, text), id, run_number)| Registered {
                node: run.nodes.lookup(*code, text).unwrap_or(NO_NODE),
                id: Some(*id),
                run: *run_number,
            })
            .collect()
    }

    /// By split, the id that was left, the new one, and why.
    pub(super) fn causes(&self, world: &World) -> Vec<(EntityId, EntityId, Cause)> {
        let (run, assigned) = self.assign(world, 1, 1);
        let stitch = StitchInput {
            types: &world.types,
            nodes: &run.nodes,
            links: &run.links.links,
            always: &run.always,
            never: &run.never,
            threads: 1,
        };
        let registered = self.registered(&run);
        let input =
            CauseInput { stitch: &stitch, stitched: &run.stitched, assigned: &assigned, registered: &registered };
        let causes = find_causes(&input);
        assert_eq!(causes.len(), assigned.changes.len());
        let split = |(change, cause): (&Change, Option<Cause>)| match (*change, cause) {
            (Change::Split { from, new, .. }, Some(cause)) => Some((from, new, cause)),
            (Change::Split { .. }, None) | (_, Some(_)) => panic!("splits have a cause, and only they"),
            (_, None) => None,
        };
        assigned.changes.iter().zip(causes).filter_map(split).collect()
    }

    /// Names a world's entities and checks what must hold in any case.
    fn name(&self, world: &World, sets: usize, threads: usize) -> Named {
        let (run, assigned) = self.assign(world, sets, threads);
        let members = run.members();
        let first_seen: BTreeMap<Id, i64> =
            (0..run.nodes.len() as u32).map(|node| (run.id(node), run.nodes.first_seen(node))).collect();
        let expected = reference::named(&members, &first_seen, &self.rows, &world.types, KEY);
        assert_eq!(assigned.ids, expected, "the reference names otherwise");
        let distinct: BTreeSet<EntityId> = assigned.ids.iter().copied().collect();
        assert_eq!(distinct.len(), assigned.ids.len(), "ids are distinct");
        let changed = |change: &Change| match *change {
            Change::Merged { entity, from, into } => {
                assert_eq!(assigned.ids[entity as usize], into);
                Changed::Merged(from, into)
            }
            Change::Split { entity, from, new } => {
                assert_eq!(assigned.ids[entity as usize], new);
                Changed::Split(from, new)
            }
        };
        let created = assigned.created.iter().map(|entity| Changed::Created(assigned.ids[*entity as usize]));
        let ids = members.iter().zip(&assigned.ids);
        let named = Named {
            ids: ids.flat_map(|(members, id)| members.iter().map(|member| (member.clone(), *id))).collect(),
            changes: created.chain(assigned.changes.iter().map(changed)).collect(),
            newly_registered: assigned
                .newly_registered
                .iter()
                .map(|node| (run.id(*node), assigned.ids[run.stitched.entity[*node as usize] as usize]))
                .collect(),
        };
        self.check_changes(&named);
        named
    }

    pub(super) fn current(&self, id: &Id) -> Option<EntityId> {
        self.rows.iter().filter(|row| row.0 == *id).max_by_key(|row| row.2).map(|row| row.1)
    }

    /// The changes say exactly what became of every identifier.
    fn check_changes(&self, named: &Named) {
        let in_use: BTreeSet<EntityId> = named.ids.values().copied().collect();
        let mut expected = BTreeSet::new();
        let mut registered = BTreeSet::new();
        for id in in_use.iter().filter(|id| named.ids.iter().all(|(of, own)| own != *id || self.current(of).is_none()))
        {
            expected.insert(Changed::Created(*id));
        }
        for (identifier, id) in &named.ids {
            let before = self.current(identifier);
            if before != Some(*id) {
                registered.insert((identifier.clone(), *id));
            }
            if let Some(before) = before.filter(|before| before != id) {
                let split = in_use.contains(&before);
                expected.insert(if split { Changed::Split(before, *id) } else { Changed::Merged(before, *id) });
            }
        }
        assert_eq!(named.changes, expected.into_iter().collect::<Vec<_>>(), "changes, in order");
        assert_eq!(named.newly_registered, registered);
    }

    /// Names and remembers. Checks that doing so again changes nothing.
    pub(super) fn next(&mut self, world: &World) -> Named {
        let named = self.name(world, 1, 1);
        self.run += 1;
        self.rows.extend(named.newly_registered.iter().map(|(of, id)| (of.clone(), *id, self.run)));
        let again = self.name(world, 1, 1);
        assert_eq!(again.ids, named.ids);
        assert_eq!((again.changes, again.newly_registered), (Vec::new(), BTreeSet::new()));
        named
    }
}

fn world(rows: Vec<Row>) -> World {
    World::of(3, rows)
}

#[test]
fn the_anchor_is_the_earliest_then_the_strongest_then_the_smallest() {
    let first = |rows: Vec<Row>| Registry::default().next(&world(rows)).ids[&id(2, "x")];
    let made_of = |code: u8, text: &str| first_id(code, text);
    assert_eq!(first(vec![row(5, &[(1, "a")]), row(4, &[(2, "x")]), row(6, &[(1, "a"), (2, "x")])]), made_of(2, "x"));
    assert_eq!(first(vec![row(5, &[(1, "a"), (2, "x")])]), made_of(1, "a"));
    assert_eq!(first(vec![row(5, &[(1, "b"), (1, "a"), (2, "x")])]), made_of(1, "a"));
    assert_eq!(
        first(vec![row(NO_TIME, &[(1, "a")]), row(7, &[(2, "x"), (1, "b")]), row(8, &[(1, "a"), (1, "b")])]),
        made_of(1, "b")
    );
}

fn first_id(code: u8, text: &str) -> EntityId {
    super::super::entity_id::IdMaker::new(KEY).id(&format!("type_{code}"), text, 0)
}

#[test]
fn growth_keeps_the_id_whatever_the_anchor_would_be_now() {
    let mut registry = Registry::default();
    let before = registry.next(&world(vec![row(5, &[(2, "x")])]));
    let after = registry.next(&world(vec![row(5, &[(2, "x")]), row(1, &[(0, "1"), (2, "x")])]));
    assert_eq!(after.ids[&id(0, "1")], before.ids[&id(2, "x")]);
    assert_eq!(after.changes, []);
}

#[test]
fn on_a_merge_the_older_id_survives() {
    let mut registry = Registry::default();
    let young_row = row(1, &[(0, "1")]);
    registry.next(&world(vec![row(5, &[(2, "x")])]));
    let before = registry.next(&world(vec![row(5, &[(2, "x")]), young_row.clone()]));
    let after = registry.next(&world(vec![row(5, &[(2, "x")]), young_row, row(6, &[(0, "1"), (2, "x")])]));
    let (old, young) = (before.ids[&id(2, "x")], before.ids[&id(0, "1")]);
    assert_eq!(after.ids[&id(0, "1")], old);
    assert_eq!(after.changes, [Changed::Merged(young, old)]);
}

#[test]
fn on_a_split_the_id_stays_with_the_strongest_and_the_other_id_is_new() {
    // The id was made from the cookie, which is the earliest; so the part without the id cannot use its anchor's.
    let mut registry = Registry::default();
    let mut world = world(vec![row(1, &[(2, "x")]), row(5, &[(1, "a"), (2, "x")])]);
    let before = registry.next(&world);
    world.never = vec![pair(id(1, "a"), id(2, "x"))];
    let after = registry.next(&world);
    let old = before.ids[&id(1, "a")];
    assert_eq!(old, first_id(2, "x"));
    assert_eq!(after.ids[&id(1, "a")], old);
    assert_ne!(after.ids[&id(2, "x")], old);
    assert_eq!(after.changes, [Changed::Split(old, after.ids[&id(2, "x")])]);
}

#[test]
fn undoing_a_merge_gives_each_its_own_id_back() {
    let mut registry = Registry::default();
    let mut rows = vec![row(1, &[(2, "x")]), row(2, &[(0, "1"), (1, "a")])];
    let before = registry.next(&world(rows.clone()));
    rows.push(row(3, &[(1, "a"), (2, "x")]));
    let mut merged = world(rows);
    assert_eq!(registry.next(&merged).ids[&id(0, "1")], before.ids[&id(2, "x")]);
    merged.never = vec![pair(id(0, "1"), id(2, "x")), pair(id(1, "a"), id(2, "x"))];
    let after = registry.next(&merged);
    assert_eq!(after.ids, before.ids);
    assert_eq!(after.changes, [Changed::Split(before.ids[&id(2, "x")], before.ids[&id(0, "1")])]);
}

#[test]
fn an_id_known_only_by_identifiers_that_are_gone_is_old_and_not_made_again() {
    let mut registry = Registry::default();
    let gone = registry.next(&world(vec![row(1, &[(2, "x"), (2, "y")])])).ids[&id(2, "x")];
    registry.rows.retain(|row| row.0 == id(2, "y"));
    let after = registry.next(&world(vec![row(1, &[(2, "x")])]));
    assert_eq!(gone, first_id(2, "x"));
    assert_ne!(after.ids[&id(2, "x")], gone);
}

/// What one run finds: any rows and rules, thus growth, loss, merges, splits and hubs that come and go.
fn any_runs() -> impl Strategy<Value = Vec<World>> {
    let types = 3;
    let rows = prop::collection::vec(any_row(types), 0..12);
    let world = (any_types(types), rows, any_rules(types), any_rules(types));
    prop::collection::vec(world.prop_map(|(types, rows, always, never)| World { types, rows, always, never }), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn any_history_equals_the_reference(runs in any_runs()) {
        let mut registry = Registry::default();
        for world in runs {
            registry.next(&world);
        }
    }

    #[test]
    fn growth_changes_ids_only_by_merging(runs in prop::collection::vec(prop::collection::vec(any_row(3), 0..6), 1..6)) {
        let mut registry = Registry::default();
        let mut world = world(Vec::new());
        for mut rows in runs {
            world.rows.append(&mut rows);
            let named = registry.next(&world);
            prop_assert!(!named.changes.iter().any(|change| matches!(change, Changed::Split(..))));
        }
    }

    #[test]
    fn order_numbering_and_threads_do_not_matter(
        runs in any_runs(),
        sets in 1..4_usize,
        threads in 1..4_usize,
    ) {
        let mut registry = Registry::default();
        for world in runs {
            let mut other = world.clone();
            other.rows.reverse();
            let mut shuffled = registry.clone();
            shuffled.rows.reverse();
            prop_assert_eq!(registry.name(&world, 1, 1), shuffled.name(&other, sets, threads));
            registry.next(&world);
        }
    }

    #[test]
    fn unrelated_rows_change_no_id(world in any_world(), unrelated in any_world()) {
        let types = world.types.len();
        let mut both = world.clone();
        let rename = |row: &Row| Row {
            ids: row.ids.iter().map(|id| (id.0 % types as u8, id.1.clone() + "!")).collect(),
            time: row.time,
        };
        both.rows.extend(unrelated.rows.iter().map(rename));
        let mut named = Registry::default().name(&both, 1, 1);
        named.ids.retain(|id, _| !id.1.ends_with('!'));
        prop_assert_eq!(named.ids, Registry::default().name(&world, 1, 1).ids);
    }
}
