//! The files of sound of `run --job`: what a person says to the agent, and what the agent says.

use std::fs::File;
use std::io::Read;
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
    /// Say this WAV file to the agent, once it is in the room; the job is asked to stop when both are silent
    #[arg(long, value_name = "FILE", requires = "job")]
    audio_in: Option<PathBuf>,
    /// Write what the agent says to this WAV file
    #[arg(long, value_name = "FILE", requires = "job")]
    audio_out: Option<PathBuf>,
}

/// The sound of a job, and the file for what it says.
pub(super) struct SoundFiles {
    pub(super) sound: LocalSound,
    out: Option<PathBuf>,
}

impl SoundFlags {
    /// Read the file. None where no flag is set.
    pub(super) fn read(self, count: u32) -> Result<Option<SoundFiles>, Failure> {
        let Self { audio_in, audio_out } = self;
        if audio_in.is_none() && audio_out.is_none() {
            return Ok(None);
        }
        if count > 1 {
            return Err(Failure::usage("`--audio-in` and `--audio-out` are for one job, and `--count` is more"));
        }
        let speech = audio_in.as_deref().map(read).transpose()?.map(Arc::new);
        let tape = audio_out.is_some().then(Arc::<Mutex<Tape>>::default);
        Ok(Some(SoundFiles { sound: LocalSound { speech, tape }, out: audio_out }))
    }
}

impl SoundFiles {
    /// Write what the agent said.
    pub(super) fn write(&self) -> Result<(), Failure> {
        let (Some(path), Some(tape)) = (&self.out, &self.sound.tape) else { return Ok(()) };
        let tape = tape.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = path.display();
        let Some(sound) = tape.sound() else {
            say(&format!("the agent played nothing, so `{shown}` is not written"));
            return Ok(());
        };
        let written = std::fs::write(path, wav::write(sound));
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
