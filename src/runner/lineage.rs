//! Lineage of a table or a column of the bound project.

use super::prepare::{Failure, Options, Prepared, Purpose, prepare};
use crate::error::{Error, ErrorKind};
use crate::graph::{ColumnRef, Columns, LineageGraph, TableLineage, Trace, owner};
use crate::project::nearest;

/// What is asked.
#[derive(Debug, Clone)]
pub struct LineageRequest {
    /// A model, a table that a model makes, a source table, or a column of one of these.
    pub name: String,
    /// Only one step up and down.
    pub direct: bool,
}

/// What a table or a column comes from and where it goes.
#[derive(Debug, Clone)]
pub struct LineageAnswer {
    /// The table.
    pub table: String,
    /// The column, when one was named.
    pub column: Option<String>,
    /// What makes the table: a kind of model, or `source`.
    pub kind: &'static str,
    /// The file that defines it, relative to the project.
    pub path: String,
    /// What decides which rows the table has.
    pub rows: Columns,
    /// By asked column: what it comes from.
    pub up: Vec<(String, Trace)>,
    /// What depends on it.
    pub down: Trace,
}

/// Binds the project and follows its columns.
///
/// # Errors
/// Findings when something is wrong in the project; `Usage` when the name is unknown.
pub async fn lineage(options: &Options, request: &LineageRequest) -> Result<LineageAnswer, Failure> {
    let prepared = prepare(options, Purpose::Describe).await?;
    let graph = prepared.engine.lineage_graph();
    let Some((table, column)) = graph.find(&request.name) else {
        return Err(unknown(&prepared, &graph, &request.name).into());
    };
    let up = |column: &ColumnRef| if request.direct { graph.above(column) } else { graph.up(column) };
    let asked = table.columns.iter().filter(|c| column.is_none_or(|asked| asked == c.name));
    let down = match column {
        Some(column) => graph.down(&ColumnRef::new(&table.name, column), request.direct),
        None => graph.down_of_table(table, request.direct),
    };
    let (kind, path) = maker(&prepared, &table.name);
    let answer = LineageAnswer {
        table: table.name.clone(),
        column: column.map(str::to_owned),
        kind,
        path,
        rows: up(&ColumnRef::rows_of(&table.name)).rows,
        up: asked.map(|c| (c.name.clone(), up(&ColumnRef::new(&table.name, &c.name)))).collect(),
        down,
    };
    Ok(answer)
}

fn maker(prepared: &Prepared, table: &str) -> (&'static str, String) {
    if let Some((_, source)) = prepared.project.source_table(table) {
        return ("source", prepared.engine.source_map().path(source.name.span).to_owned());
    }
    let model = prepared.project.models.get(&owner(&prepared.project, table));
    model.map_or(("table", String::new()), |m| (m.kind.word(), m.path.clone()))
}

/// The nearest name that would have been known.
fn unknown(prepared: &Prepared, graph: &LineageGraph, name: &str) -> Error {
    if prepared.project.source_table(name).is_some() {
        return Error::new(ErrorKind::Usage, format!("no model reads `{name}`, so it has no lineage"))
            .with_help("`kinfold ls --sources` lists the tables that models read");
    }
    let known = |name: &str| graph.tables().get(name);
    let split = name.rsplit_once('.');
    if let Some((table, column)) = split.and_then(|(table, column)| Some((known(table)?, column))) {
        return unknown_column(table, column);
    }
    let tables = || graph.tables().keys().map(String::as_str);
    let error = Error::new(ErrorKind::Usage, format!("no table or column `{name}`"));
    let near = nearest(name, tables()).map(str::to_owned);
    let near = near.or_else(|| {
        let (table, column) = split?;
        let table = known(nearest(table, tables())?)?;
        Some(table.column(column).map_or_else(|| table.name.clone(), |c| format!("{}.{}", table.name, c.name)))
    });
    error.with_help(match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`kinfold ls --sources` lists the models and the tables that they read".to_owned(),
    })
}

fn unknown_column(table: &TableLineage, column: &str) -> Error {
    let names = || table.columns.iter().map(|c| c.name.as_str());
    let error = Error::new(ErrorKind::Usage, format!("no column `{column}` in `{}`", table.name));
    error.with_help(match nearest(column, names()) {
        Some(near) => format!("did you mean `{}.{near}`?", table.name),
        None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
    })
}
