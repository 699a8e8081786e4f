//! The engine: binds a project's models to data and executes them. The only importer of DataFusion.
//!
//! [`Engine::open`] makes a session, [`Engine::bind`] binds every model in dependency order against late
//! tables (shapes without rows) and returns all findings; no data are read. [`Engine::build`] executes one
//! bound model and fills its late tables, so that its readers' plans, bound long before, can run;
//! [`Engine::load`] fills them from the warehouse instead, for models that are not part of the run.

mod audience;
mod between;
mod bind;
mod build;
mod cells;
mod checks;
mod committed;
mod compare;
mod consent;
mod consent_facts;
mod constant;
mod delta;
mod digests;
mod entities;
mod erased;
mod evidence;
mod expected;
mod files;
mod fold;
mod folding;
mod functions;
mod given;
mod history;
mod identity;
mod identity_report;
mod identity_rules;
mod identity_tables;
mod increment;
mod kept;
mod keyed;
mod late;
mod lineage;
mod link_rows;
mod link_spill;
mod measures;
mod membership;
mod mentions;
mod merging;
mod mistakes;
mod narrow;
mod partials;
mod planned;
mod print;
mod profile;
mod proofs;
#[cfg(test)]
mod pushdown_tests;
mod query;
mod rank;
mod registry;
mod scans;
mod schemas;
mod segment;
mod session;
mod sorted;
mod sources;
mod spelling;
mod standing;
mod steps;
mod storable;
mod sync_rows;
mod syntax;
mod text_spill;
mod threads;
mod timeline;
mod validate;
mod versions;
mod wide;
mod words;

pub use between::{JsonRow, RowChange, TableChanges};
pub use build::{Built, Facts, Output, RunContext, Updated};
pub use checks::{CheckResult, CheckStatus, KEPT_ROWS};
pub use compare::RowChanges;
pub use consent_facts::{AnswerNote, ConsentFacts, PersonRow, Told};
pub use digests::Manifests;
pub use evidence::LinkRows;
pub use expected::{Actual, ExpectedCell, ExpectedRow};
pub use functions::Judged;
pub use history::CHANGES;
pub use identity_report::{IdentityFacts, SizeCount, SourceRows};
pub use kept::{Copy, Kept, KeptFile};
pub use membership::{ConditionNote, ConditionResult, ListNote, Membership, RowNote};
pub use partials::Partials;
pub use planned::{PlannedRows, RowStream};
pub use print::{TextTable, to_csv, to_json, to_text};
pub use query::{Reader, without_values};
pub use scans::{PartialNote, Scan, ScanPath, ScanPlan, TableRead};
pub use schemas::{SchemaLock, differences_text};
pub use segment::AudienceFacts;
pub use session::Resources;
pub use spelling::spelling;
pub use standing::{Suppressed, Why};
pub use sync_rows::{JudgedRows, SyncRows};
pub use validate::validate_text_tables;

use crate::diagnostic::{Diagnostic, Severity, SourceMap, Span, Spanned};
use crate::error::Result;
use crate::model::{Model, ModelKind, Project};
use crate::privacy::Tombstones;
use crate::warehouse::{Environment, storable_schema};
use audience::BoundAudience;
use bind::Binder;
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::TableReference;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use identity::BoundIdentity;
use late::LateTable;
use profile::BoundProfile;
use sources::OpenTable;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use sync_rows::BoundSync;

/// The one type of times: microseconds, UTC.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// What binding needs to know, without the bound models.
pub(crate) struct EngineParts<'a> {
    pub context: &'a SessionContext,
    /// The context's state as it was when all functions were known; tables registered later are in it.
    pub state: &'a SessionState,
    pub map: &'a SourceMap,
    pub environment: &'a Environment,
    pub root: &'a Path,
    pub as_of: i64,
    pub timezone: &'a str,
    pub project: &'a Project,
    /// Whose rows may not be read.
    pub tombstones: Option<&'a Arc<Tombstones>>,
    /// Copies of source files.
    pub kept: Option<&'a Kept>,
    /// Whether tables are those of a unit test, of which not all types are known.
    pub assumed: bool,
}

impl EngineParts<'_> {
    fn binder(&self) -> Binder<'_> {
        Binder { state: self.state, map: self.map, secrets: false }
    }

    /// A registered aggregate; the names are ours, so a missing one falls back to `count`.
    fn aggregate(&self, name: &str) -> Arc<AggregateUDF> {
        let known = self.state.aggregate_functions();
        known.get(name).cloned().unwrap_or_else(datafusion::functions_aggregate::count::count_udaf)
    }
}

/// A table that models can read: a source table or a model's output.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub name: String,
    pub plan: LogicalPlan,
    pub time: Option<String>,
    pub row_id: Option<String>,
}

/// A file of a source table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFileAt {
    /// Path from the root of its store.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When the store last saw it change, in microseconds.
    pub modified_at: chrono::DateTime<chrono::Utc>,
    /// What tells its content: the store's tag for it, or a hash.
    pub content: String,
    /// What the store says of the file, beside size and time.
    pub stamp: String,
    /// The place of its table: another place has other files, whatever their names.
    pub place: String,
    /// When its content was last looked at.
    pub read_at: chrono::DateTime<chrono::Utc>,
}

/// A bound model.
#[derive(Debug, Clone)]
enum BoundModel {
    Sql { plan: LogicalPlan, schema: SchemaRef, view: bool },
    Identity(Box<BoundIdentity>),
    Profile(Box<BoundProfile>),
    Audience(Box<BoundAudience>),
    Sync(Box<BoundSync>),
}

/// A project's models, bound to data and ready to run at one logical time.
pub struct Engine {
    context: SessionContext,
    /// One copy for all that is bound: each call of `context.state()` copies every function's name.
    state: Box<SessionState>,
    project: Arc<Project>,
    map: SourceMap,
    environment: Environment,
    root: PathBuf,
    as_of: i64,
    resources: Resources,
    lock: SchemaLock,
    without_data: bool,
    tombstones: Option<Arc<Tombstones>>,
    kept: Option<Kept>,
    sources: BTreeMap<String, OpenTable>,
    relations: BTreeMap<String, Relation>,
    late: BTreeMap<String, Arc<LateTable>>,
    models: BTreeMap<String, BoundModel>,
    tests: BTreeMap<String, Vec<checks::BoundTest>>,
    given: Option<given::Given>,
    wide: Mutex<BTreeMap<String, wide::Wide>>,
    members: Mutex<BTreeMap<String, narrow::Members>>,
}

impl Engine {
    /// Opens a session for a project at a logical time (microseconds since 1970, UTC).
    ///
    /// # Errors
    /// When the query engine cannot start.
    pub fn open(
        project: Arc<Project>,
        map: SourceMap,
        root: &Path,
        environment: Environment,
        as_of: i64,
        resources: Resources,
    ) -> Result<Self> {
        let context = session::open(&project, as_of, &project.settings.secrets, resources)?;
        Ok(Self {
            state: Box::new(context.state()),
            context,
            project,
            map,
            environment,
            root: root.to_owned(),
            as_of,
            resources,
            lock: SchemaLock::default(),
            without_data: false,
            tombstones: None,
            kept: None,
            sources: BTreeMap::new(),
            relations: BTreeMap::new(),
            late: BTreeMap::new(),
            models: BTreeMap::new(),
            tests: BTreeMap::new(),
            given: None,
            wide: Mutex::new(BTreeMap::new()),
            members: Mutex::new(BTreeMap::new()),
        })
    }

    /// Leaves the rows of these people out of all that is opened from now on.
    pub fn use_tombstones(&mut self, tombstones: Tombstones) {
        self.tombstones = Some(Arc::new(tombstones));
    }

    /// Whose rows are left out.
    pub fn tombstones(&self) -> Option<&Tombstones> {
        self.tombstones.as_deref()
    }

    /// The author's files, for rendering findings.
    pub fn source_map(&self) -> &SourceMap {
        &self.map
    }

    /// Tables and models that a model's SQL names: what `graph` cannot know without a SQL parser.
    ///
    /// # Errors
    /// A finding when the SQL does not parse.
    pub fn sql_references(&self, model: &Model) -> std::result::Result<BTreeSet<String>, Box<Diagnostic>> {
        self.sql_places(model).map(|places| places.into_keys().collect())
    }

    /// As [`Self::sql_references`], each with its first place.
    ///
    /// # Errors
    /// A finding when the SQL does not parse.
    pub fn sql_places(&self, model: &Model) -> std::result::Result<BTreeMap<String, Span>, Box<Diagnostic>> {
        let sql = match &model.kind {
            ModelKind::Sql(sql) => &sql.sql,
            ModelKind::Audience(crate::model::AudienceModel {
                condition: crate::model::AudienceCondition::Sql(sql),
                ..
            }) => sql,
            _ => return Ok(BTreeMap::new()),
        };
        self.parts().binder().references(sql)
    }

    fn parts(&self) -> EngineParts<'_> {
        EngineParts {
            context: &self.context,
            state: &self.state,
            map: &self.map,
            environment: &self.environment,
            root: &self.root,
            as_of: self.as_of,
            timezone: &self.project.settings.timezone,
            project: &self.project,
            tombstones: self.tombstones.as_ref(),
            kept: self.kept.as_ref(),
            assumed: self.given.is_some(),
        }
    }

    /// Opens the named source tables and binds the models in the given (dependency) order. A model whose
    /// dependency failed is skipped, so that one mistake is said once.
    ///
    /// # Errors
    /// When storage fails; mistakes of the author are findings.
    pub async fn bind(
        &mut self,
        tables: &BTreeSet<String>,
        order: &[String],
        dependencies: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<Vec<Diagnostic>> {
        let mut findings = Vec::new();
        self.open_sources(tables, &mut findings).await?;
        for name in order {
            // what is known but not there has had its own finding; what is unknown gets one from binding
            let known = |d: &String| self.project.models.contains_key(d) || self.project.source_table(d).is_some();
            let failed = |d: &String| known(d) && !self.relations.contains_key(d);
            let ready = dependencies.get(name).is_none_or(|d| !d.iter().any(failed));
            if !ready {
                continue;
            }
            let Some(model) = self.project.models.get(name).cloned() else { continue };
            self.parts().binder().unrepeatable(&model, &mut findings);
            let bound = self.bind_model(&model, &mut findings).await?;
            if let Some(bound) = bound {
                constant::check(self, &model, &bound, &mut findings);
                if self.given.is_none() {
                    increment::check(self, &model, &bound, &mut findings);
                }
                self.publish(&model, &bound)?;
                self.models.insert(name.clone(), bound);
            }
        }
        Ok(findings)
    }

    async fn open_sources(&mut self, tables: &BTreeSet<String>, findings: &mut Vec<Diagnostic>) -> Result<()> {
        let project = Arc::clone(&self.project);
        for name in tables {
            let Some((source, table)) = project.source_table(name) else { continue };
            if !table.enabled {
                continue;
            }
            let locked = self.lock.get(name).filter(|_| self.without_data);
            let open = match &self.given {
                Some(given) => given::open(&self.parts(), given, source, table, findings)?,
                None => sources::open(&self.parts(), source, table, locked, findings).await?,
            };
            let Some(open) = open else { continue };
            if let Some(locked) = self.lock.get(name).filter(|_| !self.without_data && self.given.is_none()) {
                findings.extend(schemas::check(name, table, locked, &open.columns()));
            }
            self.relations.insert(
                name.clone(),
                Relation {
                    name: name.clone(),
                    plan: open.plan.clone(),
                    time: open.time.clone(),
                    row_id: open.row_id.clone(),
                },
            );
            self.sources.insert(name.clone(), open);
            constant::check_source(self, name, table, findings);
        }
        Ok(())
    }

    async fn bind_model(&self, model: &Model, findings: &mut Vec<Diagnostic>) -> Result<Option<BoundModel>> {
        let parts = self.parts();
        let name = &model.name.value;
        let before = errors(findings);
        let bound = match &model.kind {
            ModelKind::Sql(sql) => self.bind_sql(sql, findings).await.map(|bound| match bound {
                // given rows need a table that can hold them
                BoundModel::Sql { plan, schema, .. } if self.is_given(name) => {
                    BoundModel::Sql { plan, schema, view: false }
                }
                bound => bound,
            }),
            ModelKind::Identity(identity) => identity::bind(&parts, name, identity, &self.relations, findings)
                .map(|b| BoundModel::Identity(b.into())),
            ModelKind::Profile(profile) => match self.models.get(&profile.identity.value) {
                Some(BoundModel::Identity(identity)) => {
                    profile::bind(&parts, name, profile, identity, &self.relations, findings)
                        .map(|b| BoundModel::Profile(b.into()))
                }
                _ => None,
            },
            ModelKind::Audience(audience) => match self.profile_of(&audience.profile) {
                Some((profile, identity)) => {
                    let before = self.project.before_in_group(name);
                    let before = before.into_iter().filter_map(|other| self.audience(other)).collect();
                    let scope = audience::Scope { profile, identity, relations: &self.relations, before };
                    audience::bind(&parts, name, audience, &scope, findings)
                        .await
                        .map(|b| BoundModel::Audience(b.into()))
                }
                None => None,
            },
            ModelKind::Sync(sync) => sync_rows::bind(self, name, sync, findings).map(|b| BoundModel::Sync(b.into())),
        };
        Ok(bound.filter(|_| errors(findings) == before))
    }

    fn profile_of(&self, name: &Spanned<String>) -> Option<(&BoundProfile, &BoundIdentity)> {
        let Some(BoundModel::Profile(profile)) = self.models.get(&name.value) else { return None };
        let Some(BoundModel::Identity(identity)) = self.models.get(&profile.identity) else { return None };
        Some((profile, identity))
    }

    fn audience(&self, name: &str) -> Option<&BoundAudience> {
        match self.models.get(name) {
            Some(BoundModel::Audience(bound)) => Some(bound),
            _ => None,
        }
    }

    async fn bind_sql(&self, model: &crate::model::SqlModel, findings: &mut Vec<Diagnostic>) -> Option<BoundModel> {
        let plan = match self.parts().binder().query(&model.sql).await {
            Ok(plan) => plan,
            Err(found) => {
                findings.extend(found);
                return None;
            }
        };
        if let Some(finding) = self.parts().binder().misplaced(&plan, &model.sql) {
            findings.push(*finding);
            return None;
        }
        let analysed = self.state.analyzer().execute_and_check(plan.clone(), self.state.config_options(), |_, _| {});
        let typed = match analysed {
            Ok(plan) => plan,
            Err(e) => {
                findings.extend(self.parts().binder().findings(&e, &model.sql));
                return None;
            }
        };
        let schema = sources::nullable(typed.schema().as_arrow());
        match storable_schema(&schema) {
            Ok(schema) => Some(BoundModel::Sql { plan, schema, view: model.is_view() }),
            Err(e) => {
                findings.push(self.parts().binder().unstorable(&e, &model.sql));
                None
            }
        }
    }

    /// Makes a bound model's tables known to the models after it.
    fn publish(&mut self, model: &Model, bound: &BoundModel) -> Result<()> {
        let name = &model.name.value;
        match bound {
            BoundModel::Sql { plan, view: true, .. } => {
                let plan = erased::guarded(&self.parts(), name, plan.clone()).map_err(internal)?;
                session::register(&self.context, name, Arc::new(ViewTable::new(plan.clone(), None)))?;
                self.relate(name, plan, None);
            }
            BoundModel::Sql { schema, .. } => self.publish_table(name, Arc::clone(schema), None)?,
            BoundModel::Identity(_) => {
                for (table, schema) in identity_tables::schemas(name) {
                    self.publish_table(&table, schema, None)?;
                }
            }
            BoundModel::Profile(profile) => {
                self.publish_table(name, Arc::clone(&profile.schema), None)?;
                self.publish_table(&format!("{name}_provenance"), profile.provenance_schema(), None)?;
                if let Some(timeline) = &profile.timeline {
                    self.publish_table(&timeline.table, Arc::clone(&timeline.schema), Some(timeline::TIME))?;
                }
            }
            BoundModel::Audience(audience) => {
                self.publish_table(name, Arc::clone(&audience.schema), Some("entered_at"))?;
                for side in audience.side_tables() {
                    self.publish_table(&side.name, side.schema, side.time)?;
                }
            }
            BoundModel::Sync(_) => self.relate(name, LogicalPlanBuilder::empty(false).build().map_err(internal)?, None),
        }
        Ok(())
    }

    fn publish_table(&mut self, name: &str, schema: SchemaRef, time: Option<&str>) -> Result<()> {
        let table = Arc::new(LateTable::new(name, schema));
        session::register(&self.context, name, Arc::clone(&table) as _)?;
        let source = provider_as_source(Arc::clone(&table) as _);
        let plan = LogicalPlanBuilder::scan(TableReference::bare(name), source, None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(internal)?;
        self.late.insert(name.to_owned(), table);
        self.relate(name, plan, time);
        Ok(())
    }

    fn relate(&mut self, name: &str, plan: LogicalPlan, time: Option<&str>) {
        let relation = Relation { name: name.to_owned(), plan, time: time.map(str::to_owned), row_id: None };
        self.relations.insert(name.to_owned(), relation);
    }

    /// Whether a model is an audience.
    pub fn is_audience(&self, model: &str) -> bool {
        matches!(self.models.get(model), Some(BoundModel::Audience(_)))
    }

    /// Whether a model is a sync.
    pub fn is_sync(&self, model: &str) -> bool {
        matches!(self.models.get(model), Some(BoundModel::Sync(_)))
    }

    /// Bytes and files of an opened source table.
    pub fn source_size(&self, table: &str) -> Option<(usize, u64)> {
        self.sources.get(table).map(|t| (t.found.files.len(), t.found.files.iter().map(|f| f.size).sum()))
    }

    /// Rows of an opened source table's files, where their format says it (Parquet, Delta); nothing else is read.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn source_rows(&self, table: &str) -> Result<Option<u64>> {
        let Some(open) = self.sources.get(table) else { return Ok(None) };
        if let Some(delta) = &open.found.delta {
            return Ok(delta.rows());
        }
        let parquet = self.project.source_table(table).is_some_and(|(_, t)| t.format == crate::model::Format::Parquet);
        if parquet { files::count_rows(&self.parts(), &open.found, &open.schema).await } else { Ok(None) }
    }

    /// Tables that a bound model makes, with their columns and types.
    pub fn tables_of(&self, model: &str) -> Vec<(String, Vec<(String, String)>)> {
        let made = self.late.keys().filter(|table| crate::graph::owner(&self.project, table) == model);
        made.map(|table| (table.clone(), self.columns(table))).collect()
    }

    /// Columns of a bound model's main table, with their types.
    pub fn columns(&self, model: &str) -> Vec<(String, String)> {
        let Some(table) = self.late.get(model) else { return Vec::new() };
        use datafusion::catalog::TableProvider;
        table.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
    }
}

fn errors(findings: &[Diagnostic]) -> usize {
    findings.iter().filter(|f| f.severity == Severity::Error).count()
}

/// A DataFusion error that no input should be able to cause.
pub(crate) fn internal(error: datafusion::error::DataFusionError) -> crate::error::Error {
    crate::error::Error::new(crate::error::ErrorKind::Failed, "the query engine refused a plan").caused_by(error)
}

impl Engine {
    /// The relation of a source table before selection and types.
    pub(crate) fn raw(&self, name: &str) -> Option<&LogicalPlan> {
        self.sources.get(name).map(|t| &t.raw)
    }
}
