//! The language's small values as schemas: the same rules as the readers in `reader.rs` and `values.rs`.
//!
//! A pattern is written so that ECMAScript, Python and Rust read it alike: no look-around, no `\d`. Text that
//! takes a value from the environment is always allowed, since what stands there then is not known here.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::marker::PhantomData;

/// `${NAME}` or `${NAME:-default}`; `$${` is none.
const VARIABLE: &str = r"(^|[^$])\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}";
/// `{{ }}` or `{% %}`, where SQL is rendered.
const TEMPLATE: &str = r"\{\{|\{%";
const NAME: &str = r"^[a-z_][a-z0-9_]*$";
const FILLED: &str = r"\S";
const UNITS: &str = "us|microseconds?|ms|milliseconds?|s|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?";
const COMPARED: &str = r"(<=|>=|<>|!=|==|=|<|>)\s*[+-]?[0-9][0-9.eE+-]*\s*$";

/// A schema from its JSON; anything but an object would allow everything.
pub(super) fn schema(value: Value) -> Schema {
    Schema::try_from(value).unwrap_or_default()
}

/// Text that one of these patterns describes, and what to say about other text.
fn text(patterns: &[&str], otherwise: &str) -> Schema {
    let patterns: Vec<String> = patterns.iter().chain([&VARIABLE]).map(|p| format!("({p})")).collect();
    schema(json!({ "type": "string", "pattern": patterns.join("|"), "patternErrorMessage": otherwise }))
}

/// A value without keys of its own; `inline` ones are written out where they are used. None is described: an editor
/// would show that instead of what the key means.
macro_rules! value {
    ($(#[doc = $doc:literal])* $name:ident, $inline:literal, $schema:expr) => {
        $(#[doc = $doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                $inline
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

value! {
    /// Text, possibly empty.
    Text, true, schema(json!({ "type": "string" }))
}
value! {
    /// Text that is not blank.
    Filled, true, schema(json!({ "type": "string", "pattern": FILLED, "patternErrorMessage": "must not be blank" }))
}
value! {
    /// Text, a number, or true or false.
    Scalar, true, schema(json!({ "type": ["string", "number", "boolean"] }))
}
value! {
    /// A text, number, true, false or nothing: a SQL literal.
    Literal, true, schema(json!({ "anyOf": [{ "type": ["string", "number", "boolean"] }, { "enum": [null] }] }))
}
value! {
    /// A SQL expression.
    Sql, true, schema(json!({
        "type": ["string", "number", "boolean"], "pattern": FILLED, "patternErrorMessage": "must not be blank"
    }))
}
value! {
    /// Anything: the key is read and its value is not.
    Anything, true, Schema::default()
}
value! {
    /// Nothing after the colon.
    Nothing, true, schema(json!({ "enum": [null] }))
}
value! {
    /// True or false.
    Boolean, true, schema(json!({
        "type": ["boolean", "string"], "pattern": VARIABLE, "patternErrorMessage": "expected true or false"
    }))
}
value! {
    /// A whole number from 1.
    Count, true, schema(json!({
        "type": ["integer", "string"],
        "minimum": 1,
        "maximum": u32::MAX,
        "pattern": VARIABLE,
        "patternErrorMessage": "expected a whole number from 1"
    }))
}
value! {
    /// A number above 0.
    Rate, true, schema(json!({
        "type": ["number", "string"], "minimum": 0, "pattern": VARIABLE, "patternErrorMessage": "expected a number"
    }))
}
value! {
    /// An HTTP status, such as `429` or `5xx`.
    Status, true, schema(json!({
        "type": ["integer", "string"],
        "minimum": 200,
        "maximum": 599,
        "pattern": format!("^\\s*([2-5]xx|[2-5][0-9][0-9])\\s*$|{VARIABLE}"),
        "patternErrorMessage": "expected 200 to 599, or such as `5xx`"
    }))
}
value! {
    /// A whole number from 0.
    Whole, true, schema(json!({ "type": "integer", "minimum": 0 }))
}
value! {
    /// A name: a-z, 0-9 and _, not starting with a digit.
    Name, false, text(&[NAME], "names are a-z, 0-9 and _, not starting with a digit")
}
value! {
    /// A column of a table or model, such as `ehr.patients.email`: the last dot parts the two.
    ColumnPath, false, text(&[r"^\S+\.[^\s.]+$"], "expected `table.column`")
}
value! {
    /// A length of time: a whole number and a unit, such as `30 days`, `24 hours`, `90 minutes`, `1 week`. No months
    /// or years: they differ in length.
    Duration, false, text(
        &[&format!(r"^\s*0*[1-9][0-9]*\s*({UNITS})\s*$")],
        "expected a length of time, such as `30 days`, `24 hours`, `90 minutes` or `1 week`"
    )
}
value! {
    /// A length of time ago, such as `7 days`; `0 days` is as_of itself.
    Ago, false, {
        let mut ago = text(&[&format!(r"^\s*[0-9]+\s*({UNITS})\s*$")], "expected a length of time, such as `7 days`");
        for (key, value) in [("type", json!(["string", "integer"])), ("minimum", json!(0)), ("maximum", json!(0))] {
            ago.insert(key.to_owned(), value);
        }
        ago
    }
}
value! {
    /// A date (its first moment) or a time: `2026-03-31`, `2026-03-31 10:30`, `2026-03-31T00:00:00Z`. Without a zone
    /// it is in the project's `timezone`.
    Time, false, text(
        &[concat!(
            r"^\s*[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}",
            r"([Tt ][0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?)?\s*$"
        )],
        "expected YYYY-MM-DD, or YYYY-MM-DDTHH:MM:SSZ"
    )
}
value! {
    /// `UTC`, an offset such as `+01:00`, or a named zone such as `Europe/Berlin`.
    Zone, false, text(
        &[r"^(UTC|Z|[+-][0-9]{2}:?[0-9]{2}|[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*)+)$"],
        "expected `UTC`, `Europe/Berlin` or `+01:00`"
    )
}
value! {
    /// A share, such as `10%`.
    Percent, false, text(
        &[r"^\s*0*(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+)\s*%\s*$"],
        "expected 0% to 100%, such as `10%`"
    )
}
value! {
    /// A share where the key says that it is percent: `10` or `10%`.
    Share, false, {
        let number = r"^\s*0*(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+)\s*%?\s*$";
        let mut share = text(&[number], "expected 0 to 100, such as `10`");
        for (key, value) in [("type", json!(["string", "number"])), ("minimum", json!(0)), ("maximum", json!(100))] {
            share.insert(key.to_owned(), value);
        }
        share
    }
}
value! {
    /// Text that is not blank, or a number.
    Salt, true, schema(json!({
        "type": ["string", "number"], "pattern": FILLED, "patternErrorMessage": "must not be blank"
    }))
}
value! {
    /// A number of rows, or a comparison with one: `3`, `'> 2'`.
    RowComparison, false, {
        let mut count = text(&[&format!(r"^\s*{COMPARED}"), TEMPLATE], "expected a comparison with a number: '> 2'");
        count.insert("type".to_owned(), json!(["string", "number"]));
        count
    }
}
value! {
    /// A SQL expression compared with a number: `'amount >= 100'`.
    Comparison, false, text(
        &[&format!(r"[^\s<>=!]\s*{COMPARED}"), TEMPLATE],
        "expected SQL, a comparison and a number: 'amount >= 100'"
    )
}
value! {
    /// A number over all neighbour types, or a mapping with one by neighbour type.
    MaxLinks, false, {
        let count = Count::json_schema(&mut SchemaGenerator::default());
        schema(json!({ "anyOf": [count, { "type": "object", "additionalProperties": count }] }))
    }
}
value! {
    /// How a value gets one spelling: `none`, `trim`, `lower` (trims too), `email` (trimmed, lower case), `digits`,
    /// `phone(US)` (E.164, national numbers read in that region), or SQL over `value`.
    Normalizer, false, schema(json!({ "anyOf": [
        { "enum": ["none", "trim", "lower", "email", "digits", "phone(US)"] },
        text(
            &[
                r"^phone\s*\(\s*[A-Za-z]{2}\s*\)$",
                r"(^|[^A-Za-z0-9_])[Vv][Aa][Ll][Uu][Ee]([^A-Za-z0-9_]|$)",
                TEMPLATE,
            ],
            "use none, trim, lower, email, digits, phone(REGION), or SQL such as `upper(value)`"
        ),
    ] }))
}
value! {
    /// A SQL expression for one column; `*` would send whatever is added later.
    SentColumn, false, {
        let mut column = Sql::json_schema(&mut SchemaGenerator::default());
        column.insert("not".to_owned(), json!({ "type": "string", "pattern": r"(^\s*|\.)\*\s*$" }));
        column
    }
}

/// A schema made of another one.
macro_rules! wrapper {
    ($(#[doc = $doc:literal])* $name:ident, |$inner:ident| $schema:expr) => {
        $(#[doc = $doc])*
        pub(super) struct $name<T>(PhantomData<T>);

        impl<T: JsonSchema> JsonSchema for $name<T> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                format!("{}_{}", stringify!($name), T::schema_name()).into()
            }

            fn schema_id() -> Cow<'static, str> {
                format!("{}<{}>", stringify!($name), T::schema_id()).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let $inner = generator.subschema_for::<T>();
                schema($schema)
            }
        }
    };
}

wrapper! {
    /// One of a few words.
    Word, |word| json!({ "anyOf": [word, { "type": "string", "pattern": VARIABLE }] })
}
wrapper! {
    /// One, or a list of at least one.
    OneOrMany, |item| json!({ "anyOf": [item, { "type": "array", "items": item, "minItems": 1 }] })
}
wrapper! {
    /// A list of at least one.
    NonEmpty, |item| json!({ "type": "array", "items": item, "minItems": 1 })
}
wrapper! {
    /// A mapping whose keys are names.
    ByName, |item| json!({
        "type": "object",
        "propertyNames": {
            "pattern": NAME, "patternErrorMessage": "names are a-z, 0-9 and _, not starting with a digit"
        },
        "additionalProperties": item
    })
}
wrapper! {
    /// A mapping with any keys.
    ByKey, |item| json!({ "type": "object", "additionalProperties": item })
}
wrapper! {
    /// May be left empty after the colon.
    OrNothing, |inner| json!({ "anyOf": [inner, Nothing::json_schema(&mut SchemaGenerator::default())] })
}
