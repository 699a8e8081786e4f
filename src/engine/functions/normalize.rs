//! Normalisers and blocks of identifier types: raw texts in, identifiers or nothing out. As one function per type,
//! and as one SQL function per type for attributes over identifier columns.

use crate::model::{BlockRule, IdentifierType, Normalize};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_plan::PhysicalExpr;
use regex::RegexSet;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What becomes of one raw text.
#[derive(Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is this identifier.
    Identifier(String),
    /// It never identifies anyone.
    Blocked {
        /// Its normalised spelling.
        value: String,
        /// The blocked value, or the `/pattern/` that matches.
        by: String,
    },
    /// Normalising leaves nothing.
    Nothing,
}

/// The function of one identifier type.
#[derive(Debug)]
pub(crate) struct Normalizer {
    name: String,
    normalize: Normalize,
    /// A SQL normaliser over [`Normalizer::raw_schema`].
    sql: Option<Arc<dyn PhysicalExpr>>,
    region: Option<phonenumber::country::Id>,
    exact: BTreeSet<String>,
    patterns: RegexSet,
    signature: Signature,
}

impl Normalizer {
    /// What a SQL normaliser reads: one column, `value`.
    pub(crate) fn raw_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true)]))
    }

    /// Compiles the normaliser and the blocks of an identifier type; `sql` is its expression, if it has one.
    ///
    /// # Errors
    /// When a block pattern is not a regular expression or the phone region is unknown.
    pub(crate) fn new(identity: &str, kind: &IdentifierType, sql: Option<Arc<dyn PhysicalExpr>>) -> Result<Self> {
        let failed = |e: String| DataFusionError::Plan(e);
        let mut exact = BTreeSet::new();
        let mut patterns = Vec::new();
        for rule in &kind.block {
            match rule {
                BlockRule::Exact(value) => {
                    exact.insert(value.clone());
                }
                BlockRule::Pattern(pattern) => patterns.push(pattern.value.clone()),
            }
        }
        let region = match &kind.normalize {
            Normalize::Phone(region) => {
                Some(region.parse().map_err(|_| failed(format!("unknown phone region `{region}`")))?)
            }
            _ => None,
        };
        Ok(Self {
            name: format!("kinfold_normalize_{identity}_{}", kind.name.value),
            normalize: kind.normalize.clone(),
            sql,
            region,
            exact,
            patterns: RegexSet::new(patterns).map_err(|e| failed(e.to_string()))?,
            signature: Signature::any(1, Volatility::Immutable),
        })
    }

    /// The identifier of each raw text, or nothing.
    ///
    /// # Errors
    /// When a SQL normaliser fails on a text.
    pub(crate) fn apply<'a>(&self, raws: &[&'a str]) -> Result<Vec<Option<Cow<'a, str>>>> {
        let spelled = self.spell(raws)?.into_iter();
        Ok(spelled.map(|value| value.filter(|value| !self.blocked(value))).collect())
    }

    /// As [`Self::apply`] for one text, with what stands against it.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(crate) fn judge(&self, raw: &str) -> Result<Judged> {
        let Some(value) = self.spell(&[raw])?.pop().flatten().filter(|value| !value.is_empty()) else {
            return Ok(Judged::Nothing);
        };
        let value = value.into_owned();
        let pattern =
            || self.patterns.matches(&value).iter().next().map(|p| format!("/{}/", self.patterns.patterns()[p]));
        let by = if self.exact.contains(&value) { Some(value.clone()) } else { pattern() };
        Ok(match by {
            Some(by) => Judged::Blocked { value, by },
            None => Judged::Identifier(value),
        })
    }

    /// The normalised spelling of each raw text, blocked or not.
    fn spell<'a>(&self, raws: &[&'a str]) -> Result<Vec<Option<Cow<'a, str>>>> {
        let Some(sql) = &self.sql else {
            return Ok(raws.iter().map(|raw| self.spelled(raw)).collect());
        };
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(raws));
        let made = sql.evaluate(&RecordBatch::try_new(Self::raw_schema(), vec![column])?)?.into_array(raws.len())?;
        let made = cast(&made, &DataType::Utf8)?;
        let texts = raws.iter().zip(made.as_string::<i32>()).map(|(raw, text)| match text {
            Some(text) if text == *raw => Some(Cow::Borrowed(*raw)),
            other => other.map(|text| Cow::Owned(text.to_owned())),
        });
        Ok(texts.collect())
    }

    fn spelled<'a>(&self, raw: &'a str) -> Option<Cow<'a, str>> {
        Some(match &self.normalize {
            Normalize::None | Normalize::Sql(_) => Cow::Borrowed(raw),
            Normalize::Trim => Cow::Borrowed(raw.trim()),
            Normalize::Lower => lower(raw.trim()),
            Normalize::Digits => Cow::Owned(raw.chars().filter(char::is_ascii_digit).collect()),
            Normalize::Email => email(raw)?,
            Normalize::Phone(_) => Cow::Owned(phone(raw, self.region)?),
        })
    }

    fn blocked(&self, value: &str) -> bool {
        value.is_empty() || self.exact.contains(value) || self.patterns.is_match(value)
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_uppercase) { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) }
}

/// An address needs something before an `@`, and a domain with a dot after it; no white space inside.
fn email(raw: &str) -> Option<Cow<'_, str>> {
    let value = lower(raw.trim());
    let (local, domain) = value.rsplit_once('@')?;
    let shaped = !local.is_empty()
        && !value.chars().any(char::is_whitespace)
        && domain.split('.').count() >= 2
        && domain.split('.').all(|part| !part.is_empty());
    shaped.then_some(value)
}

/// E.164 of a number that the numbering plan allows, by libphonenumber's data.
fn phone(raw: &str, region: Option<phonenumber::country::Id>) -> Option<String> {
    let number = phonenumber::parse(region, raw.trim()).ok()?;
    number.is_valid().then(|| number.format().mode(phonenumber::Mode::E164).to_string())
}

impl PartialEq for Normalizer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.exact == other.exact && self.patterns.patterns() == other.patterns.patterns()
    }
}

impl Eq for Normalizer {}

impl Hash for Normalizer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Normalizer {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        let text = cast(&values, &DataType::Utf8)?;
        let text = text.as_string::<i32>();
        let raws: Vec<&str> = text.iter().flatten().collect();
        let mut identifiers = self.apply(&raws)?.into_iter();
        let out: StringArray = text.iter().map(|v| v.and_then(|_| identifiers.next().flatten())).collect();
        debug_assert_eq!(out.len(), values.len(), "one identifier or null per value");
        Ok(ColumnarValue::Array(Arc::new(out) as ArrayRef))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{FileId, Span, Spanned};

    #[test]
    fn emails_are_trimmed_lowered_and_shaped() {
        assert_eq!(email("  Ann@X.Com "), Some("ann@x.com".into()));
        for bad in ["n/a", "@x.com", "ann@", "ann@x", "a nn@x.com", "ann@.com", ""] {
            assert_eq!(email(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_identifier_says_why() {
        let nowhere = Span { file: FileId(0), start: 0, end: 0 };
        let kind = IdentifierType {
            name: Spanned::new("email".to_owned(), nowhere),
            normalize: Normalize::Email,
            block: vec![
                BlockRule::Exact("unknown@x.com".to_owned()),
                BlockRule::Pattern(Spanned::new("^test@".to_owned(), nowhere)),
            ],
            max_links: None,
            max_per_entity: None,
        };
        let normalizer = Normalizer::new("patient", &kind, None).expect("a normaliser");
        let judged = |raw: &str| normalizer.judge(raw).expect("no SQL");
        let blocked = |value: &str, by: &str| Judged::Blocked { value: value.to_owned(), by: by.to_owned() };
        assert_eq!(judged(" Ann@X.com"), Judged::Identifier("ann@x.com".to_owned()));
        assert_eq!(judged("UNKNOWN@x.com"), blocked("unknown@x.com", "unknown@x.com"));
        assert_eq!(judged("test@x.com"), blocked("test@x.com", "/^test@/"));
        assert_eq!(judged("nobody"), Judged::Nothing);
    }

    #[test]
    fn national_and_international_spellings_are_one_number() {
        let us = "US".parse().ok();
        for spelling in ["(212) 555-0123", "212.555.0123", "+1 212 555 0123", "1-212-555-0123"] {
            assert_eq!(phone(spelling, us).as_deref(), Some("+12125550123"), "{spelling}");
        }
        for junk in ["000-000-0000", "unknown", "", "123"] {
            assert_eq!(phone(junk, us), None, "{junk}");
        }
    }
}
