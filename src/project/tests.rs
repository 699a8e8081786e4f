//! Loading of sound projects: that every key arrives where it belongs, with a place that fits its text.

use super::*;
use crate::diagnostic::{Spanned, render_concise};
use crate::model::{
    AudienceCondition, BlockRule, Comparator, Condition, DestinationKind, FileFormat, Format, MaxLinks, ModelKind,
    Normalize, Pick, StepOrigin, StepPick, SyncMode, Verdict,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("kinfold-load-{}-{number}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        Self(root)
    }

    fn load(&self, options: &LoadOptions) -> Loaded {
        load(&self.0, options, &|name| (name == "DATA").then(|| "s3://bucket".to_owned()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SOURCES: &str = "sources:
  - name: web
    location: \"${DATA:-data}/web\"
    tables:
      - {name: tracks, path: tracks/, time: timestamp, row_id: id, dedupe: {by: id, within: 3 days}, append_only: true}
      - {name: pages, path: pages/*.csv, time: timestamp, select: {where: \"name <> 'it''s'\", exclude: [ip]}}
  - name: ehr
    location: data/ehr
    tables:
      - name: patients
        path: patients/
        format: ndjson
        time: at
        row_id: mrn
        version: updated_at
        columns: {email: {label: identity.email, type: TEXT}, mrn: }
      - {name: notes, path: notes/, enabled: false}
";

const IDENTITY: &str = "kind: identity
name: patient
identifiers:
  mrn: {max_per_entity: 1, block: [0, 'null', '/^test/']}
  email: {normalize: email, max_links: {mrn: 2}, block_file: models/blocked.csv}
  phone: {normalize: phone(us), max_links: 24}
  fax: {normalize: \"regexp_replace(value, '[^0-9]', '')\"}
links:
  - {from: ehr.patients, ids: {mrn: mrn, email: email, phone: [home, cell]}, owner: [mrn], where: mrn > 0}
  - {from: web.tracks, ids: {fax: [fax, work_fax]}}
rules: models/rules.csv
id_key: ''
";

const PROFILE: &str = "kind: profile
name: profile
identity: patient
description: one row each
tags: [core, daily]
attributes:
  email: {from: [ehr.patients.email, stats.email], pick: most_frequent, raw: true}
traits:
  searches: {from: web.tracks, select: count(*), where: event = 'é', within: 30 days, default: 0}
  last_page: {from: [web.tracks, web.pages], select: last(page), by: [at, id], between: [30 days, 0 days], default: it's}
  rating: {from: stats, select: max(rating), time: at, before: 2025-02-01, after: '2025-01-01T00:00:00Z', inclusive: true}
  many:
    select: >-
      searches >
      {{ var('limit') }}
persona:
  - {name: frequent, when: many}
  - {default: other}
";

const AUDIENCE: &str = "kind: audience
name: members
profile: profile
where:
  all:
    - {event: web.tracks, is: [a, 5, true], column: name, count: '> 2', sum: 'amount * 2 >= 1e3', first: x = 1}
    - {event: web.tracks, count: 3}
    - sequence:
        - {event: web.tracks, is: a, pick: latest}
        - {event: web.pages, within: 2h, of: first, inclusive: true, same: id}
        - not: {event: web.tracks, open: true}
    - not: {audience: listed}
    - trait: searches > 5
include: models/in.csv
---
kind: audience
name: listed
profile: profile
sql: select patient_id from profile
";

fn files() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "kinfold.yaml",
            "name: My Clinic\nas_of: 2025-03-01\nvars: {limit: 5, code: '007'}\nsecrets: {K: \"hush-${DATA}\"}\ntarget: dev\ntargets: {dev: {vars: {limit: 6}}, prod: {warehouse: w, as_of: 2025-04-01}}\n",
        ),
        ("sources.yaml", SOURCES),
        ("destinations.yaml", "destinations:\n  - {name: lake, type: files, location: out, format: csv}\n"),
        ("macros/m.sql", "{% macro twice(x) %}({{ x }} * 2){% endmacro %}\n"),
        ("models/patient.yaml", IDENTITY),
        ("models/profile.yaml", PROFILE),
        ("models/audiences.yml", AUDIENCE),
        ("models/stats.sql", "select 1 as rating\n"),
        ("models/deep/seen.sql", "-- {{ source('web', 'tracks') }}\nselect {{ twice('a') }} from {{ ref('stats') }}\n"),
        ("models/deep/seen.yaml", "materialized: view\ntags: [x]\ncolumns: {a: {label: none}}\n"),
        ("models/blocked.csv", "value,reason\nnobody@x.com,\"a, b\"\n/@test/,y\n"),
        ("models/rules.csv", "verdict,left,right,reason,by,at\nnever,mrn:1,email:a:b,\"twins, both\",ann,2025-01-01\n"),
        ("models/in.csv", "by,identifier,reason\nann,mrn:1,asked\nbob,patient_x,asked\n"),
        (
            "models/sync.yaml",
            "kind: sync\nname: out\nfrom: members\nto: lake\nmode: mirror\nkey: patient_id\ncolumns: {id: patient_id, E mail: \"upper(email, 'x')\"}\nmax_delete: 2.5%\nenabled: false\n",
        ),
    ]
}

fn sound(options: &LoadOptions) -> (Project, SourceMap) {
    let loaded = Folder::with(&files()).load(options);
    assert_eq!(render_concise(&loaded.diagnostics, &loaded.sources), "");
    (loaded.project.expect("a project without findings"), loaded.sources)
}

fn texts(values: &[Spanned<String>]) -> Vec<&str> {
    values.iter().map(|v| v.value.as_str()).collect()
}

#[test]
fn settings_targets_and_variables_override_in_order() {
    let (project, _) = sound(&LoadOptions::default());
    let settings = &project.settings;
    assert_eq!((settings.name.as_str(), settings.warehouse.as_str()), ("My Clinic", "target/warehouse"));
    assert_eq!(settings.as_of.map(|t| t.to_rfc3339()).as_deref(), Some("2025-03-01T00:00:00+00:00"));
    assert_eq!((settings.vars["limit"].as_str(), settings.vars["code"].as_str()), ("6", "007"));
    assert_eq!(settings.secrets["K"].reveal(), "hush-s3://bucket");
    assert!(!format!("{settings:?}").contains("hush"));
    let vars = BTreeMap::from([("limit".to_owned(), "7".to_owned())]);
    let options = LoadOptions { target: Some("prod".to_owned()), vars, ..LoadOptions::default() };
    let (project, _) = sound(&options);
    assert_eq!((project.settings.warehouse.as_str(), project.settings.vars["limit"].as_str()), ("w", "7"));
    assert_eq!(project.settings.as_of.map(|t| t.to_rfc3339()).as_deref(), Some("2025-04-01T00:00:00+00:00"));
    assert_eq!(texts(&project.settings.targets), ["dev", "prod"]);
}

#[test]
fn sources_and_destinations_arrive() {
    let (project, files) = sound(&LoadOptions::default());
    assert_eq!(project.sources[0].location.value, "s3://bucket/web");
    let (_, tracks) = project.source_table("web.tracks").expect("a table");
    assert!(tracks.append_only && tracks.enabled && tracks.format == Format::Parquet);
    let within = tracks.dedupe.as_ref().and_then(|d| d.within.as_ref());
    assert_eq!(within.map(|w| w.value.micros), Some(3 * 86_400_000_000));
    let (_, pages) = project.source_table("web.pages").expect("a table");
    let filter = pages.select.filter.as_ref().expect("a filter");
    assert_eq!((pages.format, filter.value.as_str()), (Format::Csv, "name <> 'it''s'"));
    assert_eq!(files.text(filter.span), filter.value);
    let (_, patients) = project.source_table("ehr.patients").expect("a table");
    assert_eq!(patients.columns.len(), 2);
    assert_eq!(patients.version.as_ref().map(|v| v.value.as_str()), Some("updated_at"));
    assert!(project.source_table("ehr.notes").is_some_and(|(_, t)| !t.enabled));
    let DestinationKind::Files { location, format } = &project.destinations[0].kind else { panic!("files") };
    assert_eq!((location.value.as_str(), *format), ("out", FileFormat::Csv));
}

#[test]
fn an_identity_arrives() {
    let (project, files) = sound(&LoadOptions::default());
    let ModelKind::Identity(identity) = &project.models["patient"].kind else { panic!("an identity") };
    let [mrn, email, phone, fax] = identity.identifiers.as_slice() else { panic!("four types") };
    assert_eq!(mrn.max_per_entity.as_ref().map(|n| n.count.value), Some(1));
    let blocked: Vec<String> = mrn
        .block
        .iter()
        .chain(&email.block)
        .map(|b| match b {
            BlockRule::Exact(value) => value.clone(),
            BlockRule::Pattern(pattern) => format!("/{}", pattern.value),
        })
        .collect();
    assert_eq!(blocked, ["0", "null", "/^test", "nobody@x.com", "/@test"]);
    assert!(matches!(&email.max_links, Some(MaxLinks::ByType(by)) if by[0].0.value == "mrn" && by[0].1 == 2));
    assert!(
        matches!((&phone.max_links, &phone.normalize), (Some(MaxLinks::Any(24)), Normalize::Phone(r)) if r == "US")
    );
    let Normalize::Sql(sql) = &fax.normalize else { panic!("SQL") };
    assert_eq!(files.text(sql.span), sql.value);
    let link = &identity.links[0];
    assert_eq!(texts(&link.ids[2].expressions), ["home", "cell"]);
    assert_eq!((texts(&link.owner), link.filter.is_some()), (vec!["mrn"], true));
    let rule = &identity.rules[0];
    assert_eq!((rule.verdict, rule.right.1.as_str(), rule.reason.as_str()), (Verdict::Never, "a:b", "twins, both"));
    assert!(identity.id_key.is_none());
}

#[test]
fn a_profile_arrives() {
    let (project, files) = sound(&LoadOptions::default());
    let model = &project.models["profile"];
    assert_eq!((model.path.as_str(), texts(&model.tags)), ("models/profile.yaml", vec!["core", "daily"]));
    let ModelKind::Profile(profile) = &model.kind else { panic!("a profile") };
    let email = &profile.attributes[0];
    assert!(email.raw && email.pick == Pick::MostFrequent);
    let from: Vec<_> = email.from.iter().map(|f| (files.text(f.table.span), f.column.value.as_str())).collect();
    assert_eq!(from, [("ehr.patients", "email"), ("stats", "email")]);
    let [searches, last_page, rating, many] = profile.traits.as_slice() else { panic!("four traits") };
    let filter = searches.filter.as_ref().expect("a filter");
    assert_eq!(files.text(filter.span), "event = 'é'");
    assert_eq!(searches.default.as_ref().map(|d| d.value.as_str()), Some("0"));
    assert_eq!(last_page.default.as_ref().map(|d| d.value.as_str()), Some("'it''s'"));
    assert_eq!(last_page.window.between.as_ref().map(|b| b.value.1.micros), Some(0));
    assert_eq!(texts(&last_page.by), ["at", "id"]);
    assert!(rating.window.inclusive && rating.window.before.is_some() && rating.time.is_some());
    assert_eq!((many.from.len(), many.select.value.as_str()), (0, "searches > 6"));
    assert_eq!(files.text(files.locate_in(many.select.span, &many.select.value, 1, 1)), "searches");
    let persona = profile.persona.as_ref().expect("a persona");
    assert_eq!((persona.rules.len(), persona.default.as_ref().map(|d| d.value.as_str())), (1, Some("other")));
}

#[test]
fn audiences_arrive() {
    let (project, files) = sound(&LoadOptions::default());
    let ModelKind::Audience(audience) = &project.models["members"].kind else { panic!("an audience") };
    let AudienceCondition::Where(Spanned { value: Condition::All(all), .. }) = &audience.condition else {
        panic!("a list of conditions")
    };
    let Condition::Event(first) = &all[0].value else { panic!("an event") };
    assert_eq!(texts(&first.matching.is), ["a", "5", "true"]);
    let [count, sum] = first.measures.as_slice() else { panic!("two measures") };
    assert_eq!((count.comparator, count.number.as_str()), (Comparator::Greater, "2"));
    let operand = sum.operand.as_ref().expect("an operand");
    assert_eq!((files.text(operand.span), sum.number.as_str()), ("amount * 2", "1e3"));
    let Condition::Event(second) = &all[1].value else { panic!("an event") };
    assert_eq!((second.measures[0].comparator, second.measures[0].number.as_str()), (Comparator::Equal, "3"));
    let Condition::Sequence(steps) = &all[2].value else { panic!("a sequence") };
    assert_eq!(steps[0].pick, Some(StepPick::Latest));
    assert!(steps[1].of == StepOrigin::First && steps[1].inclusive && steps[1].same.is_some());
    assert!(steps[2].negated && steps[2].open && steps[2].matching.table.value == "web.tracks");
    assert!(matches!(&all[3].value, Condition::Not(inner) if matches!(inner.value, Condition::Audience(_))));
    let listed: Vec<_> = audience.include.iter().map(|e| (e.identifier.value.as_str(), e.by.as_str())).collect();
    assert_eq!(listed, [("mrn:1", "ann"), ("patient_x", "bob")]);
    let ModelKind::Audience(other) = &project.models["listed"].kind else { panic!("an audience") };
    assert!(matches!(&other.condition, AudienceCondition::Sql(sql) if files.text(sql.span) == sql.value));
}

#[test]
fn sql_models_and_syncs_arrive() {
    let (project, files) = sound(&LoadOptions::default());
    let ModelKind::Sql(plain) = &project.models["stats"].kind else { panic!("SQL") };
    assert!(!plain.templated && files.text(plain.sql.span) == plain.sql.value);
    let ModelKind::Sql(seen) = &project.models["seen"].kind else { panic!("SQL") };
    assert_eq!(seen.sql.value, "-- web.tracks\nselect (a * 2) from stats\n");
    assert!(seen.templated && seen.is_view());
    assert_eq!(texts(&project.models["seen"].tags), ["x"]);
    let ModelKind::Sync(sync) = &project.models["out"].kind else { panic!("a sync") };
    assert!(!sync.enabled && sync.mode == SyncMode::Mirror && (sync.max_delete_percent - 2.5).abs() < 1e-9);
    let columns: Vec<_> = sync.columns.iter().map(|(name, sql)| (name.value.as_str(), files.text(sql.span))).collect();
    assert_eq!(columns, [("id", "patient_id"), ("E mail", "upper(email, 'x')")]);
}

#[test]
fn mistakes_of_all_files_come_together_and_in_order() {
    let mut files = files();
    files.push(("models/z.yaml", "kind: audience\nnaem: z\n"));
    files.push(("models/b.sql", "select {{ nope() }}\n"));
    files.push(("models/a.yaml", "kind: [\n"));
    let loaded = Folder::with(&files).load(&LoadOptions::default());
    assert!(loaded.project.is_none());
    assert_eq!(
        render_concise(&loaded.diagnostics, &loaded.sources),
        "models/a.yaml:1:7: error[K0101]: invalid YAML: unclosed bracket '['\n\
         models/b.sql:1:11: error[K0116]: unknown function `nope`\n\
         models/z.yaml:1:1: error[K0103]: an audience needs the key `where` or `sql`\n\
         models/z.yaml:1:1: error[K0103]: an audience needs the keys `name` and `profile`\n\
         models/z.yaml:2:1: error[K0102]: unknown key `naem` in an audience\n"
    );
}
