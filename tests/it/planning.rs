//! `kinfold plan`, `kinfold manifest` and `state:`: what would change, before it does.
//!
//! The shop that `kinfold init` makes has three people: Ann (customer 1001, two cookies, four visits), Bob (customer
//! 1002, one cookie) and the stranger behind cookie c3. Ann and Bob came back. What a plan must say is worked out
//! from that by hand.

use crate::support::{Outcome, Project, files};
use serde_json::Value;
use std::collections::BTreeSet;

/// The shop, after one run.
fn shop() -> Project {
    let project = untouched();
    project.kinfold(&["run"]).exits(0);
    project
}

/// The shop, never run.
fn untouched() -> Project {
    let project = Project::of(&[]);
    project.kinfold(&["init", "made"]).exits(0);
    for (file, _) in files(&project.path("made")) {
        let bytes = std::fs::read(project.path("made").join(&file)).unwrap();
        project.write_bytes(&file, &bytes);
    }
    std::fs::remove_dir_all(project.path("made")).unwrap();
    project
}

fn edit(project: &Project, path: &str, from: &str, to: &str) {
    let text = project.read(path);
    assert!(text.contains(from), "{path} has no `{from}`:\n{text}");
    project.write(path, &text.replace(from, to));
}

fn plan(project: &Project, more: &[&str]) -> Outcome {
    project.kinfold(&[&["plan"], more].concat()).exits(0)
}

fn json(project: &Project, more: &[&str]) -> Value {
    serde_json::from_str(&plan(project, &[more, &["--output", "json"]].concat()).stdout).unwrap()
}

fn reasons(plan: &Value, model: &str) -> Vec<String> {
    let steps = plan["steps"].as_array().unwrap();
    let step = steps.iter().find(|s| s["model"] == model).unwrap_or_else(|| panic!("no {model} in {plan}"));
    step["reasons"].as_array().unwrap().iter().map(|r| r["reason"].as_str().unwrap().to_owned()).collect()
}

/// Whether each of these lines is there; how columns are aligned does not matter.
#[track_caller]
fn has_lines(outcome: &Outcome, lines: &[&str]) {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in lines {
        assert!(outcome.stdout.lines().any(|l| words(l) == *line), "no line `{line}` in {outcome}");
    }
}

#[test]
fn before_the_first_run_everything_is_new_and_nothing_is_written() {
    let project = untouched();
    let before = files(&project.path(""));
    let said = plan(&project, &[]);
    assert!(said.stdout.contains("before the first run"), "{said}");
    has_lines(&said, &["reads 2 source tables: 2 files, 0.5 kB", "build person new"]);
    assert_eq!(json(&project, &[])["effects_computed"], false);
    assert_eq!(files(&project.path("")), before);
}

#[test]
fn a_plan_right_after_a_run_finds_nothing() {
    let project = shop();
    let said = plan(&project, &[]);
    has_lines(&said, &["nothing changed for 4 models, not built; 1 sync as before, which may owe something"]);
    assert!(!said.stdout.contains("effect"), "{said}");
    let forced = plan(&project, &["--effects", "always"]);
    has_lines(&forced, &["no committed row changes, and nothing would be sent"]);
}

#[test]
fn a_changed_trait_tells_the_key_the_readers_and_the_profiles() {
    let project = shop();
    edit(&project, "models/person_profile.yaml", "within: 7 days", "within: 30 days");
    let runs = project.number("SELECT count(*) FROM kinfold.runs");
    let said = plan(&project, &[]);
    has_lines(
        &said,
        &[
            "- traits.visits_7d.within: 7 days",
            "+ traits.visits_7d.within: 30 days",
            // Ann alone came by between the 1st and the 24th
            "person_profile: 1 changed (visits_7d 1), of 3 profiles",
        ],
    );
    let plan = json(&project, &[]);
    assert_eq!(reasons(&plan, "person_profile"), ["changed"]);
    assert_eq!(reasons(&plan, "came_back"), ["upstream"]);
    assert_eq!(reasons(&plan, "came_back_to_outbox"), ["upstream"]);
    assert_eq!(reasons(&plan, "person"), ["unchanged"]);
    // nothing of it was done
    assert_eq!(project.number("SELECT count(*) FROM kinfold.runs"), runs);
    assert_eq!(project.number("SELECT max(visits_7d) FROM person_profile"), 2);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.number("SELECT max(visits_7d) FROM person_profile"), 4);
    has_lines(
        &self::plan(&project, &[]),
        &["nothing changed for 4 models, not built; 1 sync as before, which may owe something"],
    );
}

#[test]
fn a_changed_identity_tells_who_is_torn_apart_and_what_is_sent() {
    let project = shop();
    edit(&project, "models/person.yaml", "{normalize: email}", "{normalize: email, block: [ann@example.com]}");
    let said = plan(&project, &[]);
    has_lines(
        &said,
        &[
            "+ identifiers.email.block: [\"ann@example.com\"]",
            // her record keeps her id; each of her cookies is a person of its own
            "person: 2 split off, 1 changed, of 5 entities (identifiers: 1 gone, 2 changed)",
            // she has no visits any more, the cookie that came back has
            "came_back: 1 enter, 1 leave, of 2 members",
            "came_back_to_outbox to outbox: 1 new, of 2 rows",
        ],
    );
    assert_eq!(project.number("SELECT count(DISTINCT person_id) FROM person"), 3);
    // and that is what happens
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.number("SELECT count(DISTINCT person_id) FROM person"), 5);
    assert_eq!(project.report()["syncs"][0]["sent"], 1);
}

#[test]
fn an_identity_that_only_loses_an_identifier_is_told_too() {
    let project = shop();
    // the stranger has no other identifier, so nobody is created, merged or split
    edit(&project, "models/person.yaml", "cookie: {max_links: 10}", "cookie: {max_links: 10, block: [c3]}");
    has_lines(&plan(&project, &[]), &["person: identifiers: 1 gone, of 2 entities"]);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(project.number("SELECT count(*) FROM person WHERE identifier = 'c3'"), 0);
    edit(&project, "models/person.yaml", ", block: [c3]", "");
    let back = plan(&project, &["--output", "json"]);
    let back: Value = serde_json::from_str(&back.stdout).unwrap();
    let effects = back["effects"].as_array().unwrap();
    let of_person = effects.iter().find(|e| e["node"]["model"] == "person").unwrap();
    assert_eq!((&of_person["rows"]["added"], &of_person["rows"]["entities"]), (&1.into(), &0.into()), "{of_person}");
}

#[test]
fn new_changed_and_vanished_files_are_told() {
    let project = shop();
    project.write("data/visits/2.csv", "cookie,email,page,at\nc9,,home,2026-03-30T00:00:00Z\n");
    let said = plan(&project, &[]);
    assert!(said.stdout.contains("shop.visits: 1 new file (0.1 kB)"), "{said}");
    assert_eq!(reasons(&json(&project, &[]), "came_back"), ["files", "upstream"]);
    project.kinfold(&["run"]).exits(0);
    project.write("data/visits/2.csv", "cookie,email,page,at\nc9,,prices,2026-03-30T00:00:00Z\n");
    assert!(plan(&project, &[]).stdout.contains("shop.visits: 1 changed file"));
    project.remove("data/visits/2.csv");
    assert!(plan(&project, &[]).stdout.contains("shop.visits: 1 file gone"));
}

#[test]
fn columns_that_go_or_change_type_are_named_with_the_readers_of_the_table() {
    let project = shop();
    edit(
        &project,
        "models/person_profile.yaml",
        "  favourite_page: {from: shop.visits, select: most_frequent(page)}\n",
        "",
    );
    edit(&project, "models/person_profile.yaml", "select: max(at)", "select: max(page)");
    has_lines(
        &plan(&project, &["--effects", "never"]),
        &[
            "person_profile.favourite_page: Utf8, gone; the table is read by came_back, came_back_to_outbox",
            "person_profile.last_visit: Timestamp(µs, \"UTC\") -> Utf8; the table is read by came_back, came_back_to_outbox",
        ],
    );
}

#[test]
fn a_model_that_went_is_told_once() {
    let project = shop();
    project.remove("models/daily_visits.sql");
    has_lines(&plan(&project, &[]), &["daily_visits: no longer defined; its committed tables stay"]);
    project.kinfold(&["run"]).exits(0);
    assert!(!plan(&project, &[]).stdout.contains("daily_visits"));
}

#[test]
fn a_later_time_is_a_reason_of_its_own() {
    let project = shop();
    let said = plan(&project, &["--as-of", "2026-04-02"]);
    has_lines(
        &said,
        &[
            "nothing changed for 2 models, not built; only the logical time moved for 1 model",
            "build came_back upstream: person_profile",
        ],
    );
}

#[test]
fn markdown_is_made_for_a_pull_request() {
    let project = shop();
    edit(&project, "models/person_profile.yaml", "within: 7 days", "within: 30 days");
    let said = plan(&project, &["--output", "markdown"]).stdout;
    for part in [
        "### plan of first_project",
        "| build | `person_profile` | definition changed |",
        "```diff\n- traits.visits_7d.within: 7 days\n+ traits.visits_7d.within: 30 days\n```",
        "**Effect**",
        "- person_profile: 1 changed (visits_7d 1), of 3 profiles",
    ] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
}

#[test]
fn a_sync_that_would_be_refused_says_so_in_the_plan() {
    let project = untouched();
    edit(&project, "models/came_back_to_outbox.yaml", "mode: upsert", "mode: mirror");
    project.kinfold(&["run"]).exits(0);
    edit(&project, "models/came_back.yaml", "is: prices", "is: nothing_like_it");
    let said = plan(&project, &[]);
    assert!(said.stdout.contains("came_back: 2 leave, of 0 members"), "{said}");
    assert!(said.stdout.contains("came_back_to_outbox to outbox: would fail:"), "{said}");
    assert!(said.stdout.contains("max_delete"), "{said}");
}

#[test]
fn data_tests_that_would_fail_are_told_without_keys_of_rows() {
    let project = shop();
    // three visits look at the prices
    edit(
        &project,
        "sources.yaml",
        "        time: at\n        columns:\n          at: {type: TIMESTAMP}\n      - name: customers",
        "        time: at\n        row_id: cookie\n        tests: [{expression: \"page <> 'prices'\"}]\n        columns:\n          at: {type: TIMESTAMP}\n      - name: customers",
    );
    let said = plan(&project, &["--effects", "always"]);
    assert!(said.stdout.contains("FAILED shop.visits: expression: 3 of 8 rows"), "{said}");
    for text in ["not built because of shop.visits:", "came_back_to_outbox"] {
        assert!(said.stdout.contains(text), "no `{text}` in {said}");
    }
    let whole = json(&project, &["--effects", "always"]);
    assert_eq!(whole["tests"][0]["keys"], serde_json::json!([]));
    let withheld: BTreeSet<&str> =
        whole["withheld"].as_array().unwrap().iter().map(|w| w["model"].as_str().unwrap()).collect();
    assert_eq!(
        withheld,
        BTreeSet::from(["came_back", "came_back_to_outbox", "daily_visits", "person", "person_profile"])
    );
}

// ------------------------------------------------------------------------------------------------- manifest

fn selected(project: &Project, more: &[&str]) -> BTreeSet<String> {
    let plan = json(project, &[&["--effects", "never"], more].concat());
    let steps = plan["steps"].as_array().unwrap().iter().filter(|s| s["action"] != "load");
    steps.map(|s| s["model"].as_str().unwrap().to_owned()).collect()
}

fn names(names: &str) -> BTreeSet<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

/// A shop beside the manifest of how it was.
fn with_manifest() -> Project {
    let project = untouched();
    let manifest = project.kinfold(&["manifest"]).exits(0).stdout;
    project.write("before/manifest.json", &manifest);
    project
}

const MODIFIED: [&str; 4] = ["--select", "state:modified", "--state", "before"];

#[test]
fn comments_layout_and_the_order_of_keys_are_no_change() {
    let project = with_manifest();
    project.write(
        "models/person_profile.yaml",
        "# other words\nidentity: person\nname: person_profile\nkind: profile\ndescription: who\ntags: [x]\n\
         persona: [{when: \"visits>=3\", name: regular}, {default: visitor}]\n\
         traits:\n  favourite_page:\n    select: most_frequent( page )\n    from: shop.visits\n\
         \x20 visits_7d: {within: 1 week, select: COUNT(*), from: [shop.visits]}\n\
         \x20 visits: {from: shop.visits, select: COUNT(*)}\n\
         \x20 last_visit: {from: shop.visits, select: \"max(at) -- the latest\"}\n\
         attributes:\n  name: {from: shop.customers.name, pick: latest}\n\
         \x20 email: {pick: source_order, from: [shop.customers.email, shop.visits.email]}\n",
    );
    project.write("models/daily_visits.sql", "select date_trunc('day', at) as day,\n  count(*) as visits, /* each */\n  count(distinct cookie) as cookies\nfrom shop.visits group by 1 order by 1;\n");
    let modified = selected(&project, &MODIFIED);
    // `count` and `COUNT` are one function; nothing else differs
    assert_eq!(modified, names(""), "{}", plan(&project, &[]));
    let run = project.kinfold(&[&["run"][..], &MODIFIED].concat()).exits(0);
    assert_eq!(run.stdout, "nothing to do: no model is selected\n");
}

#[test]
fn what_means_something_else_is_modified_and_what_is_new_is_new() {
    let project = with_manifest();
    edit(&project, "models/person_profile.yaml", "visits >= 3", "visits >= 4");
    project.write("models/extra.sql", "SELECT 1 AS one\n");
    assert_eq!(selected(&project, &MODIFIED), names("person_profile extra"));
    assert_eq!(selected(&project, &["--select", "state:new", "--state", "before/manifest.json"]), names("extra"));
    let downstream = ["--select", "state:modified+", "--state", "before"];
    assert_eq!(selected(&project, &downstream), names("person_profile extra came_back came_back_to_outbox"));
    let audiences = ["--select", "state:modified+,kind:audience", "--state", "before"];
    assert_eq!(selected(&project, &audiences), names("came_back"));
}

#[test]
fn a_changed_source_table_or_destination_is_a_change_of_its_readers() {
    let project = with_manifest();
    edit(&project, "sources.yaml", "row_id: customer_id", "row_id: email");
    assert_eq!(selected(&project, &MODIFIED), names("person person_profile"));
    let project = with_manifest();
    edit(&project, "destinations.yaml", "format: csv", "format: parquet");
    assert_eq!(selected(&project, &MODIFIED), names("came_back_to_outbox"));
}

#[test]
fn a_run_leaves_the_manifest_that_state_compares_with() {
    let project = shop();
    assert_eq!(selected(&project, &["--select", "state:modified"]), names(""));
    edit(&project, "models/came_back.yaml", "within: 7 days", "within: 8 days");
    assert_eq!(selected(&project, &["--select", "state:modified"]), names("came_back"));
}

#[test]
fn a_manifest_that_is_missing_or_damaged_says_how_to_get_one() {
    let project = untouched();
    let without = project.kinfold(&["plan", "--select", "state:modified"]).exits(2).without_data();
    without.says(&["earlier manifest", "kinfold manifest >"]);
    for text in ["", "{}", "{\"format\": 99}", "[1]"] {
        project.write("old.json", text);
        let outcome = project.kinfold(&["plan", "--select", "state:new", "--state", "old.json"]).exits(2);
        outcome.without_data().says(&["kinfold manifest >"]);
    }
    project.kinfold(&["plan", "--select", "state:new", "--state", "no/such.json"]).exits(2).without_data();
}

#[test]
fn a_manifest_holds_no_value_of_the_environment_and_needs_no_data() {
    let mut project = Project::clinic();
    project.set("CLINIC_DATA", "/nowhere/at-all-7351");
    project.set("LAKE_KEY", "a-key-that-nobody-may-see");
    project.set("KINFOLD_ID_KEY", "another-key-7352");
    let manifest = project.kinfold(&["manifest"]).exits(0).stdout;
    for value in ["at-all-7351", "a-key-that-nobody-may-see", "another-key-7352"] {
        assert!(!manifest.contains(value), "{value} is in the manifest");
    }
    assert!(manifest.contains("${CLINIC_DATA"), "{manifest}");
    let value: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(value["models"].as_object().unwrap().len(), 15);
}

// ------------------------------------------------------------------------------------------------ selectors

#[test]
fn selectors_add_up_meet_and_are_taken_away() {
    let demo = Project::clinic();
    let rest = "appointment_canceled appointment_no_show appointment_rescheduled_by_patient \
                appointment_rescheduled_by_provider appointment_scheduled";
    for (arguments, wanted) in [
        (&["-s", "path:models/syncs"][..], "searched_not_booked_to_lake"),
        (&["-s", "path:models/provider_stats.sql"], "provider_stats"),
        (&["-s", "path:models/*.sql"], "provider_stats provider_recommendations"),
        (&["-s", "provider_*"], "provider_stats provider_recommendations"),
        (&["-s", "1+seniors_to_call"], "seniors_to_call searched_not_booked patient patient_profile"),
        (&["-s", "provider_stats+1"], "provider_stats provider_recommendations"),
        (&["-s", "searched_not_booked+1"], "searched_not_booked seniors_to_call searched_not_booked_to_lake"),
        (&["-s", "tag:recovery,searched_not_booked+"], "searched_not_booked seniors_to_call"),
        (&["-s", "provider_stats tag:recovery,no_shows*"], "provider_stats no_shows_returned"),
        (&["-s", "tag:appointment", "-x", "*_by_*"], "appointment_canceled appointment_no_show appointment_scheduled"),
        (&["-s", "kind:audience", "-x", "tag:recovery callers_never_on_web", "-x", "lapsed_patients"], rest),
        (&["-x", "kind:audience kind:sync patient+"], "provider_stats"),
        (&["-s", "source:ehr.providers"], "provider_stats provider_recommendations"),
        (&["-s", "source:ehr,kind:sql"], "provider_stats provider_recommendations"),
    ] {
        assert_eq!(selected(&demo, arguments), names(wanted), "{arguments:?}");
    }
}

#[test]
fn selectors_that_cannot_mean_anything_say_so() {
    let demo = Project::clinic();
    for (arguments, texts) in [
        (&["-s", "kind:audiense"][..], &["matches no kind", "did you mean `kind:audience`"][..]),
        (&["-s", "source:ehr.provider"], &["matches no source", "did you mean `source:ehr.providers`"]),
        (&["-s", "path:models/sync"], &["matches no path"]),
        (&["-s", "tags:recovery"], &["unknown method", "tag:, kind:, path:, source:, state:"]),
        (&["-s", "tag:recovery,kind:sync"], &["no model in common", "a comma asks for models that match all parts"]),
        (&["-x", "lapsed"], &["`--exclude lapsed`", "matches no model"]),
    ] {
        demo.kinfold(&[&["plan"], arguments].concat()).exits(2).without_data().says(texts);
    }
}

// --------------------------------------------------------------------------------------------- schemas.lock

#[test]
fn with_a_lock_check_needs_no_data_at_all() {
    let project = untouched();
    let refreshed = project.kinfold(&["sources", "refresh"]).exits(0);
    assert!(
        refreshed.stdout.contains("+ cookie: TEXT") && refreshed.stdout.contains("schemas.lock: 2 tables"),
        "{refreshed}"
    );
    project.kinfold(&["sources", "refresh", "--check"]).exits(0);
    std::fs::remove_dir_all(project.path("data")).unwrap();
    project.kinfold(&["check"]).exits(0);
    edit(&project, "models/person_profile.yaml", "most_frequent(page)", "most_frequent(pge)");
    project.kinfold(&["check"]).exits(2).says(&["pge", "did you mean `page`"]);
    // a run reads rows, and says that there are none
    project.kinfold(&["run"]).exits(1).says(&["K0501"]);
}

#[test]
fn data_that_drift_from_the_lock_stop_a_run_and_new_columns_warn() {
    let project = untouched();
    project.kinfold(&["sources", "refresh"]).exits(0);
    let locked = project.read("schemas.lock");
    let visits = project.read("data/visits/visits.csv");
    project.write("data/visits/visits.csv", &visits.replace("page,at", "path,at"));
    // and what reads the column that is gone says so at its place
    let gone = project.kinfold(&["run"]).exits(2).without_data();
    gone.says(&[
        "K0508",
        "sources.yaml",
        "gone: page: TEXT",
        "new: path: TEXT",
        "kinfold sources refresh",
        "models/person_profile.yaml",
    ]);
    assert_eq!(project.tables(), BTreeSet::new());
    let compared = project.kinfold(&["sources", "refresh", "--check"]).exits(1);
    assert_eq!(compared.stdout, "shop.visits\n  - page: TEXT\n  + path: TEXT\n");
    assert_eq!(project.read("schemas.lock"), locked, "only comparing writes nothing");

    let wider: Vec<String> =
        visits.lines().enumerate().map(|(i, l)| format!("{l},{}", if i == 0 { "extra" } else { "1" })).collect();
    project.write("data/visits/visits.csv", &(wider.join("\n") + "\n"));
    project.kinfold(&["run"]).exits(0).says(&["warning[K0508]", "new: extra: TEXT"]);
}

#[test]
fn a_damaged_lock_is_said_and_refreshed() {
    let project = untouched();
    project.write("schemas.lock", "{\"format\": 1, \"tables\": {\"shop.visits\": [[\"at\", \"Tme\"]]}}");
    for command in ["check", "run", "plan"] {
        project.kinfold(&[command]).exits(2).without_data().says(&["schemas.lock", "kinfold sources refresh"]);
    }
    project.kinfold(&["sources", "refresh"]).exits(0);
    project.kinfold(&["check"]).exits(0);
}
