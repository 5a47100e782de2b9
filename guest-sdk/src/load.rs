//! Load functions: components that compute the load of a worker.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;

use crate::load_bindings::Guest;
use crate::logging;
use crate::types::Sample;

/// A function that computes a worker's load, for `wasm-worker run --load-fn DIR`.
///
/// The value is created by `Default` and lives as long as the component's instance, so it can remember earlier samples.
/// A load function has no job and no room; it can log.
pub trait LoadFunction: Default + 'static {
    /// Returns the load, from 0 to 1. The worker accepts no jobs while it is at or above `load-threshold`.
    ///
    /// The host calls it twice a second.
    fn load(&mut self, sample: &Sample) -> f64;
}

/// The component of a load function. [`load_function!`](crate::load_function!) is its only user.
pub struct ExportedLoadFunction<L>(PhantomData<L>);

thread_local! {
    /// The load function, between two calls.
    static FUNCTION: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

impl<L: LoadFunction> Guest for ExportedLoadFunction<L> {
    fn load(sample: Sample) -> f64 {
        logging::install_logger::<L>();
        let kept = FUNCTION.take().and_then(|function| function.downcast::<L>().ok());
        let mut function = kept.unwrap_or_default();
        let load = function.load(&sample);
        FUNCTION.set(Some(function));
        load
    }
}
