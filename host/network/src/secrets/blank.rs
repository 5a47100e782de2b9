//! The search for secrets in a stream that is cut anywhere.
//!
//! Bytes that may be the beginning of a secret are held back until it is clear. All others go on at once, so that a stream of events is
//! not delayed. At most the longest form less one byte is held.

use std::fmt;
use std::sync::Arc;

use wasm_worker_core::secret::Secret;

use super::forms::forms_of;

/// Stands for each byte of a secret. The length stays, because a head may have told it.
const BLANK: u8 = b'*';

/// What is searched for.
#[derive(Default)]
pub(crate) struct Patterns {
    /// The longest first.
    forms: Vec<Vec<u8>>,
    /// The bytes that one of them begins with.
    first: Vec<u8>,
}

impl fmt::Debug for Patterns {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Patterns({})", self.forms.len())
    }
}

impl Patterns {
    /// All forms of these values.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a Secret>) -> Self {
        let mut forms: Vec<Vec<u8>> = values.flat_map(|value| forms_of(&value.0)).collect();
        forms.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        forms.dedup();
        let mut first: Vec<u8> = forms.iter().filter_map(|form| form.first().copied()).collect();
        first.sort_unstable();
        first.dedup();
        Self { forms, first }
    }

    /// What stands at the beginning of these bytes.
    fn look(&self, bytes: &[u8], is_end: bool) -> Found {
        if bytes.first().is_none_or(|byte| self.first.binary_search(byte).is_err()) {
            return Found::Nothing;
        }
        for form in &self.forms {
            if bytes.starts_with(form) {
                return Found::Secret(form.len());
            }
            if !is_end && form.starts_with(bytes) {
                return Found::Beginning;
            }
        }
        Found::Nothing
    }
}

enum Found {
    Nothing,
    /// A secret of this length.
    Secret(usize),
    /// All bytes that there are may be the beginning of one.
    Beginning,
}

/// Replaces secrets in one stream.
#[derive(Debug)]
pub(crate) struct Blanker {
    patterns: Arc<Patterns>,
    held: Vec<u8>,
}

impl Blanker {
    pub(crate) const fn new(patterns: Arc<Patterns>) -> Self {
        Self { patterns, held: Vec::new() }
    }

    /// The next bytes of the stream, as far as they are clear.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.advance(bytes, false)
    }

    /// The rest of the stream.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.advance(Vec::new(), true)
    }

    fn advance(&mut self, bytes: Vec<u8>, is_end: bool) -> Vec<u8> {
        if self.patterns.forms.is_empty() {
            return bytes;
        }
        let mut all = if self.held.is_empty() {
            bytes
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(&bytes);
            held
        };
        let mut at = 0;
        while let Some(rest) = all.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match self.patterns.look(rest, is_end) {
                Found::Nothing => at += 1,
                Found::Secret(length) => {
                    if let Some(secret) = rest.get_mut(..length) {
                        secret.fill(BLANK);
                    }
                    at += length;
                }
                Found::Beginning => {
                    self.held = all.split_off(at);
                    break;
                }
            }
        }
        all
    }
}

/// Replace secrets in bytes that are whole.
pub(crate) fn blank(patterns: &Arc<Patterns>, bytes: &[u8]) -> Vec<u8> {
    Blanker::new(patterns.clone()).advance(bytes.to_vec(), true)
}

/// Replace secrets in a text that is whole. Values and forms are ASCII, so the text stays one.
pub(crate) fn blank_text(patterns: &Arc<Patterns>, text: &str) -> String {
    String::from_utf8(blank(patterns, text.as_bytes())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(values: &[&str]) -> Arc<Patterns> {
        let values: Vec<Secret> = values.iter().map(|value| Secret((*value).into())).collect();
        Arc::new(Patterns::new(values.iter()))
    }

    #[test]
    fn a_secret_is_found_wherever_the_stream_is_cut() {
        let patterns = patterns(&["sk-abcabcabd", "sk-abcabcabd-longer"]);
        let text = b"x sk-abcabcabcabd sk-abcabcabd, sk-abcabcabd-longer; sk-abc";
        let wanted = b"x sk-abcabcabcabd ************, *******************; sk-abc";
        for first in 0..text.len() {
            for second in first..text.len() {
                let mut blanker = Blanker::new(patterns.clone());
                let mut out = blanker.push(text[..first].to_vec());
                out.extend(blanker.push(text[first..second].to_vec()));
                out.extend(blanker.push(text[second..].to_vec()));
                out.extend(blanker.finish());
                assert_eq!(out, wanted, "{first} {second}");
            }
        }
    }

    #[test]
    fn only_what_may_be_a_secret_is_held_back() {
        let mut blanker = Blanker::new(patterns(&["sk-abcdefgh"]));
        assert_eq!(blanker.push(b"data: hello\n\n".to_vec()), b"data: hello\n\n");
        assert_eq!(blanker.push(b"data: sk-ab".to_vec()), b"data: ");
        assert_eq!(blanker.push(b"x".to_vec()), b"sk-abx");
        assert_eq!((blanker.push(b"sk-".to_vec()), blanker.finish()), (Vec::new(), b"sk-".to_vec()));
        assert_eq!(blank_text(&patterns(&["sk-abcdefgh"]), "é sk-abcdefgh é"), "é *********** é");
    }

    proptest::proptest! {
        #[test]
        fn cuts_change_nothing(cuts in proptest::collection::vec(1_usize..9, 0..60), text in "(sk-aab|aab|sk-|b|z){0,40}") {
            let patterns = patterns(&["sk-aabaab", "aabsk-aab"]);
            let (mut blanker, mut out, mut rest) = (Blanker::new(patterns.clone()), Vec::new(), text.as_bytes());
            for cut in cuts {
                let (next, further) = rest.split_at(cut.min(rest.len()));
                out.extend(blanker.push(next.to_vec()));
                rest = further;
            }
            out.extend(blanker.push(rest.to_vec()));
            out.extend(blanker.finish());
            proptest::prop_assert_eq!(out, blank(&patterns, text.as_bytes()));
        }
    }
}
