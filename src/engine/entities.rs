//! Which entity a row belongs to: the stitched identifiers as a SQL function.
//!
//! Plans are bound before anything is stitched, so the function holds a slot that the identity stage fills.
//! Arguments are raw identifiers in owner order; the first that is neither null nor a hub once it is normalised
//! decides. Texts that stitching has seen are not normalised again.

use super::functions::Normalizer;
use crate::identity::{EntityId, HUB, Nodes, Scratch, Spelled, Spellings};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, UInt32Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
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
    /// Raw texts that stand for them.
    pub spellings: Spellings,
    /// Entity of each identifier, [`HUB`] for hubs.
    pub entity: Vec<u32>,
    /// Id of each entity.
    pub ids: Vec<EntityId>,
    by_id: OnceLock<HashMap<EntityId, u32>>,
    /// What this holds of the memory budget, given back with it.
    _memory: Option<MemoryReservation>,
}

impl Entities {
    /// Joins identifiers, their entities and the entities' ids.
    pub(super) fn new(nodes: Nodes, spellings: Spellings, entity: Vec<u32>, ids: Vec<EntityId>) -> Self {
        debug_assert_eq!(nodes.len(), entity.len(), "one entity per identifier");
        Self { nodes, spellings, entity, ids, by_id: OnceLock::new(), _memory: None }
    }

    /// The same with its part of the memory budget.
    pub(super) fn accounted_for(self, memory: MemoryReservation) -> Self {
        Self { _memory: Some(memory), ..self }
    }

    /// Number of entities.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The entity of an identifier; hubs have none.
    pub(super) fn of_identifier(&self, type_code: u8, text: &str) -> Option<u32> {
        self.of_node(self.nodes.lookup(type_code, text)?)
    }

    /// Whether an identifier is there and is a hub.
    pub(super) fn is_hub(&self, type_code: u8, text: &str) -> bool {
        self.nodes.lookup(type_code, text).is_some_and(|node| self.of_node(node).is_none())
    }

    fn of_node(&self, node: u32) -> Option<u32> {
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
    /// By type code.
    normalizers: Arc<[Arc<Normalizer>]>,
    entities: Arc<OnceLock<Arc<Entities>>>,
}

impl EntitySlot {
    /// An empty slot for an identity.
    pub(super) fn new(identity: &str, normalizers: Vec<Arc<Normalizer>>) -> Self {
        Self { identity: identity.to_owned(), normalizers: normalizers.into(), entities: Arc::new(OnceLock::new()) }
    }

    /// Fills it; a second call is ignored.
    pub(super) fn fill(&self, entities: Arc<Entities>) {
        let _ = self.entities.set(entities);
    }

    /// The entities, once there are any.
    pub(super) fn get(&self) -> Option<Arc<Entities>> {
        self.entities.get().cloned()
    }

    /// The normaliser of a type.
    pub(super) fn normalizer(&self, type_code: u8) -> &Arc<Normalizer> {
        &self.normalizers[usize::from(type_code)]
    }

    /// The entity of raw identifiers of these types, in owner order.
    pub(super) fn of_identifiers(&self, types: Vec<u8>, identifiers: Vec<Expr>) -> Expr {
        self.call(Lookup::Identifiers(types), identifiers)
    }

    /// The entity with this id.
    pub(super) fn of_id(&self, id: Expr) -> Expr {
        self.call(Lookup::Id, vec![id])
    }

    /// The id of an entity.
    pub(super) fn id_of(&self, entity: Expr) -> Expr {
        self.call(Lookup::Entity, vec![entity])
    }

    fn call(&self, lookup: Lookup, arguments: Vec<Expr>) -> Expr {
        let function = EntityOf {
            name: match lookup {
                Lookup::Entity => format!("kinfold_id_{}", self.identity),
                Lookup::Identifiers(_) | Lookup::Id => format!("kinfold_entity_{}", self.identity),
            },
            slot: self.clone(),
            lookup,
            // volatile keeps the optimiser from moving or repeating the look-up
            signature: Signature::variadic_any(Volatility::Volatile),
        };
        ScalarUDF::new_from_impl(function).call(arguments)
    }
}

/// What tells whose a row is: the arguments of such a function.
pub(super) fn keys_of(entity: &Expr) -> Option<&[Expr]> {
    let Expr::ScalarFunction(call) = entity else { return None };
    call.func.inner().downcast_ref::<EntityOf>().map(|_| call.args.as_slice())
}

/// The same function over other arguments.
pub(super) fn with_keys(entity: &Expr, keys: Vec<Expr>) -> Expr {
    match entity {
        Expr::ScalarFunction(call) => call.func.call(keys),
        other => other.clone(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lookup {
    Identifiers(Vec<u8>),
    Id,
    /// The other way round.
    Entity,
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
        Ok(match self.lookup {
            Lookup::Identifiers(_) | Lookup::Id => DataType::UInt32,
            Lookup::Entity => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(entities) = self.slot.get() else {
            return exec_err!("identity `{}` has not been built yet", self.slot.identity);
        };
        if self.lookup == Lookup::Entity {
            return ids_of(&entities, &args);
        }
        let mut found: Vec<Option<u32>> = vec![None; args.number_rows];
        let mut scratch = Scratch::default();
        for (index, argument) in args.args.iter().enumerate() {
            let values = texts(argument.to_array(args.number_rows)?)?;
            match &self.lookup {
                Lookup::Identifiers(types) => {
                    let kind = (types[index], self.slot.normalizer(types[index]).as_ref());
                    match values.data_type() {
                        DataType::Utf8View => {
                            resolve(&entities, &mut scratch, kind, values.as_string_view().iter(), &mut found)?;
                        }
                        _ => resolve(&entities, &mut scratch, kind, values.as_string::<i32>().iter(), &mut found)?,
                    }
                }
                Lookup::Id | Lookup::Entity => {
                    let ids = cast(&values, &DataType::Utf8)?;
                    for (slot, id) in found.iter_mut().zip(ids.as_string::<i32>()) {
                        *slot = slot.or_else(|| entities.of_id(id?));
                    }
                }
            }
        }
        Ok(ColumnarValue::Array(Arc::new(UInt32Array::from(found))))
    }
}

/// Ids of entities.
fn ids_of(entities: &Entities, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let Some(codes) = args.args.first() else { return exec_err!("an entity's id needs the entity") };
    let codes = codes.to_array(args.number_rows)?;
    let id = |code: Option<u32>| entities.ids.get(code? as usize).map(ToString::to_string);
    let ids: StringArray = codes.as_primitive::<UInt32Type>().iter().map(id).collect();
    Ok(ColumnarValue::Array(Arc::new(ids)))
}

/// A column of texts as it is, or as plain text.
pub(super) fn texts(values: ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Utf8 | DataType::Utf8View => Ok(values),
        _ => Ok(cast(&values, &DataType::Utf8)?),
    }
}

/// Looks up every row that has no entity yet.
fn resolve<'v>(
    entities: &Entities,
    scratch: &mut Scratch,
    (type_code, normalizer): (u8, &Normalizer),
    values: impl Iterator<Item = Option<&'v str>> + Clone,
    found: &mut [Option<u32>],
) -> Result<()> {
    let wanted = values.clone().zip(found.iter()).map(|(value, known)| value.filter(|_| known.is_none()));
    let spelled = entities.spellings.resolve_batch(&entities.nodes, scratch, type_code, wanted);
    let mut unknown: Vec<(usize, &str)> = Vec::new();
    for (row, (value, spelled)) in values.zip(spelled).enumerate() {
        match (spelled, value) {
            (Spelled::Node(node), _) => found[row] = entities.of_node(node),
            (Spelled::Unknown, Some(text)) => unknown.push((row, text)),
            _ => {}
        }
    }
    // what no link row has, such as a row that the identity's `where` leaves out, may be spelled another way
    let texts: Vec<&str> = unknown.iter().map(|(_, text)| *text).collect();
    for ((row, _), identifier) in unknown.iter().zip(normalizer.apply(&texts)?) {
        found[*row] = identifier.and_then(|text| entities.of_identifier(type_code, &text));
    }
    Ok(())
}
