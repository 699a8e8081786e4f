//! What a model reads, from its definition.

use crate::diagnostic::Spanned;
use crate::model::{AudienceCondition, Condition, Model, ModelKind, Project};
use std::collections::BTreeSet;

/// Tables and models that a definition names; `sql` are those that its SQL names.
pub fn direct(project: &Project, model: &Model, sql: BTreeSet<String>) -> BTreeSet<String> {
    let mut names = sql;
    names.extend(named(model).into_iter().map(|n| n.value.clone()));
    match &model.kind {
        ModelKind::Audience(audience) => {
            names.extend(identity_of(project, &audience.profile.value));
            names.extend(project.before_in_group(&model.name.value).into_iter().map(str::to_owned));
        }
        ModelKind::Sync(sync) => {
            names.extend(profile_of(project, &sync.from.value));
            let asked = project.consent.as_ref().filter(|_| sync.asked.is_some());
            names.extend(asked.into_iter().flat_map(|c| [c.from.value.clone(), c.identity.value.clone()]));
        }
        ModelKind::Sql(_) | ModelKind::Identity(_) | ModelKind::Profile(_) => {}
    }
    names.into_iter().map(|n| owner(project, &n)).collect()
}

/// Tables and models that a definition names outside its SQL, in the author's order.
pub(super) fn named(model: &Model) -> Vec<&Spanned<String>> {
    match &model.kind {
        ModelKind::Sql(_) => Vec::new(),
        ModelKind::Identity(identity) => identity.links.iter().map(|l| &l.from).collect(),
        ModelKind::Profile(profile) => {
            let attributes = profile.attributes.iter().flat_map(|a| &a.from).map(|s| &s.table);
            let traits = profile.traits.iter().flat_map(|t| &t.from);
            let timeline = profile.timeline.iter().flat_map(|t| &t.from);
            std::iter::once(&profile.identity).chain(attributes).chain(traits).chain(timeline).collect()
        }
        ModelKind::Audience(audience) => {
            let mut names = vec![&audience.profile];
            if let AudienceCondition::Where(condition) = &audience.condition {
                condition_tables(condition, &mut names);
            }
            names
        }
        ModelKind::Sync(sync) => vec![&sync.from],
    }
}

/// The model that makes a table: `patient_hubs` is made by `patient`.
pub fn owner(project: &Project, table: &str) -> String {
    if table.contains('.') || project.models.contains_key(table) {
        return table.to_owned();
    }
    let maker = project.models.iter().find(|(name, model)| side_tables(name, model).iter().any(|t| t == table));
    maker.map_or_else(|| table.to_owned(), |(name, _)| name.clone())
}

/// Tables that a model makes beside its own and that models can read.
pub fn side_tables(name: &str, model: &Model) -> Vec<String> {
    let suffixes: &[&str] = match &model.kind {
        ModelKind::Audience(audience) => match (audience.narrowing.holdout.is_some(), audience.has_lists()) {
            (true, true) => &["_holdout", "_rejected"],
            (true, false) => &["_holdout"],
            (false, true) => &["_rejected"],
            (false, false) => &[],
        },
        ModelKind::Identity(_) => &["_links", "_changes", "_hubs", "_rules", "_registry", "_report", "_suspects"],
        ModelKind::Profile(_) => &["_provenance"],
        ModelKind::Sql(_) | ModelKind::Sync(_) => &[],
    };
    let timeline = match &model.kind {
        ModelKind::Profile(profile) => profile.timeline_table(),
        _ => None,
    };
    suffixes.iter().map(|suffix| format!("{name}{suffix}")).chain(timeline).collect()
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

fn condition_tables<'m>(condition: &'m Condition, names: &mut Vec<&'m Spanned<String>>) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            for part in parts {
                condition_tables(part, names);
            }
        }
        Condition::Not(inner) => condition_tables(inner, names),
        Condition::Event(event) => names.push(&event.matching.table),
        Condition::Sequence(steps) => names.extend(steps.iter().map(|s| &s.matching.table)),
        Condition::Audience(name) => names.push(name),
        Condition::Trait(_) => {}
    }
}
