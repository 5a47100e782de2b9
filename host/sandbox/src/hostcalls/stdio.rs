//! `wasi:cli`: standard streams as log lines, an empty environment, and exit.
//!
//! What a guest prints costs it what logging costs: lines over the rate are dropped and counted, and printing is no sign
//! of life.

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

use super::calls::Interface;
use super::control::Control;
use super::log::Printed;
use super::{Exit, HostState};

/// What a stream accepts in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

impl stdin::Host for HostState {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        self.meter.count(Interface::Stdio, 0);
        self.give_handle("wasi:cli/stdin")?;
        let stream: DynInputStream = Box::new(Empty);
        Ok(self.table.push(stream)?)
    }
}

impl stdout::Host for HostState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.give_handle("wasi:cli/stdout")?;
        self.output(Printed::Stdout)
    }
}

impl stderr::Host for HostState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.give_handle("wasi:cli/stderr")?;
        self.output(Printed::Stderr)
    }
}

impl HostState {
    fn output(&mut self, to: Printed) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.meter.count(Interface::Stdio, 0);
        let stream: DynOutputStream = Box::new(Lines { to, control: self.control.clone() });
        Ok(self.table.push(stream)?)
    }
}

/// Nothing to read.
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

/// Whatever is written becomes lines of the job's log.
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
        self.meter.count(Interface::Stdio, 0);
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        self.meter.count(Interface::Stdio, 0);
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        self.meter.count(Interface::Stdio, 0);
        Ok(None)
    }
}

impl exit::Host for HostState {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        self.exit_with_code(u8::from(status.is_err()))
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        self.meter.count(Interface::Stdio, 0);
        Err(Exit(status).into())
    }
}

// No stream here is a terminal, so the terminal resources never exist.

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
