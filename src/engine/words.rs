//! SQL text as words and signs with their places, without a grammar.
//!
//! Used where a place is needed and DataFusion gives none, and to refuse text whose shape would exhaust the
//! stack of the parser or of the binder: both follow the text's nesting and its chains of operators by recursion.
//! Comments and the inside of text literals are no words. Broken SQL is read as far as it goes.

/// Levels of brackets, CASE and prefix operators that are read.
pub(super) const MAX_DEPTH: usize = 64;
/// Operators, set operations or joins in one row that are read.
const MAX_CHAIN: usize = 500;
/// Queries in one text that are read: as many as a row of set operations may have.
const MAX_QUERIES: usize = MAX_CHAIN + 1;

/// What a piece of SQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, a name or a number.
    Word,
    /// A name in double quotes; the piece covers the quotes.
    Quoted,
    /// A text literal.
    Text,
    /// One sign, or several that may be one operator.
    Sign,
}

/// A piece of SQL by its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub start: usize,
}

impl Piece<'_> {
    /// One past its last byte.
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|w| self.is(w))
    }

    /// Whether it is this name, as SQL compares names.
    fn names(&self, name: &str) -> bool {
        match self.kind {
            Kind::Word => self.text.eq_ignore_ascii_case(name),
            Kind::Quoted => self.text.trim_matches('"') == name,
            Kind::Sign => self.text == name,
            Kind::Text => false,
        }
    }
}

/// The pieces of a text, in order.
pub(super) fn pieces(sql: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (kind, length) = match first {
            _ if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |e| e + 2)),
            '\'' => (Some(Kind::Text), quoted(rest, '\'')),
            '"' => (Some(Kind::Quoted), quoted(rest, '"')),
            c if is_word(c) => (Some(Kind::Word), rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
            c if is_operator(c) => (Some(Kind::Sign), rest.find(|c| !is_operator(c)).unwrap_or(rest.len())),
            c if c.is_whitespace() => (None, c.len_utf8()),
            c => (Some(Kind::Sign), c.len_utf8()),
        };
        if let Some(kind) = kind {
            found.push(Piece { kind, text: &rest[..length], start: at });
        }
        at += length;
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Signs that may be parts of one operator, such as `||` or `<>`; a `-` may begin a comment and stands alone.
fn is_operator(c: char) -> bool {
    "|<>=!:&^~@#".contains(c)
}

/// Length of a quoted piece with its quotes; a doubled quote is part of it.
fn quoted(text: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(close) = text[at..].find(quote) {
        at += close + 1;
        if !text[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    text.len()
}

/// The bytes of a name, which may have parts (`web.tracks`), or of an operator: its first place, or its last.
pub(super) fn find(sql: &str, name: &str, last: bool) -> Option<(usize, usize)> {
    let parts: Vec<&str> = if name == "." { vec![name] } else { name.split('.').collect() };
    let pieces = pieces(sql);
    let begins = |at: usize| {
        parts.iter().enumerate().all(|(n, part)| {
            let dot = n == 0 || pieces.get(at + 2 * n - 1).is_some_and(|p| p.text == ".");
            dot && pieces.get(at + 2 * n).is_some_and(|p| p.names(part))
        })
    };
    let mut places = (0..pieces.len()).filter(|at| begins(*at));
    let at = if last { places.next_back() } else { places.next() }?;
    Some((pieces[at].start, pieces.get(at + 2 * (parts.len() - 1))?.end()))
}

/// Whether some `AS` gives this name.
pub(super) fn renamed(sql: &str, name: &str) -> bool {
    pieces(sql).windows(2).any(|pair| pair[0].is("AS") && pair[1].names(name))
}

/// The bytes of the first `*` that stands for columns.
pub(super) fn star(sql: &str) -> Option<(usize, usize)> {
    let pieces = pieces(sql);
    let mut pairs = pieces.windows(2);
    let columns = |p: &Piece<'_>| p.is_any(&["SELECT", "DISTINCT"]) || matches!(p.text, "," | ".");
    let star = pairs.find(|pair| pair[1].kind == Kind::Sign && pair[1].text == "*" && columns(&pair[0]))?;
    Some((star[1].start, star[1].end()))
}

/// Which limit a text passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    Depth,
    Chain,
    Queries,
}

impl Beyond {
    /// What is wrong, and the way out.
    pub(super) fn told(self) -> (String, &'static str) {
        match self {
            Self::Depth => (
                format!("the SQL is nested more than {MAX_DEPTH} levels deep"),
                "give inner steps a name: `WITH step AS (SELECT ...) SELECT ... FROM step`",
            ),
            Self::Queries => (
                format!("more than {MAX_QUERIES} queries stand in one text"),
                "make models of the steps, which others can read by name",
            ),
            Self::Chain => (
                format!("more than {MAX_CHAIN} operators stand in one row"),
                "write lists as `x IN (...)`, or keep the values in a table and join it",
            ),
        }
    }
}

/// Operators in a row on one level of brackets.
#[derive(Default)]
struct Level {
    /// Opened by CASE, so that END closes it.
    case: bool,
    logic: usize,
    compared: usize,
    arithmetic: usize,
    sets: usize,
    joins: usize,
    /// Behind FROM, where a comma joins.
    from: bool,
}

impl Level {
    fn longest(&self) -> usize {
        self.logic.max(self.compared).max(self.arithmetic).max(self.sets).max(self.joins)
    }

    /// Begins another expression of the same level.
    fn next(&mut self) {
        (self.logic, self.compared, self.arithmetic) = (0, 0, 0);
    }

    fn count(&mut self, piece: &Piece<'_>) {
        if piece.is_any(&["AND", "OR"]) {
            self.logic += 1;
            (self.compared, self.arithmetic) = (0, 0);
        } else if piece.is_any(&["UNION", "EXCEPT", "INTERSECT"]) {
            self.sets += 1;
            self.joins = 0;
            self.next();
        } else if piece.is("JOIN") {
            self.joins += 1;
            self.next();
        } else if piece.is_any(CLAUSES) || piece.text == "," {
            self.joins += usize::from(self.from && piece.text == ",");
            self.from = piece.is("FROM") || (self.from && (piece.is("ON") || piece.text == ","));
            self.next();
        } else if piece.is_any(COMPARISONS) {
            self.compared += 1;
            self.arithmetic = 0;
        } else if piece.kind == Kind::Sign {
            match piece.text {
                "=" | "<" | ">" | "<>" | "!=" | "<=" | ">=" => {
                    self.compared += 1;
                    self.arithmetic = 0;
                }
                "." | ";" => {}
                _ => self.arithmetic += 1,
            }
        }
    }
}

/// Words that begin another expression.
const CLAUSES: &[&str] =
    &["SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "QUALIFY", "LIMIT", "ON", "WHEN", "THEN", "ELSE"];

/// Words that stand where a comparison does, behind a whole expression.
const COMPARISONS: &[&str] =
    &["IS", "IN", "LIKE", "ILIKE", "RLIKE", "REGEXP", "SIMILAR", "BETWEEN", "AT", "COLLATE", "MEMBER", "OVERLAPS"];

/// Words that stand before an expression, which may begin with such a word again.
const PREFIXES: &[&str] = &["NOT", "INTERVAL", "EXISTS", "PRIOR", "BINARY", "ANY", "ALL", "SOME", "DATE", "TIMESTAMP"];

/// The first place where a text is deeper or longer than what is read.
pub(super) fn beyond_limits(sql: &str) -> Option<(usize, Beyond)> {
    let mut levels = vec![Level::default()];
    let (mut prefixes, mut queries) = (0, 0);
    for piece in pieces(sql) {
        queries += usize::from(piece.is("SELECT"));
        let opens = matches!(piece.text, "(" | "[" | "{") && piece.kind == Kind::Sign;
        let closes = matches!(piece.text, ")" | "]" | "}") && piece.kind == Kind::Sign;
        prefixes = if piece.is_any(PREFIXES) || matches!(piece.text, "-" | "+" | "~") { prefixes + 1 } else { 0 };
        if opens || piece.is("CASE") {
            if let Some(level) = levels.last_mut().filter(|_| piece.text == "[") {
                level.arithmetic += 1;
            }
            levels.push(Level { case: !opens, ..Level::default() });
        } else if levels.len() > 1 && (closes || (piece.is("END") && levels.last().is_some_and(|l| l.case))) {
            levels.pop();
        } else if let Some(level) = levels.last_mut() {
            level.count(&piece);
        }
        if levels.len() + prefixes > MAX_DEPTH {
            return Some((piece.start, Beyond::Depth));
        }
        // WITH queries that read one another are as deep as there are many
        if queries > MAX_QUERIES {
            return Some((piece.start, Beyond::Queries));
        }
        if levels.last().is_some_and(|l| l.longest() > MAX_CHAIN) {
            return Some((piece.start, Beyond::Chain));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        pieces(sql).into_iter().map(|p| p.text).collect()
    }

    #[test]
    fn comments_and_literals_are_no_words() {
        let sql = "SELECT 'it''s -- x' AS \"a b\" -- FROM y\n/* z */ , é||1 - -2";
        assert_eq!(texts(sql), ["SELECT", "'it''s -- x'", "AS", "\"a b\"", ",", "é", "||", "1", "-", "-", "2"]);
        assert_eq!(texts("'open"), ["'open"]);
        assert_eq!(texts("/* open"), Vec::<&str>::new());
    }

    #[test]
    fn names_are_found_as_whole_words() {
        let sql = "SELECT visits_seen, 'visits' FROM shop.visits v JOIN Shop . \"visits\" w";
        let found = |name, last| find(sql, name, last).map(|(start, end)| &sql[start..end]);
        assert_eq!(found("shop.visits", false), Some("shop.visits"));
        assert_eq!(found("shop.visits", true), Some("Shop . \"visits\""));
        assert_eq!(found("visits", false), Some("visits"));
        assert_eq!(find(sql, "visits", false).map(|(start, _)| start), sql.find("visits v"));
        assert_eq!(found("seen", false), None);
        assert_eq!(find("a >= 1 AND b > 2", ">", false), Some((13, 14)));
    }

    #[test]
    fn a_star_for_columns_is_no_product() {
        assert_eq!(star("SELECT count(*), 2 * a, b.* FROM b"), Some((26, 27)));
        assert_eq!(star("SELECT * FROM b"), Some((7, 8)));
        assert_eq!(star("SELECT 2 * a FROM b"), None);
    }

    #[test]
    fn depth_is_bounded_and_breadth_is_not() {
        let nested = |n: usize| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
        assert_eq!(beyond_limits(&nested(MAX_DEPTH - 1)), None);
        assert_eq!(beyond_limits(&nested(MAX_DEPTH)), Some((7 + MAX_DEPTH - 1, Beyond::Depth)));
        assert_eq!(beyond_limits(&"NOT ".repeat(100)).map(|b| b.1), Some(Beyond::Depth));
        assert_eq!(beyond_limits(&"CASE WHEN true THEN ".repeat(100)).map(|b| b.1), Some(Beyond::Depth));
        assert_eq!(beyond_limits(&format!("SELECT {}", vec!["abs(CASE WHEN a THEN 1 END)"; 5000].join(", "))), None);
    }

    #[test]
    fn chains_are_bounded_where_they_are_one_expression() {
        let chain = |operator: &str, n: usize| vec!["a"; n + 1].join(operator);
        let operators = [
            " AND ",
            "+",
            "||",
            "::",
            " UNION ALL SELECT ",
            " JOIN b ON ",
            " = ",
            " < ",
            " LIKE ",
            " AT TIME ZONE ",
            " IN ",
        ];
        for operator in operators {
            assert_eq!(beyond_limits(&chain(operator, MAX_CHAIN)), None, "{operator}");
            assert_eq!(beyond_limits(&chain(operator, MAX_CHAIN + 1)).map(|b| b.1), Some(Beyond::Chain), "{operator}");
        }
        let tables = |n: usize| format!("SELECT a, b FROM {} WHERE a IN (1, 2)", chain(", ", n));
        assert_eq!(beyond_limits(&tables(MAX_CHAIN)), None);
        assert_eq!(beyond_limits(&tables(MAX_CHAIN + 1)).map(|b| b.1), Some(Beyond::Chain));
        assert_eq!(beyond_limits(&"(SELECT 1), ".repeat(MAX_QUERIES + 1)).map(|b| b.1), Some(Beyond::Queries));
        assert_eq!(beyond_limits(&"INTERVAL ".repeat(100)).map(|b| b.1), Some(Beyond::Depth));
        assert_eq!(beyond_limits(&chain(", ", 5000)), None);
        assert_eq!(beyond_limits(&chain(", b+", 5000)), None);
    }
}
