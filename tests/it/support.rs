//! Projects in folders of their own, and the `kinfold` command in them.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// A row of a query's answer.
pub type Row = Map<String, Value>;

/// The demo's audiences.
pub const AUDIENCES: [&str; 10] = [
    "appointment_canceled",
    "appointment_no_show",
    "appointment_rescheduled_by_patient",
    "appointment_rescheduled_by_provider",
    "appointment_scheduled",
    "callers_never_on_web",
    "lapsed_patients",
    "no_shows_returned",
    "searched_not_booked",
    "seniors_to_call",
];

/// Visits that come after the first run of the project that `init` makes: Zoe is new, Ann comes again, and Bob turns out
/// to be the one behind `c3`.
pub const NEWS: &str = "\
cookie,email,page,at
c5,zoe@example.com,prices,2026-03-29T08:00:00Z
c5,zoe@example.com,home,2026-03-30T08:00:00Z
c1,,prices,2026-03-30T09:00:00Z
c3,bob@example.com,prices,2026-03-30T10:00:00Z
";

/// The repository's root, which is also the demo project.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a command left behind.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, stdout, stderr, command } = self;
        write!(f, "{command}\nexit code {code}\n-- stdout\n{stdout}\n-- stderr\n{stderr}")
    }
}

impl Outcome {
    /// Asserts the exit code, and that nothing panicked.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(!self.stderr.contains("panicked"), "{self}");
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Asserts that standard error holds each of these texts.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "standard error lacks `{text}`: {self}");
        }
        self
    }

    /// Asserts that nothing went to standard output, which is for data.
    #[track_caller]
    pub fn without_data(self) -> Self {
        assert_eq!(self.stdout, "", "{self}");
        self
    }

    /// Rows of a JSON answer.
    #[track_caller]
    pub fn rows(&self) -> Vec<Row> {
        match serde_json::from_str(&self.stdout) {
            Ok(rows) => rows,
            Err(error) => panic!("not an array of objects ({error}): {self}"),
        }
    }
}

/// A project, its warehouse and its outbox; removed when dropped.
pub struct Project {
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

impl Project {
    /// A project with these files.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let project = Self::empty();
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    fn empty() -> Self {
        Self { folder: TempDir::with_prefix("kinfold-test-").unwrap(), environment: BTreeMap::new() }
    }

    /// The demo: the repository's definitions over the data in `examples`.
    pub fn clinic() -> Self {
        let mut project = Self::empty();
        for file in ["kinfold.yaml", "sources.yaml", "destinations.yaml", "models"] {
            copy(&repository().join(file), &project.path(file));
        }
        let data = repository().join("examples/clinic/data");
        project.set("CLINIC_DATA", &data.to_string_lossy());
        project.set("KINFOLD_OUTBOX", "target/outbox");
        project
    }

    /// The demo after one run, in a copy that may be changed. Its outbox is in another place than that of the
    /// run, so that a sync sends everything once more.
    pub fn clinic_after_a_run() -> Self {
        let project = Self::clinic();
        copy(&clinic().path("target"), &project.path("target"));
        project
    }

    /// Another project over the same files, with nothing run.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn set(&mut self, variable: &str, value: &str) {
        self.environment.insert(variable.to_owned(), value.to_owned());
    }

    pub fn write(&self, path: &str, text: &str) {
        self.write_bytes(path, text.as_bytes());
    }

    pub fn write_bytes(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    /// The command, in the project's folder, with none of the caller's settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinfold"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["AWS_", "KINFOLD_", "CLINIC_", "LAKE_", "RUST_"].iter().any(|p| text.starts_with(p)) {
                command.env_remove(&name);
            }
        }
        command.env("NO_COLOR", "1").envs(&self.environment);
        command
    }

    pub fn kinfold(&self, arguments: &[&str]) -> Outcome {
        let output = self.command(arguments).output().unwrap();
        outcome(arguments, &output)
    }

    /// Runs, waiting for the lease of a killed run to expire.
    #[track_caller]
    pub fn run_when_free(&self) -> Outcome {
        for _ in 0..120 {
            let outcome = self.kinfold(&["run"]);
            if outcome.code != 75 {
                return outcome.exits(0);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        panic!("the warehouse is still held two minutes after its run was killed")
    }

    /// Starts a command and leaves it running.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Rows of a query.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Row> {
        self.kinfold(&["query", sql, "--output", "json"]).exits(0).rows()
    }

    /// The one number that a query answers.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.query(sql);
        let value = rows.first().and_then(|r| r.values().next()).and_then(Value::as_i64);
        value.unwrap_or_else(|| panic!("{sql}: {rows:?}"))
    }

    /// Rows of a table as sorted lines, below its header line.
    #[track_caller]
    pub fn lines(&self, sql: &str) -> Vec<String> {
        let output = self.kinfold(&["query", sql, "--output", "csv"]).exits(0).stdout;
        let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
        lines[1..].sort_unstable();
        lines
    }

    /// What the last run left for machines.
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.read("target/run.json")).unwrap()
    }

    /// Models that the last run built.
    pub fn built(&self) -> BTreeSet<String> {
        let report = self.report();
        let nodes = report["nodes"].as_array().unwrap();
        nodes.iter().map(|n| n["model"].as_str().unwrap().to_owned()).collect()
    }

    /// Tables of the warehouse, without those about runs.
    pub fn tables(&self) -> BTreeSet<String> {
        files(&self.path("target/warehouse"))
            .keys()
            .filter_map(|file| file.split_once("/_delta_log/"))
            .map(|(table, _)| table.replace('/', "."))
            .filter(|table| !table.starts_with("kinfold."))
            .collect()
    }

    /// What was sent: every row of every file of the outbox, without the key that is another one in every warehouse.
    #[track_caller]
    pub fn sent(&self) -> Vec<Row> {
        let mut rows = self.query_outbox("SELECT * FROM lake.sent ORDER BY patient_id");
        for row in &mut rows {
            assert!(row.remove("_idempotency_key").is_some(), "{row:?}");
        }
        rows
    }

    /// A query over `lake.sent`, the files that the sync wrote, through a project that has nothing else.
    #[track_caller]
    pub fn query_outbox(&self, sql: &str) -> Vec<Row> {
        let location = self.path("target/outbox");
        let sources = format!(
            "sources:\n  - name: lake\n    location: \"{}\"\n    tables:\n      - {{name: sent, path: searched_not_booked_to_lake/, format: parquet}}\n",
            location.display()
        );
        Self::of(&[("sources.yaml", &sources)]).query(sql)
    }
}

fn outcome(arguments: &[&str], output: &std::process::Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: format!("kinfold {}", arguments.join(" ")),
    }
}

/// Waits for a command that was left running.
pub fn wait(child: Child, arguments: &[&str]) -> Outcome {
    outcome(arguments, &child.wait_with_output().unwrap())
}

/// Waits until something is so, at most a minute.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited a minute in vain: {what}");
}

/// The demo after one run, shared by all tests that only read it.
pub fn clinic() -> &'static Project {
    static SHARED: OnceLock<Project> = OnceLock::new();
    SHARED.get_or_init(|| {
        let mut project = Project::clinic();
        project.folder = kept_folder();
        project.kinfold(&["run"]).exits(0);
        project
    })
}

/// A static is never dropped, so the next run of the tests removes what an earlier one left.
fn kept_folder() -> TempDir {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(parent).unwrap().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if entry.file_name().to_string_lossy().starts_with("clinic-") && age > Some(Duration::from_hours(2)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let folder = tempfile::Builder::new().prefix("clinic-").tempdir_in(parent).unwrap();
    for file in ["kinfold.yaml", "sources.yaml", "destinations.yaml", "models"] {
        copy(&repository().join(file), &folder.path().join(file));
    }
    folder
}

/// What the demo must give, computed from the raw data by a program that shares nothing with Kinfold.
pub fn expected() -> &'static Value {
    static EXPECTED: OnceLock<Value> = OnceLock::new();
    EXPECTED.get_or_init(|| json_of("examples/clinic/expected.json"))
}

/// A JSON file of the repository.
pub fn json_of(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(repository().join(path)).unwrap()).unwrap()
}

/// Copies a file or a folder.
pub fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// All files below a folder with their sizes, by path from the folder; none when there is no folder.
pub fn files(folder: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(path),
                // files come and go while a run works
                Ok(metadata) => {
                    let relative = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                    found.insert(relative, metadata.len());
                }
                Err(_) => {}
            }
        }
    }
    found
}
