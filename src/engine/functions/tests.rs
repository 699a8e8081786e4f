//! The grouped aggregates against slow and obvious references: however rows are split over partial states, the
//! result is that of all rows together.

use super::pick::{PickFirst, Returns};
use super::sequence::{Anchor, Event, Sequence, SequenceSpec, SequenceStep};
use super::tally::{Finish, Tally};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDFImpl, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::expressions::col;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A row: group, time, value.
type Row = (usize, Option<i64>, Option<String>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![Just(None), "[abc]{1,2}".prop_map(Some)];
    prop::collection::vec((0..4_usize, prop::option::of(0..5_i64), value), 0..40)
}

/// The steps of a sequence that a row matches: the first, the second or both.
fn steps_of(row: &Row) -> Option<u64> {
    row.1.map(|time| 1 + time.unsigned_abs() % 3)
}

fn batch(rows: &[Row]) -> RecordBatch {
    let times: Int64Array = rows.iter().map(|r| r.1).collect();
    let values: StringArray = rows.iter().map(|r| r.2.as_deref()).collect();
    let step = |bit: u64| -> ArrayRef {
        let matched: BooleanArray = rows.iter().map(|r| steps_of(r).map(|steps| steps & bit != 0)).collect();
        Arc::new(matched)
    };
    let schema = Schema::new(vec![
        Field::new("time", DataType::Int64, true),
        Field::new("value", DataType::Utf8, true),
        Field::new("first", DataType::Boolean, true),
        Field::new("second", DataType::Boolean, true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(times), Arc::new(values), step(1), step(2)]).unwrap()
}

fn state(function: &dyn AggregateUDFImpl, columns: &[&str]) -> Box<dyn GroupsAccumulator> {
    let schema = batch(&[]).schema();
    let exprs: Vec<_> = columns.iter().map(|c| col(c, &schema).unwrap()).collect();
    let fields: Vec<_> = columns.iter().map(|c| Arc::new(schema.field_with_name(c).unwrap().clone())).collect();
    let types: Vec<_> = fields.iter().map(|f| f.data_type().clone()).collect();
    let arguments = AccumulatorArgs {
        return_field: Arc::new(Field::new("out", function.return_type(&types).unwrap(), true)),
        schema: &schema,
        ignore_nulls: false,
        order_bys: &[],
        is_reversed: false,
        name: "out",
        is_distinct: false,
        exprs: &exprs,
        expr_fields: &fields,
    };
    function.create_groups_accumulator(arguments).unwrap()
}

fn fill(state: &mut dyn GroupsAccumulator, columns: &[&str], rows: &[Row]) {
    let batch = batch(rows);
    let arrays: Vec<ArrayRef> = columns.iter().map(|c| Arc::clone(batch.column_by_name(c).unwrap())).collect();
    let groups: Vec<usize> = rows.iter().map(|r| r.0).collect();
    state.update_batch(&arrays, &groups, None, 4).unwrap();
}

/// The result over two partial states, one of which is handed over in two parts or row by row.
fn in_parts(function: &dyn AggregateUDFImpl, columns: &[&str], rows: &[Row], cut: usize, by_row: bool) -> ArrayRef {
    let (left, right) = rows.split_at(cut.min(rows.len()));
    let mut whole = state(function, columns);
    let mut part = state(function, columns);
    fill(part.as_mut(), columns, left);
    let first = part.state(EmitTo::First(2)).unwrap();
    whole.merge_batch(&first, &[0, 1], 4).unwrap();
    let rest = part.state(EmitTo::All).unwrap();
    whole.merge_batch(&rest, &[2, 3], 4).unwrap();
    if by_row && !right.is_empty() {
        let batch = batch(right);
        let arrays: Vec<ArrayRef> = columns.iter().map(|c| Arc::clone(batch.column_by_name(c).unwrap())).collect();
        let states = state(function, columns).convert_to_state(&arrays, None).unwrap();
        let groups: Vec<usize> = right.iter().map(|r| r.0).collect();
        whole.merge_batch(&states, &groups, 4).unwrap();
    } else {
        let mut part = state(function, columns);
        fill(part.as_mut(), columns, right);
        // parts of one column, as a bucket of the fold gets them
        let states = part.state(EmitTo::All).unwrap();
        for (start, groups) in [(0, &[0][..]), (1, &[1, 2]), (3, &[3])] {
            let slices: Vec<ArrayRef> = states.iter().map(|state| state.slice(start, groups.len())).collect();
            whole.merge_batch(&slices, groups, 4).unwrap();
        }
    }
    whole.evaluate(EmitTo::All).unwrap()
}

fn texts(array: &ArrayRef) -> Vec<Option<String>> {
    array.as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect()
}

fn counts(rows: &[Row], group: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for value in rows.iter().filter(|r| r.0 == group).filter_map(|r| r.2.clone()) {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts
}

proptest! {
    #[test]
    fn tallies_do_not_depend_on_the_split(rows in rows(), cut in 0..40_usize, by_row: bool) {
        let most = in_parts(&Tally::new(Finish::MostFrequent), &["value"], &rows, cut, by_row);
        let unique = in_parts(&Tally::new(Finish::UniqueCount), &["value"], &rows, cut, by_row);
        let list = in_parts(&Tally::new(Finish::UniqueList), &["value"], &rows, cut, by_row);
        for group in 0..4 {
            let counts = counts(&rows, group);
            let top = counts.values().max().copied();
            let smallest = counts.iter().find(|(_, n)| Some(**n) == top).map(|(v, _)| v.clone());
            prop_assert_eq!(&texts(&most)[group], &smallest);
            prop_assert_eq!(unique.as_primitive::<Int64Type>().value(group), counts.len() as i64);
            let all: Option<Vec<Option<String>>> = (!list.is_null(group)).then(|| texts(&list.as_list::<i32>().value(group)));
            let wanted: Vec<Option<String>> = counts.into_keys().map(Some).collect();
            prop_assert_eq!(all.unwrap_or_default(), wanted);
        }
    }

    #[test]
    fn first_and_last_take_the_smallest_of_equal_times(rows in rows(), cut in 0..40_usize, by_row: bool) {
        for descending in [false, true] {
            let pick = PickFirst::new(vec![descending], Returns::Value);
            let picked = texts(&in_parts(&pick, &["time", "value"], &rows, cut, by_row));
            for (group, picked) in picked.into_iter().enumerate() {
                let mut candidates: Vec<(bool, i64, String)> = rows
                    .iter()
                    .filter(|r| r.0 == group)
                    .filter_map(|r| Some((r.1.is_none(), r.1.unwrap_or(0) * if descending { -1 } else { 1 }, r.2.clone()?)))
                    .collect();
                candidates.sort();
                prop_assert_eq!(picked, candidates.into_iter().next().map(|c| c.2));
            }
        }
    }

    #[test]
    fn sequences_do_not_depend_on_the_split(rows in rows(), cut in 0..40_usize, by_row: bool, within in 1..3_i64) {
        let step = |within| SequenceStep { negated: false, within, of_first: false, inclusive: false, open: false, same: false };
        let spec = SequenceSpec { anchor: Anchor::Earliest, steps: vec![step(None), step(Some(within))], as_of: 9 };
        let found = in_parts(&Sequence::new(spec.clone()), &["time", "value", "first", "second"], &rows, cut, by_row);
        for group in 0..4 {
            let of_group = rows.iter().filter(|row| row.0 == group);
            let mut events: Vec<Event> =
                of_group.filter_map(|row| Some(Event { time: row.1?, steps: steps_of(row)?, same: 0 })).collect();
            events.sort_unstable();
            prop_assert_eq!(found.as_boolean().value(group), brute_force(&spec, &events), "group {}", group);
        }
    }

    #[test]
    fn sequences_hold_when_some_choice_of_rows_does(
        events in prop::collection::vec((0..8_i64, 1..8_u64, 0..2_u32), 0..7),
        steps in prop::collection::vec((any::<bool>(), prop::option::of(0..5_i64), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()), 2..3),
        anchor in 0..3_u8,
        as_of in 6..12_i64,
    ) {
        let mut events: Vec<Event> = events.into_iter().map(|(time, steps, same)| Event { time, steps, same }).collect();
        events.sort_unstable();
        let first = SequenceStep { negated: false, within: None, of_first: false, inclusive: false, open: false, same: false };
        let rest = steps.into_iter().map(|(negated, within, of_first, inclusive, open, same)| SequenceStep { negated, within, of_first, inclusive, open, same });
        let anchor = [Anchor::Any, Anchor::Latest, Anchor::Earliest][usize::from(anchor)];
        let spec = SequenceSpec { anchor, steps: std::iter::once(first).chain(rest).collect(), as_of };
        prop_assert_eq!(spec.holds(&events), brute_force(&spec, &events), "{:?} over {:?}", spec, events);
    }
}

/// Tries every tuple of rows.
fn brute_force(spec: &SequenceSpec, events: &[Event]) -> bool {
    let anchors: Vec<usize> = (0..events.len()).filter(|i| events[*i].steps & 1 == 1).collect();
    let times = || anchors.iter().map(|a| events[*a].time);
    let end = match spec.anchor {
        Anchor::Any => None,
        Anchor::Latest => times().max(),
        Anchor::Earliest => times().min(),
    };
    // rows of one moment have no order
    let anchors: Vec<usize> =
        anchors.iter().copied().filter(|a| end.is_none_or(|end| events[*a].time == end)).collect();
    let positive = spec.steps.iter().skip(1).filter(|s| !s.negated).count();
    anchors.into_iter().any(|anchor| tuples(events.len(), positive).any(|rest| fits(spec, events, anchor, &rest)))
}

fn tuples(rows: usize, length: usize) -> Box<dyn Iterator<Item = Vec<usize>>> {
    if length == 0 {
        return Box::new(std::iter::once(Vec::new()));
    }
    Box::new(
        (0..rows).flat_map(move |first| {
            tuples(rows, length - 1).map(move |rest| std::iter::once(first).chain(rest).collect())
        }),
    )
}

/// Whether this choice of rows satisfies all steps, by the words of the language's description.
fn fits(spec: &SequenceSpec, events: &[Event], anchor: usize, rest: &[usize]) -> bool {
    let mut chosen = vec![anchor];
    let mut next = rest.iter();
    for (index, step) in spec.steps.iter().enumerate().skip(1) {
        let origin = events[if step.of_first { anchor } else { chosen[chosen.len() - 1] }].time;
        let inside = |e: &Event| {
            let after = if step.inclusive { e.time >= origin } else { e.time > origin };
            let in_time = step.within.is_none_or(|w| e.time <= origin + w);
            let same = !step.same || e.same == events[anchor].same;
            after && in_time && same && e.steps >> index & 1 == 1
        };
        if step.negated {
            let passed = step.open || step.within.is_some_and(|w| origin + w <= spec.as_of);
            let free: BTreeSet<usize> = (0..events.len()).filter(|i| !chosen.contains(i)).collect();
            if !passed || free.iter().any(|i| inside(&events[*i])) {
                return false;
            }
        } else {
            let Some(row) = next.next() else { return false };
            if chosen.contains(row) || !inside(&events[*row]) {
                return false;
            }
            chosen.push(*row);
        }
    }
    true
}
