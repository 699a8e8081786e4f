//! Which columns a sync takes addresses from.
//!
//! An address is what people are reached or recognised by at the destination: a value that some link of the identity reads as an
//! identifier, or that a label below `identity` says to be one. It is looked for in the columns that the sync reads, before
//! anything is made of them, so that a keyed hash of an address is the address. A column whose lineage is not known counts as one.

use super::label::covers;
use super::map::LabelMap;
use crate::graph::{ColumnRef, LineageGraph};
use crate::model::Project;
use std::collections::BTreeSet;

/// The columns of what a sync is `from` that hold addresses; nothing where it is not known what the sync reads.
pub fn addresses(project: &Project, graph: &LineageGraph, sync: &str, identity: &str) -> Option<BTreeSet<String>> {
    let sent = graph.tables().get(sync)?;
    let identifiers = graph.up(&ColumnRef::new(identity, "identifier")).values;
    let labels = LabelMap::new(project, graph);
    let known =
        |column: &ColumnRef| graph.tables().get(&column.table).is_some_and(|t| t.column(&column.column).is_some());
    let is_address = |column: &&ColumnRef| {
        !known(column)
            || labels.of(column).iter().any(|label| covers("identity", label))
            || !graph.up(column).values.is_disjoint(&identifiers)
    };
    let read: BTreeSet<&ColumnRef> = sent.columns.iter().flat_map(|column| &column.values).collect();
    let addresses = read.into_iter().filter(|column| !column.is_rows()).filter(is_address);
    Some(addresses.map(|column| column.column.clone()).collect())
}
