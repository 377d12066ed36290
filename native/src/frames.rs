//! Sections that are one complete frame of lz4 or zstd, as clients write them.
//!
//! The decoders accept more than that: several frames; for lz4 no frame at all, an old format, or a
//! frame that is cut off between two blocks; for zstd a window of gigabytes. Some of that has to be
//! refused, and all of it is left to the caller.

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

const ZSTD_HAS_NO_WINDOW: u8 = 0x20; // as large as the content, which fits or does not
const ZSTD_GREATEST_WINDOW: u8 = 17 << 3; // 128 MB, the greatest that stream decoders accept

/// Whether this is one frame of lz4, from its first byte to its last.
pub fn is_lz4(data: &[u8]) -> bool {
    lz4_end(data) == Some(data.len())
}

/// Returns where the lz4 frame at the start of `data` ends; None if it is cut off.
fn lz4_end(data: &[u8]) -> Option<usize> {
    if !data.starts_with(&LZ4_MAGIC) {
        return None;
    }
    let flags = usize::from(*data.get(4)?);
    let (has_dictionary, has_checksum) = (flags & 1, flags >> 2 & 1);
    let (has_size, has_block_checksums) = (flags >> 3 & 1, flags >> 4 & 1);
    let mut at = 7 + 8 * has_size + 4 * has_dictionary;
    loop {
        let size = u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?);
        at += 4;
        if size == 0 {
            return Some(at + 4 * has_checksum);
        }
        at = at.checked_add((size & 0x7FFF_FFFF) as usize + 4 * has_block_checksums)?;
    }
}

/// Whether this is one frame of zstd, from its first byte to its last.
pub fn is_zstd(data: &[u8]) -> bool {
    data.starts_with(&ZSTD_MAGIC)
        && zstd_safe::find_frame_compressed_size(data) == Ok(data.len())
        && (data[4] & ZSTD_HAS_NO_WINDOW != 0 || data[5] <= ZSTD_GREATEST_WINDOW)
}
