"""Sound that a person by PyPI's livekit speaks and hears. README.md in the directory above says what is told."""

import asyncio
import time
import wave

import numpy
from livekit import rtc

RATE = 48_000
FRAME = RATE // 100
# In which the power of a tone is compared with that of everything.
WINDOW = RATE // 10
# Below it, of the full scale, nothing is heard.
SILENCE = 0.01


class Voice:
    """The track that the person speaks on."""

    def __init__(self, room: rtc.Room) -> None:
        self.room = room
        self.source = None
        self.track_sid = None

    async def speak(self, order: dict) -> None:
        if self.source is None:
            self.source = rtc.AudioSource(RATE, 1)
            track = rtc.LocalAudioTrack.create_audio_track("voice", self.source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
            self.track_sid = (await self.room.local_participant.publish_track(track, options)).sid
        source = self.source
        samples = read(order["wav"]) if "wav" in order else tone(order["hz"], order["ms"])
        for at in range(0, len(samples), FRAME):
            if self.source is not source:
                return
            frame = samples[at : at + FRAME].tobytes()
            await source.capture_frame(rtc.AudioFrame(frame, RATE, 1, len(frame) // 2))
        await source.wait_for_playout()

    async def unpublish(self) -> None:
        """End the track. The next order to speak publishes another one."""
        self.source = None
        await self.room.local_participant.unpublish_track(self.track_sid)


async def hear(room: rtc.Room, order: dict) -> dict:
    """What is heard of a participant from now on, for so many milliseconds by the clock of this process."""
    stream = rtc.AudioStream(await track_of(room, order["who"]), sample_rate=RATE, num_channels=1)
    parts, loud = [], []
    until = time.time() + order["ms"] / 1_000
    while (left := until - time.time()) > 0:
        try:
            event = await asyncio.wait_for(anext(stream), left)
        except (TimeoutError, StopAsyncIteration):
            break
        samples = numpy.frombuffer(event.frame.data, dtype=numpy.int16)
        parts.append(samples)
        if numpy.sqrt(numpy.mean((samples / 32_768) ** 2)) >= SILENCE:
            loud.append((time.time() * 1_000, len(samples) * 1_000 / RATE))
    await stream.aclose()
    samples = numpy.concatenate(parts) if parts else numpy.zeros(0, dtype=numpy.int16)
    if "wav" in order:
        write(order["wav"], samples)
    return {
        "who": order["who"],
        "ms": len(samples) * 1_000 / RATE,
        "share": share(samples, order["hz"]) if "hz" in order else None,
        "loud_ms": sum(length for _, length in loud),
        "first_loud_at": loud[0][0] if loud else None,
        "last_loud_at": loud[-1][0] if loud else None,
    }


async def track_of(room: rtc.Room, who: str) -> rtc.RemoteAudioTrack:
    """The track of sound of a participant, when there is one."""
    while True:
        participant = room.remote_participants.get(who)
        for publication in list(participant.track_publications.values()) if participant else []:
            if isinstance(publication.track, rtc.RemoteAudioTrack):
                return publication.track
        await asyncio.sleep(0.01)


def tone(hz: float, ms: float) -> numpy.ndarray:
    times = numpy.arange(int(RATE * ms / 1_000)) / RATE
    return (numpy.sin(2 * numpy.pi * hz * times) * 8_192).astype(numpy.int16)


def share(samples: numpy.ndarray, hz: float) -> float:
    """The part of the power that is at this frequency."""
    count = len(samples) // WINDOW
    windows = samples[: count * WINDOW].reshape(count, WINDOW) / 32_768
    angles = 2 * numpy.pi * hz * numpy.arange(WINDOW) / RATE
    power = 2 / WINDOW * ((windows @ numpy.sin(angles)) ** 2 + (windows @ numpy.cos(angles)) ** 2)
    return float(power.sum() / max((windows**2).sum(), 1e-9))


def read(path: str) -> numpy.ndarray:
    with wave.open(path) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2), path
        return numpy.frombuffer(file.readframes(file.getnframes()), dtype=numpy.int16)


def write(path: str, samples: numpy.ndarray) -> None:
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
