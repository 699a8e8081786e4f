//! Which label a column may need, from its name and a sample of its values.
//!
//! A proposal and nothing more: whoever knows the data decides. A column is proposed when most of its values look like an
//! identifier, or when its name says what it is and its values do not speak against it.

/// Share of the values that must look like it.
const MOST: f64 = 0.6;
/// The same where the column's name says nothing: then only what can hardly be anything else counts.
const NEARLY_ALL: f64 = 0.9;

/// A label that a column may need.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// The label.
    pub label: &'static str,
    /// Share of the values that look like it, from 0 to 1.
    pub share: f64,
}

/// One rule: a label, words in a column's name, what values look like, and whether values alone are enough.
struct Rule {
    label: &'static str,
    words: &'static [&'static str],
    looks: fn(&str) -> bool,
    alone: bool,
}

/// In the order in which they are tried.
const RULES: [Rule; 12] = [
    Rule { label: "identity.email", words: &["email", "mail"], looks: is_email, alone: true },
    Rule { label: "identity.ssn", words: &["ssn", "social"], looks: is_ssn, alone: true },
    Rule { label: "identity.ip", words: &["ip"], looks: is_ip, alone: true },
    Rule { label: "phi.mrn", words: &["mrn", "chart", "record"], looks: is_record_number, alone: false },
    Rule {
        label: "identity.phone",
        words: &["phone", "mobile", "tel", "fax", "caller"],
        looks: is_phone,
        alone: false,
    },
    Rule { label: "identity.phone", words: &[], looks: is_written_phone, alone: true },
    Rule {
        label: "identity.device",
        words: &["cookie", "device", "anonymous", "visitor"],
        looks: is_key,
        alone: false,
    },
    Rule { label: "phi.diagnosis", words: &["diagnosis", "icd", "icd10", "dx"], looks: is_text, alone: false },
    Rule {
        label: "phi.date",
        words: &["birth", "dob", "born", "birthday", "death", "admitted", "discharged", "admission", "discharge"],
        looks: is_date,
        alone: false,
    },
    Rule {
        label: "phi.name",
        words: &["name", "firstname", "lastname", "surname", "fullname", "given", "family"],
        looks: is_name,
        alone: false,
    },
    Rule { label: "phi.geo", words: &["zip", "postal", "postcode", "zipcode"], looks: is_code, alone: false },
    Rule { label: "phi.geo", words: &["address", "street", "city", "county"], looks: is_text, alone: false },
];

/// The label that a column may need; nothing where neither its name nor its values say any.
pub fn suggest(column: &str, values: &[&str]) -> Option<Suggestion> {
    let words = words_of(column);
    let filled: Vec<&str> = values.iter().map(|v| v.trim()).filter(|v| !v.is_empty()).collect();
    RULES.iter().find_map(|rule| {
        let named = rule.words.iter().any(|word| words.iter().any(|w| w == word));
        let share = filled.iter().filter(|v| (rule.looks)(v)).count() as f64 / filled.len().max(1) as f64;
        let enough = (named && share >= MOST) || (rule.alone && share >= NEARLY_ALL);
        enough.then_some(Suggestion { label: rule.label, share })
    })
}

/// The words of a name such as `patientFirst_name`.
fn words_of(column: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in column.chars() {
        let begins = c.is_uppercase() && before.is_lowercase();
        if begins || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_email(value: &str) -> bool {
    let Some((local, domain)) = value.rsplit_once('@') else { return false };
    !local.is_empty() && domain.contains('.') && !value.contains(char::is_whitespace)
}

fn is_ssn(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let digits = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
    parts.iter().map(|part| part.len()).eq([3, 2, 4]) && parts.iter().all(digits)
}

fn is_ip(value: &str) -> bool {
    let four: Vec<&str> = value.split('.').collect();
    let colons = value.matches(':').count();
    let is_six = (colons == 7 || value.contains("::")) && value.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    is_six || (four.len() == 4 && four.iter().all(|part| part.parse::<u8>().is_ok()))
}

fn digits(value: &str) -> usize {
    value.bytes().filter(u8::is_ascii_digit).count()
}

fn is_phone(value: &str) -> bool {
    (7..=15).contains(&digits(value)) && value.chars().all(|c| c.is_ascii_digit() || "+-(). x".contains(c))
}

/// A number as only phone numbers are written: with `+`, or in groups.
fn is_written_phone(value: &str) -> bool {
    let grouped = value.contains(['(', ')']) || value.matches(['-', '.', ' ']).count() == 2;
    is_phone(value) && digits(value) >= 10 && !is_date(value) && (value.starts_with('+') || grouped)
}

fn is_record_number(value: &str) -> bool {
    digits(value) >= 4 && value.len() <= 20 && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn is_key(value: &str) -> bool {
    value.len() >= 8 && !value.contains(char::is_whitespace)
}

/// A day, with or without a time.
fn is_date(value: &str) -> bool {
    let day = value.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split(['-', '/', '.']).collect();
    let numbers = parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    numbers && matches!(lengths[..], [4, 1..=2, 1..=2] | [1..=2, 1..=2, 4])
}

fn is_name(value: &str) -> bool {
    value.chars().all(|c| c.is_alphabetic() || " -'.,".contains(c)) && value.chars().any(char::is_alphabetic)
}

fn is_code(value: &str) -> bool {
    (3..=10).contains(&value.len()) && digits(value) >= 2
}

fn is_text(value: &str) -> bool {
    value.chars().any(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(column: &str, values: &[&str]) -> Option<&'static str> {
        suggest(column, values).map(|s| s.label)
    }

    #[test]
    fn values_speak_where_names_do_not() {
        assert_eq!(label("contact", &["ann@x.com", "bob@y.org"]), Some("identity.email"));
        assert_eq!(label("a", &["123-45-6789"]), Some("identity.ssn"));
        assert_eq!(label("a", &["10.0.0.1", "2001:db8::1"]), Some("identity.ip"));
        assert_eq!(label("a", &["(212) 555-0160", "+1 212 555 0161", "212-555-0162"]), Some("identity.phone"));
        assert_eq!(label("at", &["2026-03-01", "2026-03-02T10:00:00Z"]), None, "not every date is one of a person");
        assert_eq!(label("amount", &["2125550160", "17"]), None);
        assert_eq!(label("version", &["1.2.3"]), None);
        assert_eq!(label("a", &[]), None);
    }

    #[test]
    fn names_speak_where_values_do_not_speak_against_them() {
        assert_eq!(label("birth_date", &["1980-02-01"]), Some("phi.date"));
        assert_eq!(label("patientFirstName", &["Ann", "Mary-Jo O'Neil"]), Some("phi.name"));
        assert_eq!(label("mobile", &["2125550160"]), Some("identity.phone"));
        assert_eq!(label("MRN", &["MRN100035"]), Some("phi.mrn"));
        assert_eq!(label("zip", &["02139"]), Some("phi.geo"));
        assert_eq!(label("anonymous_id", &["3309bac2-9f4c-42ef"]), Some("identity.device"));
        assert_eq!(label("name", &["4711", "4712"]), None);
        assert_eq!(label("ship", &["10 km"]), None, "`ip` is no word of it");
        // blanks say nothing, and two of three are most
        assert_eq!(label("email", &["ann@x.com", "", " ", "b@y.org", "none"]), Some("identity.email"));
        let found = suggest("email", &["ann@x.com", "b@y.org", "none"]).unwrap();
        assert!((found.share - 2.0 / 3.0).abs() < 1e-9);
    }
}
