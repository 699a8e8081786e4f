//! `max_per_entity` with `within`: how many identifiers of a type two sides hold that were first seen within one period.
//!
//! A period of length `within` that begins at `t` has the times from `t` up to, but not at, `t + within`. An identifier
//! without a time is in every period. Two sides hold too many together if some period has more than the limit and both
//! sides have some in it; of several such periods the fullest counts, then the earliest.

use std::collections::BTreeMap;
use std::mem;

use super::interner::NO_TIME;

/// First-seen times of one side's identifiers of a type: how many at each time, and how many have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Times {
    timed: BTreeMap<i64, u32>,
    untimed: u32,
}

impl Times {
    pub(super) fn add(&mut self, first_seen: i64) {
        if first_seen == NO_TIME {
            self.untimed += 1;
        } else {
            *self.timed.entry(first_seen).or_default() += 1;
        }
    }

    /// Takes in another side; the time is that of the smaller side.
    pub(super) fn take_in(&mut self, mut other: Self) {
        if self.timed.len() < other.timed.len() {
            mem::swap(self, &mut other);
        }
        self.untimed += other.untimed;
        for (time, count) in other.timed {
            *self.timed.entry(time).or_default() += count;
        }
    }

    /// Whether some period has more than `most`.
    pub(super) fn exceed(&self, most: u32, within: i64) -> bool {
        let counts = self.timed.iter().map(|(time, count)| (*time, [*count, 0]));
        fullest(counts.collect(), within).is_some_and(|[count, _]| count + self.untimed > most) || self.untimed > most
    }

    /// What this side and another one hold of the fullest period that has more than `most` of both together and some
    /// of each.
    pub(super) fn together(&self, other: &Self, most: u32, within: i64) -> Option<(u32, u32)> {
        let untimed = [self.untimed, other.untimed];
        let mut counts = if untimed == [0, 0] { self.near(other, within) } else { self.both(other) };
        counts.sort_unstable_by_key(|(time, _)| *time);
        let periods = periods(&counts, within).chain([[0, 0]]).map(|held| [held[0] + untimed[0], held[1] + untimed[1]]);
        let too_many = periods.filter(|held| held[0] > 0 && held[1] > 0 && held[0] + held[1] > most);
        // the first of the greatest
        too_many
            .fold(None, |best: Option<[u32; 2]>, held| match best {
                Some(best) if best[0] + best[1] >= held[0] + held[1] => Some(best),
                _ => Some(held),
            })
            .map(|held| (held[0], held[1]))
    }

    /// All times of both sides.
    fn both(&self, other: &Self) -> Vec<(i64, [u32; 2])> {
        let own = self.timed.iter().map(|(time, count)| (*time, [*count, 0]));
        own.chain(other.timed.iter().map(|(time, count)| (*time, [0, *count]))).collect()
    }

    /// Times of both sides that share a period with one of the smaller side: no other period has some of both.
    fn near(&self, other: &Self, within: i64) -> Vec<(i64, [u32; 2])> {
        let swapped = other.timed.len() < self.timed.len();
        let (smaller, larger) = if swapped { (other, self) } else { (self, other) };
        let place = usize::from(swapped);
        let counts_at = |place: usize, count: u32| if place == 0 { [count, 0] } else { [0, count] };
        let mut near: Vec<(i64, [u32; 2])> = Vec::new();
        let mut next = i64::MIN;
        for (&time, &count) in &smaller.timed {
            let from = next.max(time.saturating_sub(within).saturating_add(1));
            let to = time.saturating_add(within);
            if from < to {
                near.extend(larger.timed.range(from..to).map(|(time, count)| (*time, counts_at(1 - place, *count))));
                next = to;
            }
            near.push((time, counts_at(place, count)));
        }
        near
    }
}

/// How many of each side the period has that begins at each of the times; they are in order.
fn periods(counts: &[(i64, [u32; 2])], within: i64) -> impl Iterator<Item = [u32; 2]> + '_ {
    let mut end = 0;
    let mut held = [0, 0];
    counts.iter().map(move |(begin, own)| {
        while let Some((_, more)) = counts.get(end).filter(|(time, _)| time.saturating_sub(*begin) < within) {
            held = [held[0] + more[0], held[1] + more[1]];
            end += 1;
        }
        let full = held;
        held = [held[0] - own[0], held[1] - own[1]];
        full
    })
}

fn fullest(counts: Vec<(i64, [u32; 2])>, within: i64) -> Option<[u32; 2]> {
    periods(&counts, within).max_by_key(|held| held[0] + held[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times(list: &[i64]) -> Times {
        let mut times = Times::default();
        for time in list {
            times.add(*time);
        }
        times
    }

    /// The definition: every period that begins at some time of either side, or none at all.
    fn plainly(a: &[i64], b: &[i64], most: u32, within: i64) -> Option<(u32, u32)> {
        let mut begins: Vec<i64> = a.iter().chain(b).copied().filter(|time| *time != NO_TIME).collect();
        begins.sort_unstable();
        let in_period = |list: &[i64], begin: Option<i64>| {
            let inside = |time: &&i64| **time == NO_TIME || begin.is_some_and(|t| t <= **time && **time - t < within);
            list.iter().filter(inside).count() as u32
        };
        let mut best: Option<(u32, u32)> = None;
        for begin in begins.into_iter().map(Some).chain([None]) {
            let held = (in_period(a, begin), in_period(b, begin));
            let too_many = held.0 > 0 && held.1 > 0 && held.0 + held.1 > most;
            if too_many && best.is_none_or(|best| held.0 + held.1 > best.0 + best.1) {
                best = Some(held);
            }
        }
        best
    }

    #[test]
    fn only_identifiers_of_one_period_count_together() {
        let (a, b) = (times(&[0, 10]), times(&[20, 29]));
        assert_eq!(a.together(&b, 2, 10), None, "10 and 20 are not in one period of 10");
        assert_eq!(a.together(&b, 2, 11), None, "10 and 20 are two");
        assert_eq!(a.together(&b, 2, 20), Some((1, 2)));
        assert_eq!(a.together(&times(&[NO_TIME, NO_TIME]), 2, 5), Some((1, 2)));
        assert!(times(&[1, 2, 3]).exceed(2, 3) && !times(&[1, 2, 4]).exceed(2, 3));
        assert!(times(&[NO_TIME, 7]).exceed(1, 1) && times(&[NO_TIME, NO_TIME]).exceed(1, 1));
    }

    fn any_times() -> impl Strategy<Value = Vec<i64>> {
        prop::collection::vec(prop_oneof![6 => 0..30_i64, 1 => Just(NO_TIME)], 0..8)
    }

    proptest! {
        #[test]
        fn equals_the_definition(a in any_times(), b in any_times(), most in 1..5_u32, within in 1..12_i64) {
            prop_assert_eq!(times(&a).together(&times(&b), most, within), plainly(&a, &b, most, within));
            let mut joined = times(&a);
            joined.take_in(times(&b));
            prop_assert_eq!(&joined, &times(&[a.clone(), b.clone()].concat()));
            let all = [a, b].concat();
            let begins = all.iter().copied().filter(|time| *time != NO_TIME);
            let count = |begin: i64| all.iter().filter(|t| **t == NO_TIME || (begin <= **t && **t - begin < within)).count();
            let untimed = all.iter().filter(|time| **time == NO_TIME).count();
            let fullest = begins.map(count).max().unwrap_or(untimed);
            prop_assert_eq!(joined.exceed(most, within), fullest > most as usize);
        }
    }
}
