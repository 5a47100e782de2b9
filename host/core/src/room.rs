//! A LiveKit room as plain data: settings, commands and events, one to one with the interface `room` of the contract and its events;
//! and the traits by which a job reaches a room, its numbers and the server's API. No wire format, and no socket.

pub mod names;
pub mod people;
pub mod settings;

pub mod command;
pub mod event;
pub mod moderation;

pub mod connection;
