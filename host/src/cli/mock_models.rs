//! `wasm-worker mock-models`: a stand-in for model servers, scripted by a file.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::net::TcpListener;
use wasm_worker_core::secret::Secret;
use wasm_worker_mock_models::parse::FILE_BYTES_MAX;
use wasm_worker_mock_models::script::Script;
use wasm_worker_mock_models::server::{Options, serve};

use super::{Exit, Failure, print_exactly, say};
use crate::config::address;

#[derive(Args)]
pub(crate) struct MockModelsArgs {
    /// A YAML file with the answers; without one, each text is repeated in a sentence, word by word
    #[arg(value_name = "FILE")]
    script: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089", value_parser = listen)]
    listen: SocketAddr,
    /// A file with the key that clients need; without one, each client is answered
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    address(text).ok_or_else(|| "want `IP:PORT`, `localhost:PORT` or `:PORT`".into())
}

/// Runs until the process ends.
pub(crate) fn run(args: MockModelsArgs) -> Result<Exit, Failure> {
    let script = match &args.script {
        None => Script::built_in(),
        Some(path) => {
            let text = read(path)?;
            Script::parse(&path.display().to_string(), &text).map_err(|error| Failure::usage(error.to_string()))?
        }
    };
    let key = match &args.key_file {
        None => None,
        Some(path) => {
            let key = read(path)?.trim().to_owned();
            if key.is_empty() {
                return Err(Failure::usage(format!("`{}` has no key", path.display())));
            }
            Some(Secret(key))
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.map_err(|error| {
            Failure::usage(format!("`{}` cannot be listened on: {error}", args.listen))
                .with_hint("choose another address with --listen")
        })?;
        let at = listener.local_addr()?;
        say("a stand-in for models, and no model; clients take this as their base URL:");
        print_exactly(&format!("http://{at}/v1"))?;
        match serve(listener, script, Options { key }).await {}
    })
}

/// A text of bounded size.
fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::usage(format!("`{}` cannot be read: {error}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
