//! Scalar functions: the run's logical time, secrets and masks.

use super::date_trunc::DateTrunc;
use super::lower::{self, texts, zip3};
use super::random::RandomShare;
use crate::model::Secret;
use datafusion::arrow::array::{Array, AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All scalar functions for a run at `as_of` (microseconds).
pub(crate) fn scalar_functions(as_of: i64, secrets: &BTreeMap<String, Secret>) -> Vec<ScalarUDF> {
    let text = |name, arguments, apply: fn(&[&str]) -> Option<String>| {
        ScalarUDF::new_from_impl(TextFunction::new(name, arguments, apply))
    };
    let mut all = vec![
        ScalarUDF::new_from_impl(AsOf { as_of, signature: Signature::nullary(Volatility::Immutable) }),
        ScalarUDF::new_from_impl(SecretFunction::new(secrets)),
        ScalarUDF::new_from_impl(DateTrunc::default()),
        text("mask", 1, |a| Some(mask(a[0]))),
        text("redact", 1, |_| Some("[redacted]".to_owned())),
        text("zip3", 1, |a| zip3(a[0])),
        ScalarUDF::new_from_impl(RandomShare::new()),
    ];
    all.extend(lower::functions(as_of));
    all
}

/// `as_of()` as a typed literal.
pub(crate) fn as_of_literal(as_of: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(as_of), Some("UTC".into()))
}

/// A missing time.
pub(crate) fn as_of_literal_null() -> ScalarValue {
    ScalarValue::TimestampMicrosecond(None, Some("UTC".into()))
}

/// The first character stays, the rest becomes stars; the length is hidden.
fn mask(value: &str) -> String {
    value.chars().next().map_or_else(String::new, |c| format!("{c}***"))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AsOf {
    as_of: i64,
    signature: Signature,
}

impl ScalarUDFImpl for AsOf {
    fn name(&self) -> &'static str {
        "as_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(as_of_literal(self.as_of)))
    }
}

/// `secret('NAME')`: volatile, so that no plan ever holds the value.
#[derive(Debug, PartialEq, Eq)]
struct SecretFunction {
    secrets: BTreeMap<String, Secret>,
    signature: Signature,
}

impl std::hash::Hash for SecretFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl SecretFunction {
    fn new(secrets: &BTreeMap<String, Secret>) -> Self {
        Self { secrets: secrets.clone(), signature: Signature::exact(vec![DataType::Utf8], Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for SecretFunction {
    fn name(&self) -> &'static str {
        "secret"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(
        &self,
        args: datafusion::logical_expr::ReturnFieldArgs,
    ) -> Result<datafusion::arrow::datatypes::FieldRef> {
        let Some(Some(name)) = args.scalar_arguments.first().map(|a| a.and_then(ScalarValue::try_as_str).flatten())
        else {
            return plan_err!("secret() takes a name in quotes");
        };
        if !self.secrets.contains_key(name) {
            return plan_err!("no secret named `{name}`; name it under `secrets:` in kinfold.yaml");
        }
        Ok(Arc::new(datafusion::arrow::datatypes::Field::new("secret", DataType::Utf8, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ColumnarValue::Scalar(name) = &args.args[0] else { return exec_err!("secret() takes a name in quotes") };
        let value = name.try_as_str().flatten().and_then(|n| self.secrets.get(n));
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(value.map(|s| s.reveal().to_owned()))))
    }
}

/// A function over texts; a null argument gives null.
#[derive(Debug)]
struct TextFunction {
    name: &'static str,
    apply: fn(&[&str]) -> Option<String>,
    signature: Signature,
}

impl TextFunction {
    fn new(name: &'static str, arguments: usize, apply: fn(&[&str]) -> Option<String>) -> Self {
        Self { name, apply, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl PartialEq for TextFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TextFunction {}

impl std::hash::Hash for TextFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = texts(&args.args, args.number_rows)?;
        let columns: Vec<&StringArray> = arrays.iter().map(AsArray::as_string::<i32>).collect();
        let out: StringArray = (0..args.number_rows)
            .map(|row| {
                let values: Option<Vec<&str>> = columns.iter().map(|t| t.is_valid(row).then(|| t.value(row))).collect();
                values.and_then(|v| (self.apply)(&v))
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hide_length_and_detail() {
        assert_eq!(mask("Ann"), "A***");
    }
}
