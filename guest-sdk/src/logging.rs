//! The `log` facade and panics, forwarded to the host.

use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use crate::bindings::wasm_worker::agent::job;
use crate::bindings::wasm_worker::agent::log::{Level, write};

/// Name of the component's own crate, whose lines carry no `target` field.
static OWN_CRATE: OnceLock<&'static str> = OnceLock::new();

/// Forwards `log` and panics of an agent of type `A`. Every export calls it; the first call takes effect.
pub(crate) fn install<A>() {
    if install_logger::<A>() {
        std::panic::set_hook(Box::new(report_panic));
    }
}

/// Forwards `log` alone, in a component whose main type is `T`. Returns whether this was the first call.
pub(crate) fn install_logger<T>() -> bool {
    let name = std::any::type_name::<T>().split("::").next().unwrap_or_default();
    let first = OWN_CRATE.set(name).is_ok();
    if first && log::set_logger(&HostLogger).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    first
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
