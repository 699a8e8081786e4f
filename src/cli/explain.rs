//! `kinfold explain K0102`

use super::args::{ExplainArguments, OutputFormat};
use super::exit::Exit;
use super::printer::Printer;
use crate::diagnostic::{Code, CodeText};
use crate::error::{Error, ErrorKind};
use serde_json::json;

pub(super) fn explain(arguments: &ExplainArguments, printer: &Printer) -> Exit {
    let code = arguments.code.trim();
    match Code::parse(code).and_then(Code::text) {
        Some(text) => {
            printer.data(&match arguments.output {
                OutputFormat::Text => as_text(text),
                OutputFormat::Json => as_json(text),
            });
            Exit::Ok
        }
        None => printer.error(
            &Error::new(ErrorKind::Usage, format!("no code `{code}`"))
                .with_help("codes look like K0102 and stand in brackets after `error`"),
        ),
    }
}

fn as_text(text: &CodeText) -> String {
    let CodeText { code, title, cause, example, fix } = text;
    format!("{code}: {title}\n\n{cause}\n\nexample:\n{}\n\nfix: {fix}\n", indented(example))
}

fn as_json(text: &CodeText) -> String {
    let CodeText { code, title, cause, example, fix } = text;
    let object = json!({ "code": code.as_str(), "title": title, "cause": cause, "example": example, "fix": fix });
    format!("{object:#}\n")
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n")
}
