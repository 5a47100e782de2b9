//! The boundary of the contract: any imports, called in any order with any values.
//!
//! The bytes are a program for a guest written by hand, which gets them as the job's metadata, two letters for each. So an
//! input costs a job and no compilation.

use std::fmt::Write;
use std::sync::OnceLock;

use wasm_worker_core::record::JobRecord;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::spec::JobSpec;

use crate::core_guest::{self, Import};
use crate::worker::worker;

/// As many as fit the page that the guest keeps for its program.
const PROGRAM_BYTES_MAX: usize = 16 << 10;

/// What is the same whatever the imports. Of the memory, 1,024 is where the registers begin, 4,096 what results are written
/// to, page 1 the program, and from page 2 on what the host passes in.
///
/// An argument is one byte: a number below 64, a register, a place for results, the rest of the program, or eight bytes more.
/// An instruction is one byte: an import to call, 240 and above a word of the results to keep, 255 the end of the step.
const GUEST: &str = r#"
(memory (export "memory") 8)
(global $next (mut i32) (i32.const 65536))
(global $end (mut i32) (i32.const 65536))
(global $heap (mut i32) (i32.const 131072))
(global $register (mut i32) (i32.const 0))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
  (global.set $heap (i32.add (local.get $at) (local.get 3)))
  (local.get $at))
(func $byte (result i32)
  (if (i32.ge_u (global.get $next) (global.get $end)) (then (return (i32.const 0))))
  (global.set $next (i32.add (global.get $next) (i32.const 1)))
  (i32.load8_u (i32.sub (global.get $next) (i32.const 1))))
(func $argument (result i64)
  (local $byte i32) (local $value i64) (local $left i32)
  (local.set $byte (call $byte))
  (if (i32.lt_u (local.get $byte) (i32.const 64))
    (then (return (i64.extend_i32_u (local.get $byte)))))
  (if (i32.lt_u (local.get $byte) (i32.const 128))
    (then (return (i64.load offset=1024 (i32.shl (i32.and (local.get $byte) (i32.const 15)) (i32.const 3))))))
  (if (i32.lt_u (local.get $byte) (i32.const 192))
    (then (return (i64.extend_i32_u
      (i32.add (i32.const 4096) (i32.shl (i32.and (local.get $byte) (i32.const 63)) (i32.const 6)))))))
  (if (i32.lt_u (local.get $byte) (i32.const 224))
    (then (return (i64.extend_i32_u (global.get $next)))))
  (local.set $left (i32.const 8))
  (loop $more
    (local.set $value (i64.or (i64.shl (local.get $value) (i64.const 8)) (i64.extend_i32_u (call $byte))))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $more (local.get $left)))
  (local.get $value))
(func $keep (param i64)
  (i64.store offset=1024 (i32.shl (i32.and (global.get $register) (i32.const 15)) (i32.const 3)) (local.get 0))
  (global.set $register (i32.add (global.get $register) (i32.const 1))))
(func $run
  (local $code i32)
  (loop $more
    (if (i32.ge_u (global.get $next) (global.get $end)) (then (return)))
    (local.set $code (call $byte))
    (if (i32.eq (local.get $code) (i32.const 255)) (then (return)))
    (if (i32.ge_u (local.get $code) (i32.const 240))
      (then (call $keep (i64.load32_u offset=4096 (i32.shl (call $byte) (i32.const 2)))))
      (else (call_indirect (i32.rem_u (local.get $code) (i32.const IMPORTS)))))
    (global.set $heap (i32.const 131072))
    (br $more)))
(func $read (param $event i32)
  (local $from i32) (local $end i32)
  ;; In the event `started`, behind two texts, the kind, the room, and an optional participant.
  (local.set $from (i32.load offset=144 (local.get $event)))
  (local.set $end (i32.add (local.get $from) (i32.load offset=148 (local.get $event))))
  (block $done
    (loop $more
      (br_if $done (i32.ge_u (local.get $from) (local.get $end)))
      (i32.store8 (global.get $end)
        (i32.or
          (i32.shl (i32.sub (i32.load8_u (local.get $from)) (i32.const 97)) (i32.const 4))
          (i32.sub (i32.load8_u offset=1 (local.get $from)) (i32.const 97))))
      (global.set $end (i32.add (global.get $end) (i32.const 1)))
      (local.set $from (i32.add (local.get $from) (i32.const 2)))
      (br $more))))
(global $started (mut i32) (i32.const 0))
;; The first event is `started`. A step ends where the program says so, and the job with the program.
(func (export "resume") (param f64) (param $events i32) (param i32)
  (if (i32.eqz (global.get $started)) (then (call $read (local.get $events))))
  (global.set $started (i32.const 1))
  (memory.fill (i32.const 4096) (i32.const 0) (i32.const 4096))
  (global.set $heap (i32.const 131072))
  (call $run)
  (if (i32.ge_u (global.get $next) (global.get $end)) (then (call $ok))))
"#;

/// Run the program.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// The same, and what came of it.
pub fn play(program: &[u8]) -> JobRecord {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    let agent = AGENT.get_or_init(|| worker().load(core_guest::component(&guest(&core_guest::imports()))));
    let program = &program[..program.len().min(PROGRAM_BYTES_MAX)];
    let letter = |nibble: u8| char::from(b'a' + nibble);
    let metadata = program.iter().flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect();
    let job = JobSpec { metadata, ..JobSpec::default() };
    worker().one_job(agent, job).expect("it accepts every offer")
}

/// The guest with a function for each import, which reads its arguments from the program and keeps its result.
fn guest(imports: &[Import]) -> String {
    let (mut declared, mut thunks, mut table) = (String::new(), String::new(), String::new());
    for (index, Import { module, name, params, results }) in imports.iter().enumerate() {
        let id = if name == "finish" { "$finish".into() } else { format!("$f{index}") };
        let types = format!("(param {}) (result {})", params.join(" "), results.join(" "));
        writeln!(declared, "(import \"{module}\" \"{name}\" (func {id} {types}))").unwrap();
        let arguments: String = params.iter().map(|ty| format!("({} (call $argument))", from_i64(ty))).collect();
        let called = format!("(call {id} {arguments})");
        match results.first() {
            None => writeln!(thunks, "(func $t{index} {called})"),
            Some(ty) => writeln!(thunks, "(func $t{index} (call $keep ({} {called})))", to_i64(ty)),
        }
        .unwrap();
        write!(table, " $t{index}").unwrap();
    }
    let rest = GUEST.replace("IMPORTS", &imports.len().to_string());
    format!("{declared}{rest}{thunks}(table funcref (elem {table}))")
}

fn from_i64(ty: &str) -> &'static str {
    match ty {
        "i32" => "i32.wrap_i64",
        "f32" => "f32.reinterpret_i32 (i32.wrap_i64",
        "f64" => "f64.reinterpret_i64",
        _ => "i64.add (i64.const 0)",
    }
}

fn to_i64(ty: &str) -> &'static str {
    match ty {
        "i32" => "i64.extend_i32_u",
        "f32" => "i64.extend_i32_u (i32.reinterpret_f32",
        "f64" => "i64.reinterpret_f64",
        _ => "i64.add (i64.const 0)",
    }
}
