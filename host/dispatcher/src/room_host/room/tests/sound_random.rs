//! Sound: whatever participants do in whatever order, the lines carry what is to be heard, once the clients have done what they are
//! asked for.

use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::sound::PAUSE;
use super::*;

const PEOPLE: [&str; 3] = ["ann", "bob", "cid"];

/// Every line carries a track that is to be heard, and no two the same.
fn check(world: &World) {
    for (id, member) in &world.room.members {
        let (wanted, mut carried) = (world.room.wanted(*id), HashSet::new());
        for (mid, track) in member.lines.loads() {
            assert!(wanted.contains(&track) && carried.insert(track), "{mid} carries {track:?}");
        }
    }
}

/// Have the clients do what they are asked for, until nobody asks.
fn obey(world: &mut World, links: [LinkId; 3]) {
    for _ in 0..20 {
        world.run(PAUSE);
        let mut is_asked = false;
        for (identity, link) in PEOPLE.into_iter().zip(links) {
            if world.second(identity).is_some() {
                is_asked |= world.obey_offer(identity, link).is_some();
                check(world);
                continue;
            }
            let lines = world.take(link).into_iter().filter_map(|message| match message {
                Response::MediaSectionsRequirement(requirement) => Some(requirement.num_audios),
                _ => None,
            });
            let lines: Vec<u32> = lines.collect();
            if !lines.is_empty() {
                world.listen(identity, link, usize::try_from(lines.iter().sum::<u32>()).unwrap());
                is_asked = true;
            }
            check(world);
        }
        if !is_asked {
            return;
        }
    }
    panic!("the room asks for ever");
}

fn act(world: &mut World, rng: &mut StdRng, at: usize, links: &mut [LinkId; 3]) {
    let (identity, link) = (PEOPLE[at], links[at]);
    let tracks = |world: &World| -> Vec<String> {
        world.room.participants().into_iter().flat_map(|info| info.tracks).map(|track| track.sid).collect()
    };
    let tracks = tracks(world);
    let track = tracks.get(rng.random_range(0..=tracks.len())).cloned().unwrap_or_default();
    match rng.random_range(0..9) {
        0 | 1 => {
            // The messages before are lost.
            while world.second(identity).is_some() && world.obey_offer(identity, link).is_some() {}
            world.publish(identity, link, &[&rng.random::<u32>().to_string()]);
        }
        2 => {
            if let Some(mid) = world.client(identity).sending.first().copied() {
                let offer = world.client(identity).stop_sending(mid);
                world.negotiate(identity, link, offer);
            }
        }
        3 if world.second(identity).is_some() => {
            world.obey_offer(identity, link);
        }
        3 => {
            let least = usize::from(world.client(identity).receiving.is_empty());
            world.listen(identity, link, rng.random_range(least..=2));
        }
        4 => {
            let (track_sids, subscribe) = (vec![track], rng.random());
            let update = proto::UpdateSubscription { track_sids, subscribe, ..Default::default() };
            world.signal(link, Request::Subscription(update));
        }
        5 => {
            let one = proto::TrackPermission {
                participant_identity: PEOPLE[2].into(),
                all_tracks: true,
                ..Default::default()
            };
            let (all_participants, track_permissions) = (rng.random(), vec![one]);
            let permission = proto::SubscriptionPermission { all_participants, track_permissions };
            world.signal(link, Request::SubscriptionPermission(permission));
        }
        6 => {
            world.lose_link(link);
            world.run(Duration::from_millis(20));
            links[at] = world.resume(identity, "");
        }
        7 if world.second(identity).is_some() => links[at] = world.joined_with_two(identity),
        7 => links[at] = world.joined(identity),
        _ => obey(world, *links),
    }
}

#[test]
fn lines_and_tracks_agree_whatever_happens() {
    for seed in 0..20 {
        let (mut rng, mut world) = (StdRng::seed_from_u64(seed), World::new());
        let mut links = PEOPLE.map(|identity| match identity {
            "cid" => world.joined_with_two(identity),
            _ => world.joined(identity),
        });
        for _ in 0..40 {
            let at = rng.random_range(0..PEOPLE.len());
            act(&mut world, &mut rng, at, &mut links);
            check(&world);
        }
        obey(&mut world, links);
        for (id, member) in &world.room.members {
            let carried = member.lines.loads().count();
            assert_eq!(carried, world.room.wanted(*id).len(), "seed {seed}: {} hears less", member.identity());
        }
    }
}
