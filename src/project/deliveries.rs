//! Whether a destination can do what its syncs ask: their modes, and the templates of its requests over their columns.

use super::models::Models;
use super::reader::Reader;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{
    Destination, DestinationKind, HttpDestination, JsonRow, ModelKind, RequestKind, Requests, Secret, SyncMode,
    SyncModel,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Checks every sync whose destination is known.
pub(super) fn check(
    reader: &mut Reader<'_>,
    secrets: &BTreeMap<String, Secret>,
    destinations: &[Destination],
    models: &Models,
) {
    for model in models.enabled.values() {
        let ModelKind::Sync(sync) = &model.kind else { continue };
        let Some(destination) = destinations.iter().find(|d| d.name.value == sync.to.value) else { continue };
        if let DestinationKind::Http(http) = &destination.kind {
            check_mode(reader, sync, destination, http);
            check_templates(reader, sync, http, secrets);
        }
    }
}

fn check_mode(reader: &mut Reader<'_>, sync: &SyncModel, destination: &Destination, http: &HttpDestination) {
    let (why, help) = match sync.mode {
        SyncMode::Mirror if http.delete.is_none() => {
            ("has no request that deletes", "say how rows are deleted under `delete:`, or choose `mode: upsert`")
        }
        SyncMode::Replace => ("takes rows and no whole tables", "choose another mode, such as `upsert`"),
        _ => return,
    };
    let message = format!("`{}` cannot do mode `{}`", reader.shown(sync.to.span), sync.mode.word());
    reader.findings.push(
        Diagnostic::error(Code::Destination, sync.to.span, message)
            .with_label("asked here")
            .with_related(destination.name.span, why)
            .with_help(help),
    );
}

/// Renders each request over rows with the sync's columns: what fails now would fail for every row.
fn check_templates(
    reader: &mut Reader<'_>,
    sync: &SyncModel,
    http: &HttpDestination,
    secrets: &BTreeMap<String, Secret>,
) {
    let Ok(requests) = Requests::new(http, secrets) else { return };
    let names = sync.columns.iter().map(|(name, _)| name.value.as_str()).chain([sync.key_column()]);
    let ours = ["_operation", "_change", "_idempotency_key", "_merged_into"];
    let row: JsonRow = names.chain(ours).map(|name| (name.to_owned(), Value::from("text"))).collect();
    // who withdraws consent, and a group that becomes small, is deleted in every mode
    let deletes =
        (sync.mode == SyncMode::Mirror || sync.asked.is_some() || sync.cells.is_some()) && http.delete.is_some();
    let alias = http.alias.as_ref().map(|_| RequestKind::Alias);
    let kinds = [Some(RequestKind::Write), deletes.then_some(RequestKind::Delete), alias];
    for kind in kinds.into_iter().flatten() {
        match requests.render(kind, std::slice::from_ref(&row)) {
            Err(failure) if failure.certain => {
                let known = reader.findings.len();
                reader.request_failure(&failure);
                if let Some(finding) = reader.findings.get_mut(known) {
                    *finding = finding.clone().with_related(sync.to.span, "over the columns of this sync");
                }
            }
            _ => {}
        }
    }
}
