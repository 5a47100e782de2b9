//! A LiveKit room as plain data: settings, commands and events, one to one with the interfaces `room` and `audio` of the contract and
//! their events;
//! and the traits by which a job reaches a room, its numbers and the server's API. No wire format, and no socket.

pub mod names;
pub mod people;
pub mod settings;

pub mod id;

pub mod audio;
pub mod command;
pub mod event;
pub mod moderation;

pub mod connection;
