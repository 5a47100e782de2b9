"""Sound over the contract's interface `audio`: the tracks that the agent hears, and those on which it speaks:

    async with audio.publish(rate=16_000) as voice:
        async for heard in audio.follow(rate=16_000):
            asyncio.create_task(listen(heard, voice))

Samples are mono and have 16 bits. The names are those of the Rust SDK.
"""

import array
import asyncio
import math
from collections import deque

from wit_world.imports import audio as calls
from wit_world.imports import events, flow

from . import steps

# The rate of sound where the agent names none, in samples a second.
RATE = 24_000
# Sound that waits before a writer does, and up to which it waits then.
_MUCH_MS = 1_000.0
_LITTLE_MS = 500.0
# Writes of all tracks in one step, of 4,096 calls that it may make.
_CALLS_MAX = 1_000

# The step of the last write, and the writes in it.
_written = (0, 0)

Delivery = calls.Delivery


def subscribe(track_sid: str, **options) -> "AudioStream":
    """Hear one track of the room, by its `sid`: see the event TrackPublished."""
    return AudioStream(steps.Channel(calls.subscribe(track_sid, _subscription(**options))))


def follow(participant: str = "", source: str = "microphone", people: bool = True, **options) -> "AudioTracks":
    """Hear each track that fits, those that are there and those that come: by default the microphones of people."""
    rule = calls.Rule(participant, source, people)
    return AudioTracks(steps.channel_of_rule(calls.follow(rule, _subscription(**options))))


def publish(*, name: str = "", source: str = "microphone", rate: int = RATE, bits_per_second: int = 0) -> "AudioSource":
    """Publish a track of the agent. Leaving the `async with` closes it; an exception, or cancelling the task, ends it at once."""
    return AudioSource(calls.publish(calls.Publication(name, source, rate, bits_per_second)), rate)


def samples(frame: events.AudioFrame) -> array.array:
    """The samples of an event Audio."""
    return array.array("h", frame.pcm[: len(frame.pcm) & ~1])


def _subscription(
    rate: int = RATE,
    frame_ms: int = 0,
    frames: Delivery = Delivery.ALL,
    before_ms: int = 0,
    after_ms: int = 0,
    detect_voice: bool = False,
    threshold: float = 0.0,
    min_voice_ms: int = 0,
    min_silence_ms: int = 0,
    level_ms: int = 0,
) -> calls.Subscription:
    """All sound in frames of the host's length, 50 ms, without voice and levels, where the agent says nothing else."""
    voice = (detect_voice, threshold, min_voice_ms, min_silence_ms)
    return calls.Subscription(rate, frame_ms, frames, before_ms, after_ms, *voice, level_ms)


class AudioTracks:
    """The tracks that a rule follows. `close` ends the rule; tracks that were taken from it go on."""

    def __init__(self, channel: steps.Channel):
        self._channel = channel

    def __aiter__(self):
        return self

    async def __anext__(self) -> "AudioStream":
        """The next track. Without a room, or once it is lost, CallFailed."""
        event, channel = await self._channel.next()
        return AudioStream(channel, event.value.track)

    def close(self) -> None:
        """End the rule. Tracks that nobody has taken are not heard."""
        try:
            while (started := self._channel.try_next()) is not None:
                started[1].close()
        except steps.CallFailed:
            pass
        self._channel.close()


class AudioStream:
    """A track that the agent hears. While the agent does not read, some seconds of sound wait; then the oldest is dropped."""

    def __init__(self, channel: steps.Channel, track: events.Track | None = None):
        self._channel = channel
        self._is_over = False
        # Its facts; None before the first event, after `subscribe`.
        self.track = track

    def __aiter__(self):
        return self

    async def __anext__(self) -> events.Event:
        """What is heard next: the contract's event Audio, AudioLevel, VoiceStarted or VoiceEnded."""
        while not self._is_over:
            event = await self._channel.next()
            if isinstance(event, events.Event_AudioStarted):
                self.track = event.value.track
            elif isinstance(event, events.Event_AudioEnded):
                self._is_over = True
            else:
                return event
        raise StopAsyncIteration

    def close(self) -> None:
        """Hear the track no more."""
        self._channel.close()


class AudioEnded(Exception):
    """The track of the agent has ended: it was closed or given up."""


class AudioSource:
    """A track of the agent. One task can write while another one clears."""

    def __init__(self, id: int, rate: int):
        # The agent asks for each of its events, and holding them back would pause the sound.
        self._channel = steps.Channel(id, math.inf)
        self._id = id
        self._rate = rate
        # Sound that was written, without what was cleared.
        self._written_ms = 0.0
        self._since_clear_ms = 0.0
        # Clears that the host has not confirmed.
        self._clearing = 0
        # The position that the host has told, and its time; and whether sound goes out since then.
        self._played_ms = 0.0
        self._at_ms = 0.0
        self._is_playing = False
        self._is_subscribed = False
        # The first byte of a sample whose second one is still to come.
        self._half = b""
        self._marks: deque[events.AudioMark] = deque()
        self._is_over = False
        self._error: Exception | None = None
        # Done at the next event.
        self._change = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(), name="sound")

    async def __aenter__(self):
        return self

    async def __aexit__(self, error_type, error, traceback) -> None:
        if error_type is not None:
            self.abort()
            return
        try:
            await self.close()
        except asyncio.CancelledError:
            self.abort()
            raise

    @property
    def rate(self) -> int:
        """Samples a second of what is written."""
        return self._rate

    @property
    def position_ms(self) -> float:
        """What has been played of all that was written; what was cleared does not count."""
        since = max(0.0, steps.now_ms() - self._at_ms) if self._is_playing else 0.0
        return min(self._played_ms + since, max(self._written_ms, self._played_ms))

    @property
    def queued_ms(self) -> float:
        """Sound that waits to be played."""
        return self._since_clear_ms if self._clearing else max(0.0, self._written_ms - self.position_ms)

    async def wait_for_subscription(self) -> None:
        """Wait until somebody hears the track: what is said before is heard by nobody."""
        await self._until(lambda: self._is_subscribed)

    async def write(self, sound: bytes | bytearray | memoryview | array.array) -> None:
        """Play little-endian samples after all that was written before: bytes, or an array of type `h`. Bytes may be cut within a
        sample: the next call has the other half, unless it has an array. Waits first while more than a second of sound waits to be
        played."""
        pcm = sound.tobytes() if isinstance(sound, array.array) else bytes(sound)
        part = max(1, self._rate // 2) * 2
        for at in range(0, len(pcm), part):
            await self._room()
            if isinstance(sound, array.array) and sound.typecode == "h":
                self._half = b""
            self._put(pcm[at : at + part])

    def clear(self) -> None:
        """Discard what has not been played, at once: the user interrupts."""
        if not self._is_over:
            calls.clear(self._id)
            self._clearing += 1
            self._since_clear_ms = 0.0
            self._half = b""

    def mark(self, number: int) -> None:
        """Set a mark behind everything written so far: `next_mark` tells when that has been played."""
        calls.mark(self._id, number)

    async def next_mark(self) -> events.AudioMark | None:
        """The next mark that was played, or `cleared` with the sound before it; None once the track is over."""
        while not self._marks and not self._is_over:
            await self._next_change()
        return self._marks.popleft() if self._marks else None

    async def wait_for_playout(self) -> None:
        """Wait until everything written has been played or cleared."""
        # The host counts samples: half of a millisecond is no sound.
        await self._until(lambda: not self._clearing and not self._is_playing and self._written_ms - self._played_ms < 0.5)

    def hold(self, held: bool) -> None:
        """Pause the playout, or continue it."""
        flow.hold(self._id, held)

    def mute(self, muted: bool) -> None:
        """Mute or unmute the track. The playout goes on."""
        calls.mute(self._id, muted)

    async def close(self) -> None:
        """End the track when everything written has been played, and wait for that."""
        if not self._is_over:
            calls.close(self._id)
        while not self._is_over:
            await self._next_change()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """End the track at once."""
        self._is_over = True
        self._running.cancel()
        self._channel.close()
        self._wake()

    def _put(self, pcm: bytes) -> None:
        global _written
        pcm = self._half + pcm
        whole = len(pcm) & ~1
        pcm, self._half = pcm[:whole], pcm[whole:]
        if not pcm:
            return
        number, writes = steps.number(), _written[1]
        _written = (number, writes + 1 if _written[0] == number else 1)
        calls.write(self._id, pcm)
        millis = len(pcm) / 2 * 1_000 / self._rate
        self._written_ms += millis
        self._since_clear_ms += millis

    async def _room(self) -> None:
        """Wait until little sound waits, where much does; and for the next step, where this one has many calls."""
        limit = _MUCH_MS
        while True:
            self._raise_if_over()
            if (waiting := self.queued_ms) <= limit:
                if _written < (steps.number(), _CALLS_MAX):
                    return
                await asyncio.sleep(0.001)
                continue
            limit = _LITTLE_MS
            # The clock tells it while sound goes out, and an event when that begins. Whole milliseconds, so that something is waited for.
            await self._next_change(math.ceil(waiting - _LITTLE_MS) if self._is_playing else None)

    async def _until(self, is_so) -> None:
        while True:
            self._raise_if_over()
            if is_so():
                return
            await self._next_change()

    def _raise_if_over(self) -> None:
        if self._is_over:
            raise self._error or AudioEnded("the track has ended")

    async def _next_change(self, millis: float | None = None) -> None:
        """Wait for the next event, at most for so long. Who is cancelled takes nothing from the others."""
        await asyncio.wait([self._change], timeout=None if millis is None else millis / 1_000)

    async def _run(self) -> None:
        """Take in what the host tells, up to the end."""
        try:
            while not isinstance(event := await self._channel.next(), events.Event_Done):
                self._take(event)
                self._wake()
        except steps.CallFailed as failed:
            self._error = failed
        self._is_over = True
        self._wake()

    def _take(self, event: events.Event) -> None:
        match event:
            case events.Event_AudioSubscribed():
                self._is_subscribed = True
            case events.Event_AudioMarked(mark):
                self._marks.append(mark)
            case events.Event_AudioPlayout(playout):
                self._played_ms, self._at_ms = playout.played_ms, playout.at_ms
                self._is_playing = playout.state == events.PlayoutState.PLAYING
                if playout.state == events.PlayoutState.CLEARED:
                    self._clearing = max(0, self._clearing - 1)
                    if not self._clearing:
                        self._written_ms = playout.played_ms + self._since_clear_ms

    def _wake(self) -> None:
        change, self._change = self._change, asyncio.get_running_loop().create_future()
        change.set_result(None)
