//! The files of sound of `run --job`: what a person says to the agent, and what the agent says.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;

use super::{Exit, Failure, say};
use wasm_worker_sandbox::job::offer::LocalSound;
use wasm_worker_sandbox::sound::tape::Tape;
use wasm_worker_sandbox::sound::wav;

/// Flags of one job with sound.
#[derive(Args)]
pub(crate) struct SoundFlags {
    /// Say this WAV file to the agent, once it is in the room; the job is asked to stop when both have been silent for 5 s
    #[arg(long, value_name = "FILE", requires = "job")]
    audio_in: Option<PathBuf>,
    /// Write what the agent says to this WAV file
    #[arg(long, value_name = "FILE", requires = "job")]
    audio_out: Option<PathBuf>,
}

/// The sound of a job, and the file for what it says.
pub(super) struct SoundFiles {
    pub(super) sound: LocalSound,
    out: Option<OutFile>,
}

/// The file for what the agent says. It is open before the job starts, so that nothing is said in vain, and its old content lasts until
/// there is new content. A file that was made for the job and got nothing is removed.
struct OutFile {
    path: PathBuf,
    file: File,
    is_empty_and_new: bool,
}

impl SoundFlags {
    /// Read the one file, and open the other. None where no flag is set.
    pub(super) fn read(self, count: u32) -> Result<Option<SoundFiles>, Failure> {
        let Self { audio_in, audio_out } = self;
        if audio_in.is_none() && audio_out.is_none() {
            return Ok(None);
        }
        if count > 1 {
            return Err(Failure::usage("`--audio-in` and `--audio-out` are for one job, and `--count` is more"));
        }
        let speech = audio_in.as_deref().map(read).transpose()?.map(Arc::new);
        let out = audio_out.map(OutFile::open).transpose()?;
        let tape = out.is_some().then(Arc::<Mutex<Tape>>::default);
        Ok(Some(SoundFiles { sound: LocalSound { speech, tape }, out }))
    }
}

impl SoundFiles {
    /// Write what the agent said.
    pub(super) fn write(&mut self) -> Result<(), Failure> {
        let (Some(out), Some(tape)) = (&mut self.out, &self.sound.tape) else { return Ok(()) };
        let tape = tape.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sound) = tape.sound() else {
            say(&format!("the agent played nothing, so `{}` is not written", out.path.display()));
            return Ok(());
        };
        let written = out.write(&wav::write(sound));
        let shown = out.path.display();
        written.map_err(|error| Failure {
            exit: Exit::Host,
            error: format!("`{shown}` cannot be written: {error}").into(),
            hint: None,
        })?;
        let cut = if tape.is_full() { "; the agent played longer, and the rest is not in it" } else { "" };
        say(&format!("`{shown}` has {:.1?} of sound{cut}", sound.duration()));
        Ok(())
    }
}

impl OutFile {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let new = File::create_new(&path).map(|file| (file, true));
        let opened = new.or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok((File::options().write(true).open(&path)?, false)),
            _ => Err(error),
        });
        let (file, is_empty_and_new) = opened.map_err(|error| unwritable(&path, &error))?;
        Ok(Self { path, file, is_empty_and_new })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_empty_and_new = false;
        // A pipe has no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(bytes)
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if self.is_empty_and_new {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::usage(format!("`{}` cannot be written: {error}", path.display()));
    match path.parent() {
        Some(dir) if error.kind() == io::ErrorKind::NotFound && !dir.as_os_str().is_empty() => {
            failure.with_hint(format!("`mkdir -p {}` makes its directory", dir.display()))
        }
        _ => failure.with_hint("`--audio-out` takes a file that this user may write"),
    }
}

fn read(path: &Path) -> Result<wasm_worker_sandbox::sound::Sound, Failure> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let max = wav::BYTES_MAX as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(max).read_to_end(&mut bytes));
    read.map_err(|error| Failure::usage(format!("`{shown}` cannot be read: {error}")))?;
    wav::read(&bytes).map_err(|error| {
        Failure::usage(format!("`{shown}` cannot be spoken: {error}"))
            .with_hint("`ffmpeg -i FILE -ac 1 -ar 48000 -c:a pcm_s16le OUT.wav` makes a file that can be")
    })
}
