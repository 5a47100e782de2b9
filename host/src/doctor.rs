//! The examination of a machine: what a worker needs, whether it is there, and the line to change where it is missing.
//!
//! Each module reads facts of one kind and judges them; the judgement is pure. Nothing is changed: a directory is tried with a
//! file that has no name.
//!
//! Bounds: a tool has [`toolchain::TOOL_WITHIN`] to answer, and the server [`server::ANSWER_WITHIN`].

mod directories;
mod engine;
mod kernel;
mod limits;
mod server;
mod toolchain;

use serde::Serialize;

use crate::config::Config;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The name of the check.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    pub(crate) detail: String,
    /// The line to change: a command, a setting, or a directive of a systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// The result of a check, or of all. A later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Ok,
    /// A worker runs, but not everything works.
    Warn,
    /// A worker does not run with these settings.
    Fail,
}

impl Level {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, detail: detail.into(), fix: None }
    }

    fn warn(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn fail(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Examine this machine for a worker with these settings.
pub(crate) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = kernel::judge(&kernel::Facts::read());
    findings.extend(limits::judge(&limits::Facts::read(config), &limits::Needs::of(config)));
    findings.extend(engine::try_out(config));
    findings.extend(directories::examine(config));
    findings.extend(toolchain::judge(&toolchain::Facts::read()));
    findings.extend(server::examine(config));
    findings
}
