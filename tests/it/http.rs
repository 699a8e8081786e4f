//! Syncs to a service: what it gets, and what is lost or doubled when it misbehaves (nothing, and only under the same key).

use crate::receiver::{Reaction, Receiver, Request, ok};
use crate::support::Project;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PEOPLE: &str = "id,name,n\n1,Ann,10\n2,\"Bob \"\"B\"\"\",20\n3,,30\n";

/// A project with one sync of `people` to a service.
fn project(receiver: &Receiver, destination: &str, sync: &str) -> Project {
    let mut project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: 2026-03-31\nsecrets: {TOKEN: \"${TOKEN}\"}\n"),
        (
            "sources.yaml",
            "sources: [{name: shop, location: data, tables: [{name: people, path: people.csv, columns: {n: {type: BIGINT}}}]}]\n",
        ),
        ("data/people.csv", PEOPLE),
        ("models/contacts.sql", "SELECT id, name, n FROM shop.people\n"),
    ]);
    let head = format!("destinations:\n  - name: crm\n    type: http\n    url: \"{}\"\n", receiver.url("/people"));
    project.write("destinations.yaml", &format!("{head}{destination}"));
    let columns = "columns: {id: id, name: name, n: n}";
    project.write(
        "models/out.yaml",
        &format!("kind: sync\nname: out\nfrom: contacts\nto: crm\nkey: id\n{columns}\n{sync}"),
    );
    project.set("TOKEN", "hush-hush");
    for proxy in ["NO_PROXY", "no_proxy"] {
        project.set(proxy, "127.0.0.1");
    }
    project
}

fn many(rows: usize) -> String {
    (1..=rows).fold("id,name,n\n".to_owned(), |text, n| text + &format!("{n},name {n},{n}\n"))
}

fn sync(project: &Project) -> Value {
    project.report()["syncs"][0].clone()
}

/// Numbers of a sync's report, in the order of the names.
#[track_caller]
fn counts(project: &Project, names: &[&str]) -> Vec<u64> {
    let report = sync(project);
    names.iter().map(|n| report[n].as_u64().unwrap_or_else(|| panic!("{n}: {report}"))).collect()
}

/// Bodies by idempotency key; one key never has two bodies.
fn by_key(requests: &[Request]) -> BTreeMap<String, (String, usize)> {
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for request in requests {
        let entry = found.entry(request.key().to_owned()).or_insert((request.body.clone(), 0));
        assert_eq!(entry.0, request.body, "one key, two bodies");
        entry.1 += 1;
    }
    found
}

#[test]
fn a_service_gets_the_rows_that_changed_with_its_headers() {
    let receiver = Receiver::new(|_| ok());
    let destination = r#"    headers: {Authorization: "Bearer {{ secret('TOKEN') }}", X-Source: kinfold}
    body: |
      {"who": {{ row.id }}, "name": {{ row.name }}, "n": {{ row.n + 1 }}, "op": {{ row._operation }}}
    delete: {url: "URL/{{ row.id }}"}
"#
    .replace("URL", &receiver.url("/people"));
    let project = project(&receiver, &destination, "mode: mirror\nmax_delete: 50%\n");
    let first = project.kinfold(&["run"]).exits(0);
    let mut requests = receiver.requests();
    requests.sort_by_key(|r| r.body.clone());
    let bodies: Vec<&str> = requests.iter().map(|r| r.body.as_str()).collect();
    assert_eq!(
        bodies,
        [
            r#"{"who": "1", "name": "Ann", "n": 11, "op": "insert"}"#,
            r#"{"who": "2", "name": "Bob \"B\"", "n": 21, "op": "insert"}"#,
            r#"{"who": "3", "name": null, "n": 31, "op": "insert"}"#,
        ]
    );
    for request in &requests {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/people"));
        assert_eq!(request.headers["authorization"], "Bearer hush-hush");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!((request.headers["x-source"].as_str(), request.key().len()), ("kinfold", 64));
    }
    assert_eq!(by_key(&requests).len(), 3);

    receiver.now(|r| if r.method == "DELETE" { Reaction::Answer(404, "", String::new()) } else { ok() });
    project.write("data/people.csv", "id,name,n\n1,Ann,10\n3,Cy,30\n");
    let second = project.kinfold(&["run"]).exits(0);
    let sent: Vec<(String, String, String)> =
        receiver.requests().iter().map(|r| (r.method.clone(), r.path.clone(), r.body.clone())).collect();
    let update = r#"{"who": "3", "name": "Cy", "n": 31, "op": "update"}"#;
    assert_eq!(
        sent,
        [
            ("POST".to_owned(), "/people".to_owned(), update.to_owned()),
            ("DELETE".to_owned(), "/people/2".to_owned(), String::new())
        ]
    );
    assert_eq!(counts(&project, &["updated", "deleted", "acknowledged", "unchanged"]), [1, 1, 2, 1]);
    let left = [first.stdout, first.stderr, second.stdout, second.stderr, project.read("target/run.json")];
    assert!(!left.concat().contains("hush-hush"));
    assert!(!project.read("target/manifest.json").contains("hush-hush"));
}

#[test]
fn what_passes_is_waited_for_under_the_same_key() {
    let receiver = Receiver::new(|request| match request.number {
        1 => Reaction::Answer(429, "retry-after: 2\r\n", String::new()),
        2 => Reaction::Answer(500, "", "oops".to_owned()),
        3 => Reaction::Drop,
        _ => ok(),
    });
    let project = project(&receiver, "    rows: 10\n", "mode: upsert\n");
    project.kinfold(&["run"]).exits(0);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4);
    let found = by_key(&requests);
    assert_eq!(found.len(), 1);
    let expected = json!([{"id": "1", "name": "Ann", "n": 10}, {"id": "2", "name": "Bob \"B\"", "n": 20}, {"id": "3", "name": null, "n": 30}]);
    assert_eq!(requests[0].json(), expected);
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(2), "Retry-After is kept");
    assert_eq!(counts(&project, &["sent", "acknowledged", "rejected"]), [3, 3, 0]);
    assert_eq!(project.number("SELECT min(attempt) FROM kinfold.sync_out"), 4);
}

#[test]
fn rows_that_an_answer_names_are_rejected_and_the_others_are_not() {
    let receiver = Receiver::new(|_| {
        let answer = json!({"errors": [{"at": 1, "why": "no such name as Bob \"B\" here"}]});
        Reaction::Answer(207, "", answer.to_string())
    });
    let rejected = "    rows: 10\n    rejected: {at: /errors, index: /at, reason: /why}\n";
    let project = project(&receiver, rejected, "mode: upsert\n");
    let told = project.kinfold(&["run"]).exits(1);
    assert!(told.stdout.contains("partial"), "{told}");
    assert_eq!(counts(&project, &["sent", "acknowledged", "rejected"]), [3, 2, 1]);
    let state = project.lines("SELECT key, state, retryable, last_error FROM kinfold.sync_out");
    assert_eq!(
        state[1..],
        ["1,acknowledged,,", "2,rejected,false,HTTP 207 no such name as *** here", "3,acknowledged,,"]
    );
    // it waits until it changes, or until somebody asks
    receiver.now(|_| ok());
    project.kinfold(&["run"]).exits(0);
    assert_eq!(receiver.requests().len(), 0);
    let retried = project.kinfold(&["sync", "retry", "out"]).exits(0);
    assert!(retried.stdout.contains("success"), "{retried}");
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(receiver.requests()[0].json(), json!([{"id": "2", "name": "Bob \"B\"", "n": 20}]));
    assert_eq!(project.lines("SELECT DISTINCT state FROM kinfold.sync_out")[1..], ["acknowledged"]);
}

#[test]
fn a_list_of_rejected_rows_is_believed_only_with_a_status_that_may_have_one() {
    let answer = |status: u16| {
        move |request: &Request| {
            let bad = request.json().as_array().unwrap().iter().position(|row| row["id"] == "2");
            match bad {
                Some(at) => Reaction::Answer(status, "", json!({"errors": [{"at": at, "why": "no"}]}).to_string()),
                None => ok(),
            }
        }
    };
    // 422 took nothing: the batch is halved, and every row but the bad one is sent again
    let receiver = Receiver::new(answer(422));
    let rejected = "    rows: 10\n    rejected: {at: /errors, index: /at, reason: /why}\n";
    let project = project_of(&receiver, rejected);
    project.kinfold(&["run"]).exits(1);
    assert_eq!(counts(&project, &["sent", "acknowledged", "rejected"]), [3, 2, 1]);
    let taken: BTreeSet<String> = receiver
        .requests()
        .iter()
        .filter(|r| !r.body.contains("\"id\":\"2\""))
        .flat_map(|r| r.json().as_array().unwrap().iter().map(|row| row["id"].to_string()).collect::<Vec<_>>())
        .collect();
    assert_eq!(taken, BTreeSet::from(["\"1\"".to_owned(), "\"3\"".to_owned()]));
    // unless the destination says that 422 names what it did not take
    let receiver = Receiver::new(answer(422));
    let believed = "    rows: 10\n    rejected: {at: /errors, index: /at, reason: /why, status: [2xx, 422]}\n";
    let project = project_of(&receiver, believed);
    project.kinfold(&["run"]).exits(1);
    assert_eq!(counts(&project, &["sent", "acknowledged", "rejected"]), [3, 2, 1]);
    assert_eq!(receiver.requests().len(), 1);
    // an error of the key is one, whatever else the answer says
    let receiver = Receiver::new(answer(401));
    let project = project_of(&receiver, rejected);
    project.kinfold(&["run"]).exits(1);
    assert_eq!((counts(&project, &["acknowledged"]), receiver.requests().len()), (vec![0], 1));
}

fn project_of(receiver: &Receiver, destination: &str) -> Project {
    project(receiver, destination, "mode: upsert\n")
}

#[test]
fn an_answer_that_is_too_long_to_read_accepts_nothing() {
    let receiver = Receiver::new(|_| {
        let answer = json!({"padding": "x".repeat(5 << 20), "errors": [{"at": 1}]});
        Reaction::Answer(200, "", answer.to_string())
    });
    let project = project_of(&receiver, "    rows: 10\n    rejected: {at: /errors, index: /at}\n");
    let told = project.kinfold(&["run"]).exits(1);
    assert!(told.stdout.contains("longer than 4 MiB") && told.stdout.contains("send fewer rows"), "{told}");
    assert_eq!(counts(&project, &["acknowledged"]), [0]);
    assert_eq!(project.lines("SELECT DISTINCT state FROM kinfold.sync_out")[1..], ["sent"]);
    // where no rows are named, the code says all
    let project = project_of(&receiver, "    rows: 10\n");
    project.kinfold(&["run"]).exits(0);
}

#[test]
fn all_rows_with_the_value_that_an_answer_names_are_rejected() {
    let receiver = Receiver::new(|_| {
        let answer = json!({"errors": [{"name": "Ann"}]});
        Reaction::Answer(200, "", answer.to_string())
    });
    let project = project_of(&receiver, "    rows: 10\n    rejected: {at: /errors, column: name, value: /name}\n");
    project.write("data/people.csv", "id,name,n\n1,Ann,10\n2,Bob,20\n3,Ann,30\n");
    project.kinfold(&["run"]).exits(1);
    let state = project.lines("SELECT key, state FROM kinfold.sync_out ORDER BY key");
    assert_eq!(state[1..], ["1,rejected", "2,acknowledged", "3,rejected"]);
}

#[test]
fn a_row_whose_answer_was_lost_is_deleted_later_though_its_next_try_was_refused() {
    let receiver = Receiver::new(|_| Reaction::Drop);
    let delete = "    delete: {method: POST, body: '{\"gone\": {{ row.id }}}'}\n";
    let project = project(&receiver, delete, "mode: mirror\nmax_delete: 100%\nretry: {for: 1 s}\n");
    project.write("data/people.csv", "id,name,n\n1,Ann,10\n");
    project.kinfold(&["run"]).exits(1);
    // it had arrived, so that the same again is refused
    receiver.now(|_| Reaction::Answer(409, "", String::new()));
    project.kinfold(&["run"]).exits(1);
    assert_eq!(project.lines("SELECT state, perhaps_there FROM kinfold.sync_out")[1..], ["rejected,true"]);
    receiver.now(|_| ok());
    project.write("data/people.csv", "id,name,n\n");
    project.kinfold(&["run"]).exits(0);
    let bodies: Vec<String> = receiver.requests().iter().map(|r| r.body.clone()).collect();
    assert_eq!(bodies, [r#"{"gone": "1"}"#]);
    assert_eq!(project.lines("SELECT state, perhaps_there FROM kinfold.sync_out")[1..], ["acknowledged,false"]);
}

#[test]
fn a_batch_that_is_refused_is_halved_until_the_bad_row_is_found() {
    let receiver = Receiver::new(|request| {
        let bad = request.json().as_array().unwrap().iter().any(|row| row["n"] == 23);
        if bad { Reaction::Answer(422, "", "bad n 23 in name 23".to_owned()) } else { ok() }
    });
    let project = project(&receiver, "    rows: 32\n", "mode: upsert\nfail_above: 2%\n");
    project.write("data/people.csv", &many(64));
    let told = project.kinfold(&["run"]).exits(1);
    assert_eq!(counts(&project, &["sent", "acknowledged", "rejected"]), [64, 63, 1]);
    // two batches of 32; of the first, its halves: one good and one bad of 16, 8, 4, 2, 1
    assert_eq!(receiver.requests().len(), 2 + 2 * 5);
    let error = project.lines("SELECT key, last_error FROM kinfold.sync_out WHERE state = 'rejected'");
    assert_eq!(error[1..], ["23,HTTP 422 bad n 23 in ***"]);
    assert!(!told.stdout.contains("fail_above"), "1 of 64 rows is less than 2 %: {told}");
    let strict = project.read("models/out.yaml").replace("2%", "1%");
    project.write("models/out.yaml", &strict);
    project.kinfold(&["sync", "--full"]).exits(1);
    assert!(sync(&project)["error"].as_str().unwrap().contains("1 of 64 rows"), "{}", sync(&project));
}

#[test]
fn a_service_that_does_not_come_back_fails_the_sync_and_the_next_run_sends_the_rest() {
    let receiver =
        Receiver::new(|request| if request.number <= 4 { ok() } else { Reaction::Answer(503, "", String::new()) });
    let project = project(&receiver, "", "mode: upsert\nretry: {for: 1 s}\n");
    project.write("data/people.csv", &many(9));
    let told = project.kinfold(&["run"]).exits(1);
    assert!(told.stdout.contains("HTTP 503 (tried "), "{told}");
    // the five without an answer, whether they were handed over or not
    assert_eq!(counts(&project, &["acknowledged", "again"]), [4, 5]);
    assert_eq!(sync(&project)["result"], "partial");
    let took = |what: &str| sync(&project)[what].as_f64().unwrap();
    assert!(0.0 < took("delivery_seconds") && took("delivery_seconds") <= took("seconds"), "{}", sync(&project));
    assert!(project.kinfold(&["status"]).exits(0).stdout.contains("the next run tries 5 again"));
    let first: BTreeSet<String> = by_key(&receiver.requests()).into_keys().collect();
    receiver.now(|_| ok());
    project.kinfold(&["run"]).exits(0);
    assert_eq!(counts(&project, &["unchanged", "acknowledged", "again"]), [4, 5, 0]);
    let kept = project.query("SELECT again FROM kinfold.syncs ORDER BY run");
    assert_eq!(json!(kept), json!([{"again": 5}, {"again": 0}]));
    // the fifth is sent again under its key
    assert_eq!(by_key(&receiver.requests()).keys().filter(|k| first.contains(*k)).count(), 1);
}

#[test]
fn a_wrong_key_stops_the_sync_at_once() {
    let receiver = Receiver::new(|_| Reaction::Answer(401, "", "token hush-hush is not known".to_owned()));
    let destination = "    headers: {Authorization: \"{{ secret('TOKEN') }}\"}\n";
    let project = project(&receiver, destination, "mode: upsert\n");
    let told = project.kinfold(&["run"]).exits(1);
    assert_eq!(receiver.requests().len(), 1);
    assert!(told.stdout.contains("HTTP 401 token *** is not known"), "{told}");
    assert!(told.stdout.contains("look at the `headers`"), "{told}");
}

#[test]
fn an_answer_that_does_not_come_is_asked_for_again() {
    let receiver =
        Receiver::new(|request| if request.number == 1 { Reaction::Slow(Duration::from_secs(3), 200) } else { ok() });
    let project = project(&receiver, "    timeout: 500 ms\n    rows: 5\n", "mode: upsert\n");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(by_key(&receiver.requests()).len(), 1);
}

#[test]
fn lanes_and_rate_are_kept() {
    let receiver = Receiver::new(|_| Reaction::Slow(Duration::from_millis(200), 200));
    let mut definition = "mode: upsert\nbatch: {concurrency: 4}\n".to_owned();
    let project = project(&receiver, "", &definition);
    project.write("data/people.csv", &many(20));
    project.kinfold(&["run"]).exits(0);
    assert_eq!((receiver.requests().len(), receiver.most_at_once()), (20, 4));
    definition =
        project.read("models/out.yaml").replace("{concurrency: 4}", "{concurrency: 4, per_second: 20, rows: 1}");
    project.write("models/out.yaml", &definition);
    receiver.now(|_| ok());
    project.kinfold(&["sync", "out", "--full"]).exits(0);
    let requests = receiver.requests();
    let span = requests.iter().map(|r| r.at).max().unwrap() - requests.iter().map(|r| r.at).min().unwrap();
    // nineteen gaps of 50 ms; a little less, since arrival is not departure
    assert!(requests.len() == 20 && span >= Duration::from_millis(900), "{span:?}");
}

#[test]
fn whatever_fails_nothing_is_lost_and_what_is_doubled_has_its_key() {
    for seed in 1..4_usize {
        // a third of the requests goes wrong, in every way
        let receiver = Receiver::new(move |request| {
            match request.number.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) % 12 {
                0 => Reaction::Answer(500, "", String::new()),
                1 => Reaction::Drop,
                2 => Reaction::Answer(429, "retry-after: 0\r\n", String::new()),
                3 => Reaction::Slow(Duration::from_millis(30), 200),
                _ => ok(),
            }
        });
        let project = project(&receiver, "    rows: 3\n", "mode: upsert\nbatch: {concurrency: 8}\n");
        project.write("data/people.csv", &many(100));
        project.kinfold(&["run"]).exits(0);
        assert_eq!(counts(&project, &["acknowledged", "rejected"]), [100, 0], "seed {seed}");
        let found = by_key(&receiver.requests());
        let rows: BTreeSet<String> = found
            .values()
            .flat_map(|(body, _)| serde_json::from_str::<Vec<Value>>(body).unwrap())
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((found.len(), rows.len()), (34, 100), "seed {seed}");
    }
}

#[test]
fn a_killed_sync_sends_at_most_its_lanes_again() {
    let receiver = Receiver::new(|_| Reaction::Slow(Duration::from_millis(40), 200));
    let project = project(&receiver, "", "mode: upsert\nbatch: {concurrency: 3}\n");
    project.write("data/people.csv", &many(120));
    let mut child = project.spawn(&["run"]);
    while receiver.requests().len() < 30 {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let before = receiver.requests();
    project.run_when_free();
    let all = receiver.requests();
    let found = by_key(&all);
    assert_eq!(found.len(), 120);
    let doubled = found.values().filter(|(_, times)| *times > 1).count();
    assert!(doubled <= 3, "{doubled} of {} were sent again", before.len());
    assert_eq!(all.len(), 120 + doubled);
}

/// A project that sends its people by one of the ready definitions, and what came.
fn sent_by(
    definition: &str,
    variable: &str,
    mode: &str,
    columns: &str,
    answer: &'static str,
) -> (Project, Vec<Request>) {
    let receiver = Receiver::new(move |_| Reaction::Answer(201, "", answer.to_owned()));
    let mut project = project(&receiver, "", &format!("mode: {mode}\n"));
    let file = crate::support::repository().join(format!("examples/destinations/{definition}.yaml"));
    project.write("destinations.yaml", &std::fs::read_to_string(file).unwrap());
    let secrets = ["MIXPANEL_SECRET", "TWILIO_TOKEN", "SEGMENT_KEY", "BRAZE_KEY"].map(|name| format!("{name}: hush"));
    project.write("kinfold.yaml", &format!("name: shop\nas_of: 2026-03-31\nsecrets: {{{}}}\n", secrets.join(", ")));
    let sync =
        format!("kind: sync\nname: out\nfrom: contacts\nto: {definition}\nkey: id\nmode: {mode}\ncolumns: {columns}\n");
    project.write("models/out.yaml", &sync);
    project.write("data/people.csv", "id,name,n\n1,Ann,10\n2,Bo,20\n");
    let url = receiver.url(if definition == "slack" { "/services/T/B/X" } else { "" });
    project.set(variable, &url);
    let told = project.kinfold(&["run"]);
    assert!(!told.stdout.contains("hush") && !told.stderr.contains("hush"), "{told}");
    let mut requests = receiver.requests();
    requests.sort_by_key(|r| r.body.clone());
    (project, requests)
}

#[test]
fn ready_definitions_send_what_the_services_ask_for() {
    let (_, sent) = sent_by(
        "mixpanel",
        "MIXPANEL_URL",
        "append",
        "{event: \"'visit'\", time: n, distinct_id: id}",
        r#"{"code": 200, "num_records_imported": 2, "status": "OK"}"#,
    );
    assert_eq!((sent.len(), sent[0].method.as_str(), sent[0].path.as_str()), (1, "POST", "/import?strict=1"));
    // base64 of `hush:`
    assert_eq!(sent[0].headers["authorization"], "Basic aHVzaDo=");
    let mut events = sent[0].json();
    for event in events.as_array_mut().unwrap() {
        let id = event["properties"].as_object_mut().unwrap().remove("$insert_id").unwrap();
        assert_eq!(id.as_str().unwrap().len(), 36);
    }
    let event = |time: u32, id: &str| json!({"event": "visit", "properties": {"time": time, "distinct_id": id}});
    assert_eq!(events, json!([event(10, "1"), event(20, "2")]));

    let (_, sent) = sent_by(
        "twilio",
        "TWILIO_URL",
        "insert",
        "{phone: \"concat('+1555', id)\", text: \"concat('Hi ', name, ' & co')\"}",
        "{}",
    );
    assert_eq!(sent[0].path, "/2010-04-01/Accounts/AC0/Messages.json");
    // base64 of `AC0:hush`
    assert_eq!(sent[0].headers["authorization"], "Basic QUMwOmh1c2g=");
    assert_eq!(sent[0].headers["content-type"], "application/x-www-form-urlencoded");
    let bodies: Vec<&str> = sent.iter().map(|r| r.body.as_str()).collect();
    let form = |n: u32, name: &str| format!("To=%2B1555{n}&From=%2B15005550006&Body=Hi+{name}+%26+co");
    assert_eq!(bodies, [form(1, "Ann"), form(2, "Bo")]);

    let (_, sent) =
        sent_by("segment", "SEGMENT_URL", "append", "{user_id: id, event: \"'visit'\", at: \"'2026-03-01'\"}", "{}");
    let mut body = sent[0].json();
    for event in body["batch"].as_array_mut().unwrap() {
        assert_eq!(event.as_object_mut().unwrap().remove("messageId").unwrap().as_str().unwrap().len(), 64);
    }
    let event = |id: &str| json!({"type": "track", "userId": id, "event": "visit", "timestamp": "2026-03-01"});
    assert_eq!((sent[0].path.as_str(), body), ("/v1/batch", json!({"batch": [event("1"), event("2")]})));

    let errors =
        r#"{"message": "success", "errors": [{"type": "no such id", "input_array": "attributes", "index": 1}]}"#;
    let (project, sent) = sent_by("braze", "BRAZE_URL", "mirror", "{external_id: id, visits: n}", errors);
    let body = json!({"attributes": [{"external_id": "1", "visits": 10}, {"external_id": "2", "visits": 20}]});
    assert_eq!((sent[0].path.as_str(), sent[0].json()), ("/users/track", body));
    assert_eq!(sent[0].headers["authorization"], "Bearer hush");
    assert_eq!(counts(&project, &["acknowledged", "rejected"]), [1, 1]);

    let (_, sent) = sent_by("slack", "SLACK_URL", "insert", "{name: name}", "ok");
    let bodies: Vec<&str> = sent.iter().map(|r| r.body.as_str()).collect();
    assert_eq!(bodies, [r#"{"text": "New: Ann"}"#, r#"{"text": "New: Bo"}"#]);
    assert_eq!(sent[0].path, "/services/T/B/X");
}

#[test]
fn a_plan_of_a_sync_counts_and_shows_rows_and_sends_none() {
    let receiver = Receiver::new(|_| ok());
    let project = project(&receiver, "    delete: {}\n", "mode: mirror\nmax_delete: 50%\n");
    project.kinfold(&["run"]).exits(0);
    project.write("data/people.csv", "id,name,n\n1,Ann,11\n3,,30\n4,Di,40\n");
    project.kinfold(&["run", "--select", "contacts"]).exits(0);
    receiver.now(|_| ok());
    let told = project.kinfold(&["sync", "out", "--plan"]).exits(0);
    assert_eq!(
        told.stdout,
        "out to crm\n  insert: 1\n    {\"id\":\"4\",\"n\":40,\"name\":\"Di\"}\n  update: 1\n    {\"id\":\"1\",\"n\":11,\"name\":\"Ann\"}\n  delete: 1\n    {\"id\":\"2\"}\n  unchanged: 1\n"
    );
    // a plan of everything is shown to more people
    let all = project.kinfold(&["plan", "--effects", "always", "--output", "json"]).exits(0);
    assert!(!all.stdout.contains("\"Di\""), "{all}");
    assert_eq!(receiver.requests().len(), 0);
    project.kinfold(&["sync", "out", "--reset"]).exits(0);
    assert_eq!(counts(&project, &["inserted", "updated", "deleted"]), [3, 0, 0]);
    project.kinfold(&["sync", "contacts"]).exits(2).says(&["`contacts` is no sync"]);
}
