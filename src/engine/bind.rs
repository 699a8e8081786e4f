//! From the author's SQL to bound expressions and plans, and from DataFusion's errors to findings with the
//! author's line and column.

use crate::diagnostic::{Code, Diagnostic, SourceMap, Span, Spanned};
use datafusion::common::{Column, DFSchema, DataFusionError, SchemaError, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
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
}

impl Binder<'_> {
    /// Binds an expression over the columns of `schema`; `over` says whose columns they are.
    pub(super) fn expression(&self, sql: &Spanned<String>, schema: &DFSchema, over: &str) -> Bound<Expr> {
        self.state.create_logical_expr(&sql.value, schema).map_err(|e| Box::new(self.finding(&e, sql, over)))
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
            other => self.other(&other.strip_backtrace(), sql),
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
        let first = text.lines().next().unwrap_or(text);
        let first = first.split("This issue was likely caused by").next().unwrap_or(first);
        let message = first
            .trim_start_matches("Error during planning: ")
            .trim_start_matches("Invalid function '")
            .trim_end_matches(['.', ' ']);
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
    let name = quoted.strip_prefix("kinfold.").unwrap_or(quoted);
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
