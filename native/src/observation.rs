//! Observations, as this version of firstseen writes them: `Observation` in `wire.py`.
//!
//! Whatever is spelled differently is left to the reader in Python.

use std::collections::HashMap;
use std::io::Write;

use memchr::memchr;
use sha2::{Digest, Sha256};

use crate::projection::Fields;
use crate::time::{MAX_MS, MIN_MS};

/// `KEY_BYTES` in `identity.py`; the bytes of the history come first.
pub const KEY_BYTES: usize = 24;
pub const HISTORY_BYTES: usize = 8;

/// `MAX_COUNT` in `wire.py`: no count is larger.
pub const MAX_COUNT: i64 = 1 << 62;

const START: &[u8] = br#"{"rule":{"id":""#;
const END: &[u8] = br#","capped":false,"time_source":"@timestamp"}"#;

/// The maximum number of openings to remember for one rule.
const MOST_OPENINGS: usize = 8;
/// The maximum number of bytes for all openings of all rules.
const MOST_BYTES: usize = 4 << 20;
/// The memory that each opening takes besides its bytes.
const OVERHEAD: usize = 128;
/// The maximum number of bytes of an opening; no rule of ours has a longer one.
const LONGEST_OPENING: usize = 4_096;

/// How observations of one history begin, up to the terms.
struct Opening {
    text: Vec<u8>,
    history: [u8; HISTORY_BYTES],
    window_ms: i64,
}

/// The part of a sighting that matters if its tuple is known.
#[derive(Debug, PartialEq)]
pub struct Sighting {
    pub key: [u8; KEY_BYTES],
    pub window_ms: i64,
    pub time_ms: i64,
}

/// Reads observations that begin like others that were read before.
pub struct Observations {
    openings: HashMap<Vec<u8>, Vec<Opening>>,
    bytes: usize,
    event: Fields,
}

impl Observations {
    pub fn new() -> Observations {
        Observations { openings: HashMap::new(), bytes: 0, event: Fields::none() }
    }

    /// Remembers how observations begin that are known to be valid.
    pub fn note_opening(&mut self, text: &[u8], history: [u8; HISTORY_BYTES], window_ms: i64) {
        let Some(rule) = rule(text) else { return };
        if text.len() > LONGEST_OPENING || self.opening(text).is_some() {
            return;
        }
        if self.bytes + text.len() + OVERHEAD > MOST_BYTES {
            self.openings.clear();
            self.bytes = 0;
        }
        let openings = self.openings.entry(rule.to_vec()).or_default();
        openings.insert(0, Opening { text: text.to_vec(), history, window_ms });
        self.bytes += text.len() + OVERHEAD;
        if openings.len() > MOST_OPENINGS {
            let dropped = openings.pop().map_or(0, |opening| opening.text.len() + OVERHEAD);
            self.bytes -= dropped;
        }
    }

    /// Whether an observation begins in a known way.
    pub fn knows(&self, value: &[u8]) -> bool {
        self.opening(value).is_some()
    }

    fn opening(&self, value: &[u8]) -> Option<&Opening> {
        let openings = self.openings.get(rule(value)?)?;
        openings.iter().find(|opening| value.starts_with(&opening.text))
    }

    /// Reads an observation; None if it is not written as expected.
    pub fn read(&self, value: &[u8]) -> Option<Sighting> {
        std::str::from_utf8(value).ok()?;
        let opening = self.opening(value)?;
        let mut reader = Reader { rest: &value[opening.text.len()..] };
        let terms = reader.texts()?;
        reader.expect(br#","time_ms":"#)?;
        let time_ms = reader.number(MIN_MS..=MAX_MS)?;
        reader.expect(br#","event_id":"#)?;
        reader.text()?;
        reader.expect(br#","alert_id":"#)?;
        reader.text()?;
        reader.expect(br#","source":{"topic":"#)?;
        reader.text()?;
        reader.expect(br#","partition":"#)?;
        reader.number(0..=MAX_COUNT)?;
        reader.expect(br#","offset":"#)?;
        reader.number(0..=MAX_COUNT)?;
        reader.expect(br#","timestamp_ms":"#)?;
        reader.number(i64::MIN..=i64::MAX)?;
        reader.expect(br#","index":"#)?;
        reader.number(0..=MAX_COUNT)?;
        reader.expect(br#"},"event":"#)?;
        self.event.take(reader.rest.strip_suffix(END)?)?;
        let mut key = [0; KEY_BYTES];
        key[..HISTORY_BYTES].copy_from_slice(&opening.history);
        let digest = Sha256::digest(terms);
        key[HISTORY_BYTES..].copy_from_slice(&digest[..KEY_BYTES - HISTORY_BYTES]);
        Some(Sighting { key, window_ms: opening.window_ms, time_ms })
    }
}

/// An observation by its parts, those that are text as they are written.
pub struct Parts<'o> {
    /// The bytes up to its terms.
    pub opening: &'o [u8],
    pub terms: &'o [u8],
    pub time_ms: i64,
    pub event_id: &'o [u8],
    /// Hexadecimal digits.
    pub alert_id: &'o str,
    /// Without anything that JSON would escape.
    pub topic: &'o str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub event: &'o [u8],
}

/// Writes an observation as `Observations::read` reads it, and as `wire.py` writes it.
pub fn write(parts: &Parts<'_>) -> Vec<u8> {
    let Parts { opening, terms, time_ms, event_id, alert_id, topic, .. } = parts;
    let Parts { partition, offset, timestamp_ms, event, .. } = parts;
    let size = opening.len() + terms.len() + event_id.len() + topic.len() + event.len() + 320;
    let mut text = Vec::with_capacity(size);
    text.extend_from_slice(opening);
    text.extend_from_slice(terms);
    // Writing to memory cannot fail.
    let _ = write!(text, r#","time_ms":{time_ms},"event_id":"#);
    text.extend_from_slice(event_id);
    let _ = write!(text, r#","alert_id":"{alert_id}","source":{{"topic":"{topic}","#);
    let _ = write!(text, r#""partition":{partition},"offset":{offset},"#);
    let _ = write!(text, r#""timestamp_ms":{timestamp_ms},"index":0}},"event":"#);
    text.extend_from_slice(event);
    text.extend_from_slice(END);
    text
}

/// Returns the id of an observation's rule, as it is written.
fn rule(value: &[u8]) -> Option<&[u8]> {
    let rest = value.strip_prefix(START)?;
    Some(&rest[..memchr(b'"', rest)?])
}

struct Reader<'r> {
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    fn expect(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// Skips a text that JSON writes in only one way.
    fn text(&mut self) -> Option<()> {
        let mut at = 1;
        if self.rest.first()? != &b'"' {
            return None;
        }
        loop {
            match self.rest.get(at)? {
                b'"' => break,
                b'\\' if matches!(self.rest.get(at + 1)?, b'"' | b'\\') => at += 2,
                b'\\' | 0..=0x1f | 0x7f.. => return None,
                _ => at += 1,
            }
        }
        self.rest = &self.rest[at + 1..];
        Some(())
    }

    /// Returns an array of one or more such texts.
    fn texts(&mut self) -> Option<&'r [u8]> {
        let whole = self.rest;
        self.expect(b"[")?;
        self.text()?;
        while self.rest.first()? == &b',' {
            self.expect(b",")?;
            self.text()?;
        }
        self.expect(b"]")?;
        Some(&whole[..whole.len() - self.rest.len()])
    }

    fn number(&mut self, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let sign = usize::from(self.rest.first()? == &b'-');
        let digits = self.rest[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (text, rest) = self.rest.split_at(sign + digits);
        let is_usual = digits == 1 || (digits > 1 && text[sign] != b'0');
        if !is_usual || text == b"-0" {
            return None;
        }
        let number = std::str::from_utf8(text).ok()?.parse().ok()?;
        self.rest = rest;
        range.contains(&number).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: &str =
        r#"{"rule":{"id":"r","name":"n"},"history":"0011223344556677","window_ms":60,"terms":"#;
    const REST: &str = r#","time_ms":-5,"event_id":"e","alert_id":"a","source":{"topic":"t","partition":0,"offset":1,"timestamp_ms":-1,"index":0},"event":{"a":[1]},"capped":false,"time_source":"@timestamp"}"#;

    fn observations() -> Observations {
        let mut observations = Observations::new();
        observations.note_opening(OPENING.as_bytes(), *b"\0\x11\x22\x33\x44\x55\x66\x77", 60);
        observations
    }

    fn read(value: &str) -> Option<Sighting> {
        observations().read(value.as_bytes())
    }

    #[test]
    fn what_is_written_as_expected_is_read() {
        let sighting = read(&format!(r#"{OPENING}["a\\b","\"c"]{REST}"#)).unwrap();
        assert_eq!((sighting.time_ms, sighting.window_ms), (-5, 60));
        assert_eq!(sighting.key[..8], *b"\0\x11\x22\x33\x44\x55\x66\x77");
        assert_eq!(sighting.key[8..], Sha256::digest(br#"["a\\b","\"c"]"#)[..16]);
    }

    #[test]
    fn what_is_written_is_read() {
        let parts = Parts {
            opening: OPENING.as_bytes(),
            terms: br#"["a"]"#,
            time_ms: -5,
            event_id: br#""e""#,
            alert_id: "a",
            topic: "t",
            partition: 0,
            offset: 1,
            timestamp_ms: -1,
            event: br#"{"a":[1]}"#,
        };
        let written = write(&parts);
        assert_eq!(written, format!(r#"{OPENING}["a"]{REST}"#).as_bytes());
        assert!(observations().read(&written).is_some());
    }

    #[test]
    fn whatever_else_is_left_to_others() {
        assert!(read(&format!(r#"{OPENING}["a"]{REST}"#)).is_some());
        for terms in [
            "[]",
            r#"["a",]"#,
            r#"["ä"]"#,
            "[\"\u{7f}\"]",
            r#"["\n"]"#,
            r#"["\/"]"#,
            "[1]",
            r#""a""#,
        ] {
            assert_eq!(read(&format!("{OPENING}{terms}{REST}")), None, "{terms}");
        }
        let good = format!(r#"{OPENING}["a"]{REST}"#);
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]), None, "{length}");
        }
        for (text, other) in [
            (r#""time_ms":-5"#, r#""time_ms":-05"#),
            (r#""time_ms":-5"#, r#""time_ms":-0"#),
            (r#""time_ms":-5"#, r#""time_ms":-5.0"#),
            (r#""time_ms":-5"#, r#""time_ms":253402300800000"#),
            (r#""time_ms":-5"#, r#""time_ms":99999999999999999999"#),
            (r#""partition":0"#, r#""partition":-1"#),
            (r#""offset":1"#, r#""offset":4611686018427387905"#),
            (r#""event":{"a":[1]}"#, r#""event":{"a":[1}"#),
            (r#""event":{"a":[1]}"#, r#""event":{"a":1,"a":2}"#),
            (r#""capped":false"#, r#""capped":true"#),
            (r#""event_id":"e""#, r#""event_id":null"#),
            (r#""window_ms":60"#, r#""window_ms":61"#),
            (r#""id":"r""#, r#""id":"q""#),
        ] {
            assert!(good.contains(text));
            assert_eq!(read(&good.replacen(text, other, 1)), None, "{other}");
        }
    }

    #[test]
    fn a_rule_may_begin_in_several_ways_and_the_latest_are_known() {
        let mut observations = observations();
        let version =
            |number: usize| OPENING.replace(r#""name":"n""#, &format!(r#""name":"{number}""#));
        for number in 0..20 {
            observations.note_opening(version(number).as_bytes(), [0; 8], 60);
        }
        let is_known = |number| {
            observations.read(format!(r#"{}["a"]{REST}"#, version(number)).as_bytes()).is_some()
        };
        assert_eq!((0..20).filter(|number| is_known(*number)).count(), MOST_OPENINGS);
        assert!(is_known(19));
    }

    #[test]
    fn what_is_known_is_bounded_and_noted_anew_where_it_was_dropped() {
        let mut observations = observations();
        let long = OPENING.replace(r#""name":"n""#, &format!(r#""name":"{}""#, "n".repeat(5_000)));
        observations.note_opening(long.as_bytes(), [0; 8], 60);
        assert!(!observations.knows(long.as_bytes()));
        let of = |number: usize| {
            let name = "n".repeat(3_000);
            OPENING
                .replace(r#""id":"r","name":"n""#, &format!(r#""id":"{number}","name":"{name}""#))
        };
        for number in 0..3_000 {
            observations.note_opening(of(number).as_bytes(), [0; 8], 60);
            assert!(observations.knows(of(number).as_bytes()));
            assert!(observations.bytes <= MOST_BYTES);
        }
        assert!(!observations.knows(OPENING.as_bytes()));
        observations.note_opening(OPENING.as_bytes(), [0; 8], 60);
        assert!(observations.knows(OPENING.as_bytes()));
        let kept: usize =
            observations.openings.values().flatten().map(|each| each.text.len() + OVERHEAD).sum();
        assert_eq!(kept, observations.bytes);
    }
}
