//! Nothing: each guest is an example of this crate, so that one build makes them all and one file holds each.
