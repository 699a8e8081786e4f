//! The arrows of `src/`: which folder may know what, and how large a piece may be.
//!
//! Reads the text of the sources with comments and literals removed, so that a name in prose is no import.
//! Tests inside a module (from `#[cfg(test)]` to the end of the file) may use more than the module itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Folders that decide and do nothing else.
const PURE: [&str; 7] = ["model", "graph", "plan", "identity", "privacy", "diagnostic", "site"];
/// What pure code never touches: engines, the runtime, the world.
const WORLD: [&str; 11] = [
    "datafusion",
    "deltalake",
    "deltalake_core",
    "tokio",
    "object_store",
    "std::fs",
    "std::env",
    "std::net",
    "SystemTime",
    "Instant::now",
    "Utc::now",
];
const MAX_FILE_BYTES: usize = 40_000;
const MAX_FUNCTION_LINES: usize = 70;

/// A source file without comments and literals.
struct Source {
    /// Path from `src/`.
    path: String,
    bytes: usize,
    code: String,
}

impl Source {
    fn folder(&self) -> &str {
        self.path.split_once('/').map_or("", |(folder, _)| folder)
    }

    /// The code that is not only for tests.
    fn shipped(&self) -> &str {
        let is_test_file = self.path.ends_with("tests.rs") || self.path.ends_with("testing.rs");
        let end = if is_test_file { 0 } else { self.code.find("#[cfg(test)]\nmod ").unwrap_or(self.code.len()) };
        &self.code[..end]
    }

    /// Whether a path such as `std::fs` occurs as whole words, written out or through a `use` with braces.
    fn mentions(&self, path: &str) -> bool {
        let code = self.shipped();
        let nested = path.rsplit_once("::").is_some_and(|(parent, last)| {
            uses(code).iter().any(|u| u.starts_with(&format!("{parent}::{{")) && occurs(u, last))
        });
        nested || occurs(code, path)
    }
}

/// Whether `path` occurs and neither side continues the word.
fn occurs(code: &str, path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        !code[..at].ends_with(word) && !code[at + path.len()..].starts_with(word) && !code[..at].ends_with("crate::")
    })
}

/// The paths of `use` items, in one line each.
fn uses(code: &str) -> Vec<String> {
    code.split(';')
        .filter_map(|item| {
            item.rsplit_once("use ").filter(|(before, _)| before.ends_with([' ', '\n']) || before.is_empty())
        })
        .map(|(_, path)| path.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Blanks out comments, texts and characters; lines stay where they are.
fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |e| e + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else {
            let c = rest.chars().next().unwrap();
            code.push(c);
            at += c.len_utf8();
            continue;
        };
        code.extend(rest[..end].chars().filter(|c| *c == '\n'));
        at += end;
    }
    code
}

/// Length of the literal that starts here: a text, a raw text or a character; not a lifetime.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'));
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = rest.len() - raw.len() + hashes + 1;
            return rest[start..].find(&close).map(|e| start + e + close.len());
        }
    }
    let quoted = |quote: char| {
        let mut escaped = false;
        rest.char_indices().skip(1).find_map(|(at, c)| {
            if !escaped && c == quote {
                return Some(at + 1);
            }
            escaped = !escaped && c == '\\';
            None
        })
    };
    if rest.starts_with('"') {
        return quoted('"');
    }
    let mut chars = rest.strip_prefix('\'')?.chars();
    let is_character = chars.next()? == '\\' || chars.next()? == '\'';
    if is_character { quoted('\'') } else { None }
}

fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(read_sources)
}

fn read_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found: BTreeMap<PathBuf, String> = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.insert(path.clone(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 30, "only {} files", found.len());
    let source = |(path, text): (PathBuf, String)| Source {
        path: path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"),
        bytes: text.len(),
        code: without_comments_and_literals(&text),
    };
    found.into_iter().map(source).collect()
}

/// Every file that breaks a rule, with the rule.
fn broken(rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources().iter().flat_map(|s| rule(s).into_iter().map(|what| format!("src/{}: {what}", s.path))).collect()
}

#[track_caller]
fn none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn pure_folders_do_not_know_the_world() {
    none(&broken(|s| {
        let world = WORLD.iter().filter(|w| PURE.contains(&s.folder()) && s.mentions(w));
        world.map(|w| format!("pure code mentions {w}")).collect()
    }));
}

#[test]
fn pure_folders_know_no_folder_that_is_not() {
    let others = ["engine", "warehouse", "sync", "runner", "cli", "error"];
    none(&broken(|s| {
        let known =
            others.iter().filter(|o| PURE.contains(&s.folder()) && s.shipped().contains(&format!("crate::{o}")));
        known.map(|o| format!("pure code uses crate::{o}")).collect()
    }));
}

#[test]
fn only_the_engine_knows_datafusion() {
    none(&broken(|s| {
        let other = s.folder() != "engine" && s.mentions("datafusion");
        other.then(|| "mentions datafusion".to_owned()).into_iter().collect()
    }));
}

#[test]
fn warehouse_and_sync_do_not_know_the_engine() {
    none(&broken(|s| {
        let below = ["warehouse", "sync"].contains(&s.folder());
        let above =
            ["engine", "runner", "cli"].iter().filter(|a| below && s.shipped().contains(&format!("crate::{a}")));
        above.map(|a| format!("uses crate::{a}")).collect()
    }));
}

#[test]
fn nobody_knows_the_command_line() {
    none(&broken(|s| {
        let outside = !["cli", ""].contains(&s.folder());
        let uses = outside && (s.shipped().contains("crate::cli") || s.mentions("clap") || s.mentions("indicatif"));
        uses.then(|| "uses the command line".to_owned()).into_iter().collect()
    }));
}

#[test]
fn files_are_short_enough_to_read() {
    none(&broken(|s| (s.bytes > MAX_FILE_BYTES).then(|| format!("{} bytes", s.bytes)).into_iter().collect()));
}

#[test]
fn functions_are_short_enough_to_see() {
    none(&broken(|s| {
        let long = functions(&s.code).into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION_LINES);
        long.map(|(name, lines)| format!("fn {name} has {lines} lines")).collect()
    }));
}

/// Name and length of every function with a body, from its `fn` to its closing brace.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() || code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        // neither a declaration in a trait nor an array type `[u8; 4]` in the signature ends the search early
        let mut square = 0;
        let body = code[at..].find(|c| {
            square += i32::from(c == '[') - i32::from(c == ']');
            c == '{' || c == ';' && square == 0
        });
        let Some(body) = body.filter(|b| code[at + b..].starts_with('{')) else { continue };
        let mut depth = 0;
        let end = code[at + body..].find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        let length = end.map_or(code.len() - at, |e| body + e);
        found.push((name, code[at..at + length].matches('\n').count() + 1));
    }
    found
}

#[test]
fn the_reader_of_sources_is_right_about_rust() {
    let text = "// use datafusion::a;\nuse std::{env, fs};\nfn a<'x>(s: [u8; 4]) {\n    let c = '\"'; // fs\n    \"std::net {\";\n}\nfn b();\n";
    let code = without_comments_and_literals(text);
    let source = Source { path: "model/x.rs".to_owned(), bytes: text.len(), code };
    assert!(source.mentions("std::fs") && source.mentions("std::env"));
    assert!(!source.mentions("datafusion") && !source.mentions("std::net"));
    assert_eq!(functions(&source.code), [("a".to_owned(), 4)]);
    assert_eq!(without_comments_and_literals("r#\"a \" b\"#;'\\'';'a'"), ";;");
}
