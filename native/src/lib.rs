//! What firstseen does to nearly every record, for the common case.
//!
//! This code searches record batches, recognises events that read alike to all rules, encodes the
//! observations that follow from them, rewrites the rows of tuples that are seen again, and builds
//! the batches that are sent. Python can do all of that too, and whatever is unusual is left to it.
//! This code exists only for speed: a batch sends a quarter of a megabyte through the processor's
//! caches, after which an interpreter finds nothing there of what it needs.

mod batch;
mod classes;
mod forwarded;
mod frames;
mod observation;
mod outgoing;
mod projection;
mod record;
mod row;
mod scan;
mod search;
mod sightings;
mod text;
mod text_tests;
mod time;
mod verdicts;

use std::collections::HashMap;

use pyo3::prelude::*;

/// Constants that Python has as well; a test compares them.
const SHARED: [(&str, i64); 13] = [
    ("alert_id_digits", 2 * verdicts::ID_BYTES as i64),
    ("batch_header_bytes", batch::HEADER_BYTES as i64),
    ("compressed_bytes", outgoing::MIN_BYTES as i64),
    ("earliest_ms", time::EARLIEST_MS),
    ("few_records", scan::FEW as i64),
    ("history_bytes", observation::HISTORY_BYTES as i64),
    ("key_bytes", observation::KEY_BYTES as i64),
    ("large_bytes", scan::LARGE_BYTES as i64),
    ("longest_event_id", verdicts::LONGEST_EVENT_ID as i64),
    ("max_count", observation::MAX_COUNT),
    ("max_ms", time::MAX_MS),
    ("min_ms", time::MIN_MS),
    ("row_format", row::FORMAT),
];

/// See `firstseen_native.pyi`.
#[pymodule]
fn firstseen_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SHARED", SHARED.into_iter().collect::<HashMap<_, _>>())?;
    module.add_class::<scan::Scan>()?;
    module.add_class::<projection::Projection>()?;
    module.add_class::<text_tests::TextClasses>()?;
    module.add_class::<forwarded::Forwarded>()?;
    module.add_class::<verdicts::Verdicts>()?;
    module.add_class::<outgoing::OutgoingBatch>()?;
    module.add_class::<sightings::Sightings>()
}
