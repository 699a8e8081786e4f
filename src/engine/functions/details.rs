//! `kinfold_details`: a row's columns as one JSON text, for people who look at a timeline.
//!
//! Nulls are left out, and a text longer than [`MAX_TEXT`] characters is cut and ends in `...`.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// Characters of a text that are kept.
const MAX_TEXT: usize = 200;

/// The columns with these names and values as JSON.
pub(crate) fn details(columns: Vec<(String, Expr)>) -> Expr {
    let (names, values) = columns.into_iter().unzip();
    // without an argument the signature would refuse it; a row without columns is an empty object anyway
    ScalarUDF::new_from_impl(Details { names, signature: Signature::variadic_any(Volatility::Immutable) }).call(values)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Details {
    names: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for Details {
    fn name(&self) -> &'static str {
        "kinfold_details"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns: Result<Vec<ArrayRef>> =
            args.args.iter().map(|argument| short(argument.to_array(args.number_rows)?)).collect();
        Ok(ColumnarValue::Array(Arc::new(as_json(&self.names, columns?, args.number_rows)?)))
    }
}

/// Whether texts of this type are cut.
fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn short(values: ArrayRef) -> Result<ArrayRef> {
    if !is_text(values.data_type()) {
        return Ok(values);
    }
    let texts = cast(&values, &DataType::Utf8)?;
    let cut = |text: &str| match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    };
    let short: StringArray = texts.as_string::<i32>().iter().map(|text| text.map(cut)).collect();
    Ok(Arc::new(short))
}

fn as_json(names: &[String], columns: Vec<ArrayRef>, rows: usize) -> Result<StringArray> {
    let fields: Vec<Field> =
        names.iter().zip(&columns).map(|(name, c)| Field::new(name, c.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
    let mut writer = WriterBuilder::new().build::<_, LineDelimited>(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    let text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    let lines: StringArray = text.lines().map(Some).collect();
    if lines.len() == rows { Ok(lines) } else { exec_err!("{rows} rows became {} objects", lines.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int64Array;

    #[test]
    fn nulls_are_left_out_and_long_texts_are_cut() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\n\"b"), None, Some(&"é".repeat(201))]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let columns = vec![short(texts).unwrap(), numbers];
        let json = as_json(&["t".to_owned(), "n".to_owned()], columns, 3).unwrap();
        let last = format!("{{\"t\":\"{}...\",\"n\":3}}", "é".repeat(200));
        assert_eq!(json.iter().flatten().collect::<Vec<_>>(), ["{\"t\":\"a\\n\\\"b\",\"n\":1}", "{}", &last]);
    }
}
