//! What the clients of this crate share about answers over HTTP.

use std::time::Duration;

use wasm_worker_sdk::http::Response;
use wasm_worker_sdk::time;

/// The time for what follows the end of an answer.
pub(crate) const TAIL: Duration = Duration::from_secs(2);

/// Number of characters of a page that an error shows.
const SHOWN_MAX: usize = 800;

/// What a body is, by its first byte that is no space. Servers do not agree about `content-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON or a page of HTML, to be read as a whole.
    Whole,
    /// A stream of events.
    Events,
}

impl Form {
    /// The form of a body that begins with these bytes; `None` where they are spaces.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
        Some(if matches!(first, b'{' | b'[' | b'<') { Self::Whole } else { Self::Events })
    }
}

/// Reads what follows the end of an answer, so that the connection can be used again.
pub(crate) async fn finish_reading(response: &mut Response) {
    let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
    time::timeout(TAIL, rest).await;
}

/// The title of a page of HTML, else its beginning.
pub(crate) fn page(body: &str) -> String {
    let body = body.trim();
    let lower = body.to_ascii_lowercase();
    let title = lower.find("<title>").map(|at| at + "<title>".len());
    let title = title.and_then(|at| body.get(at..at + lower.get(at..)?.find("</title>")?));
    let text = title.map(str::trim).filter(|title| !title.is_empty()).unwrap_or(body);
    if text.is_empty() { "an empty page".into() } else { clip(text) }
}

/// The beginning of a text, for an error.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect::<String>().trim().to_owned()
}
