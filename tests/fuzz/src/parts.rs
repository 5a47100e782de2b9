//! Inputs of several parts. Lines of two dashes separate them, so that a change of one part leaves the others as they are.

const SEPARATOR: &[u8] = b"\n--\n";

/// The parts of an input.
pub(crate) fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let part = rest?;
        let at = part.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        rest = at.map(|at| &part[at + SEPARATOR.len()..]);
        Some(at.map_or(part, |at| &part[..at]))
    })
}

/// A copy in which each placeholder has its text.
pub(crate) fn filled(bytes: &[u8], texts: &[(&str, &str)]) -> Vec<u8> {
    let mut filled = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(byte) = rest.first() {
        let (skip, text) = match texts.iter().find(|(name, _)| rest.starts_with(name.as_bytes())) {
            Some((name, text)) => (name.len(), text.as_bytes()),
            None => (1, std::slice::from_ref(byte)),
        };
        filled.extend_from_slice(text);
        rest = &rest[skip..];
    }
    filled
}
