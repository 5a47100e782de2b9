//! What leads to one peer: its names, the addresses of its client, and the checks of the host. Pure.
//!
//! Bounds: [`WAYS_MAX`] of each. Those that were used last stay.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// Most names, addresses and checks of one peer that lead to it.
const WAYS_MAX: usize = 8;

/// The number of a check of the host, which nobody guesses.
pub(super) type Question = [u8; 12];

/// What leads to one peer.
#[derive(Default)]
pub(super) struct Ways {
    names: VecDeque<String>,
    addresses: VecDeque<Held>,
    /// The checks of the host whose answers lead to the peer.
    questions: VecDeque<Question>,
}

/// An address of the client.
#[derive(Clone, Copy)]
struct Held {
    address: SocketAddr,
    /// Whether the client has proved that it is there.
    is_proven: bool,
}

impl Ways {
    /// Note a name of the peer. Returns whether it is new, and the one that is forgotten for it.
    pub(super) fn add_name(&mut self, name: &str) -> (bool, Option<String>) {
        add(&mut self.names, name.to_owned())
    }

    /// Note an address of the client. Returns the one that is forgotten for it: one that is proven stays for as long as others are
    /// not.
    pub(super) fn add_address(&mut self, address: SocketAddr, is_proven: bool) -> Option<SocketAddr> {
        let known = self.addresses.iter().position(|held| held.address == address);
        let known = known.and_then(|at| self.addresses.remove(at));
        let is_proven = is_proven || known.is_some_and(|held| held.is_proven);
        let oldest = if self.addresses.len() >= WAYS_MAX {
            let at = self.addresses.iter().position(|held| !held.is_proven).unwrap_or_default();
            self.addresses.remove(at)
        } else {
            None
        };
        self.addresses.push_back(Held { address, is_proven });
        oldest.map(|held| held.address)
    }

    /// Note a check of the host. Returns whether it is new, and the one that is forgotten for it.
    pub(super) fn add_question(&mut self, question: Question) -> (bool, Option<Question>) {
        add(&mut self.questions, question)
    }

    /// The checks of the host whose answers lead to the peer.
    pub(super) fn take_questions(&mut self) -> VecDeque<Question> {
        std::mem::take(&mut self.questions)
    }

    /// The names that lead to the peer.
    pub(super) fn take_names(&mut self) -> VecDeque<String> {
        std::mem::take(&mut self.names)
    }

    /// The addresses that lead to the peer. The next check of the client brings its own back.
    pub(super) fn take_addresses(&mut self) -> impl Iterator<Item = SocketAddr> + use<> {
        std::mem::take(&mut self.addresses).into_iter().map(|held| held.address)
    }
}

/// Add a value, or say that it is in use. Returns whether it is new, and the one that is forgotten for it.
fn add<T: PartialEq>(values: &mut VecDeque<T>, value: T) -> (bool, Option<T>) {
    if let Some(at) = values.iter().position(|known| *known == value) {
        let known = values.remove(at);
        values.extend(known);
        return (false, None);
    }
    let oldest = if values.len() >= WAYS_MAX { values.pop_front() } else { None };
    values.push_back(value);
    (true, oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_in_use_stays() {
        let mut values = VecDeque::new();
        assert!((0..WAYS_MAX).all(|value| add(&mut values, value) == (true, None)));
        assert_eq!(add(&mut values, 0), (false, None));
        assert_eq!((add(&mut values, 100), add(&mut values, 0)), ((true, Some(1)), (false, None)));
    }
}
