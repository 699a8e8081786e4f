//! Who is a member in the end: lists, groups, holdouts, ranks and least sizes, on a shop of forty customers.

use crate::support::{Project, Row};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const KINFOLD: &str = "name: shop\nas_of: 2026-03-31\n";

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: customers, path: customers.csv, format: csv, row_id: customer, columns: {score: {type: BIGINT}}}
      - name: visits
        path: visits.csv
        format: csv
        time: at
        row_id: id
        columns: {at: {type: TIMESTAMP}}
";

const PERSON: &str = "\
kind: identity
name: person
identifiers: {customer: {max_per_entity: 1}, email: {normalize: email}}
links:
  - {from: shop.customers, ids: {customer: customer, email: email}}
  - {from: shop.visits, ids: {customer: customer}}
id_key: the-same-everywhere
---
kind: profile
name: person_profile
identity: person
attributes:
  customer: {from: shop.customers.customer}
  score: {from: shop.customers.score}
";

const DESTINATIONS: &str = "destinations:\n  - {name: lake, type: files, location: outbox, format: csv}\n";

/// Customer 1 to 40; the score is the number modulo 8, and every tenth customer has none.
fn customers() -> String {
    let mut text = "customer,email,score\n".to_owned();
    for n in 1..=40 {
        let score = if n % 10 == 0 { String::new() } else { (n % 8).to_string() };
        let _ = writeln!(text, "k{n:02},k{n:02}@example.com,{score}");
    }
    text
}

fn shop(audiences: &str) -> Project {
    Project::of(&[
        ("kinfold.yaml", KINFOLD),
        ("sources.yaml", SOURCES),
        ("destinations.yaml", DESTINATIONS),
        ("data/customers.csv", &customers()),
        ("data/visits.csv", "id,customer,at\n1,k01,2026-03-01T08:00:00Z\n2,k02,2026-03-02T08:00:00Z\n"),
        ("models/person.yaml", PERSON),
        ("models/audiences.yaml", audiences),
    ])
}

/// An audience of all customers, with these further keys.
fn everybody(name: &str, keys: &str) -> String {
    let head =
        format!("kind: audience\nname: {name}\nprofile: person_profile\nwhere: {{trait: customer IS NOT NULL}}\n");
    format!("{head}{keys}---\n")
}

/// Ids of a table.
fn ids(project: &Project, table: &str) -> BTreeSet<String> {
    let rows = project.query(&format!("SELECT person_id FROM {table}"));
    rows.iter().map(|row| text(row, "person_id")).collect()
}

fn text(row: &Row, column: &str) -> String {
    row[column].as_str().unwrap_or_else(|| panic!("{row:?}")).to_owned()
}

/// Id, customer and score of everybody.
fn people(project: &Project) -> Vec<(String, String, Option<i64>)> {
    let rows = project.query("SELECT person_id, customer, score FROM person_profile");
    rows.iter().map(|r| (text(r, "person_id"), text(r, "customer"), r["score"].as_i64())).collect()
}

fn customers_of(project: &Project, ids: &BTreeSet<String>) -> BTreeSet<String> {
    people(project).into_iter().filter(|(id, ..)| ids.contains(id)).map(|(_, customer, _)| customer).collect()
}

/// The rule of docs/language.md, said again: the first 13 digits of SHA-256 of `salt:id` as a fraction.
fn share(id: &str, salt: &str) -> f64 {
    let digest = hex::encode(Sha256::digest(format!("{salt}:{id}")));
    u64::from_str_radix(&digest[..13], 16).unwrap() as f64 / 16_f64.powi(13)
}

fn node(project: &Project, model: &str) -> Value {
    let report = project.report();
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().find(|n| n["model"] == model).unwrap_or_else(|| panic!("{report}"))["facts"].clone()
}

/// What decides who is in an audience, as the last run recorded it.
fn rows_from(project: &Project, audience: &str) -> BTreeSet<String> {
    let sql = format!("SELECT rows_from FROM kinfold.columns WHERE model = '{audience}' AND column_name = 'person_id'");
    text(&project.query(&sql)[0], "rows_from").split(", ").map(str::to_owned).collect()
}

#[test]
fn a_holdout_is_the_same_in_every_run_and_is_recorded() {
    let keys = "holdout: {percent: 30, salt: q3}\ninclude: models/picks.csv\nexclude: models/stops.csv\n";
    let project = shop(&everybody("all_of_them", keys));
    project.write("models/picks.csv", "identifier,by,reason\n");
    project.write("models/stops.csv", "identifier,by,reason\n");
    project.kinfold(&["run"]).exits(0);
    let held: BTreeSet<String> = people(&project).into_iter().map(|p| p.0).filter(|id| share(id, "q3") < 0.3).collect();
    assert!((5..20).contains(&held.len()), "{held:?}");
    assert_eq!(ids(&project, "all_of_them_holdout"), held);
    let members = ids(&project, "all_of_them");
    assert_eq!(members.len(), 40 - held.len());
    assert!(members.is_disjoint(&held));
    // the function splits by the same number
    let split = project.query("SELECT person_id FROM person_profile WHERE random_share(person_id, 'q3') < 0.3");
    assert_eq!(split.iter().map(|r| text(r, "person_id")).collect::<BTreeSet<String>>(), held);
    assert_eq!(node(&project, "all_of_them")["held_out"], held.len());

    // somebody whom people picked is never held out; somebody whom they excluded is nowhere
    let mut customers = customers_of(&project, &held).into_iter();
    let (picked, stopped) = (customers.next().unwrap(), customers.next().unwrap());
    project.write("models/picks.csv", &format!("identifier,by,reason\ncustomer:{picked},ann,a friend\n"));
    let stops = format!("identifier,by,reason\ncustomer:{stopped},ann,asked us\ncustomer:{picked},bob,asked us\n");
    project.kinfold(&["run", "--as-of", "2026-04-01"]).exits(0);
    assert!(customers_of(&project, &ids(&project, "all_of_them")).contains(&picked));
    let since = "SELECT count(*) AS n FROM all_of_them_holdout WHERE entered_at < '2026-04-01'";
    assert_eq!(project.number(since), held.len() as i64 - 1);
    project.write("models/stops.csv", &stops);
    project.kinfold(&["run", "--as-of", "2026-04-02"]).exits(0);
    let now = customers_of(&project, &ids(&project, "all_of_them"));
    let held_now = customers_of(&project, &ids(&project, "all_of_them_holdout"));
    for gone in [&picked, &stopped] {
        assert!(!now.contains(gone) && !held_now.contains(gone), "{gone}");
    }
}

#[test]
fn a_share_splits_people_into_halves() {
    let half = |name: &str, sign: &str| {
        format!(
            "kind: audience\nname: {name}\nprofile: person_profile\nwhere: {{trait: \"random_share(person_id, 'ab') {sign} 0.5\"}}\n---\n"
        )
    };
    let project = shop(&format!("{}{}", half("half_a", "<"), half("half_b", ">=")));
    project.kinfold(&["run"]).exits(0);
    let (a, b) = (ids(&project, "half_a"), ids(&project, "half_b"));
    assert_eq!((a.len() + b.len(), a.intersection(&b).count()), (40, 0));
    assert_eq!(a, people(&project).into_iter().map(|p| p.0).filter(|id| share(id, "ab") < 0.5).collect());
}

#[test]
fn a_person_is_in_one_audience_of_a_group() {
    let high = "kind: audience\nname: z_high\nprofile: person_profile\nwhere: {trait: score >= 6}\ngroup: {name: mail, priority: 1}\nholdout: {percent: 40, salt: s}\n---\n";
    let middle = everybody("m_middle", "group: {name: mail, priority: 7}\ntop: {rows: 5, by: customer}\n");
    let last = everybody("a_last", "group: {name: mail, priority: 9}\n");
    let project = shop(&format!("{high}{middle}{last}"));
    project.kinfold(&["run"]).exits(0);
    let all: BTreeMap<String, (String, Option<i64>)> =
        people(&project).into_iter().map(|(id, customer, score)| (id, (customer, score))).collect();
    let wanted: BTreeSet<String> =
        all.iter().filter(|(_, (_, score))| *score >= Some(6)).map(|(id, _)| id.clone()).collect();
    let (members, held): (BTreeSet<String>, BTreeSet<String>) =
        wanted.iter().cloned().partition(|id| share(id, "s") >= 0.4);
    assert!(!members.is_empty() && !held.is_empty());
    assert_eq!((ids(&project, "z_high"), ids(&project, "z_high_holdout")), (members, held));
    // whom the first holds out gets nothing of the group; whom the second cuts may be in the third
    let mut rest: Vec<(String, String)> = all
        .iter()
        .filter(|(id, _)| !wanted.contains(*id))
        .map(|(id, (customer, _))| (customer.clone(), id.clone()))
        .collect();
    rest.sort();
    let ids_of = |rows: &[(String, String)]| rows.iter().map(|r| r.1.clone()).collect::<BTreeSet<String>>();
    assert_eq!(ids(&project, "m_middle"), ids_of(&rest[..5]));
    assert_eq!(ids(&project, "a_last"), ids_of(&rest[5..]));
    assert_eq!(node(&project, "a_last")["in_group"], wanted.len() + 5);
    let read = rows_from(&project, "a_last");
    for column in ["z_high.person_id", "z_high_holdout.*", "m_middle.person_id"] {
        assert!(read.contains(column), "{read:?}");
    }
    // built alone, an audience respects what is committed
    let before = ids(&project, "a_last");
    project.kinfold(&["run", "--select", "a_last", "--full"]).exits(0);
    assert_eq!(project.built(), BTreeSet::from(["a_last".to_owned()]));
    assert_eq!(ids(&project, "a_last"), before);
}

#[test]
fn the_first_by_rank_stay() {
    let top = everybody("best", "top: {rows: 12, by: [score desc]}\n");
    let late = everybody("worst", "top: {rows: 38, by: score}\ninclude: models/picks.csv\n");
    let project = shop(&format!("{top}{late}"));
    project.write("models/picks.csv", "identifier,by,reason\ncustomer:k40,ann,a friend\n");
    project.kinfold(&["run"]).exits(0);
    let mut ranked = people(&project);
    // nulls last, ties by id
    ranked.sort_by_key(|(id, _, score)| (score.is_none(), score.map(|s| -s), id.clone()));
    let best: BTreeSet<String> = ranked[..12].iter().map(|p| p.0.clone()).collect();
    assert_eq!(ids(&project, "best"), best);
    assert_eq!(node(&project, "best")["beyond_top"], 28);
    assert!(rows_from(&project, "best").contains("person_profile.score"));
    // k10, k20, k30 and k40 have no score; k40 was picked and comes first, so one of the others stays
    ranked.sort_by_key(|(id, customer, score)| (customer != "k40", score.is_none(), *score, id.clone()));
    let worst: BTreeSet<String> = ranked[..38].iter().map(|p| p.0.clone()).collect();
    assert_eq!(ids(&project, "worst"), worst);
    assert!(customers_of(&project, &worst).contains("k40"));
}

#[test]
fn of_a_small_audience_a_sync_sends_nobody_and_deletes_who_left() {
    let sync = |mode: &str| {
        format!(
            "kind: sync\nname: to_lake\nfrom: best\nto: lake\nmode: {mode}\nmax_delete: 100%\nkey: person_id\ncolumns: {{person_id: person_id}}\n"
        )
    };
    let best = |rows: u32| everybody("best", &format!("top: {{rows: {rows}, by: score}}\nmin_size: 11\n"));
    let why = "`best` has 10 members, and its min_size is 11";
    let project = shop(&format!("{}{}", best(11), sync("mirror")));
    project.kinfold(&["run"]).exits(0);
    let sent = crate::support::files(&project.path("outbox"));
    assert_eq!(project.report()["syncs"][0]["sent"], 11);
    assert_eq!(sent.len(), 1);

    // the eleventh left, and a mirror deletes it; nobody else is sent
    project.write("models/audiences.yaml", &format!("{}{}", best(10), sync("mirror")));
    let plan = project.kinfold(&["plan"]).exits(0);
    assert!(plan.stdout.contains(&format!("to_lake to lake: 1 to delete, of 10 rows: {why}")), "{plan}");
    assert!(plan.stdout.contains("+ top.rows: 10"), "{plan}");
    let run = project.kinfold(&["run"]).exits(0);
    assert!(run.stdout.contains(&format!("to_lake: {why}")), "{run}");
    let report = project.report()["syncs"][0].clone();
    assert_eq!((&report["deleted"], &report["sent"], &report["withheld"]), (&1.into(), &1.into(), &10.into()));
    assert_eq!(report["result"], "success");
    let after = crate::support::files(&project.path("outbox"));
    assert_eq!(after.len(), 2);

    // then there is nothing left to do, also when the audience is only loaded
    for arguments in [&["run"][..], &["run", "--select", "to_lake"]] {
        let run = project.kinfold(arguments).exits(0);
        assert!(run.stdout.contains(&format!("to_lake: nothing was sent: {why}")), "{run}");
        assert_eq!(crate::support::files(&project.path("outbox")), after);
    }
    let told =
        project.query("SELECT result, withheld, note, error FROM kinfold.syncs ORDER BY run DESC LIMIT 1").remove(0);
    assert_eq!((&told["result"], &told["withheld"], &told["note"]), (&"withheld".into(), &10.into(), &why.into()));
    assert_eq!(told.get("error").unwrap_or(&Value::Null), &Value::Null);
    let sizes = project.query("SELECT DISTINCT members, min_size, too_small FROM audience_sizes ORDER BY members");
    let told: Vec<(i64, bool)> =
        sizes.iter().map(|r| (r["members"].as_i64().unwrap(), r["too_small"].as_bool().unwrap())).collect();
    assert_eq!(told, [(10, true), (11, false)]);

    // a mode that does not mirror deletes nobody
    let project = shop(&format!("{}{}", best(11), sync("upsert")));
    project.kinfold(&["run"]).exits(0);
    project.write("models/audiences.yaml", &format!("{}{}", best(10), sync("upsert")));
    let plan = project.kinfold(&["plan"]).exits(0);
    assert!(plan.stdout.contains(&format!("to_lake to lake: would send nothing: {why}")), "{plan}");
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.report()["syncs"][0]["result"], "withheld");
    assert_eq!(crate::support::files(&project.path("outbox")).len(), 1);
}

#[test]
fn unit_tests_know_what_narrows_an_audience() {
    let first = everybody("first", "group: {name: mail, priority: 1}\ntop: {rows: 1, by: score desc}\n");
    let second = everybody("second", "group: {name: mail, priority: 2}\nholdout: {percent: 100, salt: s}\n");
    let test = "\
kind: test
name: the_best_is_in_the_first
model: second
as_of: 2026-03-31
given:
  shop.customers:
    - {customer: k1, email: a@example.com, score: 1}
    - {customer: k2, email: b@example.com, score: 2}
expect:
  first: [{person_id: 'customer:k2'}]
  second: []
  second_holdout: [{person_id: 'customer:k1'}]
---
kind: test
name: a_given_audience_takes_its_people
model: second
as_of: 2026-03-31
given:
  shop.customers: [{customer: k1, email: a@example.com, score: 1}]
  first: [{person_id: 'customer:k1'}]
expect:
  second_holdout: []
";
    let project = shop(&format!("{first}{second}{test}"));
    let outcome = project.kinfold(&["test"]).exits(0);
    assert!(outcome.stdout.contains("2 unit tests: all passed"), "{outcome}");
}

#[test]
fn related_rows_need_no_time() {
    let audiences = "\
kind: audience
name: with_a_score
profile: person_profile
where: {related: shop.customers, where: score >= 6, count: '>= 1'}
---
kind: audience
name: of_two_names
profile: person_profile
where: {related: shop.customers, column: customer, is: [k01, k02]}
---
kind: audience
name: last_by_score
profile: person_profile
where: {related: shop.customers, last: score = 7, by: score, sum: 'score > 0'}
---
kind: audience
name: without_visits
profile: person_profile
where: {not: {related: shop.visits}}
";
    let project = shop(audiences);
    project.kinfold(&["run"]).exits(0);
    let of = |table: &str| customers_of(&project, &ids(&project, table));
    let with = |scores: &[i64]| -> BTreeSet<String> {
        people(&project).into_iter().filter(|p| p.2.is_some_and(|s| scores.contains(&s))).map(|p| p.1).collect()
    };
    assert_eq!(of("with_a_score"), with(&[6, 7]));
    assert_eq!(of("of_two_names"), BTreeSet::from(["k01".to_owned(), "k02".to_owned()]));
    assert_eq!(of("last_by_score"), with(&[7]));
    assert_eq!(of("without_visits").len(), 38);
}

#[test]
fn history_says_since_when_until_when_and_how_often() {
    let rule = |score: u32| {
        format!("kind: audience\nname: scored\nprofile: person_profile\nwhere: {{trait: score = {score}}}\n---\n")
    };
    let always = everybody("always", "");
    let project = shop(&format!("{}{always}", rule(1)));
    let run = |score: u32, as_of: &str, more: &[&str]| {
        project.write("models/audiences.yaml", &format!("{}{always}", rule(score)));
        project.kinfold(&[&["run", "--as-of", as_of], more].concat()).exits(0);
    };
    // in, out, out, in again; then out in another run of the same logical time, which builds nothing else
    run(1, "2026-04-01", &[]);
    run(2, "2026-04-02", &[]);
    run(2, "2026-04-03", &[]);
    run(1, "2026-04-04", &[]);
    let of = |customer: &str| {
        project.lines(&format!(
            "SELECT CAST(CAST(first_entered_at AS DATE) AS VARCHAR), CAST(CAST(entered_at AS DATE) AS VARCHAR), \
             CAST(CAST(left_at AS DATE) AS VARCHAR), times FROM audience_history JOIN person_profile ON entity_id = person_id \
             WHERE audience = 'scored' AND customer = '{customer}'"
        ))[1..]
            .join(";")
    };
    // k01 has the score 1, k02 the score 2, k03 neither
    assert_eq!(of("k01"), "2026-04-01,2026-04-04,,2");
    assert_eq!(of("k02"), "2026-04-02,2026-04-02,2026-04-04,1");
    assert_eq!(of("k03"), "");
    run(2, "2026-04-04", &["--select", "scored"]);
    assert_eq!(of("k01"), "2026-04-01,2026-04-04,2026-04-04,2");
    assert_eq!(of("k02"), "2026-04-02,2026-04-04,,2");
    let always =
        "SELECT count(*) AS n FROM audience_history WHERE audience = 'always' AND times = 1 AND left_at IS NULL";
    assert_eq!(project.number(always), 40);
}

#[test]
fn rows_of_lists_that_name_nobody_are_kept_with_the_reason() {
    let project = shop(&everybody("all_of_them", "include: models/picks.csv\nexclude: models/stops.csv\n"));
    project.write(
        "models/picks.csv",
        "identifier,by,reason,at\ncustomer:k99,ann,a friend,2026-03-01\ncustomer:k01,ann,a friend,\n",
    );
    let unknown = "0123456789abcdef0123456789abcdef";
    let stops = format!(
        "reason,by,identifier\nasked us,bob,nobody\nasked us,bob,{unknown}\nasked us,bob,email:no address\nasked us,bob,customer:k02\n"
    );
    project.write("models/stops.csv", &stops);
    let run = project.kinfold(&["run"]).exits(0);
    assert!(
        run.stdout.contains("all_of_them: 4 rows of its lists rejected: kinfold show all_of_them_rejected"),
        "{run}"
    );
    assert_eq!(node(&project, "all_of_them")["rejected"], 4);
    let rows = project.query("SELECT * FROM all_of_them_rejected ORDER BY list, identifier");
    let told: Vec<[String; 3]> =
        rows.iter().map(|r| [text(r, "list"), text(r, "identifier"), text(r, "reason")]).collect();
    let expected = [
        ["exclude", unknown, "nobody has this entity id"],
        ["exclude", "email:no address", "not a value of `email`: normalising leaves nothing"],
        ["exclude", "nobody", "neither `type:value` nor an entity id"],
        ["include", "customer:k99", "nobody has this identifier"],
    ];
    assert_eq!(told, expected.map(|row| row.map(str::to_owned)));
    let first = "SELECT CAST(CAST(listed_at AS DATE) AS VARCHAR) AS at, listed_by, listed_reason FROM all_of_them_rejected WHERE list = 'include'";
    assert_eq!(project.lines(first)[1..], ["2026-03-01,ann,a friend"]);
    // the rest counts
    assert_eq!(ids(&project, "all_of_them").len(), 39);
    // once people come who have the identifier, nothing is rejected any more
    project.write("data/customers.csv", &format!("{}k99,k99@example.com,1\n", customers()));
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.number("SELECT count(*) AS n FROM all_of_them_rejected WHERE list = 'include'"), 0);
}

#[test]
fn an_included_person_says_who_and_when() {
    let rule =
        "kind: audience\nname: sevens\nprofile: person_profile\nwhere: {trait: score = 7}\ninclude: models/picks.csv\n";
    let project = shop(rule);
    project.write("models/picks.csv", "at,identifier,by,reason\n2026-03-20,customer:k01,ann,asked\n,customer:k02,bob,asked too\n2026-03-20,customer:k07,bob,is one\n");
    project.kinfold(&["run"]).exits(0);
    let reasons = project.lines("SELECT DISTINCT reason FROM sevens");
    assert_eq!(reasons[1..], ["included by ann on 2026-03-20: asked", "included by bob: asked too", "rule"]);
}

/// Bills b1 to b8; `-` is null. as_of is 2026-03-31.
const BILLS: &str = "\
b1,open,50,/book/now,a@clinic.edu,2026-03-31T00:00:00Z
b2,late,100,/doctors/ann,b@x.com,2026-04-15T00:00:00Z
b3,paid,150,/a/doctors/bob,c@x.edu.com,2026-04-30T00:00:00Z
b4,-,-,-,-,-
b5,open,99.5,/Doctors/x,d@Y.EDU,2026-03-01T00:00:00Z
b6,paid,100.5,/book,e@z.edu,2026-02-28T23:59:59Z
b7,late,20,/x/book,f@z.org,2026-04-01T00:00:00Z
b8,late,20,/x/book,f@z.org,2026-04-30T00:00:01Z
";

#[test]
fn every_operator_of_the_documents_selects_what_it_says() {
    // by hand, from the bills above
    let expected: [(&str, &[u32]); 13] = [
        ("equals", &[1, 5]),
        ("not", &[2, 3, 6, 7, 8]),
        ("less", &[1, 5, 7, 8]),
        ("greater", &[3, 6]),
        ("any of", &[1, 2, 5, 7, 8]),
        ("contains", &[2, 3]),
        ("starts", &[1, 6]),
        ("ends", &[1, 6]),
        ("exists", &[1, 2, 3, 5, 6, 7, 8]),
        ("before", &[1, 5, 6]),
        ("after", &[2, 3, 8]),
        ("within last", &[1, 5]),
        ("within next", &[2, 3, 7]),
    ];
    let document = std::fs::read_to_string(crate::support::repository().join("docs/language.md")).unwrap();
    let section = document.split("### Properties\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let written: Vec<(String, String)> = cells.map(|c| (c[0].to_owned(), c[1].trim_matches('`').to_owned())).collect();
    assert_eq!(written.iter().map(|w| w.0.as_str()).collect::<Vec<_>>(), expected.map(|e| e.0));
    let mut audiences = String::new();
    for (number, (_, sql)) in written.iter().enumerate() {
        let _ = write!(
            audiences,
            "kind: audience\nname: o{number}\nprofile: bill_profile\nwhere: {{related: shop.bills, where: \"{sql}\"}}\n---\n"
        );
    }
    let identity = "kind: identity\nname: bill\nidentifiers: {id: {}, twin: {}}\nlinks:\n  - {from: shop.bills, ids: {id: id, twin: \"id || '2'\"}}\n---\nkind: profile\nname: bill_profile\nidentity: bill\nattributes: {id: {from: shop.bills.id}}\n";
    let sources = "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: bills, path: bills.csv, format: csv, columns: {amount: {type: DOUBLE}, due: {type: TIMESTAMP}}}\n";
    let bills = format!("id,status,amount,url,email,due\n{}", BILLS.replace(",-", ","));
    let project = Project::of(&[
        ("kinfold.yaml", KINFOLD),
        ("sources.yaml", sources),
        ("data/bills.csv", &bills),
        ("models/bill.yaml", identity),
        ("models/audiences.yaml", &audiences),
    ]);
    project.kinfold(&["run"]).exits(0);
    let sql = "SELECT audience, id FROM audience_changes JOIN bill_profile ON bill_id = entity_id";
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in project.query(sql) {
        found.entry(text(&row, "audience")).or_default().insert(text(&row, "id"));
    }
    for (number, (operator, bills)) in expected.iter().enumerate() {
        let bills: BTreeSet<String> = bills.iter().map(|n| format!("b{n}")).collect();
        assert_eq!(found.get(&format!("o{number}")), Some(&bills), "{operator}: {}", written[number].1);
    }
}
