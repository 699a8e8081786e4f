//! Lineage is sound: on random queries over tiny tables, changing one source column never changes an output
//! column whose lineage does not name it, nor the number of rows when nothing names it as deciding them.
//!
//! Queries are made from a tape of numbers, so that a failing one shrinks. They are repeatable: every order
//! that picks rows is over all columns, so that equal rows are the only ties, and there are no floats.

use super::tests::plan_of;
use super::{Tables, of_plan};
use crate::graph::{ColumnRef, TableLineage};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use std::cell::Cell;
use std::sync::Arc;

const TABLES: [(&str, [&str; 3]); 2] = [("t", ["a", "b", "s"]), ("u", ["k", "v", "w"])];

/// Numbers, read one after the other; zeros behind the end.
struct Tape<'a> {
    numbers: &'a [u16],
    at: usize,
    names: usize,
}

impl Tape<'_> {
    fn pick(&mut self, below: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) % below
    }

    fn one_of<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.pick(words.len())]
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("q{}", self.names)
    }
}

/// Rows of both tables: two numbers and a text, each of few values or null.
#[derive(Debug, Clone, PartialEq)]
struct World {
    numbers: [[Vec<Option<i64>>; 2]; 2],
    texts: [Vec<Option<&'static str>>; 2],
}

fn number(tape: &mut Tape<'_>) -> Option<i64> {
    [None, Some(0), Some(1), Some(2)][tape.pick(4)]
}

fn word(tape: &mut Tape<'_>) -> Option<&'static str> {
    [None, Some("p"), Some("pq"), Some("")][tape.pick(4)]
}

impl World {
    fn new(tape: &mut Tape<'_>) -> Self {
        let rows = [1 + tape.pick(4), 1 + tape.pick(4)];
        let numbers = rows.map(|n| [0, 1].map(|_| (0..n).map(|_| number(tape)).collect()));
        Self { numbers, texts: rows.map(|n| (0..n).map(|_| word(tape)).collect()) }
    }

    /// Other values in one column.
    fn with_other_values(&self, table: usize, column: usize, tape: &mut Tape<'_>) -> Self {
        let mut other = self.clone();
        if column < 2 {
            other.numbers[table][column].iter_mut().for_each(|v| *v = number(tape));
        } else {
            other.texts[table].iter_mut().for_each(|v| *v = word(tape));
        }
        other
    }

    /// One row less.
    fn with_a_row_less(&self, table: usize) -> Self {
        let mut other = self.clone();
        for column in &mut other.numbers[table] {
            column.pop();
        }
        other.texts[table].pop();
        other
    }

    /// Puts the rows in the place of earlier ones.
    fn load(&self, context: &SessionContext) {
        for (index, (table, columns)) in TABLES.into_iter().enumerate() {
            let [first, second] = self.numbers[index].clone().map(|c| Arc::new(Int64Array::from(c)) as ArrayRef);
            let texts = Arc::new(StringArray::from(self.texts[index].clone())) as ArrayRef;
            let named = columns.into_iter().zip([first, second, texts]).map(|(n, c)| (n, c, true));
            let batch = RecordBatch::try_from_iter_with_nullable(named).unwrap();
            let rows = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
            context.deregister_table(table).unwrap();
            context.register_table(table, Arc::new(rows)).unwrap();
        }
    }

    /// Columns of the answer, each as a sorted list of texts.
    fn answer(&self, context: &SessionContext, sql: &str) -> datafusion::error::Result<Vec<Vec<String>>> {
        self.load(context);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let plan = plan_of(context, sql)?;
        let width = plan.schema().fields().len();
        let batches = runtime.block_on(async { context.execute_logical_plan(plan).await?.collect().await })?;
        let mut columns = vec![Vec::new(); width];
        let options = FormatOptions::default().with_null("null");
        for batch in &batches {
            for (column, values) in columns.iter_mut().zip(batch.columns()) {
                let texts = ArrayFormatter::try_new(values, &options)?;
                column.extend((0..batch.num_rows()).map(|row| texts.value(row).to_string()));
            }
        }
        for column in &mut columns {
            column.sort_unstable();
        }
        Ok(columns)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
}

/// A query whose columns are `c0`, `c1`, ...
#[derive(Debug, Clone)]
struct Query {
    sql: String,
    kinds: Vec<Kind>,
}

impl Query {
    /// All columns in order, as `q.c0, q.c1`.
    fn all(&self, name: &str) -> String {
        (0..self.kinds.len()).map(|i| format!("{name}.c{i}")).collect::<Vec<_>>().join(", ")
    }

    fn column(&self, name: &str, kind: Kind, tape: &mut Tape<'_>) -> Option<String> {
        let of_kind: Vec<usize> = (0..self.kinds.len()).filter(|i| self.kinds[*i] == kind).collect();
        (!of_kind.is_empty()).then(|| format!("{name}.c{}", of_kind[tape.pick(of_kind.len())]))
    }

    fn any(&self, name: &str, tape: &mut Tape<'_>) -> (String, Kind) {
        let index = tape.pick(self.kinds.len());
        (format!("{name}.c{index}"), self.kinds[index])
    }
}

fn kind(tape: &mut Tape<'_>) -> Kind {
    [Kind::Number, Kind::Text][tape.pick(2)]
}

fn expression(tape: &mut Tape<'_>, query: &Query, name: &str, wanted: Kind, depth: usize) -> String {
    let literal = match wanted {
        Kind::Number => tape.one_of(&["1", "2", "CAST(NULL AS BIGINT)"]),
        Kind::Text => tape.one_of(&["'p'", "''", "CAST(NULL AS VARCHAR)"]),
    };
    let column = query.column(name, wanted, tape).unwrap_or_else(|| literal.to_owned());
    if depth == 0 {
        return column;
    }
    let mut part = |wanted| expression(tape, query, name, wanted, depth - 1);
    let (left, right) = (part(wanted), part(wanted));
    match tape.pick(6) {
        0 | 1 => column,
        2 => format!("coalesce({left}, {right})"),
        3 => format!("CASE WHEN {} THEN {left} ELSE {right} END", predicate(tape, query, name, depth - 1)),
        4 if wanted == Kind::Number => format!("({left} + {right})"),
        4 => format!("concat({left}, {right})"),
        _ if wanted == Kind::Number => {
            format!("CAST(character_length({}) AS BIGINT)", expression(tape, query, name, Kind::Text, depth - 1))
        }
        _ => format!("CAST({} AS VARCHAR)", expression(tape, query, name, Kind::Number, depth - 1)),
    }
}

fn predicate(tape: &mut Tape<'_>, query: &Query, name: &str, depth: usize) -> String {
    let wanted = kind(tape);
    let left = expression(tape, query, name, wanted, depth.min(1));
    let right = expression(tape, query, name, wanted, depth.min(1));
    match tape.pick(if depth == 0 { 4 } else { 7 }) {
        0 => format!("{left} = {right}"),
        1 => format!("{left} < {right}"),
        2 => format!("{left} IS NULL"),
        3 => format!("{left} IN ({right}, {left})"),
        4 => format!("NOT ({})", predicate(tape, query, name, depth - 1)),
        5 => format!("({left} = {right} OR {})", predicate(tape, query, name, depth - 1)),
        _ => format!("({left} IS NOT NULL AND {})", predicate(tape, query, name, depth - 1)),
    }
}

fn base(tape: &mut Tape<'_>) -> Query {
    let (table, [a, b, s]) = TABLES[tape.pick(2)];
    let sql = format!("SELECT {a} AS c0, {b} AS c1, {s} AS c2 FROM {table}");
    Query { sql, kinds: vec![Kind::Number, Kind::Number, Kind::Text] }
}

fn query(tape: &mut Tape<'_>, depth: usize) -> Query {
    if depth == 0 {
        return base(tape);
    }
    let input = query(tape, depth - 1);
    let name = tape.name();
    match tape.pick(16) {
        0 | 1 => projected(tape, &input, &name),
        2 => {
            let condition = predicate(tape, &input, &name, 2);
            let sql = format!("SELECT {} FROM ({}) AS {name} WHERE {condition}", input.all(&name), input.sql);
            Query { sql, ..input }
        }
        3 | 4 => joined(tape, &input, &name),
        5 | 6 => grouped(tape, &input, &name),
        7 => windowed(tape, &input, &name),
        8 => united(tape, &input, &name),
        9 => picked(tape, &input, &name),
        10 | 11 => with_subquery(tape, &input, &name),
        12 | 13 => where_subquery(tape, &input, &name),
        14 => recursive(tape, &input, &name),
        _ => unnested(tape, &input, &name),
    }
}

fn projected(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let kinds: Vec<Kind> = (0..=tape.pick(3)).map(|_| kind(tape)).collect();
    to_kinds(tape, input, name, &kinds)
}

fn to_kinds(tape: &mut Tape<'_>, input: &Query, name: &str, kinds: &[Kind]) -> Query {
    let column = |(i, k): (usize, &Kind)| format!("{} AS c{i}", expression(tape, input, name, *k, 2));
    let columns: Vec<String> = kinds.iter().enumerate().map(column).collect();
    Query { sql: format!("SELECT {} FROM ({}) AS {name}", columns.join(", "), input.sql), kinds: kinds.to_vec() }
}

fn joined(tape: &mut Tape<'_>, left: &Query, l: &str) -> Query {
    let right = base(tape);
    let r = tape.name();
    let wanted = kind(tape);
    let keys = (left.column(l, wanted, tape), right.column(&r, wanted, tape));
    let (Some(left_key), Some(right_key)) = keys else { return projected(tape, left, l) };
    let mut condition = format!("{left_key} = {right_key}");
    if tape.pick(3) == 0 {
        condition.push_str(&format!(" AND {}", predicate(tape, &right, &r, 1)));
    }
    let join = tape.one_of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"]);
    let one_sided = join.contains("SEMI") || join.contains("ANTI");
    let mut columns = vec![left.any(l, tape), left.any(l, tape)];
    if !one_sided {
        columns.extend([right.any(&r, tape), right.any(&r, tape)]);
    }
    let kinds = columns.iter().map(|c| c.1).collect();
    let columns: Vec<String> = columns.iter().enumerate().map(|(i, (c, _))| format!("{c} AS c{i}")).collect();
    let sql = format!(
        "SELECT {} FROM ({}) AS {l} {join} ({}) AS {r} ON {condition}",
        columns.join(", "),
        left.sql,
        right.sql
    );
    Query { sql, kinds }
}

fn grouped(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let keys: Vec<(String, Kind)> = (0..tape.pick(3)).map(|_| input.any(name, tape)).collect();
    let (of, of_kind) = input.any(name, tape);
    let all = input.all(name);
    let (call, result) = match tape.pick(5) {
        0 => ("count(*)".to_owned(), Kind::Number),
        1 => (format!("count(DISTINCT {of})"), Kind::Number),
        2 => (format!("max({of})"), of_kind),
        // not by a column twice, at which first_value panics in DataFusion 55.2
        3 => (format!("first_value({of} ORDER BY {all})"), of_kind),
        _ => match input.column(name, Kind::Number, tape) {
            Some(number) => (format!("CAST(sum({number}) AS BIGINT)"), Kind::Number),
            None => (format!("min({of})"), of_kind),
        },
    };
    let filter = match tape.pick(3) {
        0 if !call.starts_with("CAST") => format!(" FILTER (WHERE {})", predicate(tape, input, name, 1)),
        _ => String::new(),
    };
    let mut columns: Vec<String> = keys.iter().enumerate().map(|(i, (k, _))| format!("{k} AS c{i}")).collect();
    columns.push(format!("{call}{filter} AS c{}", keys.len()));
    let mut sql = format!("SELECT {} FROM ({}) AS {name}", columns.join(", "), input.sql);
    let names: Vec<&str> = keys.iter().map(|k| k.0.as_str()).collect();
    let distinct = names.len() < 2 || names[0] != names[1];
    match tape.pick(3) {
        _ if names.is_empty() => {}
        0 if distinct => sql.push_str(&format!(" GROUP BY ROLLUP ({})", names.join(", "))),
        1 => sql.push_str(&format!(" GROUP BY {} HAVING count(*) > 1", names.join(", "))),
        _ => sql.push_str(&format!(" GROUP BY {}", names.join(", "))),
    }
    Query { sql, kinds: keys.iter().map(|k| k.1).chain([result]).collect() }
}

fn windowed(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let (part, _) = input.any(name, tape);
    let (of, of_kind) = input.any(name, tape);
    let (by, _) = input.any(name, tape);
    let all = input.all(name);
    let (call, result) = match tape.pick(6) {
        0 => (format!("CAST(row_number() OVER (PARTITION BY {part} ORDER BY {all}) AS BIGINT)"), Kind::Number),
        1 => (format!("CAST(rank() OVER (ORDER BY {by}) AS BIGINT)"), Kind::Number),
        2 => (format!("max({of}) OVER (PARTITION BY {part})"), of_kind),
        3 => (format!("min({of}) OVER (PARTITION BY {part} ORDER BY {by})"), of_kind),
        4 => (format!("lag({of}) OVER (ORDER BY {all})"), of_kind),
        _ => (format!("count({of}) OVER (PARTITION BY {part})"), Kind::Number),
    };
    let (kept, kept_kind) = input.any(name, tape);
    let sql = format!("SELECT {kept} AS c0, {call} AS c1 FROM ({}) AS {name}", input.sql);
    Query { sql, kinds: vec![kept_kind, result] }
}

fn united(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let other = base(tape);
    let other_name = tape.name();
    let other = to_kinds(tape, &other, &other_name, &input.kinds);
    let word = tape.one_of(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT"]);
    let inner = tape.name();
    let sql = format!(
        "SELECT {} FROM ((SELECT {} FROM ({}) AS {name}) {word} ({})) AS {inner}",
        input.all(&inner),
        input.all(name),
        input.sql,
        other.sql
    );
    Query { sql, kinds: input.kinds.clone() }
}

/// DISTINCT, DISTINCT ON and LIMIT.
fn picked(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let all = input.all(name);
    let from = format!("({}) AS {name}", input.sql);
    let sql = match tape.pick(3) {
        0 => format!("SELECT DISTINCT {all} FROM {from}"),
        1 => format!("SELECT {all} FROM {from} ORDER BY {all} LIMIT {} OFFSET {}", tape.pick(3), tape.pick(2)),
        _ => format!("SELECT DISTINCT ON ({name}.c0) {all} FROM {from} ORDER BY {all}"),
    };
    Query { sql, kinds: input.kinds.clone() }
}

/// A scalar subquery beside a column.
fn with_subquery(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let other = base(tape);
    let inner = tape.name();
    let (of, result) = other.any(&inner, tape);
    let wanted = kind(tape);
    let correlation = match (input.column(name, wanted, tape), other.column(&inner, wanted, tape)) {
        (Some(outside), Some(inside)) if tape.pick(3) > 0 => format!(" WHERE {inside} = {outside}"),
        _ => String::new(),
    };
    let (kept, kept_kind) = input.any(name, tape);
    let sql = format!(
        "SELECT {kept} AS c0, (SELECT max({of}) FROM ({}) AS {inner}{correlation}) AS c1 FROM ({}) AS {name}",
        other.sql, input.sql
    );
    Query { sql, kinds: vec![kept_kind, result] }
}

/// EXISTS and IN as conditions.
fn where_subquery(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let other = base(tape);
    let inner = tape.name();
    let wanted = kind(tape);
    let (Some(outside), Some(inside)) = (input.column(name, wanted, tape), other.column(&inner, wanted, tape)) else {
        return projected(tape, input, name);
    };
    let filter = predicate(tape, &other, &inner, 1);
    let not = tape.one_of(&["", "NOT "]);
    let condition = if tape.pick(2) == 0 {
        format!("{not}EXISTS (SELECT 1 FROM ({}) AS {inner} WHERE {inside} = {outside} AND {filter})", other.sql)
    } else {
        format!("{outside} {not}IN (SELECT {inside} FROM ({}) AS {inner} WHERE {filter})", other.sql)
    };
    let sql = format!("SELECT {} FROM ({}) AS {name} WHERE {condition}", input.all(name), input.sql);
    Query { sql, kinds: input.kinds.clone() }
}

/// A named query that is read twice, or that reads itself.
fn recursive(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let number = input.column("x", Kind::Number, tape);
    let (Some(number), 0) = (number, tape.pick(2)) else {
        let [(x, x_kind), (y, y_kind)] = ["x", "y"].map(|side| input.any(side, tape));
        let index = tape.pick(input.kinds.len());
        let sql = format!(
            "WITH {name} AS ({}) SELECT {x} AS c0, {y} AS c1 FROM {name} AS x LEFT JOIN {name} AS y ON x.c{index} = y.c{index}",
            input.sql
        );
        return Query { sql, kinds: vec![x_kind, y_kind] };
    };
    let (also, kind) = input.any("x", tape);
    let union = tape.one_of(&["UNION", "UNION ALL"]);
    let sql = format!(
        "WITH RECURSIVE {name} AS (SELECT {number} AS n, {also} AS m FROM ({}) AS x {union} SELECT n + 1, m FROM {name} WHERE n < 3) SELECT n AS c0, m AS c1 FROM {name}",
        input.sql
    );
    Query { sql, kinds: vec![Kind::Number, kind] }
}

fn unnested(tape: &mut Tape<'_>, input: &Query, name: &str) -> Query {
    let (kept, kept_kind) = input.any(name, tape);
    let wanted = kind(tape);
    let [left, right] = [0, 1].map(|_| expression(tape, input, name, wanted, 1));
    let sql = format!("SELECT {kept} AS c0, unnest(make_array({left}, {right})) AS c1 FROM ({}) AS {name}", input.sql);
    Query { sql, kinds: vec![kept_kind, wanted] }
}

/// What the cases did together: a test that compares nothing proves nothing.
#[derive(Default)]
struct Done {
    answered: Cell<usize>,
    refused: Cell<usize>,
    compared: Cell<usize>,
}

fn add(counter: &Cell<usize>, more: usize) {
    counter.set(counter.get() + more);
}

/// Compares what must be equal after a change of `source`.
fn compare(
    lineage: &TableLineage,
    source: &ColumnRef,
    sql: &str,
    answers: [&[Vec<String>]; 2],
) -> Result<usize, String> {
    let [before, after] = answers;
    let mut compared = 0;
    for (index, column) in lineage.columns.iter().enumerate() {
        if column.values.contains(source) || column.rows.contains(source) {
            continue;
        }
        compared += 1;
        if before[index] != after[index] {
            let (before, after) = (&before[index], &after[index]);
            return Err(format!("`{}` changed with {source}: {before:?} -> {after:?}\n{sql}", column.name));
        }
    }
    if !lineage.rows.contains(source) && before[0].len() != after[0].len() {
        return Err(format!("the number of rows changed with {source}\n{sql}"));
    }
    Ok(compared)
}

fn case(context: &SessionContext, numbers: &[u16], done: &Done) -> TestCaseResult {
    let mut tape = Tape { numbers, at: 0, names: 0 };
    let depth = 1 + tape.pick(3);
    let sql = query(&mut tape, depth).sql;
    let world = World::new(&mut tape);
    world.load(context);
    let plan: Option<LogicalPlan> = plan_of(context, &sql).ok();
    // some subqueries have no physical plan: those are not this test's matter
    let (Some(plan), Ok(before)) = (plan, world.answer(context, &sql)) else {
        add(&done.refused, 1);
        return Ok(());
    };
    add(&done.answered, 1);
    let lineage = of_plan(&Tables::default(), "m", &plan);
    for (table, (name, columns)) in TABLES.into_iter().enumerate() {
        let rows = ColumnRef::rows_of(name);
        // a table that the query does not read cannot matter, and to see that proves little
        if !lineage.columns.iter().any(|c| c.rows.contains(&rows)) {
            continue;
        }
        let changed = (0..3).map(|c| (ColumnRef::new(name, columns[c]), Some(c))).chain([(rows, None)]);
        for (source, column) in changed {
            if lineage.columns.iter().all(|c| c.values.contains(&source) || c.rows.contains(&source)) {
                continue;
            }
            let other = match column {
                Some(column) => world.with_other_values(table, column, &mut tape),
                None => world.with_a_row_less(table),
            };
            if other == world {
                continue;
            }
            let after = other.answer(context, &sql).map_err(|e| TestCaseError::fail(format!("{e}\n{sql}")))?;
            let compared = compare(&lineage, &source, &sql, [&before, &after]);
            add(&done.compared, compared.map_err(|e| TestCaseError::fail(format!("{e}\n{world:?}\n{other:?}")))?);
        }
    }
    Ok(())
}

#[test]
fn a_column_that_lineage_does_not_name_changes_nothing() {
    const CASES: u32 = 150;
    let done = Done::default();
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) });
    runner.run(&prop::collection::vec(any::<u16>(), 160), |numbers| case(&context, &numbers, &done)).unwrap();
    let (answered, refused, compared) = (done.answered.get(), done.refused.get(), done.compared.get());
    assert!(refused * 4 < answered, "{refused} queries had no answer, {answered} had one");
    assert!(compared > CASES as usize / 2, "only {compared} columns were compared");
}
