//! JSON Schema (draft-07) of the project's files, for editors.
//!
//! The files are decoded by hand (the parent folder), because a mistake needs a place and a way out. Here is the same
//! shape a second time, as types whose doc comments describe the keys; nothing is decoded with them. Tests hold the
//! two together: the keys are those of the readers, and what a schema says of a document is what `check` says of
//! its shape.
//!
//! Rules: what a schema refuses `check` refuses too, so that an editor never marks what is right. References, SQL and what depends on other files are `check`'s part.

#[expect(dead_code, reason = "only the derived schema is used")]
mod audience;
#[expect(dead_code, reason = "only the derived schema is used")]
mod checks;
#[expect(dead_code, reason = "only the derived schema is used")]
mod consent;
#[expect(dead_code, reason = "only the derived schema is used")]
mod destinations;
#[expect(dead_code, reason = "only the derived schema is used")]
mod identity;
#[expect(dead_code, reason = "only the derived schema is used")]
mod models;
#[expect(dead_code, reason = "only the derived schema is used")]
mod profile;
#[expect(dead_code, reason = "only the derived schema is used")]
mod settings;
#[expect(dead_code, reason = "only the derived schema is used")]
mod sources;
#[expect(dead_code, reason = "only the derived schema is used")]
mod sync;
#[cfg(test)]
mod tests;
mod values;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

/// A kind of file that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// `kinfold.yaml`
    Kinfold,
    /// `sources.yaml`
    Sources,
    /// `destinations.yaml`
    Destinations,
    /// `models/**/*.yaml`
    Models,
}

impl FileKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Kinfold, Self::Sources, Self::Destinations, Self::Models];

    /// The kind's word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kinfold => "kinfold",
            Self::Sources => "sources",
            Self::Destinations => "destinations",
            Self::Models => "models",
        }
    }

    /// Name of the schema's file.
    pub fn file_name(self) -> String {
        format!("{}.schema.json", self.word())
    }

    /// The schema.
    pub fn schema(self) -> Value {
        let generator = SchemaSettings::draft07()
            .with(|s| s.transforms.insert(0, Box::new(RecursiveTransform(tidy as fn(&mut Schema)))))
            .into_generator();
        let schema = match self {
            Self::Kinfold => generator.into_root_schema_for::<settings::SettingsFile>(),
            Self::Sources => generator.into_root_schema_for::<sources::SourcesFile>(),
            Self::Destinations => generator.into_root_schema_for::<destinations::DestinationsFile>(),
            Self::Models => generator.into_root_schema_for::<models::ModelFile>(),
        };
        schema.to_value()
    }

    /// The schema's text, as it stands in its file.
    pub fn text(self) -> String {
        format!("{:#}\n", self.schema())
    }
}

/// A key that may be left out is not one that may be empty: takes the `null` away that an `Option` brings. Where
/// nothing is a value, it stands as a word (`enum: [null]`). Descriptions become one line.
fn tidy(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(words)) = object.get_mut("enum")
        && words.len() > 1
    {
        words.retain(|w| !w.is_null());
    }
    if let Some(Value::Array(alternatives)) = object.get_mut("anyOf") {
        alternatives.retain(|a| a.get("type") != Some(&Value::from("null")));
        if let [Value::Object(only)] = alternatives.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}
