//! A recording in memory, of which only the newest part is kept. It becomes a file if the job does not end well.
//!
//! The first chunk, with the head and the start of the job, is always kept. Where later chunks are dropped the numbers of the
//! chunks have a gap, so the file says by itself that it cannot be replayed.
//!
//! Bounds: [`RING_BYTES_MAX`] bytes of one job, [`ALL_BYTES_MAX`] of all jobs of the process together, besides one chunk of each.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::format::{CHUNK_BYTES, Nonce, RECORD_BYTES_MAX, pack, prefix};

/// Most packed bytes of one job.
pub(crate) const RING_BYTES_MAX: usize = 1 << 20;
/// Most packed bytes of all jobs.
const ALL_BYTES_MAX: usize = 256 << 20;

/// Packed bytes of all rings.
static ALL_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The newest records of one job.
pub(crate) struct Ring {
    nonce: Nonce,
    bytes_max: usize,
    /// The chunk of the head.
    first: Vec<u8>,
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of these chunks.
    bytes: usize,
    /// The number of the next chunk.
    next: u32,
    /// Records of the chunk that is not full.
    open: Vec<u8>,
}

impl Ring {
    /// A ring that begins with these records.
    pub(crate) fn new(nonce: Nonce, first: &[u8], bytes_max: usize) -> Self {
        let first = pack(&nonce, 0, first);
        let bytes_max = bytes_max.min(RING_BYTES_MAX).saturating_sub(first.len());
        Self { nonce, bytes_max, first, chunks: VecDeque::new(), bytes: 0, next: 1, open: Vec::new() }
    }

    /// Add one record.
    pub(crate) fn append(&mut self, record: &[u8]) {
        if !self.open.is_empty() && self.open.len() + record.len() > CHUNK_BYTES {
            self.seal();
        }
        self.open.extend_from_slice(record);
    }

    /// Add the end of the job to the chunk of the last step: alone in the newest chunk, it could be all that is kept.
    pub(crate) fn append_end(&mut self, record: &[u8]) {
        if self.open.len() + record.len() <= RECORD_BYTES_MAX + CHUNK_BYTES {
            self.open.extend_from_slice(record);
        } else {
            self.append(record);
        }
    }

    /// Everything as a file.
    pub(crate) fn into_file(mut self) -> Vec<u8> {
        self.seal();
        let mut file = prefix(&self.nonce);
        file.extend_from_slice(&self.first);
        self.chunks.iter().for_each(|chunk| file.extend_from_slice(chunk));
        file
    }

    /// Pack the open chunk, and drop the oldest ones beyond the bound.
    fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let chunk = pack(&self.nonce, self.next, &self.open);
        self.open.clear();
        self.next = self.next.saturating_add(1);
        self.bytes += chunk.len();
        ALL_BYTES.fetch_add(chunk.len(), Ordering::Relaxed);
        self.chunks.push_back(chunk);
        while self.chunks.len() > 1 && self.is_too_large() {
            self.drop_oldest();
        }
    }

    fn is_too_large(&self) -> bool {
        self.bytes > self.bytes_max || ALL_BYTES.load(Ordering::Relaxed) > ALL_BYTES_MAX
    }

    fn drop_oldest(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.bytes -= chunk.len();
            ALL_BYTES.fetch_sub(chunk.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        ALL_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::{example, written};
    use super::*;

    #[test]
    fn the_newest_chunks_are_kept_and_their_memory_is_given_back() {
        let mut ring = Ring::new([1; 16], &written(&example(0)), 3_000);
        (1..2_000).for_each(|number| ring.append(&written(&example(number))));
        assert!(ring.bytes <= 3_000 && ring.next > 5 && ring.chunks.len() < ring.next as usize - 1);
        assert!(ALL_BYTES.load(Ordering::Relaxed) >= ring.bytes);
        let file = ring.into_file();
        assert!(file.len() < 6_000, "{}", file.len());
    }

    #[test]
    fn end_is_in_the_chunk_of_the_last_step() {
        // A step may be larger than a chunk.
        let step = vec![7; 2 * CHUNK_BYTES];
        let mut ring = Ring::new([1; 16], &[], 0);
        ring.append(&step);
        ring.append(&step);
        ring.append_end(&[8]);
        let last = [&step[..], &[8]].concat();
        let kept = [prefix(&[1; 16]), pack(&[1; 16], 0, &[]), pack(&[1; 16], 2, &last)];
        assert_eq!(ring.into_file(), kept.concat());
    }
}
