//! A small project whose files are damaged by the property tests and by the fuzz targets.

use kinfold::diagnostic::{Diagnostic, SourceMap, render_concise, render_human, render_json};
use kinfold::engine::Resources;
use kinfold::runner::{Failure, Options, Purpose, prepare};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// Every finding can be shown in every format.
pub fn can_be_shown(findings: &[Diagnostic], map: &SourceMap) {
    render_human(findings, map, true);
    let concise = render_concise(findings, map);
    let json: serde_json::Value = serde_json::from_str(&render_json(findings, map)).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(concise.lines().count()));
}

pub fn options(root: &Path) -> Options {
    Options {
        root: root.to_owned(),
        target: None,
        as_of: None,
        vars: BTreeMap::new(),
        select: Vec::new(),
        exclude: Vec::new(),
        state: None,
        full: false,
        resources: Resources { threads: 1, ..Resources::of_machine() },
        environment: BTreeMap::new(),
        now: chrono::DateTime::UNIX_EPOCH,
        resend: kinfold::runner::Resend::default(),
    }
}

/// SQL as it stands in every place that takes some: a file, block and quoted texts, lists.
pub const MODELS: [(&str, &str); 5] = [
    (
        "models/daily.sql",
        "WITH v AS (SELECT page, at, cookie FROM shop.visits WHERE page <> 'x')\nSELECT date_trunc('day', at) AS day, count(*) AS n,\n  sum(count(*)) OVER (ORDER BY date_trunc('day', at)) AS so_far\nFROM v GROUP BY 1\n",
    ),
    (
        "models/person.yaml",
        "kind: identity\nname: person\nidentifiers:\n  email: {normalize: \"lower(value)\"}\n  cookie: {max_links: 10}\nlinks:\n  - from: shop.visits\n    where: \"page is not null\"\n    ids: {cookie: cookie, email: \"CASE WHEN email = '' THEN NULL ELSE email END\"}\n",
    ),
    (
        "models/person_profile.yaml",
        "kind: profile\nname: person_profile\nidentity: person\nattributes:\n  email: {from: shop.visits.email, pick: latest}\ntraits:\n  visits: {from: shop.visits, select: count(*), where: \"page = 'home'\", within: 7 days}\n  pages:\n    from: shop.visits\n    select: |\n      count(DISTINCT page)\n        + 1\n  often: {select: visits > 2 AND pages < 10}\npersona:\n  - {name: regular, when: visits >= 3}\n  - {default: visitor}\n",
    ),
    (
        "models/back.yaml",
        "kind: audience\nname: back\nprofile: person_profile\nwhere:\n  all:\n    - {event: shop.visits, column: page, is: home, count: '> 1', where: \"cookie like 'c%'\"}\n    - trait: visits > 0 and email is not null\n",
    ),
    (
        "models/asked.yaml",
        "kind: audience\nname: asked\nprofile: person_profile\nsql: >-\n  SELECT person_id FROM person_profile\n  WHERE visits > (SELECT avg(visits) FROM person_profile)\n",
    ),
];

pub fn shop() -> TempDir {
    let folder = TempDir::with_prefix("kinfold-damaged-").unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "sources.yaml",
        "sources:\n  - name: shop\n    location: data\n    tables:\n      - {name: visits, path: visits/, format: csv, time: at, columns: {at: {type: TIMESTAMP}}}\n",
    );
    let columns = ["cookie", "email", "page", "at"].map(|c| format!("[\"{c}\", \"Utf8\"]")).join(",");
    write("schemas.lock", &format!("{{\"format\": 1, \"tables\": {{\"shop.visits\": [{columns}]}}}}"));
    for (path, text) in MODELS {
        write(path, text);
    }
    folder
}

/// Binds in a thread with the stack that the command line has; a panic in it fails the test.
pub fn bound(root: &Path) -> Result<usize, Failure> {
    let options = options(root);
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(prepare(&options, Purpose::Check)).map(|prepared| prepared.warnings.len())
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(work).unwrap().join().expect("it panicked")
}

/// The project's models with `sql` in every kind of place: a file, a block, a quoted text.
pub fn holding(sql: &str) -> [(&'static str, String); 4] {
    let quoted = serde_json::to_string(sql).unwrap();
    let block = sql.lines().fold(String::new(), |block, line| block + "      " + line + "\n");
    [
        ("models/daily.sql", sql.to_owned()),
        (
            "models/person.yaml",
            format!(
                "kind: identity\nname: person\nidentifiers:\n  email: {{normalize: lower}}\n  cookie: {{}}\nlinks:\n  - from: shop.visits\n    where: {quoted}\n    ids: {{cookie: cookie, email: email}}\n"
            ),
        ),
        (
            "models/person_profile.yaml",
            format!(
                "kind: profile\nname: person_profile\nidentity: person\ntraits:\n  visits: {{from: shop.visits, select: count(*), within: 7 days}}\n  fuzzed:\n    from: shop.visits\n    select: |2\n{block}  after: {{select: {quoted}}}\n"
            ),
        ),
        (
            "models/back.yaml",
            format!(
                "kind: audience\nname: back\nprofile: person_profile\nwhere:\n  any:\n    - {{event: shop.visits, column: page, is: home, where: {quoted}}}\n    - trait: {quoted}\n"
            ),
        ),
    ]
}
