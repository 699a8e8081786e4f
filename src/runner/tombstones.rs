//! Decisions about people in the warehouse: `_kinfold/tombstones/<n>.json`, where `n` is the entry of the audit log about it.

use super::audit;
use super::explain::{Side, resolve, wrong};
use super::prepare::{Failure, Options, loaded};
use super::reading::reader;
use super::run::{now, warehouse_of};
use crate::engine::{Judged, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::privacy::{Decision, Mark, Tombstone, Tombstones};
use crate::warehouse::{Created, Warehouse, number_of, numbered};
use chrono::{DateTime, Utc};
use deltalake_core::arrow::array::{Array as _, AsArray as _};
use deltalake_core::arrow::compute::cast;
use deltalake_core::arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const FOLDER: &str = "_kinfold/tombstones";
const KEY: &str = "tombstones";
/// Version of the format.
const FORMAT: u32 = 1;

/// One decision as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Decided {
    format: u32,
    decision: Decision,
    at: DateTime<Utc>,
    by: String,
    reason: String,
    stones: Vec<Tombstone>,
}

/// Whom a decision is about, and why.
#[derive(Debug, Clone)]
pub struct PersonRequest {
    /// `type:value`, or the identity's name and an entity id.
    pub identifiers: Vec<String>,
    /// The identity, where several have the types.
    pub identity: Option<String>,
    /// Why.
    pub reason: String,
}

/// People as the tables know them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct People {
    /// The identity.
    pub identity: String,
    /// How many they are.
    pub count: usize,
    /// Their entity ids, of now and of before.
    pub ids: BTreeSet<String>,
    /// Their identifiers: type, normalised value, and what they say of rows.
    pub identifiers: Vec<(String, String, Mark)>,
}

/// What was decided.
#[derive(Debug, Clone, Serialize)]
pub struct PersonDecision {
    /// How many people the tables know by these identifiers.
    pub people: usize,
    /// Identifiers that it is about.
    pub identifiers: usize,
    /// Those of them that rows of others have, too.
    pub shared: usize,
}

/// All tombstones that stand; none where nobody has one, without making a key.
///
/// # Errors
/// `Data` when one is damaged; `Storage`.
pub(super) async fn tombstones(warehouse: &Warehouse) -> Result<Option<Tombstones>> {
    let decided = decisions(warehouse).await?;
    if decided.is_empty() {
        return Ok(None);
    }
    let mut all = Tombstones::new(warehouse.secret(KEY).await?);
    for one in decided {
        all.take(one.decision, &one.stones);
    }
    Ok(Some(all))
}

async fn decisions(warehouse: &Warehouse) -> Result<Vec<Decided>> {
    let mut decided = Vec::new();
    for number in warehouse.state().names(FOLDER).await?.iter().filter_map(|name| number_of(name)) {
        decided.extend(warehouse.state().get_json::<Decided>(&numbered(FOLDER, number)).await?);
    }
    Ok(decided)
}

/// Keeps a decision; returns its number.
pub(super) async fn decide(
    warehouse: &Warehouse,
    options: &Options,
    (decision, action): (Decision, &str),
    stones: Vec<Tombstone>,
    reason: &str,
) -> Result<u64> {
    let facts = json!({"identifiers": stones.len(), "reason": reason});
    let number = audit::note(warehouse, options, action, facts).await?.number;
    let decided =
        Decided { format: FORMAT, decision, at: now(), by: audit::who(options), reason: reason.to_owned(), stones };
    match warehouse.state().create_json(&numbered(FOLDER, number), &decided).await? {
        Created::Ours => Ok(number),
        Created::Theirs(_) => Err(Error::new(ErrorKind::Busy, "somebody else decided at the same time")
            .with_help("try again, and look at `kinfold audit verify`")),
    }
}

/// The tombstones of people.
pub(super) async fn stones_of(warehouse: &Warehouse, people: &People) -> Result<Vec<Tombstone>> {
    let keyed = Tombstones::new(warehouse.secret(KEY).await?);
    let stone = |(kind, value, mark): &(String, String, Mark)| keyed.stone(&people.identity, kind, value, *mark);
    let mut stones: Vec<Tombstone> = people.identifiers.iter().map(stone).collect();
    stones.sort();
    Ok(stones)
}

/// Leaves people out of all that is read from now on, or takes that back.
///
/// # Errors
/// Findings when the project does not load; `Usage` when an identifier cannot be read, or nobody with it is suppressed.
pub async fn suppress(options: &Options, request: &PersonRequest, lift: bool) -> Result<PersonDecision, Failure> {
    let (project, _, _) = loaded(options)?;
    let warehouse = warehouse_of(&project, options)?;
    let people = people_of(options, request).await?;
    let mut stones = stones_of(&warehouse, &people).await?;
    if lift {
        stones = suppressed_with(&warehouse, &stones).await?;
        if stones.is_empty() {
            let error = Error::new(ErrorKind::Usage, "nobody with these identifiers is suppressed");
            return Err(error.with_help("what was erased stays erased").into());
        }
    }
    let (decision, action) = if lift { (Decision::Unsuppress, "unsuppress") } else { (Decision::Suppress, "suppress") };
    let shared = stones.iter().filter(|stone| stone.mark == Mark::Shared).count();
    let identifiers = stones.len();
    decide(&warehouse, options, (decision, action), stones, &request.reason).await?;
    Ok(PersonDecision { people: people.count, identifiers, shared })
}

/// All tombstones of the suppressions that have any of these, as far as they can be lifted.
async fn suppressed_with(warehouse: &Warehouse, stones: &[Tombstone]) -> Result<Vec<Tombstone>> {
    let Some(all) = tombstones(warehouse).await? else { return Ok(Vec::new()) };
    let hashes: BTreeSet<&str> = stones.iter().map(|stone| stone.hash.as_str()).collect();
    let mut found = BTreeSet::new();
    for one in decisions(warehouse).await? {
        let names = one.stones.iter().any(|stone| hashes.contains(stone.hash.as_str()));
        match one.decision {
            Decision::Suppress if names => found.extend(one.stones),
            Decision::Unsuppress => found.retain(|stone| !one.stones.contains(stone)),
            Decision::Suppress | Decision::Erase => {}
        }
    }
    Ok(found.into_iter().filter(|stone| !all.is_erased(stone)).collect())
}

/// The people that a request names, as the committed tables know them; an identifier that they do not know stands for itself.
///
/// # Errors
/// As [`suppress`].
pub(super) async fn people_of(options: &Options, request: &PersonRequest) -> Result<People, Failure> {
    let reader = reader(options, None).await?;
    let texts: Vec<&str> = request.identifiers.iter().map(|text| text.trim()).collect();
    let project = reader.project().clone();
    let (name, model, sides) = resolve(&project, &texts, request.identity.as_deref())?;
    let known = reader.tables().iter().any(|table| table == name);
    let asker = Asker { reader: &reader, name };
    let mut people = People { identity: name.to_owned(), ..People::default() };
    for side in &sides {
        match side {
            Side::Id(id) if known => {
                let found = asker
                    .column(&format!("SELECT DISTINCT {name}_id FROM \"{name}\" WHERE starts_with({name}_id, '{id}')"))
                    .await?;
                if found.len() != 1 {
                    let message = format!("{} entities have an id that begins with `{id}`", found.len());
                    return Err(Error::new(ErrorKind::Usage, message).with_help("write the whole id").into());
                }
                people.ids.extend(found);
            }
            Side::Id(_) => {
                return Err(
                    Error::new(ErrorKind::Usage, format!("`{name}` was never built, so nobody has an id")).into()
                );
            }
            Side::Identifier(kind, raw) => {
                let Some(kind) = model.identifiers.iter().find(|i| i.name.value == *kind) else { continue };
                let value = judged(&reader, name, kind, raw)?;
                let own = (kind.name.value.clone(), value, Mark::Own);
                if known {
                    people.ids.extend(asker.ids_with(&own).await?);
                }
                people.identifiers.push(own);
            }
        }
    }
    people.count = people.ids.len();
    if known && !people.ids.is_empty() {
        asker.complete(&mut people).await?;
    }
    people.identifiers.sort();
    people.identifiers.dedup();
    Ok(people)
}

/// The normalised spelling of a value that may identify somebody.
fn judged(
    reader: &Reader,
    identity: &str,
    kind: &crate::model::IdentifierType,
    raw: &str,
) -> std::result::Result<String, Failure> {
    let judged = reader.judge(identity, kind, raw).map_err(|finding| wrong(reader, *finding))?;
    let usage = |why: &str| Error::new(ErrorKind::Usage, format!("`{}:{raw}` {why}", kind.name.value));
    match judged {
        Judged::Identifier(value) => Ok(value),
        Judged::Blocked { .. } => Err(usage("is blocked: it never identifies anyone").into()),
        Judged::Nothing => Err(usage("is no identifier: normalising leaves nothing").into()),
    }
}

/// A text in SQL.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Texts in SQL, with commas between them.
pub(super) fn listed<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let all: Vec<String> = texts.into_iter().map(|text| quoted(text)).collect();
    if all.is_empty() { "NULL".to_owned() } else { all.join(", ") }
}

/// Answers of the committed tables of an identity.
struct Asker<'a> {
    reader: &'a Reader,
    name: &'a str,
}

impl Asker<'_> {
    /// The first column of an answer.
    async fn column(&self, sql: &str) -> Result<Vec<String>> {
        Ok(texts(self.reader, sql).await?.into_iter().filter_map(|row| row.into_iter().next()).collect())
    }

    async fn ids_with(&self, (kind, value, _): &(String, String, Mark)) -> Result<Vec<String>> {
        let Self { name, .. } = self;
        let (kind, value) = (quoted(kind), quoted(value));
        let sql = format!(
            "SELECT DISTINCT {name}_id FROM \"{name}\" WHERE identifier_type = {kind} AND identifier = {value}"
        );
        self.column(&sql).await
    }

    /// All identifiers of these people, all ids that they had, and which identifiers rows of others have, too.
    async fn complete(&self, people: &mut People) -> Result<()> {
        let Self { name, .. } = self;
        let now = listed(&people.ids);
        let mine = format!("SELECT identifier_type, identifier FROM \"{name}\" WHERE {name}_id IN ({now})");
        let others = format!("SELECT {name}_id FROM \"{name}\" WHERE {name}_id NOT IN ({now})");
        let before = format!(
            "SELECT DISTINCT r.{name}_id FROM \"{name}_registry\" AS r JOIN ({mine}) AS m USING (identifier_type, identifier) \
             WHERE r.{name}_id <> '' AND r.{name}_id NOT IN ({others})"
        );
        people.ids.extend(self.column(&before).await?);
        let mut found: BTreeSet<(String, String)> = pairs(texts(self.reader, &mine).await?);
        let gone = format!(
            "SELECT DISTINCT r.identifier_type, r.identifier FROM \"{name}_registry\" AS r LEFT ANTI JOIN \"{name}\" AS n \
             ON n.identifier_type = r.identifier_type AND n.identifier = r.identifier WHERE r.{name}_id IN ({})",
            listed(&people.ids)
        );
        found.extend(pairs(texts(self.reader, &gone).await?));
        let mut shared = String::new();
        for (here, there) in [("left", "right"), ("right", "left")] {
            let union = if shared.is_empty() { "" } else { " UNION " };
            let _ = write!(
                shared,
                "{union}SELECT l.{here}_type, l.{here}_identifier FROM \"{name}_links\" AS l \
                 JOIN \"{name}\" AS me ON me.identifier_type = l.{here}_type AND me.identifier = l.{here}_identifier \
                 JOIN \"{name}\" AS other ON other.identifier_type = l.{there}_type AND other.identifier = l.{there}_identifier \
                 WHERE me.{name}_id IN ({now}) AND other.{name}_id NOT IN ({now})"
            );
        }
        let shared: BTreeSet<(String, String)> = pairs(texts(self.reader, &shared).await?);
        found.extend(people.identifiers.drain(..).map(|(kind, value, _)| (kind, value)));
        let mark = |pair: &(String, String)| if shared.contains(pair) { Mark::Shared } else { Mark::Own };
        people.identifiers = found.into_iter().map(|pair| (mark(&pair), pair)).map(|(m, (k, v))| (k, v, m)).collect();
        Ok(())
    }
}

fn pairs(rows: Vec<Vec<String>>) -> BTreeSet<(String, String)> {
    rows.into_iter().filter_map(|row| <[String; 2]>::try_from(row).ok()).map(|[kind, value]| (kind, value)).collect()
}

/// The rows of an answer as texts; rows with a null are left out.
pub(super) async fn texts(reader: &Reader, sql: &str) -> Result<Vec<Vec<String>>> {
    reader.open_tables(sql).await?;
    let answer = reader.answer(sql).await?;
    let mut rows = Vec::new();
    for batch in &answer.batches {
        let doing = || Error::new(ErrorKind::Data, "an answer of the tables cannot be read as text");
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| cast(c, &DataType::Utf8))
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| doing().caused_by(e))?;
        for row in 0..batch.num_rows() {
            let cell = |column: &deltalake_core::arrow::array::ArrayRef| {
                let text = column.as_string::<i32>();
                text.is_valid(row).then(|| text.value(row).to_owned())
            };
            rows.extend(columns.iter().map(cell).collect::<Option<Vec<String>>>());
        }
    }
    Ok(rows)
}
