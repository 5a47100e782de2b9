"""A worker of livekit-agents whose jobs hear, say a tone, or repeat what they hear, as their metadata asks.

tests/guests/sound.rs does the same; tests/bench/rooms/sound.rs measures both. Its load is told as low, so that it takes every job;
the rest are defaults.
"""

import asyncio
import math
import struct

from livekit import rtc
from livekit.agents import AgentServer, AutoSubscribe, JobContext, cli

server = AgentServer(host="127.0.0.1", port=0, load_fnc=lambda: 0.1)
RATE = 24_000
FRAME = RATE // 50
HZ = 660
TURN = [round(math.sin(2 * math.pi * HZ * at / RATE) * 8_192) for at in range(RATE)]
FRAMES = [struct.pack(f"<{FRAME}h", *TURN[at : at + FRAME]) for at in range(0, RATE, FRAME)]


async def publish(ctx: JobContext) -> rtc.AudioSource:
    source = rtc.AudioSource(RATE, 1)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    await ctx.room.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("voice", source), options)
    return source


@server.rtc_session(agent_name="sound")
async def entrypoint(ctx: JobContext) -> None:
    tasks = set()

    async def hear(track: rtc.RemoteTrack) -> None:
        source = await publish(ctx) if ctx.job.metadata == "both" else None
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=50):
            if source is not None:
                await source.capture_frame(event.frame)

    def begin(track: rtc.RemoteTrack, *_: object) -> None:
        task = asyncio.ensure_future(hear(track))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if ctx.job.metadata == "out":
        await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
        source = await publish(ctx)
        while True:
            for frame in FRAMES:
                await source.capture_frame(rtc.AudioFrame(frame, RATE, 1, FRAME))
    ctx.room.on("track_subscribed", begin)
    await ctx.connect(auto_subscribe=AutoSubscribe.AUDIO_ONLY)


if __name__ == "__main__":
    cli.run_app(server)
