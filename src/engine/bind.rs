//! From the author's SQL to bound expressions and plans, and from DataFusion's errors to findings with the
//! author's line and column.

use super::mistakes::{self, Functions, Told, Which, sql_type};
use super::words;
use crate::diagnostic::{Code, Diagnostic, SourceMap, Span, Spanned};
use crate::model::Model;
use crate::project::nearest;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, SchemaError, Span as SqlSpan, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, Statement as SqlStatement, Visit, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Result of binding one thing.
pub(super) type Bound<T> = std::result::Result<T, Box<Diagnostic>>;

/// Binds snippets in one session, placing errors in the author's files.
pub(super) struct Binder<'a> {
    pub state: &'a SessionState,
    pub map: &'a SourceMap,
    /// Whether `secret()` may be used.
    pub secrets: bool,
}

impl Binder<'_> {
    /// Binds an expression over the columns of one row of `schema`; `over` says whose columns they are.
    pub(super) fn expression(&self, sql: &Spanned<String>, schema: &DFSchema, over: &str) -> Bound<Expr> {
        let expr = self.aggregate(sql, schema, over)?;
        // types are checked here, where the snippet is known, and not in the plan that it becomes part of
        expr.get_type(schema).map_err(|e| Box::new(self.finding(&e, sql, over)))?;
        if contains(&expr, |e| matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_))) {
            let finding =
                Diagnostic::error(Code::SqlGrouping, sql.span, "an aggregate has no meaning for a single row")
                    .with_label("looks at one row")
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
                let message = format!("a condition is true or false, this is {}", sql_type(&other.to_string()));
                let finding = Diagnostic::error(Code::SqlTypes, sql.span, message)
                    .with_label("not a condition")
                    .with_help("compare it with something, as in `x = 'y'` or `x IS NOT NULL`");
                Err(Box::new(finding))
            }
            Err(e) => Err(Box::new(self.finding(&e, sql, over))),
        }
    }

    /// Binds an expression that may hold aggregates.
    pub(super) fn aggregate(&self, sql: &Spanned<String>, schema: &DFSchema, over: &str) -> Bound<Expr> {
        self.within_limits(sql)?;
        let bound = self.state.create_logical_expr(&sql.value, schema);
        let expr = bound.map_err(|e| Box::new(self.finding(&e, sql, over)))?;
        // types are those of the values that will come: CASE gives its branches one type only then
        let expr = super::wide::coerced(self.state, expr.clone(), schema).unwrap_or(expr);
        if !self.secrets && contains(&expr, is_secret) {
            return Err(Box::new(self.no_secret_here(sql)));
        }
        Ok(expr)
    }

    /// What may stand in a sync or a trait, but not in a query whose rows are stored.
    pub(super) fn misplaced(&self, plan: &LogicalPlan, sql: &Spanned<String>) -> Option<Box<Diagnostic>> {
        let mut found = None;
        let _ = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                if !self.secrets && contains(expr, is_secret) {
                    found = Some(self.no_secret_here(sql));
                }
                let clock = |e: &Expr| matches!(e, Expr::AggregateFunction(a) if matches!(a.func.name(), "first" | "last"));
                if contains(expr, clock) {
                    let message = "first() and last() need an order here";
                    let finding = Diagnostic::error(Code::SqlArguments, self.find_word("first", sql), message)
                        .with_label("of which row")
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
                    .with_label("depends on when it runs")
                    .with_help("use as_of(), the run's logical time, so that a run can be repeated"),
                );
            }
        }
    }

    /// Functions that a snippet calls; none when it does not parse (binding says so).
    fn functions(&self, sql: &Spanned<String>) -> BTreeSet<String> {
        if self.within_limits(sql).is_err() {
            return BTreeSet::new();
        }
        let dialect = self.state.config().options().sql_parser.dialect;
        let mut calls = Calls(BTreeSet::new());
        if let Ok(expr) = self.state.sql_to_expr(&sql.value, &dialect) {
            let _ = expr.visit(&mut calls);
        } else if let Ok(Statement::Statement(statement)) = self.state.sql_to_statement(&sql.value, &dialect) {
            let _ = statement.visit(&mut calls);
        }
        calls.0
    }

    /// Parses one query; another statement is refused.
    fn select(&self, sql: &Spanned<String>) -> Bound<Statement> {
        let statement = self.statement(sql)?;
        if matches!(&statement, Statement::Statement(s) if matches!(s.as_ref(), SqlStatement::Query(_))) {
            return Ok(statement);
        }
        let finding = Diagnostic::error(Code::SqlSyntax, self.first_line(sql), "a model is one query")
            .with_label("not a query")
            .with_help("write a SELECT; Kinfold creates and fills the table");
        Err(Box::new(finding))
    }

    /// Parses one statement.
    pub(super) fn statement(&self, sql: &Spanned<String>) -> Bound<Statement> {
        self.within_limits(sql)?;
        let dialect = self.state.config().options().sql_parser.dialect;
        self.state.sql_to_statement(&sql.value, &dialect).map_err(|e| Box::new(self.finding(&e, sql, "")))
    }

    /// Tables that a query names, with their places.
    pub(super) fn references(&self, sql: &Spanned<String>) -> Bound<BTreeMap<String, Span>> {
        let statement = self.select(sql)?;
        let tables =
            self.state.resolve_table_references(&statement).map_err(|e| Box::new(self.finding(&e, sql, "")))?;
        // a function that returns rows is named like a table
        let functions = self.state.table_functions();
        let names = tables.iter().map(plain_name).filter(|name| !functions.contains_key(name));
        Ok(names.map(|name| (name.clone(), self.find_word(&name, sql))).collect())
    }

    /// Binds a query; anything but a query is refused. All that DataFusion found is given.
    pub(super) async fn query(&self, sql: &Spanned<String>) -> Result<LogicalPlan, Vec<Diagnostic>> {
        let statement = self.select(sql).map_err(|finding| vec![*finding])?;
        self.state.statement_to_plan(statement).await.map_err(|e| self.findings(&e, sql))
    }

    /// Names that an expression mentions, before anything is bound.
    pub(super) fn mentioned(&self, sql: &Spanned<String>) -> Bound<BTreeSet<String>> {
        self.within_limits(sql)?;
        let dialect = self.state.config().options().sql_parser.dialect;
        let parsed = self.state.sql_to_expr(&sql.value, &dialect).map_err(|e| Box::new(self.finding(&e, sql, "")))?;
        let mut names = Names(BTreeSet::new());
        let _ = parsed.visit(&mut names);
        Ok(names.0)
    }

    /// Refuses SQL that would exhaust the stack of those who read it.
    fn within_limits(&self, sql: &Spanned<String>) -> Bound<()> {
        let Some((at, beyond)) = words::beyond_limits(&sql.value) else { return Ok(()) };
        let (message, help) = beyond.told();
        let place = self.map.locate_range(sql.span, &sql.value, at, at + 1);
        Err(Box::new(Diagnostic::error(Code::SqlLimit, place, message).with_label("the limit is here").with_help(help)))
    }

    /// Turns a DataFusion error about `sql` into a finding.
    pub(super) fn finding(&self, error: &DataFusionError, sql: &Spanned<String>, over: &str) -> Diagnostic {
        self.finding_at(error, sql, over, None)
    }

    /// As [`Self::finding`], when DataFusion collected several.
    pub(super) fn findings(&self, error: &DataFusionError, sql: &Spanned<String>) -> Vec<Diagnostic> {
        match error {
            DataFusionError::Collection(all) if !all.is_empty() => {
                all.iter().flat_map(|e| self.findings(e, sql)).collect()
            }
            other => vec![self.finding(other, sql, "")],
        }
    }

    /// An error about something that is more than one snippet; it has the place of what names it.
    pub(super) fn engine_finding(&self, error: &DataFusionError, span: Span) -> Diagnostic {
        let told = mistakes::tell(&plain(error), &self.known_functions());
        let finding = Diagnostic::error(told.code, span, told.message).with_label(told.label);
        match told.help {
            Some(help) => finding.with_help(help),
            None => finding,
        }
    }

    /// A result whose columns no table can have.
    pub(super) fn unstorable(&self, error: &crate::error::Error, sql: &Spanned<String>) -> Diagnostic {
        let told = mistakes::tell(&error.to_string(), &Functions::default());
        // columns that are not named come from a star
        let star = words::star(&sql.value).filter(|_| told.code == Code::SqlDuplicateColumn);
        match star {
            Some(place) => self.told(Told { word: None, label: "all columns of all tables", ..told }, sql, Some(place)),
            None => self.told(told, sql, None),
        }
    }

    /// `near` is the range of the SQL that DataFusion's own diagnostic names.
    fn finding_at(
        &self,
        error: &DataFusionError,
        sql: &Spanned<String>,
        over: &str,
        near: Option<(usize, usize)>,
    ) -> Diagnostic {
        match error {
            DataFusionError::Diagnostic(diagnostic, inner) => {
                let near = diagnostic.span.as_ref().map(|span| range(&sql.value, span)).or(near);
                let finding = self.finding_at(inner, sql, over, near);
                let possible = diagnostic.notes.iter().filter_map(|n| n.message.strip_prefix("possible column "));
                let possible: Vec<String> = possible.map(|c| format!("`{c}`")).collect();
                if finding.code == Code::SqlAmbiguousColumn && !possible.is_empty() {
                    return finding.with_help(format!("write {}", possible.join(" or ")));
                }
                finding
            }
            DataFusionError::Context(_, inner) => self.finding_at(inner, sql, over, near),
            DataFusionError::Collection(all) if !all.is_empty() => self.finding_at(&all[0], sql, over, near),
            DataFusionError::Shared(inner) => self.finding_at(inner, sql, over, near),
            DataFusionError::SQL(parser, _) => self.syntax(&parser.to_string(), sql),
            DataFusionError::SchemaError(schema, _) => self.schema(schema, sql, over, near),
            other => self.told(mistakes::tell(&plain(other), &self.known_functions()), sql, near),
        }
    }

    fn known_functions(&self) -> Functions {
        let plain = self.state.scalar_functions().keys().chain(self.state.aggregate_functions().keys());
        let mut functions = Functions {
            plain: plain.cloned().collect(),
            windows: self.state.window_functions().keys().cloned().collect(),
        };
        functions.plain.sort();
        functions.windows.retain(|name| functions.plain.binary_search(name).is_err());
        functions.windows.sort();
        functions
    }

    /// Gives a told message its place: the word that it is about, what DataFusion named, or the first line.
    fn told(&self, told: Told, sql: &Spanned<String>, near: Option<(usize, usize)>) -> Diagnostic {
        let by_word = told.word.and_then(|(word, which)| {
            let (start, end) = near.filter(|_| which != Which::Anywhere).unwrap_or((0, sql.value.len()));
            let find = |last| words::find(&sql.value[start..end], &word, last).map(|(s, e)| (s + start, e + start));
            match which {
                Which::First | Which::Anywhere => find(false),
                Which::Last => find(true),
                Which::Only => find(false).filter(|first| find(true) == Some(*first)).or_else(|| {
                    let first = words::find(&sql.value, &word, false);
                    first.filter(|_| first == words::find(&sql.value, &word, true))
                }),
            }
        });
        let place = match by_word.or(near) {
            Some((start, end)) => self.map.locate_range(sql.span, &sql.value, start, end),
            None => self.first_line(sql),
        };
        let finding = Diagnostic::error(told.code, place, told.message).with_label(told.label);
        match told.help {
            Some(help) => finding.with_help(help),
            None => finding,
        }
    }

    fn syntax(&self, text: &str, sql: &Spanned<String>) -> Diagnostic {
        let text = text.trim_start_matches("sql parser error: ");
        let (message, position) = split_position(text);
        let at = position.map(|(line, column)| offset(&sql.value, line, column));
        let last = words::pieces(&sql.value).last().map(|piece| (piece.start, piece.end()));
        let place = match (position, last) {
            (Some((line, column)), _) => self.place(sql, line, column),
            (None, Some((start, end))) if message.ends_with("found: EOF") => {
                self.map.locate_range(sql.span, &sql.value, start, end)
            }
            (None, _) => self.first_line(sql),
        };
        super::syntax::tell(message, &sql.value, at, place)
    }

    fn schema(
        &self,
        error: &SchemaError,
        sql: &Spanned<String>,
        over: &str,
        near: Option<(usize, usize)>,
    ) -> Diagnostic {
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let near = field.spans.first().map(|s| range(&sql.value, &s)).or(near);
                self.no_column(field, valid_fields, sql, over, near)
            }
            SchemaError::AmbiguousReference { field } => {
                let near = field.spans.first().map(|s| range(&sql.value, &s)).or(near);
                let message = format!("`{}` is a column of several tables of this query", field.name);
                let told = Told {
                    code: Code::SqlAmbiguousColumn,
                    message,
                    label: "of which table",
                    help: Some(format!("write the table before it, as in `a.{}`", field.name)),
                    word: Some((field.name.clone(), Which::First)),
                };
                self.told(told, sql, near)
            }
            other => self.told(mistakes::tell(&other.to_string(), &self.known_functions()), sql, near),
        }
    }

    fn no_column(
        &self,
        field: &Column,
        valid: &[Column],
        sql: &Spanned<String>,
        over: &str,
        near: Option<(usize, usize)>,
    ) -> Diagnostic {
        let name = &field.name;
        let told = |message: String, label, word: &str| {
            let word = Some((word.to_owned(), Which::First));
            self.told(Told { code: Code::SqlUnknownColumn, message, label, help: None, word }, sql, near)
        };
        if let Some(table) = &field.relation {
            let tables: BTreeSet<&TableReference> = valid.iter().filter_map(|c| c.relation.as_ref()).collect();
            if !tables.contains(table) {
                let finding = told(format!("no table `{}` in this SQL", plain_name(table)), "not here", table.table());
                let names: Vec<String> = tables.iter().map(|t| format!("`{}`", plain_name(t))).collect();
                let fields = valid.iter().any(|c| c.name == *name);
                return finding.with_help(match (names.is_empty() || !over.is_empty(), fields) {
                    (true, true) => format!("write `{name}` alone"),
                    (true, false) => format!("write columns of `{over}` alone, without a table"),
                    _ => format!("columns come from {}", names.join(", ")),
                });
            }
        }
        let of = match over {
            "" => String::new(),
            words if words.contains(' ') => format!(" in {words}"),
            name => format!(" in `{name}`"),
        };
        let finding = told(format!("no column `{name}`{of}"), "not a column", name);
        let quoted = finding.span.is_some_and(|span| self.map.text(span).starts_with('"'));
        // names without quotes are read in lower case
        if let Some(capitals) = valid.iter().find(|c| !quoted && c.name != *name && c.name.to_lowercase() == *name) {
            return finding.with_help(format!("keep its capitals with double quotes: `\"{}\"`", capitals.name));
        }
        if words::renamed(&sql.value, name) && !valid.iter().any(|c| c.name == *name) {
            let help = "a name that SELECT gives with AS is not known in WHERE: write the expression again";
            return finding.with_help(help);
        }
        let finding = suggest(finding, name, valid);
        let near = finding.help.as_ref().is_some_and(|h| h.starts_with("did you mean"));
        if quoted && !near {
            return finding.with_help(format!("text is written in single quotes: `'{name}'`"));
        }
        finding
    }

    fn no_secret_here(&self, sql: &Spanned<String>) -> Diagnostic {
        let place = self.find_word("secret", sql);
        Diagnostic::error(Code::SqlBinding, place, "secret() may be used in the columns of a sync only")
            .with_label("would be stored")
            .with_help("what a model computes is in the warehouse, where everyone who reads it would see the secret")
    }

    /// The place of a name inside a snippet, or its first line.
    fn find_word(&self, word: &str, sql: &Spanned<String>) -> Span {
        match words::find(&sql.value, word, false) {
            Some((start, end)) => self.map.locate_range(sql.span, &sql.value, start, end),
            None => self.first_line(sql),
        }
    }

    /// The first line of a snippet that is no comment.
    pub(super) fn first_line(&self, sql: &Spanned<String>) -> Span {
        let blank = sql.value.len() - sql.value.trim_start().len();
        let first = words::pieces(&sql.value).first().map_or(blank, |p| p.start);
        let line = sql.value[first..].split('\n').next().unwrap_or_default().trim_end();
        self.map.locate_range(sql.span, &sql.value, first, first + line.len())
    }

    fn place(&self, sql: &Spanned<String>, line: u64, column: u64) -> Span {
        let line = usize::try_from(line).unwrap_or(1);
        let column = usize::try_from(column).unwrap_or(1);
        self.map.locate_in(sql.span, &sql.value, line, column)
    }
}

/// The byte at a position that the parser gives.
fn offset(sql: &str, line: u64, column: u64) -> usize {
    SourceMap::offset_in(sql, usize::try_from(line).unwrap_or(1), usize::try_from(column).unwrap_or(1))
}

/// The bytes of a span that DataFusion gives, cut at the end of its first line.
fn range(sql: &str, span: &SqlSpan) -> (usize, usize) {
    let start = offset(sql, span.start.line, span.start.column);
    let end = offset(sql, span.end.line, span.end.column).max(start);
    let line = sql[start..].find('\n').map_or(sql.len(), |i| start + i);
    (start, end.min(line))
}

/// `web.tracks`, or the plain name of a model.
pub(super) fn plain_name(table: &TableReference) -> String {
    match table.schema() {
        Some(schema) if schema != "models" => format!("{schema}.{}", table.table()),
        _ => table.table().to_owned(),
    }
}

fn suggest(finding: Diagnostic, wanted: &str, valid: &[Column]) -> Diagnostic {
    match nearest(wanted, valid.iter().map(|c| c.name.as_str())) {
        Some(name) => finding.with_help(format!("did you mean `{name}`?")),
        None => {
            // names of our own, which authors do not write, begin with two underscores
            let names = valid.iter().map(|c| c.name.as_str()).filter(|name| !name.starts_with("__"));
            let names: BTreeSet<&str> = names.collect();
            let shown: Vec<&str> = names.iter().take(12).copied().collect();
            let more = if names.len() > shown.len() { ", ..." } else { "" };
            let none = shown.is_empty();
            finding.with_help(if none {
                "there are no columns here".to_owned()
            } else {
                format!("there are: {}{more}", shown.join(", "))
            })
        }
    }
}

fn split_position(text: &str) -> (&str, Option<(u64, u64)>) {
    let Some((message, rest)) = text.rsplit_once(" at Line: ") else {
        return (text.trim_start_matches("ParserError(\"").trim_end_matches("\")"), None);
    };
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty());
    let position = numbers.next().and_then(|l| l.parse().ok()).zip(numbers.next().and_then(|c| c.parse().ok()));
    (message.trim_start_matches("ParserError(\""), position)
}

/// What DataFusion writes before a message, to say which of its parts speaks.
const PREFIXES: [&str; 11] = [
    "Internal error: ",
    "Error during planning: ",
    "Execution error: ",
    "External error: ",
    "SQL error: ",
    "Arrow error: ",
    "Cast error: ",
    "Json error: ",
    "Parquet error: ",
    "Parser error: ",
    "This feature is not implemented: ",
];

/// A message without what says which part of the engine speaks.
pub(super) fn without_prefixes(text: &str) -> &str {
    let mut text = text;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    text
}

/// The cause of a DataFusion error in one line, without its advice to DataFusion's developers.
pub(super) fn plain(error: &DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
    let mut line = line.split("This issue was likely caused by").next().unwrap_or(line);
    line = without_prefixes(line);
    let line = line.replace("kinfold.models.", "").replace("kinfold.kinfold.", "kinfold.");
    line.trim_start_matches("ParserError(\"").trim_end_matches("\")").trim_end_matches(['.', ' ']).to_owned()
}

fn contains(expr: &Expr, is: impl Fn(&Expr) -> bool) -> bool {
    expr.exists(|e| Ok(is(e))).unwrap_or(false)
}

fn is_secret(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == "secret")
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
}
