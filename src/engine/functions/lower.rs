//! Functions that lower labels (`privacy::lowered` says to what): keyed hashes, the year of a time, an age in bands,
//! three digits of a postal code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::{DatePart, cast, date_part};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};
use std::sync::Arc;

/// The functions of this file for a run at `as_of` (microseconds), but for those over one text.
pub(super) fn functions(as_of: i64) -> Vec<ScalarUDF> {
    let keyed = |name, hash| ScalarUDF::new_from_impl(KeyedHash::new(name, hash));
    vec![
        keyed("hmac_sha256", mac::<Hmac<Sha256>>),
        keyed("hmac_sha512", mac::<Hmac<Sha512>>),
        keyed("hmac_sha1", mac::<Hmac<sha1::Sha1>>),
        keyed("hmac_md5", mac::<Hmac<md5::Md5>>),
        ScalarUDF::new_from_impl(YearOf { signature: Signature::any(1, Volatility::Immutable) }),
        ScalarUDF::new_from_impl(AgeBand { as_of, signature: Signature::any(1, Volatility::Immutable) }),
    ]
}

/// As Node's `crypto.createHmac(algorithm, key).update(value).digest()`.
fn mac<M: Mac + KeyInit>(key: &str, value: &str) -> Option<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(value.as_bytes());
    Some(mac.finalize().into_bytes().to_vec())
}

type Hash = fn(&str, &str) -> Option<Vec<u8>>;

/// `hmac_sha256(value, key [, encoding])`: a null gives null.
#[derive(Debug)]
struct KeyedHash {
    name: &'static str,
    hash: Hash,
    signature: Signature,
}

impl KeyedHash {
    fn new(name: &'static str, hash: Hash) -> Self {
        let arguments = vec![TypeSignature::Any(2), TypeSignature::Any(3)];
        Self { name, hash, signature: Signature::one_of(arguments, Volatility::Immutable) }
    }
}

impl PartialEq for KeyedHash {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for KeyedHash {}

impl std::hash::Hash for KeyedHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for KeyedHash {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let encoding = args.scalar_arguments.get(2).map(|e| e.and_then(ScalarValue::try_as_str).flatten());
        match encoding {
            None | Some(Some("hex" | "base64")) => Ok(Arc::new(Field::new(self.name, DataType::Utf8, true))),
            Some(_) => plan_err!("the encoding of {} is 'hex' or 'base64'", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = texts(&args.args[..2], args.number_rows)?;
        let (values, keys) = (texts[0].as_string::<i32>(), texts[1].as_string::<i32>());
        let base64 =
            matches!(args.args.get(2), Some(ColumnarValue::Scalar(e)) if e.try_as_str().flatten() == Some("base64"));
        let encode = |bytes: Vec<u8>| if base64 { STANDARD.encode(bytes) } else { hex::encode(bytes) };
        let hashed = values.iter().zip(keys).map(|(value, key)| (self.hash)(key?, value?).map(encode));
        Ok(ColumnarValue::Array(Arc::new(hashed.collect::<StringArray>())))
    }
}

/// Arguments as texts.
pub(super) fn texts(args: &[ColumnarValue], rows: usize) -> Result<Vec<ArrayRef>> {
    args.iter().map(|a| Ok(cast(&a.to_array(rows)?, &DataType::Utf8)?)).collect()
}

/// A date or time, also as text; what is none is null.
fn times(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    Ok(cast(&args.args[0].to_array(args.number_rows)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?)
}

/// `year_of(time)`
#[derive(Debug, PartialEq, Eq, Hash)]
struct YearOf {
    signature: Signature,
}

impl ScalarUDFImpl for YearOf {
    fn name(&self) -> &'static str {
        "year_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(date_part(&times(&args)?, DatePart::Year)?))
    }
}

/// `age_band(birth)`: ten years a band, all from 90 together.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AgeBand {
    as_of: i64,
    signature: Signature,
}

impl ScalarUDFImpl for AgeBand {
    fn name(&self) -> &'static str {
        "age_band"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let births = times(&args)?;
        let now = datafusion::arrow::array::TimestampMicrosecondArray::from(vec![self.as_of]);
        let part = |of: &dyn Array, part| Ok::<_, datafusion::error::DataFusionError>(date_part(of, part)?);
        let parts = [DatePart::Year, DatePart::Month, DatePart::Day];
        let of = |array: &dyn Array| parts.into_iter().map(|p| part(array, p)).collect::<Result<Vec<ArrayRef>>>();
        let (born, today) = (of(&births)?, of(&now)?);
        let at = |dates: &[ArrayRef], row: usize| -> [i32; 3] {
            std::array::from_fn(|i| dates[i].as_primitive::<Int32Type>().value(row))
        };
        let today = at(&today, 0);
        let known = births.as_primitive::<TimestampMicrosecondType>();
        let bands = (0..args.number_rows).map(|row| known.is_valid(row).then(|| band(at(&born, row), today)).flatten());
        Ok(ColumnarValue::Array(Arc::new(bands.collect::<StringArray>())))
    }
}

/// The band of somebody who was born on one day (year, month, day) on another; nothing before birth.
fn band(born: [i32; 3], today: [i32; 3]) -> Option<String> {
    let had_birthday = today[1..] >= born[1..];
    match today[0] - born[0] - i32::from(!had_birthday) {
        ..0 => None,
        90.. => Some("90+".to_owned()),
        age => Some(format!("{}-{}", age / 10 * 10, age / 10 * 10 + 9)),
    }
}

/// Prefixes of postal codes under which fewer than 20,000 people live (Census 2000, as HHS lists them for the Safe
/// Harbor method): they tell too much and become `000`.
const FEW_PEOPLE: [&str; 17] = [
    "036", "059", "063", "102", "203", "556", "692", "790", "821", "823", "830", "831", "878", "879", "884", "890",
    "893",
];

/// The first three digits of a US postal code.
pub(super) fn zip3(value: &str) -> Option<String> {
    let digits: String = value.trim().chars().take(3).collect();
    let known = digits.len() == 3 && digits.chars().all(|c| c.is_ascii_digit());
    known.then(|| if FEW_PEOPLE.contains(&digits.as_str()) { "000".to_owned() } else { digits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_change_on_the_birthday_and_end_at_ninety() {
        let today = [2026, 3, 31];
        assert_eq!(band([2016, 4, 1], today).as_deref(), Some("0-9"));
        assert_eq!(band([2016, 3, 31], today).as_deref(), Some("10-19"));
        assert_eq!(band([1936, 4, 1], today).as_deref(), Some("80-89"));
        assert_eq!(band([1936, 3, 31], today).as_deref(), Some("90+"));
        assert_eq!(band([2026, 4, 1], today), None);
    }

    #[test]
    fn postal_codes_of_few_people_are_hidden() {
        assert_eq!(zip3("94110").as_deref(), Some("941"));
        assert_eq!(zip3("03601").as_deref(), Some("000"));
        assert_eq!(zip3("SW1A"), None);
        assert!(FEW_PEOPLE.is_sorted());
    }
}
