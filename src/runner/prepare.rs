//! From a folder to bound models, with all findings.

use super::unit;
use crate::diagnostic::{Code, Diagnostic, Severity, SourceMap};
use crate::engine::{Engine, Resources};
use crate::error::{Error, ErrorKind};
use crate::graph::{Graph, Selection, direct, owner};
use crate::model::{DataTest, Project};
use crate::project::{LoadOptions, Loaded, load, nearest};
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
    /// Threads and memory.
    pub resources: Resources,
    /// Environment variables.
    pub environment: Environment,
    /// Start of the command.
    pub now: DateTime<Utc>,
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
pub async fn prepare(options: &Options) -> Result<Prepared, Failure> {
    let (project, map, warnings) = loaded(options)?;
    prepare_for(options, project, map, warnings).await
}

/// Loads and binds what the selection needs, as [`prepare`], and says what is wrong with tests, too: with data
/// tests of source tables that no model reads, and with unit tests.
///
/// # Errors
/// As [`prepare`].
pub async fn check(options: &Options) -> Result<Prepared, Failure> {
    let (project, map, warnings) = loaded(options)?;
    let mut also = Also::default();
    if options.select.is_empty() {
        also.tables.extend(project.tested().into_iter().filter(|name| name.contains('.')));
    }
    let mut prepared = prepare_with(options, project, map, warnings, &also).await?;
    prepared.warnings.extend(unit::check(&prepared.project, &prepared.engine));
    stop_on_errors(&prepared.warnings, &prepared.engine)?;
    Ok(prepared)
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
    project: Arc<Project>,
    map: SourceMap,
    findings: Vec<Diagnostic>,
) -> Result<Prepared, Failure> {
    prepare_with(options, project, map, findings, &Also::default()).await
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
    project: Arc<Project>,
    map: SourceMap,
    mut findings: Vec<Diagnostic>,
    also: &Also,
) -> Result<Prepared, Failure> {
    let as_of = options.as_of.or(project.settings.as_of).unwrap_or(options.now);
    let mut engine = Engine::open(
        Arc::clone(&project),
        map,
        &options.root,
        options.environment.clone(),
        as_of.timestamp_micros(),
        options.resources,
    )?;
    let graph = graph(&project, &engine, &mut findings);
    let order = match graph.order() {
        Ok(order) => order,
        Err(cycles) => {
            findings.extend(cycles.iter().map(|c| cycle(&project, c)));
            Vec::new()
        }
    };
    stop_on_errors(&findings, &engine)?;
    let selected = if also.alone {
        BTreeSet::new()
    } else {
        let selection = Selection::parse(&options.select, &graph, &project);
        selection.map_err(|errors| selection_error(&errors))?.models
    };
    let needed = graph.needed(&selected, &also.tables);
    let order: Vec<String> = order.into_iter().filter(|n| needed.models.contains(n)).collect();
    findings.extend(engine.bind(&needed.tables, &order, graph.needs()).await?);
    let tested = graph.tested(&selected).into_iter().chain(also.tables.iter().cloned()).collect();
    findings.extend(engine.bind_tests(&tested).await);
    stop_on_errors(&findings, &engine)?;
    Ok(Prepared { project, graph, order, selected, engine, as_of, warnings: findings })
}

pub(super) fn stop_on_errors(findings: &[Diagnostic], engine: &Engine) -> Result<(), Failure> {
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::Findings(findings.to_vec(), Box::new(engine.source_map().clone())));
    }
    Ok(())
}

pub(super) fn graph(project: &Project, engine: &Engine, findings: &mut Vec<Diagnostic>) -> Graph {
    let mut needs = BTreeMap::new();
    for (name, model) in &project.models {
        let sql = match engine.sql_references(model) {
            Ok(sql) => sql,
            Err(finding) => {
                findings.push(*finding);
                BTreeSet::new()
            }
        };
        needs.insert(name.clone(), direct(project, model, sql));
    }
    let graph = Graph::new(needs).with_tests(tests(project, engine, findings));
    for (tested, read) in graph.circular_tests() {
        findings.extend(circular(project, engine, &tested, &read));
    }
    graph
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

fn cycle(project: &Project, path: &[String]) -> Diagnostic {
    let message = format!("models need each other: {}", path.join(" -> "));
    let place = path.first().and_then(|n| project.models.get(n)).map(|m| m.name.span);
    let finding = match place {
        Some(span) => Diagnostic::error(Code::Cycle, span, message).with_label("the path comes back here"),
        None => Diagnostic::placeless(Code::Cycle, message),
    };
    finding.with_help("break the circle: let one of them read a source table or a further model instead")
}

pub(super) fn selection_error(errors: &[crate::graph::SelectorError]) -> Failure {
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let error = Error::new(ErrorKind::Usage, messages.join("; "));
    let help = errors.iter().find_map(|e| {
        let core = e.selector.trim_matches('+');
        nearest(core, e.known.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"))
    });
    let help = help.or_else(|| errors.first().map(|e| format!("there are: {}", e.known.join(", "))));
    Failure::Error(match help {
        Some(help) => error.with_help(help),
        None => error,
    })
}
