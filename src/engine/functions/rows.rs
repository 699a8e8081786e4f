//! Which rows of a batch an aggregate looks at.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, ListArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};

/// The rows that have a value and pass the filter (null counts as false), in order.
pub(super) fn wanted(value: &dyn Array, filter: Option<&BooleanArray>) -> Vec<u32> {
    let present = value.logical_nulls().map(NullBuffer::into_inner);
    let passing = filter.map(true_rows);
    let both = match (present, passing) {
        (Some(present), Some(passing)) => Some(&present & &passing),
        (one, other) => one.or(other),
    };
    match both {
        Some(rows) => rows.set_indices().map(|row| row as u32).collect(),
        None => (0..value.len() as u32).collect(),
    }
}

/// By row, whether a condition is true; null is not.
pub(super) fn true_rows(condition: &BooleanArray) -> BooleanBuffer {
    match condition.nulls() {
        Some(nulls) => condition.values() & nulls.inner(),
        None => condition.values().clone(),
    }
}

/// The items of a column of lists, and where those of each row begin among them, with the end of the last. A column that is
/// a part of another one holds the items of all of that one's rows; only its own are given.
pub(super) fn items(lists: &ListArray) -> (ArrayRef, Vec<usize>) {
    let starts = lists.value_offsets();
    let (first, last) = (starts[0], starts[starts.len() - 1]);
    let own = lists.values().slice(first as usize, (last - first) as usize);
    (own, starts.iter().map(|start| (start - first) as usize).collect())
}

/// All rows of a column.
pub(super) fn all(values: &dyn Array) -> Vec<u32> {
    (0..values.len() as u32).collect()
}
