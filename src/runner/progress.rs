//! What a run says while it works.

use super::report::{NodeReport, SyncReport};
use crate::diagnostic::{Diagnostic, SourceMap};
use crate::engine::CheckResult;

/// Listens to a run; implemented by the command line's printer.
pub trait Progress: Send + Sync {
    /// The run begins: its number and how many models it will build.
    fn begun(&self, run: u64, builds: usize);
    /// A model's stage begins.
    fn started(&self, model: &str);
    /// A model's stage ended.
    fn finished(&self, node: &NodeReport);
    /// The data tests of a model or source table ended.
    fn tested(&self, results: &[CheckResult]);
    /// A sync ended.
    fn synced(&self, sync: &SyncReport);
    /// Something worth a line: a recovered run, a waiting lease.
    fn note(&self, text: &str);
    /// Warnings about the data that are about to be read.
    fn warnings(&self, findings: &[Diagnostic], map: &SourceMap);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begun(&self, _: u64, _: usize) {}
    fn started(&self, _: &str) {}
    fn finished(&self, _: &NodeReport) {}
    fn tested(&self, _: &[CheckResult]) {}
    fn synced(&self, _: &SyncReport) {}
    fn note(&self, _: &str) {}
    fn warnings(&self, _: &[Diagnostic], _: &SourceMap) {}
}
