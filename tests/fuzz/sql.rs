//! Fuzz target: any text as SQL binds to findings that can be shown, wherever YAML holds it.

#![no_main]

mod project;

use kinfold::runner::Failure;
use std::sync::OnceLock;
use tempfile::TempDir;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let Ok(sql) = std::str::from_utf8(bytes) else { return };
    let root = FOLDER.get_or_init(project::shop).path();
    for (path, text) in project::holding(sql) {
        std::fs::write(root.join(path), text).unwrap();
    }
    match project::bound(root) {
        Err(Failure::Findings(findings, map)) => project::can_be_shown(&findings, &map),
        Err(Failure::Error(error)) => panic!("not a finding: {error:?}"),
        Ok(_) => {}
    }
});
