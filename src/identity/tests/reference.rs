//! The rules once more, as slowly and plainly as they are written.

use std::collections::{BTreeMap, BTreeSet};

use super::super::entity_id::IdMaker;
use super::super::*;
use super::world::{Id, Outcome, Pair, Reason, World, pair};

/// Rules 2 and 3.
pub(super) fn stitched(world: &World) -> Outcome {
    let links = links(world);
    let hubs = hubs(world, &links);
    let is_hub = |id: &Id| hubs.iter().any(|hub| hub.0 == *id);
    let all: BTreeSet<Id> = world.rows.iter().flat_map(|row| row.ids.clone()).collect();
    let exists = |pair: &Pair| all.contains(&pair.0) && all.contains(&pair.1) && pair.0 != pair.1;
    let mut entities: Vec<BTreeSet<Id>> =
        all.iter().filter(|id| !is_hub(id)).map(|id| BTreeSet::from([id.clone()])).collect();
    let never: BTreeSet<(u8, Pair)> =
        world.never.iter().filter(|rule| exists(rule)).map(|rule| (rule.1.0, rule.clone())).collect();
    let always: BTreeSet<(u8, Pair)> =
        world.always.iter().filter(|rule| exists(rule)).map(|rule| (rule.1.0, rule.clone())).collect();
    let by_strength: BTreeSet<(u8, i64, Pair)> =
        links.iter().map(|(link, time)| (link.1.0, *time, link.clone())).collect();
    let mut refused_rules = BTreeMap::new();
    let mut refused_links = BTreeSet::new();
    for (_, rule) in &always {
        if let Some(hub) = [&rule.0, &rule.1].into_iter().find(|id| is_hub(id)) {
            refused_rules.insert(rule.clone(), Some(Reason::Hub(hub.clone())));
        } else if !join(world, &mut entities, rule, &never, false) {
            refused_rules.insert(rule.clone(), None);
        }
    }
    for (_, _, link) in &by_strength {
        if !is_hub(&link.0) && !is_hub(&link.1) && !join(world, &mut entities, link, &never, true) {
            refused_links.insert(link.clone());
        }
    }
    let why = |pair: &Pair| reason(world, &entities, pair, &never);
    Outcome {
        refused_links: refused_links.iter().map(|link| (link.clone(), why(link))).collect(),
        refused_rules: refused_rules
            .into_iter()
            .map(|(rule, reason)| (rule.clone(), reason.unwrap_or_else(|| why(&rule))))
            .collect(),
        entities: entities.into_iter().collect(),
        hubs,
    }
}

fn links(world: &World) -> BTreeMap<Pair, i64> {
    let mut links = BTreeMap::new();
    for row in &world.rows {
        for a in &row.ids {
            for b in row.ids.iter().filter(|b| *b != a) {
                let time = links.entry(pair(a.clone(), b.clone())).or_insert(row.time);
                *time = row.time.min(*time);
            }
        }
    }
    links
}

fn hubs(world: &World, links: &BTreeMap<Pair, i64>) -> BTreeSet<(Id, u32, u32, Option<u8>)> {
    let mut neighbours: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    for (a, b) in links.keys() {
        neighbours.entry(a.clone()).or_default().insert(b.clone());
        neighbours.entry(b.clone()).or_default().insert(a.clone());
    }
    let mut hubs = BTreeSet::new();
    for (id, neighbours) in neighbours {
        let limits: Vec<(Option<u8>, u32)> = match &world.types[usize::from(id.0)].max_links {
            MaxLinks::None => Vec::new(),
            MaxLinks::Any(limit) => vec![(None, *limit)],
            MaxLinks::ByNeighbour(limits) => {
                (0..).zip(limits).filter_map(|(code, limit)| limit.map(|limit| (Some(code), limit))).collect()
            }
        };
        for (of_type, limit) in limits {
            let degree = neighbours.iter().filter(|id| of_type.is_none_or(|code| id.0 == code)).count() as u32;
            if degree > limit {
                hubs.insert((id, degree, limit, of_type));
                break;
            }
        }
    }
    hubs
}

fn entity_of<'a>(entities: &'a [BTreeSet<Id>], id: &Id) -> &'a BTreeSet<Id> {
    static NONE: BTreeSet<Id> = BTreeSet::new();
    entities.iter().find(|entity| entity.contains(id)).unwrap_or(&NONE)
}

fn count(entity: &BTreeSet<Id>, type_code: usize) -> u32 {
    entity.iter().filter(|id| usize::from(id.0) == type_code).count() as u32
}

/// The types of which two entities that both hold some would hold too many.
fn exceeded(world: &World, a: &BTreeSet<Id>, b: &BTreeSet<Id>) -> Option<Reason> {
    (0..world.types.len()).find_map(|code| {
        let limit = world.types[code].max_per_entity?;
        if let Some(within) = world.types[code].within {
            return of_one_period(world, (a, b), code as u8, limit, within);
        }
        let (of_a, of_b) = (count(a, code), count(b, code));
        (of_a > 0 && of_b > 0 && of_a + of_b > limit).then_some(Reason::MaxPerEntity(code as u8, of_a, of_b, limit))
    })
}

/// As [`exceeded`], by the fullest and then earliest period that begins when some identifier was first seen.
fn of_one_period(
    world: &World,
    (a, b): (&BTreeSet<Id>, &BTreeSet<Id>),
    type_code: u8,
    limit: u32,
    within: i64,
) -> Option<Reason> {
    let seen = |id: &Id| {
        let rows = world.rows.iter().filter(|row| row.ids.contains(id));
        rows.map(|row| row.time).min().unwrap_or(NO_TIME)
    };
    let times = |side: &BTreeSet<Id>| side.iter().filter(|id| id.0 == type_code).map(seen).collect::<Vec<_>>();
    let (of_a, of_b) = (times(a), times(b));
    let begins: BTreeSet<i64> = of_a.iter().chain(&of_b).copied().collect();
    let mut best: Option<(u32, u32)> = None;
    for begin in begins {
        // nothing begins where there is no time, and what has none is in every period
        let inside =
            |time: &&i64| **time == NO_TIME || (begin != NO_TIME && begin <= **time && **time - begin < within);
        let held = (of_a.iter().filter(inside).count() as u32, of_b.iter().filter(inside).count() as u32);
        let too_many = held.0 > 0 && held.1 > 0 && held.0 + held.1 > limit;
        if too_many && best.is_none_or(|best| held.0 + held.1 > best.0 + best.1) {
            best = Some(held);
        }
    }
    best.map(|(of_a, of_b)| Reason::MaxPerEntity(type_code, of_a, of_b, limit))
}

fn kept_apart(a: &BTreeSet<Id>, b: &BTreeSet<Id>, never: &BTreeSet<(u8, Pair)>) -> Option<Reason> {
    let between =
        |(one, other): &&Pair| (a.contains(one) && b.contains(other)) || (b.contains(one) && a.contains(other));
    never.iter().map(|(_, rule)| rule).find(between).map(|rule| Reason::Never(rule.clone()))
}

fn join(
    world: &World,
    entities: &mut Vec<BTreeSet<Id>>,
    (a, b): &Pair,
    never: &BTreeSet<(u8, Pair)>,
    limited: bool,
) -> bool {
    let (of_a, of_b) = (entity_of(entities, a).clone(), entity_of(entities, b).clone());
    if of_a == of_b {
        return true;
    }
    if kept_apart(&of_a, &of_b, never).is_some() || (limited && exceeded(world, &of_a, &of_b).is_some()) {
        return false;
    }
    entities.retain(|entity| *entity != of_a && *entity != of_b);
    entities.push(&of_a | &of_b);
    true
}

fn reason(world: &World, entities: &[BTreeSet<Id>], (a, b): &Pair, never: &BTreeSet<(u8, Pair)>) -> Reason {
    let (of_a, of_b) = (entity_of(entities, a), entity_of(entities, b));
    let never = kept_apart(of_a, of_b, never);
    let nothing = Reason::Hub((u8::MAX, "no reason".to_owned()));
    never.or_else(|| exceeded(world, of_a, of_b)).unwrap_or(nothing)
}

/// A row of the registry in texts.
pub(super) type Known = (Id, EntityId, u64);

/// Rule 6: ids by entity, in the order of `entities`. `first_seen` has all identifiers that occur.
pub(super) fn named(
    entities: &[BTreeSet<Id>],
    first_seen: &BTreeMap<Id, i64>,
    registry: &[Known],
    types: &[TypePolicy],
    key: &[u8],
) -> Vec<EntityId> {
    let mut by_age: Vec<EntityId> = registry.iter().map(|row| row.1).collect();
    by_age.sort_unstable_by_key(|id| age(*id, first_seen, registry));
    by_age.dedup();
    let mut names: Vec<Option<EntityId>> = vec![None; entities.len()];
    // Staying and merging: oldest first, so that an entity keeps the first that comes.
    for &id in &by_age {
        if let Some(entity) = best_claim(entities, first_seen, registry, id, |_, current| current) {
            names[entity].get_or_insert(id);
        }
    }
    // Returning.
    for &id in &by_age {
        if !names.contains(&Some(id)) {
            let open = names.clone();
            let claim = best_claim(entities, first_seen, registry, id, |entity, _| open[entity].is_none());
            if let Some(entity) = claim {
                names[entity] = Some(id);
            }
        }
    }
    // Fresh: by anchor, so that the smaller anchor chooses first.
    let anchor = |entity: &BTreeSet<Id>| entity.iter().min_by_key(|id| (first_seen.get(*id), (*id).clone())).cloned();
    let mut anchors: Vec<(Id, usize)> =
        entities.iter().enumerate().filter_map(|(index, entity)| Some((anchor(entity)?, index))).collect();
    anchors.sort();
    let maker = IdMaker::new(key);
    for (anchor, index) in anchors.into_iter().filter(|(_, index)| names[*index].is_none()).collect::<Vec<_>>() {
        let name = &types[usize::from(anchor.0)].name;
        let free = |id: &EntityId| !by_age.contains(id) && !names.contains(&Some(*id));
        names[index] = (0..1_000).map(|attempt| maker.id(name, &anchor.1, attempt)).find(free);
    }
    names.into_iter().flatten().collect()
}

fn age(id: EntityId, first_seen: &BTreeMap<Id, i64>, registry: &[Known]) -> (u64, bool, Option<(i64, Id)>, EntityId) {
    let rows = || registry.iter().filter(|row| row.1 == id);
    let run = rows().map(|row| row.2).min().unwrap_or_default();
    let earliest = rows().filter_map(|row| Some((*first_seen.get(&row.0)?, row.0.clone()))).min();
    (run, earliest.is_none(), earliest, id)
}

/// The entity with the best claim to an id among those that `may` have it, given whether the id is current there.
fn best_claim(
    entities: &[BTreeSet<Id>],
    first_seen: &BTreeMap<Id, i64>,
    registry: &[Known],
    id: EntityId,
    may: impl Fn(usize, bool) -> bool,
) -> Option<usize> {
    let mut claims = Vec::new();
    for (identifier, _, _) in registry.iter().filter(|row| row.1 == id) {
        let Some(entity) = entities.iter().position(|entity| entity.contains(identifier)) else { continue };
        let rows = || registry.iter().filter(|row| row.0 == *identifier);
        let current = rows().max_by_key(|row| row.2).map(|row| row.1) == Some(id);
        let first = rows().min_by_key(|row| row.2).map(|row| row.1) == Some(id);
        if may(entity, current) {
            let seen = first_seen.get(identifier);
            claims.push((!current, !first, identifier.0, seen, identifier.1.clone(), entity));
        }
    }
    claims.into_iter().min().map(|claim| claim.5)
}
