//! The sink that appends lines to a file or to standard output.

use std::io::{BufWriter, Write};

use super::sink::EventSink;

/// Writes whole lines only, so that several processes may append to one file: the buffer is written when the next line does not
/// fit.
pub(crate) struct Lines<W: Write>(BufWriter<W>);

/// Longer than any line, except those with a very long backtrace.
const BUFFER_BYTES: usize = 64 << 10;

impl<W: Write> Lines<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, out))
    }
}

impl<W: Write + Send + 'static> EventSink for Lines<W> {
    fn write(&mut self, line: &str) -> Result<(), String> {
        let mut whole = String::with_capacity(line.len() + 1);
        whole.push_str(line);
        whole.push('\n');
        self.0.write_all(whole.as_bytes()).map_err(|error| error.to_string())
    }

    fn flush(&mut self) -> Result<(), String> {
        self.0.flush().map_err(|error| error.to_string())
    }
}
