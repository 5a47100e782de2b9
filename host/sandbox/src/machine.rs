//! What the operating system allows this process: threads, addresses, machine code, and its own program. The errors name the limit
//! and the setting to change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::process::{Resource, getpriority_process, getrlimit, setpriority_process};

/// Smallest buffer that is given back to the system when it is freed, in bytes. Larger than what a job's start allocates.
#[cfg(target_env = "gnu")]
const RETURNED_BYTES_MIN: libc::c_int = 1 << 20;
/// How much lower the priority of a guest's thread is, as nice levels: with 5 another thread gets three times the share of a core that a
/// guest's gets (`sched(7)`).
const GUEST_NICENESS: i32 = 5;
/// Advice about too few addresses.
pub(crate) const ADDRESSES_HINT: &str =
    "addresses are no memory: lift the limit with `ulimit -v unlimited`, or `LimitAS=infinity` in a systemd unit";
/// Size of the trial of machine code; the system rounds it up to a page.
const TRIAL_BYTES: usize = 4 << 10;

/// The path of the running program, also after its file was replaced. Without `/proc` it is the path that the program was started
/// with.
pub fn own_program() -> PathBuf {
    const LINK: &str = "/proc/self/exe";
    if std::fs::symlink_metadata(LINK).is_ok() {
        return LINK.into();
    }
    let started = rustix::param::linux_execfn().to_string_lossy().into_owned();
    if Path::new(&started).exists() { started.into() } else { LINK.into() }
}

/// Give large buffers back to the system when they are freed. By itself glibc raises the size from which it does so to that of the
/// largest buffer so far, and each thread then keeps smaller ones (`mallopt(3)`, `M_MMAP_THRESHOLD`).
pub fn return_large_buffers() {
    // An allocator that refuses keeps its ways, which costs memory only.
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "glibc has no other setting for a running program")]
    // SAFETY: the calls change numbers that the allocator reads under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, RETURNED_BYTES_MIN);
    }
}

/// The priority of the threads of guests, as a nice level: lower than that of the calling thread.
pub(crate) fn priority_of_guests() -> i32 {
    // Zero is the priority of a process that nobody changed.
    getpriority_process(None).unwrap_or_default() + GUEST_NICENESS
}

/// Give the calling thread this priority.
pub(crate) fn set_priority(priority: i32) {
    // Linux has a priority for each thread, and everybody may lower it. Where a system refuses, all threads are equal.
    setpriority_process(None, priority).unwrap_or_default();
}

/// Whether the system refused what the engine asked of it, and not the engine what it was given.
pub(crate) fn refused(error: &wasmtime::Error) -> bool {
    let is_system = |cause: &(dyn std::error::Error + 'static)| cause.is::<io::Error>() || cause.is::<Errno>();
    error.is::<wasmtime::error::OutOfMemory>() || error.chain().any(is_system)
}

/// Advice about a thread or a process that the system did not start, where its limit is the cause.
pub fn process_limit(error: &io::Error) -> Option<String> {
    if error.kind() != io::ErrorKind::WouldBlock {
        return None;
    }
    let of_user = getrlimit(Resource::Nproc).current.map_or("none".into(), |limit| limit.to_string());
    let addresses = if address_limit().is_some() { ", or the limit on addresses, `ulimit -v`" } else { "" };
    Some(format!(
        "a limit on processes and threads is reached: `ulimit -u` (here {of_user}), `TasksMax=` of a systemd unit, or `pids.max` of a container{addresses}"
    ))
}

/// The same within a message.
pub(crate) fn why(error: &io::Error) -> String {
    process_limit(error).map_or(String::new(), |why| format!(" ({why})"))
}

/// The reason why the threads of the program cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the system starts {started} of the {wanted} threads that wasm-worker needs")]
pub struct ThreadsError {
    /// Threads that started.
    pub started: usize,
    /// Threads that are needed.
    pub wanted: usize,
    /// The error of the system.
    pub source: io::Error,
}

impl ThreadsError {
    /// Advice for the operator.
    pub fn hint(&self) -> Option<String> {
        process_limit(&self.source).or_else(|| Some("`ulimit -v` and `ulimit -m` limit the memory for threads".into()))
    }
}

/// Start this many threads at once, and end them. The runtimes cannot report that the system refuses one.
///
/// # Errors
/// When the system refuses one.
pub fn try_threads(wanted: usize) -> Result<(), ThreadsError> {
    let mut running = Vec::new();
    let mut refused = None;
    for started in 0..wanted {
        let (hold, held) = mpsc::channel::<()>();
        // The thread ends when its sender is dropped.
        match thread::Builder::new().name("trial".into()).spawn(move || held.recv()) {
            Ok(thread) => running.push((hold, thread)),
            Err(source) => {
                refused = Some(ThreadsError { started, wanted, source });
                break;
            }
        }
    }
    let (holds, threads): (Vec<_>, Vec<_>) = running.into_iter().unzip();
    drop(holds);
    for thread in threads {
        // Such a thread cannot panic.
        thread.join().ok();
    }
    refused.map_or(Ok(()), Err)
}

/// The limit on the addresses of this process, in bytes.
pub(crate) fn address_limit() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// Make a page of memory executable, as the engine does with the code of agents.
///
/// # Errors
/// When the system refuses.
pub(crate) fn try_machine_code() -> io::Result<()> {
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    #[expect(unsafe_code, reason = "memory can be made executable by such calls only")]
    // SAFETY: the mapping is new, at an address that the system chooses; nothing refers to it, and it is removed again.
    let tried = unsafe {
        let page = mmap_anonymous(std::ptr::null_mut(), TRIAL_BYTES, writable, MapFlags::PRIVATE)?;
        let tried = mprotect(page, TRIAL_BYTES, MprotectFlags::READ | MprotectFlags::EXEC);
        munmap(page, TRIAL_BYTES)?;
        tried
    };
    Ok(tried?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_this_machine_are_known() {
        assert!(own_program().exists());
        try_threads(3).unwrap();
        try_machine_code().unwrap();
        let full = io::Error::from(Errno::AGAIN);
        assert!(process_limit(&full).unwrap().contains("TasksMax="));
        assert_eq!(why(&io::ErrorKind::NotFound.into()), "");
    }
}
