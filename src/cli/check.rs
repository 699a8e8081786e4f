//! `kinfold check`

use super::exit::Exit;
use super::printer::Printer;
use super::summary::counted;
use crate::runner::{Options, check as examine};

pub(super) async fn check(options: Options, printer: &Printer) -> Exit {
    match examine(&options).await {
        Ok(prepared) => {
            printer.findings(&prepared.warnings, prepared.engine.source_map());
            let tables = prepared.graph.tables_of(&prepared.order).len();
            let models = prepared.order.len();
            printer.data(&format!("ok: {} over {}\n", counted(models, "model"), counted(tables, "source table")));
            Exit::Ok
        }
        Err(failure) => {
            printer.failure(&failure);
            match failure {
                crate::runner::Failure::Findings(..) => Exit::Wrong,
                crate::runner::Failure::Error(error) => Exit::of(&error),
            }
        }
    }
}
