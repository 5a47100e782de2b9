//! The stack's place in a snapshot.
//!
//! A host maps a snapshot from its first byte that is not zero. The stack lies at the start of the memory and is empty there, so
//! each job would have a mapping of zeros before that of the snapshot, and mappings are what a process runs out of first. One byte
//! at the end that the stack hardly ever grows to saves it.

/// Above the addresses that some take for null.
#[cfg(target_arch = "wasm32")]
const MARK_AT: usize = 16;

#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the stack has no name in Rust")]
unsafe extern "C" {
    /// The lowest part of the stack, by the linker's name for it.
    static mut __stack_low: [u8; MARK_AT + 1];
}

/// Have a snapshot that is taken now begin with the stack.
#[cfg(target_arch = "wasm32")]
pub(crate) fn mark() {
    #[expect(unsafe_code, reason = "the stack has no name in Rust")]
    // SAFETY: the linker gives the stack its own place, which begins there and is larger than this. It grows down to it, and a
    // frame that ever lies there is of a call deeper than this one, which begins without knowing what its frame holds.
    unsafe {
        (&raw mut __stack_low[MARK_AT]).write_volatile(1);
    }
}

/// Only a component has such a stack.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn mark() {}
