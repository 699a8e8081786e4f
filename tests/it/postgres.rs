//! Syncs to a PostgreSQL server: Debian's, with a cluster of its own in a temporary folder.

use crate::support::Project;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A server for one test.
struct Server {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Debian's package postgresql").flatten();
        let bin = versions.map(|v| v.path().join("bin")).max().unwrap();
        let folder = TempDir::with_prefix("kinfold-postgres-").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, bin, port };
        if is_root() {
            // the server refuses to run as root
            let chown = Command::new("chown").arg("postgres").arg(server.folder.path()).status().unwrap();
            assert!(chown.success());
        }
        let data = server.folder.path().join("data");
        let data = data.to_str().unwrap();
        server.must("initdb", &["-D", data, "-U", "kinfold", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        let settings = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off",
            server.folder.path().display()
        );
        let log = server.folder.path().join("log");
        server.must("pg_ctl", &["-D", data, "-w", "-l", log.to_str().unwrap(), "-o", &settings, "start"]);
        server
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Output {
        let program = self.bin.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // pg_ctl leaves the server behind, which must not keep our pipes open
        let quiet = name == "pg_ctl";
        let pipe = || if quiet { Stdio::null() } else { Stdio::piped() };
        command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(pipe()).stderr(pipe());
        command.spawn().unwrap().wait_with_output().unwrap()
    }

    #[track_caller]
    fn must(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.tool(name, arguments);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Rows of a query, columns parted by `|`.
    #[track_caller]
    fn query(&self, sql: &str) -> Vec<String> {
        let port = self.port.to_string();
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-U", "kinfold", "-d", "postgres", "-X", "-At", "-c"];
        let answer = self.must("psql", &[&arguments[..], &["SET TIME ZONE 'UTC'", "-c", sql]].concat());
        answer.lines().skip(1).map(str::to_owned).collect()
    }

    fn url(&self) -> String {
        format!("postgres://kinfold@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        self.tool("pg_ctl", &["-D", data.to_str().unwrap(), "-m", "immediate", "stop"]);
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.starts_with(b"0\n")
}

const CONTACTS: &str = "SELECT id, name, n, n * 0.25 AS share, n > 15 AS big, CAST('2026-01-02' AS date) AS day,
  CAST('2026-03-01T10:00:00Z' AS timestamp) AS at, make_array(n, n + 1) AS list FROM shop.people\n";
const ALL: &str = "{name: name, n: n, share: share, big: big, day: day, at: at, list: list}";

fn project(server: &Server) -> Project {
    let mut project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: 2026-03-31\n"),
        (
            "sources.yaml",
            "sources: [{name: shop, location: data, tables: [{name: people, path: people.csv, columns: {n: {type: BIGINT}}}]}]\n",
        ),
        ("data/people.csv", "id,name,n\n1,Ann,10\n2,\"tab\tnew\nline \\ back\",20\n3,,30\n"),
        ("destinations.yaml", "destinations:\n  - {name: crm, type: postgres, url: \"${CRM}\"}\n"),
        ("models/contacts.sql", CONTACTS),
    ]);
    project.set("CRM", &server.url());
    project
}

fn define(project: &Project, name: &str, mode: &str, columns: &str) {
    let head = format!("kind: sync\nname: {name}\nfrom: contacts\nto: crm\nkey: id\nmax_delete: 100%\n");
    project.write("models/out.yaml", &format!("{head}mode: {mode}\ncolumns: {columns}\n"));
}

fn counts(project: &Project) -> [u64; 4] {
    let sync = project.report()["syncs"][0].clone();
    ["inserted", "updated", "deleted", "acknowledged"].map(|n| sync[n].as_u64().unwrap_or_else(|| panic!("{sync}")))
}

#[test]
#[ignore = "needs Debian's package postgresql"]
fn a_table_is_made_filled_and_kept_up_to_date() {
    let server = Server::start();
    let project = project(&server);
    define(&project, "people", "mirror", ALL);
    project.kinfold(&["run"]).exits(0);
    let types = server.query("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'people'::regclass AND attnum > 0 ORDER BY attnum");
    assert_eq!(
        types,
        [
            "id|text",
            "name|text",
            "n|bigint",
            "share|double precision",
            "big|boolean",
            "day|date",
            "at|timestamp with time zone",
            "list|jsonb"
        ]
    );
    let all = "SELECT id, replace(replace(name, chr(9), '<tab>'), chr(10), '<line>'), n, share, big, day, at, list FROM people ORDER BY id";
    assert_eq!(
        server.query(all),
        [
            "1|Ann|10|2.5|f|2026-01-02|2026-03-01 10:00:00+00|[10, 11]",
            "2|tab<tab>new<line>line \\ back|20|5|t|2026-01-02|2026-03-01 10:00:00+00|[20, 21]",
            "3||30|7.5|t|2026-01-02|2026-03-01 10:00:00+00|[30, 31]",
        ]
    );
    // somebody else's row stays, whatever leaves
    server.query("INSERT INTO people (id, name) VALUES ('theirs', 'Zoe')");
    project.write("data/people.csv", "id,name,n\n1,Ann,11\n3,,30\n4,Di,40\n");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(counts(&project), [1, 1, 1, 3]);
    let short = "SELECT id, name, n FROM people ORDER BY id";
    assert_eq!(server.query(short), ["1|Ann|11", "3||30", "4|Di|40", "theirs|Zoe|"]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(counts(&project), [0, 0, 0, 0]);

    // a column that is taken out stays as it is; taken in again it is filled again
    define(&project, "people", "mirror", &ALL.replace("n: n, ", ""));
    project.write("data/people.csv", "id,name,n\n1,Ann,99\n3,,30\n4,Di,40\n");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(server.query(short)[0], "1|Ann|11");
    define(&project, "people", "mirror", ALL);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(server.query(short), ["1|Ann|99", "3||30", "4|Di|40", "theirs|Zoe|"]);
}

#[test]
#[ignore = "needs Debian's package postgresql"]
fn modes_do_what_they_say() {
    let server = Server::start();
    let project = project(&server);
    server.query("CREATE TABLE people (id text PRIMARY KEY, name varchar(20), n integer, theirs text DEFAULT 'x')");
    server.query("INSERT INTO people VALUES ('1', 'old', 1), ('9', 'old', 9)");
    let rows = || server.query("SELECT id, name, n, theirs FROM people ORDER BY id");
    project.write("data/people.csv", "id,name,n\n1,Ann,10\n2,Bob,3000000000\n");
    define(&project, "people", "insert", "{name: name, n: n}");
    project.kinfold(&["run"]).exits(0);
    // the number was too large for the table's type, which was widened
    assert_eq!(rows(), ["1|old|1|x", "2|Bob|3000000000|x", "9|old|9|x"]);
    define(&project, "people", "update", "{name: name, n: n}");
    project.write("data/people.csv", "id,name,n\n1,Ann,11\n2,Bo,20\n5,Eve,50\n");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(rows(), ["1|Ann|11|x", "2|Bo|20|x", "9|old|9|x"]);
    define(&project, "people", "replace", "{name: name, n: n}");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(rows(), ["1|Ann|11|x", "2|Bo|20|x", "5|Eve|50|x"]);

    define(&project, "log", "append", "{name: name, n: n}");
    project.kinfold(&["run"]).exits(0);
    project.write("data/people.csv", "id,name,n\n1,Ann,12\n2,Bo,20\n5,Eve,50\n");
    project.kinfold(&["run"]).exits(0);
    let log = "SELECT _operation, _change, id, n FROM log ORDER BY _epoch, id";
    assert_eq!(server.query(log), ["insert|1|1|11", "insert|1|2|20", "insert|1|5|50", "update|2|1|12"]);
    assert_eq!(
        server.query("SELECT count(DISTINCT _idempotency_key), min(length(_idempotency_key)) FROM log"),
        ["4|64"]
    );
}

#[test]
#[ignore = "needs Debian's package postgresql"]
fn what_the_server_refuses_is_rejected_row_by_row_or_stops_the_sync() {
    let server = Server::start();
    let project = project(&server);
    server.query("CREATE TABLE people (id text PRIMARY KEY, name varchar(3) CHECK (name <> 'bad'), n bigint)");
    let name = |n: u32| match n {
        7 => "toolong",
        31 => "bad",
        _ => "ok",
    };
    let many: Vec<String> = (1..=40).map(|n| format!("{n},{},{n}\n", name(n))).collect();
    project.write("data/people.csv", &format!("id,name,n\n{}", many.concat()));
    define(&project, "people", "upsert", "{name: name, n: n}");
    let told = project.kinfold(&["run"]).exits(1);
    assert!(told.stdout.contains("partial"), "{told}");
    assert_eq!(server.query("SELECT count(*) FROM people"), ["38"]);
    let state = project.lines("SELECT key, last_error FROM kinfold.sync_people WHERE state = 'rejected'");
    assert_eq!(
        state[1..],
        [
            "31,\"new row for relation \"\"people\"\" violates check constraint \"\"people_name_check\"\" (SQLSTATE 23514)\"",
            "7,value too long for type character varying(3) (SQLSTATE 22001)",
        ]
    );
    server.query("ALTER TABLE people ALTER COLUMN name TYPE text, DROP CONSTRAINT people_name_check");
    project.kinfold(&["sync", "retry"]).exits(0);
    assert_eq!(server.query("SELECT count(*) FROM people"), ["40"]);

    // nothing is narrowed, and nothing is guessed
    define(&project, "people", "upsert", "{name: name, n: n * 0.5}");
    let told = project.kinfold(&["run"]).exits(1);
    assert!(
        told.stdout.contains("column `n`") && told.stdout.contains("is bigint, which cannot hold the double precision"),
        "{told}"
    );
    define(&project, "loose", "upsert", "{name: name}");
    server.query("CREATE TABLE loose (id text, name text)");
    let told = project.kinfold(&["run"]).exits(1);
    assert!(told.stdout.contains("CREATE UNIQUE INDEX"), "{told}");
    assert_eq!(server.query("SELECT count(*) FROM loose"), ["0"]);

    // a server that is away is waited for as long as the sync says
    define(&project, "away", "upsert", "{name: name}\nretry: {for: 1 s}");
    let told = project_at(&project, 1).kinfold(&["run"]).exits(1);
    assert!(told.stdout.contains("tried "), "{told}");
}

/// The same project with a server that is not there.
fn project_at(project: &Project, port: u16) -> Project {
    let files = [
        "kinfold.yaml",
        "sources.yaml",
        "data/people.csv",
        "destinations.yaml",
        "models/contacts.sql",
        "models/out.yaml",
    ];
    let texts: Vec<(&str, String)> = files.map(|file| (file, project.read(file))).into();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(file, text)| (*file, text.as_str())).collect();
    let mut other = Project::of(&texts);
    other.set("CRM", &format!("postgres://kinfold:hush@127.0.0.1:{port}/postgres"));
    other
}

#[test]
#[ignore = "needs Debian's package postgresql"]
fn a_hundred_thousand_rows_arrive() {
    let server = Server::start();
    let project = project(&server);
    let many: Vec<String> = (1..=100_000).map(|n| format!("{n},name {n},{n}\n")).collect();
    project.write("data/people.csv", &format!("id,name,n\n{}", many.concat()));
    define(&project, "people", "upsert", "{name: name, n: n}");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(server.query("SELECT count(*), sum(n) FROM people"), ["100000|5000050000"]);
    println!("{}", project.report()["syncs"][0]);
}
