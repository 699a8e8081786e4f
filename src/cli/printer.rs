//! The one printer: stdout for data, stderr for talk, colour only where it helps.

use super::args::{Cli, Color, LogFormat};
use super::exit::Exit;
use super::log;
use super::summary;
use crate::diagnostic::{Diagnostic, Severity, SourceMap, render_human};
use crate::engine::CheckResult;
use crate::error::{Error, ErrorKind};
use crate::runner::{Failure, NodeReport, Progress, SyncReport};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Writes to the two streams.
pub(super) struct Printer {
    quiet: bool,
    color: bool,
    terminal: bool,
    /// Whether talk is one JSON object a line.
    json: bool,
    /// Whether data could not be written.
    lost: AtomicBool,
    bars: MultiProgress,
    running: Mutex<BTreeMap<String, ProgressBar>>,
}

/// Whether all that is wrong is what policies refuse.
pub(super) fn policy_alone(findings: &[Diagnostic]) -> bool {
    let mut errors = findings.iter().filter(|f| f.severity == Severity::Error).peekable();
    errors.peek().is_some() && errors.all(|f| f.code.is_policy())
}

impl Printer {
    /// A printer for this process's streams.
    #[expect(clippy::disallowed_methods, reason = "NO_COLOR is a convention of terminals, read at the edge")]
    pub(super) fn of_process(cli: &Cli) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let color = match cli.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Self {
            quiet: cli.quiet,
            color,
            terminal,
            json: cli.log_format == LogFormat::Json,
            lost: AtomicBool::new(false),
            bars: MultiProgress::new(),
            running: Mutex::default(),
        }
    }

    /// Writes data to stdout. A reader that has gone away is no failure, a disk that is full is one.
    pub(super) fn data(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        drop(out);
        if let Err(error) = written
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            self.lost.store(true, Ordering::Relaxed);
            self.error(&Error::new(ErrorKind::Storage, "cannot write to standard output").caused_by(error));
        }
    }

    /// How the command ends, when it did what it was asked and its data may be lost.
    pub(super) fn end(&self, exit: Exit) -> Exit {
        if exit == Exit::Ok && self.lost.load(Ordering::Relaxed) { Exit::Failed } else { exit }
    }

    /// Writes a line of talk to stderr.
    pub(super) fn say(&self, text: &str) {
        if self.json {
            self.line(&log::line("info", text.trim(), serde_json::Value::Null));
        } else {
            self.line(text);
        }
    }

    fn line(&self, text: &str) {
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
        if self.json {
            for line in log::findings(findings, map) {
                self.line(&line);
            }
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
                if policy_alone(findings) {
                    return Exit::Refused;
                }
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

    /// Shows why a command that needs a project did not get one.
    pub(super) fn not_loaded(&self, command: &str, failure: &Failure) -> Exit {
        let exit = self.failure(failure);
        if matches!(failure, Failure::Findings(..)) {
            self.say(&format!("`kinfold {command}` needs a project that loads: mend the errors above first"));
        }
        exit
    }

    /// Shows an error with its chain and its way out.
    pub(super) fn error(&self, error: &Error) -> Exit {
        let causes = causes(error);
        if self.json {
            self.line(&log::error(error, &causes));
            return Exit::of(error);
        }
        self.say(&format!("{}: {error}", self.bold("error", "31")));
        for cause in causes {
            self.say(&format!("  caused by: {cause}"));
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

/// What brought an error about, outermost first, without what was said already.
fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    let mut last = error.to_string();
    while let Some(inner) = cause {
        let text = inner.to_string();
        let advice = "This issue was likely caused by";
        let line = text.split(advice).next().unwrap_or_default().trim_end().to_owned();
        if !line.is_empty() && !last.contains(&line) {
            causes.push(line.clone());
        }
        last = line;
        cause = inner.source();
    }
    causes
}

impl Progress for Printer {
    fn begun(&self, run: u64, builds: usize) {
        if self.quiet {
            return;
        }
        let message = format!("run {run}: {}", summary::counted(builds, "model"));
        if self.json {
            self.line(&log::run_started(&message, run, builds));
        } else {
            self.say(&message);
        }
    }

    fn started(&self, model: &str) {
        if self.json && !self.quiet {
            self.line(&log::model_started(model));
        }
        if self.quiet || self.json || !self.terminal {
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
        if self.json {
            self.line(&log::model_finished(&summary::progress_line(node), node));
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
        if self.quiet {
            return;
        }
        let message = format!("{} to {}: {}", sync.sync, sync.destination, sync.result);
        if self.json {
            self.line(&log::sync_finished(&message, sync));
        } else {
            self.say(&format!("  {message}"));
        }
    }

    fn note(&self, text: &str) {
        self.say(text);
    }

    fn warnings(&self, findings: &[Diagnostic], map: &SourceMap) {
        if self.json {
            for line in log::findings(findings, map) {
                self.line(&line);
            }
        } else {
            self.note(render_human(findings, map, self.color).trim_end());
        }
    }
}
