//! The receivers of events: the log, the metrics and the sinks of JSON lines implement one trait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::event::Event;

/// A receiver of events.
pub trait Observer: Send + Sync {
    /// Receive one event. The call must not wait: it runs on the path of the job that caused the event.
    fn observe(&self, event: &Event);
}

impl<O: Observer> Observer for Arc<O> {
    fn observe(&self, event: &Event) {
        O::observe(self, event);
    }
}

/// The publisher of events. Every event goes to every observer, in the order in which the observers were given.
#[derive(Default)]
pub struct Events {
    observers: Vec<Box<dyn Observer>>,
}

impl Events {
    /// A publisher for these observers.
    pub fn new(observers: Vec<Box<dyn Observer>>) -> Self {
        Self { observers }
    }

    /// Publish one event. An observer that panics affects neither the others nor the caller; the panic hook reports it.
    pub fn publish(&self, event: &Event) {
        for observer in &self.observers {
            drop(catch_unwind(AssertUnwindSafe(|| observer.observe(event))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Buggy;

    impl Observer for Buggy {
        fn observe(&self, _: &Event) {
            panic!("injected");
        }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Observer for Count {
        fn observe(&self, _: &Event) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_panicking_observer_does_not_affect_the_others() {
        let count = Arc::new(Count::default());
        let events = Events::new(vec![Box::new(Buggy), Box::new(count.clone())]);
        events.publish(&Event::AgentAvailable { agent: "a".into() });
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
