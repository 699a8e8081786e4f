//! Who agreed to what, at the run's logical time.
//!
//! 1. Rows of the asked purpose count whose channel is the asked one or null, and that do not begin after as_of.
//! 2. Of one person's answers about one identifier the latest counts; of several at one time the worst, and one without
//!    a time is the earliest.
//! 3. A person whose answer about any identifier denies is `denied`; else one answer that grants and has not ended is
//!    enough; else the answers that granted have `expired`. Who has no answer is `missing`.
//!
//! Only `granted` is sent. A table without rows, or whose newest answer is older than `stale_after`, is no answer at all:
//! the sync is refused, because a broken export must not look like withdrawal, and even less like consent.

use super::measures::FoldScope;
use super::{BoundModel, Engine, fold, time_type};
use crate::diagnostic::{Diagnostic, Spanned};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{Asked, ConsentModel};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit, when};
use std::collections::BTreeMap;

/// Bound answers for one purpose.
#[derive(Debug, Clone)]
pub(super) struct BoundConsent {
    /// Person, the text that the answer is about, rank of the answer, its time.
    pub answers: LogicalPlan,
    /// Only the times of all answers, whatever they are about.
    pub times: LogicalPlan,
    /// How old the newest may be, in microseconds.
    stale_after: Option<i64>,
    name: String,
}

/// Answers by how much they forbid.
const DENIED: i64 = 0;
const EXPIRED: i64 = 1;
const GRANTED: i64 = 2;

/// Binds the project's consent for what a sync asks.
pub(super) fn bind(
    engine: &Engine,
    model: &ConsentModel,
    asked: &Asked,
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundConsent> {
    let parts = engine.parts();
    let Some(BoundModel::Identity(identity)) = engine.models.get(&model.identity.value) else { return None };
    let mut scope = FoldScope { parts: &parts, identity, relations: &engine.relations, tables: BTreeMap::new() };
    let (key, relation) = scope.table(&model.from, 0).map_err(|finding| findings.push(*finding)).ok()?;
    let entity = scope.tables.get(&key)?.entity.clone();
    let mut bound = |sql: &Spanned<String>| scope.bind(sql, &relation).map_err(|finding| findings.push(*finding)).ok();
    let identifier = bound(&model.identifier);
    let (purpose, decision) = (bound(&model.purpose), bound(&model.decision));
    let channel = model.channel.as_ref().map(&mut bound);
    let (from, to) = (bound(&model.valid_from), model.valid_to.as_ref().map(&mut bound));
    let now = lit(super::functions::as_of_literal(engine.as_of));
    let text = |e: Expr| cast(e, DataType::Utf8);
    let from = cast(from?, time_type());
    let mut counts = text(purpose?).eq(lit(asked.purpose.value.clone()));
    counts = counts.and(from.clone().is_null().or(from.clone().lt_eq(now.clone())));
    if let (Some(column), Some(asked)) = (channel, &asked.channel) {
        let column = text(column?);
        counts = counts.and(column.clone().is_null().or(column.eq(lit(asked.value.clone()))));
    }
    let words: Vec<Expr> = match model.granted.as_slice() {
        [] => vec![lit("granted")],
        words => words.iter().map(|w| lit(w.value.to_lowercase())).collect(),
    };
    let lower = datafusion::functions::string::expr_fn::lower;
    let grants = lower(datafusion::functions::string::expr_fn::btrim(vec![text(decision?)])).in_list(words, false);
    let ends = match to {
        Some(to) => cast(to?, time_type()).lt_eq(now),
        None => lit(false),
    };
    let rank = when(grants.is_not_true(), lit(DENIED)).when(ends.is_true(), lit(EXPIRED)).otherwise(lit(GRANTED));
    let person = identity.slot.id_of(entity).alias("person");
    let columns =
        vec![person, text(identifier?).alias("identifier"), rank.ok()?.alias("rank"), from.clone().alias("at")];
    let rows = || LogicalPlanBuilder::from(relation.plan.clone());
    let answers = rows().filter(counts).and_then(|b| b.project(columns)).and_then(LogicalPlanBuilder::build);
    let times = rows().project(vec![from.alias("at")]).and_then(LogicalPlanBuilder::build);
    let stale_after = model.stale_after.as_ref().map(|d| d.value.micros);
    let planned = answers
        .and_then(|answers| Ok(BoundConsent { answers, times: times?, stale_after, name: model.name.value.clone() }));
    planned.map_err(|e| findings.push(parts.binder().engine_finding(&e, model.from.span))).ok()
}

/// What is known of people: their worst standing answer.
pub(super) struct Answers(BTreeMap<String, i64>);

impl Answers {
    /// Why a person may not be sent to; nothing when they may.
    pub(super) fn withheld(&self, person: Option<&str>) -> Option<&'static str> {
        match person.and_then(|person| self.0.get(person)) {
            Some(&GRANTED) => None,
            Some(&EXPIRED) => Some("expired"),
            Some(_) => Some("denied"),
            None => Some(MISSING),
        }
    }

    /// Brings answers together: person, identifier, rank, time. Pure.
    fn of(rows: impl IntoIterator<Item = (String, Option<String>, i64, Option<i64>)>) -> Self {
        let mut latest: BTreeMap<(String, Option<String>), (Option<i64>, i64)> = BTreeMap::new();
        for (person, identifier, rank, at) in rows {
            let (known_at, known) = latest.entry((person, identifier)).or_insert((at, rank));
            if at > *known_at {
                (*known_at, *known) = (at, rank);
            } else if at == *known_at {
                *known = rank.min(*known);
            }
        }
        let mut people: BTreeMap<String, i64> = BTreeMap::new();
        for ((person, _), (_, rank)) in latest {
            let standing = people.entry(person).or_insert(rank);
            *standing = match (*standing, rank) {
                (DENIED, _) | (_, DENIED) => DENIED,
                (a, b) => a.max(b),
            };
        }
        Self(people)
    }
}

/// Why somebody is withheld who has given no answer.
pub(super) const MISSING: &str = "missing";

impl Engine {
    /// Everybody's answers.
    ///
    /// # Errors
    /// `Refused` when there are none or only old ones.
    pub(super) async fn answers(&self, bound: &BoundConsent) -> Result<Answers> {
        let doing = || format!("cannot read consent `{}`", bound.name);
        let run = async |plan: &LogicalPlan| {
            fold::execute(&self.context, plan.clone()).await.or_fail(ErrorKind::Refused, doing)
        };
        let newest = newest(&run(&bound.times).await?, self.as_of);
        let refused = |message: String| {
            Err(Error::new(ErrorKind::Refused, message)
                .with_help("nothing was sent and nothing was deleted; look at the export"))
        };
        let Some(newest) = newest else {
            return refused(format!("consent `{}` has no answers at all", bound.name));
        };
        if bound.stale_after.is_some_and(|longest| newest < self.as_of.saturating_sub(longest)) {
            return refused(format!(
                "the newest answer of consent `{}` is older than `stale_after` allows",
                bound.name
            ));
        }
        let batches = run(&bound.answers).await?;
        Ok(Answers::of(batches.iter().flat_map(rows)))
    }
}

/// The latest time up to `as_of`, whatever is asked; of answers without any time as early as can be.
fn newest(batches: &[RecordBatch], as_of: i64) -> Option<i64> {
    let all = batches.iter().flat_map(|b| b.column(0).as_primitive::<TimestampMicrosecondType>().iter());
    // an answer from the future says nothing of how old the others are
    all.map(|at| at.filter(|at| *at <= as_of).unwrap_or(i64::MIN)).max()
}

/// Rows that belong to somebody.
fn rows(batch: &RecordBatch) -> Vec<(String, Option<String>, i64, Option<i64>)> {
    let (people, about) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
    let ranks = batch.column(2).as_primitive::<datafusion::arrow::datatypes::Int64Type>();
    let times = batch.column(3).as_primitive::<TimestampMicrosecondType>();
    let text =
        |of: &datafusion::arrow::array::StringArray, row: usize| of.is_valid(row).then(|| of.value(row).to_owned());
    let row = |row: usize| {
        let at = times.is_valid(row).then(|| times.value(row));
        Some((text(people, row)?, text(about, row), ranks.value(row), at))
    };
    (0..batch.num_rows()).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, &'static str, i64, Option<i64>);

    fn why(rows: &[Row]) -> Option<&'static str> {
        let owned = |(person, about, rank, at): &Row| ((*person).to_owned(), Some((*about).to_owned()), *rank, *at);
        let forth = Answers::of(rows.iter().map(owned)).withheld(Some("ann"));
        let back = Answers::of(rows.iter().rev().map(owned)).withheld(Some("ann"));
        assert_eq!(forth, back, "the order of rows has no meaning: {rows:?}");
        forth
    }

    #[test]
    fn the_latest_answer_about_an_identifier_counts_and_any_denial_of_a_person_stands() {
        let cases: [(&[Row], Option<&str>); 9] = [
            (&[], Some("missing")),
            (&[("bob", "b", GRANTED, Some(1))], Some("missing")),
            (&[("ann", "a", GRANTED, Some(1))], None),
            (&[("ann", "a", GRANTED, Some(1)), ("ann", "a", DENIED, Some(2))], Some("denied")),
            (&[("ann", "a", DENIED, Some(1)), ("ann", "a", GRANTED, Some(2))], None),
            // at one time, and without a time
            (&[("ann", "a", GRANTED, Some(1)), ("ann", "a", DENIED, Some(1))], Some("denied")),
            (&[("ann", "a", GRANTED, None), ("ann", "a", DENIED, Some(1))], Some("denied")),
            // two addresses of one person
            (&[("ann", "a", GRANTED, Some(9)), ("ann", "b", DENIED, Some(1))], Some("denied")),
            (&[("ann", "a", EXPIRED, Some(9))], Some("expired")),
        ];
        for (rows, expected) in cases {
            assert_eq!(why(rows), expected, "{rows:?}");
        }
        assert_eq!(why(&[("ann", "a", EXPIRED, Some(9)), ("ann", "b", GRANTED, Some(1))]), None);
        assert_eq!(Answers::of([]).withheld(None), Some("missing"));
    }
}
