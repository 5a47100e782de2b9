//! The job that `run --job`, `bench` and `capacity` offer, from flags or from a description in JSON.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use wasm_worker_sandbox::job::spec::JobSpec;

/// The largest description, and the largest metadata. LiveKit's own limit for metadata is far below.
const BYTES_MAX: u64 = 4 << 20;

/// Flags that describe the job.
#[derive(Args)]
pub(crate) struct JobFlags {
    /// Room of the job
    #[arg(long, value_name = "NAME", conflicts_with = "spec")]
    room: Option<String>,
    /// Metadata of the job, often JSON: a text, `@FILE`, or `-` for standard input; `@@` begins a text with `@`
    #[arg(long, value_name = "TEXT", conflicts_with = "spec")]
    metadata: Option<String>,
    /// Attribute of the job; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute, conflicts_with = "spec")]
    attribute: Vec<(String, String)>,
    /// Describe the job in JSON: a file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
}

/// `NAME=VALUE`.
pub(crate) fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("want NAME=VALUE")?;
    if name.is_empty() { Err("the name is empty".into()) } else { Ok((name.into(), value.into())) }
}

impl JobFlags {
    /// Whether no flag is set.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { room, metadata, attribute, spec } = self;
        room.is_none() && metadata.is_none() && attribute.is_empty() && spec.is_none()
    }

    pub(crate) fn into_spec(self) -> Result<JobSpec, Failure> {
        let Self { room, metadata, attribute, spec } = self;
        match spec {
            Some(path) => read_spec(&path),
            None => Ok(JobSpec {
                room,
                metadata: metadata.as_deref().map(read_text).transpose()?.unwrap_or_default(),
                attributes: attribute.into_iter().collect(),
                ..JobSpec::default()
            }),
        }
    }
}

/// The text of a flag: as it is written, the contents of a file (`@FILE`), or standard input (`-`). A text that begins with `@` is
/// written with `@@`.
pub(crate) fn read_text(written: &str) -> Result<String, Failure> {
    let path = match written.strip_prefix('@') {
        Some(text) if text.starts_with('@') => return Ok(text.to_owned()),
        Some(path) => path,
        None if written == "-" => written,
        None => return Ok(written.to_owned()),
    };
    let why = match read_bounded(Path::new(path)) {
        Ok(text) if text.len() as u64 <= BYTES_MAX => return Ok(text),
        Ok(_) => format!("want at most {BYTES_MAX} bytes"),
        Err(error) => error.to_string(),
    };
    let failure = Failure::usage(format!("the metadata in `{path}` cannot be read: {why}"));
    Err(failure.with_hint("`@` before a name reads a file; `@@` begins a text with `@`"))
}

/// The contents of a file, or of standard input for `-`: at most one byte more than allowed.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(BYTES_MAX + 1).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn read_spec(path: &Path) -> Result<JobSpec, Failure> {
    let shown = path.display();
    let text = read_bounded(path)
        .map_err(|error| Failure::usage(format!("the job description `{shown}` cannot be read: {error}")))?;
    let refuse = |why: String| {
        Failure::usage(format!("the job description `{shown}` is not valid: {why}"))
            .with_hint(r#"for example {"room": "support", "metadata": "", "attributes": {"lang": "en"}}"#)
    };
    if text.len() as u64 > BYTES_MAX {
        return Err(refuse(format!("want at most {BYTES_MAX} bytes")));
    }
    JobSpec::parse(&text).map_err(|error| refuse(error.to_string()))
}
