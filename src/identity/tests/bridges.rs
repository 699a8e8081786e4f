//! Entities that hang on a single weak link.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::*;
use super::world::{Id, Pair, Row, Run, World, any_world, id, pair, row, run};

const ACCOUNT: u8 = 0;
const EMAIL: u8 = 1;
const PHONE: u8 = 2;
const COOKIE: u8 = 3;

/// A suspect in texts: the members of its entity, the link, and by side identifiers and strong ones.
type Told = (BTreeSet<Id>, Pair, [(usize, usize); 2]);

fn found(world: &World, run: &Run, threads: usize, most: usize) -> (usize, Vec<Told>) {
    let holdings = Holdings::new(&world.types, &run.nodes, &run.stitched);
    let input = BridgeInput {
        nodes: &run.nodes,
        links: &run.links.links,
        always: &run.always,
        stitched: &run.stitched,
        holdings: &holdings,
        threads,
    };
    let suspects = find_suspects(&input, most);
    let members = run.members();
    let told = |s: &Suspect| {
        let link = run.links.links[s.link as usize];
        assert_eq!(pair(run.id(link.a), run.id(link.b)), (run.id(s.left.node), run.id(s.right.node)));
        let sides = [s.left, s.right].map(|side| (side.size as usize, side.strong as usize));
        (members[s.entity as usize].clone(), (run.id(s.left.node), run.id(s.right.node)), sides)
    };
    (suspects.count, suspects.worst.iter().map(told).collect())
}

/// The identifiers that are reached from one over pairs.
fn reached(from: &Id, over: &[Pair]) -> BTreeSet<Id> {
    let mut seen = BTreeSet::from([from.clone()]);
    loop {
        let before = seen.len();
        for (a, b) in over {
            if seen.contains(a) || seen.contains(b) {
                seen.extend([a.clone(), b.clone()]);
            }
        }
        if seen.len() == before {
            return seen;
        }
    }
}

/// The suspects by the words of their definition: each link is taken away and what is left is looked at.
fn expected(world: &World, run: &Run) -> Vec<Told> {
    let types = world.types.len();
    let one_ever = |policy: &TypePolicy| policy.max_per_entity == Some(1) && policy.within.is_none();
    let strong = |id: &Id| usize::from(id.0) * 2 < types || one_ever(&world.types[usize::from(id.0)]);
    let texts = |(a, b): (u32, u32)| pair(run.id(a), run.id(b));
    let links: Vec<Pair> = run.links.links.iter().map(|link| texts((link.a, link.b))).collect();
    let rules: Vec<Pair> = run.always.iter().map(|rule| texts(*rule)).collect();
    let mut all = Vec::new();
    for members in run.members() {
        let inside = |(a, b): &&Pair| members.contains(a) && members.contains(b);
        let links: Vec<Pair> = links.iter().filter(inside).cloned().collect();
        let rules: Vec<Pair> = rules.iter().filter(inside).cloned().collect();
        let mut suspects = Vec::new();
        for link in links.iter().filter(|(a, b)| !strong(a) || !strong(b)) {
            let rest: Vec<Pair> = links.iter().filter(|other| *other != link).chain(&rules).cloned().collect();
            let left = reached(&link.0, &rest);
            let right: BTreeSet<Id> = members.difference(&left).cloned().collect();
            let sides = [&left, &right].map(|side| (side.len(), side.iter().filter(|id| strong(id)).count()));
            if !left.contains(&link.1) && sides[0].1 > 0 && sides[1].1 > 0 {
                suspects.push((members.clone(), link.clone(), sides));
            }
        }
        suspects.sort_by_key(rank);
        all.extend(suspects.into_iter().next());
    }
    all.sort_by_key(rank);
    all
}

fn rank((_, link, sides): &Told) -> (Reverse<u8>, Reverse<usize>, Pair) {
    (Reverse(link.1.0), Reverse(sides[0].0.min(sides[1].0)), link.clone())
}

fn check(world: &World) -> Vec<Told> {
    let run = run(world, 1, 1);
    let expected = expected(world, &run);
    assert_eq!(found(world, &run, 1, usize::MAX), (expected.len(), expected.clone()));
    expected
}

#[test]
fn two_accounts_that_share_a_cookie_hang_on_it() {
    let rows = vec![
        row(1, &[(ACCOUNT, "1"), (EMAIL, "a"), (PHONE, "p")]),
        row(2, &[(ACCOUNT, "2"), (EMAIL, "b")]),
        row(3, &[(EMAIL, "a"), (COOKIE, "x")]),
        row(4, &[(ACCOUNT, "2"), (COOKIE, "x")]),
    ];
    let mut world = World::of(4, rows);
    let suspects = check(&world);
    // of the cookie's two links, that whose smaller side is the larger: three and the cookie against two
    let link = pair(id(ACCOUNT, "2"), id(COOKIE, "x"));
    let other = pair(id(EMAIL, "a"), id(COOKIE, "x"));
    assert_eq!(suspects.iter().map(|s| (&s.1, s.2)).collect::<Vec<_>>(), [(&other, [(3, 2), (3, 2)])]);
    // somebody says that they are one
    world.always = vec![pair(id(ACCOUNT, "1"), id(ACCOUNT, "2"))];
    assert_eq!(check(&world), []);
    // a second way, over another cookie
    world.always = Vec::new();
    world.rows.extend([row(5, &[(EMAIL, "a"), (COOKIE, "y")]), row(5, &[(EMAIL, "b"), (COOKIE, "y")])]);
    assert_eq!(check(&world), []);
    assert_ne!(link, other);
}

#[test]
fn strong_links_and_sides_without_a_strong_identifier_are_not_suspect() {
    let rows = vec![
        row(1, &[(ACCOUNT, "1"), (EMAIL, "a")]),
        row(2, &[(EMAIL, "a"), (ACCOUNT, "2")]),
        row(3, &[(EMAIL, "a"), (COOKIE, "x")]),
        row(3, &[(PHONE, "p"), (COOKIE, "x")]),
    ];
    assert_eq!(check(&World::of(4, rows)), []);
}

#[test]
fn a_type_of_which_there_may_be_one_is_strong() {
    let rows = vec![row(1, &[(ACCOUNT, "1"), (PHONE, "p")]), row(2, &[(PHONE, "p"), (COOKIE, "x")])];
    let mut world = World::of(4, rows);
    assert_eq!(check(&world), []);
    world.types[3].max_per_entity = Some(1);
    assert_eq!(check(&world).len(), 1);
}

/// Accounts and cookies in turn, each linked with the next: long enough to overflow a stack.
#[test]
fn a_long_chain_is_walked_without_recursion() {
    const PAIRS: usize = 30_000;
    let name = |number: usize| format!("{number:05}");
    let link = |account: usize, cookie: usize| Row { ids: vec![(0, name(account)), (1, name(cookie))], time: 1 };
    let rows = (0..PAIRS).flat_map(|n| [link(n, n), link(n + 1, n)]).collect();
    let world = World::of(2, rows);
    let (count, suspects) = found(&world, &run(&world, 1, 2), 2, 10);
    // 30,001 accounts and 30,000 cookies: the link in the middle leaves 30,000 on its smaller side
    let (_, link, sides) = &suspects[0];
    assert_eq!((count, sides[0].0.min(sides[1].0)), (1, PAIRS));
    assert_eq!(link, &pair(id(0, "15000"), id(1, "14999")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn suspects_are_those_of_the_definition(world in any_world(), threads in 1..4_usize, most in 0..3_usize) {
        let run = run(&world, 1, 1);
        let mut expected = expected(&world, &run);
        let count = expected.len();
        prop_assert_eq!(found(&world, &run, threads, usize::MAX), (count, expected.clone()));
        expected.truncate(most);
        prop_assert_eq!(found(&world, &run, threads, most), (count, expected));
    }

    #[test]
    fn sparse_worlds_have_the_suspects_of_the_definition(rows in prop::collection::vec(sparse_row(), 0..14)) {
        check(&World::of(4, rows));
    }
}

/// Rows of two identifiers out of many, so that there are bridges.
fn sparse_row() -> impl Strategy<Value = Row> {
    let any_id = || (0..4_u8, 0..4_u8).prop_map(|(code, value)| id(code, &value.to_string()));
    (any_id(), any_id()).prop_map(|(a, b)| Row { ids: vec![a, b], time: 1 })
}
