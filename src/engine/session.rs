//! The one place where a DataFusion session is made: options, memory, functions, name spaces.

use super::functions::{aggregate_functions, scalar_functions};
use crate::error::{Context, ErrorKind, Result};
use crate::model::{Project, Secret};
use datafusion::catalog::{MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::config::ConfigNonZeroUsize;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Name of the catalog; authors never write it.
const CATALOG: &str = "kinfold";
/// Levels that the SQL parser may recurse: a bracket takes up to three of them.
const PARSER_DEPTH: usize = 4 * super::words::MAX_DEPTH;
/// Schema of models.
const MODELS: &str = "models";

/// How much of the machine a run may use.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    /// Threads and partitions.
    pub threads: usize,
    /// Memory budget in bytes for what DataFusion reserves.
    pub memory_bytes: usize,
}

impl Resources {
    /// All cores and 60 % of the memory that the machine says it has (8 GiB when it does not say).
    pub fn of_machine() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<usize>().ok()
        });
        Self { threads, memory_bytes: total.map_or(8 << 30, |kib| kib * 1024 / 10 * 6) }
    }
}

/// A session with Kinfold's functions and an empty schema for every source and for models.
pub(super) fn open(
    project: &Project,
    as_of: i64,
    secrets: &BTreeMap<String, Secret>,
    resources: Resources,
) -> Result<SessionContext> {
    let mut config = SessionConfig::new()
        .with_target_partitions(resources.threads)
        .with_batch_size(8192)
        .with_information_schema(false)
        .with_default_catalog_and_schema(CATALOG, MODELS)
        .with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    // deeper text is refused with its place before it is parsed
    if let Ok(limit) = ConfigNonZeroUsize::try_new(PARSER_DEPTH) {
        options.sql_parser.recursion_limit = limit;
    }
    options.execution.parquet.pushdown_filters = false;
    options.execution.collect_statistics = false;
    // folders are read with their subfolders
    options.execution.listing_table_ignore_subdirectory = false;
    options.execution.time_zone = Some(project.settings.timezone.clone());
    // unions of tables with and without a column differ in nullability between the logical and the physical plan
    options.execution.skip_physical_aggregate_schema_check = true;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(resources.memory_bytes)))
        .build_arc()
        .or_fail(ErrorKind::Failed, || "cannot start the query engine".to_owned())?;
    let context = SessionContext::new_with_config_rt(config, runtime);
    let catalog = MemoryCatalogProvider::new();
    let names = project.sources.iter().map(|s| s.name.value.as_str()).chain([MODELS, "kinfold"]);
    for name in names {
        register_schema(&catalog, name)?;
    }
    context.register_catalog(CATALOG, Arc::new(catalog));
    for function in scalar_functions(as_of, secrets) {
        context.register_udf(function);
    }
    for function in aggregate_functions() {
        context.register_udaf(function);
    }
    Ok(context)
}

fn register_schema(catalog: &MemoryCatalogProvider, name: &str) -> Result<()> {
    use datafusion::catalog::CatalogProvider;
    catalog
        .register_schema(name, Arc::new(MemorySchemaProvider::new()))
        .map(|_| ())
        .or_fail(ErrorKind::Failed, || format!("cannot make the name space `{name}`"))
}

/// Splits `web.tracks` into schema and table; a plain name is a model.
pub(super) fn split_name(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((MODELS, name))
}

/// Makes a table readable under its name, replacing an earlier one.
pub(super) fn register(context: &SessionContext, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
    let (schema, table_name) = split_name(name);
    let provider: Option<Arc<dyn SchemaProvider>> = context.catalog(CATALOG).and_then(|c| c.schema(schema));
    let Some(provider) = provider else {
        return Err(crate::error::Error::new(ErrorKind::Failed, format!("no name space `{schema}`")));
    };
    if provider.table_exist(table_name) {
        provider.deregister_table(table_name).or_fail(ErrorKind::Failed, || format!("cannot replace `{name}`"))?;
    }
    provider
        .register_table(table_name.to_owned(), table)
        .map(|_| ())
        .or_fail(ErrorKind::Failed, || format!("cannot register `{name}`"))
}
