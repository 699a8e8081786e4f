//! OpenLineage events of a run, as one JSON object a line in `target/openlineage.ndjson`, the layout of OpenLineage's
//! own file transport (specification 2-0-2, <https://openlineage.io/docs/spec/object-model>).
//!
//! A run is a job named after the project, and every built model a job of its own whose parent it is. Each has one START
//! and then one COMPLETE or FAIL. Datasets are named as the specification's naming rules say: `file` and an absolute
//! path, or `s3://bucket` and a key. No rows, no values of the environment and no secrets are in an event.

use super::prepare::Prepared;
use super::progress::Progress;
use super::report::{NodeReport, SyncReport};
use crate::diagnostic::{Diagnostic, SourceMap};
use crate::engine::{CheckResult, CheckStatus, Engine};
use crate::error::{Context, ErrorKind, Result};
use crate::graph::{Columns, Graph, LineageGraph, TableLineage};
use crate::warehouse::Location;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use url::Url;

/// Where the events of the last run are, below the project's folder.
const PATH: &str = "target/openlineage.ndjson";
const PRODUCER: &str = concat!("urn:kinfold:", env!("CARGO_PKG_VERSION"));
const SPEC: &str = "https://openlineage.io/spec";

/// Writes events while it passes everything on to another listener.
pub struct Events<'a> {
    progress: &'a dyn Progress,
    project: String,
    as_of: DateTime<Utc>,
    seed: String,
    jobs: BTreeMap<String, Job>,
    /// Models with data tests: they are complete when these have passed.
    tested: BTreeSet<String>,
    path: PathBuf,
    state: Mutex<State>,
}

/// What a model reads and writes.
struct Job {
    kind: &'static str,
    inputs: Vec<Value>,
    /// Name of the table and the dataset.
    outputs: Vec<(String, Value)>,
}

#[derive(Default)]
struct State {
    /// Made when the run has the lease, so that one that has to wait leaves the events of the other alone.
    file: Option<File>,
    /// Jobs that began and did not end.
    open: BTreeSet<String>,
    /// Rows of models that are built and not yet tested.
    untested: BTreeMap<String, u64>,
    failure: Option<std::io::Error>,
}

impl<'a> Events<'a> {
    /// Knows what a run of a prepared project will read and write.
    ///
    /// # Errors
    /// `Usage` when a location cannot be understood.
    pub fn new(prepared: &Prepared, root: &Path, started: DateTime<Utc>, progress: &'a dyn Progress) -> Result<Self> {
        let project = &prepared.project;
        let warehouse = Location::parse(&project.settings.warehouse, root)?.url()?;
        let names = Names { root, warehouse, prepared, lineage: prepared.engine.lineage_graph() };
        let jobs = prepared.selected.iter().map(|model| Ok((model.clone(), names.job(model)?)));
        Ok(Self {
            progress,
            project: project.settings.name.clone(),
            as_of: prepared.as_of,
            seed: format!("{} {}", project.settings.warehouse, started.to_rfc3339()),
            jobs: jobs.collect::<Result<_>>()?,
            tested: project.tested().into_iter().collect(),
            path: root.join(PATH),
            state: Mutex::default(),
        })
    }

    /// Ends what is still open, with the failure that ended the run.
    ///
    /// # Errors
    /// `Storage` when some event could not be written.
    pub fn end(self, failure: Option<&str>) -> Result<()> {
        let open: Vec<String> = self.lock().open.iter().cloned().collect();
        // the run itself is the empty name, which sorts first and ends last
        for job in open.into_iter().rev() {
            let kind = if failure.is_some() { "FAIL" } else { "COMPLETE" };
            self.write(kind, &job, None, failure);
        }
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let path = self.path.display();
        state.failure.map_or(Ok(()), |e| Err(e).or_fail(ErrorKind::Storage, || format!("cannot write {path}")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one event about a model, or with an empty name about the run.
    fn write(&self, kind: &str, model: &str, rows: Option<u64>, failure: Option<&str>) {
        let event = json!({
            "eventType": kind,
            "eventTime": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
            "producer": PRODUCER,
            "schemaURL": format!("{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"),
            "run": {"runId": self.run_id(model), "facets": self.run_facets(model, failure)},
            "job": {"namespace": self.project, "name": self.job_name(model), "facets": self.job_facets(model)},
            "inputs": self.jobs.get(model).map(|j| j.inputs.clone()).unwrap_or_default(),
            "outputs": self.outputs(model, rows),
        });
        let mut state = self.lock();
        let Some(file) = &mut state.file else { return };
        if let Err(error) = writeln!(file, "{event}") {
            state.failure.get_or_insert(error);
        }
        if kind == "START" {
            state.open.insert(model.to_owned())
        } else {
            state.open.remove(model)
        };
    }

    fn job_name<'n>(&'n self, model: &'n str) -> &'n str {
        if model.is_empty() { &self.project } else { model }
    }

    /// An id that no other run of no other warehouse has, made of what tells them apart (UUID version 8).
    fn run_id(&self, model: &str) -> String {
        let digest = Sha256::digest(format!("{}\n{model}", self.seed));
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = hex::encode(bytes);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    fn run_facets(&self, model: &str, failure: Option<&str>) -> Value {
        let mut facets = Map::new();
        let time = self.as_of.to_rfc3339_opts(SecondsFormat::Secs, true);
        facets
            .insert("nominalTime".to_owned(), facet("1-0-1", "NominalTimeRunFacet", json!({"nominalStartTime": time})));
        if !model.is_empty() {
            let parent = json!({
                "run": {"runId": self.run_id("")},
                "job": {"namespace": self.project, "name": self.project},
            });
            facets.insert("parent".to_owned(), facet("1-1-0", "ParentRunFacet", parent));
        }
        if let Some(message) = failure {
            let error = json!({"message": message, "programmingLanguage": "SQL"});
            facets.insert("errorMessage".to_owned(), facet("1-0-1", "ErrorMessageRunFacet", error));
        }
        Value::Object(facets)
    }

    fn job_facets(&self, model: &str) -> Value {
        let kind = self.jobs.get(model).map_or("run", |j| j.kind);
        let content = json!({"processingType": "BATCH", "integration": "KINFOLD", "jobType": kind.to_uppercase()});
        json!({"jobType": facet("2-0-3", "JobTypeJobFacet", content)})
    }

    /// Output datasets; the first is the model's main table, whose rows are known when it is done.
    fn outputs(&self, model: &str, rows: Option<u64>) -> Vec<Value> {
        let outputs = self.jobs.get(model).map(|j| j.outputs.as_slice()).unwrap_or_default();
        let mut all: Vec<Value> = outputs.iter().map(|(_, dataset)| dataset.clone()).collect();
        if let (Some(rows), Some(main)) = (rows, outputs.iter().position(|(table, _)| table == model)) {
            let statistics = facet("1-0-2", "OutputStatisticsOutputDatasetFacet", json!({"rowCount": rows}));
            all[main]["outputFacets"] = json!({"outputStatistics": statistics});
        }
        all
    }
}

impl Progress for Events<'_> {
    fn begun(&self, run: u64, builds: usize) {
        let folder = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        match folder.and_then(|()| File::create(&self.path)) {
            Ok(file) => self.lock().file = Some(file),
            Err(error) => self.lock().failure = Some(error),
        }
        self.write("START", "", None, None);
        self.progress.begun(run, builds);
    }

    fn started(&self, model: &str) {
        self.write("START", model, None, None);
        self.progress.started(model);
    }

    fn finished(&self, node: &NodeReport) {
        if self.tested.contains(&node.model) {
            self.lock().untested.insert(node.model.clone(), node.rows);
        } else {
            self.write("COMPLETE", &node.model, Some(node.rows), None);
        }
        self.progress.finished(node);
    }

    fn synced(&self, sync: &SyncReport) {
        self.write("START", &sync.sync, None, None);
        let kind = if sync.error.is_some() { "FAIL" } else { "COMPLETE" };
        self.write(kind, &sync.sync, None, sync.error.as_deref());
        self.progress.synced(sync);
    }

    fn tested(&self, results: &[CheckResult]) {
        if let Some(model) = results.first().map(|r| &r.model) {
            let rows = self.lock().untested.remove(model);
            let failed = results.iter().any(|r| r.status == CheckStatus::Fail);
            match rows {
                Some(_) if failed => self.write("FAIL", model, None, Some("its data tests failed")),
                Some(rows) => self.write("COMPLETE", model, Some(rows), None),
                // a source table is no job
                None => {}
            }
        }
        self.progress.tested(results);
    }

    fn note(&self, text: &str) {
        self.progress.note(text);
    }

    fn warnings(&self, findings: &[Diagnostic], map: &SourceMap) {
        self.progress.warnings(findings, map);
    }
}

/// A facet with what every facet has.
fn facet(version: &str, name: &str, content: Value) -> Value {
    let mut facet = content;
    facet["_producer"] = PRODUCER.into();
    facet["_schemaURL"] = format!("{SPEC}/facets/{version}/{name}.json#/$defs/{name}").into();
    facet
}

/// How tables are called outside.
struct Names<'a> {
    root: &'a Path,
    warehouse: Url,
    prepared: &'a Prepared,
    lineage: LineageGraph,
}

impl Names<'_> {
    fn job(&self, model: &str) -> Result<Job> {
        let Prepared { project, graph, engine, .. } = self.prepared;
        let mut inputs = Vec::new();
        for name in graph.needs().get(model).into_iter().flatten() {
            inputs.extend(self.input(name, graph, engine)?);
        }
        let mut outputs = Vec::new();
        for (table, columns) in engine.tables_of(model) {
            let mut made = dataset(&self.table_url(&table), &columns);
            if let Some(from) = self.lineage.tables().get(&table) {
                made["facets"]["columnLineage"] = self.columns_from(from)?;
            }
            outputs.push((table, made));
        }
        let kind = project.models.get(model).map_or("", |m| m.kind.word());
        Ok(Job { kind, inputs, outputs })
    }

    /// The facet of direct column lineage: where values come from by column, and what decides the rows.
    fn columns_from(&self, table: &TableLineage) -> Result<Value> {
        let mut fields = Map::new();
        for column in &table.columns {
            fields.insert(column.name.clone(), json!({"inputFields": self.fields(&column.values)?}));
        }
        let content = json!({"fields": fields, "dataset": self.fields(&table.rows)?});
        Ok(facet("1-2-0", "ColumnLineageDatasetFacet", content))
    }

    fn fields(&self, columns: &Columns) -> Result<Vec<Value>> {
        let mut fields = Vec::new();
        // that a row is there at all is no field
        for column in columns.iter().filter(|c| !c.is_rows()) {
            let url = self.url_of(&column.table)?;
            let (namespace, name) = place(&url);
            fields.push(json!({"namespace": namespace, "name": name, "field": column.column}));
        }
        Ok(fields)
    }

    fn input(&self, name: &str, graph: &Graph, engine: &Engine) -> Result<Option<Value>> {
        let columns = engine.columns(name);
        // a view has no table
        if graph.needs().contains_key(name) && columns.is_empty() {
            return Ok(None);
        }
        Ok(Some(dataset(&self.url_of(name)?, &columns)))
    }

    /// Where a source table's files or a made table lie.
    fn url_of(&self, name: &str) -> Result<Url> {
        let Some((source, table)) = self.prepared.project.source_table(name) else {
            return Ok(self.table_url(name));
        };
        let location = Location::parse(&source.location.value, self.root)?;
        let url = location.url()?.join(&table.path.value);
        url.or_fail(ErrorKind::Usage, || format!("`{}` is not a path", table.path.value))
    }

    fn table_url(&self, table: &str) -> Url {
        self.warehouse.join(&table.replace('.', "/")).unwrap_or_else(|_| self.warehouse.clone())
    }
}

/// Namespace and name of a dataset.
fn place(url: &Url) -> (String, &str) {
    let path = url.path().trim_end_matches('/');
    match url.host_str() {
        Some(host) => (format!("{}://{host}", url.scheme()), path.trim_start_matches('/')),
        None => (url.scheme().to_owned(), path),
    }
}

fn dataset(url: &Url, columns: &[(String, String)]) -> Value {
    let (namespace, name) = place(url);
    let fields: Vec<Value> = columns.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
    let mut facets = Map::new();
    if !fields.is_empty() {
        facets.insert("schema".to_owned(), facet("1-1-1", "SchemaDatasetFacet", json!({"fields": fields})));
    }
    json!({"namespace": namespace, "name": name, "facets": facets})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_named_by_the_rules_of_the_specification() {
        let of = |url: &str| {
            let dataset = dataset(&Url::parse(url).expect("a URL"), &[]);
            (dataset["namespace"].clone(), dataset["name"].clone())
        };
        assert_eq!(of("s3://lake/wh/patient/"), ("s3://lake".into(), "wh/patient".into()));
        assert_eq!(of("file:///srv/wh/patient"), ("file".into(), "/srv/wh/patient".into()));
    }
}
