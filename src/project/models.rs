//! `models/**`: one model per YAML document with a `kind`, one per SQL file.
//!
//! A `.sql` file is a model named after it; a YAML document without `kind` (or with `kind: sql`) in the file
//! of the same name beside it describes it. Names are unique over all kinds, disabled models included.

use super::reader::{Fields, Reader};
use super::yaml::{Node, NodeKind};
use super::{audience, checks, consent, files, identity, privacy, profile, sync, unit};
use crate::diagnostic::{Code, Diagnostic, FileId, Span, Spanned};
use crate::model::{
    ConsentModel, DataTest, Increment, Materialize, Model, ModelKind, ModelPrivacy, SqlModel, UnitTest,
};
use std::collections::BTreeMap;

/// Keys of every model.
pub(super) const COMMON: [&str; 9] =
    ["kind", "name", "description", "tags", "enabled", "labels", "label", "declassify", "tests"];
pub(super) const SQL_KEYS: [&str; 5] = ["materialized", "materialize", "unique_key", "columns", "incremental"];
pub(super) const INCREMENTAL_KEYS: [&str; 1] = ["by"];
pub(super) const COLUMN_KEYS: [&str; 3] = ["description", "label", "tests"];

/// The words of `kind:`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sql,
    Identity,
    Profile,
    Audience,
    Sync,
    Consent,
    Test,
}

const KINDS: [(&str, Kind); 7] = [
    ("identity", Kind::Identity),
    ("profile", Kind::Profile),
    ("audience", Kind::Audience),
    ("sync", Kind::Sync),
    ("sql", Kind::Sql),
    ("consent", Kind::Consent),
    ("test", Kind::Test),
];

/// A model file after its YAML was parsed.
pub(super) struct ModelFile {
    /// The file.
    pub id: FileId,
    /// Its documents; none for SQL.
    pub documents: Vec<Node>,
}

/// Models by name.
#[derive(Default)]
pub(super) struct Models {
    /// Those that take part.
    pub enabled: BTreeMap<String, Model>,
    /// Those with `enabled: false`: where they are named.
    pub disabled: BTreeMap<String, Span>,
    /// What people agreed to.
    pub consent: Option<ConsentModel>,
    /// Unit tests, without those that say `enabled: false`.
    pub unit_tests: Vec<UnitTest>,
}

/// What a document says about any model.
#[derive(Default)]
struct Head {
    name: Option<Spanned<String>>,
    description: Option<String>,
    tags: Vec<Spanned<String>>,
    enabled: bool,
    tests: Vec<checks::Draft>,
    privacy: ModelPrivacy,
}

/// What a YAML document says about the SQL file beside it.
struct Sidecar {
    head: Head,
    tests: Vec<DataTest>,
    materialize: Materialize,
    span: Span,
}

/// Reads all model files.
pub(super) fn read(reader: &mut Reader<'_>, yaml: &[ModelFile], sql: &[FileId]) -> Models {
    let mut models = Models::default();
    let mut sidecars: BTreeMap<String, Sidecar> = BTreeMap::new();
    let path_of = |reader: &Reader<'_>, id: FileId| reader.sources.file(id).map_or(String::new(), |f| f.path.clone());
    let sql: Vec<(FileId, String)> = sql.iter().map(|id| (*id, path_of(reader, *id))).collect();
    for file in yaml {
        let path = path_of(reader, file.id);
        let base = files::without_ending(&path).to_owned();
        let beside = sql.iter().any(|(_, p)| files::without_ending(p) == base);
        for document in &file.documents {
            match kind_of(reader, document, beside) {
                Some((Kind::Sql, _)) => {
                    let Some(sidecar) = sidecar(reader, document, &path, beside) else { continue };
                    if let Some(first) = sidecars.get(&base) {
                        reader.conflict(sidecar.span, "kind: sql", first.span, "kind: sql", "keep one document");
                    } else {
                        sidecars.insert(base.clone(), sidecar);
                    }
                }
                Some((Kind::Consent, _)) => consent::read(reader, document, &mut models.consent),
                Some((Kind::Test, _)) => unit::read(reader, document, &path, &mut models.unit_tests),
                Some((kind, what)) => model(reader, &mut models, document, kind, what, &path),
                None => {}
            }
        }
    }
    for (id, path) in sql {
        let sidecar = sidecars.remove(files::without_ending(&path));
        sql_model(reader, &mut models, id, path, sidecar);
    }
    models
}

/// The kind of a document and how to call it.
fn kind_of(reader: &mut Reader<'_>, document: &Node, beside: bool) -> Option<(Kind, &'static str)> {
    let NodeKind::Map(entries) = &document.kind else {
        reader.incomplete = true;
        reader.wrong_type(document, "a model file", "a mapping");
        if let (NodeKind::List(_), Some(finding)) = (&document.kind, reader.findings.last_mut()) {
            finding.help = Some("write each model as a document of its own, with `---` between them".to_owned());
        }
        return None;
    };
    let Some(entry) = entries.iter().find(|e| e.key.value == "kind") else {
        if beside {
            return Some((Kind::Sql, "a SQL model"));
        }
        reader.incomplete = true;
        let words: Vec<&str> = KINDS.iter().map(|(w, _)| *w).collect();
        let has = |key: &str| entries.iter().any(|e| e.key.value == key);
        let help = if has("version") && has("models") {
            "this is a file of dbt: describe each SQL model in a file of its own, NAME.yaml beside NAME.sql"
        } else if has("sources") {
            "sources stand in `sources.yaml` in the project's folder, not in `models/`"
        } else {
            "add `kind:`; to describe a SQL model, give this file the name of its .sql file"
        };
        reader.findings.push(
            Diagnostic::error(Code::DefinesNothing, document.span, "this document defines nothing: it has no `kind`")
                .with_label("`kind` is missing here")
                .with_note(format!("kinds: {}", words[..4].join(", ")))
                .with_help(help),
        );
        return None;
    };
    let kind = reader.word("kind", &entry.value, &KINDS);
    if kind.is_none() {
        reader.incomplete = true;
    }
    Some(match kind? {
        Kind::Sql => (Kind::Sql, "a SQL model"),
        Kind::Identity => (Kind::Identity, "an identity"),
        Kind::Profile => (Kind::Profile, "a profile"),
        Kind::Audience => (Kind::Audience, "an audience"),
        Kind::Sync => (Kind::Sync, "a sync"),
        Kind::Consent => (Kind::Consent, "a consent"),
        Kind::Test => (Kind::Test, "a unit test"),
    })
}

/// What any model may say; `columns` are the keys under which its columns stand.
fn head(reader: &mut Reader<'_>, fields: &Fields<'_>, columns: &[&str]) -> Head {
    Head {
        name: fields.get("name").and_then(|n| reader.name("name", n)),
        description: fields.get("description").and_then(|n| reader.text("description", n)).map(|t| t.value),
        tags: fields.get("tags").map(|n| reader.text_list("tags", n)).unwrap_or_default(),
        enabled: fields.get("enabled").and_then(|n| reader.boolean("enabled", n)).unwrap_or(true),
        tests: fields.get("tests").map(|n| checks::of_table(reader, n)).unwrap_or_default(),
        privacy: privacy::of_model(reader, fields, columns),
    }
}

fn model(reader: &mut Reader<'_>, models: &mut Models, document: &Node, kind: Kind, what: &'static str, path: &str) {
    let (own, columns): (&[&str], &[&str]) = match kind {
        Kind::Identity => (&identity::KEYS, &[]),
        Kind::Profile => (&profile::KEYS, &["attributes", "traits"]),
        Kind::Audience => (&audience::KEYS, &[]),
        Kind::Sync | Kind::Sql | Kind::Consent | Kind::Test => (&sync::KEYS, &[]),
    };
    let Some(fields) = reader.fields(document, what, &[&COMMON, own].concat()) else { return };
    fields.require(reader, "name");
    let head = head(reader, &fields, columns);
    let decoded = match kind {
        Kind::Identity => identity::read(reader, &fields).map(ModelKind::Identity),
        Kind::Profile => profile::read(reader, &fields).map(ModelKind::Profile),
        Kind::Audience => audience::read(reader, &fields).map(ModelKind::Audience),
        Kind::Sync | Kind::Sql | Kind::Consent | Kind::Test => {
            fields.meaningless(reader, &["tests"], "a sync writes no table");
            sync::read(reader, &fields, head.enabled).map(ModelKind::Sync)
        }
    };
    let tests = checks::named(reader, head.tests);
    let Some(name) = head.name else {
        reader.incomplete = true;
        return;
    };
    let Some(kind) = decoded else {
        reader.undecided.insert(name.value);
        return;
    };
    // A disabled sync stays: it keeps its history and sends nothing.
    let stays = head.enabled || matches!(kind, ModelKind::Sync(_));
    let Head { description, tags, privacy, .. } = head;
    let model = Model { name, description, tags, path: path.to_owned(), tests, privacy, kind };
    insert(reader, models, model, stays);
}

fn insert(reader: &mut Reader<'_>, models: &mut Models, model: Model, enabled: bool) {
    let name = &model.name;
    let first = models.enabled.get(&name.value).map(|m| m.name.span);
    if let Some(first) = first.or_else(|| models.disabled.get(&name.value).copied()) {
        reader.duplicate_name("the model", name, first);
    } else if enabled {
        models.enabled.insert(name.value.clone(), model);
    } else {
        models.disabled.insert(name.value.clone(), name.span);
    }
}

fn sidecar(reader: &mut Reader<'_>, document: &Node, path: &str, beside: bool) -> Option<Sidecar> {
    let stem = files::stem(path);
    if !beside {
        reader.findings.push(
            Diagnostic::error(
                Code::DefinesNothing,
                document.span,
                format!("there is no `{stem}.sql` beside this file"),
            )
            .with_label("describes a SQL model that does not exist"),
        );
        reader.incomplete = true;
    }
    let fields = reader.fields(document, "a SQL model", &[&COMMON[..], &SQL_KEYS].concat())?;
    let mut head = head(reader, &fields, &["columns"]);
    if let Some(name) = head.name.as_ref().filter(|n| n.value != stem) {
        reader.findings.push(
            Diagnostic::error(
                Code::Conflict,
                name.span,
                format!("the name must be `{stem}`, the name of the SQL file"),
            )
            .with_label("another name")
            .with_help("remove `name`, or rename both files"),
        );
    }
    let materialize = materialize(reader, &fields);
    for entry in fields.get("columns").and_then(|n| reader.entries(n, "columns")).unwrap_or_default() {
        let Some(column) = reader.fields(&entry.value, "a column", &COLUMN_KEYS) else { continue };
        if let Some(node) = column.get("tests") {
            head.tests.extend(checks::of_column(reader, &entry.key, node));
        }
    }
    let tests = checks::named(reader, std::mem::take(&mut head.tests));
    Some(Sidecar { head, tests, materialize, span: document.span })
}

fn materialize(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Materialize {
    let words = ["table", "view", "incremental"].map(|word| (word, word));
    if let (Some(first), Some(second)) = (fields.key_span("materialized"), fields.key_span("materialize")) {
        reader.conflict(second, "materialize", first, "materialized", "keep one of them");
    }
    let found = ["materialized", "materialize"].iter().find_map(|k| fields.get(k).map(|n| (*k, n)));
    let word = found.and_then(|(key, node)| reader.word(key, node, &words));
    let increment = increment(reader, fields);
    match (word, found) {
        (Some("incremental"), Some((key, node))) => {
            if increment.key().is_empty() && !fields.has_any(&["unique_key", "incremental"]) {
                reader.findings.push(
                    Diagnostic::error(Code::NotIncremental, node.span, format!("`{key}: incremental` needs a key"))
                        .with_label("by what are rows told apart?")
                        .with_help("add `unique_key:`, or `incremental: {by: ...}` where no column names a row"),
                );
            }
            Materialize::Incremental(increment)
        }
        (word, _) => {
            // an unknown word has had its finding
            if word.is_some() || found.is_none() {
                fields.meaningless(reader, &["unique_key", "incremental"], "needs `materialized: incremental`");
            }
            if word == Some("view") { Materialize::View } else { Materialize::Table }
        }
    }
}

/// By which columns a table grows.
fn increment(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Increment {
    let unique_key = fields.get("unique_key").map(|n| reader.column_list("unique_key", n)).unwrap_or_default();
    let inner = fields.get("incremental").and_then(|n| reader.fields(n, "incremental", &INCREMENTAL_KEYS));
    let by = inner.and_then(|f| f.require(reader, "by")).map(|n| reader.column_list("by", n)).unwrap_or_default();
    let outside = by.iter().find(|c| !unique_key.is_empty() && unique_key.iter().all(|k| k.value != c.value));
    if let Some(column) = outside {
        let message = format!("`{}` is not among the columns of `unique_key`", column.value);
        reader.findings.push(
            Diagnostic::error(Code::NotIncremental, column.span, message)
                .with_label("rows of one key could be made at different times")
                .with_help("add it to `unique_key`, or leave one of the two out"),
        );
    }
    Increment { unique_key, by }
}

fn sql_model(reader: &mut Reader<'_>, models: &mut Models, id: FileId, path: String, sidecar: Option<Sidecar>) {
    let text = reader.sources.file(id).map_or(String::new(), |f| f.text.clone());
    let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let start = Span { file: id, start: 0, end: 0 };
    // a byte order mark is no SQL
    let (whole, text) = match text.strip_prefix('\u{feff}') {
        Some(rest) => (Span { file: id, start: 3, end }, rest.to_owned()),
        None => (Span { file: id, start: 0, end }, text),
    };
    let bare = || Head { enabled: true, ..Head::default() };
    let (head, tests, materialize) = match sidecar {
        Some(sidecar) => (sidecar.head, sidecar.tests, sidecar.materialize),
        None => (bare(), Vec::new(), Materialize::Table),
    };
    let Some(name) = file_name(reader, &path, start) else { return };
    if text.trim().is_empty() {
        reader.findings.push(
            Diagnostic::error(Code::Empty, start, "the SQL file is empty")
                .with_label("nothing here")
                .with_help("write a query, or remove the file"),
        );
        reader.undecided.insert(name.value);
        return;
    }
    let original = Spanned::new(text, whole);
    let template = ["{{", "{%", "{#"].iter().any(|mark| original.value.contains(mark));
    let rendered = if template { reader.render(&original) } else { Some(original.value.clone()) };
    let Some(sql) = rendered else {
        reader.undecided.insert(name.value);
        return;
    };
    let templated = sql != original.value;
    let kind = ModelKind::Sql(SqlModel { sql: Spanned::new(sql, whole), templated, materialize });
    let Head { description, tags, enabled, privacy, .. } = head;
    insert(reader, models, Model { name, description, tags, path, tests, privacy, kind }, enabled);
}

/// A SQL model's name is its file's; its place is the start of the file.
fn file_name(reader: &mut Reader<'_>, path: &str, start: Span) -> Option<Spanned<String>> {
    let stem = files::stem(path);
    if super::reader::is_name(&stem) {
        return Some(Spanned::new(stem, start));
    }
    reader.incomplete = true;
    reader.findings.push(
        Diagnostic::error(Code::BadName, start, format!("the file name `{stem}` is not a name of a model"))
            .with_label("names are a-z, 0-9 and _, not starting with a digit")
            .with_help("rename the file"),
    );
    None
}
