//! Jobs that talk with a model, in one worker, as a table for FIGURES.md:
//!
//! ```text
//! cargo bench --bench models            # 100 and 1,000 jobs
//! cargo bench --bench models -- 10 100  # these numbers of jobs
//! ```
//!
//! Each job has a turn every ten seconds: an answer of 40 tokens, streamed at 40 a second by `wasm-worker mock-models` in a process of its
//! own. The same turns are taken first by bare clients: sockets of this process that read to the end of the answer. What the jobs' turns
//! take longer is the host's share and the agent's. CPU and memory are those of the process with the jobs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench that cannot run says why by panicking, its output is data, and the tests use the rest of the modules"
)]

mod process;
mod stand_in;
#[path = "../all/support"]
mod support {
    pub(crate) mod harness;

    pub(crate) fn skip(what: &str, reason: &str) {
        println!("left out: {what}: {reason}");
    }
}

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use process::Process;
use serde_json::Value;
use stand_in::{EVERY, Models, beyond};
use support::harness::{guest, target_dir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const JOBS: [usize; 2] = [100, 1_000];
const TURNS: usize = 5;
/// From the start of the jobs until all of them have had a turn.
const SETTLE: Duration = Duration::from_secs(15);
const MEASURED: Duration = Duration::from_secs(30);
fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let sizes = if sizes.is_empty() { JOBS.to_vec() } else { sizes };
    println!("| jobs | turns | bare clients, beyond 1 s | jobs, beyond 1 s | memory before, a job | CPU of a job |");
    println!("|---|---|---|---|---|---|");
    for size in sizes {
        println!("{}", row(size));
    }
}

fn row(size: usize) -> String {
    let models = Models::start();
    let bare = bare_clients(&models.address, size);
    let metadata = format!("http://{}/v1 {TURNS} {}", models.address, EVERY.as_millis());
    let mut worker = Command::new(env!("CARGO_BIN_EXE_wasm-worker"));
    worker.arg("run").arg(guest("asker")).args([
        "--job",
        "--count",
        &size.to_string(),
        "--concurrency",
        &size.to_string(),
    ]);
    worker.args([
        "--allow-host",
        &format!("http://{}", models.address),
        "--metadata",
        &metadata,
        "--log-level",
        "error",
    ]);
    worker.env("WASM_WORKER_CACHE_DIR", target_dir().join("models-cache"));
    let mut child = worker.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reading = std::thread::spawn(move || durations(output));
    let process = Process::new(child);
    std::thread::sleep(Duration::from_secs(1));
    let started = process.memory();
    std::thread::sleep(SETTLE);
    let (began, cpu) = (Instant::now(), process.cpu());
    std::thread::sleep(MEASURED);
    let busy = (process.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() / size as f64 * 100.0;
    let memory = process.memory();
    let turns = reading.join().unwrap();
    assert_eq!(turns.len(), size * TURNS, "turns are missing");
    format!(
        "| {size} | {} | {} | {} | {:.1} MiB, {:.0} KiB | {busy:.3} % of a core |",
        turns.len(),
        beyond(bare),
        beyond(turns),
        started.resident as f64 / 1_024.0,
        memory.resident as f64 / size as f64,
    )
}

/// The times that the jobs tell in their records.
fn durations(output: BufReader<ChildStdout>) -> Vec<Duration> {
    let mut turns = Vec::new();
    for line in output.lines() {
        let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(record["verdict"]["code"], "completed", "{record}");
        let texts = record["activity"]["texts"].as_array().unwrap().iter();
        turns.extend(texts.map(|text| Duration::from_micros(text["text"].as_str().unwrap().parse().unwrap())));
    }
    turns
}

/// The same turns by sockets that read to the end of the answer.
fn bare_clients(address: &str, clients: usize) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clients: Vec<_> = (0..clients)
            .map(|number| tokio::spawn(client(address.to_owned(), EVERY.mul_f64(number as f64 / clients as f64))))
            .collect();
        let mut turns = Vec::new();
        for client in clients {
            turns.extend(client.await.unwrap());
        }
        turns
    })
}

async fn client(address: String, begins: Duration) -> Vec<Duration> {
    let body = r#"{"model":"asked","stream":true,"messages":[{"role":"user","content":"tell me something"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::time::sleep(begins).await;
    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let began = Instant::now();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "the answer is cut");
        }
        let took = began.elapsed();
        turns.push(took);
        tokio::time::sleep(EVERY.saturating_sub(took)).await;
    }
    turns
}
