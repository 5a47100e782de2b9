//! A joined room with a fake in the place of the real one: what it is asked, and what the agent is told.

mod fake;

mod ends;
mod ids;
mod joins;
mod moderation;
mod pressure;
mod sound;
