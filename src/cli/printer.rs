//! The one printer: stdout for data, stderr for talk, colour only where it helps.

use super::args::{Cli, Color};
use super::exit::Exit;
use super::summary;
use crate::diagnostic::{Diagnostic, Severity, SourceMap, render_human};
use crate::engine::CheckResult;
use crate::error::Error;
use crate::runner::{Failure, NodeReport, Progress, SyncReport};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Writes to the two streams.
pub(super) struct Printer {
    quiet: bool,
    color: bool,
    terminal: bool,
    bars: MultiProgress,
    running: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Printer {
    /// A printer for this process's streams.
    #[expect(clippy::disallowed_methods, reason = "NO_COLOR is a convention of terminals, read at the edge")]
    pub(super) fn of_process(cli: &Cli) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let color = match cli.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        Self { quiet: cli.quiet, color, terminal, bars: MultiProgress::new(), running: Mutex::default() }
    }

    /// Writes data to stdout.
    pub(super) fn data(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    /// Writes a line of talk to stderr.
    pub(super) fn say(&self, text: &str) {
        self.bars.suspend(|| {
            let mut out = std::io::stderr().lock();
            let _ = writeln!(out, "{text}");
        });
    }

    /// Shows findings and counts them.
    pub(super) fn findings(&self, findings: &[Diagnostic], map: &SourceMap) {
        if findings.is_empty() {
            return;
        }
        self.say(render_human(findings, map, self.color).trim_end());
        let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        self.say(&format!("\n{}, {}", summary::counted(errors, "error"), summary::counted(warnings, "warning")));
    }

    /// Shows why a command stopped.
    pub(super) fn failure(&self, failure: &Failure) -> Exit {
        match failure {
            Failure::Findings(findings, map) => {
                self.findings(findings, map);
                let errors = || findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.code.as_str());
                // K051x are about tests, which are definitions
                let of_data = |code: &str| code.starts_with("K05") && !code.starts_with("K051");
                let (data, definitions) = (errors().any(of_data), errors().any(|code| !of_data(code)));
                // files that break their declaration fail a run; a wrong definition is the author's to mend
                if data && !definitions { Exit::Failed } else { Exit::Wrong }
            }
            Failure::Error(error) => self.error(error),
        }
    }

    /// Shows an error with its chain and its way out.
    pub(super) fn error(&self, error: &Error) -> Exit {
        self.say(&format!("{}: {error}", self.bold("error", "31")));
        let mut cause = std::error::Error::source(error);
        let mut last = error.to_string();
        while let Some(inner) = cause {
            let text = inner.to_string();
            let advice = "This issue was likely caused by";
            let line = text.split(advice).next().unwrap_or_default().trim_end().to_owned();
            if !line.is_empty() && !last.contains(&line) {
                self.say(&format!("  caused by: {line}"));
            }
            last = line;
            cause = inner.source();
        }
        if let Some(help) = error.help() {
            self.say(&format!("  = {}: {help}", self.bold("help", "36")));
        }
        Exit::of(error)
    }

    fn bold(&self, text: &str, color: &str) -> String {
        if self.color { format!("\u{1b}[1;{color}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

impl Progress for Printer {
    fn begun(&self, run: u64, builds: usize) {
        if !self.quiet {
            self.say(&format!("run {run}: {}", summary::counted(builds, "model")));
        }
    }

    fn started(&self, model: &str) {
        if self.quiet || !self.terminal {
            return;
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(model.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(model.to_owned(), bar);
    }

    fn finished(&self, node: &NodeReport) {
        if self.quiet {
            return;
        }
        let bar = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&node.model);
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        self.say(&format!("  {}", summary::progress_line(node)));
    }

    fn tested(&self, results: &[CheckResult]) {
        if self.quiet {
            return;
        }
        for line in summary::test_lines(results) {
            self.say(&format!("  {line}"));
        }
    }

    fn synced(&self, sync: &SyncReport) {
        if !self.quiet {
            self.say(&format!("  {} to {}: {}", sync.sync, sync.destination, sync.result));
        }
    }

    fn note(&self, text: &str) {
        self.say(text);
    }
}
