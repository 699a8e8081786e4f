//! Coding of values for grouped aggregates: every distinct value becomes a small number once, and groups
//! keep numbers. Comparison of codes is by the value's order (text by UTF-8 bytes), so that ties do not
//! depend on arrival.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::error::Result;
use hashbrown::HashMap;
use std::cmp::Ordering;

/// Code of a null.
pub(crate) const NULL: u32 = u32::MAX;

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

    /// Codes of a column, [`NULL`] for nulls; rows where `wanted` is false are [`NULL`] too.
    pub(super) fn code(&mut self, values: &ArrayRef, wanted: impl Fn(usize) -> bool) -> Result<Vec<u32>> {
        let keep = |i: usize| !values.is_null(i) && wanted(i);
        let count = values.len();
        match self {
            Self::Text { codes, texts, .. } => {
                let mut one = |text: &str| {
                    if let Some(code) = codes.get(text) {
                        return *code;
                    }
                    let code = u32::try_from(texts.len()).unwrap_or(NULL);
                    texts.push(text.into());
                    codes.insert(text.into(), code);
                    code
                };
                Ok(match values.data_type() {
                    DataType::Utf8View => {
                        let a = values.as_string_view();
                        (0..count).map(|i| if keep(i) { one(a.value(i)) } else { NULL }).collect()
                    }
                    DataType::LargeUtf8 => {
                        let a = values.as_string::<i64>();
                        (0..count).map(|i| if keep(i) { one(a.value(i)) } else { NULL }).collect()
                    }
                    _ => {
                        let a = values.as_string::<i32>();
                        (0..count).map(|i| if keep(i) { one(a.value(i)) } else { NULL }).collect()
                    }
                })
            }
            Self::Rows { converter, codes, rows } => {
                let converted = converter.convert_columns(&[std::sync::Arc::clone(values)])?;
                let mut out = Vec::with_capacity(count);
                for i in 0..count {
                    if !keep(i) {
                        out.push(NULL);
                        continue;
                    }
                    let bytes = converted.row(i).data();
                    let code = match codes.get(bytes) {
                        Some(code) => *code,
                        None => {
                            let code = u32::try_from(rows.len()).unwrap_or(NULL);
                            rows.push(bytes.into());
                            codes.insert(bytes.into(), code);
                            code
                        }
                    };
                    out.push(code);
                }
                Ok(out)
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
