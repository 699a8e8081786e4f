//! One spelling for SQL: what two texts that differ in comments, white space and the case of keywords have in
//! common. For comparing definitions; never executed.

use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectNamePart, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use std::ops::ControlFlow;

/// Names without quotes are one name in any case.
struct Lower;

impl Lower {
    fn ident(ident: &mut Ident) {
        if ident.quote_style.is_none() {
            ident.value.make_ascii_lowercase();
        }
    }
}

impl VisitorMut for Lower {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => Self::ident(ident),
            Expr::CompoundIdentifier(parts) => parts.iter_mut().for_each(Self::ident),
            Expr::Function(call) => {
                for part in &mut call.name.0 {
                    if let ObjectNamePart::Identifier(ident) = part {
                        Self::ident(ident);
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The parsed text printed again; text that does not parse keeps its words, with single blanks between them.
pub fn spelling(sql: &str) -> String {
    expression(sql).or_else(|| query(sql)).unwrap_or_else(|| sql.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn expression(sql: &str) -> Option<String> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(sql).ok()?;
    let mut expr = parser.parse_expr().ok()?;
    let _ = VisitMut::visit(&mut expr, &mut Lower);
    (parser.peek_token().token == Token::EOF).then(|| expr.to_string())
}

fn query(sql: &str) -> Option<String> {
    let mut statements = Parser::parse_sql(&GenericDialect {}, sql).ok()?;
    let _ = VisitMut::visit(&mut statements, &mut Lower);
    Some(statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blanks_and_keyword_case_do_not_count() {
        let same = ["select a, b from t where x = 'A b'", "SELECT a,b -- why\nFROM t\n  WHERE x = 'A b';"];
        assert_eq!(spelling(same[0]), spelling(same[1]));
        assert_eq!(spelling("Count( DISTINCT Cookie )"), spelling("count(DISTINCT cookie)"));
        assert_eq!(spelling("event = 'x'  and y>1"), spelling("event='x' AND y > 1 /* c */"));
    }

    #[test]
    fn text_inside_quotes_counts() {
        assert_ne!(spelling("x = 'a  b'"), spelling("x = 'a b'"));
        assert_ne!(spelling("\"From\" = 1"), spelling("\"from\" = 1"));
        assert_ne!(spelling("select 1 from t"), spelling("select 2 from t"));
    }

    #[test]
    fn what_does_not_parse_is_still_comparable() {
        assert_eq!(spelling("select  from\nwhere ("), "select from where (");
    }
}
