//! What an author defined, validated in shape but not yet bound to data.
//!
//! Pure values: no DataFusion, no file system, no clock. `project` makes them from files, `graph` orders
//! them, `engine` binds and executes them. Every text that can be wrong later (SQL, names) keeps its
//! [`Span`](crate::diagnostic::Span), so that later steps point into the author's file.

mod audience;
mod consent;
mod http;
mod identity;
mod privacy;
mod profile;
mod settings;
mod source;
mod sync;
mod test;
mod values;

pub use audience::*;
pub use consent::*;
pub use http::*;
pub use identity::*;
pub use privacy::*;
pub use profile::*;
pub use settings::*;
pub use source::*;
pub use sync::*;
pub use test::*;
pub use values::*;

use crate::diagnostic::Spanned;
use std::collections::BTreeMap;

/// A whole project: settings, sources, destinations and models by name.
#[derive(Debug, Clone)]
pub struct Project {
    /// Settings of `kinfold.yaml`, with the chosen target applied.
    pub settings: Settings,
    /// Sources in the order of `sources.yaml`.
    pub sources: Vec<Source>,
    /// Destinations of `destinations.yaml`.
    pub destinations: Vec<Destination>,
    /// Models by name; names are unique over all kinds.
    pub models: BTreeMap<String, Model>,
    /// What people agreed to.
    pub consent: Option<ConsentModel>,
    /// Unit tests, in the order of their files.
    pub unit_tests: Vec<UnitTest>,
}

impl Project {
    /// Finds an enabled or disabled source table by its dotted name, such as `web.tracks`.
    pub fn source_table(&self, name: &str) -> Option<(&Source, &SourceTable)> {
        let (source, table) = name.split_once('.')?;
        let source = self.sources.iter().find(|s| s.name.value == source)?;
        let table = source.tables.iter().find(|t| t.name.value == table)?;
        Some((source, table))
    }

    /// Audiences that are decided before this one because they stand before it in its group.
    pub fn before_in_group(&self, audience: &str) -> Vec<&str> {
        let group_of = |model: &'_ Model| match &model.kind {
            ModelKind::Audience(audience) => audience.narrowing.group.clone(),
            _ => None,
        };
        let Some(own) = self.models.get(audience).and_then(group_of) else { return Vec::new() };
        let before = self.models.values().filter(|m| {
            group_of(m).is_some_and(|g| g.name.value == own.name.value && g.priority.value < own.priority.value)
        });
        before.map(|m| m.name.value.as_str()).collect()
    }

    /// Data tests of a source table or a model; none for other names.
    pub fn tests_of(&self, name: &str) -> &[DataTest] {
        match (self.models.get(name), self.source_table(name)) {
            (Some(model), _) => &model.tests,
            (None, Some((_, table))) => &table.tests,
            (None, None) => &[],
        }
    }

    /// Names of the enabled source tables and the models that have data tests.
    pub fn tested(&self) -> Vec<String> {
        let models = self.models.values().filter(|m| !m.tests.is_empty()).map(|m| m.name.value.clone());
        let tables = self.sources.iter().flat_map(|s| s.tables.iter().map(move |t| (s, t)));
        let tables = tables.filter(|(_, t)| t.enabled && !t.tests.is_empty());
        tables.map(|(s, t)| format!("{}.{}", s.name.value, t.name.value)).chain(models).collect()
    }
}

/// One model, with what all kinds have in common.
#[derive(Debug, Clone)]
pub struct Model {
    /// Unique name; also the name of its main table.
    pub name: Spanned<String>,
    /// Free text for people.
    pub description: Option<String>,
    /// Tags for selection (`tag:x`).
    pub tags: Vec<Spanned<String>>,
    /// Path of the defining file, relative to the project, with forward slashes.
    pub path: String,
    /// Data tests of its main table.
    pub tests: Vec<DataTest>,
    /// Labels that it adds or takes off.
    pub privacy: ModelPrivacy,
    /// What it is.
    pub kind: ModelKind,
}

/// The kinds of model.
#[derive(Debug, Clone)]
pub enum ModelKind {
    /// `models/x.sql`, with an optional YAML file beside it.
    Sql(SqlModel),
    /// `kind: identity`.
    Identity(IdentityModel),
    /// `kind: profile`.
    Profile(ProfileModel),
    /// `kind: audience`.
    Audience(AudienceModel),
    /// `kind: sync`.
    Sync(SyncModel),
}

impl ModelKind {
    /// The word that `kind:` uses.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Sql(_) => "sql",
            Self::Identity(_) => "identity",
            Self::Profile(_) => "profile",
            Self::Audience(_) => "audience",
            Self::Sync(_) => "sync",
        }
    }
}

/// A SQL model: text after templates were rendered, line numbers kept.
#[derive(Debug, Clone)]
pub struct SqlModel {
    /// The rendered SQL, one query. The span covers the whole file.
    pub sql: Spanned<String>,
    /// Whether rendering changed the text (spans then hold line numbers only).
    pub templated: bool,
    /// How the result is kept.
    pub materialize: Materialize,
}

impl SqlModel {
    /// Whether it is kept nowhere.
    pub fn is_view(&self) -> bool {
        matches!(self.materialize, Materialize::View)
    }

    /// How its table grows, if it does.
    pub fn increment(&self) -> Option<&Increment> {
        match &self.materialize {
            Materialize::Incremental(increment) => Some(increment),
            Materialize::Table | Materialize::View => None,
        }
    }
}

/// How a SQL model's result is kept.
#[derive(Debug, Clone)]
pub enum Materialize {
    /// A Delta table, rewritten by each run.
    Table,
    /// Not kept: expanded into its readers.
    View,
    /// A Delta table of which a run rewrites the keys that new rows touch.
    Incremental(Increment),
}

/// `unique_key: [a, b]`, `incremental: {by: a}`: at least one of them.
#[derive(Debug, Clone, Default)]
pub struct Increment {
    /// Columns that name a row; none where rows have no name.
    pub unique_key: Vec<Spanned<String>>,
    /// Columns whose rows are made together; those that name a row where it is not said.
    pub by: Vec<Spanned<String>>,
}

impl Increment {
    /// Columns whose rows are made together.
    pub fn key(&self) -> &[Spanned<String>] {
        if self.by.is_empty() { &self.unique_key } else { &self.by }
    }
}

impl Model {
    /// Every piece of SQL that the model holds.
    pub fn sql_snippets(&self) -> Vec<&Spanned<String>> {
        match &self.kind {
            ModelKind::Sql(sql) => vec![&sql.sql],
            ModelKind::Identity(identity) => {
                let normalize = identity.identifiers.iter().filter_map(|kind| match &kind.normalize {
                    Normalize::Sql(sql) => Some(sql),
                    _ => None,
                });
                let links = identity.links.iter();
                let links = links.flat_map(|l| l.ids.iter().flat_map(|i| &i.expressions).chain(&l.filter));
                normalize.chain(links).collect()
            }
            ModelKind::Profile(profile) => {
                let traits = profile.traits.iter().flat_map(|t| [Some(&t.select), t.filter.as_ref()]).flatten();
                let attributes = profile.attributes.iter().flat_map(|a| &a.from).map(|s| &s.column);
                let persona = profile.persona.iter().flat_map(|p| &p.rules).map(|(_, condition)| condition);
                traits.chain(attributes).chain(persona).collect()
            }
            ModelKind::Audience(audience) => {
                let condition = match &audience.condition {
                    AudienceCondition::Sql(sql) => vec![sql],
                    AudienceCondition::Where(condition) => condition.value.sql_snippets(),
                };
                let rank = audience.narrowing.top.iter().flat_map(|top| &top.by).map(|by| &by.sql);
                condition.into_iter().chain(rank).collect()
            }
            ModelKind::Sync(sync) => sync.columns.iter().map(|(_, sql)| sql).collect(),
        }
    }
}
