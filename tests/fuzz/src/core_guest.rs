//! Guests written by hand: the lines of a core module that say what is special about it, made a component.
//!
//! What the lines leave out is what a good agent has: a memory, room for what the host passes in, and exports that accept
//! every offer and end well. So a guest in `tests/guests/core` is as long as its mischief.

use std::path::Path;
use std::sync::OnceLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, WorldId, WorldItem};

/// The first page is all zeros where the guest writes nothing: read as a result it is `ok`, as a decision `accept`.
const DEFAULTS: &[(&str, &str)] = &[
    ("memory", r#"(memory (export "memory") 2)"#),
    // All that the host passes in goes to the same place: nothing of it is kept.
    ("cabi_realloc", r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)"#),
    ("prewarm", r#"(func (export "prewarm") (result i32) i32.const 16)"#),
    ("decide", r#"(func (export "decide") (param i32) (result i32) i32.const 16)"#),
    ("entrypoint", r#"(func (export "entrypoint") (result i32) i32.const 16)"#),
    ("shutdown", r#"(func (export "shutdown") (param i32 i32))"#),
];

/// The component of a core module that begins with these lines.
pub fn component(lines: &str) -> Vec<u8> {
    let missing = DEFAULTS.iter().filter(|(name, _)| !lines.contains(&format!("(export \"{name}\")")));
    let rest: Vec<&str> = missing.map(|(_, text)| *text).collect();
    let text = format!("(module\n{lines}\n{})", rest.join("\n"));
    encode(wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}")))
}

/// The component of a whole core module.
pub fn encode(mut module: Vec<u8>) -> Vec<u8> {
    let (resolve, world) = world();
    embed_component_metadata(&mut module, resolve, *world, StringEncoding::UTF8).unwrap();
    // A guest may break rules that only show when it is compiled, so it is not validated here.
    ComponentEncoder::default().validate(false).module(&module).unwrap().encode().unwrap()
}

/// A function that a guest may import, as its core module sees it.
pub struct Import {
    /// The interface.
    pub module: String,
    /// The function.
    pub name: String,
    /// `i32`, `i64`, `f32` or `f64` each.
    pub params: Vec<&'static str>,
    /// The same; one at most.
    pub results: Vec<&'static str>,
}

/// Every function of every interface that a guest may import.
pub fn imports() -> Vec<Import> {
    let (resolve, world) = world();
    let mut imports = Vec::new();
    for (key, item) in &resolve.worlds[*world].imports {
        let WorldItem::Interface { id, .. } = item else { continue };
        for function in resolve.interfaces[*id].functions.values() {
            let signature = resolve.wasm_signature(wit_parser::abi::AbiVariant::GuestImport, function);
            let of = |types: &[wit_parser::abi::WasmType]| types.iter().map(|ty| core_type(*ty)).collect();
            let (module, name) = resolve.wasm_import_name(
                ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync),
                wit_parser::WasmImport::Func { interface: Some(key), func: function },
            );
            imports.push(Import { module, name, params: of(&signature.params), results: of(&signature.results) });
        }
    }
    imports
}

fn core_type(ty: wit_parser::abi::WasmType) -> &'static str {
    use wit_parser::abi::WasmType;
    match ty {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
    }
}

/// The world `guest` of `tests/guests/core/wit`, which is the contract's with WASI beside it.
fn world() -> &'static (Resolve, WorldId) {
    static WORLD: OnceLock<(Resolve, WorldId)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut resolve = Resolve::default();
        let mut push = |path: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
            resolve.push_str(&path, &std::fs::read_to_string(&path).unwrap()).unwrap()
        };
        for name in ["io", "clocks", "random", "cli"] {
            push(&format!("tests/guests/core/wit/deps/{name}.wit"));
        }
        push("guest-sdk/wit/agent.wit");
        let package = push("tests/guests/core/wit/world.wit");
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        (resolve, world)
    })
}
