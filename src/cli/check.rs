//! `kinfold check`
//!
//! For people the findings are talk (stderr) and `ok: ...` is the answer. In a format for machines the findings are
//! the answer: the whole document goes to stdout, also when nothing was found, and everything else is talk. The exit
//! code says the same in every format.

use super::args::SelectArguments;
use super::exit::Exit;
use super::printer::{Printer, policy_alone};
use super::summary::counted;
use crate::diagnostic::{
    Diagnostic, SourceMap, render_concise, render_github, render_json, render_junit, render_sarif,
};
use crate::runner::{Failure, Options, Purpose, prepare};
use clap::{Args, ValueEnum};

/// Formats of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FindingsFormat {
    /// With the lines of the files, for people; on stderr.
    Human,
    /// One line per finding.
    Concise,
    /// An array with all that is known of each finding.
    Json,
    /// Annotations of GitHub Actions.
    Github,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// A JUnit report, for build servers.
    Junit,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    select: SelectArguments,
    /// Format of what was found.
    #[arg(long, short, value_enum, default_value_t = FindingsFormat::Human)]
    output: FindingsFormat,
}

impl FindingsFormat {
    /// The document of the findings; none for people, who are told on stderr.
    fn document(self, findings: &[Diagnostic], map: &SourceMap, base: &str) -> Option<String> {
        Some(match self {
            Self::Human => return None,
            Self::Concise => render_concise(findings, map),
            Self::Json => render_json(findings, map),
            Self::Github => render_github(findings, map, base),
            Self::Sarif => render_sarif(findings, map, base),
            Self::Junit => render_junit(findings, map, base),
        })
    }
}

pub(super) async fn check(arguments: &CheckArguments, options: Options, printer: &Printer) -> Exit {
    let options = arguments.select.apply(options);
    let base = options.root.to_string_lossy().replace('\\', "/");
    let show = |findings: &[Diagnostic], map: &SourceMap| match arguments.output.document(findings, map, &base) {
        Some(document) => printer.data(&document),
        None => printer.findings(findings, map),
    };
    match prepare(&options, Purpose::Check).await {
        Ok(prepared) => {
            show(&prepared.warnings, prepared.engine.source_map());
            let tables = prepared.graph.tables_of(&prepared.order).len();
            let models = prepared.order.len();
            let ok = format!("ok: {} over {}", counted(models, "model"), counted(tables, "source table"));
            match arguments.output {
                FindingsFormat::Human => printer.data(&format!("{ok}\n")),
                _ => printer.say(&ok),
            }
            Exit::Ok
        }
        Err(Failure::Findings(findings, map)) => {
            show(&findings, &map);
            if policy_alone(&findings) { Exit::Refused } else { Exit::Wrong }
        }
        Err(failure @ Failure::Error(_)) => printer.failure(&failure),
    }
}
