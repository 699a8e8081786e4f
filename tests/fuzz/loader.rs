//! Fuzz target: any bytes as any file of a project load to findings that can be shown.

#![no_main]

mod project;

use kinfold::project::{LoadOptions, load};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Files that hold the bytes in turn.
const ROLES: [&str; 6] = [
    "kinfold.yaml",
    "sources.yaml",
    "destinations.yaml",
    "models/fuzzed.yaml",
    "models/fuzzed.sql",
    "macros/fuzzed.sql",
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let root = FOLDER.get_or_init(project::shop).path();
    for role in ROLES {
        let path = root.join(role);
        let before = std::fs::read(&path).ok();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let loaded = load(root, &LoadOptions::default(), &|_| None);
        project::can_be_shown(&loaded.diagnostics, &loaded.sources);
        match before {
            Some(before) => std::fs::write(&path, before).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
});
