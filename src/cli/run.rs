//! `kinfold run`

use super::exit::Exit;
use super::printer::Printer;
use super::summary;
use crate::error::{Context, ErrorKind, Result};
use crate::runner::{Options, RunReport, prepare, run as execute};

pub(super) async fn run(options: Options, printer: &Printer) -> Exit {
    let prepared = match prepare(&options).await {
        Ok(prepared) => prepared,
        Err(failure) => return printer.failure(&failure),
    };
    printer.findings(&prepared.warnings, prepared.engine.source_map());
    match execute(prepared, &options, printer).await {
        Ok(report) => {
            printer.data(&summary::summary(&report));
            if let Err(error) = leave(&options, &report) {
                return printer.error(&error);
            }
            if let Some(error) = &report.failure {
                return printer.error(error);
            }
            if report.is_success() {
                Exit::Ok
            } else if report.syncs.iter().any(|s| s.refused) {
                Exit::Refused
            } else {
                Exit::Failed
            }
        }
        Err(failure) => printer.failure(&failure),
    }
}

/// Writes `target/run.json` for machines.
fn leave(options: &Options, report: &RunReport) -> Result<()> {
    let folder = options.root.join("target");
    let doing = || format!("cannot write {}", folder.join("run.json").display());
    std::fs::create_dir_all(&folder).or_fail(ErrorKind::Storage, doing)?;
    let text = serde_json::to_string_pretty(report).or_fail(ErrorKind::Failed, doing)?;
    std::fs::write(folder.join("run.json"), text + "\n").or_fail(ErrorKind::Storage, doing)
}
