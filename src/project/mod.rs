//! From files to a validated project: every mistake of every file at once.
//!
//! [`load`] reads `kinfold.yaml` (optional), `sources.yaml`, `destinations.yaml` (optional),
//! `macros/**/*.sql` and `models/**/*.{yaml,yml,sql}`, in sorted order. YAML becomes a tree with places, the
//! environment is expanded, and each document is decoded by hand into the types of [`crate::model`]; then all
//! references that need no data are checked by name. SQL text is rendered, but not parsed: that is the
//! engine's part.
//!
//! Rules: a mistake never hides another one, except that a file with broken YAML says only that, and that
//! unknown names are not reported while a definition is missing because of another mistake. Messages show
//! the author's text, never values from the environment. A project is given only when nothing is wrong;
//! warnings do not stop it. No data is read and no network is used.

mod audience;
mod checks;
mod consent;
mod deliveries;
mod destinations;
mod environment;
mod files;
mod identity;
mod lists;
mod meaning;
mod models;
mod narrowing;
mod privacy;
mod profile;
mod reader;
mod references;
pub mod schema;
mod settings;
mod sources;
mod sql_tables;
mod suggest;
mod sync;
mod template;
#[cfg(test)]
mod tests;
mod unit;
mod values;
mod yaml;

use crate::diagnostic::{Code, Diagnostic, FileId, Severity, SourceMap, Span};
use crate::model::{Project, Settings};
pub use sql_tables::check_sql_tables;
pub use suggest::nearest;

use environment::Expander;
use models::ModelFile;
use reader::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use template::Templates;
use values::Zone;
use yaml::Node;

/// What the caller decides about loading.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Target of `kinfold.yaml` to use; `None` is the file's own default.
    pub target: Option<String>,
    /// Variables that override those of the file and the target.
    pub vars: BTreeMap<String, String>,
    /// Environment variables that are not set (and have no default) are empty, with a warning, instead of an
    /// error: to check definitions where no credentials are.
    pub allow_missing_environment: bool,
}

/// A loaded project, or what is wrong with it.
#[derive(Debug)]
pub struct Loaded {
    /// The project; `None` when any finding is an error.
    pub project: Option<Project>,
    /// Every file that was read, for rendering findings and for later ones.
    pub sources: SourceMap,
    /// All findings in their stable order: by path, position and code.
    pub diagnostics: Vec<Diagnostic>,
}

/// Loads the project in `root`. `env` looks up environment variables; nothing else is taken from outside
/// the folder.
pub fn load(root: &Path, options: &LoadOptions, env: &dyn Fn(&str) -> Option<String>) -> Loaded {
    let mut loader = Loader::new(root, options, env);
    let settings = loader.settings();
    loader.macros();
    let source_documents = loader.documents("sources.yaml", true);
    let destination_documents = loader.documents("destinations.yaml", false);
    let (yaml, sql) = loader.model_files();
    let mut reader = loader.reader;
    let mut sources = sources::read(&mut reader, &source_documents);
    for source in sources.iter_mut().filter(|source| source.regions.is_empty()) {
        source.regions.clone_from(&settings.regions);
    }
    let destinations = destinations::read(&mut reader, &destination_documents);
    let models = models::read(&mut reader, &yaml, &sql);
    references::check(&mut reader, &sources, &destinations, &models);
    deliveries::check(&mut reader, &settings.secrets, &destinations, &models);
    meaning::check(&mut reader, &models);
    consent::check(&mut reader, &destinations, &models);
    reader.report_missing_keys();
    let Reader { sources: files, mut findings, .. } = reader;
    for finding in &mut findings {
        explain_environment(finding, &files);
    }
    let diagnostics: Vec<Diagnostic> = crate::diagnostic::sorted(&findings, &files).into_iter().cloned().collect();
    let sound = diagnostics.iter().all(|d| d.severity != Severity::Error);
    let project = sound.then_some(Project {
        settings,
        sources,
        destinations,
        models: models.enabled,
        consent: models.consent,
        unit_tests: models.unit_tests,
    });
    Loaded { project, sources: files, diagnostics }
}

/// Says why a message shows `${NAME}` instead of what is wrong.
fn explain_environment(finding: &mut Diagnostic, files: &SourceMap) {
    let about_it = matches!(finding.code, Code::EnvironmentMissing | Code::EnvironmentSyntax);
    let shown = finding.span.map_or("", |span| files.text(span));
    let quoted = finding.message.contains("${");
    if !about_it && quoted && shown.contains("${") {
        finding.notes.push("values from the environment are not shown".to_owned());
    }
}

/// Reading of files into a [`Reader`].
struct Loader<'a> {
    reader: Reader<'a>,
    options: &'a LoadOptions,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Loader<'a> {
    fn new(root: &'a Path, options: &'a LoadOptions, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let reader = Reader {
            root,
            sources: SourceMap::default(),
            findings: Vec::new(),
            templates: Templates::new(&BTreeMap::new()),
            zone: Zone::Named,
            missing: BTreeMap::new(),
            undecided: BTreeSet::new(),
            incomplete: false,
        };
        Self { reader, options, env }
    }

    /// `kinfold.yaml`, and with it the variables of templates and the zone of times.
    fn settings(&mut self) -> Settings {
        let documents = self.documents("kinfold.yaml", false);
        self.reader.zone = Zone::parse("UTC").unwrap_or(Zone::Named);
        let folder = self.reader.root.file_name().map_or("project".to_owned(), |n| n.to_string_lossy().into_owned());
        let defaults = settings::defaults(folder);
        let settings = settings::read(&mut self.reader, &documents, defaults, self.options);
        self.reader.templates = Templates::new(&settings.vars);
        settings
    }

    fn macros(&mut self) {
        for id in self.files("macros", &["sql"]) {
            let Some(file) = self.reader.sources.file(id) else { continue };
            let (path, text) = (file.path.clone(), file.text.clone());
            if let Err(failure) = self.reader.templates.add_macros(&path, &text) {
                let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
                let whole = crate::diagnostic::Spanned::new(text, Span { file: id, start: 0, end });
                self.reader.template_failure(&failure, &whole);
            }
        }
    }

    /// The YAML documents of one file; a missing one is reported when it is required.
    fn documents(&mut self, path: &str, required: bool) -> Vec<Node> {
        match files::read(&self.reader.root.join(path)) {
            Ok(text) => {
                let id = self.reader.sources.add(path, text);
                self.parse(id)
            }
            Err(failure) if failure.missing && !required => Vec::new(),
            Err(failure) if failure.missing => {
                self.reader.incomplete = true;
                let finding = Diagnostic::placeless(Code::ProjectFileMissing, format!("there is no `{path}` here"))
                    .with_help(
                        "go to the project's folder or name it with `--project`; `kinfold init` makes a new one",
                    );
                self.reader.findings.push(finding);
                Vec::new()
            }
            Err(failure) => {
                self.unread(path, failure);
                Vec::new()
            }
        }
    }

    fn parse(&mut self, id: FileId) -> Vec<Node> {
        let Some(file) = self.reader.sources.file(id) else { return Vec::new() };
        let mut findings = Vec::new();
        let mut documents = yaml::parse(id, file, &mut findings);
        if documents.is_empty() && !findings.is_empty() {
            self.reader.incomplete = true;
        }
        let mut expander = Expander {
            env: self.env,
            allow_missing: self.options.allow_missing_environment,
            sources: &self.reader.sources,
            findings: &mut findings,
        };
        for document in &mut documents {
            expander.expand(document);
        }
        self.reader.findings.extend(findings);
        documents
    }

    /// A file that is there and cannot be read: what it defines is not known.
    fn unread(&mut self, path: &str, failure: files::Failure) {
        self.reader.incomplete = true;
        let character = failure.text[failure.at..].chars().next().map_or(0, char::len_utf8);
        let file = self.reader.sources.add(path, failure.text);
        let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let span = Span { file, start: clip(failure.at), end: clip(failure.at + character) };
        let finding = Diagnostic::error(failure.code, span, failure.message).with_label("not read");
        let way_out = failure.code.text().map(|text| text.fix);
        self.reader.findings.push(match way_out {
            Some(help) => finding.with_help(help),
            None => finding,
        });
    }

    /// Reads all files of a folder with these endings, in sorted order.
    fn files(&mut self, folder: &str, endings: &[&str]) -> Vec<FileId> {
        let (paths, unread) = files::walk(self.reader.root, folder, endings);
        for (path, failure) in unread {
            self.unread(&path, failure);
        }
        let mut ids = Vec::new();
        for path in paths {
            match files::read(&self.reader.root.join(&path)) {
                Ok(text) => ids.push(self.reader.sources.add(path, text)),
                Err(failure) => self.unread(&path, failure),
            }
        }
        ids
    }

    fn model_files(&mut self) -> (Vec<ModelFile>, Vec<FileId>) {
        let ids = self.files("models", &["sql", "yaml", "yml"]);
        let is_sql = |id: &FileId| {
            self.reader.sources.file(*id).is_some_and(|f| Path::new(&f.path).extension().is_some_and(|e| e == "sql"))
        };
        let (sql, yaml): (Vec<_>, Vec<_>) = ids.into_iter().partition(is_sql);
        let yaml = yaml.into_iter().map(|id| ModelFile { id, documents: self.parse(id) }).collect();
        (yaml, sql)
    }
}
