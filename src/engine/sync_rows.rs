//! The rows of a sync: its columns over the model that it sends (an audience comes joined to its profile).

use super::cells::{self, BoundCells, Counted};
use super::consent::{self, Answers, BoundConsent, MISSING};
use super::{BoundModel, Engine, fold};
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::SyncModel;
use crate::warehouse::storable_schema;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A bound sync: the key as text, then the author's columns.
#[derive(Debug, Clone)]
pub(super) struct BoundSync {
    pub plan: LogicalPlan,
    schema: SchemaRef,
    asked: Option<AskedRows>,
    sifted: Option<SiftedRows>,
    /// The columns of groups of people, if small ones are held back.
    pub counted: Option<Counted>,
}

/// A sync of groups: the same rows with what they count, which stands last.
#[derive(Debug, Clone)]
struct SiftedRows {
    plan: LogicalPlan,
    cells: BoundCells,
}

/// A sync that asks: the same rows and whose they are, and people's answers.
#[derive(Debug, Clone)]
struct AskedRows {
    plan: LogicalPlan,
    consent: BoundConsent,
}

/// Rows of a sync, and those that consent holds back.
#[derive(Debug)]
pub struct SyncRows {
    /// Their columns: the key, then those that are sent.
    pub schema: SchemaRef,
    /// Rows that may be sent.
    pub rows: Vec<RecordBatch>,
    /// How many may not for lack of consent, by reason.
    pub withheld: BTreeMap<&'static str, u64>,
    /// How many may not because they count too few people, or would tell of such a group.
    pub small: BTreeMap<&'static str, u64>,
    /// The keys of these.
    pub withdrawn: BTreeSet<String>,
}

impl BoundSync {
    /// What is read to know who agreed.
    pub(super) fn answers(&self) -> impl Iterator<Item = &LogicalPlan> {
        self.asked.iter().flat_map(|asked| [&asked.consent.answers, &asked.consent.times])
    }

    /// Columns of the rows that are sent.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
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
    let with_cells: Vec<Expr> = columns.iter().chain(cells.iter().flat_map(|c| &c.columns)).cloned().collect();
    let asked = asked(engine, model, &rows, &with_cells, findings);
    if findings.len() > before {
        return None;
    }
    let project = |columns| LogicalPlanBuilder::from(rows.clone()).project(columns).and_then(LogicalPlanBuilder::build);
    let sifted = cells.map(|cells| project(with_cells).map(|plan| SiftedRows { plan, cells })).transpose();
    let planned = project(columns).and_then(|plan| Ok((plan, sifted?))).and_then(|(plan, sifted)| {
        let state = &engine.state;
        let typed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
        Ok((plan, sifted, Arc::new(typed.schema().as_arrow().clone())))
    });
    match planned {
        Ok((plan, sifted, schema)) => match storable_schema(&schema) {
            Ok(schema) => Some(BoundSync { plan, schema, asked, sifted, counted: engine.people_counted(model) }),
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

/// The rows with the person behind each, if the sync asks.
fn asked(
    engine: &Engine,
    model: &SyncModel,
    rows: &LogicalPlan,
    columns: &[Expr],
    findings: &mut Vec<Diagnostic>,
) -> Option<AskedRows> {
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
    let bound = consent::bind(engine, consent, asked, findings)?;
    let person = std::iter::once(cast(ident(&id), DataType::Utf8).alias(PERSON));
    let columns: Vec<Expr> = columns.iter().cloned().chain(person).collect();
    let planned = LogicalPlanBuilder::from(rows.clone()).project(columns).and_then(LogicalPlanBuilder::build);
    let planned = planned.map_err(|e| findings.push(engine.parts().binder().engine_finding(&e, model.from.span)));
    planned.ok().map(|plan| AskedRows { plan, consent: bound })
}

/// Name of the column that says whose a row is.
const PERSON: &str = "__person";

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

    /// The rows that a sync would send if nothing had been sent before: the key, then its columns.
    ///
    /// # Errors
    /// When its model is not built or loaded, or an expression fails; `Refused` when consent cannot be told.
    pub async fn sync_rows(&self, name: &str) -> Result<SyncRows> {
        let Some(BoundModel::Sync(bound)) = self.models.get(name) else {
            return Err(Error::new(ErrorKind::Failed, format!("sync `{name}` is not bound")));
        };
        let doing = || format!("cannot read the rows of sync `{name}`");
        let of_cells = bound.sifted.as_ref().map_or(&bound.plan, |sifted| &sifted.plan);
        let plan = bound.asked.as_ref().map_or(of_cells, |asked| &asked.plan);
        let batches = fold::execute(&self.context, plan.clone()).await.or_fail(ErrorKind::Failed, doing)?;
        let mut found = SyncRows::new(&bound.schema);
        let answers = match &bound.asked {
            Some(asked) => Some(self.answers(&asked.consent).await?),
            None => None,
        };
        let mut rows = Vec::new();
        for batch in batches {
            rows.push(match &answers {
                Some(answers) => found.granted(batch, answers).or_fail(ErrorKind::Failed, doing)?,
                None => batch,
            });
        }
        if let Some(sifted) = &bound.sifted {
            let left = sifted.cells.sift(&rows)?;
            (rows, found.small) = (left.rows, left.withheld);
            found.withdrawn.extend(left.keys);
        }
        found.rows = rows.iter().map(|batch| super::build::conform(batch, &bound.schema)).collect::<Result<_>>()?;
        Ok(found)
    }
}

impl SyncRows {
    fn new(schema: &SchemaRef) -> Self {
        let (withheld, small) = (BTreeMap::new(), BTreeMap::new());
        Self { schema: Arc::clone(schema), rows: Vec::new(), withheld, small, withdrawn: BTreeSet::new() }
    }

    /// The rows of people who agreed, without the column that says whose they are; the others are counted.
    fn granted(&mut self, batch: RecordBatch, answers: &Answers) -> Result<RecordBatch, ArrowError> {
        let last = batch.num_columns() - 1;
        let (keys, people) = (batch.column(0).as_string::<i32>(), batch.column(last).as_string::<i32>());
        let mut sent = Vec::with_capacity(batch.num_rows());
        for (key, person) in keys.iter().zip(people) {
            let why = answers.withheld(person);
            if let Some(why) = why {
                *self.withheld.entry(why).or_default() += 1;
                // who never answered has withdrawn nothing: half an export must not delete everybody
                self.withdrawn.extend(key.filter(|_| why != MISSING).map(str::to_owned));
            }
            sent.push(why.is_none());
        }
        let columns: Vec<usize> = (0..last).collect();
        filter_record_batch(&batch, &BooleanArray::from(sent))?.project(&columns)
    }
}
