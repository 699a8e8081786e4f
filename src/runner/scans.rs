//! How a profile or an audience reads its tables. Binds the project; reads no rows.

use super::prepare::{Failure, Options, Purpose, prepare};
use crate::engine::ScanPlan;
use crate::error::{Error, ErrorKind};
use crate::project::nearest;

/// Tells how a model reads, together with all audiences that share its scans.
///
/// # Errors
/// Findings when the project does not bind; `Usage` when the model is no profile and no audience.
pub async fn explain_plan(options: &Options, name: &str) -> Result<ScanPlan, Failure> {
    let everything = Options { select: Vec::new(), exclude: Vec::new(), ..options.clone() };
    let prepared = prepare(&everything, Purpose::Run).await?;
    if !prepared.project.models.contains_key(name) {
        let error = Error::new(ErrorKind::Usage, format!("no model `{name}`"));
        let near = nearest(name, prepared.project.models.keys().map(String::as_str));
        let near = near.map_or_else(|| "`kinfold ls` lists them".to_owned(), |near| format!("did you mean `{near}`?"));
        return Err(error.with_help(near).into());
    }
    Ok(prepared.engine.scans(name)?)
}
