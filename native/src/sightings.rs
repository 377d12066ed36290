//! Sightings of tuples that are known and stay known, which are nearly all if a rule is broad.
//!
//! They change their rows as `FirstSeen.observe` in `pipeline/engine/first_seen.py` does, which
//! gives the reasons. Any other sighting is left to it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySet};

use crate::observation::{Observations, Sighting, HISTORY_BYTES};
use crate::row::Row;

/// See `firstseen_native.pyi`.
#[pyclass]
pub struct Sightings {
    observations: Observations,
}

#[pymethods]
impl Sightings {
    #[new]
    fn new() -> Sightings {
        Sightings { observations: Observations::new() }
    }

    /// See `firstseen_native.pyi`.
    fn note_opening(&mut self, opening: &[u8], history: [u8; HISTORY_BYTES], window_ms: i64) {
        self.observations.note_opening(opening, history, window_ms);
    }

    /// See `firstseen_native.pyi`.
    #[allow(clippy::too_many_arguments)]
    fn observe<'py>(
        &self,
        py: Python<'py>,
        records: &Bound<'py, PyList>,
        start: usize,
        committed: i64,
        table: &Bound<'py, PyAny>,
        others: &Bound<'py, PySet>,
        clock_ms: Option<i64>,
    ) -> PyResult<(usize, Option<i64>, bool)> {
        let mut clock_ms = clock_ms;
        let mut done = start;
        let mut is_unknown = false;
        while done < records.len() {
            let record = records.get_item(done)?;
            let key = record.getattr(intern!(py, "key"))?;
            let value = record.getattr(intern!(py, "value"))?;
            let (Ok(key), Ok(value)) = (key.cast::<PyBytes>(), value.cast::<PyBytes>()) else {
                break;
            };
            let row = table.call_method1(intern!(py, "get"), (key,))?;
            let Ok(row) = row.cast::<PyBytes>() else { break };
            let Some(sighting) = self.observations.read(value.as_bytes()) else {
                is_unknown = !self.observations.knows(value.as_bytes());
                break;
            };
            if sighting.key != key.as_bytes()
                || others.contains(PyBytes::new(py, &sighting.key[..HISTORY_BYTES]))?
            {
                break;
            }
            let offset: i64 = record.getattr(intern!(py, "offset"))?.extract()?;
            let seen = seen_again(row.as_bytes(), &sighting, offset, committed, clock_ms);
            let Some((row, clock)) = seen else { break };
            table.call_method1(intern!(py, "put"), (key, PyBytes::new(py, &row)))?;
            clock_ms = Some(clock);
            done += 1;
        }
        Ok((done - start, clock_ms, is_unknown))
    }
}

/// Returns the new row of a known tuple, and the event clock after the sighting; None for any
/// other.
fn seen_again(
    row: &[u8],
    sighting: &Sighting,
    offset: i64,
    committed: i64,
    clock_ms: Option<i64>,
) -> Option<(Vec<u8>, i64)> {
    let row = Row::read(row)?;
    let kept_from_ms = row.last_ms.checked_add(row.behind_ms)?;
    let clock_ms = clock_ms.unwrap_or(i64::MIN).max(sighting.time_ms).max(kept_from_ms);
    let is_forgotten = row.count <= 0;
    let is_new = row.last_ms < sighting.time_ms.checked_sub(sighting.window_ms)?;
    // Negative offsets belong to no record.
    if offset <= row.offset || row.offset < 0 || is_forgotten || is_new {
        return None;
    }
    let last_ms = row.last_ms.max(sighting.time_ms);
    let stamps = match row.stamps.first() {
        Some((first, _)) if *first < committed => {
            row.stamps.iter().copied().filter(|(stamp, _)| *stamp >= committed).collect()
        }
        _ => row.stamps.clone(),
    };
    let seen = Row {
        first_ms: row.first_ms.min(sighting.time_ms),
        last_ms,
        count: row.count.checked_add(1)?,
        offset,
        stamps,
        window_ms: sighting.window_ms,
        behind_ms: clock_ms.checked_sub(last_ms)?.max(0),
        ..row
    };
    Some((seen.write()?, clock_ms))
}
