//! The delivery of events to the next step: ids are given, ids that end are closed, and the participants are updated.

use tokio::time::Instant;

use super::HostState;
use super::bindings::wasm_worker::agent::events::Event;
use super::control::Control;
use super::events::{id_of, id_to_give, is_last};
use super::ids::{ID_BYTES, Ids};
use super::kill::Kill;
use super::meter::Meter;
use super::participants::Participants;

impl HostState {
    /// Move the events of the next step to `step`. Returns the memory of these events, to be released after the step.
    pub(crate) fn deliver(&mut self, now: Instant, step: &mut Vec<Event>) -> Result<usize, Kill> {
        let Self { control, meter, ids, participants, .. } = self;
        let mut failed = None;
        let held = control.inbox.take(now, step, |event| {
            deliver(event, ids, participants, control, meter).unwrap_or_else(|kill| {
                failed.get_or_insert(kill);
                false
            })
        });
        failed.map_or(Ok(held), Err)
    }
}

/// Prepare one event. Events of an id that is closed are not delivered.
pub(crate) fn deliver(
    event: &mut Event,
    ids: &mut Ids,
    participants: &mut Participants,
    control: &Control,
    meter: &mut Meter,
) -> Result<bool, Kill> {
    if let Some(place) = id_to_give(event) {
        let id = ids.next()?;
        *place = id;
        ids.open(id);
        meter.charge(ID_BYTES)?;
        return Ok(true);
    }
    let id = id_of(event);
    if id != 0 && !ids.is_open(id) {
        return Ok(false);
    }
    if is_last(event) && ids.close(id) {
        meter.release(ID_BYTES);
    }
    let before = participants.bytes();
    let is_about_people = participants.apply(event);
    if is_about_people {
        meter.release(before);
        meter.charge(participants.bytes())?;
    }
    if is_about_people || matches!(event, Event::Reconnecting) {
        control.show_room(event, participants);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::bindings::wasm_worker::agent::events::{Completion, RpcRequest};
    use super::super::inbox_queue::InboxQueue;
    use super::super::job_log::JobLog;
    use super::*;
    use crate::settings::Limits;

    fn done(id: u32) -> Event {
        Event::Done(Completion { id, value: String::new() })
    }

    #[test]
    fn an_id_has_one_last_event_and_none_after_its_end() {
        let control = Control::new(InboxQueue::new(1, 1), JobLog::new("a".into(), 1), Arc::default());
        let control = Arc::new(control);
        let mut meter = Meter::new(Arc::new(Limits::default()), control.clone(), Arc::default());
        let (mut ids, mut room) = (Ids::default(), Participants::default());
        let call = ids.next().unwrap();
        ids.open(call);
        meter.charge(ID_BYTES).unwrap();
        let mut request = Event::RpcRequest(RpcRequest {
            id: 0,
            caller: None,
            method: String::new(),
            payload: String::new(),
            timeout_ms: 0,
        });
        assert_eq!(deliver(&mut request, &mut ids, &mut room, &control, &mut meter), Ok(true));
        assert_eq!(id_of(&request), 2, "the same sequence");
        assert_eq!(meter.used_bytes(), 2 * ID_BYTES);
        let taken = [done(1), done(1), done(2), done(2), done(3)]
            .map(|mut event| deliver(&mut event, &mut ids, &mut room, &control, &mut meter).unwrap());
        assert_eq!(taken, [true, false, true, false, false]);
        assert_eq!((meter.used_bytes(), ids.open_count()), (0, 0));
    }
}
