//! Who of those that a condition finds are members in the end. Pure: over entity codes.
//!
//! In this order: people of an `include` list are added; those of an `exclude` list go; those whom an audience
//! that comes first in the group took go; some are held out; the first few by rank stay. Nothing that comes later
//! brings anybody back, so exclusion wins over all.
//!
//! - An audience takes its members and those whom it holds out: a person who is held out gets nothing of the whole
//!   group. Those beyond `top` are not taken.
//! - People of an include list are never held out, and rank before all others.
//! - `top` counts members. Held out are only those who rank before the last member: the others would not have been
//!   members anyway.

use std::collections::{BTreeMap, BTreeSet};

/// Who was found, by entity code; with a reason for those whom only an include list has.
pub(super) type Found = BTreeMap<u32, Option<String>>;

/// Who belongs to an audience, by entity code.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    /// Members, with a reason for those added by hand.
    pub codes: Found,
    /// Those who would be members, and are left out at random.
    pub held_out: BTreeSet<u32>,
}

impl Members {
    /// Members without a reason of their own.
    pub(super) fn from_codes(codes: impl IntoIterator<Item = u32>) -> Self {
        Self { codes: codes.into_iter().map(|c| (c, None)).collect(), held_out: BTreeSet::new() }
    }

    /// One flag per entity.
    pub(super) fn flags(&self, rows: usize) -> Vec<bool> {
        let mut flags = vec![false; rows];
        for code in self.codes.keys() {
            if let Some(flag) = flags.get_mut(*code as usize) {
                *flag = true;
            }
        }
        flags
    }

    /// Everybody whom later audiences of the group may not have.
    pub(super) fn taken(&self) -> impl Iterator<Item = u32> + '_ {
        self.codes.keys().chain(&self.held_out).copied()
    }
}

/// What narrows an audience.
#[derive(Default)]
pub(super) struct Rules<'a> {
    /// People of include lists.
    pub picked: BTreeSet<u32>,
    /// People whom earlier audiences of the group took.
    pub taken: BTreeSet<u32>,
    /// Whether a person is held out.
    pub held_out: Option<&'a dyn Fn(u32) -> bool>,
    /// At most so many members, and how two people rank.
    pub top: Option<(u32, &'a Rank<'a>)>,
}

/// An order of people without ties.
pub(super) type Rank<'a> = dyn Fn(u32, u32) -> std::cmp::Ordering + 'a;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Narrowed {
    pub members: Members,
    /// How many an earlier audience of the group took.
    pub in_group: u64,
    /// How many rank behind the last member.
    pub beyond_top: u64,
}

/// Applies the rules to those who were found.
pub(super) fn narrow(mut found: Found, rules: &Rules<'_>) -> Narrowed {
    let before = found.len();
    found.retain(|code, _| !rules.taken.contains(code));
    let mut narrowed = Narrowed { in_group: (before - found.len()) as u64, ..Narrowed::default() };
    let mut order: Vec<u32> = found.keys().copied().collect();
    let mut most = usize::MAX;
    if let Some((rows, rank)) = rules.top {
        most = rows as usize;
        let unpicked = |code: &u32| !rules.picked.contains(code);
        order.sort_by(|a, b| unpicked(a).cmp(&unpicked(b)).then_with(|| rank(*a, *b)));
    }
    let members = &mut narrowed.members;
    for code in order {
        let held_out = |is: &dyn Fn(u32) -> bool| is(code) && !rules.picked.contains(&code);
        if members.codes.len() >= most {
            narrowed.beyond_top += 1;
        } else if rules.held_out.is_some_and(held_out) {
            members.held_out.insert(code);
        } else if let Some(reason) = found.remove(&code) {
            members.codes.insert(code, reason);
        }
    }
    narrowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(codes: &[u32]) -> Found {
        codes.iter().map(|c| (*c, None)).collect()
    }

    fn codes(members: &Members) -> Vec<u32> {
        members.codes.keys().copied().collect()
    }

    #[test]
    fn whom_the_group_took_is_gone() {
        let rules = Rules { taken: BTreeSet::from([2, 9]), picked: BTreeSet::from([2]), ..Rules::default() };
        let narrowed = narrow(of(&[1, 2, 3]), &rules);
        assert_eq!((codes(&narrowed.members), narrowed.in_group), (vec![1, 3], 1));
    }

    #[test]
    fn a_person_picked_by_hand_is_never_held_out() {
        let even = |code: u32| code.is_multiple_of(2);
        let rules = Rules { held_out: Some(&even), picked: BTreeSet::from([4]), ..Rules::default() };
        let members = narrow(of(&[1, 2, 4]), &rules).members;
        assert_eq!((codes(&members), members.held_out.clone()), (vec![1, 4], BTreeSet::from([2])));
        assert_eq!(members.taken().collect::<BTreeSet<u32>>(), BTreeSet::from([1, 2, 4]));
    }

    #[test]
    fn top_counts_members_and_holds_out_whom_ranks_before_the_last() {
        // 5 ranks first; 4 and 2 are held out
        let even = |code: u32| code.is_multiple_of(2);
        let rank = |a: u32, b: u32| b.cmp(&a);
        let rules = Rules { held_out: Some(&even), top: Some((2, &rank)), ..Rules::default() };
        let narrowed = narrow(of(&[1, 2, 3, 4, 5]), &rules);
        assert_eq!(codes(&narrowed.members), [3, 5]);
        assert_eq!(narrowed.members.held_out, BTreeSet::from([4]));
        assert_eq!(narrowed.beyond_top, 2);
    }

    #[test]
    fn whom_a_list_has_ranks_before_all_others() {
        let rank = |a: u32, b: u32| a.cmp(&b);
        let rules = Rules { picked: BTreeSet::from([7]), top: Some((2, &rank)), ..Rules::default() };
        assert_eq!(codes(&narrow(of(&[1, 2, 7]), &rules).members), [1, 7]);
    }
}
