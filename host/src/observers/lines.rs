//! Events as lines of a file, or of standard output.

use std::io::{BufWriter, Write};

use super::sink::Place;

/// Whole lines only: a buffer is written when the next line does not fit, so that several processes may append to one file.
pub(crate) struct Lines<W: Write>(BufWriter<W>);

/// Longer than any line but a very long backtrace's.
const BUFFER_BYTES: usize = 64 << 10;

impl<W: Write> Lines<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, out))
    }
}

impl<W: Write + Send + 'static> Place for Lines<W> {
    fn take(&mut self, line: &str) -> Result<(), String> {
        let mut whole = String::with_capacity(line.len() + 1);
        whole.push_str(line);
        whole.push('\n');
        self.0.write_all(whole.as_bytes()).map_err(|error| error.to_string())
    }

    fn flush(&mut self) -> Result<(), String> {
        self.0.flush().map_err(|error| error.to_string())
    }
}
