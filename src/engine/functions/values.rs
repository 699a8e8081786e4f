//! Coding of values for grouped aggregates: every distinct value becomes a small number once, and groups
//! keep numbers. Comparison of codes is by the value's order (text by UTF-8 bytes), so that ties do not
//! depend on arrival.

use datafusion::arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, StringArray, UInt32Array};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{Row, RowConverter, SortField};
use datafusion::error::Result;
use hashbrown::HashMap;
use std::cmp::Ordering;
use std::hash::Hash;
use std::sync::Arc;

/// Code of a null.
pub(super) const NULL: u32 = u32::MAX;

/// Distinct values of one type and their codes.
pub(super) enum ValueCoder {
    /// Text of any Arrow layout.
    Text { codes: HashMap<Box<str>, u32>, texts: Vec<Box<str>>, data_type: DataType },
    /// Everything else, as comparable bytes.
    Rows { converter: RowConverter, codes: HashMap<Box<[u8]>, u32>, rows: Vec<Box<[u8]>> },
}

impl ValueCoder {
    /// A coder for values of `data_type`.
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text { codes: HashMap::new(), texts: Vec::new(), data_type: data_type.clone() }
            }
            other => Self::Rows {
                converter: RowConverter::new(vec![SortField::new(other.clone())])?,
                codes: HashMap::new(),
                rows: Vec::new(),
            },
        })
    }

    /// Codes of some rows of a column, [`NULL`] for nulls.
    pub(super) fn code(&mut self, values: &ArrayRef, rows: &[u32]) -> Result<Vec<u32>> {
        match self {
            Self::Text { codes, texts, .. } => {
                let one = |text: &str| code_of(codes, texts, text);
                Ok(match values.data_type() {
                    DataType::Utf8View => of_rows(values.as_string_view(), rows, one),
                    DataType::LargeUtf8 => of_rows(values.as_string::<i64>(), rows, one),
                    _ => of_rows(values.as_string::<i32>(), rows, one),
                })
            }
            Self::Rows { converter, codes, rows: known } => {
                let picked = take(values, &UInt32Array::from(rows.to_vec()), None)?;
                let converted = converter.convert_columns(&[Arc::clone(&picked)])?;
                let code = |(row, bytes): (usize, Row<'_>)| {
                    if picked.is_null(row) { NULL } else { code_of(codes, known, bytes.data()) }
                };
                Ok(converted.iter().enumerate().map(code).collect())
            }
        }
    }

    /// The order of two coded values.
    pub(super) fn compare(&self, a: u32, b: u32) -> Ordering {
        match self {
            Self::Text { texts, .. } => texts[a as usize].cmp(&texts[b as usize]),
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
            Self::Text { texts, .. } => texts.len() * 96,
            Self::Rows { rows, .. } => rows.len() * 96,
        }
    }
}

/// Codes of some rows of a column of texts.
fn of_rows<'a>(values: impl ArrayAccessor<Item = &'a str>, rows: &[u32], mut one: impl FnMut(&str) -> u32) -> Vec<u32> {
    let nulls = values.nulls();
    let is_null = |row: usize| nulls.is_some_and(|nulls| nulls.is_null(row));
    rows.iter().map(|row| *row as usize).map(|row| if is_null(row) { NULL } else { one(values.value(row)) }).collect()
}

/// The code of a value, known or new.
fn code_of<T: ?Sized + Eq + Hash>(codes: &mut HashMap<Box<T>, u32>, known: &mut Vec<Box<T>>, value: &T) -> u32
where
    for<'v> Box<T>: From<&'v T>,
{
    if let Some(code) = codes.get(value) {
        return *code;
    }
    let code = u32::try_from(known.len()).unwrap_or(NULL);
    known.push(value.into());
    codes.insert(value.into(), code);
    code
}
