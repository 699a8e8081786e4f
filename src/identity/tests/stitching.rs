//! Rules 2, 3 and 5.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::*;
use super::reference;
use super::world::{Id, Outcome, Reason, Row, World, any_world, id, pair, row, run};

const MRN: u8 = 0;
const EMAIL: u8 = 1;
const COOKIE: u8 = 2;

fn outcome(world: &World) -> Outcome {
    let outcome = run(world, 1, 1).outcome();
    assert_eq!(outcome, reference::stitched(world), "the reference says otherwise");
    outcome
}

fn entities(parts: &[&[(u8, &str)]]) -> BTreeSet<BTreeSet<Id>> {
    parts.iter().map(|part| part.iter().map(|(code, text)| id(*code, text)).collect()).collect()
}

#[test]
fn rows_join_identifiers_and_a_lone_identifier_is_an_entity() {
    let rows = vec![
        row(1, &[(MRN, "1"), (EMAIL, "a")]),
        row(2, &[(EMAIL, "a"), (COOKIE, "x")]),
        row(3, &[(COOKIE, "y")]),
        row(4, &[(EMAIL, "x")]),
    ];
    let expected = entities(&[&[(MRN, "1"), (EMAIL, "a"), (COOKIE, "x")], &[(COOKIE, "y")], &[(EMAIL, "x")]]);
    assert_eq!(outcome(&World::of(3, rows)).entities, expected);
}

#[test]
fn no_rows_make_no_entities() {
    assert_eq!(outcome(&World::of(2, Vec::new())).entities, BTreeSet::new());
}

#[test]
fn a_hub_takes_no_part_but_counts_as_a_neighbour() {
    // Both e-mails see three cookies and each other; leaving one out must not save the other.
    let mut rows = vec![row(1, &[(EMAIL, "a"), (EMAIL, "b")])];
    for cookie in ["x", "y", "z"] {
        rows.push(row(2, &[(EMAIL, "a"), (COOKIE, cookie)]));
        rows.push(row(3, &[(EMAIL, "b"), (COOKIE, cookie)]));
    }
    let mut world = World::of(3, rows);
    world.types[1].max_links = MaxLinks::Any(3);
    let outcome = outcome(&world);
    assert_eq!(outcome.hubs, BTreeSet::from([(id(EMAIL, "a"), 4, 3, None), (id(EMAIL, "b"), 4, 3, None)]));
    assert_eq!(outcome.entities, entities(&[&[(COOKIE, "x")], &[(COOKIE, "y")], &[(COOKIE, "z")]]));
    assert_eq!(outcome.refused_links.len(), 0);
}

#[test]
fn repeated_rows_are_one_neighbour() {
    let mut world = World::of(3, vec![row(1, &[(EMAIL, "a"), (COOKIE, "x")]); 5]);
    world.types[1].max_links = MaxLinks::Any(1);
    assert_eq!(outcome(&world).hubs, BTreeSet::new());
}

#[test]
fn neighbours_are_limited_by_type() {
    let cookies = ["v", "w", "x", "y", "z"];
    let mut rows: Vec<Row> = cookies.iter().map(|cookie| row(1, &[(EMAIL, "a"), (COOKIE, cookie)])).collect();
    rows.push(row(1, &[(EMAIL, "a"), (MRN, "1")]));
    let mut world = World::of(3, rows);
    world.types[1].max_links = MaxLinks::ByNeighbour(vec![Some(1), None, Some(5)]);
    assert_eq!(outcome(&world).hubs, BTreeSet::new());
    world.rows.push(row(1, &[(EMAIL, "a"), (MRN, "2")]));
    assert_eq!(outcome(&world).hubs, BTreeSet::from([(id(EMAIL, "a"), 2, 1, Some(MRN))]));
}

#[test]
fn a_stronger_link_is_taken_before_an_earlier_one() {
    // The cookie was seen with record 1 first, but e-mails are stronger than cookies.
    let rows = vec![
        row(1, &[(MRN, "1"), (COOKIE, "x")]),
        row(2, &[(EMAIL, "a"), (COOKIE, "x")]),
        row(9, &[(MRN, "2"), (EMAIL, "a")]),
    ];
    let mut world = World::of(3, rows);
    world.types[0].max_per_entity = Some(1);
    let outcome = outcome(&world);
    assert_eq!(outcome.entities, entities(&[&[(MRN, "1"), (COOKIE, "x")], &[(MRN, "2"), (EMAIL, "a")]]));
    let refused = pair(id(EMAIL, "a"), id(COOKIE, "x"));
    assert_eq!(outcome.refused_links.into_iter().collect::<Vec<_>>(), [(refused, Reason::MaxPerEntity(MRN, 1, 1, 1))]);
}

#[test]
fn an_earlier_link_is_taken_first_then_the_smaller_text_and_no_time_comes_last() {
    let joined_with = |times: [i64; 2]| {
        let rows = vec![row(times[0], &[(MRN, "1"), (EMAIL, "a")]), row(times[1], &[(MRN, "2"), (EMAIL, "a")])];
        let mut world = World::of(2, rows);
        world.types[0].max_per_entity = Some(1);
        let outcome = outcome(&world);
        ["1", "2"].map(|mrn| outcome.entities.contains(&BTreeSet::from([id(MRN, mrn), id(EMAIL, "a")])))
    };
    assert_eq!(joined_with([5, 6]), [true, false]);
    assert_eq!(joined_with([6, 5]), [false, true]);
    assert_eq!(joined_with([5, 5]), [true, false]);
    assert_eq!(joined_with([NO_TIME, 5]), [false, true]);
}

#[test]
fn never_holds_along_any_path_and_beats_always() {
    let rows = vec![row(1, &[(MRN, "1"), (EMAIL, "a")]), row(2, &[(MRN, "2"), (EMAIL, "a")])];
    let mut world = World::of(2, rows);
    world.never = vec![pair(id(MRN, "1"), id(MRN, "2"))];
    let first = outcome(&world);
    assert_eq!(first.entities, entities(&[&[(MRN, "1"), (EMAIL, "a")], &[(MRN, "2")]]));
    assert_eq!(first.refused_links.values().collect::<Vec<_>>(), [&Reason::Never(world.never[0].clone())]);
    world.always = vec![pair(id(MRN, "2"), id(EMAIL, "a")), pair(id(MRN, "1"), id(MRN, "2"))];
    let second = outcome(&world);
    assert_eq!(second.entities, entities(&[&[(MRN, "2"), (EMAIL, "a")], &[(MRN, "1")]]), "always comes before links");
    assert_eq!(second.refused_rules.keys().collect::<Vec<_>>(), [&world.always[1]]);
}

#[test]
fn always_rules_are_taken_by_priority_before_text() {
    // All three would bring the e-mail and the cookie together; record 1 is the smaller text, e-mail the stronger type.
    let rows = vec![row(1, &[(MRN, "1")]), row(1, &[(MRN, "2")]), row(1, &[(EMAIL, "a")]), row(1, &[(COOKIE, "x")])];
    let mut world = World::of(3, rows);
    world.always =
        vec![pair(id(MRN, "1"), id(COOKIE, "x")), pair(id(MRN, "2"), id(EMAIL, "a")), pair(id(MRN, "1"), id(MRN, "2"))];
    world.never = vec![pair(id(EMAIL, "a"), id(COOKIE, "x"))];
    let outcome = outcome(&world);
    assert_eq!(outcome.entities, entities(&[&[(MRN, "1"), (MRN, "2"), (EMAIL, "a")], &[(COOKIE, "x")]]));
}

#[test]
fn always_beats_limits_and_the_entity_keeps_its_links() {
    let rows = vec![
        row(1, &[(MRN, "1"), (EMAIL, "a")]),
        row(2, &[(MRN, "2"), (EMAIL, "b")]),
        row(3, &[(MRN, "3"), (EMAIL, "b")]),
    ];
    let mut world = World::of(2, rows);
    world.types[0].max_per_entity = Some(1);
    world.always = vec![pair(id(MRN, "1"), id(MRN, "2"))];
    let outcome = outcome(&world);
    let joined: &[(u8, &str)] = &[(MRN, "1"), (MRN, "2"), (EMAIL, "a"), (EMAIL, "b")];
    assert_eq!(outcome.entities, entities(&[joined, &[(MRN, "3")]]));
    assert_eq!(outcome.refused_links.values().collect::<Vec<_>>(), [&Reason::MaxPerEntity(MRN, 1, 2, 1)]);
}

#[test]
fn a_hub_beats_always() {
    let mut world = World::of(3, vec![row(1, &[(EMAIL, "a"), (COOKIE, "x"), (COOKIE, "y")]), row(1, &[(MRN, "1")])]);
    world.types[1].max_links = MaxLinks::Any(1);
    world.always = vec![pair(id(MRN, "1"), id(EMAIL, "a"))];
    let outcome = outcome(&world);
    assert!(outcome.entities.contains(&BTreeSet::from([id(MRN, "1")])));
    assert_eq!(outcome.refused_rules.values().collect::<Vec<_>>(), [&Reason::Hub(id(EMAIL, "a"))]);
}

/// One component of so many links that its identifiers are ranked, with plenty to refuse.
#[test]
fn a_large_component_follows_the_same_rules() {
    let text = |number: u64| format!("value-{:03}", number * 37 % 251);
    let mut state = 1_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut rows = Vec::new();
    for _ in 0..1_600 {
        let ids = [(next(3) as u8, text(next(130))), (next(3) as u8, text(next(130)))];
        rows.push(Row { ids: ids.to_vec(), time: next(3) as i64 });
    }
    let mut world = World::of(3, rows);
    world.types[0].max_per_entity = Some(2);
    world.types[1].max_per_entity = Some(7);
    world.never = (0..40).map(|number| pair((1, text(number)), (2, text(number + 1)))).collect();
    world.always = (0..10).map(|number| pair((0, text(number)), (0, text(number + 60)))).collect();
    let links = run(&world, 1, 1).links.links.len();
    assert!(links > 1_024, "only {links} links");
    assert!(outcome(&world).refused_links.len() > 100);
    assert_eq!(run(&world, 3, 2).outcome(), run(&world, 1, 1).outcome());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn equals_the_reference(world in any_world()) {
        prop_assert_eq!(run(&world, 1, 1).outcome(), reference::stitched(&world));
    }

    #[test]
    fn order_numbering_and_threads_do_not_matter(
        (world, shuffled) in any_world().prop_flat_map(|world| {
            let shuffled = (
                Just(world.rows.clone()).prop_shuffle(),
                Just(world.always.clone()).prop_shuffle(),
                Just(world.never.clone()).prop_shuffle(),
            );
            (Just(world), shuffled)
        }),
        sets in 1..4_usize,
        threads in 1..4_usize,
    ) {
        let (mut rows, always, never) = shuffled;
        for row in &mut rows {
            row.ids.reverse();
        }
        let swapped = |rules: Vec<(Id, Id)>| rules.into_iter().map(|(a, b)| (b, a)).collect();
        let other = World { types: world.types.clone(), rows, always: swapped(always), never: swapped(never) };
        prop_assert_eq!(run(&world, 1, 1).outcome(), run(&other, sets, threads).outcome());
    }

    #[test]
    fn unrelated_rows_change_nothing(world in any_world(), mut unrelated in any_world()) {
        let types = world.types.len();
        unrelated.rows.iter_mut().flat_map(|row| &mut row.ids).for_each(|id| *id = (id.0 % types as u8, id.1.clone() + "!"));
        let mut both = world.clone();
        both.rows.append(&mut unrelated.rows);
        let mut outcome = run(&both, 1, 1).outcome();
        outcome.entities.retain(|entity| !entity.iter().any(|id| id.1.ends_with('!')));
        outcome.hubs.retain(|hub| !hub.0.1.ends_with('!'));
        outcome.refused_links.retain(|link, _| !link.0.1.ends_with('!'));
        prop_assert_eq!(outcome, run(&world, 1, 1).outcome());
    }
}
