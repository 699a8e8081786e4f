//! The rows of a sync: its columns over the model that it sends (an audience comes joined to its profile).

use super::cells::{self, BoundCells, Counted};
use super::consent::{self, BoundConsent};
use super::standing::{Judge, Suppressed, Why};
use super::{BoundModel, Engine, fold, sorted};
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::SyncModel;
use crate::privacy::addresses;
use crate::warehouse::storable_schema;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, JoinType};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident};
use futures::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A bound sync: the key as text, then the author's columns.
#[derive(Debug, Clone)]
pub(super) struct BoundSync {
    pub plan: LogicalPlan,
    schema: SchemaRef,
    /// The same rows with what they count, if small groups are held back, and then every column of the model as text.
    wide: LogicalPlan,
    /// People's answers, if the sync asks.
    asked: Option<BoundConsent>,
    cells: Option<BoundCells>,
    /// The columns of groups of people, if small ones are held back.
    pub counted: Option<Counted>,
}

/// Rows of a sync while they are made, in the order of their keys.
pub struct SyncRows {
    /// Their columns: the key, then those that are sent.
    pub schema: SchemaRef,
    name: String,
    judge: Judge,
    rows: SendableRecordBatchStream,
    /// What is made and judged already, where rows are judged together.
    made: VecDeque<JudgedRows>,
}

/// Some rows of a sync.
#[derive(Debug)]
pub struct JudgedRows {
    /// The rows, sent or not.
    pub rows: RecordBatch,
    /// By row, why it is held back, if it is.
    pub held: Vec<Option<Why>>,
}

impl BoundSync {
    /// What is read to know who agreed. What is told of answers decides nothing, and nothing of it is sent.
    pub(super) fn answers(&self) -> impl Iterator<Item = &LogicalPlan> {
        self.asked.iter().flat_map(|asked| [&asked.answers, &asked.times])
    }

    /// Columns of the rows that are sent.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// What people answered, if the sync asks.
    pub(super) fn asked(&self) -> Option<&BoundConsent> {
        self.asked.as_ref()
    }

    fn cells(&self) -> usize {
        self.cells.as_ref().map_or(0, |cells| cells.columns.len())
    }

    /// The column of the model as the judge reads it, if it can be read as text.
    fn read(&self, column: &str) -> Option<String> {
        let name = format!("{READ}{column}");
        self.wide.schema().has_column_with_unqualified_name(&name).then_some(name)
    }

    /// All columns of the model that can be read as text.
    fn all_read(&self) -> Vec<String> {
        let names = self.wide.schema().fields().iter().skip(self.schema.fields().len() + self.cells());
        names.map(|field| field.name().clone()).collect()
    }

    /// The rows, with what a judge reads.
    pub(super) fn rows_for(&self, judge: &Judge) -> datafusion::error::Result<LogicalPlan> {
        let own = self.schema.fields().len() + self.cells();
        let reads = judge.reads();
        let fields = self.wide.schema().iter().enumerate();
        let kept = fields.filter(|(at, (_, field))| *at < own || reads.contains(field.name()));
        let columns: Vec<Expr> = kept.map(|(_, field)| Expr::Column(Column::from(field))).collect();
        LogicalPlanBuilder::from(self.wide.clone()).project(columns)?.build()
    }
}

/// Binds the model.
pub(super) fn bind(
    engine: &Engine,
    name: &str,
    model: &SyncModel,
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundSync> {
    let parts = engine.parts();
    // the one place where a secret may be used: what it makes leaves the warehouse and is not stored in it
    let binder = super::bind::Binder { secrets: true, ..parts.binder() };
    let before = findings.len();
    let rows = match rows(engine, model) {
        Ok(Some(rows)) => rows,
        Ok(None) => return None,
        Err(e) => {
            findings.push(parts.binder().engine_finding(&e, model.from.span));
            return None;
        }
    };
    let over = &model.from.value;
    let mut columns = Vec::new();
    let key = model.key_column();
    match binder.expression(&model.key, rows.schema(), over) {
        Ok(expr) => columns.push(cast(expr, DataType::Utf8).alias(key)),
        Err(finding) => findings.push(*finding),
    }
    for (column, sql) in model.columns.iter().filter(|(column, _)| column.value != key) {
        match binder.expression(sql, rows.schema(), over) {
            Ok(expr) => columns.push(expr.alias(&column.value)),
            Err(finding) => findings.push(*finding),
        }
    }
    let cells = model.cells.as_ref().and_then(|cells| cells::bind((&binder, &rows), (cells, over), findings));
    let asked = asked(engine, model, &rows, findings);
    if findings.len() > before {
        return None;
    }
    let counts = cells.iter().flat_map(|cells| &cells.columns).cloned();
    let wide: Vec<Expr> = columns.iter().cloned().chain(counts).chain(as_texts(&rows)).collect();
    let project = |columns| LogicalPlanBuilder::from(rows.clone()).project(columns).and_then(LogicalPlanBuilder::build);
    let planned = project(columns).and_then(|plan| Ok((plan, project(wide)?))).and_then(|(plan, wide)| {
        let state = &engine.state;
        let typed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
        Ok((plan, wide, Arc::new(typed.schema().as_arrow().clone())))
    });
    match planned {
        Ok((plan, wide, schema)) => match storable_schema(&schema) {
            Ok(schema) => Some(BoundSync { plan, schema, wide, asked, cells, counted: engine.people_counted(model) }),
            Err(e) => {
                let finding = Diagnostic::error(Code::SyncColumns, model.from.span, format!("sync `{name}`: {e}"));
                findings.push(finding.with_label("cannot be stored"));
                None
            }
        },
        Err(e) => {
            findings.push(parts.binder().finding(&e, &model.from, over));
            None
        }
    }
}

/// Begins the names of the model's columns as they are read to judge a row.
const READ: &str = "__read_";

/// The model's columns as texts, where they are values.
fn as_texts(rows: &LogicalPlan) -> Vec<Expr> {
    let mut seen = BTreeSet::new();
    let plain = |kind: &DataType| {
        !kind.is_nested() && !matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
    };
    let fields =
        rows.schema().iter().filter(|(_, field)| plain(field.data_type()) && seen.insert(field.name().clone()));
    fields
        .map(|field| {
            let name = format!("{READ}{}", field.1.name());
            cast(Expr::Column(Column::from(field)), DataType::Utf8).alias(name)
        })
        .collect()
}

/// What people answered, if the sync asks.
fn asked(
    engine: &Engine,
    model: &SyncModel,
    rows: &LogicalPlan,
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundConsent> {
    let (asked, consent) = (model.asked.as_ref()?, engine.project.consent.as_ref()?);
    let id = format!("{}_id", consent.identity.value);
    if rows.schema().field_with_unqualified_name(&id).is_err() {
        let message = format!("nothing says whose consent a row of `{}` needs", model.from.value);
        findings.push(
            Diagnostic::error(Code::OtherEntity, asked.purpose.span, message)
                .with_label("consent is looked up for this")
                .with_related(consent.identity.span, "whose answers they are")
                .with_help(format!("send a model with the column `{id}`")),
        );
        return None;
    }
    consent::bind(engine, consent, asked, findings)
}

/// The relation that columns are over.
fn rows(engine: &Engine, model: &SyncModel) -> datafusion::error::Result<Option<LogicalPlan>> {
    let Some(relation) = engine.relations.get(&model.from.value) else { return Ok(None) };
    let Some(BoundModel::Audience(audience)) = engine.models.get(&model.from.value) else {
        return Ok(Some(relation.plan.clone()));
    };
    let Some(profile) = engine.relations.get(&audience.profile) else { return Ok(None) };
    let id = format!("{}_id", audience.identity);
    let member = LogicalPlanBuilder::from(relation.plan.clone())
        .project(vec![ident(&id).alias("__member"), ident("entered_at"), ident("reason")])?
        .build()?;
    let joined = LogicalPlanBuilder::from(member)
        .join(profile.plan.clone(), JoinType::Inner, (vec!["__member"], vec![id.as_str()]), None)?
        .build()?;
    Ok(Some(joined))
}

impl Engine {
    /// The keys that a sync gives rows of entities, by their ids; none where keys are made of more than the column `id`.
    ///
    /// # Errors
    /// When the key's expression fails.
    pub async fn keys_of_ids(
        &self,
        sync: &SyncModel,
        id: &str,
        ids: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, String>> {
        let doing = || "the keys of merged entities cannot be made".to_owned();
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
        let rows = RecordBatch::try_from_iter([(id, column)]).or_fail(ErrorKind::Failed, doing)?;
        let plan = self.context.read_batch(rows).or_fail(ErrorKind::Failed, doing)?.into_unoptimized_plan();
        let parts = self.parts();
        let binder = super::bind::Binder { secrets: true, ..parts.binder() };
        let key = match binder.expression(&sync.key, plan.schema(), id) {
            Ok(key) if !key.column_refs().is_empty() => key,
            _ => return Ok(BTreeMap::new()),
        };
        let columns = vec![ident(id), cast(key, DataType::Utf8).alias("__key")];
        let plan = LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build);
        let made = fold::execute(&self.context, plan.or_fail(ErrorKind::Failed, doing)?).await;
        let mut keys = BTreeMap::new();
        for batch in made.or_fail(ErrorKind::Failed, doing)? {
            let (ids, made) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            keys.extend(ids.iter().zip(made).filter_map(|(id, key)| Some((id?.to_owned(), key?.to_owned()))));
        }
        Ok(keys)
    }

    /// The rows that a sync would send if nothing had been sent before, by key: the key, then its columns; and those that are
    /// held back.
    ///
    /// # Errors
    /// When its model is not built or loaded, or an expression fails; `Refused` when consent cannot be told.
    pub async fn sync_rows(&self, name: &str, suppressed: &[Suppressed]) -> Result<SyncRows> {
        let bound = self.bound_sync(name)?;
        let judge = self.judge(name, bound, suppressed).await?;
        let doing = || unreadable(name);
        let plan = bound.rows_for(&judge).or_fail(ErrorKind::Failed, doing)?;
        let rows = sorted::by_first_column(&self.context, plan).await.or_fail(ErrorKind::Failed, doing)?;
        let (schema, name) = (bound.schema(), name.to_owned());
        let mut found = SyncRows { schema, name, judge, rows, made: VecDeque::new() };
        if let Some(cells) = &bound.cells {
            found.judge_together(cells).await?;
        }
        Ok(found)
    }

    pub(super) fn bound_sync(&self, name: &str) -> Result<&BoundSync> {
        match self.models.get(name) {
            Some(BoundModel::Sync(bound)) => Ok(bound),
            _ => Err(Error::new(ErrorKind::Failed, format!("sync `{name}` is not bound"))),
        }
    }

    pub(super) async fn judge(&self, name: &str, bound: &BoundSync, suppressed: &[Suppressed]) -> Result<Judge> {
        let mut judge = Judge { answers: None, addresses: Vec::new(), suppressed: Vec::new() };
        for people in suppressed {
            judge.suppressed.push(match bound.read(&format!("{}_id", people.identity)) {
                Some(column) => (vec![column], people.ids.clone()),
                // no column says whose a row is
                None => (bound.all_read(), people.ids.union(&people.cells).cloned().collect()),
            });
        }
        if let Some(asked) = &bound.asked {
            let person = bound.read(&format!("{}_id", asked.identity)).unwrap_or_default();
            judge.answers = Some((self.answers(asked).await?, person));
            judge.addresses = self.addresses_of(name, bound, asked);
        }
        Ok(judge)
    }

    /// The columns of what a sync is `from` that hold addresses, as the judge reads them.
    fn addresses_of(&self, name: &str, bound: &BoundSync, asked: &BoundConsent) -> Vec<String> {
        match addresses(&self.project, &self.lineage_graph(), name, &asked.identity) {
            Some(found) => found.iter().filter_map(|column| bound.read(column)).collect(),
            None => bound.all_read(),
        }
    }
}

fn unreadable(sync: &str) -> String {
    format!("cannot read the rows of sync `{sync}`")
}

impl SyncRows {
    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// When they cannot be made, or a value does not fit its column.
    pub async fn next(&mut self) -> Result<Option<JudgedRows>> {
        if let Some(made) = self.made.pop_front() {
            return Ok(Some(made));
        }
        let Some((batch, held)) = self.next_judged().await? else { return Ok(None) };
        self.own(&batch, held).map(Some)
    }

    /// All that is sent, at once.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) async fn sent(mut self) -> Result<Vec<RecordBatch>> {
        let mut sent = Vec::new();
        while let Some(JudgedRows { rows, held }) = self.next().await? {
            sent.push(without(&rows, &held).or_fail(ErrorKind::Failed, || unreadable(&self.name))?);
        }
        Ok(sent)
    }

    async fn next_judged(&mut self) -> Result<Option<(RecordBatch, Vec<Option<Why>>)>> {
        let Some(batch) = self.rows.next().await else { return Ok(None) };
        let batch = batch.or_fail(ErrorKind::Failed, || unreadable(&self.name))?;
        let held = self.judge.judge(&batch)?;
        Ok(Some((batch, held)))
    }

    /// Small groups are told by all the others, without those that are held back for another reason.
    async fn judge_together(&mut self, cells: &BoundCells) -> Result<()> {
        let (mut all, mut left) = (Vec::new(), Vec::new());
        while let Some((batch, held)) = self.next_judged().await? {
            left.push(without(&batch, &held).or_fail(ErrorKind::Failed, || unreadable(&self.name))?);
            all.push((batch, held));
        }
        let mut withheld = cells.withheld(&left, self.schema.fields().len())?.into_iter();
        for (batch, mut held) in all {
            for why in held.iter_mut().filter(|why| why.is_none()) {
                *why = withheld.next().flatten().map(Why::from);
            }
            let made = self.own(&batch, held)?;
            self.made.push_back(made);
        }
        Ok(())
    }

    /// The rows as they are sent, without what they were judged by.
    fn own(&self, batch: &RecordBatch, held: Vec<Option<Why>>) -> Result<JudgedRows> {
        let rows = super::build::conform(batch, &self.schema)?;
        Ok(JudgedRows { rows, held })
    }
}

/// The rows that are not held back.
fn without(rows: &RecordBatch, held: &[Option<Why>]) -> Result<RecordBatch, ArrowError> {
    let sent: BooleanArray = held.iter().map(|why| Some(why.is_none())).collect();
    filter_record_batch(rows, &sent)
}
