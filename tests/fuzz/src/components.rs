//! Whole agents that were generated: any code behind the exports that an agent has.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::OnceLock;

use arbitrary::{Arbitrary, Unstructured};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, Function, Instruction};
use wasm_smith::{Config, Module};
use wasm_worker_core::record::JobRecord;
use wasm_worker_sandbox::job::spec::JobSpec;
use wasmparser::{ExternalKind, FunctionBody, Parser, Payload, TypeRef};

use crate::core_guest;
use crate::worker::worker;

/// The bytes go to the bodies in this order, and the last ones get what is left.
const EXPORTS: &str = r#"(module
  (memory (export "memory") 2)
  (func (export "resume") (param f64 i32 i32))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "prewarm") (result i32) unreachable)
  (func (export "decide") (param i32) (result i32) unreachable))"#;

/// What an agent gets that returns this: room for what the host passes in, and `ok`, as the first page is all zeros where
/// nothing has been written.
const GOOD: [(&str, i32); 3] = [("cabi_realloc", 65_536), ("prewarm", 16), ("decide", 16)];

/// Generate an agent, and run a job of it.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// The same, and what came of it. The first byte says which exports are good ones: else few would come as far as their
/// first step. `None` when the bytes give no agent, or it is refused, or refuses the job.
pub fn play(bytes: &[u8]) -> Option<JobRecord> {
    let (good, seed) = bytes.split_first()?;
    let module = generate(seed)?;
    let good = GOOD.iter().enumerate().filter(|(bit, _)| good >> bit & 1 == 1).map(|(_, export)| *export);
    let component = core_guest::encode(with_good(&module, good.collect()));
    worker().whole_job(component, JobSpec::default(), None)
}

/// `None` when the bytes do not suffice.
fn generate(seed: &[u8]) -> Option<Vec<u8>> {
    static IMPORTS: OnceLock<Vec<u8>> = OnceLock::new();
    let imports = IMPORTS.get_or_init(|| {
        let mut text = String::from("(module ");
        for import in core_guest::imports() {
            let (params, results) = (import.params.join(" "), import.results.join(" "));
            let types = format!("(param {params}) (result {results})");
            writeln!(text, "(import \"{}\" \"{}\" (func {types}))", import.module, import.name).unwrap();
        }
        wat::parse_str(text + ")").unwrap()
    });
    let mut unstructured = Unstructured::new(seed);
    let config = Config {
        available_imports: Some(imports.clone()),
        exports: Some(wat::parse_str(EXPORTS).unwrap()),
        // Beside the exported one: with two a component needs more than a slot has, and is refused.
        max_memories: 0,
        // About half of the imports, and a few functions: their bodies come before those of the exports, and would use up
        // most inputs.
        max_funcs: 70,
        max_tables: 2,
        max_data_segments: 10,
        // Proposals that the engine has off.
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        multi_value_enabled: true,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::arbitrary(&mut unstructured).ok()?
    };
    Module::new(config, &mut unstructured).ok().map(|module| module.to_bytes())
}

/// The module with the body of each of these exports replaced by a constant.
fn with_good(module: &[u8], good: HashMap<&str, i32>) -> Vec<u8> {
    let (mut imported, mut constants) = (0, HashMap::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::ImportSection(section) => {
                let functions =
                    section.into_imports().filter(|import| matches!(import.as_ref().unwrap().ty, TypeRef::Func(_)));
                imported = functions.count() as u32;
            }
            Payload::ExportSection(section) => {
                for export in section.into_iter().map(Result::unwrap).filter(|export| export.kind == ExternalKind::Func)
                {
                    if let Some(constant) = good.get(export.name) {
                        constants.insert(export.index - imported, *constant);
                    }
                }
            }
            _ => {}
        }
    }
    let mut encoded = wasm_encoder::Module::new();
    let mut bodies = Bodies { constants, next: 0 };
    bodies.parse_core_module(&mut encoded, Parser::new(0), module).unwrap();
    encoded.finish()
}

/// Copies a module but for these function bodies, and references to what is outside.
struct Bodies {
    constants: HashMap<u32, i32>,
    next: u32,
}

impl Reencode for Bodies {
    type Error = std::convert::Infallible;

    /// The engine has no references to what is outside; such tables and values are of functions here.
    fn abstract_heap_type(
        &mut self,
        ty: wasmparser::AbstractHeapType,
    ) -> Result<wasm_encoder::AbstractHeapType, reencode::Error<Self::Error>> {
        let ty = if ty == wasmparser::AbstractHeapType::Extern { wasmparser::AbstractHeapType::Func } else { ty };
        Ok(reencode::utils::abstract_heap_type(self, ty))
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let index = self.next;
        self.next += 1;
        let Some(constant) = self.constants.get(&index) else {
            return reencode::utils::parse_function_body(self, code, body);
        };
        let mut function = Function::new([]);
        function.instruction(&Instruction::I32Const(*constant)).instruction(&Instruction::End);
        code.function(&function);
        Ok(())
    }
}
