//! Terminals and pipes: hang-ups, closed pipes, colours, and standard error that nobody reads.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::harness::{Call, eventually, guest, path, run_guest, wasm_worker};
use crate::support::scripted_server::{Peer, Server, behind, blocking, holds, run};

/// The capacity of a pipe of Linux.
const PIPE_BYTES: usize = 64 << 10;

/// The call in a terminal of its own, whose output is that of the child. A hang-up has its usual effect there, also if the tests
/// themselves run under `nohup`.
fn in_a_terminal(call: Call) -> Command {
    let command = call.command();
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    let words: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-e", "-c", &format!("exec env --default-signal=HUP {}", words.join(" ")), "/dev/null"]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    terminal.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    terminal
}

/// The only child of a process, once there is one.
fn child_of(pid: u32) -> u32 {
    eventually("it has a child", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn closed_terminal_drains_the_worker() {
    run(async {
        let server = Server::bind().await;
        let events = tempfile::NamedTempFile::new().unwrap();
        let call = behind(&server.url(), &[path(&guest("obedient"))]);
        let call = call.args(["--http", "off", "--events", path(events.path())]);
        let mut terminal = in_a_terminal(call).spawn().unwrap();
        let mut peer = server.registered().await;
        let worker = child_of(terminal.id());
        peer.begin("AJ_1").await;
        terminal.kill().unwrap();
        terminal.wait().unwrap();
        assert!(peer.status(true).await.draining, "the worker drains");
        peer.terminated("AJ_1").await;
        peer.drained().await;
        blocking(move || eventually("it has ended", || is_gone(worker).then_some(()))).await;
        holds(events.path(), "\"worker.drained\"", 1).await;
        let events = std::fs::read_to_string(events.path()).unwrap();
        assert!(!events.contains("agent.reloaded") && events.contains("\"cut_short\":0"), "{events}");
    });
}

#[test]
fn worker_under_nohup_outlives_its_terminal() {
    run(async {
        let server = Server::bind().await;
        let call = behind(&server.url(), &[path(&guest("obedient"))]).args(["--http", "off"]).under_nohup();
        let mut terminal = in_a_terminal(call).spawn().unwrap();
        let mut peer = server.registered().await;
        let worker = child_of(terminal.id());
        terminal.kill().unwrap();
        terminal.wait().unwrap();
        // A hang-up that comes once more, after the one of the terminal.
        let pid = Pid::from_raw(worker.cast_signed()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        peer.begin("AJ_1").await;
        peer.terminated("AJ_1").await;
        assert!(!is_gone(worker));
        kill_process(pid, Signal::TERM).unwrap();
        peer.drained().await;
    });
}

#[test]
fn dispatcher_under_nohup_outlives_its_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.db");
    let call = wasm_worker(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--store", path(&store)]);
    let mut terminal = in_a_terminal(call.under_nohup()).spawn().unwrap();
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines();
    let url = lines.find_map(|line| Some(line.unwrap().trim().to_owned()).filter(|line| line.starts_with("ws://")));
    let dispatcher = child_of(terminal.id());
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let pid = Pid::from_raw(dispatcher.cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    let jobs = wasm_worker(["jobs", "--url", &url.unwrap()]).done();
    assert_eq!(jobs.exit, 0, "{}", jobs.stderr);
    assert!(!is_gone(dispatcher));
    kill_process(pid, Signal::TERM).unwrap();
    eventually("it has ended", || is_gone(dispatcher).then_some(()));
}

#[test]
fn closed_terminal_ends_jobs_without_a_server() {
    let events = tempfile::NamedTempFile::new().unwrap();
    let mut terminal = in_a_terminal(run_guest("obedient", ["--events", path(events.path())])).spawn().unwrap();
    let jobs = child_of(terminal.id());
    let launched = || std::fs::read_to_string(events.path()).unwrap().contains("job.launched");
    eventually("the job runs", || launched().then_some(()));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    eventually("it has ended", || is_gone(jobs).then_some(()));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let output = |name: &str, value: &str| {
        let call = run_guest("minimal", ["--log-level", "info"]).env("TERM", "xterm").env("NO_COLOR", "");
        let output = in_a_terminal(call.env(name, value)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let coloured = output("TERM", "xterm");
    assert!(coloured.contains("job.launched") && coloured.contains("\u{1b}["), "{coloured}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "")] {
        let plain = output(name, value);
        assert!(plain.contains("job.launched") && !plain.contains('\u{1b}'), "{name}={value}: {plain}");
    }
    let piped = run_guest("minimal", ["--log-level", "info"]).env("TERM", "xterm").done();
    assert!(piped.stderr.contains("job.launched") && !piped.stderr.contains('\u{1b}'), "{}", piped.stderr);
}

#[test]
fn reader_that_has_seen_enough_is_no_error() {
    for words in [&["explain"][..], &["--help"], &["run", "--help"], &["config", "check"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = wasm_worker(words.iter().copied()).command().stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{words:?}");
    }
}

/// A pipe that is full, and whose reader does not read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b'.'; PIPE_BYTES]).unwrap();
    (reader, writer)
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A worker with a job that ignores every request, and whose standard error nobody reads.
async fn unread(server: &Server) -> (Child, Peer, std::io::PipeReader) {
    let (reader, writer) = full_pipe();
    let call = behind(&server.url(), &[path(&guest("ignore_stop"))]).args(["--http", "off"]);
    let child = call.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    let mut peer = server.registered().await;
    peer.begin("AJ_1").await;
    send(&child, Signal::TERM);
    peer.status(true).await;
    send(&child, Signal::TERM);
    assert!(peer.report().await.2.starts_with("killed: "));
    (child, peer, reader)
}

#[test]
fn worker_whose_standard_error_nobody_reads_ends() {
    run(async {
        let server = Server::bind().await;
        let (mut child, peer, _reader) = unread(&server).await;
        peer.drained().await;
        let status = blocking(move || child.wait().unwrap()).await;
        assert_eq!(status.code(), Some(130), "{status}");
    });
}

#[test]
fn third_signal_ends_the_worker_at_once() {
    run(async {
        let server = Server::bind().await;
        // The peer neither confirms the end of the job nor closes, so the worker would wait for it.
        let (mut child, _silent, _reader) = unread(&server).await;
        send(&child, Signal::TERM);
        let status = blocking(move || child.wait().unwrap()).await;
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
    });
}

#[test]
fn jobs_of_the_command_line_end_at_a_second_signal_whoever_reads() {
    let (_reader, writer) = full_pipe();
    let events = tempfile::NamedTempFile::new().unwrap();
    let call = run_guest("ignore_stop", ["--events", path(events.path()), "--shutdown-grace", "1h"]);
    let mut child = call.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    let launched = || std::fs::read_to_string(events.path()).unwrap().contains("job.launched").then_some(());
    eventually("the job runs", launched);
    send(&child, Signal::TERM);
    // Two of one kind at once would count as one, and nothing that it says can be read.
    send(&child, Signal::INT);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{status}");
}
