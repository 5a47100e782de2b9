//! Random ids, as LiveKit's servers make them. Pure: the source of the randomness is an argument.

use rand::RngExt;
use rand::rngs::StdRng;

/// The characters of an id, without those that look alike, as in LiveKit's ids.
const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// The number of random characters of an id.
const CHARS: usize = 12;

/// A new id with this prefix.
pub(crate) fn new_id(prefix: &str, rng: &mut StdRng) -> String {
    let mut id = String::with_capacity(prefix.len() + CHARS);
    id.push_str(prefix);
    id.extend((0..CHARS).filter_map(|_| {
        let position = rng.random_range(0..ALPHABET.len());
        ALPHABET.get(position).map(|byte| char::from(*byte))
    }));
    id
}
