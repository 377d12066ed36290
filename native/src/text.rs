//! Texts of JSON.

use std::borrow::Cow;

use memchr::memchr;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Returns, as a Python string, what is between quotes and known to be valid and without
/// surrogates.
pub fn text<'py>(py: Python<'py>, written: &str) -> Bound<'py, PyString> {
    PyString::new(py, &unescaped(written))
}

/// Does the same for a Rust string.
pub fn unescaped(written: &str) -> Cow<'_, str> {
    let mut next = memchr(b'\\', written.as_bytes());
    if next.is_none() {
        return written.into();
    }
    let mut text = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(place) = next {
        text.push_str(&rest[..place]);
        let (character, length) = match rest.as_bytes()[place + 1] {
            b'u' => {
                let code = u32::from_str_radix(&rest[place + 2..place + 6], 16);
                (code.ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
            }
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            other => (char::from(other), 2),
        };
        text.push(character);
        rest = &rest[place + length..];
        next = memchr(b'\\', rest.as_bytes());
    }
    text.push_str(rest);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn escapes_stand_for_characters() {
        let written = r#"C:\\a\/b\"\b\f\n\r\t\u00e4\u20ACz"#;
        assert_eq!(unescaped(written), "C:\\a/b\"\u{8}\u{c}\n\r\tä€z");
    }
}
