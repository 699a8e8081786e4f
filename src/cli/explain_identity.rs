//! `kinfold explain identity`

use super::exit::Exit;
use super::ls::GraphFormat;
use super::printer::Printer;
use super::summary::{counted, grouped};
use crate::identity::{
    Asked, Drawing, EntityExplanation, ExplainedLink, Grounds, HubNote, Identifier, Member, PairExplanation, Role,
    Standing, Whose,
};
use crate::runner::{IdentityAnswer, IdentityQuestion, Options, explain_identity};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;

/// Digits of an entity id where room is short; `explain identity` takes that many.
const SHORT_ID: usize = 8;

#[derive(Debug, Args)]
pub(super) struct IdentityArguments {
    /// An identifier, as TYPE:VALUE in any spelling, or an entity, as IDENTITY:ID (8 digits are enough).
    #[arg(value_name = "TYPE:VALUE")]
    first: String,
    /// Another one: are the two one entity, and why.
    #[arg(value_name = "TYPE:VALUE")]
    second: Option<String>,
    /// The identity, where several have the type.
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value_t = GraphFormat::Text)]
    output: GraphFormat,
}

pub(super) async fn identity(arguments: &IdentityArguments, options: &Options, printer: &Printer) -> Exit {
    let question = IdentityQuestion {
        first: arguments.first.clone(),
        second: arguments.second.clone(),
        identity: arguments.identity.clone(),
    };
    match explain_identity(options, &question).await {
        Ok(answer) => {
            printer.data(&match (arguments.output, &answer) {
                (GraphFormat::Text, IdentityAnswer::Pair(pair)) => pair_text(pair),
                (GraphFormat::Text, IdentityAnswer::Entity(entity)) => entity_text(entity),
                (GraphFormat::Json, IdentityAnswer::Pair(pair)) => format!("{:#}\n", pair_json(pair)),
                (GraphFormat::Json, IdentityAnswer::Entity(entity)) => format!("{:#}\n", entity_json(entity)),
                (GraphFormat::Mermaid, IdentityAnswer::Pair(pair)) => mermaid(&pair.drawing()),
                (GraphFormat::Mermaid, IdentityAnswer::Entity(entity)) => mermaid(&entity.drawing()),
            });
            Exit::Ok
        }
        Err(failure) => printer.not_loaded("explain identity", &failure),
    }
}

fn pair_text(pair: &PairExplanation) -> String {
    let [left, right] = &pair.asked;
    let (names, what) = (format!("{} and {}", left.name(), right.name()), &pair.identity);
    let mut out = String::new();
    match left.entity_id().filter(|_| pair.is_one()) {
        Some(id) => {
            let _ = writeln!(out, "{names} are one {what}: {id}");
        }
        None => {
            let _ = writeln!(out, "{names} are not one {what}");
            for asked in &pair.asked {
                let _ = writeln!(out, "  {} {}", asked.name(), standing(asked, what));
            }
        }
    }
    match &pair.chain {
        Some(chain) => chain_text(&mut out, pair, chain),
        None if pair.asked.iter().all(|asked| !asked.identifiers().is_empty()) => {
            out.push_str("\nno chain of links leads from one to the other, not even over links that do not count\n");
        }
        None => {}
    }
    let broken = pair.chain.as_ref().is_none_or(|chain| chain.iter().any(|link| link.refused.is_some()));
    if let Some(rule) = &pair.parted_by {
        let _ = writeln!(out, "\nthe last run did not have this {rule}: `kinfold run` parts this {what}");
    }
    if pair.is_one() && broken {
        out.push_str("\nwhat joined them in the last run is not defined any more: `kinfold run` may part them\n");
    }
    out
}

/// What an identifier is, as the rest of a sentence.
pub(super) fn standing(asked: &Asked, identity: &str) -> String {
    match &asked.standing {
        Standing::Member(member) => format!("is of {identity} {}", member.entity_id),
        Standing::Entity { members, .. } => format!("is an entity of {}", counted(members.len(), "identifier")),
        Standing::Hub(hub) => format!("is a hub ({}): it links nobody and belongs to nobody", hub_text(hub)),
        Standing::Unknown { near } if near.is_empty() => "was never seen".to_owned(),
        Standing::Unknown { near } => {
            let near: Vec<String> = near.iter().map(ToString::to_string).collect();
            format!("was never seen; spelled nearly like it: {}", near.join(", "))
        }
        Standing::Blocked { by } => format!("is blocked by `{by}`: it never identifies anyone"),
        Standing::Malformed { expected } => format!("is no identifier: {expected} was expected"),
    }
}

fn hub_text(hub: &HubNote) -> String {
    let links = grouped(hub.links.unsigned_abs());
    let kind = hub.neighbour_type.as_ref().map(|kind| format!(" of type {kind}")).unwrap_or_default();
    format!("{links} neighbours{kind}, the limit is {}", grouped(hub.max_links.unsigned_abs()))
}

fn chain_text(out: &mut String, pair: &PairExplanation, chain: &[ExplainedLink]) {
    let Some(first) = chain.first() else {
        let [left, right] = &pair.asked;
        let same = left.identifier.is_some() && left.identifier == right.identifier;
        out.push_str(if same {
            "\nthe two are the same identifier\n"
        } else {
            "\nthe two have an identifier in common\n"
        });
        return;
    };
    let _ = writeln!(out, "\n{}:", chain_heading(chain));
    let whose = |identifier: &Identifier| {
        if pair.is_one() { String::new() } else { short_whose(identifier, &pair.whose) }
    };
    let mut rows = vec![[String::new(), first.left.to_string(), whose(&first.left), String::new()]];
    rows.extend(chain.iter().enumerate().map(|(number, link)| {
        [(number + 1).to_string(), link.right.to_string(), whose(&link.right), grounds_text(&link.grounds)]
    }));
    let reasons = std::iter::once(None).chain(chain.iter().map(|link| link.refused.as_deref()));
    for (line, reason) in aligned(&rows).into_iter().zip(reasons) {
        let _ = writeln!(out, "{line}");
        if let Some(reason) = reason {
            let _ = writeln!(out, "     does not count: {reason}");
        }
    }
    hubs_text(out, &pair.whose);
}

fn chain_heading(chain: &[ExplainedLink]) -> String {
    let links = counted(chain.len(), "link");
    match (chain.iter().filter(|link| link.refused.is_some()).count(), chain.len()) {
        (0, _) => format!("the shortest chain has {links}"),
        (1, 1) => "the nearest they come is a link that does not count".to_owned(),
        (1, _) => format!("the nearest they come is a chain of {links}, one of which does not count"),
        (refused, _) => format!("the nearest they come is a chain of {links}, {refused} of which do not count"),
    }
}

/// The beginning of an entity's id, or that an identifier is a hub.
fn short_whose(identifier: &Identifier, whose: &Whose) -> String {
    match whose.entities.get(identifier) {
        _ if whose.hub(identifier).is_some() => "hub".to_owned(),
        Some(id) => id.chars().take(SHORT_ID).collect(),
        None => String::new(),
    }
}

fn hubs_text(out: &mut String, whose: &Whose) {
    if !whose.hubs.is_empty() {
        out.push_str("\nhubs\n");
    }
    for hub in &whose.hubs {
        let _ = writeln!(out, "  {}  {}", hub.identifier, hub_text(hub));
    }
}

fn grounds_text(grounds: &Grounds) -> String {
    match grounds {
        Grounds::Row { table, row_id, at } => {
            let row = row_id.as_ref().map(|id| format!(", row {id}")).unwrap_or_default();
            let at = at.and_then(DateTime::from_timestamp_micros).map(|at| format!(", {}", time_text(at)));
            format!("{table}{row}{}", at.unwrap_or_default())
        }
        Grounds::Always { by, reason, at } => {
            let at = if at.is_empty() { String::new() } else { format!(", {at}") };
            format!("always rule by {by}: {reason}{at}")
        }
    }
}

pub(super) fn time_text(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Lines whose columns stand below each other.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).filter(|(_, width)| *width > 0);
        let padded: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("  {}", padded.join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn entity_text(entity: &EntityExplanation) -> String {
    let Some(id) = entity.asked.entity_id() else {
        return format!("{} {}\n", entity.asked.name(), standing(&entity.asked, &entity.identity));
    };
    let (members, links) = (counted(entity.members.len(), "identifier"), counted(entity.links.len(), "link"));
    let mut out = format!("{} {id}: {members}, {links}\n\nidentifiers\n", entity.identity);
    let rows: Vec<[String; 3]> = entity.members.iter().map(member_row).collect();
    lines(&mut out, aligned(&rows));
    let sections = [("\nlinks, earliest first\n", &entity.links), ("\nlinks that do not count\n", &entity.refused)];
    for (heading, links) in sections.into_iter().filter(|(_, links)| !links.is_empty()) {
        out.push_str(heading);
        lines(&mut out, aligned(&links.iter().map(|link| link_row(link, &entity.whose, id)).collect::<Vec<_>>()));
    }
    hubs_text(&mut out, &entity.whose);
    out
}

fn lines(out: &mut String, lines: Vec<String>) {
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

fn member_row(member: &Member) -> [String; 3] {
    let time = |micros: Option<i64>| micros.and_then(DateTime::from_timestamp_micros).map(time_text);
    let seen = match (time(member.first_seen), time(member.last_seen)) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(once), _) | (None, Some(once)) => once,
        (None, None) => String::new(),
    };
    [member.identifier.kind.clone(), member.identifier.value.clone(), seen]
}

/// The ends of a link (of another entity, with whose they are), what it rests on, and why it does not count.
fn link_row(link: &ExplainedLink, whose: &Whose, own: &str) -> [String; 4] {
    let end = |identifier: &Identifier| match whose.entities.get(identifier) {
        Some(id) if id == own => identifier.to_string(),
        _ => format!("{identifier} ({})", short_whose(identifier, whose)),
    };
    let reason = link.refused.clone().unwrap_or_default();
    [end(&link.left), end(&link.right), grounds_text(&link.grounds), reason]
}

/// Identifiers as boxes (of other entities rounded, hubs with six corners), links as lines, dotted where they do
/// not count, thick for rules.
fn mermaid(drawing: &Drawing) -> String {
    let mut out = "flowchart LR\n".to_owned();
    for (number, node) in drawing.nodes.iter().enumerate() {
        let name = escaped(&node.identifier.to_string());
        let _ = match &node.role {
            Role::Own | Role::Other(None) => writeln!(out, "  n{number}[\"{name}\"]"),
            Role::Other(Some(id)) => {
                let id: String = id.chars().take(SHORT_ID).collect();
                writeln!(out, "  n{number}([\"{name}<br/>{id}\"])")
            }
            Role::Hub => writeln!(out, "  n{number}{{{{\"{name}<br/>hub\"}}}}"),
        };
    }
    for edge in &drawing.edges {
        let (from, to) = (edge.from, edge.to);
        let (begin, end) = match (&edge.refused, &edge.grounds) {
            (Some(_), _) => ("-.", ".-"),
            (None, Grounds::Always { .. }) => ("==", "==="),
            (None, Grounds::Row { .. }) => ("--", "---"),
        };
        let label = escaped(&edge.refused.clone().unwrap_or_else(|| short_grounds(&edge.grounds)));
        let _ = writeln!(out, "  n{from} {begin} \"{label}\" {end} n{to}");
    }
    out
}

fn short_grounds(grounds: &Grounds) -> String {
    match grounds {
        Grounds::Row { table, row_id, .. } => {
            format!("{table} {}", row_id.as_deref().unwrap_or_default()).trim().to_owned()
        }
        Grounds::Always { by, .. } => format!("always rule by {by}"),
    }
}

/// Text for a label between double quotes.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '`' | '&' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn pair_json(pair: &PairExplanation) -> Value {
    json!({
        "identity": pair.identity,
        "asked": pair.asked.iter().map(asked_json).collect::<Value>(),
        "one": pair.is_one(),
        "chain": pair.chain.as_ref().map(|chain| links_json(chain, &pair.whose)),
        "hubs": hubs_json(&pair.whose),
        "parted_by": pair.parted_by,
    })
}

fn entity_json(entity: &EntityExplanation) -> Value {
    let member = |m: &Member| json!({ "type": m.identifier.kind, "identifier": m.identifier.value, "first_seen": time_json(m.first_seen), "last_seen": time_json(m.last_seen) });
    json!({
        "identity": entity.identity,
        "asked": asked_json(&entity.asked),
        "entity_id": entity.asked.entity_id(),
        "identifiers": entity.members.iter().map(member).collect::<Value>(),
        "links": links_json(&entity.links, &entity.whose),
        "refused": links_json(&entity.refused, &entity.whose),
        "hubs": hubs_json(&entity.whose),
    })
}

pub(super) fn asked_json(asked: &Asked) -> Value {
    let mut object = json!({
        "given": asked.given,
        "type": asked.identifier.as_ref().map(|i| &i.kind),
        "identifier": asked.identifier.as_ref().map(|i| &i.value),
        "standing": null,
        "entity_id": asked.entity_id(),
        "hub": null,
        "near": null,
        "blocked_by": null,
        "expected": null,
    });
    let standing = match &asked.standing {
        Standing::Member(_) => "member",
        Standing::Entity { .. } => "entity",
        Standing::Hub(hub) => {
            object["hub"] = hub_json(hub);
            "hub"
        }
        Standing::Unknown { near } => {
            object["near"] = near.iter().map(ToString::to_string).collect();
            "unknown"
        }
        Standing::Blocked { by } => {
            object["blocked_by"] = json!(by);
            "blocked"
        }
        Standing::Malformed { expected } => {
            object["expected"] = json!(expected);
            "malformed"
        }
    };
    object["standing"] = json!(standing);
    object
}

fn links_json(links: &[ExplainedLink], whose: &Whose) -> Value {
    let end = |i: &Identifier| json!({ "type": i.kind, "identifier": i.value, "entity_id": whose.entities.get(i) });
    let one = |link: &ExplainedLink| {
        let (table, row_id, at, rule) = match &link.grounds {
            Grounds::Row { table, row_id, at } => (Some(table), row_id.as_ref(), time_json(*at), Value::Null),
            Grounds::Always { by, reason, at } => (None, None, None, json!({ "by": by, "reason": reason, "at": at })),
        };
        json!({
            "left": end(&link.left),
            "right": end(&link.right),
            "counts": link.refused.is_none(),
            "reason": link.refused,
            "table": table,
            "row_id": row_id,
            "first_seen": at,
            "always": rule,
        })
    };
    links.iter().map(one).collect()
}

fn hubs_json(whose: &Whose) -> Value {
    whose.hubs.iter().map(hub_json).collect()
}

fn hub_json(hub: &HubNote) -> Value {
    json!({
        "type": hub.identifier.kind,
        "identifier": hub.identifier.value,
        "links": hub.links,
        "max_links": hub.max_links,
        "neighbour_type": hub.neighbour_type,
    })
}

pub(super) fn time_json(micros: Option<i64>) -> Option<String> {
    let time = micros.and_then(DateTime::from_timestamp_micros)?;
    Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{DrawnEdge, DrawnNode};

    #[test]
    fn drawings_show_whose_an_identifier_is_and_whether_a_link_counts() {
        let node = |value: &str, role: Role| DrawnNode { identifier: Identifier::new("email", value), role };
        let row = Grounds::Row { table: "a.b".to_owned(), row_id: Some("7".to_owned()), at: None };
        let rule = Grounds::Always { by: "Eve".to_owned(), reason: "said so".to_owned(), at: String::new() };
        let edge = |to: usize, grounds: &Grounds, refused: Option<&str>| DrawnEdge {
            from: 0,
            to,
            grounds: grounds.clone(),
            refused: refused.map(str::to_owned),
        };
        let other = Role::Other(Some("0123456789abcdef".to_owned()));
        let drawing = Drawing {
            nodes: vec![node("a\"b", Role::Own), node("c", other), node("d", Role::Hub)],
            edges: vec![edge(1, &row, None), edge(1, &rule, None), edge(2, &row, Some("hub"))],
        };
        let expected = "flowchart LR\n  \
            n0[\"email:a#34;b\"]\n  n1([\"email:c<br/>01234567\"])\n  n2{{\"email:d<br/>hub\"}}\n  \
            n0 -- \"a.b 7\" --- n1\n  n0 == \"always rule by Eve\" === n1\n  n0 -. \"hub\" .- n2\n";
        assert_eq!(mermaid(&drawing), expected);
    }

    #[test]
    fn empty_columns_take_no_room() {
        let rows = [["", "long", "", "x"], ["1", "b", "", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), ["     long  x", "  1  b"]);
    }
}
