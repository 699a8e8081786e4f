//! What can be checked over all files by name, without data.
//!
//! References inside SQL are bound by the engine. Nothing is said about names whose own definition is broken,
//! and nothing about unknown names at all while some file or name could not be read: they may be there.

use super::models::Models;
use super::narrowing::check_groups;
use super::reader::{Reader, alternatives};
use super::suggest::{nearest, nearest_table};
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::model::{
    AttributeSource, AudienceCondition, AudienceModel, Condition, Destination, IdentityModel, ListEntry, Model,
    ModelKind, Pick, ProfileModel, Source, SourceTable, Step, SyncModel, TestKind, Trait, UnitTest, Window,
};

/// Everything that has a name.
struct Names<'p> {
    sources: &'p [Source],
    destinations: &'p [Destination],
    models: &'p Models,
}

/// What a table's name stands for.
enum Found<'p> {
    Source(&'p SourceTable),
    Model,
    /// Something that was reported, or that nothing can be said about.
    Nothing,
}

/// Checks every reference by name.
pub(super) fn check(reader: &mut Reader<'_>, sources: &[Source], destinations: &[Destination], models: &Models) {
    let names = Names { sources, destinations, models };
    reserved(reader, models);
    for model in models.enabled.values() {
        match &model.kind {
            ModelKind::Sql(_) => {}
            ModelKind::Identity(identity) => check_identity(reader, &names, identity),
            ModelKind::Profile(profile) => check_profile(reader, &names, profile),
            ModelKind::Audience(audience) => check_audience(reader, &names, audience),
            ModelKind::Sync(sync) => check_sync(reader, &names, sync),
        }
    }
    if let Some(consent) = &models.consent {
        table(reader, &names, &consent.from);
    }
    check_groups(reader, models);
    check_data_tests(reader, &names);
    for test in &models.unit_tests {
        check_unit_test(reader, &names, test);
    }
}

/// Tables that data tests compare with. A table beside a model's main one is the engine's to know.
fn check_data_tests(reader: &mut Reader<'_>, names: &Names<'_>) {
    let tables = names.sources.iter().flat_map(|s| &s.tables).filter(|t| t.enabled);
    let tests = tables.flat_map(|t| &t.tests).chain(names.models.enabled.values().flat_map(|m| &m.tests));
    for test in tests {
        let TestKind::Relationships { to_table, .. } = &test.kind else { continue };
        let beside = |model: &Model| to_table.value.starts_with(&format!("{}_", model.name.value));
        if !names.models.enabled.values().any(beside) {
            table(reader, names, to_table);
        }
    }
}

/// The model and the given tables of a unit test.
fn check_unit_test(reader: &mut Reader<'_>, names: &Names<'_>, test: &UnitTest) {
    for given in &test.given {
        table(reader, names, &given.name);
    }
    let model = &test.model;
    if names.models.enabled.contains_key(&model.value) {
        return;
    }
    if let Some(defined) = names.models.disabled.get(&model.value) {
        disabled(reader, "model", model, *defined);
    } else if !undecided(reader, &model.value) {
        let near = nearest(&model.value, names.models.enabled.keys().map(String::as_str));
        unknown(reader, Code::UnknownReference, "model", model, near);
    }
}

/// Models whose name is that of a table another model writes.
fn reserved(reader: &mut Reader<'_>, models: &Models) {
    let mut taken: Vec<(String, &Model)> = Vec::new();
    for model in models.enabled.values() {
        let beside: &[&str] = match model.kind {
            ModelKind::Identity(_) => &["links", "changes", "hubs", "registry", "report", "suspects"],
            ModelKind::Profile(_) => &["provenance"],
            ModelKind::Audience(_) => &["holdout", "rejected"],
            ModelKind::Sql(_) | ModelKind::Sync(_) => &[],
        };
        taken.extend(beside.iter().map(|suffix| (format!("{}_{suffix}", model.name.value), model)));
        if let ModelKind::Profile(profile) = &model.kind
            && let Some(table) = profile.timeline_table()
        {
            one_timeline(reader, &taken, &table, (model, profile));
            taken.push((table, model));
        }
        if let ModelKind::Audience(_) = model.kind {
            let shared = ["changes", "history", "sizes", "overlap"];
            taken.extend(shared.map(|suffix| (format!("audience_{suffix}"), model)));
        }
    }
    for model in models.enabled.values() {
        if let Some((_, writer)) = taken.iter().find(|(name, _)| *name == model.name.value) {
            let message = format!("`{}` is a table that a model of another kind writes", model.name.value);
            reader.findings.push(
                Diagnostic::error(Code::ReservedName, model.name.span, message)
                    .with_label("this name is taken")
                    .with_related(writer.name.span, "by a table of this model")
                    .with_help("choose another name"),
            );
        }
    }
}

/// A person has one timeline, whichever profile writes it.
fn one_timeline(
    reader: &mut Reader<'_>,
    taken: &[(String, &Model)],
    table: &str,
    (model, profile): (&Model, &ProfileModel),
) {
    let Some((_, first)) = taken.iter().find(|(name, _)| name == table) else { return };
    let message =
        format!("two profiles of `{}` have a timeline, and both would write `{table}`", profile.identity.value);
    reader.findings.push(
        Diagnostic::error(Code::DuplicateName, model.name.span, message)
            .with_label("the second")
            .with_related(first.name.span, "the first")
            .with_help("keep one `timeline:` and name the tables of both in its `from`"),
    );
}

fn check_identity(reader: &mut Reader<'_>, names: &Names<'_>, identity: &IdentityModel) {
    for link in &identity.links {
        table(reader, names, &link.from);
    }
}

fn check_profile(reader: &mut Reader<'_>, names: &Names<'_>, profile: &ProfileModel) {
    model_of(reader, names, "identity", &profile.identity, "identity");
    for attribute in &profile.attributes {
        for source in &attribute.from {
            let at = table(reader, names, &source.table);
            check_pick(reader, &at, source, attribute.pick);
        }
    }
    for found in &profile.traits {
        check_trait(reader, names, found);
    }
    for from in profile.timeline.iter().flat_map(|t| &t.from) {
        if let Found::Source(at) = table(reader, names, from)
            && at.time.is_none()
        {
            let label = format!("`{}` has no time column", reader.shown(from.span));
            without_time(reader, at, from.span, "a timeline needs tables with a time", &label);
        }
    }
}

/// Picking by time needs a table that has one.
fn check_pick(reader: &mut Reader<'_>, at: &Found<'_>, source: &AttributeSource, pick: Pick) {
    let Found::Source(table) = at else { return };
    if matches!(pick, Pick::Latest | Pick::Earliest) && table.time.is_none() {
        let label = format!("`{}` has no time column", reader.shown(source.table.span));
        without_time(reader, table, source.table.span, "picking by time needs a table with a time", &label);
    }
}

fn check_trait(reader: &mut Reader<'_>, names: &Names<'_>, found: &Trait) {
    for from in &found.from {
        let at = table(reader, names, from);
        if found.time.is_none() {
            check_window(reader, &at, from, &found.window);
        }
    }
}

fn check_audience(reader: &mut Reader<'_>, names: &Names<'_>, audience: &AudienceModel) {
    model_of(reader, names, "profile", &audience.profile, "profile");
    let identity = identity_of(names, &audience.profile.value);
    if let AudienceCondition::Where(condition) = &audience.condition {
        check_condition(reader, names, condition, audience, identity);
    }
    if let Some(Model { kind: ModelKind::Identity(model), .. }) = identity {
        for entry in audience.include.iter().chain(&audience.exclude) {
            check_entry(reader, entry, model);
        }
    }
}

/// The identity model below a profile's name.
fn identity_of<'p>(names: &Names<'p>, profile: &str) -> Option<&'p Model> {
    match &names.models.enabled.get(profile)?.kind {
        ModelKind::Profile(profile) => names.models.enabled.get(&profile.identity.value),
        _ => None,
    }
}

fn check_entry(reader: &mut Reader<'_>, entry: &ListEntry, identity: &IdentityModel) {
    let Some((kind, _)) = entry.identifier.value.split_once(':') else { return };
    if identity.identifiers.iter().any(|i| i.name.value == kind) {
        return;
    }
    let types: Vec<&str> = identity.identifiers.iter().map(|i| i.name.value.as_str()).collect();
    reader.findings.push(
        Diagnostic::error(Code::UnknownIdentifier, entry.identifier.span, format!("unknown identifier type `{kind}`"))
            .with_label("not an identifier of this audience's identity")
            .with_help(format!("use {}, or an entity id", alternatives(&types))),
    );
}

fn check_condition(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    condition: &Spanned<Condition>,
    audience: &AudienceModel,
    identity: Option<&Model>,
) {
    match &condition.value {
        Condition::All(all) | Condition::Any(all) => {
            for inner in all {
                check_condition(reader, names, inner, audience, identity);
            }
        }
        Condition::Not(inner) => check_condition(reader, names, inner, audience, identity),
        Condition::Event(event) => {
            let at = table(reader, names, &event.matching.table);
            check_window(reader, &at, &event.matching.table, &event.window);
        }
        Condition::Sequence(steps) => steps.iter().for_each(|step| check_step(reader, names, step)),
        Condition::Audience(name) => check_member(reader, names, name, audience, identity),
        Condition::Trait(_) => {}
    }
}

fn check_step(reader: &mut Reader<'_>, names: &Names<'_>, step: &Spanned<Step>) {
    let at = table(reader, names, &step.matching.table);
    if let Found::Source(table) = at
        && table.time.is_none()
    {
        let span = step.matching.table.span;
        let label = format!("`{}` has no time column", reader.shown(span));
        without_time(reader, table, span, "a sequence needs tables with a time", &label);
    }
}

fn check_member(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    name: &Spanned<String>,
    audience: &AudienceModel,
    identity: Option<&Model>,
) {
    let Some(model) = model_of(reader, names, "audience", name, "audience") else { return };
    let ModelKind::Audience(other) = &model.kind else { return };
    let other_identity = identity_of(names, &other.profile.value);
    if let (Some(own), Some(their)) = (identity, other_identity)
        && own.name.value != their.name.value
    {
        let shown = reader.shown(name.span);
        reader.findings.push(
            Diagnostic::error(Code::OtherEntity, name.span, format!("`{shown}` is an audience of other entities"))
                .with_label(format!("made of `{}` entities", their.name.value))
                .with_related(audience.profile.span, format!("made of `{}` entities", own.name.value))
                .with_help("use an audience over the same identity"),
        );
    }
}

fn check_sync(reader: &mut Reader<'_>, names: &Names<'_>, sync: &SyncModel) {
    if sync.from.value.contains('.') {
        let shown = reader.shown(sync.from.span);
        reader.findings.push(
            Diagnostic::error(Code::WrongKind, sync.from.span, format!("a sync sends a model, `{shown}` is none"))
                .with_label("has the form of a source table")
                .with_help("make a SQL model that selects from it"),
        );
    } else {
        table(reader, names, &sync.from);
    }
    let known: Vec<&str> = names.destinations.iter().map(|d| d.name.value.as_str()).collect();
    if !known.contains(&sync.to.value.as_str()) && !undecided(reader, &sync.to.value) {
        unknown(reader, Code::UnknownReference, "destination", &sync.to, nearest(&sync.to.value, known));
    }
}

fn undecided(reader: &Reader<'_>, name: &str) -> bool {
    let source = name.split_once('.').map(|(source, _)| format!("{source}."));
    reader.incomplete || reader.undecided.contains(name) || source.is_some_and(|s| reader.undecided.contains(&s))
}

fn unknown(reader: &mut Reader<'_>, code: Code, what: &str, name: &Spanned<String>, near: Option<&str>) {
    let shown = reader.shown(name.span);
    let finding = Diagnostic::error(code, name.span, format!("unknown {what} `{shown}`")).with_label("not defined");
    reader.findings.push(match (near, code) {
        (Some(near), _) => finding.with_help(format!("did you mean `{near}`?")),
        (None, Code::UnknownTable) => finding.with_help("name a table of sources.yaml as `source.table`, or a model"),
        (None, _) => finding,
    });
}

fn disabled(reader: &mut Reader<'_>, what: &str, name: &Spanned<String>, defined: Span) {
    let shown = reader.shown(name.span);
    reader.findings.push(
        Diagnostic::error(Code::DisabledReference, name.span, format!("the {what} `{shown}` says `enabled: false`"))
            .with_label("used here")
            .with_related(defined, "disabled here")
            .with_help("enable it, or remove the use"),
    );
}

/// Finds a source table or model; what is wrong with the name is reported.
fn table<'p>(reader: &mut Reader<'_>, names: &Names<'p>, name: &Spanned<String>) -> Found<'p> {
    let text = name.value.as_str();
    let tables = || names.sources.iter().flat_map(|s| s.tables.iter().map(move |t| (s, t)));
    if let Some((_, table)) = tables().find(|(s, t)| text.split_once('.') == Some((&s.name.value, &t.name.value))) {
        if table.enabled {
            return Found::Source(table);
        }
        disabled(reader, "table", name, table.name.span);
        return Found::Nothing;
    }
    if let Some(model) = names.models.enabled.get(text) {
        if let ModelKind::Sync(_) = model.kind {
            let shown = reader.shown(name.span);
            reader.findings.push(
                Diagnostic::error(Code::WrongKind, name.span, format!("`{shown}` is a sync, which writes no table"))
                    .with_label("expected a source table or a model")
                    .with_related(model.name.span, "defined here"),
            );
            return Found::Nothing;
        }
        return Found::Model;
    }
    if let Some(defined) = names.models.disabled.get(text) {
        disabled(reader, "model", name, *defined);
    } else if !undecided(reader, text) {
        let dotted: Vec<String> = tables().map(|(s, t)| format!("{}.{}", s.name.value, t.name.value)).collect();
        let models = names.models.enabled.values().filter(|m| !matches!(m.kind, ModelKind::Sync(_)));
        let known: Vec<&str> = dotted.iter().map(String::as_str).chain(models.map(|m| m.name.value.as_str())).collect();
        unknown(reader, Code::UnknownTable, "table", name, nearest_table(text, known));
    }
    Found::Nothing
}

/// Finds a model of one kind; what is wrong with the name is reported.
fn model_of<'p>(
    reader: &mut Reader<'_>,
    names: &Names<'p>,
    key: &str,
    name: &Spanned<String>,
    kind: &str,
) -> Option<&'p Model> {
    let of_kind = names.models.enabled.values().filter(|m| m.kind.word() == kind);
    match names.models.enabled.get(&name.value) {
        Some(model) if model.kind.word() == kind => return Some(model),
        Some(model) => {
            let only: Vec<&str> = of_kind.map(|m| m.name.value.as_str()).collect();
            let (shown, word) = (reader.shown(name.span), model.kind.word());
            let finding = Diagnostic::error(Code::WrongKind, name.span, format!("`{shown}` is of kind `{word}`"))
                .with_label(format!("`{key}` needs a model of kind `{kind}`"))
                .with_related(model.name.span, "defined here");
            reader.findings.push(match only.as_slice() {
                [] => finding,
                some => finding.with_help(format!("use {}", alternatives(some))),
            });
        }
        None => match names.models.disabled.get(&name.value) {
            Some(defined) => disabled(reader, "model", name, *defined),
            None if undecided(reader, &name.value) => {}
            None => {
                let near = nearest(&name.value, of_kind.map(|m| m.name.value.as_str()));
                unknown(reader, Code::UnknownReference, kind, name, near);
            }
        },
    }
    None
}

fn check_window(reader: &mut Reader<'_>, at: &Found<'_>, name: &Spanned<String>, window: &Window) {
    if let Found::Source(table) = at
        && table.time.is_none()
        && window.is_bounded()
    {
        let span = window.within.as_ref().map(|w| w.span);
        let span = span.or(window.between.as_ref().map(|w| w.span));
        let span = span.or(window.before.as_ref().or(window.after.as_ref()).map(|w| w.span));
        let shown = reader.shown(name.span);
        let label = format!("`{shown}` has no time column");
        without_time(reader, table, span.unwrap_or(name.span), "a window needs a table with a time", &label);
    }
}

fn without_time(reader: &mut Reader<'_>, table: &SourceTable, span: Span, message: &str, label: &str) {
    reader.findings.push(
        Diagnostic::error(Code::WindowWithoutTime, span, message)
            .with_label(label.to_owned())
            .with_related(table.name.span, "declared here, without `time`")
            .with_help("add `time:` to the table in sources.yaml"),
    );
}
