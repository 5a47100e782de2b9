//! The inputs and outputs of a session, as data.

use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;

use wasm_worker_core::job::{Acceptance, RoomAccess};
use wasm_worker_core::refusal::Reason;

use crate::report::{JobEnd, Report};
use crate::status::Status;

/// An input of a session.
#[expect(clippy::large_enum_variant, reason = "a few at a time, each taken apart at once")]
#[derive(Debug)]
pub enum Input {
    /// The socket is connected.
    Connected,
    /// A message of the server.
    Frame(proto::ServerMessage),
    /// A sign of life of the server that carries no message.
    Heartbeat,
    /// The socket is closed.
    Disconnected,
    /// The agent decided about an offer.
    Answered {
        /// The id of the job.
        job: String,
        /// The decision.
        answer: Answer,
    },
    /// A launched job ended.
    Ended {
        /// The id of the job.
        job: String,
        /// How the job ended.
        end: Box<JobEnd>,
    },
    /// A new measurement of the load.
    Load {
        /// The utilisation relative to the threshold; 1 is full.
        utilisation: f32,
        /// The load, 0 to 1.
        load: f32,
    },
    /// The worker drains from now on.
    Drain,
    /// The time of [`Session::wake_at`](super::Session::wake_at) has come.
    TimeUp,
}

/// The decision of an agent about an offer.
#[derive(Debug)]
pub enum Answer {
    /// The agent accepts the job.
    Accepted(Box<Acceptance>),
    /// The agent or the worker refuses the job.
    Refused {
        /// Whether the dispatch ends, so that no other worker is asked.
        terminate: bool,
    },
}

/// An action for the owner of a session.
#[expect(clippy::large_enum_variant, reason = "a few at a time, each taken apart at once")]
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send a message.
    Send(ToServer),
    /// Send the report of a job.
    Report(Report),
    /// Send the status of a full worker to the embedded dispatcher.
    Status(Status),
    /// Send a ping of the WebSocket.
    Ping,
    /// Ask the agent whether it accepts a job.
    Offer(Box<proto::Job>),
    /// Run an accepted job.
    Launch {
        /// The id of the job.
        job: String,
        /// How the agent of the job joins its room; none where the server has no rooms.
        access: Option<RoomAccess>,
    },
    /// Publish that an offer was refused without asking the agent.
    Refused {
        /// The id of the job.
        job: String,
        /// The class of the refusal.
        reason: Reason,
        /// The cause.
        why: &'static str,
    },
    /// Release a job that was accepted, or that the agent may still accept.
    Withdraw {
        /// The id of the job.
        job: String,
        /// The cause.
        why: &'static str,
    },
    /// Ask a running job to stop.
    Stop {
        /// The id of the job.
        job: String,
    },
    /// The server confirmed the registration.
    Registered {
        /// The server's id of the worker.
        worker: String,
        /// The version of the server.
        server: String,
    },
    /// Close the connection.
    Close {
        /// The cause.
        why: String,
    },
    /// Log a warning: the session ignored a message of the server, or dropped a report.
    Warn(String),
}

/// The name of a message of the server, in a warning.
pub(super) fn name_of(message: &Option<FromServer>) -> &'static str {
    match message {
        None => "an empty or unknown message",
        Some(FromServer::Register(_)) => "a reply to a registration",
        Some(FromServer::Availability(_)) => "an offer",
        Some(FromServer::Assignment(_)) => "an assignment",
        Some(FromServer::Termination(_)) => "a termination",
        Some(FromServer::Pong(_)) => "a pong",
        Some(FromServer::GoAway(_)) => "a request to go away",
    }
}
