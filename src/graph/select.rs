//! Selectors: which models a command is about. Pure.
//!
//! | selector | selects |
//! |---|---|
//! | `name`, `pat*` | a model; `*` stands for any characters |
//! | `tag:x`, `kind:x` | models with a tag, of a kind |
//! | `path:models/audiences` | models whose file is this one, lies in this folder or matches with `*` |
//! | `source:web`, `source:web.tracks` | models that read a source or one of its tables directly |
//! | `state:modified`, `state:new` | models whose meaning changed, or that are new, against an earlier manifest |
//!
//! `+x` adds all that `x` needs and `x+` all that needs it, `2+x` and `x+2` at most so many steps away. A comma is
//! an intersection; blanks and repeated flags are a union. What `--exclude` selects is taken away at the end.

use super::Graph;
use crate::model::Project;
use std::collections::BTreeSet;
use std::fmt;

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Unions of intersections; none is everything.
    pub select: Vec<String>,
    /// What is taken away again.
    pub exclude: Vec<String>,
    /// What differs from an earlier manifest; `None` when there is none to compare with.
    pub changed: Option<Changed>,
}

/// Models that differ from an earlier manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Not there before.
    pub new: BTreeSet<String>,
    /// There before with another meaning.
    pub modified: BTreeSet<String>,
}

/// A set of models that a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Model names.
    pub models: BTreeSet<String>,
}

/// A selector that cannot mean anything, with what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError {
    /// `--select` or `--exclude`.
    pub option: &'static str,
    /// The selector as given.
    pub selector: String,
    /// What is wrong with it.
    pub problem: Problem,
    /// All selectors of that method that would do.
    pub known: Vec<String>,
}

/// What is wrong with a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It names something of this sort that is not there.
    MatchesNo(&'static str),
    /// Its parts have no model in common.
    NothingInCommon,
    /// The word before the colon is none of the methods.
    UnknownMethod,
    /// `state:` without an earlier manifest.
    NoState,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{} {}` ", self.option, self.selector)?;
        match self.problem {
            Problem::MatchesNo(what) => write!(f, "matches no {what}"),
            Problem::NothingInCommon => f.write_str("selects nothing: its parts have no model in common"),
            Problem::UnknownMethod => f.write_str("uses an unknown method"),
            Problem::NoState => f.write_str("needs an earlier manifest to compare with"),
        }
    }
}

const METHODS: [&str; 5] = ["tag:", "kind:", "path:", "source:", "state:"];

impl Selection {
    /// The models that a request selects: all when it names none, none only when `state:` or `exclude` say so.
    ///
    /// # Errors
    /// Every selector that matches nothing.
    pub fn parse(request: &Request, graph: &Graph, project: &Project) -> Result<Self, Vec<SelectorError>> {
        let context = Context { graph, project, changed: request.changed.as_ref() };
        let mut errors = Vec::new();
        let mut models = if request.select.is_empty() {
            project.models.keys().cloned().collect()
        } else {
            context.union("--select", &request.select, &mut errors)
        };
        for name in context.union("--exclude", &request.exclude, &mut errors) {
            models.remove(&name);
        }
        if errors.is_empty() { Ok(Self { models }) } else { Err(errors) }
    }
}

/// Where selectors are looked up.
struct Context<'a> {
    graph: &'a Graph,
    project: &'a Project,
    changed: Option<&'a Changed>,
}

impl Context<'_> {
    fn union(&self, option: &'static str, texts: &[String], errors: &mut Vec<SelectorError>) -> BTreeSet<String> {
        let mut models = BTreeSet::new();
        for term in texts.iter().flat_map(|t| t.split_whitespace()) {
            match self.intersection(term) {
                Ok(found) => models.extend(found),
                Err((selector, problem, known)) => {
                    errors.push(SelectorError { option, selector, problem, known });
                }
            }
        }
        models
    }

    fn intersection(&self, term: &str) -> Result<BTreeSet<String>, (String, Problem, Vec<String>)> {
        let mut common: Option<BTreeSet<String>> = None;
        // `a, b` is often written with a blank, and then ends in a comma
        let parts = term.split(',').filter(|p| !p.is_empty());
        let mut may_be_empty = false;
        for part in parts {
            let found = self.one(part).map_err(|(problem, known)| (part.to_owned(), problem, known))?;
            may_be_empty |= part.contains("state:");
            common = Some(match common {
                Some(before) => before.intersection(&found).cloned().collect(),
                None => found,
            });
        }
        let common = common.unwrap_or_default();
        if common.is_empty() && !may_be_empty {
            return Err((term.to_owned(), Problem::NothingInCommon, Vec::new()));
        }
        Ok(common)
    }

    /// A method with its `N+` and `+N`.
    fn one(&self, selector: &str) -> Result<BTreeSet<String>, (Problem, Vec<String>)> {
        let (up, rest) = leading_steps(selector);
        let (core, down) = trailing_steps(rest);
        let found = self.method(core)?;
        let mut all = found.clone();
        for name in &found {
            if let Some(steps) = up {
                all.extend(self.graph.upstream_within(name, steps));
            }
            if let Some(steps) = down {
                all.extend(self.graph.downstream_within(name, steps));
            }
        }
        Ok(all)
    }

    fn method(&self, core: &str) -> Result<BTreeSet<String>, (Problem, Vec<String>)> {
        let models = &self.project.models;
        let known = |prefix: &str, words: BTreeSet<String>| words.into_iter().map(|w| format!("{prefix}{w}")).collect();
        let (what, found, known): (_, BTreeSet<String>, Vec<String>) = match core.split_once(':') {
            Some(("tag", tag)) => {
                let tags = models.values().flat_map(|m| &m.tags).map(|t| t.value.clone()).collect();
                ("tag", self.where_model(|m| m.tags.iter().any(|t| matches(tag, &t.value))), known("tag:", tags))
            }
            Some(("kind", kind)) => {
                let kinds = models.values().map(|m| m.kind.word().to_owned()).collect();
                ("kind", self.where_model(|m| m.kind.word() == kind), known("kind:", kinds))
            }
            Some(("path", path)) => {
                let paths = models.values().map(|m| m.path.clone()).collect();
                ("path", self.where_model(|m| in_path(path, &m.path)), known("path:", paths))
            }
            Some(("source", source)) => ("source", self.readers_of(source), known("source:", self.sources())),
            Some(("state", state)) => return self.state(state),
            Some(_) => return Err((Problem::UnknownMethod, METHODS.map(str::to_owned).into())),
            None => ("model", self.where_model(|m| matches(core, &m.name.value)), models.keys().cloned().collect()),
        };
        if found.is_empty() { Err((Problem::MatchesNo(what), known)) } else { Ok(found) }
    }

    fn where_model(&self, is: impl Fn(&crate::model::Model) -> bool) -> BTreeSet<String> {
        self.project.models.values().filter(|m| is(m)).map(|m| m.name.value.clone()).collect()
    }

    fn readers_of(&self, source: &str) -> BTreeSet<String> {
        let whole = format!("{source}.*");
        let read = |table: &String| table.contains('.') && (matches(source, table) || matches(&whole, table));
        let readers = self.graph.needs().iter().filter(|(_, needs)| needs.iter().any(read));
        readers.map(|(name, _)| name.clone()).collect()
    }

    fn sources(&self) -> BTreeSet<String> {
        let tables = self.graph.tables_of(self.project.models.keys());
        let sources: BTreeSet<String> = tables.iter().filter_map(|t| Some(t.split_once('.')?.0.to_owned())).collect();
        tables.into_iter().chain(sources).collect()
    }

    fn state(&self, state: &str) -> Result<BTreeSet<String>, (Problem, Vec<String>)> {
        let known = || vec!["state:modified".to_owned(), "state:new".to_owned()];
        let Some(changed) = self.changed else { return Err((Problem::NoState, Vec::new())) };
        match state {
            "new" => Ok(changed.new.clone()),
            "modified" => Ok(changed.new.union(&changed.modified).cloned().collect()),
            _ => Err((Problem::MatchesNo("state"), known())),
        }
    }
}

/// `+x` is every step, `2+x` two; `None` when there is no plus.
fn leading_steps(selector: &str) -> (Option<Option<usize>>, &str) {
    let digits = selector.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    match selector[digits..].strip_prefix('+') {
        Some(rest) => (Some(selector[..digits].parse().ok()), rest),
        None => (None, selector),
    }
}

/// `x+` is every step, `x+2` two; `None` when there is no plus.
fn trailing_steps(selector: &str) -> (&str, Option<Option<usize>>) {
    let core = selector.trim_end_matches(|c: char| c.is_ascii_digit());
    match core.strip_suffix('+') {
        Some(name) => (name, Some(selector[core.len()..].parse().ok())),
        None => (selector, None),
    }
}

/// Whether a text is `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(after, &rest[at..]))
}

/// Whether a model's file is, lies below, or matches a path.
fn in_path(path: &str, file: &str) -> bool {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    matches(path, file) || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_before_and_behind() {
        assert_eq!(leading_steps("a"), (None, "a"));
        assert_eq!(leading_steps("+a"), (Some(None), "a"));
        assert_eq!(leading_steps("12+a"), (Some(Some(12)), "a"));
        assert_eq!(trailing_steps("a2"), ("a2", None));
        assert_eq!(trailing_steps("a+"), ("a", Some(None)));
        assert_eq!(trailing_steps("a2+3"), ("a2", Some(Some(3))));
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(matches("*_profile", "patient_profile") && matches("a*c*", "abcd") && matches("*", ""));
        assert!(!matches("a*c", "abd") && !matches("a", "ab") && !matches("a*", "ba"));
    }

    #[test]
    fn a_path_is_a_file_a_folder_or_a_pattern() {
        for path in ["models", "models/", "./models/a", "models/a/x.yaml", "models/*/x.*"] {
            assert!(in_path(path, "models/a/x.yaml"), "{path}");
        }
        assert!(!in_path("models/a/x", "models/a/x.yaml") && !in_path("mod", "models/a/x.yaml"));
    }
}
