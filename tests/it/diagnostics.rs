//! The corpus of broken projects: each folder of `tests/diagnostics` is one, with what a person sees.
//!
//! A case is loaded, and when that finds no error it is bound to its data, as `kinfold check` does.
//! `UPDATE_EXPECTED=1` rewrites the expected texts; read every difference before you keep it. A file `options`
//! in a case sets `target NAME`, `var NAME=VALUE`, `env NAME=VALUE`, `allow-missing-environment` and `rows` (text
//! files are also read, as a run does first), one a line.

use crate::support::{Project, repository};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use kinfold::diagnostic::{
    CODES, Diagnostic, Severity, SourceMap, render_concise, render_github, render_human, render_json, render_junit,
    render_sarif,
};
use kinfold::engine::{Resources, validate_text_tables};
use kinfold::project::{LoadOptions, Loaded, load};
use kinfold::runner::{Failure, Options, Purpose, prepare_for};
use parquet::arrow::ArrowWriter;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Codes of files that no repository should hold; each has its own test below.
const NOT_IN_CORPUS: [&str; 1] = ["K0004"];
/// As in the command line: SQL at the limits of what is read needs this much in a build without optimisation.
const STACK_BYTES: usize = 64 << 20;

/// What was said about a case.
struct Said {
    name: String,
    findings: Vec<Diagnostic>,
    sources: SourceMap,
    /// Whether the models can run.
    sound: bool,
    /// Values of the environment, which nothing may show.
    environment: Vec<String>,
}

fn corpus() -> PathBuf {
    repository().join("tests/diagnostics")
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(corpus()).expect("the corpus is there");
    let mut cases: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// Every case, checked once for all tests.
fn said() -> &'static [Said] {
    static SAID: OnceLock<Vec<Said>> = OnceLock::new();
    SAID.get_or_init(|| {
        let cases = cases();
        let share = cases.len().div_ceil(std::thread::available_parallelism().map_or(2, usize::from));
        std::thread::scope(|scope| {
            let check = |cases: &[PathBuf]| cases.iter().map(|case| on_case(case)).collect::<Vec<_>>();
            let threads: Vec<_> = cases
                .chunks(share.max(1))
                .map(|cases| {
                    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                    thread.spawn_scoped(scope, move || check(cases)).expect("a thread")
                })
                .collect();
            threads.into_iter().flat_map(|t| t.join().expect("no case panics")).collect()
        })
    })
}

fn on_case(case: &Path) -> Said {
    let text = std::fs::read_to_string(case.join("options")).unwrap_or_default();
    let mut options = LoadOptions::default();
    let mut environment = BTreeMap::new();
    let mut rows = false;
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || rest.split_once('=').expect("NAME=VALUE");
        match word {
            "target" => options.target = Some(rest.to_owned()),
            "var" => drop(options.vars.insert(pair().0.to_owned(), pair().1.to_owned())),
            "env" => drop(environment.insert(pair().0.to_owned(), pair().1.to_owned())),
            "allow-missing-environment" => options.allow_missing_environment = true,
            "rows" => rows = true,
            other => panic!("unknown option {other} in {}", case.display()),
        }
    }
    check(case, &options, environment, rows)
}

fn check(root: &Path, options: &LoadOptions, environment: BTreeMap<String, String>, rows: bool) -> Said {
    let Loaded { project, sources, diagnostics } = load(root, options, &|name| environment.get(name).cloned());
    let name = root.file_name().expect("a folder").to_string_lossy().into_owned();
    let values = environment.values().cloned().collect();
    let Some(project) = project else {
        return Said { name, findings: diagnostics, sources, sound: false, environment: values };
    };
    let options = Options {
        root: root.to_owned(),
        target: options.target.clone(),
        as_of: None,
        vars: options.vars.clone(),
        select: Vec::new(),
        exclude: Vec::new(),
        state: None,
        full: false,
        resources: Resources { threads: 1, memory_bytes: 64 << 20 },
        environment,
        now: chrono::DateTime::UNIX_EPOCH,
        resend: kinfold::runner::Resend::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let purpose = if rows { Purpose::Run } else { Purpose::Check };
    let (findings, sources, sound) = runtime.block_on(async {
        match prepare_for(&options, purpose, Arc::new(project), sources, diagnostics).await {
            Ok(prepared) => {
                let mut findings = prepared.warnings;
                if rows {
                    let tables = prepared.graph.tables_of(&prepared.order);
                    findings.extend(validate_text_tables(&prepared.engine, &tables).await.expect("files are read"));
                }
                let sound = findings.iter().all(|f| f.severity != Severity::Error);
                (findings, prepared.engine.source_map().clone(), sound)
            }
            Err(Failure::Findings(findings, sources)) => (findings, *sources, false),
            Err(Failure::Error(error)) => panic!("{name}: {error:?}"),
        }
    });
    Said { name, findings, sources, sound, environment: values }
}

/// What a person sees; the folder of the case is not the same on every machine.
fn shown(said: &Said) -> String {
    let folder = corpus().join(&said.name);
    render_human(&said.findings, &said.sources, false).replace(&*folder.to_string_lossy(), "CASE")
}

#[test]
fn every_broken_project_says_what_is_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    for case in said() {
        let text = shown(case);
        let path = corpus().join(&case.name).join("expected.txt");
        if update {
            std::fs::write(&path, &text).expect("the expected text can be written");
        } else if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            wrong.push(format!("{}:\n{text}", case.name));
        }
    }
    assert!(wrong.is_empty(), "these differ from expected.txt:\n{}", wrong.join("\n"));
}

#[test]
fn the_corpus_is_broad() {
    assert!(cases().len() >= 120, "{} cases", cases().len());
}

#[test]
fn every_broken_project_has_findings_and_all_formats_agree() {
    for Said { name, findings, sources, sound, .. } in said() {
        assert!(!findings.is_empty(), "{name} finds nothing");
        let concise = render_concise(findings, sources);
        let count = concise.lines().count();
        let json: serde_json::Value = serde_json::from_str(&render_json(findings, sources)).expect("valid JSON");
        assert_eq!(json.as_array().map(Vec::len), Some(count), "{name}");
        let sarif: serde_json::Value = serde_json::from_str(&render_sarif(findings, sources, ".")).expect("valid JSON");
        assert_eq!(sarif["runs"][0]["results"].as_array().map(Vec::len), Some(count), "{name}");
        let github = render_github(findings, sources, ".");
        assert_eq!(github.lines().count(), count, "{name}");
        let places = findings.iter().map(|f| f.span.map(|s| sources.path(s).to_owned())).collect::<BTreeSet<_>>();
        let junit = render_junit(findings, sources, ".");
        assert_eq!(junit.matches("<testcase ").count(), places.len(), "{name}");
        assert_eq!(*sound, !concise.contains("error["), "{name}");
        assert_eq!(*sound, !github.contains("::error "), "{name}");
        assert_eq!(*sound, !junit.contains("<failure "), "{name}");
    }
}

#[test]
fn findings_are_lower_case_short_and_complete() {
    let engine = ["Error during planning", "Arrow error", "Execution error", "Internal error", "bug", "Utf8", "Int64"];
    for Said { name, findings, .. } in said() {
        for finding in findings {
            let message = &finding.message;
            let place = format!("{name}: {message}");
            assert!(!message.ends_with('.') && message.chars().count() <= 120, "{place}");
            let acronym = message.chars().take(2).all(char::is_uppercase);
            assert!(acronym || !message.starts_with(|c: char| c.is_uppercase()), "{place}");
            assert_eq!(finding.span.is_some(), finding.label.is_some(), "{place}");
            let texts = finding.notes.iter().chain(&finding.help).chain([message]);
            for text in texts {
                assert!(!engine.iter().any(|word| text.contains(word)), "{place}: {text}");
            }
        }
    }
}

#[test]
fn values_from_the_environment_are_not_shown() {
    let mut values = 0;
    for case in said() {
        let Said { name, findings, sources, environment, .. } = case;
        let said = shown(case)
            + &render_json(findings, sources)
            + &render_concise(findings, sources)
            + &render_github(findings, sources, ".")
            + &render_junit(findings, sources, ".");
        for value in environment {
            values += 1;
            assert!(!said.contains(value), "{name} shows {value}");
        }
    }
    assert!(values > 0, "no case has an environment");
}

#[test]
fn every_code_is_in_the_corpus() {
    let mut seen: BTreeSet<&str> = NOT_IN_CORPUS.into();
    seen.extend(said().iter().flat_map(|s| &s.findings).map(|d| d.code.as_str()));
    let missing: Vec<&str> = CODES.iter().map(|c| c.code.as_str()).filter(|c| !seen.contains(c)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn every_code_is_explained_and_documented() {
    let project = Project::of(&[]);
    let document = std::fs::read_to_string(repository().join("docs/errors.md")).expect("docs/errors.md");
    for text in CODES {
        let said = project.kinfold(&["explain", text.code.as_str()]).exits(0).stdout;
        for part in [text.title, text.cause, text.fix] {
            assert!(said.contains(part), "kinfold explain {}: {said}", text.code);
        }
        let heading = format!("### {}: {}\n", text.code, text.title);
        let section = document.split_once(&heading).map(|(_, rest)| rest.split("### ").next().unwrap_or(rest));
        let section = section.unwrap_or_else(|| panic!("docs/errors.md lacks {}", text.code));
        // the first letter of a sentence is a capital there
        for part in [text.cause, text.fix] {
            assert!(section.contains(&part[1..]), "docs/errors.md is not current about {}", text.code);
        }
    }
    assert_eq!(document.matches("\n### K").count(), CODES.len(), "docs/errors.md explains codes that do not exist");
}

/// A project of files that no repository should hold.
fn made(files: &[(&str, Vec<u8>)]) -> Said {
    let project = Project::of(&[("sources.yaml", "sources: []\n")]);
    for (path, bytes) in files {
        project.write_bytes(path, bytes);
    }
    let root = project.path(".");
    let made = |root: &Path| check(root, &LoadOptions::default(), BTreeMap::new(), false);
    let named = root.canonicalize().expect("a folder");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, || made(&named)).expect("a thread").join().expect("no panic")
    })
}

fn concise(said: &Said) -> String {
    render_concise(&said.findings, &said.sources)
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let said = made(&[("models/large.sql", vec![b' '; 10 << 20]), ("models/table.yaml", vec![b'a'; 10 << 20])]);
    let expected = "models/large.sql:1:1: error[K0004]: the file has 10485760 bytes; at most 4194304 are read\n\
        models/table.yaml:1:1: error[K0004]: the file has 10485760 bytes; at most 4194304 are read\n";
    assert_eq!(concise(&said), expected);
}

#[test]
fn thousands_of_levels_are_refused_and_not_followed() {
    let block: Vec<String> = (0..2000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let block = block.concat();
    let flow = format!("a: {}", "{b: ".repeat(20_000));
    let lists = "- ".repeat(20_000);
    for text in [block, flow, lists] {
        let said = made(&[("models/deep.yaml", text.into_bytes())]);
        assert!(concise(&said).contains("error[K0117]"), "{}", concise(&said));
    }
    let chains = [
        " AND ",
        " OR ",
        " + ",
        " || ",
        "::",
        " UNION ALL SELECT ",
        " = ",
        " LIKE ",
        " IS NULL IS ",
        " AT TIME ZONE ",
        " IN ",
        " BETWEEN 1 AND ",
        " COLLATE ",
        ", ",
        " ",
    ];
    for chain in chains {
        let said = made(&[("models/long.sql", format!("SELECT {}", vec!["1"; 5000].join(chain)).into_bytes())]);
        assert!(said.findings.iter().all(|f| f.span.is_some()), "{chain}: {}", concise(&said));
    }
    for open in ["(", "[", "NOT ", "- ", "abs(", "CASE WHEN ", "(SELECT * FROM (", "INTERVAL ", "ARRAY<"] {
        let said = made(&[("models/deep.sql", format!("SELECT {}", open.repeat(20_000)).into_bytes())]);
        assert!(concise(&said).contains("error[K0313]"), "{open}: {}", concise(&said));
    }
}

#[test]
fn more_identifier_types_than_can_be_told_apart_are_refused() {
    let said = |count: usize| {
        let types: Vec<String> = (0..count).map(|n| format!("t{n}: {{}}")).collect();
        let ids: Vec<String> = (0..count).map(|n| format!("t{n}: id")).collect();
        let model = format!(
            "kind: identity\nname: person\nidentifiers: {{{}}}\nlinks: [{{from: shop.visits, ids: {{{}}}}}]\n",
            types.join(", "),
            ids.join(", ")
        );
        let sources =
            "sources: [{name: shop, location: data, tables: [{name: visits, path: visits.csv, format: csv}]}]\n";
        made(&[
            ("sources.yaml", sources.into()),
            ("data/visits.csv", b"id\n1\n".to_vec()),
            ("models/person.yaml", model.into_bytes()),
        ])
    };
    assert!(concise(&said(256)).contains("too many identifier types"), "{}", concise(&said(256)));
    assert_eq!(concise(&said(255)), "");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    for bytes in [vec![0xff_u8, 0xfe, b'a', 0], vec![0xc3], vec![0xed, 0xa0, 0x80], b"a: \xf0\x28\x8c\x28\n".to_vec()] {
        let said = made(&[("models/x.yaml", bytes.clone()), ("models/y.sql", bytes)]);
        let text = concise(&said);
        assert_eq!(text.matches("error[K0003]").count(), 2, "{text}");
    }
}

#[test]
fn a_half_written_parquet_file_is_named() {
    let sources =
        "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: visits, path: ., format: parquet}\n";
    let pages: ArrayRef = Arc::new(StringArray::from(vec!["home"]));
    let batch = RecordBatch::try_from_iter([("page", pages)]).expect("a batch");
    let mut whole = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut whole, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let half = whole[..whole.len() - 9].to_vec();
    let said = made(&[
        ("sources.yaml", sources.as_bytes().to_vec()),
        ("models/pages.sql", b"SELECT page FROM shop.visits".to_vec()),
        ("data/1.parquet", whole),
        ("data/2.parquet", half),
    ]);
    let text = concise(&said);
    assert_eq!(text, "sources.yaml:5:30: error[K0502]: `shop.visits`: cannot read 2.parquet\n");
}
