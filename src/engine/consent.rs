//! Who agreed to what, at the run's logical time.
//!
//! 1. Rows of the asked purpose count whose channel is the asked one or null, and that do not begin after as_of.
//! 2. Of one person's answers about one identifier the latest counts; of several at one time the worst, and one without
//!    a time is the earliest.
//! 3. A person whose answer about any identifier denies is `denied`; else one answer that grants and has not ended is
//!    enough; else the answers that granted have `expired`. Who has no answer is `missing`.
//! 4. An address whose latest answer denies is not sent to, whoever gave that answer, and whether the address belongs to
//!    somebody (hubs belong to nobody) or not. Two texts are one address if they are equal but for case and space around them,
//!    or if one of the identity's normalisers makes one spelling of them.
//!
//! Only `granted` is sent. A table without rows, or whose newest answer is older than `stale_after`, is no answer at all:
//! the sync is refused, because a broken export must not look like withdrawal, and even less like consent.

use super::functions::{Judged, Normalizer};
use super::measures::FoldScope;
use super::standing::Why;
use super::{BoundModel, Engine, fold, time_type};
use crate::diagnostic::{Diagnostic, Spanned};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::{Asked, ConsentModel, Normalize};
use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit, when};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Bound answers for one purpose.
#[derive(Debug, Clone)]
pub(super) struct BoundConsent {
    /// Person, the text that the answer is about, rank of the answer, its time.
    pub answers: LogicalPlan,
    /// Only the times of all answers, whatever they are about.
    pub times: LogicalPlan,
    /// The columns of `answers` and what is told of each: its word, its end, its channel, what proves it. Decides nothing.
    pub told: LogicalPlan,
    /// The table of answers.
    pub table: String,
    /// Whose answers they are.
    pub identity: String,
    /// How old the newest may be, in microseconds.
    stale_after: Option<i64>,
    name: String,
    /// Those that find other spellings of an address than case and space do.
    normalizers: Vec<Arc<Normalizer>>,
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
    let evidence = model.evidence.as_ref().map(&mut bound);
    let now = lit(super::functions::as_of_literal(engine.as_of));
    let text = |e: Expr| cast(e, DataType::Utf8);
    let from = cast(from?, time_type());
    let mut counts = text(purpose?).eq(lit(asked.purpose.value.clone()));
    counts = counts.and(from.clone().is_null().or(from.clone().lt_eq(now.clone())));
    let channel = channel.map(|column| column.map(text));
    if let (Some(column), Some(asked)) = (&channel, &asked.channel) {
        let column = column.clone()?;
        counts = counts.and(column.clone().is_null().or(column.eq(lit(asked.value.clone()))));
    }
    let decision = text(decision?);
    let to = to.map(|to| to.map(|to| cast(to, time_type())));
    let rank = rank(model, decision.clone(), to.clone().map(|to| Some(to?.lt_eq(now))))?;
    let columns = vec![
        identity.slot.id_of(entity).alias("person"),
        text(identifier?).alias("identifier"),
        rank,
        at(from.clone()),
    ];
    let or_null = |e: Option<Option<Expr>>, of: DataType| e.unwrap_or_else(|| Some(cast(lit(ScalarValue::Null), of)));
    let mut told = columns.clone();
    told.push(decision.alias("decision"));
    told.push(or_null(to, time_type())?.alias("until"));
    told.push(or_null(channel, DataType::Utf8)?.alias("channel"));
    told.push(text(or_null(evidence, DataType::Utf8)?).alias("evidence"));
    let rows = || LogicalPlanBuilder::from(relation.plan.clone());
    let of = |columns: Vec<Expr>| {
        rows().filter(counts.clone()).and_then(|b| b.project(columns)).and_then(LogicalPlanBuilder::build)
    };
    let times = rows().project(vec![at(from)]).and_then(LogicalPlanBuilder::build);
    let planned = of(columns).and_then(|answers| Ok((answers, of(told)?, times?)));
    let (answers, told, times) =
        planned.map_err(|e| findings.push(parts.binder().engine_finding(&e, model.from.span))).ok()?;
    Some(BoundConsent {
        answers,
        times,
        told,
        table: model.from.value.clone(),
        identity: identity.name.clone(),
        stale_after: model.stale_after.as_ref().map(|d| d.value.micros),
        name: model.name.value.clone(),
        normalizers: spellers(engine, identity),
    })
}

fn at(from: Expr) -> Expr {
    from.alias("at")
}

/// How much an answer forbids; `ended` is whether its end has come, where it has one.
fn rank(model: &ConsentModel, decision: Expr, ended: Option<Option<Expr>>) -> Option<Expr> {
    let words: Vec<Expr> = match model.granted.as_slice() {
        [] => vec![lit("granted")],
        words => words.iter().map(|w| lit(w.value.to_lowercase())).collect(),
    };
    let lower = datafusion::functions::string::expr_fn::lower;
    let grants = lower(datafusion::functions::string::expr_fn::btrim(vec![decision])).in_list(words, false);
    let ended = ended.unwrap_or_else(|| Some(lit(false)))?;
    let rank = when(grants.is_not_true(), lit(DENIED)).when(ended.is_true(), lit(EXPIRED)).otherwise(lit(GRANTED));
    Some(rank.ok()?.alias("rank"))
}

/// The normalisers of an identity, each kind once, that do more than case and space.
fn spellers(engine: &Engine, identity: &super::identity::BoundIdentity) -> Vec<Arc<Normalizer>> {
    let Some(crate::model::ModelKind::Identity(model)) = engine.project.models.get(&identity.name).map(|m| &m.kind)
    else {
        return Vec::new();
    };
    let mut known: Vec<&Normalize> = Vec::new();
    let mut found = Vec::new();
    for (code, kind) in (0..).zip(&model.identifiers) {
        let plain = matches!(kind.normalize, Normalize::None | Normalize::Trim | Normalize::Lower);
        if !plain && !known.iter().any(|known| alike(known, &kind.normalize)) {
            known.push(&kind.normalize);
            found.push(Arc::clone(identity.slot.normalizer(code)));
        }
    }
    found
}

fn alike(one: &Normalize, other: &Normalize) -> bool {
    match (one, other) {
        (Normalize::Email, Normalize::Email) | (Normalize::Digits, Normalize::Digits) => true,
        (Normalize::Phone(one), Normalize::Phone(other)) => one == other,
        (Normalize::Sql(one), Normalize::Sql(other)) => one.value == other.value,
        _ => false,
    }
}

/// What orders answers about the same: the later one counts, of one time the worse.
pub(super) type Weight = (Option<i64>, Reverse<i64>);

/// Of each key the answer that counts.
pub(super) fn latest<K: Ord, A: Ord>(answers: impl IntoIterator<Item = (K, Weight, A)>) -> BTreeMap<K, (Weight, A)> {
    let mut latest: BTreeMap<K, (Weight, A)> = BTreeMap::new();
    for (key, weight, answer) in answers {
        let new = (weight, answer);
        match latest.entry(key) {
            std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(new)),
            std::collections::btree_map::Entry::Occupied(mut known) if *known.get() < new => drop(known.insert(new)),
            std::collections::btree_map::Entry::Occupied(_) => {}
        }
    }
    latest
}

/// Which of a person's standing answers decides, by rank: any denial, else what grants, else what has ended.
pub(super) fn decides(rank: i64) -> u8 {
    match rank {
        GRANTED => 1,
        EXPIRED => 2,
        _ => 0,
    }
}

/// Why an answer of this rank forbids; nothing when it grants.
pub(super) fn forbids(rank: i64) -> Option<Why> {
    match rank {
        GRANTED => None,
        EXPIRED => Some(Why::Expired),
        _ => Some(Why::Denied),
    }
}

/// What is known of people, their deciding answer, and of addresses.
pub(super) struct Answers {
    people: BTreeMap<String, i64>,
    denied: Addresses,
}

impl Answers {
    /// Why a person may not be sent to; nothing when they may.
    pub(super) fn withheld(&self, person: Option<&str>) -> Option<Why> {
        match person.and_then(|person| self.people.get(person)) {
            Some(rank) => forbids(*rank),
            None => Some(Why::Missing),
        }
    }

    /// Addresses that are denied themselves.
    pub(super) fn denied(&self) -> &Addresses {
        &self.denied
    }

    /// Everybody's deciding answer. Pure.
    fn people(rows: impl IntoIterator<Item = AnswerRow>) -> BTreeMap<String, i64> {
        let of_people = rows.into_iter().filter_map(|row| Some(((row.person?, row.about), row.weight, ())));
        let mut people: BTreeMap<String, i64> = BTreeMap::new();
        for ((person, _), ((_, Reverse(rank)), ())) in latest(of_people) {
            let standing = people.entry(person).or_insert(rank);
            if decides(rank) < decides(*standing) {
                *standing = rank;
            }
        }
        people
    }

    /// Texts whose latest answer denies. Pure.
    fn denied_texts<I: IntoIterator<Item = AnswerRow>>(rows: impl Fn() -> I) -> BTreeSet<String> {
        // most are never denied, and need not be compared
        let denials = rows().into_iter().filter(|row| row.weight.1 == Reverse(DENIED));
        let ever: BTreeSet<String> = denials.filter_map(|row| row.about).collect();
        let about = |row: AnswerRow| Some((row.about.filter(|about| ever.contains(about))?, row.weight, ()));
        let latest = latest(rows().into_iter().filter_map(about));
        let denied = latest.into_iter().filter(|(_, ((_, rank), ()))| *rank == Reverse(DENIED));
        denied.map(|(about, _)| about).collect()
    }
}

/// Addresses in all their spellings.
pub(super) struct Addresses {
    /// In lower case, without space around them.
    plain: HashSet<String>,
    /// As each normaliser writes them.
    spelled: Vec<(Arc<Normalizer>, HashSet<String>)>,
}

impl Addresses {
    /// # Errors
    /// When a normaliser fails on one.
    pub(super) fn new(texts: &BTreeSet<String>, normalizers: &[Arc<Normalizer>]) -> Result<Self> {
        let mut spelled = Vec::new();
        for normalizer in normalizers {
            let mut all = HashSet::new();
            for text in texts {
                all.extend(spelling(normalizer, text)?);
            }
            if !all.is_empty() {
                spelled.push((Arc::clone(normalizer), all));
            }
        }
        let plain = texts.iter().map(|text| plain(text)).filter(|text| !text.is_empty()).collect();
        Ok(Self { plain, spelled })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// Whether a text is one of them.
    ///
    /// # Errors
    /// When a normaliser fails on it.
    pub(super) fn have(&self, text: &str) -> Result<bool> {
        if self.plain.contains(&plain(text)) {
            return Ok(true);
        }
        for (normalizer, all) in &self.spelled {
            if spelling(normalizer, text)?.is_some_and(|text| all.contains(&text)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn plain(text: &str) -> String {
    text.trim().to_lowercase()
}

/// What a normaliser makes of a text, blocked or not.
fn spelling(normalizer: &Normalizer, text: &str) -> Result<Option<String>> {
    let judged = normalizer.judge(text).or_fail(ErrorKind::Refused, || "an address cannot be normalised".to_owned())?;
    let (Judged::Identifier(value) | Judged::Blocked { value, .. }) = judged else { return Ok(None) };
    // the digits of an address that is none of digits are not the address: `ann2@x.com` is not `2`
    let torn = value.bytes().all(|b| b.is_ascii_digit()) && text.chars().any(char::is_alphabetic);
    Ok((!torn).then_some(value))
}

impl BoundConsent {
    /// These texts as addresses.
    ///
    /// # Errors
    /// When a normaliser fails on one.
    pub(super) fn addresses(&self, texts: &BTreeSet<String>) -> Result<Addresses> {
        Addresses::new(texts, &self.normalizers)
    }
}

impl Engine {
    /// Everybody's answers.
    ///
    /// # Errors
    /// `Refused` when there are none or only old ones.
    pub(super) async fn answers(&self, bound: &BoundConsent) -> Result<Answers> {
        self.answered(bound).await?;
        let batches = self.read_answers(bound, &bound.answers).await?;
        let rows = || batches.iter().flat_map(rows);
        let denied = bound.addresses(&Answers::denied_texts(rows))?;
        Ok(Answers { people: Answers::people(rows()), denied })
    }

    /// Sees to it that there are answers, and new ones.
    ///
    /// # Errors
    /// `Refused` when there are none or only old ones.
    pub(super) async fn answered(&self, bound: &BoundConsent) -> Result<()> {
        let newest = newest(&self.read_answers(bound, &bound.times).await?, self.as_of);
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
        Ok(())
    }

    /// # Errors
    /// `Refused`, whatever is wrong.
    pub(super) async fn read_answers(&self, bound: &BoundConsent, plan: &LogicalPlan) -> Result<Vec<RecordBatch>> {
        let doing = || format!("cannot read consent `{}`", bound.name);
        fold::execute(&self.context, plan.clone()).await.or_fail(ErrorKind::Refused, doing)
    }
}

/// The latest time up to `as_of`, whatever is asked; of answers without any time as early as can be.
fn newest(batches: &[RecordBatch], as_of: i64) -> Option<i64> {
    let all = batches.iter().flat_map(|b| b.column(0).as_primitive::<TimestampMicrosecondType>().iter());
    // an answer from the future says nothing of how old the others are
    all.map(|at| at.filter(|at| *at <= as_of).unwrap_or(i64::MIN)).max()
}

/// One answer that counts.
#[derive(Debug, Clone)]
pub(super) struct AnswerRow {
    /// Whose it is, if anybody's.
    pub person: Option<String>,
    /// What it is about.
    pub about: Option<String>,
    /// Its time and its rank.
    pub weight: Weight,
}

/// The answers of a batch.
pub(super) fn rows(batch: &RecordBatch) -> Vec<AnswerRow> {
    let (people, about) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
    let ranks = batch.column(2).as_primitive::<Int64Type>();
    let times = batch.column(3).as_primitive::<TimestampMicrosecondType>();
    let text = |of: &StringArray, row: usize| of.is_valid(row).then(|| of.value(row).to_owned());
    let row = |row: usize| AnswerRow {
        person: text(people, row),
        about: text(about, row),
        weight: (times.is_valid(row).then(|| times.value(row)), Reverse(ranks.value(row))),
    };
    (0..batch.num_rows()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, &'static str, i64, Option<i64>);

    fn answer((person, about, rank, at): &Row) -> AnswerRow {
        let person = (!person.is_empty()).then(|| (*person).to_owned());
        AnswerRow { person, about: Some((*about).to_owned()), weight: (*at, Reverse(*rank)) }
    }

    fn known(rows: Vec<AnswerRow>) -> Answers {
        let denied = Addresses::new(&Answers::denied_texts(|| rows.clone()), &[]).unwrap();
        Answers { people: Answers::people(rows), denied }
    }

    /// Why Ann is withheld, and whether the address `a` is denied.
    fn why(rows: &[Row]) -> (Option<Why>, bool) {
        let of = |answers: Answers| (answers.withheld(Some("ann")), answers.denied().have(" A").unwrap());
        let forth = of(known(rows.iter().map(answer).collect()));
        let back = of(known(rows.iter().rev().map(answer).collect()));
        assert_eq!(forth, back, "the order of rows has no meaning: {rows:?}");
        forth
    }

    #[test]
    fn the_latest_answer_about_an_identifier_counts_and_any_denial_of_a_person_stands() {
        use Why::{Denied, Expired, Missing};
        let cases: [(&[Row], Option<Why>); 9] = [
            (&[], Some(Missing)),
            (&[("bob", "b", GRANTED, Some(1))], Some(Missing)),
            (&[("ann", "a", GRANTED, Some(1))], None),
            (&[("ann", "a", GRANTED, Some(1)), ("ann", "a", DENIED, Some(2))], Some(Denied)),
            (&[("ann", "a", DENIED, Some(1)), ("ann", "a", GRANTED, Some(2))], None),
            // at one time, and without a time
            (&[("ann", "a", GRANTED, Some(1)), ("ann", "a", DENIED, Some(1))], Some(Denied)),
            (&[("ann", "a", GRANTED, None), ("ann", "a", DENIED, Some(1))], Some(Denied)),
            // two addresses of one person
            (&[("ann", "a", GRANTED, Some(9)), ("ann", "b", DENIED, Some(1))], Some(Denied)),
            (&[("ann", "a", EXPIRED, Some(9))], Some(Expired)),
        ];
        for (rows, expected) in cases {
            assert_eq!(why(rows).0, expected, "{rows:?}");
        }
        assert_eq!(why(&[("ann", "a", EXPIRED, Some(9)), ("ann", "b", GRANTED, Some(1))]).0, None);
        assert_eq!(known(Vec::new()).withheld(None), Some(Missing));
    }

    #[test]
    fn the_latest_answer_about_an_address_counts_whoever_gave_it() {
        let cases: [(&[Row], bool); 6] = [
            (&[("ann", "a", GRANTED, Some(1))], false),
            (&[("", "a", DENIED, Some(1))], true),
            (&[("ann", "a", GRANTED, Some(2)), ("", "a", DENIED, Some(1))], false),
            (&[("ann", "a", GRANTED, Some(1)), ("bob", "a", DENIED, Some(2))], true),
            (&[("ann", "a", GRANTED, Some(1)), ("bob", "a", DENIED, Some(1))], true),
            // consent that has ended is none, but no denial of the address
            (&[("", "a", EXPIRED, Some(1)), ("", "b", DENIED, Some(1))], false),
        ];
        for (rows, expected) in cases {
            assert_eq!(why(rows).1, expected, "{rows:?}");
        }
    }
}
