//! What is told of identifiers, links and entities when somebody asks why, in texts; and how it is drawn.
//!
//! A drawing has the identifiers as nodes and the links between them as edges, in the order in which they are
//! told. An identifier of another entity is drawn as such, a hub as a hub, a link that does not count with the
//! reason.

use std::collections::BTreeMap;
use std::fmt;

/// A typed value, as people write it: `email:ann@x.com`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier {
    /// The identifier type.
    pub kind: String,
    /// The value after `normalize`.
    pub value: String,
}

impl Identifier {
    /// An identifier of this type.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self { kind: kind.into(), value: value.into() }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// What is known of an identifier of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The identifier.
    pub identifier: Identifier,
    /// Its entity.
    pub entity_id: String,
    /// Time of the earliest row that has it, in microseconds.
    pub first_seen: Option<i64>,
    /// Time of the latest such row.
    pub last_seen: Option<i64>,
}

/// An identifier with too many neighbours to mean anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubNote {
    /// The identifier.
    pub identifier: Identifier,
    /// Its distinct neighbours, or those of `neighbour_type`.
    pub links: i64,
    /// How many it may have.
    pub max_links: i64,
    /// The type whose limit it passes; `None` for a limit over all types.
    pub neighbour_type: Option<String>,
}

/// What links two identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grounds {
    /// A row that has both: the earliest.
    Row {
        /// Its table.
        table: String,
        /// Its row id, where the table declares one.
        row_id: Option<String>,
        /// Its time in microseconds.
        at: Option<i64>,
    },
    /// An `always` rule.
    Always {
        /// Who said so.
        by: String,
        /// Why.
        reason: String,
        /// When, as written.
        at: String,
    },
}

/// A link or always rule with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedLink {
    /// The one identifier; along a chain, the earlier.
    pub left: Identifier,
    /// The other.
    pub right: Identifier,
    /// What links them.
    pub grounds: Grounds,
    /// Why the link does not count; `None` when it does.
    pub refused: Option<String>,
}

/// What an identifier that somebody named turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It belongs to an entity.
    Member(Member),
    /// It is a hub: it belongs to nobody and links nobody.
    Hub(HubNote),
    /// No row has it.
    Unknown {
        /// Identifiers of its type that are spelled nearly like it, nearest first.
        near: Vec<Identifier>,
    },
    /// It never identifies anyone.
    Blocked {
        /// The blocked value or `/pattern/`.
        by: String,
    },
    /// Normalising leaves nothing of it.
    Malformed {
        /// What it should have been.
        expected: String,
    },
    /// It is an entity's id.
    Entity {
        /// The whole id.
        entity_id: String,
        /// Identifiers of the entity.
        members: Vec<Member>,
    },
}

/// Something that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// As it was written.
    pub given: String,
    /// The normalised identifier, when it is one.
    pub identifier: Option<Identifier>,
    /// What it is.
    pub standing: Standing,
}

impl Asked {
    /// The entity that it is or belongs to.
    pub fn entity_id(&self) -> Option<&str> {
        match &self.standing {
            Standing::Member(member) => Some(&member.entity_id),
            Standing::Entity { entity_id, .. } => Some(entity_id),
            Standing::Hub(_) | Standing::Unknown { .. } | Standing::Blocked { .. } | Standing::Malformed { .. } => None,
        }
    }

    /// Identifiers that links may start from; none of what no link can have.
    pub fn identifiers(&self) -> Vec<Identifier> {
        match &self.standing {
            Standing::Member(member) => vec![member.identifier.clone()],
            Standing::Hub(hub) => vec![hub.identifier.clone()],
            Standing::Entity { members, .. } => members.iter().map(|m| m.identifier.clone()).collect(),
            Standing::Unknown { .. } | Standing::Blocked { .. } | Standing::Malformed { .. } => Vec::new(),
        }
    }

    /// As messages name it.
    pub fn name(&self) -> String {
        self.identifier.as_ref().map_or_else(|| self.given.clone(), ToString::to_string)
    }
}

/// Whose the identifiers are that are told of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whose {
    /// Entity ids by identifier.
    pub entities: BTreeMap<Identifier, String>,
    /// The hubs among them.
    pub hubs: Vec<HubNote>,
}

impl Whose {
    /// The hub that an identifier is.
    pub fn hub(&self, identifier: &Identifier) -> Option<&HubNote> {
        self.hubs.iter().find(|hub| hub.identifier == *identifier)
    }
}

/// Whether two are one, and the chain that joins them or comes nearest to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairExplanation {
    /// The identity.
    pub identity: String,
    /// What was asked, in its order.
    pub asked: [Asked; 2],
    /// From the first to the second; `None` when there is no way.
    pub chain: Option<Vec<ExplainedLink>>,
    /// Whose the identifiers of the chain are.
    pub whose: Whose,
    /// A never rule that the last run did not have yet: the next one parts the entity that both are of.
    pub parted_by: Option<String>,
}

impl PairExplanation {
    /// Whether both belong to one entity.
    pub fn is_one(&self) -> bool {
        let [left, right] = &self.asked;
        left.entity_id().is_some() && left.entity_id() == right.entity_id()
    }

    /// The chain as a drawing.
    pub fn drawing(&self) -> Drawing {
        let mut draft = Draft::new(None, &self.whose);
        let chain = self.chain.as_deref().unwrap_or_default();
        if chain.is_empty() {
            for identifier in self.asked.iter().flat_map(|asked| &asked.identifier) {
                draft.node(identifier);
            }
        }
        for link in chain {
            draft.edge(link);
        }
        draft.drawing
    }
}

/// One entity with everything that links it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityExplanation {
    /// The identity.
    pub identity: String,
    /// What was asked.
    pub asked: Asked,
    /// Its identifiers, strongest type first.
    pub members: Vec<Member>,
    /// Links and always rules that count.
    pub links: Vec<ExplainedLink>,
    /// Links and always rules that do not, with an end in the entity.
    pub refused: Vec<ExplainedLink>,
    /// Whose the identifiers are.
    pub whose: Whose,
}

impl EntityExplanation {
    /// The entity as a drawing.
    pub fn drawing(&self) -> Drawing {
        let mut draft = Draft::new(self.asked.entity_id(), &self.whose);
        for member in &self.members {
            draft.node(&member.identifier);
        }
        for link in self.links.iter().chain(&self.refused) {
            draft.edge(link);
        }
        draft.drawing
    }
}

/// Nodes and edges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drawing {
    /// The nodes.
    pub nodes: Vec<DrawnNode>,
    /// The edges.
    pub edges: Vec<DrawnEdge>,
}

/// A node of a drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawnNode {
    /// What it stands for.
    pub identifier: Identifier,
    /// What it is.
    pub role: Role,
}

/// What an identifier is in a drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Of the entity that is drawn.
    Own,
    /// Of another entity, if of any.
    Other(Option<String>),
    /// A hub.
    Hub,
}

/// An edge of a drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawnEdge {
    /// Index of a node.
    pub from: usize,
    /// Index of a node.
    pub to: usize,
    /// What it rests on.
    pub grounds: Grounds,
    /// Why it does not count.
    pub refused: Option<String>,
}

/// A drawing while it is made.
struct Draft<'a> {
    /// The entity that is drawn.
    own: Option<&'a str>,
    whose: &'a Whose,
    places: BTreeMap<&'a Identifier, usize>,
    drawing: Drawing,
}

impl<'a> Draft<'a> {
    fn new(own: Option<&'a str>, whose: &'a Whose) -> Self {
        Self { own, whose, places: BTreeMap::new(), drawing: Drawing::default() }
    }

    /// The node of an identifier, made when it is not there yet.
    fn node(&mut self, identifier: &'a Identifier) -> usize {
        if let Some(known) = self.places.get(identifier) {
            return *known;
        }
        let entity = self.whose.entities.get(identifier);
        let role = if self.whose.hub(identifier).is_some() {
            Role::Hub
        } else if self.own.is_some() && entity.map(String::as_str) == self.own {
            Role::Own
        } else {
            Role::Other(entity.cloned())
        };
        let place = self.drawing.nodes.len();
        self.drawing.nodes.push(DrawnNode { identifier: identifier.clone(), role });
        self.places.insert(identifier, place);
        place
    }

    fn edge(&mut self, link: &'a ExplainedLink) {
        let (from, to) = (self.node(&link.left), self.node(&link.right));
        let (grounds, refused) = (link.grounds.clone(), link.refused.clone());
        self.drawing.edges.push(DrawnEdge { from, to, grounds, refused });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(left: &Identifier, right: &Identifier, refused: Option<&str>) -> ExplainedLink {
        let grounds = Grounds::Row { table: "t".to_owned(), row_id: None, at: None };
        ExplainedLink { left: left.clone(), right: right.clone(), grounds, refused: refused.map(str::to_owned) }
    }

    fn member(identifier: &Identifier, entity_id: &str) -> Member {
        Member { identifier: identifier.clone(), entity_id: entity_id.to_owned(), first_seen: None, last_seen: None }
    }

    fn asked(member: Member) -> Asked {
        let identifier = Some(member.identifier.clone());
        Asked { given: "as given".to_owned(), identifier, standing: Standing::Member(member) }
    }

    #[test]
    fn a_drawing_has_each_identifier_once_and_knows_whose_it_is() {
        let [email, phone, mrn] = ["email", "phone", "mrn"].map(|kind| Identifier::new(kind, "1"));
        let hub = HubNote { identifier: phone.clone(), links: 9, max_links: 3, neighbour_type: None };
        let entities = [(email.clone(), "own".to_owned()), (mrn.clone(), "other".to_owned())];
        let entity = EntityExplanation {
            identity: "patient".to_owned(),
            asked: asked(member(&email, "own")),
            members: vec![member(&email, "own")],
            links: Vec::new(),
            refused: vec![link(&email, &phone, Some("hub")), link(&mrn, &email, Some("never rule"))],
            whose: Whose { entities: entities.into(), hubs: vec![hub] },
        };
        let drawing = entity.drawing();
        let roles: Vec<(&Identifier, &Role)> = drawing.nodes.iter().map(|n| (&n.identifier, &n.role)).collect();
        let other = Role::Other(Some("other".to_owned()));
        assert_eq!(roles, [(&email, &Role::Own), (&phone, &Role::Hub), (&mrn, &other)]);
        let edges: Vec<_> = drawing.edges.iter().map(|e| (e.from, e.to, e.refused.as_deref())).collect();
        assert_eq!(edges, [(0, 1, Some("hub")), (2, 0, Some("never rule"))]);
    }

    #[test]
    fn two_are_one_only_if_both_belong_to_somebody() {
        let [email, phone] = ["email", "phone"].map(|kind| Identifier::new(kind, "1"));
        let unknown = |identifier: &Identifier| Asked {
            given: identifier.to_string(),
            identifier: Some(identifier.clone()),
            standing: Standing::Unknown { near: Vec::new() },
        };
        let pair = |left: Asked, right: Asked| PairExplanation {
            identity: "patient".to_owned(),
            asked: [left, right],
            chain: None,
            whose: Whose::default(),
            parted_by: None,
        };
        assert!(pair(asked(member(&email, "a")), asked(member(&phone, "a"))).is_one());
        assert!(!pair(asked(member(&email, "a")), asked(member(&phone, "b"))).is_one());
        let nobody = pair(unknown(&email), unknown(&phone));
        assert!(!nobody.is_one());
        assert_eq!(nobody.drawing().nodes.len(), 2, "what was asked is drawn even without a chain");
    }
}
