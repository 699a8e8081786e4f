//! Small cells, and what counting people makes of labels: expected rows are worked out by hand.

use crate::support::{Project, files};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - name: visits
        path: visits.csv
        label: phi.visit
        columns: {card: {label: identity.direct}, area: {label: none}, clinic: {label: phi.diagnosis}}
";
const PERSON: &str = "\
kind: identity
name: person
identifiers: {card: {}}
links:
  - {from: shop.visits, ids: {card: card}}
---
kind: profile
name: person_profile
identity: person
attributes:
  area: {from: shop.visits.area}
  clinic: {from: shop.visits.clinic}
";
const OUT: &str = "\
kind: sync
name: out
from: counts
to: lake
mode: upsert
key: area || '/' || clinic
columns: {cell: area || '/' || clinic, people: people}
cells: {count: people, by: [area, clinic]}
";
const LAKE: &str = "destinations: [{name: lake, type: files, location: out, format: csv, allow: [coarse.count, phi.diagnosis], baa: true}]\n";

/// People by area and clinic.
fn visits(groups: &[(&str, &str, usize)]) -> String {
    let mut csv = "card,area,clinic\n".to_owned();
    let mut card = 0;
    for (area, clinic, people) in groups {
        for _ in 0..*people {
            card += 1;
            writeln!(csv, "card-{card},{area},{clinic}").unwrap();
        }
    }
    csv
}

fn project(counts: &str, groups: &[(&str, &str, usize)]) -> Project {
    Project::of(&[
        ("kinfold.yaml", "as_of: \"2026-03-31\"\n"),
        ("sources.yaml", SOURCES),
        ("destinations.yaml", LAKE),
        ("data/visits.csv", &visits(groups)),
        ("models/person.yaml", PERSON),
        ("models/counts.sql", counts),
        ("models/out.yaml", OUT),
    ])
}

const BY_GROUP: &str =
    "SELECT area, clinic, count(DISTINCT person_id) AS people FROM person_profile GROUP BY area, clinic\n";
const GROUPS: [(&str, &str, usize); 6] =
    [("n", "a", 20), ("n", "b", 30), ("n", "c", 40), ("s", "a", 10), ("s", "b", 25), ("s", "c", 50)];

/// What the destination has, as the last of each key's changes.
fn sent(project: &Project) -> BTreeSet<String> {
    let mut cells = BTreeSet::new();
    for file in files(&project.path("out")).keys() {
        for line in project.read(&format!("out/{file}")).lines().skip(1) {
            let cell = line.split(',').nth(3).unwrap_or_default().to_owned();
            if line.starts_with("delete,") {
                cells.remove(&cell)
            } else {
                cells.insert(cell)
            };
        }
    }
    cells
}

fn cells(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn small_groups_and_what_would_tell_of_them_are_not_sent() {
    let project = project(BY_GROUP, &GROUPS);
    // s/a has ten people. Of its row b is the smallest, of its column n/a; then n has one missing, and so has b: n/b
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(sent(&project), cells(&["n/c", "s/c"]));
    let told = project.query("SELECT withheld, note FROM kinfold.syncs").remove(0);
    assert_eq!(told["withheld"], 4);
    assert_eq!(told["note"], "small cells withhold 4: 3 beside a small cell, 1 small cell");
    let plan = project.kinfold(&["sync", "--plan"]).exits(0);
    assert!(plan.stdout.contains("withheld: 4") && plan.stdout.contains("4: 3 beside a small cell, 1 small"), "{plan}");

    // with one more person in s/a all are sent; when one of n/c's groups shrinks, what was sent of it is deleted
    let mut groups = GROUPS;
    groups[3].2 = 11;
    project.write("data/visits.csv", &visits(&groups));
    project.kinfold(&["run", "--quiet"]).exits(0);
    assert_eq!(sent(&project), cells(&["n/a", "n/b", "n/c", "s/a", "s/b", "s/c"]));
    groups[5].2 = 4;
    project.write("data/visits.csv", &visits(&groups));
    project.kinfold(&["run", "--quiet"]).exits(0);
    // s/c: of its row s/a (11), of its column n/c; of row n then n/a, of column a that is two
    assert_eq!(sent(&project), cells(&["n/b", "s/b"]));
}

#[test]
fn a_group_that_stands_there_twice_is_an_error() {
    let project = project(BY_GROUP, &GROUPS);
    // a clinic that is no part of the group's name tells whose clinic it is
    project.write("models/out.yaml", &OUT.replace("by: [area, clinic]", "by: area"));
    project.kinfold(&["check"]).exits(3).says(&["`cell` tells `lake` `derived.phi.visit`"]);
    project.write("destinations.yaml", &LAKE.replace("coarse.count", "coarse.count, derived"));
    let told = project.kinfold(&["run"]).exits(1);
    assert!(told.stdout.contains("two rows of `counts` are the same group"), "{told}");
    assert_eq!(sent(&project).len(), 0);
}

/// What a destination may get of numbers of people, by how they are made and held back.
#[test]
fn a_count_of_people_lowers_labels_only_where_small_ones_are_held_back() {
    let project = project(BY_GROUP, &GROUPS);
    project.kinfold(&["check"]).exits(0);
    let labels = project.kinfold(&["labels", "--select", "out"]).exits(0).stdout;
    let (_, sent) = labels.split_once("out: sync to lake").unwrap();
    let told: BTreeSet<&str> = sent.lines().skip(1).take(3).flat_map(str::split_whitespace).collect();
    assert_eq!(told, BTreeSet::from(["rows", "cell", "people", "coarse.count", "coarse.count,", "phi.diagnosis"]));
    // without the minimum the number and the rows tell of visits
    let bare = OUT.replace("cells: {count: people, by: [area, clinic]}\n", "");
    project.write("models/out.yaml", &bare);
    project.kinfold(&["check"]).exits(3).says(&["tells `lake` `derived.phi.visit`"]);
    project.write("models/out.yaml", OUT);
    // what groups are called stays what it is
    project.write("destinations.yaml", &LAKE.replace(", phi.diagnosis", ""));
    project.kinfold(&["check"]).exits(3).says(&["`cell` tells `lake` `phi.diagnosis`", "shop.visits.clinic"]);
    project.write("destinations.yaml", LAKE);
    // a number of something else counts nobody
    for other in ["count(*)", "count(DISTINCT area)", "sum(1)", "max(2)", "count(person_id)"] {
        project.write("models/counts.sql", &BY_GROUP.replace("count(DISTINCT person_id)", other));
        project.kinfold(&["check"]).exits(3).says(&["derived.phi.visit"]);
    }
    let inner = BY_GROUP.trim().replace("AS people", "AS p");
    let through = format!("SELECT area, clinic, CAST(p AS INT) AS people FROM ({inner}) AS q WHERE p > 3\n");
    project.write("models/counts.sql", &through);
    project.kinfold(&["check"]).exits(0);
}

#[test]
fn data_go_to_no_other_region() {
    let project = project(BY_GROUP, &GROUPS);
    let bare = OUT.replace("cells: {count: people, by: [area, clinic]}\n", "");
    project.write("models/out.yaml", &bare);
    let open = LAKE.replace("coarse.count,", "coarse.count, derived, pseudonym, ");
    let sources = SOURCES.replace("    location: data\n", "    location: data\n    regions: [eu, uk]\n");
    project.write("destinations.yaml", &open);
    project.kinfold(&["check"]).exits(0);
    project.write("sources.yaml", &sources);
    project.kinfold(&["check"]).exits(3).says(&[
        "`cell` brings data of `region.eu+uk` to `lake`, and no region is named for it",
        "the way: shop.visits.area -> person_profile.area -> counts.area -> out.cell",
        "regions: [eu, uk]",
    ]);
    project.write("destinations.yaml", &open.replace("baa: true", "baa: true, region: us"));
    project
        .kinfold(&["check"])
        .exits(3)
        .says(&["`cell` brings data of `region.eu+uk` to `lake`, and `us` is the region of it"]);
    project.write("destinations.yaml", &open.replace("baa: true", "baa: true, region: uk"));
    project.kinfold(&["check"]).exits(0);
    // a decision with a name lets it go, and so do numbers of people
    project.write("destinations.yaml", &open);
    let decided =
        "declassify: [{columns: ['*', cell, people], labels: region, reason: none in it, by: Dana, at: 2026-03-01}]\n";
    project.write("models/out.yaml", &format!("{bare}{decided}"));
    project.kinfold(&["check"]).exits(0);
    let only = OUT.replace("columns: {cell: area || '/' || clinic, people: people}", "columns: {people: people}");
    project.write("models/out.yaml", &only.replace("key: area || '/' || clinic", "key: people"));
    project.kinfold(&["check"]).exits(0);
    // the whole project's, unless a source says otherwise
    project.write("sources.yaml", SOURCES);
    project.write("models/out.yaml", OUT);
    project.write("kinfold.yaml", "as_of: \"2026-03-31\"\nregions: ch\n");
    project.kinfold(&["check"]).exits(3).says(&["`region.ch`"]);
}
