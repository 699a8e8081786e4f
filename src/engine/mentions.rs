//! Which columns models take from which source tables, and of what sort they must be: read from the text of
//! the models alone, for unit tests, where there are no files to look into.
//!
//! A column is taken to be a number where it is added up or compared with one, a time where it is compared
//! with a time, a truth value where it stands as a condition, and text elsewhere. Where several tables are in
//! reach, only a column that names its table counts: for the others the test itself, or `columns:` in
//! sources.yaml, must say which table has them.

use super::bind::Binder;
use crate::diagnostic::Spanned;
use crate::model::{
    AudienceCondition, AudienceModel, Condition, EventMatch, IdentityModel, MeasureFunction, Model, ModelKind,
    ProfileModel,
};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Select, TableFactor,
    TableWithJoins, UnaryOperator, Value, Visit, Visitor,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// What a column must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// Nothing says.
    #[default]
    Unknown,
    Text,
    Number,
    Time,
    Boolean,
}

/// Columns of source tables that models mention.
#[derive(Debug, Clone, Default)]
pub(super) struct Mentions {
    tables: BTreeMap<String, BTreeMap<String, Sort>>,
}

impl Mentions {
    /// Columns of a table by name.
    pub(super) fn of(&self, table: &str) -> BTreeMap<String, Sort> {
        self.tables.get(table).cloned().unwrap_or_default()
    }

    fn add(&mut self, table: &str, column: &str, sort: Sort) {
        let columns = self.tables.entry(table.to_owned()).or_default();
        let known = columns.entry(column.to_owned()).or_default();
        if *known == Sort::Unknown {
            *known = sort;
        }
    }

    /// Adds what a model mentions; SQL that does not parse is reported when it is bound.
    pub(super) fn read(&mut self, binder: &Binder<'_>, model: &Model) {
        match &model.kind {
            ModelKind::Sql(sql) => self.query(binder, &sql.sql),
            ModelKind::Identity(identity) => self.identity(binder, identity),
            ModelKind::Profile(profile) => self.profile(binder, profile),
            ModelKind::Audience(audience) => self.audience(binder, audience),
            ModelKind::Sync(_) => {}
        }
    }

    fn identity(&mut self, binder: &Binder<'_>, identity: &IdentityModel) {
        for link in &identity.links {
            for sql in link.ids.iter().flat_map(|i| &i.expressions) {
                self.expression(binder, sql, &link.from.value, Sort::Unknown);
            }
            self.condition_sql(binder, link.filter.as_ref(), &link.from.value);
        }
    }

    fn profile(&mut self, binder: &Binder<'_>, profile: &ProfileModel) {
        for source in profile.attributes.iter().flat_map(|a| &a.from) {
            self.expression(binder, &source.column, &source.table.value, Sort::Unknown);
        }
        for one in &profile.traits {
            for from in &one.from {
                self.expression(binder, &one.select, &from.value, Sort::Unknown);
                self.condition_sql(binder, one.filter.as_ref(), &from.value);
                for by in &one.by {
                    self.expression(binder, by, &from.value, Sort::Unknown);
                }
                if let Some(time) = &one.time {
                    self.add(&from.value, &time.value, Sort::Time);
                }
            }
        }
    }

    fn audience(&mut self, binder: &Binder<'_>, audience: &AudienceModel) {
        match &audience.condition {
            AudienceCondition::Sql(sql) => self.query(binder, sql),
            AudienceCondition::Where(condition) => self.condition(binder, &condition.value),
        }
    }

    fn condition(&mut self, binder: &Binder<'_>, condition: &Condition) {
        match condition {
            Condition::All(parts) | Condition::Any(parts) => {
                for part in parts {
                    self.condition(binder, &part.value);
                }
            }
            Condition::Not(inner) => self.condition(binder, &inner.value),
            Condition::Event(event) => {
                let table = &event.matching.table.value;
                self.matching(binder, &event.matching);
                for measure in &event.measures {
                    let counts = measure.function == MeasureFunction::UniqueCount;
                    let sort = if counts { Sort::Unknown } else { Sort::Number };
                    if let Some(operand) = &measure.operand {
                        self.expression(binder, operand, table, sort);
                    }
                }
                self.condition_sql(binder, event.first.as_ref(), table);
                self.condition_sql(binder, event.last.as_ref(), table);
                for by in &event.by {
                    self.expression(binder, by, table, Sort::Unknown);
                }
            }
            Condition::Sequence(steps) => {
                for step in steps {
                    self.matching(binder, &step.value.matching);
                    if let Some(same) = &step.value.same {
                        self.expression(binder, same, &step.value.matching.table.value, Sort::Unknown);
                    }
                }
            }
            Condition::Audience(_) | Condition::Trait(_) => {}
        }
    }

    fn matching(&mut self, binder: &Binder<'_>, matching: &EventMatch) {
        if !matching.is.is_empty() {
            let column = matching.column.as_ref().map_or("event", |c| c.value.as_str());
            self.add(&matching.table.value, column, Sort::Text);
        }
        self.condition_sql(binder, matching.filter.as_ref(), &matching.table.value);
    }

    fn condition_sql(&mut self, binder: &Binder<'_>, sql: Option<&Spanned<String>>, table: &str) {
        if let Some(sql) = sql {
            self.expression(binder, sql, table, Sort::Boolean);
        }
    }

    /// An expression over one table; alone, a column is of this sort.
    pub(super) fn expression(&mut self, binder: &Binder<'_>, sql: &Spanned<String>, table: &str, alone: Sort) {
        let dialect = binder.state.config().options().sql_parser.dialect;
        let Ok(parsed) = binder.state.sql_to_expr(&sql.value, &dialect) else { return };
        let scope = Scope { tables: vec![(String::new(), Some(table.to_owned()))] };
        let mut uses = Uses { scopes: vec![scope], mentions: self };
        uses.need(&parsed, alone);
        let _ = parsed.visit(&mut uses);
    }

    fn query(&mut self, binder: &Binder<'_>, sql: &Spanned<String>) {
        if let Ok(DfStatement::Statement(statement)) = binder.statement(sql) {
            let _ = statement.visit(&mut Uses { scopes: Vec::new(), mentions: self });
        }
    }
}

/// Tables in reach: alias, and the dotted name if it is a source table.
#[derive(Debug, Default)]
struct Scope {
    tables: Vec<(String, Option<String>)>,
}

impl Scope {
    fn of(select: &Select) -> Self {
        let mut scope = Self::default();
        for from in &select.from {
            scope.with_joins(from);
        }
        scope
    }

    fn with_joins(&mut self, from: &TableWithJoins) {
        self.factor(&from.relation);
        for join in &from.joins {
            self.factor(&join.relation);
        }
    }

    fn factor(&mut self, factor: &TableFactor) {
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let parts = parts(name);
                let called = alias.as_ref().map(|a| word(&a.name)).or_else(|| parts.last().cloned());
                let source = (parts.len() == 2).then(|| parts.join("."));
                self.tables.push((called.unwrap_or_default(), source));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => self.with_joins(table_with_joins),
            // a query of its own, or rows of a function
            _ => self.tables.push((String::new(), None)),
        }
    }

    /// The source table of a column, if that is certain.
    fn source(&self, qualifier: Option<&str>) -> Option<&str> {
        let found = match qualifier {
            Some(qualifier) => self.tables.iter().find(|(alias, _)| alias == qualifier)?,
            None => match self.tables.as_slice() {
                [one] => one,
                _ => return None,
            },
        };
        found.1.as_deref()
    }
}

/// A name as SQL reads it: lower case unless quoted.
fn word(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|p| p.as_ident()).map(word).collect()
}

/// Collects the uses of columns.
struct Uses<'m> {
    scopes: Vec<Scope>,
    mentions: &'m mut Mentions,
}

impl Uses<'_> {
    /// `expr`, if it is a plain column, is of this sort.
    fn need(&mut self, expr: &Expr, sort: Sort) {
        match expr {
            Expr::Identifier(ident) => self.column(None, &word(ident), sort),
            Expr::CompoundIdentifier(idents) => {
                if let [.., table, column] = idents.as_slice() {
                    self.column(Some(&word(table)), &word(column), sort);
                }
            }
            Expr::Nested(inner) => self.need(inner, sort),
            _ => {}
        }
    }

    fn column(&mut self, qualifier: Option<&str>, column: &str, sort: Sort) {
        // from the innermost query outwards
        let found = match qualifier {
            Some(_) => self.scopes.iter().rev().find_map(|s| s.source(qualifier)),
            None => self.scopes.last().and_then(|s| s.source(None)),
        };
        if let Some(table) = found.map(str::to_owned) {
            self.mentions.add(&table, column, sort);
        }
    }

    /// Both sides of a comparison are of one sort.
    fn same(&mut self, left: &Expr, right: &Expr) {
        self.need(left, sort_of(right));
        self.need(right, sort_of(left));
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) {
        use BinaryOperator as B;
        match op {
            B::And | B::Or => {
                self.need(left, Sort::Boolean);
                self.need(right, Sort::Boolean);
            }
            B::Plus | B::Minus | B::Multiply | B::Divide | B::Modulo => {
                let time = [left, right].iter().any(|e| sort_of(e) == Sort::Time);
                let sort = if time { Sort::Time } else { Sort::Number };
                self.need(left, sort);
                self.need(right, sort);
            }
            B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq => self.same(left, right),
            B::StringConcat => {
                self.need(left, Sort::Text);
                self.need(right, Sort::Text);
            }
            _ => {}
        }
    }

    fn call(&mut self, name: &ObjectName, arguments: &FunctionArguments) {
        let sort = match parts(name).last().map(String::as_str) {
            Some("sum" | "avg" | "mean" | "stddev" | "var" | "abs" | "round" | "ceil" | "floor" | "median") => {
                Sort::Number
            }
            Some("date_trunc" | "date_part" | "date_bin" | "to_char") => Sort::Time,
            Some("lower" | "upper" | "trim" | "substr" | "length" | "split_part" | "replace") => Sort::Text,
            _ => return,
        };
        let FunctionArguments::List(list) = arguments else { return };
        for argument in &list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                self.need(expr, sort);
            }
        }
    }
}

impl Visitor for Uses<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.scopes.push(Scope::of(select));
        for condition in select.selection.iter().chain(&select.having) {
            self.need(condition, Sort::Boolean);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &Select) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.need(expr, Sort::Unknown),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => self.same(left, right),
            Expr::UnaryOp { op: UnaryOperator::Not, expr }
            | Expr::IsTrue(expr)
            | Expr::IsFalse(expr)
            | Expr::IsNotTrue(expr)
            | Expr::IsNotFalse(expr) => self.need(expr, Sort::Boolean),
            Expr::Between { expr, low, high, .. } => {
                self.same(expr, low);
                self.same(expr, high);
            }
            Expr::InList { expr, list, .. } => {
                for value in list {
                    self.same(expr, value);
                }
            }
            Expr::Like { expr, .. } | Expr::ILike { expr, .. } | Expr::RLike { expr, .. } => {
                self.need(expr, Sort::Text);
            }
            Expr::Extract { expr, .. } => self.need(expr, Sort::Time),
            Expr::Cast { expr, .. } => self.need(expr, Sort::Text),
            Expr::Case { operand: None, conditions, .. } => {
                for when in conditions {
                    self.need(&when.condition, Sort::Boolean);
                }
            }
            Expr::Function(call) => self.call(&call.name, &call.args),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What an expression gives, as far as its text shows.
fn sort_of(expr: &Expr) -> Sort {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(..) => Sort::Number,
            Value::Boolean(_) => Sort::Boolean,
            Value::SingleQuotedString(_) => Sort::Text,
            _ => Sort::Unknown,
        },
        Expr::Interval(_) | Expr::TypedString(_) => Sort::Time,
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => sort_of(inner),
        Expr::BinaryOp { left, op: BinaryOperator::Plus | BinaryOperator::Minus, right } => {
            let (left, right) = (sort_of(left), sort_of(right));
            if left == Sort::Unknown { right } else { left }
        }
        Expr::Function(call) => match parts(&call.name).last().map(String::as_str) {
            Some("as_of" | "now" | "date_trunc" | "to_timestamp" | "current_date" | "current_timestamp") => Sort::Time,
            _ => Sort::Unknown,
        },
        _ => Sort::Unknown,
    }
}
