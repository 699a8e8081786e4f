//! Runs that are killed, stopped, or meet each other or a full disk.
//!
//! The law: whenever a run dies, a reader sees the tables of a whole run, and the next run gives what an
//! undisturbed one would have given, with nothing lost.

use crate::support::{NEWS, Project, clinic, copy, files, until, wait};
use deltalake_core::arrow::json::ArrayWriter;
use kinfold::points::Point;
use kinfold::warehouse::{Environment, Location, Table, Warehouse};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Lives of the small project that are cut off at a point of its run.
const SEEDS: usize = 200;
/// Lives that are cut off at any moment.
const RANDOM_KILLS: usize = 12;
/// Lives at once.
const WORKERS: usize = 3;
/// The signal that nothing survives.
const SIGKILL: i32 = 9;
/// Asks a run to say where it comes by, and does nothing to it.
const ONLY_TELL: &str = "nothing";

/// A project before and after the run that is disturbed.
struct Case {
    /// With news waiting to be read.
    ready: Project,
    old: State,
    /// What an undisturbed run makes of it, and what it sends.
    new: State,
    sent: Vec<String>,
    /// Where that run comes by, and how long it takes.
    points: Vec<String>,
    length: Duration,
}

/// One model and its sync. The run makes the tenth version of each table, sends an insert, an update and a delete, and
/// removes the log of the sync before it.
fn small() -> &'static Case {
    static SHARED: OnceLock<Case> = OnceLock::new();
    SHARED.get_or_init(|| {
        let project = Project::of(&[
            ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
            (
                "sources.yaml",
                "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: items, path: items/, format: csv}\n",
            ),
            (
                "destinations.yaml",
                "destinations:\n  - {name: outbox, type: files, location: target/outbox, format: csv}\n",
            ),
            (
                "models/items.sql",
                "SELECT id, max(status) AS status FROM shop.items GROUP BY id HAVING max(status) <> 'void'\n",
            ),
            (
                "models/items_to_outbox.yaml",
                "kind: sync\nname: items_to_outbox\nfrom: items\nto: outbox\nmode: mirror\nkey: id\nmax_delete: 100%\ncolumns: {id: id, status: status}\n",
            ),
            ("data/items/1.csv", "id,status\n1,done\n2,open\n"),
        ]);
        for _ in 0..9 {
            project.kinfold(&["run", "--full"]).exits(0);
        }
        project.write("data/items/2.csv", "id,status\n3,done\n");
        project.kinfold(&["run", "--full"]).exits(0);
        project.write("data/items/3.csv", "id,status\n1,open\n2,void\n4,done\n");
        Case::of(project)
    })
}

/// An identity, a profile, an audience and its sync.
fn shop() -> &'static Case {
    static SHARED: OnceLock<Case> = OnceLock::new();
    SHARED.get_or_init(|| {
        let project = Project::of(&[]);
        project.kinfold(&["init", "."]).exits(0);
        // entity ids that are the same in every warehouse, so that results can be compared
        let identity = project.read("models/person.yaml");
        project.write("models/person.yaml", &format!("{identity}id_key: the-same-everywhere\n"));
        project.kinfold(&["run"]).exits(0);
        project.write("data/visits/news.csv", NEWS);
        Case::of(project)
    })
}

impl Case {
    fn of(ready: Project) -> Self {
        let mut project = Project::of(&[]);
        copy(&ready.path(""), &project.path(""));
        let old = state(&project);
        project.set("KINFOLD_SIGNAL_AT", ONLY_TELL);
        let started = Instant::now();
        let told = project.kinfold(&["run"]).exits(0).stderr;
        let length = started.elapsed();
        let points = told.lines().filter_map(|line| line.strip_prefix("point ")).map(str::to_owned).collect();
        let new = state(&project);
        assert_ne!(old, new);
        Self { ready, old, new, sent: sent(&project), points, length }
    }

    /// The project in a copy that may be disturbed.
    fn disturbed(&self) -> Project {
        let project = Project::of(&[]);
        copy(&self.ready.path(""), &project.path(""));
        project
    }

    #[track_caller]
    fn readers_see_a_whole_run(&self, project: &Project, life: &str) {
        let seen = state(project);
        assert!(seen == self.old || seen == self.new, "{life}: readers see half a run: {seen:#?}");
    }

    /// The next run ends what was begun, and all is as if nobody had disturbed it.
    #[track_caller]
    fn next_run_makes_it_whole(&self, project: &Project, life: &str) {
        let outcome = project.kinfold(&["run"]);
        assert_eq!(outcome.code, 0, "{life}: {outcome}");
        self.is_whole(project, life);
    }

    #[track_caller]
    fn is_whole(&self, project: &Project, life: &str) {
        assert_eq!(state(project), self.new, "{life}");
        assert_eq!(sent(project), self.sent, "{life}");
    }
}

/// Rows of tables as sorted texts, without which run wrote them.
type State = BTreeMap<String, Vec<String>>;

/// Whether a table grows with each run, whatever happens in it.
fn grows(table: &str) -> bool {
    table == "audience_sizes" || table.ends_with("_report") || table.starts_with("kinfold.")
}

/// Rows of every table but those that grow, as the newest record shows them.
fn state(project: &Project) -> State {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let location = Location::parse("target/warehouse", &project.path("")).unwrap();
        let warehouse = Warehouse::open(&location, &Environment::new()).unwrap();
        let tables = warehouse.tables(&warehouse.snapshot(None).await.unwrap()).await.unwrap();
        let mut state = State::new();
        for (name, table) in tables.into_iter().filter(|(name, _)| !grows(name)) {
            state.insert(name, rows(&warehouse, &table).await);
        }
        state
    })
}

async fn rows(warehouse: &Warehouse, table: &Table) -> Vec<String> {
    let batches = warehouse.read_all(table).await.unwrap();
    let mut writer = ArrayWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    let written = writer.into_inner();
    let rows: Vec<Value> = if written.is_empty() { Vec::new() } else { serde_json::from_slice(&written).unwrap() };
    let without_run = rows.into_iter().map(|mut row| {
        row.as_object_mut().unwrap().remove("run");
        row.to_string()
    });
    let mut rows: Vec<String> = without_run.collect();
    rows.sort_unstable();
    rows
}

/// Rows that the destination got. After a kill some may have come twice, but then with the same idempotency
/// key; so that a destination that honours it has each change once.
fn sent(project: &Project) -> Vec<String> {
    let outbox = project.path("target/outbox");
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files(&outbox).into_keys().filter(|f| f.contains(".csv")) {
        let text = std::fs::read_to_string(outbox.join(&file)).unwrap();
        let mut lines = text.lines().map(|l| l.split(',').map(str::to_owned).collect::<Vec<_>>());
        let header = lines.next().unwrap();
        let key = header.iter().position(|c| c == "_idempotency_key").unwrap();
        for mut row in lines {
            by_key.insert(row.remove(key), row);
        }
    }
    let mut rows: Vec<String> = by_key.into_values().map(|row| row.join(",")).collect();
    rows.sort_unstable();
    rows
}

/// A number from 0 to 1 that is another one in each run of the tests: every moment must be right.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    bits as f64 / u64::MAX as f64
}

fn kill(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// Lets the time pass that a dead run holds the warehouse.
fn expire_lease(project: &Project) {
    let folder = project.path("target/warehouse/_kinfold/leases");
    let Some(newest) = files(&folder).into_keys().filter(|f| !f.contains('#')).max() else { return };
    let file = folder.join(newest);
    let mut lease: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    lease["expires_at"] = "2020-01-01T00:00:00Z".into();
    std::fs::write(file, lease.to_string()).unwrap();
}

/// Runs, and sends the run a signal when it is at a point; how it ended.
fn run_until(project: &mut Project, signal: &str, point: &str) -> std::process::ExitStatus {
    project.set("KINFOLD_SIGNAL_AT", &format!("{signal} {point}"));
    let status = project.command(&["run"]).output().unwrap().status;
    project.set("KINFOLD_SIGNAL_AT", ONLY_TELL);
    status
}

/// All seeds, a few at once.
fn each_seed(seeds: usize, live: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|seed| *seed < seeds) {
                    live(seed);
                }
            });
        }
    });
}

#[test]
fn a_run_comes_by_every_named_point() {
    let names: BTreeSet<&str> = small().points.iter().filter_map(|p| p.split_once(' ')).map(|(p, _)| p).collect();
    let all: BTreeSet<&str> = Point::ALL.iter().map(|p| p.name()).collect();
    assert_eq!(names, all);
}

#[test]
fn a_run_that_is_killed_at_any_point_loses_doubles_and_mixes_nothing() {
    let (case, points) = (small(), &small().points);
    assert!(points.len() < SEEDS / 2, "too many points for the seeds: {points:#?}");
    let in_time = AtomicUsize::new(0);
    each_seed(SEEDS, |seed| {
        let (mut project, point) = (case.disturbed(), &points[seed % points.len()]);
        let killed = run_until(&mut project, "KILL", point).signal() == Some(SIGKILL);
        in_time.fetch_add(usize::from(killed), Ordering::SeqCst);
        let mut life = format!("seed {seed}, killed at {point} ({killed})");
        case.readers_see_a_whole_run(&project, &life);
        expire_lease(&project);
        // from the second time on, the run that makes up for it is killed, too
        if seed >= points.len() {
            let point = &points[(seed * 31 + seed / points.len()) % points.len()];
            run_until(&mut project, "KILL", point);
            life.push_str(&format!(", then at {point}"));
            case.readers_see_a_whole_run(&project, &life);
            expire_lease(&project);
        }
        case.next_run_makes_it_whole(&project, &life);
        if seed.is_multiple_of(8) {
            project.kinfold(&["run", "--full"]).exits(0);
            assert_eq!(project.report()["syncs"][0]["sent"], 0, "{life}");
            case.is_whole(&project, &life);
        }
    });
    // how often a run comes by a point may depend on what its threads do, but hardly ever does
    let in_time = in_time.into_inner();
    assert!(in_time > SEEDS * 9 / 10, "only {in_time} of {SEEDS} were killed");
}

#[test]
fn a_run_that_is_killed_at_any_moment_loses_doubles_and_mixes_nothing() {
    let case = shop();
    each_seed(RANDOM_KILLS, |_| {
        let (project, moment) = (case.disturbed(), case.length.mul_f64(random()));
        let child = project.spawn(&["run"]);
        std::thread::sleep(moment);
        kill(child);
        let life = format!("killed after {moment:?} of {:?}", case.length);
        case.readers_see_a_whole_run(&project, &life);
        expire_lease(&project);
        case.next_run_makes_it_whole(&project, &life);
    });
}

#[test]
fn a_run_that_is_interrupted_at_any_point_leaves_the_warehouse_free() {
    let (case, stopped) = (small(), AtomicUsize::new(0));
    each_seed(Point::ALL.len(), |seed| {
        let (mut project, point) = (case.disturbed(), format!("{} 1", Point::ALL[seed].name()));
        let code = run_until(&mut project, "INT", &point).code();
        // near the end of a run the signal comes too late
        assert!([Some(130), Some(0)].contains(&code), "interrupted at {point}: {code:?}");
        stopped.fetch_add(usize::from(code == Some(130)), Ordering::SeqCst);
        case.readers_see_a_whole_run(&project, &point);
        // not 75: the lease was given back
        case.next_run_makes_it_whole(&project, &format!("interrupted at {point}"));
    });
    let stopped = stopped.into_inner();
    assert!(stopped > Point::ALL.len() / 2, "only {stopped} were stopped");
}

#[test]
fn a_run_that_stalls_past_its_lease_does_no_harm() {
    let case = small();
    each_seed(Point::ALL.len(), |seed| {
        let (mut project, point) = (case.disturbed(), format!("{} 1", Point::ALL[seed].name()));
        project.set("KINFOLD_SIGNAL_AT", &format!("STOP {point}"));
        let stalled = project.spawn(&["run"]);
        let status = format!("/proc/{}/status", stalled.id());
        until("a stopped run", || std::fs::read_to_string(&status).unwrap().contains("State:\tT"));
        project.set("KINFOLD_SIGNAL_AT", ONLY_TELL);
        expire_lease(&project);
        case.next_run_makes_it_whole(&project, &format!("while another is stalled at {point}"));
        assert!(Command::new("kill").args(["-CONT", &stalled.id().to_string()]).status().unwrap().success());
        let late = wait(stalled, &["run"]);
        assert!([0, 75].contains(&late.code), "stalled at {point}: {late}");
        case.is_whole(&project, &format!("stalled at {point} and gone on: {late}"));
    });
}

#[test]
fn a_killed_first_run_of_the_demo_is_done_by_the_next() {
    let project = Project::clinic();
    let child = project.spawn(&["run"]);
    until("a lease", || !files(&project.path("target/warehouse/_kinfold/leases")).is_empty());
    std::thread::sleep(Duration::from_secs_f64(4.0 * random()));
    kill(child);
    project.run_when_free();
    assert_eq!(state(&project), state(clinic()));
    let distinct = |p: &Project| p.sent().iter().map(|r| format!("{r:?}")).collect::<BTreeSet<_>>();
    assert_eq!(distinct(&project), distinct(clinic()));
}

#[test]
fn of_two_runs_at_once_one_is_told_to_come_back() {
    let project = Project::clinic();
    let first = project.spawn(&["run"]);
    until("a lease", || !files(&project.path("target/warehouse/_kinfold/leases")).is_empty());
    project.kinfold(&["run"]).exits(75).without_data().says(&["another run", "help"]);
    wait(first, &["run"]).exits(0);
    for table in ["patient", "patient_profile", "searched_not_booked", "patient_registry"] {
        let sql = format!("SELECT * FROM {table}");
        assert_eq!(project.lines(&sql), clinic().lines(&sql), "{table}");
    }
    assert_eq!(project.sent(), clinic().sent());
}

#[test]
fn an_interrupted_run_stops_cleanly() {
    let project = Project::clinic();
    let child = project.spawn(&["run"]);
    until("a lease", || !files(&project.path("target/warehouse/_kinfold/leases")).is_empty());
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    wait(child, &["run"]).exits(130).without_data().says(&["nothing of this run was committed"]);
    project.kinfold(&["show", "patient"]).exits(2);
    // the warehouse is free at once
    project.kinfold(&["run"]).exits(0);
    let sql = "SELECT * FROM patient_profile";
    assert_eq!(project.lines(sql), clinic().lines(sql));
}

#[test]
fn a_run_that_is_interrupted_while_it_sends_leaves_the_warehouse_free() {
    let mut project = Project::of(&[]);
    project.kinfold(&["init", "."]).exits(0);
    let outbox = project.read("destinations.yaml").replace("target/outbox", "\"${OUTBOX:-target/outbox}\"");
    project.write("destinations.yaml", &outbox);
    // a destination that takes calls and never answers
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (name, value) in [("ACCESS_KEY_ID", "tester"), ("SECRET_ACCESS_KEY", "none"), ("REGION", "us-east-1")] {
        project.set(&format!("AWS_{name}"), value);
    }
    project.set("AWS_ENDPOINT_URL", &format!("http://{}", silent.local_addr().unwrap()));
    project.set("OUTBOX", "s3://outbox");
    let child = project.spawn(&["run"]);
    let (_called, _) = silent.accept().unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    wait(child, &["run"]).exits(130).without_data().says(&["while committing or sending"]);
    project.set("OUTBOX", "target/outbox");
    // not 75: the lease of the syncs was given back, too
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.report()["syncs"][0]["sent"], 2);
}

#[test]
fn a_run_that_lacks_memory_says_so_and_leaves_the_warehouse_free() {
    let project = Project::clinic();
    let outcome = project.kinfold(&["run", "--memory", "1MB"]).exits(1);
    outcome.says(&["Resources exhausted", "--memory"]);
    assert_eq!(project.tables(), BTreeSet::new(), "nothing of it is visible");
    // not 75: the failed run gave its lease back
    project.kinfold(&["run", "--select", "provider_stats"]).exits(0);
}

/// Runs a script in the project with `$KINFOLD` as the command; what it printed, line by line.
fn script(project: &Project, program: &[&str], script: &str) -> Vec<String> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).args(["-c", script]).current_dir(project.path("")).env("NO_COLOR", "1");
    let output = command.env("KINFOLD", env!("CARGO_BIN_EXE_kinfold")).output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    told.lines().map(str::to_owned).collect()
}

#[test]
fn a_run_that_may_write_no_larger_file_says_so() {
    let (case, project) = (small(), small().disturbed());
    project.remove("target/openlineage.ndjson");
    // 3 KiB: enough for a lease, not for the list of what a run commits
    let told = script(&project, &["sh"], "trap '' XFSZ; ulimit -f 6; $KINFOLD run; echo exit $?").join("\n");
    assert!(told.contains("there is no room left") && told.contains("exit 1"), "{told}");
    assert_eq!(state(&project), case.old);
    case.next_run_makes_it_whole(&project, "after a run that could not write");
}

#[test]
fn a_full_disk_ends_a_run_wherever_it_is_and_the_next_one_makes_up_for_it() {
    let as_root = ["unshare", "--map-root-user", "--mount", "sh"];
    let mount = "mount -t tmpfs -o size=64m none /mnt && echo mounted";
    if script(&Project::of(&[]), &as_root, mount) != ["mounted"] {
        // where nobody may mount, the limit on the size of files above has to do
        return;
    }
    // so many pages of 4 KiB are left: too few for anything at first, enough for all at last
    let (case, spare, failed) = (small(), [0, 4, 8, 12, 16, 20, 24, 28, 32, 80], AtomicUsize::new(0));
    each_seed(spare.len(), |seed| {
        let (project, pages) = (case.disturbed(), spare[seed]);
        // a disk with the project on it and little else; then a larger one. What could not be given back for want of
        // room is let expire.
        let steps = [
            "mount -t tmpfs -o size=64m none /mnt && cp -a . /mnt && cd /mnt",
            "used=$(df -k --output=used . | tail -1)",
            &format!("mount -o remount,size=$((used + 4 * {pages}))k /mnt"),
            "{ $KINFOLD run; echo exit $?; }",
            "mount -o remount,size=64m /mnt",
            "sed -i 's/\"expires_at\": \"[^\"]*\"/\"expires_at\": \"2020-01-01T00:00:00Z\"/' target/warehouse/_kinfold/leases/*.json",
            "$KINFOLD run && echo done && rm -rf \"$OLDPWD/target\" && cp -a target \"$OLDPWD\"",
        ];
        let told = script(&project, &as_root, &steps.join(" && ")).join("\n");
        let life = format!("{pages} pages left: {told}");
        assert!(!told.contains("panicked") && told.contains("\ndone"), "{life}");
        if told.contains("exit 1") {
            failed.fetch_add(1, Ordering::SeqCst);
            assert!(told.contains("there is no room left"), "{life}");
        } else {
            assert!(told.contains("exit 0"), "{life}");
        }
        case.is_whole(&project, &life);
    });
    let failed = failed.into_inner();
    assert!(failed > 2 && failed < spare.len(), "{failed} runs failed");
}

#[test]
fn what_a_power_cut_tore_blocks_no_run_for_ever() {
    let (case, project) = (small(), small().disturbed());
    let folder = project.path("target/warehouse/_kinfold/leases");
    let newest = folder.join(files(&folder).into_keys().max().unwrap());
    std::fs::write(&newest, "{\n  \"epoch\"").unwrap();
    project.kinfold(&["run"]).exits(75).says(&["is damaged", "try again after"]);
    let minute_ago = std::fs::metadata(&newest).unwrap().modified().unwrap() - Duration::from_mins(1);
    std::fs::File::options().write(true).open(&newest).unwrap().set_modified(minute_ago).unwrap();
    case.next_run_makes_it_whole(&project, "after a torn lease");
}
