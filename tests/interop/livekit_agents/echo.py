"""A worker of livekit-agents whose jobs join their rooms and echo each text on `lk.chat`; tests/bench/rooms.rs measures it.

Its load is told as low, so that it takes every job; the rest are defaults.
"""

import asyncio

from livekit import rtc
from livekit.agents import AgentServer, JobContext, cli

server = AgentServer(host="127.0.0.1", port=0, load_fnc=lambda: 0.1)
TOPIC = "lk.chat"


@server.rtc_session(agent_name="echo")
async def entrypoint(ctx: JobContext) -> None:
    tasks = set()

    async def answer(reader: rtc.TextStreamReader) -> None:
        text = await reader.read_all()
        await ctx.room.local_participant.send_text(f"echo {text}", topic=TOPIC)

    def begin(reader: rtc.TextStreamReader, identity: str) -> None:
        task = asyncio.ensure_future(answer(reader))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    ctx.room.register_text_stream_handler(TOPIC, begin)
    await ctx.connect()
    await ctx.room.local_participant.set_attributes({"lk.agent.state": "listening"})


if __name__ == "__main__":
    cli.run_app(server)
