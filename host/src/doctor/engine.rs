//! The engine, tried out: it starts with the sizes of the settings, and loads machine code.

use std::error::Error;

use wasm_worker_sandbox::engine::{Engine, EngineError};
use wasm_worker_sandbox::runtimes::{Runtimes, RuntimesError};

use super::Finding;
use crate::config::Config;

/// Why the engine does not work.
enum EngineFault {
    Threads(RuntimesError),
    Start(EngineError),
}

pub(super) fn try_out(config: &Config) -> Vec<Finding> {
    vec![judge(config.max_jobs, start(config))]
}

fn start(config: &Config) -> Result<(), EngineFault> {
    let runtimes = Runtimes::start().map_err(EngineFault::Threads)?;
    let jobs = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
    // The engine tries machine code by itself.
    let engine = Engine::new(config.engine_settings(jobs), runtimes.guests().clone(), runtimes.control().clone());
    let tried = engine.map(drop).map_err(EngineFault::Start);
    runtimes.shut_down();
    tried
}

fn judge(max_jobs: usize, tried: Result<(), EngineFault>) -> Finding {
    match tried {
        Ok(()) => Finding::ok("engine", format!("starts with {max_jobs} jobs at once, and loads machine code")),
        Err(EngineFault::Threads(error)) => {
            let fix = error.hint().unwrap_or_else(|| "TasksMax=infinity in the unit".into());
            Finding::fail("engine", error.to_string(), fix)
        }
        Err(EngineFault::Start(error)) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let fix = error
                .hint()
                .unwrap_or_else(|| format!("LimitAS=infinity in the unit, or max-jobs = {}", (max_jobs / 2).max(1)));
            Finding::fail("engine", format!("{error}{cause}"), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_system_that_forbids_machine_code_is_named() {
        assert_eq!(judge(1_000, Ok(())).level, Level::Ok);
        let denied = EngineError::MachineCode(std::io::ErrorKind::PermissionDenied.into());
        let forbidden = judge(1_000, Err(EngineFault::Start(denied)));
        assert_eq!(forbidden.level, Level::Fail);
        assert!(forbidden.fix.unwrap().contains("`MemoryDenyWriteExecute=no` in a systemd unit"));
        let large = judge(1_000, Err(EngineFault::Start(EngineError::TooManySlots { asked: 30_000 })));
        assert_eq!(
            (large.level, large.fix.as_deref()),
            (Level::Fail, Some("LimitAS=infinity in the unit, or max-jobs = 500"))
        );
    }
}
