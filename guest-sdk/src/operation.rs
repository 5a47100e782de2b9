//! Operations: the ids of the contract, each with the events that belong to it.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::calls::flow;
use crate::types::Failure;
use crate::waits::{self, On};
use crate::{Event, inbox, rpc};

/// Number of events that may wait for the agent before the host is asked to hold back the next ones.
const QUEUED_MAX: usize = 64;
/// Number of events at which the host is asked to go on.
const QUEUED_LOW: usize = 16;
/// Number of events that may wait while the agent waits to write on the same id. The host holds `writable` back with the
/// other events, so the agent would wait for ever otherwise.
const QUEUED_BY_WRITERS_MAX: usize = 256;

thread_local! {
    /// The ids that are open, in order.
    static PORTS: RefCell<Vec<Port>> = const { RefCell::new(Vec::new()) };
}

struct Port {
    id: u32,
    /// The call whose failure is only logged, because nobody waits for its end.
    forgotten: Option<&'static str>,
    /// Whether the host was asked to hold events back.
    held: bool,
    /// Number of events that may wait.
    queued_max: usize,
    events: VecDeque<Event>,
}

/// What one id of the contract names: a call, a stream, a track.
///
/// It is for calls of [`contract`](crate::contract) that the SDK has no method for. Dropping it gives the operation up,
/// unless its last event was read.
///
/// ```no_run
/// use wasm_worker_sdk::{Event, Operation, Result, contract};
///
/// async fn page(url: &str) -> Result<Vec<u8>> {
///     let request = contract::http::Request {
///         method: "GET".into(),
///         url: url.into(),
///         headers: Vec::new(),
///         body: Vec::new(),
///         timeout_ms: 0,
///         follow_redirects: true,
///         repeatable: true,
///     };
///     let mut answer = Operation::new(contract::http::send(&request), "http.send");
///     let mut body = Vec::new();
///     while let Some(event) = answer.next().await {
///         match event {
///             Event::HttpBody(part) => body.extend(part.bytes),
///             Event::Failed(failure) => return Err(failure.into()),
///             _ => {}
///         }
///     }
///     Ok(body)
/// }
/// ```
#[derive(Debug)]
pub struct Operation {
    id: u32,
    name: &'static str,
    over: bool,
}

impl Operation {
    /// Takes charge of the events of `id`. An operator sees `name` while the agent waits for one.
    pub fn new(id: u32, name: &'static str) -> Self {
        if id != 0 {
            open(id, None);
        }
        Self { id, name, over: id == 0 }
    }

    /// The id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the next event. Returns `None` after the last one.
    pub async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        let id = self.id;
        let event = waits::until(On::Id(id), self.name, || take(id)).await;
        self.note_end(&event);
        Some(event)
    }

    /// The next event, if one is there.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        let event = take(self.id).filter(|_| !self.over)?;
        self.note_end(&event);
        Some(event)
    }

    /// The oldest event that `wanted` picks, if one is there. The others stay.
    pub(crate) fn try_next_where(&mut self, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        let event = take_where(self.id, wanted).filter(|_| !self.over)?;
        self.note_end(&event);
        Some(event)
    }

    /// Whether the last event was read or is there.
    pub(crate) fn is_ending(&self) -> bool {
        self.over || with_port(self.id, |port| port.events.back().is_some_and(Event::is_last)).unwrap_or(true)
    }

    /// Lets more events than usual wait while the agent waits to write. Returns whether even these are too many.
    pub(crate) fn is_flooded(&self) -> bool {
        let found = with_port(self.id, |port| {
            port.queued_max = QUEUED_BY_WRITERS_MAX;
            let flooded = port.events.len() > port.queued_max;
            (flooded, !flooded && std::mem::take(&mut port.held))
        });
        let (flooded, go_on) = found.unwrap_or_default();
        if go_on {
            flow::hold(self.id, false);
        }
        flooded
    }

    /// Lets any number of events wait: the agent asks for each of them.
    pub(crate) fn never_hold(&mut self) {
        with_port(self.id, |port| port.queued_max = usize::MAX);
    }

    /// Notes that the agent waits to write no more.
    pub(crate) fn has_written(&self) {
        with_port(self.id, |port| port.queued_max = QUEUED_MAX);
    }

    /// Waits for the end, and returns the value that the call has, mostly an empty text. Other events are dropped.
    pub async fn done(mut self) -> Result<String, Failure> {
        while let Some(event) = self.next().await {
            match event {
                Event::Done(done) => return Ok(done.value),
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Ok(String::new())
    }

    /// Lets the operation go on by itself. Its failure is logged.
    pub fn forget(mut self) {
        if !self.over {
            self.over = true;
            open(self.id, Some(self.name));
        }
    }

    /// Notes that the contract has ended the id by a call.
    pub(crate) fn ended(mut self) {
        self.over = true;
        close(self.id);
    }

    fn note_end(&mut self, event: &Event) {
        if event.is_last() {
            self.over = true;
            close(self.id);
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.over {
            close(self.id);
            flow::cancel(self.id);
        }
    }
}

/// Lets the call with this id go on by itself. Its failure is logged.
pub(crate) fn forget(id: u32, name: &'static str) {
    if id != 0 {
        open(id, Some(name));
    }
}

/// Gives an event to whoever waits for it. An event of an id that nobody holds is dropped.
pub(crate) fn deliver(event: Event) {
    if let Event::AudioStarted(start) = &event
        && start.rule != 0
        && with_port(start.rule, |_| ()).is_none()
    {
        // It was on its way when the agent gave the rule up, and nobody would ever take the track.
        return flow::cancel(start.id);
    }
    if let Some(id) = event.opens() {
        open(id, None);
    }
    match event.id() {
        0 => {
            if let Some(event) = rpc::take(event) {
                inbox::push(event);
            }
        }
        id => queue(id, event),
    }
}

fn find(ports: &[Port], id: u32) -> Result<usize, usize> {
    ports.binary_search_by_key(&id, |port| port.id)
}

fn open(id: u32, forgotten: Option<&'static str>) {
    PORTS.with_borrow_mut(|ports| match find(ports, id) {
        Ok(at) => {
            if let Some(port) = ports.get_mut(at) {
                port.forgotten = forgotten;
            }
        }
        Err(at) => {
            let (queued_max, events) = (QUEUED_MAX, VecDeque::new());
            ports.insert(at, Port { id, forgotten, held: false, queued_max, events });
        }
    });
}

fn with_port<T>(id: u32, use_port: impl FnOnce(&mut Port) -> T) -> Option<T> {
    PORTS.with_borrow_mut(|ports| find(ports, id).ok().and_then(|at| ports.get_mut(at)).map(use_port))
}

fn close(id: u32) {
    // When a thread of a test ends, the ports may go before the tasks.
    let closed = PORTS.try_with(|ports| {
        let mut ports = ports.borrow_mut();
        find(&ports, id).ok().map(|at| ports.remove(at))
    });
    drop(closed);
}

fn queue(id: u32, event: Event) {
    let (forgotten, hold) = PORTS.with_borrow_mut(|ports| {
        let Some(port) = find(ports, id).ok().and_then(|at| ports.get_mut(at)) else { return (None, false) };
        if let Some(name) = port.forgotten {
            return (Some((name, event)), false);
        }
        port.events.push_back(event);
        let hold = !port.held && port.events.len() > port.queued_max;
        port.held |= hold;
        (None, hold)
    });
    if hold {
        flow::hold(id, true);
    }
    match forgotten {
        Some((name, event)) => end_forgotten(id, name, &event),
        None => waits::wake(On::Id(id)),
    }
}

fn end_forgotten(id: u32, name: &str, event: &Event) {
    if event.is_last() {
        close(id);
    }
    if let Event::Failed(failure) = event {
        log::warn!("{name} failed: {failure}");
    }
}

fn take(id: u32) -> Option<Event> {
    take_where(id, |_| true)
}

fn take_where(id: u32, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
    let (event, go_on) = with_port(id, |port| {
        let at = port.events.iter().position(wanted)?;
        let event = port.events.remove(at)?;
        let go_on = port.held && port.events.len() < QUEUED_LOW;
        port.held &= !go_on;
        Some((event, go_on))
    })??;
    if go_on {
        flow::hold(id, false);
    }
    Some(event)
}

/// Number of ids that are open.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn open_ids() -> usize {
    PORTS.with_borrow(Vec::len)
}
