//! From a folder to bound models, with all findings.

use super::kept::kept;
use super::labels;
use super::run::warehouse_of;
use super::schemas;
use super::state::{changed, manifest};
use super::tombstones::tombstones;
use super::unit;
use crate::diagnostic::{Code, Diagnostic, Severity, SourceMap, Span};
use crate::engine::{Engine, Resources};
use crate::error::{Error, ErrorKind};
use crate::graph::{Graph, Problem, Request, Selection, SelectorError, cycle, direct, owner, unused};
use crate::model::{DataTest, Project};
use crate::project::{LoadOptions, Loaded, check_sql_tables, load, nearest};
use crate::warehouse::Environment;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What the user asked for, whatever the command.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the project.
    pub root: PathBuf,
    /// Target of `kinfold.yaml`.
    pub target: Option<String>,
    /// Logical time that overrides the project's.
    pub as_of: Option<DateTime<Utc>>,
    /// Variables that override the project's.
    pub vars: BTreeMap<String, String>,
    /// Selectors; none is everything.
    pub select: Vec<String>,
    /// Selectors of what is left out.
    pub exclude: Vec<String>,
    /// Earlier manifest that `state:` compares with: a file, or a folder with a `manifest.json`.
    pub state: Option<PathBuf>,
    /// Whether a run builds also what did not change.
    pub full: bool,
    /// Threads and memory.
    pub resources: Resources,
    /// Environment variables.
    pub environment: Environment,
    /// Start of the command.
    pub now: DateTime<Utc>,
    /// What is sent besides what changed.
    pub resend: Resend,
}

/// What syncs send besides what changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resend {
    /// Every current row.
    pub full: bool,
    /// Every current row, as if nothing had been sent before.
    pub reset: bool,
    /// What was rejected for good.
    pub rejected: bool,
}

/// Why a command stopped.
#[derive(Debug)]
pub enum Failure {
    /// Mistakes of the author, with the files to show them in.
    Findings(Vec<Diagnostic>, Box<SourceMap>),
    /// A failure of the world.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A project whose models are bound.
pub struct Prepared {
    /// The project.
    pub project: Arc<Project>,
    /// Its graph.
    pub graph: Graph,
    /// Models in dependency order.
    pub order: Vec<String>,
    /// Models that the user selected.
    pub selected: BTreeSet<String>,
    /// Bound models.
    pub engine: Engine,
    /// Logical time.
    pub as_of: DateTime<Utc>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// Loads and binds what the selection needs.
///
/// # Errors
/// Findings when something is wrong in the author's files; an error when storage fails.
pub async fn prepare(options: &Options, purpose: Purpose) -> Result<Prepared, Failure> {
    let (project, map, warnings) = loaded(options)?;
    prepare_for(options, purpose, project, map, warnings).await
}

/// What a project is bound for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To see what is wrong, also in tests: a source table of `schemas.lock` is not looked at.
    Check,
    /// To tell what is defined, whatever policies refuse; as `Check` beside that.
    Describe,
    /// To read rows: the files of every source table are listed, and compared with `schemas.lock`.
    Run,
}

/// A project whose graph is known and whose models are not bound: no data and no store was touched.
pub struct Outline {
    /// The project.
    pub project: Arc<Project>,
    /// Its graph.
    pub graph: Graph,
    /// All models in dependency order.
    pub order: Vec<String>,
    /// Models that the user selected.
    pub selected: BTreeSet<String>,
    /// Models whose SQL does not parse or names what is not there.
    pub(super) broken: BTreeSet<String>,
    /// A session that binds nothing yet.
    pub engine: Engine,
    /// Logical time.
    pub as_of: DateTime<Utc>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// Loads, orders and selects, without binding.
///
/// # Errors
/// As [`prepare`].
pub fn outline(options: &Options) -> Result<Outline, Failure> {
    let (project, map, warnings) = loaded(options)?;
    let outline = outline_for(options, project, map, warnings)?;
    stop_on_errors(&outline.warnings, &outline.engine)?;
    Ok(outline)
}

/// Loads without binding.
pub(super) fn loaded(options: &Options) -> Result<(Arc<Project>, SourceMap, Vec<Diagnostic>), Failure> {
    loaded_with(options, false)
}

/// Loads without binding; variables that the environment lacks may be allowed.
pub(super) fn loaded_with(
    options: &Options,
    allow_missing_environment: bool,
) -> Result<(Arc<Project>, SourceMap, Vec<Diagnostic>), Failure> {
    let (target, vars) = (options.target.clone(), options.vars.clone());
    let load_options = LoadOptions { target, vars, allow_missing_environment };
    let environment = |name: &str| options.environment.get(name).cloned();
    let Loaded { project, sources, diagnostics } = load(&options.root, &load_options, &environment);
    match project {
        Some(project) => Ok((Arc::new(project), sources, diagnostics)),
        None => Err(Failure::Findings(diagnostics, Box::new(sources))),
    }
}

/// Binds a loaded project.
///
/// # Errors
/// As [`prepare`].
pub async fn prepare_for(
    options: &Options,
    purpose: Purpose,
    project: Arc<Project>,
    map: SourceMap,
    findings: Vec<Diagnostic>,
) -> Result<Prepared, Failure> {
    if purpose == Purpose::Run {
        return prepare_with(options, purpose, project, map, findings, &Also::default()).await;
    }
    let mut also = Also::default();
    if options.select.is_empty() && options.exclude.is_empty() {
        also.tables.extend(project.tested().into_iter().filter(|name| name.contains('.')));
    }
    let mut prepared = prepare_with(options, purpose, project, map, findings, &also).await?;
    prepared.warnings.extend(unit::check(&prepared.project, &prepared.engine));
    stop_on_errors(&prepared.warnings, &prepared.engine)?;
    Ok(prepared)
}

/// Source tables that are opened and whose tests are bound although no selected model may read them.
#[derive(Debug, Default)]
pub(super) struct Also {
    /// Their names.
    pub tables: BTreeSet<String>,
    /// Whether they are all that was selected.
    pub alone: bool,
}

/// Binds a loaded project and further source tables.
///
/// # Errors
/// As [`prepare`].
pub(super) async fn prepare_with(
    options: &Options,
    purpose: Purpose,
    project: Arc<Project>,
    map: SourceMap,
    findings: Vec<Diagnostic>,
    also: &Also,
) -> Result<Prepared, Failure> {
    let outline = outline_for(options, project, map, findings)?;
    let Outline { project, graph, order, selected, broken, mut engine, as_of, warnings: mut findings } = outline;
    let selected = if also.alone { BTreeSet::new() } else { selected };
    engine.use_schemas(schemas::read(&options.root)?, purpose != Purpose::Run);
    let mut tables = also.tables.clone();
    if purpose == Purpose::Run {
        let warehouse = warehouse_of(&project, options)?;
        if let Some(tombstones) = tombstones(&warehouse).await? {
            engine.use_tombstones(tombstones);
        }
        if let Some(kept) = kept(&warehouse, &project).await? {
            engine.use_kept(kept);
            tables.extend(engine.to_thin());
        }
    }
    let needed = graph.needed(&selected, &tables);
    let order: Vec<String> = order.into_iter().filter(|n| needed.models.contains(n)).collect();
    let sound: Vec<String> = order.iter().filter(|n| !broken.contains(*n)).cloned().collect();
    let bound = engine.bind(&needed.tables, &sound, graph.needs()).await;
    if let Ok(found) = &bound {
        findings.extend(found.iter().cloned());
        if purpose != Purpose::Describe {
            findings.extend(labels::check(&project, &engine, &sound));
        }
        let tested = graph.tested(&selected).into_iter().chain(also.tables.iter().cloned()).collect();
        findings.extend(engine.bind_tests(&tested).await);
    }
    stop_on_errors(&findings, &engine)?;
    bound?;
    Ok(Prepared { project, graph, order, selected, engine, as_of, warnings: findings })
}

/// A session over a loaded project that binds nothing yet.
pub(super) fn engine_of(
    options: &Options,
    project: &Arc<Project>,
    map: SourceMap,
    as_of: DateTime<Utc>,
) -> crate::error::Result<Engine> {
    let (project, environment) = (Arc::clone(project), options.environment.clone());
    Engine::open(project, map, &options.root, environment, as_of.timestamp_micros(), options.resources)
}

/// Loads, orders and selects; mistakes are among the warnings.
fn outline_for(
    options: &Options,
    project: Arc<Project>,
    map: SourceMap,
    mut findings: Vec<Diagnostic>,
) -> Result<Outline, Failure> {
    let as_of = options.as_of.or(project.settings.as_of).unwrap_or(options.now);
    let engine = engine_of(options, &project, map, as_of)?;
    let read = read(&project, &engine, &mut findings);
    let graph = read.graph;
    let (order, cycles) = graph.order_and_cycles();
    findings.extend(cycles.iter().map(|path| cycle(&project, path, &read.places)));
    let selected = selection(options, &project, &graph, &engine);
    if selected.is_err() {
        // what is wrong in the files comes first
        stop_on_errors(&findings, &engine)?;
    }
    let selected = selected?;
    // of a part of the project nothing can be said about what nobody reads
    if options.select.is_empty() && options.exclude.is_empty() && read.broken.is_empty() {
        findings.extend(unused(&project, &graph));
    }
    Ok(Outline { project, graph, order, selected, broken: read.broken, engine, as_of, warnings: findings })
}

fn stop_on_errors(findings: &[Diagnostic], engine: &Engine) -> Result<(), Failure> {
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::Findings(findings.to_vec(), Box::new(engine.source_map().clone())));
    }
    Ok(())
}

/// What models read.
struct Read {
    graph: Graph,
    /// Where SQL names tables, by model.
    places: BTreeMap<String, BTreeMap<String, Span>>,
    /// Models whose SQL does not parse or names what is not there: they are not bound.
    broken: BTreeSet<String>,
}

fn read(project: &Project, engine: &Engine, findings: &mut Vec<Diagnostic>) -> Read {
    let mut needs = BTreeMap::new();
    let mut places = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for (name, model) in &project.models {
        let found = engine.sql_places(model).unwrap_or_else(|finding| {
            findings.push(*finding);
            broken.insert(name.clone());
            BTreeMap::new()
        });
        let wrong = check_sql_tables(project, &found);
        if !wrong.is_empty() {
            findings.extend(wrong);
            broken.insert(name.clone());
        }
        needs.insert(name.clone(), direct(project, model, found.keys().cloned().collect()));
        places.insert(name.clone(), found);
    }
    let graph = Graph::new(needs).with_tests(tests(project, engine, findings));
    for (tested, read) in graph.circular_tests() {
        findings.extend(circular(project, engine, &tested, &read));
    }
    Read { graph, places, broken }
}

/// The graph of a project; what its SQL does not tell is a finding.
pub(super) fn graph(project: &Project, engine: &Engine, findings: &mut Vec<Diagnostic>) -> Graph {
    read(project, engine, findings).graph
}

/// The models that the options select.
pub(super) fn selection(
    options: &Options,
    project: &Project,
    graph: &Graph,
    engine: &Engine,
) -> Result<BTreeSet<String>, Failure> {
    let request = Request {
        select: options.select.clone(),
        exclude: options.exclude.clone(),
        changed: changed(options, || manifest(project, graph, engine))?,
    };
    Ok(Selection::parse(&request, graph, project).map_err(|errors| selection_error(&errors))?.models)
}

/// What the data tests of each table read beside it.
fn tests(project: &Project, engine: &Engine, findings: &mut Vec<Diagnostic>) -> BTreeMap<String, BTreeSet<String>> {
    let mut reads = BTreeMap::new();
    for tested in project.tested() {
        let mut names = BTreeSet::new();
        for test in project.tests_of(&tested) {
            match engine.test_references(test) {
                Ok(found) => names.extend(found.iter().map(|name| owner(project, name))),
                Err(finding) => findings.push(*finding),
            }
        }
        names.remove(&tested);
        reads.insert(tested, names);
    }
    reads
}

/// The tests of `tested` that read `read`, which waits for them.
fn circular(project: &Project, engine: &Engine, tested: &str, read: &str) -> Vec<Diagnostic> {
    let reads_it = |test: &&DataTest| {
        let names = engine.test_references(test).unwrap_or_default();
        names.iter().any(|name| owner(project, name) == read)
    };
    let message = format!("this test of `{tested}` reads `{read}`, which is built after the tests of `{tested}`");
    let finding = |test: &DataTest| {
        Diagnostic::error(Code::TestCircle, test.span, &message)
            .with_label("could never run")
            .with_help(format!("write the test at `{read}`"))
    };
    project.tests_of(tested).iter().filter(reads_it).map(finding).collect()
}

fn selection_error(errors: &[SelectorError]) -> Failure {
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let error = Error::new(ErrorKind::Usage, messages.join("; "));
    let help = errors.iter().map(help_with).next().flatten();
    Failure::Error(match help {
        Some(help) => error.with_help(help),
        None => error,
    })
}

/// The way out of a selector that cannot mean anything.
fn help_with(error: &SelectorError) -> Option<String> {
    match error.problem {
        Problem::NoState => Some(
            "name one with `--state PATH`; `kinfold manifest > manifest.json` writes one, a run leaves target/manifest.json"
                .to_owned(),
        ),
        Problem::NothingInCommon => {
            Some("a comma asks for models that match all parts; write a blank to get the models of each part".to_owned())
        }
        Problem::UnknownMethod => Some(format!("there are: {}", error.known.join(", "))),
        Problem::MatchesNo(_) => {
            let core = error.selector.trim_matches(|c: char| c == '+' || c.is_ascii_digit());
            let near = nearest(core, error.known.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
            near.or_else(|| Some(format!("there are: {}", shortened(&error.known))))
        }
    }
}

/// The first of many names.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{first} and {} more", names.len() - SHOWN) } else { first }
}
