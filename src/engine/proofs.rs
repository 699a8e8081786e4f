//! The rows that prove an identity's links: held, or on disk if they did not fit the memory budget.

use crate::error::{Context, ErrorKind, Result};
use crate::identity::Evidence;
use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringBuilder, UInt16Builder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt16Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::error::Result as Made;
use datafusion::execution::spill_file::{SpillFile, SpillWriter};
use hashbrown::HashMap;
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::ops::Range;
use std::sync::Arc;

/// Rows of a batch on disk. Links are asked for in ranges of about as many.
const ROWS: usize = 16_384;

/// The row that proves a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof<'p> {
    /// The link table, in the order of the identity's `links`.
    pub table: u16,
    /// The row's id, if its table has one.
    pub row: Option<Cow<'p, str>>,
}

/// By link, the row that proves it.
pub(super) enum Proofs {
    /// In memory: the rows, and the ids of those that are proof, by thread.
    Held(Vec<Evidence>, Vec<RowIds>),
    /// On disk.
    Written(WrittenProofs),
}

impl Proofs {
    /// The proofs of some links, in their order.
    ///
    /// # Errors
    /// When they are on disk and cannot be read.
    pub(super) fn of(&self, links: Range<usize>) -> Made<Vec<Proof<'_>>> {
        match self {
            Self::Held(evidence, ids) => {
                let id = |row| ids.iter().find_map(|ids| ids.get(row)).map(Cow::Borrowed);
                let proof = |e: &Evidence| Proof { table: e.table, row: id((e.table, e.row)) };
                Ok(evidence[links].iter().map(proof).collect())
            }
            Self::Written(written) => Ok(written.of(links)?),
        }
    }

    /// Memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Held(evidence, ids) => {
                evidence.capacity() * size_of::<Evidence>() + ids.iter().map(RowIds::memory_bytes).sum::<usize>()
            }
            Self::Written(_) => 0,
        }
    }
}

/// Row ids by table and reference, in one text.
#[derive(Default)]
pub(super) struct RowIds {
    places: HashMap<(u16, u64), (usize, u32)>,
    text: String,
}

impl RowIds {
    pub(super) fn insert(&mut self, row: (u16, u64), id: &str) {
        let start = self.text.len();
        self.places.entry(row).or_insert_with(|| {
            self.text.push_str(id);
            (start, id.len() as u32)
        });
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.places.allocation_size() + self.text.capacity()
    }

    pub(super) fn get(&self, row: (u16, u64)) -> Option<&str> {
        self.places.get(&row).map(|(start, len)| &self.text[*start..*start + *len as usize])
    }
}

/// A file of proofs, in the order of the links: batches of [`ROWS`], found by their number.
pub(super) struct WrittenProofs {
    file: Arc<dyn SpillFile>,
}

impl WrittenProofs {
    fn of(&self, links: Range<usize>) -> Result<Vec<Proof<'static>>, ArrowError> {
        let path = self.file.path().ok_or_else(|| ArrowError::IpcError("a file without a path".to_owned()))?;
        let mut reader = FileReader::try_new(BufReader::new(File::open(path)?), None)?;
        let mut proofs = Vec::with_capacity(links.len());
        let mut next = links.start;
        while next < links.end {
            reader.set_index(next / ROWS)?;
            let batch = reader.next().ok_or_else(|| ArrowError::IpcError("proofs are missing".to_owned()))??;
            let from = next % ROWS;
            let to = batch.num_rows().min(from + links.end - next);
            if from >= to {
                return Err(ArrowError::IpcError("proofs are missing".to_owned()));
            }
            let (tables, rows) = (batch.column(0).as_primitive::<UInt16Type>(), batch.column(1).as_string::<i32>());
            let row = |place| rows.is_valid(place).then(|| Cow::Owned(rows.value(place).to_owned()));
            proofs.extend((from..to).map(|place| Proof { table: tables.value(place), row: row(place) }));
            next += to - from;
        }
        Ok(proofs)
    }
}

/// Writes proofs link by link.
pub(super) struct ProofWriter {
    file: Arc<dyn SpillFile>,
    writer: FileWriter<BufWriter<Box<dyn SpillWriter>>>,
    schema: SchemaRef,
    tables: UInt16Builder,
    rows: StringBuilder,
}

impl ProofWriter {
    pub(super) fn new(file: Arc<dyn SpillFile>) -> Result<Self> {
        let fields = vec![Field::new("table", DataType::UInt16, false), Field::new("row", DataType::Utf8, true)];
        let schema = Arc::new(Schema::new(fields));
        let doing = || "cannot write the proofs of links".to_owned();
        let to = file.open_writer().or_fail(ErrorKind::Storage, doing)?;
        let writer = FileWriter::try_new_buffered(to, &schema).or_fail(ErrorKind::Storage, doing)?;
        Ok(Self { file, writer, schema, tables: UInt16Builder::new(), rows: StringBuilder::new() })
    }

    /// Adds the proof of the next link.
    pub(super) fn push(&mut self, table: u16, row: Option<&str>) -> Result<()> {
        self.tables.append_value(table);
        self.rows.append_option(row);
        if self.tables.values_slice().len() < ROWS {
            return Ok(());
        }
        self.flush().or_fail(ErrorKind::Storage, || "cannot write the proofs of links".to_owned())
    }

    fn flush(&mut self) -> Result<(), ArrowError> {
        let columns = vec![Arc::new(self.tables.finish()) as _, Arc::new(self.rows.finish()) as _];
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> Result<Proofs> {
        let doing = || "cannot write the proofs of links".to_owned();
        self.flush().and_then(|()| self.writer.finish()).or_fail(ErrorKind::Storage, doing)?;
        Ok(Proofs::Written(WrittenProofs { file: self.file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::runtime_env::RuntimeEnv;

    #[test]
    fn any_range_of_written_proofs_is_what_was_pushed() {
        let file = RuntimeEnv::default().disk_manager.create_tmp_file("test").unwrap();
        let mut writer = ProofWriter::new(file).unwrap();
        let proof = |link: usize| Proof {
            table: (link % 7) as u16,
            row: (!link.is_multiple_of(3)).then(|| Cow::Owned(link.to_string())),
        };
        let total = 2 * ROWS + 100;
        for link in 0..total {
            let Proof { table, row } = proof(link);
            writer.push(table, row.as_deref()).unwrap();
        }
        let proofs = writer.finish().unwrap();
        for range in [0..1, 0..total, ROWS - 1..ROWS + 1, 2 * ROWS..total, total - 1..total, 5..5, ROWS..2 * ROWS] {
            assert_eq!(proofs.of(range.clone()).unwrap(), range.map(proof).collect::<Vec<_>>());
        }
        assert!(proofs.of(total - 1..total + 1).is_err());
    }
}
