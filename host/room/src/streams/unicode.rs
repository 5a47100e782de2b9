//! Texts that are cut into chunks, and put together again. Pure.

use super::limits::CHUNK_BYTES_MAX;

/// The end of the next chunk of a content that begins at `at`. A text is cut between characters.
pub(super) fn end_of_chunk(content: &[u8], at: usize, is_text: bool) -> usize {
    let end = at.saturating_add(CHUNK_BYTES_MAX).min(content.len());
    let continues = |at: usize| content.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let mut cut = end;
    while is_text && cut > at && continues(cut) {
        cut -= 1;
    }
    // A content without a boundary is no text, and is cut anywhere.
    if cut > at { cut } else { end }
}

/// The bytes are no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotText;

/// Puts together a text whose chunks may be cut inside a character.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The start of a character, at most 3 bytes.
    start: Vec<u8>,
}

impl Decoder {
    /// The characters that are whole now.
    pub(super) fn decode(&mut self, mut chunk: Vec<u8>) -> Result<String, NotText> {
        if !self.start.is_empty() {
            chunk.splice(..0, self.start.drain(..));
        }
        if let Err(error) = std::str::from_utf8(&chunk) {
            if error.error_len().is_some() {
                return Err(NotText);
            }
            self.start = chunk.split_off(error.valid_up_to());
        }
        String::from_utf8(chunk).map_err(|_| NotText)
    }

    /// Whether the text ends here between characters.
    pub(super) const fn is_whole(&self) -> bool {
        self.start.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks(content: &[u8], is_text: bool) -> Vec<Vec<u8>> {
        let (mut chunks, mut at) = (Vec::new(), 0);
        while at < content.len() {
            let end = end_of_chunk(content, at, is_text);
            chunks.push(content[at..end].to_vec());
            at = end;
        }
        chunks
    }

    #[test]
    fn chunks_are_full_and_cut_between_characters() {
        let text = format!("a{}", "é".repeat(CHUNK_BYTES_MAX));
        let lengths: Vec<usize> = chunks(text.as_bytes(), true).iter().map(Vec::len).collect();
        assert_eq!(lengths, [14_999, 15_000, 2]);
        let lengths: Vec<usize> = chunks(text.as_bytes(), false).iter().map(Vec::len).collect();
        assert_eq!(lengths, [15_000, 15_000, 1]);
        assert!(chunks(b"", true).is_empty());
        assert_eq!(chunks(&[0x80; 15_001], true).len(), 2, "no text, and yet an end");
    }

    #[test]
    fn wrong_bytes_are_no_text() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(vec![b'a', 0xC3]), Ok("a".into()));
        assert!(!decoder.is_whole());
        assert_eq!(decoder.decode(vec![b'a']), Err(NotText));
        assert_eq!(Decoder::default().decode(vec![0xFF]), Err(NotText));
    }

    proptest! {
        #[test]
        fn a_text_comes_back_whatever_the_cuts(text in "\\PC{0,40}", cuts in prop::collection::vec(0_usize..8, 0..60)) {
            let (mut decoder, mut back, mut rest) = (Decoder::default(), String::new(), text.as_bytes());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                back.push_str(&decoder.decode(chunk.to_vec()).unwrap());
                rest = after;
            }
            prop_assert_eq!((back, decoder.is_whole()), (text, true));
        }

        #[test]
        fn each_chunk_of_a_text_is_a_text(text in "(a|é|日|🦀){0,12000}") {
            let chunks = chunks(text.as_bytes(), true);
            prop_assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX && std::str::from_utf8(chunk).is_ok()));
            prop_assert_eq!(chunks.concat(), text.into_bytes());
        }
    }
}
