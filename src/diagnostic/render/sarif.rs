//! Findings as SARIF 2.1.0, which code scanning services read.
//!
//! Every code is a rule, whether it was found or not, so that `ruleIndex` is its position in [`CODES`] and a
//! rule's text can be read without the tool. Lines and columns count from 1, columns in code points, ends are
//! exclusive, as SARIF has them. A finding without a place has that of `sources.yaml`, because services refuse a
//! result without one. Paths are relative to `%SRCROOT%`, which is the folder that was checked out;
//! where that is known as an absolute path it is said.

use super::{base_path, one_line, sorted};
use crate::diagnostic::{CODES, CodeText, Diagnostic, Severity, SourceMap, Span};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A SARIF log with one run; its `results` are empty when nothing was found. `base` is the project's folder, as
/// seen from the root of the repository, or absolute.
pub fn render_sarif(diagnostics: &[Diagnostic], sources: &SourceMap, base: &str) -> String {
    let absolute = base.starts_with('/');
    let root = if absolute {
        json!({ "uri": format!("file://{}/", encoded(base.trim_end_matches('/'))) })
    } else {
        json!({ "description": { "text": "the folder from which the project's folder was named" } })
    };
    let base = if absolute { "" } else { base };
    let results: Vec<Value> = sorted(diagnostics, sources).into_iter().map(|d| result(d, sources, base)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "kinfold",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": CODES.iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "%SRCROOT%": root },
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn rule(text: &CodeText) -> Value {
    json!({
        "id": text.code.as_str(),
        "name": format!("{:?}", text.code),
        "shortDescription": { "text": text.title },
        "fullDescription": { "text": text.cause },
        "help": {
            "text": format!("{}\n\nexample: {}\n\nfix: {}", text.cause, text.example, text.fix),
            "markdown": format!("{}\n\nExample:\n\n```text\n{}\n```\n\nFix: {}", text.cause, text.example, text.fix),
        },
    })
}

fn result(diagnostic: &Diagnostic, sources: &SourceMap, base: &str) -> Value {
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = |span: Span, text: Option<&str>| location(span, text, sources, base);
    let own = match diagnostic.span {
        Some(span) => place(span, diagnostic.label.as_deref()),
        None => physical(&base_path(base, "sources.yaml"), &json!({ "startLine": 1 })),
    };
    let mut result = json!({
        "ruleId": diagnostic.code.as_str(),
        "ruleIndex": CODES.iter().position(|c| c.code == diagnostic.code),
        "level": level,
        "message": { "text": message(diagnostic) },
        "locations": [own],
    });
    if !diagnostic.related.is_empty() {
        result["relatedLocations"] = diagnostic.related.iter().map(|(span, text)| place(*span, Some(text))).collect();
    }
    result
}

fn message(diagnostic: &Diagnostic) -> String {
    let mut text = one_line(&diagnostic.message);
    for note in &diagnostic.notes {
        let _ = write!(text, "\nnote: {}", one_line(note));
    }
    if let Some(help) = &diagnostic.help {
        let _ = write!(text, "\nhelp: {}", one_line(help));
    }
    text
}

fn location(span: Span, text: Option<&str>, sources: &SourceMap, base: &str) -> Value {
    let (line, column) = sources.line_column(span);
    let (end_line, end_column) = sources.end_line_column(span);
    let region = json!({ "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column });
    let mut location = physical(&base_path(base, sources.path(span)), &region);
    if let Some(text) = text {
        location["message"] = json!({ "text": one_line(text) });
    }
    location
}

fn physical(path: &str, region: &Value) -> Value {
    let artifact = json!({ "uri": encoded(path), "uriBaseId": "%SRCROOT%" });
    json!({ "physicalLocation": { "artifactLocation": artifact, "region": region } })
}

/// A path as a URI reference: everything but unreserved characters and `/` in percent.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::nasty;
    use super::*;

    fn rendered(base: &str) -> Value {
        let (list, map) = nasty();
        serde_json::from_str(&render_sarif(&list, &map, base)).expect("valid JSON")
    }

    #[test]
    fn results_point_to_their_rules() {
        let log = rendered("sub");
        let run = &log["runs"][0];
        let results = run["results"].as_array().expect("results");
        assert_eq!(results.len(), 3);
        for result in results {
            let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
            assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        }
        let place = &results[0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "sub/sources.yaml");
        assert_eq!(results[1]["level"], "warning");
        assert_eq!(run["columnKind"], "unicodeCodePoints");
    }

    #[test]
    fn regions_count_code_points_and_paths_are_uris() {
        let log = rendered("sub");
        let place = &log["runs"][0]["results"][1]["locations"][0]["physicalLocation"];
        // `key: "😀é"`: the value is three code points, quote included
        assert_eq!(place["region"], json!({ "startLine": 1, "startColumn": 7, "endLine": 1, "endColumn": 10 }));
        assert_eq!(place["artifactLocation"]["uri"], "sub/models/b%2C%3A%20100%25.yaml");
        let related = &log["runs"][0]["results"][2]["relatedLocations"][0];
        assert_eq!(related["message"]["text"], "first");
    }

    #[test]
    fn an_absolute_folder_is_the_base_of_relative_paths() {
        let log = rendered("/srv/my project/");
        let run = &log["runs"][0];
        assert_eq!(run["originalUriBaseIds"]["%SRCROOT%"]["uri"], "file:///srv/my%20project/");
        let place = &run["results"][1]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "models/b%2C%3A%20100%25.yaml");
    }

    #[test]
    fn nothing_found_is_a_whole_log_with_all_rules() {
        let text = render_sarif(&[], &SourceMap::default(), "");
        let log: Value = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(log["runs"][0]["results"], json!([]));
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"].as_array().map(Vec::len), Some(CODES.len()));
    }
}
