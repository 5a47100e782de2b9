//! WAV files: PCM of 16 bits, mono or stereo. Pure.
//!
//! Bound: [`BYTES_MAX`] for a file that is read.

use super::{Sound, bytes_of, samples_of};

/// Largest file, in bytes: six minutes of stereo at 48 kHz.
pub const BYTES_MAX: usize = 64 << 20;
/// The rates of a file: those at which an agent may speak, and that of compact discs.
pub const RATES: [u32; 6] = [8_000, 12_000, 16_000, 24_000, 44_100, 48_000];

/// The form of the samples: PCM.
const PCM: u16 = 1;
/// The form of a file that tells more in an extension: its first two bytes are the form then.
const EXTENSIBLE: u16 = 0xfffe;
const BITS: u16 = 16;

/// Why a file is no sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    /// The file is too large.
    #[error("the file has {0} bytes; at most {BYTES_MAX} are read")]
    TooLarge(usize),
    /// The file is of another kind.
    #[error("the file is no WAV: it does not begin with `RIFF` and `WAVE`")]
    NoWav,
    /// The file has no facts or no sound, or is cut short within its facts.
    #[error("the WAV has no part `{0}`")]
    Missing(&'static str),
    /// The samples have another form.
    #[error(
        "the WAV has samples of form {form} with {bits} bits; want PCM (form 1) with 16 bits, such as `ffmpeg -c:a pcm_s16le` writes"
    )]
    Form {
        /// The form of the samples.
        form: u16,
        /// The bits of a sample.
        bits: u16,
    },
    /// There are more channels than two, or none.
    #[error("the WAV has {0} channels; want 1 or 2")]
    Channels(u16),
    /// The rate is another one.
    #[error("the WAV has {0} samples a second; want 8000, 12000, 16000, 24000, 44100 or 48000")]
    Rate(u32),
    /// There is no sample.
    #[error("the WAV has no sample")]
    Empty,
}

/// Read a file. Two channels become one, their mean. A file that is cut short has the sound up to there.
///
/// # Errors
/// When the file is no WAV, or one of a form that is not read.
pub fn read(file: &[u8]) -> Result<Sound, WavError> {
    if file.len() > BYTES_MAX {
        return Err(WavError::TooLarge(file.len()));
    }
    let mut rest = match (file.get(..4), file.get(8..12)) {
        (Some(b"RIFF"), Some(b"WAVE")) => file.get(12..).unwrap_or_default(),
        _ => return Err(WavError::NoWav),
    };
    let mut facts = None;
    while let Some((name, part, after)) = next_part(rest) {
        match name {
            b"fmt " => facts = Some(facts_of(part)?),
            b"data" => {
                let (channels, rate) = facts.ok_or(WavError::Missing("fmt "))?;
                let samples = samples_of(part);
                let samples = if channels == 2 { mixed(&samples) } else { samples };
                return if samples.is_empty() { Err(WavError::Empty) } else { Ok(Sound { rate, samples }) };
            }
            _ => {}
        }
        rest = after;
    }
    Err(WavError::Missing(if facts.is_none() { "fmt " } else { "data" }))
}

/// The name of the next part, its bytes, and what follows it.
fn next_part(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, body) = bytes.split_at_checked(8)?;
    let (name, length) = head.split_at_checked(4)?;
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let part = body.get(..length).unwrap_or(body);
    // A part of an odd length is followed by a byte that belongs to nothing.
    let after = body.get(length.saturating_add(length % 2)..).unwrap_or_default();
    Some((name, part, after))
}

/// The channels and the rate.
fn facts_of(part: &[u8]) -> Result<(u16, u32), WavError> {
    let missing = WavError::Missing("fmt ");
    let two = |at: usize| part.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
    let rate = part.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let (Some(form), Some(channels), Some(rate), Some(bits)) = (two(0), two(2), rate, two(14)) else {
        return Err(missing);
    };
    let form = if form == EXTENSIBLE { two(24).unwrap_or(form) } else { form };
    if form != PCM || bits != BITS {
        return Err(WavError::Form { form, bits });
    }
    if !(1..=2).contains(&channels) {
        return Err(WavError::Channels(channels));
    }
    if RATES.contains(&rate) { Ok((channels, rate)) } else { Err(WavError::Rate(rate)) }
}

fn mixed(samples: &[i16]) -> Vec<i16> {
    let (pairs, _) = samples.as_chunks::<2>();
    pairs.iter().map(|[left, right]| i16::midpoint(*left, *right)).collect()
}

/// The sound as a file of one channel.
pub fn write(sound: &Sound) -> Vec<u8> {
    let data = bytes_of(&sound.samples);
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let mut file = Vec::with_capacity(44 + data.len());
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&length(36 + data.len()));
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16_u32.to_le_bytes());
    file.extend_from_slice(&PCM.to_le_bytes());
    file.extend_from_slice(&1_u16.to_le_bytes());
    file.extend_from_slice(&sound.rate.to_le_bytes());
    file.extend_from_slice(&sound.rate.saturating_mul(2).to_le_bytes());
    file.extend_from_slice(&2_u16.to_le_bytes());
    file.extend_from_slice(&BITS.to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&length(data.len()));
    file.extend_from_slice(&data);
    file
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sound() -> Sound {
        Sound { rate: 16_000, samples: vec![1, -2, 300, i16::MIN] }
    }

    /// The file with these bytes from `at` on.
    fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = write(&sound());
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    #[test]
    fn a_file_is_read_back_and_stereo_becomes_mono() {
        assert_eq!(read(&write(&sound())), Ok(sound()));
        let stereo = read(&changed(22, &[2])).unwrap();
        assert_eq!(stereo.samples, [0, -16_234], "the mean of both channels");
        let cut = write(&sound());
        assert_eq!(read(&cut[..cut.len() - 3]).unwrap().samples, [1, -2], "a file that is cut short");
    }

    #[test]
    fn whatever_an_agent_may_play_is_read_back() {
        for rate in wasm_worker_core::room::audio::RATES {
            let sound = Sound { rate, ..sound() };
            assert_eq!(read(&write(&sound)), Ok(sound));
        }
    }

    #[test]
    fn other_parts_are_passed_over() {
        let file = write(&sound());
        let other = [&file[..12], b"LIST\x03\0\0\0abc\0", &file[12..]].concat();
        assert_eq!(read(&other), Ok(sound()));
        let mut extensible = changed(20, &EXTENSIBLE.to_le_bytes());
        extensible[16] = 40;
        extensible.splice(36..36, [22, 0, 16, 0, 4, 0, 0, 0, 1, 0].into_iter().chain([0; 14]));
        assert_eq!(read(&extensible), Ok(sound()));
    }

    #[test]
    fn another_form_is_refused_by_its_name() {
        let why = |file: &[u8]| read(file).unwrap_err().to_string();
        assert_eq!(why(b"ID3\x04"), "the file is no WAV: it does not begin with `RIFF` and `WAVE`");
        assert!(why(&changed(20, &[3])).starts_with("the WAV has samples of form 3 with 16 bits; want PCM"));
        assert!(why(&changed(34, &[24])).starts_with("the WAV has samples of form 1 with 24 bits"));
        assert_eq!(why(&changed(22, &[6])), "the WAV has 6 channels; want 1 or 2");
        assert_eq!(
            why(&changed(24, &22_050_u32.to_le_bytes())),
            "the WAV has 22050 samples a second; want 8000, 12000, 16000, 24000, 44100 or 48000"
        );
        assert_eq!(why(&write(&Sound { samples: Vec::new(), ..sound() })), "the WAV has no sample");
        assert_eq!(why(&write(&sound())[..36]), "the WAV has no part `data`");
        assert_eq!(why(&write(&sound())[..20]), "the WAV has no part `fmt `");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_sound_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0..52_usize, with: u8) {
            drop(read(&bytes));
            let mut file = write(&sound());
            file[at] = with;
            if let Ok(sound) = read(&file) {
                prop_assert!(!sound.samples.is_empty());
            }
        }
    }
}
