//! Definitions that were damaged at random: whatever bytes stand in a project's files, loading and binding end with
//! findings, never with a panic, and every place that a finding names can be shown.

use crate::support::{copy, repository};
use kinfold::diagnostic::{Diagnostic, SourceMap, render_concise, render_human, render_json};
use kinfold::engine::Resources;
use kinfold::project::{LoadOptions, load};
use kinfold::runner::{Failure, Options, Purpose, prepare};
use proptest::prelude::*;
use std::collections::BTreeMap;
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

/// Every finding can be shown in every format.
fn can_be_shown(findings: &[Diagnostic], map: &SourceMap) {
    render_human(findings, map, true);
    let concise = render_concise(findings, map);
    let json: serde_json::Value = serde_json::from_str(&render_json(findings, map)).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(concise.lines().count()));
}

fn options(root: &Path) -> Options {
    Options {
        root: root.to_owned(),
        target: None,
        as_of: None,
        vars: BTreeMap::new(),
        select: Vec::new(),
        exclude: Vec::new(),
        state: None,
        resources: Resources { threads: 1, ..Resources::of_machine() },
        environment: BTreeMap::new(),
        now: chrono::DateTime::UNIX_EPOCH,
    }
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

/// SQL as it stands in every place that takes some: a file, block and quoted texts, lists.
const MODELS: [(&str, &str); 5] = [
    (
        "models/daily.sql",
        "WITH v AS (SELECT page, at, cookie FROM shop.visits WHERE page <> 'x')\nSELECT date_trunc('day', at) AS day, count(*) AS n,\n  sum(count(*)) OVER (ORDER BY date_trunc('day', at)) AS so_far\nFROM v GROUP BY 1\n",
    ),
    (
        "models/person.yaml",
        "kind: identity\nname: person\nidentifiers:\n  email: {normalize: \"lower(value)\"}\n  cookie: {max_links: 10}\nlinks:\n  - from: shop.visits\n    where: \"page is not null\"\n    ids: {cookie: cookie, email: \"CASE WHEN email = '' THEN NULL ELSE email END\"}\n",
    ),
    (
        "models/person_profile.yaml",
        "kind: profile\nname: person_profile\nidentity: person\nattributes:\n  email: {from: shop.visits.email, pick: latest}\ntraits:\n  visits: {from: shop.visits, select: count(*), where: \"page = 'home'\", within: 7 days}\n  pages:\n    from: shop.visits\n    select: |\n      count(DISTINCT page)\n        + 1\n  often: {select: visits > 2 AND pages < 10}\npersona:\n  - {name: regular, when: visits >= 3}\n  - {default: visitor}\n",
    ),
    (
        "models/back.yaml",
        "kind: audience\nname: back\nprofile: person_profile\nwhere:\n  all:\n    - {event: shop.visits, column: page, is: home, count: '> 1', where: \"cookie like 'c%'\"}\n    - trait: visits > 0 and email is not null\n",
    ),
    (
        "models/asked.yaml",
        "kind: audience\nname: asked\nprofile: person_profile\nsql: >-\n  SELECT person_id FROM person_profile\n  WHERE visits > (SELECT avg(visits) FROM person_profile)\n",
    ),
];

fn shop() -> TempDir {
    let folder = TempDir::with_prefix("kinfold-damaged-").unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "sources.yaml",
        "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: visits, path: visits/, format: csv, time: at, columns: {at: {type: TIMESTAMP}}}\n",
    );
    let columns = ["cookie", "email", "page", "at"].map(|c| format!("[\"{c}\", \"Utf8\"]")).join(",");
    write("schemas.lock", &format!("{{\"format\": 1, \"tables\": {{\"shop.visits\": [{columns}]}}}}"));
    for (path, text) in MODELS {
        write(path, text);
    }
    folder
}

/// Binds in a thread with the stack that the command line has; a panic in it fails the test.
fn bound(root: &Path) -> Result<usize, Failure> {
    let options = options(root);
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(prepare(&options, Purpose::Check)).map(|prepared| prepared.warnings.len())
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(work).unwrap().join().expect("it panicked")
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
