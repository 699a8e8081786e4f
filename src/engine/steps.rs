//! What became of each step of a sequence, over the events of one entity: for those who ask why.
//!
//! A sequence holds if some choice of rows satisfies all steps, so there may be many ways to hold and many to
//! fail. One is told: the choice that satisfies the most steps, and of those the one with the latest rows, step
//! by step. The step after the last that it satisfies is the one that failed; what comes behind was not reached.

use super::functions::{Anchor, Event, SequenceSpec};

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepOutcome {
    /// This row was chosen.
    Chosen(usize),
    /// A `not` step: no row stands against it.
    Absent(Window),
    /// No row could be chosen; the window, unless the step is the first, and the rows that match outside of it.
    Missing(Option<Window>, Vec<usize>),
    /// A `not` step against which these rows stand.
    Against(Window, Vec<usize>),
    /// A `not` step whose window had not passed.
    Open(Window),
    /// The steps before it did not get that far.
    NotReached,
}

/// When a step's rows count; an end that never comes is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Where it begins, in microseconds.
    pub from: i64,
    /// Where it ends.
    pub until: Option<i64>,
}

/// The outcome of every step over events sorted by time.
pub(super) fn outcomes(spec: &SequenceSpec, events: &[Event]) -> Vec<StepOutcome> {
    let count = spec.steps.len();
    let reached = (1..=count).take_while(|length| prefix(spec, *length).holds(events)).count();
    let mut outcomes = Vec::with_capacity(count);
    let mut narrowed = events.to_vec();
    let mut chosen = Vec::new();
    let held = prefix(spec, reached);
    for index in 0..count {
        outcomes.push(if index > reached {
            StepOutcome::NotReached
        } else if index == reached {
            failed(spec, events, &chosen, index)
        } else if spec.steps[index].negated {
            StepOutcome::Absent(window(spec, events, &chosen, index).0)
        } else {
            let row = choose(&held, &mut narrowed, index);
            chosen.push(row);
            StepOutcome::Chosen(row)
        });
    }
    outcomes
}

fn prefix(spec: &SequenceSpec, length: usize) -> SequenceSpec {
    SequenceSpec { steps: spec.steps[..length].to_vec(), ..spec.clone() }
}

/// The latest row with which the steps still hold; the others no longer match this step.
fn choose(held: &SequenceSpec, events: &mut Vec<Event>, index: usize) -> usize {
    let bit = 1_u64 << index;
    let mut rows: Vec<usize> = (0..events.len()).rev().filter(|row| events[*row].steps & bit != 0).collect();
    // `pick: earliest` leaves one row to choose; `latest` is the order in which rows are tried anyway
    if index == 0 && held.anchor == Anchor::Earliest {
        rows.drain(..rows.len().saturating_sub(1));
    }
    for row in rows {
        let mut only = events.clone();
        for (other, event) in only.iter_mut().enumerate().filter(|(other, _)| *other != row) {
            debug_assert_ne!(other, row, "the chosen row keeps its step");
            event.steps &= !bit;
        }
        if held.holds(&only) {
            *events = only;
            return row;
        }
    }
    0
}

fn window(spec: &SequenceSpec, events: &[Event], chosen: &[usize], index: usize) -> (Window, Vec<usize>) {
    let (from, until, rows) = spec.window(events, chosen, index);
    (Window { from, until: Some(until).filter(|end| *end != i64::MAX) }, rows)
}

fn failed(spec: &SequenceSpec, events: &[Event], chosen: &[usize], index: usize) -> StepOutcome {
    let matching = || (0..events.len()).filter(|row| events[*row].steps >> index & 1 == 1).collect();
    if chosen.is_empty() {
        return StepOutcome::Missing(None, matching());
    }
    let (window, rows) = window(spec, events, chosen, index);
    if !spec.steps[index].negated {
        StepOutcome::Missing(Some(window), matching())
    } else if rows.is_empty() {
        StepOutcome::Open(window)
    } else {
        StepOutcome::Against(window, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::functions::{NULL, SequenceStep};
    use super::*;

    fn spec(steps: &[(bool, Option<i64>)]) -> SequenceSpec {
        let step = |(negated, within): &(bool, Option<i64>)| SequenceStep {
            negated: *negated,
            within: *within,
            of_first: false,
            inclusive: false,
            open: false,
            same: false,
        };
        SequenceSpec { anchor: Anchor::Any, steps: steps.iter().map(step).collect(), as_of: 100 }
    }

    fn events(rows: &[(i64, u64)]) -> Vec<Event> {
        rows.iter().map(|(time, steps)| Event { time: *time, steps: *steps, same: NULL }).collect()
    }

    const fn until(from: i64, until: i64) -> Window {
        Window { from, until: Some(until) }
    }

    #[test]
    fn the_latest_choice_that_holds_is_told() {
        let spec = spec(&[(false, None), (false, Some(10)), (true, Some(10))]);
        let rows = events(&[(1, 1), (5, 2), (20, 1), (25, 2), (60, 1)]);
        let expected = [StepOutcome::Chosen(2), StepOutcome::Chosen(3), StepOutcome::Absent(until(25, 35))];
        assert_eq!(outcomes(&spec, &rows), expected);
    }

    #[test]
    fn the_step_that_failed_says_how() {
        let spec = spec(&[(false, None), (true, Some(10)), (false, None)]);
        let nothing = [StepOutcome::Missing(None, vec![]), StepOutcome::NotReached, StepOutcome::NotReached];
        assert_eq!(outcomes(&spec, &[]), nothing);
        let against = outcomes(&spec, &events(&[(1, 1), (5, 2), (6, 2)]));
        assert_eq!(against[1], StepOutcome::Against(until(1, 11), vec![1, 2]));
        assert_eq!(against[2], StepOutcome::NotReached);
        assert_eq!(outcomes(&spec, &events(&[(95, 1)]))[1], StepOutcome::Open(until(95, 105)));
        let missing = outcomes(&spec, &events(&[(3, 4), (5, 1)]));
        let endless = Window { from: 5, until: None };
        assert_eq!(missing[1..], [StepOutcome::Absent(until(5, 15)), StepOutcome::Missing(Some(endless), vec![0])]);
    }

    #[test]
    fn an_earliest_anchor_is_the_earliest() {
        let spec = SequenceSpec { anchor: Anchor::Earliest, ..spec(&[(false, None), (false, None)]) };
        let told = outcomes(&spec, &events(&[(1, 1), (2, 1), (3, 2)]));
        assert_eq!(told, [StepOutcome::Chosen(0), StepOutcome::Chosen(2)]);
    }
}
