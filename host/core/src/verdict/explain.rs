//! The texts of `wasm-worker explain` about each end code.

use super::Code;
use crate::language::Language;

impl Code {
    /// The meaning of the end, for `wasm-worker explain`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Completed => "the agent finished without an error",
            Self::Failed => "the agent finished with an error; the detail is that error's text",
            Self::Trapped => {
                "the agent crashed with a WebAssembly trap: a panic, an index out of bounds, a recursion that is too deep"
            }
            Self::Unresponsive => "one step of the agent ran for `unresponsive-timeout`",
            Self::InitTimeout => "creating the instance or running `prewarm` took longer than `init-timeout`",
            Self::InitFailed => "creating the instance or running `prewarm` failed",
            Self::OutOfFuel => "the agent used up `fuel-limit`",
            Self::Deadline => "the job ran longer than `max-duration`",
            Self::MemoryLimit => "the job's memories, tables and host-side buffers together passed `memory-limit`",
            Self::HostcallLimit => "the agent passed a limit on host calls: bytes in one call, or open handles",
            Self::LimitCalls => "the agent made more than 4,096 calls, or calls of more than 4 MiB, in one step",
            Self::Stalled => {
                "nothing was pending that could wake the job: no timer, no call, no room that brings events"
            }
            Self::Disconnected => {
                "the room was lost for good and the job did not finish within `shutdown-grace`, or the agent was put out of its room"
            }
            Self::ShutdownTimeout => "the job was asked to stop and did not finish within `shutdown-grace`",
            Self::Terminated => "the dispatcher asked the job to stop, and it finished within the grace",
            Self::Drained => "the worker drained, and the job finished within the grace",
            Self::Killed => "an operator killed the job",
            Self::Lost => "the worker process of the job died, or lost its link to the dispatcher for good",
            Self::HostFault => "wasm-worker or the machine failed; the agent is not responsible",
            Self::Rejected => "the agent rejected the job for good; no other worker is asked",
            Self::Cancelled => "the dispatch was deleted before it ran",
            Self::Expired => "the dispatch waited for a worker until its deadline",
            Self::Unserved => "no worker took the dispatch at once, and the queue is off",
        }
    }

    /// Advice for the reader, for `wasm-worker explain`.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Completed | Self::Terminated | Self::Drained => "nothing to do",
            Self::Failed => "read the detail; it comes from the agent",
            Self::Trapped => {
                "read the backtrace, innermost frame first; the detail has the message and the place of a Rust panic"
            }
            Self::Unresponsive => {
                "add an `.await` to long computations (`time::sleep` of zero is enough), or raise --unresponsive-timeout"
            }
            Self::InitTimeout => "do less in `prewarm`, or raise --init-timeout",
            Self::InitFailed => {
                "read the detail and the backtrace: the error from `prewarm` or from the start function, with the last lines of standard error"
            }
            Self::OutOfFuel => "compare with the `fuel` of a completed job, and set --fuel-limit above that",
            Self::Deadline => "end the job sooner, or raise --max-duration",
            Self::MemoryLimit => {
                "compare with the `memory_peak_bytes` of a completed job, and set --memory-limit above that"
            }
            Self::HostcallLimit => {
                "send less in one call and drop unused handles, or raise --hostcall-limit or --handle-limit"
            }
            Self::LimitCalls => "spread the calls over several steps: each `.await` of a timer or an event ends a step",
            Self::Stalled => {
                "read the detail, which names the tasks and their waits; call `connect`, set a timer, or finish"
            }
            Self::ShutdownTimeout => {
                "wait for `shutdown_requested` in the entrypoint, shorten the shutdown callbacks, or raise --shutdown-grace"
            }
            Self::Disconnected | Self::Killed | Self::Lost => "dispatch the job again",
            Self::HostFault => "dispatch the job again, and report the bug with the log",
            Self::Rejected => "read the detail; it is the reason that the agent's `decide` gave",
            Self::Cancelled => "nothing to do",
            Self::Expired => {
                "read the detail; it is the reason for the wait. Start workers for that agent (`wasm-worker workers` lists them), or raise --queue-deadline"
            }
            Self::Unserved => "start a worker for that agent, or turn the queue on with --queue on",
        }
    }

    /// The same in the words of the agent's language, where that matters.
    pub const fn advice_for(self, language: Option<Language>) -> &'static str {
        match (self, language) {
            (Self::Trapped | Self::InitFailed, Some(Language::Python)) => {
                "the traceback is in the detail and in the log; raise `Err(text)` to end a job as failed, and import every module at the top of the file"
            }
            (Self::Trapped | Self::InitFailed, Some(Language::JavaScript)) => {
                "catch every error and throw its text: an uncaught `Error` traps without its message; `console.error` is in the detail and in the log"
            }
            (Self::Trapped | Self::InitFailed, Some(Language::Go)) => {
                "the panic and its stack are in the log, their last lines in the detail; recover from panics and return an error to end a job as failed"
            }
            (Self::Trapped | Self::InitFailed, Some(Language::C)) => {
                "an abort or a failed assertion traps; the detail has the last lines of standard error, and `report-panic` gives a message and a place"
            }
            (Self::Unresponsive, Some(Language::Python)) => {
                "add `await asyncio.sleep(0)` to long computations, or raise --unresponsive-timeout"
            }
            (Self::Unresponsive, Some(Language::JavaScript)) => {
                "await a timer in long computations, or raise --unresponsive-timeout"
            }
            (Self::Unresponsive, Some(Language::Go | Language::C)) => {
                "return to the host from long computations, and go on at the next call; or raise --unresponsive-timeout"
            }
            _ => self.advice(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_in_the_words_of_the_language() {
        assert!(Code::Unresponsive.advice_for(Some(Language::Python)).contains("asyncio.sleep(0)"));
        assert!(Code::Trapped.advice_for(Some(Language::JavaScript)).contains("throw its text"));
        assert_eq!(Code::Trapped.advice_for(Some(Language::Rust)), Code::Trapped.advice());
        assert_eq!(Code::Deadline.advice_for(Some(Language::Go)), Code::Deadline.advice());
    }
}
