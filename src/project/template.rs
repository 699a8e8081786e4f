//! SQL templates: `ref`, `source`, `var` and the macros of `macros/**/*.sql`.
//!
//! Text without template marks is passed through byte for byte. Line numbers are kept: macros are imported
//! in front of the first line, not above it. Undefined names are errors. Rendering reads nothing but its
//! arguments: no files, no environment, no clock.

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};
use regex::Regex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// Instructions that one text may take to render: far more than any sensible template needs, a fraction of a second.
const MOST_INSTRUCTIONS: u64 = 2_000_000;

/// A set of macros and variables that templates are rendered with.
pub(super) struct Templates {
    environment: Environment<'static>,
    imports: String,
}

/// Why a template cannot be rendered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// One line, lower case.
    pub message: String,
    /// The macro file that it is in; `None` is the rendered text itself.
    pub macro_file: Option<String>,
    /// Bytes of that text.
    pub range: Range<usize>,
    /// The next step, where one is known.
    pub help: Option<String>,
}

impl Templates {
    /// Templates that see these variables.
    pub(super) fn new(vars: &BTreeMap<String, String>) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_debug(true);
        environment.set_recursion_limit(64);
        environment.set_fuel(Some(MOST_INSTRUCTIONS));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.add_function("ref", |name: String| name);
        environment.add_function("source", |source: String, table: String| format!("{source}.{table}"));
        let values: BTreeMap<String, Value> = vars.iter().map(|(k, v)| (k.clone(), scalar(v))).collect();
        environment.add_function("var", move |name: String, default: Option<Value>| {
            values.get(&name).cloned().or(default).ok_or_else(|| {
                minijinja::Error::new(ErrorKind::UndefinedError, format!("the variable `{name}` is not set"))
            })
        });
        Self { environment, imports: String::new() }
    }

    /// Makes the macros of a file usable in every template.
    pub(super) fn add_macros(&mut self, path: &str, text: &str) -> Result<(), Failure> {
        self.environment
            .add_template_owned(path.to_owned(), text.to_owned())
            .map_err(|error| failure(&error, text, path, path, 0))?;
        let names = macro_names(text);
        if !names.is_empty() {
            let _ = write!(self.imports, "{{% from {path:?} import {} %}}", names.join(", "));
        }
        Ok(())
    }

    /// Renders `text`; `name` is its file.
    pub(super) fn render(&self, name: &str, text: &str) -> Result<String, Failure> {
        let full = format!("{}{text}", self.imports);
        self.environment
            .render_named_str(name, &full, ())
            .map_err(|error| failure(&error, text, name, name, self.imports.len()))
    }
}

/// Whether a SQL snippet in YAML is a template.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn macro_names(text: &str) -> Vec<&str> {
    let Ok(pattern) = Regex::new(r"\{%[-+]?\s*macro\s+([A-Za-z_][A-Za-z0-9_]*)") else { return Vec::new() };
    pattern.captures_iter(text).filter_map(|c| c.get(1)).map(|m| m.as_str()).collect()
}

/// A variable's text as the value that templates compare: only where it prints the same.
fn scalar(text: &str) -> Value {
    match text {
        "true" => return Value::from(true),
        "false" => return Value::from(false),
        _ => {}
    }
    if let Some(number) = text.parse::<i64>().ok().filter(|n| n.to_string() == text) {
        return Value::from(number);
    }
    match text.parse::<f64>().ok().filter(|n| n.is_finite() && n.to_string() == text) {
        Some(number) => Value::from(number),
        None => Value::from(text),
    }
}

const NO_END: &str = "the template does not come to an end";

fn failure(error: &minijinja::Error, text: &str, own: &str, name: &str, shift: usize) -> Failure {
    let inner = deepest(error);
    let detail = inner.detail().map_or_else(|| inner.kind().to_string(), |d| format!("{}: {d}", inner.kind()));
    let message = match (inner.kind(), inner.detail()) {
        (ErrorKind::UndefinedError, Some(detail)) => detail.to_owned(),
        (ErrorKind::OutOfFuel, _) => NO_END.to_owned(),
        (ErrorKind::UndefinedError, None) => "an undefined name is used".to_owned(),
        (ErrorKind::UnknownFunction, Some(detail)) => {
            format!("unknown function `{}`", detail.trim_end_matches(" is unknown"))
        }
        _ => detail,
    };
    let place = if inner.name().is_some() { inner } else { error };
    let macro_file = place.name().filter(|n| *n != name || own != name).map(str::to_owned);
    let range = place.range().unwrap_or(0..0);
    let range = if macro_file.is_some() {
        range
    } else {
        let start = range.start.saturating_sub(shift).min(text.len());
        start..range.end.saturating_sub(shift).min(text.len()).max(start)
    };
    let help = help_for(&message);
    Failure { message, macro_file, range, help }
}

fn deepest(error: &minijinja::Error) -> &minijinja::Error {
    let mut error = error;
    while let Some(inner) = std::error::Error::source(error).and_then(|s| s.downcast_ref::<minijinja::Error>()) {
        error = inner;
    }
    error
}

fn help_for(message: &str) -> Option<String> {
    let elsewhere = [
        ("config", "settings stand in the .yaml file beside the model, such as `materialized: view`"),
        (
            "is_incremental",
            "write the whole query, and `materialized: incremental` with `unique_key` beside it: which rows are new is found for you",
        ),
        ("env_var", "the environment is read in YAML as `${NAME}`; put it under `vars:` and use `var`"),
    ];
    let called = message.strip_prefix("unknown function `").and_then(|m| m.strip_suffix('`'));
    if let Some((_, help)) = elsewhere.iter().find(|(name, _)| called == Some(name)) {
        return Some((*help).to_owned());
    }
    if message.starts_with("the variable") {
        return Some("set it under `vars:` in kinfold.yaml or with `--vars`, or give `var` a default".to_owned());
    }
    if message == NO_END {
        return Some(format!("a text is rendered in at most {MOST_INSTRUCTIONS} steps: loop over fewer things"));
    }
    message
        .starts_with("unknown function")
        .then(|| "known functions: ref, source, var and the macros of macros/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates() -> Templates {
        let vars = BTreeMap::from([("days".to_owned(), "30".to_owned()), ("code".to_owned(), "007".to_owned())]);
        Templates::new(&vars)
    }

    #[test]
    fn names_and_variables() {
        let text = "select {{ var('days') + 1 }}, {{ var('code') }}, {{ var('no', 'x') }}\n\
                    from {{ ref('patient') }}, {{ source('web', 'tracks') }}\n";
        assert_eq!(templates().render("m.sql", text), Ok("select 31, 007, x\nfrom patient, web.tracks\n".to_owned()));
    }

    #[test]
    fn macros_keep_lines() {
        let mut templates = templates();
        let macros = "{# sums #}\n{% macro total(c) %}sum({{ c }}){% endmacro %}\n";
        assert_eq!(templates.add_macros("macros/a.sql", macros), Ok(()));
        assert_eq!(templates.render("m.sql", "select\n  {{ total('x') }}\n"), Ok("select\n  sum(x)\n".to_owned()));
    }

    #[test]
    fn failures_point_into_the_text() {
        let mut templates = templates();
        assert_eq!(templates.add_macros("macros/a.sql", "{% macro m() %}{{ nope }}{% endmacro %}"), Ok(()));
        let text = "select 1\nfrom {{ reff('x') }}";
        let failure = templates.render("m.sql", text).expect_err("unknown function");
        assert_eq!(&text[failure.range], "reff('x')");
        assert_eq!(failure.macro_file, None);
        let text = "select {{ var('nope') }}";
        let failure = templates.render("m.sql", text).expect_err("unknown variable");
        assert_eq!(failure.message, "the variable `nope` is not set");
        assert_eq!(&text[failure.range], "var('nope')");
        let failure = templates.render("m.sql", "select {{ m() }}").expect_err("undefined in a macro");
        assert_eq!(failure.macro_file.as_deref(), Some("macros/a.sql"));
        let failure = templates.render("m.sql", "select {{ x ").expect_err("syntax");
        assert!(failure.message.starts_with("syntax error"), "{}", failure.message);
        assert!(templates.add_macros("macros/b.sql", "{% macro %}").expect_err("syntax").range.end > 0);
    }
}
