//! What a sync's consent says of one person, and which answers say so.
//!
//! The answers and the rule are those of [`super::consent`]; here each comes with what proves it. Of several answers that would
//! decide alike the latest is named, and of those the one about the smallest text.

use super::consent::{BoundConsent, Weight, decides, forbids, latest, rows};
use super::standing::{Suppressed, Why};
use super::{Engine, fold};
use crate::error::{Context, Error, ErrorKind, Result};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::logical_expr::{LogicalPlanBuilder, ident, lit};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// An answer, with what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerNote {
    /// The table that it stands in.
    pub table: String,
    /// What it is about.
    pub about: Option<String>,
    /// What it forbids, if anything: `Denied` or `Expired`.
    pub forbids: Option<Why>,
    /// Since when it counts.
    pub valid_from: Option<i64>,
    /// Its own words, and the rest of its row.
    pub told: Told,
}

/// What an answer's row says beyond what decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// The decision as it was written.
    pub decision: Option<String>,
    /// Until when it counts.
    pub valid_to: Option<i64>,
    /// The channel; an answer without one is for all.
    pub channel: Option<String>,
    /// What proves it.
    pub evidence: Option<String>,
}

/// A row of the sync that is the person's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonRow {
    /// Its key.
    pub key: String,
    /// Why it is held back, if it is.
    pub held: Option<Why>,
    /// The answers that deny an address in it.
    pub addresses: Vec<AnswerNote>,
}

/// What consent says of a person or an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsentFacts {
    /// Why the person may not be sent to, if so.
    pub held: Option<Why>,
    /// The answers that count, one for each text that the person answered about; the first decides.
    pub answers: Vec<AnswerNote>,
    /// The answers that count about the identifier that was asked about, whoever gave them.
    pub address: Vec<AnswerNote>,
    /// The person's rows.
    pub rows: Vec<PersonRow>,
}

/// An answer, whose it is and what it is about.
type Given = (Option<String>, Option<String>, Weight, Told);

impl Engine {
    /// What the consent of a bound sync says of an entity, or of an identifier that belongs to none.
    ///
    /// # Errors
    /// `Usage` when the sync asks nobody; `Refused` when answers cannot be read, or are missing or old.
    pub async fn consent_of(
        &self,
        sync: &str,
        (entity, identifier): (Option<&str>, Option<&str>),
        suppressed: &[Suppressed],
    ) -> Result<ConsentFacts> {
        let bound = self.bound_sync(sync)?;
        let Some(asked) = bound.asked() else {
            return Err(Error::new(ErrorKind::Usage, format!("`{sync}` asks nobody for consent")));
        };
        self.answered(asked).await?;
        let batches = self.read_answers(asked, &asked.told).await?;
        let given: Vec<Given> = batches.iter().flat_map(told).collect();
        let mut facts = ConsentFacts::default();
        if let Some(entity) = entity {
            facts.answers = of_person(asked, &given, entity);
            facts.rows = self.person_rows(sync, asked, &given, entity, suppressed).await?;
            let gone = suppressed.iter().any(|people| people.identity == asked.identity && people.ids.contains(entity));
            facts.held = match facts.answers.first() {
                _ if gone => Some(Why::Suppressed),
                None => Some(Why::Missing),
                Some(first) => first.forbids,
            };
        }
        if let Some(identifier) = identifier {
            facts.address = of_address(asked, &given, identifier)?;
        }
        Ok(facts)
    }

    /// The rows that a sync has of a person.
    async fn person_rows(
        &self,
        sync: &str,
        asked: &BoundConsent,
        given: &[Given],
        entity: &str,
        suppressed: &[Suppressed],
    ) -> Result<Vec<PersonRow>> {
        let doing = || format!("cannot read the rows of sync `{sync}`");
        let bound = self.bound_sync(sync)?;
        let judge = self.judge(sync, bound, suppressed).await?;
        let Some((_, person)) = &judge.answers else { return Ok(Vec::new()) };
        let theirs = ident(person).eq(lit(entity));
        let plan = bound.rows_for(&judge).and_then(|plan| LogicalPlanBuilder::from(plan).filter(theirs)?.build());
        let plan = plan.or_fail(ErrorKind::Failed, doing)?;
        let batches = fold::execute(&self.context, plan).await.or_fail(ErrorKind::Failed, doing)?;
        let mut found = Vec::new();
        for batch in &batches {
            let keys = batch.column(0).as_string::<i32>();
            for (row, held) in judge.judge(batch)?.into_iter().enumerate() {
                let texts = judge.addresses.iter().filter_map(|column| text(batch, column, row));
                let mut addresses = Vec::new();
                for text in texts.filter(|_| held == Some(Why::AddressDenied)).collect::<BTreeSet<_>>() {
                    let about = of_address(asked, given, &text)?;
                    addresses.extend(about.into_iter().filter(|note| note.forbids == Some(Why::Denied)));
                }
                found.push(PersonRow { key: keys.value(row).to_owned(), held, addresses });
            }
        }
        Ok(found)
    }
}

/// The answers of a person that count, the deciding one first.
fn of_person(asked: &BoundConsent, given: &[Given], entity: &str) -> Vec<AnswerNote> {
    let own = given.iter().filter(|(person, ..)| person.as_deref() == Some(entity));
    let counting = latest(own.map(|(_, about, weight, told)| (about.clone(), *weight, told.clone())));
    let mut sorted: Vec<_> = counting.into_iter().collect();
    sorted.sort_by_key(|(about, ((at, Reverse(rank)), _))| (decides(*rank), Reverse(*at), about.clone()));
    sorted.into_iter().map(|(about, (weight, told))| note(asked, about, weight, told)).collect()
}

/// The answers that count about an address, in whatever spelling.
fn of_address(asked: &BoundConsent, given: &[Given], address: &str) -> Result<Vec<AnswerNote>> {
    let address = asked.addresses(&BTreeSet::from([address.to_owned()]))?;
    let mut about = Vec::new();
    for (_, text, weight, told) in given {
        if let Some(text) = text
            && address.have(text)?
        {
            about.push((text.clone(), *weight, told.clone()));
        }
    }
    let counting = latest(about);
    Ok(counting.into_iter().map(|(text, (weight, told))| note(asked, Some(text), weight, told)).collect())
}

fn note(asked: &BoundConsent, about: Option<String>, (at, Reverse(rank)): Weight, told: Told) -> AnswerNote {
    AnswerNote { table: asked.table.clone(), about, forbids: forbids(rank), valid_from: at, told }
}

/// The answers of a batch with what they tell.
fn told(batch: &RecordBatch) -> Vec<Given> {
    let ends = batch.column_by_name("until").and_then(|ends| ends.as_primitive_opt::<TimestampMicrosecondType>());
    let of = |row: usize| Told {
        decision: text(batch, "decision", row),
        valid_to: ends.filter(|ends| ends.is_valid(row)).map(|ends| ends.value(row)),
        channel: text(batch, "channel", row),
        evidence: text(batch, "evidence", row),
    };
    rows(batch)
        .into_iter()
        .enumerate()
        .map(|(row, answer)| (answer.person, answer.about, answer.weight, of(row)))
        .collect()
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let texts = batch.column_by_name(column)?.as_string_opt::<i32>()?;
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}
