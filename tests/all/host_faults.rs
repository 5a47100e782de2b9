//! Bugs of ours: a panic in each host call, in the supervisor and in the event sink ends one job, and never the worker.
//!
//! The bugs are injected through the log: the bindings open a span in each host call, the life traces each of its steps,
//! and every event is logged. A layer that panics there panics inside the code that is under test.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, registry::LookupSpan};
use wasm_worker::agent::artifact::Cache;
use wasm_worker::agent::{Agent, source};
use wasm_worker::config::{Config, EventTarget};
use wasm_worker::engine::{Engine, EngineSettings};
use wasm_worker::events::Events;
use wasm_worker::job::spec::JobSpec;
use wasm_worker::job::verdict::{Blame, Code, Verdict};
use wasm_worker::runtimes::Runtimes;

use crate::harness::{core_component, guest, run_guest};
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
        reach(&texts.message);
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
        Self { runtimes, engine, events: Arc::new(Events::open(&EventTarget::Off).unwrap()) }
    }

    fn load(&self, component: &std::path::Path) -> Agent {
        let source = source::read(component).unwrap();
        let config = Config::default();
        self.runtimes.block_on(Agent::load(&self.engine, source, &config, None, None, &self.events)).unwrap()
    }

    /// One job's verdict, with this fault armed.
    fn run(&self, agent: &Agent, fault: &str) -> Verdict {
        *ARMED.lock().unwrap() = Some(fault.to_owned());
        let offer = JobSpec::default().into_offers("agent")();
        let verdict = self.runtimes.block_on(async {
            let running = agent.offer(offer, &self.events).await.unwrap();
            running.closed().await.unwrap().verdict
        });
        let missed = ARMED.lock().unwrap().take();
        assert_eq!(missed, None, "nothing got as far as that: {verdict:?}");
        verdict
    }
}

/// Calls the import once, with handles that are good and zeros for the rest.
fn caller(import: &Import) -> String {
    let makers = [
        ("[method]pollable.", "wasi:clocks/monotonic-clock@0.2.12", "subscribe-duration", "i64", "(i64.const 0)"),
        ("[method]output-stream.", "wasi:cli/stdout@0.2.12", "get-stdout", "", ""),
        ("[method]input-stream.", "wasi:cli/stdin@0.2.12", "get-stdin", "", ""),
        ("[method]receiver.", "wasm-worker:agent/inbox@0.1.0", "open", "", ""),
    ];
    let maker = makers.iter().find(|(prefix, ..)| import.name.starts_with(prefix));
    let (declared, handle) = maker.map_or((String::new(), None), |(_, module, name, params, arguments)| {
        let declared = format!("(import \"{module}\" \"{name}\" (func $make (param {params}) (result i32)))");
        (declared, Some(format!("(call $make {arguments})")))
    });
    let zeros = import.params.iter().map(|ty| format!("({ty}.const 0)")).skip(usize::from(handle.is_some()));
    let arguments: Vec<String> = handle.into_iter().chain(zeros).collect();
    format!(
        "{declared}\n(import \"{}\" \"{}\" (func $f (param {}) (result {})))
        (func (export \"entrypoint\") (result i32) (call $f {}) {} i32.const 16)",
        import.module,
        import.name,
        import.params.join(" "),
        import.results.join(" "),
        arguments.join(" "),
        "drop ".repeat(import.results.len()),
    )
}

/// Those that cannot be reached this way: a stream error that no stream here gives, a second handle, and the one call that is
/// not made by the bindings.
const UNREACHED: &[&str] = &[
    "[method]error.to-debug-string",
    "[method]output-stream.splice",
    "[method]output-stream.blocking-splice",
    "get-budget",
];

#[test]
fn a_bug_of_ours_ends_one_job_and_never_the_worker() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Fault)).unwrap();
    let worker = Worker::start();
    let good = worker.load(&guest("minimal"));
    let before = worker.engine.pool();

    for import in imports().iter().filter(|import| !UNREACHED.contains(&import.name.as_str())) {
        let agent = worker.load(&core_component("faulty", &caller(import)));
        let interface = import.module.split(['/', '@']).nth(1).unwrap();
        let point = format!("{interface} {}", import.name);
        let verdict = worker.run(&agent, &point);
        assert_eq!((verdict.code, verdict.blame, verdict.retry), (Code::HostFault, Blame::Host, true), "{point}");
        assert_eq!(verdict.detail, format!("a host call panicked: injected in {point}"));
    }

    for step in ["created → started", "started → ready", "ready → running", "running → finishing", "finishing → closed"]
    {
        let verdict = worker.run(&good, step);
        assert_eq!((verdict.code, verdict.blame), (Code::HostFault, Blame::Host), "{step}");
        assert_eq!(verdict.detail, format!("the supervisor panicked: injected in {step}"));
    }

    for event in ["job.created", "job.started", "job.ready", "job.launched", "job.closed"] {
        assert_eq!(worker.run(&good, event).code, Code::Completed, "a sink that panics over {event}");
    }

    assert_eq!(worker.engine.pool(), before, "something was not given back");
    worker.runtimes.shut_down();
}

#[test]
fn a_full_disk_under_the_event_file_costs_events_and_no_job() {
    let done = run_guest("minimal", ["--count", "50", "--events", "/dev/full"]).done();
    assert_eq!((done.exit, done.lines().len()), (0, 50), "{}", done.stderr);
    assert!(done.stderr.contains("writing events failed; trying on"), "{}", done.stderr);
    assert!(done.stderr.contains("No space left on device"), "{}", done.stderr);
}

#[test]
fn a_cache_that_vanishes_costs_a_warning_and_no_job() {
    let worker = Worker::start();
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    dir.close().unwrap();
    let source = source::read(&guest("minimal")).unwrap();
    let config = Config::default();
    let loading = Agent::load(&worker.engine, source, &config, Some(&cache), None, &worker.events);
    assert_eq!(worker.runtimes.block_on(loading).unwrap().name(), "minimal");
    worker.runtimes.shut_down();
}
