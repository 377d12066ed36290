//! Record batches to send: Kafka's format 2, compressed with zstd if that makes them smaller.

use std::cell::RefCell;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use zstd_safe::CCtx;

use crate::batch::{CHECKED_FROM, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, ZSTD};

/// Less than this compresses badly, so a row of a changelog is left uncompressed.
pub const MIN_BYTES: usize = 200;

thread_local! {
    /// Creating one takes longer than compressing a few records.
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
}

/// See `firstseen_native.pyi`.
#[pyclass]
pub struct OutgoingBatch {
    records: Vec<u8>,
    count: i32,
    first_ms: i64,
    latest_ms: i64,
    max_bytes: usize,
}

#[pymethods]
impl OutgoingBatch {
    #[new]
    fn new(max_bytes: usize) -> OutgoingBatch {
        OutgoingBatch { records: Vec::new(), count: 0, first_ms: 0, latest_ms: 0, max_bytes }
    }

    /// See `firstseen_native.pyi`.
    fn extend(
        &mut self,
        records: &Bound<'_, PyList>,
        start: usize,
        timestamp_ms: i64,
    ) -> PyResult<usize> {
        let mut done = start;
        while done < records.len() {
            let record = records.get_item(done)?.cast_into::<PyTuple>()?;
            if !self.append(&record, timestamp_ms)? {
                break;
            }
            done += 1;
        }
        Ok(done.saturating_sub(start))
    }

    #[getter]
    fn size(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    fn __len__(&self) -> usize {
        self.count as usize
    }

    /// See `firstseen_native.pyi`.
    fn build<'py>(
        &self,
        py: Python<'py>,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        level: i32,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let batch = py.detach(|| self.built(producer_id, producer_epoch, base_sequence, level));
        let batch = batch.ok_or_else(|| PyValueError::new_err("a batch is too large"))?;
        Ok(PyBytes::new(py, &batch))
    }
}

impl OutgoingBatch {
    /// Adds a record; false if there is no room for it. There always is for the first one.
    fn append(&mut self, record: &Bound<'_, PyTuple>, timestamp_ms: i64) -> PyResult<bool> {
        if self.count == 0 {
            (self.first_ms, self.latest_ms) = (timestamp_ms, timestamp_ms);
        }
        let (key, value) = (record.get_item(0)?, record.get_item(1)?);
        let (key, value) = (bytes(&key)?, bytes(&value)?);
        let mut body = Vec::with_capacity(32);
        body.push(0); // attributes
        write_varint(&mut body, timestamp_ms.wrapping_sub(self.first_ms));
        write_varint(&mut body, i64::from(self.count));
        write_length(&mut body, key);
        body.extend_from_slice(key.unwrap_or_default());
        let mut tail = Vec::with_capacity(16);
        write_headers(&mut tail, &record.get_item(2)?.cast_into::<PyTuple>()?)?;
        let mut value_length = Vec::with_capacity(8);
        write_length(&mut value_length, value);
        let value = value.unwrap_or_default();
        let length = body.len() + value_length.len() + value.len() + tail.len();
        let before = self.records.len();
        write_varint(&mut self.records, length as i64);
        if self.count > 0 && self.size() + length > self.max_bytes {
            self.records.truncate(before);
            return Ok(false);
        }
        for part in [&body[..], &value_length, value, &tail] {
            self.records.extend_from_slice(part);
        }
        self.count += 1;
        self.latest_ms = self.latest_ms.max(timestamp_ms);
        Ok(true)
    }

    fn built(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        level: i32,
    ) -> Option<Vec<u8>> {
        let plain = &self.records;
        let mut batch = vec![0; HEADER_BYTES];
        let mut attributes = 0;
        if plain.len() >= MIN_BYTES {
            // If compression saves nothing, the compressor runs out of room.
            batch.resize(HEADER_BYTES + plain.len() - 1, 0);
            let compressed = COMPRESSOR.with_borrow_mut(|compressor| {
                compressor.compress(&mut batch[HEADER_BYTES..], plain, level)
            });
            if let Ok(size) = compressed {
                batch.truncate(HEADER_BYTES + size);
                attributes = ZSTD;
            }
        }
        if attributes == 0 {
            batch.truncate(HEADER_BYTES);
            batch.extend_from_slice(plain);
        }
        let length = i32::try_from(batch.len() - LENGTH_OVERHEAD).ok()?;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = MAGIC;
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&(self.count - 1).max(0).to_be_bytes());
        batch[27..35].copy_from_slice(&self.first_ms.to_be_bytes());
        batch[35..43].copy_from_slice(&self.latest_ms.to_be_bytes());
        batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&base_sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&self.count.to_be_bytes());
        let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        Some(batch)
    }
}

fn bytes<'b>(value: &'b Bound<'_, PyAny>) -> PyResult<Option<&'b [u8]>> {
    if value.is_none() {
        return Ok(None);
    }
    Ok(Some(value.cast::<PyBytes>()?.as_bytes()))
}

fn write_headers(to: &mut Vec<u8>, headers: &Bound<'_, PyTuple>) -> PyResult<()> {
    write_varint(to, headers.len() as i64);
    for header in headers {
        let (name, value): (String, Bound<'_, PyBytes>) = header.extract()?;
        for part in [name.as_bytes(), value.as_bytes()] {
            write_length(to, Some(part));
            to.extend_from_slice(part);
        }
    }
    Ok(())
}

fn write_length(to: &mut Vec<u8>, value: Option<&[u8]>) {
    write_varint(to, value.map_or(-1, |value| value.len() as i64));
}

fn write_varint(to: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest > 0x7f {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}
