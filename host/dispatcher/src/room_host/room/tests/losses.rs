//! Losses of links and paths, and ends.

use super::*;
use crate::room_host::limits::RESUME_WITHIN;

#[test]
fn lost_link_is_resumed_without_a_gap_and_without_a_double() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let bob = world.joined("bob");
    let sid = sid_of(&world.take(ann));
    world.take(bob);
    world.send("bob", "t", b"before".to_vec());
    world.run(SHORT);
    assert_eq!(world.texts("ann"), [("bob".into(), "before".into())]);
    world.send("ann", "t", b"own".to_vec());
    world.run(SHORT);
    world.lose_link(ann);
    world.run(RESUME_WITHIN - Duration::from_secs(5));
    world.send("bob", "t", b"while away".to_vec());
    world.run(SHORT);
    let again = world.resume("ann", &sid);
    let messages = world.take(again);
    assert_eq!(names(&messages), ["reconnect", "update", "room", "token"]);
    let Response::Reconnect(reconnect) = &messages[0] else { panic!() };
    assert_eq!(reconnect.last_message_seq, 1);
    assert_eq!(updates(&messages).len(), 2, "everybody, and itself");
    // The peer has gone on meanwhile. What comes again has its old number.
    assert_eq!(world.texts("ann"), [("bob".into(), "while away".into())]);
    let publisher_sid = world.room.participants().iter().find(|one| one.identity == "bob").unwrap().sid.clone();
    let state = |last_seq| proto::SyncState {
        datachannel_receive_states: vec![proto::DataChannelReceiveState {
            publisher_sid: publisher_sid.clone(),
            last_seq,
        }],
        ..Default::default()
    };
    world.signal(again, Request::SyncState(state(1)));
    world.run(SHORT);
    assert_eq!(world.texts("ann"), [("bob".into(), "while away".into())]);
    // One return has one state.
    world.signal(again, Request::SyncState(state(1)));
    world.run(RESUME_WITHIN * 2);
    assert!(world.texts("ann").is_empty());
    assert!(world.take(bob).is_empty(), "others notice nothing");
}

#[test]
fn open_link_is_replaced_by_a_resumption_and_unknown_participants_join_again() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let sid = sid_of(&world.take(ann));
    let again = world.resume("ann", &sid);
    assert!(world.closed.contains(&ann));
    // The old link's end is not the new one's.
    world.lose_link(ann);
    world.run(RESUME_WITHIN * 2);
    assert_eq!(world.occupants(), 1);
    for (identity, sid) in [("ann", "PA_other"), ("bob", "")] {
        let link = world.resume(identity, sid);
        assert_eq!(leave_of(&world.take(link)), (Reason::StateMismatch, Action::Reconnect));
        assert!(world.closed.contains(&link));
    }
    assert!(!world.closed.contains(&again));
}

#[test]
fn participant_that_does_not_come_back_leaves() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let bob = world.joined("bob");
    world.take(bob);
    world.lose_link(ann);
    world.run(RESUME_WITHIN - SHORT);
    assert!(world.take(bob).is_empty());
    world.run(SHORT * 2);
    assert_eq!(updates(&world.take(bob)), [known(Reason::ConnectionTimeout)]);
    assert!(world.client("ann").is_closed, "its peer is ended too");
}

#[test]
fn lost_path_is_found_again_by_a_restart() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let bob = world.joined("bob");
    let sid = sid_of(&world.take(ann));
    world.take(bob);
    world.cut("ann", true);
    world.run(Duration::from_secs(20));
    assert_eq!(leave_of(&world.take(ann)), (Reason::ConnectionTimeout, Action::Resume));
    world.send("bob", "t", b"while away".to_vec());
    world.cut("ann", false);
    let again = world.resume("ann", &sid);
    let offer = world.client("ann").restart();
    world.offer("ann", again, offer);
    let messages = world.take(again);
    let Some(Response::Answer(answer)) = messages.iter().rev().nth(1) else { panic!("{:?}", names(&messages)) };
    assert_eq!(answer.id, 2);
    world.answered("ann", &answer.sdp);
    world.run(SHORT * 5);
    assert_eq!(world.texts("ann"), [("bob".into(), "while away".into())]);
    world.run(RESUME_WITHIN * 2);
    assert!(world.take(bob).is_empty() && !world.closed.contains(&again));
}

#[test]
fn participant_that_comes_back_without_a_path_is_sent_away_again() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let sid = sid_of(&world.take(ann));
    world.cut("ann", true);
    world.run(Duration::from_secs(20));
    let again = world.resume("ann", &sid);
    world.run(Duration::from_secs(14));
    assert!(!world.closed.contains(&again));
    world.run(SHORT * 2);
    assert_eq!(leave_of(&world.take(again)), (Reason::ConnectionTimeout, Action::Resume));
    world.run(RESUME_WITHIN + SHORT);
    assert_eq!(world.occupants(), 0);
}

#[test]
fn same_identity_takes_the_place_of_the_older_connection() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let bob = world.joined("bob");
    let first = sid_of(&world.take(ann));
    world.take(bob);
    let again = world.joined("ann");
    assert_eq!(leave_of(&world.take(ann)), (Reason::DuplicateIdentity, Action::Disconnect));
    assert_ne!(sid_of(&world.take(again)), first);
    let seen: Vec<State> = updates(&world.take(bob)).into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(seen, [State::Joined, State::Active], "the others hear of the new sid alone");
    world.send("ann", "t", b"anew".to_vec());
    world.run(SHORT);
    assert_eq!(world.texts("bob"), [("ann".into(), "anew".into())], "numbers begin again");
}

#[test]
fn departure_is_told_where_the_newcomer_of_the_same_identity_is_hidden() {
    let mut world = World::new();
    let (_, bob) = (world.joined("ann"), world.joined("bob"));
    world.take(bob);
    let mut hidden = caller("ann");
    hidden.grants.hidden = true;
    world.joined_as(hidden);
    world.run(TOLD_WITHIN);
    assert_eq!(updates(&world.take(bob)), [known(Reason::DuplicateIdentity)]);
}

/// The others know of a departure by then.
const TOLD_WITHIN: Duration = Duration::from_millis(250);

#[test]
fn ends_have_their_reasons() {
    let mut world = World::new();
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|identity| world.joined(identity));
    world.take(cid);
    world.signal(ann, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(leave_of(&world.take(ann)), (Reason::ClientInitiated, Action::Disconnect));
    assert!(world.room.remove_participant("bob", world.now) && !world.room.remove_participant("bob", world.now));
    world.perform(None);
    assert_eq!(leave_of(&world.take(bob)), (Reason::ParticipantRemoved, Action::Disconnect));
    assert_eq!(updates(&world.take(cid)), [], "what they sent before comes first");
    world.run(TOLD_WITHIN);
    let left = updates(&world.take(cid));
    let reasons: Vec<Reason> = left.iter().map(|(_, _, reason)| *reason).collect();
    assert_eq!(reasons, [Reason::ClientInitiated, Reason::ParticipantRemoved]);
    world.room.close(Reason::RoomDeleted, world.now);
    world.perform(None);
    let messages = world.take(cid);
    assert_eq!((names(&messages), leave_of(&messages)), (vec!["leave"], (Reason::RoomDeleted, Action::Disconnect)));
    assert_eq!((world.occupants(), world.closed.len()), (0, 3));
}

#[test]
fn participant_that_never_connects_leaves_in_time() {
    let mut world = World::new();
    let link = world.enter(caller("ann"), proto::JoinRequest::default()).unwrap();
    world.run(Duration::from_secs(29));
    assert!(!world.closed.contains(&link));
    world.run(SHORT * 2);
    assert_eq!(leave_of(&world.take(link)), (Reason::JoinFailure, Action::Reconnect));
    assert_eq!(world.occupants(), 0);
}

#[test]
fn whoever_comes_back_is_told_who_left_meanwhile() {
    let mut world = World::new();
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|identity| world.joined(identity));
    let sid = sid_of(&world.take(ann));
    world.lose_link(ann);
    world.signal(bob, Request::Leave(proto::LeaveRequest::default()));
    world.signal(cid, Request::Leave(proto::LeaveRequest::default()));
    world.run(SHORT);
    // Somebody who is here again is no loss.
    world.joined("cid");
    let again = world.resume("ann", &sid);
    let messages = world.take(again);
    assert_eq!(names(&messages), ["reconnect", "update", "update", "room", "token"]);
    let told = updates(&messages);
    assert_eq!(told[0], ("bob".into(), State::Disconnected, Reason::ClientInitiated));
    let mut present: Vec<&str> = told[1..].iter().map(|(identity, ..)| identity.as_str()).collect();
    present.sort_unstable();
    assert_eq!(present, ["ann", "cid"]);
    // Much later it is told nothing of them.
    world.run(RESUME_WITHIN * 3);
    let again = world.resume("ann", &sid);
    assert_eq!(names(&world.take(again)), ["reconnect", "update", "room", "token"]);
}

#[test]
fn return_needs_a_token_of_the_same_key_with_the_same_grants() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let sid = sid_of(&world.take(ann));
    let mut other_key = caller("ann");
    other_key.api_key = "other".into();
    let mut other_grants = caller("ann");
    other_grants.grants.can_publish_data = Some(false);
    for caller in [other_key, other_grants.clone()] {
        let link = world.resume_as(caller, &sid);
        assert_eq!(leave_of(&world.take(link)), (Reason::StateMismatch, Action::Reconnect));
        assert!(!world.closed.contains(&ann));
    }
    // An administrator takes the permission away, and the next token says so.
    let permission = proto::ParticipantPermission { can_publish: true, can_subscribe: true, ..Default::default() };
    let request =
        proto::UpdateParticipantRequest { identity: "ann".into(), permission: Some(permission), ..Default::default() };
    world.room.update_participant(&request, world.now).unwrap().unwrap();
    world.perform(None);
    let link = world.resume("ann", &sid);
    assert_eq!(leave_of(&world.take(link)), (Reason::StateMismatch, Action::Reconnect));
    let grants = &mut other_grants.grants;
    (grants.can_publish, grants.can_subscribe, grants.can_update_own_metadata) = (Some(true), Some(true), Some(false));
    let link = world.resume_as(other_grants, &sid);
    assert_eq!(names(&world.take(link))[0], "reconnect");
}

#[test]
fn another_join_does_not_hasten_the_word_of_a_departure() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.take(ann);
    world.signal(bob, Request::Leave(proto::LeaveRequest::default()));
    world.enter(caller("cid"), proto::JoinRequest::default()).unwrap();
    let identities = |world: &mut World| -> Vec<String> {
        updates(&world.take(ann)).into_iter().map(|(identity, ..)| identity).collect()
    };
    assert_eq!(identities(&mut world), ["cid"]);
    world.run(TOLD_WITHIN);
    assert_eq!(identities(&mut world), ["bob"]);
}

#[test]
fn address_is_claimed_by_every_check_and_proved_by_an_answer() {
    let mut world = World::new();
    world.joined("ann");
    let address = world.claims[0].0;
    let (id, checks) = (world.claims[0].1, world.claims.len());
    assert_eq!(world.claims[0], (address, id, false));
    assert_eq!(world.claims.iter().filter(|claim| **claim == (address, id, true)).count(), 1);
    world.run(Duration::from_secs(20));
    assert!(world.claims.len() > checks, "the checks of the path say it again");
    assert!(world.claims[checks..].iter().all(|claim| (claim.0, claim.1) == (address, id)));
    assert_eq!(world.claims[checks..].iter().filter(|claim| claim.2).count(), 1, "the proof is asked for again");
    world.cut("ann", true);
    assert!(world.forgotten.is_empty());
    world.run(Duration::from_secs(20));
    assert_eq!(world.forgotten, [(address, id)], "the path is lost");
}
