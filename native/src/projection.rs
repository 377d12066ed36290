//! Takes from a JSON event what some fields can depend on.
//!
//! A document is a bag of paths and values, however it is written: `{"a": {"b": 1}}`, `{"a.b": 1}`
//! and `{"a": [{"b": 1}]}` say the same. What is taken is every value, as it is written, whose path
//! is that of a field, leads to one, or continues below one, together with the keys that lead
//! there. If the same is taken from two events, they are the same to any reader of these fields
//! alone. The texts of some fields are set apart from that.
//!
//! Only plain events are read here. Whatever a JSON parser might read differently or refuse
//! (duplicate keys, escapes in keys, surrogates, large numbers) is left to the caller.

use memchr::{memchr, memchr2};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::text::text;

const KEY: u8 = 0x1f; // between keys, and
const END: u8 = 0x1e; // after keys and values: JSON has neither of them unescaped

const MOST_KEYS: usize = 64; // of one object; each is compared with those before it
const MOST_LEVELS: usize = 100; // the default; each takes some of the stack
const LONGEST_NUMBER: usize = 17;
const LONGEST_APART: usize = 256; // callers keep what is set apart

/// What is wanted of the values at a path.
#[derive(Default)]
struct Node {
    /// A field: the value here is taken, and everything below it.
    is_field: bool,
    /// The field of the time, whose text is returned separately and not taken.
    is_time: bool,
    /// The field of the event's id, whose text is returned separately and not taken.
    is_id: bool,
    /// The number of a field whose text is set apart.
    apart: Option<usize>,
    /// A field that events are not expected to have.
    is_unexpected: bool,
    /// Whether a field of the last four kinds is here or below.
    is_special: bool,
    below: Vec<(Vec<u8>, Node)>,
}

impl Node {
    fn at(&mut self, path: &str, is_special: bool) -> &mut Node {
        let mut node = self;
        node.is_special |= is_special;
        for part in path.split('.') {
            let place = node.below.iter().position(|(name, _)| name == part.as_bytes());
            let place = place.unwrap_or_else(|| {
                node.below.push((part.as_bytes().to_vec(), Node::default()));
                node.below.len() - 1
            });
            node = &mut node.below[place].1;
            node.is_special |= is_special;
        }
        node
    }

    /// Whether nothing below this is looked for.
    fn is_end(&self) -> bool {
        self.is_field || self.is_time || self.is_id || self.is_unexpected || self.apart.is_some()
    }

    fn child(&self, name: &[u8]) -> Option<&Node> {
        self.below.iter().find(|(other, _)| other == name).map(|(_, node)| node)
    }
}

/// The fields of an event, by their purpose.
pub struct Names<'n> {
    /// The fields that are taken.
    pub fields: &'n [String],
    /// More fields, whose texts are set apart and not taken.
    pub apart: &'n [String],
    pub time: &'n str,
    pub id: &'n str,
    pub unexpected: &'n [String],
}

/// What was taken from an event, and the separate texts, as they are written between quotes.
pub struct Taken<'a> {
    pub bytes: Vec<u8>,
    pub time: Option<&'a str>,
    pub id: Option<&'a str>,
    pub apart: Vec<Option<&'a str>>,
}

/// The fields, and the limits on an event.
pub struct Fields {
    root: Node,
    apart: usize,
    max_depth: usize,
    max_values: usize,
}

impl Fields {
    pub fn new(names: &Names<'_>, max_depth: usize, max_values: usize) -> Fields {
        let mut root = Node::default();
        for field in names.fields {
            root.at(field, false).is_field = true;
        }
        for (number, field) in names.apart.iter().enumerate() {
            root.at(field, true).apart = Some(number);
        }
        root.at(names.time, true).is_time = true;
        root.at(names.id, true).is_id = true;
        for field in names.unexpected {
            root.at(field, true).is_unexpected = true;
        }
        Fields { root, apart: names.apart.len(), max_depth, max_values }
    }

    /// Returns no fields, for events of any size: to find out whether one is plain.
    pub fn none() -> Fields {
        let (max_depth, max_values) = (MOST_LEVELS, usize::MAX);
        Fields { root: Node::default(), apart: 0, max_depth, max_values }
    }

    /// Takes from an event what the fields can depend on; None if the event is not plain enough.
    pub fn take<'a>(&self, event: &'a [u8]) -> Option<Taken<'a>> {
        let text = std::str::from_utf8(event).ok()?;
        if event.first() != Some(&b'{') {
            return None;
        }
        let mut reader = Reader {
            text,
            data: event,
            at: 0,
            depth_left: self.max_depth,
            values_left: self.max_values,
            keys: Vec::with_capacity(32),
            path: Vec::with_capacity(64),
            taken: Vec::with_capacity(512),
            time: None,
            id: None,
            apart: vec![None; self.apart],
            met: vec![false; self.apart],
        };
        reader.object(Some(&self.root))?;
        reader.space();
        let Reader { at, taken: bytes, time, id, apart, .. } = reader;
        (at == event.len()).then_some(Taken { bytes, time, id, apart })
    }
}

struct Reader<'a> {
    text: &'a str,
    data: &'a [u8],
    at: usize,
    depth_left: usize,
    values_left: usize,
    /// The keys of the objects that are open, outermost first.
    keys: Vec<&'a [u8]>,
    /// The keys that lead to what is being read.
    path: Vec<u8>,
    taken: Vec<u8>,
    time: Option<&'a str>,
    id: Option<&'a str>,
    apart: Vec<Option<&'a str>>,
    /// Which of the fields that are set apart have been met.
    met: Vec<bool>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn enter(&mut self) -> Option<()> {
        self.depth_left = self.depth_left.checked_sub(1)?;
        self.at += 1;
        self.space();
        Some(())
    }

    fn count(&mut self) -> Option<()> {
        self.values_left = self.values_left.checked_sub(1)?;
        Some(())
    }

    /// Reads an object; `node` says what is wanted below it (None: nothing).
    fn object(&mut self, node: Option<&Node>) -> Option<()> {
        let first = self.keys.len();
        self.each(b'}', |reader| {
            let key = reader.key(first)?;
            reader.space();
            reader.expect(b':')?;
            reader.space();
            match node {
                None => reader.value(),
                Some(node) => reader.member(node, key),
            }
        })?;
        self.keys.truncate(first);
        Some(())
    }

    /// Reads the items between two brackets, each with `read`, up to the `end`.
    fn each(&mut self, end: u8, read: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        self.enter()?;
        if self.peek()? != end {
            loop {
                self.count()?;
                read(self)?;
                self.space();
                match self.peek()? {
                    b',' => self.at += 1,
                    byte if byte == end => break,
                    _ => return None,
                }
                self.space();
            }
        }
        self.at += 1;
        self.depth_left += 1;
        Some(())
    }

    /// Reads a key that is new in its object, whose keys begin at `first`.
    fn key(&mut self, first: usize) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        let key = &self.data[start..start + memchr(b'"', &self.data[start..])?];
        if memchr(b'\\', key).is_some() || has_controls(key) {
            return None;
        }
        self.at = start + key.len() + 1;
        let others = &self.keys[first..];
        if others.len() >= MOST_KEYS || others.contains(&key) {
            return None;
        }
        self.keys.push(key);
        Some(key)
    }

    /// Reads the value of a key in an object below which something is wanted.
    fn member(&mut self, parent: &Node, key: &[u8]) -> Option<()> {
        let mut node = parent;
        let mut parts = key.split(|byte| *byte == b'.');
        while let Some(part) = parts.next() {
            if part.is_empty() && !key.is_empty() {
                return None; // a path with an empty part: two points in a row, or one at its end
            }
            match node.child(part) {
                Some(child) => node = child,
                None => return self.value(),
            }
            if node.is_end() {
                let goes_on = parts.next().is_some();
                return self.field(node, key, goes_on);
            }
        }
        let kind = self.peek()?;
        if kind != b'{' {
            // Not an object where one was expected: it may mean something, or nothing.
            return if node.is_special { None } else { self.take(key) };
        }
        let length = self.path.len();
        self.path.extend_from_slice(key);
        self.path.push(KEY);
        self.object(Some(node))?;
        self.path.truncate(length);
        Some(())
    }

    /// Reads the value at a field, or below it if the key `goes_on`.
    fn field(&mut self, node: &Node, key: &[u8], goes_on: bool) -> Option<()> {
        if node.is_unexpected {
            return None;
        }
        let start = self.at;
        match node.apart.filter(|_| !goes_on) {
            Some(number) => self.set_apart(number, key)?,
            None if node.is_field || node.apart.is_some() => self.take(key)?,
            None => self.value()?,
        }
        // A field with fields below it is taken whole, and so not looked into.
        if node.below.iter().any(|(_, child)| child.is_special) {
            return None;
        }
        if node.is_time {
            let text = self.text_since(start)?;
            // A key that continues below it, `@timestamp.x`, holds no time.
            if self.time.is_some() || goes_on || !self.path.is_empty() || text.contains('\\') {
                return None;
            }
            self.time = Some(text);
        }
        if node.is_id {
            let text = self.text_since(start)?;
            // A key that continues below it may be that of a field.
            if goes_on || self.id.replace(text).is_some() {
                return None;
            }
        }
        Some(())
    }

    /// Returns what is between the quotes of the text that was just read; None if it is no text.
    fn text_since(&self, start: usize) -> Option<&'a str> {
        self.text.get(start..self.at)?.strip_prefix('"')?.strip_suffix('"')
    }

    /// Reads the value of a field that is set apart; takes it instead if it is no text, or too
    /// long.
    fn set_apart(&mut self, number: usize, key: &[u8]) -> Option<()> {
        if std::mem::replace(&mut self.met[number], true) {
            return None; // written in two ways
        }
        if self.peek()? != b'"' {
            return self.take(key);
        }
        let start = self.at;
        self.string()?;
        let text = self.text_since(start)?;
        if text.len() > LONGEST_APART {
            self.at = start;
            return self.take(key);
        }
        self.apart[number] = Some(text);
        Some(())
    }

    /// Reads a value and takes it.
    fn take(&mut self, key: &[u8]) -> Option<()> {
        let start = self.at;
        self.value()?;
        self.taken.extend_from_slice(&self.path);
        self.taken.extend_from_slice(key);
        self.taken.push(END);
        self.taken.extend_from_slice(&self.data[start..self.at]);
        self.taken.push(END);
        Some(())
    }

    /// Reads a value in which nothing is wanted.
    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' => self.object(None),
            b'[' => self.array(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn array(&mut self) -> Option<()> {
        self.each(b']', Self::value)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.data[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn string(&mut self) -> Option<()> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += memchr2(b'"', b'\\', self.data.get(at..)?)?;
            if self.data[at] == b'"' {
                break;
            }
            at += match self.data.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                b'u' => {
                    let digits = self.text.get(at + 2..at + 6)?;
                    let is_plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    let code = u16::from_str_radix(digits, 16).ok()?;
                    if !is_plain || (0xD800..0xE000).contains(&code) {
                        return None;
                    }
                    6
                }
                _ => return None,
            };
        }
        if has_controls(&self.data[start..at]) {
            return None;
        }
        self.at = at + 1;
        Some(())
    }

    /// Reads a number without an exponent and with few digits, which everybody reads in the same
    /// way.
    fn number(&mut self) -> Option<()> {
        let rest = &self.data[self.at..];
        let sign = usize::from(rest.first()? == &b'-');
        let whole = digits(&rest[sign..]);
        if whole == 0 || (whole > 1 && rest[sign] == b'0') {
            return None;
        }
        let mut length = sign + whole;
        if rest.get(length) == Some(&b'.') {
            let fraction = digits(&rest[length + 1..]);
            if fraction == 0 {
                return None;
            }
            length += 1 + fraction;
        }
        if length > LONGEST_NUMBER || matches!(rest.get(length), Some(b'e' | b'E')) {
            return None;
        }
        self.at += length;
        Some(())
    }
}

fn digits(data: &[u8]) -> usize {
    data.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn has_controls(data: &[u8]) -> bool {
    data.iter().fold(false, |found, byte| found | (*byte < 0x20))
}

/// See `firstseen_native.pyi`.
#[pyclass(frozen)]
pub struct Projection {
    pub fields: Fields,
}

#[pymethods]
impl Projection {
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        fields: Vec<String>,
        apart: Vec<String>,
        time: &str,
        event_id: &str,
        unexpected: Vec<String>,
        max_depth: usize,
        max_values: usize,
    ) -> Projection {
        let names =
            Names { fields: &fields, apart: &apart, time, id: event_id, unexpected: &unexpected };
        Projection { fields: Fields::new(&names, max_depth, max_values) }
    }

    /// See `firstseen_native.pyi`.
    fn take<'py>(&self, py: Python<'py>, event: &[u8]) -> PyResult<Option<PyTaken<'py>>> {
        let Some(taken) = self.fields.take(event) else { return Ok(None) };
        let python = |written: Option<&str>| written.map(|written| text(py, written));
        let apart = PyTuple::new(py, taken.apart.iter().map(|written| python(*written)))?;
        let bytes = PyBytes::new(py, &taken.bytes);
        Ok(Some((bytes, python(taken.time), python(taken.id), apart)))
    }
}

type PyTaken<'py> = (
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyString>>,
    Option<Bound<'py, PyString>>,
    Bound<'py, PyTuple>,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let names = Names {
            fields: &owned(&["process.name", "process.parent", "user.id"]),
            apart: &owned(&["host.id", "dll.path"]),
            time: "@timestamp",
            id: "event.id",
            unexpected: &owned(&["event.ingested"]),
        };
        Fields::new(&names, 5, 20)
    }

    fn taken(event: &str) -> Option<(String, Option<String>)> {
        let taken = fields().take(event.as_bytes())?;
        let bytes = taken.bytes.iter().map(|byte| match *byte {
            KEY => b'/',
            END => b'|',
            other => other,
        });
        let bytes = String::from_utf8(bytes.collect()).unwrap();
        Some((bytes, taken.time.map(str::to_owned)))
    }

    #[test]
    fn values_on_the_way_to_a_field_and_below_it_are_taken() {
        let event = r#"{"@timestamp":"T","process":{"pid":1,"name":"a","parent":{"x":[1]}},"user":7,"q":{}}"#;
        let expected = r#"process/name|"a"|process/parent|{"x":[1]}|user|7|"#;
        assert_eq!(taken(event), Some((expected.to_owned(), Some("T".to_owned()))));
    }

    #[test]
    fn keys_may_hold_points() {
        let event = r#"{"process.name.text":"a","process":[{"name":"b"}],"process.nam":1,"user":{"id.x":2}}"#;
        let expected = r#"process.name.text|"a"|process|[{"name":"b"}]|user/id.x|2|"#;
        assert_eq!(taken(event), Some((expected.to_owned(), None)));
    }

    fn apart(event: &str) -> Option<(String, Vec<Option<String>>, Option<String>)> {
        let fields = fields();
        let taken = fields.take(event.as_bytes())?;
        let (bytes, _) = self::taken(event)?;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some((bytes, taken.apart.into_iter().map(owned).collect(), owned(taken.id)))
    }

    #[test]
    fn a_text_is_set_apart_and_any_other_value_is_taken() {
        let told = |text: &str| Some(text.to_owned());
        for (event, bytes, texts, id) in [
            ("{}", "", [None, None], None),
            (r#"{"host":{"id":"h"},"dll.path":"C:\\"}"#, "", [told("h"), told(r"C:\\")], None),
            (r#"{"host.id":["h"]}"#, r#"host.id|["h"]|"#, [None, None], None),
            (r#"{"host":{"id":null}}"#, "host/id|null|", [None, None], None),
            (r#"{"host.id.x":"h"}"#, r#"host.id.x|"h"|"#, [None, None], None),
            (r#"{"event":{"id":"1"}}"#, "", [None, None], told("1")),
        ] {
            assert_eq!(apart(event), Some((bytes.to_owned(), texts.to_vec(), id)), "{event}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_others() {
        for event in [
            "",
            "[]",
            "{",
            "{}x",
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"\u0061":1}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\x"}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":1e5}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":123456789012345678}"#,
            r#"{"a":nul}"#,
            r#"{"a":[[[[[1]]]]]}"#,
            r#"{"a":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]}"#,
            r#"{"event":{"ingested":"T"}}"#,
            r#"{"event.ingested":"T"}"#,
            r#"{"event":[]}"#,
            r#"{"event":{"id":1}}"#,
            r#"{"event":{"id":"1","id.x":"2"}}"#,
            r#"{"event.id.x":"2"}"#,
            r#"{"event":{"id":["1"]}}"#,
            r#"{"event.id":"1","event":{"id":"1"}}"#,
            r#"{"host":"h"}"#,
            r#"{"host":[{"id":"h"}]}"#,
            r#"{"host.id":"h","host":{"id":"h"}}"#,
            r#"{"host.id":["h"],"host":{"id":"h"}}"#,
            r#"{"@timestamp":1}"#,
            r#"{"@timestamp":"a\n"}"#,
            r#"{"@timestamp":["a"]}"#,
            r#"{"@timestamp.x":"a"}"#,
            r#"{"@timestamp.":"a"}"#,
            r#"{"process..name":1}"#,
            r#"{"process":{".name":1}}"#,
        ] {
            assert_eq!(taken(event), None, "{event}");
        }
    }

    #[test]
    fn what_is_as_deep_and_as_large_as_allowed_is_read() {
        assert!(taken(r#"{"a":[[[[1]]]]}"#).is_some());
        assert!(taken(r#"{"a":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]}"#).is_some());
        assert!(taken(" {}").is_none());
        assert!(taken("{ \"a\" : [ ] , \"b\" : -1.5 }\n").is_some());
    }
}
