//! What narrows an audience after its condition: `group`, `holdout`, `top` and `min_size`.

use super::models::Models;
use super::reader::{Fields, Reader};
use super::suggest::nearest;
use super::values::PercentSign;
use super::yaml::{Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, Spanned};
use crate::model::{Group, Holdout, Model, ModelKind, Narrowing, RankBy, Top};
use std::collections::BTreeMap;

pub(super) const GROUP_KEYS: [&str; 2] = ["name", "priority"];
pub(super) const HOLDOUT_KEYS: [&str; 2] = ["percent", "salt"];
pub(super) const TOP_KEYS: [&str; 2] = ["rows", "by"];

/// Reads the four keys of an audience.
pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Narrowing {
    Narrowing {
        group: fields.get("group").and_then(|n| group(reader, n)),
        holdout: fields.get("holdout").and_then(|n| holdout(reader, n)),
        top: fields.get("top").and_then(|n| top(reader, n)),
        min_size: fields.get("min_size").and_then(|n| reader.count("min_size", n)).map(|n| n.value),
    }
}

fn group(reader: &mut Reader<'_>, node: &Node) -> Option<Group> {
    let fields = reader.fields(node, "group", &GROUP_KEYS)?;
    let name = fields.require(reader, "name").and_then(|n| reader.name("name", n));
    let priority = fields.require(reader, "priority").and_then(|n| reader.count("priority", n));
    Some(Group { name: name?, priority: priority? })
}

fn holdout(reader: &mut Reader<'_>, node: &Node) -> Option<Holdout> {
    let fields = reader.fields(node, "holdout", &HOLDOUT_KEYS)?;
    let percent = fields.require(reader, "percent").and_then(|n| reader.percent("percent", n, PercentSign::Optional));
    let salt = fields.require(reader, "salt").and_then(|n| match n.kind {
        NodeKind::Number(_) => reader.scalar("salt", n),
        _ => reader.filled("salt", n),
    });
    Some(Holdout { percent: percent?, salt: salt? })
}

fn top(reader: &mut Reader<'_>, node: &Node) -> Option<Top> {
    let fields = reader.fields(node, "top", &TOP_KEYS)?;
    let rows = fields.require(reader, "rows").and_then(|n| reader.count("rows", n));
    let by = fields.require(reader, "by").map(|n| reader.sql_list("by", n)).unwrap_or_default();
    let by: Option<Vec<RankBy>> = by.into_iter().map(|sql| rank_by(reader, sql)).collect();
    Some(Top { rows: rows?.value, by: by.filter(|by| !by.is_empty())? })
}

/// `score desc`: an expression, and after it which end comes first. As in SQL the least does unless it says otherwise.
fn rank_by(reader: &mut Reader<'_>, text: Spanned<String>) -> Option<RankBy> {
    let whole = text.value.trim_end();
    let last = whole.rsplit(char::is_whitespace).next().unwrap_or_default();
    let descending = last.eq_ignore_ascii_case("desc");
    if !descending && !last.eq_ignore_ascii_case("asc") {
        return Some(RankBy { sql: text, descending });
    }
    let expression = whole[..whole.len() - last.len()].trim();
    if expression.is_empty() {
        reader.empty(text.span, "by");
        return None;
    }
    let start = text.value.len() - text.value.trim_start().len();
    let span = reader.sources.locate_range(text.span, &text.value, start, start + expression.len());
    Some(RankBy { sql: Spanned::new(expression.to_owned(), span), descending })
}

/// A member of a group.
struct Member<'m> {
    group: &'m Group,
    profile: &'m Spanned<String>,
    identity: Option<&'m str>,
}

/// Checks that the audiences of each group can be put in order and are about the same entities.
pub(super) fn check_groups(reader: &mut Reader<'_>, models: &Models) {
    let mut groups: BTreeMap<&str, Vec<Member<'_>>> = BTreeMap::new();
    for model in models.enabled.values() {
        let ModelKind::Audience(audience) = &model.kind else { continue };
        let Some(group) = &audience.narrowing.group else { continue };
        let identity = identity_of(models, &audience.profile.value);
        groups.entry(&group.name.value).or_default().push(Member { group, profile: &audience.profile, identity });
    }
    for (name, members) in &groups {
        for (index, member) in members.iter().enumerate() {
            same_priority(reader, name, member, &members[..index]);
            other_entities(reader, member, &members[..index]);
        }
        if let ([only], false) = (members.as_slice(), reader.incomplete || !models.disabled.is_empty()) {
            alone(reader, only, nearest(name, groups.keys().copied().filter(|other| other != name)));
        }
    }
}

fn identity_of<'m>(models: &'m Models, profile: &str) -> Option<&'m str> {
    match models.enabled.get(profile) {
        Some(Model { kind: ModelKind::Profile(profile), .. }) => Some(&profile.identity.value),
        _ => None,
    }
}

fn same_priority(reader: &mut Reader<'_>, group: &str, member: &Member<'_>, before: &[Member<'_>]) {
    let priority = &member.group.priority;
    let Some(first) = before.iter().find(|b| b.group.priority.value == priority.value) else { return };
    let message = format!("two audiences of the group `{group}` have the priority {}", priority.value);
    reader.findings.push(
        Diagnostic::error(Code::GroupPriority, priority.span, message)
            .with_label("who gets a person that both want?")
            .with_related(first.group.priority.span, "the same number")
            .with_help("give one of them another number; the lowest wins"),
    );
}

fn other_entities(reader: &mut Reader<'_>, member: &Member<'_>, before: &[Member<'_>]) {
    let Some(first) = before.first() else { return };
    let (Some(own), Some(other)) = (member.identity, first.identity) else { return };
    if own != other {
        reader.findings.push(
            Diagnostic::error(
                Code::OtherEntity,
                member.group.name.span,
                "the audiences of a group are of other entities",
            )
            .with_label(format!("made of `{own}` entities"))
            .with_related(first.profile.span, format!("made of `{other}` entities"))
            .with_help("use one group for each identity"),
        );
    }
}

fn alone(reader: &mut Reader<'_>, only: &Member<'_>, near: Option<&str>) {
    let shown = reader.shown(only.group.name.span);
    let finding = Diagnostic::warning(
        Code::NoMeaning,
        only.group.name.span,
        format!("no other audience is in the group `{shown}`"),
    )
    .with_label("so it keeps nobody out");
    reader.findings.push(match near {
        Some(near) => finding.with_help(format!("did you mean `{near}`?")),
        None => finding.with_help("put the audiences that may not share a person into one group"),
    });
}
