//! Arguments and flags.

use super::completions::CompletionsArguments;
use super::man::ManArguments;
use super::run::RunArguments;
use super::schema::SchemaArguments;
use super::test::TestArguments;
use crate::engine::Resources;
use crate::error::{Error, ErrorKind, Result};
use crate::runner::{Options, Resend};
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

/// Stitch identities, fold profiles, decide audiences, sync: over raw tables, in one binary.
#[derive(Debug, Parser)]
#[command(name = "kinfold", version, about, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 a model, test or sync failed, 2 definitions or usage wrong, 3 a policy refused,
75 try again later, 130 interrupted. Data go to stdout, talk to stderr."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    #[command(flatten)]
    pub(super) project: ProjectArguments,
    /// Say less: no progress.
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// When to use colour in talk and help.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
    /// How talk on stderr is written; json is one object a line.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// How talk is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Build the models, commit their tables, then sync.
    #[command(after_help = "Examples:
  kinfold run
  kinfold run --select +searched_not_booked --as-of 2026-03-31
  kinfold run --full")]
    Run(RunArguments),
    /// Send what changed since each destination acknowledged it, of the models as they were committed last.
    #[command(after_help = "Examples:
  kinfold sync
  kinfold sync searched_not_booked_to_lake --plan
  kinfold sync retry searched_not_booked_to_lake")]
    Sync(super::sync::SyncArguments),
    /// Load and bind everything, without reading rows; print what is wrong.
    #[command(after_help = "Examples:
  kinfold check --select tag:recovery
  kinfold check --output github")]
    Check(super::check::CheckArguments),
    /// Say what a run would do, why, and what it would change of people's profiles; do none of it.
    #[command(after_help = "Example: kinfold plan --output markdown")]
    Plan(super::plan::PlanArguments),
    /// Run the unit tests; with --data the data tests.
    #[command(after_help = "Examples:
  kinfold test
  kinfold test --data --select patient")]
    Test(TestArguments),
    /// Print the project's definitions as JSON, to compare with later (`--select state:modified`).
    #[command(after_help = "Example: kinfold manifest > manifest.json")]
    Manifest,
    /// Print the first rows of a table.
    #[command(after_help = "Examples:
  kinfold show patient_profile --limit 3
  kinfold show web.tracks --output csv
  kinfold show audience searched_not_booked --count")]
    Show(ShowArguments),
    /// Ask a SQL question of the committed tables and the source tables.
    #[command(after_help = "Examples:
  kinfold query \"SELECT persona, count(*) FROM patient_profile GROUP BY 1\" --output csv
  kinfold query \"SELECT count(*) FROM patient\" --at-run 1")]
    Query(QueryArguments),
    /// Pages about the project, for people.
    #[command(after_help = "Example: kinfold docs build")]
    Docs(super::docs::DocsArguments),
    /// Look at the source tables.
    #[command(after_help = "Example: kinfold sources refresh --check")]
    Sources(super::sources::SourcesArguments),
    /// List the models in dependency order, without touching data.
    #[command(after_help = "Example: kinfold ls --sources --output mermaid")]
    Ls(super::ls::LsArguments),
    /// Say which columns a table or column comes from, and which depend on it.
    #[command(after_help = "Example: kinfold lineage patient_profile.email")]
    Lineage(super::lineage::LineageArguments),
    /// Say which privacy labels every column carries, from the sources to the destinations.
    #[command(after_help = "Examples:
  kinfold labels --select +searched_not_booked_to_lake
  kinfold labels suggest")]
    Labels(super::labels::LabelsArguments),
    /// Erase people: from tables, states and history, and at destinations; block what files bring of them later.
    #[command(after_help = "Example: kinfold forget email:ann@x.com --reason 'request 4711'")]
    Forget(super::forget::PersonArguments),
    /// Leave people out of all that is read from now on, until that is taken back.
    #[command(after_help = "Example: kinfold suppress email:ann@x.com --reason 'objection 12'")]
    Suppress(super::forget::PersonArguments),
    /// Take a suppression back.
    #[command(after_help = "Example: kinfold unsuppress email:ann@x.com --reason 'objection 12 withdrawn'")]
    Unsuppress(super::forget::PersonArguments),
    /// Check or print the log of what was done with people's data.
    #[command(after_help = "Examples:
  kinfold audit verify
  kinfold audit log --limit 20")]
    Audit(super::audit::AuditArguments),
    /// List the last runs and what they did.
    #[command(visible_alias = "runs")]
    #[command(after_help = "Examples:
  kinfold runs
  kinfold status --limit 1 --output json")]
    Status(StatusArguments),
    /// Say which rows of which tables differ between two runs.
    #[command(after_help = "Examples:
  kinfold diff 1 3
  kinfold diff 1 3 patient_profile --limit 10 --output json")]
    Diff(super::diff::DiffArguments),
    /// Say what old runs left that nobody needs, or remove it; join small files.
    #[command(after_help = "Examples:
  kinfold vacuum
  kinfold vacuum --apply")]
    Vacuum(super::vacuum::VacuumArguments),
    /// Make a new project that runs at once.
    #[command(after_help = "Example: kinfold init shop && cd shop && kinfold run")]
    Init(InitArguments),
    /// Explain a finding's code, such as K0102, why two identifiers are one entity, or why somebody is in an audience.
    #[command(after_help = "Examples:
  kinfold explain K0102
  kinfold explain identity email:ann@x.com phone:+12125550160
  kinfold explain identity email:ann@x.com --output mermaid
  kinfold explain audience searched_not_booked email:ann@x.com")]
    Explain(super::explain::ExplainArguments),
    /// Print the JSON Schema of the project's files, for editors.
    #[command(after_help = "Examples:
  kinfold schema models
  kinfold schema --write .kinfold/schema")]
    Schema(SchemaArguments),
    /// Print the script that completes commands and flags in a shell.
    #[command(after_help = "Example: kinfold completions bash > ~/.local/share/bash-completion/completions/kinfold")]
    Completions(CompletionsArguments),
    /// Print the manual page, or write those of all commands.
    #[command(after_help = "Examples:
  kinfold man | man -l -
  kinfold man --dir ~/.local/share/man/man1")]
    Man(ManArguments),
}

#[derive(Debug, Args)]
pub(super) struct ProjectArguments {
    /// Folder of the project.
    #[arg(long, global = true, default_value = ".", value_hint = ValueHint::DirPath)]
    project: PathBuf,
    /// Target of kinfold.yaml.
    #[arg(long, global = true)]
    target: Option<String>,
    /// Logical time, as 2026-03-31 or 2026-03-31T00:00:00Z.
    #[arg(long, global = true, value_parser = parse_time)]
    as_of: Option<DateTime<Utc>>,
    /// Variables, as name=value; may be repeated.
    #[arg(long, global = true, value_parser = parse_variable)]
    vars: Vec<(String, String)>,
    /// Threads; all cores by default.
    #[arg(long, global = true)]
    pub(super) threads: Option<usize>,
    /// Memory budget, as 8GB or 512MB; 60 % of RAM by default.
    #[arg(long, global = true, value_parser = parse_bytes)]
    memory: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct SelectArguments {
    /// Models: NAME, +NAME (with what it needs), NAME+ (with what needs it), 2+NAME, tag:X, kind:X, path:X, source:X,
    /// state:modified; a comma is an intersection; may be repeated.
    #[arg(long, short)]
    select: Vec<String>,
    /// Models to leave out, written as for --select.
    #[arg(long, short = 'x')]
    exclude: Vec<String>,
    /// Earlier manifest.json, or its folder, that state: compares with; target/manifest.json by default.
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
}

impl SelectArguments {
    pub(super) fn apply(&self, mut options: Options) -> Options {
        options.select.clone_from(&self.select);
        options.exclude.clone_from(&self.exclude);
        options.state.clone_from(&self.state);
        options
    }
}

/// Formats of what is no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    Text,
    Json,
}

/// Formats of rows on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowFormat {
    Text,
    Csv,
    Json,
}

#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(super) struct ShowArguments {
    #[command(subcommand)]
    pub(super) topic: Option<ShowTopic>,
    /// A model, one of its tables, or a source table.
    #[arg(required = true)]
    pub(super) name: Option<String>,
    /// How many rows.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub(super) limit: usize,
    /// Read the tables as they were after this run; source tables are as they are now.
    #[arg(long, value_name = "RUN")]
    pub(super) at_run: Option<u64>,
    /// Format of the rows.
    #[arg(long, short, value_enum, default_value_t = RowFormat::Text)]
    pub(super) output: RowFormat,
}

/// What is shown beside tables.
#[derive(Debug, Subcommand)]
pub(super) enum ShowTopic {
    /// Print the first members of an audience; with --count decide it anew, without committing anything.
    #[command(after_help = "Example: kinfold show audience searched_not_booked --count --limit 3")]
    Audience(ShowAudienceArguments),
}

#[derive(Debug, Args)]
pub(super) struct ShowAudienceArguments {
    /// The audience.
    pub(super) name: String,
    /// Decide who is in it by its present definition, and say how many.
    #[arg(long)]
    pub(super) count: bool,
    /// How many members.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub(super) limit: usize,
    /// Format of the answer; csv has only the members.
    #[arg(long, short, value_enum, default_value_t = RowFormat::Text)]
    pub(super) output: RowFormat,
}

#[derive(Debug, Args)]
pub(super) struct QueryArguments {
    /// One SQL query.
    pub(super) sql: String,
    /// Read the tables as they were after this run; source tables are as they are now.
    #[arg(long, value_name = "RUN")]
    pub(super) at_run: Option<u64>,
    /// Format of the rows.
    #[arg(long, short, value_enum, default_value_t = RowFormat::Text)]
    pub(super) output: RowFormat,
}

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// How many runs.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub(super) limit: usize,
    /// Format of the list.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    pub(super) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// Folder to make; it must be empty or absent.
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) directory: PathBuf,
    /// Format of what is said to be made.
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    pub(super) output: OutputFormat,
}

impl ProjectArguments {
    /// Options of the command, with this process's environment.
    pub(super) fn options(&self) -> Result<Options> {
        if !self.project.is_dir() {
            let message = format!("`{}` is no folder", self.project.display());
            return Err(Error::new(ErrorKind::Usage, message).with_help("give the project's folder with --project"));
        }
        let mut resources = Resources::of_machine();
        resources.threads = self.threads.unwrap_or(resources.threads).max(1);
        resources.memory_bytes = self.memory.unwrap_or(resources.memory_bytes);
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        Ok(Options {
            root: self.project.clone(),
            target: self.target.clone(),
            as_of: self.as_of,
            vars: self.vars.iter().cloned().collect(),
            select: Vec::new(),
            exclude: Vec::new(),
            state: None,
            full: false,
            resources,
            environment,
            now: Utc::now(),
            resend: Resend::default(),
        })
    }
}

fn parse_time(text: &str) -> std::result::Result<DateTime<Utc>, String> {
    if let Ok(time) = text.parse::<DateTime<Utc>>() {
        return Ok(time);
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|d| d.and_hms_opt(0, 0, 0));
    day.map(|d| d.and_utc()).ok_or_else(|| "write it as 2026-03-31 or 2026-03-31T00:00:00Z".to_owned())
}

fn parse_variable(text: &str) -> std::result::Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| "write it as name=value".to_owned())
}

fn parse_bytes(text: &str) -> std::result::Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let factor: f64 = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "K" | "KB" | "KIB" => 1024.0,
        "M" | "MB" | "MIB" => 1024.0 * 1024.0,
        "G" | "GB" | "GIB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("write it as 8GB or 512MB".to_owned()),
    };
    let number: f64 = text[..digits].parse().map_err(|_| "write it as 8GB or 512MB".to_owned())?;
    Ok((number * factor) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("512MB"), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5 GB"), Ok(3 << 29));
        assert!(parse_bytes("lots").is_err());
        assert_eq!(parse_time("2026-03-31").map(|t| t.to_rfc3339()), Ok("2026-03-31T00:00:00+00:00".to_owned()));
        assert!(parse_variable("=x").is_err());
    }
}
