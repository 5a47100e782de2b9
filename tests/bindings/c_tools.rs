//! What an agent in C needs beside its compiler, by the libraries of `wit-bindgen c` and of `wasm-tools component new`: the programs
//! themselves take minutes to compile.
//!
//! `c-tools bindings WIT DIR` writes the bindings of the world `agent`; `c-tools component CORE COMPONENT` makes a component of
//! what clang linked.

use std::error::Error;
use std::path::Path;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::ComponentEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bindings", wit, dir] => bindings(wit.as_ref(), dir.as_ref()),
        ["component", core, component] => encode(core.as_ref(), component.as_ref()),
        _ => Err("want `bindings WIT DIR` or `component CORE COMPONENT`".into()),
    }
}

fn bindings(wit: &Path, dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some("agent"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    for (name, bytes) in files.iter() {
        std::fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}

/// The adapter serves wasi-libc, which calls WASI 0.1.
fn encode(core: &Path, component: &Path) -> Result<(), Box<dyn Error>> {
    let adapter = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
    let encoder = ComponentEncoder::default().validate(true).module(&std::fs::read(core)?)?;
    std::fs::write(component, encoder.adapter(adapter.0, adapter.1)?.encode()?)?;
    Ok(())
}
