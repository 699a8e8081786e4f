//! The registry of an identity as an input: which identifier was known under which id.
//!
//! It is read when the identifiers of this run are there, a few batches at a time, so that it is never held with its
//! texts.

use super::committed::{self, Columns};
use super::identity_tables::IdentityTable;
use super::threads;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::identity::{NO_NODE, Nodes, Registered};
use crate::warehouse::{Snapshot, Warehouse};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use std::collections::BTreeMap;

/// Batches that each thread gets at a time.
const BATCHES: usize = 4;

/// What a registry says.
#[derive(Default)]
pub(super) struct Known {
    pub rows: Vec<Registered>,
    /// Identifiers, with their types, that no longer occur and have an id as far as the registry says.
    pub gone: Vec<(String, String)>,
}

type Absent = ((String, String), u64, bool);

/// The committed rows of a registry, not read yet.
pub(super) struct Registry {
    identity: String,
    /// How many rows there are.
    pub rows: usize,
    /// None where nothing was ever registered.
    frame: Option<DataFrame>,
}

impl Registry {
    /// Opens the registry of an identity.
    ///
    /// # Errors
    /// When its table cannot be opened.
    pub(super) async fn open(
        context: &SessionContext,
        warehouse: &Warehouse,
        base: &Snapshot,
        identity: &str,
    ) -> Result<Self> {
        let tables = IdentityTable::all(identity);
        let found = tables.iter().find(|(kind, ..)| *kind == IdentityTable::Registry);
        let mut registry = Self { identity: identity.to_owned(), rows: 0, frame: None };
        if let Some((_, name, schema)) = found
            && let Some(at) = base.tables.get(name)
        {
            registry.rows = warehouse.table(at).await?.rows().unwrap_or(0) as usize;
            let rows = committed::provider(context, warehouse, base, name, (schema, Columns::OurOwn)).await?;
            registry.frame = Some(context.read_table(rows).or_fail(ErrorKind::Failed, || registry.doing())?);
        }
        Ok(registry)
    }

    fn doing(&self) -> String {
        format!("cannot read the registry of `{}`", self.identity)
    }

    /// Its rows, with identifiers of `types` by code; those that no longer occur have no node.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn read(self, types: &[&str], nodes: &Nodes, threads: usize) -> Result<Known> {
        let doing = || self.doing();
        let Some(frame) = self.frame.clone() else { return Ok(Known::default()) };
        let stream = frame.execute_stream().await.or_fail(ErrorKind::Data, doing)?;
        let mut groups = stream.chunks(threads.max(1) * BATCHES);
        let (mut rows, mut absent) = (Vec::with_capacity(self.rows), BTreeMap::new());
        while let Some(group) = groups.next().await {
            let batches = group.into_iter().collect::<Result<Vec<_>, _>>().or_fail(ErrorKind::Data, doing)?;
            let read = threads::map(&batches, threads, |batch| self.rows_of(batch, types, nodes));
            for of_batch in read.or_fail(ErrorKind::Failed, doing)? {
                let (some, others) = of_batch?;
                rows.extend(some);
                for (identifier, run, known) in others {
                    let latest = absent.entry(identifier).or_insert((run, known));
                    *latest = (*latest).max((run, known));
                }
            }
        }
        let gone = absent.into_iter().filter(|(_, (_, known))| *known).map(|(identifier, _)| identifier).collect();
        Ok(Known { rows, gone })
    }

    /// The rows of a batch; also the identifiers of types that no longer occur, with the run, and whether they had an id then.
    fn rows_of(&self, batch: &RecordBatch, types: &[&str], nodes: &Nodes) -> Result<(Vec<Registered>, Vec<Absent>)> {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| {
                Error::new(ErrorKind::Data, format!("the registry of `{}` has no column `{name}`", self.identity))
            })
        };
        let kinds = column("identifier_type")?.as_string::<i32>();
        let texts = column("identifier")?.as_string::<i32>();
        let ids = column(&format!("{}_id", self.identity))?.as_string::<i32>();
        let runs = column("run")?.as_primitive::<Int64Type>();
        let (mut rows, mut absent) = (Vec::with_capacity(batch.num_rows()), Vec::new());
        for row in 0..batch.num_rows() {
            // a type may be gone; its identifiers still tell how old an id is
            let code = types.iter().position(|name| *name == kinds.value(row));
            let code = code.and_then(|c| u8::try_from(c).ok());
            let node = code.and_then(|code| nodes.lookup(code, texts.value(row))).unwrap_or(NO_NODE);
            let (id, run) = (ids.value(row).parse().ok(), runs.value(row).cast_unsigned());
            if node == NO_NODE {
                absent.push(((kinds.value(row).to_owned(), texts.value(row).to_owned()), run, id.is_some()));
            }
            rows.push(Registered { node, id, run });
        }
        Ok((rows, absent))
    }
}
