//! What must be known before the arguments are understood: how to say that they are not.

use std::ffi::OsString;

/// The value of a flag, as `--flag value` or `--flag=value`, wherever it stands before `--`.
pub(super) fn value_of<'a>(words: &'a [OsString], flag: &str) -> Option<&'a str> {
    let mut words = words.iter().map(|w| w.to_str().unwrap_or_default()).take_while(|w| *w != "--");
    while let Some(word) = words.next() {
        if word == flag {
            return words.next();
        }
        if let Some(value) = word.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_both_spellings() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(value_of(&words("kinfold --color never run"), "--color"), Some("never"));
        assert_eq!(value_of(&words("kinfold run --color=always"), "--color"), Some("always"));
        assert_eq!(value_of(&words("kinfold run --colors always"), "--color"), None);
        assert_eq!(value_of(&words("kinfold query -- --color never"), "--color"), None);
        assert_eq!(value_of(&words("kinfold --color"), "--color"), None);
    }
}
