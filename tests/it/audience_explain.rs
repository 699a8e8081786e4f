//! `kinfold explain audience`: every condition with its value and the rows behind it.

use crate::support::{Outcome, Project, clinic, files};
use serde_json::{Value, json};
use std::sync::OnceLock;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - name: visits
        path: visits.csv
        format: csv
        time: at
        row_id: id
        columns: {at: {type: TIMESTAMP}, amount: {type: BIGINT}}
      - name: calls
        path: calls.csv
        format: csv
        time: at
        columns: {at: {type: TIMESTAMP}}
";

const PERSON: &str = "\
kind: identity
name: person
identifiers:
  email: {normalize: email, block: [nobody@x.com]}
  cookie: {max_links: 2}
links:
  - {from: shop.visits, ids: {email: email, cookie: cookie}}
  - {from: shop.calls, ids: {email: email}}
";

const PROFILE: &str = "\
kind: profile
name: person_profile
identity: person
traits:
  visits: {from: shop.visits, select: count(*)}
  spent: {from: shop.visits, select: sum(amount)}
";

/// Everything that a condition can be.
const WANTED: &str = "\
kind: audience
name: wanted
profile: person_profile
where:
  all:
    - {event: shop.visits, column: page, is: buy, count: '>= 2', sum: 'amount > 30', within: 30 days}
    - any:
        - trait: visits > 100
        - trait: spent IS NOT NULL AND visits > 1
    - not:
        event: shop.calls
        where: kind = 'complaint'     # heard by the desk
    - sequence:
        - {event: shop.visits, column: page, is: search}
        - {event: shop.visits, column: page, is: buy, within: 1 day, same: item}
        - not: {event: shop.calls, within: 2 days}
    - {event: shop.visits, last: \"page = 'buy'\"}
include: models/picks.csv
exclude: models/outs.csv
";

const OTHERS: &str = "\
kind: audience
name: callers
profile: person_profile
where: {event: shop.calls}
---
kind: audience
name: called_wanted
profile: person_profile
where: {all: [{audience: callers}, {not: {audience: wanted}}]}
---
kind: audience
name: by_query
profile: person_profile
sql: SELECT person_id FROM person_profile WHERE visits >= 6
";

/// ann: two purchases of 20 within 30 days and one before that; her last search before a purchase of the same item
/// is on the 10th. bob: a purchase a day and a second too late. cat: her window is still open. dan: called.
const VISITS: &str = "\
id,email,cookie,page,item,amount,at
a1,ann@x.com,,search,lamp,,2026-03-01T10:00:00
a2,ann@x.com,,buy,lamp,20,2026-03-02T10:00:00
a3,ann@x.com,,buy,vase,7,2026-01-05T10:00:00
a4,ann@x.com,c-ann,search,vase,,2026-03-10T10:00:00
a5,ann@x.com,,buy,lamp,1,2026-03-10T11:00:00
a6,ann@x.com,,buy,vase,20,2026-03-11T10:00:00
b1,bob@x.com,,search,lamp,,2026-03-01T10:00:00
b2,bob@x.com,,buy,lamp,20,2026-03-02T10:00:01
b3,bob@x.com,,buy,lamp,20,2026-03-20T10:00:00
c1,cat@x.com,,buy,cup,40,2026-03-28T10:00:00
c2,cat@x.com,,search,lamp,,2026-03-29T12:00:00
c3,cat@x.com,,buy,lamp,40,2026-03-30T10:00:00
d1,dan@x.com,,search,lamp,,2026-03-05T10:00:00
d2,dan@x.com,,buy,lamp,40,2026-03-05T11:00:00
d3,dan@x.com,,buy,lamp,40,2026-03-05T12:00:00
h1,h1@x.com,desk,home,,,2026-03-05T12:00:00
h2,h2@x.com,desk,home,,,2026-03-05T12:00:00
h3,h3@x.com,desk,home,,,2026-03-05T12:00:00
n1,nobody@x.com,,home,,,2026-03-05T12:00:00
";

const CALLS: &str = "\
email,kind,item,at
dan@x.com,order,,2026-03-06T10:00:00
eve@x.com,complaint,,2026-03-06T10:00:00
";

const PICKS: &str = "identifier,by,reason\nemail:eve@x.com,desk,asked for it\nemail:zoe@x.com,desk,was promised\n";
const OUTS: &str = "identifier,by,reason\nemail:h1@x.com,office,complained\n";

fn project() -> Project {
    Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
        ("sources.yaml", SOURCES),
        ("models/person.yaml", PERSON),
        ("models/profile.yaml", PROFILE),
        ("models/wanted.yaml", WANTED),
        ("models/others.yaml", OTHERS),
        ("models/picks.csv", PICKS),
        ("models/outs.csv", OUTS),
        ("data/visits.csv", VISITS),
        ("data/calls.csv", CALLS),
    ])
}

/// The project after a run, for tests that only read it.
fn shop() -> &'static Project {
    static SHOP: OnceLock<Project> = OnceLock::new();
    SHOP.get_or_init(|| {
        let project = project();
        project.kinfold(&["run"]).exits(0);
        project
    })
}

fn explain(arguments: &[&str]) -> Outcome {
    let all: Vec<&str> = ["explain", "audience"].iter().chain(arguments).copied().collect();
    shop().kinfold(&all)
}

fn as_json(audience: &str, id: &str) -> Value {
    serde_json::from_str(&explain(&[audience, id, "--output", "json"]).exits(0).stdout).unwrap()
}

fn id(identifier: &str) -> String {
    let rows = shop().query(&format!("SELECT person_id FROM person WHERE identifier = '{identifier}'"));
    rows[0]["person_id"].as_str().unwrap().to_owned()
}

/// The step of `wanted`'s sequence.
fn step(answer: &Value, index: usize) -> &Value {
    &answer["condition"]["parts"][3]["parts"][index]
}

#[test]
fn every_condition_is_told_with_its_value_and_its_rows() {
    let expected = format!(
        "\
person {} is in wanted, as of 2026-03-31 00:00:00 UTC

yes  all
yes    event: shop.visits, column: page, is: buy, count: '>= 2', sum: 'amount > 30', within: 30 days  [count = 3, sum(amount) = 41]
         shop.visits, row a6, 2026-03-11 10:00:00 UTC
         shop.visits, row a5, 2026-03-10 11:00:00 UTC
         shop.visits, row a2, 2026-03-02 10:00:00 UTC
yes    any
no       trait: visits > 100  [visits = 6]
yes      trait: spent IS NOT NULL AND visits > 1  [spent = 48, visits = 6]
yes    not
no       event: shop.calls, where: kind = 'complaint'  [count = 0]
yes    sequence
yes      event: shop.visits, column: page, is: search
           shop.visits, row a4, 2026-03-10 10:00:00 UTC
yes      event: shop.visits, column: page, is: buy, within: 1 day, same: item
           shop.visits, row a6, 2026-03-11 10:00:00 UTC
yes      not: {{event: shop.calls, within: 2 days}}
           no row from 2026-03-11 10:00:00 UTC to 2026-03-13 10:00:00 UTC
yes    event: shop.visits, last: \"page = 'buy'\"  [last: page = 'buy' = true]
         shop.visits, row a6, 2026-03-11 10:00:00 UTC
         shop.visits, row a5, 2026-03-10 11:00:00 UTC
         shop.visits, row a4, 2026-03-10 10:00:00 UTC
         shop.visits, row a2, 2026-03-02 10:00:00 UTC
         shop.visits, row a1, 2026-03-01 10:00:00 UTC
         and 1 more

member since 2026-03-31 00:00:00 UTC (rule)
",
        id("ann@x.com")
    );
    assert_eq!(explain(&["wanted", "email: ANN@x.com"]).exits(0).stdout, expected);
    assert_eq!(explain(&["wanted", &id("ann@x.com")[..8]]).exits(0).stdout, expected);
    assert_eq!(explain(&["wanted", &format!("person:{}", id("ann@x.com"))]).exits(0).stdout, expected);
}

#[test]
fn a_sequence_says_which_step_failed_and_why() {
    let bob = as_json("wanted", "email:bob@x.com");
    assert_eq!((&bob["member"], &bob["condition"]["holds"]), (&json!(false), &json!(false)));
    assert_eq!((&step(&bob, 0)["holds"], &step(&bob, 0)["rows"][0]["row_id"]), (&json!(true), &json!("b1")));
    let window = json!({"kind": "no_row_between", "from": "2026-03-01T10:00:00Z", "until": "2026-03-02T10:00:00Z"});
    assert_eq!((&step(&bob, 1)["holds"], &step(&bob, 1)["note"]), (&json!(false), &window));
    let elsewhere: Vec<&Value> = step(&bob, 1)["rows"].as_array().unwrap().iter().map(|r| &r["row_id"]).collect();
    assert_eq!(elsewhere, [&json!("b3"), &json!("b2")]);
    assert_eq!(step(&bob, 2)["holds"], Value::Null);
    let text = explain(&["wanted", "email:bob@x.com"]).exits(0).stdout;
    assert!(text.contains("no       event: shop.visits, column: page, is: buy, within: 1 day, same: item\n           no row from 2026-03-01 10:00:00 UTC to 2026-03-02 10:00:00 UTC; elsewhere:\n"), "{text}");
    assert!(text.contains("\n-        not: {event: shop.calls"), "{text}");

    let cat = as_json("wanted", "email:cat@x.com");
    let open = json!({"kind": "not_passed", "from": "2026-03-30T10:00:00Z", "until": "2026-04-01T10:00:00Z"});
    assert_eq!((&step(&cat, 2)["holds"], &step(&cat, 2)["note"]), (&json!(false), &open));
    let dan = as_json("wanted", "email:dan@x.com");
    assert_eq!(step(&dan, 1)["rows"][0]["row_id"], json!("d3"));
    assert_eq!(step(&dan, 2)["note"]["kind"], json!("happened_between"));
    let call = json!([{"table": "shop.calls", "row_id": null, "at": "2026-03-06T10:00:00Z"}]);
    assert_eq!(step(&dan, 2)["rows"], call);
}

#[test]
fn lists_other_audiences_and_queries_are_answered() {
    let eve = as_json("wanted", "email:eve@x.com");
    assert_eq!((&eve["member"], &eve["condition"]["holds"]), (&json!(true), &json!(false)));
    assert_eq!(eve["included"], json!([{"identifier": "email:eve@x.com", "by": "desk", "reason": "asked for it"}]));
    assert_eq!(eve["committed"]["reason"], json!("included by desk: asked for it"));
    let outs = explain(&["wanted", "email:h1@x.com"]).exits(0).stdout;
    assert!(outs.contains("excluded by hand: email:h1@x.com, by office: complained\n"), "{outs}");
    let dan = explain(&["called_wanted", "email:dan@x.com"]).exits(0).stdout;
    assert!(
        dan.contains("is in called_wanted")
            && dan.contains("yes    audience: callers\n         member since 2026-03-31"),
        "{dan}"
    );
    assert!(dan.contains("yes    not\nno       audience: wanted\n"), "{dan}");
    let query = |who: &str| as_json("by_query", who)["condition"]["holds"].clone();
    assert_eq!((query("email:ann@x.com"), query("email:bob@x.com")), (json!(true), json!(false)));
    let ann = as_json("by_query", "email:ann@x.com");
    assert_eq!((&ann["condition"]["path"], &ann["condition"]["line"]), (&json!("models/others.yaml"), &json!(14)));
}

#[test]
fn who_is_nobody_is_in_no_audience() {
    let text = |who: &str| explain(&["wanted", who]).exits(0).stdout;
    assert!(text("cookie:desk").starts_with("cookie:desk is a hub (3 neighbours"), "{}", text("cookie:desk"));
    assert!(text("email:nobody@x.com").contains("is blocked by `nobody@x.com`"));
    assert!(text("email:nobody").contains("is no identifier: an e-mail address was expected"));
    let zoe = text("email:zoe@x.com");
    assert!(zoe.contains("was never seen") && zoe.contains("so it is nobody that wanted could have\n"), "{zoe}");
    assert!(zoe.contains("a list names it and means nobody: email:zoe@x.com, by desk: was promised\n"), "{zoe}");
    let zoe = as_json("wanted", "email:zoe@x.com");
    assert_eq!(
        (&zoe["member"], &zoe["condition"], &zoe["asked"]["standing"]),
        (&json!(false), &Value::Null, &json!("unknown"))
    );
}

#[test]
fn what_cannot_be_asked_has_a_way_out() {
    explain(&["wantd", "email:ann@x.com"])
        .exits(2)
        .without_data()
        .says(&["no audience `wantd`", "did you mean `wanted`?"]);
    explain(&["person_profile", "email:ann@x.com"]).exits(2).says(&["is no audience, it is a model of kind profile"]);
    explain(&["wanted", "mail:ann@x.com"]).exits(2).says(&["neither an identifier type nor an identity", "`email`"]);
    explain(&["wanted", "12"]).exits(2).says(&["is no entity"]);
    explain(&["wanted"]).exits(2);
    let fresh = project();
    fresh
        .kinfold(&["explain", "audience", "wanted", "email:ann@x.com"])
        .exits(2)
        .says(&["has not been built yet", "kinfold run"]);
    let before = files(&shop().path(""));
    as_json("wanted", "email:ann@x.com");
    assert_eq!(files(&shop().path("")), before);
}

/// The present definition is evaluated at the last run's time, over the rows of source tables as they are now.
#[test]
fn a_definition_and_rows_that_changed_since_the_run_are_told_as_they_are_now() {
    let project = project();
    project.write("kinfold.yaml", "name: shop\n");
    project.kinfold(&["run", "--as-of", "2026-03-31"]).exits(0);
    project.write("models/wanted.yaml", &WANTED.replace("'>= 2'", "'>= 4'"));
    let ask = || project.kinfold(&["explain", "audience", "wanted", "email:ann@x.com"]).exits(0).stdout;
    let text = ask();
    assert!(text.contains("is not in wanted, as of 2026-03-31 00:00:00 UTC"), "{text}");
    assert!(text.contains("the last run has it as a member since 2026-03-31 00:00:00 UTC; the definition or the rows have changed since\n"), "{text}");
    project.write("data/visits.csv", &format!("{VISITS}a7,,c-ann,buy,vase,5,2026-03-12T10:00:00\n"));
    let text = ask();
    assert!(text.contains("is in wanted") && text.contains("[count = 4, sum(amount) = 46]"), "{text}");
    let later = ["explain", "audience", "wanted", "email:ann@x.com", "--as-of", "2026-04-10"];
    let text = project.kinfold(&later).exits(0).stdout;
    assert!(text.contains("[count = 2, sum(amount) = 25]"), "{text}");
}

/// ann by the rule and eve by hand; zoe and h1 stand in lists, of whom only h1 is known.
#[test]
fn an_audience_is_counted_by_its_present_definition_without_committing() {
    let project = project();
    project.kinfold(&["show", "audience", "wanted", "--count"]).exits(2).without_data().says(&["kinfold run"]);
    project.kinfold(&["run"]).exits(0);
    let before = files(&project.path(""));
    let count = |limit: &str| {
        let arguments = ["show", "audience", "wanted", "--count", "--limit", limit, "--output", "json"];
        serde_json::from_str::<Value>(&project.kinfold(&arguments).exits(0).stdout).unwrap()
    };
    let counts =
        |answer: &Value| ["members", "entered", "left", "unknown_in_lists"].map(|k| answer[k].as_u64().unwrap());
    let now = count("10");
    assert_eq!((counts(&now), now["first"].as_array().unwrap().len()), ([2, 0, 0, 1], 2), "{now:#}");
    // with two purchases of any amount and any sequence: ann, bob, cat and dan; and eve by hand
    let wider = "kind: audience\nname: wanted\nprofile: person_profile\nwhere: {event: shop.visits, is: buy, column: page, count: '>= 2'}\ninclude: models/picks.csv\n";
    project.write("models/wanted.yaml", wider);
    let now = count("1");
    assert_eq!((counts(&now), now["first"].as_array().unwrap().len()), ([5, 3, 0, 1], 1), "{now:#}");
    let text = project.kinfold(&["show", "audience", "wanted", "--count", "-n", "0"]).exits(0).stdout;
    let expected = "wanted would have 5 members, as of 2026-03-31 00:00:00 UTC; since the last run 3 entered and 0 left\n1 entry of its lists names nobody known\n";
    assert_eq!(text, expected);
    let csv = project.kinfold(&["show", "audience", "wanted", "--count", "--output", "csv"]).exits(0).stdout;
    assert_eq!((csv.lines().count(), csv.lines().next()), (6, Some("person_id,entered_at,reason")));
    assert_eq!(project.kinfold(&["show", "audience", "wanted", "--output", "json"]).exits(0).rows().len(), 2);
    project.kinfold(&["show", "audience", "wantd", "--count"]).exits(2).says(&["did you mean `wanted`?"]);
    project.kinfold(&["show"]).exits(2);
    let after: std::collections::BTreeMap<String, u64> = files(&project.path(""));
    let changed: Vec<&String> = after.keys().filter(|k| before.get(*k) != after.get(*k)).collect();
    assert_eq!(changed, ["models/wanted.yaml"]);
}

/// Ann Weaver searched on one cookie and looked at physicians on two others (README).
#[test]
fn in_the_demo_members_are_told_what_made_them_members() {
    let answer = clinic().kinfold(&["explain", "audience", "searched_not_booked", "mrn:MRN101078", "--output", "json"]);
    let answer: Value = serde_json::from_str(&answer.exits(0).stdout).unwrap();
    assert_eq!((&answer["member"], &answer["condition"]["holds"]), (&json!(true), &json!(true)), "{answer:#}");
    assert!(answer["committed"]["entered_at"].is_string(), "{answer:#}");
    // each audience agrees with what the run committed, for its first member and for somebody else
    for audience in crate::support::AUDIENCES.into_iter().step_by(3) {
        let members = clinic().query(&format!("SELECT patient_id FROM {audience} ORDER BY 1 LIMIT 1"));
        let others = clinic().query(&format!("SELECT patient_id FROM patient_profile WHERE patient_id NOT IN (SELECT patient_id FROM {audience}) ORDER BY 1 LIMIT 1"));
        for (rows, is_member) in [(members, true), (others, false)] {
            let id = rows[0]["patient_id"].as_str().unwrap();
            let told = clinic().kinfold(&["explain", "audience", audience, id, "--output", "json"]).exits(0).stdout;
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["member"], json!(is_member), "{audience} {told:#}");
        }
    }
}
