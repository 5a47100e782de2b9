//! The fuzz targets for a few seconds each: the kept corpus, and changed copies of it. `tests/fuzz/run` goes on for hours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use wasm_worker_fuzz::{TARGETS, api_requests, components, core_guest, imports, room_host, worker_sockets};

use crate::support::harness::{eventually, root, target_dir};

/// Changed copies of each target's corpus.
const CHANGED: usize = 400;
const CHANGES_MAX: usize = 6;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = fs::read_dir(root().join("tests/fuzz/corpus").join(target)).unwrap();
    let mut paths: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A copy of one input with some bytes set, removed, or put in from another.
fn changed(corpus: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut input = corpus.choose(rng).unwrap().clone();
    for _ in 0..rng.random_range(1..=CHANGES_MAX) {
        let at = rng.random_range(0..=input.len());
        let until = (at + rng.random_range(0..8)).min(input.len());
        let other = corpus.choose(rng).unwrap();
        let from = rng.random_range(0..=other.len());
        let part = &other[from..(from + rng.random_range(0..8)).min(other.len())];
        match rng.random_range(0..3) {
            0 => input[at..until].fill_with(|| rng.random()),
            1 => drop(input.drain(at..until)),
            _ => drop(input.splice(at..until, part.iter().copied())),
        }
    }
    input
}

#[test]
fn corpus_and_changed_copies_find_no_fault() {
    for (name, run) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        let began = Instant::now();
        // Others each time: what is found is kept.
        let mut rng = StdRng::seed_from_u64(rand::random());
        let changed = (0..CHANGED).map(|_| changed(&corpus, &mut rng));
        for input in corpus.iter().cloned().chain(changed) {
            if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
                let path = target_dir().join(format!("finding-{name}"));
                fs::write(&path, &input).unwrap();
                panic!("{name}: {} finds something", path.display());
            }
        }
        println!("{name}: {} inputs and {CHANGED} changed ones in {:?}", corpus.len(), began.elapsed());
    }
}

#[test]
fn generated_agents_run_jobs_that_end_in_many_ways() {
    let corpus = corpus("components");
    let mut rng = StdRng::seed_from_u64(rand::random());
    let changed: Vec<Vec<u8>> = (0..CHANGED / 4).map(|_| changed(&corpus, &mut rng)).collect();
    let (mut ends, mut jobs, mut far) = (BTreeMap::<&str, usize>::new(), 0, 0);
    for closed in corpus.iter().chain(&changed).filter_map(|input| components::play(input)) {
        *ends.entry(closed.verdict.code.as_str()).or_default() += 1;
        jobs += 1;
        far += usize::from(closed.usage.fuel > 1);
    }
    let inputs = corpus.len() + changed.len();
    println!("components: {inputs} inputs make {jobs} jobs, {far} of them past their first instruction: {ends:?}");
    // With four seeds, 117 to 123 of 148 inputs made a job, and 65 to 86 of those went on. How a few end depends on how
    // busy the machine is.
    assert!(jobs * 2 >= inputs, "{inputs} inputs make only {jobs} jobs: {ends:?}");
    assert!(far * 4 >= inputs, "{far} of {jobs} jobs go past their first instruction: {ends:?}");
    // One that returns from its step has asked for nothing, so nothing can wake it.
    assert!(ends.len() >= 3 && ends["stalled"] >= 10 && ends["trapped"] >= 10, "{ends:?}");
}

#[test]
fn generated_program_reaches_the_imports_of_its_calls() {
    let imports = core_guest::imports();
    let index = |interface: &str, name: &str| {
        let is = |import: &core_guest::Import| import.module.contains(interface) && import.name == name;
        u8::try_from(imports.iter().position(is).unwrap()).unwrap()
    };
    // Topic and text are two bytes of where results go, the options are empty.
    let text = [index("agent/room", "send-text"), 128, 2, 128, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let [join, random] = [index("agent/room", "connect"), index("random/random", "get-random-u64")];
    let exit = [random, 255, index("cli/exit", "exit"), 1];
    let closed = imports::play(&[[join].as_slice(), &text, &exit].concat());
    assert_eq!(closed.activity.texts.len(), 1, "{closed:?}");
    assert_eq!(closed.verdict.code.as_str(), "failed");
    assert_eq!(closed.verdict.detail, "the agent exited with status 1");
}

#[test]
fn kept_requests_and_workers_reach_the_dispatcher() {
    // A busy machine loses some: neither a caller nor a worker waits long. What one pass loses, another one has.
    let (requests, mut statuses) = (corpus("api_requests"), BTreeSet::<u16>::new());
    eventually("the requests get answers of every status", || {
        statuses.extend(requests.iter().flat_map(|input| api_requests::play(input)));
        println!("api_requests: {statuses:?}");
        let all = [200, 202, 400, 401, 403, 404, 405, 421, 501].iter().all(|status| statuses.contains(status));
        all.then_some(())
    });
    let (workers, mut assigned) = (corpus("worker_sockets"), 0);
    eventually("two jobs are assigned", || {
        assigned += workers.iter().map(|input| worker_sockets::play(input)).sum::<usize>();
        println!("worker_sockets: {assigned} jobs are assigned");
        (assigned >= 2).then_some(())
    });
}

#[test]
fn kept_clients_join_a_hosted_room_and_publish() {
    let reached: Vec<(usize, usize)> = corpus("room_host").iter().map(|input| room_host::play(input)).collect();
    assert!(reached.iter().any(|(participants, _)| *participants >= 4), "{reached:?}");
    let published = reached.iter().filter(|(_, tracks)| *tracks >= 1).count();
    assert!(published >= 3, "{reached:?}");
}
