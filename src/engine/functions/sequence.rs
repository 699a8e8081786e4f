//! `sequence` conditions: per group the short list of matching events, evaluated once at the end.
//!
//! The arguments are the event's time (microseconds), the value for `same:` (null when unused) and, by step, whether the
//! event matches it (null is no). Rows that match no step are not kept. Steps of many sequences ask the same of a row, so
//! they are arguments of their own, which the fold computes once, and not one number. Rules (language.md): the
//! first step is the anchor; a step's window opens at the last positive step before it, or at the anchor
//! with `of: first`; it is open at its start and closed at its end, `inclusive` closes both; chosen rows
//! are distinct; a `not` step holds when no unchosen event lies in its window and, unless `open`, the
//! window has passed at `as_of`.

use super::rows::{all, items, true_rows, wanted};
use super::single::{Grouped, SingleGroup};
use super::values::{NULL, ValueCoder};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use datafusion::arrow::buffer::{BooleanBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use std::cmp::Ordering;
use std::sync::Arc;

/// Place of the value for `same:` among the arguments.
pub(crate) const SAME: usize = 1;
/// Place of the first step's argument.
pub(crate) const STEPS: usize = 2;

/// One step of a sequence, ready to evaluate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SequenceStep {
    pub negated: bool,
    /// Window length in microseconds.
    pub within: Option<i64>,
    pub of_first: bool,
    pub inclusive: bool,
    pub open: bool,
    pub same: bool,
}

/// Which anchors are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Anchor {
    Any,
    Latest,
    Earliest,
}

/// A whole sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SequenceSpec {
    pub anchor: Anchor,
    pub steps: Vec<SequenceStep>,
    /// Logical time in microseconds.
    pub as_of: i64,
}

/// An event that matches some step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub time: i64,
    pub steps: u64,
    pub same: u32,
}

impl SequenceSpec {
    /// Whether the sequence holds over events sorted by time.
    pub(crate) fn holds(&self, events: &[Event]) -> bool {
        let anchors = (0..events.len()).filter(|i| events[*i].steps & 1 == 1);
        let end = match self.anchor {
            Anchor::Any => None,
            Anchor::Latest => anchors.clone().next_back(),
            Anchor::Earliest => anchors.clone().next(),
        };
        let may_begin = |anchor: &usize| end.is_none_or(|end| events[*anchor].time == events[end].time);
        if self.is_chain() {
            let anchors: Vec<usize> = anchors.filter(may_begin).collect();
            return self.chain_holds(events, &anchors);
        }
        let mut search = Search { spec: self, events, chosen: Vec::new() };
        // rows of one moment have no order: each of them may be the anchor
        anchors.filter(may_begin).any(|anchor| search.from(anchor))
    }

    /// Where the window of a step begins and ends once these rows are chosen, and the other rows that match the step
    /// inside it.
    pub(crate) fn window(&self, events: &[Event], chosen: &[usize], index: usize) -> (i64, i64, Vec<usize>) {
        let search = Search { spec: self, events, chosen: chosen.to_vec() };
        let (origin, end) = search.bounds(index);
        (origin, end, search.candidates(index, (origin, end), 0).collect())
    }

    /// Whether a step's rows are all later than those of the steps before, so that what follows a step depends only on
    /// the row that it chose, and on the anchor's value for `same:`.
    fn is_chain(&self) -> bool {
        self.steps.iter().all(|step| !step.of_first && !step.inclusive)
    }

    /// Whether a chain holds from one of the anchors: from the last step to the first, the rows from which the rest
    /// holds. Linear in the events for each value that anchors have, where trying all choices is not.
    fn chain_holds(&self, events: &[Event], anchors: &[usize]) -> bool {
        if !self.steps.iter().any(|step| step.same) {
            let holds = self.holds_after(events, NULL);
            return anchors.iter().any(|anchor| holds[*anchor]);
        }
        let mut anchors: Vec<(u32, usize)> = anchors.iter().map(|anchor| (events[*anchor].same, *anchor)).collect();
        anchors.sort_unstable();
        anchors.chunk_by(|a, b| a.0 == b.0).any(|group| {
            let holds = self.holds_after(events, group[0].0);
            group.iter().any(|(_, anchor)| holds[*anchor])
        })
    }

    /// By event, whether all steps but the first hold after it, if the anchor's value is `same`.
    fn holds_after(&self, events: &[Event], same: u32) -> Vec<bool> {
        let mut rest = vec![true; events.len()];
        for (index, step) in self.steps.iter().enumerate().skip(1).rev() {
            let matches =
                |event: &Event| event.steps >> index & 1 == 1 && (!step.same || (same != NULL && event.same == same));
            // how many of the events before each are what the step looks for
            let mut before = vec![0_u32];
            for (event, rest) in events.iter().zip(&rest) {
                before.push(before[before.len() - 1] + u32::from(matches(event) && (step.negated || *rest)));
            }
            let (mut first, mut last) = (0, 0);
            for (origin, rest) in events.iter().map(|event| event.time).zip(&mut rest) {
                let end = step.within.map_or(i64::MAX, |within| origin.saturating_add(within));
                let up_to = |mut at: usize, time: i64| {
                    while events.get(at).is_some_and(|event| event.time <= time) {
                        at += 1;
                    }
                    at
                };
                (first, last) = (up_to(first, origin), up_to(last, end));
                let found = before[last] > before[first];
                *rest = if step.negated { (step.open || end <= self.as_of) && !found && *rest } else { found };
            }
        }
        rest
    }
}

/// Depth-first choice of distinct rows.
struct Search<'a> {
    spec: &'a SequenceSpec,
    events: &'a [Event],
    chosen: Vec<usize>,
}

impl Search<'_> {
    fn from(&mut self, anchor: usize) -> bool {
        self.chosen.clear();
        self.chosen.push(anchor);
        self.step(1)
    }

    fn step(&mut self, index: usize) -> bool {
        let Some(step) = self.spec.steps.get(index) else { return true };
        let (origin, end) = self.bounds(index);
        if step.negated {
            let passed = step.open || end <= self.spec.as_of;
            return passed && self.candidates(index, (origin, end), 0).next().is_none() && self.step(index + 1);
        }
        let mut from = 0;
        loop {
            let next = self.candidates(index, (origin, end), from).next();
            let Some(row) = next else { return false };
            self.chosen.push(row);
            let found = self.step(index + 1);
            self.chosen.pop();
            if found {
                return true;
            }
            from = row + 1;
        }
    }

    /// When a step's window begins and ends.
    fn bounds(&self, index: usize) -> (i64, i64) {
        let step = &self.spec.steps[index];
        let origin_row = if step.of_first { self.chosen[0] } else { self.chosen[self.chosen.len() - 1] };
        let origin = self.events[origin_row].time;
        (origin, step.within.map_or(i64::MAX, |w| origin.saturating_add(w)))
    }

    /// Unchosen rows, from a place on, that match the step inside its window.
    fn candidates(&self, index: usize, (origin, end): (i64, i64), from: usize) -> impl Iterator<Item = usize> {
        let (step, events) = (&self.spec.steps[index], self.events);
        let first = if step.inclusive {
            events.partition_point(|e| e.time < origin)
        } else {
            events.partition_point(|e| e.time <= origin)
        };
        let anchor = events[self.chosen[0]];
        (first.max(from)..events.len())
            .take_while(move |i| events[*i].time <= end)
            .filter(move |i| events[*i].steps >> index & 1 == 1)
            .filter(move |i| !step.same || (anchor.same != NULL && events[*i].same == anchor.same))
            .filter(|i| !self.chosen.contains(i))
    }
}

/// The aggregate function of one sequence.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sequence {
    spec: SequenceSpec,
    signature: Signature,
}

impl Sequence {
    pub(crate) fn new(spec: SequenceSpec) -> Self {
        Self { spec, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn state(&self, args: &AccumulatorArgs<'_>) -> Result<SequenceState> {
        let same = args.expr_fields[SAME].data_type();
        Ok(SequenceState {
            spec: self.spec.clone(),
            coder: ValueCoder::new(same)?,
            same: same.clone(),
            rows: Vec::new(),
            groups: 0,
        })
    }
}

fn list_field(name: &str, part: &str, item: DataType) -> FieldRef {
    let item = Arc::new(Field::new_list_field(item, true));
    Arc::new(Field::new(format!("{name}[{part}]"), DataType::List(item), true))
}

impl AggregateUDFImpl for Sequence {
    fn name(&self) -> &'static str {
        "kinfold_sequence"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(SingleGroup::new(self.state(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![
            list_field(args.name, "times", DataType::Int64),
            list_field(args.name, "steps", DataType::Int64),
            list_field(args.name, "same", args.input_fields[SAME].data_type().clone()),
        ])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.state(&args)?))
    }
}

/// A matching event of a group, packed: there are many.
#[derive(Debug, Clone, Copy)]
struct Row {
    time: i64,
    steps: u64,
    same: u32,
    group: u32,
}

impl Row {
    fn event(self) -> Event {
        Event { time: self.time, steps: self.steps, same: self.same }
    }
}

/// Matching events of all groups, in arrival order.
struct SequenceState {
    spec: SequenceSpec,
    coder: ValueCoder,
    same: DataType,
    rows: Vec<Row>,
    groups: usize,
}

impl SequenceState {
    /// Takes the emitted groups' events, sorted by group and time, renumbering the rest.
    fn emit(&mut self, emit_to: EmitTo) -> (usize, Vec<Row>) {
        let rows = std::mem::take(&mut self.rows);
        let (emitted, out) = match emit_to {
            EmitTo::All => (self.groups, rows),
            EmitTo::First(n) => {
                let shift = u32::try_from(n).unwrap_or(u32::MAX);
                let (out, rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.group < shift);
                self.rows = rest.into_iter().map(|row| Row { group: row.group - shift, ..row }).collect();
                (n, out)
            }
        };
        self.groups -= emitted;
        let mut out = by_group(out, emitted);
        for run in out.chunk_by_mut(|a, b| a.group == b.group) {
            run.sort_unstable_by(|a, b| self.compare(a, b));
        }
        (emitted, out)
    }

    /// By time, steps, then the value that must be the same, null first.
    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let same = |row: &Row| (row.same != NULL).then_some(row.same);
        let order = (a.time, a.steps).cmp(&(b.time, b.steps));
        order.then_with(|| match (same(a), same(b)) {
            (Some(x), Some(y)) => self.coder.compare(x, y),
            (x, y) => x.is_some().cmp(&y.is_some()),
        })
    }

    fn push(&mut self, group: usize, Event { time, steps, same }: Event) {
        self.rows.push(Row { time, steps, same, group: u32::try_from(group).unwrap_or(u32::MAX) });
    }
}

/// Rows in the order of their groups, which are below `groups`; those of a group as they were.
fn by_group(rows: Vec<Row>, groups: usize) -> Vec<Row> {
    if rows.is_sorted_by_key(|row| row.group) {
        return rows;
    }
    let mut next = vec![0_usize; groups + 1];
    for row in &rows {
        next[row.group as usize + 1] += 1;
    }
    for group in 0..groups {
        next[group + 1] += next[group];
    }
    let mut sorted = rows.clone();
    for row in rows {
        let place = &mut next[row.group as usize];
        sorted[*place] = row;
        *place += 1;
    }
    sorted
}

impl Grouped for SequenceState {
    fn ensure(&mut self, groups: usize) {
        self.groups = self.groups.max(groups);
    }
}

impl GroupsAccumulator for SequenceState {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.ensure(total_num_groups);
        let times = values[0].as_primitive::<Int64Type>();
        let matched: Vec<BooleanBuffer> = values[STEPS..].iter().map(|step| true_rows(step.as_boolean())).collect();
        let steps = |row: usize| {
            let bits = matched.iter().zip(0..).map(|(rows, step)| u64::from(rows.value(row)) << step);
            bits.fold(0, |all, bit| all | bit)
        };
        let mut rows = wanted(times, opt_filter);
        rows.retain(|row| steps(*row as usize) != 0);
        for (row, same) in rows.iter().zip(self.coder.code(&values[SAME], &rows)?) {
            let row = *row as usize;
            self.push(group_indices[row], Event { time: times.value(row), steps: steps(row), same });
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (groups, rows) = self.emit(emit_to);
        let mut holds = vec![false; groups];
        let mut events = Vec::new();
        for run in rows.chunk_by(|a, b| a.group == b.group) {
            events.clear();
            events.extend(run.iter().map(|row| row.event()));
            holds[run[0].group as usize] = self.spec.holds(&events);
        }
        Ok(Arc::new(BooleanArray::from(holds)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (groups, rows) = self.emit(emit_to);
        let mut lengths = vec![0_usize; groups];
        for row in &rows {
            lengths[row.group as usize] += 1;
        }
        let offsets: OffsetBuffer<i32> = OffsetBuffer::from_lengths(lengths);
        let times = Int64Array::from_iter_values(rows.iter().map(|row| row.time));
        let steps = Int64Array::from_iter_values(rows.iter().map(|row| row.steps.cast_signed()));
        let codes: Vec<u32> = rows.iter().map(|row| row.same).collect();
        let list = |item: DataType, values: ArrayRef| -> ArrayRef {
            Arc::new(ListArray::new(Arc::new(Field::new_list_field(item, true)), offsets.clone(), values, None))
        };
        Ok(vec![
            list(DataType::Int64, Arc::new(times)),
            list(DataType::Int64, Arc::new(steps)),
            list(self.same.clone(), self.coder.decode(&codes)?),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.ensure(total_num_groups);
        // the lists of a row are equally long
        let (times, starts) = items(states[0].as_list());
        let (steps, same) = (items(states[1].as_list()).0, items(states[2].as_list()).0);
        let (times, steps) = (times.as_primitive::<Int64Type>(), steps.as_primitive::<Int64Type>());
        let same = self.coder.code(&same, &all(&same))?;
        for (row, group) in group_indices.iter().enumerate() {
            let own = starts[row]..starts[row + 1];
            let events = times.values()[own.clone()].iter().zip(&steps.values()[own.clone()]).zip(&same[own]);
            for ((time, steps), same) in events {
                self.push(*group, Event { time: *time, steps: steps.cast_unsigned(), same: *same });
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut one = Self {
            spec: self.spec.clone(),
            coder: ValueCoder::new(&self.same)?,
            same: self.same.clone(),
            rows: Vec::new(),
            groups: 0,
        };
        let groups: Vec<usize> = (0..values[0].len()).collect();
        one.update_batch(values, &groups, opt_filter, groups.len())?;
        one.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.rows.capacity() * size_of::<Row>() + self.coder.size()
    }
}
