//! The corpus of broken projects: each folder of `tests/diagnostics` is one, with what a person sees.
//!
//! `UPDATE_EXPECTED=1` rewrites the expected texts; read every difference before you keep it. A file `options`
//! in a case sets `target NAME`, `var NAME=VALUE`, `env NAME=VALUE` and `allow-missing-environment`, one a line.

use kinfold::diagnostic::{CODES, render_concise, render_human, render_json};
use kinfold::project::{LoadOptions, Loaded, load};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Codes that need data or SQL binding (K03 to K05), or a file that no repository should hold.
const NOT_IN_CORPUS: [&str; 1] = ["K0004"];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(corpus()).expect("the corpus is there");
    let mut cases: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// Loads a case as its `options` say; gives the environment values, too.
fn load_case(case: &Path) -> (Loaded, Vec<String>) {
    let text = std::fs::read_to_string(case.join("options")).unwrap_or_default();
    let mut options = LoadOptions::default();
    let mut environment = BTreeMap::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || rest.split_once('=').expect("NAME=VALUE");
        match word {
            "target" => options.target = Some(rest.to_owned()),
            "var" => drop(options.vars.insert(pair().0.to_owned(), pair().1.to_owned())),
            "env" => drop(environment.insert(pair().0.to_owned(), pair().1.to_owned())),
            "allow-missing-environment" => options.allow_missing_environment = true,
            other => panic!("unknown option {other} in {}", case.display()),
        }
    }
    let loaded = load(case, &options, &|name| environment.get(name).cloned());
    (loaded, environment.into_values().collect())
}

#[test]
fn every_broken_project_says_what_is_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (loaded, _) = load_case(&case);
        let said = render_human(&loaded.diagnostics, &loaded.sources, false);
        let path = case.join("expected.txt");
        if update {
            std::fs::write(&path, &said).expect("the expected text can be written");
        } else if std::fs::read_to_string(&path).ok().as_deref() != Some(said.as_str()) {
            wrong.push(format!("{}:\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "these differ from expected.txt:\n{}", wrong.join("\n"));
}

#[test]
fn every_broken_project_has_findings_and_all_formats_agree() {
    for case in cases() {
        let (loaded, _) = load_case(&case);
        let name = case.display();
        assert!(!loaded.diagnostics.is_empty(), "{name} finds nothing");
        let json: serde_json::Value =
            serde_json::from_str(&render_json(&loaded.diagnostics, &loaded.sources)).expect("valid JSON");
        let concise = render_concise(&loaded.diagnostics, &loaded.sources);
        assert_eq!(json.as_array().map(Vec::len), Some(loaded.diagnostics.len()), "{name}");
        assert_eq!(concise.lines().count(), loaded.diagnostics.len(), "{name}");
        let errors = concise.contains("error[");
        assert_eq!(loaded.project.is_none(), errors, "{name}");
    }
}

#[test]
fn findings_are_lower_case_short_and_complete() {
    for case in cases() {
        for finding in load_case(&case).0.diagnostics {
            let message = &finding.message;
            let place = format!("{}: {message}", case.display());
            assert!(!message.ends_with('.') && message.chars().count() <= 120, "{place}");
            assert!(!message.starts_with(|c: char| c.is_uppercase()), "{place}");
            assert_eq!(finding.span.is_some(), finding.label.is_some(), "{place}");
        }
    }
}

#[test]
fn values_from_the_environment_are_not_shown() {
    let mut values = 0;
    for case in cases() {
        let (loaded, environment) = load_case(&case);
        let said = render_human(&loaded.diagnostics, &loaded.sources, false)
            + &render_json(&loaded.diagnostics, &loaded.sources)
            + &render_concise(&loaded.diagnostics, &loaded.sources);
        for value in environment {
            values += 1;
            assert!(!said.contains(&value), "{} shows {value}", case.display());
        }
    }
    assert!(values > 0, "no case has an environment");
}

#[test]
fn every_code_of_loading_is_in_the_corpus() {
    let mut seen: BTreeSet<&str> = NOT_IN_CORPUS.into();
    for case in cases() {
        seen.extend(load_case(&case).0.diagnostics.iter().map(|d| d.code.as_str()));
    }
    let engine = |code: &str| ["K03", "K04", "K05"].iter().any(|group| code.starts_with(group));
    let missing: Vec<&str> =
        CODES.iter().map(|c| c.code.as_str()).filter(|c| !engine(c) && !seen.contains(c)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let root = std::env::temp_dir().join(format!("kinfold-large-{}", std::process::id()));
    std::fs::create_dir_all(root.join("models")).expect("a folder");
    std::fs::write(root.join("sources.yaml"), "sources: []\n").expect("a file");
    std::fs::write(root.join("models/large.sql"), vec![b' '; (4 << 20) + 1]).expect("a file");
    let loaded = load(&root, &LoadOptions::default(), &|_| None);
    std::fs::remove_dir_all(&root).expect("the folder goes");
    let said = render_concise(&loaded.diagnostics, &loaded.sources);
    assert_eq!(said, "models/large.sql:1:1: error[K0004]: the file has 4194305 bytes; at most 4194304 are read\n");
}
