//! Guests written by hand: the lines of a core module that say what is special about it, made a component.
//!
//! What the lines leave out is what a good agent has: a memory, room for what the host passes in, and exports that accept
//! every offer and end well in the first step. So a guest in `tests/guests/core` is as long as its mischief. Each may call
//! `$finish`, which is the import `job.finish`, and `$ok`, which ends its job well.

use std::fmt::Write;
use std::path::Path;
use std::sync::OnceLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{
    Handle, InterfaceId, ManglingAndAbi, Resolve, Type, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem,
};

/// Declared before the lines, as the text format wants imports first.
const FINISH: &str = r#"(import "wasm-worker:agent/job@0.1.0" "finish" (func $finish (param i32 i32 i32)))"#;
const OK: &str = "(func $ok (call $finish (i32.const 0) (i32.const 0) (i32.const 0)))";
/// Where the lines have this import under a name of their own: nothing may be imported twice.
const NO_OK: &str = "(func $ok)";

/// The first page is all zeros where the guest writes nothing: read as a result it is `ok`, as a decision `accept`.
const DEFAULTS: &[(&str, &str)] = &[
    ("memory", r#"(memory (export "memory") 2)"#),
    // All that the host passes in goes to the same place: nothing of it is kept.
    ("cabi_realloc", r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)"#),
    ("prewarm", r#"(func (export "prewarm") (result i32) i32.const 16)"#),
    ("decide", r#"(func (export "decide") (param i32) (result i32) i32.const 16)"#),
    ("resume", r#"(func (export "resume") (param f64 i32 i32) (call $ok))"#),
];

/// The component of a core module that begins with these lines.
pub fn component(lines: &str) -> Vec<u8> {
    let missing = DEFAULTS.iter().filter(|(name, _)| !lines.contains(&format!("(export \"{name}\")")));
    let rest: Vec<&str> = missing.map(|(_, text)| *text).collect();
    let (finish, ok) = match (lines.contains("\"finish\""), lines.contains("(func $finish ")) {
        (false, _) => (FINISH, OK),
        (true, true) => ("", OK),
        (true, false) => ("", NO_OK),
    };
    let text = format!("(module\n{finish}\n{lines}\n{ok}\n{})", rest.join("\n"));
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

/// The line of a component's text that stands for the types of the contract.
const TYPES: &str = ";; TYPES";

/// The text of a component, with the contract's types in place of its line `;; TYPES`: the imports of `types` and `events`,
/// and `$job-info`, `$decision`, `$event` and the others by their names.
pub fn component_text(text: &str) -> String {
    let (resolve, world) = world();
    let mut types = String::new();
    for item in resolve.worlds[*world].imports.values() {
        let WorldItem::Interface { id, .. } = item else { continue };
        let name = resolve.interfaces[*id].name.as_deref();
        if let Some(name @ ("types" | "events")) = name {
            write_types(resolve, *id, name, &mut types);
        }
    }
    text.replacen(TYPES, &types, 1)
}

/// The import of an interface that has nothing but types, and an alias of each.
fn write_types(resolve: &Resolve, interface: InterfaceId, name: &str, text: &mut String) {
    writeln!(text, "(import \"wasm-worker:agent/{name}@0.1.0\" (instance ${name}").unwrap();
    let mut aliases = String::new();
    for (ty, id) in &resolve.interfaces[interface].types {
        let (kind, of) = (&resolve.types[*id].kind, |ty: &Type| reference(resolve, ty));
        // One of another interface, by its alias.
        let used = matches!(kind, TypeDefKind::Type(Type::Id(other)) if owner(resolve, *other) != Some(interface));
        let defined = if used { format!("${ty}") } else { format!("$of.{ty}") };
        if !used {
            writeln!(text, "  (type {defined} {})", definition(resolve, kind, &of)).unwrap();
            writeln!(aliases, "(alias export ${name} \"{ty}\" (type ${ty}))").unwrap();
        }
        writeln!(text, "  (export \"{ty}\" (type $its.{ty} (eq {defined})))").unwrap();
    }
    write!(text, "))\n{aliases}").unwrap();
}

fn owner(resolve: &Resolve, id: TypeId) -> Option<InterfaceId> {
    match resolve.types[id].owner {
        TypeOwner::Interface(interface) => Some(interface),
        _ => None,
    }
}

fn reference(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else { return primitive(ty).to_owned() };
    let def = &resolve.types[*id];
    match &def.name {
        Some(name) => format!("$its.{name}"),
        None => definition(resolve, &def.kind, &|ty| reference(resolve, ty)),
    }
}

fn definition(resolve: &Resolve, kind: &TypeDefKind, of: &dyn Fn(&Type) -> String) -> String {
    let each = |parts: Vec<String>| parts.join(" ");
    match kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| format!("(field \"{}\" {})", field.name, of(&field.ty)));
            format!("(record {})", each(fields.collect()))
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| {
                let payload = case.ty.as_ref().map(of).unwrap_or_default();
                format!("(case \"{}\" {payload})", case.name)
            });
            format!("(variant {})", each(cases.collect()))
        }
        TypeDefKind::Enum(cases) => {
            format!("(enum {})", each(cases.cases.iter().map(|case| format!("\"{}\"", case.name)).collect()))
        }
        TypeDefKind::Flags(flags) => {
            format!("(flags {})", each(flags.flags.iter().map(|flag| format!("\"{}\"", flag.name)).collect()))
        }
        TypeDefKind::Tuple(tuple) => format!("(tuple {})", each(tuple.types.iter().map(of).collect())),
        TypeDefKind::List(of_what) => format!("(list {})", of(of_what)),
        TypeDefKind::Option(of_what) => format!("(option {})", of(of_what)),
        TypeDefKind::Result(result) => {
            let ok = result.ok.as_ref().map(of).unwrap_or_default();
            let error = result.err.as_ref().map(|ty| format!("(error {})", of(ty))).unwrap_or_default();
            format!("(result {ok} {error})")
        }
        TypeDefKind::Type(Type::Id(id)) => definition(resolve, &resolve.types[*id].kind, of),
        TypeDefKind::Type(ty) => primitive(ty).to_owned(),
        TypeDefKind::Handle(Handle::Own(_) | Handle::Borrow(_)) => unreachable!("the contract has no handles"),
        other => unreachable!("the contract has no {other:?}"),
    }
}

fn primitive(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S32 => "s32",
        Type::F64 => "f64",
        Type::String => "string",
        other => unreachable!("the contract has no {other:?}"),
    }
}
