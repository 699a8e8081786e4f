//! The parser's messages, told to the author: what stands where, what was expected, and what usually lies behind it.

use super::mistakes::lower_first;
use super::words::{self, Kind};
use crate::diagnostic::{Code, Diagnostic, Span};

/// Words that authors misspell so that the SQL falls apart somewhere behind them.
const KEYWORDS: [&str; 14] = [
    "SELECT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "UNION", "INNER", "LEFT", "JOIN", "USING",
    "DISTINCT", "BETWEEN",
];

/// A finding from the parser's message about `sql`; `at` is the byte that it names and `place` where that is.
pub(super) fn tell(message: &str, sql: &str, at: Option<usize>, place: Span) -> Diagnostic {
    let found = at.and_then(|at| sql[at..].chars().next());
    let said = match message.strip_prefix("Expected: ").and_then(|m| m.rsplit_once(", found: ")) {
        Some((wanted, "EOF")) => format!("expected {}, found the end", expected(wanted)),
        Some((wanted, word)) => format!("expected {}, found {}", expected(wanted), shown(word)),
        None => lower_first(message.trim_end_matches(['.', '!'])),
    };
    let finding = Diagnostic::error(Code::SqlSyntax, place, said.chars().take(110).collect::<String>());
    let label = match message {
        _ if message.starts_with("Unterminated") => "opened here",
        _ if message.ends_with("found: EOF") => "the SQL ends here",
        _ => "not expected here",
    };
    let finding = finding.with_label(label);
    match help(message, sql, at, found) {
        Some(help) => finding.with_help(help),
        None => finding,
    }
}

/// What the parser wanted: signs in quotes, words as they are.
fn expected(wanted: &str) -> String {
    let sign = wanted.chars().all(|c| !c.is_alphanumeric());
    let keyword = wanted.chars().all(|c| c.is_ascii_uppercase());
    match wanted {
        "end of statement" => "the end of the query".to_owned(),
        "end of expression" => "the end of the expression".to_owned(),
        _ if sign || keyword => format!("`{wanted}`"),
        _ => wanted.to_owned(),
    }
}

/// A word of the author's; characters that nobody sees are written out.
fn shown(word: &str) -> String {
    let mut out = String::from("`");
    for c in word.chars().take(40) {
        if is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// What usually lies behind it.
fn help(message: &str, sql: &str, at: Option<usize>, found: Option<char>) -> Option<String> {
    if message.starts_with("Unterminated string literal") {
        return Some("close the quote; a quote inside text is written twice: `'it''s'`".to_owned());
    }
    let at = at?;
    if sql.lines().any(|line| ["<<<<<<< ", ">>>>>>> "].iter().any(|mark| line.starts_with(mark))) {
        return Some("resolve the merge conflict: keep one side and remove the marks".to_owned());
    }
    let by_character = match found {
        Some(c) if is_invisible(c) => {
            Some("remove the character that nobody sees; it may have come with a copied text")
        }
        Some('\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}') => {
            Some("write straight quotes: `'text'`, and `\"name\"` for names")
        }
        Some('\u{2013}' | '\u{2014}') => Some("a comment begins with two hyphens, `--`"),
        Some('`') => Some("put names that need quotes in double quotes: `\"name\"`"),
        _ => None,
    };
    by_character.map(str::to_owned).or_else(|| misspelt(sql, at))
}

/// A keyword that the word there, or one of the two before it, is near to.
fn misspelt(sql: &str, at: usize) -> Option<String> {
    let pieces = words::pieces(sql);
    let here = pieces.iter().position(|p| p.end() > at).unwrap_or(pieces.len());
    let around = &pieces[here.saturating_sub(2)..(here + 1).min(pieces.len())];
    around.iter().filter(|p| p.kind == Kind::Word).find_map(|piece| {
        let word = piece.text.to_uppercase();
        let near = |k: &&&str| word.len() > 3 && word != **k && strsim::damerau_levenshtein(&word, k) == 1;
        let keyword = KEYWORDS.iter().find(near).filter(|_| !KEYWORDS.contains(&word.as_str()))?;
        Some(format!("did you mean `{keyword}` instead of `{}`?", piece.text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::FileId;

    fn said(message: &str, sql: &str, part: &str) -> (String, String) {
        let place = Span { file: FileId(0), start: 0, end: 0 };
        let finding = tell(message, sql, sql.find(part), place);
        (finding.message, finding.help.unwrap_or_default())
    }

    #[test]
    fn what_was_expected_is_said_in_plain_words() {
        let message = said("Expected: ), found: FROM", "SELECT (a FROM b", "FROM").0;
        assert_eq!(message, "expected `)`, found `FROM`");
        assert_eq!(
            said("Expected: an expression, found: EOF", "SELECT", "SELECT").0,
            "expected an expression, found the end"
        );
        let message = said("Expected: end of statement, found: \u{200b}", "SELECT a\u{200b}b", "\u{200b}");
        assert_eq!(message.0, "expected the end of the query, found `\\u{200b}`");
        assert!(message.1.contains("nobody sees"));
    }

    #[test]
    fn misspelt_keywords_are_found_before_the_place_that_the_parser_names() {
        let help = said("Expected: end of statement, found: .", "SELECT a FORM shop.visits", ".").1;
        assert_eq!(help, "did you mean `FROM` instead of `FORM`?");
        assert_eq!(said("Expected: end of statement, found: y", "SELECT a FROM x y z", "z").1, "");
    }

    #[test]
    fn copied_characters_are_named() {
        assert!(said("Expected: an expression, found: ‘", "WHERE a = ‘x’", "‘").1.contains("straight quotes"));
        assert!(said("Expected: end of statement, found: —", "SELECT 1 — one", "—").1.contains("two hyphens"));
        assert!(
            said("Expected: an SQL statement, found: <<", "<<<<<<< HEAD\nSELECT 1", "<<").1.contains("merge conflict")
        );
    }
}
