//! What a model reads, from its definition.

use crate::model::{Condition, Model, ModelKind, Project};
use std::collections::BTreeSet;

/// Tables and models that a definition names; `sql` are those that its SQL names.
pub fn direct(project: &Project, model: &Model, sql: BTreeSet<String>) -> BTreeSet<String> {
    let mut names = sql;
    match &model.kind {
        ModelKind::Sql(_) => {}
        ModelKind::Identity(identity) => names.extend(identity.links.iter().map(|l| l.from.value.clone())),
        ModelKind::Profile(profile) => {
            names.insert(profile.identity.value.clone());
            let attributes = profile.attributes.iter().flat_map(|a| &a.from).map(|s| s.table.value.clone());
            names.extend(attributes);
            names.extend(profile.traits.iter().flat_map(|t| &t.from).map(|t| t.value.clone()));
        }
        ModelKind::Audience(audience) => {
            names.insert(audience.profile.value.clone());
            names.extend(identity_of(project, &audience.profile.value));
            if let crate::model::AudienceCondition::Where(condition) = &audience.condition {
                condition_tables(condition, &mut names);
            }
        }
        ModelKind::Sync(sync) => {
            names.insert(sync.from.value.clone());
            names.extend(profile_of(project, &sync.from.value));
        }
    }
    names.into_iter().map(|n| owner(project, &n)).collect()
}

/// The model that makes a table: `patient_hubs` is made by `patient`.
pub fn owner(project: &Project, table: &str) -> String {
    if project.models.contains_key(table) {
        return table.to_owned();
    }
    let made = |name: &str, model: &Model| match model.kind {
        ModelKind::Identity(_) => {
            ["_links", "_changes", "_hubs", "_registry"].iter().any(|s| table == format!("{name}{s}"))
        }
        ModelKind::Profile(_) => table == format!("{name}_provenance"),
        _ => false,
    };
    let maker = project.models.iter().find(|(name, model)| made(name, model));
    maker.map_or_else(|| table.to_owned(), |(name, _)| name.clone())
}

fn identity_of(project: &Project, profile: &str) -> Option<String> {
    match &project.models.get(profile)?.kind {
        ModelKind::Profile(profile) => Some(profile.identity.value.clone()),
        _ => None,
    }
}

fn profile_of(project: &Project, audience: &str) -> Option<String> {
    match &project.models.get(audience)?.kind {
        ModelKind::Audience(audience) => Some(audience.profile.value.clone()),
        _ => None,
    }
}

fn condition_tables(condition: &Condition, names: &mut BTreeSet<String>) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            for part in parts {
                condition_tables(part, names);
            }
        }
        Condition::Not(inner) => condition_tables(inner, names),
        Condition::Event(event) => {
            names.insert(event.matching.table.value.clone());
        }
        Condition::Sequence(steps) => names.extend(steps.iter().map(|s| s.matching.table.value.clone())),
        Condition::Audience(name) => {
            names.insert(name.value.clone());
        }
        Condition::Trait(_) => {}
    }
}
