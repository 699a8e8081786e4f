//! Coding of values for grouped aggregates: every distinct value becomes a small number once, and groups
//! keep numbers. Comparison of codes is by the value's order (text by UTF-8 bytes), so that ties do not
//! depend on arrival.

use datafusion::arrow::array::{
    Array, ArrayAccessor, ArrayRef, AsArray, Int64Array, StringArray, StringViewArray, UInt32Array,
};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::row::{Row, RowConverter, SortField};
use datafusion::error::Result;
use hashbrown::HashMap;
use std::cmp::Ordering;
use std::hash::Hash;
use std::sync::Arc;

/// Code of a null.
pub(crate) const NULL: u32 = u32::MAX;

/// Distinct values of one type and their codes.
pub(super) enum ValueCoder {
    /// Text of any Arrow layout.
    Text { codes: HashMap<Box<str>, u32>, texts: Vec<Box<str>>, bytes: usize, data_type: DataType },
    /// Whole numbers and times.
    Numbers { codes: HashMap<i64, u32>, numbers: Vec<i64>, data_type: DataType },
    /// Everything else, as comparable bytes.
    Rows { converter: RowConverter, codes: HashMap<Box<[u8]>, u32>, rows: Vec<Box<[u8]>>, bytes: usize },
}

impl ValueCoder {
    /// A coder for values of `data_type`.
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text { codes: HashMap::new(), texts: Vec::new(), bytes: 0, data_type: data_type.clone() }
            }
            DataType::Int64 | DataType::Int32 | DataType::Date32 | DataType::Timestamp(..) => {
                Self::Numbers { codes: HashMap::new(), numbers: Vec::new(), data_type: data_type.clone() }
            }
            other => Self::Rows {
                converter: RowConverter::new(vec![SortField::new(other.clone())])?,
                codes: HashMap::new(),
                rows: Vec::new(),
                bytes: 0,
            },
        })
    }

    /// Codes of some rows of a column, [`NULL`] for nulls.
    pub(super) fn code(&mut self, values: &ArrayRef, rows: &[u32]) -> Result<Vec<u32>> {
        match self {
            Self::Text { codes, texts, bytes, .. } => {
                let one = |text: &str| code_of(codes, texts, bytes, text);
                Ok(match values.data_type() {
                    DataType::Utf8View => of_views(values.as_string_view(), rows, one),
                    DataType::LargeUtf8 => of_rows(values.as_string::<i64>(), rows, one),
                    _ => of_rows(values.as_string::<i32>(), rows, one),
                })
            }
            Self::Numbers { codes, numbers, .. } => {
                let values = cast(values, &DataType::Int64)?;
                Ok(of_rows(values.as_primitive::<Int64Type>(), rows, |number| {
                    *codes.entry(number).or_insert_with(|| {
                        numbers.push(number);
                        u32::try_from(numbers.len() - 1).unwrap_or(NULL)
                    })
                }))
            }
            Self::Rows { converter, codes, rows: known, bytes: held } => {
                let picked = take(values, &UInt32Array::from(rows.to_vec()), None)?;
                let converted = converter.convert_columns(&[Arc::clone(&picked)])?;
                let code = |(row, bytes): (usize, Row<'_>)| {
                    if picked.is_null(row) { NULL } else { code_of(codes, known, held, bytes.data()) }
                };
                Ok(converted.iter().enumerate().map(code).collect())
            }
        }
    }

    /// The order of two coded values.
    pub(super) fn compare(&self, a: u32, b: u32) -> Ordering {
        match self {
            Self::Text { texts, .. } => texts[a as usize].cmp(&texts[b as usize]),
            Self::Numbers { numbers, .. } => numbers[a as usize].cmp(&numbers[b as usize]),
            Self::Rows { rows, .. } => rows[a as usize].cmp(&rows[b as usize]),
        }
    }

    /// The values of `codes`, nulls for [`NULL`].
    pub(super) fn decode(&self, codes: &[u32]) -> Result<ArrayRef> {
        match self {
            Self::Text { texts, data_type, .. } => {
                let array: StringArray =
                    codes.iter().map(|c| (*c != NULL).then(|| texts[*c as usize].as_ref())).collect();
                Ok(cast(&array, data_type)?)
            }
            Self::Numbers { numbers, data_type, .. } => {
                let array: Int64Array = codes.iter().map(|c| (*c != NULL).then(|| numbers[*c as usize])).collect();
                // 32-bit dates come from 32-bit numbers only
                let narrow = if *data_type == DataType::Date32 { &DataType::Int32 } else { &DataType::Int64 };
                Ok(cast(&cast(&array, narrow)?, data_type)?)
            }
            Self::Rows { converter, rows, .. } => {
                let parser = converter.parser();
                let present = codes.iter().filter(|c| **c != NULL).map(|c| parser.parse(&rows[*c as usize]));
                let values = converter.convert_rows(present)?.swap_remove(0);
                if values.len() == codes.len() {
                    return Ok(values);
                }
                let mut next = 0_u32;
                let indices: datafusion::arrow::array::UInt32Array = codes
                    .iter()
                    .map(|c| {
                        (*c != NULL).then(|| {
                            next += 1;
                            next - 1
                        })
                    })
                    .collect();
                Ok(datafusion::arrow::compute::take(&values, &indices, None)?)
            }
        }
    }

    /// Approximate bytes held.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text { texts, bytes, .. } => texts.len() * 48 + bytes,
            Self::Numbers { numbers, .. } => numbers.len() * 32,
            Self::Rows { rows, bytes, .. } => rows.len() * 48 + bytes,
        }
    }
}

/// Codes of some rows of a column.
fn of_rows<T>(values: impl ArrayAccessor<Item = T>, rows: &[u32], mut one: impl FnMut(T) -> u32) -> Vec<u32> {
    let nulls = values.nulls();
    let is_null = |row: usize| nulls.is_some_and(|nulls| nulls.is_null(row));
    rows.iter().map(|row| *row as usize).map(|row| if is_null(row) { NULL } else { one(values.value(row)) }).collect()
}

/// As [`of_rows`], of texts by their views. In one array an equal view is an equal text, and a page with a dictionary
/// gives each text once, so most rows ask no further.
fn of_views(values: &StringViewArray, rows: &[u32], mut one: impl FnMut(&str) -> u32) -> Vec<u32> {
    const BITS: u32 = 6;
    // no text is so long
    const NO_VIEW: u128 = u128::MAX;
    let views = values.views();
    let mut recent = [(NO_VIEW, NULL); 1 << BITS];
    let mut code = |row: usize| {
        let view = views[row];
        let mixed = ((view >> 64) as u64 ^ view as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (known, code) = &mut recent[(mixed >> (u64::BITS - BITS)) as usize];
        if *known != view {
            (*known, *code) = (view, one(values.value(row)));
        }
        *code
    };
    rows.iter().map(|row| *row as usize).map(|row| if values.is_null(row) { NULL } else { code(row) }).collect()
}

/// The code of a value, known or new.
fn code_of<T: ?Sized + Eq + Hash>(
    codes: &mut HashMap<Box<T>, u32>,
    known: &mut Vec<Box<T>>,
    bytes: &mut usize,
    value: &T,
) -> u32
where
    for<'v> Box<T>: From<&'v T>,
{
    if let Some(code) = codes.get(value) {
        return *code;
    }
    let code = u32::try_from(known.len()).unwrap_or(NULL);
    // it is kept twice
    *bytes += 2 * size_of_val(value);
    known.push(value.into());
    codes.insert(value.into(), code);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::TimeUnit;

    #[test]
    fn values_of_every_type_come_back_and_keep_their_order() {
        let zone = || Some("UTC".into());
        let types = [
            DataType::Int64,
            DataType::Int32,
            DataType::Int16,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Microsecond, zone()),
            DataType::Timestamp(TimeUnit::Nanosecond, zone()),
            DataType::Float64,
            DataType::Utf8,
            DataType::Utf8View,
        ];
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(3), Some(7), Some(5)]));
        for data_type in types {
            let narrow = if data_type == DataType::Date32 { DataType::Int32 } else { DataType::Int64 };
            let values = cast(&cast(&numbers, &narrow).unwrap(), &data_type).unwrap();
            let mut coder = ValueCoder::new(&data_type).unwrap();
            let codes = coder.code(&values, &[0, 1, 2, 3, 4]).unwrap();
            assert_eq!((codes[0], codes[1]), (codes[3], NULL), "{data_type}");
            assert_eq!(coder.compare(codes[2], codes[4]), Ordering::Less, "{data_type}");
            assert_eq!(coder.decode(&codes).unwrap().to_data(), values.to_data(), "{data_type}");
            assert_eq!(coder.code(&values, &[4, 2]).unwrap(), [codes[4], codes[2]], "{data_type}");
        }
    }

    #[test]
    fn texts_have_the_same_codes_however_they_are_laid_out() {
        let text = |row: u32| match row % 5 {
            0 => None,
            1 => Some(format!("short {}", row % 7)),
            2 => Some(format!("a text that is too long to lie in its view {}", row * 37 % 301)),
            3 => Some(String::new()),
            _ => Some(format!("a text that is too long to lie in its view {}", row % 3)),
        };
        let plain: StringArray = (0..4_000).map(text).collect();
        let views: StringViewArray = (0..4_000).map(text).collect();
        let rows: Vec<u32> = (0..4_000).map(|row| row * 7 % 4_000).collect();
        let coded = |values: ArrayRef| ValueCoder::new(values.data_type()).unwrap().code(&values, &rows).unwrap();
        assert_eq!(coded(Arc::new(views)), coded(Arc::new(plain)));
    }
}
