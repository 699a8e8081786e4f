//! Whether a sync may send somebody, by what people agreed to, and which answer says so. Sends nothing.
//!
//! Answers are read as they are now; who is who is as it was committed.

use super::audit::{Reading, note_reading};
use super::committed::{Clock, Ready};
use super::explain::{Story, resolve};
use super::prepare::{Failure, Options};
use super::reading::reader;
use super::suppressed::suppressed;
use crate::engine::ConsentFacts;
use crate::error::{Error, ErrorKind};
use crate::identity::Asked as Named;
use crate::model::{ModelKind, Project, SyncModel};
use crate::project::nearest;
use chrono::{DateTime, Utc};

/// What consent says of somebody.
#[derive(Debug, Clone)]
pub struct ConsentAnswer {
    /// The sync.
    pub sync: String,
    /// What it asks for.
    pub purpose: String,
    /// The channel that it asks for, if any.
    pub channel: Option<String>,
    /// The identity whose answers they are.
    pub identity: String,
    /// Logical time of the answer.
    pub as_of: DateTime<Utc>,
    /// Who was asked about.
    pub asked: Named,
    /// What is so.
    pub facts: ConsentFacts,
}

/// Explains whether a sync may send somebody; `id` is `type:value` or an entity's id.
///
/// # Errors
/// Findings when the project does not load; `Usage` when there is no such sync, when it asks nobody, or when nothing was built
/// yet; `Refused` when answers cannot be read, or are missing or old.
pub async fn explain_consent(options: &Options, sync: &str, id: &str) -> Result<ConsentAnswer, Failure> {
    let ready = Ready::new(options, sync, Clock::Present, |project| sync_of(project, sync).map(drop)).await?;
    let model = sync_of(&ready.project, sync)?;
    let (Some(asked_for), Some(consent)) = (&model.asked, &ready.project.consent) else {
        return Err(asks_nobody(sync).into());
    };
    let identity = &consent.identity.value;
    let id = id.trim();
    let given = if id.contains(':') { id.to_owned() } else { format!("{identity}:{id}") };
    let (name, identity_model, sides) = resolve(&ready.project, &[given.as_str()], Some(identity))?;
    let reader = reader(options, None).await?;
    let story = Story::new(&reader, name, identity_model).await?;
    let asked = story.asked(id, &sides[0]).await?;
    let gone = suppressed(&ready.project, &ready.context.warehouse, &ready.context.base).await?;
    let identifier = asked.identifier.as_ref().map(|identifier| identifier.value.as_str());
    let facts = ready.engine.consent_of(sync, (asked.entity_id(), identifier), &gone).await?;
    let read = [sync.to_owned(), consent.from.value.clone()];
    note_reading(options, Reading::of("explain", read)).await?;
    Ok(ConsentAnswer {
        sync: sync.to_owned(),
        purpose: asked_for.purpose.value.clone(),
        channel: asked_for.channel.as_ref().map(|channel| channel.value.clone()),
        identity: identity.clone(),
        as_of: ready.as_of,
        asked,
        facts,
    })
}

fn asks_nobody(sync: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("`{sync}` asks nobody for consent"))
        .with_help("it has no `purpose`; what it sends does not depend on what people agreed to")
}

/// The sync of this name, if it asks.
fn sync_of<'p>(project: &'p Project, name: &str) -> Result<&'p SyncModel, Error> {
    let syncs = project.models.iter().filter_map(|(name, model)| match &model.kind {
        ModelKind::Sync(sync) => Some((name.as_str(), sync)),
        _ => None,
    });
    let syncs: Vec<(&str, &SyncModel)> = syncs.collect();
    if let Some((_, sync)) = syncs.iter().find(|(known, _)| *known == name) {
        return if sync.asked.is_some() { Ok(sync) } else { Err(asks_nobody(name)) };
    }
    let error = Error::new(ErrorKind::Usage, format!("no sync `{name}`"));
    let asking: Vec<&str> = syncs.iter().filter(|(_, sync)| sync.asked.is_some()).map(|(name, _)| *name).collect();
    Err(match nearest(name, asking.iter().copied()) {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None if asking.is_empty() => error.with_help("the project has no sync with a `purpose`"),
        None => error.with_help(format!("there are: {}", asking.join(", "))),
    })
}
