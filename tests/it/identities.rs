//! What an identity makes of rows, seen from outside: spellings, several identities, links through another one.

use crate::support::Project;

const SOURCES: &str = "\
sources:
  - name: shop
    location: data
    tables:
      - {name: visits, path: visits.csv, format: csv, row_id: id, time: at, columns: {at: {type: TIMESTAMP}}}
";

fn shop(visits: &str, models: &[(&str, &str)]) -> Project {
    let files = [("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"), ("sources.yaml", SOURCES)];
    let data = [("data/visits.csv", visits)];
    Project::of(&[&files[..], &data[..], models].concat())
}

/// Sorted, without the header.
fn rows(project: &Project, sql: &str) -> Vec<String> {
    project.lines(sql).split_off(1)
}

/// A person's spellings are one identifier; `2` and `4` are no link rows, and `4` is spelled as in no link row.
const SPELLINGS: &str = "\
id,at,email,kind
1,2026-03-01T00:00:00Z,ann@x.com,link
2,2026-03-02T00:00:00Z,Ann@X.com,other
3,2026-03-03T00:00:00Z, ANN@x.com,link
4,2026-03-04T00:00:00Z,\"  aNN@x.com \",other
5,2026-03-05T00:00:00Z,none,link
6,2026-03-06T00:00:00Z,NONE,other
7,2026-03-07T00:00:00Z,bob@x.com,other
";

#[test]
fn rows_find_their_entity_however_it_is_spelled() {
    for normalize in ["email", "lower(trim(value))"] {
        let identity = format!(
            "kind: identity\nname: person\nidentifiers:\n  email: {{normalize: \"{normalize}\", block: [none]}}\nlinks:\n  - \
             {{from: shop.visits, where: \"kind = 'link'\", ids: {{email: email}}}}\n"
        );
        let profile = "kind: profile\nname: person_profile\nidentity: person\nattributes:\n  email: {from: shop.visits.email, \
                       pick: earliest}\ntraits:\n  visits: {from: shop.visits, select: count(*)}\n";
        let project = shop(SPELLINGS, &[("models/person.yaml", &identity), ("models/person_profile.yaml", profile)]);
        project.kinfold(&["run"]).exits(0);
        assert_eq!(rows(&project, "SELECT email, visits FROM person_profile"), ["ann@x.com,4"], "{normalize}");
        let seen =
            "SELECT identifier, first_seen = '2026-03-01T00:00:00Z', last_seen = '2026-03-03T00:00:00Z' FROM person";
        assert_eq!(rows(&project, seen), ["ann@x.com,true,true"], "{normalize}");
    }
}

/// Ann has two cookies at one address, Ben lives there too; Cem has another address.
const HOMES: &str = "\
id,at,email,cookie,home
1,2026-03-01T00:00:00Z,ann@x.com,c1,1 Elm St
2,2026-03-02T00:00:00Z,ann@x.com,c2,
3,2026-03-03T00:00:00Z,ben@x.com,,1 elm st
4,2026-03-04T00:00:00Z,,c2,9 Oak Rd
5,2026-03-05T00:00:00Z,cem@x.com,,5 Ash Way
";

#[test]
fn an_identity_links_through_the_ids_of_another_one() {
    let person = "kind: identity\nname: person\nidentifiers: {email: {normalize: email}, cookie: {}}\nlinks:\n  - {from: shop.visits, \
                  ids: {email: email, cookie: cookie}}\n";
    // a row has the person through its cookie or e-mail address, and the home
    let homes = "SELECT p.person_id, v.home, v.at FROM shop.visits v JOIN person p\n  ON (p.identifier_type = 'email' AND p.identifier = \
                 v.email)\n  OR (v.email IS NULL AND p.identifier_type = 'cookie' AND p.identifier = v.cookie)\nWHERE v.home IS NOT NULL\n";
    let household = "kind: identity\nname: household\nidentifiers: {person: {}, home: {normalize: lower}}\nlinks:\n  - {from: homes, \
                     ids: {person: person_id, home: home}}\n  - {from: person, ids: {person: person_id}}\n";
    let project = shop(
        HOMES,
        &[("models/person.yaml", person), ("models/homes.sql", homes), ("models/household.yaml", household)],
    );
    project.kinfold(&["run"]).exits(0);
    let people = "SELECT count(DISTINCT person_id) FROM person";
    assert_eq!(project.number(people), 3);
    // Ann's two homes and Ben are one household
    let households = "SELECT min(e.identifier), count(DISTINCT h.identifier) FROM household h JOIN person e ON h.identifier = \
                      e.person_id AND e.identifier_type = 'email' WHERE h.identifier_type = 'person' GROUP BY h.household_id ORDER BY 1";
    assert_eq!(rows(&project, households), ["ann@x.com,2", "cem@x.com,1"]);
    let homes = "SELECT count(DISTINCT household_id), count(*) FROM household WHERE identifier_type = 'home'";
    assert_eq!(rows(&project, homes), ["2,3"]);
    // `person` is a type of the household, too; an entity id is asked of the identity of that name
    let ann = rows(&project, "SELECT person_id FROM person WHERE identifier = 'ann@x.com'").remove(0);
    for given in [ann.as_str(), &ann[..8]] {
        let told = project.kinfold(&["explain", "identity", &format!("person:{given}")]).exits(0).stdout;
        assert!(told.starts_with(&format!("person {ann}: ")), "{told}");
    }
}

#[test]
fn a_household_joins_people_whose_profiles_share_a_value() {
    let visits = "\
id,email,cookie,home,at
1,ann@x.com,,north,2026-01-01T00:00:00Z
2,ben@x.com,,North,2026-01-02T00:00:00Z
3,cem@x.com,,south,2026-01-03T00:00:00Z
4,dan@x.com,,,2026-01-04T00:00:00Z
";
    let person = "kind: identity\nname: person\nidentifiers: {email: {normalize: email}, cookie: {}}\nlinks:\n  - {from: shop.visits, \
                  ids: {email: email, cookie: cookie}}\n";
    let profile = "kind: profile\nname: person_profile\nidentity: person\ntraits: {home: {from: shop.visits, select: max(home)}}\n";
    let household = "kind: identity\nname: household\nidentifiers: {person: {}, home: {normalize: lower}}\nlinks:\n  - {from: person_profile, \
                     ids: {person: person_id, home: home}}\n";
    let project = shop(
        visits,
        &[
            ("models/person.yaml", person),
            ("models/person_profile.yaml", profile),
            ("models/household.yaml", household),
        ],
    );
    project.kinfold(&["run"]).exits(0);
    let households = "SELECT string_agg(e.identifier, ' ' ORDER BY e.identifier) AS members FROM household h JOIN person e \
                      ON h.identifier = e.person_id WHERE h.identifier_type = 'person' GROUP BY h.household_id ORDER BY 1";
    assert_eq!(rows(&project, households), ["ann@x.com ben@x.com", "cem@x.com", "dan@x.com"]);
}

/// One account, three addresses: the second follows the first after four days, the third after nineteen.
const ADDRESSES: &str = "\
id,at,email,account
1,2026-03-01T00:00:00Z,first@x.com,u1
2,2026-03-05T00:00:00Z,second@x.com,u1
3,2026-03-20T00:00:00Z,third@x.com,u1
";

#[test]
fn a_limit_within_a_time_counts_what_was_first_seen_in_one_period() {
    let person = "kind: identity\nname: person\nidentifiers:\n  account: {}\n  email: {normalize: email, max_per_entity: {count: 1, \
                  within: 10 days}}\nlinks:\n  - {from: shop.visits, ids: {account: account, email: email}}\n";
    let project = shop(ADDRESSES, &[("models/person.yaml", person)]);
    project.kinfold(&["run"]).exits(0);
    let of_account =
        "SELECT identifier FROM person WHERE person_id = (SELECT person_id FROM person WHERE identifier = 'u1')";
    assert_eq!(rows(&project, of_account), ["first@x.com", "third@x.com", "u1"]);
    let refused = "SELECT right_identifier, row_id, reason FROM person_links WHERE NOT accepted";
    let reason = "max_per_entity: email would be 1 + 1 within 10 days, the limit is 1";
    assert_eq!(rows(&project, refused), [format!("second@x.com,2,\"{reason}\"")]);
}

#[test]
fn a_model_reads_what_runs_have_added_to_a_table_beside_an_identity() {
    let person = "kind: identity\nname: person\nidentifiers: {email: {normalize: email}}\nlinks:\n  - {from: shop.visits, ids: {email: \
                  email}}\n";
    let models = [
        ("models/person.yaml", person),
        ("models/history.sql", "SELECT run, change, count(*) AS n FROM person_changes GROUP BY run, change\n"),
        ("models/largest.sql", "SELECT run, value FROM person_report WHERE measure = 'entities'\n"),
    ];
    let header = "id,at,email\n";
    let first = "1,2026-03-01T00:00:00Z,ann@x.com\n2,2026-03-01T00:00:00Z,ben@x.com\n";
    let project = shop(&format!("{header}{first}"), &models);
    project.kinfold(&["run"]).exits(0);
    assert_eq!(rows(&project, "SELECT * FROM history"), ["1,created,2"]);
    project.write("data/visits.csv", &format!("{header}{first}3,2026-03-02T00:00:00Z,cem@x.com\n"));
    project.kinfold(&["run"]).exits(0);
    assert_eq!(rows(&project, "SELECT * FROM history"), ["1,created,2", "2,created,1"]);
    assert_eq!(rows(&project, "SELECT * FROM largest"), ["1,2", "2,3"]);
    // and without building the identity again
    project.kinfold(&["run", "--select", "history"]).exits(0);
    assert_eq!(rows(&project, "SELECT * FROM history"), ["1,created,2", "2,created,1"]);
}

/// Rows whose links are all distinct: visitors with accounts, each row its own proof.
fn many_links(rows: u32) -> String {
    let row =
        |n: u32| format!("r{n:06},v{:06},a{:06},2026-01-01T00:{:02}:00Z\n", n * 7 % 40_000, n * 11 % 30_011, n % 60);
    "id,visitor,account,at\n".to_owned() + &(0..rows).map(row).collect::<String>()
}

const SHOP: &str = "\
sources:
  - name: shop
    location: data
    tables: [{name: visits, path: visits.csv, format: csv, time: at, row_id: id}]
";

#[test]
fn an_identity_whose_links_outgrow_its_memory_says_the_same() {
    let model = "\
kind: identity
name: person
identifiers: {visitor: {}, account: {}}
links: [{from: shop.visits, ids: {visitor: visitor, account: account}}]
id_key: not-secret
";
    let project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
        ("sources.yaml", SHOP),
        ("models/person.yaml", model),
        ("data/visits.csv", &many_links(60_000)),
    ]);
    let told = |memory: &str| {
        project.kinfold(&["run", "--full", "--memory", memory]).exits(0);
        let links = "select * from person_links order by left_identifier, right_identifier";
        (project.lines("select * from person order by identifier"), project.lines(links))
    };
    let (held, written) = (told("1GB"), told("14MB"));
    assert_eq!(held.1.len(), 1 + 60_000, "a header, and all links are distinct");
    assert_eq!(held, written);
    // what tells the identifiers apart and names them stays in memory: 70,000 times about 80 bytes and more
    project.kinfold(&["run", "--full", "--memory", "3MB"]).exits(1).says(&["Resources exhausted", "--memory"]);
}

/// Texts of 300 bytes for 20,000 people, and few links.
#[test]
fn an_identity_whose_texts_outgrow_its_memory_says_the_same() {
    let row = |n: u32| {
        let visitor = format!("{:0>280}", format!("visitor-{}", n % 20_000));
        format!("r{n:06},{visitor},account-{:06},2026-01-01T00:{:02}:00Z\n", n % 20_000 / 3, n % 60)
    };
    let model = "\
kind: identity
name: person
identifiers: {account: {max_per_entity: 1}, visitor: {}}
links: [{from: shop.visits, ids: {visitor: visitor, account: account}}]
id_key: not-secret
";
    let project = Project::of(&[
        ("kinfold.yaml", "name: shop\nas_of: \"2026-03-31T00:00:00Z\"\n"),
        ("sources.yaml", SHOP),
        ("models/person.yaml", model),
        ("data/visits.csv", &("id,visitor,account,at\n".to_owned() + &(0..30_000).map(row).collect::<String>())),
    ]);
    let told = |memory: &str| {
        project.kinfold(&["run", "--full", "--memory", memory]).exits(0);
        let table = |name: &str, order: &str| project.lines(&format!("select * from {name} order by {order}"));
        [
            table("person", "identifier"),
            table("person_links", "left_identifier, right_identifier"),
            table("person_registry", "identifier, run"),
        ]
    };
    let held = told("1GB");
    assert_eq!(held[0].len(), 1 + 20_000 + 6_667, "a header, the visitors and a third as many accounts");
    // the texts alone take 6 MB, what is made of 27,000 identifiers and rows of the registry 5 MB
    assert_eq!(held, told("7MB"));
}
