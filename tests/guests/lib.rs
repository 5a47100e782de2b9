//! Guests for the tests.
