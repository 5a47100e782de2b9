//! The sinks that append lines to a file or to standard output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use wasm_worker_dispatcher::private_files;

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

/// Appends lines to a file that it can open again. Only the user can read a file that it creates.
pub(crate) struct EventFile {
    path: PathBuf,
    lines: Lines<File>,
}

impl EventFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), lines: Lines::new(open_for_appending(path)?) })
    }
}

impl EventSink for EventFile {
    fn write(&mut self, line: &str) -> Result<(), String> {
        self.lines.write(line)
    }

    fn flush(&mut self) -> Result<(), String> {
        self.lines.flush()
    }

    /// Without a new file, the lines go on to the old one.
    fn reopen(&mut self) -> Result<(), String> {
        let file = open_for_appending(&self.path).map_err(|error| error.to_string())?;
        let flushed = self.lines.flush();
        self.lines = Lines::new(file);
        flushed
    }
}

fn open_for_appending(path: &Path) -> io::Result<File> {
    private_files::creating().append(true).open(path)
}
