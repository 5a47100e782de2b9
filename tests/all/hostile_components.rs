//! Components that attack the host before they run, while they are read, compiled or instantiated.

use std::fmt::Write;
use std::path::PathBuf;

use wasm_worker_fuzz::core_guest::{Import, imports};

use crate::faults_inside_the_host::{caller, has_handle};
use crate::support::harness::{core_component, guest, kept_file, wasm_worker};

/// A component, and what comes of it.
pub(crate) struct Row {
    pub(crate) file: PathBuf,
    pub(crate) flags: &'static [&'static str],
    /// None: it is refused when it is loaded.
    pub(crate) code: Option<&'static str>,
    pub(crate) exit: i32,
    /// Parts of what is said, or of the detail.
    pub(crate) says: &'static [&'static str],
}

fn refused(file: PathBuf, says: &'static [&'static str]) -> Row {
    Row { file, flags: &[], code: None, exit: 3, says }
}

/// Those that ask too much of whoever reads, compiles or makes them, or that are no agents.
pub(crate) fn corpus() -> Vec<Row> {
    let large = core_component("loops", &loops(200_000));
    let mut rows = vec![
        refused(guest("memories"), &["agent `memories` "]),
        refused(guest("table_huge"), &["agent `table_huge` ", "10000000"]),
        // Each instance would have a copy of these outside of its memory.
        refused(
            core_component("elements", &format!("(func $f) (elem func {})", "$f ".repeat(30_000))),
            &[
                "agent `elements` is not a component that can run here: it has 30000 elements in passive segments; at most 20000 are allowed",
            ],
        ),
        // These are copied and evaluated at the start of each instance, which no fuel measures and no epoch interrupts.
        refused(
            core_component(
                "copies",
                &format!("(data (offset i32.const 1 i32.const 2 i32.add) \"{}\")", "x".repeat(9 << 20)),
            ),
            &[
                "agent `copies` is not",
                "each instance would copy ",
                "bytes of data segments; at most 8388608 are allowed",
            ],
        ),
        refused(
            core_component("sums", &format!("(global i32 i32.const 0 {})", "i32.const 1 i32.add ".repeat(20_000))),
            &["agent `sums` is not", "elements and bytes of constant expressions; at most 50000 are allowed"],
        ),
        // The structures of the instance are on the job's bill.
        Row {
            file: core_component("globals", &"(global i64 (i64.const 0))\n".repeat(10_000)),
            flags: &["--memory-limit", "256KiB"],
            code: Some("memory-limit"),
            exit: 12,
            says: &["at most 262144 are allowed"],
        },
        // And these a heap that nobody counts.
        refused(core_component("heap", "(table 1 externref)"), &["agent `heap` ", "gc types are disallowed"]),
        Row {
            flags: &["--compile-timeout", "20ms"],
            ..refused(large.clone(), &["agent `loops` ", "longer than `compile-timeout` (20ms)"])
        },
        Row {
            flags: &["--compile-memory", "100MiB"],
            ..refused(
                large,
                &[
                    "agent `loops` ",
                    "may use 104857600 bytes of memory (`compile-memory`), and needs more: an allocation of ",
                ],
            )
        },
        // It is only large.
        Row { file: fifty_megabytes(), flags: &[], code: Some("completed"), exit: 0, says: &["the agent finished"] },
    ];
    rows.extend(no_agents());
    rows
}

fn no_agents() -> Vec<Row> {
    let whole = std::fs::read(guest("randomness")).unwrap();
    vec![
        refused(kept_file("text.wasm", b"hello"), &["agent `text` ", "it does not begin with `\\0asm`"]),
        refused(kept_file("random.wasm", &random(1_000)), &["agent `random` is not a component that can run here"]),
        refused(
            kept_file("random_short.wasm", &random(16)),
            &["agent `random_short` is not a component that can run here"],
        ),
        refused(
            kept_file("random_long.wasm", &random(100_000)),
            &["agent `random_long` is not a component that can run here"],
        ),
        refused(
            kept_file("truncated.wasm", &whole[..whole.len() / 2]),
            &["agent `truncated` is not a component that can run here"],
        ),
        refused(kept_file("no_exports.wat", b"(component)"), &["it exports no `prewarm`, no `decide`, no `resume`"]),
        refused(kept_file("wrong_world.wat", WRONG_WORLD), &["agent `wrong_world` does not implement", "decide"]),
        refused(
            kept_file("forbidden.wat", FORBIDDEN),
            &["imports interfaces that agents may not import: wasi:http/types@0.2.6"],
        ),
        refused(
            kept_file("nested.wat", nested(10_000).as_bytes()),
            &["agent `nested` is not a component that can run here"],
        ),
    ]
}

const FORBIDDEN: &[u8] = br#"(component (import "wasi:http/types@0.2.6" (instance)))"#;

const WRONG_WORLD: &[u8] = br#"(component
    (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f")))
    (export "prewarm" (func $f)) (export "decide" (func $f))
    (export "resume" (func $f)))"#;

/// What begins as a component does.
fn random(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.extend((0..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    }));
    bytes
}

fn fifty_megabytes() -> PathBuf {
    let line = "x".repeat(1 << 20);
    let mut data = String::from("(memory (export \"memory\") 1000)\n");
    for megabyte in 0..50 {
        writeln!(data, "(data (i32.const {}) \"{line}\")", (megabyte + 2) << 20).unwrap();
    }
    core_component("fifty_megabytes", &data)
}

/// A function of so many loops, one in another's place.
fn loops(count: usize) -> String {
    let mut text = String::from("(func (export \"resume\") (param f64 i32 i32) (local $a i32) (local $b i64)\n");
    for at in 0..count {
        writeln!(
            text,
            "(block (br_if 0 (i32.eqz (local.get $a))) (local.set $b (i64.add (local.get $b) (i64.const {at}))))"
        )
        .unwrap();
    }
    text + "(call $ok))"
}

/// The smallest agent with one more import, whose type is nested so deep.
fn nested(depth: usize) -> String {
    let mut text = String::from("(type $t0 (list u8))\n");
    for at in 1..depth {
        writeln!(text, "(type $t{at} (list $t{}))", at - 1).unwrap();
    }
    let (import, last) = ("wasm-worker:agent/nested", depth - 1);
    write!(text, "(import \"{import}\" (instance (export \"f\" (func (param \"x\" $t{last})))))").unwrap();
    larger_minimal(&text)
}

/// The smallest agent, with more in its component.
pub(crate) fn larger_minimal(more: &str) -> String {
    let minimal = std::fs::read_to_string(guest("minimal")).unwrap();
    let open = minimal.trim_end().strip_suffix(')').unwrap();
    format!("{open}\n{more})")
}

#[test]
fn bad_arguments_of_an_import_end_only_the_job_that_passed_them() {
    assert!(imports().len() > 50, "{} imports", imports().len());
    // A pointer or a handle each: none, past the end, overlapping the length, negative.
    for value in [0_i64, 1, 65_530, 131_072, 2_147_483_647, -1, -8] {
        for import in imports() {
            let (params, results) = (import.params.join(" "), import.results.join(" "));
            let arguments: Vec<String> = import.params.iter().map(|ty| format!("({ty}.const {value})")).collect();
            let lines = format!(
                "(import \"{}\" \"{}\" (func $f (param {params}) (result {results})))
                (func (export \"resume\") (param f64 i32 i32) (call $f {}) {} (call $ok))",
                import.module,
                import.name,
                arguments.join(" "),
                "drop ".repeat(import.results.len()),
            );
            ends_fairly(&lines, &import, value);
            // With a good handle the other arguments are looked at, too.
            if has_handle(&import) {
                let results_at = u32::try_from(value & 0xffff_ffff).unwrap();
                ends_fairly(&caller(&import, value, results_at), &import, value);
            }
        }
    }
}

fn ends_fairly(lines: &str, import: &Import, value: i64) {
    let component = core_component("import", lines);
    let done = wasm_worker(["run", component.to_str().unwrap(), "--job", "--log-level", "off"]).done();
    let code = done.code();
    let fair = ["completed", "failed", "trapped", "hostcall-limit", "memory-limit"];
    assert!(fair.contains(&code.as_str()), "{} {} of {value}: {code}", import.module, import.name);
    assert_eq!(done.record()["verdict"]["blame"], "guest");
}
