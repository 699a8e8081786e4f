//! How a profile, or an audience, reads its tables: which traits and conditions share a scan, which columns and
//! filters reach the files, and what takes a path of its own. Read off the plans that a run executes.

use super::audience::Rule;
use super::fold::{self, FoldColumn, FoldGroup, FoldTable};
use super::storable::source_of;
use super::{BoundModel, Engine, internal};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AudienceCondition, Condition, Format, ModelKind};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use std::collections::{BTreeMap, BTreeSet};

/// How a model reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPlan {
    /// The profile or audience.
    pub model: String,
    /// The profile whose run makes the scans.
    pub profile: String,
    /// Its scans, in their order.
    pub scans: Vec<Scan>,
    /// Of what the partial states of older files are kept, by model; nothing where the project keeps none.
    pub partials: Option<BTreeMap<String, Vec<PartialNote>>>,
}

/// Whether the partial states of a trait, an attribute or a condition are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialNote {
    /// What it is.
    pub name: String,
    /// Source tables whose older files need not be read for it.
    pub tables: BTreeSet<String>,
    /// Why all files are read, if they are.
    pub because: Option<String>,
}

/// One pass over one or more tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// With whom it is shared.
    pub path: ScanPath,
    /// What is read.
    pub tables: Vec<TableRead>,
    /// What it answers, by model: traits and attributes of the profile, conditions of audiences.
    pub answers: BTreeMap<String, Vec<String>>,
}

/// With whom a scan is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanPath {
    /// With everything else that reads these tables.
    Shared,
    /// Its rows must come in an order, so it stands alone.
    Ordered,
    /// It reads what another model makes, so it comes after that one.
    Later,
    /// A query of the author's.
    Query,
}

/// What a scan reads of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRead {
    /// The table; of a query's tables, none.
    pub table: String,
    /// Columns that are read.
    pub columns: Vec<String>,
    /// How many the files have.
    pub of: usize,
    /// Filters that are handed to the files; Parquet leaves out row groups by them.
    pub filters: Vec<String>,
    /// Whether the files are Parquet: only these can leave out columns and row groups.
    pub parquet: bool,
}

impl Engine {
    /// How a bound profile or audience reads, with all bound audiences of the same profile.
    ///
    /// # Errors
    /// `Usage` when the model is of another kind.
    pub fn scans(&self, name: &str) -> Result<ScanPlan> {
        let profile = match self.models.get(name) {
            Some(BoundModel::Profile(_)) => name,
            Some(BoundModel::Audience(audience)) => audience.profile.as_str(),
            _ => {
                let message = format!("`{name}` is neither a profile nor an audience");
                return Err(Error::new(ErrorKind::Usage, message).with_help("other models are not folded"));
            }
        };
        let mut scans = self.shared(profile)?;
        let own = |audience: &&String| name == profile || *audience == name;
        for audience in self.audiences_of(profile).iter().filter(own) {
            scans.extend(self.apart(audience)?);
        }
        scans.retain(|scan| scan.answers.contains_key(name) || name == profile);
        let partials = self.project.settings.partials.then(|| self.partial_notes(profile, name));
        Ok(ScanPlan { model: name.to_owned(), profile: profile.to_owned(), scans, partials })
    }

    /// Of what states are kept, among the columns of a profile and its audiences.
    fn partial_notes(&self, profile: &str, name: &str) -> BTreeMap<String, Vec<PartialNote>> {
        let mut notes: BTreeMap<String, Vec<PartialNote>> = BTreeMap::new();
        let mut note = |model: &str, text: String, columns: &FoldColumn, tables: &BTreeMap<String, FoldTable>| {
            let of_model = notes.entry(model.to_owned()).or_default();
            let place = of_model.iter().position(|note| note.name == text).unwrap_or(of_model.len());
            if place == of_model.len() {
                of_model.push(PartialNote { name: text, tables: BTreeSet::new(), because: None });
            }
            match self.storable(tables, columns) {
                Ok(kept) => of_model[place].tables.extend(kept.keys().map(|table| source_of(table).to_owned())),
                Err(why) => of_model[place].because = Some(why),
            }
        };
        if let Some(BoundModel::Profile(bound)) = self.models.get(profile).filter(|_| name == profile) {
            for column in &bound.columns {
                note(profile, fold::served(&column.name).to_owned(), column, &bound.tables);
            }
        }
        for audience in self.audiences_of(profile).iter().filter(|audience| name == profile || *audience == name) {
            let Some((columns, tables)) = self.condition_columns(audience) else { continue };
            for (column, text) in columns.iter().zip(self.condition_texts(audience)) {
                note(audience, text, column, &tables);
            }
        }
        notes
    }

    fn audiences_of(&self, profile: &str) -> Vec<String> {
        let of = |(name, model): (&String, &BoundModel)| match model {
            BoundModel::Audience(audience) if audience.profile == profile => Some(name.clone()),
            _ => None,
        };
        self.models.iter().filter_map(of).collect()
    }

    /// The scans that a profile's run makes for itself and its audiences.
    fn shared(&self, profile: &str) -> Result<Vec<Scan>> {
        let Some(BoundModel::Profile(bound)) = self.models.get(profile) else { return Ok(Vec::new()) };
        let (mut columns, mut tables) = (bound.columns.clone(), bound.tables.clone());
        let mut asked: BTreeMap<String, (String, String)> = BTreeMap::new();
        for column in &bound.columns {
            asked.insert(column.name.clone(), (profile.to_owned(), fold::served(&column.name).to_owned()));
        }
        for audience in self.audiences_of(profile) {
            let Some((own, own_tables)) = self.condition_columns(&audience) else { continue };
            for (column, text) in own.iter().zip(self.condition_texts(&audience)) {
                asked.insert(column.name.clone(), (audience.clone(), text));
            }
            columns.extend(own.into_iter().filter(|column| self.reads_sources_only(column)));
            tables.extend(own_tables);
        }
        let groups = fold::plan(&tables, columns).map_err(internal)?;
        groups.iter().map(|group| self.scan_of(group, &asked, ScanPath::Shared)).collect()
    }

    /// What an audience reads after the profile was built.
    fn apart(&self, audience: &str) -> Result<Vec<Scan>> {
        let Some(BoundModel::Audience(bound)) = self.models.get(audience) else { return Ok(Vec::new()) };
        if let Rule::Query(plan) = &bound.rule {
            let answers = BTreeMap::from([(audience.to_owned(), vec!["sql".to_owned()])]);
            let tables = self.reads(plan, audience)?;
            return Ok(vec![Scan { path: ScanPath::Query, tables, answers }]);
        }
        let Some((columns, tables)) = self.condition_columns(audience) else { return Ok(Vec::new()) };
        let mut asked = BTreeMap::new();
        for (column, text) in columns.iter().zip(self.condition_texts(audience)) {
            asked.insert(column.name.clone(), (audience.to_owned(), text));
        }
        let late = columns.into_iter().filter(|column| !self.reads_sources_only(column)).collect();
        let groups = fold::plan(&tables, late).map_err(internal)?;
        groups.iter().map(|group| self.scan_of(group, &asked, ScanPath::Later)).collect()
    }

    fn condition_columns(&self, audience: &str) -> Option<(Vec<FoldColumn>, BTreeMap<String, FoldTable>)> {
        match self.models.get(audience)? {
            BoundModel::Audience(bound) => match &bound.rule {
                Rule::Condition { columns, tables, .. } => Some((columns.clone(), tables.clone())),
                Rule::Query(_) => None,
            },
            _ => None,
        }
    }

    /// The condition behind each column of an audience, in the order in which columns are made.
    fn condition_texts(&self, audience: &str) -> Vec<String> {
        let model = self.project.models.get(audience).map(|model| &model.kind);
        let Some(ModelKind::Audience(model)) = model else { return Vec::new() };
        let mut texts = Vec::new();
        if let AudienceCondition::Where(condition) = &model.condition {
            each_column(condition, &mut texts);
        }
        texts
    }

    fn scan_of(&self, group: &FoldGroup, asked: &BTreeMap<String, (String, String)>, path: ScanPath) -> Result<Scan> {
        let mut tables = Vec::new();
        for (name, plan) in group.tables.iter().zip(&group.inputs) {
            tables.extend(self.reads(plan, name.split('#').next().unwrap_or(name))?);
        }
        let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (model, text) in group.names().filter_map(|name| asked.get(name)) {
            let texts = answers.entry(model.clone()).or_default();
            if !texts.contains(text) {
                texts.push(text.clone());
            }
        }
        let path = if group.ordered && path == ScanPath::Shared { ScanPath::Ordered } else { path };
        Ok(Scan { path, tables, answers })
    }

    /// The files that a plan reads once it is optimised, as far as they are files.
    fn reads(&self, plan: &LogicalPlan, name: &str) -> Result<Vec<TableRead>> {
        let optimised = self.state.optimize(plan).map_err(internal)?;
        let mut reads = Vec::new();
        let found = optimised.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let schema = scan.source.schema();
                let column = |index: &usize| schema.field(*index).name().clone();
                let columns: BTreeSet<String> = match &scan.projection {
                    Some(projection) => projection.iter().map(column).collect(),
                    None => schema.fields().iter().map(|field| field.name().clone()).collect(),
                };
                // a table that is read through a view has its own name there
                let own = scan.table_name.table();
                let table = if own == "?table?" { name } else { own };
                reads.push(TableRead {
                    table: table.to_owned(),
                    columns: columns.into_iter().collect(),
                    of: schema.fields().len(),
                    filters: scan.filters.iter().map(|filter| filter.to_string().replace("?table?.", "")).collect(),
                    parquet: self
                        .project
                        .source_table(table)
                        .is_none_or(|(_, t)| matches!(t.format, Format::Parquet | Format::Delta)),
                });
            }
            Ok(TreeNodeRecursion::Continue)
        });
        found.map_err(internal)?;
        Ok(reads)
    }
}

fn each_column(condition: &Condition, texts: &mut Vec<String>) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().for_each(|part| each_column(part, texts)),
        Condition::Not(inner) => each_column(inner, texts),
        Condition::Event(event) => {
            let is: Vec<&str> = event.matching.is.iter().map(|value| value.value.as_str()).collect();
            let is = if is.is_empty() { String::new() } else { format!(" is {}", is.join(" or ")) };
            for measured in super::membership::measured(event) {
                texts.push(format!("{measured} of {}{is}", event.matching.table.value));
            }
        }
        Condition::Sequence(steps) => {
            let first = steps.first().map_or("", |step| step.matching.table.value.as_str());
            texts.push(format!("sequence of {} steps from {first}", steps.len()));
        }
        Condition::Audience(_) | Condition::Trait(_) => {}
    }
}
