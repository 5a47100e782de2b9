//! `wasm-worker:agent/audio`: sound to and from a room.

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::audio::{self, Host, Publication, Rule, Subscription};
use crate::guest::calls::Call;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/audio",
    add_to_linker: |linker| audio::add_to_linker::<_, Own>(linker, |state| state),
}];

impl Host for HostState {
    fn subscribe(&mut self, track_sid: String, options: Subscription) -> wasmtime::Result<u32> {
        self.meter.calls.room.add(track_sid.len());
        self.begin(track_sid.len(), |id| Call::SubscribeAudio { id, track_sid, options })
    }

    fn follow(&mut self, rule: Rule, options: Subscription) -> wasmtime::Result<u32> {
        let bytes = rule.participant.len() + rule.source.len();
        self.meter.calls.room.add(bytes);
        self.begin(bytes, |id| Call::FollowAudio { id, rule, options })
    }

    fn publish(&mut self, options: Publication) -> wasmtime::Result<u32> {
        let bytes = options.name.len() + options.source.len();
        self.meter.calls.room.add(bytes);
        self.begin(bytes, |id| Call::PublishAudio { id, options })
    }

    fn write(&mut self, id: u32, pcm: Vec<u8>) -> wasmtime::Result<()> {
        self.meter.calls.room.add(pcm.len());
        self.buffer(pcm.len(), Call::WriteAudio { id, pcm })
    }

    fn mark(&mut self, id: u32, mark: u32) -> wasmtime::Result<()> {
        self.meter.calls.room.add(0);
        self.buffer(0, Call::MarkAudio { id, mark })
    }

    fn mute(&mut self, id: u32, muted: bool) -> wasmtime::Result<()> {
        self.meter.calls.room.add(0);
        self.buffer(0, Call::MuteAudio { id, muted })
    }

    fn clear(&mut self, id: u32) -> wasmtime::Result<()> {
        self.meter.calls.room.add(0);
        self.buffer(0, Call::ClearAudio { id })
    }

    fn close(&mut self, id: u32) -> wasmtime::Result<()> {
        self.meter.calls.room.add(0);
        self.buffer(0, Call::CloseAudio { id })
    }
}
