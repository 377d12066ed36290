//! The row of a tuple, as `pipeline/engine/first_seen_rows.py` defines it: a MessagePack array.
//!
//! Only rows of this version are read. What comes before the numbers is kept as it is written.

/// `ROW_FORMAT` in `first_seen_rows.py`.
pub const FORMAT: i64 = 1;

const FIELDS: u8 = 0x9a; // an array of ten
const NIL: u8 = 0xc0;

/// Rows with more stamps are left to Python.
const MOST_STAMPS: u64 = 65_535;

/// A row, without the names of its rule and its terms.
#[derive(Debug, PartialEq)]
pub struct Row<'r> {
    /// What it begins with, up to the numbers.
    pub opening: &'r [u8],
    pub first_ms: i64,
    pub last_ms: i64,
    pub count: i64,
    pub offset: i64,
    /// The offsets of sightings judged new, each with when the tuple was last seen before.
    pub stamps: Vec<(i64, Option<i64>)>,
    pub window_ms: i64,
    pub behind_ms: i64,
}

impl<'r> Row<'r> {
    /// Reads a row; None if it is not a row of this version.
    pub fn read(bytes: &'r [u8]) -> Option<Row<'r>> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.byte()? != FIELDS || reader.number()? != FORMAT {
            return None;
        }
        reader.text()?;
        for _ in 0..reader.length()? {
            reader.scalar()?;
        }
        let opening = &bytes[..reader.at];
        let [first_ms, last_ms, count, offset] =
            [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
        let mut stamps = Vec::new();
        let stamps_left = reader.length()?;
        if stamps_left > MOST_STAMPS {
            return None;
        }
        for _ in 0..stamps_left {
            if reader.length()? != 2 {
                return None;
            }
            stamps.push((reader.number()?, reader.optional()?));
        }
        let (window_ms, behind_ms) = (reader.number()?, reader.number()?);
        let row = Row { opening, first_ms, last_ms, count, offset, stamps, window_ms, behind_ms };
        (reader.at == bytes.len()).then_some(row)
    }

    pub fn write(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.opening.len() + 64 + 20 * self.stamps.len());
        bytes.extend_from_slice(self.opening);
        for number in [self.first_ms, self.last_ms, self.count, self.offset] {
            write_number(&mut bytes, number);
        }
        match self.stamps.len() {
            length @ 0..=15 => bytes.push(0x90 | length as u8),
            length => {
                bytes.push(0xdc);
                bytes.extend_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
            }
        }
        for (offset, previous_ms) in &self.stamps {
            bytes.push(0x92);
            write_number(&mut bytes, *offset);
            match previous_ms {
                Some(previous_ms) => write_number(&mut bytes, *previous_ms),
                None => bytes.push(NIL),
            }
        }
        write_number(&mut bytes, self.window_ms);
        write_number(&mut bytes, self.behind_ms);
        Some(bytes)
    }
}

struct Reader<'r> {
    bytes: &'r [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Returns an unsigned number of `size` bytes.
    fn unsigned(&mut self, size: usize) -> Option<u64> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(size)?)?;
        self.at += size;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn skip(&mut self, size: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(size).ok()?)?;
        self.at = end;
        (end <= self.bytes.len()).then_some(())
    }

    /// Reads a number that is written in the shortest way.
    fn number(&mut self) -> Option<i64> {
        let start = self.at;
        let number = self.any_number()?;
        (self.at - start == length_of(number)).then_some(number)
    }

    fn any_number(&mut self) -> Option<i64> {
        Some(match self.byte()? {
            small @ 0..=0x7f => i64::from(small),
            small @ 0xe0..=0xff => i64::from(small as i8),
            0xcc => self.unsigned(1)? as i64,
            0xcd => self.unsigned(2)? as i64,
            0xce => self.unsigned(4)? as i64,
            0xcf => i64::try_from(self.unsigned(8)?).ok()?,
            0xd0 => i64::from(self.unsigned(1)? as i8),
            0xd1 => i64::from(self.unsigned(2)? as i16),
            0xd2 => i64::from(self.unsigned(4)? as i32),
            0xd3 => self.unsigned(8)? as i64,
            _ => return None,
        })
    }

    fn optional(&mut self) -> Option<Option<i64>> {
        if self.bytes.get(self.at) == Some(&NIL) {
            self.at += 1;
            return Some(None);
        }
        self.number().map(Some)
    }

    /// Returns the length of an array.
    fn length(&mut self) -> Option<u64> {
        match self.byte()? {
            short @ 0x90..=0x9f => Some(u64::from(short & 0x0f)),
            0xdc => self.unsigned(2),
            0xdd => self.unsigned(4),
            _ => None,
        }
    }

    /// Skips a text whose length is written in the shortest way.
    fn text(&mut self) -> Option<()> {
        let (size, least) = match self.byte()? {
            short @ 0xa0..=0xbf => (u64::from(short & 0x1f), 0),
            0xd9 => (self.unsigned(1)?, 0x20),
            0xda => (self.unsigned(2)?, 0x100),
            0xdb => (self.unsigned(4)?, 0x1_0000),
            _ => return None,
        };
        let start = self.at;
        self.skip(size)?;
        std::str::from_utf8(&self.bytes[start..self.at]).ok()?;
        (size >= least).then_some(())
    }

    /// Skips a term: a text, a number or a boolean.
    fn scalar(&mut self) -> Option<()> {
        match *self.bytes.get(self.at)? {
            0xa0..=0xbf | 0xd9..=0xdb => self.text(),
            0xc2 | 0xc3 => self.skip(1),
            0xcb => self.skip(9),
            0xcf => {
                self.at += 1;
                (self.unsigned(8)? > u64::from(u32::MAX)).then_some(())
            }
            _ => self.number().map(|_| ()),
        }
    }
}

/// Returns how a number is written: its first byte, if that is not the number itself, and how many
/// bytes follow.
fn kind_of(number: i64) -> (Option<u8>, usize) {
    match number {
        -0x20..=0x7f => (None, 1),
        0x80..=0xff => (Some(0xcc), 1),
        0x100..=0xffff => (Some(0xcd), 2),
        0x1_0000..=0xffff_ffff => (Some(0xce), 4),
        0x1_0000_0000.. => (Some(0xcf), 8),
        -0x80..=-0x21 => (Some(0xd0), 1),
        -0x8000..=-0x81 => (Some(0xd1), 2),
        -0x8000_0000..=-0x8001 => (Some(0xd2), 4),
        _ => (Some(0xd3), 8),
    }
}

fn length_of(number: i64) -> usize {
    let (kind, size) = kind_of(number);
    size + usize::from(kind.is_some())
}

fn write_number(bytes: &mut Vec<u8>, number: i64) {
    let (kind, size) = kind_of(number);
    bytes.extend(kind);
    bytes.extend_from_slice(&number.to_be_bytes()[8 - size..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(opening: &[u8], number: i64, stamps: Vec<(i64, Option<i64>)>) -> Row<'_> {
        Row {
            opening,
            first_ms: number,
            last_ms: number.saturating_sub(1),
            count: 1,
            offset: number.saturating_add(1),
            stamps,
            window_ms: 1_209_600_000,
            behind_ms: 0,
        }
    }

    const OPENING: &[u8] = b"\x9a\x01\xa1r\x94\xa1t\xc3\x7f\xcb\x3f\xf8\0\0\0\0\0\0";

    #[test]
    fn what_was_written_is_read() {
        let edges = (0..64).flat_map(|power| [(1i64 << power).wrapping_sub(1), 1i64 << power]);
        for number in edges.flat_map(|edge| [edge, edge.wrapping_neg()]) {
            let stamps = vec![(number, None), (1, Some(number))];
            let row = row(OPENING, number, stamps);
            let bytes = row.write().unwrap();
            assert_eq!(Row::read(&bytes), Some(row), "{number}");
        }
        let row = row(OPENING, 1, vec![(5, None); 20]);
        assert_eq!(Row::read(&row.write().unwrap()), Some(row));
    }

    #[test]
    fn what_is_no_row_is_left_to_others() {
        let good = row(OPENING, 300, vec![(1, None)]).write().unwrap();
        for length in 0..good.len() {
            assert_eq!(Row::read(&good[..length]), None);
        }
        for (place, byte) in [(0, 0x99), (1, 2), (2, 0xc0), (4, 0xc0), (5, 0xc1)] {
            let mut bad = good.clone();
            bad[place] = byte;
            assert_eq!(Row::read(&bad), None, "{place}");
        }
        assert_eq!(Row::read(&[&good[..], b"\0"].concat()), None);
        let rest = &good[OPENING.len()..];
        for opening in [
            &b"\x9a\xcc\x01\xa1r\x90"[..],
            b"\x9a\x01\xd9\x01r\x90",
            b"\x9a\x01\xa1\xff\x90",
            b"\x9a\x01\xa1r\x91\xa1\xff",
            b"\x9a\x01\xa1r\x91\xd3\0\0\0\0\0\0\0\x05",
            b"\x9a\x01\xa1r\x91\xcf\0\0\0\0\xff\xff\xff\xff",
        ] {
            assert_eq!(Row::read(&[opening, rest].concat()), None, "{opening:?}");
        }
        let large = b"\x9a\x01\xa1r\x91\xcf\0\0\0\x01\0\0\0\0";
        assert!(Row::read(&[large, rest].concat()).is_some());
    }
}
