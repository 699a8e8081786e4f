//! The condition language against an interpreter that is slow, obvious, and written from docs/language.md: random
//! conditions over random events of a few people, person by person and row by row.
//!
//! Times are multiples of twelve hours and so are windows, so that rows of one moment and rows at the very edge of a
//! window are frequent.

use crate::support::Project;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const AS_OF: &str = "2026-03-31T00:00:00Z";
const PEOPLE: usize = 30;
const CONDITIONS: usize = 110;
/// Lengths and times count in steps of twelve hours.
const HOURS: i64 = 12;

const SOURCES: &str = "\
sources:
  - name: ev
    location: data
    tables:
      - {name: people, path: people.csv, format: csv}
      - {name: web, path: web.csv, format: csv, time: at, row_id: id, columns: &columns {at: {type: TIMESTAMP}, x: {type: BIGINT}}}
      - {name: calls, path: calls.csv, format: csv, time: at, row_id: id, columns: *columns}
";

const PERSON: &str = "\
kind: identity
name: person
identifiers: {p: {}, q: {}}
links:
  - {from: ev.people, ids: {p: p, q: q}}
  - {from: ev.web, ids: {p: p}}
  - {from: ev.calls, ids: {p: p}}
---
kind: profile
name: person_profile
identity: person
attributes:
  p: {from: ev.people.p}
traits:
  calls: {from: ev.calls, select: count(*)}
  most: {from: ev.web, select: max(x)}
---
kind: audience
name: callers
profile: person_profile
where: {event: ev.calls, is: a}
";

/// A small generator of numbers, the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// An event; the time counts from as_of.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    table: &'static str,
    id: String,
    at: i64,
    event: &'static str,
    x: Option<i64>,
    s: Option<&'static str>,
}

fn events(dice: &mut Dice) -> Vec<Vec<Row>> {
    let mut id = 0;
    let mut person = |dice: &mut Dice| -> Vec<Row> {
        (0..dice.below(12))
            .map(|_| {
                id += 1;
                Row {
                    table: dice.of(&["ev.web", "ev.web", "ev.calls"]),
                    id: format!("r{id:04}"),
                    at: dice.below(28) as i64 - 24,
                    event: dice.of(&["a", "b", "c"]),
                    x: dice.of(&[None, Some(0), Some(1), Some(2), Some(3)]),
                    s: dice.of(&[None, Some("u"), Some("v")]),
                }
            })
            .collect()
    };
    (0..PEOPLE).map(|_| person(dice)).collect()
}

fn csv(people: &[Vec<Row>], table: &str) -> String {
    let as_of: chrono::DateTime<chrono::Utc> = AS_OF.parse().unwrap();
    let mut text = "id,p,at,event,x,s\n".to_owned();
    for (person, rows) in people.iter().enumerate() {
        for row in rows.iter().filter(|r| r.table == table) {
            let at = (as_of + chrono::Duration::hours(row.at * HOURS)).to_rfc3339();
            let x = row.x.map(|x| x.to_string()).unwrap_or_default();
            let _ = writeln!(text, "{},p{person},{at},{},{x},{}", row.id, row.event, row.s.unwrap_or_default());
        }
    }
    text
}

/// SQL over a row, and what it means; null is no.
type Predicate = (&'static str, fn(&Row) -> bool);

const PREDICATES: [Predicate; 5] = [
    ("x > 1", |r| r.x.is_some_and(|x| x > 1)),
    ("s = 'u'", |r| r.s == Some("u")),
    ("x IS NULL OR s IS NULL", |r| r.x.is_none() || r.s.is_none()),
    ("x <> 2 AND s <> 'u'", |r| r.x.is_some_and(|x| x != 2) && r.s.is_some_and(|s| s != "u")),
    ("event = 'a' OR x = 0", |r| r.event == "a" || r.x == Some(0)),
];

#[derive(Debug, Clone)]
struct Matching {
    table: &'static str,
    is: Vec<&'static str>,
    /// Compared with `is`: `event`, `x` or `s`.
    column: &'static str,
    filter: Option<usize>,
}

impl Matching {
    fn random(dice: &mut Dice) -> Self {
        let column = dice.of(&["event", "event", "event", "x", "s"]);
        let values: &[&str] = match column {
            "event" => &["a", "b", "c"],
            "x" => &["0", "1", "3"],
            _ => &["u", "v"],
        };
        let is = (0..dice.below(3)).map(|_| dice.of(values)).collect();
        let filter = dice.one_in(3).then(|| dice.below(PREDICATES.len()));
        Self { table: dice.of(&["ev.web", "ev.web", "ev.calls"]), is, column, filter }
    }

    fn keys(&self, head: &str) -> Map<String, Value> {
        let mut keys = Map::from_iter([(head.to_owned(), json!(self.table))]);
        if !self.is.is_empty() {
            keys.insert("is".to_owned(), if self.is.len() == 1 { json!(self.is[0]) } else { json!(self.is) });
            if self.column != "event" || head == "related" {
                keys.insert("column".to_owned(), json!(self.column));
            }
        }
        if let Some(filter) = self.filter {
            keys.insert("where".to_owned(), json!(PREDICATES[filter].0));
        }
        keys
    }

    fn matches(&self, row: &Row) -> bool {
        let text = match self.column {
            "event" => Some(row.event.to_owned()),
            "x" => row.x.map(|x| x.to_string()),
            _ => row.s.map(str::to_owned),
        };
        let is = self.is.is_empty() || text.is_some_and(|t| self.is.contains(&t.as_str()));
        row.table == self.table && is && self.filter.is_none_or(|f| PREDICATES[f].1(row))
    }
}

const SIGNS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

fn compared(value: f64, sign: &str, number: f64) -> bool {
    let order = value.total_cmp(&number);
    match sign {
        "=" => order.is_eq(),
        "<>" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
}

#[derive(Debug, Clone)]
struct Measure {
    function: &'static str,
    sign: &'static str,
    number: f64,
}

impl Measure {
    fn random(dice: &mut Dice) -> Self {
        let function = dice.of(&["count", "count", "sum", "min", "max", "avg", "unique_count"]);
        let number = if function == "avg" { dice.below(7) as f64 / 2.0 } else { dice.below(4) as f64 + 1.0 };
        Self { function, sign: dice.of(&SIGNS), number }
    }

    fn text(&self) -> String {
        let operand = if self.function == "count" { "" } else { "x " };
        format!("{operand}{} {}", self.sign, self.number)
    }

    /// Without a value to look at, sum, min, max and avg are no number, and no comparison with them holds.
    fn holds(&self, rows: &[&Row]) -> bool {
        let values: Vec<i64> = rows.iter().filter_map(|r| r.x).collect();
        let some = (!values.is_empty()).then_some(&values);
        let value = match self.function {
            "count" => Some(rows.len() as f64),
            "unique_count" => Some(values.iter().collect::<BTreeSet<_>>().len() as f64),
            "sum" => some.map(|v| v.iter().sum::<i64>() as f64),
            "min" => values.iter().min().map(|x| *x as f64),
            "max" => values.iter().max().map(|x| *x as f64),
            _ => some.map(|v| v.iter().sum::<i64>() as f64 / v.len() as f64),
        };
        value.is_some_and(|value| compared(value, self.sign, self.number))
    }
}

/// A window; lengths and times in steps, times from as_of.
#[derive(Debug, Clone, Default)]
struct Window {
    within: Option<i64>,
    between: Option<(i64, i64)>,
    before: Option<i64>,
    after: Option<i64>,
    inclusive: bool,
}

fn length(steps: i64) -> String {
    format!("{} hours", steps * HOURS)
}

fn moment(steps: i64) -> String {
    let as_of: chrono::DateTime<chrono::Utc> = AS_OF.parse().unwrap();
    (as_of + chrono::Duration::hours(steps * HOURS)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Window {
    fn random(dice: &mut Dice) -> Self {
        let mut window = Self::default();
        match dice.below(6) {
            0 | 1 => window.within = Some(dice.below(16) as i64 + 1),
            2 => {
                let near = dice.below(8) as i64;
                window.between = Some((near + 1 + dice.below(10) as i64, near));
            }
            3 => window.before = Some(2 - dice.below(12) as i64),
            4 => window.after = Some(-(dice.below(20) as i64)),
            _ => {}
        }
        if window.within.is_some() && dice.one_in(4) {
            window.before = Some(2 - dice.below(6) as i64);
        }
        let bounded = window.between.is_some() || window.before.is_some() || window.after.is_some();
        window.inclusive = bounded && dice.one_in(3);
        window
    }

    fn keys(&self) -> Map<String, Value> {
        let between = self.between.map(|(far, near)| json!([length(far), length(near)]));
        let keys = [
            ("within", self.within.map(|steps| json!(length(steps)))),
            ("between", between),
            ("before", self.before.map(|steps| json!(moment(steps)))),
            ("after", self.after.map(|steps| json!(moment(steps)))),
            ("inclusive", self.inclusive.then_some(Value::Bool(true))),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    fn holds(&self, at: i64) -> bool {
        let closed = self.inclusive;
        self.within.is_none_or(|steps| at >= -steps)
            && self.between.is_none_or(|(far, near)| (at > -far || closed && at == -far) && at <= -near)
            && self.before.is_none_or(|end| at < end || closed && at == end)
            && self.after.is_none_or(|start| at > start || closed && at == start)
    }
}

#[derive(Debug, Clone)]
struct Step {
    negated: bool,
    matching: Matching,
    within: Option<i64>,
    of_first: bool,
    inclusive: bool,
    open: bool,
    same: bool,
}

impl Step {
    fn random(dice: &mut Dice) -> Self {
        let negated = dice.one_in(3);
        let open = negated && dice.one_in(3);
        // a window without an end never passes
        let within = (negated && !open || !dice.one_in(3)).then(|| dice.below(8) as i64 + 1);
        let [of_first, inclusive, same] = [dice.one_in(3), dice.one_in(4), dice.one_in(4)];
        Self { negated, matching: Matching::random(dice), within, of_first, inclusive, open, same }
    }

    fn json(&self) -> Value {
        let mut keys = self.matching.keys("event");
        let further = [
            ("within", self.within.map(|steps| json!(length(steps)))),
            ("of", self.of_first.then(|| json!("first"))),
            ("inclusive", self.inclusive.then_some(Value::Bool(true))),
            ("open", self.open.then_some(Value::Bool(true))),
            ("same", self.same.then(|| json!("s"))),
        ];
        keys.extend(further.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        if self.negated { json!({ "not": keys }) } else { Value::Object(keys) }
    }
}

#[derive(Debug, Clone)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Event(Matching, Vec<Measure>, Window),
    Related(Matching, Vec<Measure>),
    /// Whether it is of the last row, what must be true of it, and whether another order is given.
    Extreme(Matching, Window, bool, usize, bool),
    /// The anchor, which end of it, and the steps.
    Sequence(Matching, Option<&'static str>, Vec<Step>),
    Callers,
    Trait(&'static str, fn(&[Row]) -> bool),
}

const TRAITS: [(&str, fn(&[Row]) -> bool); 3] = [
    ("calls >= 2", |rows| rows.iter().filter(|r| r.table == "ev.calls").count() >= 2),
    ("most < 3", |rows| most(rows).is_some_and(|x| x < 3)),
    ("most IS NULL OR calls = 1", |rows| {
        most(rows).is_none() || rows.iter().filter(|r| r.table == "ev.calls").count() == 1
    }),
];

fn most(rows: &[Row]) -> Option<i64> {
    rows.iter().filter(|r| r.table == "ev.web").filter_map(|r| r.x).max()
}

impl Condition {
    fn random(dice: &mut Dice, depth: usize) -> Self {
        let choices = if depth == 0 { 8 } else { 13 };
        let measures = |dice: &mut Dice| {
            let mut measures: BTreeMap<&str, Measure> = BTreeMap::new();
            for _ in 0..dice.below(3) {
                let measure = Measure::random(dice);
                measures.insert(measure.function, measure);
            }
            measures.into_values().collect()
        };
        let parts = |dice: &mut Dice| (0..2 + dice.below(2)).map(|_| Self::random(dice, depth - 1)).collect();
        match dice.below(choices) {
            0 | 1 => Self::Event(Matching::random(dice), measures(dice), Window::random(dice)),
            2 => Self::Related(Matching::random(dice), measures(dice)),
            3 => {
                let (last, by) = (dice.one_in(2), dice.one_in(3));
                Self::Extreme(Matching::random(dice), Window::random(dice), last, dice.below(PREDICATES.len()), by)
            }
            4..=6 => {
                let steps = (0..=dice.below(3)).map(|_| Step::random(dice)).collect();
                Self::Sequence(Matching::random(dice), dice.of(&[None, Some("latest"), Some("earliest")]), steps)
            }
            7 if dice.one_in(2) => Self::Callers,
            7 => {
                let (sql, means) = dice.of(&TRAITS);
                Self::Trait(sql, means)
            }
            8 | 9 => Self::All(parts(dice)),
            10 | 11 => Self::Any(parts(dice)),
            _ => Self::Not(Box::new(Self::random(dice, depth - 1))),
        }
    }

    fn json(&self) -> Value {
        let list = |parts: &[Self]| parts.iter().map(Self::json).collect::<Vec<_>>();
        let measured = |mut keys: Map<String, Value>, measures: &[Measure]| {
            keys.extend(measures.iter().map(|m| (m.function.to_owned(), json!(m.text()))));
            Value::Object(keys)
        };
        match self {
            Self::All(parts) => json!({ "all": list(parts) }),
            Self::Any(parts) => json!({ "any": list(parts) }),
            Self::Not(inner) => json!({ "not": inner.json() }),
            Self::Event(matching, measures, window) => {
                let mut keys = matching.keys("event");
                keys.extend(window.keys());
                measured(keys, measures)
            }
            Self::Related(matching, measures) => measured(matching.keys("related"), measures),
            Self::Extreme(matching, window, last, predicate, by) => {
                let mut keys = matching.keys("event");
                keys.extend(window.keys());
                let key = if *last { "last" } else { "first" };
                keys.insert(key.to_owned(), json!(PREDICATES[*predicate].0));
                if *by {
                    keys.insert("by".to_owned(), json!(["event", "id"]));
                }
                Value::Object(keys)
            }
            Self::Sequence(anchor, pick, steps) => {
                let mut first = anchor.keys("event");
                first.extend(pick.map(|pick| ("pick".to_owned(), json!(pick))));
                let steps = std::iter::once(Value::Object(first)).chain(steps.iter().map(Step::json));
                json!({ "sequence": steps.collect::<Vec<_>>() })
            }
            Self::Callers => json!({ "audience": "callers" }),
            Self::Trait(sql, _) => json!({ "trait": sql }),
        }
    }

    fn holds(&self, rows: &[Row]) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|p| p.holds(rows)),
            Self::Any(parts) => parts.iter().any(|p| p.holds(rows)),
            Self::Not(inner) => !inner.holds(rows),
            Self::Event(matching, measures, window) => enough(matching, measures, window, rows),
            Self::Related(matching, measures) => enough(matching, measures, &Window::default(), rows),
            Self::Extreme(matching, window, last, predicate, by) => {
                let mut found: Vec<&Row> = rows.iter().filter(|r| matching.matches(r) && window.holds(r.at)).collect();
                found.sort_by_key(|r| if *by { (0, r.event, &r.id) } else { (r.at, "", &r.id) });
                let one = if *last { found.last() } else { found.first() };
                one.is_some_and(|row| PREDICATES[*predicate].1(row))
            }
            Self::Sequence(anchor, pick, steps) => {
                let anchors: Vec<&Row> = rows.iter().filter(|r| anchor.matches(r)).collect();
                let end = match pick {
                    Some("latest") => anchors.iter().map(|r| r.at).max(),
                    Some(_) => anchors.iter().map(|r| r.at).min(),
                    None => None,
                };
                let may = |row: &&&Row| pick.is_none() || Some(row.at) == end;
                anchors.iter().filter(may).any(|row| follows(steps, &[row], row, rows))
            }
            Self::Callers => rows.iter().any(|r| r.table == "ev.calls" && r.event == "a"),
            Self::Trait(_, means) => means(rows),
        }
    }
}

fn enough(matching: &Matching, measures: &[Measure], window: &Window, rows: &[Row]) -> bool {
    let found: Vec<&Row> = rows.iter().filter(|r| matching.matches(r) && window.holds(r.at)).collect();
    if measures.is_empty() { !found.is_empty() } else { measures.iter().all(|m| m.holds(&found)) }
}

/// Whether some choice of rows fulfils the steps; `chosen` are the rows so far, the anchor first, and the window of
/// the next step starts at `origin`.
fn follows(steps: &[Step], chosen: &[&Row], origin: &Row, rows: &[Row]) -> bool {
    let Some((step, rest)) = steps.split_first() else { return true };
    let start = if step.of_first { chosen[0].at } else { origin.at };
    let end = step.within.map(|within| start + within);
    let inside = |row: &&Row| {
        let begun = row.at > start || step.inclusive && row.at == start;
        let same = !step.same || chosen[0].s.is_some() && row.s == chosen[0].s;
        let free = !chosen.iter().any(|c| c.id == row.id);
        begun && end.is_none_or(|end| row.at <= end) && same && free && step.matching.matches(row)
    };
    if step.negated {
        let passed = step.open || end.is_some_and(|end| end <= 0);
        return passed && !rows.iter().any(|row| inside(&row)) && follows(rest, chosen, origin, rows);
    }
    rows.iter().filter(inside).any(|row| follows(rest, &[chosen, &[row]].concat(), row, rows))
}

/// Runs random conditions over random events, and compares who is a member.
fn compare(seed: u64) {
    let dice = &mut Dice(seed);
    let people = events(dice);
    let conditions: Vec<Condition> = (0..CONDITIONS).map(|_| Condition::random(dice, 2)).collect();
    let mut audiences = PERSON.to_owned();
    for (number, condition) in conditions.iter().enumerate() {
        let _ = write!(
            audiences,
            "---\nkind: audience\nname: c{number}\nprofile: person_profile\nwhere: {}\n",
            condition.json()
        );
    }
    let everybody: Vec<String> = (0..PEOPLE).map(|n| format!("p{n},q{n}")).collect();
    let project = Project::of(&[
        ("kinfold.yaml", &format!("name: conditions\nas_of: \"{AS_OF}\"\n")),
        ("sources.yaml", SOURCES),
        ("data/people.csv", &format!("p,q\n{}\n", everybody.join("\n"))),
        ("data/web.csv", &csv(&people, "ev.web")),
        ("data/calls.csv", &csv(&people, "ev.calls")),
        ("models/all.yaml", &audiences),
    ]);
    project.kinfold(&["run"]).exits(0);
    let sql = "SELECT audience, p FROM audience_changes JOIN person_profile ON person_id = entity_id";
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    for row in project.query(sql) {
        found.insert((row["audience"].as_str().unwrap().to_owned(), row["p"].as_str().unwrap().to_owned()));
    }
    let mut members = 0;
    for (number, condition) in conditions.iter().enumerate() {
        for (person, rows) in people.iter().enumerate() {
            let holds = condition.holds(rows);
            let is = found.contains(&(format!("c{number}"), format!("p{person}")));
            members += usize::from(is);
            assert_eq!(is, holds, "seed {seed}, c{number}: {}\nover {rows:#?}", condition.json());
        }
    }
    // a test in which nothing or everything holds says little
    let all = CONDITIONS * PEOPLE;
    assert!((all / 5..all * 4 / 5).contains(&members), "{members} of {all}");
}

#[test]
fn conditions_mean_what_the_language_says() {
    std::thread::scope(|scope| {
        for seed in [11, 2026, 77_777] {
            scope.spawn(move || compare(seed));
        }
    });
}
