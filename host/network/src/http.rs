//! Exchanges by HTTP/1.1 and HTTP/2: one request, its redirects, and the answer in parts.
//!
//! ```text
//! request   a request as it is sent, and what it becomes by a redirect
//! encoding  the decompression of an answer
//! exchange  one exchange from its request to its last event
//! ```

pub(crate) mod request;

pub(crate) mod encoding;

pub(crate) mod exchange;
