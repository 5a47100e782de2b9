//! The chunks of a recording: compressed, numbered and checked. Pure.
//!
//! ```text
//! file    magic (8 bytes), version (u16), nonce (16 bytes), then chunks
//! chunk   number (u32), packed bytes (u32), raw bytes (u32), check of these (8 bytes), check of the packed bytes (16 bytes), packed bytes
//! ```
//!
//! All numbers are little-endian. The checks are the first bytes of BLAKE3 over the nonce and what they check, so that a chunk of
//! another file is not taken for one of this file. A chunk is packed by LZ4, or is as it was where it would not become smaller.

/// The first bytes of every recording.
pub(crate) const MAGIC: [u8; 8] = *b"\x89WWREC\r\n";
/// The version of the format that this program writes and reads.
pub(crate) const VERSION: u16 = 1;
/// Bytes before the first chunk.
pub(crate) const PREFIX_BYTES: usize = MAGIC.len() + size_of::<u16>() + size_of::<Nonce>();
/// Bytes before the packed bytes of a chunk.
pub(crate) const HEADER_BYTES: usize = 3 * size_of::<u32>() + HEADER_CHECK_BYTES + size_of::<Check>();
/// Raw bytes after which a chunk is full. Less would compress worse; more would lose more of a file that is cut short.
pub(crate) const CHUNK_BYTES: usize = 8 << 10;
/// Largest record, and so the largest chunk: a step carries up to 4 MiB of calls and may be given one large event.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;

const HEADER_CHECK_BYTES: usize = 8;

/// Random bytes that tell the chunks of one file from those of another.
pub(crate) type Nonce = [u8; 16];
type Check = [u8; 16];

/// The bytes before the first chunk.
pub(crate) fn prefix(nonce: &Nonce) -> Vec<u8> {
    [MAGIC.as_slice(), &VERSION.to_le_bytes(), nonce].concat()
}

/// The facts of a chunk, before its packed bytes.
pub(crate) struct Header {
    /// The number of the chunk, from 0.
    pub(crate) number: u32,
    /// Packed bytes.
    pub(crate) packed: usize,
    raw: usize,
    check: Check,
}

/// One chunk of these raw bytes, of which there are at most [`RECORD_BYTES_MAX`].
pub(crate) fn pack(nonce: &Nonce, number: u32, raw: &[u8]) -> Vec<u8> {
    let compressed = lz4_flex::block::compress(raw);
    let packed = if compressed.len() < raw.len() { compressed.as_slice() } else { raw };
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut chunk = Vec::with_capacity(HEADER_BYTES + packed.len());
    chunk.extend_from_slice(&number.to_le_bytes());
    chunk.extend_from_slice(&length(packed));
    chunk.extend_from_slice(&length(raw));
    let check = header_check(nonce, &chunk);
    chunk.extend_from_slice(&check);
    chunk.extend_from_slice(&body_check(nonce, number, packed));
    chunk.extend_from_slice(packed);
    chunk
}

/// Read a header. `None` where its check is wrong or its sizes are none that a writer writes.
pub(crate) fn header(nonce: &Nonce, bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
    let (facts, rest) = bytes.split_first_chunk::<12>()?;
    let (header, body) = rest.split_first_chunk::<HEADER_CHECK_BYTES>()?;
    if header_check(nonce, facts) != *header {
        return None;
    }
    let mut numbers = facts.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let (number, packed, raw) = (numbers.next()?, numbers.next()? as usize, numbers.next()? as usize);
    let fits = packed <= raw && raw <= RECORD_BYTES_MAX + CHUNK_BYTES && raw > 0;
    fits.then_some(Header { number, packed, raw, check: body.try_into().ok()? })
}

/// The raw bytes of a chunk. `None` where its check is wrong.
pub(crate) fn unpack(nonce: &Nonce, header: &Header, packed: &[u8]) -> Option<Vec<u8>> {
    if body_check(nonce, header.number, packed) != header.check {
        return None;
    }
    if packed.len() == header.raw {
        return Some(packed.to_vec());
    }
    lz4_flex::block::decompress(packed, header.raw).ok().filter(|raw| raw.len() == header.raw)
}

fn header_check(nonce: &Nonce, facts: &[u8]) -> [u8; HEADER_CHECK_BYTES] {
    first(blake3::Hasher::new().update(nonce).update(facts))
}

fn body_check(nonce: &Nonce, number: u32, packed: &[u8]) -> Check {
    first(blake3::Hasher::new().update(nonce).update(&number.to_le_bytes()).update(packed))
}

fn first<const N: usize>(hasher: &blake3::Hasher) -> [u8; N] {
    let mut bytes = [0; N];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: Nonce = [7; 16];

    fn read(chunk: &[u8]) -> Option<Vec<u8>> {
        let (head, packed) = chunk.split_first_chunk::<HEADER_BYTES>()?;
        let header = header(&NONCE, head)?;
        unpack(&NONCE, &header, packed.get(..header.packed)?)
    }

    proptest! {
        #[test]
        fn a_chunk_is_read_back_and_any_change_is_noticed(
            raw in prop::collection::vec(0_u8..4, 1..3_000), at: prop::sample::Index, with in 1_u8..,
        ) {
            let mut chunk = pack(&NONCE, 3, &raw);
            prop_assert_eq!(read(&chunk), Some(raw));
            *at.get_mut(&mut chunk) ^= with;
            prop_assert_eq!(read(&chunk), None);
        }

        #[test]
        fn any_bytes_are_a_chunk_or_none(bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES..200)) {
            prop_assert_eq!(read(&bytes), None);
        }
    }

    #[test]
    fn a_chunk_belongs_to_its_file_and_its_size_is_bounded() {
        let chunk = pack(&NONCE, 0, b"abc");
        let head = chunk.first_chunk::<HEADER_BYTES>().unwrap();
        assert!(header(&NONCE, head).is_some() && header(&[8; 16], head).is_none());
        let huge = [0_u32, 5, u32::MAX].map(u32::to_le_bytes).concat();
        let check = header_check(&NONCE, &huge);
        let bytes = [huge, check.to_vec(), vec![0; 16]].concat();
        assert!(header(&NONCE, bytes.first_chunk().unwrap()).is_none());
    }
}
