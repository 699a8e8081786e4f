//! Finds rows that name people: by entity id, by `type:value`, and by an identifier's value alone where it is long enough to
//! mean nobody else.

use super::tombstones::People;
use crate::error::{Context, ErrorKind, Result};
use crate::privacy::Mark;
use deltalake_core::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use deltalake_core::arrow::compute::cast;
use deltalake_core::arrow::datatypes::DataType;
use deltalake_core::arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::BTreeSet;

/// Characters of a value that is searched for alone.
const LONG: usize = 6;
/// The same, of one that has only digits: short numbers are in every table.
const LONG_NUMBER: usize = 9;

/// What is looked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// In any text: entity ids, and identifiers with their type.
    inside: BTreeSet<String>,
    /// As a whole cell: long identifiers that only these people have.
    whole: BTreeSet<String>,
    /// Identifiers that are not searched for alone.
    pub short: usize,
}

impl Wanted {
    pub(super) fn new<'p>(people: impl Iterator<Item = &'p People>) -> Self {
        let mut wanted = Self::default();
        for one in people {
            wanted.inside.extend(one.ids.iter().cloned());
            for (kind, value, mark) in &one.identifiers {
                wanted.inside.insert(format!("{kind}:{value}"));
                let least = if value.bytes().all(|b| b.is_ascii_digit()) { LONG_NUMBER } else { LONG };
                if value.chars().count() < least {
                    wanted.short += 1;
                } else if *mark == Mark::Own {
                    wanted.whole.insert(value.clone());
                }
            }
        }
        wanted
    }

    /// Cells that name them.
    pub(super) fn cells(&self) -> &BTreeSet<String> {
        &self.whole
    }

    /// By row, whether it names any of them.
    ///
    /// # Errors
    /// `Failed` when a column cannot be written as text.
    pub(super) fn found_in(&self, batch: &RecordBatch) -> Result<Vec<bool>> {
        let mut rows = vec![false; batch.num_rows()];
        for column in batch.columns() {
            self.look(column, &mut rows).or_fail(ErrorKind::Failed, || "a table cannot be searched".to_owned())?;
        }
        Ok(rows)
    }

    fn look(
        &self,
        column: &ArrayRef,
        rows: &mut [bool],
    ) -> std::result::Result<(), deltalake_core::arrow::error::ArrowError> {
        if column.data_type().is_nested() {
            let options = FormatOptions::default();
            let cells = ArrayFormatter::try_new(column.as_ref(), &options)?;
            for (row, found) in rows.iter_mut().enumerate() {
                let text = cells.value(row).to_string();
                *found |= self.inside.iter().chain(&self.whole).any(|word| text.contains(word.as_str()));
            }
            return Ok(());
        }
        if let DataType::Binary | DataType::LargeBinary = column.data_type() {
            let bytes = cast(column, &DataType::LargeBinary)?;
            let bytes = bytes.as_binary::<i64>();
            for (row, found) in rows.iter_mut().enumerate().filter(|(row, _)| bytes.is_valid(*row)) {
                // what is packed in bytes is text here and there
                let text = String::from_utf8_lossy(bytes.value(row));
                *found |= self.inside.iter().chain(&self.whole).any(|word| text.contains(word.as_str()));
            }
            return Ok(());
        }
        let texts = cast(column, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        for (row, found) in rows.iter_mut().enumerate().filter(|(row, _)| texts.is_valid(*row)) {
            let text = texts.value(row);
            *found |= self.whole.contains(text) || self.inside.iter().any(|word| text.contains(word.as_str()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deltalake_core::arrow::array::{Int64Array, ListArray, StringArray};
    use deltalake_core::arrow::datatypes::Int64Type;
    use std::sync::Arc;

    #[test]
    fn ids_are_found_anywhere_and_short_values_only_with_their_type() {
        let identifiers =
            [("email", "ann@x.com", Mark::Own), ("n", "123", Mark::Own), ("phone", "+15550160", Mark::Shared)];
        let people = People {
            identity: "person".to_owned(),
            count: 1,
            ids: BTreeSet::from(["0123456789abcdef0123456789abcdef".to_owned()]),
            identifiers: identifiers.map(|(k, v, m)| (k.to_owned(), v.to_owned(), m)).to_vec(),
        };
        let wanted = Wanted::new([&people].into_iter());
        assert_eq!(wanted.short, 1);
        let texts = [
            ("ann@x.com", true),
            ("joann@x.com", false),
            ("123", false),
            ("hub n:123", true),
            ("+15550160", false),
            ("hub phone:+15550160", true),
            ("{\"id\": \"0123456789abcdef0123456789abcdef\"}", true),
        ];
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts.map(|(text, _)| text)));
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        assert_eq!(wanted.found_in(&batch).unwrap(), texts.map(|(_, found)| found));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![123, 5]));
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]), None]));
        let batch = RecordBatch::try_from_iter([("a", numbers), ("b", lists)]).unwrap();
        assert_eq!(wanted.found_in(&batch).unwrap(), [false, false]);
    }
}
