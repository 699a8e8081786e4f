//! `kind: consent`.

use super::models::Models;
use super::reader::Reader;
use super::yaml::Node;
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{Asked, ConsentModel, Destination, Model, ModelKind};

pub(super) const KEYS: [&str; 15] = [
    "kind",
    "name",
    "description",
    "tags",
    "from",
    "identity",
    "identifier",
    "purpose",
    "channel",
    "decision",
    "granted",
    "valid_from",
    "valid_to",
    "evidence",
    "stale_after",
];

/// Reads one document; a project has one.
pub(super) fn read(reader: &mut Reader<'_>, document: &Node, consent: &mut Option<ConsentModel>) {
    let Some(fields) = reader.fields(document, "a consent", &KEYS) else { return };
    fields.get("description").and_then(|n| reader.text("description", n));
    fields.get("tags").map(|n| reader.text_list("tags", n));
    let name = fields.require(reader, "name").and_then(|n| reader.name("name", n));
    let mut text = |key| fields.require(reader, key).and_then(|n| reader.filled(key, n));
    let (from, identity) = (text("from"), text("identity"));
    let mut sql = |key| fields.require(reader, key).and_then(|n| reader.sql(key, n));
    let (identifier, purpose, decision) = (sql("identifier"), sql("purpose"), sql("decision"));
    let valid_from = sql("valid_from");
    let mut maybe = |key| fields.get(key).and_then(|n| reader.sql(key, n));
    let (channel, valid_to, evidence) = (maybe("channel"), maybe("valid_to"), maybe("evidence"));
    let granted = fields.get("granted").map(|n| reader.text_list("granted", n)).unwrap_or_default();
    let stale_after = fields.get("stale_after").and_then(|n| reader.duration("stale_after", n));
    let read = || {
        Some(ConsentModel {
            name: name?,
            from: from?,
            identity: identity?,
            identifier: identifier?,
            purpose: purpose?,
            channel,
            decision: decision?,
            granted,
            valid_from: valid_from?,
            valid_to,
            evidence,
            stale_after,
        })
    };
    match (read(), &*consent) {
        (Some(second), Some(first)) => {
            reader.findings.push(
                Diagnostic::error(Code::Conflict, second.name.span, "a project has one consent")
                    .with_label("the second")
                    .with_related(first.name.span, "the first")
                    .with_help("bring the answers together in a SQL model, and read that"),
            );
        }
        (Some(only), None) => *consent = Some(only),
        (None, _) => reader.incomplete = true,
    }
}

/// What syncs ask for, and where they go: whether there are answers, and whether the purpose may be served there.
pub(super) fn check(reader: &mut Reader<'_>, destinations: &[Destination], models: &Models) {
    for model in models.enabled.values() {
        let ModelKind::Sync(sync) = &model.kind else { continue };
        if let Some(asked) = &sync.asked
            && models.consent.is_none()
            && !reader.incomplete
        {
            reader.findings.push(
                Diagnostic::error(Code::UnknownReference, asked.purpose.span, "no model says what people agreed to")
                    .with_label("consent for this is looked up")
                    .with_help("add a model of `kind: consent`, or remove `purpose`"),
            );
        }
        let destination = destinations.iter().find(|d| d.name.value == sync.to.value);
        if let Some(destination) = destination.filter(|d| !d.purposes.is_empty()) {
            serves(reader, destination, model, sync.asked.as_ref());
        }
    }
    if let Some(consent) = &models.consent {
        of_identity(reader, consent, models);
    }
}

fn serves(reader: &mut Reader<'_>, destination: &Destination, model: &Model, asked: Option<&Asked>) {
    let served: Vec<&str> = destination.purposes.iter().map(|p| p.value.as_str()).collect();
    if asked.is_some_and(|asked| served.contains(&asked.purpose.value.as_str())) {
        return;
    }
    let to = &destination.name.value;
    let message = match asked {
        Some(asked) => format!("`{to}` is not for the purpose `{}`", asked.purpose.value),
        None => format!("`{to}` is for named purposes only, and this sync names none"),
    };
    reader.findings.push(
        Diagnostic::error(Code::PolicyRefused, asked.map_or(model.name.span, |a| a.purpose.span), message)
            .with_label("not a purpose of the destination")
            .with_related(destination.name.span, format!("serves {}", served.join(", ")))
            .with_help("name one of its purposes under `purpose`, or send it elsewhere"),
    );
}

fn of_identity(reader: &mut Reader<'_>, consent: &ConsentModel, models: &Models) {
    let known = |name: &Spanned<String>| models.enabled.get(&name.value).map(|m| &m.kind);
    if !matches!(known(&consent.identity), Some(ModelKind::Identity(_))) && !reader.incomplete {
        let message = format!("unknown identity `{}`", consent.identity.value);
        let finding = Diagnostic::error(Code::UnknownReference, consent.identity.span, message);
        reader.findings.push(finding.with_label("not a model of kind `identity`"));
    }
}
