//! `wasi:cli`: standard streams as log lines, an empty environment, and exit.
//!
//! Printed lines count as log lines: those over the rate are dropped and counted. Printing is no wait of the job.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr, terminal_stdin,
    terminal_stdout,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::{Interface, Own};
use crate::guest::control::Control;
use crate::guest::job_log::Printed;
use crate::guest::{Exit, HostState};

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:cli/environment",
        add_to_linker: |linker| environment::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface { name: "wasi:cli/exit", add_to_linker: |linker| exit::add_to_linker::<_, Own>(linker, |state| state) },
    Interface {
        name: "wasi:cli/stderr",
        add_to_linker: |linker| stderr::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface { name: "wasi:cli/stdin", add_to_linker: |linker| stdin::add_to_linker::<_, Own>(linker, |state| state) },
    Interface {
        name: "wasi:cli/stdout",
        add_to_linker: |linker| stdout::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:cli/terminal-input",
        add_to_linker: |linker| terminal_input::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:cli/terminal-output",
        add_to_linker: |linker| terminal_output::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:cli/terminal-stderr",
        add_to_linker: |linker| terminal_stderr::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:cli/terminal-stdin",
        add_to_linker: |linker| terminal_stdin::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:cli/terminal-stdout",
        add_to_linker: |linker| terminal_stdout::add_to_linker::<_, Own>(linker, |state| state),
    },
];

/// Most bytes that a stream accepts in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

impl stdin::Host for HostState {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        self.meter.calls.stdio.add(0);
        self.check_handle_allowed("wasi:cli/stdin")?;
        let stream: DynInputStream = Box::new(Empty);
        Ok(self.table.push(stream)?)
    }
}

impl stdout::Host for HostState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.check_handle_allowed("wasi:cli/stdout")?;
        self.output(Printed::Stdout)
    }
}

impl stderr::Host for HostState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.check_handle_allowed("wasi:cli/stderr")?;
        self.output(Printed::Stderr)
    }
}

impl HostState {
    fn output(&mut self, to: Printed) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.meter.calls.stdio.add(0);
        let stream: DynOutputStream = Box::new(Lines { to, control: self.control.clone() });
        Ok(self.table.push(stream)?)
    }
}

/// A standard input without bytes.
struct Empty;

#[async_trait]
impl Pollable for Empty {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Empty {
    fn read(&mut self, _size: usize) -> StreamResult<Bytes> {
        Err(StreamError::Closed)
    }
}

/// An output whose lines go to the job's log.
struct Lines {
    to: Printed,
    control: Arc<Control>,
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("more was written than `check-write` allows"));
        }
        self.control.log().print(self.to, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl environment::Host for HostState {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        self.meter.calls.stdio.add(0);
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        self.meter.calls.stdio.add(0);
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        self.meter.calls.stdio.add(0);
        Ok(None)
    }
}

impl exit::Host for HostState {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        self.exit_with_code(u8::from(status.is_err()))
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        self.meter.calls.stdio.add(0);
        Err(Exit(status).into())
    }
}

// No stream is a terminal, so the terminal resources never exist.

impl terminal_input::Host for HostState {}
impl terminal_output::Host for HostState {}

impl terminal_input::HostTerminalInput for HostState {
    fn drop(&mut self, terminal: Resource<terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::HostTerminalOutput for HostState {
    fn drop(&mut self, terminal: Resource<terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_stdin::Host for HostState {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<terminal_input::TerminalInput>>> {
        Ok(None)
    }
}

impl terminal_stdout::Host for HostState {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl terminal_stderr::Host for HostState {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}
