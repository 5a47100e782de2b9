mod sound;

use std::collections::HashMap;
use std::time::Duration;

use super::other_side::OtherSide;
use super::output::AnswerError;
use super::*;

const OWN: &str = "192.0.2.1:5000";
const SERVER: &str = "192.0.2.9:7882";
const LATENCY: Duration = Duration::from_millis(5);

/// A peer and its server in virtual time.
struct Pair {
    peer: Peer,
    server: OtherSide,
    now: Instant,
    /// Datagrams under way, by their arrival.
    to_peer: VecDeque<(Instant, Datagram<Box<[u8]>>)>,
    to_server: VecDeque<(Instant, Datagram<Box<[u8]>>)>,
    /// Every so many datagrams one is lost; 0: none.
    loss: usize,
    is_cut: bool,
    sent: usize,
    /// What the peer told.
    told: Vec<PeerOutput>,
}

impl Pair {
    fn new(transport: Transport) -> Self {
        let now = Instant::now();
        let peer = Peer::new(now);
        let server = OtherSide::new(transport, SERVER.parse().unwrap(), now);
        let (to_peer, to_server, told) = (VecDeque::new(), VecDeque::new(), Vec::new());
        Self { peer, server, now, to_peer, to_server, loss: 0, is_cut: false, sent: 0, told }
    }

    /// Exchange offer, answer and address.
    fn negotiate(&mut self) {
        let answer = self.server.answer(self.peer.offer());
        self.peer.take_answer(answer, &HashMap::new(), self.now).unwrap();
        self.peer.take_candidate(&self.server.candidate(), self.now);
    }

    fn connected(transport: Transport) -> Self {
        let mut pair = Self::new(transport);
        pair.negotiate();
        pair.until(Duration::from_secs(5), |pair| pair.peer.is_ready());
        pair
    }

    /// The offer that looks for paths from the beginning.
    fn restart(&mut self) -> Description {
        self.peer.restart();
        self.peer.next_offer(self.now).unwrap().clone()
    }

    fn is_lost(&mut self) -> bool {
        self.sent += 1;
        self.is_cut || (self.loss > 0 && self.sent.is_multiple_of(self.loss))
    }

    /// Let time pass until something holds. Whether it does.
    fn holds_within(&mut self, most: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + most;
        loop {
            self.move_outputs();
            if holds(self) {
                return true;
            }
            self.move_outputs();
            let arrivals = [self.to_peer.front(), self.to_server.front()].into_iter().flatten().map(|(at, _)| *at);
            let timers = self.peer.wake_at().into_iter().chain([self.server.wake_at]);
            let next = arrivals.chain(timers).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            self.deliver();
        }
    }

    fn until(&mut self, most: Duration, holds: impl FnMut(&mut Self) -> bool) {
        assert!(self.holds_within(most, holds), "not within {most:?}: {:?}", self.told);
    }

    fn move_outputs(&mut self) {
        while let Some(output) = self.peer.next_output() {
            match output {
                PeerOutput::Transmit(datagram) => {
                    if !self.is_lost() {
                        self.to_server.push_back((self.now + LATENCY, datagram));
                    }
                }
                PeerOutput::Reach { transport, .. } => {
                    self.told.push(output);
                    self.peer.take_local(transport, OWN.parse().unwrap(), self.now);
                }
                output => self.told.push(output),
            }
        }
        while let Some(datagram) = self.server.outputs.pop_front() {
            if !self.is_lost() {
                self.to_peer.push_back((self.now + LATENCY, datagram));
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((_, datagram)) = self.to_server.pop_front_if(|(at, _)| *at <= self.now) {
            self.server.receive(&datagram, self.now);
        }
        while let Some((_, datagram)) = self.to_peer.pop_front_if(|(at, _)| *at <= self.now) {
            let Datagram { transport, source, destination, bytes } = datagram;
            self.peer.receive(&Datagram { transport, source, destination, bytes: bytes.as_ref() }, self.now);
        }
        self.peer.advance(self.now);
        if self.server.wake_at <= self.now {
            self.server.advance(self.now);
        }
    }

    fn messages(&self) -> Vec<&[u8]> {
        let messages = self.told.iter().filter_map(|output| match output {
            PeerOutput::Message { bytes, .. } => Some(bytes.as_slice()),
            _ => None,
        });
        messages.collect()
    }

    fn has_told(&self, is_it: impl Fn(&PeerOutput) -> bool) -> bool {
        self.told.iter().any(is_it)
    }
}

#[test]
fn two_peers_connect_and_exchange_messages_on_both_channels() {
    let mut pair = Pair::connected(Transport::Udp);
    assert!(pair.has_told(|output| matches!(output, PeerOutput::Ready)));
    assert_eq!(pair.peer.write(Channel::Reliable, b"r", pair.now), Written::Taken);
    assert_eq!(pair.peer.write(Channel::Lossy, b"l", pair.now), Written::Taken);
    pair.until(Duration::from_secs(1), |pair| pair.server.received.len() == 2);
    let mut received = pair.server.received.clone();
    received.sort();
    assert_eq!(received, [("_lossy".into(), b"l".to_vec()), ("_reliable".into(), b"r".to_vec())]);
    pair.until(Duration::from_secs(1), |pair| pair.peer.unacknowledged() == Some(0));
    pair.server.write("_reliable", b"answer");
    pair.until(Duration::from_secs(1), |pair| pair.messages() == [b"answer"]);
}

#[test]
fn reliable_messages_arrive_in_order_over_a_path_that_loses_every_tenth_datagram() {
    let mut pair = Pair::connected(Transport::Udp);
    pair.loss = 10;
    for number in 0..200_u32 {
        assert_eq!(pair.peer.write(Channel::Reliable, &number.to_be_bytes(), pair.now), Written::Taken);
    }
    pair.until(Duration::from_secs(60), |pair| pair.server.received.len() == 200);
    let numbers =
        pair.server.received.iter().map(|(_, bytes)| u32::from_be_bytes(bytes.as_slice().try_into().unwrap()));
    assert!(numbers.eq(0..200));
}

#[test]
fn messages_beyond_the_buffer_are_not_taken_until_it_has_space() {
    let mut pair = Pair::connected(Transport::Udp);
    pair.told.clear();
    let message = vec![7; 60_000];
    let taken =
        (0..10).take_while(|_| pair.peer.write(Channel::Reliable, &message, pair.now) == Written::Taken).count();
    assert_eq!(taken, BUFFERED_BYTES_MAX / 60_000);
    pair.until(Duration::from_secs(10), |pair| pair.has_told(|output| matches!(output, PeerOutput::Writable)));
    assert_eq!(pair.peer.write(Channel::Reliable, &message, pair.now), Written::Taken);
    pair.until(Duration::from_secs(10), |pair| pair.server.received.len() == taken + 1);
}

#[test]
fn addresses_of_tcp_are_tried_where_udp_finds_no_path() {
    let mut pair = Pair::new(Transport::Tcp);
    pair.negotiate();
    let is_reach = |output: &PeerOutput| matches!(output, PeerOutput::Reach { transport: Transport::Tcp, .. });
    assert!(!pair.holds_within(TCP_AFTER - Duration::from_millis(1), |pair| pair.has_told(is_reach)));
    pair.until(Duration::from_secs(5), |pair| pair.peer.is_ready());
    assert!(pair.has_told(is_reach));
}

#[test]
fn a_path_that_is_cut_is_noticed_and_a_restart_finds_it_again() {
    let mut pair = Pair::connected(Transport::Udp);
    pair.is_cut = true;
    assert_eq!(pair.peer.write(Channel::Reliable, b"across the cut", pair.now), Written::Taken);
    pair.until(Duration::from_secs(30), |pair| pair.has_told(|output| matches!(output, PeerOutput::Unreachable)));
    assert!(!pair.peer.is_ready());
    pair.is_cut = false;
    let offer = pair.restart();
    assert_eq!(offer.id, 2);
    let answer = pair.server.answer(&offer);
    pair.peer.take_answer(answer, &HashMap::new(), pair.now).unwrap();
    pair.peer.take_candidate(&pair.server.candidate(), pair.now);
    pair.until(Duration::from_secs(5), |pair| pair.peer.is_ready());
    pair.until(Duration::from_secs(70), |pair| pair.server.received.len() == 1);
    assert_eq!(pair.server.received[0].1, b"across the cut");
}

#[test]
fn peer_is_over_with_the_connection_of_tcp_that_carries_it() {
    let (server, own) = (SERVER.parse().unwrap(), OWN.parse().unwrap());
    let mut by_udp = Pair::connected(Transport::Udp);
    by_udp.peer.lose_tcp(server, Some(own));
    assert!(by_udp.peer.is_ready());

    let mut pair = Pair::connected(Transport::Tcp);
    pair.peer.lose_tcp("192.0.2.9:1".parse().unwrap(), Some(own));
    pair.peer.lose_tcp(server, Some("192.0.2.1:1".parse().unwrap()));
    pair.peer.lose_tcp(server, None);
    assert!(pair.peer.is_ready(), "other connections");
    pair.peer.lose_tcp(server, Some(own));
    assert!(!pair.peer.is_ready());
    pair.move_outputs();
    assert!(pair.has_told(|output| matches!(output, PeerOutput::Closed { .. })));
}

#[test]
fn a_server_that_ends_the_connection_is_heard() {
    let mut pair = Pair::connected(Transport::Udp);
    pair.server.close();
    pair.until(Duration::from_secs(1), |pair| pair.has_told(|output| matches!(output, PeerOutput::Closed { .. })));
    assert_eq!(pair.peer.write(Channel::Reliable, b"late", pair.now), Written::Closed);
}

#[test]
fn garbage_and_foreign_datagrams_change_nothing() {
    let mut pair = Pair::connected(Transport::Udp);
    let told = pair.told.len();
    let garbage: [&[u8]; 6] = [&[], &[0], &[0; 20], &[22; 60], &[128; 40], &[255; 1_500]];
    for bytes in garbage {
        for source in [SERVER, "198.51.100.1:9"] {
            let (source, destination) = (source.parse().unwrap(), OWN.parse().unwrap());
            let datagram = Datagram { transport: Transport::Udp, source, destination, bytes };
            pair.peer.receive(&datagram, pair.now);
        }
    }
    for json in ["", "{}", r#"{"candidate":"candidate:x"}"#] {
        pair.peer.take_candidate(json, pair.now);
    }
    pair.move_outputs();
    assert_eq!(pair.told.len(), told);
    pair.peer.write(Channel::Reliable, b"still here", pair.now);
    pair.until(Duration::from_secs(1), |pair| pair.server.received.len() == 1);
}

#[test]
fn answers_that_fit_no_offer_are_refused() {
    let now = Instant::now();
    let mut peer = Peer::new(now);
    let answer = |id, sdp: &str| Description { id, sdp: sdp.into() };
    assert!(matches!(
        peer.take_answer(answer(7, ""), &HashMap::new(), now),
        Err(AnswerError::Number { got: 7, want: 1 })
    ));
    let long = "a".repeat(ANSWER_BYTES_MAX + 1);
    assert!(matches!(peer.take_answer(answer(1, &long), &HashMap::new(), now), Err(AnswerError::TooLong { .. })));
    for sdp in ["", "v=0", "v=0\r\n\u{0}", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"] {
        let mut peer = Peer::new(now);
        assert!(
            matches!(peer.take_answer(answer(1, sdp), &HashMap::new(), now), Err(AnswerError::Unusable(_))),
            "{sdp:?}"
        );
    }
}

#[test]
fn answers_that_come_again_or_late_change_nothing() {
    let mut pair = Pair::new(Transport::Udp);
    let first = pair.server.answer(pair.peer.offer());
    for id in [1, 1, 0] {
        pair.peer.take_answer(Description { id, ..first.clone() }, &HashMap::new(), pair.now).unwrap();
    }
    pair.peer.take_candidate(&pair.server.candidate(), pair.now);
    pair.until(Duration::from_secs(5), |pair| pair.peer.is_ready());
    let offer = pair.restart();
    pair.peer.take_answer(first.clone(), &HashMap::new(), pair.now).unwrap();
    assert_eq!(*pair.peer.answer(), first, "the restart has no answer yet");
    let second = pair.server.answer(&offer);
    pair.peer.take_answer(second.clone(), &HashMap::new(), pair.now).unwrap();
    assert_eq!(*pair.peer.answer(), second);
    pair.peer.take_candidate(&pair.server.candidate(), pair.now);
    pair.until(Duration::from_secs(5), |pair| pair.peer.is_ready());
}

#[test]
fn addresses_are_bounded_until_a_restart() {
    let mut pair = Pair::new(Transport::Udp);
    let answer = pair.server.answer(pair.peer.offer());
    pair.peer.take_answer(answer, &HashMap::new(), pair.now).unwrap();
    let reached = |pair: &mut Pair| {
        pair.told.clear();
        for port in 1..=100 {
            let json = format!(r#"{{"candidate":"candidate:1 1 udp 1 192.0.2.7 {port} typ host"}}"#);
            pair.peer.take_candidate(&json, pair.now);
        }
        pair.move_outputs();
        pair.told.iter().filter(|output| matches!(output, PeerOutput::Reach { .. })).count()
    };
    assert_eq!((reached(&mut pair), reached(&mut pair)), (CANDIDATES_MAX, 0));
    pair.restart();
    assert_eq!(reached(&mut pair), CANDIDATES_MAX);
}

/// The answer of a server to another offer, without a fingerprint. `str0m` is over with it, and tells no event.
const OTHER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=ice-ufrag:abcdefgh\r\n\
    a=ice-pwd:abcdefghijklmnopqrstuvwxyzabcdef\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n\
    a=sendrecv\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:1 cname:x\r\na=msid:a b\r\n";

#[test]
fn a_peer_that_is_over_by_an_answer_says_so_and_does_not_want_to_be_woken() {
    let now = Instant::now();
    let mut peer = Peer::new(now);
    assert!(peer.take_answer(Description { id: 0, sdp: OTHER.into() }, &HashMap::new(), now).is_err());
    let closed = std::iter::from_fn(|| peer.next_output()).filter(|output| matches!(output, PeerOutput::Closed { .. }));
    assert_eq!(closed.count(), 1);
    assert_eq!(peer.wake_at(), None);
}
