//! The handling of each command.

use super::{Coordinator, DEFERRED_MAX, Deferred};
use crate::clock::Moment;
use crate::command::{Command, WorkerCommand};
use crate::room_host::HostedRoom;

impl Coordinator {
    pub(super) fn handle_command(&mut self, command: Command) {
        match command {
            Command::Create { request, reply } => {
                let created = self.create_dispatch(*request).map(|(created, ops)| {
                    self.flush(ops);
                    created
                });
                self.reply_durably(reply, created);
            }
            Command::Delete { dispatch, reply } => {
                let deleted = self.delete_dispatch(dispatch);
                self.reply_durably(reply, deleted);
            }
            Command::Cancel { dispatch, reply } => {
                let open = self.cancel_dispatch(&dispatch);
                self.reply_durably(reply, open);
            }
            Command::Waiting { dispatches, reply } => {
                drop(reply.send(self.scheduler.waiting(Moment::now(), &dispatches)));
            }
            Command::Workers { reply } => drop(reply.send(self.scheduler.workers(Moment::now()))),
            Command::Counts { reply } => drop(reply.send(self.scheduler.counts())),
            Command::Rooms { names, reply } => drop(reply.send(self.list_rooms(&names))),
            Command::EnterRoom { room, requests, api_key, reply } => {
                let room = self.enter_room(*room, requests, &api_key);
                self.reply_durably(reply, room);
            }
            Command::HostedRoom { name, reply } => drop(reply.send(self.hosted.get(&name).map(HostedRoom::handle))),
            Command::CreateRoom { room, requests, api_key, reply } => {
                let created = self.create_room(*room, requests, api_key);
                self.reply_durably(reply, created);
            }
            Command::SetMetadata { room, metadata, reply } => {
                let changed = self.set_metadata(&room, metadata);
                self.reply_durably(reply, changed);
            }
            Command::DeleteRoom { name, reply } => {
                let existed = self.delete_room(name);
                self.reply_durably(reply, existed);
            }
            // `Coordinator::serve` handles it.
            Command::Stop => {}
        }
    }

    pub(super) fn handle_worker_command(&mut self, command: WorkerCommand) {
        match command {
            WorkerCommand::Register { registration, api_key, outbound, reply } => {
                self.register(*registration, api_key, outbound, reply);
            }
            WorkerCommand::Message { worker, message } => {
                self.scheduler.on_message(Moment::now(), &worker, message);
                self.flush(Vec::new());
            }
            WorkerCommand::Undeliverable { worker, job, bytes } => {
                self.scheduler.undeliverable(Moment::now(), &worker, &job, bytes);
                self.flush(Vec::new());
            }
            // A worker that pings too often receives fewer answers.
            WorkerCommand::Ping { .. } if self.deferred.len() >= DEFERRED_MAX => {}
            WorkerCommand::Ping { timestamp, outbound } => self.defer(Deferred::Pong { outbound, timestamp }),
            WorkerCommand::Simulate { worker, job } => self.simulate(&worker, *job),
            WorkerCommand::WorkerLeft { worker, why } => {
                self.connections.remove(&worker);
                self.scheduler.worker_left(Moment::now(), &worker, why);
                self.flush(Vec::new());
            }
            WorkerCommand::ProcessDied { instance } => {
                self.scheduler.process_died(Moment::now(), &instance);
                self.flush(Vec::new());
            }
            WorkerCommand::StopJobs { worker, jobs } => self.looked_up(&worker, jobs),
        }
    }
}
