//! The life of a job: `Offer → Admitted → Instance → Ended → Verdict`, one value that moves; each step takes the last one.
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

pub mod offer;
pub mod spec;

mod step;

mod life;

mod usage;

mod teardown;

mod supervisor;

pub mod launch;
