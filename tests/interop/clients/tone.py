"""A person in a room by PyPI's livekit, who says a tone and tells once a second what is heard. README.md in the directory above.

    tone.py URL TOKEN HZ
"""

import array
import asyncio
import json
import math
import sys

from livekit import rtc

RATE = 48_000
FRAME = RATE // 100
LISTENS_FOR = [440, 660]


async def say(source: rtc.AudioSource, hz: float) -> None:
    at = 0
    while True:
        samples = (int(16_000 * math.sin(2 * math.pi * hz * (at + i) / RATE)) for i in range(FRAME))
        at += FRAME
        await source.capture_frame(rtc.AudioFrame(array.array("h", samples).tobytes(), RATE, 1, FRAME))


def share_at(hz: float, samples: list) -> float:
    """The part of the power at a frequency, by windows of 200 ms."""
    at_hz = total = 0.0
    length = RATE // 5
    wave = [2 * math.pi * hz * i / RATE for i in range(length)]
    for begin in range(0, len(samples) - length + 1, length):
        window = samples[begin : begin + length]
        sin = sum(sample * math.sin(phase) for sample, phase in zip(window, wave))
        cos = sum(sample * math.cos(phase) for sample, phase in zip(window, wave))
        at_hz += (sin * sin + cos * cos) * 2 / length
        total += sum(sample * sample for sample in window)
    return at_hz / total if total else 0.0


async def hear(track: rtc.Track) -> None:
    samples = []
    async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
        samples.extend(event.frame.data)
        if len(samples) >= RATE:
            print(json.dumps({str(hz): share_at(hz, samples) for hz in LISTENS_FOR}), flush=True)
            samples.clear()


async def main(url: str, token: str, hz: str) -> None:
    room, tasks = rtc.Room(), []
    room.on("track_subscribed", lambda track, publication, who: tasks.append(asyncio.ensure_future(hear(track))))
    await room.connect(url, token)
    source = rtc.AudioSource(RATE, 1)
    await room.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("voice", source))
    await say(source, float(hz))


asyncio.run(main(*sys.argv[1:]))
