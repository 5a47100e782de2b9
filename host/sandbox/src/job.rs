//! The life of a job: `Offer → Admitted → Instance → Ended → Verdict`, one value that moves; each step takes the last one.
//!
//! A job is a sequence of steps. Before each step the job waits for an event or a timer, and no guest runs; after each step the
//! [`world::World`] performs the calls that the step has made.
//!
//! [`life::Life`] decides and does nothing itself: it receives inputs with their times, and returns outputs. The supervisor
//! carries the outputs out. In whatever order the inputs arrive, a life closes exactly once.
//!
//! Bounds: `init-timeout` from the admission to the launch, `max-duration` and the shutdown grace after it, and
//! [`run::KILL_GRACE`] for a guest that does not notice a kill.

pub(crate) mod limits;
pub(crate) mod run;

pub(crate) mod instance;

mod script;
mod time;
mod world;

pub mod offer;
pub mod spec;
pub mod granted;

mod deliveries;
mod network_calls;
mod room_record;
mod step;

mod joined_room;
mod recorded_room;
mod played_audio;
mod sounding_room;
mod job_network;
mod networked;
mod played_rules;
mod played_model;
mod played_network;
mod played_room;

mod life;
mod stall;

mod step_end;

mod usage;

mod teardown;

mod supervisor;

mod steps;

mod course;

pub mod compared;
pub mod replay;

pub mod launch;
