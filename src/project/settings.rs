//! `kinfold.yaml`: name, warehouse, logical time, vars, secrets and targets.
//!
//! A target overrides `warehouse`, `as_of`, `partials` and single `vars`; `--vars` overrides both. The file may be missing.

use super::LoadOptions;
use super::reader::Reader;
use super::suggest::nearest;
use super::values::Zone;
use super::yaml::Node;
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{Retention, Secret, Settings};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

pub(super) const KEYS: [&str; 12] = [
    "name",
    "description",
    "warehouse",
    "as_of",
    "timezone",
    "vars",
    "secrets",
    "retention",
    "partials",
    "regions",
    "targets",
    "target",
];
pub(super) const RETENTION_KEYS: [&str; 2] = ["runs", "period"];
pub(super) const TARGET_KEYS: [&str; 5] = ["description", "warehouse", "as_of", "vars", "partials"];

/// Settings that a project without `kinfold.yaml` has.
pub(super) fn defaults(name: String) -> Settings {
    Settings {
        name,
        warehouse: "target/warehouse".to_owned(),
        as_of: None,
        timezone: "UTC".to_owned(),
        vars: BTreeMap::new(),
        secrets: BTreeMap::new(),
        retention: Retention::default(),
        partials: false,
        regions: Vec::new(),
        targets: Vec::new(),
    }
}

/// What one target changes.
struct Target {
    name: Spanned<String>,
    warehouse: Option<String>,
    as_of: Option<DateTime<Utc>>,
    vars: BTreeMap<String, String>,
    partials: Option<bool>,
}

/// Reads the documents of `kinfold.yaml` over the defaults and applies the chosen target and variables.
pub(super) fn read(reader: &mut Reader<'_>, documents: &[Node], defaults: Settings, options: &LoadOptions) -> Settings {
    let mut settings = defaults;
    let mut targets = Vec::new();
    let mut wanted = None;
    if let Some(document) = documents.first() {
        wanted = file(reader, document, &mut settings, &mut targets);
    }
    for extra in documents.iter().skip(1) {
        reader.findings.push(
            Diagnostic::error(Code::Conflict, extra.span, "`kinfold.yaml` holds one document")
                .with_label("a second one"),
        );
    }
    settings.targets = targets.iter().map(|t| t.name.clone()).collect();
    choose(reader, &mut settings, targets, wanted, options);
    settings.vars.extend(options.vars.clone());
    settings
}

fn file(
    reader: &mut Reader<'_>,
    document: &Node,
    settings: &mut Settings,
    targets: &mut Vec<Target>,
) -> Option<Spanned<String>> {
    let fields = reader.fields(document, "kinfold.yaml", &KEYS)?;
    if let Some(name) = fields.get("name").and_then(|n| reader.filled("name", n)) {
        settings.name = name.value;
    }
    if let Some(warehouse) = fields.get("warehouse").and_then(|n| reader.filled("warehouse", n)) {
        settings.warehouse = warehouse.value;
    }
    let zone = fields.get("timezone").and_then(|n| timezone(reader, n));
    if let Some((text, zone)) = zone {
        settings.timezone = text;
        reader.zone = zone;
    }
    if let Some(node) = fields.get("as_of") {
        settings.as_of = reader.time("as_of", node, reader.zone).map(|t| t.value);
    }
    settings.vars = fields.get("vars").map(|n| vars(reader, n)).unwrap_or_default();
    settings.secrets = fields.get("secrets").map(|n| secrets(reader, n)).unwrap_or_default();
    settings.retention = fields.get("retention").map(|n| retention(reader, n)).unwrap_or_default();
    settings.regions = fields.get("regions").map(|n| reader.text_list("regions", n)).unwrap_or_default();
    if let Some(partials) = fields.get("partials").and_then(|n| reader.boolean("partials", n)) {
        settings.partials = partials;
    }
    if let Some(node) = fields.get("targets") {
        for entry in reader.entries(node, "targets").unwrap_or_default() {
            let name = reader.check_name(entry.key.clone());
            let target = name.and_then(|name| target(reader, name, &entry.value));
            targets.extend(target);
        }
    }
    fields.get("target").and_then(|n| reader.filled("target", n))
}

fn timezone(reader: &mut Reader<'_>, node: &Node) -> Option<(String, Zone)> {
    let text = reader.filled("timezone", node)?;
    let zone = Zone::parse(&text.value);
    if zone.is_none() {
        let shown = reader.shown(text.span);
        reader.findings.push(
            Diagnostic::error(Code::BadTime, text.span, format!("`{shown}` is not a time zone"))
                .with_label("expected `UTC`, `Europe/Berlin` or `+01:00`"),
        );
    }
    zone.map(|zone| (text.value, zone))
}

fn vars(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for entry in reader.entries(node, "vars").unwrap_or_default() {
        if let Some(value) = reader.scalar(&entry.key.value, &entry.value) {
            vars.insert(entry.key.value.clone(), value.value);
        }
    }
    vars
}

fn retention(reader: &mut Reader<'_>, node: &Node) -> Retention {
    let mut retention = Retention::default();
    let Some(fields) = reader.fields(node, "`retention`", &RETENTION_KEYS) else { return retention };
    if let Some(runs) = fields.get("runs").and_then(|n| reader.count("runs", n)) {
        retention.runs = runs.value;
    }
    if let Some(period) = fields.get("period").and_then(|n| reader.duration("period", n)) {
        retention.period = period.value;
    }
    retention
}

fn secrets(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    for entry in reader.entries(node, "secrets").unwrap_or_default() {
        if let Some(value) = reader.filled(&entry.key.value, &entry.value) {
            secrets.insert(entry.key.value.clone(), Secret::new(value.value));
        }
    }
    secrets
}

fn target(reader: &mut Reader<'_>, name: Spanned<String>, node: &Node) -> Option<Target> {
    let fields = reader.fields(node, "a target", &TARGET_KEYS)?;
    Some(Target {
        name,
        warehouse: fields.get("warehouse").and_then(|n| reader.filled("warehouse", n)).map(|w| w.value),
        as_of: fields.get("as_of").and_then(|n| reader.time("as_of", n, reader.zone)).map(|t| t.value),
        vars: fields.get("vars").map(|n| vars(reader, n)).unwrap_or_default(),
        partials: fields.get("partials").and_then(|n| reader.boolean("partials", n)),
    })
}

fn choose(
    reader: &mut Reader<'_>,
    settings: &mut Settings,
    targets: Vec<Target>,
    wanted: Option<Spanned<String>>,
    options: &LoadOptions,
) {
    let (name, span) = match (&options.target, wanted) {
        (Some(name), _) => (name.clone(), None),
        (None, Some(name)) => (name.value, Some(name.span)),
        (None, None) => return,
    };
    let names: Vec<String> = targets.iter().map(|t| t.name.value.clone()).collect();
    if let Some(target) = targets.into_iter().find(|t| t.name.value == name) {
        settings.warehouse = target.warehouse.unwrap_or_else(|| settings.warehouse.clone());
        settings.as_of = target.as_of.or(settings.as_of);
        settings.vars.extend(target.vars);
        settings.partials = target.partials.unwrap_or(settings.partials);
        return;
    }
    let shown = span.map_or_else(|| name.clone(), |s| reader.shown(s));
    let message = format!("no target `{shown}` is defined");
    let finding = match span {
        Some(span) => Diagnostic::error(Code::UnknownTarget, span, message).with_label("not under `targets:`"),
        None => Diagnostic::placeless(Code::UnknownTarget, message),
    };
    let finding = match nearest(&name, names.iter().map(String::as_str)) {
        Some(near) => finding.with_help(format!("did you mean `{near}`?")),
        None if names.is_empty() => finding.with_help("define it under `targets:` in kinfold.yaml"),
        None => finding.with_note(format!("targets: {}", names.join(", "))),
    };
    reader.findings.push(finding);
}
