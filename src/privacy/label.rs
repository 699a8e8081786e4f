//! Classes of data.
//!
//! A label is a name or several with dots between them; `identity` covers `identity.email`. Authors may invent labels;
//! those that functions lower are fixed: `identity.*`, `phi.*`. `derived.X` is what follows from X without being it.

use crate::graph::Lowering;

/// A class of data, such as `phi.diagnosis`.
pub type Label = String;

/// What follows from labelled data without being it.
pub const DERIVED: &str = "derived";
/// A column of a source with `labels: required` of which nothing is said. No destination gets it.
pub const UNLABELLED: &str = "unlabelled";
/// Stays in certain regions: `region.eu`, or `region.eu+uk`.
pub const REGION: &str = "region";
/// How many people there are, never a small number.
const COUNT: &str = "coarse.count";
/// Names nobody to those who have no key.
const PSEUDONYM: &str = "pseudonym";

/// Whether `outer` is the label itself or one above it.
pub fn covers(outer: &str, label: &str) -> bool {
    label.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a label is about health: `phi`, also derived.
pub fn is_health(label: &str) -> bool {
    covers("phi", label.strip_prefix("derived.").unwrap_or(label))
}

/// The label of what is decided by data with a label. A pseudonym says only who is meant.
pub fn derived(label: &str) -> Option<Label> {
    match label {
        PSEUDONYM => None,
        // that there are enough of them is what the number says
        COUNT => Some(COUNT.to_owned()),
        // what is made of data is where they may be
        _ if covers(REGION, label) => Some(label.to_owned()),
        _ if covers(DERIVED, label) => Some(label.to_owned()),
        _ => Some(format!("{DERIVED}.{label}")),
    }
}

/// The label of values that a function made of values with a label. A function that does not know a label keeps it.
pub fn lowered(label: &str, by: Lowering) -> Option<Label> {
    let is = |outer: &str| covers(outer, label);
    match by {
        _ if label.split('.').any(|part| part == UNLABELLED) && by != Lowering::Entity && by != Lowering::Redacted => {
            Some(label.to_owned())
        }
        Lowering::Counted => Some(COUNT.to_owned()),
        Lowering::Grouped if is(DERIVED) => Some(COUNT.to_owned()),
        Lowering::Grouped => Some(label.to_owned()),
        _ if is(REGION) => Some(label.to_owned()),
        Lowering::Entity => Some(PSEUDONYM.to_owned()),
        Lowering::KeyedHash if is("identity") || is("phi.mrn") || is("phi.name") => Some(PSEUDONYM.to_owned()),
        Lowering::Year if is("phi.date") => Some("coarse.year".to_owned()),
        Lowering::AgeBand if is("phi.date") => Some("coarse.age".to_owned()),
        Lowering::Zip3 if is("phi.geo") => Some("coarse.geo".to_owned()),
        Lowering::Redacted => derived(label),
        Lowering::KeyedHash | Lowering::Year | Lowering::AgeBand | Lowering::Zip3 => Some(label.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_covers_those_below_it_and_no_others() {
        assert!(covers("phi", "phi") && covers("phi", "phi.date") && covers("phi.date", "phi.date"));
        assert!(!covers("phi", "philosophy") && !covers("phi.date", "phi") && !covers("phi", "derived.phi"));
        assert!(is_health("phi.date") && is_health("derived.phi.date") && !is_health("derived.behavior"));
    }

    #[test]
    fn what_is_decided_by_data_is_derived_once() {
        assert_eq!(derived("phi.date").as_deref(), Some("derived.phi.date"));
        assert_eq!(derived("derived.phi.date").as_deref(), Some("derived.phi.date"));
        assert_eq!(derived("pseudonym"), None);
    }

    #[test]
    fn functions_lower_only_what_they_are_for() {
        let by = |by, label: &str| lowered(label, by);
        assert_eq!(by(Lowering::KeyedHash, "identity.email").as_deref(), Some("pseudonym"));
        // few diagnoses have few hashes, and the most frequent one is known
        assert_eq!(by(Lowering::KeyedHash, "phi.diagnosis").as_deref(), Some("phi.diagnosis"));
        assert_eq!(by(Lowering::KeyedHash, UNLABELLED).as_deref(), Some(UNLABELLED));
        assert_eq!(by(Lowering::Year, "phi.date").as_deref(), Some("coarse.year"));
        assert_eq!(by(Lowering::Year, "phi.diagnosis").as_deref(), Some("phi.diagnosis"));
        assert_eq!(by(Lowering::Zip3, "phi.geo").as_deref(), Some("coarse.geo"));
        assert_eq!(by(Lowering::Counted, "phi.diagnosis").as_deref(), Some("coarse.count"));
        assert_eq!(by(Lowering::Counted, "derived.unlabelled").as_deref(), Some("derived.unlabelled"));
        assert_eq!(derived("coarse.count").as_deref(), Some("coarse.count"));
        assert_eq!(by(Lowering::Grouped, "derived.phi.visit").as_deref(), Some("coarse.count"));
        assert_eq!(by(Lowering::Grouped, "phi.diagnosis").as_deref(), Some("phi.diagnosis"));
        // no function moves data to another place
        for every in [Lowering::Entity, Lowering::KeyedHash, Lowering::Year, Lowering::Redacted] {
            assert_eq!(by(every, "region.eu").as_deref(), Some("region.eu"));
        }
        assert_eq!(derived("region.eu+uk").as_deref(), Some("region.eu+uk"));
        assert_eq!(by(Lowering::Redacted, "sensitive.note").as_deref(), Some("derived.sensitive.note"));
    }
}
