//! The keys of `kind: sync`.

use super::models::About;
use super::values::{ByKey, Count, Duration, Filled, Name, OneOrMany, Percent, Rate, SentColumn, Word};
use schemars::JsonSchema;

/// Rows of a model to a destination; only what changed is sent.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Sync {
    /// What the document defines: a sync.
    kind: SyncKind,
    /// Name of the sync.
    name: Name,
    #[schemars(flatten)]
    about: About,
    /// The model whose rows are sent. An audience comes joined to its profile, with `entered_at` and `reason`.
    from: Filled,
    /// The destination, by its name in destinations.yaml.
    to: Filled,
    /// What happens there: `upsert` (insert and update), `insert`, `update`, `append` (every change as a row), `mirror`
    /// (upsert, and delete what left) or `replace` (the whole table, swapped).
    mode: Word<Mode>,
    /// Expression that names a row, such as `patient_id`.
    key: Filled,
    /// Column at the destination and its SQL expression, one by one; no `*`.
    #[schemars(extend("minProperties" = 1))]
    columns: ByKey<SentColumn>,
    /// What people must have agreed to; who did not is withheld.
    purpose: Option<Filled>,
    /// The channel that they must have agreed to.
    channel: Option<Filled>,
    /// That rows are groups of people: small ones are not sent, nor what would give them away.
    cells: Option<Cells>,
    /// A sync that would delete more than this share of the rows there stops; default `10%`.
    max_delete: Option<Percent>,
    /// Size and speed of what is sent.
    batch: Option<Batch>,
    /// How long a failed batch is tried again.
    retry: Option<Retry>,
    /// Share of rejected rows above which the sync fails.
    fail_above: Option<Percent>,
}

/// The word for a sync.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum SyncKind {
    Sync,
}

/// What happens at the destination.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum Mode {
    Upsert,
    Insert,
    Update,
    Append,
    Mirror,
    Replace,
}

/// Which groups are too small to be sent.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Cells {
    /// Column of `from`: how many people a row counts.
    count: Filled,
    /// Columns of `from` that name the group; null in one of them means all.
    by: Option<OneOrMany<Filled>>,
    /// The least that is sent, from 2; default 11.
    #[schemars(extend("minimum" = 2))]
    minimum: Option<Count>,
}

/// Size and speed of what is sent.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Batch {
    /// Most rows of a batch: of a request, a file or a statement.
    rows: Option<Count>,
    /// Most batches begun in a second; `0.5` is one every two seconds.
    per_second: Option<Rate>,
    /// Batches at once, where the destination takes several; default 1.
    concurrency: Option<Count>,
}

/// How long a failed batch is tried again.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Retry {
    /// Length of time; default `10 minutes`.
    r#for: Option<Duration>,
}
