//! The loop of one hosted room: inputs of links, datagrams and requests go to the room, and the room's outputs to the sockets.
//!
//! Bounds of one turn: [`INPUTS_A_TURN`], [`DATAGRAMS_A_TURN`] and [`SENDS_A_TURN`], so that none starves the others: sound of one
//! participant goes to all who hear it. A link that does not take its messages is closed. A panic, which is a bug, ends this room alone;
//! one of `str0m` ends a peer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use livekit_protocol as proto;
use prost::Message as _;
use proto::signal_response::Message as Response;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Bytes;
use wasm_worker_core::event::{DispatcherEvent, Event, HostedEvent, HostedKind};
use wasm_worker_core::observer::Events;

use super::input::{Control, Datagram, RoomInput};
use super::member::LinkId;
use super::room::{Room, RoomOutput, room_event};
use super::routes::RoomRoutes;
use crate::clock::Moment;
use crate::keys::Keys;

const INPUTS_A_TURN: usize = 32;
const DATAGRAMS_A_TURN: usize = 64;
/// Datagrams that are sent before the requests have their turn again. The packet that reaches the bound is still sent to all.
const SENDS_A_TURN: usize = 256;
/// Longest sleep. The clock of `str0m` has a distant time for "never".
const SLEEP_LONGEST: Duration = Duration::from_secs(3_600);

/// What all rooms share.
pub(super) struct Shell {
    pub(super) socket: UdpSocket,
    /// Whether the socket is for both versions of IP, where addresses of version 4 have a form of version 6.
    pub(super) is_v6: bool,
    pub(super) keys: Arc<Keys>,
    pub(super) events: Arc<Events>,
}

impl Shell {
    fn publish(&self, event: HostedEvent) {
        self.events.publish(&Event::Dispatcher(DispatcherEvent::Hosted(Box::new(event))));
    }

    /// Send a datagram. One that the system does not take at once is lost, as any may be.
    fn transmit(&self, bytes: &[u8], destination: SocketAddr) {
        let destination = match destination.ip() {
            IpAddr::V4(ip) if self.is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), destination.port()),
            IpAddr::V4(_) | IpAddr::V6(_) => destination,
        };
        drop(self.socket.try_send_to(bytes, destination));
    }
}

/// Who is in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// The participants, hidden ones too, but for agents and others who serve them.
    pub(crate) people: usize,
    /// Since when none of these is there, once one was.
    pub(crate) vacant_since: Option<Instant>,
}

/// The occupancy of a room, for the dispatcher. When the task ends, the room is vacant.
pub(super) struct Shared(pub(super) Arc<Mutex<Occupancy>>);

impl Shared {
    fn set(&self, people: usize) {
        let mut occupancy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if occupancy.people != people {
            occupancy.vacant_since = (people == 0).then(Instant::now);
        }
        occupancy.people = people;
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// One room.
pub(super) struct Task {
    pub(super) room: Room,
    pub(super) inputs: mpsc::Receiver<RoomInput>,
    pub(super) datagrams: mpsc::Receiver<Datagram>,
    pub(super) control: watch::Receiver<Control>,
    pub(super) routes: RoomRoutes,
    pub(super) shell: Arc<Shell>,
    pub(super) shared: Shared,
    /// The queues of messages to clients. A link is closed by the end of its queue.
    pub(super) links: HashMap<LinkId, mpsc::Sender<Bytes>>,
    /// The number of the last link.
    pub(super) last_link: u64,
    pub(super) turn: Turn,
    /// Whether the observers know that the room has begun.
    pub(super) has_started: bool,
}

/// The datagrams of a turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    received: usize,
    sent: usize,
}

impl Turn {
    /// Whether the turn takes another datagram, before the requests have theirs.
    const fn takes_datagrams(&self) -> bool {
        self.received < DATAGRAMS_A_TURN && self.sent < SENDS_A_TURN
    }
}

impl Task {
    /// Run the room until the dispatcher closes it, and free its seat.
    pub(super) async fn run(mut self, seat: OwnedSemaphorePermit) {
        let turns = async { while self.turn().await.is_continue() {} };
        if AssertUnwindSafe(turns).catch_unwind().await.is_err() {
            // Its participants lose their links, join again, and find a new task.
            let name = self.control.borrow().info.name.clone();
            tracing::error!(target: "dispatcher", room = name, "a bug of the host ended a room");
        }
        let (shell, control, has_started) = (self.shell.clone(), self.control.clone(), self.has_started);
        // The room is vacant before its end is told, and before its seat is free.
        drop(self);
        if has_started {
            let finished = room_event(HostedKind::RoomFinished, &control.borrow().info);
            shell.publish(finished);
        }
        drop(seat);
    }

    /// Tell the observers once that somebody is there. A room that refuses all never began for them.
    fn report_start(&mut self) {
        if self.room.is_occupied() && !self.has_started {
            self.has_started = true;
            let started = room_event(HostedKind::RoomStarted, &self.control.borrow().info);
            self.shell.publish(started);
        }
    }

    async fn turn(&mut self) -> ControlFlow<()> {
        self.turn = Turn::default();
        let longest = Instant::now() + SLEEP_LONGEST;
        let wake = self.room.wake_at().map_or(longest, |wake| wake.min(longest));
        tokio::select! {
            // The end of the room comes first. The others have their turns below, whichever came first.
            biased;
            changed = self.control.changed() => {
                let control = self.control.borrow_and_update().clone();
                // A dispatcher that is gone has no other word.
                let gone = changed.is_err().then_some(proto::DisconnectReason::ServerShutdown);
                if let Some(reason) = control.close.or(gone) {
                    self.room.close(reason, Moment::now());
                    self.perform();
                    return ControlFlow::Break(());
                }
                self.room.set_info(control.info);
            }
            Some(datagram) = self.datagrams.recv() => self.take_datagram(&datagram),
            Some(input) = self.inputs.recv() => self.take(input),
            () = sleep_until(wake) => {}
        }
        while self.turn.takes_datagrams() {
            let Ok(datagram) = self.datagrams.try_recv() else { break };
            self.take_datagram(&datagram);
        }
        for _ in 1..INPUTS_A_TURN {
            let Ok(input) = self.inputs.try_recv() else { break };
            self.take(input);
        }
        let now = Moment::now();
        if self.room.wake_at().is_some_and(|wake| wake <= now.at) {
            self.room.advance(now);
        }
        self.perform();
        self.shared.set(self.room.people());
        ControlFlow::Continue(())
    }

    fn take_datagram(&mut self, datagram: &Datagram) {
        self.turn.received += 1;
        self.room.datagram(datagram.peer, datagram.source, &datagram.bytes, Moment::now());
        self.perform();
    }

    fn take(&mut self, input: RoomInput) {
        let now = Moment::now();
        match input {
            RoomInput::Enter { entrant, frames, reply } => {
                self.last_link += 1;
                let link = LinkId(self.last_link);
                self.links.insert(link, frames);
                let entered = self.room.enter(*entrant, link, now);
                if entered.is_err() {
                    self.links.remove(&link);
                }
                self.report_start();
                // Somebody who gave up has closed the queue, and the first message finds it.
                answer(reply, entered.map(|()| link));
            }
            RoomInput::Message { link, request } => self.room.receive(link, *request, now),
            RoomInput::LinkLost { link } => {
                self.links.remove(&link);
                self.room.link_lost(link, now);
            }
            RoomInput::Participants { reply } => answer(reply, self.room.participants()),
            RoomInput::Remove { identity, reply } => answer(reply, self.room.remove_participant(&identity, now)),
            RoomInput::Update { request, reply } => answer(reply, self.room.update_participant(&request, now)),
            RoomInput::Mute { request, reply } => answer(reply, self.room.mute_track(&request, now)),
            RoomInput::Subscribe { request, reply } => answer(reply, self.room.subscribe(*request)),
            RoomInput::SendData { request, reply } => answer(reply, self.room.send_data(*request, now)),
        }
        self.perform();
    }

    /// Do what the room asks for.
    fn perform(&mut self) {
        while let Some(output) = self.room.next_output() {
            match output {
                RoomOutput::Send { links, message } => self.send(&links, &message),
                RoomOutput::Token { link, caller } => match self.shell.keys.room_token(&caller) {
                    Ok(token) => {
                        let message = proto::SignalResponse { message: Some(Response::RefreshToken(token)) };
                        self.send(&[link], &message);
                    }
                    Err(error) => {
                        tracing::warn!(target: "dispatcher", error, "cannot create a token for a participant");
                    }
                },
                RoomOutput::Close { link } => drop(self.links.remove(&link)),
                RoomOutput::Transmit { destination, bytes } => {
                    self.turn.sent += 1;
                    self.shell.transmit(&bytes, destination);
                }
                RoomOutput::Name { name, peer } => self.routes.add_name(name, peer),
                RoomOutput::Address { address, peer, is_proven } => {
                    self.routes.add_address(address, peer, is_proven);
                }
                RoomOutput::Event(event) => self.shell.publish(*event),
                RoomOutput::Question { question, peer } => self.routes.add_question(question, peer),
                RoomOutput::ForgetQuestion { question, peer } => self.routes.forget_question(question, peer),
                RoomOutput::ForgetName { name, peer } => self.routes.forget_name(&name, peer),
                RoomOutput::ForgetAddress { address, peer } => self.routes.forget_address(address, peer),
            }
        }
    }

    /// Put a message into the queues of links. A link whose queue is full is closed, and its client comes back.
    fn send(&mut self, links: &[LinkId], message: &proto::SignalResponse) {
        let frame = Bytes::from(message.encode_to_vec());
        for link in links {
            let Some(frames) = self.links.get(link) else { continue };
            if frames.try_send(frame.clone()).is_err() {
                self.links.remove(link);
                self.room.link_lost(*link, Moment::now());
            }
        }
    }
}

fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::trace!(target: "dispatcher", "the caller of a room gave up");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use livekit_token::VideoGrants;
    use wasm_worker_core::observer::Observer;
    use wasm_worker_core::secret::Secret;

    use super::*;
    use crate::keys::{Caller, Person};
    use crate::room_host::{Entrant, RoomHost};
    use crate::settings::KeyPairs;

    /// The events of rooms: their kinds, and the metadata of the room.
    #[derive(Default)]
    struct Told(Mutex<Vec<(HostedKind, String)>>);

    impl Observer for Told {
        fn observe(&self, event: &Event) {
            let Event::Dispatcher(DispatcherEvent::Hosted(event)) = event else { return };
            let metadata = event.livekit.room.details.clone().unwrap().metadata;
            self.0.lock().unwrap().push((event.kind, metadata));
        }
    }

    fn entrant(may_update: bool) -> Entrant {
        let grants = VideoGrants { can_update_own_metadata: Some(may_update), ..Default::default() };
        let person = Person { identity: "ann".into(), ..Person::default() };
        let caller = Caller { api_key: "key".into(), grants, person, room_config: Default::default(), expires_s: 0 };
        let request = Box::new(proto::JoinRequest { metadata: "m".into(), ..Default::default() });
        Entrant { caller, request, local: IpAddr::V4(Ipv4Addr::LOCALHOST), public: None, has_second_peer: false }
    }

    #[tokio::test]
    async fn room_begins_for_observers_with_its_first_participant_and_ends_as_it_is_then() {
        let told = Arc::new(Told::default());
        let keys = Arc::new(Keys::new(&KeyPairs::from([("key".into(), Secret("secret".into()))])));
        let events = Arc::new(Events::new(vec![Box::new(told.clone())]));
        let host = RoomHost::start((Ipv4Addr::LOCALHOST, 0).into(), keys, events).unwrap();
        let info = |metadata: &str| proto::Room { name: "r".into(), metadata: metadata.into(), ..Default::default() };
        let refusing = host.open(info("")).unwrap();
        assert!(refusing.handle().enter(entrant(false)).await.unwrap().is_err());
        refusing.close(proto::DisconnectReason::RoomClosed);
        host.closed().await;
        assert_eq!(*told.0.lock().unwrap(), []);
        let room = host.open(info("first")).unwrap();
        drop(room.handle().enter(entrant(true)).await.unwrap().unwrap());
        room.set_info(info("last"));
        room.close(proto::DisconnectReason::RoomClosed);
        host.closed().await;
        let expected = [(HostedKind::RoomStarted, "first".to_owned()), (HostedKind::RoomFinished, "last".to_owned())];
        assert_eq!(*told.0.lock().unwrap(), expected);
    }

    #[test]
    fn turn_ends_with_what_came_or_with_what_was_sent() {
        let takes = |received, sent| Turn { received, sent }.takes_datagrams();
        assert!(takes(DATAGRAMS_A_TURN - 1, SENDS_A_TURN - 1));
        assert!(!takes(DATAGRAMS_A_TURN, 0) && !takes(0, SENDS_A_TURN), "sound for many is sent by a few datagrams");
    }
}
