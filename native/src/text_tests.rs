//! What parts of queries say of the single text of a field, answered here for ASCII texts.

use std::borrow::Cow;
use std::collections::HashSet;

use pyo3::prelude::*;

use crate::classes::{Class, Spelled, Spellings};
use crate::text::unescaped;

/// `TextTest` in `pipeline/kql/text_tests.py`.
#[derive(FromPyObject)]
enum Test {
    Leaf {
        caseless: bool,
        ignore_above: Option<usize>,
        exact: HashSet<String>,
        patterns: Vec<Vec<String>>,
        anything: bool,
    },
    Junction {
        is_any: bool,
        is_negated: bool,
        children: Vec<Test>,
    },
}

/// How a text is indexed: whether in lower case, and up to which length.
type Way = (bool, Option<usize>);

/// A text of ASCII, which has as many characters as bytes.
struct Text<'t> {
    written: &'t str,
    lower: Cow<'t, str>,
}

impl Text<'_> {
    /// Returns the text as it is indexed; None if it is not indexed.
    fn indexed(&self, (caseless, ignore_above): Way) -> Option<&str> {
        let is_long = ignore_above.is_some_and(|most| self.written.len() > most);
        (!is_long).then_some(if caseless { &self.lower } else { self.written })
    }
}

impl Test {
    fn holds(&self, text: &Text<'_>) -> bool {
        match self {
            Test::Leaf { caseless, ignore_above, exact, patterns, anything } => {
                let Some(value) = text.indexed((*caseless, *ignore_above)) else { return false };
                *anything
                    || exact.contains(value)
                    || patterns.iter().any(|parts| fits(parts, value))
            }
            Test::Junction { is_any: true, is_negated, children } => {
                children.iter().any(|child| child.holds(text)) != *is_negated
            }
            Test::Junction { is_any: false, is_negated, children } => {
                children.iter().all(|child| child.holds(text)) != *is_negated
            }
        }
    }
}

/// Whether a text fits a pattern, given as the texts between its stars.
///
/// Taking the leftmost place of each is always right, so there is no backtracking.
fn fits(parts: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = parts else { return false };
    let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
    let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
    for part in middle {
        match rest.find(part.as_str()) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    true
}

/// See `firstseen_native.pyi`.
#[pyclass(frozen)]
pub struct TextClasses {
    tests: Vec<Test>,
    ways: Vec<Way>,
}

#[pymethods]
impl TextClasses {
    #[new]
    fn new(tests: Vec<Test>, ways: Vec<Way>) -> TextClasses {
        TextClasses { tests, ways }
    }

    /// See `firstseen_native.pyi`.
    fn of(&self, written: &str) -> Option<(Vec<u8>, Vec<Option<Spellings>>)> {
        let class = self.class(written)?;
        let both = |term: &Spelled| (term.canonical.to_vec(), term.sent().to_vec());
        let terms = class.terms.iter().map(|term| term.as_ref().map(both)).collect();
        Some((class.bytes.to_vec(), terms))
    }
}

impl TextClasses {
    /// Returns the class of a text, as it is written between quotes; None if it may be spelled in
    /// more than one way.
    pub fn class(&self, written: &str) -> Option<Class> {
        let text = unescaped(written);
        if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return None;
        }
        let has_capitals = text.bytes().any(|byte| byte.is_ascii_uppercase());
        let lower = if has_capitals { text.to_ascii_lowercase().into() } else { Cow::from(&*text) };
        let text = Text { written: &text, lower };
        let terms: Box<[_]> = self.ways.iter().map(|way| text.indexed(*way).map(spelled)).collect();
        let said = self.tests.iter().map(|test| test.holds(&text));
        let answers = said.chain(terms.iter().map(Option::is_none));
        let bytes = packed(answers, self.tests.len() + self.ways.len());
        Some(Class { bytes: bytes.into(), terms })
    }
}

/// Returns `count` answers as bits after a leading one bit, big-endian, in bytes that begin with 1.
fn packed(answers: impl Iterator<Item = bool>, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count / 8 + 2];
    bytes[0] = 1;
    let last = 8 * bytes.len() - 1;
    let first = last - count;
    for (place, answer) in (first..=last).zip(std::iter::once(true).chain(answers)) {
        bytes[place / 8] |= u8::from(answer) << (7 - place % 8);
    }
    bytes
}

/// Returns a text of printable ASCII as JSON, which spells it in only one way except for needless
/// escapes.
fn spelled(text: &str) -> Spelled {
    let mut json = Vec::with_capacity(text.len() + 8);
    json.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            json.push(b'\\');
        }
        json.push(byte);
    }
    json.push(b'"');
    Spelled::same(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_fit(pattern: &str, text: &str) -> bool {
        let parts: Vec<String> = pattern.split('*').map(str::to_owned).collect();
        fits(&parts, text)
    }

    #[test]
    fn a_pattern_fits_a_whole_text() {
        for (pattern, text) in
            [("a*", "a"), ("*a", "ba"), ("*", ""), ("a*b*c", "aXbYbZc"), ("*ab*ab*", "abab")]
        {
            assert!(is_fit(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a*a", "a"), ("*ab*ab*", "abb"), ("a*b*b", "ab"), ("a*", "ba")] {
            assert!(!is_fit(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn answers_are_the_digits_of_a_number() {
        for count in 0..20 {
            let answers = |place: usize| place % 3 == 0;
            let number =
                (0..count).fold(1u32, |number, place| 2 * number + u32::from(answers(place)));
            let packed = packed((0..count).map(answers), count);
            let told = packed.iter().skip(1).fold(0u32, |told, byte| 256 * told + u32::from(*byte));
            assert_eq!((packed[0], packed.len(), told), (1, count / 8 + 2, number));
        }
    }

    #[test]
    fn texts_that_are_written_in_one_way_are_told() {
        let leaf = Test::Leaf {
            caseless: true,
            ignore_above: Some(5),
            exact: HashSet::from([r"c:\a".to_owned()]),
            patterns: Vec::new(),
            anything: false,
        };
        let negated = Test::Junction { is_any: false, is_negated: true, children: vec![leaf] };
        let classes = TextClasses::new(vec![negated], vec![(false, None), (true, Some(4))]);
        let told = |text: &str| classes.of(text);
        let spellings = |text: &[u8]| Some((text.to_vec(), text.to_vec()));
        let both = vec![spellings(br#""C:\\A""#), spellings(br#""c:\\a""#)];
        assert_eq!(told(r"C:\\A"), Some((vec![1, 0b1000], both)));
        assert_eq!(told("abcde"), Some((vec![1, 0b1101], vec![spellings(br#""abcde""#), None])));
        assert_eq!(told(r"a\/").unwrap().1[0], spellings(br#""a/""#));
        for other in ["\u{e4}", r"\n", "\u{7f}", r"\u00e4"] {
            assert!(told(other).is_none(), "{other}");
        }
    }
}
