//! The values of a project's site: its manifest, bound columns and, where the warehouse can be read, the last run.

use super::prepare::{Failure, Options, Prepared, Purpose, prepare};
use super::run::{last_as_of, warehouse_of};
use super::state::manifest;
use crate::error::{Context, ErrorKind, Result};
use crate::graph::{Columns, Graph};
use crate::model::{ModelKind, Project};
use crate::plan::Entry;
use crate::site::{Column, LastRun, Page, Site, build};
use crate::warehouse::{Snapshot, Warehouse};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes the site of a project and gives the number of its pages.
///
/// # Errors
/// Findings when the project does not bind; `Storage` when the folder cannot be written.
pub async fn build_site(options: &Options, folder: &Path) -> Result<usize, Failure> {
    let prepared = prepare(options, Purpose::Check).await?;
    let mut site = describe(&prepared);
    // without a warehouse, as in CI, there is no last run to tell of
    if let Ok(warehouse) = warehouse_of(&prepared.project, options)
        && let Ok(base) = warehouse.snapshot(None).await
    {
        add_last_run(&mut site, &warehouse, &base).await?;
    }
    let files = build(&site).or_fail(ErrorKind::Failed, || "cannot make the pages".to_owned())?;
    let doing = || format!("cannot write {}", folder.display());
    std::fs::create_dir_all(folder).or_fail(ErrorKind::Storage, doing)?;
    for (path, text) in &files {
        std::fs::write(folder.join(path), text).or_fail(ErrorKind::Storage, doing)?;
    }
    Ok(site.pages.len())
}

fn describe(prepared: &Prepared) -> Site {
    let Prepared { project, graph, engine, order, .. } = prepared;
    let manifest = manifest(project, graph, engine);
    let lineage = engine.lineage_graph();
    let mut pages = BTreeMap::new();
    for (name, entry) in &manifest.models {
        let columns = if order.contains(name) { engine.columns(name) } else { Vec::new() };
        let mut page = page(name, entry, graph);
        page.definition = definition(project, name, entry);
        let table = lineage.tables().get(name);
        let listed = |columns: &Columns| columns.iter().map(ToString::to_string).collect();
        let described = columns.into_iter().map(|(name, data_type)| {
            let from = table.and_then(|t| t.column(&name));
            let values_from = from.map(|c| listed(&c.values)).unwrap_or_default();
            let rows_from = from.map(|c| listed(&c.rows)).unwrap_or_default();
            Column { name, data_type, description: None, values_from, rows_from }
        });
        page.columns = described.collect();
        pages.insert(name.clone(), page);
    }
    for (name, entry) in &manifest.sources {
        let mut page = page(name, entry, graph);
        page.columns = source_columns(project, name);
        pages.insert(name.clone(), page);
    }
    Site { project: project.settings.name.clone(), pages, last_run: None }
}

fn page(name: &str, entry: &Entry, graph: &Graph) -> Page {
    Page {
        kind: entry.kind.clone(),
        path: entry.path.clone(),
        description: entry.description.clone(),
        tags: entry.tags.clone(),
        reads: entry.reads.clone(),
        read_by: graph.readers_of(name),
        definition: format!("{:#}", entry.definition),
        columns: Vec::new(),
        rows: None,
    }
}

/// SQL as its author wrote it; what holds values of the environment only as the manifest has it.
fn definition(project: &Project, name: &str, entry: &Entry) -> String {
    match project.models.get(name).map(|m| &m.kind) {
        Some(ModelKind::Sql(sql)) if !sql.templated => sql.sql.value.clone(),
        _ => format!("{:#}", entry.definition),
    }
}

fn source_columns(project: &Project, name: &str) -> Vec<Column> {
    let declared = project.source_table(name).map(|(_, table)| table.columns.as_slice()).unwrap_or_default();
    let column = |column: &crate::model::Column| Column {
        name: column.name.value.clone(),
        data_type: column.data_type.as_ref().map(|t| t.value.clone()).unwrap_or_default(),
        description: column.description.clone(),
        ..Column::default()
    };
    declared.iter().map(column).collect()
}

async fn add_last_run(site: &mut Site, warehouse: &Warehouse, base: &Snapshot) -> Result<()> {
    let Some(run) = base.run else { return Ok(()) };
    let time = |time: chrono::DateTime<chrono::Utc>| time.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let ended = warehouse.runs(1).await?.first().map(|r| time(r.committed_at)).unwrap_or_default();
    let as_of = last_as_of(warehouse, base).await?.map(time).unwrap_or_default();
    site.last_run = Some(LastRun { run, as_of, ended_at: ended });
    for (name, page) in &mut site.pages {
        if let Some(at) = base.tables.get(name) {
            page.rows = warehouse.table(at).await?.rows();
        }
    }
    Ok(())
}
