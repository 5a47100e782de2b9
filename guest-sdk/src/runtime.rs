//! The functions that the generated bindings call: the generator's option `runtime_path` names this module.
//!
//! They are those of the crates `wit-bindgen` and `bitflags`. With them here, an agent does not compile these crates and
//! their build script.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};

/// Runs the static constructors at the first export that is called.
///
/// If nothing calls `__wasm_call_ctors`, the linker runs the constructors at each export.
#[cfg(target_arch = "wasm32")]
pub(crate) fn run_ctors_once() {
    use std::cell::Cell;

    #[expect(unsafe_code, reason = "a function of the linker")]
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    thread_local! {
        static RAN: Cell<bool> = const { Cell::new(false) };
    }
    if !RAN.replace(true) {
        #[expect(unsafe_code, reason = "a function of the linker")]
        // SAFETY: the linker defines it, it takes nothing, and this is the only call.
        unsafe {
            __wasm_call_ctors();
        }
    }
}

/// Makes the linker keep `cabi_realloc` on targets whose C library lacks it. `wasm32-wasip2` needs no such help.
pub(crate) fn maybe_link_cabi_realloc() {}

/// Memory for a value that a call passes to the host, freed when the call has returned.
pub(crate) struct Cleanup {
    start: NonNull<u8>,
    layout: Layout,
}

impl Cleanup {
    /// Allocates memory. An empty layout gives null and no value to drop.
    pub(crate) fn new(layout: Layout) -> (*mut u8, Option<Self>) {
        if layout.size() == 0 {
            return (ptr::null_mut(), None);
        }
        #[expect(unsafe_code, reason = "the bindings pass raw memory to the host")]
        // SAFETY: the size is not zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        (start.as_ptr(), Some(Self { start, layout }))
    }

    /// Keeps the memory: an export returned it, and the host has it freed by another call.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the bindings pass raw memory to the host")]
        // SAFETY: `new` allocated it with this layout, and nothing else frees it.
        unsafe {
            dealloc(self.start.as_ptr(), self.layout);
        }
    }
}

/// Sets of flags: the part of crate `bitflags` that the bindings use.
pub(crate) mod bitflags {
    macro_rules! bitflags {
        ($(#[$attribute:meta])* pub struct $name:ident: $bits:ty { $(const $flag:ident = $value:expr;)* }) => {
            $(#[$attribute])*
            pub struct $name($bits);

            impl $name {
                $(pub const $flag: Self = Self($value);)*

                /// No flag.
                pub const fn empty() -> Self {
                    Self(0)
                }

                /// The flags of these bits, also of bits that have no name.
                pub const fn from_bits_retain(bits: $bits) -> Self {
                    Self(bits)
                }

                /// The bits.
                pub const fn bits(self) -> $bits {
                    self.0
                }

                /// Whether all flags of `other` are set.
                pub const fn contains(self, other: Self) -> bool {
                    self.0 & other.0 == other.0
                }
            }

            impl core::ops::BitOr for $name {
                type Output = Self;

                fn bitor(self, other: Self) -> Self {
                    Self(self.0 | other.0)
                }
            }
        };
    }
    pub(crate) use bitflags;
}
