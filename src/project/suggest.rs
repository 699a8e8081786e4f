//! Nearest names, for "did you mean".
//!
//! The distance is bounded by the length of the word: a far name is worse than none.

/// The candidate nearest to `word`, when one is near. Ties go to the one that starts alike, then to the first.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let bound = match word.chars().count() {
        0..=2 => 1,
        3..=6 => 2,
        _ => 3,
    };
    let lower = word.to_lowercase();
    let mut best: Option<(usize, f64, &str)> = None;
    for candidate in candidates {
        let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
        // At least half of the candidate must be right: `id` is no misspelling of `by`.
        let near = distance <= bound && distance * 2 <= candidate.chars().count().max(1);
        let likeness = strsim::jaro_winkler(&lower, candidate);
        if near && best.is_none_or(|(d, l, _)| distance < d || (distance == d && likeness > l)) {
            best = Some((distance, likeness, candidate));
        }
    }
    best.map(|(_, _, candidate)| candidate)
}

/// As [`nearest`]; a bare table name also finds the one dotted name that ends in it.
pub(super) fn nearest_table<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> Option<&'c str> {
    let bare = word.rsplit('.').next().unwrap_or(word);
    let mut same_table = candidates.clone().into_iter().filter(|c| c.rsplit('.').next() == Some(bare) && *c != word);
    match (same_table.next(), same_table.next()) {
        (Some(only), None) if !word.contains('.') => Some(only),
        (only, more) => nearest(word, candidates.clone())
            .or(only.filter(|_| more.is_none()))
            .or_else(|| nearest_bare(word, candidates)),
    }
}

/// The one dotted name whose last part is near to a bare name.
fn nearest_bare<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> Option<&'c str> {
    let last = |c: &'c str| c.rsplit('.').next().unwrap_or(c);
    let near = nearest(word, candidates.clone().into_iter().map(last)).filter(|_| !word.contains('.'))?;
    let mut found = candidates.into_iter().filter(|c| last(c) == near);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let keys = ["name", "location", "tables", "by", "where"];
        assert_eq!(nearest("tabels", ["labels", "tables"]), Some("tables"));
        assert_eq!(nearest("Location", keys), Some("location"));
        assert_eq!(nearest("wehre", keys), Some("where"));
        assert_eq!(nearest("id", keys), None);
        assert_eq!(nearest("freshness", keys), None);
    }

    #[test]
    fn a_bare_table_finds_its_source() {
        let tables = ["web.tracks", "web.pages", "ehr.patients", "crm.pages"];
        assert_eq!(nearest_table("tracks", tables), Some("web.tracks"));
        assert_eq!(nearest_table("pages", tables), None);
        assert_eq!(nearest_table("trakcs", tables), Some("web.tracks"));
        assert_eq!(nearest_table("pagse", tables), None);
        assert_eq!(nearest_table("wbe.tracks", tables), Some("web.tracks"));
        assert_eq!(nearest_table("shop.patients", tables), Some("ehr.patients"));
    }
}
