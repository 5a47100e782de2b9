//! The addresses from which a client looks for a path, and the proof that it is there. Pure.
//!
//! The source of a datagram may be forged, also that of a check with the right secret: the client knows it. Only who is at an address
//! gets what is sent there. The host therefore sends a check of its own, as ICE allows. The proof is a success with the client's
//! secret: another client at the address does not know it, and refuses the check. Every client answers, because ICE demands it. The host
//! asks again every [`ASK_EVERY`], so that an address that another client has claimed meanwhile comes back.
//!
//! Nothing but checks and their answers goes to an address without a proof, so that nobody turns sound and data to somebody else. A
//! proof is good for [`PROVED_FOR`].
//!
//! Bounds: [`SOURCES_MAX`] addresses. Before the proof the host sends its checks to an address only within [`FACTOR`] times the bytes
//! that came from there, and [`WAITING_MAX`] datagrams wait for it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use str0m::crypto::from_feature_flags;
use str0m::ice::{StunMessage, TransId};
use tokio::time::Instant;

use super::output::PeerOutput;
use super::{Peer, is_stun};
use crate::room_host::ways::Question;

/// Most addresses from which a client may look for a path until its next restart of ICE. `str0m` keeps a state for each.
pub(in crate::room_host) const SOURCES_MAX: usize = 64;
/// Longest check of the host, in bytes. The names of a client have at most 256 bytes (RFC 8839).
const CHECK_BYTES_MAX: usize = 512;
/// The head of a STUN message, in bytes.
const HEAD_BYTES: usize = 20;
/// The priority that the host's check gives to its path: that of one that a check has found. Nobody reads it.
const PRIORITY: u32 = 110 << 24;
/// The type of a success, the answer to a check that is the client's (RFC 8489).
const SUCCESS: [u8; 2] = [0x01, 0x01];
/// How many bytes may be sent to an address for each byte that came from there, before the proof (as in RFC 9000).
const FACTOR: usize = 3;
/// How often the host asks for the proof again.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// How long a proof is good without another one (section 5.1 of RFC 7675).
const PROVED_FOR: Duration = Duration::from_secs(30);
/// Most datagrams that wait for a proof: the greatest flight of DTLS, or some packets with sound.
const WAITING_MAX: usize = 8;

/// The number of the check that a datagram claims to answer with success.
pub(in crate::room_host) fn answered(bytes: &[u8]) -> Option<Question> {
    let is_answer = bytes.len() >= HEAD_BYTES && bytes.starts_with(&SUCCESS);
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
        let length = check.to_bytes(Some(self.password.as_bytes()), &mut bytes, hmac).ok()?;
        bytes.truncate(length);
        Some(bytes)
    }

    /// Whether a datagram answers the check with this number, with success and with the client's secret.
    fn answers(&self, bytes: &[u8], question: Question) -> bool {
        answered(bytes) == Some(question)
            && StunMessage::parse(bytes).is_ok_and(|answer| answer.verify(self.password.as_bytes(), hmac))
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    from_feature_flags().sha1_hmac_provider.sha1_hmac(key, parts)
}

/// An address from which the client looks for a path.
struct Source {
    /// The bytes of checks that may be sent there without a proof.
    credit: usize,
    /// The number of the host's check, while no answer has come.
    question: Option<Question>,
    /// When the last proof came, while it is good.
    proved: Option<Instant>,
}

/// The addresses from which a client looks for a path.
#[derive(Default)]
pub(super) struct Paths {
    sources: HashMap<SocketAddr, Source>,
    /// The present, once the peer knows it.
    now: Option<Instant>,
    /// Datagrams to addresses without a proof.
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Paths {
    /// The time is this one.
    pub(super) const fn pass_time(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// Whether a check from this address is looked at.
    pub(super) fn admits(&self, source: SocketAddr) -> bool {
        self.sources.len() < SOURCES_MAX || self.sources.contains_key(&source)
    }

    /// A check of this size was answered by so many bytes. Returns the number and the text of the host's own check, if one is due and
    /// may be sent.
    pub(super) fn checked(
        &mut self,
        source: SocketAddr,
        (came, sent): (usize, usize),
        credentials: &Credentials,
        now: Instant,
    ) -> Option<(Question, Vec<u8>)> {
        let new = || Source { credit: 0, question: Some(rand::random()), proved: None };
        let source = self.sources.entry(source).or_insert_with(new);
        source.credit = (source.credit + came * FACTOR).saturating_sub(sent);
        let age = source.proved.map(|at| now.saturating_duration_since(at));
        source.proved = source.proved.filter(|_| age < Some(PROVED_FOR));
        if source.question.is_none() && age < Some(ASK_EVERY) {
            return None;
        }
        let question = *source.question.get_or_insert_with(rand::random);
        let check = credentials.check(question)?;
        source.credit = source.credit.checked_sub(check.len())?;
        Some((question, check))
    }

    /// A datagram came from this address. Returns whether it is the proof.
    pub(super) fn prove(&mut self, source: SocketAddr, bytes: &[u8], credentials: &Credentials, now: Instant) -> bool {
        let Some(source) = self.sources.get_mut(&source) else { return false };
        let is_proof = source.question.is_some_and(|question| credentials.answers(bytes, question));
        if is_proof {
            source.question = None;
            source.proved = Some(now);
        }
        is_proof
    }

    /// The datagram, if it may be sent to this address now. It waits otherwise, and the oldest that waits is dropped where it is one
    /// too many.
    pub(super) fn pass(&mut self, destination: SocketAddr, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let is_good = |at: Instant| self.now.is_none_or(|now| now.saturating_duration_since(at) < PROVED_FOR);
        let proved = self.sources.get(&destination).and_then(|source| source.proved);
        if proved.is_some_and(is_good) || is_stun(&bytes) {
            return Some(bytes);
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((destination, bytes));
        None
    }

    /// What waited for the proof that the client is at this address.
    fn released(&mut self, address: SocketAddr) -> impl Iterator<Item = Vec<u8>> {
        let (released, others) = std::mem::take(&mut self.waiting).into_iter().partition(|(of, _)| *of == address);
        self.waiting = others;
        let released: VecDeque<(SocketAddr, Vec<u8>)> = released;
        released.into_iter().map(|(_, bytes)| bytes)
    }

    /// The client may have left all addresses. The proofs are good for their time.
    fn doubt(&mut self) {
        self.sources.values_mut().for_each(|source| source.question = Some(rand::random()));
    }

    /// The client looks for a new path. Until it has one, the proofs of the former ones are good for their time.
    pub(super) fn restart(&mut self, now: Instant) {
        let is_good = |source: &Source| source.proved.is_some_and(|at| now.saturating_duration_since(at) < PROVED_FOR);
        self.sources.retain(|_, source| is_good(source));
        self.doubt();
    }
}

impl Peer {
    /// Ask for new proofs of where the client is.
    pub(in crate::room_host) fn doubt_addresses(&mut self) {
        self.paths.doubt();
    }

    /// An answer to one of the host's checks came, or a forged one.
    pub(super) fn take_answer(&mut self, source: SocketAddr, bytes: &[u8], now: Instant) {
        if self.rtc.is_none() || !self.paths.prove(source, bytes, &self.credentials, now) {
            return;
        }
        self.outputs.push_back(PeerOutput::Proved { address: source });
        let released = self.paths.released(source);
        self.outputs.extend(released.map(|bytes| PeerOutput::Transmit { destination: source, bytes }));
    }

    /// Ask for the proof that the client is where a check of this size came from, if it was answered by the outputs from here on.
    pub(super) fn ask(&mut self, source: SocketAddr, came: usize, outputs_from: usize, now: Instant) {
        let sent = self.outputs.iter().skip(outputs_from).filter_map(|output| match output {
            PeerOutput::Transmit { destination, bytes } if *destination == source && is_stun(bytes) => {
                Some(bytes.len())
            }
            _ => None,
        });
        let sent: usize = sent.sum();
        if sent > 0
            && let Some((question, bytes)) = self.paths.checked(source, (came, sent), &self.credentials, now)
        {
            self.outputs.push_back(PeerOutput::Asked { question });
            self.outputs.push_back(PeerOutput::Transmit { destination: source, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials::of("v=0\r\na=ice-ufrag:client\r\na=ice-pwd:secret\r\n", "host")
    }

    fn source() -> SocketAddr {
        "192.0.2.1:5".parse().unwrap()
    }

    /// The success that a client with this secret gives to a check.
    fn success(check: &[u8], secret: &str) -> Vec<u8> {
        let answer = StunMessage::binding_reply(StunMessage::parse(check).unwrap().trans_id(), source());
        let mut bytes = vec![0; CHECK_BYTES_MAX];
        let length = answer.to_bytes(Some(secret.as_bytes()), &mut bytes, hmac).unwrap();
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn little_is_sent_to_an_address_until_it_is_proved() {
        let (credentials, now) = (credentials(), Instant::now());
        let (mut paths, source) = (Paths::default(), source());
        let (mut came, mut sent, mut asked) = (0, 0, Vec::new());
        for _ in 0..50 {
            (came, sent) = (came + 40, sent + 64);
            if let Some((question, check)) = paths.checked(source, (40, 64), &credentials, now) {
                sent += check.len();
                asked.push((question, check.clone()));
                assert_eq!(StunMessage::parse(&check).unwrap().username(), Some("client:host"));
            }
            assert!(sent <= FACTOR * came, "{sent} {came}");
        }
        asked.dedup();
        assert_eq!(asked.len(), 1, "the same question again, because it may be lost");
        let answer = success(&asked[0].1, "secret");
        assert!(!paths.prove("192.0.2.1:6".parse().unwrap(), &answer, &credentials, now));
        assert!(paths.prove(source, &answer, &credentials, now) && !paths.prove(source, &answer, &credentials, now));
        assert!(paths.checked(source, (10_000, 0), &credentials, now).is_none(), "it is proved");
        paths.doubt();
        let again = paths.checked(source, (10_000, 0), &credentials, now).map(|(question, _)| question);
        assert!(again.is_some() && again != Some(asked[0].0) && !paths.prove(source, &answer, &credentials, now));
        // Names that no client has make no check.
        let long = Credentials::of(&format!("a=ice-ufrag:{}\r\n", "x".repeat(1_000)), "host");
        assert!(paths.checked("192.0.2.1:7".parse().unwrap(), (10_000, 0), &long, now).is_none());
    }

    #[test]
    fn proof_is_a_success_with_the_secret_of_the_client() {
        let (credentials, now) = (credentials(), Instant::now());
        let (mut paths, source) = (Paths::default(), source());
        let (_, check) = paths.checked(source, (1_000, 0), &credentials, now).unwrap();
        let right = success(&check, "secret");
        let mut refusal = right.clone();
        refusal[1] = 0x11;
        let unsigned = [&SUCCESS[..], &[0, 0], &right[4..HEAD_BYTES]].concat();
        for wrong in [refusal, unsigned, success(&check, "other"), check, vec![1, 1], Vec::new()] {
            assert!(!paths.prove(source, &wrong, &credentials, now), "{wrong:?}");
        }
        assert!(paths.prove(source, &right, &credentials, now));
    }

    #[test]
    fn proof_is_asked_for_again() {
        let (credentials, now) = (credentials(), Instant::now());
        let (mut paths, source) = (Paths::default(), source());
        let mut asked = |at| paths.checked(source, (1_000, 0), &credentials, at).map(|(_, check)| check);
        let first = asked(now).unwrap();
        assert_eq!(asked(now), Some(first.clone()));
        assert!(paths.prove(source, &success(&first, "secret"), &credentials, now));
        let mut asked = |at| paths.checked(source, (1_000, 0), &credentials, at).map(|(_, check)| check);
        assert_eq!(asked(now + ASK_EVERY / 2), None);
        let second = asked(now + ASK_EVERY).unwrap();
        assert_eq!(asked(now + ASK_EVERY * 2), Some(second.clone()));
        assert_ne!(first, second);
        assert!(!paths.prove(source, &success(&first, "secret"), &credentials, now));
        assert!(paths.prove(source, &success(&second, "secret"), &credentials, now));
    }

    #[test]
    fn only_checks_go_to_an_address_that_is_not_proved() {
        let (credentials, now) = (credentials(), Instant::now());
        let (mut paths, source) = (Paths::default(), source());
        let asks = |paths: &mut Paths, at| paths.checked(source, (1_000, 0), &credentials, at).map(|(_, check)| check);
        let passes = |paths: &mut Paths, kind: u8| paths.pass(source, vec![kind, 0]).is_some();
        let check = asks(&mut paths, now).unwrap();
        assert!(passes(&mut paths, 0) && !passes(&mut paths, 128));
        for kind in 20..30 {
            assert!(!passes(&mut paths, kind));
        }
        let other = "192.0.2.1:6".parse().unwrap();
        assert_eq!((paths.pass(other, vec![22]), paths.waiting.len()), (None, WAITING_MAX));
        assert!(paths.prove(source, &success(&check, "secret"), &credentials, now));
        let released: Vec<u8> = paths.released(source).map(|bytes| bytes[0]).collect();
        assert_eq!(released, [23, 24, 25, 26, 27, 28, 29], "the newest, without that for another address");
        assert!(passes(&mut paths, 128));
        // The proof outlasts doubts and a restart, and lapses.
        paths.doubt();
        paths.restart(now + PROVED_FOR / 2);
        assert!(passes(&mut paths, 128));
        let last = asks(&mut paths, now + PROVED_FOR).unwrap();
        assert!(!passes(&mut paths, 128));
        assert!(paths.prove(source, &success(&last, "secret"), &credentials, now + PROVED_FOR));
        assert!(passes(&mut paths, 128));
        // Without another check too.
        paths.pass_time(now + PROVED_FOR * 2);
        assert!(!passes(&mut paths, 128));
        paths.restart(now + PROVED_FOR * 2);
        assert!(paths.sources.is_empty());
    }

    #[test]
    fn answers_have_the_number_of_their_check() {
        let message = |kind: [u8; 2]| [&kind[..], &[0, 0, 0x21, 0x12, 0xa4, 0x42], &[7; 12]].concat();
        assert_eq!((answered(&message([1, 1])), answered(&message([1, 0x11]))), (Some([7; 12]), None));
        assert_eq!((answered(&message([0, 1])), answered(&message([1, 1])[..19]), answered(&[])), (None, None, None));
    }
}
