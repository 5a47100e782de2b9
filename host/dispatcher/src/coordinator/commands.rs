//! The handling of each command.

use super::{Coordinator, DEFERRED_MAX, Deferred};
use crate::clock::Moment;
use crate::command::Command;
use crate::store::StoreOp;

impl Coordinator {
    pub(super) async fn handle_command(&mut self, command: Command) {
        match command {
            Command::Create { request, reply } => match self.create_dispatch(*request) {
                Ok((created, ops)) => {
                    self.flush(ops).await;
                    self.reply_durably(reply, Ok(created));
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Delete { dispatch, reply } => {
                let now = Moment::now();
                self.scheduler.cancel(now, &dispatch, "the dispatch was deleted");
                self.flush(vec![StoreOp::Deleted { dispatch: dispatch.into(), at_ns: now.wall_ns }]).await;
                self.reply_durably(reply, ());
            }
            Command::Cancel { dispatch, reply } => {
                let open = self.scheduler.cancel(Moment::now(), &dispatch, "the dispatch was cancelled");
                self.flush(Vec::new()).await;
                self.reply_durably(reply, open);
            }
            Command::Waiting { dispatches, reply } => {
                drop(reply.send(self.scheduler.waiting(Moment::now(), &dispatches)));
            }
            Command::Workers { reply } => drop(reply.send(self.scheduler.workers(Moment::now()))),
            Command::Counts { reply } => drop(reply.send(self.scheduler.counts())),
            Command::Rooms { names, reply } => drop(reply.send(self.list_rooms(&names))),
            Command::CreateRoom { room, requests, api_key, reply } => {
                let created = self.create_room(*room, requests, api_key).await;
                self.reply_durably(reply, created);
            }
            Command::SetMetadata { room, metadata, reply } => {
                let changed = self.set_metadata(&room, metadata).await;
                self.reply_durably(reply, changed);
            }
            Command::DeleteRoom { name, reply } => {
                let existed = self.delete_room(name).await;
                self.reply_durably(reply, existed);
            }
            Command::Register { registration, api_key, outbound, reply } => {
                self.register(*registration, api_key, outbound, reply).await;
            }
            Command::Message { worker, message } => {
                self.scheduler.on_message(Moment::now(), &worker, message);
                self.flush(Vec::new()).await;
            }
            // A worker that pings too often receives fewer answers.
            Command::Ping { .. } if self.deferred.len() >= DEFERRED_MAX => {}
            Command::Ping { timestamp, outbound } => self.defer(Deferred::Pong { outbound, timestamp }),
            Command::Simulate { worker, job } => self.simulate(&worker, *job).await,
            Command::WorkerLeft { worker, why } => {
                self.connections.remove(&worker);
                self.scheduler.worker_left(Moment::now(), &worker, why);
                self.flush(Vec::new()).await;
            }
            Command::ProcessDied { instance } => {
                self.scheduler.process_died(Moment::now(), &instance);
                self.flush(Vec::new()).await;
            }
            Command::StopJobs { worker, jobs } => self.stop_jobs(&worker, jobs),
            // `Coordinator::serve` handles it.
            Command::Stop => {}
        }
    }
}
