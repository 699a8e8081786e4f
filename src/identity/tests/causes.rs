//! Why entities were split.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::*;
use super::naming::Registry;
use super::world::{Row, World, any_row, any_rules, any_types, id, pair, row};

const MRN: u8 = 0;
const EMAIL: u8 = 1;
const COOKIE: u8 = 2;

/// Two records that one address joins.
fn joined() -> World {
    World::of(3, vec![row(1, &[(MRN, "1"), (EMAIL, "a")]), row(2, &[(MRN, "2"), (EMAIL, "a")])])
}

/// The causes of what a world becomes after another.
fn causes(before: &World, after: &World) -> Vec<Cause> {
    let mut registry = Registry::default();
    registry.next(before);
    registry.causes(after).into_iter().map(|(.., cause)| cause).collect()
}

#[test]
fn a_rule_a_limit_or_a_hub_between_the_parts_is_the_cause() {
    let before = joined();
    let mut after = before.clone();
    after.never = vec![pair(id(MRN, "7"), id(MRN, "8")), pair(id(MRN, "1"), id(MRN, "2"))];
    // the first rule's identifiers do not occur, so the other one is the first
    assert_eq!(causes(&before, &after), [Cause::Never { rule: 0 }]);
    after.never.clear();
    after.types[0].max_per_entity = Some(1);
    assert_eq!(causes(&before, &after), [Cause::MaxPerEntity { type_code: MRN }]);
    after.types[0].max_per_entity = None;
    after.rows.push(row(3, &[(EMAIL, "a"), (COOKIE, "x")]));
    after.types[1].max_links = MaxLinks::Any(2);
    assert!(matches!(causes(&before, &after)[..], [Cause::Hub { .. }]));
}

#[test]
fn a_refusal_is_told_rather_than_a_hub() {
    let mut before = joined();
    before.rows.extend([row(3, &[(MRN, "1"), (COOKIE, "x")]), row(3, &[(MRN, "2"), (COOKIE, "x")])]);
    let mut after = before.clone();
    after.types[2].max_links = MaxLinks::Any(1);
    after.types[0].max_per_entity = Some(1);
    assert_eq!(causes(&before, &after), [Cause::MaxPerEntity { type_code: MRN }]);
}

#[test]
fn a_part_that_touches_only_another_part_has_the_cause_of_that_border() {
    // 1 - a - 2 - b - 3: the rule parts 2 and 3, the limit 1 and 2; 1 keeps the id
    let chain = [
        ((MRN, "1"), (EMAIL, "a")),
        ((MRN, "2"), (EMAIL, "a")),
        ((MRN, "2"), (EMAIL, "b")),
        ((MRN, "3"), (EMAIL, "b")),
    ];
    let rows: Vec<Row> = (1..).zip(chain).map(|(time, (a, b))| row(time, &[a, b])).collect();
    let before = World::of(3, rows);
    let mut after = before.clone();
    after.types[0].max_per_entity = Some(1);
    after.never = vec![pair(id(MRN, "2"), id(MRN, "3"))];
    let found: Vec<Cause> = causes(&before, &after);
    assert_eq!(found.len(), 2);
    assert!(found.contains(&Cause::MaxPerEntity { type_code: MRN }) && found.contains(&Cause::Never { rule: 0 }));
}

#[test]
fn a_chain_of_hubs_is_a_cause() {
    let before = World::of(
        3,
        vec![
            row(1, &[(MRN, "1"), (COOKIE, "x")]),
            row(2, &[(COOKIE, "x"), (COOKIE, "y")]),
            row(3, &[(MRN, "2"), (COOKIE, "y")]),
        ],
    );
    let mut after = before.clone();
    after.types[2].max_links = MaxLinks::Any(1);
    assert!(matches!(causes(&before, &after)[..], [Cause::Hub { .. }]));
}

#[test]
fn without_the_rows_no_link_is_left_whatever_hub_they_share() {
    let front_desk = [row(3, &[(MRN, "1"), (COOKIE, "desk")]), row(3, &[(MRN, "2"), (COOKIE, "desk")])];
    let mut before = joined();
    before.rows.extend(front_desk.clone());
    before.types[2].max_links = MaxLinks::Any(1);
    let mut after = before.clone();
    after.rows.remove(1);
    // the desk was a hub before, so it has nothing to do with it
    assert_eq!(causes(&before, &after), [Cause::NoLink]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Rules and limits that stay, and rows that are only added: what is torn apart has a cause.
    #[test]
    fn growth_tears_nothing_apart_without_a_hub_a_guard_or_a_rule(
        types in any_types(3),
        always in any_rules(3),
        never in any_rules(3),
        runs in prop::collection::vec(prop::collection::vec(any_row(3), 0..6), 2..6),
    ) {
        let mut registry = Registry::default();
        let mut world = World { types, rows: Vec::new(), always, never };
        for mut rows in runs {
            world.rows.append(&mut rows);
            let causes = registry.causes(&world);
            let before = registry.clone();
            let named = registry.next(&world);
            for (from, new, cause) in causes {
                let of_the_id = named.ids.iter().filter(|(of, _)| before.current(of) == Some(from));
                let parts: BTreeSet<EntityId> = of_the_id.map(|(_, id)| *id).collect();
                prop_assert!(cause != Cause::NoLink || parts == BTreeSet::from([new]), "{from} was torn apart");
            }
        }
    }
}
