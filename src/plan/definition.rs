//! What a definition means, as a value: the same for two texts that differ in comments, formatting, key order or
//! spelled-out defaults only. Pure.
//!
//! A definition looks like the author's YAML without what is for people (description, tags, the file's path), with
//! SQL in one spelling. Order is kept where it has a meaning (identifiers are priorities, a sync's columns are a
//! file's columns) and dropped where it has none. Values from the environment do not get in where it is shown: where the
//! author wrote `${...}`, that text stands here, so that a definition is the same for every environment and holds no
//! secret. With [`Detail::Exact`] all values are in it.
//!
//! Tests say nothing about what a model makes and are no part of it; they are written by themselves.
//!
//! Every struct is taken apart field by field, so that a new key of the language cannot be forgotten here.

use crate::diagnostic::{SourceMap, Spanned};
use crate::model::{
    Attribute, AttributeSource, AudienceCondition, AudienceModel, BatchLimits, BlockRule, Cells, Column, Condition,
    ConsentModel, DataTest, Declassify, Dedupe, Destination, DestinationKind, EventCondition, EventMatch, FileFormat,
    Format, Group, Holdout, HttpBody, HttpDestination, HttpRequest, IdentifierType, IdentityModel, IdentityRule,
    Increment, LinkIdentifier, LinkTable, ListEntry, Materialize, MaxLinks, MaxPerEntity, Measure, Model, ModelKind,
    ModelPrivacy, Narrowing, Normalize, Persona, Pick, ProfileModel, RankBy, RejectedBy, RejectedRows, Source,
    SourceTable, SqlModel, StatusRange, Step, StepOrigin, StepPick, SyncModel, TableSelect, TestKind, Timeline, Top,
    Trait, Vanished, Verdict, Window,
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Brings SQL to one spelling: comments and white space do not count. The flag tells a query from an expression.
pub type SqlSpelling<'a> = &'a dyn Fn(&str) -> String;

/// How much of values that are nobody's business is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// For people and files that are passed on: the environment by name, lists of people by size and a short digest.
    Shown,
    /// All that can change a result, secrets too, and nothing else. To be hashed with a key, and shown to nobody.
    Exact,
}

/// How definitions are written down.
pub struct Writer<'a> {
    /// The author's files.
    pub map: &'a SourceMap,
    /// One spelling for SQL.
    pub sql: SqlSpelling<'a>,
    /// What people agreed to, for syncs that ask.
    pub consent: Option<&'a ConsentModel>,
    /// What is left out.
    pub detail: Detail,
}

/// A short hash of a definition: equal exactly when the definitions are.
pub fn fingerprint(definition: &Value) -> String {
    // serde_json keeps the keys of a map sorted
    let digest = Sha256::digest(definition.to_string());
    hex::encode(&digest[..16])
}

/// A mapping under construction; what is not said is left out.
#[derive(Default)]
struct Doc(Map<String, Value>);

impl Doc {
    fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    fn maybe(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    fn flag(self, key: &str, value: bool) -> Self {
        if value { self.set(key, true) } else { self }
    }

    fn list(self, key: &str, items: impl IntoIterator<Item = Value>) -> Self {
        let items: Vec<Value> = items.into_iter().collect();
        if items.is_empty() { self } else { self.set(key, items) }
    }

    fn join(mut self, other: Doc) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl From<Doc> for Value {
    fn from(doc: Doc) -> Self {
        Self::Object(doc.0)
    }
}

/// What a table says of files that are gone, beside that it is a mistake.
fn vanished_word(vanished: Vanished) -> Option<&'static str> {
    match vanished {
        Vanished::Error => None,
        Vanished::Keep => Some("keep"),
        Vanished::Forget => Some("forget"),
    }
}

impl Writer<'_> {
    /// What a model means.
    pub fn model(&self, model: &Model) -> Value {
        let Model { name: _, description: _, tags: _, path: _, tests: _, privacy, kind } = model;
        let doc = match kind {
            ModelKind::Sql(sql) => {
                let SqlModel { sql, templated: _, materialize } = sql;
                Doc::default().set("sql", self.sql(sql)).join(self.materialize(materialize))
            }
            ModelKind::Identity(identity) => self.identity(identity),
            ModelKind::Profile(profile) => self.profile(profile),
            ModelKind::Audience(audience) => self.audience(audience),
            ModelKind::Sync(sync) => self.sync(sync),
        };
        doc.set("kind", kind.word()).join(self.privacy(privacy)).into()
    }

    fn materialize(&self, materialize: &Materialize) -> Doc {
        match materialize {
            Materialize::Table => Doc::default(),
            Materialize::View => Doc::default().set("materialize", "view"),
            Materialize::Incremental(Increment { unique_key, by }) => Doc::default()
                .set("materialize", "incremental")
                .list("unique_key", self.sorted(unique_key))
                .list("by", self.sorted(by)),
        }
    }

    /// Why and by whom a label was taken off is for people. Labels change no result.
    fn privacy(&self, privacy: &ModelPrivacy) -> Doc {
        let ModelPrivacy { labels, columns, declassify } = privacy;
        if self.is_exact() {
            return Doc::default();
        }
        let labelled = columns.iter().fold(Doc::default(), |doc, (name, labels)| doc.list(name, self.sorted(labels)));
        let declassify = declassify.iter().map(|one| {
            let Declassify { columns, labels, reason: _, by: _, at: _, span: _ } = one;
            Doc::default().list("columns", self.sorted(columns)).list("labels", self.sorted(labels)).into()
        });
        Doc::default()
            .list("labels", self.sorted(labels))
            .maybe("column_labels", (!labelled.0.is_empty()).then_some(labelled))
            .list("declassify", sorted(declassify.collect::<Vec<Value>>()))
    }

    /// What a source table means to its readers.
    pub fn table(&self, source: &Source, table: &SourceTable) -> Value {
        let Source { name: _, description: _, location, regions, labels_required, tables: _ } = source;
        let SourceTable {
            name: _,
            path,
            format,
            time,
            row_id,
            version,
            dedupe,
            append_only,
            vanished,
            enabled,
            select,
            columns,
            labels,
            tests: _,
        } = table;
        let TableSelect { filter, include, exclude } = select;
        let select = Doc::default()
            .maybe("where", filter.as_ref().map(|f| self.sql(f)))
            .maybe("include", include.as_ref().map(|i| self.sorted(i)))
            .list("exclude", sorted(exclude.iter().map(|c| self.text(c))));
        let format = match format {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Delta => "delta",
        };
        Doc::default()
            .set("location", self.text(location))
            .set("path", self.text(path))
            .set("format", format)
            .maybe("time", time.as_ref().map(|t| self.text(t)))
            .maybe("row_id", row_id.as_ref().map(|t| self.text(t)))
            .maybe("version", version.as_ref().map(|t| self.text(t)))
            .maybe("dedupe", dedupe.as_ref().map(|d| self.dedupe(d)))
            .flag("append_only", *append_only)
            .maybe("vanished", vanished_word(*vanished))
            .maybe("enabled", (!enabled).then_some(false))
            .maybe("select", (!select.0.is_empty()).then_some(select))
            .maybe("columns", self.columns(columns))
            .list("labels", if self.is_exact() { Vec::new() } else { self.sorted(labels) })
            .list("regions", if self.is_exact() { Vec::new() } else { self.sorted(regions) })
            .flag("labels_required", *labels_required && !self.is_exact())
            .into()
    }

    /// What a destination means to its syncs.
    pub fn destination(&self, destination: &Destination) -> Value {
        let Destination { name: _, kind, region, allow, purposes, baa } = destination;
        let doc = match kind {
            DestinationKind::Files { location, format } => {
                let format = match format {
                    FileFormat::Parquet => "parquet",
                    FileFormat::Csv => "csv",
                    FileFormat::Ndjson => "ndjson",
                };
                Doc::default().set("type", "files").set("location", self.text(location)).set("format", format)
            }
            DestinationKind::Postgres { url, schema } => {
                Doc::default().set("type", "postgres").set("url", self.text(url)).set("schema", schema.as_str())
            }
            DestinationKind::Delta { location } => {
                Doc::default().set("type", "delta").set("location", self.text(location))
            }
            DestinationKind::Http(http) => self.http(http),
        };
        doc.list("allow", sorted(allow.iter().map(|a| self.text(a))))
            .list("purposes", self.sorted(purposes))
            .maybe("region", region.as_ref().map(|r| self.text(r)))
            .flag("baa", *baa)
            .into()
    }

    fn http(&self, http: &HttpDestination) -> Doc {
        let HttpDestination { write, delete, alias, headers, rows, success, retryable, rejected, timeout } = http;
        let codes =
            |ranges: &[StatusRange]| -> Vec<Value> { sorted(ranges.iter().map(|r| format!("{}-{}", r.first, r.last))) };
        let rejected = rejected.as_ref().map(|RejectedRows { at, row, reason, status }| {
            let row = match row {
                RejectedBy::Index(at) => json!({"index": at}),
                RejectedBy::Column(at, column) => json!({"column": column, "value": at}),
            };
            let mut said = json!({"at": self.text(at), "row": row, "reason": reason});
            if let (Some(status), Some(fields)) = (status, said.as_object_mut()) {
                fields.insert("status".to_owned(), codes(status).into());
            }
            said
        });
        Doc::default()
            .set("type", "http")
            .set("write", self.request(write))
            .maybe("delete", delete.as_ref().map(|d| self.request(d)))
            .maybe("alias", alias.as_ref().map(|a| self.request(a)))
            .list("headers", self.named(headers))
            .set("rows", *rows)
            .list("success", codes(success))
            .list("retryable", codes(retryable))
            .maybe("rejected", rejected)
            .set("timeout", timeout.to_string())
    }

    fn request(&self, request: &HttpRequest) -> Doc {
        let HttpRequest { method, url, body } = request;
        let doc = Doc::default().set("method", method.as_str()).set("url", self.text(url));
        match body {
            HttpBody::Rows => doc,
            HttpBody::Json(text) => doc.set("body", self.text(text)),
            HttpBody::Form(fields) => doc.list("form", self.named(fields)),
            HttpBody::Nothing => doc.set("body", Value::Null),
        }
    }

    fn named(&self, of: &[(Spanned<String>, Spanned<String>)]) -> Vec<Value> {
        of.iter().map(|(name, text)| json!([name.value, self.text(text)])).collect()
    }

    fn dedupe(&self, dedupe: &Dedupe) -> Doc {
        let Dedupe { by, within } = dedupe;
        Doc::default().set("by", self.text(by)).maybe("within", within.as_ref().map(|w| w.value.to_string()))
    }

    fn columns(&self, columns: &[Column]) -> Option<Doc> {
        let mut all = Doc::default();
        for Column { name, data_type, labels, description: _ } in columns {
            let column = Doc::default()
                .maybe("type", data_type.as_ref().map(|t| self.text(t).to_uppercase()))
                .maybe("label", labels.as_ref().filter(|_| !self.is_exact()).map(|l| self.sorted(l)));
            if !column.0.is_empty() {
                all = all.set(&name.value, column);
            }
        }
        (!all.0.is_empty()).then_some(all)
    }

    fn identity(&self, identity: &IdentityModel) -> Doc {
        let IdentityModel { identifiers, links, rules, id_key } = identity;
        let mut order = Vec::new();
        let mut types = Doc::default();
        for identifier in identifiers {
            order.push(Value::from(identifier.name.value.clone()));
            types = types.set(&identifier.name.value, self.identifier(identifier));
        }
        Doc::default()
            .set("priority", order)
            .set("identifiers", types)
            .set("links", sorted(links.iter().map(|l| self.link(l))))
            .maybe("rules", self.people(rules.iter().map(|r| self.rule(r))))
            .maybe("id_key", id_key.as_ref().map(|key| if self.is_exact() { key.reveal() } else { "set" }))
    }

    fn identifier(&self, identifier: &IdentifierType) -> Doc {
        let IdentifierType { name: _, normalize, block, max_links, max_per_entity } = identifier;
        let normalize = match normalize {
            Normalize::None => None,
            Normalize::Trim => Some("trim".to_owned()),
            Normalize::Lower => Some("lower".to_owned()),
            Normalize::Email => Some("email".to_owned()),
            Normalize::Phone(region) => Some(format!("phone({region})")),
            Normalize::Digits => Some("digits".to_owned()),
            Normalize::Sql(sql) => Some(self.sql(sql)),
        };
        let block = block.iter().map(|rule| match rule {
            BlockRule::Exact(value) => value.clone(),
            BlockRule::Pattern(pattern) => format!("/{}/", self.text(pattern)),
        });
        let max_links = max_links.as_ref().map(|limit| match limit {
            MaxLinks::Any(limit) => json!(limit),
            MaxLinks::ByType(limits) => {
                limits.iter().fold(Doc::default(), |doc, (name, limit)| doc.set(&name.value, *limit)).into()
            }
        });
        Doc::default()
            .maybe("normalize", normalize)
            .list("block", sorted(block))
            .maybe("max_links", max_links)
            .maybe("max_per_entity", max_per_entity.as_ref().map(per_entity))
    }

    fn link(&self, link: &LinkTable) -> Value {
        let LinkTable { from, ids, filter, owner } = link;
        let ids = ids.iter().fold(Doc::default(), |doc, id| {
            let LinkIdentifier { identifier, expressions } = id;
            doc.set(&identifier.value, expressions.iter().map(|e| self.sql(e)).collect::<Vec<_>>())
        });
        Doc::default()
            .set("from", self.text(from))
            .set("ids", ids)
            .maybe("where", filter.as_ref().map(|f| self.sql(f)))
            .list("owner", owner.iter().map(|o| self.text(o).into()))
            .into()
    }

    fn profile(&self, profile: &ProfileModel) -> Doc {
        let ProfileModel { identity, attributes, traits, persona, timeline } = profile;
        let timeline = timeline
            .as_ref()
            .map(|Timeline { from }| Doc::default().list("from", sorted(from.iter().map(|f| self.text(f)))));
        let attributes = attributes.iter().fold(Doc::default(), |doc, a| doc.set(&a.name.value, self.attribute(a)));
        let traits = traits.iter().fold(Doc::default(), |doc, t| doc.set(&t.name.value, self.trait_(t)));
        Doc::default()
            .set("identity", self.text(identity))
            .set("attributes", attributes)
            .set("traits", traits)
            .maybe("persona", persona.as_ref().map(|p| self.persona(p)))
            .maybe("timeline", timeline)
    }

    fn attribute(&self, attribute: &Attribute) -> Doc {
        let Attribute { name: _, from, pick, raw } = attribute;
        let from = from
            .iter()
            .map(|AttributeSource { table, column }| Value::from(format!("{}.{}", self.text(table), self.sql(column))));
        let pick = match pick {
            Pick::SourceOrder => "source_order",
            Pick::Latest => "latest",
            Pick::Earliest => "earliest",
            Pick::MostFrequent => "most_frequent",
            Pick::Longest => "longest",
        };
        Doc::default().list("from", from).set("pick", pick).flag("raw", *raw)
    }

    fn trait_(&self, of: &Trait) -> Doc {
        let Trait { name: _, from, select, filter, window, by, time, default } = of;
        Doc::default()
            .list("from", sorted(from.iter().map(|f| self.text(f))))
            .set("select", self.sql(select))
            .maybe("where", filter.as_ref().map(|f| self.sql(f)))
            .join(self.window(window))
            .list("by", by.iter().map(|b| self.text(b).into()))
            .maybe("time", time.as_ref().map(|t| self.text(t)))
            .maybe("default", default.as_ref().map(|d| self.sql(d)))
    }

    fn persona(&self, persona: &Persona) -> Vec<Value> {
        let Persona { rules, default } = persona;
        let rules =
            rules.iter().map(|(name, when)| Doc::default().set("name", self.text(name)).set("when", self.sql(when)));
        let default = default.iter().map(|d| Doc::default().set("default", self.text(d)));
        rules.chain(default).map(Value::from).collect()
    }

    fn window(&self, window: &Window) -> Doc {
        let Window { within, between, before, after, inclusive } = window;
        let between = between.as_ref().map(|b| vec![b.value.0.to_string(), b.value.1.to_string()]);
        Doc::default()
            .maybe("within", within.as_ref().map(|w| w.value.to_string()))
            .maybe("between", between)
            .maybe("before", before.as_ref().map(|t| t.value.to_rfc3339()))
            .maybe("after", after.as_ref().map(|t| t.value.to_rfc3339()))
            .flag("inclusive", *inclusive)
    }

    fn audience(&self, audience: &AudienceModel) -> Doc {
        let AudienceModel { profile, condition, include, exclude, narrowing } = audience;
        let doc = Doc::default().set("profile", self.text(profile));
        let doc = match condition {
            AudienceCondition::Where(condition) => doc.set("where", self.condition(&condition.value)),
            AudienceCondition::Sql(sql) => doc.set("sql", self.sql(sql)),
        };
        let listed = |entries: &[ListEntry]| {
            let names = entries.iter().map(|entry| {
                let ListEntry { identifier, by, reason, at } = entry;
                // who and why are told beside the members
                let why = if self.is_exact() { format!("\n{by}\n{reason}\n{at:?}") } else { String::new() };
                format!("{}{why}", identifier.value)
            });
            self.people(names)
        };
        doc.maybe("include", listed(include)).maybe("exclude", listed(exclude)).join(self.narrowing(narrowing))
    }

    fn narrowing(&self, narrowing: &Narrowing) -> Doc {
        let Narrowing { group, holdout, top, min_size } = narrowing;
        let group = group.as_ref().map(|Group { name, priority }| {
            Doc::default().set("name", self.text(name)).set("priority", priority.value)
        });
        let holdout = holdout
            .as_ref()
            .map(|Holdout { percent, salt }| Doc::default().set("percent", *percent).set("salt", self.text(salt)));
        let top = top.as_ref().map(|Top { rows, by }| {
            let by = by.iter().map(|RankBy { sql, descending }| {
                let end = if *descending { "desc" } else { "asc" };
                Value::from(format!("{} {end}", self.sql(sql)))
            });
            Doc::default().set("rows", *rows).list("by", by)
        });
        Doc::default().maybe("group", group).maybe("holdout", holdout).maybe("top", top).maybe("min_size", *min_size)
    }

    fn condition(&self, condition: &Condition) -> Value {
        let all = |parts: &[Spanned<Condition>]| sorted(parts.iter().map(|p| self.condition(&p.value)));
        match condition {
            Condition::All(parts) => Doc::default().set("all", all(parts)),
            Condition::Any(parts) => Doc::default().set("any", all(parts)),
            Condition::Not(inner) => Doc::default().set("not", self.condition(&inner.value)),
            Condition::Event(event) => self.event(event),
            Condition::Sequence(steps) => {
                Doc::default().set("sequence", steps.iter().map(|s| self.step(&s.value)).collect::<Vec<_>>())
            }
            Condition::Audience(name) => Doc::default().set("audience", self.text(name)),
            Condition::Trait(sql) => Doc::default().set("trait", self.sql(sql)),
        }
        .into()
    }

    fn event(&self, event: &EventCondition) -> Doc {
        let EventCondition { matching, measures, window, first, last, by } = event;
        let measures = measures.iter().map(|measure| {
            let Measure { function, operand, comparator, number } = measure;
            let operand = operand.as_ref().map(|o| self.sql(o)).unwrap_or_default();
            format!("{}({operand}) {} {number}", function.word(), comparator.sql())
        });
        self.matching(matching)
            .list("measures", sorted(measures))
            .join(self.window(window))
            .maybe("first", first.as_ref().map(|f| self.sql(f)))
            .maybe("last", last.as_ref().map(|l| self.sql(l)))
            .list("by", by.iter().map(|b| self.text(b).into()))
    }

    fn matching(&self, matching: &EventMatch) -> Doc {
        let EventMatch { table, is, column, filter } = matching;
        let column = column.as_ref().map(|c| self.text(c)).filter(|c| c != "event");
        Doc::default()
            .set("event", self.text(table))
            .list("is", sorted(is.iter().map(|v| self.text(v))))
            .maybe("column", column)
            .maybe("where", filter.as_ref().map(|f| self.sql(f)))
    }

    fn step(&self, step: &Step) -> Value {
        let Step { negated, matching, within, of, inclusive, open, pick, same } = step;
        let pick = pick.map(|pick| match pick {
            StepPick::Latest => "latest",
            StepPick::Earliest => "earliest",
        });
        let step = self
            .matching(matching)
            .maybe("within", within.as_ref().map(|w| w.value.to_string()))
            .maybe("of", (*of == StepOrigin::First).then_some("first"))
            .flag("inclusive", *inclusive)
            .flag("open", *open)
            .maybe("pick", pick)
            .maybe("same", same.as_ref().map(|s| self.text(s)));
        if *negated { Doc::default().set("not", step).into() } else { step.into() }
    }

    /// Where answers are looked up is part of what a sync means that asks.
    fn consent(&self, consent: &ConsentModel) -> Doc {
        let ConsentModel {
            name: _,
            from,
            identity,
            identifier,
            purpose,
            channel,
            decision,
            granted,
            valid_from,
            valid_to,
            evidence,
            stale_after,
        } = consent;
        Doc::default()
            .set("from", self.text(from))
            .set("identity", self.text(identity))
            .set("identifier", self.sql(identifier))
            .set("purpose", self.sql(purpose))
            .maybe("channel", channel.as_ref().map(|c| self.sql(c)))
            .set("decision", self.sql(decision))
            .list("granted", self.sorted(granted))
            .set("valid_from", self.sql(valid_from))
            .maybe("valid_to", valid_to.as_ref().map(|v| self.sql(v)))
            .maybe("evidence", evidence.as_ref().map(|e| self.sql(e)))
            .maybe("stale_after", stale_after.as_ref().map(|d| d.value.to_string()))
    }

    fn sync(&self, sync: &SyncModel) -> Doc {
        let SyncModel {
            from,
            to,
            mode,
            key,
            columns,
            asked,
            cells,
            enabled,
            max_delete_percent,
            fail_above_percent,
            batch: BatchLimits { rows, per_second, concurrency },
            retry_for,
        } = sync;
        let columns = columns.iter().map(|(name, sql)| json!([name.value.clone(), self.sql(sql)]));
        Doc::default()
            .set("from", self.text(from))
            .set("to", self.text(to))
            .set("mode", mode.word())
            .set("key", self.text(key))
            .list("columns", columns)
            .maybe("purpose", asked.as_ref().map(|a| self.text(&a.purpose)))
            .maybe("channel", asked.as_ref().and_then(|a| a.channel.as_ref()).map(|c| self.text(c)))
            .maybe("consent", asked.as_ref().and(self.consent).map(|c| self.consent(c)))
            .maybe("cells", cells.as_ref().map(|c| self.cells(c)))
            .maybe("enabled", (!enabled).then_some(false))
            .set("max_delete_percent", *max_delete_percent)
            .maybe("fail_above_percent", *fail_above_percent)
            .maybe("batch_rows", *rows)
            .maybe("per_second", *per_second)
            .maybe("concurrency", *concurrency)
            .maybe("retry_for", retry_for.as_ref().map(|r| r.value.to_string()))
    }

    fn cells(&self, cells: &Cells) -> Doc {
        let Cells { count, by, minimum } = cells;
        Doc::default().set("count", self.text(count)).list("by", self.sorted(by)).set("minimum", *minimum)
    }

    fn is_exact(&self) -> bool {
        self.detail == Detail::Exact
    }

    /// The author's text where it holds something from the environment that is not to be shown.
    fn hidden(&self, of: &Spanned<String>) -> Option<&str> {
        let written = self.map.text(of.span);
        (!self.is_exact() && written.contains("${")).then_some(written)
    }

    /// The value, or the author's text where it holds something from the environment.
    fn text(&self, of: &Spanned<String>) -> String {
        self.hidden(of).map_or_else(|| of.value.clone(), str::to_owned)
    }

    fn sql(&self, of: &Spanned<String>) -> String {
        self.hidden(of).map_or_else(|| (self.sql)(&of.value), |written| written.trim().to_owned())
    }

    /// A list that names persons: how long it is, and a digest of the whole that is too short to test a guess against.
    fn people(&self, entries: impl IntoIterator<Item = String>) -> Option<Value> {
        let mut entries: Vec<String> = entries.into_iter().collect();
        entries.sort();
        if entries.is_empty() {
            return None;
        }
        if self.is_exact() {
            return Some(entries.into());
        }
        let digest = hex::encode(&Sha256::digest(entries.join("\n\n"))[..3]);
        Some(format!("{} entries, digest {digest}", entries.len()).into())
    }

    /// A decision of people.
    fn rule(&self, rule: &IdentityRule) -> String {
        let IdentityRule { verdict, left, right, reason, by, at, span: _, sides: _ } = rule;
        let verdict = match verdict {
            Verdict::Never => "never",
            Verdict::Always => "always",
        };
        let why = if self.is_exact() { format!("\n{reason}\n{by}\n{at}") } else { String::new() };
        format!("{verdict}\n{}:{}\n{}:{}{why}", left.0, left.1, right.0, right.1)
    }

    /// What the data tests of a table or model demand; the order of their results is theirs.
    pub fn tests(&self, tests: &[DataTest]) -> Value {
        tests.iter().map(|test| self.test(test)).collect()
    }

    fn test(&self, test: &DataTest) -> Value {
        let DataTest { name, span: _, kind, severity, filter, max_failures } = test;
        let texts = |columns: &[Spanned<String>]| columns.iter().map(|c| self.text(c)).collect::<Value>();
        let demand = match kind {
            TestKind::Unique(columns) | TestKind::NotNull(columns) => texts(columns),
            TestKind::AcceptedValues { column, values } => json!([self.text(column), texts(values)]),
            TestKind::Relationships { column, to_table, to_column } => {
                texts(&[column.clone(), to_table.clone(), to_column.clone()])
            }
            TestKind::Expression(sql) | TestKind::Sql(sql) => self.sql(sql).into(),
            TestKind::RowCount { span: _, bounds } => {
                bounds.iter().map(|(comparator, count)| format!("{} {count}", comparator.sql())).collect()
            }
        };
        Doc::default()
            .set("name", name.clone())
            .set(kind.word(), demand)
            .set("severity", severity.word())
            .maybe("where", filter.as_ref().map(|f| self.sql(f)))
            .set("max_failures", *max_failures)
            .into()
    }

    fn sorted(&self, texts: &[Spanned<String>]) -> Vec<Value> {
        sorted(texts.iter().map(|t| self.text(t)))
    }
}

/// How many values of a type an entity may have.
fn per_entity(limit: &MaxPerEntity) -> Value {
    let MaxPerEntity { count, within } = limit;
    match within {
        None => json!(count.value),
        Some(within) => Doc::default().set("count", count.value).set("within", within.value.to_string()).into(),
    }
}

/// Items whose order has no meaning, in one order.
fn sorted(items: impl IntoIterator<Item = impl Into<Value>>) -> Vec<Value> {
    let mut items: Vec<Value> = items.into_iter().map(Into::into).collect();
    items.sort_by_cached_key(ToString::to_string);
    items
}
