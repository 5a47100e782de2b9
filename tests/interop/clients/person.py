"""A person in a room by PyPI's livekit, who meets an agent that echoes: one line of JSON for each thing that is seen.

The agent echoes texts with `echo ` before them, files and data packets as they are, and answers the method `echo`. It calls the
method `greet` of whoever has the attribute `greet`, and says `bye` before it leaves.

    person.py URL TOKEN

The lines, in order: `agent` (identity, kind, attributes), `text`, `large` (bytes and whether they are the same), `file`, `data`,
`lossy`, `rpc`, `rpc-error`, `greet`, `state` (when the agent's state is `speaking`), `left` (the reason).
"""

import asyncio
import json
import os
import sys
import tempfile

from livekit import rtc

LARGE = "é" * 40_000
FILE = bytes(range(256)) * 400


def tell(what: str, **facts) -> None:
    print(json.dumps({"what": what, **facts}), flush=True)


async def main(url: str, token: str) -> None:
    room = rtc.Room()
    queues = {name: asyncio.Queue() for name in ("agent", "text", "file", "data", "greet", "state", "left")}

    def keep_text(reader: rtc.TextStreamReader, identity: str) -> None:
        async def read() -> None:
            queues["text"].put_nowait((identity, await reader.read_all(), reader.info))

        asyncio.ensure_future(read())

    def keep_file(reader: rtc.ByteStreamReader, identity: str) -> None:
        async def read() -> None:
            queues["file"].put_nowait((reader.info.name, b"".join([chunk async for chunk in reader])))

        asyncio.ensure_future(read())

    def meet(participant: rtc.RemoteParticipant) -> None:
        queues["agent"].put_nowait(participant)

    def changed(attributes: dict, participant: rtc.Participant) -> None:
        if "lk.agent.state" in attributes:
            queues["state"].put_nowait(attributes["lk.agent.state"])

    room.register_text_stream_handler("lk.chat", keep_text)
    room.register_byte_stream_handler("files", keep_file)
    room.on("participant_connected", meet)
    room.on("participant_attributes_changed", changed)
    room.on("data_received", lambda packet: queues["data"].put_nowait(packet))
    room.on("participant_disconnected", lambda who: queues["left"].put_nowait(who.disconnect_reason))
    await room.connect(url, token)
    me = room.local_participant

    @me.register_rpc_method("greet")
    async def greet(call: rtc.RpcInvocationData) -> str:
        queues["greet"].put_nowait((call.caller_identity, call.payload))
        return "well met"

    for participant in room.remote_participants.values():
        meet(participant)
    agent = await queues["agent"].get()
    tell("agent", identity=agent.identity, kind=agent.kind, attributes=dict(agent.attributes))

    info = await me.send_text("hello", topic="lk.chat")
    identity, text, answer = await queues["text"].get()
    reply_to = answer.attributes.get("reply-to") or getattr(answer, "reply_to_stream_id", None)
    tell("text", sender=identity, text=text, answers=reply_to in (None, info.stream_id))
    await me.send_text(LARGE, topic="lk.chat")
    _, text, _ = await queues["text"].get()
    tell("large", bytes=len(text.encode()), same=text == "echo " + LARGE)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "all.bin")
        with open(path, "wb") as file:
            file.write(FILE)
        await me.send_file(path, topic="files")
    name, content = await queues["file"].get()
    tell("file", name=name, bytes=len(content), same=content == FILE)
    await me.publish_data(b"sure", reliable=True, topic="t")
    packet = await queues["data"].get()
    tell("data", payload=packet.data.decode(), topic=packet.topic, sender=packet.participant.identity)
    await me.publish_data(b"maybe", reliable=False, topic="t")
    packet = await queues["data"].get()
    tell("lossy", payload=packet.data.decode(), reliable=packet.kind == rtc.DataPacketKind.KIND_RELIABLE)
    tell("rpc", answer=await me.perform_rpc(destination_identity=agent.identity, method="echo", payload="ping"))
    try:
        await me.perform_rpc(destination_identity=agent.identity, method="nothing", payload="")
    except rtc.RpcError as error:
        tell("rpc-error", code=error.code)
    await me.set_attributes({"greet": "yes"})
    caller, payload = await queues["greet"].get()
    tell("greet", caller=caller, payload=payload)
    while (state := await queues["state"].get()) != "speaking":
        pass
    tell("state", state=state)
    reason = await queues["left"].get()
    tell("left", reason=rtc.DisconnectReason.Name(reason) if reason is not None else None)
    await room.disconnect()


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), timeout=60))
