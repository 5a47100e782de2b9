//! A stand-in for model servers. It speaks the protocol of OpenAI-compatible servers, and a script says its answers.
//!
//! It is no model: it understands nothing, counts words as tokens, and says so in a header and in the model name of each answer.
//!
//! ```text
//! tree      YAML as a tree with line numbers
//! fields    the values of one mapping: kinds, unknown keys
//! matching  texts and names as a rule wants them
//! error     errors as the vendor's servers send them
//! request   the question of a client, checked, of either protocol
//! plan      an answer as a list of timed pieces
//! script    rules, and the choice of the rule for a request
//! parse     YAML → script
//! answer    plan → bytes of the protocol, whole or as timed frames
//! exchange  HTTP requests and their responses, without sockets
//! server    sockets, time and keys around the rest
//! ```
//!
//! Invariant: imports point up this list. All but `server` is pure: it waits for nothing and reads no clock, so a script answers
//! under virtual time as it does in the server. The same script and the same requests in the same order have the same answers.
//!
//! Bounds: those of `tree` and `request`, [`parse::FILE_BYTES_MAX`], [`plan::TOKENS_MAX`], and those of `server`.

pub mod tree;

pub mod fields;
pub mod matching;

pub mod error;

pub mod request;

pub mod plan;

pub mod script;

pub mod parse;

pub mod answer;

pub mod exchange;

pub mod server;

#[cfg(test)]
mod tests;
