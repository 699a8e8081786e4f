//! One audience as it is now defined, over what the last run left: why somebody is in it or is not, and how large
//! it would be. Nothing is committed.
//!
//! The definition is the present one, and so are the rows of source tables. Who is who, what profiles hold and who
//! is in other audiences is as it was committed, and the logical time is that of the last run, unless the question
//! has its own.

use super::audit::{Reading, note_reading};
use super::committed::{Clock, Ready};
use super::explain::{Story, resolve};
use super::prepare::{Failure, Options};
use super::reading::reader;
use crate::engine::{AudienceFacts, Facts, ListNote, Membership, Output};
use crate::error::{Error, ErrorKind};
use crate::identity::Asked;
use crate::model::{AudienceModel, ListEntry, ModelKind, Project};
use crate::project::nearest;
use chrono::{DateTime, Utc};

/// Why somebody is in an audience, or is not.
#[derive(Debug, Clone)]
pub struct AudienceAnswer {
    /// The audience.
    pub audience: String,
    /// The identity of its people.
    pub identity: String,
    /// The profile that it is over.
    pub profile: String,
    /// Logical time of the answer.
    pub as_of: DateTime<Utc>,
    /// Who was asked about.
    pub asked: Asked,
    /// What is so of that person; `None` when it is nobody.
    pub membership: Option<Membership>,
    /// Entries of the lists that name what is nobody.
    pub listed: Vec<ListNote>,
}

/// Explains whether somebody is in an audience; `id` is `type:value` or an entity's id.
///
/// # Errors
/// Findings when the project does not load; `Usage` when there is no such audience, or nothing was built yet.
pub async fn explain_audience(options: &Options, audience: &str, id: &str) -> Result<AudienceAnswer, Failure> {
    let ready = Ready::new(options, audience, Clock::LastRun, |p| audience_of(p, audience).map(drop)).await?;
    let model = audience_of(&ready.project, audience)?;
    let identity = identity_of(&ready.project, model)?;
    let id = id.trim();
    let given = if id.contains(':') { id.to_owned() } else { format!("{identity}:{id}") };
    let (name, identity_model, sides) = resolve(&ready.project, &[given.as_str()], Some(identity))?;
    let reader = reader(options, None).await?;
    let story = Story::new(&reader, name, identity_model).await?;
    let asked = story.asked(id, &sides[0]).await?;
    let membership = match asked.entity_id() {
        Some(entity) => Some(ready.engine.membership(audience, model, entity, &ready.context).await?),
        None => None,
    };
    let named = |entry: &&ListEntry| {
        let text = entry.identifier.value.as_str();
        membership.is_none() && (text == id || asked.identifier.as_ref().is_some_and(|i| i.to_string() == text))
    };
    let listed = model.include.iter().chain(&model.exclude).filter(named).map(ListNote::from).collect();
    note_reading(options, Reading::of("explain", [audience.to_owned()])).await?;
    Ok(AudienceAnswer {
        audience: audience.to_owned(),
        identity: identity.to_owned(),
        profile: model.profile.value.clone(),
        as_of: ready.as_of,
        asked,
        membership,
        listed,
    })
}

/// How large an audience would be.
#[derive(Debug, Clone)]
pub struct AudiencePreview {
    /// The audience.
    pub audience: String,
    /// Logical time of the answer.
    pub as_of: DateTime<Utc>,
    /// How many, and who was left out; against the last run.
    pub facts: AudienceFacts,
    /// The first members, as rows of its table.
    pub first: Output,
}

/// Decides an audience by its present definition, and commits nothing.
///
/// # Errors
/// As [`explain_audience`].
pub async fn preview_audience(options: &Options, audience: &str, limit: usize) -> Result<AudiencePreview, Failure> {
    let ready = Ready::new(options, audience, Clock::LastRun, |p| audience_of(p, audience).map(drop)).await?;
    let built = ready.engine.build(audience, &ready.context).await?;
    let (Facts::Audience(facts), Some(mut first)) = (built.facts, built.outputs.into_iter().next()) else {
        return Err(Error::new(ErrorKind::Failed, format!("`{audience}` has no members to show")).into());
    };
    let mut rest = limit;
    for batch in &mut first.batches {
        *batch = batch.slice(0, rest.min(batch.num_rows()));
        rest -= batch.num_rows();
    }
    let (audience, as_of) = (audience.to_owned(), ready.as_of);
    Ok(AudiencePreview { audience, as_of, facts, first })
}

/// The audience of this name.
fn audience_of<'p>(project: &'p Project, name: &str) -> Result<&'p AudienceModel, Error> {
    if let Some(ModelKind::Audience(audience)) = project.models.get(name).map(|model| &model.kind) {
        return Ok(audience);
    }
    let audiences: Vec<&str> = project
        .models
        .values()
        .filter(|m| matches!(m.kind, ModelKind::Audience(_)))
        .map(|m| m.name.value.as_str())
        .collect();
    let message = match project.models.get(name) {
        Some(model) => format!("`{name}` is no audience, it is a model of kind {}", model.kind.word()),
        None => format!("no audience `{name}`"),
    };
    let error = Error::new(ErrorKind::Usage, message);
    Err(match nearest(name, audiences.iter().copied()) {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None if audiences.is_empty() => error.with_help("the project has no audience"),
        None => error.with_help(format!("there are: {}", audiences.join(", "))),
    })
}

/// The identity of an audience's people.
fn identity_of<'p>(project: &'p Project, audience: &AudienceModel) -> Result<&'p str, Error> {
    match project.models.get(&audience.profile.value).map(|model| &model.kind) {
        Some(ModelKind::Profile(profile)) => Ok(&profile.identity.value),
        _ => Err(Error::new(ErrorKind::Failed, format!("`{}` is no profile", audience.profile.value))),
    }
}
