//! The fuzz targets for a few seconds each: the kept corpus, and changed copies of it. `tests/fuzz/run` goes on for hours.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use wasm_worker_fuzz::{TARGETS, core_guest, imports};

use crate::harness::{root, target_dir};

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
fn no_input_finds_anything() {
    for (name, run) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        let began = Instant::now();
        // The same inputs each time.
        let mut rng = StdRng::seed_from_u64(1);
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
fn a_program_reaches_the_imports_that_it_calls() {
    let imports = core_guest::imports();
    let index = |name: &str| u8::try_from(imports.iter().position(|import| import.name == name).unwrap()).unwrap();
    // Topic and text are two bytes of where results go, the options are empty.
    let text = [index("send-text"), 128, 2, 128, 2, 0, 0, 0, 0, 128];
    let closed = imports::play(&[text.as_slice(), &[index("get-random-u64"), 255, index("exit"), 1]].concat());
    assert_eq!(closed.activity.texts.len(), 1, "{closed:?}");
    assert_eq!(closed.verdict.code.as_str(), "failed");
    assert_eq!(closed.verdict.detail, "in shutdown: the agent exited with status 1");
}
