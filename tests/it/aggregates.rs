//! Traits with every kind of aggregate, against values worked out by hand; how they are read.

use crate::support::Project;
use serde_json::{Value, json};

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - name: visits
        path: visits/
        format: csv
        time: at
        row_id: id
        columns: {id: {type: BIGINT}, amount: {type: BIGINT}, n: {type: BIGINT}, flag: {type: BOOLEAN}, at: {type: TIMESTAMP}}
      - {name: people, path: people.csv, format: csv, time: at, row_id: id, columns: {at: {type: TIMESTAMP}}}
";

const PERSON: &str = "\
kind: identity
name: person
identifiers: {email: {normalize: email}}
links:
  - {from: shop.visits, ids: {email: email}}
  - {from: shop.people, ids: {email: email}}
";

/// ann: amounts 1, 3, 3, 5 with n = 1, 2, 3, 4, the last without a page. bob: one visit without amount. cat: none.
const ROWS: [&str; 5] = [
    "1,ann@x.com,home,1,1,true,2026-03-01T00:00:00",
    "2,ann@x.com,buy,3,2,false,2026-03-02T00:00:00",
    "3,ann@x.com,buy,3,3,true,2026-03-03T00:00:00",
    "4,ann@x.com,,5,4,true,2026-03-04T00:00:00",
    "5,bob@x.com,home,,1,,2026-03-05T00:00:00",
];

const PEOPLE: &str = "\
id,email,name,city,at
p1,ann@x.com,Ann,Rome,2026-01-01T00:00:00
p2,ann@x.com,Anna,,2026-02-01T00:00:00
p3,ANN@x.com,Ann W,Oslo,2026-01-15T00:00:00
p4,cat@x.com,Cat,Rome,2026-01-01T00:00:00
";

/// Each trait with its value for ann, bob and cat.
fn traits() -> Vec<(&'static str, &'static str, [Value; 3])> {
    let three = |a: Value, b: Value, c: Value| [a, b, c];
    let null = || json!(null);
    let number = |x: f64| json!(x);
    vec![
        ("rows", "count(*)", three(json!(4), json!(1), json!(0))),
        ("pages", "count(page)", three(json!(3), json!(1), json!(0))),
        ("amounts", "count(DISTINCT amount)", three(json!(3), json!(0), json!(0))),
        ("total", "sum(amount)", three(json!(12), null(), null())),
        ("distinct_total", "sum(DISTINCT amount)", three(json!(9), null(), null())),
        ("bought", "sum(amount) FILTER (WHERE page = 'buy')", three(json!(6), null(), null())),
        ("mean", "avg(amount)", three(number(3.0), null(), null())),
        ("least", "min(amount)", three(json!(1), null(), null())),
        ("most", "max(amount)", three(json!(5), null(), null())),
        ("middle", "median(amount)", three(json!(3), null(), null())),
        ("var_all", "var_pop(amount)", three(number(2.0), null(), null())),
        ("var_of_sample", "round(var_samp(amount), 4)", three(number(2.6667), null(), null())),
        ("dev_all", "round(stddev_pop(amount) * stddev_pop(amount), 4)", three(number(2.0), null(), null())),
        ("dev_of_sample", "round(stddev(amount), 4)", three(number(1.633), null(), null())),
        ("covariance", "covar_pop(amount, n)", three(number(1.5), null(), null())),
        ("covariance_of_sample", "covar_samp(amount, n)", three(number(2.0), null(), null())),
        ("correlation", "round(corr(amount, n), 4)", three(number(0.9487), null(), null())),
        ("slope", "regr_slope(amount, n)", three(number(1.2), null(), null())),
        ("points", "regr_count(amount, n)", three(json!(4), json!(0), json!(0))),
        ("fit", "round(regr_r2(amount, n), 4)", three(number(0.9), null(), null())),
        ("bits_of_all", "bit_and(amount)", three(json!(1), null(), null())),
        ("bits_of_any", "bit_or(amount)", three(json!(7), null(), null())),
        ("bits_of_odd", "bit_xor(amount)", three(json!(4), null(), null())),
        ("always", "bool_and(flag)", three(json!(false), null(), null())),
        ("ever", "bool_or(flag)", three(json!(true), null(), null())),
        ("about_distinct", "approx_distinct(page)", three(json!(2), json!(1), json!(0))),
        ("about_median", "approx_median(amount)", three(json!(3), null(), null())),
        ("half", "percentile_cont(0.5) WITHIN GROUP (ORDER BY amount)", three(number(3.0), null(), null())),
        ("path", "string_agg(page, '>' ORDER BY at)", three(json!("home>buy>buy"), json!("home"), null())),
        ("path_back", "string_agg(page, '>' ORDER BY at DESC)", three(json!("buy>buy>home"), json!("home"), null())),
        ("path_by_time", "string_agg(page, '>')", three(json!("home>buy>buy"), json!("home"), null())),
        ("spent", "array_agg(amount ORDER BY amount DESC, at)", three(json!([5, 3, 3, 1]), json!([null]), null())),
        ("spent_by_time", "array_agg(amount)", three(json!([1, 3, 3, 5]), json!([null]), null())),
        ("spent_once", "array_agg(DISTINCT amount ORDER BY amount)", three(json!([1, 3, 5]), json!([null]), null())),
        ("dearest_page", "first_value(page ORDER BY amount DESC, at DESC)", three(null(), json!("home"), null())),
        (
            "dearest_known",
            "first_value(page ORDER BY amount DESC, at DESC) IGNORE NULLS",
            three(json!("buy"), json!("home"), null()),
        ),
        ("final_page", "last_value(page ORDER BY n)", three(null(), json!("home"), null())),
        ("second_page", "nth_value(page, 2 ORDER BY at)", three(json!("buy"), null(), null())),
        ("entry", "first(page)", three(json!("home"), json!("home"), null())),
        ("exit", "last(page)", three(json!("buy"), json!("home"), null())),
        ("usual", "most_frequent(page)", three(json!("buy"), json!("home"), null())),
        ("kinds", "unique_count(page)", three(json!(2), json!(1), json!(0))),
        ("kind_list", "unique_list(page)", three(json!(["buy", "home"]), json!(["home"]), null())),
        ("per_visit", "sum(amount) / count(*)", three(json!(3), null(), null())),
    ]
}

fn profile() -> String {
    let one =
        |(name, sql, _): &(&str, &str, [Value; 3])| format!("  {name}: {{from: shop.visits, select: \"{sql}\"}}\n");
    let folded: String = traits().iter().map(one).collect();
    format!(
        "\
kind: profile
name: person_profile
identity: person
attributes:
  email: {{from: [shop.people.email, shop.visits.email], pick: source_order}}
  name: {{from: shop.people.name, pick: latest}}
  city: {{from: shop.people.city, pick: earliest}}
traits:
{folded}  score: {{select: 'rows * 10 + coalesce(total, 0)'}}
  score_in_words: {{select: \"CASE WHEN score >= 50 THEN 'high' ELSE 'low' END\"}}
persona:
  - {{name: known, when: score_in_words = 'high' AND name IS NOT NULL}}
  - {{default: other}}
"
    )
}

/// The rows in files of so many rows, in this order.
fn project(rows: &[&str], per_file: usize) -> Project {
    let project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
        ("sources.yaml", SOURCES),
        ("models/person.yaml", PERSON),
        ("models/profile.yaml", &profile()),
        ("data/people.csv", PEOPLE),
    ]);
    for (number, rows) in rows.chunks(per_file).enumerate() {
        let text = format!("id,email,page,amount,n,flag,at\n{}\n", rows.join("\n"));
        project.write(&format!("data/visits/{number}.csv"), &text);
    }
    project.kinfold(&["run"]).exits(0);
    project
}

const ALL: &str = "SELECT * EXCLUDE (person_id) FROM person_profile ORDER BY email";

#[test]
fn every_sql_aggregate_gives_what_it_gives_by_hand() {
    let project = project(&ROWS, 5);
    let rows = project.query(ALL);
    let emails: Vec<&Value> = rows.iter().map(|row| &row["email"]).collect();
    assert_eq!(emails, [&json!("ann@x.com"), &json!("bob@x.com"), &json!("cat@x.com")]);
    let same = |found: &Value, wanted: &Value| match (found.as_f64(), wanted.as_f64()) {
        (Some(found), Some(wanted)) => (found - wanted).abs() < 1e-9,
        _ => found == wanted,
    };
    let wrong: Vec<String> = traits()
        .iter()
        .flat_map(|(name, sql, wanted)| {
            rows.iter().zip(wanted).map(move |(row, wanted)| (name, sql, &row[*name], wanted))
        })
        .filter(|(_, _, found, wanted)| !same(found, wanted))
        .map(|(name, sql, found, wanted)| format!("{name}: {sql} = {found}, not {wanted}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // traits over traits over traits, and the persona over those
    let told = |column: &str| rows.iter().map(|row| row[column].clone()).collect::<Vec<_>>();
    assert_eq!(told("score"), [json!(52), json!(10), json!(0)]);
    assert_eq!(told("score_in_words"), [json!("high"), json!("low"), json!("low")]);
    assert_eq!(told("persona"), [json!("known"), json!("other"), json!("other")]);
    // the same from other files in another order
    let mut backwards = ROWS;
    backwards.reverse();
    let other = self::project(&backwards, 2);
    assert_eq!(other.query(ALL), rows);
}

/// The winner with its source, row and time, and what lost to it.
#[test]
fn an_attribute_keeps_where_it_comes_from_and_what_it_beat() {
    let project = project(&ROWS, 5);
    let of_ann = "SELECT attribute, value, source, row_id, happened_at, lost FROM person_profile_provenance \
        WHERE person_id = (SELECT person_id FROM person WHERE identifier = 'ann@x.com') ORDER BY attribute";
    let rows: Vec<Value> = project.query(of_ann).into_iter().map(Value::from).collect();
    let row = |attribute: &str, value: &str, column: &str, id: &str, at: &str, lost: &[&str]| {
        json!({"attribute": attribute, "value": value, "source": format!("shop.people.{column}"), "row_id": id,
            "happened_at": at, "lost": lost})
    };
    let expected = [
        row("city", "Rome", "city", "p1", "2026-01-01T00:00:00Z", &["Oslo"]),
        row("email", "ann@x.com", "email", "p2", "2026-02-01T00:00:00Z", &[]),
        row("name", "Anna", "name", "p2", "2026-02-01T00:00:00Z", &["Ann", "Ann W"]),
    ];
    assert_eq!(rows, expected);
}

/// Everything else of the profile shares one scan; what sees an order, a query, and rows of another model do not.
#[test]
fn a_plan_says_what_shares_a_scan_and_what_does_not() {
    let project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
        ("sources.yaml", SOURCES),
        ("models/person.yaml", PERSON),
        ("data/people.csv", PEOPLE),
        ("data/visits/1.csv", "id,email,page,amount,n,flag,at\n1,ann@x.com,home,1,1,true,2026-03-01T00:00:00\n"),
    ]);
    project.write(
        "models/profile.yaml",
        "\
kind: profile
name: person_profile
identity: person
attributes: {name: {from: shop.people.name, pick: latest}}
traits:
  lately: {from: shop.visits, select: count(*), within: 7 days}
  spent: {from: shop.visits, select: sum(amount), within: 30 days}
  path: {from: shop.visits, select: \"string_agg(page, '>' ORDER BY n)\"}
",
    );
    project.write(
        "models/audiences.yaml",
        "\
kind: audience
name: buyers
profile: person_profile
where:
  all:
    - {event: shop.visits, column: page, is: buy, count: '>= 2', within: 14 days}
    - {event: spenders, within: 10 days}
---
kind: audience
name: spenders
profile: person_profile
sql: SELECT person_id FROM person_profile WHERE spent > 10
",
    );
    let plan = |name: &str| {
        let text = project.kinfold(&["explain", "plan", name, "--output", "json"]).exits(0).stdout;
        serde_json::from_str::<Value>(&text).unwrap()["scans"].as_array().unwrap().clone()
    };
    let scans = plan("person_profile");
    let visits: Vec<&Value> = scans.iter().filter(|s| s["reads"][0]["table"] == "shop.visits").collect();
    let [shared, ordered] = visits.as_slice() else { panic!("{scans:#?}") };
    assert_eq!(shared["path"], json!("shared"));
    let answers = json!({"buyers": ["count of shop.visits is buy"], "person_profile": ["lately", "spent"]});
    assert_eq!(shared["answers"], answers);
    assert_eq!(shared["reads"][0]["columns"], json!(["amount", "at", "email", "page"]));
    assert_eq!((&ordered["path"], &ordered["answers"]), (&json!("ordered"), &json!({"person_profile": ["path"]})));
    assert_eq!(ordered["reads"][0]["columns"], json!(["email", "n", "page"]));
    let later: Vec<&Value> = scans.iter().filter(|s| s["path"] == "later" || s["path"] == "query").collect();
    assert_eq!(later.len(), 2, "{scans:#?}");
    let of_buyers = plan("buyers");
    let paths: Vec<&Value> = of_buyers.iter().map(|s| &s["path"]).collect();
    assert_eq!(paths, [&json!("shared"), &json!("later")]);
    let text = project.kinfold(&["explain", "plan", "person_profile"]).exits(0).stdout;
    assert!(text.contains("a scan of its own, because rows must come in an order\n  reads shop.visits: 3 of 7 columns (email, n, page)\n  for person_profile: path\n"), "{text}");
    project.kinfold(&["explain", "plan", "person"]).exits(2).says(&["neither a profile nor an audience"]);
    project.kinfold(&["explain", "plan", "byers"]).exits(2).says(&["did you mean `buyers`?"]);
}
