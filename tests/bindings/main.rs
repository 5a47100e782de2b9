//! Generates the Rust bindings of the guest SDK. They are committed, so that no agent compiles the generator.
//!
//! `cargo run -p sdk-bindings` writes them; with `-- --check` it fails if the committed ones differ from the contract.

use std::error::Error;
use std::path::{Path, PathBuf};

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::{Opts, WithOption};

const HEADER: &str = "// Generated from `guest-sdk/wit` by `cargo run -p sdk-bindings`.\n";

const AGENT: &str = "package wasm-worker:sdk;
world agent {
  include wasm-worker:agent/agent@0.1.0;
}";

const LOAD_FUNCTION: &str = "package wasm-worker:sdk;
world load-function {
  include wasm-worker:agent/load-function@0.1.0;
}";

fn main() -> Result<(), Box<dyn Error>> {
    // A load function logs by the bindings of an agent, so that the SDK has one logger.
    let shared = ["log", "types"].map(|interface| {
        let path = format!("crate::bindings::wasm_worker::agent::{interface}");
        (format!("wasm-worker:agent/{interface}@0.1.0"), WithOption::Path(path))
    });
    let files = [
        ("bindings.rs", generate("agent", AGENT, Vec::new())?),
        ("load_bindings.rs", generate("load-function", LOAD_FUNCTION, shared.into())?),
    ];
    let check = std::env::args().any(|arg| arg == "--check");
    for (name, text) in files {
        let path = root().join("guest-sdk/src").join(name);
        if !check {
            std::fs::write(path, text)?;
        } else if std::fs::read_to_string(&path)? != text {
            return Err(format!("{name} is not current; `cargo run -p sdk-bindings` updates it").into());
        }
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn generate(name: &str, world: &str, with: Vec<(String, WithOption)>) -> Result<String, Box<dyn Error>> {
    let mut resolve = Resolve::default();
    resolve.push_path(root().join("guest-sdk/wit"))?;
    let package = resolve.push_str("world.wit", world)?;
    let world = resolve.select_world(&[package], Some(name))?;
    let options = Opts {
        format: true,
        generate_all: true,
        pub_export_macro: true,
        export_macro_name: Some(format!("export_{}", name.replace('-', "_"))),
        runtime_path: Some("crate::runtime".into()),
        with,
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let (_, text) = files.iter().next().ok_or("the generator makes one file")?;
    Ok(format!("{HEADER}{}", std::str::from_utf8(text)?))
}
