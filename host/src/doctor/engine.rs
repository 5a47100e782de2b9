//! The engine, tried out: it starts with the sizes of the settings, and loads machine code.

use std::error::Error;

use wasm_worker_sandbox::engine::{Engine, EngineError};
use wasm_worker_sandbox::runtimes::Runtimes;

use super::Finding;
use crate::config::Config;

/// Why the engine does not work.
enum EngineFault {
    System(std::io::Error),
    Start(EngineError),
    Code(String),
}

pub(super) fn try_out(config: &Config) -> Vec<Finding> {
    vec![judge(config.max_jobs, start(config))]
}

fn start(config: &Config) -> Result<(), EngineFault> {
    let runtimes = Runtimes::start().map_err(EngineFault::System)?;
    let jobs = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
    let engine = Engine::new(config.engine_settings(jobs), runtimes.guests().clone(), runtimes.control().clone());
    let tried = match engine {
        Ok(engine) => engine.load_machine_code().map_err(EngineFault::Code),
        Err(error) => Err(EngineFault::Start(error)),
    };
    runtimes.shut_down();
    tried
}

fn judge(max_jobs: usize, tried: Result<(), EngineFault>) -> Finding {
    match tried {
        Ok(()) => Finding::ok("engine", format!("starts with {max_jobs} jobs at once, and loads machine code")),
        Err(EngineFault::System(error)) => {
            Finding::fail("engine", format!("no threads: {error}"), "TasksMax=infinity in the unit")
        }
        Err(EngineFault::Start(error)) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let fix = error
                .hint()
                .unwrap_or_else(|| format!("LimitAS=infinity in the unit, or max-jobs = {}", (max_jobs / 2).max(1)));
            Finding::fail("engine", format!("{error}{cause}"), fix)
        }
        Err(EngineFault::Code(why)) => {
            let detail = format!("machine code cannot be loaded: {why}");
            Finding::fail("engine", detail, "MemoryDenyWriteExecute=no in the unit")
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
        let forbidden = judge(1_000, Err(EngineFault::Code("permission denied".into())));
        assert_eq!(forbidden.level, Level::Fail);
        assert_eq!(forbidden.fix.as_deref(), Some("MemoryDenyWriteExecute=no in the unit"));
        let large = judge(1_000, Err(EngineFault::Start(EngineError::TooManySlots { asked: 30_000 })));
        assert_eq!(
            (large.level, large.fix.as_deref()),
            (Level::Fail, Some("LimitAS=infinity in the unit, or max-jobs = 500"))
        );
    }
}
