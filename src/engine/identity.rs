//! The identity stage: binds an identity model, streams its link tables into the stitching core and shapes
//! the result as tables.
//!
//! What is decided here: how a row's raw columns become identifiers (normalise, then block), and which
//! expressions own a row. What is decided in [`crate::identity`]: everything about links and entities.

use super::entities::{Entities, EntitySlot};
use super::functions::Normalizer;
use super::{EngineParts, Relation, time_type};
use crate::diagnostic::{Code, Diagnostic};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::identity::{
    Evidence, HUB, IdInput, Interner, LinkSet, Links, MaxLinks, NO_NODE, NO_TIME, Nodes, Registered, Scratch,
    StitchInput, Stitched, TypePolicy, assign_ids, stitch,
};
use crate::model::{self, IdentityModel, Normalize, Verdict};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, cast, ident, lit};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream_partitioned};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// How a table's rows find their entity: identifier types and normalised expressions in owner order.
#[derive(Debug, Clone, Default)]
pub(super) struct Ownership {
    pub types: Vec<u8>,
    pub identifiers: Vec<Expr>,
}

/// A bound link table.
#[derive(Debug, Clone)]
pub(super) struct BoundLinks {
    table: String,
    pub plan: LogicalPlan,
    pub types: Vec<u8>,
    has_row_id: bool,
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
    policies: Vec<TypePolicy>,
    normalizers: Vec<Arc<Normalizer>>,
}

/// What one run of the stage made.
pub(super) struct StitchedRun {
    pub entities: Arc<Entities>,
    pub links: Links,
    pub stitched: Stitched,
    pub assigned: crate::identity::Assigned,
    pub tables: Vec<String>,
    pub evidence_rows: HashMap<(u16, u64), String>,
    pub rows_read: u64,
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
        match Normalizer::new(name, kind) {
            Ok(n) => normalizers.push(Arc::new(n)),
            Err(e) => {
                let message = super::bind::plain(&e);
                findings.push(
                    Diagnostic::error(Code::BadNormalize, kind.name.span, message).with_label("cannot be normalised"),
                );
            }
        }
    }
    if findings.len() > before {
        return None;
    }
    let mut bound = BoundIdentity {
        name: name.to_owned(),
        slot: EntitySlot::new(name),
        owners: BTreeMap::new(),
        columns: BTreeMap::new(),
        links: Vec::new(),
        policies: policies(model),
        normalizers,
    };
    for link in &model.links {
        let Some(relation) = relations.get(&link.from.value) else { continue };
        bind_link(parts, model, link, relation, &mut bound, findings);
    }
    (findings.len() == before).then_some(bound)
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
        max_per_entity: i.max_per_entity.as_ref().map(|m| m.value),
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
            let kind = &model.identifiers[usize::from(code)];
            match normalized(parts, kind, &bound.normalizers[usize::from(code)], raw.clone()) {
                Ok(expr) => {
                    if let Expr::Column(column) = &raw {
                        bound.columns.insert((link.from.value.clone(), column.name.clone()), expr.clone());
                    }
                    identifiers.push((code, expr));
                }
                Err(finding) => findings.push(*finding),
            }
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
    let owner = ownership(model, link, &identifiers);
    let entry = bound.owners.entry(link.from.value.clone()).or_default();
    entry.types.extend(owner.types);
    entry.identifiers.extend(owner.identifiers);
    match link_plan(relation, &identifiers, filter) {
        Ok(plan) => bound.links.push(BoundLinks {
            table: link.from.value.clone(),
            plan,
            types: identifiers.iter().map(|i| i.0).collect(),
            has_row_id: relation.row_id.is_some(),
        }),
        Err(e) => findings.push(parts.binder().finding(&e, &link.from, &link.from.value)),
    }
}

/// Identifiers in `owner:` order, else in the order of `identifiers`.
fn ownership(model: &IdentityModel, link: &model::LinkTable, identifiers: &[(u8, Expr)]) -> Ownership {
    let order: Vec<u8> = if link.owner.is_empty() {
        (0..model.identifiers.len()).filter_map(|i| u8::try_from(i).ok()).collect()
    } else {
        link.owner.iter().filter_map(|o| type_code(model, &o.value)).collect()
    };
    let mut owner = Ownership::default();
    for code in order {
        for (_, expr) in identifiers.iter().filter(|(c, _)| *c == code) {
            owner.types.push(code);
            owner.identifiers.push(expr.clone());
        }
    }
    owner
}

/// `normalize`, then `block`, as an expression over the raw column.
fn normalized(
    parts: &EngineParts<'_>,
    kind: &model::IdentifierType,
    normalizer: &Arc<Normalizer>,
    raw: Expr,
) -> super::bind::Bound<Expr> {
    let text = cast(raw, DataType::Utf8);
    let value = match &kind.normalize {
        Normalize::Sql(sql) => {
            let schema = Schema::new(vec![Field::new("value", DataType::Utf8, true)]);
            let schema =
                DFSchema::try_from(schema).map_err(|e| Box::new(parts.binder().finding(&e, sql, &kind.name.value)))?;
            let over_value = parts.binder().expression(sql, &schema, &kind.name.value)?;
            substitute(over_value, &text).map_err(|e| Box::new(parts.binder().finding(&e, sql, &kind.name.value)))?
        }
        _ => text,
    };
    Ok(ScalarUDF::new_from_shared_impl(Arc::clone(normalizer) as _).call(vec![value]))
}

fn substitute(expr: Expr, value: &Expr) -> datafusion::error::Result<Expr> {
    let replaced = expr.transform(|e| match &e {
        Expr::Column(Column { name, .. }) if name == "value" => Ok(Transformed::yes(value.clone())),
        _ => Ok(Transformed::no(e)),
    })?;
    Ok(replaced.data)
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
        columns.push(cast(ident(row_id), DataType::Utf8).alias("__row"));
    }
    builder.project(columns)?.build()
}

/// What one stream collected.
#[derive(Default)]
struct Collected {
    links: LinkSet,
    rows: HashMap<(u16, u64), String>,
    count: u64,
}

impl BoundIdentity {
    /// Identifier type names, strongest first.
    pub(super) fn type_names(&self) -> Vec<&str> {
        self.policies.iter().map(|p| p.name.as_str()).collect()
    }

    /// The identifier behind `type:value`, as its table spells it.
    pub(super) fn entity_of(&self, entities: &Entities, text: &str) -> Option<u32> {
        let Some((kind, value)) = text.split_once(':') else { return entities.of_id(text) };
        let code = self.policies.iter().position(|p| p.name == kind)?;
        let spelled = self.normalizers[code].apply(value)?;
        entities.of_identifier(u8::try_from(code).ok()?, &spelled)
    }

    /// Streams all link tables, stitches, and names the entities.
    ///
    /// # Errors
    /// When a table cannot be read, or holds more identifiers than an identity can.
    pub(super) async fn run(
        &self,
        context: &SessionContext,
        model: &IdentityModel,
        registry: &[RecordBatch],
        key: &[u8],
        threads: usize,
    ) -> Result<StitchedRun> {
        let interner = Arc::new(Interner::new(self.policies.len()));
        let mut sets = Vec::new();
        let mut evidence_rows = HashMap::new();
        let mut rows_read = 0;
        for (number, table) in self.links.iter().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            for collected in scan(context, table, number, &interner).await? {
                rows_read += collected.count;
                evidence_rows.extend(collected.rows);
                sets.push(collected.links);
            }
        }
        let interner =
            Arc::into_inner(interner).ok_or_else(|| Error::new(ErrorKind::Failed, "a link stream is still running"))?;
        let nodes = interner.freeze();
        let links = LinkSet::into_links(sets, &nodes, threads);
        let (always, never) = rule_pairs(model, &nodes, &self.policies);
        let stitched = stitch(&StitchInput {
            types: &self.policies,
            nodes: &nodes,
            links: &links.links,
            always: &always,
            never: &never,
            threads,
        });
        let registered = self.registered(registry, &nodes)?;
        let assigned = assign_ids(&IdInput {
            types: &self.policies,
            nodes: &nodes,
            stitched: &stitched,
            registered: &registered,
            key,
            threads,
        });
        let entities = Arc::new(Entities::new(nodes, stitched.entity.clone(), assigned.ids.clone()));
        self.slot.fill(Arc::clone(&entities));
        let tables = self.links.iter().map(|l| l.table.clone()).collect();
        Ok(StitchedRun { entities, links, stitched, assigned, tables, evidence_rows, rows_read })
    }

    /// The registry's rows; identifiers that no longer occur have no node.
    fn registered(&self, registry: &[RecordBatch], nodes: &Nodes) -> Result<Vec<Registered>> {
        let mut out = Vec::new();
        for batch in registry {
            let column = |name: &str| {
                batch.column_by_name(name).ok_or_else(|| {
                    Error::new(ErrorKind::Data, format!("the registry of `{}` has no column `{name}`", self.name))
                })
            };
            let kinds = column("identifier_type")?.as_string::<i32>();
            let texts = column("identifier")?.as_string::<i32>();
            let ids = column(&format!("{}_id", self.name))?.as_string::<i32>();
            let runs = column("run")?.as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let code = self.policies.iter().position(|p| p.name == kinds.value(row));
                let Some(code) = code.and_then(|c| u8::try_from(c).ok()) else { continue };
                let node = nodes.lookup(code, texts.value(row)).unwrap_or(NO_NODE);
                let Ok(id) = ids.value(row).parse() else { continue };
                out.push(Registered { node, id, run: runs.value(row).cast_unsigned() });
            }
        }
        Ok(out)
    }
}

fn rule_pairs(model: &IdentityModel, nodes: &Nodes, types: &[TypePolicy]) -> (Vec<(u32, u32)>, Vec<(u32, u32)>) {
    let find = |(kind, text): &(String, String)| {
        let code = types.iter().position(|t| t.name == *kind).and_then(|c| u8::try_from(c).ok())?;
        nodes.lookup(code, text)
    };
    let (mut always, mut never) = (Vec::new(), Vec::new());
    for rule in &model.rules {
        if let (Some(left), Some(right)) = (find(&rule.left), find(&rule.right)) {
            match rule.verdict {
                Verdict::Always => always.push((left, right)),
                Verdict::Never => never.push((left, right)),
            }
        }
    }
    (always, never)
}

/// Streams one link table, one task per partition.
async fn scan(
    context: &SessionContext,
    table: &BoundLinks,
    number: u16,
    interner: &Arc<Interner>,
) -> Result<Vec<Collected>> {
    let doing = || format!("cannot read the links of `{}`", table.table);
    let frame = context.execute_logical_plan(table.plan.clone()).await.or_fail(ErrorKind::Data, doing)?;
    let task = Arc::new(frame.task_ctx());
    let physical = frame.create_physical_plan().await.or_fail(ErrorKind::Data, doing)?;
    let streams = execute_stream_partitioned(physical, task).or_fail(ErrorKind::Data, doing)?;
    let mut running = tokio::task::JoinSet::new();
    for stream in streams {
        let interner = Arc::clone(interner);
        let types = table.types.clone();
        let has_row_id = table.has_row_id;
        running.spawn(async move { collect(stream, &types, has_row_id, number, &interner).await });
    }
    let mut all = Vec::new();
    while let Some(done) = running.join_next().await {
        let collected = done.or_fail(ErrorKind::Failed, doing)?;
        all.push(collected.or_fail(ErrorKind::Data, doing)?);
    }
    Ok(all)
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn collect(
    mut stream: SendableRecordBatchStream,
    types: &[u8],
    has_row_id: bool,
    table: u16,
    interner: &Interner,
) -> std::result::Result<Collected, Failure> {
    let mut out = Collected::default();
    let mut scratch = Scratch::default();
    let mut codes: Vec<Vec<u32>> = vec![Vec::new(); types.len()];
    // a fixed hasher: the reference of a row must not depend on the run
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        out.count += batch.num_rows() as u64;
        let times = batch.column(types.len()).as_primitive::<Int64Type>();
        let times: Vec<i64> = times.iter().map(|t| t.unwrap_or(NO_TIME)).collect();
        for (index, kind) in types.iter().enumerate() {
            let values = batch.column(index).as_string::<i32>();
            interner.intern_batch(&mut scratch, *kind, values.iter(), Some(&times), &mut codes[index])?;
        }
        let rows = has_row_id.then(|| batch.column(types.len() + 1).as_string::<i32>());
        for left in 0..types.len() {
            for right in left + 1..types.len() {
                for row in 0..batch.num_rows() {
                    let text = rows.filter(|r| r.is_valid(row)).map(|r| r.value(row));
                    let reference = text.map_or(0, |t| hasher.hash_one(t));
                    let evidence = Evidence { first_seen: times[row], table, row: reference };
                    let taken = out.links.add(codes[left][row], codes[right][row], evidence);
                    if let (true, Some(text)) = (taken, text) {
                        out.rows.insert((table, reference), text.to_owned());
                    }
                }
            }
        }
    }
    Ok(out)
}

/// Whether an identifier belongs to an entity.
pub(super) fn is_hub(entity: u32) -> bool {
    entity == HUB
}
