//! Unit tests: models built from given rows, in memory, at a fixed logical time.
//!
//! Each test has an engine of its own, bound and built by the same code as a run, over a warehouse that lives
//! in memory. Nothing is read but the project's files; variables that the environment lacks are no mistake. A
//! test builds what its model needs, up to what it gives. All tests are bound before the first is run, so that
//! wrong definitions are said at once.

use super::prepare::{Failure, Options, graph, loaded_with, selection};
use super::rows::{Compared, TableDifference, compare};
use crate::diagnostic::{Code, Diagnostic, Severity, SourceMap};
use crate::engine::{Engine, Output, Resources, RunContext};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::graph::{Graph, owner};
use crate::model::{ModelKind, Project, UnitTest};
use crate::project::nearest;
use crate::warehouse::{Snapshot, Warehouse};
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use url::Url;

/// Memory of one test: its rows were written by hand.
const MEMORY_BYTES: usize = 256 << 20;
/// Keys of ids that a project keeps in its warehouse; tests have no warehouse, and compare no ids.
const ID_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// How a unit test ended.
#[derive(Debug)]
pub enum UnitOutcome {
    /// All rows are as expected.
    Passed,
    /// Rows are not as expected.
    Failed(Vec<TableDifference>),
    /// The models could not be built.
    Broken(Error),
}

/// What came of one unit test.
#[derive(Debug)]
pub struct UnitReport {
    /// The test.
    pub name: String,
    /// The model that it tests.
    pub model: String,
    /// Its file, and the line there.
    pub place: (String, usize),
    /// Duration of binding and building, in seconds.
    pub seconds: f64,
    /// How it ended.
    pub outcome: UnitOutcome,
}

/// All unit tests of a command.
#[derive(Debug)]
pub struct UnitRun {
    /// In the order of their files.
    pub tests: Vec<UnitReport>,
    /// How many tests the project has.
    pub defined: usize,
}

impl UnitRun {
    /// Whether all tests passed.
    pub fn is_success(&self) -> bool {
        self.tests.iter().all(|t| matches!(t.outcome, UnitOutcome::Passed))
    }
}

/// A test whose models are bound.
struct Bound {
    test: UnitTest,
    engine: Engine,
    /// Models to build or fill, in order.
    order: Vec<String>,
    seconds: f64,
}

/// Runs the unit tests with these names, or of the selected models; without both, all. `ended` hears of each.
///
/// # Errors
/// Findings when a test or what it tests is wrong; `Usage` for a name that is no test.
pub async fn test_units(
    options: &Options,
    names: &[String],
    ended: &(dyn Fn(&UnitReport) + Sync),
) -> Result<UnitRun, Failure> {
    let (project, map, _) = loaded_with(options, true)?;
    let mut findings = Vec::new();
    let scratch = engine(options, &project, &map, 0)?;
    let graph = graph(&project, &scratch, &mut findings);
    let tests = selected(options, names, &project, &graph, &scratch)?;
    let mut bound = Vec::new();
    for test in tests {
        bound.extend(bind(options, &project, &map, &graph, test, &mut findings).await?);
    }
    stop_on_errors(findings, &map)?;
    let mut reports = Vec::new();
    for one in bound {
        let report = run(one, &map).await;
        ended(&report);
        reports.push(report);
    }
    Ok(UnitRun { tests: reports, defined: project.unit_tests.len() })
}

/// Findings of all unit tests against the models as they are bound: for `check`.
pub(super) fn check(project: &Project, engine: &Engine) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for test in project.unit_tests.iter().filter(|t| engine.is_bound(&t.model.value)) {
        let mut test = test.clone();
        // a selection may leave out what another one would bind
        let elsewhere = |name: &str| !engine.is_bound(name) && project.models.contains_key(&owner(project, name));
        test.expect.retain(|table| !elsewhere(&table.name.value));
        findings.extend(engine.check_given(&test));
        findings.extend(engine.bind_expected(&test));
    }
    findings
}

fn stop_on_errors(findings: Vec<Diagnostic>, map: &SourceMap) -> Result<(), Failure> {
    let mut errors: Vec<Diagnostic> = Vec::new();
    // one mistake of a model is found by each of its tests
    for finding in findings.into_iter().filter(|f| f.severity == Severity::Error) {
        let known = |e: &Diagnostic| (e.code, e.span, &e.message) == (finding.code, finding.span, &finding.message);
        if !errors.iter().any(known) {
            errors.push(finding);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::Findings(errors, Box::new(map.clone()))) }
}

fn selected(
    options: &Options,
    names: &[String],
    project: &Project,
    graph: &Graph,
    engine: &Engine,
) -> Result<Vec<UnitTest>, Failure> {
    let tests = &project.unit_tests;
    let known = || tests.iter().map(|t| t.name.value.as_str());
    for name in names {
        if !known().any(|k| k == name) {
            let error = Error::new(ErrorKind::Usage, format!("no unit test `{name}`"));
            let error = match nearest(name, known()) {
                Some(near) => error.with_help(format!("did you mean `{near}`?")),
                None => error.with_help(format!("there are: {}", known().collect::<Vec<_>>().join(", "))),
            };
            return Err(Failure::Error(error));
        }
    }
    let models = selection(options, project, graph, engine)?;
    let wanted = |t: &&UnitTest| {
        let named = names.is_empty() || names.contains(&t.name.value);
        named && models.contains(&t.model.value)
    };
    Ok(tests.iter().filter(wanted).cloned().collect())
}

fn engine(options: &Options, project: &Arc<Project>, map: &SourceMap, as_of: i64) -> Result<Engine> {
    let resources = Resources { threads: 1, memory_bytes: MEMORY_BYTES };
    Engine::open(Arc::clone(project), map.clone(), &options.root, options.environment.clone(), as_of, resources)
}

async fn bind(
    options: &Options,
    project: &Arc<Project>,
    map: &SourceMap,
    graph: &Graph,
    test: UnitTest,
    findings: &mut Vec<Diagnostic>,
) -> Result<Option<Bound>, Failure> {
    let started = Instant::now();
    let Some(as_of) = test.as_of.or(project.settings.as_of) else {
        let message = format!("the unit test `{}` needs `as_of`", test.name.value);
        findings.push(
            Diagnostic::error(Code::MissingKey, test.name.span, message)
                .with_label("at which time?")
                .with_help("add `as_of:` here, or in kinfold.yaml"),
        );
        return Ok(None);
    };
    let Ok(order) = graph.order() else {
        let message = "models need each other in a circle: `kinfold check` says which";
        return Err(Failure::Error(Error::new(ErrorKind::Usage, message)));
    };
    let mut engine = engine(options, project, map, as_of.timestamp_micros())?;
    let targets: BTreeSet<String> =
        test.expect.iter().map(|e| &e.name.value).chain([&test.model.value]).map(|n| owner(project, n)).collect();
    let mut needed = BTreeSet::new();
    for target in targets.iter().filter(|t| project.models.contains_key(*t)) {
        needed.extend(graph.upstream(target));
    }
    let order: Vec<String> = order.into_iter().filter(|n| needed.contains(n)).collect();
    let tables = graph.tables_of(&needed);
    let before = findings.len();
    engine.give(&test.given, &order);
    findings.extend(unread(&test, &needed, &tables));
    findings.extend(engine.bind(&tables, &order, graph.needs()).await?);
    findings.extend(engine.bind_given());
    if findings[before..].iter().all(|f| f.severity != Severity::Error) {
        findings.extend(engine.bind_expected(&test));
    }
    for finding in &mut findings[before..] {
        explain(finding, &test, map);
    }
    let built = to_build(project, graph, &test, &targets);
    let order = order.into_iter().filter(|n| built.contains(n)).collect();
    Ok(Some(Bound { test, engine, order, seconds: started.elapsed().as_secs_f64() }))
}

/// Says of a finding in a model which test saw it, and that types may have been guessed.
fn explain(finding: &mut Diagnostic, test: &UnitTest, map: &SourceMap) {
    if finding.span.is_some_and(|span| map.path(span) == test.path) {
        return;
    }
    finding.notes.push(format!(
        "seen by the unit test `{}`, which knows the columns that sources.yaml, the models and the test name",
        test.name.value
    ));
}

/// Given tables that the models of a test do not read.
fn unread(test: &UnitTest, models: &BTreeSet<String>, tables: &BTreeSet<String>) -> Vec<Diagnostic> {
    let read = |name: &String| models.contains(name) || tables.contains(name);
    let unread = test.given.iter().filter(|g| !read(&g.name.value));
    let finding = |name: &crate::diagnostic::Spanned<String>| {
        let message = format!("`{}` does not read `{}`, directly or not", test.model.value, name.value);
        Diagnostic::error(Code::NoMeaning, name.span, message)
            .with_label("these rows change nothing")
            .with_help("remove them")
    };
    unread.map(|g| finding(&g.name)).collect()
}

/// The models that a test builds or fills: what its tables need, up to what is given. A given profile or
/// audience still needs its identity's entities.
fn to_build(project: &Project, graph: &Graph, test: &UnitTest, targets: &BTreeSet<String>) -> BTreeSet<String> {
    let given = |name: &str| test.given.iter().any(|g| g.name.value == name);
    let is_identity =
        |name: &String| project.models.get(name).is_some_and(|m| matches!(m.kind, ModelKind::Identity(_)));
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = targets.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let mut needs = graph.models_of(&name);
        if given(&name) {
            needs.retain(is_identity);
        }
        if found.insert(name) {
            open.extend(needs);
        }
    }
    found
}

async fn run(bound: Bound, map: &SourceMap) -> UnitReport {
    let started = Instant::now();
    let outcome = match build(&bound).await {
        Ok(differences) if differences.is_empty() => UnitOutcome::Passed,
        Ok(differences) => UnitOutcome::Failed(differences),
        Err(error) => UnitOutcome::Broken(error),
    };
    let Bound { test, seconds, .. } = bound;
    UnitReport {
        place: (test.path, map.line_column(test.name.span).0),
        name: test.name.value,
        model: test.model.value,
        seconds: seconds + started.elapsed().as_secs_f64(),
        outcome,
    }
}

async fn build(bound: &Bound) -> Result<Vec<TableDifference>> {
    let engine = &bound.engine;
    let url = Url::parse("memory:///").or_fail(ErrorKind::Failed, || "cannot make a warehouse in memory".to_owned())?;
    let warehouse = Arc::new(Warehouse::with_store(Arc::new(InMemory::new()), Path::default(), url));
    let built: BTreeSet<String> = bound.order.iter().cloned().collect();
    for model in &built {
        warehouse.state().create(&format!("_kinfold/secrets/id_key_{model}"), ID_KEY.into()).await?;
    }
    let context = RunContext {
        number: 1,
        warehouse,
        base: Snapshot::default(),
        selected: built,
        partials: None,
        updates: Arc::default(),
    };
    let mut outputs: BTreeMap<String, Output> = BTreeMap::new();
    for model in bound.order.iter().filter(|m| !engine.is_sync(m)) {
        if engine.fill_given(model)? {
            continue;
        }
        let made = engine.build(model, &context).await?;
        outputs.extend(made.outputs.into_iter().map(|o| (o.table.clone(), o)));
    }
    let mut tables = Vec::new();
    for wanted in &bound.test.expect {
        tables.push(Compared {
            table: wanted.name.value.clone(),
            expected: engine.expected(wanted),
            actual: engine.actual(wanted, &outputs).await?,
            ordered: wanted.ordered,
            exactly: wanted.exactly,
        });
    }
    Ok(compare(&tables, &engine.names_of_ids(&bound.test)))
}
