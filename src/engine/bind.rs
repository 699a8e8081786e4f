//! From the author's SQL to bound expressions and plans, and from DataFusion's errors to findings with the
//! author's line and column.

use crate::diagnostic::{Code, Diagnostic, SourceMap, Span, Spanned};
use crate::model::Model;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, SchemaError, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, Visit, Visitor};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Result of binding one thing.
pub(super) type Bound<T> = std::result::Result<T, Box<Diagnostic>>;

/// Binds snippets in one session, placing errors in the author's files.
pub(super) struct Binder<'a> {
    pub state: SessionState,
    pub map: &'a SourceMap,
    /// Whether `secret()` may be used.
    pub secrets: bool,
}

impl Binder<'_> {
    /// Binds an expression over the columns of one row of `schema`; `over` says whose columns they are.
    pub(super) fn expression(&self, sql: &Spanned<String>, schema: &DFSchema, over: &str) -> Bound<Expr> {
        let expr = self.aggregate(sql, schema, over)?;
        if contains(&expr, |e| matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_))) {
            let finding = Diagnostic::error(Code::SqlBinding, sql.span, "an aggregate has no meaning for a single row")
                .with_help("make it a trait with `from`, and use that trait's name here");
            return Err(Box::new(finding));
        }
        Ok(expr)
    }

    /// Binds a condition over one row.
    pub(super) fn predicate(&self, sql: &Spanned<String>, schema: &DFSchema, over: &str) -> Bound<Expr> {
        let expr = self.expression(sql, schema, over)?;
        match expr.get_type(schema) {
            Ok(DataType::Boolean | DataType::Null) => Ok(expr),
            Ok(other) => {
                let message = format!("a condition is true or false, this is {other}");
                let finding = Diagnostic::error(Code::SqlBinding, sql.span, message)
                    .with_help("compare it with something, as in `x = 'y'` or `x IS NOT NULL`");
                Err(Box::new(finding))
            }
            Err(e) => Err(Box::new(self.finding(&e, sql, over))),
        }
    }

    /// Binds an expression that may hold aggregates.
    pub(super) fn aggregate(&self, sql: &Spanned<String>, schema: &DFSchema, over: &str) -> Bound<Expr> {
        let bound = self.state.create_logical_expr(&sql.value, schema);
        let expr = bound.map_err(|e| Box::new(self.finding(&e, sql, over)))?;
        if !self.secrets && contains(&expr, is_secret) {
            return Err(Box::new(no_secret_here(sql)));
        }
        Ok(expr)
    }

    /// What may stand in a sync or a trait, but not in a query whose rows are stored.
    pub(super) fn misplaced(&self, plan: &LogicalPlan, sql: &Spanned<String>) -> Option<Box<Diagnostic>> {
        let mut found = None;
        let _ = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                if !self.secrets && contains(expr, is_secret) {
                    found = Some(no_secret_here(sql));
                }
                let clock = |e: &Expr| matches!(e, Expr::AggregateFunction(a) if matches!(a.func.name(), "first" | "last"));
                if contains(expr, clock) {
                    let message = "first() and last() need an order here";
                    let finding = Diagnostic::error(Code::SqlBinding, self.find_word("first(", sql), message)
                        .with_help("write first_value(x ORDER BY time); first() alone works in traits, where the table's time is known");
                    found = Some(finding);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        });
        found.map(Box::new)
    }

    /// Warns of functions that make a run unrepeatable.
    pub(super) fn unrepeatable(&self, model: &Model, findings: &mut Vec<Diagnostic>) {
        for sql in model.sql_snippets() {
            for name in self.functions(sql) {
                if !matches!(
                    name.as_str(),
                    "now" | "current_timestamp" | "current_date" | "current_time" | "today" | "random" | "uuid"
                ) {
                    continue;
                }
                findings.push(
                    Diagnostic::warning(
                        Code::SqlNow,
                        self.find_word(&name, sql),
                        format!("`{name}` gives another result in every run"),
                    )
                    .with_help("use as_of(), the run's logical time, so that a run can be repeated"),
                );
            }
        }
    }

    /// Functions that a snippet calls; none when it does not parse (binding says so).
    fn functions(&self, sql: &Spanned<String>) -> BTreeSet<String> {
        let dialect = self.state.config().options().sql_parser.dialect;
        let mut calls = Calls(BTreeSet::new());
        if let Ok(expr) = self.state.sql_to_expr(&sql.value, &dialect) {
            let _ = expr.visit(&mut calls);
        } else if let Ok(Statement::Statement(statement)) = self.state.sql_to_statement(&sql.value, &dialect) {
            let _ = statement.visit(&mut calls);
        }
        calls.0
    }

    /// Parses one query.
    pub(super) fn statement(&self, sql: &Spanned<String>) -> Bound<Statement> {
        let dialect = self.state.config().options().sql_parser.dialect;
        self.state.sql_to_statement(&sql.value, &dialect).map_err(|e| Box::new(self.finding(&e, sql, "")))
    }

    /// Tables that a query names.
    pub(super) fn references(&self, sql: &Spanned<String>) -> Bound<BTreeSet<String>> {
        let statement = self.statement(sql)?;
        let tables =
            self.state.resolve_table_references(&statement).map_err(|e| Box::new(self.finding(&e, sql, "")))?;
        Ok(tables.iter().map(plain_name).collect())
    }

    /// Binds a query; anything but a query is refused.
    pub(super) async fn query(&self, sql: &Spanned<String>) -> Bound<LogicalPlan> {
        let statement = self.statement(sql)?;
        let plan = self.state.statement_to_plan(statement).await.map_err(|e| Box::new(self.finding(&e, sql, "")))?;
        if matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_))
        {
            let finding = Diagnostic::error(Code::SqlSyntax, sql.span, "a model is one query")
                .with_help("write a SELECT; Kinfold creates and fills the table");
            return Err(Box::new(finding));
        }
        Ok(plan)
    }

    /// Names that an expression mentions, before anything is bound.
    pub(super) fn mentioned(&self, sql: &Spanned<String>) -> Bound<BTreeSet<String>> {
        let dialect = self.state.config().options().sql_parser.dialect;
        let parsed = self.state.sql_to_expr(&sql.value, &dialect).map_err(|e| Box::new(self.finding(&e, sql, "")))?;
        let mut names = Names(BTreeSet::new());
        let _ = parsed.visit(&mut names);
        Ok(names.0)
    }

    /// Turns a DataFusion error about `sql` into a finding.
    pub(super) fn finding(&self, error: &DataFusionError, sql: &Spanned<String>, over: &str) -> Diagnostic {
        match error {
            DataFusionError::Diagnostic(diagnostic, inner) => {
                let place = diagnostic.span.map(|s| self.place(sql, s.start.line, s.start.column));
                let mut finding = self.finding(inner, sql, over);
                if let Some(place) = place {
                    finding.span = Some(place);
                }
                finding
            }
            DataFusionError::Context(_, inner) => self.finding(inner, sql, over),
            DataFusionError::Collection(all) if !all.is_empty() => self.finding(&all[0], sql, over),
            DataFusionError::Shared(inner) => self.finding(inner, sql, over),
            DataFusionError::SQL(parser, _) => self.syntax(&parser.to_string(), sql),
            DataFusionError::SchemaError(schema, _) => self.schema(schema, sql, over),
            other => self.other(&plain(other), sql),
        }
    }

    fn syntax(&self, text: &str, sql: &Spanned<String>) -> Diagnostic {
        let text = text.trim_start_matches("sql parser error: ");
        let (message, position) = split_position(text);
        let place = position.map_or(sql.span, |(line, column)| self.place(sql, line, column));
        Diagnostic::error(Code::SqlSyntax, place, lower_first(message))
    }

    fn schema(&self, error: &SchemaError, sql: &Spanned<String>, over: &str) -> Diagnostic {
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let of = if over.is_empty() { String::new() } else { format!(" in `{over}`") };
                let place = self.column_place(field, sql);
                let finding =
                    Diagnostic::error(Code::SqlUnknownColumn, place, format!("no column `{}`{of}", field.name));
                suggest(finding, &field.name, valid_fields)
            }
            other => Diagnostic::error(Code::SqlBinding, sql.span, lower_first(&other.to_string())),
        }
    }

    fn column_place(&self, column: &Column, sql: &Spanned<String>) -> Span {
        let start = column.spans.first().map(|s| s.start);
        start.map_or_else(|| self.find_word(&column.name, sql), |s| self.place(sql, s.line, s.column))
    }

    fn other(&self, text: &str, sql: &Spanned<String>) -> Diagnostic {
        let message = text;
        if let Some(table) = missing_table(message) {
            return Diagnostic::error(
                Code::SqlUnknownTable,
                self.find_word(&table, sql),
                format!("no table `{table}`"),
            )
            .with_help("a source table is written `source.table`, a model by its name");
        }
        Diagnostic::error(Code::SqlBinding, sql.span, lower_first(message))
    }

    /// The place of a word inside a snippet, or the whole snippet.
    fn find_word(&self, word: &str, sql: &Spanned<String>) -> Span {
        let Some(at) = sql.value.find(word) else { return sql.span };
        let before = &sql.value[..at];
        let line = before.matches('\n').count() as u64 + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) as u64 + 1;
        self.place(sql, line, column)
    }

    fn place(&self, sql: &Spanned<String>, line: u64, column: u64) -> Span {
        let line = usize::try_from(line).unwrap_or(1);
        let column = usize::try_from(column).unwrap_or(1);
        self.map.locate_in(sql.span, &sql.value, line, column)
    }
}

/// `web.tracks`, or the plain name of a model.
pub(super) fn plain_name(table: &TableReference) -> String {
    match table.schema() {
        Some(schema) if schema != "models" => format!("{schema}.{}", table.table()),
        _ => table.table().to_owned(),
    }
}

fn suggest(finding: Diagnostic, wanted: &str, valid: &[Column]) -> Diagnostic {
    let near = valid
        .iter()
        .map(|c| (strsim::damerau_levenshtein(&c.name, wanted), &c.name))
        .filter(|(distance, name)| *distance <= (name.len().max(wanted.len()) / 3).max(1))
        .min();
    match near {
        Some((_, name)) => finding.with_help(format!("did you mean `{name}`?")),
        None => {
            let mut names: Vec<&str> = valid.iter().map(|c| c.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names.truncate(12);
            finding.with_help(format!("there are: {}", names.join(", ")))
        }
    }
}

/// `table 'kinfold.models.x' not found` → `x`.
fn missing_table(message: &str) -> Option<String> {
    let quoted = message.strip_prefix("table '")?.split('\'').next()?;
    let name = quoted.strip_prefix("kinfold.").filter(|n| n.contains('.')).unwrap_or(quoted);
    Some(name.strip_prefix("models.").unwrap_or(name).to_owned())
}

fn split_position(text: &str) -> (&str, Option<(u64, u64)>) {
    let Some((message, rest)) = text.rsplit_once(" at Line: ") else {
        return (text.trim_start_matches("ParserError(\"").trim_end_matches("\")"), None);
    };
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty());
    let position = numbers.next().and_then(|l| l.parse().ok()).zip(numbers.next().and_then(|c| c.parse().ok()));
    (message.trim_start_matches("ParserError(\""), position)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        // an acronym stays as it is
        Some(first) if !chars.as_str().starts_with(|c: char| c.is_uppercase()) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// The cause of a DataFusion error in one line, without its advice to DataFusion's developers.
pub(super) fn plain(error: &DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
    let mut line = line.split("This issue was likely caused by").next().unwrap_or(line);
    for prefix in ["Internal error: ", "Error during planning: ", "Execution error: ", "SQL error: ", "Arrow error: "] {
        line = line.strip_prefix(prefix).unwrap_or(line);
    }
    let line = line.replace("kinfold.models.", "").replace("kinfold.kinfold.", "kinfold.");
    line.trim_start_matches("ParserError(\"").trim_end_matches("\")").trim_end_matches(['.', ' ']).to_owned()
}

fn contains(expr: &Expr, is: impl Fn(&Expr) -> bool) -> bool {
    expr.exists(|e| Ok(is(e))).unwrap_or(false)
}

fn is_secret(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == "secret")
}

fn no_secret_here(sql: &Spanned<String>) -> Diagnostic {
    Diagnostic::error(Code::SqlBinding, sql.span, "secret() may be used in the columns of a sync only")
        .with_help("what a model computes is stored in the warehouse, where everyone who reads it would see the secret")
}

/// Collects the names of called functions.
struct Calls(BTreeSet<String>);

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::Function(call) = expr {
            self.0.insert(call.name.to_string().to_lowercase());
        }
        ControlFlow::Continue(())
    }
}

/// Collects identifiers of an expression.
struct Names(BTreeSet<String>);

impl Names {
    fn add(&mut self, ident: &Ident) {
        let name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
        self.0.insert(name);
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<()> {
        match expr {
            SqlExpr::Identifier(ident) => self.add(ident),
            SqlExpr::CompoundIdentifier(parts) => parts.iter().for_each(|p| self.add(p)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_cut_from_parser_messages() {
        let text = "ParserError(\"Expected: an expression, found: EOF at Line: 2, Column: 7\")";
        assert_eq!(split_position(text), ("Expected: an expression, found: EOF", Some((2, 7))));
    }

    #[test]
    fn missing_tables_are_named_as_authors_write_them() {
        assert_eq!(missing_table("table 'kinfold.models.pateint' not found").as_deref(), Some("pateint"));
        assert_eq!(missing_table("table 'kinfold.web.trcks' not found").as_deref(), Some("web.trcks"));
        assert_eq!(missing_table("column x"), None);
    }
}
