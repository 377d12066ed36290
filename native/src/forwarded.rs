//! What the match stage forwarded lately. `pipeline/engine/forwarded.py` does the same in Python,
//! and gives the reasons.

use hashlink::LruCache;
use pyo3::prelude::*;

/// Where an event was read, and which document of its record it is.
#[derive(Clone, Copy)]
pub struct Place<'p> {
    pub topic: &'p str,
    pub partition: i32,
    pub offset: i64,
    pub index: i64,
}

/// The part of a sighting that matters here.
#[derive(Clone, Copy)]
pub struct Seen<'s> {
    pub key: &'s [u8],
    pub window_ms: i64,
    pub time_ms: i64,
    pub read_ms: i64,
    pub place: Place<'s>,
}

struct Entry {
    latest_ms: i64,
    read_ms: i64,
    topic: usize,
    partition: i32,
    offset: i64,
    index: i64,
}

/// See `firstseen_native.pyi`.
#[pyclass]
pub struct Forwarded {
    entries: LruCache<Box<[u8]>, Entry>,
    granularity_ms: i64,
    /// The topics that entries refer to by number; there are few.
    topics: Vec<String>,
}

impl Forwarded {
    /// Whether a sighting is covered by one that was forwarded before.
    pub fn is_covered(&mut self, seen: &Seen<'_>) -> bool {
        let Some(entry) = self.entries.get(seen.key) else { return false };
        let since_ms = seen.read_ms.saturating_sub(entry.read_ms);
        seen.window_ms > self.granularity_ms
            && seen.time_ms <= entry.latest_ms.saturating_add(self.granularity_ms)
            && (0..=self.granularity_ms).contains(&since_ms)
            && !may_be_read_again(entry, &self.topics[entry.topic], &seen.place)
    }

    /// Notes that a sighting is forwarded.
    pub fn note(&mut self, seen: &Seen<'_>) {
        let Place { partition, offset, index, .. } = seen.place;
        let (time_ms, read_ms, topic) = (seen.time_ms, seen.read_ms, self.number(seen.place.topic));
        match self.entries.get_mut(seen.key) {
            Some(entry) => {
                let latest_ms = entry.latest_ms.max(time_ms);
                *entry = Entry { latest_ms, read_ms, topic, partition, offset, index };
            }
            None => {
                let entry = Entry { latest_ms: time_ms, read_ms, topic, partition, offset, index };
                self.entries.insert(seen.key.into(), entry);
            }
        }
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.entries.clear();
    }

    fn number(&mut self, topic: &str) -> usize {
        self.topics.iter().position(|known| known == topic).unwrap_or_else(|| {
            self.topics.push(topic.to_owned());
            self.topics.len() - 1
        })
    }
}

/// Whether the forwarded event is this one, or follows it in its partition.
fn may_be_read_again(entry: &Entry, topic: &str, place: &Place<'_>) -> bool {
    entry.partition == place.partition
        && (entry.offset, entry.index) >= (place.offset, place.index)
        && topic == place.topic
}

#[pymethods]
impl Forwarded {
    #[new]
    fn new(max_entries: usize, granularity_ms: i64) -> Forwarded {
        Forwarded { entries: LruCache::new(max_entries), granularity_ms, topics: Vec::new() }
    }

    #[allow(clippy::too_many_arguments)]
    fn covers(
        &mut self,
        key: &[u8],
        window_ms: i64,
        time_ms: i64,
        read_ms: i64,
        topic: &str,
        partition: i32,
        offset: i64,
        index: i64,
    ) -> bool {
        let place = Place { topic, partition, offset, index };
        self.is_covered(&Seen { key, window_ms, time_ms, read_ms, place })
    }

    #[allow(clippy::too_many_arguments)]
    fn remember(
        &mut self,
        key: &[u8],
        time_ms: i64,
        read_ms: i64,
        topic: &str,
        partition: i32,
        offset: i64,
        index: i64,
    ) {
        let place = Place { topic, partition, offset, index };
        self.note(&Seen { key, window_ms: 0, time_ms, read_ms, place });
    }

    fn clear(&mut self) {
        self.forget();
    }

    fn __len__(&self) -> usize {
        self.entries.len()
    }
}
