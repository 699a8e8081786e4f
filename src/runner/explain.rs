//! Why two identifiers are one entity, or why not; and what an entity is made of. Over committed tables only.
//!
//! What a word before the colon means: an identifier type of one of the identities, or the name of an identity,
//! after which an entity's id stands, whole or at least its first [`MIN_ID_DIGITS`] digits. Where an identity has
//! a type of its own name, the type is meant unless a whole id follows.
//!
//! Whether two are one is read off the entity ids. The chain comes from `patient_links` and from the `always`
//! rules as the file has them now: a rule counts if the last run put its two identifiers into one entity.

use super::audit::{Reading, note_reading};
use super::prepare::{Failure, Options};
use super::reading::reader;
use crate::diagnostic::Diagnostic;
use crate::engine::{Judged, LinkRows, Reader};
use crate::error::{Error, ErrorKind};
use crate::identity::{
    Asked, ChainLink, EntityExplanation, ExplainedLink, Grounds, HubNote, Identifier, Member, NO_TIME, PairExplanation,
    Standing, Whose, links_around, shortest_chain,
};
use crate::model::{IdentityModel, IdentityRule, ModelKind, Normalize, Project, Verdict};
use crate::project::nearest;
use std::collections::{BTreeMap, BTreeSet};

/// Digits of an entity id that are enough to name it.
const MIN_ID_DIGITS: usize = 8;
/// Digits of a whole entity id.
const ID_DIGITS: usize = 32;

/// What is asked.
#[derive(Debug, Clone)]
pub struct IdentityQuestion {
    /// `type:value`, or the identity's name and an entity id.
    pub first: String,
    /// The same, for why the two are one or not.
    pub second: Option<String>,
    /// The identity, where several have the types.
    pub identity: Option<String>,
}

/// What there is to say.
#[derive(Debug, Clone)]
pub enum IdentityAnswer {
    /// Of two.
    Pair(PairExplanation),
    /// Of one.
    Entity(EntityExplanation),
}

/// Explains one entity, or two identifiers.
///
/// # Errors
/// Findings when the project does not load; `Usage` when the question names nothing that the project has, or the
/// identity was never built.
pub async fn explain_identity(options: &Options, question: &IdentityQuestion) -> Result<IdentityAnswer, Failure> {
    let reader = reader(options, None).await?;
    let texts: Vec<&str> = std::iter::once(&question.first).chain(&question.second).map(|text| text.trim()).collect();
    let project = reader.project().clone();
    let (name, model, sides) = resolve(&project, &texts, question.identity.as_deref())?;
    let story = Story::new(&reader, name, model).await?;
    let first = story.asked(texts[0], &sides[0]).await?;
    let answer = match (texts.get(1), sides.get(1)) {
        (Some(text), Some(side)) => {
            let second = story.asked(text, side).await?;
            IdentityAnswer::Pair(story.pair([first, second]).await?)
        }
        _ => IdentityAnswer::Entity(story.entity(first).await?),
    };
    note_reading(options, Reading::of("explain", [name.to_owned()])).await?;
    Ok(answer)
}

/// A text that was asked about, as an identity reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// Identifier type and raw value.
    Identifier(String, String),
    /// The beginning of an entity id.
    Id(String),
}

/// The one identity that can read all texts.
pub(super) fn resolve<'p>(
    project: &'p Project,
    texts: &[&str],
    wanted: Option<&str>,
) -> Result<(&'p str, &'p IdentityModel, Vec<Side>), Error> {
    let identities: Vec<(&str, &IdentityModel)> = identities(project, wanted)?;
    for text in texts {
        let Some((kind, _)) = text.split_once(':') else {
            return Err(usage(format!("`{text}` is no identifier"), "write type:value, such as email:ann@x.com"));
        };
        if !identities.iter().any(|(name, model)| knows(name, model, kind)) {
            return Err(unknown_kind(&identities, kind));
        }
    }
    let fits = |(name, model): &(&'p str, &'p IdentityModel)| {
        let sides: Option<Vec<Side>> = texts.iter().map(|text| side(name, model, text)).collect();
        sides.map(|sides| (*name, *model, sides))
    };
    let mut found: Vec<_> = identities.iter().filter_map(fits).collect();
    // an identity whose entities are asked for comes before one that has their ids as identifiers, as a household has
    let of_entities = |(_, _, sides): &(_, _, Vec<Side>)| sides.iter().all(|side| matches!(side, Side::Id(_)));
    if found.iter().any(of_entities) {
        found.retain(of_entities);
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(name, ..)| *name).collect();
        let message = format!("this may be asked of the identities {}", names.join(" and "));
        return Err(usage(message, format!("say which: --identity {}", names.join(" or --identity "))));
    }
    let (name, model, sides) = found.pop().ok_or_else(|| {
        let message = format!("no identity has both {}", texts.join(" and "));
        usage(message, "what belongs to different identities is never one entity")
    })?;
    if let Some((id, text)) = sides.iter().zip(texts).find_map(|(side, text)| match side {
        Side::Id(id) if !is_id(id) => Some((id, text)),
        _ => None,
    }) {
        let help = format!("`{id}` should be an id of 32 hexadecimal digits, or at least its first {MIN_ID_DIGITS}");
        return Err(usage(format!("`{text}` is no entity"), help));
    }
    Ok((name, model, sides))
}

fn identities<'p>(project: &'p Project, wanted: Option<&str>) -> Result<Vec<(&'p str, &'p IdentityModel)>, Error> {
    let all: Vec<(&str, &IdentityModel)> = project
        .models
        .iter()
        .filter_map(|(name, model)| match &model.kind {
            ModelKind::Identity(identity) => Some((name.as_str(), identity)),
            _ => None,
        })
        .collect();
    let names = || all.iter().map(|(name, _)| *name);
    match wanted {
        None if all.is_empty() => Err(usage("the project has no identity", "write a model of `kind: identity`")),
        None => Ok(all),
        Some(wanted) => match all.iter().find(|(name, _)| *name == wanted) {
            Some(one) => Ok(vec![*one]),
            None => Err(usage(format!("no identity `{wanted}`"), hint(wanted, names().collect()))),
        },
    }
}

fn knows(name: &str, model: &IdentityModel, kind: &str) -> bool {
    kind == name || model.identifiers.iter().any(|i| i.name.value == kind)
}

fn side(name: &str, model: &IdentityModel, text: &str) -> Option<Side> {
    let (kind, value) = text.split_once(':')?;
    let is_type = model.identifiers.iter().any(|i| i.name.value == kind);
    let id = value.trim().to_ascii_lowercase();
    let whole_id = id.len() == ID_DIGITS && is_id(&id);
    if is_type && !(kind == name && whole_id) {
        return Some(Side::Identifier(kind.to_owned(), value.to_owned()));
    }
    (kind == name).then_some(Side::Id(id))
}

fn is_id(text: &str) -> bool {
    (MIN_ID_DIGITS..=ID_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn unknown_kind(identities: &[(&str, &IdentityModel)], kind: &str) -> Error {
    let types = identities.iter().flat_map(|(_, model)| model.identifiers.iter().map(|i| i.name.value.as_str()));
    let mut known: Vec<&str> = Vec::new();
    for name in types.chain(identities.iter().map(|(name, _)| *name)) {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    usage(format!("`{kind}` is neither an identifier type nor an identity"), hint(kind, known))
}

fn hint(word: &str, known: Vec<&str>) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", known.join(", ")),
    }
}

fn usage(message: impl Into<String>, help: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message).with_help(help)
}

/// What a value of this type should have been.
fn expected(normalize: &Normalize) -> String {
    match normalize {
        Normalize::Email => "an e-mail address".to_owned(),
        Normalize::Phone(region) => {
            format!("a valid phone number (as written in {region}, or with + and country code)")
        }
        Normalize::Digits => "a value with digits".to_owned(),
        Normalize::None | Normalize::Trim | Normalize::Lower => "a value that is not empty".to_owned(),
        Normalize::Sql(sql) => format!("a value of which `{}` leaves something", sql.value),
    }
}

/// What is wrong with a definition, where somebody asks about its data.
pub(super) fn wrong(reader: &Reader, finding: Diagnostic) -> Failure {
    Failure::Findings(vec![finding], Box::new(reader.source_map().clone()))
}

/// One identity and its tables.
pub(super) struct Story<'a> {
    pub reader: &'a Reader,
    pub name: &'a str,
    pub model: &'a IdentityModel,
    hubs: Vec<HubNote>,
    /// The rules, with normalised identifiers.
    rules: Vec<IdentityRule>,
}

/// The links of the table, and after them the `always` rules, each with what stands against it.
struct Joined<'a> {
    rows: LinkRows,
    rules: Vec<(&'a IdentityRule, Option<String>)>,
}

impl<'a> Story<'a> {
    /// What the last run and the rules of today say about an identity.
    pub(super) async fn new(reader: &'a Reader, name: &'a str, model: &'a IdentityModel) -> Result<Self, Failure> {
        let rules = reader.rules(name, model).map_err(|finding| wrong(reader, *finding))?;
        Ok(Self { reader, name, model, hubs: reader.hubs(name).await?, rules })
    }
}

impl Story<'_> {
    /// What somebody named is.
    pub(super) async fn asked(&self, given: &str, side: &Side) -> Result<Asked, Failure> {
        let given = given.to_owned();
        match side {
            Side::Identifier(kind, raw) => self.identifier(given, kind, raw).await,
            Side::Id(id) => {
                let members = self.reader.members_of(self.name, id).await?;
                let entity_id = self.only_entity(&members, id)?;
                Ok(Asked { given, identifier: None, standing: Standing::Entity { entity_id, members } })
            }
        }
    }

    async fn identifier(&self, given: String, kind: &str, raw: &str) -> Result<Asked, Failure> {
        let Some(kind) = self.model.identifiers.iter().find(|i| i.name.value == kind) else {
            return Err(usage(format!("no identifier type `{kind}`"), "see `identifiers:`").into());
        };
        let judged = self.reader.judge(self.name, kind, raw).map_err(|finding| wrong(self.reader, *finding))?;
        let named = |value: String| Identifier::new(kind.name.value.as_str(), value);
        let (identifier, standing) = match judged {
            Judged::Nothing => (None, Standing::Malformed { expected: expected(&kind.normalize) }),
            Judged::Blocked { value, by } => (Some(named(value)), Standing::Blocked { by }),
            Judged::Identifier(value) => {
                let identifier = named(value);
                let standing = self.standing(&identifier).await?;
                (Some(identifier), standing)
            }
        };
        Ok(Asked { given, identifier, standing })
    }

    async fn standing(&self, identifier: &Identifier) -> Result<Standing, Failure> {
        if let Some(hub) = self.hubs.iter().find(|hub| hub.identifier == *identifier) {
            return Ok(Standing::Hub(hub.clone()));
        }
        let found = self.reader.members(self.name, std::slice::from_ref(identifier)).await?;
        Ok(match found.into_iter().next() {
            Some(member) => Standing::Member(member),
            None => Standing::Unknown { near: self.reader.near(self.name, identifier).await? },
        })
    }

    /// The entity whose id begins so, if there is exactly one.
    fn only_entity(&self, members: &[Member], id: &str) -> Result<String, Error> {
        let ids: BTreeSet<&str> = members.iter().map(|m| m.entity_id.as_str()).collect();
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (Some(only), None) => Ok(only.to_owned()),
            (Some(first), Some(second)) => {
                let message = format!("several entities of `{}` have an id that begins with {id}", self.name);
                Err(usage(message, format!("write more digits: {first}, {second}, ...")))
            }
            (None, _) => {
                let message = format!("no entity of `{}` has an id that begins with {id}", self.name);
                let help = format!("an id that was lost in a merge stands in `{0}_changes` as `other_id`", self.name);
                Err(usage(message, help))
            }
        }
    }

    async fn pair(&self, asked: [Asked; 2]) -> Result<PairExplanation, Failure> {
        let sides = [asked[0].identifiers(), asked[1].identifiers()];
        let mut chain = None;
        if sides.iter().all(|side| !side.is_empty()) {
            let joined = self.joined(&sides.concat()).await?;
            let [from, to] = sides.map(|side| joined.codes(side.iter()));
            chain = shortest_chain(&joined.rows.nodes, &joined.rows.links, &from, &to).map(|chain| {
                let ends = chain.identifiers().zip(&chain.steps);
                ends.map(|(from, step)| joined.explained(step.link, (from, step.to))).collect::<Vec<_>>()
            });
        }
        let whose = self.whose(chain.iter().flatten(), &[]).await?;
        let parted_by = self.parted_by(&asked).await?;
        Ok(PairExplanation { identity: self.name.to_owned(), asked, chain, whose, parted_by })
    }

    /// The never rule over two of the entity that both are of, if there is one: the last run did not have it.
    async fn parted_by(&self, asked: &[Asked; 2]) -> Result<Option<String>, Failure> {
        let [Some(one), Some(other)] = asked.each_ref().map(Asked::entity_id) else { return Ok(None) };
        if one != other {
            return Ok(None);
        }
        let never = self.rules.iter().filter(|rule| rule.verdict == Verdict::Never);
        let entities = self.entities(&never.clone().flat_map(ends).collect::<Vec<_>>()).await?;
        let inside = |end: &Identifier| entities.get(end).is_some_and(|entity| entity == one);
        let parts = never.into_iter().find(|rule| ends(rule).iter().all(inside));
        Ok(parts.map(never_text))
    }

    async fn entity(&self, asked: Asked) -> Result<EntityExplanation, Failure> {
        let mut members = match (&asked.standing, asked.entity_id()) {
            (Standing::Entity { members, .. }, _) => members.clone(),
            (_, Some(id)) => self.reader.members_of(self.name, id).await?,
            (_, None) => Vec::new(),
        };
        members.sort_by_key(|m| self.model.identifiers.iter().position(|i| i.name.value == m.identifier.kind));
        let (mut links, mut refused) = (Vec::new(), Vec::new());
        if !members.is_empty() {
            let own: Vec<Identifier> = members.iter().map(|m| m.identifier.clone()).collect();
            let joined = self.joined(&own).await?;
            for link in links_around(&joined.rows.nodes, &joined.rows.links, &joined.codes(own.iter())) {
                let ChainLink { a, b, .. } = joined.rows.links[link as usize];
                let explained = joined.explained(link, (a, b));
                if explained.refused.is_some() { refused.push(explained) } else { links.push(explained) }
            }
        }
        let whose = self.whose(links.iter().chain(&refused), &members).await?;
        Ok(EntityExplanation { identity: self.name.to_owned(), asked, members, links, refused, whose })
    }

    /// All links, and the rules whose identifiers both occur.
    async fn joined(&self, also: &[Identifier]) -> Result<Joined<'_>, Failure> {
        let in_rules: Vec<Identifier> = self.rules.iter().flat_map(ends).collect();
        let entities = self.entities(&in_rules).await?;
        let types: Vec<&str> = self.model.identifiers.iter().map(|i| i.name.value.as_str()).collect();
        let mut rows = self.reader.links(self.name, &types, &[also, &in_rules].concat()).await?;
        let mut rules = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.verdict == Verdict::Always) {
            let ends = ends(rule);
            let occurs = |end: &Identifier| entities.contains_key(end) || self.hub(end).is_some();
            let (Some(a), Some(b)) = (rows.code(&ends[0]), rows.code(&ends[1])) else { continue };
            if !ends.iter().all(occurs) {
                continue;
            }
            let refused = self.against(&ends, &entities);
            rows.links.push(ChainLink { a, b, counts: refused.is_none(), first_seen: NO_TIME });
            rules.push((rule, refused));
        }
        Ok(Joined { rows, rules })
    }

    /// Why an always rule over these does not count.
    fn against(&self, ends: &[Identifier; 2], entities: &BTreeMap<Identifier, String>) -> Option<String> {
        if ends.iter().any(|end| self.hub(end).is_some()) {
            return Some("hub".to_owned());
        }
        let [left, right] = ends.each_ref().map(|end| entities.get(end));
        if left == right {
            return None;
        }
        let entity = |(kind, value): &(String, String)| entities.get(&Identifier::new(kind, value));
        let apart = |rule: &&IdentityRule| {
            let sides = (entity(&rule.left), entity(&rule.right));
            rule.verdict == Verdict::Never && (sides == (left, right) || sides == (right, left))
        };
        Some(match self.rules.iter().find(apart) {
            Some(never) => never_text(never),
            None => "the last run did not have this rule yet".to_owned(),
        })
    }

    fn hub(&self, identifier: &Identifier) -> Option<&HubNote> {
        self.hubs.iter().find(|hub| hub.identifier == *identifier)
    }

    async fn entities(&self, identifiers: &[Identifier]) -> Result<BTreeMap<Identifier, String>, Failure> {
        let members = self.reader.members(self.name, identifiers).await?;
        Ok(members.into_iter().map(|member| (member.identifier, member.entity_id)).collect())
    }

    /// Whose the ends of these links are, of whom some are known.
    async fn whose<'l>(
        &self,
        links: impl Iterator<Item = &'l ExplainedLink>,
        known: &[Member],
    ) -> Result<Whose, Failure> {
        let mut entities: BTreeMap<Identifier, String> =
            known.iter().map(|member| (member.identifier.clone(), member.entity_id.clone())).collect();
        let ends: BTreeSet<&Identifier> = links.flat_map(|link| [&link.left, &link.right]).collect();
        let hubs = self.hubs.iter().filter(|hub| ends.contains(&hub.identifier)).cloned().collect();
        let others: Vec<Identifier> = ends.into_iter().filter(|i| !entities.contains_key(i)).cloned().collect();
        entities.extend(self.entities(&others).await?);
        Ok(Whose { entities, hubs })
    }
}

/// The identifiers of a rule.
fn ends(rule: &IdentityRule) -> [Identifier; 2] {
    [&rule.left, &rule.right].map(|(kind, value)| Identifier::new(kind, value))
}

fn never_text(rule: &IdentityRule) -> String {
    format!("never rule by {}: {}", rule.by, rule.reason)
}

impl Joined<'_> {
    fn codes<'i>(&self, identifiers: impl Iterator<Item = &'i Identifier>) -> Vec<u32> {
        identifiers.filter_map(|identifier| self.rows.code(identifier)).collect()
    }

    /// A link from one end to the other.
    fn explained(&self, link: u32, (from, to): (u32, u32)) -> ExplainedLink {
        let (grounds, refused) = self.rows.grounds(link).unwrap_or_else(|| {
            let first = self.rows.links.len() - self.rules.len();
            let (rule, refused) = &self.rules[link as usize - first];
            let grounds = Grounds::Always { by: rule.by.clone(), reason: rule.reason.clone(), at: rule.at.clone() };
            (grounds, refused.clone())
        });
        ExplainedLink { left: self.rows.identifier(from), right: self.rows.identifier(to), grounds, refused }
    }
}
