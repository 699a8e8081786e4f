//! Which entity a row belongs to: the stitched identifiers as a SQL function.
//!
//! Plans are bound before anything is stitched, so the function holds a slot that the identity stage fills.
//! Arguments are normalised identifiers in owner order; the first that is neither null nor a hub decides.

use crate::identity::{EntityId, HUB, Nodes};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use hashbrown::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// The entities of one identity in one run.
#[derive(Debug)]
pub(super) struct Entities {
    /// Identifiers by code.
    pub nodes: Nodes,
    /// Entity of each identifier, [`HUB`] for hubs.
    pub entity: Vec<u32>,
    /// Id of each entity.
    pub ids: Vec<EntityId>,
    by_id: OnceLock<HashMap<EntityId, u32>>,
}

impl Entities {
    /// Joins identifiers, their entities and the entities' ids.
    pub(super) fn new(nodes: Nodes, entity: Vec<u32>, ids: Vec<EntityId>) -> Self {
        debug_assert_eq!(nodes.len(), entity.len(), "one entity per identifier");
        Self { nodes, entity, ids, by_id: OnceLock::new() }
    }

    /// Number of entities.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The entity of an identifier; hubs have none.
    pub(super) fn of_identifier(&self, type_code: u8, text: &str) -> Option<u32> {
        let node = self.nodes.lookup(type_code, text)?;
        let entity = self.entity[node as usize];
        (entity != HUB).then_some(entity)
    }

    /// The entity with an id.
    pub(super) fn of_id(&self, id: &str) -> Option<u32> {
        let by_id = self.by_id.get_or_init(|| {
            let mut map = HashMap::with_capacity(self.ids.len());
            for (code, id) in self.ids.iter().enumerate() {
                map.insert(*id, u32::try_from(code).unwrap_or(u32::MAX));
            }
            map
        });
        by_id.get(&id.parse::<EntityId>().ok()?).copied()
    }

    /// Ids as text, by entity.
    pub(super) fn id_column(&self) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(self.ids.iter().map(ToString::to_string)))
    }
}

/// The slot that the identity stage fills.
#[derive(Debug, Clone)]
pub(super) struct EntitySlot {
    identity: String,
    entities: Arc<OnceLock<Arc<Entities>>>,
}

impl EntitySlot {
    /// An empty slot for an identity.
    pub(super) fn new(identity: &str) -> Self {
        Self { identity: identity.to_owned(), entities: Arc::new(OnceLock::new()) }
    }

    /// Fills it; a second call is ignored.
    pub(super) fn fill(&self, entities: Arc<Entities>) {
        let _ = self.entities.set(entities);
    }

    /// The entities, once there are any.
    pub(super) fn get(&self) -> Option<Arc<Entities>> {
        self.entities.get().cloned()
    }

    /// The entity of normalised identifiers of these types, in owner order.
    pub(super) fn of_identifiers(&self, types: Vec<u8>, identifiers: Vec<Expr>) -> Expr {
        self.call(Lookup::Identifiers(types), identifiers)
    }

    /// The entity with this id.
    pub(super) fn of_id(&self, id: Expr) -> Expr {
        self.call(Lookup::Id, vec![id])
    }

    fn call(&self, lookup: Lookup, arguments: Vec<Expr>) -> Expr {
        let function = EntityOf {
            name: format!("kinfold_entity_{}", self.identity),
            slot: self.clone(),
            lookup,
            // volatile keeps the optimiser from moving or repeating the look-up
            signature: Signature::variadic_any(Volatility::Volatile),
        };
        ScalarUDF::new_from_impl(function).call(arguments)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lookup {
    Identifiers(Vec<u8>),
    Id,
}

#[derive(Debug)]
struct EntityOf {
    name: String,
    slot: EntitySlot,
    lookup: Lookup,
    signature: Signature,
}

impl PartialEq for EntityOf {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.lookup == other.lookup
    }
}

impl Eq for EntityOf {}

impl Hash for EntityOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.lookup.hash(state);
    }
}

impl ScalarUDFImpl for EntityOf {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(entities) = self.slot.get() else {
            return exec_err!("identity `{}` has not been built yet", self.slot.identity);
        };
        let mut found: Vec<Option<u32>> = vec![None; args.number_rows];
        for (index, argument) in args.args.iter().enumerate() {
            let values = argument.to_array(args.number_rows)?;
            match &self.lookup {
                Lookup::Identifiers(types) => {
                    let kind = types[index];
                    resolve(&values, &mut found, |text| entities.of_identifier(kind, text))?;
                }
                Lookup::Id => resolve(&values, &mut found, |text| entities.of_id(text))?,
            }
        }
        Ok(ColumnarValue::Array(Arc::new(UInt32Array::from(found))))
    }
}

/// Looks up every row that has no entity yet.
fn resolve(values: &ArrayRef, found: &mut [Option<u32>], of: impl Fn(&str) -> Option<u32>) -> Result<()> {
    match values.data_type() {
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            for (row, slot) in found.iter_mut().enumerate() {
                if slot.is_none() && texts.is_valid(row) {
                    *slot = of(texts.value(row));
                }
            }
        }
        DataType::Utf8View => {
            let texts = values.as_string_view();
            for (row, slot) in found.iter_mut().enumerate() {
                if slot.is_none() && texts.is_valid(row) {
                    *slot = of(texts.value(row));
                }
            }
        }
        _ => return resolve(&cast(values, &DataType::Utf8)?, found, of),
    }
    Ok(())
}
