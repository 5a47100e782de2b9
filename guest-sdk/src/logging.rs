//! The `log` facade and panics, both carried to the host.

use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use crate::bindings::wasm_worker::agent::job;
use crate::bindings::wasm_worker::agent::log::{Level, write};

/// The agent's own crate, whose lines need not say where they come from.
static OWN_CRATE: OnceLock<&'static str> = OnceLock::new();

/// Route `log` and panics to the host. Runs at each export, and does its work at the first.
pub(crate) fn install<A>() {
    OWN_CRATE.get_or_init(|| {
        if log::set_logger(&HostLogger).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
        std::panic::set_hook(Box::new(report_panic));
        std::any::type_name::<A>().split("::").next().unwrap_or_default()
    });
}

struct HostLogger;

impl log::Log for HostLogger {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let level = match record.level() {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warn,
            log::Level::Info => Level::Info,
            log::Level::Debug => Level::Debug,
            log::Level::Trace => Level::Trace,
        };
        let target = Some(record.target()).filter(|target| OWN_CRATE.get() != Some(target));
        let fields: Vec<(String, String)> = target.map(|target| ("target".into(), target.into())).into_iter().collect();
        write(level, &record.args().to_string(), &fields);
    }

    fn flush(&self) {}
}

fn report_panic(info: &PanicHookInfo) {
    let message = info.payload_as_str().unwrap_or("the panic carried no text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    job::report_panic(message, &place);
}
