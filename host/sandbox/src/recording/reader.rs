//! Reads a recording, record by record. What was changed since it was written is refused; what was cut short is read to its last
//! whole chunk.
//!
//! Bounds: one chunk is in memory at a time, and a chunk is bounded by the format, whatever the file says.

use std::fs::OpenOptions;
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use wasm_worker_core::text::{LINE_BYTES_MAX, clip};

use super::codec::decode;
use super::format::{self, HEADER_BYTES, MAGIC, Nonce, PREFIX_BYTES, VERSION};
use super::record::{Decided, End, Head, Inside, Record, Start, Step};
use crate::settings::{AgentSettings, Limits, RecordSettings};

/// Longest name in a head.
const NAME_BYTES_MAX: usize = 4 << 10;

/// The reason why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{}`{}: {what}", path.display(), offset.map(|at| format!(" at byte {at}")).unwrap_or_default())]
pub struct RecordingError {
    path: PathBuf,
    offset: Option<u64>,
    what: String,
    hint: Option<&'static str>,
}

impl RecordingError {
    /// Advice for the reader.
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

/// The rest of a recording that has no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The job has ended, and its verdict is there.
    Whole,
    /// The recording ended before its job, for this reason.
    Early(String),
    /// The file ends in the middle, at this byte.
    Cut(u64),
}

/// A recording that is being read.
pub struct Reader {
    path: PathBuf,
    source: Box<dyn Read + Send>,
    nonce: Nonce,
    /// Bytes read so far.
    offset: u64,
    /// The offset of the present chunk.
    chunk_at: u64,
    /// Records of the present chunk that have not been read.
    raw: Vec<u8>,
    at: usize,
    chunks: u32,
    head: Head,
    start: Start,
    /// The number of the last step.
    steps: u32,
    /// The step after which steps are missing.
    gap: Option<u32>,
    end: Option<End>,
    ending: Option<Ending>,
}

/// What the next chunk is.
enum Chunk {
    Read,
    /// The file ends here, between two chunks.
    End,
    /// The file ends within a chunk.
    Cut,
}

impl Reader {
    /// Open a recording, and read how its job began.
    ///
    /// # Errors
    /// When the file cannot be read, is no recording, or has been changed.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let failed = |error: io::Error| RecordingError {
            path: path.to_owned(),
            offset: None,
            what: error.to_string(),
            hint: None,
        };
        let kind = std::fs::metadata(path).map_err(failed)?;
        if !kind.is_file() {
            return Err(failed(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")));
        }
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
        Self::new(path, Box::new(BufReader::new(file)))
    }

    /// The same from any source of bytes; `path` is its name in errors.
    ///
    /// # Errors
    /// As above.
    pub fn new(path: &Path, source: Box<dyn Read + Send>) -> Result<Self, RecordingError> {
        let (head, start) = (Head::default(), Start { decision: None, launched: None });
        let mut reader = Self {
            path: path.to_owned(),
            source,
            nonce: Nonce::default(),
            offset: 0,
            chunk_at: 0,
            raw: Vec::new(),
            at: 0,
            chunks: 0,
            head,
            start,
            steps: 0,
            gap: None,
            end: None,
            ending: None,
        };
        reader.read_prefix()?;
        match reader.record()? {
            Some(Record::Head(head)) => reader.head = *head,
            Some(_) => return Err(reader.changed("its first record is not a head")),
            None => return Err(reader.error(None, "it ends before its first record", Some(CUT))),
        }
        let Head { program, agent, job, artifact, component, arch, prewarm, .. } = &reader.head;
        if [program, agent, job, artifact, component, arch, prewarm].iter().any(|text| text.len() > NAME_BYTES_MAX) {
            return Err(reader.changed("a name in its head is too long"));
        }
        match reader.record()? {
            Some(Record::Start(start)) => reader.start = *start,
            Some(_) => return Err(reader.changed("its second record is not a start")),
            None => return Err(reader.error(None, "it ends before its job begins", Some(CUT))),
        }
        Ok(reader)
    }

    /// What the recording is of.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How the job began.
    pub(crate) fn decided(&self) -> Option<&Decided> {
        self.start.decision.as_ref()
    }

    /// The launch of the job, in units of a moment.
    pub(crate) fn launched(&self) -> Option<u64> {
        self.start.launched
    }

    /// The end of the job, once everything before it was read.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// How the file ends, once it was read.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// The step after which the recording has no steps for a while, as far as it was read.
    pub fn gap(&self) -> Option<u32> {
        self.gap
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Settings under which the agent can be loaded for a replay. Nothing ends a step but what ended it before: `patience` is the
    /// time after which a step is taken for one that never returns.
    ///
    /// # Errors
    /// When the recording has limits that no setting allows.
    pub fn settings(&self, others: AgentSettings, patience: Duration) -> Result<AgentSettings, RecordingError> {
        let limits = self.head.limits.apply(Limits {
            unresponsive_timeout: patience,
            unresponsive_warning: patience,
            ..others.limits.clone()
        });
        let limits = limits.ok_or_else(|| self.changed("its limits are larger than any setting allows"))?;
        Ok(AgentSettings { limits, prewarm: self.head.prewarm_mode(), record: RecordSettings::default(), ..others })
    }

    /// Read the next step. `None` after the last one.
    ///
    /// # Errors
    /// When the file cannot be read, or has been changed.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, RecordingError> {
        if self.ending.is_some() {
            return Ok(None);
        }
        match self.record()? {
            Some(Record::Step(step)) => self.numbered(*step).map(Some),
            Some(Record::End(end)) => {
                let End { verdict, usage, cut } = *end;
                self.ending = Some(cut.as_deref().map_or(Ending::Whole, |why| Ending::Early(clip(why))));
                let verdict = verdict.map(|verdict| verdict.bounded(LINE_BYTES_MAX));
                self.end = Some(End { verdict, usage, cut: cut.map(|why| clip(&why)) });
                if self.at < self.raw.len() || !matches!(self.chunk()?, Chunk::End) {
                    return Err(self.changed("something follows its end"));
                }
                Ok(None)
            }
            Some(Record::Head(_) | Record::Start(_)) => Err(self.changed("a job begins twice")),
            None => {
                self.ending = Some(Ending::Cut(self.chunk_at));
                Ok(None)
            }
        }
    }

    /// A step whose number follows that of the last one.
    fn numbered(&mut self, step: Step) -> Result<Step, RecordingError> {
        let next = self.steps + 1;
        if step.number < next || (step.number > next && self.gap.is_none()) {
            return Err(self.changed(&format!("step {} follows step {}", step.number, self.steps)));
        }
        if matches!(step.inside, Inside::Whole { .. }) != self.head.content {
            return Err(self.changed("its head does not say whether contents are left out"));
        }
        self.steps = step.number;
        Ok(step)
    }

    /// The next record, whatever it is. `None` where the file ends.
    fn record(&mut self) -> Result<Option<Record>, RecordingError> {
        while self.at == self.raw.len() {
            if !matches!(self.chunk()?, Chunk::Read) {
                return Ok(None);
            }
        }
        let rest = self.raw.get(self.at..).unwrap_or_default();
        let (record, after) = decode(rest).map_err(|why| self.changed(&why))?;
        self.at = self.raw.len() - after.len();
        Ok(Some(record))
    }

    fn read_prefix(&mut self) -> Result<(), RecordingError> {
        let mut prefix = [0; PREFIX_BYTES];
        let read = self.fill(&mut prefix)?;
        if read < MAGIC.len() || !prefix.starts_with(&MAGIC) {
            let what = "it is not a recording: want a file that `--record` or `--record-failed` has written";
            return Err(self.error(Some(0), what, None));
        }
        if read < PREFIX_BYTES {
            return Err(self.error(None, "it ends before its first record", Some(CUT)));
        }
        let (version, nonce) = prefix.split_at(MAGIC.len()).1.split_at(size_of::<u16>());
        let version = version.iter().rev().fold(0, |sum, byte| sum << 8 | u16::from(*byte));
        if version != VERSION {
            let what = format!("it has version {version} of the format, want {VERSION}");
            return Err(self.error(Some(MAGIC.len() as u64), &what, Some("replay it with the program that wrote it")));
        }
        self.nonce.copy_from_slice(nonce);
        Ok(())
    }

    /// Read the next chunk.
    fn chunk(&mut self) -> Result<Chunk, RecordingError> {
        self.chunk_at = self.offset;
        let mut bytes = [0; HEADER_BYTES];
        match self.fill(&mut bytes)? {
            0 => return Ok(Chunk::End),
            HEADER_BYTES => {}
            _ => return Ok(Chunk::Cut),
        }
        let header = format::header(&self.nonce, &bytes).ok_or_else(|| self.changed(CHANGED))?;
        if header.number < self.chunks {
            return Err(self.changed("its chunks are in another order than they were written"));
        }
        if header.number > self.chunks {
            self.gap.get_or_insert(self.steps);
        }
        self.chunks = header.number.saturating_add(1);
        let mut packed = vec![0; header.packed];
        if self.fill(&mut packed)? < header.packed {
            return Ok(Chunk::Cut);
        }
        self.raw = format::unpack(&self.nonce, &header, &packed).ok_or_else(|| self.changed(CHANGED))?;
        self.at = 0;
        Ok(Chunk::Read)
    }

    /// Read until the buffer is full or the file ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, RecordingError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(Some(self.offset), &error.to_string(), None)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    fn changed(&self, what: &str) -> RecordingError {
        self.error(
            Some(self.chunk_at),
            what,
            Some("the file was changed or damaged after it was written: copy it again"),
        )
    }

    pub(crate) fn error(&self, offset: Option<u64>, what: &str, hint: Option<&'static str>) -> RecordingError {
        RecordingError { path: self.path.clone(), offset, what: what.to_owned(), hint }
    }
}

/// A file with these records in one chunk, whatever they are: for tests of what is behind the checksums.
pub fn file_of(records: &[u8]) -> Vec<u8> {
    let nonce = Nonce::default();
    let mut file = format::prefix(&nonce);
    file.extend_from_slice(&format::pack(&nonce, 0, records));
    file
}

const CHANGED: &str = "its checksum is wrong";
const CUT: &str = "nothing of the job is in the file; copy it again, or record another job";

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use wasm_worker_core::verdict::{Code, Verdict};

    use super::super::codec::Encoder;
    use super::super::codec::tests::{example, written};
    use super::super::format::{pack, prefix};
    use super::*;

    const NONCE: Nonce = [3; 16];

    fn records(steps: u32, content: bool) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::default();
        let mut begin = Vec::new();
        assert!(encoder.head(&mut begin, &Head { content, ..Head::default() }));
        assert!(encoder.start(&mut begin, &Start { decision: None, launched: Some(1) }));
        let mut end = Vec::new();
        let verdict = Some(Verdict::new(Code::Completed, "fine"));
        assert!(encoder.end(&mut end, &End { verdict, usage: None, cut: None }));
        let steps = (1..=steps).map(|number| written(&example(number)));
        std::iter::once(begin).chain(steps).chain([end]).collect()
    }

    /// A file with one record in each chunk, but for those that are left out.
    fn file(records: &[Vec<u8>], without: &[u32]) -> Vec<u8> {
        let chunks = (0..).zip(records).filter(|(number, _)| !without.contains(number));
        chunks.fold(prefix(&NONCE), |file, (number, record)| [file, pack(&NONCE, number, record)].concat())
    }

    fn read(file: &[u8]) -> Result<(u32, Reader), RecordingError> {
        let mut reader = Reader::new(Path::new("f"), Box::new(Cursor::new(file.to_vec())))?;
        let mut steps = 0;
        while reader.next()?.is_some() {
            steps += 1;
        }
        Ok((steps, reader))
    }

    #[test]
    fn a_recording_is_read_to_its_end() {
        let (steps, reader) = read(&file(&records(5, true), &[])).unwrap();
        assert_eq!((steps, reader.ending(), reader.gap()), (5, Some(&Ending::Whole), None));
        assert_eq!(reader.end().unwrap().verdict.as_ref().unwrap().code, Code::Completed);
    }

    #[test]
    fn missing_chunks_are_a_gap_and_foreign_ones_are_refused() {
        let (steps, reader) = read(&file(&records(9, true), &[1, 2, 3])).unwrap();
        assert_eq!((steps, reader.gap()), (6, Some(0)));
        for (file, why) in [
            (file(&records(3, true), &[0]), "its first record is not a head"),
            ([file(&records(3, true), &[]), vec![0; 99]].concat(), "its checksum is wrong"),
            (file(&records(3, false), &[]), "its head does not say"),
            (file(&[records(1, true), records(1, true)].concat(), &[]), "something follows its end"),
            (b"{}".to_vec(), "`f` at byte 0: it is not a recording"),
            (Vec::new(), "it is not a recording"),
            ([MAGIC.as_slice(), &[9, 0], &NONCE].concat(), "it has version 9 of the format, want 1"),
            (prefix(&NONCE), "it ends before its first record"),
        ] {
            let Err(error) = read(&file) else { panic!("{why}") };
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    proptest! {
        /// Wherever a file is cut it is read to the last whole step before, and whatever byte is changed it is refused.
        #[test]
        fn a_cut_is_read_to_its_last_step_and_a_change_is_refused(
            cut: prop::sample::Index, at: prop::sample::Index, with in 1_u8..,
        ) {
            let whole = file(&records(6, true), &[]);
            let first = file(&records(0, true), &[1]).len();
            let length = first + cut.index(whole.len() - first);
            let (steps, reader) = read(&whole[..length]).unwrap();
            prop_assert!(matches!(reader.ending(), Some(Ending::Cut(_))) && steps <= 6);
            let mut changed = whole.clone();
            *at.get_mut(&mut changed) ^= with;
            prop_assert!(read(&changed).is_err());
        }
    }
}
