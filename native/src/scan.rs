//! Skips the batches in which no text is found, which is most of what a worker reads.
//!
//! `pipeline/stream/transport/scanning.py` does the same in Python, and reads what is left here.

use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lz4_flex::frame::FrameDecoder;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use zstd_safe::DCtx;

use crate::batch::{Header, HEADER_BYTES, LZ4, PLAIN, ZSTD};
use crate::frames;
use crate::record::{bounds, Record};
use crate::search::{Places, Texts};

/// `LARGE_BYTES` in `scanning.py`: what decompresses to more is read record by record.
pub const LARGE_BYTES: usize = 8 << 20;

/// `_FEW` in `filtered_records.py`: if more records than one in this many are wanted, all of the
/// batch's records have to be readable.
pub const FEW: usize = 4;

/// What `Scan.skip_batches` reports of the batches that it has skipped.
struct Passed {
    at: usize,
    searched_to: i64,
    unread: i64,
    latest_ms: i64,
    searched_bytes: usize,
}

/// A batch that contains a text.
struct Hit {
    header: Header,
    records: Vec<Record>,
}

/// Searches the batches of a fetch for texts. Not for two threads at once.
#[pyclass(frozen)]
pub struct Scan {
    texts: Texts,
    zstd: Mutex<DCtx<'static>>,
}

#[pymethods]
impl Scan {
    #[new]
    fn new(texts: Vec<Vec<u8>>) -> PyResult<Scan> {
        if texts.iter().any(Vec::is_empty) {
            return Err(PyValueError::new_err("a text is empty"));
        }
        Ok(Scan { texts: Texts::new(&texts), zstd: Mutex::new(DCtx::create()) })
    }

    /// See `firstseen_native.pyi`.
    #[allow(clippy::too_many_arguments)]
    fn skip_batches<'py>(
        &self,
        py: Python<'py>,
        data: PyBuffer<u8>,
        at: usize,
        searched_to: i64,
        room: PyBuffer<u8>,
        most_bytes: usize,
        seconds: f64,
        check_crcs: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        if !data.is_c_contiguous() || !room.is_c_contiguous() || room.readonly() {
            return Err(PyBufferError::new_err(
                "data and room must be plain memory, room writable",
            ));
        }
        // SAFETY: both buffers are held until the end, so neither moves or is freed. `room` is used
        // by this call alone, and nobody writes to `data`, as the caller promises.
        let bytes =
            unsafe { std::slice::from_raw_parts(data.buf_ptr() as *const u8, data.len_bytes()) };
        let space =
            unsafe { std::slice::from_raw_parts_mut(room.buf_ptr() as *mut u8, room.len_bytes()) };
        let left = Duration::try_from_secs_f64(seconds.clamp(0.0, 3600.0)).unwrap_or_default();
        let deadline = Instant::now() + left;
        let mut passed = Passed { at, searched_to, unread: 0, latest_ms: -1, searched_bytes: 0 };
        let hit =
            py.detach(|| self.pass(bytes, space, most_bytes, deadline, check_crcs, &mut passed));
        let found = match &hit {
            None => py.None().into_bound(py),
            Some((hit, from_room)) => {
                let section = if *from_room {
                    &space[..]
                } else {
                    &bytes[passed.at + HEADER_BYTES..hit.header.end]
                };
                records_of(py, hit, section)?
            }
        };
        let end = hit.as_ref().map_or(passed.at, |(hit, _)| hit.header.end);
        PyTuple::new(
            py,
            [
                end.into_pyobject(py)?.into_any(),
                passed.searched_to.into_pyobject(py)?.into_any(),
                passed.unread.into_pyobject(py)?.into_any(),
                passed.latest_ms.into_pyobject(py)?.into_any(),
                passed.searched_bytes.into_pyobject(py)?.into_any(),
                found,
            ],
        )
    }
}

impl Scan {
    fn pass(
        &self,
        data: &[u8],
        room: &mut [u8],
        most_bytes: usize,
        deadline: Instant,
        check_crcs: bool,
        passed: &mut Passed,
    ) -> Option<(Hit, bool)> {
        let mut zstd = self.zstd.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while passed.searched_bytes < most_bytes && Instant::now() <= deadline {
            let header = Header::read(data, passed.at, check_crcs)?;
            if header.base_offset < passed.searched_to {
                return None;
            }
            let fetched = &data[passed.at + HEADER_BYTES..header.end];
            let section: &[u8] = match header.codec {
                PLAIN => fetched,
                ZSTD if frames::is_zstd(fetched) => {
                    let size = zstd.decompress(room, fetched).ok()?;
                    &room[..size]
                }
                LZ4 if frames::is_lz4(fetched) => {
                    let size = lz4(room, fetched)?;
                    &room[..size]
                }
                _ => return None,
            };
            if section.len() > LARGE_BYTES {
                return None;
            }
            match self.texts.find(section) {
                None => passed.unread += header.records,
                Some(places) => {
                    let records = hits(section, &header, places)?;
                    passed.unread += header.records - records.len() as i64;
                    passed.note(&header, section.len());
                    let from_room = header.codec != PLAIN;
                    return Some((Hit { header, records }, from_room));
                }
            }
            passed.note(&header, section.len());
            passed.at = header.end;
        }
        None
    }
}

/// Decompresses a frame of lz4; None if it is broken, or there is too little room.
fn lz4(room: &mut [u8], fetched: &[u8]) -> Option<usize> {
    let mut decoder = FrameDecoder::new(fetched);
    let mut size = 0;
    loop {
        match decoder.read(&mut room[size..]).ok()? {
            0 if size < room.len() && decoder.get_ref().is_empty() => return Some(size),
            0 => return None,
            more => size += more,
        }
    }
}

impl Passed {
    fn note(&mut self, header: &Header, bytes: usize) {
        self.searched_to = self.searched_to.max(header.next_offset);
        self.latest_ms = self.latest_ms.max(header.max_timestamp_ms);
        self.searched_bytes += bytes;
    }
}

/// Returns the records in which a text ends; None if the section is malformed.
fn hits(section: &[u8], header: &Header, mut places: Places<'_>) -> Option<Vec<Record>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut before = header.base_offset.checked_sub(1)?;
    for _ in 0..header.records {
        let (body, end) = bounds(section, start)?;
        if places.is_before(end) {
            let record = Record::read(section, body, end, header)?;
            if record.offset <= before || record.offset >= header.next_offset {
                return None;
            }
            before = record.offset;
            found.push(record);
            places.skip_to(end);
            if places.is_over() {
                let few = found.len() * FEW <= header.records as usize;
                return (few || are_sound(section, header)).then_some(found);
            }
        }
        start = end;
    }
    None // a text ends after the last record
}

/// Whether all records can be read, and nothing follows them.
fn are_sound(section: &[u8], header: &Header) -> bool {
    let mut start = 0;
    for _ in 0..header.records {
        match bounds(section, start) {
            Some((body, end)) if Record::read(section, body, end, header).is_some() => start = end,
            _ => return false,
        }
    }
    start == section.len()
}

/// Returns a list of tuples: offset, timestamp, timestamp type, key, value, headers.
fn records_of<'py>(py: Python<'py>, hit: &Hit, section: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let kind = i32::from(hit.header.is_append_time);
    let bytes = |range: &std::ops::Range<usize>| PyBytes::new(py, &section[range.clone()]);
    let mut rows = Vec::with_capacity(hit.records.len());
    for record in &hit.records {
        let mut headers = Vec::with_capacity(record.headers.len());
        for (name, value) in &record.headers {
            let name = PyString::from_bytes(py, &section[name.clone()])?;
            headers.push((name, value.as_ref().map(bytes)));
        }
        rows.push((
            record.offset,
            record.timestamp_ms,
            kind,
            record.key.as_ref().map(bytes),
            record.value.as_ref().map(bytes),
            PyTuple::new(py, headers)?,
        ));
    }
    Ok(rows.into_pyobject(py)?.into_any())
}
