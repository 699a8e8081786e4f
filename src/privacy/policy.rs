//! What a destination may get.
//!
//! A label may go where `allow` names it or one above it, and what is about health only where `baa: true`. Without
//! `allow` nothing that has a label may go. `unlabelled` goes nowhere, and data that stay in regions go to destinations there. Each refusal tells the whole way from the source
//! column, because that is where it can be mended: by a function that lowers the label, by `declassify`, by `allow`.

use super::label::{Label, REGION, UNLABELLED, covers, is_health};
use super::map::{LabelMap, Labels, Step};
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::graph::{ColumnRef, owner};
use crate::model::{Destination, ModelKind, Project, SyncModel};
use std::collections::BTreeSet;

/// Why a label may not go to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Unlabelled,
    NotAllowed,
    NoAgreement,
    OtherRegion,
}

fn refusal(destination: &Destination, label: &str) -> Option<Refusal> {
    if label.split('.').any(|part| part == UNLABELLED) {
        Some(Refusal::Unlabelled)
    } else if let Some(regions) = label.strip_prefix(REGION).and_then(|rest| rest.strip_prefix('.')) {
        let there = destination.region.as_ref().is_some_and(|r| regions.split('+').any(|one| one == r.value));
        (!there).then_some(Refusal::OtherRegion)
    } else if !destination.allow.iter().any(|a| covers(&a.value, label)) {
        Some(Refusal::NotAllowed)
    } else {
        (is_health(label) && !destination.baa).then_some(Refusal::NoAgreement)
    }
}

/// What would go from an enabled sync to where it may not.
pub fn check(project: &Project, map: &LabelMap<'_>, syncs: &BTreeSet<&str>) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for name in syncs {
        let Some(ModelKind::Sync(sync)) = project.models.get(*name).map(|m| &m.kind) else { continue };
        let destination = project.destinations.iter().find(|d| d.name.value == sync.to.value);
        if let Some(destination) = destination.filter(|_| sync.enabled) {
            Checked { project, map, name, sync, destination }.findings(&mut findings);
        }
    }
    findings
}

/// One sync and where it goes.
struct Checked<'a> {
    project: &'a Project,
    map: &'a LabelMap<'a>,
    name: &'a str,
    sync: &'a SyncModel,
    destination: &'a Destination,
}

impl Checked<'_> {
    fn findings(&self, findings: &mut Vec<Diagnostic>) {
        let rows = ColumnRef::rows_of(self.name);
        let of_rows = self.map.of(&rows);
        // a key that no column sends is sent under its own name
        let key = &self.sync.key;
        let sent = self.sync.columns.iter().any(|(_, sql)| sql.value.trim() == key.value.trim());
        let columns = self.sync.columns.iter().map(|(column, _)| column).chain((!sent).then_some(key));
        let columns: Vec<(ColumnRef, Span)> =
            columns.map(|named| (ColumnRef::new(self.name, &named.value), named.span)).collect();
        // a region is told of each column, and of the rows only where no column tells it
        let of_region = |label: &Label| covers(REGION, label);
        let told: Labels = columns.iter().flat_map(|(column, _)| self.map.of(column)).filter(of_region).collect();
        findings.extend(self.column(&rows, self.sync.from.span, &of_rows.difference(&told).cloned().collect()));
        for (column, span) in columns {
            let own = self.map.of(&column).into_iter().filter(|l| of_region(l) || !of_rows.contains(l)).collect();
            findings.extend(self.column(&column, span, &own));
        }
    }

    fn column(&self, column: &ColumnRef, span: Span, labels: &Labels) -> Vec<Diagnostic> {
        let refused = labels.iter().filter_map(|label| Some((label, refusal(self.destination, label)?)));
        refused.map(|(label, why)| self.finding(column, span, label, why)).collect()
    }

    fn finding(&self, column: &ColumnRef, span: Span, label: &str, why: Refusal) -> Diagnostic {
        let way = self.map.way(column, label);
        let to = &self.destination.name.value;
        let what = if column.is_rows() { "that a row is sent".to_owned() } else { format!("`{}`", column.column) };
        let origin = way.first().map_or_else(String::new, |step| spelled(&step.column));
        let (code, message) = match why {
            Refusal::Unlabelled => {
                (Code::UnlabelledColumn, format!("{what} tells `{to}` of {origin}, which has no label"))
            }
            Refusal::NotAllowed => {
                (Code::PolicyRefused, format!("{what} tells `{to}` `{label}`, which it may not get"))
            }
            Refusal::NoAgreement => (
                Code::PolicyRefused,
                format!("{what} tells `{to}` `{label}`, and no agreement covers health data there"),
            ),
            Refusal::OtherRegion => {
                let of = self.destination.region.as_ref().map_or_else(
                    || "no region is named for".to_owned(),
                    |region| format!("`{}` is the region of", region.value),
                );
                (Code::PolicyRefused, format!("{what} brings data of `{label}` to `{to}`, and {of} it"))
            }
        };
        let mut finding = Diagnostic::error(code, span, message).with_label(format!("made of {origin}"));
        for (span, text) in self.places(&way) {
            finding = finding.with_related(span, text);
        }
        let steps: Vec<String> = way.iter().map(|step| spelled(&step.column)).collect();
        finding.with_note(format!("the way: {}", steps.join(" -> "))).with_help(help(label, why, to))
    }

    /// Where the label is said, where models hand it on, and what the destination may get.
    fn places(&self, way: &[Step]) -> Vec<(Span, String)> {
        let mut places = Vec::new();
        for (at, step) in way.iter().enumerate().take(way.len().saturating_sub(1)) {
            if at == 0
                && let Some(span) = self.map.said(&step.column, &step.label)
            {
                let unlabelled = step.label == UNLABELLED;
                let text = if unlabelled {
                    "nothing is said of it here".to_owned()
                } else {
                    format!("`{}` is said here", step.label)
                };
                places.push((span, text));
            } else if let Some(model) = self.project.models.get(&owner(self.project, &step.column.table)) {
                places.push((model.name.span, format!("through {}, as `{}`", spelled(&step.column), step.label)));
            }
        }
        let allow: Vec<&str> = self.destination.allow.iter().map(|a| a.value.as_str()).collect();
        let may = if allow.is_empty() { "nothing that has a label".to_owned() } else { allow.join(", ") };
        let agreement = if self.destination.baa { "" } else { ", and nothing about health" };
        let place = self.destination.region.as_ref().map_or(String::new(), |r| format!(", and is in `{}`", r.value));
        places.push((self.destination.name.span, format!("may get {may}{agreement}{place}")));
        places
    }
}

/// A column as people say it.
fn spelled(column: &ColumnRef) -> String {
    if column.is_rows() { format!("the rows of {}", column.table) } else { column.to_string() }
}

fn help(label: &str, why: Refusal, to: &str) -> String {
    let hash = "send a keyed hash, `hmac_sha256(..., secret('NAME'))`, or leave it out";
    let is = |outer| covers(outer, label);
    match why {
        Refusal::OtherRegion => {
            format!("send it to a destination there, or say `region:` of `{to}`; or `declassify` it with a reason")
        }
        Refusal::Unlabelled => "give the column a label in sources.yaml, or `label: none`".to_owned(),
        _ if is("identity") || is("phi.mrn") || is("phi.name") => hash.to_owned(),
        _ if is("phi.date") => "send `year_of(...)` or `age_band(...)`, or leave it out".to_owned(),
        _ if is("phi.geo") => "send `zip3(...)`, or leave it out".to_owned(),
        Refusal::NoAgreement => format!("leave it out; say `baa: true` of `{to}` only if there is an agreement"),
        Refusal::NotAllowed => {
            format!("leave it out, add `{label}` to `allow` of `{to}`, or `declassify` it with a reason")
        }
    }
}

/// Entries of `declassify` about columns that a model does not have.
pub fn misplaced(project: &Project, map: &LabelMap<'_>, models: &BTreeSet<&str>) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for model in project.models.values().filter(|m| models.contains(m.name.value.as_str())) {
        let named = model.privacy.declassify.iter().flat_map(|d| &d.columns);
        for column in named.filter(|c| !map.has(&ColumnRef::new(&model.name.value, &c.value))) {
            findings.push(
                Diagnostic::error(Code::BadLabel, column.span, format!("the model has no column `{}`", column.value))
                    .with_label("nothing to take a label off")
                    .with_help("name a column of the model's table, or '*' for the fact that a row is there"),
            );
        }
    }
    findings
}
