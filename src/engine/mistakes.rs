//! DataFusion's messages about SQL, told to the author of a model.
//!
//! DataFusion explains a query to people who know the engine: in its own types, with candidates of signatures,
//! and now and then as a bug to be reported. Here each message that an author can bring about becomes one short
//! line in SQL's words with a way out. What is not known here is passed on, shortened to its first sentence.
//! Pure: text in, text out.

use crate::diagnostic::Code;
use crate::project::nearest;

/// A finding without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub code: Code,
    pub message: String,
    pub label: &'static str,
    pub help: Option<String>,
    /// The word or sign that it is about, to look for in the SQL.
    pub word: Option<(String, Which)>,
}

/// Which of the places of a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The first, in what DataFusion names if it names something.
    First,
    /// As the first, but the last.
    Last,
    /// The only one; if there are several, none is better than the others.
    Only,
    /// The first of the whole text.
    Anywhere,
}

impl Told {
    fn new(code: Code, label: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), label, help: None, word: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn at(mut self, word: impl Into<String>) -> Self {
        self.word = Some((word.into(), Which::First));
        self
    }

    fn at_last(mut self, word: impl Into<String>) -> Self {
        self.word = Some((word.into(), Which::Last));
        self
    }

    fn at_which(mut self, word: impl Into<String>, which: Which) -> Self {
        self.word = Some((word.into(), which));
        self
    }
}

/// Names of the functions that SQL may call here.
#[derive(Debug, Default)]
pub(super) struct Functions {
    /// Scalar and aggregate functions.
    pub plain: Vec<String>,
    /// Functions that need `OVER`.
    pub windows: Vec<String>,
}

type Rule = fn(&str, &Functions) -> Option<Told>;

/// Tells a message that has lost its prefixes.
pub(super) fn tell(text: &str, functions: &Functions) -> Told {
    const RULES: &[Rule] = &[
        unknown_function,
        counts,
        signature,
        operator,
        unary,
        branches,
        grouping,
        qualifier,
        columns,
        unions,
        numbers,
        statements,
        types,
        table,
        literal,
        nothing,
        fields,
        unstorable,
    ];
    RULES.iter().find_map(|rule| rule(text, functions)).unwrap_or_else(|| other(text))
}

/// What other databases call it.
const ELSEWHERE: &[(&str, &str)] = &[
    ("charindex", "write `strpos(text, part)`"),
    ("countif", "write `count(*) FILTER (WHERE ...)`"),
    ("count_if", "write `count(*) FILTER (WHERE ...)`"),
    ("date_add", "add an interval: `at + interval '7 days'`"),
    ("date_sub", "subtract an interval: `at - interval '7 days'`"),
    ("dateadd", "add an interval: `at + interval '7 days'`"),
    ("date_diff", "subtract the times, and compare with an interval: `b - a > interval '7 days'`"),
    ("datediff", "subtract the times, and compare with an interval: `b - a > interval '7 days'`"),
    ("getdate", "write `as_of()`, the run's logical time"),
    ("if", "write `CASE WHEN ... THEN ... ELSE ... END`"),
    ("iff", "write `CASE WHEN ... THEN ... ELSE ... END`"),
    ("isnull", "write `x IS NULL`, or `coalesce(x, y)`"),
    ("json_extract", "JSON inside text is not read: give its fields columns of their own in the source"),
    ("json_value", "JSON inside text is not read: give its fields columns of their own in the source"),
    ("len", "write `length(text)`"),
    ("listagg", "write `string_agg(text, ', ')`"),
    ("group_concat", "write `string_agg(text, ', ')`"),
    ("safe_cast", "write `try_cast(x AS BIGINT)`"),
    ("sysdate", "write `as_of()`, the run's logical time"),
    ("to_varchar", "write `CAST(x AS TEXT)`"),
    ("try_to_number", "write `try_cast(x AS DOUBLE)`"),
    ("zeroifnull", "write `coalesce(x, 0)`"),
];

fn unknown_function(text: &str, functions: &Functions) -> Option<Told> {
    let name = between(text, "Invalid function '", "'")?;
    if functions.windows.iter().any(|w| w == name) {
        let told = Told::new(Code::SqlArguments, "needs OVER", format!("`{name}` works over a window of rows"));
        return Some(told.help(format!("write `{name}() OVER (PARTITION BY ... ORDER BY ...)`")).at(name));
    }
    let told = Told::new(Code::SqlUnknownFunction, "no such function", format!("no function `{name}`")).at(name);
    if let Some((_, help)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
        return Some(told.help(*help));
    }
    let known = functions.plain.iter().chain(&functions.windows).map(String::as_str);
    Some(match nearest(name, known).filter(|near| strsim::damerau_levenshtein(name, near) <= 2) {
        Some(near) => told.help(format!("did you mean `{near}`?")),
        None => told.help("the functions are those of DataFusion SQL; macros are called in `{{ }}`"),
    })
}

/// The function that a message is about.
fn called(text: &str) -> Option<&str> {
    let mut marks = ["unction '", "call to '", "unction \""].iter();
    let named = marks.find_map(|before| between(text, before, &before[before.len() - 1..]));
    named.or_else(|| text.strip_prefix('\'')?.split_once('\'').map(|(name, _)| name))
}

/// A wrong number of arguments.
fn counts(text: &str, _: &Functions) -> Option<Told> {
    let name = called(text)?;
    let told = |message: String| Told::new(Code::SqlArguments, "wrong number of arguments", message).at(name);
    // of several signatures one may have the right number: then the types are what is wrong
    if text.contains("(DataType: ") {
        return None;
    }
    let (wanted, got): (Vec<&str>, Vec<String>) = text.split(['.', ',']).filter_map(count).unzip();
    if let Some(got) = got.first() {
        let mut wanted = wanted;
        wanted.dedup();
        let wanted = match wanted.as_slice() {
            ["zero" | "0"] => "no arguments".to_owned(),
            ["1"] => "1 argument".to_owned(),
            ["at least one"] => "at least 1 argument".to_owned(),
            several => format!("{} arguments", several.join(" or ")),
        };
        return Some(told(format!("`{name}` takes {wanted}, not {got}")));
    }
    let none = text.contains("zero arguments") || text.contains("at least one argument");
    none.then(|| told(format!("`{name}` needs an argument")))
}

/// `expects 2 arguments but received 1`: what is wanted, and what was given.
fn count(sentence: &str) -> Option<(&str, String)> {
    let rest = ["expects ", "expected "].iter().find_map(|verb| sentence.split_once(verb))?.1;
    let (wanted, rest) = rest.split_once(" argument")?;
    let got = rest.split_once("but received ")?.1;
    let got: String = got.chars().take_while(char::is_ascii_digit).collect();
    (!got.is_empty() && wanted.len() <= 16).then_some((wanted, got))
}

/// Arguments of the wrong type.
fn signature(text: &str, _: &Functions) -> Option<Told> {
    let name = called(text)?;
    let got = match text.split_once("(DataType: ") {
        Some((_, rest)) => inside(rest).to_owned(),
        None => match between(text, "coercion from ", " to the signature")
            .or_else(|| between(text, "argument types '", "'"))
        {
            Some(list) => list
                .rsplit_once('(')
                .filter(|(n, _)| *n == name)
                .map_or(list, |(_, l)| l.trim_end_matches(')'))
                .to_owned(),
            None => text.split_once("but received ")?.1.split([' ', '.']).next()?.to_owned(),
        },
    };
    let shown: Vec<String> = split(&got, ", ").into_iter().map(sql_type).collect();
    let told = Told::new(
        Code::SqlArguments,
        "does not take this type",
        format!("`{name}` does not take {}", shown.join(", ")),
    );
    let wanted: Vec<&str> = text
        .split("requires ")
        .skip(1)
        .chain(text.split("expects ").skip(1))
        .filter_map(|rest| rest.split([',', ' ']).next())
        .collect();
    let numbers =
        wanted.iter().any(|w| ["Decimal", "Numeric", "Integer", "Int", "Float"].iter().any(|n| w.starts_with(n)));
    let told = told.at(name);
    Some(if numbers {
        told.help(format!("it takes numbers; read text as one with `{name}(try_cast(x AS DOUBLE))`"))
    } else if wanted.contains(&"String") {
        told.help("it takes text first; look at the order of the arguments, or cast with `CAST(x AS TEXT)`")
    } else {
        told.help("cast the argument, as in `try_cast(x AS DOUBLE)` or `CAST(x AS TEXT)`")
    })
}

/// Two sides of an operator that do not fit together.
fn operator(text: &str, _: &Functions) -> Option<Told> {
    let about = ["Cannot coerce arithmetic", "Cannot infer common", "Cannot get result type for"];
    let (left, sign, right) = if about.iter().any(|a| text.starts_with(a)) {
        let rest = text.split_once(" expression ").or_else(|| text.split_once(" operation "))?.1;
        let rest = rest.split_once(" to valid types").map_or(rest, |(r, _)| r);
        let rest = split(rest, ": ").into_iter().next()?;
        match split(rest, " ").as_slice() {
            [left, sign @ .., right] => (sql_type(left), sign.join(" "), sql_type(right)),
            _ => return None,
        }
    } else if let Some(rest) = text.strip_prefix("There isn't a common type to coerce ") {
        let (left, rest) = rest.split_once(" and ")?;
        let (right, sign) = rest.split_once(" in ")?;
        (sql_type(left), sign.split(' ').next()?.to_owned(), sql_type(right))
    } else if let Some(rest) = text.strip_prefix("Can not find compatible types to compare ") {
        let (left, right) = rest.split_once(" with ")?;
        let right: Vec<String> = split(right.trim_matches(['[', ']']), ", ").into_iter().map(sql_type).collect();
        (sql_type(left), "IN".to_owned(), format!("({})", right.join(", ")))
    } else {
        return None;
    };
    let told = Told::new(Code::SqlTypes, "types do not fit", format!("`{left} {sign} {right}` has no meaning"))
        .at_which(sign.clone(), Which::Only);
    let sides = [left.as_str(), right.as_str()];
    let time = sides.iter().any(|s| ["TIMESTAMP", "DATE"].contains(s));
    Some(match sides {
        _ if ["AND", "OR"].contains(&sign.as_str()) => {
            told.help(format!("{sign} joins conditions: compare each side with something"))
        }
        _ if sign.ends_with("LIKE") => told.help("LIKE compares text: write `CAST(x AS TEXT) LIKE ...`"),
        _ if time && sides.iter().any(|s| is_number(s)) => {
            told.help("add a length of time: `at + interval '7 days'`; compare with a time: `at > '2026-01-31'`")
        }
        _ if time && sides.contains(&"TEXT") => told.help("read the text as a time: `CAST(x AS TIMESTAMP)`"),
        _ if sides.contains(&"TEXT") && sign == "+" => {
            told.help("join text with `||`; read it as a number with `try_cast(x AS DOUBLE)`")
        }
        _ if sides.contains(&"TEXT") => {
            told.help("read the text as a number with `try_cast(x AS DOUBLE)`, or the other side as text")
        }
        _ => told.help("cast one side, as in `CAST(x AS TEXT)`"),
    })
}

fn is_number(name: &str) -> bool {
    ["BIGINT", "INT", "SMALLINT", "TINYINT", "DOUBLE", "REAL", "DECIMAL"].contains(&name)
}

/// One side only.
fn unary(text: &str, _: &Functions) -> Option<Told> {
    let sign = between(text, "Unary operator '", "'")?;
    let got = text.split_once(", got ").map_or(String::new(), |(_, kind)| format!(", not {}", sql_type(kind)));
    let (wanted, help) = match sign {
        "NOT" => ("a condition", "compare it with something, as in `NOT (x = 'y')`"),
        _ => ("a number", "read text as a number with `try_cast(x AS DOUBLE)`"),
    };
    Some(Told::new(Code::SqlTypes, "does not fit", format!("`{sign}` takes {wanted}{got}")).help(help))
}

/// CASE, BETWEEN and conditions whose parts do not fit together.
fn branches(text: &str, _: &Functions) -> Option<Told> {
    if text.starts_with("Failed to coerce then") || text.starts_with("Failed to coerce case") {
        let told = Told::new(
            Code::SqlTypes,
            "types do not fit",
            "the branches of this CASE have types that do not fit together",
        );
        return Some(told.help("cast them to one type, as in `CAST(x AS TEXT)`").at("CASE"));
    }
    if let Some(rest) = text.strip_prefix("Failed to coerce types ") {
        let (left, right) = rest.split_once(" in ")?.0.split_once(" and ")?;
        let message = format!("`{} BETWEEN {}` has no meaning", sql_type(left), sql_type(right));
        return Some(Told::new(Code::SqlTypes, "types do not fit", message).help("cast one side").at("BETWEEN"));
    }
    let condition = "a condition is true or false";
    if let Some(rest) = text.strip_prefix("Cannot create filter with non-boolean predicate '") {
        let (what, kind) = rest.rsplit_once("' returning ")?;
        let name = short(what);
        let told = Told::new(Code::SqlTypes, "not a condition", format!("{condition}, `{name}` is {}", sql_type(kind)));
        let told = told.help("compare it with something, as in `x = 'y'` or `x IS NOT NULL`");
        return Some(if name.chars().all(|c| c.is_alphanumeric() || c == '_') { told.at_last(name) } else { told });
    }
    let (_, kind) = text.split_once(" must be boolean type, but got ")?;
    let told = Told::new(Code::SqlTypes, "not a condition", format!("{condition}, this is {}", sql_type(kind)));
    Some(told.help("compare it with something, as in `x = 'y'` or `x IS NOT NULL`"))
}

/// Rows and groups in one SELECT.
fn grouping(text: &str, _: &Functions) -> Option<Told> {
    let grouping = |message: String, label| Told::new(Code::SqlGrouping, label, message);
    if text.starts_with("Column in ") && text.contains("must be in GROUP BY") {
        let name = short(between(text, "column \"", "\"")?);
        let told = grouping(format!("`{name}` is neither grouped nor aggregated"), "one value per group is needed");
        if text.starts_with("Column in HAVING") {
            return Some(told.help("conditions on single rows stand in WHERE").at(name));
        }
        return Some(
            told.help(format!("add it to GROUP BY, or take one value of the group, as in `min({name})`")).at(name),
        );
    }
    if let Some(rest) = text.strip_prefix("HAVING clause references: ") {
        let name = short(rest.split_once(" must appear")?.0);
        let told = grouping(format!("HAVING uses `{name}`, which is neither grouped nor aggregated"), "not of a group");
        return Some(told.help("conditions on single rows stand in WHERE").at("HAVING"));
    }
    if text.starts_with("Aggregate function calls cannot be nested") {
        let told = grouping("an aggregate cannot stand in an aggregate".to_owned(), "inside another aggregate");
        return Some(
            told.help("make the inner ones in a query of their own: `WITH step AS (...) SELECT max(x) FROM step`"),
        );
    }
    let place = between(text, "Aggregate functions are not allowed in the ", " clause")?;
    let told = grouping(format!("an aggregate cannot stand in {place}"), "looks at single rows");
    Some(told.help("conditions on groups stand in HAVING, after GROUP BY").at(place))
}

/// `v.*` of a table that is not there.
fn qualifier(text: &str, _: &Functions) -> Option<Told> {
    let name = text.strip_prefix("Invalid qualifier ")?;
    let told = Told::new(Code::SqlUnknownColumn, "not here", format!("no table `{name}` in this SQL"));
    Some(told.help("write the name that FROM or JOIN gives it").at(name))
}

/// Columns that cannot be told apart.
fn columns(text: &str, _: &Functions) -> Option<Told> {
    let duplicate = |name: &str| {
        let told =
            Told::new(Code::SqlDuplicateColumn, "the second of this name", format!("two columns are called `{name}`"));
        told.help("name the columns instead of `*`, and give one another name with AS").at_last(name)
    };
    if text.starts_with("Projections require unique expression names") {
        let first = between(text, "the expression \"", "\" at position")?;
        let name = first.rsplit_once(" AS ").map_or_else(|| short(first), |(_, alias)| alias.to_owned());
        return Some(duplicate(&name));
    }
    if let Some(rest) = text.strip_prefix("Schema contains duplicate ") {
        return Some(duplicate(&short(rest.split_once("name ")?.1)));
    }
    if let Some((first, second)) =
        between(text, "columns `", "` differ only in case").and_then(|b| b.split_once("` and `"))
    {
        if first == second {
            return Some(duplicate(first));
        }
        let message = format!("the columns `{first}` and `{second}` differ only in case");
        let told = Told::new(Code::SqlDuplicateColumn, "tables do not tell case apart", message);
        return Some(told.help("give one of them another name with AS").at_last(second));
    }
    let name = between(text, "column `", "` cannot be stored under this name")?;
    let label = "needs a name";
    let told =
        Told::new(Code::SqlDuplicateColumn, label, format!("the column `{name}` has no name that can be stored"));
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    if !name.contains(['(', ')']) {
        let better: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        return Some(told.help(format!("write `AS {better}`, without spaces and signs")).at_last(name));
    }
    let word = name.split(|c: char| !plain(c)).next().unwrap_or_default();
    let better = if word.is_empty() { "total" } else { word };
    Some(told.help(format!("name it with AS, as in `{name} AS {better}`")).at(word))
}

/// A table that nobody registered: names of tables are checked before binding, so this is rare.
fn table(text: &str, _: &Functions) -> Option<Told> {
    let quoted = text.strip_prefix("table '")?.split_once('\'')?.0;
    let name = quoted.strip_prefix("kinfold.").filter(|n| n.contains('.')).unwrap_or(quoted);
    let name = name.strip_prefix("models.").unwrap_or(name);
    let told = Told::new(Code::SqlUnknownTable, "no such table", format!("no table `{name}`"));
    Some(told.help("a source table is written `source.table`, a model by its name").at(name))
}

fn unions(text: &str, _: &Functions) -> Option<Told> {
    if let Some(set) = text.strip_suffix(" queries have different number of columns") {
        let told = Told::new(
            Code::SqlTypes,
            "the columns do not match",
            format!("the queries of this {set} have different numbers of columns"),
        );
        return Some(
            told.help("select the same columns in each, with NULL where one has none").at_which(set, Which::Anywhere),
        );
    }
    let rest = text.strip_prefix("Incompatible inputs for Union: ")?;
    let (one, rest) = rest.split_once("of type ")?.1.split_once(", but got incompatible type ")?;
    let (other, column) = rest.split_once(" on column ")?;
    let column = short(column.trim_matches(['\'', '"', '`']));
    let message =
        format!("`{column}` is {} in one query of this UNION and {} in another", sql_type(one), sql_type(other));
    Some(Told::new(Code::SqlTypes, "types do not fit", message).help("cast one of them").at("UNION"))
}

/// Positions, LIMIT, literals.
fn numbers(text: &str, _: &Functions) -> Option<Told> {
    let position = |word: &str, given: &str, last: &str| {
        let columns = if last == "1" { "1 column".to_owned() } else { format!("{last} columns") };
        let message = format!("{word} {given}, but the query has {columns}");
        Told::new(Code::SqlBinding, "no such column", message).help("write the column's name").at_last(given)
    };
    if let Some(rest) = text.strip_prefix("Order by column out of bounds, specified: ") {
        let (given, last) = rest.split_once(", max: ")?;
        return Some(position("ORDER BY", given, last));
    }
    if let Some(rest) = text.strip_prefix("Cannot find column with position ") {
        let (given, rest) = rest.split_once(" in SELECT clause. Valid columns: 1 to ")?;
        return Some(position("GROUP BY", given, rest));
    }
    if let Some(rest) = text.strip_prefix("Expected LIMIT to be an integer or null, but got ") {
        let message = format!("LIMIT takes a whole number, not {}", sql_type(rest));
        return Some(Told::new(Code::SqlTypes, "not a number", message).help("write `LIMIT 10`").at("LIMIT"));
    }
    if let Some((_, value)) = text.split_once("Invalid input syntax for type interval: ") {
        let message = format!("`{}` is not a length of time", value.trim_matches('"'));
        return Some(
            Told::new(Code::SqlTypes, "not a length", message)
                .help("write `interval '30 days'` or `interval '24 hours'`")
                .at("interval"),
        );
    }
    if text.starts_with("too many columns! The subquery should only return one column")
        || text.starts_with("Too many columns! The subquery")
    {
        let count = text.split_once(": ").map_or(2, |(_, list)| split(list, ", ").len());
        let message = format!("a subquery that is compared returns 1 column, not {count}");
        return Some(Told::new(Code::SqlBinding, "more than one column", message));
    }
    let parts = between(text, "Unsupported compound identifier '", "'").map(str::to_owned).or_else(|| {
        let list = between(text, "compound identifier: [", "]")?;
        Some(list.replace(", ", ".").replace('"', ""))
    })?;
    let told =
        Told::new(Code::SqlUnknownColumn, "too many parts", format!("`{parts}` has more parts than a column can have"));
    Some(
        told.help("write `table.column`, or `column['key']` for a part of a column")
            .at(parts.split('.').next().unwrap_or_default()),
    )
}

/// A text literal that cannot be cast.
fn literal(text: &str, _: &Functions) -> Option<Told> {
    let (value, rest) = text.strip_prefix("Cannot cast string '")?.split_once("' to value of ")?;
    let kind = sql_type(rest.split_once(" type").map_or(rest, |(kind, _)| kind));
    let message = format!("`{value}` cannot be read as {kind}");
    Some(Told::new(Code::SqlTypes, "read as another type", message).help(format!("write a value of type {kind}")))
}

fn statements(text: &str, _: &Functions) -> Option<Told> {
    text.contains("only supports a single SQL statement").then(|| {
        let told = Told::new(Code::SqlSyntax, "more than one statement", "a model is one query");
        told.help("remove what stands behind the first `;`, or make it a model of its own").at(";")
    })
}

/// Text without a query.
fn nothing(text: &str, _: &Functions) -> Option<Told> {
    text.starts_with("No SQL statements were provided").then(|| {
        Told::new(Code::Empty, "only comments", "there is no query here").help("write a SELECT, or remove the file")
    })
}

/// Parts of structs.
fn fields(text: &str, _: &Functions) -> Option<Told> {
    if let Some(name) = between(text, "ield ", " not found in struct") {
        let name = name.trim_matches(['`', '\'', '"']);
        let told = Told::new(Code::SqlUnknownColumn, "not a field", format!("no field `{name}` in this struct"));
        return Some(told.help("look at the data: a field is written as it is there, `column['Field']`").at_last(name));
    }
    let rest = text.split_once("annot access field at argument")?.1;
    let kind = sql_type(between(rest, ": type ", " is not ")?);
    let told = Told::new(Code::SqlTypes, "has no fields", format!("a {kind} has no fields"));
    Some(told.help("write a column as `column` or `table.column`; more parts are for structs"))
}

/// A result column of a type that no table has.
fn unstorable(text: &str, _: &Functions) -> Option<Told> {
    let name = between(text, "column `", "` has the type ")?;
    let kind = sql_type(text.split_once("` has the type ")?.1.split_once(", which")?.0);
    let told =
        Told::new(Code::SqlTypes, "cannot be stored", format!("no table can store `{name}`, its type is {kind}"));
    Some(told.help("cast it, as in `CAST(x AS TEXT)`").at_last(name))
}

fn types(text: &str, _: &Functions) -> Option<Told> {
    let name = text.split_once("Unsupported SQL type ")?.1;
    let told = Told::new(Code::SqlTypes, "not a type", format!("no SQL type `{name}`"));
    Some(told.help("types are BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP, TEXT and DECIMAL(p, s)").at(name))
}

/// A message that is not known here: its first sentence, without names of the engine's insides.
fn other(text: &str) -> Told {
    let text = text.trim_start_matches("Internal error: ").trim_start_matches("This feature is not implemented: ");
    let mut sentence = text.split(". ").next().unwrap_or(text).trim_end_matches('.');
    if sentence.len() > 100 {
        sentence = sentence.split_once(": ").map_or(sentence, |(first, _)| first);
    }
    let mut message: String = lower_first(sentence).chars().take(110).collect();
    if message.len() < sentence.len() {
        message.push('\u{2026}');
    }
    let told = Told::new(Code::SqlBinding, "in this SQL", message);
    // a function that explains itself begins with its name
    match text.split_once('(') {
        Some((name, _)) if !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
            told.at(name)
        }
        _ => told,
    }
}

/// The first letter in lower case, unless the word is an acronym.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !chars.as_str().starts_with(|c: char| c.is_uppercase()) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// A type as SQL calls it.
pub(super) fn sql_type(arrow: &str) -> String {
    let name = match arrow.split(['(', ' ', '<']).next().unwrap_or(arrow) {
        "Utf8" | "Utf8View" | "LargeUtf8" | "String" => "TEXT",
        "Int64" => "BIGINT",
        "Int32" => "INT",
        "Int16" => "SMALLINT",
        "Int8" => "TINYINT",
        "UInt64" | "UInt32" | "UInt16" | "UInt8" => "an unsigned number",
        "Float64" => "DOUBLE",
        "Float32" => "REAL",
        "Boolean" => "BOOLEAN",
        "Timestamp" => "TIMESTAMP",
        "Date32" | "Date64" => "DATE",
        "Time32" | "Time64" => "TIME",
        "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => "DECIMAL",
        "Interval" | "Duration" => "INTERVAL",
        "List" | "LargeList" | "FixedSizeList" | "ListView" => "a list",
        "Struct" => "a struct",
        "Map" => "a map",
        "Null" => "NULL",
        "Binary" | "LargeBinary" | "BinaryView" => "BYTEA",
        _ => return arrow.to_owned(),
    };
    name.to_owned()
}

/// `shop.visits.page` without its table; an expression stays as it is.
fn short(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '"'));
    let last = if plain { name.rsplit('.').next().unwrap_or(name) } else { name };
    last.trim_matches('"').to_owned()
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

/// Up to the bracket that closes what was opened before the text.
fn inside(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth < 0
    });
    &text[..end.unwrap_or(text.len())]
}

/// Splits where no bracket is open.
fn split<'t>(text: &'t str, separator: &str) -> Vec<&'t str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in text.char_indices() {
        depth += i32::from("([<".contains(c) && !separator.starts_with(' ') || c == '(');
        depth -= i32::from(")]>".contains(c) && !separator.starts_with(' ') || c == ')');
        if depth == 0 && at >= start && text[at..].starts_with(separator) {
            parts.push(&text[start..at]);
            start = at + separator.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> (&'static str, String, String) {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let functions = Functions { plain: names(&["upper", "sum", "cosh", "date_trunc"]), windows: names(&["rank"]) };
        let told = tell(text, &functions);
        (told.code.as_str(), told.message, told.help.unwrap_or_default())
    }

    #[test]
    fn unknown_functions_are_suggested_only_when_near() {
        let help = |name: &str| said(&format!("Invalid function '{name}'")).2;
        assert_eq!(help("uper"), "did you mean `upper`?");
        assert!(help("nosuchfn").starts_with("the functions are"), "{}", help("nosuchfn"));
        assert!(help("rank").contains("OVER"));
        assert!(help("dateadd").contains("interval"));
    }

    #[test]
    fn arguments_are_counted_and_no_bug_is_to_be_reported() {
        let cases = [
            (
                "Function 'upper' expects 1 arguments but received 2. No function matches",
                "`upper` takes 1 argument, not 2",
            ),
            ("The function 'nullif' expected 2 arguments but received 1", "`nullif` takes 2 arguments, not 1"),
            ("The function 'pi' expected zero argument but received 1", "`pi` takes no arguments, not 1"),
            ("'abs' does not support zero arguments", "`abs` needs an argument"),
            (
                "Function 'substr' failed to match any signature, errors: Function 'substr' expects 2 arguments but received 3,Function 'substr' requires String, but received Float64 (DataType: Float64).",
                "`substr` does not take DOUBLE",
            ),
            (
                "Function 'f' failed to match any signature, errors: Function 'f' expects 2 arguments but received 4,Function 'f' expects 3 arguments but received 4",
                "`f` takes 2 or 3 arguments, not 4",
            ),
            (
                "Function 'sum' failed to match any signature, errors: Function 'sum' requires Decimal, but received String (DataType: Utf8).",
                "`sum` does not take TEXT",
            ),
            (
                "Function 'date_trunc' failed to match any signature, errors: requires String, but received Timestamp(µs) (DataType: Timestamp(µs, \"UTC\")).",
                "`date_trunc` does not take TIMESTAMP",
            ),
            (
                "Failed to coerce arguments to satisfy a call to 'strpos' function: coercion from Utf8, Int64 to the signature X failed",
                "`strpos` does not take TEXT, BIGINT",
            ),
        ];
        for (text, expected) in cases {
            let (code, message, _) = said(text);
            assert_eq!((code, message.as_str()), ("K0307", expected));
        }
    }

    #[test]
    fn operators_name_both_types() {
        let (code, message, help) = said("Cannot coerce arithmetic expression Utf8 + Int64 to valid types");
        assert_eq!((code, message.as_str()), ("K0308", "`TEXT + BIGINT` has no meaning"));
        assert!(help.contains("||"));
        let text = "Cannot infer common argument type for comparison operation Timestamp(µs, \"UTC\") < Int64";
        assert_eq!(said(text).1, "`TIMESTAMP < BIGINT` has no meaning");
        let text = "There isn't a common type to coerce Int64 and Boolean in LIKE expression";
        assert_eq!(said(text).1, "`BIGINT LIKE BOOLEAN` has no meaning");
    }

    #[test]
    fn grouping_and_names_are_said_in_short() {
        let text = "Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column \"shop.visits.cookie\" must appear in the GROUP BY clause";
        assert_eq!(said(text).1, "`cookie` is neither grouped nor aggregated");
        let text = "Projections require unique expression names but the expression \"shop.visits.page AS a\" at position 0 and \"b AS a\" at position 1 have the same name";
        assert_eq!(said(text).1, "two columns are called `a`");
        assert_eq!(
            said("column `count(*)` cannot be stored under this name").2,
            "name it with AS, as in `count(*) AS count`"
        );
        assert_eq!(said("columns `id` and `id` differ only in case").1, "two columns are called `id`");
    }

    #[test]
    fn missing_tables_are_named_as_authors_write_them() {
        assert_eq!(said("table 'kinfold.models.pateint' not found").1, "no table `pateint`");
        assert_eq!(said("table 'kinfold.web.trcks' not found").1, "no table `web.trcks`");
    }

    #[test]
    fn what_is_not_known_is_shortened() {
        let (code, message, _) = said(&format!("Something is odd. {}", "x".repeat(300)));
        assert_eq!((code, message.as_str()), ("K0304", "something is odd"));
        assert!(said(&"y".repeat(300)).1.chars().count() <= 111);
    }
}
