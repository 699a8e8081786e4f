//! What a killed run left is finished before the next one begins.

use super::Warehouse;
use super::commit::{FOLDER, StagedList};
use super::record::{self, RunRecord, RunStatus, check_format};
use super::store::{number_of, numbered};
use crate::error::{Error, ErrorKind, Result};
use serde_json::Value;

/// A run that was found staged without a record, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// Its record, committed or abandoned.
    pub record: RunRecord,
}

impl Recovered {
    /// One line for the user.
    pub fn message(&self) -> String {
        let run = self.record.run;
        match (self.record.status, &self.record.note) {
            (RunStatus::Committed, _) => format!("run {run} was cut off while committing; it is finished now"),
            (RunStatus::Abandoned, Some(note)) => format!("run {run} was cut off and is abandoned: {note}"),
            (RunStatus::Abandoned, None) => format!("run {run} was cut off and is abandoned"),
        }
    }
}

impl Warehouse {
    /// Finishes every staged run that has no record, oldest first. Returns them and the number of the last
    /// run that is over.
    ///
    /// # Errors
    /// `Data` when a list is damaged or of a newer version; `Storage`.
    pub(super) async fn recover(&self) -> Result<(Vec<Recovered>, u64)> {
        let mut last = record::numbers(&self.state).await?.last().copied().unwrap_or(0);
        let staged = self.state.names_after(FOLDER, &format!("{last:020}.json")).await?;
        let mut recovered = Vec::new();
        for run in staged.iter().filter_map(|n| number_of(n)) {
            let list = self.load_staged(run).await?;
            let record = self
                .finish(&list)
                .await
                .map_err(|e| e.context(format!("run {run} was cut off and cannot be finished")))?;
            recovered.push(Recovered { record });
            last = run;
        }
        Ok((recovered, last))
    }

    async fn load_staged(&self, run: u64) -> Result<StagedList> {
        let name = numbered(FOLDER, run);
        let value: Value = self
            .state
            .get_json(&name)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Storage, format!("`{name}` was listed but cannot be read")))?;
        check_format(&name, &value)?;
        serde_json::from_value(value)
            .map_err(|e| Error::new(ErrorKind::Data, format!("`{name}` is damaged")).caused_by(e))
    }
}
