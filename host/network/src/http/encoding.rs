//! The decompression of an answer, in small steps, with a bound on what comes out.
//!
//! Bounds: [`STEP_BYTES`] of input at a time, which deflate cannot turn into more than 1,032 times as much; all output together; and
//! the ratio of output to input, after the first [`FREE_BYTES`].

use std::io::Write;

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use wasm_worker_core::network::event::Failure;

use crate::failure::failure;

/// Input that is decompressed at a time.
pub(crate) const STEP_BYTES: usize = 256;
/// Output that is free of the ratio.
const FREE_BYTES: u64 = 1 << 20;

/// Decompresses one answer.
pub(crate) struct Decoder {
    kind: Kind,
    /// Bytes that went in and came out.
    taken: u64,
    given: u64,
    inflation_max: u64,
    bytes_max: u64,
    shown: String,
}

enum Kind {
    Plain,
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// `deflate` is either of the next two; the first two bytes tell.
    Deflate(Vec<u8>),
    Zlib(ZlibDecoder<Vec<u8>>),
    Raw(DeflateDecoder<Vec<u8>>),
}

impl Decoder {
    /// The decoder for an answer with this `content-encoding`.
    ///
    /// # Errors
    /// `not-supported` for another encoding than those that were asked for.
    pub(crate) fn new(
        encoding: Option<&str>,
        inflation_max: u64,
        bytes_max: u64,
        shown: String,
    ) -> Result<Self, Failure> {
        let kind = match encoding.map(|encoding| encoding.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Kind::Plain,
            Some("gzip" | "x-gzip") => Kind::Gzip(MultiGzDecoder::new(Vec::new())),
            Some("deflate") => Kind::Deflate(Vec::new()),
            Some(other) => {
                let other = wasm_worker_core::text::clip(other);
                return Err(failure(
                    "not-supported",
                    format!("`{shown}` compresses its answer by `{other}`; only `gzip` and `deflate` were asked for"),
                ));
            }
        };
        Ok(Self { kind, taken: 0, given: 0, inflation_max, bytes_max, shown })
    }

    /// Whether the bytes change.
    pub(crate) const fn decodes(&self) -> bool {
        !matches!(self.kind, Kind::Plain)
    }

    /// What these bytes become: at most [`STEP_BYTES`], unless nothing is decompressed.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        self.taken += bytes.len() as u64;
        let out = match &mut self.kind {
            Kind::Plain => Ok(bytes.to_vec()),
            Kind::Gzip(decoder) => feed(decoder, bytes, MultiGzDecoder::get_mut),
            Kind::Zlib(decoder) => feed(decoder, bytes, ZlibDecoder::get_mut),
            Kind::Raw(decoder) => feed(decoder, bytes, DeflateDecoder::get_mut),
            Kind::Deflate(start) => {
                start.extend_from_slice(bytes);
                let &[first, second, ..] = start.as_slice() else { return Ok(Vec::new()) };
                let bytes = std::mem::take(start);
                // The header of zlib: the method deflate, and a checksum of both bytes.
                if first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31) {
                    let mut decoder = ZlibDecoder::new(Vec::new());
                    let out = feed(&mut decoder, &bytes, ZlibDecoder::get_mut);
                    self.kind = Kind::Zlib(decoder);
                    out
                } else {
                    let mut decoder = DeflateDecoder::new(Vec::new());
                    let out = feed(&mut decoder, &bytes, DeflateDecoder::get_mut);
                    self.kind = Kind::Raw(decoder);
                    out
                }
            }
        };
        let out = out.map_err(|error| self.malformed(&error))?;
        self.given += out.len() as u64;
        self.check()?;
        Ok(out)
    }

    /// The rest, at the end of the answer.
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        if self.taken == 0 {
            return Ok(Vec::new());
        }
        let out = match &mut self.kind {
            Kind::Plain | Kind::Deflate(_) => Ok(Vec::new()),
            Kind::Gzip(decoder) => decoder.try_finish().map(|()| std::mem::take(decoder.get_mut())),
            Kind::Zlib(decoder) => decoder.try_finish().map(|()| std::mem::take(decoder.get_mut())),
            Kind::Raw(decoder) => decoder.try_finish().map(|()| std::mem::take(decoder.get_mut())),
        };
        let out = out.map_err(|error| self.malformed(&error))?;
        self.given += out.len() as u64;
        self.check()?;
        Ok(out)
    }

    fn check(&self) -> Result<(), Failure> {
        let (shown, bytes_max) = (&self.shown, self.bytes_max);
        if self.taken.max(self.given) > bytes_max {
            return Err(failure("too-large", format!("the answer of `{shown}` has more than {bytes_max} bytes")));
        }
        if self.given > FREE_BYTES + self.taken.saturating_mul(self.inflation_max) {
            let ratio = self.inflation_max;
            return Err(failure(
                "too-large",
                format!("the answer of `{shown}` is a bomb: it is decompressed to more than {ratio} times its size"),
            ));
        }
        Ok(())
    }

    fn malformed(&self, error: &std::io::Error) -> Failure {
        failure("malformed", format!("the compressed answer of `{}` cannot be read: {error}", self.shown))
    }
}

/// Put bytes through a decoder, and take what comes out now.
fn feed<D: Write>(decoder: &mut D, mut bytes: &[u8], output: fn(&mut D) -> &mut Vec<u8>) -> std::io::Result<Vec<u8>> {
    while !bytes.is_empty() {
        let taken = decoder.write(bytes)?;
        if taken == 0 {
            // What follows the end of the compressed data is none.
            break;
        }
        bytes = bytes.get(taken..).unwrap_or_default();
    }
    decoder.flush()?;
    Ok(std::mem::take(output(decoder)))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn run(encoding: &str, bytes: &[u8], step: usize, limits: (u64, u64)) -> Result<Vec<u8>, Failure> {
        let mut decoder = Decoder::new(Some(encoding), limits.0, limits.1, "https://a.test".into())?;
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            out.extend(decoder.push(piece)?);
        }
        out.extend(decoder.finish()?);
        Ok(out)
    }

    fn compressed(encoding: &str, bytes: &[u8]) -> Vec<u8> {
        let level = Compression::best();
        let mut gzip = GzEncoder::new(Vec::new(), level);
        let mut zlib = ZlibEncoder::new(Vec::new(), level);
        let mut raw = DeflateEncoder::new(Vec::new(), level);
        match encoding {
            "gzip" => gzip.write_all(bytes).and_then(|()| gzip.finish()),
            "zlib" => zlib.write_all(bytes).and_then(|()| zlib.finish()),
            _ => raw.write_all(bytes).and_then(|()| raw.finish()),
        }
        .unwrap()
    }

    const USUAL: (u64, u64) = (100, 8 << 20);

    #[test]
    fn answers_are_decompressed_wherever_they_are_cut() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        for (how, encoding) in [("gzip", "gzip"), ("gzip", "X-GZIP"), ("zlib", "deflate"), ("raw", "deflate")] {
            for step in [1, 3, STEP_BYTES] {
                assert!(run(encoding, &compressed(how, &text), step, USUAL).unwrap() == text, "{how} {step}");
            }
        }
        assert_eq!(run("identity", b"plain", 2, USUAL).unwrap(), b"plain");
        assert_eq!(run("gzip", b"", 1, USUAL).unwrap(), b"", "an answer without a body");
    }

    #[test]
    fn a_flushed_part_comes_out_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: one\n\n").unwrap();
        encoder.flush().unwrap();
        let mut decoder = Decoder::new(Some("gzip"), 100, 1_000, String::new()).unwrap();
        assert_eq!(decoder.push(encoder.get_ref()).unwrap(), b"data: one\n\n");
    }

    #[test]
    fn bombs_and_broken_answers_are_failures() {
        let bomb = compressed("gzip", &vec![0; 6 << 20]);
        let failure = run("gzip", &bomb, STEP_BYTES, USUAL).unwrap_err();
        assert!(failure.code == "too-large" && failure.message.contains("bomb"), "{failure:?}");
        assert!(run("gzip", &bomb, STEP_BYTES, (1_032, 8 << 20)).is_ok());
        assert_eq!(run("gzip", &bomb, STEP_BYTES, (1_032, 1 << 20)).unwrap_err().code, "too-large");
        assert_eq!(run("identity", &[0; 100], 10, (100, 99)).unwrap_err().code, "too-large");
        assert_eq!(run("gzip", b"no gzip at all", STEP_BYTES, USUAL).unwrap_err().code, "malformed");
        let whole = compressed("gzip", b"some text that is long enough");
        assert_eq!(run("gzip", &whole[..whole.len() - 4], STEP_BYTES, USUAL).unwrap_err().code, "malformed");
        for other in ["br", "zstd", "gzip, gzip"] {
            assert_eq!(run(other, b"x", 1, USUAL).unwrap_err().code, "not-supported", "{other}");
        }
    }
    proptest::proptest! {
        #[test]
        fn no_bytes_panic_or_pass_the_bound(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600), step in 1_usize..64) {
            for (encoding, start) in [("gzip", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..]), ("deflate", &[0x78, 0x9c]), ("deflate", &[])] {
                let answer = [start, &bytes].concat();
                let out = run(encoding, &answer, step, (100, 5_000));
                proptest::prop_assert!(out.is_err() || out.is_ok_and(|out| out.len() <= 5_000));
            }
        }
    }
}
