//! `kinfold explain K0102`

use super::exit::Exit;
use super::printer::Printer;
use crate::diagnostic::Code;
use crate::error::{Error, ErrorKind};

pub(super) fn explain(code: &str, printer: &Printer) -> Exit {
    match Code::parse(code.trim()).and_then(Code::text) {
        Some(text) => {
            printer.data(&format!(
                "{}: {}\n\n{}\n\nexample:\n{}\n\nfix: {}\n",
                text.code,
                text.title,
                text.cause,
                indented(text.example),
                text.fix
            ));
            Exit::Ok
        }
        None => printer.error(
            &Error::new(ErrorKind::Usage, format!("no code `{code}`"))
                .with_help("codes look like K0102 and stand in brackets after `error`"),
        ),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n")
}
