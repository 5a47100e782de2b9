"""The talker in Python: see tests/interop/README.md for what it does.

VIRTUAL_ENV=venv componentize-py -d WIT -w agent componentize -p . -p guest-sdk/python app -o agent.wasm
"""

import array
import asyncio
import json
import random

import httpx
from wasm_worker import audio, http, socket, steps
from wit_world import WitWorld as Agent
from wit_world.imports import events, job, room, types, usage

TOPIC = "lk.chat"
# Between two parts of an answer, and before a greeting.
PACE = 0.01
PATIENCE = 2.0
# A text that has the agent repeat a sound, and so much of it: 300 ms.
REPEAT = "repeat"
RATE, REPEATED = 8_000, 2_400
# How a text begins that the model answers, one that has a WebSocket talk, and one that sends a form.
ASK = "ask "
SOCKET = "socket "
UPLOAD = "upload "

checksums: list[int] = []


class WitWorld(Agent):
    def prewarm(self):
        for value in range(256):
            for _ in range(8):
                value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
            checksums.append(value)

    def decide(self, offer: types.JobInfo) -> types.Decision:
        if offer.metadata == "fail":
            raise RuntimeError("a bug in decide")
        return types.Decision_Accept(types.Acceptance(None, "Talker", "", [("language", "python")]))

    def resume(self, now_ms: float, batch: list[events.Event]):
        steps.resume(main, now_ms, batch)


async def main(info: types.JobInfo):
    job.set_log_fields([("language", "python")])
    await steps.done(room.connect())
    talker = Talker(dict(info.attributes))
    while True:
        match await steps.next_event():
            case events.Event_ParticipantJoined(who) if who.kind == types.ParticipantKind.STANDARD:
                talker.spawn(greet(who), f"greet {who.identity}")
            case events.Event_Text(message):
                if not await talker.hear(message):
                    break
            case events.Event_ShutdownRequested():
                break
    await talker.interrupt()
    send("Goodbye.")


async def greet(who: types.Participant):
    await asyncio.sleep(PACE)
    checksum = 0xFFFFFFFF
    for byte in who.identity.encode():
        checksum = checksum >> 8 ^ checksums[checksum & 0xFF ^ byte]
    send(f"Welcome, {who.name or who.identity} ({checksum ^ 0xFFFFFFFF:08x}).")


class Talker:
    """One conversation."""

    def __init__(self, facts: dict[str, str]):
        # The worker adds the key.
        self.models = httpx.AsyncClient(transport=http.transport(httpx), timeout=30.0)
        self.url = facts.get("@setting.OPENAI_BASE_URL", "")
        self.model = facts.get("@setting.OPENAI_MODEL", "")
        self.history: list[str] = []
        self.answer: asyncio.Task | None = None
        self.silence: asyncio.Task | None = None
        self.greetings: set[asyncio.Task] = set()

    def spawn(self, work, name: str) -> asyncio.Task:
        task = asyncio.create_task(work, name=name)
        # The loop itself does not keep tasks alive.
        self.greetings.add(task)
        task.add_done_callback(self.greetings.discard)
        return task

    async def hear(self, message: events.TextMessage) -> bool:
        """Answer a text, or do what it says. False: say goodbye."""
        await self.interrupt()
        match message.text:
            case "stop":
                send("Stopped.")
            case "history":
                send("\n".join(self.history))
            case "dice":
                send(f"dice {random.getrandbits(32)}")
            case "fail":
                raise RuntimeError("a bug in the agent")
            case "bye":
                return False
            case text:
                self.history.append(f"{message.info.sender}: {text}")
                self.answer = self.spawn(self.speak(message), "answer")
        self.silence = self.spawn(ask_for_more(), "silence")
        return True

    async def speak(self, message: events.TextMessage):
        """Answer in parts, until interrupted."""
        stream = room.open_text(TOPIC, options(message.info.stream_id))
        said, end = "", []
        parts = self.parts(message.text)
        try:
            async for part in parts:
                room.write_text(stream, part)
                said += part
        except asyncio.CancelledError:
            end = [("interrupted", "true")]
            raise
        finally:
            # The request of an answer that is interrupted is given up.
            await parts.aclose()
            room.close_stream(stream, end)
            self.history.append(f"agent: {said}{' (interrupted)' if end else ''}")

    def parts(self, text: str):
        if text.startswith(ASK):
            return self.ask(text.removeprefix(ASK))
        if text.startswith(SOCKET):
            return converse(text.removeprefix(SOCKET))
        if text.startswith(UPLOAD):
            return self.upload(text.removeprefix(UPLOAD))
        if text == REPEAT:
            return repeat()
        return echo(text)

    async def ask(self, question: str):
        """The answer of the model, as it streams."""
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            async with self.models.stream("POST", f"{self.url}/chat/completions", json=asked) as answer:
                if answer.is_error:
                    await answer.aread()
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or data == "[DONE]":
                        continue
                    part = json.loads(data)
                    if "error" in part:
                        raise httpx.RemoteProtocolError(part["error"]["message"])
                    for choice in part["choices"]:
                        if choice["delta"].get("content"):
                            yield choice["delta"]["content"]
                    if part.get("usage"):
                        count("openai", self.model, [("output_tokens", float(part["usage"]["completion_tokens"]))])
        except httpx.HTTPError as error:
            yield f"The model fails: {error}"

    async def upload(self, url: str):
        """What a server says of a form with a text and a file."""
        file = ("n.txt", "hé\0".encode(), "text/plain")
        answer = await self.models.post(url, data={"text": "one"}, files={"file": file})
        yield f"{answer.status_code} {answer.text}"

    async def interrupt(self):
        """End the answer and the wait for more to hear."""
        tasks = [task for task in (self.answer, self.silence) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.answer = self.silence = None


async def echo(text: str):
    """What was said, word by word."""
    letters = 0
    try:
        for part in ["You", " said:", *(f" {word}" for word in text.split(" ")), "."]:
            letters += len(part)
            yield part
            await asyncio.sleep(PACE)
    finally:
        count("none", "echo", [("letters", float(letters))])


async def converse(url: str):
    """What was heard on a WebSocket, up to its end."""
    try:
        async with socket.connect(url, additional_headers={"x-talker": "yes"}, subprotocols=["talk"]) as ws:
            yield ws.subprotocol
            await ws.send("hello")
            await ws.send(bytes([0, 1, 255]))
            async for message in ws:
                yield ", " + (message if isinstance(message, str) else " ".join(map(str, message)))
                if message == "close":
                    await ws.close(3000, "done")
    except socket.ConnectionClosed as closed:
        yield f", {closed.code} {closed.reason}"
    except steps.CallFailed as failed:
        yield f"The socket fails: {failed}"


async def repeat():
    """Say a part of what the first one says who is heard, and tell when it has been played."""
    tracks = audio.follow(rate=RATE)
    heard = await anext(tracks)
    tracks.close()
    samples = array.array("h")
    async for event in heard:
        if isinstance(event, events.Event_Audio):
            samples.extend(audio.samples(event.value))
        if len(samples) >= REPEATED:
            break
    heard.close()
    async with audio.publish(rate=RATE) as voice:
        await voice.write(samples[:REPEATED])
        voice.mark(7)
        mark = await voice.next_mark()
        yield f"mark {mark.mark}: {mark.played_ms:.0f} ms of {heard.track.participant}"


async def ask_for_more():
    await asyncio.sleep(PATIENCE)
    send("Anything else?")


def count(provider: str, model: str, counters: list[tuple[str, float]]):
    usage.add(usage.ModelUsage("llm", provider, model, counters))


def send(text: str):
    room.send_text(TOPIC, text, options())


def options(reply_to: str = "") -> types.SendOptions:
    return types.SendOptions([], [], "", "", reply_to, False)
