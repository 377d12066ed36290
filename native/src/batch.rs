//! Record batches of Kafka's format 2 (Kafka's documentation, "Record Batch").
//!
//! This handles only simple cases. Whatever is unusual, wrong or cut off is left to the caller,
//! whose slower code knows what to do.

/// Bytes before the records section.
pub const HEADER_BYTES: usize = 61;

pub const PLAIN: i16 = 0;
pub const LZ4: i16 = 3;
pub const ZSTD: i16 = 4;
const CODECS: [i16; 3] = [PLAIN, LZ4, ZSTD];

pub const MAGIC: u8 = 2;
pub const LENGTH_OVERHEAD: usize = 12; // does not count the base offset and the length itself
pub const CHECKED_FROM: usize = 21;
const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const OF_TRANSACTIONS: i16 = 0x30; // transactional, control

/// The header of a batch, and where the batch ends.
pub struct Header {
    pub end: usize,
    pub base_offset: i64,
    pub next_offset: i64,
    pub codec: i16,
    pub is_append_time: bool,
    pub first_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub records: i64,
}

impl Header {
    /// Reads the header of the batch that starts at `start`.
    ///
    /// Returns None if
    ///
    /// * no complete batch of format 2 starts there,
    /// * it belongs to a transaction, or is a control batch,
    /// * its compression is none of `CODECS`,
    /// * its checksum is wrong, which is checked if `check_crc` is set.
    pub fn read(data: &[u8], start: usize, check_crc: bool) -> Option<Header> {
        let head = data.get(start..start.checked_add(HEADER_BYTES)?)?;
        let length = usize::try_from(i32_at(head, 8)).ok()?;
        let end = start.checked_add(LENGTH_OVERHEAD)?.checked_add(length)?;
        let attributes = i16_at(head, 21);
        let codec = attributes & CODEC_MASK;
        if head[16] != MAGIC || attributes & OF_TRANSACTIONS != 0 || !CODECS.contains(&codec) {
            return None;
        }
        if end < start + HEADER_BYTES || end > data.len() {
            return None;
        }
        if check_crc && crc32c::crc32c(&data[start + CHECKED_FROM..end]) != i32_at(head, 17) as u32
        {
            return None;
        }
        let base_offset = i64_at(head, 0);
        Some(Header {
            end,
            base_offset,
            next_offset: base_offset.checked_add(i64::from(i32_at(head, 23)) + 1)?,
            codec,
            is_append_time: attributes & LOG_APPEND_TIME != 0,
            first_timestamp_ms: i64_at(head, 27),
            max_timestamp_ms: i64_at(head, 35),
            records: i64::from(i32_at(head, 57)).max(0),
        })
    }
}

fn i16_at(head: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([head[at], head[at + 1]])
}

fn i32_at(head: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn i64_at(head: &[u8], at: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    i64::from_be_bytes(bytes)
}
