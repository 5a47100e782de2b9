"""A person by PyPI's livekit who tells every event of its room as one line. README.md in the directory above says how.

    witness.py URL TOKEN
"""

import asyncio
import json
import os
import sys

import numpy
from livekit import rtc

import sound

# Samples that are quieter are silence.
LOUD = 1_000
# Longest wait for the answer to a call, in seconds.
CALL_WITHIN = 60
STATES = {
    rtc.ConnectionState.CONN_DISCONNECTED: "disconnected",
    rtc.ConnectionState.CONN_CONNECTED: "connected",
    rtc.ConnectionState.CONN_RECONNECTING: "reconnecting",
}


def tell(*words: str) -> None:
    print(json.dumps({"saw": " ".join(words)}), flush=True)


def named(who: rtc.Participant) -> str:
    return f"{who.identity} {who.sid}"


def track(of: rtc.TrackPublication, who: rtc.Participant) -> str:
    return f"{who.identity}/{of.name} {of.sid}"


def attributes(all: dict) -> str:
    # What a worker adds to its agents is of no interest.
    return f"attributes={[(key, value) for key, value in sorted(all.items()) if key == 'mood']}".replace(" ", "")


def allowed(may) -> str:
    names = ["can_subscribe", "can_publish", "can_publish_data", "can_update_metadata", "hidden"]
    return "+".join(name for name in names if getattr(may, name))


def participant(who: rtc.Participant) -> str:
    kind = rtc.ParticipantKind.Name(who.kind).removeprefix("PARTICIPANT_KIND_")
    facts = f"name={who.name} metadata={who.metadata} {attributes(who.attributes)} {allowed(who.permissions)}"
    return f"{named(who)} {kind} {facts}"


def reason(value) -> str:
    return rtc.DisconnectReason.Name(value or 0)


class Witness:
    def __init__(self) -> None:
        self.room = rtc.Room()
        self.source = None
        self.track = None
        self.sid = None
        self.tone = None
        self.tasks = set()
        # Whether it leaves by itself: the client may tell that as an event, or may not.
        self.leaves = False
        # Tracks whose next sound is told.
        self.awaited = set()

    async def join(self, url: str, token: str) -> None:
        room = self.room
        for topic in ["lk.chat", "order"]:
            room.register_text_stream_handler(topic, lambda reader, who: self.begin(self.read(reader, who)))
        for name, line in self.events().items():
            room.on(name, lambda *facts, line=line: line(*facts))
        await room.connect(url, token)
        room.local_participant.register_rpc_method("greet", self.greet)
        tell(f"room {room.name} metadata={room.metadata}")
        tell(f"own {participant(room.local_participant)}")
        for who in sorted(room.remote_participants.values(), key=lambda who: who.identity):
            tell(f"there {participant(who)}")
            for publication in list(who.track_publications.values()):
                tell(f"there {track(publication, who)} muted={publication.muted}")

    def events(self) -> dict:
        """Left out is what no client can rely on: a LiveKit server tells the stage of a stay, the number of participants, the quality of
        connections and new tokens by clocks of its own."""
        return {
            "participant_connected": lambda who: tell(f"joined {participant(who)}"),
            "participant_disconnected": lambda who: tell(f"left {named(who)} {reason(who.disconnect_reason)}"),
            "participant_metadata_changed": lambda who, _, new: tell(f"metadata {named(who)} {new}"),
            "participant_name_changed": lambda who, _, new: tell(f"name {named(who)} {new}"),
            "participant_attributes_changed": self.changed,
            "participant_permissions_changed": lambda who, may: tell(f"permissions {named(who)} {allowed(may)}"),
            "room_metadata_changed": lambda _, new: tell(f"room-metadata {new}"),
            "local_track_published": lambda of, _: tell(f"published own/{of.name} {of.sid} muted={of.muted}"),
            "local_track_unpublished": lambda of: tell(f"unpublished own/{of.name} {of.sid}"),
            "local_track_republished": lambda of, _: tell(f"republished own/{of.name} {of.sid}"),
            "local_track_subscribed": lambda of: tell(f"subscribed own/{of.name} {of.sid}"),
            "track_published": lambda of, who: tell(f"track-published {track(of, who)} muted={of.muted}"),
            "track_unpublished": lambda of, who: tell(f"track-unpublished {track(of, who)}"),
            "track_subscribed": self.subscribed,
            "track_unsubscribed": lambda _, of, who: tell(f"track-unsubscribed {track(of, who)}"),
            "track_subscription_failed": lambda who, sid, why: tell(f"subscription-failed {who.identity} {sid} {why}"),
            "track_muted": lambda who, of: tell(f"track-muted {track(of, who)}"),
            "track_unmuted": self.unmuted,
            "active_speakers_changed": lambda all: tell(" ".join(["speakers", *sorted(who.identity for who in all)])),
            "data_received": self.data,
            "connection_state_changed": lambda state: self.leaves or tell(f"state {STATES[state]}"),
            "reconnecting": lambda: tell("reconnecting"),
            "reconnected": lambda: tell("reconnected"),
            "moved": lambda: tell("moved"),
            "disconnected": lambda why: self.leaves or tell(f"disconnected {reason(why)}"),
        }

    def begin(self, work) -> asyncio.Task:
        # Only the set keeps it from being collected.
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def changed(self, changed: dict, who: rtc.Participant) -> None:
        if "mood" in changed:
            tell(f"attributes {named(who)} {attributes(changed)}")

    def data(self, packet: rtc.DataPacket) -> None:
        who = packet.participant.identity if packet.participant else "server"
        tell(f"data {who} {packet.topic} {packet.data.decode()} reliable={packet.kind == rtc.DataPacketKind.KIND_RELIABLE}")

    def subscribed(self, heard: rtc.Track, of: rtc.TrackPublication, who: rtc.Participant) -> None:
        tell(f"track-subscribed {track(of, who)} muted={of.muted}")
        self.awaited.add(of.sid)
        self.begin(self.hear(rtc.AudioStream(heard), track(of, who), of.sid))

    def unmuted(self, who: rtc.Participant, of: rtc.TrackPublication) -> None:
        tell(f"track-unmuted {track(of, who)}")
        self.awaited.add(of.sid)

    async def hear(self, stream: rtc.AudioStream, name: str, sid: str) -> None:
        async for event in stream:
            samples = numpy.frombuffer(event.frame.data, dtype=numpy.int16)
            if sid in self.awaited and numpy.abs(samples.astype(int)).max() > LOUD:
                self.awaited.discard(sid)
                tell(f"heard {name}")
        await stream.aclose()

    async def read(self, reader: rtc.TextStreamReader, who: str) -> None:
        tell(f"text {who} {reader.info.topic} {await reader.read_all()}")

    async def greet(self, call: rtc.RpcInvocationData) -> str:
        tell(f"call {call.caller_identity} {call.method} {call.payload}")
        return f"{call.payload} too"

    async def publish(self) -> None:
        self.source = rtc.AudioSource(sound.RATE, 1)
        self.track = rtc.LocalAudioTrack.create_audio_track("voice", self.source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self.sid = (await self.room.local_participant.publish_track(self.track, options)).sid

    async def speak(self, source: rtc.AudioSource) -> None:
        samples = sound.tone(440, 10).tobytes()
        while True:
            await source.capture_frame(rtc.AudioFrame(samples, sound.RATE, 1, sound.FRAME))

    async def do(self, verb: str, order: dict) -> None:
        me = self.room.local_participant
        match verb:
            case "text":
                await me.send_text(order["text"], topic=order["topic"])
            case "data":
                await me.publish_data(order["payload"], reliable=True, topic="facts")
            case "call":
                request = {"destination_identity": order["to"], "method": "greet", "payload": "hello"}
                tell("answer", await me.perform_rpc(**request, response_timeout=CALL_WITHIN))
            case "name":
                await me.set_name(order["value"])
            case "metadata":
                await me.set_metadata(order["value"])
            case "attribute":
                await me.set_attributes({"mood": order["value"]})
            case "publish":
                await self.publish()
            case "speak":
                self.tone = self.begin(self.speak(self.source))
            case "hush":
                self.tone.cancel()
            case "mute":
                self.track.mute()
            case "unmute":
                self.track.unmute()
            case "unpublish":
                await me.unpublish_track(self.sid)
            case "leave":
                self.leaves = True
                await self.room.disconnect()
            case other:
                raise ValueError(f"no such order: {other}")

    async def obey(self, order: dict) -> None:
        verb = order.pop("do")
        try:
            await self.do(verb, order)
            tell(f"did {verb}")
        except Exception as error:
            tell(f"cannot {verb}: {error}")


async def main(url: str, token: str) -> None:
    witness = Witness()
    await witness.join(url, token)
    orders = asyncio.StreamReader(limit=4 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        await witness.obey(json.loads(line))
    await witness.room.disconnect()


asyncio.run(main(*sys.argv[1:]))
# Threads of livekit call into Python at any time, and abort the process if its interpreter is ending.
os._exit(0)
