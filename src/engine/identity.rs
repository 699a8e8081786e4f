//! The identity stage: binds an identity model, streams its link tables into the stitching core and shapes
//! the result as tables.
//!
//! What is decided here: which expressions of a row are raw identifiers, and which of them own it. Rows are read
//! in `link_rows`, where raw texts become identifiers (normalise, then block). What is decided in
//! [`crate::identity`]: everything about links and entities.

use super::entities::{Entities, EntitySlot};
use super::functions::{Judged, Normalizer};
use super::identity_report::SourceRows;
use super::identity_rules::{self, KnownRules};
use super::link_rows::{self, Collected};
use super::proofs::Proofs;
use super::registry::{Known, Registry};
use super::text_spill::TextSpill;
use super::{EngineParts, Relation, time_type};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::error::{Context, ErrorKind, Result};
use crate::identity::{
    Assigned, BridgeInput, Cause, CauseInput, Change, EntityId, HUB, Holdings, IdInput, Link, MaxLinks, RowOwners,
    StitchInput, Stitched, Suspects, TypePolicy, assign_ids, find_causes, find_suspects, naming_bytes, stitch,
    stitching_bytes,
};
use crate::model::{self, IdentityModel, IdentityRule, Normalize};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{
    Case, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF, cast, ident, lit,
};
use datafusion::prelude::SessionContext;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many suspects a run lists; the report says how many there are.
const MOST_SUSPECTS: usize = 1000;

/// How a table's rows find their entity.
#[derive(Debug, Clone, Default)]
pub(super) struct Ownership {
    /// By link, identifier types and raw expressions in owner order, and the link's `where`.
    links: Vec<(Vec<(u8, Expr)>, Option<Expr>)>,
}

impl Ownership {
    /// Adds a link of the table: its identifiers in owner order, and the rows that it is about.
    fn add(&mut self, identifiers: Vec<(u8, Expr)>, filter: Option<Expr>) {
        self.links.push((identifiers, filter));
    }

    /// The identifiers of all links in which a row looks for its entity. A row that some link's `where` takes asks those
    /// links only; one that all of them leave out still belongs to whom it names.
    pub(super) fn identifiers(&self) -> (Vec<u8>, Vec<Expr>) {
        let among = |rows: Option<Expr>, identifier: &Expr| match rows {
            Some(rows) => Expr::Case(Case::new(None, vec![(Box::new(rows), Box::new(identifier.clone()))], None)),
            None => identifier.clone(),
        };
        let (mut types, mut found) = (Vec::new(), Vec::new());
        let mut add = |links: &[(Vec<(u8, Expr)>, Option<Expr>)], rows: &dyn Fn(&Option<Expr>) -> Option<Expr>| {
            for (identifiers, filter) in links {
                types.extend(identifiers.iter().map(|(kind, _)| *kind));
                found.extend(identifiers.iter().map(|(_, identifier)| among(rows(filter), identifier)));
            }
        };
        if self.links.len() == 1 {
            add(&self.links, &|_| None);
            return (types, found);
        }
        add(&self.links, &Clone::clone);
        let filters: Option<Vec<Expr>> = self.links.iter().map(|(_, filter)| filter.clone()).collect();
        if let Some(taken) = filters.and_then(|filters| filters.into_iter().reduce(Expr::or)) {
            add(&self.links, &|_| Some(taken.clone().is_not_true()));
        }
        (types, found)
    }
}

/// A bound link table.
#[derive(Debug, Clone)]
pub(super) struct BoundLinks {
    pub table: String,
    /// Raw identifiers, the time, and the row id if there is one.
    pub plan: LogicalPlan,
    pub types: Vec<u8>,
    pub owner: Owner,
}

/// The identifier columns of a link table in which a row looks for its entity.
#[derive(Debug, Clone, Default)]
pub(super) struct Owner {
    /// Those whose type has no `max_links`: never hubs.
    pub certain: Vec<usize>,
    /// Those that may hold hubs.
    pub others: Vec<usize>,
}

/// A bound identity model.
#[derive(Debug, Clone)]
pub(super) struct BoundIdentity {
    pub name: String,
    pub slot: EntitySlot,
    pub owners: BTreeMap<String, Ownership>,
    /// Normalised expression by (table, raw column): an attribute over it gets identifiers, not raw text.
    pub columns: BTreeMap<(String, String), Expr>,
    pub links: Vec<BoundLinks>,
    /// The rules with normalised identifiers, in the order of the model's.
    pub rules: Vec<IdentityRule>,
    policies: Vec<TypePolicy>,
}

/// What one run of the stage made.
pub(super) struct StitchedRun {
    pub entities: Arc<Entities>,
    pub links: Vec<Link>,
    /// By link, the row that proves it.
    pub proofs: Proofs,
    /// Tells whether the texts of identifiers that are on disk could be read.
    pub texts: Arc<TextSpill>,
    /// Without the entity of each identifier, which `entities` has.
    pub stitched: Stitched,
    /// Without the ids, which `entities` has.
    pub assigned: Assigned,
    /// What else is told.
    pub found: Found,
    /// What the links hold of the memory budget, given back with them.
    pub _link_memory: MemoryReservation,
}

/// What is found beside the entities.
pub(super) struct Found {
    pub tables: Vec<String>,
    /// By change of an entity, why.
    pub causes: Vec<Option<Cause>>,
    pub holdings: Holdings,
    pub suspects: Suspects,
    pub sources: Vec<SourceRows>,
    /// The rules whose identifiers occur.
    pub rules: KnownRules,
    /// Identifiers, with their types, that had an id and no longer occur.
    pub gone: Vec<(String, String)>,
}

/// Binds the model against its link tables.
pub(super) fn bind(
    parts: &EngineParts<'_>,
    name: &str,
    model: &IdentityModel,
    relations: &BTreeMap<String, Relation>,
    findings: &mut Vec<Diagnostic>,
) -> Option<BoundIdentity> {
    let before = findings.len();
    let mut normalizers = Vec::new();
    for kind in &model.identifiers {
        match normalizer(parts, name, kind) {
            Ok(n) => normalizers.push(Arc::new(n)),
            Err(finding) => findings.push(*finding),
        }
    }
    if findings.len() > before {
        return None;
    }
    let mut of_rules = Vec::new();
    let rules = identity_rules::spelled(model, &normalizers, &mut of_rules);
    let rules_hold = of_rules.iter().all(|finding| finding.severity == Severity::Warning);
    let mut bound = BoundIdentity {
        name: name.to_owned(),
        slot: EntitySlot::new(name, normalizers),
        owners: BTreeMap::new(),
        columns: BTreeMap::new(),
        links: Vec::new(),
        rules,
        policies: policies(model),
    };
    for link in &model.links {
        let Some(relation) = relations.get(&link.from.value) else { continue };
        bind_link(parts, model, link, relation, &mut bound, findings);
    }
    let holds = rules_hold && findings.len() == before;
    findings.extend(of_rules);
    holds.then_some(bound)
}

/// Compiles the normaliser of an identifier type.
pub(super) fn normalizer(
    parts: &EngineParts<'_>,
    identity: &str,
    kind: &model::IdentifierType,
) -> super::bind::Bound<Normalizer> {
    let sql = match &kind.normalize {
        Normalize::Sql(sql) => {
            let failed = |e| Box::new(parts.binder().finding(&e, sql, &kind.name.value));
            let schema = DFSchema::try_from(Normalizer::raw_schema()).map_err(failed)?;
            let expr = parts.binder().expression(sql, &schema, &kind.name.value)?;
            Some(super::wide::physical(parts.state, expr, &schema).map_err(failed)?)
        }
        _ => None,
    };
    Normalizer::new(identity, kind, sql).map_err(|e| {
        let finding = Diagnostic::error(Code::BadNormalize, kind.name.span, super::bind::plain(&e));
        Box::new(finding.with_label("cannot be normalised"))
    })
}

fn type_code(model: &IdentityModel, name: &str) -> Option<u8> {
    model.identifiers.iter().position(|i| i.name.value == name).and_then(|i| u8::try_from(i).ok())
}

fn policies(model: &IdentityModel) -> Vec<TypePolicy> {
    let limits = |limits: &Option<model::MaxLinks>| match limits {
        None => MaxLinks::None,
        Some(model::MaxLinks::Any(n)) => MaxLinks::Any(*n),
        Some(model::MaxLinks::ByType(by)) => {
            let of = |i: &model::IdentifierType| by.iter().find(|(t, _)| t.value == i.name.value).map(|(_, n)| *n);
            MaxLinks::ByNeighbour(model.identifiers.iter().map(of).collect())
        }
    };
    let policy = |i: &model::IdentifierType| TypePolicy {
        name: i.name.value.clone(),
        max_links: limits(&i.max_links),
        max_per_entity: i.max_per_entity.as_ref().map(|m| m.count.value),
        within: i.max_per_entity.as_ref().and_then(|m| m.within.as_ref()).map(|d| d.value.micros),
    };
    model.identifiers.iter().map(policy).collect()
}

fn bind_link(
    parts: &EngineParts<'_>,
    model: &IdentityModel,
    link: &model::LinkTable,
    relation: &Relation,
    bound: &mut BoundIdentity,
    findings: &mut Vec<Diagnostic>,
) {
    let schema = relation.plan.schema();
    let mut identifiers: Vec<(u8, Expr)> = Vec::new();
    for id in &link.ids {
        let Some(code) = type_code(model, &id.identifier.value) else { continue };
        for sql in &id.expressions {
            let raw = match parts.binder().expression(sql, schema, &link.from.value) {
                Ok(raw) => raw,
                Err(finding) => {
                    findings.push(*finding);
                    continue;
                }
            };
            let column = (link.from.value.clone(), raw_column(&raw));
            let raw = as_text(raw, schema);
            if let (table, Some(column)) = column {
                let normalizer = Arc::clone(bound.slot.normalizer(code));
                let identifier = ScalarUDF::new_from_shared_impl(normalizer as _).call(vec![raw.clone()]);
                bound.columns.insert((table, column), identifier);
            }
            identifiers.push((code, raw));
        }
    }
    let filter = link.filter.as_ref().map(|f| parts.binder().predicate(f, schema, &link.from.value));
    let filter = match filter {
        Some(Err(finding)) => {
            findings.push(*finding);
            None
        }
        Some(Ok(expr)) => Some(expr),
        None => None,
    };
    let owner_columns = owner_columns(model, link, &identifiers);
    let (certain, others) = owner_columns.iter().partition(|column| !may_be_hub(model, identifiers[**column].0));
    let own = owner_columns.iter().map(|column| identifiers[*column].clone()).collect();
    bound.owners.entry(link.from.value.clone()).or_default().add(own, filter.clone());
    match link_plan(relation, &identifiers, filter) {
        Ok(plan) => bound.links.push(BoundLinks {
            table: link.from.value.clone(),
            plan,
            types: identifiers.iter().map(|i| i.0).collect(),
            owner: Owner { certain, others },
        }),
        Err(e) => findings.push(parts.binder().finding(&e, &link.from, &link.from.value)),
    }
}

/// Places of the identifiers in `owner:` order, else in the order of `identifiers`.
fn owner_columns(model: &IdentityModel, link: &model::LinkTable, identifiers: &[(u8, Expr)]) -> Vec<usize> {
    let order: Vec<u8> = if link.owner.is_empty() {
        (0..model.identifiers.len()).filter_map(|i| u8::try_from(i).ok()).collect()
    } else {
        link.owner.iter().filter_map(|o| type_code(model, &o.value)).collect()
    };
    let of_type = |code: u8| (0..identifiers.len()).filter(move |column| identifiers[*column].0 == code);
    order.into_iter().flat_map(of_type).collect()
}

fn may_be_hub(model: &IdentityModel, code: u8) -> bool {
    model.identifiers[usize::from(code)].max_links.is_some()
}

fn raw_column(expr: &Expr) -> Option<String> {
    if let Expr::Column(column) = expr { Some(column.name.clone()) } else { None }
}

/// An expression as text, without work where it is text already.
fn as_text(expr: Expr, schema: &DFSchema) -> Expr {
    match expr.get_type(schema) {
        Ok(DataType::Utf8 | DataType::Utf8View) => expr,
        _ => cast(expr, DataType::Utf8),
    }
}

/// Projects a link table to its identifiers, the time and the row id.
fn link_plan(
    relation: &Relation,
    identifiers: &[(u8, Expr)],
    filter: Option<Expr>,
) -> datafusion::error::Result<LogicalPlan> {
    let mut builder = LogicalPlanBuilder::from(relation.plan.clone());
    if let Some(filter) = filter {
        builder = builder.filter(filter)?;
    }
    let mut columns: Vec<Expr> =
        identifiers.iter().enumerate().map(|(i, (_, e))| e.clone().alias(format!("__i{i}"))).collect();
    columns.push(match &relation.time {
        Some(time) => cast(cast(ident(time), time_type()), DataType::Int64).alias("__time"),
        None => lit(datafusion::common::ScalarValue::Int64(None)).alias("__time"),
    });
    if let Some(row_id) = &relation.row_id {
        columns.push(as_text(ident(row_id), relation.plan.schema()).alias("__row"));
    }
    builder.project(columns)?.build()
}

impl BoundIdentity {
    /// Identifier type names, strongest first.
    pub(super) fn type_names(&self) -> Vec<&str> {
        self.policies.iter().map(|p| p.name.as_str()).collect()
    }

    /// The entity of `type:value`, or with an id, as people write it; or why there is none.
    pub(super) fn entity_of(&self, entities: &Entities, text: &str) -> Result<u32, String> {
        let Some((kind, value)) = text.split_once(':') else {
            if text.parse::<EntityId>().is_err() {
                return Err("neither `type:value` nor an entity id".to_owned());
            }
            return entities.of_id(text).ok_or_else(|| "nobody has this entity id".to_owned());
        };
        let code = self.policies.iter().position(|p| p.name == kind).and_then(|code| u8::try_from(code).ok());
        let code = code.ok_or_else(|| format!("`{kind}` is no identifier type of `{}`", self.name))?;
        let spelled = match self.slot.normalizer(code).judge(value) {
            Ok(Judged::Identifier(spelled)) => spelled,
            Ok(Judged::Blocked { by, .. }) => return Err(format!("blocked by `{by}`: it never identifies anyone")),
            Ok(Judged::Nothing) => return Err(format!("not a value of `{kind}`: normalising leaves nothing")),
            Err(error) => return Err(format!("cannot be normalised: {error}")),
        };
        let hub = || entities.is_hub(code, &spelled);
        let why = || if hub() { "a hub, which belongs to nobody" } else { "nobody has this identifier" };
        entities.of_identifier(code, &spelled).ok_or_else(|| why().to_owned())
    }

    /// Streams all link tables, stitches, and names the entities.
    ///
    /// # Errors
    /// When a table cannot be read, or holds more identifiers than an identity can, or than there is memory for.
    pub(super) async fn run(
        &self,
        context: &SessionContext,
        registry: Registry,
        key: &[u8],
        threads: usize,
    ) -> Result<StitchedRun> {
        let types = &self.policies;
        let sizes = (types.len(), registry.rows);
        let mut rows = link_rows::collect(context, &self.links, &self.slot, sizes, threads).await?;
        let rules = KnownRules::new(&self.rules, &rows.nodes, types);
        let stitched = stitch(&self.stitch_input(&rows, &rules, threads));
        let owners = std::mem::take(&mut rows.owners);
        let sources = self.sources(owners, |code| is_hub(stitched.entity[rows.nodes.dense(code) as usize]));
        rows.make_room(stitching_bytes(rows.nodes.len(), registry.rows) + naming_bytes(stitched.entities as usize))?;
        let Known { rows: registered, gone } = registry.read(&self.type_names(), &rows.nodes, threads).await?;
        let (nodes, links) = (&rows.nodes, &rows.links);
        let assigned =
            assign_ids(&IdInput { types, nodes, stitched: &stitched, registered: &registered, key, threads });
        let causes = find_causes(&CauseInput {
            stitch: &self.stitch_input(&rows, &rules, threads),
            stitched: &stitched,
            assigned: &assigned,
            registered: &registered,
        });
        drop(registered);
        let holdings = Holdings::new(types, nodes, &stitched);
        let always = &rules.always;
        let suspects = find_suspects(
            &BridgeInput { nodes, links, always, stitched: &stitched, holdings: &holdings, threads },
            MOST_SUSPECTS,
        );
        rows.texts.check().or_fail(ErrorKind::Storage, || format!("cannot name the entities of `{}`", self.name))?;
        let tables = self.links.iter().map(|l| l.table.clone()).collect();
        Ok(self.keep(rows, (stitched, assigned), Found { tables, causes, holdings, suspects, sources, rules, gone }))
    }

    fn stitch_input<'a>(&'a self, rows: &'a Collected, rules: &'a KnownRules, threads: usize) -> StitchInput<'a> {
        let (always, never) = (&rules.always, &rules.never);
        StitchInput { types: &self.policies, nodes: &rows.nodes, links: &rows.links, always, never, threads }
    }

    /// Gives the entities to all who ask for them, and accounts for what is kept.
    fn keep(&self, rows: Collected, (mut stitched, mut assigned): (Stitched, Assigned), found: Found) -> StitchedRun {
        let Collected { nodes, spellings, links, proofs, texts, identifier_memory, link_memory, .. } = rows;
        let (entity, ids) = (std::mem::take(&mut stitched.entity), std::mem::take(&mut assigned.ids));
        identifier_memory.grow(entity.capacity() * size_of::<u32>() + ids.capacity() * size_of::<EntityId>());
        let Assigned { created, changes, newly_registered, .. } = &assigned;
        let numbers = created.capacity() + newly_registered.capacity() + 2 * found.holdings.sizes.capacity();
        link_memory.grow(numbers * size_of::<u32>() + changes.capacity() * size_of::<(Change, Option<Cause>)>());
        rows.working_memory.free();
        let entities = Arc::new(Entities::new(nodes, spellings, entity, ids).accounted_for(identifier_memory));
        self.slot.fill(Arc::clone(&entities));
        StitchedRun { entities, links, proofs, texts, stitched, assigned, found, _link_memory: link_memory }
    }

    /// By table, in the order of `links`, its rows and how many of them belong to an entity.
    fn sources(&self, owners: Vec<(u16, RowOwners)>, is_hub: impl Fn(u32) -> bool) -> Vec<SourceRows> {
        let mut sources: Vec<SourceRows> = Vec::new();
        for table in self.links.iter().map(|l| &l.table) {
            if sources.iter().all(|s| s.table != *table) {
                sources.push(SourceRows { table: table.clone(), rows: 0, resolved: 0 });
            }
        }
        for (number, owners) in owners {
            let table = &self.links[usize::from(number)].table;
            for source in sources.iter_mut().filter(|s| s.table == *table) {
                source.rows += owners.rows();
                source.resolved += owners.owned(&is_hub);
            }
        }
        sources
    }
}

/// Whether an identifier belongs to an entity.
pub(super) fn is_hub(entity: u32) -> bool {
    entity == HUB
}
