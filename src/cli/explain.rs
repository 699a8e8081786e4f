//! `kinfold explain K0102`, and the topics of `kinfold explain`

use super::args::OutputFormat;
use super::exit::Exit;
use super::explain_audience::{AudienceArguments, audience};
use super::explain_consent::{ConsentArguments, consent};
use super::explain_identity::{IdentityArguments, identity};
use super::explain_plan::{PlanArguments, plan};
use super::printer::Printer;
use crate::diagnostic::{Code, CodeText};
use crate::error::{Error, ErrorKind};
use crate::runner::Options;
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true)]
pub(super) struct ExplainArguments {
    #[command(subcommand)]
    topic: Option<Topic>,
    /// The code, such as K0102.
    #[arg(required = true)]
    code: Option<String>,
    /// Format of the explanation; text by default.
    #[arg(long, short, value_enum)]
    output: Option<OutputFormat>,
}

/// What is explained beside codes.
#[derive(Debug, Subcommand)]
enum Topic {
    /// Say why two identifiers are one entity or are not, or what an entity is made of.
    #[command(after_help = "Examples:
  kinfold explain identity email:ann@x.com phone:+12125550160
  kinfold explain identity patient:8b2ccd1f --output mermaid")]
    Identity(IdentityArguments),
    /// Say why somebody is in an audience or is not: every condition, its value, and the rows behind it.
    #[command(after_help = "Examples:
  kinfold explain audience searched_not_booked email:ann@x.com
  kinfold explain audience searched_not_booked 8b2ccd1f --output json")]
    Audience(AudienceArguments),
    /// Say whether a sync may send somebody, by what people agreed to, and which answer decides.
    #[command(after_help = "Examples:
  kinfold explain consent callers_to_lake email:ann@x.com
  kinfold explain consent callers_to_lake 8b2ccd1f --output json")]
    Consent(ConsentArguments),
    /// Say how a profile or an audience reads its tables: which traits and conditions share a scan, and what it reads.
    #[command(after_help = "Example: kinfold explain plan patient_profile")]
    Plan(PlanArguments),
}

impl ExplainArguments {
    /// Whether the answer is in a project.
    pub(super) fn needs_project(&self) -> bool {
        self.topic.is_some()
    }
}

/// Explains something in a project.
pub(super) async fn topic(arguments: &ExplainArguments, options: &Options, printer: &Printer) -> Exit {
    if arguments.code.is_some() || arguments.output.is_some() {
        let error = Error::new(ErrorKind::Usage, "a code and `--output` before the topic have no meaning here");
        return printer.error(&error.with_help("write `kinfold explain identity TYPE:VALUE --output json`"));
    }
    match &arguments.topic {
        Some(Topic::Audience(arguments)) => audience(arguments, options, printer).await,
        Some(Topic::Consent(arguments)) => consent(arguments, options, printer).await,
        Some(Topic::Plan(arguments)) => plan(arguments, options, printer).await,
        Some(Topic::Identity(arguments)) => identity(arguments, options, printer).await,
        None => code(arguments, printer),
    }
}

/// Explains a code.
pub(super) fn code(arguments: &ExplainArguments, printer: &Printer) -> Exit {
    let code = arguments.code.as_deref().unwrap_or_default().trim();
    match Code::parse(code).and_then(Code::text) {
        Some(text) => {
            printer.data(&match arguments.output {
                None | Some(OutputFormat::Text) => as_text(text),
                Some(OutputFormat::Json) => as_json(text),
            });
            Exit::Ok
        }
        None => printer.error(&Error::new(ErrorKind::Usage, format!("no code `{code}`")).with_help(
            "codes look like K0102 and stand in brackets after `error`; `kinfold explain identity` is about people",
        )),
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
