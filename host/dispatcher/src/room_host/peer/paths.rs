//! The addresses from which a client looks for a path, and the proof that it is there. Pure.
//!
//! The source of a datagram may be forged, also that of a check with the right secret: the client knows it. Only who is at an address
//! gets what is sent there. The host therefore sends a check of its own, as ICE allows, and its answer is the proof. Every client
//! answers, because ICE demands it. What is sent to an address before the proof is less than what came from there.
//!
//! Bounds: [`SOURCES_MAX`] addresses.

use std::collections::HashMap;
use std::net::SocketAddr;

use str0m::crypto::from_feature_flags;
use str0m::ice::{StunMessage, TransId};

use super::output::{PeerOutput, Question};
use super::{Peer, is_stun};

/// Most addresses from which a client may look for a path until its next restart of ICE. `str0m` keeps a state for each.
pub(in crate::room_host) const SOURCES_MAX: usize = 64;
/// Longest check of the host, in bytes. The names of a client have at most 256 bytes (RFC 8839).
const CHECK_BYTES_MAX: usize = 512;
/// The head of a STUN message, in bytes.
const HEAD_BYTES: usize = 20;
/// The priority that the host's check gives to its path: that of one that a check has found. Nobody reads it.
const PRIORITY: u32 = 110 << 24;
/// The types of the answers to a check: success and failure (RFC 8489).
const ANSWERS: [[u8; 2]; 2] = [[0x01, 0x01], [0x01, 0x11]];

/// The number of the check that a datagram answers.
pub(in crate::room_host) fn answered(bytes: &[u8]) -> Option<Question> {
    let is_answer = bytes.len() >= HEAD_BYTES && ANSWERS.iter().any(|kind| bytes.starts_with(kind));
    bytes.get(8..HEAD_BYTES).filter(|_| is_answer)?.try_into().ok()
}

/// The names and secrets for the host's checks.
#[derive(Default)]
pub(super) struct Credentials {
    /// The client's name and the host's, as the client expects them.
    username: String,
    /// The client's secret.
    password: String,
}

impl Credentials {
    /// Those of an offer, and of the host's name in its answer.
    pub(super) fn of(offer: &str, host_name: &str) -> Self {
        let value = |head: &str| offer.lines().find_map(|line| line.strip_prefix(head)).unwrap_or_default().trim();
        let (name, password) = (value("a=ice-ufrag:"), value("a=ice-pwd:").to_owned());
        Self { username: format!("{name}:{host_name}"), password }
    }

    /// A check with this number; none where the client's names are too long.
    fn check(&self, question: Question) -> Option<Vec<u8>> {
        // The head of a message without more: the way to a number of one's own choice.
        let head = [&[0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &question].concat();
        let id: TransId = StunMessage::parse(&head).ok()?.trans_id();
        let check = StunMessage::binding_request(&self.username, id, false, 0, PRIORITY, false);
        let mut bytes = vec![0; CHECK_BYTES_MAX];
        let hash = from_feature_flags().sha1_hmac_provider;
        let hmac = |key: &[u8], parts: &[&[u8]]| hash.sha1_hmac(key, parts);
        let length = check.to_bytes(Some(self.password.as_bytes()), &mut bytes, hmac).ok()?;
        bytes.truncate(length);
        Some(bytes)
    }
}

/// An address from which the client looks for a path.
struct Source {
    /// The bytes that came from there beyond those that were sent there.
    credit: usize,
    proof: Proof,
}

/// Whether the client is at an address.
#[derive(Clone, Copy)]
enum Proof {
    /// The host has not asked, or no answer has come.
    Open(Question),
    Given,
}

/// The addresses from which a client looks for a path.
#[derive(Default)]
pub(super) struct Paths(HashMap<SocketAddr, Source>);

impl Paths {
    /// Whether a check from this address is looked at.
    pub(super) fn admits(&self, source: SocketAddr) -> bool {
        self.0.len() < SOURCES_MAX || self.0.contains_key(&source)
    }

    /// A check of this size was answered by so many bytes. Returns the number and the text of the host's own check, if that may be
    /// sent.
    pub(super) fn checked(
        &mut self,
        source: SocketAddr,
        (came, sent): (usize, usize),
        credentials: &Credentials,
    ) -> Option<(Question, Vec<u8>)> {
        let new = || Source { credit: 0, proof: Proof::Open(rand::random()) };
        let source = self.0.entry(source).or_insert_with(new);
        let Proof::Open(question) = source.proof else { return None };
        source.credit = (source.credit + came).saturating_sub(sent);
        let check = credentials.check(question)?;
        source.credit = source.credit.checked_sub(check.len())?;
        Some((question, check))
    }

    /// An answer came from this address. Returns whether it is the proof.
    pub(super) fn prove(&mut self, source: SocketAddr, answered: Question) -> bool {
        let Some(source) = self.0.get_mut(&source) else { return false };
        let is_proof = matches!(source.proof, Proof::Open(question) if question == answered);
        if is_proof {
            source.proof = Proof::Given;
        }
        is_proof
    }

    /// The client may have left all addresses.
    fn doubt(&mut self) {
        self.0.values_mut().for_each(|source| source.proof = Proof::Open(rand::random()));
    }

    /// The client looks for a new path.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Peer {
    /// Ask for new proofs of where the client is.
    pub(in crate::room_host) fn doubt_addresses(&mut self) {
        self.paths.doubt();
    }

    /// Ask for the proof that the client is where a check of this size came from, if it was answered by the outputs from here on.
    pub(super) fn ask(&mut self, source: SocketAddr, came: usize, outputs_from: usize) {
        let sent = self.outputs.iter().skip(outputs_from).filter_map(|output| match output {
            PeerOutput::Transmit { destination, bytes } if *destination == source && is_stun(bytes) => {
                Some(bytes.len())
            }
            _ => None,
        });
        let sent: usize = sent.sum();
        if sent > 0
            && let Some((question, bytes)) = self.paths.checked(source, (came, sent), &self.credentials)
        {
            self.outputs.push_back(PeerOutput::Asked { question });
            self.outputs.push_back(PeerOutput::Transmit { destination: source, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_sent_to_an_address_than_came_from_there_until_it_is_proved() {
        let credentials = Credentials::of("v=0\r\na=ice-ufrag:client\r\na=ice-pwd:secret\r\n", "host");
        let (mut paths, source): (Paths, SocketAddr) = (Paths::default(), "192.0.2.1:5".parse().unwrap());
        let (mut came, mut sent, mut asked) = (0, 0, Vec::new());
        for _ in 0..50 {
            (came, sent) = (came + 100, sent + 64);
            if let Some((question, check)) = paths.checked(source, (100, 64), &credentials) {
                sent += check.len();
                asked.push(question);
                assert_eq!(StunMessage::parse(&check).unwrap().username(), Some("client:host"));
            }
            assert!(sent <= came, "{sent} {came}");
        }
        asked.dedup();
        assert_eq!(asked.len(), 1, "the same question again, because it may be lost");
        assert!(!paths.prove(source, [0; 12]) && !paths.prove("192.0.2.1:6".parse().unwrap(), asked[0]));
        assert!(paths.prove(source, asked[0]) && !paths.prove(source, asked[0]));
        assert!(paths.checked(source, (10_000, 0), &credentials).is_none(), "it is proved");
        paths.doubt();
        let again = paths.checked(source, (10_000, 0), &credentials).map(|(question, _)| question);
        assert!(again.is_some() && again != Some(asked[0]) && !paths.prove(source, asked[0]));
        // Names that no client has make no check.
        let long = Credentials::of(&format!("a=ice-ufrag:{}\r\n", "x".repeat(1_000)), "host");
        assert!(paths.checked("192.0.2.1:7".parse().unwrap(), (10_000, 0), &long).is_none());
    }

    #[test]
    fn answers_have_the_number_of_their_check() {
        let message = |kind: [u8; 2]| [&kind[..], &[0, 0, 0x21, 0x12, 0xa4, 0x42], &[7; 12]].concat();
        assert_eq!((answered(&message([1, 1])), answered(&message([1, 0x11]))), (Some([7; 12]), Some([7; 12])));
        assert_eq!((answered(&message([0, 1])), answered(&message([1, 1])[..19]), answered(&[])), (None, None, None));
    }
}
