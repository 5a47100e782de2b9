//! `wasm-worker:agent/log`: the lines that an agent logs.

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::log::{self, Host, Level};
use crate::guest::contract::Attributes;
use wasm_worker_core::record::LogLevel;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/log",
    add_to_linker: |linker| log::add_to_linker::<_, Own>(linker, |state| state),
}];

impl Host for HostState {
    fn write(&mut self, level: Level, message: String, fields: Attributes) -> wasmtime::Result<()> {
        let bytes = message.len() + fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.meter.calls.log.add(bytes);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.control.log().write(level_of(level), &message, &fields);
        Ok(())
    }
}

const fn level_of(level: Level) -> LogLevel {
    match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
    }
}
