//! The outgoing network of an agent as plain data: commands and events, one to one with the interfaces `http` and `socket` of the
//! contract and their events; the use for the bill; and the two traits by which a job reaches the network. No wire format, and no
//! socket.

pub mod code;
pub mod command;
pub mod event;
pub mod traffic;

pub mod connection;
