//! Components that are hostile before they run: to whoever reads and compiles them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use wasm_worker_fuzz::core_guest::{Import, imports};

use crate::harness::{Done, core_component, guest, target_dir, wasm_worker};
use crate::host_faults::{caller, has_handle};

fn run(component: &Path) -> Done {
    wasm_worker(["run", component.to_str().unwrap(), "--job", "--log-level", "off"]).done()
}

/// A file that is there until the tests are run again.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let dir = target_dir().join("core-guests");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn more_than_one_job_may_have_is_refused_when_it_is_loaded() {
    run(&guest("memories")).fails_with(3, &["agent `memories` "]);
    run(&guest("table_huge")).fails_with(3, &["agent `table-huge` ", "10000000"]);
    // Each instance would have a copy of these outside of its memory.
    let elements = format!("(func $f) (elem func {})", "$f ".repeat(30_000));
    let elements = core_component("elements", &elements);
    run(&elements)
        .fails_with(3, &["agent `elements` has 30000 elements in passive segments; at most 20000 are allowed"]);
    // And these a heap that nobody counts.
    run(&core_component("externref", "(table 1 externref)")).fails_with(3, &["agent `externref` ", "externref"]);
}

#[test]
fn bytes_without_sense_are_refused() {
    let mut state = 0x9e37_79b9_u32;
    for length in [16, 1_000, 100_000] {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend((0..length).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        }));
        run(&file("random.wasm", &bytes)).fails_with(3, &["agent `random` "]);
    }
}

#[test]
fn a_component_of_fifty_megabytes_is_only_large() {
    let line = "x".repeat(1 << 20);
    let mut data = String::from("(memory (export \"memory\") 1000)\n");
    for megabyte in 0..50 {
        writeln!(data, "(data (i32.const {}) \"{line}\")", (megabyte + 2) << 20).unwrap();
    }
    let done = run(&core_component("fifty_megabytes", &data));
    assert_eq!((done.exit, done.code().as_str()), (0, "completed"), "{}", done.stderr);
}

/// A function of so many loops, one in another's place.
fn loops(count: usize) -> String {
    let mut text = String::from("(func (export \"entrypoint\") (param) (result i32) (local $a i32) (local $b i64)\n");
    for at in 0..count {
        writeln!(
            text,
            "(block (br_if 0 (i32.eqz (local.get $a))) (local.set $b (i64.add (local.get $b) (i64.const {at}))))"
        )
        .unwrap();
    }
    text + "i32.const 16)"
}

#[test]
fn what_takes_too_much_to_compile_is_refused() {
    let path = core_component("loops", &loops(200_000));
    let path = path.to_str().unwrap();
    let job = |flags: [&'static str; 2]| wasm_worker(["run", path, "--job", "--log-level", "off"]).args(flags).done();
    job(["--compile-timeout", "200ms"])
        .fails_with(3, &["agent `loops` ", "longer than `compile-timeout` allows (200ms)"]);
    job(["--compile-memory", "100MiB"]).fails_with(3, &["agent `loops` ", "(`compile-memory`)", "memory allocation"]);
}

#[test]
fn types_nested_ten_thousand_deep_are_refused() {
    let mut text = String::from("(component (type $t0 (list u8))\n");
    for depth in 1..10_000 {
        writeln!(text, "(type $t{depth} (list $t{}))", depth - 1).unwrap();
    }
    text.push_str("(import \"f\" (func (param \"x\" $t9999))))");
    run(&file("nested.wat", text.as_bytes())).fails_with(3, &["agent `nested` "]);
}

#[test]
fn whatever_a_guest_passes_to_an_import_only_its_own_job_ends() {
    assert!(imports().len() > 50, "{} imports", imports().len());
    // A pointer or a handle each: none, past the end, overlapping the length, negative.
    for value in [0_i64, 1, 65_530, 131_072, 2_147_483_647, -1, -8] {
        for import in imports() {
            let (params, results) = (import.params.join(" "), import.results.join(" "));
            let arguments: Vec<String> = import.params.iter().map(|ty| format!("({ty}.const {value})")).collect();
            let lines = format!(
                "(import \"{}\" \"{}\" (func $f (param {params}) (result {results})))
                (func (export \"entrypoint\") (result i32) (call $f {}) {} i32.const 16)",
                import.module,
                import.name,
                arguments.join(" "),
                "drop ".repeat(import.results.len()),
            );
            ends_fairly(&lines, &import, value);
            // With a good handle the other arguments are looked at, too.
            if has_handle(&import) && !ENDLESS.contains(&import.name.as_str()) {
                let results_at = u32::try_from(value & 0xffff_ffff).unwrap();
                ends_fairly(&caller(&import, value, results_at), &import, value);
            }
        }
    }
}

/// With a good handle these wait for what never comes.
const ENDLESS: &[&str] = &["[method]receiver.next", "[method]pollable.block"];

fn ends_fairly(lines: &str, import: &Import, value: i64) {
    let done = run(&core_component("import", lines));
    let code = done.code();
    let fair = ["completed", "failed", "trapped", "hostcall-limit", "memory-limit"];
    assert!(fair.contains(&code.as_str()), "{} {} of {value}: {code}", import.module, import.name);
    assert_eq!(done.record()["verdict"]["blame"], "guest");
}
