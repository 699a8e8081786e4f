//! What rows mean: their times, types and owners, and that names never get in each other's way.

use crate::support::Project;

const PERSON: &str = "\
kind: identity
name: person
identifiers: {account: {}}
links: [{from: shop.visits, ids: {account: account}}]
id_key: not-secret
";

/// A shop with visits, one more table, and models over them.
fn shop(settings: &str, tables: &str, files: &[(&str, &str)]) -> Project {
    let settings = format!("name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n{settings}");
    let sources = format!("sources:\n  - name: shop\n    location: data\n    tables:\n{tables}");
    let ours = [("kinfold.yaml", settings.as_str()), ("sources.yaml", &sources), ("models/person.yaml", PERSON)];
    Project::of(&[&ours[..], files].concat())
}

const VISITS: &str =
    "      - {name: visits, path: visits.csv, format: csv, time: at, row_id: id, columns: {amount: {type: bigint}}}\n";

fn profile(rest: &str) -> String {
    format!("kind: profile\nname: person_profile\nidentity: person\n{rest}")
}

fn rows(project: &Project, sql: &str) -> Vec<String> {
    project.lines(sql).split_off(1)
}

/// `k1` comes three times: the second within the hour of the first, the third a day after the second.
#[test]
fn what_is_delivered_again_within_a_time_counts_once() {
    let visits = "id,account,at\nk1,a,2026-03-01T00:00:00Z\nk1,a,2026-03-01T01:00:00Z\nk1,a,2026-03-02T01:00:00Z\nk2,b,2026-03-01T00:00:00Z\n,c,2026-03-01T00:00:00Z\n,c,2026-03-01T00:00:00Z\n";
    let count = |dedupe: &str| {
        let table = format!("      - {{name: visits, path: visits.csv, format: csv, time: at, dedupe: {dedupe}}}\n");
        let project = shop("", &table, &[("data/visits.csv", visits)]);
        rows(&project, "SELECT account, count(*) FROM shop.visits GROUP BY 1 ORDER BY 1")
    };
    assert_eq!(count("{by: id}"), ["a,1", "b,1", "c,2"]);
    assert_eq!(count("{by: id, within: 2 hours}"), ["a,2", "b,1", "c,2"]);
    assert_eq!(count("{by: id, within: 30 minutes}"), ["a,3", "b,1", "c,2"]);
}

#[test]
fn of_versions_the_greatest_stays_and_rows_of_no_record_do() {
    let visits = "id,account,version,at\n1,a,1,2026-03-01T00:00:00Z\n1,b,2,2026-03-01T00:00:00Z\n,c,1,2026-03-01T00:00:00Z\n,d,2,2026-03-01T00:00:00Z\n";
    let table = "      - {name: visits, path: visits.csv, format: csv, time: at, row_id: id, version: version}\n";
    let project = shop("", table, &[("data/visits.csv", visits)]);
    assert_eq!(rows(&project, "SELECT account FROM shop.visits ORDER BY 1"), ["b", "c", "d"]);
}

#[test]
fn a_normaliser_that_differs_from_run_to_run_is_a_warning() {
    let project = shop("", VISITS, &[("data/visits.csv", "id,account,amount,at\n1,a,1,2026-03-01T00:00:00Z\n")]);
    project.write("models/person.yaml", &PERSON.replace("account: {}", "account: {normalize: \"value || random()\"}"));
    project.kinfold(&["check"]).says(&["K0305", "`random` gives another result in every run"]);
}

#[test]
fn paths_reach_into_folders_as_far_as_they_say() {
    let file = |id: &str| format!("id,account,at\n{id},a,2026-03-01T00:00:00Z\n");
    let (top, x, y, deep) = (file("top"), file("x"), file("y"), file("deep"));
    let read = |path: &str| {
        let table = format!("      - {{name: visits, path: '{path}', format: csv, time: at}}\n");
        let data =
            [("data/v/top.csv", &top), ("data/v/x/a.csv", &x), ("data/v/y/a.csv", &y), ("data/v/y/z/a.csv", &deep)];
        let data: Vec<(&str, &str)> = data.iter().map(|(path, text)| (*path, text.as_str())).collect();
        rows(&shop("", &table, &data), "SELECT id FROM shop.visits ORDER BY id").join(" ")
    };
    assert_eq!(read("v/"), "deep top x y");
    assert_eq!(read("v/*.csv"), "top");
    assert_eq!(read("v/*/a.csv"), "x y");
    assert_eq!(read("v/[xz]/*.csv"), "x");
    assert_eq!(read("*/*/*/a.csv"), "deep");
}

/// In Berlin, in winter, 2026-03-24T00:30 is half past eleven in the evening of the 23rd in UTC.
#[test]
fn texts_without_a_zone_are_times_of_the_project() {
    let visits = "id,account,at\n1,a,2026-03-24T00:30:00\n2,b,2026-03-24T00:30:00Z\n3,c,2026-03-24\n";
    let table = "      - {name: visits, path: visits.csv, format: csv, time: at, row_id: id}\n";
    let first_seen = |timezone: &str| {
        let project = shop(&format!("timezone: {timezone}\n"), table, &[("data/visits.csv", visits)]);
        project.kinfold(&["run"]).exits(0);
        rows(&project, "SELECT identifier, CAST(first_seen AS VARCHAR) FROM person ORDER BY identifier")
    };
    assert_eq!(first_seen("UTC"), ["a,2026-03-24T00:30:00Z", "b,2026-03-24T00:30:00Z", "c,2026-03-24T00:00:00Z"]);
    let berlin = ["a,2026-03-23T23:30:00Z", "b,2026-03-24T00:30:00Z", "c,2026-03-23T23:00:00Z"];
    assert_eq!(first_seen("Europe/Berlin"), berlin);
}

#[test]
fn a_clock_that_is_no_time_is_refused_with_its_place() {
    let table = |rest: &str| format!("      - {{name: visits, path: visits.csv, format: csv, time: at{rest}}}\n");
    let visits = "id,account,at\n1,a,2026-03-24T00:30:00Z\n2,b,yesterday\n";
    let project = shop("", &table(""), &[("data/visits.csv", visits)]);
    let said = ["K0502", "in `at` that is not a TIMESTAMP", "visits.csv:3 has `yesterday`", "a time in every row"];
    project.kinfold(&["run"]).exits(1).says(&said);
    let numbers = "id,account,at\n1,a,1774310400\n";
    let project = shop("", &table(", columns: {at: {type: bigint}}"), &[("data/visits.csv", numbers)]);
    project.kinfold(&["check"]).exits(2).says(&["`at` of `shop.visits` is BIGINT, and that is no time"]);
}

/// A whole number beside a broken one: `CASE` gives both one type, and two tables do.
#[test]
fn values_keep_what_is_behind_the_point() {
    let tables = format!(
        "{VISITS}      - {{name: refunds, path: refunds.csv, format: csv, time: at, row_id: id, columns: {{amount: {{type: double}}}}}}\n"
    );
    let more = "  - {from: shop.refunds, ids: {account: account}}\n";
    let person = PERSON.replace(
        "links: [{from: shop.visits, ids: {account: account}}]",
        format!("links:\n  - {{from: shop.visits, ids: {{account: account}}}}\n{more}").trim_end(),
    );
    let model = profile(
        "attributes:
  last: {from: [shop.visits.amount, shop.refunds.amount], pick: latest}
traits:
  paid: {from: shop.refunds, select: \"sum(CASE WHEN reason = 'gift' THEN 0 ELSE amount END)\"}
  most: {from: [shop.visits, shop.refunds], select: max(amount)}
  all: {from: [shop.visits, shop.refunds], select: sum(amount)}
",
    );
    let project = shop(
        "",
        &tables,
        &[
            ("data/visits.csv", "id,account,amount,at\n1,a,1,2026-03-01T00:00:00Z\n"),
            ("data/refunds.csv", "id,account,amount,reason,at\n1,a,1.75,late,2026-03-02T00:00:00Z\n"),
            ("models/person.yaml", &person),
            ("models/person_profile.yaml", &model),
        ],
    );
    project.kinfold(&["run"]).exits(0);
    assert_eq!(rows(&project, "SELECT last, paid, most, \"all\" FROM person_profile"), ["1.75,1.75,1.75,2.75"]);
    let texts = tables.replace("{type: double}", "{type: varchar}");
    let sources = format!("sources:\n  - name: shop\n    location: data\n    tables:\n{texts}");
    project.write("sources.yaml", &sources);
    project.kinfold(&["check"]).exits(2).says(&["one type of values, here they are BIGINT and"]);
}

/// The trait counts all visits of a person, the audience wants two of them.
#[test]
fn an_audience_may_have_the_name_of_a_trait() {
    let visits =
        "id,account,amount,at\n1,a,1,2026-03-01T00:00:00Z\n2,a,1,2026-03-02T00:00:00Z\n3,b,1,2026-03-01T00:00:00Z\n";
    let audience = "kind: audience\nname: n\nprofile: person_profile\nwhere: {event: shop.visits, column: account, is: a, count: '> 1'}\n";
    let project = shop(
        "",
        VISITS,
        &[
            ("data/visits.csv", visits),
            (
                "models/person_profile.yaml",
                &profile("traits:\n  n: {from: shop.visits, select: sum(amount) + count(*)}\n"),
            ),
            ("models/n.yaml", audience),
        ],
    );
    project.kinfold(&["run"]).exits(0);
    assert_eq!(rows(&project, "SELECT n FROM person_profile ORDER BY n"), ["2", "4"]);
    assert_eq!(project.number("SELECT count(*) AS n FROM n"), 1);
    project.write("models/person_profile.yaml", &profile("traits:\n  __n_0: {from: shop.visits, select: count(*)}\n"));
    project.kinfold(&["check"]).exits(2).says(&["`__n_0` is not a name", "Kinfold's own"]);
}

/// A call belongs to who is outside the clinic: who calls in, or who is called.
#[test]
fn a_row_belongs_to_the_link_that_takes_it() {
    let calls = "id,direction,caller,called,amount,at
1,in,111,900,1,2026-03-01T00:00:00Z
2,out,111,222,1,2026-03-02T00:00:00Z
3,out,111,,1,2026-03-03T00:00:00Z
4,other,111,222,1,2026-03-04T00:00:00Z
";
    let person = "\
kind: identity
name: person
identifiers: {phone: {}}
links:
  - {from: shop.visits, ids: {phone: caller}, where: direction = 'in'}
  - {from: shop.visits, ids: {phone: called}, where: direction = 'out'}
id_key: not-secret
";
    let model = profile(
        "attributes:\n  phone: {from: [shop.visits.caller, shop.visits.called]}\ntraits:\n  rows: {from: shop.visits, select: unique_list(id)}\n",
    );
    let project = shop(
        "",
        VISITS,
        &[("data/visits.csv", calls), ("models/person.yaml", person), ("models/person_profile.yaml", &model)],
    );
    project.kinfold(&["run"]).exits(0);
    // the third names nobody whom its link asks for; the fourth is no link's, and names the caller first
    let told = rows(
        &project,
        "SELECT i.identifier, array_to_string(p.rows, ' ') FROM person_profile AS p JOIN person AS i ON i.person_id = p.person_id ORDER BY 1",
    );
    assert_eq!(told, ["111,1 4", "222,2"]);
}

#[test]
fn a_sequence_of_too_many_steps_or_two_values_is_refused() {
    let steps = |count: usize| vec!["{event: shop.visits}"; count].join(", ");
    let audience =
        |steps: &str| format!("kind: audience\nname: many\nprofile: person_profile\nwhere: {{sequence: [{steps}]}}\n");
    let project = shop(
        "",
        VISITS,
        &[
            ("data/visits.csv", "id,account,amount,page,at\n1,a,1,x,2026-03-01T00:00:00Z\n"),
            ("models/person_profile.yaml", &profile("traits:\n  n: {from: shop.visits, select: count(*)}\n")),
            ("models/many.yaml", &audience(&steps(64))),
        ],
    );
    project.kinfold(&["check"]).exits(0);
    project.write("models/many.yaml", &audience(&steps(65)));
    project.kinfold(&["check"]).exits(2).says(&["a sequence has at most 64 steps, this one has 65"]);
    let two = "{event: shop.visits}, {event: shop.visits, same: page}, {event: shop.visits, same: amount}";
    project.write("models/many.yaml", &audience(two));
    project.kinfold(&["check"]).exits(2).says(&["all `same:` of a sequence are one value"]);
}

/// One person with ten thousand visits of a hundred pages, in an order in which the last step is never found: tried
/// choice by choice, these would take hours.
#[test]
fn a_sequence_over_many_rows_of_one_person_ends() {
    let row = |n: u32| format!("{n},a,1,p{},2026-03-01T{:02}:{:02}:{:02}Z\n", n % 100, n / 3600, n / 60 % 60, n % 60);
    let visits = "id,account,amount,page,at\n".to_owned() + &(0..10_000).map(row).collect::<String>();
    let audience = |name: &str, last: &str| {
        let step = "{event: shop.visits, same: page}";
        format!(
            "kind: audience\nname: {name}\nprofile: person_profile\nwhere: {{sequence: [{{event: shop.visits}}, {step}, {step}, {{event: shop.visits, {last}same: page}}]}}\n"
        )
    };
    let project = shop(
        "",
        VISITS,
        &[
            ("data/visits.csv", &visits),
            ("models/person_profile.yaml", &profile("traits:\n  n: {from: shop.visits, select: count(*)}\n")),
            ("models/found.yaml", &audience("found", "")),
            ("models/missing.yaml", &audience("missing", "column: page, is: nowhere, ")),
        ],
    );
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.number("SELECT count(*) AS n FROM found"), 1);
    assert_eq!(project.number("SELECT count(*) AS n FROM missing"), 0);
}
