//! What rules said of events, and what is to be sent for events that read alike.
//!
//! `pipeline/engine/verdicts.py` says what may be remembered. Here, an event whose verdict is known
//! becomes the sightings to send, byte for byte as the match stage would encode them. Any doubtful
//! event is left to the match stage.

use std::collections::HashMap;
use std::sync::Arc;

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::Blake2bMac;
use hashlink::LruCache;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use sha2::{Digest, Sha256};

use crate::classes::{Class, ClassCache, FieldClasses, Spelled, Spellings};
use crate::forwarded::{Forwarded, Place, Seen};
use crate::observation::{self, HISTORY_BYTES, KEY_BYTES};
use crate::projection::{Projection, Taken};
use crate::text::text;
use crate::time::{usual, EARLIEST_MS, MAX_MS};

/// Kafka's timestamp type for a timestamp that the broker stamped.
const LOG_APPEND_TIME: i64 = 1;

/// `_LONGEST_EVENT_ID` in `identity.py`.
pub const LONGEST_EVENT_ID: usize = 512;

/// A run ends when what it sends reaches this size, because that waits in memory.
const RUN_BYTES: usize = 1 << 20;

/// Half of the number of digits of an alert id.
pub const ID_BYTES: usize = 20;

/// The part of a rule that its sightings depend on.
#[derive(FromPyObject)]
struct Rule {
    history: [u8; HISTORY_BYTES],
    window_ms: i64,
    /// The bytes of an observation up to its terms.
    opening: Vec<u8>,
    /// The hashed bytes of an alert id up to its terms.
    id_opening: Vec<u8>,
    /// For each term that is set apart: its place in the tuple, which text it is, and which way of
    /// indexing applies.
    apart: Vec<(usize, usize, usize)>,
}

enum Term {
    /// The same in all events that read alike.
    Same(Spelled),
    /// Made of the event's own text: which text, and which way of indexing.
    Apart(usize, usize),
}

struct TermTuple {
    rule: usize,
    terms: Vec<Term>,
}

struct Verdict {
    /// For Python.
    outcome: Py<PyAny>,
    matches: bool,
    tuples: Vec<TermTuple>,
}

/// What is kept and what is sent, and when the cache rests: `CacheSettings` in `verdicts.py`.
#[derive(FromPyObject)]
struct CacheSettings {
    verdicts: usize,
    texts: usize,
    text_bytes: usize,
    event_bytes: usize,
    value_bytes: usize,
    term_bytes: usize,
    future_ms: i64,
    /// The number of events after which it is checked whether the memory is of use.
    round: u64,
    /// The memory is of use if at least one in this many events of a round is known.
    rare: u64,
    /// The number of events that are not looked up if it is of no use.
    rest: u64,
}

/// What was found in consecutive records.
#[derive(Default)]
struct Run<'py> {
    outcomes: Vec<(Py<PyAny>, usize)>,
    numbers: HashMap<usize, usize>,
    sent: Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>,
    covered: usize,
    ages: Vec<f64>,
    /// The size of the values that are sent.
    bytes: usize,
}

impl Run<'_> {
    fn note(&mut self, py: Python<'_>, outcome: &Py<PyAny>) {
        let count = self.outcomes.len();
        let number = *self.numbers.entry(outcome.as_ptr() as usize).or_insert(count);
        match self.outcomes.get_mut(number) {
            Some((_, records)) => *records += 1,
            None => self.outcomes.push((outcome.clone_ref(py), 1)),
        }
    }
}

/// A record of a partition.
struct Event<'e> {
    value: &'e [u8],
    topic: &'e str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    arrival_ms: i64,
    read_ms: i64,
}

impl Event<'_> {
    fn seen<'s>(&'s self, key: &'s [u8], window_ms: i64, time_ms: i64) -> Seen<'s> {
        let Event { topic, partition, offset, read_ms, .. } = *self;
        let place = Place { topic, partition, offset, index: 0 };
        Seen { key, window_ms, time_ms, read_ms, place }
    }
}

enum Answer {
    Unknown,
    MatchesNothing,
    Matches,
}

type Judged<'py> = (
    usize,
    bool,
    bool,
    Vec<(Py<PyAny>, usize)>,
    Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>,
    usize,
    Vec<f64>,
);

/// See `firstseen_native.pyi`.
#[pyclass]
pub struct Verdicts {
    projection: Py<Projection>,
    texts: ClassCache,
    rules: Vec<Rule>,
    forwarded: Py<Forwarded>,
    usable_time: Py<PyAny>,
    spelled_id: Py<PyAny>,
    settings: CacheSettings,
    hasher: Blake2bMac<U16>,
    known: LruCache<[u8; 16], Arc<Verdict>>,
    asked: u64,
    found: u64,
    rest: u64,
}

#[pymethods]
impl Verdicts {
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        projection: Py<Projection>,
        texts: Vec<FieldClasses>,
        rules: Vec<Rule>,
        forwarded: Py<Forwarded>,
        usable_time: Py<PyAny>,
        spelled_id: Py<PyAny>,
        key: &[u8],
        settings: CacheSettings,
    ) -> PyResult<Verdicts> {
        let hasher = Blake2bMac::new_from_slice(key)
            .map_err(|_| PyValueError::new_err("a key has 1 to 64 bytes"))?;
        Ok(Verdicts {
            projection,
            texts: ClassCache::new(texts, settings.texts, settings.text_bytes),
            rules,
            forwarded,
            usable_time,
            spelled_id,
            hasher,
            known: LruCache::new(settings.verdicts),
            settings,
            asked: 0,
            found: 0,
            rest: 0,
        })
    }

    /// See `firstseen_native.pyi`.
    #[allow(clippy::too_many_arguments)]
    fn judge<'py>(
        &mut self,
        py: Python<'py>,
        records: &Bound<'py, PyList>,
        start: usize,
        topic: &str,
        partition: i32,
        read_ms: i64,
    ) -> PyResult<Judged<'py>> {
        let mut run = Run::default();
        let place = (topic, partition, read_ms);
        let found = self.run(py, records, start, place, &mut run).inspect_err(|_| {
            // What was noted is then not sent, so it must not cover anything.
            self.forwarded.bind(py).borrow_mut().forget();
        });
        let (count, last) = found?;
        let (is_known, matches_nothing) =
            (!matches!(last, Answer::Unknown), matches!(last, Answer::MatchesNothing));
        Ok((count, is_known, matches_nothing, run.outcomes, run.sent, run.covered, run.ages))
    }

    /// See `firstseen_native.pyi`.
    fn remember(
        &mut self,
        py: Python<'_>,
        event: &[u8],
        outcome: Py<PyAny>,
        matches: bool,
        tuples: Vec<(usize, Vec<Spellings>)>,
    ) -> PyResult<()> {
        if self.rest > 0 || event.len() > self.settings.event_bytes {
            return Ok(());
        }
        let projection = self.projection.clone_ref(py);
        let Some((taken, classes)) = self.read(py, projection.get(), event)? else { return Ok(()) };
        let mut size = 0;
        let mut kept = Vec::with_capacity(tuples.len());
        for (number, terms) in tuples {
            let rule = self.rule(number)?;
            let set_apart = |place: usize| {
                let apart = rule.apart.iter().find(|(of, ..)| *of == place);
                apart.filter(|(_, text, _)| taken.apart[*text].is_some())
            };
            let terms = terms.into_iter().enumerate().map(|(place, (canonical, sent))| {
                match set_apart(place) {
                    Some((_, text, way)) => Term::Apart(*text, *way),
                    None => {
                        size += sent.len();
                        Term::Same(Spelled::new(canonical, sent))
                    }
                }
            });
            kept.push(TermTuple { rule: number, terms: terms.collect() });
        }
        if size <= self.settings.term_bytes {
            let verdict = Arc::new(Verdict { outcome, matches, tuples: kept });
            self.known.insert(self.digest(&taken, &classes), verdict);
        }
        Ok(())
    }

    /// See `firstseen_native.pyi`.
    fn digest_of<'py>(
        &mut self,
        py: Python<'py>,
        event: &[u8],
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let projection = self.projection.clone_ref(py);
        let read = self.read(py, projection.get(), event)?;
        Ok(read.map(|(taken, classes)| PyBytes::new(py, &self.digest(&taken, &classes))))
    }

    fn __len__(&self) -> usize {
        self.known.len()
    }
}

impl Verdicts {
    /// Judges records up to the first one for which no match is known; returns how many, and why it
    /// ended.
    fn run<'py>(
        &mut self,
        py: Python<'py>,
        records: &Bound<'py, PyList>,
        start: usize,
        (topic, partition, read_ms): (&str, i32, i64),
        run: &mut Run<'py>,
    ) -> PyResult<(usize, Answer)> {
        let mut count = 0;
        while start + count < records.len() && run.bytes < RUN_BYTES {
            let record = records.get_item(start + count)?;
            let value = record.getattr(intern!(py, "value"))?;
            let Ok(value) = value.cast::<PyBytes>() else { return Ok((count, Answer::Unknown)) };
            let stamp: Option<i64> = record.getattr(intern!(py, "timestamp"))?.extract()?;
            let kind: Option<i64> = record.getattr(intern!(py, "timestamp_type"))?.extract()?;
            let timestamp_ms = stamp.unwrap_or(-1);
            let is_stamped = kind == Some(LOG_APPEND_TIME);
            let event = Event {
                value: value.as_bytes(),
                topic,
                partition,
                offset: record.getattr(intern!(py, "offset"))?.extract()?,
                timestamp_ms,
                arrival_ms: if is_stamped { timestamp_ms } else { read_ms },
                read_ms,
            };
            match self.recognise(py, &event, run)? {
                Answer::Matches => count += 1,
                other => return Ok((count, other)),
            }
        }
        Ok((count, Answer::Matches))
    }

    /// Returns the part of an event that rules can depend on; None if it is written in an unusual
    /// way.
    fn read<'e>(
        &mut self,
        py: Python<'_>,
        projection: &Projection,
        event: &'e [u8],
    ) -> PyResult<Option<(Taken<'e>, Vec<Arc<Class>>)>> {
        let Some(taken) = projection.fields.take(event) else { return Ok(None) };
        let classes = self.texts.classes(py, &taken.apart)?;
        Ok(classes.map(|classes| (taken, classes)))
    }

    /// Returns a digest of that part. The classes of a field have the same length, so they need no
    /// separators.
    fn digest(&self, taken: &Taken<'_>, classes: &[Arc<Class>]) -> [u8; 16] {
        let mut hasher = self.hasher.clone();
        Update::update(&mut hasher, &taken.bytes);
        for class in classes {
            Update::update(&mut hasher, &class.bytes);
        }
        hasher.finalize_fixed().into()
    }

    fn rule(&self, number: usize) -> PyResult<&Rule> {
        self.rules.get(number).ok_or_else(|| PyValueError::new_err("no such rule"))
    }

    fn count(&mut self, is_known: bool) {
        self.asked += 1;
        self.found += u64::from(is_known);
        if self.asked == self.settings.round {
            if self.found * self.settings.rare < self.asked {
                self.rest = self.settings.rest;
            }
            (self.asked, self.found) = (0, 0);
        }
    }

    /// Returns what is known of an event, and adds what follows from it to the run.
    fn recognise<'py>(
        &mut self,
        py: Python<'py>,
        event: &Event<'_>,
        run: &mut Run<'py>,
    ) -> PyResult<Answer> {
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(Answer::Unknown);
        }
        if event.value.len() > self.settings.event_bytes || !is_plain(event.topic) {
            return Ok(Answer::Unknown);
        }
        let projection = self.projection.clone_ref(py);
        let Some((taken, classes)) = self.read(py, projection.get(), event.value)? else {
            self.count(false);
            return Ok(Answer::Unknown);
        };
        let digest = self.digest(&taken, &classes);
        let verdict = self.known.get(&digest).cloned();
        self.count(verdict.is_some());
        let Some(verdict) = verdict else { return Ok(Answer::Unknown) };
        if !verdict.matches {
            return Ok(Answer::MatchesNothing);
        }
        let Some(time_ms) = self.time(py, &taken)? else { return Ok(Answer::Unknown) };
        if time_ms > event.arrival_ms.saturating_add(self.settings.future_ms).min(MAX_MS) {
            return Ok(Answer::Unknown);
        }
        if self.send(py, event, &taken, &classes, &verdict, time_ms, run)? {
            run.note(py, &verdict.outcome);
            return Ok(Answer::Matches);
        }
        Ok(Answer::Unknown)
    }

    fn time(&self, py: Python<'_>, taken: &Taken<'_>) -> PyResult<Option<i64>> {
        let Some(written) = taken.time else { return Ok(None) };
        match usual(written) {
            Some(time_ms) => Ok((time_ms >= EARLIEST_MS).then_some(time_ms)),
            None => self.usable_time.call1(py, (text(py, written),))?.extract(py),
        }
    }

    /// Adds what is to be sent for an event; false, with nothing added, if it is too large.
    #[allow(clippy::too_many_arguments)]
    fn send<'py>(
        &mut self,
        py: Python<'py>,
        event: &Event<'_>,
        taken: &Taken<'_>,
        classes: &[Arc<Class>],
        verdict: &Verdict,
        time_ms: i64,
        run: &mut Run<'py>,
    ) -> PyResult<bool> {
        let mut forwarded = self.forwarded.bind(py).borrow_mut();
        let mut identity = None;
        let mut values = Vec::new();
        for tuple in &verdict.tuples {
            let rule = self.rule(tuple.rule)?;
            let Some(canonical) = spelled(tuple, classes, |term| &term.canonical) else {
                return Ok(false);
            };
            let mut key = [0; KEY_BYTES];
            key[..HISTORY_BYTES].copy_from_slice(&rule.history);
            let digest = Sha256::digest(&canonical);
            key[HISTORY_BYTES..].copy_from_slice(&digest[..KEY_BYTES - HISTORY_BYTES]);
            let seen = event.seen(&key, rule.window_ms, time_ms);
            if forwarded.is_covered(&seen) {
                continue;
            }
            let (canonical_id, sent_id) = match &mut identity {
                Some(known) => known,
                unknown => unknown.insert(self.identity(py, event, taken)?),
            };
            let id = alert_id(rule, &canonical, canonical_id);
            let Some(terms) = spelled(tuple, classes, Spelled::sent) else { return Ok(false) };
            let value = observation::write(&observation::Parts {
                opening: &rule.opening,
                terms: &terms,
                time_ms,
                event_id: sent_id,
                alert_id: &id,
                topic: event.topic,
                partition: event.partition,
                offset: event.offset,
                timestamp_ms: event.timestamp_ms,
                event: event.value,
            });
            if value.len() > self.settings.value_bytes {
                // The sightings noted before this one do not cover this event, which the match
                // stage judges now.
                return Ok(false);
            }
            forwarded.note(&seen);
            values.push((key, value));
        }
        run.covered += verdict.tuples.len() - values.len();
        let age_ms = event.arrival_ms.saturating_sub(time_ms).max(0);
        for (key, value) in values {
            run.bytes += value.len();
            run.sent.push((PyBytes::new(py, &key), PyBytes::new(py, &value)));
            run.ages.push(age_ms as f64 / 1000.0);
        }
        Ok(true)
    }

    /// Returns what distinguishes an event from all others: as it is hashed, and as it is sent.
    fn identity(
        &self,
        py: Python<'_>,
        event: &Event<'_>,
        taken: &Taken<'_>,
    ) -> PyResult<(Vec<u8>, Vec<u8>)> {
        let quoted = |text: &str| [b"\"", text.as_bytes(), b"\""].concat();
        match taken.id {
            None | Some("") => {
                let Event { topic, partition, offset, .. } = event;
                let place = quoted(&format!("{topic}/{partition}/{offset}"));
                Ok((place.clone(), place))
            }
            Some(id) if is_plain(id) && id.len() <= LONGEST_EVENT_ID => {
                Ok((quoted(id), quoted(id)))
            }
            Some(id) => self.spelled_id.call1(py, (text(py, id),))?.extract(py),
        }
    }
}

/// Whether a text is the same in all of its spellings.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\')
}

/// Returns a tuple of terms; None if one of its texts is not indexed, or not there.
fn spelled(
    of: &TermTuple,
    classes: &[Arc<Class>],
    spelling: impl Fn(&Spelled) -> &[u8],
) -> Option<Vec<u8>> {
    let mut tuple = Vec::with_capacity(256);
    for term in &of.terms {
        let term = match term {
            Term::Same(term) => term,
            Term::Apart(text, way) => classes.get(*text)?.terms.get(*way)?.as_ref()?,
        };
        tuple.push(if tuple.is_empty() { b'[' } else { b',' });
        tuple.extend_from_slice(spelling(term));
    }
    tuple.push(b']');
    Some(tuple)
}

/// Returns the id of the alert that a rule raises for a tuple because of an event.
fn alert_id(rule: &Rule, terms: &[u8], identity: &[u8]) -> String {
    let mut hasher = Sha256::new();
    for part in [&rule.id_opening[..], terms, b",", identity, b"]"] {
        Digest::update(&mut hasher, part);
    }
    let digest = hasher.finalize();
    let digits = digest[..ID_BYTES].iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}
