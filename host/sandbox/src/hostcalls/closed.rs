//! `wasi:filesystem` and `wasi:sockets`, closed: no directory is there, and every use of the network is refused.
//!
//! The libraries of C, Python, Go and JavaScript import both, whether or not a program opens a file. So both are linked, by
//! wasmtime-wasi with contexts that allow nothing: the list of directories is empty, no socket is created, no name is looked up.
//!
//! Bound: the one handle that a guest can get here, that of the network, is in the table of all handles.

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::Network;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::bindings::sockets::{
    instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket,
};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};

use super::{Interface, Own};
use crate::guest::HostState;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:filesystem/preopens",
        add_to_linker: |linker| preopens::add_to_linker::<_, WasiFilesystem>(linker, HostState::filesystem),
    },
    Interface {
        name: "wasi:filesystem/types",
        add_to_linker: |linker| types::add_to_linker::<_, WasiFilesystem>(linker, HostState::filesystem),
    },
    Interface {
        name: "wasi:sockets/instance-network",
        add_to_linker: |linker| instance_network::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:sockets/ip-name-lookup",
        add_to_linker: |linker| ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, HostState::sockets),
    },
    Interface {
        name: "wasi:sockets/network",
        add_to_linker: |linker| {
            let stable = network::LinkOptions::default();
            network::add_to_linker::<_, WasiSockets>(linker, &stable, HostState::sockets)
        },
    },
    Interface {
        name: "wasi:sockets/tcp",
        add_to_linker: |linker| tcp::add_to_linker::<_, WasiSockets>(linker, HostState::sockets),
    },
    Interface {
        name: "wasi:sockets/tcp-create-socket",
        add_to_linker: |linker| tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, HostState::sockets),
    },
    Interface {
        name: "wasi:sockets/udp",
        add_to_linker: |linker| udp::add_to_linker::<_, WasiSockets>(linker, HostState::sockets),
    },
    Interface {
        name: "wasi:sockets/udp-create-socket",
        add_to_linker: |linker| udp_create_socket::add_to_linker::<_, WasiSockets>(linker, HostState::sockets),
    },
];

impl HostState {
    fn filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: &mut self.closed.filesystem, table: &mut self.table }
    }

    fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: &mut self.closed.sockets, table: &mut self.table }
    }
}

impl instance_network::Host for HostState {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        self.check_handle_allowed("wasi:sockets/instance-network")?;
        instance_network::Host::instance_network(&mut self.sockets())
    }
}
