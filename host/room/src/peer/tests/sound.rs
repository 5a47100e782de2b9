//! Lines for sound, offers, and what goes over the lines.

use std::collections::HashMap;
use std::time::Duration;

use super::super::lines::LINES_MAX;
use super::Pair;
use crate::audio::playout::Outgoing;
use crate::peer::{PeerOutput, Transport};

#[test]
fn one_offer_is_open_at_a_time_and_the_next_one_has_all_that_was_wanted_meanwhile() {
    let mut pair = Pair::connected(Transport::Udp);
    pair.peer.want_lines(2);
    let first = pair.peer.next_offer(pair.now).unwrap().clone();
    let line = pair.peer.add_own("mine".into()).unwrap();
    pair.peer.restart();
    pair.peer.want_lines(1);
    assert!(pair.peer.next_offer(pair.now).is_none(), "the first one has no answer");
    assert_eq!(pair.peer.open_offer(), Some(&first));
    let answer = pair.server.answer(&first);
    pair.peer.take_answer(answer, &HashMap::new(), pair.now).unwrap();
    let second = pair.peer.next_offer(pair.now).unwrap().clone();
    assert_eq!((first.id, second.id), (2, 3));
    let answer = pair.server.answer(&second);
    assert_eq!(pair.server.names.values().collect::<Vec<_>>(), ["mine"]);
    assert_eq!(pair.server.sections(), 3, "a free line carries the agent's track");
    pair.peer.take_answer(answer, &HashMap::new(), pair.now).unwrap();
    pair.peer.take_candidate(&pair.server.candidate(), pair.now);
    pair.until(Duration::from_secs(5), |pair| pair.peer.is_live(line));
    assert!(pair.peer.next_offer(pair.now).is_none(), "nothing is wanted");
}

#[test]
fn lines_are_bounded_and_an_offer_is_made_again_where_the_server_wants_one() {
    let mut pair = Pair::connected(Transport::Udp);
    let negotiate = |pair: &mut Pair| {
        let offer = pair.peer.next_offer(pair.now).unwrap().clone();
        let answer = pair.server.answer(&offer);
        pair.peer.take_answer(answer, &HashMap::new(), pair.now).unwrap();
        offer.sdp
    };
    pair.peer.want_lines(0);
    negotiate(&mut pair);
    assert_eq!(pair.server.sections(), 1, "there was none to be offered again");
    pair.peer.want_lines(0);
    let sdp = negotiate(&mut pair);
    assert_eq!((pair.server.sections(), sdp.matches("a=recvonly").count()), (1, 1));
    for _ in 0..3 {
        pair.peer.want_lines(u32::MAX);
        negotiate(&mut pair);
        assert_eq!(pair.server.sections(), LINES_MAX);
    }
    let owns: Vec<_> = (0..=LINES_MAX).map(|number| pair.peer.add_own(format!("own-{number}"))).collect();
    assert_eq!(owns.iter().flatten().count(), LINES_MAX);
    negotiate(&mut pair);
    assert_eq!(pair.server.names.len(), LINES_MAX);
}

#[test]
fn sound_goes_both_ways_over_a_path_that_loses_some() {
    let mut pair = Pair::connected(Transport::Udp);
    let line = pair.peer.add_own("mine".into()).unwrap();
    pair.peer.want_lines(1);
    let offer = pair.peer.next_offer(pair.now).unwrap().clone();
    let answer = pair.server.answer(&offer);
    let section = pair.server.free_sections().pop().unwrap();
    pair.server.tracks.insert(section, "TR_1".into());
    let tracks = pair.server.tracks.clone();
    pair.peer.take_answer(answer, &tracks, pair.now).unwrap();
    let heard_on = pair.peer.line_of("TR_1").unwrap();
    assert!(pair.peer.is_live(line) && heard_on != line && pair.peer.line_of("TR_2").is_none());
    pair.told.clear();
    pair.loss = 10;
    for (byte, number) in (0_u8..100).zip(0..) {
        let packet = |time, level| {
            let payload = vec![byte, 2, 3];
            Outgoing { payload, time, starts_talk: time == 0, level, late_by: Duration::ZERO }
        };
        assert!(pair.peer.write_sound(line, packet(number * 960, -20), pair.now));
        // A second one at the same time, as after a stall.
        assert!(pair.peer.write_sound(line, packet(number * 960 + 480, -127), pair.now));
        assert!(pair.server.send_sound("TR_1", number * 960, &[byte, 5], pair.now));
        pair.holds_within(Duration::from_millis(20), |_| false);
    }
    pair.holds_within(Duration::from_secs(1), |_| false);
    let sent = pair.server.sound.len();
    assert!((170..200).contains(&sent), "{sent} of 200");
    let of_level = |level| pair.server.sound.iter().filter(|sound| sound.level == Some(level)).count();
    assert!(of_level(-20) > 80 && of_level(-20) + of_level(-127) == sent, "servers tell by the level who speaks");
    let sound = pair.told.iter().filter_map(|output| match output {
        PeerOutput::Sound(line, packet) => Some((*line, packet)),
        _ => None,
    });
    let heard: Vec<_> = sound.collect();
    assert!((80..100).contains(&heard.len()), "{} of 100", heard.len());
    assert!(heard.iter().all(|(line, packet)| *line == heard_on && packet.payload[1] == 5));
    assert!(heard.iter().any(|(_, packet)| !packet.contiguous), "losses are told");
    let times: Vec<u64> = heard.iter().map(|(_, packet)| packet.time).collect();
    assert!(times.is_sorted() && times.iter().all(|time| (time - times[0]).is_multiple_of(960)));
}

#[test]
fn a_line_gets_another_track_of_the_agent_only_after_an_offer_without_one() {
    let mut pair = Pair::connected(Transport::Udp);
    let negotiate = |pair: &mut Pair| {
        let offer = pair.peer.next_offer(pair.now).unwrap().clone();
        let answer = pair.server.answer(&offer);
        pair.peer.take_answer(answer, &HashMap::new(), pair.now).unwrap();
    };
    let one = pair.peer.add_own("one".into()).unwrap();
    negotiate(&mut pair);
    assert!(pair.peer.is_live(one));
    pair.peer.end_own(one);
    let two = pair.peer.add_own("two".into()).unwrap();
    assert_ne!(one, two, "the server would take it for the first one");
    negotiate(&mut pair);
    assert_eq!(pair.server.names.values().collect::<Vec<_>>(), ["two"]);
    assert!(pair.peer.is_live(two) && !pair.peer.is_live(one));
    let three = pair.peer.add_own("three".into()).unwrap();
    assert_eq!(three, one);
    let offer = pair.peer.next_offer(pair.now).unwrap().clone();
    assert!(!pair.peer.is_live(three), "the server did not answer");
    let answer = pair.server.answer(&offer);
    pair.peer.take_answer(answer, &HashMap::new(), pair.now).unwrap();
    assert!(pair.peer.is_live(three));
}
