//! From a folder to bound models, with all findings.

use super::schemas;
use super::state::{changed, manifest};
use crate::diagnostic::{Code, Diagnostic, Severity, SourceMap};
use crate::engine::{Engine, Resources};
use crate::error::{Error, ErrorKind};
use crate::graph::{Graph, Problem, Request, Selection, SelectorError, direct};
use crate::model::Project;
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
    /// Selectors of what is left out.
    pub exclude: Vec<String>,
    /// Earlier manifest that `state:` compares with: a file, or a folder with a `manifest.json`.
    pub state: Option<PathBuf>,
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
pub async fn prepare(options: &Options, purpose: Purpose) -> Result<Prepared, Failure> {
    let (project, map, warnings) = loaded(options)?;
    prepare_for(options, purpose, project, map, warnings).await
}

/// What a project is bound for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To see what is wrong: a source table of `schemas.lock` is not looked at.
    Check,
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
    outline_for(options, project, map, warnings)
}

/// Loads without binding.
pub(super) fn loaded(options: &Options) -> Result<(Arc<Project>, SourceMap, Vec<Diagnostic>), Failure> {
    let load_options =
        LoadOptions { target: options.target.clone(), vars: options.vars.clone(), ..LoadOptions::default() };
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
    let outline = outline_for(options, project, map, findings)?;
    let Outline { project, graph, order, selected, mut engine, as_of, warnings: mut findings } = outline;
    engine.use_schemas(schemas::read(&options.root)?, purpose == Purpose::Check);
    let mut needed = BTreeSet::new();
    for name in &selected {
        needed.extend(graph.upstream(name));
    }
    let order: Vec<String> = order.into_iter().filter(|n| needed.contains(n)).collect();
    let tables = graph.tables_of(&needed);
    findings.extend(engine.bind(&tables, &order, graph.needs()).await?);
    stop_on_errors(&findings, &engine)?;
    Ok(Prepared { project, graph, order, selected, engine, as_of, warnings: findings })
}

fn outline_for(
    options: &Options,
    project: Arc<Project>,
    map: SourceMap,
    mut findings: Vec<Diagnostic>,
) -> Result<Outline, Failure> {
    let as_of = options.as_of.or(project.settings.as_of).unwrap_or(options.now);
    let engine = Engine::open(
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
    let request = Request {
        select: options.select.clone(),
        exclude: options.exclude.clone(),
        changed: changed(options, || manifest(&project, &graph, &engine))?,
    };
    let selection = Selection::parse(&request, &graph, &project).map_err(|errors| selection_error(&errors))?;
    Ok(Outline { project, graph, order, selected: selection.models, engine, as_of, warnings: findings })
}

fn stop_on_errors(findings: &[Diagnostic], engine: &Engine) -> Result<(), Failure> {
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::Findings(findings.to_vec(), Box::new(engine.source_map().clone())));
    }
    Ok(())
}

fn graph(project: &Project, engine: &Engine, findings: &mut Vec<Diagnostic>) -> Graph {
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
    Graph::new(needs)
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
