//! Chains against a search that tries every way.

use proptest::prelude::*;

use super::super::*;
use super::world::{Id, id};

/// A link in texts.
type TextLink = (Id, Id, bool, i64);

/// A chain in texts: its start, then whether each link counts, its time and where it leads.
type TextChain = (Id, Vec<(bool, i64, Id)>);

struct Coded {
    nodes: Nodes,
    links: Vec<ChainLink>,
}

impl Coded {
    fn new(alone: &[Id], links: &[TextLink]) -> Self {
        let ends = links.iter().flat_map(|(a, b, ..)| [a, b]);
        let interner = Interner::new(4);
        let mut codes = Vec::new();
        for (type_code, text) in alone.iter().chain(ends) {
            let value = [Some(text.as_str())];
            assert_eq!(interner.intern_batch(&mut Scratch::default(), *type_code, value, None, &mut codes), Ok(()));
        }
        let nodes = interner.freeze();
        let code = |id: &Id| nodes.lookup(id.0, &id.1).expect("every end was interned");
        let coded =
            |(a, b, counts, time): &TextLink| ChainLink { a: code(a), b: code(b), counts: *counts, first_seen: *time };
        let links = links.iter().map(coded).collect();
        Self { nodes, links }
    }

    fn code(&self, id: &Id) -> u32 {
        self.nodes.lookup(id.0, &id.1).expect("a known identifier")
    }

    fn chain(&self, from: &[Id], to: &[Id]) -> Option<TextChain> {
        let codes = |ids: &[Id]| ids.iter().map(|id| self.code(id)).collect::<Vec<_>>();
        let chain = shortest_chain(&self.nodes, &self.links, &codes(from), &codes(to))?;
        let text = |node: u32| id(self.nodes.type_of(node), &self.nodes.text(node));
        let step = |step: &ChainStep| {
            let link = self.links[step.link as usize];
            (link.counts, link.first_seen, text(step.to))
        };
        Some((text(chain.start), chain.steps.iter().map(step).collect()))
    }

    fn between(&self, from: &Id, to: &Id) -> Option<TextChain> {
        self.chain(std::slice::from_ref(from), std::slice::from_ref(to))
    }
}

fn link(a: &Id, b: &Id, time: i64) -> TextLink {
    (a.clone(), b.clone(), true, time)
}

fn refused(a: &Id, b: &Id, time: i64) -> TextLink {
    (a.clone(), b.clone(), false, time)
}

#[test]
fn the_shortest_chain_is_taken_and_the_earliest_of_several() {
    let [mrn, email, phone, cookie] = [id(0, "1"), id(1, "a"), id(2, "5"), id(3, "c")];
    let long = [link(&mrn, &email, 1), link(&email, &phone, 1), link(&phone, &cookie, 1)];
    let by_phone = [link(&mrn, &phone, 9)];
    let coded = Coded::new(&[], &[&long[..], &by_phone].concat());
    let expected = (mrn.clone(), vec![(true, 9, phone.clone()), (true, 1, cookie.clone())]);
    assert_eq!(coded.between(&mrn, &cookie), Some(expected));
    // by e-mail and cookie it is as far, and the first link is older
    let coded = Coded::new(&[], &[&long[..], &by_phone, &[link(&email, &cookie, 8)]].concat());
    let expected = (mrn.clone(), vec![(true, 1, email.clone()), (true, 8, cookie.clone())]);
    assert_eq!(coded.between(&mrn, &cookie), Some(expected));
    let turned = (cookie.clone(), vec![(true, 8, email), (true, 1, mrn.clone())]);
    assert_eq!(coded.between(&cookie, &mrn), Some(turned), "the same chain from its other end");
}

#[test]
fn links_that_do_not_count_are_the_last_resort() {
    let [mrn, other, email, phone] = [id(0, "1"), id(0, "2"), id(1, "a"), id(2, "5")];
    let links = [refused(&mrn, &other, 1), link(&mrn, &email, 2), link(&email, &phone, 3), link(&phone, &other, 4)];
    let all = Coded::new(&[], &links).between(&mrn, &other);
    assert_eq!(all.map(|(_, steps)| steps.len()), Some(3), "three links that count before one that does not");
    let broken = [refused(&mrn, &email, 2), refused(&email, &phone, 3), link(&phone, &other, 4), links[0].clone()];
    let fewest = Coded::new(&[], &broken).between(&mrn, &other);
    assert_eq!(fewest, Some((mrn, vec![(false, 1, other)])));
}

#[test]
fn whole_entities_are_sides_too() {
    let [mrn, other, email, phone] = [id(0, "1"), id(0, "2"), id(1, "a"), id(2, "5")];
    let alone = id(3, "alone");
    let links = [link(&mrn, &email, 1), refused(&email, &phone, 2), link(&phone, &other, 3)];
    let coded = Coded::new(std::slice::from_ref(&alone), &links);
    let (left, right) = ([mrn.clone(), email.clone()], [other, phone.clone()]);
    assert_eq!(coded.chain(&left, &right), Some((email, vec![(false, 2, phone)])));
    assert_eq!(coded.chain(&left, &left), Some((mrn, Vec::new())), "nothing to go");
    assert_eq!(coded.chain(&left, &[alone]), None, "no way");
    assert_eq!(coded.chain(&left, &[]), None);
}

#[test]
fn links_around_an_entity_are_in_the_order_of_their_time() {
    let [mrn, email, phone, cookie] = [id(0, "1"), id(1, "a"), id(2, "5"), id(3, "c")];
    let links = [link(&email, &phone, 7), refused(&email, &mrn, 7), link(&phone, &cookie, 1), link(&cookie, &mrn, 2)];
    let coded = Coded::new(&[], &links);
    let around = |members: &[&Id]| {
        links_around(&coded.nodes, &coded.links, &members.iter().map(|m| coded.code(m)).collect::<Vec<_>>())
    };
    assert_eq!(around(&[&email]), [1, 0], "of one time: by text");
    assert_eq!(around(&[&email, &cookie]), [2, 3, 1, 0]);
}

/// Every way without a repeated identifier, and the best of them by the rules as they are written.
fn naive(links: &[TextLink], from: &Id, to: &Id) -> Option<TextChain> {
    let turned = from > to;
    let (near, far) = if turned { (to, from) } else { (from, to) };
    let mut found = Vec::new();
    ways(links, far, &mut vec![near.clone()], &mut Vec::new(), &mut found);
    let best = found.into_iter().min_by_key(|steps: &Vec<(bool, i64, Id)>| {
        let broken = steps.iter().filter(|(counts, ..)| !counts).count();
        let order: Vec<(i64, Id)> = steps.iter().map(|(_, time, to)| (*time, to.clone())).collect();
        (broken, steps.len(), order)
    })?;
    if !turned {
        return Some((near.clone(), best));
    }
    let mut at = near.clone();
    let mut steps: Vec<(bool, i64, Id)> = Vec::new();
    for (counts, time, next) in best {
        steps.push((counts, time, std::mem::replace(&mut at, next)));
    }
    steps.reverse();
    Some((at, steps))
}

fn ways(
    links: &[TextLink],
    far: &Id,
    visited: &mut Vec<Id>,
    steps: &mut Vec<(bool, i64, Id)>,
    found: &mut Vec<Vec<(bool, i64, Id)>>,
) {
    let at = visited.last().cloned().expect("a way starts somewhere");
    if at == *far {
        found.push(steps.clone());
        return;
    }
    for (a, b, counts, time) in links {
        let next = if *a == at { b } else { a };
        if (*a == at || *b == at) && !visited.contains(next) {
            visited.push(next.clone());
            steps.push((*counts, *time, next.clone()));
            ways(links, far, visited, steps, found);
            visited.pop();
            steps.pop();
        }
    }
}

fn any_id() -> impl Strategy<Value = Id> {
    (0..3_u8, 0..3_u8).prop_map(|(type_code, text)| id(type_code, &text.to_string()))
}

fn any_link() -> impl Strategy<Value = TextLink> {
    let time = prop_oneof![4 => 0..4_i64, 1 => Just(NO_TIME)];
    (any_id(), any_id(), prop::bool::weighted(0.7), time).prop_filter("two ends", |(a, b, ..)| a != b)
}

proptest! {
    #[test]
    fn the_search_finds_what_trying_every_way_finds(
        links in prop::collection::vec(any_link(), 0..10),
        (from, to) in (any_id(), any_id()),
    ) {
        // a pair is linked once
        let mut once: Vec<TextLink> = Vec::new();
        for link in links {
            let same = |known: &TextLink| {
                (&known.0, &known.1) == (&link.0, &link.1) || (&known.0, &known.1) == (&link.1, &link.0)
            };
            if !once.iter().any(same) {
                once.push(link);
            }
        }
        let ends = [from.clone(), to.clone()];
        let coded = Coded::new(&ends, &once);
        let expected = naive(&once, &from, &to);
        prop_assert_eq!(&coded.between(&from, &to), &expected);
        once.reverse();
        prop_assert_eq!(Coded::new(&ends, &once).between(&from, &to), expected);
    }
}
