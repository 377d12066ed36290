//! One record of a decompressed records section.

use std::ops::Range;

use crate::batch::Header;

/// A header of a record: its name, and its value if it has one.
pub type RecordHeader = (Range<usize>, Option<Range<usize>>);

/// A record; keys, values and headers are ranges in the section.
pub struct Record {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Range<usize>>,
    pub value: Option<Range<usize>>,
    pub headers: Vec<RecordHeader>,
}

/// Returns where the body of the record at `start` begins, and where the record ends.
///
/// None if its length is wrong.
pub fn bounds(section: &[u8], start: usize) -> Option<(usize, usize)> {
    let mut fields = Fields { data: section, at: start };
    let length = usize::try_from(fields.number()?).ok()?;
    let end = fields.at.checked_add(length)?;
    (length > 0 && end <= section.len()).then_some((fields.at, end))
}

impl Record {
    /// Reads the record whose body is at `body..end`; None if its own lengths do not add up, or the
    /// name of a header is not UTF-8.
    pub fn read(section: &[u8], body: usize, end: usize, header: &Header) -> Option<Record> {
        let mut fields = Fields { data: &section[..end], at: body };
        let attributes = fields.take(1)?; // unused
        if section[attributes.start] >= 0x80 {
            return None; // aiokafka takes it for the start of a longer number
        }
        let timestamp = header.first_timestamp_ms.checked_add(fields.number()?)?;
        let offset = header.base_offset.checked_add(fields.number()?)?;
        let key = fields.sized()?;
        let value = fields.sized()?;
        let count = fields.number()?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = fields.sized()??;
            std::str::from_utf8(&section[name.clone()]).ok()?;
            headers.push((name, fields.sized()?));
        }
        (count >= 0 && fields.at == end).then_some(Record {
            offset,
            timestamp_ms: if header.is_append_time { header.max_timestamp_ms } else { timestamp },
            key,
            value,
            headers,
        })
    }
}

struct Fields<'a> {
    data: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take(&mut self, size: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(size)?;
        if end > self.data.len() {
            return None;
        }
        let taken = self.at..end;
        self.at = end;
        Some(taken)
    }

    /// Reads an integer of variable length, in zigzag form.
    fn number(&mut self) -> Option<i64> {
        let mut value: u64 = 0;
        let mut shift = 0;
        loop {
            let byte = *self.data.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
            shift += 7;
            if shift > 28 {
                return None; // more than 32 bits: unusual, and left to the caller
            }
        }
    }

    /// Reads bytes that follow their length; a negative length stands for none.
    fn sized(&mut self) -> Option<Option<Range<usize>>> {
        match self.number()? {
            size if size < 0 => Some(None),
            size => Some(Some(self.take(size as usize)?)),
        }
    }
}
