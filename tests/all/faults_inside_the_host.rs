//! Faults inside the host: a panic in each host call, in the supervisor and in the event sink ends one job, and never the worker.
//!
//! The panics are injected through the log: the bindings open a span in each host call, the life traces each of its steps,
//! and every event is logged. A layer that panics there panics inside the code that is under test.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, registry::LookupSpan};
use wasm_worker::config::{Config, EventTarget};
use wasm_worker::observers::{EventLines, publisher};
use wasm_worker_core::observer::Events;
use wasm_worker_core::verdict::{Blame, Code, Verdict};
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::{Agent, source};
use wasm_worker_sandbox::engine::{Engine, EngineSettings};
use wasm_worker_sandbox::job::spec::JobSpec;
use wasm_worker_sandbox::runtimes::Runtimes;

use crate::support::harness::{core_component, guest, in_a_process_of_its_own};
use wasm_worker_fuzz::core_guest::{Import, imports};

/// What panics: a span's `module function`, or an event's message.
static ARMED: Mutex<Option<String>> = Mutex::new(None);

struct Fault;

#[derive(Default)]
struct Texts {
    module: String,
    function: String,
    message: String,
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "module" => value.clone_into(&mut self.module),
            "function" => value.clone_into(&mut self.function),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

/// Panics when this is what is armed, once.
fn reach(point: &str) {
    let hit = ARMED.lock().unwrap().take_if(|armed| armed == point);
    if hit.is_some() {
        panic!("injected in {point}");
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Fault {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut texts = Texts::default();
        attributes.record(&mut texts);
        reach(&format!("{} {}", texts.module, texts.function));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut texts = Texts::default();
        event.record(&mut texts);
        // The cause of a change of phase stands in brackets behind it.
        reach(texts.message.split(" (").next().unwrap_or_default());
    }
}

/// A worker in this process.
struct Worker {
    runtimes: Runtimes,
    engine: Engine,
    events: Arc<Events>,
}

impl Worker {
    fn start() -> Self {
        let runtimes = Runtimes::start().unwrap();
        let settings = EngineSettings { slots: 4, memory_bytes: 128 << 20, stack_bytes: 512 << 10 };
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone()).unwrap();
        Self { runtimes, engine, events: publisher(&EventLines::open(&EventTarget::Off).unwrap(), None) }
    }

    fn load(&self, component: &std::path::Path) -> Agent {
        let source = source::read(component).unwrap();
        let config = Config::default();
        self.runtimes.block_on(Agent::load(&self.engine, source, &config.agent, None, None, &self.events)).unwrap()
    }

    /// One job's verdict, with this fault armed, and whether anything got as far as that.
    fn run(&self, agent: &Agent, fault: &str) -> (Verdict, bool) {
        *ARMED.lock().unwrap() = Some(fault.to_owned());
        let offer = JobSpec::default().into_offers("agent")();
        let verdict = self.runtimes.block_on(async {
            let running = agent.offer(offer, &self.events).await.unwrap();
            running.closed().await.unwrap().verdict
        });
        (verdict, ARMED.lock().unwrap().take().is_none())
    }

    /// The same, of a fault that is reached.
    fn reach(&self, agent: &Agent, fault: &str) -> Verdict {
        let (verdict, reached) = self.run(agent, fault);
        assert!(reached, "nothing got as far as {fault}: {verdict:?}");
        verdict
    }
}

/// A function that gives a handle: its interface, its name, its parameters, and what is passed to it.
type Maker = [&'static str; 4];

const TIMER: Maker = ["wasi:clocks/monotonic-clock@0.2.12", "subscribe-duration", "i64", "(i64.const 0)"];
const STDIN: Maker = ["wasi:cli/stdin@0.2.12", "get-stdin", "", ""];
const STDOUT: Maker = ["wasi:cli/stdout@0.2.12", "get-stdout", "", ""];

/// What gives the handles that this function begins with.
fn makers(function: &str) -> &'static [Maker] {
    match function.split_once('.') {
        Some(("[method]pollable", _)) => &[TIMER],
        Some(("[method]output-stream", "splice" | "blocking-splice")) => &[STDOUT, STDIN],
        Some(("[method]output-stream", _)) => &[STDOUT],
        Some(("[method]input-stream", _)) => &[STDIN],
        _ => &[],
    }
}

/// What a guest declares for this import and those that give its handles, and one call of it: with handles that are
/// good, `number` for the rest, and `results_at` where its results go.
fn call(import: &Import, number: i64, results_at: u32) -> (String, String) {
    let Import { module, name, params, results } = import;
    let makers = makers(name);
    let mut declared = format!(
        "(import \"{module}\" \"{name}\" (func $f (param {}) (result {})))\n",
        params.join(" "),
        results.join(" ")
    );
    let mut arguments = String::new();
    for (index, [module, name, params, passed]) in makers.iter().enumerate() {
        writeln!(declared, "(import \"{module}\" \"{name}\" (func $make{index} (param {params}) (result i32)))")
            .unwrap();
        write!(arguments, "(call $make{index} {passed}) ").unwrap();
    }
    for (index, ty) in params.iter().enumerate().skip(makers.len()) {
        let passed = if index + 1 == params.len() { i64::from(results_at) } else { number };
        write!(arguments, "({ty}.const {passed}) ").unwrap();
    }
    (declared, format!("(call $f {arguments})"))
}

/// Whether the function begins with a handle that can be had.
pub(crate) fn has_handle(import: &Import) -> bool {
    !makers(&import.name).is_empty()
}

/// A guest that calls the import once.
pub(crate) fn caller(import: &Import, number: i64, results_at: u32) -> String {
    let (declared, called) = call(import, number, results_at);
    let dropped = "drop ".repeat(import.results.len());
    format!("{declared}(func (export \"resume\") (param f64 i32 i32) {called} {dropped} (call $ok))")
}

/// A guest that calls this function of a stream, and asks about the error when it is one that can be asked about.
fn asker(import: &Import, number: i64) -> String {
    let (declared, called) = call(import, number, 1024);
    // The results are one byte for `ok` or `err`, and then, behind the padding that a count of 64 bits wants, one for
    // which error it is and four for its handle.
    let counts = ["skip", "splice", "check-write"].iter().any(|end| import.name.ends_with(end));
    let error = if counts { 8 } else { 4 };
    format!(
        "(import \"wasi:io/error@0.2.12\" \"{ASK}\" (func $ask (param i32 i32)))
        {declared}(func (export \"resume\") (param f64 i32 i32)
          {called}
          (if (i32.and (i32.load8_u (i32.const 1024)) (i32.eqz (i32.load8_u offset={error} (i32.const 1024))))
            (then (call $ask (i32.load offset={} (i32.const 1024)) (i32.const 2048))))
          (call $ok))",
        error + 4
    )
}

const ASK: &str = "[method]error.to-debug-string";

/// The calls that no injected fault can reach, and what becomes of a job that makes them.
const UNREACHED: &[(&str, Code, &str)] = &[
    // It wants a handle that only a stream which failed gives. The streams here do not fail: they are closed, or trap.
    (ASK, Code::Trapped, "unknown handle"),
];

/// The faults are armed for the whole process, and other tests of this one run jobs in it too.
#[test]
fn panic_in_host_code_ends_one_job_and_never_the_worker() {
    in_a_process_of_its_own("faults_inside_the_host::injected_panics_end_one_job_each");
}

#[test]
#[ignore = "the test above runs it in a process of its own"]
fn injected_panics_end_one_job_each() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Fault)).unwrap();
    let worker = Worker::start();
    let good = worker.load(&guest("minimal"));
    let before = worker.engine.pool();

    for import in imports() {
        let agent = worker.load(&core_component("faulty", &caller(&import, 0, 0)));
        let point = point(&import);
        if let Some((_, code, detail)) = UNREACHED.iter().find(|(name, ..)| *name == import.name) {
            let (verdict, reached) = worker.run(&agent, &point);
            assert_eq!((verdict.code, reached), (*code, false), "{point}");
            assert!(verdict.detail.contains(detail), "{point}: {verdict:?}");
            continue;
        }
        let verdict = worker.reach(&agent, &point);
        assert_eq!((verdict.code, verdict.blame, verdict.retry), (Code::HostFault, Blame::Host, true), "{point}");
        assert_eq!(verdict.detail, format!("a host call panicked: injected in {point}"));
    }
    no_stream_gives_an_error(&worker);

    for step in
        ["created → started", "started → ready", "ready → running", "running → delivering", "delivering → closed"]
    {
        let verdict = worker.reach(&good, step);
        assert_eq!((verdict.code, verdict.blame), (Code::HostFault, Blame::Host), "{step}");
        assert_eq!(verdict.detail, format!("the supervisor panicked: injected in {step}"));
    }

    for event in ["job.created", "job.started", "job.ready", "job.launched", "job.closed"] {
        assert_eq!(worker.reach(&good, event).code, Code::Completed, "a sink that panics over {event}");
    }

    assert_eq!(worker.engine.pool(), before, "something was not given back");
    worker.runtimes.shut_down();
}

/// The span that the bindings open in this call.
fn point(import: &Import) -> String {
    let interface = import.module.split(['/', '@']).nth(1).unwrap();
    format!("{interface} {}", import.name)
}

/// Whatever a guest does with a stream, it never has an error to ask about. Should a stream come that fails, it is the way
/// to reach the fault in `to-debug-string`.
fn no_stream_gives_an_error(worker: &Worker) {
    let imports = imports();
    let ask = point(imports.iter().find(|import| import.name == ASK).unwrap());
    let streams = imports.iter().filter(|import| import.module.starts_with("wasi:io/streams@"));
    // `subscribe` gives a handle, and the rest write what came of them.
    let calls: Vec<&Import> = streams.filter(|import| import.results.is_empty()).collect();
    assert_eq!(calls.len(), 13, "streams have other functions now");
    for import in calls {
        for number in [0, 1, 4_096, 65_536, -1] {
            let agent = worker.load(&core_component("asking", &asker(import, number)));
            let (verdict, reached) = worker.run(&agent, &ask);
            assert!(!reached, "{} of {number} gives an error", import.name);
            assert!(
                matches!(verdict.code, Code::Completed | Code::Trapped),
                "{} of {number}: {verdict:?}",
                import.name
            );
            assert!(!verdict.detail.contains("handle"), "{} of {number}: {verdict:?}", import.name);
        }
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn vanished_cache_costs_a_warning_and_no_job() {
    let worker = Worker::start();
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    dir.close().unwrap();
    let source = source::read(&guest("minimal")).unwrap();
    let config = Config::default();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let agent = tracing::subscriber::with_default(subscriber, || {
        let loading = Agent::load(&worker.engine, source, &config.agent, Some(&cache), None, &worker.events);
        worker.runtimes.block_on(loading).unwrap()
    });
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("WARN") && said.contains("the compiled agent is not cached"), "{said}");
    assert_eq!(worker.run(&agent, "nothing").0.code, Code::Completed);
    drop(agent);
    worker.runtimes.shut_down();
}
