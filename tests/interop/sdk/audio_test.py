"""Sound of the Python package, against made events: PYTHONPATH=GUEST-SDK/PYTHON python audio_test.py"""

import array
import asyncio

from made_job import job_at as job, notes, noting, step_at as step
from wasm_worker import audio, steps
from wit_world.imports import events, last_id, taken, written

# What the works below have made.
made: list = []


def started(id, rule, who="ann"):
    return events.Event_AudioStarted(events.AudioStart(id, rule, events.Track("TR", who)))


def frame(id):
    return events.Event_Audio(events.AudioFrame(id, 0.0, 0, 0, b"\x01\x00\xff\xff"))


def ended(id):
    return events.Event_AudioEnded(id)


def failed(id, code):
    return events.Event_Failed(events.Failure(id, code, 0, "why"))


def playout(id, state, played_ms, at_ms):
    return events.Event_AudioPlayout(events.Playout(id, events.PlayoutState[state], played_ms, at_ms))


def marked(id, mark, cleared=False):
    return events.Event_AudioMarked(events.AudioMark(id, mark, cleared, 0.0, 0.0))


async def read(heard):
    async for event in heard:
        notes.append(list(audio.samples(event.value)) if isinstance(event, events.Event_Audio) else type(event).__name__)
    return heard.track.participant


step(0, events.Event_Started(None))


# A followed track is heard from its first frame on, also where it ends before somebody takes it.
async def listen():
    made.append(audio.follow())
    async for heard in made[-1]:
        made.append(asyncio.create_task(noting(lambda heard=heard: read(heard))))


assert job(0, listen) == (["follow 1  microphone True 24000 ALL False"], [])
voice_started = events.Event_VoiceStarted(events.Voice(2, 0.0))
calls, noted = step(1, started(2, 1), frame(2), voice_started, ended(2), started(3, 1))
assert (calls, noted) == ([], [[1, -1], "Event_VoiceStarted", "ann"]), noted
calls, noted = step(2, frame(3), failed(1, "not-joined"))
assert (calls, sorted(noted, key=str)) == ([], ["CallFailed: not-joined: why", [1, -1]]), noted


# Tracks that nobody has taken are given up with their rule.
async def follow():
    made.append(audio.follow("ann", "", False, rate=8_000, frames=audio.Delivery.VOICED, detect_voice=True))


async def take():
    made.append(await anext(made[-1]))
    made[-2].close()
    made[-1].close()


assert job(3, follow) == (["follow 2 ann  False 8000 VOICED True"], [None])
assert step(4, started(4, 2), started(5, 2)) == ([], [])
assert job(5, take) == (["cancel 5", "cancel 2", "cancel 4"], [None])
# One that was on its way, too, with all that the batch has of it.
assert step(5, started(6, 2), frame(6), events.Event_VoiceStarted(events.Voice(6, 0.0)), ended(6)) == (["cancel 6"], [])


# One track by its sid.
async def subscribe():
    return await read(audio.subscribe("TR", rate=16_000))


assert job(6, subscribe) == (["subscribe 3 TR 16000 ALL False"], [])
assert step(7, started(3, 0, "bob"), frame(3), ended(3)) == ([], [[1, -1], "bob"])
assert job(8, subscribe)[0] == ["subscribe 4 TR 16000 ALL False"]
assert step(9, failed(4, "refused")) == ([], ["CallFailed: refused: why"])


# A writer is a second ahead of what is played.
async def publish():
    made.append(audio.publish(rate=8_000))


def write(sound):
    async def write():
        await made[-1].write(sound)

    return write


def seconds(count):
    return array.array("h", bytes(16_000 * count))


def state():
    return made[-1].position_ms, made[-1].queued_ms


assert job(10, publish) == (["publish 5  microphone 8000 0"], [None])
voice = made[-1]
half = "write 5 8000"
assert job(10, write(seconds(3))) == ([half] * 3, [])
assert state() == (0, 1_500)
assert step(10, playout(5, "PLAYING", 0.0, 10.0)) == ([], [])
assert step(1_010) == ([half] * 2, [])
assert state() == (1_000, 1_500)
assert step(2_010) == ([half], [None])
assert job(2_010, voice.wait_for_playout) == ([], [])
assert step(3_010, playout(5, "DRAINED", 3_000.0, 3_010.0)) == ([], [None])
assert state() == (3_000, 0)

# Clear discards what waits, and frees the writer. Bytes may be cut within a sample.
job(3_010, write(bytes(32_000)))
step(3_010, playout(5, "PLAYING", 3_000.0, 3_010.0))
voice.clear()
assert (taken(), voice.queued_ms) == (["clear 5"], 0)
assert step(3_110, playout(5, "CLEARED", 3_100.0, 3_110.0)) == ([half], [None])
assert state() == (3_100, 500)


async def cut():
    for part in (b"\1", b"\2\3\4", b"", b"\5", b"\6\7"):
        await voice.write(part)
    # What is cleared, or followed by whole samples, is not completed.
    voice.clear()
    for part in (b"\x08\x09\x0a", array.array("h", [11]), b"\x0c\x0d"):
        await voice.write(part)


assert job(3_110, cut) == (["write 5 4", "write 5 2", "clear 5"] + ["write 5 2"] * 3, [None])
assert written()[-5:] == [b"\1\2\3\4", b"\5\6", b"\x08\x09", b"\x0b\0", b"\x0c\x0d"]
step(3_120, playout(5, "CLEARED", 3_100.0, 3_120.0), playout(5, "DRAINED", 3_100.375, 3_121.0))


# The sum of 120 of these parts is a little more than a second, by the rounding of floats: the writer waits for no time that is over.
async def fine():
    made.append(audio.publish(rate=12_000))
    for _ in range(121):
        await made[-1].write(bytes(200))


job(3_999, fine)
step(4_000, playout(6, "PLAYING", 0.0, 4_000.0))
assert step(4_500) == ([], []) and step(4_501) == (["write 6 200"], [None])


async def leave():
    async with made[-1]:
        raise ValueError("left")


assert job(4_502, leave) == (["cancel 6"], ["ValueError: left"])
assert job(4_503, write(b"\1\2")) == ([], ["AudioEnded: the track has ended"])


# Marks, in their order, also before the end; the first listener; many small writes in several steps.
async def mark():
    mark = await voice.next_mark()
    return mark and mark.mark


voice.mark(7)
assert taken() == ["mark 5 7"]
job(4_600, mark, mark)
assert step(4_601, marked(5, 7)) == ([], [7])
assert step(4_602, marked(5, 8, True), marked(5, 9)) == ([], [8])
assert job(4_603, mark, voice.wait_for_subscription) == ([], [9])
assert step(4_604, events.Event_AudioSubscribed(5)) == ([], [None])


async def many():
    for _ in range(1_500):
        await voice.write(b"\0\0")


calls, _ = job(4_605, many)
assert len(calls) == 1_000
calls, noted = step(4_607)
assert (len(calls), noted) == (500, [None])
voice.hold(True)
voice.mute(True)
assert taken() == ["hold 5 True", "mute 5 True"]


# Somebody who gives up waiting takes nothing from the others.
async def hasty():
    async with asyncio.timeout(0.005):
        await voice.next_mark()


job(4_610, hasty, mark)
assert step(4_620) == ([], ["TimeoutError: "])
assert step(4_621, marked(5, 10)) == ([], [10])

# Its end.
assert job(4_700, voice.close) == (["close 5"], [])
assert step(4_701, marked(5, 1), events.Event_Done(events.Completion(5, ""))) == ([], [None])
assert job(4_702, mark, mark) == ([], [1, None])
# Of many rules that are over only the last ones are known.
async def many_rules():
    for _ in range(100):
        audio.follow().close()


first = last_id() + 1
job(4_702, many_rules)
assert step(4_702, started(700, last_id()), started(701, last_id() - 60)) == (["cancel 700", "cancel 701"], [])
assert first not in steps._rules
job(4_703, publish)
assert job(4_704, made[-1].wait_for_subscription) == ([], [])
assert step(4_705, failed(last_id(), "not-joined")) == ([], ["CallFailed: not-joined: why"])
assert job(4_706, made[-1].close) == ([], ["CallFailed: not-joined: why"])

print("done")
