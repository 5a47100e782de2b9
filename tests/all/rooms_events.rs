//! One scripted conversation in a room of a LiveKit server and in our own: people and the agent see the same events in the same order.
//!
//! `rooms_events/list.txt` has the events of each step, as a LiveKit server causes them. Rooms of both servers are compared with it, so
//! that the comparison is made where no LiveKit server is, too.

use std::sync::mpsc::Receiver;

use serde_json::{Value, json};

use crate::support::dispatcher::Dispatcher;
use crate::support::hook::patient_hook;
use crate::support::livekit_server::LiveKitServer;
use crate::support::rooms::{RoomServer, delete_room, dispatch};
use crate::support::witnesses::Stage;

const ROOM: &str = "events";

fn play(server: RoomServer, posts: Receiver<Value>) {
    let Some(mut stage) = Stage::new(server, posts, ROOM) else { return };
    let url = stage.server.url();
    stage.step("the agent joins", |_| dispatch(&url, ROOM, "agent"));
    stage.step("ann joins", |stage| stage.joins("ann"));
    texts(&mut stage);
    own_facts(&mut stage);
    facts_by_the_service(&mut stage);
    voice_of_a_person(&mut stage);
    voice_of_the_agent(&mut stage);
    second_person(&mut stage);
    stage.step("the link of ann is cut", |stage| stage.cut_links());
    stage.step("ann says something again", |stage| say(stage, "ann", "again"));
    end_of_a_voice(&mut stage);
    stage.step("the room is deleted", |_| delete_room(&url, ROOM));
}

fn order(stage: &mut Stage, who: &str, verb: &str) {
    stage.order(who, &json!({ "do": verb }));
}

fn say(stage: &mut Stage, who: &str, text: &str) {
    stage.order(who, &json!({ "do": "text", "topic": "lk.chat", "text": text }));
}

fn texts(stage: &mut Stage) {
    stage.step("ann says something", |stage| say(stage, "ann", "hello"));
    stage.step("the agent says something", |stage| stage.order_agent("ann", "say hi"));
    stage.step("ann sends data", |stage| stage.order("ann", &json!({ "do": "data", "payload": "one" })));
    stage.step("the agent sends data", |stage| stage.order_agent("ann", "send two"));
    let data = json!({ "data": "dGhyZWU=", "kind": "RELIABLE", "topic": "facts" });
    stage.step("the service sends data", |stage| drop(stage.api("SendData", data)));
    let agent = stage.agent();
    stage.step("ann calls the agent", |stage| stage.order("ann", &json!({ "do": "call", "to": agent })));
    stage.step("the agent calls ann", |stage| stage.order_agent("ann", "call ann"));
}

fn own_facts(stage: &mut Stage) {
    for (verb, value) in [("name", "Ann"), ("metadata", "m1"), ("attribute", "good")] {
        let order = json!({ "do": verb, "value": value });
        stage.step(&format!("ann sets her {verb}"), |stage| stage.order("ann", &order));
    }
    for order in ["name Agent", "metadata m2", "attribute fine"] {
        let verb = order.split(' ').next().unwrap();
        stage.step(&format!("the agent sets its {verb}"), |stage| stage.order_agent("ann", order));
    }
}

/// Change ann by the room's service.
fn update(stage: &Stage, mut change: Value) {
    change["identity"] = json!("ann");
    stage.api("UpdateParticipant", change);
}

/// Permissions of ann, who may or may not publish and change her facts.
fn permit(stage: &Stage, is_all: bool) {
    let may = json!({ "can_subscribe": true, "can_publish_data": true, "can_publish": is_all, "can_update_metadata": is_all });
    update(stage, json!({ "permission": may }));
}

fn facts_by_the_service(stage: &mut Stage) {
    stage.step("the service sets the name of ann", |stage| update(stage, json!({ "name": "Anna" })));
    stage.step("the service sets the metadata of ann", |stage| update(stage, json!({ "metadata": "m3" })));
    let mood = |mood: &str| json!({ "attributes": { "mood": mood } });
    stage.step("the service sets an attribute of ann", |stage| update(stage, mood("bad")));
    stage.step("the service removes it", |stage| update(stage, mood("")));
    let all = json!({ "name": "Ann", "metadata": "m4", "attributes": { "mood": "calm" } });
    stage.step("the service sets all facts of ann", |stage| update(stage, all));
    let room = json!({ "metadata": "m5" });
    stage.step("the service sets the metadata of the room", |stage| drop(stage.api("UpdateRoomMetadata", room)));
    stage.step("ann may not publish", |stage| permit(stage, false));
    let name = json!({ "do": "name", "value": "Eve" });
    stage.step("ann sets her name without permission", |stage| stage.order("ann", &name));
    stage.step("ann may publish", |stage| permit(stage, true));
}

fn voice_of_a_person(stage: &mut Stage) {
    stage.step("ann publishes her voice", |stage| order(stage, "ann", "publish"));
    stage.step("ann speaks", |stage| order(stage, "ann", "speak"));
    stage.step("ann mutes her voice", |stage| order(stage, "ann", "mute"));
    stage.step("ann unmutes her voice", |stage| order(stage, "ann", "unmute"));
    stage.step("the service mutes ann", |stage| stage.mutes_track_of("ann"));
    stage.step("ann unmutes her voice again", |stage| order(stage, "ann", "unmute"));
    stage.step("ann is silent", |stage| order(stage, "ann", "hush"));
}

fn voice_of_the_agent(stage: &mut Stage) {
    stage.step("the agent publishes its voice", |stage| stage.order_agent("ann", "publish"));
    stage.step("the agent speaks", |stage| stage.order_agent("ann", "speak"));
    stage.step("the agent mutes its voice", |stage| stage.order_agent("ann", "mute"));
    stage.step("the agent unmutes its voice", |stage| stage.order_agent("ann", "unmute"));
    let agent = stage.agent();
    stage.step("the service mutes the agent", |stage| stage.mutes_track_of(&agent));
    stage.step("the agent unmutes its voice again", |stage| stage.order_agent("ann", "unmute"));
    stage.step("the agent unpublishes its voice", |stage| stage.order_agent("ann", "unpublish"));
}

fn second_person(stage: &mut Stage) {
    stage.step("bob joins", |stage| stage.joins("bob"));
    stage.step("bob says something", |stage| say(stage, "bob", "hello"));
    stage.step("bob publishes his voice", |stage| order(stage, "bob", "publish"));
    stage.step("bob leaves", |stage| order(stage, "bob", "leave"));
    stage.step("bob joins again", |stage| stage.joins("bob"));
    stage.step("bob joins by another client", |stage| stage.joins_as("rob", "bob"));
    let bob = json!({ "identity": "bob" });
    stage.step("the service removes bob", |stage| drop(stage.api("RemoveParticipant", bob)));
}

fn end_of_a_voice(stage: &mut Stage) {
    stage.step("ann unpublishes her voice", |stage| order(stage, "ann", "unpublish"));
    stage.step("ann publishes another voice", |stage| order(stage, "ann", "publish"));
    stage.step("ann may not publish any more", |stage| permit(stage, false));
}

#[test]
fn people_and_agent_see_the_events_of_the_list_in_our_own_room() {
    let (url, posts) = patient_hook();
    let flags = ["--webhook", Box::leak(url.into_boxed_str()), "--api-key", "devkey", "--api-secret", "secret"];
    play(RoomServer::Own(Dispatcher::start(&flags)), posts);
}

#[test]
fn people_and_agent_see_the_events_of_the_list_on_a_livekit_server() {
    let (url, posts) = patient_hook();
    let Some(server) = LiveKitServer::with_webhook("events of a room", &url) else { return };
    play(RoomServer::LiveKit(server), posts);
}
