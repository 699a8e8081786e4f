//! Reading without running: `show` and `query` over committed tables and source tables.

use super::committed;
use super::sources;
use super::{Engine, fold, session, words};
use crate::diagnostic::Diagnostic;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Project;
use crate::warehouse::{Snapshot, Warehouse};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::sql::parser::Statement;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A query without the values in it: names and signs stay, texts, numbers and comments go.
pub fn without_values(sql: &str) -> String {
    // a text between dollars is no piece of its own
    if sql.contains('$') {
        return "?".to_owned();
    }
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    let shown = |piece: &words::Piece<'_>| match piece.kind {
        words::Kind::Text => "?".to_owned(),
        words::Kind::Word if piece.text.starts_with(|c: char| c.is_ascii_digit()) => "?".to_owned(),
        words::Kind::Quoted if !plain(piece.text.trim_matches('"')) => "?".to_owned(),
        _ => piece.text.to_owned(),
    };
    words::pieces(sql).iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// What a query answers.
pub struct Answer {
    /// Columns.
    pub schema: SchemaRef,
    /// Rows.
    pub batches: Vec<RecordBatch>,
}

impl Answer {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Answers queries over one snapshot of the warehouse.
pub struct Reader {
    pub(super) engine: Engine,
    warehouse: Arc<Warehouse>,
    snapshot: Snapshot,
    /// The run that was asked for; none is the newest.
    at_run: Option<u64>,
}

impl Reader {
    /// A reader over what `snapshot` makes visible: after the run `at_run`, or after the newest.
    pub fn new(engine: Engine, warehouse: Arc<Warehouse>, snapshot: Snapshot, at_run: Option<u64>) -> Self {
        Self { engine, warehouse, snapshot, at_run }
    }

    /// The author's files, for rendering findings.
    pub fn source_map(&self) -> &crate::diagnostic::SourceMap {
        self.engine.source_map()
    }

    /// The project that is read.
    pub fn project(&self) -> &Arc<Project> {
        &self.engine.project
    }

    /// Names of all tables that can be read.
    pub fn tables(&self) -> Vec<String> {
        let mut names: Vec<String> = self.snapshot.tables.keys().cloned().collect();
        for source in &self.engine.project.sources {
            names.extend(
                source.tables.iter().filter(|t| t.enabled).map(|t| format!("{}.{}", source.name.value, t.name.value)),
            );
        }
        names.sort();
        names
    }

    /// Opens the tables that a query names; findings are about source files that cannot be read.
    ///
    /// # Errors
    /// `Usage` when the SQL does not parse or names an unknown table; `Storage`.
    pub async fn open_tables(&self, sql: &str) -> Result<Vec<Diagnostic>> {
        let state = &self.engine.state;
        let mut findings = Vec::new();
        for reference in state.resolve_table_references(&self.parse(sql)?).map_err(|e| wrong(&e))? {
            self.open(&super::bind::plain_name(&reference), &mut findings).await?;
        }
        Ok(findings)
    }

    /// The tables that a query names.
    ///
    /// # Errors
    /// `Usage` when the SQL does not parse.
    pub fn names_in(&self, sql: &str) -> Result<BTreeSet<String>> {
        let found = self.engine.state.resolve_table_references(&self.parse(sql)?).map_err(|e| wrong(&e))?;
        Ok(found.iter().map(super::bind::plain_name).collect())
    }

    fn parse(&self, sql: &str) -> Result<Statement> {
        if let Some((_, beyond)) = words::beyond_limits(sql) {
            let (message, help) = beyond.told();
            return Err(Error::new(ErrorKind::Usage, message).with_help(help));
        }
        let state = &self.engine.state;
        let dialect = state.config().options().sql_parser.dialect;
        state.sql_to_statement(sql, &dialect).map_err(|e| match e {
            DataFusionError::NotImplemented(_) => Error::new(ErrorKind::Usage, "one question at a time"),
            other => wrong(&other),
        })
    }

    /// Answers a query whose tables are open.
    ///
    /// # Errors
    /// `Usage` when the SQL is wrong; `Data` when files cannot be read.
    pub async fn answer(&self, sql: &str) -> Result<Answer> {
        let statement = self.parse(sql)?;
        let plan = self.engine.state.statement_to_plan(statement).await.map_err(|e| wrong(&e))?;
        if is_command(&plan) {
            return Err(Error::new(ErrorKind::Usage, "only queries can be asked here")
                .with_help("write a SELECT; tables are changed by `kinfold run`"));
        }
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        let batches = fold::execute(&self.engine.context, plan)
            .await
            .map_err(|e| Error::new(ErrorKind::Data, format!("the query failed: {}", super::bind::plain(&e))))?;
        Ok(Answer { schema, batches })
    }

    pub(super) async fn open(&self, name: &str, findings: &mut Vec<Diagnostic>) -> Result<()> {
        if let Some(at) = self.snapshot.tables.get(name) {
            let table = self.warehouse.table(at).await?;
            let provider = committed::over_table(&self.engine.context, &self.warehouse, &table, &table.schema)?;
            return session::register(&self.engine.context, name, provider);
        }
        if let Some((source, table)) = self.engine.project.source_table(name) {
            if !table.enabled {
                return Err(Error::new(ErrorKind::Usage, format!("`{name}` is not selected (`enabled: false`)"))
                    .with_help("enable it in sources.yaml to read it"));
            }
            sources::open(&self.engine.parts(), source, table, None, findings).await?;
            return Ok(());
        }
        if let (Some(run), true) = (self.at_run, self.engine.project.models.contains_key(name)) {
            return Err(Error::new(ErrorKind::Usage, format!("`{name}` was not there after run {run}"))
                .with_help("name a later run; `kinfold runs` lists them"));
        }
        if self.engine.project.models.contains_key(name) {
            return Err(Error::new(ErrorKind::Usage, format!("`{name}` has not been built yet"))
                .with_help("run `kinfold run` first"));
        }
        let known = self.tables();
        let near = crate::project::nearest(name, known.iter().map(String::as_str));
        let error = Error::new(ErrorKind::Usage, format!("no table `{name}`"));
        Err(match near {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => error.with_help(format!("there are: {}", known.join(", "))),
        })
    }
}

fn wrong(error: &DataFusionError) -> Error {
    Error::new(ErrorKind::Usage, super::bind::plain(error))
}

fn is_command(plan: &datafusion::logical_expr::LogicalPlan) -> bool {
    use datafusion::logical_expr::LogicalPlan as P;
    matches!(plan, P::Dml(_) | P::Ddl(_) | P::Copy(_) | P::Statement(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_its_values_names_nobody() {
        let sql =
            "SELECT a.\"b\", 'ann@x.com' AS \"Ann Weaver\" FROM t -- ann@x.com\nWHERE phone = 2125550160 AND x >= 1.5";
        let shown = without_values(sql);
        assert!(shown.starts_with("SELECT a") && shown.contains("FROM t WHERE phone = ? AND x"), "{shown}");
        assert!(!shown.to_lowercase().contains("ann") && !shown.contains("212") && !shown.contains("1.5"), "{shown}");
        assert_eq!(without_values("SELECT $$ann$$"), "?");
    }
}
