//! Recordings: a file of any bytes, and any records behind good checksums.

use std::io::Cursor;
use std::path::Path;

use wasm_worker_sandbox::recording::reader::{Reader, file_of};

/// An even first byte: the rest is a file. An odd one: the rest is records.
pub fn run(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    read(if kind % 2 == 0 { rest.to_vec() } else { file_of(rest) });
}

fn read(file: Vec<u8>) {
    let length = file.len() as u64;
    let Ok(mut reader) = Reader::new(Path::new("f"), Box::new(Cursor::new(file))) else { return };
    let mut last = 0;
    loop {
        match reader.next_view() {
            Err(error) => return assert!(error.to_string().starts_with("`f` at byte "), "{error}"),
            Ok(None) => break,
            Ok(Some(step)) => {
                assert!(step.step > last && step.events.len() <= 256);
                last = step.step;
                serde_json::to_string(&step).unwrap();
            }
        }
    }
    assert!(reader.ending().is_some() && length > 0);
}
