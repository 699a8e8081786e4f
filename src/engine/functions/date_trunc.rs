//! `date_trunc`, as DataFusion's, and faster for times in UTC: they need no calendar of time zones, which
//! DataFusion asks for every row of a column that says its zone.

use datafusion::arrow::array::{Array, ArrayRef, make_array};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// The function under DataFusion's name.
#[derive(Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct DateTrunc {
    theirs: DateTruncFunc,
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.theirs.name()
    }

    fn aliases(&self) -> &[String] {
        self.theirs.aliases()
    }

    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.theirs.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.theirs.return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zoned = args.args.get(1).map(ColumnarValue::data_type);
        let (Some(zoned), Some(ColumnarValue::Array(times))) = (&zoned, args.args.get(1)) else {
            return self.theirs.invoke_with_args(args);
        };
        let Some(zoneless) = without_utc(zoned) else { return self.theirs.invoke_with_args(args) };
        args.args[1] = ColumnarValue::Array(with_type(times, &zoneless)?);
        for field in [&mut args.arg_fields[1], &mut args.return_field] {
            *field = Arc::new(field.as_ref().clone().with_data_type(zoneless.clone()));
        }
        Ok(match self.theirs.invoke_with_args(args)? {
            ColumnarValue::Array(times) => ColumnarValue::Array(with_type(&times, zoned)?),
            ColumnarValue::Scalar(time) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&with_type(&time.to_array()?, zoned)?, 0)?)
            }
        })
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        self.theirs.output_ordering(input)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.theirs.documentation()
    }
}

/// The type without its zone, if that is UTC.
fn without_utc(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(unit, Some(zone)) if matches!(zone.as_ref(), "UTC" | "+00:00") => {
            Some(DataType::Timestamp(*unit, None))
        }
        _ => None,
    }
}

/// The same numbers under another type.
fn with_type(times: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    Ok(make_array(times.to_data().into_builder().data_type(data_type.clone()).build()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::TimestampMicrosecondArray;
    use datafusion::arrow::datatypes::{Field, TimeUnit};
    use datafusion::config::ConfigOptions;

    fn truncated(function: &dyn ScalarUDFImpl, grain: &str, times: &ArrayRef) -> ArrayRef {
        let field = |name, data_type: &DataType| Arc::new(Field::new(name, data_type.clone(), true));
        let args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(ScalarValue::from(grain)), ColumnarValue::Array(Arc::clone(times))],
            arg_fields: vec![field("grain", &DataType::Utf8), field("time", times.data_type())],
            number_rows: times.len(),
            return_field: field("out", times.data_type()),
            config_options: Arc::new(ConfigOptions::default()),
        };
        function.invoke_with_args(args).unwrap().into_array(times.len()).unwrap()
    }

    #[test]
    fn equals_theirs() {
        let day = 86_400_000_000_i64;
        let numbers = (-900..900_i64).map(|n| (n % 7 != 3).then_some(n * 37 * day / 3 + n * 7_919_123_457));
        let plain: TimestampMicrosecondArray = numbers.collect();
        for zone in [Some("UTC"), Some("+00:00"), Some("+02:00"), Some("Europe/Berlin"), None] {
            let times: ArrayRef = Arc::new(plain.clone().with_timezone_opt(zone));
            assert!(matches!(times.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)));
            for grain in ["second", "hour", "day", "week", "month", "quarter", "year"] {
                let theirs = truncated(&DateTruncFunc::new(), grain, &times);
                assert_eq!(truncated(&DateTrunc::default(), grain, &times).to_data(), theirs.to_data(), "{grain}");
            }
        }
    }
}
