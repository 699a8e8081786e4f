//! Reading the project's folder: bounded, in sorted order, UTF-8 only.

use crate::diagnostic::Code;
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Deepest folder below `models/` that is looked into.
const MAX_DEPTH: usize = 32;

/// Why a file cannot be read.
#[derive(Debug)]
pub(super) struct Failure {
    /// What kind of mistake it is.
    pub code: Code,
    /// One line.
    pub message: String,
    /// Whether the file is not there at all.
    pub missing: bool,
    /// What can be shown of the file, and the byte to point at.
    pub text: String,
    /// Where the mistake is in `text`.
    pub at: usize,
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let failure = |code, message: String| Failure { code, message, missing: false, text: String::new(), at: 0 };
    let unreadable = |error: &std::io::Error| Failure {
        missing: error.kind() == std::io::ErrorKind::NotFound,
        ..failure(Code::FileUnreadable, format!("the file cannot be read: {}", reason(error)))
    };
    let size = std::fs::metadata(path).map_err(|e| unreadable(&e))?.len();
    if size > MAX_FILE_BYTES {
        let message = format!("the file has {size} bytes; at most {MAX_FILE_BYTES} are read");
        return Err(failure(Code::FileTooLarge, message));
    }
    let bytes = std::fs::read(path).map_err(|e| unreadable(&e))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        Failure { text, at, ..failure(Code::NotUtf8, "the file is not UTF-8 text".to_owned()) }
    })
}

/// The system's reason in lower case, without its number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}

/// All files below `root/folder` with one of these endings, as paths relative to `root`, sorted. Hidden
/// files and linked folders are left out. Folders that cannot be read are given with the reason.
pub(super) fn walk(root: &Path, folder: &str, endings: &[&str]) -> (Vec<String>, Vec<(String, Failure)>) {
    let mut found = Vec::new();
    let mut unread = Vec::new();
    let mut open = vec![(root.join(folder), folder.to_owned(), 0)];
    while let Some((path, relative, depth)) = open.pop() {
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && depth == 0 => continue,
            Err(error) => {
                let message = format!("the folder cannot be read: {}", reason(&error));
                let failure =
                    Failure { code: Code::FileUnreadable, message, missing: false, text: String::new(), at: 0 };
                unread.push((relative, failure));
                continue;
            }
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let below = format!("{relative}/{name}");
            let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
            if is_folder && depth < MAX_DEPTH {
                open.push((entry.path(), below, depth + 1));
            } else if !is_folder && ending(&entry.path()).is_some_and(|e| endings.contains(&e.as_str())) {
                found.push(below);
            }
        }
    }
    found.sort();
    unread.sort_by(|a, b| a.0.cmp(&b.0));
    (found, unread)
}

fn ending(path: &Path) -> Option<String> {
    path.extension().and_then(|e| e.to_str()).map(str::to_owned)
}

/// The path's last part without its ending.
pub(super) fn stem(path: &str) -> String {
    PathBuf::from(path).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The path without its ending.
pub(super) fn without_ending(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(base, _)| base)
}
