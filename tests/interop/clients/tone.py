"""A person in a room by PyPI's livekit, who says a tone and tells once a second what is heard. README.md in the directory above.

    tone.py URL TOKEN HZ
"""

import asyncio
import json
import sys

import numpy
from livekit import rtc

from sound import FRAME, RATE, share, tone

LISTENS_FOR = [440, 660]


async def say(source: rtc.AudioSource, hz: float) -> None:
    # A second has a whole number of turns.
    second = tone(hz, 1_000)
    while True:
        for at in range(0, RATE, FRAME):
            await source.capture_frame(rtc.AudioFrame(second[at : at + FRAME].tobytes(), RATE, 1, FRAME))


async def hear(track: rtc.Track) -> None:
    parts = []
    async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
        parts.append(numpy.frombuffer(event.frame.data, dtype=numpy.int16))
        if sum(map(len, parts)) >= RATE:
            samples = numpy.concatenate(parts)
            print(json.dumps({str(hz): share(samples, hz) for hz in LISTENS_FOR}), flush=True)
            parts.clear()


async def main(url: str, token: str, hz: str) -> None:
    room, tasks = rtc.Room(), []
    room.on("track_subscribed", lambda track, publication, who: tasks.append(asyncio.ensure_future(hear(track))))
    await room.connect(url, token)
    source = rtc.AudioSource(RATE, 1)
    await room.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("voice", source))
    await say(source, float(hz))


asyncio.run(main(*sys.argv[1:]))
