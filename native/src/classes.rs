//! What is known of the texts of fields that are told apart.

use std::sync::Arc;

use hashlink::LruCache;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::text::text;

/// A value in the two spellings that are asked for.
pub struct Spelled {
    /// As hashes are made of it.
    pub canonical: Box<[u8]>,
    /// As it is sent; None if that is the same.
    sent: Option<Box<[u8]>>,
}

impl Spelled {
    pub fn new(canonical: Vec<u8>, sent: Vec<u8>) -> Spelled {
        let is_same = canonical == sent;
        Spelled { canonical: canonical.into(), sent: (!is_same).then(|| sent.into()) }
    }

    pub fn sent(&self) -> &[u8] {
        self.sent.as_deref().unwrap_or(&self.canonical)
    }

    fn size(&self) -> usize {
        self.canonical.len() + self.sent.as_deref().map_or(0, <[u8]>::len)
    }
}

/// What rules say of a text, or of its absence.
pub struct Class {
    /// The same for all texts of which they say the same.
    pub bytes: Box<[u8]>,
    /// The terms that it is indexed as.
    pub terms: Box<[Option<Spelled>]>,
}

/// What Python tells of a value: `canonical` and `sent` of a `Spelled`.
pub type Spellings = (Vec<u8>, Vec<u8>);

type Told = (Vec<u8>, Vec<Option<Spellings>>);

/// The texts of a field; those not used for longest go first.
pub struct Texts {
    known: LruCache<Box<str>, Arc<Class>>,
    /// Asks the rules.
    ask: Py<PyAny>,
    absent: Arc<Class>,
    bytes: usize,
    max_texts: usize,
    max_bytes: usize,
}

/// What a text weighs beside what it holds: links, lengths and the memory's own.
const OVERHEAD: usize = 160;

impl Texts {
    pub fn new(ask: Py<PyAny>, absent: Vec<u8>, max_texts: usize, max_bytes: usize) -> Texts {
        let absent = Arc::new(Class { bytes: absent.into(), terms: Box::default() });
        Texts { known: LruCache::new_unbounded(), ask, absent, bytes: 0, max_texts, max_bytes }
    }

    /// Returns what is said of a text as it is written; None if a rule fails at it.
    pub fn class(&mut self, py: Python<'_>, written: Option<&str>) -> PyResult<Option<Arc<Class>>> {
        let Some(written) = written else { return Ok(Some(self.absent.clone())) };
        if let Some(class) = self.known.get(written) {
            return Ok(Some(class.clone()));
        }
        let told =
            self.ask.call1(py, (text(py, written),)).and_then(|told| told.extract::<Told>(py));
        match told {
            Ok((bytes, terms)) => {
                let spelled = |each: Option<Spellings>| {
                    each.map(|(canonical, sent)| Spelled::new(canonical, sent))
                };
                let terms = terms.into_iter().map(spelled).collect();
                let class = Arc::new(Class { bytes: bytes.into(), terms });
                self.keep(written, class.clone());
                Ok(Some(class))
            }
            Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self, written: &str, class: Arc<Class>) {
        self.bytes += size(written, &class);
        self.known.insert(written.into(), class);
        while self.known.len() > self.max_texts || self.bytes > self.max_bytes {
            let Some((written, class)) = self.known.remove_lru() else { break };
            self.bytes -= size(&written, &class);
        }
    }
}

fn size(written: &str, class: &Class) -> usize {
    let terms = class.terms.iter().flatten().map(Spelled::size).sum::<usize>();
    OVERHEAD + written.len() + class.bytes.len() + terms
}
