//! Selectors: `name`, `+name` (with what it needs), `name+` (with what needs it), `tag:x`, `kind:x`.

use super::Graph;
use crate::model::Project;
use std::collections::BTreeSet;
use std::fmt;

/// A set of models that a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Model names.
    pub models: BTreeSet<String>,
}

/// A selector that selects nothing, with the nearest thing that would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError {
    /// The selector as given.
    pub selector: String,
    /// What it named: a model, a tag or a kind.
    pub what: &'static str,
    /// All names that would do.
    pub known: Vec<String>,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`--select {}` matches no {}", self.selector, self.what)
    }
}

impl Selection {
    /// The union of selectors; all models when there are none.
    ///
    /// # Errors
    /// Every selector that matches nothing.
    pub fn parse(selectors: &[String], graph: &Graph, project: &Project) -> Result<Self, Vec<SelectorError>> {
        if selectors.is_empty() {
            return Ok(Self { models: project.models.keys().cloned().collect() });
        }
        let mut models = BTreeSet::new();
        let mut errors = Vec::new();
        let parts = selectors.iter().flat_map(|s| s.split([' ', ','])).filter(|s| !s.is_empty());
        for part in parts {
            match one(part, graph, project) {
                Ok(found) => models.extend(found),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self { models }) } else { Err(errors) }
    }
}

fn one(selector: &str, graph: &Graph, project: &Project) -> Result<BTreeSet<String>, SelectorError> {
    let up = selector.starts_with('+');
    let down = selector.ends_with('+');
    let core = selector.trim_start_matches('+').trim_end_matches('+');
    let (what, found, known) = if let Some(tag) = core.strip_prefix("tag:") {
        let tagged = |t: &str| {
            project
                .models
                .values()
                .filter(move |m| m.tags.iter().any(|x| x.value == t))
                .map(|m| m.name.value.clone())
                .collect::<BTreeSet<_>>()
        };
        let tags: BTreeSet<String> = project.models.values().flat_map(|m| &m.tags).map(|t| t.value.clone()).collect();
        ("tag", tagged(tag), tags.into_iter().map(|t| format!("tag:{t}")).collect())
    } else if let Some(kind) = core.strip_prefix("kind:") {
        let of_kind: BTreeSet<String> =
            project.models.values().filter(|m| m.kind.word() == kind).map(|m| m.name.value.clone()).collect();
        let kinds: BTreeSet<String> = project.models.values().map(|m| format!("kind:{}", m.kind.word())).collect();
        ("kind", of_kind, kinds.into_iter().collect::<Vec<_>>())
    } else {
        let found = project.models.get(core).map(|m| BTreeSet::from([m.name.value.clone()])).unwrap_or_default();
        ("model", found, project.models.keys().cloned().collect())
    };
    if found.is_empty() {
        return Err(SelectorError { selector: selector.to_owned(), what, known });
    }
    let mut all = found.clone();
    for name in &found {
        if up {
            all.extend(graph.upstream(name));
        }
        if down {
            all.extend(graph.downstream(name));
        }
    }
    Ok(all)
}
