//! The addresses of clients, and forged ones.

use std::collections::HashSet;

use super::*;
use crate::room_host::member::{PeerId, Side};
use crate::room_host::peer::{SOURCES_MAX, is_stun};

#[test]
fn client_checks_the_path_from_a_bounded_number_of_addresses() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let (address, id, _) = world.claims[0];
    let check = world.checks[&address].clone();
    let from_everywhere = |world: &mut World| {
        world.claims.clear();
        for number in 0..=255 {
            world.room.datagram(PeerId(id, Side::First), ([10, 9, 9, number], 5).into(), &check, world.now);
        }
        world.perform(None);
        world.claims.iter().map(|(address, ..)| *address).collect::<HashSet<_>>().len()
    };
    assert_eq!(from_everywhere(&mut world), SOURCES_MAX - 1, "the client has one");
    // Those that were answered are answered again.
    assert_eq!(from_everywhere(&mut world), SOURCES_MAX - 1);
    world.run(SHORT * 5);
    world.send("ann", "t", b"still here".to_vec());
    assert!(!world.closed.contains(&ann));
}

#[test]
fn forged_address_is_never_proved() {
    let mut world = World::new();
    let ann = world.joined("ann");
    world.publish("ann", ann, &["voice"]);
    let (address, id, _) = world.claims[0];
    let (forged, check) = ("192.0.2.9:5".parse().unwrap(), world.checks[&address].clone());
    world.claims.clear();
    let mut answers = 0;
    for _ in 0..20 {
        world.room.datagram(PeerId(id, Side::First), forged, &check, world.now);
        // Data that is genuine, from there.
        let (mid, now) = (world.client("ann").sending[0], world.now.at);
        world.client("ann").speak(mid, &[vec![7]], -20, now);
        let datagrams = std::mem::take(&mut world.client("ann").outbox);
        for (_, datagram) in datagrams {
            world.room.datagram(PeerId(id, Side::First), forged, &datagram, world.now);
        }
        world.perform(None);
        // The owner of the address refuses a check that is not for it, and who guesses the answer does not know the secret.
        let asked = std::mem::take(&mut world.stray).into_iter().filter(|(_, bytes)| bytes.starts_with(&[0, 1]));
        for (_, question) in asked {
            answers += 1;
            for kind in [[1, 0x11], [1, 1]] {
                let answer = [&kind[..], &[0, 0], &question[4..20]].concat();
                world.room.datagram(PeerId(id, Side::First), forged, &answer, world.now);
            }
        }
        world.perform(None);
        world.run(Duration::from_millis(20));
    }
    assert!(answers > 0, "the host asks");
    let claims: Vec<bool> = world.claims.iter().filter(|claim| claim.0 == forged).map(|claim| claim.2).collect();
    assert!(claims.len() >= 20 && claims.iter().all(|is_proven| !is_proven), "{claims:?}");
}

#[test]
fn sound_and_data_do_not_go_to_a_forged_address() {
    let mut world = World::new();
    world.joined("ann");
    let bob = world.joined("bob");
    world.publish("bob", bob, &["voice"]);
    let (address, id, _) = world.claims[0];
    let (forged, check) = ("192.0.2.9:5".parse().unwrap(), world.checks[&address].clone());
    let check = world.client("ann").preferring(&check);
    let mut came = Vec::new();
    for _ in 0..500 {
        world.room.datagram(PeerId(id, Side::First), forged, &check, world.now);
        world.try_send("bob", "t", b"for ann".to_vec());
        let (mid, now) = (world.client("bob").sending[0], world.now.at);
        world.client("bob").speak(mid, &[vec![7]], -20, now);
        world.perform(None);
        world.run(Duration::from_millis(20));
        came.extend(std::mem::take(&mut world.stray).into_iter().filter(|(to, _)| *to == forged));
    }
    assert!(came.len() >= 500, "the checks are answered");
    let others = came.iter().filter(|(_, bytes)| !is_stun(bytes)).count();
    assert_eq!(others, 0, "of {} datagrams", came.len());
}

#[test]
fn address_that_is_proved_outlasts_those_that_are_not() {
    let mut world = World::new();
    world.joined("ann");
    let (address, id, _) = world.claims[0];
    let check = world.checks[&address].clone();
    for number in 0..40 {
        world.room.datagram(PeerId(id, Side::First), ([10, 9, 9, number], 5).into(), &check, world.now);
    }
    world.perform(None);
    assert!(world.forgotten.len() > 30 && !world.forgotten.contains(&(address, id)), "{:?}", world.forgotten);
}
