//! The copies of source files that runs keep for tables with `vanished: keep`.

use super::history;
use crate::engine::{Engine, Kept, KeptFile};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Project, Vanished};
use crate::warehouse::{Snapshot, Warehouse};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The table that lists them.
pub(super) const KEPT_FILES: &str = "kinfold.kept";

/// The copies that the newest run names; nothing where no table keeps its files.
pub(super) async fn kept(warehouse: &Arc<Warehouse>, project: &Project) -> Result<Option<Kept>> {
    if !project.sources.iter().flat_map(|source| &source.tables).any(|table| table.vanished == Vanished::Keep) {
        return Ok(None);
    }
    let at = warehouse.snapshot(None).await?.tables.remove(KEPT_FILES);
    let mut files: BTreeMap<String, Vec<KeptFile>> = BTreeMap::new();
    if let Some(at) = &at {
        let rows = warehouse.read_all(&*warehouse.table(at).await?).await?;
        for kept in history::kept_of(&rows)? {
            files.entry(kept.table.clone()).or_default().push(kept);
        }
    }
    Ok(Some(Kept { warehouse: Arc::clone(warehouse), at, files }))
}

/// Makes sure that no run changed the copies since they were looked up: they are, before the warehouse is held.
pub(super) fn still_current(engine: &Engine, base: &Snapshot) -> Result<()> {
    let now = base.tables.get(KEPT_FILES);
    match engine.kept() {
        Some(kept) if kept.at.as_ref().map(|at| at.version) != now.map(|at| at.version) => {
            Err(Error::new(ErrorKind::Busy, "another run kept copies of source files in the meantime")
                .with_help("run again"))
        }
        _ => Ok(()),
    }
}
