//! Kinfold's own SQL functions. Scalars: `as_of`, `secret`, HMACs, masks. Aggregates: `first`, `last`,
//! `most_frequent`, `unique_count`, `unique_list`, and the internal ones of the fold.

mod date_trunc;
mod details;
mod lower;
mod normalize;
mod ordered;
mod pick;
mod random;
mod rows;
mod scalar;
mod sequence;
mod single;
mod tally;
mod values;

#[cfg(test)]
mod tests;

pub(super) use details::details;
pub use normalize::Judged;
pub(super) use normalize::Normalizer;
pub(super) use ordered::Ordered;
pub(super) use pick::{PickFirst, Returns};
pub(super) use random::random_share;
pub(super) use scalar::{as_of_literal, as_of_literal_null, scalar_functions};
pub(super) use sequence::{Anchor, Event, SAME, STEPS, Sequence, SequenceSpec, SequenceStep};
pub(super) use values::NULL;

use datafusion::logical_expr::AggregateUDF;
use tally::{Finish, Tally};

/// Aggregates that authors may write.
pub(super) fn aggregate_functions() -> Vec<AggregateUDF> {
    vec![
        AggregateUDF::new_from_impl(Tally::new(Finish::MostFrequent)),
        AggregateUDF::new_from_impl(Tally::new(Finish::UniqueCount)),
        AggregateUDF::new_from_impl(Tally::new(Finish::UniqueList)),
        AggregateUDF::new_from_impl(placeholder::OrderedByClock::new("first")),
        AggregateUDF::new_from_impl(placeholder::OrderedByClock::new("last")),
    ]
}

mod placeholder;
