//! What a server answers to the offer of a peer connection, and the addresses and datagrams that follow.

use std::time::Duration;

use wasm_worker_room::bare::BarePeer;

use crate::parts::{filled, parts};

/// A step that takes time takes up to 26 seconds.
const TICK: Duration = Duration::from_millis(100);
/// Most addresses that a peer asks the way to between two restarts.
const REACHED_MAX: usize = 16;
/// A password as a server makes one, for inputs that are to be taken.
const FINGERPRINT: &str =
    "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99";

/// A part that begins with `a` is an answer to the newest offer, and with `A` one with another number. A part that begins with
/// `c` is an address, and with `d` a datagram. Another part has steps of two bytes: what happens, and which. `{fingerprint}` stands
/// for one.
pub fn run(bytes: &[u8]) {
    let (mut peer, mut reached) = (BarePeer::default(), 0);
    for part in parts(bytes) {
        let part = filled(part, &[("{fingerprint}", FINGERPRINT)]);
        match part.as_slice() {
            [b'a', sdp @ ..] => answer(&mut peer, 0, sdp),
            [b'A', number, sdp @ ..] => answer(&mut peer, u32::from(*number), sdp),
            [b'c', json @ ..] => {
                if let Ok(json) = std::str::from_utf8(json) {
                    peer.candidate(json);
                }
            }
            [b'd', datagram @ ..] => peer.datagram(datagram),
            steps => steps.chunks_exact(2).for_each(|step| match step[0] {
                b'w' => peer.pass(TICK * step[1].into()),
                b'l' => peer.local(5_000 + u16::from(step[1])),
                b's' => peer.want_lines(u32::from(step[1])),
                b'r' => {
                    peer.restart();
                    reached = 0;
                }
                _ => {}
            }),
        }
        reached += peer.take_reached();
        assert!(reached <= REACHED_MAX, "{reached} addresses are asked for");
    }
    peer.pass(Duration::from_secs(60));
}

/// An answer is taken or refused with a reason, and the offer stays as it was.
fn answer(peer: &mut BarePeer, number: u32, sdp: &[u8]) {
    let Ok(sdp) = std::str::from_utf8(sdp) else { return };
    let before = peer.offer().1.to_owned();
    // The sections that the answer names, each with a track.
    let mids = sdp.lines().filter_map(|line| line.strip_prefix("a=mid:"));
    let tracks: Vec<_> = mids.map(|mid| (mid, "TR_1")).collect();
    if let Err(why) = peer.answer(number, sdp, &tracks) {
        assert!(!why.is_empty());
    }
    assert_eq!(peer.offer().1, before);
}
