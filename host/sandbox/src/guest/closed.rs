//! The file system and the network of a guest, which allow nothing: [`crate::hostcalls`] says why a guest has them at all.

use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::sockets::WasiSocketsCtx;

/// Contexts that allow nothing.
#[derive(Default)]
pub(crate) struct Closed {
    /// No directory is there.
    pub(crate) filesystem: WasiFilesystemCtx,
    /// A default context allows no protocol, no address and no look-up.
    pub(crate) sockets: WasiSocketsCtx,
}
