//! The command line as a shell, a scheduler and a log collector meet it: exit codes, streams, colour, completions,
//! manual pages.

use crate::support::{Project, clinic, files, until, wait};
use kinfold::project::schema::FileKind;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};

const COMMANDS: [&str; 25] = [
    "run",
    "sync",
    "check",
    "plan",
    "test",
    "manifest",
    "show",
    "query",
    "docs",
    "sources",
    "ls",
    "lineage",
    "labels",
    "forget",
    "suppress",
    "unsuppress",
    "audit",
    "status",
    "diff",
    "vacuum",
    "init",
    "explain",
    "schema",
    "completions",
    "man",
];
const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "powershell", "elvish"];
/// The sign that begins every colour.
const ESCAPE: char = '\u{1b}';

/// The project that `init` makes.
fn shop() -> Project {
    let project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    project
}

/// The same with a key that nobody knows.
fn broken_shop() -> Project {
    let project = shop();
    let sources = project.read("sources.yaml");
    project.write("sources.yaml", &sources.replacen("path:", "pth:", 1));
    project
}

/// Lines of talk, each of which must be a JSON object with a level and a message.
#[track_caller]
fn talk(stderr: &str) -> Vec<Value> {
    let lines: Vec<Value> =
        stderr.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("not JSON ({e}): {l}"))).collect();
    for line in &lines {
        let level = line["level"].as_str().unwrap_or_else(|| panic!("no level: {line}"));
        assert!(["error", "warning", "info"].contains(&level), "{line}");
        assert!(line["message"].as_str().is_some_and(|m| !m.is_empty()), "no message: {line}");
    }
    lines
}

#[test]
fn every_command_that_works_exits_0() {
    let shop = shop();
    for arguments in [
        &["check"][..],
        &["run"],
        &["show", "person"],
        &["show", "audience", "came_back", "--count"],
        &["query", "SELECT 1"],
        &["status"],
        &["runs"],
        &["diff", "1", "2"],
        &["vacuum"],
        &["vacuum", "--apply"],
        &["init", "another"],
        &["explain", "K0102"],
        &["explain", "identity", "email:ann@example.com"],
        &["explain", "audience", "came_back", "email:ann@example.com"],
        &["explain", "plan", "person_profile"],
        &["schema", "sources"],
        &["schema", "--write", "schemas"],
        &["completions", "bash"],
        &["man"],
        &["man", "--dir", "pages"],
        &["--help"],
        &["help", "run"],
        &["--version"],
    ] {
        let outcome = shop.kinfold(arguments).exits(0);
        assert!(!outcome.stdout.is_empty(), "{outcome}");
    }
    for command in COMMANDS {
        let help = shop.kinfold(&[command, "--help"]).exits(0);
        assert!(help.stdout.contains("Usage: kinfold"), "{help}");
        assert!(help.stdout.contains("Example"), "{help}");
    }
}

#[test]
fn wrong_usage_of_every_command_exits_2() {
    let shop = shop();
    for arguments in [
        &[][..],
        &["run", "--output", "csv"],
        &["check", "extra"],
        &["show"],
        &["query", "SELECT 1", "SELECT 2"],
        &["status", "--limit", "few"],
        &["diff", "1"],
        &["init"],
        &["explain"],
        &["explain", "K9999"],
        &["explain", "identity"],
        &["explain", "identity", "nobody"],
        &["explain", "consent"],
        &["schema"],
        &["schema", "everything"],
        &["schema", "models", "--write", "x"],
        &["completions"],
        &["completions", "tcsh"],
        &["man", "run"],
        &["run", "--log-format", "xml"],
        &["run", "--color", "sometimes"],
    ] {
        let outcome = shop.kinfold(arguments).exits(2).without_data();
        assert!(!outcome.stderr.is_empty(), "{outcome}");
    }
}

#[test]
fn wrong_definitions_exit_2_and_name_the_command_that_needed_them() {
    let broken = broken_shop();
    for arguments in [&["check"][..], &["run"]] {
        broken.kinfold(arguments).exits(2).without_data().says(&["error[K0102]", "sources.yaml:"]);
    }
    for (arguments, needed) in [
        (&["show", "person"][..], "`kinfold show`"),
        (&["query", "SELECT 1"], "`kinfold query`"),
        (&["status"], "`kinfold status`"),
        (&["diff", "1", "2"], "`kinfold diff`"),
        (&["vacuum"], "`kinfold vacuum`"),
        (&["explain", "identity", "email:ann@example.com"], "`kinfold explain identity`"),
    ] {
        let outcome = broken.kinfold(arguments).exits(2).without_data();
        outcome.says(&["error[K0102]", needed, "needs a project that loads"]);
    }
    // a question that is wrong is not the project's fault
    let wrong = shop().kinfold(&["query", "SELEC 1"]).exits(2);
    assert!(!wrong.stderr.contains("needs a project that loads"), "{wrong}");
}

#[test]
fn data_that_are_not_as_declared_exit_1() {
    let shop = shop();
    shop.write("data/visits/visits.csv", "cookie,email,page,at\nc1,,home,yesterday\n");
    shop.kinfold(&["run"]).exits(1).without_data().says(&["sources.yaml:", "yesterday"]);
    shop.kinfold(&["status"]).exits(0);
}

#[test]
fn a_disk_that_is_full_exits_1() {
    let shop = shop();
    for arguments in [&["explain", "K0102"][..], &["schema", "models"], &["query", "SELECT 1 AS one"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = shop.command(arguments).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot write to standard output"), "{said}");
    }
}

#[test]
fn a_policy_that_refuses_exits_3() {
    let shop = shop();
    let sync = shop.read("models/came_back_to_outbox.yaml");
    shop.write("models/came_back_to_outbox.yaml", &sync.replace("mode: upsert", "mode: mirror"));
    shop.kinfold(&["run"]).exits(0);
    // everybody leaves, and a mirror may delete a tenth
    let audience = shop.read("models/came_back.yaml");
    shop.write("models/came_back.yaml", &audience.replace("is: prices", "is: nowhere"));
    let refused = shop.kinfold(&["run", "--log-format", "json"]).exits(3);
    assert!(refused.stdout.contains("would delete 2 of 2 rows"), "{refused}");
    let synced = talk(&refused.stderr).into_iter().find(|l| l["event"] == "sync_finished").unwrap();
    assert_eq!((&synced["level"], &synced["refused"]), (&Value::from("error"), &Value::from(true)), "{synced}");
}

#[test]
fn a_warehouse_that_is_held_exits_75() {
    let project = Project::clinic();
    let mut first = project.spawn(&["run"]);
    until("a lease", || !files(&project.path("target/warehouse/_kinfold/leases")).is_empty());
    // stopped, it keeps its lease for as long as this takes
    signal(&first, "STOP");
    let second = project.kinfold(&["run", "--log-format", "json"]).exits(75).without_data();
    // reading needs no lease
    project.kinfold(&["status"]).exits(0);
    first.kill().unwrap();
    first.wait().unwrap();
    let lines = talk(&second.stderr);
    assert_eq!(lines.len(), 1, "{second}");
    assert_eq!((&lines[0]["kind"], &lines[0]["retryable"]), (&Value::from("busy"), &Value::from(true)), "{second}");
    assert!(lines[0]["help"].is_string(), "{second}");
}

#[test]
fn an_interrupt_exits_130() {
    let project = Project::clinic();
    let run = project.spawn(&["run", "--log-format", "json"]);
    until("a lease", || !files(&project.path("target/warehouse/_kinfold/leases")).is_empty());
    signal(&run, "INT");
    let stopped = wait(run, &["run"]).exits(130).without_data();
    assert!(talk(&stopped.stderr).iter().any(|l| l["kind"] == "interrupted"), "{stopped}");
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "{name} was not sent");
}

#[test]
fn a_run_tells_its_progress_as_json() {
    let shop = shop();
    let run = shop.kinfold(&["run", "--log-format", "json", "--output", "json"]).exits(0);
    let lines = talk(&run.stderr);
    let of = |event: &str| lines.iter().filter(|l| l["event"] == event).cloned().collect::<Vec<_>>();
    assert_eq!(of("run_started")[0]["models"], 4, "{run}");
    assert_eq!(of("model_started").len(), 4, "{run}");
    let mut built: Vec<String> = of("model_finished").iter().map(|l| l["model"].as_str().unwrap().to_owned()).collect();
    built.sort();
    assert_eq!(built, ["came_back", "daily_visits", "person", "person_profile"]);
    assert!(of("model_finished").iter().all(|l| l["rows"].is_u64() && l["seconds"].is_f64()), "{run}");
    assert_eq!(of("sync_finished")[0]["result"], "success", "{run}");
    // what it printed is what it left
    assert_eq!(run.stdout, shop.read("target/run.json"));
    let quiet = shop.kinfold(&["run", "--log-format", "json", "--quiet"]).exits(0);
    assert_eq!(quiet.stderr, "", "{quiet}");
}

#[test]
fn findings_errors_and_wrong_usage_are_json_too() {
    let broken = broken_shop();
    let outcome = broken.kinfold(&["--log-format=json", "run"]).exits(2).without_data();
    let lines = talk(&outcome.stderr);
    let unknown = lines.iter().find(|l| l["code"] == "K0102").unwrap();
    assert_eq!(unknown["level"], "error");
    assert_eq!(unknown["place"]["path"], "sources.yaml");
    assert_eq!(unknown["help"], "did you mean `path`?");
    broken.write("file", "");
    let failed = broken.kinfold(&["schema", "--write", "file/below", "--log-format", "json"]).exits(1);
    let line = &talk(&failed.stderr)[0];
    assert_eq!((&line["level"], &line["kind"]), (&Value::from("error"), &Value::from("storage")), "{failed}");
    assert_eq!(line["causes"].as_array().map(Vec::len), Some(1), "{failed}");
    for (arguments, message) in [
        (&["walk"][..], "unrecognized subcommand 'walk'"),
        (&["run", "--nonsense"], "unexpected argument '--nonsense' found"),
        (&["show"], "the following required arguments were not provided: <NAME>"),
        (&[], "no command is given"),
    ] {
        let wrong = broken.kinfold(&[&["--log-format", "json"], arguments].concat()).exits(2).without_data();
        let lines = talk(&wrong.stderr);
        assert_eq!((lines.len(), &lines[0]["message"]), (1, &Value::from(message)), "{wrong}");
        assert!(lines[0]["help"].as_str().is_some_and(|h| h.contains("--help")), "{wrong}");
    }
    // help that was asked for is data, and stays text
    let help = broken.kinfold(&["--log-format", "json", "--help"]).exits(0);
    assert!(help.stdout.contains("Usage:") && help.stderr.is_empty(), "{help}");
}

#[test]
fn warnings_of_a_run_are_json_findings() {
    let shop = shop();
    let sources = shop.read("sources.yaml");
    shop.write("sources.yaml", &sources.replacen("    tables:", "    freshness: {warn_after: 24h}\n    tables:", 1));
    let run = shop.kinfold(&["run", "--log-format", "json"]).exits(0);
    let lines = talk(&run.stderr);
    let warning = lines.iter().find(|l| l["level"] == "warning").unwrap_or_else(|| panic!("no warning: {run}"));
    assert_eq!(warning["code"], "K0902", "{run}");
}

#[test]
fn status_explain_and_init_answer_machines() {
    let project = Project::of(&[]);
    let json = |arguments: &[&str]| -> Value {
        let outcome = project.kinfold(&[arguments, &["--output", "json"]].concat()).exits(0);
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {outcome}"))
    };
    let made = json(&["init", "shop"]);
    for file in made["files"].as_array().unwrap() {
        assert!(project.path("shop").join(file.as_str().unwrap()).is_file(), "{file} was not made");
    }
    assert_eq!(made["directory"], "shop");
    assert_eq!(json(&["status", "--project", "shop"]), Value::Array(Vec::new()));
    project.kinfold(&["run", "--project", "shop"]).exits(0);
    let runs = json(&["status", "--project", "shop"]);
    let of = |index: usize, key: &str| runs[index][key].clone();
    // the sync commits after the models, in a run of its own
    assert_eq!((of(0, "kind"), of(0, "run"), of(0, "of_run")), ("sync".into(), 2.into(), 1.into()));
    assert_eq!(of(0, "syncs")[0]["sent"], 2);
    assert_eq!((of(1, "kind"), of(1, "status"), of(1, "models")), ("run".into(), "committed".into(), 4.into()));
    assert_eq!(of(1, "as_of"), "2026-03-31T00:00:00Z");
    assert_eq!(of(1, "tables")["person_profile"]["run"], 1);
    assert_eq!(json(&["status", "--project", "shop", "--limit", "1"]).as_array().map(Vec::len), Some(1));
    let explained = json(&["explain", "k0102"]);
    assert_eq!(explained["code"], "K0102");
    for key in ["title", "cause", "example", "fix"] {
        assert!(explained[key].as_str().is_some_and(|t| !t.is_empty()), "{key}: {explained}");
    }
}

/// Runs a command whose reader goes away after the first line, or at once.
fn cut_off(project: &Project, arguments: &[&str], lines: usize) -> Output {
    let mut child = project.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..lines {
        reader.read_line(&mut line).unwrap();
    }
    drop(reader);
    child.wait_with_output().unwrap()
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let cases: [&[&str]; 9] = [
        &["show", "web.tracks", "--limit", "100000"],
        &["show", "patient", "--limit", "100000", "--output", "csv"],
        &["query", "SELECT * FROM patient_links", "--output", "json"],
        &["status", "--output", "json"],
        &["schema", "models"],
        &["completions", "bash"],
        &["explain", "K0102"],
        &["man"],
        &["--help"],
    ];
    for arguments in cases {
        for lines in [0, 1] {
            let output = cut_off(clinic(), arguments, lines);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(said, "", "{arguments:?} after {lines} lines");
            assert_eq!(output.status.code(), Some(0), "{arguments:?} after {lines} lines");
        }
    }
}

/// What a command says on a terminal.
fn on_a_terminal(project: &Project, arguments: &str, no_color: Option<&str>) -> String {
    let mut command = Command::new("script");
    let line = format!("'{}' {arguments}", env!("CARGO_BIN_EXE_kinfold"));
    command.args(["-qec", &line, "/dev/null"]).current_dir(project.path("")).stdin(Stdio::null());
    command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CLICOLOR");
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

#[test]
fn colour_is_for_terminals_and_can_be_refused() {
    let shop = broken_shop();
    // clap's own help and errors, our errors, and findings
    for arguments in ["--help", "run --nonsense", "explain K9999", "check"] {
        let colored = |flags: &str, no_color| {
            let said = on_a_terminal(&shop, &format!("{flags} {arguments}"), no_color);
            assert!(!said.trim().is_empty(), "{arguments} says nothing");
            said.contains(ESCAPE)
        };
        assert!(colored("", None), "{arguments}");
        assert!(!colored("", Some("1")), "{arguments}");
        assert!(colored("", Some("")), "an empty NO_COLOR is none: {arguments}");
        assert!(!colored("--color never", None), "{arguments}");
        assert!(!colored("--color=never", None), "{arguments}");
        assert!(colored("--color always", Some("1")), "a flag beats the environment: {arguments}");
        let piped = shop.kinfold(&arguments.split(' ').collect::<Vec<_>>());
        assert!(!piped.stderr.contains(ESCAPE) && !piped.stdout.contains(ESCAPE), "{piped}");
    }
    let always = shop.kinfold(&["--color", "always", "check"]).exits(2);
    assert!(always.stderr.contains(ESCAPE), "{always}");
}

#[test]
fn completions_name_every_command() {
    let project = Project::of(&[]);
    for shell in SHELLS {
        let script = project.kinfold(&["completions", shell]).exits(0).stdout;
        for word in COMMANDS.iter().chain(&["--log-format", "--project"]) {
            let word = if shell == "fish" { word.trim_start_matches("--") } else { word };
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
}

#[test]
fn bash_completes_commands_flags_and_words() {
    let project = Project::of(&[]);
    let script = project.kinfold(&["completions", "bash"]).exits(0).stdout;
    let completed = |words: &str, current: &str, previous: &str| -> Vec<String> {
        let asked = format!(
            "{script}\nCOMP_WORDS=({words} '{current}'); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))\n\
             _kinfold kinfold '{current}' '{previous}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-s"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = bash.spawn().unwrap();
        child.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    };
    assert_eq!(completed("kinfold", "sch", "kinfold"), ["schema"]);
    assert_eq!(completed("kinfold explain", "--outp", "explain"), ["--output"]);
    let mut kinds = completed("kinfold schema", "", "schema");
    kinds.retain(|word| !word.starts_with('-'));
    for kind in FileKind::ALL {
        assert!(kinds.contains(&kind.word().to_owned()), "{kinds:?}");
    }
    assert_eq!(completed("kinfold --log-format", "j", "--log-format"), ["json"]);
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let project = Project::of(&[]);
    let printed = project.kinfold(&["man", "--dir", "pages/man1"]).exits(0);
    let pages = files(&project.path("pages/man1"));
    assert_eq!(pages.len(), COMMANDS.len() + 1, "{pages:?}");
    assert_eq!(printed.stdout.lines().count(), pages.len(), "{printed}");
    for command in COMMANDS {
        let page = project.read(&format!("pages/man1/kinfold-{command}.1"));
        assert!(page.contains(&format!(".TH kinfold-{command} 1")), "{page}");
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS"] {
            assert!(page.contains(section), "kinfold-{command}.1 lacks {section}");
        }
    }
    let main = project.kinfold(&["man"]).exits(0).stdout;
    assert_eq!(main.lines().next(), project.read("pages/man1/kinfold.1").lines().next());
    for command in COMMANDS {
        assert!(main.contains(&format!("kinfold\\-{command}(1)")), "{command} is not in kinfold.1: {main}");
    }
}
