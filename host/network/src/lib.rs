//! The outgoing network of agents.

pub(crate) mod failure;

pub mod rules;

pub(crate) mod headers;

pub mod secrets;
