//! The places for connections of one listener, and which connection gives up its place when all are taken.
//!
//! A connection is silent while the server waits for the head of a request or for more of its body. A new connection takes the place
//! of the one that has been silent longest. A connection whose request is being answered keeps its place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The shortest time between two log lines about released connections.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The places of a listener.
pub(super) struct Places {
    slots: Arc<Semaphore>,
    most: usize,
    registry: Mutex<Registry>,
    /// Notified when a connection becomes silent.
    became_silent: Notify,
}

#[derive(Default)]
struct Registry {
    /// The silent connections by the time since which they are silent.
    silent: BTreeMap<(Instant, u64), Arc<Notify>>,
    /// The number of the next connection.
    next: u64,
    /// The number of connections that were released since the last log line.
    released: usize,
    logged: Option<Instant>,
}

/// The place of one connection.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    use_now: Mutex<Use>,
    has_asked: AtomicBool,
    /// Notified when another connection takes the place.
    released: Arc<Notify>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// What a connection does.
#[derive(Clone, Copy)]
enum Use {
    Silent {
        since: Instant,
    },
    /// Requests of this number are being answered.
    Answering(usize),
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(most)),
            most,
            registry: Mutex::default(),
            became_silent: Notify::new(),
        })
    }

    /// A place for a new connection. Waits while all places are taken and every connection is being answered.
    pub(super) async fn acquire(self: &Arc<Self>) -> Arc<Place> {
        loop {
            if let Ok(slot) = self.slots.clone().try_acquire_owned() {
                return self.place(Some(slot));
            }
            let became_silent = self.became_silent.notified();
            let slot = self.slots.clone().acquire_owned();
            if self.release_longest_silent() {
                return self.place(slot.await.ok());
            }
            tokio::select! {
                slot = slot => return self.place(slot.ok()),
                () = became_silent => {}
            }
        }
    }

    fn place(self: &Arc<Self>, slot: Option<OwnedSemaphorePermit>) -> Arc<Place> {
        let (now, released) = (Instant::now(), Arc::new(Notify::new()));
        let mut registry = self.registry();
        let number = registry.next;
        registry.next += 1;
        registry.silent.insert((now, number), released.clone());
        Arc::new(Place {
            places: self.clone(),
            number,
            use_now: Mutex::new(Use::Silent { since: now }),
            has_asked: AtomicBool::new(false),
            released,
            _slot: slot,
        })
    }

    /// Release the connection that has been silent longest. Returns whether there is one.
    fn release_longest_silent(&self) -> bool {
        let mut registry = self.registry();
        let Some((_, released)) = registry.silent.pop_first() else { return false };
        released.notify_one();
        registry.released += 1;
        let now = Instant::now();
        if registry.logged.is_none_or(|logged| logged + LOG_EVERY <= now) {
            let (most, count) = (self.most, std::mem::take(&mut registry.released));
            registry.logged = Some(now);
            let message = "all places for connections are taken; the connections that were silent longest are closed";
            tracing::warn!(target: "host", most, closed = count, message);
        }
        true
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Note that the head of a request has arrived. The connection is silent again once the returned value is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.has_asked.store(true, Ordering::Relaxed);
        self.begin_answer();
        Answering(self.clone())
    }

    fn begin_answer(&self) {
        let mut use_now = self.use_now.lock().unwrap_or_else(PoisonError::into_inner);
        *use_now = match *use_now {
            Use::Silent { since } => {
                self.places.registry().silent.remove(&(since, self.number));
                Use::Answering(1)
            }
            Use::Answering(count) => Use::Answering(count + 1),
        };
    }

    fn answered(&self) {
        let mut use_now = self.use_now.lock().unwrap_or_else(PoisonError::into_inner);
        *use_now = match *use_now {
            Use::Answering(count) if count > 1 => Use::Answering(count - 1),
            Use::Answering(_) | Use::Silent { .. } => {
                let since = Instant::now();
                self.places.registry().silent.insert((since, self.number), self.released.clone());
                self.places.became_silent.notify_one();
                Use::Silent { since }
            }
        };
    }

    /// Wait until another connection takes the place.
    pub(super) async fn released(&self) {
        self.released.notified().await;
    }

    /// Wait until the time is up without the head of a request.
    pub(super) async fn without_request_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
        if self.has_asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let use_now = self.use_now.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Use::Silent { since } = *use_now {
            self.places.registry.lock().unwrap_or_else(PoisonError::into_inner).silent.remove(&(since, self.number));
        }
    }
}

/// A request that is being answered.
pub(super) struct Answering(Arc<Place>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// A wait for more of the body of a request that is being answered.
pub(super) struct Silence(Arc<Place>);

impl Silence {
    /// Note that the server waits. The request is being answered again once the returned value is dropped.
    pub(super) fn begin(place: Arc<Place>) -> Self {
        place.answered();
        Self(place)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.begin_answer();
    }
}
