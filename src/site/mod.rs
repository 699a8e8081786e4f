//! A static site about a project: a page for each model and source table, the graph, and the last run. Pure: values in,
//! files out. No data rows, no values of the environment, no scripts and nothing from another host, so that the folder may be
//! put anywhere.

mod drawing;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// All that the site tells.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Site {
    /// Name of the project.
    pub project: String,
    /// Models and source tables, by name.
    pub pages: BTreeMap<String, Page>,
    /// The newest run, if there was one.
    pub last_run: Option<LastRun>,
}

/// A model or a source table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Page {
    /// `sql`, `identity`, `profile`, `audience`, `sync` or `source`.
    pub kind: String,
    /// The defining file.
    pub path: String,
    /// Free text for people.
    pub description: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// What it reads directly.
    pub reads: BTreeSet<String>,
    /// What reads it directly.
    pub read_by: BTreeSet<String>,
    /// Its definition, as text.
    pub definition: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Rows of its main table after the last run that built it.
    pub rows: Option<u64>,
}

/// A column.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: String,
    /// Free text for people.
    pub description: Option<String>,
    /// Columns that it takes values from, directly.
    pub values_from: Vec<String>,
    /// Columns that influence which rows there are, directly.
    pub rows_from: Vec<String>,
}

/// The newest run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LastRun {
    /// Its number.
    pub run: u64,
    /// Its logical time.
    pub as_of: String,
    /// When it ended.
    pub ended_at: String,
}

const PAGE: &str = include_str!("page.html");
const INDEX: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");

/// The files of the site, by path.
///
/// # Errors
/// When a template is wrong, which a test excludes.
pub fn build(site: &Site) -> Result<BTreeMap<String, String>, minijinja::Error> {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.add_template("page.html", PAGE)?;
    templates.add_template("index.html", INDEX)?;
    templates.add_function("href", |name: String| file_name(&name));
    templates.add_function("table_of", |column: String| table_of(&column).to_owned());
    let mut files = BTreeMap::from([("style.css".to_owned(), STYLE.to_owned())]);
    let graph = drawing::draw(&edges(site), None);
    let index = templates.get_template("index.html")?;
    files.insert("index.html".to_owned(), index.render(context! { site => Value::from(Serde(site)), graph })?);
    let template = templates.get_template("page.html")?;
    let known: Vec<&String> = site.pages.keys().collect();
    let known = Value::from(Serde(known));
    for (name, page) in &site.pages {
        let near = drawing::draw(&neighbours(name, page), Some(name));
        let page = Value::from(Serde(page));
        let text =
            template.render(context! { site => &site.project, name, page, graph => near, known => known.clone() })?;
        files.insert(file_name(name), text);
    }
    Ok(files)
}

/// The file of a page; names are `a-z`, `0-9`, `_` and a dot.
fn file_name(name: &str) -> String {
    format!("{name}.html")
}

/// `web.tracks.email` → `web.tracks`, `patient.identifier` → `patient`.
fn table_of(column: &str) -> &str {
    column.rsplit_once('.').map_or(column, |(table, _)| table)
}

/// Who reads what, over the whole project.
fn edges(site: &Site) -> BTreeMap<String, drawing::Node> {
    let node = |page: &Page| drawing::Node { kind: page.kind.clone(), reads: page.reads.clone() };
    site.pages.iter().map(|(name, page)| (name.clone(), node(page))).collect()
}

/// A page with what stands directly before and behind it.
fn neighbours(name: &str, page: &Page) -> BTreeMap<String, drawing::Node> {
    let mut nodes = BTreeMap::new();
    let plain = |reads: BTreeSet<String>| drawing::Node { kind: String::new(), reads };
    for read in &page.reads {
        nodes.insert(read.clone(), plain(BTreeSet::new()));
    }
    for reader in &page.read_by {
        nodes.insert(reader.clone(), plain(BTreeSet::from([name.to_owned()])));
    }
    nodes.insert(name.to_owned(), drawing::Node { kind: page.kind.clone(), reads: page.reads.clone() });
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let page = |kind: &str, reads: &[&str], read_by: &[&str]| Page {
            kind: kind.to_owned(),
            description: Some("<script>alert('x')</script> & more".to_owned()),
            reads: reads.iter().map(ToString::to_string).collect(),
            read_by: read_by.iter().map(ToString::to_string).collect(),
            columns: vec![Column {
                name: "email".to_owned(),
                values_from: vec!["web.tracks.email".into()],
                ..Column::default()
            }],
            ..Page::default()
        };
        let pages = [
            ("web.tracks", page("source", &[], &["patient"])),
            ("patient", page("identity", &["web.tracks"], &["patient_profile"])),
            ("patient_profile", page("profile", &["patient", "web.tracks"], &[])),
        ];
        let pages = pages.into_iter().map(|(name, page)| (name.to_owned(), page)).collect();
        Site { project: "clinic".to_owned(), pages, last_run: None }
    }

    #[test]
    fn every_link_leads_somewhere() {
        let files = build(&site()).expect("the templates are sound");
        assert_eq!(files.len(), 5, "{:?}", files.keys());
        let mut links = 0;
        for (path, text) in files.iter().filter(|(path, _)| *path != "style.css") {
            for part in text.split("href=\"").skip(1) {
                let target = part.split('"').next().unwrap_or_default();
                assert!(files.contains_key(target), "{path} links to {target}");
                links += 1;
            }
        }
        assert!(links > 10, "{links}");
    }

    #[test]
    fn what_people_wrote_is_shown_as_text() {
        for (path, text) in build(&site()).expect("the templates are sound") {
            assert!(!text.contains("<script"), "{path}");
            assert!(!text.contains("http://") || text.contains("http://www.w3.org/2000/svg"), "{path}");
        }
    }
}
