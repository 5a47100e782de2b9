//! What goes into a room and what comes out of it, as plain data: one to one with the interface `room` of the contract and its
//! events. No wire format.

pub mod people;
pub mod settings;

pub mod command;
pub mod event;
