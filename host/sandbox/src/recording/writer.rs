//! The thread that writes recordings: it packs what the jobs have recorded, and appends it to their files.
//!
//! A job never waits for the disk. Records gather for at most [`GATHER`], so a process that dies loses no more than that.
//!
//! Bounds: each job is queued once; [`PENDING_MAX`] bytes of a job wait, then its recording ends early; a file has
//! `record-limit` bytes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::EXTENSION;
use super::codec::{END, Encoder, START, split_first};
use super::format::{CHUNK_BYTES, HEADER_BYTES, Nonce, PREFIX_BYTES, RECORD_BYTES_MAX, pack, prefix};
use super::record::End;

/// Longest time for which records gather before they are written.
const GATHER: Duration = Duration::from_millis(200);
/// Bytes of a job that are written at once.
const URGENT: usize = 256 << 10;
/// Most bytes of a job that wait for the disk.
pub(crate) const PENDING_MAX: usize = 2 * RECORD_BYTES_MAX;
/// Longest file name without the extension, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// Most recordings of the same job in one directory.
const SAME_NAME_MAX: u32 = 1_000;
/// Bytes that are kept for the words about a recording that ends early.
const CUT_BYTES: usize = 512;

/// The thread, and the jobs that have records for it.
pub(crate) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    added: Condvar,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each changes by itself")]
struct Queue {
    streams: Vec<Arc<Stream>>,
    /// Whether something is to be written at once.
    urgent: bool,
    /// Whether nothing more comes.
    ended: bool,
}

impl Writer {
    /// Start the thread, and make the directory.
    pub(crate) fn start(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let shared = Arc::<Shared>::default();
        let for_thread = shared.clone();
        thread::Builder::new().name("recordings".into()).spawn(move || for_thread.run())?;
        Ok(Self { shared })
    }

    /// The file of a job. Nothing is created before there is something to write.
    pub(crate) fn stream(&self, dir: &Path, job: &str, nonce: Nonce, bytes_max: usize) -> Arc<Stream> {
        Arc::new(Stream {
            dir: dir.to_owned(),
            name: file_name(job),
            bytes_max,
            pending: Mutex::default(),
            output: Mutex::new(Output { nonce, file: None, chunks: 0, written: PREFIX_BYTES, is_over: false }),
        })
    }

    /// Append one record. False once the recording has ended early.
    pub(crate) fn append(&self, stream: &Arc<Stream>, record: &[u8]) -> bool {
        let mut pending = lock(&stream.pending);
        if pending.is_over {
            return false;
        }
        if pending.raw.len() + record.len() > PENDING_MAX {
            pending.is_over = true;
            pending.cut = Some("the disk was too slow");
        } else {
            pending.raw.extend_from_slice(record);
        }
        let urgent = pending.raw.len() >= URGENT;
        let first = !std::mem::replace(&mut pending.is_queued, true);
        let goes_on = !pending.is_over;
        drop(pending);
        self.shared.add(first.then(|| stream.clone()), urgent);
        goes_on
    }

    /// Write a whole recording. The receiver learns that it is there.
    pub(crate) fn whole(&self, dir: &Path, job: &str, file: Vec<u8>) -> oneshot::Receiver<()> {
        let stream = self.stream(dir, job, Nonce::default(), usize::MAX);
        lock(&stream.pending).whole = Some(file);
        self.close(&stream)
    }

    /// End a recording. The receiver learns that the file is whole.
    pub(crate) fn close(&self, stream: &Arc<Stream>) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        let mut pending = lock(&stream.pending);
        (pending.is_over, pending.done) = (true, Some(done));
        let first = !std::mem::replace(&mut pending.is_queued, true);
        drop(pending);
        self.shared.add(first.then(|| stream.clone()), true);
        is_done
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.shared.queue).ended = true;
        self.shared.added.notify_one();
    }
}

impl Shared {
    fn add(&self, stream: Option<Arc<Stream>>, urgent: bool) {
        if stream.is_none() && !urgent {
            return;
        }
        let mut queue = lock(&self.queue);
        let wakes = queue.streams.is_empty() || (urgent && !queue.urgent);
        queue.streams.extend(stream);
        queue.urgent |= urgent;
        drop(queue);
        if wakes {
            self.added.notify_one();
        }
    }

    fn run(&self) {
        while let Some(streams) = self.take() {
            streams.iter().for_each(|stream| stream.write());
        }
    }

    /// Wait for records, and let more of them gather. `None` once nothing more comes.
    fn take(&self) -> Option<Vec<Arc<Stream>>> {
        let mut queue = lock(&self.queue);
        while queue.streams.is_empty() {
            if queue.ended {
                return None;
            }
            queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let waits = |queue: &mut Queue| !queue.urgent && !queue.ended;
        let waited = self.added.wait_timeout_while(queue, GATHER, waits);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        queue.urgent = false;
        Some(std::mem::take(&mut queue.streams))
    }
}

/// The recording of one job on its way to its file.
pub(crate) struct Stream {
    dir: PathBuf,
    /// The name of the file, without its extension.
    name: String,
    bytes_max: usize,
    pending: Mutex<Pending>,
    output: Mutex<Output>,
}

/// What waits to be written.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each changes by itself")]
struct Pending {
    /// Whole records.
    raw: Vec<u8>,
    /// A whole file, instead of records.
    whole: Option<Vec<u8>>,
    is_queued: bool,
    /// Whether nothing more is taken.
    is_over: bool,
    /// Why the recording ends early.
    cut: Option<&'static str>,
    done: Option<oneshot::Sender<()>>,
}

/// The file.
struct Output {
    nonce: Nonce,
    file: Option<File>,
    chunks: u32,
    /// Bytes of the file.
    written: usize,
    /// Whether the recording has ended early.
    is_over: bool,
}

impl Stream {
    /// Write what waits.
    fn write(&self) {
        let mut pending = lock(&self.pending);
        let raw = std::mem::take(&mut pending.raw);
        let (whole, cut, done) = (pending.whole.take(), pending.cut.take(), pending.done.take());
        pending.is_queued = false;
        drop(pending);
        let mut output = lock(&self.output);
        let written = match whole {
            Some(file) => create(&self.dir, &self.name).and_then(|mut to| to.write_all(&file)),
            None => self.write_to(&mut output, &raw, cut),
        };
        if let Err(error) = written {
            output.is_over = true;
            lock(&self.pending).is_over = true;
            let name = self.dir.join(&self.name).with_extension(EXTENSION);
            tracing::warn!(target: "host", file = %name.display(), %error, "a recording cannot be written, and ends early");
        }
        if let Some(done) = done {
            output.file = None;
            // Nobody may wait for it any more.
            done.send(()).ok();
        }
    }

    fn write_to(&self, output: &mut Output, raw: &[u8], cut: Option<&'static str>) -> io::Result<()> {
        let mut cut = cut;
        let mut file = match output.file.take() {
            _ if output.is_over => return Ok(()),
            Some(file) => file,
            None => {
                let mut file = create(&self.dir, &self.name)?;
                file.write_all(&prefix(&output.nonce))?;
                file
            }
        };
        for part in chunks(raw) {
            let chunk = pack(&output.nonce, output.chunks, part);
            if output.written + chunk.len() + HEADER_BYTES + CUT_BYTES > self.bytes_max {
                cut = cut.or(Some("it reached `record-limit`"));
                break;
            }
            file.write_all(&chunk)?;
            output.written += chunk.len();
            output.chunks += 1;
        }
        if let Some(why) = cut {
            output.is_over = true;
            lock(&self.pending).is_over = true;
            let mut last = Vec::new();
            Encoder::default().end(&mut last, &End { verdict: None, usage: None, cut: Some(why.into()) });
            file.write_all(&pack(&output.nonce, output.chunks, &last))?;
        }
        output.file = Some(file);
        Ok(())
    }
}

/// Records in parts of about [`CHUNK_BYTES`], each of whole records. What begins and what ends a recording is a part of its own,
/// so that the steps beside it are not lost with it.
pub(crate) fn chunks(records: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut length = 0;
        while length < CHUNK_BYTES {
            let Some((record, _)) = split_first(rest.get(length..).unwrap_or_default()) else { break };
            if length > 0 && (length + record.len() > CHUNK_BYTES || record.first() == Some(&END)) {
                break;
            }
            length += record.len();
            if record.first() == Some(&START) {
                break;
            }
        }
        let (part, after) = rest.split_at_checked(length)?;
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// A new file for this job, which only this user can read.
fn create(dir: &Path, name: &str) -> io::Result<File> {
    for number in 1..SAME_NAME_MAX {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        let path = dir.join(name).with_extension(EXTENSION);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened,
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there are {SAME_NAME_MAX} recordings of this name")))
}

/// The name of a file for a job, whose id another program has chosen.
fn file_name(job: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let name: String = job.chars().take(NAME_BYTES_MAX).map(plain).collect();
    if name.is_empty() { "job".into() } else { name }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::codec::tests::{example, written};
    use super::*;

    #[test]
    fn a_file_is_private_and_named_after_its_job() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(file_name("../AJ_1 é"), "___AJ_1__");
        let _first = create(dir.path(), "j").unwrap();
        let second = create(dir.path(), "j").unwrap();
        assert_eq!(second.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(dir.path().join("j-2.recording").exists());
    }

    #[test]
    fn a_recording_that_reaches_its_limit_says_so_and_takes_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::start(&dir.path().join("new")).unwrap();
        let stream = writer.stream(&dir.path().join("new"), "j", [1; 16], 2_000);
        let records: Vec<Vec<u8>> = (0..400).map(|number| written(&example(number))).collect();
        assert!(writer.append(&stream, &records.concat()));
        writer.close(&stream).blocking_recv().unwrap();
        assert!(!writer.append(&stream, &records[0]));
        let file = std::fs::read(dir.path().join("new/j.recording")).unwrap();
        assert!(file.len() <= 2_000, "{}", file.len());
        let text = String::from_utf8_lossy(&file).into_owned();
        assert!(text.contains("it reached `record-limit`"), "{text}");
    }

    #[test]
    fn parts_are_whole_records() {
        let records: Vec<u8> = (0..400).flat_map(|number| written(&example(number))).collect();
        let parts: Vec<&[u8]> = chunks(&records).collect();
        assert!(parts.len() > 2 && parts.iter().all(|part| part.len() <= CHUNK_BYTES));
        assert_eq!(parts.concat(), records);
        assert_eq!(chunks(&[]).count(), 0);
    }
}
