//! Peers that misbehave from outside: callers, workers, web pages, servers, files and terminals, each in one way.
//!
//! A row is one attack on processes of the real program. The row says what the program must answer, and what the attack
//! may cost: memory and descriptors above those of the process at rest, and time. Afterwards each attacked process must
//! still run, must have panicked nowhere, and must still serve a job of somebody else.
//!
//! The sections are files beside this one: a new way to misbehave is a new row there.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use crate::support::harness::guest;
use crate::support::skip_for_the_system;
use case::Case;

mod bounds;
mod case;
mod files;
mod guests;
mod machine;
mod network;
mod participants;
mod ports;
mod rooms;
mod terminal;

/// The most memory of a call of the program, in MiB.
const CALL_MIB_MAX: u64 = 160;
/// The number of files that a process must be allowed to open, so that a flood fills the places of a listener: four times as many as
/// the places.
const FLOOD_FILES: u64 = 17_000;

/// One way to misbehave.
pub(crate) struct Row {
    /// The act of the peer, in a few words.
    name: &'static str,
    /// Attacks, and returns what the program answered, as text.
    attack: fn(&mut Case) -> String,
    /// Parts of the answer.
    answer: &'static [&'static str],
    /// Largest growth of the resident memory of an attacked process, in MiB.
    memory_mib_max: u64,
    /// Largest growth of the number of open descriptors of an attacked process.
    descriptors_max: u64,
    /// Longest time of the attack. Far above the time that is needed, because machines differ.
    time_max: Duration,
}

/// A row with the usual costs: 32 MiB, 64 descriptors, a minute.
const fn row(name: &'static str, attack: fn(&mut Case) -> String, answer: &'static [&'static str]) -> Row {
    Row { name, attack, answer, memory_mib_max: 32, descriptors_max: 64, time_max: Duration::from_secs(60) }
}

/// The same, where the attack runs calls of its own: a call costs all of its memory.
const fn call(name: &'static str, attack: fn(&mut Case) -> String, answer: &'static [&'static str]) -> Row {
    Row { memory_mib_max: CALL_MIB_MAX, ..row(name, attack, answer) }
}

impl Row {
    /// Run the attack; the line of the table, and the faults.
    fn run(&self, section: &str) -> (String, Vec<String>) {
        let mut case = Case::default();
        let began = Instant::now();
        let answer = (self.attack)(&mut case);
        let took = began.elapsed();
        let (cost, mut faults) = case.finish();
        faults.extend(self.answer.iter().filter(|part| !answer.contains(**part)).map(|part| {
            let found: String = answer.chars().take(2_000).collect();
            format!("`{part}` is missing in the answer: {found}")
        }));
        let over = |what: &str, found: u64, most: u64| format!("{what}: {found}, at most {most} are allowed");
        if cost.memory_mib > self.memory_mib_max {
            faults.push(over("MiB of memory", cost.memory_mib, self.memory_mib_max));
        }
        if cost.descriptors > self.descriptors_max {
            faults.push(over("descriptors", cost.descriptors, self.descriptors_max));
        }
        if took > self.time_max {
            faults.push(format!("took {took:?}, at most {:?} are allowed", self.time_max));
        }
        let end = if faults.is_empty() { "as expected" } else { "WRONG" };
        let (memory, descriptors) = (cost.memory_mib, cost.descriptors);
        let line = format!("{section:<9} {:<62} {memory:>4} MiB {descriptors:>5} {took:>7.1?} {end}", self.name);
        (line, faults.into_iter().map(|fault| format!("{section}: {}: {fault}", self.name)).collect())
    }
}

/// Raise the limit of open files to the most that this process may have, and return it: an attack holds thousands of connections.
fn open_files_max() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}

/// Whether this system allows too few open files for a flood.
fn is_no_flood(attack: &str) -> bool {
    let files = open_files_max();
    if files < FLOOD_FILES {
        skip_for_the_system(attack, &format!("{files} open files are allowed, {FLOOD_FILES} are needed"));
    }
    files < FLOOD_FILES
}

/// Run the rows of a section, and fail with the faults of all of them.
#[expect(clippy::print_stdout, reason = "a report: `-- --nocapture` shows it")]
fn all(section: &str, rows: &[Row]) {
    open_files_max();
    // The build of the guests is no part of a row's time.
    guest("brief");
    let mut wrong = Vec::new();
    for row in rows {
        let (line, faults) = row.run(section);
        println!("{line}");
        wrong.extend(faults);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn peers_that_reach_a_port_get_a_clear_answer_at_a_bounded_cost() {
    all("ports", ports::ROWS);
}

#[test]
fn callers_and_workers_that_ask_for_too_much_are_refused_at_a_bounded_cost() {
    all("bounds", bounds::ROWS);
}

#[test]
fn files_that_change_under_the_program_lose_nothing_silently() {
    all("files", files::ROWS);
}

#[test]
fn text_of_strangers_and_closed_terminals_do_no_harm() {
    all("terminal", terminal::ROWS);
}

#[test]
fn servers_that_answer_oddly_are_named_and_do_no_harm() {
    all("network", network::ROWS);
}

#[test]
fn servers_of_rooms_that_misbehave_end_their_own_jobs_alone() {
    all("rooms", rooms::ROWS);
}

#[test]
fn participants_that_flood_an_agent_do_it_no_harm() {
    all("room", participants::ROWS);
}

#[test]
fn guests_of_hosted_rooms_that_misbehave_hurt_nobody_else() {
    all("guests", guests::ROWS);
}

#[test]
fn machines_that_lack_something_get_an_error_that_names_it() {
    all("machine", machine::ROWS);
}
