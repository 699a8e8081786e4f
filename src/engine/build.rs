//! Executing one bound model: what it makes, and the facts that the summary tells.

use super::audience::{BoundAudience, Rule, holdout_table, membership};
use super::committed::{self, Columns};
use super::entities::Entities;
use super::fold;
use super::identity::BoundIdentity;
use super::identity_report::{self, IdentityFacts};
use super::identity_tables::{self as tables, IdentityRows, IdentityTable};
use super::late::LateTable;
use super::narrow::{Members, Narrowed, Rules, narrow};
use super::partials::Partials;
use super::planned::PlannedRows;
use super::profile::{BoundProfile, Provenance};
use super::rank::Ranked;
use super::registry::Registry;
use super::segment::{self, AudienceFacts, Listed, Segment};
use super::wide::{Wide, holds};
use super::{BoundModel, Engine, internal};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::graph::owner;
use crate::model::{AudienceModel, IdentityModel, ModelKind};
use crate::plan::{Reason, Update};
use crate::warehouse::{Snapshot, StagedTable, Warehouse, WriteMode};
use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

/// Tables with smaller files stay in memory: reading them again costs more than holding them.
const FEW_BYTES: u64 = 1 << 20;

/// What a run gives to every model that it builds.
#[derive(Clone)]
pub struct RunContext {
    /// Number of the run.
    pub number: u64,
    /// The warehouse.
    pub warehouse: Arc<Warehouse>,
    /// What was committed before this run.
    pub base: Snapshot,
    /// Models that this run builds.
    pub selected: BTreeSet<String>,
    /// Partial states of older files; without them all files are read.
    pub partials: Option<Arc<Partials>>,
    /// How incremental models come to their rows.
    pub updates: Arc<BTreeMap<String, Update>>,
}

/// A table that a model made.
#[derive(Debug, Clone)]
pub struct Output {
    /// Table name.
    pub table: String,
    /// Its schema as stored.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// Whether rows replace or follow the committed ones.
    pub mode: WriteMode,
}

impl Output {
    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|b| b.num_rows() as u64).sum()
    }
}

/// How the table of an incremental model came to what it is.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "made", rename_all = "snake_case")]
pub enum Updated {
    /// The rows of some keys were made again.
    Keys {
        /// Keys that new rows touched.
        keys: u64,
        /// Rows that they have now.
        rows: u64,
        /// Data files of the table that were written anew for it.
        files: u64,
    },
    /// All rows were.
    Whole {
        /// Why.
        reasons: Vec<Reason>,
    },
}

/// What the summary tells of a model.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Facts {
    /// A SQL model.
    Sql {
        /// Rows of its table; 0 for a view.
        rows: u64,
        /// How an incremental model came to them.
        #[serde(skip_serializing_if = "Option::is_none")]
        updated: Option<Updated>,
    },
    /// An identity.
    Identity(IdentityFacts),
    /// A profile.
    Profile {
        /// Entities.
        rows: u64,
        /// Columns of its table.
        columns: u64,
    },
    /// An audience.
    Audience(AudienceFacts),
}

/// A built model.
#[derive(Debug, Clone)]
pub struct Built {
    /// How many rows its main table has.
    pub rows: u64,
    /// Its tables that are made already.
    pub outputs: Vec<Output>,
    /// Tables whose rows are made while they are written.
    pub planned: Vec<PlannedRows>,
    /// For the summary.
    pub facts: Facts,
}

impl Engine {
    /// Builds a bound model whose dependencies are built or loaded.
    ///
    /// # Errors
    /// When data cannot be read or a plan fails while running; nothing was committed.
    pub async fn build(&self, name: &str, run: &RunContext) -> Result<Built> {
        let doing = || format!("cannot build `{name}`");
        let model = self.project.models.get(name).ok_or_else(|| Error::new(ErrorKind::Failed, doing()))?;
        let built = match (self.models.get(name), &model.kind) {
            (Some(BoundModel::Sql { plan, schema, view }), _) => self.build_sql(name, plan, (schema, *view), run).await,
            (Some(BoundModel::Identity(bound)), ModelKind::Identity(identity)) => {
                self.build_identity(bound, identity, run).await
            }
            (Some(BoundModel::Profile(bound)), _) => self.build_profile(bound, run).await,
            (Some(BoundModel::Audience(_)), ModelKind::Audience(audience)) => {
                self.build_audience(name, audience, run).await
            }
            _ => Err(Error::new(ErrorKind::Failed, doing())),
        };
        let built = built.map_err(|e| e.context(doing()))?;
        for output in &built.outputs {
            let partitions = spread(&output.batches, self.resources.threads);
            let made = MemTable::try_new(Arc::clone(&output.schema), partitions).map_err(internal)?;
            self.fill(&output.table, (output.mode, &[]), Arc::new(made), run).await?;
        }
        for planned in &built.planned {
            self.fill(&planned.table, (planned.mode, &planned.replaces), planned.provider(), run).await?;
        }
        Ok(built)
    }

    async fn fill(
        &self,
        table: &str,
        how: (WriteMode, &[String]),
        made: Arc<dyn TableProvider>,
        run: &RunContext,
    ) -> Result<()> {
        if let Some(late) = self.late.get(table) {
            late.fill(self.after_earlier(late, how, made, run).await?);
        }
        Ok(())
    }

    /// The rows of this run, after those of earlier runs that stay.
    async fn after_earlier(
        &self,
        late: &LateTable,
        (mode, replaces): (WriteMode, &[String]),
        made: Arc<dyn TableProvider>,
        run: &RunContext,
    ) -> Result<Arc<dyn TableProvider>> {
        if mode == WriteMode::Overwrite || !run.base.tables.contains_key(late.name()) {
            return Ok(made);
        }
        let wanted = (&late.schema(), Columns::OurOwn);
        if mode == WriteMode::Merge {
            let kept = committed::without(&self.context, &run.warehouse, &run.base, late.name(), replaces, wanted.0);
            return one_after_the_other(kept.await?, made).map_err(internal);
        }
        let earlier = committed::provider(&self.context, &run.warehouse, &run.base, late.name(), wanted).await?;
        one_after_the_other(earlier, made).map_err(internal)
    }

    /// Rows that are written now are read where they lie, and memory holds them no longer; a few stay.
    ///
    /// # Errors
    /// When the files have no address.
    pub async fn written(&self, staged: &StagedTable, run: &RunContext) -> Result<()> {
        let Some(late) = self.late.get(&staged.table) else { return Ok(()) };
        if staged.files.iter().map(|file| file.size).sum::<u64>() < FEW_BYTES {
            return Ok(());
        }
        let paths = staged.files.iter().map(|file| run.warehouse.path_in(&staged.table, &file.name));
        let schema = late.schema();
        let files = committed::over_files(&self.context, &run.warehouse, &staged.table, paths, &schema)?;
        late.moved(self.after_earlier(late, (staged.mode, &staged.replaces), files, run).await?);
        Ok(())
    }

    async fn build_sql(
        &self,
        name: &str,
        plan: &datafusion::logical_expr::LogicalPlan,
        (schema, view): (&SchemaRef, bool),
        run: &RunContext,
    ) -> Result<Built> {
        if view {
            let facts = Facts::Sql { rows: 0, updated: None };
            return Ok(Built { rows: 0, outputs: Vec::new(), planned: Vec::new(), facts });
        }
        let increment = self.increment(name);
        let mut updated = None;
        if let (Some(increment), Some(update)) = (increment, run.updates.get(name)) {
            let reasons = match update {
                Update::Whole(reasons) => reasons.clone(),
                Update::Keys(new) => match self.grow((name, increment), (plan, schema), new, run).await? {
                    Ok(built) => return Ok(built),
                    Err(reason) => vec![reason],
                },
            };
            updated = Some(Updated::Whole { reasons });
        }
        let doing = || format!("the query of `{name}` failed");
        let plan = super::erased::guarded(&self.parts(), name, plan.clone()).or_fail(ErrorKind::Failed, doing)?;
        let batches = fold::execute(&self.context, plan).await.or_fail(ErrorKind::Failed, doing)?;
        let batches = batches.iter().map(|b| conform(b, schema)).collect::<Result<Vec<_>>>()?;
        if let Some(increment) = increment {
            super::increment::unique(name, increment, &batches, schema)?;
        }
        let output = Output { table: name.to_owned(), schema: Arc::clone(schema), batches, mode: WriteMode::Overwrite };
        let rows = output.rows();
        Ok(Built { rows, outputs: vec![output], planned: Vec::new(), facts: Facts::Sql { rows, updated } })
    }

    async fn build_identity(&self, bound: &BoundIdentity, model: &IdentityModel, run: &RunContext) -> Result<Built> {
        let registry = Registry::open(&self.context, &run.warehouse, &run.base, &bound.name).await?;
        let key = match &model.id_key {
            Some(secret) => secret.reveal().as_bytes().to_vec(),
            None => run.warehouse.secret(&format!("id_key_{}", bound.name)).await?.to_vec(),
        };
        let threads = self.resources.threads;
        let mut stitched = bound.run(&self.context, registry, &key, threads).await?;
        if let Some(tombstones) = self.tombstones() {
            // of people who must not be known nothing is written down
            stitched.found.gone.retain(|(kind, text)| tombstones.mark(&bound.name, kind, text).is_none());
        }
        let facts = IdentityFacts::of(&stitched);
        let at = (run.number, self.as_of);
        let rows = stitched.entities.nodes.len() - stitched.stitched.hubs.len();
        let hubs = |schema: &SchemaRef| tables::hubs(bound, &stitched, schema);
        let suspects = |schema: &SchemaRef| identity_report::suspects(bound, &stitched, schema);
        let mut outputs = Vec::new();
        for (kind, table, schema) in IdentityTable::all(&bound.name) {
            let made = match kind {
                IdentityTable::Hubs => hubs(&schema),
                IdentityTable::Report => facts.batch(at, &schema),
                IdentityTable::Suspects => suspects(&schema),
                _ => continue,
            };
            let batch = made.or_fail(ErrorKind::Failed, || format!("cannot make the rows of `{table}`"))?;
            outputs.push(Output { table, schema, batches: vec![batch], mode: kind.mode() });
        }
        stitched.texts.check().or_fail(ErrorKind::Storage, || format!("cannot make the tables of `{}`", bound.name))?;
        let large = Arc::new(IdentityRows::new(bound, model, stitched, at));
        let planned = IdentityTable::all(&bound.name)
            .into_iter()
            .filter_map(|(kind, table, schema)| large.planned(kind, &table, &schema, threads))
            .collect::<Result<_>>()?;
        Ok(Built { rows: rows as u64, outputs, planned, facts: Facts::Identity(facts) })
    }

    async fn build_profile(&self, bound: &BoundProfile, run: &RunContext) -> Result<Built> {
        let identity = self.entities(&bound.identity)?;
        let mut wide = Wide::new(identity.len());
        wide.push(&format!("{}_id", bound.identity), identity.id_column());
        let mut columns = bound.columns.clone();
        let mut fold_tables = bound.tables.clone();
        for (asked, tables) in self.conditions_on(bound, run) {
            columns.extend(asked);
            fold_tables.extend(tables);
        }
        self.fold(&fold_tables, columns, &mut wide, run).await?;
        let batch = bound.finish(&self.state, &mut wide, self.resources.threads)?;
        let mut planned = vec![bound.provenance(&wide, self.resources.threads)?];
        if let Some(timeline) = &bound.timeline {
            planned.push(timeline.rows()?);
        }
        let facts = Facts::Profile { rows: batch.num_rows() as u64, columns: batch.num_columns() as u64 };
        let explained = bound.provenance.iter().flat_map(Provenance::own_columns).collect();
        self.keep_wide(&bound.name, wide.without(&explained));
        let rows = batch.num_rows() as u64;
        let (table, schema) = (bound.name.clone(), Arc::clone(&bound.schema));
        let outputs = vec![Output { table, schema, batches: vec![batch], mode: WriteMode::Overwrite }];
        Ok(Built { rows, outputs, planned, facts })
    }

    /// Columns of this run's audiences over the profile that read source tables only: they share its scan.
    fn conditions_on(
        &self,
        profile: &BoundProfile,
        run: &RunContext,
    ) -> Vec<(Vec<fold::FoldColumn>, std::collections::BTreeMap<String, fold::FoldTable>)> {
        let mut out = Vec::new();
        for name in &run.selected {
            let Some(BoundModel::Audience(audience)) = self.models.get(name) else { continue };
            let Rule::Condition { columns, tables, .. } = &audience.rule else { continue };
            if audience.profile != profile.name {
                continue;
            }
            let early = |c: &&fold::FoldColumn| self.reads_sources_only(c);
            out.push((columns.iter().filter(early).cloned().collect(), tables.clone()));
        }
        out
    }

    /// Whether a column needs no other model's rows.
    pub(super) fn reads_sources_only(&self, column: &fold::FoldColumn) -> bool {
        column.inputs.iter().all(|input| self.sources.contains_key(&input.table))
    }

    async fn build_audience(&self, name: &str, model: &AudienceModel, run: &RunContext) -> Result<Built> {
        let Some(BoundModel::Audience(bound)) = self.models.get(name) else {
            return Err(Error::new(ErrorKind::Failed, format!("`{name}` is not bound")));
        };
        let entities = self.entities(&bound.identity)?;
        let matching = self.matching(bound, &entities, run).await?;
        let listed = segment::with_lists(matching, model, self.identity(&bound.identity)?, &entities);
        let mut facts = AudienceFacts {
            min_size: model.narrowing.min_size,
            rejected: listed.rejected.len() as u64,
            ..AudienceFacts::default()
        };
        let rejected = bound.has_lists.then(|| segment::rejected(name, &listed.rejected)).transpose()?;
        let Narrowed { members, in_group, beyond_top } = self.narrowed(bound, model, listed, &entities)?;
        (facts.in_group, facts.beyond_top) = (in_group, beyond_top);
        let previous = [
            committed::rows(&run.warehouse, &run.base, name).await?,
            committed::rows(&run.warehouse, &run.base, &holdout_table(name)).await?,
        ];
        let segment =
            Segment { bound, members: &members, entities: &entities, previous, as_of: self.as_of, run: run.number };
        let mut outputs = segment.tables(&mut facts)?;
        outputs.extend(rejected);
        self.keep_members(name, members);
        Ok(Built { rows: facts.members, outputs, planned: Vec::new(), facts: Facts::Audience(facts) })
    }

    /// Those whom the audience's condition finds.
    async fn matching(&self, bound: &BoundAudience, entities: &Entities, run: &RunContext) -> Result<Vec<u32>> {
        match &bound.rule {
            Rule::Condition { columns, tables, holds: condition } => {
                let mut wide = self.wide_of(&bound.profile)?;
                let missing: Vec<_> = columns.iter().filter(|c| !wide.has(&c.name)).cloned().collect();
                if !missing.is_empty() {
                    self.fold(tables, missing, &mut wide, run).await?;
                }
                for other in &bound.audiences {
                    let members = self.members_of(other)?;
                    wide.push(&membership(other), Arc::new(BooleanArray::from(members.flags(wide.rows()))));
                }
                let result = wide.evaluate(&self.state, condition.clone(), self.resources.threads)?;
                Ok(holds(&result))
            }
            Rule::Query(plan) => {
                let doing = || format!("the query of `{}` failed", bound.name);
                let batches = fold::execute(&self.context, plan.clone()).await.or_fail(ErrorKind::Failed, doing)?;
                segment::ids(&batches, &bound.identity, entities)
            }
        }
    }

    /// Those of them who are members in the end.
    fn narrowed(
        &self,
        bound: &BoundAudience,
        model: &AudienceModel,
        listed: Listed<'_>,
        entities: &Entities,
    ) -> Result<Narrowed> {
        let mut rules = Rules { picked: listed.picked, ..Rules::default() };
        for (other, _) in &bound.before {
            rules.taken.extend(self.members_of(other)?.taken());
        }
        let id = |code: u32| entities.ids[code as usize];
        let held_out = |code: u32| bound.holds_out(&id(code).to_string());
        rules.held_out = bound.holdout.is_some().then_some(&held_out);
        let Some(top) = &model.narrowing.top else { return Ok(narrow(listed.found, &rules)) };
        let wide = self.wide_of(&bound.profile)?;
        let ranked = Ranked::new(&wide, &bound.rank, &self.state, self.resources.threads)?;
        let rank = |a: u32, b: u32| ranked.compare(a, b).then_with(|| id(a).cmp(&id(b)));
        rules.top = Some((top.rows, &rank));
        Ok(narrow(listed.found, &rules))
    }

    /// Why syncs of a built or loaded model send nothing: it is an audience with fewer members than its `min_size`.
    pub fn too_small(&self, model: &str) -> Option<String> {
        let ModelKind::Audience(audience) = &self.project.models.get(model)?.kind else { return None };
        let min_size = audience.narrowing.min_size;
        let members = self.members_of(model).ok()?.codes.len() as u64;
        let too_small = min_size.is_some_and(|least| members < u64::from(least));
        AudienceFacts { members, min_size, too_small, ..AudienceFacts::default() }.too_small_text(model)
    }

    pub(super) fn identity(&self, name: &str) -> Result<&BoundIdentity> {
        match self.models.get(name) {
            Some(BoundModel::Identity(bound)) => Ok(bound),
            _ => Err(Error::new(ErrorKind::Failed, format!("identity `{name}` is not bound"))),
        }
    }

    pub(super) fn entities(&self, identity: &str) -> Result<Arc<Entities>> {
        self.identity(identity)?
            .slot
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Failed, format!("identity `{identity}` has not been built")))
    }

    pub(super) fn keep_wide(&self, profile: &str, wide: Wide) {
        self.wide.lock().unwrap_or_else(PoisonError::into_inner).insert(profile.to_owned(), wide);
    }

    pub(super) fn wide_of(&self, profile: &str) -> Result<Wide> {
        let wide = self.wide.lock().unwrap_or_else(PoisonError::into_inner);
        wide.get(profile)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::Failed, format!("profile `{profile}` has not been built")))
    }

    pub(super) fn keep_members(&self, audience: &str, members: Members) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).insert(audience.to_owned(), members);
    }

    pub(super) fn members_of(&self, audience: &str) -> Result<Members> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members
            .get(audience)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::Failed, format!("audience `{audience}` has not been built")))
    }

    /// How many entities each pair of this run's audiences share.
    ///
    /// # Errors
    /// Never for built audiences.
    pub fn overlap(&self, run: &RunContext) -> Result<Option<Output>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let audiences = self.project.models.values().filter(|m| matches!(m.kind, ModelKind::Audience(_)));
        // a run of some audiences knows nothing of the others: the table of the last whole run stays
        if members.is_empty() || !audiences.map(|m| &m.name.value).all(|name| members.contains_key(name)) {
            return Ok(None);
        }
        segment::overlap(&members, run.number, self.as_of).map(Some)
    }

    /// Fills a model's tables from the warehouse, for models that this run only reads.
    ///
    /// # Errors
    /// When the model was never built, or its committed columns no longer fit its definition.
    pub async fn load(&self, name: &str, run: &RunContext) -> Result<()> {
        match self.models.get(name) {
            Some(BoundModel::Sql { view: true, .. } | BoundModel::Sync(_)) | None => Ok(()),
            Some(BoundModel::Sql { .. }) => self.load_table(name, run).await,
            Some(BoundModel::Identity(bound)) => {
                for (kind, table, _) in IdentityTable::all(name) {
                    // an older version wrote fewer tables beside the identity
                    if kind == IdentityTable::Identity || run.base.tables.contains_key(&table) {
                        self.load_table(&table, run).await?;
                    }
                }
                let rows = committed::rows(&run.warehouse, &run.base, name).await?;
                bound.slot.fill(Arc::new(committed::entities(name, &bound.type_names(), &rows)?));
                Ok(())
            }
            Some(BoundModel::Profile(bound)) => {
                self.load_table(name, run).await?;
                let timeline = bound.timeline.iter().map(|t| t.table.clone());
                for beside in timeline.chain([format!("{name}_provenance")]) {
                    // an older definition had no timeline
                    if run.base.tables.contains_key(&beside) {
                        self.load_table(&beside, run).await?;
                    }
                }
                let rows = committed::rows(&run.warehouse, &run.base, name).await?;
                let entities = self.entities(&bound.identity)?;
                let wide = committed::wide(&bound.identity, &bound.schema, &rows, &entities)?;
                self.keep_wide(name, wide);
                Ok(())
            }
            Some(BoundModel::Audience(bound)) => {
                self.load_table(name, run).await?;
                let rows = committed::rows(&run.warehouse, &run.base, name).await?;
                let entities = self.entities(&bound.identity)?;
                let mut members = Members::from_codes(segment::ids(&rows, &bound.identity, &entities)?);
                // a table whose key was added since is not there yet
                for side in bound.side_tables().iter().filter(|s| run.base.tables.contains_key(&s.name)) {
                    self.load_table(&side.name, run).await?;
                }
                if bound.holdout.is_some() {
                    let rows = committed::rows(&run.warehouse, &run.base, &holdout_table(name)).await?;
                    members.held_out.extend(segment::ids(&rows, &bound.identity, &entities)?);
                }
                self.keep_members(name, members);
                Ok(())
            }
        }
    }

    /// Fills a model's tables from the warehouse for those who only read them; false when it was never committed.
    ///
    /// # Errors
    /// When its committed columns no longer fit its definition; `Storage`.
    pub async fn load_tables(&self, name: &str, run: &RunContext) -> Result<bool> {
        if !self.late.contains_key(name) {
            // a view and a sync have no table
            return Ok(true);
        }
        if !run.base.tables.contains_key(name) {
            return Ok(false);
        }
        for table in self.late.keys().filter(|table| owner(&self.project, table) == name) {
            if run.base.tables.contains_key(table) {
                self.load_table(table, run).await?;
            }
        }
        Ok(true)
    }

    async fn load_table(&self, name: &str, run: &RunContext) -> Result<()> {
        let Some(late) = self.late.get(name) else { return Ok(()) };
        if late.is_filled() {
            return Ok(());
        }
        let columns = if self.models.contains_key(name) { Columns::Defined } else { Columns::OurOwn };
        let wanted = (&late.schema(), columns);
        let provider = committed::provider(&self.context, &run.warehouse, &run.base, name, wanted).await?;
        late.fill(provider);
        Ok(())
    }
}

/// A batch in the stored types.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let doing = || "a result does not fit its table".to_owned();
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(c, f)| cast(c, f.data_type()))
        .collect::<std::result::Result<Vec<_>, _>>()
        .or_fail(ErrorKind::Failed, doing)?;
    RecordBatch::try_new(Arc::clone(schema), columns).or_fail(ErrorKind::Failed, doing)
}

/// The rows of both tables.
pub(super) fn one_after_the_other(
    first: Arc<dyn TableProvider>,
    second: Arc<dyn TableProvider>,
) -> datafusion::error::Result<Arc<dyn TableProvider>> {
    let scan = |table| LogicalPlanBuilder::scan("rows", provider_as_source(table), None);
    let both = scan(first)?.union(scan(second)?.build()?)?.build()?;
    Ok(Arc::new(ViewTable::new(both, None)))
}

/// Spreads rows over partitions in slices, so that readers run in parallel.
fn spread(batches: &[RecordBatch], threads: usize) -> Vec<Vec<RecordBatch>> {
    let mut partitions = vec![Vec::new(); threads.max(1)];
    let mut next = 0;
    for batch in batches {
        for start in (0..batch.num_rows()).step_by(8192) {
            let slice = batch.slice(start, 8192.min(batch.num_rows() - start));
            partitions[next % threads.max(1)].push(slice);
            next += 1;
        }
    }
    partitions
}
