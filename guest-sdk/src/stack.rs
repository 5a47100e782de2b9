//! The position of the stack in a snapshot.
//!
//! The host maps a snapshot from its first non-zero byte. The stack lies at the start of the memory and is empty when
//! the snapshot is taken, so each job would need one mapping of zeros for the stack and a second one for the rest, and
//! a process may have only so many mappings. A non-zero byte at the far end of the stack saves the first mapping.

/// Offset of the byte, above the addresses that count as null.
#[cfg(target_arch = "wasm32")]
const MARK_AT: usize = 16;

#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the stack has no name in Rust")]
unsafe extern "C" {
    /// The lowest addresses of the stack, defined by the linker.
    static mut __stack_low: [u8; MARK_AT + 1];
}

/// Makes a snapshot that is taken now begin with the stack.
#[cfg(target_arch = "wasm32")]
pub(crate) fn mark() {
    #[expect(unsafe_code, reason = "the stack has no name in Rust")]
    // SAFETY: the linker reserves the stack, which begins there and is larger than the array. The stack grows down
    // towards it; a call deep enough to reach it does not read its frame before it writes it.
    unsafe {
        (&raw mut __stack_low[MARK_AT]).write_volatile(1);
    }
}

/// Does nothing: only a component has such a stack.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn mark() {}
