//! Definitions that were damaged at random: whatever bytes stand in a project's files, loading and binding end with
//! findings, never with a panic, and every place that a finding names can be shown.

#[path = "../fuzz/project.rs"]
mod project;

use crate::support::{copy, repository};
use kinfold::project::{LoadOptions, load};
use kinfold::runner::Failure;
use project::{MODELS, bound, can_be_shown, holding, shop};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Pieces that mean something to YAML, to SQL or to the loader.
const PIECES: [&[u8]; 40] = [
    b"\n",
    b"\t",
    b"  ",
    b"- ",
    b": ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"'",
    b"\"",
    b"#",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"|\n  ",
    b">-\n",
    b"---\n",
    b"!!int ",
    b"? ",
    b"%",
    b"{{ ",
    b" }}",
    b"{% for",
    b"${X",
    b"${X:-",
    b"}",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"(((((",
    b"))))",
    b" OVER (",
    b"SELECT ",
    b"\xf0\x9f\x92\xa9",
    b"99999999999999999999",
    b"-1",
    b"/*",
    b"--",
];

/// One change of a text.
#[derive(Debug, Clone)]
enum Damage {
    Insert(usize, usize),
    Remove(usize, usize),
    Repeat(usize, usize),
    Flip(usize, u8),
    Cut(usize),
    Swap(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<u16>().prop_map(usize::from);
    prop_oneof![
        4 => (at.clone(), 0..PIECES.len()).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        2 => (at.clone(), 1..40_usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (at.clone(), 1..200_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        2 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        1 => at.clone().prop_map(Damage::Cut),
        1 => (at.clone(), at).prop_map(|(a, b)| Damage::Swap(a, b)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let place = |at: usize| at % (bytes.len() + 1);
        match damage {
            Damage::Insert(at, piece) => {
                let at = place(*at);
                bytes.splice(at..at, PIECES[*piece].iter().copied());
            }
            Damage::Remove(at, length) => {
                let at = place(*at);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Damage::Repeat(at, length) => {
                let at = place(*at);
                let piece = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Damage::Flip(at, byte) => {
                let at = place(*at);
                if let Some(old) = bytes.get_mut(at) {
                    *old ^= byte;
                }
            }
            Damage::Cut(at) => bytes.truncate(place(*at)),
            Damage::Swap(a, b) => {
                let (a, b) = (place(*a), place(*b));
                if a < bytes.len() && b < bytes.len() {
                    bytes.swap(a, b);
                }
            }
        }
    }
    bytes
}

/// The demo's definitions, without its data.
fn demo() -> TempDir {
    let folder = TempDir::with_prefix("kinfold-damaged-").unwrap();
    for file in ["kinfold.yaml", "sources.yaml", "destinations.yaml", "models"] {
        copy(&repository().join(file), &folder.path().join(file));
    }
    folder
}

fn definitions(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = crate::support::files(root).into_keys().map(PathBuf::from).collect();
    files.retain(|file| file.extension().is_none_or(|ending| ending != "csv"));
    files.sort();
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_definitions_load_to_findings(file in any::<u16>(), damages in prop::collection::vec(damage(), 1..6)) {
        let folder = demo();
        let files = definitions(folder.path());
        let path = folder.path().join(&files[usize::from(file) % files.len()]);
        std::fs::write(&path, damaged(std::fs::read(&path).unwrap(), &damages)).unwrap();
        let loaded = load(folder.path(), &LoadOptions::default(), &|_| None);
        can_be_shown(&loaded.diagnostics, &loaded.sources);
    }
}

#[test]
fn the_undamaged_project_is_sound() {
    let found = bound(shop().path());
    assert!(matches!(found, Ok(0)), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_sql_binds_to_findings(model in 0..MODELS.len(), damages in prop::collection::vec(damage(), 1..4)) {
        let folder = shop();
        let (path, text) = MODELS[model];
        std::fs::write(folder.path().join(path), damaged(text.as_bytes().to_vec(), &damages)).unwrap();
        match bound(folder.path()) {
            Err(Failure::Findings(findings, map)) => can_be_shown(&findings, &map),
            Err(Failure::Error(error)) => prop_assert!(false, "not a finding: {error:?}"),
            Ok(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the fuzz target `fuzz_sql` does, with texts that were SQL once.
    #[test]
    fn damaged_sql_binds_wherever_yaml_holds_it(damages in prop::collection::vec(damage(), 0..4)) {
        let folder = shop();
        let text = b"CASE WHEN page = 'a' THEN count(*) ELSE max(length(cookie)) END".to_vec();
        let Ok(sql) = String::from_utf8(damaged(text, &damages)) else { return Ok(()) };
        for (path, text) in holding(&sql) {
            std::fs::write(folder.path().join(path), text).unwrap();
        }
        match bound(folder.path()) {
            Err(Failure::Findings(findings, map)) => can_be_shown(&findings, &map),
            Err(Failure::Error(error)) => prop_assert!(false, "not a finding: {error:?}"),
            Ok(_) => prop_assert!(false, "an expression is no model"),
        }
    }
}
