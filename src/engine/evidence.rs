//! What the committed tables of an identity say about identifiers, entities and links, for explaining them.
//!
//! Single identifiers and entities are asked for with a filter. Links are needed as a whole (a chain may go
//! anywhere): the table is streamed once, its identifiers become codes, and of the texts only those that tell
//! a link's evidence are kept, as the columns they came in.

use super::Judged;
use super::bind::{Bound, plain};
use super::committed::TypedInterner;
use super::query::Reader;
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::identity::{ChainLink, Grounds, HubNote, Identifier, Member, NO_NODE, NO_TIME, Nodes};
use crate::model::{IdentifierType, IdentityModel, IdentityRule};
use datafusion::arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::functions::expr_fn::{levenshtein, starts_with};
use datafusion::logical_expr::{Expr, ident, lit};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many near identifiers are suggested.
const NEAR: usize = 3;

/// The links of an identity in codes.
pub struct LinkRows {
    /// The identifiers.
    pub nodes: Nodes,
    /// The links of the table; more may be added behind them, whose grounds are known elsewhere.
    pub links: Vec<ChainLink>,
    types: Vec<String>,
    evidence: Vec<EvidenceColumns>,
}

/// The evidence of consecutive links.
struct EvidenceColumns {
    /// Index of the first link.
    first: usize,
    reasons: StringArray,
    tables: StringArray,
    rows: StringArray,
}

impl Reader {
    /// What becomes of a raw text as an identifier of this type.
    ///
    /// # Errors
    /// A finding when the normaliser is wrong or fails on the text.
    pub fn judge(&self, identity: &str, kind: &IdentifierType, raw: &str) -> Bound<Judged> {
        let normalizer = super::identity::normalizer(&self.engine.parts(), identity, kind)?;
        normalizer.judge(raw).map_err(|e| {
            let finding = Diagnostic::error(Code::BadNormalize, kind.name.span, plain(&e));
            Box::new(finding.with_label(format!("fails on `{raw}`")))
        })
    }

    /// The rules of an identity with normalised identifiers, in their order.
    ///
    /// # Errors
    /// A finding when a normaliser is wrong.
    pub fn rules(&self, identity: &str, model: &IdentityModel) -> Bound<Vec<IdentityRule>> {
        let parts = self.engine.parts();
        let normalizers = model.identifiers.iter().map(|kind| super::identity::normalizer(&parts, identity, kind));
        let normalizers: Vec<_> = normalizers.map(|made| made.map(Arc::new)).collect::<Bound<_>>()?;
        // what is wrong with them was said when the project was checked
        Ok(super::identity_rules::spelled(model, &normalizers, &mut Vec::new()))
    }

    /// Those of the identifiers that belong to entities, in the order of their types and texts.
    ///
    /// # Errors
    /// `Usage` when the identity was never built; `Data` when its table cannot be read.
    pub async fn members(&self, identity: &str, wanted: &[Identifier]) -> Result<Vec<Member>> {
        let mut by_kind: BTreeMap<&str, Vec<Expr>> = BTreeMap::new();
        for identifier in wanted {
            by_kind.entry(&identifier.kind).or_default().push(lit(identifier.value.as_str()));
        }
        let of_kind = |(kind, values): (&str, Vec<Expr>)| {
            ident("identifier_type").eq(lit(kind)).and(ident("identifier").in_list(values, false))
        };
        match by_kind.into_iter().map(of_kind).reduce(Expr::or) {
            Some(filter) => self.members_where(identity, filter).await,
            None => Ok(Vec::new()),
        }
    }

    /// The identifiers of all entities whose id begins so.
    ///
    /// # Errors
    /// As [`Self::members`].
    pub async fn members_of(&self, identity: &str, id_prefix: &str) -> Result<Vec<Member>> {
        self.members_where(identity, starts_with(ident(format!("{identity}_id")), lit(id_prefix))).await
    }

    async fn members_where(&self, identity: &str, filter: Expr) -> Result<Vec<Member>> {
        let id = format!("{identity}_id");
        let columns = ["identifier_type", "identifier", id.as_str(), "first_seen", "last_seen"];
        let mut members = Vec::new();
        for batch in self.rows(identity, &columns, Some(filter)).await? {
            let [kinds, values, ids] = [0, 1, 2].map(|column| strings(&batch, column));
            let (kinds, values, ids) = (kinds?, values?, ids?);
            let (first, last) = (numbers(&batch, 3)?, numbers(&batch, 4)?);
            members.extend((0..batch.num_rows()).map(|row| Member {
                identifier: Identifier::new(kinds.value(row), values.value(row)),
                entity_id: ids.value(row).to_owned(),
                first_seen: first.is_valid(row).then(|| first.value(row)),
                last_seen: last.is_valid(row).then(|| last.value(row)),
            }));
        }
        members.sort_by(|left, right| left.identifier.cmp(&right.identifier));
        Ok(members)
    }

    /// All hubs.
    ///
    /// # Errors
    /// As [`Self::members`].
    pub async fn hubs(&self, identity: &str) -> Result<Vec<HubNote>> {
        let columns = ["identifier_type", "identifier", "neighbour_type", "links", "max_links"];
        // whether it was ever built is told of the identity, whose name the author knows
        self.table(identity).await?;
        let mut hubs = Vec::new();
        for batch in self.rows(&format!("{identity}_hubs"), &columns, None).await? {
            let [kinds, values, neighbours] = [0, 1, 2].map(|column| strings(&batch, column));
            let (kinds, values, neighbours) = (kinds?, values?, neighbours?);
            let (links, limits) = (numbers(&batch, 3)?, numbers(&batch, 4)?);
            hubs.extend((0..batch.num_rows()).map(|row| HubNote {
                identifier: Identifier::new(kinds.value(row), values.value(row)),
                links: links.value(row),
                max_links: limits.value(row),
                neighbour_type: text(&neighbours, row),
            }));
        }
        hubs.sort_by(|left, right| left.identifier.cmp(&right.identifier));
        Ok(hubs)
    }

    /// Identifiers of the same type that are spelled nearly alike, nearest first. Of numbers only one digit may
    /// differ: two wrong digits lead to strangers.
    ///
    /// # Errors
    /// As [`Self::members`].
    pub async fn near(&self, identity: &str, identifier: &Identifier) -> Result<Vec<Identifier>> {
        let is_word = identifier.value.chars().any(char::is_alphabetic);
        let bound = if is_word && identifier.value.chars().count() > 4 { 2 } else { 1 };
        let distance = levenshtein(ident("identifier"), lit(identifier.value.as_str()));
        let doing = || format!("cannot read `{identity}`");
        let near = self.table(identity).await?.filter(ident("identifier_type").eq(lit(identifier.kind.as_str())));
        let near = near
            .and_then(|frame| frame.select(vec![ident("identifier"), distance.alias("distance")]))
            .and_then(|frame| frame.filter(ident("distance").lt_eq(lit(bound))))
            .and_then(|frame| frame.sort_by(vec![ident("distance"), ident("identifier")]))
            .and_then(|frame| frame.limit(0, Some(NEAR)))
            .or_fail(ErrorKind::Data, doing)?;
        let mut found = Vec::new();
        for batch in near.collect().await.or_fail(ErrorKind::Data, doing)? {
            let values = strings(&batch, 0)?;
            found.extend(values.iter().flatten().map(|value| Identifier::new(identifier.kind.as_str(), value)));
        }
        Ok(found)
    }

    /// All links of an identity; `also` are identifiers that are to have a code even if nothing links them. Rows
    /// of types that are no longer defined are left out.
    ///
    /// # Errors
    /// As [`Self::members`].
    pub async fn links(&self, identity: &str, types: &[&str], also: &[Identifier]) -> Result<LinkRows> {
        let name = format!("{identity}_links");
        let doing = || format!("cannot read `{name}`");
        let columns = LINK_COLUMNS.map(ident);
        let frame = self.table(&name).await?.select(columns).or_fail(ErrorKind::Data, doing)?;
        let mut stream = frame.execute_stream().await.or_fail(ErrorKind::Data, doing)?;
        let mut loading = Loading { interner: TypedInterner::new(types), links: Vec::new(), evidence: Vec::new() };
        while let Some(batch) = stream.next().await {
            loading.take(&batch.or_fail(ErrorKind::Data, doing)?)?;
        }
        loading.intern(also)?;
        let Loading { interner, mut links, evidence } = loading;
        let nodes = interner.freeze();
        for link in &mut links {
            (link.a, link.b) = (nodes.dense(link.a), nodes.dense(link.b));
        }
        Ok(LinkRows { nodes, links, types: types.iter().map(ToString::to_string).collect(), evidence })
    }

    /// Columns of a committed table.
    async fn rows(&self, name: &str, columns: &[&str], filter: Option<Expr>) -> Result<Vec<RecordBatch>> {
        let doing = || format!("cannot read `{name}`");
        let mut frame = self.table(name).await?;
        if let Some(filter) = filter {
            frame = frame.filter(filter).or_fail(ErrorKind::Data, doing)?;
        }
        let columns: Vec<Expr> = columns.iter().map(|column| ident(*column)).collect();
        let frame = frame.select(columns).or_fail(ErrorKind::Data, doing)?;
        frame.collect().await.or_fail(ErrorKind::Data, doing)
    }

    async fn table(&self, name: &str) -> Result<DataFrame> {
        self.open(name, &mut Vec::new()).await?;
        let table = self.engine.context.table(TableReference::bare(name)).await;
        table.or_fail(ErrorKind::Data, || format!("cannot read `{name}`"))
    }
}

const LINK_COLUMNS: [&str; 9] = [
    "left_type",
    "left_identifier",
    "right_type",
    "right_identifier",
    "accepted",
    "first_seen",
    "reason",
    "table_name",
    "row_id",
];

/// Links while they are read; their ends are provisional codes.
struct Loading<'t> {
    interner: TypedInterner<'t>,
    links: Vec<ChainLink>,
    evidence: Vec<EvidenceColumns>,
}

impl Loading<'_> {
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let left = self.codes(&strings(batch, 0)?, &strings(batch, 1)?)?;
        let right = self.codes(&strings(batch, 2)?, &strings(batch, 3)?)?;
        let accepted: &BooleanArray = batch.column(4).as_boolean();
        let times = numbers(batch, 5)?;
        let known: BooleanArray = left.iter().zip(&right).map(|(a, b)| Some(*a != NO_NODE && *b != NO_NODE)).collect();
        let first = self.links.len();
        for row in (0..batch.num_rows()).filter(|row| known.value(*row)) {
            let first_seen = if times.is_valid(row) { times.value(row) } else { NO_TIME };
            self.links.push(ChainLink { a: left[row], b: right[row], counts: accepted.value(row), first_seen });
        }
        let kept = |column| {
            let kept = datafusion::arrow::compute::filter(&strings(batch, column)?, &known);
            kept.map(|kept| kept.as_string::<i32>().clone()).or_fail(ErrorKind::Data, unreadable)
        };
        self.evidence.push(EvidenceColumns { first, reasons: kept(6)?, tables: kept(7)?, rows: kept(8)? });
        Ok(())
    }

    fn intern(&mut self, also: &[Identifier]) -> Result<()> {
        let kinds = StringArray::from_iter_values(also.iter().map(|i| &i.kind));
        let values = StringArray::from_iter_values(also.iter().map(|i| &i.value));
        self.codes(&kinds, &values).map(drop)
    }

    fn codes(&mut self, kinds: &StringArray, values: &StringArray) -> Result<Vec<u32>> {
        self.interner.codes(kinds, values, None).or_fail(ErrorKind::Data, unreadable)
    }
}

impl LinkRows {
    /// The code of an identifier that a link or `also` has.
    pub fn code(&self, identifier: &Identifier) -> Option<u32> {
        let kind = self.types.iter().position(|kind| *kind == identifier.kind)?;
        self.nodes.lookup(u8::try_from(kind).ok()?, &identifier.value)
    }

    /// The identifier of a code.
    pub fn identifier(&self, node: u32) -> Identifier {
        let kind = &self.types[usize::from(self.nodes.type_of(node))];
        Identifier::new(kind.as_str(), self.nodes.text(node))
    }

    /// What a link of the table rests on, and why it does not count if it does not; `None` for those added.
    pub fn grounds(&self, link: u32) -> Option<(Grounds, Option<String>)> {
        let link = link as usize;
        let columns = &self.evidence[self.evidence.partition_point(|c| c.first <= link).checked_sub(1)?];
        let row = link - columns.first;
        if row >= columns.tables.len() {
            return None;
        }
        let at = Some(self.links[link].first_seen).filter(|time| *time != NO_TIME);
        let table = text(&columns.tables, row).unwrap_or_default();
        let refused = text(&columns.reasons, row);
        Some((Grounds::Row { table, row_id: text(&columns.rows, row), at }, refused))
    }
}

fn unreadable() -> String {
    "cannot read a committed table".to_owned()
}

/// A text of a column, unless it is null.
pub(super) fn text(column: &StringArray, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.value(row).to_owned())
}

/// A column as plain text.
pub(super) fn strings(batch: &RecordBatch, column: usize) -> Result<StringArray> {
    let texts = cast(batch.column(column), &DataType::Utf8).or_fail(ErrorKind::Data, unreadable)?;
    texts.as_string_opt::<i32>().cloned().ok_or_else(|| Error::new(ErrorKind::Data, unreadable()))
}

/// A column as whole numbers; times as microseconds.
pub(super) fn numbers(batch: &RecordBatch, column: usize) -> Result<Int64Array> {
    let times = matches!(batch.column(column).data_type(), DataType::Timestamp(..));
    let values = batch.column(column);
    let values = if times { cast(values, &super::time_type()) } else { Ok(values.clone()) };
    let numbers = values.and_then(|values| cast(&values, &DataType::Int64)).or_fail(ErrorKind::Data, unreadable)?;
    numbers.as_primitive_opt::<Int64Type>().cloned().ok_or_else(|| Error::new(ErrorKind::Data, unreadable()))
}
