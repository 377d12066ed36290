//! The classes of texts of the fields that are set apart.

use std::sync::Arc;

use hashlink::LruCache;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::text::text;
use crate::text_tests::TextClasses;

/// A value in the two spellings that are needed.
pub struct Spelled {
    /// The spelling that is hashed.
    pub canonical: Box<[u8]>,
    /// The spelling that is sent; None if it is the same.
    sent: Option<Box<[u8]>>,
}

impl Spelled {
    pub fn new(canonical: Vec<u8>, sent: Vec<u8>) -> Spelled {
        let is_same = canonical == sent;
        Spelled { canonical: canonical.into(), sent: (!is_same).then(|| sent.into()) }
    }

    pub fn same(spelling: Vec<u8>) -> Spelled {
        Spelled { canonical: spelling.into(), sent: None }
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
    /// The same for all texts of which the rules say the same.
    pub bytes: Box<[u8]>,
    /// The terms that the text is indexed as.
    pub terms: Box<[Option<Spelled>]>,
}

/// What Python returns for a value: `canonical` and `sent` of a `Spelled`.
pub type Spellings = (Vec<u8>, Vec<u8>);

/// For a field: what returns the class of a text, the class of an event without a text, and what
/// knows the class of most texts without Python.
pub type FieldClasses = (Py<PyAny>, Vec<u8>, Option<Py<TextClasses>>);

type ClassAndTerms = (Vec<u8>, Vec<Option<Spellings>>);

/// The classes of the texts of all fields that are set apart.
pub struct ClassCache {
    fields: Vec<Field>,
    max_texts: usize,
    max_bytes: usize,
}

/// The texts of a field; the least recently used ones are dropped first.
struct Field {
    known: LruCache<Box<str>, Arc<Class>>,
    bytes: usize,
    /// Answers for most texts, if there is such a thing.
    tests: Option<Py<TextClasses>>,
    /// Asks the rules about all others.
    ask: Py<PyAny>,
    absent: Arc<Class>,
}

/// The memory that a text takes besides its content: links, lengths and the allocator's own.
const OVERHEAD: usize = 160;

impl ClassCache {
    /// Prepares to keep up to `max_texts` texts of each field, and `max_bytes` bytes in total.
    pub fn new(fields: Vec<FieldClasses>, max_texts: usize, max_bytes: usize) -> ClassCache {
        let field = |(ask, absent, tests): FieldClasses| {
            let absent = Arc::new(Class { bytes: absent.into(), terms: Box::default() });
            Field { known: LruCache::new_unbounded(), bytes: 0, tests, ask, absent }
        };
        ClassCache { fields: fields.into_iter().map(field).collect(), max_texts, max_bytes }
    }

    /// Returns what the rules say of the text of each field as it is written; None if a rule fails.
    pub fn classes(
        &mut self,
        py: Python<'_>,
        texts: &[Option<&str>],
    ) -> PyResult<Option<Vec<Arc<Class>>>> {
        let mut classes = Vec::with_capacity(texts.len());
        for (number, written) in texts.iter().enumerate() {
            let Some(field) = self.fields.get_mut(number) else { return Ok(None) };
            let class = match written {
                None => Some(field.absent.clone()),
                Some(written) => match field.known.get(*written) {
                    Some(class) => Some(class.clone()),
                    None => self.ask(py, number, written)?,
                },
            };
            match class {
                Some(class) => classes.push(class),
                None => return Ok(None),
            }
        }
        Ok(Some(classes))
    }

    fn ask(
        &mut self,
        py: Python<'_>,
        number: usize,
        written: &str,
    ) -> PyResult<Option<Arc<Class>>> {
        let field = &self.fields[number];
        let native = field.tests.as_ref().and_then(|tests| tests.get().class(written));
        let class = match native {
            Some(class) => class,
            None => match field.class_by_python(py, written)? {
                Some(class) => class,
                None => return Ok(None),
            },
        };
        let class = Arc::new(class);
        self.keep(number, written, class.clone());
        Ok(Some(class))
    }

    fn keep(&mut self, number: usize, written: &str, class: Arc<Class>) {
        let field = &mut self.fields[number];
        field.bytes += size(written, &class);
        field.known.insert(written.into(), class);
        if field.known.len() > self.max_texts {
            field.drop_one();
        }
        // The largest field loses texts, so that none takes all the room.
        while self.fields.iter().map(|field| field.bytes).sum::<usize>() > self.max_bytes {
            match self.fields.iter_mut().max_by_key(|field| field.bytes) {
                Some(largest) => largest.drop_one(),
                None => break,
            }
        }
    }
}

impl Field {
    /// Asks the rules what they say of a text; None if one of them fails.
    fn class_by_python(&self, py: Python<'_>, written: &str) -> PyResult<Option<Class>> {
        let answer = self.ask.call1(py, (text(py, written),));
        match answer.and_then(|answer| answer.extract::<ClassAndTerms>(py)) {
            Ok((bytes, terms)) => {
                let spelled = |each: Option<Spellings>| {
                    each.map(|(canonical, sent)| Spelled::new(canonical, sent))
                };
                let terms = terms.into_iter().map(spelled).collect();
                Ok(Some(Class { bytes: bytes.into(), terms }))
            }
            Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn drop_one(&mut self) {
        if let Some((written, class)) = self.known.remove_lru() {
            self.bytes -= size(&written, &class);
        }
    }
}

fn size(written: &str, class: &Class) -> usize {
    let terms = class.terms.iter().flatten().map(Spelled::size).sum::<usize>();
    OVERHEAD + written.len() + class.bytes.len() + terms
}
