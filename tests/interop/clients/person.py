"""A person in a room by PyPI's livekit. README.md in the directory above says what it is told and what it tells.

    person.py URL TOKEN [two]
"""

import asyncio
import hashlib
import json
import os
import sys
import tempfile

from livekit import rtc

import sound

TEXT_TOPICS = ["lk.chat", "lk.transcription"]
FILE_TOPIC = "files"
KINDS = {
    rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD: "standard",
    rtc.ParticipantKind.PARTICIPANT_KIND_AGENT: "agent",
}


def tell(saw: str, **facts) -> None:
    print(json.dumps({"saw": saw, **facts}), flush=True)


class Person:
    def __init__(self) -> None:
        self.room = rtc.Room()
        self.voice = sound.Voice(self.room)
        self.tasks = set()

    async def join(self, url: str, token: str, connections: str) -> None:
        room = self.room
        for topic in TEXT_TOPICS:
            room.register_text_stream_handler(topic, lambda reader, who: self.begin(self.read_text(reader, who)))
        room.register_byte_stream_handler(FILE_TOPIC, lambda reader, who: self.begin(self.read_file(reader, who)))
        room.on("participant_connected", self.joined)
        room.on("participant_disconnected", self.left)
        room.on("participant_attributes_changed", self.changed)
        room.on("data_received", self.data)
        room.on("track_muted", lambda who, publication: tell("muted", who=who.identity, sid=publication.sid))
        room.on("reconnecting", lambda: tell("reconnecting"))
        room.on("reconnected", lambda: tell("reconnected"))
        room.on("disconnected", lambda why: tell("disconnected", reason=rtc.DisconnectReason.Name(why)))
        await room.connect(url, token, rtc.RoomOptions(single_peer_connection=connections != "two"))
        room.local_participant.register_rpc_method("accept_file", self.accept_file)
        tell("connected", who=room.local_participant.identity)
        for participant in list(room.remote_participants.values()):
            self.joined(participant)

    def begin(self, work) -> None:
        # Only the set keeps it from being collected.
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def joined(self, who: rtc.RemoteParticipant) -> None:
        tell("joined", who=who.identity, kind=KINDS.get(who.kind, "other"), attributes=dict(who.attributes))

    def left(self, who: rtc.RemoteParticipant) -> None:
        reason = who.disconnect_reason
        tell("left", who=who.identity, reason=None if reason is None else rtc.DisconnectReason.Name(reason))

    def changed(self, changed: dict, who: rtc.Participant) -> None:
        tell("attributes", who=who.identity, changed=changed)

    def data(self, packet: rtc.DataPacket) -> None:
        who = packet.participant.identity if packet.participant else None
        reliable = packet.kind == rtc.DataPacketKind.KIND_RELIABLE
        tell("data", who=who, topic=packet.topic, payload=packet.data.decode(), reliable=reliable)

    async def read_text(self, reader: rtc.TextStreamReader, who: str) -> None:
        info, parts = reader.info, []
        facts = {"stream": info.stream_id, "who": who, "topic": info.topic}
        try:
            async for part in reader:
                parts.append(part)
                tell("part", **facts, text=part)
            tell("text", **facts, text="".join(parts), attributes=reader.info.attributes)
        except rtc.StreamError as error:
            tell("broken", **facts, text="".join(parts), why=str(error))

    async def read_file(self, reader: rtc.ByteStreamReader, who: str) -> None:
        info, content = reader.info, b""
        try:
            async for part in reader:
                content += part
        except rtc.StreamError as error:
            tell("broken", stream=info.stream_id, who=who, topic=info.topic, why=str(error))
            return
        tell("file", who=who, topic=info.topic, name=info.name, mime=info.mime_type, **facts_of(content))

    async def accept_file(self, call: rtc.RpcInvocationData) -> str:
        tell("call", who=call.caller_identity, method=call.method, payload=call.payload)
        return "yes"

    async def speak(self, order: dict) -> None:
        await self.voice.speak(order)
        tell("spoken")

    async def hear(self, order: dict) -> None:
        tell("sound", **await sound.hear(self.room, order))

    async def obey(self, name: str, work) -> None:
        try:
            await work
        except Exception as error:
            tell("failed", do=name, why=str(error))

    async def do(self, order: dict) -> None:
        me = self.room.local_participant
        match order.pop("do"):
            case "text":
                info = await me.send_text(order["text"], topic=order["topic"])
                tell("sent", stream=info.stream_id)
            case "file":
                content = made(order["bytes"])
                with tempfile.TemporaryDirectory() as directory:
                    path = os.path.join(directory, order["name"])
                    with open(path, "wb") as file:
                        file.write(content)
                    await me.send_file(path, topic=FILE_TOPIC)
                tell("sent-file", name=order["name"], **facts_of(content))
            case "data":
                await me.publish_data(order["payload"], reliable=order["reliable"], topic=order["topic"])
            case "publish":
                track = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(48_000, 1))
                publication = await me.publish_track(track)
                tell("published", sid=publication.sid)
            case "speak":
                self.begin(self.obey("speak", self.speak(order)))
            case "unpublish":
                await self.voice.unpublish()
                tell("unpublished")
            case "hear":
                self.begin(self.obey("hear", self.hear(order)))
            case "call":
                try:
                    answer = await me.perform_rpc(
                        destination_identity=order["to"], method=order["method"], payload=order["payload"]
                    )
                    tell("answer", payload=answer)
                except rtc.RpcError as error:
                    tell("refusal", code=error.code, message=error.message)
            case other:
                raise ValueError(f"no such order: {other}")


def made(count: int) -> bytes:
    """The content of a file that is sent."""
    return bytes(at * at % 251 for at in range(count))


def facts_of(content: bytes) -> dict:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


async def main(url: str, token: str, connections: str = "one") -> None:
    person = Person()
    await person.join(url, token, connections)
    orders = asyncio.StreamReader(limit=4 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        order = json.loads(line)
        await person.obey(order["do"], person.do(order))
    await person.room.disconnect()


asyncio.run(main(*sys.argv[1:]))
# Threads of livekit call into Python at any time, and abort the process if its interpreter is ending.
os._exit(0)
