//! `kinfold manifest`

use super::exit::Exit;
use super::printer::Printer;
use crate::runner::{Options, current_manifest};

pub(super) fn manifest(options: &Options, printer: &Printer) -> Exit {
    match current_manifest(options) {
        Ok(manifest) => {
            printer.data(&format!("{:#}\n", serde_json::json!(manifest)));
            Exit::Ok
        }
        Err(failure) => printer.failure(&failure),
    }
}
